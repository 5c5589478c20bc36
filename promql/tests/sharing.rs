//! A part that occurs several times in a query is evaluated once, and nobody can tell but by what was read.
//!
//! What is not shared is the measure: matchers in another order select the same, but do not read the same.

#![expect(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

mod mixed;
mod store;

use mixed::{ask, store, text};
use model::{Budget, QueryContext};
use promql::value::Value;
use promql::{Engine, EngineOptions, ParseOptions, QueryFailure, QueryOptions, QueryResult};
use proptest::prelude::*;

/// `@1`, `@2` and `@3` stand for selectors that select the same.
const QUERIES: [&str; 30] = [
    "C@1 / C@2",
    "C@1 + C@2 * C@3",
    "C@1 > 5 or C@2",
    "abs(G@1) + on (a, b, le) abs(G@2)",
    "sum by (b) (G@1) / sum by (b) (G@2)",
    "sum(G@1) / count(G@2)",
    "avg(rate(G@1[2m])) - min(rate(G@2[2m]))",
    "rate(G@1[2m]) / rate(G@2[2m])",
    "sum(rate(H@1[2m])) / sum(rate(H@2[2m]))",
    "histogram_quantile(0.9, sum(rate(H@1[2m]))) - histogram_avg(sum(rate(H@2[2m])))",
    "histogram_count(H@1) + histogram_sum(H@2)",
    "histogram_quantile(1.5, C@1) or histogram_quantile(1.5, C@2)",
    "quantile(1.5, G@1) < bool quantile(1.5, G@2)",
    "topk(3, C@1) + on (a, b, le) topk(3, C@2)",
    "topk(3, C@1) and (topk(3, C@2) > topk(3, C@3))",
    "topk(scalar(count(G@1)) / 10, G@2) unless G@3",
    "max_over_time(G@1[5m:30s]) - min_over_time(G@2[5m:30s])",
    "max_over_time(sum by (b) (G@1)[5m:30s]) / sum by (b) (G@2)",
    "sum(max_over_time(rate(C@1[1m])[5m:30s])) + sum(max_over_time(rate(C@2[1m])[5m:30s]))",
    "sum_over_time((C@1 + C@2)[3m:45s]) + C@3",
    "sum(C@1 @ 600) + sum(C@2 @ 600)",
    "C@1 - C@2 @ 600",
    "C@1 - C@2 offset 5m",
    "absent(G@1) or absent(G@2) or sum(G@3)",
    "count_values(\"v\", C@1 % 3) + count_values(\"v\", C@2 % 3)",
    "timestamp(C@1) - timestamp(C@2)",
    "sort(C@1) + sort(C@2)",
    "label_replace(C@1, \"n\", \"$1\", \"a\", \"(.*)\") + on (a, b, le) C@2",
    "sum(H@1) + sum(H@2)",
    "(sum(stddev by (b) (H@1 or G@1)) or vector(1)) + (sum(stddev by (b) (H@2 or G@2)) or vector(1))",
];

/// The query with selectors that all read the same, or all differently.
fn written(template: &str, same: bool) -> String {
    let forms = [
        "{a!=\"1\",b!=\"2\",le!=\"9\"}",
        "{b!=\"2\",a!=\"1\",le!=\"9\"}",
        "{le!=\"9\",a!=\"1\",b!=\"2\"}",
    ];
    let names = template.replace("C@", "c_total@").replace("G@", "g@").replace("H@", "h@");
    (0..3).fold(names, |query, at| {
        let form = if same { forms[0] } else { forms[at] };
        query.replace(&format!("@{}", at + 1), form)
    })
}

