//! Lines and smoothed lines through the samples in a window.

use model::{Columns, Timestamp};

use super::block::ABSENT;
use super::failure::{ExecutionError, QueryFailure};
use super::kahan::KahanSum;
use super::window::{Frame, WindowSizes};

/// The least-squares line through samples.
struct Line {
    /// Change per second.
    slope: f64,
    /// Value at the time that was asked for.
    intercept: f64,
}

#[expect(clippy::cast_precision_loss, reason = "distances are shorter than 2^53 ms")]
fn fit(times: &[Timestamp], values: &[f64], intercept_at: Timestamp) -> Line {
    let (mut sum_x, mut sum_y) = (KahanSum::default(), KahanSum::default());
    let (mut sum_xy, mut sum_xx) = (KahanSum::default(), KahanSum::default());
    let (mut n, first) = (0.0, values[0]);
    // A NaN differs from itself, but the first value is not compared.
    let constant = values[1..].iter().all(|v| *v == first);
    for (&t, &y) in times.iter().zip(values) {
        n += 1.0;
        let x = (t - intercept_at) as f64 / 1e3;
        sum_x = sum_x.plus(x);
        sum_y = sum_y.plus(y);
        sum_xy = sum_xy.plus(x * y);
        sum_xx = sum_xx.plus(x * x);
    }
    if constant {
        return if first.is_infinite() {
            Line { slope: f64::NAN, intercept: f64::NAN }
        } else {
            Line { slope: 0.0, intercept: first }
        };
    }
    let (sum_x, sum_y) = (sum_x.total(), sum_y.total());
    let (sum_xy, sum_xx) = (sum_xy.total(), sum_xx.total());
    let covariance = sum_xy - sum_x * sum_y / n;
    let variance = sum_xx - sum_x * sum_x / n;
    let slope = covariance / variance;
    Line { slope, intercept: sum_y / n - slope * sum_x / n }
}

/// Computes `deriv` for each window into `out`.
pub(super) fn derivative(columns: &Columns, frame: Frame<'_>, out: &mut [f64]) -> WindowSizes {
    let (times, values) = (columns.times(), columns.floats());
    frame.fill(times, out, |window| {
        if window.rows.len() < 2 {
            return ABSENT;
        }
        // Times are counted from the first sample, so that small numbers are multiplied.
        let origin = times[window.rows.start];
        fit(&times[window.rows.clone()], &values[window.rows], origin).slope
    })
}

/// Computes `predict_linear` for each window into `out`; `ahead` gives the seconds for a step.
pub(super) fn prediction(
    columns: &Columns,
    frame: Frame<'_>,
    out: &mut [f64],
    ahead: impl Fn(usize) -> f64,
) -> WindowSizes {
    let (times, values) = (columns.times(), columns.floats());
    frame.fill(times, out, |window| {
        if window.rows.len() < 2 {
            return ABSENT;
        }
        // From the step's own time on, wherever the window looks.
        let now = frame.steps.at(window.step);
        let line = fit(&times[window.rows.clone()], &values[window.rows], now);
        line.slope * ahead(window.step) + line.intercept
    })
}

/// Computes `double_exponential_smoothing` for each window into `out`; `factors` gives the smoothing and the
/// trend factor for a step.
///
/// # Errors
/// [`ExecutionError::SmoothingFactor`] or [`ExecutionError::TrendFactor`] when a window has samples and
/// its factors are not between 0 and 1.
pub(super) fn smoothing(
    columns: &Columns,
    frame: Frame<'_>,
    out: &mut [f64],
    factors: impl Fn(usize) -> (f64, f64),
) -> Result<WindowSizes, QueryFailure> {
    let values = columns.floats();
    let mut failure = None;
    let sizes = frame.fill(columns.times(), out, |window| {
        let (smoothing, trend) = factors(window.step);
        if smoothing <= 0.0 || smoothing >= 1.0 {
            failure.get_or_insert(ExecutionError::SmoothingFactor(smoothing));
        }
        if trend <= 0.0 || trend >= 1.0 {
            failure.get_or_insert(ExecutionError::TrendFactor(trend));
        }
        smooth(&values[window.rows], smoothing, trend)
    });
    match failure {
        Some(failure) => Err(failure.into()),
        None => Ok(sizes),
    }
}

fn smooth(values: &[f64], smoothing: f64, trend: f64) -> f64 {
    let [first, second, ..] = *values else { return ABSENT };
    let (mut before, mut now) = (0.0, first);
    let mut slope = second - first;
    for (i, &value) in values[1..].iter().enumerate() {
        let raw = smoothing * value;
        if i > 0 {
            let x = trend * (now - before);
            let y = (1.0 - trend) * slope;
            slope = x + y;
        }
        let carried = (1.0 - smoothing) * (now + slope);
        (before, now) = (now, raw + carried);
    }
    now
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::block::is_absent;
    use crate::eval::steps::Steps;
    use crate::eval::window::tests::{columns, frame};

    const AT_100: Steps = Steps::single(100);

    fn single(f: impl FnOnce(&mut [f64]) -> WindowSizes) -> f64 {
        let mut out = [0.0];
        f(&mut out);
        out[0]
    }

    #[test]
    fn slopes() {
        // Each 10 ms up by 2.
        let line = columns(&[1.0, 3.0, 5.0, 7.0]);
        let got = single(|out| derivative(&line, frame(100, AT_100), out));
        assert!((got - 200.0).abs() < 1e-9, "{got}");
        let flat = columns(&[4.0, 4.0]);
        assert_eq!(single(|out| derivative(&flat, frame(100, AT_100), out)), 0.0);
        let infinite = columns(&[f64::INFINITY, f64::INFINITY]);
        assert!(single(|out| derivative(&infinite, frame(100, AT_100), out)).is_nan());
        let lonely = columns(&[4.0]);
        assert!(is_absent(single(|out| derivative(&lonely, frame(100, AT_100), out))));
    }

    #[test]
    fn predictions_count_from_the_step() {
        let line = columns(&[1.0, 3.0, 5.0, 7.0]);
        // 7 at 40 ms, so 19 at 100 ms, and 200 more a second later.
        let got = single(|out| prediction(&line, frame(100, AT_100), out, |_| 1.0));
        assert!((got - 219.0).abs() < 1e-9, "{got}");
    }

    #[test]
    fn smoothed_values() {
        // s = 0.5·3 + 0.5·(1 + 2) = 3; slope = 0.5·(3 − 1) + 0.5·2 = 2; s = 0.5·9 + 0.5·(3 + 2) = 7.
        assert_eq!(smooth(&[1.0, 3.0, 9.0], 0.5, 0.5), 7.0);
        assert!(is_absent(smooth(&[1.0], 0.5, 0.5)));
    }

    #[test]
    fn factors_outside_the_unit_interval_fail() {
        let line = columns(&[1.0, 3.0]);
        for (factors, expected) in [
            ((1.0, 0.5), "invalid smoothing factor. Expected: 0 < sf < 1, got: 1.000000"),
            ((0.5, -2.0), "invalid trend factor. Expected: 0 < tf < 1, got: -2.000000"),
        ] {
            let got = smoothing(&line, frame(100, AT_100), &mut [0.0], |_| factors);
            assert_eq!(got.unwrap_err().to_string(), expected);
        }
    }
}
