//! The harness's API server is one to the real `kubectl`.

use std::time::Duration;

use serde_json::{Value, json};
use tests::harness::kube::{
    ApiServer, ApiServerOptions, Credentials, Effect, Fault, Kubectl, Rule, User,
};
use tests::harness::wait_for;

const LIMIT: Duration = Duration::from_secs(60);

struct Cluster {
    api: ApiServer,
    kubectl: Kubectl,
    folder: tempfile::TempDir,
}

fn cluster() -> Option<Cluster> {
    let folder = tempfile::tempdir().unwrap();
    let api = ApiServer::start(&ApiServerOptions::default());
    let kubectl = Kubectl::find(&api.admin_kubeconfig(folder.path()))?;
    Some(Cluster { api, kubectl, folder })
}

fn node(name: &str, zone: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": name, "labels": { "zone": zone } },
        "status": {
            "conditions": [{ "type": "Ready", "status": "True" }],
            "nodeInfo": { "kubeletVersion": "v1.37.0" },
        },
    })
}

fn pod(namespace: &str, name: &str, app: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "namespace": namespace, "labels": { "app": app } },
        "spec": { "containers": [{ "name": "c", "image": "i" }], "nodeName": "n1" },
        "status": {
            "phase": "Running",
            "containerStatuses": [{ "name": "c", "ready": true, "restartCount": 2 }],
        },
    })
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

#[test]
fn get_prints_tables_yaml_and_selections() {
    let Some(cluster) = cluster() else { return };
    let Cluster { api, kubectl, .. } = &cluster;
    api.put(node("n1", "a"));
    api.put(node("n2", "b"));
    api.put(pod("default", "p1", "web"));
    api.put(pod("default", "p2", "db"));
    api.put(pod("other", "p3", "web"));

    let nodes = kubectl.run(&["get", "nodes"]);
    let lines: Vec<_> = nodes.lines().collect();
    assert_eq!(words(lines[0]), ["NAME", "STATUS", "ROLES", "AGE", "VERSION"]);
    assert_eq!(words(lines[1])[..3], ["n1", "Ready", "<none>"]);
    assert_eq!(words(lines[1])[4], "v1.37.0");
    assert_eq!(lines.len(), 3);

    let pods = kubectl.run(&["get", "pods", "-A", "-l", "app=web", "--no-headers"]);
    let rows: Vec<_> = pods.lines().map(|line| words(line)[..5].join(" ")).collect();
    assert_eq!(rows, ["default p1 1/1 Running 2", "other p3 1/1 Running 2"]);

    let names = ["get", "pods", "-A", "-o", "name", "--field-selector", "metadata.name!=p1"];
    assert_eq!(kubectl.run(&names), "pod/p2\npod/p3\n");
    let paged = ["get", "pods", "-A", "-o", "name", "--chunk-size=1"];
    assert_eq!(kubectl.run(&paged), "pod/p1\npod/p2\npod/p3\n");

    let yaml = kubectl.run(&["get", "pod", "p1", "-o", "yaml"]);
    assert!(yaml.starts_with("apiVersion: v1\nkind: Pod\n"), "{yaml}");
    assert!(yaml.contains("\n  resourceVersion: \""), "{yaml}");

    let error = kubectl.fail(&["get", "pod", "absent"]);
    assert_eq!(error, "Error from server (NotFound): pods \"absent\" not found\n");
}

#[test]
fn watch_follows_changes_and_survives_breaks() {
    let Some(cluster) = cluster() else { return };
    let Cluster { api, kubectl, .. } = &cluster;
    api.put(pod("default", "p1", "web"));
    let watch = kubectl.spawn(&["get", "pods", "--watch", "-o", "name"]);
    let until = |count: usize| {
        wait_for("lines", LIMIT, || match watch.lines() {
            lines if lines.len() >= count => Ok(lines),
            lines => Err(format!("{lines:?}")),
        })
    };
    assert_eq!(until(1), ["pod/p1"]);
    api.put(pod("default", "p2", "web"));
    assert_eq!(until(2), ["pod/p1", "pod/p2"]);
    api.edit("/api/v1/namespaces/default/pods/p1", |pod| pod["status"]["phase"] = "Failed".into());
    assert_eq!(until(3), ["pod/p1", "pod/p2", "pod/p1"]);
}

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: main, image: nginx}
      - {name: side, image: envoy}
