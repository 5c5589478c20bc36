//! The API as clients see it, over a store and an index filled by hand.

use axum::body::{Body, to_bytes};
use futures_util::StreamExt as _;
use http_body_util::BodyStream;
use metrics_api::{ApiGroup, ApiVersion};
use model::ManualClock;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use crate::cluster::{Amounts, Labels, NodeObject, PodFacts};
use crate::store::{NodeBatch, PodPoints, Point, StoreOptions};

pub(super) const T0_MS: i64 = 1_700_000_000_000;
const BODY_BYTES_MAX: usize = 64 << 20;

pub(super) struct Cluster {
    store: Arc<Store>,
    pub(super) objects: Arc<Objects>,
    clock: Arc<ManualClock>,
    closing: CancellationToken,
    router: Router,
}

fn cluster_with(node_selector: &str) -> Cluster {
    let store = Arc::new(Store::new(StoreOptions::with_resolution_ms(15_000)));
    let objects = Arc::new(Objects::new(Arc::clone(store.revision())));
    let clock = Arc::new(ManualClock::new(T0_MS));
    let closing = CancellationToken::new();
    let state = ResourceState::new(
        Arc::clone(&store),
        Arc::clone(&objects),
        Arc::<ManualClock>::clone(&clock),
        node_selector.parse().unwrap(),
        closing.clone(),
    );
    let router = router(state)
        .merge(openapi_router(&groups()))
        .merge(discovery_router(|| vec![discovery::group()]));
    Cluster { store, objects, clock, closing, router }
}

/// Two nodes, three pods of which one has no usage.
pub(super) fn cluster() -> Cluster {
    let cluster = cluster_with("");
    cluster.add_node("n1", &[("zone", "a")]);
    cluster.add_node("n2", &[("zone", "b")]);
    for (namespace, name, app, node) in
        [("shop", "web-1", "web", "n1"), ("shop", "db-0", "db", "n2"), ("ops", "job", "job", "n1")]
    {
        cluster.objects.upsert_pod(
            namespace,
            name,
            [("app", app)],
            PodFacts { node, created_ms: T0_MS, resources: None },
        );
    }
    cluster.scrape("n1", 0, &[("shop", "web-1")]);
    cluster.scrape("n2", 0, &[("shop", "db-0")]);
    cluster.scrape("n1", 10, &[("shop", "web-1")]);
    cluster.scrape("n2", 10, &[("shop", "db-0")]);
    cluster
}

impl Cluster {
    pub(super) fn add_node(&self, name: &str, labels: &[(&str, &str)]) {
        self.objects.upsert_node(NodeObject {
            name: name.into(),
            labels: Labels::new(labels.iter().copied()),
            addresses: Vec::new(),
            kubelet_port: None,
            allocatable: Amounts::default(),
            created_ms: T0_MS,
        });
    }

    /// Everything uses a hundredth of a core and 1 MiB.
    pub(super) fn scrape(&self, node: &str, at_s: i64, pods: &[(&str, &str)]) {
        let point = Point {
            at_ms: T0_MS + at_s * 1000,
            start_ms: None,
            cpu_ns: 1_000_000_000 + at_s.unsigned_abs() * 10_000_000,
            memory_bytes: 1 << 20,
            swap_bytes: None,
        };
        let pods = pods.iter().map(|(namespace, name)| PodPoints {
            namespace: (*namespace).into(),
            name: (*name).into(),
            containers: vec![("app".into(), point)],
        });
        let batch = NodeBatch { node: Some(point), pods: pods.collect() };
        let now_ms = T0_MS + at_s * 1000 + 500;
        self.clock.set(now_ms);
        self.store.record(node, batch, now_ms);
    }

    async fn send(&self, method: &str, path: &str, accept: &str) -> Response {
        let request = axum::http::Request::builder()
            .method(method)
            .uri(path)
            .header(header::ACCEPT, accept)
            .body(Body::empty())
            .unwrap();
        self.router.clone().oneshot(request).await.unwrap()
    }

