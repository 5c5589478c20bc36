//! The JSON of an explanation: a decision, what it was made from as far as one reads it, and what comes of it.

use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerStatus, MetricSpec,
};
use serde::{Deserialize, Serialize};

use crate::beyond::BeyondDecision;
use crate::decide::{Action, Conclusion, Written, conclude};
use crate::decision::{
    BoundsCheck, ConditionChange, Decision, EventNote, MetricDecision, Proposal, RateLimit,
    Stabilization,
};
use crate::inputs::{Inputs, Memory, PodSet, ScaleReading};
use crate::selector;
use crate::state::{Logged, Mode};

/// A decision about one autoscaler with all that led to it. Its `Display` is the story.
///
/// Fields are only ever added.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Namespace of the autoscaler.
    pub namespace: String,
    /// Name of the autoscaler.
    pub name: String,
    /// When it was decided, RFC 3339.
    pub at: String,
    /// What is scaled.
    pub target: Target,
    /// The target's scale; `null` if it could not be read.
    pub scale: Option<ScaleReading>,
    /// Replicas that the target asks for; those of the autoscaler's status if the scale could not be read.
    pub current_replicas: i32,
    /// Replicas that it should ask for; the current ones unless `rescale`.
    pub desired_replicas: i32,
    /// The scale is to be written.
    pub rescale: bool,
    /// What happens to the replicas.
    pub action: Action,
    /// Why, in the words of the event `SuccessfulRescale`; empty if there is nothing to say.
    pub reason: String,
    /// Text of the reconciliation's error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The bounds and how the current replicas stand to them.
    pub bounds: BoundsCheck,
    /// The pods that the scale's selector matches.
    pub pods: PodsSeen,
    /// One for each entry of `spec.metrics` that was looked at, in order.
    pub metrics: Vec<MetricExplanation>,
    /// The largest proposal, before stabilization.
    pub proposed_replicas: Option<i32>,
    /// Name of the metric that proposed it; empty if none did.
    pub proposed_by: String,
    /// What became of the proposal in the light of earlier ones.
    pub stabilization: Option<Stabilization>,
    /// How fast replicas may change, and what became of the proposal.
    pub rate_limit: Option<RateLimit>,
    /// What goes beyond upstream did.
    #[serde(default, skip_serializing_if = "BeyondDecision::is_none")]
    pub beyond: BeyondDecision,
    /// The conditions of the status afterwards.
    pub conditions: Vec<HorizontalPodAutoscalerCondition>,
    /// Which of them were set or removed before any write, in the order in which it happened.
    pub condition_changes: Vec<ConditionChange>,
    /// All events in order.
    pub events: Vec<EventNote>,
    /// The status afterwards.
    pub status: HorizontalPodAutoscalerStatus,
    /// What later decisions know.
    pub memory: Memory,
    /// What the API server would refuse the specification for; such a one is decided on nevertheless.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub invalid: Vec<String>,
    /// What is not known, what was assumed for it and where from other things are known, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What an autoscaler scales.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// Group and version; empty for the core group without a version.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Name; the namespace is the autoscaler's.
    pub name: String,
}

/// The pods of a target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodsSeen {
    /// How many the selector matches; 0 if that is not known.
    pub matched: usize,
    /// Why that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// One metric's part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetricExplanation {
    /// Which entry of `spec.metrics`, from 0.
    pub spec_index: usize,
    /// `type` of the entry.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its name in messages.
    pub name: String,
    /// What it is measured in: `cpu`, `memory`; empty for metrics whose unit only their maker knows.
    pub resource: String,
    /// Which series of it, for Pods, Object and External: a label selector as text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub selector: String,
    /// The numbers; `null` if it failed.
    pub proposal: Option<Proposal>,
    /// Why there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Reason of the condition and the event if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_reason: Option<String>,
    /// Message of that event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_message: Option<String>,
}

