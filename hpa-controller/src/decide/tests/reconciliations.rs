//! Whole reconciliations: courses, failures, conditions, memory.

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerCondition;

use super::{
    NOW, ago, average, concluded, condition, cpu, cpu_inputs, custom, event, external, inputs, is,
    metric, object, of_pods, pod, recommendation, resource, rules, shared, utilization, value,
    values,
};
use crate::decide::{Action, Written, conclude, decide, differs, keeping_one, plan};
use crate::inputs::{Inputs, MetricAnswer, PodSet, Recommendation};
use crate::sources::MetricRequest;

/// Scaled to zero by an autoscaler, which is allowed.
fn at_zero(mut given: Inputs, min: i32) -> Inputs {
    given.constants.gates.scale_to_zero = true;
    given.spec.min_replicas = Some(min);
    given.status.conditions = Some(vec![HorizontalPodAutoscalerCondition {
        type_: "ScaledToZero".to_owned(),
        status: "True".to_owned(),
        ..HorizontalPodAutoscalerCondition::default()
    }]);
    given
}

/// What is asked for.
fn planned(given: &Inputs) -> Vec<Option<MetricRequest>> {
    let scale = given.scale.as_ref().unwrap();
    plan(&given.constants, &given.namespace, &given.spec, &given.status, scale)
}

#[test]
fn of_equal_proposals_the_first_is_named() {
    let metrics = vec![custom(average("10")), cpu(50)];
    let answers = vec![Some(of_pods(&[20_000, 20_000])), Some(of_pods(&[1000, 1000]))];
    let decision = decide(&inputs(2, metrics, answers), NOW);
    assert_eq!(decision.reason, "pods metric qps above target");
    let active = decision.conditions.iter().find(|one| one.kind == "ScalingActive").unwrap();
    assert_eq!(
        active.message,
        "the HPA was able to successfully calculate a replica count from pods metric qps"
    );
}

#[test]
fn a_proposal_of_nothing_gives_way_to_any_other() {
    let metrics = || vec![external(value("10")), object(value("10"))];
    let answers = |a, b| vec![Some(values(&[a])), Some(values(&[b]))];
    let decision = decide(&inputs(2, metrics(), answers(0, 5000)), NOW);
    assert_eq!(
        (decision.proposed_replicas, decision.proposed_by.as_str()),
        (Some(1), "Ingress metric hits")
    );
    // Even to another of nothing, which is then the one that is named.
    let decision = decide(&inputs(2, metrics(), answers(0, 0)), NOW);
    assert_eq!(
        (decision.proposed_replicas, decision.proposed_by.as_str()),
        (Some(0), "Ingress metric hits")
    );
}

#[test]
fn from_zero_without_metrics_beyond_pods() {
    let at = |min| at_zero(inputs(0, vec![cpu(50)], vec![Some(of_pods(&[]))]), min);
    // Nothing could ever bring it back.
    let (decision, conclusion) = concluded(&at(0));
    assert!(planned(&at(0)).is_empty());
    assert!(decision.bounds.disabled_at_zero && !decision.rescale);
    assert_eq!(condition(&conclusion, "ScalingActive"), is("False", "ScalingDisabled"));
    assert_eq!(condition(&conclusion, "ScaledToZero").unwrap().0, "True");
    // With a minimum metrics are asked all the same, which cannot work without pods.
    let given = at(2);
    assert_eq!(planned(&given).len(), 1);
    let (decision, conclusion) = concluded(&given);
    assert!(!decision.bounds.disabled_at_zero && !decision.rescale);
    assert_eq!(condition(&conclusion, "ScalingActive"), is("False", "FailedGetResourceMetric"));
}

