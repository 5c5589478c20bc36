//! Which way a reconciliation takes: whether metrics are asked at all.

use std::borrow::Cow;

use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscalerSpec, HorizontalPodAutoscalerStatus, MetricSpec, MetricTarget,
    ResourceMetricSource,
};

use super::conditions::{SCALED_TO_ZERO, is_true};
use super::limit::Bounds;
use crate::inputs::Gates;

/// The way that a reconciliation takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Course {
    /// The target is at zero, and not by an autoscaler that could bring it back: nothing is done.
    DisabledAtZero,
    /// There are too many replicas whatever metrics say.
    AboveMax,
    /// There are too few replicas whatever metrics say.
    BelowMin,
    /// Metrics say.
    Metrics {
        /// From zero, to which an autoscaler had scaled.
        from_zero: bool,
    },
}

impl Course {
    pub(super) fn of(
        gates: Gates,
        spec: &HorizontalPodAutoscalerSpec,
        status: &HorizontalPodAutoscalerStatus,
        current: i32,
        bounds: Bounds,
    ) -> Self {
        if current == 0 {
            let by_us = gates.scale_to_zero && is_true(status, SCALED_TO_ZERO);
            return if by_us && (bounds.min != 0 || asks_beyond_pods(spec)) {
                Self::Metrics { from_zero: true }
            } else {
                Self::DisabledAtZero
            };
        }
        if current > bounds.max {
            Self::AboveMax
        } else if current < bounds.min {
            Self::BelowMin
        } else {
            Self::Metrics { from_zero: false }
        }
    }
}

/// Whether some metric can be known without pods.
pub(super) fn asks_beyond_pods(spec: &HorizontalPodAutoscalerSpec) -> bool {
    let mut metrics = spec.metrics.iter().flatten();
    metrics.any(|metric| matches!(metric.type_.as_str(), "Object" | "External"))
}

/// The bounds of the specification.
pub(super) fn bounds(spec: &HorizontalPodAutoscalerSpec) -> Bounds {
    Bounds { min: spec.min_replicas.unwrap_or(1), max: spec.max_replicas }
}

/// The specification that a controller is to follow. Without the gate it keeps one replica, even if a server that has the gate let
/// `minReplicas` of 0 through: nothing would bring a target back from zero. Upstream goes down and stays there, which is why
/// [`decide`](super::decide) does so too when it is given such a specification.
#[must_use]
pub fn keeping_one(
    gates: Gates,
    spec: &HorizontalPodAutoscalerSpec,
) -> HorizontalPodAutoscalerSpec {
    let mut spec = spec.clone();
    if !gates.scale_to_zero {
        spec.min_replicas = spec.min_replicas.map(|min| min.max(1));
    }
    spec
}

/// The metrics of the specification; if there are none, what the API server fills in: 80 % of the requested CPU.
#[must_use]
pub fn metrics(spec: &HorizontalPodAutoscalerSpec) -> Cow<'_, [MetricSpec]> {
    match spec.metrics.as_deref() {
        Some(metrics) if !metrics.is_empty() => Cow::Borrowed(metrics),
        _ => Cow::Owned(vec![MetricSpec {
            type_: "Resource".to_owned(),
            resource: Some(ResourceMetricSource {
                name: "cpu".to_owned(),
                target: MetricTarget {
                    type_: "Utilization".to_owned(),
                    average_utilization: Some(80),
                    ..MetricTarget::default()
                },
            }),
            ..MetricSpec::default()
        }]),
    }
}
