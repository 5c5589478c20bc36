//! Ranges that are looked beyond: `anchored`, which begins with the last sample before the window, and `smoothed`, which interpolates
//! between the samples around its ends.

use std::sync::Arc;

use model::{Columns, CounterReset, FloatHistogram, IncompatibleSchemas, Timestamp};

use super::annotations::{Annotation, Operation};
use super::block::{ABSENT, Series, Sink};
use super::evaluator::Evaluator;
use super::failure::{ExecutionError, QueryFailure};
use super::mixed_window::{Context, Samples};
use super::plan::{Look, Selector, WindowFunction};
use super::range_seconds;
use super::rate::Kind;
use super::row::{Histograms, OwnedCell, Row, put};
use super::selector;
use super::steps::Steps;
use super::window::{Extent, Frame};
use crate::ast::RangeExtension;

/// How far samples are looked for: milliseconds back from the end of a window of `range` milliseconds, and ahead of it.
pub(super) const fn reach(
    extension: Option<RangeExtension>,
    range: i64,
    lookback: i64,
) -> (i64, i64) {
    match extension {
        None => (range, 0),
        Some(RangeExtension::Anchored) => (range.saturating_add(lookback), 0),
        Some(RangeExtension::Smoothed) => (range.saturating_add(lookback), lookback),
    }
}

/// The windows with what is looked at beyond them.
pub(super) fn extended_frame(
    frame: Frame<'_>,
    extension: RangeExtension,
    lookback: i64,
) -> Frame<'_> {
    let (back, ahead) = reach(Some(extension), frame.range, lookback);
    let offset = frame.look.offset.saturating_sub(ahead);
    Frame { look: Look { offset, ..frame.look }, range: back.saturating_add(ahead), ..frame }
}

/// Start and end of the window proper.
#[derive(Clone, Copy)]
struct Bounds {
    start: Timestamp,
    end: Timestamp,
    smoothed: bool,
}

/// Which samples of those in reach a window begins and ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ends {
    first: usize,
    last: usize,
}

impl Bounds {
    /// The last sample at or before the start, or else the first; the last, or (`smoothed`) the first at or after the end. `None` if
    /// none of them has anything to do with the window.
    fn ends(self, times: &[Timestamp]) -> Option<Ends> {
        let ends = self.ends_up_to(times)?;
        let after = self.smoothed && times[ends.first] > self.end;
        (!after).then_some(ends)
    }

    /// The same, also where all samples are after the window.
    fn ends_up_to(self, times: &[Timestamp]) -> Option<Ends> {
        let last = times.len().checked_sub(1)?;
        let first = times[..last].partition_point(|t| *t <= self.start).saturating_sub(1);
        let mut ends = Ends { first, last };
        if self.smoothed {
            ends.last = times[..last].partition_point(|t| *t < self.end);
        }
        (times[ends.last] > self.start).then_some(ends)
    }

    /// Without the ends where they are not inside of the window.
    fn inside(self, times: &[Timestamp], ends: Ends) -> std::ops::Range<usize> {
        let first = ends.first + usize::from(times[ends.first] <= self.start);
        let after_last = ends.last + usize::from(times[ends.last] < self.end);
        first..after_last.max(first)
    }

    /// Between which samples the value at the start is to be interpolated, if it is.
    fn left_gap(self, times: &[Timestamp], ends: Ends) -> Option<(usize, usize)> {
        (self.smoothed && times[ends.first] < self.start).then_some((ends.first, ends.first + 1))
    }

    /// Between which samples the value at the end is to be interpolated, if it is.
    fn right_gap(self, times: &[Timestamp], ends: Ends) -> Option<(usize, usize)> {
        (self.smoothed && ends.last > 0 && times[ends.last] > self.end)
            .then(|| (ends.last - 1, ends.last))
    }
}

/// The value at `t` between two samples. A counter that was reset began at zero.
#[expect(clippy::cast_precision_loss, reason = "distances are shorter than 2^53 ms")]
fn interpolate(
    (before_t, before): (Timestamp, f64),
    (after_t, after): (Timestamp, f64),
    t: Timestamp,
    is_counter: bool,
) -> f64 {
    let before = if is_counter && after < before { 0.0 } else { before };
    before + (after - before) * (t - before_t) as f64 / (after_t - before_t) as f64
}

/// The values at both ends of a window of floats.
fn float_ends(
    times: &[Timestamp],
    values: &[f64],
    bounds: Bounds,
    ends: Ends,
    is_counter: bool,
) -> (f64, f64) {
    let at = |row: usize| (times[row], values[row]);
    let between = |(a, b): (usize, usize), t| interpolate(at(a), at(b), t, is_counter);
    let left = bounds.left_gap(times, ends).map(|gap| between(gap, bounds.start));
    let right = bounds.right_gap(times, ends).map(|gap| between(gap, bounds.end));
    (left.unwrap_or(values[ends.first]), right.unwrap_or(values[ends.last]))
}

