//! A running sum of histograms that keeps what rounding loses.

use super::arithmetic::{Combined, IncompatibleSchemas, Lost};
use super::layout::{Entry, coarsen, entries, union};
use super::{FloatHistogram, kahan};

/// A sum of histograms with compensation for rounding: each number is added up as Prometheus's Kahan sums add floats.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramSum {
    sum: FloatHistogram,
    /// Once something was added.
    lost: Option<Lost>,
}

impl HistogramSum {
    /// A sum that so far is `first`.
    #[must_use]
    pub const fn new(first: FloatHistogram) -> Self {
        Self { sum: first, lost: None }
    }

    /// The sum so far, rounded.
    #[must_use]
    pub const fn rounded(&self) -> &FloatHistogram {
        &self.sum
    }

    /// Multiplies by `factor`.
    pub fn multiply(&mut self, factor: f64) {
        self.sum.multiply(factor);
        if let Some(lost) = &mut self.lost {
            lost.each(|v| v * factor);
        }
    }

    /// Divides by `divisor`, which is not zero.
    pub fn divide(&mut self, divisor: f64) {
        self.sum.divide(divisor);
        if let Some(lost) = &mut self.lost {
            lost.each(|v| v / divisor);
        }
    }

    /// Adds `other`.
    ///
    /// # Errors
    /// [`IncompatibleSchemas`]; the sum is unchanged then.
    pub fn add(&mut self, other: &FloatHistogram) -> Result<Combined, IncompatibleSchemas> {
        let sum = &mut self.sum;
        let reset_collision = sum.join_counter_reset(other)?;
        let lost = self.lost.get_or_insert_with(|| Lost::none(sum));
        if sum.uses_custom_buckets() {
            kahan::add_to(&mut sum.count, &mut lost.count, other.count);
            kahan::add_to(&mut sum.sum, &mut lost.sum, other.sum);
            let bounds_reconciled = sum.custom_bounds != other.custom_bounds;
            if bounds_reconciled {
                lost.positive = sum.combine_mismatched(other, 1.0, Some(&lost.positive));
            } else {
                add_positive(sum, lost, other);
            }
            return Ok(Combined { reset_collision, bounds_reconciled });
        }
        let (zero_count, zero_lost) = sum.reconcile_zero_buckets(other, Some(&mut *lost));
        kahan::add_to(&mut sum.zero_count, &mut lost.zero_count, zero_count);
        kahan::add_to(&mut sum.zero_count, &mut lost.zero_count, zero_lost);
        kahan::add_to(&mut sum.count, &mut lost.count, other.count);
        kahan::add_to(&mut sum.sum, &mut lost.sum, other.sum);
        if other.schema < sum.schema {
            let (from, to) = (sum.schema, other.schema);
            let positive = entries(&sum.positive_spans, &sum.positive_counts, &lost.positive);
            set_positive(sum, lost, &coarsen(&positive, from, to, accumulate));
            let negative = entries(&sum.negative_spans, &sum.negative_counts, &lost.negative);
            set_negative(sum, lost, &coarsen(&negative, from, to, accumulate));
            sum.schema = to;
        }
        add_positive(sum, lost, other);
        add_negative(sum, lost, other);
        Ok(Combined { reset_collision, bounds_reconciled: false })
    }

    /// The sum with what rounding lost.
    #[must_use]
    pub fn total(self) -> FloatHistogram {
        let Self { mut sum, lost } = self;
        let Some(lost) = lost else { return sum };
        sum.zero_count += lost.zero_count;
        sum.count += lost.count;
        sum.sum += lost.sum;
        let positive = entries(&sum.positive_spans, &lost.positive, &[]);
        let skipped = positive.len() - sum.outside(&positive).len();
        give_back(&mut sum.positive_counts, &lost.positive, skipped);
        let negative = entries(&sum.negative_spans, &lost.negative, &[]);
        let skipped = negative.len() - sum.outside(&negative).len();
        give_back(&mut sum.negative_counts, &lost.negative, skipped);
        sum
    }
}

/// Buckets within the zero bucket are left alone, as in every addition.
fn give_back(counts: &mut [f64], lost: &[f64], skipped: usize) {
    counts.iter_mut().zip(lost).skip(skipped).for_each(|(count, lost)| *count += lost);
}

/// Adds a bucket and what was lost of it.
fn accumulate(a: &mut Entry, b: Entry) {
    kahan::add_to(&mut a.count, &mut a.lost, b.count);
    kahan::add_to(&mut a.count, &mut a.lost, b.lost);
}

fn add_positive(sum: &mut FloatHistogram, lost: &mut Lost, other: &FloatHistogram) {
    let outside = sum.are_outside(&sum.positive_spans);
    if outside && sum.schema == other.schema && sum.positive_spans == other.positive_spans {
        return add_counts(&mut sum.positive_counts, &mut lost.positive, &other.positive_counts);
    }
    let own = entries(&sum.positive_spans, &sum.positive_counts, &lost.positive);
    let other_side = side(sum, other, &entries(&other.positive_spans, &other.positive_counts, &[]));
    let all = union(&own, sum.outside(&other_side), accumulate);
    set_positive(sum, lost, &all);
}

fn add_negative(sum: &mut FloatHistogram, lost: &mut Lost, other: &FloatHistogram) {
    let outside = sum.are_outside(&sum.negative_spans);
    if outside && sum.schema == other.schema && sum.negative_spans == other.negative_spans {
        return add_counts(&mut sum.negative_counts, &mut lost.negative, &other.negative_counts);
    }
    let own = entries(&sum.negative_spans, &sum.negative_counts, &lost.negative);
    let other_side = side(sum, other, &entries(&other.negative_spans, &other.negative_counts, &[]));
    let all = union(&own, sum.outside(&other_side), accumulate);
    set_negative(sum, lost, &all);
}

/// The buckets of one side of `other`, merged into those of the schema of `sum` if that is coarser.
fn side(sum: &FloatHistogram, other: &FloatHistogram, buckets: &[Entry]) -> Vec<Entry> {
    if other.schema > sum.schema {
        coarsen(buckets, other.schema, sum.schema, accumulate)
    } else {
        buckets.to_vec()
    }
}

fn add_counts(counts: &mut [f64], lost: &mut [f64], other: &[f64]) {
    for ((count, lost), other) in counts.iter_mut().zip(lost).zip(other) {
        kahan::add_to(count, lost, *other);
    }
}

fn set_positive(sum: &mut FloatHistogram, lost: &mut Lost, buckets: &[Entry]) {
    sum.set_positive(buckets);
    lost.positive = buckets.iter().map(|bucket| bucket.lost).collect();
}

fn set_negative(sum: &mut FloatHistogram, lost: &mut Lost, buckets: &[Entry]) {
    sum.set_negative(buckets);
    lost.negative = buckets.iter().map(|bucket| bucket.lost).collect();
}
