//! Metrics of requests under the names of the Kubernetes API server.
//!
//! Every label has a closed set of values: a client must not be able to make up series.

use std::time::Duration;

use axum::http::StatusCode;
use telemetry::{
    HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, register,
};

use crate::auth::RequestInfo;

/// Upstream's buckets, in seconds.
const BUCKETS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0,
    10.0, 15.0, 20.0, 30.0, 45.0, 60.0,
];
const LABELS: [&str; 9] = [
    "verb",
    "dry_run",
    "group",
    "version",
    "resource",
    "subresource",
    "scope",
    "component",
    "code",
];
const COMPONENT: &str = "apiserver";

/// Counts requests and how long they take.
#[derive(Clone, Debug)]
pub struct RequestMetrics {
    total: IntCounterVec,
    duration: HistogramVec,
    pub(super) inflight: IntGaugeVec,
}

impl RequestMetrics {
    /// Registers the metrics.
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        let total = Opts::new(
            "apiserver_request_total",
            "Requests by verb, API and resource, and the HTTP status of the answer.",
        );
        let duration = HistogramOpts::new(
            "apiserver_request_duration_seconds",
            "Time until the answer of a request began, by verb, API and resource; watches excepted.",
        );
        let inflight = Opts::new(
            "apiserver_current_inflight_requests",
            "Requests that count against the limits, by request kind.",
        );
        Self {
            total: register(registry, IntCounterVec::new(total, &LABELS)),
            duration: register(
                registry,
                HistogramVec::new(duration.buckets(BUCKETS.to_vec()), &LABELS[..8]),
            ),
            inflight: register(registry, IntGaugeVec::new(inflight, &["request_kind"])),
        }
    }

    /// Counts an answer. Without `info`, the request could not be read.
    pub(super) fn answered(&self, info: Option<&RequestInfo>, code: StatusCode, took: Duration) {
        let labels = labels(info);
        let values = [
            labels.verb,
            "",
            labels.group,
            labels.version,
            labels.resource,
            labels.subresource,
            labels.scope,
            COMPONENT,
        ];
        let code = code.as_str();
        let [a, b, c, d, e, f, g, h] = values;
        self.total.with_label_values(&[a, b, c, d, e, f, g, h, code]).inc();
        if labels.verb != "WATCH" {
            self.duration.with_label_values(&values).observe(took.as_secs_f64());
        }
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Labels {
    verb: &'static str,
    group: &'static str,
    version: &'static str,
    resource: &'static str,
    subresource: &'static str,
    scope: &'static str,
}

fn labels(info: Option<&RequestInfo>) -> Labels {
    let Some(info) = info else { return Labels { verb: "other", ..Labels::default() } };
    let verb = match info.verb.as_str() {
        "get" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        "create" | "post" => "POST",
        "update" | "put" => "PUT",
        "patch" => "PATCH",
        "delete" => "DELETE",
        "deletecollection" => "DELETECOLLECTION",
        "head" => "HEAD",
        "options" => "OPTIONS",
        _ => "other",
    };
    let labels = Labels { verb, ..Labels::default() };
    if !info.is_resource {
        let probe = ["/healthz", "/livez", "/readyz", "/metrics"];
        let subresource = probe.into_iter().find(|path| *path == info.path).unwrap_or_default();
        return Labels { subresource, ..labels };
    }
    let (group, resource) = match (info.group.as_str(), info.resource.as_str()) {
        ("metrics.k8s.io", "nodes") => ("metrics.k8s.io", "nodes"),
        ("metrics.k8s.io", "pods") => ("metrics.k8s.io", "pods"),
        // Here resources and metrics are whatever the configuration and clients make of them.
        ("custom.metrics.k8s.io", _) => ("custom.metrics.k8s.io", "*"),
        ("external.metrics.k8s.io", _) => ("external.metrics.k8s.io", "*"),
        _ => return labels,
    };
    let versions = ["v1beta1", "v1beta2"];
    let version = versions.into_iter().find(|one| *one == info.version).unwrap_or_default();
    let scope = match (info.name.as_str(), info.namespace.as_str()) {
        ("", "") => "cluster",
        ("", _) => "namespace",
        _ => "resource",
    };
    Labels { group, version, resource, scope, ..labels }
}

#[cfg(test)]
mod tests {
    use axum::http::{Method, Uri};

    use super::*;

    #[test]
    fn labels_come_from_closed_sets() {
        for (method, path, expected) in [
            (
                "GET",
                "/apis/metrics.k8s.io/v1beta1/nodes",
                "LIST metrics.k8s.io v1beta1 nodes  cluster",
            ),
            (
                "GET",
                "/apis/metrics.k8s.io/v1beta1/namespaces/a/pods?watch=1",
                "WATCH metrics.k8s.io v1beta1 pods  namespace",
            ),
            (
                "GET",
                "/apis/metrics.k8s.io/v1beta1/namespaces/a/pods/p",
                "GET metrics.k8s.io v1beta1 pods  resource",
            ),
            ("GET", "/apis/metrics.k8s.io/v1beta1/x", "LIST     "),
            ("GET", "/apis/metrics.k8s.io/v9/nodes", "LIST metrics.k8s.io  nodes  cluster"),
            ("GET", "/apis/x/v1/nodes", "LIST     "),
            (
                "GET",
                "/apis/custom.metrics.k8s.io/v1beta2/namespaces/a/pods/p/rps",
                "GET custom.metrics.k8s.io v1beta2 *  resource",
            ),
            ("GET", "/livez", "GET    /livez "),
            ("GET", "/livez/x", "GET     "),
            (
                "BREW",
                "/apis/metrics.k8s.io/v1beta1/nodes",
                "other metrics.k8s.io v1beta1 nodes  cluster",
            ),
            ("BREW", "/", "other     "),
        ] {
            let method: Method = method.parse().unwrap();
            let info = RequestInfo::of(&method, &path.parse::<Uri>().unwrap()).unwrap();
            let Labels { verb, group, version, resource, subresource, scope } = labels(Some(&info));
            let found = [verb, group, version, resource, subresource, scope].join(" ");
            assert_eq!(found, expected, "{method} {path}");
        }
    }
}
