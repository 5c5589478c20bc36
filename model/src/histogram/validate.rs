//! What makes a histogram invalid, for those who take them in.

use super::{CUSTOM_BUCKETS_SCHEMA, EXPONENTIAL_SCHEMA_MAX, EXPONENTIAL_SCHEMA_MIN};
use super::{FloatHistogram, Histogram, Span};
use crate::{FloatFormat, format_float};

/// What is wrong with a histogram. The texts are Prometheus's.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidHistogram {
    /// A schema that histograms cannot be stored with.
    #[error(
        "histogram has an invalid schema, which must be between {EXPONENTIAL_SCHEMA_MIN} and \
         {EXPONENTIAL_SCHEMA_MAX} for exponential buckets, or {CUSTOM_BUCKETS_SCHEMA} for custom buckets, \
         got schema {0}"
    )]
    Schema(i32),
    /// On one side.
    #[error("{side}: {reason}")]
    Side {
        /// `positive side`, `negative side` or `custom buckets`.
        side: &'static str,
        /// What is wrong there.
        reason: InvalidBuckets,
    },
    /// Custom buckets with a zero count.
    #[error("custom buckets: must have zero count of 0")]
    CustomZeroCount,
    /// Custom buckets with a zero threshold.
    #[error("custom buckets: must have zero threshold of 0")]
    CustomZeroThreshold,
    /// Custom buckets with negative spans.
    #[error("custom buckets: must not have negative spans")]
    CustomNegativeSpans,
    /// Custom buckets with negative buckets.
    #[error("custom buckets: must not have negative buckets")]
    CustomNegativeBuckets,
    /// Exponential buckets with custom bounds.
    #[error("histogram with exponential schema must not have custom bounds")]
    ExponentialCustomBounds,
    /// A negative zero count.
    #[error(
        "zero bucket has observation count of {}: histogram has a bucket whose observation count is negative",
        .0
    )]
    NegativeZeroCount(String),
    /// A negative count.
    #[error("observation count is  {0}: histogram's observation count is negative")]
    NegativeCount(String),
    /// More observations in buckets than in total.
    #[error(
        "{buckets} observations found in buckets, but the Count field is {count}: histogram's observation count \
         should be at least the number of observations found in the buckets"
    )]
    CountNotBigEnough {
        /// Observations in buckets.
        buckets: u64,
        /// Observations in total.
        count: u64,
    },
    /// Another number of observations in buckets than in total.
    #[error(
        "{buckets} observations found in buckets, but the Count field is {count}: histogram's observation count \
         should equal the number of observations found in the buckets (in absence of NaN)"
    )]
    CountMismatch {
        /// Observations in buckets.
        buckets: u64,
        /// Observations in total.
        count: u64,
    },
}

/// What is wrong with the buckets of one side.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidBuckets {
    /// A span that goes back.
    #[error(
        "span number {number} with offset {offset}: histogram has a span whose offset is negative"
    )]
    NegativeOffset {
        /// Which span, from 1.
        number: usize,
        /// Its offset.
        offset: i32,
    },
    /// Spans of more or fewer buckets than there are.
    #[error(
        "spans need {spans} buckets, have {buckets} buckets: histogram spans specify different number of buckets \
         than provided"
    )]
    Mismatch {
        /// Buckets that spans describe.
        spans: u64,
        /// Buckets that there are.
        buckets: usize,
    },
    /// A negative count.
    #[error(
        "bucket number {number} has observation count of {count}: histogram has a bucket whose observation count \
         is negative"
    )]
    NegativeCount {
        /// Which bucket, from 1.
        number: usize,
        /// Its count.
        count: String,
    },
    /// A custom bound that is not a number.
    #[error("histogram custom bounds must not be NaN")]
    BoundNan,
    /// Custom bounds that do not increase.
    #[error(
        "previous bound is {previous:.6} and current is {current:.6}: histogram custom bounds must be in \
         strictly increasing order"
    )]
    BoundsOrder {
        /// A bound.
        previous: f64,
        /// The bound after it.
        current: f64,
    },
    /// A custom bound that is infinite.
    #[error(
        "last +Inf bound must not be explicitly defined: histogram custom bounds must be finite"
    )]
    BoundInfinite,
    /// Fewer custom bounds than the buckets need.
    #[error(
        "only {bounds} custom bounds defined which is insufficient to cover total span length of {length}: \
         histogram custom bounds are too few"
    )]
    BoundsTooFew {
        /// Bounds.
        bounds: usize,
        /// Buckets from the first to the last.
        length: i64,
    },
}

