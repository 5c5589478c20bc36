//! Compares answers with expectations, as tolerantly as Prometheus's runner does and no more.

use anyhow::{Result, bail, ensure};
use model::{FloatHistogram, Timestamp, is_stale};
use promql::value::{MatrixSeries, Value, VectorSample};

use super::script::{Annotations, Eval, Expected, Grid, When};
use super::series::{Point, SeriesLine};

/// Relative difference up to which values count as equal.
const EPSILON: f64 = 1e-6;

/// Whether the value is the expected one.
///
/// # Errors
/// Say where it is not.
pub fn check_value(eval: &Eval, value: &Value) -> Result<()> {
    match (&eval.expected, value) {
        (Expected::Scalar(expected), Value::Scalar(actual)) => {
            let equal = almost_equal(*expected, actual.v);
            ensure!(equal, "expected scalar {expected}, got {}", actual.v);
            Ok(())
        }
        (Expected::String(expected), Value::String(_, actual)) => {
            ensure!(expected == actual, "expected string {expected:?}, got {actual:?}");
            Ok(())
        }
        (Expected::Series(expected), Value::Vector(actual)) => {
            check_vector(expected, actual, eval.ordered)
        }
        (Expected::Series(expected), Value::Matrix(actual)) => {
            ensure!(!eval.ordered, "expected an ordered result, got a range vector");
            let When::Range(grid) = eval.when else {
                bail!("expected an instant vector, got a range vector")
            };
            check_matrix(expected, actual, grid)
        }
        (Expected::RangeVector(grid, expected), Value::Matrix(actual)) => {
            check_matrix(expected, actual, *grid)
        }
        (Expected::Scalar(_), _) => bail!("expected a scalar, got {value:?}"),
        (Expected::String(_), _) => bail!("expected a string, got {value:?}"),
        (Expected::Series(_) | Expected::RangeVector(..), _) => {
            bail!("expected series, got {value:?}")
        }
    }
}

fn check_vector(expected: &[SeriesLine], actual: &[VectorSample], ordered: bool) -> Result<()> {
    for (position, VectorSample { labels, sample, histogram }) in actual.iter().enumerate() {
        let actual = shown(sample.v, histogram.as_deref());
        let Some(wanted) = expected.iter().position(|line| line.labels == *labels) else {
            bail!("unexpected series {labels} with value {actual}")
        };
        let in_order = !ordered || wanted == position;
        ensure!(in_order, "expected {labels} at position {wanted}, it is at {position}");
        let point = expected[wanted].points.first().unwrap_or(&Point::Omitted);
        let equal = accepts(point, sample.v, histogram.as_deref());
        ensure!(equal, "expected {} for {labels}, got {actual}", expectation(point));
    }
    check_all_found(expected, |line| actual.iter().any(|sample| sample.labels == line.labels))
}

fn check_matrix(expected: &[SeriesLine], actual: &[MatrixSeries], grid: Grid) -> Result<()> {
    check_sorted(actual)?;
    for MatrixSeries { labels, samples } in actual {
        let Some(line) = expected.iter().find(|line| line.labels == *labels) else {
            bail!("unexpected series {labels} with {:?}", samples.floats())
        };
        let wanted = on_grid(line, grid)?;
        let shown = || {
            let sample = |row: usize| {
                let v = shown(samples.floats()[row], samples.histogram(row).map(|h| &**h));
                format!("{v} at {}", samples.times()[row])
            };
            (0..samples.len()).map(sample).collect::<Vec<_>>().join(", ")
        };
        ensure!(
            wanted.len() == samples.len(),
            "expected {} points for {labels}, got {}",
            wanted.len(),
            shown()
        );
        for (row, ((t, point), sample)) in wanted.into_iter().zip(samples.iter()).enumerate() {
            let histogram = samples.histogram(row).map(|histogram| &**histogram);
            let equal = t == sample.t && accepts(point, sample.v, histogram);
            let expected = expectation(point);
            ensure!(equal, "expected {expected} at {t} for {labels}, got {}", shown());
        }
    }
    check_all_found(expected, |line| actual.iter().any(|series| series.labels == line.labels))
}

/// Whether a sample is as expected.
fn accepts(point: &Point, v: f64, histogram: Option<&FloatHistogram>) -> bool {
    match (point, histogram) {
        (Point::Float(expected), None) => almost_equal(*expected, v),
        (Point::Histogram(expected), Some(histogram)) => expected.accepts(histogram),
        _ => false,
    }
}

fn expectation(point: &Point) -> String {
    match point {
        Point::Omitted => String::from("no value"),
        Point::Float(v) => v.to_string(),
        Point::Histogram(point) => shown(0.0, Some(&point.histogram)),
    }
}

fn shown(v: f64, histogram: Option<&FloatHistogram>) -> String {
    match histogram {
        Some(histogram) => {
            format!("{histogram} (schema {}, {:?})", histogram.schema, histogram.counter_reset)
        }
        None => v.to_string(),
    }
}

/// The times and values of the points that are not omitted.
fn on_grid(line: &SeriesLine, grid: Grid) -> Result<Vec<(Timestamp, &Point)>> {
    let step = Timestamp::try_from(grid.step.as_millis())?;
    let mut t = grid.start;
    let mut wanted = Vec::new();
    for point in &line.points {
        ensure!(t <= grid.end, "more points are expected of {} than there are steps", line.labels);
        if *point != Point::Omitted {
            wanted.push((t, point));
        }
        t += step;
    }
    Ok(wanted)
}

