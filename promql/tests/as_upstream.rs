//! Where evaluating step by step, as Prometheus does, shows in answers of an engine that does not. Expectations follow from its code.

#![expect(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

mod store;

use std::sync::Arc;
use std::time::Duration;

use model::{Columns, FloatHistogram, Labels, METRIC_NAME, QueryContext, stale_marker};
use promql::{Engine, EngineOptions, ParseOptions, QueryFailure, QueryOptions, QueryResult, Value};

/// Series of four samples, at seconds 0, 10, 20 and 30, from the one of that number on.
fn store() -> store::Store {
    let mut store = store::Store::default();
    let mut add = |name: &str, labels: &[(&str, &str)], from: i64, value: f64| {
        let mut columns = Columns::new();
        (from..4).for_each(|i| columns.push(i * 10_000, value));
        let labels = [(METRIC_NAME, name)].into_iter().chain(labels.iter().copied());
        store.add(Labels::from_pairs(labels).unwrap(), columns);
    };
    add("l", &[("g", "a"), ("k", "1")], 0, 1.0);
    add("l", &[("g", "a"), ("k", "2")], 0, 1.0);
    add("r", &[("g", "a"), ("m", "1")], 0, 1.0);
    add("r", &[("g", "a"), ("m", "2")], 2, 1.0);
    add("c_total", &[("__type__", "gauge")], 0, 1.0);
    add("u", &[("__type__", "counter")], 0, 1.0);
    add("u", &[("__type__", "histogram")], 0, 1.0);
    for (k, value) in [("1", 1.0), ("2", 2.0)] {
        add(&format!("o{k}"), &[("g", "a")], if k == "1" { 0 } else { 1 }, value);
    }
    let target = [("instance", "i"), ("job", "j")];
    add("late", &target, 2, 1.0);
    add("early", &target, 0, 1.0);
    for (le, count) in [("1", 10.0), ("2", 20.0), ("+Inf", 20.0)] {
        add("b", &[("le", le)], 0, count);
    }
    for (data, ends) in [("x", false), ("y", true)] {
        let mut columns = Columns::new();
        (0..2).for_each(|i| columns.push(i * 10_000, 1.0));
        (2..4).for_each(|i| columns.push(i * 10_000, if ends { stale_marker() } else { 1.0 }));
        let labels = [(METRIC_NAME, "target_info"), ("data", data)].into_iter().chain(target);
        store.add(Labels::from_pairs(labels).unwrap(), columns);
    }
    let mut mixed = Columns::new();
    mixed.push(0, 1.0);
    mixed.push_histogram(10_000, Arc::new(FloatHistogram::default()));
    store.add(Labels::from_pairs([(METRIC_NAME, "mixed")]).unwrap(), mixed);
    let mut histogram = Columns::new();
    histogram.push_histogram(20_000, Arc::new(FloatHistogram::default()));
    let labels = [(METRIC_NAME, "histogram_info"), ("data", "h")].into_iter().chain(target);
    store.add(Labels::from_pairs(labels).unwrap(), histogram);
    store
}

fn range(query: &str, start: i64, end: i64) -> Result<QueryResult, QueryFailure> {
    range_with(&EngineOptions::default(), query, start, end)
}

fn range_with(
    options: &EngineOptions,
    query: &str,
    start: i64,
    end: i64,
) -> Result<QueryResult, QueryFailure> {
    let options = EngineOptions { parse: ParseOptions::all(), ..options.clone() };
    let engine = Engine::new(options, &telemetry::Registry::new());
    let context = QueryContext::unbounded();
    let step = Duration::from_secs(10);
    engine.range(&store(), query, start, end, step, &QueryOptions::default(), &context)
}

fn labels(query: &str, start: i64, end: i64) -> Vec<String> {
    match range(query, start, end).unwrap().value {
        Value::Matrix(series) => series.iter().map(|series| series.labels.to_string()).collect(),
        value => panic!("{value:?}"),
    }
}

#[test]
fn the_conflict_of_the_earliest_step_is_reported() {
    let error = range("l + on (g) r", 0, 30_000).unwrap_err().to_string();
    assert!(error.contains("multiple matches for labels"), "{error}");
    let error = range("l + on (g) r", 20_000, 30_000).unwrap_err().to_string();
    assert!(error.contains("found duplicate series"), "{error}");
}

