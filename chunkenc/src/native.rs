//! Chunks of native histograms under construction, recoded in place when buckets appear.
//!
//! Format: `docs/formats/chunks.md`. When to recode and when to begin a new chunk is decided as Prometheus decides it, so that the same
//! samples give the same bytes.

use std::borrow::Cow;

use model::{
    CUSTOM_BUCKETS_SCHEMA, CounterReset, FloatHistogram, Histogram, Span, Timestamp, is_stale,
};

use crate::bits::BitVec;
use crate::buckets::{compare, respan, union};
use crate::chunk::{ChunkError, Encoding};
use crate::field::{Field, Signed};
use crate::kind::{BucketOf, Fields, Misfit, NativeHistogram, Parts};
use crate::layout::Layout;
use crate::native_decode::{HISTOGRAM_HEADER_BYTES, NativeDecoder, layouts_in_bounds};
use crate::starts::Starts;

/// A chunk of integer histograms under construction: encoding 2, or 5 with start timestamps.
pub type HistogramChunk = NativeChunk<Histogram>;
/// A chunk of float histograms under construction: encoding 3, or 6 with start timestamps.
pub type FloatHistogramChunk = NativeChunk<FloatHistogram>;

/// Samples that the header of a chunk without start timestamps can count.
const COUNT_MAX: u16 = u16::MAX;
/// Samples that the header of a chunk with them can count.
const COUNT_WITH_STARTS_MAX: u16 = 0x3fff;

/// What became of a histogram that was to be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// It is in the chunk, whose bytes were extended.
    Appended,
    /// It is in the chunk, all of which was encoded anew, with buckets that it lacked.
    Recoded,
    /// It needs a chunk of its own, with this header, and this one is unchanged. `Reset` says that a counter reset was detected; `Unknown` and
    /// `NotReset`, that the layout changed, a gauge ended or a stale marker came before; `Gauge`, the same for a gauge.
    NewChunk(CounterReset),
}

/// A chunk of histograms under construction, with its bytes.
#[derive(Clone, Debug)]
pub struct NativeChunk<H: NativeHistogram> {
    bits: BitVec,
    header: CounterReset,
    count: u16,
    layout: Layout,
    time: Signed,
    fields: Fields<H>,
    starts: Option<Starts>,
}

/// A histogram with the spans of a chunk, or with those that a chunk is to get.
struct Fitted<'h, H: NativeHistogram> {
    positive_spans: Cow<'h, [Span]>,
    negative_spans: Cow<'h, [Span]>,
    positive: Cow<'h, [BucketOf<H>]>,
    negative: Cow<'h, [BucketOf<H>]>,
    /// The chunk lacks some of the buckets.
    recode: bool,
}

/// The header of the first chunk of a series, or of the first after samples of another kind.
#[must_use]
pub fn first_header<H: NativeHistogram>(histogram: &H) -> CounterReset {
    match histogram.parts().counter_reset {
        header @ (CounterReset::Gauge | CounterReset::Reset) => header,
        CounterReset::Unknown | CounterReset::NotReset => CounterReset::Unknown,
    }
}

impl<H: NativeHistogram> NativeChunk<H> {
    /// A chunk whose first sample is `histogram`, with the `header` that [`Outcome::NewChunk`], [`next_header`](Self::next_header) or
    /// [`first_header`] gave for it.
    ///
    /// # Panics
    /// If the histogram does not have as many buckets as its spans say.
    #[must_use]
    pub fn start(t: Timestamp, histogram: &H, header: CounterReset) -> Self {
        Self::start_as(t, histogram, header, None)
    }

    /// As [`start`](Self::start), with start timestamps: that of the first sample is `start`, 0 if unknown.
    ///
    /// # Panics
    /// If the histogram does not have as many buckets as its spans say.
    #[must_use]
    pub fn start_with_starts(
        t: Timestamp,
        start: Timestamp,
        histogram: &H,
        header: CounterReset,
    ) -> Self {
        Self::start_as(t, histogram, header, Some(start))
    }

    fn start_as(
        t: Timestamp,
        histogram: &H,
        header: CounterReset,
        start: Option<Timestamp>,
    ) -> Self {
        let mut chunk = Self::empty(header, start.is_some());
        chunk.put(t, start.unwrap_or(0), &histogram.parts());
        chunk
    }

    fn empty(header: CounterReset, with_starts: bool) -> Self {
        Self {
            bits: BitVec::new(vec![0; HISTOGRAM_HEADER_BYTES]),
            header,
            count: 0,
            layout: Layout::default(),
            time: Signed::NEW,
            fields: Fields::NEW,
            starts: with_starts.then(Starts::default),
        }
    }

