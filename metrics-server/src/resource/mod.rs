//! `metrics.k8s.io/v1beta1`: what nodes and pods use, to get, list and watch.
//!
//! Answers are those of metrics-server, byte for byte where clients look. Beyond it there is
//! `watch`, lists have a resource version for it, and swap is reported. As there, `limit` and
//! `continue` are ignored: a list is always whole, but it is written piece by piece.
//!
//! Who asks and whether they may is settled before a request gets here.

mod discovery;
mod list;
mod openapi;
mod options;
mod output;
mod snapshot;
mod top;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use metrics_api::{Encoding, LabelSelector, Resource, Status};
use model::Clock;
use telemetry::{Histogram, HistogramOpts, Registry};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::cluster::Objects;
use crate::store::Store;

pub use discovery::{group, router as discovery_router};
pub use openapi::router as openapi_router;
use options::Options;
use output::Output;
use snapshot::{Entry, Selection};

/// Watches that may run at a time; one of all pods of a large cluster holds some 10 MB.
const WATCHES_MAX: usize = 64;

/// What the handlers answer from. Cheap to clone.
#[derive(Clone)]
pub struct ResourceState {
    store: Arc<Store>,
    objects: Arc<Objects>,
    clock: Arc<dyn Clock>,
    /// Only nodes that this selects exist, as far as the API is concerned.
    node_selector: Arc<LabelSelector>,
    watches: Arc<Semaphore>,
    closing: CancellationToken,
    freshness: Option<Histogram>,
}

impl std::fmt::Debug for ResourceState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResourceState")
            .field("node_selector", &self.node_selector)
            .finish_non_exhaustive()
    }
}

impl ResourceState {
    /// Answers from `store` about what is in `objects`. Watches end when `closing` is cancelled.
    #[must_use]
    pub fn new(
        store: Arc<Store>,
        objects: Arc<Objects>,
        clock: Arc<dyn Clock>,
        node_selector: LabelSelector,
        closing: CancellationToken,
    ) -> Self {
        Self {
            store,
            objects,
            clock,
            node_selector: Arc::new(node_selector),
            watches: Arc::new(Semaphore::new(WATCHES_MAX)),
            closing,
            freshness: None,
        }
    }

    /// Also reports how old the measurements are that it answers with.
    ///
    /// # Panics
    /// If another state reports to the same `registry`.
    #[must_use]
    pub fn with_metrics(mut self, registry: &Registry) -> Self {
        // The bounds are upstream's.
        let bounds = std::iter::successors(Some(1.0), |bound| Some(bound * 1.364)).take(20);
        let name = "metrics_server_api_metric_freshness_seconds";
        let options = HistogramOpts::new(name, "The age of the measurements in answers.")
            .buckets(bounds.collect());
        self.freshness = Some(telemetry::register(registry, Histogram::with_opts(options)));
        self
    }

    fn observe_freshness(&self, entries: &[Entry], now_ms: i64) {
        let Some(freshness) = &self.freshness else { return };
        let freshness = freshness.local();
        for (at_ms, _) in entries.iter().filter_map(Entry::measured) {
            let age = Duration::from_millis(u64::try_from(now_ms - at_ms).unwrap_or(0));
            freshness.observe(age.as_secs_f64());
        }
        freshness.flush();
    }
}

/// The paths of the group `metrics.k8s.io`, and `/top`.
pub fn router(state: ResourceState) -> Router {
    const GROUP: &str = "/apis/metrics.k8s.io";
    let path = |rest: &str| format!("{GROUP}{rest}");
    Router::new()
        .route(GROUP, any(discovery::of_group))
        .route(&path("/"), any(discovery::of_group))
        .route(&path("/v1beta1"), any(discovery::of_version))
        .route(&path("/v1beta1/"), any(discovery::of_version))
        .route(&path("/v1beta1/nodes"), any(nodes))
        .route(&path("/v1beta1/nodes/{name}"), any(node))
        .route(&path("/v1beta1/pods"), any(all_pods))
        .route(&path("/v1beta1/namespaces/{namespace}/pods"), any(pods))
        .route(&path("/v1beta1/namespaces/{namespace}/pods/{name}"), any(pod))
        .route(&path("/{*rest}"), any(unknown))
        .route("/top/nodes", any(top::nodes))
        .route("/top/pods", any(top::pods))
        .with_state(state)
}

async fn nodes(State(state): State<ResourceState>, request: Parts) -> Response {
    many(&state, &request, Resource::Nodes, None).await
}

async fn all_pods(State(state): State<ResourceState>, request: Parts) -> Response {
    many(&state, &request, Resource::Pods, None).await
}

async fn pods(
    State(state): State<ResourceState>,
    Path(namespace): Path<String>,
    request: Parts,
) -> Response {
    many(&state, &request, Resource::Pods, Some(namespace)).await
}

async fn node(
    State(state): State<ResourceState>,
    Path(name): Path<String>,
    request: Parts,
) -> Response {
    one(&state, &request, Resource::Nodes, "", &name)
}

async fn pod(
    State(state): State<ResourceState>,
    Path((namespace, name)): Path<(String, String)>,
    request: Parts,
) -> Response {
    one(&state, &request, Resource::Pods, &namespace, &name)
}

async fn unknown(request: Parts) -> Response {
    respond(&Status::unknown_path(), output::error_encoding(&request))
}

/// A list or a watch.
async fn many(
    state: &ResourceState,
    request: &Parts,
    resource: Resource,
    namespace: Option<String>,
) -> Response {
    let answer = async {
        only_get(request)?;
        let options = Options::parse(request.uri.query().unwrap_or(""))?;
        let selection =
            Selection { namespace, labels: options.labels.clone(), fields: options.fields.clone() };
        if options.watch {
            let output = Output::negotiate_stream(request, &options)?;
            watch::answer(state, resource, selection, &options, output)
        } else {
            let output = Output::negotiate(request, &options)?;
            list::answer(state, resource, selection, output).await
        }
    };
    answer.await.unwrap_or_else(|status| respond(&status, output::error_encoding(request)))
}

/// One object.
fn one(
    state: &ResourceState,
    request: &Parts,
    resource: Resource,
    namespace: &str,
    name: &str,
) -> Response {
    let answer = || {
        only_get(request)?;
        let options = Options::parse(request.uri.query().unwrap_or(""))?;
        let output = Output::negotiate(request, &options)?;
        list::answer_one(state, resource, namespace, name, output)
    };
    answer().unwrap_or_else(|status| respond(&status, output::error_encoding(request)))
}

fn only_get(request: &Parts) -> Result<(), Status> {
    if request.method == Method::GET { Ok(()) } else { Err(Status::method_not_served()) }
}

/// Answers with an error.
#[must_use]
pub fn respond(status: &Status, encoding: Encoding) -> Response {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let (media_type, body) = match encoding {
        Encoding::Protobuf => {
            let mut body = Vec::new();
            metrics_api::protobuf::write_status(&mut body, status);
            (Encoding::Protobuf.media_type(), body)
        }
        // What is YAML is also what JSON is.
        Encoding::Json | Encoding::Yaml => (Encoding::Json.media_type(), status.to_json()),
    };
    let mut response = (code, [(header::CONTENT_TYPE, media_type)], body).into_response();
    let retry_after = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    if retry_after > 0 {
        response.headers_mut().insert(header::RETRY_AFTER, retry_after.into());
    }
    response
}

#[cfg(test)]
mod tests;
