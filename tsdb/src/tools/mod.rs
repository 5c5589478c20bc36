//! Looking at a store from outside, and writing blocks without one. Nothing here takes the store's lock.

mod analysis;
mod builder;
mod check;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::{QueryError, Timestamp};
use ulid::Ulid;

use crate::block::meta::{META_FILE, Meta};
use crate::block::tombstones::TOMBSTONES_FILE;
use crate::block::{Access, Block};
use crate::disk::Disk;

pub use analysis::{Analysis, analyze};
pub use builder::BlockBuilder;
pub use check::{Finding, verify};

/// What a block says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockSummary {
    /// The block's folder.
    pub dir: PathBuf,
    /// Its name.
    pub ulid: String,
    /// First time in it.
    pub min_time: Timestamp,
    /// First time after it.
    pub max_time: Timestamp,
    /// Samples of all kinds.
    pub samples: u64,
    /// Chunks.
    pub chunks: u64,
    /// Series.
    pub series: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// How often its samples were merged.
    pub level: u32,
}

/// The blocks in `dir` in order of time, and what is wrong with those that cannot be opened.
///
/// # Errors
/// When the folder cannot be read.
pub fn list(disk: &Arc<dyn Disk>, dir: &Path) -> io::Result<(Vec<BlockSummary>, Vec<String>)> {
    let (mut blocks, mut broken) = (Vec::new(), Vec::new());
    for path in block_dirs(disk.as_ref(), dir)? {
        match open(disk.as_ref(), &path) {
            Ok(block) => blocks.push(BlockSummary {
                ulid: block.meta.ulid.to_string(),
                min_time: block.meta.min_time,
                max_time: block.meta.max_time,
                samples: block.meta.stats.num_samples,
                chunks: block.meta.stats.num_chunks,
                series: block.meta.stats.num_series,
                bytes: block.bytes() + other_bytes(disk.as_ref(), &path),
                level: block.meta.compaction.level,
                dir: path,
            }),
            Err(error) => broken.push(format!("{}: {error}", path.display())),
        }
    }
    blocks.sort_by_key(|block| (block.min_time, block.max_time));
    Ok((blocks, broken))
}

/// Bytes of the small files of the block in `dir`, those that Prometheus counts. One that is not there takes none.
fn other_bytes(disk: &dyn Disk, dir: &Path) -> u64 {
    let len = |name: &str| disk.open(&dir.join(name)).and_then(|file| file.len()).unwrap_or(0);
    len(META_FILE) + len(TOMBSTONES_FILE)
}

/// The folders of blocks in `dir`.
fn block_dirs(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = disk.list(dir)?;
    let is_block = |name: &str| Ulid::from_string(name).is_ok();
    let blocks = entries.into_iter().filter(|entry| entry.is_dir && is_block(&entry.name));
    Ok(blocks.map(|entry| dir.join(entry.name)).collect())
}

fn open(disk: &dyn Disk, dir: &Path) -> Result<Block, QueryError> {
    let meta = Meta::read(disk, dir).map_err(|source| QueryError::Io {
        path: dir.join("meta.json").display().to_string(),
        source,
    })?;
    Block::open(disk, dir, meta, Access::ReadOnly)
}
