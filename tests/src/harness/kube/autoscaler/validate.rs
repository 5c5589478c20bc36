//! What kube-apiserver refuses of an autoscaler.

use serde_json::Value;

use super::SOURCES;

/// What is wrong with the specification of an `autoscaling/v2` object, each as `path: problem`.
pub(crate) fn validate(object: &Value) -> Vec<String> {
    let spec = &object["spec"];
    let mut errors = Vec::new();
    let target = &spec["scaleTargetRef"];
    for field in ["kind", "name"] {
        if target[field].as_str().unwrap_or_default().is_empty() {
            errors.push(format!("spec.scaleTargetRef.{field}: Required value"));
        }
    }
    let min = spec["minReplicas"].as_i64().unwrap_or(1);
    let max = spec["maxReplicas"].as_i64().unwrap_or(0);
    if min < 1 {
        errors.push(format!(
            "spec.minReplicas: Invalid value: {min}: must be greater than or equal to 1"
        ));
    }
    if max < 1 {
        errors.push(format!("spec.maxReplicas: Invalid value: {max}: must be greater than 0"));
    }
    if max < min {
        errors.push(format!(
            "spec.maxReplicas: Invalid value: {max}: must be greater than or equal to `minReplicas`"
        ));
    }
    for (index, metric) in spec["metrics"].as_array().into_iter().flatten().enumerate() {
        metric_errors(&format!("spec.metrics[{index}]"), metric, &mut errors);
    }
    for direction in ["scaleUp", "scaleDown"] {
        let rules = &spec["behavior"][direction];
        if rules.is_object() {
            rules_errors(&format!("spec.behavior.{direction}"), rules, &mut errors);
        }
    }
    errors
}

fn metric_errors(path: &str, metric: &Value, errors: &mut Vec<String>) {
    let kind = metric["type"].as_str().unwrap_or_default();
    let Some((_, field)) = SOURCES.iter().find(|(name, _)| *name == kind) else {
        errors.push(format!("{path}.type: Unsupported value: \"{kind}\""));
        return;
    };
    if metric[field].is_null() {
        errors.push(format!(
            "{path}.{field}: Required value: must populate information for the given metric source"
        ));
        return;
    }
    let target = &metric[field]["target"];
    let path = format!("{path}.{field}.target");
    if target["averageUtilization"].as_i64().is_some_and(|utilization| utilization < 1) {
        errors.push(format!(
            "{path}.averageUtilization: Invalid value: {}: must be greater than 0",
            target["averageUtilization"]
        ));
    }
    let values = ["averageUtilization", "averageValue", "value"];
    if values.iter().all(|value| target[value].is_null()) {
        errors.push(format!("{path}: Required value: must set a target"));
    }
}

fn rules_errors(path: &str, rules: &Value, errors: &mut Vec<String>) {
    let window = rules["stabilizationWindowSeconds"].as_i64().unwrap_or(0);
    if !(0..=3600).contains(&window) {
        let bound =
            if window < 0 { "greater than or equal to zero" } else { "less than or equal to 3600" };
        errors.push(format!(
            "{path}.stabilizationWindowSeconds: Invalid value: {window}: must be {bound}"
        ));
    }
    if !matches!(rules["selectPolicy"].as_str(), None | Some("Max" | "Min" | "Disabled")) {
        errors.push(format!("{path}.selectPolicy: Unsupported value: {}", rules["selectPolicy"]));
    }
    let policies = rules["policies"].as_array().map(Vec::as_slice).unwrap_or_default();
    if policies.is_empty() {
        errors.push(format!("{path}.policies: Required value: must specify at least one Policy"));
    }
    for (index, policy) in policies.iter().enumerate() {
        let path = format!("{path}.policies[{index}]");
        if !matches!(policy["type"].as_str(), Some("Pods" | "Percent")) {
            errors.push(format!("{path}.type: Unsupported value: {}", policy["type"]));
        }
        let value = policy["value"].as_i64().unwrap_or(0);
        if value <= 0 {
            errors.push(format!("{path}.value: Invalid value: {value}: must be greater than zero"));
        }
        let period = policy["periodSeconds"].as_i64().unwrap_or(0);
        if !(1..=1800).contains(&period) {
            let bound = if period < 1 { "greater than zero" } else { "less than or equal to 1800" };
            errors.push(format!("{path}.periodSeconds: Invalid value: {period}: must be {bound}"));
        }
    }
}