const POSITIVE: &str = "positive side";
const NEGATIVE: &str = "negative side";
const CUSTOM: &str = "custom buckets";

const fn on(side: &'static str) -> impl Fn(InvalidBuckets) -> InvalidHistogram {
    move |reason| InvalidHistogram::Side { side, reason }
}

/// What both kinds of histograms have, as far as it is checked alike.
struct Layout<'h> {
    schema: i32,
    zero_threshold: f64,
    positive: (&'h [Span], usize),
    negative: (&'h [Span], usize),
    custom_bounds: &'h [f64],
}

impl Layout<'_> {
    fn check(&self, zero_count_is_zero: bool) -> Result<(), InvalidHistogram> {
        if self.schema == CUSTOM_BUCKETS_SCHEMA {
            check_bounds(self.custom_bounds).map_err(on(CUSTOM))?;
            let (spans, counts) = self.positive;
            check_custom_spans(self.custom_bounds, spans, counts).map_err(on(CUSTOM))?;
            return if !zero_count_is_zero {
                Err(InvalidHistogram::CustomZeroCount)
            } else if self.zero_threshold != 0.0 {
                Err(InvalidHistogram::CustomZeroThreshold)
            } else if !self.negative.0.is_empty() {
                Err(InvalidHistogram::CustomNegativeSpans)
            } else if self.negative.1 > 0 {
                Err(InvalidHistogram::CustomNegativeBuckets)
            } else {
                Ok(())
            };
        }
        if !(EXPONENTIAL_SCHEMA_MIN..=EXPONENTIAL_SCHEMA_MAX).contains(&self.schema) {
            return Err(InvalidHistogram::Schema(self.schema));
        }
        check_spans(self.positive.0, self.positive.1, 1).map_err(on(POSITIVE))?;
        check_spans(self.negative.0, self.negative.1, 1).map_err(on(NEGATIVE))
    }

    fn check_no_bounds(&self) -> Result<(), InvalidHistogram> {
        if self.schema != CUSTOM_BUCKETS_SCHEMA && !self.custom_bounds.is_empty() {
            return Err(InvalidHistogram::ExponentialCustomBounds);
        }
        Ok(())
    }
}

/// Offsets from span `first` (from 0) on must not be negative, and spans must have as many buckets as there are.
fn check_spans(spans: &[Span], buckets: usize, first: usize) -> Result<(), InvalidBuckets> {
    let mut lengths = 0_u64;
    for (at, span) in spans.iter().enumerate() {
        if at >= first && span.offset < 0 {
            return Err(InvalidBuckets::NegativeOffset { number: at + 1, offset: span.offset });
        }
        lengths += u64::from(span.length);
    }
    if usize::try_from(lengths) != Ok(buckets) {
        return Err(InvalidBuckets::Mismatch { spans: lengths, buckets });
    }
    Ok(())
}

fn check_bounds(bounds: &[f64]) -> Result<(), InvalidBuckets> {
    if bounds.iter().any(|bound| bound.is_nan()) {
        // Which of two faults is named first does not matter but to a reader: the order is that of the bounds.
        let at = bounds.iter().position(|bound| bound.is_nan()).unwrap_or(0);
        check_order(&bounds[..at])?;
        return Err(InvalidBuckets::BoundNan);
    }
    check_order(bounds)?;
    if bounds.last() == Some(&f64::INFINITY) {
        return Err(InvalidBuckets::BoundInfinite);
    }
    Ok(())
}

