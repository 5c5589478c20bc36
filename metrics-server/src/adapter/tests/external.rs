//! `external.metrics.k8s.io`

use serde_json::{Value, json};

use super::fake::World;

const CONFIG: &str = r#"
externalRules:
- seriesQuery: 'depth{queue!=""}'
  resources: {overrides: {team: {resource: namespace}}}
  name: {as: "queue_depth"}
  metricsQuery: 'max(max_over_time(<<.Series>>{<<.LabelMatchers>>}[90s])) by (queue)'
- seriesQuery: 'lag'
  resources: {namespaced: false}
  metricsQuery: 'sum(<<.Series>>{<<.LabelMatchers>>})'
- seriesQuery: 'orphan'
  metricsQuery: 'sum(<<.Series>>{<<.LabelMatchers>>})'
"#;

const BASE: &str = "/apis/external.metrics.k8s.io/v1beta1/namespaces/web";

async fn world() -> World {
    let world = World::new(CONFIG, false, None).await;
    for (selector, name) in [("depth{queue!=\"\"}", "depth"), ("lag", "lag"), ("orphan", "orphan")]
    {
        world.prometheus.has_series(selector, json!([{"__name__": name, "queue": "q"}]));
    }
    assert!(world.adapter.relist().await);
    world
}

#[tokio::test]
async fn the_namespace_is_enforced() {
    let world = world().await;
    let query = r#"max(max_over_time(depth{queue=~"q|r",team="web"}[90s])) by (queue)"#;
    world
        .prometheus
        .answers(query, &[(json!({"queue": "q"}), "3"), (json!({"queue": "r"}), "0.25")]);
    let (status, list) =
        world.get(&format!("{BASE}/queue_depth?labelSelector=queue+in+(q,r)")).await;
    assert_eq!(status, 200, "{list}");
    let item = |queue: &str, value: &str| {
        json!({"metricName": "queue_depth", "metricLabels": {"queue": queue},
            "timestamp": "2023-11-14T22:13:20Z", "window": 90, "value": value})
    };
    let expected = json!({
        "kind": "ExternalMetricValueList",
        "apiVersion": "external.metrics.k8s.io/v1beta1",
        "metadata": {},
        "items": [item("q", "3"), item("r", "250m")],
    });
    assert_eq!(list, expected);
    // A selector cannot lift the restriction, only add to it.
    world.get(&format!("{BASE}/queue_depth?labelSelector=team%3Dother")).await;
    let asked = world.prometheus.asked();
    let restricted = r#"max(max_over_time(depth{team="other",team="web"}[90s])) by (queue)"#;
    assert_eq!(asked.last().map(String::as_str), Some(restricted));
}

#[tokio::test]
async fn a_rule_can_be_about_all_namespaces() {
    let world = world().await;
    let scalar = json!({"resultType": "scalar", "result": [1_700_000_000, "12"]});
    world.prometheus.answers.lock().insert(String::from("sum(lag{})"), scalar);
    let (_, list) = world.get(&format!("{BASE}/lag")).await;
    let item = json!({"metricName": "lag", "metricLabels": null,
        "timestamp": "2023-11-14T22:13:20Z", "value": "12"});
    assert_eq!(list["items"], json!([item]));
    world.prometheus.answers(r#"sum(lag{namespace="other"})"#, &[(json!({}), "1")]);
    let (_, list) = world.get(&format!("{BASE}/lag?labelSelector=namespace%3Dother")).await;
    assert_eq!(list["items"][0]["metricLabels"], json!({}));
}

#[tokio::test]
async fn without_a_label_for_namespaces_there_is_no_query() {
    let world = world().await;
    let (status, text) = world.fails(&format!("{BASE}/orphan")).await;
    let reason = "metric orphan: externalRules[2]: no label is configured for resource namespaces";
    assert!(status == 500 && text.ends_with(reason), "{text}");
    assert_eq!(world.prometheus.asked(), [""; 0]);
}

/// The autoscaler adds values up: one that is missing would make the sum wrong.
#[tokio::test]
async fn one_value_that_is_none_makes_all_fail() {
    let world = world().await;
    let query = r#"max(max_over_time(depth{team="web"}[90s])) by (queue)"#;
    let path = format!("{BASE}/queue_depth");
    let (status, text) = world.fails(&path).await;
    let missing = "the server could not find the metric queue_depth for namespace web";
    assert_eq!((status, text.as_str()), (404, missing));
    world
        .prometheus
        .answers(query, &[(json!({"queue": "q"}), "3"), (json!({"queue": "r"}), "NaN")]);
    let (status, text) = world.fails(&path).await;
    assert!(status == 500 && text.ends_with("{\"queue\": \"r\"}: the value is NaN"), "{text}");
    for (kind, result) in [("matrix", json!([])), ("string", json!([1, "x"]))] {
        let answer = json!({"resultType": kind, "result": result});
        world.prometheus.answers.lock().insert(String::from(query), answer);
        let (status, text) = world.fails(&path).await;
        assert!(status == 500 && text.contains(&format!("gives a {kind}")), "{text}");
    }
    let histogram = json!({"resultType": "vector", "result":
        [{"metric": {}, "histogram": [1, {"count": "1", "sum": "1"}]}]});
    world.prometheus.answers.lock().insert(String::from(query), histogram);
    let (_, text) = world.fails(&path).await;
    assert!(text.ends_with("{}: the value is a native histogram"), "{text}");
}

#[tokio::test]
async fn metrics_are_discovered() {
    let world = world().await;
    let (_, list) = world.get("/apis/external.metrics.k8s.io/v1beta1").await;
    let names: Vec<&Value> =
        list["resources"].as_array().unwrap().iter().map(|resource| &resource["name"]).collect();
    assert_eq!(names, ["lag", "orphan", "queue_depth"]);
    assert_eq!(list["resources"][0]["kind"], "ExternalMetricValueList");
    assert_eq!(list["resources"][0]["namespaced"], true);
    let groups = world.adapter.groups();
    assert_eq!(
        groups.iter().map(|g| g.name.as_str()).collect::<Vec<_>>(),
        ["external.metrics.k8s.io"]
    );
}
