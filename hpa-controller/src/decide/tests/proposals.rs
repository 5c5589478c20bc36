//! Grouping, requests, ratios and proposals.

use super::{
    NOW, ago, average, container, cpu, cpu_inputs, custom, external, inputs, object, of_pods, pod,
    pods, quantity, readings, replicas, requests, resource, shared, value, values,
};
use crate::decide::decide;
use crate::decide::proposal::{Circumstances, whole};
use crate::decide::ratio::{Tolerances, average as average_of, utilization as utilization_of};
use crate::decide::requests as requests_of;
use crate::decision::{PodReason, TargetKind};
use crate::inputs::{Gates, Inputs, MetricAnswer, PodFacts, PodPhase, PodSet, ReadyStatus};

#[test]
fn a_ratio_on_the_edge_of_the_tolerance_changes_nothing() {
    // 550 of 1000 against 50 %: a ratio of 1.1; 450 of 1000: 0.9.
    assert_eq!(replicas(&cpu_inputs(3, &[550, 550, 550])), 3);
    assert_eq!(replicas(&cpu_inputs(3, &[450, 450, 450])), 3);
    assert_eq!(replicas(&cpu_inputs(3, &[560, 560, 560])), 4);
    assert_eq!(replicas(&cpu_inputs(3, &[330, 330, 330])), 2);
    let edge = Tolerances { up: 0.1, down: 0.2 };
    assert!(edge.check(1.1).within_tolerance && edge.check(0.8).within_tolerance);
    assert!(!edge.check(1.1 + f64::EPSILON).within_tolerance);
    assert!(!edge.check(0.8 - f64::EPSILON).within_tolerance);
}

#[test]
fn the_ratio_is_of_the_truncated_utilization() {
    // 1677 of 3000 are 55.9 %, which counts as 55 %: the edge. Untruncated it would be a ratio of 1.118 and 4 replicas.
    let decision = decide(&cpu_inputs(3, &[559, 559, 559]), NOW);
    assert_eq!(decision.desired_replicas, 3);
    let proposal = decision.metrics[0].outcome.as_ref().unwrap();
    assert_eq!((proposal.utilization_percent, proposal.ratio.ratio), (Some(55), 1.1));
}

/// The reason for which the one pod, changed so, is not ready for its CPU to count.
fn why_unready(change: impl FnOnce(&mut PodFacts), sample_age_s: i64) -> Option<PodReason> {
    let mut changed = pod("p0", 1000);
    change(&mut changed);
    let mut given = readings(&[100]);
    given[0].timestamp = ago(sample_age_s);
    let constants = crate::Constants::default();
    let pods = [std::sync::Arc::new(changed)];
    let account = crate::decide::account(&pods, &given, Some("cpu"), &constants, NOW);
    account.unready.first().map(|(_, why)| *why)
}

#[test]
fn a_cold_pod_does_not_count() {
    let ready = |pod: &mut PodFacts, status, transition_age_s| {
        pod.ready = Some(crate::Readiness { status, transition: ago(transition_age_s) });
    };
    let cases = [
        // Not ready while it starts, however fresh the sample.
        (100, Some(ReadyStatus::False), 90, 0, Some(PodReason::StartingUp)),
        // A window of 30 s that began before it was ready, just not before, and long after.
        (100, Some(ReadyStatus::True), 50, 21, Some(PodReason::SampledBeforeReady)),
        (100, Some(ReadyStatus::True), 50, 20, None),
        (100, Some(ReadyStatus::Unknown), 50, 0, None),
        // The initialization period of 300 s is over when it is over.
        (300, Some(ReadyStatus::True), 1, 0, None),
        (299, Some(ReadyStatus::True), 1, 0, Some(PodReason::SampledBeforeReady)),
        // Unready since less than 30 s after its start; since exactly 30 s; later.
        (1000, Some(ReadyStatus::False), 971, 0, Some(PodReason::NeverReady)),
        (1000, Some(ReadyStatus::False), 970, 0, None),
        (1000, Some(ReadyStatus::False), 10, 0, None),
        (1000, None, 0, 0, Some(PodReason::NoReadyCondition)),
    ];
    for (start_age_s, status, transition_age_s, sample_age_s, expected) in cases {
        let change = |pod: &mut PodFacts| {
            pod.started = Some(ago(start_age_s));
            match status {
                Some(status) => ready(pod, status, transition_age_s),
                None => pod.ready = None,
            }
        };
        let what = (start_age_s, status, transition_age_s, sample_age_s);
        assert_eq!(why_unready(change, sample_age_s), expected, "{what:?}");
    }
    assert_eq!(why_unready(|pod| pod.started = None, 0), Some(PodReason::NoStartTime));
    // Clocks that disagree: a pod from the future is starting, its sample from the future is fresh.
    let future = |pod: &mut PodFacts| pod.started = Some(ago(-60));
    assert_eq!(why_unready(future, -30), None);
}

