//! Evaluates plans: the operators' common ground.
//!
//! A vector is evaluated series by series: an operator takes each row of its operand as it comes and hands
//! its own on, so an aggregation over a million series holds its groups and one row. Operators that need
//! all rows at once collect them into a [`Block`].

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ops::Deref;

use model::{Querier, QueryContext};

use super::annotations::{Annotation, Annotations};
use super::arithmetic::Filter;
use super::block::{ABSENT, Block, Merger, Series, Sink, is_present};
use super::buffer::Buffer;
use super::failure::QueryFailure;
use super::peak::{self, Counts, Peaks};
use super::plan::{ScalarPlan, Stage, VectorPlan};
use super::record::{self, Record};
use super::row::{Histograms, Row, RowRef};
use super::samples::{SampleCount, Tally};
use super::scalar::ScalarRow;
use super::shared::{self, Kept};
use super::split::Helpers;
use super::steps::Steps;
use super::{
    absent, aggregate, extended, histogram, info, join, map, relabel, selector, sort, window,
};
use crate::ast::Span;

/// What it takes to evaluate something for a series on its own. Each thread of a query has one.
pub(super) struct Worker<'e> {
    /// What the query may use.
    pub(super) context: &'e QueryContext,
    /// Milliseconds that an instant selector looks back.
    pub(super) lookback: i64,
    /// Names are dropped when the query is done.
    pub(super) delayed_names: bool,
    /// Start timestamps count.
    pub(super) use_starts: bool,
    /// Types of metrics are labels.
    pub(super) type_labels: bool,
    /// Remarks so far.
    pub(super) annotations: RefCell<Annotations>,
    /// Samples and steps since the last look at the clock.
    pub(super) unchecked: Cell<u64>,
}

impl Worker<'_> {
    /// Samples and steps between looks at the clock, which takes as long as a few of them.
    const UNCHECKED_MAX: u64 = 1 << 12;

    /// One for another thread, without the remarks.
    pub(super) fn beside(&self) -> Self {
        Self { annotations: RefCell::default(), unchecked: Cell::default(), ..*self }
    }

    /// To be called for each series at least: `work` is how many samples and steps were looked at since the last call.
    ///
    /// # Errors
    /// When the query was told to stop.
    #[inline]
    pub(super) fn check_after(&self, work: usize) -> Result<(), QueryFailure> {
        let unchecked = self.unchecked.get().saturating_add(work as u64);
        if unchecked < Self::UNCHECKED_MAX {
            self.unchecked.set(unchecked);
            return Ok(());
        }
        self.unchecked.set(0);
        Ok(self.context.check()?)
    }

    /// Adds a remark about the expression at `span`.
    pub(super) fn annotate(&self, annotation: &Annotation<'_>, span: Span) {
        self.annotations.borrow_mut().add(annotation, span);
    }

    /// Adds remarks of another thread.
    pub(super) fn remember(&self, annotations: Annotations) {
        self.annotations.borrow_mut().extend(annotations);
    }
}

/// What the evaluation of one query shares: what the thread of the query has to evaluate series, and what there is but once.
pub(super) struct Evaluator<'e> {
    /// For the thread of the query.
    pub(super) worker: Worker<'e>,
    /// The store; `None` when the query selects nothing.
    pub(super) querier: Option<&'e dyn Querier>,
    /// Threads that may help.
    pub(super) helpers: &'e Helpers,
    /// Samples held and read.
    pub(super) samples: SampleCount,
    /// Results that are asked for again.
    pub(super) kept: Kept,
    /// What the store had to say about selections.
    pub(super) store_warnings: RefCell<BTreeSet<String>>,
    /// What operations did, if that is asked for.
    pub(super) record: Option<Record>,
    /// What parts of the query hold, if that is asked for.
    pub(super) peaks: Option<Peaks>,
}

impl<'e> Deref for Evaluator<'e> {
    type Target = Worker<'e>;

    fn deref(&self) -> &Worker<'e> {
        &self.worker
    }
}

