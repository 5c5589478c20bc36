//! The end of a reconciliation, once it is known what became of writing the scale.

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerStatus;
use model::Timestamp;
use serde::{Deserialize, Serialize};

use super::conditions::{ABLE_TO_SCALE, SCALED_TO_ZERO, differs, time};
use super::course::asks_beyond_pods;
use super::draft::{Draft, reference};
use super::rules::{self, Direction, Rules};
use super::target;
use crate::decision::{Decision, EventNote, EventType};
use crate::inputs::{Inputs, Memory};

/// What became of writing the scale.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Written {
    /// The decision did not ask for it, or nobody was to write.
    NotAsked,
    /// It was written.
    Done,
    /// It failed: the API's error.
    Failed(String),
}

/// The end of a reconciliation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Conclusion {
    /// The status to write if it [differs](Self::status_changed) from the one before.
    pub status: HorizontalPodAutoscalerStatus,
    /// All events in order.
    pub events: Vec<EventNote>,
    /// What later decisions are to know.
    pub memory: Memory,
    /// What happened to the replicas.
    pub action: Action,
    /// Text of the reconciliation's error.
    pub error: Option<String>,
}

impl Conclusion {
    /// Whether the status says anything that `before` does not.
    #[must_use]
    pub fn status_changed(&self, before: &HorizontalPodAutoscalerStatus) -> bool {
        differs(before, &self.status)
    }

    /// Label `error` of the self-metrics about reconciliations.
    #[must_use]
    pub fn error_label(&self) -> &'static str {
        match &self.error {
            None => "none",
            Some(error) if target::is_about_specification(error) => "spec",
            Some(_) => "internal",
        }
    }
}

/// What happened to the replicas; label `action` of the self-metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// More were asked for.
    ScaleUp,
    /// Fewer were asked for.
    ScaleDown,
    /// Nothing.
    None,
}

impl Action {
    /// As a label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ScaleUp => "scale_up",
            Self::ScaleDown => "scale_down",
            Self::None => "none",
        }
    }
}

/// What follows from `decision` about `inputs`, given what became of writing the scale at `now`.
#[must_use]
pub fn conclude(
    inputs: &Inputs,
    decision: &Decision,
    written: &Written,
    now: Timestamp,
) -> Conclusion {
    let mut draft = Draft { inputs, now, decision: outline(decision) };
    let current = decision.current_replicas.unwrap_or_default();
    let action = match written {
        Written::NotAsked => Action::None,
        Written::Done => {
            rescaled(&mut draft, current);
            match Direction::of(current, decision.desired_replicas) {
                Direction::Up => Action::ScaleUp,
                Direction::Down => Action::ScaleDown,
            }
        }
        Written::Failed(why) => {
            not_rescaled(&mut draft, why);
            Action::None
        }
    };
    let Decision { status, mut events, memory, error, beyond, .. } = draft.decision;
    events.extend(beyond.events);
    Conclusion { status, events, memory, action, error }
}

/// A decision without its numbers, of which there are some for every pod.
fn outline(decision: &Decision) -> Decision {
    Decision {
        at: decision.at,
        current_replicas: decision.current_replicas,
        desired_replicas: decision.desired_replicas,
        rescale: decision.rescale,
        reason: decision.reason.clone(),
        metrics: Vec::new(),
        proposed_replicas: decision.proposed_replicas,
        proposed_by: String::new(),
        stabilization: None,
        rate_limit: None,
        bounds: decision.bounds,
        beyond: decision.beyond.clone(),
        conditions: Vec::new(),
        events: decision.events.clone(),
        error: decision.error.clone(),
        status: decision.status.clone(),
        memory: decision.memory.clone(),
    }
}

fn size(decision: &Decision) -> String {
    format!("New size: {}; reason: {}", decision.desired_replicas, decision.reason)
}

fn rescaled(draft: &mut Draft<'_>, current: i32) {
    let (inputs, now) = (draft.inputs, draft.now);
    let desired = draft.decision.desired_replicas;
    draft.set(
        ABLE_TO_SCALE,
        true,
        "SucceededRescale",
        format!("the HPA controller was able to update the target scale to {desired}"),
    );
    let message = size(&draft.decision);
    draft.decision.events.push(EventNote {
        kind: EventType::Normal,
        reason: "SuccessfulRescale".to_owned(),
        message,
    });
    let beyond = &mut draft.decision.memory.beyond;
    beyond.rescaled(&inputs.beyond.policy, current, desired, now);
    if let Some(behavior) = &inputs.spec.behavior {
        let direction = Direction::of(current, desired);
        let memory = &mut draft.decision.memory;
        let events = match direction {
            Direction::Up => &mut memory.scale_up_events,
            Direction::Down => &mut memory.scale_down_events,
        };
        let change = i32::try_from(desired.abs_diff(current)).unwrap_or(i32::MAX);
        rules::store(events, change, &Rules::of(behavior, direction), now);
    }
    if !inputs.constants.gates.scale_to_zero {
        draft.remove(SCALED_TO_ZERO);
    } else if current > 0
        && desired == 0
        && draft.decision.bounds.min_replicas == 0
        && asks_beyond_pods(&inputs.spec)
    {
        let message = "the HPA controller scaled the workload to zero";
        draft.set(SCALED_TO_ZERO, true, "ScaledToZero", message);
    } else {
        let message = "the HPA controller did not scale the workload to zero";
        draft.set(SCALED_TO_ZERO, false, "NotScaledToZero", message);
    }
    let status = &mut draft.decision.status;
    status.desired_replicas = desired;
    status.last_scale_time = time(now);
}

fn not_rescaled(draft: &mut Draft<'_>, why: &str) {
    let message = format!("{}; error: {why}", size(&draft.decision));
    draft.warn("FailedRescale", message);
    draft.set(
        ABLE_TO_SCALE,
        false,
        "FailedUpdateScale",
        format!("the HPA controller was unable to update the target scale: {why}"),
    );
    draft.decision.status.desired_replicas = draft.inputs.status.desired_replicas;
    draft.decision.error = Some(format!("failed to rescale {}: {why}", reference(draft.inputs)));
}
