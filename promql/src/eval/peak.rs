//! How many samples a query holds at most as Prometheus counts them, for statistics.
//!
//! What is held here is another matter, since rows stream through operations. Prometheus has all results of an operand in memory, then goes
//! through the steps: it copies the operands' samples of a step, and adds the step's result to those of the steps before. So the peak follows
//! from how many samples each part of a query has at each step. They are counted only when statistics are asked for.

use std::cell::RefCell;
use std::rc::Rc;

use model::{Charge, QueryContext};

use super::block::{Block, is_present};
use super::plan::{HistogramFunction, Map, Parameter, ScalarPlan, Source, VectorPlan};
use super::row::{RowRef, weight, weight_in_vector};
use crate::ast::AggregateOp;

/// Parts of more steps are not followed.
const STEPS_MAX: usize = 1 << 15;

/// How many samples a result has at each step.
#[derive(Debug)]
pub(super) struct Counts {
    /// Histograms and floats alike.
    present: Vec<u64>,
    /// A histogram counts for several.
    weight: Vec<u64>,
    /// The same, as results of single steps count.
    in_vector: Vec<u64>,
    /// Gives the bytes back.
    _charge: Charge,
}

impl Counts {
    /// None at any of `steps` steps; `None` if that is too many.
    pub(super) fn new(steps: usize, context: &QueryContext) -> Option<Self> {
        if steps > STEPS_MAX {
            return None;
        }
        let charge = context.budget.charge(3 * steps * size_of::<u64>()).ok()?;
        let zeros = || vec![0; steps];
        Some(Self { present: zeros(), weight: zeros(), in_vector: zeros(), _charge: charge })
    }

    /// One float at each step.
    pub(super) fn ones(steps: usize, context: &QueryContext) -> Option<Self> {
        let mut counts = Self::new(steps, context)?;
        for counts in [&mut counts.present, &mut counts.weight, &mut counts.in_vector] {
            counts.fill(1);
        }
        Some(counts)
    }

    /// Those of a block.
    pub(super) fn of(block: &Block, context: &QueryContext) -> Option<Self> {
        let mut counts = Self::new(block.width(), context)?;
        block.rows().for_each(|(_, row)| counts.add(row));
        Some(counts)
    }

    /// Counts a row.
    pub(super) fn add(&mut self, row: RowRef<'_>) {
        for counts in [&mut self.present, &mut self.weight, &mut self.in_vector] {
            let values = counts.iter_mut().zip(row.values);
            values.for_each(|(count, value)| *count += u64::from(is_present(*value)));
        }
        for (step, histogram) in row.histograms.iter() {
            self.weight[step] += weight(histogram) - 1;
            self.in_vector[step] += weight_in_vector(histogram) - 1;
        }
    }

    fn total(&self) -> u64 {
        self.weight.iter().sum()
    }
}

/// What evaluating a part of a query holds, beyond what was held before.
#[derive(Debug)]
pub(super) struct Cost {
    /// At most.
    peak: u64,
    /// When it is done: its result, and what Prometheus forgets to let go.
    kept: u64,
    counts: Counts,
}

/// A cost, unless it is not known.
type Known = Option<Rc<Cost>>;

/// The costs of parts that are evaluated, but not what they are parts of: operands in the order of their evaluation.
#[derive(Debug, Default)]
pub(super) struct Peaks(RefCell<Vec<Known>>);

impl Peaks {
    /// How many there are.
    pub(super) fn mark(&self) -> usize {
        self.0.borrow().len()
    }

    /// Takes those that came after `mark`.
    pub(super) fn since(&self, mark: usize) -> Vec<Known> {
        let mut costs = self.0.borrow_mut();
        let from = mark.min(costs.len());
        costs.split_off(from)
    }

    /// Adds one.
    pub(super) fn push(&self, cost: Known) {
        self.0.borrow_mut().push(cost);
    }

    /// The newest.
    pub(super) fn newest(&self) -> Known {
        self.0.borrow().last().cloned().flatten()
    }

    /// The peak of the query, if it is known.
    pub(super) fn peak(&self) -> Option<u64> {
        self.newest().map(|cost| cost.peak)
    }
}