#[test]
fn an_included_name_survives_that_of_the_result() {
    let query = r#"l{k="1"} == bool on (g) group_left (__name__) r{m="1"}"#;
    assert_eq!(labels(query, 0, 10_000), [r#"{__name__="r", g="a", k="1"}"#]);
}

#[test]
fn each_step_has_its_own_quantile_in_the_label() {
    let query = r#"histogram_quantiles(b, "q", time() / 40)"#;
    assert_eq!(labels(query, 10_000, 20_000), [r#"{q="0.25"}"#, r#"{q="0.5"}"#]);
}

#[test]
fn remarks_are_about_what_is_evaluated_last() {
    for (query, place) in [
        ("quantile(2, quantile(2, l))", "(1:10)"),
        ("histogram_quantile(2, quantile by (le) (2, b))", "(1:20)"),
        ("sort(l)", "(1:1)"),
        // A scalar on the right is evaluated after what it is combined with, one on the left before.
        ("quantile(2, l) * scalar(quantile(2, r))", "(1:34)"),
        ("scalar(quantile(2, r)) * quantile(2, l)", "(1:35)"),
        ("clamp(quantile(2, l), scalar(quantile(2, r)), scalar(quantile(2, b)))", "(1:63)"),
        // A subquery comes before the other arguments.
        ("predict_linear(quantile(2, l)[10s:5s], scalar(quantile(2, r)))", "(1:56)"),
        ("quantile_over_time(min_of(scalar(quantile(2, r)), 1), quantile(2, l)[10s:5s])", "(1:43)"),
    ] {
        let warnings = range(query, 0, 5_000).unwrap().warnings;
        assert!(warnings.len() == 1 && warnings[0].ends_with(place), "{query}: {warnings:?}");
    }
}

#[test]
fn nan_among_quantiles_hides_the_others() {
    let query = "quantile((time() > bool 15) / (time() > bool 15) * 2, l)";
    let warnings = range(query, 0, 30_000).unwrap().warnings;
    assert!(warnings.len() == 1 && warnings[0].contains("got NaN"), "{warnings:?}");
}

/// Of results of equal labels and of conflicts, too, those of the earliest step are reported.
#[test]
fn equal_results_of_an_earlier_step_come_before_a_later_conflict() {
    // Without their names the results for both are equal; from 20 s on there are two of r on the right.
    let query = r#"{__name__=~"o1|r", m!="2"} * on (__name__) {__name__=~"o1|r"}"#;
    let error = range(query, 0, 30_000).unwrap_err().to_string();
    assert!(error.contains("same labelset"), "{error}");
    let error = range(query, 20_000, 30_000).unwrap_err().to_string();
    assert!(error.contains("found duplicate series"), "{error}");
}

/// Prometheus looks whether a query starts and ends at the same time, not how many steps it has.
#[test]
fn a_range_of_one_step_is_no_instant() {
    let delayed = || EngineOptions { delayed_name_removal: true, ..EngineOptions::default() };
    let query = r#"sum(histogram_quantiles(b, "q", 0.5, 0.5))"#;
    range_with(&delayed(), query, 10_000, 10_000).unwrap();
    let error = range_with(&delayed(), query, 10_000, 15_000).unwrap_err().to_string();
    assert!(error.contains("same labelset"), "{error}");
    // What is evaluated once is at one time.
    let warnings = |query| range(query, 0, 5_000).unwrap().warnings;
    assert_eq!(warnings("sort(l @ 5)"), Vec::<String>::new());
    assert_eq!(warnings("sort(l)").len(), 1);
}

#[test]
fn types_tell_counters_where_they_are_labels() {
    let options = || EngineOptions { type_and_unit_labels: true, ..EngineOptions::default() };
    let text = |of: &str, name: &str, place: &str| {
        format!(
            "PromQL info: metric might not be a counter, __type__ label is not set to \"counter\" or \"histogram\", got \"{of}\": \"{name}\" ({place})"
        )
    };
    for (query, expected) in [
        ("rate(c_total[20s])", vec![text("gauge", "c_total", "1:6")]),
        ("sum(rate(c_total[20s]))", vec![text("gauge", "c_total", "1:10")]),
        ("rate(c_total[20s]) > 5", vec![text("gauge", "c_total", "1:6")]),
        ("increase(l[20s])", vec![text("", "l", "1:10")]),
        (r#"rate(u{__type__="histogram"}[20s])"#, vec![]),
        ("irate(c_total[20s])", vec![]),
        ("rate(sum_over_time(c_total[10s])[20s:10s])", vec![]),
        ("rate(last_over_time(c_total[10s])[20s:10s])", vec![text("gauge", "c_total", "1:1")]),
    ] {
        let infos = range_with(&options(), query, 20_000, 30_000).unwrap().infos;
        assert_eq!(infos, expected, "{query}");
    }
    // The type goes with the name.
    for query in ["rate(u[20s])", "u * 2", "rate({__name__=\"u\"}[20s])"] {
        let error = range_with(&options(), query, 20_000, 30_000).unwrap_err().to_string();
        assert!(error.contains("same labelset"), "{query}: {error}");
    }
    let infos = range("rate(c_total[20s]) or rate(l[20s])", 20_000, 30_000).unwrap().infos;
    assert!(infos.len() == 1 && infos[0].contains("name does not end in"), "{infos:?}");
}

/// Its remark is about the first argument, which of this function is the quantile.
#[test]
fn ignored_histograms_of_a_quantile_are_remarked_on_at_the_quantile() {
    for (query, place) in [
        ("quantile_over_time(0.9, mixed[20s])", "(1:20)"),
        ("quantile_over_time((0.9), mixed[20s])", "(1:21)"),
        ("min_over_time(mixed[20s])", "(1:15)"),
    ] {
        let infos = range(query, 10_000, 10_000).unwrap().infos;
        let text = "PromQL info: ignored histograms in a range containing both floats and histograms for metric name \"mixed\"";
        assert_eq!(infos, [format!("{text} {place}")], "{query}");
    }
}

/// Where there is nothing to enrich, Prometheus does not look at info series.
#[test]
fn info_series_may_contradict_each_other_where_there_is_nothing_to_enrich() {
    let expected = [r#"{__name__="late", data="x", instance="i", job="j"}"#];
    assert_eq!(labels("info(late)", 0, 30_000), expected);
    let error = range("info(early)", 0, 30_000).unwrap_err().to_string();
    assert!(error.contains("found duplicate series for info metric"), "{error}");
}

/// Malformed names and expressions are found when their call is evaluated, before its arguments, so whatever fails first is reported.
#[test]
fn malformed_arguments_are_reported_in_their_turn() {
    let bad = r#"count_values("", l)"#;
    let replaced = r#"label_replace(l, "a", "$1", "b", "(")"#;
    for (query, expected) in [
        (format!("(l + on (g) r) + on (g) {bad}"), "multiple matches"),
        (format!("{bad} + on (g) (l + on (g) r)"), "invalid label name"),
        (format!("l + on (g) r or {replaced}"), "multiple matches"),
        (format!("{replaced} or l + on (g) r"), "invalid regular expression"),
        (format!("count_values(\"\", {replaced})"), "invalid label name"),
        (replaced.replacen("(l,", &format!("({bad},"), 1), "invalid regular expression"),
        (format!("scalar({bad}) + scalar({replaced})"), "invalid label name"),
        (format!("{bad} * scalar({replaced})"), "invalid label name"),
        (format!("scalar({replaced}) * {bad}"), "invalid regular expression"),
        (format!("clamp({bad}, scalar({replaced}), 1)"), "invalid label name"),
    ] {
        let error = range(&query, 0, 30_000).unwrap_err().to_string();
        assert!(error.contains(expected), "{query}: {error}");
    }
}

#[test]
fn an_info_series_of_histograms_is_named() {
    let query = r#"info(late, {__name__="histogram_info"})"#;
    assert_eq!(
        range(query, 20_000, 30_000).unwrap_err().to_string(),
        r#"this should be an info metric, with float samples: {__name__="histogram_info", data="h", instance="i", job="j"}"#
    );
    assert_eq!(labels(query, 0, 10_000), Vec::<String>::new());
}

/// The parser lets it through, evaluating it even at one step is an error.
#[test]
fn numbers_are_not_cut_as_histograms_are() {
    for (query, op) in [
        ("1 </ 2", "</"),
        ("time() >/ 5", ">/"),
        ("scalar(l) </ 2 + 1", "</"),
        ("vector(1 </ 2)", "</"),
        ("l + (1 >/ 2)", ">/"),
    ] {
        let error = range(query, 0, 30_000).unwrap_err();
        assert!(matches!(error, QueryFailure::Execution(_)), "{query}: {error:?}");
        let expected = format!("operator \"{op}\" not allowed for Scalar operations");
        assert_eq!(error.to_string(), expected, "{query}");
    }
    // A subquery that has no step evaluates nothing.
    let never = "count_over_time(vector(1 </ 2)[1s:1m])";
    assert_eq!(labels(never, 10_000, 20_000), Vec::<String>::new());
}

/// Histograms count for several samples, as often as windows have them. What does not change is evaluated once, and looked at by each step.
#[test]
fn histograms_in_windows_of_absent_over_time_have_their_weight() {
    let options = EngineOptions { parse: ParseOptions::all(), ..EngineOptions::default() };
    let engine = Engine::new(options, &telemetry::Registry::new());
    let options = QueryOptions { per_step_stats: true, ..QueryOptions::default() };
    for (query, per_step) in [
        ("absent_over_time(mixed[15s])", [1, 12, 11]),
        ("absent_over_time(mixed[15s] @ 10)", [12, 12, 12]),
        ("absent_over_time(mixed[15s:10s])", [1, 12, 22]),
        ("count_over_time(mixed[15s] @ 10)", [12, 12, 12]),
    ] {
        let context = QueryContext::unbounded();
        let step = Duration::from_secs(10);
        let result = engine.range(&store(), query, 0, 20_000, step, &options, &context).unwrap();
        let found: Vec<u64> = result.samples_per_step.iter().map(|(_, count)| *count).collect();
        assert_eq!(found, per_step, "{query}");
        assert_eq!(result.stats.samples_queryable, per_step.iter().sum::<u64>(), "{query}");
    }
}

/// What lies beyond a window is looked at as what is in it; at what a smoothed selector alone sees Prometheus does not count.
#[test]
fn samples_that_extended_selectors_look_at() {
    let options = EngineOptions { parse: ParseOptions::all(), ..EngineOptions::default() };
    let engine = Engine::new(options, &telemetry::Registry::new());
    let options = QueryOptions { per_step_stats: true, ..QueryOptions::default() };
    for (query, total) in [
        ("l smoothed", 0),
        // Of two series four samples each are within reach of each step.
        ("rate(l[5s] smoothed)", 24),
        ("rate(l[5s] anchored)", 12),
    ] {
        let context = QueryContext::unbounded();
        let step = Duration::from_secs(10);
        let result = engine.range(&store(), query, 0, 20_000, step, &options, &context).unwrap();
        let per_step: u64 = result.samples_per_step.iter().map(|(_, count)| count).sum();
        assert_eq!((result.stats.samples_queryable, per_step), (total, total), "{query}");
    }
}

/// An operation evaluates its left operand, then its right one, and then fails itself. Expected is what a Prometheus 3.5.3 said.
#[test]
fn the_operand_evaluated_first_fails_first() {
    let (x, a, b) = ("topk(1e300, l)", "scalar(topk(NaN, l))", "scalar(limit_ratio(NaN, l))");
    let many = "(l * on () l)";
    let error = |query: &str| range(query, 0, 20_000).unwrap_err().to_string();
    let alone = [x, a, b, many].map(error);
    for (at, one) in alone.iter().enumerate() {
        assert!(!alone[at + 1..].contains(one), "{one}");
    }
    let [x_fails, a_fails, b_fails, many_fails] = &alone;
    for (query, expected) in [
        (format!("1 + ({x} + {a})"), x_fails),
        (format!("(1 + {x}) + {a}"), x_fails),
        (format!("{x} + {a}"), x_fails),
        (format!("{a} + {x}"), a_fails),
        (format!("({b} + {x}) + {a}"), b_fails),
        (format!("{a} + ({b} + l)"), a_fails),
        (format!("{a} + (l + {b})"), a_fails),
        (format!("1 + (-(l + {a}) + {b})"), a_fails),
        (format!("-({x}) + {a}"), x_fails),
        (format!("{a} + ({x} * on (g, k) l)"), a_fails),
        (format!("({x} * on (g, k) l) + {a}"), x_fails),
        (format!("(l * on (g, k) {x}) + {a}"), x_fails),
        (format!("(l + {a}) * on (g, k) {x}"), a_fails),
        (format!("({a} + l) * on (g, k) ({b} + l)"), a_fails),
        (format!("{b} + ((l + {a}) * on (g, k) {x})"), b_fails),
        (format!("{a} + {many}"), a_fails),
        (format!("{many} + {a}"), many_fails),
        (format!("{b} - (-{many})"), b_fails),
        (format!("clamp({x}, {a}, {b})"), x_fails),
        (format!("clamp(l, {a}, {b})"), a_fails),
        (format!("clamp(l, {b}, {a})"), b_fails),
        (format!("2 * clamp({x}, {a}, {b})"), x_fails),
        (format!("round({x}, {a})"), x_fails),
        (format!("{b} * round({x}, {a})"), b_fails),
    ] {
        assert_eq!(error(&query), *expected, "{query}");
    }
}
