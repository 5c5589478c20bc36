//! Cutting a histogram off at a value: `</` and `>/`.

use super::{Bucket, FloatHistogram};

/// Which observations are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trim {
    /// Those at or below the value: `</`.
    KeepBelow,
    /// Those above the value: `>/`.
    KeepAbove,
}

/// What is left of a bucket: a count, and the value that stands for each observation.
#[derive(Clone, Copy, Debug)]
struct Kept {
    count: f64,
    midpoint: f64,
}

const NOTHING: Kept = Kept { count: 0.0, midpoint: 0.0 };

impl FloatHistogram {
    /// Cuts the histogram off at `at`. A bucket that contains it is divided by interpolation. If anything is cut off, the sum is estimated from
    /// the middles of the buckets.
    pub fn trim(&mut self, at: f64, trim: Trim) {
        let linear = self.uses_custom_buckets();
        let keep = |bucket: Bucket, positive| keep(&bucket, at, trim, positive, linear);
        let positive: Vec<_> =
            self.positive_buckets().map(|b| (b.count != 0.0).then(|| keep(b, true))).collect();
        let negative: Vec<_> =
            self.negative_buckets().map(|b| (b.count != 0.0).then(|| keep(b, false))).collect();
        let has = |side: &[Option<Kept>]| side.iter().any(Option::is_some);
        let (has_positive, has_negative) = (has(&positive), has(&negative));

        let (mut count, mut sum, mut cut) = (0.0, 0.0, false);
        let sides = [(&mut self.positive_counts, positive), (&mut self.negative_counts, negative)];
        for (counts, side) in sides {
            for (own, kept) in counts.iter_mut().zip(side) {
                let Some(kept) = kept else { continue };
                count += kept.count;
                sum += kept.midpoint * kept.count;
                cut |= *own != kept.count;
                *own = kept.count;
            }
        }
        if self.zero_count > 0.0 {
            let mut bucket = self.zero_bucket();
            // Where all observations have one sign, those close to zero are taken to have it too.
            if has_negative && !has_positive {
                bucket.upper = 0.0;
            }
            if has_positive && !has_negative {
                bucket.lower = 0.0;
            }
            let kept = keep_of_zero_bucket(&bucket, at, trim);
            cut |= self.zero_count != kept.count;
            self.zero_count = kept.count;
            sum += kept.midpoint * kept.count;
            count += kept.count;
        }
        if cut {
            (self.count, self.sum) = (count, sum);
            self.compact(0);
        }
    }
}

fn keep(bucket: &Bucket, at: f64, trim: Trim, positive: bool, linear: bool) -> Kept {
    let (whole, part) = match trim {
        Trim::KeepBelow => (bucket.upper <= at, bucket.lower < at),
        Trim::KeepAbove => (bucket.lower >= at, bucket.upper > at),
    };
    if whole {
        let midpoint = middle(bucket.lower, bucket.upper, positive, linear);
        return Kept { count: bucket.count, midpoint };
    }
    if !part {
        return NOTHING;
    }
    if bucket.lower == f64::NEG_INFINITY || bucket.upper == f64::INFINITY {
        return keep_of_infinite(bucket, at, trim);
    }
    let below = if at <= bucket.lower {
        0.0
    } else if at >= bucket.upper {
        bucket.count
    } else {
        bucket.count * bucket.fraction_below(at, linear)
    };
    match trim {
        Trim::KeepBelow => {
            Kept { count: below, midpoint: middle(bucket.lower, at, positive, linear) }
        }
        Trim::KeepAbove => Kept {
            count: bucket.count - below,
            midpoint: middle(at, bucket.upper, positive, linear),
        },
    }
}

/// A bucket without an end cannot be divided; it is kept or dropped as a whole, but for one from −∞ to above zero, which is taken to begin at zero.
fn keep_of_infinite(bucket: &Bucket, at: f64, trim: Trim) -> Kept {
    let finite = |v: f64| if v.is_infinite() { 0.0 } else { v };
    let Bucket { lower, upper, count, .. } = *bucket;
    if lower == f64::NEG_INFINITY {
        let dropped = Kept { count: 0.0, midpoint: finite(upper) };
        return match trim {
            Trim::KeepBelow if at >= upper => Kept { count, midpoint: 0.0 },
            Trim::KeepBelow if at > 0.0 && upper > 0.0 && upper != f64::INFINITY => {
                Kept { count: count * at / upper, midpoint: at / 2.0 }
            }
            Trim::KeepBelow if upper <= 0.0 => Kept { count, midpoint: at },
            Trim::KeepAbove if at <= lower => Kept { count, midpoint: 0.0 },
            Trim::KeepAbove if at >= 0.0 && upper > at && upper != f64::INFINITY => {
                Kept { count: count * (1.0 - at / upper), midpoint: (at + upper) / 2.0 }
            }
            Trim::KeepBelow | Trim::KeepAbove => dropped,
        };
    }
    match trim {
        Trim::KeepAbove if at >= lower => Kept { count, midpoint: at },
        Trim::KeepBelow | Trim::KeepAbove => Kept { count: 0.0, midpoint: finite(lower) },
    }
}

