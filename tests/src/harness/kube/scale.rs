//! The `/scale` subresource: `autoscaling/v1` `Scale`.

use serde_json::{Value, json};

use super::error::{ApiError, ApiResult};
use super::fields::{Write, Writer};
use super::kinds::{Kind, ScalePaths};
use super::objects::{Objects, Part};
use super::patch;
use super::route::{Query, ResourcePath};
use super::selector::selector_text;

/// The scale of an object.
fn scale_of(object: &Value, paths: &ScalePaths) -> Value {
    let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
    let metadata = &object["metadata"];
    let mut scale = json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
            "creationTimestamp": metadata["creationTimestamp"],
        },
        "spec": {},
        "status": { "replicas": number(&paths.status_replicas) },
    });
    // Go leaves a zero out of the spec, not of the status.
    let replicas = number(&paths.spec_replicas);
    if replicas != 0 {
        scale["spec"]["replicas"] = replicas.into();
    }
    let selector = paths.selector.as_ref().and_then(|pointer| object.pointer(pointer));
    let selector = selector.map(selector_text).unwrap_or_default();
    if !selector.is_empty() {
        scale["status"]["selector"] = selector.into();
    }
    scale
}

fn paths(kind: &Kind) -> ApiResult<&ScalePaths> {
    kind.scale.as_ref().ok_or_else(ApiError::no_such_path)
}

/// Answers a GET.
pub(crate) fn get(objects: &Objects, kind: &Kind, path: &ResourcePath) -> ApiResult<Value> {
    Ok(scale_of(&objects.get(kind, path)?, paths(kind)?))
}

/// Answers a PUT.
pub(crate) fn update(
    objects: &Objects,
    kind: &Kind,
    path: &ResourcePath,
    query: &Query,
    scale: &Value,
    writer: &Writer,
) -> ApiResult<Value> {
    write(objects, kind, path, query, writer, |_| Ok(scale.clone()))
}

/// Answers a PATCH.
pub(crate) fn patch(
    objects: &Objects,
    kind: &Kind,
    path: &ResourcePath,
    query: &Query,
    (body, content_type): (&[u8], &str),
    writer: &Writer,
) -> ApiResult<Value> {
    write(objects, kind, path, query, writer, |old| patch::apply(old, body, content_type))
}

/// Answers a server-side apply: what is wanted of the scale is wanted of the object's replicas.
pub(crate) fn apply(
    objects: &Objects,
    kind: &Kind,
    path: &ResourcePath,
    query: &Query,
    scale: &Value,
    writer: &Writer,
) -> ApiResult<Value> {
    let paths = paths(kind)?;
    let mut config = json!({
        "apiVersion": kind.api_version(),
        "kind": kind.kind,
        "metadata": { "name": scale["metadata"]["name"] },
    });
    if let Some(replicas) = scale.pointer("/spec/replicas") {
        check_replicas(path, replicas.as_i64().unwrap_or(0))?;
        put(&mut config, &paths.spec_replicas, replicas.clone());
    }
    let (_, written) = objects.apply(kind, path, query, Part::Main, &config, writer)?;
    Ok(scale_of(&written, paths))
}

fn check_replicas(path: &ResourcePath, replicas: i64) -> ApiResult<()> {
    if replicas >= 0 {
        return Ok(());
    }
    let why =
        format!("spec.replicas: Invalid value: {replicas}: must be greater than or equal to 0");
    Err(ApiError::invalid("autoscaling", "Scale", &path.name, &why))
}

fn write(
    objects: &Objects,
    kind: &Kind,
    path: &ResourcePath,
    query: &Query,
    writer: &Writer,
    new: impl FnOnce(&Value) -> ApiResult<Value>,
) -> ApiResult<Value> {
    let paths = paths(kind)?;
    let written =
        objects.replace(kind, path, query, Part::Main, Write::Update(writer), |object| {
            let scale = new(&scale_of(object, paths))?;
            let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
            check_replicas(path, replicas)?;
            let mut object = object.clone();
            object["metadata"]["resourceVersion"] = scale["metadata"]["resourceVersion"].clone();
            put(&mut object, &paths.spec_replicas, replicas.into());
            Ok(object)
        })?;
    Ok(scale_of(&written, paths))
}

/// Sets what `pointer` points to, making objects on the way.
fn put(object: &mut Value, pointer: &str, value: Value) {
    let mut place = object;
    for field in pointer.split('/').skip(1) {
        place = &mut place[field];
    }
    *place = value;
}
