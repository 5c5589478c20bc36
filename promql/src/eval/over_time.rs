//! Statistics of the samples in a window.

use std::collections::VecDeque;
use std::ops::Range;

use model::{Columns, Timestamp};

use super::block::ABSENT;
use super::kahan::{KahanMean, KahanSum};
use super::lanes::{self, LANES};
use super::plan::WindowFunction;
use super::quantile::quantile;
use super::seconds;
use super::window::{Frame, WindowSizes};

/// Computes `function`, one without parameters, for each window into `out`.
pub(super) fn apply(
    function: WindowFunction,
    columns: &Columns,
    frame: Frame<'_>,
    out: &mut [f64],
) -> WindowSizes {
    let (times, values) = (columns.times(), columns.floats());
    match function {
        WindowFunction::Sum => in_lanes(columns, frame, out, sums, sum),
        WindowFunction::Avg => in_lanes(columns, frame, out, means, mean),
        WindowFunction::Min => extremes(columns, frame, out, Extreme::MIN, |at| values[at]),
        WindowFunction::Max => extremes(columns, frame, out, Extreme::MAX, |at| values[at]),
        WindowFunction::TimeOfMin => {
            extremes(columns, frame, out, Extreme::LATEST_MIN, |at| seconds(times[at]))
        }
        WindowFunction::TimeOfMax => {
            extremes(columns, frame, out, Extreme::LATEST_MAX, |at| seconds(times[at]))
        }
        #[expect(clippy::cast_precision_loss, reason = "windows are smaller than 2^53")]
        WindowFunction::Count => frame.fill(times, out, |w| w.rows.len() as f64),
        WindowFunction::Stddev => frame.fill(times, out, |w| variance(&values[w.rows]).sqrt()),
        WindowFunction::Stdvar => frame.fill(times, out, |w| variance(&values[w.rows])),
        WindowFunction::Mad => {
            let mut scratch = Vec::new();
            frame.fill(times, out, |w| median_deviation(&values[w.rows], &mut scratch))
        }
        WindowFunction::First => frame.fill(times, out, |w| values[w.rows.start]),
        WindowFunction::Last => frame.fill(times, out, |w| values[w.rows.end - 1]),
        WindowFunction::TimeOfFirst => frame.fill(times, out, |w| seconds(times[w.rows.start])),
        WindowFunction::TimeOfLast => frame.fill(times, out, |w| seconds(times[w.rows.end - 1])),
        WindowFunction::Present => frame.fill(times, out, |_| 1.0),
        // The others are not statistics of single windows.
        _ => frame.fill(times, out, |_| ABSENT),
    }
}

/// Computes several windows at a time with `several`, and what is left over one by one with `one`.
fn in_lanes(
    columns: &Columns,
    frame: Frame<'_>,
    out: &mut [f64],
    several: fn(&[f64], &[Range<usize>; LANES]) -> [f64; LANES],
    one: fn(&[f64]) -> f64,
) -> WindowSizes {
    let values = columns.floats();
    out.fill(ABSENT);
    let mut windows: [Range<usize>; LANES] = std::array::from_fn(|_| 0..0);
    let mut steps = [0; LANES];
    let mut waiting = 0;
    let sizes = frame.walk(columns.times(), |window| {
        (steps[waiting], windows[waiting]) = (window.step, window.rows);
        waiting += 1;
        if waiting == LANES {
            waiting = 0;
            for (step, result) in steps.into_iter().zip(several(values, &windows)) {
                out[step] = result;
            }
        }
    });
    for (step, rows) in steps.into_iter().zip(windows).take(waiting) {
        out[step] = one(&values[rows]);
    }
    sizes
}

/// The sum of the values of a window.
pub(super) fn sum(values: &[f64]) -> f64 {
    finish_sum(values.iter().fold(KahanSum::default(), |sum, v| sum.plus(*v)))
}

fn sums(values: &[f64], windows: &[Range<usize>; LANES]) -> [f64; LANES] {
    lanes::sums(values, [0.0; LANES], windows).map(finish_sum)
}

fn finish_sum(sum: KahanSum) -> f64 {
    if sum.sum.is_infinite() { sum.sum } else { sum.total() }
}

