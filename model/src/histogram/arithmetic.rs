//! Sums, differences, multiples and fractions of histograms.
//!
//! Operands may differ in schema, zero bucket and custom bounds; the result has what both can be brought to without guessing:
//! the coarser schema, a zero bucket that ends at a bucket boundary of both, the bounds that both list. Additions are done in
//! Prometheus's order.

use super::bounds::exponential_bound;
use super::layout::{Entry, coarsen, compact, entries, outside_zero_bucket, spans_of, union};
use super::{CounterReset, FloatHistogram, Span, kahan};

/// The operands are of different kinds: exponential buckets and listed bounds have nothing in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot apply this operation on histograms with a mix of exponential and custom bucket schemas"
)]
pub struct IncompatibleSchemas;

/// What is worth knowing about how two histograms were combined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Combined {
    /// One was known to follow a counter reset, the other was known not to.
    pub reset_collision: bool,
    /// Custom bounds differed; the result has those that both had.
    pub bounds_reconciled: bool,
}

/// What rounding lost of the numbers of a histogram: they have the histogram's layout.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Lost {
    pub(super) zero_count: f64,
    pub(super) count: f64,
    pub(super) sum: f64,
    pub(super) positive: Vec<f64>,
    pub(super) negative: Vec<f64>,
}

impl Lost {
    /// Nothing, in the layout of `histogram`.
    pub(super) fn none(histogram: &FloatHistogram) -> Self {
        Self {
            positive: vec![0.0; histogram.positive_counts.len()],
            negative: vec![0.0; histogram.negative_counts.len()],
            ..Self::default()
        }
    }

    /// Applies `f` to each number.
    pub(super) fn each(&mut self, f: impl Fn(f64) -> f64) {
        let single = [&mut self.zero_count, &mut self.count, &mut self.sum];
        let all = single.into_iter().chain(&mut self.positive).chain(&mut self.negative);
        all.for_each(|v| *v = f(*v));
    }
}

impl FloatHistogram {
    /// Applies `f` to each count and to the sum.
    fn each(&mut self, f: impl Fn(f64) -> f64) {
        let single = [&mut self.zero_count, &mut self.count, &mut self.sum];
        let all = single.into_iter().chain(&mut self.positive_counts);
        all.chain(&mut self.negative_counts).for_each(|v| *v = f(*v));
    }

    /// Multiplies all counts and the sum. By a negative factor, a counter becomes a gauge.
    pub fn multiply(&mut self, factor: f64) {
        self.each(|v| v * factor);
        if factor < 0.0 {
            self.counter_reset = CounterReset::Gauge;
        }
    }

    /// Divides all counts and the sum. By a negative divisor, a counter becomes a gauge; by zero, there are no buckets left.
    pub fn divide(&mut self, divisor: f64) {
        self.each(|v| v / divisor);
        if divisor == 0.0 {
            self.positive_spans.clear();
            self.negative_spans.clear();
            self.positive_counts.clear();
            self.negative_counts.clear();
        } else if divisor < 0.0 {
            self.counter_reset = CounterReset::Gauge;
        }
    }

    /// Adds `other`.
    ///
    /// # Errors
    /// [`IncompatibleSchemas`]
    pub fn add(&mut self, other: &Self) -> Result<Combined, IncompatibleSchemas> {
        self.combine(other, 1.0)
    }

    /// Subtracts `other`. Of what is known about counter resets the result has what a sum would have.
    ///
    /// # Errors
    /// [`IncompatibleSchemas`]
    pub fn subtract(&mut self, other: &Self) -> Result<Combined, IncompatibleSchemas> {
        self.combine(other, -1.0)
    }

    fn combine(&mut self, other: &Self, sign: f64) -> Result<Combined, IncompatibleSchemas> {
        let reset_collision = self.join_counter_reset(other)?;
        if self.uses_custom_buckets() {
            self.count += sign * other.count;
            self.sum += sign * other.sum;
            let bounds_reconciled = self.custom_bounds != other.custom_bounds;
            if bounds_reconciled {
                self.combine_mismatched(other, sign, None);
            } else {
                self.combine_positive(other, sign);
            }
            return Ok(Combined { reset_collision, bounds_reconciled });
        }
        let (other_zero_count, _) = self.reconcile_zero_buckets(other, None);
        self.zero_count += sign * other_zero_count;
        self.count += sign * other.count;
        self.sum += sign * other.sum;
        if other.schema < self.schema {
            self.coarsen_to(other.schema);
        }
        if other.schema > self.schema {
            let mut coarse = other.clone();
            coarse.coarsen_to(self.schema);
            self.combine_positive(&coarse, sign);
            self.combine_negative(&coarse, sign);
        } else {
            self.combine_positive(other, sign);
            self.combine_negative(other, sign);
        }
        Ok(Combined { reset_collision, bounds_reconciled: false })
    }

