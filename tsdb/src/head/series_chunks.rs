//! The samples of one series of the head, as far as they must be taken while the head stands still: the rest is read without it.

use std::sync::Arc;

use chunkenc::{ChunkError, Encoding, XorError, XorMark, decode, decode_two, decode_xor_from};
use model::{Columns, QueryContext, QueryError, TimeRange, Timestamp};

use super::chunk_store::ChunkTable;
use super::deleted::remove_deleted;
use super::marks::{Marks, OpenMark, SAMPLES_WORTH_A_MARK};
use super::out_of_order::{LateSample, push_rows};
use super::select::HeadSeries;
use super::starts::{Run, start_of};
use super::{Head, Sample};
use crate::recode::{SampleValue, decode_samples};
use crate::rows::put_in_order;

/// Series that are looked at together.
pub(crate) const LOOK_AHEAD: usize = 16;

/// What a processor fetches at once.
const LINE_BYTES: usize = 64;

/// How far a view sees.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Horizon {
    /// Samples that came in order and are newer are left out.
    pub(crate) last_t: Timestamp,
    /// Late samples of later batches are left out.
    pub(crate) batch: u64,
    /// Samples that came in order and are older are read from blocks.
    pub(crate) from: Timestamp,
}

/// A chunk that was read, by its place in the buffer.
#[derive(Clone, Debug)]
struct Part {
    encoding: Encoding,
    range: TimeRange,
    bytes: std::ops::Range<usize>,
}

/// The end of an open chunk of floats.
#[derive(Debug)]
struct End {
    /// Where it begins, if that is not the chunk's start.
    mark: Option<XorMark>,
}

/// Where reading a series goes on, as it was found when it was looked at ahead.
#[derive(Debug)]
struct Ahead {
    series: u64,
    /// First time of its open chunk.
    chunk: Timestamp,
    /// Of what is to be read.
    from: Timestamp,
    mark: Option<XorMark>,
}

/// See the module's description. Reusable.
#[derive(Debug)]
pub(crate) struct SeriesChunks {
    series: u64,
    /// Where full chunks and late ones are, if there are any.
    table: Arc<ChunkTable>,
    /// Full chunks, oldest first.
    closed: Vec<u64>,
    /// The open chunk as it would stand in a file; empty if it was not wanted, without what is before the mark if there is one.
    open: Vec<u8>,
    open_encoding: Option<Encoding>,
    open_range: TimeRange,
    /// Of the open chunk, if nothing but its end is wanted.
    end: Option<End>,
    /// Of the series that were looked at together, in order.
    ahead: Vec<Ahead>,
    /// The one of these that is probably read next.
    next_ahead: usize,
    /// To note better places, once an end was wanted.
    marks: Option<Arc<Marks>>,
    late: Vec<LateSample>,
    late_chunks: Vec<u64>,
    deleted: Vec<TimeRange>,
    starts: Vec<Run>,
    /// Chunks read from files, newest first.
    bytes: Vec<u8>,
    parts: Vec<Part>,
    buffer: Vec<u8>,
}

impl Head {
    /// Takes what may have samples in `range`, whole chunks.
    pub(crate) fn collect(
        &self,
        series: u64,
        range: TimeRange,
        horizon: Horizon,
        into: &mut SeriesChunks,
    ) {
        self.collect_chunks(series, range, horizon, false, into);
    }

    /// As [`collect`](Self::collect), for [`SeriesChunks::read`] alone: of the open chunk perhaps only the end.
    pub(crate) fn collect_samples(
        &self,
        series: u64,
        range: TimeRange,
        horizon: Horizon,
        into: &mut SeriesChunks,
    ) {
        self.collect_chunks(series, range, horizon, true, into);
    }

