//! What clients learn about groups, versions, resources and schemas before they ask for objects.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::kinds::Kind;

/// A group and version that another server answers for.
#[derive(Clone, Debug)]
pub(crate) struct Aggregated {
    pub(crate) group: String,
    pub(crate) version: String,
    /// Its `APIResourceList.resources`; `None` if it did not say.
    pub(crate) resources: Option<Vec<Value>>,
}

/// A group with its versions, the preferred one first, and the resources of each if they are known.
struct Group {
    name: String,
    versions: Vec<(String, Option<Vec<Value>>)>,
}

/// The groups of `kinds` in their order, then those of `aggregated`.
fn groups(kinds: &[Arc<Kind>], aggregated: &[Aggregated]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut add = |group: &str, version: &str, resources: Option<Vec<Value>>| {
        let at = groups.iter().position(|g| g.name == group).unwrap_or_else(|| {
            groups.push(Group { name: String::from(group), versions: Vec::new() });
            groups.len() - 1
        });
        let versions = &mut groups[at].versions;
        match versions.iter_mut().find(|(name, _)| name == version) {
            Some((_, known)) => {
                if let (Some(known), Some(more)) = (known, resources) {
                    known.extend(more);
                }
            }
            None => versions.push((String::from(version), resources)),
        }
    };
    for kind in kinds {
        add(&kind.group, &kind.version, Some(resources_of(kind)));
    }
    for entry in aggregated {
        add(&entry.group, &entry.version, entry.resources.clone());
    }
    groups
}

/// The `APIResource`s of a kind: itself and its subresources.
fn resources_of(kind: &Kind) -> Vec<Value> {
    let all: &[&str] =
        &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
    let verbs = if kind.create_only { &all[..1] } else { all };
    let mut own = json!({
        "name": kind.resource,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": verbs,
    });
    if !kind.short_names.is_empty() {
        own["shortNames"] = json!(kind.short_names);
    }
    let mut resources = vec![own];
    let verbs = ["get", "patch", "update"];
    if kind.has_status {
        resources.push(json!({
            "name": format!("{}/status", kind.resource),
            "singularName": "",
            "namespaced": kind.namespaced,
            "kind": kind.kind,
            "verbs": verbs,
        }));
    }
    if kind.scale.is_some() {
        resources.push(json!({
            "name": format!("{}/scale", kind.resource),
            "singularName": "",
            "namespaced": kind.namespaced,
            "group": "autoscaling",
            "version": "v1",
            "kind": "Scale",
            "verbs": verbs,
        }));
    }
    resources
}

/// The `APIResourceList` of a group and version of `kinds`; `None` if there is none.
pub(crate) fn resource_list(kinds: &[Arc<Kind>], group: &str, version: &str) -> Option<Value> {
    let kinds = kinds.iter().filter(|kind| kind.group == group && kind.version == version);
    let resources: Vec<_> = kinds.flat_map(|kind| resources_of(kind)).collect();
    let api_version = super::kinds::api_version(group, version);
    (!resources.is_empty()).then(|| {
        json!({
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": api_version,
            "resources": resources,
        })
    })
}

fn group_json(group: &Group) -> Value {
    let version = |version: &str| json!({ "groupVersion": format!("{}/{version}", group.name), "version": version });
    let versions: Vec<_> = group.versions.iter().map(|(name, _)| version(name)).collect();
    json!({ "name": group.name, "versions": versions, "preferredVersion": versions[0] })
}

/// The answer to `/apis`.
pub(crate) fn group_list(kinds: &[Arc<Kind>], aggregated: &[Aggregated]) -> Value {
    let groups = groups(kinds, aggregated);
    let named = groups.iter().filter(|group| !group.name.is_empty());
    let groups: Vec<_> = named.map(group_json).collect();
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
}

/// The answer to `/apis/GROUP`; `None` if there is none.
pub(crate) fn group(kinds: &[Arc<Kind>], aggregated: &[Aggregated], name: &str) -> Option<Value> {
    let groups = groups(kinds, aggregated);
    let mut group = group_json(groups.iter().find(|group| group.name == name)?);
    group["kind"] = "APIGroup".into();
    group["apiVersion"] = "v1".into();
    Some(group)
}

/// The answer to `/api`.
pub(crate) fn core_versions(address: &str) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{ "clientCIDR": "0.0.0.0/0", "serverAddress": address }],
    })
}

