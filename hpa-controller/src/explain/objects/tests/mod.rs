//! Objects as people save them, explained.

use serde_json::{Value, json};

use super::*;
use crate::decide::{Written, conclude, decide};
use crate::explain::{Explanation, document};
use crate::inputs::{Constants, Inputs, MetricAnswer, PodSet};

mod beyond;
mod conformance;

/// 2026-11-26T20:00:00Z
const NOW: Timestamp = 1_795_723_200_000;

fn objects(files: &[&str]) -> Objects {
    let mut objects = Objects::default();
    for (at, text) in files.iter().enumerate() {
        objects.read(&format!("{at}.yaml"), text).unwrap();
    }
    objects
}

fn only(objects: &Objects) -> (Inputs, Vec<String>) {
    let autoscaler = objects.autoscalers().next().unwrap();
    objects.inputs(autoscaler, &Constants::default(), NOW)
}

fn explain(inputs: &Inputs) -> Explanation {
    let decision = decide(inputs, NOW);
    let written = if decision.rescale { Written::Done } else { Written::NotAsked };
    document(inputs, &decision, &conclude(inputs, &decision, &written, NOW))
}

const AUTOSCALER: &str = "\
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web, namespace: shop}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
  minReplicas: 2
  maxReplicas: 10
  metrics:
  - type: Resource
    resource:
      name: cpu
      target: {type: Utilization, averageUtilization: 60}
";

const DEPLOYMENT: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 3
  selector:
    matchLabels: {app: web}
status: {replicas: 3}
";

