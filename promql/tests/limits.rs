//! Queries stay within their bounds: bytes, time, nesting, length.

#![expect(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

mod store;

use std::time::{Duration, Instant};

use model::{Budget, Cancellation, Columns, Labels, METRIC_NAME, QueryContext, Sample};
use promql::{Engine, EngineOptions, ParseOptions, QueryFailure, QueryOptions, QueryResult, Value};

/// Forty series `m{a,le}` and ten series `n{a}` with a sample every ten seconds over a thousand.
fn store() -> store::Store {
    let mut store = store::Store::default();
    let samples = |seed: i64| {
        let mut columns = Columns::new();
        (0..100).for_each(|i| columns.push(i * 10_000, (1 + (i * seed) % 37) as f64));
        columns
    };
    for a in 0..10 {
        for (le, seed) in [("1", 3), ("2", 5), ("4", 7), ("+Inf", 11)] {
            let a = a.to_string();
            let labels = [(METRIC_NAME, "m"), ("a", a.as_str()), ("le", le)];
            store.add(Labels::from_pairs(labels).unwrap(), samples(seed));
        }
        let a = a.to_string();
        let labels = [(METRIC_NAME, "n"), ("a", a.as_str())];
        store.add(Labels::from_pairs(labels).unwrap(), samples(13));
    }
    store
}

fn engine() -> Engine {
    let options = EngineOptions { parse: ParseOptions::all(), ..EngineOptions::default() };
    Engine::new(options, &telemetry::Registry::new())
}

fn range(query: &str, context: &QueryContext) -> Result<QueryResult, QueryFailure> {
    let step = Duration::from_secs(10);
    engine().range(&store(), query, 0, 1_000_000, step, &QueryOptions::default(), context)
}

const QUERIES: [&str; 26] = [
    "m",
    "rate(m[1m])",
    "sum by (a) (rate(m[1m]))",
    "avg(m)",
    "stddev by (le) (m)",
    "quantile(0.5, m)",
    "count_values(\"v\", m)",
    "topk(3, m)",
    "limit_ratio(0.5, m)",
    "m + on (a, le) m",
    "m * on (a) group_left n",
    "n{a=~\"[0-5]\"} + on (a) fill (7) n{a=~\"[4-8]\"}",
    "n{a=~\"[0-5]\"} - on (a) group_right fill_left (7) m",
    "m and on (a) n",
    "m or n",
    "m unless n",
    "histogram_quantile(0.9, m)",
    "sort(m)",
    "label_replace(m, \"b\", \"$1\", \"a\", \"(.*)\")",
    "quantile_over_time(0.5, m[5m])",
    "max_over_time(rate(m[1m])[5m:10s])",
    "absent(x)",
    "time() + vector(1)",
    "scalar(n{a=\"1\"}) * m",
    "clamp(m, 1, 5)",
    "timestamp(m) - m",
];

/// With less and less to hold, a query is answered in full or says what it lacked, and gives all back.
#[test]
fn queries_hold_no_more_than_they_may() {
    for query in QUERIES {
        let unbounded = range(query, &QueryContext::unbounded()).unwrap();
        let mut refused = 0;
        for bytes in (4..22).rev().map(|power| 3 << power) {
            let budget = Budget::new(bytes);
            let context = QueryContext { budget: budget.clone(), ..QueryContext::unbounded() };
            match range(query, &context) {
                Ok(result) => {
                    assert!(result.value == unbounded.value, "{query} within {bytes} bytes");
                    assert_eq!(budget.bytes_used(), result.held.bytes(), "{query}");
                    let Value::Matrix(series) = &result.value else { panic!("{query}") };
                    let samples: usize = series.iter().map(|one| one.samples.len()).sum();
                    assert!(result.held.bytes() >= 16 * samples as u64, "{query}");
                }
                Err(QueryFailure::OverBudget { needed, allowed }) => {
                    assert!(needed > allowed && allowed == bytes, "{query}: {needed} of {bytes}");
                    refused += 1;
                }
                Err(other) => panic!("{query}: {other}"),
            }
            assert_eq!(budget.bytes_used(), 0, "{query}");
        }
        assert!(refused > 0, "{query}");
    }
}

