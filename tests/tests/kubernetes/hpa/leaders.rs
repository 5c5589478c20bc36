//! Two controllers, of which one may write.

use serde_json::Value;
use tests::harness::kube::{HpaController, RequestRecord};
use tests::harness::wait_for;

use super::fixture::{LIMIT, Shop, wait_for_evaluations};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/sextant/leases";

fn start(shop: &Shop, name: &str) -> HpaController {
    start_with(shop, name, &[])
}

fn start_with(shop: &Shop, name: &str, more: &[&str]) -> HpaController {
    let arguments = [
        "--leader-elect=true",
        "--leader-elect-lease-duration=4s",
        "--leader-elect-renew-deadline=3s",
        "--leader-elect-retry-period=500ms",
    ];
    let arguments = [&arguments[..], more].concat();
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

/// The state that the leader has written for the next one.
fn saved(shop: &Shop) -> String {
    let maps = shop.cluster.api.list("/api/v1/namespaces/sextant/configmaps");
    let state = maps.iter().filter(|map| {
        let name = map["metadata"]["name"].as_str().unwrap_or_default();
        name.starts_with("sextant-hpa-controller-state-")
    });
    state.map(|map| format!("{} {}", map["data"], map["binaryData"])).collect()
}

#[test]
fn a_leader_that_dies_leaves_its_memory() {
    const WINDOW_MS: i64 = 60_000;
    let shop = Shop::start();
    let window = "--horizontal-pod-autoscaler-downscale-stabilization=60s";
    let first = start_with(&shop, "first", &[window]);
    let held = |spec: &Value| spec["holderIdentity"].as_str().is_some_and(|who| !who.is_empty());
    let lease = wait_for_lease(&shop, held, &first);
    let second = start_with(&shop, "second", &[window]);
    shop.set_demand(7);
    shop.wait_for_replicas(7, &first);
    // What it wrote before says nothing of seven.
    let before = saved(&shop);
    wait_for("state", LIMIT, || match saved(&shop) {
        now if now != before => Ok(()),
        now => Err(format!("{now}\n{}", first.log())),
    });

    first.kill();
    shop.cluster.api.clear_requests();
    shop.set_demand(2);
    let other = |spec: &Value| held(spec) && spec["holderIdentity"] != lease["holderIdentity"];
    let taken = wait_for_lease(&shop, other, &second);
    let taken = taken["acquireTime"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    // All that the metrics ask for is two; seven, which it never decided itself, is remembered.
    let explained: Value = wait_for("a decision", LIMIT, || {
        let answer = second.get("/api/v1/hpa/shop/web/explain")?;
        let explained = if answer.status == 200 { answer.json() } else { Value::Null };
        if explained["proposedReplicas"] == 2 {
            Ok(explained)
        } else {
            Err(format!("{explained:#}\n{}", second.log()))
        }
    });
    assert_eq!(explained["desiredReplicas"], 7, "{explained:#}");
    let stabilization = &explained["stabilization"];
    assert_eq!(stabilization["reason"], "ScaleDownStabilized", "{stabilization:#}");
    let remembered = stabilization["recommendations"].as_array().unwrap().iter();
    let sevens = remembered.filter(|one| one["replicas"] == 7);
    let sevens: Vec<_> = sevens.filter_map(|one| one["at"].as_i64()).collect();
    let oldest = *sevens.iter().min().expect("seven is remembered");
    assert!(oldest < taken.as_millisecond(), "of the one before: {explained:#}");
    let newest = *sevens.iter().max().expect("seven is remembered");

    // It goes down when the window is over, and not before.
    shop.wait_for_replicas(2, &second);
    let downs = writes_of(&shop, "second").into_iter();
    let downs = downs.filter(|write| write.written_replicas().is_some_and(|count| count < 7));
    let down = downs.map(|write| write.at_ms).min().expect("it was scaled down");
    assert!(down >= newest + WINDOW_MS, "{down} is within the window of {newest}");
    shop.check_bounds();
}
