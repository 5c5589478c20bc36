//! A decision while it is made.

use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscalerStatus, MetricStatus};
use model::Timestamp;

use super::conditions::apply;
use crate::beyond::BeyondDecision;
use crate::decision::{BoundsCheck, ConditionChange, Decision, EventNote, EventType};
use crate::inputs::Inputs;

/// Collects what a decision says.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    pub(super) inputs: &'a Inputs,
    pub(super) now: Timestamp,
    pub(super) decision: Decision,
}

impl<'a> Draft<'a> {
    /// Nothing was found out yet. The metrics of the status before are left out, as nearly every decision has its own.
    pub(super) fn new(inputs: &'a Inputs, now: Timestamp) -> Self {
        let decision = Decision {
            at: now,
            current_replicas: None,
            desired_replicas: inputs.status.desired_replicas,
            rescale: false,
            reason: String::new(),
            metrics: Vec::new(),
            proposed_replicas: None,
            proposed_by: String::new(),
            stabilization: None,
            rate_limit: None,
            bounds: BoundsCheck::default(),
            beyond: BeyondDecision::default(),
            conditions: Vec::new(),
            events: Vec::new(),
            error: None,
            status: HorizontalPodAutoscalerStatus {
                conditions: inputs.status.conditions.clone(),
                current_metrics: None,
                current_replicas: inputs.status.current_replicas,
                desired_replicas: inputs.status.desired_replicas,
                last_scale_time: inputs.status.last_scale_time.clone(),
                observed_generation: inputs.status.observed_generation,
            },
            memory: inputs.memory.clone(),
        };
        Self { inputs, now, decision }
    }

    /// Sets a condition.
    pub(super) fn set(
        &mut self,
        kind: &str,
        status: bool,
        reason: &str,
        message: impl Into<String>,
    ) {
        self.change(ConditionChange {
            kind: kind.to_owned(),
            status: Some(status),
            reason: reason.to_owned(),
            message: message.into(),
        });
    }

    /// Takes a condition out, if it is there.
    pub(super) fn remove(&mut self, kind: &str) {
        let mut conditions = self.decision.status.conditions.iter().flatten();
        if conditions.any(|one| one.type_ == kind) {
            self.change(ConditionChange {
                kind: kind.to_owned(),
                status: None,
                reason: String::new(),
                message: String::new(),
            });
        }
    }

    fn change(&mut self, change: ConditionChange) {
        let conditions = self.decision.status.conditions.get_or_insert_default();
        apply(conditions, &change, self.now);
        self.decision.conditions.push(change);
    }

    /// Tells an event of something that went wrong.
    pub(super) fn warn(&mut self, reason: &str, message: impl Into<String>) {
        self.decision.events.push(EventNote {
            kind: EventType::Warning,
            reason: reason.to_owned(),
            message: message.into(),
        });
    }

    /// `KIND/NAMESPACE/NAME` of the target.
    pub(super) fn reference(&self) -> String {
        reference(self.inputs)
    }

    /// Fills in the counts of the status; what is not among them starts anew with every decision.
    pub(super) fn report(
        &mut self,
        current: i32,
        desired: i32,
        metrics: Option<Vec<MetricStatus>>,
    ) {
        let status = &mut self.decision.status;
        *status = HorizontalPodAutoscalerStatus {
            conditions: status.conditions.take(),
            current_metrics: metrics,
            current_replicas: Some(current),
            desired_replicas: desired,
            last_scale_time: status.last_scale_time.take(),
            observed_generation: None,
        };
    }
}

/// `KIND/NAMESPACE/NAME` of the target.
pub(super) fn reference(inputs: &Inputs) -> String {
    let target = &inputs.spec.scale_target_ref;
    format!("{}/{}/{}", target.kind, inputs.namespace, target.name)
}
