//! `kubectl top` and `kubectl get` on our metrics server: what users see, with numbers that are known.

use std::process::Command;

use serde_json::{Value, json};
use tests::harness::binary;
use tests::harness::kube::{Behaviour, HttpsRequest, Subject};

use super::fixture::{Fixture, WINDOW_MS, names, rows};

#[test]
fn top_says_what_nodes_and_pods_use() {
    let Some(fixture) = Fixture::start() else { return };
    let kubectl = &fixture.kubectl;

    // Before a rate is known, the API is there and empty.
    assert_eq!(names(&fixture.raw("/nodes")), [""; 0]);
    assert_eq!(kubectl.fail(&["top", "nodes"]), "error: metrics not available yet\n");
    let refused = kubectl.fail(&["top", "pods", "-n", "team-a"]);
    assert!(refused.starts_with("error: Metrics not available for pod team-a/db-1"), "{refused}");
    let refused = kubectl.fail(&["get", "podmetrics", "web-1", "-n", "team-a"]);
    assert_eq!(
        refused,
        "Error from server (NotFound): podmetrics.metrics.k8s.io \"team-a/web-1\" not found\n"
    );
    fixture.measure();

    // 8 cores and 32 GiB can be allocated on each.
    let nodes = rows(&kubectl.run(&["top", "nodes"]));
    assert_eq!(
        nodes,
        [
            "NAME CPU(cores) CPU(%) MEMORY(bytes) MEMORY(%)",
            "node-00000 2000m 25% 8192Mi 25%",
            "node-00001 1000m 12% 4096Mi 12%",
            "node-00002 <unknown> <unknown> <unknown> <unknown>",
        ]
    );
    let node = rows(&kubectl.run(&["top", "node", "node-00001", "--no-headers"]));
    assert_eq!(node, ["node-00001 1000m 12% 4096Mi 12%"]);
    let front = ["top", "nodes", "-l", "topology.kubernetes.io/zone=zone-1", "--no-headers"];
    assert_eq!(rows(&kubectl.run(&front)), ["node-00001 1000m 12% 4096Mi 12%"]);

    let pods = rows(&kubectl.run(&["top", "pods", "-A"]));
    assert_eq!(
        pods,
        [
            "NAMESPACE NAME CPU(cores) MEMORY(bytes)",
            "team-a db-1 1000m 256Mi",
            "team-a web-1 750m 96Mi",
            "team-b web-2 750m 128Mi",
        ]
    );
    let containers = rows(&kubectl.run(&["top", "pods", "-A", "--containers"]));
    assert_eq!(
        containers,
        [
            "NAMESPACE POD NAME CPU(cores) MEMORY(bytes)",
            "team-a db-1 main 1000m 256Mi",
            "team-a web-1 main 250m 64Mi",
            "team-a web-1 side 500m 32Mi",
            "team-b web-2 main 750m 128Mi",
        ]
    );
    let by_memory = ["top", "pods", "-A", "--sort-by=memory", "--no-headers"];
    assert_eq!(
        rows(&kubectl.run(&by_memory)),
        ["team-a db-1 1000m 256Mi", "team-b web-2 750m 128Mi", "team-a web-1 750m 96Mi"]
    );
    let by_cpu = ["top", "nodes", "--sort-by=cpu", "--no-headers"];
    assert!(rows(&kubectl.run(&by_cpu))[0].starts_with("node-00000 "));
    let labelled = ["top", "pods", "-A", "-l", "app=web,tier!=back", "--no-headers"];
    assert_eq!(rows(&kubectl.run(&labelled)), ["team-a web-1 750m 96Mi"]);
    let summed = rows(&kubectl.run(&["top", "pods", "-n", "team-a", "--sum"]));
    assert_eq!(summed.last().unwrap(), "1750m 352Mi");
    let one = ["top", "pod", "web-1", "-n", "team-a", "--no-headers"];
    assert_eq!(rows(&kubectl.run(&one)), ["web-1 750m 96Mi"]);

    let absent = kubectl.fail(&["top", "pod", "absent", "-n", "team-a"]);
    assert!(absent.contains("\"absent\" not found"), "{absent}");
    let none = kubectl.try_run(&["top", "pods", "-n", "team-c"], "");
    assert!(none.stderr.contains("No resources found in team-c namespace"), "{none:?}");

    let ran = fixture.server.terminate();
    assert!(ran.success(), "{ran}");
}

