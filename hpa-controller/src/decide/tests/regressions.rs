//! What once went wrong upstream, each named by what must hold. Numbers are those of Kubernetes issues.

use super::{
    NOW, average, concluded, condition, container, cpu, cpu_inputs, custom, external, inputs, is,
    object, of_pods, pod, pods, replicas, shared, value, values,
};
use crate::decide::decide;
use crate::decision::PodReason;
use crate::inputs::{MetricAnswer, PodFacts, PodPhase, PodSet, ReadyStatus};

/// 99394, 105187.
#[test]
fn an_invalid_metric_forbids_scaling_down() {
    let failed = || Some(MetricAnswer::Failed("down".to_owned()));
    let mut unknown = cpu(50);
    "CheddarCheese".clone_into(&mut unknown.type_);
    for broken in [(custom(average("1")), failed()), (unknown, None)] {
        // The metric that works asks for one of four replicas, wherever it stands.
        for first in [false, true] {
            let mut metrics = vec![(cpu(50), Some(of_pods(&[100; 4]))), broken.clone()];
            if first {
                metrics.reverse();
            }
            let (metrics, answers) = metrics.into_iter().unzip();
            let (decision, conclusion) = concluded(&inputs(4, metrics, answers));
            assert!(!decision.rescale);
            assert_eq!(decision.proposed_replicas, Some(1));
            assert_eq!(condition(&conclusion, "ScalingActive").unwrap().0, "False");
            assert!(conclusion.error.unwrap().contains("(1 invalid out of 2)"));
        }
    }
    // Scaling up, and staying, go on.
    let metrics = vec![cpu(50), custom(average("1"))];
    let answers = vec![Some(of_pods(&[1000; 4])), failed()];
    let (decision, conclusion) = concluded(&inputs(4, metrics, answers));
    assert_eq!(decision.desired_replicas, 8);
    assert_eq!(condition(&conclusion, "ScalingActive"), is("True", "ValidMetricFound"));
    assert_eq!(conclusion.error_label(), "internal");
}

/// 79035.
#[test]
fn what_there_is_never_becomes_what_is_asked_for() {
    // Ten are asked for and two there are; within the tolerance nothing changes.
    let mut given = cpu_inputs(10, &[500, 500]);
    given.scale.as_mut().unwrap().status_replicas = 2;
    given.pods = shared(pods(2, 1000));
    let (decision, conclusion) = concluded(&given);
    assert_eq!((decision.desired_replicas, decision.rescale), (10, false));
    assert_eq!(conclusion.status.current_replicas, Some(10));
    // The paths of the bounds, and a target at zero.
    given.spec.max_replicas = 8;
    assert_eq!(replicas(&given), 8);
    given.scale.as_mut().unwrap().spec_replicas = 0;
    let (decision, conclusion) = concluded(&given);
    assert_eq!((decision.desired_replicas, decision.rescale), (0, false));
    assert_eq!(conclusion.status.current_replicas, Some(0));
}

/// 72775, 84142.
#[test]
fn a_rolling_update_does_not_double_the_pods() {
    // Four old pods at the target, four new ones: two that burn CPU while they start, one that was never ready, one pending.
    let mut all = pods(8, 1000);
    for new in &mut all[4..] {
        new.started = Some(super::ago(20));
        new.ready =
            Some(crate::Readiness { status: ReadyStatus::False, transition: super::ago(20) });
    }
    all[7].phase = Some(PodPhase::Pending);
    let mut given = cpu_inputs(4, &[500, 500, 500, 500, 3000, 3000, 0]);
    given.pods = shared(all.clone());
    let decision = decide(&given, NOW);
    assert_eq!(decision.desired_replicas, 4);
    let account = decision.metrics[0].outcome.as_ref().unwrap().pods.as_ref().unwrap();
    let why: Vec<_> = account.unready.iter().map(|(_, why)| *why).collect();
    let starting = PodReason::StartingUp;
    assert_eq!(why, [starting, starting, starting, PodReason::Pending]);
    // Above the target: (4 × 700) / 8000 are 35 %, which is below: the new ones will help.
    given.metrics = vec![Some(of_pods(&[700, 700, 700, 700, 3000, 3000, 0]))];
    assert_eq!(replicas(&given), 4);
    // The old ones on their way out do not count.
    for old in &mut all[..4] {
        old.deleting = true;
    }
    given.pods = shared(all);
    let decision = decide(&given, NOW);
    assert!(!decision.rescale);
    let error = decision.metrics[0].outcome.as_ref().unwrap_err();
    assert!(error.ends_with("did not receive metrics for targeted pods (pods might be unready)"));
}

