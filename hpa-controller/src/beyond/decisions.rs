//! The features through whole decisions.

use std::sync::Arc;

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerStatus;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::decide::{Written, conclude, decide};
use crate::forecast::ForecastReading;
use crate::inputs::{
    Constants, Inputs, Memory, MetricAnswer, PodFacts, PodPhase, PodSet, ScaleReading, ValueReading,
};

const NOW: Timestamp = 1_790_000_000_000;

/// An autoscaler from 2 to 20 replicas on an external metric at 1 a pod; no metric at all where `load` is `None`.
fn inputs(current: i32, load: Option<i64>, beyond: Beyond) -> Inputs {
    let spec = json!({
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
        "minReplicas": 2,
        "maxReplicas": 20,
        "metrics": [{"type": "External", "external": {
            "metric": {"name": "load"}, "target": {"type": "AverageValue", "averageValue": "1"},
        }}],
    });
    let pod = PodFacts { name: "a".into(), phase: Some(PodPhase::Running), ..PodFacts::default() };
    let answer = match load {
        Some(load) => {
            MetricAnswer::Values(vec![ValueReading { value_milli: load * 1000, timestamp: NOW }])
        }
        None => {
            MetricAnswer::Failed("unable to fetch metrics from external metrics API: no".into())
        }
    };
    Inputs {
        constants: Constants::default(),
        namespace: "shop".into(),
        name: "web".into(),
        spec: serde_json::from_value(spec).unwrap(),
        status: Default::default(),
        scale: Ok(ScaleReading {
            spec_replicas: current,
            status_replicas: current,
            selector: "app=web".into(),
        }),
        pods: PodSet::Matched(vec![Arc::new(pod)]),
        metrics: vec![Some(answer)],
        memory: Memory::default(),
        beyond,
    }
}

fn asked(annotations: &[(&str, &str)]) -> Beyond {
    let annotations =
        annotations.iter().map(|(name, value)| (format!("{PREFIX}{name}"), String::from(*value)));
    let (policy, wrong) = parse(&annotations.collect());
    assert!(wrong.is_empty(), "{wrong:?}");
    gather(&policy, &[], None, None, NOW)
}

#[test]
fn a_wrong_annotation_is_told_and_changes_nothing() {
    let plain = decide(&inputs(4, Some(7), Beyond::default()), NOW);
    let annotations = [(format!("{PREFIX}paused"), String::from("perhaps"))];
    let (policy, wrong) = parse(&annotations.into());
    let inputs = inputs(4, Some(7), gather(&policy, &wrong, None, None, NOW));
    let decision = decide(&inputs, NOW);
    assert_eq!((decision.desired_replicas, decision.rescale), (7, true));
    assert_eq!(decision.status, plain.status);
    let told = conclude(&inputs, &decision, &Written::Done, NOW).events;
    assert!(told.iter().any(|event| event.reason == "InvalidAnnotation"), "{told:?}");
}

#[test]
fn a_pause_writes_no_scale_and_says_so() {
    let inputs = inputs(4, Some(7), asked(&[("paused", "true")]));
    let decision = decide(&inputs, NOW);
    assert_eq!((decision.desired_replicas, decision.rescale), (4, false));
    let events = conclude(&inputs, &decision, &Written::NotAsked, NOW).events;
    assert_eq!(events.iter().map(|event| &*event.reason).collect::<Vec<_>>(), ["ScalingPaused"]);
    // At a number of its own: the reason is the pause, and not the load.
    let held = decide(&self::inputs(4, Some(7), asked(&[("paused-replicas", "5")])), NOW);
    assert_eq!((held.desired_replicas, held.rescale), (5, true));
    assert_eq!(held.reason, "paused at this number");
}

#[test]
fn a_pause_at_a_number_needs_neither_metrics_nor_replicas() {
    let lost = inputs(4, None, asked(&[("paused-replicas", "7")]));
    let decision = decide(&lost, NOW);
    assert_eq!((decision.desired_replicas, decision.rescale), (7, true));
    assert_eq!(decision.reason, "paused at this number");
    assert!(decision.error.is_some());
    let status = conclude(&lost, &decision, &Written::Done, NOW).status;
    let active = |status: &HorizontalPodAutoscalerStatus| {
        let mut conditions = status.conditions.clone().unwrap().into_iter();
        let active = conditions.find(|condition| condition.type_ == "ScalingActive").unwrap();
        (active.status, active.reason.unwrap())
    };
    assert_eq!(active(&status), ("False".into(), "FailedGetExternalMetric".into()));
    assert_eq!(status.desired_replicas, 7);

    let mut alone = inputs(4, Some(4), asked(&[("paused-replicas", "7")]));
    alone.pods = PodSet::Ambiguous(vec!["shop/a".into(), "shop/web".into()]);
    assert_eq!(decide(&alone, NOW).desired_replicas, 7);

    let decision = decide(&inputs(0, Some(4), asked(&[("paused-replicas", "7")])), NOW);
    assert_eq!((decision.desired_replicas, decision.rescale), (7, true));
    assert_eq!(active(&decision.status), ("False".into(), "ScalingDisabled".into()));
    // Hands off is hands off.
    for current in [0, 4] {
        let decision = decide(&inputs(current, None, asked(&[("paused", "true")])), NOW);
        assert!(!decision.rescale);
    }
}