fn keep_of_zero_bucket(bucket: &Bucket, at: f64, trim: Trim) -> Kept {
    let Bucket { lower, upper, count, .. } = *bucket;
    let all = Kept { count, midpoint: (lower + upper) / 2.0 };
    match trim {
        Trim::KeepBelow if at <= lower => NOTHING,
        Trim::KeepBelow if at >= upper => all,
        Trim::KeepBelow => {
            let fraction = (at - lower) / (upper - lower);
            Kept { count: count * fraction, midpoint: (lower + at) / 2.0 }
        }
        Trim::KeepAbove if at <= lower => all,
        Trim::KeepAbove if at >= upper => NOTHING,
        Trim::KeepAbove => {
            let fraction = (upper - at) / (upper - lower);
            Kept { count: count * fraction, midpoint: (at + upper) / 2.0 }
        }
    }
}

/// The value that stands for those between two bounds: the arithmetic mean on a linear scale, the geometric one on a logarithmic scale.
fn middle(lower: f64, upper: f64, positive: bool, linear: bool) -> f64 {
    if lower.is_infinite() {
        return match upper {
            upper if upper.is_infinite() => 0.0,
            upper if upper > 0.0 => upper / 2.0,
            upper => upper,
        };
    }
    if upper.is_infinite() {
        return lower;
    }
    if linear {
        return (lower + upper) / 2.0;
    }
    let mean = (lower * upper).abs().sqrt();
    if positive { mean } else { -mean }
}

#[cfg(test)]
mod tests {
    use super::super::{CUSTOM_BUCKETS_SCHEMA, Span};
    use super::*;

    fn check(
        histogram: &FloatHistogram,
        at: f64,
        trim: Trim,
        expected: (f64, f64),
        counts: &[f64],
    ) {
        let mut trimmed = histogram.clone();
        trimmed.trim(at, trim);
        assert_eq!((trimmed.count, trimmed.sum), expected, "{trim:?} {at}");
        assert_eq!(trimmed.positive_counts, counts, "{trim:?} {at}");
    }

    #[test]
    fn exponential_buckets_are_divided_on_a_logarithmic_scale() {
        // Buckets (1, 4] and (4, 16] of schema −1.
        let histogram = FloatHistogram {
            schema: -1,
            count: 6.0,
            sum: 40.0,
            positive_spans: vec![Span { offset: 1, length: 2 }],
            positive_counts: vec![2.0, 4.0],
            ..FloatHistogram::default()
        };
        // Nothing is cut off: the sum stays.
        check(&histogram, 16.0, Trim::KeepBelow, (6.0, 40.0), &[2.0, 4.0]);
        // Below 4: two of about 2.
        check(&histogram, 4.0, Trim::KeepBelow, (2.0, 4.0), &[2.0]);
        // 8 is half of (4, 16]; what is above it is about √128.
        check(&histogram, 8.0, Trim::KeepAbove, (2.0, 2.0 * 128_f64.sqrt()), &[2.0]);
        check(&histogram, 0.5, Trim::KeepBelow, (0.0, 0.0), &[]);
    }

    #[test]
    fn custom_buckets_are_divided_on_a_linear_scale() {
        let histogram = FloatHistogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            count: 9.0,
            sum: 50.0,
            positive_spans: vec![Span { offset: 0, length: 3 }],
            positive_counts: vec![4.0, 4.0, 1.0],
            custom_bounds: vec![5.0, 15.0],
            ..FloatHistogram::default()
        };
        // All of (−∞, 5], taken to be 2.5 each, and half of (5, 15], about 7.5 each.
        check(&histogram, 10.0, Trim::KeepBelow, (6.0, 4.0 * 2.5 + 2.0 * 7.5), &[4.0, 2.0]);
        // A fifth of (0, 5].
        check(&histogram, 1.0, Trim::KeepBelow, (4.0 * 1.0 / 5.0, 4.0 / 5.0 * 0.5), &[0.8]);
        check(&histogram, 20.0, Trim::KeepAbove, (1.0, 20.0), &[1.0]);
    }

    #[test]
    fn a_zero_bucket_has_the_sign_of_the_others() {
        let mut histogram = FloatHistogram {
            zero_threshold: 0.5,
            zero_count: 4.0,
            count: 5.0,
            positive_spans: vec![Span { offset: 3, length: 1 }],
            positive_counts: vec![1.0],
            ..FloatHistogram::default()
        };
        histogram.trim(0.25, Trim::KeepBelow);
        assert_eq!((histogram.zero_count, histogram.count, histogram.sum), (2.0, 2.0, 0.25));
    }
}
