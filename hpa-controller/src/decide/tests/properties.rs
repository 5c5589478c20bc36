//! What holds for any inputs.

use std::sync::Arc;

use k8s_openapi::api::autoscaling::v2::{HPAScalingRules, MetricSpec};
use proptest::prelude::*;

use super::{
    HorizontalPodAutoscalerBehavior, NOW, ago, average, cpu, custom, event, external, inputs,
    object, pod, recommendation, resource, rules, shared, value, values,
};
use crate::decide::{Written, conclude, decide, plan};
use crate::decision::Decision;
use crate::inputs::{
    Inputs, MetricAnswer, PodFacts, PodPhase, PodReading, PodSet, Readiness, ReadyStatus,
};

/// A pod of any kind; most run and are ready.
fn any_pod() -> impl Strategy<Value = PodFacts> {
    let phase = prop_oneof![
        8 => Just(PodPhase::Running),
        1 => Just(PodPhase::Pending),
        1 => Just(PodPhase::Failed),
        1 => Just(PodPhase::Succeeded),
    ];
    let status = prop_oneof![
        8 => Just(ReadyStatus::True),
        1 => Just(ReadyStatus::False),
        1 => Just(ReadyStatus::Unknown),
    ];
    let times = (prop::option::weighted(0.95, 0_i64..1000), 0_i64..1000);
    let ready = prop::option::weighted(0.95, status);
    (phase, ready, times, 1_i64..4000, prop::bool::weighted(0.1)).prop_map(
        |(phase, ready, (start_age_s, transition_age_s), request, deleting)| PodFacts {
            phase: Some(phase),
            deleting,
            started: start_age_s.map(ago),
            ready: ready.map(|status| Readiness { status, transition: ago(transition_age_s) }),
            ..pod("", request)
        },
    )
}

/// Values of some of so many pods.
fn any_readings(count: usize) -> impl Strategy<Value = MetricAnswer> {
    let reading = (prop::option::weighted(0.9, 0_i64..8000), 0_i64..120);
    prop::collection::vec(reading, count).prop_map(|all| {
        let reading = |(at, (value, age_s)): (usize, (Option<i64>, i64))| {
            Some(PodReading {
                pod: name(at),
                value_milli: value?,
                timestamp: ago(age_s),
                window_ms: 30_000,
            })
        };
        MetricAnswer::Pods(all.into_iter().enumerate().filter_map(reading).collect())
    })
}

fn name(at: usize) -> Arc<str> {
    format!("p{at:03}").into()
}

/// A metric with its answer, which is an error now and then.
fn any_metric(pods: usize) -> impl Strategy<Value = (MetricSpec, Option<MetricAnswer>)> {
    let of_pods = prop_oneof![
        Just(cpu(50)),
        Just(cpu(150)),
        Just(resource("memory", average("2"))),
        Just(custom(average("2"))),
    ];
    let of_one = prop_oneof![
        Just(external(value("10"))),
        Just(external(average("2"))),
        Just(object(value("10"))),
        Just(object(average("2"))),
    ];
    let failed = Just(MetricAnswer::Failed("down".to_owned()));
    let one = (0_i64..60_000).prop_map(|milli| values(&[milli]));
    prop_oneof![
        6 => (of_pods.clone(), any_readings(pods)),
        3 => (of_one, one),
        1 => (of_pods, failed),
    ]
    .prop_map(|(spec, answer)| (spec, Some(answer)))
}

fn any_rules() -> impl Strategy<Value = HPAScalingRules> {
    let select = prop_oneof![4 => Just("Max"), 2 => Just("Min"), 1 => Just("Disabled")];
    let policy = (prop_oneof![Just("Pods"), Just("Percent")], 1_i32..200, 1_i32..300);
    (select, 0_i32..400, prop::collection::vec(policy, 1..3))
        .prop_map(|(select, window_s, policies)| rules(select, window_s, &policies))
}

fn any_behavior() -> impl Strategy<Value = Option<HorizontalPodAutoscalerBehavior>> {
    let direction = || prop::option::of(any_rules());
    prop::option::of((direction(), direction()).prop_map(|(scale_up, scale_down)| {
        HorizontalPodAutoscalerBehavior { scale_up, scale_down }
    }))
}

