//! Whole reconciliations that were recorded with upstream, from a folder outside the repository, written as the objects that a person
//! would have saved and explained from those.
//!
//! What objects cannot say is left out: calls that fail are APIs that are absent, so that only reasons are compared; what a
//! controller remembered is put back after the objects were read. Without the folder the test says so and passes, unless
//! `SEXTANT_REQUIRE_PEERS` is 1.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::super::Objects;
use crate::decide::{Written, conclude, decide};
use crate::explain::document;
use crate::inputs::{Constants, Gates, Memory, Recommendation, ScaleEvent};

/// Later after the epoch than any age in a case.
const NOW_MS: i64 = 2_000_000_000_000;

fn cases() -> Option<Vec<Value>> {
    let given = std::env::var_os("SEXTANT_CONFORMANCE").filter(|path| !path.is_empty());
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/conformance");
    let path = given.map_or_else(beside, PathBuf::from).join("hpa/reconcile.json");
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(serde_json::from_str(&text).unwrap()),
        Err(error) => {
            let required = std::env::var("SEXTANT_REQUIRE_PEERS").as_deref() == Ok("1");
            assert!(!required, "{}: {error}", path.display());
            // Past the test harness's capture: a run that skips should show.
            let _ = writeln!(std::io::stderr(), "skipped: no {}", path.display());
            None
        }
    }
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn time(age: &Value) -> Value {
    age.as_i64().map_or(Value::Null, |age| {
        let at = jiff::Timestamp::from_millisecond(NOW_MS - age * 1000).unwrap();
        Value::from(at.to_string())
    })
}

/// `{"cpu": 500}` in thousandths as `{"cpu": "500m"}`.
fn quantities(milli: &Value) -> Value {
    let amounts = milli.as_object().into_iter().flatten();
    amounts.map(|(resource, milli)| (resource.clone(), json!(format!("{milli}m")))).collect()
}

fn autoscaler(case: &Value) -> Value {
    let (hpa, status) = (&case["hpa"], &case["hpa"]["status"]);
    let condition = |it: &Value| {
        json!({"type": it["type"], "status": it["status"], "reason": it["reason"], "message": it["message"],
            "lastTransitionTime": time(&it["lastTransitionAgeS"])})
    };
    json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"namespace": hpa["namespace"], "name": hpa["name"]},
        "spec": hpa["spec"],
        "status": {
            "currentReplicas": status["currentReplicas"], "desiredReplicas": status["desiredReplicas"],
            "lastScaleTime": time(&status["lastScaleTimeAgeS"]), "currentMetrics": status["currentMetrics"],
            "conditions": array(&status["conditions"]).iter().map(condition).collect::<Vec<_>>(),
        },
    })
}

fn scale(namespace: &Value, name: &Value, replicas: [&Value; 2], selector: &Value) -> Value {
    json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"namespace": namespace, "name": name},
        "spec": {"replicas": replicas[0]}, "status": {"replicas": replicas[1], "selector": selector}})
}

fn pod(namespace: &Value, pod: &Value) -> Value {
    let container = |it: &Value| {
        let mut container = json!({"name": it["name"], "resources": {"requests": quantities(&it["requestsMilli"])}});
        if it["restartPolicyAlways"] == true {
            container["restartPolicy"] = json!("Always");
        }
        container
    };
    let containers = |field: &str| array(&pod[field]).iter().map(container).collect::<Vec<_>>();
    let mut object = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": namespace, "name": pod["name"], "labels": pod["labels"]},
        "spec": {"containers": containers("containers"), "initContainers": containers("initContainers")},
        "status": {"phase": pod["phase"], "startTime": time(&pod["startAgeS"])},
    });
    if pod["deleting"] == true {
        object["metadata"]["deletionTimestamp"] = time(&json!(0));
    }
    if pod["podRequestsMilli"].is_object() {
        object["spec"]["resources"] = json!({"requests": quantities(&pod["podRequestsMilli"])});
    }
    if pod["ready"].is_string() {
        object["status"]["conditions"] = json!([{"type": "Ready", "status": pod["ready"],
            "lastTransitionTime": time(&pod["readyTransitionAgeS"])}]);
    }
    object
}

