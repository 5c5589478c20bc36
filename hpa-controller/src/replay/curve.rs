//! Loads that are made up: a step, a ramp, a wave, or what a file says.

use std::f64::consts::TAU;

/// Most points of a file: a year at 15 s fits.
const POINTS_MAX: usize = 3_000_000;

/// How demand moves between `base` and `peak`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// From `base` to `peak` at once, and back after a period.
    Step,
    /// From `base` to `peak` within a period, and there it stays.
    Ramp,
    /// From `base` to `peak` and back again in every period.
    Sine,
}

/// Demand over time, in units of the metric (cores, bytes, requests a second).
#[derive(Clone, Debug, PartialEq)]
pub enum Curve {
    /// A shape with its parameters.
    Shaped {
        /// The shape.
        shape: Shape,
        /// Demand to begin with.
        base: f64,
        /// The highest demand.
        peak: f64,
        /// When it begins to move, in milliseconds from the start.
        begin_ms: i64,
        /// Length of the step, the ramp or one wave in milliseconds, > 0.
        period_ms: i64,
    },
    /// Points of milliseconds from the start and demand, in order of time; each holds until the next. Never empty.
    Points(Vec<(i64, f64)>),
}

/// Why a file is no curve.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct CurveError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

impl Curve {
    /// Demand at `offset_ms` from the start.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "milliseconds of centuries are exact in a double"
    )]
    pub fn at(&self, offset_ms: i64) -> f64 {
        match self {
            Self::Shaped { shape, base, peak, begin_ms, period_ms } => {
                let moved = offset_ms.saturating_sub(*begin_ms);
                if moved < 0 {
                    return *base;
                }
                let share = moved as f64 / *period_ms as f64;
                let height = match shape {
                    Shape::Step => f64::from(u8::from(share < 1.0)),
                    Shape::Ramp => share.min(1.0),
                    Shape::Sine => (1.0 - (share * TAU).cos()) / 2.0,
                };
                base + (peak - base) * height
            }
            Self::Points(points) => {
                let after = points.partition_point(|(at, _)| *at <= offset_ms);
                points.get(after.saturating_sub(1)).map_or(0.0, |(_, demand)| *demand)
            }
        }
    }

    /// Reads lines of `time_s,demand`: seconds from the start, ascending, and demand ≥ 0. A first line that is no number is a
    /// header; empty lines and those that begin with `#` are skipped.
    ///
    /// # Errors
    /// [`CurveError`]
    pub fn parse(text: &str) -> Result<Self, CurveError> {
        let mut points: Vec<(i64, f64)> = Vec::new();
        let mut first = true;
        for (line, content) in (1..).zip(text.lines()) {
            let content = content.trim();
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            let wrong = |reason: String| Err(CurveError { line, reason });
            let fields: Vec<&str> = content.split(',').map(str::trim).collect();
            let [time, demand] = fields[..] else {
                return wrong(format!("expected time_s,demand, found {} fields", fields.len()));
            };
            let header = std::mem::take(&mut first) && time.parse::<f64>().is_err();
            if header {
                continue;
            }
            let Some(at) = milliseconds(time) else {
                return wrong(format!("{time:?} is not a number of seconds ≥ 0"));
            };
            let demand = match demand.parse::<f64>() {
                Ok(demand) if demand >= 0.0 && demand.is_finite() => demand,
                _ => return wrong(format!("{demand:?} is not a demand ≥ 0")),
            };
            if points.last().is_some_and(|(before, _)| *before >= at) {
                return wrong(format!("{time} is not after the time before"));
            }
            if points.len() == POINTS_MAX {
                return wrong(format!("more than {POINTS_MAX} points"));
            }
            points.push((at, demand));
        }
        if points.is_empty() {
            return Err(CurveError { line: 1, reason: String::from("there is no point") });
        }
        Ok(Self::Points(points))
    }

    /// When the last point begins, in milliseconds from the start; `None` if it goes on for ever.
    #[must_use]
    pub fn end_ms(&self) -> Option<i64> {
        match self {
            Self::Shaped { .. } => None,
            Self::Points(points) => points.last().map(|(at, _)| *at),
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
fn milliseconds(seconds: &str) -> Option<i64> {
    let seconds: f64 = seconds.parse().ok()?;
    let ms = (seconds * 1000.0).round();
    (0.0..9e15).contains(&ms).then_some(ms as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shaped(shape: Shape) -> Curve {
        Curve::Shaped { shape, base: 1.0, peak: 5.0, begin_ms: 100, period_ms: 400 }
    }

    fn check(curve: &Curve, expected: &[(i64, f64)]) {
        for (at, demand) in expected {
            let got = curve.at(*at);
            assert!((got - demand).abs() < 1e-9, "{curve:?} at {at}: {got}, not {demand}");
        }
    }

    #[test]
    fn shapes_go_from_base_to_peak() {
        check(&shaped(Shape::Step), &[(0, 1.0), (99, 1.0), (100, 5.0), (499, 5.0), (500, 1.0)]);
        check(&shaped(Shape::Ramp), &[(0, 1.0), (100, 1.0), (200, 2.0), (500, 5.0), (9000, 5.0)]);
        check(
            &shaped(Shape::Sine),
            &[(0, 1.0), (100, 1.0), (200, 3.0), (300, 5.0), (400, 3.0), (500, 1.0), (700, 5.0)],
        );
    }

    #[test]
    fn points_hold_until_the_next() {
        let curve = Curve::parse("time_s,demand\n0,1\n\n# later\n10.5, 3\n").unwrap();
        assert_eq!(curve, Curve::Points(vec![(0, 1.0), (10_500, 3.0)]));
        check(&curve, &[(0, 1.0), (10_499, 1.0), (10_500, 3.0), (99_999, 3.0)]);
        assert_eq!(curve.end_ms(), Some(10_500));
        // Before the first point its demand holds.
        check(&Curve::parse("5,2").unwrap(), &[(0, 2.0)]);
    }

    #[test]
    fn what_is_no_curve_is_refused_by_line() {
        for (text, line, reason) in [
            ("", 1, "there is no point"),
            ("time_s,demand\n", 1, "there is no point"),
            ("1,2,3", 1, "expected time_s,demand, found 3 fields"),
            ("0,1\nx,2", 2, "\"x\" is not a number of seconds ≥ 0"),
            ("0,1\n-1,2", 2, "\"-1\" is not a number of seconds ≥ 0"),
            ("0,1\n1,-2", 2, "\"-2\" is not a demand ≥ 0"),
            ("0,1\n1,NaN", 2, "\"NaN\" is not a demand ≥ 0"),
            ("0,1\n0,2", 2, "0 is not after the time before"),
        ] {
            let error = CurveError { line, reason: String::from(reason) };
            assert_eq!(Curve::parse(text), Err(error), "{text:?}");
        }
    }
}