/// A mean is its sum by its count, unless the sum overflows on the way; it does not come back from that.
#[expect(clippy::cast_precision_loss, reason = "windows are smaller than 2^53")]
fn means(values: &[f64], windows: &[Range<usize>; LANES]) -> [f64; LANES] {
    let starts = std::array::from_fn(|lane| values[windows[lane].start]);
    let rests = std::array::from_fn(|lane| windows[lane].start + 1..windows[lane].end);
    let sums = lanes::sums(values, starts, &rests);
    std::array::from_fn(|lane| {
        let (sum, count) = (sums[lane], windows[lane].len() as f64);
        if sum.sum.is_finite() {
            sum.sum / count + sum.compensation / count
        } else {
            mean(&values[windows[lane].clone()])
        }
    })
}

/// The mean of the values of a window, of which there is one at least.
pub(super) fn mean(values: &[f64]) -> f64 {
    let mut mean = KahanMean::new(values[0]);
    values[1..].iter().for_each(|v| mean.add(*v));
    mean.mean()
}

/// Welford's algorithm with compensated sums.
fn variance(values: &[f64]) -> f64 {
    let (mut count, mut mean, mut squares) = (0.0, KahanSum::default(), KahanSum::default());
    for &value in values {
        count += 1.0;
        let delta = value - mean.total();
        mean = mean.plus(delta / count);
        squares = squares.plus(delta * (value - mean.total()));
    }
    squares.total() / count
}

fn median_deviation(values: &[f64], scratch: &mut Vec<f64>) -> f64 {
    if values.iter().any(|v| v.is_nan()) {
        return f64::NAN;
    }
    let median = quantile_of(0.5, values, scratch);
    scratch.clear();
    scratch.extend(values.iter().map(|v| (v - median).abs()));
    quantile(0.5, scratch)
}

/// The quantile of `values`, which are copied to `scratch` to be sorted.
fn quantile_of(q: f64, values: &[f64], scratch: &mut Vec<f64>) -> f64 {
    scratch.clear();
    scratch.extend_from_slice(values);
    quantile(q, scratch)
}

/// Which of a window's values is meant.
#[derive(Clone, Copy)]
struct Extreme {
    /// Whether a value puts an earlier one out of consideration.
    beats: fn(f64, f64) -> bool,
}

impl Extreme {
    /// The smallest, and of equal ones the first.
    const MIN: Self = Self { beats: |new, old| new < old };
    /// The largest, and of equal ones the first.
    const MAX: Self = Self { beats: |new, old| new > old };
    /// The smallest, and of equal ones the last.
    const LATEST_MIN: Self = Self { beats: |new, old| new <= old };
    /// The largest, and of equal ones the last.
    const LATEST_MAX: Self = Self { beats: |new, old| new >= old };
}

