//! `/metrics`, and whether the process lives and is ready, under the names that Prometheus's and Kubernetes' daemons use.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::ApiState;

pub(super) fn router(state: ApiState) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/-/healthy", get(alive))
        .route("/livez", get(alive))
        .route("/healthz", get(alive))
        .route("/-/ready", get(ready))
        .route("/readyz", get(ready))
        .with_state(state)
}

async fn metrics(State(state): State<ApiState>) -> Response {
    // Some ten thousand autoscalers make megabytes of text.
    let encoded = tokio::task::spawn_blocking(move || {
        let mut out = Vec::new();
        telemetry::encode(&state.registry, &mut out);
        out
    });
    match encoded.await {
        Ok(out) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], out)
            .into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// It answers, so it lives: a leader that cannot renew its lease ends by itself.
async fn alive() -> &'static str {
    "ok"
}

async fn ready(State(state): State<ApiState>) -> Response {
    match (state.ready)() {
        Ok(()) => "ok".into_response(),
        Err(missing) => (StatusCode::SERVICE_UNAVAILABLE, format!("{missing}\n")).into_response(),
    }
}