/// As [`ask`], with an engine of its own for the options.
fn answer(
    store: &store::Store,
    query: &str,
    times: (i64, u64, i64),
    samples_max: u64,
    delayed_name_removal: bool,
    context: &QueryContext,
) -> Result<QueryResult, QueryFailure> {
    let options = EngineOptions {
        samples_max,
        delayed_name_removal,
        parse: ParseOptions::all(),
        ..EngineOptions::default()
    };
    let engine = Engine::new(options, &telemetry::Registry::new());
    let options =
        QueryOptions { per_step_stats: true, peak_stats: true, ..QueryOptions::default() };
    ask(&engine, store, query, times, &options, context)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn shared_parts_are_as_if_evaluated_each(
        seed: u64,
        start in 0_i64..1_800_000,
        step in 1_000_u64..200_000,
        steps in 1_i64..30,
        samples_max in 0_u64..100_000,
        delayed: bool,
    ) {
        let store = store(seed);
        let (times, context) = ((start, step, steps), QueryContext::unbounded());
        for template in QUERIES {
            let (same, different) = (written(template, true), written(template, false));
            for samples_max in [u64::MAX, samples_max, samples_max / 50] {
                let shared = answer(&store, &same, times, samples_max, delayed, &context);
                let each = answer(&store, &different, times, samples_max, delayed, &context);
                prop_assert_eq!(text(&shared), text(&each), "{} {:?} {}", same, times, samples_max);
            }
        }
        prop_assert_eq!(context.budget.bytes_used(), 0);
    }
}

#[test]
fn samples_are_read_once() {
    let store = store(1);
    let read = |query: &str| {
        let (times, context) = ((600_000, 15_000, 20), QueryContext::unbounded());
        answer(&store, query, times, u64::MAX, true, &context).unwrap().stats.samples_decoded
    };
    let check = |query: &str, once: &str| assert_eq!(read(query), read(once), "{query}");
    check("g + g", "g");
    check("sum(rate(g[5m])) / sum( rate(g[5m]) )", "rate(g[5m])");
    check("sum(rate(g[5m])) / count(rate(g[5m])) + sum(rate(g[5m]))", "rate(g[5m])");
    check("sum(g) / (sum(g) + sum(c_total) + sum(c_total))", "{__name__=~\"g|c_total\"}");
    check(
        "max_over_time(sum(g)[5m:30s]) - min_over_time(sum(g)[5m:30s])",
        "max_over_time(sum(g)[5m:30s])",
    );
    check("max_over_time((sum(g) + sum(g))[5m:30s])", "max_over_time(sum(g)[5m:30s])");
    // Other times, other samples.
    assert_eq!(read("sum(g) + sum(g offset 1m)"), read("sum(g)") + read("sum(g offset 1m)"));
}

/// What is kept is held, but no query is refused for it.
#[test]
fn what_is_kept_is_within_bounds() {
    let store = store(2);
    let times = (600_000, 15_000, 40);
    for template in QUERIES {
        let (same, different) = (written(template, true), written(template, false));
        for bytes in (14..24).map(|power| 3 << power) {
            let within = |query: &str| {
                let budget = Budget::new(bytes);
                let context = QueryContext { budget: budget.clone(), ..QueryContext::unbounded() };
                let result = answer(&store, query, times, u64::MAX, true, &context);
                let shown = text(&result);
                drop(result);
                assert_eq!(budget.bytes_used(), 0, "{query}");
                shown
            };
            let (shared, each) = (within(&same), within(&different));
            let over = |shown: &str| shown.contains("bytes at a time");
            assert!(over(&shared) || shared == each || over(&each), "{same} within {bytes} bytes");
        }
    }
}

#[test]
fn what_depends_on_the_order_of_matchers_is_shared_in_that_order_alone() {
    let store = store(1);
    let (one, other) = ("absent(none{l=\"a\",l=~\"b\"})", "absent(none{l=~\"b\",l=\"a\"})");
    let query = format!("{one} or {one} or {other} or {other}");
    let context = QueryContext::unbounded();
    let result = answer(&store, &query, (600_000, 15_000, 1), u64::MAX, true, &context).unwrap();
    let Value::Vector(samples) = result.value else { panic!("an instant query gives a vector") };
    let labels: Vec<String> = samples.iter().map(|sample| sample.labels.to_string()).collect();
    // Equality takes a label up, and any other matcher of it strikes it out again: if it comes later.
    assert_eq!(labels, ["{}", "{l=\"a\"}"]);
}
