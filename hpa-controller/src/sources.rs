//! Where metrics come from: [`MetricsSource`] for now, [`History`] for then.

use futures_util::future::BoxFuture;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use model::Timestamp;
use serde::{Deserialize, Serialize};

use crate::inputs::{PodReading, ValueReading};

/// Pods of one namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodsRequest {
    /// The namespace.
    pub namespace: String,
    /// Label selector in its text form.
    pub selector: String,
}

/// An object that a metric describes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    /// `apiVersion`, such as `networking.k8s.io/v1`.
    pub api_version: String,
    /// `kind`.
    pub kind: String,
    /// Name; the namespace is the autoscaler's.
    pub name: String,
}

/// What to ask a metrics API for.
#[derive(Clone, Debug, PartialEq)]
pub enum MetricRequest {
    /// Usage of a resource by pods, summed over containers, or of one container.
    Resource {
        /// Whose.
        pods: PodsRequest,
        /// `cpu`, `memory`, …
        resource: String,
        /// Only the container of this name.
        container: Option<String>,
    },
    /// A custom metric of pods.
    Pods {
        /// Whose.
        pods: PodsRequest,
        /// Name of the metric.
        metric: String,
        /// Which series of it.
        selector: Option<LabelSelector>,
    },
    /// A custom metric of one object.
    Object {
        /// Namespace of the object.
        namespace: String,
        /// The object.
        object: ObjectRef,
        /// Name of the metric.
        metric: String,
        /// Which series of it.
        selector: Option<LabelSelector>,
    },
    /// An external metric.
    External {
        /// Namespace of the autoscaler.
        namespace: String,
        /// Name of the metric.
        metric: String,
        /// Which series of it.
        selector: Option<LabelSelector>,
    },
}

/// Why there are no values. The text is what upstream's client would say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MetricsError(pub String);

/// What metrics say now.
pub trait MetricsSource: Send + Sync {
    /// Values of the pods of a [`MetricRequest::Resource`] or [`MetricRequest::Pods`].
    ///
    /// # Errors
    /// The call failed or its answer was empty.
    fn pods<'a>(
        &'a self,
        request: &'a MetricRequest,
    ) -> BoxFuture<'a, Result<Vec<PodReading>, MetricsError>>;

    /// Values of a [`MetricRequest::Object`] (exactly one) or [`MetricRequest::External`].
    ///
    /// # Errors
    /// The call failed or its answer was empty.
    fn values<'a>(
        &'a self,
        request: &'a MetricRequest,
    ) -> BoxFuture<'a, Result<Vec<ValueReading>, MetricsError>>;
}

/// One series of the past.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistorySeries {
    /// Labels, sorted by name.
    pub labels: Vec<(String, String)>,
    /// Time in milliseconds since the epoch and value, oldest first.
    pub samples: Vec<(Timestamp, f64)>,
}

/// Why the past is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct HistoryError(pub String);

/// What metrics said then.
pub trait History: Send + Sync {
    /// The series that a PromQL expression has between two times (milliseconds since the epoch, both included), evaluated every
    /// `step_ms`.
    ///
    /// # Errors
    /// The expression, or whoever was asked, failed.
    fn range<'a>(
        &'a self,
        query: &'a str,
        from: Timestamp,
        to: Timestamp,
        step_ms: i64,
    ) -> BoxFuture<'a, Result<Vec<HistorySeries>, HistoryError>>;
}
