//! Functions of the samples in a window that moves over a series.
//!
//! A series is decoded once. Both ends of the window only move forward, so all windows are found in one
//! pass; functions that can be computed from the ends alone do not look at what is between.

use std::ops::Range;

use foldhash::{HashSet, HashSetExt};
use model::{Charge, Columns, Labels, METRIC_NAME, MatchOp, QueryContext, Timestamp};

use super::annotations::Annotation;
use super::arithmetic::Filter;
use super::block::{ABSENT, Series, Sink, TYPE_LABEL, entry_bytes};
use super::evaluator::{Evaluator, Worker};
use super::failure::{ExecutionError, QueryFailure};
use super::layout::Layouts;
use super::peak::Windows;
use super::plan::{Look, Source, Window, WindowFunction};
use super::quantile::quantile_of_sorted;
use super::rate::Extrapolation;
use super::row::{Histograms, Row, RowRef, weight};
use super::samples::{PerStep, Tally, samples_of_last};
use super::scalar::ScalarRow;
use super::selector::{Decoded, Selected};
use super::sorted_window::SortedWindow;
use super::split::{self, Maker};
use super::steps::Steps;
use super::subquery::stream_source;
use super::{extended, mixed_window, over_time, rate, regression};
use crate::ast::Span;

/// Samples of windows between looks at the clock.
const UNCHECKED_SAMPLES: u64 = 1 << 18;

/// Where the windows of all steps are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'c> {
    /// The steps.
    pub(super) steps: Steps,
    /// Where a step's window ends.
    pub(super) look: Look,
    /// Milliseconds that a window covers: its start is not in it, its end is.
    pub(super) range: i64,
    /// What the query may use.
    pub(super) context: &'c QueryContext,
}

/// The window of one step; has at least one sample.
#[derive(Clone, Debug)]
pub(super) struct Extent {
    /// Which step.
    pub(super) step: usize,
    /// The samples in it.
    pub(super) rows: Range<usize>,
    /// Its end in time.
    pub(super) end: Timestamp,
}

/// Sizes of windows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct WindowSizes {
    /// Samples of all windows together.
    pub(super) total: u64,
    /// Samples of the largest.
    pub(super) largest: u64,
}

impl Frame<'_> {
    /// Computes `f` for each window with samples into `out`; steps of other windows have no sample. Stops early as [`walk`](Self::walk) does.
    pub(super) fn fill(
        self,
        times: &[Timestamp],
        out: &mut [f64],
        mut f: impl FnMut(Extent) -> f64,
    ) -> WindowSizes {
        out.fill(ABSENT);
        self.walk(times, |window| {
            let step = window.step;
            out[step] = f(window);
        })
    }

    /// Hands each window with samples to `f`. Stops early when the query is told to stop; whoever uses the results has to ask.
    pub(super) fn walk(self, times: &[Timestamp], mut f: impl FnMut(Extent)) -> WindowSizes {
        let (mut total, mut checked, mut stopped) = (0, 0, false);
        self.locate(times, |step, rows, end| {
            if stopped {
                return;
            }
            total += rows.len() as u64;
            f(Extent { step, rows, end });
            if total - checked > UNCHECKED_SAMPLES {
                checked = total;
                stopped = self.context.check().is_err();
            }
        })
    }

    /// The steps whose windows may have samples. The others, before and behind a series that was there for a part of the time, may be most.
    pub(super) fn steps_among(self, times: &[Timestamp]) -> Range<usize> {
        let (Some(oldest), Some(newest)) = (times.first(), times.last()) else { return 0..0 };
        let Self { steps, look, range, .. } = self;
        let first = steps.count_while(|step| look.from(step) < *oldest);
        let end = steps.count_while(|step| look.from(step).saturating_sub(range) < *newest);
        first..end
    }

    /// Hands step, samples and end of each window with samples to `f`, which must not take long.
    #[inline]
    pub(super) fn locate(
        self,
        times: &[Timestamp],
        mut f: impl FnMut(usize, Range<usize>, Timestamp),
    ) -> WindowSizes {
        let mut cursor = Cursor::default();
        let mut sizes = WindowSizes::default();
        for step in self.steps_among(times) {
            let end = self.look.from(self.steps.at(step));
            let rows = cursor.move_to(times, end.saturating_sub(self.range), end);
            if !rows.is_empty() {
                sizes.add(rows.len());
                f(step, rows, end);
            }
        }
        sizes
    }
}

