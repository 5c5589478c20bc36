//! All that a decision is made from. What is here can be logged and decided again.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscalerSpec, HorizontalPodAutoscalerStatus,
};
use model::Timestamp;
use serde::{Deserialize, Serialize};

use crate::beyond::{Beyond, BeyondMemory};

/// Settings of the controller that take part in a decision. The defaults are upstream's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Constants {
    /// Deviation of the usage ratio from 1 that is not acted upon, both ways; 0.1.
    pub tolerance: f64,
    /// For how long after its start a pod's CPU usage is looked at with suspicion, in milliseconds; 5 min.
    pub cpu_initialization_period_ms: i64,
    /// A pod that became unready this soon after its start is taken to have never been ready, in milliseconds; 30 s.
    pub initial_readiness_delay_ms: i64,
    /// How long a high recommendation holds back scaling down where the autoscaler does not say, in milliseconds; 5 min.
    pub downscale_stabilization_ms: i64,
    /// Without `behavior` one decision multiplies replicas by this at most; 2.
    pub scale_up_limit_factor: f64,
    /// Without `behavior` one decision may go this far in any case; 4.
    pub scale_up_limit_minimum: f64,
    /// Feature gates.
    pub gates: Gates,
}

impl Default for Constants {
    fn default() -> Self {
        Self {
            tolerance: 0.1,
            cpu_initialization_period_ms: 300_000,
            initial_readiness_delay_ms: 30_000,
            downscale_stabilization_ms: 300_000,
            scale_up_limit_factor: 2.0,
            scale_up_limit_minimum: 4.0,
            gates: Gates::default(),
        }
    }
}

/// Feature gates of Kubernetes that take part in a decision. The defaults are those of 1.36.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Gates {
    /// Zero replicas may be scaled up and down to.
    #[serde(rename = "HPAScaleToZero")]
    pub scale_to_zero: bool,
    /// `behavior.*.tolerance` is heeded.
    #[serde(rename = "HPAConfigurableTolerance")]
    pub configurable_tolerance: bool,
    /// Requests of a whole pod are heeded.
    pub pod_level_resources: bool,
}

impl Default for Gates {
    fn default() -> Self {
        Self { scale_to_zero: false, configurable_tolerance: true, pod_level_resources: true }
    }
}

/// What one autoscaler's replicas are decided from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Inputs {
    /// Settings of the controller.
    pub constants: Constants,
    /// Namespace of the autoscaler and its target.
    pub namespace: String,
    /// Name of the autoscaler.
    pub name: String,
    /// The specification as the API server returns it, defaults filled in.
    pub spec: HorizontalPodAutoscalerSpec,
    /// The status before.
    pub status: HorizontalPodAutoscalerStatus,
    /// The target's scale, or why it could not be read.
    pub scale: Result<ScaleReading, String>,
    /// Pods that the scale's selector matches, or why they are not known. Of no matter if no metric is asked.
    pub pods: PodSet,
    /// The answer for each entry of `spec.metrics`, in order; `None` where nothing was asked.
    pub metrics: Vec<Option<MetricAnswer>>,
    /// What earlier decisions left behind.
    pub memory: Memory,
    /// What goes beyond upstream; nothing unless asked for.
    #[serde(default, skip_serializing_if = "Beyond::is_none")]
    pub beyond: Beyond,
}

/// The scale subresource of a target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScaleReading {
    /// Replicas that are asked for.
    pub spec_replicas: i32,
    /// Replicas that there are.
    pub status_replicas: i32,
    /// Selector of the pods in its text form; empty if the target has none.
    pub selector: String,
}

/// The pods of a target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PodSet {
    /// Matched by the selector, in order of names. Shared with the index that they come from, and written whole.
    Matched(Vec<Arc<PodFacts>>),
    /// Listing them failed: the API's error.
    Failed(String),
    /// The selector cannot be read: the parser's complaint.
    InvalidSelector(String),
    /// A pod of them is another autoscaler's too: `namespace/name` of all those, sorted, this one included.
    Ambiguous(Vec<String>),
}

