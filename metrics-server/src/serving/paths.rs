//! The paths that every API server has, merged with the caller's and put under the layers.

use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use metrics_api::ApiGroup;
use serde::Serialize;
use telemetry::Registry;

use super::layers::{self, RequestLimits};
use super::metrics::RequestMetrics;
use super::probes::{self, Checks};
use crate::auth::Access;

/// What is served.
#[derive(Clone, Debug)]
pub struct Endpoints {
    /// The APIs: everything under `/apis` and `/openapi`.
    pub apis: Router,
    /// The groups whose paths `/` lists.
    pub groups: Vec<ApiGroup>,
    /// The probes' checks.
    pub checks: Checks,
    /// What `/metrics` shows.
    pub registry: Registry,
}

/// All paths under all layers: what a listener serves.
pub fn app(
    endpoints: Endpoints,
    access: &Access,
    limits: RequestLimits,
    metrics: &RequestMetrics,
) -> Router {
    let Endpoints { apis, groups, checks, registry } = endpoints;
    let index = Arc::new(Index::new(&groups, &checks));
    let router = Router::new()
        .route("/", get(async move || json(&*index)))
        .route("/version", get(async || json(&Version::ours())))
        .route("/metrics", get(async move || own_metrics(&registry)))
        .merge(probes::router(checks))
        .merge(apis)
        .fallback(async || {
            (StatusCode::NOT_FOUND, [(header::CONTENT_TYPE, TEXT)], "404 page not found\n")
        });
    layers::around(router, access, limits, Arc::new(metrics.clone()))
}

const TEXT: &str = "text/plain; charset=utf-8";

fn json(body: &impl Serialize) -> Response {
    let mut bytes = serde_json::to_vec(body).expect("these types have string keys only");
    bytes.push(b'\n');
    ([(header::CONTENT_TYPE, "application/json")], bytes).into_response()
}

fn own_metrics(registry: &Registry) -> Response {
    let mut body = Vec::new();
    telemetry::encode(registry, &mut body);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], body).into_response()
}

/// The paths there are, in order.
#[derive(Debug, Serialize)]
struct Index {
    paths: Vec<String>,
}

impl Index {
    fn new(groups: &[ApiGroup], checks: &Checks) -> Self {
        let mut paths: Vec<String> =
            ["/", "/apis", "/metrics", "/openapi/v2", "/openapi/v3", "/version"]
                .map(String::from)
                .into();
        for group in groups {
            paths.push(format!("/apis/{}", group.name));
            let versions = group.versions.iter();
            paths.extend(versions.map(|version| format!("/apis/{}/{}", group.name, version.name)));
        }
        let probes =
            [("healthz", &checks.healthz), ("livez", &checks.livez), ("readyz", &checks.readyz)];
        for (probe, checks) in probes {
            paths.push(format!("/{probe}"));
            paths.push(format!("/{probe}/ping"));
            paths.extend(checks.iter().map(|check| format!("/{probe}/{}", check.name())));
        }
        paths.sort();
        Self { paths }
    }
}

/// `version.Info` of `k8s.io/apimachinery`; what does not apply is empty.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    major: &'static str,
    minor: &'static str,
    git_version: String,
    git_commit: &'static str,
    git_tree_state: &'static str,
    build_date: &'static str,
    go_version: &'static str,
    compiler: &'static str,
    platform: String,
}

impl Version {
    fn ours() -> Self {
        let mut parts = telemetry::VERSION.split('.');
        let arch = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Self {
            major: parts.next().unwrap_or_default(),
            minor: parts.next().unwrap_or_default(),
            git_version: format!("v{}", telemetry::VERSION),
            git_commit: "",
            git_tree_state: "",
            build_date: "",
            go_version: "",
            compiler: "rustc",
            platform: format!("{}/{arch}", std::env::consts::OS),
        }
    }
}
