//! The routes as clients meet them, over a store in memory: envelopes, statuses, headers, and what is answered before the
//! store is open and while the server stops.

mod language;
mod requests;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, header};
use http_body_util::BodyExt;
use model::{
    Appender, Batch, Clock, Exemplar, ExemplarAppend, Labels, ManualClock, MatchOp, Matcher,
    Timestamp,
};
use parking_lot::RwLock;
use promql::{Engine, EngineOptions, ParseOptions};
use scrape::{Scraper, ScraperOptions};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tsdb::{Db, MemDisk};

use crate::metrics::Metrics;
use crate::queries::{Queries, QueryBounds};
use crate::routes;
use crate::state::{Ready, Reload, Server};
use crate::storage;

/// 2015-07-01T20:10:30Z
const NOW: Timestamp = 1_435_781_430_000;

/// The series of `m`.
const SERIES: &str = r#"[{"__name__":"m","a":"1"},{"__name__":"m","a":"2"}]"#;

/// What a query may hold.
const QUERY_BYTES_MAX: u64 = 64 << 20;

/// A label value that would run if a page wrote it as it is.
const HOSTILE: &str = "<script>alert('\"&')</script>";

fn server(clock: &Arc<ManualClock>, enable_admin_api: bool) -> Arc<Server> {
    let registry = telemetry::new_registry();
    let yaml = format!(
        "scrape_configs:\n- job_name: \"{}\"\n  static_configs: [{{targets: ['h:1']}}]\n- job_name: a",
        HOSTILE.replace('"', "\\\"")
    );
    let mut config = config::Config::parse(&yaml, "test").unwrap();
    config.storage.retention = Some(storage::retention_of(&tsdb::Options::default()));
    let bounds = QueryBounds {
        concurrency_max: 2,
        timeout: Duration::from_secs(60),
        bytes_max: QUERY_BYTES_MAX,
        total_bytes_max: 0,
    };
    Arc::new(Server {
        clock: Arc::clone(clock) as Arc<dyn Clock>,
        started: NOW,
        engine: Arc::new(Engine::new(EngineOptions::default(), &registry)),
        parse: ParseOptions { binop_fill: true, ..ParseOptions::default() },
        delayed_name_removal: false,
        type_and_unit_labels: true,
        per_step_stats: true,
        queries: Queries::new(bounds, &registry),
        metrics: Metrics::new(&registry),
        registry,
        flags: vec![
            (String::from("b.flag"), String::from("1")),
            (String::from("a"), String::new()),
        ],
        data_path: PathBuf::from("/data"),
        config: RwLock::new(Arc::new(config)),
        reload: RwLock::new(Reload { succeeded: true, at: NOW }),
        enable_admin_api,
        cors_origin: Matcher::new("origin", MatchOp::Regex, r"https?://(a|b)\.example").ok(),
        replay: Arc::new(tsdb::ReplayProgress::new()),
        reload_requests: None,
        extra_links: vec![(String::from("/extra"), String::from(HOSTILE))],
        running: OnceLock::new(),
        shutdown: CancellationToken::new(),
        stopping: AtomicBool::new(false),
    })
}

/// Opens a store with `m{a="1"}`, `m{a="2"}` and `other.metric`, a sample each 10 s.
fn open(server: &Server, clock: &Arc<ManualClock>) {
    let (clock, disk) = (Arc::clone(clock) as Arc<dyn Clock>, Arc::new(MemDisk::new()));
    let options = tsdb::Options::default();
    let path = Path::new("/data");
    let store =
        Arc::new(Db::open(path, disk, Arc::clone(&clock), options, &server.registry).unwrap());
    let mut batch = Batch::new();
    for (i, pairs) in [
        [("__name__", "m"), ("a", "1")],
        [("__name__", "m"), ("a", "2")],
        [("__name__", "other.metric"), ("dotted.label", HOSTILE)],
    ]
    .into_iter()
    .enumerate()
    {
        let labels = Labels::from_pairs(pairs).unwrap();
        let value = f64::from(u32::try_from(i).unwrap()) + 1.0;
        for t in [NOW - 20_000, NOW - 10_000, NOW] {
            batch.push_new(labels.clone(), t, value);
        }
    }
    assert!(store.append(&batch).unwrap().rejected.is_empty());
    let client = http::Client::default();
    let appender = Arc::clone(&store) as Arc<dyn Appender>;
    let scraper = Scraper::new(ScraperOptions::new(appender, clock, client), &server.registry);
    assert!(server.running.set(Ready { store, scraper: Arc::new(scraper) }).is_ok());
}

