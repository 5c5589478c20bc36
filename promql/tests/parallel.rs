//! However many threads evaluate a query, its answer is the same to the last bit, and so is what it says about itself.

#![expect(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

mod mixed;
mod store;

use mixed::{ask, store, text};
use model::{Budget, QueryContext};
use promql::{Engine, EngineOptions, ParseOptions, QueryFailure, QueryOptions, QueryResult};
use proptest::prelude::*;

const QUERIES: [&str; 34] = [
    "c_total",
    "g",
    "h",
    "timestamp(c_total)",
    "start_timestamp(c_total)",
    "sum(g)",
    "avg by (b) (g)",
    "sum(sum by (b) (g))",
    "sum by (b) (rate(c_total[1m]))",
    "sum by (b) (rate(g[5m]))",
    "rate(h[2m])",
    "sum(rate(h[2m]))",
    "sum(h)",
    "max_over_time(g[3m])",
    "sum_over_time(h[1m])",
    "sum_over_time({__name__=~\"g|h\"}[1m])",
    "quantile_over_time(1.5, g[2m])",
    "avg_over_time(c_total[2m] offset -1m)",
    "c_total smoothed",
    "increase(c_total[1m] anchored)",
    "count_values(\"v\", c_total > 100)",
    "topk(3, rate(c_total[1m]))",
    "sum(topk by (b) (2, g))",
    "limit_ratio(0.4, g)",
    "c_total / on (a, b, le) group_left g",
    "c_total / ignoring (le) g",
    "g or c_total",
    "c_total unless on (b) (g > 3)",
    "histogram_quantile(0.9, sum by (le, b) (rate(c_total[1m])))",
    "histogram_quantile(0.9, {__name__=~\"c_total|h\"})",
    "max_over_time(rate(c_total[1m])[5m:30s])",
    "scalar(sum(g)) + sum(c_total @ 600)",
    "absent_over_time(g[15s])",
    "label_replace(rate(c_total[1m]), \"n\", \"x\", \"a\", \".*\")",
];

fn engine(parallelism: usize, delayed_name_removal: bool) -> Engine {
    let options = EngineOptions {
        parallelism,
        parallel_work_min: 0,
        delayed_name_removal,
        parse: ParseOptions::all(),
        ..EngineOptions::default()
    };
    Engine::new(options, &telemetry::Registry::new())
}

/// As [`ask`], with all that can be told.
fn answer(
    engine: &Engine,
    store: &store::Store,
    query: &str,
    times: (i64, u64, i64),
    context: &QueryContext,
) -> Result<QueryResult, QueryFailure> {
    let options = QueryOptions {
        per_step_stats: true,
        peak_stats: true,
        explain: true,
        ..QueryOptions::default()
    };
    ask(engine, store, query, times, &options, context)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn threads_do_not_change_answers(
        seed: u64,
        start in -100_000_i64..2_000_000,
        step in 1_000_u64..400_000,
        steps in 1_i64..40,
        delayed: bool,
    ) {
        let store = store(seed);
        let engines: Vec<Engine> = (1..=4).map(|threads| engine(threads, delayed)).collect();
        let context = QueryContext::unbounded();
        for query in QUERIES {
            let times = (start, step, steps);
            let alone = answer(&engines[0], &store, query, times, &context);
            let read = |result: &Result<QueryResult, _>| {
                result.as_ref().map_or(0, |result| result.stats.samples_decoded)
            };
            for (at, engine) in engines.iter().enumerate().skip(1) {
                let got = answer(engine, &store, query, times, &context);
                let which = format!("{} threads, {query} {times:?}", at + 1);
                prop_assert_eq!(text(&got), text(&alone), "{}", which);
                prop_assert_eq!(read(&got), read(&alone), "{}", which);
            }
        }
        prop_assert_eq!(context.budget.bytes_used(), 0);
    }
}

/// With little to hold, several threads give the same answer or none, and give all back.
#[test]
fn threads_hold_no_more_than_they_may() {
    let store = store(7);
    let (alone, together) = (engine(1, true), engine(4, true));
    let times = (300_000, 20_000, 30);
    for query in QUERIES {
        let mut answered = 0;
        for bytes in (10..24).step_by(2).map(|power| 3 << power) {
            let within = |engine: &Engine| {
                let budget = Budget::new(bytes);
                let context = QueryContext { budget: budget.clone(), ..QueryContext::unbounded() };
                let result = answer(engine, &store, query, times, &context);
                let shown = text(&result);
                drop(result);
                assert_eq!(budget.bytes_used(), 0, "{query}");
                shown
            };
            let (expected, got) = (within(&alone), within(&together));
            if got.starts_with('[') {
                answered += 1;
                assert_eq!(got, expected, "{query} within {bytes} bytes");
            } else {
                assert!(got.contains("bytes at a time"), "{query} within {bytes} bytes: {got}");
            }
        }
        assert!(answered > 0, "{query}");
    }
}

/// The first series that fails in the order of the selection decides, and what is too much is too much.
#[test]
fn threads_do_not_change_errors() {
    let store = store(3);
    let context = QueryContext::unbounded();
    for query in ["rate({__name__=~\"c_total|g\"}[1m])", "g", "sum(rate(c_total[1m]))"] {
        for samples_max in [0, 10, 100, 1_000, 3_000] {
            let answers: Vec<String> = (1..=4)
                .map(|parallelism| {
                    let parallel_work_min = 0;
                    let options = EngineOptions {
                        parallelism,
                        parallel_work_min,
                        samples_max,
                        ..EngineOptions::default()
                    };
                    let engine = Engine::new(options, &telemetry::Registry::new());
                    text(&answer(&engine, &store, query, (600_000, 15_000, 20), &context))
                })
                .collect();
            assert!(answers.iter().all(|text| *text == answers[0]), "{query} {samples_max}");
        }
    }
}
