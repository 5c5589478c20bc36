//! The engine: evaluates queries against any [`Queryable`].
//!
//! [`mod@plan`] resolves everything that does not depend on samples, [`evaluator`] runs the plan. Instant queries are range queries of one
//! step. The engine starts threads of its own for deeply nested queries alone, and for what is large enough to be split ([`split`]); they end
//! with the query. It waits for nothing but the store.

mod absent;
mod aggregate;
mod annotations;
mod arithmetic;
mod block;
mod buffer;
mod dates;
mod elements;
mod evaluator;
mod extended;
mod failure;
mod go_float;
mod go_sort;
mod groups;
mod histogram;
mod histogram_mean;
mod histogram_rate;
mod info;
mod join;
mod kahan;
mod lanes;
mod layout;
mod map;
mod mixed_window;
mod moments;
mod native_quantile;
mod order;
mod over_time;
mod peak;
mod plan;
mod quantile;
mod rate;
mod record;
mod regression;
mod relabel;
mod row;
mod samples;
mod scalar;
mod selector;
mod shared;
mod sort;
mod sorted_window;
mod split;
mod start_times;
mod steps;
mod subquery;
mod window;

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use foldhash::{HashSet, HashSetExt};
use model::{Charge, Columns, Labels, QueryContext, Queryable, Sample, TimeRange, Timestamp};
use telemetry::{IntGauge, Registry, register};

use crate::ast::{Expr, ValueType};
use crate::parse::{ParseOptions, parse_here};
use crate::stack;
use crate::value::{HeldBytes, MatrixSeries, QueryResult, Value, VectorSample};
use annotations::Annotations;
use block::{Block, Merger, Series, without_metadata};
use evaluator::{Evaluator, Worker};
use peak::Peaks;
use plan::{Plan, PlanContext, Source, VectorPlan, plan};
use record::Record;
use row::{Row, RowRef};
use samples::{SampleCount, Tally};
use shared::Kept;
use split::Helpers;
use steps::Steps;

pub use failure::{ExecutionError, InvalidQuery, QueryFailure};
pub use go_float::parse as parse_float;

/// Most steps of an evaluation, subqueries included. The API allows far fewer.
const STEPS_MAX: usize = 50_000_000;

/// Bytes that tokens, tree and plan of a query take for each byte of its text, at most: an operator and an operand are two bytes, and three nodes.
const TREE_BYTES_PER_BYTE: usize = 512;

/// A time in seconds, as expressions see it.
#[expect(clippy::cast_precision_loss, reason = "Prometheus divides as floats too")]
fn seconds(t: Timestamp) -> f64 {
    t as f64 / 1000.0
}

/// The length of a range in seconds, as Go's `Duration.Seconds` rounds it: whole seconds and the rest one by one.
#[expect(clippy::cast_precision_loss, reason = "ranges are shorter than 2^53 ms")]
fn range_seconds(ms: i64) -> f64 {
    (ms / 1_000) as f64 + (ms % 1_000 * 1_000_000) as f64 / 1e9
}

/// How an engine evaluates.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineOptions {
    /// How far back an instant selector looks.
    pub lookback_delta: Duration,
    /// How long a query may take; the deadline of its context may be earlier.
    pub timeout: Duration,
    /// Samples that a query may hold at a time.
    pub samples_max: u64,
    /// Queries at a time. For whoever runs them: the engine does not wait.
    pub concurrency_max: usize,
    /// Step of subqueries that do not say, to begin with.
    pub subquery_step: Duration,
    /// Metric names are dropped when the query is done, not by the operations that make them meaningless
    /// (`promql-delayed-name-removal`).
    pub delayed_name_removal: bool,
    /// Start timestamps tell of counter resets (`use-start-timestamps`).
    pub use_start_timestamps: bool,
    /// Metrics tell their type in a label, so remarks on what is no counter go by that rather than by names (`type-and-unit-labels`).
    pub type_and_unit_labels: bool,
    /// Threads that evaluate at a time: that of each query, and helpers that all queries share, one fewer than this. At least 1.
    pub parallelism: usize,
    /// Samples and steps that must be ahead of a query for helpers to be called: less, some ten milliseconds of work, is done as soon alone.
    pub parallel_work_min: u64,
    /// Which experimental parts of the language are allowed.
    pub parse: ParseOptions,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            lookback_delta: Duration::from_secs(5 * 60),
            timeout: Duration::from_secs(2 * 60),
            samples_max: 50_000_000,
            concurrency_max: 20,
            subquery_step: Duration::from_secs(60),
            delayed_name_removal: false,
            use_start_timestamps: false,
            type_and_unit_labels: false,
            parallelism: 1,
            parallel_work_min: 1_000_000,
            parse: ParseOptions::default(),
        }
    }
}

