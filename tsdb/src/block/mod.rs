//! Blocks: spans of time that are no longer written to, each in a folder of its own.
//!
//! Formats: `docs/formats/{index,chunks,tombstones}.md`. [`writer`] makes a block from the head, [`Block`] reads one. Merging blocks and rewriting
//! them without deleted samples is not done here.

pub(crate) mod chunk_files;
pub(crate) mod index_reader;
pub(crate) mod index_writer;
pub(crate) mod meta;
pub(crate) mod tombstones;
pub(crate) mod writer;

use std::path::{Path, PathBuf};

use model::{Columns, Labels, Matcher, QueryContext, QueryError, TimeRange};
use telemetry::IntCounter;

use crate::disk::Disk;
use crate::postings;
use chunk_files::{CHUNKS_DIR, ChunkFiles, XOR};
use chunkenc::{XorDecoder, decode_range};
use index_reader::{IndexReader, SeriesEntry, SymbolCache};
use index_writer::ChunkRef;
use meta::Meta;
use tombstones::Tombstones;

pub(crate) const INDEX_FILE: &str = "index";
pub(crate) const INDEX_MAGIC: u32 = 0xBAAA_D700;
pub(crate) const INDEX_VERSION: u8 = 2;
/// Series are addressed in units of this many bytes.
pub(crate) const SERIES_ALIGNMENT: u64 = 16;

/// Ends the name of a block that is being written.
pub(crate) const CREATION_SUFFIX: &str = ".tmp-for-creation";
/// Ends the name of a block that is being deleted.
pub(crate) const DELETION_SUFFIX: &str = ".tmp-for-deletion";

/// A block that can be read.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) dir: PathBuf,
    pub(crate) meta: Meta,
    pub(crate) index: IndexReader,
    chunks: ChunkFiles,
    tombstones: Tombstones,
    foreign_chunks: IntCounter,
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
    /// Opens the block in `dir`. `foreign_chunks` counts chunks of kinds that are passed over when they are read.
    pub(crate) fn open(
        disk: &dyn Disk,
        dir: &Path,
        meta: Meta,
        foreign_chunks: IntCounter,
    ) -> Result<Self, QueryError> {
        let failed = |name: &str, source| QueryError::Io {
            path: dir.join(name).display().to_string(),
            source,
        };
        let index = IndexReader::open(disk, &dir.join(INDEX_FILE))?;
        let chunks = ChunkFiles::open(disk, &dir.join(CHUNKS_DIR))
            .map_err(|error| failed(CHUNKS_DIR, error))?;
        let tombstones = Tombstones::read(disk, dir)
            .map_err(|error| failed(tombstones::TOMBSTONES_FILE, error))?;
        Ok(Self { dir: dir.to_path_buf(), meta, index, chunks, tombstones, foreign_chunks })
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
        let mut cache = SymbolCache::default();
        let mut entry = SeriesEntry::default();
        for (i, id) in postings::select(&self.index, matchers, context)?.into_iter().enumerate() {
            if i % 256 == 0 {
                context.check()?;
            }
            self.index.series(id, &mut entry)?;
            entry.chunks.retain(|chunk| chunk.range.overlaps(range));
            if entry.chunks.is_empty() {
                continue;
            }
            let labels = self.labels(&entry, &mut cache)?;
            let series = BlockSeries { id, labels, chunks: entry.chunks.as_slice().into() };
            charge.grow(series.bytes())?;
            selected.push(series);
        }
        Ok(selected)
    }

    /// The labels of a series entry.
    pub(crate) fn labels(
        &self,
        entry: &SeriesEntry,
        cache: &mut SymbolCache,
    ) -> Result<Labels, QueryError> {
        let mut pairs = Vec::with_capacity(entry.labels.len());
        for &(name, value) in &entry.labels {
            let name = String::from(self.index.symbol(name, cache)?);
            pairs.push((name, String::from(self.index.symbol(value, cache)?)));
        }
        Labels::from_pairs(pairs).map_err(|error| QueryError::Corrupt {
            path: self.dir.join(INDEX_FILE).display().to_string(),
            offset: 0,
            reason: error.to_string(),
        })
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
        let mut buffer = Vec::new();
        for chunk in series.chunks.iter().filter(|chunk| chunk.range.overlaps(range)) {
            context.check()?;
            let read = self.chunks.read(chunk.reference, &mut buffer)?;
            if read.encoding != XOR {
                if self.foreign_chunks.get() == 0 {
                    tracing::warn!(
                        block = %self.dir.display(), encoding = read.encoding,
                        "chunks of this encoding are not supported and are passed over"
                    );
                }
                self.foreign_chunks.inc();
                continue;
            }
            let decoded =
                XorDecoder::new(read.bytes).and_then(|decoder| decode_range(decoder, range, into));
            decoded.map_err(|error| QueryError::Corrupt {
                path: self.dir.join(CHUNKS_DIR).display().to_string(),
                offset: chunk.reference,
                reason: error.to_string(),
            })?;
        }
        self.tombstones.apply(u64::from(series.id), start, into);
        Ok(())
    }
}
