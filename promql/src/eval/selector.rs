//! Reads series: one sample for each step, or all samples of a range.

use std::iter;
use std::sync::Arc;

use model::{
    Charge, Columns, CounterReset, FloatHistogram, Labels, METRIC_NAME, Querier, QueryContext,
    Selection, SeriesSet, TimeRange, Timestamp, is_stale,
};

use super::arithmetic::Filter;
use super::block::{ABSENT, Series, Sink, TYPE_LABEL, is_present};
use super::evaluator::{Evaluator, Worker};
use super::failure::QueryFailure;
use super::layout::{Layouts, Run, Shape};
use super::plan::{Look, Selector};
use super::row::{Histograms, OwnedCell, Row, RowRef, put};
use super::seconds;
use super::split::{self, Maker};
use super::steps::Steps;
use super::window::Frame;

/// The samples that steps look at, from less than `back` milliseconds before up to `ahead` after.
fn reach(selector: &Selector<'_>, steps: Steps, back: i64, ahead: i64) -> TimeRange {
    let (first, last) = (selector.look.from(steps.start), selector.look.from(steps.last()));
    let min = first.saturating_sub(back).saturating_add(1);
    TimeRange::new(min, last.saturating_add(ahead))
}

/// The series of a selector.
pub(super) struct Selected<'e> {
    set: Box<dyn SeriesSet + 'e>,
    range: TimeRange,
    stats_only: bool,
    strides: Strides,
}

/// Steps, and how far back from the times that they look at samples are read.
#[derive(Clone, Copy, Debug)]
struct Strides {
    steps: Steps,
    look: Look,
    back: i64,
}

impl Strides {
    /// The rows of `times` that Prometheus comes to without the row before: it reads on from step to step, but jumps where a step does not reach
    /// back to where the one before has come to, which is a sample at its own time or later.
    fn jumps(self, times: &[Timestamp]) -> Vec<usize> {
        let mut rows = Vec::new();
        if self.steps.interval <= self.back || self.look.at.is_some() {
            return rows;
        }
        let mut at: Option<usize> = None;
        for t in self.steps.iter().map(|step| self.look.from(step)) {
            let start = t.saturating_sub(self.back);
            let mut row = at.unwrap_or(0);
            if at.is_none_or(|at| start > times[at]) {
                row += times[row..].partition_point(|other| *other < start);
                rows.push(row);
            }
            row += times[row..].partition_point(|other| *other < t);
            if row == times.len() {
                break;
            }
            at = Some(row);
        }
        rows
    }
}

/// The samples of one series, and then of the next.
#[derive(Debug)]
pub(super) struct Decoded {
    columns: Columns,
    /// What the columns hold.
    held: Charge,
    /// Samples that were decoded, staleness markers included.
    rows: u64,
}

impl Decoded {
    /// No samples yet.
    ///
    /// # Errors
    /// [`QueryFailure::OverBudget`]
    pub(super) fn new(context: &QueryContext) -> Result<Self, QueryFailure> {
        Ok(Self { columns: Columns::new(), held: context.budget.charge(0)?, rows: 0 })
    }
}

impl<'e> Selected<'e> {
    fn new(
        evaluator: &Evaluator<'e>,
        querier: &'e dyn Querier,
        selector: &Selector<'_>,
        range: TimeRange,
        strides: Strides,
    ) -> Result<Self, QueryFailure> {
        let names = selector.projection.map(|projection| {
            let type_label = evaluator.type_labels.then_some(TYPE_LABEL);
            let of_remarks =
                projection.metric_name.then(|| iter::once(METRIC_NAME).chain(type_label));
            let of_remarks = of_remarks.into_iter().flatten();
            projection.grouping.iter().map(String::as_str).chain(of_remarks).collect::<Vec<_>>()
        });
        let selection =
            Selection { projection: names.as_deref(), ..Selection::new(selector.matchers, range) };
        let set = querier.select(&selection, evaluator.context)?;
        evaluator.store_warnings.borrow_mut().extend(set.warnings().iter().cloned());
        if let Some(record) = &evaluator.record {
            record.selected(set.len());
        }
        Ok(Self { set, range, stats_only: selector.stats_only, strides })
    }