    pub(super) async fn text(&self, path: &str, accept: &str) -> (StatusCode, String, String) {
        let response = self.send("GET", path, accept).await;
        let status = response.status();
        let media_type = response.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned();
        let body = to_bytes(response.into_body(), BODY_BYTES_MAX).await.unwrap();
        (status, media_type, String::from_utf8_lossy(&body).into_owned())
    }

    pub(super) async fn get(&self, path: &str) -> (StatusCode, Value) {
        let (status, _, body) = self.text(path, "application/json").await;
        assert!(body.ends_with('\n'), "{body}");
        (status, serde_json::from_str(&body).unwrap())
    }

    /// The names in a list, of pods with the namespace.
    async fn names(&self, path: &str) -> Vec<String> {
        let (status, list) = self.get(path).await;
        assert_eq!(status, StatusCode::OK, "{list}");
        list["items"].as_array().unwrap().iter().map(name_of).collect()
    }
}

fn name_of(object: &Value) -> String {
    let name = object["metadata"]["name"].as_str().unwrap();
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    }
}

const BASE: &str = "/apis/metrics.k8s.io/v1beta1";

fn at(path: &str) -> String {
    format!("{BASE}{path}")
}

#[tokio::test]
async fn pods_with_a_usage_are_listed_in_order() {
    let cluster = cluster();
    let (status, media_type, body) = cluster.text(&at("/pods"), "").await;
    assert_eq!((status, media_type.as_str()), (StatusCode::OK, "application/json"));
    let revision = cluster.store.revision().current();
    let item = |name: &str, app: &str| {
        format!(
            r#"{{"metadata":{{"name":"{name}","namespace":"shop","creationTimestamp":"2023-11-14T22:13:30Z","labels":{{"app":"{app}"}}}},"timestamp":"2023-11-14T22:13:30Z","window":"10s","containers":[{{"name":"app","usage":{{"cpu":"10m","memory":"1Mi"}}}}]}}"#
        )
    };
    let expected = format!(
        "{{\"kind\":\"PodMetricsList\",\"apiVersion\":\"metrics.k8s.io/v1beta1\",\"metadata\":{{\"resourceVersion\":\"{revision}\"}},\"items\":[{},{}]}}\n",
        item("db-0", "db"),
        item("web-1", "web"),
    );
    assert_eq!(body, expected);
}

#[tokio::test]
async fn lists_are_selected_by_namespace_labels_and_fields() {
    let cluster = cluster();
    let both: &[&str] = &["shop/db-0", "shop/web-1"];
    for (path, expected) in [
        ("/pods", both),
        ("/pods?limit=1", both),
        ("/namespaces/shop/pods", both),
        ("/namespaces/ops/pods", &[]),
        ("/namespaces/none/pods", &[]),
        ("/pods?labelSelector=app%3Dweb", &["shop/web-1"]),
        ("/namespaces/shop/pods?labelSelector=app+notin+(web)", &["shop/db-0"]),
        ("/namespaces/shop/pods?fieldSelector=metadata.name%3Ddb-0", &["shop/db-0"]),
        ("/namespaces/ops/pods?fieldSelector=metadata.namespace%3Dshop", &[]),
        ("/pods?fieldSelector=metadata.name%3Ddb-0,metadata.namespace%3Dshop", &["shop/db-0"]),
        ("/pods?fieldSelector=metadata.name!%3Ddb-0", &["shop/web-1"]),
        ("/pods?fieldSelector=metadata.name%3Ddb-0,metadata.namespace%3Dops", &[]),
        ("/nodes", &["n1", "n2"]),
        ("/nodes?labelSelector=zone%3Db", &["n2"]),
        ("/nodes?fieldSelector=metadata.name%3Dn1", &["n1"]),
        ("/nodes?fieldSelector=metadata.namespace%3Dx", &[]),
    ] {
        assert_eq!(cluster.names(&at(path)).await, expected, "{path}");
    }
}

