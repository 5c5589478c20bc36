//! Command-line flags: Prometheus's names and defaults, except where a comment says otherwise.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgMatches, Args, CommandFactory, Parser, Subcommand, ValueEnum};
use model::{DurationError, MatchOp, Matcher, MatcherError, parse_duration};

use crate::features::FeatureFlags;
use crate::hpa::HpaFlags;
use crate::hpa_controller::HpaControllerFlags;
use crate::kubernetes::KubernetesFlags;
use crate::metrics_server::MetricsServerFlags;
use crate::storage_flags::StorageFlags;
use crate::top::TopFlags;
use crate::tsdb_tool::TsdbFlags;

/// Where everything listens unless told otherwise: loopback, since nothing asks who is calling yet.
const LISTEN_DEFAULT: &str = "127.0.0.1:9090";

const ABOUT: &str = "Observes this machine, stores what it saw, answers PromQL.";

const LONG_ABOUT: &str = "\
Observes this machine, stores what it saw, answers PromQL.

Without a subcommand sextant collects this machine (node and cgroup metrics) every 5 seconds into \
./data and serves the Prometheus HTTP API on http://127.0.0.1:9090. `sextant server` takes the place of \
`prometheus`: it scrapes the targets of a prometheus.yml and keeps the samples in Prometheus's own \
formats, so that it can start on an existing data directory and Prometheus can start on its.
With --kubernetes it also serves the metrics APIs of the cluster that a kubeconfig names and decides for its autoscalers, without \
carrying it out unless --hpa.mode=active: for a single host and for trying out; in a cluster `sextant metrics-server` and \
`sextant hpa-controller` are processes of their own.";

const EXAMPLES: &str = "\
Examples:
  sextant
      Collect this machine. Twenty seconds later:
      curl -s http://127.0.0.1:9090/api/v1/query \\
        --data-urlencode 'query=sum by (mode) (rate(node_cpu_seconds_total[15s]))'

  sextant server --config.file=prometheus.yml --storage.tsdb.path=/var/lib/prometheus
      Run on the configuration and data of a Prometheus.

Signals: SIGTERM and Ctrl-C stop within 30 s, SIGHUP reads the configuration again.
Every flag can be given by an environment variable: SEXTANT_ and its name in capitals with
underscores (--web.listen-address is SEXTANT_WEB_LISTEN_ADDRESS).";

/// What the command line says.
#[derive(Debug, Parser)]
#[command(
    name = "sextant",
    version = telemetry::VERSION,
    about = ABOUT,
    long_about = LONG_ABOUT,
    after_long_help = EXAMPLES,
    args_conflicts_with_subcommands = true,
    max_term_width = 110
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) here: AllInOneFlags,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Scrape the targets of a prometheus.yml and answer queries: what `prometheus` does
    #[command(after_long_help = EXAMPLES, max_term_width = 110)]
    Server(Box<ServerFlags>),
    /// Serve the metrics APIs of Kubernetes: what `metrics-server` does
    #[command(version = telemetry::VERSION, max_term_width = 110)]
    MetricsServer(Box<MetricsServerFlags>),
    /// Show what nodes and pods use: what `kubectl top` does
    #[command(max_term_width = 110)]
    Top(TopFlags),
    /// Scale workloads: what the HPA controller of `kube-controller-manager` does
    #[command(version = telemetry::VERSION, max_term_width = 110)]
    HpaController(Box<HpaControllerFlags>),
    /// Look into decisions of autoscalers, made and to be made
    #[command(max_term_width = 110)]
    Hpa(HpaFlags),
    /// Look into a data directory, or write blocks into one
    #[command(max_term_width = 110)]
    Tsdb(TsdbFlags),
}

/// `sextant`
#[derive(Debug, Args)]
pub(crate) struct AllInOneFlags {
    /// Scrape what this prometheus.yml says instead of this machine's collectors. They stay available
    /// as targets on /metrics/node and /metrics/cadvisor
    #[arg(long = "config.file", value_name = "FILE", env = "SEXTANT_CONFIG_FILE")]
    pub(crate) config_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) kubernetes: KubernetesFlags,
    #[command(flatten)]
    pub(crate) daemon: DaemonFlags,
}

