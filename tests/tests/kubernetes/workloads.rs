//! The harness's workloads: pods follow their Deployment, and share the demand.

use std::sync::Arc;
use std::time::Duration;

use model::{Clock, SystemClock};
use serde_json::{Value, json};
use tests::harness::kube::{
    ApiServer, ApiServerOptions, Cluster, ClusterOptions, Kubectl, Load, Replicas, Workload,
    Workloads, cpu_autoscaler,
};
use tests::harness::wait_for;

use super::fixture::rows;

const LIMIT: Duration = Duration::from_secs(60);
const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/shop/deployments/web";

fn cluster() -> Arc<Cluster> {
    let options = ClusterOptions { pods_per_node: 0, ..ClusterOptions::default() };
    Arc::new(Cluster::start(&options))
}

fn wait_for_ready(workloads: &Workloads, count: usize) -> Vec<String> {
    wait_for("replicas", LIMIT, || match workloads.replicas("shop", "web") {
        Replicas { pods, ready, .. } if (pods, ready) == (count, count) => Ok(()),
        replicas => Err(format!("{replicas:?}")),
    });
    workloads.pods("shop", "web")
}

/// Millicores that each pod uses now, by name.
fn usage(cluster: &Cluster) -> Vec<(String, u64)> {
    let nodes = 0..cluster.kubelets.count();
    let pods = nodes.flat_map(|node| cluster.kubelets.edit(node, |node| node.pods.clone()));
    let millicores = |pod: &tests::harness::kube::PodUse| {
        pod.containers.iter().map(|c| c.cpu.nanocores() / 1_000_000).sum::<u64>()
    };
    let mut usage: Vec<_> = pods.map(|pod| (pod.name.clone(), millicores(&pod))).collect();
    usage.sort();
    usage
}

fn wait_for_usage(cluster: &Cluster, wanted: &[(&str, u64)]) {
    let wanted: Vec<_> = wanted.iter().map(|(pod, used)| (String::from(*pod), *used)).collect();
    wait_for("usage", LIMIT, || match usage(cluster) {
        usage if usage == wanted => Ok(()),
        usage => Err(format!("{usage:?}, not {wanted:?}")),
    });
}

#[test]
fn ready_pods_share_the_demand() {
    let cluster = cluster();
    let workloads = Workloads::start(&cluster);
    workloads.add(Workload::new("shop", "web", 2, Load::constant(600)));
    let pods = wait_for_ready(&workloads, 2);
    assert_eq!(pods, ["web-5d8f9c7b6-00001", "web-5d8f9c7b6-00002"]);
    wait_for_usage(&cluster, &[(&pods[0], 300), (&pods[1], 300)]);

    cluster.api.edit(DEPLOYMENT, |deployment| deployment["spec"]["replicas"] = 3.into());
    let pods = wait_for_ready(&workloads, 3);
    wait_for_usage(&cluster, &[(&pods[0], 200), (&pods[1], 200), (&pods[2], 200)]);
    workloads.set_load("shop", "web", Load::constant(1200));
    wait_for_usage(&cluster, &[(&pods[0], 400), (&pods[1], 400), (&pods[2], 400)]);
    let node = |pod: &str| {
        let pod = cluster.api.get(&format!("/api/v1/namespaces/shop/pods/{pod}")).unwrap();
        String::from(pod["spec"]["nodeName"].as_str().unwrap())
    };
    assert_eq!([node(&pods[0]), node(&pods[1])], ["node-00000", "node-00001"], "in turn");

    // The youngest goes first.
    cluster.api.edit(DEPLOYMENT, |deployment| deployment["spec"]["replicas"] = 1.into());
    let left = wait_for_ready(&workloads, 1);
    assert_eq!(left, pods[..1]);
    wait_for_usage(&cluster, &[(&pods[0], 1200)]);
    let status = wait_for("the status", LIMIT, || {
        let deployment = cluster.api.get(DEPLOYMENT).unwrap();
        let status = deployment["status"].clone();
        if status["replicas"] == 1 { Ok(status) } else { Err(status.to_string()) }
    });
    assert_eq!(status["readyReplicas"], 1);
    assert_eq!(cluster.api.list("/api/v1/namespaces/shop/pods").len(), 1);
}

