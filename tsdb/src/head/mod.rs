//! The head: series that are still written to, and their last hours, in memory.
//!
//! Series live in slots, numbered in order of their refs, and everything about them in columns indexed by slot. There is no
//! allocation per series: labels are lists of interned pairs, open chunks are in [`open_buffers`], full ones in [`closed_chunks`].
//! The head takes what has been logged and never refuses; deciding what may be appended is the business of `db`.
//!
//! Samples before [`Head::min_valid`] are in blocks already. They may linger here until no query needs them.

mod append;
mod closed_chunks;
pub(crate) mod cut;
mod hash_index;
mod lean;
mod open_buffers;
mod ref_table;
pub(crate) mod select;
pub(crate) mod series_labels;
mod symbols;
mod truncate;
pub(crate) mod views;

use std::collections::VecDeque;

use model::{Sample, TimeRange, Timestamp};

use append::OpenChunk;
pub(crate) use append::range_end;
use closed_chunks::{ClosedChunks, Handle};
use lean::LeanPush;
use open_buffers::OpenBuffers;
use ref_table::RefTable;
use series_labels::SeriesLabels;

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
    closed: Vec<Handle>,
    /// The newest view that was open when the series was last appended to.
    touched: Vec<u32>,
    buffers: OpenBuffers,
    chunks: ClosedChunks,
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
    /// An empty head whose chunks do not cross multiples of `chunk_range` milliseconds.
    pub(crate) fn new(chunk_range: i64) -> Self {
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
            chunks: ClosedChunks::default(),
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

    /// The span of the samples; `None` when there is none.
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
        self.closed.lean_push(Handle::NONE);
        self.touched.lean_push(0);
        self.reserve_ref(series);
        Some(slot)
    }
}
