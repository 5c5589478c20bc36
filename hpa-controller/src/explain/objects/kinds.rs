//! The kinds that are looked at, as far as they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use metrics_api::Quantity;
use model::Timestamp;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::owned::Owner;
use crate::decide::readings::{ContainerUsage, PodUsage};
use crate::inputs::{ContainerRequests, PodFacts, PodPhase, Readiness, ReadyStatus, ScaleReading};
use crate::selector;
use crate::spec::{ReadError, typed};

/// Window of a custom metric that does not say, in milliseconds.
const WINDOW_MS: i64 = 60_000;

/// Labels of an object.
pub(super) type Labels = BTreeMap<String, String>;

/// An object with a namespace and a name.
pub(super) trait Keyed {
    fn key(&self) -> (String, String);
}

/// The namespace of an object that need not say one, as kubectl has it.
pub(super) fn namespace(given: Option<&str>) -> String {
    given.filter(|given| !given.is_empty()).unwrap_or("default").to_owned()
}

fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A moment, in milliseconds since the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Time(Timestamp);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time: jiff::Timestamp = text.parse().map_err(|_| {
            serde::de::Error::custom(format_args!("{text:?} is not a time by RFC 3339"))
        })?;
        Ok(Self(time.as_millisecond()))
    }
}

/// A duration in Go's notation, in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Window(i64);

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let duration: jiff::SignedDuration = text.parse().map_err(|_| {
            serde::de::Error::custom(format_args!("{text:?} is not a duration such as 15s"))
        })?;
        Ok(Self(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: String,
    namespace: Option<String>,
    #[serde(deserialize_with = "or_default")]
    labels: Labels,
    deletion_timestamp: Option<Time>,
    #[serde(deserialize_with = "or_default")]
    uid: String,
    #[serde(deserialize_with = "or_default")]
    owner_references: Vec<Owner>,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "PodObject")]
pub(super) struct PodSaved {
    pub(super) namespace: String,
    pub(super) labels: Labels,
    pub(super) facts: Arc<PodFacts>,
    pub(super) owner: Option<Owner>,
}

impl Keyed for PodSaved {
    fn key(&self) -> (String, String) {
        (self.namespace.clone(), self.facts.name.to_string())
    }
}

