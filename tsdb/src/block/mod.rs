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

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chunkenc::{ChunkError, Encoding};
use model::{Columns, Labels, QueryContext, QueryError, Selection, TimeRange};
use parking_lot::Mutex;

use crate::disk::Disk;
use crate::postings;
use chunk_files::{CHUNKS_DIR, ChunkFiles, ReadPosition};
use cursor::Projection;
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
    /// Those that the selection asked for, perhaps more.
    pub(crate) labels: Labels,
    /// Where its chunks stand among those of the selection.
    chunks: Range<u32>,
}

/// Series of a block with their chunks that overlap a range.
#[derive(Debug, Default)]
pub(crate) struct BlockSelection {
    /// Sorted by labels.
    pub(crate) series: Vec<BlockSeries>,
    chunks: Vec<ChunkRef>,
    /// Whether labels outside of a projection are missing.
    pub(crate) is_projected: bool,
    /// Places in the chunk files where reading left off.
    positions: Mutex<Vec<ReadPosition>>,
}

impl BlockSelection {
    /// Whether the series are in order of their labels.
    pub(crate) fn is_sorted(&self) -> bool {
        self.series.is_sorted_by(|a, b| a.labels < b.labels)
    }

    /// The chunks of one of its series.
    fn chunks_of(&self, series: &BlockSeries) -> &[ChunkRef] {
        &self.chunks[series.chunks.start as usize..series.chunks.end as usize]
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

    /// The series that satisfy all matchers and have chunks that overlap the range; `charge` is made to cover them. Where the order of the series in the
    /// index can be relied on, not more than the limit, and of their labels those of the projection, if there is one.
    pub(crate) fn select(
        &self,
        selection: &Selection<'_>,
        charge: &mut model::Charge,
        context: &QueryContext,
    ) -> Result<BlockSelection, QueryError> {
        let Selection { matchers, range, projection, limit, .. } = *selection;
        let limit = if limit > 0 && self.index.is_ordered() { limit } else { usize::MAX };
        let names = projection.filter(|_| self.index.is_ordered());
        let is_projected = names.is_some();
        let mut selection = BlockSelection { is_projected, ..BlockSelection::default() };
        let BlockSelection { series, chunks, .. } = &mut selection;
        let mut cursor = self.index.cursor();
        let mut projection = names.map(Projection::new);
        for (i, id) in postings::select(&*self.index, matchers, context)?.into_iter().enumerate() {
            if i % 256 == 0 {
                context.check()?;
            }
            if series.len() == limit {
                break;
            }
            let first = chunks.len();
            let all = &cursor.read(id)?.chunks;
            chunks.extend(all.iter().filter(|chunk| chunk.range.overlaps(range)));
            if chunks.len() == first {
                continue;
            }
            let labels = match &mut projection {
                Some(projection) => cursor.projected(projection)?,
                None => cursor.labels()?,
            };
            let bytes = size_of::<BlockSeries>()
                + labels.packed_bytes()
                + size_of_val::<[ChunkRef]>(&chunks[first..]);
            charge.grow(bytes)?;
            let place =
                |at| u32::try_from(at).map_err(|_| self.index.corrupt(0, "too many chunks"));
            series.push(BlockSeries { id, labels, chunks: place(first)?..place(chunks.len())? });
        }
        Ok(selection)
    }

    /// Appends the samples of a series of `selection` within `range` to `into`.
    pub(crate) fn read(
        &self,
        selection: &BlockSelection,
        series: &BlockSeries,
        range: TimeRange,
        into: &mut Columns,
        context: &QueryContext,
    ) -> Result<(), QueryError> {
        let start = into.len();
        let chunks = selection.chunks_of(series);
        // Whoever reads series in their order goes through the files once. Of several readers each has a position.
        let position = selection.positions.lock().pop();
        let mut cursor = self
            .chunks
            .cursor_at(position.unwrap_or_else(|| ReadPosition::new(CHUNKS_AHEAD_BYTES)));
        if let [first, .., last] = chunks {
            cursor.expect(first.reference, last.reference);
        }
        let corrupt = |chunk: &ChunkRef, error: &ChunkError| {
            self.chunks.corrupt(chunk.reference, error.to_string())
        };
        let mut chunks = chunks.iter().filter(|chunk| chunk.range.overlaps(range));
        // The first of two, which are decoded together.
        let mut held = Vec::new();
        while let Some(chunk) = chunks.next() {
            context.check()?;
            let read = cursor.read(chunk.reference)?;
            let of_first = Encoding::from_number(read.encoding);
            let encoding = of_first.map_err(|error| corrupt(chunk, &error))?;
            let Some(second) = chunks.next() else {
                let decoded = chunkenc::decode(encoding, read.bytes, range, into);
                decoded.map_err(|error| corrupt(chunk, &error))?;
                break;
            };
            held.clear();
            held.extend_from_slice(read.bytes);
            let read = cursor.read(second.reference).and_then(|read| {
                let encoding = Encoding::from_number(read.encoding);
                Ok((encoding.map_err(|error| corrupt(second, &error))?, read.bytes))
            });
            let of_second = match read {
                Ok(of_second) => of_second,
                // Damage of the first comes before it.
                Err(error) => {
                    let decoded = chunkenc::decode(encoding, &held, range, into);
                    decoded.map_err(|error| corrupt(chunk, &error))?;
                    return Err(error);
                }
            };
            chunkenc::decode_two([(encoding, &held[..]), of_second], range, into)
                .map_err(|(which, error)| corrupt([chunk, second][which], &error))?;
        }
        selection.positions.lock().push(cursor.into_position());
        self.tombstones.apply(u64::from(series.id), start, into);
        Ok(())
    }
}
