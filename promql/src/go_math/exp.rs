//! The exponential function.
//!
//! Shibata's method for SIMD units, which Go's assembly for amd64 follows: with k the nearest integer to v / ln 2, the Taylor series is
//! evaluated at a sixteenth of v − k · ln 2, and squared four times. On every processor of the last ten years Go uses fused multiply-add in it,
//! and in it alone. `f64::mul_add` rounds once on all machines, also on those that lack the instruction.

use super::{BIAS, power_of_two};

/// Above this the result is infinite.
const OVERFLOW: f64 = 709.782_712_893_384;
/// ln 2, of which the product with an exponent is exact.
const LN2_HIGH: f64 = 0.693_147_180_559_663;
/// The rest of ln 2.
const LN2_LOW: f64 = 2.823_529_056_303_157_7e-13;
/// 1 / n! for n from 8 down to 0, without 1 / 1!.
const SERIES: [f64; 8] = [
    2.480_158_730_158_73e-5,
    0.000_198_412_698_412_698_4,
    0.001_388_888_888_888_889,
    0.008_333_333_333_333_333,
    0.041_666_666_666_666_664,
    0.166_666_666_666_666_66,
    0.5,
    1.0,
];

/// e to the power of `v`.
pub(crate) fn exp(v: f64) -> f64 {
    if v.is_nan() {
        return v;
    }
    if v > OVERFLOW {
        return f64::INFINITY;
    }
    let exponent = (v * std::f64::consts::LOG2_E).round_ties_even();
    // Even the least number of all is far above this.
    if exponent < -2000.0 {
        return 0.0;
    }
    let rest = (-exponent).mul_add(LN2_LOW, (-exponent).mul_add(LN2_HIGH, v)) * 0.0625;
    let series = SERIES[1..].iter().fold(SERIES[0], |sum, c| rest.mul_add(sum, *c));
    // What is squared is the exponential less one: (1 + r)² − 1 = r · (r + 2).
    let mut less_one = rest * series;
    for _ in 0..3 {
        less_one *= less_one + 2.0;
    }
    let fraction = (less_one + 2.0).mul_add(less_one, 1.0);
    #[expect(clippy::cast_possible_truncation, reason = "between -2000 and 1024")]
    scaled(fraction, exponent as i32)
}

/// `fraction` times two to the `exponent`; below the normal numbers in two steps.
fn scaled(fraction: f64, exponent: i32) -> f64 {
    let stored = exponent + BIAS;
    if stored >= 0x7ff {
        f64::INFINITY
    } else if stored > 0 {
        fraction * power_of_two(exponent)
    } else if stored < -52 {
        0.0
    } else {
        fraction * power_of_two(exponent + 1022) * power_of_two(-1022)
    }
}
