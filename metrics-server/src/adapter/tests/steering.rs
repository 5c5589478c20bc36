//! Counts of steered autoscalers.

use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use serde_json::json;

use super::fake::{World, start};
use crate::adapter::{Steering, SteeringOptions};

const PATH: &str = "/apis/external.metrics.k8s.io/v1beta1/namespaces/shop/sextant-replicas";
const SELECTOR: &str = "?labelSelector=autoscaling.sextant.dev%2Fhpa%3D";

/// A controller that answers one autoscaler.
async fn controller(name: &str, status: StatusCode, body: &'static str) -> String {
    let path = format!("/api/v1/steer/shop/{name}");
    let unknown = (StatusCode::NOT_FOUND, r#"{"error":"no autoscaler is steered here"}"#);
    start(Router::new().route(&path, get(move || async move { (status, body) })).fallback(unknown))
        .await
}

async fn world(urls: Vec<String>) -> World {
    let options =
        SteeringOptions { urls, http: http::Client::default(), timeout: Duration::from_secs(10) };
    let steering = Steering::new(options).unwrap();
    World::with("{}", false, |options| options.steering = Some(steering)).await
}

#[tokio::test]
async fn the_count_is_the_metric() {
    let follower = controller("other", StatusCode::OK, "{}").await;
    let body = r#"{"replicas":7,"at":1700000000500}"#;
    let leader = controller("web", StatusCode::OK, body).await;
    let world = world(vec![follower, format!("{leader}/")]).await;
    let (status, list) = world.get(&format!("{PATH}{SELECTOR}web")).await;
    assert_eq!(status, 200, "{list}");
    let item = json!({
        "metricName": "sextant-replicas",
        "metricLabels": {"autoscaling.sextant.dev/hpa": "web"},
        "timestamp": "2023-11-14T22:13:20Z",
        "value": "7",
    });
    assert_eq!(list["items"], json!([item]));
    assert_eq!(world.prometheus.asked(), [""; 0]);
}

/// The metric that these replicas make, by the order in which they are asked.
async fn told(bodies: &[(StatusCode, &'static str)]) -> Result<String, String> {
    let mut urls = Vec::new();
    for (status, body) in bodies {
        urls.push(controller("web", *status, body).await);
    }
    let (status, list) = world(urls).await.get(&format!("{PATH}{SELECTOR}web")).await;
    match status {
        200 => Ok(list["items"][0]["value"].as_str().unwrap().to_owned()),
        _ => Err(list["message"].as_str().unwrap().to_owned()),
    }
}

#[tokio::test]
async fn what_the_leader_says_counts_more_than_what_others_have_read() {
    let leads = (StatusCode::OK, r#"{"replicas":7,"at":1700000000500}"#);
    let older = (StatusCode::OK, r#"{"replicas":5,"at":1699999980000,"learned":true}"#);
    let newer = (StatusCode::OK, r#"{"replicas":6,"at":1699999990000,"learned":true}"#);
    let nothing = (StatusCode::NOT_FOUND, r#"{"error":"no autoscaler shop/web is steered here"}"#);
    let old = r#"{"error":"the last decision is 60 s old, more than 3 periods"}"#;
    let stale = (StatusCode::SERVICE_UNAVAILABLE, old);
    let undecided = r#"{"error":"no metrics returned","undecided":true}"#;
    let undecided = (StatusCode::SERVICE_UNAVAILABLE, undecided);
    assert_eq!(told(&[older, leads]).await.unwrap(), "7");
    // Without it the newest count counts, whoever was asked first.
    assert_eq!(told(&[older, newer, nothing]).await.unwrap(), "6");
    assert_eq!(told(&[newer, stale, older]).await.unwrap(), "6");
    // It does not know either, and an older count is no substitute.
    for order in [[older, undecided], [undecided, older]] {
        let why = told(&order).await.unwrap_err();
        assert!(why.ends_with("steered autoscaler shop/web: no metrics returned"), "{why}");
    }
}

#[tokio::test]
async fn without_a_count_there_is_no_metric() {
    let old = r#"{"error":"the last decision is 60 s old, more than 3 periods"}"#;
    let stale = controller("web", StatusCode::SERVICE_UNAVAILABLE, old).await;
    let follower = controller("other", StatusCode::OK, "{}").await;
    let world = world(vec![follower, stale]).await;
    let (status, text) = world.fails(&format!("{PATH}{SELECTOR}web")).await;
    assert_eq!(status, 503);
    let expected =
        "steered autoscaler shop/web: the last decision is 60 s old, more than 3 periods";
    assert!(text.ends_with(expected), "{text}");
    let (status, text) = world.fails(&format!("{PATH}{SELECTOR}api")).await;
    assert_eq!(status, 404, "{text}");
    for selector in ["", "?labelSelector=a%3Db", "?labelSelector=autoscaling.sextant.dev%2Fhpa"] {
        let (status, text) = world.fails(&format!("{PATH}{selector}")).await;
        assert_eq!(status, 400, "{text}");
        assert!(text.contains("autoscaling.sextant.dev/hpa=NAME"), "{text}");
    }
}

#[tokio::test]
async fn an_answer_that_is_none_is_a_failure() {
    for body in ["{}", r#"{"replicas":-1,"at":1}"#, "<html>"] {
        let url = controller("web", StatusCode::OK, body).await;
        let (status, text) = world(vec![url]).await.fails(&format!("{PATH}{SELECTOR}web")).await;
        assert_eq!(status, 503, "{body}: {text}");
    }
    let nobody = String::from("http://127.0.0.1:1");
    let (status, text) = world(vec![nobody]).await.fails(&format!("{PATH}{SELECTOR}web")).await;
    assert_eq!(status, 503, "{text}");
}

#[test]
fn addresses_are_addresses() {
    for url in ["controller:9099", "http://", "http://a/b", "http://user@a"] {
        let (urls, timeout) = (vec![String::from(url)], Duration::from_secs(1));
        let options = SteeringOptions { urls, http: http::Client::default(), timeout };
        assert!(Steering::new(options).is_err(), "{url}");
    }
}
