//! Reads series: one sample for each step, or all samples of a range.

use model::{Columns, Querier, Selection, SeriesSet, TimeRange, Timestamp, is_stale};

use super::block::{ABSENT, Series, Sink, count_present, is_present};
use super::evaluator::Evaluator;
use super::failure::QueryFailure;
use super::plan::Selector;
use super::seconds;
use super::steps::Steps;

/// The samples that steps look at.
fn reach(selector: &Selector<'_>, steps: Steps, back: i64) -> TimeRange {
    let (first, last) = (selector.look.from(steps.start), selector.look.from(steps.last()));
    TimeRange::new(first.saturating_sub(back).saturating_add(1), last)
}

/// Series that are read one after the other into the same columns.
struct Reader<'e> {
    evaluator: &'e Evaluator<'e>,
    set: Box<dyn SeriesSet + 'e>,
    range: TimeRange,
    columns: Columns,
}

impl<'e> Reader<'e> {
    fn open(
        evaluator: &'e Evaluator<'e>,
        querier: &'e dyn Querier,
        selector: &Selector<'_>,
        range: TimeRange,
    ) -> Result<Self, QueryFailure> {
        let selection = Selection::new(selector.matchers, range);
        let set = querier.select(&selection, evaluator.context)?;
        evaluator.store_warnings.borrow_mut().extend(set.warnings().iter().cloned());
        Ok(Self { evaluator, set, range, columns: Columns::new() })
    }

    /// Decodes series `index`.
    fn read(&mut self, index: usize) -> Result<&mut Columns, QueryFailure> {
        let context = self.evaluator.context;
        context.check()?;
        self.columns.clear();
        self.set.read(index, self.range, &mut self.columns, context)?;
        drop(context.budget.charge(self.columns.capacity_bytes())?);
        self.evaluator.samples.decoded(self.columns.len() as u64);
        Ok(&mut self.columns)
    }
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
    let range = reach(selector, steps, evaluator.lookback);
    let mut reader = Reader::open(evaluator, querier, selector, range)?;
    let mut row = evaluator.empty_row(steps)?;
    for index in 0..reader.set.len() {
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
                let found = Lookup::new(columns.times(), evaluator.lookback);
                let values = columns.floats();
                fill(&mut row, selector, steps, found, |at| values[at]);
            }
        }
        hand_on(evaluator, reader.set.labels(index), &mut row, sink)?;
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
    let Some(querier) = evaluator.querier else { return Ok(()) };
    let range = reach(selector, steps, evaluator.lookback);
    let mut reader = Reader::open(evaluator, querier, selector, range)?;
    let mut row = evaluator.empty_row(steps)?;
    for index in 0..reader.set.len() {
        let columns = reader.read(index)?;
        let found = Lookup::new(columns.times(), evaluator.lookback);
        let (times, values) = (columns.times(), columns.floats());
        fill(&mut row, selector, steps, found, |at| {
            if is_stale(values[at]) { ABSENT } else { seconds(times[at]) }
        });
        let samples = count_present(&row) as u64;
        if samples == 0 {
            continue;
        }
        evaluator.samples.looked_at(samples);
        evaluator.samples.hold(samples)?;
        let mut series = Series::new(reader.set.labels(index));
        series.drop_name(evaluator.delayed_names);
        sink(series, &mut row)?;
    }
    Ok(())
}

fn hand_on(
    evaluator: &Evaluator<'_>,
    labels: model::Labels,
    row: &mut [f64],
    sink: &mut Sink<'_>,
) -> Result<(), QueryFailure> {
    let samples = count_present(row) as u64;
    if samples == 0 {
        return Ok(());
    }
    evaluator.samples.looked_at(samples);
    evaluator.samples.hold(samples)?;
    sink(Series::new(labels), row)
}

/// Finds the newest sample at or before a time, for times that ascend.
struct Lookup<'c> {
    times: &'c [Timestamp],
    lookback: i64,
    /// Samples that are not after the last time asked for.
    passed: usize,
}

impl<'c> Lookup<'c> {
    const fn new(times: &'c [Timestamp], lookback: i64) -> Self {
        Self { times, lookback, passed: 0 }
    }

    /// The row of the sample that is seen from `t`: a sample as old as the lookback is too old.
    #[inline]
    fn seen_from(&mut self, t: Timestamp) -> Option<usize> {
        while self.times.get(self.passed).is_some_and(|sample| *sample <= t) {
            self.passed += 1;
        }
        let at = self.passed.checked_sub(1)?;
        (self.times[at] > t.saturating_sub(self.lookback)).then_some(at)
    }
}

/// A staleness marker is what a step without a sample holds, so it needs no special case.
fn fill(
    row: &mut [f64],
    selector: &Selector<'_>,
    steps: Steps,
    mut lookup: Lookup<'_>,
    value: impl Fn(usize) -> f64,
) {
    for (out, t) in row.iter_mut().zip(steps.iter()) {
        *out = lookup.seen_from(selector.look.from(t)).map_or(ABSENT, &value);
    }
}

/// Hands all samples of the windows of `range` milliseconds that end at the times looked at to `sink`,
/// series by series, without staleness markers. Series without samples are left out.
///
/// # Errors
/// [`QueryFailure`]
pub(super) fn stream_range(
    evaluator: &Evaluator<'_>,
    selector: &Selector<'_>,
    range: i64,
    steps: Steps,
    sink: &mut dyn FnMut(Series, &Columns) -> Result<(), QueryFailure>,
) -> Result<(), QueryFailure> {
    let Some(querier) = evaluator.querier else { return Ok(()) };
    let range = reach(selector, steps, range);
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
    *columns = columns.iter().filter(|sample| is_present(sample.v)).collect();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::plan::Look;
    use model::Sample;

    fn check(times: &[i64], look: Look, steps: Steps, expected: &[Option<i64>]) {
        let selector = Selector { matchers: &[], look, span: crate::ast::Span::default() };
        let mut row = vec![0.0; steps.count];
        fill(&mut row, &selector, steps, Lookup::new(times, 10), |at| times[at] as f64);
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
