//! `custom.metrics.k8s.io` and `external.metrics.k8s.io`: paths by their form, since each metric is a path of its own.

use metrics_api::{
    CUSTOM_METRICS_GROUP, CustomMetricsVersion, EXTERNAL_METRICS_GROUP, EXTERNAL_METRICS_VERSION,
};
use serde_json::{Map, Value, json};

use super::{Described, META, Operation, Parameter, QUANTITY, Schemas, gvk};

const CUSTOM: &str = "io.k8s.metrics.pkg.apis.custom_metrics";
const EXTERNAL: &str = "io.k8s.metrics.pkg.apis.external_metrics.v1beta1";
const OBJECT_REFERENCE: &str = "io.k8s.api.core.v1.ObjectReference";

const OBJECTS: Parameter = Parameter {
    name: "labelSelector",
    place: "query",
    kind: "string",
    description: "Selects objects by their labels, where the name is *.",
};
const SERIES: Parameter = Parameter {
    name: "metricLabelSelector",
    place: "query",
    kind: "string",
    description: "Selects series of the metric by their labels.",
};

/// What there is, if this is one of the groups and versions.
pub(super) fn described(group: &str, version: &str) -> Option<Described> {
    let group_version = format!("{group}/{version}");
    if group == EXTERNAL_METRICS_GROUP && version == EXTERNAL_METRICS_VERSION {
        let operations = vec![external_operation()];
        return Some(Described { group_version, operations, schemas: external_schemas });
    }
    let version = CustomMetricsVersion::named(version).filter(|_| group == CUSTOM_METRICS_GROUP)?;
    Some(Described {
        group_version,
        operations: custom_operations(version),
        schemas: match version {
            CustomMetricsVersion::V1Beta1 => v1beta1_schemas,
            CustomMetricsVersion::V1Beta2 => v1beta2_schemas,
        },
    })
}

fn in_path(path: &str) -> Vec<Parameter> {
    let parameters = [
        ("namespace", "namespace of the objects"),
        ("resource", "resource of the objects, with its group behind a dot if it has one"),
        ("name", "name of the object, or * for all that are selected"),
        ("metric", "name of the metric"),
    ];
    let parameters =
        parameters.into_iter().filter(|(name, _)| path.contains(&format!("{{{name}}}")));
    let parameters = parameters.map(|(name, description)| Parameter {
        name,
        place: "path",
        kind: "string",
        description,
    });
    parameters.collect()
}

fn custom_operations(version: CustomMetricsVersion) -> Vec<Operation> {
    let (name, tag, camel) = match version {
        CustomMetricsVersion::V1Beta1 => ("v1beta1", "customMetrics_v1beta1", "V1beta1"),
        CustomMetricsVersion::V1Beta2 => ("v1beta2", "customMetrics_v1beta2", "V1beta2"),
    };
    let base = format!("/apis/{CUSTOM_METRICS_GROUP}/{name}");
    let paths = [
        ("{resource}/{name}/{metric}", "", "objects that are in no namespace"),
        ("namespaces/{namespace}/metrics/{metric}", "Namespace", "a namespace"),
        (
            "namespaces/{namespace}/{resource}/{name}/{metric}",
            "Namespaced",
            "objects of a namespace",
        ),
    ];
    let operation = |(path, prefix, of): (&str, &str, &str)| {
        let mut parameters = in_path(path);
        if path.contains("{name}") {
            parameters.push(OBJECTS);
        }
        parameters.push(SERIES);
        Operation {
            path: format!("{base}/{path}"),
            id: format!("listCustomMetrics{camel}{prefix}MetricValue"),
            tag,
            description: format!("list values of a metric for {of}"),
            action: "list",
            kind: gvk(CUSTOM_METRICS_GROUP, name, "MetricValueList"),
            answer: format!("{CUSTOM}.{name}.MetricValueList"),
            parameters,
        }
    };
    paths.into_iter().map(operation).collect()
}

fn external_operation() -> Operation {
    let path = format!(
        "/apis/{EXTERNAL_METRICS_GROUP}/{EXTERNAL_METRICS_VERSION}/namespaces/{{namespace}}/{{metric}}"
    );
    let mut parameters = in_path(&path);
    let description = "Selects series of the metric by their labels.";
    parameters.push(Parameter { description, ..OBJECTS });
    Operation {
        path,
        id: String::from("listExternalMetricsV1beta1NamespacedExternalMetricValue"),
        tag: "externalMetrics_v1beta1",
        description: String::from("list values of a metric that describes nothing in the cluster"),
        action: "list",
        kind: gvk(EXTERNAL_METRICS_GROUP, EXTERNAL_METRICS_VERSION, "ExternalMetricValueList"),
        answer: format!("{EXTERNAL}.ExternalMetricValueList"),
        parameters,
    }
}

fn seconds(description: &str) -> Value {
    json!({"type": "integer", "format": "int64", "description": description})
}

const WINDOW: &str = "How many seconds back the value looks, if that is known.";