    /// Looks at the memory in which reading series from `from` on begins, and keeps the places where it goes on in `into`. A large head lies all over
    /// the memory, and where it waits for it series by series, a query does little else; here no look depends on another, so the processor waits
    /// for many at once.
    pub(crate) fn look_ahead(
        &self,
        series: &[HeadSeries],
        from: Timestamp,
        into: &mut SeriesChunks,
    ) {
        into.ahead.clear();
        into.next_ahead = 0;
        let series = &series[..series.len().min(LOOK_AHEAD)];
        let mut slots = [0; LOOK_AHEAD];
        let mut seen = 0;
        for (slot, one) in slots.iter_mut().zip(series) {
            *slot = self.slot(one.series).unwrap_or(0) as usize;
        }
        let slots = &slots[..series.len()];
        for &at in slots {
            let (Some(open), Some(last)) = (self.open.get(at), self.last.get(at)) else { return };
            seen ^= open.min_time() ^ last.t ^ i64::from(self.labels.first_pair(at));
        }
        for (one, &at) in series.iter().zip(slots) {
            let (series, chunk) = (one.series, self.open[at].min_time());
            let mark = self.marks.get(series, chunk, from);
            into.ahead.push(Ahead { series, chunk, from, mark });
        }
        for (&at, ahead) in slots.iter().zip(&into.ahead) {
            if self.open[at].count() == 0 || self.open[at].is_histogram() {
                continue;
            }
            let mark = ahead.mark.map_or(0, |mark| mark.byte());
            let lines = self.open_payload(at).get(mark..).unwrap_or_default().chunks(LINE_BYTES);
            seen ^= lines.fold(0, |seen, line| seen ^ i64::from(line[0]));
        }
        std::hint::black_box(seen);
    }

    fn collect_chunks(
        &self,
        series: u64,
        range: TimeRange,
        horizon: Horizon,
        only_samples: bool,
        into: &mut SeriesChunks,
    ) {
        into.clear(series);
        let Some(slot) = self.slot(series) else { return };
        let at = slot as usize;
        into.deleted.extend_from_slice(self.deletions.of(series));
        into.starts.extend_from_slice(self.starts.of(series, range));
        if !self.late.is_empty() {
            for late in self.late.of(series) {
                late.copy(range, horizon.batch, &mut into.late);
                let chunks = late.chunks.iter().filter(|(_, span)| span.overlaps(range));
                into.late_chunks.extend(chunks.map(|(chunk, _)| *chunk));
            }
        }
        let range = TimeRange::new(range.min.max(horizon.from), range.max.min(horizon.last_t));
        if !into.late_chunks.is_empty() {
            into.table = self.chunks.table();
        }
        if self.open[at].count() == 0 || range.min > range.max {
            return;
        }
        let min_time = self.open[at].min_time();
        let Sample { t: last_t, .. } = self.last[at];
        let open_range = TimeRange::new(min_time, last_t);
        if open_range.overlaps(range) {
            into.open_range = open_range;
            let open = &self.open[at];
            let wants_end = only_samples
                && min_time < range.min
                && !open.is_histogram()
                && open.count() > SAMPLES_WORTH_A_MARK;
            into.end = wants_end.then(|| {
                let known = into.seen_ahead(series, min_time, range.min);
                End { mark: known.unwrap_or_else(|| self.marks.get(series, min_time, range.min)) }
            });
            if wants_end && into.marks.is_none() {
                into.marks = Some(Arc::clone(&self.marks));
            }
            let mark = into.end.as_ref().and_then(|end| end.mark);
            into.open_encoding = Some(match mark {
                Some(mark) => {
                    into.open.extend_from_slice(&open.count().to_be_bytes());
                    into.open.extend_from_slice(&self.open_payload(at)[mark.byte()..]);
                    Encoding::Xor
                }
                None => self.copy_open(at, &mut into.open),
            });
        }
        if min_time > range.min {
            into.closed.extend_from_slice(self.closed_chunks(at));
            into.table = self.chunks.table();
        }
    }

    /// Takes the late samples of a series that were set aside and may lie in `range`.
    pub(super) fn collect_frozen(&self, series: u64, range: TimeRange, into: &mut SeriesChunks) {
        into.clear(series);
        into.table = self.chunks.table();
        into.deleted.extend_from_slice(self.deletions.of(series));
        into.starts.extend_from_slice(self.starts.of(series, range));
        if let Some(late) = self.late.frozen().get(&series) {
            late.copy(range, u64::MAX, &mut into.late);
            into.late_chunks.extend(late.chunks.iter().map(|(chunk, _)| *chunk));
        }
    }

