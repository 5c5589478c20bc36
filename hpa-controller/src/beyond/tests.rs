//! The hooks: tables, and the rules that they keep to whatever is asked for.

use proptest::prelude::*;

use super::*;
use crate::forecast::ForecastReading;

const MINUTE: i64 = 60_000;

fn pause(until: Option<Timestamp>, replicas: Option<i32>) -> Beyond {
    let policy = Policy { pause: Some(Pause { until, replicas }), ..Policy::default() };
    Beyond { policy, ..Beyond::default() }
}

fn scheduled(rules: &[(Option<i32>, Option<i32>, i64, i64)]) -> Beyond {
    let cron = |text: &str| text.parse::<Cron>().unwrap();
    let rule = |(min_replicas, max_replicas, ..): &(Option<i32>, Option<i32>, i64, i64)| Rule {
        start: cron("0 8 * * *"),
        end: cron("0 9 * * *"),
        min_replicas: *min_replicas,
        max_replicas: *max_replicas,
    };
    let schedule =
        Schedule { timezone: String::from("UTC"), rules: rules.iter().map(rule).collect() };
    let windows = rules.iter().enumerate();
    let windows = windows.map(|(rule, &(_, _, from, until))| Window { rule, from, until });
    Beyond {
        windows: windows.collect(),
        policy: Policy { schedule: Some(schedule), ..Policy::default() },
        ..Beyond::default()
    }
}

fn falls_back(to: FallbackTo) -> Beyond {
    let fallback = Fallback { to, after_ms: MINUTE };
    let policy = Policy { fallback: Some(fallback), ..Policy::default() };
    Beyond { policy, ..Beyond::default() }
}

fn forecasts(replicas: i32, apply: bool) -> Beyond {
    let forecast = ForecastPolicy {
        apply,
        query: String::from("x"),
        per_replica_milli: 1000,
        season_ms: 86_400_000,
        horizon_ms: 900_000,
    };
    let reading = ForecastReading {
        demand: f64::from(replicas),
        replicas,
        typical_error: 0.5,
        fitted_at: 0,
        seasons: 7,
    };
    Beyond {
        policy: Policy { forecast: Some(forecast), ..Policy::default() },
        forecast: Some(Ok(reading)),
        ..Beyond::default()
    }
}

fn did() -> BeyondDecision {
    BeyondDecision::default()
}

#[test]
fn nothing_asked_for_is_nothing_done() {
    let (none, memory, mut did) = (Beyond::default(), BeyondMemory::default(), did());
    assert!(none.is_none());
    assert_eq!(none.bounds(2, 9, 0, &mut did), (2, 9));
    assert_eq!(none.raise(5, 0, &mut did), 5);
    assert_eq!(none.hold(&memory, 3, 5, (2, 9), 0, &mut did), 5);
    assert!(did.is_none());
    assert_eq!(none.fallback(&memory, 3, Some(5), 0, &mut did), None);
    assert!(did.notes.is_empty() && did.events.is_empty());
}

#[test]
fn rules_narrow_the_bounds() {
    let check = |rules: &[_], expected, note: &str| {
        let mut did = did();
        assert_eq!(scheduled(rules).bounds(2, 10, 50, &mut did), expected, "{rules:?}");
        assert_eq!(did.notes.concat(), note);
    };
    check(&[(Some(5), None, 0, 50)], (2, 10), "");
    check(&[(Some(5), None, 51, 60)], (2, 10), "");
    check(&[(Some(5), None, 50, 60)], (5, 10), "bounds by schedule: 5 to 10 instead of 2 to 10");
    check(&[(None, Some(4), 0, 60)], (2, 4), "bounds by schedule: 2 to 4 instead of 2 to 10");
    check(&[(Some(1), Some(20), 0, 60)], (2, 10), "bounds by schedule: 2 to 10 instead of 2 to 10");
    check(
        &[(Some(50), None, 0, 60)],
        (10, 10),
        "bounds by schedule: 10 to 10 instead of 2 to 10 (asked for: 50 to 10)",
    );
    // Of rules that overlap the narrower counts; of rules that contradict each other the one for more replicas.
    check(
        &[(Some(3), Some(9), 0, 60), (Some(4), Some(8), 0, 60)],
        (4, 8),
        "bounds by schedule: 4 to 8 instead of 2 to 10",
    );
    check(
        &[(Some(7), None, 0, 60), (None, Some(5), 0, 60)],
        (7, 7),
        "bounds by schedule: 7 to 7 instead of 2 to 10 (asked for: 7 to 5)",
    );
}

