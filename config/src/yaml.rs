//! The configuration as YAML with defaults filled in, in the field order of Prometheus.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::duration::Text;
use crate::size;
use crate::{Config, Limits, ScrapeConfig};

#[derive(Serialize)]
struct FileYaml<'a> {
    global: GlobalYaml<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scrape_configs: Vec<ScrapeYaml<'a>>,
}

#[derive(Serialize)]
struct GlobalYaml<'a> {
    scrape_interval: Text,
    scrape_timeout: Text,
    evaluation_interval: Text,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    external_labels: BTreeMap<&'a str, &'a str>,
    #[serde(flatten)]
    limits: BTreeMap<&'static str, Number>,
}

#[derive(Serialize)]
struct ScrapeYaml<'a> {
    job_name: &'a str,
    honor_labels: bool,
    honor_timestamps: bool,
    track_timestamps_staleness: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    params: &'a BTreeMap<String, Vec<String>>,
    scrape_interval: Text,
    scrape_timeout: Text,
    metrics_path: &'a str,
    scheme: &'a str,
    enable_compression: bool,
    extra_scrape_metrics: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    fallback_scrape_protocol: Option<&'a str>,
    #[serde(flatten)]
    limits: BTreeMap<&'static str, Number>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    static_configs: Vec<StaticYaml<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    http_sd_configs: Vec<HttpSdYaml<'a>>,
}

#[derive(Serialize)]
struct StaticYaml<'a> {
    targets: &'a [String],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
struct HttpSdYaml<'a> {
    url: &'a str,
    refresh_interval: Text,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Number {
    Count(u64),
    Size(String),
}

/// The limits that are set.
fn limits(limits: &Limits) -> BTreeMap<&'static str, Number> {
    let mut fields = BTreeMap::new();
    if limits.body_bytes_max > 0 {
        fields.insert("body_size_limit", Number::Size(size::format(limits.body_bytes_max)));
    }
    for (name, value) in [
        ("sample_limit", limits.samples_max),
        ("target_limit", limits.targets_max),
        ("label_limit", limits.labels_max),
        ("label_name_length_limit", limits.label_name_bytes_max),
        ("label_value_length_limit", limits.label_value_bytes_max),
        ("keep_dropped_targets", limits.dropped_targets_max),
    ] {
        if value > 0 {
            fields.insert(name, Number::Count(value));
        }
    }
    fields
}

fn scrape(job: &ScrapeConfig) -> ScrapeYaml<'_> {
    ScrapeYaml {
        job_name: &job.job_name,
        honor_labels: job.honor_labels,
        honor_timestamps: job.honor_timestamps,
        track_timestamps_staleness: job.track_timestamps_staleness,
        params: &job.params,
        scrape_interval: Text(job.scrape_interval),
        scrape_timeout: Text(job.scrape_timeout),
        metrics_path: &job.metrics_path,
        scheme: &job.scheme,
        enable_compression: job.enable_compression,
        extra_scrape_metrics: job.extra_scrape_metrics,
        fallback_scrape_protocol: job.fallback_scrape_protocol.as_deref(),
        limits: limits(&job.limits),
        static_configs: job
            .static_configs
            .iter()
            .map(|group| StaticYaml { targets: &group.targets, labels: &group.labels })
            .collect(),
        http_sd_configs: job
            .http_sd_configs
            .iter()
            .map(|sd| HttpSdYaml { url: &sd.url, refresh_interval: Text(sd.refresh_interval) })
            .collect(),
    }
}

/// Writes `config`.
pub(crate) fn write(config: &Config) -> String {
    let global = &config.global;
    let file = FileYaml {
        global: GlobalYaml {
            scrape_interval: Text(global.scrape_interval),
            scrape_timeout: Text(global.scrape_timeout),
            evaluation_interval: Text(global.evaluation_interval),
            external_labels: global.external_labels.iter().map(|l| (l.name, l.value)).collect(),
            limits: limits(&global.limits),
        },
        scrape_configs: config.scrape_configs.iter().map(scrape).collect(),
    };
    serde_saphyr::to_string(&file).expect("our own types serialize")
}
