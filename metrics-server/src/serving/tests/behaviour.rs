//! What happens to requests beside being let in or not.

use axum::Router;
use axum::http::header;
use axum::response::Redirect;
use axum::routing::get;
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use super::*;
use crate::cluster::Objects;
use crate::store::{Store, StoreOptions};

const NODES: &str = "/apis/metrics.k8s.io/v1beta1/nodes";
const AS_JANE: [(&str, &str); 1] = [("authorization", "Bearer of-jane")];

fn master(server: &Server) -> Client {
    let master = Subject { organization: Some("system:masters"), ..client_named("admin") };
    server.client(Some(server.clients.issue(&master)))
}

fn message(answer: &Response) -> String {
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    String::from(body["message"].as_str().unwrap())
}

#[tokio::test]
async fn nothing_redirects_and_panics_are_statuses() {
    let apis = Router::new()
        .route("/away", get(async || Redirect::temporary("https://attacker.example/")))
        .route("/same", get(async || axum::http::StatusCode::NOT_MODIFIED))
        .route("/bug", get(async || if true { panic!("a bug") } else { "" }));
    let server = Server::start(apis, Checks::default(), RequestLimits::default()).await;
    let client = master(&server);
    let away = server.ask(&client, "/away", &[]).await;
    assert_eq!((away.status.as_u16(), away.headers.get(header::LOCATION)), (500, None));
    assert_eq!(server.ask(&client, "/same", &[]).await.status, 304);
    let bug = server.ask(&client, "/bug", &[]).await;
    assert_eq!(bug.status, 500);
    assert!(message(&bug).contains("panic"), "{}", message(&bug));
    assert_eq!(bug.headers[header::CACHE_CONTROL], "no-cache, private");
    server.stop().await;
}

