//! Compensated summation, in the exact order of operations of Prometheus.
//!
//! Sums over series and over time depend on the order of additions and on each rounding, so these few
//! lines decide whether answers are bit-equal.

/// A running sum with Neumaier's compensation of the bits that rounding lost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct KahanSum {
    /// The sum so far, rounded.
    pub(super) sum: f64,
    /// What rounding lost.
    pub(super) compensation: f64,
}

impl KahanSum {
    /// A sum that so far is `first`.
    pub(super) const fn new(first: f64) -> Self {
        Self { sum: first, compensation: 0.0 }
    }

    /// Adds `increment`.
    #[inline]
    #[must_use]
    pub(super) fn plus(self, increment: f64) -> Self {
        let sum = self.sum + increment;
        let compensation = if sum.is_infinite() {
            0.0
        } else if self.sum.abs() >= increment.abs() {
            self.compensation + ((self.sum - sum) + increment)
        } else {
            self.compensation + ((increment - sum) + self.sum)
        };
        Self { sum, compensation }
    }

    /// The sum with what rounding lost.
    #[inline]
    pub(super) fn total(self) -> f64 {
        self.sum + self.compensation
    }
}

/// A running mean: sum over count, until the sum would overflow; incremental from then on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct KahanMean {
    /// The sum, or the mean itself once `incremental`.
    state: KahanSum,
    count: f64,
    incremental: bool,
}

impl KahanMean {
    /// The mean of one value.
    pub(super) const fn new(first: f64) -> Self {
        Self { state: KahanSum::new(first), count: 1.0, incremental: false }
    }

    /// The rounded sum so far, or mean.
    pub(super) const fn sum(&self) -> f64 {
        self.state.sum
    }

    /// Takes `value` into account.
    #[inline]
    pub(super) fn add(&mut self, value: f64) {
        self.count += 1.0;
        if !self.incremental {
            let sum = self.state.plus(value);
            if !sum.sum.is_infinite() {
                self.state = sum;
                return;
            }
            self.incremental = true;
            self.state.sum /= self.count - 1.0;
            self.state.compensation /= self.count - 1.0;
        }
        let kept = (self.count - 1.0) / self.count;
        let scaled =
            KahanSum { sum: kept * self.state.sum, compensation: kept * self.state.compensation };
        self.state = scaled.plus(value / self.count);
    }

    /// The mean.
    #[inline]
    pub(super) fn mean(self) -> f64 {
        if self.incremental {
            self.state.total()
        } else {
            self.state.sum / self.count + self.state.compensation / self.count
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(values: &[f64]) -> f64 {
        values.iter().fold(KahanSum::default(), |sum, &v| sum.plus(v)).total()
    }

    fn mean(values: &[f64]) -> f64 {
        let mut mean = KahanMean::new(values[0]);
        values[1..].iter().for_each(|&v| mean.add(v));
        mean.mean()
    }

    #[test]
    fn lost_bits_are_given_back() {
        assert_eq!(sum(&[1.0, 1e100, 1.0, -1e100]), 2.0);
        assert_eq!(sum(&[0.1; 10]), 1.0);
        assert_eq!(sum(&[]), 0.0);
    }

    #[test]
    fn infinities_and_nan_stay() {
        assert_eq!(sum(&[f64::INFINITY, 1.0]), f64::INFINITY);
        assert!(sum(&[f64::INFINITY, f64::NEG_INFINITY]).is_nan());
        assert!(sum(&[f64::NAN, 1.0]).is_nan());
    }

    #[test]
    fn a_mean_survives_an_overflowing_sum() {
        assert_eq!(mean(&[f64::MAX, f64::MAX]), f64::MAX);
        assert_eq!(mean(&[f64::MIN, f64::MIN]), f64::MIN);
        assert_eq!(mean(&[1.0, 2.0, 6.0]), 3.0);
        assert_eq!(mean(&[5.0, 1e100, 1.0, -1e100]), 1.5);
    }
}
