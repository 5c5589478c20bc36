//! Flags of custom and external metrics: prometheus-adapter's, and a few of our own.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{ArgAction, Args, ValueEnum};
use http::{ClientOptions, TlsOptions};
use metrics_server::AdapterConfig;
use metrics_server::adapter::{
    DiscoveryConfig, FallbackOptions, NoSource, QueryLimits, RelistTimes, SteeringOptions,
};

use crate::go_values::{go_bool, positive_go_duration};

/// Where a pod finds the token of its ServiceAccount.
const SERVICE_ACCOUNT_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/// How often the other adapter may be asked which metrics it has.
const FALLBACK_TIMEOUT: Duration = Duration::from_secs(10);

/// Time for each replica of the controller. Cluster controllers give up on a metric after 30 s.
const STEERING_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
#[command(next_help_heading = "Custom and external metrics")]
pub(crate) struct AdapterFlags {
    /// Prometheus, or what answers like it. Without it there are no custom and external metrics
    #[arg(long, value_name = "URL", env = "SEXTANT_PROMETHEUS_URL")]
    pub(crate) prometheus_url: Option<String>,
    /// How queries are sent
    #[arg(
        long,
        value_enum,
        value_name = "VERB",
        default_value_t = Verb::Get,
        ignore_case = true,
        requires = "prometheus_url",
        env = "SEXTANT_PROMETHEUS_VERB"
    )]
    pub(crate) prometheus_verb: Verb,
    /// Header of every query; may be given several times
    #[arg(
        long = "prometheus-header",
        value_name = "NAME=VALUE",
        value_parser = header,
        requires = "prometheus_url",
        env = "SEXTANT_PROMETHEUS_HEADER",
        hide_env_values = true
    )]
    pub(crate) prometheus_headers: Vec<(String, String)>,
    /// Authority of Prometheus's certificate; the system's, if not given
    #[arg(
        long,
        value_name = "FILE",
        requires = "prometheus_url",
        env = "SEXTANT_PROMETHEUS_CA_FILE"
    )]
    pub(crate) prometheus_ca_file: Option<PathBuf>,
    /// Client certificate to show to Prometheus
    #[arg(
        long,
        value_name = "FILE",
        requires = "prometheus_client_tls_key_file",
        requires = "prometheus_url",
        env = "SEXTANT_PROMETHEUS_CLIENT_TLS_CERT_FILE"
    )]
    pub(crate) prometheus_client_tls_cert_file: Option<PathBuf>,
    /// Its private key
    #[arg(
        long,
        value_name = "FILE",
        requires = "prometheus_client_tls_cert_file",
        requires = "prometheus_url",
        env = "SEXTANT_PROMETHEUS_CLIENT_TLS_KEY_FILE"
    )]
    pub(crate) prometheus_client_tls_key_file: Option<PathBuf>,
    /// File with a bearer token for Prometheus
    #[arg(
        long,
        value_name = "FILE",
        requires = "prometheus_url",
        env = "SEXTANT_PROMETHEUS_TOKEN_FILE"
    )]
    pub(crate) prometheus_token_file: Option<PathBuf>,
    /// Show Prometheus the token of the pod's ServiceAccount. prometheus-adapter's default is true
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true",
        value_parser = go_bool,
        action = ArgAction::Set,
        conflicts_with = "prometheus_token_file",
        requires = "prometheus_url",
        env = "SEXTANT_PROMETHEUS_AUTH_INCLUSTER"
    )]
    pub(crate) prometheus_auth_incluster: bool,
    /// Refused with what to give instead
    #[arg(long, hide = true, value_name = "FILE", value_parser = no_auth_config)]
    pub(crate) prometheus_auth_config: Option<Infallible>,
    /// Largest answer of Prometheus, before and after decompression
    #[arg(
        long,
        value_name = "BYTES",
        default_value = "64MiB",
        value_parser = answer_bytes,
        env = "SEXTANT_PROMETHEUS_MAX_ANSWER_BYTES"
    )]
    pub(crate) prometheus_max_answer_bytes: usize,
    /// prometheus-adapter's configuration file: which series are which metrics
    #[arg(
        long = "config",
        value_name = "FILE",
        requires = "prometheus_url",
        env = "SEXTANT_CONFIG"
    )]
    pub(crate) rules: Option<PathBuf>,
    /// How often Prometheus is asked which series there are
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "10m0s",
        value_parser = positive_go_duration,
        requires = "prometheus_url",
        env = "SEXTANT_METRICS_RELIST_INTERVAL"
    )]
    pub(crate) metrics_relist_interval: Duration,
    /// Series without a sample for longer do not exist; --metrics-relist-interval, if not given
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = positive_go_duration,
        requires = "prometheus_url",
        env = "SEXTANT_METRICS_MAX_AGE"
    )]
    pub(crate) metrics_max_age: Option<Duration>,
    /// Serve series with the labels namespace and pod as metrics of pods without any rule, where both labels verifiably
    /// come from service discovery: others could be forged to steer another tenant's scaling
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true",
        value_parser = go_bool,
        action = ArgAction::Set,
        requires = "prometheus_url",
        env = "SEXTANT_DEFAULT_RULES"
    )]
    pub(crate) default_rules: bool,
    /// Serve PromQL expressions that namespaces bring along as external metrics: in ConfigMaps with the label
    /// autoscaling.sextant.dev/expressions: "true", each key a metric. They see series of their namespace alone
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true",
        value_parser = go_bool,
        action = ArgAction::Set,
        requires = "prometheus_url",
        env = "SEXTANT_EXPRESSIONS"
    )]
    pub(crate) expressions: bool,
    /// Controller that knows the replica counts of steered autoscalers, http://host:port; the counts are served as the external
    /// metric sextant-replicas. Its replicas, if it has several, separated by commas
    #[arg(long, value_name = "URL", value_delimiter = ',', env = "SEXTANT_HPA_CONTROLLER_URL")]
    pub(crate) hpa_controller_url: Vec<String>,
    /// Authority of the controller's certificate; the system's, if not given
    #[arg(
        long,
        value_name = "FILE",
        requires = "hpa_controller_url",
        env = "SEXTANT_HPA_CONTROLLER_CA_FILE"
    )]
    pub(crate) hpa_controller_ca_file: Option<PathBuf>,
    /// Another adapter that is asked about metrics that are not known here: https://host:port
    #[arg(long, value_name = "URL", requires = "prometheus_url", env = "SEXTANT_FALLBACK_API")]
    pub(crate) fallback_api: Option<String>,
    /// Authority of the other adapter's certificate; the system's, if not given
    #[arg(long, value_name = "FILE", requires = "fallback_api", env = "SEXTANT_FALLBACK_CA_FILE")]
    pub(crate) fallback_ca_file: Option<PathBuf>,
    /// Client certificate to show to the other adapter, which must trust it as a front proxy
    #[arg(
        long,
        value_name = "FILE",
        requires = "fallback_client_key",
        requires = "fallback_api",
        env = "SEXTANT_FALLBACK_CLIENT_CERTIFICATE"
    )]
    pub(crate) fallback_client_certificate: Option<PathBuf>,
    /// Its private key
    #[arg(
        long,
        value_name = "FILE",
        requires = "fallback_client_certificate",
        requires = "fallback_api",
        env = "SEXTANT_FALLBACK_CLIENT_KEY"
    )]
    pub(crate) fallback_client_key: Option<PathBuf>,
    /// File with a bearer token for the other adapter
    #[arg(
        long,
        value_name = "FILE",
        requires = "fallback_api",
        env = "SEXTANT_FALLBACK_TOKEN_FILE"
    )]
    pub(crate) fallback_token_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Verb {
    /// In the URL
    Get,
    /// In the body, for long queries
    Post,
}

