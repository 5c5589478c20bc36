//! Merging blocks into one, and rewriting one without what was deleted.
//!
//! Series come from all inputs in order of labels. Chunks are copied as they are; only where those of one series overlap, or a deletion cuts
//! through one, are they decoded and encoded anew. Of each input a few windows are in memory, its list of series and a table of its
//! symbols, and of the output what [`IndexWriter`](super::index_writer::IndexWriter) collects.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chunkenc::Encoding;
use model::{QueryError, TimeRange};

use super::Block;
use super::chunk_files::ChunkCursor;
use super::cursor::SeriesCursor;
use super::index_writer::ChunkRef;
use super::meta::Meta;
use super::reencode::{Part, reencode};
use super::source::{SeriesSource, SourceSeries};
use super::symbol_list::SymbolList;
use super::symbols::SymbolIter;
use super::writer::{BlockError, write_block_from};
use crate::disk::Disk;
use crate::postings::LabelIndex;

/// What is read at once of an input's chunks, which are read front to back.
const CHUNKS_AHEAD_BYTES: usize = 1 << 20;

/// Writes a block that takes the place of `inputs` into `parent`; `meta` is that of [`Meta::of_parents`] or [`Meta::of_cleaned`]. `None` when no
/// sample is left: then nothing is written, and the inputs can be deleted.
///
/// Of samples of one series at the same time one remains.
pub(crate) fn merge(
    disk: &Arc<dyn Disk>,
    parent: &Path,
    meta: Meta,
    inputs: &[&Block],
    cancelled: &dyn Fn() -> bool,
) -> Result<Option<(PathBuf, Meta)>, BlockError> {
    let inputs: Result<Vec<Input<'_>>, QueryError> =
        inputs.iter().copied().map(Input::new).collect();
    let mut source = Merge { inputs: inputs?, cancelled, chunks: Vec::new(), bytes: Vec::new() };
    write_block_from(disk, parent, meta, &mut source)
}

/// One of the blocks, at one of its series.
struct Input<'b> {
    block: &'b Block,
    ids: std::vec::IntoIter<u32>,
    series: SeriesCursor<'b>,
    chunks: ChunkCursor<'b>,
    /// By position of a symbol in the block, its position in the new one.
    symbols: Vec<u32>,
    /// The series that is next; none at the end.
    id: Option<u32>,
    /// Its labels, as symbols of the new block.
    labels: Vec<(u32, u32)>,
    /// What is deleted of it.
    deleted: Vec<TimeRange>,
}

impl<'b> Input<'b> {
    fn new(block: &'b Block) -> Result<Self, QueryError> {
        Ok(Self {
            block,
            ids: block.index.all()?.into_iter(),
            series: block.index.cursor(),
            chunks: block.chunks.cursor(CHUNKS_AHEAD_BYTES),
            symbols: Vec::with_capacity(block.index.symbols.len() as usize),
            id: None,
            labels: Vec::new(),
            deleted: Vec::new(),
        })
    }

    /// Goes on to the next series.
    fn advance(&mut self) -> Result<(), QueryError> {
        self.id = self.ids.next();
        let Some(id) = self.id else { return Ok(()) };
        let entry = self.series.read(id)?;
        let position = |symbol: u32| self.symbols[symbol as usize];
        self.labels.clear();
        let labels = entry.labels.iter();
        self.labels.extend(labels.map(|&(name, value)| (position(name), position(value))));
        // Blocks of early versions may have labels in another order.
        self.labels.sort_unstable();
        self.deleted.clear();
        self.deleted.extend_from_slice(self.block.tombstones.of(u64::from(id)));
        // Queries do not see what lies outside the block's span either.
        let seen = self.block.meta.range();
        if let Some(before) = seen.min.checked_sub(1) {
            self.deleted.push(TimeRange::new(i64::MIN, before));
        }
        if let Some(after) = seen.max.checked_add(1) {
            self.deleted.push(TimeRange::new(after, i64::MAX));
        }
        Ok(())
    }
}