/// What may differ from query to query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueryOptions {
    /// Instead of the engine's.
    pub lookback_delta: Option<Duration>,
    /// Shortens the engine's.
    pub timeout: Option<Duration>,
    /// Count the samples that each step looks at (`stats=all` with `promql-per-step-stats`).
    pub per_step_stats: bool,
    /// Tell how many samples are held at most as Prometheus counts them, not as they are held, and what subqueries read for steps alone (`stats`).
    pub peak_stats: bool,
    /// Write down what each operation did.
    pub explain: bool,
}

/// Evaluates queries.
#[derive(Debug)]
pub struct Engine {
    options: EngineOptions,
    /// Milliseconds; follows the configuration.
    subquery_step: AtomicI64,
    helpers: Helpers,
    running: IntGauge,
}

/// When an expression is evaluated.
#[derive(Clone, Copy, Debug)]
enum Times {
    Instant(Timestamp),
    Range(Steps, Timestamp),
}

impl Engine {
    /// An engine whose metrics are kept in `registry`.
    #[must_use]
    pub fn new(options: EngineOptions, registry: &Registry) -> Self {
        let concurrent_max = register(
            registry,
            IntGauge::new(
                "prometheus_engine_queries_concurrent_max",
                "The max number of concurrent queries.",
            ),
        );
        concurrent_max.set(i64::try_from(options.concurrency_max).unwrap_or(i64::MAX));
        let running = register(
            registry,
            IntGauge::new(
                "prometheus_engine_queries",
                "The current number of queries being executed or waiting.",
            ),
        );
        let subquery_step = AtomicI64::new(milliseconds(options.subquery_step));
        let helpers =
            Helpers::new(options.parallelism.saturating_sub(1), options.parallel_work_min);
        Self { options, subquery_step, helpers, running }
    }

    /// Changes the step of subqueries that do not say, for queries from now on.
    pub fn set_subquery_step(&self, step: Duration) {
        self.subquery_step.store(milliseconds(step), Ordering::Relaxed);
    }

    /// Evaluates `query` at `t`.
    ///
    /// # Errors
    /// [`QueryFailure`]
    pub fn instant(
        &self,
        store: &dyn Queryable,
        query: &str,
        t: Timestamp,
        options: &QueryOptions,
        context: &QueryContext,
    ) -> Result<QueryResult, QueryFailure> {
        self.query(store, query, Times::Instant(t), options, context)
    }

    /// Evaluates `query` at `start`, `start + step`, … up to `end`.
    ///
    /// # Errors
    /// [`QueryFailure`]
    #[expect(clippy::too_many_arguments, reason = "start, end and step are what a range query is")]
    pub fn range(
        &self,
        store: &dyn Queryable,
        query: &str,
        start: Timestamp,
        end: Timestamp,
        step: Duration,
        options: &QueryOptions,
        context: &QueryContext,
    ) -> Result<QueryResult, QueryFailure> {
        let step = milliseconds(step);
        if step == 0 {
            return Err(InvalidQuery::Step.into());
        }
        let times = Times::Range(Steps::new(start, end, step), end);
        self.query(store, query, times, options, context)
    }

