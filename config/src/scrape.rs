//! The configuration as others use it: every default filled in.

use std::collections::BTreeMap;
use std::time::Duration;

use model::Labels;

/// `global`: what applies to all jobs, and to evaluations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GlobalConfig {
    /// How often targets are scraped. Jobs carry their own value; so with the other fields that both have.
    pub scrape_interval: Duration,
    /// How long a scrape may take; at most `scrape_interval`.
    pub scrape_timeout: Duration,
    /// The default step of subqueries.
    pub evaluation_interval: Duration,
    /// Labels that tell this server's series from others' wherever they leave it.
    pub external_labels: Labels,
    /// Bounds of scrapes.
    pub limits: Limits,
    /// Whether `scrape_timeout_seconds`, `scrape_sample_limit` and `scrape_body_size_bytes` are stored too.
    pub extra_scrape_metrics: bool,
}

/// One of `scrape_configs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrapeConfig {
    /// Unique; the `job` label of the targets' series.
    pub job_name: String,
    /// How often each target is scraped; above zero.
    pub scrape_interval: Duration,
    /// How long a scrape may take; at most `scrape_interval`.
    pub scrape_timeout: Duration,
    /// Path of the URL.
    pub metrics_path: String,
    /// Scheme of the URL: `http`.
    pub scheme: String,
    /// Parameters of the URL.
    pub params: BTreeMap<String, Vec<String>>,
    /// Whether labels that a target sends win over those that we attach; otherwise they become `exported_…`.
    pub honor_labels: bool,
    /// Whether timestamps that a target sends are kept.
    pub honor_timestamps: bool,
    /// Whether series with timestamps of their own end when they vanish.
    pub track_timestamps_staleness: bool,
    /// Whether compressed bodies are asked for.
    pub enable_compression: bool,
    /// The format to assume when a target does not say, or says one that is unknown.
    pub fallback_scrape_protocol: Option<ScrapeProtocol>,
    /// Whether `scrape_timeout_seconds`, `scrape_sample_limit` and `scrape_body_size_bytes` are stored too.
    pub extra_scrape_metrics: bool,
    /// Bounds of each scrape.
    pub limits: Limits,
    /// Targets given in the file.
    pub static_configs: Vec<TargetGroup>,
    /// Places to ask for targets.
    pub http_sd_configs: Vec<HttpSdConfig>,
}

/// Bounds of scrapes; 0 means none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a body, decompressed. A larger one fails the scrape.
    pub body_bytes_max: u64,
    /// Samples of a scrape. More fail it.
    pub samples_max: u64,
    /// Targets of a job. More fail the scrapes of all of them.
    pub targets_max: u64,
    /// Labels of a series. More fail the scrape.
    pub labels_max: u64,
    /// Bytes of a label's name. More fail the scrape.
    pub label_name_bytes_max: u64,
    /// Bytes of a label's value. More fail the scrape.
    pub label_value_bytes_max: u64,
    /// Dropped targets of a job that are remembered for `/api/v1/targets`.
    pub dropped_targets_max: u64,
}

/// A format that targets may answer in, by Prometheus's name for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScrapeProtocol {
    /// Length-delimited protocol buffers.
    PrometheusProto,
    /// OpenMetrics 0.0.1.
    OpenMetricsText0_0_1,
    /// OpenMetrics 1.0.0.
    OpenMetricsText1_0_0,
    /// Text format 1.0.0: 0.0.4 with quoted names.
    PrometheusText1_0_0,
    /// Text format 0.0.4.
    PrometheusText0_0_4,
}

impl ScrapeProtocol {
    /// All of them.
    pub(crate) const ALL: [Self; 5] = [
        Self::PrometheusProto,
        Self::OpenMetricsText0_0_1,
        Self::OpenMetricsText1_0_0,
        Self::PrometheusText1_0_0,
        Self::PrometheusText0_0_4,
    ];

    /// The name in the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PrometheusProto => "PrometheusProto",
            Self::OpenMetricsText0_0_1 => "OpenMetricsText0.0.1",
            Self::OpenMetricsText1_0_0 => "OpenMetricsText1.0.0",
            Self::PrometheusText1_0_0 => "PrometheusText1.0.0",
            Self::PrometheusText0_0_4 => "PrometheusText0.0.4",
        }
    }

    /// Whether it is the text format of Prometheus, which is all that is read so far.
    #[must_use]
    pub const fn is_prometheus_text(self) -> bool {
        matches!(self, Self::PrometheusText1_0_0 | Self::PrometheusText0_0_4)
    }
}

/// Targets with the labels that they share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetGroup {
    /// Addresses: host and perhaps port.
    pub targets: Vec<String>,
    /// Labels by name; `__…` names direct the scrape.
    pub labels: BTreeMap<String, String>,
    /// Identifies the group among those of its job: its position in the file, or the URL it came from.
    pub source: String,
}

/// One of `http_sd_configs`: a URL that answers with a list of target groups in JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpSdConfig {
    /// Absolute, `http`.
    pub url: String,
    /// How often it is asked; above zero.
    pub refresh_interval: Duration,
}
