//! Aggregations over series.
//!
//! The group of a series is found once. Aggregations that fold samples into a number take each row as it comes and hold groups × steps; samples
//! are added in the order in which series come, since floating-point sums depend on it. Those that choose among series ([`pick`]) hold all rows.

mod cells;
mod pick;
mod sums;
mod values;

use model::Charge;

use self::cells::{Cell, Cells, occupied};
use super::annotations::Annotation;
use super::block::{ABSENT, Series, Sink, is_present};
use super::evaluator::Evaluator;
use super::failure::QueryFailure;
use super::groups::Groups;
use super::kahan::{KahanMean, KahanSum};
use super::plan::{Aggregation, Grouping, Parameter};
use super::quantile::quantile;
use super::row::Row;
use super::scalar::ScalarRow;
use super::steps::Steps;
use crate::ast::AggregateOp;

/// Evaluates an aggregation.
///
/// # Errors
/// [`QueryFailure`]
pub(super) fn stream(
    evaluator: &Evaluator<'_>,
    aggregation: &Aggregation<'_>,
    steps: Steps,
    sink: &mut Sink<'_>,
) -> Result<(), QueryFailure> {
    match aggregation.op {
        AggregateOp::Sum => sums::stream::<KahanSum>(evaluator, aggregation, steps, sink),
        AggregateOp::Avg => sums::stream::<KahanMean>(evaluator, aggregation, steps, sink),
        AggregateOp::Count => fold(
            evaluator,
            aggregation,
            steps,
            sink,
            |_| 1.0,
            |count, _| *count += 1.0,
            |count| *count,
        ),
        AggregateOp::Group => {
            fold(evaluator, aggregation, steps, sink, |_| (), |(), _| {}, |()| 1.0)
        }
        AggregateOp::Min => fold(evaluator, aggregation, steps, sink, |v| v, keep_min, |min| *min),
        AggregateOp::Max => fold(evaluator, aggregation, steps, sink, |v| v, keep_max, |max| *max),
        AggregateOp::Stdvar => {
            fold(evaluator, aggregation, steps, sink, Variance::new, Variance::add, |v| {
                v.variance()
            })
        }
        AggregateOp::Stddev => {
            let deviation = |v: &mut Variance| v.variance().sqrt();
            fold(evaluator, aggregation, steps, sink, Variance::new, Variance::add, deviation)
        }
        AggregateOp::Quantile => stream_quantile(evaluator, aggregation, steps, sink),
        AggregateOp::CountValues => values::stream(evaluator, aggregation, steps, sink),
        AggregateOp::Topk
        | AggregateOp::Bottomk
        | AggregateOp::Limitk
        | AggregateOp::LimitRatio => pick::stream(evaluator, aggregation, steps, sink),
    }
}

fn keep_min(min: &mut f64, v: f64) {
    if *min > v || min.is_nan() {
        *min = v;
    }
}

fn keep_max(max: &mut f64, v: f64) {
    if *max < v || max.is_nan() {
        *max = v;
    }
}

/// Welford's running variance.
#[derive(Clone, Copy, Debug)]
struct Variance {
    count: f64,
    mean: f64,
    /// Sum of squared deviations; NaN from the start when the first value is not finite, as in Prometheus.
    squares: f64,
}

impl Variance {
    const fn new(first: f64) -> Self {
        let squares = if first.is_finite() { 0.0 } else { f64::NAN };
        Self { count: 1.0, mean: first, squares }
    }

    fn add(&mut self, v: f64) {
        self.count += 1.0;
        let delta = v - self.mean;
        self.mean += delta / self.count;
        self.squares += delta * (v - self.mean);
    }

    fn variance(self) -> f64 {
        self.squares / self.count
    }
}

/// Groups, and which of them have lost their name.
#[derive(Debug, Default)]
struct SeriesGroups {
    groups: Groups,
    drop_name: Vec<bool>,
}

