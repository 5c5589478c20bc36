//! Zero buckets of different widths.

use super::arithmetic::Lost;
use super::layout::{compact, entries};
use super::{FloatHistogram, kahan};

impl FloatHistogram {
    /// Widens the zero bucket so far that it covers that of `other` and neither ends within a populated bucket. Returns what the zero bucket of
    /// `other` would count were it as wide, and what rounding lost of it.
    pub(super) fn reconcile_zero_buckets(
        &mut self,
        other: &Self,
        mut lost: Option<&mut Lost>,
    ) -> (f64, f64) {
        let (mut count, mut threshold, mut count_lost) =
            (other.zero_count, other.zero_threshold, 0.0);
        while threshold != self.zero_threshold && !threshold.is_nan() {
            if self.zero_threshold > threshold {
                (count, threshold, count_lost) = other.zero_count_for(self.zero_threshold, None);
            }
            if threshold > self.zero_threshold {
                let own = self.zero_count_for(threshold, lost.as_deref());
                (self.zero_count, self.zero_threshold) = (own.0, own.1);
                if let Some(lost) = lost.as_deref_mut() {
                    lost.zero_count = own.2;
                }
                self.cut_zero_bucket(lost.as_deref_mut());
            } else if self.zero_threshold.is_nan() {
                break;
            }
        }
        (count, count_lost)
    }

    /// What the zero bucket counts at a larger threshold, that threshold, and what rounding lost. Where the threshold is within a populated
    /// bucket, the end of that bucket takes its place.
    pub(super) fn zero_count_for(&self, threshold: f64, lost: Option<&Lost>) -> (f64, f64, f64) {
        // As in Prometheus, what was lost is not forgotten when the threshold moves and counting starts again.
        let mut count_lost = lost.map_or(0.0, |lost| lost.zero_count);
        let mut threshold = threshold;
        if threshold <= self.zero_threshold {
            return (self.zero_count, threshold, count_lost);
        }
        'again: loop {
            let mut count = self.zero_count;
            for (at, bucket) in self.positive_buckets().enumerate() {
                if bucket.lower >= threshold {
                    break;
                }
                kahan::add_to(&mut count, &mut count_lost, bucket.count);
                if let Some(bucket_lost) = lost.and_then(|lost| lost.positive.get(at)) {
                    kahan::add_to(&mut count, &mut count_lost, *bucket_lost);
                }
                if bucket.upper > threshold {
                    if bucket.count != 0.0 {
                        threshold = bucket.upper;
                    }
                    break;
                }
            }
            for (at, bucket) in self.negative_buckets().enumerate() {
                if bucket.upper <= -threshold {
                    break;
                }
                kahan::add_to(&mut count, &mut count_lost, bucket.count);
                if let Some(bucket_lost) = lost.and_then(|lost| lost.negative.get(at)) {
                    kahan::add_to(&mut count, &mut count_lost, *bucket_lost);
                }
                if bucket.lower < -threshold {
                    if bucket.count != 0.0 {
                        // Positive buckets were treated by the old threshold.
                        threshold = -bucket.lower;
                        continue 'again;
                    }
                    break;
                }
            }
            return (count, threshold, count_lost);
        }
    }

    /// Drops the buckets that are part of the zero bucket, which counts them already, and other empty ones.
    fn cut_zero_bucket(&mut self, lost: Option<&mut Lost>) {
        let threshold = self.zero_threshold;
        let inside = self.positive_buckets().take_while(|bucket| bucket.lower < threshold).count();
        let (_, positive_lost) = sides(lost.as_deref());
        let mut positive = entries(&self.positive_spans, &self.positive_counts, positive_lost);
        positive.iter_mut().take(inside).for_each(|entry| (entry.count, entry.lost) = (0.0, 0.0));
        let positive = compact(&positive, 0);

        let inside = self.negative_buckets().take_while(|bucket| bucket.upper > -threshold).count();
        let (negative_lost, _) = sides(lost.as_deref());
        let mut negative = entries(&self.negative_spans, &self.negative_counts, negative_lost);
        negative.iter_mut().take(inside).for_each(|entry| (entry.count, entry.lost) = (0.0, 0.0));
        let negative = compact(&negative, 0);

        self.set_positive(&positive);
        self.set_negative(&negative);
        if let Some(lost) = lost {
            lost.positive = positive.iter().map(|entry| entry.lost).collect();
            lost.negative = negative.iter().map(|entry| entry.lost).collect();
        }
    }
}

/// What was lost of negative and of positive buckets.
fn sides(lost: Option<&Lost>) -> (&[f64], &[f64]) {
    lost.map_or((&[], &[]), |lost| (&lost.negative, &lost.positive))
}
