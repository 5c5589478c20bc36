//! The harness's kubelets, asked as metrics-server asks them.

use std::net::SocketAddr;
use std::time::Duration;

use tests::harness::kube::{
    Behaviour, Cluster, ClusterOptions, HttpsRequest, Kubelets, METRICS_SERVER_TOKEN, Sampling,
    Subject, User,
};
use tests::harness::{Answer, wait_for};

const LIMIT: Duration = Duration::from_secs(30);

fn ask(cluster: &Cluster, node: usize, token: &str) -> Result<Answer, String> {
    let ip = Kubelets::address(node);
    let authorization = format!("Bearer {token}");
    let request = HttpsRequest {
        verify: Some((&ip.to_string(), &cluster.api.pki().kubelet)),
        headers: &[("Authorization", &authorization)],
        ..HttpsRequest::default()
    };
    request.get(SocketAddr::new(ip, cluster.kubelets.port()), "/metrics/resource")
}

#[test]
fn each_address_is_a_node_of_its_own() {
    let cluster = Cluster::start(&ClusterOptions { nodes: 300, ..ClusterOptions::default() });
    cluster.kubelets.edit_all(|node| node.sampling = Sampling::At(4_000_000_000_000));
    for node in [0, 1, 254, 255, 299] {
        let answer = ask(&cluster, node, METRICS_SERVER_TOKEN).unwrap();
        assert_eq!(answer.status, 200);
        let line = format!("namespace=\"team-001\",pod=\"web-001-{node:05}\"}} ");
        assert!(answer.body.contains(&line), "{}", answer.body);
        assert!(answer.body.contains(" 4000000000000\n"), "{}", answer.body);
        assert_eq!(cluster.kubelets.edit(node, |node| node.scrapes), 1);
    }
    let nobody = SocketAddr::new(Kubelets::address(300), cluster.kubelets.port());
    assert!(HttpsRequest::default().get(nobody, "/metrics/resource").is_err());
}

#[test]
fn kubelets_ask_who_it_is() {
    let cluster = Cluster::start(&ClusterOptions { nodes: 1, ..ClusterOptions::default() });
    assert_eq!(ask(&cluster, 0, "unknown").unwrap().status, 401);
    cluster.api.access().put_token("other", User::service_account("default", "other"));
    let refused = ask(&cluster, 0, "other").unwrap();
    assert_eq!(refused.status, 403);
    assert_eq!(
        refused.body,
        "Forbidden (user=system:serviceaccount:default:other, verb=get, resource=nodes, \
         subresource(s)=[metrics])\n"
    );
    let subject = Subject {
        common_name: "kubelet-client",
        organizations: &["system:masters"],
        ..Subject::default()
    };
    let identity = cluster.api.pki().client.issue(&subject);
    let request = HttpsRequest { identity: Some(&identity), ..HttpsRequest::default() };
    let address = SocketAddr::new(Kubelets::address(0), cluster.kubelets.port());
    assert_eq!(request.get(address, "/metrics/resource").unwrap().status, 200);
    assert_eq!(request.get(address, "/pods").unwrap().status, 404);
}

#[test]
fn kubelets_misbehave_on_demand() {
    let cluster = Cluster::start(&ClusterOptions { nodes: 1, ..ClusterOptions::default() });
    let behave = |behaviour| cluster.kubelets.edit(0, |node| node.behaviour = behaviour);
    behave(Behaviour::Refuse);
    assert!(ask(&cluster, 0, METRICS_SERVER_TOKEN).is_err());
    behave(Behaviour::Status(503));
    assert_eq!(ask(&cluster, 0, METRICS_SERVER_TOKEN).unwrap().status, 503);
    behave(Behaviour::Garbage(b"\xff{".to_vec()));
    assert_eq!(ask(&cluster, 0, METRICS_SERVER_TOKEN).unwrap().body.chars().last(), Some('{'));
    behave(Behaviour::Oversize(1 << 20));
    assert!(ask(&cluster, 0, METRICS_SERVER_TOKEN).unwrap().body.len() >= 1 << 20);
    behave(Behaviour::Drip(500, Duration::from_millis(1)));
    let whole = ask(&cluster, 0, METRICS_SERVER_TOKEN).unwrap().body;
    assert!(whole.ends_with("resource_scrape_error 0\n"), "{whole}");
    behave(Behaviour::Hang);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask(&cluster, 0, METRICS_SERVER_TOKEN));
        wait_for("the end", LIMIT, || {
            cluster.kubelets.close_connections();
            if asking.is_finished() { Ok(()) } else { Err(String::from("it still waits")) }
        });
        assert!(asking.join().unwrap().is_err());
    });
}