/// An autoscaler whose target has as many replicas as it has pods that will stay, within the bounds.
fn any_inputs() -> impl Strategy<Value = Inputs> {
    let pods = prop::collection::vec(any_pod(), 1..12);
    let events = || prop::collection::vec((1_i32..20, 0_i64..400, any::<bool>()), 0..4);
    let recommendations = prop::collection::vec((1_i32..30, 0_i64..600), 0..5);
    let memory = (prop::option::weighted(0.9, recommendations), events(), events());
    let bounds = (0_i32..6, 0_i32..20);
    (pods, bounds, any_behavior(), memory)
        .prop_flat_map(|(pods, bounds, behavior, memory)| {
            let metrics = prop::collection::vec(any_metric(pods.len()), 1..4);
            (Just(pods), Just(bounds), Just(behavior), Just(memory), metrics)
        })
        .prop_map(|(mut pods, (below, above), behavior, memory, metrics)| {
            for (at, pod) in pods.iter_mut().enumerate() {
                pod.name = name(at);
            }
            let stay = |pod: &&PodFacts| !pod.deleting && pod.phase != Some(PodPhase::Failed);
            let current = i32::try_from(pods.iter().filter(stay).count().max(1)).unwrap();
            let (specs, answers) = metrics.into_iter().unzip();
            let mut given = inputs(current, specs, answers);
            given.pods = shared(pods);
            given.spec.min_replicas = Some((current - below).max(1));
            given.spec.max_replicas = current + above;
            given.spec.behavior = behavior;
            let (recommendations, up, down) = memory;
            let events = |list: Vec<(i32, i64, bool)>| {
                list.into_iter().map(|(change, age_s, old)| event(change, age_s, old)).collect()
            };
            given.memory.recommendations = recommendations
                .map(|list| list.into_iter().map(|(n, age_s)| recommendation(n, age_s)).collect());
            given.memory.scale_up_events = events(up);
            given.memory.scale_down_events = events(down);
            given
        })
}

/// Replicas after the decision.
fn replicas(given: &Inputs, decision: &Decision) -> i32 {
    if decision.rescale {
        decision.desired_replicas
    } else {
        given.scale.as_ref().unwrap().spec_replicas
    }
}

fn current(given: &Inputs) -> i32 {
    given.scale.as_ref().unwrap().spec_replicas
}

/// `given` with the value of one pod, or the one value, of each metric raised.
fn busier(mut given: Inputs, pod: usize, more: i64) -> Inputs {
    for answer in given.metrics.iter_mut().flatten() {
        match answer {
            MetricAnswer::Pods(readings) => {
                let count = readings.len().max(1);
                if let Some(reading) = readings.get_mut(pod % count) {
                    reading.value_milli += more;
                }
            }
            MetricAnswer::Values(values) => values[0].value_milli += more,
            MetricAnswer::Failed(_) => {}
        }
    }
    given
}

