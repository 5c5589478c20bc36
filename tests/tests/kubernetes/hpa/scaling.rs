//! Replicas follow the load, and nothing but the load.

use serde_json::json;
use tests::harness::wait_for;

use super::fixture::{AUTOSCALER, DEPLOYMENT, LIMIT, Shop, wait_for_evaluations};

#[test]
fn replicas_follow_the_load_up_and_down() {
    let shop = Shop::start();
    let controller = shop.control(&[]);
    shop.wait_for_condition("ScalingActive", ("True", "ValidMetricFound"), &controller);
    shop.wait_for_condition("AbleToScale", ("True", "ReadyForNewScale"), &controller);
    assert!(shop.scale_writes().is_empty(), "two are right");

    shop.set_demand(4);
    shop.wait_for_replicas(4, &controller);
    shop.set_demand(7);
    shop.wait_for_replicas(7, &controller);

    // For twice the most, no more than the most.
    shop.set_demand(20);
    shop.wait_for_replicas(10, &controller);
    shop.wait_for_condition("ScalingLimited", ("True", "TooManyReplicas"), &controller);

    shop.set_demand(5);
    shop.wait_for_replicas(5, &controller);
    shop.set_demand(0);
    shop.wait_for_replicas(2, &controller);
    shop.wait_for_condition("ScalingLimited", ("True", "TooFewReplicas"), &controller);
    shop.check_bounds();
    let reasons: Vec<_> = shop
        .events("SuccessfulRescale")
        .iter()
        .map(|event| event["message"].as_str().unwrap().to_owned())
        .collect();
    let up = "reason: cpu resource utilization (percentage of request) above target";
    assert!(reasons.iter().any(|reason| reason == &format!("New size: 10; {up}")), "{reasons:#?}");
    let down = "New size: 2; reason: All metrics below target";
    assert!(reasons.iter().any(|reason| reason == down), "{reasons:#?}");
}

#[test]
fn bounds_are_enforced_without_metrics() {
    let shop = Shop::start_with(|autoscaler| {
        // Of a metric that nobody has.
        autoscaler["spec"]["metrics"] = json!([{
            "type": "External",
            "external": {
                "metric": { "name": "absent" },
                "target": { "type": "Value", "value": "1" },
            },
        }]);
    });
    shop.cluster.api.edit(DEPLOYMENT, |web| web["spec"]["replicas"] = 12.into());
    let controller = shop.control(&[]);
    shop.wait_for_replicas(10, &controller);
    let why = "New size: 10; reason: Current number of replicas above Spec.MaxReplicas";
    assert_eq!(shop.wait_for_event("SuccessfulRescale", &controller), why);
    shop.wait_for_condition("ScalingActive", ("False", "FailedGetExternalMetric"), &controller);
    shop.check_bounds();
}

#[test]
fn a_crashed_pod_is_no_reason_to_scale() {
    let shop = Shop::start_with(|autoscaler| {
        // The measurements of pods are not all of the same moment, so that for a moment a share may count twice: by a third
        // at most, when one of three is back.
        autoscaler["spec"]["behavior"] =
            json!({ "scaleUp": { "tolerance": "400m" }, "scaleDown": { "tolerance": "400m" } });
    });
    shop.set_demand(3);
    shop.cluster.api.edit(DEPLOYMENT, |web| web["spec"]["replicas"] = 3.into());
    let controller = shop.control(&[]);
    shop.wait_for_replicas(3, &controller);
    shop.wait_for_metrics(3);
    let pods = shop.workloads.pods("shop", "web");
    shop.workloads.crash("shop", &pods[0]);
    wait_for_evaluations(&controller, 3);
    shop.wait_for_replicas(3, &controller);

    // One that fails for good is replaced, and does not count itself.
    shop.workloads.fail("shop", &pods[1]);
    wait_for_evaluations(&controller, 3);
    shop.wait_for_replicas(3, &controller);
    shop.wait_for_metrics(3);
    wait_for_evaluations(&controller, 2);
    let writes = shop.scale_writes();
    assert!(writes.is_empty(), "{writes:#?}");
    assert_eq!(shop.autoscaler()["status"]["currentReplicas"], 3);
}

#[test]
fn a_policy_limits_the_pace() {
    let shop = Shop::start_with(|autoscaler| {
        autoscaler["spec"]["behavior"] = json!({
            "scaleUp": { "policies": [{ "type": "Pods", "value": 1, "periodSeconds": 3 }] },
            "scaleDown": { "selectPolicy": "Disabled" },
        });
    });
    let controller = shop.control(&[]);
    shop.set_demand(5);
    shop.wait_for_replicas(5, &controller);
    let steps = replicas_written(&shop);
    assert_eq!(steps, [3, 4, 5], "one at a time");
    shop.set_demand(2);
    wait_for_evaluations(&controller, 6);
    assert_eq!(replicas_written(&shop), steps, "never down");
    shop.check_bounds();
}

/// What successful writes asked for.
fn replicas_written(shop: &Shop) -> Vec<i64> {
    let writes = shop.scale_writes().into_iter().filter(|write| write.status == 200);
    writes.filter_map(|write| write.written_replicas()).collect()
}

#[test]
fn fresh_samples_scale_up_without_waiting_for_the_period() {
    let shop = Shop::start();
    let autoscaler = shop.autoscaler();
    shop.cluster.api.delete(AUTOSCALER);
    // After the first evaluation the period alone would not act before the test gives up.
    let controller =
        shop.control(&["--hpa.react=fresh-samples", "--horizontal-pod-autoscaler-sync-period=10m"]);
    wait_for("evaluations", LIMIT, || {
        let metrics = controller.get("/metrics")?.body;
        let begun = metrics.lines().any(|line| line == "sextant_hpa_evaluating 1");
        if begun { Ok(()) } else { Err(controller.log()) }
    });
    // One that is new is evaluated at once.
    shop.cluster.api.put(autoscaler);
    shop.wait_for_condition("ScalingActive", ("True", "ValidMetricFound"), &controller);
    shop.set_demand(4);
    shop.wait_for_replicas(4, &controller);
    // Twice what there was when the period began is the most until the next.
    shop.set_demand(10);
    shop.wait_for_metric_requests(5, &controller);
    shop.set_demand(2);
    shop.wait_for_metric_requests(5, &controller);
    let written = replicas_written(&shop);
    assert!(written.iter().all(|replicas| *replicas <= 4), "{written:?}");
    assert!(written.is_sorted(), "only the period scales down: {written:?}");
    shop.check_bounds();
}
