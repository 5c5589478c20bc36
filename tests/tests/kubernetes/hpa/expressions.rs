//! Autoscalers on PromQL: an External metric whose expression stands in a ConfigMap of the namespace.

use serde_json::{Value, json};
use tests::harness::kube::{InTree, Kubectl, METRICS_SERVER_TOKEN, Rule};
use tests::harness::{Sextant, wait_for};

use super::fixture::{AUTOSCALER, DEPLOYMENT, LIMIT, Shop, tool, wait_for_evaluations};
use crate::series::{Constant, write_series};

/// What the minute before the test had, every 5 s: 700 in the shop, far more next door.
const SERIES: [Constant<'_>; 3] = [
    (&[("__name__", "in_flight"), ("namespace", "shop"), ("pod", "a")], 300.0),
    (&[("__name__", "in_flight"), ("namespace", "shop"), ("pod", "b")], 400.0),
    (&[("__name__", "in_flight"), ("namespace", "next-door"), ("pod", "c")], 50_000.0),
];

fn expressions(namespace: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "load",
            "namespace": namespace,
            "labels": { "autoscaling.sextant.dev/expressions": "true" },
        },
        "data": {
            // However long ago the samples were, as far as this test goes.
            "requests_in_flight": "sum(last_over_time(in_flight[1h]))",
            "of_next_door": "sum(last_over_time(in_flight{namespace=\"next-door\"}[1h]))",
            "broken": "sum(in_flight",
        },
    })
}

#[test]
fn an_expression_scales_and_sees_its_own_namespace_only() {
    let data = tempfile::tempdir().unwrap();
    write_series(data.path(), &SERIES);
    let prometheus = Sextant::server(data.path(), "scrape_configs: []\n");
    let external = |name: &str| {
        json!([{ "type": "External", "external": {
            "metric": { "name": name },
            "target": { "type": "AverageValue", "averageValue": "100" },
        } }])
    };
    let mut shop = Shop::start_with(|autoscaler| {
        autoscaler["spec"]["metrics"] = external("requests_in_flight");
    });
    let admin = shop.cluster.api.admin_kubeconfig(shop.folder.path());
    let Some(kubectl) = Kubectl::find(&admin) else { return };
    // What deploy/metrics-server.yaml has in comments.
    let access = shop.cluster.api.access();
    let account = access.user_of_token(METRICS_SERVER_TOKEN).unwrap().name;
    access.allow(Rule::allow(&account, &["list", "watch"]).on("", &["configmaps"]));
    shop.cluster.api.put(expressions("shop"));
    shop.cluster.api.put(expressions("next-door"));
    let url = format!("--prometheus-url=http://127.0.0.1:{}", prometheus.port);
    shop.serve_external_metrics(&[&url, "--expressions"]);

    let path = |namespace: &str, name: &str| {
        format!("/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/{name}")
    };
    let value = |namespace: &str, name: &str| {
        let path = path(namespace, name);
        let list: Value = wait_for(&path, LIMIT, || {
            let ran = kubectl.try_run(&["get", "--raw", &path], "");
            let log = || format!("{ran:?}\n{}", shop.metrics.log());
            serde_json::from_str(&ran.stdout).map_err(|_| log())
        });
        assert_eq!(list["items"].as_array().map(Vec::len), Some(1), "{list}");
        assert_eq!(list["items"][0]["metricName"], name);
        list["items"][0]["value"].clone()
    };
    assert_eq!(value("shop", "requests_in_flight"), "700");
    assert_eq!(value("next-door", "requests_in_flight"), "50k");
    assert_eq!(value("next-door", "of_next_door"), "50k");
    let stolen = kubectl.try_run(&["get", "--raw", &path("shop", "of_next_door")], "");
    assert!(!stolen.stdout.contains("\"value\""), "{stolen:?}");
    let broken = kubectl.fail(&["get", "--raw", &path("shop", "broken")]);
    for named in ["shop/load", "broken"] {
        assert!(broken.contains(named), "{named}: {broken}");
    }

    let controller = shop.control(&[]);
    shop.wait_for_replicas(7, &controller);
    shop.wait_for_condition("ScalingActive", ("True", "ValidMetricFound"), &controller);
    let shown = wait_for("the value of the metric", LIMIT, || {
        let shown = shop.autoscaler()["status"]["currentMetrics"].clone();
        // 700 of 7 pods.
        match shown[0]["external"]["current"]["averageValue"].as_str() {
            Some("100") => Ok(shown),
            _ => Err(shown.to_string()),
        }
    });
    assert_eq!(shown[0]["external"]["metric"]["name"], "requests_in_flight");
    let explained = tool(
        &["hpa", "explain", "shop/web", "--kubeconfig", admin.to_str().unwrap(), "-o", "json"],
        "",
    );
    let explained: Value = serde_json::from_str(&explained).unwrap();
    assert_eq!(explained["metrics"][0]["proposal"]["replicas"], 7, "{explained:#}");

    // The cluster's own controller decides the same of the same object.
    assert!(controller.terminate().success());
    let in_tree = InTree::new(&shop.cluster);
    // It has no memory of its own here.
    let now = |autoscaler: &mut Value| {
        autoscaler["spec"]["behavior"] = json!({
            "scaleUp": { "stabilizationWindowSeconds": 0, "policies": [{ "type": "Pods", "value": 9, "periodSeconds": 1 }] },
            "scaleDown": { "stabilizationWindowSeconds": 0, "policies": [{ "type": "Pods", "value": 9, "periodSeconds": 1 }] },
        });
    };
    shop.cluster.api.edit(AUTOSCALER, now);
    shop.cluster.api.edit(DEPLOYMENT, |web| web["spec"]["replicas"] = 3.into());
    let evaluated = wait_for("an evaluation", LIMIT, || in_tree.evaluate(AUTOSCALER));
    assert_eq!((evaluated.current, evaluated.desired), (3, 7), "{evaluated:?}");

    // What another namespace has is nothing to scale on.
    shop.cluster.api.edit(AUTOSCALER, |autoscaler| {
        autoscaler["spec"]["metrics"] = external("of_next_door");
    });
    let controller = shop.control(&[]);
    shop.wait_for_condition("ScalingActive", ("False", "FailedGetExternalMetric"), &controller);
    wait_for_evaluations(&controller, 3);
    shop.wait_for_replicas(7, &controller);
    shop.check_bounds();
}