/// `given` with as many pods that count as there are replicas. With fewer, a ratio that is acted upon times the few that count
/// may come to less than one that is tolerated, which leaves all replicas: upstream is not monotone there. Nor is it without any
/// pod: a tolerated value of the whole proposes the replicas that there are, from where an older recommendation may lead further
/// up, while one that is acted upon fails for want of pods.
fn steady(mut given: Inputs) -> Inputs {
    let PodSet::Matched(pods) = &mut given.pods else { return given };
    pods.retain(|pod| !pod.deleting && pod.phase != Some(PodPhase::Failed));
    for pod in &mut *pods {
        let pod = Arc::make_mut(pod);
        pod.phase = Some(PodPhase::Running);
        pod.ready = pod.ready.map(|ready| Readiness { status: ReadyStatus::True, ..ready });
    }
    let all_serve = !pods.is_empty() && pods.iter().all(|pod| pod.ready.is_some());
    for (spec, answer) in given.spec.metrics.iter().flatten().zip(&mut given.metrics) {
        let target = spec.external.as_ref().map(|one| &one.target);
        let target = target.or(spec.object.as_ref().map(|one| &one.target));
        match answer {
            Some(MetricAnswer::Pods(readings)) => {
                readings.retain(|reading| pods.iter().any(|pod| pod.name == reading.pod));
            }
            // A value of the whole goes by the pods that serve.
            Some(MetricAnswer::Values(_))
                if !all_serve && target.is_some_and(|one| one.value.is_some()) =>
            {
                *answer = Some(MetricAnswer::Failed("left out".to_owned()));
            }
            _ => {}
        }
    }
    given
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn replicas_stay_within_the_bounds(given in any_inputs()) {
        let decision = decide(&given, NOW);
        let after = replicas(&given, &decision);
        let (min, max) = (given.spec.min_replicas.unwrap(), given.spec.max_replicas);
        prop_assert!((min..=max).contains(&after), "{after} is not within {min} and {max}");
    }

    #[test]
    fn replicas_enter_the_bounds(given in any_inputs(), min in 1_i32..40, more in 0_i32..20) {
        let mut given = given;
        given.spec.min_replicas = Some(min);
        given.spec.max_replicas = min + more;
        let decision = decide(&given, NOW);
        if !(min..=min + more).contains(&current(&given)) {
            prop_assert!((min..=min + more).contains(&replicas(&given, &decision)));
        }
    }

    #[test]
    fn limits_lead_to_somewhere_between(given in any_inputs()) {
        let decision = decide(&given, NOW);
        let current = current(&given);
        if let (Some(stabilization), Some(rate_limit)) = (&decision.stabilization, &decision.rate_limit) {
            let between = |a: i32, b: i32| a.min(b)..=a.max(b);
            let replicas = rate_limit.limit.replicas;
            let towards = between(current, stabilization.stabilized);
            prop_assert!(towards.contains(&replicas), "{replicas} is not within {towards:?}");
            // Without behavior an old recommendation may turn the direction, as the largest of them counts.
            if given.spec.behavior.is_some() {
                let towards = between(current, stabilization.proposed);
                prop_assert!(towards.contains(&stabilization.stabilized));
            }
        }
    }

    #[test]
    fn a_missing_metric_never_scales_down(given in any_inputs()) {
        let decision = decide(&given, NOW);
        if decision.metrics.iter().any(|metric| metric.outcome.is_err()) {
            prop_assert!(replicas(&given, &decision) >= current(&given));
            prop_assert!(decision.error.is_some());
        }
    }

    #[test]
    fn more_usage_never_means_fewer_replicas(
        given in any_inputs(), pod in 0_usize..12, more in 1_i64..10_000,
    ) {
        let given = steady(given);
        let calm = decide(&given, NOW);
        let busy = busier(given.clone(), pod, more);
        let after = decide(&busy, NOW);
        prop_assert!(replicas(&busy, &after) >= replicas(&given, &calm));
    }

    #[test]
    fn the_same_inputs_decide_the_same_also_when_read_back(given in any_inputs()) {
        let decision = decide(&given, NOW);
        prop_assert_eq!(&decide(&given, NOW), &decision);
        let text = serde_json::to_string(&given).unwrap();
        let read: Inputs = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&read, &given);
        prop_assert_eq!(&decide(&read, NOW), &decision);
        let text = serde_json::to_string(&decision).unwrap();
        let read: Decision = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&read, &decision);
        let conclusion = conclude(&given, &decision, &Written::Done, NOW);
        let text = serde_json::to_string(&conclusion).unwrap();
        prop_assert_eq!(&serde_json::from_str::<crate::decide::Conclusion>(&text).unwrap(), &conclusion);
    }

    #[test]
    fn what_is_planned_is_what_is_looked_at(given in any_inputs()) {
        let scale = given.scale.as_ref().unwrap();
        let asked = plan(&given.constants, &given.namespace, &given.spec, &given.status, scale);
        let decision = decide(&given, NOW);
        prop_assert_eq!(asked.len(), decision.metrics.len());
        prop_assert!(decision.metrics.iter().all(|metric| asked[metric.spec_index].is_some()));
    }

    #[test]
    fn extreme_values_do_not_overflow(
        milli in prop::collection::vec(any::<i64>(), 1..4), target in any::<i64>(),
        current in 0_i32.., available in any::<i32>(),
    ) {
        let text = format!("{target}m");
        for metric in [external(value(&text)), external(average(&text)), object(value(&text)), object(average(&text))] {
            let milli = if metric.object.is_some() { &milli[..1] } else { &milli[..] };
            let mut given = inputs(1, vec![metric], vec![Some(values(milli))]);
            given.spec.max_replicas = i32::MAX;
            let scale = given.scale.as_mut().unwrap();
            (scale.spec_replicas, scale.status_replicas) = (current, available);
            let decision = decide(&given, NOW);
            prop_assert!(replicas(&given, &decision) >= 0);
            let text = serde_json::to_string(&decision).unwrap();
            prop_assert_eq!(serde_json::from_str::<Decision>(&text).unwrap(), decision);
        }
        let answer = Some(super::of_pods(&milli));
        for metric in [cpu(1), custom(average(&text))] {
            let mut given = inputs(3, vec![metric], vec![answer.clone()]);
            given.spec.max_replicas = i32::MAX;
            prop_assert!(decide(&given, NOW).desired_replicas >= 1);
        }
    }
}
