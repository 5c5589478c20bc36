//! Cutting the head: one block range becomes a block.
//!
//! The block is written beside the others under a temporary name, made durable file by file, and put in place by a rename: it is there as a
//! whole or not at all.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::chunk_files::{CHUNKS_DIR, ChunkWriter};
use super::index_writer::{ChunkRef, IndexWriter};
use super::meta::Meta;
use super::tombstones::Tombstones;
use super::{CREATION_SUFFIX, INDEX_FILE};
use crate::disk::{Disk, exists};
use crate::head::cut::{CutPlan, CutSeries};

/// Writing a block failed; what was written is removed.
#[derive(Debug, thiserror::Error)]
#[error("cannot write block {path}: {source}")]
pub(crate) struct BlockError {
    pub(crate) path: String,
    pub(crate) source: io::Error,
}

/// Writes the block of `plan` into `parent`; `read` copies one series out of the head. Returns the block's folder and its meta.
pub(crate) fn write_block(
    disk: &Arc<dyn Disk>,
    parent: &Path,
    mut meta: Meta,
    mut plan: CutPlan,
    read: &mut dyn FnMut(&CutPlan, usize, &mut CutSeries),
) -> Result<(PathBuf, Meta), BlockError> {
    let name = meta.ulid.to_string();
    let (target, temporary) = (parent.join(&name), parent.join(format!("{name}{CREATION_SUFFIX}")));
    let symbols = std::mem::take(&mut plan.symbols);
    let written = write_files(disk, &temporary, &mut meta, symbols, &plan, read)
        .and_then(|()| disk.rename(&temporary, &target))
        .and_then(|()| disk.sync_dir(parent));
    match written {
        Ok(()) => Ok((target, meta)),
        Err(source) => {
            discard(disk.as_ref(), &temporary);
            // In place, but perhaps not durably so.
            discard(disk.as_ref(), &target);
            Err(BlockError { path: target.display().to_string(), source })
        }
    }
}

fn discard(disk: &dyn Disk, dir: &Path) {
    let removed =
        exists(disk, dir).and_then(|there| if there { disk.remove_dir_all(dir) } else { Ok(()) });
    if let Err(error) = removed {
        tracing::error!(dir = %dir.display(), %error, "cannot remove an unfinished block");
    }
}

fn write_files(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    meta: &mut Meta,
    symbols: Vec<Box<str>>,
    plan: &CutPlan,
    read: &mut dyn FnMut(&CutPlan, usize, &mut CutSeries),
) -> io::Result<()> {
    let chunks_dir = dir.join(CHUNKS_DIR);
    disk.create_dir_all(&chunks_dir)?;
    let mut chunks = ChunkWriter::new(Arc::clone(disk), chunks_dir);
    let mut index = IndexWriter::new(disk.create(&dir.join(INDEX_FILE))?, symbols)?;
    let mut series = CutSeries::default();
    let mut refs = Vec::new();
    for i in 0..plan.len() {
        read(plan, i, &mut series);
        refs.clear();
        for (range, bytes) in series.chunks() {
            refs.push(ChunkRef { range, reference: chunks.push(bytes)? });
            let count = bytes.first_chunk::<2>().map_or(0, |count| u16::from_be_bytes(*count));
            meta.stats.num_samples += u64::from(count);
        }
        meta.stats.num_chunks += refs.len() as u64;
        meta.stats.num_series += 1;
        index.series(&series.labels, &refs)?;
    }
    meta.stats.num_float_samples = meta.stats.num_samples;
    chunks.finish()?;
    index.finish()?;
    Tombstones::write_empty(disk.as_ref(), dir)?;
    meta.write(disk.as_ref(), dir).map_err(|(_, error)| error)?;
    disk.sync_dir(dir)
}