    /// Continues a chunk that was written before, with all of its samples.
    ///
    /// # Errors
    /// [`ChunkError`] if it is damaged, empty, or not of this kind.
    pub fn resume(encoding: Encoding, chunk: &[u8]) -> Result<Self, ChunkError> {
        let mut decoder = NativeDecoder::<H>::new(encoding, chunk)?;
        while decoder.advance()? {}
        let NativeDecoder { bits, decoded, header, layout, time, fields, starts, .. } = decoder;
        // What is left is the unused part of the last byte.
        let free_bits = u32::try_from(bits.remaining()).unwrap_or(u32::MAX);
        if free_bits >= 8 || decoded == 0 {
            return Err(ChunkError::Malformed(decoded));
        }
        let bits = BitVec::resume(chunk.to_vec(), free_bits);
        Ok(Self { bits, header, count: decoded, layout, time, fields, starts })
    }

    /// Adds a histogram, or says that it needs a new chunk. The caller keeps times ascending.
    ///
    /// # Panics
    /// If the histogram does not have as many buckets as its spans say.
    pub fn append(&mut self, t: Timestamp, histogram: &H) -> Outcome {
        self.append_with_start(t, 0, histogram)
    }

    /// As [`append`](Self::append), with a start timestamp, which is dropped if the chunk was not started with one.
    ///
    /// # Panics
    /// If the histogram does not have as many buckets as its spans say.
    pub fn append_with_start(&mut self, t: Timestamp, start: Timestamp, histogram: &H) -> Outcome {
        let parts = histogram.parts();
        let gauge = parts.counter_reset == CounterReset::Gauge;
        let fitted = match if gauge { self.fit_gauge(&parts) } else { self.fit_counter(&parts) } {
            Ok(fitted) => fitted,
            Err(_) if gauge => return Outcome::NewChunk(CounterReset::Gauge),
            Err(misfit) => return Outcome::NewChunk(H::header_after(Some(misfit), true)),
        };
        let spans = match fitted.recode {
            true => fitted.positive_spans.len() + fitted.negative_spans.len(),
            false => self.layout.positive.len() + self.layout.negative.len(),
        };
        let entries = spans + self.layout.custom_bounds.len();
        if self.count >= self.count_max() || !layouts_in_bounds(entries, self.count + 1) {
            return Outcome::NewChunk(self.next_header(histogram));
        }
        if fitted.recode {
            self.recode(&fitted.positive_spans, &fitted.negative_spans);
        }
        let recoded = fitted.recode;
        let parts = Parts { positive: &fitted.positive, negative: &fitted.negative, ..parts };
        self.put(t, start, &parts);
        if recoded { Outcome::Recoded } else { Outcome::Appended }
    }

    /// The header of the chunk that begins with `histogram` because this one is full.
    ///
    /// Prometheus compares with the chunk before only if that is of the same kind; see [`first_header`] for the other case.
    #[must_use]
    pub fn next_header(&self, histogram: &H) -> CounterReset {
        let parts = histogram.parts();
        match parts.counter_reset {
            header @ (CounterReset::Gauge | CounterReset::Reset) => header,
            CounterReset::Unknown | CounterReset::NotReset => {
                H::header_after(self.fit_counter(&parts).err(), false)
            }
        }
    }

    /// Number of the encoding.
    #[must_use]
    pub const fn encoding(&self) -> Encoding {
        if self.starts.is_some() { H::ENCODING_WITH_STARTS } else { H::ENCODING }
    }

    /// What the header says about the first histogram, and [`CounterReset::Gauge`] about all of them.
    #[must_use]
    pub const fn header(&self) -> CounterReset {
        self.header
    }

    /// Samples in the chunk.
    #[must_use]
    pub const fn count(&self) -> u16 {
        self.count
    }

    /// Time of the last sample.
    #[must_use]
    pub fn last_t(&self) -> Timestamp {
        self.time.value()
    }

    /// The last sample, as it is in the chunk: with all of its buckets, none if it is a stale marker.
    #[must_use]
    pub fn last(&self) -> H {
        let first = self.count == 1;
        NativeDecoder::sample(self.header, first, &self.layout, &self.fields)
    }

