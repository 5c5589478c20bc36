//! Our metrics server when what it depends on breaks off, and what it tells of itself.

use tests::harness::kube::{Behaviour, Effect, Fault, HttpsRequest, PodUse, Subject};
use tests::harness::wait_for;

use super::fixture::{Fixture, LIMIT, names};

#[test]
fn watches_go_on_after_the_api_server_forgot_and_hung_up() {
    let Some(fixture) = Fixture::start() else { return };
    let api = &fixture.cluster.api;
    let ready = || {
        let request = HttpsRequest::default();
        request.get(fixture.server.address(), "/readyz").unwrap().status
    };
    assert_ne!(ready(), 200, "there is no rate yet");
    fixture.measure();
    wait_for("readiness", LIMIT, || match ready() {
        200 => Ok(()),
        status => Err(format!("{status}\n{}", fixture.server.log())),
    });
    let watch = fixture.kubectl.spawn(&["get", "podmetrics", "-n", "team-b", "-w", "-o", "name"]);
    wait_for("the first event", LIMIT, || match watch.lines() {
        lines if lines == ["podmetrics.metrics.k8s.io/web-2"] => Ok(()),
        lines => Err(format!("{lines:?}\n{}", fixture.server.log())),
    });

    // The next watch is refused once, and then its version is gone.
    api.inject(Fault::new("/api/v1/pods", Effect::Status(503)).times(1));
    api.compact();
    api.close_connections();
    let (container, mut pod) = fixture.cluster.kubelets.edit(1, |node| {
        let pod = node.pods[0].clone();
        (pod.containers[0].clone(), PodUse { containers: Vec::new(), ..pod })
    });
    pod.name = String::from("late-1");
    pod.containers.push(container);
    fixture.cluster.add_pod(1, pod);
    fixture.sample(2);
    fixture.wait_for_scrapes(1);
    fixture.sample(3);
    let both = |list: &serde_json::Value| names(list) == ["late-1", "web-2"];
    fixture.wait_for_raw("/namespaces/team-b/pods", both);
    fixture.cluster.remove_pod(1, "team-b", "late-1");
    let one = |list: &serde_json::Value| names(list) == ["web-2"];
    fixture.wait_for_raw("/namespaces/team-b/pods", one);
}

#[test]
fn metrics_of_its_own_have_upstreams_names() {
    let Some(fixture) = Fixture::start() else { return };
    fixture.measure();
    let request = HttpsRequest::default();
    assert_eq!(request.get(fixture.server.address(), "/metrics").unwrap().status, 403);
    let admin =
        Subject { common_name: "admin", organizations: &["system:masters"], ..Subject::default() };
    let identity = fixture.cluster.api.pki().client.issue(&admin);
    let request = HttpsRequest { identity: Some(&identity), ..HttpsRequest::default() };
    let metrics = request.get(fixture.server.address(), "/metrics").unwrap().body;
    for name in [
        "metrics_server_kubelet_request_duration_seconds_count{node=\"node-00000\"} ",
        "metrics_server_kubelet_request_total{success=\"true\"} ",
        "metrics_server_kubelet_request_total{success=\"false\"} ",
        "metrics_server_kubelet_last_request_time_seconds{node=\"node-00001\"} ",
        "metrics_server_manager_tick_duration_seconds_count ",
        "metrics_server_api_metric_freshness_seconds_count ",
        "metrics_server_storage_points{type=\"node\"} ",
        "metrics_server_storage_points{type=\"container\"} ",
    ] {
        assert!(metrics.contains(name), "{name}: {metrics}");
    }
}

#[test]
fn answers_of_kubelets_are_bounded_and_parsed_as_a_whole() {
    let Some(fixture) = Fixture::start() else { return };
    fixture.measure();
    // A kubelet that says more than any node has to say is not believed; the others are.
    let kubelets = &fixture.cluster.kubelets;
    let behave = |behaviour| kubelets.edit(1, |node| node.behaviour = behaviour);
    behave(Behaviour::Oversize(256 << 20));
    fixture.sample(2);
    fixture.wait_for_raw("/nodes/node-00000", |node| node["timestamp"] == fixture.at(2).as_str());
    fixture.wait_for_scrapes(1);
    assert_eq!(fixture.raw("/nodes/node-00001")["timestamp"], fixture.at(1).as_str());
    behave(Behaviour::Garbage(b"<html>Please log in.</html>".to_vec()));
    fixture.wait_for_scrapes(1);
    assert_eq!(fixture.raw("/nodes/node-00001")["timestamp"], fixture.at(1).as_str());
    behave(Behaviour::Serve);
    fixture.wait_for_raw("/nodes/node-00001", |node| node["timestamp"] == fixture.at(2).as_str());
}
