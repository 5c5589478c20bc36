//! Scalars: one number per step, always present.

use model::QueryContext;

use super::arithmetic::{self, go_max, go_min};
use super::block::is_present;
use super::buffer::Buffer;
use super::evaluator::Evaluator;
use super::failure::{ExecutionError, QueryFailure};
use super::peak::{self, Counts, Peaks};
use super::plan::{ScalarPlan, VectorPlan};
use super::samples::Tally;
use super::seconds;
use super::steps::Steps;

/// The values of a scalar at all steps.
#[derive(Debug)]
pub(super) enum ScalarRow {
    /// The same at all steps.
    Constant(f64),
    /// One for each step.
    Varying(Buffer),
}

impl ScalarRow {
    /// The value at `step`.
    #[inline]
    pub(super) fn at(&self, step: usize) -> f64 {
        match self {
            Self::Constant(value) => *value,
            Self::Varying(values) => values[step],
        }
    }

    /// Applies `f` to each value.
    fn map(self, f: impl Fn(f64) -> f64) -> Self {
        match self {
            Self::Constant(value) => Self::Constant(f(value)),
            Self::Varying(mut values) => {
                values.iter_mut().for_each(|value| *value = f(*value));
                Self::Varying(values)
            }
        }
    }

    /// Applies `f` to the values of two rows.
    fn zip(self, other: Self, f: impl Fn(f64, f64) -> f64) -> Self {
        match (self, other) {
            (Self::Constant(a), row) => row.map(|b| f(a, b)),
            (row, Self::Constant(b)) => row.map(|a| f(a, b)),
            (Self::Varying(mut left), Self::Varying(right)) => {
                left.iter_mut().zip(&*right).for_each(|(a, b)| *a = f(*a, *b));
                Self::Varying(left)
            }
        }
    }

    /// The values of `count` steps.
    ///
    /// # Errors
    /// [`QueryFailure::OverBudget`]
    pub(super) fn into_values(
        self,
        count: usize,
        context: &QueryContext,
    ) -> Result<Buffer, QueryFailure> {
        match self {
            Self::Constant(value) => Buffer::new(value, count, context),
            Self::Varying(values) => Ok(values),
        }
    }
}

/// Evaluates `plan` at each of `steps`, of which there is at least one.
///
/// # Errors
/// [`QueryFailure`]
pub(super) fn evaluate(
    evaluator: &Evaluator<'_>,
    plan: &ScalarPlan<'_>,
    steps: Steps,
) -> Result<ScalarRow, QueryFailure> {
    let Some(peaks) = &evaluator.peaks else { return evaluate_plan(evaluator, plan, steps) };
    let mark = peaks.mark();
    let row = evaluate_plan(evaluator, plan, steps)?;
    let costs = peaks.since(mark);
    peaks.push(peak::of_scalar(plan, &costs, Counts::ones(steps.count, evaluator.context)));
    Ok(row)
}

fn evaluate_plan(
    evaluator: &Evaluator<'_>,
    plan: &ScalarPlan<'_>,
    steps: Steps,
) -> Result<ScalarRow, QueryFailure> {
    let inner = |plan| evaluate(evaluator, plan, steps);
    Ok(match plan {
        ScalarPlan::Constant(value) => ScalarRow::Constant(*value),
        ScalarPlan::Time => {
            let mut row = evaluator.empty_row(steps)?;
            row.iter_mut().zip(steps.iter()).for_each(|(value, t)| *value = seconds(t));
            ScalarRow::Varying(row)
        }
        ScalarPlan::FromVector(input) => from_vector(evaluator, input, steps)?,
        ScalarPlan::Chain(first, links) => {
            let mark = evaluator.peaks.as_ref().map_or(0, Peaks::mark);
            let mut row = inner(first)?;
            for (op, right) in links {
                evaluator.context.check()?;
                if let Some(peaks) = &evaluator.peaks {
                    // All but the last operation; that is the whole.
                    let left = peaks.since(mark);
                    if left.len() > 1 {
                        let ones = Counts::ones(steps.count, evaluator.context);
                        peaks.push(peak::by_step(&left, ones));
                    } else {
                        left.into_iter().for_each(|cost| peaks.push(cost));
                    }
                }
                let right = inner(right)?;
                if arithmetic::trims(*op) {
                    return Err(ExecutionError::ScalarOperator(*op).into());
                }
                row = row.zip(right, |a, b| arithmetic::scalars(*op, a, b));
            }
            row
        }
        ScalarPlan::Negate(input) => inner(input)?.map(|v| -v),
        ScalarPlan::Max(a, b) => inner(a)?.zip(inner(b)?, go_max),
        ScalarPlan::Min(a, b) => inner(a)?.zip(inner(b)?, go_min),
        ScalarPlan::Once(input) => {
            let outer = evaluator.samples.exchange(Tally::default());
            let row = evaluate(evaluator, input, steps.first());
            let once = evaluator.samples.exchange(outer);
            evaluator.samples.count_each_step(&once, steps.count);
            ScalarRow::Constant(row?.at(0))
        }
    })
}

/// `scalar(v)`: the sample of the only series, NaN when there are none or several.
fn from_vector(
    evaluator: &Evaluator<'_>,
    input: &VectorPlan<'_>,
    steps: Steps,
) -> Result<ScalarRow, QueryFailure> {
    let mut values = evaluator.empty_row(steps)?;
    let before = evaluator.samples.held();
    evaluator.stream(input, steps, &mut |_, mut row| {
        row.remove_histograms();
        for (known, &value) in values.iter_mut().zip(&*row.values) {
            if is_present(value) {
                *known = if is_present(*known) { f64::NAN } else { value };
            }
        }
        Ok(())
    })?;
    values.iter_mut().filter(|value| !is_present(**value)).for_each(|value| *value = f64::NAN);
    evaluator.samples.release_to(before, values.len() as u64);
    Ok(ScalarRow::Varying(values))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_combine_whatever_their_kind() {
        let constant = || ScalarRow::Constant(10.0);
        let varying = || ScalarRow::Varying(Buffer::from([1.0, 2.0]));
        let minus = |a, b| a - b;
        let context = QueryContext::unbounded();
        let values = |row: ScalarRow| row.into_values(2, &context).unwrap().to_vec();
        assert!(matches!(constant().zip(constant(), minus), ScalarRow::Constant(0.0)));
        assert_eq!(values(constant().zip(varying(), minus)), [9.0, 8.0]);
        assert_eq!(values(varying().zip(constant(), minus)), [-9.0, -8.0]);
        assert_eq!(values(varying().zip(varying(), minus)), [0.0, 0.0]);
        assert_eq!(values(constant()), [10.0, 10.0]);
    }
}
