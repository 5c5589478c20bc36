//! The head: series that are still written to, and their last hours, in memory.
//!
//! Series live in slots, numbered in order of their refs, and everything about them in columns indexed by slot. There is no
//! allocation per series: labels are lists of interned pairs, open chunks are in [`open_buffers`], full ones in files ([`chunk_store`]). What few
//! series have is beside the columns, by series ref: open chunks of histograms, late samples, deletions, start timestamps, metadata.
//! The head takes what has been logged and never refuses; deciding what may be appended is the business of `db`.
//!
//! Samples before [`Head::min_valid`] are in blocks already. They may linger here until no query needs them.

mod append;
mod chunk_lists;
pub(crate) mod chunk_store;
pub(crate) mod cut;
pub(crate) mod deleted;
pub(crate) mod exemplars;
mod hash_index;
mod lean;
mod marks;
mod open_buffers;
pub(crate) mod open_histogram;
pub(crate) mod out_of_order;
mod ref_table;
pub(crate) mod select;
pub(crate) mod series_chunks;
pub(crate) mod series_labels;
pub(crate) mod snapshot;
pub(crate) mod starts;
mod symbols;
mod truncate;
pub(crate) mod views;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use model::{HistogramValue, Metadata, Sample, TimeRange, Timestamp};

use append::OpenChunk;
pub(crate) use append::range_end;
use chunk_lists::{ChunkList, ChunkLists};
use chunk_store::ChunkStore;
use deleted::Deletions;
use exemplars::Exemplars;
use lean::LeanPush;
use marks::Marks;
use open_buffers::OpenBuffers;
use open_histogram::OpenHistogram;
use out_of_order::OutOfOrder;
use ref_table::RefTable;
use series_labels::SeriesLabels;
use starts::Starts;

/// Of a series without samples.
const NO_SAMPLE: Sample = Sample { t: Timestamp::MIN, v: 0.0 };

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Head {
    /// No chunk crosses a multiple of this.
    chunk_range: i64,
    pub(crate) labels: SeriesLabels,
    refs: Vec<u64>,
    slots: RefTable,
    last: Vec<Sample>,
    open: Vec<OpenChunk>,
    closed: Vec<ChunkList>,
    /// The newest view that was open when the series was last appended to.
    touched: Vec<u32>,
    buffers: OpenBuffers,
    /// Where reading of open chunks goes on.
    marks: Arc<Marks>,
    lists: ChunkLists,
    pub(crate) chunks: ChunkStore,
    /// Open chunks of histograms, by series ref.
    histograms: HashMap<u64, Box<OpenHistogram>, foldhash::fast::RandomState>,
    pub(crate) late: OutOfOrder,
    pub(crate) deletions: Deletions,
    pub(crate) starts: Starts,
    pub(crate) exemplars: Exemplars,
    pub(crate) metadata: HashMap<u64, Metadata, foldhash::fast::RandomState>,
    /// Number of the newest batch.
    batch: u64,
    undo: VecDeque<Undo>,
    next_ref: u64,
    min_time: Timestamp,
    max_time: Timestamp,
    min_valid: Timestamp,
    chunk_count: u64,
}

/// What a view opened as number `epoch` must know about a series that was appended to since.
#[derive(Clone, Copy, Debug)]
struct Undo {
    epoch: u32,
    series: u64,
    /// Time of the newest sample before.
    last_t: Timestamp,
}

impl Head {
    /// An empty head whose chunks do not cross multiples of `chunk_range` milliseconds, with a place for full ones.
    pub(crate) fn new(chunk_range: i64, chunks: ChunkStore, exemplars_max: usize) -> Self {
        Self {
            chunk_range,
            labels: SeriesLabels::default(),
            refs: Vec::new(),
            slots: RefTable::default(),
            last: Vec::new(),
            open: Vec::new(),
            closed: Vec::new(),
            touched: Vec::new(),
            buffers: OpenBuffers::default(),
            marks: Arc::default(),
            lists: ChunkLists::default(),
            chunks,
            histograms: HashMap::default(),
            late: OutOfOrder::default(),
            deletions: Deletions::default(),
            starts: Starts::default(),
            exemplars: Exemplars::new(exemplars_max),
            metadata: HashMap::default(),
            batch: 0,
            undo: VecDeque::new(),
            next_ref: 1,
            min_time: Timestamp::MAX,
            max_time: Timestamp::MIN,
            min_valid: Timestamp::MIN,
            chunk_count: 0,
        }
    }

    /// Number of series.
    pub(crate) fn len(&self) -> usize {
        self.refs.len()
    }

    pub(crate) fn chunk_range(&self) -> i64 {
        self.chunk_range
    }

    /// Chunks, open and full, including those that are in blocks already and not dropped yet.
    pub(crate) fn chunk_count(&self) -> u64 {
        self.chunk_count
    }