#[test]
fn pods_crash_fail_and_are_deleted() {
    let cluster = cluster();
    let workloads = Workloads::start(&cluster);
    let mut workload = Workload::new("shop", "web", 2, Load::constant(600));
    workload.cpu_limit_millicores = Some(500);
    workloads.add(workload);
    let pods = wait_for_ready(&workloads, 2);
    let pod = |name: &str| cluster.api.get(&format!("/api/v1/namespaces/shop/pods/{name}"));

    // What one pod cannot take, up to its limit, nobody does.
    workloads.crash("shop", &pods[0]);
    let restarts = |name: &str| {
        pod(name).unwrap()["status"]["containerStatuses"][0]["restartCount"].as_u64().unwrap()
    };
    assert_eq!(restarts(&pods[0]), 1);
    assert_eq!(wait_for_ready(&workloads, 2), pods);
    wait_for_usage(&cluster, &[(&pods[0], 300), (&pods[1], 300)]);

    workloads.fail("shop", &pods[1]);
    let after = wait_for_ready(&workloads, 2);
    assert_eq!(after, ["web-5d8f9c7b6-00001", "web-5d8f9c7b6-00003"]);
    assert_eq!(pod(&pods[1]).unwrap()["status"]["phase"], "Failed");

    assert!(cluster.api.delete(&format!("/api/v1/namespaces/shop/pods/{}", pods[0])));
    wait_for("another pod", LIMIT, || match workloads.pods("shop", "web") {
        pods if pods == ["web-5d8f9c7b6-00003", "web-5d8f9c7b6-00004"] => Ok(()),
        pods => Err(format!("{pods:?}")),
    });
    wait_for_ready(&workloads, 2);
    wait_for_usage(&cluster, &[("web-5d8f9c7b6-00003", 300), ("web-5d8f9c7b6-00004", 300)]);
}

#[test]
fn kubelets_tell_of_the_usage_as_it_was() {
    let cluster = cluster();
    let workloads = Workloads::start(&cluster);
    workloads.add(Workload::new("shop", "web", 1, Load::constant(1000)));
    let pods = wait_for_ready(&workloads, 1);
    wait_for_usage(&cluster, &[(&pods[0], 1000)]);
    let at = |ms: i64| {
        cluster.kubelets.edit(0, |node| node.container(&pods[0], "main").unwrap().cpu.at(ms))
    };
    let before_ms = SystemClock.now();
    let before = at(before_ms);
    workloads.set_load("shop", "web", Load::constant(3000));
    wait_for_usage(&cluster, &[(&pods[0], 3000)]);
    assert_eq!(at(before_ms), before);
    let later_ms = SystemClock.now() + 1000;
    assert_eq!(at(later_ms + 1000) - at(later_ms), 3_000_000_000);
}

/// An API server with the Deployment `shop/web`, and a `kubectl` of its admin.
fn api_with_web() -> Option<(ApiServer, Kubectl, tempfile::TempDir)> {
    let folder = tempfile::tempdir().unwrap();
    let api = ApiServer::start(&ApiServerOptions::default());
    let kubectl = Kubectl::find(&api.admin_kubeconfig(folder.path()))?;
    api.put(json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": "web", "namespace": "shop" },
        "spec": { "replicas": 1, "selector": { "matchLabels": { "app": "web" } } },
    }));
    Some((api, kubectl, folder))
}

const AUTOSCALER: &str = "/apis/autoscaling/v2/namespaces/shop/horizontalpodautoscalers/web";

#[test]
fn autoscalers_get_defaults_and_are_checked() {
    let Some((api, kubectl, _folder)) = api_with_web() else { return };
    let said = kubectl.run(&["autoscale", "deployment", "web", "-n", "shop", "--max=5"]);
    assert_eq!(said, "horizontalpodautoscaler.autoscaling/web autoscaled\n");
    let spec = api.get(AUTOSCALER).unwrap()["spec"].clone();
    let target = json!({ "type": "Utilization", "averageUtilization": 80 });
    assert_eq!(
        spec,
        json!({
            "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "web" },
            "minReplicas": 1,
            "maxReplicas": 5,
            "metrics": [{ "type": "Resource", "resource": { "name": "cpu", "target": target } }],
        })
    );
    let _ = kubectl.run(&["delete", "hpa", "web", "-n", "shop"]);
    let options = ["--min=2", "--max=5", "--cpu-percent=50"];
    let _ =
        kubectl.run(&[&["autoscale", "deployment", "web", "-n", "shop"], &options[..]].concat());
    let spec = api.get(AUTOSCALER).unwrap()["spec"].clone();
    assert_eq!(spec["minReplicas"], 2);
    assert_eq!(spec["metrics"][0]["resource"]["target"]["averageUtilization"], 50);
    let old =
        kubectl.json(&["get", "horizontalpodautoscalers.v1.autoscaling", "web", "-n", "shop"]);
    assert_eq!(old["apiVersion"], "autoscaling/v1");
    assert_eq!(old["spec"]["targetCPUUtilizationPercentage"], 50);

    let mut wrong = cpu_autoscaler("shop", "other", (3, 2), 50);
    wrong["spec"]["behavior"] = json!({ "scaleDown": { "stabilizationWindowSeconds": 3601 } });
    let ran = kubectl.try_run(&["create", "-f", "-"], &wrong.to_string());
    assert!(!ran.success, "{}", ran.stdout);
    for problem in [
        "spec.maxReplicas: Invalid value: 2: must be greater than or equal to `minReplicas`",
        "spec.behavior.scaleDown.stabilizationWindowSeconds: Invalid value: 3601: must be less \
         than or equal to 3600",
    ] {
        assert!(ran.stderr.contains(problem), "{problem}: {}", ran.stderr);
    }
    wrong["spec"]["maxReplicas"] = 3.into();
    wrong["spec"]["behavior"] = json!({ "scaleDown": { "stabilizationWindowSeconds": 60 } });
    let _ = kubectl.run_with(&["create", "-f", "-"], &wrong.to_string());
    let path = AUTOSCALER.replace("/web", "/other");
    let behavior = api.get(&path).unwrap()["spec"]["behavior"].clone();
    let percent = json!({ "type": "Percent", "value": 100, "periodSeconds": 15 });
    assert_eq!(
        behavior,
        json!({
            "scaleUp": {
                "policies": [{ "type": "Pods", "value": 4, "periodSeconds": 15 }, percent],
                "selectPolicy": "Max",
                "stabilizationWindowSeconds": 0,
            },
            "scaleDown": {
                "policies": [percent],
                "selectPolicy": "Max",
                "stabilizationWindowSeconds": 60,
            },
        })
    );
}

