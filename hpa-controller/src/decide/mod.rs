//! The algorithm of Kubernetes 1.36, pure: [`plan`] says what to ask, [`decide`] decides, [`conclude`] says what to write once the scale
//! was written.
//!
//! Decisions, texts and the order of conditions and events are upstream's. What differs is arithmetic that overflows there:
//! it saturates here (see [`ratio`] and [`proposal::shared`]), and one thing on purpose: the sum of an external metric with an
//! `averageValue` may be negative. Upstream takes a sum below zero for one that overflowed and goes on with the largest number there
//! is, which asks for `maxReplicas`; here it is what it is, and asks for no replicas, as with a target of `value`.

mod conclusion;
mod conditions;
mod course;
mod draft;
mod group;
pub mod limit;
mod metric;
pub mod proposal;
pub mod quantity;
pub mod ratio;
pub mod readings;
mod requests;
pub mod rules;
mod selector;
pub mod source;
pub mod stabilize;
mod target;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;

use k8s_openapi::api::autoscaling::v2::{
    HPAScalingRules, HorizontalPodAutoscalerSpec, HorizontalPodAutoscalerStatus, MetricStatus,
};
use model::Timestamp;

pub use conclusion::{Action, Conclusion, Written, conclude};
pub use conditions::{SCALED_TO_ZERO, differs, expected_status};
pub use course::{keeping_one, metrics as effective_metrics};
pub use group::account;
pub use requests::requests;
pub use selector::GoNotation;
pub(crate) use target::INCOMPLETE_DISCOVERY;

use self::conditions::{ABLE_TO_SCALE, SCALING_ACTIVE, SCALING_LIMITED};
use self::course::Course;
use self::draft::Draft;
use self::limit::Bounds;
use self::proposal::Circumstances;
use self::ratio::Tolerances;
use self::rules::{Direction, Events, Rules};
use self::source::Source;
use crate::decision::{BoundsCheck, Decision, LimitReason};
use crate::inputs::{Constants, Inputs, PodSet, Recommendation, ScaleReading};
use crate::sources::MetricRequest;

const ABOVE_MAX: &str = "Current number of replicas above Spec.MaxReplicas";
/// Stands for the name of a metric where metrics failed and something else was asked for to happen then.
const FALLBACK: &str = "fallback for missing metrics";
const BELOW_MIN: &str = "Current number of replicas below Spec.MinReplicas";

/// What to ask metrics APIs for, one for each of the [`effective_metrics`] in order; `None` where there is nothing to ask for, as
/// the type is unknown or the target missing. Empty: neither metrics nor pods are needed.
#[must_use]
pub fn plan(
    constants: &Constants,
    namespace: &str,
    spec: &HorizontalPodAutoscalerSpec,
    status: &HorizontalPodAutoscalerStatus,
    scale: &ScaleReading,
) -> Vec<Option<MetricRequest>> {
    let bounds = course::bounds(spec);
    let course = Course::of(constants.gates, spec, status, scale.spec_replicas, bounds);
    if !matches!(course, Course::Metrics { .. }) || scale.selector.is_empty() {
        return Vec::new();
    }
    let request = |source: Source<'_>| source.request(namespace, &scale.selector);
    let metrics = effective_metrics(spec);
    metrics.iter().map(|metric| Source::of(metric)?.ok().map(request)).collect()
}