";

#[test]
fn apply_patch_and_scale_change_objects() {
    let Some(cluster) = cluster() else { return };
    let Cluster { api, kubectl, .. } = &cluster;
    let applied = |text: &str| kubectl.run_with(&["apply", "-f", "-"], text);
    assert_eq!(applied(DEPLOYMENT), "deployment.apps/web created\n");
    assert_eq!(applied(DEPLOYMENT), "deployment.apps/web unchanged\n");
    let changed = DEPLOYMENT.replace("image: envoy", "image: linkerd");
    assert_eq!(applied(&changed), "deployment.apps/web configured\n");
    let web = api.get("/apis/apps/v1/namespaces/default/deployments/web").unwrap();
    let images = &web["spec"]["template"]["spec"]["containers"];
    assert_eq!(images[0]["image"], "nginx");
    assert_eq!(images[1]["image"], "linkerd");
    assert_eq!(web["metadata"]["generation"], 2);

    let scaled = kubectl.run(&["scale", "deployment", "web", "--replicas=5"]);
    assert_eq!(scaled, "deployment.apps/web scaled\n");
    let web = api.get("/apis/apps/v1/namespaces/default/deployments/web").unwrap();
    assert_eq!(web["spec"]["replicas"], 5);
    assert_eq!(web["metadata"]["generation"], 3);
    let path = "/apis/apps/v1/namespaces/default/deployments/web/scale";
    let scale: Value = serde_json::from_str(&kubectl.run(&["get", "--raw", path])).unwrap();
    assert_eq!(scale["kind"], "Scale");
    assert_eq!(scale["spec"], json!({ "replicas": 5 }));
    assert_eq!(scale["status"], json!({ "replicas": 0, "selector": "app=web" }));

    for (kind, patch) in [
        ("merge", r#"{"metadata":{"labels":{"a":"1"}}}"#),
        ("strategic", r#"{"metadata":{"labels":{"b":"2"}}}"#),
        ("json", r#"[{"op":"add","path":"/metadata/labels/c","value":"3"}]"#),
    ] {
        let patched = kubectl.run(&["patch", "deployment", "web", "--type", kind, "-p", patch]);
        assert_eq!(patched, "deployment.apps/web patched\n");
    }
    let web = api.get("/apis/apps/v1/namespaces/default/deployments/web").unwrap();
    assert_eq!(web["metadata"]["labels"], json!({ "a": "1", "b": "2", "c": "3" }));
    assert_eq!(web["metadata"]["generation"], 3, "labels are no part of the specification");

    let deleted = kubectl.run(&["delete", "deployment", "web"]);
    assert!(deleted.starts_with("deployment.apps \"web\" deleted"), "{deleted}");
    assert_eq!(api.get("/apis/apps/v1/namespaces/default/deployments/web"), None);
}

/// Who has written to an object, in which way, and where.
fn writers(object: &Value) -> Vec<[String; 3]> {
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    let text = |value: &Value| String::from(value.as_str().unwrap_or_default());
    let fields = ["manager", "operation", "subresource"];
    entries.map(|entry| fields.map(|field| text(&entry[field]))).collect()
}

#[test]
fn writers_are_told() {
    let Some(cluster) = cluster() else { return };
    let Cluster { api, kubectl, .. } = &cluster;
    let web = || api.get("/apis/apps/v1/namespaces/default/deployments/web").unwrap();
    let _ = kubectl.run_with(&["create", "-f", "-"], DEPLOYMENT);
    assert_eq!(writers(&web()), [["kubectl-create", "Update", ""]]);
    let replicas = || {
        let entries = web()["metadata"]["managedFields"].as_array().unwrap().clone();
        let has = |entry: &Value| !entry["fieldsV1"]["f:spec"]["f:replicas"].is_null();
        let having = entries.iter().filter(|entry| has(entry));
        having.map(|entry| String::from(entry["manager"].as_str().unwrap())).collect::<Vec<_>>()
    };
    assert_eq!(replicas(), ["kubectl-create"]);
    let _ = kubectl.run(&["scale", "deployment", "web", "--replicas=5"]);
    // All else is still the first one's. It is `kubectl` that names itself so.
    assert_eq!(replicas(), ["kubectl"]);
    let scaled = ["kubectl", "Update", "scale"].map(String::from);
    assert!(writers(&web()).contains(&scaled), "{:#}", web()["metadata"]);

    let unshown = kubectl.run(&["get", "deployment", "web", "-o", "yaml"]);
    assert!(!unshown.contains("managedFields"), "{unshown}");
    let show = ["get", "deployment", "web", "-o", "yaml", "--show-managed-fields"];
    assert!(kubectl.run(&show).contains("  managedFields:\n"));

    // What a client sends back is what it was told, and changes nothing.
    let before = web();
    let same = kubectl.run_with(&["replace", "-f", "-"], &before.to_string());
    assert_eq!(same, "deployment.apps/web replaced\n");
    assert_eq!(web(), before);
}

#[test]
fn server_side_apply_refuses_fields_of_others() {
    let Some(cluster) = cluster() else { return };
    let Cluster { api, kubectl, .. } = &cluster;
    let web = || api.get("/apis/apps/v1/namespaces/default/deployments/web").unwrap();
    let apply = ["apply", "--server-side", "-f", "-"];
    let as_whom = |who: &'static str| [&apply[..], &["--field-manager", who]].concat();
    let applied = "deployment.apps/web serverside-applied\n";
    assert_eq!(kubectl.run_with(&as_whom("team"), DEPLOYMENT), applied);
    assert_eq!(writers(&web()), [["team", "Apply", ""]]);
    let version = web()["metadata"]["resourceVersion"].clone();
    assert_eq!(kubectl.run_with(&as_whom("team"), DEPLOYMENT), applied);
    assert_eq!(web()["metadata"]["resourceVersion"], version, "nothing has changed");

    let more = DEPLOYMENT.replace("replicas: 2", "replicas: 3");
    let refused = kubectl.try_run(&as_whom("other"), &more);
    assert!(!refused.success, "{}", refused.stdout);
    let why = "Apply failed with 1 conflict: conflict with \"team\": .spec.replicas";
    assert!(refused.stderr.contains(why), "{}", refused.stderr);
    let forced = [&as_whom("other")[..], &["--force-conflicts"]].concat();
    assert_eq!(kubectl.run_with(&forced, &more), applied);
    assert_eq!(web()["spec"]["replicas"], 3);

    // What only one of them wants goes with it; what it is told without replicas, it no longer wants.
    let without = DEPLOYMENT.replace("  replicas: 2\n", "");
    assert_eq!(kubectl.run_with(&as_whom("other"), &without), applied);
    assert_ne!(web()["spec"]["replicas"], 3);
    assert_eq!(web()["spec"]["template"]["spec"]["containers"].as_array().map(Vec::len), Some(2));
}

#[test]
fn custom_resources_have_a_scale_once_defined() {
    let Some(cluster) = cluster() else { return };
    let Cluster { api, kubectl, .. } = &cluster;
    api.put(json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": "farms.example.com" },
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": { "plural": "farms", "singular": "farm", "kind": "Farm" },
            "versions": [{
                "name": "v1",
                "served": true,
                "storage": true,
                "subresources": { "status": {}, "scale": {
                    "specReplicasPath": ".spec.count",
                    "statusReplicasPath": ".status.count",
                    "labelSelectorPath": ".status.selector",
                } },
            }],
        },
    }));
    api.put(json!({
        "apiVersion": "example.com/v1",
        "kind": "Farm",
        "metadata": { "name": "f" },
        "spec": { "count": 1 },
        "status": { "count": 1, "selector": "farm=f" },
    }));
    assert_eq!(kubectl.run(&["scale", "farm/f", "--replicas=3"]), "farm.example.com/f scaled\n");
    let farm = kubectl.json(&["get", "farm", "f"]);
    assert_eq!(farm["spec"]["count"], 3);
    let path = "/apis/example.com/v1/namespaces/default/farms/f/scale";
    let scale: Value = serde_json::from_str(&kubectl.run(&["get", "--raw", path])).unwrap();
    assert_eq!(scale["status"], json!({ "replicas": 1, "selector": "farm=f" }));
}