/// Three pods that request half a core each and run for an hour.
fn pods() -> String {
    let pod = |name: &str| {
        format!(
            "---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: shop, labels: {{app: web}}}}
spec:
  containers:
  - name: app
    resources: {{requests: {{cpu: 500m}}}}
status:
  phase: Running
  startTime: \"2026-11-26T19:00:00Z\"
  conditions:
  - {{type: Ready, status: \"True\", lastTransitionTime: \"2026-11-26T19:00:10Z\"}}
"
        )
    };
    ["web-1", "web-2", "web-3"].map(pod).concat()
}

fn usage(cpu: &str) -> String {
    let item = |name: &str| {
        json!({"metadata": {"name": name, "namespace": "shop", "labels": {"app": "web"}},
            "timestamp": "2026-11-26T19:59:50Z", "window": "15s",
            "containers": [{"name": "app", "usage": {"cpu": cpu, "memory": "64Mi"}}]})
    };
    let items = ["web-1", "web-2", "web-3"].map(item);
    json!({"kind": "PodMetricsList", "apiVersion": "metrics.k8s.io/v1beta1", "metadata": {}, "items": items})
        .to_string()
}

/// Computed by hand: 3 x 450m of 3 x 500m are 90%; 90 / 60 = 1.5; 1.5 x 3 pods = 4.5, so 5, below twice 3.
#[test]
fn a_rescale_is_told() {
    let objects = objects(&[AUTOSCALER, DEPLOYMENT, &pods(), &usage("450m")]);
    let (inputs, mut notes) = only(&objects);
    let mut explanation = explain(&inputs);
    explanation.notes.append(&mut notes);
    let expected = "\
shop/web at 2026-11-26T20:00:00Z
Deployment web asks for 3 replicas and has 3; 2 to 10 are allowed.
Its selector app=web matches 3 pods.

Metrics
  1. cpu resource utilization: 90% of what is requested (450m a pod), the target is 60%
     ratio to the target: 1.5, outside the tolerated 0.9 to 1.1
     5 replicas: the ratio times 3 ready pods, rounded up

Stabilization: no recommendation of the last 5m speaks against 5.
Limits: 5 is within the bounds and the rates, which allow up to 6.

=> Deployment web is scaled from 3 to 5: cpu resource utilization above target.

Conditions
  AbleToScale     True   SucceededRescale    the HPA controller was able to update the target scale to 5
  ScalingActive   True   ValidMetricFound    the HPA was able to successfully calculate a replica count from cpu resource utilization (percentage of request)
  ScalingLimited  False  DesiredWithinRange  the desired count is within the acceptable range

Events
  Normal  SuccessfulRescale  New size: 5; reason: cpu resource utilization (percentage of request) above target

Notes
  earlier recommendations and rescales are not known: this is what a controller decides that has just started, and whose first recommendation is what runs now
";
    assert_eq!(explanation.to_string(), expected);

    let json = serde_json::to_value(&explanation).unwrap();
    assert_eq!(json["desiredReplicas"], 5);
    assert_eq!(json["currentReplicas"], 3);
    assert_eq!(json["rescale"], true);
    assert_eq!(json["metrics"][0]["proposal"]["utilizationPercent"], 90);
    assert_eq!(json["conditions"][0]["reason"], "SucceededRescale");
    assert_eq!(json["events"][0]["reason"], "SuccessfulRescale");
    assert_eq!(serde_json::from_value::<Explanation>(json).unwrap(), explanation);
}

/// 50m of 500m are 10%; 10 / 60 x 3 = 0.5, so 1. A controller that has just started keeps what runs.
#[test]
fn what_metrics_ask_for_and_what_a_start_holds_back_are_both_told() {
    let objects = objects(&[AUTOSCALER, DEPLOYMENT, &pods(), &usage("50m")]);
    let explanation = explain(&only(&objects).0);
    assert_eq!(explanation.proposed_replicas, Some(1));
    assert_eq!((explanation.desired_replicas, explanation.rescale), (3, false));
    let text = explanation.to_string();
    let held = "Stabilization: 3 instead of 1, the highest recommendation of the last 5m, what runs now, which a controller that starts takes for its first.";
    assert!(text.contains(held), "{text}");
    assert!(text.contains("=> Nothing changes: 3 replicas stay."), "{text}");
}

fn told(files: &[&str]) -> String {
    explain(&only(&objects(files)).0).to_string()
}

/// All of `lines` are in `text`, one after the other.
fn check(text: &str, lines: &[&str]) {
    let mut rest = text;
    for line in lines {
        let at =
            rest.find(&format!("{line}\n")).unwrap_or_else(|| panic!("no {line:?} in:\n{text}"));
        rest = &rest[at + line.len()..];
    }
}

/// One pod is one pod, and the notation of Go is not for people. 12.5 of 5 are 2.5, times one ready pod.
#[test]
fn the_singular_and_selectors_are_told_as_people_say_them() {
    let one = DEPLOYMENT.replace("replicas: 3", "replicas: 1");
    let pods = pods();
    let pod = pods.split("---").find(|pod| pod.contains("web-1")).unwrap();
    let autoscaler =
        AUTOSCALER.split_once("  metrics:").unwrap().0.replace("minReplicas: 2", "minReplicas: 1");
    let selector = "{matchLabels: {queue: a}, matchExpressions: [{key: zone, operator: Exists}]}";
    let external = format!(
        "{autoscaler}  metrics:\n  - type: External\n    external:\n      metric: {{name: depth, selector: {selector}}}\n      target: {{type: Value, value: 5}}\n"
    );
    let depth = json!({"kind": "ExternalMetricValueList", "apiVersion": "external.metrics.k8s.io/v1beta1", "items": [
        {"metricName": "depth", "metricLabels": {"queue": "a"}, "timestamp": "2026-11-26T19:59:00Z", "value": "12500m"}]});
    check(
        &told(&[&external, &one, pod, &depth.to_string()]),
        &[
            "Deployment web asks for 1 replica and has 1; 1 to 10 are allowed.",
            "Its selector app=web matches 1 pod.",
            "  1. external metric depth{queue=a,zone}: 12.5, the target is 5",
            "     3 replicas: the ratio times 1 ready pod, rounded up",
            "=> Deployment web is scaled from 1 to 3: external metric depth{queue=a,zone} above target.",
        ],
    );
    // Two of one name, and one that begins with it: 30 of 5 is the most.
    let metric = |name: &str, queue: &str| {
        format!(
            "  - type: Object\n    object:\n      describedObject: {{kind: Queue, name: q}}\n      metric: {{name: {name}, selector: {{matchLabels: {{queue: {queue}}}}}}}\n      target: {{type: Value, value: 5}}\n"
        )
    };
    let several = [metric("depth", "a"), metric("depth", "b"), metric("depths", "c")].concat();
    let value = |name: &str, queue: &str, value: &str| {
        json!({"describedObject": {"kind": "Queue", "namespace": "shop", "name": "q"}, "timestamp": "2026-11-26T19:59:00Z",
            "metric": {"name": name, "selector": {"matchLabels": {"queue": queue}}}, "value": value})
    };
    let values = [value("depth", "a", "5"), value("depth", "b", "30"), value("depths", "c", "10")];
    let values = json!({"kind": "MetricValueList", "apiVersion": "custom.metrics.k8s.io/v1beta2", "items": values});
    check(
        &told(&[&format!("{autoscaler}  metrics:\n{several}"), &one, pod, &values.to_string()]),
        &[
            "  3. Queue metric depths{queue=c}: 10, the target is 5",
            "The most that a metric asks for is 6: Queue metric depth{queue=b}.",
            "=> Deployment web is scaled from 1 to 4: Queue metric depth{queue=b} above target.",
        ],
    );
    let more = autoscaler.replace("minReplicas: 1", "minReplicas: 2");
    check(
        &told(&[&more, &one, pod]),
        &[
            "1 replica is fewer than the lower bound 2: no metric is asked.",
            "=> Deployment web is scaled from 1 to 2: Current number of replicas below Spec.MinReplicas.",
        ],
    );
}

/// 10% of 60% for 3 pods ask for 1, below the lower bound. 4 was recommended a minute ago; without it 100% in 15 s allow to go to nothing.
#[test]
fn earlier_recommendations_and_the_way_down_are_told() {
    let objects = objects(&[AUTOSCALER, DEPLOYMENT, &pods(), &usage("50m")]);
    let mut inputs = only(&objects).0;
    let recommendation = crate::inputs::Recommendation { replicas: 3, at: NOW - 90_000 };
    inputs.memory.recommendations = Some(vec![recommendation]);
    let held = "Stabilization: 3 instead of 1, the highest recommendation of the last 5m, made 1m 30s ago.";
    check(&explain(&inputs).to_string(), &[held, "Limits: none applies."]);

    let behavior = "  behavior:\n    scaleDown: {stabilizationWindowSeconds: 0}\n";
    let text = told(&[&format!("{AUTOSCALER}{behavior}"), DEPLOYMENT, &pods(), &usage("50m")]);
    check(
        &text,
        &[
            "Policy: 100% in 15s allows down to 0; the period began with 3 (nothing has changed since).",
            "Limits: 2 instead of 1: the lower bound is 2.",
        ],
    );
    // Without behavior nothing limits how fast replicas go.
    inputs.memory.recommendations = Some(Vec::new());
    inputs.spec.min_replicas = Some(1);
    check(&explain(&inputs).to_string(), &["Limits: 1 is within the bounds."]);
}

/// Files that are a year old, decided as of now.
#[test]
fn old_samples_are_told_in_days() {
    let objects = objects(&[AUTOSCALER, DEPLOYMENT, &pods(), &usage("450m")]);
    // The sample is of ten seconds before.
    let sample = NOW - 10_000;
    assert_eq!(objects.stale(sample + 300_000), None);
    let later = sample + (328 * 24 + 22) * 3_600_000 + 2_730_000;
    let expected = "decided as of the present time, 328d 22h after the newest sample; --now=2026-11-26T19:59:50Z decides as of then";
    assert_eq!(objects.stale(later).as_deref(), Some(expected));
}

/// 90% of 60% for 3 pods ask for 5; one pod a minute allows 4.
#[test]
fn policies_are_told() {
    let policies = "      policies:\n      - {type: Pods, value: 1, periodSeconds: 60}\n";
    let autoscaler = format!("{AUTOSCALER}  behavior:\n    scaleUp:\n{policies}");
    let text = told(&[&autoscaler, DEPLOYMENT, &pods(), &usage("450m")]);
    check(
        &text,
        &[
            "Stabilization: no recommendation of the last 5m speaks against 5.",
            "Policy: 1 pod in 1m allows up to 4; the period began with 3 (nothing has changed since).",
            "Limits: 4 instead of 5: no policy goes further.",
            "=> Deployment web is scaled from 3 to 4: cpu resource utilization above target.",
            "  ScalingLimited  True  ScaleUpLimit      the desired replica count is increasing faster than the maximum scale rate",
        ],
    );
    let disabled = autoscaler.replace(policies, "      selectPolicy: Disabled\n");
    let text = told(&[&disabled, DEPLOYMENT, &pods(), &usage("450m")]);
    check(
        &text,
        &[
            "Limits: 3 instead of 5: scaling in this direction is disabled.",
            "=> Nothing changes: 3 replicas stay.",
        ],
    );
}

#[test]
fn bounds_are_told() {
    let many = DEPLOYMENT.replace("replicas: 3", "replicas: 12");
    check(
        &told(&[AUTOSCALER, &many, &pods(), &usage("450m")]),
        &[
            "12 replicas are more than the upper bound 10: no metric is asked.",
            "=> Deployment web is scaled from 12 to 10: Current number of replicas above Spec.MaxReplicas.",
        ],
    );
    let none = DEPLOYMENT.replace("replicas: 3", "replicas: 0");
    check(
        &told(&[AUTOSCALER, &none]),
        &[
            "The target is at zero replicas, which turns the autoscaler off unless it took the last one away itself.",
            "=> Nothing changes: 0 replicas stay.",
        ],
    );
    let unselective = DEPLOYMENT.replace("    matchLabels: {app: web}\n", "    matchLabels: {}\n");
    check(
        &told(&[AUTOSCALER, &unselective, &pods(), &usage("450m")]),
        &[
            "Its scale has no selector, so that its pods are not known.",
            "=> Nothing changes: 3 replicas stay.",
        ],
    );
    let low = AUTOSCALER.replace("maxReplicas: 10", "maxReplicas: 4");
    check(
        &told(&[&low, DEPLOYMENT, &pods(), &usage("450m")]),
        &["Limits: 4 instead of 5: the upper bound is 4."],
    );
}

/// 90% for the two that have a value: 1.5. Nothing put in for the third: 2 x 450m of 3 x 500m are 60%, as wanted.
#[test]
fn pods_that_do_not_count_are_named_with_why() {
    let some = usage("450m").replace("web-3", "stranger");
    let starting = pods().replacen("phase: Running", "phase: Pending", 1);
    let (_, notes) =
        only(&objects(&[AUTOSCALER, DEPLOYMENT, pods().split("---").nth(1).unwrap(), &some]));
    let saved = "of the pods of the target's selector app=web, 1 was saved; it has 3";
    assert!(notes.contains(&String::from(saved)), "{notes:?}");
    let text = told(&[AUTOSCALER, DEPLOYMENT, &starting, &some]);
    check(
        &text,
        &[
            "     1 of 3 pods counts",
            "     not ready: web-1: its phase is Pending",
            "     without a value: web-3",
        ],
    );
    let text = told(&[AUTOSCALER, DEPLOYMENT, &pods(), &some]);
    check(
        &text,
        &[
            "     2 of 3 pods count",
            "     without a value: web-3",
            "     ratio with values for them that speak against the change: 1, within the tolerated 0.9 to 1.1",
            "     3 replicas: with missing and unready pods the ratio is within the tolerance",
        ],
    );
}

#[test]
fn a_metric_that_fails_is_told_with_its_error() {
    let more = format!(
        "{AUTOSCALER}  - type: External\n    external:\n      metric: {{name: depth}}\n      target: {{type: Value, value: 5}}\n"
    );
    let text = told(&[&more, DEPLOYMENT, &pods(), &usage("450m")]);
    check(
        &text,
        &[
            "  2. external metric depth: failed",
            "The most that a metric asks for is 5: cpu resource utilization.",
            "1 of 2 metrics failed, so that replicas may grow but not shrink.",
            "=> Deployment web is scaled from 3 to 5: cpu resource utilization above target.",
        ],
    );
    assert!(
        text.contains(
            "   The reconciliation ends with an error: invalid metrics (1 invalid out of 2)"
        ),
        "{text}"
    );
}

#[test]
fn absent_kinds_are_apis_that_are_not_available() {
    let metrics = json!([
        {"type": "Resource", "resource": {
            "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}},
        {"type": "Pods", "pods": {
            "metric": {"name": "qps"}, "target": {"type": "AverageValue", "averageValue": 10}}},
        {"type": "External", "external": {
            "metric": {"name": "depth"}, "target": {"type": "Value", "value": "5"}}},
    ]);
    let autoscaler = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "maxReplicas": 9, "metrics": metrics}});
    let autoscaler = autoscaler.to_string();
    let (inputs, _) = only(&objects(&[&autoscaler, DEPLOYMENT, &pods()]));
    let failed = |text: &str| Some(MetricAnswer::Failed(text.to_owned()));
    assert_eq!(
        inputs.metrics,
        [
            failed(
                "unable to fetch metrics from resource metrics API: the server could not find the requested resource (get pods.metrics.k8s.io)"
            ),
            failed(
                "unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered"
            ),
            failed(
                "unable to fetch metrics from external metrics API: the server could not find the requested resource (get depth.external.metrics.k8s.io)"
            ),
        ]
    );
    let explanation = explain(&inputs);
    let active = explanation.conditions.iter().find(|it| it.type_ == "ScalingActive").unwrap();
    assert_eq!(active.reason.as_deref(), Some("FailedGetResourceMetric"));
    // The status never said anything, and nothing is to change.
    assert_eq!((explanation.current_replicas, explanation.desired_replicas), (3, 3));

    // Lists that are there and empty are other errors.
    let empty =
        json!({"kind": "PodMetricsList", "apiVersion": "metrics.k8s.io/v1beta1", "items": []});
    let (inputs, _) = only(&objects(&[&autoscaler, DEPLOYMENT, &pods(), &empty.to_string()]));
    assert_eq!(inputs.metrics[0], failed("no metrics returned from resource metrics API"));
}

#[test]
fn a_target_that_was_not_saved_is_not_found() {
    let (inputs, _) = only(&objects(&[AUTOSCALER]));
    assert_eq!(inputs.scale, Err(String::from("deployments/scale.apps \"web\" not found")));
    let explanation = explain(&inputs);
    assert_eq!(explanation.conditions[0].reason.as_deref(), Some("FailedGetScale"));
    check(&explanation.to_string(), &["=> Nothing changes."]);
    assert!(!explanation.rescale);
}

#[test]
fn lists_of_any_kind_in_any_order() {
    let list =
        |items: &[Value]| json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
    let yaml = |text: &str| -> Vec<Value> { documents(text).unwrap() };
    let mut items = yaml(&pods());
    items.extend(yaml(DEPLOYMENT));
    items.push(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}}));
    items.extend(yaml(AUTOSCALER));
    let whole = objects(&[&usage("450m"), &list(&items)]);
    let apart = objects(&[AUTOSCALER, DEPLOYMENT, &pods(), &usage("450m")]);
    assert_eq!(only(&whole), only(&apart));

    // A typed list, whose items need not say what they are.
    let bare = |mut pod: Value| {
        pod.as_object_mut().unwrap().retain(|key, _| key != "kind" && key != "apiVersion");
        pod
    };
    let bare: Vec<_> = yaml(&pods()).into_iter().map(bare).collect();
    let typed = json!({"apiVersion": "v1", "kind": "PodList", "items": bare}).to_string();
    let typed = objects(&[AUTOSCALER, DEPLOYMENT, &typed, &usage("450m")]);
    assert_eq!(only(&typed), only(&apart));
}

