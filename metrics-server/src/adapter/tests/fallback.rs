//! Metrics of another adapter.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Redirect, Response};
use parking_lot::Mutex;
use serde_json::json;

use super::fake::{World, start};
use crate::adapter::{Caller, Fallback, FallbackOptions};

const CONFIG: &str = r#"
rules:
- seriesQuery: 'load'
  resources: {template: "<<.Resource>>"}
  metricsQuery: '<<.Series>>{<<.LabelMatchers>>}'
"#;

type Seen = Arc<Mutex<Vec<(String, HeaderMap)>>>;

async fn other(State(seen): State<Seen>, uri: Uri, headers: HeaderMap) -> Response {
    seen.lock().push((uri.to_string(), headers));
    let json = |status: StatusCode, body: serde_json::Value| {
        (status, [("content-type", "application/json")], body.to_string()).into_response()
    };
    match uri.path() {
        "/apis/custom.metrics.k8s.io/v1beta2" => json(
            StatusCode::OK,
            json!({"resources": [
                {"name": "nodes/load", "namespaced": false, "kind": "MetricValueList"},
                {"name": "pods/theirs", "namespaced": true, "kind": "MetricValueList"},
            ]}),
        ),
        path if path.ends_with("/theirs") => json(StatusCode::OK, json!({"kind": "Theirs"})),
        path if path.ends_with("/redirected") => Redirect::temporary("/apis/x").into_response(),
        path if path.ends_with("/html") => "<html>".into_response(),
        _ => json(
            StatusCode::NOT_FOUND,
            json!({"kind": "Status", "status": "Failure", "code": 404,
            "message": "not theirs either"}),
        ),
    }
}

async fn new_world() -> (World, Seen) {
    let seen = Seen::default();
    let url = start(Router::new().fallback(other).with_state(Arc::clone(&seen))).await;
    let options = FallbackOptions::new(url, http::Client::default());
    let world = World::new(CONFIG, false, Some(Fallback::new(options).unwrap())).await;
    world.prometheus.has_series("load", json!([{"__name__": "load", "node": "n1"}]));
    (world, seen)
}

async fn world() -> (World, Seen) {
    let (world, seen) = new_world().await;
    assert!(world.adapter.relist().await);
    seen.lock().clear();
    (world, seen)
}

const BASE: &str = "/apis/custom.metrics.k8s.io/v1beta2";

#[tokio::test]
async fn what_is_not_known_is_forwarded() {
    let (world, seen) = world().await;
    let path = format!("{BASE}/namespaces/web/pods/*/theirs?labelSelector=a%3Db&evil=1");
    let (status, body) = world.get(&path).await;
    assert_eq!((status, body), (200, json!({"kind": "Theirs"})));
    let (uri, headers) = seen.lock()[0].clone();
    assert_eq!(uri, format!("{BASE}/namespaces/web/pods/*/theirs?labelSelector=a%3Db"));
    assert_eq!(headers["x-remote-user"], "system:anonymous");
    assert_eq!(headers["x-remote-group"], "system:unauthenticated");
    let external = "/apis/external.metrics.k8s.io/v1beta1/namespaces/web/theirs";
    assert_eq!(world.get(external).await.0, 200);
    let own = format!("{BASE}/nodes/n1/load");
    world.prometheus.answers(r#"load{node="n1"}"#, &[(json!({"node": "n1"}), "1")]);
    assert_eq!(world.get(&own).await.0, 200);
    assert_eq!(seen.lock().len(), 2);
}

/// Before our own list was asked for, `theirs` may be one of ours. A source that does not answer does not keep the metrics
/// of the other adapter away.
#[tokio::test]
async fn nothing_is_forwarded_before_the_own_list_was_asked_for() {
    let (world, seen) = new_world().await;
    let external = "/apis/external.metrics.k8s.io/v1beta1/namespaces/web/theirs";
    let custom = format!("{BASE}/nodes/n1/theirs");
    for path in [external, &custom] {
        let expected = (503, String::from("the list of metrics has not been read yet"));
        assert_eq!(world.fails(path).await, expected);
    }
    assert!(seen.lock().is_empty());
    world.prometheus.breaks(true);
    assert!(!world.adapter.relist().await);
    assert_eq!(world.get(external).await.0, 200);
    assert_eq!(world.get(&custom).await.0, 200);
}

/// A header of the client says nothing about who the client is.
#[tokio::test]
async fn the_user_is_who_was_authenticated() {
    let (world, seen) = world().await;
    let path = format!("{BASE}/nodes/n1/theirs");
    let forged = [("x-remote-user", "system:admin"), ("x-remote-group", "system:masters")];
    world.get_with(&path, &forged).await;
    let headers = seen.lock()[0].1.clone();
    assert_eq!(headers.get_all("x-remote-user").iter().collect::<Vec<_>>(), ["system:anonymous"]);
    assert_eq!(headers.get_all("x-remote-group").iter().count(), 1);
}

#[tokio::test]
async fn answers_that_are_none_of_an_api_are_errors() {
    let (world, _) = world().await;
    let (status, text) = world.fails(&format!("{BASE}/nodes/n1/redirected")).await;
    assert!(status == 503 && text.ends_with("redirects are not followed"), "{text}");
    let (status, text) = world.fails(&format!("{BASE}/nodes/n1/html")).await;
    assert!(status == 503 && text.contains("HTTP 200 with a body of type"), "{text}");
    let (status, body) = world.get(&format!("{BASE}/nodes/n1/nothing")).await;
    assert_eq!((status, &body["message"]), (404, &json!("not theirs either")));
}

#[tokio::test]
async fn lists_are_merged() {
    let (world, _) = world().await;
    let (_, list) = world.get(BASE).await;
    let names: Vec<String> = list["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|resource| String::from(resource["name"].as_str().unwrap()))
        .collect();
    assert_eq!(names, ["nodes/load", "pods/theirs"]);
}

#[test]
fn urls_that_would_send_elsewhere_are_refused() {
    for url in ["other", "http://", "ftp://x", "https://u:p@x", "https://x/path", "https://x?a"] {
        let options = FallbackOptions::new(url, http::Client::default());
        assert!(Fallback::new(options).is_err(), "{url}");
    }
    assert_eq!(Caller::anonymous().name, "system:anonymous");
}
