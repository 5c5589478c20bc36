//! What was decided, with every number on the way.

use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerStatus;
use model::Timestamp;
use serde::{Deserialize, Serialize};

use crate::beyond::BeyondDecision;
use crate::inputs::{Memory, Recommendation};

/// A decision about one autoscaler, before anything is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// When it was made, in milliseconds since the epoch.
    pub at: Timestamp,
    /// Replicas that the target asked for when it was made; `None` if its scale could not be read.
    pub current_replicas: Option<i32>,
    /// Replicas that it should ask for. Equals the current ones unless [`Self::rescale`].
    pub desired_replicas: i32,
    /// The scale is to be written.
    pub rescale: bool,
    /// Why, in the words of the event `SuccessfulRescale`; empty if there is nothing to say.
    pub reason: String,
    /// One for each entry of `spec.metrics` that was looked at, in order.
    pub metrics: Vec<MetricDecision>,
    /// The largest proposal, before stabilization; `None` if none was made or all failed.
    pub proposed_replicas: Option<i32>,
    /// Name of the metric that proposed it; empty if none did.
    pub proposed_by: String,
    /// What became of the proposal in the light of earlier ones.
    pub stabilization: Option<Stabilization>,
    /// How fast replicas may change, and what became of the proposal.
    pub rate_limit: Option<RateLimit>,
    /// Whether the current replicas were out of bounds, so that no metric was asked.
    pub bounds: BoundsCheck,
    /// What goes beyond upstream did.
    #[serde(default, skip_serializing_if = "BeyondDecision::is_none")]
    pub beyond: BeyondDecision,
    /// Conditions that were set or removed, in the order in which it happened, before any write.
    pub conditions: Vec<ConditionChange>,
    /// Events that are to be told, before any write.
    pub events: Vec<EventNote>,
    /// Why the decision fails or is partial; the text of the reconciliation's error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The status to write if nothing is rescaled. What a rescale adds, [`conclude`](crate::decide::conclude) knows.
    pub status: HorizontalPodAutoscalerStatus,
    /// What later decisions are to know, before any rescale.
    pub memory: Memory,
}

/// How the current replicas stand to the bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BoundsCheck {
    /// The lower bound that was applied.
    pub min_replicas: i32,
    /// The upper bound that was applied.
    pub max_replicas: i32,
    /// The current replicas were below, so that they are raised without asking any metric.
    pub below_min: bool,
    /// The current replicas were above, so that they are lowered without asking any metric.
    pub above_max: bool,
    /// The target is at zero and not by this controller's doing: scaling is off.
    pub disabled_at_zero: bool,
}

/// One metric's part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetricDecision {
    /// Which entry of `spec.metrics`, from 0.
    pub spec_index: usize,
    /// `type` of the entry.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its name in messages, such as `cpu resource utilization (percentage of request)`.
    pub name: String,
    /// The numbers, or why there are none: the text of the metric's error.
    pub outcome: Result<Proposal, String>,
    /// Reason of the condition and the event if it failed, such as `FailedGetResourceMetric`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_reason: Option<String>,
    /// Message of that event, which says less than the error about where it happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_message: Option<String>,
}

/// What a metric proposes and how it came to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Proposal {
    /// Proposed replicas.
    pub replicas: i32,
    /// What the target is.
    pub target: TargetKind,
    /// The target: percent for a utilization, thousandths otherwise.
    pub target_value: i64,
    /// Usage in percent of requests, for a utilization.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utilization_percent: Option<i32>,
    /// The reported value in thousandths: average a pod, or the whole.
    pub value_milli: i64,
    /// Usage to target, from pods that are ready and have a value.
    pub ratio: Ratio,
    /// The ratio again with values put in for missing and unready pods, where that was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebalanced: Option<Ratio>,
    /// What the ratio was multiplied with: pods, values or replicas; 0 if it was not.
    pub multiplied_by: i64,
    /// Which pods counted; `None` where pods were not asked about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<PodAccount>,
    /// Why the proposal is what it is, in a sentence.
    pub because: String,
}

/// What a metric's target is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TargetKind {
    /// Percent of the requests.
    Utilization,
    /// A value a pod.
    AverageValue,
    /// A value of the whole.
    Value,
}

/// A usage ratio and what the tolerance makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ratio {
    /// Usage divided by target. Never infinite nor undefined: anything to nothing is `f64::MAX`, nothing to nothing is 0.
    pub ratio: f64,
    /// Lowest ratio that changes nothing.
    pub tolerated_from: f64,
    /// Highest ratio that changes nothing.
    pub tolerated_to: f64,
    /// The ratio lies between the two.
    pub within_tolerance: bool,
}

