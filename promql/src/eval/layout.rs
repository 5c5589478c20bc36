//! Where the windows of all steps lie among the samples of a series.
//!
//! This depends on the times of samples alone, and series of one target have the same times. So it is found once for all of them, and written
//! down as runs: samples come evenly more often than not, and then the windows of step after step are alike but for being further on.

use std::ops::Range;

use model::{Charge, QueryContext, Timestamp};

use super::failure::QueryFailure;
use super::window::{Cursor, Frame, WindowSizes, is_between};

/// Layouts that are remembered, and the bytes that they may hold; the newest is remembered in any case.
const LAYOUTS_MAX: usize = 16;
const BYTES_MAX: usize = 1 << 20;

/// How many runs before one are looked at for one that is like it.
const RUNS_BACK: usize = 4;

/// Steps one after the other whose windows are alike: as many samples, as far from each other and from the ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// The steps.
    pub(super) steps: Range<usize>,
    /// The first sample in the window of the first step.
    pub(super) first: usize,
    /// The last one.
    pub(super) last: usize,
    /// Samples by which the window moves on from step to step.
    pub(super) stride: usize,
    /// Milliseconds from the start of a window to its first sample.
    pub(super) to_start: i64,
    /// Milliseconds from the first to the last sample.
    pub(super) sampled: i64,
    /// Milliseconds from the last sample to the end.
    pub(super) to_end: i64,
}

impl Run {
    /// A run of one step, with the window of `samples`.
    fn of(
        steps: Range<usize>,
        samples: Range<usize>,
        (to_start, sampled, to_end): (i64, i64, i64),
    ) -> Self {
        let (first, last) = (samples.start, samples.end - 1);
        Self { steps, first, last, stride: 0, to_start, sampled, to_end }
    }

    /// What windows are alike in: how many samples they have, and how far these are from each other and from the ends.
    const fn likeness(&self) -> (usize, i64, i64, i64) {
        (self.last - self.first, self.to_start, self.sampled, self.to_end)
    }

    /// Whether the next step of the run has its window there, `next` being a run of that step alone.
    #[inline]
    fn is_followed_by(&self, next: &Self) -> bool {
        let before = self.steps.len() - 1;
        let (first, last) = (self.first + before * self.stride, self.last + before * self.stride);
        let moved = next.first - first;
        self.steps.end == next.steps.start
            && (self.to_start, self.sampled, self.to_end)
                == (next.to_start, next.sampled, next.to_end)
            && next.last - last == moved
            && (before == 0 || moved == self.stride)
    }
}

/// What is looked for in windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// All of it.
    Whole,
    /// Only the last sample: runs say that it is the first one, too, and nothing of times.
    Last,
}

/// The windows of all steps that have samples.
#[derive(Debug)]
pub(super) struct Layout<T> {
    /// What it was made for.
    times: Vec<Timestamp>,
    /// In the order of steps.
    pub(super) runs: Vec<Run>,
    /// How large windows are.
    pub(super) sizes: WindowSizes,
    /// What was made of each run.
    pub(super) made: Vec<T>,
}

/// Layouts of the series that were looked at last.
#[derive(Debug)]
pub(super) struct Layouts<T> {
    known: Vec<Layout<T>>,
    oldest: usize,
    held: Option<Charge>,
}

impl<T> Default for Layouts<T> {
    fn default() -> Self {
        Self { known: Vec::new(), oldest: 0, held: None }
    }
}

impl<T: Copy> Layouts<T> {
    /// The layout of the windows of `frame` among samples at `times`; `make` is given runs of a new one, and what it makes of one holds for others
    /// whose windows are alike. All calls must be with the same frame, shape and meaning of `make`.
    ///
    /// # Errors
    /// [`QueryFailure::OverBudget`]
    pub(super) fn of(
        &mut self,
        times: &[Timestamp],
        frame: Frame<'_>,
        shape: Shape,
        make: impl Fn(&Run) -> T,
    ) -> Result<&Layout<T>, QueryFailure> {
        let ends =
            |times: &[Timestamp]| (times.len(), times.first().copied(), times.last().copied());
        let wanted = ends(times);
        let is_known = |known: &Layout<T>| ends(&known.times) == wanted && known.times == times;
        if let Some(at) = self.known.iter().position(is_known) {
            return Ok(&self.known[at]);
        }
        let bytes: usize = self.known.iter().map(Layout::bytes).sum();
        let has_room = self.known.len() < LAYOUTS_MAX && bytes + size_of_val(times) < BYTES_MAX;
        let at = if self.known.is_empty() || has_room {
            self.known.push(Layout::empty());
            self.known.len() - 1
        } else {
            self.oldest = (self.oldest + 1) % self.known.len();
            self.oldest
        };
        self.known[at].make(times, frame, shape, make);
        self.charge(frame.context)?;
        Ok(&self.known[at])
    }

