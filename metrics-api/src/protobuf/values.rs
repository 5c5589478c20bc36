//! Lists of values of `custom.metrics.k8s.io` and `external.metrics.k8s.io`.

use super::{nested, write_envelope, write_list_metadata, write_signed, write_text, write_time};
use crate::custom::{
    CUSTOM_METRICS_GROUP, CustomMetricsVersion, MetricValue, MetricValueList, ObjectReference,
    SelectorObject,
};
use crate::external::{EXTERNAL_METRICS_GROUP, EXTERNAL_METRICS_VERSION, ExternalMetricValueList};
use crate::quantity::Quantity;

/// Appends a list of values that describe objects, in its envelope.
pub fn write_metric_values(out: &mut Vec<u8>, list: &MetricValueList) {
    let mut raw = Vec::new();
    write_list_metadata(&mut raw, 1, "");
    for item in &list.items {
        nested(&mut raw, 2, |out| match list.version {
            CustomMetricsVersion::V1Beta1 => write_v1beta1(out, item),
            CustomMetricsVersion::V1Beta2 => write_v1beta2(out, item),
        });
    }
    let group_version = format!("{CUSTOM_METRICS_GROUP}/{}", list.version.as_str());
    write_envelope(out, &group_version, "MetricValueList", &raw);
}

/// Appends a list of values that describe nothing in the cluster, in its envelope.
pub fn write_external_values(out: &mut Vec<u8>, list: &ExternalMetricValueList) {
    let mut raw = Vec::new();
    write_list_metadata(&mut raw, 1, "");
    for item in &list.items {
        nested(&mut raw, 2, |out| {
            write_text(out, 1, &item.metric);
            for (name, value) in item.labels.iter().flatten() {
                write_pair(out, 2, name, value);
            }
            nested(out, 3, |out| write_time(out, item.timestamp_s));
            write_window(out, item.window_s);
            write_quantity(out, &item.value);
        });
    }
    let group_version = format!("{EXTERNAL_METRICS_GROUP}/{EXTERNAL_METRICS_VERSION}");
    write_envelope(out, &group_version, "ExternalMetricValueList", &raw);
}

fn write_v1beta1(out: &mut Vec<u8>, item: &MetricValue) {
    write_object(out, &item.described_object);
    write_text(out, 2, &item.metric);
    nested(out, 3, |out| write_time(out, item.timestamp_s));
    write_window(out, item.window_s);
    write_quantity(out, &item.value);
    if let Some(selector) = &item.selector {
        nested(out, 6, |out| write_selector(out, selector));
    }
}

fn write_v1beta2(out: &mut Vec<u8>, item: &MetricValue) {
    write_object(out, &item.described_object);
    nested(out, 2, |out| {
        write_text(out, 1, &item.metric);
        if let Some(selector) = &item.selector {
            nested(out, 2, |out| write_selector(out, selector));
        }
    });
    nested(out, 3, |out| write_time(out, item.timestamp_s));
    write_window(out, item.window_s);
    write_quantity(out, &item.value);
}

/// Its uid, resource version and field path are not known.
fn write_object(out: &mut Vec<u8>, object: &ObjectReference) {
    nested(out, 1, |out| {
        write_text(out, 1, &object.kind);
        write_text(out, 2, &object.namespace);
        write_text(out, 3, &object.name);
        write_text(out, 4, "");
        write_text(out, 5, &object.api_version);
        write_text(out, 6, "");
        write_text(out, 7, "");
    });
}

fn write_selector(out: &mut Vec<u8>, selector: &SelectorObject) {
    for (key, value) in selector.match_labels() {
        write_pair(out, 1, key, value);
    }
    for expression in selector.match_expressions() {
        nested(out, 2, |out| {
            write_text(out, 1, &expression.key);
            write_text(out, 2, expression.operator);
            for value in &expression.values {
                write_text(out, 3, value);
            }
        });
    }
}

fn write_pair(out: &mut Vec<u8>, field: u8, key: &str, value: &str) {
    nested(out, field, |out| {
        write_text(out, 1, key);
        write_text(out, 2, value);
    });
}