#[tokio::test]
async fn the_node_selector_hides_nodes() {
    let cluster = cluster_with("zone in (a,c)");
    for (name, zone) in [("n1", "a"), ("n2", "b")] {
        cluster.add_node(name, &[("zone", zone)]);
        cluster.scrape(name, 0, &[]);
        cluster.scrape(name, 10, &[]);
    }
    assert_eq!(cluster.names(&at("/nodes")).await, ["n1"]);
    assert_eq!(cluster.get(&at("/nodes/n2")).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn one_object_names_its_kind() {
    let cluster = cluster();
    let (status, pod) = cluster.get(&at("/namespaces/shop/pods/web-1")).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        (&pod["kind"], &pod["apiVersion"], &pod["containers"][0]["usage"]["cpu"]),
        (&json!("PodMetrics"), &json!("metrics.k8s.io/v1beta1"), &json!("10m"))
    );
    assert!(pod["metadata"].get("resourceVersion").is_none());
    let (_, node) = cluster.get(&at("/nodes/n1")).await;
    assert_eq!(node["kind"], "NodeMetrics");
    assert_eq!(node["usage"], json!({"cpu": "10m", "memory": "1Mi"}));
}

#[tokio::test]
async fn what_is_missing_is_reported_in_upstreams_words() {
    let cluster = cluster();
    cluster.add_node("n3", &[]);
    for (path, message, name, group, kind) in [
        (
            "/namespaces/ops/pods/job",
            r#"podmetrics.metrics.k8s.io "ops/job" not found"#,
            "ops/job",
            json!("metrics.k8s.io"),
            "podmetrics",
        ),
        ("/namespaces/ops/pods/x", r#"pods "x" not found"#, "x", json!(null), "pods"),
        (
            "/nodes/n3",
            r#"nodemetrics.metrics.k8s.io "n3" not found"#,
            "n3",
            json!("metrics.k8s.io"),
            "nodemetrics",
        ),
        ("/nodes/n4", r#"node "n4" not found"#, "n4", json!(null), "node"),
    ] {
        let (status, body) = cluster.get(&at(path)).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert_eq!(body["message"], message);
        assert_eq!((&body["kind"], &body["reason"]), (&json!("Status"), &json!("NotFound")));
        assert_eq!(body["details"]["name"], name);
        assert_eq!(body["details"]["group"], group);
        assert_eq!(body["details"]["kind"], kind);
    }
    for path in [at("/deployments"), at("/nodes/n1/x"), "/apis/metrics.k8s.io/v1".to_owned()] {
        let (status, body) = cluster.get(&path).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert_eq!(body["message"], "the server could not find the requested resource");
    }
}

#[tokio::test]
async fn what_cannot_be_done_is_refused() {
    let cluster = cluster();
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        for path in [at("/pods"), at("/nodes/n1"), BASE.to_owned(), "/apis".to_owned()] {
            let response = cluster.send(method, &path, "").await;
            assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
        }
    }
    let (status, body) = cluster.get(&at("/pods?labelSelector=a%20b")).await;
    assert_eq!((status, &body["reason"]), (StatusCode::BAD_REQUEST, &json!("BadRequest")));
    let (status, _, body) = cluster.text(&at("/pods"), "text/html").await;
    assert_eq!(status, StatusCode::NOT_ACCEPTABLE);
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        body["message"],
        "only the following media types are accepted: application/json, application/yaml, \
         application/vnd.kubernetes.protobuf"
    );
    let (status, _, body) = cluster.text(&at("/pods?watch=1"), "application/yaml").await;
    assert_eq!(status, StatusCode::NOT_ACCEPTABLE);
    assert!(body.contains("application/vnd.kubernetes.protobuf;stream=watch"), "{body}");
}

#[tokio::test]
async fn before_any_data_there_are_discovery_and_empty_lists() {
    let cluster = cluster_with("");
    for (path, kind) in [
        ("/apis", "APIGroupList"),
        ("/apis/metrics.k8s.io", "APIGroup"),
        ("/apis/metrics.k8s.io/", "APIGroup"),
        (BASE, "APIResourceList"),
        ("/apis/metrics.k8s.io/v1beta1/pods", "PodMetricsList"),
        ("/apis/metrics.k8s.io/v1beta1/nodes", "NodeMetricsList"),
    ] {
        let (status, body) = cluster.get(path).await;
        assert_eq!((status, &body["kind"]), (StatusCode::OK, &json!(kind)));
    }
    let (_, resources) = cluster.get(BASE).await;
    assert_eq!(
        resources["resources"],
        json!([
            {"name": "nodes", "singularName": "", "namespaced": false, "kind": "NodeMetrics",
                "verbs": ["get", "list", "watch"]},
            {"name": "pods", "singularName": "", "namespaced": true, "kind": "PodMetrics",
                "verbs": ["get", "list", "watch"]},
        ])
    );
    assert_eq!(cluster.get(&at("/pods")).await.1["items"], json!([]));
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
        application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
    let (_, media_type, body) = cluster.text("/apis", accept).await;
    assert_eq!(media_type, "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["items"][0]["metadata"]["name"], "metrics.k8s.io");
}

#[tokio::test]
async fn tables_yaml_and_protobuf_are_served_to_those_who_ask() {
    let cluster = cluster();
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let (_, media_type, body) =
        cluster.text(&at("/namespaces/shop/pods?includeObject=None"), accept).await;
    assert_eq!(media_type, "application/json");
    let table: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        table["rows"],
        json!([
            {"cells": ["db-0", "10m", "1Mi", "10s"], "object": null},
            {"cells": ["web-1", "10m", "1Mi", "10s"], "object": null},
        ])
    );
    let (_, _, body) = cluster.text(&at("/nodes/n1"), accept).await;
    let table: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&table["kind"], &table["rows"][0]["cells"][0]), (&json!("Table"), &json!("n1")));

    let (_, media_type, body) = cluster.text(&at("/pods"), "application/yaml").await;
    assert_eq!(media_type, "application/yaml");
    let list: Value = serde_saphyr::from_str(&body).unwrap();
    let (_, same) = cluster.get(&at("/pods")).await;
    assert_eq!(list, same);

    let accept = "application/vnd.kubernetes.protobuf, */*";
    let response = cluster.send("GET", &at("/pods"), accept).await;
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/vnd.kubernetes.protobuf");
    let body = to_bytes(response.into_body(), BODY_BYTES_MAX).await.unwrap();
    assert!(body.starts_with(b"k8s\0"));
    let (status, media_type, body) = cluster.text(&at("/nodes/x"), accept).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(media_type, "application/vnd.kubernetes.protobuf");
    assert!(body.starts_with("k8s\0") && body.contains("node \"x\" not found"));
}

