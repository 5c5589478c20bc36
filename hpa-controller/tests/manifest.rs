//! The manifest in `deploy/` is what the API server would accept, and grants no more than is needed.

#![expect(clippy::unwrap_used, reason = "a manifest that cannot be read should fail the test")]

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const MANIFEST: &str = include_str!("../../deploy/hpa-controller.yaml");

fn documents() -> Vec<Value> {
    MANIFEST.split("\n---\n").skip(1).map(|text| serde_saphyr::from_str(text).unwrap()).collect()
}

fn named(kind: &str, name: &str) -> Value {
    let found = |d: &Value| d["kind"] == kind && d["metadata"]["name"] == name;
    documents().into_iter().find(found).unwrap()
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
        (Value::Object(whole), Value::Object(part)) => part
            .iter()
            .all(|(key, value)| whole.get(key).is_some_and(|whole| contains(whole, value))),
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
            "Namespace" => check::<Namespace>(document),
            "ServiceAccount" => check::<ServiceAccount>(document),
            "ClusterRole" => check::<ClusterRole>(document),
            "ClusterRoleBinding" => check::<ClusterRoleBinding>(document),
            "Role" => check::<Role>(document),
            "RoleBinding" => check::<RoleBinding>(document),
            "Deployment" => check::<Deployment>(document),
            "PodDisruptionBudget" => check::<PodDisruptionBudget>(document),
            "NetworkPolicy" => check::<NetworkPolicy>(document),
            other => panic!("unexpected {other}"),
        }
    }
    assert_eq!(documents.len(), 11);
}

#[test]
fn shadow_mode_needs_no_permission_to_write() {
    let verbs = |role: &Value| -> Vec<String> {
        let rules = role["rules"].as_array().unwrap().iter();
        let verbs = rules.flat_map(|rule| rule["verbs"].as_array().unwrap());
        verbs.map(|verb| verb.as_str().unwrap().to_owned()).collect()
    };
    let read = named("ClusterRole", "sextant:hpa-controller");
    assert!(verbs(&read).iter().all(|verb| ["get", "list", "watch"].contains(&verb.as_str())));
    let write = named("ClusterRole", "sextant:hpa-controller:write");
    assert_eq!(
        write["rules"],
        json!([
            {"apiGroups": ["*"], "resources": ["*/scale"], "verbs": ["update"]},
            {
                "apiGroups": ["autoscaling"],
                "resources": ["horizontalpodautoscalers/status"],
                "verbs": ["update"],
            },
            {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]},
        ])
    );
    let own = named("Role", "hpa-controller:write");
    let mut own = verbs(&own);
    own.sort();
    own.dedup();
    assert_eq!(own, ["create", "get", "update"]);
    assert!(!MANIFEST.contains("secrets"), "no secret is read");
}

#[test]
fn bindings_name_what_there_is() {
    let account = json!([
        {"kind": "ServiceAccount", "name": "hpa-controller", "namespace": "sextant"},
    ]);
    let mut bindings = 0;
    for binding in documents() {
        let kind = binding["kind"].as_str().unwrap();
        if !kind.ends_with("Binding") {
            continue;
        }
        bindings += 1;
        assert_eq!(binding["subjects"], account);
        let role = &binding["roleRef"];
        named(role["kind"].as_str().unwrap(), role["name"].as_str().unwrap());
        assert_eq!(role["name"], binding["metadata"]["name"]);
    }
    assert_eq!(bindings, 3);
}

#[test]
fn the_pod_is_confined() {
    let deployment = named("Deployment", "hpa-controller");
    assert_eq!(deployment["spec"]["replicas"], 2);
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let context = &container["securityContext"];
    assert_eq!(context["runAsNonRoot"], true);
    assert_eq!(context["readOnlyRootFilesystem"], true);
    assert_eq!(context["allowPrivilegeEscalation"], false);
    assert_eq!(context["capabilities"], json!({"drop": ["ALL"]}));
    assert_eq!(pod["hostNetwork"], Value::Null);
    let port = container["ports"][0]["containerPort"].to_string();
    let args: Vec<_> =
        container["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap()).collect();
    assert!(args.contains(&format!("--web.probe-address=:{port}").as_str()), "{args:?}");
    assert!(args.contains(&"--hpa.mode=shadow"), "it acts only where it is told to");
    for probe in ["livenessProbe", "readinessProbe"] {
        assert_eq!(container[probe]["httpGet"]["port"], "probes");
    }
}