#[test]
fn lost_metrics_fall_back_after_a_while() {
    let lost =
        BeyondMemory { lost_since: Some(1000), last_known: Some(8), ..BeyondMemory::default() };
    let check = |to, memory: &BeyondMemory, (current, best), now, expected| {
        let mut did = did();
        let fallback = falls_back(to).fallback(memory, current, best, now, &mut did);
        assert_eq!(fallback, expected, "{to:?} at {now}");
        assert_eq!((did.metrics_lost, did.fallback), (true, expected));
        assert_eq!(did.events.len(), usize::from(expected.is_some()));
        assert_eq!(did.notes.len(), 1);
        did
    };
    let then = 1000 + MINUTE;
    check(FallbackTo::Replicas(6), &BeyondMemory::default(), (3, None), then, None);
    let did = check(FallbackTo::Replicas(6), &lost, (3, None), then - 1, None);
    assert_eq!(did.notes, ["metrics are lost; fallback in 1ms"]);
    let did = check(FallbackTo::Replicas(6), &lost, (3, None), then, Some(6));
    assert_eq!(
        (did.events[0].kind, &*did.events[0].reason),
        (EventType::Warning, "MetricsFallback")
    );
    assert_eq!(
        did.events[0].message,
        "metrics have been lost for more than 60 s, fallback (6) to 6 replicas"
    );
    check(FallbackTo::Replicas(6), &lost, (7, None), then, Some(7));
    check(FallbackTo::Replicas(2), &lost, (3, Some(4)), then, Some(4));
    check(FallbackTo::Hold, &lost, (3, None), then, Some(3));
    check(FallbackTo::LastKnown, &lost, (3, None), then, Some(8));
    let unknown = BeyondMemory { last_known: None, ..lost };
    check(FallbackTo::LastKnown, &unknown, (3, None), then, Some(3));
}

#[test]
fn a_forecast_is_a_term_of_the_maximum_once_it_is_applied() {
    for (replicas, apply, expected, applied) in
        [(7, true, 7, true), (7, false, 5, false), (4, true, 5, false)]
    {
        let mut did = did();
        assert_eq!(forecasts(replicas, apply).raise(5, 0, &mut did), expected);
        assert_eq!(did.forecast, Some(ForecastTerm { replicas, applied }));
    }
    let mut did = did();
    let unknown = Beyond { forecast: Some(Err("no".into())), ..forecasts(7, true) };
    assert_eq!(unknown.raise(5, 0, &mut did), 5);
    assert_eq!(did.notes, ["there is no forecast: no"]);
}

#[test]
fn a_pause_holds_until_it_ends() {
    let check = |beyond: &Beyond, current, desired, now, expected, events| {
        let (mut did, memory) = (did(), BeyondMemory::default());
        assert_eq!(beyond.hold(&memory, current, desired, (2, 10), now, &mut did), expected);
        assert_eq!(did.events.len(), events, "{did:?}");
    };
    check(&pause(None, None), 3, 7, 0, 3, 1);
    check(&pause(None, None), 3, 3, 0, 3, 0);
    check(&pause(None, None), 20, 10, 0, 20, 1);
    check(&pause(Some(100), None), 3, 7, 99, 3, 1);
    check(&pause(Some(100), None), 3, 7, 100, 7, 0);
    check(&pause(None, Some(6)), 3, 7, 0, 6, 1);
    check(&pause(None, Some(0)), 3, 7, 0, 2, 1);
    check(&pause(None, Some(99)), 3, 7, 0, 10, 1);
}

#[test]
fn a_flap_budget_holds_scaling_down_alone() {
    let budget = FlapBudget { turns: 2, window_ms: 1000 };
    let policy = Policy { flap_budget: Some(budget), ..Policy::default() };
    let beyond = Beyond { policy: policy.clone(), ..Beyond::default() };
    let mut memory = BeyondMemory::default();
    // Up, down, up: two turns are past.
    for (current, desired, at) in [(2, 4, 100), (4, 3, 200), (3, 5, 300)] {
        memory.rescaled(&policy, current, desired, at);
    }
    let check = |current, desired, now, expected, reason: &str| {
        let mut did = did();
        assert_eq!(beyond.hold(&memory, current, desired, (2, 10), now, &mut did), expected);
        let told: String = did.events.iter().map(|event| event.reason.as_str()).collect();
        assert_eq!(told, reason, "{desired} at {now}");
    };
    check(5, 4, 400, 5, "FlapBudgetExceeded");
    check(5, 6, 400, 6, "");
    check(5, 5, 400, 5, "");
    check(12, 10, 400, 10, "");
    check(5, 4, 1199, 5, "FlapBudgetExceeded");
    check(5, 4, 1200, 4, "");
}

#[test]
fn what_is_left_out_and_what_went_wrong_is_told() {
    let problem = EventNote {
        kind: EventType::Warning,
        reason: String::from("InvalidAnnotation"),
        message: String::from("wrong"),
    };
    let policy = Policy { owned_pods: true, ..Policy::default() };
    let left_out = LeftOut { count: 7, names: vec!["a".into(), "b".into()] };
    let beyond = gather(&policy, std::slice::from_ref(&problem), None, Some(left_out), 0);
    let mut did = did();
    assert_eq!(beyond.bounds(1, 2, 0, &mut did), (1, 2));
    assert_eq!(did.events, [problem]);
    assert_eq!(
        did.notes,
        ["pods that the selector matches and the target does not own, left out: 7 (a, b, …)"]
    );
}