#[test]
fn from_zero_to_the_minimum() {
    let at = |min, milli, max| {
        let mut given = inputs(0, vec![external(value("10"))], vec![Some(values(&[milli]))]);
        given.spec.max_replicas = max;
        decide(&at_zero(given, min), NOW)
    };
    // The ratio, rounded up; no tolerance.
    assert_eq!(at(0, 10_500, 100).desired_replicas, 2);
    assert_eq!(at(0, 1, 100).desired_replicas, 1);
    assert_eq!(at(0, 0, 100).desired_replicas, 0);
    assert_eq!(at(3, 10_500, 100).desired_replicas, 3);
    // One step from zero leads to four, which is too few: the rate gives way to the minimum.
    let decision = at(6, 500_000, 100);
    assert_eq!(decision.rate_limit.as_ref().unwrap().limit.replicas, 4);
    assert_eq!((decision.desired_replicas, decision.rescale), (6, true));
    // With nothing to do the reason is the minimum.
    let decision = {
        let mut given = inputs(0, vec![external(value("10"))], vec![Some(values(&[0]))]);
        given.spec.behavior = Some(super::HorizontalPodAutoscalerBehavior::default());
        decide(&at_zero(given, 2), NOW)
    };
    assert_eq!(decision.desired_replicas, 2);
    assert_eq!(decision.reason, "Current number of replicas below Spec.MinReplicas");
}

#[test]
fn a_target_at_zero_by_another_hand_is_left_alone() {
    for gate in [false, true] {
        let mut given = inputs(0, vec![external(value("10"))], vec![Some(values(&[90_000]))]);
        given.constants.gates.scale_to_zero = gate;
        given.spec.min_replicas = Some(2);
        assert!(planned(&given).is_empty());
        let (decision, conclusion) = concluded(&given);
        assert_eq!((decision.desired_replicas, decision.rescale), (0, false));
        assert_eq!(condition(&conclusion, "ScalingActive"), is("False", "ScalingDisabled"));
        assert_eq!(conclusion.error, None);
    }
    // Without the gate what an earlier version said is taken back.
    let mut given = at_zero(inputs(0, vec![external(value("10"))], vec![None]), 0);
    given.constants.gates.scale_to_zero = false;
    let (_, conclusion) = concluded(&given);
    assert_eq!(condition(&conclusion, "ScaledToZero"), None);
}

#[test]
fn scaled_to_zero_is_said_only_where_it_can_be_undone() {
    let to_zero = |metrics, answers| {
        let mut given = inputs(2, metrics, answers);
        given.constants.gates.scale_to_zero = true;
        given.spec.min_replicas = Some(0);
        concluded(&given)
    };
    let (decision, conclusion) = to_zero(vec![external(value("10"))], vec![Some(values(&[0]))]);
    assert_eq!((decision.desired_replicas, conclusion.action), (0, Action::ScaleDown));
    assert_eq!(condition(&conclusion, "ScaledToZero"), is("True", "ScaledToZero"));
    let (decision, conclusion) = to_zero(vec![custom(average("10"))], vec![Some(of_pods(&[0, 0]))]);
    assert_eq!(decision.desired_replicas, 0);
    assert_eq!(condition(&conclusion, "ScaledToZero"), is("False", "NotScaledToZero"));
    // Without the gate nothing is said.
    let (_, conclusion) = concluded(&cpu_inputs(2, &[100, 100]));
    assert_eq!(condition(&conclusion, "ScaledToZero"), None);
}

#[test]
fn without_the_gate_a_controller_keeps_one() {
    for (annotations, behavior) in [(None, false), (None, true), (Some("paused-replicas"), false)] {
        let mut given = inputs(2, vec![external(value("10"))], vec![Some(values(&[0]))]);
        given.constants.gates.scale_to_zero = false;
        given.spec.min_replicas = Some(0);
        given.spec = keeping_one(given.constants.gates, &given.spec);
        given.spec.behavior = behavior.then(Default::default);
        if let Some(name) = annotations {
            let annotation = (format!("{}{name}", crate::beyond::PREFIX), String::from("0"));
            let (policy, wrong) = crate::beyond::parse(&[annotation].into());
            given.beyond = crate::beyond::gather(&policy, &wrong, None, None, NOW);
        }
        let (decision, conclusion) = concluded(&given);
        assert_eq!((decision.desired_replicas, decision.bounds.min_replicas), (1, 1));
        assert_eq!(conclusion.action, Action::ScaleDown);
    }
}

