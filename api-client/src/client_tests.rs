//! A client against servers on loopback.

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::get;
use std::sync::Mutex as StdMutex;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::answer::{Reading, Sample};

type Seen = Arc<StdMutex<Vec<(String, HeaderMap)>>>;

async fn start(router: Router) -> String {
    let listener = http::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let limits = http::Limits::default();
    tokio::spawn(http::serve(listener, router, limits, CancellationToken::new()));
    url
}

fn client(options: Options) -> Client {
    Client::new(http::Client::default(), options).unwrap()
}

/// A server that answers everything with `status` and `body`, and remembers what it was asked.
async fn answering(status: StatusCode, body: &'static str) -> (String, Seen) {
    let seen = Seen::default();
    let handler = async move |State(seen): State<Seen>, RawQuery(query), headers: HeaderMap| {
        seen.lock().unwrap().push((query.unwrap_or_default(), headers));
        (status, body).into_response()
    };
    let router = Router::new().fallback(handler).with_state(Arc::clone(&seen));
    (start(router).await, seen)
}

#[tokio::test]
async fn an_instant_query_is_asked_and_read() {
    let body = r#"{"status":"success","data":{"resultType":"vector","result":[
        {"metric":{"pod":"a"},"value":[1.5,"2"]}]},"warnings":["w"],"infos":["i"]}"#;
    let (url, seen) = answering(StatusCode::OK, body).await;
    let client = client(Options::new(format!("{url}/")));
    let answer = client.instant("sum(a{b=\"c\"})", 1_500).await.unwrap();
    let sample = Sample {
        labels: Labels::from_pairs([("pod", "a")]).unwrap(),
        at: 1500,
        reading: Reading::Float(2.0),
    };
    assert_eq!(answer.value, Value::Vector(vec![sample]));
    assert_eq!(answer.warnings, ["w", "i"]);
    assert_eq!(seen.lock().unwrap()[0].0, "query=sum%28a%7Bb%3D%22c%22%7D%29&time=1.500");
}

#[tokio::test]
async fn queries_can_be_posted() {
    let echo = async |headers: HeaderMap, body: String| {
        let kind = headers["content-type"].to_str().unwrap_or_default();
        let text = format!("{kind} {body}");
        serde_json::json!({"status": "error", "errorType": "echo", "error": text}).to_string()
    };
    let url = start(Router::new().route("/api/v1/query", axum::routing::post(echo))).await;
    let client = client(Options { method: Method::Post, ..Options::new(&url) });
    let error = client.instant("a b", 0).await.unwrap_err().to_string();
    let expected = "application/x-www-form-urlencoded query=a+b&time=0.000";
    assert_eq!(error, format!("{url}/api/v1/query: echo: {expected}"));
}