/// What all values have.
fn value(to: &Schemas, mut properties: Value) -> Value {
    properties["timestamp"] =
        to.described(&format!("{META}.Time"), "When the value was computed.", None);
    properties["value"] = to.described(QUANTITY, "The value.", None);
    Schemas::with_type(properties)
}

fn v1beta1_schemas(to: &Schemas) -> Map<String, Value> {
    let selector = to.described(
        &format!("{META}.LabelSelector"),
        "The selector of series that was asked with.",
        None,
    );
    let properties = json!({
        "metricName": Schemas::text("The name of the metric."),
        "window": seconds(WINDOW),
        "selector": selector,
    });
    let required = ["describedObject", "metricName", "timestamp", "value", "selector"];
    custom_schemas(to, "v1beta1", properties, &required)
}

fn v1beta2_schemas(to: &Schemas) -> Map<String, Value> {
    let identifier = format!("{CUSTOM}.v1beta2.MetricIdentifier");
    let properties = json!({
        "metric": to.described(&identifier, "The metric.", None),
        "windowSeconds": seconds(WINDOW),
    });
    let required = ["describedObject", "metric", "timestamp", "value"];
    let mut schemas = custom_schemas(to, "v1beta2", properties, &required);
    let selector = to.described(
        &format!("{META}.LabelSelector"),
        "The selector of series that was asked with.",
        None,
    );
    let metric = json!({
        "description": "MetricIdentifier names a metric and the series of it that were asked for.",
        "type": "object",
        "required": ["name"],
        "properties": {"name": Schemas::text("The name of the metric."), "selector": selector},
    });
    schemas.insert(identifier, metric);
    schemas
}

fn custom_schemas(
    to: &Schemas,
    version: &str,
    mut properties: Value,
    required: &[&str],
) -> Map<String, Value> {
    properties["describedObject"] = to.described(OBJECT_REFERENCE, "The object.", None);
    let of = format!("{CUSTOM}.{version}.MetricValue");
    let list = to.list((CUSTOM_METRICS_GROUP, version), "MetricValueList", &of);
    let value = json!({
        "description": "MetricValue is the value of a metric for an object.",
        "type": "object",
        "required": required,
        "properties": value(to, properties),
        "x-kubernetes-group-version-kind": [gvk(CUSTOM_METRICS_GROUP, version, "MetricValue")],
    });
    let requirement = format!("{META}.LabelSelectorRequirement");
    let text = Schemas::text;
    let texts = |description: &str| json!({"type": "array", "items": {"type": "string"}, "description": description});
    let schemas = [
        (of, value),
        (format!("{CUSTOM}.{version}.MetricValueList"), list),
        (
            String::from(OBJECT_REFERENCE),
            json!({
                "description": "ObjectReference names an object.",
                "type": "object",
                "properties": {
                    "apiVersion": text("The group and version of the object."),
                    "kind": text("The kind of the object."),
                    "namespace": text("The namespace of the object."),
                    "name": text("The name of the object."),
                },
            }),
        ),
        (
            format!("{META}.LabelSelector"),
            json!({
                "description": "LabelSelector is a query over sets of labels; all of it must hold.",
                "type": "object",
                "properties": {
                    "matchLabels": {
                        "description": "Labels and the values that they have.",
                        "type": "object",
                        "additionalProperties": {"type": "string"},
                    },
                    "matchExpressions": {
                        "description": "Requirements on labels.",
                        "type": "array",
                        "items": to.reference(&requirement),
                    },
                },
            }),
        ),
        (
            requirement,
            json!({
                "description": "LabelSelectorRequirement is a requirement on a label.",
                "type": "object",
                "required": ["key", "operator"],
                "properties": {
                    "key": text("The label."),
                    "operator": text("In, NotIn, Exists or DoesNotExist."),
                    "values": texts("The values of In and NotIn."),
                },
            }),
        ),
    ];
    schemas.into_iter().collect()
}

fn external_schemas(to: &Schemas) -> Map<String, Value> {
    let of = format!("{EXTERNAL}.ExternalMetricValue");
    let group_version = (EXTERNAL_METRICS_GROUP, EXTERNAL_METRICS_VERSION);
    let list = to.list(group_version, "ExternalMetricValueList", &of);
    let properties = json!({
        "metricName": Schemas::text("The name of the metric."),
        "metricLabels": {
            "description": "The labels of the series.",
            "type": "object",
            "additionalProperties": {"type": "string"},
        },
        "window": seconds(WINDOW),
    });
    let kind = gvk(EXTERNAL_METRICS_GROUP, EXTERNAL_METRICS_VERSION, "ExternalMetricValue");
    let value = json!({
        "description": "ExternalMetricValue is a value of a metric; the autoscaler adds several up.",
        "type": "object",
        "required": ["metricName", "metricLabels", "timestamp", "value"],
        "properties": value(to, properties),
        "x-kubernetes-group-version-kind": [kind],
    });
    let schemas = [(of, value), (format!("{EXTERNAL}.ExternalMetricValueList"), list)];
    schemas.into_iter().collect()
}
