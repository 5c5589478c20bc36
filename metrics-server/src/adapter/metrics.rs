//! What the adapter tells of itself, under the names of prometheus-adapter and custom-metrics-apiserver.

use std::sync::Arc;
use std::time::Instant;

use api_client::{Answer, AskError, Asked, Source, Value};
use futures_util::FutureExt;
use metrics_api::{CUSTOM_METRICS_GROUP, EXTERNAL_METRICS_GROUP};
use model::{Labels, TimeRange, Timestamp};
use telemetry::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry, register,
};

/// The metrics.
#[derive(Clone, Debug)]
pub struct AdapterMetrics {
    /// By path and server.
    requests: HistogramVec,
    failures: IntCounterVec,
    custom_age: Histogram,
    external_age: Histogram,
}

impl AdapterMetrics {
    /// The metrics, registered with `registry`.
    ///
    /// # Panics
    /// If another adapter reports to the same `registry`.
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        let name = "prometheus_adapter_prometheus_client_request_duration_seconds";
        let help = "The time until Prometheus had answered, by path and server.";
        let labels = &["path", "server"];
        let requests = HistogramVec::new(HistogramOpts::new(name, help), labels);
        let name = "prometheus_adapter_prometheus_client_request_failures_total";
        let help = "Requests that Prometheus did not answer, by path and server.";
        let failures = IntCounterVec::new(Opts::new(name, help), labels);
        // The bounds are upstream's.
        let bounds = std::iter::successors(Some(1.0), |bound| Some(bound * 1.364)).take(20);
        let name = "metrics_apiserver_metric_freshness_seconds";
        let options =
            HistogramOpts::new(name, "The age of the values in answers.").buckets(bounds.collect());
        let ages = register(registry, HistogramVec::new(options, &["group"]));
        Self {
            requests: register(registry, requests),
            failures: register(registry, failures),
            custom_age: ages.with_label_values(&[CUSTOM_METRICS_GROUP]),
            external_age: ages.with_label_values(&[EXTERNAL_METRICS_GROUP]),
        }
    }

    /// `source`, which is called `server`, with its requests measured.
    #[must_use]
    pub fn measured(&self, source: Arc<dyn Source>, server: &str) -> Arc<dyn Source> {
        let at = |path: &str| Endpoint {
            duration: self.requests.with_label_values(&[path, server]),
            failures: self.failures.with_label_values(&[path, server]),
        };
        Arc::new(Measured {
            source,
            query: at("/api/v1/query"),
            series: at("/api/v1/series"),
            label_values: at("/api/v1/label/:name/values"),
        })
    }

    /// Values of objects were answered, computed at these times in seconds since the epoch.
    pub(super) fn answered_custom(&self, times_s: impl Iterator<Item = i64>, now: Timestamp) {
        observe(&self.custom_age, times_s, now);
    }

    /// External values were answered, computed at these times in seconds since the epoch.
    pub(super) fn answered_external(&self, times_s: impl Iterator<Item = i64>, now: Timestamp) {
        observe(&self.external_age, times_s, now);
    }
}

#[expect(clippy::cast_precision_loss, reason = "an age in seconds")]
fn observe(ages: &Histogram, times_s: impl Iterator<Item = i64>, now: Timestamp) {
    let ages = ages.local();
    for at_s in times_s {
        ages.observe((now.div_euclid(1000).saturating_sub(at_s)).max(0) as f64);
    }
    ages.flush();
}

struct Endpoint {
    duration: Histogram,
    failures: IntCounter,
}

impl Endpoint {
    async fn measure<T>(
        &self,
        asked: impl Future<Output = Result<Answer<T>, AskError>>,
    ) -> Result<Answer<T>, AskError> {
        let began = Instant::now();
        let answer = asked.await;
        self.duration.observe(began.elapsed().as_secs_f64());
        if answer.is_err() {
            self.failures.inc();
        }
        answer
    }
}

struct Measured {
    source: Arc<dyn Source>,
    query: Endpoint,
    series: Endpoint,
    label_values: Endpoint,
}

impl Source for Measured {
    fn instant<'a>(&'a self, query: &'a str, at: Timestamp) -> Asked<'a, Value> {
        self.query.measure(self.source.instant(query, at)).boxed()
    }

    fn series<'a>(&'a self, matchers: &'a [&'a str], range: TimeRange) -> Asked<'a, Vec<Labels>> {
        self.series.measure(self.source.series(matchers, range)).boxed()
    }

    fn label_values<'a>(
        &'a self,
        name: &'a str,
        matchers: &'a [&'a str],
        range: TimeRange,
    ) -> Asked<'a, Vec<String>> {
        self.label_values.measure(self.source.label_values(name, matchers, range)).boxed()
    }
}
