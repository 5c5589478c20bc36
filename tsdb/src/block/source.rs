//! What a block is written from: series in order of their labels, with their chunks.

use std::ops::Range;

use chunkenc::{ChunkError, Encoding, with_starts};
use model::{TimeRange, Timestamp};

use super::symbol_list::SymbolList;
use super::writer::BlockError;

/// Something that a block can be written from.
pub(crate) trait SeriesSource {
    /// All strings of labels. Asked for once, before the first series.
    fn symbols(&mut self) -> Result<SymbolList, BlockError>;

    /// Puts the next series in order of labels into `into`, which is empty; false when there is none.
    fn next(&mut self, into: &mut SourceSeries) -> Result<bool, BlockError>;
}

/// One series with its chunks.
#[derive(Debug, Default)]
pub(crate) struct SourceSeries {
    /// Names and values as positions of symbols, sorted by name.
    pub(crate) labels: Vec<(u32, u32)>,
    chunks: Vec<SourceChunk>,
    bytes: Vec<u8>,
}

#[derive(Clone, Debug)]
struct SourceChunk {
    range: TimeRange,
    encoding: Encoding,
    bytes: Range<usize>,
}

impl SourceSeries {
    pub(crate) fn clear(&mut self) {
        self.labels.clear();
        self.chunks.clear();
        self.bytes.clear();
    }

    /// Adds a chunk, which comes after all before by its times.
    pub(crate) fn push_chunk(&mut self, range: TimeRange, encoding: Encoding, chunk: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(chunk);
        self.chunks.push(SourceChunk { range, encoding, bytes: start..self.bytes.len() });
    }

    /// Encodes the chunks that may have start timestamps again, with those that `start_of` gives for a time, 0 where unknown.
    pub(crate) fn add_starts(
        &mut self,
        may_have: impl Fn(TimeRange) -> bool,
        start_of: impl Fn(Timestamp) -> Timestamp,
    ) -> Result<(), ChunkError> {
        let before = std::mem::take(self);
        self.labels.clone_from(&before.labels);
        for (range, encoding, bytes) in before.chunks() {
            if !may_have(range) {
                self.push_chunk(range, encoding, bytes);
                continue;
            }
            for chunk in with_starts(encoding, bytes, &start_of)? {
                let range = TimeRange::new(chunk.min_t, chunk.max_t);
                self.push_chunk(range, chunk.encoding, &chunk.bytes);
            }
        }
        Ok(())
    }

    /// Whether it has no chunk.
    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// The chunks in order of time: times, encoding, bytes.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = (TimeRange, Encoding, &[u8])> {
        let chunks = self.chunks.iter();
        chunks.map(|chunk| (chunk.range, chunk.encoding, &self.bytes[chunk.bytes.clone()]))
    }
}