    fn combine_positive(&mut self, other: &Self, sign: f64) {
        if self.positive_spans == other.positive_spans && self.are_outside(&self.positive_spans) {
            return combine_counts(&mut self.positive_counts, &other.positive_counts, sign);
        }
        let own = entries(&self.positive_spans, &self.positive_counts, &[]);
        let all = self.plain_union(
            &own,
            &entries(&other.positive_spans, &other.positive_counts, &[]),
            sign,
        );
        self.set_positive(&all);
    }

    fn combine_negative(&mut self, other: &Self, sign: f64) {
        if self.negative_spans == other.negative_spans && self.are_outside(&self.negative_spans) {
            return combine_counts(&mut self.negative_counts, &other.negative_counts, sign);
        }
        let own = entries(&self.negative_spans, &self.negative_counts, &[]);
        let all = self.plain_union(
            &own,
            &entries(&other.negative_spans, &other.negative_counts, &[]),
            sign,
        );
        self.set_negative(&all);
    }

    /// The buckets of both sides, without those of the other that are part of the zero bucket.
    fn plain_union(&self, own: &[Entry], other: &[Entry], sign: f64) -> Vec<Entry> {
        let other: Vec<Entry> = self
            .outside(other)
            .iter()
            .map(|entry| Entry { count: entry.count * sign, ..*entry })
            .collect();
        union(own, &other, |a, b| a.count += b.count)
    }

