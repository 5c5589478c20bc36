//! Custom and external metrics by way of the API server, answered from our own Prometheus API.

use serde_json::{Value, json};
use tests::harness::{Sextant, wait_for};

use super::fixture::{Fixture, LIMIT};
use super::series::{Constant, write_series};

const RULES: &str = r#"
rules:
- seriesQuery: 'http_in_flight{namespace!="",pod!=""}'
  resources:
    overrides:
      namespace: {resource: namespace}
      pod: {resource: pod}
  name: {matches: "^http_(.*)$", as: "requests_$1"}
  metricsQuery: 'sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)'
externalRules:
- seriesQuery: 'queue_depth'
  resources: {namespaced: false}
  metricsQuery: 'max(<<.Series>>{<<.LabelMatchers>>}) by (queue)'
"#;

/// What the last minute had, every 5 s.
const SERIES: [Constant<'_>; 4] = [
    (&[("__name__", "http_in_flight"), ("namespace", "team-a"), ("pod", "web-1")], 3.5),
    (&[("__name__", "http_in_flight"), ("namespace", "team-a"), ("pod", "db-1")], 8.0),
    (&[("__name__", "queue_depth"), ("queue", "mail")], 7.0),
    (&[("__name__", "queue_depth"), ("queue", "orders")], 11.0),
];

#[test]
fn metrics_of_pods_and_of_queues_are_what_prometheus_says() {
    let data = tempfile::tempdir().unwrap();
    write_series(data.path(), &SERIES);
    let prometheus = Sextant::server(data.path(), "scrape_configs: []\n");
    let rules = data.path().join("adapter.yml");
    std::fs::write(&rules, RULES).unwrap();
    let url = format!("--prometheus-url=http://127.0.0.1:{}", prometheus.port);
    let rules = format!("--config={}", rules.display());
    let Some(fixture) = Fixture::start_with(&[&url, &rules]) else { return };
    for (group, version) in
        [("custom.metrics.k8s.io", "v1beta2"), ("external.metrics.k8s.io", "v1beta1")]
    {
        fixture.cluster.register(group, version, None);
    }
    let custom = "/apis/custom.metrics.k8s.io/v1beta2";
    let get = |path: &str| {
        wait_for(path, LIMIT, || {
            let ran = fixture.kubectl.try_run(&["get", "--raw", path], "");
            let log = || format!("{ran:?}\n{}", fixture.server.log());
            if ran.success {
                serde_json::from_str::<Value>(&ran.stdout).map_err(|_| log())
            } else {
                Err(log())
            }
        })
    };
    let list = get(&format!(
        "{custom}/namespaces/team-a/pods/*/requests_in_flight?labelSelector=app%3Dweb"
    ));
    assert_eq!(list["kind"], "MetricValueList");
    let items = list["items"].as_array().unwrap();
    assert_eq!(items.len(), 1, "{list}");
    assert_eq!(items[0]["describedObject"]["kind"], "Pod");
    assert_eq!(items[0]["describedObject"]["namespace"], "team-a");
    assert_eq!(items[0]["describedObject"]["name"], "web-1");
    assert_eq!(items[0]["metric"]["name"], "requests_in_flight");
    assert_eq!(items[0]["value"], "3500m");
    let one = get(&format!("{custom}/namespaces/team-a/pods/db-1/requests_in_flight"));
    assert_eq!(one["items"][0]["value"], "8");

    let external = "/apis/external.metrics.k8s.io/v1beta1/namespaces/team-a/queue_depth";
    let list = get(&format!("{external}?labelSelector=queue%3Dmail"));
    assert_eq!(list["kind"], "ExternalMetricValueList");
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1), "{list}");
    assert_eq!(list["items"][0]["metricName"], "queue_depth");
    assert_eq!(list["items"][0]["metricLabels"], json!({ "queue": "mail" }));
    assert_eq!(list["items"][0]["value"], "7");
    let absent = format!("{custom}/namespaces/team-a/pods/web-1/absent");
    let refused = fixture.kubectl.fail(&["get", "--raw", &absent]);
    assert!(refused.contains("(NotFound)"), "{refused}");
}