/// 127050.
#[test]
fn a_large_proposal_does_not_turn_negative() {
    for metric in [external(value("1m")), object(value("1m"))] {
        let mut given = inputs(3, vec![metric], vec![Some(values(&[i64::MAX]))]);
        given.spec.max_replicas = i32::MAX;
        let decision = decide(&given, NOW);
        assert_eq!(decision.proposed_replicas, Some(i32::MAX));
        assert_eq!(decision.desired_replicas, 6);
    }
    let given = inputs(2, vec![custom(average("1m"))], vec![Some(of_pods(&[i64::MAX; 2]))]);
    assert_eq!(decide(&given, NOW).proposed_replicas, Some(i32::MAX));
    // A utilization is at most 2^31 - 1 percent, of 50, times two pods.
    let given = cpu_inputs(2, &[i64::MAX; 2]);
    assert_eq!(decide(&given, NOW).proposed_replicas, Some(85_899_346));
}

/// 140956.
#[test]
fn an_average_over_no_replicas_is_the_whole_value() {
    for metric in [external(average("10")), object(average("10"))] {
        for (milli, proposed, text) in [(25_000, 3, "25"), (0, 0, "0")] {
            let mut given = inputs(2, vec![metric.clone()], vec![Some(values(&[milli]))]);
            given.scale.as_mut().unwrap().status_replicas = 0;
            let decision = decide(&given, NOW);
            assert_eq!(decision.proposed_replicas, Some(proposed));
            let status = decision.status.current_metrics.unwrap().remove(0);
            let current = status.external.map(|one| one.current);
            let current = current.or(status.object.map(|one| one.current)).unwrap();
            assert_eq!(current.average_value.unwrap().0, text);
        }
    }
}

/// 112177.
#[test]
fn missing_pods_use_the_target_if_it_is_above_their_request() {
    // 50 % against 200 %: a quarter. The other two are taken to be at 200 %: (500 + 500 + 2000 + 2000) / 4000 are 125 %,
    // a ratio of 0.625: 2.5 of four pods. At 100 % it would be two.
    let mut given = cpu_inputs(4, &[500, 500]);
    given.spec.metrics = Some(vec![cpu(200)]);
    let decision = decide(&given, NOW);
    assert_eq!(decision.desired_replicas, 3);
    let proposal = decision.metrics[0].outcome.as_ref().unwrap();
    assert_eq!(proposal.rebalanced.map(|again| again.ratio), Some(0.625));
}

/// 87935.
#[test]
fn a_completed_pod_without_requests_does_not_freeze_scaling() {
    let mut done = pod("p2", 0);
    done.phase = Some(PodPhase::Succeeded);
    done.containers = vec![container("job", &[])];
    let with = |done: &PodFacts, usage: &[i64]| {
        let mut all = pods(2, 1000);
        all.push(done.clone());
        let mut given = cpu_inputs(2, usage);
        given.pods = shared(all);
        given
    };
    // Up and down as if it was not there, whether or not something is still reported of it.
    for last in [&[][..], &[5000]] {
        let decision = decide(&with(&done, &[&[1000, 1000], last].concat()), NOW);
        assert_eq!(decision.desired_replicas, 4);
        let account = decision.metrics[0].outcome.as_ref().unwrap().pods.as_ref().unwrap();
        assert_eq!(account.ignored, [("p2".into(), PodReason::Completed)]);
        assert!(account.missing.is_empty());
        assert_eq!(replicas(&with(&done, &[&[100, 100], last].concat())), 1);
    }
    // With a request it counts as ever, and a pod that still runs must have one.
    done.containers = vec![container("job", &[("cpu", 1000)])];
    let decision = decide(&with(&done, &[1000, 1000]), NOW);
    let account = decision.metrics[0].outcome.as_ref().unwrap().pods.as_ref().unwrap();
    assert_eq!(account.missing, ["p2".into()]);
    done.phase = Some(PodPhase::Running);
    done.containers = vec![container("job", &[])];
    let (decision, conclusion) = concluded(&with(&done, &[1000, 1000]));
    assert!(!decision.rescale);
    let told = "failed to get cpu utilization: missing request for cpu in container job of Pod p2";
    assert_eq!(decision.metrics[0].failure_message.as_deref(), Some(told));
    assert_eq!(condition(&conclusion, "ScalingActive"), is("False", "FailedGetResourceMetric"));
}

/// 101648.
#[test]
fn two_autoscalers_of_the_same_pods_stand_still() {
    let mut given = cpu_inputs(2, &[1000, 1000]);
    given.pods = PodSet::Ambiguous(vec!["shop/other".to_owned(), "shop/web".to_owned()]);
    let (decision, conclusion) = concluded(&given);
    assert!(!decision.rescale && decision.metrics.is_empty());
    assert_eq!(condition(&conclusion, "ScalingActive"), is("False", "AmbiguousSelector"));
    let told = "pods by selector app=web are controlled by multiple HPAs: [shop/other shop/web]";
    let events: Vec<_> =
        conclusion.events.iter().map(|one| (one.reason.as_str(), one.message.as_str())).collect();
    assert_eq!(events, [("AmbiguousSelector", told), ("FailedComputeMetricsReplicas", told)]);
}
