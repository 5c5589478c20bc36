//! Whether a sample may be appended, and where it belongs. The distinctions are Prometheus's.

use model::{
    CUSTOM_BUCKETS_SCHEMA, EXPONENTIAL_SCHEMA_MAX, EXPONENTIAL_SCHEMA_MIN, HistogramValue,
    Rejection, Sample, Span, Timestamp,
};

use crate::head::Head;

/// What to do with a sample that is not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It follows the newest of its series.
    InOrder,
    /// It came late.
    Late,
    /// It is there already.
    Same,
}

/// Which times the store takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// No sample before comes in order.
    from: Timestamp,
    /// No sample before is accepted late; `None`: none is at all.
    late_from: Option<Timestamp>,
}

impl Bounds {
    /// All times, nothing late.
    pub(super) const NONE: Self = Self { from: Timestamp::MIN, late_from: None };

    /// With `late_window` in milliseconds, 0 for none.
    pub(super) fn of(head: &Head, late_window: i64) -> Self {
        let max = head.time_range().map_or(Timestamp::MIN, |range| range.max);
        let late_from = (late_window > 0).then(|| max.saturating_sub(late_window));
        Self { from: head.appendable_from(), late_from }
    }

    /// Where a sample belongs whose series ends with `last`; `is_same` says whether it is that one, if the times are the same.
    #[inline]
    pub(super) fn check(
        self,
        last: Option<Sample>,
        t: Timestamp,
        is_same: impl FnOnce() -> bool,
    ) -> Result<Verdict, Rejection> {
        if t >= self.from {
            match last {
                None => return Ok(Verdict::InOrder),
                Some(last) if t > last.t => return Ok(Verdict::InOrder),
                Some(last) if t == last.t => {
                    return if is_same() {
                        Ok(Verdict::Same)
                    } else {
                        Err(Rejection::DuplicateTimestamp)
                    };
                }
                Some(_) => {}
            }
        }
        match self.late_from {
            Some(late_from) if t >= late_from => Ok(Verdict::Late),
            Some(_) => Err(Rejection::TooOld),
            None if t < self.from => Err(Rejection::OutOfBounds),
            None => Err(Rejection::OutOfOrder),
        }
    }
}

/// Where a float sample of the series in `slot` belongs.
#[inline]
pub(super) fn check_float(
    head: &Head,
    slot: u32,
    bounds: Bounds,
    t: Timestamp,
    v: f64,
) -> Result<Verdict, Rejection> {
    let last = head.last(slot);
    bounds.check(last, t, || {
        !head.is_histogram(slot) && last.is_some_and(|last| last.v.to_bits() == v.to_bits())
    })
}

/// Where a histogram of the series in `slot` belongs.
pub(super) fn check_histogram(
    head: &Head,
    slot: u32,
    bounds: Bounds,
    t: Timestamp,
    histogram: &HistogramValue,
) -> Result<Verdict, Rejection> {
    bounds.check(head.last(slot), t, || {
        head.last_histogram(slot).is_some_and(|last| is_same_histogram(last, histogram))
    })
}

/// Whether two histograms are of one kind and equal to the bit. What they say of the one before does not count: one that was read back from a chunk
/// says more than when it was sent.
fn is_same_histogram(a: &HistogramValue, b: &HistogramValue) -> bool {
    match (a, b) {
        (HistogramValue::Integer(x), HistogramValue::Integer(y)) => {
            let same_counts = x.count == y.count
                && x.zero_count == y.zero_count
                && x.positive_deltas == y.positive_deltas
                && x.negative_deltas == y.negative_deltas;
            (x.is_stale() && y.is_stale()) || (same_counts && a.to_float().equals(&b.to_float()))
        }
        (HistogramValue::Float(x), HistogramValue::Float(y)) => {
            x.equals(y) || (x.is_stale() && y.is_stale())
        }
        _ => false,
    }
}