/// A chunk of the series at hand.
#[derive(Clone, Debug)]
struct Piece {
    input: usize,
    chunk: ChunkRef,
    /// Whether a deletion cuts through it.
    is_cut: bool,
}

/// A chunk that was read.
struct Loaded {
    encoding: Encoding,
    bytes: Range<usize>,
}

/// The series of several blocks.
struct Merge<'b, 'c> {
    inputs: Vec<Input<'b>>,
    cancelled: &'c dyn Fn() -> bool,
    /// Of the series at hand.
    chunks: Vec<Piece>,
    bytes: Vec<u8>,
}

impl SeriesSource for Merge<'_, '_> {
    fn symbols(&mut self) -> Result<SymbolList, BlockError> {
        let mut all = SymbolList::default();
        let mut heads: Vec<SymbolHead<'_>> = Vec::with_capacity(self.inputs.len());
        for input in &self.inputs {
            let mut head =
                SymbolHead { rest: input.block.index.symbols(), text: String::new(), more: true };
            head.advance()?;
            heads.push(head);
        }
        let mut smallest = String::new();
        let mut position = 0_u32;
        loop {
            self.check(position)?;
            let texts = heads.iter().filter(|head| head.more).map(|head| head.text.as_str());
            let Some(min) = texts.min() else { break };
            smallest.clear();
            smallest.push_str(min);
            all.push(&smallest).map_err(|error| self.damaged(&error.to_string()))?;
            for (head, input) in heads.iter_mut().zip(&mut self.inputs) {
                if head.more && head.text == smallest {
                    input.symbols.push(position);
                    head.advance()?;
                }
            }
            position += 1;
        }
        for input in &mut self.inputs {
            input.advance()?;
        }
        Ok(all)
    }

    fn next(&mut self, into: &mut SourceSeries) -> Result<bool, BlockError> {
        loop {
            self.check(0)?;
            let at_hand = self.inputs.iter().filter(|input| input.id.is_some());
            let Some(first) = at_hand.map(|input| &input.labels).min() else { return Ok(false) };
            into.labels.clone_from(first);
            self.collect_pieces(&into.labels);
            self.put_chunks(into)?;
            for input in &mut self.inputs {
                if input.id.is_some() && input.labels == into.labels {
                    input.advance()?;
                    if input.id.is_some() && input.labels <= into.labels {
                        let reason = "series are not sorted";
                        return Err(input
                            .block
                            .index
                            .corrupt(input.series.offset(), reason)
                            .into());
                    }
                }
            }
            if !into.is_empty() {
                return Ok(true);
            }
        }
    }
}

impl Merge<'_, '_> {
    /// Looks whether to stop, now and then.
    fn check(&self, count: u32) -> Result<(), BlockError> {
        let stop = count.is_multiple_of(1024) && (self.cancelled)();
        if stop { Err(BlockError::Cancelled) } else { Ok(()) }
    }

    /// About symbols in the wrong order; which input has them is not worth knowing twice, `verify` tells.
    fn damaged(&self, reason: &str) -> BlockError {
        let paths: Vec<String> =
            self.inputs.iter().map(|input| input.block.dir.display().to_string()).collect();
        let (path, reason) = (paths.join(", "), String::from(reason));
        BlockError::Read(QueryError::Corrupt { path, offset: 0, reason })
    }

    /// Gathers the chunks of the series with these labels, without those that are deleted as a whole.
    fn collect_pieces(&mut self, labels: &[(u32, u32)]) {
        self.chunks.clear();
        let inputs = self.inputs.iter().enumerate();
        for (at, input) in inputs.filter(|(_, input)| input.id.is_some() && input.labels == labels)
        {
            for &chunk in &input.series.entry().chunks {
                let ChunkRef { range, .. } = chunk;
                let mut deleted = input.deleted.iter();
                if deleted.any(|span| span.contains(range.min) && span.contains(range.max)) {
                    continue;
                }
                let is_cut = input.deleted.iter().any(|span| span.overlaps(range));
                self.chunks.push(Piece { input: at, chunk, is_cut });
            }
        }
        self.chunks.sort_by_key(|piece| (piece.chunk.range.min, piece.chunk.range.max));
    }

