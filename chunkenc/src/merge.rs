//! Chunks of one series that overlap in time, or of which parts are deleted, made into chunks that do not and of which none is.
//!
//! Done as Prometheus's compaction does it, so that the same blocks give the same samples: which of two samples at one time remains is decided by
//! how its heap of inputs moves, and a chunk ends after 120 samples, where the kind changes and where a histogram does not fit.

use model::{CounterReset, TimeRange, Timestamp};

use crate::chunk::{ChunkError, Encoding};
use crate::kind::NativeHistogram;
use crate::native::{FloatHistogramChunk, HistogramChunk, NativeChunk, Outcome, first_header};
use crate::samples::{ExactSample, ExactValue, Samples};
use crate::xor::XorChunk;
use crate::xor2::Xor2Chunk;

/// Samples of a chunk that is written here.
pub const MERGED_SAMPLES_MAX: u16 = 120;

/// A chunk that is to be merged.
#[derive(Clone, Copy, Debug)]
pub struct MergeInput<'a> {
    /// Its encoding.
    pub encoding: Encoding,
    /// Time of its first sample.
    pub min_t: Timestamp,
    /// Time of its last sample.
    pub max_t: Timestamp,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// Spans of which its samples are deleted, in any order.
    pub deleted: &'a [TimeRange],
}

/// A chunk that came out of a merge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergedChunk {
    /// Its encoding.
    pub encoding: Encoding,
    /// Time of its first sample.
    pub min_t: Timestamp,
    /// Time of its last sample.
    pub max_t: Timestamp,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its samples.
    pub count: u16,
}

/// Makes the chunks of one series into chunks that do not overlap, in time order, without deleted samples.
///
/// A chunk that overlaps no other and of which nothing is deleted is passed on as it is. Of chunks that are equal in bytes, time and
/// deletions one is taken. Others are encoded again: integer histograms stay integer, samples with start timestamps go to encodings 4 to
/// 6, others to 1 to 3 (but a float without one stays in a chunk of encoding 4 that is open). Which of several samples
/// at one time remains is decided by how the chunks take turns: of two chunks, that of the one that begins later, and of two that begin
/// together that of the one that ends earlier, then of the one given first.
///
/// # Errors
/// [`ChunkError`] of the first chunk that had to be read and is damaged.
pub fn merge(inputs: &[MergeInput<'_>]) -> Result<Vec<MergedChunk>, ChunkError> {
    let mut inputs = inputs.to_vec();
    inputs.sort_by_key(|input| (input.min_t, input.max_t));
    let mut merged = Vec::new();
    let mut rest = inputs.as_slice();
    while let Some(first) = rest.first() {
        let mut end = first.max_t;
        let overlapping = rest
            .iter()
            .take_while(|input| {
                let overlaps = input.min_t <= end;
                end = end.max(if overlaps { input.max_t } else { end });
                overlaps
            })
            .count()
            .max(1);
        let (group, after) = rest.split_at(overlapping);
        merge_group(group, &mut merged)?;
        rest = after;
    }
    Ok(merged)
}

/// Encodes a chunk again with the start timestamps that `start_of` gives for the times of its samples, 0 where unknown; without loss, as
/// [`merge`] does.
///
/// # Errors
/// [`ChunkError`] if the chunk is damaged.
pub fn with_starts(
    encoding: Encoding,
    bytes: &[u8],
    start_of: impl Fn(Timestamp) -> Timestamp,
) -> Result<Vec<MergedChunk>, ChunkError> {
    let mut chunks = Vec::new();
    let mut writer = Writer { into: &mut chunks, open: None };
    for sample in Samples::new(encoding, bytes)? {
        let sample = sample?;
        writer.push(&ExactSample { start: start_of(sample.t), ..sample });
    }
    writer.finish();
    Ok(chunks)
}

fn merge_group(group: &[MergeInput<'_>], into: &mut Vec<MergedChunk>) -> Result<(), ChunkError> {
    let mut distinct: Vec<&MergeInput<'_>> = Vec::with_capacity(group.len());
    for input in group {
        let repeats = |last: &&&MergeInput<'_>| {
            (last.encoding, last.min_t, last.max_t) == (input.encoding, input.min_t, input.max_t)
                && last.bytes == input.bytes
                && last.deleted == input.deleted
        };
        if distinct.last().filter(repeats).is_none() {
            distinct.push(input);
        }
    }
    if let [only] = distinct.as_slice() {
        let range = TimeRange::new(only.min_t, only.max_t);
        if !only.deleted.iter().any(|deleted| deleted.overlaps(range)) {
            let MergeInput { encoding, min_t, max_t, bytes, .. } = **only;
            let count = crate::sample_count(encoding, bytes);
            into.push(MergedChunk { encoding, min_t, max_t, bytes: bytes.to_vec(), count });
            return Ok(());
        }
    }
    // Prometheus lists the earliest chunk last.
    distinct.rotate_left(1);
    let mut chain = Chain::new(&distinct)?;
    let mut writer = Writer { into, open: None };
    while let Some(sample) = chain.next()? {
        writer.push(&sample);
    }
    writer.finish();
    Ok(())
}

/// The samples of a chunk that are not deleted, one of which is at hand.
struct Input<'a> {
    samples: Samples<'a>,
    deleted: &'a [TimeRange],
    current: Option<ExactSample>,
}