/// What operands hold that are evaluated one after the other.
struct Operands<'c> {
    costs: Vec<&'c Cost>,
    peak: u64,
    kept: u64,
}

impl<'c> Operands<'c> {
    fn new<'k: 'c>(costs: impl IntoIterator<Item = &'k Known>) -> Option<Self> {
        let costs: Option<Vec<&Cost>> = costs.into_iter().map(Option::as_deref).collect();
        let (mut peak, mut kept) = (0, 0);
        let costs = costs?;
        for cost in &costs {
            peak = peak.max(kept + cost.peak);
            kept += cost.kept;
        }
        Some(Self { costs, peak, kept })
    }
}

/// An operation that goes through the steps: with the operands whole, those of a step are copied and the result is made.
pub(super) fn by_step<'k>(
    operands: impl IntoIterator<Item = &'k Known>,
    result: Option<Counts>,
) -> Known {
    let (operands, counts) = (Operands::new(operands)?, result?);
    let (mut peak, mut held) = (operands.peak, operands.kept);
    for (step, weight) in counts.in_vector.iter().enumerate() {
        let at = |cost: &&Cost| cost.counts.present.get(step).copied().unwrap_or_default();
        let copied: u64 = operands.costs.iter().map(at).sum();
        peak = peak.max(held + copied + weight);
        held += weight;
    }
    let kept = counts.total();
    Some(Rc::new(Cost { peak: peak.max(kept), kept, counts }))
}

/// An operation after which only the result is held.
fn at_once<'k>(operands: impl IntoIterator<Item = &'k Known>, result: Option<Counts>) -> Known {
    let (operands, counts) = (Operands::new(operands)?, result?);
    let kept = counts.total();
    Some(Rc::new(Cost { peak: operands.peak.max(kept), kept, counts }))
}

/// What has the samples of its operand.
fn same(operand: &Known, result: Option<Counts>) -> Known {
    let (operand, counts) = (operand.as_deref()?, result?);
    let Cost { peak, kept, .. } = *operand;
    Some(Rc::new(Cost { peak, kept, counts }))
}

/// What was evaluated at the first step and holds at all.
pub(super) fn once(operand: &Known, result: Option<Counts>) -> Known {
    let (operand, counts) = (operand.as_deref()?, result?);
    let kept = operand.kept + counts.total().saturating_sub(operand.counts.total());
    Some(Rc::new(Cost { peak: operand.peak.max(kept), kept, counts }))
}

/// What is held while windows move over series, one after the other.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Windows {
    peak: u64,
    kept: u64,
}

impl Windows {
    /// A series whose largest window has `largest` samples and whose last has `last`, and of which `result` samples were made.
    pub(super) fn add(&mut self, largest: u64, last: u64, result: u64) {
        self.peak = self.peak.max(self.kept + largest);
        self.kept += result;
        self.peak = self.peak.max(self.kept + last);
    }

    /// The cost of going over the windows alone.
    pub(super) fn cost(self, context: &QueryContext) -> Known {
        let counts = Counts::new(0, context)?;
        Some(Rc::new(Cost { peak: self.peak, kept: self.kept, counts }))
    }
}

/// A function of windows. Its other arguments are held on; the results of a subquery are let go at the end.
fn over_windows(source: &Source<'_>, costs: &[Known], result: Option<Counts>) -> Known {
    let (windows, operands) = costs.split_last()?;
    let (operands, let_go) = match (source, operands) {
        (Source::Selector { .. }, operands) => (Operands::new(operands)?, 0),
        // Here subqueries are evaluated last.
        (Source::Subquery(_), operands) => {
            let (subquery, others) = operands.split_last()?;
            let let_go = subquery.as_deref()?.counts.total();
            (Operands::new(std::iter::once(subquery).chain(others))?, let_go)
        }
    };
    let (windows, counts) = (windows.as_deref()?, result?);
    let peak = operands.peak.max(operands.kept + windows.peak);
    let kept = (operands.kept + windows.kept).saturating_sub(let_go);
    Some(Rc::new(Cost { peak, kept, counts }))
}

