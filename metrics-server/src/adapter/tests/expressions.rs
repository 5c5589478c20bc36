//! Expressions that namespaces bring along.

use std::sync::Arc;

use axum::Router;
use serde_json::json;

use super::fake::{World, start};
use crate::adapter::{Expressions, Fallback, FallbackOptions};

const BASE: &str = "/apis/external.metrics.k8s.io/v1beta1/namespaces";
const RULES: &str = r#"
externalRules:
- seriesQuery: 'depth'
  name: {as: "queue_depth"}
  resources: {overrides: {team: {resource: namespace}}}
  metricsQuery: 'max(<<.Series>>{<<.LabelMatchers>>})'
"#;

async fn world() -> World {
    let expressions = Expressions::of(&[(
        "web",
        "load",
        &[
            ("rps", "sum by (code) (rate(requests_total[2m]))"),
            ("broken", "sum("),
            ("queue_depth", "vector(1)"),
        ],
    )]);
    let world = World::with(RULES, false, |options| {
        options.expressions = Some(Arc::new(expressions));
    })
    .await;
    world.prometheus.has_series("depth", json!([{"__name__": "depth", "team": "web"}]));
    assert!(world.adapter.relist().await);
    world
}

#[tokio::test]
async fn an_expression_sees_its_namespace_alone() {
    let world = world().await;
    let query = r#"sum by (code) (rate(requests_total{namespace="web"}[2m]))"#;
    world
        .prometheus
        .answers(query, &[(json!({"code": "200"}), "7.5"), (json!({"code": "500"}), "1")]);
    let (status, list) = world.get(&format!("{BASE}/web/rps")).await;
    assert_eq!(status, 200, "{list}");
    let item = |code: &str, value: &str| {
        json!({"metricName": "rps", "metricLabels": {"code": code},
            "timestamp": "2023-11-14T22:13:20Z", "value": value})
    };
    assert_eq!(list["items"], json!([item("200", "7500m"), item("500", "1")]));
    // The selector of the metric chooses among its series.
    let (_, list) = world.get(&format!("{BASE}/web/rps?labelSelector=code%3D500")).await;
    assert_eq!(list["items"], json!([item("500", "1")]));
    let (status, _) = world.get(&format!("{BASE}/web/rps?labelSelector=code%3D404")).await;
    assert_eq!(status, 404);
    // Nobody else has it.
    let (status, text) = world.fails(&format!("{BASE}/other/rps")).await;
    assert_eq!(
        (status, text.as_str()),
        (404, "the server could not find the metric rps for namespace other")
    );
    assert_eq!(world.prometheus.asked(), [query; 3]);
}

#[tokio::test]
async fn what_is_wrong_names_object_and_key() {
    let world = world().await;
    let (status, text) = world.fails(&format!("{BASE}/web/broken")).await;
    assert_eq!(status, 500);
    assert!(
        text.starts_with(
            "Internal error occurred: metric broken: ConfigMap web/load, key broken: "
        ),
        "{text}"
    );
    let query = r#"sum by (code) (rate(requests_total{namespace="web"}[2m]))"#;
    world.prometheus.answers.lock().insert(String::from(query), json!("too many samples"));
    let (_, text) = world.fails(&format!("{BASE}/web/rps")).await;
    assert!(
        text.contains("ConfigMap web/load, key rps: ") && text.contains("too many samples"),
        "{text}"
    );
}

#[tokio::test]
async fn rules_come_first() {
    let world = world().await;
    world.prometheus.answers(r#"max(depth{team="web"})"#, &[(json!({}), "3")]);
    let (_, list) = world.get(&format!("{BASE}/web/queue_depth")).await;
    assert_eq!(list["items"][0]["value"], "3");
}

#[tokio::test]
async fn before_all_are_read_nothing_is_missing() {
    let world = World::with("{}", false, |options| {
        options.expressions = Some(Arc::default());
    })
    .await;
    assert!(world.adapter.relist().await);
    let (status, text) = world.fails(&format!("{BASE}/web/rps")).await;
    assert_eq!(status, 503);
    assert!(text.contains("have not been read yet"), "{text}");
}

#[tokio::test]
async fn expressions_that_cannot_be_read_stand_in_nobody_s_way() {
    let path = format!("{BASE}/web/rps");
    let world = World::with("{}", false, |options| {
        options.expressions = Some(Arc::new(Expressions::unreadable("forbidden")));
    })
    .await;
    assert!(world.adapter.relist().await);
    let (status, text) = world.fails(&path).await;
    assert_eq!(status, 503);
    assert!(text.contains("expressions cannot be read: forbidden"), "{text}");

    // The other adapter is asked, as it is for any metric that is not known here; not before it is known whether it is.
    let items = json!({"kind": "ExternalMetricValueList", "items": []});
    for (expressions, expected) in
        [(Expressions::unreadable("forbidden"), 200), (Expressions::default(), 503)]
    {
        let items = items.clone();
        let answer = move || async move { axum::Json(items) };
        let url = start(Router::new().fallback(answer)).await;
        let fallback = Fallback::new(FallbackOptions::new(url, http::Client::default())).unwrap();
        let world = World::with("{}", false, |options| {
            options.expressions = Some(Arc::new(expressions));
            options.fallback = Some(fallback);
        })
        .await;
        assert!(world.adapter.relist().await);
        assert_eq!(world.get(&path).await.0, expected);
    }
}
