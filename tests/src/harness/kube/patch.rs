//! Patches: JSON merge patch, JSON patch, and strategic merge of the lists that have a merge key. Server-side apply is in `fields`.

use serde_json::{Map, Value};

use super::error::{ApiError, ApiResult};

/// Lists that a strategic merge merges by key, and the key, as the API types declare them. A list that is not here is
/// replaced, as of a type that declares nothing.
const MERGE_KEYS: [(&str, &str); 14] = [
    ("containers", "name"),
    ("initContainers", "name"),
    ("ephemeralContainers", "name"),
    ("volumes", "name"),
    ("volumeMounts", "mountPath"),
    ("env", "name"),
    ("ports", "containerPort"),
    ("conditions", "type"),
    ("addresses", "type"),
    ("ownerReferences", "uid"),
    ("imagePullSecrets", "name"),
    ("secrets", "name"),
    ("taints", "key"),
    ("hostAliases", "ip"),
];

/// Applies `patch`, of media type `content_type`, to `object`.
pub(crate) fn apply(object: &Value, patch: &[u8], content_type: &str) -> ApiResult<Value> {
    let parse = || {
        serde_json::from_slice::<Value>(patch)
            .map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}")))
    };
    let mut object = object.clone();
    match content_type {
        "application/merge-patch+json" => merge(&mut object, &parse()?),
        "application/strategic-merge-patch+json" => strategic(&mut object, &parse()?),
        "application/json-patch+json" => json_patch(&mut object, &parse()?)?,
        _ => {
            return Err(ApiError::unsupported_media_type(
                "application/json-patch+json, application/merge-patch+json, \
                 application/strategic-merge-patch+json, application/apply-patch+yaml",
            ));
        }
    }
    Ok(object)
}

/// RFC 7396.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    let target = as_object(target);
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.as_str()).or_insert(Value::Null), value);
        }
    }
}

fn as_object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("just made one")
}

fn strategic(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if patch.get("$patch").is_some_and(|directive| directive == "replace") {
        let rest = patch.iter().filter(|(key, _)| *key != "$patch");
        *target = Value::Object(rest.map(|(k, v)| (k.clone(), v.clone())).collect());
        return;
    }
    let target = as_object(target);
    for (key, value) in patch {
        if key.starts_with('$') {
            continue;
        }
        let merge_key = MERGE_KEYS.iter().find(|(list, _)| list == key).map(|(_, key)| *key);
        match (value, merge_key) {
            (Value::Null, _) => {
                target.remove(key);
            }
            (Value::Array(items), Some(merge_key)) => {
                let list = target.entry(key.as_str()).or_insert_with(|| Value::Array(Vec::new()));
                merge_list(list, items, merge_key);
            }
            _ => strategic(target.entry(key.as_str()).or_insert(Value::Null), value),
        }
    }
}

fn merge_list(list: &mut Value, patch: &[Value], merge_key: &str) {
    if !list.is_array() {
        *list = Value::Array(Vec::new());
    }
    let Some(list) = list.as_array_mut() else { return };
    if patch.iter().any(|item| item["$patch"] == "replace") {
        list.clear();
    }
    for item in patch.iter().filter(|item| item["$patch"] != "replace") {
        let at = list.iter().position(|old| old[merge_key] == item[merge_key]);
        match at {
            Some(at) if item["$patch"] == "delete" => {
                list.remove(at);
            }
            Some(at) => strategic(&mut list[at], item),
            None if item["$patch"] == "delete" => {}
            None => list.push(item.clone()),
        }
    }
}

/// RFC 6902.
fn json_patch(target: &mut Value, patch: &Value) -> ApiResult<()> {
    let operations =
        patch.as_array().ok_or_else(|| ApiError::bad_request("a JSON patch is an array"))?;
    for operation in operations {
        let failed = || {
            let why = format!(
                "the server rejected our request due to an error in our request: {operation}"
            );
            ApiError::invalid("", "", "", &why)
        };
        let path = operation["path"].as_str().ok_or_else(failed)?;
        let from = operation["from"].as_str();
        let value = operation.get("value").cloned();
        match operation["op"].as_str() {
            Some("add") => add(target, path, value.ok_or_else(failed)?).ok_or_else(failed)?,
            Some("remove") => {
                remove(target, path).ok_or_else(failed)?;
            }
            Some("replace") => {
                let value = value.ok_or_else(failed)?;
                *target.pointer_mut(path).ok_or_else(failed)? = value;
            }
            Some("move") => {
                let moved = remove(target, from.ok_or_else(failed)?).ok_or_else(failed)?;
                add(target, path, moved).ok_or_else(failed)?;
            }
            Some("copy") => {
                let copied = target.pointer(from.ok_or_else(failed)?).cloned();
                add(target, path, copied.ok_or_else(failed)?).ok_or_else(failed)?;
            }
            Some("test") => {
                let same = target.pointer(path) == value.as_ref();
                same.then_some(()).ok_or_else(failed)?;
            }
            _ => return Err(failed()),
        }
    }
    Ok(())
}

