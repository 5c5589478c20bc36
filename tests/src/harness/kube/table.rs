//! Tables, as `kubectl get` prints them.

use serde_json::{Value, json};

use super::autoscaler::column;
use super::kinds::Kind;

/// How a column gets its cell from an object.
enum Cell {
    Name,
    Age,
    /// A JSON pointer.
    Field(&'static str),
    /// A JSON pointer to what is 0 if it is not there.
    Number(&'static str),
    NodeStatus,
    NodeRoles,
    PodReady,
    PodRestarts,
    Ready,
    Available,
    Reference,
    Targets,
}

type Columns = &'static [(&'static str, &'static str, Cell)];

const PLAIN: Columns = &[("Name", "string", Cell::Name), ("Age", "string", Cell::Age)];
const NODE: Columns = &[
    ("Name", "string", Cell::Name),
    ("Status", "string", Cell::NodeStatus),
    ("Roles", "string", Cell::NodeRoles),
    ("Age", "string", Cell::Age),
    ("Version", "string", Cell::Field("/status/nodeInfo/kubeletVersion")),
];
const POD: Columns = &[
    ("Name", "string", Cell::Name),
    ("Ready", "string", Cell::PodReady),
    ("Status", "string", Cell::Field("/status/phase")),
    ("Restarts", "string", Cell::PodRestarts),
    ("Age", "string", Cell::Age),
];
const DEPLOYMENT: Columns = &[
    ("Name", "string", Cell::Name),
    ("Ready", "string", Cell::Ready),
    ("Up-to-date", "integer", Cell::Field("/status/updatedReplicas")),
    ("Available", "integer", Cell::Field("/status/availableReplicas")),
    ("Age", "string", Cell::Age),
];
const AUTOSCALER: Columns = &[
    ("Name", "string", Cell::Name),
    ("Reference", "string", Cell::Reference),
    ("Targets", "string", Cell::Targets),
    ("MinPods", "string", Cell::Number("/spec/minReplicas")),
    ("MaxPods", "string", Cell::Number("/spec/maxReplicas")),
    ("Replicas", "integer", Cell::Number("/status/currentReplicas")),
    ("Age", "string", Cell::Age),
];
const API_SERVICE: Columns = &[
    ("Name", "string", Cell::Name),
    ("Service", "string", Cell::Field("/spec/service/name")),
    ("Available", "string", Cell::Available),
    ("Age", "string", Cell::Age),
];

fn columns(kind: &Kind) -> Columns {
    match kind.resource.as_str() {
        "nodes" => NODE,
        "pods" => POD,
        "deployments" => DEPLOYMENT,
        "horizontalpodautoscalers" => AUTOSCALER,
        "apiservices" => API_SERVICE,
        _ => PLAIN,
    }
}

/// A table of `objects`; `metadata` is the list's.
pub(crate) fn table(
    kind: &Kind,
    objects: &[Value],
    metadata: &Value,
    include: &str,
    now_ms: i64,
) -> Value {
    let columns = columns(kind);
    let definitions: Vec<_> = columns
        .iter()
        .map(|(name, kind, cell)| {
            let format = if matches!(cell, Cell::Name) { "name" } else { "" };
            json!({ "name": name, "type": kind, "format": format, "description": "", "priority": 0 })
        })
        .collect();
    let rows: Vec<_> = objects
        .iter()
        .map(|object| {
            let cells: Vec<_> =
                columns.iter().map(|(_, _, cell)| cell.of(object, now_ms)).collect();
            let object = match include {
                "None" => Value::Null,
                "Object" => object.clone(),
                _ => metadata_only(object),
            };
            json!({ "cells": cells, "object": object })
        })
        .collect();
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": definitions,
        "rows": rows,
    })
}

/// The object's metadata, as an object of its own kind.
pub(crate) fn metadata_only(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object["metadata"],
    })
}

impl Cell {
    fn of(&self, object: &Value, now_ms: i64) -> Value {
        match self {
            Self::Name => object["metadata"]["name"].clone(),
            Self::Age => age(object, now_ms).into(),
            Self::Field(pointer) => object.pointer(pointer).cloned().unwrap_or(Value::Null),
            Self::Number(pointer) => object.pointer(pointer).cloned().unwrap_or_else(|| 0.into()),
            Self::NodeStatus => match condition(object, "Ready") {
                Some("True") => "Ready".into(),
                Some("False") => "NotReady".into(),
                _ => "Unknown".into(),
            },
            Self::NodeRoles => roles(object).into(),
            Self::PodReady => {
                let statuses = object["status"]["containerStatuses"].as_array();
                let statuses = statuses.map(Vec::as_slice).unwrap_or_default();
                let ready = statuses.iter().filter(|status| status["ready"] == true).count();
                let all = object["spec"]["containers"].as_array().map_or(0, Vec::len);
                format!("{ready}/{all}").into()
            }
            Self::PodRestarts => {
                let statuses = object["status"]["containerStatuses"].as_array();
                let restarts = statuses.into_iter().flatten().map(|s| s["restartCount"].as_i64());
                restarts.map(Option::unwrap_or_default).sum::<i64>().to_string().into()
            }
            Self::Ready => {
                let number = |pointer| object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
                let (ready, wanted) = (number("/status/readyReplicas"), number("/spec/replicas"));
                format!("{ready}/{wanted}").into()
            }
            Self::Available => match condition(object, "Available") {
                Some(status) => status.into(),
                None => "Unknown".into(),
            },
            Self::Reference => column::reference(object).into(),
            Self::Targets => column::targets(object).into(),
        }
    }
}

fn condition<'v>(object: &'v Value, kind: &str) -> Option<&'v str> {
    let mut conditions = object["status"]["conditions"].as_array()?.iter();
    conditions.find(|condition| condition["type"] == kind)?["status"].as_str()
}

fn roles(node: &Value) -> String {
    let labels = node["metadata"]["labels"].as_object().into_iter().flatten();
    let roles = labels.filter_map(|(key, _)| key.strip_prefix("node-role.kubernetes.io/"));
    let roles = roles.collect::<Vec<_>>().join(",");
    if roles.is_empty() { String::from("<none>") } else { roles }
}

fn age(object: &Value, now_ms: i64) -> String {
    let created = object["metadata"]["creationTimestamp"].as_str();
    let created: Option<jiff::Timestamp> = created.and_then(|text| text.parse().ok());
    created.map_or_else(
        || String::from("<unknown>"),
        |created| human_duration((now_ms - created.as_millisecond()).max(0) / 1000),
    )
}

/// Two digits that matter, as `kubectl` shows ages.
fn human_duration(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let with = |big: i64, unit, rest: i64, small| match rest {
        0 => format!("{big}{unit}"),
        rest => format!("{big}{unit}{rest}{small}"),
    };
    match (seconds, minutes, hours) {
        (..120, _, _) => format!("{seconds}s"),
        (_, ..10, _) => with(minutes, "m", seconds % 60, "s"),
        (_, ..180, _) => format!("{minutes}m"),
        (_, _, ..8) => with(hours, "h", minutes % 60, "m"),
        (_, _, ..48) => format!("{hours}h"),
        (_, _, ..192) => with(hours / 24, "d", hours % 24, "h"),
        _ => format!("{}d", hours / 24),
    }
}