impl Input<'_> {
    /// Takes the next sample in hand; `false` at the end.
    fn advance(&mut self) -> Result<bool, ChunkError> {
        loop {
            self.current = self.samples.next().transpose()?;
            match &self.current {
                Some(sample) if self.deleted.iter().any(|range| range.contains(sample.t)) => {}
                current => return Ok(current.is_some()),
            }
        }
    }

    fn t(&self) -> Timestamp {
        self.current.as_ref().map_or(Timestamp::MAX, |sample| sample.t)
    }
}

/// The samples of several chunks in time order, one for each time.
///
/// One input is current and the others wait in a heap by time. As long as the current one's next sample is the earliest, it stays; when another
/// is as early or earlier, the two change places. So of equal times that of the waiting input comes first, and the other is passed over.
struct Chain<'a> {
    current: Option<Input<'a>>,
    /// Moves its elements as Go's `container/heap` does, because that decides which of several at the same time is next.
    heap: Vec<Input<'a>>,
    last_t: Option<Timestamp>,
}

impl<'a> Chain<'a> {
    fn new(inputs: &[&MergeInput<'a>]) -> Result<Self, ChunkError> {
        let mut chain = Self { current: None, heap: Vec::new(), last_t: None };
        for input in inputs {
            let samples = Samples::new(input.encoding, input.bytes)?;
            let mut input = Input { samples, deleted: input.deleted, current: None };
            if chain.current.is_none() {
                chain.current = Some(input);
            } else if input.advance()? {
                chain.push(input);
            }
        }
        Ok(chain)
    }

    fn next(&mut self) -> Result<Option<ExactSample>, ChunkError> {
        let Some(mut current) = self.current.take() else { return Ok(None) };
        loop {
            if current.advance()? {
                if Some(current.t()) == self.last_t {
                    continue;
                }
                if self.heap.first().is_none_or(|waiting| current.t() < waiting.t()) {
                    break;
                }
                self.push(current);
            }
            match self.pop() {
                Some(earliest) => current = earliest,
                None => return Ok(None),
            }
            if Some(current.t()) != self.last_t {
                break;
            }
        }
        self.last_t = Some(current.t());
        let sample = current.current.take();
        self.current = Some(current);
        Ok(sample)
    }

    fn push(&mut self, input: Input<'a>) {
        self.heap.push(input);
        let mut at = self.heap.len() - 1;
        while at > 0 {
            let parent = (at - 1) / 2;
            if self.heap[at].t() >= self.heap[parent].t() {
                break;
            }
            self.heap.swap(at, parent);
            at = parent;
        }
    }

    fn pop(&mut self) -> Option<Input<'a>> {
        let last = self.heap.len().checked_sub(1)?;
        self.heap.swap(0, last);
        let earliest = self.heap.pop();
        let mut at = 0;
        loop {
            let (left, right) = (2 * at + 1, 2 * at + 2);
            if left >= last {
                return earliest;
            }
            let right_is_earlier = right < last && self.heap[right].t() < self.heap[left].t();
            let child = if right_is_earlier { right } else { left };
            if self.heap[child].t() >= self.heap[at].t() {
                return earliest;
            }
            self.heap.swap(at, child);
            at = child;
        }
    }
}

/// A chunk that is being written.
enum Open {
    Xor(XorChunk),
    Xor2(Xor2Chunk),
    Histogram(HistogramChunk),
    FloatHistogram(FloatHistogramChunk),
}

