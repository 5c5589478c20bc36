//! The open chunk of a series of native histograms.
//!
//! Such a chunk is ended by its bytes rather than its samples, since a histogram may have a few buckets or hundreds; at a counter reset; and
//! when the layout changes. The rules are Prometheus's, so that the same samples make the same chunks.

use chunkenc::{Encoding, FloatHistogramChunk, HistogramChunk, Outcome, first_header};
use model::{CounterReset, HistogramValue, Timestamp};

use super::append::even_end;

/// Bytes that a chunk should have.
const TARGET_BYTES: usize = 1024;

/// Samples that a chunk has before it is ended by its size.
const SAMPLES_MIN: u16 = 10;

/// See the module's description.
#[derive(Debug)]
pub(crate) struct OpenHistogram {
    chunk: Chunk,
    min_time: Timestamp,
    max_time: Timestamp,
    /// The end of the block range, exclusive.
    range_end: Timestamp,
    /// The chunk is ended at this time.
    next_at: Timestamp,
    has_even_end: bool,
    last: HistogramValue,
}

#[derive(Debug)]
enum Chunk {
    Integer(HistogramChunk),
    Float(FloatHistogramChunk),
}

impl Chunk {
    /// A chunk of one sample.
    fn start(t: Timestamp, histogram: &HistogramValue, header: CounterReset) -> Self {
        match histogram {
            HistogramValue::Integer(h) => Self::Integer(HistogramChunk::start(t, h, header)),
            HistogramValue::Float(h) => Self::Float(FloatHistogramChunk::start(t, h, header)),
        }
    }

    /// Appends if the sample can be in the same chunk; otherwise the header of the chunk that it begins.
    fn append(&mut self, t: Timestamp, histogram: &HistogramValue) -> Result<(), CounterReset> {
        let outcome = match (self, histogram) {
            (Self::Integer(chunk), HistogramValue::Integer(h)) => chunk.append(t, h),
            (Self::Float(chunk), HistogramValue::Float(h)) => chunk.append(t, h),
            _ => return Err(first_header_of(histogram)),
        };
        match outcome {
            Outcome::Appended | Outcome::Recoded => Ok(()),
            Outcome::NewChunk(header) => Err(header),
        }
    }

    /// The header of the chunk that begins with `histogram` because this one is full.
    fn next_header(&self, histogram: &HistogramValue) -> CounterReset {
        match (self, histogram) {
            (Self::Integer(chunk), HistogramValue::Integer(h)) => chunk.next_header(h.as_ref()),
            (Self::Float(chunk), HistogramValue::Float(h)) => chunk.next_header(h.as_ref()),
            _ => first_header_of(histogram),
        }
    }

    fn count(&self) -> u16 {
        match self {
            Self::Integer(chunk) => chunk.count(),
            Self::Float(chunk) => chunk.count(),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Integer(chunk) => chunk.as_bytes(),
            Self::Float(chunk) => chunk.as_bytes(),
        }
    }

    fn encoding(&self) -> Encoding {
        match self {
            Self::Integer(_) => Encoding::Histogram,
            Self::Float(_) => Encoding::FloatHistogram,
        }
    }
}

/// The header of a chunk that begins with `histogram` and follows none of its kind.
fn first_header_of(histogram: &HistogramValue) -> CounterReset {
    match histogram {
        HistogramValue::Integer(h) => first_header(h.as_ref()),
        HistogramValue::Float(h) => first_header(h.as_ref()),
    }
}

/// What is known of an open chunk beside its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenHistogramState {
    pub(crate) min_time: Timestamp,
    pub(crate) max_time: Timestamp,
    pub(crate) range_end: Timestamp,
    pub(crate) next_at: Timestamp,
    pub(crate) has_even_end: bool,
}

impl OpenHistogram {
    /// What is known of the chunk beside its bytes.
    pub(crate) const fn state(&self) -> OpenHistogramState {
        OpenHistogramState {
            min_time: self.min_time,
            max_time: self.max_time,
            range_end: self.range_end,
            next_at: self.next_at,
            has_even_end: self.has_even_end,
        }
    }

