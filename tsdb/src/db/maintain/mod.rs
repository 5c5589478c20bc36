//! Maintenance: the head is cut into blocks, the log shortened, old blocks deleted.

mod adopt;
mod compact;
mod cut;
mod retention;
mod scrub;
mod stale;

use std::sync::Arc;

use model::Timestamp;

pub(super) use stale::StaleCut;

use super::open::wal_dir;
use super::{Db, Upkeep};
use crate::Fsync;
use crate::block::writer::BlockError;
use crate::wal::WalError;
use crate::wal::checkpoint::{Keep, Request, checkpoint};
pub(super) use adopt::Files;

/// What a round of maintenance did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Maintenance {
    /// Blocks that were cut from the head.
    pub blocks_cut: u32,
    /// Blocks that others had put into the folder.
    pub blocks_adopted: u32,
    /// Blocks that were made of others, or of one without what was deleted from it.
    pub blocks_merged: u32,
    /// Blocks that were deleted because they are older than the retention, or there is no room for them.
    pub blocks_deleted: u32,
    /// Series that left the head.
    pub series_dropped: usize,
    /// Whether segments of the log were replaced by a checkpoint.
    pub checkpointed: bool,
}

/// Why a round of maintenance stopped early. Nothing is lost; the next round tries again.
#[derive(Debug, thiserror::Error)]
pub enum MaintainError {
    /// A block could not be written.
    #[error(transparent)]
    Cut(CutError),
    /// The log could not be shortened.
    #[error("cannot shorten the write-ahead log: {0}")]
    Checkpoint(String),
    /// The process is to stop.
    #[error("maintenance was interrupted")]
    Interrupted,
    /// A block could not be deleted.
    #[error("cannot delete block {path}: {source}")]
    Delete {
        /// The block's folder.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Why a block was not cut.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CutError(String);

impl From<BlockError> for MaintainError {
    fn from(error: BlockError) -> Self {
        match error {
            BlockError::Cancelled => Self::Interrupted,
            error => Self::Cut(CutError(error.to_string())),
        }
    }
}

impl From<WalError> for MaintainError {
    fn from(error: WalError) -> Self {
        Self::Checkpoint(error.to_string())
    }
}

impl Db {
    /// One round of maintenance. Appends and queries go on meanwhile.
    ///
    /// # Errors
    /// [`MaintainError`] says what could not be done; the next round tries again.
    pub fn maintain(&self) -> Result<Maintenance, MaintainError> {
        let mut upkeep = self.maintenance.lock();
        let mut done = Maintenance::default();
        if self.is_read_only() || self.is_stopping() {
            return Ok(done);
        }
        done.blocks_adopted = self.adopt_blocks(&mut upkeep);
        self.head.write().chunks.flush();
        self.drop_late(&mut upkeep);
        self.write_late_chunks()?;
        self.scrub_log(&mut upkeep);
        if self.options.wal_fsync == Fsync::Never {
            self.sync_complete_segments();
        }
        while self.head.read().is_cut_due() && !self.is_stopping() {
            if let Err(error) = self.cut(&mut upkeep, &mut done) {
                self.metrics.compactions_failed.inc();
                return Err(error);
            }
        }
        if done.blocks_cut > 0 || upkeep.late_boundary.is_some() {
            self.cut_late(&mut upkeep, &mut done)?;
            self.drop_late(&mut upkeep);
        }
        self.cut_stale(&mut upkeep, &mut done)?;
        done.series_dropped += self.drop_stale(&mut upkeep)?;
        if let Some(before) = upkeep.truncate_before
            && !self.views.needs_before(before)
        {
            done.series_dropped += self.truncate(&mut upkeep, before);
            upkeep.truncate_before = None;
            done.checkpointed = self.checkpoint(&mut upkeep, before)?;
        }
        // First what need not be merged any more.
        done.blocks_deleted = self.delete_old_blocks()?;
        self.compact(&mut done)?;
        self.snapshot_if_due(&mut upkeep, done.checkpointed);
        let bytes = self.head.read().bytes();
        self.metrics.head_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        Ok(done)
    }

    /// Brings the gauges of the blocks up to date.
    pub(super) fn update_block_gauges(&self) {
        let blocks = Arc::clone(&self.blocks.read());
        let gauge = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.metrics.blocks_loaded.set(gauge(blocks.loaded.len() as u64));
        self.metrics.blocks_bytes.set(gauge(blocks.loaded.iter().map(|block| block.bytes()).sum()));
        if let Some(first) = blocks.loaded.first() {
            self.metrics.lowest_time.set(first.meta.min_time);
        }
    }

    /// Drops from the head what is in blocks, and the series that ended there.
    fn truncate(&self, upkeep: &mut Upkeep, before: Timestamp) -> usize {
        // Nothing may be appended between plan and change, and the log moves on to a segment without the dropped series.
        let mut writer = self.writer.lock();
        let plan = self.head.read().plan_truncation(before);
        let dropped = {
            let mut head = self.head.write();
            let dropped = head.truncate(plan);
            self.update_gauges(&head);
            dropped
        };
        let segment = writer.wal.segment_number();
        writer.wal.close_segment();
        upkeep.retired.extend(dropped.iter().map(|series| (series.series, segment)));
        self.metrics.series_removed.inc_by(dropped.len() as u64);
        dropped.len()
    }

    /// Replaces the older segments of the log by a checkpoint.
    fn checkpoint(&self, upkeep: &mut Upkeep, mint: Timestamp) -> Result<bool, MaintainError> {
        let dir = wal_dir(self);
        let request = Request {
            disk: &self.disk,
            dir: &dir,
            mint,
            current: self.writer.lock().wal.segment_number(),
            segment_bytes: self.options.wal_segment_bytes,
            compression: self.options.wal_compression,
        };
        self.metrics.checkpoints.inc();
        let last_ref = self.head.read().next_ref() - 1;
        let keep = Needed { db: self, upkeep, last_ref };
        let made =
            checkpoint(&request, &keep).inspect_err(|_| self.metrics.checkpoints_failed.inc())?;
        let Some(made) = made else { return Ok(false) };
        self.metrics.wal_corruptions.inc_by(made.corruptions);
        upkeep.retired.retain(|_, segment| *segment > made.last);
        let Upkeep { aliases, retired, .. } = upkeep;
        aliases.retain(|alias, _| retired.contains_key(alias));
        Ok(true)
    }
}

/// 80 bits that no other block of the same millisecond has.
pub(super) fn random() -> u128 {
    use std::hash::{BuildHasher, RandomState};
    let bits = || u128::from(RandomState::new().hash_one(0_u8));
    (bits() << 64 | bits()) & ((1 << 80) - 1)
}

/// What a checkpoint must carry over.
struct Needed<'a> {
    db: &'a Db,
    upkeep: &'a Upkeep,
    /// The last ref that was issued. Its series stays in the log, so that the ref is not issued again after a restart.
    last_ref: u64,
}

impl Keep for Needed<'_> {
    fn series(&self, series: u64) -> bool {
        series == self.last_ref
            || self.upkeep.retired.contains_key(&series)
            || self.db.head.read().slot(series).is_some()
    }

    fn canonical(&self, series: u64) -> u64 {
        self.upkeep.aliases.get(&series).copied().unwrap_or(series)
    }
}