#[test]
fn readiness_is_asked_for_cpu_alone() {
    let mut cold = pods(2, 1000);
    cold[1].ready = None;
    let mut given =
        inputs(2, vec![resource("memory", average("1k"))], vec![Some(of_pods(&[3_000_000; 2]))]);
    given.pods = shared(cold.clone());
    // Three times the target on both: 6.
    assert_eq!(replicas(&given), 4, "capped at twice the current, or 4");
    assert_eq!(decide(&given, NOW).proposed_replicas, Some(6));
    given.spec.metrics = Some(vec![custom(average("1k"))]);
    assert_eq!(decide(&given, NOW).proposed_replicas, Some(6));
}

#[test]
fn missing_pods_are_at_the_target_when_the_rest_is_below() {
    // Two of four report a tenth of the target. (1 + 1 + 10 + 10) / 4 = 5.5 of 10: 0.55 × 4, rounded up.
    let given = inputs(4, vec![custom(average("10"))], vec![Some(of_pods(&[1000, 1000]))]);
    let decision = decide(&given, NOW);
    assert_eq!(decision.desired_replicas, 3);
    let proposal = decision.metrics[0].outcome.as_ref().unwrap();
    assert_eq!((proposal.value_milli, proposal.ratio.ratio), (1000, 0.1));
    assert_eq!(proposal.rebalanced.map(|again| again.ratio), Some(0.55));
    assert_eq!(proposal.multiplied_by, 4);
    // Of a utilization: the whole request. (100 + 1000) / 2000 = 55 %, against 80 %: 0.6875 × 2 = 1.375.
    let mut given = cpu_inputs(2, &[100]);
    given.spec.metrics = Some(vec![cpu(80)]);
    assert_eq!(decide(&given, NOW).proposed_replicas, Some(2));
}

#[test]
fn missing_pods_use_nothing_when_the_rest_is_above() {
    // Four times the target on one of two: 40 / 2 = 20 of 10: 2 × 2.
    let given = inputs(2, vec![custom(average("10"))], vec![Some(of_pods(&[40_000]))]);
    assert_eq!(decide(&given, NOW).proposed_replicas, Some(4));
    // One and a half of it: 15 / 2 = 7.5, which is below: nothing is done.
    let given = inputs(2, vec![custom(average("10"))], vec![Some(of_pods(&[15_000]))]);
    assert_eq!(decide(&given, NOW).proposed_replicas, Some(2));
    // Just the target: nothing is filled in, and nothing done.
    let given = inputs(2, vec![custom(average("10"))], vec![Some(of_pods(&[10_000]))]);
    let decision = decide(&given, NOW);
    assert_eq!(decision.proposed_replicas, Some(2));
    let proposal = decision.metrics[0].outcome.as_ref().unwrap();
    assert_eq!(proposal.rebalanced.map(|again| again.ratio), Some(1.0));
}

#[test]
fn unready_pods_use_nothing_when_the_rest_is_above() {
    // Twice the target on one of two, the other pending: with 0 for it the ratio is 1. Dropping it would leave 2 × 1 pods
    // and the same count, but a ratio of 2.
    let mut two = pods(2, 1000);
    two[1].phase = Some(PodPhase::Pending);
    let mut given = cpu_inputs(2, &[1000]);
    given.pods = shared(two);
    let decision = decide(&given, NOW);
    assert_eq!(decision.desired_replicas, 2);
    let proposal = decision.metrics[0].outcome.as_ref().unwrap();
    assert_eq!(proposal.ratio.ratio, 2.0);
    assert_eq!(proposal.rebalanced.map(|again| again.ratio), Some(1.0));
    // Below the target it is left out: 20 % against 50 %, of one ready pod.
    let mut two = pods(2, 1000);
    two[1].phase = Some(PodPhase::Pending);
    let mut given = cpu_inputs(2, &[200]);
    given.pods = shared(two);
    assert_eq!(replicas(&given), 1);
}