#[test]
fn what_is_not_looked_at_is_neither_lost_nor_found() {
    let beyond = asked(&[("fallback", "9"), ("fallback-after", "1m")]);
    let mut inputs = inputs(4, None, beyond);
    (inputs.memory.beyond.lost_since, inputs.memory.beyond.last_known) = (Some(NOW - 1), Some(5));
    inputs.pods = PodSet::Ambiguous(vec!["shop/a".into(), "shop/web".into()]);
    assert_eq!(decide(&inputs, NOW).memory.beyond, inputs.memory.beyond);
}

#[test]
fn open_rules_are_the_bounds() {
    // NOW is 14:13 UTC on a Monday.
    let open = r#"{"rules":[{"start":"0 8 * * *","end":"0 18 * * *","minReplicas":6}]}"#;
    let decision = decide(&inputs(4, Some(3), asked(&[("cron", open)])), NOW);
    assert_eq!((decision.desired_replicas, decision.bounds.below_min), (6, true));
    let closed = r#"{"rules":[{"start":"0 18 * * *","end":"0 20 * * *","minReplicas":6}]}"#;
    let decision = decide(&inputs(4, Some(4), asked(&[("cron", closed)])), NOW);
    assert_eq!(decision.desired_replicas, 4);
}

#[test]
fn lost_metrics_fall_back_and_conditions_stay_upstream_s() {
    let beyond = asked(&[("fallback", "9"), ("fallback-after", "1m")]);
    let mut memory = Memory::default();
    let mut turn = |load, at: Timestamp| {
        let inputs = Inputs { memory: memory.clone(), ..inputs(4, load, beyond.clone()) };
        let decision = decide(&inputs, at);
        memory = conclude(&inputs, &decision, &Written::NotAsked, at).memory;
        decision
    };
    assert_eq!(turn(Some(4), NOW).desired_replicas, 4);
    for after in [15_000, 60_000, 74_999] {
        let decision = turn(None, NOW + after);
        assert!(!decision.rescale && decision.beyond.metrics_lost, "{after}");
    }
    // A minute after the first loss, 4 → 8 at once by upstream's rate, then on to 9.
    let decision = turn(None, NOW + 75_000);
    assert_eq!((decision.beyond.fallback, decision.desired_replicas), (Some(9), 8));
    let conditions = decision.status.conditions.unwrap();
    let active = conditions.iter().find(|condition| condition.type_ == "ScalingActive").unwrap();
    assert_eq!(active.status, "False");
    assert_eq!(active.reason.as_deref(), Some("FailedGetExternalMetric"));
    // Metrics again: nothing is left of it.
    assert!(turn(Some(4), NOW + 90_000).beyond.is_none());
    assert_eq!(turn(None, NOW + 105_000).beyond.fallback, None);
}

proptest! {
    /// Whatever is asked for, the result lies within the bounds of the specification, or nothing happens.
    #[test]
    fn nothing_leaves_the_bounds(
        current in 1..30_i32,
        load in prop::option::of(0..40_i64),
        replicas in 0..60_i32,
        apply in any::<bool>(),
        paused in prop::option::of(0..60_i32),
        lost in any::<bool>(),
    ) {
        let mut annotations = vec![
            ("forecast", if apply { "apply" } else { "preview" }),
            ("forecast-query", "x"),
            ("fallback", "30"),
            ("flap-budget", "1"),
        ];
        let paused = paused.map(|number| number.to_string());
        annotations.extend(paused.as_deref().map(|number| ("paused-replicas", number)));
        let reading = ForecastReading {
            demand: f64::from(replicas), replicas, typical_error: 0.0, fitted_at: NOW, seasons: 7,
        };
        let beyond = Beyond { forecast: Some(Ok(reading)), ..asked(&annotations) };
        let mut inputs = inputs(current, load, beyond);
        inputs.memory.beyond.lost_since = lost.then_some(NOW - 3_600_000);
        let decision = decide(&inputs, NOW);
        let desired = decision.desired_replicas;
        prop_assert!(!decision.rescale || (2..=20).contains(&desired), "{desired}");
        // The same again from what is logged.
        let text = serde_json::to_string(&inputs).unwrap();
        let again: Inputs = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(decide(&again, NOW), decision);
    }

    #[test]
    fn a_preview_changes_nothing_but_the_notes(
        current in 2..20_i32, load in 0..40_i64, replicas in 0..60_i32,
    ) {
        let reading = ForecastReading {
            demand: f64::from(replicas), replicas, typical_error: 0.0, fitted_at: NOW, seasons: 7,
        };
        let preview = asked(&[("forecast", "preview"), ("forecast-query", "x")]);
        let preview = Beyond { forecast: Some(Ok(reading)), ..preview };
        let mut with = decide(&inputs(current, Some(load), preview), NOW);
        prop_assert!(!with.beyond.notes.is_empty());
        with.beyond = BeyondDecision::default();
        prop_assert_eq!(with, decide(&inputs(current, Some(load), Beyond::default()), NOW));
    }
}