/// Times of samples: those of a step are counted when they are found and once more as the result.
fn of_times(result: Option<Counts>) -> Known {
    let counts = result?;
    let (mut peak, mut kept) = (0, 0);
    for weight in &counts.weight {
        peak = peak.max(kept + 2 * weight);
        kept += weight;
    }
    Some(Rc::new(Cost { peak, kept, counts }))
}

/// The cost of a vector that has `result` at each step, from those of what was evaluated for it.
pub(super) fn of_vector(plan: &VectorPlan<'_>, costs: &[Known], result: Option<Counts>) -> Known {
    match plan {
        VectorPlan::Selector(_) => at_once([], result),
        VectorPlan::Timestamps(_) | VectorPlan::StartTimestamps(_) => of_times(result),
        VectorPlan::Window(window) => over_windows(&window.source, costs, result),
        VectorPlan::AbsentOverTime(source, _) => over_windows(source, costs, result),
        VectorPlan::Absent(..) | VectorPlan::FromScalar(_) | VectorPlan::Sort(..) => {
            by_step(costs, result)
        }
        VectorPlan::Date(_) => by_step([], result),
        VectorPlan::Aggregate(aggregation) => match (aggregation.op, &aggregation.parameter) {
            (AggregateOp::CountValues, _) => by_step(costs, result),
            (_, Parameter::None | Parameter::Scalar(_) | Parameter::Label(_)) => {
                at_once(costs, result)
            }
        },
        VectorPlan::Histogram(function) => match function.function {
            HistogramFunction::Quantiles(..) => {
                let (input, quantiles) = costs.split_last()?;
                by_step(std::iter::once(input).chain(quantiles), result)
            }
            _ => by_step(costs, result),
        },
        VectorPlan::Relabel(..) | VectorPlan::Shared(_) | VectorPlan::Pipeline(..) => {
            same(costs.last()?, result)
        }
        VectorPlan::Once(_) => once(costs.last()?, result),
        VectorPlan::Smoothed(_)
        | VectorPlan::Nothing(_)
        | VectorPlan::Failing(_)
        | VectorPlan::Info(_) => None,
    }
}

/// The cost of a scalar, from those of what was evaluated for it.
pub(super) fn of_scalar(plan: &ScalarPlan<'_>, costs: &[Known], ones: Option<Counts>) -> Known {
    match plan {
        ScalarPlan::Constant(_) | ScalarPlan::Time => by_step([], ones),
        ScalarPlan::FromVector(_) | ScalarPlan::Max(..) | ScalarPlan::Min(..) => {
            by_step(costs, ones)
        }
        // Left after left, of which all but the last have been put together.
        ScalarPlan::Chain(..) => by_step(costs, ones),
        ScalarPlan::Negate(_) => same(costs.last()?, ones),
        ScalarPlan::Once(_) => once(costs.last()?, ones),
    }
}

/// The cost of what a map makes of `input`; `scalars` are those that it takes.
pub(super) fn of_map(
    map: &Map<'_>,
    input: &Known,
    scalars: &[Known],
    result: Option<Counts>,
) -> Known {
    match map {
        Map::Negate => same(input, result),
        Map::Scalar(operation) if operation.scalar_left => {
            by_step(scalars.iter().chain([input]), result)
        }
        Map::Function(_)
        | Map::OfHistogram(_)
        | Map::Round(_)
        | Map::Clamp(..)
        | Map::Date(_)
        | Map::StepTime
        | Map::Scalar(_) => by_step(std::iter::once(input).chain(scalars), result),
    }
}

/// Whether a scalar of a map stands in the query, as far as can be told: bounds that are not asked for are infinite, and what is rounded to is 1.
pub(super) fn is_written(map: &Map<'_>, scalar: &ScalarPlan<'_>) -> bool {
    match (map, scalar) {
        (Map::Clamp(..), ScalarPlan::Constant(bound)) => bound.is_finite(),
        (Map::Round(_), ScalarPlan::Constant(to)) => *to != 1.0,
        _ => true,
    }
}
