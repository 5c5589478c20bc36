//! The engine: evaluates queries against any [`Queryable`].
//!
//! [`mod@plan`] resolves everything that does not depend on samples, [`evaluator`] runs the plan. Instant queries are range queries of one
//! step. The engine neither starts threads of its own, but for deeply nested queries, nor waits for anything but the store.

mod absent;
mod aggregate;
mod annotations;
mod arithmetic;
mod block;
mod dates;
mod evaluator;
mod failure;
mod histogram;
mod join;
mod kahan;
mod map;
mod over_time;
mod plan;
mod quantile;
mod rate;
mod regression;
mod relabel;
mod samples;
mod scalar;
mod selector;
mod sort;
mod steps;
mod subquery;
mod window;

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use model::{Columns, Labels, QueryContext, Queryable, Sample, TimeRange, Timestamp};
use telemetry::{IntGauge, Registry, register};

use crate::ast::Expr;
use crate::parse::{ParseOptions, parse};
use crate::value::{MatrixSeries, QueryResult, Value, VectorSample};
use annotations::Annotations;
use block::{Block, Merger, without_metadata};
use evaluator::Evaluator;
use plan::{Plan, PlanContext, Source, VectorPlan, plan};
use samples::SampleCount;
use steps::Steps;

pub use failure::{ExecutionError, InvalidQuery, QueryFailure};

/// Most steps of an evaluation, subqueries included. The API allows far fewer.
const STEPS_MAX: usize = 50_000_000;

/// Queries with more brackets and signs than this are evaluated on a thread with a larger stack.
const SHALLOW_MAX: usize = 24;
/// Stack of that thread: enough for the deepest query that the parser accepts, in a build without optimisation.
const DEEP_STACK_BYTES: usize = 64 << 20;

/// A time in seconds, as expressions see it.
#[expect(clippy::cast_precision_loss, reason = "Prometheus divides as floats too")]
fn seconds(t: Timestamp) -> f64 {
    t as f64 / 1000.0
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
}

