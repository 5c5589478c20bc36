//! Inverse trigonometric functions, all of them by the arc tangent of Cephes.

use std::f64::consts::{FRAC_PI_2, FRAC_PI_4, PI};

/// What π/2 has beyond the float nearest to it.
const FRAC_PI_2_REST: f64 = 6.123_233_995_736_766e-17;

/// The arc tangent from 0 to 0.66, a rational function.
fn atan_small(v: f64) -> f64 {
    const P: [f64; 5] = [
        -0.875_060_860_003_190_4,
        -16.157_537_187_333_652,
        -75.008_557_923_147_05,
        -122.886_668_449_013_61,
        -64.850_219_049_420_25,
    ];
    const Q: [f64; 5] = [
        24.858_464_901_423_062,
        165.027_009_831_698_85,
        432.881_060_491_290_27,
        485.390_399_635_913_7,
        194.550_657_148_261_4,
    ];
    let z = v * v;
    let numerator = P[1..].iter().fold(P[0], |sum, c| sum * z + c);
    let denominator = Q[1..].iter().fold(z + Q[0], |sum, c| sum * z + c);
    v * (z * numerator / denominator) + v
}

/// The arc tangent of what is not negative.
fn atan_positive(v: f64) -> f64 {
    /// Of 3π/8.
    const TANGENT: f64 = 2.414_213_562_373_095;
    if v <= 0.66 {
        atan_small(v)
    } else if v > TANGENT {
        FRAC_PI_2 - atan_small(1.0 / v) + FRAC_PI_2_REST
    } else {
        FRAC_PI_4 + atan_small((v - 1.0) / (v + 1.0)) + 0.5 * FRAC_PI_2_REST
    }
}

/// The arc tangent.
pub(crate) fn atan(v: f64) -> f64 {
    if v == 0.0 {
        v
    } else if v > 0.0 {
        atan_positive(v)
    } else {
        -atan_positive(-v)
    }
}

/// The arc sine.
pub(crate) fn asin(v: f64) -> f64 {
    if v == 0.0 {
        return v;
    }
    let (magnitude, negative) = if v < 0.0 { (-v, true) } else { (v, false) };
    if magnitude > 1.0 {
        return f64::NAN;
    }
    let cosine = (1.0 - magnitude * magnitude).sqrt();
    let result = if magnitude > 0.7 {
        FRAC_PI_2 - atan_positive(cosine / magnitude)
    } else {
        atan_positive(magnitude / cosine)
    };
    if negative { -result } else { result }
}

/// The arc cosine.
pub(crate) fn acos(v: f64) -> f64 {
    FRAC_PI_2 - asin(v)
}

/// The angle of the point (`x`, `y`).
pub(crate) fn atan2(y: f64, x: f64) -> f64 {
    if y.is_nan() || x.is_nan() {
        return f64::NAN;
    }
    if y == 0.0 {
        return if x.is_sign_positive() { y } else { PI.copysign(y) };
    }
    if x == 0.0 {
        return FRAC_PI_2.copysign(y);
    }
    if x.is_infinite() {
        let angle = match (x > 0.0, y.is_infinite()) {
            (true, true) => FRAC_PI_4,
            (true, false) => 0.0,
            (false, true) => 3.0 * PI / 4.0,
            (false, false) => PI,
        };
        return angle.copysign(y);
    }
    if y.is_infinite() {
        return FRAC_PI_2.copysign(y);
    }
    let angle = atan(y / x);
    if x >= 0.0 {
        angle
    } else if angle <= 0.0 {
        angle + PI
    } else {
        angle - PI
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn angles_of_all_quadrants() {
        let inf = f64::INFINITY;
        for (y, x, expected) in [
            (0.0, 1.0, 0.0),
            (0.0, -1.0, PI),
            (-0.0, -1.0, -PI),
            (0.0, -0.0, PI),
            (1.0, 0.0, FRAC_PI_2),
            (-1.0, 0.0, -FRAC_PI_2),
            (1.0, 1.0, FRAC_PI_4),
            (1.0, -1.0, 3.0 * FRAC_PI_4),
            (-1.0, -1.0, -3.0 * FRAC_PI_4),
            (inf, inf, FRAC_PI_4),
            (-inf, -inf, -3.0 * FRAC_PI_4),
            (inf, 1.0, FRAC_PI_2),
            (1.0, inf, 0.0),
            (1.0, -inf, PI),
        ] {
            assert_eq!(atan2(y, x), expected, "{y}, {x}");
        }
    }
}
