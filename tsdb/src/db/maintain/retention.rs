//! Deleting what is old, or for which there is no room.

use std::io;
use std::path::Path;
use std::sync::Arc;

use ulid::Ulid;

use super::super::load::delete_block;
use super::super::open::{WAL_DIR, WBL_DIR, milliseconds};
use super::super::{Db, Retention};
use super::MaintainError;
use crate::block::retention::{Candidate, beyond_size, beyond_time};
use crate::disk::{Disk, exists};
use crate::head::chunk_store::CHUNKS_HEAD_DIR;

impl Db {
    /// Deletes the blocks that are beyond the retention. Time counts back from the end of the newest block, as in Prometheus, so neither the clock nor
    /// a stray sample in the head can delete a block, and a folder from long ago does not vanish on opening.
    pub(super) fn delete_old_blocks(&self) -> Result<u32, MaintainError> {
        let blocks = Arc::clone(&self.blocks.read());
        let candidates: Vec<Candidate<'_>> = blocks
            .loaded
            .iter()
            .map(|block| Candidate { meta: &block.meta, bytes: block.bytes() })
            .collect();
        let retention = *self.retention.lock();
        let newest = candidates.iter().map(|block| block.meta.max_time).max();
        let Some(newest) = newest else { return Ok(0) };
        let old = beyond_time(&candidates, newest, milliseconds(retention.time));
        let deleted = self.delete_blocks(&old, "block is older than the retention, deleted")?;
        self.metrics.retentions.inc_by(u64::from(deleted));
        let bytes_max = self.bytes_max(retention);
        let kept: Vec<Candidate<'_>> =
            candidates.into_iter().filter(|block| !old.contains(&block.meta.ulid)).collect();
        let too_much =
            beyond_size(&kept, if bytes_max > 0 { self.other_bytes() } else { 0 }, bytes_max);
        let too_many =
            self.delete_blocks(&too_much, "no room for a block within the retention, deleted")?;
        self.metrics.size_retentions.inc_by(u64::from(too_many));
        Ok(deleted + too_many)
    }

    /// Bytes that the store may take; 0 for no bound.
    fn bytes_max(&self, retention: Retention) -> u64 {
        let by_percentage = (retention.percentage > 0.0).then(|| {
            let space = self.disk.space(&self.dir).inspect_err(|error| {
                tracing::warn!(dir = %self.dir.display(), %error, "cannot tell the size of the disk");
            });
            space.map_or(0, |space| percentage_of(space.total_bytes, retention.percentage))
        });
        let bounds = [retention.bytes, by_percentage.unwrap_or(0)];
        bounds.into_iter().filter(|bytes| *bytes > 0).min().unwrap_or(0)
    }

    /// Bytes of the logs and the full chunks of the head.
    fn other_bytes(&self) -> u64 {
        let dirs = [WAL_DIR, WBL_DIR, CHUNKS_HEAD_DIR].map(|name| self.dir.join(name));
        dirs.iter().map(|dir| dir_bytes(self.disk.as_ref(), dir).unwrap_or(0)).sum()
    }

    fn delete_blocks(&self, ulids: &[Ulid], why: &str) -> Result<u32, MaintainError> {
        let blocks = Arc::clone(&self.blocks.read());
        let mut deleted = 0;
        for block in blocks.loaded.iter().filter(|block| ulids.contains(&block.meta.ulid)) {
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
            tracing::info!(block = %block.meta.ulid, "{why}");
            deleted += 1;
        }
        Ok(deleted)
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a disk need not be exact"
)]
fn percentage_of(bytes: u64, percentage: f64) -> u64 {
    (bytes as f64 * (percentage / 100.0)) as u64
}

/// Bytes of the files in `dir` and below.
fn dir_bytes(disk: &dyn Disk, dir: &Path) -> io::Result<u64> {
    let entries = match disk.list(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut bytes = 0;
    for entry in entries {
        let path = dir.join(entry.name);
        bytes += if entry.is_dir { dir_bytes(disk, &path)? } else { disk.open(&path)?.len()? };
    }
    Ok(bytes)
}
