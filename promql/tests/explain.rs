//! What a query says about itself: samples per step, and what each operation did.

#![expect(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

mod store;

use std::time::Duration;

use model::{Columns, Labels, METRIC_NAME, QueryContext};
use promql::{Engine, EngineOptions, QueryOptions, QueryResult};

/// Three series with a sample every ten seconds, from 0 to 100 s.
fn store() -> store::Store {
    let mut store = store::Store::default();
    for a in ["1", "2", "3"] {
        let mut columns = Columns::new();
        (0..=10).for_each(|i| columns.push(i * 10_000, i as f64));
        store.add(Labels::from_pairs([(METRIC_NAME, "m"), ("a", a)]).unwrap(), columns);
    }
    store
}

/// The answer for the steps 60, 80 and 100 s.
fn range(query: &str) -> QueryResult {
    let engine = Engine::new(EngineOptions::default(), &telemetry::Registry::new());
    let options = QueryOptions { per_step_stats: true, explain: true, ..QueryOptions::default() };
    let (step, context) = (Duration::from_secs(20), QueryContext::unbounded());
    engine.range(&store(), query, 60_000, 100_000, step, &options, &context).unwrap()
}

#[test]
fn each_step_counts_what_it_would_look_at_alone() {
    let check = |query: &str, per_step: [u64; 3]| {
        let result = range(query);
        let times = [60_000, 80_000, 100_000];
        let expected: Vec<_> = times.into_iter().zip(per_step).collect();
        assert_eq!(result.samples_per_step, expected, "{query}");
        assert_eq!(result.stats.samples_queryable, per_step.iter().sum::<u64>(), "{query}");
    };
    check("m", [3, 3, 3]);
    check("m + on (a) m", [6, 6, 6]);
    check("rate(m[30s])", [9, 9, 9]);
    check("sum_over_time(m[1000s])", [21, 27, 33]);
    check("m offset 50s", [3, 3, 3]);
    check("m @ 30", [3, 3, 3]);
    check("sum_over_time(m[30s] @ 30)", [9, 9, 9]);
    check("m * 0 + scalar(sum(m @ 30))", [6, 6, 6]);
    // Functions look at what the subquery gives them.
    check("max_over_time(m[20s:5s])", [12, 12, 12]);
    check("max_over_time(rate(m[30s])[20s:10s])", [6, 6, 6]);
    check("1", [0, 0, 0]);
    let unasked = Engine::new(EngineOptions::default(), &telemetry::Registry::new());
    let (options, context) = (QueryOptions::default(), QueryContext::unbounded());
    let result = unasked.instant(&store(), "m", 60_000, &options, &context).unwrap();
    assert!(result.samples_per_step.is_empty() && result.explained.is_none());
}

/// Prometheus counts what a step reads anew: all of the first window, then what has come since the step before. What a subquery reads is
/// read for the first step whose window has it, if any does.
#[test]
fn each_step_counts_what_was_read_for_it() {
    let check = |query: &str, per_step: [u64; 3]| {
        let result = range(query);
        let times = [60_000, 80_000, 100_000];
        let expected: Vec<_> = times.into_iter().zip(per_step).collect();
        assert_eq!(result.samples_read_per_step, expected, "{query}");
        assert_eq!(result.stats.samples_read, per_step.iter().sum::<u64>(), "{query}");
        // Without counting by step the sum is the same.
        let engine = Engine::new(EngineOptions::default(), &telemetry::Registry::new());
        let options = QueryOptions { peak_stats: true, ..QueryOptions::default() };
        let (step, context) = (Duration::from_secs(20), QueryContext::unbounded());
        let plain = engine.range(&store(), query, 60_000, 100_000, step, &options, &context);
        let plain = plain.unwrap().stats;
        assert_eq!(plain.samples_read, result.stats.samples_read, "{query}");
        assert_eq!(plain.samples_queryable, result.stats.samples_queryable, "{query}");
    };
    check("m", [3, 3, 3]);
    check("timestamp(m)", [3, 3, 3]);
    check("rate(m[30s])", [9, 6, 6]);
    check("sum_over_time(m[1000s])", [21, 6, 6]);
    check("sum_over_time(m[10s])", [3, 3, 3]);
    check("absent_over_time(m[30s])", [9, 6, 6]);
    check("m @ 30", [3, 0, 0]);
    check("sum_over_time(m[30s] @ 30)", [9, 0, 0]);
    check("m * 0 + scalar(sum(m @ 30))", [6, 3, 3]);
    check("quantile_over_time(scalar(m{a=\"1\"}) / 10, m[30s] @ 30)", [10, 1, 1]);
    check("max_over_time(m[20s:5s])", [12, 12, 12]);
    check("max_over_time(m[10s:5s])", [6, 6, 6]);
    check("max_over_time(m[10s:5s] offset 20s)", [6, 6, 6]);
    check("max_over_time(rate(m[30s])[20s:10s])", [12, 6, 6]);
    check("max_over_time(rate(m[30s])[10s:5s])", [12, 3, 3]);
    check("max_over_time(m[20s:5s] @ 60)", [12, 0, 0]);
    check("m + on (a) m", [6, 6, 6]);
    check("1", [0, 0, 0]);
}

