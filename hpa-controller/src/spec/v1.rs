//! `autoscaling/v1`, which knows a target for CPU only. What else an autoscaler has, the API server writes into annotations of the
//! object when it is read as v1, and takes from there when it is written.

use std::collections::BTreeMap;

use k8s_openapi::api::autoscaling::v1::{
    CrossVersionObjectReference as ReferenceV1, HorizontalPodAutoscaler as AutoscalerV1,
};
use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricSource, ContainerResourceMetricStatus, CrossVersionObjectReference,
    ExternalMetricSource, ExternalMetricStatus, HorizontalPodAutoscaler,
    HorizontalPodAutoscalerSpec, HorizontalPodAutoscalerStatus, MetricIdentifier, MetricSpec,
    MetricStatus, MetricTarget, MetricValueStatus, ObjectMetricSource, ObjectMetricStatus,
    PodsMetricSource, PodsMetricStatus, ResourceMetricSource, ResourceMetricStatus,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::defaults::{CPU_UTILIZATION, cpu_utilization};
use super::read::{ReadError, typed};

const PREFIX: &str = "autoscaling.alpha.kubernetes.io/";

/// A metric as annotations have it: `autoscaling/v1` in Go, which no schema publishes.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct MetricV1 {
    #[serde(rename = "type")]
    kind: String,
    object: Option<SourceV1>,
    pods: Option<SourceV1>,
    resource: Option<SourceV1>,
    container_resource: Option<SourceV1>,
    external: Option<SourceV1>,
}

/// A source of any type, its target or its current value: they share most fields.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SourceV1 {
    name: String,
    container: String,
    metric_name: String,
    target: Option<ReferenceV1>,
    selector: Option<LabelSelector>,
    metric_selector: Option<LabelSelector>,
    average_value: Option<Quantity>,
    target_value: Option<Quantity>,
    target_average_value: Option<Quantity>,
    target_average_utilization: Option<i32>,
    current_value: Option<Quantity>,
    current_average_value: Option<Quantity>,
    current_average_utilization: Option<i32>,
}

/// The same autoscaler as `autoscaling/v2`, without the annotations that say the rest.
pub(super) fn convert(object: AutoscalerV1) -> Result<HorizontalPodAutoscaler, ReadError> {
    let mut metadata = object.metadata;
    let mut annotations = metadata.annotations.take().unwrap_or_default();
    let spec = object.spec;
    let status = object.status.unwrap_or_default();

    let metrics: Vec<MetricV1> = annotation(&mut annotations, "metrics")?.unwrap_or_default();
    let mut metrics: Vec<_> = metrics.into_iter().map(MetricV1::spec).collect();
    metrics.extend(spec.target_cpu_utilization_percentage.map(cpu_utilization));
    if metrics.is_empty() {
        metrics.push(cpu_utilization(CPU_UTILIZATION));
    }
    let current: Option<Vec<MetricV1>> = annotation(&mut annotations, "current-metrics")?;
    let current = match current {
        Some(current) => Some(current.into_iter().map(MetricV1::status).collect()),
        None => status.current_cpu_utilization_percentage.map(|percent| vec![cpu_status(percent)]),
    };
    // Go writes the fields of its internal type under their own names, and reads them in any case.
    let behavior = match annotation::<Value>(&mut annotations, "behavior")? {
        Some(behavior) => Some(typed(lower_keys(behavior), &bracketed("behavior"))?),
        None => None,
    };
    let mut spec = HorizontalPodAutoscalerSpec {
        behavior,
        max_replicas: spec.max_replicas,
        metrics: Some(metrics),
        min_replicas: spec.min_replicas,
        scale_target_ref: reference(spec.scale_target_ref),
    };
    for (name, up) in [("scale-up-tolerance", true), ("scale-down-tolerance", false)] {
        let Some(text) = annotations.remove(&format!("{PREFIX}{name}")) else { continue };
        let behavior = spec.behavior.get_or_insert_default();
        let rules = if up { &mut behavior.scale_up } else { &mut behavior.scale_down };
        rules.get_or_insert_default().tolerance = Some(Quantity(text));
    }
    let status = HorizontalPodAutoscalerStatus {
        conditions: annotation(&mut annotations, "conditions")?,
        current_metrics: current,
        current_replicas: Some(status.current_replicas),
        desired_replicas: status.desired_replicas,
        last_scale_time: status.last_scale_time,
        observed_generation: status.observed_generation,
    };
    metadata.annotations = (!annotations.is_empty()).then_some(annotations);
    Ok(HorizontalPodAutoscaler { metadata, spec, status: Some(status) })
}

