//! Series that have ended leave the head early.
//!
//! Where pods come and go, most series of a head may have ended. When they are a large enough part of it, they are cut into blocks of their own and
//! dropped, instead of staying until their time is cut. The log says so with a deletion of all times, as Prometheus's does.

use std::collections::HashSet;
use std::sync::Arc;

use model::{Timestamp, is_stale};

use super::super::{Db, Upkeep};
use super::{MaintainError, Maintenance};
use crate::block::Block;
use crate::block::meta::{HINT_STALE_SERIES, Meta};
use crate::head::Head;
use crate::head::cut::Cut;
use crate::wal::record::{self, Deleted};

/// Fewer series are not worth it.
const SERIES_MIN: usize = 1000;

/// Ended series whose samples are in blocks.
#[derive(Debug)]
pub(in crate::db) struct StaleCut {
    /// Series refs, each with the time of its last sample.
    series: Vec<(u64, Timestamp)>,
    /// Views up to this number read them from the head.
    last_view: u32,
}

impl Head {
    /// The series that have ended and have no late samples, each with the time of its last sample.
    fn ended(&self) -> Vec<(u64, Timestamp)> {
        let slots = 0..u32::try_from(self.len()).unwrap_or(u32::MAX);
        slots
            .filter_map(|slot| {
                let last = self.last(slot).filter(|last| is_stale(last.v))?;
                let series = self.series_ref(slot);
                (!self.late.contains(series)).then_some((series, last.t))
            })
            .collect()
    }
}

impl Db {
    /// Cuts the series that have ended, if there are enough of them.
    pub(super) fn cut_stale(
        &self,
        upkeep: &mut Upkeep,
        done: &mut Maintenance,
    ) -> Result<(), MaintainError> {
        let threshold = self.stale_threshold();
        if threshold <= 0.0 || upkeep.stale.is_some() || upkeep.truncate_before.is_some() {
            return Ok(());
        }
        let (series, blocks) = {
            let head = self.head.read();
            let ended = head.ended();
            if ended.len() < SERIES_MIN || !is_share(ended.len(), head.len(), threshold) {
                return Ok(());
            }
            drop(head);
            let blocks = self.write_stale_blocks(&ended)?;
            (ended, blocks)
        };
        done.blocks_cut += u32::try_from(blocks.len()).unwrap_or(u32::MAX);
        let _head = self.head.write();
        self.add_blocks(blocks);
        upkeep.stale = Some(StaleCut { series, last_view: self.views.last_number() });
        Ok(())
    }

    fn write_stale_blocks(
        &self,
        ended: &[(u64, Timestamp)],
    ) -> Result<Vec<Arc<Block>>, MaintainError> {
        let refs: HashSet<u64> = ended.iter().map(|(series, _)| *series).collect();
        let (starts, width) = {
            let head = self.head.read();
            (head.range_starts(), head.chunk_range())
        };
        let Some(last) = ended.iter().map(|(_, t)| *t).max() else { return Ok(Vec::new()) };
        let mut blocks = Vec::new();
        for start in starts.into_iter().filter(|start| *start <= last) {
            let end = start.saturating_add(width);
            let wants = |series| refs.contains(&series);
            let plan = self.head.read().plan_cut(start, end, Cut::InOrder, wants);
            let mut meta = Meta::of_head(self.new_ulid(), start, end);
            meta.compaction.hints = vec![String::from(HINT_STALE_SERIES)];
            match self.write_head_block(plan, meta) {
                Ok(block) => blocks.extend(block),
                Err(error) => {
                    self.discard_blocks(&blocks);
                    return Err(error);
                }
            }
        }
        Ok(blocks)
    }

    /// Drops ended series that are in blocks, once no query reads them in the head; how many.
    pub(super) fn drop_stale(&self, upkeep: &mut Upkeep) -> Result<usize, MaintainError> {
        let is_read =
            |cut: &StaleCut| self.views.oldest().is_some_and(|view| view <= cut.last_view);
        let Some(cut) = upkeep.stale.as_ref().filter(|cut| !is_read(cut)) else { return Ok(0) };
        let mut writer = self.writer.lock();
        let mut head = self.head.write();
        // One that goes on, or got late samples meanwhile, stays.
        let still_ended = |(series, t): &(u64, Timestamp)| {
            let last = head.slot(*series).and_then(|slot| head.last(slot));
            last.is_some_and(|last| last.t == *t) && !head.late.contains(*series)
        };
        let dropped: HashSet<u64> = cut
            .series
            .iter()
            .filter(|ended| still_ended(ended))
            .map(|(series, _)| *series)
            .collect();
        let mut record = Vec::new();
        for &series in &dropped {
            let (min, max) = (Timestamp::MIN, Timestamp::MAX);
            record::put_deleted(&mut record, Deleted { series, min, max });
        }
        writer.wal.append(&[&record])?;
        // Not sooner: what the log does not take is dropped in a later round, not cut again.
        upkeep.stale = None;
        let plan = head.plan_truncation_without(Timestamp::MIN, &dropped);
        let gone = head.truncate(plan);
        self.update_gauges(&head);
        let segment = writer.wal.segment_number();
        writer.wal.close_segment();
        upkeep.retired.extend(gone.iter().map(|series| (series.series, segment)));
        self.metrics.series_removed.inc_by(gone.len() as u64);
        Ok(gone.len())
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share need not be exact")]
fn is_share(part: usize, whole: usize, threshold: f64) -> bool {
    part as f64 / whole.max(1) as f64 >= threshold
}
