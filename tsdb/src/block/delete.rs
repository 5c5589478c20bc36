//! Deleting series, or spans of them, from a block.
//!
//! What is deleted is noted in the `tombstones` file and passed over from then on; a merge of the block leaves it behind.

use std::sync::Arc;

use model::{Matcher, QueryContext, TimeRange};

use super::Block;
use super::tombstones::{TOMBSTONES_FILE, Tombstones};
use super::writer::BlockError;
use crate::disk::Disk;
use crate::postings;

impl Block {
    /// Deletes the samples within `range` of the series that satisfy all matchers of any of `sets`. Returns the block as it is from then on;
    /// `None` if nothing changes.
    pub(crate) fn delete(
        &self,
        disk: &dyn Disk,
        sets: &[Vec<Matcher>],
        range: TimeRange,
        context: &QueryContext,
    ) -> Result<Option<Self>, BlockError> {
        let mut tombstones = self.tombstones.clone();
        for matchers in sets {
            self.add_tombstones(matchers, range, context, &mut tombstones)?;
        }
        if tombstones == self.tombstones {
            return Ok(None);
        }
        tombstones.replace(disk, &self.dir).map_err(|source| {
            let path = self.dir.join(TOMBSTONES_FILE).display().to_string();
            BlockError::Write { path, source }
        })?;
        let mut meta = self.meta.clone();
        meta.stats.num_tombstones = tombstones.len();
        // The deletion is done; opening the block counts the tombstones anew.
        if let Err(error) = meta.replace(disk, &self.dir) {
            tracing::warn!(block = %self.dir.display(), %error, "cannot note the number of tombstones");
        }
        Ok(Some(Self {
            dir: self.dir.clone(),
            meta,
            index: Arc::clone(&self.index),
            chunks: Arc::clone(&self.chunks),
            tombstones,
        }))
    }

    fn add_tombstones(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        context: &QueryContext,
        into: &mut Tombstones,
    ) -> Result<(), BlockError> {
        let mut cursor = self.index.cursor();
        for (i, id) in postings::select(&*self.index, matchers, context)?.into_iter().enumerate() {
            if i % 256 == 0 {
                context.check()?;
            }
            let chunks = &cursor.read(id)?.chunks;
            if let [first, ..] = chunks.as_slice()
                && let [.., last] = chunks.as_slice()
                && chunks.iter().any(|chunk| chunk.range.overlaps(range))
            {
                // Not beyond what there is, so that blocks with many series of short life can be told to be empty.
                let min = range.min.max(first.range.min);
                into.add(u64::from(id), TimeRange::new(min, range.max.min(last.range.max)));
            }
        }
        Ok(())
    }

    /// Whether it has samples that are deleted.
    pub(crate) fn needs_cleaning(&self) -> bool {
        !self.tombstones.is_empty()
    }
}