/// Prometheus has operands whole, copies those of a step and adds its result.
#[test]
fn the_peak_is_that_of_an_evaluation_step_by_step() {
    let peak = |query: &str| {
        let engine = Engine::new(EngineOptions::default(), &telemetry::Registry::new());
        let options = QueryOptions { peak_stats: true, ..QueryOptions::default() };
        let (step, context) = (Duration::from_secs(20), QueryContext::unbounded());
        let result = engine.range(&store(), query, 60_000, 100_000, step, &options, &context);
        result.unwrap().stats.samples_peak
    };
    for (query, expected) in [
        ("m", 9),
        // Operands 18; results of the first two steps 6; copies 6, and the last result.
        ("m + on (a) m", 18 + 6 + 6 + 3),
        ("m * 2", 12 + 6 + 4 + 3),
        ("2 * m", 12 + 6 + 4 + 3),
        ("-m", 9),
        // At one step: a number, its copy, the result; then the result at the other steps.
        ("vector(1)", 3),
        ("sum(m)", 9),
        ("topk(1, m)", 3 + 9),
        // Results of two series and of the third, and its last window.
        ("rate(m[30s])", 6 + 3 + 3),
        ("sum(rate(m[30s]))", 12),
        ("absent_over_time(m[30s])", 12),
        // 12 steps of the subquery for each series.
        ("max_over_time(m[20s:5s])", 36 + 6 + 3 + 4),
        ("timestamp(m)", 6 + 2 * 3),
        ("timestamp(m * 1)", 12 + 6 + 4 + 3),
        ("clamp(m, 1, 2)", 9 + 3 + 3 + 6 + 5 + 3),
        ("clamp_min(m, 1)", 12 + 6 + 4 + 3),
        ("round(m)", 9 + 6 + 3 + 3),
        ("m + on (a) m + on (a) m", 9 + 9 + 6 + 6 + 3),
        ("scalar(m) + scalar(m) + 1", 3 + 9 + 2 + 3 + 1),
        ("time() + m", 12 + 6 + 4 + 3),
        // At one step: two numbers, their copies, the result; then the result at all steps and the vector.
        ("1 + 2", 5),
        ("m * (1 + 2)", 12 + 6 + 4 + 3),
        ("label_replace(m, \"b\", \"\", \"\", \"\")", 9),
        ("histogram_quantile(0.5, m)", 3 + 9 + 4),
        ("sum(m) / sum(m)", 3 + 9),
    ] {
        assert_eq!(peak(query), expected, "{query}");
    }
}

#[test]
fn operations_say_what_they_did() {
    let explained = range("sum by (a) (rate(m[30s])) / 2").explained.unwrap();
    assert_eq!(explained.operation, "sum by (a) (rate(m[30s])) / 2");
    let pipeline = &explained.operands[0];
    assert_eq!((pipeline.operation.as_str(), pipeline.series), ("/ scalar", 3));
    let sum = &pipeline.operands[0];
    assert_eq!((sum.operation.as_str(), sum.series, sum.samples), ("sum by (a)", 3, 9));
    assert!(sum.bytes > 0);
    let rate = &sum.operands[0];
    assert!(rate.operation.contains("[30000 ms]"), "{}", rate.operation);
    assert_eq!((rate.series_selected, rate.series, rate.samples), (3, 3, 9));
    // From 30 s, which the first window does not contain, to 100 s.
    assert_eq!(rate.samples_read, 3 * 7);
    assert!(rate.seconds <= sum.seconds && rate.operands.is_empty());
    let text = explained.to_string();
    assert_eq!(text.lines().count(), 4);
    assert!(text.contains("\n      ") && text.contains("3 series selected"), "{text}");
}

#[test]
fn operands_are_in_order() {
    let explained = range("m - on (a) (m offset 10s)").explained.unwrap();
    let pipeline = &explained.operands[0];
    let operations: Vec<&str> = pipeline.operands.iter().map(|o| o.operation.as_str()).collect();
    assert_eq!(operations.len(), 2);
    assert!(!operations[0].contains("offset") && operations[1].contains("offset 10000 ms"));
}