fn no_auth_config(_: &str) -> Result<Infallible, &'static str> {
    Err(
        "a kubeconfig for Prometheus is not supported: give its parts as --prometheus-url, --prometheus-ca-file, \
         --prometheus-token-file, --prometheus-client-tls-cert-file and --prometheus-client-tls-key-file",
    )
}

/// `134217728` or `128MiB`.
fn answer_bytes(text: &str) -> Result<usize, &'static str> {
    let bytes = text.parse().ok().or_else(|| ::config::parse_size(text));
    let bytes = bytes.and_then(|bytes| usize::try_from(bytes).ok()).filter(|bytes| *bytes > 0);
    bytes.ok_or("must be a number of bytes above 0, or a size such as 128MiB")
}

fn header(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').ok_or("a header is NAME=VALUE")?;
    Ok((String::from(name), String::from(value)))
}

/// How the flags say that custom and external metrics are answered, if they are.
pub(super) fn config(flags: &AdapterFlags) -> anyhow::Result<Option<AdapterConfig>> {
    let steering = steering(flags)?;
    let Some(url) = &flags.prometheus_url else {
        return Ok(steering.map(|steering| AdapterConfig {
            discovery: DiscoveryConfig::default(),
            source: Arc::new(NoSource),
            source_name: String::new(),
            default_rules: None,
            fallback: None,
            expressions: false,
            steering: Some(steering),
            queries: QueryLimits::default(),
            relist: RelistTimes::default(),
        }));
    };
    let discovery = match &flags.rules {
        Some(path) => DiscoveryConfig::load(path)?,
        None => DiscoveryConfig::default(),
    };
    let pair = (&flags.prometheus_client_tls_cert_file, &flags.prometheus_client_tls_key_file);
    let http = client(flags.prometheus_ca_file.as_ref(), pair)?;
    let mut options = api_client::Options::new(url);
    options.method = match flags.prometheus_verb {
        Verb::Get => api_client::Method::Get,
        Verb::Post => api_client::Method::Post,
    };
    options.body_bytes_max = flags.prometheus_max_answer_bytes;
    options.headers.clone_from(&flags.prometheus_headers);
    options.bearer_token_file = if flags.prometheus_auth_incluster {
        Some(PathBuf::from(SERVICE_ACCOUNT_TOKEN))
    } else {
        flags.prometheus_token_file.clone()
    };
    let prometheus = Arc::new(api_client::Client::new(http, options)?);
    let interval = flags.metrics_relist_interval;
    Ok(Some(AdapterConfig {
        discovery,
        source: Arc::clone(&prometheus) as _,
        source_name: String::from(prometheus.url()),
        default_rules: flags.default_rules.then_some(prometheus as _),
        fallback: fallback(flags)?,
        expressions: flags.expressions,
        steering,
        queries: QueryLimits::default(),
        relist: RelistTimes { interval, max_age: flags.metrics_max_age.unwrap_or(interval) },
    }))
}