#[test]
fn the_status_of_an_autoscaler_is_shown() {
    let Some((api, kubectl, _folder)) = api_with_web() else { return };
    api.put(cpu_autoscaler("shop", "web", (1, 5), 80));
    let row = || {
        let table = kubectl.run(&["get", "hpa", "-n", "shop", "--no-headers"]);
        rows(&table)[0].rsplit_once(' ').unwrap().0.to_owned()
    };
    assert_eq!(row(), "web Deployment/web cpu: <unknown>/80% 1 5 0");
    let status = json!({
        "currentReplicas": 2,
        "desiredReplicas": 3,
        "currentMetrics": [{
            "type": "Resource",
            "resource": {
                "name": "cpu",
                "current": { "averageUtilization": 50, "averageValue": "250m" },
            },
        }],
    });
    api.edit(AUTOSCALER, |autoscaler| autoscaler["status"] = status);
    assert_eq!(row(), "web Deployment/web cpu: 50%/80% 1 5 2");
    api.put(json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": { "name": "web.1", "namespace": "shop" },
        "involvedObject": {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "name": "web",
            "namespace": "shop",
            "uid": api.get(AUTOSCALER).unwrap()["metadata"]["uid"],
        },
        "type": "Normal",
        "reason": "SuccessfulRescale",
        "message": "New size: 3; reason: test",
        "source": { "component": "horizontal-pod-autoscaler" },
        "count": 1,
        "firstTimestamp": "2026-01-01T00:00:00Z",
        "lastTimestamp": "2026-01-01T00:00:00Z",
    }));
    let described = rows(&kubectl.run(&["describe", "hpa", "web", "-n", "shop"]));
    for line in [
        "resource cpu on pods (as a percentage of request): 50% (250m) / 80%",
        "Min replicas: 1",
        "Max replicas: 5",
        "Deployment pods: 2 current / 3 desired",
    ] {
        assert!(described.iter().any(|row| row == line), "{line}: {described:#?}");
    }
    let event = described.last().unwrap();
    assert!(event.starts_with("Normal SuccessfulRescale"), "{event}");
    assert!(event.ends_with("horizontal-pod-autoscaler New size: 3; reason: test"), "{event}");

    // Two metrics are shown, of more the number is.
    let external = |name: &str| {
        let target = json!({ "type": "AverageValue", "averageValue": "10" });
        json!({ "type": "External", "external": { "metric": { "name": name }, "target": target } })
    };
    api.edit(AUTOSCALER, |autoscaler| {
        let metrics = autoscaler["spec"]["metrics"].as_array_mut().unwrap();
        metrics.extend([external("a"), external("b")]);
        let current = autoscaler["status"]["currentMetrics"].as_array_mut().unwrap();
        let value = json!({ "metric": { "name": "a" }, "current": { "averageValue": "3" } });
        current.push(json!({ "type": "External", "external": value }));
    });
    assert_eq!(row(), "web Deployment/web cpu: 50%/80%, 3/10 (avg) + 1 more... 1 5 2");
    let scaled: Value = kubectl.json(&["get", "hpa", "web", "-n", "shop"]);
    assert_eq!(scaled["apiVersion"], "autoscaling/v2");
}