    /// The span of the samples that came in order; `None` when there is none.
    pub(crate) fn time_range(&self) -> Option<TimeRange> {
        let range = TimeRange::new(self.min_time, self.max_time);
        (range.min <= range.max).then_some(range)
    }

    /// Samples before this are in blocks, if anywhere, and none may be appended.
    pub(crate) fn min_valid(&self) -> Timestamp {
        self.min_valid
    }

    /// Declares that samples before `t` are in blocks.
    pub(crate) fn set_min_valid(&mut self, t: Timestamp) {
        self.min_valid = self.min_valid.max(t);
        self.min_time = self.earliest_from(self.min_valid).unwrap_or(Timestamp::MAX);
    }

    /// No sample before may be appended: it could fall into a span that is being written to a block.
    pub(crate) fn appendable_from(&self) -> Timestamp {
        match self.time_range() {
            Some(range) => self.min_valid.max(range.max.saturating_sub(self.chunk_range / 2)),
            None => self.min_valid,
        }
    }

    /// Whether the oldest block range is due to be cut.
    pub(crate) fn is_cut_due(&self) -> bool {
        self.time_range()
            .is_some_and(|range| range.max.saturating_sub(range.min) > self.chunk_range / 2 * 3)
    }

    /// The ref that the next new series gets.
    pub(crate) fn next_ref(&self) -> u64 {
        self.next_ref
    }

    /// Makes sure that `series` is not issued (again).
    pub(crate) fn reserve_ref(&mut self, series: u64) {
        self.next_ref = self.next_ref.max(series.saturating_add(1));
    }

    /// The slot of the series with this ref.
    #[inline]
    pub(crate) fn slot(&self, series: u64) -> Option<u32> {
        self.slots.get(series)
    }

    pub(crate) fn series_ref(&self, slot: u32) -> u64 {
        self.refs[slot as usize]
    }

    /// The newest sample of a series, if it has any.
    #[inline]
    pub(crate) fn last(&self, slot: u32) -> Option<Sample> {
        let last = self.last[slot as usize];
        self.has_samples(slot as usize).then_some(last)
    }

    /// The newest sample of a series, if it is a histogram.
    pub(crate) fn last_histogram(&self, slot: u32) -> Option<&HistogramValue> {
        let at = slot as usize;
        if !self.open[at].is_histogram() {
            return None;
        }
        self.histograms.get(&self.refs[at]).map(|open| open.last())
    }

    /// Whether the newest sample of a series is a histogram.
    #[inline]
    pub(crate) fn is_histogram(&self, slot: u32) -> bool {
        self.open[slot as usize].is_histogram()
    }

    /// Counts a batch; its number.
    pub(crate) fn next_batch(&mut self) -> u64 {
        self.batch += 1;
        self.batch
    }

    /// The number of the newest batch.
    pub(crate) fn batch(&self) -> u64 {
        self.batch
    }

    #[inline]
    fn has_samples(&self, at: usize) -> bool {
        self.open[at].count() > 0
    }

    /// Adds a series. Its labels, sorted by name, are those of no other. `None` when the tables are full.
    pub(crate) fn add_series<'a>(
        &mut self,
        series: u64,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Option<u32> {
        let slot = self.labels.add(labels)?;
        self.refs.lean_push(series);
        self.slots.insert(series, slot);
        self.last.lean_push(NO_SAMPLE);
        self.open.lean_push(OpenChunk::NONE);
        self.closed.lean_push(ChunkList::EMPTY);
        self.touched.lean_push(0);
        self.reserve_ref(series);
        Some(slot)
    }

    /// Where the block ranges begin that have samples that came in order.
    pub(crate) fn range_starts(&self) -> BTreeSet<Timestamp> {
        let open = self.open.iter().filter(|open| open.count() > 0);
        let open = open.map(|open| range_end(open.min_time(), self.chunk_range));
        let ends = open.chain(self.chunks.range_ends());
        ends.map(|end| end.saturating_sub(self.chunk_range)).collect()
    }

    /// Bytes held, about.
    pub(crate) fn bytes(&self) -> usize {
        let columns = self.refs.capacity() * size_of::<u64>()
            + self.last.capacity() * size_of::<Sample>()
            + self.open.capacity() * size_of::<OpenChunk>()
            + self.closed.capacity() * size_of::<ChunkList>()
            + self.touched.capacity() * size_of::<u32>();
        let histograms: usize = self.histograms.values().map(|open| open.bytes()).sum();
        columns
            + self.slots.bytes()
            + self.labels.bytes()
            + self.buffers.bytes()
            + self.lists.bytes()
            + self.chunks.table().bytes()
            + self.late.bytes()
            + self.starts.bytes()
            + self.marks.bytes()
            + histograms
            + self.undo.capacity() * size_of::<Undo>()
    }
}
