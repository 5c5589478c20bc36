//! What integer and float histograms have in common for a chunk, and where they differ: encodings 2 and 5 or 3 and 6.

use model::{CounterReset, FloatHistogram, Histogram, Span};

use crate::Encoding;
use crate::bits::BitVec;
use crate::field::{Field, Signed, Unsigned, Xor};
use crate::layout::Layout;

/// The value of a bucket in a histogram of kind `H`: a difference to the bucket before, or a count.
pub(crate) type BucketOf<H> = <<H as NativeHistogram>::Bucket as Field>::Value;
/// The value of a count in a histogram of kind `H`.
pub(crate) type CountOf<H> = <<H as NativeHistogram>::Count as Field>::Value;

/// A histogram taken apart.
#[derive(Debug)]
pub struct Parts<'h, H: NativeHistogram> {
    pub(crate) counter_reset: CounterReset,
    pub(crate) schema: i32,
    pub(crate) zero_threshold: f64,
    pub(crate) zero_count: CountOf<H>,
    pub(crate) count: CountOf<H>,
    pub(crate) sum: f64,
    pub(crate) positive_spans: &'h [Span],
    pub(crate) negative_spans: &'h [Span],
    pub(crate) positive: &'h [BucketOf<H>],
    pub(crate) negative: &'h [BucketOf<H>],
    pub(crate) custom_bounds: &'h [f64],
}

// Not derived, since that would ask the same of `H`.
impl<H: NativeHistogram> Clone for Parts<'_, H> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<H: NativeHistogram> Copy for Parts<'_, H> {}

impl<H: NativeHistogram> Parts<'_, H> {
    /// All that a chunk keeps of a stale marker.
    pub(crate) fn stale(sum: f64) -> Self {
        Self {
            counter_reset: CounterReset::Unknown,
            schema: 0,
            zero_threshold: 0.0,
            zero_count: CountOf::<H>::default(),
            count: CountOf::<H>::default(),
            sum,
            positive_spans: &[],
            negative_spans: &[],
            positive: &[],
            negative: &[],
            custom_bounds: &[],
        }
    }
}

/// Everything but the time of the last sample, and what the next one is encoded against.
#[derive(Clone, Debug)]
pub struct Fields<H: NativeHistogram> {
    pub(crate) count: H::Count,
    pub(crate) zero_count: H::Count,
    pub(crate) sum: Xor,
    pub(crate) positive: Vec<H::Bucket>,
    pub(crate) negative: Vec<H::Bucket>,
}

impl<H: NativeHistogram> Fields<H> {
    pub(crate) const NEW: Self = Self {
        count: H::Count::NEW,
        zero_count: H::Count::NEW,
        sum: Xor::NEW,
        positive: Vec::new(),
        negative: Vec::new(),
    };
}

/// Why a histogram cannot go into the chunk of the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// There was a counter reset in between.
    Reset,
    /// Schema or zero threshold changed, or the one before was a stale marker.
    Layout,
    /// The one before was a gauge.
    AfterGauge,
}

/// A histogram that a chunk can be made of: [`Histogram`] or [`FloatHistogram`]. Nothing else can be, since what the methods take and give cannot be named outside.
pub trait NativeHistogram: Clone + std::fmt::Debug {
    /// How counts are encoded.
    #[doc(hidden)]
    type Count: Field;
    /// How buckets are encoded.
    #[doc(hidden)]
    type Bucket: Field;

    /// Of a chunk without start timestamps.
    const ENCODING: Encoding;
    /// Of a chunk with start timestamps.
    const ENCODING_WITH_STARTS: Encoding;

    #[doc(hidden)]
    fn parts(&self) -> Parts<'_, Self>;

    /// The histogram that was read last.
    #[doc(hidden)]
    fn assemble(counter_reset: CounterReset, layout: &Layout, fields: &Fields<Self>) -> Self;

    /// The same with float counts.
    #[doc(hidden)]
    fn assemble_float(
        counter_reset: CounterReset,
        layout: &Layout,
        fields: &Fields<Self>,
    ) -> FloatHistogram;

    /// Counts of buckets.
    #[doc(hidden)]
    fn counts(
        buckets: impl Iterator<Item = BucketOf<Self>>,
    ) -> impl Iterator<Item = BucketOf<Self>>;

    /// Buckets with these counts.
    #[doc(hidden)]
    fn from_counts(counts: Vec<BucketOf<Self>>) -> Vec<BucketOf<Self>>;

    /// Writes the two counts of a stale marker that is not the first sample.
    #[doc(hidden)]
    fn put_stale_counts(fields: &mut Fields<Self>, out: &mut BitVec);

    /// What the header of a new chunk says. `cut` is whether the chunk before had room.
    #[doc(hidden)]
    fn header_after(misfit: Option<Misfit>, cut: bool) -> CounterReset;
}

impl NativeHistogram for Histogram {
    type Count = Unsigned;
    type Bucket = Signed;

    const ENCODING: Encoding = Encoding::Histogram;
    const ENCODING_WITH_STARTS: Encoding = Encoding::HistogramWithStarts;