#[test]
fn a_proposal_below_zero_is_one_of_nothing() {
    let mut given = inputs(3, vec![external(average("10"))], vec![Some(values(&[-90_000]))]);
    given.constants.gates.scale_to_zero = true;
    given.spec.min_replicas = Some(0);
    let (decision, conclusion) = concluded(&given);
    assert_eq!(decision.proposed_replicas, Some(0));
    assert_eq!(decision.proposed_by, "");
    assert_eq!((decision.desired_replicas, decision.rescale), (0, true));
    assert_eq!(conclusion.memory.recommendations.as_ref().unwrap().last().unwrap().replicas, 0);
    assert_eq!(condition(&conclusion, "ScalingLimited"), is("False", "DesiredWithinRange"));
}

#[test]
fn references_that_lead_nowhere_are_told_apart() {
    let mut given = cpu_inputs(2, &[100, 100]);
    let mut check = |version: &str, why: &str, error: &str, label: &str| {
        given.spec.scale_target_ref.api_version = Some(version.to_owned());
        given.scale = Err(why.to_owned());
        let (_, conclusion) = concluded(&given);
        assert_eq!(conclusion.error.as_deref(), Some(error));
        assert_eq!(conclusion.error_label(), label);
        assert_eq!(condition(&conclusion, "AbleToScale"), is("False", "FailedGetScale"));
    };
    let why = "unexpected GroupVersion string: a/b/c";
    let error = format!("invalid API version in scale target reference: {why}");
    check("a/b/c", why, &error, "spec");
    let why = "no matches for kind \"Deployment\" in group \"app\"";
    let error = format!("unable to determine resource for scale target reference: {why}");
    check("app/v1", why, &error, "internal");
    let why = "unable to retrieve the complete list of server APIs: app/v1: the server is currently unable to handle the request";
    let error = format!("unable to determine resource for scale target reference: {why}");
    check("app/v1", why, &error, "internal");
    let error = "failed to query scale subresource for Deployment/shop/web: gone";
    check("apps/v1", "gone", error, "internal");
}

#[test]
fn a_failed_computation_keeps_what_was_desired() {
    let mut given = inputs(3, vec![cpu(50)], vec![Some(MetricAnswer::Failed("gone".to_owned()))]);
    given.status.desired_replicas = 7;
    let (decision, conclusion) = concluded(&given);
    assert_eq!(decision.current_replicas, Some(3));
    assert!(!decision.rescale);
    let status = &conclusion.status;
    assert_eq!((status.current_replicas, status.desired_replicas), (Some(3), 7));
    assert_eq!(status.current_metrics.as_deref(), Some(&[super::MetricStatus::default()][..]));
    assert_eq!(conclusion.error_label(), "internal");
    // Where the scale is not known, not even the counts are touched.
    given.scale = Err("no".to_owned());
    let (decision, conclusion) = concluded(&given);
    assert_eq!(decision.current_replicas, None);
    assert_eq!(conclusion.status.current_replicas, given.status.current_replicas);
    assert_eq!(conclusion.memory, given.memory);
}

#[test]
fn a_failed_write_keeps_what_was_desired() {
    let mut given = cpu_inputs(2, &[1000, 1000]);
    given.status.desired_replicas = 7;
    let decision = decide(&given, NOW);
    let conclusion = conclude(&given, &decision, &Written::Failed("no".to_owned()), NOW);
    assert_eq!(conclusion.status.desired_replicas, 7);
    assert_eq!(conclusion.action, Action::None);
    assert_eq!(conclusion.error.as_deref(), Some("failed to rescale Deployment/shop/web: no"));
    assert_eq!(condition(&conclusion, "AbleToScale"), is("False", "FailedUpdateScale"));
    assert_eq!(
        conclusion.events.last().unwrap().message,
        "New size: 4; reason: cpu resource utilization (percentage of request) above target; error: no"
    );
    assert!(conclusion.status.current_metrics.is_some());
}