#[test]
fn two_autoscalers_of_the_same_pods_are_named() {
    let other = AUTOSCALER.replace("{name: web, namespace", "{name: other, namespace");
    let objects = objects(&[AUTOSCALER, &other, DEPLOYMENT, &pods(), &usage("450m")]);
    for autoscaler in objects.autoscalers() {
        let (inputs, _) = objects.inputs(autoscaler, &Constants::default(), NOW);
        let names = vec![String::from("shop/other"), String::from("shop/web")];
        assert_eq!(inputs.pods, PodSet::Ambiguous(names));
        let explanation = explain(&inputs);
        let active = explanation.conditions.iter().find(|it| it.type_ == "ScalingActive").unwrap();
        assert_eq!(active.reason.as_deref(), Some("AmbiguousSelector"));
    }
}

#[test]
fn custom_and_external_values_are_found() {
    let metrics = json!([
        {"type": "Pods", "pods": {"metric": {"name": "qps", "selector": {"matchLabels": {"verb": "GET"}}},
            "target": {"type": "AverageValue", "averageValue": "10"}}},
        {"type": "Object", "object": {"metric": {"name": "hits"},
            "describedObject": {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "main"},
            "target": {"type": "Value", "value": "100"}}},
        {"type": "External", "external": {"metric": {"name": "depth", "selector": {"matchLabels": {"queue": "a"}}},
            "target": {"type": "AverageValue", "averageValue": "30"}}},
    ]);
    let autoscaler = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "maxReplicas": 9, "metrics": metrics}});
    let value = |kind: &str, name: &str, metric: Value, value: &str| {
        json!({"describedObject": {"kind": kind, "namespace": "shop", "name": name, "apiVersion": "/v1"},
            "metric": metric, "timestamp": "2026-11-26T19:59:00Z", "windowSeconds": 30, "value": value})
    };
    let get = json!({"name": "qps", "selector": {"matchLabels": {"verb": "GET"}}});
    let post = json!({"name": "qps", "selector": {"matchLabels": {"verb": "POST"}}});
    let custom = json!({"kind": "MetricValueList", "apiVersion": "custom.metrics.k8s.io/v1beta2", "items": [
        value("Pod", "web-1", get.clone(), "12500m"),
        value("Pod", "web-1", post, "99"),
        value("Pod", "stranger", get, "1"),
        value("Ingress", "main", json!({"name": "hits", "selector": null}), "250"),
    ]});
    // v1beta1 names fields differently.
    let older = json!({"kind": "MetricValueList", "apiVersion": "custom.metrics.k8s.io/v1beta1", "items": [
        {"describedObject": {"kind": "Ingress", "namespace": "shop", "name": "main", "apiVersion": "/v1"},
            "metricName": "hits", "timestamp": "2026-11-26T19:00:00Z", "window": 60, "value": "7"},
    ]});
    let external = json!({"kind": "ExternalMetricValueList", "apiVersion": "external.metrics.k8s.io/v1beta1", "items": [
        {"metricName": "depth", "metricLabels": {"queue": "a"}, "timestamp": "2026-11-26T19:59:00Z", "value": "40"},
        {"metricName": "depth", "metricLabels": {}, "timestamp": "2026-11-26T19:59:00Z", "value": "2"},
        {"metricName": "depth", "metricLabels": {"queue": "b"}, "timestamp": "2026-11-26T19:59:00Z", "value": "900"},
    ]});
    let texts = [autoscaler, custom, older, external].map(|value| value.to_string());
    let [autoscaler, custom, older, external] = &texts;
    let objects = objects(&[autoscaler, DEPLOYMENT, &pods(), custom, older, external]);
    let (inputs, _) = only(&objects);
    let values: Vec<_> = inputs
        .metrics
        .iter()
        .map(|answer| match answer.as_ref().unwrap() {
            MetricAnswer::Pods(pods) => {
                pods.iter().map(|pod| (pod.pod.to_string(), pod.value_milli)).collect::<Vec<_>>()
            }
            MetricAnswer::Values(values) => {
                values.iter().map(|value| (String::new(), value.value_milli)).collect()
            }
            MetricAnswer::Failed(error) => panic!("{error}"),
        })
        .collect();
    let none = String::new;
    assert_eq!(
        values,
        [
            vec![(String::from("web-1"), 12_500), (String::from("stranger"), 1000)],
            vec![(none(), 250_000)],
            vec![(none(), 40_000), (none(), 2000)],
        ]
    );
}

