//! `resourceRules`: CPU and memory by PromQL.

use std::sync::Arc;
use std::time::Duration;

use metrics_api::Usage;
use serde_json::{Value, json};

use super::fake::{NOW_MS, World};
use crate::cluster::{Objects, PodFacts};
use crate::store::Store;

/// The rules of prometheus-adapter's own manifests, in short.
const CONFIG: &str = r#"
resourceRules:
  cpu:
    containerLabel: container
    containerQuery: 'sum by (<<.GroupBy>>) (irate(cpu{<<.LabelMatchers>>,container!=""}[4m]))'
    nodeQuery: 'sum by (<<.GroupBy>>) (irate(node_cpu{<<.LabelMatchers>>}[4m]))'
    resources: &labels
      overrides: {namespace: {resource: namespace}, node: {resource: node}, pod: {resource: pod}}
  memory:
    containerLabel: container
    containerQuery: 'sum by (<<.GroupBy>>) (memory{<<.LabelMatchers>>,container!=""})'
    nodeQuery: 'sum by (<<.GroupBy>>) (node_memory{<<.LabelMatchers>>})'
    resources: *labels
  window: 5m
"#;

const CPU: &str = r#"sum by (pod,namespace,container) (irate(cpu{pod!="",container!=""}[4m]))"#;
const MEMORY: &str = r#"sum by (pod,namespace,container) (memory{pod!="",container!=""})"#;
const NODE_CPU: &str = r#"sum by (node) (irate(node_cpu{node!=""}[4m]))"#;
const NODE_MEMORY: &str = r#"sum by (node) (node_memory{node!=""})"#;

fn container(pod: &str, container: &str) -> Value {
    json!({"namespace": "web", "pod": pod, "container": container})
}

async fn fed(world: &World) -> (Store, Objects) {
    let feed = world.adapter.resource_feed().unwrap();
    let store = Store::new(feed.store_options(Duration::from_secs(60)));
    let objects = Objects::new(Arc::clone(store.revision()));
    for pod in ["a", "b", "c"] {
        objects.upsert_pod("web", pod, [], PodFacts { node: "n1", created_ms: 0, resources: None });
    }
    feed.feed(&store, &objects).await.unwrap();
    (store, objects)
}

fn usage(cpu_nanocores: u64, memory_bytes: u64) -> Usage {
    Usage { cpu_nanocores, memory_bytes, swap_bytes: None }
}

#[tokio::test]
async fn rates_and_sizes_become_usage_over_the_window() {
    let world = World::new(CONFIG, false, None).await;
    let node = |name: &str| json!({"node": name});
    let prometheus = &world.prometheus;
    prometheus.answers(NODE_CPU, &[(node("n1"), "2.5"), (node("n2"), "1"), (node("n3"), "NaN")]);
    prometheus.answers(NODE_MEMORY, &[(node("n1"), "4096"), (node("n3"), "1")]);
    prometheus.answers(
        CPU,
        &[
            (container("a", "main"), "0.25"),
            (container("a", "idle"), "0"),
            (container("b", "main"), "1"),
            (container("gone", "main"), "1"),
        ],
    );
    prometheus.answers(
        MEMORY,
        &[
            (container("a", "main"), "100"),
            (container("a", "idle"), "50"),
            (container("c", "main"), "1"),
        ],
    );
    let (store, _) = fed(&world).await;
    let state = store.node("n1", NOW_MS).unwrap();
    let node = state.node().unwrap();
    assert_eq!((node.at_ms, node.window_ms), (NOW_MS, 300_000));
    assert_eq!(node.usage, usage(2_500_000_000, 4096));
    let pod = state.pod("web", "a").unwrap();
    assert_eq!((pod.at_ms, pod.window_ms), (NOW_MS, 300_000));
    let containers: Vec<_> = pod.containers().collect();
    assert_eq!(containers, [("idle", usage(0, 50)), ("main", usage(250_000_000, 100))]);
    for incomplete in ["b", "c", "gone"] {
        assert!(state.pod("web", incomplete).is_none(), "{incomplete}");
    }
    for without in ["n2", "n3"] {
        let node = store.node(without, NOW_MS);
        assert!(node.is_none_or(|state| state.node().is_none()), "{without}");
    }
}

/// A template that says itself what to group by is asked for each namespace.
#[tokio::test]
async fn templates_without_groups_are_asked_for_each_namespace() {
    let config =
        CONFIG.replace("sum by (<<.GroupBy>>) (irate(cpu", "sum by (pod, container) (irate(cpu");
    let world = World::new(&config, false, None).await;
    let anywhere = json!({"pod": "a", "container": "main"});
    let all = r#"sum by (pod, container) (irate(cpu{pod!="",container!=""}[4m]))"#;
    world.prometheus.answers(all, &[(anywhere.clone(), "9")]);
    let web = r#"sum by (pod, container) (irate(cpu{namespace="web",pod!="",container!=""}[4m]))"#;
    world.prometheus.answers(web, &[(anywhere, "0.5")]);
    world.prometheus.answers(MEMORY, &[(container("a", "main"), "7")]);
    let (store, _) = fed(&world).await;
    let state = store.node("n1", NOW_MS).unwrap();
    let pod = state.pod("web", "a").unwrap();
    assert_eq!(pod.containers().collect::<Vec<_>>(), [("main", usage(500_000_000, 7))]);
}

#[tokio::test]
async fn what_cannot_be_asked_leaves_the_store_as_it_was() {
    let world = World::new(CONFIG, false, None).await;
    world.prometheus.answers(NODE_CPU, &[(json!({"node": "n1"}), "1")]);
    world.prometheus.answers(NODE_MEMORY, &[(json!({"node": "n1"}), "2")]);
    let (store, objects) = fed(&world).await;
    world.prometheus.breaks(true);
    let feed = world.adapter.resource_feed().unwrap();
    let error = feed.feed(&store, &objects).await.unwrap_err().to_string();
    assert!(error.starts_with("resourceRules.") && error.contains("starting up"), "{error}");
    assert!(store.node("n1", NOW_MS).unwrap().node().is_some());
}

#[tokio::test]
async fn mistakes_are_named() {
    use crate::adapter::DiscoveryConfig;
    for (from, to, place) in [
        ("window: 5m", "window: 5s", "resourceRules.window"),
        ("containerLabel: container", "containerLabel: ''", "resourceRules.cpu.containerLabel"),
        (
            "node_memory{<<.LabelMatchers>>",
            "node_memory{<<.Matchers>>",
            "resourceRules.memory.nodeQuery",
        ),
    ] {
        let config = DiscoveryConfig::parse(&CONFIG.replacen(from, to, 1), "test").unwrap();
        let error = World::adapter_of(config).unwrap_err().to_string();
        assert!(error.starts_with(place), "{error}");
    }
}