/// `sextant server`
#[derive(Debug, Args)]
pub(crate) struct ServerFlags {
    /// Prometheus configuration file
    #[arg(
        long = "config.file",
        value_name = "FILE",
        default_value = "prometheus.yml",
        env = "SEXTANT_CONFIG_FILE"
    )]
    pub(crate) config_file: PathBuf,
    #[command(flatten)]
    pub(crate) daemon: DaemonFlags,
}

/// What both have.
#[derive(Debug, Args)]
pub(crate) struct DaemonFlags {
    #[command(flatten)]
    pub(crate) web: WebFlags,
    #[command(flatten)]
    pub(crate) storage: StorageFlags,
    #[command(flatten)]
    pub(crate) query: QueryFlags,
    #[command(flatten)]
    pub(crate) features: FeatureFlags,
    #[command(flatten)]
    pub(crate) log: LogFlags,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Web")]
pub(crate) struct WebFlags {
    /// Address for the UI, the API and telemetry. Prometheus's own default is 0.0.0.0:9090; ours is
    /// loopback, because nothing authenticates callers
    #[arg(
        long = "web.listen-address",
        value_name = "HOST:PORT",
        default_value = LISTEN_DEFAULT,
        env = "SEXTANT_WEB_LISTEN_ADDRESS"
    )]
    pub(crate) listen_address: String,
    /// Connections served at the same time; further ones wait
    #[arg(
        long = "web.max-connections",
        value_name = "N",
        default_value_t = 512,
        env = "SEXTANT_WEB_MAX_CONNECTIONS"
    )]
    pub(crate) max_connections: usize,
    /// Pages of other sites that may read the API, by their origin: an expression that matches all of it, as
    /// 'https?://(domain1|domain2)\.com'. Prometheus's own default is .*; ours is none of them
    #[arg(
        long = "web.cors.origin",
        value_name = "REGEX",
        value_parser = origins,
        env = "SEXTANT_WEB_CORS_ORIGIN"
    )]
    pub(crate) cors_origin: Option<Matcher>,
    /// Answer POST /-/reload and POST /-/quit
    #[arg(long = "web.enable-lifecycle", env = "SEXTANT_WEB_ENABLE_LIFECYCLE")]
    pub(crate) enable_lifecycle: bool,
    /// Answer POST /api/v1/admin/tsdb/*: deleting series and taking snapshots
    #[arg(long = "web.enable-admin-api", env = "SEXTANT_WEB_ENABLE_ADMIN_API")]
    pub(crate) enable_admin_api: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Queries")]