/// Evaluates queries.
#[derive(Debug)]
pub struct Engine {
    options: EngineOptions,
    /// Milliseconds; follows the configuration.
    subquery_step: AtomicI64,
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
        Self { options, subquery_step, running }
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
        let run = || {
            let expr = parse(query, &self.options.parse)?;
            self.evaluate(store, query, &expr, times, options, &context)
        };
        let depth = query.bytes().filter(|byte| b"([+-".contains(byte)).count();
        if depth <= SHALLOW_MAX {
            return run();
        }
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(DEEP_STACK_BYTES);
            let thread = thread.spawn_scoped(scope, run).map_err(QueryFailure::Thread)?;
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
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
        let lookback = milliseconds(options.lookback_delta.unwrap_or(self.options.lookback_delta));
        let delayed_names = self.options.delayed_name_removal;
        let plan_context = PlanContext {
            start,
            end,
            step,
            lookback,
            subquery_interval: self.subquery_step.load(Ordering::Relaxed),
            delayed_names,
        };
        let (plan, bounds) = plan(expr, &plan_context)?;
        if let Times::Range(..) = times
            && matches!(plan, Plan::Matrix(_) | Plan::Text(_))
        {
            return Err(InvalidQuery::RangeType(expr.value_type()).into());
        }
        let querier = match bounds {
            Some(TimeRange { min, max }) if min <= max => {
                Some(store.querier(TimeRange { min, max })?)
            }
            _ => None,
        };
        let evaluator = Evaluator {
            querier: querier.as_deref(),
            context,
            lookback,
            delayed_names,
            samples: SampleCount::new(self.options.samples_max),
            annotations: RefCell::new(Annotations::default()),
            store_warnings: RefCell::default(),
        };
        let value = match (&plan, times) {
            (Plan::Text(text), _) => Value::String(start, String::from(*text)),
            (Plan::Matrix(source), _) => ranges(&evaluator, source, steps)?,
            (Plan::Scalar(scalar), Times::Instant(t)) => {
                Value::Scalar(Sample { t, v: evaluator.scalar(scalar, steps)?.at(0) })
            }
            (Plan::Scalar(scalar), Times::Range(..)) => {
                let row = evaluator.scalar(scalar, steps)?.into_values(steps.count);
                Value::Matrix(matrix_series(Labels::empty(), &row, steps).into_iter().collect())
            }
            (Plan::Vector(vector), Times::Instant(t)) => vector_at(&evaluator, vector, t)?,
            (Plan::Vector(vector), Times::Range(..)) => vector_over(&evaluator, vector, steps)?,
        };
        let stats = evaluator.samples.stats();
        let (mut warnings, infos) = evaluator.annotations.into_inner().into_texts(query);
        warnings.extend(evaluator.store_warnings.into_inner());
        Ok(QueryResult { value, warnings, infos, stats })
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

/// The labels of each row as the answer shows them.
fn final_labels(block: &Block) -> impl Iterator<Item = Labels> {
    block.rows().map(|(series, _)| {
        if series.drop_name { without_metadata(&series.labels) } else { series.labels.clone() }
    })
}

/// The answer to an instant query: in the order of evaluation, which `sort` and `topk` decide.
fn vector_at(
    evaluator: &Evaluator<'_>,
    plan: &VectorPlan<'_>,
    t: Timestamp,
) -> Result<Value, QueryFailure> {
    let block = evaluator.collect(plan, Steps::single(t))?;
    let labels: Vec<Labels> = final_labels(&block).collect();
    if evaluator.delayed_names {
        let mut seen = HashSet::with_capacity(labels.len());
        if !labels.iter().all(|labels| seen.insert(labels)) {
            return Err(ExecutionError::DuplicateLabels.into());
        }
    }
    let samples = labels
        .into_iter()
        .zip(block.rows())
        .map(|(labels, (_, row))| VectorSample { labels, sample: Sample { t, v: row[0] } });
    Ok(Value::Vector(samples.collect()))
}

/// The answer to a range query: sorted by labels.
fn vector_over(
    evaluator: &Evaluator<'_>,
    plan: &VectorPlan<'_>,
    steps: Steps,
) -> Result<Value, QueryFailure> {
    let mut block = evaluator.collect(plan, steps)?;
    if evaluator.delayed_names {
        let mut merger = Merger::new(Block::new(steps.count, evaluator.context)?);
        let labels: Vec<Labels> = final_labels(&block).collect();
        for (labels, (_, row)) in labels.into_iter().zip(block.rows()) {
            merger.push(block::Series::new(labels), row)?;
        }
        block = merger.into_block();
    }
    let mut series: Vec<MatrixSeries> = final_labels(&block)
        .zip(block.rows())
        .filter_map(|(labels, (_, row))| matrix_series(labels, row, steps))
        .collect();
    series.sort_by(|a, b| a.labels.cmp(&b.labels));
    Ok(Value::Matrix(series))
}

/// A row as samples; `None` when there are none.
fn matrix_series(labels: Labels, row: &[f64], steps: Steps) -> Option<MatrixSeries> {
    let mut samples = Columns::with_capacity(block::count_present(row));
    for (t, &v) in steps.iter().zip(row).filter(|(_, v)| block::is_present(**v)) {
        samples.push(t, v);
    }
    (!samples.is_empty()).then_some(MatrixSeries { labels, samples })
}

/// The answer to an instant query for a range vector: the samples themselves.
fn ranges(
    evaluator: &Evaluator<'_>,
    source: &Source<'_>,
    steps: Steps,
) -> Result<Value, QueryFailure> {
    let mut series = Vec::new();
    let mut held = evaluator.context.budget.charge(0)?;
    subquery::stream_source(evaluator, source, steps, &mut |of, columns| {
        held.grow(columns.capacity_bytes())?;
        evaluator.samples.hold(columns.len() as u64)?;
        evaluator.samples.looked_at(columns.len() as u64);
        let labels = if of.drop_name { without_metadata(&of.labels) } else { of.labels };
        if !columns.is_empty() {
            series.push(MatrixSeries { labels, samples: columns.clone() });
        }
        Ok(())
    })?;
    series.sort_by(|a, b| a.labels.cmp(&b.labels));
    Ok(Value::Matrix(series))
}
