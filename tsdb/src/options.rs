//! How a store behaves.

use std::time::Duration;

use model::{MatchOp, Matcher};

/// Compression of log records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WalCompression {
    /// Records as they are.
    None,
    /// Snappy, Prometheus's default.
    #[default]
    Snappy,
    /// Zstandard: smaller, for more CPU time.
    Zstd,
}

/// When the log is made durable. Until then, what was acknowledged survives the end of the process and not a power cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fsync {
    /// When [`Db::sync`](crate::Db::sync) is called, which its owner does in an interval: a power cut costs what came since.
    #[default]
    Grouped,
    /// Before a batch is acknowledged: a power cut costs nothing.
    Always,
    /// Only when a segment of the log is complete and when the store is closed: a power cut costs up to a segment, as with Prometheus.
    Never,
}

/// Options of a store. The defaults are Prometheus's.
#[derive(Clone, Debug)]
pub struct Options {
    /// Samples this much older than the newest are deleted; zero keeps them all.
    pub retention: Duration,
    /// Blocks are deleted, oldest first, while the store takes more bytes than this; zero for no bound.
    pub retention_bytes: u64,
    /// As `retention_bytes`, in hundredths of the file system's size; zero for no bound.
    pub retention_percentage: f64,
    /// Span of a block; the head is cut when it spans one and a half of it. At least 1 ms.
    pub min_block_duration: Duration,
    /// Span that merged blocks reach at most; `None` for a tenth of the retention, and no more than 31 days.
    pub max_block_duration: Option<Duration>,
    /// Samples late by no more than this are accepted out of order; zero for none.
    pub out_of_order_time_window: Duration,
    /// Exemplars that are kept.
    pub exemplars_max: usize,
    /// Series that have ended are cut and leave the head as soon as they are this part of it; zero to wait until their time is cut.
    pub stale_series_compaction_threshold: f64,
    /// Bytes after which a log segment is full.
    pub wal_segment_bytes: u64,
    /// Compression of log records.
    pub wal_compression: WalCompression,
    /// When the log is made durable.
    pub wal_fsync: Fsync,
    /// Series that the head admits; existing ones go on beyond.
    pub head_series_max: Option<u64>,
    /// Bytes of the head beyond which no new series is admitted.
    pub head_bytes_max: Option<u64>,
    /// Series that satisfy all matchers of one of these sets find room in the last tenth of the bounds.
    pub admitted_first: Vec<Vec<Matcher>>,
    /// Whether the state of the head is written out now and then, so that a restart need not replay all of the log.
    pub head_snapshots: bool,
}

/// What autoscaling and the metrics APIs read: CPU and memory of containers and nodes.
const ADMITTED_FIRST: &str = "container_cpu_usage_seconds_total|container_memory_working_set_bytes|pod_cpu_usage_seconds_total|pod_memory_working_set_bytes|node_cpu_usage_seconds_total|node_memory_working_set_bytes|node_cpu_seconds_total|node_memory_MemAvailable_bytes|up";

impl Options {
    /// The series that are admitted first unless others are chosen.
    ///
    /// # Panics
    /// Never: the pattern is constant and valid.
    #[must_use]
    pub fn default_admitted_first() -> Vec<Vec<Matcher>> {
        let matcher = Matcher::new(model::METRIC_NAME, MatchOp::Regex, ADMITTED_FIRST);
        vec![vec![matcher.expect("the pattern is constant and valid")]]
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            retention: Duration::from_secs(15 * 86_400),
            retention_bytes: 0,
            retention_percentage: 0.0,
            min_block_duration: Duration::from_secs(2 * 3_600),
            max_block_duration: None,
            out_of_order_time_window: Duration::ZERO,
            exemplars_max: 100_000,
            stale_series_compaction_threshold: 0.0,
            wal_segment_bytes: 128 << 20,
            wal_compression: WalCompression::default(),
            wal_fsync: Fsync::default(),
            head_series_max: None,
            head_bytes_max: None,
            admitted_first: Self::default_admitted_first(),
            head_snapshots: true,
        }
    }
}