#[tokio::test]
async fn failures_name_the_server_and_repeat_what_it_says() {
    let refusal = r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#;
    for (status, body, expected) in [
        (StatusCode::BAD_REQUEST, refusal, "bad_data: parse error"),
        (StatusCode::OK, refusal, "bad_data: parse error"),
        (StatusCode::BAD_GATEWAY, "<html>\n nobody </html>", "HTTP 502: <html> nobody </html>"),
        (StatusCode::OK, r#"{"status":"success"}"#, "malformed answer: no data"),
        (StatusCode::OK, r#"{"status":"odd","data":{}}"#, "malformed answer: missing field"),
    ] {
        let (url, _) = answering(status, body).await;
        let error = client(Options::new(&url)).instant("x", 0).await.unwrap_err().to_string();
        let expected = format!("{url}/api/v1/query: {expected}");
        assert!(error.starts_with(&expected), "{error} / {expected}");
    }
}

#[tokio::test]
async fn answers_are_bounded_in_size_and_time() {
    let (url, _) = answering(StatusCode::OK, "0123456789").await;
    let small = Options { body_bytes_max: 9, ..Options::new(&url) };
    let error = client(small).instant("x", 0).await.unwrap_err();
    assert!(matches!(error, AskError::TooLarge { bytes_max: 9, .. }), "{error}");
    let hanging = start(Router::new().fallback(get(std::future::pending::<()>))).await;
    let hasty = Options { timeout: Duration::from_millis(20), ..Options::new(&hanging) };
    let error = client(hasty).instant("x", 0).await.unwrap_err();
    assert!(matches!(error, AskError::Timeout { timeout_ms: 20, .. }), "{error}");
}

#[tokio::test]
async fn credentials_are_sent_and_never_printed() {
    let body = r#"{"status":"success","data":[]}"#;
    let (url, seen) = answering(StatusCode::OK, body).await;
    let with_user = url.replace("http://", "http://me:s%3Acret@");
    let options = Options {
        headers: vec![(String::from("x-scope"), String::from("tenant-secret"))],
        ..Options::new(&with_user)
    };
    let printed = format!("{options:?}");
    assert!(!printed.contains("cret") && printed.contains("x-scope"), "{printed}");
    let client = client(options);
    client.series(&["up", "{a=\"b\"}"], TimeRange::new(0, 1000)).await.unwrap();
    let seen = seen.lock().unwrap();
    let (query, headers) = &seen[0];
    assert_eq!(query, "start=0.000&end=1.000&match%5B%5D=up&match%5B%5D=%7Ba%3D%22b%22%7D");
    // base64 of `me:s:cret`
    assert_eq!(headers["authorization"], "Basic bWU6czpjcmV0");
    assert_eq!(headers["x-scope"], "tenant-secret");
    assert_eq!(client.url(), url);
}

#[tokio::test]
async fn a_bearer_token_comes_from_its_file() {
    let body = r#"{"status":"success","data":["a"]}"#;
    let (url, seen) = answering(StatusCode::OK, body).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let options = Options { bearer_token_file: Some(path.clone()), ..Options::new(&url) };
    let client = client(options.clone());
    let error = client.labels(&[], TimeRange::ALL).await.unwrap_err();
    assert!(matches!(error, AskError::Token { .. }), "{error}");
    std::fs::write(&path, "abc\n").unwrap();
    assert_eq!(client.labels(&[], TimeRange::ALL).await.unwrap().value, ["a"]);
    assert_eq!(seen.lock().unwrap()[0].1["authorization"], "Bearer abc");
    let twice =
        Options { headers: vec![(String::from("Authorization"), String::from("x"))], ..options };
    let http = http::Client::default();
    assert!(matches!(Client::new(http, twice), Err(OptionsError::Authorization { .. })));
}

#[tokio::test]
async fn targets_rules_and_metadata_are_read() {
    let targets = r#"{"status":"success","data":{"activeTargets":[{
        "discoveredLabels":{"__meta_kubernetes_pod_name":"p"},"labels":{"job":"j"},
        "scrapePool":"pool","health":"up"}],"droppedTargets":[]}}"#;
    let rules = r#"{"status":"success","data":{"groups":[{"name":"g","rules":[
        {"name":"b","type":"recording"},{"name":"Alert","type":"alerting"},
        {"name":"a","type":"recording"},{"name":"b","type":"recording"}]}]}}"#;
    let metadata = r#"{"status":"success","data":{
        "m":[{"type":"counter","help":"h","unit":""},{"type":"stateset"}]}}"#;
    let (url, _) = answering(StatusCode::OK, targets).await;
    let answer = client(Options::new(url)).targets().await.unwrap().value;
    let label = |n: &str, v: &str| Labels::from_pairs([(n, v)]).unwrap();
    let expected = Target {
        scrape_pool: String::from("pool"),
        discovered: label("__meta_kubernetes_pod_name", "p"),
        labels: label("job", "j"),
    };
    assert_eq!(answer, [expected]);
    let (url, _) = answering(StatusCode::OK, rules).await;
    assert_eq!(client(Options::new(url)).recorded().await.unwrap().value, ["a", "b"]);
    let (url, _) = answering(StatusCode::OK, metadata).await;
    let types = client(Options::new(url)).metadata().await.unwrap().value;
    assert_eq!(types["m"], [MetricType::Counter, MetricType::Other]);
}

#[test]
fn times_and_urls() {
    assert_eq!(seconds(-1_500), "-1.500");
    assert_eq!(seconds(1_435_781_451_781), "1435781451.781");
    let http = || http::Client::default();
    for url in ["prometheus:9090", "ftp://x", "http://x/?a=b", "http://x/#f"] {
        assert!(Client::new(http(), Options::new(url)).is_err(), "{url}");
    }
}
