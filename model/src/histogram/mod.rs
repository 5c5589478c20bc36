//! Native histograms: integer ones as targets expose and chunks store them, float ones as queries use them.
//!
//! Buckets are sparse: spans say which bucket indices are populated, and a list holds one number for each of them. In an integer
//! histogram that number is the difference to the bucket before (the first is absolute), in a float histogram it is the count itself.
//! Exponential schemas (−4 to 8) give bucket `i` the upper bound `2^(i · 2^−schema)`; the custom schema (−53) lists the bounds.
//!
//! What is done with them is Prometheus's down to the last bit and to the layout that `==` sees: bounds (`bounds`), sums and differences
//! (`arithmetic`, `total` with compensation, `zero` for zero buckets of different widths), counter resets (`reset`), cutting off (`trim`),
//! values within buckets (`interpolate`), and what is refused (`validate`).
//!
//! Source: the native histograms specification, <https://prometheus.io/docs/specs/native_histograms/>.

mod arithmetic;
mod bounds;
mod buckets;
mod equal;
mod integer;
mod interpolate;
mod kahan;
mod layout;
mod reset;
#[cfg(test)]
mod tests;
mod text;
mod total;
mod trim;
mod validate;
mod zero;

use crate::is_stale;

pub use arithmetic::{Combined, IncompatibleSchemas};
pub use bounds::bucket_bound;
pub use buckets::Bucket;
pub use total::HistogramSum;
pub use trim::Trim;
pub use validate::{InvalidBuckets, InvalidHistogram};

/// The schema of histograms whose bounds are listed: classic histograms in native form.
pub const CUSTOM_BUCKETS_SCHEMA: i32 = -53;
/// The coarsest exponential schema: a bucket grows by a factor of 65,536.
pub const EXPONENTIAL_SCHEMA_MIN: i32 = -4;
/// The finest exponential schema: a bucket grows by a factor of 2^(1/256).
pub const EXPONENTIAL_SCHEMA_MAX: i32 = 8;

/// Consecutive populated buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// Of the first span, the index of its first bucket; of others, the gap to the span before. The latter is never negative in a valid
    /// histogram.
    pub offset: i32,
    /// Number of buckets.
    pub length: u32,
}

/// What is known about a counter reset between a histogram and the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CounterReset {
    /// Nothing: compare them.
    #[default]
    Unknown,
    /// There was one.
    Reset,
    /// There was none.
    NotReset,
    /// The histogram is a gauge, so the question does not arise.
    Gauge,
}

/// A native histogram with integer counts.
///
/// Floats compare by value here; a stale marker (`sum` is the staleness NaN) equals nothing, use [`is_stale`](Self::is_stale).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// About the histogram before.
    pub counter_reset: CounterReset,
    /// −4 to 8, or [`CUSTOM_BUCKETS_SCHEMA`].
    pub schema: i32,
    /// Width of the zero bucket to either side; 0 with custom buckets.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: u64,
    /// All observations.
    pub count: u64,
    /// Sum of the observations; the staleness marker makes the histogram one.
    pub sum: f64,
    /// Which buckets of positive observations are populated.
    pub positive_spans: Vec<Span>,
    /// Which buckets of negative observations are populated.
    pub negative_spans: Vec<Span>,
    /// Count of the first positive bucket, then differences.
    pub positive_deltas: Vec<i64>,
    /// Count of the first negative bucket, then differences.
    pub negative_deltas: Vec<i64>,
    /// Upper bounds with custom buckets, ascending, without the last, which is +Inf.
    pub custom_bounds: Vec<f64>,
}

/// A native histogram with float counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FloatHistogram {
    /// About the histogram before.
    pub counter_reset: CounterReset,
    /// −4 to 8, or [`CUSTOM_BUCKETS_SCHEMA`].
    pub schema: i32,
    /// Width of the zero bucket to either side; 0 with custom buckets.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: f64,
    /// All observations.
    pub count: f64,
    /// Sum of the observations; the staleness marker makes the histogram one.
    pub sum: f64,
    /// Which buckets of positive observations are populated.
    pub positive_spans: Vec<Span>,
    /// Which buckets of negative observations are populated.
    pub negative_spans: Vec<Span>,
    /// Counts of the positive buckets.
    pub positive_counts: Vec<f64>,
    /// Counts of the negative buckets.
    pub negative_counts: Vec<f64>,
    /// Upper bounds with custom buckets, ascending, without the last, which is +Inf.
    pub custom_bounds: Vec<f64>,
}

impl Histogram {
    /// Whether the histogram marks the end of its series.
    #[must_use]
    pub const fn is_stale(&self) -> bool {
        is_stale(self.sum)
    }

    /// The same with float counts.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "as Prometheus: counts beyond 2^53 are rounded")]
    pub fn to_float(&self) -> FloatHistogram {
        FloatHistogram {
            counter_reset: self.counter_reset,
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            zero_count: self.zero_count as f64,
            count: self.count as f64,
            sum: self.sum,
            positive_spans: self.positive_spans.clone(),
            negative_spans: self.negative_spans.clone(),
            positive_counts: absolute(&self.positive_deltas),
            negative_counts: absolute(&self.negative_deltas),
            custom_bounds: self.custom_bounds.clone(),
        }
    }

    /// Bytes held, for accounting.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + size_of::<Span>() * (self.positive_spans.len() + self.negative_spans.len())
            + size_of::<i64>() * (self.positive_deltas.len() + self.negative_deltas.len())
            + size_of::<f64>() * self.custom_bounds.len()
    }
}

#[expect(clippy::cast_precision_loss, reason = "as Prometheus: counts beyond 2^53 are rounded")]
fn absolute(deltas: &[i64]) -> Vec<f64> {
    let mut count = 0_i64;
    deltas
        .iter()
        .map(|&delta| {
            count = count.wrapping_add(delta);
            count as f64
        })
        .collect()
}

impl FloatHistogram {
    /// Whether the histogram marks the end of its series.
    #[must_use]
    pub const fn is_stale(&self) -> bool {
        is_stale(self.sum)
    }

    /// Whether the bounds are listed.
    #[must_use]
    pub const fn uses_custom_buckets(&self) -> bool {
        self.schema == CUSTOM_BUCKETS_SCHEMA
    }

    /// Bytes held, for accounting.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + size_of::<Span>() * (self.positive_spans.len() + self.negative_spans.len())
            + size_of::<f64>() * (self.positive_counts.len() + self.negative_counts.len())
            + size_of::<f64>() * self.custom_bounds.len()
    }
}
