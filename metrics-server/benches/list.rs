//! Lists of `PodMetrics` of clusters of 500 and of 5,000 nodes with 30 pods of two containers
//! each, through the router and read to the end; and the recording of a whole cluster.

use std::hint::black_box;
use std::ops::Range;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, header};
use criterion::{Criterion, criterion_group, criterion_main};
use futures_util::StreamExt as _;
use metrics_api::LabelSelector;
use metrics_server::cluster::{Objects, PodFacts};
use metrics_server::resource::{self, ResourceState};
use metrics_server::store::{NodeBatch, PodPoints, Point, Store, StoreOptions};
use model::ManualClock;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

const PODS_PER_NODE: usize = 30;
const T0_MS: i64 = 1_700_000_000_000;

/// The namespace and the name of the pod number `at`: 100 namespaces, workloads of 30 pods.
fn names(at: usize) -> (String, String) {
    let workload = at / 30;
    let name = format!("workload-{workload:05}-6d4cf56db6-{:05x}", at * 7919 % 1_048_576);
    (format!("team-{:03}", workload % 100), name)
}

fn batch(node: usize, round: u64) -> NodeBatch {
    let point = |seed: usize| Point {
        at_ms: T0_MS + i64::try_from(round).unwrap_or(0) * 15_000,
        start_ms: Some(T0_MS - 3_600_000),
        cpu_ns: 1_000_000_000 + round * (1_234_567 + seed as u64 * 7_919),
        memory_bytes: 50_000_000 + seed as u64 * 4096,
        swap_bytes: None,
    };
    let pods = (node * PODS_PER_NODE..(node + 1) * PODS_PER_NODE).map(|at| {
        let (namespace, name) = names(at);
        PodPoints {
            namespace: namespace.into(),
            name: name.into(),
            containers: vec![("app".into(), point(at)), ("istio-proxy".into(), point(at + 1))],
        }
    });
    NodeBatch { node: Some(point(node)), pods: pods.collect() }
}

fn record(store: &Store, nodes: Range<usize>, round: u64) {
    let now_ms = T0_MS + i64::try_from(round).unwrap_or(0) * 15_000;
    for node in nodes {
        store.record(&format!("node-{node:05}"), batch(node, round), now_ms);
    }
}

fn cluster(nodes: usize) -> (Arc<Store>, Router) {
    let store = Arc::new(Store::new(StoreOptions::with_resolution_ms(15_000)));
    let objects = Arc::new(Objects::new(Arc::clone(store.revision())));
    for at in 0..nodes * PODS_PER_NODE {
        let (namespace, name) = names(at);
        let workload = format!("workload-{:05}", at / 30);
        let labels = [
            ("app.kubernetes.io/instance", workload.as_str()),
            ("app.kubernetes.io/managed-by", "Helm"),
            ("app.kubernetes.io/name", &workload),
            ("pod-template-hash", "6d4cf56db6"),
            ("team", &namespace),
            ("tier", if at / 30 % 10 == 0 { "front" } else { "back" }),
        ];
        let node = format!("node-{:05}", at / PODS_PER_NODE);
        objects.upsert_pod(
            &namespace,
            &name,
            labels,
            PodFacts { node: &node, created_ms: T0_MS, resources: None },
        );
    }
    record(&store, 0..nodes, 0);
    record(&store, 0..nodes, 1);
    let state = ResourceState::new(
        Arc::clone(&store),
        objects,
        Arc::new(ManualClock::new(T0_MS + 16_000)),
        LabelSelector::default(),
        CancellationToken::new(),
    );
    (store, resource::router(state))
}

/// The bytes of an answer.
async fn read(router: &Router, path: &str, accept: &str) -> usize {
    let request = Request::get(path).header(header::ACCEPT, accept).body(Body::empty());
    let request = request.expect("the parts are valid");
    let Ok(response) = router.clone().oneshot(request).await;
    assert!(response.status().is_success());
    let mut body = response.into_body().into_data_stream();
    let mut bytes = 0;
    while let Some(piece) = body.next().await {
        bytes += black_box(piece).map_or(0, |piece| piece.len());
    }
    bytes
}

/// The largest resident memory so far, in KiB, where the system tells it.
fn peak_rss_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn lists(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime starts");
    const PODS: &str = "/apis/metrics.k8s.io/v1beta1/pods";
    for nodes in [500, 5000] {
        let (store, router) = cluster(nodes);
        let pods = nodes * PODS_PER_NODE;
        let before = peak_rss_kib();
        for (what, path, accept) in [
            ("json", PODS.to_owned(), "application/json"),
            ("protobuf", PODS.to_owned(), "application/vnd.kubernetes.protobuf"),
            ("label selector", format!("{PODS}?labelSelector=tier%3Dfront"), "application/json"),
            (
                "one workload by label",
                format!("{PODS}?labelSelector=app.kubernetes.io%2Fname%3Dworkload-00042"),
                "application/json",
            ),
            (
                "namespace and label",
                PODS.replace("pods", "namespaces/team-042/pods")
                    + "?labelSelector=app.kubernetes.io%2Fname%3Dworkload-00042",
                "application/json",
            ),
        ] {
            let bytes = runtime.block_on(read(&router, &path, accept));
            let name = format!("list {what}, {bytes} bytes, of {pods} pods");
            criterion.bench_function(&name, |bencher| {
                bencher.iter(|| runtime.block_on(read(&router, &path, accept)));
            });
        }
        let after = peak_rss_kib();
        let name = format!("record {nodes} nodes (lists: peak {before} to {after} KiB)");
        let mut round = 1;
        criterion.bench_function(&name, |bencher| {
            bencher.iter(|| {
                round += 1;
                record(&store, 0..nodes, round);
            });
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = lists
}
criterion_main!(benches);
