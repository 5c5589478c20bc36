//! Powers: the integer part of the exponent by repeated squaring, the rest by exponential and logarithm.

use super::{exp, ln, scale, split};

/// Floats from here on are even integers.
const TWO_53: f64 = (1_u64 << 53) as f64;
/// The first float that is not a signed 64-bit integer.
const TWO_63: f64 = (1_u64 << 63) as f64;

fn is_odd_integer(v: f64) -> bool {
    v.abs() < TWO_53 && v % 2.0 != 0.0 && v.fract() == 0.0
}

/// `base` to the power of `exponent`.
pub(crate) fn pow(base: f64, exponent: f64) -> f64 {
    if exponent == 0.0 || base == 1.0 {
        return 1.0;
    }
    if exponent == 1.0 {
        return base;
    }
    if base.is_nan() || exponent.is_nan() {
        return f64::NAN;
    }
    if base == 0.0 {
        return of_zero(base, exponent);
    }
    if exponent.is_infinite() {
        return extreme(base, exponent);
    }
    if base.is_infinite() {
        if base < 0.0 {
            return of_zero(-0.0, -exponent);
        }
        return if exponent < 0.0 { 0.0 } else { f64::INFINITY };
    }
    if exponent == 0.5 {
        return base.sqrt();
    }
    if exponent == -0.5 {
        return 1.0 / base.sqrt();
    }
    of_finite(base, exponent)
}

/// The power of a zero, of which an odd one has the sign.
fn of_zero(zero: f64, exponent: f64) -> f64 {
    let magnitude = if exponent < 0.0 { f64::INFINITY } else { 0.0 };
    if is_odd_integer(exponent) { magnitude.copysign(zero) } else { magnitude }
}

/// The power to an exponent so large that only −1 gives something between zero and infinity.
fn extreme(base: f64, exponent: f64) -> f64 {
    if base == -1.0 {
        1.0
    } else if (base.abs() < 1.0) == (exponent > 0.0) {
        0.0
    } else {
        f64::INFINITY
    }
}

fn of_finite(base: f64, exponent: f64) -> f64 {
    let (mut integer, mut rest) = (exponent.abs().trunc(), exponent.abs().fract());
    if rest != 0.0 && base < 0.0 {
        return f64::NAN;
    }
    if integer >= TWO_63 {
        return extreme(base, exponent);
    }
    let (mut result, mut result_exponent) = (1.0, 0_i32);
    if rest != 0.0 {
        if rest > 0.5 {
            rest -= 1.0;
            integer += 1.0;
        }
        result = exp(rest * ln(base));
    }
    // Squares of the base, their powers of two kept apart.
    let (mut square, mut square_exponent) = split(base);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is positive and below 2^63"
    )]
    let mut bits = integer as u64;
    while bits != 0 {
        if square_exponent.abs() > 1 << 12 {
            // The result is zero or infinite, and the exponent would overflow in the end.
            result_exponent += square_exponent;
            break;
        }
        if bits & 1 == 1 {
            result *= square;
            result_exponent += square_exponent;
        }
        square *= square;
        square_exponent <<= 1;
        if square < 0.5 {
            square += square;
            square_exponent -= 1;
        }
        bits >>= 1;
    }
    if exponent < 0.0 {
        scale(1.0 / result, -result_exponent)
    } else {
        scale(result, result_exponent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_cases() {
        let (inf, nan) = (f64::INFINITY, f64::NAN);
        for (base, exponent, expected) in [
            (nan, 0.0, 1.0),
            (1.0, nan, 1.0),
            (nan, 1.0, nan),
            (2.0, nan, nan),
            (0.0, -3.0, inf),
            (-0.0, -3.0, -inf),
            (-0.0, -2.0, inf),
            (-0.0, 3.0, -0.0),
            (-0.0, 2.5, 0.0),
            (0.0, -inf, inf),
            (0.0, inf, 0.0),
            (-1.0, inf, 1.0),
            (2.0, inf, inf),
            (2.0, -inf, 0.0),
            (0.5, inf, 0.0),
            (inf, -1.5, 0.0),
            (-inf, 3.0, -inf),
            (-inf, -3.0, -0.0),
            (-8.0, 0.25, nan),
            (-1.0, 1e300, 1.0),
            (2.0, 1e300, inf),
            (0.5, 1e19, 0.0),
            (-2.0, 3.0, -8.0),
            (9.0, -0.5, 1.0 / 3.0),
            (10.0, -2.0, 0.01),
            (2.0, -1074.0, f64::from_bits(1)),
        ] {
            let got = pow(base, exponent);
            let same = got.to_bits() == expected.to_bits() || got.is_nan() && expected.is_nan();
            assert!(same, "{base} ^ {exponent} is {got}, not {expected}");
        }
    }
}