    fn put_chunks(&mut self, into: &mut SourceSeries) -> Result<(), BlockError> {
        let pieces = std::mem::take(&mut self.chunks);
        let mut rest = pieces.as_slice();
        while let Some(first) = rest.first() {
            let mut end = first.chunk.range.max;
            let overlapping = rest.iter().take_while(|piece| {
                let overlaps = piece.chunk.range.min <= end;
                end = end.max(piece.chunk.range.max);
                overlaps
            });
            // A chunk whose times are in the wrong order does not even overlap itself.
            let (group, after) = rest.split_at(overlapping.count().max(1));
            self.put_group(group, into)?;
            rest = after;
        }
        self.chunks = pieces;
        Ok(())
    }

    /// Puts chunks of which each overlaps another.
    fn put_group(&mut self, group: &[Piece], into: &mut SourceSeries) -> Result<(), BlockError> {
        if let [Piece { input, chunk, is_cut: false }] = group {
            let input = &mut self.inputs[*input];
            let read = input.chunks.read(chunk.reference)?;
            let encoding = known(input.block, chunk, read.encoding)?;
            into.push_chunk(chunk.range, encoding, read.bytes);
            return Ok(());
        }
        let loaded = self.load(group)?;
        let bytes = |loaded: &Loaded| &self.bytes[loaded.bytes.clone()];
        let (first, first_loaded) = (&group[0], &loaded[0]);
        let is_first = |(piece, loaded): (&Piece, &Loaded)| {
            piece.chunk.range == first.chunk.range
                && !piece.is_cut
                && loaded.encoding == first_loaded.encoding
                && bytes(loaded) == bytes(first_loaded)
        };
        // The same samples twice, as when a backup was put beside what it was made of.
        if group.iter().zip(&loaded).all(is_first) {
            into.push_chunk(first.chunk.range, first_loaded.encoding, bytes(first_loaded));
            return Ok(());
        }
        let parts = group.iter().zip(&loaded).map(|(piece, loaded)| Part {
            encoding: loaded.encoding,
            range: piece.chunk.range,
            bytes: bytes(loaded),
            deleted: &self.inputs[piece.input].deleted,
        });
        let parts: Vec<Part<'_>> = parts.collect();
        let mut put = |range: TimeRange, encoding: Encoding, chunk: &[u8]| {
            into.push_chunk(range, encoding, chunk);
        };
        reencode(&parts, &mut put).map_err(|error| {
            let of = self.inputs[first.input].block;
            of.chunks.corrupt(first.chunk.reference, error.to_string()).into()
        })
    }

    /// Reads the chunks of `group`.
    fn load(&mut self, group: &[Piece]) -> Result<Vec<Loaded>, BlockError> {
        self.bytes.clear();
        let mut loaded = Vec::with_capacity(group.len());
        for Piece { input, chunk, .. } in group {
            let input = &mut self.inputs[*input];
            let read = input.chunks.read(chunk.reference)?;
            let start = self.bytes.len();
            self.bytes.extend_from_slice(read.bytes);
            let encoding = known(input.block, chunk, read.encoding)?;
            loaded.push(Loaded { encoding, bytes: start..self.bytes.len() });
        }
        Ok(loaded)
    }
}

/// The encoding of a chunk. One that is not known is not copied: its samples could not be counted.
fn known(block: &Block, chunk: &ChunkRef, encoding: u8) -> Result<Encoding, QueryError> {
    let known = Encoding::from_number(encoding);
    known.map_err(|error| block.chunks.corrupt(chunk.reference, error.to_string()))
}

/// The symbols of an input, at one of them.
struct SymbolHead<'b> {
    rest: SymbolIter<'b>,
    text: String,
    more: bool,
}

impl SymbolHead<'_> {
    fn advance(&mut self) -> Result<(), QueryError> {
        self.more = self.rest.next_into(&mut self.text)?;
        Ok(())
    }
}