    fn charge(&mut self, context: &QueryContext) -> Result<(), QueryFailure> {
        let bytes = self.known.iter().map(Layout::bytes).sum();
        match &mut self.held {
            Some(held) => held.grow_to(bytes)?,
            None => self.held = Some(context.budget.charge(bytes)?),
        }
        Ok(())
    }
}

impl<T: Copy> Layout<T> {
    fn empty() -> Self {
        let sizes = WindowSizes::default();
        Self { times: Vec::new(), runs: Vec::new(), sizes, made: Vec::new() }
    }

    fn bytes(&self) -> usize {
        self.times.capacity() * size_of::<Timestamp>()
            + self.runs.capacity() * size_of::<Run>()
            + self.made.capacity() * size_of::<T>()
    }

    fn make(
        &mut self,
        times: &[Timestamp],
        frame: Frame<'_>,
        shape: Shape,
        make: impl Fn(&Run) -> T,
    ) {
        self.times.clear();
        self.times.extend_from_slice(times);
        self.runs.clear();
        self.sizes = WindowSizes::default();
        let Frame { steps, look, range, .. } = frame;
        let Range { start: mut step, end: behind } = frame.steps_among(times);
        let (mut cursor, mut even) = (Cursor::default(), Even::default());
        while step < behind {
            let end = look.from(steps.at(step));
            let start = end.saturating_sub(range);
            let rows = cursor.move_to(times, start, end);
            step += 1;
            if rows.is_empty() {
                continue;
            }
            self.sizes.add(rows.len());
            let (first, last) = (rows.start, rows.end - 1);
            let this = step - 1..step;
            let window = match shape {
                Shape::Last => Run::of(this, last..rows.end, (0, 0, 0)),
                Shape::Whole => {
                    let to_start = times[first].saturating_sub(start);
                    let sampled = times[last].saturating_sub(times[first]);
                    let to_end = end.saturating_sub(times[last]);
                    Run::of(this, rows.clone(), (to_start, sampled, to_end))
                }
            };
            let Some(run) = self.runs.last_mut().filter(|run| run.is_followed_by(&window)) else {
                self.runs.push(window);
                continue;
            };
            if run.steps.len() == 1 {
                run.stride = window.first - run.first;
            }
            run.steps.end += 1;
            let alike = steps_alike(times, frame, shape, run, step, rows.clone(), &mut even);
            run.steps.end += alike;
            step += alike;
            self.sizes.total += (alike * rows.len()) as u64;
            cursor.skip(alike * run.stride);
        }
        self.made.clear();
        for (at, run) in self.runs.iter().enumerate() {
            // A sample that comes late changes two windows, between which and behind which all are as they were before.
            let before = at.saturating_sub(RUNS_BACK);
            let is_alike = |other: &Run| other.likeness() == run.likeness();
            let alike = self.runs[before..at].iter().rposition(is_alike);
            let made = alike.map_or_else(|| make(run), |alike| self.made[before + alike]);
            self.made.push(made);
        }
    }
}

/// Over how many more steps the window of `samples`, at the step before `step`, moves on by as many samples as `run` says, and lies there as in the run.
fn steps_alike(
    times: &[Timestamp],
    frame: Frame<'_>,
    shape: Shape,
    run: &Run,
    step: usize,
    samples: Range<usize>,
    even: &mut Even,
) -> usize {
    let Frame { steps, look, range, .. } = frame;
    if run.stride == 0 || look.at.is_some() {
        return 0;
    }
    let stride = run.stride;
    // Windows are counted from that of `samples`, which is number 0.
    let is_alike = |number: usize| {
        let moved = number * stride;
        let rows = samples.start + moved..samples.end + moved;
        let end = look.from(steps.at(step + number - 1));
        let start = end.saturating_sub(range);
        is_between(times, &rows, start, end)
            && (shape == Shape::Last || {
                times[rows.start].saturating_sub(start) == run.to_start
                    && end.saturating_sub(times[rows.end - 1]) == run.to_end
            })
    };
    let (mut alike, most) = (0, steps.count - step);
    while alike < most {
        // Where samples come evenly, and as many to a step as windows move on, all windows are as the one before.
        let moved = alike * stride;
        let (first, last) = (samples.start + moved, samples.end + moved - 1);
        let samples_even = even.samples_from(times, steps.interval, stride, first, last);
        let windows_even = (samples_even / stride).min(most - alike);
        if windows_even > 0 && is_alike(alike + windows_even) {
            alike += windows_even;
        } else if is_alike(alike + 1) {
            alike += 1;
        } else {
            break;
        }
    }
    alike
}