    /// Bytes of the chunk.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.bits.as_bytes().len()
    }

    /// Bytes held, for accounting: the chunk, and what the next sample is encoded against.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        size_of::<Self>()
            + self.len_bytes()
            + size_of::<H::Bucket>() * (self.fields.positive.len() + self.fields.negative.len())
            + size_of::<Span>() * (self.layout.positive.len() + self.layout.negative.len())
            + size_of::<f64>() * self.layout.custom_bounds.len()
    }

    /// The chunk as it stands in a file, header first.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bits.as_bytes()
    }

    const fn count_max(&self) -> u16 {
        if self.starts.is_some() { COUNT_WITH_STARTS_MAX } else { COUNT_MAX }
    }

    /// What a histogram, counter or gauge, has to have in common with the chunk beside its buckets.
    fn fit_layout(&self, parts: &Parts<'_, H>) -> Result<(), Misfit> {
        if parts.schema != self.layout.schema || parts.zero_threshold != self.layout.zero_threshold
        {
            return Err(Misfit::Layout);
        }
        if parts.schema == CUSTOM_BUCKETS_SCHEMA
            && parts.custom_bounds != self.layout.custom_bounds.as_slice()
        {
            return Err(Misfit::Reset);
        }
        Ok(())
    }

    fn fit_counter<'h>(&self, parts: &Parts<'h, H>) -> Result<Fitted<'h, H>, Misfit> {
        if self.header == CounterReset::Gauge {
            return Err(Misfit::AfterGauge);
        }
        if parts.counter_reset == CounterReset::Reset {
            return Err(Misfit::Reset);
        }
        if is_stale(parts.sum) {
            return Ok(Fitted::stale());
        }
        if is_stale(self.fields.sum.value()) {
            return Err(Misfit::Layout);
        }
        if parts.count < self.fields.count.value() {
            return Err(Misfit::Reset);
        }
        self.fit_layout(parts)?;
        if parts.zero_count < self.fields.zero_count.value() {
            return Err(Misfit::Reset);
        }
        let lacking = |chunk_spans, chunk: &[H::Bucket], spans, buckets: &[BucketOf<H>]| {
            let before = H::counts(chunk.iter().map(Field::value));
            compare(chunk_spans, before, spans, H::counts(buckets.iter().copied()))
        };
        let positive = lacking(
            &self.layout.positive,
            &self.fields.positive,
            parts.positive_spans,
            parts.positive,
        )
        .ok_or(Misfit::Reset)?;
        let negative = lacking(
            &self.layout.negative,
            &self.fields.negative,
            parts.negative_spans,
            parts.negative,
        )
        .ok_or(Misfit::Reset)?;
        let recode = positive.chunk || negative.chunk;
        if !positive.histogram && !negative.histogram {
            return Ok(Fitted::unchanged(parts, recode));
        }
        // Empty buckets of the chunk that the histogram lacks: it takes the chunk's spans, or joins its own with them.
        let joined = |lacks: bool, chunk: &[Span], own: &'h [Span]| {
            if !recode {
                Cow::Owned(chunk.to_vec())
            } else if lacks {
                Cow::Owned(union(chunk, own).1)
            } else {
                Cow::Borrowed(own)
            }
        };
        let positive_spans =
            joined(positive.histogram, &self.layout.positive, parts.positive_spans);
        let negative_spans =
            joined(negative.histogram, &self.layout.negative, parts.negative_spans);
        Ok(Fitted::with_spans(parts, positive_spans, negative_spans, recode))
    }

    fn fit_gauge<'h>(&self, parts: &Parts<'h, H>) -> Result<Fitted<'h, H>, Misfit> {
        if self.header != CounterReset::Gauge {
            return Err(Misfit::Layout);
        }
        if is_stale(parts.sum) {
            return Ok(Fitted::stale());
        }
        if is_stale(self.fields.sum.value()) {
            return Err(Misfit::Layout);
        }
        self.fit_layout(parts)?;
        let (positive, positive_spans) = union(&self.layout.positive, parts.positive_spans);
        let (negative, negative_spans) = union(&self.layout.negative, parts.negative_spans);
        let recode = positive.chunk || negative.chunk;
        if !positive.histogram && !negative.histogram {
            return Ok(Fitted::unchanged(parts, recode));
        }
        let (positive_spans, negative_spans) =
            (Cow::Owned(positive_spans), Cow::Owned(negative_spans));
        Ok(Fitted::with_spans(parts, positive_spans, negative_spans, recode))
    }

    /// Encodes all samples anew, with these spans, which have all buckets that the chunk has.
    fn recode(&mut self, positive_spans: &[Span], negative_spans: &[Span]) {
        let mut recoded = Self::empty(self.header, self.starts.is_some());
        let mut decoder = NativeDecoder::<H>::new(self.encoding(), self.as_bytes())
            .expect("the header was written here");
        while decoder.advance().expect("what a chunk consists of was written or read before") {
            let sample = decoder.histogram();
            let (t, start, old) = (decoder.t(), decoder.start(), sample.parts());
            let spread = |from, buckets: &[BucketOf<H>], to| {
                H::from_counts(respan(from, H::counts(buckets.iter().copied()), to))
            };
            let positive = spread(old.positive_spans, old.positive, positive_spans);
            let negative = spread(old.negative_spans, old.negative, negative_spans);
            let (positive, negative) = (positive.as_slice(), negative.as_slice());
            let new = Parts { positive_spans, negative_spans, positive, negative, ..old };
            recoded.put(t, start, &new);
        }
        *self = recoded;
    }

    /// Encodes a histogram that has the buckets of the chunk, or begins it.
    fn put(&mut self, t: Timestamp, start: Timestamp, parts: &Parts<'_, H>) {
        let stale = is_stale(parts.sum);
        let parts = &if stale { Parts::stale(parts.sum) } else { *parts };
        let previous_t = self.time.value();
        let (out, fields) = (&mut self.bits, &mut self.fields);
        if self.count == 0 {
            self.layout = Layout {
                schema: parts.schema,
                zero_threshold: parts.zero_threshold,
                positive: parts.positive_spans.to_vec(),
                negative: parts.negative_spans.to_vec(),
                custom_bounds: parts.custom_bounds.to_vec(),
            };
            self.layout.put(out);
            self.time.put_first(t, out);
            fields.put_first(parts, out);
        } else {
            self.time.put_next(t, out);
            if stale {
                H::put_stale_counts(fields, out);
                fields.sum.put_next(parts.sum, out);
            } else {
                fields.put_next(parts, out);
            }
        }
        if let Some(starts) = &mut self.starts {
            starts.put(self.count, t, previous_t, start, out);
        }
        self.count += 1;
        self.put_header();
    }

    fn put_header(&mut self) {
        let flags = match self.header {
            CounterReset::Unknown => 0b00,
            CounterReset::NotReset => 0b01,
            CounterReset::Reset => 0b10,
            CounterReset::Gauge => 0b11,
        } << 6;
        let [high, low] = self.count.to_be_bytes();
        let header = match &self.starts {
            None => [high, low, flags],
            Some(starts) => [flags | high, low, starts.header()],
        };
        self.bits.as_bytes_mut()[..HISTOGRAM_HEADER_BYTES].copy_from_slice(&header);
    }
}