/// Evaluates a function of an extended range at one window. `frame` is of the windows proper, `samples` are those in reach.
pub(super) fn evaluate(
    context: &Context<'_>,
    samples: &Samples<'_>,
    function: WindowFunction,
    extension: RangeExtension,
) -> Option<OwnedCell> {
    let kind = match function {
        WindowFunction::Rate => Kind::Rate,
        WindowFunction::Increase => Kind::Increase,
        WindowFunction::Delta => Kind::Delta,
        _ => return None,
    };
    if context.is_mixed(samples) {
        return None;
    }
    let end = context.frame.look.from(context.frame.steps.at(samples.extent.step));
    let smoothed = extension == RangeExtension::Smoothed;
    let bounds = Bounds { start: end.saturating_sub(context.frame.range), end, smoothed };
    if !samples.histograms.is_empty() {
        return histogram_change(context, samples, bounds, kind);
    }
    let rows = samples.extent.rows.clone();
    let times = &samples.columns.times()[rows.clone()];
    let values = &samples.columns.floats()[rows];
    let ends = bounds.ends(times)?;
    let (left, right) = float_ends(times, values, bounds, ends, kind != Kind::Delta);
    let mut change = right - left;
    if kind != Kind::Delta {
        let (mut correction, mut before) = (0.0, left);
        let inside = values[bounds.inside(times, ends)].iter().copied();
        for value in inside.chain([right]) {
            if value < before {
                correction += before;
            }
            before = value;
        }
        change += correction;
    }
    if kind == Kind::Rate {
        change /= range_seconds(context.frame.range);
    }
    Some(OwnedCell::Float(change))
}

/// The samples of a window that begins with the last sample at or before its start: for `resets` and `changes`.
pub(super) fn anchored_rows(context: &Context<'_>, samples: &Samples<'_>) -> Option<Extent> {
    let frame = context.frame;
    let end = frame.look.from(frame.steps.at(samples.extent.step));
    let start = end.saturating_sub(frame.range);
    let rows = samples.extent.rows.clone();
    let times = &samples.columns.times()[rows.clone()];
    let before = times.partition_point(|t| *t <= start);
    if before == times.len() {
        return None;
    }
    let rows = rows.start + before.saturating_sub(1)..rows.end;
    Some(Extent { rows, ..samples.extent.clone() })
}

/// Histograms in reach of a window.
type InReach<'c> = &'c [(u32, Arc<FloatHistogram>)];

fn histogram_change(
    context: &Context<'_>,
    samples: &Samples<'_>,
    bounds: Bounds,
    kind: Kind,
) -> Option<OwnedCell> {
    let times = &samples.columns.times()[samples.extent.rows.clone()];
    let all = samples.histograms;
    let ends = bounds.ends(times)?;
    let is_counter = kind != Kind::Delta;
    let is_gauge = |histogram: &FloatHistogram| histogram.counter_reset == CounterReset::Gauge;
    let custom = all[ends.first].1.uses_custom_buckets();
    for (_, histogram) in &all[ends.first..=ends.last] {
        if histogram.uses_custom_buckets() != custom {
            context.remark(&Annotation::MixedSchemas(context.metric));
            return None;
        }
        if is_counter && is_gauge(histogram) {
            context.remark(&Annotation::HistogramNotCounter(context.metric));
        }
    }
    let at = |row: usize| (times[row], &*all[row].1);
    let remark = |annotation: Annotation<'_>| context.remark(&annotation);
    let between = |(a, b), t| interpolate_histograms(at(a), at(b), t, is_counter, &remark).ok();
    let left = match bounds.left_gap(times, ends) {
        Some(gap) => between(gap, bounds.start)?,
        None => FloatHistogram::clone(&all[ends.first].1),
    };
    let right = match bounds.right_gap(times, ends) {
        Some(gap) => between(gap, bounds.end)?,
        None => FloatHistogram::clone(&all[ends.last].1),
    };
    if !is_counter && (!is_gauge(&left) || !is_gauge(&right)) {
        context.remark(&Annotation::HistogramNotGauge(context.metric));
    }
    let mut change = right.clone();
    reconcile(&remark, Operation::Subtraction, change.subtract(&left)).ok()?;
    if is_counter && let Some(lost) = lost(context, all, bounds, times, ends, (&left, &right))? {
        reconcile(&remark, Operation::Addition, change.add(&lost)).ok()?;
    }
    if kind == Kind::Rate {
        change.divide(range_seconds(context.frame.range));
    }
    change.counter_reset = CounterReset::Gauge;
    change.compact(0);
    Some(change.into())
}

