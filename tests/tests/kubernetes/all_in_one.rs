//! `sextant --kubernetes`: a server and the metrics APIs over its own store, in one process.

use tests::harness::kube::{Cluster, ClusterOptions, Credentials, Kubectl, METRICS_SERVER_TOKEN};
use tests::harness::{Sextant, free_port, wait_for};

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
    let cluster = Cluster::start(&ClusterOptions::default());
    let Some(kubectl) = Kubectl::find(&cluster.api.admin_kubeconfig(folder.path())) else { return };
    let token = Credentials::Token(String::from(METRICS_SERVER_TOKEN));
    let kubeconfig = cluster.api.kubeconfig(folder.path(), "metrics-server", &token);
    let rules = folder.path().join("adapter.yml");
    std::fs::write(&rules, RULES).unwrap();
    let kubelet_ca = folder.path().join("kubelet-ca.crt");
    std::fs::write(&kubelet_ca, cluster.api.pki().kubelet.pem()).unwrap();
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
    let arguments = [
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