    /// The series whose samples windows of `range` milliseconds and `ahead` milliseconds after them contain that end at the times looked at.
    /// `None` if there is no store to look at.
    ///
    /// # Errors
    /// [`QueryFailure`]
    pub(super) fn of_windows(
        evaluator: &Evaluator<'e>,
        selector: &Selector<'_>,
        (range, ahead): (i64, i64),
        steps: Steps,
    ) -> Result<Option<Self>, QueryFailure> {
        let Some(querier) = evaluator.querier else { return Ok(None) };
        let strides = Strides { steps, look: selector.look, back: range };
        let range = reach(selector, steps, range, ahead);
        Self::new(evaluator, querier, selector, range, strides).map(Some)
    }

    /// Number of series.
    pub(super) fn len(&self) -> usize {
        self.set.len()
    }

    /// The labels of series `index`.
    pub(super) fn series(&self, index: usize) -> Series {
        Series::new(self.set.labels(index))
    }

    /// Decodes series `index`; gives its samples, and how many were decoded.
    fn read<'d>(
        &self,
        worker: &Worker<'_>,
        index: usize,
        into: &'d mut Decoded,
    ) -> Result<&'d mut Columns, QueryFailure> {
        worker.check_after(1 + into.columns.len() + self.strides.steps.count)?;
        into.columns.clear();
        self.set.read(index, self.range, &mut into.columns, worker.context)?;
        into.held.grow_to(into.columns.capacity_bytes())?;
        into.rows = into.columns.len() as u64;
        if self.stats_only && !into.columns.histograms().is_empty() {
            let jumps = self.strides.jumps(into.columns.times());
            into.columns = stats_of(&into.columns, &jumps);
        }
        Ok(&mut into.columns)
    }

    /// [`read`](Self::read) without staleness markers.
    ///
    /// # Errors
    /// [`QueryFailure`]
    pub(super) fn read_samples<'d>(
        &self,
        worker: &Worker<'_>,
        index: usize,
        into: &'d mut Decoded,
    ) -> Result<(&'d Columns, u64), QueryFailure> {
        drop_stale(self.read(worker, index, into)?);
        Ok((&into.columns, into.rows))
    }
}

/// The samples with histograms that have but count and sum. Since counter resets cannot be found without buckets, they are found here; not
/// at the rows in `jumps`, though, which are compared with nothing.
fn stats_of(columns: &Columns, jumps: &[usize]) -> Columns {
    let mut stats = Columns::with_capacity(columns.len());
    let mut before: Option<&Arc<FloatHistogram>> = None;
    let mut jumps = jumps.iter().peekable();
    for row in 0..columns.len() {
        if jumps.next_if_eq(&&row).is_some() {
            before = None;
        }
        let Some(histogram) = columns.histogram(row) else {
            stats.push_row(columns, row);
            continue;
        };
        let mut counter_reset = histogram.counter_reset;
        if !histogram.is_stale() {
            if let (CounterReset::Unknown, Some(before)) = (counter_reset, before) {
                let reset = histogram.is_reset_since(before);
                counter_reset = if reset { CounterReset::Reset } else { CounterReset::NotReset };
            }
            before = Some(histogram);
        }
        let (schema, count, sum) = (histogram.schema, histogram.count, histogram.sum);
        let short =
            FloatHistogram { counter_reset, schema, count, sum, ..FloatHistogram::default() };
        stats.push_histogram(columns.times()[row], Arc::new(short));
        stats.set_last_start(columns.start(row));
    }
    stats
}

/// What each step sees of a series, besides floats.
struct Seen {
    series: Series,
    histograms: Histograms,
    samples: u64,
    decoded: u64,
}

/// Makes rows of the samples that steps see, or of what `value` makes of these.
struct Seeing<'e, V> {
    selected: &'e Selected<'e>,
    frame: Frame<'e>,
    value: V,
    /// Of what does not pass, labels are not looked at.
    filter: Option<Filter>,
}

/// What a thread keeps.
struct SeeingState {
    decoded: Decoded,
    layouts: Layouts<()>,
}

/// What is made of a sample.
trait Value: Sync {
    /// It is the sample itself, histograms included.
    const ITSELF: bool;
    /// Of a sample that is not stale.
    fn of(&self, columns: &Columns, row: usize) -> f64;
}

/// The sample itself.
struct Itself;

impl Value for Itself {
    const ITSELF: bool = true;
    fn of(&self, columns: &Columns, row: usize) -> f64 {
        columns.floats()[row]
    }
}