/// What was lost in counter resets between the ends; the outer `None` if it cannot be added up.
fn lost(
    context: &Context<'_>,
    all: InReach<'_>,
    bounds: Bounds,
    times: &[Timestamp],
    ends: Ends,
    (left, right): (&FloatHistogram, &FloatHistogram),
) -> Option<Option<FloatHistogram>> {
    let mut first = ends.first + 1;
    let mut before = left;
    if let Some((a, b)) = bounds.left_gap(times, ends)
        && all[b].1.is_reset_since(&all[a].1)
    {
        // The interpolation to the left has taken this reset into account.
        before = &all[b].1;
        first += 1;
    }
    if first > ends.last {
        return Some(None);
    }
    let mut lost: Option<FloatHistogram> = None;
    // The last sample is what the right end is, or was made of.
    let inside = all[first..ends.last].iter().map(|(_, histogram)| &**histogram);
    for histogram in inside.chain([right]) {
        if histogram.is_reset_since(before) {
            match &mut lost {
                None => lost = Some(before.clone()),
                Some(lost) => {
                    let remark = |annotation: Annotation<'_>| context.remark(&annotation);
                    reconcile(&remark, Operation::Addition, lost.add(before)).ok()?;
                }
            }
        }
        before = histogram;
    }
    Some(lost)
}