/// How far the times of samples are even, as it was found for the start and the end of a window that moves on.
#[derive(Debug, Default)]
struct Even {
    /// Milliseconds from sample to sample.
    every: i64,
    /// For each end, the samples from the first of which on times are even, up to that behind the last.
    found: [Range<usize>; 2],
}

impl Even {
    /// By how many samples a window from sample `first` to sample `last` can move on over samples of which `stride` come in each `interval`
    /// without that any of its ends or their neighbours is early or late.
    fn samples_from(
        &mut self,
        times: &[Timestamp],
        interval: i64,
        stride: usize,
        first: usize,
        last: usize,
    ) -> usize {
        let whole = i64::try_from(stride).ok().filter(|stride| interval % stride == 0);
        let (Some(stride), Some(before)) = (whole, first.checked_sub(1)) else { return 0 };
        let every = interval / stride;
        if self.every != every {
            *self = Self { every, ..Self::default() };
        }
        let [of_first, of_last] = &mut self.found;
        even_until(times, every, before, of_first);
        if of_first.contains(&last) {
            of_last.clone_from(of_first);
        }
        let of_first = of_first.end.saturating_sub(first);
        let until = even_until(times, every, last, of_last);
        // The neighbour behind must be even, too, unless there is none.
        let of_last = if until + 1 < times.len() { until.saturating_sub(1) } else { until };
        of_first.min(of_last.saturating_sub(last))
    }
}

