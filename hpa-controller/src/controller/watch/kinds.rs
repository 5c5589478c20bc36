//! What is watched, as far as it is looked at: the rest is dropped while it is parsed.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscalerSpec, HorizontalPodAutoscalerStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference, Time};
use kube::api::ObjectMeta;
use kube::core::DynamicResourceScope;
use model::Timestamp;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::lenient::{Lenient, Milli, SomeTime};
use crate::beyond::{self, Beyond, LeftOut, Policy};
use crate::decision::EventNote;
use crate::forecast::ForecastReading;
use crate::inputs::{ContainerRequests, PodFacts, PodPhase, Readiness, ReadyStatus};
use crate::steer;

/// A kind of object. The client library takes it where it would take a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::controller) struct Kind {
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
}

pub(in crate::controller) const HPAS: Kind = Kind {
    group: "autoscaling",
    version: "v2",
    kind: "HorizontalPodAutoscaler",
    plural: "horizontalpodautoscalers",
};
pub(in crate::controller) const PODS: Kind =
    Kind { group: "", version: "v1", kind: "Pod", plural: "pods" };
pub(in crate::controller) const POD_METRICS: Kind =
    Kind { group: "metrics.k8s.io", version: "v1beta1", kind: "PodMetrics", plural: "pods" };
/// The kinds whose scale is read from watches.
pub(in crate::controller) const WORKLOADS: [Kind; 3] = [
    Kind { group: "apps", version: "v1", kind: "Deployment", plural: "deployments" },
    Kind { group: "apps", version: "v1", kind: "ReplicaSet", plural: "replicasets" },
    Kind { group: "apps", version: "v1", kind: "StatefulSet", plural: "statefulsets" },
];

macro_rules! watched {
    ($($type:ty),+) => {$(
        impl kube::Resource for $type {
            type DynamicType = Kind;
            type Scope = DynamicResourceScope;

            fn kind(kind: &Kind) -> Cow<'_, str> {
                Cow::Borrowed(kind.kind)
            }

            fn group(kind: &Kind) -> Cow<'_, str> {
                Cow::Borrowed(kind.group)
            }

            fn version(kind: &Kind) -> Cow<'_, str> {
                Cow::Borrowed(kind.version)
            }

            fn plural(kind: &Kind) -> Cow<'_, str> {
                Cow::Borrowed(kind.plural)
            }

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    )+};
}

watched!(HpaObject, PodObject, Workload, PodMetricsObject);

/// Who wrote the status, as the server says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
pub(in crate::controller) struct FieldManager {
    pub manager: String,
    pub subresource: String,
    pub time: Option<String>,
}

/// An autoscaler: all of it but what the fields of each writer are.
#[derive(Clone, Debug)]
pub(in crate::controller) struct HpaObject {
    pub metadata: ObjectMeta,
    pub spec: HorizontalPodAutoscalerSpec,
    pub status: HorizontalPodAutoscalerStatus,
    /// The writers of the status.
    pub status_writers: Vec<FieldManager>,
    /// Whether the server tells writers at all.
    pub tells_writers: bool,
    /// What is asked for beyond upstream, and what is wrong with it.
    pub beyond: Arc<(Policy, Vec<EventNote>)>,
    /// What it is decided from if another controller is steered by it, or why that cannot be read.
    pub steered: Option<Result<HorizontalPodAutoscalerSpec, String>>,
    /// Why it cannot be read: then only its metadata says anything, and it must not be acted upon.
    pub unreadable: Option<String>,
}

/// Bytes of what is said about an object that cannot be read.
const COMPLAINT_BYTES_MAX: usize = 512;

impl<'de> Deserialize<'de> for HpaObject {
    /// One that cannot be read does not fail the list that it is in.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Ok(RawHpa::deserialize(&value)
            .map_or_else(|error| Self::unreadable(&value, error.to_string()), Self::from))
    }
}

