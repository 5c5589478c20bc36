//! Objects of one collection seen as different kinds.

use serde_json::Value;

use super::autoscaler;
use super::kinds::Kind;

/// Fields of an event in `v1` and in `events.k8s.io/v1`.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// Whether what is kept is what clients of `kind` get.
pub(crate) fn is_as_stored(kind: &Kind) -> bool {
    kind.api_version() == kind.stored_version
}

/// What clients of `kind` get of what is kept.
pub(crate) fn from_stored(kind: &Kind, mut object: Value) -> Value {
    if is_as_stored(kind) {
        return object;
    }
    if kind.group == "events.k8s.io" {
        for (core, events) in EVENT_FIELDS {
            rename(&mut object, core, events);
        }
    }
    if autoscaler::is_kind(kind) {
        object = autoscaler::v1::from_v2(object);
    }
    object["apiVersion"] = kind.api_version().into();
    object
}

/// What is kept of what clients of `kind` send.
pub(crate) fn to_stored(kind: &Kind, mut object: Value) -> Value {
    if kind.group == "events.k8s.io" {
        for (core, events) in EVENT_FIELDS {
            rename(&mut object, events, core);
        }
    }
    if autoscaler::is_kind(kind) {
        if !is_as_stored(kind) {
            object = autoscaler::v1::to_v2(object);
        }
        autoscaler::set_defaults(&mut object);
    }
    object["apiVersion"] = kind.stored_version.as_str().into();
    object["kind"] = kind.kind.as_str().into();
    object
}

fn rename(object: &mut Value, from: &str, to: &str) {
    let Some(fields) = object.as_object_mut() else { return };
    if let Some(value) = fields.remove(from) {
        fields.insert(String::from(to), value);
    }
}
