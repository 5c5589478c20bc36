//! The status that a decision leaves: conditions, and whether there is anything to write.

use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff;
use model::Timestamp;

use crate::decision::ConditionChange;

/// Type of the condition that says whether the scale can be read and written, and whether it may change.
pub(super) const ABLE_TO_SCALE: &str = "AbleToScale";
/// Type of the condition that says whether metrics lead to replicas.
pub(super) const SCALING_ACTIVE: &str = "ScalingActive";
/// Type of the condition that says whether a limit changed the count.
pub(super) const SCALING_LIMITED: &str = "ScalingLimited";
/// Type of the condition that says whether it was an autoscaler that took the last replica.
pub const SCALED_TO_ZERO: &str = "ScaledToZero";

/// A time in an object of the API: whole seconds, as it is read back.
pub(super) fn time(at: Timestamp) -> Option<Time> {
    jiff::Timestamp::from_second(at.div_euclid(1000)).ok().map(Time)
}

/// Whether the condition is there and True.
pub(super) fn is_true(status: &HorizontalPodAutoscalerStatus, kind: &str) -> bool {
    let conditions = status.conditions.iter().flatten();
    conditions.into_iter().any(|one| one.type_ == kind && one.status == "True")
}

/// The status of a condition of this type where all is well; `None` if the type is not there then.
pub fn expected_status(kind: &str) -> Option<&'static str> {
    match kind {
        ABLE_TO_SCALE | SCALING_ACTIVE => Some("True"),
        SCALING_LIMITED => Some("False"),
        _ => None,
    }
}

/// Applies `change` in place, so that the order of conditions is kept; the time moves only with the status.
pub(super) fn apply(
    conditions: &mut Vec<HorizontalPodAutoscalerCondition>,
    change: &ConditionChange,
    now: Timestamp,
) {
    let Some(status) = change.status else {
        conditions.retain(|one| one.type_ != change.kind);
        return;
    };
    let status = if status { "True" } else { "False" };
    let place = match conditions.iter().position(|one| one.type_ == change.kind) {
        Some(place) => place,
        None => {
            conditions.push(HorizontalPodAutoscalerCondition {
                type_: change.kind.clone(),
                ..HorizontalPodAutoscalerCondition::default()
            });
            conditions.len() - 1
        }
    };
    let one = &mut conditions[place];
    if one.status != status {
        status.clone_into(&mut one.status);
        one.last_transition_time = time(now);
    }
    change.reason.clone_into(one.reason.get_or_insert_default());
    change.message.clone_into(one.message.get_or_insert_default());
}

/// Whether `after` says anything that `before` does not: absent and empty lists, and absent and zero replicas, are the same
/// to the API.
#[must_use]
pub fn differs(
    before: &HorizontalPodAutoscalerStatus,
    after: &HorizontalPodAutoscalerStatus,
) -> bool {
    let list = |a: Option<usize>, b: Option<usize>| a.unwrap_or(0) == 0 && b.unwrap_or(0) == 0;
    let lengths = |of: &HorizontalPodAutoscalerStatus| {
        (of.conditions.as_ref().map(Vec::len), of.current_metrics.as_ref().map(Vec::len))
    };
    let (was, is) = (lengths(before), lengths(after));
    before.current_replicas.unwrap_or(0) != after.current_replicas.unwrap_or(0)
        || before.desired_replicas != after.desired_replicas
        || before.last_scale_time != after.last_scale_time
        || before.observed_generation != after.observed_generation
        || (before.conditions != after.conditions && !list(was.0, is.0))
        || (before.current_metrics != after.current_metrics && !list(was.1, is.1))
}
