//! `query` and `query_range`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::response::Response;
use model::Timestamp;
use promql::value::{QueryResult, Value};
use promql::{QueryFailure, QueryOptions};
use tsdb::Db;

use super::TRUNCATED;
use super::answer::{Answer, Begun, Extras, Timings};
use super::error::{ApiError, Failure};
use super::params::Params;
use crate::queries::Turn;
use crate::state::{Ready, Server};

/// Most points per series that a range query may ask for, Prometheus's own bound.
const POINTS_MAX: i128 = 11_000;

/// `query`: an expression at one time.
pub(super) async fn instant(
    State(server): State<Arc<Server>>,
    ready: Ready,
    params: Params,
) -> Result<Response, ApiError> {
    let limit = params.limit()?;
    let t = params.time("time")?.unwrap_or_else(|| server.clock.now());
    let request = Request::new(&server, &params, limit)?;
    let engine = server.engine();
    run(&server, ready, request, 1, move |store, request, turn| {
        let (query, options) = (&request.query, &request.options);
        engine.instant(store, query, t, options, &turn.context)
    })
    .await
}

/// `query_range`: an expression at evenly spaced times.
pub(super) async fn range(
    State(server): State<Arc<Server>>,
    ready: Ready,
    params: Params,
) -> Result<Response, ApiError> {
    let limit = params.limit()?;
    let start = params.required_time("start")?;
    let end = params.required_time("end")?;
    if end < start {
        return Err(ApiError::parameter("end", "end timestamp must not be before start time"));
    }
    let step = step(params.required_duration("step")?, start, end)?;
    let request = Request::new(&server, &params, limit)?;
    let engine = server.engine();
    let steps =
        (i128::from(end) - i128::from(start)) / i128::try_from(step.as_millis()).unwrap_or(1);
    run(&server, ready, request, steps, move |store, request, turn| {
        let (query, options) = (&request.query, &request.options);
        engine.range(store, query, start, end, step, options, &turn.context)
    })
    .await
}

/// The step in whole milliseconds, if it makes a reasonable number of points.
fn step(step: Duration, start: Timestamp, end: Timestamp) -> Result<Duration, ApiError> {
    let too_short = || {
        let why = "zero or negative query resolution step widths are not accepted. Try a positive integer";
        Err(ApiError::parameter("step", why))
    };
    if step.is_zero() {
        return too_short();
    }
    let range_ns = (i128::from(end) - i128::from(start)) * 1_000_000;
    let step_ns = i128::try_from(step.as_nanos()).unwrap_or(i128::MAX);
    if range_ns / step_ns > POINTS_MAX {
        return Err(ApiError::bad_data(
            "exceeded maximum resolution of 11,000 points per timeseries. \
             Try decreasing the query resolution (?step=XX)",
        ));
    }
    // A part of a millisecond may make few enough points, but the engine counts in whole ones.
    let ms = u64::try_from(step.as_millis()).unwrap_or(u64::MAX);
    if ms == 0 { too_short() } else { Ok(Duration::from_millis(ms)) }
}

/// What both kinds of query take.
struct Request {
    query: String,
    options: QueryOptions,
    timeout: Option<Duration>,
    limit: usize,
    /// Value of `stats`, if it is given.
    stats: Option<String>,
}

impl Request {
    fn new(server: &Server, params: &Params, limit: usize) -> Result<Self, ApiError> {
        let timeout = params.duration("timeout")?;
        let lookback_delta = params.lookback_delta()?;
        let explain = params.flag("explain")?;
        let stats = params.get("stats").map(String::from);
        let per_step_stats = server.per_step_stats && stats.as_deref() == Some("all");
        let peak_stats = stats.is_some();
        Ok(Self {
            query: String::from(params.get("query").unwrap_or_default()),
            options: QueryOptions { lookback_delta, timeout, per_step_stats, peak_stats, explain },
            timeout,
            limit,
            stats,
        })
    }
}

/// Evaluates and writes the first piece of the answer. The rest is written as the client takes it: the query is over then, but what it holds still
/// counts as held. A query of as many steps took about as long before.
async fn run<F>(
    server: &Server,
    ready: Ready,
    request: Request,
    steps: i128,
    evaluate: F,
) -> Result<Response, ApiError>
where
    F: Fn(&Db, &Request, &Turn) -> Result<QueryResult, QueryFailure> + Send + 'static,
{
    let store = Arc::clone(&ready.store);
    let in_its_way = || store.is_changing();
    let (timeout, name) = (request.timeout, server.queries.name((&request.query, steps)));
    let answer = server.queries.run_where_it_is(timeout, name, in_its_way, move |turn| {
        let started = Instant::now();
        let mut result = evaluate(&ready.store, &request, turn)?;
        let mut warnings = Vec::new();
        if truncate(&mut result.value, request.limit) {
            warnings.push(String::from(TRUNCATED));
        }
        if let Some(stats) = &request.stats
            && !matches!(stats.as_str(), "true" | "all")
        {
            warnings.push(format!(
                "value {stats:?} for parameter \"stats\" is deprecated and will be rejected in the next \
                 major release, use \"true\" or \"all\""
            ));
        }
        let timings = Timings { queued: turn.queued, evaluated: started.elapsed() };
        let extras = Extras { warnings, timings: request.stats.is_some().then_some(timings) };
        Ok::<_, Failure>(Begun::new(Answer::new(result, extras)))
    });
    Ok(answer.await?.response())
}

/// Cuts a result down to `limit` series (0: none); says whether it did.
fn truncate(value: &mut Value, limit: usize) -> bool {
    match value {
        Value::Vector(samples) if limit > 0 && samples.len() > limit => {
            samples.truncate(limit);
            true
        }
        Value::Matrix(series) if limit > 0 && series.len() > limit => {
            series.truncate(limit);
            true
        }
        Value::Scalar(_) | Value::String(..) | Value::Vector(_) | Value::Matrix(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_bounded() {
        let check = |step_ms, start, end| {
            let checked = step(Duration::from_millis(step_ms), start, end);
            checked.map(|step| step.as_millis()).map_err(|error| error.message)
        };
        assert_eq!(check(1_000, 0, 11_000_000), Ok(1_000));
        assert_eq!(check(1_000, 0, 11_000_999), Ok(1_000));
        assert!(
            check(1_000, 0, 11_001_000).unwrap_err().starts_with("exceeded maximum resolution")
        );
        assert!(check(1, i64::MIN, i64::MAX).unwrap_err().starts_with("exceeded"));
        assert!(check(0, 0, 0).unwrap_err().contains("zero or negative"));
        let check = |ns, end| step(Duration::from_nanos(ns), 0, end).unwrap_err().message;
        assert!(check(400_000, 3_600_000).starts_with("exceeded maximum resolution"));
        assert!(check(1, 1).starts_with("exceeded maximum resolution"));
        assert!(check(400_000, 0).contains("zero or negative"));
    }
}
