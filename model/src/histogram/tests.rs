//! Properties of arithmetic on histograms that were made up at random. Counts are small whole numbers, so that nothing is rounded.

use std::collections::BTreeMap;

use super::bounds::exponential_bound;
use super::layout::spans_of;
use super::{CUSTOM_BUCKETS_SCHEMA, FloatHistogram, HistogramSum};

/// A reproducible sequence of numbers.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u32::try_from(self.0 >> 33).unwrap() % limit
    }

    /// Buckets that do not reach into the zero bucket.
    fn side(&mut self, schema: i32, zero_threshold: f64) -> (Vec<i32>, Vec<f64>) {
        let mut index = i32::try_from(self.below(40)).unwrap() - 25;
        let mut buckets = (Vec::new(), Vec::new());
        for _ in 0..self.below(8) {
            index += 1 + i32::try_from(self.below(3) * self.below(4)).unwrap();
            if exponential_bound(index - 1, schema) >= zero_threshold {
                buckets.0.push(index);
                buckets.1.push(f64::from(self.below(5)));
            }
        }
        buckets
    }

    fn schema(&mut self) -> i32 {
        i32::try_from(self.below(6)).unwrap() - 2
    }

    fn zero_threshold(&mut self) -> f64 {
        [0.0, 1e-3, 0.3, 2.0][self.below(4) as usize]
    }

    /// Two that differ in schema or in zero bucket. Where both differ, Prometheus counts observations twice that are in the wider zero bucket
    /// and in a coarser bucket that reaches into it, and so do we.
    fn pair(&mut self) -> (FloatHistogram, FloatHistogram) {
        let (schema, zero_threshold) = (self.schema(), self.zero_threshold());
        let a = self.exponential(schema, zero_threshold);
        let (other_schema, other_threshold) = (self.schema(), self.zero_threshold());
        let b = if self.below(2) == 0 {
            self.exponential(other_schema, zero_threshold)
        } else {
            self.exponential(schema, other_threshold)
        };
        (a, b)
    }

    fn exponential(&mut self, schema: i32, zero_threshold: f64) -> FloatHistogram {
        let (positive, positive_counts) = self.side(schema, zero_threshold);
        let (negative, negative_counts) = self.side(schema, zero_threshold);
        let zero_count = f64::from(self.below(4));
        let in_buckets: f64 = positive_counts.iter().chain(&negative_counts).sum();
        FloatHistogram {
            schema,
            zero_threshold,
            zero_count,
            count: in_buckets + zero_count,
            sum: f64::from(self.below(100)),
            positive_spans: spans_of(positive.into_iter()),
            negative_spans: spans_of(negative.into_iter()),
            positive_counts,
            negative_counts,
            ..FloatHistogram::default()
        }
    }

    fn custom(&mut self) -> FloatHistogram {
        let custom_bounds: Vec<f64> = (1..8).filter(|_| self.below(3) > 0).map(f64::from).collect();
        let positive_counts: Vec<f64> =
            (0..=custom_bounds.len()).map(|_| f64::from(self.below(5))).collect();
        FloatHistogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            count: positive_counts.iter().sum(),
            sum: f64::from(self.below(100)),
            positive_spans: spans_of(0..i32::try_from(positive_counts.len()).unwrap()),
            positive_counts,
            custom_bounds,
            ..FloatHistogram::default()
        }
    }
}

fn total(histogram: &FloatHistogram) -> f64 {
    let sides = histogram.positive_counts.iter().chain(&histogram.negative_counts);
    sides.sum::<f64>() + histogram.zero_count
}

/// Observations above each of the bounds.
fn above(histogram: &FloatHistogram, bounds: &[f64]) -> BTreeMap<u64, f64> {
    let above = |bound: &f64| {
        let buckets = histogram.buckets().filter(|bucket| bucket.lower >= *bound);
        (bound.to_bits(), buckets.map(|bucket| bucket.count).sum())
    };
    bounds.iter().map(above).collect()
}

fn sum(a: &FloatHistogram, b: &FloatHistogram) -> FloatHistogram {
    let mut sum = a.clone();
    sum.add(b).unwrap();
    sum.compact(0);
    sum
}

fn check(a: &FloatHistogram, b: &FloatHistogram) {
    let both = sum(a, b);
    assert_eq!((both.count, both.sum), (a.count + b.count, a.sum + b.sum));
    assert_eq!(total(&both), total(a) + total(b), "{a} + {b} = {both}");
    // Observations stay on their side of each bound that the sum still has.
    let bounds: Vec<f64> = both.buckets().map(|bucket| bucket.lower).filter(|v| *v > 0.0).collect();
    let (in_a, in_b) = (above(a, &bounds), above(b, &bounds));
    for (bound, count) in above(&both, &bounds) {
        assert_eq!(count, in_a[&bound] + in_b[&bound], "{a} + {b} = {both}");
    }
    assert!(both.equals(&sum(b, a)), "{a} + {b} is not {b} + {a}");
    let mut compensated = HistogramSum::new(a.clone());
    compensated.add(b).unwrap();
    let mut compensated = compensated.total();
    compensated.compact(0);
    assert!(both.equals(&compensated), "{both} is not {compensated}");
    let mut back = both.clone();
    back.subtract(b).unwrap();
    assert_eq!(total(&back), total(a), "{both} - {b} = {back}");
    // Whatever the layout was before, a sum is a counter that went on.
    assert!(!sum(&both, b).is_reset_since(&both), "{both} then {}", sum(&both, b));
    let mut coarse = both;
    coarse.reduce_resolution(-4);
    assert_eq!(total(&coarse), total(a) + total(b));
}

#[test]
fn sums_keep_every_observation() {
    let mut numbers = Numbers(7);
    for _ in 0..2000 {
        let (a, b) = numbers.pair();
        check(&a, &b);
        check(&numbers.custom(), &numbers.custom());
    }
}

#[test]
fn a_histogram_that_shrank_was_reset() {
    let mut numbers = Numbers(11);
    for _ in 0..500 {
        let (a, b) = numbers.pair();
        if b.count > 0.0 {
            assert!(a.is_reset_since(&sum(&a, &b)), "{a} after {}", sum(&a, &b));
        }
    }
}
