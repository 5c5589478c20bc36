//! `/openapi/v2` and `/openapi/v3`: what `kubectl explain` and the aggregation layer read.

use std::sync::LazyLock;

use axum::Router;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use metrics_api::{METRICS_GROUP, METRICS_GROUP_VERSION, Resource, Status};
use serde_json::{Map, Value, json};

use super::{output, respond};

/// The paths of the documents.
pub fn router() -> Router {
    let index = |request: Parts| async move { answer(&request, &INDEX) };
    Router::new()
        .route("/openapi/v2", any(|request: Parts| async move { answer(&request, &V2) }))
        .route("/openapi/v3", any(index))
        .route("/openapi/v3/", any(index))
        .route(
            "/openapi/v3/apis/metrics.k8s.io/v1beta1",
            any(|request: Parts| async move { answer(&request, &V3) }),
        )
}

/// A document and the tag of its content.
struct Document {
    body: String,
    tag: String,
}

impl Document {
    #[expect(clippy::needless_pass_by_value, reason = "callers build the value in place")]
    fn new(value: Value) -> Self {
        let body = value.to_string();
        // FNV-1a: the tag must be equal among replicas, and nothing depends on it being hard to
        // forge.
        let hash = body.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self { body, tag: format!("{hash:016X}") }
    }
}

static V2: LazyLock<Document> = LazyLock::new(|| Document::new(v2()));
static V3: LazyLock<Document> = LazyLock::new(|| Document::new(v3()));
static INDEX: LazyLock<Document> = LazyLock::new(|| {
    let path = format!("apis/{METRICS_GROUP_VERSION}");
    let url = format!("/openapi/v3/{path}?hash={}", V3.tag);
    Document::new(json!({"paths": {path: {"serverRelativeURL": url}}}))
});

/// Clients that know the hash of a document keep it; one that asks with an old hash is given the
/// present document, where upstream redirects: an aggregated API must not.
fn answer(request: &Parts, document: &'static Document) -> Response {
    if request.method != Method::GET {
        return respond(&Status::method_not_served(), output::error_encoding(request));
    }
    let tag = format!("\"{}\"", document.tag);
    let known = request.headers.get(header::IF_NONE_MATCH);
    let is_known = known.and_then(|known| known.to_str().ok()).is_some_and(|known| {
        known.split(',').any(|one| one.trim().trim_start_matches("W/") == tag)
    });
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, "application/json")], document.body.as_str()).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    let hash = format!("hash={}", document.tag);
    if request.uri.query().is_some_and(|query| query.split('&').any(|one| one == hash)) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
    }
    response
}

const METRICS: &str = "io.k8s.metrics.pkg.apis.metrics.v1beta1";
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";

fn v2() -> Value {
    let mut paths = Map::new();
    for (path, resource, kind, verb) in operations() {
        let schema = json!({"$ref": format!("#/definitions/{METRICS}.{kind}")});
        let mut get = operation(&path, resource, kind, verb);
        get["produces"] = json!(metrics_api::MEDIA_TYPES);
        get["schemes"] = json!(["https"]);
        get["responses"] = json!({
            "200": {"description": "OK", "schema": schema},
            "401": {"description": "Unauthorized"},
        });
        let parameters = parameters(&path, verb, |name, place, kind, description| {
            let mut parameter = json!({"name": name, "in": place, "type": kind,
                "description": description, "uniqueItems": true});
            parameter["required"] = json!(place == "path");
            parameter
        });
        paths.insert(path, json!({"get": get, "parameters": parameters}));
    }
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes metrics-server", "version": env!("CARGO_PKG_VERSION")},
        "paths": paths,
        "definitions": schemas("#/definitions/"),
    })
}

