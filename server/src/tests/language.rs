//! What is told of the language: trees of expressions, and which parts of it are on.

use serde_json::{Value, json};

use super::Fixture;

/// `text` as the value of a parameter.
fn encode(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

#[tokio::test]
async fn syntax_trees() {
    let server = Fixture::new();
    let selector = |name: &str, matchers: Value| {
        json!({
            "type": "vectorSelector", "name": name, "matchers": matchers, "offset": 0, "offsetExpr": null,
            "timestamp": null, "startOrEnd": null, "anchored": false, "smoothed": false,
        })
    };
    let named = |name: &str| json!([{"type": "=", "name": "__name__", "value": name}]);
    let plain = |name: &str| selector(name, named(name));
    let with = |mut base: Value, changes: Value| {
        for (key, value) in changes.as_object().unwrap() {
            base[key] = value.clone();
        }
        base
    };
    let number = |text: &str| json!({"type": "numberLiteral", "val": text});
    let seconds = |text: &str| json!({"type": "numberLiteral", "val": text, "duration": true});
    let factor = |text: &str| json!({"type": "numberLiteral", "val": text, "duration": false});
    let duration = |op: &str, lhs: Value, rhs: Value, wrapped: bool| json!({"type": "durationExpr", "op": op, "lhs": lhs, "rhs": rhs, "wrapped": wrapped});
    let matrix =
        with(plain("m"), json!({"type": "matrixSelector", "range": 300_000, "rangeExpr": null}));
    let matching = json!({
        "card": "one-to-one", "labels": [], "on": false, "include": [], "fillValues": {"lhs": null, "rhs": null},
    });
    let rate =
        json!({"name": "rate", "argTypes": ["matrix"], "variadic": 0, "returnType": "vector"});
    for (query, expected) in [
        ("1e3", number("1000")),
        ("-Inf", number("-Inf")),
        ("5m", number("300")),
        ("\"a\\n\"", json!({"type": "stringLiteral", "val": "a\n"})),
        ("m", plain("m")),
        (
            "m{b!~\"x.*\",a=\"1\"}",
            selector(
                "m",
                json!([
                    {"type": "!~", "name": "b", "value": "x.*"},
                    {"type": "=", "name": "a", "value": "1"},
                    {"type": "=", "name": "__name__", "value": "m"},
                ]),
            ),
        ),
        ("{\"a.b\"}", selector("", named("a.b"))),
        ("m offset -1m @ 1.5", with(plain("m"), json!({"offset": -60_000, "timestamp": 1_500}))),
        ("m @ end()", with(plain("m"), json!({"startOrEnd": "end"}))),
        ("m[5m]", matrix.clone()),
        (
            "m[1m+step()*2] offset (10m)",
            with(
                matrix.clone(),
                json!({
                    "range": 0,
                    "rangeExpr": duration(
                        "+",
                        seconds("60"),
                        duration("*", duration("step", Value::Null, Value::Null, false), factor("2"), false),
                        false,
                    ),
                    "offsetExpr": duration("+", Value::Null, seconds("600"), true),
                }),
            ),
        ),
        (
            "m[(5m+1m-2)]",
            with(
                matrix.clone(),
                json!({
                    "range": 0,
                    "rangeExpr": duration(
                        "-",
                        duration("+", seconds("300"), seconds("60"), false),
                        factor("2"),
                        true,
                    ),
                }),
            ),
        ),
        (
            "m offset -min_of(5s,range())",
            with(
                plain("m"),
                json!({
                    "offsetExpr": duration(
                        "-",
                        Value::Null,
                        duration("min_of", seconds("5"), duration("range", Value::Null, Value::Null, false), false),
                        false,
                    ),
                }),
            ),
        ),
        (
            "m[1h:1.5] @ start()",
            json!({
                "type": "subquery", "expr": plain("m"), "range": 3_600_000, "rangeExpr": null, "step": 1_500,
                "stepExpr": null, "offset": 0, "offsetExpr": null, "timestamp": null, "startOrEnd": "start",
            }),
        ),
        (
            "sum without(a) (rate(m[5m]))",
            json!({
                "type": "aggregation", "op": "sum", "param": null, "grouping": ["a"], "without": true,
                "expr": {"type": "call", "func": rate, "args": [matrix]},
            }),
        ),
        (
            "topk(5,m)",
            json!({
                "type": "aggregation", "op": "topk", "param": number("5"), "grouping": [], "without": false,
                "expr": plain("m"),
            }),
        ),
        (
            "hour()",
            json!({
                "type": "call", "args": [],
                "func": {"name": "hour", "argTypes": ["vector"], "variadic": 1, "returnType": "vector"},
            }),
        ),
        (
            "-(m)",
            json!({"type": "unaryExpr", "op": "-", "expr": {"type": "parenExpr", "expr": plain("m")}}),
        ),
        (
            "m > bool 1",
            json!({
                "type": "binaryExpr", "op": ">", "lhs": plain("m"), "rhs": number("1"), "matching": null, "bool": true,
            }),
        ),
        (
            "a + b - on(x) group_left(y) fill_right(0.5) c",
            json!({
                "type": "binaryExpr",
                "op": "-",
                "lhs": {
                    "type": "binaryExpr", "op": "+", "lhs": plain("a"), "rhs": plain("b"), "matching": matching,
                    "bool": false,
                },
                "rhs": plain("c"),
                "matching": {
                    "card": "many-to-one", "labels": ["x"], "on": true, "include": ["y"],
                    "fillValues": {"lhs": null, "rhs": 0.5},
                },
                "bool": false,
            }),
        ),
        (
            "a unless b",
            json!({
                "type": "binaryExpr", "op": "unless", "lhs": plain("a"), "rhs": plain("b"), "bool": false,
                "matching": with(matching.clone(), json!({"card": "many-to-many"})),
            }),
        ),
    ] {
        let answer = server.json(&format!("/api/v1/parse_query?query={}", encode(query))).await;
        assert_eq!(answer, json!({"status": "success", "data": expected}), "{query}");
    }
    // A chain may be as long as a query; that is not for recursion.
    for (query, start, levels) in [
        (vec!["1"; 30_000].join("%2B"), r#"{"bool":false,"lhs":"#, 29_999),
        (format!("m[{}]", vec!["1"; 1_500].join("-")), r#""lhs":"#, 1_499),
    ] {
        let (status, body) = server.post("/api/v1/parse_query", format!("query={query}")).await;
        assert_eq!((status, body.matches(start).count()), (200, levels));
    }
    let (status, body) = server.get("/api/v1/parse_query?query=m%20anchored").await;
    assert_eq!(status, 400, "{body}");
    assert!(body.contains("anchored modifier is experimental and not enabled"), "{body}");
    let (status, _) = server.get("/api/v1/format_query?query=m%20anchored").await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn features_are_told_by_prometheus_s_names() {
    let server = Fixture::with_admin_api();
    let answer = server.json("/api/v1/features").await;
    for (category, name, enabled) in [
        ("api", "admin", Some(true)),
        ("api", "lifecycle", Some(false)),
        ("api", "search", Some(false)),
        ("promql", "per_step_stats", Some(true)),
        ("promql", "delayed_name_removal", Some(false)),
        ("promql", "type_and_unit_labels", Some(true)),
        ("promql", "fill_left", Some(true)),
        ("promql", "smoothed", Some(false)),
        ("promql", "group_left", Some(true)),
        ("promql_functions", "rate", Some(true)),
        ("promql_functions", "mad_over_time", Some(false)),
        ("promql_functions", "sum", None),
        ("promql_operators", "sum", Some(true)),
        ("promql_operators", "limitk", Some(false)),
        ("promql_operators", "=~", Some(true)),
        ("promql_operators", "atan2", Some(true)),
        ("scrape", "type_and_unit_labels", Some(true)),
        ("tsdb", "native_histograms", Some(true)),
        ("service_discovery_providers", "static", Some(true)),
    ] {
        let told = &answer["data"][category][name];
        assert_eq!(told.as_bool(), enabled, "{category} {name}: {answer}");
    }
    // 90 functions; 14 aggregations, 18 operators between expressions, 3 in selectors.
    for (category, count) in [("promql_functions", 90), ("promql_operators", 14 + 18 + 3)] {
        assert_eq!(answer["data"][category].as_object().unwrap().len(), count, "{category}");
    }
}
