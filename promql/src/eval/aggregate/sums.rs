//! `sum` and `avg`, of floats and of histograms.
//!
//! A group has one kind of samples at a step, or no result. Floats alone take the short way; what histograms need is kept beside the
//! floats, for steps that have any.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use model::{Charge, CounterReset, FloatHistogram};

use super::cells::{Cell, Cells, occupied};
use crate::eval::annotations::{Annotation, Operation};
use crate::eval::block::{ABSENT, Sink, is_absent, is_present};
use crate::eval::evaluator::Evaluator;
use crate::eval::failure::QueryFailure;
use crate::eval::histogram_mean::HistogramMean;
use crate::eval::kahan::{KahanMean, KahanSum};
use crate::eval::plan::Aggregation;
use crate::eval::row::{Histograms, Row, RowRef, put};
use crate::eval::steps::Steps;

/// A sum or a mean of floats in the making, and what it is for histograms.
pub(super) trait Total: Cell + Copy {
    /// Of histograms.
    const IS_MEAN: bool;
    /// Of one value.
    fn new(first: f64) -> Self;
    /// Takes `v` into account.
    fn add(&mut self, v: f64);
    /// The result.
    fn total(self) -> f64;
}

impl Cell for KahanSum {
    /// No arithmetic gives this.
    const NONE: Self = Self::new(ABSENT);

    fn is_none(&self) -> bool {
        is_absent(self.sum)
    }
}

impl Cell for KahanMean {
    const NONE: Self = Self::new(ABSENT);

    fn is_none(&self) -> bool {
        is_absent(self.sum())
    }
}

impl Total for KahanSum {
    const IS_MEAN: bool = false;
    fn new(first: f64) -> Self {
        Self::new(first)
    }
    fn add(&mut self, v: f64) {
        *self = self.plus(v);
    }
    fn total(self) -> f64 {
        self.total()
    }
}

impl Total for KahanMean {
    const IS_MEAN: bool = true;
    fn new(first: f64) -> Self {
        Self::new(first)
    }
    fn add(&mut self, v: f64) {
        self.add(v);
    }
    fn total(self) -> f64 {
        self.mean()
    }
}

/// The histograms of a group at one step.
#[derive(Debug, Default)]
struct Mixed {
    /// `None` if a float came first: there is no result anyway.
    total: Option<HistogramMean>,
    /// Kinds of histograms that have no sum came together.
    incompatible: bool,
    saw_reset: bool,
    saw_not_reset: bool,
}

/// By group and step.
type Beside = BTreeMap<(usize, usize), Mixed>;

/// Evaluates `sum` or `avg`.
///
/// # Errors
/// [`QueryFailure`]
pub(super) fn stream<T: Total>(
    evaluator: &Evaluator<'_>,
    aggregation: &Aggregation<'_>,
    steps: Steps,
    sink: &mut Sink<'_>,
) -> Result<(), QueryFailure> {
    let mut cells: Cells<T> = Cells::new(evaluator, steps)?;
    let mut beside = Beside::new();
    let held = evaluator.context.budget.charge(0)?;
    let mut adder = Adder { evaluator, aggregation, held, is_mean: T::IS_MEAN };
    let before = evaluator.samples.held();
    evaluator.stream(&aggregation.input, steps, &mut |series, row| {
        let group = cells.groups.of(&series, &aggregation.grouping, &mut cells.charge)?;
        let mixed = !row.histograms.is_empty()
            || (!beside.is_empty() && beside.range((group, 0)..(group + 1, 0)).next().is_some());
        if mixed {
            let metric = series.labels.metric_name();
            let row_cells = cells.at(group, 0..steps.count)?;
            return adder.add(group, metric, row.view(), row_cells, &mut beside);
        }
        let occupied = occupied(row.values);
        let row_cells = cells.at(group, occupied.clone())?;
        for (cell, &v) in row_cells.iter_mut().zip(&row.values[occupied]) {
            if is_present(v) {
                add_float(cell, v);
            }
        }
        Ok(())
    })?;
    evaluator.samples.release_to(before, 0);
    finish(evaluator, aggregation, cells, beside, steps, sink)
}