#[derive(Debug, Deserialize)]
struct PodObject {
    metadata: Metadata,
    #[serde(default)]
    spec: PodSpec,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    #[serde(deserialize_with = "or_default")]
    containers: Vec<Container>,
    #[serde(deserialize_with = "or_default")]
    init_containers: Vec<Container>,
    resources: Option<Resources>,
    #[serde(deserialize_with = "or_default")]
    overhead: BTreeMap<String, Quantity>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    name: String,
    #[serde(deserialize_with = "or_default")]
    resources: Resources,
    restart_policy: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Resources {
    #[serde(deserialize_with = "or_default")]
    requests: BTreeMap<String, Quantity>,
    #[serde(deserialize_with = "or_default")]
    limits: BTreeMap<String, Quantity>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodStatus {
    phase: Option<String>,
    start_time: Option<Time>,
    #[serde(deserialize_with = "or_default")]
    conditions: Vec<Condition>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    last_transition_time: Option<Time>,
}

fn milli(amounts: &BTreeMap<String, Quantity>) -> BTreeMap<String, i64> {
    amounts.iter().map(|(resource, amount)| (resource.clone(), amount.milli_value())).collect()
}

impl Container {
    /// What has a limit and no request requests its limit: the API server writes that into every pod.
    fn requests(self) -> ContainerRequests {
        let mut requests_milli = milli(&self.resources.limits);
        requests_milli.extend(milli(&self.resources.requests));
        let restarts_always = self.restart_policy.as_deref() == Some("Always");
        ContainerRequests { name: self.name, requests_milli, restarts_always }
    }
}

impl TryFrom<PodObject> for PodSaved {
    type Error = String;

    fn try_from(pod: PodObject) -> Result<Self, String> {
        let PodObject { metadata, spec, status } = pod;
        if metadata.name.is_empty() {
            return Err(String::from("a pod without a name"));
        }
        let phase = match status.phase.as_deref() {
            None | Some("") => None,
            Some("Pending") => Some(PodPhase::Pending),
            Some("Running") => Some(PodPhase::Running),
            Some("Succeeded") => Some(PodPhase::Succeeded),
            Some("Failed") => Some(PodPhase::Failed),
            Some("Unknown") => Some(PodPhase::Unknown),
            Some(other) => return Err(format!("status.phase: no pod has the phase {other:?}")),
        };
        let ready = status.conditions.iter().find(|condition| condition.kind == "Ready");
        let ready = ready.map(Condition::readiness).transpose()?;
        let facts = PodFacts {
            name: metadata.name.into(),
            phase,
            deleting: metadata.deletion_timestamp.is_some(),
            started: status.start_time.map(|time| time.0),
            ready,
            requests_milli: spec.resources.map(|resources| milli(&resources.requests)),
            containers: spec.containers.into_iter().map(Container::requests).collect(),
            init_containers: spec.init_containers.into_iter().map(Container::requests).collect(),
            overhead_milli: milli(&spec.overhead),
        };
        Ok(Self {
            namespace: namespace(metadata.namespace.as_deref()),
            labels: metadata.labels,
            facts: Arc::new(facts),
            owner: Owner::controlling(metadata.owner_references),
        })
    }
}

impl Condition {
    fn readiness(&self) -> Result<Readiness, String> {
        let status = match self.status.as_str() {
            "True" => ReadyStatus::True,
            "False" => ReadyStatus::False,
            "Unknown" => ReadyStatus::Unknown,
            other => return Err(format!("status.conditions: Ready is {other:?}")),
        };
        Ok(Readiness { status, transition: self.last_transition_time.unwrap_or_default().0 })
    }
}

/// A scale subresource, which does not say whose it is but by name.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(from = "ScaleSaved")]
pub(super) struct ScaleObject {
    namespace: String,
    name: String,
    /// The target's.
    pub(super) uid: String,
    pub(super) reading: ScaleReading,
}

impl Keyed for ScaleObject {
    fn key(&self) -> (String, String) {
        (self.namespace.clone(), self.name.clone())
    }
}

#[derive(Debug, Deserialize)]
struct ScaleSaved {
    metadata: Metadata,
    #[serde(default)]
    spec: Replicas,
    #[serde(default)]
    status: Replicas,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Replicas {
    replicas: i32,
    selector: String,
}

impl From<ScaleSaved> for ScaleObject {
    fn from(scale: ScaleSaved) -> Self {
        Self {
            namespace: namespace(scale.metadata.namespace.as_deref()),
            name: scale.metadata.name,
            uid: scale.metadata.uid,
            reading: ScaleReading {
                spec_replicas: scale.spec.replicas,
                status_replicas: scale.status.replicas,
                selector: scale.status.selector,
            },
        }
    }
}

/// Something that has replicas, with its scale subresource as it would be.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Workload {
    pub(super) group: String,
    pub(super) kind: String,
    pub(super) namespace: String,
    pub(super) name: String,
    /// Empty if it does not say.
    pub(super) uid: String,
    pub(super) owner: Option<Owner>,
    pub(super) reading: ScaleReading,
}

impl Workload {
    /// `None`: it has no replicas.
    ///
    /// Of kinds that Kubernetes does not have the fields are taken that such kinds by custom have: `spec.replicas`,
    /// `status.replicas`, and the selector as a text in `status.selector` or as an object in `spec.selector`.
    pub(super) fn new(
        group: &str,
        kind: &str,
        mut object: Value,
    ) -> Result<Option<Self>, ReadError> {
        let known = matches!(
            (group, kind),
            ("apps", "Deployment" | "StatefulSet" | "ReplicaSet") | ("", "ReplicationController")
        );
        let has = |part: &str| object[part].get("replicas").is_some();
        if !known && !has("spec") && !has("status") {
            return Ok(None);
        }
        let metadata: Metadata = typed(object["metadata"].take(), "metadata")?;
        let replicas = |part: &str, default: i32| -> Result<i32, ReadError> {
            let value = object[part].get("replicas").cloned().unwrap_or_default();
            let given: Option<i32> = typed(value, &format!("{part}.replicas"))?;
            Ok(given.unwrap_or(default))
        };
        let (spec_replicas, status_replicas) = (replicas("spec", 1)?, replicas("status", 0)?);
        Ok(Some(Self {
            group: group.to_owned(),
            kind: kind.to_owned(),
            namespace: namespace(metadata.namespace.as_deref()),
            name: metadata.name,
            uid: metadata.uid,
            owner: Owner::controlling(metadata.owner_references),
            reading: ScaleReading {
                spec_replicas,
                status_replicas,
                selector: selector_of(kind, &object)?,
            },
        }))
    }

    pub(super) fn is(&self, group: &str, kind: &str) -> bool {
        self.group == group && self.kind == kind
    }

    /// Whether both are of one kind, and so, if of one name, the same object.
    pub(super) fn is_of_the_kind_of(&self, other: &Self) -> bool {
        self.is(&other.group, &other.kind)
    }
}

impl Keyed for Workload {
    fn key(&self) -> (String, String) {
        (self.namespace.clone(), self.name.clone())
    }
}

fn selector_of(kind: &str, object: &Value) -> Result<String, ReadError> {
    if let Some(text) = object["status"]["selector"].as_str() {
        return Ok(text.to_owned());
    }
    let given = object["spec"]["selector"].clone();
    if kind == "ReplicationController" {
        let own: Option<Labels> = typed(given, "spec.selector")?;
        // Without one of its own it selects by the labels of its pods.
        let labels = match own {
            Some(own) if !own.is_empty() => own,
            _ => {
                let labels = object["spec"]["template"]["metadata"]["labels"].clone();
                typed::<Option<Labels>>(labels, "spec.template.metadata.labels")?
                    .unwrap_or_default()
            }
        };
        let selector = LabelSelector { match_labels: Some(labels), match_expressions: None };
        return Ok(selector::text(&selector).unwrap_or_default());
    }
    let given: Option<LabelSelector> = typed(given, "spec.selector")?;
    selector::text(&given.unwrap_or_default()).map_err(|error| ReadError {
        path: String::from("spec.selector"),
        message: error.to_string(),
    })
}

/// `PodMetrics`
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "PodMetrics")]
pub(super) struct UsageSaved {
    pub(super) namespace: String,
    pub(super) pod: Arc<str>,
    pub(super) labels: Labels,
    pub(super) timestamp: Timestamp,
    window_ms: i64,
    containers: Vec<ContainerUsage>,
}

