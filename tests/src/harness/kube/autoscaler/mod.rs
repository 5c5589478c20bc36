//! HorizontalPodAutoscalers as kube-apiserver keeps them: `autoscaling/v2` with its defaults, after validation.
//!
//! [`v1`] is the same object in `autoscaling/v1`; [`mod@column`] the metrics of `kubectl get`. Written from the API's documentation and not with
//! the controller's own types, so that the two can disagree.

pub(crate) mod column;
pub(crate) mod protobuf;
pub(crate) mod v1;
mod validate;

pub(crate) use validate::validate;

use serde_json::{Value, json};

use super::kinds::Kind;

/// Whether objects of `kind` are autoscalers.
pub(crate) fn is_kind(kind: &Kind) -> bool {
    kind.group == "autoscaling" && kind.resource == "horizontalpodautoscalers"
}

/// The fields of a metric that is of this type.
pub(crate) const SOURCES: [(&str, &str); 5] = [
    ("Object", "object"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
    ("External", "external"),
];

/// Fills in what an `autoscaling/v2` object leaves open.
pub(crate) fn set_defaults(object: &mut Value) {
    let spec = &mut object["spec"];
    if spec["minReplicas"].is_null() {
        spec["minReplicas"] = 1.into();
    }
    if spec["metrics"].as_array().is_none_or(Vec::is_empty) {
        spec["metrics"] = json!([{
            "type": "Resource",
            "resource": {
                "name": "cpu",
                "target": { "type": "Utilization", "averageUtilization": 80 },
            },
        }]);
    }
    if spec["behavior"].is_object() {
        let up = json!([
            { "type": "Pods", "value": 4, "periodSeconds": 15 },
            { "type": "Percent", "value": 100, "periodSeconds": 15 },
        ]);
        let down = json!([{ "type": "Percent", "value": 100, "periodSeconds": 15 }]);
        let behavior = &mut spec["behavior"];
        set_rules_defaults(&mut behavior["scaleUp"], &up, Some(0));
        // Without a window, the controller's flag says how long it is.
        set_rules_defaults(&mut behavior["scaleDown"], &down, None);
    }
}

fn set_rules_defaults(rules: &mut Value, policies: &Value, window: Option<i64>) {
    if rules["policies"].is_null() {
        rules["policies"] = policies.clone();
    }
    if rules["selectPolicy"].is_null() {
        rules["selectPolicy"] = "Max".into();
    }
    match window {
        Some(window) if rules["stabilizationWindowSeconds"].is_null() => {
            rules["stabilizationWindowSeconds"] = window.into();
        }
        _ => {}
    }
    // Looking for it has put a null there.
    if let Some(fields) = rules.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
}

/// An autoscaler of the Deployment of the same name, with bounds of its replicas and a CPU utilization to aim at, in
/// percent of what pods request.
#[must_use]
pub fn cpu_autoscaler(
    namespace: &str,
    name: &str,
    (min, max): (i32, i32),
    utilization_percent: u64,
) -> Value {
    json!({
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": { "name": name, "namespace": namespace },
        "spec": {
            "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": name },
            "minReplicas": min,
            "maxReplicas": max,
            "metrics": [{
                "type": "Resource",
                "resource": {
                    "name": "cpu",
                    "target": {
                        "type": "Utilization",
                        "averageUtilization": utilization_percent,
                    },
                },
            }],
        },
    })
}
