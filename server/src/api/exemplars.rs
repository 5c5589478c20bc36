//! `query_exemplars`: examples of what the series of an expression counted.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use model::{Matcher, TimeRange, Timestamp};

use super::error::{ApiError, Failure};
use super::json;
use super::params::Params;
use crate::state::{Ready, Server};

/// `query_exemplars`: the exemplars of all series that the selectors of `query` select between `start` and `end`.
///
/// An expression without selectors has no answer, which is less than an empty one: 204, as in Prometheus.
pub(super) async fn exemplars(
    State(server): State<Arc<Server>>,
    ready: Ready,
    params: Params,
) -> Result<Response, ApiError> {
    let start = params.time("start")?.unwrap_or(Timestamp::MIN);
    let end = params.time("end")?.unwrap_or(Timestamp::MAX);
    if end < start {
        return Err(ApiError::bad_data("end timestamp must not be before start timestamp"));
    }
    let query = String::from(params.get("query").unwrap_or_default());
    let options = server.parse;
    let answer = server.queries.run(None, move |turn| {
        let expr = promql::parse(&query, &options)
            .map_err(|error| ApiError::bad_data(error.to_string()))?;
        let sets: Vec<Vec<Matcher>> =
            expr.selectors().map(|selector| selector.matchers.clone()).collect();
        if sets.is_empty() {
            return Ok(None);
        }
        let found = ready.store.exemplars(&sets, TimeRange::new(start, end));
        Ok::<_, Failure>(Some(json::exemplars_body(&found, &turn.context)?))
    });
    Ok(answer.await?.map_or_else(|| StatusCode::NO_CONTENT.into_response(), json::response))
}