impl HpaObject {
    fn unreadable(value: &Value, mut complaint: String) -> Self {
        complaint.truncate(complaint.floor_char_boundary(COMPLAINT_BYTES_MAX));
        let text = |key: &str| value["metadata"][key].as_str().map(String::from);
        Self {
            metadata: ObjectMeta {
                name: text("name"),
                namespace: text("namespace"),
                uid: text("uid"),
                resource_version: text("resourceVersion"),
                ..ObjectMeta::default()
            },
            spec: HorizontalPodAutoscalerSpec::default(),
            status: HorizontalPodAutoscalerStatus::default(),
            status_writers: Vec::new(),
            tells_writers: false,
            beyond: Arc::default(),
            steered: None,
            unreadable: Some(complaint),
        }
    }

    pub(in crate::controller) fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    pub(in crate::controller) fn resource_version(&self) -> &str {
        self.metadata.resource_version.as_deref().unwrap_or_default()
    }

    /// What goes beyond upstream, known at `now`.
    pub(in crate::controller) fn gather(
        &self,
        forecast: Option<Result<ForecastReading, String>>,
        left_out: Option<LeftOut>,
        now: Timestamp,
    ) -> Beyond {
        let (policy, wrong) = &*self.beyond;
        if wrong.is_empty() && *policy == Policy::default() {
            return Beyond::default();
        }
        beyond::gather(policy, wrong, forecast, left_out, now)
    }
}

/// Writers of one object that are looked at.
const WRITERS_MAX: usize = 64;

#[derive(Deserialize)]
struct RawHpa {
    metadata: RawHpaMeta,
    spec: HorizontalPodAutoscalerSpec,
    #[serde(default)]
    status: Option<HorizontalPodAutoscalerStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawHpaMeta {
    name: Option<String>,
    generate_name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    deletion_grace_period_seconds: Option<i64>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<OwnerReference>>,
    finalizers: Option<Vec<String>>,
    #[serde(default)]
    managed_fields: Vec<FieldManager>,
}

impl From<RawHpa> for HpaObject {
    fn from(raw: RawHpa) -> Self {
        let meta = raw.metadata;
        let tells_writers = !meta.managed_fields.is_empty();
        let mut status_writers = meta.managed_fields;
        status_writers.retain(|writer| writer.subresource == "status");
        status_writers.truncate(WRITERS_MAX);
        let annotations = meta.annotations.as_ref();
        let steered = annotations.and_then(|all| steer::real_spec(all, &raw.spec));
        Self {
            beyond: Arc::new(annotations.map(beyond::parse).unwrap_or_default()),
            steered: steered.map(|spec| spec.map_err(|error| error.to_string())),
            metadata: ObjectMeta {
                name: meta.name,
                generate_name: meta.generate_name,
                namespace: meta.namespace,
                uid: meta.uid,
                resource_version: meta.resource_version,
                generation: meta.generation,
                creation_timestamp: meta.creation_timestamp,
                deletion_timestamp: meta.deletion_timestamp,
                deletion_grace_period_seconds: meta.deletion_grace_period_seconds,
                labels: meta.labels,
                annotations: meta.annotations,
                owner_references: meta.owner_references,
                finalizers: meta.finalizers,
                ..ObjectMeta::default()
            },
            spec: raw.spec,
            status: raw.status.unwrap_or_default(),
            status_writers,
            tells_writers,
            unreadable: None,
        }
    }
}

/// An autoscaler as it is written.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::controller) struct HpaBody<'a> {
    pub api_version: &'static str,
    pub kind: &'static str,
    pub metadata: &'a ObjectMeta,
    pub spec: &'a HorizontalPodAutoscalerSpec,
    pub status: &'a HorizontalPodAutoscalerStatus,
}

/// Metadata of which little is needed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawMeta {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    deletion_timestamp: Option<IgnoredAny>,
    #[serde(default)]
    owner_references: Vec<RawOwner>,
}

#[derive(Deserialize)]
struct RawOwner {
    uid: String,
    #[serde(default)]
    controller: bool,
}

impl RawMeta {
    /// The uid of the object that controls this one.
    fn owner(&self) -> Option<Box<str>> {
        let owner = self.owner_references.iter().find(|owner| owner.controller)?;
        Some(Box::from(owner.uid.as_str()))
    }

