//! Samples over a range, from the store or from evaluating an expression at many steps.

use std::cell::RefCell;
use std::sync::Arc;

use model::{Columns, CounterReset, FloatHistogram};

use super::block::{Series, is_present};
use super::evaluator::Evaluator;
use super::failure::QueryFailure;
use super::plan::{Source, Subquery};
use super::steps::Steps;
use super::{STEPS_MAX, extended, selector};

/// Hands the samples of all windows that end where `steps` look to `sink`, series by series. A series
/// without samples is left out.
///
/// # Errors
/// [`QueryFailure`]
pub(super) fn stream_source(
    evaluator: &Evaluator<'_>,
    source: &Source<'_>,
    steps: Steps,
    sink: &mut dyn FnMut(Series, &Columns) -> Result<(), QueryFailure>,
) -> Result<(), QueryFailure> {
    match source {
        Source::Selector { selector, range } => {
            let (back, ahead) = extended::reach(selector.extension, *range, evaluator.lookback);
            selector::stream_range(evaluator, selector, (back, ahead), steps, sink)
        }
        Source::Subquery(subquery) => {
            // What the subquery looks at is not what the query's steps look at: those look at its results.
            let (inner, windows) = (inner_steps(subquery, steps)?, (subquery.look, subquery.range));
            let samples = &evaluator.samples;
            let own = samples.tally_of_subquery(inner, steps, windows, evaluator.context)?;
            let outer = RefCell::new(Some(samples.exchange(own)));
            let exchange = || {
                let tally = outer.borrow_mut().take().unwrap_or_default();
                *outer.borrow_mut() = Some(samples.exchange(tally));
            };
            let result = stream_subquery(evaluator, subquery, steps, &mut |series, columns| {
                exchange();
                let result = sink(series, columns);
                exchange();
                result
            });
            exchange();
            result?;
            let own = outer.into_inner().unwrap_or_default();
            samples.count_subquery(&own, (inner, steps), windows, evaluator)
        }
    }
}

/// Hands the samples that a subquery takes to `sink`, series by series.
///
/// # Errors
/// [`QueryFailure`]
pub(super) fn stream_subquery(
    evaluator: &Evaluator<'_>,
    subquery: &Subquery<'_>,
    steps: Steps,
    sink: &mut dyn FnMut(Series, &Columns) -> Result<(), QueryFailure>,
) -> Result<(), QueryFailure> {
    let inner = inner_steps(subquery, steps)?;
    let mut columns = Columns::new();
    evaluator.stream(&subquery.input, inner, &mut |series, row| {
        evaluator.check_after(inner.count)?;
        columns.clear();
        for (step, (t, &value)) in inner.iter().zip(&*row.values).enumerate() {
            match row.histograms.get(step) {
                Some(histogram) => columns.push_histogram(t, forget_reset(histogram)),
                None if is_present(value) => columns.push(t, value),
                None => {}
            }
        }
        sink(series, &columns)
    })
}

/// What is known about a counter reset is about the sample before in the store, not about the step before.
fn forget_reset(histogram: &Arc<FloatHistogram>) -> Arc<FloatHistogram> {
    match histogram.counter_reset {
        CounterReset::Unknown | CounterReset::Gauge => Arc::clone(histogram),
        CounterReset::Reset | CounterReset::NotReset => Arc::new(FloatHistogram {
            counter_reset: CounterReset::Unknown,
            ..FloatHistogram::clone(histogram)
        }),
    }
}

/// The times at which a subquery evaluates: multiples of its interval, so that they do not depend on when
/// the query is asked. The first is after the start of the first window.
///
/// # Errors
/// [`QueryFailure::TooManySamples`] for more than an evaluation may have, before anything is done for each of them.
fn inner_steps(subquery: &Subquery<'_>, steps: Steps) -> Result<Steps, QueryFailure> {
    let interval = subquery.interval;
    let window_start = subquery.look.from(steps.start).saturating_sub(subquery.range);
    // Division rounds towards zero, so before 1970 this already is after the start.
    let mut first = interval * (window_start / interval);
    if first <= window_start {
        first = first.saturating_add(interval);
    }
    let inner = Steps::new(first, subquery.look.from(steps.last()), interval);
    if inner.count > STEPS_MAX { Err(QueryFailure::TooManySamples) } else { Ok(inner) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ast::Span;
    use crate::eval::plan::{Look, ScalarPlan, VectorPlan};

    fn check(range: i64, interval: i64, offset: i64, steps: Steps, expected: &[i64]) {
        let input = VectorPlan::FromScalar(Box::new(ScalarPlan::Constant(1.0)));
        let look = Look { offset, at: None };
        let subquery = Subquery { input, range, interval, look, span: Span::default() };
        let times: Vec<_> = inner_steps(&subquery, steps).unwrap().iter().collect();
        assert_eq!(times, expected, "[{range}:{interval}] offset {offset} at {steps:?}");
    }

    #[test]
    fn evaluation_times_are_multiples_of_the_interval() {
        check(20, 10, 0, Steps::single(100), &[90, 100]);
        check(20, 10, 0, Steps::single(105), &[90, 100]);
        check(20, 10, 7, Steps::single(105), &[80, 90]);
        check(5, 10, 0, Steps::single(105), &[]);
        check(20, 10, 0, Steps::new(100, 130, 30), &[90, 100, 110, 120, 130]);
        check(20, 10, 0, Steps::single(-5), &[-20, -10]);
    }
}
