//! `/api/v1/hpa…`: decisions as JSON and as stories.

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::{Deserialize, Serialize};

use super::ApiState;
use crate::decide::conclude;
use crate::explain::{Explanation, document};
use crate::state::{HpaKey, Logged, Mode, Summary};

/// Autoscalers in one answer unless the request says.
const PAGE: usize = 500;
/// Autoscalers in one answer.
const PAGE_MAX: usize = 5_000;
/// Decisions in one answer.
const DECISIONS_MAX: usize = 1_000;
/// Bytes of decisions after which an answer is complete; decisions about very many pods are large.
const ANSWER_BYTES: usize = 32 << 20;

pub(super) fn router(state: ApiState) -> Router {
    Router::new()
        .route("/api/v1/hpa", get(list))
        .route("/api/v1/hpa/{namespace}/{name}", get(decisions))
        .route("/api/v1/hpa/{namespace}/{name}/explain", get(explain))
        .with_state(state)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    limit: Option<usize>,
    after: Option<String>,
}

/// The answer to `/api/v1/hpa`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct List<'a> {
    identity: &'a str,
    leading: bool,
    mode: Mode,
    items: Vec<Summary>,
    /// What to ask for as `after` to see more.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

async fn list(
    State(state): State<ApiState>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Response {
    let ListQuery { limit, after } = match query {
        Ok(Query(query)) => query,
        Err(error) => return failure(StatusCode::BAD_REQUEST, &error.body_text()),
    };
    let limit @ 1..=PAGE_MAX = limit.unwrap_or(PAGE) else {
        return failure(StatusCode::BAD_REQUEST, &format!("limit must be 1 to {PAGE_MAX}"));
    };
    let after = match after.as_deref().map(|after| after.split_once('/')) {
        None => None,
        Some(Some((namespace, name))) => Some(HpaKey::new(namespace, name)),
        Some(None) => return failure(StatusCode::BAD_REQUEST, "after must be namespace/name"),
    };
    let (items, more) = state.log.summaries(after.as_ref(), limit);
    let next = items.last().filter(|_| more).map(|last| last.key.to_string());
    let ApiState { identity, leadership, mode, .. } = &state;
    let leading = leadership.may_write();
    json(StatusCode::OK, &List { identity, leading, mode: *mode, items, next })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DecisionsQuery {
    limit: Option<usize>,
    #[serde(default)]
    format: DecisionFormat,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum DecisionFormat {
    /// As `sextant hpa explain -o json`.
    #[default]
    Explained,
    /// With all that it was made from, so that it can be made again.
    Logged,
}

/// One decision in an answer.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Shown {
    Explained(Box<Kept>),
    Logged(Arc<Logged>),
}

/// An explanation with what the log knows besides.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    uid: String,
    mode: Mode,
    #[serde(flatten)]
    explanation: Explanation,
}

impl Kept {
    fn of(logged: &Logged) -> Self {
        Self { uid: logged.uid.clone(), mode: logged.mode, explanation: explained(logged) }
    }
}

/// The answer to `/api/v1/hpa/NAMESPACE/NAME`.
#[derive(Debug, Serialize)]
struct Decisions<'a> {
    namespace: &'a str,
    name: &'a str,
    /// Whether this controller makes decisions now; those of one that does not may be old.
    leading: bool,
    /// The newest first.
    decisions: Vec<Shown>,
}

async fn decisions(
    State(state): State<ApiState>,
    Path((namespace, name)): Path<(String, String)>,
    query: Result<Query<DecisionsQuery>, QueryRejection>,
) -> Response {
    let DecisionsQuery { limit, format } = match query {
        Ok(Query(query)) => query,
        Err(error) => return failure(StatusCode::BAD_REQUEST, &error.body_text()),
    };
    let limit @ 1..=DECISIONS_MAX = limit.unwrap_or(DECISIONS_MAX) else {
        return failure(StatusCode::BAD_REQUEST, &format!("limit must be 1 to {DECISIONS_MAX}"));
    };
    let key = HpaKey::new(&namespace, &name);
    answer(move || {
        let found = state.log.last_within(&key, limit, ANSWER_BYTES);
        if found.is_empty() {
            return unknown(&state, &key);
        }
        let shown = |logged: Arc<Logged>| match format {
            DecisionFormat::Explained => Shown::Explained(Box::new(Kept::of(&logged))),
            DecisionFormat::Logged => Shown::Logged(logged),
        };
        let decisions = found.into_iter().map(shown).collect();
        let leading = state.leadership.may_write();
        json(StatusCode::OK, &Decisions { namespace: &namespace, name: &name, leading, decisions })
    })
    .await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExplainQuery {
    #[serde(default)]
    format: ExplainFormat,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ExplainFormat {
    #[default]
    Json,
    Text,
}

async fn explain(
    State(state): State<ApiState>,
    Path((namespace, name)): Path<(String, String)>,
    query: Result<Query<ExplainQuery>, QueryRejection>,
) -> Response {
    let format = match query {
        Ok(Query(query)) => query.format,
        Err(error) => return failure(StatusCode::BAD_REQUEST, &error.body_text()),
    };
    let key = HpaKey::new(&namespace, &name);
    answer(move || {
        let Some(logged) = state.log.last(&key, 1).pop() else { return unknown(&state, &key) };
        let explanation = explained(&logged);
        match format {
            ExplainFormat::Json => json(StatusCode::OK, &explanation),
            ExplainFormat::Text => {
                let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
                (kind, explanation.to_string()).into_response()
            }
        }
    })
    .await
}

fn explained(logged: &Logged) -> Explanation {
    let Logged { inputs, decision, written, at, .. } = logged;
    document(inputs, decision, &conclude(inputs, decision, written, *at))
}

/// Unpacking and writing decisions takes its time: not on a thread of the runtime.
async fn answer(make: impl FnOnce() -> Response + Send + 'static) -> Response {
    match tokio::task::spawn_blocking(make).await {
        Ok(answer) => answer,
        Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn unknown(state: &ApiState, key: &HpaKey) -> Response {
    let hint = if state.leadership.may_write() {
        ""
    } else {
        "; this controller does not lead, another one decides"
    };
    failure(StatusCode::NOT_FOUND, &format!("no decision about {key} is known{hint}"))
}

fn failure(code: StatusCode, error: &str) -> Response {
    json(code, &serde_json::json!({ "error": error }))
}

fn json(code: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(body) => (code, [(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