/// Decides about an autoscaler's replicas. The same inputs and time give the same decision.
#[must_use]
pub fn decide(inputs: &Inputs, now: Timestamp) -> Decision {
    let mut draft = Draft::new(inputs, now);
    let scale = match &inputs.scale {
        Ok(scale) => scale,
        Err(why) => {
            scale_is_unknown(&mut draft, why);
            return draft.decision;
        }
    };
    let current = scale.spec_replicas;
    draft.decision.current_replicas = Some(current);
    draft.set(
        ABLE_TO_SCALE,
        true,
        "SucceededGetScale",
        "the HPA controller was able to get the target's current scale",
    );
    draft
        .decision
        .memory
        .recommendations
        .get_or_insert_with(|| vec![Recommendation { replicas: current, at: now }]);

    let gates = inputs.constants.gates;
    let bounds = course::bounds(&inputs.spec);
    let (min, max) = inputs.beyond.bounds(bounds.min, bounds.max, now, &mut draft.decision.beyond);
    let bounds = Bounds { min, max };
    let course = Course::of(gates, &inputs.spec, &inputs.status, current, bounds);
    draft.decision.bounds = BoundsCheck {
        min_replicas: min,
        max_replicas: max,
        below_min: course == Course::BelowMin,
        above_max: course == Course::AboveMax,
        disabled_at_zero: course == Course::DisabledAtZero,
    };

    let mut statuses = None;
    let desired = match course {
        Course::DisabledAtZero => {
            disabled_at_zero(&mut draft);
            if !inputs.beyond.holds_at_a_number(now) {
                draft.report(current, current, None);
                draft.decision.desired_replicas = current;
                return draft.decision;
            }
            current
        }
        Course::AboveMax => {
            ABOVE_MAX.clone_into(&mut draft.decision.reason);
            max
        }
        Course::BelowMin => {
            BELOW_MIN.clone_into(&mut draft.decision.reason);
            min
        }
        Course::Metrics { from_zero } => {
            let computed = compute(&mut draft, scale);
            statuses = computed.statuses;
            if statuses.is_some() {
                let Decision { memory, beyond: did, .. } = &mut draft.decision;
                memory.beyond.looked(&inputs.beyond.policy, computed.replicas, did, now);
            }
            match computed.replicas {
                Some(best) => {
                    let mut desired = within_limits(&mut draft, current, best, bounds);
                    if from_zero && min != 0 && desired < min {
                        desired = min;
                        if draft.decision.reason.is_empty() {
                            BELOW_MIN.clone_into(&mut draft.decision.reason);
                        }
                    }
                    desired
                }
                None if inputs.beyond.holds_at_a_number(now) => current,
                None => {
                    draft.report(current, inputs.status.desired_replicas, statuses);
                    return draft.decision;
                }
            }
        }
    };
    let desired = hold(&mut draft, current, desired);
    draft.decision.desired_replicas = desired;
    draft.decision.rescale = desired != current;
    draft.report(current, current, statuses);
    draft.decision
}

/// What may hold replicas has the last word.
fn hold(draft: &mut Draft<'_>, current: i32, desired: i32) -> i32 {
    let (inputs, now) = (draft.inputs, draft.now);
    let bounds = course::bounds(&inputs.spec);
    let (bounds, memory) = ((bounds.min, bounds.max), &inputs.memory.beyond);
    let did = &mut draft.decision.beyond;
    let held = inputs.beyond.hold(memory, current, desired, bounds, now, did);
    if held != desired && held != current {
        draft.decision.reason = "paused at this number".to_owned();
    }
    held
}

/// The scale could not be read: nothing else is known.
fn scale_is_unknown(draft: &mut Draft<'_>, why: &str) {
    draft.warn("FailedGetScale", why);
    draft.set(
        ABLE_TO_SCALE,
        false,
        "FailedGetScale",
        format!("the HPA controller was unable to get the target's current scale: {why}"),
    );
    draft.decision.status.current_metrics.clone_from(&draft.inputs.status.current_metrics);
    draft.decision.error = Some(target::error(why).unwrap_or_else(|| {
        format!("failed to query scale subresource for {}: {why}", draft.reference())
    }));
}

fn disabled_at_zero(draft: &mut Draft<'_>) {
    draft.set(
        SCALING_ACTIVE,
        false,
        "ScalingDisabled",
        "scaling is disabled since the replica count of the target is zero",
    );
    if !draft.inputs.constants.gates.scale_to_zero {
        draft.remove(SCALED_TO_ZERO);
    }
}

/// What metrics come to.
struct Computed {
    /// Replicas to go on with; `None` if the reconciliation ends here.
    replicas: Option<i32>,
    /// A line for each metric; `None` if none was looked at.
    statuses: Option<Vec<MetricStatus>>,
}

