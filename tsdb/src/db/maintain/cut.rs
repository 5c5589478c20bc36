//! Cutting the head: what is complete becomes a block.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use model::Timestamp;
use ulid::Ulid;

use super::super::sources::HeadSource;
use super::super::{Blocks, Db, Upkeep};
use super::{CutError, MaintainError, Maintenance, random};
use crate::block::meta::{HINT_OUT_OF_ORDER, Meta};
use crate::block::writer::write_block_from;
use crate::block::{Access, Block};
use crate::head::cut::{Cut, CutPlan};
use crate::head::range_end;
use crate::wal::segments;

use super::super::open::{WBL_DIR, failed};

impl Db {
    /// Writes the oldest block range of the head to a block, from which queries read from then on.
    pub(super) fn cut(
        &self,
        upkeep: &mut Upkeep,
        done: &mut Maintenance,
    ) -> Result<(), MaintainError> {
        let (plan, start, end) = {
            let head = self.head.read();
            let Some(range) = head.time_range() else { return Ok(()) };
            let end = range_end(range.min, head.chunk_range());
            let start = head.min_valid().max(end.saturating_sub(head.chunk_range()));
            (head.plan_cut(start, end, Cut::InOrder, |_| true), start, end)
        };
        let block = self.write_head_block(plan, Meta::of_head(self.new_ulid(), start, end))?;
        {
            // At one moment for queries: before it they read the head, after it the block.
            let mut head = self.head.write();
            done.blocks_cut += u32::from(block.is_some());
            self.add_blocks(block.into_iter().collect());
            head.set_min_valid(end);
            self.update_gauges(&head);
        }
        upkeep.truncate_before = Some(end);
        Ok(())
    }

    /// A name for a block that no other has.
    pub(in crate::db) fn new_ulid(&self) -> Ulid {
        Ulid::from_parts(self.clock.now().max(0).unsigned_abs(), random())
    }

    /// Writes and opens a block; `None` if it would be empty.
    pub(in crate::db) fn write_head_block(
        &self,
        plan: CutPlan,
        meta: Meta,
    ) -> Result<Option<Arc<Block>>, MaintainError> {
        if plan.len() == 0 {
            return Ok(None);
        }
        let mut source = HeadSource::new(self, plan);
        let dir = self.dir.join(meta.ulid.to_string());
        let written = write_block_from(&self.disk, &self.dir, meta, &mut source);
        // It may be in place all the same.
        let Some((dir, meta)) = written.inspect_err(|_| self.discard_block(dir))? else {
            return Ok(None);
        };
        let block = self.open_new_block(&dir, meta)?;
        tracing::info!(
            block = %block.meta.ulid, series = block.meta.stats.num_series,
            samples = block.meta.stats.num_samples, "block cut from the head"
        );
        self.metrics.compactions.inc();
        Ok(Some(Arc::new(block)))
    }

    /// Opens a block just written. One that cannot be read is deleted: what it was made of is still there.
    pub(in crate::db) fn open_new_block(
        &self,
        dir: &Path,
        meta: Meta,
    ) -> Result<Block, MaintainError> {
        Block::open(self.disk.as_ref(), dir, meta, Access::ReadWrite).map_err(|error| {
            self.discard_block(dir.to_path_buf());
            MaintainError::Cut(CutError(error.to_string()))
        })
    }

    pub(in crate::db) fn add_blocks(&self, added: Vec<Arc<Block>>) {
        if !added.is_empty() {
            self.change_blocks(|blocks| {
                blocks.loaded.extend(added);
                blocks.sort();
            });
        }
    }

    pub(in crate::db) fn change_blocks(&self, change: impl FnOnce(&mut Blocks)) {
        let mut current = self.blocks.write();
        let mut blocks =
            Blocks { loaded: current.loaded.clone(), left_out: current.left_out.clone() };
        change(&mut blocks);
        *current = Arc::new(blocks);
        drop(current);
        self.update_block_gauges();
    }

