//! Two controllers, of which one may write.

use serde_json::Value;
use tests::harness::kube::{HpaController, RequestRecord};
use tests::harness::wait_for;

use super::fixture::{LIMIT, Shop, wait_for_evaluations};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/sextant/leases";

fn start(shop: &Shop, name: &str) -> HpaController {
    let arguments = [
        "--leader-elect=true",
        "--leader-elect-lease-duration=4s",
        "--leader-elect-renew-deadline=3s",
        "--leader-elect-retry-period=500ms",
    ];
    HpaController::start(&shop.cluster, shop.folder.path(), name, &arguments)
}

/// The only lease there is, once somebody holds it.
fn wait_for_lease(shop: &Shop, held: impl Fn(&Value) -> bool, log: &HpaController) -> Value {
    wait_for("the lease", LIMIT, || match shop.cluster.api.list(LEASES).as_slice() {
        [lease] if held(&lease["spec"]) => Ok(lease["spec"].clone()),
        leases => Err(format!("{leases:?}\n{}", log.log())),
    })
}

/// What a controller has written about the autoscaler or its target.
fn writes_of(shop: &Shop, name: &str) -> Vec<RequestRecord> {
    let requests = shop.cluster.api.requests().into_iter();
    let of = requests.filter(|request| request.user.uid == name);
    of.filter(|request| request.path.ends_with("/scale") || request.path.ends_with("/status"))
        .filter(|request| !matches!(request.verb.as_str(), "get" | "list" | "watch"))
        .collect()
}

#[test]
fn a_stopped_leader_is_replaced_and_writes_no_more() {
    let shop = Shop::start();
    let first = start(&shop, "first");
    let held = |spec: &Value| spec["holderIdentity"].as_str().is_some_and(|who| !who.is_empty());
    let lease = wait_for_lease(&shop, held, &first);
    let second = start(&shop, "second");
    shop.set_demand(4);
    shop.wait_for_replicas(4, &first);
    assert_eq!(writes_of(&shop, "second").len(), 0, "only the leader acts");

    first.pause();
    shop.cluster.api.clear_requests();
    shop.set_demand(7);
    let other = |spec: &Value| held(spec) && spec["holderIdentity"] != lease["holderIdentity"];
    let taken = wait_for_lease(&shop, other, &second);
    assert_eq!(
        taken["leaseTransitions"].as_i64(),
        lease["leaseTransitions"].as_i64().map(|n| n + 1)
    );
    shop.wait_for_replicas(7, &second);

    // It wakes up, finds that it no longer leads, and ends, as upstream's does, to be started anew.
    first.resume();
    shop.set_demand(3);
    let mut first = first;
    let status = first.wait();
    assert!(!status.success(), "{status}: {}", first.log());
    shop.wait_for_replicas(3, &second);
    wait_for_evaluations(&second, 2);
    let late = writes_of(&shop, "first");
    assert!(late.is_empty(), "{late:#?}");
    assert!(!writes_of(&shop, "second").is_empty());
    shop.check_bounds();
}

#[test]
fn a_leader_that_ends_hands_over_at_once() {
    let shop = Shop::start();
    let first = start(&shop, "first");
    let held = |spec: &Value| spec["holderIdentity"].as_str().is_some_and(|who| !who.is_empty());
    let lease = wait_for_lease(&shop, held, &first);
    let second = start(&shop, "second");
    shop.set_demand(4);
    shop.wait_for_replicas(4, &first);
    assert!(first.terminate().success());
    let other = |spec: &Value| held(spec) && spec["holderIdentity"] != lease["holderIdentity"];
    wait_for_lease(&shop, other, &second);
    shop.set_demand(2);
    shop.wait_for_replicas(2, &second);
    shop.check_bounds();
}