/// Evaluates every metric and settles on what they propose together.
fn compute(draft: &mut Draft<'_>, scale: &ScaleReading) -> Computed {
    if let Err(error) = check_pods(draft, scale) {
        give_up(draft, error);
        return Computed { replicas: None, statuses: None };
    }
    let inputs = draft.inputs;
    let tolerances = match tolerances(inputs) {
        Ok(tolerances) => tolerances,
        Err(why) => {
            draft.set(
                SCALING_ACTIVE,
                false,
                "FailedComputeMetricsReplicas",
                format!("the HPA was unable to compute the replica count: {why}"),
            );
            give_up(draft, why);
            return Computed { replicas: None, statuses: None };
        }
    };
    let given = Circumstances {
        constants: &inputs.constants,
        pods: &inputs.pods,
        tolerances,
        current: scale.spec_replicas,
        available: scale.status_replicas,
        now: draft.now,
    };
    let specs = effective_metrics(&inputs.spec);
    let mut statuses = Vec::with_capacity(specs.len());
    for (at, spec) in specs.iter().enumerate() {
        let answer = inputs.metrics.get(at).and_then(Option::as_ref);
        let (decision, status) = metric::evaluate(at, spec, answer, &inputs.namespace, given);
        if let (Some(reason), Some(message)) = (&decision.failure_reason, &decision.failure_message)
        {
            draft.warn(reason, message);
        }
        draft.decision.metrics.push(decision);
        statuses.push(status);
    }
    Computed { replicas: best(draft, scale.spec_replicas), statuses: Some(statuses) }
}

/// Whether the pods are those of this autoscaler alone. The error is the reconciliation's, without its prefix.
fn check_pods(draft: &mut Draft<'_>, scale: &ScaleReading) -> Result<(), String> {
    let (event, reason, message, condition) = if scale.selector.is_empty() {
        let condition = "the HPA target's scale is missing a selector".to_owned();
        ("SelectorRequired", "InvalidSelector", "selector is required".to_owned(), Some(condition))
    } else {
        match &draft.inputs.pods {
            PodSet::Matched(_) | PodSet::Failed(_) => return Ok(()),
            PodSet::InvalidSelector(why) => {
                let message = format!(
                    "couldn't convert selector into a corresponding internal selector object: {why}"
                );
                ("InvalidSelector", "InvalidSelector", message, None)
            }
            PodSet::Ambiguous(autoscalers) => {
                let message = format!(
                    "pods by selector {} are controlled by multiple HPAs: [{}]",
                    scale.selector,
                    autoscalers.join(" ")
                );
                ("AmbiguousSelector", "AmbiguousSelector", message, None)
            }
        }
    };
    draft.warn(event, message.clone());
    draft.set(SCALING_ACTIVE, false, reason, condition.unwrap_or_else(|| message.clone()));
    Err(message)
}

/// The reconciliation ends without replicas.
fn give_up(draft: &mut Draft<'_>, error: String) {
    draft.decision.error = Some(format!(
        "failed to compute desired number of replicas based on listed metrics for {}: {error}",
        draft.reference()
    ));
    draft.warn("FailedComputeMetricsReplicas", error);
}

fn tolerances(inputs: &Inputs) -> Result<Tolerances, String> {
    let usual = inputs.constants.tolerance;
    let behavior = inputs.spec.behavior.as_ref();
    let behavior = behavior.filter(|_| inputs.constants.gates.configurable_tolerance);
    let of = |rules: Option<&HPAScalingRules>| {
        let given = rules.and_then(|rules| rules.tolerance.as_ref());
        given.map_or(Ok(usual), quantity::approximate)
    };
    Ok(Tolerances {
        up: of(behavior.and_then(|behavior| behavior.scale_up.as_ref()))?,
        down: of(behavior.and_then(|behavior| behavior.scale_down.as_ref()))?,
    })
}

