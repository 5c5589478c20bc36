//! The autoscaler that a managed controller sees, made from the one that its owner means, and back.

use std::collections::BTreeMap;

use k8s_openapi::api::autoscaling::v2::{
    ExternalMetricSource, HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscaler,
    HorizontalPodAutoscalerBehavior, HorizontalPodAutoscalerSpec, MetricIdentifier, MetricSpec,
    MetricTarget,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::Gates;
use crate::spec;

/// Holds the specification that is decided from, as JSON.
pub const ANNOTATION: &str = "autoscaling.sextant.dev/steered-spec";
/// The metric that carries the replica count.
pub const METRIC: &str = "sextant-replicas";
/// The label of the metric that names the autoscaler.
pub const HPA_LABEL: &str = "autoscaling.sextant.dev/hpa";

/// Longest value of a label, which the name of the autoscaler becomes.
const LABEL_BYTES_MAX: usize = 63;
/// Where `kubectl apply` keeps what it applied last; it would hold the specification once more.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Pods of one step, far above what a cluster has; the API takes any number above 0.
const ANY_PODS: i32 = 1_000_000;
/// Largest specification, in bytes; Kubernetes allows 256 KiB for all annotations.
const SPEC_BYTES_MAX: usize = 128 << 10;

/// Why an autoscaler cannot be steered, or turned back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SteerError {
    /// The name becomes the value of a label.
    #[error("metadata.name: has {0} bytes, a steered autoscaler's has at most {LABEL_BYTES_MAX}")]
    Name(usize),
    /// Nothing names it.
    #[error("metadata.name: is missing")]
    NoName,
    /// It is steered already.
    #[error("metadata.annotations[{ANNOTATION}]: it is steered already")]
    Steered,
    /// It is not steered.
    #[error("metadata.annotations[{ANNOTATION}]: is missing, it is not steered")]
    NotSteered,
    /// What is meant is not an autoscaler that a cluster would take.
    #[error("{0}")]
    Invalid(String),
}

/// The autoscaler that a managed controller is to see.
///
/// It has the same target and bounds. Its tolerance is 0, which Kubernetes heeds from 1.35 on; before, steps of less than a tenth are not
/// taken. Its windows are 0 and its policies allow any step, since ours have been applied before.
///
/// # Errors
/// [`SteerError`]
pub fn steered(
    autoscaler: &HorizontalPodAutoscaler,
) -> Result<HorizontalPodAutoscaler, SteerError> {
    let mut steered = autoscaler.clone();
    let annotations = steered.metadata.annotations.get_or_insert_default();
    if annotations.contains_key(ANNOTATION) {
        return Err(SteerError::Steered);
    }
    let name = autoscaler.metadata.name.as_deref().ok_or(SteerError::NoName)?;
    if name.len() > LABEL_BYTES_MAX {
        return Err(SteerError::Name(name.len()));
    }
    let spec = autoscaler.spec.clone();
    check(spec.clone())?;
    let text =
        serde_json::to_string(&spec).map_err(|error| SteerError::Invalid(error.to_string()))?;
    if text.len() > SPEC_BYTES_MAX {
        return Err(SteerError::Invalid(format!("spec: is larger than {SPEC_BYTES_MAX} bytes")));
    }
    annotations.remove(LAST_APPLIED);
    annotations.insert(ANNOTATION.to_owned(), text);
    steered.spec = HorizontalPodAutoscalerSpec {
        metrics: Some(vec![metric(name)]),
        behavior: Some(HorizontalPodAutoscalerBehavior {
            scale_up: Some(any_step()),
            scale_down: Some(any_step()),
        }),
        ..spec
    };
    steered.status = None;
    Ok(steered)
}

fn metric(name: &str) -> MetricSpec {
    let labels = BTreeMap::from([metric_name_label(name)]);
    MetricSpec {
        type_: "External".to_owned(),
        external: Some(ExternalMetricSource {
            metric: MetricIdentifier {
                name: METRIC.to_owned(),
                selector: Some(LabelSelector {
                    match_labels: Some(labels),
                    match_expressions: None,
                }),
            },
            target: MetricTarget {
                type_: "AverageValue".to_owned(),
                average_value: Some(Quantity("1".to_owned())),
                ..MetricTarget::default()
            },
        }),
        ..MetricSpec::default()
    }
}

/// The label by which the metric of the autoscaler `name` is selected.
#[must_use]
pub fn metric_name_label(name: &str) -> (String, String) {
    (HPA_LABEL.to_owned(), name.to_owned())
}

/// Rules that allow any step at any time. They do not depend on the bounds, which may be changed in the object later.
fn any_step() -> HPAScalingRules {
    HPAScalingRules {
        stabilization_window_seconds: Some(0),
        select_policy: Some("Max".to_owned()),
        policies: Some(vec![HPAScalingPolicy {
            type_: "Pods".to_owned(),
            value: ANY_PODS,
            period_seconds: 1,
        }]),
        tolerance: Some(Quantity("0".to_owned())),
    }
}

