//! The store: log, head and blocks put together.
//!
//! Lock order: `maintenance`, then `writer`, then `head`, then `blocks`. Whoever appends holds `writer` from checking a batch until the head
//! has it, so batches are applied in the order in which they are logged, and the head does not change between check and change.
//! Queries take `head` for reading, briefly: to select, and to copy the chunks of one series.

mod append;
#[cfg(test)]
mod faults;
mod maintain;
mod open;
mod query;
mod statistics;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use model::{Clock, TimeRange};
use parking_lot::{Mutex, RwLock};

use crate::block::Block;
use crate::disk::{DirLock, Disk};
use crate::head::Head;
use crate::head::views::Views;
use crate::metrics::Metrics;
use crate::options::Options;
use crate::wal::WalError;

pub use maintain::{CutError, MaintainError, Maintenance};
pub use open::OpenError;
pub use statistics::{HeadStatistics, LabelPairCount, NameCount, Statistics};

use append::Writer;

/// A store in one folder.
pub struct Db {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    options: Options,
    metrics: Metrics,
    maintenance: Mutex<Upkeep>,
    writer: Mutex<Writer>,
    head: RwLock<Head>,
    blocks: RwLock<Arc<Blocks>>,
    views: Views,
    /// Keeps other processes out.
    _lock: Box<dyn DirLock>,
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Db")
            .field("dir", &self.dir)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// The blocks that are read, and what is known of those that are not.
#[derive(Debug, Default)]
struct Blocks {
    /// In order of time.
    loaded: Vec<Arc<Block>>,
    left_out: Vec<LeftOut>,
}

/// A block that could not be opened.
#[derive(Clone, Debug)]
struct LeftOut {
    /// The span of its samples, if that could be read.
    range: Option<TimeRange>,
    /// What a query that may miss them is told.
    warning: String,
}

/// What maintenance remembers from one round to the next.
#[derive(Debug, Default)]
struct Upkeep {
    /// Samples before this are in blocks and may be dropped from the head once no query reads them there.
    truncate_before: Option<i64>,
    /// Refs that were logged for a series that has another, and that one.
    aliases: HashMap<u64, u64>,
    /// Refs that are not issued any more, of series that left the head and aliases, with the last log segment that may have samples of
    /// theirs.
    retired: HashMap<u64, u32>,
}

/// The log could not be made durable.
#[derive(Debug, thiserror::Error)]
#[error("cannot sync the write-ahead log: {0}")]
pub struct SyncError(#[from] WalError);

impl Db {
    /// Makes everything that was appended so far durable.
    ///
    /// # Errors
    /// [`SyncError`]: what was appended since the last success may not survive a power cut. It is still in the kernel's memory, and later appends go
    /// to another file.
    pub fn sync(&self) -> Result<(), SyncError> {
        let plan = self.writer.lock().wal.plan_sync();
        // Without the lock: a slow disk delays the sync alone.
        let outcome = plan.run(self.disk.as_ref());
        self.writer.lock().wal.synced(&outcome);
        outcome.into_result().map_err(|error| {
            self.metrics.wal_syncs_failed.inc();
            SyncError(error)
        })
    }

    /// Makes everything durable and accepts no more samples. The folder stays locked until the store is dropped.
    ///
    /// # Errors
    /// As [`sync`](Self::sync).
    pub fn close(&self) -> Result<(), SyncError> {
        self.writer.lock().close();
        self.sync()
    }

    /// Brings the gauges of the head up to date.
    fn update_gauges(&self, head: &Head) {
        let gauge = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.metrics.head_series.set(gauge(head.len() as u64));
        self.metrics.head_chunks.set(gauge(head.chunk_count()));
        if let Some(range) = head.time_range() {
            self.metrics.head_min_time.set(range.min);
            self.metrics.head_max_time.set(range.max);
        }
    }
}