    /// A chunk that goes on where it ended; `None` if its bytes are malformed.
    pub(crate) fn restore(
        state: OpenHistogramState,
        encoding: Encoding,
        chunk: &[u8],
    ) -> Option<Self> {
        let (chunk, last) = match encoding {
            Encoding::Histogram => {
                let chunk = HistogramChunk::resume(encoding, chunk).ok()?;
                let last = chunk.last().into();
                (Chunk::Integer(chunk), last)
            }
            Encoding::FloatHistogram => {
                let chunk = FloatHistogramChunk::resume(encoding, chunk).ok()?;
                let last = chunk.last().into();
                (Chunk::Float(chunk), last)
            }
            _ => return None,
        };
        let OpenHistogramState { min_time, max_time, range_end, next_at, has_even_end } = state;
        Some(Self { chunk, min_time, max_time, range_end, next_at, has_even_end, last })
    }

    /// A chunk that starts with `histogram` and follows none of histograms, in the block range that ends at `range_end`.
    pub(crate) fn start(t: Timestamp, range_end: Timestamp, histogram: &HistogramValue) -> Self {
        Self::with_header(t, range_end, histogram, first_header_of(histogram))
    }

    fn with_header(
        t: Timestamp,
        range_end: Timestamp,
        histogram: &HistogramValue,
        header: CounterReset,
    ) -> Self {
        Self {
            chunk: Chunk::start(t, histogram, header),
            min_time: t,
            max_time: t,
            range_end,
            next_at: range_end,
            has_even_end: false,
            last: histogram.clone(),
        }
    }

    /// The newest sample.
    pub(crate) fn last(&self) -> &HistogramValue {
        &self.last
    }

    /// The chunk as it stands in a file.
    pub(crate) fn chunk(&self) -> (Encoding, &[u8]) {
        (self.chunk.encoding(), self.chunk.bytes())
    }

    /// Bytes held, about.
    pub(crate) fn bytes(&self) -> usize {
        let held = match &self.chunk {
            Chunk::Integer(chunk) => chunk.held_bytes(),
            Chunk::Float(chunk) => chunk.held_bytes(),
        };
        let last = match &self.last {
            HistogramValue::Integer(histogram) => histogram.bytes(),
            HistogramValue::Float(histogram) => histogram.bytes(),
        };
        size_of::<Self>() + held + last
    }

    /// The chunk as it stands in a file.
    pub(crate) fn into_chunk(self) -> (Encoding, Vec<u8>) {
        (self.chunk.encoding(), self.chunk.bytes().to_vec())
    }

    /// Appends a sample; `range_end` is that of its time. The chunk so far is returned when another had to be started.
    pub(crate) fn append(
        &mut self,
        t: Timestamp,
        range_end: Timestamp,
        histogram: &HistogramValue,
    ) -> Option<(Encoding, Vec<u8>)> {
        let appended = if self.is_full(t) {
            Err(self.chunk.next_header(histogram))
        } else {
            self.chunk.append(t, histogram)
        };
        match appended {
            Ok(()) => {
                self.max_time = t;
                self.last = histogram.clone();
                None
            }
            Err(header) => {
                let next = Self::with_header(t, range_end, histogram, header);
                Some(std::mem::replace(self, next).into_chunk())
            }
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "as Prometheus; chunks have kilobytes")]
    fn is_full(&mut self, t: Timestamp) -> bool {
        let bytes = self.chunk.bytes().len();
        let range_end = if self.has_even_end { self.range_end } else { self.next_at };
        if !self.has_even_end && bytes >= TARGET_BYTES / 4 {
            let ratio = TARGET_BYTES as f64 / bytes as f64;
            self.next_at = even_end(self.min_time, self.max_time, self.next_at, ratio);
            self.has_even_end = true;
        }
        let is_due = t >= self.next_at || bytes >= TARGET_BYTES * 2;
        is_due && (self.chunk.count() >= SAMPLES_MIN || t >= range_end)
    }
}