fn v3() -> Value {
    let mut paths = Map::new();
    for (path, resource, kind, verb) in operations() {
        let schema = json!({"$ref": format!("#/components/schemas/{METRICS}.{kind}")});
        let content: Map<String, Value> = metrics_api::MEDIA_TYPES
            .iter()
            .map(|media_type| ((*media_type).to_owned(), json!({"schema": schema})))
            .collect();
        let mut get = operation(&path, resource, kind, verb);
        get["responses"] = json!({
            "200": {"description": "OK", "content": content},
            "401": {"description": "Unauthorized"},
        });
        let parameters = parameters(&path, verb, |name, place, kind, description| {
            let mut parameter = json!({"name": name, "in": place, "description": description,
                "schema": {"type": kind, "uniqueItems": true}});
            if place == "path" {
                parameter["required"] = json!(true);
            }
            parameter
        });
        paths.insert(path, json!({"get": get, "parameters": parameters}));
    }
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes metrics-server", "version": env!("CARGO_PKG_VERSION")},
        "paths": paths,
        "components": {"schemas": schemas("#/components/schemas/")},
    })
}

/// Path, resource, kind of the answer, verb.
fn operations() -> Vec<(String, Resource, &'static str, &'static str)> {
    let base = format!("/apis/{METRICS_GROUP_VERSION}");
    let namespaced = format!("{base}/namespaces/{{namespace}}/pods");
    vec![
        (format!("{base}/nodes"), Resource::Nodes, "NodeMetricsList", "list"),
        (format!("{base}/nodes/{{name}}"), Resource::Nodes, "NodeMetrics", "get"),
        (format!("{base}/pods"), Resource::Pods, "PodMetricsList", "list"),
        (namespaced.clone(), Resource::Pods, "PodMetricsList", "list"),
        (format!("{namespaced}/{{name}}"), Resource::Pods, "PodMetrics", "get"),
    ]
}

fn operation(path: &str, resource: Resource, kind: &str, verb: &str) -> Value {
    let words = if verb == "list" { "list objects of kind" } else { "read the specified" };
    let scope = match (resource, path.contains("{namespace}")) {
        (Resource::Pods, true) => "Namespaced",
        (Resource::Pods, false) => "ForAllNamespaces",
        (Resource::Nodes, _) => "",
    };
    let (prefix, suffix) = if scope == "ForAllNamespaces" { ("", scope) } else { (scope, "") };
    let of = resource.kind();
    json!({
        "description": format!("{words} {}", kind.trim_end_matches("List")),
        "operationId": format!("{}MetricsV1beta1{prefix}{of}{suffix}",
            if verb == "list" { "list" } else { "read" }),
        "tags": ["metrics_v1beta1"],
        "x-kubernetes-action": verb,
        "x-kubernetes-group-version-kind": gvk(of),
    })
}

fn gvk(kind: &str) -> Value {
    json!({"group": METRICS_GROUP, "version": "v1beta1", "kind": kind})
}

fn parameters(
    path: &str,
    verb: &str,
    parameter: impl Fn(&str, &str, &str, &str) -> Value,
) -> Vec<Value> {
    let mut parameters = Vec::new();
    if path.contains("{name}") {
        parameters.push(parameter("name", "path", "string", "name of the object"));
    }
    if path.contains("{namespace}") {
        parameters.push(parameter("namespace", "path", "string", "namespace of the object"));
    }
    if verb == "list" {
        for (name, kind, description) in [
            ("labelSelector", "string", "Selects objects by their labels."),
            ("fieldSelector", "string", "Selects objects by metadata.name and metadata.namespace."),
            ("watch", "boolean", "Answers with a stream of events instead of a list."),
            ("resourceVersion", "string", "The version that a watch goes on from."),
            ("allowWatchBookmarks", "boolean", "Whether a watch may send bookmarks."),
            ("sendInitialEvents", "boolean", "Whether a watch begins with what there is."),
            ("timeoutSeconds", "integer", "When a watch ends."),
        ] {
            parameters.push(parameter(name, "query", kind, description));
        }
    }
    parameters
}

