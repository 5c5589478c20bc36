//! `admin/tsdb/*`: deleting series and copying the store. Off unless asked for.

use std::sync::Arc;

use axum::extract::{FromRequestParts, State};
use axum::http::{StatusCode, request};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tsdb::{AdminError, Db};

use super::error::{ApiError, ErrorType};
use super::json;
use super::params::Params;
use crate::origin;
use crate::state::{Ready, Server};

/// As an extractor it lets through what may change the store.
pub(super) struct Admin;

impl FromRequestParts<Arc<Server>> for Admin {
    type Rejection = Response;

    async fn from_request_parts(
        parts: &mut request::Parts,
        server: &Arc<Server>,
    ) -> Result<Self, Response> {
        if !server.enable_admin_api {
            let disabled = ApiError::new(ErrorType::Unavailable, "admin APIs disabled");
            return Err(disabled.into_response());
        }
        if origin::is_cross_site(&parts.headers) { Err(origin::refusal()) } else { Ok(Self) }
    }
}

/// `admin/tsdb/delete_series`: deletes what any `match[]` selects between `start` and `end`.
pub(super) async fn delete_series(
    ready: Ready,
    _: Admin,
    params: Params,
) -> Result<Response, ApiError> {
    let params = params.parsed_form()?;
    let selectors = params.selectors();
    if selectors.as_ref().is_ok_and(Vec::is_empty) {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let range = params.range()?;
    let selectors = selectors.map_err(|error| ApiError::parameter("match[]", error))?;
    if range.min <= range.max {
        run(ready, move |store| store.delete_series(&selectors, range)).await?;
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `admin/tsdb/clean_tombstones`: frees the room of what was deleted.
pub(super) async fn clean_tombstones(ready: Ready, _: Admin) -> Result<Response, ApiError> {
    run(ready, Db::clean_tombstones).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `admin/tsdb/snapshot`: copies the store beside itself, without what is in memory if `skip_head`.
pub(super) async fn snapshot(
    State(server): State<Arc<Server>>,
    ready: Ready,
    _: Admin,
    params: Params,
) -> Result<Response, ApiError> {
    let skip_head = params.flag("skip_head")?;
    let name = run(ready, move |store| store.snapshot(!skip_head)).await.map_err(|error| {
        ApiError::new(error.kind, format!("create snapshot: {}", error.message))
    })?;
    tracing::info!(name, data = %server.data_path.display(), "snapshot taken");
    Ok(json::data_response(&json!({ "name": name })))
}

/// Runs `work` on a blocking thread: it reads and writes files.
async fn run<T: Send + 'static>(
    ready: Ready,
    work: impl FnOnce(&Db) -> Result<T, AdminError> + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(move || work(&ready.store)).await;
    let done = done.map_err(|_| ApiError::new(ErrorType::Internal, "failed unexpectedly"))?;
    done.map_err(|error| ApiError::new(ErrorType::Internal, error.to_string()))
}