    fn object_meta(self) -> ObjectMeta {
        ObjectMeta {
            name: self.name,
            namespace: self.namespace,
            uid: self.uid,
            resource_version: self.resource_version,
            labels: self.labels,
            ..ObjectMeta::default()
        }
    }
}

/// A Deployment, ReplicaSet or StatefulSet: its scale.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "RawWorkload")]
pub(in crate::controller) struct Workload {
    pub metadata: ObjectMeta,
    pub spec_replicas: i32,
    pub status_replicas: i32,
    pub selector: Option<LabelSelector>,
    /// The uid of its controller.
    pub owner: Option<Box<str>>,
}

#[derive(Deserialize)]
struct RawWorkload {
    metadata: RawMeta,
    #[serde(default)]
    spec: RawWorkloadSpec,
    #[serde(default)]
    status: RawWorkloadStatus,
}

#[derive(Default, Deserialize)]
struct RawWorkloadSpec {
    #[serde(default)]
    replicas: Lenient<Option<i32>>,
    #[serde(default)]
    selector: Lenient<Option<LabelSelector>>,
}

#[derive(Default, Deserialize)]
struct RawWorkloadStatus {
    #[serde(default)]
    replicas: Lenient<i32>,
}

impl From<RawWorkload> for Workload {
    fn from(raw: RawWorkload) -> Self {
        let owner = raw.metadata.owner();
        let metadata = raw.metadata.object_meta();
        let scale = (raw.spec.replicas.0, raw.status.replicas.0, raw.spec.selector.0);
        let (spec_replicas, status_replicas, selector) = match scale {
            (Ok(spec), Ok(status), Ok(selector)) => (spec.unwrap_or(1), status, selector),
            (Err(error), ..) | (_, Err(error), _) | (.., Err(error)) => {
                let namespace = metadata.namespace.as_deref().unwrap_or_default();
                let name = metadata.name.as_deref().unwrap_or_default();
                tracing::warn!(
                    namespace,
                    name,
                    error,
                    "the scale of a workload cannot be read from a watch"
                );
                // Without a selector the server is asked.
                (0, 0, None)
            }
        };
        Self { metadata, spec_replicas, status_replicas, selector, owner }
    }
}

/// A pod: its labels and what decisions ask of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "RawPod")]
pub(in crate::controller) struct PodObject {
    /// Without labels and name, which are below.
    pub metadata: ObjectMeta,
    pub facts: PodFacts,
    /// The uid of its controller.
    pub owner: Option<Box<str>>,
}

/// The sample of a pod. Its values are asked for by whoever needs them.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "RawPodMetrics")]
pub(in crate::controller) struct PodMetricsObject {
    pub metadata: ObjectMeta,
}

#[derive(Deserialize)]
struct RawPodMetrics {
    metadata: RawMeta,
}

impl From<RawPodMetrics> for PodMetricsObject {
    fn from(raw: RawPodMetrics) -> Self {
        let metadata = ObjectMeta { labels: None, ..raw.metadata.object_meta() };
        Self { metadata }
    }
}

