//! Quantiles and fractions of native histograms.

use model::{Bucket, FloatHistogram};

use super::annotations::Annotation;

/// The quantile `q`, interpolated within its bucket: on a logarithmic scale in exponential buckets, on a linear one in others. Also what is
/// to be said about observations that are not numbers.
pub(super) fn quantile<'m>(
    q: f64,
    histogram: &FloatHistogram,
    metric: &'m str,
) -> (f64, Option<Annotation<'m>>) {
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    if histogram.count == 0.0 || q.is_nan() {
        return (f64::NAN, None);
    }
    // The shorter way is the more exact one. Observations that are not numbers are at no end, so the way from below is the one to go.
    let has_nan = histogram.sum.is_nan();
    let from_below = has_nan || q < 0.5;
    let mut rank = if from_below { q } else { 1.0 - q } * histogram.count;
    let mut buckets: Box<dyn Iterator<Item = Bucket> + '_> = if from_below {
        Box::new(histogram.buckets())
    } else {
        Box::new(histogram.buckets().rev())
    };
    let mut bucket = Bucket {
        lower: 0.0,
        upper: 0.0,
        lower_inclusive: false,
        upper_inclusive: false,
        count: 0.0,
        index: 0,
    };
    let mut count = 0.0;
    for next in buckets.by_ref() {
        bucket = next;
        if bucket.count == 0.0 {
            continue;
        }
        count += bucket.count;
        if count >= rank {
            break;
        }
    }
    let custom = histogram.uses_custom_buckets();
    if !custom && bucket.lower < 0.0 && bucket.upper > 0.0 {
        narrow_zero_bucket(histogram, &mut bucket);
    } else if custom {
        if bucket.lower == f64::NEG_INFINITY {
            if bucket.upper <= 0.0 {
                return (bucket.upper, None);
            }
            bucket.lower = 0.0;
        } else if bucket.upper == f64::INFINITY {
            return (bucket.lower, None);
        }
    }
    count = if count > histogram.count { histogram.count } else { count };
    if count < rank {
        // Either the rank lies among observations that are not numbers, or numbers are too large to be added up.
        return if has_nan {
            (f64::NAN, Some(Annotation::QuantileNan(metric)))
        } else {
            (bucket.upper, None)
        };
    }
    rank = if from_below { rank - (count - bucket.count) } else { count - rank };
    let mut remark = None;
    if has_nan {
        for next in buckets {
            bucket = next;
            count += bucket.count;
        }
        if count < histogram.count {
            remark = Some(Annotation::QuantileSkewed(metric));
        }
    }
    let linear = custom || (bucket.lower <= 0.0 && bucket.upper >= 0.0);
    (bucket.value_at(rank / bucket.count, linear), remark)
}

/// Where all other observations have one sign, those close to zero are taken to have it too.
fn narrow_zero_bucket(histogram: &FloatHistogram, bucket: &mut Bucket) {
    match (histogram.negative_counts.is_empty(), histogram.positive_counts.is_empty()) {
        (true, false) => bucket.lower = 0.0,
        (false, true) => bucket.upper = 0.0,
        _ => {}
    }
}