#[tokio::test]
async fn a_long_list_is_written_in_pieces_that_make_one_document() {
    let cluster = cluster_with("");
    let names: Vec<String> = (0..2000).map(|at| format!("pod-{at:05}")).collect();
    for name in &names {
        cluster.objects.upsert_pod(
            "shop",
            name,
            [("app", "web")],
            PodFacts { node: "n1", created_ms: T0_MS, resources: None },
        );
    }
    let pods: Vec<(&str, &str)> = names.iter().map(|name| ("shop", name.as_str())).collect();
    cluster.scrape("n1", 0, &pods);
    cluster.scrape("n1", 10, &pods);
    for accept in ["application/json", "application/vnd.kubernetes.protobuf"] {
        let response = cluster.send("GET", &at("/pods"), accept).await;
        let mut frames = BodyStream::new(response.into_body());
        let mut sizes = Vec::new();
        let mut body = Vec::new();
        while let Some(frame) = frames.next().await {
            let data = frame.unwrap().into_data().unwrap();
            sizes.push(data.len());
            body.extend_from_slice(&data);
        }
        assert!(sizes.len() >= 3 && sizes.iter().all(|size| *size < 80 << 10), "{sizes:?}");
        if accept == "application/json" {
            let list: Value = serde_json::from_slice(&body).unwrap();
            let found: Vec<_> = list["items"].as_array().unwrap().iter().map(name_of).collect();
            let expected: Vec<_> = names.iter().map(|name| format!("shop/{name}")).collect();
            assert_eq!(found, expected);
        } else {
            // The envelope says how long its content is; two empty strings end it.
            assert!(body.ends_with(b"\x1a\0\"\0"));
        }
    }
}