#[tokio::test]
async fn what_can_be_read_in_two_ways_is_refused_before_anything_else() {
    let server = Server::start(Router::new(), Checks::default(), RequestLimits::default()).await;
    for path in [
        "/apis/metrics.k8s.io/v1beta1//nodes",
        "/apis/metrics.k8s.io/v1beta1/namespaces/a%2fpods",
        "/apis/metrics.k8s.io/v1beta1/namespaces/%2e%2e/pods",
        "/apis/metrics.k8s.io/v1beta1/nodes?watch=0&watch=1",
    ] {
        let answer = server.ask(&server.client(None), path, &AS_JANE).await;
        assert_eq!(answer.status, 400, "{path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn late_answers_are_cut_off_but_watches_are_not() {
    let late = get(async |request: axum::extract::Request| {
        if request.uri().query().is_some() {
            // Longer than the limit below: the runtime's timers fire in order.
            tokio::time::sleep(Duration::from_millis(100)).await;
            return "w".repeat(2_000);
        }
        std::future::pending().await
    });
    let limits = RequestLimits { timeout: Duration::from_millis(20), ..RequestLimits::default() };
    let apis = Router::new().route(NODES, late);
    let server = Server::start(apis, Checks::default(), limits).await;
    let client = master(&server);
    let cut = server.ask(&client, NODES, &[]).await;
    assert_eq!(cut.status, 504);
    assert_eq!(message(&cut), "Timeout: request did not complete within the allotted timeout");
    let watched =
        server.ask(&client, &format!("{NODES}?watch=1"), &[("accept-encoding", "gzip")]).await;
    assert_eq!(watched.body, "w".repeat(2_000).as_bytes());
    assert_eq!(watched.headers.get(header::CONTENT_ENCODING), None);
    server.stop().await;
}

#[tokio::test]
async fn too_many_at_once_are_held_back_except_masters_and_watches() {
    let (release, released) = watch::channel(false);
    let (entered, mut inside) = mpsc::channel(1);
    let slow = get(async move || {
        entered.send(()).await.unwrap();
        released.clone().wait_for(|now| *now).await.unwrap();
        "slow"
    });
    let apis = Router::new()
        .route(NODES, slow)
        .route("/apis/metrics.k8s.io/v1beta1/pods", get(async || "fast"));
    let limits = RequestLimits { inflight_max: 1, ..RequestLimits::default() };
    let server = Arc::new(Server::start(apis, Checks::default(), limits).await);
    let first = tokio::spawn({
        let server = Arc::clone(&server);
        async move { server.ask(&server.client(None), NODES, &AS_JANE).await }
    });
    inside.recv().await.unwrap();
    let pods = "/apis/metrics.k8s.io/v1beta1/pods";
    let plain = server.client(None);
    let held = server.ask(&plain, pods, &AS_JANE).await;
    assert_eq!(held.status, 429);
    assert_eq!(held.headers[header::RETRY_AFTER], "1");
    for probe in ["/livez", "/readyz", "/healthz"] {
        assert_eq!(server.ask(&plain, probe, &[]).await.body, b"ok", "{probe}");
    }
    assert_eq!(server.ask(&master(&server), pods, &[]).await.body, b"fast");
    let hpa = [("authorization", "Bearer of-hpa")];
    let watch = server.ask(&plain, &format!("{pods}?watch=1"), &hpa).await;
    assert_eq!(watch.body, b"fast");
    release.send(true).unwrap();
    assert_eq!(first.await.unwrap().body, b"slow");
    let again = server.ask(&plain, pods, &AS_JANE).await;
    assert_eq!(again.body, b"fast", "its place is free again");
    assert_eq!(again.headers[header::CONTENT_LENGTH], "4");
}

#[tokio::test]
async fn the_real_api_fits_beside_the_other_paths() {
    let store = Arc::new(Store::new(StoreOptions::with_resolution_ms(15_000)));
    let objects = Arc::new(Objects::new(Arc::clone(store.revision())));
    let closing = CancellationToken::new();
    let clock = Arc::new(SystemClock);
    let selector = metrics_api::LabelSelector::default();
    let state = crate::resource::ResourceState::new(store, objects, clock, selector, closing);
    let apis = crate::resource::router(state);
    let server = Server::start(apis, Checks::default(), RequestLimits::default()).await;
    let client = server.client(None);
    let json = async |path: &str| {
        let answer = server.ask(&client, path, &AS_JANE).await;
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        (answer.status.as_u16(), body)
    };
    let (code, groups) = json("/apis").await;
    assert_eq!((code, &groups["groups"][0]["name"]), (200, &"metrics.k8s.io".into()));
    let (code, version) = json("/apis/metrics.k8s.io/v1beta1").await;
    assert_eq!((code, &version["kind"]), (200, &"APIResourceList".into()));
    let (code, list) = json(NODES).await;
    assert_eq!((code, &list["kind"]), (200, &"NodeMetricsList".into()));
    let (code, nowhere) = json("/apis/metrics.k8s.io/v1beta1/namespaces/a/pods/p/x").await;
    assert_eq!((code, &nowhere["kind"]), (404, &"Status".into()));
    server.stop().await;
}

#[tokio::test]
async fn probes_version_index_and_own_metrics_are_served() {
    let checks = Checks {
        readyz: vec![Check::new("metric-storage-ready", || Err("no metrics to serve".into()))],
        ..Checks::default()
    };
    let apis = Router::new().route(NODES, get(async || "nodes"));
    let server = Server::start(apis, checks, RequestLimits::default()).await;
    let (nobody, master) = (server.client(None), master(&server));
    let text = async |client: &Client, path: &str| {
        let answer = server.ask(client, path, &[]).await;
        (answer.status.as_u16(), String::from_utf8(answer.body).unwrap())
    };
    assert_eq!(text(&nobody, "/livez").await, (200, "ok".into()));
    let failed =
        "[+]ping ok\n[-]metric-storage-ready failed: reason withheld\nreadyz check failed\n";
    assert_eq!(text(&nobody, "/readyz").await, (500, failed.into()));
    assert_eq!(text(&nobody, "/readyz/metric-storage-ready").await.0, 403);
    let reason = "internal server error: no metrics to serve\n";
    assert_eq!(text(&master, "/readyz/metric-storage-ready").await, (500, reason.into()));
    assert_eq!(text(&master, "/nowhere").await, (404, "404 page not found\n".into()));
    let version: Value = serde_json::from_str(&text(&master, "/version").await.1).unwrap();
    assert_eq!(version["gitVersion"], format!("v{}", telemetry::VERSION));
    let index: Value = serde_json::from_str(&text(&master, "/").await.1).unwrap();
    let paths = index["paths"].as_array().unwrap();
    assert!(paths.contains(&"/readyz/metric-storage-ready".into()), "{index}");
    assert_eq!(text(&master, NODES).await.0, 200);
    let (code, metrics) = text(&master, "/metrics").await;
    assert_eq!(code, 200);
    for line in [
        r#"apiserver_request_total{code="200",component="apiserver",dry_run="",group="metrics.k8s.io",resource="nodes",scope="cluster",subresource="",verb="LIST",version="v1beta1"} 1"#,
        r#"apiserver_request_total{code="500",component="apiserver",dry_run="",group="",resource="",scope="",subresource="/readyz",verb="GET",version=""} 1"#,
        r#"apiserver_request_duration_seconds_count{component="apiserver",dry_run="",group="metrics.k8s.io",resource="nodes",scope="cluster",subresource="",verb="LIST",version="v1beta1"} 1"#,
        r#"apiserver_current_inflight_requests{request_kind="readOnly"} 1"#,
    ] {
        assert!(metrics.lines().any(|one| one == line), "{line}\n{metrics}");
    }
    server.stop().await;
}
