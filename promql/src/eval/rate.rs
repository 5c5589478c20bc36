//! How fast a series changes: by its first and last sample in a window, corrected for counter resets.

use model::{Columns, Timestamp};

use super::block::ABSENT;
use super::failure::QueryFailure;
use super::layout::{Layouts, Run, Shape};
use super::range_seconds;
use super::window::{Extent, Frame, WindowSizes};

/// Which change is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Of a counter, per second.
    Rate,
    /// Of a counter.
    Increase,
    /// Of a gauge.
    Delta,
}

/// A drop of a counter.
#[derive(Clone, Copy, Debug)]
struct Reset {
    /// The first sample after it.
    at: usize,
    /// The value before it.
    lost: f64,
}

/// How the windows of a run are extrapolated, as far as values do not matter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extrapolation {
    /// Seconds between first and last sample.
    sampled: f64,
    /// Seconds by which the window is extended to the start.
    to_start: f64,
    /// Seconds by which it is extended to the end.
    to_end: f64,
    /// Whether it ends where a counter would be negative.
    counter: bool,
    /// What the result is divided by: the seconds of the window for a rate, otherwise 1.
    per: f64,
    /// What the change is multiplied by, unless the counter would be negative.
    factor: f64,
}

impl Extrapolation {
    /// The arithmetic of [`Sampled::factor`], step by step.
    #[expect(clippy::cast_precision_loss, reason = "windows are shorter than 2^53 ms")]
    fn new(run: &Run, kind: Kind, range: i64) -> Self {
        let sampled = run.sampled as f64 / 1000.0;
        let average = sampled / (run.last - run.first) as f64;
        let threshold = average * 1.1;
        let capped = |gap: i64| {
            let gap = gap as f64 / 1000.0;
            if gap >= threshold { average / 2.0 } else { gap }
        };
        let (to_start, to_end) = (capped(run.to_start), capped(run.to_end));
        let per = if kind == Kind::Rate { range_seconds(range) } else { 1.0 };
        let counter = kind != Kind::Delta;
        let mut this = Self { sampled, to_start, to_end, counter, per, factor: 0.0 };
        this.factor = this.factor_from(to_start);
        this
    }

    /// What the change is multiplied by if the window is extended by `to_start` seconds to the start.
    fn factor_from(self, to_start: f64) -> f64 {
        let factor = if self.sampled == 0.0 {
            1.0
        } else {
            (self.sampled + to_start + self.to_end) / self.sampled
        };
        factor / self.per
    }

    /// The change extrapolated to the whole window.
    fn apply(self, change: f64, first: f64) -> f64 {
        if self.counter && change > 0.0 && first >= 0.0 {
            let to_zero = self.sampled * (first / change);
            if to_zero < self.to_start {
                return change * self.factor_from(to_zero);
            }
        }
        change * self.factor
    }

    /// Whether it takes a closer look to say if the counter would be negative. A comparison of products says so for most windows, by a margin
    /// that rounding cannot bridge; where they are so small that it could, it does not.
    #[inline]
    fn is_close_to_zero(self, change: f64, first: f64) -> bool {
        const MARGIN: f64 = 1.000_001;
        const TINY: f64 = 1e-290;
        let bound = self.to_start * change * MARGIN;
        let bound = if bound > TINY { bound } else { TINY };
        let is_far = first * self.sampled > bound;
        self.counter & (change > 0.0) & (first >= 0.0) & !is_far
    }
}