/// `apidiscovery.k8s.io/v2`: the core group alone, or all others.
pub(crate) fn aggregated(kinds: &[Arc<Kind>], aggregated: &[Aggregated], core: bool) -> Value {
    let groups = groups(kinds, aggregated);
    let groups = groups.iter().filter(|group| group.name.is_empty() == core);
    let items: Vec<_> = groups
        .map(|group| {
            let versions = group.versions.iter();
            let versions: Vec<_> =
                versions.map(|(v, r)| version_discovery(&group.name, v, r.as_deref())).collect();
            let metadata = if core { json!({}) } else { json!({ "name": group.name }) };
            json!({ "metadata": metadata, "versions": versions })
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    })
}

fn version_discovery(group: &str, version: &str, resources: Option<&[Value]>) -> Value {
    let Some(resources) = resources else {
        return json!({ "version": version, "freshness": "Stale" });
    };
    // The subresources of a resource are part of its entry.
    let mut entries: BTreeMap<&str, Value> = BTreeMap::new();
    let or = |value: &Value, default: &str| match value.as_str() {
        Some(text) if !text.is_empty() => String::from(text),
        _ => String::from(default),
    };
    let response_kind = |resource: &Value| {
        json!({
            "group": or(&resource["group"], group),
            "version": or(&resource["version"], version),
            "kind": resource["kind"],
        })
    };
    for resource in resources {
        let name = resource["name"].as_str().unwrap_or_default();
        if let Some((parent, subresource)) = name.split_once('/') {
            let entry = json!({
                "subresource": subresource,
                "responseKind": response_kind(resource),
                "verbs": resource["verbs"],
            });
            let parent = entries.entry(parent).or_insert_with(|| json!({ "resource": parent }));
            match parent["subresources"].as_array_mut() {
                Some(list) => list.push(entry),
                None => parent["subresources"] = json!([entry]),
            }
            continue;
        }
        let scope = if resource["namespaced"] == true { "Namespaced" } else { "Cluster" };
        entries.insert(
            name,
            json!({
                "resource": name,
                "responseKind": response_kind(resource),
                "scope": scope,
                "singularResource": resource["singularName"],
                "verbs": resource["verbs"],
                "shortNames": resource["shortNames"].as_array().cloned().unwrap_or_default(),
            }),
        );
    }
    let resources: Vec<_> = entries.into_values().collect();
    json!({ "version": version, "resources": resources, "freshness": "Current" })
}

/// The answer to `/openapi/v3`: where the schema of each group and version is.
pub(crate) fn schemas(kinds: &[Arc<Kind>], aggregated: &[Aggregated]) -> Value {
    let mut paths = json!({});
    for group in groups(kinds, aggregated) {
        for (version, _) in &group.versions {
            let path = match group.name.as_str() {
                "" => format!("api/{version}"),
                group => format!("apis/{group}/{version}"),
            };
            let url = format!("/openapi/v3/{path}");
            paths[path] = json!({ "serverRelativeURL": url });
        }
    }
    json!({ "paths": paths })
}

/// The OpenAPI v3 document of a group and version: which operations there are and that they validate fields, which is
/// what `kubectl apply` looks for. It describes no fields.
pub(crate) fn schema(kinds: &[Arc<Kind>], group: &str, version: &str) -> Option<Value> {
    let mut paths = json!({});
    let root = if group.is_empty() { String::from("/api") } else { format!("/apis/{group}") };
    for kind in kinds.iter().filter(|kind| kind.group == group && kind.version == version) {
        let scope = if kind.namespaced { "/namespaces/{namespace}" } else { "" };
        let path = format!("{root}/{version}{scope}/{}", kind.resource);
        let operation = |action: &str| {
            json!({
                "operationId": format!("{action}{}{}", kind.kind, version),
                "parameters": [
                    { "name": "dryRun", "in": "query", "schema": { "type": "string" } },
                    { "name": "fieldValidation", "in": "query", "schema": { "type": "string" } },
                ],
                "responses": { "200": { "description": "OK" } },
                "x-kubernetes-action": action,
                "x-kubernetes-group-version-kind":
                    { "group": group, "version": version, "kind": kind.kind },
            })
        };
        paths[path.as_str()] = json!({ "post": operation("post") });
        paths[format!("{path}/{{name}}")] =
            json!({ "put": operation("put"), "patch": operation("patch") });
    }
    let found = paths.as_object().is_some_and(|paths| !paths.is_empty());
    found.then(|| {
        json!({
            "openapi": "3.0.0",
            "info": { "title": "Kubernetes", "version": "unversioned" },
            "paths": paths,
            "components": { "schemas": {} },
        })
    })
}

/// The answer to `/version`.
pub(crate) fn version() -> Value {
    json!({
        "major": "1",
        "minor": "37",
        "gitVersion": "v1.37.0",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "2026-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": "none",
        "platform": "linux/amd64",
    })
}