#[test]
fn events_are_one_collection_in_two_groups() {
    let Some(cluster) = cluster() else { return };
    let Cluster { api, kubectl, .. } = &cluster;
    api.put(json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": { "name": "e" },
        "regarding": { "kind": "Pod", "name": "p" },
        "note": "scaled",
        "reason": "SuccessfulRescale",
        "type": "Normal",
    }));
    let event = kubectl.json(&["get", "events", "e"]);
    assert_eq!(event["apiVersion"], "v1");
    assert_eq!(event["message"], "scaled");
    assert_eq!(event["involvedObject"]["name"], "p");
    let event = kubectl.json(&["get", "events.v1.events.k8s.io", "e"]);
    assert_eq!(event["note"], "scaled");
}

#[test]
fn rules_decide_who_may() {
    let Some(cluster) = cluster() else { return };
    let Cluster { api, kubectl, folder } = &cluster;
    api.put(pod("default", "p1", "web"));
    let viewer = User::service_account("default", "viewer");
    api.access().put_token("viewer-token", viewer.clone());
    let rule = Rule::allow(&viewer.name, &["get", "list"]).on("", &["pods"]).within("default");
    api.access().allow(rule);
    let as_whom = |name: &str, credentials| {
        Kubectl::find(&api.kubeconfig(folder.path(), name, &credentials)).unwrap()
    };
    let viewer = as_whom("viewer", Credentials::Token(String::from("viewer-token")));
    assert_eq!(viewer.run(&["get", "pods", "-o", "name"]), "pod/p1\n");
    let refused = viewer.fail(&["get", "nodes"]);
    assert_eq!(
        refused,
        "Error from server (Forbidden): nodes is forbidden: User \
         \"system:serviceaccount:default:viewer\" cannot list resource \"nodes\" in API group \"\" \
         at the cluster scope\n"
    );
    let may = |verb| viewer.try_run(&["auth", "can-i", verb, "pods"], "").stdout == "yes\n";
    assert!(may("list") && !may("delete"));

    let stranger = as_whom("stranger", Credentials::Token(String::from("no-token")));
    assert!(stranger.fail(&["get", "pods"]).contains("You must be logged in"));
    let raw = |path| ["get", "--as=system:anonymous", "--raw", path];
    let refused = kubectl.fail(&raw("/api/v1/pods"));
    assert!(refused.contains("User \"system:anonymous\" cannot list resource"), "{refused}");
    assert_eq!(kubectl.run(&raw("/healthz")), "ok");

    let other = tests::harness::kube::Authority::new("another");
    let subject = tests::harness::kube::Subject {
        common_name: "forger",
        organizations: &["system:masters"],
        ..tests::harness::kube::Subject::default()
    };
    let forger = Credentials::Certificate(Box::new(other.issue(&subject)));
    let forger = as_whom("forger", forger);
    assert!(forger.fail(&["get", "pods"]).contains("You must be logged in"));
}

#[test]
fn faults_hit_as_often_as_asked() {
    let Some(cluster) = cluster() else { return };
    let Cluster { api, kubectl, .. } = &cluster;
    let path = "/api/v1/namespaces/default/configmaps";
    api.inject(Fault::new(path, Effect::Status(500)).times(1));
    assert!(kubectl.fail(&["get", "--raw", path]).contains("injected failure 500"));
    api.clear_requests();
    assert!(kubectl.run(&["get", "--raw", path]).contains("ConfigMapList"));
    let requests = api.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!((requests[0].verb.as_str(), requests[0].status), ("list", 200));
    assert_eq!(requests[0].user.name, "kubernetes-admin");
    assert!(requests[0].user_agent.starts_with("kubectl/"));
}
