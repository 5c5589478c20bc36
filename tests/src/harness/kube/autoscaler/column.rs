//! The columns Reference and Targets of `kubectl get hpa`.

use serde_json::Value;

use super::SOURCES;

/// Metrics that are shown; of more only the number is.
const SHOWN_MAX: usize = 2;

/// `Deployment/web`
pub(crate) fn reference(object: &Value) -> String {
    let target = &object["spec"]["scaleTargetRef"];
    let text = |field: &str| target[field].as_str().unwrap_or_default();
    format!("{}/{}", text("kind"), text("name"))
}

/// `cpu: 50%/80%`
pub(crate) fn targets(object: &Value) -> String {
    let metrics = object["spec"]["metrics"].as_array().map(Vec::as_slice).unwrap_or_default();
    if metrics.is_empty() {
        return String::from("<none>");
    }
    let statuses = &object["status"]["currentMetrics"];
    let shown = metrics.iter().enumerate().take(SHOWN_MAX);
    let shown: Vec<_> = shown.map(|(index, metric)| one(metric, &statuses[index])).collect();
    let mut text = shown.join(", ");
    if metrics.len() > SHOWN_MAX {
        text.push_str(&format!(" + {} more...", metrics.len() - SHOWN_MAX));
    }
    text
}

fn one(metric: &Value, status: &Value) -> String {
    let kind = &metric["type"];
    let field = SOURCES.iter().find(|(name, _)| kind == name).map_or("", |(_, field)| *field);
    let (target, current) = (&metric[field]["target"], &status[field]["current"]);
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => String::from("<unknown>"),
        other => other.to_string(),
    };
    let of_resource = matches!(field, "resource" | "containerResource");
    let name = metric[field]["name"].as_str().filter(|_| of_resource);
    let name = name.map(|name| format!("{name}: ")).unwrap_or_default();
    let average = !target["averageValue"].is_null();
    if of_resource && !average {
        let percent = |value: &Value| value.as_i64().map(|value| format!("{value}%"));
        let target = percent(&target["averageUtilization"]);
        let target = target.unwrap_or_else(|| String::from("<auto>"));
        let current = percent(&current["averageUtilization"]);
        return format!("{name}{}/{target}", current.as_deref().unwrap_or("<unknown>"));
    }
    let value = if average { "averageValue" } else { "value" };
    let (current, target) = (text(&current[value]), text(&target[value]));
    let suffix = if average && matches!(field, "object" | "external") { " (avg)" } else { "" };
    format!("{name}{current}/{target}{suffix}")
}
