//! Blocks that others put into the folder while it is open, an import for example.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use model::Timestamp;
use ulid::Ulid;

use super::super::load::open_block;
use super::super::{Db, Upkeep};
use crate::disk::Disk;

/// The files of a block with their lengths.
pub(in crate::db) type Files = Vec<(String, u64)>;

impl Db {
    /// Opens the blocks that are new in the folder; how many. What the start found is not looked at again.
    ///
    /// A block is left where it is and looked at again in the next round while its files change, since it may be half copied; if it cannot be opened; and if it
    /// reaches into what the head has or beyond: the next start would take the head to begin after it, and nothing that is older would be left of retention.
    pub(super) fn adopt_blocks(&self, upkeep: &mut Upkeep) -> u32 {
        let listed = match self.disk.list(&self.dir) {
            Ok(listed) => listed,
            Err(error) => {
                tracing::warn!(dir = %self.dir.display(), %error, "cannot look for new blocks");
                return 0;
            }
        };
        let blocks = Arc::clone(&self.blocks.read());
        let is_loaded = |ulid: &Ulid| blocks.loaded.iter().any(|block| block.meta.ulid == *ulid);
        // One that a loaded block was made of is on its way out.
        let is_parent = |ulid: &Ulid| {
            let mut parents = blocks.loaded.iter().flat_map(|block| &block.meta.compaction.parents);
            parents.any(|parent| parent.ulid == *ulid)
        };
        let doomed = self.doomed.lock().clone();
        let end = self.end_of_adoptable();
        let before = std::mem::take(&mut upkeep.waiting);
        let mut waiting = HashMap::new();
        let mut adopted = Vec::new();
        for entry in listed.into_iter().filter(|entry| entry.is_dir) {
            let Ok(ulid) = Ulid::from_string(&entry.name) else { continue };
            let dir = self.dir.join(&entry.name);
            if upkeep.found_at_start.contains(&ulid)
                || is_loaded(&ulid)
                || is_parent(&ulid)
                || doomed.contains(&dir)
            {
                continue;
            }
            let files = files_of(self.disk.as_ref(), &dir).unwrap_or_default();
            let is_settled = before.get(&ulid) == Some(&files);
            if is_settled {
                match open_block(self.disk.as_ref(), &dir, true) {
                    Ok(block) if block.meta.max_time <= end => {
                        tracing::info!(block = %ulid, "a block was put into the folder");
                        adopted.push(Arc::new(block));
                        continue;
                    }
                    Ok(block) => {
                        let (from, until) = (block.meta.min_time, block.meta.max_time);
                        tracing::debug!(block = %ulid, from, until, end, "a new block is not read yet: the head is not that far");
                    }
                    Err(broken) => {
                        tracing::warn!(block = %ulid, reason = broken.reason(), "a new block cannot be opened");
                    }
                }
            }
            waiting.insert(ulid, files);
        }
        upkeep.waiting = waiting;
        let count = u32::try_from(adopted.len()).unwrap_or(u32::MAX);
        self.add_blocks(adopted);
        count
    }

    /// Where a block must end at the latest: before what the head has; without that, now.
    fn end_of_adoptable(&self) -> Timestamp {
        let head = self.head.read();
        match head.time_range() {
            Some(range) => range.min.max(head.min_valid()),
            None => self.clock.now(),
        }
    }
}

/// The files in and below `dir`, with their lengths.
fn files_of(disk: &dyn Disk, dir: &Path) -> io::Result<Files> {
    let mut files = Vec::new();
    for entry in disk.list(dir)? {
        let path = dir.join(&entry.name);
        if entry.is_dir {
            for (name, len) in files_of(disk, &path)? {
                files.push((format!("{}/{name}", entry.name), len));
            }
        } else {
            files.push((entry.name, disk.open(&path)?.len()?));
        }
    }
    Ok(files)
}