/// One list for each API that answered anything.
fn metrics(case: &Value) -> Vec<Value> {
    let namespace = &case["hpa"]["namespace"];
    let (mut usages, mut custom, mut external) = (BTreeSet::new(), Vec::new(), Vec::new());
    let mut apis = BTreeSet::new();
    for response in array(&case["metricResponses"]) {
        let (api, request) = (response["api"].as_str().unwrap_or_default(), &response["request"]);
        let items = array(&response["items"]);
        // An answer without an item that should be there still is an answer.
        let answered = response["error"].as_str().is_none_or(|error| error.contains("0 results"));
        if answered {
            apis.insert(api.split('.').next().unwrap());
        }
        let value = |item: &Value| json!(format!("{}m", item["valueMilli"]));
        let object = |kind: &Value, name: &Value, item: &Value| {
            json!({"describedObject": {"kind": kind, "namespace": namespace, "name": name},
                "metric": {"name": request["metric"], "selector": null}, "timestamp": time(&item["ageS"]),
                "windowSeconds": item["windowS"], "value": value(item)})
        };
        for item in items {
            match api {
                "resource" => {
                    let container = |it: &Value| json!({"name": it["name"], "usage": quantities(&it["usageMilli"])});
                    let containers: Vec<_> =
                        array(&item["containers"]).iter().map(container).collect();
                    let usage = json!({"metadata": {"namespace": namespace, "name": item["pod"]},
                        "timestamp": time(&item["ageS"]), "window": format!("{}s", item["windowS"]),
                        "containers": containers});
                    usages.insert(usage.to_string());
                }
                "custom.pods" => custom.push(object(&json!("Pod"), &item["pod"], item)),
                "custom.object" => {
                    let of = &request["object"];
                    custom.push(object(&of["kind"], &of["name"], item));
                }
                "external" => external
                    .push(json!({"metricName": request["metric"], "metricLabels": {},
                    "timestamp": time(&item["ageS"]), "value": value(item)})),
                other => panic!("no API {other}"),
            }
        }
    }
    let usages: Vec<Value> =
        usages.iter().map(|usage| serde_json::from_str(usage).unwrap()).collect();
    let lists = [
        ("resource", "metrics.k8s.io/v1beta1", "PodMetricsList", usages),
        ("custom", "custom.metrics.k8s.io/v1beta2", "MetricValueList", custom),
        ("external", "external.metrics.k8s.io/v1beta1", "ExternalMetricValueList", external),
    ];
    let wanted = lists.into_iter().filter(|(api, ..)| apis.contains(api));
    wanted.map(|(_, version, kind, items)| json!({"apiVersion": version, "kind": kind, "items": items})).collect()
}

/// The objects of a case, as YAML of several documents.
fn file(case: &Value) -> String {
    let (namespace, target) = (&case["hpa"]["namespace"], &case["hpa"]["spec"]["scaleTargetRef"]);
    let mut objects = metrics(case);
    objects.extend(array(&case["pods"]).iter().map(|it| pod(namespace, it)));
    let read = &case["scale"]["gets"][0];
    if read["error"].is_null() {
        let replicas = [&read["specReplicas"], &read["statusReplicas"]];
        objects.push(scale(namespace, &target["name"], replicas, &read["selector"]));
    }
    for other in array(&case["otherHpas"]) {
        let name = json!(format!("target-of-{}", other["name"].as_str().unwrap()));
        objects.push(scale(&other["namespace"], &name, [&json!(1), &json!(1)], &other["selector"]));
        objects.push(json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler",
            "metadata": {"namespace": other["namespace"], "name": other["name"]},
            "spec": {"maxReplicas": 5, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}}}));
    }
    objects.push(autoscaler(case));
    let documents = objects.iter().map(|object| serde_saphyr::to_string(object).unwrap());
    documents.collect::<Vec<_>>().join("\n---\n")
}

