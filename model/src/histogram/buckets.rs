//! Buckets one by one, with their bounds.

use super::bounds::bucket_bound;
use super::{FloatHistogram, Span};

/// A bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// Its lower bound.
    pub lower: f64,
    /// Its upper bound.
    pub upper: f64,
    /// Whether an observation equal to the lower bound is in it.
    pub lower_inclusive: bool,
    /// Whether an observation equal to the upper bound is in it.
    pub upper_inclusive: bool,
    /// Observations in it.
    pub count: f64,
    /// Its index; of no meaning for the zero bucket.
    pub index: i32,
}

/// The indices and counts that spans and counts describe, ascending. What has no counterpart is left out.
pub(super) fn indexed<'a, T: Copy>(
    spans: &'a [Span],
    counts: &'a [T],
) -> impl Iterator<Item = (i32, T)> + Clone + 'a {
    let mut next = 0_i32;
    let indices = spans.iter().flat_map(move |span| {
        let first = next.wrapping_add(span.offset);
        next = first.wrapping_add_unsigned(span.length);
        (0..span.length).map(move |i| first.wrapping_add_unsigned(i))
    });
    indices.zip(counts.iter().copied())
}

impl FloatHistogram {
    /// The zero bucket. Custom buckets have none; then it is empty and without width.
    #[must_use]
    pub const fn zero_bucket(&self) -> Bucket {
        Bucket {
            lower: -self.zero_threshold,
            upper: self.zero_threshold,
            lower_inclusive: true,
            upper_inclusive: true,
            count: self.zero_count,
            index: 0,
        }
    }

    fn positive_bucket(&self, (index, count): (i32, f64)) -> Bucket {
        let bound = |index| bucket_bound(index, self.schema, &self.custom_bounds);
        let (lower, upper) = (bound(index.wrapping_sub(1)), bound(index));
        let custom = self.uses_custom_buckets();
        Bucket {
            lower,
            upper,
            lower_inclusive: if custom { index == 0 } else { lower < 0.0 },
            upper_inclusive: custom || upper > 0.0,
            count,
            index,
        }
    }

    fn negative_bucket(&self, (index, count): (i32, f64)) -> Bucket {
        let bound = |index| -bucket_bound(index, self.schema, &[]);
        let (lower, upper) = (bound(index), bound(index.wrapping_sub(1)));
        Bucket {
            lower,
            upper,
            lower_inclusive: lower < 0.0,
            upper_inclusive: upper > 0.0,
            count,
            index,
        }
    }

    /// The buckets of positive observations (of all, with custom buckets), ascending.
    pub fn positive_buckets(&self) -> impl Iterator<Item = Bucket> + '_ {
        indexed(&self.positive_spans, &self.positive_counts)
            .map(|bucket| self.positive_bucket(bucket))
    }

    /// The buckets of negative observations from zero on, so descending.
    pub fn negative_buckets(&self) -> impl Iterator<Item = Bucket> + '_ {
        indexed(&self.negative_spans, &self.negative_counts)
            .map(|bucket| self.negative_bucket(bucket))
    }

    /// All buckets, ascending; the zero bucket only if it is populated. A bucket that the zero bucket overlaps starts or ends with it.
    pub fn buckets(&self) -> impl DoubleEndedIterator<Item = Bucket> + '_ {
        let negative: Vec<_> = indexed(&self.negative_spans, &self.negative_counts).collect();
        let positive: Vec<_> = indexed(&self.positive_spans, &self.positive_counts).collect();
        let negative = negative.into_iter().rev().map(|bucket| self.negative_bucket(bucket));
        let positive = positive.into_iter().map(|bucket| self.positive_bucket(bucket));
        let zero = (self.zero_count > 0.0).then(|| self.zero_bucket());
        let threshold = self.zero_threshold;
        let cut = move |mut bucket: Bucket| {
            if bucket.upper < 0.0 && bucket.upper > -threshold {
                bucket.upper = -threshold;
            } else if bucket.lower > 0.0 && bucket.lower < threshold {
                bucket.lower = threshold;
            }
            bucket
        };
        negative.map(cut).chain(zero).chain(positive.map(cut))
    }
}
