//! The Prometheus HTTP API under `/api/v1`.

mod admin;
mod answer;
pub(crate) mod error;
mod exemplars;
mod features;
mod form;
mod json;
mod labels;
mod params;
mod points;
mod pretty;
mod query;
mod status;
mod syntax;
mod times;
mod tree;
pub(crate) use status::{PROMETHEUS_VERSION, build_information};
pub(crate) mod targets;

use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};

use crate::state::Server;
use error::{ApiError, ErrorType};

/// The warning that a `limit` took effect.
const TRUNCATED: &str = "results truncated due to limit";

/// All endpoints that this server answers, with what each is for: the router and the front page are made from it.
pub(crate) const ENDPOINTS: [(&str, &str); 23] = [
    ("/api/v1/query?query=up", "evaluate an expression now"),
    ("/api/v1/query_range", "evaluate an expression over time"),
    ("/api/v1/series?match[]=up", "find series"),
    ("/api/v1/labels", "names of labels"),
    ("/api/v1/label/__name__/values", "values of a label"),
    ("/api/v1/query_exemplars?query=up", "examples of what series counted"),
    ("/api/v1/format_query?query=up", "print an expression in canonical form"),
    ("/api/v1/parse_query?query=up", "the syntax tree of an expression"),
    ("/api/v1/targets", "what is scraped, and how it went"),
    ("/api/v1/scrape_pools", "names of scrape jobs"),
    ("/api/v1/metadata", "types and help of metrics"),
    ("/api/v1/targets/metadata?limit=10", "the same, target by target"),
    ("/api/v1/features", "what it can do"),
    ("/api/v1/status/buildinfo", "what is running"),
    ("/api/v1/status/runtimeinfo", "how it is doing"),
    ("/api/v1/status/flags", "how it was started"),
    ("/api/v1/status/config", "its configuration, defaults filled in"),
    ("/api/v1/status/tsdb", "what fills the head"),
    ("/api/v1/status/tsdb/blocks", "the blocks on disk"),
    ("/api/v1/status/walreplay", "how far the log was replayed at the start"),
    ("/metrics", "our own metrics"),
    ("/-/healthy", "whether the process lives"),
    ("/-/ready", "whether it answers queries"),
];

/// The routes under `/api/v1`.
pub(crate) fn router() -> Router<Arc<Server>> {
    Router::new()
        .route("/query", read_form(query::instant))
        .route("/query_range", read_form(query::range))
        .route("/labels", read_form(labels::names))
        .route("/label/{name}/values", read(labels::values))
        .route("/series", read_form(labels::series))
        .route("/format_query", read_form(syntax::format))
        .route("/parse_query", read_form(syntax::parse))
        .route("/query_exemplars", read_form(exemplars::exemplars))
        .route("/targets", read(targets::targets))
        .route("/targets/metadata", read(targets::target_metadata))
        .route("/scrape_pools", read(targets::scrape_pools))
        .route("/metadata", read(targets::metadata))
        .route("/rules", read(targets::no_rules))
        .route("/alerts", read(targets::no_alerts))
        .route("/alertmanagers", read(targets::no_alertmanagers))
        .route("/features", read(features::features))
        .route("/status/buildinfo", read(status::build))
        .route("/status/runtimeinfo", read(status::runtime))
        .route("/status/flags", read(status::flags))
        .route("/status/config", read(status::config))
        .route("/status/tsdb", read(status::tsdb))
        .route("/status/tsdb/blocks", read(status::blocks))
        .route("/status/walreplay", read(status::wal_replay))
        .route("/admin/tsdb/delete_series", post(admin::delete_series).put(admin::delete_series))
        .route(
            "/admin/tsdb/clean_tombstones",
            post(admin::clean_tombstones).put(admin::clean_tombstones),
        )
        .route("/admin/tsdb/snapshot", post(admin::snapshot).put(admin::snapshot))
        .fallback(unknown)
}

/// An endpoint that takes its parameters from the URL.
fn read<H: Handler<T, Arc<Server>>, T: 'static>(handler: H) -> MethodRouter<Arc<Server>> {
    get(handler).head(async || refuse_head("GET, OPTIONS"))
}

/// An endpoint that takes its parameters from a form, too.
fn read_form<H: Handler<T, Arc<Server>>, T: 'static>(handler: H) -> MethodRouter<Arc<Server>> {
    get(handler.clone()).post(handler).head(async || refuse_head("GET, OPTIONS, POST"))
}

/// Refuses `HEAD`, which would otherwise be `GET` without a body: no endpoint of Prometheus's API serves it.
fn refuse_head(allowed: &'static str) -> Response {
    (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, allowed)]).into_response()
}

async fn unknown() -> ApiError {
    unknown_endpoint()
}

fn unknown_endpoint() -> ApiError {
    ApiError::new(ErrorType::NotFound, "no such endpoint")
}