#[test]
fn all_queries_together_hold_no_more_than_they_may() {
    let all = Budget::new(100 << 10);
    let context = QueryContext { budget: all.child(1 << 20), ..QueryContext::unbounded() };
    let held = range("m", &context).unwrap();
    let error = range("m", &context).unwrap_err();
    assert!(matches!(error, QueryFailure::OverBudget { allowed: 102_400, .. }), "{error}");
    drop(held);
    range("m", &context).unwrap();
}

#[test]
fn queries_stop_when_they_are_told_to() {
    for query in QUERIES {
        let context = QueryContext { deadline: Some(Instant::now()), ..QueryContext::unbounded() };
        assert!(matches!(range(query, &context), Err(QueryFailure::Timeout)), "{query}");
        let cancellation = Cancellation::new();
        cancellation.cancel();
        let context = QueryContext { cancellation, ..QueryContext::unbounded() };
        assert!(matches!(range(query, &context), Err(QueryFailure::Canceled)), "{query}");
    }
}

/// What has not looked at all windows has no answer, not a wrong one.
#[test]
fn queries_that_stop_amid_windows_fail() {
    let mut store = store::Store::default();
    let samples = (0..2_000).map(|i| Sample { t: i * 1_000, v: (i % 7) as f64 }).collect();
    store.add(Labels::from_pairs([(METRIC_NAME, "m")]).unwrap(), samples);
    for query in [
        "absent_over_time(m[30m])",
        "m smoothed",
        "rate(m[30m])",
        "rate(m[30m] smoothed)",
        "quantile_over_time(0.5, m[30m])",
        "max_over_time(m[30m])",
        "present_over_time(m[30m])",
        "deriv(m[30m])",
    ] {
        let context = QueryContext::unbounded();
        store.stops = Some(context.cancellation.clone());
        let (step, options) = (Duration::from_secs(1), QueryOptions::default());
        let result = engine().range(&store, query, 0, 1_999_000, step, &options, &context);
        assert!(matches!(result, Err(QueryFailure::Canceled)), "{query}");
    }
}

/// The answer to an instant query on a thread with a small stack.
fn on_small_stack(query: String) -> Result<Value, String> {
    let run = move || {
        let (options, context) = (QueryOptions::default(), QueryContext::unbounded());
        let result = engine().instant(&store(), &query, 100_000, &options, &context);
        result.map(|result| result.value).map_err(|error| error.to_string())
    };
    let thread = std::thread::Builder::new().stack_size(512 << 10).spawn(run).unwrap();
    thread.join().unwrap()
}

#[test]
fn long_chains_are_evaluated() {
    let check = |query: String, expected: f64| match on_small_stack(query).unwrap() {
        Value::Scalar(sample) => assert_eq!(sample.v, expected),
        Value::Vector(samples) => assert_eq!(samples[0].sample.v, expected),
        other => panic!("{other:?}"),
    };
    let last = |seed: f64| 1.0 + (10.0 * seed) % 37.0;
    check(String::from("1") + &"+1".repeat(100_000), 100_001.0);
    check(String::from("time()") + &"+1".repeat(50_000), 50_100.0);
    check(String::from("n") + &"+1".repeat(50_000), 50_000.0 + last(13.0));
    check(String::from("n") + &" or n".repeat(1_000), last(13.0));
    check(String::from("n") + &"+n".repeat(1_000), 1_001.0 * last(13.0));
}

#[test]
fn what_is_nested_too_deeply_is_refused() {
    let repeat = |part: &str| part.repeat((1 << 20) / part.len());
    for query in [
        repeat("("),
        repeat("-"),
        repeat("1^"),
        repeat("abs("),
        String::from("n") + &repeat("[1m:]")[5..],
        format!("({}", repeat("sum(")),
    ] {
        let error = on_small_stack(query).unwrap_err();
        assert!(error.contains("nested too deeply") || error.contains("too long"), "{error}");
    }
}

#[test]
fn a_long_query_needs_a_budget() {
    let context = QueryContext { budget: Budget::new(1 << 20), ..QueryContext::unbounded() };
    let error = range(&(String::from("1") + &"+1".repeat(10_000)), &context).unwrap_err();
    assert!(matches!(error, QueryFailure::OverBudget { allowed: 1_048_576, .. }), "{error}");
}