/// Computes `rate`, `increase` or `delta` for each window into `out`.
///
/// Resets are rare, so they are listed once; each window adds up those in it, in time order as Prometheus
/// adds them.
///
/// # Errors
/// [`QueryFailure::OverBudget`]
pub(super) fn extrapolated(
    columns: &Columns,
    frame: Frame<'_>,
    layouts: &mut Layouts<Extrapolation>,
    kind: Kind,
    out: &mut [f64],
) -> Result<WindowSizes, QueryFailure> {
    if frame.steps.count == 1 {
        return Ok(extrapolated_once(columns, frame, kind, out));
    }
    let values = columns.floats();
    let layout = layouts.of(columns.times(), frame, Shape::Whole, |run| {
        Extrapolation::new(run, kind, frame.range)
    })?;
    let resets = if kind == Kind::Delta { Vec::new() } else { resets(values) };
    let mut resets = &resets[..];
    let mut added = 0;
    let mut gathered = Gathered::default();
    out.fill(ABSENT);
    for (run, extrapolation) in layout.runs.iter().zip(&layout.made) {
        if run.first == run.last {
            continue;
        }
        let mut done = 0;
        while done < run.steps.len() {
            let steps = BATCH.min(run.steps.len() - done);
            let (first, last) = (run.first + done * run.stride, run.last + done * run.stride);
            let out = &mut out[run.steps.start + done..][..steps];
            let (firsts, lasts) = (&values[first..], &values[last..]);
            let end = last + (steps - 1) * run.stride;
            resets = &resets[resets.partition_point(|reset| reset.at <= first)..];
            let falls = resets.first().is_some_and(|reset| reset.at <= end);
            if falls || fill(firsts, lasts, run.stride, *extrapolation, &mut gathered, out) {
                for (step, out) in out.iter_mut().enumerate() {
                    let (first, last) = (first + step * run.stride, last + step * run.stride);
                    let mut change = values[last] - values[first];
                    let inside = resets.iter().skip_while(|reset| reset.at <= first);
                    for reset in inside.take_while(|reset| reset.at <= last) {
                        change += reset.lost;
                        added += 1;
                    }
                    *out = extrapolation.apply(change, values[first]);
                }
            }
            if added >= RESETS_UNCHECKED {
                frame.context.check()?;
                added = 0;
            }
            done += steps;
        }
    }
    Ok(layout.sizes)
}

/// As [`extrapolated`], of one window, which is not worth a layout.
fn extrapolated_once(
    columns: &Columns,
    frame: Frame<'_>,
    kind: Kind,
    out: &mut [f64],
) -> WindowSizes {
    frame.fill(columns.times(), out, |window| {
        let values = &columns.floats()[window.rows.clone()];
        let [first, .., last] = values else { return ABSENT };
        let mut change = last - first;
        if kind != Kind::Delta {
            for pair in values.windows(2).filter(|pair| pair[1] < pair[0]) {
                change += pair[0];
            }
        }
        change * Sampled::new(columns, frame, &window).factor(change, *first, kind)
    })
}

/// Resets that are added before the clock is looked at again.
const RESETS_UNCHECKED: usize = 1 << 18;

/// Windows at a time.
const BATCH: usize = 32;

/// The first and the last samples of windows, where they do not follow each other.
type Gathered = [[f64; BATCH]; 2];

/// Computes windows without resets, none of which starts close to zero; says if there is one that does, and nothing was gained then.
fn fill(
    firsts: &[f64],
    lasts: &[f64],
    stride: usize,
    extrapolation: Extrapolation,
    gathered: &mut Gathered,
    out: &mut [f64],
) -> bool {
    // Without jumps, so the compiler does it for several windows at a time.
    let several = |firsts: &[f64], lasts: &[f64], out: &mut [f64]| {
        let mut close = false;
        for ((first, last), out) in firsts.iter().zip(lasts).zip(out) {
            let change = last - first;
            close |= extrapolation.is_close_to_zero(change, *first);
            *out = change * extrapolation.factor;
        }
        close
    };
    let len = out.len();
    if stride == 1 {
        return several(&firsts[..len], &lasts[..len], out);
    }
    for (to, from) in gathered.iter_mut().zip([firsts, lasts]) {
        for (step, to) in to[..len].iter_mut().enumerate() {
            *to = from[step * stride];
        }
    }
    several(&gathered[0][..len], &gathered[1][..len], out)
}

fn resets(values: &[f64]) -> Vec<Reset> {
    const AT_A_TIME: usize = 32;
    let mut resets = Vec::new();
    let mut start = 0;
    while start + 1 < values.len() {
        let end = (start + AT_A_TIME).min(values.len() - 1);
        let (before, after) = (&values[start..end], &values[start + 1..=end]);
        // Most stretches have none, which several comparisons at a time tell.
        let mut falls = false;
        before.iter().zip(after).for_each(|(before, after)| falls |= after < before);
        if falls {
            let pairs = (start + 1..).zip(before.iter().zip(after));
            let falling = pairs.filter(|(_, (before, after))| after < before);
            resets.extend(falling.map(|(at, (before, _))| Reset { at, lost: *before }));
        }
        start = end;
    }
    resets
}

