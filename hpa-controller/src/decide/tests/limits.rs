//! Stabilization, rates and bounds.

use k8s_openapi::api::autoscaling::v2::{HPAScalingRules, HorizontalPodAutoscalerBehavior};

use super::{NOW, ago, cpu_inputs, event, recommendation, replicas, rules};
use crate::decide::limit::{self, Bounds};
use crate::decide::rules::{Direction, Events, Rules, Select, changed_within, store};
use crate::decide::{decide, stabilize};
use crate::decision::LimitReason;
use crate::inputs::{Constants, ScaleEvent};

/// What rules allow from `current` replicas.
fn allowed(
    given: &HPAScalingRules,
    direction: Direction,
    current: i32,
    (up, down): (&[ScaleEvent], &[ScaleEvent]),
) -> i32 {
    Rules::new(Some(given), direction).limit(direction, current, Events { up, down }, NOW).0
}

#[test]
fn policies_are_selected_by_the_size_of_the_change() {
    let both = [("Pods", 3, 60), ("Percent", 50, 60)];
    let cases = [
        // From 10: 13 or 15 up, 7 or 5 down.
        ("Max", Direction::Up, 10, 15),
        ("Min", Direction::Up, 10, 13),
        ("Max", Direction::Down, 10, 5),
        ("Min", Direction::Down, 10, 7),
        // From 3: 6 or 4.5 up, rounded up; 0 or 1.5 down, rounded toward zero.
        ("Max", Direction::Up, 3, 6),
        ("Min", Direction::Up, 3, 5),
        ("Max", Direction::Down, 3, 0),
        ("Min", Direction::Down, 3, 1),
        ("Disabled", Direction::Up, 3, 3),
        ("Disabled", Direction::Down, 3, 3),
    ];
    for (select, direction, current, expected) in cases {
        let given = rules(select, 0, &both);
        let what = (select, direction, current);
        assert_eq!(allowed(&given, direction, current, (&[], &[])), expected, "{what:?}");
    }
}

#[test]
fn an_event_as_old_as_the_period_is_not_within_it() {
    let events = [event(1, 59, false), event(10, 60, false), event(100, 61, true)];
    assert_eq!(changed_within(&events, 60_000, NOW), 1);
    // Whether its place may be taken is of no matter to its age.
    assert_eq!(changed_within(&events, 62_000, NOW), 111);
    // From a clock that is ahead: it is younger than any period.
    assert_eq!(changed_within(&[event(5, -1000, false)], 1, NOW), 5);
    assert_eq!(changed_within(&[event(i32::MAX, 1, false); 2], 60_000, NOW), i32::MAX);
}

#[test]
fn a_period_starts_from_the_replicas_that_there_were() {
    // 10 now, 4 of them added and 1 removed within the period: it began with 7.
    let (up, down) = ([event(4, 10, false)], [event(1, 20, false)]);
    let given = rules("Max", 0, &[("Pods", 5, 60)]);
    assert_eq!(allowed(&given, Direction::Up, 10, (&up, &down)), 12);
    assert_eq!(allowed(&given, Direction::Down, 10, (&up, &down)), 2);
    let given = rules("Max", 0, &[("Percent", 10, 60)]);
    // 7.7 up; 6.3 down.
    assert_eq!(allowed(&given, Direction::Up, 10, (&up, &down)), 8);
    assert_eq!(allowed(&given, Direction::Down, 10, (&up, &down)), 6);
}

