//! `load hpa`: many autoscalers with a resource metric, each evaluated once a period.
//!
//! Usage is told by the API server itself and moves by a few percent at each measurement, within the tolerance, as in a cluster where
//! nothing is to be done: what is measured is the controller alone. Its first round, from its start on, finds no statuses, and writes them
//! as fast as it may, which goes on for a while; the rounds after it are measured over whole periods.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;

use super::controller;
use crate::cluster::Cluster;
use crate::process::Server;

/// `load hpa`
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// Our binary
    #[arg(long, default_value = "target/release/sextant")]
    ours: String,
    /// The cluster: `cargo build --release -p tests --bin fake_cluster`
    #[arg(long, default_value = "target/release/fake_cluster")]
    cluster: String,
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    autoscalers: u32,
    /// Pods of each
    #[arg(long, default_value_t = 1)]
    pods_per: u32,
    /// Autoscalers of a namespace
    #[arg(long, default_value_t = 20)]
    per_namespace: u32,
    /// Milliseconds that the API server waits before it looks at a request
    #[arg(long, default_value_t = 1)]
    latency_ms: u32,
    /// Seconds from one evaluation of an autoscaler to the next
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..))]
    period: u64,
    /// Periods that are measured after the first round
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    periods: u32,
    /// More flags for the controller
    #[arg(last = true)]
    more: Vec<String>,
}

const EVALUATIONS: &str = "horizontal_pod_autoscaler_controller_reconciliations_total";
const STATUSES: &str = "sextant_hpa_status_writes_total";

/// How long the first round may take.
const FIRST_LIMIT: Duration = Duration::from_secs(300);

/// What the cluster calls the request that an evaluation makes.
const LIST_OF_METRICS: &str = "list pods";

/// `load hpa`
pub(crate) fn run(flags: &Flags) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    let folder = tempfile::tempdir()?;
    let mut cluster = Cluster::start(
        &flags.cluster,
        folder.path(),
        &[
            String::from("--nodes=0"),
            format!("--autoscalers={}", flags.autoscalers),
            format!("--pods-per-autoscaler={}", flags.pods_per),
            format!("--autoscalers-per-namespace={}", flags.per_namespace),
            format!("--latency-ms={}", flags.latency_ms),
            format!("--measure-seconds={}", flags.period),
        ],
    )?;
    let period = format!("--horizontal-pod-autoscaler-sync-period={}s", flags.period);
    let more: Vec<_> = std::iter::once(period).chain(flags.more.iter().cloned()).collect();
    let mut server = controller(&flags.ours, &cluster, folder.path(), &more)?;
    server.wait_ready(Duration::from_secs(60))?;
    writeln!(
        out,
        "{} autoscalers × {} pods, every {} s, {} ms of latency\n\n\
         | | wall s | evaluations | CPU s | cores | MiB resident | peak MiB | requests | of them writes | statuses written |\n\
         |---|---|---|---|---|---|---|---|---|---|",
        flags.autoscalers, flags.pods_per, flags.period, flags.latency_ms
    )?;
    let started = Instant::now();
    let first = wait_for_round(&server, &mut cluster, flags.autoscalers, started)?;
    row(&mut out, "first round", &server, &mut cluster, Since::start(first))?;

    cluster.ask("forget")?;
    let before = Since::now(&server)?;
    server.reset_peak()?;
    std::thread::sleep(Duration::from_secs(flags.period) * flags.periods);
    row(&mut out, "then", &server, &mut cluster, before)?;
    writeln!(out, "\nrequests of the last row: {}", cluster.ask("requests")?)?;
    server.stop()
}

/// Until every autoscaler was evaluated once; how long that took from the first one's on.
///
/// The cluster is asked, whose CPU does not count: to write the rows of 10,000 autoscalers at `/metrics` takes the controller longer than to
/// evaluate a hundred of them.
fn wait_for_round(
    server: &Server,
    cluster: &mut Cluster,
    count: u32,
    started: Instant,
) -> anyhow::Result<Instant> {
    let mut first = None;
    loop {
        let requests: BTreeMap<String, u64> = serde_json::from_str(&cluster.ask("requests")?)?;
        let asked = requests.get(LIST_OF_METRICS).copied().unwrap_or(0);
        if asked > 0 {
            first.get_or_insert_with(Instant::now);
        }
        if asked >= u64::from(count) && server.metric(EVALUATIONS)? >= f64::from(count) {
            return first.context("a round without a beginning");
        }
        ensure!(
            started.elapsed() < FIRST_LIMIT,
            "{asked} of {count} asked for after {FIRST_LIMIT:?}"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What a row counts from.
#[derive(Clone, Copy, Debug)]
struct Since {
    at: Instant,
    cpu_seconds: f64,
    evaluations: f64,
    statuses: f64,
}

impl Since {
    /// From the process's start on, but for the time, which counts from `at` on.
    const fn start(at: Instant) -> Self {
        Self { at, cpu_seconds: 0.0, evaluations: 0.0, statuses: 0.0 }
    }

    fn now(server: &Server) -> anyhow::Result<Self> {
        Ok(Self {
            at: Instant::now(),
            cpu_seconds: server.usage()?.cpu_seconds,
            evaluations: server.metric(EVALUATIONS)?,
            statuses: server.metric(STATUSES)?,
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "bytes below 2^53")]
fn row(
    out: &mut impl Write,
    what: &str,
    server: &Server,
    cluster: &mut Cluster,
    since: Since,
) -> anyhow::Result<()> {
    let wall = since.at.elapsed().as_secs_f64();
    let usage = server.usage()?;
    let evaluations = server.metric(EVALUATIONS)? - since.evaluations;
    let statuses = server.metric(STATUSES)? - since.statuses;
    let cpu = usage.cpu_seconds - since.cpu_seconds;
    let requests: BTreeMap<String, u64> = serde_json::from_str(&cluster.ask("requests")?)?;
    let reads = ["get ", "list ", "watch "];
    let is_write = |what: &String| !reads.iter().any(|read| what.starts_with(read));
    let writes = requests.iter().filter(|(what, _)| is_write(what)).map(|(_, count)| count);
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    writeln!(
        out,
        "| {what} | {wall:.2} | {evaluations} | {cpu:.2} | {:.3} | {:.1} | {:.1} | {} | {} | {statuses} |",
        cpu / wall,
        mib(usage.resident_bytes),
        mib(usage.resident_bytes_peak),
        requests.values().sum::<u64>(),
        writes.sum::<u64>(),
    )?;
    Ok(out.flush()?)
}