impl UsageSaved {
    pub(super) fn usage(&self) -> PodUsage {
        PodUsage {
            pod: Arc::clone(&self.pod),
            timestamp: self.timestamp,
            window_ms: self.window_ms,
            containers: self.containers.clone(),
        }
    }
}

#[derive(Debug, Deserialize)]
struct PodMetrics {
    metadata: Metadata,
    #[serde(default, deserialize_with = "or_default")]
    timestamp: Time,
    #[serde(default, deserialize_with = "or_default")]
    window: Window,
    #[serde(default, deserialize_with = "or_default")]
    containers: Vec<ContainerMetrics>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ContainerMetrics {
    name: String,
    #[serde(deserialize_with = "or_default")]
    usage: BTreeMap<String, Quantity>,
}

impl From<PodMetrics> for UsageSaved {
    fn from(metrics: PodMetrics) -> Self {
        let container = |container: ContainerMetrics| ContainerUsage {
            name: container.name,
            usage_milli: milli(&container.usage).into_iter().collect(),
        };
        Self {
            namespace: namespace(metrics.metadata.namespace.as_deref()),
            pod: metrics.metadata.name.into(),
            labels: metrics.metadata.labels,
            timestamp: metrics.timestamp.0,
            window_ms: metrics.window.0,
            containers: metrics.containers.into_iter().map(container).collect(),
        }
    }
}

/// `MetricValue` of either version.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "MetricValue")]
pub(super) struct CustomValue {
    pub(super) kind: String,
    /// Empty for what is in no namespace.
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) metric: String,
    /// The selector of series that was asked with, as text.
    pub(super) selector: String,
    pub(super) timestamp: Timestamp,
    pub(super) window_ms: i64,
    pub(super) value_milli: i64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct MetricValue {
    described_object: Described,
    /// v1beta2
    metric: Option<Identifier>,
    /// v1beta1
    metric_name: Option<String>,
    selector: Option<LabelSelector>,
    #[serde(default, deserialize_with = "or_default")]
    timestamp: Time,
    #[serde(alias = "window")]
    window_seconds: Option<i64>,
    value: Quantity,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Described {
    kind: String,
    #[serde(deserialize_with = "or_default")]
    namespace: String,
    name: String,
}

#[derive(Debug, Deserialize)]
struct Identifier {
    name: String,
    selector: Option<LabelSelector>,
}

impl TryFrom<MetricValue> for CustomValue {
    type Error = String;

    fn try_from(value: MetricValue) -> Result<Self, String> {
        let (metric, selector) = match (value.metric, value.metric_name) {
            (Some(metric), _) => (metric.name, metric.selector),
            (None, Some(name)) => (name, value.selector),
            (None, None) => return Err(String::from("it has neither metric nor metricName")),
        };
        Ok(Self {
            kind: value.described_object.kind,
            namespace: value.described_object.namespace,
            name: value.described_object.name,
            metric,
            selector: selector::text(&selector.unwrap_or_default())
                .map_err(|error| error.to_string())?,
            timestamp: value.timestamp.0,
            window_ms: value
                .window_seconds
                .map_or(WINDOW_MS, |seconds| seconds.saturating_mul(1000)),
            value_milli: value.value.milli_value(),
        })
    }
}

/// `ExternalMetricValue`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(from = "ExternalMetricValue")]
pub(super) struct ExternalValue {
    pub(super) metric: String,
    pub(super) labels: Labels,
    pub(super) timestamp: Timestamp,
    pub(super) value_milli: i64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExternalMetricValue {
    metric_name: String,
    #[serde(default, deserialize_with = "or_default")]
    metric_labels: Labels,
    #[serde(default, deserialize_with = "or_default")]
    timestamp: Time,
    value: Quantity,
}

impl From<ExternalMetricValue> for ExternalValue {
    fn from(value: ExternalMetricValue) -> Self {
        Self {
            metric: value.metric_name,
            labels: value.metric_labels,
            timestamp: value.timestamp.0,
            value_milli: value.value.milli_value(),
        }
    }
}
