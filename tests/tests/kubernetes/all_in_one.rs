//! `sextant --kubernetes`: a server, the metrics APIs over its own store and the autoscaler, in one process.

use std::sync::Arc;

use tests::harness::kube::{
    Cluster, ClusterOptions, Credentials, Kubectl, Load, User, Workload, Workloads, cpu_autoscaler,
};
use tests::harness::{Sextant, free_port, get, wait_for};

use super::fixture::LIMIT;

const RULES: &str = "
externalRules:
- seriesQuery: 'up{job=\"sextant\"}'
  resources: {namespaced: false}
  name: {as: our_own_health}
  metricsQuery: 'min(<<.Series>>{<<.LabelMatchers>>})'
";

#[test]
fn one_process_collects_and_serves_the_metrics_apis() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Arc::new(Cluster::start(&ClusterOptions::default()));
    let workloads = Workloads::start(&cluster);
    workloads.add(Workload::new("shop", "web", 2, Load::constant(500)));
    cluster.api.put(cpu_autoscaler("shop", "web", (3, 10), 50));
    let Some(kubectl) = Kubectl::find(&cluster.api.admin_kubeconfig(folder.path())) else { return };
    // Whoever tries this out on his own machine may do everything there.
    let user = User::new("all-in-one", &["system:masters"]);
    let token = "token-of-all-in-one";
    cluster.api.access().put_token(token, User { uid: String::from("all-in-one"), ..user });
    let token = Credentials::Token(String::from(token));
    let kubeconfig = cluster.api.kubeconfig(folder.path(), "all-in-one", &token);
    let rules = folder.path().join("adapter.yml");
    std::fs::write(&rules, RULES).unwrap();
    let kubelet_ca = folder.path().join("kubelet-ca.crt");
    std::fs::write(&kubelet_ca, cluster.api.pki().kubelet.pem()).unwrap();
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
    let hpa_port = free_port();
    let arguments = [
        format!("--kubernetes.hpa-listen-address=127.0.0.1:{hpa_port}"),
        format!("--kubernetes={}", kubeconfig.display()),
        format!("--kubernetes.listen-address={address}"),
        format!("--kubernetes.cert-dir={}", folder.path().join("certificates").display()),
        format!("--kubernetes.kubelet-certificate-authority={}", kubelet_ca.display()),
        format!("--kubernetes.adapter-config={}", rules.display()),
        String::from("--kubernetes.kubelet-allow-loopback"),
        String::from("--kubernetes.metric-resolution=10s"),
    ];
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let sextant = Sextant::start(folder.path(), free_port(), &arguments);
    cluster.serve_metrics_at(vec![address]);
    cluster.register("metrics.k8s.io", "v1beta1", None);
    cluster.register("external.metrics.k8s.io", "v1beta1", None);

    wait_for("usage of both nodes", LIMIT, || {
        let ran = kubectl.try_run(&["top", "nodes", "--no-headers"], "");
        let measured = ran.stdout.lines().filter(|line| line.contains("Mi")).count();
        if measured == 2 { Ok(()) } else { Err(format!("{ran:?}\n{}", sextant.log())) }
    });
    // The server's own store answers, without a connection to it.
    let path = "/apis/external.metrics.k8s.io/v1beta1/namespaces/any/our_own_health";
    let list = wait_for("a value of the store", LIMIT, || {
        let ran = kubectl.try_run(&["get", "--raw", path], "");
        let read = serde_json::from_str::<serde_json::Value>(&ran.stdout);
        read.map_err(|_| format!("{ran:?}\n{}", sextant.log()))
    });
    assert_eq!(list["items"][0]["value"], "1", "{list}");
    assert_eq!(sextant.query("up{job=\"sextant\"}", None).len(), 1);
    // The autoscaler decides: two replicas are fewer than there must be. And it leaves them alone.
    let decisions = wait_for("a decision", LIMIT, || {
        let answer = get(hpa_port, "/api/v1/hpa/shop/web")?;
        if answer.status == 200 { Ok(answer.body) } else { Err(sextant.log()) }
    });
    assert!(decisions.contains(r#""mode":"shadow""#), "{decisions}");
    let mut writes = cluster.api.requests().into_iter().filter(|request| {
        // Reviews of callers are created, which changes nothing.
        let reads = ["get", "list", "watch"].contains(&request.verb.as_str());
        request.user.uid == "all-in-one" && !reads && !request.path.contains("reviews")
    });
    let written = writes.next();
    assert!(written.is_none(), "{written:#?}");
    assert!(sextant.terminate().success());
}

#[test]
fn a_cluster_that_cannot_be_found_ends_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let absent = folder.path().join("absent");
    let failed = tests::harness::run_to_end(&[
        format!("--kubernetes={}", absent.display()),
        format!("--web.listen-address=127.0.0.1:{}", free_port()),
        format!("--storage.tsdb.path={}", folder.path().join("data").display()),
    ]);
    assert_eq!(failed.code, Some(1), "{}", failed.stderr);
    assert!(failed.stderr.contains("absent"), "{}", failed.stderr);
}