#[test]
fn rates_never_lead_to_the_other_side() {
    let (up_rules, down_rules) =
        (rules("Max", 0, &[("Pods", 1, 60)]), rules("Max", 0, &[("Pods", 1, 60)]));
    let up = Rules::new(Some(&up_rules), Direction::Up);
    let down = Rules::new(Some(&down_rules), Direction::Down);
    let bounds = Bounds { min: 1, max: 100 };
    let limit = |desired, added: i32, removed: i32| {
        let (added, removed) = ([event(added, 10, false)], [event(removed, 10, false)]);
        let events = Events { up: &added, down: &removed };
        limit::with_rules(10, desired, bounds, (&up, &down), events, NOW).limit
    };
    // 5 were added where 1 may be: 6 would be allowed from 10, so no more are.
    let held = limit(20, 5, 0);
    assert_eq!((held.replicas, held.reason), (10, LimitReason::ScaleUpLimit));
    let held = limit(2, 0, 5);
    assert_eq!((held.replicas, held.reason), (10, LimitReason::ScaleDownLimit));
    // Nothing is to change: neither rates nor bounds are asked about.
    let events = Events { up: &[], down: &[] };
    let outside = Bounds { min: 20, max: 30 };
    let same = limit::with_rules(10, 10, outside, (&up, &down), events, NOW);
    assert_eq!((same.limit.replicas, same.limit.reason), (10, LimitReason::DesiredWithinRange));
    assert_eq!(same.rate_limit, None);
}

#[test]
fn disabled_directions_stand_still() {
    let behavior = |up: &str, down: &str| {
        Some(HorizontalPodAutoscalerBehavior {
            scale_up: Some(rules(up, 0, &[("Pods", 50, 60)])),
            scale_down: Some(rules(down, 0, &[("Pods", 50, 60)])),
        })
    };
    let (hot, cold) = ([900; 4], [100; 4]);
    for (up, down, usage, expected, reason) in [
        ("Disabled", "Max", hot, 4, "ScaleUpLimit"),
        ("Disabled", "Max", cold, 1, "DesiredWithinRange"),
        ("Max", "Disabled", hot, 8, "DesiredWithinRange"),
        ("Max", "Disabled", cold, 4, "ScaleDownLimit"),
    ] {
        let mut given = cpu_inputs(4, &usage);
        given.spec.behavior = behavior(up, down);
        let decision = decide(&given, NOW);
        assert_eq!(decision.desired_replicas, expected, "{up} {down}");
        assert_eq!(decision.rate_limit.unwrap().limit.reason.as_str(), reason);
    }
}

#[test]
fn without_behavior_a_step_is_capped() {
    let constants = Constants::default();
    let limit = |current, desired, min, max| {
        let limit = limit::plain(current, desired, Bounds { min, max }, &constants).limit;
        (limit.replicas, limit.reason)
    };
    assert_eq!(limit(10, 30, 1, 100), (20, LimitReason::ScaleUpLimit));
    assert_eq!(limit(1, 30, 1, 100), (4, LimitReason::ScaleUpLimit));
    // The bound is named where both are the same.
    assert_eq!(limit(10, 30, 1, 20), (20, LimitReason::TooManyReplicas));
    assert_eq!(limit(10, 2, 3, 20), (3, LimitReason::TooFewReplicas));
    assert_eq!(limit(i32::MAX, i32::MAX, 1, i32::MAX), (i32::MAX, LimitReason::DesiredWithinRange));
}

#[test]
fn a_recommendation_at_the_edge_of_the_window() {
    // Without behavior as old as the window counts, with behavior it does not.
    let mut list = vec![recommendation(9, 300)];
    assert_eq!(stabilize::plain(5, 300_000, &mut list, NOW).stabilized, 9);
    assert_eq!(list, [recommendation(9, 300), recommendation(5, 0)]);
    let mut list = vec![recommendation(9, 300)];
    let outcome = stabilize::with_windows(9, 5, 0, 300_000, &mut list, NOW);
    assert_eq!(outcome.stabilized, 5);
    // Its place is not taken yet.
    assert_eq!(list, [recommendation(9, 300), recommendation(5, 0)]);
    let mut list = vec![recommendation(9, 301), recommendation(8, 400), recommendation(7, 10)];
    stabilize::plain(5, 300_000, &mut list, NOW);
    assert_eq!(list, [recommendation(9, 301), recommendation(5, 0), recommendation(7, 10)]);
}