fn bracketed(name: &str) -> String {
    format!("metadata.annotations[{PREFIX}{name}]")
}

/// Takes an annotation out and reads the JSON in it.
fn annotation<T: DeserializeOwned>(
    annotations: &mut BTreeMap<String, String>,
    name: &str,
) -> Result<Option<T>, ReadError> {
    let Some(text) = annotations.remove(&format!("{PREFIX}{name}")) else { return Ok(None) };
    let value: Value = serde_json::from_str(&text).map_err(|error| ReadError {
        path: bracketed(name),
        message: format!("it is not JSON: {error}"),
    })?;
    typed(value, &bracketed(name)).map(Some)
}

/// The same value with all keys beginning with a small letter.
fn lower_keys(value: Value) -> Value {
    let lower = |key: String| {
        let mut rest = key.chars();
        match rest.next() {
            Some(first) => first.to_lowercase().chain(rest).collect(),
            None => key,
        }
    };
    match value {
        Value::Object(fields) => {
            fields.into_iter().map(|(key, value)| (lower(key), lower_keys(value))).collect()
        }
        Value::Array(items) => items.into_iter().map(lower_keys).collect(),
        other => other,
    }
}

fn reference(reference: ReferenceV1) -> CrossVersionObjectReference {
    CrossVersionObjectReference {
        api_version: reference.api_version,
        kind: reference.kind,
        name: reference.name,
    }
}

fn cpu_status(percent: i32) -> MetricStatus {
    let current =
        MetricValueStatus { average_utilization: Some(percent), ..MetricValueStatus::default() };
    MetricStatus {
        type_: String::from("Resource"),
        resource: Some(ResourceMetricStatus { name: String::from("cpu"), current }),
        ..MetricStatus::default()
    }
}

impl MetricV1 {
    fn spec(self) -> MetricSpec {
        MetricSpec {
            type_: self.kind,
            object: self.object.map(|mut source| ObjectMetricSource {
                target: source.object_target(),
                described_object: source.described(),
                metric: source.identifier(),
            }),
            pods: self.pods.map(|mut source| PodsMetricSource {
                target: source.metric_target(),
                metric: source.identifier(),
            }),
            resource: self.resource.map(|mut source| ResourceMetricSource {
                target: source.metric_target(),
                name: source.name,
            }),
            container_resource: self.container_resource.map(|mut source| {
                ContainerResourceMetricSource {
                    target: source.metric_target(),
                    name: source.name,
                    container: source.container,
                }
            }),
            external: self.external.map(|mut source| ExternalMetricSource {
                target: source.metric_target(),
                metric: source.identifier(),
            }),
        }
    }

    fn status(self) -> MetricStatus {
        MetricStatus {
            type_: self.kind,
            object: self.object.map(|mut source| ObjectMetricStatus {
                current: source.current(),
                described_object: source.described(),
                metric: source.identifier(),
            }),
            pods: self.pods.map(|mut source| PodsMetricStatus {
                current: source.current(),
                metric: source.identifier(),
            }),
            resource: self.resource.map(|mut source| ResourceMetricStatus {
                current: source.current(),
                name: source.name,
            }),
            container_resource: self.container_resource.map(|mut source| {
                ContainerResourceMetricStatus {
                    current: source.current(),
                    name: source.name,
                    container: source.container,
                }
            }),
            external: self.external.map(|mut source| ExternalMetricStatus {
                current: source.current(),
                metric: source.identifier(),
            }),
        }
    }
}

impl SourceV1 {
    fn described(&mut self) -> CrossVersionObjectReference {
        self.target.take().map(reference).unwrap_or_default()
    }

