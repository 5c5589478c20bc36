//! Merging blocks.

use std::path::PathBuf;
use std::sync::Arc;

use ulid::Ulid;

use super::super::Db;
use super::super::load::delete_block;
use super::super::open::milliseconds;
use super::{MaintainError, Maintenance};
use crate::block::merge::merge;
use crate::block::meta::Meta;
use crate::block::plan::{block_spans, plan};
use crate::block::writer::BlockError;
use crate::block::{Access, Block};

impl Db {
    /// Merges blocks until all are as large as they should be, do not overlap, and have few deletions.
    pub(super) fn compact(&self, done: &mut Maintenance) -> Result<(), MaintainError> {
        while !self.is_stopping() {
            let blocks = self.blocks_to_merge();
            if blocks.is_empty() {
                break;
            }
            self.replace_by_merged(&blocks)?;
            done.blocks_merged += 1;
        }
        Ok(())
    }

    fn blocks_to_merge(&self) -> Vec<Arc<Block>> {
        let min = milliseconds(self.options.min_block_duration).max(1);
        let spans = match self.options.max_block_duration {
            // The spans reach a tenth of what they are told.
            Some(max) => block_spans(min, milliseconds(max).saturating_mul(10)),
            None => block_spans(min, milliseconds(self.retention.lock().time)),
        };
        let blocks = Arc::clone(&self.blocks.read());
        // Late samples may be in blocks before the rest of their time is. Merged with others, such a block would not be known for one of late samples any more, and
        // the next start would take the head to begin after it.
        let end = self.head.read().min_valid();
        let is_complete = |meta: &&Meta| meta.max_time <= end || !meta.is_out_of_order();
        let metas: Vec<&Meta> =
            blocks.loaded.iter().map(|block| &block.meta).filter(is_complete).collect();
        let chosen = plan(&metas, &spans);
        let is_chosen = |block: &&Arc<Block>| chosen.contains(&block.meta.ulid);
        blocks.loaded.iter().filter(is_chosen).map(Arc::clone).collect()
    }

    /// Puts one block in the place of `blocks`: all of theirs, without what was deleted.
    pub(in crate::db) fn replace_by_merged(
        &self,
        blocks: &[Arc<Block>],
    ) -> Result<(), MaintainError> {
        let metas: Vec<&Meta> = blocks.iter().map(|block| &block.meta).collect();
        // A block of which this one's blocks were made would come back when they are gone, with what was deleted since.
        self.remove_doomed()?;
        let ulid = self.new_ulid();
        let meta = match metas.as_slice() {
            [only] => Meta::of_cleaned(ulid, only),
            parents => Meta::of_parents(ulid, parents),
        };
        let inputs: Vec<&Block> = blocks.iter().map(Arc::as_ref).collect();
        let is_vertical =
            blocks.windows(2).any(|pair| pair[0].meta.max_time > pair[1].meta.min_time);
        let merged = merge(&self.disk, &self.dir, meta, &inputs, &|| self.is_stopping());
        let merged = match merged {
            Ok(Some((dir, meta))) => Some(Arc::new(self.open_new_block(&dir, meta)?)),
            Ok(None) => None,
            Err(error) => {
                self.metrics.compactions_failed.inc();
                self.discard_block(self.dir.join(ulid.to_string()));
                if let BlockError::Read(_) = &error {
                    self.note_failure(blocks);
                }
                return Err(error.into());
            }
        };
        let parents: Vec<Ulid> = blocks.iter().map(|block| block.meta.ulid).collect();
        match &merged {
            Some(block) => tracing::info!(
                block = %block.meta.ulid, parents = blocks.len(),
                series = block.meta.stats.num_series, samples = block.meta.stats.num_samples,
                "blocks merged"
            ),
            None => tracing::info!(parents = blocks.len(), "nothing is left of blocks"),
        }
        self.metrics.compactions.inc();
        self.metrics.vertical_compactions.inc_by(u64::from(is_vertical));
        self.change_blocks(|all| {
            all.loaded.retain(|block| !parents.contains(&block.meta.ulid));
            all.loaded.extend(merged);
            all.sort();
        });
        // If they stay, the next start knows by the new block's list of parents that they can go.
        self.doomed.lock().extend(blocks.iter().map(|block| block.dir.clone()));
        self.remove_doomed()
    }

    /// Removes a block that is not in use, now or before anything is done that it must not outlive.
    pub(in crate::db) fn discard_block(&self, dir: PathBuf) {
        self.doomed.lock().push(dir);
        if let Err(error) = self.remove_doomed() {
            tracing::error!(%error, "a block that is not in use stays for now");
        }
    }

    /// Removes the blocks that are not in use any more.
    pub(in crate::db) fn remove_doomed(&self) -> Result<(), MaintainError> {
        let mut doomed = self.doomed.lock();
        while let Some(dir) = doomed.last() {
            delete_block(self.disk.as_ref(), dir).map_err(|source| MaintainError::Delete {
                path: dir.display().to_string(),
                source,
            })?;
            doomed.pop();
        }
        Ok(())
    }

    /// Notes that blocks could not be merged because one cannot be read, so that they are not tried again and again.
    fn note_failure(&self, blocks: &[Arc<Block>]) {
        for block in blocks {
            let mut meta = block.meta.clone();
            meta.compaction.failed = true;
            let noted = meta.replace(self.disk.as_ref(), &block.dir);
            let reopened = Block::open(self.disk.as_ref(), &block.dir, meta, Access::ReadWrite);
            match (noted, reopened) {
                (Ok(()), Ok(reopened)) => self.change_blocks(|all| {
                    all.loaded.retain(|other| other.meta.ulid != block.meta.ulid);
                    all.loaded.push(Arc::new(reopened));
                    all.sort();
                }),
                (Err(error), _) => {
                    tracing::warn!(block = %block.dir.display(), %error, "cannot note a failed merge");
                }
                (_, Err(error)) => {
                    tracing::warn!(block = %block.dir.display(), %error, "cannot reopen a block");
                }
            }
        }
    }
}
