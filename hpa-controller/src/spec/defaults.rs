//! The defaults of `autoscaling/v2`.

use k8s_openapi::api::autoscaling::v2::{
    HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscalerSpec, MetricSpec, MetricTarget,
    ResourceMetricSource,
};

/// Target where an autoscaler names no metric, in percent of the requested CPU.
pub(super) const CPU_UTILIZATION: i32 = 80;

/// Fills in what the specification leaves out.
pub fn set_defaults(spec: &mut HorizontalPodAutoscalerSpec) {
    spec.min_replicas.get_or_insert(1);
    let metrics = spec.metrics.get_or_insert_default();
    if metrics.is_empty() {
        metrics.push(cpu_utilization(CPU_UTILIZATION));
    }
    if let Some(behavior) = &mut spec.behavior {
        let up = behavior.scale_up.get_or_insert_default();
        up.stabilization_window_seconds.get_or_insert(0);
        fill(up, &[("Pods", 4), ("Percent", 100)]);
        // The window stays open: the controller has a setting for it.
        fill(behavior.scale_down.get_or_insert_default(), &[("Percent", 100)]);
    }
}

fn fill(rules: &mut HPAScalingRules, policies: &[(&str, i32)]) {
    rules.select_policy.get_or_insert_with(|| String::from("Max"));
    rules.policies.get_or_insert_with(|| {
        let policy = |&(kind, value): &(&str, i32)| HPAScalingPolicy {
            type_: String::from(kind),
            value,
            period_seconds: 15,
        };
        policies.iter().map(policy).collect()
    });
}

/// A metric for CPU in percent of what is requested.
pub(super) fn cpu_utilization(percent: i32) -> MetricSpec {
    MetricSpec {
        type_: String::from("Resource"),
        resource: Some(ResourceMetricSource {
            name: String::from("cpu"),
            target: MetricTarget {
                type_: String::from("Utilization"),
                average_utilization: Some(percent),
                ..MetricTarget::default()
            },
        }),
        ..MetricSpec::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(spec: Value, expected: Value) {
        let mut spec: HorizontalPodAutoscalerSpec = serde_json::from_value(spec).unwrap();
        set_defaults(&mut spec);
        assert_eq!(spec, serde_json::from_value(expected).unwrap());
    }

    /// `pkg/apis/autoscaling/v2/defaults.go`, and section 3.7 of the conformance data.
    #[test]
    fn what_is_left_out_is_filled_in() {
        let target = json!({"kind": "Deployment", "name": "web", "apiVersion": "apps/v1"});
        let cpu = json!([{"type": "Resource", "resource": {
            "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]);
        check(
            json!({"scaleTargetRef": target, "maxReplicas": 3}),
            json!({"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 3, "metrics": cpu}),
        );
        check(
            json!({"scaleTargetRef": target, "maxReplicas": 3, "metrics": cpu, "behavior": {}}),
            json!({"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 3, "metrics": cpu, "behavior": {
                "scaleUp": {"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [
                    {"type": "Pods", "value": 4, "periodSeconds": 15},
                    {"type": "Percent", "value": 100, "periodSeconds": 15}]},
                "scaleDown": {"selectPolicy": "Max", "policies": [
                    {"type": "Percent", "value": 100, "periodSeconds": 15}]}}}),
        );
    }

    #[test]
    fn what_is_given_stays() {
        let given = json!({
            "scaleTargetRef": {"kind": "Deployment", "name": "web", "apiVersion": "apps/v1"},
            "minReplicas": 0, "maxReplicas": 3,
            "metrics": [{"type": "External", "external": {
                "metric": {"name": "depth"}, "target": {"type": "Value", "value": "5"}}}],
            "behavior": {
                "scaleUp": {"stabilizationWindowSeconds": 7, "selectPolicy": "Disabled", "policies": [],
                    "tolerance": "50m"},
                "scaleDown": {"stabilizationWindowSeconds": 0, "selectPolicy": "Min", "tolerance": "0",
                    "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}}});
        check(given.clone(), given);
    }
}
