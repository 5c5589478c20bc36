//! The store: log, head and blocks put together.
//!
//! Lock order: `maintenance`, then `writer`, then `head`, then `blocks`. Whoever appends holds `writer` from checking a batch until the head
//! has it, so batches are applied in the order in which they are logged, and the head does not change between check and change.
//! Queries take `head` for reading, briefly: to select, and to copy the chunks of one series.

mod admin;
mod append;
#[cfg(test)]
mod faults;
mod load;
mod maintain;
mod open;
mod query;
mod replay;
mod snapshot;
mod sources;
mod statistics;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use model::{Clock, TimeRange};
use parking_lot::{Mutex, RwLock};
use ulid::Ulid;

use crate::block::Block;
use crate::disk::{DirLock, Disk};
use crate::head::Head;
use crate::head::views::Views;
use crate::metrics::Metrics;
use crate::options::Options;
use crate::wal::{SyncOutcome, WalError};

pub use admin::AdminError;
pub use maintain::{CutError, MaintainError, Maintenance};
pub use open::OpenError;
pub(crate) use open::{WAL_DIR, WBL_DIR};
pub use replay::ReplayProgress;
pub use statistics::{HeadStatistics, LabelPairCount, NameCount, Statistics};

use append::Writer;

/// A store in one folder.
pub struct Db {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    options: Options,
    retention: Mutex<Retention>,
    /// Samples late by no more milliseconds are accepted; 0 for none.
    late_window: AtomicI64,
    /// Bits of the share of ended series from which on they are cut.
    stale_threshold: AtomicU64,
    metrics: Metrics,
    maintenance: Mutex<Upkeep>,
    writer: Mutex<Writer>,
    head: RwLock<Head>,
    blocks: RwLock<Arc<Blocks>>,
    views: Views,
    /// Folders of blocks that are not in use and are still to be removed: the next start would take them for blocks.
    doomed: Mutex<Vec<PathBuf>>,
    may_write: bool,
    /// Maintenance is to end soon.
    stopping: AtomicBool,
    /// Keeps other processes out.
    lock: Option<Box<dyn DirLock>>,
}

/// What is kept. Each bound is off when it is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Retention {
    /// Samples this much older than the newest are deleted.
    pub time: Duration,
    /// Blocks are deleted, oldest first, while the store takes more bytes.
    pub bytes: u64,
    /// As `bytes`, in hundredths of the file system's size.
    pub percentage: f64,
}