impl WindowSizes {
    /// Counts a window of so many samples.
    #[inline]
    pub(super) fn add(&mut self, samples: usize) {
        self.total += samples as u64;
        self.largest = self.largest.max(samples as u64);
    }
}

/// Where a window is that moves over samples.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    rows: Range<usize>,
    /// Samples by which its ends were moved on last.
    moved: (usize, usize),
}

impl Cursor {
    /// The samples after `start` and up to `end`; neither may be less than in the call before.
    #[inline]
    pub(super) fn move_to(
        &mut self,
        times: &[Timestamp],
        start: Timestamp,
        end: Timestamp,
    ) -> Range<usize> {
        let before = self.rows.clone();
        // Samples come evenly more often than not, and looking whether a window is where it is expected is quicker than looking for it.
        let expected = before.start + self.moved.0..before.end + self.moved.1;
        if is_between(times, &expected, start, end) {
            self.rows = expected;
            return self.rows.clone();
        }
        self.rows.end = first_after(times, self.rows.end, end);
        self.rows.start = first_after(&times[..self.rows.end], self.rows.start, start);
        self.moved = (self.rows.start - before.start, self.rows.end - before.end);
        self.rows.clone()
    }

    /// Moves on by so many samples, to where a window is known to be.
    pub(super) const fn skip(&mut self, samples: usize) {
        self.rows.start += samples;
        self.rows.end += samples;
    }
}

/// The first sample from `from` on that is after `t`; the number of samples if there is none.
#[inline]
fn first_after(times: &[Timestamp], from: usize, t: Timestamp) -> usize {
    /// Most windows move on by few samples, but the first begins and ends anywhere.
    const NEAR: usize = 4;
    let near = times.len().min(from + NEAR);
    let found = (from..near).find(|&at| times[at] > t);
    found.unwrap_or_else(|| near + times[near..].partition_point(|time| *time <= t))
}

/// Whether just the samples of `rows`, one at least, are after `start` and up to `end`. May say no where there is none before.
#[inline]
pub(super) fn is_between(
    times: &[Timestamp],
    rows: &Range<usize>,
    start: Timestamp,
    end: Timestamp,
) -> bool {
    // Ends in the window, and their neighbours, which are not.
    let (Some(before), Some(last)) = (rows.start.checked_sub(1), rows.end.checked_sub(1)) else {
        return false;
    };
    let Some(&[before, first]) = times.get(before..=rows.start) else { return false };
    let Some(&last) = times.get(last) else { return false };
    before <= start
        && start < first
        && first <= last
        && last <= end
        && times.get(rows.end).is_none_or(|after| end < *after)
}

/// The arguments of a window function besides the window.
#[derive(Debug)]
pub(super) struct Parameters {
    rows: Vec<(ScalarRow, Span)>,
}

impl Parameters {
    /// Parameter `index` at `step`.
    pub(super) fn at(&self, index: usize, step: usize) -> f64 {
        self.rows.get(index).map_or(f64::NAN, |(row, _)| row.at(step))
    }

    /// Where parameter `index` stands.
    pub(super) fn span(&self, index: usize) -> Span {
        self.rows.get(index).map_or_else(Span::default, |(_, span)| *span)
    }
}

/// A window function with all that it takes to compute it for a series.
struct WindowMaker<'e> {
    window: &'e Window<'e>,
    parameters: Parameters,
    frame: Frame<'e>,
    /// What is counted for each step.
    per_step: PerStep,
    /// What is held is counted as Prometheus does.
    peaks: bool,
    /// Where series come from; `None` if a subquery has them.
    selected: Option<Selected<'e>>,
    /// Of what does not pass, labels are not looked at.
    filter: Option<Filter>,
}

/// What a thread keeps.
struct WindowState {
    decoded: Decoded,
    layouts: Layouts<Extrapolation>,
}

/// What is computed of a series, besides floats.
struct Computed {
    series: Series,
    histograms: Histograms,
    /// Of the row.
    samples: u64,
    /// Samples of the largest window.
    largest: u64,
    /// And of the last, if that is asked for.
    last: u64,
    tally: Tally,
    decoded: u64,
}