#[test]
fn targets_of_any_kind_have_a_scale() {
    let reading = |object: Value, kind: &str, version: &str| {
        let autoscaler = json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "x"},
            "spec": {"scaleTargetRef": {"apiVersion": version, "kind": kind, "name": "x"}, "maxReplicas": 9}});
        only(&objects(&[&autoscaler.to_string(), &object.to_string()])).0.scale.unwrap()
    };
    let scale = |spec, status, selector: &str| crate::inputs::ScaleReading {
        spec_replicas: spec,
        status_replicas: status,
        selector: selector.to_owned(),
    };
    let set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "x"},
        "spec": {"selector": {"matchLabels": {"z": "1"}, "matchExpressions": [
            {"key": "a", "operator": "In", "values": ["2", "1"]}, {"key": "m", "operator": "DoesNotExist"}]}}});
    assert_eq!(reading(set, "StatefulSet", "apps/v1"), scale(1, 0, "a in (1,2),!m,z=1"));
    let controller = json!({"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "x"},
        "spec": {"replicas": 0, "template": {"metadata": {"labels": {"app": "x"}}}}, "status": {"replicas": 2}});
    assert_eq!(reading(controller, "ReplicationController", "v1"), scale(0, 2, "app=x"));
    let custom = json!({"apiVersion": "example.com/v1", "kind": "Fleet", "metadata": {"name": "x"},
        "spec": {"replicas": 4}, "status": {"replicas": 3, "selector": "fleet=x"}});
    assert_eq!(reading(custom, "Fleet", "example.com/v1beta1"), scale(4, 3, "fleet=x"));
    let given = json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "x"},
        "spec": {"replicas": 5}, "status": {"replicas": 6, "selector": "a=b"}});
    assert_eq!(reading(given, "Fleet", "example.com/v1"), scale(5, 6, "a=b"));
}

