//! What scraping says about itself, under upstream's names.

use std::time::Duration;

use telemetry::{
    GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry,
    register,
};

/// Upstream's buckets, which are the client library's defaults.
const REQUEST_BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The metrics of scraping.
#[derive(Clone, Debug)]
pub struct ScrapeMetrics {
    request_duration: HistogramVec,
    request_success: IntCounter,
    request_failure: IntCounter,
    last_request: GaugeVec,
    tick_duration: Histogram,
    malformed_lines: IntCounter,
    incomplete_pods: IntCounter,
    skipped: IntCounter,
}

impl ScrapeMetrics {
    /// Registers them with `registry`.
    #[must_use]
    pub fn new(registry: &Registry, resolution: Duration) -> Self {
        let request_total = register(
            registry,
            IntCounterVec::new(
                Opts::new(
                    "metrics_server_kubelet_request_total",
                    "Number of requests sent to Kubelet API",
                ),
                &["success"],
            ),
        );
        let counter = |name, help| register(registry, IntCounter::new(name, help));
        Self {
            request_duration: register(
                registry,
                HistogramVec::new(
                    HistogramOpts::new(
                        "metrics_server_kubelet_request_duration_seconds",
                        "Duration of requests to Kubelet API in seconds",
                    )
                    .buckets(REQUEST_BUCKETS.to_vec()),
                    &["node"],
                ),
            ),
            request_success: request_total.with_label_values(&["true"]),
            request_failure: request_total.with_label_values(&["false"]),
            last_request: register(
                registry,
                GaugeVec::new(
                    Opts::new(
                        "metrics_server_kubelet_last_request_time_seconds",
                        "Time of last request performed to Kubelet API since unix epoch in seconds",
                    ),
                    &["node"],
                ),
            ),
            tick_duration: register(
                registry,
                Histogram::with_opts(
                    HistogramOpts::new(
                        "metrics_server_manager_tick_duration_seconds",
                        "The time from the first request of a cycle to the last answer in seconds.",
                    )
                    .buckets(tick_buckets(resolution)),
                ),
            ),
            malformed_lines: counter(
                "metrics_server_kubelet_malformed_lines_total",
                "Lines of kubelets' answers that could not be read.",
            ),
            incomplete_pods: counter(
                "metrics_server_kubelet_incomplete_pods_total",
                "Pods left out of an answer because a container lacked CPU or memory.",
            ),
            skipped: counter(
                "metrics_server_kubelet_requests_skipped_total",
                "Requests not sent because the one before, or too many others, were unanswered.",
            ),
        }
    }

    /// A request to `node` that took `duration` and ended at `now_ms`.
    pub(super) fn request(&self, node: &str, duration: Duration, now_ms: i64, success: bool) {
        self.request_duration.with_label_values(&[node]).observe(duration.as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "seconds since the epoch, far below 2^53")]
        self.last_request.with_label_values(&[node]).set((now_ms / 1000) as f64);
        if success { self.request_success.inc() } else { self.request_failure.inc() }
    }

    /// A request that could not be sent, since the node has no address.
    pub(super) fn not_sent(&self) {
        self.request_failure.inc();
    }

    /// `node` is no more.
    pub(super) fn forget(&self, node: &str) {
        // They do not exist if the node was never asked.
        let _ = self.request_duration.remove_label_values(&[node]);
        let _ = self.last_request.remove_label_values(&[node]);
    }

    pub(super) fn tick(&self, duration: Duration) {
        self.tick_duration.observe(duration.as_secs_f64());
    }

    pub(super) fn report(&self, report: &super::Report) {
        self.malformed_lines.inc_by(report.malformed_lines);
        self.incomplete_pods.inc_by(report.incomplete_pods);
    }

    /// Lines of an answer that was of no use.
    pub(super) fn unreadable(&self, lines: u64) {
        self.malformed_lines.inc_by(lines);
    }

    pub(super) fn skip(&self) {
        self.skipped.inc();
    }
}

/// Upstream's: those of requests, and the resolution with what lies around it. A resolution up to 10 s, the last of them, adds none.
fn tick_buckets(resolution: Duration) -> Vec<f64> {
    let (last, resolution) = (10.0, resolution.as_secs_f64());
    let mut buckets = REQUEST_BUCKETS.to_vec();
    if resolution > last {
        let halfway = f64::midpoint(last, resolution);
        buckets.extend([halfway, resolution, resolution * 1.5, resolution * 2.0]);
    }
    buckets
}
