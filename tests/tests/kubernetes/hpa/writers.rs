//! Others write what the autoscaler writes.

use serde_json::{Value, json};
use tests::harness::kube::{Effect, Fault, InTree, RequestRecord};
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
fn it_stops_acting_beside_the_clusters_own_controller() {
    let shop = Shop::start();
    let in_tree = InTree::new(&shop.cluster);
    let controller = shop.control(&[]);
    shop.wait_for_condition("ScalingActive", ("True", "ValidMetricFound"), &controller);
    // What it would write of a decision of its own, again and again; a conflict makes it wait for its next turn.
    let mut turn = 0;
    let mut overwrite = || {
        turn += 1;
        let desired = 3 + turn % 2;
        let _ = in_tree.write_status(AUTOSCALER, |status| {
            status["desiredReplicas"] = desired.into();
            status["conditions"] = json!([{
                "type": "AbleToScale",
                "status": "True",
                "reason": "SucceededRescale",
                "message": "the HPA controller was able to update the target scale",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }]);
        });
    };
    let told = wait_for("the event", LIMIT, || {
        overwrite();
        match shop.events("ConflictingController").first() {
            Some(event) if event["type"] == "Warning" => Ok(event.clone()),
            other => Err(format!("{other:?}\n{}", controller.log())),
        }
    });
    let message = told["message"].as_str().unwrap();
    assert!(message.contains("is also written by kube-controller-manager:"), "{message}");

    shop.cluster.api.clear_requests();
    shop.set_demand(6);
    overwrite();
    wait_for_evaluations(&controller, 5);
    let writes = writes_of_ours(&shop);
    assert!(writes.is_empty(), "{writes:#?}");
    let autoscaler = shop.autoscaler();
    let entries = autoscaler["metadata"]["managedFields"].as_array().unwrap();
    let last = entries.last().unwrap();
    assert_eq!(
        (&last["manager"], &last["subresource"], &last["operation"]),
        (&json!("kube-controller-manager"), &json!("status"), &json!("Update"))
    );
    assert_eq!(autoscaler["status"]["conditions"].as_array().map(Vec::len), Some(1));

    // Somebody turns the other one off and starts ours anew, which waits for two periods without a word and then acts.
    overwrite();
    assert!(controller.terminate().success());
    let controller = shop.control(&[]);
    shop.wait_for_replicas(6, &controller);
    shop.wait_for_condition("ScalingActive", ("True", "ValidMetricFound"), &controller);
    let count = |event: &Value| event["count"].as_i64().unwrap_or(1);
    let counts: i64 = shop.events("ConflictingController").iter().map(count).sum();
    assert_eq!(counts, 1, "it was told once");
    shop.check_bounds();
}

#[test]
fn replicas_of_one_installation_are_one_writer() {
    let shop = Shop::start();
    let elect = ["--leader-elect=true"];
    let first = shop.control(&elect);
    shop.set_demand(4);
    shop.wait_for_replicas(4, &first);
    shop.wait_for_condition("AbleToScale", ("True", "ReadyForNewScale"), &first);
    let autoscaler = shop.autoscaler();
    let managers: Vec<_> = autoscaler["metadata"]["managedFields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (entry["manager"].as_str().unwrap(), entry["subresource"].as_str()))
        .collect();
    assert_eq!(
        managers,
        [("sextant-hpa-controller:sextant/sextant-hpa-controller", Some("status"))]
    );
    let web = shop.cluster.api.get(DEPLOYMENT).unwrap();
    let scaled = web["metadata"]["managedFields"].as_array().unwrap().iter();
    let scaled = scaled.filter(|entry| entry["subresource"] == "scale").collect::<Vec<_>>();
    assert_eq!(scaled.len(), 1, "{web:#}");
    assert_eq!(scaled[0]["manager"], managers[0].0);
    assert_eq!(scaled[0]["fieldsV1"], json!({ "f:spec": { "f:replicas": {} } }));

    assert!(first.terminate().success());
    let second = shop.control(&elect);
    shop.set_demand(6);
    shop.wait_for_replicas(6, &second);
    assert!(shop.events("ConflictingController").is_empty());
    shop.check_bounds();
}

#[test]
fn a_status_is_written_with_the_metadata_that_there_is() {
    let shop = Shop::start_with(|autoscaler| {
        let metadata = &mut autoscaler["metadata"];
        metadata["labels"] = json!({ "team": "shop", "empty": "" });
        metadata["annotations"] = json!({ "note": "a \"quoted\" one", "example.com/x": "1" });
        metadata["finalizers"] = json!(["example.com/wait"]);
        metadata["ownerReferences"] = json!([{
            "apiVersion": "example.com/v1",
            "kind": "Shop",
            "name": "main",
            "uid": "00000000-0000-4000-8000-0000000000bb",
            "blockOwnerDeletion": true,
            "controller": true,
        }]);
    });
    let own = || {
        let mut metadata = shop.autoscaler()["metadata"].take();
        for of_writes in ["managedFields", "resourceVersion"] {
            metadata.as_object_mut().unwrap().remove(of_writes);
        }
        metadata
    };
    let (before, spec) = (own(), shop.autoscaler()["spec"].take());
    let controller = shop.control(&[]);
    shop.set_demand(4);
    shop.wait_for_replicas(4, &controller);
    shop.wait_for_condition("ScalingActive", ("True", "ValidMetricFound"), &controller);
    assert_eq!(own(), before);
    assert_eq!(shop.autoscaler()["spec"], spec);
    // Somebody labels it in between: the next write takes that along.
    shop.cluster.api.edit(AUTOSCALER, |autoscaler| {
        autoscaler["metadata"]["labels"]["team"] = "new".into();
    });
    shop.set_demand(6);
    shop.wait_for_replicas(6, &controller);
    shop.wait_for_condition("AbleToScale", ("True", "ReadyForNewScale"), &controller);
    assert_eq!(own()["labels"], json!({ "team": "new", "empty": "" }));
}

/// Writes of the controller to the autoscaler and its target.
fn writes_of_ours(shop: &Shop) -> Vec<RequestRecord> {
    let requests = shop.cluster.api.requests().into_iter();
    let by_it = requests.filter(|request| request.user.uid == "hpa-controller");
    let written =
        by_it.filter(|request| !matches!(request.verb.as_str(), "get" | "list" | "watch"));
    written.filter(|request| !request.path.contains("/events")).collect()
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