/// What is asked of a pod. Quantities are in thousandths: 1 core is 1000, 1 byte is 1000.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodFacts {
    /// Its name.
    pub name: Arc<str>,
    /// Where it stands in its life; `None` if the status does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<PodPhase>,
    /// It has a deletion timestamp.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleting: bool,
    /// When the kubelet acknowledged it, in milliseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// The Ready condition, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<Readiness>,
    /// Requests of the pod as a whole, by resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_milli: Option<BTreeMap<String, i64>>,
    /// Its containers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub containers: Vec<ContainerRequests>,
    /// Its init containers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub init_containers: Vec<ContainerRequests>,
    /// What running the pod costs besides its containers, by resource.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub overhead_milli: BTreeMap<String, i64>,
}

/// `status.phase` of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PodPhase {
    /// Accepted, not all containers run.
    Pending,
    /// Bound, containers were made.
    Running,
    /// All containers ended well.
    Succeeded,
    /// All containers ended, one of them badly.
    Failed,
    /// The node does not answer.
    Unknown,
}

/// The Ready condition of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Readiness {
    /// Its status.
    pub status: ReadyStatus,
    /// When it last changed, in milliseconds since the epoch; 0 if it does not say.
    pub transition: Timestamp,
}

/// Status of a Ready condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReadyStatus {
    /// It serves.
    True,
    /// It does not.
    False,
    /// Nobody knows.
    Unknown,
}

/// Requests of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ContainerRequests {
    /// Its name.
    pub name: String,
    /// By resource, in thousandths; a resource that is missing has no request.
    pub requests_milli: BTreeMap<String, i64>,
    /// An init container that keeps running (`restartPolicy: Always`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restarts_always: bool,
}

/// What a metrics API answered for one entry of `spec.metrics`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MetricAnswer {
    /// A value a pod: Resource, ContainerResource, Pods. Pods without a value are left out. In the answer's order.
    Pods(Vec<PodReading>),
    /// Values of one object (exactly one) or of an external metric (any number).
    Values(Vec<ValueReading>),
    /// The text of the error, from `unable to fetch metrics from …` or `no metrics returned from …` on.
    Failed(String),
}

/// One pod's value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodReading {
    /// Name of the pod, which need not be known.
    pub pod: Arc<str>,
    /// The value in thousandths.
    pub value_milli: i64,
    /// When the window ended, in milliseconds since the epoch.
    pub timestamp: Timestamp,
    /// Length of the window in milliseconds; 60,000 for custom metrics that do not say.
    pub window_ms: i64,
}

/// One value of an object or an external metric.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ValueReading {
    /// The value in thousandths.
    pub value_milli: i64,
    /// When it was true, in milliseconds since the epoch.
    pub timestamp: Timestamp,
}

/// What decisions about one autoscaler leave to later ones.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Memory {
    /// Earlier recommendations in the order in which their places were taken. `None`: nothing was decided before, so that the
    /// current replicas are recorded first.
    pub recommendations: Option<Vec<Recommendation>>,
    /// Upscales that happened.
    pub scale_up_events: Vec<ScaleEvent>,
    /// Downscales that happened.
    pub scale_down_events: Vec<ScaleEvent>,
    /// What goes beyond upstream remembers; nothing unless asked for.
    #[serde(default, skip_serializing_if = "BeyondMemory::is_empty")]
    pub beyond: BeyondMemory,
}

/// A recommendation before stabilization.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Recommendation {
    /// Recommended replicas.
    pub replicas: i32,
    /// When, in milliseconds since the epoch.
    pub at: Timestamp,
}

/// A rescale that was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScaleEvent {
    /// By how many replicas, ≥ 0.
    pub change: i32,
    /// When, in milliseconds since the epoch.
    pub at: Timestamp,
    /// Older than every period of its direction: its place may be taken.
    pub outdated: bool,
}