impl SeriesGroups {
    /// The group of `series`; a new one is the last.
    fn of(
        &mut self,
        series: &Series,
        grouping: &Grouping<'_>,
        charge: &mut Charge,
    ) -> Result<usize, QueryFailure> {
        let group = self.groups.of(&series.labels, grouping, charge)?;
        if group == self.drop_name.len() {
            charge.grow(size_of::<bool>())?;
            self.drop_name.push(false);
        }
        // A group has lost its name when one of its series has.
        self.drop_name[group] |= series.drop_name;
        Ok(group)
    }

    /// Number of groups.
    fn len(&self) -> usize {
        self.groups.len()
    }

    /// The groups as series.
    fn into_series(self) -> impl Iterator<Item = Series> {
        let series = self.groups.into_labels().into_iter().zip(self.drop_name);
        series.map(|(labels, drop_name)| Series { labels, drop_name })
    }
}

/// Hands groups to `sink`.
fn hand_on<C: Cell>(
    evaluator: &Evaluator<'_>,
    cells: Cells<C>,
    steps: Steps,
    sink: &mut Sink<'_>,
    mut value: impl FnMut(&mut C, usize) -> f64,
) -> Result<(), QueryFailure> {
    let mut out = evaluator.empty_row(steps)?;
    for (series, mut cells) in cells.into_groups() {
        out.fill(ABSENT);
        for (step, cell) in cells.iter_mut().filter(|(_, cell)| !cell.is_none()) {
            out[step] = value(cell, step);
        }
        let row = Row::of(&mut out);
        if evaluator.hold_row(row.view())? > 0 {
            sink(series, row)?;
        }
    }
    Ok(())
}

/// Leaves out the histograms of a row, for aggregations that have no meaning for them.
fn ignore_histograms(evaluator: &Evaluator<'_>, aggregation: &Aggregation<'_>, row: &mut Row<'_>) {
    if !row.histograms.is_empty() {
        let name = Annotation::IgnoredInAggregation(aggregation.op.as_str());
        evaluator.annotate(&name, aggregation.input_span);
        row.remove_histograms();
    }
}

/// Folds the samples of each group at each step. Only `count` and `group` look at histograms, and only at whether they are there.
fn fold<A>(
    evaluator: &Evaluator<'_>,
    aggregation: &Aggregation<'_>,
    steps: Steps,
    sink: &mut Sink<'_>,
    first: impl Fn(f64) -> A,
    add: impl Fn(&mut A, f64),
    value: impl Fn(&mut A) -> f64,
) -> Result<(), QueryFailure> {
    let mut cells: Cells<Option<A>> = Cells::new(evaluator, steps)?;
    let before = evaluator.samples.held();
    let counts = matches!(aggregation.op, AggregateOp::Count | AggregateOp::Group);
    evaluator.stream(&aggregation.input, steps, &mut |series, mut row| {
        if !counts {
            ignore_histograms(evaluator, aggregation, &mut row);
        }
        let group = cells.groups.of(&series, &aggregation.grouping, &mut cells.charge)?;
        let steps = occupied(row.values);
        let cells = cells.at(group, steps.clone())?;
        for (cell, &v) in cells.iter_mut().zip(&row.values[steps]) {
            if is_present(v) {
                match cell {
                    Some(so_far) => add(so_far, v),
                    None => *cell = Some(first(v)),
                }
            }
        }
        Ok(())
    })?;
    evaluator.samples.release_to(before, 0);
    hand_on(evaluator, cells, steps, sink, |cell, _| cell.as_mut().map_or(ABSENT, &value))
}

/// The parameter at all steps.
fn parameter(
    evaluator: &Evaluator<'_>,
    aggregation: &Aggregation<'_>,
    steps: Steps,
) -> Result<ScalarRow, QueryFailure> {
    match &aggregation.parameter {
        Parameter::Scalar(plan) => evaluator.scalar(plan, steps),
        Parameter::None | Parameter::Label(_) => Ok(ScalarRow::Constant(f64::NAN)),
    }
}

