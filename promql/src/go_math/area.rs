//! Inverse hyperbolic functions, by logarithms, as in FreeBSD's `s_asinh.c`, `e_acosh.c` and `e_atanh.c`.

use super::log::{ln, ln_1p};

const LN2: f64 = std::f64::consts::LN_2;
/// From here on a square hides a one that is added to it.
const LARGE: f64 = (1_u64 << 28) as f64;
/// Below, the functions are their argument.
const SMALL: f64 = 1.0 / LARGE;

/// The inverse of the hyperbolic sine.
pub(crate) fn asinh(v: f64) -> f64 {
    if !v.is_finite() {
        return v;
    }
    let (magnitude, negative) = if v < 0.0 { (-v, true) } else { (v, false) };
    let result = if magnitude > LARGE {
        ln(magnitude) + LN2
    } else if magnitude > 2.0 {
        ln(2.0 * magnitude + 1.0 / ((magnitude * magnitude + 1.0).sqrt() + magnitude))
    } else if magnitude < SMALL {
        magnitude
    } else {
        let square = magnitude * magnitude;
        ln_1p(magnitude + square / (1.0 + (1.0 + square).sqrt()))
    };
    if negative { -result } else { result }
}

/// The inverse of the hyperbolic cosine.
pub(crate) fn acosh(v: f64) -> f64 {
    if v < 1.0 || v.is_nan() {
        return f64::NAN;
    }
    if v == 1.0 {
        return 0.0;
    }
    if v >= LARGE {
        return ln(v) + LN2;
    }
    if v > 2.0 {
        return ln(2.0 * v - 1.0 / (v + (v * v - 1.0).sqrt()));
    }
    let above = v - 1.0;
    ln_1p(above + (2.0 * above + above * above).sqrt())
}

/// The inverse of the hyperbolic tangent.
pub(crate) fn atanh(v: f64) -> f64 {
    if !(-1.0..=1.0).contains(&v) {
        return f64::NAN;
    }
    if v.abs() == 1.0 {
        return f64::INFINITY.copysign(v);
    }
    let (magnitude, negative) = if v < 0.0 { (-v, true) } else { (v, false) };
    let twice = magnitude + magnitude;
    let result = if magnitude < SMALL {
        magnitude
    } else if magnitude < 0.5 {
        0.5 * ln_1p(twice + twice * magnitude / (1.0 - magnitude))
    } else {
        0.5 * ln_1p(twice / (1.0 - magnitude))
    };
    if negative { -result } else { result }
}
