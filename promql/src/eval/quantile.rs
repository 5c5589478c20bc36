//! Quantiles of a list of values.

use std::cmp::Ordering;

/// The quantile `q` of `values`, which are sorted by this, NaN first; between two values it is interpolated.
///
/// NaN without values or for a `q` that is NaN; below 0 it is −∞, above 1 it is +∞.
pub(super) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if (0.0..=1.0).contains(&q) {
        values.sort_by(nan_first);
    }
    quantile_of_sorted(q, values)
}

/// [`quantile`] of values that are sorted.
pub(super) fn quantile_of_sorted(q: f64, values: &[f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    #[expect(clippy::cast_precision_loss, reason = "there are fewer than 2^53 values")]
    let last = values.len() as f64 - 1.0;
    let rank = q * last;
    let below = rank.floor().max(0.0);
    let above = (below + 1.0).min(last);
    let weight = rank - rank.floor();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "ranks lie between 0 and the last index"
    )]
    let (below, above) = (values[below as usize], values[above as usize]);
    below * (1.0 - weight) + above * weight
}

/// Ascending order with NaN before all others.
pub(super) fn nan_first(a: &f64, b: &f64) -> Ordering {
    a.partial_cmp(b).unwrap_or_else(|| b.is_nan().cmp(&a.is_nan()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(q: f64, values: &[f64], expected: f64) {
        let got = quantile(q, &mut values.to_vec());
        assert!(got == expected || got.is_nan() && expected.is_nan(), "{q} of {values:?}: {got}");
    }

    #[test]
    fn ranks_are_interpolated() {
        check(0.5, &[3.0, 1.0, 2.0], 2.0);
        check(0.5, &[4.0, 1.0, 2.0, 3.0], 2.5);
        check(0.0, &[4.0, 1.0], 1.0);
        check(1.0, &[4.0, 1.0], 4.0);
        check(0.75, &[0.0, 10.0], 7.5);
        check(0.3, &[7.0], 7.0);
    }

    #[test]
    fn edges() {
        check(0.5, &[], f64::NAN);
        check(f64::NAN, &[1.0], f64::NAN);
        check(-0.1, &[1.0], f64::NEG_INFINITY);
        check(1.1, &[1.0], f64::INFINITY);
        check(0.0, &[1.0, f64::NAN], f64::NAN);
        check(1.0, &[1.0, f64::NAN], 1.0);
        check(1.0, &[1.0, f64::INFINITY], f64::NAN);
    }
}
