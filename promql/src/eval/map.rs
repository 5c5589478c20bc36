//! Operations on each sample alone: functions of one float, a sign, a scalar operand.

use super::annotations::Annotation;
use super::arithmetic::{Combination, go_max, go_min, trims};
use super::block::{ABSENT, Series, is_absent, is_present};
use super::dates::DatePart;
use super::evaluator::Evaluator;
use super::failure::QueryFailure;
use super::plan::{Map, ScalarOperation, Stage};
use super::scalar::ScalarRow;
use super::seconds;
use super::steps::Steps;
use crate::ast::Span;

/// Maps in a row, their scalars evaluated.
pub(super) struct Mapper<'e> {
    evaluator: &'e Evaluator<'e>,
    maps: Vec<Prepared>,
    steps: Steps,
    scratch: Vec<f64>,
}

#[derive(Debug)]
struct Prepared {
    operation: Operation,
    drops_name: bool,
}

#[derive(Debug)]
enum Operation {
    Function(fn(f64) -> f64),
    Negate,
    Round(ScalarRow),
    Clamp(ScalarRow, ScalarRow),
    Date(DatePart),
    StepTime,
    Scalar { combination: Combination, scalar: Vec<f64>, scalar_left: bool, span: Span },
}

impl<'e> Mapper<'e> {
    /// Evaluates the scalars of `stages`, which are maps.
    ///
    /// # Errors
    /// [`QueryFailure`]
    pub(super) fn new(
        evaluator: &'e Evaluator<'e>,
        stages: &[Stage<'_>],
        steps: Steps,
    ) -> Result<Self, QueryFailure> {
        let mut maps = Vec::with_capacity(stages.len());
        for stage in stages {
            if let Stage::Map(map) = stage {
                let operation = prepare(evaluator, map, steps)?;
                maps.push(Prepared { operation, drops_name: map.drops_name() });
            }
        }
        Ok(Self { evaluator, maps, steps, scratch: Vec::new() })
    }

    /// Changes a row in place; all of its samples may vanish.
    pub(super) fn apply(&mut self, series: &mut Series, row: &mut [f64]) {
        let mut drops_name = false;
        for map in &self.maps {
            drops_name |= map.drops_name;
            match &map.operation {
                Operation::Function(f) => each(row, *f),
                Operation::Negate => each(row, |v| -v),
                Operation::Round(to) => round(row, to),
                Operation::Clamp(min, max) => clamp(row, min, max),
                Operation::Date(part) => each(row, |v| part.of(v)),
                Operation::StepTime => step_times(row, self.steps),
                Operation::Scalar { combination, scalar, scalar_left, span } => {
                    if trims(combination.op) {
                        let operator = combination.op.as_str();
                        self.evaluator.annotate(&Annotation::IncompatibleTypes { operator }, *span);
                    }
                    self.scratch.clear();
                    self.scratch.resize(row.len(), ABSENT);
                    if *scalar_left {
                        combination.rows(scalar, row, &mut self.scratch);
                    } else {
                        combination.rows(row, scalar, &mut self.scratch);
                    }
                    row.copy_from_slice(&self.scratch);
                }
            }
        }
        if drops_name {
            series.drop_name(self.evaluator.delayed_names);
        }
    }
}

fn prepare(
    evaluator: &Evaluator<'_>,
    map: &Map<'_>,
    steps: Steps,
) -> Result<Operation, QueryFailure> {
    Ok(match map {
        Map::Function(f) => Operation::Function(*f),
        Map::Negate => Operation::Negate,
        Map::Round(to) => Operation::Round(evaluator.scalar(to, steps)?),
        Map::Clamp(min, max) => {
            Operation::Clamp(evaluator.scalar(min, steps)?, evaluator.scalar(max, steps)?)
        }
        Map::Date(part) => Operation::Date(*part),
        Map::StepTime => Operation::StepTime,
        Map::Scalar(ScalarOperation { op, scalar, scalar_left, return_bool, span }) => {
            let combination =
                Combination { op: *op, return_bool: *return_bool, keeps_right: *scalar_left };
            let scalar = evaluator.scalar(scalar, steps)?.into_values(steps.count);
            Operation::Scalar { combination, scalar, scalar_left: *scalar_left, span: *span }
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
        round(&mut row, &ScalarRow::Varying(vec![0.1, 5.0]));
        assert_eq!(row, [5.0, 5.0]);
    }

    #[test]
    fn clamping_to_nothing_removes_the_sample() {
        let mut row = [-5.0, 5.0, 5.0];
        clamp(&mut row, &ScalarRow::Varying(vec![0.0, 0.0, 9.0]), &ScalarRow::Constant(1.0));
        assert_eq!(row[..2], [0.0, 1.0]);
        assert!(is_absent(row[2]));
    }
}