/// Refuses a histogram that contradicts itself.
///
/// # Errors
/// [`Rejection::InvalidHistogram`]
pub(crate) fn is_valid_histogram(histogram: &HistogramValue) -> Result<(), Rejection> {
    let check = |holds: bool, reason| {
        if holds { Ok(()) } else { Err(Rejection::InvalidHistogram(reason)) }
    };
    let (schema, positive, negative, bounds) = match histogram {
        HistogramValue::Integer(h) => {
            check(
                are_counted(&h.positive_spans, h.positive_deltas.len())
                    && are_counted(&h.negative_spans, h.negative_deltas.len()),
                "histogram spans do not match the number of buckets",
            )?;
            let total = sum_of(&h.positive_deltas)
                .zip(sum_of(&h.negative_deltas))
                .and_then(|(a, b)| a.checked_add(b)?.checked_add(h.zero_count));
            check(total.is_some(), "histogram has a bucket whose count is negative or too large")?;
            // Observations of NaN are counted and in no bucket.
            let fits =
                total.is_some_and(
                    |total| {
                        if h.sum.is_nan() { total <= h.count } else { total == h.count }
                    },
                );
            check(
                h.is_stale() || fits,
                "histogram's observation count should equal the number of observations found in the buckets",
            )?;
            (h.schema, &h.positive_spans, &h.negative_spans, &h.custom_bounds)
        }
        HistogramValue::Float(h) => {
            check(
                are_counted(&h.positive_spans, h.positive_counts.len())
                    && are_counted(&h.negative_spans, h.negative_counts.len()),
                "histogram spans do not match the number of buckets",
            )?;
            let all = h.positive_counts.iter().chain(&h.negative_counts);
            let is_negative = |count: &f64| *count < 0.0;
            check(
                h.is_stale() || !all.chain([&h.zero_count, &h.count]).any(is_negative),
                "histogram has a bucket whose observation count is negative",
            )?;
            (h.schema, &h.positive_spans, &h.negative_spans, &h.custom_bounds)
        }
    };
    let gaps = |spans: &[Span]| spans.iter().skip(1).all(|span| span.offset >= 0);
    check(gaps(positive) && gaps(negative), "histogram has a span whose offset is negative")?;
    if schema == CUSTOM_BUCKETS_SCHEMA {
        check(negative.is_empty(), "custom buckets: must not have negative spans")?;
        let ascending = bounds.is_sorted_by(|a, b| a < b) && bounds.iter().all(|b| b.is_finite());
        check(ascending, "histogram custom bounds must be in strictly increasing order")?;
        let buckets: i64 =
            positive.iter().map(|span| i64::from(span.offset) + i64::from(span.length)).sum();
        let first_is_valid = positive.first().is_none_or(|span| span.offset >= 0);
        check(
            first_is_valid && usize::try_from(buckets).is_ok_and(|n| n <= bounds.len() + 1),
            "histogram's custom bounds are too few",
        )
    } else {
        let known = (EXPONENTIAL_SCHEMA_MIN..=EXPONENTIAL_SCHEMA_MAX).contains(&schema);
        check(known, "histogram has an invalid schema")?;
        check(bounds.is_empty(), "histogram with exponential schema must not have custom bounds")
    }
}

fn are_counted(spans: &[Span], buckets: usize) -> bool {
    spans.iter().map(|span| u64::from(span.length)).sum::<u64>() == buckets as u64
}

/// The observations in buckets given by differences; `None` if a count is negative or too large.
fn sum_of(deltas: &[i64]) -> Option<u64> {
    let (mut count, mut sum) = (0_i64, 0_u64);
    for &delta in deltas {
        count = count.checked_add(delta)?;
        sum = sum.checked_add(u64::try_from(count).ok()?)?;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use model::{FloatHistogram, Histogram};

    use super::*;

    #[test]
    fn samples_are_told_apart_as_prometheus_does() {
        let last = Some(Sample { t: 100, v: 1.0 });
        let in_order = Bounds { from: 50, late_from: None };
        let late = Bounds { from: 50, late_from: Some(40) };
        let (same, other) = (|| true, || false);
        assert_eq!(in_order.check(None, 50, other), Ok(Verdict::InOrder));
        assert_eq!(in_order.check(None, 49, other), Err(Rejection::OutOfBounds));
        assert_eq!(in_order.check(last, 101, other), Ok(Verdict::InOrder));
        assert_eq!(in_order.check(last, 100, same), Ok(Verdict::Same));
        assert_eq!(in_order.check(last, 100, other), Err(Rejection::DuplicateTimestamp));
        assert_eq!(in_order.check(last, 99, other), Err(Rejection::OutOfOrder));
        assert_eq!(in_order.check(last, 49, other), Err(Rejection::OutOfBounds));
        assert_eq!(late.check(last, 100, other), Err(Rejection::DuplicateTimestamp));
        assert_eq!(late.check(last, 99, other), Ok(Verdict::Late));
        assert_eq!(late.check(None, 45, other), Ok(Verdict::Late));
        assert_eq!(late.check(last, 39, other), Err(Rejection::TooOld));
    }

    #[test]
    fn histograms_that_contradict_themselves_are_refused() {
        let span = |offset, length| Span { offset, length };
        let valid = Histogram {
            count: 6,
            zero_count: 1,
            positive_spans: vec![span(0, 2)],
            positive_deltas: vec![2, 1],
            ..Histogram::default()
        };
        let check = |h: Histogram| is_valid_histogram(&h.into());
        assert_eq!(check(valid.clone()), Ok(()));
        assert!(check(Histogram { count: 7, ..valid.clone() }).is_err());
        assert_eq!(check(Histogram { count: 7, sum: f64::NAN, ..valid.clone() }), Ok(()));
        assert!(check(Histogram { positive_deltas: vec![2, -3], ..valid.clone() }).is_err());
        assert!(check(Histogram { positive_spans: vec![span(0, 3)], ..valid.clone() }).is_err());
        assert!(check(Histogram { schema: 9, ..valid.clone() }).is_err());
        assert!(check(Histogram { schema: -53, ..valid.clone() }).is_err());
        let custom = Histogram { schema: -53, custom_bounds: vec![1.0], ..valid };
        assert_eq!(check(custom.clone()), Ok(()));
        assert!(check(Histogram { custom_bounds: vec![2.0, 1.0], ..custom }).is_err());
        let negative = FloatHistogram { count: -1.0, ..FloatHistogram::default() };
        assert!(is_valid_histogram(&negative.into()).is_err());
    }
}
