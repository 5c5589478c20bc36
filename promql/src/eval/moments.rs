//! What a native histogram says about its observations as a whole: number, sum, mean, spread.

use model::FloatHistogram;

use super::kahan::KahanSum;

/// The function of one histogram of that name.
pub(super) fn of_histogram(name: &str) -> Option<fn(&FloatHistogram) -> f64> {
    Some(match name {
        "histogram_count" => |histogram| histogram.count,
        "histogram_sum" => |histogram| histogram.sum,
        "histogram_avg" => |histogram| histogram.sum / histogram.count,
        "histogram_stdvar" => variance,
        "histogram_stddev" => |histogram| variance(histogram).sqrt(),
        _ => return None,
    })
}

/// The variance, with each observation taken to be in the middle of its bucket: the arithmetic mean of custom bounds, the geometric
/// one of exponential bounds, zero in the zero bucket.
fn variance(histogram: &FloatHistogram) -> f64 {
    let mean = histogram.sum / histogram.count;
    let mut sum = KahanSum::default();
    for bucket in histogram.buckets().filter(|bucket| bucket.count != 0.0) {
        let middle = if histogram.uses_custom_buckets() {
            (bucket.upper + bucket.lower) / 2.0
        } else if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
            0.0
        } else {
            let mean = (bucket.upper * bucket.lower).sqrt();
            if bucket.upper < 0.0 { -mean } else { mean }
        };
        let delta = middle - mean;
        sum = sum.plus(bucket.count * delta * delta);
    }
    sum.total() / histogram.count
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{CUSTOM_BUCKETS_SCHEMA, Span};

    fn check(name: &str, histogram: &FloatHistogram, expected: f64) {
        assert_eq!(of_histogram(name).unwrap()(histogram), expected, "{name}");
    }

    #[test]
    fn moments_are_estimated_from_the_middles_of_buckets() {
        // One observation of about 2 in (1, 4], one of about −2, two of about 0.
        let span = vec![Span { offset: 1, length: 1 }];
        let histogram = FloatHistogram {
            schema: -1,
            zero_threshold: 0.5,
            zero_count: 2.0,
            count: 4.0,
            sum: 0.0,
            positive_spans: span.clone(),
            negative_spans: span,
            positive_counts: vec![1.0],
            negative_counts: vec![1.0],
            ..FloatHistogram::default()
        };
        check("histogram_count", &histogram, 4.0);
        check("histogram_avg", &histogram, 0.0);
        check("histogram_stdvar", &histogram, 2.0);
        check("histogram_stddev", &histogram, 2_f64.sqrt());
        let custom = FloatHistogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            count: 2.0,
            sum: 6.0,
            positive_spans: vec![Span { offset: 1, length: 2 }],
            positive_counts: vec![1.0, 1.0],
            custom_bounds: vec![1.0, 3.0, 5.0],
            ..FloatHistogram::default()
        };
        check("histogram_sum", &custom, 6.0);
        check("histogram_stdvar", &custom, 1.0);
        assert!(of_histogram("histogram_max").is_none());
    }
}
