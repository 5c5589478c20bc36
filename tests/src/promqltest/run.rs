//! Executes scripts.
//!
//! An instant query is asked several times: as written; with all selectors pinned to its time, at other times;
//! and each of these as a range query around its time, whose middle step must agree.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use model::{
    Appender, Batch, FloatHistogram, Labels, QueryContext, Queryable, SeriesKey, Timestamp,
};
use promql::{
    Engine, EngineOptions, MatrixSeries, ParseOptions, QueryFailure, QueryOptions, QueryResult,
    Value, VectorSample, parse,
};
use regex::Regex;
use telemetry::Registry;

use super::at_modifier::{other_times, pin};
use super::compare::{check_annotations, check_sorted, check_value};
use super::histogram::HistogramPoint;
use super::nhcb::{self, NativeSeries};
use super::script::{Command, Eval, Expected, Grid, Load, Script, When};
use super::series::Point;

/// A store that a script can fill and ask.
pub trait Store: Appender + Queryable {}

impl<S: Appender + Queryable> Store for S {}

/// What became of the evaluations of a script.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// How many held.
    pub passed: usize,
    /// The others.
    pub failures: Vec<Failure>,
}

impl Outcome {
    /// How many there were.
    #[must_use]
    pub fn total(&self) -> usize {
        self.passed + self.failures.len()
    }
}

/// An evaluation that did not hold.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Line of the `eval` in the script, from 1.
    pub line: usize,
    /// The query.
    pub query: String,
    /// What differed.
    pub reason: String,
}

/// An engine with the settings that scripts are written for: everything experimental is on.
#[must_use]
pub fn engine() -> Engine {
    Engine::new(engine_options(), &Registry::new())
}

fn engine_options() -> EngineOptions {
    EngineOptions {
        lookback_delta: Duration::from_secs(5 * 60),
        timeout: Duration::from_secs(100),
        samples_max: 10_000,
        subquery_step: Duration::from_secs(60),
        delayed_name_removal: true,
        use_start_timestamps: true,
        parse: ParseOptions::all(),
        ..EngineOptions::default()
    }
}

/// Gives a sample that a store holds a start timestamp, by labels and time: batches carry none. Says whether the store keeps it.
pub type SetStart<S> = fn(&S, &Labels, Timestamp, Timestamp) -> bool;

/// Executes `script` with `engine` over stores that `open` makes: one to begin with and one for each `clear`.
///
/// # Errors
/// When a store cannot be opened or refuses samples. An evaluation that does not hold is no error.
pub fn run<S: Store>(
    script: &Script,
    engine: &Engine,
    open: impl Fn() -> Result<S>,
    set_start: SetStart<S>,
) -> Result<Outcome> {
    let mut runner = Runner { engine, store: open()?, set_start, left_out: BTreeSet::new() };
    let mut outcome = Outcome::default();
    for command in &script.commands {
        match command {
            Command::Clear => {
                runner.store = open()?;
                runner.left_out.clear();
            }
            Command::Load(load) => {
                runner.load(load).with_context(|| format!("load in line {}", load.line))?;
            }
            Command::Eval(eval) => match runner.eval(eval) {
                Ok(()) => outcome.passed += 1,
                Err(error) => outcome.failures.push(Failure {
                    line: eval.line,
                    query: eval.query.clone(),
                    reason: runner.explain(&error),
                }),
            },
        }
    }
    Ok(outcome)
}

struct Runner<'e, S> {
    engine: &'e Engine,
    store: S,
    /// What scripts asked to load and could not be.
    set_start: SetStart<S>,
    left_out: BTreeSet<&'static str>,
}

