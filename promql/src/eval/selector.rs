//! Reads series: one sample for each step, or all samples of a range.

use std::sync::Arc;

use model::{
    Charge, Columns, CounterReset, FloatHistogram, METRIC_NAME, Querier, Selection, SeriesSet,
    TimeRange, is_stale,
};

use super::block::{ABSENT, Series, Sink, count_present, is_present};
use super::evaluator::Evaluator;
use super::failure::QueryFailure;
use super::layout::{Layouts, Run, Shape};
use super::plan::Selector;
use super::row::{Histograms, OwnedCell, Row, put};
use super::seconds;
use super::steps::Steps;
use super::window::Frame;

/// The samples that steps look at, from less than `back` milliseconds before up to `ahead` after.
fn reach(selector: &Selector<'_>, steps: Steps, back: i64, ahead: i64) -> TimeRange {
    let (first, last) = (selector.look.from(steps.start), selector.look.from(steps.last()));
    let min = first.saturating_sub(back).saturating_add(1);
    TimeRange::new(min, last.saturating_add(ahead))
}

/// Series that are read one after the other into the same columns.
struct Reader<'e> {
    evaluator: &'e Evaluator<'e>,
    set: Box<dyn SeriesSet + 'e>,
    range: TimeRange,
    columns: Columns,
    /// What the columns hold.
    held: Charge,
    stats_only: bool,
}

impl<'e> Reader<'e> {
    fn open(
        evaluator: &'e Evaluator<'e>,
        querier: &'e dyn Querier,
        selector: &Selector<'_>,
        range: TimeRange,
    ) -> Result<Self, QueryFailure> {
        let names = selector.projection.map(|projection| {
            let of_remarks = projection.metric_name.then_some(METRIC_NAME);
            projection.grouping.iter().map(String::as_str).chain(of_remarks).collect::<Vec<_>>()
        });
        let selection =
            Selection { projection: names.as_deref(), ..Selection::new(selector.matchers, range) };
        let set = querier.select(&selection, evaluator.context)?;
        evaluator.store_warnings.borrow_mut().extend(set.warnings().iter().cloned());
        if let Some(record) = &evaluator.record {
            record.selected(set.len());
        }
        let stats_only = selector.stats_only;
        let held = evaluator.context.budget.charge(0)?;
        Ok(Self { evaluator, set, range, columns: Columns::new(), held, stats_only })
    }

    /// Decodes series `index`.
    fn read(&mut self, index: usize) -> Result<&mut Columns, QueryFailure> {
        let context = self.evaluator.context;
        context.check()?;
        self.columns.clear();
        self.set.read(index, self.range, &mut self.columns, context)?;
        self.held.grow_to(self.columns.capacity_bytes())?;
        self.evaluator.samples.decoded(self.columns.len() as u64);
        if self.stats_only && !self.columns.histograms().is_empty() {
            self.columns = stats_of(&self.columns);
        }
        Ok(&mut self.columns)
    }
}