/// The fraction of observations between `lower` and `upper`, interpolated within buckets. Also what is to be said about observations that
/// are not numbers.
pub(super) fn fraction<'m>(
    lower: f64,
    upper: f64,
    histogram: &FloatHistogram,
    metric: &'m str,
) -> (f64, Option<Annotation<'m>>) {
    if histogram.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return (f64::NAN, None);
    }
    if lower >= upper {
        return (0.0, None);
    }
    let (mut lower_rank, mut upper_rank) = (None, None);
    let (mut count, mut rank) = (0.0, 0.0);
    let custom = histogram.uses_custom_buckets();
    let mut buckets = histogram.buckets();
    for mut bucket in buckets.by_ref() {
        count += bucket.count;
        let is_zero_bucket = bucket.lower <= 0.0 && bucket.upper >= 0.0;
        if is_zero_bucket {
            narrow_zero_bucket(histogram, &mut bucket);
        }
        let linear = custom || is_zero_bucket;
        for (value, found) in [(lower, &mut lower_rank), (upper, &mut upper_rank)] {
            if found.is_none() && bucket.lower >= value {
                *found = Some(rank);
            }
        }
        if lower_rank.is_some() && upper_rank.is_some() {
            break;
        }
        for (value, found) in [(lower, &mut lower_rank), (upper, &mut upper_rank)] {
            if found.is_none() && bucket.lower < value && bucket.upper > value {
                *found = Some(if linear && bucket.lower == f64::NEG_INFINITY {
                    // A bucket without an end cannot be divided.
                    bucket.count
                } else {
                    rank + bucket.count * bucket.fraction_below(value, linear)
                });
            }
        }
        if lower_rank.is_some() && upper_rank.is_some() {
            break;
        }
        rank += bucket.count;
    }
    let mut remark = None;
    if histogram.sum.is_nan() {
        buckets.for_each(|bucket| count += bucket.count);
        if count < histogram.count {
            remark = Some(Annotation::FractionNan(metric));
        }
    } else {
        count = histogram.count;
    }
    let within = |rank: Option<f64>| rank.filter(|rank| *rank <= count).unwrap_or(count);
    ((within(upper_rank) - within(lower_rank)) / histogram.count, remark)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{CUSTOM_BUCKETS_SCHEMA, Span};

    fn exponential() -> FloatHistogram {
        // Two of about 0, two in (1, 4], four in (4, 16].
        FloatHistogram {
            schema: -1,
            zero_threshold: 0.5,
            zero_count: 2.0,
            count: 8.0,
            sum: 20.0,
            positive_spans: vec![Span { offset: 1, length: 2 }],
            positive_counts: vec![2.0, 4.0],
            ..FloatHistogram::default()
        }
    }

    fn custom() -> FloatHistogram {
        FloatHistogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            count: 10.0,
            sum: 100.0,
            positive_spans: vec![Span { offset: 0, length: 3 }],
            positive_counts: vec![4.0, 4.0, 2.0],
            custom_bounds: vec![10.0, 20.0],
            ..FloatHistogram::default()
        }
    }

    fn check(q: f64, histogram: &FloatHistogram, expected: f64) {
        assert_eq!(quantile(q, histogram, "m"), (expected, None), "{q}");
    }

    #[test]
    fn quantiles() {
        // The zero bucket begins at 0, since nothing is negative.
        check(0.125, &exponential(), 0.25);
        check(0.375, &exponential(), 2.0);
        check(0.75, &exponential(), 8.0);
        check(1.0, &exponential(), 16.0);
        check(-1.0, &exponential(), f64::NEG_INFINITY);
        check(2.0, &exponential(), f64::INFINITY);
        check(0.2, &custom(), 5.0);
        check(0.6, &custom(), 15.0);
        check(0.9, &custom(), 20.0);
        assert!(quantile(f64::NAN, &custom(), "m").0.is_nan());
        assert!(quantile(0.5, &FloatHistogram::default(), "m").0.is_nan());
    }

    #[test]
    fn observations_that_are_not_numbers_are_above_all_others() {
        let with_nan = FloatHistogram { count: 10.0, sum: f64::NAN, ..exponential() };
        let (value, remark) = quantile(0.3, &with_nan, "m");
        assert_eq!(remark, Some(Annotation::QuantileSkewed("m")));
        assert!(value > 0.0);
        let (value, remark) = quantile(0.9, &with_nan, "m");
        assert!(value.is_nan());
        assert_eq!(remark, Some(Annotation::QuantileNan("m")));
        let (value, remark) = fraction(f64::NEG_INFINITY, f64::INFINITY, &with_nan, "m");
        assert_eq!((value, remark), (0.8, Some(Annotation::FractionNan("m"))));
    }

    #[test]
    fn fractions() {
        for (lower, upper, expected) in [
            (0.0, 0.25, 0.125),
            (2.0, 8.0, 0.375),
            (f64::NEG_INFINITY, f64::INFINITY, 1.0),
            (16.0, 99.0, 0.0),
            (8.0, 2.0, 0.0),
        ] {
            assert_eq!(fraction(lower, upper, &exponential(), "m"), (expected, None), "{lower}");
        }
        // The first custom bucket begins at 0, too.
        assert_eq!(fraction(5.0, 15.0, &custom(), "m"), (0.4, None));
        assert_eq!(fraction(15.0, f64::INFINITY, &custom(), "m"), (0.4, None));
    }
}