impl<S: Store> Runner<'_, S> {
    fn load(&mut self, load: &Load) -> Result<()> {
        let step = Timestamp::try_from(load.step.as_millis())?;
        let mut batches = Batches::default();
        for line in &load.series {
            let times = (0..).map(|i| i * step);
            batches.push(&line.labels, times.zip(&line.points));
        }
        if load.with_nhcb {
            for NativeSeries { labels, histograms } in nhcb::convert(&load.series)? {
                let point = |(at, histogram)| {
                    let t = step * Timestamp::try_from(at).unwrap_or(Timestamp::MAX);
                    let histogram = Arc::new(histogram);
                    (t, Point::Histogram(HistogramPoint { histogram, says_reset: false }))
                };
                let points: Vec<_> = histograms.into_iter().map(point).collect();
                batches.push(&labels, points.iter().map(|(t, point)| (*t, point)));
            }
        }
        for batch in batches.all {
            let appended = self.store.append(&batch)?;
            let mut rejected = appended.rejected.iter().chain(&appended.rejected_histograms);
            if let Some(rejected) = rejected.next() {
                bail!("sample {} was refused: {}", rejected.index, rejected.reason);
            }
        }
        for line in &load.series {
            for (t, offset) in (0..).map(|i| i * step).zip(&line.start_offsets) {
                let Some(offset) = offset else { continue };
                if !(self.set_start)(&self.store, &line.labels, t, t + offset) {
                    self.left_out.insert("start timestamps");
                }
            }
        }
        Ok(())
    }

    fn explain(&self, error: &anyhow::Error) -> String {
        if self.left_out.is_empty() {
            return format!("{error:#}");
        }
        let left_out: Vec<_> = self.left_out.iter().copied().collect();
        format!("{error:#} (not loaded: {})", left_out.join(", "))
    }

    /// A panic of the engine fails the evaluation, not the script.
    fn eval(&self, eval: &Eval) -> Result<()> {
        let held = catch_unwind(AssertUnwindSafe(|| match eval.when {
            When::Instant(t) => self.eval_instant(eval, t),
            When::Range(grid) => self.eval_range(eval, grid),
        }));
        held.unwrap_or_else(|_| bail!("the engine panicked"))
    }

    fn eval_range(&self, eval: &Eval, grid: Grid) -> Result<()> {
        let answer = self.range(&eval.query, grid);
        if let Some(result) = expected_outcome(eval, answer)? {
            check_result(eval, &result)?;
        }
        Ok(())
    }

    fn eval_instant(&self, eval: &Eval, t: Timestamp) -> Result<()> {
        // The answer to a range vector is what the grid's end sees, whatever `at` says.
        let t = match eval.expected {
            Expected::RangeVector(grid, _) => grid.end,
            _ => t,
        };
        self.eval_at(eval, &eval.query, t)?;
        // What does not parse was expected to fail, and did.
        let Ok(mut pinned) = parse(&eval.query, &engine_options().parse) else { return Ok(()) };
        if !pin(&mut pinned, t) {
            let query = pinned.to_string();
            for t in other_times(t) {
                self.eval_at(eval, &query, t).with_context(|| format!("as {query} at {t} ms"))?;
            }
        }
        Ok(())
    }

    fn eval_at(&self, eval: &Eval, query: &str, t: Timestamp) -> Result<()> {
        let answer = self.engine.instant(
            &self.store,
            query,
            t,
            &QueryOptions::default(),
            &QueryContext::unbounded(),
        );
        let Some(result) = expected_outcome(eval, answer)? else { return Ok(()) };
        check_result(eval, &result)?;
        let one_time = matches!(eval.expected, Expected::String(_) | Expected::RangeVector(..));
        if one_time || depends_on_query_range(query) {
            return Ok(());
        }
        self.check_middle_step(eval, query, t, &result.value).context("as a range query")
    }

    /// Asks for a minute to either side too; the step at `t` must be as an instant query answers.
    fn check_middle_step(
        &self,
        eval: &Eval,
        query: &str,
        t: Timestamp,
        instant: &Value,
    ) -> Result<()> {
        let grid = Grid { start: t - 60_000, end: t + 60_000, step: Duration::from_secs(60) };
        let result = self.range(query, grid)?;
        if eval.ordered {
            return Ok(());
        }
        let Value::Matrix(series) = result.value else { bail!("the result is no range vector") };
        check_sorted(&series)?;
        let vector: Vec<_> = series.iter().filter_map(|series| sample_at(series, t)).collect();
        let value = match (instant, vector.first()) {
            (Value::Scalar(_), Some(first)) => Value::Scalar(first.sample),
            (Value::Scalar(_), None) => bail!("a scalar is missing"),
            _ => Value::Vector(vector),
        };
        check_value(eval, &value)
    }

    fn range(&self, query: &str, grid: Grid) -> Result<QueryResult, QueryFailure> {
        self.engine.range(
            &self.store,
            query,
            grid.start,
            grid.end,
            grid.step,
            &QueryOptions::default(),
            &QueryContext::unbounded(),
        )
    }
}

/// The samples of a load. Within a batch floats come before histograms, so where a histogram is followed by a float, another batch starts.
#[derive(Default)]
struct Batches {
    all: Vec<Batch>,
}

impl Batches {
    fn push<'p>(&mut self, labels: &Labels, points: impl Iterator<Item = (Timestamp, &'p Point)>) {
        let (mut at, mut in_histograms) = (0, false);
        let mut key: Option<(usize, SeriesKey)> = None;
        for (t, point) in points {
            let is_histogram = match point {
                Point::Omitted => continue,
                Point::Float(_) => false,
                Point::Histogram(_) => true,
            };
            at += usize::from(in_histograms && !is_histogram);
            in_histograms = is_histogram;
            if at == self.all.len() {
                self.all.push(Batch::new());
            }
            let batch = &mut self.all[at];
            let series = match key {
                Some((of, series)) if of == at => series,
                _ => batch.introduce(labels.clone()),
            };
            key = Some((at, series));
            match point {
                Point::Omitted => {}
                Point::Float(v) => batch.floats.push(model::FloatAppend { series, t, v: *v }),
                Point::Histogram(point) => {
                    batch.push_histogram(series, t, FloatHistogram::clone(&point.histogram));
                }
            }
        }
    }
}

/// The result, if one is expected and there; `None` if the expected error is.
fn expected_outcome(
    eval: &Eval,
    answer: Result<QueryResult, QueryFailure>,
) -> Result<Option<QueryResult>> {
    match (&eval.fail, answer) {
        (None, answer) => Ok(Some(answer?)),
        (Some(_), Ok(_)) => bail!("expected an error, got none"),
        (Some(pattern), Err(failure)) => {
            let text = failure.to_string();
            ensure!(pattern.accepts(&text), "expected error like {pattern:?}, got {text:?}");
            Ok(None)
        }
    }
}

fn check_result(eval: &Eval, result: &QueryResult) -> Result<()> {
    check_annotations("warnings", &eval.warnings, &result.warnings)?;
    check_annotations("infos", &eval.infos, &result.infos)?;
    check_value(eval, &result.value)
}

/// Whether the query asks for the bounds or the step of its evaluation, which differ for a range.
fn depends_on_query_range(query: &str) -> bool {
    static CALLS: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(start|end|range|step)\(\)").expect("a constant"));
    CALLS.is_match(query)
}

fn sample_at(series: &MatrixSeries, t: Timestamp) -> Option<VectorSample> {
    let row = series.samples.times().binary_search(&t).ok()?;
    let (sample, histogram) = (series.samples.get(row)?, series.samples.histogram(row).cloned());
    Some(VectorSample { labels: series.labels.clone(), sample, histogram })
}
