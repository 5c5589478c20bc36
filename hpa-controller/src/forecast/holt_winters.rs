//! Seasonal Holt-Winters (triple exponential smoothing) in its additive form, with a damped trend.
//!
//! The three smoothing factors are those of a small grid with the least squared error one step ahead. The trend is damped at each
//! step: what rises now does not rise for ever.

/// What remains of the trend after a step.
const DAMPING: f64 = 0.98;
/// Gaps in history that are put up with: one step in so many.
const GAPS: usize = 5;

const ALPHAS: [f64; 5] = [0.05, 0.15, 0.3, 0.5, 0.8];
const BETAS: [f64; 3] = [0.0, 0.02, 0.1];
const GAMMAS: [f64; 4] = [0.05, 0.15, 0.3, 0.6];

/// Why nothing was fitted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeasonalError {
    /// Less than two seasons.
    #[error("{steps} steps of history, two seasons are {needed}")]
    TooShort {
        /// Steps that there are.
        steps: usize,
        /// Steps that are needed.
        needed: usize,
    },
    /// Too many steps have no value.
    #[error("{missing} of {steps} steps of history have no value")]
    Gaps {
        /// Steps without a value.
        missing: usize,
        /// All steps.
        steps: usize,
    },
    /// Values are so large that computing with them leaves the numbers that there are.
    #[error("the values of history are too large to be fitted to")]
    TooLarge,
}

/// The smoothing factors and where smoothing stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Seasonal {
    alpha: f64,
    beta: f64,
    gamma: f64,
    level: f64,
    trend: f64,
    /// By place in the season.
    season: Vec<f64>,
    /// The place of the next step.
    next: usize,
}

/// A model after all of history.
#[derive(Clone, Debug, PartialEq)]
pub struct Fitted {
    model: Seasonal,
    /// Root mean square of the errors one step ahead, in the unit of the values.
    pub typical_error: f64,
}

impl Fitted {
    /// The value so many steps after the last one, from 1.
    #[must_use]
    pub fn ahead(&self, steps: usize) -> f64 {
        self.model.ahead(steps)
    }

    fn is_finite(&self) -> bool {
        let Seasonal { level, trend, season, .. } = &self.model;
        let mut numbers = season.iter().chain([level, trend, &self.typical_error]);
        numbers.all(|number| number.is_finite())
    }
}

impl Seasonal {
    /// Fits to `values`, oldest first, of which `length` make a season (at least 2). A step without a value moves time on and nothing else.
    ///
    /// # Errors
    /// There are less than two seasons, too many gaps, or values that are too large.
    pub fn fit(values: &[Option<f64>], length: usize) -> Result<Fitted, SeasonalError> {
        let steps = values.len();
        if length < 2 || steps < 2 * length {
            return Err(SeasonalError::TooShort { steps, needed: 2 * length });
        }
        let missing = values.iter().filter(|value| value.is_none()).count();
        if missing * GAPS > steps {
            return Err(SeasonalError::Gaps { missing, steps });
        }
        let start = Self::start(values, length);
        let mut best: Option<Fitted> = None;
        let mut least = f64::INFINITY;
        for alpha in ALPHAS {
            for beta in BETAS {
                for gamma in GAMMAS {
                    let model = Self { alpha, beta, gamma, ..start.clone() };
                    if let Some((fitted, squares)) = model.smooth(values, least)
                        && fitted.is_finite()
                    {
                        (best, least) = (Some(fitted), squares);
                    }
                }
            }
        }
        best.ok_or(SeasonalError::TooLarge)
    }

    /// Level and trend from the means of the first two seasons, the season from what both deviate from theirs.
    fn start(values: &[Option<f64>], length: usize) -> Self {
        let [first, second] = [&values[..length], &values[length..2 * length]];
        let [one, two] = [mean(first), mean(second)];
        let level = one.or(two).unwrap_or_default();
        #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
        let trend = one.zip(two).map_or(0.0, |(one, two)| (two - one) / length as f64);
        let deviation = |value: Option<f64>, mean: Option<f64>| Some(value? - mean?);
        let places =
            first.iter().zip(second).map(|(a, b)| match (deviation(*a, one), deviation(*b, two)) {
                (Some(a), Some(b)) => f64::midpoint(a, b),
                (a, b) => a.or(b).unwrap_or_default(),
            });
        let season = places.collect();
        Self { alpha: 0.0, beta: 0.0, gamma: 0.0, level, trend, season, next: 0 }
    }

