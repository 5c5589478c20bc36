//! Operations on each sample alone: functions of one float or one histogram, a sign, a scalar operand.

use std::rc::Rc;

use model::{FloatHistogram, METRIC_NAME};

use super::annotations::Kind;
use super::arithmetic::{Combination, Filter, go_max, go_min, trims};
use super::block::{ABSENT, Series, is_absent, is_present};
use super::buffer::Buffer;
use super::dates::DatePart;
use super::elements::Remark;
use super::evaluator::Evaluator;
use super::failure::QueryFailure;
use super::peak::{self, Cost, Counts, Peaks};
use super::plan::{Map, ScalarOperation, ScalarPlan, Stage};
use super::row::{Cell, Histograms, Row};
use super::scalar::ScalarRow;
use super::seconds;
use super::steps::Steps;
use crate::ast::Span;

/// Maps in a row, their scalars evaluated.
pub(super) struct Mapper<'e> {
    evaluator: &'e Evaluator<'e>,
    maps: Vec<Prepared>,
    steps: Steps,
    scratch: Scratch,
    /// What each map leaves at each step, if that is asked for.
    counts: Vec<Option<Counts>>,
}

/// Room for two rows.
#[derive(Debug)]
struct Scratch(Buffer);

impl Scratch {
    fn halves(&mut self, width: usize) -> (&mut [f64], &mut [f64]) {
        self.0.split_at_mut(width)
    }
}

#[derive(Debug)]
struct Prepared {
    operation: Operation,
    drops: Drops,
    /// What evaluating the scalars that stand in the query held, if that is asked for.
    costs: Vec<Option<Rc<Cost>>>,
}

/// A scalar, and what evaluating it held, if that is asked for.
#[derive(Debug)]
pub(super) struct Evaluated {
    row: ScalarRow,
    cost: Option<Rc<Cost>>,
}

impl Evaluated {
    fn new(
        evaluator: &Evaluator<'_>,
        plan: &ScalarPlan<'_>,
        steps: Steps,
    ) -> Result<Self, QueryFailure> {
        let mark = evaluator.peaks.as_ref().map_or(0, Peaks::mark);
        let row = evaluator.scalar(plan, steps)?;
        let cost = evaluator.peaks.as_ref().and_then(|peaks| peaks.since(mark).pop().flatten());
        Ok(Self { row, cost })
    }
}

#[derive(Debug)]
enum Operation {
    Function(fn(f64) -> f64),
    OfHistogram(fn(&FloatHistogram) -> f64),
    Negate,
    Round(ScalarRow),
    Clamp(ScalarRow, ScalarRow),
    Date(DatePart),
    StepTime,
    Scalar(WithScalar),
}