fn write_window(out: &mut Vec<u8>, window_s: Option<i64>) {
    if let Some(window_s) = window_s {
        write_signed(out, 4, window_s);
    }
}

fn write_quantity(out: &mut Vec<u8>, value: &Quantity) {
    nested(out, 5, |out| write_text(out, 1, &value.to_string()));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use prost::Message;

    use super::*;
    use crate::external::ExternalMetricValue;
    use crate::quantity::Format;

    /// Field numbers and types of upstream's `generated.proto` files.
    mod upstream {
        use std::collections::BTreeMap;

        macro_rules! message {
            ($name:ident { $($number:literal $field:ident: $kind:tt $type:ty,)* }) => {
                #[derive(Clone, PartialEq, prost::Message)]
                pub(super) struct $name {
                    $(#[prost($kind, optional, tag = $number)] pub(super) $field: Option<$type>,)*
                }
            };
        }

        message!(Time { "1" seconds: int64 i64, "2" nanos: int32 i32, });
        message!(Quantity { "1" string: string String, });
        message!(TypeMeta { "1" api_version: string String, "2" kind: string String, });
        message!(Unknown { "1" type_meta: message TypeMeta, "2" raw: bytes Vec<u8>, });
        message!(ObjectReference {
            "1" kind: string String,
            "2" namespace: string String,
            "3" name: string String,
            "5" api_version: string String,
        });
        message!(MetricIdentifier { "1" name: string String, "2" selector: message LabelSelector, });
        message!(V1Beta2 {
            "1" described_object: message ObjectReference,
            "2" metric: message MetricIdentifier,
            "3" timestamp: message Time,
            "4" window_seconds: int64 i64,
            "5" value: message Quantity,
        });
        message!(V1Beta1 {
            "1" described_object: message ObjectReference,
            "2" metric_name: string String,
            "3" timestamp: message Time,
            "4" window: int64 i64,
            "5" value: message Quantity,
            "6" selector: message LabelSelector,
        });

        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct LabelSelector {
            #[prost(btree_map = "string, string", tag = "1")]
            pub(super) match_labels: BTreeMap<String, String>,
            #[prost(message, repeated, tag = "2")]
            pub(super) match_expressions: Vec<Requirement>,
        }

        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct Requirement {
            #[prost(string, optional, tag = "1")]
            pub(super) key: Option<String>,
            #[prost(string, optional, tag = "2")]
            pub(super) operator: Option<String>,
            #[prost(string, repeated, tag = "3")]
            pub(super) values: Vec<String>,
        }

        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct External {
            #[prost(string, optional, tag = "1")]
            pub(super) metric_name: Option<String>,
            #[prost(btree_map = "string, string", tag = "2")]
            pub(super) metric_labels: BTreeMap<String, String>,
            #[prost(message, optional, tag = "3")]
            pub(super) timestamp: Option<Time>,
            #[prost(int64, optional, tag = "4")]
            pub(super) window: Option<i64>,
            #[prost(message, optional, tag = "5")]
            pub(super) value: Option<Quantity>,
        }

        /// Any of the lists.
        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct List {
            #[prost(bytes = "vec", repeated, tag = "2")]
            pub(super) items: Vec<Vec<u8>>,
        }
    }

    /// The group and version, the kind, and the items of a body.
    fn read<T: Message + Default>(body: &[u8]) -> (String, String, Vec<T>) {
        let unknown = upstream::Unknown::decode(body.strip_prefix(b"k8s\0").unwrap()).unwrap();
        let meta = unknown.type_meta.unwrap();
        let list = upstream::List::decode(unknown.raw.unwrap().as_slice()).unwrap();
        let items = list.items.iter().map(|item| T::decode(item.as_slice()).unwrap()).collect();
        (meta.api_version.unwrap(), meta.kind.unwrap(), items)
    }

    fn value(window_s: Option<i64>, selector: Option<&str>) -> MetricValue {
        MetricValue {
            described_object: ObjectReference {
                kind: String::from("Pod"),
                namespace: String::from("web"),
                name: String::from("a"),
                api_version: String::from("/v1"),
            },
            metric: String::from("hits"),
            selector: selector.map(|text| SelectorObject::new(&text.parse().unwrap()).unwrap()),
            timestamp_s: 1_700_000_000,
            window_s,
            value: Quantity::new(2500, -3, Format::DecimalSi),
        }
    }

    #[test]
    fn values_of_objects_are_read_as_upstream_reads_them() {
        let items = vec![value(Some(60), Some("a=b,c in (d,e),!f")), value(None, None)];
        let mut body = Vec::new();
        let version = CustomMetricsVersion::V1Beta2;
        write_metric_values(&mut body, &MetricValueList { version, items: items.clone() });
        let (group_version, kind, read_items) = read::<upstream::V1Beta2>(&body);
        assert_eq!(group_version, "custom.metrics.k8s.io/v1beta2");
        assert_eq!(kind, "MetricValueList");
        let object = upstream::ObjectReference {
            kind: Some("Pod".into()),
            namespace: Some("web".into()),
            name: Some("a".into()),
            api_version: Some("/v1".into()),
        };
        let requirement = |key: &str, operator: &str, values: &[&str]| upstream::Requirement {
            key: Some(key.into()),
            operator: Some(operator.into()),
            values: values.iter().map(|value| String::from(*value)).collect(),
        };
        let selector = upstream::LabelSelector {
            match_labels: BTreeMap::from([("a".into(), "b".into())]),
            match_expressions: vec![
                requirement("c", "In", &["d", "e"]),
                requirement("f", "DoesNotExist", &[]),
            ],
        };
        let expected = |window_seconds, selector| upstream::V1Beta2 {
            described_object: Some(object.clone()),
            metric: Some(upstream::MetricIdentifier { name: Some("hits".into()), selector }),
            timestamp: Some(upstream::Time { seconds: Some(1_700_000_000), nanos: Some(0) }),
            window_seconds,
            value: Some(upstream::Quantity { string: Some("2500m".into()) }),
        };
        assert_eq!(read_items, [expected(Some(60), Some(selector.clone())), expected(None, None)]);

        body.clear();
        let version = CustomMetricsVersion::V1Beta1;
        write_metric_values(&mut body, &MetricValueList { version, items });
        let (group_version, _, read_items) = read::<upstream::V1Beta1>(&body);
        assert_eq!(group_version, "custom.metrics.k8s.io/v1beta1");
        let first = &read_items[0];
        assert_eq!((first.metric_name.as_deref(), first.window), (Some("hits"), Some(60)));
        assert_eq!(first.selector, Some(selector));
        assert_eq!((&read_items[1].selector, read_items[1].window), (&None, None));
    }

    #[test]
    fn external_values_are_read_as_upstream_reads_them() {
        let item = |labels, window_s| ExternalMetricValue {
            metric: String::from("depth"),
            labels,
            timestamp_s: 5,
            window_s,
            value: Quantity::new(7, 0, Format::DecimalSi),
        };
        let labels = BTreeMap::from([(String::from("queue"), String::from("a"))]);
        let items = vec![item(Some(labels.clone()), Some(60)), item(None, None)];
        let mut body = Vec::new();
        write_external_values(&mut body, &ExternalMetricValueList { items });
        let (group_version, kind, items) = read::<upstream::External>(&body);
        assert_eq!(group_version, "external.metrics.k8s.io/v1beta1");
        assert_eq!(kind, "ExternalMetricValueList");
        let expected = |metric_labels, window| upstream::External {
            metric_name: Some("depth".into()),
            metric_labels,
            timestamp: Some(upstream::Time { seconds: Some(5), nanos: Some(0) }),
            window,
            value: Some(upstream::Quantity { string: Some("7".into()) }),
        };
        assert_eq!(items, [expected(labels, Some(60)), expected(BTreeMap::new(), None)]);
    }
}