    fn identifier(self) -> MetricIdentifier {
        MetricIdentifier {
            name: self.metric_name,
            selector: self.selector.or(self.metric_selector),
        }
    }

    /// An object's target value cannot be left out in v1: a zero beside an average is the mark of one that was.
    fn object_target(&mut self) -> MetricTarget {
        let value = self.target_value.take();
        let average_value = self.average_value.take();
        let zero = |value: &Quantity| value.0 == "0";
        MetricTarget {
            type_: String::from(if average_value.is_some() { "AverageValue" } else { "Value" }),
            value: value.filter(|value| average_value.is_none() || !zero(value)),
            average_value,
            average_utilization: None,
        }
    }

    fn metric_target(&mut self) -> MetricTarget {
        let value = self.target_value.take();
        let average_utilization = self.target_average_utilization.take();
        let kind = if value.is_some() {
            "Value"
        } else if average_utilization.is_some() {
            "Utilization"
        } else {
            "AverageValue"
        };
        MetricTarget {
            type_: String::from(kind),
            value,
            average_value: self.target_average_value.take(),
            average_utilization,
        }
    }

    fn current(&mut self) -> MetricValueStatus {
        MetricValueStatus {
            value: self.current_value.take(),
            average_value: self.current_average_value.take().or(self.average_value.take()),
            average_utilization: self.current_average_utilization.take(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::spec::autoscaler;

    fn object(annotations: &Value, cpu: Option<i32>) -> Value {
        json!({
            "apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "web", "namespace": "shop", "annotations": annotations},
            "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                "minReplicas": 2, "maxReplicas": 9, "targetCPUUtilizationPercentage": cpu},
            "status": {"currentReplicas": 3, "desiredReplicas": 4, "currentCPUUtilizationPercentage": 41},
        })
    }

    fn spec(metrics: &Value, behavior: &Value) -> HorizontalPodAutoscalerSpec {
        serde_json::from_value(json!({
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "minReplicas": 2, "maxReplicas": 9, "metrics": metrics, "behavior": behavior,
        }))
        .unwrap()
    }

    fn cpu(percent: i32) -> Value {
        json!({"type": "Resource", "resource": {
            "name": "cpu", "target": {"type": "Utilization", "averageUtilization": percent}}})
    }

    #[test]
    fn cpu_is_a_field_and_80_percent_without_any_metric() {
        let plain = autoscaler(object(&Value::Null, Some(55))).unwrap();
        assert_eq!(plain.spec, spec(&json!([cpu(55)]), &Value::Null));
        let status = plain.status.unwrap();
        assert_eq!((status.current_replicas, status.desired_replicas), (Some(3), 4));
        let current = status.current_metrics.unwrap().remove(0).resource.unwrap();
        assert_eq!(current.current.average_utilization, Some(41));

        let none = autoscaler(object(&Value::Null, None)).unwrap();
        assert_eq!(none.spec, spec(&json!([cpu(80)]), &Value::Null));
    }

    /// As `kubectl get hpa.v1.autoscaling -o yaml` shows an object that was written as v2.
    #[test]
    fn annotations_say_the_rest() {
        let metrics = json!([
            {"type": "Pods", "pods": {"metricName": "qps", "targetAverageValue": "15",
                "selector": {"matchLabels": {"verb": "GET"}}}},
            {"type": "Object", "object": {
                "target": {"kind": "Ingress", "name": "main", "apiVersion": "networking.k8s.io/v1"},
                "metricName": "hits", "targetValue": "2k"}},
            {"type": "Object", "object": {
                "target": {"kind": "Ingress", "name": "main", "apiVersion": "networking.k8s.io/v1"},
                "metricName": "hits", "targetValue": "0", "averageValue": "100"}},
            {"type": "External", "external": {"metricName": "depth", "metricSelector": {"matchLabels": {"queue": "a"}},
                "targetAverageValue": "30"}},
            {"type": "Resource", "resource": {"name": "memory", "targetAverageValue": "1Gi"}},
            {"type": "ContainerResource", "containerResource": {
                "name": "cpu", "container": "app", "targetAverageUtilization": 60}},
        ]);
        let behavior = json!({
            "ScaleUp": {"StabilizationWindowSeconds": 30, "SelectPolicy": "Min",
                "Policies": [{"Type": "Pods", "Value": 2, "PeriodSeconds": 60}], "Tolerance": null},
            "ScaleDown": null});
        let conditions = json!([{"type": "AbleToScale", "status": "True", "reason": "ReadyForNewScale",
            "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        let current = json!([{"type": "Resource", "resource": {
            "name": "cpu", "currentAverageUtilization": 41, "currentAverageValue": "41m"}}]);
        let annotations = json!({
            "autoscaling.alpha.kubernetes.io/metrics": metrics.to_string(),
            "autoscaling.alpha.kubernetes.io/behavior": behavior.to_string(),
            "autoscaling.alpha.kubernetes.io/conditions": conditions.to_string(),
            "autoscaling.alpha.kubernetes.io/current-metrics": current.to_string(),
            "autoscaling.alpha.kubernetes.io/scale-up-tolerance": "50m",
            "team": "shop",
        });
        let read = autoscaler(object(&annotations, Some(70))).unwrap();

        let ingress =
            json!({"kind": "Ingress", "name": "main", "apiVersion": "networking.k8s.io/v1"});
        let expected = json!([
            {"type": "Pods", "pods": {
                "metric": {"name": "qps", "selector": {"matchLabels": {"verb": "GET"}}},
                "target": {"type": "AverageValue", "averageValue": "15"}}},
            {"type": "Object", "object": {"describedObject": ingress, "metric": {"name": "hits"},
                "target": {"type": "Value", "value": "2k"}}},
            {"type": "Object", "object": {"describedObject": ingress, "metric": {"name": "hits"},
                "target": {"type": "AverageValue", "averageValue": "100"}}},
            {"type": "External", "external": {
                "metric": {"name": "depth", "selector": {"matchLabels": {"queue": "a"}}},
                "target": {"type": "AverageValue", "averageValue": "30"}}},
            {"type": "Resource", "resource": {
                "name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}},
            {"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "app",
                "target": {"type": "Utilization", "averageUtilization": 60}}},
            cpu(70),
        ]);
        let behavior = json!({"scaleUp": {"stabilizationWindowSeconds": 30, "selectPolicy": "Min", "tolerance": "50m",
            "policies": [{"type": "Pods", "value": 2, "periodSeconds": 60}]}});
        assert_eq!(read.spec, spec(&expected, &behavior));
        let status = read.status.unwrap();
        assert_eq!(status.conditions.unwrap()[0].reason.as_deref(), Some("ReadyForNewScale"));
        let current = status.current_metrics.unwrap().remove(0).resource.unwrap().current;
        assert_eq!(current.average_value, Some(Quantity(String::from("41m"))));
        let annotations = read.metadata.annotations.unwrap();
        assert_eq!(annotations.keys().collect::<Vec<_>>(), ["team"]);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let message =
            |annotations: &Value| autoscaler(object(annotations, None)).unwrap_err().to_string();
        let name = "autoscaling.alpha.kubernetes.io/metrics";
        assert!(message(&json!({name: "{"})).starts_with(
            "metadata.annotations[autoscaling.alpha.kubernetes.io/metrics]: it is not JSON: "
        ));
        let wrong = json!([{"type": "Resource", "resource": {"name": 5}}]);
        assert!(message(&json!({name: wrong.to_string()})).starts_with(
            "metadata.annotations[autoscaling.alpha.kubernetes.io/metrics][0].resource.name: invalid type"
        ));
        let mut version = object(&Value::Null, None);
        version["apiVersion"] = json!("autoscaling/v2beta2");
        assert!(
            autoscaler(version)
                .unwrap_err()
                .to_string()
                .starts_with("apiVersion: autoscaling/v2beta2 is not")
        );
        let mut replicas = object(&Value::Null, None);
        replicas["spec"]["maxReplicas"] = json!("9");
        assert!(
            autoscaler(replicas)
                .unwrap_err()
                .to_string()
                .starts_with("spec.maxReplicas: invalid type")
        );
    }
}