impl WindowMaker<'_> {
    /// Computes all windows of a series that has samples.
    fn compute(
        &self,
        worker: &Worker<'_>,
        layouts: &mut Layouts<Extrapolation>,
        series: impl Fn() -> Series,
        columns: &Columns,
        out: &mut [f64],
    ) -> Result<Computed, QueryFailure> {
        let Self { window, parameters, frame, .. } = self;
        let function = window.function;
        let plain = columns.histograms().is_empty()
            && window.source.extension().is_none()
            && !mixed_window::uses_starts(worker, function, columns);
        let (series, sizes, histograms) = if plain {
            let sizes = apply(worker, function, columns, *frame, layouts, parameters, out)?;
            let passes = self.filter.is_none_or(|filter| filter.passes_any(out));
            let series = if passes { series() } else { Series::new(Labels::empty()) };
            (series, sizes, Histograms::default())
        } else {
            let series = series();
            let (sizes, histograms) =
                mixed_window::apply(worker, window, &series, columns, *frame, parameters, out)?;
            (series, sizes, histograms)
        };
        // Windows that overlap were looked at as often, and steps without samples, too.
        let windows = usize::try_from(sizes.total).unwrap_or(usize::MAX);
        worker.check_after(windows.saturating_add(frame.steps.count))?;
        let samples = RowRef { values: out, histograms: &histograms }.samples();
        let source = &window.source;
        let reached = match source.extension() {
            Some(extension) => extended::extended_frame(*frame, extension, worker.lookback),
            None => *frame,
        };
        let (stored, per_step) = (source.is_stored(), self.per_step);
        let tally = Tally::of_windows(reached, columns, sizes.total, stored, per_step)?;
        let largest = sizes.largest;
        let last = if self.peaks { samples_of_last(reached, columns) } else { 0 };
        Ok(Computed { series, histograms, samples, largest, last, tally, decoded: 0 })
    }
}

impl Maker for WindowMaker<'_> {
    type State = WindowState;
    /// `None` for a series without samples.
    type Made = Option<Computed>;

    fn start(&self) -> Result<WindowState, QueryFailure> {
        let decoded = Decoded::new(self.frame.context)?;
        Ok(WindowState { decoded, layouts: Layouts::default() })
    }

    fn make(
        &self,
        worker: &Worker<'_>,
        state: &mut WindowState,
        index: usize,
        row: &mut [f64],
    ) -> Result<Option<Computed>, QueryFailure> {
        let Some(selected) = &self.selected else { return Ok(None) };
        let (columns, decoded) = selected.read_samples(worker, index, &mut state.decoded)?;
        if columns.is_empty() {
            let (series, histograms) = (Series::new(Labels::empty()), Histograms::default());
            let tally = Tally::default();
            return Ok(Some(Computed {
                series,
                histograms,
                samples: 0,
                largest: 0,
                last: 0,
                tally,
                decoded,
            }));
        }
        let series = || selected.series(index);
        let computed = self.compute(worker, &mut state.layouts, series, columns, row)?;
        Ok(Some(Computed { decoded, ..computed }))
    }

    fn work(&self, made: &Option<Computed>) -> u64 {
        made.as_ref().map_or(0, |made| made.decoded) + self.frame.steps.count as u64
    }

    fn bytes(&self, made: &Option<Computed>) -> usize {
        let own = made
            .as_ref()
            .map_or(0, |made| made.series.labels.packed_bytes() + made.histograms.bytes());
        size_of::<Computed>() + own
    }
}