/// The part of a window that samples cover.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sampled {
    /// Time of the first sample.
    first: Timestamp,
    /// Time of the last sample.
    last: Timestamp,
    /// Number of samples.
    count: usize,
    /// End of the window.
    end: Timestamp,
    /// Milliseconds that the window covers.
    range: i64,
    /// The counter was zero then, in the window and before the first sample.
    pub(super) zero_at: Option<Timestamp>,
}

impl Sampled {
    /// What the samples of `window`, of which there is one at least, cover.
    pub(super) fn new(columns: &Columns, frame: Frame<'_>, window: &Extent) -> Self {
        let times = columns.times();
        let (first, last) = (times[window.rows.start], times[window.rows.end - 1]);
        let (count, range) = (window.rows.len(), frame.range);
        Self { first, last, count, end: window.end, range, zero_at: None }
    }

    /// By how much the change between the first and the last sample is to be multiplied to be that of the whole window. Of histograms,
    /// `change` and `first_value` are their counts.
    ///
    /// If the window starts or ends within 1.1 times the average distance of samples from the outermost sample,
    /// the series is taken to cover it to the edge, else to half that distance. A counter is never taken
    /// to have been negative.
    #[expect(clippy::cast_precision_loss, reason = "windows are shorter than 2^53 ms")]
    pub(super) fn factor(self, change: f64, first_value: f64, kind: Kind) -> f64 {
        let window_start = self.end - self.range;
        let mut to_start = (self.first - window_start) as f64 / 1000.0;
        let mut to_end = (self.end - self.last) as f64 / 1000.0;
        let mut sampled = (self.last - self.first) as f64 / 1000.0;
        let average = if self.count > 1 { sampled / (self.count - 1) as f64 } else { 0.0 };
        let threshold = average * 1.1;

        if let Some(zero_at) = self.zero_at {
            // What the counter was at the start is known, so nothing is guessed.
            to_start = 0.0;
            sampled = (self.last - zero_at) as f64 / 1000.0;
        } else {
            if to_start >= threshold {
                to_start = average / 2.0;
            }
            if kind != Kind::Delta && change > 0.0 && first_value >= 0.0 {
                let to_zero = sampled * (first_value / change);
                if to_zero < to_start {
                    to_start = to_zero;
                }
            }
        }
        if to_end >= threshold {
            to_end = average / 2.0;
        }
        let mut factor = 1.0;
        if sampled != 0.0 {
            factor = (sampled + to_start + to_end) / sampled;
        }
        if kind == Kind::Rate {
            factor /= range_seconds(self.range);
        }
        factor
    }
}

/// Computes `irate` (`per_second`) or `idelta` for each window into `out`: the change between the last two
/// samples.
#[expect(clippy::cast_precision_loss, reason = "windows are shorter than 2^53 ms")]
pub(super) fn instant(
    columns: &Columns,
    frame: Frame<'_>,
    per_second: bool,
    out: &mut [f64],
) -> WindowSizes {
    let (times, values) = (columns.times(), columns.floats());
    frame.fill(times, out, |window| {
        if window.rows.len() < 2 {
            return ABSENT;
        }
        let last = window.rows.end - 1;
        let interval = times[last] - times[last - 1];
        if interval == 0 {
            return ABSENT;
        }
        let (before, after) = (values[last - 1], values[last]);
        // After a reset a counter has counted from zero.
        let change = if per_second && after < before { after } else { after - before };
        if per_second { change / (interval as f64 / 1000.0) } else { change }
    })
}

