//! Within a bucket: where a value lies, and which value lies where.
//!
//! Logarithms and powers of two follow the published methods of FreeBSD's libm (`e_log.c`, `e_exp.c`, by Sun Microsystems) step by step as
//! Go's library does, since results are shown to the last digit.

use super::Bucket;
use super::bounds::scale;

impl Bucket {
    /// Which part of the bucket is at or below `v`, which lies between its finite bounds: on a linear scale (custom buckets, the zero
    /// bucket) or on a logarithmic one.
    #[must_use]
    pub fn fraction_below(&self, v: f64, linear: bool) -> f64 {
        if linear {
            return (v - self.lower) / (self.upper - self.lower);
        }
        let (lower, upper, log_v) = (log2(self.lower.abs()), log2(self.upper.abs()), log2(v.abs()));
        if v > 0.0 {
            (log_v - lower) / (upper - lower)
        } else {
            1.0 - (log_v - upper) / (lower - upper)
        }
    }

    /// The value that `fraction` of the bucket is at or below, on a linear or on a logarithmic scale.
    #[must_use]
    pub fn value_at(&self, fraction: f64, linear: bool) -> f64 {
        if linear {
            return self.lower + (self.upper - self.lower) * fraction;
        }
        let (lower, upper) = (log2(self.lower.abs()), log2(self.upper.abs()));
        if self.lower > 0.0 {
            exp2(lower + (upper - lower) * fraction)
        } else {
            -exp2(upper + (lower - upper) * (1.0 - fraction))
        }
    }
}

/// ln 2 in two parts, the first with trailing zeros.
const LN2_HIGH: f64 = 0.693_147_180_369_123_8;
const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;

/// Fraction between 1/2 and 1 and exponent of a positive finite number.
fn split(v: f64) -> (f64, i64) {
    const FRACTION_BITS: u32 = 52;
    const EXPONENT_MASK: u64 = 0x7ff;
    // Subnormals are made normal first.
    let (v, shifted) = if v < f64::MIN_POSITIVE { (v * (1_u64 << 52) as f64, 52) } else { (v, 0) };
    let bits = v.to_bits();
    let exponent = (bits >> FRACTION_BITS & EXPONENT_MASK).cast_signed() - 1022 - shifted;
    let fraction = bits & !(EXPONENT_MASK << FRACTION_BITS) | 1022 << FRACTION_BITS;
    (f64::from_bits(fraction), exponent)
}

#[expect(clippy::cast_precision_loss, reason = "exponents are small")]
fn log2(v: f64) -> f64 {
    if v.is_nan() || v == f64::INFINITY {
        return v;
    }
    if v <= 0.0 {
        return if v < 0.0 { f64::NAN } else { f64::NEG_INFINITY };
    }
    let (fraction, exponent) = split(v);
    // Powers of two are exact.
    if fraction == 0.5 {
        return (exponent - 1) as f64;
    }
    ln(fraction) * std::f64::consts::LOG2_E + exponent as f64
}

/// The natural logarithm of a number between 1/2 and 1: with s = f / (2 + f), ln(1 + f) is f − s · (f − R(s²)), R a polynomial.
fn ln(fraction: f64) -> f64 {
    const L: [f64; 7] = [
        0.666_666_666_666_673_5,
        0.399_999_999_994_094_2,
        0.285_714_287_436_623_9,
        0.222_221_984_321_497_84,
        0.181_835_721_616_180_5,
        0.153_138_376_992_093_73,
        0.147_981_986_051_165_86,
    ];
    let (f, k) = if fraction < std::f64::consts::FRAC_1_SQRT_2 {
        (fraction * 2.0 - 1.0, -1.0)
    } else {
        (fraction - 1.0, 0.0)
    };
    let s = f / (2.0 + f);
    let (s2, s4) = (s * s, s * s * (s * s));
    let odd = s2 * (L[0] + s4 * (L[2] + s4 * (L[4] + s4 * L[6])));
    let even = s4 * (L[1] + s4 * (L[3] + s4 * L[5]));
    let rest = odd + even;
    let half_square = 0.5 * f * f;
    k * LN2_HIGH - ((half_square - (s * (half_square + rest) + k * LN2_LOW)) - f)
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "exponents are within the bounds that are checked"
)]
fn exp2(v: f64) -> f64 {
    const P: [f64; 5] = [
        0.166_666_666_666_666_66,
        -0.002_777_777_777_701_559_3,
        6.613_756_321_437_934e-5,
        -1.653_390_220_546_525_2e-6,
        4.138_136_797_057_238_5e-8,
    ];
    if v.is_nan() || v == f64::INFINITY {
        return v;
    }
    if v > 1.023_999_999_999_999_9e3 {
        return f64::INFINITY;
    }
    if v < -1.0740e3 {
        return 0.0;
    }
    let exponent = (v + 0.5_f64.copysign(v)) as i64;
    let exponent = if v == 0.0 { 0 } else { exponent };
    let t = v - exponent as f64;
    let (high, low) = (t * LN2_HIGH, -t * LN2_LOW);
    let r = high - low;
    let t = r * r;
    let c = r - t * (P[0] + t * (P[1] + t * (P[2] + t * (P[3] + t * P[4]))));
    scale(1.0 - ((low - (r * c) / (2.0 - c)) - high), exponent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_and_powers_are_as_exact_as_they_can_be() {
        for (v, expected) in [
            (1.0, 0.0),
            (8.0, 3.0),
            (0.125, -3.0),
            (f64::MIN_POSITIVE, -1022.0),
            (f64::from_bits(1), -1074.0),
            (f64::INFINITY, f64::INFINITY),
            (0.0, f64::NEG_INFINITY),
        ] {
            assert_eq!(log2(v), expected, "{v}");
            assert_eq!(exp2(expected), v, "{expected}");
        }
        // As a Prometheus shows them; the first is not the nearest float, which ends in 56.
        assert_eq!(log2(3.0), 1.584_962_500_721_156_3);
        assert_eq!(log2(10.0), std::f64::consts::LOG2_10);
        assert!((exp2(0.5) - std::f64::consts::SQRT_2).abs() < 3e-16);
        assert!(log2(-1.0).is_nan() && exp2(f64::NAN).is_nan());
        assert_eq!((exp2(1024.0), exp2(-1075.0)), (f64::INFINITY, 0.0));
        for i in 1..2000 {
            let v = f64::from(i) * 0.37;
            assert!((log2(v) - v.log2()).abs() <= 4e-16 * v.log2().abs().max(1.0), "{v}");
            let (ours, std) = (exp2(v / 10.0), (v / 10.0).exp2());
            assert!((ours - std).abs() <= 4e-16 * std, "{v}");
        }
    }

    fn bucket(lower: f64, upper: f64) -> Bucket {
        Bucket { lower, upper, lower_inclusive: false, upper_inclusive: true, count: 1.0, index: 0 }
    }

    #[test]
    fn fractions_and_values_are_inverse() {
        let positive = bucket(1.0, 4.0);
        assert_eq!(positive.fraction_below(2.0, false), 0.5);
        assert_eq!(positive.fraction_below(2.5, true), 0.5);
        assert_eq!(positive.value_at(0.5, false), 2.0);
        assert_eq!(positive.value_at(0.5, true), 2.5);
        let negative = bucket(-4.0, -1.0);
        assert_eq!(negative.fraction_below(-2.0, false), 0.5);
        assert_eq!(negative.value_at(0.5, false), -2.0);
        assert_eq!(bucket(-8.0, -1.0).fraction_below(-4.0, false), 1.0 - 2.0 / 3.0);
    }
}
