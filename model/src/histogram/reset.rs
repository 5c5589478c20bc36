//! Counter resets between histograms.

use std::iter::Peekable;

use super::layout::{Entry, coarsen, entries, outside_zero_bucket};
use super::{CounterReset, FloatHistogram};

impl FloatHistogram {
    /// Whether a counter was reset between `previous` and this histogram: by what is known about it, or else because a count is smaller
    /// (but not the sum) or a populated bucket is gone.
    ///
    /// Resolution does not grow and zero buckets do not shrink without a reset. Where resolution shrank or the zero bucket grew, `previous` is
    /// taken as it would look then; a populated bucket that is only partly within the new zero bucket is a reset.
    #[must_use]
    pub fn is_reset_since(&self, previous: &Self) -> bool {
        match self.counter_reset {
            CounterReset::Reset => return true,
            CounterReset::NotReset => return false,
            CounterReset::Unknown | CounterReset::Gauge => {}
        }
        if self.count < previous.count {
            return true;
        }
        if self.uses_custom_buckets() {
            if !previous.uses_custom_buckets() {
                return true;
            }
            if self.custom_bounds != previous.custom_bounds {
                return shrinks_at_common_bounds(self, previous);
            }
        }
        if self.schema > previous.schema || self.zero_threshold < previous.zero_threshold {
            return true;
        }
        let (zero_count, threshold, _) = previous.zero_count_for(self.zero_threshold, None);
        if threshold != self.zero_threshold || self.zero_count < zero_count {
            return true;
        }
        let positive = |of: &Self| self.comparable(of, &of.positive_spans, &of.positive_counts);
        let negative = |of: &Self| self.comparable(of, &of.negative_spans, &of.negative_counts);
        shrinks(&positive(self), &positive(previous))
            || shrinks(&negative(self), &negative(previous))
    }

    /// Buckets of `of` in this histogram's schema and outside of its zero bucket.
    fn comparable(&self, of: &Self, spans: &[super::Span], counts: &[f64]) -> Vec<Entry> {
        let mut buckets = entries(spans, counts, &[]);
        if of.schema > self.schema {
            buckets = coarsen(&buckets, of.schema, self.schema, |a, b| a.count += b.count);
        }
        if self.uses_custom_buckets() || self.zero_threshold == 0.0 {
            return buckets;
        }
        outside_zero_bucket(&buckets, self.schema, self.zero_threshold).to_vec()
    }
}

/// Whether a populated bucket of `previous` is missing or larger than now.
fn shrinks(now: &[Entry], previous: &[Entry]) -> bool {
    let mut now = now.iter().peekable();
    previous.iter().any(|before| {
        while now.next_if(|bucket| bucket.index < before.index).is_some() {}
        match now.peek() {
            Some(bucket) if bucket.index == before.index => bucket.count < before.count,
            _ => before.count != 0.0,
        }
    })
}

/// Whether any bucket between the bounds that both list is smaller now.
fn shrinks_at_common_bounds(now: &FloatHistogram, previous: &FloatHistogram) -> bool {
    let mut now_buckets = uppers(now).peekable();
    let mut previous_buckets = uppers(previous).peekable();
    let common = now.custom_bounds.iter().filter(|bound| previous.custom_bounds.contains(bound));
    let mut bounds = common.copied().chain([f64::INFINITY]);
    bounds.any(|bound| {
        let now = up_to(&mut now_buckets, bound);
        now < up_to(&mut previous_buckets, bound)
    })
}

fn uppers(of: &FloatHistogram) -> impl Iterator<Item = (f64, f64)> + '_ {
    of.positive_buckets().map(|bucket| (bucket.upper, bucket.count))
}

/// The sum of the counts of further buckets that end at `bound` or before.
fn up_to(buckets: &mut Peekable<impl Iterator<Item = (f64, f64)>>, bound: f64) -> f64 {
    let mut sum = 0.0;
    while let Some((_, count)) = buckets.next_if(|(upper, _)| *upper <= bound) {
        sum += count;
    }
    sum
}
