//! Versions, watches and conflicts of the harness's API server, as the API's concepts page defines them.

use serde_json::{Value, json};
use tests::harness::Answer;
use tests::harness::kube::{
    ApiServer, ApiServerOptions, Effect, Fault, HttpsRequest, Identity, Kubectl, Subject,
};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

struct Client {
    api: ApiServer,
    identity: Identity,
}

impl Client {
    fn new() -> Self {
        let api = ApiServer::start(&ApiServerOptions::default());
        let subject = Subject {
            common_name: "admin",
            organizations: &["system:masters"],
            ..Subject::default()
        };
        let identity = api.pki().client.issue(&subject);
        Self { api, identity }
    }

    fn get(&self, query: &str) -> Answer {
        let request = HttpsRequest {
            verify: Some(("localhost", &self.api.pki().cluster)),
            identity: Some(&self.identity),
            headers: &[],
        };
        request.get(self.api.address(), &format!("{MAPS}?{query}")).unwrap()
    }

    fn list(&self, query: &str) -> Value {
        let answer = self.get(query);
        assert_eq!(answer.status, 200, "{query}: {}", answer.body);
        answer.json()
    }

    fn version(&self) -> String {
        String::from(self.list("")["metadata"]["resourceVersion"].as_str().unwrap())
    }

    /// The events of a second, as `TYPE name label`.
    fn watch(&self, query: &str) -> Vec<String> {
        let answer = self.get(&format!("watch=true&timeoutSeconds=1&{query}"));
        assert_eq!(answer.status, 200, "{query}: {}", answer.body);
        let line = |line: &str| {
            let event: Value = serde_json::from_str(line).unwrap();
            let (kind, object) = (event["type"].as_str().unwrap(), &event["object"]);
            let metadata = &object["metadata"];
            match kind {
                "ERROR" => format!("ERROR {} {}", object["code"], object["reason"]),
                "BOOKMARK" => format!("BOOKMARK {}", metadata["annotations"]),
                kind => format!("{kind} {} {}", metadata["name"], metadata["labels"]["v"]),
            }
            .replace('"', "")
        };
        answer.body.lines().map(line).collect()
    }

    fn put(&self, name: &str, label: &str) {
        self.api.put(json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "name": name, "labels": { "v": label } },
        }));
    }

    fn delete(&self, name: &str) {
        assert!(self.api.delete(&format!("{MAPS}/{name}")));
    }
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap().iter();
    items.map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

#[test]
fn a_watch_goes_on_from_a_list() {
    let client = Client::new();
    client.put("a", "1");
    let version = client.version();
    client.put("b", "1");
    client.put("a", "2");
    client.delete("b");
    assert_eq!(
        client.watch(&format!("resourceVersion={version}")),
        ["ADDED b 1", "MODIFIED a 2", "DELETED b 1"]
    );
    assert_eq!(client.watch(""), ["ADDED a 2"]);
    assert_eq!(client.watch(&format!("resourceVersion={}", client.version())), [""; 0]);
}

#[test]
fn a_watch_with_a_selector_sees_objects_come_and_go() {
    let client = Client::new();
    let version = client.version();
    client.put("a", "1");
    client.put("a", "2");
    client.put("a", "3");
    client.put("a", "1");
    client.delete("a");
    assert_eq!(
        client.watch(&format!("resourceVersion={version}&labelSelector=v+in+(2,3)")),
        ["ADDED a 2", "MODIFIED a 3", "DELETED a 3"]
    );
}

#[test]
fn a_watch_can_begin_with_all_there_is() {
    let client = Client::new();
    client.put("a", "1");
    client.put("b", "1");
    let initial = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan\
                   &allowWatchBookmarks=true&fieldSelector=metadata.name!=b";
    let events = client.watch(initial);
    assert_eq!(events[..2], ["ADDED a 1", "BOOKMARK {k8s.io/initial-events-end:true}"]);
    let refused = client.get("watch=true&sendInitialEvents=true");
    assert_eq!(refused.status, 422);
}

#[test]
fn what_is_too_old_or_not_there_yet_is_said_so() {
    let client = Client::new();
    client.put("a", "1");
    client.put("b", "1");
    let version = client.version();
    let page = client.list("limit=1");
    let token = page["metadata"]["continue"].as_str().unwrap();
    client.put("a", "2");
    client.api.compact();
    let gone = client.watch(&format!("resourceVersion={version}"));
    assert_eq!(gone, ["ERROR 410 Expired"]);
    let gone = client.get(&format!("limit=1&continue={token}"));
    assert_eq!((gone.status, gone.json()["reason"].as_str()), (410, Some("Expired")));
    let gone = client.get(&format!("resourceVersion={version}&resourceVersionMatch=Exact"));
    assert_eq!(gone.status, 410);
    let early = client.get("resourceVersion=1000000");
    assert_eq!((early.status, early.json()["reason"].as_str()), (504, Some("Timeout")));
    assert_eq!(client.get("labelSelector=a+b+c").status, 400);
}

#[test]
fn pages_and_exact_versions_are_of_one_moment() {
    let client = Client::new();
    for name in ["a", "b", "c"] {
        client.put(name, "1");
    }
    let version = client.version();
    let first = client.list("limit=2");
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 1);
    client.delete("c");
    client.put("d", "1");
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = client.list(&format!("limit=2&continue={token}"));
    assert_eq!(names(&second), ["c"]);
    assert_eq!(second["metadata"]["resourceVersion"], version);
    assert_eq!(names(&client.list("")), ["a", "b", "d"]);
    let exact = client.list(&format!("resourceVersion={version}&resourceVersionMatch=Exact"));
    assert_eq!(names(&exact), ["a", "b", "c"]);
}

#[test]
fn stale_writes_conflict() {
    let client = Client::new();
    let folder = tempfile::tempdir().unwrap();
    let Some(kubectl) = Kubectl::find(&client.api.admin_kubeconfig(folder.path())) else { return };
    client.put("a", "1");
    let old = kubectl.run(&["get", "configmap", "a", "-o", "json"]);
    client.put("a", "2");
    let refused = kubectl.try_run(&["replace", "-f", "-"], &old);
    assert!(!refused.success);
    assert!(refused.stderr.contains("the object has been modified"), "{refused:?}");
    let map = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}"#;
    let again = kubectl.try_run(&["create", "-f", "-"], map);
    assert!(again.stderr.contains("configmaps \"a\" already exists"), "{again:?}");
    let nowhere = kubectl.try_run(&["create", "-n", "nowhere", "-f", "-"], map).stderr;
    assert!(nowhere.contains("namespaces \"nowhere\" not found"), "{nowhere}");
}

#[test]
fn connections_break_off_when_told() {
    let client = Client::new();
    client.api.inject(Fault::new(MAPS, Effect::Close).verb("list").times(1));
    let request = HttpsRequest { identity: Some(&client.identity), ..HttpsRequest::default() };
    assert!(request.get(client.api.address(), MAPS).is_err());
    assert_eq!(request.get(client.api.address(), MAPS).unwrap().status, 200);
}