fn check_order(bounds: &[f64]) -> Result<(), InvalidBuckets> {
    match bounds.windows(2).find(|pair| pair[1] <= pair[0]) {
        Some(pair) => Err(InvalidBuckets::BoundsOrder { previous: pair[0], current: pair[1] }),
        None => Ok(()),
    }
}

fn check_custom_spans(
    bounds: &[f64],
    spans: &[Span],
    buckets: usize,
) -> Result<(), InvalidBuckets> {
    check_spans(spans, buckets, 0)?;
    let length: i64 =
        spans.iter().map(|span| i64::from(span.offset) + i64::from(span.length)).sum();
    if i64::try_from(bounds.len()).is_ok_and(|bounds| bounds + 1 < length) {
        return Err(InvalidBuckets::BoundsTooFew { bounds: bounds.len(), length });
    }
    Ok(())
}

/// The sum of integer counts, none of which may be negative.
fn check_deltas(deltas: &[i64]) -> Result<u64, InvalidBuckets> {
    let (mut count, mut sum) = (0_i64, 0_u64);
    for (at, delta) in deltas.iter().enumerate() {
        count = count.wrapping_add(*delta);
        let Ok(unsigned) = u64::try_from(count) else {
            let count = count.to_string();
            return Err(InvalidBuckets::NegativeCount { number: at + 1, count });
        };
        sum = sum.wrapping_add(unsigned);
    }
    Ok(sum)
}

fn check_counts(counts: &[f64]) -> Result<(), InvalidBuckets> {
    match counts.iter().position(|count| *count < 0.0) {
        Some(at) => Err(InvalidBuckets::NegativeCount { number: at + 1, count: text(counts[at]) }),
        None => Ok(()),
    }
}

fn text(v: f64) -> String {
    format_float(v, FloatFormat::General)
}

impl Histogram {
    /// Checks that spans, counts, bounds and total fit together.
    ///
    /// # Errors
    /// [`InvalidHistogram`]
    pub fn validate(&self) -> Result<(), InvalidHistogram> {
        let layout = Layout {
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            positive: (&self.positive_spans, self.positive_deltas.len()),
            negative: (&self.negative_spans, self.negative_deltas.len()),
            custom_bounds: &self.custom_bounds,
        };
        layout.check(self.zero_count == 0)?;
        let negative = check_deltas(&self.negative_deltas).map_err(on(NEGATIVE))?;
        layout.check_no_bounds()?;
        let positive = check_deltas(&self.positive_deltas).map_err(on(POSITIVE))?;
        let buckets = negative.wrapping_add(positive).wrapping_add(self.zero_count);
        let count = self.count;
        // An observation that is not a number is counted, but in no bucket.
        if self.sum.is_nan() && buckets > count {
            Err(InvalidHistogram::CountNotBigEnough { buckets, count })
        } else if !self.sum.is_nan() && buckets != count {
            Err(InvalidHistogram::CountMismatch { buckets, count })
        } else {
            Ok(())
        }
    }
}

