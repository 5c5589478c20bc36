//! What the autoscaler depends on breaks off and comes back.

use tests::harness::kube::{Behaviour, Effect, Fault, HpaController};
use tests::harness::wait_for;

use super::fixture::{LIMIT, Shop, wait_for_evaluations};

/// Waits until it has tried, whether or not it could find out anything.
fn wait_for_requests(shop: &Shop, controller: &HpaController, count: usize) {
    shop.cluster.api.clear_requests();
    wait_for("requests", LIMIT, || match shop.cluster.api.requests().len() {
        seen if seen >= count => Ok(()),
        seen => Err(format!("{seen}\n{}", controller.log())),
    });
}

#[test]
fn without_metrics_nothing_is_scaled_down() {
    let mut shop = Shop::start();
    shop.set_demand(4);
    let controller = shop.control(&[]);
    shop.wait_for_replicas(4, &controller);
    assert!(shop.metrics.terminate_in_place().success());
    // It would be scaled down to two, if anybody knew.
    shop.set_demand(1);
    let failed = ("False", "FailedGetResourceMetric");
    shop.wait_for_condition("ScalingActive", failed, &controller);
    let message = shop.wait_for_event("FailedGetResourceMetric", &controller);
    assert!(message.contains("unable to fetch metrics from resource metrics API"), "{message}");
    shop.wait_for_event("FailedComputeMetricsReplicas", &controller);
    shop.cluster.api.clear_requests();
    wait_for_evaluations(&controller, 5);
    let writes = shop.scale_writes();
    assert!(writes.is_empty(), "{writes:#?}");

    shop.restart_metrics();
    shop.wait_for_replicas(2, &controller);
    shop.wait_for_condition("ScalingActive", ("True", "ValidMetricFound"), &controller);
    shop.check_bounds();
}

#[test]
fn pods_of_a_silent_node_hold_replicas_back() {
    let shop = Shop::start();
    shop.set_demand(4);
    let controller = shop.control(&[]);
    shop.wait_for_replicas(4, &controller);
    // Half of the pods are on it. They are taken to use what is aimed at when the others use less, and the others do.
    shop.cluster.kubelets.edit(1, |node| node.behaviour = Behaviour::Refuse);
    shop.wait_for_metrics(2);
    shop.cluster.api.clear_requests();
    shop.set_demand(1);
    wait_for_evaluations(&controller, 8);
    let fewest = shop.scale_writes().iter().filter_map(|write| write.written_replicas()).min();
    assert!(fewest.is_none_or(|fewest| fewest >= 3), "{:#?}", shop.scale_writes());
    shop.cluster.kubelets.edit(1, |node| node.behaviour = Behaviour::Serve);
    shop.wait_for_replicas(2, &controller);
    shop.check_bounds();
}

#[test]
fn it_goes_on_after_the_api_server_forgot_and_hung_up() {
    let shop = Shop::start();
    let controller = shop.control(&[]);
    shop.wait_for_condition("ScalingActive", ("True", "ValidMetricFound"), &controller);

    // Every watch breaks off, and its version is gone.
    shop.cluster.api.compact();
    shop.cluster.api.close_connections();
    shop.set_demand(4);
    shop.wait_for_replicas(4, &controller);

    // Nothing is answered for a while, then all watches begin anew while lists fail at first.
    shop.cluster.api.inject(Fault::new("/", Effect::Status(503)));
    shop.cluster.api.close_connections();
    wait_for_requests(&shop, &controller, 5);
    shop.cluster.api.compact();
    shop.set_demand(7);
    shop.cluster.api.clear_faults();
    for collection in ["/api/v1/pods", "/apis/autoscaling/v2/horizontalpodautoscalers"] {
        shop.cluster.api.inject(Fault::new(collection, Effect::Status(500)).times(2));
    }
    shop.wait_for_replicas(7, &controller);

    // A watch that is told that its version is gone in the middle of the stream.
    shop.cluster.api.inject(Fault::new("/api/v1/pods", Effect::Status(410)).verb("watch").times(1));
    shop.cluster.api.close_watches();
    shop.set_demand(2);
    shop.wait_for_replicas(2, &controller);
    shop.check_bounds();
    assert!(controller.terminate().success());
}