    fn query(
        &self,
        store: &dyn Queryable,
        query: &str,
        times: Times,
        options: &QueryOptions,
        context: &QueryContext,
    ) -> Result<QueryResult, QueryFailure> {
        self.running.inc();
        let _done = DecrementOnDrop(&self.running);
        let timeout = options.timeout.map_or(self.options.timeout, |t| t.min(self.options.timeout));
        let own_deadline = Instant::now().checked_add(timeout);
        let deadline = [context.deadline, own_deadline].into_iter().flatten().min();
        let context = QueryContext { deadline, ..context.clone() };
        stack::with_room_for(query, || {
            let _held = context.budget.charge(query.len().saturating_mul(TREE_BYTES_PER_BYTE))?;
            let expr = parse_here(query, &self.options.parse)?;
            self.evaluate(store, query, &expr, times, options, &context)
        })
        .map_err(QueryFailure::Thread)?
    }

    fn evaluate(
        &self,
        store: &dyn Queryable,
        query: &str,
        expr: &Expr,
        times: Times,
        options: &QueryOptions,
        context: &QueryContext,
    ) -> Result<QueryResult, QueryFailure> {
        let (start, end, step, steps) = match times {
            Times::Instant(t) => (t, t, 0, Steps::single(t)),
            Times::Range(steps, end) => (steps.start, end, steps.interval, steps),
        };
        if steps.count > STEPS_MAX {
            return Err(QueryFailure::TooManySamples);
        }
        let lookback = milliseconds(options.lookback_delta.unwrap_or(self.options.lookback_delta));
        let delayed_names = self.options.delayed_name_removal;
        let plan_context = PlanContext {
            start,
            end,
            step,
            lookback,
            subquery_interval: self.subquery_step.load(Ordering::Relaxed),
            delayed_names,
            type_labels: self.options.type_and_unit_labels,
            by_the_letter: options.peak_stats,
        };
        if let Times::Range(..) = times
            && matches!(expr.value_type(), ValueType::Matrix | ValueType::String)
        {
            return Err(InvalidQuery::RangeType(expr.value_type()).into());
        }
        let (plan, bounds) = plan(expr, &plan_context)?;
        let querier = match bounds {
            Some(TimeRange { min, max }) if min <= max => {
                Some(store.querier(TimeRange { min, max })?)
            }
            _ => None,
        };
        let worker = Worker {
            context,
            lookback,
            delayed_names,
            use_starts: self.options.use_start_timestamps,
            type_labels: self.options.type_and_unit_labels,
            annotations: RefCell::new(Annotations::default()),
            unchecked: Cell::new(0),
        };
        let evaluator = Evaluator {
            worker,
            querier: querier.as_deref(),
            helpers: &self.helpers,
            samples: SampleCount::new(
                self.options.samples_max,
                options.peak_stats || options.per_step_stats,
            ),
            kept: Kept::default(),
            store_warnings: RefCell::default(),
            record: options.explain.then(Record::default),
            peaks: options.peak_stats.then(Peaks::default),
        };
        let per_step = if options.per_step_stats { steps.count } else { 0 };
        // What is counted is copied, and has the times beside it in the result.
        let _copies = context.budget.charge(per_step.saturating_mul(6 * size_of::<u64>()))?;
        if per_step > 0 {
            evaluator.samples.count_per_step(per_step, context)?;
        }
        let uncharged = |value| Ok::<_, QueryFailure>((value, context.budget.charge(0)?));
        let (value, held) = match (&plan, times) {
            (Plan::Text(text), _) => uncharged(Value::String(start, String::from(*text)))?,
            (Plan::Matrix(source), _) => ranges(&evaluator, source, steps)?,
            (Plan::Scalar(scalar), Times::Instant(t)) => {
                uncharged(Value::Scalar(Sample { t, v: evaluator.scalar(scalar, steps)?.at(0) }))?
            }
            (Plan::Scalar(scalar), Times::Range(..)) => {
                let row = evaluator.scalar(scalar, steps)?;
                let mut row = row.into_values(steps.count, context)?;
                let row = Row::of(&mut row);
                let held = context.budget.charge(2 * size_of_val(&*row.values))?;
                let (times, _charge) = times_of(&evaluator, steps)?;
                let series = matrix_series(Labels::empty(), row.view(), &times);
                (Value::Matrix(series.into_iter().collect()), held)
            }
            (Plan::Vector(vector), Times::Instant(t)) => vector_at(&evaluator, vector, t)?,
            (Plan::Vector(vector), Times::Range(..)) => vector_over(&evaluator, vector, steps)?,
        };
        let mut stats = evaluator.samples.stats();
        if let Some(peak) = evaluator.peaks.as_ref().and_then(Peaks::peak) {
            stats.samples_peak = peak;
        }
        let (looked_at, read) = evaluator.samples.per_step();
        let samples_per_step = steps.iter().zip(looked_at).collect();
        let samples_read_per_step = steps.iter().zip(read).collect();
        let (mut warnings, infos) =
            evaluator.worker.annotations.into_inner().into_texts(query, expr);
        warnings.extend(evaluator.store_warnings.into_inner());
        let held = HeldBytes::new(held);
        let explained = evaluator.record.map(|record| record.into_tree(String::from(query)));
        Ok(QueryResult {
            value,
            warnings,
            infos,
            stats,
            samples_per_step,
            samples_read_per_step,
            explained,
            held,
        })
    }
}