impl Retention {
    const fn of(options: &Options) -> Self {
        Self {
            time: options.retention,
            bytes: options.retention_bytes,
            percentage: options.retention_percentage,
        }
    }
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
    /// It was put aside; one that was not may be read again after the next start.
    is_aside: bool,
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
    /// Late samples that were set aside are in blocks. They may be dropped from the head once the views up to this number are closed.
    late_in_blocks: Option<u32>,
    /// Late samples were set aside and are not in blocks yet; the first segment of their log that has none of them.
    late_boundary: Option<u32>,
    /// Ended series were cut and are still in the head.
    stale: Option<maintain::StaleCut>,
    /// Segments of the log that a start with a snapshot did not read, to be looked through for damage.
    unread_segments: Vec<u32>,
    /// The newest snapshot of the head that was taken since the start.
    snapshot: Option<snapshot::Taken>,
    /// The first segment of the log that was written since the start.
    first_segment: u32,
    /// Folders of blocks that were there at the start, whatever became of them.
    found_at_start: HashSet<Ulid>,
    /// Blocks that came later and are not read yet, with the files that they had in the last round.
    waiting: HashMap<Ulid, maintain::Files>,
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
        let plans = {
            let mut writer = self.writer.lock();
            [writer.wal.plan_sync(), writer.wbl.plan_sync()]
        };
        // Without the lock: a slow disk delays the sync alone.
        let [wal, wbl] = plans.map(|plan| plan.run(self.disk.as_ref()));
        let mut writer = self.writer.lock();
        writer.wal.synced(&wal);
        writer.wbl.synced(&wbl);
        drop(writer);
        Ok(self.synced(wal).and(self.synced(wbl))?)
    }

    /// Makes the segments of the logs durable that are complete. A failure is logged: nothing was promised.
    fn sync_complete_segments(&self) {
        let plans = {
            let writer = self.writer.lock();
            [writer.wal.plan_sync_of_complete(), writer.wbl.plan_sync_of_complete()]
        };
        let [wal, wbl] = plans.map(|plan| plan.run(self.disk.as_ref()));
        let mut writer = self.writer.lock();
        writer.wal.synced(&wal);
        writer.wbl.synced(&wbl);
        drop(writer);
        if let Err(error) = self.synced(wal).and(self.synced(wbl)) {
            tracing::error!(%error, "cannot sync a complete segment of the log");
        }
    }

    fn synced(&self, outcome: SyncOutcome) -> Result<(), WalError> {
        outcome.into_result().inspect_err(|_| self.metrics.wal_syncs_failed.inc())
    }

    /// Makes what is in the logs durable while the writer is held.
    fn sync_now(&self, writer: &mut Writer) -> Result<(), WalError> {
        let Writer { wal, wbl, .. } = writer;
        for log in [wal, wbl] {
            let outcome = log.plan_sync().run(self.disk.as_ref());
            log.synced(&outcome);
            self.synced(outcome)?;
        }
        Ok(())
    }

    /// Makes everything durable and accepts no more samples. The folder stays locked until the store is dropped.
    ///
    /// # Errors
    /// As [`sync`](Self::sync).
    pub fn close(&self) -> Result<(), SyncError> {
        self.interrupt();
        self.writer.lock().close();
        if self.is_read_only() {
            return Ok(());
        }
        self.sync()?;
        self.take_snapshot(&mut self.maintenance.lock());
        Ok(())
    }

    /// Makes a round of maintenance that runs end soon, and those that follow do nothing: the process is to stop.
    pub fn interrupt(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Whether the store was opened to be looked at alone.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        !self.may_write
    }

    /// Whether a query would have to wait now: the head is being changed, or somebody waits to change it.
    #[must_use]
    pub fn is_changing(&self) -> bool {
        self.head.try_read().is_none()
    }

    /// What is kept from now on.
    pub fn set_retention(&self, retention: Retention) {
        *self.retention.lock() = retention;
    }

    /// Samples late by no more than `window` are accepted out of order from now on; zero for none.
    pub fn set_out_of_order_time_window(&self, window: Duration) {
        self.late_window.store(open::milliseconds(window), Ordering::Relaxed);
    }

    /// At most this many exemplars are kept from now on.
    pub fn set_exemplars_max(&self, count_max: usize) {
        self.head.write().exemplars.resize(count_max);
    }

    /// Series that have ended leave the head early from now on when they are this part of it; zero to wait until their time is cut.
    pub fn set_stale_series_compaction_threshold(&self, share: f64) {
        self.stale_threshold.store(share.to_bits(), Ordering::Relaxed);
    }

    fn stale_threshold(&self) -> f64 {
        f64::from_bits(self.stale_threshold.load(Ordering::Relaxed))
    }

    fn late_window(&self) -> i64 {
        self.late_window.load(Ordering::Relaxed)
    }

    /// Brings the gauges of the head up to date.
    fn update_gauges(&self, head: &Head) {
        let gauge = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.metrics.head_series.set(gauge(head.len() as u64));
        self.metrics.head_chunks.set(gauge(head.chunk_count()));
        self.metrics.exemplars.set(gauge(head.exemplars.len() as u64));
        if let Some(range) = head.time_range() {
            self.metrics.head_min_time.set(range.min);
            self.metrics.head_max_time.set(range.max);
        }
    }
}