/// The sample up to which, from sample `from` on, one comes `every` so many milliseconds. `found` is what was found before.
fn even_until(times: &[Timestamp], every: i64, from: usize, found: &mut Range<usize>) -> usize {
    const AT_A_TIME: usize = 16;
    if found.contains(&from) {
        return found.end;
    }
    let times = &times[from..];
    let is_even = |pair: (&Timestamp, &Timestamp)| pair.1.wrapping_sub(*pair.0) == every;
    let mut even = 0;
    while even + 1 < times.len() {
        let end = (even + AT_A_TIME).min(times.len() - 1);
        let (before, after) = (&times[even..end], &times[even + 1..=end]);
        // Without a jump for each, so that several are compared at a time.
        let differences = before
            .iter()
            .zip(after)
            .fold(0, |bits, (before, after)| bits | (after.wrapping_sub(*before) ^ every));
        if differences == 0 {
            even = end;
        } else {
            even += before.iter().zip(after).take_while(|pair| is_even(*pair)).count();
            break;
        }
    }
    *found = from..from + even;
    found.end
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::steps::Steps;
    use crate::eval::window::tests::frame;

    /// The windows that runs say there are: of each step the first and the last sample.
    fn windows(runs: &[Run]) -> Vec<(usize, usize, usize)> {
        let window = |run: &Run, at: usize| {
            (run.steps.start + at, run.first + at * run.stride, run.last + at * run.stride)
        };
        runs.iter().flat_map(|run| (0..run.steps.len()).map(move |at| window(run, at))).collect()
    }

    fn check(times: &[i64], range: i64, steps: Steps) {
        let frame = frame(range, steps);
        let (mut expected, mut lasts) = (Vec::new(), Vec::new());
        let sizes = frame.walk(times, |window| {
            let (first, last) = (window.rows.start, window.rows.end - 1);
            expected.push((window.step, first, last));
            lasts.push((window.step, last, last));
        });
        let mut layouts = Layouts::default();
        let layout = layouts.of(times, frame, Shape::Whole, Run::likeness).unwrap();
        assert_eq!(windows(&layout.runs), expected, "{steps:?}");
        let made: Vec<_> = layout.runs.iter().map(Run::likeness).collect();
        assert_eq!((layout.sizes, &layout.made), (sizes, &made));
        for run in &layout.runs {
            for (at, step) in run.steps.clone().enumerate() {
                let first = times[run.first + at * run.stride];
                assert_eq!(first + run.sampled, times[run.last + at * run.stride]);
                assert_eq!(first + run.sampled + run.to_end, steps.at(step));
                assert_eq!(run.to_start + run.sampled + run.to_end, range);
            }
        }
        let mut layouts = Layouts::default();
        let layout = layouts.of(times, frame, Shape::Last, |_| ()).unwrap();
        assert_eq!(windows(&layout.runs), lasts, "{steps:?}");
    }

    #[test]
    fn a_layout_larger_than_what_is_remembered_is_made_all_the_same() {
        let long: Vec<i64> = (0..200_000).map(|i| 10 * i).collect();
        assert!(size_of_val(&long[..]) > BYTES_MAX);
        check(&long, 1_000, Steps::new(0, 2_000_000, 200_000));
        let frame = frame(1_000, Steps::new(0, 2_000_000, 200_000));
        let mut layouts = Layouts::default();
        for times in [&long[..], &long[1..], &long[..50], &long[..], &long[..60]] {
            let layout = layouts.of(times, frame, Shape::Last, |_| ()).unwrap();
            let expected = frame.walk(times, |_| ());
            assert_eq!(layout.sizes, expected, "{} samples", times.len());
        }
    }

    #[test]
    fn runs_are_all_windows() {
        let even: Vec<i64> = (0..50).map(|i| 100 + 10 * i).collect();
        let uneven: Vec<i64> = (0..50).map(|i| 100 + 10 * i + i * i % 7).collect();
        let gaps: Vec<i64> = (0..60).filter(|i| i % 20 < 11).map(|i| 10 * i).collect();
        let late = |i: i64| if i % 23 == 9 { 4 } else { 0 };
        let rarely_late: Vec<i64> = (0..80).map(|i| 10 * i + late(i)).collect();
        let other_interval = (0..25).map(|i| 10 * i).chain((0..30).map(|i| 250 + 20 * i));
        let other_interval: Vec<i64> = other_interval.collect();
        for times in [&[][..], &[120], &even, &uneven, &gaps, &rarely_late, &other_interval] {
            for interval in [1, 3, 7, 10, 20, 25, 40, 200] {
                for range in [1, 9, 10, 35, 100, 1_000] {
                    check(times, range, Steps::new(-20, 800, interval));
                }
            }
        }
    }

    #[test]
    fn even_samples_make_few_runs() {
        let times: Vec<i64> = (0..1_000).map(|i| 10 * i + 3).collect();
        let frame = frame(100, Steps::new(200, 9_000, 20));
        let mut layouts = Layouts::default();
        let layout = layouts.of(&times, frame, Shape::Whole, |_| ()).unwrap();
        let [run] = &layout.runs[..] else { panic!("{:?}", layout.runs) };
        assert_eq!((run.steps.clone(), run.stride), (0..441, 2));
        assert_eq!((run.to_start, run.sampled, run.to_end), (3, 90, 7));
    }

    #[test]
    fn late_samples_matter_at_the_ends_of_windows_alone() {
        let late = |i: &i64| if i % 100 == 50 { 1 } else { 0 };
        let times: Vec<i64> = (0..2_000).map(|i| 10 * i + 3 + late(&i)).collect();
        let frame = frame(400, Steps::new(405, 19_905, 30));
        let mut layouts = Layouts::default();
        let layout = layouts.of(&times, frame, Shape::Whole, |_| ()).unwrap();
        let mut expected = Vec::new();
        frame.walk(&times, |w| expected.push((w.step, w.rows.start, w.rows.end - 1)));
        assert_eq!(windows(&layout.runs), expected);
        let late_ends = expected.iter().filter(|(_, first, last)| {
            [first, last].into_iter().any(|row| late(&i64::try_from(*row).unwrap()) > 0)
        });
        let late_ends = late_ends.count();
        assert!((10..20).contains(&late_ends), "{late_ends} of {} windows", expected.len());
        assert_eq!(layout.runs.len(), 2 * late_ends + 1);
    }

    #[test]
    fn series_at_other_times_have_layouts_of_their_own() {
        let mut layouts = Layouts::default();
        let frame = frame(30, Steps::new(0, 500, 10));
        for round in 0..3 {
            for phase in 0..40 {
                let times: Vec<i64> =
                    (0..50).map(|i| 10 * i + phase % 10 + phase / 20 * 300).collect();
                let layout = layouts.of(&times, frame, Shape::Whole, |_| ()).unwrap();
                let mut expected = Vec::new();
                frame.walk(&times, |w| expected.push((w.step, w.rows.start, w.rows.end - 1)));
                assert_eq!(windows(&layout.runs), expected, "{round} {phase}");
            }
        }
    }
}
