//! Where the windows of all steps lie among the samples of a series.
//!
//! This depends on the times of samples alone, and series of one target have the same times. So it is found once for all of them, and written
//! down as runs: samples come evenly more often than not, and then the windows of step after step are alike but for being further on.

use std::ops::Range;

use model::{Charge, QueryContext, Timestamp};

use super::failure::QueryFailure;
use super::window::{Frame, WindowSizes};

/// Layouts that are remembered, and the bytes that they may hold; the newest is remembered in any case.
const LAYOUTS_MAX: usize = 16;
const BYTES_MAX: usize = 1 << 20;

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

impl<T> Layouts<T> {
    /// The layout of the windows of `frame` among samples at `times`; `make` is given each run of a new one. All calls must be with the same
    /// frame, shape and meaning of `make`.
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

impl<T> Layout<T> {
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
        let mut even = Even::new(steps.interval);
        let (mut first, mut after_last, mut step) = (0, 0, 0);
        while step < steps.count {
            let end = look.from(steps.at(step));
            let start = end.saturating_sub(range);
            while times.get(after_last).is_some_and(|t| *t <= end) {
                after_last += 1;
            }
            while first < after_last && times[first] <= start {
                first += 1;
            }
            step += 1;
            if first == after_last {
                continue;
            }
            let (last, samples) = (after_last - 1, (after_last - first) as u64);
            self.sizes.total += samples;
            self.sizes.largest = self.sizes.largest.max(samples);
            let this = step - 1..step;
            let window = match shape {
                Shape::Last => Run::of(this, last..after_last, (0, 0, 0)),
                Shape::Whole => {
                    let to_start = times[first].saturating_sub(start);
                    let sampled = times[last].saturating_sub(times[first]);
                    let to_end = end.saturating_sub(times[last]);
                    Run::of(this, first..after_last, (to_start, sampled, to_end))
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
            if look.at.is_none() {
                let stride = run.stride;
                let like_this = even.windows_after(times, stride, first..after_last);
                let like_this = like_this.min(steps.count - step);
                run.steps.end += like_this;
                first += like_this * stride;
                after_last += like_this * stride;
                step += like_this;
                self.sizes.total += like_this as u64 * samples;
            }
        }
        self.made.clear();
        self.made.extend(self.runs.iter().map(make));
    }
}

/// Finds out how long samples come evenly, so that windows need not be looked for one by one.
struct Even {
    /// Milliseconds from step to step.
    interval: i64,
    /// Samples in which so many milliseconds are to pass; 0: none were looked at.
    stride: usize,
    /// Where that was looked at.
    rows: Range<usize>,
    /// Changes of the stride that are followed.
    changes_left: usize,
}

impl Even {
    const fn new(interval: i64) -> Self {
        Self { interval, stride: 0, rows: 0..0, changes_left: 16 }
    }

    /// How many of `times` are followed after one step by those in `follows`, from the first on.
    fn count_even(&self, times: &[Timestamp], follows: &[Timestamp]) -> usize {
        const AT_A_TIME: usize = 32;
        let off = |(t, next): (&i64, &i64)| next.wrapping_sub(*t) ^ self.interval;
        let stretches = times.chunks(AT_A_TIME).zip(follows.chunks(AT_A_TIME));
        // Looking at several at a time is quicker than looking where the first is that does not fit.
        let even = stretches.take_while(|(times, follows)| {
            times.iter().zip(*follows).fold(0, |any, pair| any | off(pair)) == 0
        });
        let even = (even.count() * AT_A_TIME).min(times.len());
        let rest = times[even..].iter().zip(&follows[even..]);
        even + rest.take_while(|pair| off(*pair) == 0).count()
    }

    /// Over how many more steps the window of `samples` moves on by `stride` samples from step to step.
    ///
    /// It does if each of its samples, and the two right outside of it, are followed by another after `stride` samples and just one step.
    fn windows_after(
        &mut self,
        times: &[Timestamp],
        stride: usize,
        samples: Range<usize>,
    ) -> usize {
        let Some(from) = samples.start.checked_sub(1) else { return 0 };
        if stride != self.stride {
            if self.changes_left == 0 || stride == 0 {
                return 0;
            }
            self.changes_left -= 1;
            (self.stride, self.rows) = (stride, from..from);
        }
        if from > self.rows.end {
            self.rows = from..from;
        }
        let from = self.rows.end.min(times.len());
        let follows = times.get(from + stride..).unwrap_or_default();
        self.rows.end += self.count_even(&times[from..][..follows.len()], follows);
        // All rows from the one before the window up to this one move on.
        let Some(spare) = self.rows.end.checked_sub(samples.end + 1) else { return 0 };
        spare / stride + 1
    }
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
        let layout = layouts.of(times, frame, Shape::Whole, |run| run.clone()).unwrap();
        assert_eq!(windows(&layout.runs), expected, "{steps:?}");
        assert_eq!((layout.sizes, &layout.made), (sizes, &layout.runs));
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
        for times in [&[][..], &[120], &even, &uneven, &gaps] {
            for interval in [1, 3, 7, 10, 20, 25, 200] {
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
