//! Blocks that others put into the folder while it is open, an import for example.

use std::sync::Arc;

use ulid::Ulid;

use super::super::load::open_block;
use super::super::{Db, Upkeep};

impl Db {
    /// Opens the blocks that are new in the folder; how many. One that cannot be opened may be half copied, so it is left where it is and tried
    /// again. What the start found is not looked at again.
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
            let parents = blocks.loaded.iter().flat_map(|block| &block.meta.compaction.parents);
            parents.into_iter().any(|parent| parent.ulid == *ulid)
        };
        let doomed = self.doomed.lock().clone();
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
            match open_block(self.disk.as_ref(), &dir, true) {
                Ok(block) => {
                    tracing::info!(block = %ulid, "a block was put into the folder");
                    upkeep.not_opened.remove(&ulid);
                    adopted.push(Arc::new(block));
                }
                Err(broken) => {
                    if upkeep.not_opened.insert(ulid) {
                        tracing::warn!(block = %ulid, reason = broken.reason(), "a new block cannot be opened yet");
                    }
                }
            }
        }
        let count = u32::try_from(adopted.len()).unwrap_or(u32::MAX);
        self.add_blocks(adopted);
        count
    }
}