/// Which pods counted for a metric, by name, each list in the order of the pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodAccount {
    /// Pods whose value counted.
    pub ready: Vec<Arc<str>>,
    /// Not ready yet, or too young for their CPU to say something; with why.
    pub unready: Vec<(Arc<str>, PodReason)>,
    /// Without a value.
    pub missing: Vec<Arc<str>>,
    /// Being deleted, or failed; with why.
    pub ignored: Vec<(Arc<str>, PodReason)>,
    /// Names with a value that are not among the pods; their values count in an average.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<Arc<str>>,
}

/// Why a pod did not count as ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PodReason {
    /// Ignored: it has a deletion timestamp.
    Deleting,
    /// Ignored: its phase is Failed.
    Failed,
    /// Ignored: its phase is Succeeded, and it has no request that utilization could be measured against.
    Completed,
    /// Unready: its phase is Pending.
    Pending,
    /// Unready: it has no Ready condition.
    NoReadyCondition,
    /// Unready: it has no start time.
    NoStartTime,
    /// Unready: it started lately and is not ready.
    StartingUp,
    /// Unready: it started lately, and its sample goes back to before it became ready.
    SampledBeforeReady,
    /// Unready: it is not ready and was last so, if ever, while it started.
    NeverReady,
}

impl fmt::Display for PodReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deleting => "it is being deleted",
            Self::Failed => "its phase is Failed",
            Self::Completed => "it has completed and has no request",
            Self::Pending => "its phase is Pending",
            Self::NoReadyCondition => "it has no Ready condition",
            Self::NoStartTime => "it has no start time",
            Self::StartingUp => "it started lately and is not ready",
            Self::SampledBeforeReady => {
                "it started lately and its sample goes back to before it became ready"
            }
            Self::NeverReady => "it was never ready",
        })
    }
}

/// What became of a proposal in the light of earlier ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stabilization {
    /// The proposal.
    pub proposed: i32,
    /// Length of the window for scaling up, in milliseconds; `None` without `behavior`.
    pub up_window_ms: Option<i64>,
    /// Length of the window for scaling down, in milliseconds.
    pub down_window_ms: i64,
    /// The recommendations within either window that were compared with.
    pub recommendations: Vec<Recommendation>,
    /// The result.
    pub stabilized: i32,
    /// Reason of the condition AbleToScale.
    pub reason: String,
}

/// How fast replicas may change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// The replicas that stabilization left.
    pub stabilized: i32,
    /// Each policy of the direction with what it allows; empty without `behavior` or where the direction is disabled.
    pub policies: Vec<PolicyLimit>,
    /// `Max`, `Min` or `Disabled`; empty without `behavior`.
    pub select: String,
    /// What the rates allow, before the bounds; `None` if nothing is to change.
    pub rate_limit: Option<i32>,
    /// The result, and what it was limited by.
    pub limit: Limit,
}

/// What one policy allows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyLimit {
    /// `Pods` or `Percent`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its value.
    pub value: i32,
    /// Its period in seconds.
    pub period_seconds: i32,
    /// Replicas added within the period.
    pub added: i32,
    /// Replicas removed within the period.
    pub removed: i32,
    /// Where the period began from.
    pub base: i32,
    /// Replicas that it allows.
    pub allows: i32,
}

/// The end of limiting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limit {
    /// Replicas.
    pub replicas: i32,
    /// Why.
    pub reason: LimitReason,
}

/// Reason of the condition ScalingLimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LimitReason {
    /// Nothing limited it.
    DesiredWithinRange,
    /// The lower bound did.
    TooFewReplicas,
    /// The upper bound did.
    TooManyReplicas,
    /// The rate of scaling up did.
    ScaleUpLimit,
    /// The rate of scaling down did.
    ScaleDownLimit,
}

/// A condition that was set, or removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConditionChange {
    /// `AbleToScale`, `ScalingActive`, `ScalingLimited` or `ScaledToZero`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True` or `False`; `None` if it was removed.
    pub status: Option<bool>,
    /// The reason in one word.
    pub reason: String,
    /// The reason in a sentence.
    pub message: String,
}

/// An event that is to be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventNote {
    /// Normal or Warning.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// The reason in one word.
    pub reason: String,
    /// The message.
    pub message: String,
}

/// How an event is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventType {
    /// All is well.
    Normal,
    /// Something is not.
    Warning,
}