    /// The model after `values` and the sum of its squared errors; `None` as soon as that is not below `squares_max`, which is why most
    /// factors cost little.
    fn smooth(mut self, values: &[Option<f64>], squares_max: f64) -> Option<(Fitted, f64)> {
        let (mut squares, mut count) = (0.0, 0.0);
        for value in values {
            self.trend *= DAMPING;
            let level = self.level + self.trend;
            let place = self.next;
            // What [`Self::ahead`] says of the next step.
            let expected = level + self.season[place];
            self.next = if place + 1 == self.season.len() { 0 } else { place + 1 };
            self.level = level;
            let Some(value) = value else { continue };
            let error = value - expected;
            squares += error * error;
            if squares >= squares_max {
                return None;
            }
            count += 1.0;
            // The forms that correct by the error: the same as smoothing, with less to compute.
            self.level += self.alpha * error;
            self.trend += self.alpha * self.beta * error;
            self.season[place] += self.gamma * (1.0 - self.alpha) * error;
        }
        let typical_error = if count > 0.0 { (squares / count).sqrt() } else { f64::INFINITY };
        Some((Fitted { model: self, typical_error }, squares))
    }

    fn ahead(&self, steps: usize) -> f64 {
        // DAMPING + DAMPING² + …
        let damping = i32::try_from(steps).unwrap_or(i32::MAX);
        let damped = DAMPING * (1.0 - DAMPING.powi(damping)) / (1.0 - DAMPING);
        let place = (self.next + steps.saturating_sub(1)) % self.season.len();
        self.level + self.trend * damped + self.season[place]
    }
}

fn mean(values: &[Option<f64>]) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0.0);
    for value in values.iter().flatten() {
        sum += value;
        count += 1.0;
    }
    (count > 0.0).then(|| sum / count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(value: f64, expected: f64, within: f64) {
        assert!((value - expected).abs() <= within, "{value} instead of {expected}");
    }

    #[test]
    fn what_repeats_exactly_goes_on_exactly() {
        let pattern = [5.0, 1.0, 9.0, 3.0];
        let values: Vec<_> = pattern.iter().cycle().take(20).map(|value| Some(*value)).collect();
        let fitted = Seasonal::fit(&values, 4).unwrap();
        close(fitted.typical_error, 0.0, 1e-9);
        for step in 1..=8 {
            close(fitted.ahead(step), pattern[(step - 1) % 4], 1e-9);
        }
    }

    #[test]
    fn a_gap_is_bridged_by_what_was_expected() {
        let pattern = [5.0, 1.0, 9.0, 3.0];
        let mut values: Vec<_> = pattern.iter().cycle().take(20).map(|v| Some(*v)).collect();
        (values[10], values[13], values[19]) = (None, None, None);
        let fitted = Seasonal::fit(&values, 4).unwrap();
        for step in 1..=4 {
            close(fitted.ahead(step), pattern[step - 1], 1e-9);
        }
    }

    #[test]
    fn a_new_level_is_followed() {
        let pattern = [5.0, 1.0, 9.0, 3.0];
        let level = |n: usize| if n < 40 { 0.0 } else { 100.0 };
        let values: Vec<_> = (0..80).map(|n| Some(pattern[n % 4] + level(n))).collect();
        let fitted = Seasonal::fit(&values, 4).unwrap();
        for step in 1..=4 {
            close(fitted.ahead(step), pattern[step - 1] + 100.0, 3.0);
        }
    }

    #[test]
    fn growth_fades_out() {
        let values: Vec<_> = (0..48_u32).map(|n| Some(f64::from(n))).collect();
        let fitted = Seasonal::fit(&values, 4).unwrap();
        close(fitted.ahead(1), 48.0, 3.0);
        // A trend of one a step adds less than 1 / (1 - DAMPING) in all.
        assert!(fitted.ahead(100_000) < 48.0 + 60.0);
    }

    #[test]
    fn numbers_that_grow_out_of_bounds_are_refused() {
        for values in
            [[Some(f64::MAX); 8], [Some(1e200), Some(-1e200)].repeat(4).try_into().unwrap()]
        {
            let fitted = Seasonal::fit(&values, 4);
            let is_finite = |fitted: &Fitted| fitted.is_finite();
            assert!(fitted.as_ref().map_or_else(|e| *e == SeasonalError::TooLarge, is_finite));
        }
        assert_eq!(Seasonal::fit(&[Some(f64::MAX); 8], 4), Err(SeasonalError::TooLarge));
    }

    #[test]
    fn too_little_is_refused() {
        let short = SeasonalError::TooShort { steps: 7, needed: 8 };
        assert_eq!(Seasonal::fit(&[Some(1.0); 7], 4), Err(short));
        let mut values = [Some(1.0); 10];
        (values[1], values[3], values[5]) = (None, None, None);
        assert_eq!(Seasonal::fit(&values, 4), Err(SeasonalError::Gaps { missing: 3, steps: 10 }));
    }
}
