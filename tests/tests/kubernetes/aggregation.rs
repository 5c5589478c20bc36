//! The harness's aggregation layer sends what kube-aggregator sends.

use std::time::Duration;

use serde_json::{Value, json};
use tests::harness::kube::{
    ApiServer, ApiServerOptions, Credentials, ExtensionServer, Identity, Kubectl, PROXY_NAME,
    Reply, Seen, Subject, User,
};
use tests::harness::wait_for;

const LIMIT: Duration = Duration::from_secs(30);
const NAME: &str = "v1.things.example.com";
const GROUP: &str = "/apis/things.example.com/v1";

fn discovery() -> Reply {
    let things = json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": "things.example.com/v1",
        "resources": [{
            "name": "things",
            "singularName": "thing",
            "namespaced": true,
            "kind": "Thing",
            "verbs": ["get", "list"],
            "shortNames": ["th"],
        }],
    });
    Reply { status: 200, body: things.to_string(), ..Reply::default() }
}

fn respond(seen: &Seen) -> Reply {
    match seen.uri.split('?').next().unwrap_or_default() {
        GROUP => discovery(),
        path if path.ends_with("/redirects") => {
            let location = ("location", String::from("https://elsewhere.example.com/"));
            Reply { status: 302, headers: vec![location], ..Reply::default() }
        }
        path if path.ends_with("/things") => {
            let list = json!({
                "kind": "ThingList",
                "apiVersion": "things.example.com/v1",
                "metadata": {},
                "items": [{ "metadata": { "name": "t", "namespace": "default" } }],
            });
            let endless = seen.uri.contains("watch=true");
            Reply { status: 200, body: format!("{list}\n"), endless, ..Reply::default() }
        }
        _ => Reply { status: 404, body: String::from("{}"), ..Reply::default() },
    }
}

/// A certificate for the service's name, of an authority that clients of the cluster do not use otherwise.
fn identity(api: &ApiServer) -> Identity {
    let names = ["extension.default.svc"];
    let subject = Subject { common_name: names[0], dns_names: &names, ..Subject::default() };
    api.pki().kubelet.issue(&subject)
}

fn register(api: &ApiServer, ca_bundle: Option<&str>) {
    let mut service = json!({
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": { "name": NAME },
        "spec": {
            "group": "things.example.com",
            "version": "v1",
            "service": { "namespace": "default", "name": "extension" },
        },
    });
    match ca_bundle {
        Some(pem) => service["spec"]["caBundle"] = encode_base64(pem.as_bytes()).into(),
        None => service["spec"]["insecureSkipTLSVerify"] = true.into(),
    }
    api.delete(&format!("/apis/apiregistration.k8s.io/v1/apiservices/{NAME}"));
    api.put(service);
}

fn encode_base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let mut group = [0; 3];
        group[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        for index in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * index) & 63) as usize];
            out.push(if index <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

fn condition(api: &ApiServer) -> Value {
    let service = api.get(&format!("/apis/apiregistration.k8s.io/v1/apiservices/{NAME}"));
    service.unwrap()["status"]["conditions"][0].clone()
}

fn wait_for_reason(api: &ApiServer, reason: &str) -> Value {
    wait_for(reason, LIMIT, || match condition(api) {
        condition if condition["reason"] == reason => Ok(condition),
        condition => Err(condition.to_string()),
    })
}

#[test]
fn requests_arrive_as_the_proxys_with_who_asked() {
    let folder = tempfile::tempdir().unwrap();
    let api = ApiServer::start(&ApiServerOptions::default());
    let Some(kubectl) = Kubectl::find(&api.admin_kubeconfig(folder.path())) else { return };
    let server = ExtensionServer::start(&identity(&api), respond);
    api.route_service("default", "extension", vec![server.address()]);
    register(&api, Some(api.pki().kubelet.pem()));
    let passed = wait_for_reason(&api, "Passed");
    assert_eq!(passed["status"], "True");
    let checks = server.seen();
    assert_eq!(checks[0].uri, GROUP);
    assert_eq!(checks[0].header("x-remote-user"), ["system:kube-aggregator"]);
    assert_eq!(checks[0].header("x-remote-group"), ["system:masters"]);
    assert_eq!(checks[0].client.as_deref(), Some(PROXY_NAME));

    let mut user = User::new("jane", &["system:masters", "system:authenticated"]);
    user.uid = String::from("7");
    user.extra.insert(String::from("example.com/Team"), vec![String::from("blue")]);
    api.access().put_token("jane-token", user);
    let credentials = Credentials::Token(String::from("jane-token"));
    let jane = Kubectl::find(&api.kubeconfig(folder.path(), "jane", &credentials)).unwrap();
    let table = jane.run(&["get", "things", "--no-headers", "-o", "name"]);
    assert_eq!(table, "thing.things.example.com/t\n");
    let request = server.seen().into_iter().rfind(|seen| seen.uri.contains("/things")).unwrap();
    assert_eq!(request.uri, format!("{GROUP}/namespaces/default/things?limit=500"));
    assert_eq!(request.header("x-remote-user"), ["jane"]);
    assert_eq!(request.header("x-remote-uid"), ["7"]);
    assert_eq!(request.header("x-remote-group"), ["system:masters", "system:authenticated"]);
    assert_eq!(request.header("x-remote-extra-example.com%2fteam"), ["blue"]);
    assert_eq!(request.header("authorization"), [""; 0]);
    assert_eq!(request.client.as_deref(), Some(PROXY_NAME));

    let redirected = kubectl.fail(&["get", "--raw", &format!("{GROUP}/redirects")]);
    assert!(redirected.contains("attempted to redirect"), "{redirected}");
    let watch = format!("{GROUP}/namespaces/default/things?watch=true");
    let watch = kubectl.spawn(&["get", "--raw", &watch]);
    wait_for("the first event of a watch that does not end", LIMIT, || match watch.lines() {
        lines if lines.len() == 1 => Ok(()),
        lines => Err(format!("{lines:?}")),
    });
}

#[test]
fn availability_follows_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let options = ApiServerOptions {
        availability_interval: Duration::from_millis(50),
        ..ApiServerOptions::default()
    };
    let api = ApiServer::start(&options);
    register(&api, Some(api.pki().kubelet.pem()));
    let absent = wait_for_reason(&api, "ServiceNotFound");
    assert_eq!(absent["message"], "service/extension in \"default\" is not present");

    let server = ExtensionServer::start(&identity(&api), respond);
    api.route_service("default", "extension", vec![server.address()]);
    wait_for_reason(&api, "Passed");
    register(&api, Some(api.pki().cluster.pem()));
    assert_eq!(wait_for_reason(&api, "FailedDiscoveryCheck")["status"], "False");
    register(&api, None);
    wait_for_reason(&api, "Passed");

    drop(server);
    wait_for_reason(&api, "FailedDiscoveryCheck");
    let Some(kubectl) = Kubectl::find(&api.admin_kubeconfig(folder.path())) else { return };
    let refused = kubectl.fail(&["get", "--raw", GROUP]);
    assert!(refused.contains("Error from server (ServiceUnavailable)"), "{refused}");
    let services = kubectl.run(&["get", "apiservices", "--no-headers"]);
    let words: Vec<_> = services.split_whitespace().collect();
    assert_eq!(words[..3], [NAME, "extension", "False"]);
}
