//! The store's own metrics, under Prometheus's names where dashboards know them.

use model::{Rejected, Rejection};
use telemetry::{Gauge, IntCounter, IntCounterVec, IntGauge, Opts, Registry, register};

/// See the help of each.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub(crate) head_series: IntGauge,
    pub(crate) head_chunks: IntGauge,
    pub(crate) head_min_time: IntGauge,
    pub(crate) head_max_time: IntGauge,
    pub(crate) series_created: IntCounter,
    pub(crate) series_removed: IntCounter,
    pub(crate) series_refused: IntCounter,
    pub(crate) floats_appended: IntCounter,
    pub(crate) histograms_appended: IntCounter,
    pub(crate) late_appended: IntCounter,
    out_of_order: IntCounterVec,
    out_of_bounds: IntCounterVec,
    too_old: IntCounterVec,
    pub(crate) head_bytes: IntGauge,
    pub(crate) exemplars: IntGauge,
    pub(crate) snapshots: IntCounter,
    pub(crate) snapshots_failed: IntCounter,
    pub(crate) tombstone_cleanings: IntCounter,
    pub(crate) vertical_compactions: IntCounter,
    pub(crate) size_retentions: IntCounter,
    pub(crate) blocks_quarantined: IntCounter,
    pub(crate) wal_segment: IntGauge,
    pub(crate) wal_corruptions: IntCounter,
    pub(crate) wal_bytes_lost: IntCounter,
    pub(crate) wal_writes_failed: IntCounter,
    pub(crate) wal_syncs_failed: IntCounter,
    pub(crate) records_skipped: IntCounter,
    pub(crate) compactions: IntCounter,
    pub(crate) compactions_failed: IntCounter,
    pub(crate) checkpoints: IntCounter,
    pub(crate) checkpoints_failed: IntCounter,
    pub(crate) blocks_loaded: IntGauge,
    pub(crate) blocks_bytes: IntGauge,
    pub(crate) blocks_failed: IntCounter,
    pub(crate) lowest_time: IntGauge,
    pub(crate) retentions: IntCounter,
    pub(crate) replay_seconds: Gauge,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        let counter = |name: &str, help: &str| register(registry, IntCounter::new(name, help));
        let gauge = |name: &str, help: &str| register(registry, IntGauge::new(name, help));
        // Prometheus tells floats from histograms by this label.
        let by_type = |name: &str, help: &str| {
            let counters = IntCounterVec::new(Opts::new(name, help), &["type"]);
            let counters = register(registry, counters);
            // So that both are there from the start.
            ["float", "histogram"].iter().for_each(|of| drop(counters.with_label_values(&[*of])));
            counters
        };
        let appended = by_type(
            "prometheus_tsdb_head_samples_appended_total",
            "Total number of appended samples.",
        );
        Self {
            head_series: gauge(
                "prometheus_tsdb_head_series",
                "Total number of series in the head block.",
            ),
            head_chunks: gauge(
                "prometheus_tsdb_head_chunks",
                "Total number of chunks in the head block.",
            ),
            head_min_time: gauge(
                "prometheus_tsdb_head_min_time",
                "Minimum time bound of the head block. The unit is decided by the library consumer.",
            ),
            head_max_time: gauge(
                "prometheus_tsdb_head_max_time",
                "Maximum timestamp of the head block. The unit is decided by the library consumer.",
            ),
            series_created: counter(
                "prometheus_tsdb_head_series_created_total",
                "Total number of series created in the head.",
            ),
            series_removed: counter(
                "prometheus_tsdb_head_series_removed_total",
                "Total number of series removed in the head.",
            ),
            series_refused: counter(
                "sextant_tsdb_head_series_refused_total",
                "New series that were refused because the head has reached its bound of series or bytes.",
            ),
            floats_appended: appended.with_label_values(&["float"]),
            histograms_appended: appended.with_label_values(&["histogram"]),
            late_appended: counter(
                "prometheus_tsdb_head_out_of_order_samples_appended_total",
                "Total number of appended out of order samples.",
            ),
            out_of_order: by_type(
                "prometheus_tsdb_out_of_order_samples_total",
                "Total number of out of order samples ingestion failed attempts due to out of order being disabled.",
            ),
            out_of_bounds: by_type(
                "prometheus_tsdb_out_of_bound_samples_total",
                "Total number of out of bound samples ingestion failed attempts with out of order support disabled.",
            ),
            too_old: by_type(
                "prometheus_tsdb_too_old_samples_total",
                "Total number of out of order samples ingestion failed attempts with out of support enabled, but sample outside of time window.",
            ),
            head_bytes: gauge(
                "sextant_tsdb_head_bytes",
                "Bytes of memory that the head accounts for.",
            ),
            exemplars: gauge(
                "prometheus_tsdb_exemplar_exemplars_in_storage",
                "Number of exemplars currently in circular storage.",
            ),
            snapshots: counter(
                "sextant_tsdb_head_snapshots_total",
                "Snapshots of the head that were written, so that a restart need not replay all of the write-ahead log.",
            ),
            snapshots_failed: counter(
                "sextant_tsdb_head_snapshots_failed_total",
                "Snapshots of the head that could not be written.",
            ),
            tombstone_cleanings: counter(
                "sextant_tsdb_tombstone_cleanings_total",
                "Blocks that were rewritten without deleted samples.",
            ),
            vertical_compactions: counter(
                "prometheus_tsdb_vertical_compactions_total",
                "Total number of compactions done on overlapping blocks.",
            ),
            size_retentions: counter(
                "prometheus_tsdb_size_retentions_total",
                "The number of times that blocks were deleted because the maximum number of bytes was exceeded.",
            ),
            blocks_quarantined: counter(
                "sextant_tsdb_blocks_quarantined_total",
                "Blocks that were damaged and set aside.",
            ),
            wal_segment: gauge(
                "prometheus_tsdb_wal_segment_current",
                "Write log segment index that TSDB is currently writing to.",
            ),
            wal_corruptions: counter(
                "prometheus_tsdb_wal_corruptions_total",
                "Total number of WAL corruptions.",
            ),
            wal_bytes_lost: counter(
                "sextant_tsdb_wal_lost_bytes_total",
                "Bytes of the write-ahead log that could not be read at start-up.",
            ),
            wal_writes_failed: counter(
                "prometheus_tsdb_wal_writes_failed_total",
                "Total number of write log writes that failed.",
            ),
            wal_syncs_failed: counter(
                "sextant_tsdb_wal_syncs_failed_total",
                "Total number of syncs of the write-ahead log that failed.",
            ),
            records_skipped: counter(
                "sextant_tsdb_wal_records_skipped_total",
                "Records and histograms of the write-ahead log that were passed over at start-up because they are of a kind that is not known.",
            ),
            compactions: counter(
                "prometheus_tsdb_compactions_total",
                "Total number of compactions that were executed for the partition.",
            ),
            compactions_failed: counter(
                "prometheus_tsdb_compactions_failed_total",
                "Total number of compactions that failed for the partition.",
            ),
            checkpoints: counter(
                "prometheus_tsdb_checkpoint_creations_total",
                "Total number of checkpoint creations attempted.",
            ),
            checkpoints_failed: counter(
                "prometheus_tsdb_checkpoint_creations_failed_total",
                "Total number of checkpoint creations that failed.",
            ),
            blocks_loaded: gauge(
                "prometheus_tsdb_blocks_loaded",
                "Number of currently loaded data blocks",
            ),
            blocks_bytes: gauge(
                "prometheus_tsdb_storage_blocks_bytes",
                "The number of bytes that are currently used for local storage by all blocks.",
            ),
            blocks_failed: counter(
                "prometheus_tsdb_reloads_failures_total",
                "Number of times the database failed to reloadBlocks block data from disk.",
            ),
            lowest_time: gauge(
                "prometheus_tsdb_lowest_timestamp",
                "Lowest timestamp value stored in the database. The unit is decided by the library consumer.",
            ),
            retentions: counter(
                "prometheus_tsdb_time_retentions_total",
                "The number of times that blocks were deleted because the maximum time limit was exceeded.",
            ),
            replay_seconds: register(
                registry,
                Gauge::new(
                    "prometheus_tsdb_data_replay_duration_seconds",
                    "Time taken to replay the data on disk.",
                ),
            ),
        }
    }

    /// Counts samples of a type that were refused.
    pub(crate) fn rejected(&self, rejected: &[Rejected], of: &str) {
        for rejected in rejected {
            let counters = match rejected.reason {
                Rejection::OutOfOrder => &self.out_of_order,
                Rejection::OutOfBounds => &self.out_of_bounds,
                Rejection::TooOld => &self.too_old,
                _ => continue,
            };
            counters.with_label_values(&[of]).inc();
        }
    }
}
