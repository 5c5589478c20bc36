//! Metrics without rules, and forged labels.

use serde_json::{Value, json};

use super::fake::{World, values};

const PATH: &str = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/web/pods/*";

const CONFIGURATION: &str = r"
remote_read: []
scrape_configs:
- job_name: pods
  kubernetes_sd_configs: [{role: pod, kubeconfig_file: ''}]
  metric_relabel_configs:
  - {action: drop, source_labels: [__name__], regex: go_.*}
  - {action: labeldrop, regex: uid}
  - {source_labels: [code], target_label: class, regex: '(.).*'}
- job_name: static
  static_configs: [{targets: ['x:1']}]
- job_name: mixed
  kubernetes_sd_configs: [{role: pod}]
  http_sd_configs: [{url: 'http://x/'}]
- job_name: elsewhere
  kubernetes_sd_configs: [{role: pod}, {role: pod, api_server: 'https://x/'}]
- job_name: kubeconfig
  kubernetes_sd_configs: [{role: pod, kubeconfig_file: /x}]
";

/// A target of `pool` whose labels say `namespace` and `pod`, discovered as `seen`.
fn target(pool: &str, instance: &str, labels: (&str, &str), seen: (&str, &str)) -> Value {
    json!({
        "scrapePool": pool,
        "discoveredLabels":
            {"__meta_kubernetes_namespace": seen.0, "__meta_kubernetes_pod_name": seen.1},
        "labels":
            {"job": pool, "instance": instance, "namespace": labels.0, "pod": labels.1},
    })
}

async fn world(targets: Value) -> World {
    let world = World::new("", true, None).await;
    {
        let mut paths = world.prometheus.paths.lock();
        let flags = json!({"web.enable-remote-write-receiver": "false"});
        for (path, data) in [
            ("/api/v1/status/flags", flags),
            ("/api/v1/status/config", json!({"yaml": CONFIGURATION})),
            ("/api/v1/targets", json!({"activeTargets": targets})),
            (
                "/api/v1/rules",
                json!({"groups": [{"rules": [
                {"name": "recorded", "type": "recording"}]}]}),
            ),
            (
                "/api/v1/label/__name__/values",
                json!([
                    "depth",
                    "hits_total",
                    "latency_bucket",
                    "recorded",
                    "untyped",
                    "om_total",
                    "two_types"
                ]),
            ),
            (
                "/api/v1/metadata",
                json!({
                    "depth": [{"type": "gauge"}],
                    "hits_total": [{"type": "counter"}],
                    "om": [{"type": "counter"}],
                    "recorded": [{"type": "gauge"}],
                    "latency": [{"type": "histogram"}],
                    "two_types": [{"type": "gauge"}, {"type": "counter"}],
                }),
            ),
        ] {
            paths.insert(String::from(path), data);
        }
    }
    assert!(world.adapter.relist().await);
    world
}

fn series(job: &str, instance: &str, namespace: &str, pod: &str) -> Value {
    json!({"__name__": "depth", "job": job, "instance": instance, "namespace": namespace, "pod": pod})
}

const DEPTH: &str = r#"depth{namespace="web",pod=~"a|b|c"}"#;

#[tokio::test]
async fn verified_series_are_added_up() {
    let web = |pod: &'static str| ("web", pod);
    let world = world(json!([
        target("pods", "1:80", web("a"), web("a")),
        target("pods", "1:81", web("a"), web("a")),
        target("pods", "2:80", web("b"), web("b")),
    ]))
    .await;
    world.prometheus.answers(
        DEPTH,
        &[
            (series("pods", "1:80", "web", "a"), "1"),
            (series("pods", "1:81", "web", "a"), "2"),
            (series("pods", "2:80", "web", "b"), "NaN"),
        ],
    );
    let (status, list) = world.get(&format!("{PATH}/depth")).await;
    assert_eq!(status, 200, "{list}");
    assert_eq!(values(&list).into_iter().collect::<Vec<_>>(), [("a".into(), "3".into())]);
    let rate = r#"rate(hits_total{code="500",namespace="web",pod=~"a|b|c"}[2m])"#;
    world.prometheus.answers(rate, &[(series("pods", "2:80", "web", "b"), "0.5")]);
    let (_, list) = world.get(&format!("{PATH}/hits?metricLabelSelector=code%3D500")).await;
    assert_eq!(values(&list).into_iter().collect::<Vec<_>>(), [("b".into(), "500m".into())]);
    assert_eq!(list["items"][0]["windowSeconds"], 120);
}

#[tokio::test]
async fn only_what_has_one_known_type_is_served() {
    let world = world(json!([])).await;
    let (_, list) = world.get("/apis/custom.metrics.k8s.io/v1beta2").await;
    let names: Vec<&Value> =
        list["resources"].as_array().unwrap().iter().map(|resource| &resource["name"]).collect();
    assert_eq!(names, ["pods/depth", "pods/hits", "pods/om"]);
    assert_eq!(world.get(&format!("{PATH}/recorded")).await.0, 404);
}

/// Each forgery claims to be pod `a` of namespace `web`.
#[tokio::test]
async fn forged_labels_count_for_nothing() {
    let web = ("web", "a");
    let evil = ("evil", "e");
    for (what, targets, forged) in [
        (
            "the target's labels are not what was discovered",
            json!([target("pods", "9:80", web, evil)]),
            series("pods", "9:80", "web", "a"),
        ),
        (
            "the series does not say what its target says",
            json!([target("pods", "9:80", evil, evil)]),
            series("pods", "9:80", "web", "a"),
        ),
        (
            "nobody knows the target: the series was pushed",
            json!([target("pods", "1:80", web, web)]),
            series("pods", "9:80", "web", "a"),
        ),
        (
            "the job is not discovered by Kubernetes",
            json!([target("static", "9:80", web, web)]),
            series("static", "9:80", "web", "a"),
        ),
        (
            "another discovery may claim anything",
            json!([target("mixed", "9:80", web, web)]),
            series("mixed", "9:80", "web", "a"),
        ),
        (
            "another cluster says so",
            json!([target("elsewhere", "9:80", web, web)]),
            series("elsewhere", "9:80", "web", "a"),
        ),
        (
            "the cluster of a kubeconfig says so",
            json!([target("kubeconfig", "9:80", web, web)]),
            series("kubeconfig", "9:80", "web", "a"),
        ),
        (
            "two targets claim the same job and instance",
            json!([
                target("pods", "9:80", web, web),
                {"scrapePool": "static", "discoveredLabels": {},
                    "labels": {"job": "pods", "instance": "9:80"}},
            ]),
            series("pods", "9:80", "web", "a"),
        ),
    ] {
        let world = world(targets).await;
        world.prometheus.answers(DEPTH, &[(forged, "1000")]);
        let (status, text) = world.fails(&format!("{PATH}/depth")).await;
        let missing = "the server could not find the metric depth for pods";
        assert_eq!((status, text.as_str()), (404, missing), "{what}");
    }
}

/// What a job that lets samples choose their labels scrapes can look like a series of any other job.
#[tokio::test]
async fn a_server_that_may_hold_forged_series_is_not_trusted() {
    let trusted = target("pods", "1:80", ("web", "a"), ("web", "a"));
    let world = world(json!([trusted])).await;
    world.prometheus.answers(DEPTH, &[(series("pods", "1:80", "web", "a"), "1")]);
    let path = format!("{PATH}/depth");
    assert_eq!(world.get(&path).await.0, 200);
    let (flags, config) = ("/api/v1/status/flags", "/api/v1/status/config");
    let closed = "web.enable-remote-write-receiver";
    let with_job = |job: &str| json!({"yaml": format!("{CONFIGURATION}- {{job_name: x, {job}}}")});
    let relabels = |rule: &str| with_job(&format!("metric_relabel_configs: [{{{rule}}}]"));
    let unknown = target("x", "9:80", ("evil", "e"), ("evil", "e"));
    for (place, data, reason) in [
        (flags, json!({closed: "true"}), "the server may take samples"),
        (flags, json!({}), "the server may take samples"),
        (flags, json!({closed: ""}), "the server may take samples"),
        (
            flags,
            json!({closed: "false", "web.enable-otlp-receiver": "true"}),
            "the server may take samples",
        ),
        (
            flags,
            json!({closed: "false", "enable-feature": "agent,remote-write-receiver"}),
            "the server may take samples",
        ),
        (
            config,
            json!({"yaml": "remote_read: [{url: 'http://x/'}]"}),
            "the server reads the series of others",
        ),
        (
            config,
            json!({"yaml": "scrape_config_files: [x.yml]"}),
            "the configuration of the server does not show all jobs",
        ),
        (config, with_job("honor_labels: true"), "samples of job \"x\""),
        (config, relabels("source_labels: [a], target_label: namespace"), "samples of job \"x\""),
        (config, relabels("source_labels: [a], target_label: '${1}'"), "samples of job \"x\""),
        (config, relabels("action: LabelMap, regex: exported_(.+)"), "samples of job \"x\""),
        (config, relabels("action: lowercase, target_label: pod"), "samples of job \"x\""),
        ("/api/v1/targets", json!({"activeTargets": [unknown]}), "the configuration of the server"),
    ] {
        let before = world.prometheus.paths.lock().insert(String::from(place), data.clone());
        assert!(!world.adapter.relist().await);
        // Also of a metric that is not among those of before.
        for path in [&path, &format!("{PATH}/new")] {
            let (status, text) = world.fails(path).await;
            let expected = format!("default rules: {reason}");
            assert!(status == 503 && text.starts_with(&expected), "{data}: {text}");
        }
        world.prometheus.paths.lock().insert(String::from(place), before.unwrap());
        assert!(world.adapter.relist().await);
        assert_eq!(world.get(&path).await.0, 200);
        assert_eq!(world.get(&format!("{PATH}/new")).await.0, 404);
    }
}

#[tokio::test]
async fn what_is_known_of_targets_is_not_trusted_for_ever() {
    let target = target("pods", "1:80", ("web", "a"), ("web", "a"));
    let world = world(json!([target])).await;
    world.prometheus.answers(DEPTH, &[(series("pods", "1:80", "web", "a"), "1")]);
    world.clock.advance(120_000);
    assert_eq!(world.get(&format!("{PATH}/depth")).await.0, 200);
    world.clock.advance(1);
    assert_eq!(world.get(&format!("{PATH}/depth")).await.0, 503);
}