#[derive(Deserialize)]
struct RawPod {
    metadata: RawMeta,
    #[serde(default)]
    spec: RawPodSpec,
    #[serde(default)]
    status: RawPodStatus,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawPodSpec {
    containers: Vec<RawContainer>,
    init_containers: Vec<RawContainer>,
    resources: Option<RawResources>,
    overhead: Option<BTreeMap<String, Milli>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawContainer {
    name: String,
    #[serde(default)]
    resources: RawResources,
    restart_policy: Option<String>,
}

#[derive(Default, Deserialize)]
struct RawResources {
    requests: Option<BTreeMap<String, Milli>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawPodStatus {
    phase: Option<String>,
    start_time: Option<SomeTime>,
    conditions: Option<Vec<RawCondition>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawCondition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    last_transition_time: Option<SomeTime>,
}

fn milli(quantities: BTreeMap<String, Milli>) -> BTreeMap<String, i64> {
    quantities.into_iter().filter_map(|(resource, Milli(value))| Some((resource, value?))).collect()
}

impl From<RawContainer> for ContainerRequests {
    fn from(raw: RawContainer) -> Self {
        Self {
            name: raw.name,
            requests_milli: milli(raw.resources.requests.unwrap_or_default()),
            restarts_always: raw.restart_policy.as_deref() == Some("Always"),
        }
    }
}

fn readiness(conditions: &[RawCondition]) -> Option<Readiness> {
    let ready = conditions.iter().find(|condition| condition.kind == "Ready")?;
    let status = match ready.status.as_str() {
        "True" => ReadyStatus::True,
        "False" => ReadyStatus::False,
        _ => ReadyStatus::Unknown,
    };
    Some(Readiness {
        status,
        transition: ready.last_transition_time.and_then(|time| time.0).unwrap_or(0),
    })
}

impl From<RawPod> for PodObject {
    fn from(raw: RawPod) -> Self {
        let phase = match raw.status.phase.as_deref() {
            Some("Pending") => Some(PodPhase::Pending),
            Some("Running") => Some(PodPhase::Running),
            Some("Succeeded") => Some(PodPhase::Succeeded),
            Some("Failed") => Some(PodPhase::Failed),
            Some("Unknown") => Some(PodPhase::Unknown),
            _ => None,
        };
        let facts = PodFacts {
            name: raw.metadata.name.as_deref().unwrap_or_default().into(),
            phase,
            deleting: raw.metadata.deletion_timestamp.is_some(),
            started: raw.status.start_time.and_then(|time| time.0),
            ready: raw.status.conditions.as_deref().and_then(readiness),
            requests_milli: raw.spec.resources.and_then(|r| r.requests).map(milli),
            containers: raw.spec.containers.into_iter().map(ContainerRequests::from).collect(),
            init_containers: raw
                .spec
                .init_containers
                .into_iter()
                .map(ContainerRequests::from)
                .collect(),
            overhead_milli: milli(raw.spec.overhead.unwrap_or_default()),
        };
        Self { owner: raw.metadata.owner(), metadata: raw.metadata.object_meta(), facts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strange_values_of_one_object_do_not_fail_a_list() {
        let pods: Vec<PodObject> = serde_json::from_value(serde_json::json!([
            {"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "resources": {"requests": {
                "cpu": "1e1002", "memory": "1234567890123456789012345678901234567890", "x": "much"}}}]},
                "status": {"startTime": "9999-12-31T23:59:59Z"}},
            {"metadata": {"name": "b"}},
        ]))
        .unwrap();
        let requests = &pods[0].facts.containers[0].requests_milli;
        let largest = |key: &str| (String::from(key), i64::MAX);
        assert_eq!(*requests, BTreeMap::from([largest("cpu"), largest("memory")]));
        assert_eq!(pods[0].facts.started, None);
        assert_eq!(&*pods[1].facts.name, "b");

        let workloads: Vec<Workload> = serde_json::from_value(serde_json::json!([
            {"metadata": {"name": "a"}, "spec": {"replicas": "many", "selector": {"matchLabels": {"a": "b"}}}},
            {"metadata": {"name": "b"}, "spec": {"replicas": 3, "selector": {"matchLabels": {"a": "b"}}}},
        ]))
        .unwrap();
        assert_eq!(workloads[0].selector, None);
        assert_eq!((workloads[1].spec_replicas, workloads[1].selector.is_some()), (3, true));
    }

    #[test]
    fn the_metadata_of_an_autoscaler_is_written_as_it_was_read() {
        let metadata = serde_json::json!({
            "name": "a-x1", "generateName": "a-", "namespace": "web", "uid": "1", "resourceVersion": "7",
            "generation": 2, "creationTimestamp": "2023-11-14T22:13:20Z",
            "deletionTimestamp": "2023-11-14T22:13:20Z", "deletionGracePeriodSeconds": 0,
            "labels": {"a": "b"}, "annotations": {"c": "d"}, "finalizers": ["e/f"],
            "ownerReferences": [{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "0"}],
        });
        let hpa: HpaObject = serde_json::from_value(serde_json::json!({
            "metadata": metadata,
            "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "web"}},
        }))
        .unwrap();
        assert_eq!(serde_json::to_value(&hpa.metadata).unwrap(), metadata);
    }

