//! `/top` as a browser sees it.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::super::tests::{Cluster, T0_MS, cluster};
use crate::cluster::{Amounts, ContainerResources, PodFacts, PodResources};

fn amounts(cpu_milli: i64, memory_bytes: Option<i64>) -> Amounts {
    Amounts { cpu_milli: Some(cpu_milli), memory_bytes }
}

/// A pod of one container, `app`, that was created a minute before the first scrape.
fn specify(cluster: &Cluster, namespace: &str, name: &str, node: &str, cpu_milli: i64) {
    let (requests, limits) = (amounts(cpu_milli, Some(1 << 20)), amounts(2 * cpu_milli, None));
    let container = ContainerResources { name: "app".into(), requests, limits };
    let resources = PodResources { requests, limits, containers: Box::new([container]) };
    let facts = PodFacts { node, created_ms: T0_MS - 60_000, resources: Some(resources) };
    cluster.objects.upsert_pod(namespace, name, [("app", "web")], facts);
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn pods_have_what_they_use_and_what_they_ask_for() {
    let cluster = cluster();
    specify(&cluster, "shop", "web-1", "n1", 250);
    let (status, answer) = cluster.get("/top/pods?namespace=shop&containers=true").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(answer["time"], "2023-11-14T22:13:30Z");
    assert_eq!(names(&answer["pods"]), ["db-0", "web-1"]);
    let usage = json!({"cpuNanocores": 10_000_000, "memoryBytes": 1 << 20, "swapBytes": null});
    let requests = json!({"cpuNanocores": 250_000_000, "memoryBytes": 1 << 20});
    let limits = json!({"cpuNanocores": 500_000_000, "memoryBytes": null});
    let expected = json!({
        "namespace": "shop",
        "name": "web-1",
        "node": "n1",
        "ageSeconds": 70,
        "timestamp": "2023-11-14T22:13:30Z",
        "windowMilliseconds": 10_000,
        "usage": usage,
        "requests": requests,
        "limits": limits,
        "containers": [{"name": "app", "usage": usage, "requests": requests, "limits": limits}],
    });
    assert_eq!(answer["pods"][1], expected);
    // What is asked for is not known of this one.
    let other = &answer["pods"][0];
    assert_eq!((&other["requests"], &other["limits"]), (&Value::Null, &Value::Null));
    assert_eq!(other["containers"][0]["usage"], usage);
}

#[tokio::test]
async fn what_has_no_usage_is_shown_without() {
    let cluster = cluster();
    let (_, answer) = cluster.get("/top/pods?namespace=ops").await;
    let job = &answer["pods"][0];
    assert_eq!((&job["name"], &job["usage"]), (&json!("job"), &Value::Null));
    assert_eq!((&job["timestamp"], &job["windowMilliseconds"]), (&Value::Null, &Value::Null));
    assert!(job.get("containers").is_none());
    cluster.add_node("n3", &[]);
    let (_, answer) = cluster.get("/top/nodes?node=n3").await;
    let node = &answer["nodes"][0];
    assert_eq!((&node["usage"], &node["pods"]), (&Value::Null, &json!(0)));
    assert_eq!(node["requests"], json!({"cpuNanocores": null, "memoryBytes": null}));
}

#[tokio::test]
async fn nodes_have_the_sums_of_their_pods() {
    let cluster = cluster();
    specify(&cluster, "shop", "web-1", "n1", 250);
    let (_, answer) = cluster.get("/top/nodes").await;
    assert_eq!(names(&answer["nodes"]), ["n1", "n2"]);
    let node = &answer["nodes"][0];
    assert_eq!((&node["pods"], &node["ageSeconds"]), (&json!(2), &json!(10)));
    assert_eq!(node["usage"]["cpuNanocores"], 10_000_000);
    assert_eq!(node["requests"], Value::Null, "what \"job\" asks for is not known");
    specify(&cluster, "ops", "job", "n1", 100);
    let (_, answer) = cluster.get("/top/nodes?labelSelector=zone%3Da").await;
    assert_eq!(names(&answer["nodes"]), ["n1"]);
    let node = &answer["nodes"][0];
    assert_eq!(node["requests"], json!({"cpuNanocores": 350_000_000, "memoryBytes": 2 << 20}));
    assert_eq!(node["limits"], json!({"cpuNanocores": 700_000_000, "memoryBytes": null}));
}

#[tokio::test]
async fn the_first_of_an_order_can_be_asked_for() {
    let cluster = cluster();
    // A longer window: half as much of a core.
    cluster.scrape("n1", 30, &[("shop", "web-1"), ("ops", "job")]);
    let (_, by_name) = cluster.get("/top/pods").await;
    assert_eq!(names(&by_name["pods"]), ["job", "db-0", "web-1"]);
    let (_, by_cpu) = cluster.get("/top/pods?sortBy=cpu").await;
    assert_eq!(names(&by_cpu["pods"])[2], "job", "it has no rate yet");
    let (_, first) = cluster.get("/top/pods?sortBy=memory&limit=1&node=n2").await;
    assert_eq!(names(&first["pods"]), ["db-0"]);
    let (_, selected) = cluster.get("/top/pods?labelSelector=app%3Djob").await;
    assert_eq!(names(&selected["pods"]), ["job"]);
    for (query, message) in [
        ("sortBy=age", "sortBy: \"age\" is not name, cpu or memory"),
        ("limit=-1", "limit: \"-1\" is not a number of lines"),
        ("containers=1", "containers: \"1\" is not true or false"),
    ] {
        let (status, _, body) = cluster.text(&format!("/top/pods?{query}"), "").await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["message"], message);
    }
}
