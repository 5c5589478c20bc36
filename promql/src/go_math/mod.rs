//! Elementary functions to the last bit of Go's `math` package on linux/amd64.
//!
//! A transcendental function is only ever nearly exact, and which of the neighbouring floats comes out depends on the method and on the order
//! of its operations. Answers are compared with those of Prometheus, so the methods here are those that Go's library took from FreeBSD's msun, from
//! Cephes and, in assembly for amd64, from SLEEF. They are used on every architecture. Square roots, remainders and rounding to
//! integers are exact in both worlds and come from the standard library.
//!
//! `tests/go_math.rs` holds them against a Prometheus binary.

mod arc;
mod area;
mod exp;
mod hyperbolic;
mod log;
mod pow;
mod reduce;
mod trig;

pub(crate) use arc::{acos, asin, atan, atan2};
pub(crate) use area::{acosh, asinh, atanh};
pub(crate) use exp::exp;
pub(crate) use hyperbolic::{cosh, sinh, tanh};
pub(crate) use log::{ln, log2, log10};
pub(crate) use pow::pow;
pub(crate) use trig::{cos, sin, tan};

/// Bits of a fraction, without the leading one.
const FRACTION_BITS: u32 = 52;
/// The bits of an exponent, moved to the right end.
const EXPONENT_MASK: u64 = 0x7ff;
/// What is added to exponents to store them.
const BIAS: i32 = 1023;

/// Splits off a fraction between 1/2 and 1 (as far as the magnitude goes) from the power of two that it is to be multiplied with. Zeros, infinities and NaN are
/// their own fractions.
fn split(v: f64) -> (f64, i32) {
    if v == 0.0 || !v.is_finite() {
        return (v, 0);
    }
    let (v, shifted) = normal(v);
    let fraction = v.to_bits() & !(EXPONENT_MASK << FRACTION_BITS) | 1022 << FRACTION_BITS;
    (f64::from_bits(fraction), stored_exponent(v) - (BIAS - 1) - shifted)
}

/// `fraction` times two to the `exponent`, rounded once.
fn scale(fraction: f64, exponent: i32) -> f64 {
    const LEAST_NORMAL: i32 = -1022;
    if fraction == 0.0 || !fraction.is_finite() {
        return fraction;
    }
    let (v, shifted) = normal(fraction);
    let exponent = exponent.saturating_add(stored_exponent(v) - BIAS - shifted);
    if exponent < -1075 {
        return 0.0_f64.copysign(fraction);
    }
    if exponent > BIAS {
        return f64::INFINITY.copysign(fraction);
    }
    // Subnormals are made from normal numbers, so that rounding is the processor's.
    let (exponent, rest) =
        if exponent < LEAST_NORMAL { (exponent + 53, power_of_two(-53)) } else { (exponent, 1.0) };
    let sign_and_fraction = v.to_bits() & !(EXPONENT_MASK << FRACTION_BITS);
    rest * f64::from_bits(sign_and_fraction | power_of_two(exponent).to_bits())
}

/// A normal number that is `v` once it is divided by the returned power of two.
fn normal(v: f64) -> (f64, i32) {
    if v.abs() < f64::MIN_POSITIVE { (v * power_of_two(52), 52) } else { (v, 0) }
}

/// The exponent as it is stored.
fn stored_exponent(v: f64) -> i32 {
    let exponent = v.to_bits() >> FRACTION_BITS & EXPONENT_MASK;
    i32::try_from(exponent).expect("eleven bits")
}