struct Fixture {
    server: Arc<Server>,
    router: Router,
}

impl Fixture {
    fn opening() -> Self {
        let server = server(&Arc::new(ManualClock::new(NOW)), false);
        let router = routes::router(&server, Router::new());
        Self { server, router }
    }

    fn new() -> Self {
        Self::open(false)
    }

    fn with_admin_api() -> Self {
        Self::open(true)
    }

    fn open(enable_admin_api: bool) -> Self {
        let clock = Arc::new(ManualClock::new(NOW));
        let server = server(&clock, enable_admin_api);
        open(&server, &clock);
        let router = routes::router(&server, Router::new());
        Self { server, router }
    }

    async fn send(&self, request: Request<Body>) -> (u16, HeaderMap, String) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status.as_u16(), parts.headers, String::from_utf8(body.to_vec()).unwrap())
    }

    /// Sends a form with these headers.
    async fn change(
        &self,
        method: Method,
        path: &str,
        form: impl Into<Body>,
        headers: &[(&str, &str)],
    ) -> (u16, String) {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (status, _, body) = self.send(request.body(form.into()).unwrap()).await;
        (status, body)
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let (status, _, body) = self.send(Request::get(path).body(Body::empty()).unwrap()).await;
        (status, body)
    }

    /// `GET path`, whose answer is JSON.
    async fn json(&self, path: &str) -> Value {
        let (_, body) = self.get(path).await;
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"))
    }

    async fn post(&self, path: &str, form: impl Into<Body>) -> (u16, String) {
        self.change(Method::POST, path, form, &[]).await
    }

    /// `GET path` succeeds with exactly this `data`, and perhaps warnings.
    async fn check(&self, path: &str, data: &str) {
        let expected = format!(r#"{{"status":"success","data":{data}}}"#);
        assert_eq!(self.get(path).await, (200, expected), "{path}");
    }

    /// `GET path` fails in the envelope.
    async fn check_error(&self, path: &str, status: u16, kind: &str, message: &str) {
        let (got, body) = self.get(path).await;
        let message = serde_json::to_string(message).unwrap();
        let expected = format!(r#"{{"status":"error","errorType":"{kind}","error":{message}}}"#);
        assert_eq!((got, body), (status, expected), "{path}");
    }
}

#[tokio::test]
async fn queries() {
    let server = Fixture::new();
    let vector = r#"{"resultType":"vector","result":[{"metric":{"__name__":"m","a":"1"},"value":[1435781430,"1"]},{"metric":{"__name__":"m","a":"2"},"value":[1435781430,"2"]}]}"#;
    server.check("/api/v1/query?query=m", vector).await;
    server.check("/api/v1/query?query=m&time=1435781430", vector).await;
    server.check("/api/v1/query?query=m&time=2015-07-01T20:10:30Z", vector).await;
    server.check("/api/v1/query?query=m&time=1", r#"{"resultType":"vector","result":[]}"#).await;
    server
        .check("/api/v1/query?query=1%2B1&time=4", r#"{"resultType":"scalar","result":[4,"2"]}"#)
        .await;
    server
        .check(
            "/api/v1/query_range?query=m%7Ba%3D%222%22%7D&start=1435781420&end=1435781430.5&step=5",
            r#"{"resultType":"matrix","result":[{"metric":{"__name__":"m","a":"2"},"values":[[1435781420,"2"],[1435781425,"2"],[1435781430,"2"]]}]}"#,
        )
        .await;
    let limited = server.get("/api/v1/query?query=m&limit=1").await.1;
    assert!(limited.ends_with(r#"]},"warnings":["results truncated due to limit"]}"#), "{limited}");
    let stats = server.get("/api/v1/query?query=m&stats=yes").await.1;
    assert!(stats.contains(r#""stats":{"timings":{"evalTotalTime":"#), "{stats}");
    assert!(stats.contains(r#"value \"yes\" for parameter \"stats\" is deprecated"#), "{stats}");
    // A time far ahead, as from a client that sends milliseconds, is no error.
    let (status, _) = server.get("/api/v1/query?query=m&time=1797000000000").await;
    assert_eq!(status, 200);
    let (status, body) = server.post("/api/v1/query?time=1435781430", "query=m").await;
    assert_eq!((status, body), (200, format!(r#"{{"status":"success","data":{vector}}}"#)));
}

#[tokio::test]
async fn mistakes_in_queries() {
    let server = Fixture::new();
    let query = "/api/v1/query?query";
    let range = "/api/v1/query_range?query=m&start=0&end=10";
    for (path, message) in [
        (
            String::from("/api/v1/query"),
            r#"invalid parameter "query": unknown position: parse error: no expression found in input"#,
        ),
        (
            format!("{query}=m&time=x"),
            r#"invalid parameter "time": invalid time value for 'time': cannot parse "x" to a valid timestamp"#,
        ),
        (
            format!("{query}=m&timeout=x"),
            r#"invalid parameter "timeout": cannot parse "x" to a valid duration"#,
        ),
        (
            format!("{query}=m&lookback_delta=x"),
            r#"error parsing lookback delta duration: cannot parse "x" to a valid duration"#,
        ),
        (format!("{query}=m&limit=-1"), r#"invalid parameter "limit": limit must be non-negative"#),
        (
            String::from("/api/v1/query_range?query=m"),
            r#"invalid parameter "start": cannot parse "" to a valid timestamp"#,
        ),
        (range.to_owned(), r#"invalid parameter "step": cannot parse "" to a valid duration"#),
        (
            format!("{range}&step=-1"),
            r#"invalid parameter "step": zero or negative query resolution step widths are not accepted. Try a positive integer"#,
        ),
        (
            String::from("/api/v1/query_range?query=m&start=1&end=0&step=1"),
            r#"invalid parameter "end": end timestamp must not be before start time"#,
        ),
        (
            String::from("/api/v1/query_range?query=m&start=0&end=1e9&step=1"),
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        ),
        (
            String::from("/api/v1/query_range?query=m%5B5m%5D&start=0&end=1&step=1"),
            r#"invalid parameter "query": invalid expression type "range vector" for range query, must be Scalar or instant Vector"#,
        ),
        (
            String::from("/api/v1/query_exemplars?query=m&start=2&end=1"),
            "end timestamp must not be before start timestamp",
        ),
    ] {
        server.check_error(&path, 400, "bad_data", message).await;
    }
    for path in ["/api/v1/query?query=m&timeout=0", "/api/v1/query?query=1&timeout=-1"] {
        server.check_error(path, 503, "timeout", "query timed out in query execution").await;
    }
}

#[tokio::test]
async fn a_query_that_needs_too_many_bytes_is_told_how_many() {
    let server = Fixture::new();
    for path in [
        "/api/v1/query?query=count_over_time(vector(1)[100d:1s])",
        "/api/v1/query_range?query=count_over_time(vector(1)[100d:1s])&start=0&end=10&step=10",
    ] {
        let (status, body) = server.get(path).await;
        assert_eq!(status, 422, "{path}: {body}");
        let start = r#"{"status":"error","errorType":"execution","error":"the query needs "#;
        let end = r#" bytes at a time, 67108864 are allowed by --query.max-bytes"}"#;
        let needed = body.strip_prefix(start).and_then(|rest| rest.strip_suffix(end));
        let needed: u64 = needed.unwrap_or_else(|| panic!("{path}: {body}")).parse().unwrap();
        assert!(needed > QUERY_BYTES_MAX, "{path}: {body}");
    }
}

#[tokio::test]
async fn what_a_query_looked_at_and_did() {
    let server = Fixture::new();
    let range = "query_range?query=sum(m)&start=1435781410&end=1435781420&step=5";
    for (path, expected) in [
        (
            "query?query=m&stats=all",
            json!({"totalQueryableSamplesPerStep": [[1_435_781_430, 2]], "totalQueryableSamples": 2, "samplesReadPerStep": [[1_435_781_430, 2]], "samplesRead": 2, "peakSamples": 2}),
        ),
        (
            "query?query=m&stats=true",
            json!({"totalQueryableSamples": 2, "samplesRead": 2, "peakSamples": 2}),
        ),
    ] {
        let answer = server.json(&format!("/api/v1/{path}")).await;
        assert_eq!(answer["data"]["stats"]["samples"], expected, "{path}");
        assert!(answer.get("warnings").is_none(), "{answer}");
        let timings = answer["data"]["stats"]["timings"].as_object().unwrap();
        let mut names: Vec<&String> = timings.keys().collect();
        names.sort();
        let expected = [
            "evalTotalTime",
            "execQueueTime",
            "execTotalTime",
            "innerEvalTime",
            "queryPreparationTime",
            "resultSortTime",
        ];
        assert_eq!(names, expected, "{path}");
    }
    let answer = server.json(&format!("/api/v1/{range}&stats=all")).await;
    let samples = &answer["data"]["stats"]["samples"];
    let per_step = json!([[1_435_781_410, 2], [1_435_781_415, 2], [1_435_781_420, 2]]);
    assert_eq!(samples["totalQueryableSamplesPerStep"], per_step, "{answer}");
    assert_eq!(samples["totalQueryableSamples"], 6, "{answer}");

    let answer = server.json(&format!("/api/v1/{range}&explain=true")).await;
    let explain = &answer["data"]["explain"];
    assert_eq!(explain["operation"], "sum(m)", "{answer}");
    let aggregation = &explain["operands"][0];
    assert_eq!((&aggregation["series"], &aggregation["samples"]), (&json!(1), &json!(3)));
    let selector = &aggregation["operands"][0];
    assert_eq!(selector["operation"], r#"{__name__="m"}"#, "{answer}");
    assert_eq!(selector["operands"], json!([]), "{answer}");
    for (key, value) in [("seriesSelected", 2), ("samplesRead", 4), ("series", 2), ("samples", 6)] {
        assert_eq!(selector[key], value, "{key}: {answer}");
    }
    assert!(explain["bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{answer}");
    assert!(explain["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{answer}");
    for path in ["query?query=m", "query?query=m&explain=false", "query?query=m&stats=all"] {
        let answer = server.json(&format!("/api/v1/{path}")).await;
        assert!(answer["data"].get("explain").is_none(), "{answer}");
    }
    server
        .check_error(
            "/api/v1/query?query=m&explain=maybe",
            400,
            "bad_data",
            r#"invalid parameter "explain": unable to parse boolean: strconv.ParseBool: parsing "maybe": invalid syntax"#,
        )
        .await;
}

#[tokio::test]
async fn the_lookback_delta_of_one_query() {
    let server = Fixture::new();
    for (query, samples) in [
        ("time=1435781445", 2),
        ("time=1435781445&lookback_delta=15", 0),
        ("time=1435781445&lookback_delta=15.001", 2),
        ("time=1435781445&lookback_delta=20s", 2),
        ("time=1435781800", 0),
        ("time=1435781800&lookback_delta=10m", 2),
        ("time=1435781445&lookback_delta=0", 2),
    ] {
        let answer = server.json(&format!("/api/v1/query?query=m&{query}")).await;
        assert_eq!(
            answer["data"]["result"].as_array().unwrap().len(),
            samples,
            "{query}: {answer}"
        );
    }
}

#[tokio::test]
async fn labels_and_series() {
    let server = Fixture::new();
    server.check("/api/v1/labels", r#"["__name__","a","dotted.label"]"#).await;
    server.check("/api/v1/labels?match[]=m", r#"["__name__","a"]"#).await;
    server
        .check("/api/v1/labels?match[]=m&match[]=nope&start=1435781400", r#"["__name__","a"]"#)
        .await;
    server.check("/api/v1/label/a/values", r#"["1","2"]"#).await;
    server.check("/api/v1/label/nope/values", "[]").await;
    let hostile = serde_json::to_string(HOSTILE).unwrap();
    server.check("/api/v1/label/U__dotted_2e_label/values", &format!("[{hostile}]")).await;
    let limited = server.get("/api/v1/label/a/values?limit=1").await.1;
    assert_eq!(
        limited,
        r#"{"status":"success","data":["1"],"warnings":["results truncated due to limit"]}"#
    );
    server.check("/api/v1/series?match[]=m", SERIES).await;
    server.check("/api/v1/series?match[]=m&match[]=%7Ba%3D%221%22%7D", SERIES).await;
    let (_, posted) = server.post("/api/v1/series", "match[]=m").await;
    assert!(posted.contains(SERIES), "{posted}");
    server.check_error("/api/v1/series", 400, "bad_data", "no match[] parameter provided").await;
    server
        .check_error(
            "/api/v1/labels?start=x",
            400,
            "bad_data",
            r#"invalid parameter "start": invalid time value for 'start': cannot parse "x" to a valid timestamp"#,
        )
        .await;
    for path in ["/api/v1/labels?match[]=%7B%7D", "/api/v1/series?match[]=%7B%7D"] {
        let (status, body) = server.get(path).await;
        assert_eq!(status, 400, "{path}");
        assert!(body.contains("match[] must contain at least one non-empty matcher"), "{body}");
    }
}

#[tokio::test]
async fn everything_else() {
    let server = Fixture::new();
    for (path, data) in [
        ("/api/v1/format_query?query=sum(m)by(a)", r#""sum by (a) (m)""#),
        ("/api/v1/query_exemplars?query=test&start=1797000000000&end=1797000600000", "[]"),
        ("/api/v1/rules", r#"{"groups":[]}"#),
        ("/api/v1/alerts", r#"{"alerts":[]}"#),
        ("/api/v1/alertmanagers", r#"{"activeAlertmanagers":[],"droppedAlertmanagers":[]}"#),
        ("/api/v1/metadata", "{}"),
        ("/api/v1/targets", r#"{"activeTargets":[],"droppedTargetCounts":{},"droppedTargets":[]}"#),
        (
            "/api/v1/targets?state=active",
            r#"{"activeTargets":[],"droppedTargetCounts":null,"droppedTargets":[]}"#,
        ),
        ("/api/v1/status/flags", r#"{"a":"","b.flag":"1"}"#),
        ("/api/v1/status/tsdb/blocks", r#"{"blocks":[]}"#),
        ("/api/v1/status/walreplay", r#"{"current":0,"max":0,"min":0}"#),
    ] {
        server.check(path, data).await;
    }
    for (path, part) in [
        ("/api/v1/scrape_pools", r#"","a"]}"#),
        ("/api/v1/status/buildinfo", r#""version":"3.14.0""#),
        ("/version", r#""version":"3.14.0""#),
        ("/api/v1/status/runtimeinfo", r#""startTime":"2015-07-01T20:10:30Z""#),
        ("/api/v1/status/config", r"scrape_interval: 1m\n"),
        ("/api/v1/status/config", r"retention:\n      time: 15d\n"),
        ("/api/v1/status/runtimeinfo", r#""storageRetention":"15d""#),
        ("/api/v1/status/tsdb", r#""numSeries":3"#),
        ("/api/v1/status/tsdb?limit=1", r#""seriesCountByMetricName":[{"name":"m","value":2}]"#),
        ("/metrics", "prometheus_build_info{version=\"3.14.0\"} 1\n"),
        ("/-/healthy", "Prometheus Server is Healthy.\n"),
        ("/-/ready", "Prometheus Server is Ready.\n"),
    ] {
        let (status, body) = server.get(path).await;
        assert_eq!(status, 200, "{path}: {body}");
        assert!(body.contains(part), "{path}: {body}");
    }
    let build = server.get("/api/v1/status/buildinfo").await.1;
    assert!(!build.contains("features"), "Grafana would take it for Mimir: {build}");
    for (limit, message) in [
        ("0", "limit must be a positive number"),
        ("x", "limit must be a positive number"),
        ("10001", "limit must not exceed 10000"),
    ] {
        let path = format!("/api/v1/status/tsdb?limit={limit}");
        server.check_error(&path, 400, "bad_data", message).await;
    }
    server.check_error("/api/v1/metadata?limit=x", 400, "bad_data", "limit must be a number").await;
}

#[tokio::test]
async fn what_is_not_served() {
    let server = Fixture::new();
    server.check_error("/api/v1/nothing", 404, "not_found", "no such endpoint").await;
    assert_eq!(server.get("/nothing").await.0, 404);
    for (method, path) in [
        (Method::POST, "/api/v1/label/a/values"),
        (Method::POST, "/api/v1/status/flags"),
        (Method::DELETE, "/api/v1/series"),
        (Method::GET, "/-/reload"),
        (Method::GET, "/-/quit"),
    ] {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        assert_eq!(server.send(request).await.0, 405, "{path}");
    }
    for path in ["/-/reload", "/-/quit"] {
        let (status, body) = server.post(path, "").await;
        assert_eq!((status, body.as_str()), (403, "Lifecycle API is not enabled."));
    }
    assert!(!server.server.shutdown.is_cancelled());
}

#[tokio::test]
async fn pages_of_other_sites_read_the_api_if_they_may() {
    let server = Fixture::new();
    let allowed = [
        ("access-control-allow-origin", "http://b.example"),
        ("access-control-allow-methods", "GET, POST, OPTIONS"),
        ("access-control-allow-headers", "Accept, Authorization, Content-Type, Origin"),
        ("access-control-expose-headers", "Date"),
    ];
    for (method, path, status) in [
        (Method::GET, "/api/v1/labels", 200),
        (Method::GET, "/api/v1/nothing", 404),
        (Method::OPTIONS, "/api/v1/query", 204),
        (Method::OPTIONS, "/api/v1/label/a/values", 204),
    ] {
        for (origin, may_read) in [
            (Some("http://b.example"), true),
            (Some("http://c.example"), false),
            // All of it has to match.
            (Some("http://b.example.org"), false),
            (None, false),
        ] {
            let mut request = Request::builder().method(&method).uri(path);
            if let Some(origin) = origin {
                request = request.header(header::ORIGIN, origin);
            }
            let answer = server.send(request.body(Body::empty()).unwrap()).await;
            assert_eq!(answer.0, status, "{method} {path}");
            let headers = answer.1;
            assert_eq!(headers[header::VARY], "Origin", "{method} {path} {origin:?}");
            for (name, value) in allowed {
                let given = headers.get(name).map(|value| value.to_str().unwrap());
                assert_eq!(given, may_read.then_some(value), "{method} {path} {origin:?}");
            }
        }
    }
    let request = Request::get("/").header(header::ORIGIN, "http://b.example");
    let (_, headers, _) = server.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(headers.get(header::ACCESS_CONTROL_ALLOW_ORIGIN), None);
}

#[tokio::test]
async fn the_store_is_not_changed_unless_that_is_enabled() {
    let server = Fixture::new();
    for path in ["delete_series?match[]=m", "clean_tombstones", "snapshot"] {
        let path = format!("/api/v1/admin/tsdb/{path}");
        let body = r#"{"status":"error","errorType":"unavailable","error":"admin APIs disabled"}"#;
        assert_eq!(server.post(&path, "").await, (500, String::from(body)), "{path}");
        assert_eq!(server.get(&path).await.0, 405, "{path}");
    }
    server.check("/api/v1/series?match[]=m", SERIES).await;
}

#[tokio::test]
async fn series_are_deleted() {
    let server = Fixture::with_admin_api();
    let path = "/api/v1/admin/tsdb/delete_series";
    for (form, message) in [
        ("", "no match[] parameter provided"),
        (
            "match[]=m&start=x",
            r#"invalid parameter \"start\": invalid time value for 'start': cannot parse \"x\" to a valid timestamp"#,
        ),
        (
            "match[]=m&match[]={}",
            r#"invalid parameter \"match[]\": match[] must contain at least one non-empty matcher"#,
        ),
    ] {
        let body = format!(r#"{{"status":"error","errorType":"bad_data","error":"{message}"}}"#);
        assert_eq!(server.post(path, form).await, (400, body), "{form}");
    }
    // A page of another site must not get through, with or without the newer header.
    for headers in [
        &[("sec-fetch-site", "cross-site")][..],
        &[("origin", "http://evil.example"), ("host", "localhost:9090")],
    ] {
        let sent = server.change(Method::POST, path, "match[]=m", headers).await;
        assert_eq!(sent, (403, String::from("Not for pages of other sites.\n")));
    }
    server.check("/api/v1/series?match[]=m", SERIES).await;

    let deleted = (204, String::new());
    assert_eq!(server.post(path, "match[]=m&start=9&end=8").await, deleted);
    server.check("/api/v1/series?match[]=m", SERIES).await;
    let form = "match[]=m%7Ba%3D%221%22%7D&start=1435781420&end=1435781425";
    assert_eq!(server.post(path, form).await, deleted);
    let range = "query_range?query=m%7Ba%3D%221%22%7D&start=1435781410&end=1435781430&step=10&lookback_delta=1";
    server
        .check(
            &format!("/api/v1/{range}"),
            r#"{"resultType":"matrix","result":[{"metric":{"__name__":"m","a":"1"},"values":[[1435781410,"1"],[1435781430,"1"]]}]}"#,
        )
        .await;
    let sent = server.change(Method::PUT, path, "match[]=m&match[]=%7Ba%3D%221%22%7D", &[]).await;
    assert_eq!(sent, deleted);
    server.check("/api/v1/query?query=m", r#"{"resultType":"vector","result":[]}"#).await;
    let rest = server.get("/api/v1/query?query=%7B__name__%3D%22other.metric%22%7D").await.1;
    assert!(rest.contains("[1435781430,\"3\"]"), "{rest}");
    let cleaned = server.post("/api/v1/admin/tsdb/clean_tombstones", "").await;
    assert_eq!(cleaned, deleted);
}

#[tokio::test]
async fn snapshots_are_named() {
    let server = Fixture::with_admin_api();
    for form in ["", "skip_head=true", "skip_head=0"] {
        let (status, body) = server.post("/api/v1/admin/tsdb/snapshot", form).await;
        assert_eq!(status, 200, "{form}: {body}");
        let name = body
            .strip_prefix(r#"{"status":"success","data":{"name":"20150701T201030Z-"#)
            .and_then(|rest| rest.strip_suffix(r#""}}"#));
        let name = name.unwrap_or_else(|| panic!("{form}: {body}"));
        assert!(name.len() == 16 && name.bytes().all(|b| b.is_ascii_hexdigit()), "{body}");
    }
    let (status, body) = server.post("/api/v1/admin/tsdb/snapshot", "skip_head=yes").await;
    assert_eq!(
        (status, body.as_str()),
        (
            400,
            r#"{"status":"error","errorType":"bad_data","error":"invalid parameter \"skip_head\": unable to parse boolean: strconv.ParseBool: parsing \"yes\": invalid syntax"}"#
        )
    );
}

#[tokio::test]
async fn exemplars_of_the_series_in_an_expression() {
    let server = Fixture::new();
    let mut batch = Batch::new();
    for (name, t, trace) in [("m", NOW + 1_500, "1"), ("m", NOW + 2_000, "2"), ("n", NOW, "3")] {
        let labels = Labels::from_pairs([("__name__", name), ("a", "1")]).unwrap();
        let series = batch.push_new(labels, t, 1e21);
        let labels = Labels::from_pairs([("trace", trace)]).unwrap();
        batch.exemplars.push(ExemplarAppend { series, exemplar: Exemplar { labels, t, v: 0.5 } });
    }
    let appended = server.server.running.get().unwrap().store.append(&batch).unwrap();
    assert!(appended.rejected.is_empty(), "{:?}", appended.rejected);
    let exemplar = |trace: &str, t: &str| {
        format!(r#"{{"labels":{{"trace":"{trace}"}},"value":"0.5","timestamp":{t}}}"#)
    };
    let series = |name: &str, exemplars: &str| {
        format!(r#"{{"seriesLabels":{{"__name__":"{name}","a":"1"}},"exemplars":[{exemplars}]}}"#)
    };
    let [one, two, three] = [("1", "1435781431.500"), ("2", "1435781432"), ("3", "1435781430")]
        .map(|(trace, t)| exemplar(trace, t));
    for (query, expected) in [
        ("query=m", series("m", &format!("{one},{two}"))),
        ("query=m&start=1435781432", series("m", &two)),
        ("query=m%7Ba%3D%222%22%7D", String::new()),
        (
            "query=sum(rate(m%5B5m%5D))%2Fn",
            format!("{},{}", series("m", &format!("{one},{two}")), series("n", &three)),
        ),
    ] {
        let path = format!("/api/v1/query_exemplars?{query}");
        server.check(&path, &format!("[{expected}]")).await;
    }
    assert_eq!(server.get("/api/v1/query_exemplars?query=1").await, (204, String::new()));
    let posted = server.post("/api/v1/query_exemplars", "query=n").await.1;
    assert!(posted.contains(&three), "{posted}");
    let (status, body) = server.get("/api/v1/query_exemplars?query=(").await;
    assert_eq!(status, 400, "{body}");
}

#[tokio::test]
async fn requests_are_counted_by_route() {
    let server = Fixture::new();
    server.get("/api/v1/label/a/values").await;
    server.get("/api/v1/label/b/values").await;
    server.get("/api/v1/query?query=(").await;
    let metrics = server.get("/metrics").await.1;
    for line in [
        "prometheus_http_requests_total{code=\"200\",handler=\"/api/v1/label/:name/values\"} 2\n",
        "prometheus_http_requests_total{code=\"400\",handler=\"/api/v1/query\"} 1\n",
        "prometheus_http_request_duration_seconds_count{handler=\"/api/v1/query\"} 1\n",
    ] {
        assert!(metrics.contains(line), "{line} is missing in {metrics}");
    }
}

#[tokio::test]
async fn before_the_store_is_open_and_while_stopping() {
    let opening = Fixture::opening();
    let stopping = Fixture::new();
    stopping.server.stopping.store(true, Ordering::Relaxed);
    for (server, header) in [(opening, "false"), (stopping, "true")] {
        for path in ["/api/v1/query?query=1", "/api/v1/status/buildinfo", "/-/ready"] {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let (status, headers, body) = server.send(request).await;
            assert_eq!((status, body.as_str()), (503, "Service Unavailable"), "{path}");
            assert_eq!(headers["x-prometheus-stopping"], header, "{path}");
        }
        for path in ["/-/healthy", "/metrics", "/", "/api/v1/status/walreplay"] {
            assert_eq!(server.get(path).await.0, 200, "{path}");
        }
    }
}

#[tokio::test]
async fn the_front_page_is_plain_and_safe() {
    let server = Fixture::new();
    let request = Request::get("/").body(Body::empty()).unwrap();
    let (status, headers, page) = server.send(request).await;
    assert_eq!(status, 200);
    let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    assert!(!page.contains("<script"), "{page}");
    for part in ["&lt;script&gt;", "9 since the start", "/api/v1/status/tsdb", "/extra", "/data"] {
        assert!(page.contains(part), "{part} is missing in {page}");
    }
}