impl<H: NativeHistogram> Fields<H> {
    fn put_first(&mut self, parts: &Parts<'_, H>, out: &mut BitVec) {
        let buckets = |spans| usize::try_from(crate::buckets::count(spans)).unwrap_or(usize::MAX);
        assert!(
            buckets(parts.positive_spans) == parts.positive.len()
                && buckets(parts.negative_spans) == parts.negative.len(),
            "who takes histograms in checks that spans and buckets agree"
        );
        self.count.put_first(parts.count, out);
        self.zero_count.put_first(parts.zero_count, out);
        self.sum.put_first(parts.sum, out);
        self.positive = vec![H::Bucket::NEW; parts.positive.len()];
        self.negative = vec![H::Bucket::NEW; parts.negative.len()];
        for (field, &bucket) in self.positive.iter_mut().zip(parts.positive) {
            field.put_first(bucket, out);
        }
        for (field, &bucket) in self.negative.iter_mut().zip(parts.negative) {
            field.put_first(bucket, out);
        }
    }

    fn put_next(&mut self, parts: &Parts<'_, H>, out: &mut BitVec) {
        assert!(
            self.positive.len() == parts.positive.len()
                && self.negative.len() == parts.negative.len(),
            "who takes histograms in checks that spans and buckets agree"
        );
        self.count.put_next(parts.count, out);
        self.zero_count.put_next(parts.zero_count, out);
        self.sum.put_next(parts.sum, out);
        for (field, &bucket) in self.positive.iter_mut().zip(parts.positive) {
            field.put_next(bucket, out);
        }
        for (field, &bucket) in self.negative.iter_mut().zip(parts.negative) {
            field.put_next(bucket, out);
        }
    }
}

impl<'h, H: NativeHistogram> Fitted<'h, H> {
    const fn stale() -> Self {
        Self {
            positive_spans: Cow::Borrowed(&[]),
            negative_spans: Cow::Borrowed(&[]),
            positive: Cow::Borrowed(&[]),
            negative: Cow::Borrowed(&[]),
            recode: false,
        }
    }

    const fn unchanged(parts: &Parts<'h, H>, recode: bool) -> Self {
        Self {
            positive_spans: Cow::Borrowed(parts.positive_spans),
            negative_spans: Cow::Borrowed(parts.negative_spans),
            positive: Cow::Borrowed(parts.positive),
            negative: Cow::Borrowed(parts.negative),
            recode,
        }
    }

    /// The histogram with empty buckets where the spans have more than its own.
    fn with_spans(
        parts: &Parts<'h, H>,
        positive_spans: Cow<'h, [Span]>,
        negative_spans: Cow<'h, [Span]>,
        recode: bool,
    ) -> Self {
        let spread = |from, buckets: &[BucketOf<H>], to| {
            Cow::Owned(H::from_counts(respan(from, H::counts(buckets.iter().copied()), to)))
        };
        Self {
            positive: spread(parts.positive_spans, parts.positive, &positive_spans),
            negative: spread(parts.negative_spans, parts.negative, &negative_spans),
            positive_spans,
            negative_spans,
            recode,
        }
    }
}