#[test]
fn a_controllers_log_is_read_back() {
    let (inputs, _) = only(&objects(&[AUTOSCALER, DEPLOYMENT, &pods(), &usage("450m")]));
    let logged = Logged {
        key: crate::state::HpaKey::new("shop", "web"),
        uid: String::from("u"),
        mode: crate::state::Mode::Active,
        at: NOW,
        decision: decide(&inputs, NOW),
        inputs,
        written: Written::Done,
    };
    let one = serde_json::to_string(&logged).unwrap();
    let answer = json!({"namespace": "shop", "name": "web", "decisions": [&logged]}).to_string();
    let read = objects(&[&one, &answer]);
    assert_eq!(read.logged(), [logged.clone(), logged]);
}

fn complaint(file: &str) -> String {
    Objects::default().read("a.yaml", file).unwrap_err().to_string()
}

#[test]
fn errors_name_file_document_and_field() {
    let second =
        format!("{DEPLOYMENT}---\n{}", AUTOSCALER.replace("maxReplicas: 10", "maxReplicas: ten"));
    let text = complaint(&second);
    assert!(
        text.starts_with("a.yaml: document 2: spec.maxReplicas: invalid type: string \"ten\""),
        "{text}"
    );
    let quantity = pods().replacen("cpu: 500m", "cpu: 5x", 1);
    let text = complaint(&quantity);
    let field = "a.yaml: document 1: spec.containers[0].resources.requests.cpu: ";
    assert!(text.starts_with(field), "{text}");
    let items = json!({"apiVersion": "v1", "kind": "PodList", "items": [
        {"metadata": {"name": "x"}, "status": {"startTime": "yesterday"}}]});
    let text = complaint(&items.to_string());
    let expected =
        "a.yaml: document 1, items[0]: status.startTime: \"yesterday\" is not a time by RFC 3339";
    assert!(text.starts_with(expected), "{text}");
    assert_eq!(complaint("a: 1"), "a.yaml: document 1: kind: there is none");
    assert!(complaint("a: [").starts_with("a.yaml: document 1: "));
    assert!(complaint("{\"a\": ").starts_with("a.yaml: document 1: "));
    assert!(complaint("{\"a\": 1} {\"b\" 2}").starts_with("a.yaml: document 2: "));
    // Empty documents and comments do not count, as everywhere.
    for broken in
        ["a: 1\n---\nb: {c: [\n", "---\n# none\n---\na: 1\n--- # two\n---\nb:\n  - c: {\n"]
    {
        assert!(
            complaint(broken).starts_with("a.yaml: document 2: "),
            "{broken}: {}",
            complaint(broken)
        );
    }
}