impl FloatHistogram {
    /// Checks that spans, counts and bounds fit together. The total is not compared with the buckets, since rounding could make them differ.
    ///
    /// # Errors
    /// [`InvalidHistogram`]
    pub fn validate(&self) -> Result<(), InvalidHistogram> {
        let layout = Layout {
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            positive: (&self.positive_spans, self.positive_counts.len()),
            negative: (&self.negative_spans, self.negative_counts.len()),
            custom_bounds: &self.custom_bounds,
        };
        layout.check(self.zero_count == 0.0)?;
        check_counts(&self.negative_counts).map_err(on(NEGATIVE))?;
        if self.zero_count < 0.0 {
            return Err(InvalidHistogram::NegativeZeroCount(text(self.zero_count)));
        }
        layout.check_no_bounds()?;
        if self.count < 0.0 {
            return Err(InvalidHistogram::NegativeCount(text(self.count)));
        }
        check_counts(&self.positive_counts).map_err(on(POSITIVE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(offset: i32, length: u32) -> Span {
        Span { offset, length }
    }

    fn valid() -> Histogram {
        Histogram {
            zero_threshold: 0.001,
            zero_count: 2,
            count: 10,
            sum: 5.0,
            positive_spans: vec![span(-3, 2), span(2, 1)],
            positive_deltas: vec![1, 1, 1],
            negative_spans: vec![span(0, 1)],
            negative_deltas: vec![2],
            ..Histogram::default()
        }
    }

    fn custom() -> Histogram {
        Histogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            count: 3,
            positive_spans: vec![span(0, 2)],
            positive_deltas: vec![1, 1],
            custom_bounds: vec![1.0, 2.0],
            ..Histogram::default()
        }
    }

    fn check(histogram: Histogram, change: impl FnOnce(&mut Histogram), expected: &str) {
        let mut histogram = histogram;
        change(&mut histogram);
        let integer = histogram.validate().map_err(|error| error.to_string());
        assert_eq!(integer.err().unwrap_or_default(), expected);
        // Float histograms are checked alike, but for the total.
        if !expected.contains("observations found") {
            let float = histogram.to_float().validate().map_err(|error| error.to_string());
            assert_eq!(float.err().unwrap_or_default(), expected);
        }
    }

    #[test]
    fn spans_must_fit_the_buckets() {
        check(valid(), |_| {}, "");
        check(custom(), |_| {}, "");
        check(
            valid(),
            |h| h.positive_spans[1].offset = -1,
            "positive side: span number 2 with offset -1: histogram has a span whose offset is negative",
        );
        check(
            valid(),
            |h| h.negative_deltas.push(0),
            "negative side: spans need 1 buckets, have 2 buckets: histogram spans specify different \
             number of buckets than provided",
        );
        check(
            valid(),
            |h| h.positive_deltas[1] = -5,
            "positive side: bucket number 2 has observation count of -4: histogram has a bucket whose \
             observation count is negative",
        );
        check(
            valid(),
            |h| h.schema = 9,
            "histogram has an invalid schema, which must be between -4 and 8 for exponential buckets, or \
             -53 for custom buckets, got schema 9",
        );
        check(
            valid(),
            |h| h.custom_bounds.push(1.0),
            "histogram with exponential schema must not have custom bounds",
        );
    }

    #[test]
    fn totals_must_fit_the_buckets() {
        check(
            valid(),
            |h| h.count = 11,
            "10 observations found in buckets, but the Count field is 11: histogram's observation count \
             should equal the number of observations found in the buckets (in absence of NaN)",
        );
        check(
            valid(),
            |h| (h.count, h.sum) = (9, f64::NAN),
            "10 observations found in buckets, but the Count field is 9: histogram's observation count \
             should be at least the number of observations found in the buckets",
        );
        check(valid(), |h| (h.count, h.sum) = (11, f64::NAN), "");
    }

    #[test]
    fn custom_bounds_must_ascend_and_suffice() {
        check(
            custom(),
            |h| h.custom_bounds = vec![2.0, 2.0],
            "custom buckets: previous bound is 2.000000 and current is 2.000000: histogram custom bounds \
             must be in strictly increasing order",
        );
        check(
            custom(),
            |h| h.custom_bounds = vec![2.0, f64::INFINITY],
            "custom buckets: last +Inf bound must not be explicitly defined: histogram custom bounds must \
             be finite",
        );
        check(
            custom(),
            |h| h.custom_bounds = vec![f64::NAN],
            "custom buckets: histogram custom bounds must not be NaN",
        );
        check(
            custom(),
            |h| h.positive_spans = vec![span(2, 2)],
            "custom buckets: only 2 custom bounds defined which is insufficient to cover total span length \
             of 4: histogram custom bounds are too few",
        );
        check(custom(), |h| h.zero_count = 1, "custom buckets: must have zero count of 0");
        check(
            custom(),
            |h| h.zero_threshold = 1.0,
            "custom buckets: must have zero threshold of 0",
        );
        check(
            custom(),
            |h| h.negative_spans.push(span(0, 0)),
            "custom buckets: must not have negative spans",
        );
    }
}
