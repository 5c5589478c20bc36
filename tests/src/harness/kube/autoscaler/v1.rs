//! The same autoscaler in `autoscaling/v1`: the CPU target is a field, and what has no field there is in annotations.

use serde_json::{Map, Value, json};

const PREFIX: &str = "autoscaling.alpha.kubernetes.io/";

/// What is kept of an `autoscaling/v1` object.
pub(crate) fn to_v2(mut object: Value) -> Value {
    let metrics = annotation(&mut object, "metrics").unwrap_or_else(|| json!([]));
    let behavior = annotation(&mut object, "behavior");
    let current = annotation(&mut object, "current-metrics").unwrap_or_else(|| json!([]));
    let conditions = annotation(&mut object, "conditions");
    let mut metrics = metrics.as_array().cloned().unwrap_or_default();
    let mut current = current.as_array().cloned().unwrap_or_default();
    if let Some(spec) = object["spec"].as_object_mut() {
        if let Some(target) = spec.remove("targetCPUUtilizationPercentage") {
            let target = json!({ "type": "Utilization", "averageUtilization": target });
            let cpu = json!({ "name": "cpu", "target": target });
            metrics.insert(0, json!({ "type": "Resource", "resource": cpu }));
        }
        spec.insert(String::from("metrics"), metrics.into());
        spec.extend(behavior.map(|behavior| (String::from("behavior"), behavior)));
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        if let Some(used) = status.remove("currentCPUUtilizationPercentage") {
            let cpu = json!({ "name": "cpu", "current": { "averageUtilization": used } });
            current.insert(0, json!({ "type": "Resource", "resource": cpu }));
        }
        status.insert(String::from("currentMetrics"), current.into());
        status.extend(conditions.map(|conditions| (String::from("conditions"), conditions)));
    }
    object
}

/// What clients of `autoscaling/v1` get of an `autoscaling/v2` object.
pub(crate) fn from_v2(mut object: Value) -> Value {
    if let Some(spec) = object["spec"].as_object_mut() {
        let (cpu, others) = split(spec.remove("metrics"), "/resource/target/averageUtilization");
        spec.extend(cpu.map(|cpu| (String::from("targetCPUUtilizationPercentage"), cpu)));
        let behavior = spec.remove("behavior");
        annotate(&mut object, "metrics", others);
        annotate(&mut object, "behavior", behavior);
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        let current = status.remove("currentMetrics");
        let (cpu, others) = split(current, "/resource/current/averageUtilization");
        status.extend(cpu.map(|cpu| (String::from("currentCPUUtilizationPercentage"), cpu)));
        let conditions = status.remove("conditions");
        annotate(&mut object, "current-metrics", others);
        annotate(&mut object, "conditions", conditions);
    }
    object
}

/// The CPU utilization that `pointer` finds in the first metric that has one, and the other metrics if there are some.
fn split(metrics: Option<Value>, pointer: &str) -> (Option<Value>, Option<Value>) {
    let Some(Value::Array(mut metrics)) = metrics else { return (None, None) };
    let is_cpu = |metric: &Value| {
        metric["resource"]["name"] == "cpu" && metric.pointer(pointer).is_some_and(Value::is_number)
    };
    let cpu = metrics.iter().position(is_cpu).map(|at| metrics.remove(at));
    let cpu = cpu.and_then(|metric| metric.pointer(pointer).cloned());
    (cpu, (!metrics.is_empty()).then_some(Value::Array(metrics)))
}

/// Takes an annotation that holds JSON.
fn annotation(object: &mut Value, name: &str) -> Option<Value> {
    let metadata = object.get_mut("metadata")?.as_object_mut()?;
    let annotations = metadata.get_mut("annotations")?.as_object_mut()?;
    let text = annotations.remove(&format!("{PREFIX}{name}"))?;
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
    serde_json::from_str(text.as_str()?).ok()
}

fn annotate(object: &mut Value, name: &str, value: Option<Value>) {
    let Some(value) = value else { return };
    let annotations = &mut object["metadata"]["annotations"];
    if !annotations.is_object() {
        *annotations = Value::Object(Map::new());
    }
    annotations[format!("{PREFIX}{name}")] = value.to_string().into();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_on_the_way_through_v1() {
        let v2 = json!({
            "metadata": { "name": "web" },
            "spec": {
                "maxReplicas": 3,
                "minReplicas": 1,
                "behavior": { "scaleDown": { "stabilizationWindowSeconds": 5 } },
                "metrics": [
                    { "type": "Resource", "resource": { "name": "cpu", "target": { "type": "Utilization", "averageUtilization": 50 } } },
                    { "type": "Pods", "pods": { "metric": { "name": "rps" }, "target": { "type": "AverageValue", "averageValue": "2" } } },
                ],
            },
            "status": {
                "currentReplicas": 1,
                "desiredReplicas": 1,
                "conditions": [{ "type": "AbleToScale", "status": "True" }],
                "currentMetrics": [
                    { "type": "Resource", "resource": { "name": "cpu", "current": { "averageUtilization": 7 } } },
                ],
            },
        });
        let v1 = from_v2(v2.clone());
        assert_eq!(v1["spec"]["targetCPUUtilizationPercentage"], 50);
        assert_eq!(v1["status"]["currentCPUUtilizationPercentage"], 7);
        assert!(v1["spec"].get("metrics").is_none());
        assert_eq!(v1["metadata"]["annotations"].as_object().unwrap().len(), 3);
        assert_eq!(to_v2(v1), v2);
    }
}