fn check_all_found(expected: &[SeriesLine], found: impl Fn(&SeriesLine) -> bool) -> Result<()> {
    match expected.iter().find(|line| !found(line)) {
        Some(line) => bail!("expected {} with {:?}, it is missing", line.labels, line.points),
        None => Ok(()),
    }
}

/// Range vectors are sorted by labels.
pub(super) fn check_sorted(series: &[MatrixSeries]) -> Result<()> {
    for pair in series.windows(2) {
        let sorted = pair[0].labels <= pair[1].labels;
        ensure!(sorted, "not sorted by labels: {} before {}", pair[0].labels, pair[1].labels);
    }
    Ok(())
}

/// Whether the annotations of one kind are as expected.
pub(super) fn check_annotations(
    kind: &str,
    expected: &Annotations,
    actual: &[String],
) -> Result<()> {
    match expected {
        Annotations::Unchecked => {}
        Annotations::Absent => ensure!(actual.is_empty(), "unexpected {kind}: {actual:?}"),
        Annotations::Like(patterns) => {
            ensure!(!actual.is_empty(), "expected {kind}, got none");
            for pattern in patterns {
                let found = actual.iter().any(|text| pattern.accepts(text));
                ensure!(found, "expected {kind} like {pattern:?}, got {actual:?}");
            }
            for text in actual {
                let wanted = patterns.iter().any(|pattern| pattern.accepts(text));
                ensure!(wanted, "unexpected {kind}: {text:?}");
            }
        }
    }
    Ok(())
}

/// Prometheus's `almost.Equal`: differing by less than [`EPSILON`] of the sum of magnitudes. NaN equals NaN,
/// the staleness marker only itself.
pub(super) fn almost_equal(a: f64, b: f64) -> bool {
    if is_stale(a) || is_stale(b) {
        return is_stale(a) && is_stale(b);
    }
    if (a.is_nan() && b.is_nan()) || a == b {
        return true;
    }
    let sum = a.abs() + b.abs();
    let difference = (a - b).abs();
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < EPSILON * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < EPSILON
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use model::{Columns, Sample, stale_marker};

    use super::*;

    #[test]
    fn almost_equal_values() {
        let stale = stale_marker();
        for (a, b) in [
            (1.0, 1.000_001_9),
            (f64::NAN, f64::NAN),
            (stale, stale),
            (f64::INFINITY, f64::INFINITY),
            (0.0, -0.0),
            (f64::MAX, f64::MAX * 0.999_999_9),
        ] {
            assert!(almost_equal(a, b) && almost_equal(b, a), "{a} {b}");
        }
        for (a, b) in [
            (1.0, 1.000_002_1),
            (1.0, f64::NAN),
            (stale, f64::NAN),
            (0.0, 1e-300),
            (f64::INFINITY, f64::NEG_INFINITY),
            (1.0, -1.0),
        ] {
            assert!(!almost_equal(a, b) && !almost_equal(b, a), "{a} {b}");
        }
    }

    fn lines(text: &str) -> Vec<SeriesLine> {
        text.lines().map(|line| SeriesLine::parse(line).unwrap()).collect()
    }

    fn vector(text: &str) -> Vec<VectorSample> {
        let sample = |line: SeriesLine| match line.points.as_slice() {
            [Point::Float(v)] => VectorSample {
                labels: line.labels,
                sample: Sample { t: 0, v: *v },
                histogram: None,
            },
            other => panic!("{other:?}"),
        };
        lines(text).into_iter().map(sample).collect()
    }

    #[test]
    fn vectors() {
        let expected = lines("a 1\nb 2");
        assert!(check_vector(&expected, &vector("b 2\na 1"), false).is_ok());
        assert!(check_vector(&expected, &vector("b 2\na 1"), true).is_err());
        assert!(check_vector(&expected, &vector("a 1\nb 2"), true).is_ok());
        for wrong in ["a 1", "a 1\nb 3", "a 1\nb 2\nc 3", ""] {
            assert!(check_vector(&expected, &vector(wrong), false).is_err(), "{wrong}");
        }
    }

    #[test]
    fn matrices() {
        let grid = Grid { start: 0, end: 20, step: Duration::from_millis(10) };
        let series = |name: &str, samples: &[(i64, f64)]| MatrixSeries {
            labels: lines(name)[0].labels.clone(),
            samples: samples.iter().map(|&(t, v)| Sample { t, v }).collect::<Columns>(),
        };
        let expected = lines("a 1 _ 3\nb _ 2");
        let right = [series("a", &[(0, 1.0), (20, 3.0)]), series("b", &[(10, 2.0)])];
        assert!(check_matrix(&expected, &right, grid).is_ok());
        let reversed = [right[1].clone(), right[0].clone()];
        assert!(check_matrix(&expected, &reversed, grid).is_err());
        assert!(check_matrix(&expected, &right[..1], grid).is_err());
        let wrong = [series("a", &[(0, 1.0), (10, 3.0)]), series("b", &[(10, 2.0)])];
        assert!(check_matrix(&expected, &wrong, grid).is_err());
        assert!(check_matrix(&lines("a 1 1 1 1"), &right[..1], grid).is_err());
    }
}
