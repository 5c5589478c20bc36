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
        WindowFunction::Min => extremes(columns, frame, out, |new, old| new < old),
        WindowFunction::Max => extremes(columns, frame, out, |new, old| new > old),
        WindowFunction::TimeOfMin => times_of_extremes(columns, frame, out, |new, old| new <= old),
        WindowFunction::TimeOfMax => times_of_extremes(columns, frame, out, |new, old| new >= old),
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

/// The value of each window that no other beats; of equal ones the first. NaN counts only when there is nothing else.
fn extremes(
    columns: &Columns,
    frame: Frame<'_>,
    out: &mut [f64],
    beats: impl Fn(f64, f64) -> bool,
) -> WindowSizes {
    let (times, values) = (columns.times(), columns.floats());
    // Without NaN to look out for a choice is a single instruction.
    if values.iter().any(|v| v.is_nan()) {
        let choose = |old: f64, new: f64| if beats(new, old) || old.is_nan() { new } else { old };
        best_of_windows(times, values, frame, out, choose)
    } else {
        let choose = |old, new| if beats(new, old) { new } else { old };
        best_of_windows(times, values, frame, out, choose)
    }
}

/// Chooses among the values of each window; `choose` is given the value so far and a later one.
///
/// A window is cut in two: of the samples in front of the cut the choice among each and those behind it up to the cut is worked out once, of those
/// behind the cut the choice among all so far. When a window has left the front behind, all that it contains becomes the new front. So each
/// sample is looked at twice, however wide windows are.
fn best_of_windows(
    times: &[Timestamp],
    values: &[f64],
    frame: Frame<'_>,
    out: &mut [f64],
    choose: impl Fn(f64, f64) -> f64,
) -> WindowSizes {
    out.fill(ABSENT);
    let mut front: Vec<f64> = Vec::new();
    // The front is of rows up to `cut`.
    let (mut front_start, mut cut, mut taken) = (0, 0, 0);
    let mut behind = None;
    frame.locate(times, |step, rows, _| {
        if rows.start >= cut {
            front.clear();
            front.extend_from_slice(&values[rows.clone()]);
            choose_backwards(&mut front, &choose);
            (front_start, cut, behind) = (rows.start, rows.end, None);
        } else if taken < rows.end {
            // Among themselves first, so that not each choice has to wait for the one before.
            let new = values[taken..rows.end].iter().copied().reduce(&choose);
            behind = behind.into_iter().chain(new).reduce(&choose);
        }
        taken = rows.end;
        let best = front[rows.start - front_start];
        out[step] = behind.map_or(best, |behind| choose(best, behind));
    })
}

/// Puts in each place what is chosen among the value there and all behind it.
///
/// Each choice waits for the one behind it, so two halves are worked on at a time, and then the first is told what the second came to.
fn choose_backwards(values: &mut [f64], choose: impl Fn(f64, f64) -> f64) {
    let (first, second) = values.split_at_mut(values.len() / 2);
    // The second may be longer, by the value in front.
    let (middle, second) = second.split_at_mut(second.len() - first.len());
    for at in (1..first.len()).rev() {
        first[at - 1] = choose(first[at - 1], first[at]);
        second[at - 1] = choose(second[at - 1], second[at]);
    }
    if let ([middle], [behind, ..]) = (&mut *middle, &*second) {
        *middle = choose(*middle, *behind);
    }
    if let Some(behind) = middle.first().or(second.first()) {
        first.iter_mut().for_each(|value| *value = choose(*value, *behind));
    }
}

/// The time of the value of each window that no other beats, as `beats` says of a later one and an earlier one. NaN counts only when there is
/// nothing else.
///
/// Keeps the rows that may still be a window's, the current one in front: each row enters and leaves once, however wide windows are.
fn times_of_extremes(
    columns: &Columns,
    frame: Frame<'_>,
    out: &mut [f64],
    beats: impl Fn(f64, f64) -> bool,
) -> WindowSizes {
    let (times, values): (&[Timestamp], _) = (columns.times(), columns.floats());
    let mut candidates = VecDeque::new();
    let mut taken = 0;
    frame.fill(times, out, |window| {
        for at in taken.max(window.rows.start)..window.rows.end {
            if values[at].is_nan() {
                continue;
            }
            while candidates.back().is_some_and(|old| beats(values[at], values[*old])) {
                candidates.pop_back();
            }
            candidates.push_back(at);
        }
        taken = window.rows.end;
        while candidates.front().is_some_and(|at| *at < window.rows.start) {
            candidates.pop_front();
        }
        seconds(times[candidates.front().copied().unwrap_or(window.rows.end - 1)])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::block::is_absent;
    use crate::eval::steps::Steps;
    use crate::eval::window::tests::{columns, frame};
    use model::Sample;

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
        apply(WindowFunction::Max, &columns(&values), frame(20, steps), &mut out);
        assert_eq!(out, [9.0, 4.0]);
    }

    /// What a loop over the window would say, as Prometheus has it.
    #[test]
    fn extremes_are_those_of_each_window_alone() {
        let pool = [0.0, -0.0, 1.0, -1.0, f64::NAN, -f64::NAN, INF, -INF, 2.0, 1e300];
        let mut state = 1_u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        for values in [10, 4, 1] {
            let mut t = 0;
            let mut value = |_| {
                t += i64::try_from(1 + random(9)).unwrap();
                let at = usize::try_from(random(values)).unwrap();
                Sample { t, v: if random(3) == 0 { t as f64 } else { pool[at] } }
            };
            let columns: Columns = (0..500).map(&mut value).collect();
            for (range, interval) in [(1, 1), (20, 1), (90, 7), (300, 90), (30, 100), (9_000, 3)] {
                let frame = frame(range, Steps::new(-10, 3_000, interval));
                for (function, beats) in [
                    (WindowFunction::Max, (|new, old| new > old) as fn(f64, f64) -> bool),
                    (WindowFunction::Min, |new, old| new < old),
                ] {
                    let (mut out, mut expected) =
                        (vec![0.0; frame.steps.count], vec![0.0; frame.steps.count]);
                    let sizes = apply(function, &columns, frame, &mut out);
                    let alone = frame.fill(columns.times(), &mut expected, |window| {
                        let mut best = columns.floats()[window.rows.start];
                        for &v in &columns.floats()[window.rows] {
                            if beats(v, best) || best.is_nan() {
                                best = v;
                            }
                        }
                        best
                    });
                    let bits = |row: &[f64]| row.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                    assert_eq!(bits(&out), bits(&expected), "{function:?} {range} {interval}");
                    assert_eq!(sizes, alone);
                }
            }
        }
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
