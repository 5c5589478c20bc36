//! The manifest in `deploy/` is what the API server would accept, and grants no more than is needed.

#![expect(clippy::unwrap_used, reason = "a manifest that cannot be read should fail the test")]

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, RoleBinding};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const MANIFEST: &str = include_str!("../../deploy/metrics-server.yaml");

fn documents() -> Vec<Value> {
    MANIFEST.split("\n---\n").skip(1).map(|text| serde_saphyr::from_str(text).unwrap()).collect()
}

/// Reads `document` as a `T` and complains about what a `T` does not have.
fn check<T: DeserializeOwned + Serialize>(document: &Value) {
    let typed: T = serde_json::from_value(document.clone()).unwrap();
    let kept = serde_json::to_value(typed).unwrap();
    assert!(contains(&kept, document), "not all of it is known:\n{document:#}\n{kept:#}");
}

/// Whether `whole` has everything that `part` has.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => part.iter().all(|(key, value)| {
            let empty = value.as_object().is_some_and(serde_json::Map::is_empty);
            whole.get(key).map_or(empty, |whole| contains(whole, value))
        }),
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() == part.len() && whole.iter().zip(part).all(|(a, b)| contains(a, b))
        }
        _ => whole == part,
    }
}

#[test]
fn every_object_is_of_its_kind() {
    let documents = documents();
    for document in &documents {
        match document["kind"].as_str().unwrap() {
            "ServiceAccount" => check::<ServiceAccount>(document),
            "ClusterRole" => check::<ClusterRole>(document),
            "ClusterRoleBinding" => check::<ClusterRoleBinding>(document),
            "RoleBinding" => check::<RoleBinding>(document),
            "Service" => check::<Service>(document),
            "Deployment" => check::<Deployment>(document),
            "APIService" => check::<APIService>(document),
            "NetworkPolicy" => check::<NetworkPolicy>(document),
            other => panic!("unexpected {other}"),
        }
    }
    assert_eq!(documents.len(), 12);
}

#[test]
fn no_more_is_granted_than_needed() {
    let documents = documents();
    let role = |name: &str| {
        let found =
            documents.iter().find(|d| d["kind"] == "ClusterRole" && d["metadata"]["name"] == name);
        found.unwrap()["rules"].clone()
    };
    let expected = json!([
        {"apiGroups": [""], "resources": ["nodes/metrics"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["nodes", "pods"], "verbs": ["get", "list", "watch"]},
    ]);
    assert_eq!(role("system:metrics-server"), expected);
    let ca_bundle = role("system:metrics-server:ca-bundle");
    assert_eq!(ca_bundle[0]["resourceNames"], json!(["v1beta1.metrics.k8s.io"]));
    assert_eq!(ca_bundle[0]["verbs"], json!(["get", "update"]));
    assert!(!MANIFEST.contains("insecureSkipTLSVerify") && !MANIFEST.contains("\"*\""));
    let deployment = documents.iter().find(|d| d["kind"] == "Deployment").unwrap();
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let expected = json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "runAsNonRoot": true,
        "runAsUser": 1000,
        "seccompProfile": {"type": "RuntimeDefault"},
        "capabilities": {"drop": ["ALL"]},
    });
    assert_eq!(container["securityContext"], expected);
}

#[test]
fn a_slow_start_is_no_reason_for_a_restart() {
    let documents = documents();
    let deployment = documents.iter().find(|d| d["kind"] == "Deployment").unwrap();
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let (startup, liveness) = (&container["startupProbe"], &container["livenessProbe"]);
    assert_eq!(startup["httpGet"]["path"], "/livez");
    assert_eq!(startup["httpGet"], liveness["httpGet"]);
    let seconds =
        startup["periodSeconds"].as_u64().unwrap() * startup["failureThreshold"].as_u64().unwrap();
    assert!(seconds >= 300, "{seconds}");
}
