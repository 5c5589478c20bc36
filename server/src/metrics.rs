//! The server's own metrics, under Prometheus's names where dashboards know them.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use telemetry::{
    Gauge, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    register,
};

use crate::api::PROMETHEUS_VERSION;
use crate::state::Server;

/// Metrics of requests and of the configuration.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    pub(crate) config_reload_successful: IntGauge,
    pub(crate) config_reload_seconds: Gauge,
    pub(crate) ready: IntGauge,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        let build = register(
            registry,
            IntGaugeVec::new(
                Opts::new(
                    "prometheus_build_info",
                    "Always 1; the version of Prometheus whose interfaces this server offers.",
                ),
                &["version"],
            ),
        );
        build.with_label_values(&[PROMETHEUS_VERSION]).set(1);
        let seconds = HistogramOpts::new(
            "prometheus_http_request_duration_seconds",
            "Histogram of latencies for HTTP requests.",
        )
        .buckets(vec![0.1, 0.2, 0.4, 1.0, 3.0, 8.0, 20.0, 60.0, 120.0]);
        Self {
            requests: register(
                registry,
                IntCounterVec::new(
                    Opts::new("prometheus_http_requests_total", "Counter of HTTP requests."),
                    &["code", "handler"],
                ),
            ),
            request_seconds: register(registry, HistogramVec::new(seconds, &["handler"])),
            config_reload_successful: register(
                registry,
                IntGauge::new(
                    "prometheus_config_last_reload_successful",
                    "Whether the last configuration reload attempt was successful.",
                ),
            ),
            config_reload_seconds: register(
                registry,
                Gauge::new(
                    "prometheus_config_last_reload_success_timestamp_seconds",
                    "Timestamp of the last successful configuration reload.",
                ),
            ),
            ready: register(
                registry,
                IntGauge::new(
                    "prometheus_ready",
                    "Whether Prometheus startup was fully completed and the server is ready for normal operation.",
                ),
            ),
        }
    }
}

/// Counts and times a request. The label is the route, never the path as sent: a closed set.
pub(crate) async fn observe(
    State(server): State<Arc<Server>>,
    request: Request,
    next: Next,
) -> Response {
    let handler = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| String::from("unknown"), |path| handler_name(path.as_str()));
    let started = Instant::now();
    let response = next.run(request).await;
    let code = response.status();
    server.metrics.requests.with_label_values(&[code.as_str(), &handler]).inc();
    let seconds = started.elapsed().as_secs_f64();
    server.metrics.request_seconds.with_label_values(&[handler.as_str()]).observe(seconds);
    response
}

/// A route as Prometheus writes it: `/label/:name/values`.
fn handler_name(route: &str) -> String {
    route.replace("{*", "*").replace('{', ":").replace('}', "")
}

#[cfg(test)]
mod tests {
    use super::handler_name;

    #[test]
    fn routes_are_named_as_in_prometheus() {
        assert_eq!(handler_name("/api/v1/label/{name}/values"), "/api/v1/label/:name/values");
        assert_eq!(handler_name("/api/v1/admin/{*rest}"), "/api/v1/admin/*rest");
        assert_eq!(handler_name("/metrics"), "/metrics");
    }
}