impl<F: Fn(&Columns, usize) -> f64 + Sync> Value for F {
    const ITSELF: bool = false;
    fn of(&self, columns: &Columns, row: usize) -> f64 {
        self(columns, row)
    }
}

impl<V: Value> Seeing<'_, V> {
    /// What the store knows without decoding, if that is all that is asked for.
    fn latest(&self, index: usize) -> Option<f64> {
        if !V::ITSELF || self.frame.steps.count > 1 {
            return None;
        }
        let sample = self.selected.set.latest(index)?;
        let range = self.selected.range;
        (sample.t <= range.max).then_some(if sample.t >= range.min { sample.v } else { ABSENT })
    }
}

impl<V: Value> Maker for Seeing<'_, V> {
    type State = SeeingState;
    type Made = Seen;

    fn start(&self) -> Result<SeeingState, QueryFailure> {
        let decoded = Decoded::new(self.frame.context)?;
        Ok(SeeingState { decoded, layouts: Layouts::default() })
    }

    fn make(
        &self,
        worker: &Worker<'_>,
        state: &mut SeeingState,
        index: usize,
        row: &mut [f64],
    ) -> Result<Seen, QueryFailure> {
        let mut histograms = Histograms::default();
        let mut decoded = 1;
        // A store that knows the newest sample without decoding spares us the chunks.
        if let Some(latest) = self.latest(index) {
            worker.check_after(1)?;
            row[0] = latest;
        } else {
            let SeeingState { decoded: into, layouts } = state;
            let columns = &*self.selected.read(worker, index, into)?;
            let values = columns.floats();
            if V::ITSELF {
                let layout = layouts.of(columns.times(), self.frame, Shape::Last, |_| ())?;
                fill(row, &layout.runs, values);
                if !columns.histograms().is_empty() {
                    histograms = seen_histograms(row, self.frame, columns);
                }
            } else {
                row.fill(ABSENT);
                self.frame.locate(columns.times(), |step, rows, _| {
                    let at = rows.end - 1;
                    row[step] =
                        if is_stale(values[at]) { ABSENT } else { self.value.of(columns, at) };
                });
            }
            decoded = columns.len() as u64;
        }
        let samples = RowRef { values: row, histograms: &histograms }.samples();
        let passes =
            !histograms.is_empty() || self.filter.is_none_or(|filter| filter.passes_any(row));
        let series = if samples > 0 && passes {
            self.selected.series(index)
        } else {
            Series::new(Labels::empty())
        };
        Ok(Seen { series, histograms, samples, decoded })
    }

    fn work(&self, made: &Seen) -> u64 {
        made.decoded + self.frame.steps.count as u64
    }

    fn bytes(&self, made: &Seen) -> usize {
        size_of::<Seen>() + made.series.labels.packed_bytes() + made.histograms.bytes()
    }
}

/// Hands the sample that each step sees to `sink`, series by series. Labels of series of which nothing passes `filter` may be missing.
///
/// # Errors
/// [`QueryFailure`]
pub(super) fn stream(
    evaluator: &Evaluator<'_>,
    selector: &Selector<'_>,
    steps: Steps,
    filter: Option<Filter>,
    sink: &mut Sink<'_>,
) -> Result<(), QueryFailure> {
    stream_of(evaluator, (selector, selector.look), steps, Itself, filter, sink)
}

/// Where the times of samples are looked at. Prometheus forgets an offset beside `@` here: it looks at the time of the `@`, at samples that were
/// fetched with the offset.
fn look_of_times(selector: &Selector<'_>) -> Look {
    match selector.look {
        Look { at: Some(at), .. } => Look { offset: 0, at: Some(at) },
        look => look,
    }
}

/// Hands the time of the sample that each step sees to `sink`, in seconds.
///
/// # Errors
/// [`QueryFailure`]
pub(super) fn stream_timestamps(
    evaluator: &Evaluator<'_>,
    selector: &Selector<'_>,
    steps: Steps,
    sink: &mut Sink<'_>,
) -> Result<(), QueryFailure> {
    let time = |columns: &Columns, at: usize| seconds(columns.times()[at]);
    stream_of(
        evaluator,
        (selector, look_of_times(selector)),
        steps,
        time,
        None,
        &mut |mut series, row| {
            series.drop_name(evaluator.delayed_names);
            sink(series, row)
        },
    )
}