    #[test]
    fn of_a_pod_what_decisions_ask_is_kept() {
        let json = r#"{
            "metadata": {"name": "a", "namespace": "web", "uid": "1", "resourceVersion": "7", "labels": {"app": "web"},
                "deletionTimestamp": "2023-11-14T22:13:20Z", "managedFields": [{"manager": "x", "fieldsV1": {"f:a": {}}}],
                "ownerReferences": [{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "0"},
                    {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "2", "controller": true}]},
            "spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "250m", "memory": "1Ki"}}}],
                "initContainers": [{"name": "i", "restartPolicy": "Always"}], "overhead": {"cpu": "10m"},
                "resources": {"requests": {"cpu": "1"}}},
            "status": {"phase": "Running", "startTime": "2023-11-14T22:13:20Z", "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2023-11-14T22:13:30Z"}]}}"#;
        let pod: PodObject = serde_json::from_str(json).unwrap();
        assert_eq!(pod.owner.as_deref(), Some("2"));
        assert_eq!(pod.metadata.resource_version.as_deref(), Some("7"));
        let map = |pairs: &[(&str, i64)]| {
            pairs
                .iter()
                .map(|(key, value)| (String::from(*key), *value))
                .collect::<BTreeMap<_, _>>()
        };
        assert_eq!(
            pod.facts,
            PodFacts {
                name: "a".into(),
                phase: Some(PodPhase::Running),
                deleting: true,
                started: Some(1_700_000_000_000),
                ready: Some(Readiness { status: ReadyStatus::True, transition: 1_700_000_010_000 }),
                requests_milli: Some(map(&[("cpu", 1000)])),
                containers: vec![ContainerRequests {
                    name: String::from("c"),
                    requests_milli: map(&[("cpu", 250), ("memory", 1_024_000)]),
                    restarts_always: false,
                }],
                init_containers: vec![ContainerRequests {
                    name: String::from("i"),
                    requests_milli: BTreeMap::new(),
                    restarts_always: true,
                }],
                overhead_milli: map(&[("cpu", 10)]),
            }
        );
    }

    #[test]
    fn of_an_autoscaler_all_but_the_fields_of_writers_is_kept() {
        let json = r#"{
            "metadata": {"name": "a", "namespace": "web", "uid": "1", "resourceVersion": "7", "annotations": {"x": "y"},
                "finalizers": ["f"], "managedFields": [
                    {"manager": "kubectl", "operation": "Apply", "time": "2023-11-14T22:13:20Z", "fieldsV1": {"f:spec": {}}},
                    {"manager": "kube-controller-manager", "operation": "Update", "subresource": "status",
                     "time": "2023-11-14T22:13:21Z", "fieldsV1": {"f:status": {}}}]},
            "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "web", "apiVersion": "apps/v1"}}}"#;
        let hpa: HpaObject = serde_json::from_str(json).unwrap();
        assert!(hpa.tells_writers);
        assert_eq!(
            hpa.status_writers,
            [FieldManager {
                manager: String::from("kube-controller-manager"),
                subresource: String::from("status"),
                time: Some(String::from("2023-11-14T22:13:21Z")),
            }]
        );
        let written = serde_json::to_value(HpaBody {
            api_version: "autoscaling/v2",
            kind: "HorizontalPodAutoscaler",
            metadata: &hpa.metadata,
            spec: &hpa.spec,
            status: &hpa.status,
        })
        .unwrap();
        assert_eq!(written["metadata"]["annotations"]["x"], "y");
        assert_eq!(written["metadata"]["finalizers"][0], "f");
        assert_eq!(written["metadata"]["resourceVersion"], "7");
        assert!(written["metadata"].get("managedFields").is_none());
    }

    #[test]
    fn a_workload_without_replicas_has_one() {
        let json = r#"{"metadata": {"name": "a"}, "spec": {"selector": {"matchLabels": {"a": "b"}}}, "status": {"replicas": 2}}"#;
        let workload: Workload = serde_json::from_str(json).unwrap();
        assert_eq!((workload.spec_replicas, workload.status_replicas), (1, 2));
    }
}
