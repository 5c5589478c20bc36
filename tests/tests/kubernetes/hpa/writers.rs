//! Others write what the autoscaler writes.

use serde_json::json;
use tests::harness::kube::{Effect, Fault};
use tests::harness::wait_for;

use super::fixture::{AUTOSCALER, DEPLOYMENT, LIMIT, Shop, wait_for_evaluations};

const SCALE: &str = "/apis/apps/v1/namespaces/shop/deployments/web/scale";

#[test]
fn a_conflict_on_the_scale_is_decided_anew() {
    let shop = Shop::start();
    let controller = shop.control(&[]);
    shop.wait_for_condition("ScalingActive", ("True", "ValidMetricFound"), &controller);
    shop.cluster.api.inject(Fault::new(SCALE, Effect::Status(409)).verb("update").times(3));
    shop.set_demand(4);
    shop.wait_for_replicas(4, &controller);
    let statuses: Vec<_> = shop.scale_writes().iter().map(|write| write.status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 409).count(), 3, "{statuses:?}");
    assert!(shop.events("FailedRescale").is_empty());

    // Somebody scales by hand: what is decided next is about what there is then.
    shop.cluster.api.edit(DEPLOYMENT, |web| web["spec"]["replicas"] = 9.into());
    shop.wait_for_replicas(4, &controller);
    shop.check_bounds();
}

#[test]
fn a_refused_scale_is_told_and_tried_again() {
    let shop = Shop::start();
    let controller = shop.control(&[]);
    shop.wait_for_condition("ScalingActive", ("True", "ValidMetricFound"), &controller);
    shop.cluster.api.inject(Fault::new(SCALE, Effect::Status(403)).verb("update"));
    shop.set_demand(4);
    shop.wait_for_event("FailedRescale", &controller);
    shop.wait_for_condition("AbleToScale", ("False", "FailedUpdateScale"), &controller);
    shop.cluster.api.clear_faults();
    shop.wait_for_replicas(4, &controller);
    shop.check_bounds();
}

#[test]
fn it_stops_acting_beside_another_controller() {
    let shop = Shop::start();
    let controller = shop.control(&[]);
    shop.wait_for_condition("ScalingActive", ("True", "ValidMetricFound"), &controller);
    // What another controller would write of it, again and again.
    let overwrite = || {
        shop.cluster.api.edit(AUTOSCALER, |autoscaler| {
            autoscaler["status"]["desiredReplicas"] = 3.into();
            autoscaler["status"]["conditions"] = json!([{
                "type": "AbleToScale",
                "status": "True",
                "reason": "SucceededRescale",
                "message": "the HPA controller was able to update the target scale to 3",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }]);
        });
    };
    wait_for("the event", LIMIT, || {
        overwrite();
        match shop.events("ConflictingController").first() {
            Some(event) if event["type"] == "Warning" => Ok(()),
            other => Err(format!("{other:?}\n{}", controller.log())),
        }
    });
    shop.cluster.api.clear_requests();
    shop.set_demand(6);
    overwrite();
    wait_for_evaluations(&controller, 5);
    let writes = shop.scale_writes();
    assert!(writes.is_empty(), "{writes:#?}");
}

#[test]
fn nothing_is_written_unless_it_is_asked_to_act() {
    let shop = Shop::start();
    // The default.
    let controller = shop.control(&["--hpa.mode=shadow"]);
    shop.cluster.api.clear_requests();
    shop.set_demand(6);
    wait_for("a decision to scale", LIMIT, || {
        let metrics = controller.get("/metrics")?.body;
        let mut lines = metrics.lines();
        let desired = lines.find(|line| {
            line.starts_with("horizontal_pod_autoscaler_controller_desired_replicas{")
        });
        match desired.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok()) {
            Some(desired) if desired > 2.0 => Ok(()),
            other => Err(format!("{other:?}\n{}", controller.log())),
        }
    });
    let requests = shop.cluster.api.requests().into_iter();
    let mut by_it = requests.filter(|request| request.user.uid == "hpa-controller");
    let read = ["get", "list", "watch"];
    let written = by_it.find(|request| !read.contains(&request.verb.as_str()));
    assert!(written.is_none(), "{written:#?}");
}