/// Puts together what there is to say about a decision and what came of it.
#[must_use]
pub fn document(inputs: &Inputs, decision: &Decision, conclusion: &Conclusion) -> Explanation {
    let target = &inputs.spec.scale_target_ref;
    let status = &conclusion.status;
    let current = decision.current_replicas.or(status.current_replicas).unwrap_or_default();
    Explanation {
        namespace: inputs.namespace.clone(),
        name: inputs.name.clone(),
        at: rfc3339(decision.at),
        target: Target {
            api_version: target.api_version.clone().unwrap_or_default(),
            kind: target.kind.clone(),
            name: target.name.clone(),
        },
        scale: inputs.scale.as_ref().ok().cloned(),
        current_replicas: current,
        // The status of a computation that failed keeps what it said before, which nobody wants now.
        desired_replicas: if decision.rescale { decision.desired_replicas } else { current },
        rescale: decision.rescale,
        action: conclusion.action,
        reason: decision.reason.clone(),
        error: conclusion.error.clone(),
        bounds: decision.bounds,
        pods: seen(&inputs.pods),
        metrics: decision.metrics.iter().map(|metric| explained(inputs, metric)).collect(),
        proposed_replicas: decision.proposed_replicas,
        proposed_by: decision.proposed_by.clone(),
        stabilization: decision.stabilization.clone(),
        rate_limit: decision.rate_limit.clone(),
        beyond: decision.beyond.clone(),
        conditions: status.conditions.clone().unwrap_or_default(),
        condition_changes: decision.conditions.clone(),
        events: conclusion.events.clone(),
        status: status.clone(),
        memory: conclusion.memory.clone(),
        invalid: Vec::new(),
        notes: Vec::new(),
    }
}

/// What there is to say about a decision that a controller made and kept.
#[must_use]
pub fn logged(logged: &Logged) -> Explanation {
    let Logged { inputs, decision, written, mode, at, .. } = logged;
    let mut explanation = document(inputs, decision, &conclude(inputs, decision, written, *at));
    if *mode == Mode::Shadow && *written == Written::Done {
        // A controller in shadow mode writes nothing: what counts as done was published for another one.
        let note = "the autoscaler is steered: the count was published for the cluster's own controller, which writes replicas, status and events";
        explanation.notes.push(String::from(note));
    } else if *mode == Mode::Shadow {
        let note = "the controller is in shadow mode: it wrote neither replicas nor status, and told no event";
        explanation.notes.push(String::from(note));
    } else if decision.rescale && *written == Written::NotAsked {
        let note = "the replicas were not written: the controller was not to carry this out when it came to that";
        explanation.notes.push(String::from(note));
    }
    explanation
}

fn seen(pods: &PodSet) -> PodsSeen {
    let error = match pods {
        PodSet::Matched(pods) => return PodsSeen { matched: pods.len(), error: None },
        PodSet::Failed(error) => format!("they could not be listed: {error}"),
        PodSet::InvalidSelector(error) => format!("the selector cannot be read: {error}"),
        PodSet::Ambiguous(names) => {
            format!("they belong to several autoscalers: {}", names.join(", "))
        }
    };
    PodsSeen { matched: 0, error: Some(error) }
}

fn explained(inputs: &Inputs, metric: &MetricDecision) -> MetricExplanation {
    let spec = inputs.spec.metrics.iter().flatten().nth(metric.spec_index);
    let resource = spec.and_then(|spec| {
        let whole = spec.resource.as_ref().map(|resource| resource.name.clone());
        whole.or_else(|| spec.container_resource.as_ref().map(|resource| resource.name.clone()))
    });
    MetricExplanation {
        spec_index: metric.spec_index,
        kind: metric.kind.clone(),
        name: metric.name.clone(),
        resource: resource.unwrap_or_default(),
        selector: spec.map(selector_of).unwrap_or_default(),
        proposal: metric.outcome.as_ref().ok().cloned(),
        error: metric.outcome.as_ref().err().cloned(),
        failure_reason: metric.failure_reason.clone(),
        failure_message: metric.failure_message.clone(),
    }
}

fn selector_of(spec: &MetricSpec) -> String {
    let pods = spec.pods.as_ref().map(|source| &source.metric);
    let object = || spec.object.as_ref().map(|source| &source.metric);
    let external = || spec.external.as_ref().map(|source| &source.metric);
    let metric = pods.or_else(object).or_else(external);
    let selector = metric.and_then(|metric| metric.selector.as_ref());
    // One that is no selector fails where the metric is looked at.
    selector.and_then(|selector| selector::text(selector).ok()).unwrap_or_default()
}

/// A time as the API server writes it, with milliseconds if there are any.
pub(super) fn rfc3339(at: model::Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at).map_or_else(|_| at.to_string(), |at| at.to_string())
}