/// Says that bounds were reconciled, if they were.
fn reconcile(
    remark: &dyn Fn(Annotation<'_>),
    operation: Operation,
    combined: Result<model::Combined, IncompatibleSchemas>,
) -> Result<(), IncompatibleSchemas> {
    if combined?.bounds_reconciled {
        remark(Annotation::BoundsReconciled(operation));
    }
    Ok(())
}

/// The histogram at `t` between two others. A counter that was reset began with nothing.
#[expect(clippy::cast_precision_loss, reason = "distances are shorter than 2^53 ms")]
fn interpolate_histograms(
    (before_t, before): (Timestamp, &FloatHistogram),
    (after_t, after): (Timestamp, &FloatHistogram),
    t: Timestamp,
    is_counter: bool,
    remark: &dyn Fn(Annotation<'_>),
) -> Result<FloatHistogram, IncompatibleSchemas> {
    if t == before_t {
        return Ok(before.clone());
    }
    let mut result = after.clone();
    if t == after_t {
        return Ok(result);
    }
    let fraction = (t - before_t) as f64 / (after_t - before_t) as f64;
    if is_counter && after.is_reset_since(before) {
        result.multiply(fraction);
        return Ok(result);
    }
    reconcile(remark, Operation::Subtraction, result.subtract(before))?;
    result.multiply(fraction);
    reconcile(remark, Operation::Addition, result.add(before))?;
    Ok(result)
}

/// Hands the interpolated sample that each step sees to `sink`, series by series.
///
/// # Errors
/// [`QueryFailure`]
pub(super) fn stream(
    evaluator: &Evaluator<'_>,
    selector: &Selector<'_>,
    steps: Steps,
    sink: &mut Sink<'_>,
) -> Result<(), QueryFailure> {
    let lookback = evaluator.lookback;
    let look = Look { offset: selector.look.offset.saturating_sub(lookback), ..selector.look };
    let range = lookback.saturating_mul(2);
    let frame = Frame { steps, look, range, context: evaluator.context };
    let mut out = evaluator.empty_row(steps)?;
    selector::stream_range(evaluator, selector, (lookback, lookback), steps, &mut |of, columns| {
        let metric = of.labels.metric_name();
        let remark = |annotation: Annotation<'_>| evaluator.annotate(&annotation, selector.span);
        out.fill(ABSENT);
        let mut histograms = Histograms::default();
        let sizes = frame.walk(columns.times(), |extent| {
            let (step, t) = (extent.step, selector.look.from(steps.at(extent.step)));
            let samples = Samples::new(columns, extent);
            put(&mut out, &mut histograms, step, smoothed_at(&samples, t, metric, &remark));
        });
        // What was told to stop has not looked at all windows.
        evaluator.check_after(usize::try_from(sizes.total).unwrap_or(usize::MAX))?;
        let row = Row { values: &mut out, histograms };
        let samples = row.samples();
        if samples == 0 {
            return Ok(());
        }
        // Prometheus does not count what it interpolates between.
        evaluator.samples.hold(samples)?;
        sink(Series::new(of.labels.clone()), row)
    })
}

/// The sample at `t`: one that is there, one between two others, or else the last one before.
fn smoothed_at(
    samples: &Samples<'_>,
    t: Timestamp,
    metric: &str,
    remark: &dyn Fn(Annotation<'_>),
) -> Option<OwnedCell> {
    if samples.floats() > 0 && !samples.histograms.is_empty() {
        remark(Annotation::MixedSamples(metric));
        return None;
    }
    let rows = samples.extent.rows.clone();
    let times = &samples.columns.times()[rows.clone()];
    let after = times.partition_point(|sample| *sample < t);
    if times.get(after) == Some(&t) {
        return Some(samples.cell(rows.start + after));
    }
    let before = after.checked_sub(1)?;
    if samples.histograms.is_empty() {
        let values = &samples.columns.floats()[rows];
        let at = |row: usize| (times[row], values[row]);
        let value = if after < times.len() {
            interpolate(at(before), at(after), t, false)
        } else {
            values[before]
        };
        return Some(OwnedCell::Float(value));
    }
    let all = samples.histograms;
    let last = &*all[before].1;
    let Some((_, next)) = all.get(after) else {
        // What is known about a reset is about the sample itself.
        return Some(
            FloatHistogram { counter_reset: CounterReset::Unknown, ..last.clone() }.into(),
        );
    };
    if last.uses_custom_buckets() != next.uses_custom_buckets() {
        remark(Annotation::MixedSchemas(metric));
        return None;
    }
    let both = [last.counter_reset, next.counter_reset];
    let is_counter = both != [CounterReset::Gauge; 2];
    let between = (times[before], last);
    interpolate_histograms(between, (times[after], next), t, is_counter, remark)
        .ok()
        .map(OwnedCell::from)
}

/// The samples of a range with those at its ends, for the answer to a query for the range itself.
///
/// # Errors
/// [`ExecutionError::ExtensionHistograms`]
pub(super) fn with_ends(
    columns: &Columns,
    end: Timestamp,
    range: i64,
    extension: RangeExtension,
) -> Result<Columns, ExecutionError> {
    if !columns.histograms().is_empty() {
        return Err(ExecutionError::ExtensionHistograms(extension.as_str()));
    }
    let smoothed = extension == RangeExtension::Smoothed;
    let bounds = Bounds { start: end.saturating_sub(range), end, smoothed };
    let mut result = Columns::new();
    let times = columns.times();
    let Some(ends) = bounds.ends_up_to(times) else { return Ok(result) };
    let (left, right) = float_ends(times, columns.floats(), bounds, ends, false);
    result.push(bounds.start, left);
    for row in bounds.inside(times, ends) {
        result.push(times[row], columns.floats()[row]);
    }
    result.push(end, right);
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(times: &[Timestamp], smoothed: bool, expected: Option<(usize, usize)>) {
        let bounds = Bounds { start: 20, end: 40, smoothed };
        let ends = bounds.ends(times).map(|ends| (ends.first, ends.last));
        assert_eq!(ends, expected, "{times:?}");
    }

    #[test]
    fn a_window_begins_with_the_sample_before_it() {
        check(&[10, 15, 25, 35], false, Some((1, 3)));
        check(&[10, 20, 25, 40], false, Some((1, 3)));
        check(&[25, 35], false, Some((0, 1)));
        check(&[10, 20], false, None);
        check(&[], false, None);
        check(&[10, 15, 25, 35, 45, 55], true, Some((1, 4)));
        check(&[45, 55], true, None);
        check(&[15, 55], true, Some((0, 1)));
    }

    #[test]
    fn values_between_samples() {
        assert_eq!(interpolate((10, 1.0), (20, 3.0), 15, false), 2.0);
        assert_eq!(interpolate((10, 3.0), (20, 1.0), 15, false), 2.0);
        assert_eq!(interpolate((10, 3.0), (20, 1.0), 15, true), 0.5);
    }

    #[test]
    fn ranges_end_where_their_windows_do() {
        let columns: Columns = [(10, 1.0), (30, 3.0), (50, 7.0)]
            .map(|(t, v)| model::Sample { t, v })
            .into_iter()
            .collect();
        let shown = |extension| {
            let result = with_ends(&columns, 40, 20, extension).unwrap();
            result.iter().map(|sample| (sample.t, sample.v)).collect::<Vec<_>>()
        };
        assert_eq!(shown(RangeExtension::Smoothed), [(20, 2.0), (30, 3.0), (40, 5.0)]);
        let anchored: Columns = columns.iter().take(2).collect();
        let result = with_ends(&anchored, 40, 20, RangeExtension::Anchored).unwrap();
        assert_eq!((result.times(), result.floats()), (&[20, 30, 40][..], &[1.0, 3.0, 3.0][..]));
    }
}
