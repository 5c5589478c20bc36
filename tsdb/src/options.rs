//! How a store behaves.

use std::time::Duration;

/// Compression of log records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WalCompression {
    /// Records as they are.
    None,
    /// Snappy, Prometheus's default.
    #[default]
    Snappy,
}

/// Options of a store. The defaults are Prometheus's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Blocks that ended this long or longer before the newest block did are deleted; zero keeps them all.
    pub retention: Duration,
    /// Span of a block; the head is cut when it spans one and a half of it. At least 1 ms.
    pub min_block_duration: Duration,
    /// Bytes after which a log segment is full.
    pub wal_segment_bytes: u64,
    /// Compression of log records.
    pub wal_compression: WalCompression,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            retention: Duration::from_secs(15 * 86_400),
            min_block_duration: Duration::from_secs(2 * 3_600),
            wal_segment_bytes: 128 << 20,
            wal_compression: WalCompression::default(),
        }
    }
}