/// Hands the start timestamp of the sample that each step sees to `sink`, in seconds; nothing if start timestamps do not count.
///
/// # Errors
/// [`QueryFailure`]
pub(super) fn stream_start_timestamps(
    evaluator: &Evaluator<'_>,
    selector: &Selector<'_>,
    steps: Steps,
    sink: &mut Sink<'_>,
) -> Result<(), QueryFailure> {
    let use_starts = evaluator.use_starts;
    let start = move |columns: &Columns, at: usize| match use_starts {
        true => seconds(columns.start(at)),
        false => ABSENT,
    };
    stream_of(
        evaluator,
        (selector, look_of_times(selector)),
        steps,
        start,
        None,
        &mut |mut series, row| {
            series.drop_name(evaluator.delayed_names);
            sink(series, row)
        },
    )
}

/// Hands the time of the float sample that each step sees to `sink`, in milliseconds; not a number for a histogram.
///
/// # Errors
/// [`QueryFailure`]
#[expect(clippy::cast_precision_loss, reason = "times are shorter than 2^53 ms")]
pub(super) fn stream_sample_times(
    evaluator: &Evaluator<'_>,
    selector: &Selector<'_>,
    steps: Steps,
    sink: &mut Sink<'_>,
) -> Result<(), QueryFailure> {
    let time = |columns: &Columns, at: usize| match columns.histogram(at) {
        Some(_) => f64::NAN,
        None => columns.times()[at] as f64,
    };
    stream_of(evaluator, (selector, selector.look), steps, time, None, sink)
}

