//! What the handlers share.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use axum::extract::FromRequestParts;
use axum::http::{HeaderName, StatusCode, request};
use axum::response::{IntoResponse, Response};
use model::{Clock, Matcher, Timestamp};
use parking_lot::RwLock;
use scrape::Scraper;
use tokio_util::sync::CancellationToken;
use tsdb::Db;

use crate::metrics::Metrics;
use crate::queries::Queries;

/// Everything that lives as long as the process.
pub(crate) struct Server {
    pub(crate) clock: Arc<dyn Clock>,
    /// When the process started serving.
    pub(crate) started: Timestamp,
    pub(crate) engine: Arc<promql::Engine>,
    /// Which experimental parts of the language the engine allows.
    pub(crate) parse: promql::ParseOptions,
    /// Whether the engine drops metric names when a query is done, not before.
    pub(crate) delayed_name_removal: bool,
    /// Whether series that are scraped get their type as a label.
    pub(crate) type_and_unit_labels: bool,
    /// Whether `stats=all` counts the samples of each step.
    pub(crate) per_step_stats: bool,
    pub(crate) queries: Queries,
    pub(crate) metrics: Metrics,
    pub(crate) registry: telemetry::Registry,
    /// Flags by name, for `status/flags`.
    pub(crate) flags: Vec<(String, String)>,
    pub(crate) data_path: PathBuf,
    /// The configuration in force.
    pub(crate) config: RwLock<Arc<config::Config>>,
    /// How the last attempt to load a configuration went.
    pub(crate) reload: RwLock<Reload>,
    /// Whether series may be deleted and snapshots taken.
    pub(crate) enable_admin_api: bool,
    /// Which pages of other sites may read the API.
    pub(crate) cors_origin: Option<Matcher>,
    /// How far the replay of the log is.
    pub(crate) replay: Arc<tsdb::ReplayProgress>,
    /// Asks for a reload; `None` where `/-/reload` is off.
    pub(crate) reload_requests: Option<crate::run::ReloadRequests>,
    /// Links of the binary's own endpoints, for the front page.
    pub(crate) extra_links: Vec<(String, String)>,
    /// Set once the store is open.
    pub(crate) running: OnceLock<Ready>,
    /// Cancelled to make the process stop.
    pub(crate) shutdown: CancellationToken,
    /// Set when the process begins to stop.
    pub(crate) stopping: std::sync::atomic::AtomicBool,
}

impl Server {
    /// The engine, to be taken along to a blocking thread.
    pub(crate) fn engine(&self) -> Arc<promql::Engine> {
        Arc::clone(&self.engine)
    }
}

/// The outcome of loading a configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reload {
    pub(crate) succeeded: bool,
    /// Time of the last success.
    pub(crate) at: Timestamp,
}

/// What exists once the store is open. As an extractor it refuses requests that come earlier.
#[derive(Clone)]
pub(crate) struct Ready {
    pub(crate) store: Arc<Db>,
    pub(crate) scraper: Arc<Scraper>,
}

impl FromRequestParts<Arc<Server>> for Ready {
    type Rejection = NotReady;

    async fn from_request_parts(
        _: &mut request::Parts,
        server: &Arc<Server>,
    ) -> Result<Self, NotReady> {
        let stopping = server.stopping.load(std::sync::atomic::Ordering::Relaxed);
        match server.running.get() {
            Some(ready) if !stopping => Ok(ready.clone()),
            _ => Err(NotReady { stopping }),
        }
    }
}

/// The store is being opened or closed.
pub(crate) struct NotReady {
    stopping: bool,
}

impl IntoResponse for NotReady {
    fn into_response(self) -> Response {
        let stopping = if self.stopping { "true" } else { "false" };
        let header = HeaderName::from_static("x-prometheus-stopping");
        (StatusCode::SERVICE_UNAVAILABLE, [(header, stopping)], "Service Unavailable")
            .into_response()
    }
}