fn constants(case: &Value) -> Constants {
    let (given, gates) = (&case["constants"], &case["gates"]);
    let ms = |field: &str| given[field].as_i64().unwrap() * 1000;
    Constants {
        tolerance: given["tolerance"].as_f64().unwrap(),
        cpu_initialization_period_ms: ms("cpuInitializationPeriodS"),
        initial_readiness_delay_ms: ms("initialReadinessDelayS"),
        downscale_stabilization_ms: ms("downscaleStabilizationWindowS"),
        scale_up_limit_factor: given["scaleUpLimitFactor"].as_f64().unwrap(),
        scale_up_limit_minimum: given["scaleUpLimitMinimum"].as_f64().unwrap(),
        gates: Gates {
            scale_to_zero: gates["HPAScaleToZero"] == true,
            configurable_tolerance: gates["HPAConfigurableTolerance"] == true,
            pod_level_resources: gates["PodLevelResources"] == true,
        },
    }
}

fn memory(case: &Value) -> Memory {
    let at = |it: &Value| NOW_MS - it["ageS"].as_i64().unwrap() * 1000;
    let number = |value: &Value| i32::try_from(value.as_i64().unwrap()).unwrap();
    let recommendation =
        |it: &Value| Recommendation { replicas: number(&it["replicas"]), at: at(it) };
    let event = |it: &Value| ScaleEvent {
        change: number(&it["change"]),
        at: at(it),
        outdated: it["outdated"] == true,
    };
    Memory {
        recommendations: case["recommendations"]
            .as_array()
            .map(|all| all.iter().map(recommendation).collect()),
        scale_up_events: array(&case["scaleUpEvents"]).iter().map(event).collect(),
        scale_down_events: array(&case["scaleDownEvents"]).iter().map(event).collect(),
        ..Memory::default()
    }
}

/// Only these fields of each entry.
fn fields(entries: &Value, names: &[&str]) -> Vec<Map<String, Value>> {
    let pick = |entry: &Value| {
        names.iter().map(|name| ((*name).to_owned(), entry[*name].clone())).collect()
    };
    array(entries).iter().map(pick).collect()
}

#[test]
fn recorded_reconciliations_are_explained_from_objects() {
    let Some(cases) = cases() else { return };
    let mut wrong = Vec::new();
    let mut compared = 0;
    for case in &cases {
        // A write that fails is none that a file could tell of.
        if array(&case["scale"]["updateErrors"]).iter().any(|error| !error.is_null()) {
            continue;
        }
        let name = case["name"].as_str().unwrap();
        let mut objects = Objects::default();
        if let Err(error) = objects.read(name, &file(case)) {
            wrong.push(format!("{name}: {error}"));
            continue;
        }
        let autoscaler =
            objects.autoscalers().find(|it| case["hpa"]["name"] == it.name.as_str()).unwrap();
        let (mut inputs, _) = objects.inputs(autoscaler, &constants(case), NOW_MS);
        inputs.memory = memory(case);
        let decision = decide(&inputs, NOW_MS);
        let written = if decision.rescale { Written::Done } else { Written::NotAsked };
        let conclusion = conclude(&inputs, &decision, &written, NOW_MS);
        let explained = serde_json::to_value(document(&inputs, &decision, &conclusion)).unwrap();

        // Texts of errors tell how a call failed, and objects are only there or not. A selector's complaint is the parser's own.
        let failed = array(&case["metricResponses"]).iter().any(|it| it["error"].is_string())
            || case["scale"]["gets"][0]["error"].is_string();
        let parser =
            array(&case["expect"]["conditions"]).iter().any(|it| it["reason"] == "InvalidSelector");
        let (condition, event): (&[&str], &[&str]) = if failed || parser {
            (&["type", "status", "reason"], &["type", "reason"])
        } else {
            (&["type", "status", "reason", "message"], &["type", "reason", "message"])
        };
        let expect = &case["expect"];
        let views = |of: &Value| {
            (
                of["desiredReplicas"].clone(),
                of["currentReplicas"].clone(),
                fields(&of["conditions"], condition),
                fields(&of["events"], event),
            )
        };
        compared += 1;
        if views(&explained) != views(expect) || explained["rescale"] != expect["scaleUpdated"] {
            wrong.push(format!(
                "{name}:\n  {:?}\n  expected {:?}",
                views(&explained),
                views(expect)
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {compared}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared >= 40, "only {compared} cases");
}
