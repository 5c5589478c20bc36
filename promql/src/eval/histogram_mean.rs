//! A running sum or mean of histograms.

use model::{Combined, FloatHistogram, HistogramSum, IncompatibleSchemas};

/// A running mean of histograms, or their sum: sum over count until that would overflow, incremental from then on.
#[derive(Clone, Debug)]
pub(super) struct HistogramMean {
    /// The sum, or the mean itself once `incremental`.
    state: HistogramSum,
    count: f64,
    incremental: bool,
    is_mean: bool,
}

impl HistogramMean {
    /// The mean (`is_mean`) or the sum of one histogram.
    pub(super) const fn new(first: FloatHistogram, is_mean: bool) -> Self {
        Self { state: HistogramSum::new(first), count: 1.0, incremental: false, is_mean }
    }

    /// Takes `histogram` into account.
    ///
    /// # Errors
    /// [`IncompatibleSchemas`]
    pub(super) fn add(
        &mut self,
        histogram: &FloatHistogram,
    ) -> Result<Combined, IncompatibleSchemas> {
        if !self.is_mean {
            return self.state.add(histogram);
        }
        self.count += 1.0;
        let mut known = Combined::default();
        if !self.incremental {
            let mut sum = self.state.clone();
            let combined = sum.add(histogram)?;
            if !sum.rounded().has_overflow() {
                self.state = sum;
                return Ok(combined);
            }
            known = combined;
            self.incremental = true;
            self.state.divide(self.count - 1.0);
        }
        self.state.multiply((self.count - 1.0) / self.count);
        let mut part = histogram.clone();
        part.divide(self.count);
        let combined = self.state.add(&part)?;
        Ok(Combined {
            reset_collision: combined.reset_collision || known.reset_collision,
            bounds_reconciled: combined.bounds_reconciled || known.bounds_reconciled,
        })
    }

    /// The mean or the sum.
    pub(super) fn finish(mut self) -> FloatHistogram {
        if self.is_mean && !self.incremental {
            self.state.divide(self.count);
        }
        self.state.total()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sum: f64) -> FloatHistogram {
        FloatHistogram { count: 1.0, sum, ..FloatHistogram::default() }
    }

    fn check(sums: &[f64], is_mean: bool, expected: f64) {
        let mut mean = HistogramMean::new(of(sums[0]), is_mean);
        sums[1..].iter().for_each(|sum| assert!(mean.add(&of(*sum)).is_ok()));
        assert_eq!(mean.finish().sum, expected);
    }

    #[test]
    fn means_survive_an_overflow() {
        check(&[1.0, 2.0, 6.0], true, 3.0);
        check(&[1.0, 2.0, 6.0], false, 9.0);
        check(&[f64::MAX, f64::MAX], true, f64::MAX);
        check(&[f64::MAX, f64::MAX], false, f64::INFINITY);
        check(&[5.0, 1e100, 1.0, -1e100], true, 1.5);
    }
}