pub(crate) struct QueryFlags {
    /// How far back an instant selector looks for the newest sample
    #[arg(
        long = "query.lookback-delta",
        value_name = "DURATION",
        default_value = "5m",
        value_parser = positive_duration,
        env = "SEXTANT_QUERY_LOOKBACK_DELTA"
    )]
    pub(crate) lookback_delta: Duration,
    /// A query that takes longer is given up
    #[arg(
        long = "query.timeout",
        value_name = "DURATION",
        default_value = "2m",
        value_parser = positive_duration,
        env = "SEXTANT_QUERY_TIMEOUT"
    )]
    pub(crate) timeout: Duration,
    /// Queries evaluated at the same time; further ones wait
    #[arg(
        long = "query.max-concurrency",
        value_name = "N",
        default_value = "20",
        value_parser = positive_number,
        env = "SEXTANT_QUERY_MAX_CONCURRENCY"
    )]
    pub(crate) max_concurrency: usize,
    /// Threads that large queries are split over, besides the one that each query has: one fewer than this, shared by all
    /// queries. As many as the machine or control group has processors, if not given
    #[arg(
        long = "query.parallelism",
        value_name = "N",
        value_parser = positive_number,
        env = "SEXTANT_QUERY_PARALLELISM"
    )]
    pub(crate) parallelism: Option<usize>,
    /// Samples that one query may hold in memory
    #[arg(
        long = "query.max-samples",
        value_name = "N",
        default_value_t = 50_000_000,
        env = "SEXTANT_QUERY_MAX_SAMPLES"
    )]
    pub(crate) max_samples: u64,
    /// Bytes that one query may hold in memory (512MB, 2GB; powers of 1024); beyond that it fails and says what
    /// it needed. 0 for no bound but that of all queries
    #[arg(
        long = "query.max-bytes",
        value_name = "SIZE",
        default_value = "2GB",
        value_parser = size,
        env = "SEXTANT_QUERY_MAX_BYTES"
    )]
    pub(crate) max_bytes: u64,
    /// Bytes that all queries together may hold in memory. 8GB, or half of the memory of the machine or
    /// control group if that is less, if not given. 0 for no bound
    #[arg(
        long = "query.max-total-bytes",
        value_name = "SIZE",
        value_parser = size,
        env = "SEXTANT_QUERY_MAX_TOTAL_BYTES"
    )]
    pub(crate) max_total_bytes: Option<u64>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Logs")]
pub(crate) struct LogFlags {
    /// Only messages of this severity or above
    #[arg(
        long = "log.level",
        value_name = "LEVEL",
        value_enum,
        default_value_t = LogLevel::Info,
        env = "SEXTANT_LOG_LEVEL"
    )]
    pub(crate) level: LogLevel,
    /// Layout of log lines; text on a terminal, JSON otherwise, unless given
    #[arg(long = "log.format", value_name = "FORMAT", value_enum, env = "SEXTANT_LOG_FORMAT")]
    pub(crate) format: Option<LogFormat>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// One line for people
    #[value(alias = "logfmt")]
    Text,
    /// One JSON object a line
    Json,
}

pub(crate) fn positive_duration(text: &str) -> Result<Duration, DurationOutOfRange> {
    match parse_duration(text)? {
        Duration::ZERO => Err(DurationOutOfRange::Zero),
        duration => Ok(duration),
    }
}

/// A whole number above 0.
fn positive_number(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(0) => Err(String::from("must be greater than 0")),
        Ok(number) => Ok(number),
        Err(error) => Err(error.to_string()),
    }
}

/// The origins that an expression matches.
fn origins(text: &str) -> Result<Matcher, MatcherError> {
    Matcher::new("origin", MatchOp::Regex, text)
}

/// A number of bytes.
pub(crate) fn size(text: &str) -> Result<u64, BadSize> {
    config::parse_size(text).ok_or(BadSize)
}

/// A value that is no size.
#[derive(Debug, thiserror::Error)]
#[error("a size has a unit: 512MB, 20GB")]
pub(crate) struct BadSize;

