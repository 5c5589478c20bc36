//! Compensated addition, in the exact order of operations of Prometheus.

/// Adds `increment` to the sum that is `sum + lost`, with Neumaier's compensation of the bits that rounding loses.
#[inline]
#[must_use]
pub(super) fn add(increment: f64, sum: f64, lost: f64) -> (f64, f64) {
    let total = sum + increment;
    let lost = if total.is_infinite() {
        0.0
    } else if sum.abs() >= increment.abs() {
        lost + ((sum - total) + increment)
    } else {
        lost + ((increment - total) + sum)
    };
    (total, lost)
}

/// The same in place.
#[inline]
pub(super) fn add_to(sum: &mut f64, lost: &mut f64, increment: f64) {
    (*sum, *lost) = add(increment, *sum, *lost);
}