    /// Those of `buckets`, which are of this schema, that are not part of the zero bucket.
    pub(super) fn outside<'e>(&self, buckets: &'e [Entry]) -> &'e [Entry] {
        if self.uses_custom_buckets() {
            buckets
        } else {
            outside_zero_bucket(buckets, self.schema, self.zero_threshold)
        }
    }

    /// Whether no bucket that `spans` describe is part of the zero bucket.
    pub(super) fn are_outside(&self, spans: &[Span]) -> bool {
        self.uses_custom_buckets()
            || spans.first().is_none_or(|first| {
                exponential_bound(first.offset, self.schema) > self.zero_threshold
            })
    }

    /// Replaces the buckets of positive observations.
    pub(super) fn set_positive(&mut self, buckets: &[Entry]) {
        self.positive_spans = spans_of(buckets.iter().map(|bucket| bucket.index));
        self.positive_counts = buckets.iter().map(|bucket| bucket.count).collect();
    }

    /// Replaces the buckets of negative observations.
    pub(super) fn set_negative(&mut self, buckets: &[Entry]) {
        self.negative_spans = spans_of(buckets.iter().map(|bucket| bucket.index));
        self.negative_counts = buckets.iter().map(|bucket| bucket.count).collect();
    }

    /// What is known about counter resets of a sum or a difference; `true` if the operands contradict each other.
    pub(super) fn join_counter_reset(&mut self, other: &Self) -> Result<bool, IncompatibleSchemas> {
        use CounterReset::{Gauge, NotReset, Reset, Unknown};
        if self.uses_custom_buckets() != other.uses_custom_buckets() {
            return Err(IncompatibleSchemas);
        }
        let (joined, collision) = match (self.counter_reset, other.counter_reset) {
            (a, b) if a == b => (a, false),
            (Gauge, _) | (_, Gauge) => (Gauge, false),
            (Reset, NotReset) | (NotReset, Reset) => (Unknown, true),
            _ => (Unknown, false),
        };
        self.counter_reset = joined;
        Ok(collision)
    }

    /// Merges buckets into those of a coarser exponential schema.
    fn coarsen_to(&mut self, schema: i32) {
        let plus = |a: &mut Entry, b: Entry| a.count += b.count;
        let positive = entries(&self.positive_spans, &self.positive_counts, &[]);
        self.set_positive(&coarsen(&positive, self.schema, schema, plus));
        let negative = entries(&self.negative_spans, &self.negative_counts, &[]);
        self.set_negative(&coarsen(&negative, self.schema, schema, plus));
        self.schema = schema;
    }

    /// Merges buckets into those of exponential schema `schema`. Without effect if it is not coarser, or if the buckets are custom ones.
    pub fn reduce_resolution(&mut self, schema: i32) {
        if !self.uses_custom_buckets() && schema < self.schema {
            self.coarsen_to(schema);
        }
    }

    /// Combines the buckets of two lists of custom bounds into those that both have. Zeros are left out. `lost` is of this histogram.
    pub(super) fn combine_mismatched(
        &mut self,
        other: &Self,
        sign: f64,
        lost: Option<&[f64]>,
    ) -> Vec<f64> {
        let bounds = intersection(&self.custom_bounds, &other.custom_bounds);
        let mut counts = vec![(0.0, 0.0); bounds.len() + 1];
        let own = entries(&self.positive_spans, &self.positive_counts, lost.unwrap_or_default());
        for entry in own {
            let (count, rest) = &mut counts[target(&bounds, &self.custom_bounds, entry.index)];
            kahan::add_to(count, rest, entry.count);
            if lost.is_some() {
                kahan::add_to(count, rest, entry.lost);
            }
        }
        for entry in entries(&other.positive_spans, &other.positive_counts, &[]) {
            let (count, rest) = &mut counts[target(&bounds, &other.custom_bounds, entry.index)];
            kahan::add_to(count, rest, sign * entry.count);
        }
        let all: Vec<Entry> = (0..)
            .zip(counts)
            .filter(|(_, (count, lost))| *count != 0.0 || *lost != 0.0)
            .map(|(index, (count, lost))| Entry { index, count, lost })
            .collect();
        self.custom_bounds = bounds;
        self.set_positive(&all);
        all.iter().map(|entry| entry.lost).collect()
    }

    /// Leaves out empty buckets but for those in gaps of at most `max_empty` between populated ones.
    pub fn compact(&mut self, max_empty: usize) {
        let positive = entries(&self.positive_spans, &self.positive_counts, &[]);
        if !is_compact(&positive, &self.positive_spans) {
            self.set_positive(&compact(&positive, max_empty));
        }
        let negative = entries(&self.negative_spans, &self.negative_counts, &[]);
        if !is_compact(&negative, &self.negative_spans) {
            self.set_negative(&compact(&negative, max_empty));
        }
    }

    /// Whether a count, the sum or a bound is infinite.
    #[must_use]
    pub fn has_overflow(&self) -> bool {
        let single = [self.zero_count, self.count, self.sum];
        let mut all = single.iter().chain(&self.positive_counts).chain(&self.negative_counts);
        all.any(|v| v.is_infinite()) || self.custom_bounds.iter().any(|v| v.is_infinite())
    }
}

fn combine_counts(own: &mut [f64], other: &[f64], sign: f64) {
    own.iter_mut().zip(other).for_each(|(a, b)| *a += sign * b);
}

/// One span of populated buckets, or none.
fn is_compact(buckets: &[Entry], spans: &[Span]) -> bool {
    spans.len() == usize::from(!buckets.is_empty()) && buckets.iter().all(|b| b.count != 0.0)
}

/// The bounds that both lists have.
fn intersection(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().copied().filter(|bound| b.contains(bound)).collect()
}

/// Where bucket `index` of `from` goes among `bounds`, which are some of `from`.
fn target(bounds: &[f64], from: &[f64], index: i32) -> usize {
    let bound = usize::try_from(index).ok().and_then(|index| from.get(index));
    bound.map_or(bounds.len(), |bound| bounds.partition_point(|other| other < bound))
}

#[cfg(test)]
mod tests {
    use super::super::{CUSTOM_BUCKETS_SCHEMA, HistogramSum};
    use super::*;

    /// A histogram with consecutive positive buckets from `offset` on.
    fn exponential(schema: i32, offset: i32, counts: &[f64]) -> FloatHistogram {
        let count = counts.iter().sum();
        FloatHistogram {
            schema,
            count,
            sum: 10.0 * count,
            positive_spans: vec![Span { offset, length: u32::try_from(counts.len()).unwrap() }],
            positive_counts: counts.to_vec(),
            ..FloatHistogram::default()
        }
    }