/// Evaluates a window function series by series. Labels of series of which nothing passes `filter` may be missing.
///
/// # Errors
/// [`QueryFailure`]
pub(super) fn stream(
    evaluator: &Evaluator<'_>,
    window: &Window<'_>,
    steps: Steps,
    filter: Option<Filter>,
    sink: &mut Sink<'_>,
) -> Result<(), QueryFailure> {
    let mut rows = Vec::with_capacity(window.parameters.len());
    for (plan, span) in &window.parameters {
        rows.push((evaluator.scalar(plan, steps)?, *span));
    }
    let parameters = Parameters { rows };
    let (look, range) = (window.source.look(), window.source.range());
    let frame = Frame { steps, look, range, context: evaluator.context };
    let per_step = evaluator.samples.counts_per_step();
    // Labels are looked at here, too, where there may be some twice or their name may be odd.
    let remarks = may_remark_on_name(window, evaluator.type_labels);
    let filter = filter.filter(|_| !window.may_collide && !remarks);
    let peaks = evaluator.peaks.is_some();
    let mut maker =
        WindowMaker { window, parameters, frame, per_step, peaks, selected: None, filter };
    let mut handing = HandingOn {
        evaluator,
        window,
        seen: HashSet::new(),
        held: evaluator.context.budget.charge(0)?,
        kept: 0,
        windows: Windows::default(),
    };
    let before = evaluator.samples.held();
    match &window.source {
        Source::Selector { selector, range } => {
            let reach = extended::reach(selector.extension, *range, evaluator.lookback);
            maker.selected = Selected::of_windows(evaluator, selector, reach, steps)?;
            let series = maker.selected.as_ref().map_or(0, Selected::len);
            split::for_each(evaluator, &maker, series, steps.count, &mut |made, row| {
                made.map_or(Ok(()), |computed| handing.hand_on(computed, row, sink))
            })?;
        }
        Source::Subquery(_) => {
            let mut out = evaluator.empty_row(steps)?;
            let mut layouts = Layouts::default();
            stream_source(evaluator, &window.source, steps, &mut |series, columns| {
                let series = || series.clone();
                let made = maker.compute(evaluator, &mut layouts, series, columns, &mut out)?;
                handing.hand_on(made, &mut out, sink)
            })?;
        }
    }
    evaluator.samples.release_to(before, handing.kept);
    if let Some(peaks) = &evaluator.peaks {
        peaks.push(handing.windows.cost(evaluator.context));
    }
    Ok(())
}

/// Hands rows on, and counts.
struct HandingOn<'e> {
    evaluator: &'e Evaluator<'e>,
    window: &'e Window<'e>,
    /// Labels so far, if there may be some twice.
    seen: HashSet<Labels>,
    held: Charge,
    /// Samples of the rows so far.
    kept: u64,
    windows: Windows,
}

impl HandingOn<'_> {
    fn hand_on(
        &mut self,
        computed: Computed,
        row: &mut [f64],
        sink: &mut Sink<'_>,
    ) -> Result<(), QueryFailure> {
        let Self { evaluator, window, .. } = self;
        let Computed { mut series, histograms, samples, largest, last, tally, decoded } = computed;
        self.windows.add(largest, last, samples);
        evaluator.samples.decoded(decoded);
        evaluator.samples.count(&tally);
        evaluator.samples.hold_for_a_moment(largest.max(samples))?;
        if samples == 0 {
            return Ok(());
        }
        evaluator.samples.hold(samples)?;
        self.kept += samples;
        if samples > histograms.iter().map(|(_, histogram)| weight(histogram)).sum() {
            remark_on_name(evaluator, window, &series);
        }
        if !window.function.keeps_name() {
            series.drop_name(evaluator.delayed_names);
        }
        if window.may_collide {
            self.held.grow(entry_bytes(&series.labels))?;
            if !self.seen.insert(series.labels.clone()) {
                return Err(ExecutionError::DuplicateLabels.into());
            }
        }
        sink(series, Row { values: row, histograms })
    }
}

/// Whether a name is that of a counter.
fn is_counter(name: &str) -> bool {
    ["_total", "_sum", "_count", "_bucket"].iter().any(|suffix| name.ends_with(suffix))
}

/// Whether there may be a series whose name or, where `type_labels` tell it, type is worth a remark.
fn may_remark_on_name(window: &Window<'_>, type_labels: bool) -> bool {
    if !matches!(window.function, WindowFunction::Rate | WindowFunction::Increase) {
        return false;
    }
    if type_labels {
        return true;
    }
    let Source::Selector { selector, .. } = &window.source else { return true };
    !selector.matchers.iter().any(|matcher| {
        let is_name = matcher.name() == METRIC_NAME && matcher.op() == MatchOp::Equal;
        is_name && is_counter(matcher.value())
    })
}

/// `rate` of what does not look like a counter is worth a remark.
fn remark_on_name(evaluator: &Evaluator<'_>, window: &Window<'_>, series: &Series) {
    if !matches!(window.function, WindowFunction::Rate | WindowFunction::Increase) {
        return;
    }
    let name = series.labels.metric_name();
    if name.is_empty() {
        return;
    }
    if evaluator.type_labels {
        let of = series.labels.get(TYPE_LABEL).unwrap_or_default();
        if !matches!(of, "counter" | "histogram") {
            let remark = Annotation::PossibleNonCounterType { metric: name, of };
            evaluator.annotate(&remark, window.source.span());
        }
    } else if !is_counter(name) {
        evaluator.annotate(&Annotation::PossibleNonCounter(name), window.source.span());
    }
}