/// Keeps the rows that may still become a window's extreme, the current one in front: each row enters and
/// leaves once, however wide windows are. NaN counts only when there is nothing else.
fn extremes(
    columns: &Columns,
    frame: Frame<'_>,
    out: &mut [f64],
    extreme: Extreme,
    result: impl Fn(usize) -> f64,
) -> WindowSizes {
    let (times, values): (&[Timestamp], _) = (columns.times(), columns.floats());
    let mut candidates = VecDeque::new();
    let mut taken = 0;
    frame.fill(times, out, |window| {
        for at in taken.max(window.rows.start)..window.rows.end {
            if values[at].is_nan() {
                continue;
            }
            while candidates.back().is_some_and(|old| (extreme.beats)(values[at], values[*old])) {
                candidates.pop_back();
            }
            candidates.push_back(at);
        }
        taken = window.rows.end;
        while candidates.front().is_some_and(|at| *at < window.rows.start) {
            candidates.pop_front();
        }
        result(candidates.front().copied().unwrap_or(window.rows.end - 1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::block::is_absent;
    use crate::eval::steps::Steps;
    use crate::eval::window::tests::{columns, frame};

    /// Values come every 10 ms from 10 on; the windows of 30 ms end at 30, 40, ….
    fn check(function: WindowFunction, values: &[f64], expected: &[f64]) {
        let steps = Steps::new(30, 20 + 10 * expected.len() as i64, 10);
        let mut out = vec![0.0; steps.count];
        apply(function, &columns(values), frame(30, steps), &mut out);
        assert_eq!(out.len(), expected.len());
        for (got, expected) in out.iter().zip(expected) {
            let same = got == expected
                || (is_absent(*got) && is_absent(*expected))
                || (got.is_nan() && expected.is_nan() && !is_absent(*expected));
            assert!(same, "{function:?} of {values:?} gave {out:?}");
        }
    }

    const NAN: f64 = f64::NAN;
    const INF: f64 = f64::INFINITY;

    #[test]
    fn sums_and_means() {
        check(WindowFunction::Sum, &[1.0, 2.0, 3.0, 4.0], &[6.0, 9.0, 7.0, 4.0, ABSENT]);
        check(WindowFunction::Sum, &[1.0, INF, 3.0, 4.0], &[INF, INF, 7.0]);
        check(WindowFunction::Sum, &[INF, -INF, 3.0], &[NAN, -INF]);
        check(WindowFunction::Avg, &[1.0, 2.0, 6.0, 4.0], &[3.0, 4.0]);
        check(WindowFunction::Avg, &[f64::MAX, f64::MAX], &[f64::MAX]);
        check(WindowFunction::Avg, &[5.0], &[5.0, ABSENT]);
        check(WindowFunction::Avg, &[NAN, 1.0], &[NAN, 1.0]);
        check(WindowFunction::Count, &[NAN, 1.0, 1.0, 1.0], &[3.0, 3.0, 2.0, 1.0, ABSENT]);
        check(WindowFunction::Present, &[NAN], &[1.0, ABSENT]);
    }

    #[test]
    fn extremes_forget_what_left_the_window() {
        check(WindowFunction::Max, &[9.0, 2.0, 3.0, 1.0, 0.0], &[9.0, 3.0, 3.0, 1.0, 0.0, ABSENT]);
        check(WindowFunction::Min, &[1.0, 2.0, 3.0, 4.0], &[1.0, 2.0, 3.0]);
        check(WindowFunction::Max, &[NAN, 2.0, NAN, NAN, NAN], &[2.0, 2.0, NAN]);
        check(WindowFunction::Min, &[NAN, -INF, INF, INF], &[-INF, -INF, INF]);
        check(WindowFunction::TimeOfMax, &[7.0, 7.0, 1.0], &[0.02]);
        check(WindowFunction::TimeOfMin, &[7.0, 1.0, 1.0], &[0.03]);
        check(WindowFunction::TimeOfMax, &[NAN, NAN], &[0.02]);
    }

    #[test]
    fn a_window_may_skip_samples() {
        let steps = Steps::new(20, 80, 60);
        let mut out = [0.0; 2];
        let values = [9.0, 1.0, 8.0, 7.0, 2.0, 5.0, 3.0, 4.0];
        extremes(&columns(&values), frame(20, steps), &mut out, Extreme::MAX, |at| values[at]);
        assert_eq!(out, [9.0, 4.0]);
    }

    #[test]
    fn ends_of_windows() {
        check(WindowFunction::First, &[1.0, 2.0, 3.0, 4.0], &[1.0, 2.0, 3.0]);
        check(WindowFunction::Last, &[1.0, 2.0, 3.0, 4.0], &[3.0, 4.0, 4.0]);
        check(WindowFunction::TimeOfFirst, &[1.0, 2.0, 3.0, 4.0], &[0.01, 0.02, 0.03]);
        check(WindowFunction::TimeOfLast, &[1.0, 2.0, 3.0, 4.0], &[0.03, 0.04, 0.04]);
    }

    #[test]
    fn spread() {
        check(WindowFunction::Stdvar, &[2.0, 4.0, 6.0], &[8.0 / 3.0, 1.0, 0.0]);
        check(WindowFunction::Stddev, &[2.0, 4.0], &[1.0, 0.0, ABSENT]);
        check(WindowFunction::Stddev, &[1e10, 1e10, 1e10], &[0.0]);
        check(WindowFunction::Stddev, &[INF], &[NAN]);
        check(WindowFunction::Mad, &[1.0, 2.0, 9.0], &[1.0, 3.5, 0.0]);
        check(WindowFunction::Mad, &[NAN, 9.0], &[NAN, 0.0]);
    }
}