/// The largest proposal. With metrics missing it may only be larger than what there is: nobody knows what they would have said.
fn best(draft: &mut Draft<'_>, current: i32) -> Option<i32> {
    let metrics = &draft.decision.metrics;
    let (mut best, mut name) = (0, "");
    for metric in metrics {
        if let Ok(proposal) = &metric.outcome
            && (best == 0 || proposal.replicas > best)
        {
            (best, name) = (proposal.replicas, metric.name.as_str());
        }
    }
    let failed = metrics.iter().filter(|metric| metric.outcome.is_err()).count();
    let first = metrics.iter().find_map(|metric| {
        let reason = metric.failure_reason.as_ref()?;
        Some((reason.clone(), metric.failure_message.as_ref()?, metric.outcome.as_ref().err()?))
    });
    let Some((reason, message, error)) = first else {
        return Some(propose(draft, best, name.to_owned(), true));
    };
    let error = format!(
        "invalid metrics ({failed} invalid out of {}), first error is: {error}",
        metrics.len()
    );
    let all_failed = failed == metrics.len();
    if !all_failed && best >= current {
        let name = name.to_owned();
        draft.decision.error = Some(error);
        return Some(propose(draft, best, name, true));
    }
    let condition = format!("the HPA was unable to compute the replica count: {message}");
    let proposed = (!all_failed).then_some((best, name.to_owned()));
    draft.set(SCALING_ACTIVE, false, &reason, condition);
    give_up(draft, error);
    if let Some((best, name)) = &proposed {
        draft.decision.proposed_replicas = Some(*best);
        draft.decision.proposed_by.clone_from(name);
    }
    let beyond = &draft.inputs.beyond;
    let best = proposed.map(|(best, _)| best);
    let (memory, did) = (&draft.inputs.memory.beyond, &mut draft.decision.beyond);
    let fallback = beyond.fallback(memory, current, best, draft.now, did)?;
    Some(propose(draft, fallback, FALLBACK.to_owned(), false))
}

/// Settles on a proposal, and says from what it is.
fn propose(draft: &mut Draft<'_>, replicas: i32, name: String, from_metrics: bool) -> i32 {
    if from_metrics {
        draft.set(
            SCALING_ACTIVE,
            true,
            "ValidMetricFound",
            format!("the HPA was able to successfully calculate a replica count from {name}"),
        );
    }
    // Upstream takes a proposal over only if it is larger than nothing: one below zero comes to no replicas, and from no metric.
    let (replicas, name) = if replicas < 0 { (0, String::new()) } else { (replicas, name) };
    draft.decision.proposed_replicas = Some(replicas);
    draft.decision.proposed_by = name;
    replicas
}

/// From the proposal to what earlier ones, the rates and the bounds leave of it.
fn within_limits(draft: &mut Draft<'_>, current: i32, best: i32, bounds: Bounds) -> i32 {
    let (inputs, now) = (draft.inputs, draft.now);
    let proposed = inputs.beyond.raise(best, now, &mut draft.decision.beyond);
    draft.decision.reason = match proposed.cmp(&current) {
        Ordering::Equal => String::new(),
        _ if draft.decision.proposed_by == FALLBACK => FALLBACK.to_owned(),
        Ordering::Greater if proposed > best => "raised above what metrics ask for".to_owned(),
        Ordering::Greater => format!("{} above target", draft.decision.proposed_by),
        Ordering::Less => "All metrics below target".to_owned(),
    };
    let behavior = inputs.spec.behavior.as_ref();
    let rules = behavior
        .map(|behavior| (Rules::of(behavior, Direction::Up), Rules::of(behavior, Direction::Down)));
    let default_window = inputs.constants.downscale_stabilization_ms;
    // Where a behavior leaves its window open, upstream fills in the controller's as a field of the API, which has whole seconds.
    let whole_seconds = default_window - default_window % 1000;
    let memory = &mut draft.decision.memory;
    let recommendations = memory.recommendations.get_or_insert_default();
    let stabilization = match &rules {
        None => stabilize::plain(proposed, default_window, recommendations, now),
        Some((up, down)) => stabilize::with_windows(
            current,
            proposed,
            up.window_ms.unwrap_or(0),
            down.window_ms.unwrap_or(whole_seconds),
            recommendations,
            now,
        ),
    };
    let stabilized = stabilization.stabilized;
    let rate_limit = match &rules {
        None => limit::plain(current, stabilized, bounds, &inputs.constants),
        Some((up, down)) => {
            let events = Events { up: &memory.scale_up_events, down: &memory.scale_down_events };
            limit::with_rules(current, stabilized, bounds, (up, down), events, now)
        }
    };
    let (replicas, reason) = (rate_limit.limit.replicas, rate_limit.limit.reason);
    draft.set(
        ABLE_TO_SCALE,
        true,
        &stabilization.reason,
        stabilize::message(&stabilization.reason),
    );
    let limited = reason != LimitReason::DesiredWithinRange;
    draft.set(SCALING_LIMITED, limited, reason.as_str(), reason.message());
    draft.decision.stabilization = Some(stabilization);
    draft.decision.rate_limit = Some(rate_limit);
    replicas
}