    fn custom(bounds: &[f64], counts: &[f64]) -> FloatHistogram {
        let custom_bounds = bounds.to_vec();
        FloatHistogram { custom_bounds, ..exponential(CUSTOM_BUCKETS_SCHEMA, 0, counts) }
    }

    fn with_zero(histogram: FloatHistogram, threshold: f64, zero_count: f64) -> FloatHistogram {
        let count = histogram.count + zero_count;
        FloatHistogram { zero_threshold: threshold, zero_count, count, ..histogram }
    }

    fn shown(histogram: &FloatHistogram) -> String {
        let mut compact = histogram.clone();
        compact.compact(0);
        compact.to_string()
    }

    /// The sum, added up plainly and with compensation.
    fn check_sum(a: &FloatHistogram, b: &FloatHistogram, reconciled: bool, expected: &str) {
        let mut sum = a.clone();
        let combined = sum.add(b).unwrap();
        assert_eq!(combined.bounds_reconciled, reconciled);
        assert_eq!(shown(&sum), expected);
        let mut compensated = HistogramSum::new(a.clone());
        assert_eq!(compensated.add(b), Ok(combined));
        assert_eq!(shown(&compensated.total()), expected);
        let mut back = sum;
        back.subtract(b).unwrap();
        assert_eq!((back.count, back.sum), (a.count, a.sum));
    }

    #[test]
    fn buckets_of_both_are_in_a_sum() {
        check_sum(
            &exponential(0, 1, &[1.0, 2.0]),
            &exponential(0, 1, &[4.0, 8.0]),
            false,
            "{count:15, sum:150, (1,2]:5, (2,4]:10}",
        );
        check_sum(
            &exponential(0, 1, &[1.0, 2.0]),
            &exponential(0, -1, &[4.0, 8.0, 16.0]),
            false,
            "{count:31, sum:310, (0.25,0.5]:4, (0.5,1]:8, (1,2]:17, (2,4]:2}",
        );
    }

    #[test]
    fn the_coarser_schema_is_that_of_the_sum() {
        // Schema 1: (1, √2], (√2, 2], (2, 2√2]; schema 0: (1, 2], (2, 4].
        let fine = exponential(1, 1, &[1.0, 2.0, 4.0]);
        let coarse = exponential(0, 1, &[8.0, 16.0]);
        let expected = "{count:31, sum:310, (1,2]:11, (2,4]:20}";
        check_sum(&fine, &coarse, false, expected);
        check_sum(&coarse, &fine, false, expected);
    }

    #[test]
    fn zero_buckets_are_widened_to_the_end_of_a_populated_bucket() {
        // A zero bucket up to 1.5 ends within (1, 2], so it has to reach 2.
        let wide = with_zero(exponential(0, 3, &[1.0]), 1.5, 2.0);
        let narrow = with_zero(exponential(0, 1, &[4.0, 8.0]), 0.5, 16.0);
        let expected = "{count:31, sum:130, [-2,2]:22, (2,4]:8, (4,8]:1}";
        check_sum(&wide, &narrow, false, expected);
        check_sum(&narrow, &wide, false, expected);
    }

    #[test]
    fn only_common_bounds_are_left() {
        check_sum(
            &custom(&[1.0, 2.0, 5.0], &[1.0, 2.0, 4.0, 8.0]),
            &custom(&[2.0, 3.0, 5.0], &[16.0, 32.0, 64.0, 128.0]),
            true,
            "{count:255, sum:2550, [-Inf,2]:19, (2,5]:100, (5,+Inf]:136}",
        );
        check_sum(
            &custom(&[1.0], &[1.0, 2.0]),
            &custom(&[2.0], &[4.0, 8.0]),
            true,
            "{count:15, sum:150, [-Inf,+Inf]:15}",
        );
        let mixed = custom(&[1.0], &[1.0]).add(&exponential(0, 0, &[1.0]));
        assert_eq!(mixed, Err(IncompatibleSchemas));
    }

    #[test]
    fn sums_keep_what_rounding_loses() {
        let numbers = [1.0, 1e100, 1.0, -1e100].map(|v| exponential(0, 0, &[v]));
        let mut sum = HistogramSum::new(numbers[0].clone());
        numbers[1..].iter().for_each(|next| assert!(sum.add(next).is_ok()));
        let total = sum.total();
        assert_eq!((total.count, &*total.positive_counts), (2.0, &[2.0][..]));
    }