impl Evaluator<'_> {
    /// Evaluates `plan` at each of `steps` and hands each series that has a sample to `sink`.
    ///
    /// # Errors
    /// [`QueryFailure`]
    pub(super) fn stream(
        &self,
        plan: &VectorPlan<'_>,
        steps: Steps,
        sink: &mut Sink<'_>,
    ) -> Result<(), QueryFailure> {
        self.stream_where(plan, steps, None, sink)
    }

    /// [`stream`](Self::stream) to a sink that drops what does not pass `filter`: labels of series of which nothing does may be missing.
    ///
    /// # Errors
    /// [`QueryFailure`]
    fn stream_where(
        &self,
        plan: &VectorPlan<'_>,
        steps: Steps,
        filter: Option<Filter>,
        sink: &mut Sink<'_>,
    ) -> Result<(), QueryFailure> {
        self.context.check()?;
        let Some(peaks) = &self.peaks else {
            return self.stream_recorded(plan, steps, filter, sink);
        };
        let (mark, mut counts) = (peaks.mark(), Counts::new(steps.count, self.context));
        self.stream_recorded(plan, steps, filter, &mut |series, row| {
            if let Some(counts) = &mut counts {
                counts.add(row.view());
            }
            sink(series, row)
        })?;
        let costs = peaks.since(mark);
        let nothing = steps.count == 0;
        peaks.push(if nothing {
            peak::by_step([], counts)
        } else {
            peak::of_vector(plan, &costs, counts)
        });
        Ok(())
    }

    fn stream_recorded(
        &self,
        plan: &VectorPlan<'_>,
        steps: Steps,
        filter: Option<Filter>,
        sink: &mut Sink<'_>,
    ) -> Result<(), QueryFailure> {
        if steps.count == 0 {
            return Ok(());
        }
        match &self.record {
            Some(record) => record::stream(self, record, plan, steps, filter, sink),
            None => self.stream_plan(plan, steps, filter, sink),
        }
    }

    /// [`stream_where`](Self::stream_where) without writing anything down.
    ///
    /// # Errors
    /// [`QueryFailure`]
    pub(super) fn stream_plan(
        &self,
        plan: &VectorPlan<'_>,
        steps: Steps,
        filter: Option<Filter>,
        sink: &mut Sink<'_>,
    ) -> Result<(), QueryFailure> {
        match plan {
            VectorPlan::Selector(selector) => selector::stream(self, selector, steps, filter, sink),
            VectorPlan::Timestamps(selector) => {
                selector::stream_timestamps(self, selector, steps, sink)
            }
            VectorPlan::StartTimestamps(selector) => {
                selector::stream_start_timestamps(self, selector, steps, sink)
            }
            VectorPlan::Smoothed(selector) => extended::stream(self, selector, steps, sink),
            VectorPlan::Nothing(input) => self.stream(input, steps, &mut |_, _| Ok(())),
            VectorPlan::Failing(error) => Err(error.clone().into()),
            VectorPlan::Window(window) => window::stream(self, window, steps, filter, sink),
            VectorPlan::AbsentOverTime(source, labels) => {
                absent::stream_over_time(self, source, labels, steps, sink)
            }
            VectorPlan::Absent(input, labels) => absent::stream(self, input, labels, steps, sink),
            VectorPlan::FromScalar(scalar) => self.stream_scalar(scalar, steps, sink),
            VectorPlan::Date(part) => {
                let mut row = self.empty_row(steps)?;
                for (value, t) in row.iter_mut().zip(steps.iter()) {
                    *value = part.of(super::seconds(t).floor());
                }
                self.stream_row(row, sink)
            }
            VectorPlan::Pipeline(input, stages) => {
                self.stream_pipeline(input, &stages.list, steps, sink)
            }
            VectorPlan::Aggregate(aggregation) => aggregate::stream(self, aggregation, steps, sink),
            VectorPlan::Histogram(function) => histogram::stream(self, function, steps, sink),
            VectorPlan::Sort(input, sorting, span) => {
                sort::stream(self, input, sorting, *span, steps, sink)
            }
            VectorPlan::Relabel(input, relabel) => {
                relabel::stream(self, input, relabel, steps, sink)
            }
            VectorPlan::Info(plan) => info::stream(self, plan, steps, sink),
            VectorPlan::Once(input) => self.stream_once(input, steps, sink),
            VectorPlan::Shared(part) => shared::stream(self, part, steps, sink),
        }
    }

    /// Evaluates `plan` at each of `steps` and holds the result.
    ///
    /// # Errors
    /// [`QueryFailure`]
    pub(super) fn collect(
        &self,
        plan: &VectorPlan<'_>,
        steps: Steps,
    ) -> Result<Block, QueryFailure> {
        let mut block = Block::new(steps.count, self.context)?;
        self.stream(plan, steps, &mut |series, row| block.push(series, row))?;
        Ok(block)
    }

    /// Evaluates `plan` at each of `steps`.
    ///
    /// # Errors
    /// [`QueryFailure`]
    pub(super) fn scalar(
        &self,
        plan: &ScalarPlan<'_>,
        steps: Steps,
    ) -> Result<ScalarRow, QueryFailure> {
        super::scalar::evaluate(self, plan, steps)
    }

    /// A row of `steps` without samples.
    ///
    /// # Errors
    /// [`QueryFailure::TooManySamples`] for more steps than a row may have, or when the budget does not
    /// allow the row.
    pub(super) fn empty_row(&self, steps: Steps) -> Result<Buffer, QueryFailure> {
        self.empty_row_of(steps.count)
    }

    /// A row of `width` steps without samples.
    ///
    /// # Errors
    /// As [`empty_row`](Self::empty_row).
    pub(super) fn empty_row_of(&self, width: usize) -> Result<Buffer, QueryFailure> {
        if width > super::STEPS_MAX {
            return Err(QueryFailure::TooManySamples);
        }
        Buffer::new(ABSENT, width, self.context)
    }

    /// A collector of the results of an operator. Prometheus looks for duplicates at each operator, but
    /// leaves those of instant queries to the end when names are dropped there.
    ///
    /// # Errors
    /// [`QueryFailure::OverBudget`]
    pub(super) fn merger(&self, steps: Steps) -> Result<Merger, QueryFailure> {
        let block = Block::new(steps.count, self.context)?;
        Ok(if self.delayed_names && !steps.is_range {
            Merger::keeping_duplicates(block)
        } else {
            Merger::new(block)
        })
    }

    /// Counts the samples of a row that an operator is about to hand on.
    ///
    /// # Errors
    /// [`QueryFailure::TooManySamples`], or when the query was told to stop.
    pub(super) fn hold_row(&self, row: RowRef<'_>) -> Result<u64, QueryFailure> {
        self.check_after(1 + row.values.len())?;
        let samples = row.samples();
        self.samples.hold(samples)?;
        Ok(samples)
    }

    fn stream_scalar(
        &self,
        scalar: &ScalarPlan<'_>,
        steps: Steps,
        sink: &mut Sink<'_>,
    ) -> Result<(), QueryFailure> {
        let row = self.scalar(scalar, steps)?;
        let mut values = self.empty_row(steps)?;
        values.iter_mut().enumerate().for_each(|(step, value)| *value = row.at(step));
        self.stream_row(values, sink)
    }

    fn stream_row(&self, mut values: Buffer, sink: &mut Sink<'_>) -> Result<(), QueryFailure> {
        let row = Row::of(&mut values);
        self.hold_row(row.view())?;
        sink(Series::new(model::Labels::empty()), row)
    }

    /// Runs a pipeline, scalars on the left of its vector first: up to the last stage that needs all rows stage by stage, the rest row by row.
    fn stream_pipeline(
        &self,
        input: &VectorPlan<'_>,
        stages: &[Stage<'_>],
        steps: Steps,
        sink: &mut Sink<'_>,
    ) -> Result<(), QueryFailure> {
        let mut held: Option<Block> = None;
        let mut rest = stages;
        let mut left = map::evaluate_left(self, stages, steps)?;
        let mut left = &mut left[..];
        let mark = self.peaks.as_ref().map_or(0, Peaks::mark);
        while let Some(at) = rest.iter().position(|stage| !matches!(stage, Stage::Map(_))) {
            let (maps, from_blocking) = rest.split_at(at);
            let mut merger = match &from_blocking[0] {
                Stage::Distinct => Merger::new(Block::new(steps.count, self.context)?),
                _ => Merger::keeping_duplicates(Block::new(steps.count, self.context)?),
            };
            let (of_maps, of_others) = left.split_at_mut(at);
            self.stream_maps(held.take(), input, (maps, of_maps), steps, &mut |series, row| {
                merger.push(series, row).map(|_| ())
            })?;
            let block = merger.into_block();
            held = Some(match &from_blocking[0] {
                Stage::Join(join) => {
                    let joined = join::evaluate(self, join, block, steps)?;
                    if let Some(peaks) = &self.peaks {
                        let operands = peaks.since(mark);
                        let counts = Counts::of(&joined, self.context);
                        peaks.push(peak::by_step(&operands, counts));
                    }
                    joined
                }
                Stage::Map(_) | Stage::Distinct => block,
            });
            (rest, left) = (&from_blocking[1..], &mut of_others[1..]);
        }
        self.stream_maps(held, input, (rest, left), steps, sink)
    }

    /// Streams `held`, or `input` if nothing was held yet, through `maps`, whose scalars on the left are in `left`.
    fn stream_maps(
        &self,
        held: Option<Block>,
        input: &VectorPlan<'_>,
        (maps, left): (&[Stage<'_>], &mut [Option<map::Evaluated>]),
        steps: Steps,
        sink: &mut Sink<'_>,
    ) -> Result<(), QueryFailure> {
        let mark = self.peaks.as_ref().map_or(0, Peaks::mark);
        // What is held has been evaluated already.
        let mark = if held.is_some() { mark.saturating_sub(1) } else { mark };
        let stream = |sink: &mut Sink<'_>| match held {
            Some(block) => block.stream(sink),
            None => self.stream_where(input, steps, map::filter_of(maps), sink),
        };
        if maps.is_empty() {
            return stream(sink);
        }
        let mut mapper = match map::Mapper::new(self, maps, left, steps) {
            // Prometheus evaluates the vector before scalars on the right of it, so it may have failed before they do.
            Err(QueryFailure::Execution(error)) => {
                stream(&mut |_, _| Ok(()))?;
                return Err(error.into());
            }
            mapper => mapper?,
        };
        let before = self.samples.held();
        let mut kept = 0;
        stream(&mut |mut series, mut row| {
            mapper.apply(&mut series, &mut row)?;
            let samples = row.samples();
            if samples == 0 {
                return Ok(());
            }
            kept += samples;
            self.samples.hold_for_a_moment(kept)?;
            sink(series, row)
        })?;
        self.samples.release_to(before, kept);
        if let Some(peaks) = &self.peaks {
            let input = peaks.since(mark).pop().flatten();
            peaks.push(mapper.cost(maps, input));
        }
        Ok(())
    }

    fn stream_once(
        &self,
        input: &VectorPlan<'_>,
        steps: Steps,
        sink: &mut Sink<'_>,
    ) -> Result<(), QueryFailure> {
        if steps.count == 1 {
            return self.stream(input, steps.first(), sink);
        }
        let mut wide = self.empty_row(steps)?;
        let outer = RefCell::new(Some(self.samples.exchange(Tally::default())));
        let exchange = || {
            let tally = outer.borrow_mut().take().unwrap_or_default();
            *outer.borrow_mut() = Some(self.samples.exchange(tally));
        };
        let result = self.stream(input, steps.first(), &mut |series, row| {
            let value = row.values[0];
            debug_assert!(is_present(value), "series without samples are not handed on");
            wide.fill(value);
            let samples = row.samples();
            self.samples.hold(samples.saturating_mul(steps.count as u64 - 1))?;
            let histogram = row.histograms.get(0);
            let bytes = histogram.map(|_| steps.count * size_of_val(&histogram));
            let _places = bytes.map(|bytes| self.context.budget.charge(bytes)).transpose()?;
            let histograms = Histograms::repeat(histogram, steps.count);
            exchange();
            let result = sink(series, Row { values: &mut wide, histograms });
            exchange();
            result
        });
        exchange();
        let once = outer.into_inner().unwrap_or_default();
        self.samples.count_each_step(&once, steps.count);
        result
    }
}