fn steering(flags: &AdapterFlags) -> anyhow::Result<Option<SteeringOptions>> {
    let urls = flags.hpa_controller_url.clone();
    if urls.is_empty() {
        return Ok(None);
    }
    let http = client(flags.hpa_controller_ca_file.as_ref(), (&None, &None))?;
    Ok(Some(SteeringOptions { urls, http, timeout: STEERING_TIMEOUT }))
}

fn fallback(flags: &AdapterFlags) -> anyhow::Result<Option<FallbackOptions>> {
    let Some(url) = &flags.fallback_api else { return Ok(None) };
    let pair = (&flags.fallback_client_certificate, &flags.fallback_client_key);
    let http = client(flags.fallback_ca_file.as_ref(), pair)?;
    Ok(Some(FallbackOptions {
        bearer_token_file: flags.fallback_token_file.clone(),
        timeout: FALLBACK_TIMEOUT,
        ..FallbackOptions::new(url, http)
    }))
}

fn client(
    ca: Option<&PathBuf>,
    identity: (&Option<PathBuf>, &Option<PathBuf>),
) -> anyhow::Result<http::Client> {
    let read = |path: &PathBuf| {
        std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let identity_pem = match identity {
        (Some(certificate), Some(key)) => Some((read(certificate)?, read(key)?)),
        _ => None,
    };
    let ca_pem = ca.map(read).transpose()?;
    let tls = Some(TlsOptions { ca_pem, identity_pem, ..TlsOptions::default() });
    Ok(http::Client::new(ClientOptions { tls, ..ClientOptions::default() })?)
}
