//! `custom.metrics.k8s.io`

use serde_json::{Value, json};

use super::fake::{World, values};

const CONFIG: &str = r#"
rules:
- seriesQuery: '{namespace!="",__name__!~"^container_.*"}'
  resources: {template: "<<.Resource>>"}
  name: {matches: "^(.*)_total$"}
  metricsQuery: 'sum(rate(<<.Series>>{<<.LabelMatchers>>}[2m])) by (<<.GroupBy>>)'
- seriesQuery: 'load{node!=""}'
  resources: {template: "<<.Resource>>"}
  metricsQuery: 'max(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)'
- seriesQuery: 'scalar'
  resources: {overrides: {pod: {resource: pod}, namespace: {resource: namespace}}}
  metricsQuery: 'scalar(<<.Series>>{<<.LabelMatchers>>})'
"#;

const BASE: &str = "/apis/custom.metrics.k8s.io/v1beta2";

async fn world() -> World {
    let world = World::new(CONFIG, false, None).await;
    world.prometheus.has_series(
        "{namespace!=\"\",__name__!~\"^container_.*\"}",
        json!([
            {"__name__": "hits_total", "namespace": "web", "pod": "a", "deployment": "d"},
            {"__name__": "hits_total", "namespace": "web", "pod": "b"},
        ]),
    );
    world.prometheus.has_series("load{node!=\"\"}", json!([{"__name__": "load", "node": "n1"}]));
    world
        .prometheus
        .has_series("scalar", json!([{"__name__": "scalar", "pod": "a", "namespace": "web"}]));
    assert!(world.adapter.relist().await);
    world
}

fn pod(name: &str) -> Value {
    json!({"pod": name})
}

#[tokio::test]
async fn pods_that_a_selector_selects_have_values_from_one_query() {
    let world = world().await;
    let query = r#"sum(rate(hits_total{namespace="web",pod=~"a|b"}[2m])) by (pod)"#;
    world.prometheus.answers(query, &[(pod("a"), "1.5"), (pod("b"), "2000"), (pod("z"), "9")]);
    let path = format!("{BASE}/namespaces/web/pods/*/hits?labelSelector=app%3Dweb");
    let (status, list) = world.get(&path).await;
    assert_eq!(status, 200, "{list}");
    assert_eq!(world.prometheus.asked(), [query]);
    let item = |name: &str, value: &str| {
        json!({
            "describedObject":
                {"kind": "Pod", "namespace": "web", "name": name, "apiVersion": "/v1"},
            "metric": {"name": "hits", "selector": null},
            "timestamp": "2023-11-14T22:13:20Z",
            "windowSeconds": 120,
            "value": value,
        })
    };
    let expected = json!({
        "kind": "MetricValueList",
        "apiVersion": "custom.metrics.k8s.io/v1beta2",
        "metadata": {},
        "items": [item("a", "1500m"), item("b", "2k")],
    });
    assert_eq!(list, expected);
}