#[tokio::test]
async fn points_of_a_node_that_no_longer_answers_keep_their_time_and_end() {
    let cluster = cluster();
    cluster.clock.set(T0_MS + 85_000);
    let (_, pod) = cluster.get(&at("/namespaces/shop/pods/web-1")).await;
    assert_eq!(pod["timestamp"], "2023-11-14T22:13:30Z");
    assert_eq!(pod["metadata"]["creationTimestamp"], "2023-11-14T22:14:45Z");
    cluster.clock.set(T0_MS + 86_000);
    assert_eq!(cluster.names(&at("/pods")).await, [""; 0]);
}

#[tokio::test]
async fn the_age_of_what_is_answered_is_reported() {
    let cluster = cluster();
    let registry = Registry::new();
    let state = ResourceState::new(
        Arc::clone(&cluster.store),
        Arc::clone(&cluster.objects),
        Arc::<ManualClock>::clone(&cluster.clock),
        LabelSelector::default(),
        CancellationToken::new(),
    );
    let cluster = Cluster { router: router(state.with_metrics(&registry)), ..cluster };
    // Both pods were measured half a second ago; a node 20 s ago.
    cluster.names(&at("/pods")).await;
    cluster.clock.set(T0_MS + 30_000);
    cluster.get(&at("/nodes/n1")).await;
    let families = registry.gather();
    assert_eq!(families[0].name(), "metrics_server_api_metric_freshness_seconds");
    let histogram = families[0].get_metric()[0].get_histogram().clone();
    assert_eq!(histogram.get_sample_count(), 3);
    assert!((histogram.get_sample_sum() - 21.0).abs() < 1e-9);
    assert_eq!(histogram.get_bucket().len(), 20);
}

#[tokio::test]
async fn a_version_of_an_earlier_process_is_too_old() {
    let cluster = cluster();
    let before = u64::try_from(T0_MS).unwrap() * 1000 - 1;
    let path = at(&format!("/pods?watch=true&resourceVersion={before}"));
    let event = Events::of(&cluster, &path, "").await.next().await.unwrap();
    assert_eq!(event["object"]["code"], 410);
}

/// The events of a watch, read one by one.
struct Events {
    frames: BodyStream<Body>,
    unread: Vec<u8>,
}

impl Events {
    async fn of(cluster: &Cluster, path: &str, accept: &str) -> Self {
        let response = cluster.send("GET", path, accept).await;
        assert_eq!(response.status(), StatusCode::OK);
        Self { frames: BodyStream::new(response.into_body()), unread: Vec::new() }
    }

    /// The next event; nothing at the end.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.unread.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = self.frames.next().await?;
            self.unread.extend_from_slice(&frame.unwrap().into_data().unwrap());
        }
    }

    /// The next event as `TYPE name@second of the timestamp`.
    async fn told(&mut self) -> String {
        let event = self.next().await.unwrap();
        let object = &event["object"];
        let second = object["timestamp"].as_str().map_or("", |time| &time[17..19]);
        format!("{} {}@{second}", event["type"].as_str().unwrap(), name_of(object))
    }
}

