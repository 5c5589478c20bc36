//! All routes of the server.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use crate::state::{Ready, Server};
use crate::{api, cors, front_page, metrics, origin};

/// The routes of `server` and `extra`.
pub(crate) fn router(server: &Arc<Server>, extra: Router) -> Router {
    let cors = middleware::from_fn_with_state(Arc::clone(server), cors::layer);
    Router::new()
        .route("/", get(front_page::page))
        .route("/style.css", get(front_page::stylesheet))
        .route("/metrics", get(own_metrics))
        .route("/-/healthy", get(healthy))
        .route("/-/ready", get(ready))
        .route("/version", get(version))
        .route("/-/reload", post(reload).put(reload).get(change_by_get))
        .route("/-/quit", post(quit).put(quit).get(change_by_get))
        .nest("/api/v1", api::router().layer(cors))
        .with_state(Arc::clone(server))
        .merge(extra)
        .layer(middleware::from_fn_with_state(Arc::clone(server), metrics::observe))
}

async fn own_metrics(State(server): State<Arc<Server>>) -> Response {
    server.queries.observe();
    let mut text = Vec::with_capacity(32 << 10);
    telemetry::encode(&server.registry, &mut text);
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

async fn healthy() -> &'static str {
    "Prometheus Server is Healthy.\n"
}

async fn ready(_: Ready) -> &'static str {
    "Prometheus Server is Ready.\n"
}

async fn version() -> Response {
    let json = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, json)], api::build_information().to_string()).into_response()
}

async fn change_by_get() -> Response {
    (StatusCode::METHOD_NOT_ALLOWED, "Only POST or PUT requests allowed").into_response()
}

const LIFECYCLE_DISABLED: (StatusCode, &str) =
    (StatusCode::FORBIDDEN, "Lifecycle API is not enabled.");

async fn quit(State(server): State<Arc<Server>>, headers: HeaderMap) -> Response {
    if server.reload_requests.is_none() {
        return LIFECYCLE_DISABLED.into_response();
    }
    if origin::is_cross_site(&headers) {
        return origin::refusal();
    }
    if server.shutdown.is_cancelled() {
        return "Termination already in progress.".into_response();
    }
    tracing::info!("asked to stop by a request");
    server.shutdown.cancel();
    "Requesting termination... Goodbye!".into_response()
}

async fn reload(State(server): State<Arc<Server>>, headers: HeaderMap) -> Response {
    let Some(requests) = &server.reload_requests else {
        return LIFECYCLE_DISABLED.into_response();
    };
    if origin::is_cross_site(&headers) {
        return origin::refusal();
    }
    if server.stopping.load(Ordering::Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable\n").into_response();
    }
    match requests.reload().await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(error) => {
            let text = format!("failed to reload config: {error}\n");
            (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
        }
    }
}