#[test]
fn the_same_object_may_come_twice_but_not_two_of_one_name() {
    let mut objects = objects(&[AUTOSCALER, AUTOSCALER, DEPLOYMENT, DEPLOYMENT, &pods(), &pods()]);
    let changed = AUTOSCALER.replace("maxReplicas: 10", "maxReplicas: 11");
    let error = objects.read("b.yaml", &changed).unwrap_err().to_string();
    let expected = "b.yaml: document 1: HorizontalPodAutoscaler shop/web is in 0.yaml: document 1 too, and differs there";
    assert_eq!(error, expected);
    let changed = DEPLOYMENT.replace("replicas: 3", "replicas: 4");
    let error = objects.read("b.yaml", &changed).unwrap_err().to_string();
    assert_eq!(
        error,
        "b.yaml: document 1: Deployment shop/web is in 2.yaml: document 1 too, and differs there"
    );
}

#[test]
fn metrics_without_labels_are_those_of_the_pods_that_were_saved() {
    let bare = usage("450m").replace(r#""labels":{"app":"web"},"#, "").replace("web-3", "stranger");
    let (inputs, _) = only(&objects(&[AUTOSCALER, DEPLOYMENT, &pods(), &bare]));
    let names = |inputs: &Inputs| match inputs.metrics[0].as_ref().unwrap() {
        MetricAnswer::Pods(pods) => pods.iter().map(|pod| pod.pod.to_string()).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(names(&inputs), ["stranger", "web-1", "web-2"]);
    // Where others have labels, one without is not selected.
    let mixed = usage("450m")
        .replacen(r#""labels":{"app":"web"},"#, "", 1)
        .replacen("web-1", "stranger", 1);
    let (inputs, _) = only(&objects(&[AUTOSCALER, DEPLOYMENT, &pods(), &mixed]));
    assert_eq!(names(&inputs), ["web-2", "web-3"]);
}
