//! Sums of several windows at once.
//!
//! A compensated sum is one long chain of dependent additions, and its order is fixed. Sums of different windows do not depend on each other,
//! though, so a processor that could do four additions at a time is given four windows.

use std::ops::Range;

use super::kahan::KahanSum;

/// Windows at a time.
pub(super) const LANES: usize = 4;

/// Adds the rows of `values` that each window contains to what that window starts from, each as if it were the only one.
pub(super) fn sums(
    values: &[f64],
    starts: [f64; LANES],
    windows: &[Range<usize>; LANES],
) -> [KahanSum; LANES] {
    let common = windows.iter().map(ExactSizeIterator::len).min().unwrap_or(0);
    let [a, b, c, d] = std::array::from_fn(|lane| &values[windows[lane].start..][..common]);
    let (mut sums, mut compensations) = (starts, [0.0_f64; LANES]);
    for (((a, b), c), d) in a.iter().zip(b).zip(c).zip(d) {
        let increments: [f64; LANES] = [*a, *b, *c, *d];
        for lane in 0..LANES {
            // What rounding lost is exact, whether it is found by looking which of the two is larger or, as here, by Knuth's way, which has no
            // condition. They differ only where something is not finite.
            let (before, increment) = (sums[lane], increments[lane]);
            let sum = before + increment;
            let added = sum - before;
            compensations[lane] += (before - (sum - added)) + (increment - added);
            sums[lane] = sum;
        }
    }
    std::array::from_fn(|lane| {
        let Range { start, end } = windows[lane];
        let so_far = KahanSum { sum: sums[lane], compensation: compensations[lane] };
        // A sum that was not finite on the way is not finite in the end.
        let (so_far, from) = if so_far.sum.is_finite() && so_far.compensation.is_finite() {
            (so_far, start + common)
        } else {
            (KahanSum::new(starts[lane]), start)
        };
        values[from..end].iter().fold(so_far, |sum, v| sum.plus(*v))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(values: &[f64]) {
        for start in 0..values.len() - 100 {
            let windows = [
                start..start + 20,
                start + 1..start + 9,
                start + 2..start + 90,
                start + 50..start + 50 + start % 30,
            ];
            let starts = [0.0, -0.0, 1.5, values[start]];
            let sums = sums(values, starts, &windows);
            for ((sum, from), window) in sums.iter().zip(starts).zip(windows) {
                let alone = values[window].iter().fold(KahanSum::new(from), |s, v| s.plus(*v));
                let bits = |v: f64| if v.is_nan() { u64::MAX } else { v.to_bits() };
                assert_eq!(bits(sum.sum), bits(alone.sum));
                assert_eq!(bits(sum.compensation), bits(alone.compensation));
            }
        }
    }

    #[test]
    fn each_sum_is_as_if_it_were_alone() {
        let values: Vec<f64> = (0..400_i32)
            .map(|i| match i % 97 {
                13 => f64::INFINITY,
                14 => f64::NEG_INFINITY,
                15 => f64::NAN,
                16 => f64::MAX,
                17 => -0.0,
                rest => f64::from(rest * rest - 500) * 10_f64.powi(i % 31 - 15),
            })
            .collect();
        check(&values);
        // Any bits; then exponents that are close to each other, so that much is lost; then sums that come to nothing.
        let mut state = 88_172_645_463_325_252_u64;
        let mut bits = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        check(&(0..2_000).map(|_| f64::from_bits(bits())).collect::<Vec<_>>());
        let near = |bits: u64| f64::from_bits(bits & !(0x7ff << 52) | (1_000 + bits % 60) << 52);
        check(&(0..2_000).map(|_| near(bits())).collect::<Vec<_>>());
        check(&(0..2_000).map(|i| if i % 2 == 0 { 0.1 } else { -0.1 }).collect::<Vec<_>>());
    }
}