/// Counts the pairs of neighbours in each window that satisfy `counts`.
#[expect(clippy::cast_precision_loss, reason = "windows are smaller than 2^53")]
pub(super) fn count_pairs(
    columns: &Columns,
    frame: Frame<'_>,
    out: &mut [f64],
    counts: impl Fn(f64, f64) -> bool,
) -> WindowSizes {
    // The number of such pairs up to each sample; a window's is the difference of two.
    let mut so_far = Vec::with_capacity(columns.len());
    let mut total = 0_u64;
    so_far.push(0);
    for pair in columns.floats().windows(2) {
        total += u64::from(counts(pair[0], pair[1]));
        so_far.push(total);
    }
    frame.fill(columns.times(), out, |window| {
        (so_far[window.rows.end - 1] - so_far[window.rows.start]) as f64
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::block::is_absent;
    use crate::eval::steps::Steps;
    use crate::eval::window::tests::{columns, frame};
    use model::Sample;

    fn extrapolated(columns: &Columns, frame: Frame<'_>, kind: Kind, out: &mut [f64]) {
        super::extrapolated(columns, frame, &mut Layouts::default(), kind, out).unwrap();
    }

    /// A sample each 10 s from 10 s on.
    fn every_10_s(values: &[f64]) -> Columns {
        (1..).zip(values).map(|(i, v)| Sample { t: i * 10_000, v: *v }).collect()
    }

    fn check(kind: Kind, values: &[f64], range_s: i64, at_s: i64, expected: f64) {
        let mut out = [0.0];
        let frame = frame(range_s * 1000, Steps::single(at_s * 1000));
        extrapolated(&every_10_s(values), frame, kind, &mut out);
        let same = (is_absent(out[0]) && is_absent(expected))
            || out[0].to_bits() == expected.to_bits()
            || (out[0].is_nan() && expected.is_nan() && !is_absent(expected));
        assert!(same, "{kind:?} of {values:?} over {range_s} s at {at_s} s is {}", out[0]);
    }

    #[test]
    fn ranges_are_divided_as_go_divides() {
        // Seconds and the rest are rounded one by one, so 1.118 s has another last bit than 1118 / 1000.
        for (ms, bits) in [(1_000_i64, 1.0_f64), (300_000, 300.0), (1_500, 1.5), (-250, -0.25)] {
            assert_eq!(range_seconds(ms).to_bits(), bits.to_bits());
        }
        assert_eq!(range_seconds(1_118), 1.0 + 0.118);
        assert_ne!(range_seconds(1_118), 1.118);
    }

    #[test]
    fn windows_filled_to_the_edges() {
        // Samples at 30..=60 s in (20 s, 60 s]: 10 s to the start, none to the end.
        let values = [0.0, 10.0, 20.0, 30.0, 40.0, 50.0];
        check(Kind::Increase, &values, 40, 60, 40.0);
        check(Kind::Rate, &values, 40, 60, 30.0 * ((30.0 + 10.0) / 30.0 / 40.0));
        check(Kind::Delta, &values, 40, 60, 40.0);
    }

    #[test]
    fn gaps_are_bridged_by_half_a_distance() {
        // Samples at 10 and 20 s, window (-100 s, 100 s]: half of 10 s on each side.
        check(Kind::Delta, &[100.0, 110.0], 200, 100, 20.0);
        // A counter at 1 that rises by 10 in 10 s was zero 1 s before.
        check(Kind::Increase, &[1.0, 11.0], 200, 100, 10.0 * ((10.0 + 1.0 + 5.0) / 10.0));
    }

    #[test]
    fn resets_add_what_was_lost() {
        check(Kind::Increase, &[5.0, 8.0, 2.0, 4.0], 30, 40, 4.0 - 8.0 + 8.0 + 2.0);
        // The drop from 9 to 1 is between the window's start and its first sample.
        check(Kind::Increase, &[9.0, 1.0, 2.0], 20, 30, 2.0);
        check(Kind::Delta, &[9.0, 1.0], 20, 20, -16.0);
    }

    #[test]
    fn too_few_samples_give_nothing() {
        check(Kind::Rate, &[1.0], 60, 60, ABSENT);
        check(Kind::Rate, &[], 60, 60, ABSENT);
        check(Kind::Rate, &[1.0, f64::NAN], 60, 60, f64::NAN);
        check(Kind::Rate, &[1.0, f64::INFINITY], 60, 60, f64::INFINITY);
    }

    #[test]
    fn moving_windows_agree_with_single_ones() {
        let values: Vec<f64> = (0..60).map(|i| f64::from((i * 37 + 11) % 23)).collect();
        let columns = every_10_s(&values);
        let steps = Steps::new(0, 700_000, 7_000);
        let mut moving = vec![0.0; steps.count];
        extrapolated(&columns, frame(95_000, steps), Kind::Rate, &mut moving);
        for (t, moving) in steps.iter().zip(moving) {
            let mut single = [0.0];
            extrapolated(&columns, frame(95_000, Steps::single(t)), Kind::Rate, &mut single);
            assert_eq!(single[0].to_bits(), moving.to_bits(), "at {t}");
        }
    }

    /// The arithmetic of runs is that of single windows, which histograms still take.
    #[test]
    fn runs_agree_with_the_arithmetic_of_single_windows() {
        let special = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.0, 1e308, -5.0, 1e-300];
        let odd = |i: i64| match i % 41 {
            at @ 30..38 => special[usize::try_from(at - 30).unwrap()],
            _ => (i * i % 1_000) as f64 / 7.0,
        };
        // Counters that start at and close to zero, so that some windows are cut off there; scaled down to where floats lose digits.
        let rising = |i: i64| (i % 90 * 13 + i % 5) as f64;
        let steep = |i: i64| 2_f64.powi(i32::try_from(i % 60).unwrap() * 17);
        let tiny = |i: i64| (i % 90) as f64 * 5e-324 * f64::from(1 << (i / 90));
        let small = |i: i64| (i % 90) as f64 * 1e-293;
        let huge = |i: i64| (i % 90) as f64 * 1.9e306;
        let values: [&dyn Fn(i64) -> f64; 6] = [&odd, &rising, &steep, &tiny, &small, &huge];
        let times: [&dyn Fn(i64) -> i64; 3] =
            [&|i| i * 15_000 + i * i % 700, &|i| i * 15_000, &|i| i * 15_000 + i / 50 * 100_000];
        for (value, time) in values.iter().flat_map(|v| times.iter().map(move |t| (v, t))) {
            let columns: Columns = (0..400).map(|i| Sample { t: time(i), v: value(i) }).collect();
            for interval in [11_000, 15_000, 30_000] {
                let frame = frame(64_000, Steps::new(0, 6_500_000, interval));
                agrees(&columns, frame);
            }
        }
    }

    fn agrees(columns: &Columns, frame: Frame<'_>) {
        for kind in [Kind::Rate, Kind::Increase, Kind::Delta] {
            let mut out = vec![0.0; frame.steps.count];
            extrapolated(columns, frame, kind, &mut out);
            frame.walk(columns.times(), |window| {
                let values = &columns.floats()[window.rows.clone()];
                let mut change = values[values.len() - 1] - values[0];
                if kind != Kind::Delta {
                    let drops = values.windows(2).filter(|pair| pair[1] < pair[0]);
                    drops.for_each(|pair| change += pair[0]);
                }
                let factor = Sampled::new(columns, frame, &window).factor(change, values[0], kind);
                let (got, expected) = (out[window.step], change * factor);
                let same = got.to_bits() == expected.to_bits() || got.is_nan() && expected.is_nan();
                assert!(values.len() < 2 || same, "{kind:?} at {}: {got} {expected}", window.step);
            });
        }
    }

    #[test]
    fn the_last_two_samples() {
        let mut out = [0.0; 3];
        let steps = Steps::new(10, 30, 10);
        instant(&columns(&[5.0, 7.0, 1.0]), frame(100, steps), true, &mut out);
        assert!(is_absent(out[0]));
        assert_eq!(out[1..], [200.0, 100.0]);
        instant(&columns(&[5.0, 7.0, 1.0]), frame(100, steps), false, &mut out);
        assert_eq!(out[1..], [2.0, -6.0]);
    }

    #[test]
    fn pairs_are_counted_within_the_window() {
        let mut out = [0.0; 4];
        let steps = Steps::new(20, 50, 10);
        let columns = columns(&[3.0, 1.0, 2.0, 0.0, 0.0]);
        count_pairs(&columns, frame(20, steps), &mut out, |a, b| b < a);
        assert_eq!(out, [1.0, 0.0, 1.0, 0.0]);
    }
}
