//! Blocks: spans of time that are no longer written to, each in a folder of its own.
//!
//! Formats: `docs/formats/{index,chunks,tombstones,meta}.md`. [`writer`] makes a block from any [`source::SeriesSource`], [`Block`] reads
//! one. When to do what is for the caller to decide.

pub(crate) mod checksums;
pub(crate) mod chunk_files;
mod content;
mod cursor;
pub(crate) mod delete;
mod files;
pub(crate) mod index_reader;
pub(crate) mod index_writer;
pub(crate) mod merge;
pub(crate) mod meta;
mod offset_table;
pub(crate) mod plan;
mod postings_builder;
pub(crate) mod quarantine;
mod reencode;
pub(crate) mod retention;
mod scan;
pub(crate) mod snapshot;
pub(crate) mod source;
pub(crate) mod symbol_list;
mod symbols;
#[cfg(test)]
mod tests;
pub(crate) mod tombstones;
pub(crate) mod verify;
mod window;
pub(crate) mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chunkenc::Encoding;
use model::{Columns, Labels, Matcher, QueryContext, QueryError, TimeRange};

use crate::disk::Disk;
use crate::postings;
use chunk_files::{CHUNKS_DIR, ChunkFiles};
use index_reader::IndexReader;
use index_writer::ChunkRef;
use meta::Meta;
use tombstones::Tombstones;

pub(crate) const INDEX_FILE: &str = "index";
pub(crate) const INDEX_MAGIC: u32 = 0xBAAA_D700;
pub(crate) const INDEX_VERSION: u8 = 2;
/// Series are addressed in units of this many bytes.
pub(crate) const SERIES_ALIGNMENT: u64 = 16;

/// What a query reads at once of the chunks of a series.
const CHUNKS_AHEAD_BYTES: usize = 64 << 10;

/// Ends the name of a block that is being written.
pub(crate) const CREATION_SUFFIX: &str = ".tmp-for-creation";
/// Ends the name of a block that is being deleted.
pub(crate) const DELETION_SUFFIX: &str = ".tmp-for-deletion";

/// What may be done with the files of a block that is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// They are read.
    ReadOnly,
    /// What is known of them is also brought up to date.
    ReadWrite,
}

/// A block that can be read.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) dir: PathBuf,
    pub(crate) meta: Meta,
    pub(crate) index: Arc<IndexReader>,
    chunks: Arc<ChunkFiles>,
    tombstones: Tombstones,
}

/// A series of a block that was selected.
#[derive(Clone, Debug)]
pub(crate) struct BlockSeries {
    id: u32,
    pub(crate) labels: Labels,
    /// Those that overlap the selection's range.
    chunks: Box<[ChunkRef]>,
}

impl BlockSeries {
    /// Bytes held, for accounting.
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.labels.packed_bytes() + size_of_val::<[ChunkRef]>(&self.chunks)
    }
}

impl Block {
    /// Opens the block in `dir`, of which `meta` was read. A `meta.json` that was changed since it was written is believed if other
    /// programs may do that, or if the content does not contradict.
    pub(crate) fn open(
        disk: &dyn Disk,
        dir: &Path,
        mut meta: Meta,
        access: Access,
    ) -> Result<Self, QueryError> {
        let failed = |name: &str, source| QueryError::Io {
            path: dir.join(name).display().to_string(),
            source,
        };
        content::check_name(dir, &meta)?;
        let index = Arc::new(IndexReader::open(disk, &dir.join(INDEX_FILE))?);
        let chunks = ChunkFiles::open(disk, &dir.join(CHUNKS_DIR))
            .map_err(|error| failed(CHUNKS_DIR, error))?;
        let tombstones = Tombstones::read(disk, dir)
            .map_err(|error| failed(tombstones::TOMBSTONES_FILE, error))?;
        content::check_meta(disk, dir, &meta, &index, access)?;
        meta.stats.num_tombstones = tombstones.len();
        Ok(Self { dir: dir.to_path_buf(), meta, index, chunks: Arc::new(chunks), tombstones })
    }

    /// Size of index and chunks.
    pub(crate) fn bytes(&self) -> u64 {
        self.index.bytes() + self.chunks.bytes()
    }

    /// The series that satisfy all matchers and have chunks that overlap `range`, sorted by labels; `charge` is made to cover them.
    pub(crate) fn select(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        charge: &mut model::Charge,
        context: &QueryContext,
    ) -> Result<Vec<BlockSeries>, QueryError> {
        let mut selected = Vec::new();
        let mut cursor = self.index.cursor();
        let overlapping = |chunk: &&ChunkRef| chunk.range.overlaps(range);
        for (i, id) in postings::select(&*self.index, matchers, context)?.into_iter().enumerate() {
            if i % 256 == 0 {
                context.check()?;
            }
            let chunks = &cursor.read(id)?.chunks;
            let chunks: Box<[ChunkRef]> = chunks.iter().filter(overlapping).copied().collect();
            if chunks.is_empty() {
                continue;
            }
            let series = BlockSeries { id, labels: cursor.labels()?, chunks };
            charge.grow(series.bytes())?;
            selected.push(series);
        }
        Ok(selected)
    }

    /// Appends the samples of a series within `range` to `into`.
    pub(crate) fn read(
        &self,
        series: &BlockSeries,
        range: TimeRange,
        into: &mut Columns,
        context: &QueryContext,
    ) -> Result<(), QueryError> {
        let start = into.len();
        let mut cursor = self.chunks.cursor(CHUNKS_AHEAD_BYTES);
        if let [first, .., last] = &*series.chunks {
            cursor.expect(first.reference, last.reference);
        }
        for chunk in series.chunks.iter().filter(|chunk| chunk.range.overlaps(range)) {
            context.check()?;
            let read = cursor.read(chunk.reference)?;
            let decoded = Encoding::from_number(read.encoding)
                .and_then(|encoding| chunkenc::decode(encoding, read.bytes, range, into));
            decoded.map_err(|error| self.chunks.corrupt(chunk.reference, error.to_string()))?;
        }
        self.tombstones.apply(u64::from(series.id), start, into);
        Ok(())
    }
}