fn add_float<T: Total>(cell: &mut T, v: f64) {
    if cell.is_none() {
        *cell = T::new(v);
    } else {
        cell.add(v);
    }
}

/// Adds rows to groups that have histograms.
struct Adder<'a> {
    evaluator: &'a Evaluator<'a>,
    aggregation: &'a Aggregation<'a>,
    /// What groups hold.
    held: Charge,
    is_mean: bool,
}

impl Adder<'_> {
    fn add<T: Total>(
        &mut self,
        group: usize,
        metric: &str,
        row: RowRef<'_>,
        cells: &mut [T],
        beside: &mut Beside,
    ) -> Result<(), QueryFailure> {
        for (step, cell) in cells.iter_mut().enumerate() {
            if let Some(histogram) = row.histograms.get(step) {
                let mixed = match beside.entry((group, step)) {
                    Entry::Occupied(entry) => entry.into_mut(),
                    Entry::Vacant(entry) => {
                        // The sum, and what rounding loses of it.
                        self.held.grow(size_of::<Mixed>() + 2 * histogram.bytes())?;
                        entry.insert(Mixed::default())
                    }
                };
                if !mixed.incompatible {
                    let is_first = mixed.total.is_none() && cell.is_none();
                    self.add_histogram(metric, mixed, histogram, is_first);
                }
            } else if is_present(row.values[step])
                && !beside.get(&(group, step)).is_some_and(|mixed| mixed.incompatible)
            {
                add_float(cell, row.values[step]);
            }
        }
        Ok(())
    }

    fn add_histogram(
        &self,
        metric: &str,
        mixed: &mut Mixed,
        histogram: &FloatHistogram,
        is_first: bool,
    ) {
        if is_first {
            mixed.total = Some(HistogramMean::new(histogram.clone(), self.is_mean));
        } else if let Some(total) = &mut mixed.total {
            match total.add(histogram) {
                Ok(combined) if combined.bounds_reconciled => {
                    self.remark(&Annotation::BoundsReconciled(Operation::Aggregation));
                }
                Ok(_) => {}
                Err(_) => {
                    self.remark(&Annotation::MixedSchemas(metric));
                    mixed.incompatible = true;
                }
            }
        } else {
            return;
        }
        mixed.saw_reset |= histogram.counter_reset == CounterReset::Reset;
        mixed.saw_not_reset |= histogram.counter_reset == CounterReset::NotReset;
    }

    fn remark(&self, annotation: &Annotation<'_>) {
        self.evaluator.annotate(annotation, self.aggregation.input_span);
    }
}

fn finish<T: Total>(
    evaluator: &Evaluator<'_>,
    aggregation: &Aggregation<'_>,
    cells: Cells<T>,
    mut beside: Beside,
    steps: Steps,
    sink: &mut Sink<'_>,
) -> Result<(), QueryFailure> {
    let mut out = evaluator.empty_row(steps)?;
    let remark = |annotation| evaluator.annotate(&annotation, aggregation.input_span);
    for (group, (series, mut cells)) in cells.into_groups().enumerate() {
        out.fill(ABSENT);
        for (step, cell) in cells.iter_mut().filter(|(_, cell)| !cell.is_none()) {
            out[step] = cell.total();
        }
        let mut histograms = Histograms::default();
        let later = beside.split_off(&(group + 1, 0));
        for ((_, step), mixed) in std::mem::replace(&mut beside, later) {
            if cells.get(step).is_some_and(|cell| !cell.is_none()) {
                remark(Annotation::MixedInAggregation);
                put(&mut out, &mut histograms, step, None);
                continue;
            }
            if mixed.incompatible {
                continue;
            }
            if mixed.saw_reset && mixed.saw_not_reset {
                remark(Annotation::ResetCollision(Operation::Aggregation));
            }
            let total = mixed.total.map(|total| {
                let mut total = total.finish();
                total.compact(0);
                total.into()
            });
            put(&mut out, &mut histograms, step, total);
        }
        let row = Row { values: &mut out, histograms };
        if evaluator.hold_row(row.view())? > 0 {
            sink(series, row)?;
        }
    }
    Ok(())
}
