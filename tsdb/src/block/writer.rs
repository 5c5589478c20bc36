//! Writing a block.
//!
//! It is written beside the others under a temporary name, made durable file by file, and put in place by a rename: it is there as a
//! whole or not at all.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::QueryError;

use super::checksums::Checksums;
use super::chunk_files::{CHUNKS_DIR, ChunkWriter};
use super::index_writer::{ChunkRef, IndexWriter};
use super::meta::{Meta, Stats};
use super::source::{SeriesSource, SourceSeries};
use super::tombstones::Tombstones;
use super::{CREATION_SUFFIX, INDEX_FILE};
use crate::disk::{Disk, exists};

/// A block was not written; what was is removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BlockError {
    /// A file could not be written.
    #[error("cannot write block {path}: {source}")]
    Write {
        /// The block.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// What it was to be written from could not be read.
    #[error(transparent)]
    Read(#[from] QueryError),
    /// The process is to stop.
    #[error("writing a block was cancelled")]
    Cancelled,
}

/// Writes the block of `source` into `parent`, with the content of `meta` counted. Returns the block's folder and its meta; nothing is
/// there if the source has no sample.
pub(crate) fn write_block_from(
    disk: &Arc<dyn Disk>,
    parent: &Path,
    mut meta: Meta,
    source: &mut dyn SeriesSource,
) -> Result<Option<(PathBuf, Meta)>, BlockError> {
    let name = meta.ulid.to_string();
    let (target, temporary) = (parent.join(&name), parent.join(format!("{name}{CREATION_SUFFIX}")));
    let path = target.display().to_string();
    let failed = |source| BlockError::Write { path: path.clone(), source };
    let written = write_files(disk, &temporary, &mut meta, source, &failed).and_then(|()| {
        if meta.stats.num_samples == 0 {
            disk.remove_dir_all(&temporary).map_err(failed)?;
            return Ok(None);
        }
        disk.rename(&temporary, &target).map_err(failed)?;
        disk.sync_dir(parent).map_err(failed)?;
        Ok(Some((target.clone(), meta)))
    });
    if written.is_err() {
        discard(disk.as_ref(), &temporary);
        // In place, but perhaps not durably so.
        discard(disk.as_ref(), &target);
    }
    written
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
    source: &mut dyn SeriesSource,
    failed: &impl Fn(io::Error) -> BlockError,
) -> Result<(), BlockError> {
    let symbols = source.symbols()?;
    let chunks_dir = dir.join(CHUNKS_DIR);
    disk.create_dir_all(&chunks_dir).map_err(failed)?;
    let mut chunks = ChunkWriter::new(Arc::clone(disk), chunks_dir);
    let index = disk.create(&dir.join(INDEX_FILE)).map_err(failed)?;
    let mut index = IndexWriter::new(index, symbols).map_err(failed)?;
    meta.stats = Stats::default();
    let mut series = SourceSeries::default();
    let mut refs = Vec::new();
    while source.next(&mut series)? {
        if !series.is_empty() {
            write_series(&series, &mut chunks, &mut refs, &mut meta.stats)
                .and_then(|()| index.series(&series.labels, &refs))
                .map_err(failed)?;
        }
        series.clear();
    }
    if meta.stats.num_samples == 0 {
        return Ok(());
    }
    let mut checksums = Checksums { files: chunks.finish().map_err(failed)? };
    checksums.set(INDEX_FILE, index.finish().map_err(failed)?);
    Tombstones::default().write_new(disk.as_ref(), dir).map_err(failed)?;
    let bytes = meta.write_new(disk.as_ref(), dir).map_err(failed)?;
    checksums.set_meta(meta, &bytes);
    checksums.write_new(disk.as_ref(), dir).map_err(failed)?;
    disk.sync_dir(dir).map_err(failed)
}

fn write_series(
    series: &SourceSeries,
    chunks: &mut ChunkWriter,
    refs: &mut Vec<ChunkRef>,
    stats: &mut Stats,
) -> io::Result<()> {
    refs.clear();
    for (range, encoding, bytes) in series.chunks() {
        refs.push(ChunkRef { range, reference: chunks.push(encoding.number(), bytes)? });
        stats.add_chunk(encoding, bytes);
    }
    stats.num_series += 1;
    Ok(())
}
