//! Maintenance: the head is cut into blocks, the log shortened, old blocks deleted.

use std::path::Path;
use std::sync::Arc;

use model::Timestamp;
use ulid::Ulid;

use super::open::{delete_block, milliseconds, wal_dir};
use super::{Blocks, Db, Upkeep};
use crate::block::Block;
use crate::block::meta::Meta;
use crate::block::writer::{BlockError, write_block};
use crate::disk::exists;
use crate::head::range_end;
use crate::wal::WalError;
use crate::wal::checkpoint::{Keep, Request, checkpoint};

/// What a round of maintenance did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Maintenance {
    /// Blocks that were cut from the head.
    pub blocks_cut: u32,
    /// Blocks that were deleted because they are older than the retention.
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
        Self::Cut(CutError(error.to_string()))
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
        while self.head.read().is_cut_due() {
            if let Err(error) = self.cut(&mut upkeep, &mut done) {
                self.metrics.compactions_failed.inc();
                return Err(error);
            }
        }
        if let Some(before) = upkeep.truncate_before
            && !self.views.needs_before(before)
        {
            done.series_dropped = self.truncate(&mut upkeep, before);
            upkeep.truncate_before = None;
            done.checkpointed = self.checkpoint(&mut upkeep, before)?;
        }
        done.blocks_deleted = self.delete_old_blocks()?;
        Ok(done)
    }

    /// Writes the oldest block range of the head to a block, from which queries read from then on.
    fn cut(&self, upkeep: &mut Upkeep, done: &mut Maintenance) -> Result<(), MaintainError> {
        let (plan, start, end) = {
            let head = self.head.read();
            let Some(range) = head.time_range() else { return Ok(()) };
            let end = range_end(range.min, head.chunk_range());
            let start = head.min_valid().max(end.saturating_sub(head.chunk_range()));
            (head.plan_cut(start, end), start, end)
        };
        let block = if plan.len() == 0 {
            None
        } else {
            let now = self.clock.now().max(0).unsigned_abs();
            let meta = Meta::of_head(Ulid::from_parts(now, random()), start, end);
            let mut read = |plan: &_, index, into: &mut _| {
                self.head.read().cut_series(plan, index, into);
            };
            let (dir, meta) = write_block(&self.disk, &self.dir, meta, plan, &mut read)?;
            Some(self.open_new_block(&dir, meta)?)
        };
        {
            // At one moment for queries: before it they read the head, after it the block.
            let mut head = self.head.write();
            if let Some(block) = block {
                tracing::info!(
                    block = %block.meta.ulid, series = block.meta.stats.num_series,
                    samples = block.meta.stats.num_samples, "block cut from the head"
                );
                done.blocks_cut += 1;
                self.metrics.compactions.inc();
                self.change_blocks(|blocks| {
                    blocks.loaded.push(Arc::new(block));
                    blocks.sort();
                });
            }
            head.set_min_valid(end);
            self.update_gauges(&head);
        }
        upkeep.truncate_before = Some(end);
        Ok(())
    }

    /// Opens a block just written. One that cannot be read is deleted: the head still has what it should contain.
    fn open_new_block(&self, dir: &Path, meta: Meta) -> Result<Block, MaintainError> {
        let chunks_skipped = self.metrics.chunks_skipped.clone();
        Block::open(self.disk.as_ref(), dir, meta, chunks_skipped).map_err(|error| {
            if let Err(error) = delete_block(self.disk.as_ref(), dir) {
                tracing::error!(block = %dir.display(), %error, "cannot delete a broken block");
            }
            MaintainError::Cut(CutError(error.to_string()))
        })
    }

    fn change_blocks(&self, change: impl FnOnce(&mut Blocks)) {
        let mut current = self.blocks.write();
        let mut blocks =
            Blocks { loaded: current.loaded.clone(), left_out: current.left_out.clone() };
        change(&mut blocks);
        *current = Arc::new(blocks);
        drop(current);
        self.update_block_gauges();
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

    /// Deletes the blocks that ended longer than the retention before the newest block did. As in Prometheus, neither the clock nor a stray
    /// sample in the head can delete a block.
    fn delete_old_blocks(&self) -> Result<u32, MaintainError> {
        let retention = milliseconds(self.options.retention);
        let blocks = Arc::clone(&self.blocks.read());
        let newest = blocks.loaded.iter().map(|block| block.meta.max_time).max();
        let Some(newest) = newest.filter(|_| retention > 0) else { return Ok(0) };
        let is_old = |block: &Block| newest.saturating_sub(block.meta.max_time) >= retention;
        let mut deleted = 0;
        for block in blocks.loaded.iter().filter(|block| is_old(block)) {
            // Queries that read it have its files open and go on.
            let removed = delete_block(self.disk.as_ref(), &block.dir);
            if removed.is_ok() || !exists(self.disk.as_ref(), &block.dir).unwrap_or(true) {
                self.change_blocks(|blocks| {
                    blocks.loaded.retain(|other| other.meta.ulid != block.meta.ulid);
                });
            }
            removed.map_err(|source| MaintainError::Delete {
                path: block.dir.display().to_string(),
                source,
            })?;
            tracing::info!(block = %block.meta.ulid, "block is older than the retention, deleted");
            self.metrics.retentions.inc();
            deleted += 1;
        }
        Ok(deleted)
    }
}

/// 80 bits that no other block of the same millisecond has.
fn random() -> u128 {
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