#[test]
fn out_of_bounds_no_metric_is_asked() {
    let mut given = cpu_inputs(5, &[500; 5]);
    given.spec.max_replicas = 4;
    given.status.conditions = Some(vec![HorizontalPodAutoscalerCondition {
        type_: "ScalingActive".to_owned(),
        status: "True".to_owned(),
        ..HorizontalPodAutoscalerCondition::default()
    }]);
    assert!(planned(&given).is_empty());
    let (decision, conclusion) = concluded(&given);
    assert!(decision.bounds.above_max && decision.metrics.is_empty());
    assert_eq!(decision.desired_replicas, 4);
    assert_eq!(condition(&conclusion, "ScalingActive").unwrap().0, "True");
    assert_eq!(condition(&conclusion, "ScalingLimited"), None);
    assert_eq!(conclusion.status.current_metrics, None);
    given.spec.max_replicas = 10;
    given.spec.min_replicas = Some(6);
    assert_eq!(concluded(&given).0.desired_replicas, 6);
}

#[test]
fn transitions_are_of_the_status_alone() {
    let before = super::time(ago(500));
    let mut given = cpu_inputs(2, &[500, 500]);
    let condition = |kind: &str, status: &str| HorizontalPodAutoscalerCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some("Old".to_owned()),
        message: Some("old".to_owned()),
        last_transition_time: before.clone(),
        observed_generation: None,
    };
    given.status.conditions =
        Some(vec![condition("ScalingLimited", "True"), condition("AbleToScale", "True")]);
    let (_, conclusion) = concluded(&given);
    let all = conclusion.status.conditions.unwrap();
    let order: Vec<_> = all.iter().map(|one| one.type_.as_str()).collect();
    assert_eq!(order, ["ScalingLimited", "AbleToScale", "ScalingActive"]);
    assert_eq!(all[1].last_transition_time, before);
    assert_eq!(all[1].reason.as_deref(), Some("ReadyForNewScale"));
    assert_eq!(all[0].last_transition_time, super::time(NOW));
}

#[test]
fn a_status_that_says_the_same_is_not_written_again() {
    let given = cpu_inputs(2, &[500, 500]);
    let (_, first) = concluded(&given);
    assert!(first.status_changed(&given.status));
    let mut later = given;
    later.status = first.status.clone();
    later.memory = first.memory;
    let decision = decide(&later, NOW + 15_000);
    let conclusion = conclude(&later, &decision, &Written::NotAsked, NOW + 15_000);
    assert!(!conclusion.status_changed(&later.status));
    // As the API server gives it back: empty lists and zero counts are left out.
    let mut sparse = first.status;
    sparse.current_replicas = None;
    sparse.current_metrics = None;
    let mut full = sparse.clone();
    full.current_replicas = Some(0);
    full.current_metrics = Some(Vec::new());
    assert!(!differs(&sparse, &full));
    full.desired_replicas += 1;
    assert!(differs(&sparse, &full));
}

#[test]
fn what_is_remembered() {
    let mut given = cpu_inputs(4, &[1000; 4]);
    given.memory.recommendations = None;
    given.spec.behavior = Some(super::HorizontalPodAutoscalerBehavior {
        scale_up: Some(rules("Max", 0, &[("Pods", 3, 60)])),
        scale_down: None,
    });
    given.memory.scale_up_events = vec![event(1, 50, false)];
    let (decision, conclusion) = concluded(&given);
    // One of three was added already.
    assert_eq!(decision.desired_replicas, 6);
    let memory = conclusion.memory;
    // A newcomer starts from what there is; then comes the proposal, before any limit.
    let expected = [Recommendation { replicas: 4, at: NOW }, recommendation(8, 0)];
    assert_eq!(memory.recommendations.as_deref(), Some(&expected[..]));
    assert_eq!(memory.scale_up_events, [event(1, 50, false), event(2, 0, false)]);
    // Whoever does not write does not remember a rescale.
    let conclusion = conclude(&given, &decision, &Written::NotAsked, NOW);
    assert_eq!(conclusion.memory.scale_up_events, [event(1, 50, false)]);
    assert_eq!(conclusion.status.desired_replicas, 4);
    // Without behavior rescales are not remembered.
    given.spec.behavior = None;
    assert_eq!(concluded(&given).1.memory.scale_up_events, given.memory.scale_up_events);
}