/// Computes `function` for each window into `out`; all samples are floats.
pub(super) fn apply(
    worker: &Worker<'_>,
    function: WindowFunction,
    columns: &Columns,
    frame: Frame<'_>,
    layouts: &mut Layouts<Extrapolation>,
    parameters: &Parameters,
    out: &mut [f64],
) -> Result<WindowSizes, QueryFailure> {
    let (times, values) = (columns.times(), columns.floats());
    Ok(match function {
        WindowFunction::Rate => rate::extrapolated(columns, frame, layouts, rate::Kind::Rate, out)?,
        WindowFunction::Increase => {
            rate::extrapolated(columns, frame, layouts, rate::Kind::Increase, out)?
        }
        WindowFunction::Delta => {
            rate::extrapolated(columns, frame, layouts, rate::Kind::Delta, out)?
        }
        WindowFunction::Irate => rate::instant(columns, frame, true, out),
        WindowFunction::Idelta => rate::instant(columns, frame, false, out),
        WindowFunction::Resets => rate::count_pairs(columns, frame, out, |a, b| b < a),
        WindowFunction::Changes => {
            rate::count_pairs(columns, frame, out, |a, b| a != b && !(a.is_nan() && b.is_nan()))
        }
        WindowFunction::Deriv => regression::derivative(columns, frame, out),
        WindowFunction::PredictLinear => {
            regression::prediction(columns, frame, out, |step| parameters.at(0, step))
        }
        WindowFunction::DoubleExponentialSmoothing => {
            regression::smoothing(columns, frame, out, |step| {
                (parameters.at(0, step), parameters.at(1, step))
            })?
        }
        WindowFunction::Quantile => {
            let _copy = worker.context.budget.charge(2 * size_of_val(values))?;
            let mut sorted = SortedWindow::new(values);
            frame.fill(times, out, |window| {
                let q = parameters.at(0, window.step);
                if !(0.0..=1.0).contains(&q) {
                    worker.annotate(&Annotation::InvalidQuantile(q), parameters.span(0));
                }
                quantile_of_sorted(q, sorted.move_to(window.rows))
            })
        }
        WindowFunction::Mad => {
            let _copy = worker.context.budget.charge(2 * size_of_val(values))?;
            over_time::apply(function, columns, frame, out)
        }
        function => over_time::apply(function, columns, frame, out),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::LazyLock;

    use super::*;
    use model::Sample;

    /// Columns with a sample every ten milliseconds from 10 on.
    pub(in crate::eval) fn columns(values: &[f64]) -> Columns {
        (1..).zip(values).map(|(i, v)| Sample { t: i * 10, v: *v }).collect()
    }

    /// Windows of `range` at each of `steps`, looking at the steps themselves.
    pub(in crate::eval) fn frame(range: i64, steps: Steps) -> Frame<'static> {
        static CONTEXT: LazyLock<QueryContext> = LazyLock::new(QueryContext::unbounded);
        Frame { steps, look: Look { offset: 0, at: None }, range, context: &CONTEXT }
    }

    fn windows(range: i64, steps: Steps, times: &[i64]) -> Vec<Range<usize>> {
        let mut all = vec![0..0; steps.count];
        let mut out = vec![0.0; steps.count];
        frame(range, steps).fill(times, &mut out, |window| {
            all[window.step] = window.rows;
            1.0
        });
        all
    }

    #[test]
    fn windows_are_open_on_the_left_and_closed_on_the_right() {
        let times = [10, 20, 30, 40];
        assert_eq!(
            windows(20, Steps::new(0, 60, 10), &times),
            [0..0, 0..1, 0..2, 1..3, 2..4, 3..4, 0..0],
        );
        assert_eq!(windows(20, Steps::single(35), &times).first(), Some(&(1..3)));
        assert_eq!(windows(5, Steps::new(5, 35, 10), &times), [0..0, 0..0, 0..0, 0..0]);
    }

    #[test]
    fn sizes_add_up() {
        let sizes = frame(20, Steps::new(0, 60, 10)).fill(&[10, 20, 30], &mut [0.0; 7], |_| 1.0);
        assert_eq!(sizes, WindowSizes { total: 6, largest: 2 });
    }
}