struct DecrementOnDrop<'a>(&'a IntGauge);

impl Drop for DecrementOnDrop<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The labels of a series as the answer shows them.
fn final_labels(series: Series) -> Labels {
    if series.drop_name { without_metadata(&series.labels) } else { series.labels }
}

/// A value and the bytes that it holds.
type Held = (Value, Charge);

/// The answer to an instant query: in the order of evaluation, which `sort` and `topk` decide.
fn vector_at(
    evaluator: &Evaluator<'_>,
    plan: &VectorPlan<'_>,
    t: Timestamp,
) -> Result<Held, QueryFailure> {
    let mut held = evaluator.context.budget.charge(0)?;
    let mut samples: Vec<VectorSample> = Vec::new();
    evaluator.stream(plan, Steps::single(t), &mut |series, row| {
        let labels = final_labels(series);
        held.grow(size_of::<VectorSample>() + labels.packed_bytes() + row.histograms.bytes())?;
        samples.push(vector_sample(labels, row.view(), t));
        Ok(())
    })?;
    if evaluator.delayed_names {
        let mut seen = HashSet::with_capacity(samples.len());
        if !samples.iter().all(|sample| seen.insert(&sample.labels)) {
            return Err(ExecutionError::DuplicateLabels.into());
        }
    }
    Ok((Value::Vector(samples), held))
}

/// The sample of a row of one step.
fn vector_sample(labels: Labels, row: RowRef<'_>, t: Timestamp) -> VectorSample {
    let histogram = row.histograms.get(0).cloned();
    let v = histogram.as_ref().map_or(row.values[0], |histogram| histogram.sum);
    VectorSample { labels, sample: Sample { t, v }, histogram }
}

/// The answer to a range query: sorted by labels.
fn vector_over(
    evaluator: &Evaluator<'_>,
    plan: &VectorPlan<'_>,
    steps: Steps,
) -> Result<Held, QueryFailure> {
    let mut held = evaluator.context.budget.charge(0)?;
    let mut series = Vec::new();
    let (times, _charge) = times_of(evaluator, steps)?;
    let mut push = |of: Series, row: Row<'_>| {
        if let Some(one) = matrix_series(final_labels(of), row.view(), &times) {
            let bytes = one.samples.capacity_bytes() + one.labels.packed_bytes();
            held.grow(size_of::<MatrixSeries>() + bytes)?;
            series.push(one);
        }
        Ok(())
    };
    if evaluator.delayed_names {
        let mut merger = Merger::new(Block::new(steps.count, evaluator.context)?);
        evaluator.stream(plan, steps, &mut |of, row| {
            merger.push(Series::new(final_labels(of)), row).map(|_| ())
        })?;
        merger.into_block().stream(&mut push)?;
    } else {
        evaluator.stream(plan, steps, &mut push)?;
    }
    series.sort_by(|a: &MatrixSeries, b| a.labels.cmp(&b.labels));
    Ok((Value::Matrix(series), held))
}