/// Writes samples to chunks.
struct Writer<'o> {
    into: &'o mut Vec<MergedChunk>,
    /// With the time of its first sample.
    open: Option<(Timestamp, Open)>,
}

impl Writer<'_> {
    fn push(&mut self, sample: &ExactSample) {
        let full = self.open.as_ref().is_some_and(|(_, open)| open.count() >= MERGED_SAMPLES_MAX);
        let added = match &mut self.open {
            Some((_, open)) if !full => open.append(sample),
            _ => Err(None),
        };
        if let Err(header) = added {
            self.finish();
            self.open = Some((sample.t, Open::start(sample, header)));
        }
    }

    fn finish(&mut self) {
        let Some((min_t, open)) = self.open.take() else { return };
        let (encoding, max_t, bytes) = match &open {
            Open::Xor(chunk) => (Encoding::Xor, chunk.last_t(), chunk.as_bytes()),
            Open::Xor2(chunk) => (Encoding::Xor2, chunk.last_t(), chunk.as_bytes()),
            Open::Histogram(chunk) => (chunk.encoding(), chunk.last_t(), chunk.as_bytes()),
            Open::FloatHistogram(chunk) => (chunk.encoding(), chunk.last_t(), chunk.as_bytes()),
        };
        let (bytes, count) = (bytes.to_vec(), open.count());
        self.into.push(MergedChunk { encoding, min_t, max_t, bytes, count });
    }
}

impl Open {
    fn count(&self) -> u16 {
        match self {
            Self::Xor(chunk) => chunk.count(),
            Self::Xor2(chunk) => chunk.count(),
            Self::Histogram(chunk) => chunk.count(),
            Self::FloatHistogram(chunk) => chunk.count(),
        }
    }

    /// Begins a chunk, with the header that the one before gave for it.
    fn start(sample: &ExactSample, header: Option<CounterReset>) -> Self {
        let ExactSample { t, start, .. } = *sample;
        match &sample.value {
            ExactValue::Float(v) if start == 0 => {
                let mut chunk = XorChunk::new();
                chunk.push(t, *v);
                Self::Xor(chunk)
            }
            ExactValue::Float(v) => {
                let mut chunk = Xor2Chunk::new();
                chunk.push(t, start, *v);
                Self::Xor2(chunk)
            }
            ExactValue::Histogram(histogram) => {
                Self::Histogram(start_native(t, start, histogram, header))
            }
            ExactValue::FloatHistogram(histogram) => {
                Self::FloatHistogram(start_native(t, start, histogram, header))
            }
        }
    }

    /// Adds a sample, or gives the header of the chunk that it needs, if the two are of a kind.
    fn append(&mut self, sample: &ExactSample) -> Result<(), Option<CounterReset>> {
        let ExactSample { t, start, .. } = *sample;
        match (self, &sample.value) {
            (Self::Xor(chunk), ExactValue::Float(v)) if start == 0 => chunk.push(t, *v),
            (Self::Xor2(chunk), ExactValue::Float(v)) => chunk.push(t, start, *v),
            (Self::Histogram(chunk), ExactValue::Histogram(histogram)) => {
                return append_native(chunk, t, start, histogram);
            }
            (Self::FloatHistogram(chunk), ExactValue::FloatHistogram(histogram)) => {
                return append_native(chunk, t, start, histogram);
            }
            _ => return Err(None),
        }
        Ok(())
    }
}

fn start_native<H: NativeHistogram>(
    t: Timestamp,
    start: Timestamp,
    histogram: &H,
    header: Option<CounterReset>,
) -> NativeChunk<H> {
    let header = header.unwrap_or_else(|| first_header(histogram));
    match start {
        0 => NativeChunk::start(t, histogram, header),
        _ => NativeChunk::start_with_starts(t, start, histogram, header),
    }
}

fn append_native<H: NativeHistogram>(
    chunk: &mut NativeChunk<H>,
    t: Timestamp,
    start: Timestamp,
    histogram: &H,
) -> Result<(), Option<CounterReset>> {
    // One kind of chunk has a start timestamp for every sample, the other for none.
    if (chunk.encoding() == H::ENCODING_WITH_STARTS) != (start != 0) {
        return Err(None);
    }
    match chunk.append_with_start(t, start, histogram) {
        Outcome::Appended | Outcome::Recoded => Ok(()),
        Outcome::NewChunk(header) => Err(Some(header)),
    }
}