/// The pointer to the parent, and the last token without its escapes.
fn split_pointer(path: &str) -> Option<(&str, String)> {
    let (parent, last) = path.rsplit_once('/')?;
    Some((parent, last.replace("~1", "/").replace("~0", "~")))
}

fn add(target: &mut Value, path: &str, value: Value) -> Option<()> {
    if path.is_empty() {
        *target = value;
        return Some(());
    }
    let (parent, last) = split_pointer(path)?;
    match target.pointer_mut(parent)? {
        Value::Object(object) => {
            object.insert(last, value);
        }
        Value::Array(list) if last == "-" => list.push(value),
        Value::Array(list) => {
            let at = last.parse().ok().filter(|at| *at <= list.len())?;
            list.insert(at, value);
        }
        _ => return None,
    }
    Some(())
}

fn remove(target: &mut Value, path: &str) -> Option<Value> {
    let (parent, last) = split_pointer(path)?;
    match target.pointer_mut(parent)? {
        Value::Object(object) => object.remove(&last),
        Value::Array(list) => {
            let at = last.parse().ok().filter(|at| *at < list.len())?;
            Some(list.remove(at))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(kind: &str, object: &Value, patch: &Value, expected: &Value) {
        let content_type = format!("application/{kind}+json");
        let patched = apply(object, patch.to_string().as_bytes(), &content_type).unwrap();
        assert_eq!(patched, *expected);
    }

    #[test]
    fn merge_patches_replace_lists_and_remove_nulls() {
        check(
            "merge-patch",
            &json!({ "a": { "b": 1, "c": 2 }, "l": [1, 2] }),
            &json!({ "a": { "b": null, "d": 3 }, "l": [3] }),
            &json!({ "a": { "c": 2, "d": 3 }, "l": [3] }),
        );
    }

    #[test]
    fn strategic_patches_merge_lists_by_key() {
        check(
            "strategic-merge-patch",
            &json!({ "containers": [{ "name": "a", "image": "1" }, { "name": "b" }], "args": [1] }),
            &json!({
                "$setElementOrder/containers": [{ "name": "a" }],
                "containers": [
                    { "name": "a", "image": "2" },
                    { "name": "b", "$patch": "delete" },
                    { "name": "c" },
                ],
                "args": [2],
            }),
            &json!({ "containers": [{ "name": "a", "image": "2" }, { "name": "c" }], "args": [2] }),
        );
    }

    #[test]
    fn json_patches_have_six_operations() {
        check(
            "json-patch",
            &json!({ "a": [1, 3], "b": { "x/y": 1 } }),
            &json!([
                { "op": "test", "path": "/a/0", "value": 1 },
                { "op": "add", "path": "/a/1", "value": 2 },
                { "op": "add", "path": "/a/-", "value": 4 },
                { "op": "replace", "path": "/b/x~1y", "value": 5 },
                { "op": "copy", "from": "/a", "path": "/c" },
                { "op": "move", "from": "/b", "path": "/d" },
                { "op": "remove", "path": "/a/0" },
            ]),
            &json!({ "a": [2, 3, 4], "c": [1, 2, 3, 4], "d": { "x/y": 5 } }),
        );
        let failing = br#"[{ "op": "test", "path": "/a", "value": 2 }]"#;
        let error = apply(&json!({ "a": 1 }), failing, "application/json-patch+json").unwrap_err();
        assert_eq!(error.code, 422);
        let error = apply(&json!({}), b"{}", "application/x-patch").unwrap_err();
        assert_eq!(error.code, 415);
    }
}