#[test]
fn both_windows_hold() {
    let recommendations = [recommendation(3, 50), recommendation(12, 20)];
    let stabilized = |current, desired, up_s: i64, down_s: i64| {
        let mut list = recommendations.to_vec();
        let (up, down) = (up_s * 1000, down_s * 1000);
        let outcome = stabilize::with_windows(current, desired, up, down, &mut list, NOW);
        (outcome.stabilized, outcome.reason)
    };
    let is = |replicas: i32, reason: &str| (replicas, reason.to_owned());
    // Going up from 5: the lowest of the last 60 s is 3, so the current count stays; of the last 30 s it is 10.
    assert_eq!(stabilized(5, 10, 60, 0), is(5, "ScaleUpStabilized"));
    assert_eq!(stabilized(5, 10, 30, 0), is(10, "ReadyForNewScale"));
    // Going down from 15: the highest of the last 60 s is 12.
    assert_eq!(stabilized(15, 10, 0, 60), is(12, "ScaleDownStabilized"));
    assert_eq!(stabilized(15, 10, 0, 10), is(10, "ReadyForNewScale"));
    assert_eq!(stabilize::reason_if_changed(5, 5), "ScaleUpStabilized");
}

#[test]
fn defaults_of_a_behavior() {
    let up = Rules::new(None, Direction::Up);
    assert_eq!((up.window_ms, up.select), (Some(0), Select::Max));
    let policies: Vec<_> =
        up.policies.iter().map(|p| (p.type_.as_str(), p.value, p.period_seconds)).collect();
    assert_eq!(policies, [("Pods", 4, 15), ("Percent", 100, 15)]);
    let down = Rules::new(None, Direction::Down);
    assert_eq!((down.window_ms, down.select), (None, Select::Max));
    let policies: Vec<_> =
        down.policies.iter().map(|p| (p.type_.as_str(), p.value, p.period_seconds)).collect();
    assert_eq!(policies, [("Percent", 100, 15)]);
    // Each field for itself.
    let given =
        HPAScalingRules { select_policy: Some("Min".to_owned()), ..HPAScalingRules::default() };
    let up = Rules::new(Some(&given), Direction::Up);
    assert_eq!((up.window_ms, up.select, up.policies.len()), (Some(0), Select::Min, 2));
}

#[test]
fn the_window_of_the_controller_holds_where_the_behavior_has_none() {
    let mut given = cpu_inputs(4, &[100; 4]);
    given.spec.behavior = Some(HorizontalPodAutoscalerBehavior::default());
    given.memory.recommendations = Some(vec![recommendation(3, 299)]);
    assert_eq!(replicas(&given), 3);
    given.memory.recommendations = Some(vec![recommendation(3, 300)]);
    assert_eq!(replicas(&given), 1);
    // Of a window of the controller only whole seconds count beside a behavior, and all of it without one.
    given.constants.downscale_stabilization_ms = 2_900;
    given.memory.recommendations = Some(vec![recommendation(3, 2)]);
    assert_eq!(replicas(&given), 1);
    given.memory.recommendations = Some(vec![recommendation(3, 1)]);
    assert_eq!(replicas(&given), 3);
    given.spec.behavior = None;
    given.memory.recommendations = Some(vec![recommendation(3, 2)]);
    assert_eq!(replicas(&given), 3);
}

#[test]
fn an_event_takes_the_place_of_the_last_outdated_one() {
    let given = rules("Max", 0, &[("Pods", 1, 60), ("Percent", 1, 30)]);
    let rules = Rules::new(Some(&given), Direction::Up);
    let mut events =
        vec![event(1, 61, false), event(2, 60, false), event(3, 90, true), event(4, 5, false)];
    store(&mut events, 7, &rules, NOW);
    // As old as the longest period is not outdated.
    let expected =
        [event(1, 61, true), event(2, 60, false), event(7, 0, false), event(4, 5, false)];
    assert_eq!(events, expected);
    let mut events = vec![ScaleEvent { change: 1, at: ago(10), outdated: false }];
    store(&mut events, 2, &rules, NOW);
    assert_eq!(events, [event(1, 10, false), event(2, 0, false)]);
}