#[derive(Debug, thiserror::Error)]
pub(crate) enum DurationOutOfRange {
    #[error(transparent)]
    Malformed(#[from] DurationError),
    #[error("must be greater than 0")]
    Zero,
}

/// Every flag of `subcommand` ("" for none) with its value, by name, for the status page. Hidden ones are left out unless they are
/// given, and `no-x` shows as `x`.
pub(crate) fn values(subcommand: &str, matches: &ArgMatches) -> Vec<(String, String)> {
    let cli = Cli::command();
    let command = cli.find_subcommand(subcommand).unwrap_or(&cli);
    let mut flags: Vec<_> = command
        .get_arguments()
        .filter_map(|arg| {
            let name = arg.get_long()?;
            let raw = matches.try_get_raw(arg.get_id().as_str()).ok().flatten();
            if raw.is_none() && arg.is_hide_set() {
                return None;
            }
            let values: Vec<_> = raw.into_iter().flatten().map(|v| v.to_string_lossy()).collect();
            Some((String::from(name), values.join(",")))
        })
        .filter(|(name, _)| name != "help" && name != "version")
        .collect();
    let negations = flags.extract_if(.., |(name, _)| name.starts_with("no-"));
    let negated: Vec<_> = negations.filter(|(_, value)| value == "true").collect();
    for (name, value) in &mut flags {
        if negated.iter().any(|(negation, _)| negation.strip_prefix("no-") == Some(name)) {
            *value = String::from("false");
        }
    }
    flags.sort();
    flags
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches;

    use super::*;

    fn parse(args: &[&str]) -> Result<Cli, clap::Error> {
        let matches = Cli::command().try_get_matches_from(args)?;
        Cli::from_arg_matches(&matches)
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn defaults_are_prometheus_s_but_for_the_address() {
        let Some(Command::Server(server)) = parse(&["sextant", "server"]).unwrap().command else {
            panic!("server is a subcommand");
        };
        assert_eq!(server.config_file, PathBuf::from("prometheus.yml"));
        assert_eq!(server.daemon.storage.path, PathBuf::from("data"));
        assert_eq!(server.daemon.storage.options().retention, Duration::from_secs(15 * 86_400));
        assert!(!server.daemon.web.enable_admin_api && !server.daemon.web.enable_lifecycle);
        assert_eq!(server.daemon.query.timeout, Duration::from_secs(120));
        assert_eq!(server.daemon.query.max_samples, 50_000_000);
        assert_eq!(server.daemon.query.max_concurrency, 20);
        assert_eq!(server.daemon.query.parallelism, None);
        assert_eq!(server.daemon.query.lookback_delta, Duration::from_secs(300));
        assert_eq!(server.daemon.web.listen_address, "127.0.0.1:9090");
    }

    #[test]
    fn bytes_of_queries() {
        for (flags, one, all) in [
            (&[][..], 2 << 30, None),
            (
                &["--query.max-bytes=512MB", "--query.max-total-bytes=4GiB"],
                512 << 20,
                Some(4 << 30),
            ),
            (&["--query.max-bytes=0", "--query.max-total-bytes=0B"], 0, Some(0)),
        ] {
            let cli = parse(&[&["sextant"], flags].concat()).unwrap();
            let query = cli.here.daemon.query;
            assert_eq!((query.max_bytes, query.max_total_bytes), (one, all), "{flags:?}");
        }
    }

    #[test]
    fn malformed_values_are_refused() {
        for flag in [
            "--query.timeout=0s",
            "--query.timeout=5",
            "--query.max-concurrency=0",
            "--query.parallelism=0",
            "--query.max-samples=-1",
            "--query.max-bytes=5",
            "--query.max-bytes=-1GB",
            "--query.max-total-bytes=half",
            "--web.max-connections=x",
            "--web.cors.origin=(",
        ] {
            assert!(parse(&["sextant", "server", flag]).is_err(), "{flag}");
            assert!(parse(&["sextant", flag]).is_err(), "{flag}");
        }
        assert!(parse(&["sextant", "nonsense"]).is_err());
    }

    #[test]
    fn flags_are_reported_with_their_values() {
        let no_compression = "--no-storage.tsdb.wal-compression";
        let args = ["sextant", "server", "--query.timeout=7s", no_compression];
        let matches = Cli::command().try_get_matches_from(args).unwrap();
        let values = values("server", matches.subcommand().unwrap().1);
        let value = |name: &str| values.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        assert_eq!(value("query.timeout"), Some("7s"));
        assert_eq!(value("storage.tsdb.path"), Some("data"));
        assert_eq!(value("web.enable-lifecycle"), Some("false"));
        assert_eq!(value("web.enable-admin-api"), Some("false"));
        assert_eq!(value("storage.tsdb.wal-compression"), Some("false"));
        assert_eq!(value("storage.tsdb.no-lockfile"), None);
        assert_eq!(value("storage.tsdb.wal-fsync-interval"), Some("1s"));
        assert_eq!(value("no-storage.tsdb.wal-compression"), None);
    }
}