    /// Appends the open chunk of a series as it would stand in a file.
    pub(super) fn copy_open(&self, at: usize, into: &mut Vec<u8>) -> Encoding {
        let open = &self.open[at];
        if open.is_histogram() {
            if let Some(histogram) = self.histograms.get(&self.refs[at]) {
                let (encoding, bytes) = histogram.chunk();
                into.extend_from_slice(bytes);
                return encoding;
            }
            return Encoding::Histogram;
        }
        into.extend_from_slice(&open.count().to_be_bytes());
        into.extend_from_slice(self.open_payload(at));
        Encoding::Xor
    }

    /// The open chunk of a series of floats, without the number of samples.
    fn open_payload(&self, at: usize) -> &[u8] {
        let open = &self.open[at];
        &self.buffers.get(open.buffer())[..open.payload_bytes()]
    }
}

impl Default for SeriesChunks {
    fn default() -> Self {
        Self {
            series: 0,
            table: Arc::default(),
            closed: Vec::new(),
            open: Vec::new(),
            open_encoding: None,
            open_range: TimeRange::ALL,
            end: None,
            ahead: Vec::new(),
            next_ahead: 0,
            marks: None,
            late: Vec::new(),
            late_chunks: Vec::new(),
            deleted: Vec::new(),
            starts: Vec::new(),
            bytes: Vec::new(),
            parts: Vec::new(),
            buffer: Vec::new(),
        }
    }
}

impl SeriesChunks {
    fn clear(&mut self, series: u64) {
        self.series = series;
        self.closed.clear();
        self.open.clear();
        self.open_encoding = None;
        self.end = None;
        self.late.clear();
        self.late_chunks.clear();
        self.deleted.clear();
        self.starts.clear();
    }

    /// What was found when the series was looked at ahead, if it was and nothing has changed since.
    fn seen_ahead(
        &mut self,
        series: u64,
        chunk: Timestamp,
        from: Timestamp,
    ) -> Option<Option<XorMark>> {
        // They are read in that order, but some without.
        let rest = self.ahead.get(self.next_ahead..)?;
        self.next_ahead += rest.iter().position(|ahead| ahead.series == series)?;
        let ahead = self.ahead.get(self.next_ahead)?;
        ((ahead.chunk, ahead.from) == (chunk, from)).then_some(ahead.mark)
    }

    /// Appends the samples in `range` to `into`; to be called with what was collected for the same range.
    pub(crate) fn read(
        &mut self,
        range: TimeRange,
        horizon: Horizon,
        into: &mut Columns,
        context: &QueryContext,
    ) -> Result<(), QueryError> {
        let start = into.len();
        let in_order = TimeRange::new(range.min.max(horizon.from), range.max.min(horizon.last_t));
        if in_order.min <= in_order.max {
            match &self.end {
                Some(end) => self.read_end(end, in_order, into)?,
                None => self.read_chunks(in_order, into, context)?,
            }
        }
        if !self.late.is_empty() || !self.late_chunks.is_empty() {
            self.read_late(range, into)?;
            put_in_order(into, start);
        }
        remove_deleted(&self.deleted, start, into);
        if !self.starts.is_empty() {
            into.set_starts(start, |t| start_of(&self.starts, t));
        }
        Ok(())
    }

    /// Reads the full chunks and the open one, two at a time.
    fn read_chunks(
        &mut self,
        range: TimeRange,
        into: &mut Columns,
        context: &QueryContext,
    ) -> Result<(), QueryError> {
        self.read_closed(range, context)?;
        let mut chunks = self.in_order_chunks().map(|(_, encoding, bytes)| (encoding, bytes));
        while let Some(first) = chunks.next() {
            let decoded = match chunks.next() {
                Some(second) => {
                    decode_two([first, second], range, into).map_err(|(_, error)| error)
                }
                None => decode(first.0, first.1, range, into),
            };
            decoded.map_err(|error| corrupt(self.series, &error))?;
        }
        Ok(())
    }

    /// Reads the end of the open chunk, from the mark on if there is one.
    fn read_end(&self, end: &End, range: TimeRange, into: &mut Columns) -> Result<(), QueryError> {
        let failed = |error: XorError| corrupt(self.series, &error.into());
        let (count, payload) = self
            .open
            .split_first_chunk()
            .ok_or_else(|| failed(XorError::Truncated { decoded: 0, announced: 0 }))?;
        let open = (u16::from_be_bytes(*count), payload);
        let found = decode_xor_from(end.mark.as_ref(), open, range, into).map_err(failed)?;
        // Most often it is the one that is known.
        if let Some(mark) = found.filter(|found| Some(*found) != end.mark)
            && let Some(marks) = &self.marks
        {
            marks.note(self.series, OpenMark { chunk: self.open_range.min, mark });
        }
        Ok(())
    }

