//! The configuration in force as YAML, for `status/config`: Prometheus's fields in Prometheus's order, defaults filled in,
//! limits that are not set left out.

use std::collections::BTreeMap;

use model::format_duration;
use serde::Serialize;

use crate::scrape::{GlobalConfig, HttpSdConfig, Limits, ScrapeConfig, TargetGroup};
use crate::storage::StorageConfig;
use crate::{Config, size};

/// Writes `config`; reading the text gives the same configuration.
pub(crate) fn write(config: &Config) -> String {
    let file = FileYaml {
        global: global(&config.global),
        scrape_configs: config.scrape_configs.iter().map(job).collect(),
        storage: storage(&config.storage),
    };
    serde_saphyr::to_string(&file).expect("strings, numbers, lists and maps can be written")
}

#[derive(Serialize)]
struct FileYaml<'a> {
    global: GlobalYaml<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scrape_configs: Vec<JobYaml<'a>>,
    storage: StorageYaml,
}

#[derive(Serialize)]
struct StorageYaml {
    #[serde(skip_serializing_if = "TsdbYaml::is_empty")]
    tsdb: TsdbYaml,
    exemplars: ExemplarsYaml,
}

#[derive(Default, PartialEq, Serialize)]
struct TsdbYaml {
    #[serde(skip_serializing_if = "Option::is_none")]
    out_of_order_time_window: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stale_series_compaction_threshold: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retention: Option<RetentionYaml>,
}

impl TsdbYaml {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(PartialEq, Serialize)]
struct RetentionYaml {
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    percentage: Option<f64>,
}

#[derive(Serialize)]
struct ExemplarsYaml {
    max_exemplars: u64,
}

#[derive(Serialize)]
struct GlobalYaml<'a> {
    scrape_interval: String,
    scrape_timeout: String,
    evaluation_interval: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    external_labels: BTreeMap<&'a str, String>,
    #[serde(flatten)]
    limits: LimitsYaml,
    extra_scrape_metrics: bool,
}

#[derive(Serialize)]
struct JobYaml<'a> {
    job_name: &'a str,
    honor_labels: bool,
    honor_timestamps: bool,
    track_timestamps_staleness: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    params: &'a BTreeMap<String, Vec<String>>,
    scrape_interval: String,
    scrape_timeout: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fallback_scrape_protocol: Option<&'static str>,
    metrics_path: &'a str,
    scheme: &'a str,
    enable_compression: bool,
    #[serde(flatten)]
    limits: LimitsYaml,
    extra_scrape_metrics: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    static_configs: Vec<GroupYaml<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    http_sd_configs: Vec<HttpSdYaml<'a>>,
}

#[derive(Serialize)]
struct LimitsYaml {
    #[serde(skip_serializing_if = "Option::is_none")]
    body_size_limit: Option<String>,
    #[serde(skip_serializing_if = "is_zero")]
    sample_limit: u64,
    #[serde(skip_serializing_if = "is_zero")]
    target_limit: u64,
    #[serde(skip_serializing_if = "is_zero")]
    label_limit: u64,
    #[serde(skip_serializing_if = "is_zero")]
    label_name_length_limit: u64,
    #[serde(skip_serializing_if = "is_zero")]
    label_value_length_limit: u64,
    #[serde(skip_serializing_if = "is_zero")]
    keep_dropped_targets: u64,
}

#[derive(Serialize)]
struct GroupYaml<'a> {
    targets: &'a [String],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
struct HttpSdYaml<'a> {
    url: &'a str,
    refresh_interval: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
const fn is_zero(n: &u64) -> bool {
    *n == 0
}

fn global(global: &GlobalConfig) -> GlobalYaml<'_> {
    // A dollar sign would be read as the start of a variable.
    let labels = global.external_labels.iter();
    GlobalYaml {
        scrape_interval: format_duration(global.scrape_interval),
        scrape_timeout: format_duration(global.scrape_timeout),
        evaluation_interval: format_duration(global.evaluation_interval),
        external_labels: labels.map(|l| (l.name, l.value.replace('$', "$$"))).collect(),
        limits: limits(&global.limits),
        extra_scrape_metrics: global.extra_scrape_metrics,
    }
}

fn job(job: &ScrapeConfig) -> JobYaml<'_> {
    JobYaml {
        job_name: &job.job_name,
        honor_labels: job.honor_labels,
        honor_timestamps: job.honor_timestamps,
        track_timestamps_staleness: job.track_timestamps_staleness,
        params: &job.params,
        scrape_interval: format_duration(job.scrape_interval),
        scrape_timeout: format_duration(job.scrape_timeout),
        fallback_scrape_protocol: job.fallback_scrape_protocol.map(|protocol| protocol.as_str()),
        metrics_path: &job.metrics_path,
        scheme: &job.scheme,
        enable_compression: job.enable_compression,
        limits: limits(&job.limits),
        extra_scrape_metrics: job.extra_scrape_metrics,
        static_configs: job.static_configs.iter().map(group).collect(),
        http_sd_configs: job.http_sd_configs.iter().map(http_sd).collect(),
    }
}

fn limits(limits: &Limits) -> LimitsYaml {
    LimitsYaml {
        body_size_limit: (limits.body_bytes_max > 0).then(|| size::format(limits.body_bytes_max)),
        sample_limit: limits.samples_max,
        target_limit: limits.targets_max,
        label_limit: limits.labels_max,
        label_name_length_limit: limits.label_name_bytes_max,
        label_value_length_limit: limits.label_value_bytes_max,
        keep_dropped_targets: limits.dropped_targets_max,
    }
}

fn group(group: &TargetGroup) -> GroupYaml<'_> {
    GroupYaml { targets: &group.targets, labels: &group.labels }
}

fn http_sd(config: &HttpSdConfig) -> HttpSdYaml<'_> {
    HttpSdYaml { url: &config.url, refresh_interval: format_duration(config.refresh_interval) }
}

fn storage(storage: &StorageConfig) -> StorageYaml {
    let window = storage.out_of_order_time_window;
    let threshold = storage.stale_series_compaction_threshold;
    StorageYaml {
        tsdb: TsdbYaml {
            out_of_order_time_window: (!window.is_zero()).then(|| format_duration(window)),
            stale_series_compaction_threshold: (threshold != 0.0).then_some(threshold),
            retention: storage.retention.map(|retention| RetentionYaml {
                time: (!retention.time.is_zero()).then(|| format_duration(retention.time)),
                size: (retention.bytes_max > 0).then(|| size::format(retention.bytes_max)),
                percentage: (retention.percentage_max > 0.0).then_some(retention.percentage_max),
            }),
        },
        exemplars: ExemplarsYaml { max_exemplars: storage.exemplars_max },
    }
}