#[test]
fn tolerances_of_the_behavior() {
    let usage = [590, 590, 590];
    let mut given = cpu_inputs(3, &usage);
    let mut up = rules("Max", 0, &[("Pods", 10, 60)]);
    up.tolerance = super::quantity("200m");
    given.spec.behavior =
        Some(super::HorizontalPodAutoscalerBehavior { scale_up: Some(up), scale_down: None });
    // 59 of 50: a ratio of 1.18.
    assert_eq!(decide(&given, NOW).desired_replicas, 3);
    given.constants.gates.configurable_tolerance = false;
    assert_eq!(decide(&given, NOW).desired_replicas, 4);
}

#[test]
fn a_specification_without_metrics_goes_by_cpu() {
    let mut given = cpu_inputs(2, &[1000, 1000]);
    given.spec.metrics = None;
    given.spec.min_replicas = None;
    let asked = planned(&given);
    assert!(
        matches!(&asked[..], [Some(MetricRequest::Resource { resource, .. })] if resource == "cpu")
    );
    let decision = decide(&given, NOW);
    let proposal = decision.metrics[0].outcome.as_ref().unwrap();
    // 100 % of 80 %, of two pods.
    assert_eq!((proposal.target_value, proposal.replicas), (80, 3));
}

#[test]
fn what_is_asked_follows_the_metrics() {
    let mut unknown = cpu(50);
    "CheddarCheese".clone_into(&mut unknown.type_);
    let untargeted = resource("cpu", super::MetricTarget::default());
    let metrics =
        vec![unknown, external(value("10")), untargeted, resource("memory", utilization(9))];
    let mut given = inputs(1, metrics, Vec::new());
    let asked = planned(&given);
    let kinds: Vec<_> = asked.iter().map(Option::is_some).collect();
    assert_eq!(kinds, [false, true, false, true]);
    let Some(MetricRequest::External { namespace, metric: name, .. }) = &asked[1] else {
        panic!("not an external metric: {asked:?}")
    };
    assert_eq!((namespace, name), (&"shop".to_owned(), &metric("qps").name));
    given.scale.as_mut().unwrap().selector.clear();
    assert!(planned(&given).is_empty());
    // Asked or not, whoever has no answer fails and does not scale down.
    given.scale.as_mut().unwrap().selector.push_str("app=web");
    let decision = decide(&given, NOW);
    assert_eq!(decision.metrics.iter().filter(|one| one.outcome.is_err()).count(), 4);
}

#[test]
fn a_namespace_is_the_autoscalers_own() {
    let asked_of = |api_version: Option<&str>, kind: &str| {
        let mut metric = object(value("1"));
        let described = &mut metric.object.as_mut().unwrap().described_object;
        described.api_version = api_version.map(str::to_owned);
        kind.clone_into(&mut described.kind);
        "next-door".clone_into(&mut described.name);
        match planned(&inputs(1, vec![metric], Vec::new())).remove(0) {
            Some(MetricRequest::Object { object, namespace, .. }) => (namespace, object.name),
            other => panic!("not a metric of an object: {other:?}"),
        }
    };
    let shop = |name: &str| ("shop".to_owned(), name.to_owned());
    assert_eq!(asked_of(Some("v1"), "Namespace"), shop("shop"));
    assert_eq!(asked_of(None, "Namespace"), shop("shop"));
    assert_eq!(asked_of(Some("example.com/v1"), "Namespace"), shop("next-door"));
    assert_eq!(asked_of(Some("v1"), "Service"), shop("next-door"));
}

#[test]
fn pods_that_cannot_be_listed_fail_the_metric() {
    let mut given = cpu_inputs(2, &[100, 100]);
    given.pods = PodSet::Failed("broken".to_owned());
    let (decision, conclusion) = concluded(&given);
    assert!(!decision.rescale);
    assert_eq!(
        decision.metrics[0].failure_message.as_deref(),
        Some(
            "failed to get cpu utilization: unable to get pods while calculating replica count: broken"
        )
    );
    assert_eq!(condition(&conclusion, "ScalingActive"), is("False", "FailedGetResourceMetric"));
    given.pods = shared(vec![pod("p0", 1000)]);
    assert_eq!(decide(&given, NOW).metrics[0].outcome.as_ref().unwrap().replicas, 1);
}