/// The samples with histograms that have but count and sum. Since counter resets cannot be found without buckets, they are found here.
fn stats_of(columns: &Columns) -> Columns {
    let mut stats = Columns::with_capacity(columns.len());
    let mut before: Option<&Arc<FloatHistogram>> = None;
    for row in 0..columns.len() {
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

/// Hands the sample that each step sees to `sink`, series by series.
///
/// # Errors
/// [`QueryFailure`]
pub(super) fn stream(
    evaluator: &Evaluator<'_>,
    selector: &Selector<'_>,
    steps: Steps,
    sink: &mut Sink<'_>,
) -> Result<(), QueryFailure> {
    let Some(querier) = evaluator.querier else { return Ok(()) };
    let range = reach(selector, steps, evaluator.lookback, 0);
    let mut reader = Reader::open(evaluator, querier, selector, range)?;
    let mut row = evaluator.empty_row(steps)?;
    let frame = lookback_frame(evaluator, selector, steps);
    let mut layouts = Layouts::default();
    for index in 0..reader.set.len() {
        let mut histograms = Histograms::default();
        // A store that knows the newest sample without decoding spares us the chunks.
        let latest = if steps.count == 1 { reader.set.latest(index) } else { None };
        match latest {
            Some(sample) if sample.t <= range.max => {
                evaluator.context.check()?;
                evaluator.samples.decoded(1);
                row[0] = if sample.t >= range.min { sample.v } else { ABSENT };
            }
            _ => {
                let columns = reader.read(index)?;
                let layout = layouts.of(columns.times(), frame, Shape::Last, |_| ())?;
                fill(&mut row, &layout.runs, columns.floats());
                if !columns.histograms().is_empty() {
                    histograms = seen_histograms(&mut row, frame, columns);
                }
            }
        }
        let row = Row { values: &mut row, histograms };
        hand_on(evaluator, reader.set.labels(index), row, sink)?;
    }
    Ok(())
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
    stream_of(evaluator, selector, steps, time, &mut |mut series, row| {
        series.drop_name(evaluator.delayed_names);
        sink(series, row)
    })
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
    let start = |columns: &Columns, at: usize| match evaluator.use_starts {
        true => seconds(columns.start(at)),
        false => ABSENT,
    };
    stream_of(evaluator, selector, steps, start, &mut |mut series, row| {
        series.drop_name(evaluator.delayed_names);
        sink(series, row)
    })
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
    stream_of(evaluator, selector, steps, time, sink)
}

/// Hands what `value` makes of the sample that each step sees to `sink`.
fn stream_of(
    evaluator: &Evaluator<'_>,
    selector: &Selector<'_>,
    steps: Steps,
    value: impl Fn(&Columns, usize) -> f64,
    sink: &mut Sink<'_>,
) -> Result<(), QueryFailure> {
    let Some(querier) = evaluator.querier else { return Ok(()) };
    let range = reach(selector, steps, evaluator.lookback, 0);
    let mut reader = Reader::open(evaluator, querier, selector, range)?;
    let mut row = evaluator.empty_row(steps)?;
    let frame = lookback_frame(evaluator, selector, steps);
    for index in 0..reader.set.len() {
        let columns = &*reader.read(index)?;
        let values = columns.floats();
        row.fill(ABSENT);
        frame.locate(columns.times(), |step, rows, _| {
            let at = rows.end - 1;
            row[step] = if is_stale(values[at]) { ABSENT } else { value(columns, at) };
        });
        let samples = count_present(&row) as u64;
        if samples == 0 {
            continue;
        }
        let row = Row::of(&mut row);
        evaluator.samples.looked_at_row(row.view(), samples);
        evaluator.samples.hold(samples)?;
        sink(Series::new(reader.set.labels(index)), row)?;
    }
    Ok(())
}

/// An instant selector sees the last sample of a window: one as old as the lookback is too old.
fn lookback_frame<'e>(
    evaluator: &Evaluator<'e>,
    selector: &Selector<'_>,
    steps: Steps,
) -> Frame<'e> {
    let (look, range) = (selector.look, evaluator.lookback);
    Frame { steps, look, range, context: evaluator.context }
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

fn hand_on(
    evaluator: &Evaluator<'_>,
    labels: model::Labels,
    row: Row<'_>,
    sink: &mut Sink<'_>,
) -> Result<(), QueryFailure> {
    let samples = row.samples();
    if samples == 0 {
        return Ok(());
    }
    evaluator.samples.looked_at_row(row.view(), samples);
    evaluator.samples.hold(samples)?;
    sink(Series::new(labels), row)
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
    let Some(querier) = evaluator.querier else { return Ok(()) };
    let range = reach(selector, steps, range, ahead);
    let mut reader = Reader::open(evaluator, querier, selector, range)?;
    for index in 0..reader.set.len() {
        let columns = reader.read(index)?;
        drop_stale(columns);
        if !columns.is_empty() {
            sink(Series::new(reader.set.labels(index)), &reader.columns)?;
        }
    }
    Ok(())
}

fn drop_stale(columns: &mut Columns) {
    if columns.floats().iter().all(|v| is_present(*v)) {
        return;
    }
    let mut kept = Columns::with_capacity(columns.len());
    for row in 0..columns.len() {
        if is_present(columns.floats()[row]) {
            kept.push_row(columns, row);
        }
    }
    *columns = kept;
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
}
