//! The controller that the cluster brings along is steered: it takes over what ours decides, and nobody writes besides it.

use serde_json::{Value, json};
use tests::harness::kube::{Evaluated, HpaController, InTree, Kubectl, Replicas};
use tests::harness::wait_for;

use super::fixture::{AUTOSCALER, BOUNDS, LIMIT, Shop, tool, wait_for_evaluations};

const ANNOTATION: &str = "autoscaling.sextant.dev/steered-spec";

/// Lets the cluster's controller evaluate, again and again, until so many replicas are there.
fn wait_for_replicas(shop: &Shop, in_tree: &InTree, count: usize, controller: &HpaController) {
    let wanted = i32::try_from(count).unwrap();
    wait_for(&format!("{count} replicas"), LIMIT, || {
        let evaluated = in_tree.evaluate(AUTOSCALER);
        match shop.workloads.replicas("shop", "web") {
            Replicas { wanted: w, pods, ready } if (w, pods, ready) == (wanted, count, count) => {
                Ok(())
            }
            other => Err(format!("{other:?}, {evaluated:?}\n{}", controller.log())),
        }
    });
}

fn explanation(controller: &HpaController) -> Value {
    controller.get("/api/v1/hpa/shop/web/explain").unwrap().json()
}

#[test]
fn the_clusters_controller_does_what_ours_decides() {
    let mut shop = Shop::start_with(|autoscaler| {
        autoscaler["spec"]["behavior"] = json!({ "scaleUp": { "policies": [
            { "type": "Pods", "value": 2, "periodSeconds": 2 },
        ] } });
    });
    let admin = shop.cluster.api.admin_kubeconfig(shop.folder.path());
    let Some(kubectl) = Kubectl::find(&admin) else { return };
    let in_tree = InTree::new(&shop.cluster);
    let meant = shop.autoscaler();

    // As `sextant hpa steer` is to be used.
    let get = ["get", "hpa", "web", "-n", "shop", "-o", "yaml"];
    let steered = tool(&["hpa", "steer", "-f", "-"], &kubectl.run(&get));
    let _ = kubectl.run_with(&["apply", "-f", "-"], &steered);
    let controller = shop.control(&[]);
    let url = format!("--hpa-controller-url=http://{}", controller.address());
    shop.serve_external_metrics(&[&url]);
    let seen = shop.autoscaler();
    assert_eq!(seen["spec"]["metrics"][0]["external"]["metric"]["name"], "sextant-replicas");
    assert_eq!(seen["spec"]["scaleTargetRef"], meant["spec"]["scaleTargetRef"]);
    assert_eq!(
        (&seen["spec"]["minReplicas"], &seen["spec"]["maxReplicas"]),
        (&json!(2), &json!(10))
    );

    shop.set_demand(6);
    wait_for_replicas(&shop, &in_tree, 6, &controller);
    // Why, tells what is meant and not what the cluster's controller sees.
    let explained = wait_for("an explanation", LIMIT, || match explanation(&controller) {
        explained if explained["currentReplicas"] == 6 => Ok(explained),
        explained => Err(explained.to_string()),
    });
    assert_eq!(explained["metrics"][0]["name"], "cpu resource utilization (percentage of request)");
    shop.set_demand(9);
    wait_for_replicas(&shop, &in_tree, 9, &controller);
    shop.set_demand(2);
    wait_for_replicas(&shop, &in_tree, 2, &controller);

    // Nobody but the cluster's controller has written, and the policy of what is meant was kept.
    let scaled = shop.scale_writes();
    let writers: Vec<_> = scaled.iter().map(|write| write.user_agent.split('/').next()).collect();
    assert!(writers.iter().all(|writer| *writer == Some("kube-controller-manager")), "{writers:?}");
    let counts: Vec<_> = scaled.iter().filter_map(|write| write.written_replicas()).collect();
    let ups = counts.windows(2).filter(|pair| pair[1] > pair[0]);
    for pair in ups {
        assert!(pair[1] - pair[0] <= 2, "{counts:?}");
    }
    let by_ours = shop.cluster.api.requests().into_iter();
    let mut by_ours = by_ours.filter(|request| request.user.uid == "hpa-controller");
    let written = by_ours.find(|request| {
        let of_state = request.path.contains("/namespaces/sextant/");
        !of_state && !matches!(request.verb.as_str(), "get" | "list" | "watch")
    });
    assert!(written.is_none(), "{written:#?}");
    let (min, max) = BOUNDS;
    assert!(counts.iter().all(|count| (i64::from(min)..=i64::from(max)).contains(count)));

    // Without ours the count is an error, and the cluster's controller leaves the replicas alone.
    controller.pause();
    shop.set_demand(5);
    let stuck = wait_for("a failure", LIMIT, || match in_tree.evaluate(AUTOSCALER) {
        Ok(evaluated) if evaluated.failure.is_some() => Ok(evaluated),
        other => Err(format!("{other:?}")),
    });
    let Evaluated { current, desired, failure } = stuck;
    assert_eq!((current, desired), (2, 2));
    let failure = failure.unwrap();
    assert!(failure.contains("steered autoscaler shop/web"), "{failure}");
    assert_eq!(
        shop.condition("ScalingActive"),
        (String::from("False"), String::from("FailedGetExternalMetric"))
    );
    controller.resume();
    wait_for_replicas(&shop, &in_tree, 5, &controller);

    // And back: the object is what it was, and the count is no longer published.
    let meant_again = tool(&["hpa", "steer", "-f", "-", "--undo"], &kubectl.run(&get));
    let _ = kubectl.run_with(&["apply", "-f", "-"], &meant_again);
    let autoscaler = shop.autoscaler();
    assert_eq!(autoscaler["spec"], meant["spec"]);
    assert_eq!(autoscaler["metadata"]["annotations"][ANNOTATION], Value::Null);
    wait_for_evaluations(&controller, 2);
    let count = controller.get("/api/v1/steer/shop/web").unwrap();
    assert_eq!(count.status, 404, "{}", count.body);
    // Now that nobody else writes, ours scales by itself.
    shop.set_demand(7);
    shop.wait_for_replicas(7, &controller);
}