#[tokio::test]
async fn a_watch_tells_what_there_is_and_then_what_changes() {
    let cluster = cluster();
    let path = at("/namespaces/shop/pods?watch=true");
    let mut events = Events::of(&cluster, &path, "application/json").await;
    let first = events.next().await.unwrap();
    assert_eq!((&first["type"], &first["object"]["kind"]), (&json!("ADDED"), &json!("PodMetrics")));
    assert!(first["object"]["metadata"]["resourceVersion"].is_string());
    assert_eq!(events.told().await, "ADDED shop/web-1@30");

    cluster.scrape("n1", 25, &[("shop", "web-1")]);
    assert_eq!(events.told().await, "MODIFIED shop/web-1@45");
    // A pod elsewhere changes nothing here; then one leaves the cluster.
    cluster.objects.upsert_pod(
        "ops",
        "other",
        [],
        PodFacts { node: "n2", created_ms: T0_MS, resources: None },
    );
    cluster.objects.remove_pod("shop", "db-0");
    assert_eq!(events.told().await, "DELETED shop/db-0@30");
    cluster.objects.upsert_pod(
        "shop",
        "web-1",
        [("app", "new")],
        PodFacts { node: "n1", created_ms: T0_MS, resources: None },
    );
    let event = events.next().await.unwrap();
    assert_eq!(event["type"], "MODIFIED");
    assert_eq!(event["object"]["metadata"]["labels"], json!({"app": "new"}));
    // Its usage ends with the scrape that lacks it.
    cluster.scrape("n1", 40, &[]);
    assert_eq!(events.told().await, "DELETED shop/web-1@45");
    cluster.closing.cancel();
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn a_watch_goes_on_from_a_list() {
    let cluster = cluster();
    let (_, list) = cluster.get(&at("/nodes")).await;
    let version = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    cluster.scrape("n2", 25, &[("shop", "db-0")]);
    let path = at(&format!("/nodes?watch=true&resourceVersion={version}"));
    let mut events = Events::of(&cluster, &path, "").await;
    assert_eq!(events.told().await, "MODIFIED n2@45");
    cluster.scrape("n1", 40, &[("shop", "web-1")]);
    assert_eq!(events.told().await, "MODIFIED n1@00");
    // A pod that went away is nothing to a watch of nodes.
    cluster.objects.remove_pod("ops", "job");
    let mut events = Events::of(&cluster, &path, "").await;
    assert_eq!(events.told().await, "MODIFIED n1@00");
    // What went away since a version is not remembered: the client lists again.
    cluster.objects.remove_node("n1");
    let mut events = Events::of(&cluster, &path, "").await;
    let event = events.next().await.unwrap();
    assert_eq!((&event["type"], &event["object"]["code"]), (&json!("ERROR"), &json!(410)));
    assert_eq!(event["object"]["reason"], "Expired");
    assert_eq!(events.next().await, None);
    // Nor is known what will go away until another replica's version is reached here.
    let ahead = cluster.store.revision().current() + 1;
    let path = at(&format!("/nodes?watch=true&resourceVersion={ahead}"));
    let event = Events::of(&cluster, &path, "").await.next().await.unwrap();
    assert_eq!(event["object"]["code"], 410);
}

#[tokio::test]
async fn a_watch_ends_its_initial_events_with_a_bookmark_and_itself_in_time() {
    let cluster = cluster();
    let path = at("/nodes?watch=true&sendInitialEvents=true&allowWatchBookmarks=true\
        &resourceVersionMatch=NotOlderThan&timeoutSeconds=1");
    let mut events = Events::of(&cluster, &path, "").await;
    assert_eq!(events.told().await, "ADDED n1@30");
    assert_eq!(events.told().await, "ADDED n2@30");
    let bookmark = events.next().await.unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    let metadata = &bookmark["object"]["metadata"];
    assert_eq!(metadata["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(metadata["resourceVersion"], cluster.store.revision().current().to_string());
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn watches_are_tables_and_protobuf_too() {
    let cluster = cluster();
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let mut events = Events::of(&cluster, &at("/nodes?watch=1"), accept).await;
    let event = events.next().await.unwrap();
    assert_eq!((&event["type"], &event["object"]["kind"]), (&json!("ADDED"), &json!("Table")));
    assert_eq!(event["object"]["rows"][0]["cells"][0], "n1");

    let accept = "application/vnd.kubernetes.protobuf;stream=watch";
    let response = cluster.send("GET", &at("/nodes?watch=1"), accept).await;
    assert_eq!(
        response.headers()[header::CONTENT_TYPE],
        "application/vnd.kubernetes.protobuf;stream=watch"
    );
    let mut frames = BodyStream::new(response.into_body());
    let data = frames.next().await.unwrap().unwrap().into_data().unwrap();
    let (length, rest) = data.split_first_chunk::<4>().unwrap();
    let frame = &rest[..u32::from_be_bytes(*length) as usize];
    assert!(frame.starts_with(b"\x0a\x05ADDED"), "{frame:?}");
    assert!(frame.windows(4).any(|window| window == b"k8s\0"));
}

#[tokio::test]
async fn watches_are_bounded_in_number() {
    let cluster = cluster();
    let mut open = Vec::new();
    for _ in 0..WATCHES_MAX {
        open.push(cluster.send("GET", &at("/nodes?watch=1"), "").await);
    }
    let refused = cluster.send("GET", &at("/nodes?watch=1"), "").await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.headers()[header::RETRY_AFTER], "5");
    open.pop();
    let accepted = cluster.send("GET", &at("/nodes?watch=1"), "").await;
    assert_eq!(accepted.status(), StatusCode::OK);
}

/// All groups that there can be.
fn groups() -> Vec<ApiGroup> {
    let version = |name: &str| ApiVersion { name: name.into(), resources: Vec::new() };
    let group = |name: &str, versions: &[&str]| ApiGroup {
        name: name.into(),
        versions: versions.iter().map(|name| version(name)).collect(),
    };
    vec![
        discovery::group(),
        group("custom.metrics.k8s.io", &["v1beta2", "v1beta1"]),
        group("external.metrics.k8s.io", &["v1beta1"]),
    ]
}

#[tokio::test]
async fn openapi_describes_every_kind_and_path() {
    let cluster = cluster_with("");
    let read = |body: String| serde_json::from_str::<Value>(&body).unwrap();
    let index = read(cluster.text("/openapi/v3", "").await.2);
    let v2 = read(cluster.text("/openapi/v2", "").await.2);
    check_references(&v2, &v2);
    let mut paths = 0;
    for (group, version, package, kinds) in [
        (
            "metrics.k8s.io",
            "v1beta1",
            "metrics",
            &["NodeMetrics", "NodeMetricsList", "PodMetrics", "PodMetricsList"][..],
        ),
        ("custom.metrics.k8s.io", "v1beta1", "custom_metrics", &["MetricValue", "MetricValueList"]),
        ("custom.metrics.k8s.io", "v1beta2", "custom_metrics", &["MetricValue", "MetricValueList"]),
        (
            "external.metrics.k8s.io",
            "v1beta1",
            "external_metrics",
            &["ExternalMetricValue", "ExternalMetricValueList"],
        ),
    ] {
        let url = &index["paths"][format!("apis/{group}/{version}")]["serverRelativeURL"];
        let url = url.as_str().unwrap();
        let response = cluster.send("GET", url, "application/json").await;
        assert_eq!(response.headers()[header::CACHE_CONTROL], "public, immutable");
        let v3 = read(cluster.text(url, "").await.2);
        check_references(&v3, &v3);
        for schemas in [&v3["components"]["schemas"], &v2["definitions"]] {
            for kind in kinds {
                let schema =
                    &schemas[format!("io.k8s.metrics.pkg.apis.{package}.{version}.{kind}")];
                assert_eq!(
                    schema["x-kubernetes-group-version-kind"],
                    json!([{"group": group, "version": version, "kind": kind}])
                );
            }
        }
        for (path, operations) in v3["paths"].as_object().unwrap() {
            paths += 1;
            assert!(path.starts_with(&format!("/apis/{group}/{version}/")), "{path}");
            let id = &operations["get"]["operationId"];
            assert_eq!(&v2["paths"][path]["get"]["operationId"], id, "{path}");
            let places = operations["parameters"].as_array().unwrap().iter();
            let in_path = places.filter(|parameter| parameter["in"] == "path").count();
            assert_eq!(in_path, path.matches('{').count(), "{path}");
        }
        let tag = response.headers()[header::ETAG].clone();
        let request = axum::http::Request::get(url)
            .header(header::IF_NONE_MATCH, tag)
            .body(Body::empty())
            .unwrap();
        let again = cluster.router.clone().oneshot(request).await.unwrap();
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    }
    assert_eq!((paths, v2["paths"].as_object().unwrap().len()), (5 + 3 + 3 + 1, paths));
    // Never a redirect, whatever the hash.
    let old = cluster.send("GET", "/openapi/v3/apis/metrics.k8s.io/v1beta1?hash=old", "").await;
    assert_eq!(old.status(), StatusCode::OK);
}

/// Every reference leads somewhere.
fn check_references(document: &Value, value: &Value) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get("$ref") {
                let pointer = reference.strip_prefix('#').unwrap();
                assert!(document.pointer(pointer).is_some(), "{reference}");
            }
            fields.values().for_each(|value| check_references(document, value));
        }
        Value::Array(values) => values.iter().for_each(|value| check_references(document, value)),
        _ => {}
    }
}
