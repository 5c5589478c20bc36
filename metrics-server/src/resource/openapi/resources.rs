//! `metrics.k8s.io/v1beta1`

use metrics_api::{METRICS_GROUP, METRICS_GROUP_VERSION, Resource};
use serde_json::{Map, Value, json};

use super::{Described, META, Operation, Parameter, QUANTITY, Schemas, gvk};

const METRICS: &str = "io.k8s.metrics.pkg.apis.metrics.v1beta1";
const VERSION: &str = "v1beta1";

/// What there is, if this is the group and version.
pub(super) fn described(group: &str, version: &str) -> Option<Described> {
    (group == METRICS_GROUP && version == VERSION).then(|| Described {
        group_version: String::from(METRICS_GROUP_VERSION),
        operations: operations(),
        schemas,
    })
}

fn operations() -> Vec<Operation> {
    let base = format!("/apis/{METRICS_GROUP_VERSION}");
    let namespaced = format!("{base}/namespaces/{{namespace}}/pods");
    let paths = [
        (format!("{base}/nodes"), Resource::Nodes, "list"),
        (format!("{base}/nodes/{{name}}"), Resource::Nodes, "get"),
        (format!("{base}/pods"), Resource::Pods, "list"),
        (namespaced.clone(), Resource::Pods, "list"),
        (format!("{namespaced}/{{name}}"), Resource::Pods, "get"),
    ];
    paths.into_iter().map(|(path, resource, action)| operation(path, resource, action)).collect()
}

fn operation(path: String, resource: Resource, action: &'static str) -> Operation {
    let is_list = action == "list";
    let words = if is_list { "list objects of kind" } else { "read the specified" };
    let (prefix, suffix) = match (resource, path.contains("{namespace}")) {
        (Resource::Pods, true) => ("Namespaced", ""),
        (Resource::Pods, false) => ("", "ForAllNamespaces"),
        (Resource::Nodes, _) => ("", ""),
    };
    let of = resource.kind();
    let verb = if is_list { "list" } else { "read" };
    Operation {
        id: format!("{verb}MetricsV1beta1{prefix}{of}{suffix}"),
        tag: "metrics_v1beta1",
        description: format!("{words} {of}"),
        action,
        kind: gvk(METRICS_GROUP, VERSION, of),
        answer: format!("{METRICS}.{}", if is_list { resource.list_kind() } else { of }),
        parameters: parameters(&path, is_list),
        path,
    }
}

fn parameters(path: &str, is_list: bool) -> Vec<Parameter> {
    let in_path = [
        ("{name}", "name", "name of the object"),
        ("{namespace}", "namespace", "namespace of the object"),
    ];
    let in_path = in_path.into_iter().filter(|(part, ..)| path.contains(part));
    let in_path = in_path.map(|(_, name, description)| Parameter {
        name,
        place: "path",
        kind: "string",
        description,
    });
    let in_query = [
        ("labelSelector", "string", "Selects objects by their labels."),
        ("fieldSelector", "string", "Selects objects by metadata.name and metadata.namespace."),
        ("watch", "boolean", "Answers with a stream of events instead of a list."),
        ("resourceVersion", "string", "The version that a watch goes on from."),
        ("allowWatchBookmarks", "boolean", "Whether a watch may send bookmarks."),
        ("sendInitialEvents", "boolean", "Whether a watch begins with what there is."),
        ("timeoutSeconds", "integer", "When a watch ends."),
    ];
    let in_query = in_query
        .into_iter()
        .filter(|_| is_list)
        .map(|(name, kind, description)| Parameter { name, place: "query", kind, description });
    in_path.chain(in_query).collect()
}

fn schemas(to: &Schemas) -> Map<String, Value> {
    let text = Schemas::text;
    let usage = json!({
        "description": "What is used: cpu as the mean over the window, memory as the working set \
            at its end, and swap where it is reported.",
        "type": "object",
        "additionalProperties": to.reference(QUANTITY),
    });
    let (time, duration) = (format!("{META}.Time"), format!("{META}.Duration"));
    let object_meta = format!("{META}.ObjectMeta");
    let measured = |mut properties: Value| {
        properties["metadata"] =
            to.described(&object_meta, "Standard object's metadata.", Some(json!({})));
        properties["timestamp"] =
            to.described(&time, "The end of the window over which the usage was measured.", None);
        properties["window"] =
            to.described(&duration, "The length of the window over which CPU was measured.", None);
        Schemas::with_type(properties)
    };
    let gvk = |kind: &str| gvk(METRICS_GROUP, VERSION, kind);
    let list =
        |kind: &str, of: &str| to.list((METRICS_GROUP, VERSION), kind, &format!("{METRICS}.{of}"));
    let schemas = [
        (
            format!("{METRICS}.ContainerMetrics"),
            json!({
                "description": "ContainerMetrics says what a container uses.",
                "type": "object",
                "required": ["name", "usage"],
                "properties": {
                    "name": text("The name of the container, as in pod.spec.containers."),
                    "usage": usage,
                },
            }),
        ),
        (
            format!("{METRICS}.NodeMetrics"),
            json!({
                "description": "NodeMetrics says what a node uses.",
                "type": "object",
                "required": ["timestamp", "window", "usage"],
                "properties": measured(json!({"usage": usage})),
                "x-kubernetes-group-version-kind": [gvk("NodeMetrics")],
            }),
        ),
        (format!("{METRICS}.NodeMetricsList"), list("NodeMetricsList", "NodeMetrics")),
        (
            format!("{METRICS}.PodMetrics"),
            json!({
                "description": "PodMetrics says what each container of a pod uses.",
                "type": "object",
                "required": ["timestamp", "window", "containers"],
                "properties": measured(json!({"containers": {
                    "description": "The containers of the pod, all measured in the same window.",
                    "type": "array",
                    "items": to.reference(&format!("{METRICS}.ContainerMetrics")),
                }})),
                "x-kubernetes-group-version-kind": [gvk("PodMetrics")],
            }),
        ),
        (format!("{METRICS}.PodMetricsList"), list("PodMetricsList", "PodMetrics")),
        (
            duration.clone(),
            json!({
                "description": "Duration is a length of time as Go prints it, such as 15.2s.",
                "type": "string",
            }),
        ),
        (
            object_meta.clone(),
            json!({
                "description": "ObjectMeta is the metadata of the node or pod that was measured.",
                "type": "object",
                "properties": {
                    "name": text("The name of the node or pod."),
                    "namespace": text("The namespace of the pod."),
                    "resourceVersion": text("The version of the object, in events of a watch."),
                    "creationTimestamp": to.described(&time, "When this answer was made.", None),
                    "labels": {
                        "description": "The labels of the node or pod.",
                        "type": "object",
                        "additionalProperties": {"type": "string"},
                    },
                },
            }),
        ),
    ];
    schemas.into_iter().collect()
}