/// Hands what `value` makes of the sample that each step sees to `sink`.
fn stream_of(
    evaluator: &Evaluator<'_>,
    (selector, look): (&Selector<'_>, Look),
    steps: Steps,
    value: impl Value,
    filter: Option<Filter>,
    sink: &mut Sink<'_>,
) -> Result<(), QueryFailure> {
    let selected = Selected::of_windows(evaluator, selector, (evaluator.lookback, 0), steps)?;
    let Some(selected) = &selected else { return Ok(()) };
    // An instant selector sees the last sample of a window: one as old as the lookback is too old.
    let range = evaluator.lookback;
    let frame = Frame { steps, look, range, context: evaluator.context };
    let maker = Seeing { selected, frame, value, filter };
    split::for_each(evaluator, &maker, selected.len(), steps.count, &mut |seen, row| {
        let Seen { series, histograms, samples, decoded } = seen;
        evaluator.samples.decoded(decoded);
        if samples == 0 {
            return Ok(());
        }
        let row = Row { values: row, histograms };
        evaluator.samples.looked_at_row(row.view(), samples);
        evaluator.samples.hold(samples)?;
        sink(series, row)
    })
}

/// The histograms that steps see, for a row whose floats were filled.
fn seen_histograms(row: &mut [f64], frame: Frame<'_>, columns: &Columns) -> Histograms {
    let mut histograms = Histograms::default();
    frame.locate(columns.times(), |step, rows, _| {
        if is_present(row[step])
            && let Some(histogram) = columns.histogram(rows.end - 1)
        {
            put(row, &mut histograms, step, Some(OwnedCell::Histogram(Arc::clone(histogram))));
        }
    });
    histograms
}

/// Puts the sample that each step sees into `row`. A staleness marker is what a step without a sample holds, so it needs no special case.
fn fill(row: &mut [f64], runs: &[Run], values: &[f64]) {
    row.fill(ABSENT);
    for run in runs {
        let (out, seen) = (&mut row[run.steps.clone()], &values[run.last..]);
        match run.stride {
            0 => out.fill(seen[0]),
            1 => out.copy_from_slice(&seen[..out.len()]),
            stride => {
                let seen = seen.iter().step_by(stride);
                out.iter_mut().zip(seen).for_each(|(out, seen)| *out = *seen);
            }
        }
    }
}

/// Hands all samples of the windows of `range` milliseconds that end at the times looked at to `sink`, and of `ahead` milliseconds after them,
/// series by series, without staleness markers. Series without samples are left out.
///
/// # Errors
/// [`QueryFailure`]
pub(super) fn stream_range(
    evaluator: &Evaluator<'_>,
    selector: &Selector<'_>,
    (range, ahead): (i64, i64),
    steps: Steps,
    sink: &mut dyn FnMut(Series, &Columns) -> Result<(), QueryFailure>,
) -> Result<(), QueryFailure> {
    let selected = Selected::of_windows(evaluator, selector, (range, ahead), steps)?;
    let Some(selected) = selected else { return Ok(()) };
    let mut decoded = Decoded::new(evaluator.context)?;
    for index in 0..selected.len() {
        let (columns, rows) = selected.read_samples(evaluator, index, &mut decoded)?;
        evaluator.samples.decoded(rows);
        if !columns.is_empty() {
            sink(selected.series(index), columns)?;
        }
    }
    Ok(())
}

fn drop_stale(columns: &mut Columns) {
    columns.retain(is_present);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::plan::Look;
    use crate::eval::window::tests::frame;
    use model::Sample;

    fn check(times: &[i64], look: Look, steps: Steps, expected: &[Option<i64>]) {
        let frame = Frame { look, ..frame(10, steps) };
        let mut row = vec![0.0; steps.count];
        let mut layouts = Layouts::default();
        let layout = layouts.of(times, frame, Shape::Last, |_| ()).unwrap();
        let values: Vec<f64> = times.iter().map(|t| *t as f64).collect();
        fill(&mut row, &layout.runs, &values);
        let got: Vec<_> = row.iter().map(|v| is_present(*v).then_some(*v as i64)).collect();
        assert_eq!(got, expected, "{look:?}");
    }

    #[test]
    fn the_newest_sample_within_the_lookback_is_seen() {
        let now = Look { offset: 0, at: None };
        let steps = Steps::new(0, 40, 5);
        check(
            &[5, 12, 20],
            now,
            steps,
            &[None, Some(5), Some(5), Some(12), Some(20), Some(20), None, None, None],
        );
        check(&[], now, steps, &[None; 9]);
        check(&[5], Look { offset: 5, at: None }, Steps::new(5, 15, 5), &[None, Some(5), Some(5)]);
        check(&[5], Look { offset: -5, at: None }, Steps::new(0, 10, 5), &[Some(5), Some(5), None]);
        check(&[5], Look { offset: 0, at: Some(7) }, Steps::new(50, 60, 5), &[Some(5); 3]);
    }

    #[test]
    fn markers_are_not_samples_of_a_range() {
        let mut columns: Columns = [(1, 1.0), (2, model::stale_marker()), (3, f64::NAN)]
            .map(|(t, v)| Sample { t, v })
            .into_iter()
            .collect();
        drop_stale(&mut columns);
        assert_eq!(columns.times(), [1, 3]);
    }

    /// Which samples are read one after the other follows from Prometheus's `MemoizedSeriesIterator`, what it then knows of resets from its
    /// `HistogramStatsIterator`.
    #[test]
    fn resets_are_not_known_where_steps_leave_gaps() {
        use CounterReset::{NotReset, Reset, Unknown};
        let mut columns = Columns::new();
        for (t, count) in (0..).step_by(10).zip([1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 1.0]) {
            let histogram = FloatHistogram { count, ..FloatHistogram::default() };
            columns.push_histogram(t, Arc::new(histogram));
        }
        let now = Look { offset: 0, at: None };
        let hints = |steps, look, back| {
            let jumps = Strides { steps, look, back }.jumps(columns.times());
            let stats = stats_of(&columns, &jumps);
            (0..stats.len()).map(|row| stats.histogram(row).unwrap().counter_reset).collect()
        };
        let check = |steps, look, back, expected: [CounterReset; 7]| {
            let found: Vec<CounterReset> = hints(steps, look, back);
            assert_eq!(found, expected, "{steps:?} {look:?} {back}");
        };
        let all = [Unknown, NotReset, NotReset, Reset, NotReset, NotReset, Reset];
        check(Steps::new(10, 60, 25), now, 25, all);
        check(Steps::single(60), now, 12, all);
        check(Steps::new(10, 60, 25), Look { offset: 0, at: Some(60) }, 12, all);
        // Read are 0 and 10, from 23 on 30 and 40, from 48 on 50 and 60.
        let gaps = [Unknown, NotReset, NotReset, Unknown, NotReset, Unknown, Reset];
        check(Steps::new(10, 60, 25), now, 12, gaps);
        check(Steps::new(8, 58, 25), Look { offset: -2, at: None }, 12, gaps);
        // A step that reaches back to where the one before has come to reads on, from 10 to 40 and from there to the end.
        check(Steps::new(5, 65, 30), now, 25, all);
        check(
            Steps::new(5, 65, 30),
            now,
            24,
            [Unknown, NotReset, Unknown, Reset, NotReset, Unknown, Reset],
        );
    }
}
