//! Where buckets end.
//!
//! Answers show bounds, and quantiles are interpolated between them, so they have to be Prometheus's to the last bit. Its table for
//! the finer schemas is not correctly rounded: each bound is a product of roots of two, one for each binary digit of its position, rounded
//! at each multiplication. The table here is made the same way.

use super::CUSTOM_BUCKETS_SCHEMA;

/// 2^(1/2), 2^(1/4), … 2^(1/256), rounded to the nearest float; but for the first, which is the float below.
const ROOTS: [f64; 8] = [
    f64::from_bits(0x3ff6_a09e_667f_3bcc),
    f64::from_bits(0x3ff3_06fe_0a31_b715),
    f64::from_bits(0x3ff1_72b8_3c7d_517b),
    f64::from_bits(0x3ff0_b558_6cf9_890f),
    f64::from_bits(0x3ff0_59b0_d315_8574),
    f64::from_bits(0x3ff0_2c9a_3e77_8061),
    f64::from_bits(0x3ff0_163d_a9fb_3335),
    f64::from_bits(0x3ff0_0b1a_fa5a_bcbf),
];

/// Bounds between 1/2 and 1 of the finest schema; those of coarser ones are among them.
static FRACTIONS: [f64; 256] = fractions();

const fn fractions() -> [f64; 256] {
    let mut all = [0.5; 256];
    let mut at = 0;
    while at < all.len() {
        let mut root = 0;
        while root < ROOTS.len() {
            if at >> (7 - root) & 1 == 1 {
                all[at] *= ROOTS[root];
            }
            root += 1;
        }
        at += 1;
    }
    all
}

/// Beyond these exponents a float is 0 or infinite, whatever its fraction.
const EXPONENT_LIMIT: i64 = 1100;

/// `fraction · 2^exponent`, rounded once.
pub(super) fn scale(fraction: f64, exponent: i64) -> f64 {
    let exponent = exponent.clamp(-EXPONENT_LIMIT, EXPONENT_LIMIT);
    // Half of the way nothing is lost; only the second step may round.
    let half = exponent / 2;
    fraction * power_of_two(half) * power_of_two(exponent - half)
}

/// For exponents of normal floats.
fn power_of_two(exponent: i64) -> f64 {
    f64::from_bits((exponent + 1023).cast_unsigned() << 52)
}

/// The upper bound of bucket `index` of positive observations.
///
/// The last bucket before that of infinite observations ends at the largest finite float. Outside of the listed bounds, custom
/// buckets have infinite ones.
#[must_use]
pub fn bucket_bound(index: i32, schema: i32, custom_bounds: &[f64]) -> f64 {
    if schema == CUSTOM_BUCKETS_SCHEMA {
        return match usize::try_from(index) {
            Ok(index) => custom_bounds.get(index).copied().unwrap_or(f64::INFINITY),
            Err(_) => f64::NEG_INFINITY,
        };
    }
    exponential_bound(index, schema)
}

/// The upper bound of bucket `index` of an exponential schema; schemas out of range are taken for the nearest that is in range.
pub(super) fn exponential_bound(index: i32, schema: i32) -> f64 {
    let index = i64::from(index);
    let (fraction, exponent) = if schema < 0 {
        (0.5, (index << (-schema).min(16)) + 1)
    } else {
        let schema = schema.min(8);
        let position = (index & ((1 << schema) - 1)) << (8 - schema);
        let fraction = usize::try_from(position).ok().and_then(|at| FRACTIONS.get(at));
        (fraction.copied().unwrap_or(0.5), (index >> schema) + 1)
    };
    if fraction == 0.5 && exponent == 1025 { f64::MAX } else { scale(fraction, exponent) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(index: i32, schema: i32, expected: f64) {
        let bound = exponential_bound(index, schema);
        assert_eq!(bound.to_bits(), expected.to_bits(), "{index} of {schema}: {bound:?}");
    }

    #[test]
    fn bounds_of_powers_of_two_are_exact() {
        check(0, 0, 1.0);
        check(1, 0, 2.0);
        check(-1, 0, 0.5);
        check(8, 3, 2.0);
        check(-256, 8, 0.5);
        check(1, -1, 4.0);
        check(-1, -4, 1.0 / 65536.0);
        check(2, -2, 256.0);
        check(-1074, 0, f64::from_bits(1));
        check(-1075, 0, 0.0);
        check(i32::MIN, -4, 0.0);
        check(i32::MAX, -4, f64::INFINITY);
        check(i32::MAX, 8, f64::INFINITY);
    }

    #[test]
    fn the_last_finite_bucket_ends_at_the_largest_float() {
        check(1024, 0, f64::MAX);
        check(1025, 0, f64::INFINITY);
        check(64, -4, f64::MAX);
        check(65, -4, f64::INFINITY);
        check(1024 << 8, 8, f64::MAX);
        check((1024 << 8) + 1, 8, f64::INFINITY);
    }

    /// Bounds that a Prometheus showed in its answers.
    #[test]
    fn bounds_are_those_that_prometheus_shows() {
        // Of all, the bound that is furthest from what is known by heart: one below √2 rounded.
        check(1, 1, std::f64::consts::SQRT_2.next_down());
        check(-117, 3, 0.000_039_576_402_424_652_394);
        check(-116, 3, 0.000_043_158_372_875_155_485);
        check(-115, 3, 0.000_047_064_539_349_607_57);
        check(-112, 3, 0.000_061_035_156_25);
        check(-63, 3, 0.004_259_795_830_723_663);
        check(-61, 3, 0.005_065_779_510_355_506);
        check(-60, 3, 0.005_524_271_728_019_902);
    }

    #[test]
    fn custom_bounds_are_listed() {
        let bounds = [-1.0, 5.0];
        let all: Vec<f64> =
            (-1..4).map(|i| bucket_bound(i, CUSTOM_BUCKETS_SCHEMA, &bounds)).collect();
        let infinity = f64::INFINITY;
        assert_eq!(all, [-infinity, -1.0, 5.0, infinity, infinity]);
    }
}