#[tokio::test]
async fn every_path_has_its_query() {
    let world = world().await;
    let first = |label: &str, name: &str| [(json!({label: name}), "7")];
    for (path, query, label, name) in [
        (
            "namespaces/web/pods/a/hits",
            r#"sum(rate(hits_total{namespace="web",pod="a"}[2m])) by (pod)"#,
            "pod",
            "a",
        ),
        (
            "namespaces/web/pod/a/hits",
            r#"sum(rate(hits_total{namespace="web",pod="a"}[2m])) by (pod)"#,
            "pod",
            "a",
        ),
        (
            "namespaces/web/deployments.apps/d/hits",
            r#"sum(rate(hits_total{namespace="web",deployment="d"}[2m])) by (deployment)"#,
            "deployment",
            "d",
        ),
        (
            "namespaces/web/metrics/hits",
            r#"sum(rate(hits_total{namespace="web"}[2m])) by (namespace)"#,
            "namespace",
            "web",
        ),
        ("nodes/n1/load", r#"max(load{node="n1"}) by (node)"#, "node", "n1"),
        ("nodes/*/load", r#"max(load{node=~"n1|n2"}) by (node)"#, "node", "n1"),
    ] {
        world.prometheus.answers(query, &first(label, name));
        let (status, list) = world.get(&format!("{BASE}/{path}")).await;
        assert_eq!(status, 200, "{path}: {list}");
        assert_eq!(world.prometheus.asked(), [query], "{path}");
        assert_eq!(values(&list).into_iter().collect::<Vec<_>>(), [(name.into(), "7".into())]);
        let namespace = &list["items"][0]["describedObject"]["namespace"];
        let namespaced = path.starts_with("namespaces/web/") && !path.contains("/metrics/");
        assert_eq!(namespace.is_null(), !namespaced, "{path}");
    }
}

#[tokio::test]
async fn series_are_selected_by_their_labels() {
    let world = world().await;
    let query = r#"sum(rate(hits_total{code=~"2..|3",namespace="web",pod="a"}[2m])) by (pod)"#;
    let query = query.replace("2..|3", "200|3");
    world.prometheus.answers(&query, &[(pod("a"), "1")]);
    let path = "namespaces/web/pods/a/hits?metricLabelSelector=code+in+(200,3)";
    let (_, list) = world.get(&format!("{BASE}/{path}")).await;
    let selector =
        json!({"matchExpressions": [{"key": "code", "operator": "In", "values": ["200", "3"]}]});
    assert_eq!(list["items"][0]["metric"], json!({"name": "hits", "selector": selector}));
    let older = format!("{BASE}/{path}").replace("v1beta2", "v1beta1");
    let (_, list) = world.get(&older).await;
    let item = &list["items"][0];
    assert_eq!(list["apiVersion"], "custom.metrics.k8s.io/v1beta1");
    assert_eq!((&item["metricName"], &item["selector"]), (&json!("hits"), &selector));
    assert_eq!((&item["window"], &item["windowSeconds"]), (&json!(120), &Value::Null));
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let world = world().await;
    for (path, message) in [
        ("namespaces/web/pods/a/hits", "the server could not find the metric hits for pods a"),
        ("namespaces/web/pods/*/hits", "the server could not find the metric hits for pods"),
        ("namespaces/none/pods/*/hits", "the server could not find the metric hits for pods"),
        ("namespaces/web/pods/*/none", "the server could not find the metric none for pods"),
        (
            "namespaces/web/widgets.x.io/a/hits",
            "the server could not find the metric hits for widgets.x.io",
        ),
        ("namespaces/web/nodes/n1/load", "the server could not find the metric load for nodes"),
        ("pods/a/hits", "the server could not find the metric hits for pods"),
    ] {
        let (status, text) = world.fails(&format!("{BASE}/{path}")).await;
        assert_eq!((status, text.as_str()), (404, message), "{path}");
    }
    let unknown = "the server could not find the requested resource";
    for path in [
        "v3/nodes/n1/load",
        "v1beta2/nodes/n1",
        "v1beta2/a/b/c/d",
        "v1beta2/nodes//load",
        "v1beta2/namespaces/web%2Fx/pods/a/hits",
    ] {
        let path = format!("/apis/custom.metrics.k8s.io/{path}");
        assert_eq!(world.fails(&path).await, (404, String::from(unknown)), "{path}");
    }
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused() {
    let world = world().await;
    for (path, part) in [
        ("namespaces/web/hits", "invalid request path"),
        ("namespaces/web/pods/*/hits?labelSelector=a%20b", "found 'b'"),
        ("namespaces/web/pods/*/hits?metricLabelSelector=,", "found ','"),
        (
            "namespaces/web/pods/*/hits?metricLabelSelector=a%3E1",
            "isn't supported in label selectors",
        ),
        ("namespaces/web/pods/a%22%7D/hits", "is not the name of an object"),
        (
            "namespaces/web/pods/a/hits?fieldSelector=metadata.name%3Db",
            "doesn't match requested name",
        ),
    ] {
        let (status, text) = world.fails(&format!("{BASE}/{path}")).await;
        assert!(status == 400 && text.contains(part), "{path}: {status} {text}");
    }
    assert_eq!(world.prometheus.asked(), [""; 0]);
}

/// What is not a number is never zero.
#[tokio::test]
async fn values_that_are_none_are_errors_or_left_out() {
    let world = world().await;
    let one = r#"sum(rate(hits_total{namespace="web",pod="a"}[2m])) by (pod)"#;
    for (value, reason) in [("NaN", "NaN"), ("+Inf", "+Inf"), ("-Inf", "-Inf")] {
        world.prometheus.answers(one, &[(pod("a"), value)]);
        let (status, text) = world.fails(&format!("{BASE}/namespaces/web/pods/a/hits")).await;
        let expected = format!("metric hits: rules[0]: pods a: the value is {reason}");
        assert_eq!(status, 500);
        assert!(text.ends_with(&expected), "{text}");
    }
    let both = r#"sum(rate(hits_total{namespace="web",pod=~"a|b"}[2m])) by (pod)"#;
    world.prometheus.answers(both, &[(pod("a"), "NaN"), (pod("b"), "0")]);
    let path = format!("{BASE}/namespaces/web/pods/*/hits?labelSelector=app%3Dweb");
    let (status, headers, body) = world.get_with(&path, &[]).await;
    assert_eq!(status, 200);
    let list: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(values(&list).into_iter().collect::<Vec<_>>(), [("b".into(), "0".into())]);
    assert_eq!(headers["warning"], "299 - \"metric hits: left out: pods a: the value is NaN\"");
    world.prometheus.answers(both, &[(pod("a"), "NaN"), (pod("b"), "NaN")]);
    let (status, text) = world.fails(&path).await;
    assert!(status == 500 && text.contains("pods a: the value is NaN; pods b"), "{text}");
    world.prometheus.answers(both, &[(pod("b"), "1")]);
    let (_, list) = world.get(&path).await;
    assert_eq!(values(&list).len(), 1);
}

#[tokio::test]
async fn failures_say_which_rule_and_why() {
    let world = world().await;
    let query = r#"sum(rate(hits_total{namespace="web",pod="a"}[2m])) by (pod)"#;
    let error = json!("query timed out in expression evaluation");
    world.prometheus.answers.lock().insert(String::from(query), error);
    let (status, text) = world.fails(&format!("{BASE}/namespaces/web/pods/a/hits")).await;
    assert_eq!(status, 500);
    let url = &world.url;
    let expected = format!(
        "metric hits: rules[0]: {url}/api/v1/query: execution: query timed out in expression evaluation"
    );
    assert!(text.ends_with(&expected), "{text}");
    let scalar = r#"scalar(scalar{namespace="web",pod="a"})"#;
    let answer = json!({"resultType": "scalar", "result": [1, "1"]});
    world.prometheus.answers.lock().insert(String::from(scalar), answer);
    let (status, text) = world.fails(&format!("{BASE}/namespaces/web/pods/a/scalar")).await;
    assert!(status == 500 && text.contains("gives a scalar instead of a vector"), "{text}");
    let (status, text) =
        world.fails(&format!("{BASE}/namespaces/web/deployments.apps/*/hits")).await;
    assert!(
        status == 500 && text.ends_with("unable to list deployments.apps: forbidden"),
        "{text}"
    );
}

#[tokio::test]
async fn metrics_do_not_vanish_when_a_list_cannot_be_read() {
    let world = World::new(CONFIG, false, None).await;
    let path = format!("{BASE}/namespaces/web/pods/a/hits");
    let (status, text) = world.fails(&path).await;
    assert_eq!((status, text.as_str()), (503, "the list of metrics has not been read yet"));
    world.prometheus.breaks(true);
    assert!(!world.adapter.relist().await);
    let (status, text) = world.fails(&path).await;
    assert!(status == 503 && text.contains("unavailable: starting up"), "{text}");
    world.prometheus.breaks(false);
    let all = "{namespace!=\"\",__name__!~\"^container_.*\"}";
    let series = json!([{"__name__": "hits_total", "namespace": "web", "pod": "a"}]);
    world.prometheus.has_series(all, series);
    assert!(world.adapter.relist().await);
    let query = r#"sum(rate(hits_total{namespace="web",pod="a"}[2m])) by (pod)"#;
    world.prometheus.answers(query, &[(pod("a"), "1")]);
    assert_eq!(world.get(&path).await.0, 200);
    world.prometheus.breaks(true);
    assert!(!world.adapter.relist().await);
    world.prometheus.breaks(false);
    assert_eq!(world.get(&path).await.0, 200);
    world.prometheus.has_series(all, json!([]));
    assert!(world.adapter.relist().await);
    assert_eq!(world.get(&path).await.0, 404);
}

#[tokio::test]
async fn metrics_are_discovered() {
    let world = world().await;
    let (_, list) = world.get(BASE).await;
    let resource = |name: &str, namespaced: bool| {
        json!({"name": name, "singularName": "", "namespaced": namespaced,
            "kind": "MetricValueList", "verbs": ["get"]})
    };
    let expected = json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": "custom.metrics.k8s.io/v1beta2",
        "resources": [
            resource("deployments.apps/hits", true),
            resource("namespaces/hits", false),
            resource("namespaces/scalar", false),
            resource("nodes/load", false),
            resource("pods/hits", true),
            resource("pods/scalar", true),
        ],
    });
    assert_eq!(list, expected);
    let (_, group) = world.get("/apis/custom.metrics.k8s.io").await;
    assert_eq!(group["preferredVersion"]["version"], "v1beta2");
    assert_eq!(group["versions"].as_array().unwrap().len(), 2);
    assert_eq!(world.adapter.groups().len(), 1);
}

#[tokio::test]
async fn values_and_errors_are_in_protobuf_where_that_is_preferred() {
    let world = world().await;
    let query = r#"sum(rate(hits_total{namespace="web",pod="a"}[2m])) by (pod)"#;
    world.prometheus.answers(query, &[(pod("a"), "1.5")]);
    let accept = [("accept", "application/vnd.kubernetes.protobuf,application/json")];
    for (path, status, kind) in [
        ("namespaces/web/pods/a/hits", 200, &b"MetricValueList"[..]),
        ("namespaces/web/pods/none/hits", 404, b"Status"),
    ] {
        let (got, headers, body) = world.get_with(&format!("{BASE}/{path}"), &accept).await;
        assert_eq!(
            (got, headers["content-type"].to_str().unwrap()),
            (status, "application/vnd.kubernetes.protobuf")
        );
        assert!(body.starts_with(b"k8s\0"), "{path}");
        assert!(body.windows(kind.len()).any(|part| part == kind), "{path}");
    }
}

#[tokio::test]
async fn the_source_and_the_age_of_values_are_measured() {
    let world = world().await;
    let query = r#"sum(rate(hits_total{namespace="web",pod="a"}[2m])) by (pod)"#;
    world.prometheus.answers(query, &[(pod("a"), "1.5")]);
    let (status, _) = world.get(&format!("{BASE}/namespaces/web/pods/a/hits")).await;
    assert_eq!(status, 200);
    world.prometheus.breaks(true);
    assert_eq!(world.get(&format!("{BASE}/namespaces/web/pods/a/hits")).await.0, 500);
    let labels = format!(r#"{{path="/api/v1/query",server="{}"}}"#, world.url);
    let requests = "prometheus_adapter_prometheus_client_request_duration_seconds_count";
    assert!(world.own_metrics(requests).contains(&format!("{requests}{labels} 2")));
    let failures = "prometheus_adapter_prometheus_client_request_failures_total";
    assert!(world.own_metrics(failures).contains(&format!("{failures}{labels} 1")));
    let ages = "metrics_apiserver_metric_freshness_seconds_count";
    let custom = format!(r#"{ages}{{group="custom.metrics.k8s.io"}} 1"#);
    assert!(world.own_metrics(ages).contains(&custom));
}

#[tokio::test]
async fn discovery_is_json_or_yaml() {
    let world = world().await;
    for (accept, status, kind) in [
        ("application/vnd.kubernetes.protobuf, */*", 200, "application/json"),
        ("application/vnd.kubernetes.protobuf,application/json", 200, "application/json"),
        ("application/yaml", 200, "application/yaml"),
        ("application/vnd.kubernetes.protobuf", 200, "application/json"),
        ("text/html", 406, "application/json"),
    ] {
        let (got, headers, body) = world.get_with(BASE, &[("accept", accept)]).await;
        assert_eq!((got, headers["content-type"].to_str().unwrap()), (status, kind), "{accept}");
        let text = String::from_utf8(body).unwrap();
        assert_eq!(text.starts_with("apiVersion: v1\n"), kind == "application/yaml", "{text}");
    }
}