#[test]
fn names_that_are_no_pods_count_in_an_average_only() {
    let mut answer = readings(&[20_000, 20_000]);
    answer[1].pod = "gone".into();
    // The average is twice the target, of one ready pod: 2. The account tells of the other.
    let given =
        inputs(1, vec![custom(average("10"))], vec![Some(MetricAnswer::Pods(answer.clone()))]);
    let decision = decide(&given, NOW);
    assert_eq!(decision.proposed_replicas, Some(2));
    let account = decision.metrics[0].outcome.as_ref().unwrap().pods.clone().unwrap();
    assert_eq!((account.ready.len(), account.unknown.len()), (1, 1));
    answer.remove(0);
    let given = inputs(1, vec![cpu(50)], vec![Some(MetricAnswer::Pods(answer))]);
    let decision = decide(&given, NOW);
    let error = decision.metrics[0].outcome.as_ref().unwrap_err();
    assert!(error.ends_with("no metrics returned matched known pods"), "{error}");
}

#[test]
fn answers_need_not_be_sorted_and_the_last_of_a_name_counts() {
    let mut answer = readings(&[100, 200, 300]);
    answer.reverse();
    answer.push(answer[0].clone());
    answer[3].value_milli = 1500;
    let given = inputs(3, vec![cpu(50)], vec![Some(MetricAnswer::Pods(answer))]);
    let decision = decide(&given, NOW);
    // 100 + 200 + 1500 of 3000: 60 %.
    let proposal = decision.metrics[0].outcome.as_ref().unwrap();
    assert_eq!((proposal.utilization_percent, proposal.value_milli), (Some(60), 600));
    assert_eq!(proposal.replicas, 4);
}

#[test]
fn a_resource_may_have_an_average_for_its_target() {
    let mut given = cpu_inputs(2, &[300, 500]);
    // 400m of 200m; requests are not asked about.
    given.spec.metrics = Some(vec![resource("cpu", average("200m"))]);
    given.pods = shared(pods(2, 0));
    let decision = decide(&given, NOW);
    assert_eq!(decision.desired_replicas, 4);
    let metric = &decision.metrics[0];
    assert_eq!(metric.name, "cpu resource");
    let proposal = metric.outcome.as_ref().unwrap();
    assert_eq!((proposal.target, proposal.target_value), (TargetKind::AverageValue, 200));
    let current = decision.status.current_metrics.unwrap().remove(0).resource.unwrap().current;
    assert_eq!((current.average_value, current.average_utilization), (quantity("400m"), None));
    // With both targets the average counts.
    let mut both = average("200m");
    both.average_utilization = Some(1);
    given.spec.metrics = Some(vec![resource("cpu", both)]);
    assert_eq!(replicas(&given), 4);
}

#[test]
fn requests_of_the_whole_pod() {
    let pod = |change: &dyn Fn(&mut PodFacts)| {
        let mut pod = pod("p0", 100);
        change(&mut pod);
        [std::sync::Arc::new(pod)]
    };
    let on = Gates::default();
    let off = Gates { pod_level_resources: false, ..on };
    let check =
        |pods: &[std::sync::Arc<PodFacts>], resource, gates, expected: Result<i64, &str>| {
            let outcome =
                requests_of(pods, resource, None, gates).map(|requests| requests[0].unwrap());
            assert_eq!(outcome, expected.map_err(str::to_owned));
        };
    let own = pod(&|pod| pod.requests_milli = Some(requests(&[("cpu", 700)])));
    check(&own, "cpu", on, Ok(700));
    check(&own, "cpu", off, Ok(100));
    // Overhead is part of the effective request, which the sum over containers is not.
    let overhead = pod(&|pod| {
        pod.requests_milli = Some(requests(&[("cpu", 700)]));
        pod.overhead_milli = requests(&[("cpu", 50)]);
    });
    check(&overhead, "cpu", on, Ok(750));
    check(&overhead, "cpu", off, Ok(100));
    // The pod requests memory only: what its containers need at their peak. The sidecar of 30 runs from before the last init
    // container on: 100 + 30 once all run, 120 + 30 before.
    let peak = pod(&|pod| {
        pod.requests_milli = Some(requests(&[("memory", 1)]));
        pod.init_containers = vec![
            container("early", &[("cpu", 140)]),
            container("sidecar", &[("cpu", 30)]),
            container("late", &[("cpu", 120)]),
        ];
        pod.init_containers[1].restarts_always = true;
    });
    check(&peak, "cpu", on, Ok(150));
    check(&peak, "cpu", off, Ok(130));
    let none = "missing pod-level request for hugepages-2Mi in Pod p0";
    check(&peak, "hugepages-2Mi", on, Err(none));
    // Only cpu, memory and huge pages may be requested for a pod: other resources of it do not count.
    let other = pod(&|pod| pod.requests_milli = Some(requests(&[("ephemeral-storage", 9)])));
    check(&other, "cpu", on, Ok(100));
    let none = "missing request for ephemeral-storage in container main of Pod p0";
    check(&other, "ephemeral-storage", on, Err(none));
}