#[test]
fn top_shows_swap() {
    let Some(fixture) = Fixture::start() else { return };
    let kubectl = &fixture.kubectl;
    let help = kubectl.run(&["top", "pods", "--help"]);
    if !help.contains("--show-swap") {
        return tests::conformance::skip("this kubectl cannot show swap");
    }
    fixture.measure();
    // 8 GiB can be swapped on each, of which node-00000 uses 512 MiB.
    let nodes = rows(&kubectl.run(&["top", "nodes", "--show-swap", "--no-headers"]));
    assert_eq!(nodes[0], "node-00000 2000m 25% 8192Mi 25% 512Mi 6%");
    assert_eq!(nodes[1], "node-00001 1000m 12% 4096Mi 12% 256Mi 3%");
    let pods = rows(&kubectl.run(&["top", "pods", "-A", "--show-swap"]));
    assert_eq!(
        pods,
        [
            "NAMESPACE NAME CPU(cores) MEMORY(bytes) SWAP(bytes)",
            "team-a db-1 1000m 256Mi 16Mi",
            "team-a web-1 750m 96Mi 4Mi",
            "team-b web-2 750m 128Mi 0Mi",
        ]
    );
}

#[test]
fn get_prints_metrics_as_tables_yaml_and_json() {
    let Some(fixture) = Fixture::start() else { return };
    let kubectl = &fixture.kubectl;
    fixture.measure();
    let window = format!("{}s", WINDOW_MS / 1000);

    let table = rows(&kubectl.run(&["get", "podmetrics", "-A"]));
    assert_eq!(
        table,
        [
            String::from("NAMESPACE NAME CPU MEMORY SWAP WINDOW"),
            format!("team-a db-1 1 256Mi 16Mi {window}"),
            format!("team-a web-1 750m 96Mi 4Mi {window}"),
            format!("team-b web-2 750m 128Mi 0 {window}"),
        ]
    );
    let table = rows(&kubectl.run(&["get", "nodemetrics", "node-00000", "--no-headers"]));
    assert_eq!(table, [format!("node-00000 2 8Gi 512Mi {window}")]);

    let yaml = kubectl.run(&["get", "podmetrics", "web-1", "-n", "team-a", "-o", "yaml"]);
    assert!(yaml.contains("apiVersion: metrics.k8s.io/v1beta1\n"), "{yaml}");
    assert!(yaml.contains(&format!("timestamp: \"{}\"\n", fixture.at(1))), "{yaml}");
    assert!(yaml.contains(&format!("window: {window}\n")), "{yaml}");

    let mut pod = fixture.raw("/namespaces/team-a/pods/web-1");
    let created = pod["metadata"].as_object_mut().unwrap().remove("creationTimestamp");
    assert!(created.is_some_and(|created| created.is_string()));
    pod["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    let mut containers = pod["containers"].take();
    let containers = containers.as_array_mut().unwrap();
    containers.sort_by_key(|container| container["name"].to_string());
    assert_eq!(
        pod,
        json!({
            "kind": "PodMetrics",
            "apiVersion": "metrics.k8s.io/v1beta1",
            "metadata": {
                "name": "web-1",
                "namespace": "team-a",
                "labels": {
                    "app": "web",
                    "app.kubernetes.io/name": "web",
                    "app.kubernetes.io/part-of": "team-a",
                    "pod-template-hash": "5d8f9c7b6",
                    "tier": "front",
                    "version": "v1",
                },
            },
            "timestamp": fixture.at(1),
            "window": window,
            "containers": null,
        })
    );
    // Nanocores, in the shortest way to write them.
    assert_eq!(
        containers[..],
        [
            json!({ "name": "main", "usage": { "cpu": "250m", "memory": "64Mi", "swap": "4Mi" } }),
            json!({ "name": "side", "usage": { "cpu": "500m", "memory": "32Mi", "swap": "0" } }),
        ]
    );

    let node = fixture.raw("/nodes/node-00001");
    assert_eq!(node["usage"]["cpu"], "1");
    assert_eq!(node["usage"]["memory"], "4Gi");
    assert_eq!(node["timestamp"], fixture.at(1).as_str());
    let named = fixture.raw("/pods?fieldSelector=metadata.namespace%3Dteam-b");
    assert_eq!(names(&named), ["web-2"]);
    let refused = kubectl.fail(&["get", "podmetrics", "absent", "-n", "team-a"]);
    assert_eq!(refused, "Error from server (NotFound): pods \"absent\" not found\n");
    let resources = rows(&kubectl.run(&["api-resources", "--api-group=metrics.k8s.io"]));
    assert_eq!(
        resources[1..],
        [
            "nodes metrics.k8s.io/v1beta1 false NodeMetrics",
            "pods metrics.k8s.io/v1beta1 true PodMetrics",
        ]
    );
}

#[test]
fn a_restarted_pod_is_left_out_until_its_rate_is_known() {
    let Some(fixture) = Fixture::start() else { return };
    fixture.measure();
    // Two of its containers are of one pod, of which one starts anew 4 s before the third sample: a shorter time than
    // a rate since the start is taken for.
    let restarted_ms = fixture.at_ms(2) - 4_000;
    fixture.cluster.kubelets.edit(0, |node| {
        node.container("web-1", "side").unwrap().restart(restarted_ms);
    });
    fixture.sample(2);
    fixture.wait_for_raw("/namespaces/team-a/pods", |list| names(list) == ["db-1"]);
    let refused = fixture.kubectl.fail(&["top", "pod", "web-1", "-n", "team-a"]);
    assert!(refused.contains("not found"), "{refused}");

    fixture.sample(3);
    fixture.wait_for_raw("/namespaces/team-a/pods", |list| names(list) == ["db-1", "web-1"]);
    let pod = ["top", "pod", "web-1", "-n", "team-a", "--containers", "--no-headers"];
    assert_eq!(rows(&fixture.kubectl.run(&pod)), ["web-1 main 250m 64Mi", "web-1 side 500m 32Mi"]);
}

#[test]
fn a_node_that_stops_answering_is_shown_with_its_age() {
    let Some(fixture) = Fixture::start() else { return };
    fixture.measure();
    fixture.cluster.kubelets.edit(1, |node| node.behaviour = Behaviour::Status(500));
    fixture.sample(2);
    let time = |value: &Value| String::from(value["timestamp"].as_str().unwrap_or_default());
    fixture.wait_for_raw("/nodes/node-00000", |node| time(node) == fixture.at(2));
    // The other node was asked meanwhile, or is about to be: what it said last stays.
    fixture.wait_for_scrapes(1);
    let node = fixture.raw("/nodes/node-00001");
    assert_eq!(time(&node), fixture.at(1));
    assert_eq!(node["usage"]["cpu"], "1");
    assert_eq!(names(&fixture.raw("/namespaces/team-b/pods")), ["web-2"]);

    fixture.cluster.kubelets.edit(1, |node| node.behaviour = Behaviour::Serve);
    fixture.wait_for_raw("/nodes/node-00001", |node| time(node) == fixture.at(2));
}

#[test]
fn sextant_top_prints_what_kubectl_top_prints() {
    let Some(fixture) = Fixture::start() else { return };
    fixture.measure();
    let kubeconfig = fixture.cluster.api.admin_kubeconfig(fixture.folder.path());
    let ours = |arguments: &[&str]| {
        let output = Command::new(binary())
            .arg("top")
            .args(arguments)
            .arg("--kubeconfig")
            .arg(&kubeconfig)
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", text(output.stderr));
        text(output.stdout)
    };
    let theirs = |arguments: &[&str]| fixture.kubectl.run(&[&["top"], arguments].concat());
    for arguments in [
        &["nodes"][..],
        &["nodes", "--sort-by=memory"],
        &["nodes", "--sort-by=cpu", "--no-headers"],
        &["nodes", "--show-capacity"],
        &["nodes", "-l", "topology.kubernetes.io/zone=zone-1"],
        &["node", "node-00001"],
        &["pods", "-A"],
        &["pods", "-A", "--containers"],
        &["pods", "-A", "--sort-by=memory"],
        &["pods", "-A", "--sort-by=cpu", "--no-headers"],
        &["pods", "-A", "--containers", "--sum"],
        &["pods", "-n", "team-a", "--sum"],
        &["pods", "-A", "-l", "app=web,tier!=back"],
        &["pods", "-A", "--field-selector=metadata.namespace=team-b"],
        &["pod", "web-1", "-n", "team-a", "--containers"],
    ] {
        assert_eq!(ours(arguments), theirs(arguments), "{arguments:?}");
    }
    if !fixture.kubectl.run(&["top", "pods", "--help"]).contains("--show-swap") {
        return tests::conformance::skip("this kubectl cannot show swap");
    }
    for arguments in [&["nodes", "--show-swap"][..], &["pods", "-A", "--show-swap"]] {
        assert_eq!(ours(arguments), theirs(arguments), "{arguments:?}");
    }
}

#[test]
fn top_for_user_interfaces_joins_usage_with_what_was_asked_for() {
    let Some(fixture) = Fixture::start() else { return };
    fixture.measure();
    let address = fixture.server.address();
    assert_eq!(HttpsRequest::default().get(address, "/top/pods").unwrap().status, 403);
    let admin =
        Subject { common_name: "admin", organizations: &["system:masters"], ..Subject::default() };
    let identity = fixture.cluster.api.pki().client.issue(&admin);
    let get = |path: &str| {
        let request = HttpsRequest { identity: Some(&identity), ..HttpsRequest::default() };
        let answer = request.get(address, path).unwrap();
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        serde_json::from_str::<Value>(&answer.body).unwrap()
    };
    let pods = get("/top/pods?namespace=team-a&sortBy=cpu");
    let pods = pods["pods"].as_array().unwrap();
    assert_eq!((&pods[0]["name"], &pods[1]["name"]), (&json!("db-1"), &json!("web-1")));
    // Two containers with requests of 100m and 128Mi, and a limit of memory alone.
    let pod = &pods[1];
    assert_eq!(pod["node"], "node-00000");
    assert_eq!(pod["usage"]["cpuNanocores"], 750_000_000);
    assert_eq!(pod["requests"], json!({"cpuNanocores": 200_000_000, "memoryBytes": 256 << 20}));
    assert_eq!(pod["limits"], json!({"cpuNanocores": null, "memoryBytes": 512 << 20}));
    let nodes = get("/top/nodes");
    let nodes = nodes["nodes"].as_array().unwrap();
    let allocatable = json!({"cpuNanocores": 8_000_000_000_u64, "memoryBytes": 32_u64 << 30});
    assert_eq!(nodes[0]["allocatable"], allocatable);
    assert_eq!(
        (&nodes[0]["pods"], &nodes[0]["usage"]["cpuNanocores"]),
        (&json!(2), &json!(2_000_000_000))
    );
    assert_eq!((&nodes[2]["name"], &nodes[2]["usage"]), (&json!("node-00002"), &Value::Null));
}

#[test]
fn a_kubelet_does_not_get_the_pods_of_another_node() {
    let Some(fixture) = Fixture::start() else { return };
    fixture.measure();
    // It claims a pod that the API has on the other node, and that its own kubelet does not tell of yet.
    let pod = fixture.cluster.kubelets.edit(0, |node| node.pods[0].clone());
    let late = tests::harness::kube::PodUse { name: String::from("late-1"), ..pod };
    fixture.cluster.put_pod(1, &late);
    fixture.cluster.kubelets.edit(0, |node| node.pods.push(late));
    fixture.sample(2);
    fixture.wait_for_scrapes(1);
    fixture.sample(3);
    let time = |value: &Value| value["timestamp"] == fixture.at(3).as_str();
    fixture.wait_for_raw("/nodes/node-00000", time);
    assert_eq!(names(&fixture.raw("/namespaces/team-a/pods")), ["db-1", "web-1"]);
}