/// What samples have to pass to be left after the first of `stages`, as far as that is plain.
pub(super) fn filter_of(stages: &[Stage<'_>]) -> Option<Filter> {
    let Some(Stage::Map(Map::Scalar(operation))) = stages.first() else { return None };
    match operation.scalar {
        ScalarPlan::Constant(with) if !operation.return_bool => {
            Filter::new(operation.op, with, operation.scalar_left)
        }
        _ => None,
    }
}

/// Evaluates the scalars that `stages` have on the left of their vectors, for each stage. Prometheus goes from operations to their operands, the
/// left one first, so what is on the left of the last stage comes first, and all of them before the vector.
///
/// # Errors
/// [`QueryFailure`]
pub(super) fn evaluate_left(
    evaluator: &Evaluator<'_>,
    stages: &[Stage<'_>],
    steps: Steps,
) -> Result<Vec<Option<Evaluated>>, QueryFailure> {
    let mut left: Vec<_> = stages.iter().map(|_| None).collect();
    for (stage, left) in stages.iter().zip(&mut left).rev() {
        evaluator.context.check()?;
        if let Stage::Map(Map::Scalar(ScalarOperation { scalar, scalar_left: true, .. })) = stage {
            *left = Some(Evaluated::new(evaluator, scalar, steps)?);
        }
    }
    Ok(left)
}

impl<'e> Mapper<'e> {
    /// Evaluates the scalars of `stages`, which are maps; those on the left have been, in `left`.
    ///
    /// # Errors
    /// [`QueryFailure`]
    pub(super) fn new(
        evaluator: &'e Evaluator<'e>,
        stages: &[Stage<'_>],
        left: &mut [Option<Evaluated>],
        steps: Steps,
    ) -> Result<Self, QueryFailure> {
        let mut maps = Vec::with_capacity(stages.len());
        for (stage, left) in stages.iter().zip(left) {
            evaluator.context.check()?;
            if let Stage::Map(map) = stage {
                let mut costs = Vec::new();
                let operation = prepare(map, |plan| {
                    let Evaluated { row, cost } = match left.take() {
                        Some(evaluated) => evaluated,
                        None => Evaluated::new(evaluator, plan, steps)?,
                    };
                    if peak::is_written(map, plan) {
                        costs.push(cost);
                    }
                    Ok(row)
                })?;
                let drops = match map {
                    Map::OfHistogram(_) => Drops::Name,
                    map if map.drops_name() => Drops::Metadata,
                    _ => Drops::Nothing,
                };
                maps.push(Prepared { operation, drops, costs });
            }
        }
        let scratch = Scratch(Buffer::new(ABSENT, 2 * steps.count, evaluator.context)?);
        let counted = if evaluator.peaks.is_some() { maps.len() } else { 0 };
        let counts = (0..counted).map(|_| Counts::new(steps.count, evaluator.context)).collect();
        Ok(Self { evaluator, maps, steps, scratch, counts })
    }

    /// What evaluating the maps, which are `stages`, holds, if evaluating the vector holds `input`.
    pub(super) fn cost(
        self,
        stages: &[Stage<'_>],
        mut input: Option<Rc<Cost>>,
    ) -> Option<Rc<Cost>> {
        for ((stage, prepared), counts) in stages.iter().zip(&self.maps).zip(self.counts) {
            if let Stage::Map(map) = stage {
                input = peak::of_map(map, &input, &prepared.costs, counts);
            }
        }
        input
    }

    /// Changes a row in place; all of its samples may vanish.
    ///
    /// # Errors
    /// When the query was told to stop.
    pub(super) fn apply(
        &mut self,
        series: &mut Series,
        row: &mut Row<'_>,
    ) -> Result<(), QueryFailure> {
        /// Maps between looks at the clock.
        const UNCHECKED: usize = 16;
        let mut drops = Drops::Nothing;
        for (at, map) in self.maps.iter().enumerate() {
            if at % UNCHECKED == UNCHECKED - 1 {
                self.evaluator.context.check()?;
            }
            drops = drops.max(map.drops);
            match &map.operation {
                Operation::Function(f) => each(floats(row), *f),
                Operation::OfHistogram(f) => of_histograms(row, *f),
                Operation::Negate => negate(row),
                Operation::Round(to) => round(floats(row), to),
                Operation::Clamp(min, max) => clamp(floats(row), min, max),
                Operation::Date(part) => each(floats(row), |v| part.of(v)),
                Operation::StepTime => {
                    row.histograms = Histograms::default();
                    step_times(row.values, self.steps);
                }
                Operation::Scalar(scalar) => scalar.apply(row, &mut self.scratch, self.evaluator),
            }
            if let Some(Some(counts)) = self.counts.get_mut(at) {
                counts.add(row.view());
            }
        }
        match drops {
            Drops::Nothing => {}
            Drops::Name if !self.evaluator.delayed_names => {
                series.labels = series.labels.without(&[METRIC_NAME]);
            }
            Drops::Name | Drops::Metadata => series.drop_name(self.evaluator.delayed_names),
        }
        Ok(())
    }
}

/// What an operation takes from the labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Drops {
    Nothing,
    /// The name alone, if it is dropped on the spot.
    Name,
    /// Name, type and unit.
    Metadata,
}

/// The floats of a row for an operation that leaves histograms out.
fn floats<'r>(row: &'r mut Row<'_>) -> &'r mut [f64] {
    row.remove_histograms();
    row.values
}

/// Puts a number in the place of each histogram; leaves floats out.
fn of_histograms(row: &mut Row<'_>, f: fn(&FloatHistogram) -> f64) {
    row.values.fill(ABSENT);
    for (step, histogram) in std::mem::take(&mut row.histograms).iter() {
        let result = f(histogram);
        row.values[step] = if is_absent(result) { f64::NAN } else { result };
    }
}

fn negate(row: &mut Row<'_>) {
    each(row.values, |v| -v);
    for (step, histogram) in std::mem::take(&mut row.histograms).iter() {
        let mut negative = FloatHistogram::clone(histogram);
        negative.multiply(-1.0);
        row.set(step, Some(negative.into()));
    }
}

/// An operation with a scalar for each step.
#[derive(Debug)]
struct WithScalar {
    combination: Combination,
    scalar: ScalarRow,
    scalar_left: bool,
    span: Span,
}

impl WithScalar {
    fn apply(&self, row: &mut Row<'_>, scratch: &mut Scratch, evaluator: &Evaluator<'_>) {
        let Self { combination, scalar, scalar_left, span } = self;
        let histograms = std::mem::take(&mut row.histograms);
        let remark = |remark: Remark| evaluator.annotate(&remark.annotation(combination.op), *span);
        if trims(combination.op) && row.samples() > histograms.iter().count() as u64 {
            remark(Remark::Types(Kind::Float, Kind::Float));
        }
        let (operands, results) = scratch.halves(row.values.len());
        let operands: &[f64] = match scalar {
            ScalarRow::Varying(values) => values,
            ScalarRow::Constant(value) => {
                operands.fill(*value);
                operands
            }
        };
        results.fill(ABSENT);
        if *scalar_left {
            combination.rows(operands, row.values, results);
        } else {
            combination.rows(row.values, operands, results);
        }
        row.values.copy_from_slice(results);
        for (step, histogram) in histograms.iter() {
            let (cell, other) = (Cell::Histogram(histogram), Cell::Float(scalar.at(step)));
            let (left, right) = if *scalar_left { (other, cell) } else { (cell, other) };
            let result = combination.cells(left, right).map_err(remark);
            row.set(step, result.ok().and_then(|element| element.value));
        }
    }
}

fn prepare(
    map: &Map<'_>,
    mut evaluate: impl FnMut(&ScalarPlan<'_>) -> Result<ScalarRow, QueryFailure>,
) -> Result<Operation, QueryFailure> {
    Ok(match map {
        Map::Function(f) => Operation::Function(*f),
        Map::OfHistogram(f) => Operation::OfHistogram(*f),
        Map::Negate => Operation::Negate,
        Map::Round(to) => Operation::Round(evaluate(to)?),
        Map::Clamp(min, max) => Operation::Clamp(evaluate(min)?, evaluate(max)?),
        Map::Date(part) => Operation::Date(*part),
        Map::StepTime => Operation::StepTime,
        Map::Scalar(ScalarOperation { op, scalar, scalar_left, return_bool, span }) => {
            let combination =
                Combination { op: *op, return_bool: *return_bool, keeps_right: *scalar_left };
            let (scalar, scalar_left, span) = (evaluate(scalar)?, *scalar_left, *span);
            Operation::Scalar(WithScalar { combination, scalar, scalar_left, span })
        }
    })
}

/// Applies `f` to each sample. Should the sign bit make a NaN look like the marker, it becomes another NaN.
fn each(row: &mut [f64], f: impl Fn(f64) -> f64) {
    for value in row {
        if is_present(*value) {
            let result = f(*value);
            *value = if is_absent(result) { f64::NAN } else { result };
        }
    }
}

/// Ties go up. Multiplying by the inverse is what Prometheus does, and decides the last digit.
fn round(row: &mut [f64], to: &ScalarRow) {
    for (step, value) in row.iter_mut().enumerate() {
        if is_present(*value) {
            let inverse = 1.0 / to.at(step);
            *value = (*value * inverse + 0.5).floor() / inverse;
        }
    }
}

fn clamp(row: &mut [f64], min: &ScalarRow, max: &ScalarRow) {
    for (step, value) in row.iter_mut().enumerate() {
        let (min, max) = (min.at(step), max.at(step));
        if max < min {
            *value = ABSENT;
        } else if is_present(*value) {
            *value = go_max(min, go_min(max, *value));
        }
    }
}

fn step_times(row: &mut [f64], steps: Steps) {
    for (value, t) in row.iter_mut().zip(steps.iter()) {
        if is_present(*value) {
            *value = seconds(t);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_steps_stay_absent() {
        let mut row = [1.5, ABSENT, -2.5];
        each(&mut row, f64::floor);
        assert_eq!((row[0], row[2]), (1.0, -3.0));
        assert!(is_absent(row[1]));
    }

    #[test]
    fn a_sign_never_makes_a_sample_vanish() {
        let mut row = [f64::from_bits(ABSENT.to_bits() | 1 << 63); 2];
        each(&mut row[..1], |v| -v);
        each(&mut row[1..], f64::abs);
        assert!(row.iter().all(|v| v.is_nan() && is_present(*v)));
    }

    #[test]
    fn rounding_takes_ties_up() {
        let mut row = [2.5, -2.5, 0.14, f64::INFINITY];
        round(&mut row, &ScalarRow::Constant(1.0));
        assert_eq!(row, [3.0, -2.0, 0.0, f64::INFINITY]);
        let mut row = [5.015, 7.0];
        round(&mut row, &ScalarRow::Varying([0.1, 5.0].into()));
        assert_eq!(row, [5.0, 5.0]);
    }

    #[test]
    fn clamping_to_nothing_removes_the_sample() {
        let mut row = [-5.0, 5.0, 5.0];
        clamp(&mut row, &ScalarRow::Varying([0.0, 0.0, 9.0].into()), &ScalarRow::Constant(1.0));
        assert_eq!(row[..2], [0.0, 1.0]);
        assert!(is_absent(row[2]));
    }
}