/// Prometheus gives up when it has too many samples, which at so many steps it has unless there is next to nothing; here nothing is held for them before.
#[test]
fn more_steps_than_samples_may_be_are_refused() {
    let options = |per_step_stats: bool, peak_stats: bool| QueryOptions {
        per_step_stats,
        peak_stats,
        ..QueryOptions::default()
    };
    let asked = [(false, false), (true, false), (false, true)].map(|(a, b)| options(a, b));
    let contexts = || {
        let bounded = QueryContext { budget: Budget::new(64 << 20), ..QueryContext::unbounded() };
        [QueryContext::unbounded(), bounded]
    };
    let now = 1_700_000_000_000;
    for query in [
        "max_over_time(max_over_time(vector(1)[1ms:1ms])[250y:1y])",
        "max_over_time(max_over_time(n[1ms:1ms])[30d:1d])",
        "max_over_time(n[250y:1ms])",
        "absent_over_time(absent_over_time(n[1ms:1ms])[250y:1y])",
        "sum_over_time((n + on (a) max_over_time(n[1ms:1ms]))[250y:1y])",
        "vector(1)[250y:1ms]",
    ] {
        for (options, context) in asked.iter().flat_map(|o| contexts().map(|c| (*o, c))) {
            let result = engine().instant(&store(), query, now, &options, &context);
            assert!(matches!(result, Err(QueryFailure::TooManySamples)), "{query} {options:?}");
            assert_eq!(context.budget.bytes_used(), 0, "{query}");
        }
    }
    for query in ["1", "time()", "n", "sum(n)", "n + 1"] {
        for (options, context) in asked.iter().flat_map(|o| contexts().map(|c| (*o, c))) {
            let step = Duration::from_millis(1);
            let result = engine().range(&store(), query, 0, now, step, &options, &context);
            assert!(matches!(result, Err(QueryFailure::TooManySamples)), "{query} {options:?}");
        }
    }
}

/// The times of info series at all steps are held until the last of them is there.
#[test]
fn info_series_are_within_the_budget() {
    let mut store = store::Store::default();
    let mut add = |name: &str, data: &str| {
        let labels = [(METRIC_NAME, name), ("instance", "i"), ("job", "j"), ("data", data)];
        let mut columns = Columns::new();
        columns.push(0, 1.0);
        store.add(Labels::from_pairs(labels).unwrap(), columns);
    };
    add("up", "");
    (0..100).for_each(|i| add("target_info", &i.to_string()));
    // 10,001 steps of 100 series take 8 MB.
    let budget = Budget::new(4 << 20);
    let context = QueryContext { budget: budget.clone(), ..QueryContext::unbounded() };
    let (step, options) = (Duration::from_millis(10), QueryOptions::default());
    let result = engine().range(&store, "info(up)", 0, 100_000, step, &options, &context);
    assert!(matches!(result, Err(QueryFailure::OverBudget { .. })), "{result:?}");
    assert_eq!(budget.bytes_used(), 0);
}

/// What is counted by step, for statistics alone, is within the budget, and does not stand in the way where it is not asked for.
#[test]
fn counts_by_step_need_a_budget() {
    // 100,000 steps inside, with gaps between the windows outside.
    let query = "max_over_time(max_over_time(vector(1)[1ms:1ms])[100s:10s])";
    let needed = |options: QueryOptions| {
        let fits = |bytes: u64| {
            let context = QueryContext { budget: Budget::new(bytes), ..QueryContext::unbounded() };
            engine().instant(&store(), query, 1_000_000, &options, &context).is_ok()
        };
        let (mut refused, mut enough) = (0, 64 << 20);
        assert!(fits(enough));
        while enough - refused > 1_000 {
            let middle = refused.midpoint(enough);
            if fits(middle) { enough = middle } else { refused = middle }
        }
        enough
    };
    let plain = needed(QueryOptions::default());
    let counted = needed(QueryOptions { peak_stats: true, ..QueryOptions::default() });
    assert!(counted >= plain + 8 * 90_000, "{counted} and {plain}");
}