/// Two to a power between −1022 and 1023.
fn power_of_two(exponent: i32) -> f64 {
    let stored = u64::try_from(exponent + BIAS).expect("callers stay in range");
    f64::from_bits(stored << FRACTION_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitting_and_scaling_are_inverse() {
        for v in [1.0, -0.75, 3.5e300, f64::MIN_POSITIVE, f64::from_bits(1), -5e-320, f64::MAX] {
            let (fraction, exponent) = split(v);
            assert!((0.5..1.0).contains(&fraction.abs()), "{v}");
            assert_eq!(scale(fraction, exponent), v);
        }
        assert_eq!(split(8.0), (0.5, 4));
        assert_eq!(split(0.0), (0.0, 0));
    }

    #[test]
    fn scaling_rounds_once_and_ends_at_the_bounds() {
        assert_eq!(scale(1.0, 1024), f64::INFINITY);
        assert_eq!(scale(-1.0, i32::MAX), f64::NEG_INFINITY);
        assert_eq!(scale(1.0, -1074), f64::from_bits(1));
        // Half of the least subnormal goes to the even side, a little more goes up.
        assert_eq!(scale(1.0, -1075), 0.0);
        assert_eq!(scale(1.5, -1075), f64::from_bits(1));
        assert!(scale(-1.0, -2000).is_sign_negative());
    }

    type Function = fn(f64) -> f64;
    /// A function's name, the function, arguments, values.
    type Table = (&'static str, Function, &'static [(f64, f64)]);

    const INF: f64 = f64::INFINITY;
    const NAN: f64 = f64::NAN;

    /// Limits that the definitions of the functions give.
    const LIMITS: &[Table] = &[
        (
            "exp",
            exp,
            &[(0.0, 1.0), (-0.0, 1.0), (INF, INF), (-INF, 0.0), (710.0, INF), (-746.0, 0.0)],
        ),
        ("ln", ln, &[(1.0, 0.0), (0.0, -INF), (-0.0, -INF), (INF, INF), (-1.0, NAN), (-INF, NAN)]),
        ("log2", log2, &[(8.0, 3.0), (0.125, -3.0), (5e-324, -1074.0), (0.0, -INF), (-1.0, NAN)]),
        ("log10", log10, &[(1.0, 0.0), (100.0, 2.0), (0.0, -INF), (INF, INF), (-1.0, NAN)]),
        ("sin", sin, &[(0.0, 0.0), (INF, NAN), (-INF, NAN)]),
        ("cos", cos, &[(0.0, 1.0), (INF, NAN), (-INF, NAN)]),
        ("tan", tan, &[(0.0, 0.0), (INF, NAN), (-INF, NAN)]),
        ("asin", asin, &[(0.0, 0.0), (1.1, NAN), (-1.1, NAN)]),
        ("acos", acos, &[(1.0, 0.0), (1.1, NAN), (-1.1, NAN)]),
        ("atan", atan, &[(0.0, 0.0), (INF, std::f64::consts::FRAC_PI_2)]),
        ("sinh", sinh, &[(0.0, 0.0), (INF, INF), (-INF, -INF)]),
        ("cosh", cosh, &[(0.0, 1.0), (INF, INF), (-INF, INF)]),
        ("tanh", tanh, &[(0.0, 0.0), (INF, 1.0), (-INF, -1.0)]),
        ("asinh", asinh, &[(0.0, 0.0), (INF, INF), (-INF, -INF)]),
        ("acosh", acosh, &[(1.0, 0.0), (INF, INF), (0.5, NAN), (-INF, NAN)]),
        ("atanh", atanh, &[(0.0, 0.0), (1.0, INF), (-1.0, -INF), (2.0, NAN)]),
    ];

    #[test]
    fn limits() {
        for (name, function, values) in LIMITS {
            assert!(function(NAN).is_nan(), "{name} of NaN");
            for &(argument, expected) in *values {
                let got = function(argument);
                let same = got == expected || got.is_nan() && expected.is_nan();
                assert!(same, "{name} of {argument} is {got}, not {expected}");
            }
        }
    }

    /// Results are the standard library's but for the last bits.
    #[test]
    fn results_are_nearly_exact() {
        let pairs: [[Function; 2]; 16] = [
            [exp, f64::exp],
            [ln, f64::ln],
            [log2, f64::log2],
            [log10, f64::log10],
            [sin, f64::sin],
            [cos, f64::cos],
            [tan, f64::tan],
            [asin, f64::asin],
            [acos, f64::acos],
            [atan, f64::atan],
            [sinh, f64::sinh],
            [cosh, f64::cosh],
            [tanh, f64::tanh],
            [asinh, f64::asinh],
            [acosh, f64::acosh],
            [atanh, f64::atanh],
        ];
        for (at, [ours, exact]) in pairs.iter().enumerate() {
            for step in -4000..4000 {
                let v = f64::from(step) * 0.001_3;
                let (ours, exact) = (ours(v), exact(v));
                let close = ours == exact || (ours - exact).abs() <= 1e-12 * exact.abs().max(1.0);
                assert!(close || ours.is_nan() && exact.is_nan(), "{at}: {v}: {ours} {exact}");
            }
        }
    }
}