    /// Reads the full chunks that overlap `range`, newest first.
    fn read_closed(&mut self, range: TimeRange, context: &QueryContext) -> Result<(), QueryError> {
        self.bytes.clear();
        self.parts.clear();
        for &reference in self.closed.iter().rev() {
            context.check()?;
            let Some(chunk) = self.table.read(reference, &mut self.buffer)? else { break };
            if chunk.range.max < range.min {
                break;
            }
            if chunk.range.min <= range.max {
                let encoding = Encoding::from_number(chunk.encoding)
                    .map_err(|error| corrupt(self.series, &error))?;
                let start = self.bytes.len();
                self.bytes.extend_from_slice(chunk.bytes);
                let bytes = start..self.bytes.len();
                self.parts.push(Part { encoding, range: chunk.range, bytes });
            }
            // Those before end before this one begins.
            if chunk.range.min <= range.min {
                break;
            }
        }
        Ok(())
    }

    fn read_late(&mut self, range: TimeRange, into: &mut Columns) -> Result<(), QueryError> {
        for &reference in &self.late_chunks {
            if let Some(chunk) = self.table.read(reference, &mut self.buffer)? {
                let decoded = Encoding::from_number(chunk.encoding)
                    .and_then(|encoding| decode(encoding, chunk.bytes, range, into));
                decoded.map_err(|error| corrupt(self.series, &error))?;
            }
        }
        push_rows(&self.late, into);
        Ok(())
    }

    /// The chunks that were read and the open one, in time order.
    fn in_order_chunks(&self) -> impl Iterator<Item = (TimeRange, Encoding, &[u8])> {
        let closed = self.parts.iter().rev();
        let closed =
            closed.map(|part| (part.range, part.encoding, &self.bytes[part.bytes.clone()]));
        let open = self.open_encoding.map(|encoding| (self.open_range, encoding, &self.open[..]));
        closed.chain(open)
    }

    /// Reads the chunks that came in order and begin in `range`, which no chunk crosses, and calls `on_chunk` with each.
    pub(crate) fn each_chunk(
        &mut self,
        range: TimeRange,
        context: &QueryContext,
        mut on_chunk: impl FnMut(TimeRange, Encoding, &[u8]),
    ) -> Result<(), QueryError> {
        self.read_closed(range, context)?;
        for (of_chunk, encoding, bytes) in self.in_order_chunks() {
            on_chunk(of_chunk, encoding, bytes);
        }
        Ok(())
    }

    /// The late samples in `range`, in time order, one for each time.
    pub(crate) fn late_samples(
        &mut self,
        range: TimeRange,
    ) -> Result<Vec<(Timestamp, SampleValue)>, QueryError> {
        let mut samples = Vec::new();
        for &reference in &self.late_chunks {
            if let Some(chunk) = self.table.read(reference, &mut self.buffer)? {
                let decoded = Encoding::from_number(chunk.encoding)
                    .and_then(|encoding| decode_samples(encoding, chunk.bytes));
                samples.extend(decoded.map_err(|error| corrupt(self.series, &error))?);
            }
        }
        samples.extend(self.late.drain(..).map(|late| (late.t, late.value)));
        samples.retain(|(t, _)| range.contains(*t));
        samples.sort_by_key(|(t, _)| *t);
        samples.dedup_by_key(|(t, _)| *t);
        Ok(samples)
    }

    /// The runs of samples of the series that have one start timestamp.
    pub(crate) fn starts(&self) -> &[Run] {
        &self.starts
    }

    /// The deleted spans of the series.
    pub(crate) fn deleted(&self) -> &[TimeRange] {
        &self.deleted
    }
}

fn corrupt(series: u64, error: &ChunkError) -> QueryError {
    QueryError::Corrupt {
        path: format!("head, series {series}"),
        offset: 0,
        reason: error.to_string(),
    }
}
