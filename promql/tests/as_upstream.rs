//! Where evaluating step by step, as Prometheus does, shows in answers of an engine that does not. Expectations follow from its code.

#![expect(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

mod store;

use std::time::Duration;

use model::{Columns, Labels, METRIC_NAME, QueryContext};
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
    for (le, count) in [("1", 10.0), ("2", 20.0), ("+Inf", 20.0)] {
        add("b", &[("le", le)], 0, count);
    }
    store
}

fn range(query: &str, start: i64, end: i64) -> Result<QueryResult, QueryFailure> {
    let options = EngineOptions { parse: ParseOptions::all(), ..EngineOptions::default() };
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
