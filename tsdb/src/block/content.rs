//! Whether `meta.json` speaks of the block beside it.
//!
//! Nothing in the format says so. A flipped bit in it can hide samples, or give the block another's name.

use std::path::Path;

use model::{QueryError, TimeRange};
use ulid::Ulid;

use super::Access;
use super::checksums::{CHECKSUMS_FILE, Checksums, MetaState};
use super::index_reader::IndexReader;
use super::meta::{META_FILE, Meta};
use crate::disk::Disk;
use crate::postings::LabelIndex;

fn corrupt(dir: &Path, reason: String) -> QueryError {
    QueryError::Corrupt { path: dir.join(META_FILE).display().to_string(), offset: 0, reason }
}

/// Blocks are in folders of their name, and other blocks call them by it.
pub(super) fn check_name(dir: &Path, meta: &Meta) -> Result<(), QueryError> {
    let name = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    match Ulid::from_string(name) {
        Ok(ulid) if ulid != meta.ulid => Err(corrupt(dir, format!("it is of block {}", meta.ulid))),
        _ => Ok(()),
    }
}

/// Compares `meta.json` with its checksum, and where that is lost with the content.
pub(super) fn check_meta(
    disk: &dyn Disk,
    dir: &Path,
    meta: &Meta,
    index: &IndexReader,
    access: Access,
) -> Result<(), QueryError> {
    let failed = |source| QueryError::Io { path: dir.display().to_string(), source };
    let (_, bytes) = Meta::read_with_bytes(disk, dir).map_err(failed)?;
    match Checksums::meta_state(disk, dir, meta, &bytes).map_err(failed)? {
        MetaState::Unknown | MetaState::AsWritten => return Ok(()),
        MetaState::Rewritten => {}
        MetaState::Damaged => Content::of(index)?.check(dir, meta)?,
        MetaState::Changed => {
            let reason = format!("says other than when it was written, by {CHECKSUMS_FILE}");
            return Err(corrupt(dir, reason));
        }
    }
    if access == Access::ReadWrite {
        // Of a damaged file nothing is known any more but what was checked just now.
        let known = Checksums::read(disk, dir).map_err(failed)?.flatten();
        let mut checksums = known.unwrap_or_default();
        checksums.set_meta(meta, &bytes);
        if let Err(error) = checksums.write(disk, dir) {
            tracing::warn!(block = %dir.display(), %error, "cannot bring checksums up to date");
        }
    }
    Ok(())
}

/// What the index says about a block.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) series: u64,
    pub(super) chunks: u64,
    /// From the first to the last sample.
    pub(super) range: Option<TimeRange>,
}

impl Content {
    fn of(index: &IndexReader) -> Result<Self, QueryError> {
        let mut content = Self::default();
        let mut cursor = index.cursor();
        for id in index.all()? {
            content.series += 1;
            cursor.read(id)?.chunks.iter().for_each(|chunk| content.add(chunk.range));
        }
        Ok(content)
    }

    /// Counts a chunk.
    pub(super) fn add(&mut self, chunk: TimeRange) {
        self.chunks += 1;
        let range = self.range.get_or_insert(chunk);
        *range = TimeRange::new(range.min.min(chunk.min), range.max.max(chunk.max));
    }

    /// Whether `meta` may be about this.
    pub(super) fn check(&self, dir: &Path, meta: &Meta) -> Result<(), QueryError> {
        let (stats, span) = (&meta.stats, meta.range());
        let reason = if stats.num_series != self.series {
            format!("counts {} series, there are {}", stats.num_series, self.series)
        } else if stats.num_chunks != self.chunks {
            format!("counts {} chunks, there are {}", stats.num_chunks, self.chunks)
        } else if let Some(TimeRange { min, max }) = self.range
            && !(span.contains(min) && span.contains(max))
        {
            format!("spans {} to {}, samples {min} to {max}", span.min, span.max)
        } else {
            return Ok(());
        };
        Err(corrupt(dir, reason))
    }
}