#[test]
fn what_is_asked_for_survives_the_log() {
    let annotations = [
        ("paused-until", "2026-01-01T00:00:00Z"),
        (
            "cron",
            r#"{"timezone":"Europe/Berlin","rules":[{"start":"0 8 * * 1-5","end":"0 18 * * 1-5","minReplicas":5}]}"#,
        ),
        ("fallback", "last-known"),
        ("forecast", "apply"),
        ("forecast-query", "sum(x)"),
        ("pods", "owned"),
        ("flap-budget", "3"),
    ];
    let annotations = annotations.map(|(name, value)| (format!("{PREFIX}{name}"), value.into()));
    let (policy, wrong) = parse(&annotations.into());
    assert!(wrong.is_empty(), "{wrong:?}");
    let forecast = forecasts(3, true).forecast;
    let beyond = gather(&policy, &[], forecast, Some(LeftOut::default()), 1_790_000_000_000);
    assert_eq!(beyond.windows.len(), 1);
    let text = serde_json::to_string(&beyond).unwrap();
    assert_eq!(serde_json::from_str::<Beyond>(&text).unwrap(), beyond);
}

prop_compose! {
    fn rule()(
        min in prop::option::of(1..40_i32),
        max in prop::option::of(1..40_i32),
        from in 0..100_i64,
        length in 0..100_i64,
    ) -> (Option<i32>, Option<i32>, i64, i64) {
        (min, max, from, from + length)
    }
}

proptest! {
    #[test]
    fn bounds_stay_within_those_of_the_specification(
        rules in prop::collection::vec(rule(), 0..4),
        min in 0..30_i32,
        more in 0..30_i32,
        now in 0..200_i64,
    ) {
        let max = min + more;
        let (lowest, highest) = scheduled(&rules).bounds(min, max, now, &mut did());
        prop_assert!(min <= lowest && lowest <= highest && highest <= max);
    }

    #[test]
    fn a_fallback_never_scales_down(
        to in prop_oneof![
            Just(FallbackTo::Hold), Just(FallbackTo::LastKnown), (1..50_i32).prop_map(FallbackTo::Replicas)
        ],
        current in 0..50_i32,
        best in prop::option::of(0..50_i32),
        last_known in prop::option::of(0..50_i32),
        lost in prop::option::of(0..200_000_i64),
        now in 0..200_000_i64,
    ) {
        let memory = BeyondMemory { lost_since: lost, last_known, ..BeyondMemory::default() };
        let replicas = falls_back(to).fallback(&memory, current, best, now, &mut did());
        if let Some(replicas) = replicas {
            prop_assert!(replicas >= current && replicas >= best.unwrap_or(0));
            prop_assert!(lost.is_some_and(|lost| now - lost >= MINUTE));
        }
    }

    #[test]
    fn a_preview_never_changes_the_answer(replicas in 0..100_i32, proposed in 0..100_i32) {
        prop_assert_eq!(forecasts(replicas, false).raise(proposed, 0, &mut did()), proposed);
        let applied = forecasts(replicas, true).raise(proposed, 0, &mut did());
        prop_assert_eq!(applied, proposed.max(replicas));
    }

    #[test]
    fn a_hold_stays_within_the_bounds(
        held in prop::option::of(prop::option::of(0..100_i32)),
        budget in prop::option::of(0..3_u32),
        steps in prop::collection::vec((any::<bool>(), 1..100_i64), 0..10),
        (min, current, desired, max) in (1..20_i32, 0..20_i32, 0..20_i32, 0..20_i32)
            .prop_map(|(min, a, b, c)| {
                let max = min + a.max(b).max(c);
                (min, min + a, min + b, max)
            }),
    ) {
        let policy = Policy {
            pause: held.map(|replicas| Pause { until: None, replicas }),
            flap_budget: budget.map(|turns| FlapBudget { turns, window_ms: 300 }),
            ..Policy::default()
        };
        let mut memory = BeyondMemory::default();
        let mut now = 0;
        for (up, after) in steps {
            now += after;
            memory.rescaled(&policy, 1, if up { 2 } else { 0 }, now);
        }
        let beyond = Beyond { policy, ..Beyond::default() };
        let result = beyond.hold(&memory, current, desired, (min, max), now, &mut did());
        prop_assert!(min <= result && result <= max);
        if held.is_none() {
            // A budget changes nothing but scaling down.
            prop_assert!(result == desired || (desired < current && result == current));
        }
    }
}