/// The autoscaler that its owner means.
///
/// # Errors
/// It is not steered, or its annotation cannot be read.
pub fn unsteered(
    autoscaler: &HorizontalPodAutoscaler,
) -> Result<HorizontalPodAutoscaler, SteerError> {
    let mut plain = autoscaler.clone();
    let annotations = plain.metadata.annotations.get_or_insert_default();
    let text = annotations.remove(ANNOTATION).ok_or(SteerError::NotSteered)?;
    annotations.remove(LAST_APPLIED);
    if annotations.is_empty() {
        plain.metadata.annotations = None;
    }
    plain.spec = read(&text)?;
    plain.status = None;
    Ok(plain)
}

/// The specification to decide from, defaults filled in; `None` if the autoscaler is not steered.
///
/// Target and bounds are those of the object itself, so that what the managed controller enforces is what we decide within.
///
/// # Errors
/// The annotation cannot be read, or a cluster would not take it: what is wrong with it.
#[must_use]
pub fn real_spec(
    annotations: &BTreeMap<String, String>,
    seen: &HorizontalPodAutoscalerSpec,
) -> Option<Result<HorizontalPodAutoscalerSpec, SteerError>> {
    let text = annotations.get(ANNOTATION)?;
    Some(read(text).and_then(|spec| {
        check(HorizontalPodAutoscalerSpec {
            scale_target_ref: seen.scale_target_ref.clone(),
            min_replicas: seen.min_replicas,
            max_replicas: seen.max_replicas,
            ..spec
        })
    }))
}

fn read(text: &str) -> Result<HorizontalPodAutoscalerSpec, SteerError> {
    if text.len() > SPEC_BYTES_MAX {
        let why =
            format!("metadata.annotations[{ANNOTATION}]: is larger than {SPEC_BYTES_MAX} bytes");
        return Err(SteerError::Invalid(why));
    }
    serde_json::from_str(text).map_err(|error| {
        SteerError::Invalid(format!("metadata.annotations[{ANNOTATION}]: {error}"))
    })
}

/// `spec` with defaults, if a cluster would take it.
fn check(mut spec: HorizontalPodAutoscalerSpec) -> Result<HorizontalPodAutoscalerSpec, SteerError> {
    spec::set_defaults(&mut spec);
    let mut autoscaler = HorizontalPodAutoscaler { spec, ..Default::default() };
    // Only the specification is looked at; the object has a name of its own.
    autoscaler.metadata.name = Some("steered".to_owned());
    autoscaler.metadata.namespace = Some("steered".to_owned());
    // What a newer cluster allows is the cluster's business.
    let gates = Gates { scale_to_zero: true, ..Gates::default() };
    match spec::validate(&autoscaler, &gates).first() {
        None => Ok(autoscaler.spec),
        Some(error) => Err(SteerError::Invalid(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn autoscaler(name: &str) -> HorizontalPodAutoscaler {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "shop", "annotations": {"team": "a"}},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                "minReplicas": 2,
                "maxReplicas": 20,
                "metrics": [{"type": "Resource", "resource": {
                    "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}}],
            },
        }))
        .unwrap()
    }

    #[test]
    fn what_the_managed_controller_sees() {
        let steered = steered(&autoscaler("web")).unwrap();
        let rules = json!({
            "stabilizationWindowSeconds": 0,
            "selectPolicy": "Max",
            "policies": [{"type": "Pods", "value": 1_000_000, "periodSeconds": 1}],
            "tolerance": "0",
        });
        let expected = json!({
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "minReplicas": 2,
            "maxReplicas": 20,
            "metrics": [{"type": "External", "external": {
                "metric": {
                    "name": "sextant-replicas",
                    "selector": {"matchLabels": {"autoscaling.sextant.dev/hpa": "web"}},
                },
                "target": {"type": "AverageValue", "averageValue": "1"},
            }}],
            "behavior": {"scaleUp": rules, "scaleDown": rules},
        });
        assert_eq!(serde_json::to_value(&steered.spec).unwrap(), expected);
        assert_eq!(steered.metadata.annotations.as_ref().unwrap()["team"], "a");
    }

    #[test]
    fn there_and_back() {
        let plain = autoscaler("web");
        let there = steered(&plain).unwrap();
        assert_eq!(unsteered(&there).unwrap(), plain);
        assert_eq!(steered(&there), Err(SteerError::Steered));
        assert_eq!(unsteered(&plain), Err(SteerError::NotSteered));
        assert_eq!(steered(&autoscaler(&"x".repeat(64))), Err(SteerError::Name(64)));
    }

    #[test]
    fn decided_from_what_is_meant_within_what_is_seen() {
        let mut there = steered(&autoscaler("web")).unwrap();
        there.spec.max_replicas = 8;
        let seen = &there.spec;
        let annotations = there.metadata.annotations.unwrap();
        let spec = real_spec(&annotations, seen).unwrap().unwrap();
        assert_eq!((spec.min_replicas, spec.max_replicas), (Some(2), 8));
        assert_eq!(spec.metrics.unwrap()[0].type_, "Resource");
        assert!(real_spec(&BTreeMap::new(), seen).is_none());
        for wrong in [
            "{",
            r#"{"maxReplicas":3,"scaleTargetRef":{"kind":"D","name":"w"},"metrics":[{"type":"Resource"}]}"#,
        ] {
            let annotations = BTreeMap::from([(ANNOTATION.to_owned(), wrong.to_owned())]);
            assert!(matches!(real_spec(&annotations, seen), Some(Err(SteerError::Invalid(_)))));
        }
    }
}
