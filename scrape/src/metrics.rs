//! What the scraper says about itself, under the names that Prometheus's dashboards and alerts use.

use telemetry::{IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry, register};

use crate::metadata::MetadataGauges;

/// One per process; clones share.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub(crate) pools: IntCounter,
    pub(crate) pool_reloads: IntCounter,
    pub(crate) pool_syncs: IntCounterVec,
    pub(crate) pool_targets: IntGaugeVec,
    pub(crate) pool_target_limit: IntGaugeVec,
    pub(crate) exceeded_target_limit: IntCounter,
    pub(crate) exceeded_label_limits: IntCounter,
    pub(crate) exceeded_body_size_limit: IntCounter,
    pub(crate) exceeded_sample_limit: IntCounter,
    pub(crate) sync_failed: IntCounterVec,
    pub(crate) sample_duplicate_timestamp: IntCounter,
    pub(crate) sample_out_of_order: IntCounter,
    pub(crate) sample_out_of_bounds: IntCounter,
    pub(crate) sample_refused: IntCounter,
    pub(crate) append_failures: IntCounter,
    pub(crate) metadata_entries: IntGaugeVec,
    pub(crate) metadata_bytes: IntGaugeVec,
    pub(crate) discovered_targets: IntGaugeVec,
    pub(crate) http_sd_failures: IntCounter,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        let counter = |name, help| register(registry, IntCounter::new(name, help));
        let counters = |name: &str, help: &str, labels| {
            register(registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let gauges = |name: &str, help: &str, labels| {
            register(registry, IntGaugeVec::new(Opts::new(name, help), labels))
        };
        let job: &[&str] = &["scrape_job"];
        Self {
            pools: counter("prometheus_target_scrape_pools_total", "Scrape pools created."),
            pool_reloads: counter(
                "prometheus_target_scrape_pool_reloads_total",
                "Scrape pools whose configuration changed in a reload.",
            ),
            pool_syncs: counters(
                "prometheus_target_scrape_pool_sync_total",
                "Times that the targets of a scrape pool were determined.",
                job,
            ),
            pool_targets: gauges(
                "prometheus_target_scrape_pool_targets",
                "Targets of a scrape pool.",
                job,
            ),
            pool_target_limit: gauges(
                "prometheus_target_scrape_pool_target_limit",
                "Targets that a scrape pool may have; 0 for any number.",
                job,
            ),
            exceeded_target_limit: counter(
                "prometheus_target_scrape_pool_exceeded_target_limit_total",
                "Times that a scrape pool was found to have more targets than it may.",
            ),
            exceeded_label_limits: counter(
                "prometheus_target_scrape_pool_exceeded_label_limits_total",
                "Scrapes that failed because of a limit of labels.",
            ),
            exceeded_body_size_limit: counter(
                "prometheus_target_scrapes_exceeded_body_size_limit_total",
                "Scrapes that failed because of the body size limit.",
            ),
            exceeded_sample_limit: counter(
                "prometheus_target_scrapes_exceeded_sample_limit_total",
                "Scrapes that failed because of the sample limit.",
            ),
            sync_failed: counters(
                "prometheus_target_sync_failed_total",
                "Addresses that could not become targets.",
                job,
            ),
            sample_duplicate_timestamp: counter(
                "prometheus_target_scrapes_sample_duplicate_timestamp_total",
                "Scraped samples refused because the series has another value at that time.",
            ),
            sample_out_of_order: counter(
                "prometheus_target_scrapes_sample_out_of_order_total",
                "Scraped samples refused because the series has a newer one.",
            ),
            sample_out_of_bounds: counter(
                "prometheus_target_scrapes_sample_out_of_bounds_total",
                "Scraped samples refused because they are too old or too far in the future.",
            ),
            sample_refused: counter(
                "sextant_target_scrapes_sample_refused_total",
                "Scraped samples refused because the store admits no new series, or not this one.",
            ),
            append_failures: counter(
                "sextant_target_scrapes_append_failures_total",
                "Scrapes of which nothing could be stored.",
            ),
            metadata_entries: gauges(
                "prometheus_target_metadata_cache_entries",
                "Metrics whose metadata is kept.",
                job,
            ),
            metadata_bytes: gauges(
                "prometheus_target_metadata_cache_bytes",
                "Bytes of metadata that is kept, counted once per target.",
                job,
            ),
            discovered_targets: gauges(
                "prometheus_sd_discovered_targets",
                "Targets that discovery lists.",
                &["name", "config"],
            ),
            http_sd_failures: counter(
                "prometheus_sd_http_failures_total",
                "Refreshes over HTTP that failed.",
            ),
        }
    }

    /// The gauges that metadata of targets of `job` counts in.
    pub(crate) fn metadata_of(&self, job: &str) -> MetadataGauges {
        MetadataGauges {
            entries: self.metadata_entries.with_label_values(&[job]),
            bytes: self.metadata_bytes.with_label_values(&[job]),
        }
    }

    /// Drops what is counted for a job that is gone.
    pub(crate) fn remove_job(&self, job: &str) {
        // A job without failures was never counted; that there is nothing to remove is fine.
        let _ = self.pool_syncs.remove_label_values(&[job]);
        let _ = self.pool_targets.remove_label_values(&[job]);
        let _ = self.pool_target_limit.remove_label_values(&[job]);
        let _ = self.sync_failed.remove_label_values(&[job]);
        let _ = self.metadata_entries.remove_label_values(&[job]);
        let _ = self.metadata_bytes.remove_label_values(&[job]);
        let _ = self.discovered_targets.remove_label_values(&["scrape", job]);
    }
}