    /// Writes out the late samples of series that have enough for a chunk, so that they need no memory. Queries that are open keep theirs where
    /// they saw them.
    pub(super) fn write_late_chunks(&self) -> Result<(), MaintainError> {
        let mut writer = self.writer.lock();
        let mut head = self.head.write();
        // A view sees late samples up to a batch; a chunk has none, so it may hold only what all views see.
        if self.views.oldest().is_some() {
            return Ok(());
        }
        let markers = head.write_late_chunks();
        if !markers.is_empty() {
            head.chunks.flush();
            writer.wbl.append(&[&markers])?;
        }
        Ok(())
    }

    /// Cuts all late samples into blocks of their own, one for each block range. They overlap others, which compaction mends.
    pub(in crate::db) fn cut_late(
        &self,
        upkeep: &mut Upkeep,
        done: &mut Maintenance,
    ) -> Result<(), MaintainError> {
        if let Some(boundary) = upkeep.late_boundary
            && (upkeep.late_in_blocks.is_some() || self.head.read().late.frozen_range().is_none())
        {
            // They are in blocks, but could not be removed from their log: they would come back, with what was deleted since.
            self.remove_late_segments(boundary)?;
            upkeep.late_boundary = None;
        }
        if upkeep.late_in_blocks.is_some() {
            // The last ones are still read by queries.
            return Ok(());
        }
        let Some((starts, width, boundary)) = self.freeze_late(upkeep)? else { return Ok(()) };
        let mut blocks = Vec::new();
        for start in starts {
            let end = start.saturating_add(width);
            let plan = self.head.read().plan_cut(start, end, Cut::Late, |_| true);
            let mut meta = Meta::of_head(self.new_ulid(), start, end);
            meta.compaction.hints = vec![String::from(HINT_OUT_OF_ORDER)];
            match self.write_head_block(plan, meta) {
                Ok(block) => blocks.extend(block),
                Err(error) => {
                    self.discard_blocks(&blocks);
                    return Err(error);
                }
            }
        }
        done.blocks_cut += u32::try_from(blocks.len()).unwrap_or(u32::MAX);
        {
            let _head = self.head.write();
            self.add_blocks(blocks);
            upkeep.late_in_blocks = Some(self.views.last_number());
        }
        self.remove_late_segments(boundary)?;
        upkeep.late_boundary = None;
        Ok(())
    }

    /// Sets the late samples aside: where the block ranges begin that have some, the width of a block, and the first segment of the log that has
    /// none of them.
    fn freeze_late(
        &self,
        upkeep: &mut Upkeep,
    ) -> Result<Option<(BTreeSet<Timestamp>, i64, u32)>, MaintainError> {
        let mut writer = self.writer.lock();
        let mut head = self.head.write();
        // After a failure, what was set aside then is cut, and the segments since stay.
        if upkeep.late_boundary.is_none() {
            if head.late.is_empty() {
                return Ok(None);
            }
            // The next segment is there before the last ones go: promtool stumbles over an empty folder.
            writer.wbl.close_segment();
            writer.wbl.open_segment()?;
            head.late.freeze();
            upkeep.late_boundary = Some(writer.wbl.segment_number());
        }
        let width = head.chunk_range();
        let starts = head.late.frozen_starts(width);
        Ok(upkeep
            .late_boundary
            .filter(|_| !starts.is_empty())
            .map(|boundary| (starts, width, boundary)))
    }

    pub(super) fn discard_blocks(&self, blocks: &[Arc<Block>]) {
        for block in blocks {
            self.discard_block(block.dir.clone());
        }
    }

    /// Removes the segments of the log of late samples before `boundary`.
    fn remove_late_segments(&self, boundary: u32) -> Result<(), MaintainError> {
        let dir = self.dir.join(WBL_DIR);
        let remove = || {
            let listing = segments::list(self.disk.as_ref(), &dir)?;
            for (_, path) in listing.segments.iter().filter(|(number, _)| *number < boundary) {
                self.disk.remove_file(path)?;
            }
            self.disk.sync_dir(&dir)
        };
        remove().map_err(|error| MaintainError::Checkpoint(failed(&dir)(error).to_string()))
    }

    /// Drops late samples that are in blocks, once no query needs them where they were.
    pub(in crate::db) fn drop_late(&self, upkeep: &mut Upkeep) {
        if let Some(last_view) = upkeep.late_in_blocks
            && self.views.oldest().is_none_or(|oldest| oldest > last_view)
        {
            self.head.write().late.drop_frozen();
            upkeep.late_in_blocks = None;
        }
    }
}