/// A row as samples; `None` when there are none. `times` are those of the steps.
fn matrix_series(labels: Labels, row: RowRef<'_>, times: &[Timestamp]) -> Option<MatrixSeries> {
    let present = block::count_present(row.values);
    if present == 0 {
        return None;
    }
    let mut samples = Columns::with_capacity(present);
    if present == times.len() && row.histograms.is_empty() {
        samples.extend_from_slices(times, row.values);
        return Some(MatrixSeries { labels, samples });
    }
    if row.histograms.is_empty() {
        // A series is there for some time at a stretch.
        let alike = |a: &f64, b: &f64| block::is_present(*a) == block::is_present(*b);
        let mut step = 0;
        for values in row.values.chunk_by(alike) {
            if block::is_present(values[0]) {
                samples.extend_from_slices(&times[step..step + values.len()], values);
            }
            step += values.len();
        }
        return Some(MatrixSeries { labels, samples });
    }
    for (step, (&t, &v)) in times.iter().zip(row.values).enumerate() {
        match row.histograms.get(step) {
            Some(histogram) => samples.push_histogram(t, Arc::clone(histogram)),
            None if block::is_present(v) => samples.push(t, v),
            None => {}
        }
    }
    Some(MatrixSeries { labels, samples })
}

/// The times of all steps, and the bytes that they hold.
fn times_of(
    evaluator: &Evaluator<'_>,
    steps: Steps,
) -> Result<(Vec<Timestamp>, Charge), QueryFailure> {
    let charge = evaluator.context.budget.charge(steps.count * size_of::<Timestamp>())?;
    Ok((steps.iter().collect(), charge))
}

/// The answer to an instant query for a range vector: the samples themselves.
fn ranges(
    evaluator: &Evaluator<'_>,
    source: &Source<'_>,
    steps: Steps,
) -> Result<Held, QueryFailure> {
    let mut series = Vec::new();
    let mut held = evaluator.context.budget.charge(0)?;
    let mut push = |of: Series, columns: &Columns| {
        let extended = match source.extension() {
            Some(extension) => {
                let end = source.look().from(steps.start);
                Some(extended::with_ends(columns, end, source.range(), extension)?)
            }
            None => None,
        };
        let columns = extended.as_ref().unwrap_or(columns);
        held.grow(columns.capacity_bytes())?;
        let samples = row::samples_of(columns);
        evaluator.samples.hold(samples)?;
        if matches!(source, Source::Selector { .. }) {
            evaluator.samples.looked_at(samples);
        }
        let labels = final_labels(of);
        if !columns.is_empty() {
            series.push(MatrixSeries { labels, samples: columns.clone() });
        }
        Ok(())
    };
    match source {
        // What is looked at is what the subquery looks at, since nothing looks at its results.
        Source::Subquery(subquery) => {
            let outer = evaluator.samples.exchange(Tally::default());
            let result = subquery::stream_subquery(evaluator, subquery, steps, &mut push);
            let inner = evaluator.samples.exchange(outer);
            evaluator.samples.count_each_step(&inner, 1);
            result?;
        }
        Source::Selector { .. } => {
            subquery::stream_source(evaluator, source, steps, &mut push)?;
        }
    }
    series.sort_by(|a: &MatrixSeries, b| a.labels.cmp(&b.labels));
    Ok((Value::Matrix(series), held))
}
