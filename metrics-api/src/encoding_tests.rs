//! What the encoders write, read back by decoders that share nothing with them.

use proptest::prelude::*;
use prost::Message as _;
use serde_json::{Value, json};

use crate::table::{IncludeObject, Table};
use crate::{Item, Quantity, Resource, Status, Usage, json as text, protobuf, yaml};

/// Field numbers and types of upstream's `generated.proto` files.
mod upstream {
    use std::collections::BTreeMap;

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct TypeMeta {
        #[prost(string, optional, tag = "1")]
        pub(super) api_version: Option<String>,
        #[prost(string, optional, tag = "2")]
        pub(super) kind: Option<String>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Unknown {
        #[prost(message, optional, tag = "1")]
        pub(super) type_meta: Option<TypeMeta>,
        #[prost(bytes = "vec", optional, tag = "2")]
        pub(super) raw: Option<Vec<u8>>,
        #[prost(string, optional, tag = "3")]
        pub(super) content_encoding: Option<String>,
        #[prost(string, optional, tag = "4")]
        pub(super) content_type: Option<String>,
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(super) struct Time {
        #[prost(int64, optional, tag = "1")]
        pub(super) seconds: Option<i64>,
        #[prost(int32, optional, tag = "2")]
        pub(super) nanos: Option<i32>,
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(super) struct Duration {
        #[prost(int64, optional, tag = "1")]
        pub(super) duration: Option<i64>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Quantity {
        #[prost(string, optional, tag = "1")]
        pub(super) string: Option<String>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ObjectMeta {
        #[prost(string, optional, tag = "1")]
        pub(super) name: Option<String>,
        #[prost(string, optional, tag = "3")]
        pub(super) namespace: Option<String>,
        #[prost(string, optional, tag = "6")]
        pub(super) resource_version: Option<String>,
        #[prost(message, optional, tag = "8")]
        pub(super) creation_timestamp: Option<Time>,
        #[prost(btree_map = "string, string", tag = "11")]
        pub(super) labels: BTreeMap<String, String>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ListMeta {
        #[prost(string, optional, tag = "2")]
        pub(super) resource_version: Option<String>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ContainerMetrics {
        #[prost(string, optional, tag = "1")]
        pub(super) name: Option<String>,
        #[prost(btree_map = "string, message", tag = "2")]
        pub(super) usage: BTreeMap<String, Quantity>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct PodMetrics {
        #[prost(message, optional, tag = "1")]
        pub(super) metadata: Option<ObjectMeta>,
        #[prost(message, optional, tag = "2")]
        pub(super) timestamp: Option<Time>,
        #[prost(message, optional, tag = "3")]
        pub(super) window: Option<Duration>,
        #[prost(message, repeated, tag = "4")]
        pub(super) containers: Vec<ContainerMetrics>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct NodeMetrics {
        #[prost(message, optional, tag = "1")]
        pub(super) metadata: Option<ObjectMeta>,
        #[prost(message, optional, tag = "2")]
        pub(super) timestamp: Option<Time>,
        #[prost(message, optional, tag = "3")]
        pub(super) window: Option<Duration>,
        #[prost(btree_map = "string, message", tag = "4")]
        pub(super) usage: BTreeMap<String, Quantity>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct PodMetricsList {
        #[prost(message, optional, tag = "1")]
        pub(super) metadata: Option<ListMeta>,
        #[prost(message, repeated, tag = "2")]
        pub(super) items: Vec<PodMetrics>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct RawExtension {
        #[prost(bytes = "vec", optional, tag = "1")]
        pub(super) raw: Option<Vec<u8>>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct WatchEvent {
        #[prost(string, optional, tag = "1")]
        pub(super) r#type: Option<String>,
        #[prost(message, optional, tag = "2")]
        pub(super) object: Option<RawExtension>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Details {
        #[prost(string, optional, tag = "1")]
        pub(super) name: Option<String>,
        #[prost(string, optional, tag = "2")]
        pub(super) group: Option<String>,
        #[prost(string, optional, tag = "3")]
        pub(super) kind: Option<String>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Status {
        #[prost(string, optional, tag = "2")]
        pub(super) status: Option<String>,
        #[prost(string, optional, tag = "3")]
        pub(super) message: Option<String>,
        #[prost(string, optional, tag = "4")]
        pub(super) reason: Option<String>,
        #[prost(message, optional, tag = "5")]
        pub(super) details: Option<Details>,
        #[prost(int32, optional, tag = "6")]
        pub(super) code: Option<i32>,
    }
}

#[derive(Clone, Debug)]
struct Owned {
    namespace: String,
    name: String,
    version: Option<u64>,
    labels: Vec<(String, String)>,
    at_s: i64,
    window_ms: i64,
    containers: Vec<(String, Usage)>,
}

impl Owned {
    fn item(
        &self,
    ) -> Item<
        '_,
        impl Iterator<Item = (&str, &str)> + Clone,
        impl Iterator<Item = (&str, Usage)> + Clone,
    > {
        Item {
            namespace: &self.namespace,
            name: &self.name,
            resource_version: self.version,
            created_s: 1_700_000_001,
            labels: self.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())),
            at_s: self.at_s,
            window_ms: self.window_ms,
            usages: self.containers.iter().map(|(name, usage)| (name.as_str(), *usage)),
        }
    }
}

fn usage(cpu_nanocores: u64, memory_bytes: u64, swap_bytes: Option<u64>) -> Usage {
    Usage { cpu_nanocores, memory_bytes, swap_bytes }
}

fn web() -> Owned {
    Owned {
        namespace: "shop".to_owned(),
        name: "web-0".to_owned(),
        version: None,
        labels: vec![("app".to_owned(), "web".to_owned()), ("x/y".to_owned(), "true".to_owned())],
        at_s: 1_700_000_000,
        window_ms: 15_123,
        containers: vec![
            ("app".to_owned(), usage(12_345, 64 << 20, None)),
            ("log".to_owned(), usage(1_000_000, 1025, Some(4096))),
        ],
    }
}

fn node() -> Owned {
    Owned {
        namespace: String::new(),
        name: "n1".to_owned(),
        labels: Vec::new(),
        containers: vec![(String::new(), usage(2_000_000_000, 1 << 30, None))],
        ..web()
    }
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

/// The kind and the content of a protobuf body.
fn open(body: &[u8]) -> (String, Vec<u8>) {
    let unknown = upstream::Unknown::decode(body.strip_prefix(b"k8s\0").unwrap()).unwrap();
    let meta = unknown.type_meta.unwrap();
    (format!("{} {}", meta.api_version.unwrap(), meta.kind.unwrap()), unknown.raw.unwrap())
}

#[test]
fn a_pod_is_the_json_of_upstream() {
    let body = written(|out| text::write_item(out, Resource::Pods, &web().item(), true));
    assert_eq!(
        String::from_utf8(body).unwrap(),
        concat!(
            r#"{"kind":"PodMetrics","apiVersion":"metrics.k8s.io/v1beta1","#,
            r#""metadata":{"name":"web-0","namespace":"shop","#,
            r#""creationTimestamp":"2023-11-14T22:13:21Z","labels":{"app":"web","x/y":"true"}},"#,
            r#""timestamp":"2023-11-14T22:13:20Z","window":"15.123s","#,
            r#""containers":[{"name":"app","usage":{"cpu":"12345n","memory":"64Mi"}},"#,
            r#"{"name":"log","usage":{"cpu":"1m","memory":"1025","swap":"4Ki"}}]}"#,
        )
    );
}

#[test]
fn a_node_is_the_json_of_upstream() {
    let body = written(|out| text::write_item(out, Resource::Nodes, &node().item(), false));
    assert_eq!(
        String::from_utf8(body).unwrap(),
        concat!(
            r#"{"metadata":{"name":"n1","creationTimestamp":"2023-11-14T22:13:21Z"},"#,
            r#""timestamp":"2023-11-14T22:13:20Z","window":"15.123s","#,
            r#""usage":{"cpu":"2","memory":"1Gi"}}"#,
        )
    );
}

#[test]
fn tables_have_the_columns_of_metrics_server() {
    let table = Table { version: "v1", include: IncludeObject::Metadata, has_swap: false };
    let body = written(|out| {
        table.begin(out, Some(7), true);
        table.write_row(out, Resource::Pods, &web().item());
        table.end(out);
    });
    let value: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&value["kind"], &value["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")));
    let columns = value["columnDefinitions"].as_array().unwrap();
    let columns: Vec<_> = columns
        .iter()
        .map(|c| (c["name"].as_str().unwrap(), c["format"].as_str().unwrap()))
        .collect();
    assert_eq!(
        columns,
        [("Name", "name"), ("cpu", "quantity"), ("memory", "quantity"), ("Window", "duration")]
    );
    let row = &value["rows"][0];
    assert_eq!(row["cells"], json!(["web-0", "1012345n", "67109889", "15.123s"]));
    assert_eq!(row["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(row["object"]["metadata"]["labels"]["app"], "web");

    let with_swap = Table { include: IncludeObject::Object, has_swap: true, ..table };
    let row = written(|out| with_swap.write_row(out, Resource::Pods, &web().item()));
    let row: Value = serde_json::from_slice(&row).unwrap();
    assert_eq!(row["cells"][3], "4Ki");
    assert_eq!(row["object"]["kind"], "PodMetrics");
    let bare = Table { include: IncludeObject::None, ..table };
    let row = written(|out| bare.write_row(out, Resource::Nodes, &node().item()));
    assert_eq!(
        serde_json::from_slice::<Value>(&row).unwrap(),
        json!({"cells": ["n1", "2", "1Gi", "15.123s"], "object": null})
    );
    let empty = written(|out| {
        table.begin(out, None, false);
        table.end(out);
    });
    let empty: Value = serde_json::from_slice(&empty).unwrap();
    assert_eq!((&empty["columnDefinitions"], &empty["rows"]), (&json!(null), &json!([])));
    assert_eq!(IncludeObject::parse("All"), None);
}

#[test]
fn yaml_has_ordered_keys() {
    let body = written(|out| {
        yaml::begin_list(out, false);
        yaml::write_item(out, Resource::Pods, &web().item(), false);
        yaml::end_list(out, Resource::Pods, 7);
    });
    let expected = r#"apiVersion: metrics.k8s.io/v1beta1
items:
- containers:
  - name: "app"
    usage:
      cpu: "12345n"
      memory: "64Mi"
  - name: "log"
    usage:
      cpu: "1m"
      memory: "1025"
      swap: "4Ki"
  metadata:
    creationTimestamp: "2023-11-14T22:13:21Z"
    labels:
      "app": "web"
      "x/y": "true"
    name: "web-0"
    namespace: "shop"
  timestamp: "2023-11-14T22:13:20Z"
  window: "15.123s"
kind: PodMetricsList
metadata:
  resourceVersion: "7"
"#;
    assert_eq!(String::from_utf8(body).unwrap(), expected);
    let body = written(|out| yaml::write_item(out, Resource::Nodes, &node().item(), true));
    let expected = r#"apiVersion: metrics.k8s.io/v1beta1
kind: NodeMetrics
metadata:
  creationTimestamp: "2023-11-14T22:13:21Z"
  name: "n1"
timestamp: "2023-11-14T22:13:20Z"
usage:
  cpu: "2"
  memory: "1Gi"
window: "15.123s"
"#;
    assert_eq!(String::from_utf8(body).unwrap(), expected);
}

#[test]
fn a_node_is_decoded_from_protobuf() {
    let body = written(|out| protobuf::write_item(out, Resource::Nodes, &node().item()));
    let (kind, raw) = open(&body);
    assert_eq!(kind, "metrics.k8s.io/v1beta1 NodeMetrics");
    let decoded = upstream::NodeMetrics::decode(&raw[..]).unwrap();
    let metadata = decoded.metadata.unwrap();
    assert_eq!(metadata.name.as_deref(), Some("n1"));
    assert_eq!(metadata.creation_timestamp.unwrap().seconds, Some(1_700_000_001));
    assert_eq!(decoded.timestamp.unwrap().seconds, Some(1_700_000_000));
    assert_eq!(decoded.window.unwrap().duration, Some(15_123_000_000));
    assert_eq!(decoded.usage["cpu"].string.as_deref(), Some("2"));
    assert_eq!(decoded.usage["memory"].string.as_deref(), Some("1Gi"));
    assert_eq!(decoded.usage.len(), 2);
}

#[test]
fn frames_and_errors_are_decoded_from_protobuf() {
    let status = Status::not_found(Resource::Pods.missing(), "shop/web-0");
    let body = written(|out| protobuf::write_status(out, &status));
    for object in [body.clone(), vec![7; 200], vec![7; 40_000], Vec::new()] {
        let frame = written(|out| protobuf::write_frame(out, "ERROR", &object));
        let (length, event) = frame.split_first_chunk().unwrap();
        assert_eq!(u32::from_be_bytes(*length) as usize, event.len());
        let event = upstream::WatchEvent::decode(event).unwrap();
        assert_eq!(event.r#type.as_deref(), Some("ERROR"));
        assert_eq!(event.object.unwrap().raw, Some(object));
    }
    let (kind, raw) = open(&body);
    assert_eq!(kind, "v1 Status");
    let decoded = upstream::Status::decode(&raw[..]).unwrap();
    assert_eq!(decoded.message.as_deref(), Some(status.message.as_str()));
    assert_eq!((decoded.code, decoded.reason.as_deref()), (Some(404), Some("NotFound")));
    assert_eq!(decoded.status.as_deref(), Some("Failure"));
    let details = decoded.details.unwrap();
    assert_eq!(details.name.as_deref(), Some("shop/web-0"));
    assert_eq!(details.group.as_deref(), Some("metrics.k8s.io"));
    assert_eq!(details.kind.as_deref(), Some("podmetrics"));
}

fn any_usage() -> impl Strategy<Value = Usage> {
    (0..1u64 << 62, 0..1u64 << 62, proptest::option::of(0..1u64 << 40))
        .prop_map(|(cpu, memory, swap)| usage(cpu, memory, swap))
}

fn any_pod() -> impl Strategy<Value = Owned> {
    (
        ("\\PC{1,20}", "\\PC{0,300}", proptest::option::of(any::<u64>())),
        proptest::collection::btree_map("\\PC{0,70}", "\\PC{0,70}", 0..6),
        (0i64..4_000_000_000, 1i64..10_000_000),
        proptest::collection::vec(("[a-z\"<>&\\\\\n]{1,70}", any_usage()), 0..5),
    )
        .prop_map(|((namespace, name, version), labels, (at_s, window_ms), containers)| {
            Owned {
                namespace,
                name,
                version,
                labels: labels.into_iter().collect(),
                at_s,
                window_ms,
                containers,
            }
        })
}

fn same_usage(read: impl Fn(&str) -> Option<String>, usage: &Usage) -> bool {
    let quantity = |name: &str| read(name).map(|text| text.parse::<Quantity>().unwrap());
    quantity("cpu") == Some(Quantity::nanocores(usage.cpu_nanocores))
        && quantity("memory") == Some(Quantity::bytes(usage.memory_bytes))
        && quantity("swap") == usage.swap_bytes.map(Quantity::bytes)
}

proptest! {
    #[test]
    fn lists_are_read_back_from_json(pods in proptest::collection::vec(any_pod(), 0..4)) {
        let body = written(|out| {
            text::begin_list(out, Resource::Pods, 5);
            for (at, pod) in pods.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                text::write_item(out, Resource::Pods, &pod.item(), false);
            }
            text::end_list(out);
        });
        let list: Value = serde_json::from_slice(&body).unwrap();
        prop_assert_eq!(&list["kind"], "PodMetricsList");
        prop_assert_eq!(&list["metadata"]["resourceVersion"], "5");
        let items = list["items"].as_array().unwrap();
        prop_assert_eq!(items.len(), pods.len());
        for (item, pod) in items.iter().zip(&pods) {
            prop_assert_eq!(&item["metadata"]["name"], pod.name.as_str());
            prop_assert_eq!(&item["metadata"]["namespace"], pod.namespace.as_str());
            let version = pod.version.map(|v| json!(v.to_string())).unwrap_or_default();
            prop_assert_eq!(&item["metadata"]["resourceVersion"], &version);
            for (key, value) in &pod.labels {
                prop_assert_eq!(&item["metadata"]["labels"][key], value.as_str());
            }
            prop_assert_eq!(item["metadata"].get("labels").is_some(), !pod.labels.is_empty());
            for (container, (name, usage)) in
                item["containers"].as_array().unwrap().iter().zip(&pod.containers)
            {
                prop_assert_eq!(&container["name"], name.as_str());
                let read = |name: &str| Some(container["usage"].get(name)?.as_str()?.to_owned());
                prop_assert!(same_usage(read, usage));
            }
        }
    }

    #[test]
    fn lists_are_read_back_from_protobuf(pods in proptest::collection::vec(any_pod(), 0..4)) {
        let items = written(|out| {
            for pod in &pods {
                protobuf::write_list_item(out, Resource::Pods, &pod.item());
            }
        });
        let body = written(|out| {
            protobuf::begin_list(out, Resource::Pods, 5, items.len() as u64);
            out.extend_from_slice(&items);
            protobuf::end_list(out);
        });
        let (kind, raw) = open(&body);
        prop_assert_eq!(kind, "metrics.k8s.io/v1beta1 PodMetricsList");
        let list = upstream::PodMetricsList::decode(&raw[..]).unwrap();
        let version = list.metadata.unwrap().resource_version;
        prop_assert_eq!(version.as_deref(), Some("5"));
        prop_assert_eq!(list.items.len(), pods.len());
        for (item, pod) in list.items.into_iter().zip(&pods) {
            let metadata = item.metadata.unwrap();
            prop_assert_eq!(metadata.name.as_deref(), Some(pod.name.as_str()));
            prop_assert_eq!(metadata.namespace.as_deref(), Some(pod.namespace.as_str()));
            let version = pod.version.map(|v| v.to_string()).unwrap_or_default();
            prop_assert_eq!(metadata.resource_version, Some(version));
            prop_assert_eq!(metadata.labels.into_iter().collect::<Vec<_>>(), pod.labels.clone());
            prop_assert_eq!(item.timestamp.unwrap().seconds, Some(pod.at_s));
            prop_assert_eq!(item.window.unwrap().duration, Some(pod.window_ms * 1_000_000));
            prop_assert_eq!(item.containers.len(), pod.containers.len());
            for (container, (name, usage)) in item.containers.iter().zip(&pod.containers) {
                prop_assert_eq!(container.name.as_deref(), Some(name.as_str()));
                let read = |name: &str| container.usage.get(name)?.string.clone();
                prop_assert!(same_usage(read, usage));
            }
        }
    }
}