#[test]
fn the_request_of_a_named_container() {
    let mut pod = pod("p0", 100);
    pod.requests_milli = Some(requests(&[("cpu", 700)]));
    pod.init_containers = vec![container("sidecar", &[("cpu", 30)]), container("once", &[])];
    pod.init_containers[0].restarts_always = true;
    let pods = [std::sync::Arc::new(pod)];
    let of = |container| requests_of(&pods, "cpu", Some(container), Gates::default());
    assert_eq!(of("main"), Ok(vec![Some(100)]));
    assert_eq!(of("sidecar"), Ok(vec![Some(30)]));
    assert_eq!(of("once"), Err("container once not found in Pod p0".to_owned()));
}

/// Proposal and reported value of the first metric.
fn proposed(given: &Inputs) -> (i32, i64) {
    let decision = decide(given, NOW);
    let proposal = decision.metrics[0].outcome.as_ref().unwrap();
    (proposal.replicas, proposal.value_milli)
}

#[test]
fn values_of_the_whole_are_multiplied_with_pods_that_serve() {
    let mut four = pods(4, 0);
    four[1].phase = Some(PodPhase::Succeeded);
    four[2].ready = None;
    // One that is being deleted still serves.
    four[3].deleting = true;
    for metric in [external(value("10")), object(value("10"))] {
        let mut given = inputs(4, vec![metric], vec![Some(values(&[30_000]))]);
        given.pods = shared(four.clone());
        assert_eq!(proposed(&given), (6, 30_000));
    }
    // The values of an external metric are added up.
    let given = inputs(4, vec![external(value("10"))], vec![Some(values(&[10_000, 5000]))]);
    assert_eq!(proposed(&given), (6, 15_000));
    let mut given = inputs(4, vec![external(value("10"))], vec![Some(values(&[30_000]))]);
    given.pods = PodSet::Matched(Vec::new());
    let decision = decide(&given, NOW);
    assert_eq!(
        decision.metrics[0].failure_message.as_deref(),
        Some(
            "unable to calculate ready pods: no pods returned by selector while calculating replica count"
        ),
    );
}

#[test]
fn values_that_are_shared_go_by_the_replicas_that_there_are() {
    for metric in [external(average("10")), object(average("10"))] {
        let mut given = inputs(3, vec![metric], vec![Some(values(&[41_000]))]);
        // 41 for 4 is within the tolerance of 10 each: those four, not the three that are asked for.
        given.scale.as_mut().unwrap().status_replicas = 4;
        assert_eq!(proposed(&given), (4, 10_250));
        given.scale.as_mut().unwrap().status_replicas = 3;
        assert_eq!(proposed(&given), (5, 13_667));
    }
}

#[test]
fn what_overflows_saturates() {
    let max = i64::MAX;
    // Sums of an external metric, in the order in which they come.
    let sum =
        |of: &[i64]| proposed(&inputs(1, vec![external(value("1m"))], vec![Some(values(of))]));
    assert_eq!(sum(&[max, 1]), (i32::MAX, max));
    assert_eq!(sum(&[max, 1, -100]), (i32::MAX, max));
    assert_eq!(sum(&[i64::MIN, -1]).1, i64::MIN);
    let shared = |metric| proposed(&inputs(2, vec![metric], vec![Some(values(&[max]))]));
    assert_eq!(shared(external(average("1m"))), (i32::MAX, max));
    // An object's average is still one: 2^63 / 2.
    assert_eq!(shared(object(average("1m"))), (i32::MAX, 1 << 62));
    // From zero the ratio itself is what is proposed.
    let given = Circumstances {
        constants: &crate::Constants::default(),
        pods: &PodSet::Matched(Vec::new()),
        tolerances: Tolerances { up: 0.1, down: 0.1 },
        current: 0,
        available: 0,
        now: NOW,
    };
    assert_eq!(whole(max, 1, given).unwrap().replicas, i32::MAX);
    // Sums over pods, in both kinds of a ratio.
    let usage = average_of([max, max, max], 1);
    assert_eq!(usage.value_milli, max);
    let usage = utilization_of([(max, 1), (max, 1)], 1).unwrap();
    assert_eq!((usage.utilization_percent, usage.value_milli), (Some(i32::MAX), max));
    assert_eq!(average_of([5], 0).ratio, f64::MAX);
    assert_eq!(average_of([0], 0).ratio, 0.0);
    assert_eq!(average_of([-5], 0).ratio, f64::MIN);
}
