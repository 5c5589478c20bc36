//! Sine, cosine and tangent, as in Cephes: polynomials from 0 to π/4 in a reduced angle.

use super::reduce::reduce;

fn sine_of_reduced(z: f64) -> f64 {
    const P: [f64; 6] = [
        1.589_623_015_765_465_6e-10,
        -2.505_074_776_285_780_7e-8,
        2.755_731_362_138_572_2e-6,
        -0.000_198_412_698_295_895_4,
        0.008_333_333_333_322_118,
        -0.166_666_666_666_666_3,
    ];
    let square = z * z;
    z + z * square * P[1..].iter().fold(P[0], |sum, c| sum * square + c)
}

fn cosine_of_reduced(z: f64) -> f64 {
    const P: [f64; 6] = [
        -1.135_853_652_138_768_2e-11,
        2.087_570_084_197_473e-9,
        -2.755_731_417_929_674e-7,
        2.480_158_728_885_170_4e-5,
        -0.001_388_888_888_887_305_6,
        0.041_666_666_666_666_595,
    ];
    let square = z * z;
    let rest = square * square * P[1..].iter().fold(P[0], |sum, c| sum * square + c);
    1.0 - 0.5 * square + rest
}

/// The cosine of `v`, in radians.
pub(crate) fn cos(v: f64) -> f64 {
    if !v.is_finite() {
        return f64::NAN;
    }
    let (octant, z) = reduce(v.abs());
    match octant {
        2 => -sine_of_reduced(z),
        4 => -cosine_of_reduced(z),
        6 => sine_of_reduced(z),
        _ => cosine_of_reduced(z),
    }
}

/// The sine of `v`, in radians.
pub(crate) fn sin(v: f64) -> f64 {
    if v == 0.0 || v.is_nan() {
        return v;
    }
    if v.is_infinite() {
        return f64::NAN;
    }
    let (octant, z) = reduce(v.abs());
    let result = if octant % 4 == 2 { cosine_of_reduced(z) } else { sine_of_reduced(z) };
    if (v < 0.0) == (octant > 3) { result } else { -result }
}

/// The tangent of `v`, in radians.
pub(crate) fn tan(v: f64) -> f64 {
    const P: [f64; 3] = [-13_093.693_918_138_379, 1_153_516.648_385_874_2, -17_956_525.197_648_488];
    const Q: [f64; 4] = [
        13_681.296_347_069_296,
        -1_320_892.344_402_109_7,
        25_008_380.182_335_79,
        -53_869_575.592_945_464,
    ];
    if v == 0.0 || v.is_nan() {
        return v;
    }
    if v.is_infinite() {
        return f64::NAN;
    }
    let (octant, z) = reduce(v.abs());
    let square = z * z;
    let mut result = z;
    if square > 1e-14 {
        let numerator = square * ((P[0] * square + P[1]) * square + P[2]);
        let denominator = Q[1..].iter().fold(square + Q[0], |sum, c| sum * square + c);
        result = z + z * (numerator / denominator);
    }
    if octant & 2 == 2 {
        result = -1.0 / result;
    }
    if v < 0.0 { -result } else { result }
}
