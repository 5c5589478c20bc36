//! What the controller tells over HTTP: its decisions, its metrics, and how it is. It only answers GET, and nothing here changes anything.
//!
//! Decisions name workloads and show their metrics, so that they are served on a loopback address unless told otherwise; probes and
//! metrics may have a second address that the kubelet and a scraper reach.

mod decisions;
mod probes;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use http::{HttpError, Limits};
use model::Clock;
use telemetry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::leader::Leadership;
use crate::state::{DecisionLog, Mode};
use crate::steer::{self, Recommendations};

/// Connections at a time: people, a scraper and a kubelet.
const CONNECTIONS_MAX: usize = 64;

/// What is shown.
#[derive(Clone)]
pub struct ApiState {
    /// The decisions.
    pub log: Arc<DecisionLog>,
    /// The metrics.
    pub registry: Registry,
    /// Whether this controller leads; one that does not has no recent decisions.
    pub leadership: Leadership,
    /// What this controller is called in the election.
    pub identity: Arc<str>,
    /// Whether decisions are carried out.
    pub mode: Mode,
    /// The counts of steered autoscalers.
    pub steering: Arc<Recommendations>,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// Whether it has what it needs to decide, or what it waits for. Must not block.
    pub ready: Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
}

impl std::fmt::Debug for ApiState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiState")
            .field("identity", &self.identity)
            .field("mode", &self.mode)
            .field("leadership", &self.leadership)
            .finish_non_exhaustive()
    }
}

/// Everything: `/api/v1/hpa…`, `/api/v1/steer/…`, `/metrics` and the probes.
pub fn router(state: ApiState) -> Router {
    decisions::router(state.clone()).merge(probes_router(state))
}

/// `/metrics`, the probes, and the counts of steered autoscalers, which another pod asks for.
pub fn probes_router(state: ApiState) -> Router {
    let counts = steer::router(Arc::clone(&state.steering), Arc::clone(&state.clock));
    counts.merge(probes::router(state))
}

/// Where it listens. Connections wait until it serves.
#[derive(Debug)]
pub struct ApiListener {
    all: TcpListener,
    probes: Option<TcpListener>,
}

impl ApiListener {
    /// Listens on `all` (`host:port`) for everything and, if given, on `probes` for [`probes_router`] alone.
    ///
    /// # Errors
    /// An address cannot be listened on.
    pub async fn bind(all: &str, probes: Option<&str>) -> Result<Self, HttpError> {
        let all = http::bind(all).await?;
        if let Ok(address) = all.local_addr()
            && !address.ip().is_loopback()
        {
            tracing::warn!(%address, "whoever reaches this address reads decisions about autoscalers: nobody is asked who they are");
        }
        let probes = match probes {
            Some(address) => Some(http::bind(address).await?),
            None => None,
        };
        Ok(Self { all, probes })
    }

    /// Where everything is served; the port is the one in use even if any was asked for.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_address(&self) -> std::io::Result<SocketAddr> {
        self.all.local_addr()
    }

    /// Where [`probes_router`] is served alone.
    #[must_use]
    pub fn probes_address(&self) -> Option<SocketAddr> {
        self.probes.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Serves until `shutdown` is cancelled, then lets open requests finish.
    ///
    /// # Errors
    /// What [`http::serve`] says.
    pub async fn serve(
        self,
        state: ApiState,
        shutdown: CancellationToken,
    ) -> Result<(), HttpError> {
        let limits =
            Limits { connections_max: CONNECTIONS_MAX, body_bytes_max: 0, ..Limits::default() };
        let probes = async {
            match self.probes {
                Some(listener) => {
                    let router = probes_router(state.clone());
                    http::serve(listener, router, limits, shutdown.clone()).await
                }
                None => Ok(()),
            }
        };
        let all = http::serve(self.all, router(state.clone()), limits, shutdown.clone());
        tokio::try_join!(all, probes).map(|_| ())
    }
}