    fn parts(&self) -> Parts<'_, Self> {
        Parts {
            counter_reset: self.counter_reset,
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            zero_count: self.zero_count,
            count: self.count,
            sum: self.sum,
            positive_spans: &self.positive_spans,
            negative_spans: &self.negative_spans,
            positive: &self.positive_deltas,
            negative: &self.negative_deltas,
            custom_bounds: &self.custom_bounds,
        }
    }

    fn assemble(counter_reset: CounterReset, layout: &Layout, fields: &Fields<Self>) -> Self {
        Self {
            counter_reset,
            schema: layout.schema,
            zero_threshold: layout.zero_threshold,
            zero_count: fields.zero_count.value(),
            count: fields.count.value(),
            sum: fields.sum.value(),
            positive_spans: layout.positive.clone(),
            negative_spans: layout.negative.clone(),
            positive_deltas: fields.positive.iter().map(Field::value).collect(),
            negative_deltas: fields.negative.iter().map(Field::value).collect(),
            custom_bounds: layout.custom_bounds.clone(),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "as Prometheus: counts beyond 2^53 are rounded")]
    fn assemble_float(
        counter_reset: CounterReset,
        layout: &Layout,
        fields: &Fields<Self>,
    ) -> FloatHistogram {
        let floats = |buckets: &[Signed]| {
            Self::counts(buckets.iter().map(Field::value)).map(|count| count as f64).collect()
        };
        FloatHistogram {
            counter_reset,
            schema: layout.schema,
            zero_threshold: layout.zero_threshold,
            zero_count: fields.zero_count.value() as f64,
            count: fields.count.value() as f64,
            sum: fields.sum.value(),
            positive_spans: layout.positive.clone(),
            negative_spans: layout.negative.clone(),
            positive_counts: floats(&fields.positive),
            negative_counts: floats(&fields.negative),
            custom_bounds: layout.custom_bounds.clone(),
        }
    }

    fn counts(deltas: impl Iterator<Item = i64>) -> impl Iterator<Item = i64> {
        deltas.scan(0_i64, |count, delta| {
            *count = count.wrapping_add(delta);
            Some(*count)
        })
    }

    fn from_counts(mut counts: Vec<i64>) -> Vec<i64> {
        let mut before = 0;
        for count in &mut counts {
            let delta = count.wrapping_sub(before);
            before = std::mem::replace(count, delta);
        }
        counts
    }

    fn put_stale_counts(_: &mut Fields<Self>, out: &mut BitVec) {
        // Twice a difference of differences of 0, whatever the counts were.
        out.put(2, 0);
    }

    fn header_after(misfit: Option<Misfit>, _cut: bool) -> CounterReset {
        match misfit {
            Some(Misfit::Reset) => CounterReset::Reset,
            Some(Misfit::Layout) => CounterReset::Unknown,
            None | Some(Misfit::AfterGauge) => CounterReset::NotReset,
        }
    }
}

impl NativeHistogram for FloatHistogram {
    type Count = Xor;
    type Bucket = Xor;

    const ENCODING: Encoding = Encoding::FloatHistogram;
    const ENCODING_WITH_STARTS: Encoding = Encoding::FloatHistogramWithStarts;

    fn parts(&self) -> Parts<'_, Self> {
        Parts {
            counter_reset: self.counter_reset,
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            zero_count: self.zero_count,
            count: self.count,
            sum: self.sum,
            positive_spans: &self.positive_spans,
            negative_spans: &self.negative_spans,
            positive: &self.positive_counts,
            negative: &self.negative_counts,
            custom_bounds: &self.custom_bounds,
        }
    }

    fn assemble(counter_reset: CounterReset, layout: &Layout, fields: &Fields<Self>) -> Self {
        Self {
            counter_reset,
            schema: layout.schema,
            zero_threshold: layout.zero_threshold,
            zero_count: fields.zero_count.value(),
            count: fields.count.value(),
            sum: fields.sum.value(),
            positive_spans: layout.positive.clone(),
            negative_spans: layout.negative.clone(),
            positive_counts: fields.positive.iter().map(Field::value).collect(),
            negative_counts: fields.negative.iter().map(Field::value).collect(),
            custom_bounds: layout.custom_bounds.clone(),
        }
    }

    fn assemble_float(
        counter_reset: CounterReset,
        layout: &Layout,
        fields: &Fields<Self>,
    ) -> FloatHistogram {
        Self::assemble(counter_reset, layout, fields)
    }

    fn counts(counts: impl Iterator<Item = f64>) -> impl Iterator<Item = f64> {
        counts
    }

    fn from_counts(counts: Vec<f64>) -> Vec<f64> {
        counts
    }

    fn put_stale_counts(fields: &mut Fields<Self>, out: &mut BitVec) {
        fields.count.put_next(0.0, out);
        fields.zero_count.put_next(0.0, out);
    }

    fn header_after(misfit: Option<Misfit>, cut: bool) -> CounterReset {
        match misfit {
            Some(Misfit::Reset) => CounterReset::Reset,
            // Prometheus notes that nothing was reset only where the chunk before was full.
            _ if cut => CounterReset::Unknown,
            _ => CounterReset::NotReset,
        }
    }
}