fn schemas(prefix: &str) -> Value {
    let reference = |name: &str| json!({"$ref": format!("{prefix}{name}")});
    let described = |name: &str, description: &str, default: Option<Value>| {
        // A reference may have no siblings, so a description wraps it.
        let mut schema = json!({"description": description, "allOf": [reference(name)]});
        if let Some(default) = default {
            schema["default"] = default;
        }
        if prefix == "#/definitions/" {
            schema = json!({"description": description, "$ref": format!("{prefix}{name}")});
        }
        schema
    };
    let text = |description: &str| json!({"type": "string", "description": description});
    let usage = json!({
        "description": "What is used: cpu as the mean over the window, memory as the working set \
            at its end, and swap where it is reported.",
        "type": "object",
        "additionalProperties": reference(QUANTITY),
    });
    let time = format!("{META}.Time");
    let duration = format!("{META}.Duration");
    let object_meta = format!("{META}.ObjectMeta");
    let list_meta = format!("{META}.ListMeta");
    let type_meta = |mut properties: Value| {
        properties["apiVersion"] = text("The version of this representation of the object.");
        properties["kind"] = text("The kind of the object.");
        properties
    };
    let measured = |mut properties: Value| {
        properties["metadata"] =
            described(&object_meta, "Standard object's metadata.", Some(json!({})));
        properties["timestamp"] =
            described(&time, "The end of the window over which the usage was measured.", None);
        properties["window"] =
            described(&duration, "The length of the window over which CPU was measured.", None);
        type_meta(properties)
    };
    let list = |kind: &str, of: &str| {
        json!({
            "description": format!("{kind} is a list of {of}."),
            "type": "object",
            "required": ["metadata", "items"],
            "properties": type_meta(json!({
                "metadata": described(&list_meta, "Standard list metadata.", Some(json!({}))),
                "items": {
                    "description": format!("The {of} objects."),
                    "type": "array",
                    "items": reference(&format!("{METRICS}.{of}")),
                },
            })),
            "x-kubernetes-group-version-kind": [gvk(kind)],
        })
    };
    json!({
        format!("{METRICS}.ContainerMetrics"): {
            "description": "ContainerMetrics says what a container uses.",
            "type": "object",
            "required": ["name", "usage"],
            "properties": {
                "name": text("The name of the container, as in pod.spec.containers."),
                "usage": usage,
            },
        },
        format!("{METRICS}.NodeMetrics"): {
            "description": "NodeMetrics says what a node uses.",
            "type": "object",
            "required": ["timestamp", "window", "usage"],
            "properties": measured(json!({"usage": usage})),
            "x-kubernetes-group-version-kind": [gvk("NodeMetrics")],
        },
        format!("{METRICS}.NodeMetricsList"): list("NodeMetricsList", "NodeMetrics"),
        format!("{METRICS}.PodMetrics"): {
            "description": "PodMetrics says what each container of a pod uses.",
            "type": "object",
            "required": ["timestamp", "window", "containers"],
            "properties": measured(json!({"containers": {
                "description": "The containers of the pod, all measured in the same window.",
                "type": "array",
                "items": reference(&format!("{METRICS}.ContainerMetrics")),
            }})),
            "x-kubernetes-group-version-kind": [gvk("PodMetrics")],
        },
        format!("{METRICS}.PodMetricsList"): list("PodMetricsList", "PodMetrics"),
        QUANTITY: {
            "description": "Quantity is a fixed-point number with a suffix, such as 250m or 64Mi.",
            "type": "string",
        },
        duration: {
            "description": "Duration is a length of time as Go prints it, such as 15.2s.",
            "type": "string",
        },
        time.clone(): {"description": "Time is a point in time in RFC 3339.", "type": "string", "format": "date-time"},
        object_meta.clone(): {
            "description": "ObjectMeta is the metadata of the node or pod that was measured.",
            "type": "object",
            "properties": {
                "name": text("The name of the node or pod."),
                "namespace": text("The namespace of the pod."),
                "resourceVersion": text("The version of the object, in events of a watch."),
                "creationTimestamp": described(&time, "When this answer was made.", None),
                "labels": {
                    "description": "The labels of the node or pod.",
                    "type": "object",
                    "additionalProperties": {"type": "string"},
                },
            },
        },
        list_meta: {
            "description": "ListMeta is the metadata of a list.",
            "type": "object",
            "properties": {
                "resourceVersion": text("The version of the list, to go on from with a watch."),
            },
        },
    })
}
