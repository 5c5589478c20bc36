//! Logarithms, by the method of FreeBSD's `e_log.c` and `s_log1p.c`: with s = f / (2 + f), ln(1 + f) is f − (h − s · (h + R(s²))), where
//! h = f² / 2 and R is a polynomial.

use super::{EXPONENT_MASK, FRACTION_BITS, split};

/// ln 2, with zeros at the end, so that the product with an exponent is exact.
const LN2_HIGH: f64 = 0.693_147_180_369_123_8;
/// The rest of ln 2.
const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;
/// The polynomial R.
const R: [f64; 7] = [
    0.666_666_666_666_673_5,
    0.399_999_999_994_094_2,
    0.285_714_287_436_623_9,
    0.222_221_984_321_497_84,
    0.181_835_721_616_180_5,
    0.153_138_376_992_093_73,
    0.147_981_986_051_165_86,
];

/// The natural logarithm.
///
/// As in Go's assembly, subnormal numbers are not made normal first: the logarithm of each lies between those of 2^-1023 and 2^-1022.
pub(crate) fn ln(v: f64) -> f64 {
    if v == 0.0 {
        return f64::NEG_INFINITY;
    }
    if v.is_nan() || v < 0.0 {
        return f64::NAN;
    }
    if v == f64::INFINITY {
        return v;
    }
    let bits = v.to_bits();
    let fraction = f64::from_bits(bits & !(EXPONENT_MASK << FRACTION_BITS) | 0.5_f64.to_bits());
    #[expect(clippy::cast_precision_loss, reason = "exponents are small")]
    let exponent = (bits >> FRACTION_BITS) as f64 - 1022.0;
    let (f, k) = if fraction <= std::f64::consts::FRAC_1_SQRT_2 {
        (fraction * 2.0 - 1.0, exponent - 1.0)
    } else {
        (fraction - 1.0, exponent)
    };
    let s = f / (2.0 + f);
    let s2 = s * s;
    let s4 = s2 * s2;
    let odd = s2 * (R[0] + s4 * (R[2] + s4 * (R[4] + s4 * R[6])));
    let even = s4 * (R[1] + s4 * (R[3] + s4 * R[5]));
    let half_square = 0.5 * f * f;
    k * LN2_HIGH - ((half_square - (s * (half_square + (odd + even)) + k * LN2_LOW)) - f)
}

/// The logarithm to base 2. Powers of two are exact.
pub(crate) fn log2(v: f64) -> f64 {
    let (fraction, exponent) = split(v);
    if fraction == 0.5 {
        return f64::from(exponent - 1);
    }
    ln(fraction) * std::f64::consts::LOG2_E + f64::from(exponent)
}

/// The logarithm to base 10.
pub(crate) fn log10(v: f64) -> f64 {
    ln(v) * std::f64::consts::LOG10_E
}

/// The natural logarithm of 1 + v, exact where v is small.
pub(super) fn ln_1p(v: f64) -> f64 {
    const SQRT2_LESS_1: f64 = 0.414_213_562_373_095_03;
    const SQRT_HALF_LESS_1: f64 = -0.292_893_218_813_452_5;
    const TWO_29: f64 = (1_u64 << 29) as f64;
    const TWO_54: f64 = (1_u64 << 54) as f64;
    if v < -1.0 || v.is_nan() {
        return f64::NAN;
    }
    if v == -1.0 {
        return f64::NEG_INFINITY;
    }
    if v == f64::INFINITY {
        return v;
    }
    let magnitude = v.abs();
    if magnitude < 1.0 / TWO_54 {
        return v;
    }
    if magnitude < 1.0 / TWO_29 {
        return v - v * v * 0.5;
    }
    if magnitude < SQRT2_LESS_1 && v > SQRT_HALF_LESS_1 {
        return Reduced { f: v, k: 0.0, lost: 0.0, tiny: false }.ln();
    }
    Reduced::of_1_plus(v).ln()
}

/// A number as (1 + f) · 2^k, 1 + f lying between √½ and √2.
struct Reduced {
    f: f64,
    k: f64,
    /// What rounding the number lost, divided by it.
    lost: f64,
    /// f is below 2^-20.
    tiny: bool,
}

impl Reduced {
    fn of_1_plus(v: f64) -> Self {
        const TWO_53: f64 = (1_u64 << 53) as f64;
        const ONE: u64 = 1 << FRACTION_BITS;
        /// The fraction of √2.
        const SQRT2: u64 = 0x6_a09e_667f_3bcd;
        let (sum, lost) = if v.abs() < TWO_53 {
            let sum = 1.0 + v;
            let lost = if sum >= 2.0 { 1.0 - (sum - v) } else { v - (sum - 1.0) };
            (sum, lost / sum)
        } else {
            (v, 0.0)
        };
        let bits = sum.to_bits();
        #[expect(clippy::cast_precision_loss, reason = "exponents are small")]
        let mut k = (bits >> FRACTION_BITS) as f64 - 1023.0;
        let mut fraction = bits & (ONE - 1);
        let normal = if fraction < SQRT2 {
            f64::from_bits(fraction | 1.0_f64.to_bits())
        } else {
            k += 1.0;
            let half = f64::from_bits(fraction | 0.5_f64.to_bits());
            fraction = (ONE - fraction) >> 2;
            half
        };
        Self { f: normal - 1.0, k, lost, tiny: fraction == 0 }
    }

    fn ln(self) -> f64 {
        let Self { f, k, lost, tiny } = self;
        let half_square = 0.5 * f * f;
        if tiny {
            if f == 0.0 {
                return if k == 0.0 { 0.0 } else { k * LN2_HIGH + (lost + k * LN2_LOW) };
            }
            let rest = half_square * (1.0 - 0.666_666_666_666_666_6 * f);
            if k == 0.0 {
                return f - rest;
            }
            return k * LN2_HIGH - ((rest - (k * LN2_LOW + lost)) - f);
        }
        let s = f / (2.0 + f);
        let z = s * s;
        let rest = z * R[..6].iter().rev().fold(R[6], |sum, c| c + z * sum);
        if k == 0.0 {
            return f - (half_square - s * (half_square + rest));
        }
        k * LN2_HIGH - ((half_square - (s * (half_square + rest) + (k * LN2_LOW + lost))) - f)
    }
}