    #[test]
    fn multiples_and_fractions() {
        let mut histogram = with_zero(exponential(0, 0, &[1.0, 3.0]), 0.1, 2.0);
        histogram.multiply(2.0);
        assert_eq!(shown(&histogram), "{count:12, sum:80, [-0.1,0.1]:4, (0.5,1]:2, (1,2]:6}");
        assert_eq!(histogram.counter_reset, CounterReset::Unknown);
        histogram.divide(-4.0);
        assert_eq!(
            shown(&histogram),
            "{count:-3, sum:-20, [-0.1,0.1]:-1, (0.5,1]:-0.5, (1,2]:-1.5}"
        );
        assert_eq!(histogram.counter_reset, CounterReset::Gauge);
        histogram.divide(0.0);
        assert_eq!(shown(&histogram), "{count:-Inf, sum:-Inf, [-0.1,0.1]:-Inf}");
        assert!(histogram.has_overflow());
    }

    #[test]
    fn what_is_known_of_resets_is_joined() {
        use CounterReset::{Gauge, NotReset, Reset, Unknown};
        for (a, b, expected, collision) in [
            (Reset, Reset, Reset, false),
            (Gauge, Reset, Gauge, false),
            (NotReset, Gauge, Gauge, false),
            (Unknown, Reset, Unknown, false),
            (NotReset, Unknown, Unknown, false),
            (Reset, NotReset, Unknown, true),
        ] {
            let of = |counter_reset| FloatHistogram { counter_reset, ..FloatHistogram::default() };
            let mut sum = of(a);
            assert_eq!(sum.add(&of(b)).unwrap().reset_collision, collision, "{a:?} {b:?}");
            assert_eq!(sum.counter_reset, expected, "{a:?} {b:?}");
        }
    }

    #[test]
    fn resets_are_detected() {
        let reset = |now: &FloatHistogram, before: &FloatHistogram| now.is_reset_since(before);
        let before = exponential(1, 1, &[1.0, 2.0]);
        assert!(!reset(&before, &before));
        assert!(!reset(&exponential(1, 1, &[1.0, 2.0, 3.0]), &before));
        assert!(!reset(&exponential(0, 1, &[3.0]), &before), "merged buckets are no reset");
        assert!(reset(&exponential(2, 1, &[9.0, 9.0, 9.0, 9.0]), &before), "finer");
        assert!(reset(&exponential(1, 1, &[4.0, 1.0]), &before), "a bucket shrank");
        assert!(reset(&exponential(1, 2, &[9.0]), &before), "a bucket is gone");
        assert!(reset(&exponential(1, 1, &[1.0, 1.0]), &before), "the total shrank");
        let zero = |threshold, count| with_zero(exponential(0, 3, &[1.0]), threshold, count);
        assert!(reset(&zero(0.5, 9.0), &zero(1.0, 1.0)), "the zero bucket shrank");
        assert!(!reset(&zero(8.0, 9.0), &zero(1.0, 1.0)), "it grew to the end of a bucket");
        assert!(reset(&zero(8.0, 1.0), &zero(1.0, 1.0)), "but lost what that bucket counted");
        assert!(reset(&zero(6.0, 9.0), &zero(1.0, 1.0)), "it ends within a populated bucket");
        let hinted = FloatHistogram { counter_reset: CounterReset::Reset, ..before.clone() };
        assert!(reset(&hinted, &before));
        let bounds = custom(&[1.0, 2.0], &[1.0, 2.0, 3.0]);
        assert!(!reset(&custom(&[2.0, 3.0], &[4.0, 2.0, 1.0]), &bounds));
        assert!(reset(&custom(&[2.0, 3.0], &[2.0, 5.0, 5.0]), &bounds));
    }

    #[test]
    fn equality_looks_at_layout_and_bits() {
        let a = exponential(0, 0, &[1.0, 0.0]);
        assert!(a.equals(&a));
        assert!(a.equals(&FloatHistogram { counter_reset: CounterReset::Gauge, ..a.clone() }));
        assert!(!a.equals(&FloatHistogram { sum: -a.sum, ..a.clone() }));
        let mut compact = a.clone();
        compact.compact(0);
        assert!(!a.equals(&compact));
        let nan = FloatHistogram { sum: f64::NAN, ..a };
        assert!(nan.equals(&nan));
    }
}