/// Least and largest value of a parameter, and whether any is NaN. Like Go's `math.Min` and `math.Max`: NaN stays, but infinities beat it.
fn extremes(row: &ScalarRow, steps: Steps) -> (f64, f64, bool) {
    if let ScalarRow::Constant(v) = row {
        return (*v, *v, v.is_nan());
    }
    extremes_of((0..steps.count).map(|step| row.at(step)))
}

fn extremes_of(values: impl Iterator<Item = f64>) -> (f64, f64, bool) {
    let go_max = |a: f64, b: f64| {
        if a == f64::INFINITY || b == f64::INFINITY {
            f64::INFINITY
        } else if a.is_nan() || b.is_nan() {
            f64::NAN
        } else {
            a.max(b)
        }
    };
    values.fold((f64::MAX, f64::MIN, false), |(min, max, nan), v| {
        (-go_max(-min, -v), go_max(max, v), nan || v.is_nan())
    })
}

fn stream_quantile(
    evaluator: &Evaluator<'_>,
    aggregation: &Aggregation<'_>,
    steps: Steps,
    sink: &mut Sink<'_>,
) -> Result<(), QueryFailure> {
    let q = parameter(evaluator, aggregation, steps)?;
    let mut cells: Cells<Option<Vec<f64>>> = Cells::new(evaluator, steps)?;
    let mut held = evaluator.context.budget.charge(0)?;
    let before = evaluator.samples.held();
    evaluator.stream(&aggregation.input, steps, &mut |series, mut row| {
        ignore_histograms(evaluator, aggregation, &mut row);
        held.grow(size_of_val(&*row.values))?;
        let group = cells.groups.of(&series, &aggregation.grouping, &mut cells.charge)?;
        let steps = occupied(row.values);
        let cells = cells.at(group, steps.clone())?;
        for (cell, &v) in cells.iter_mut().zip(&row.values[steps]) {
            if is_present(v) {
                cell.get_or_insert_default().push(v);
            }
        }
        Ok(())
    })?;
    // Of equal remarks the last one counts, so these follow those about the input.
    let (min, max, nan) = extremes(&q, steps);
    let remark =
        |q| evaluator.annotate(&Annotation::InvalidQuantile(q), aggregation.parameter_span);
    if nan {
        remark(f64::NAN);
    }
    if max > 1.0 {
        remark(max);
    }
    if min < 0.0 {
        remark(min);
    }
    evaluator.samples.release_to(before, 0);
    hand_on(evaluator, cells, steps, sink, |values, step| {
        quantile(q.at(step), values.get_or_insert_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variance_of_what_is_not_finite_is_nan() {
        let variance = |values: &[f64]| {
            let mut variance = Variance::new(values[0]);
            values[1..].iter().for_each(|v| variance.add(*v));
            variance.variance()
        };
        assert_eq!(variance(&[2.0]), 0.0);
        assert_eq!(variance(&[1.0, 2.0, 3.0, 4.0]), 1.25);
        assert!(variance(&[f64::INFINITY]).is_nan());
        assert!(variance(&[f64::NAN, 1.0]).is_nan());
    }

    #[test]
    fn extremes_prefer_numbers_to_nan() {
        let mut min = f64::NAN;
        keep_min(&mut min, 2.0);
        keep_min(&mut min, f64::NAN);
        assert_eq!(min, 2.0);
        let mut max = 1.0;
        keep_max(&mut max, f64::NAN);
        assert_eq!(max, 1.0);
    }

    #[test]
    fn nan_hides_other_extremes_of_a_parameter() {
        let of = |values: &[f64]| extremes_of(values.iter().copied());
        let (min, max, nan) = of(&[2.0, f64::NAN, 3.0]);
        assert!(min.is_nan() && max.is_nan() && nan);
        let (min, max, _) = of(&[f64::NAN, f64::INFINITY]);
        assert!(min.is_nan() && max == f64::INFINITY);
        assert_eq!(of(&[2.0, -1.0]), (-1.0, 2.0, false));
    }
}
