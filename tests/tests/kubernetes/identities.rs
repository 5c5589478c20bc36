//! Who may ask our metrics server, and how it knows who asks.

use tests::harness::Answer;
use tests::harness::kube::{
    Credentials, HttpsRequest, Identity, Kubectl, PROXY_NAME, Rule, Subject, User,
};

use super::fixture::Fixture;

const API: &str = "/apis/metrics.k8s.io/v1beta1";

fn ask(
    fixture: &Fixture,
    identity: Option<&Identity>,
    headers: &[(&str, &str)],
    path: &str,
) -> Answer {
    let request = HttpsRequest { identity, headers, ..HttpsRequest::default() };
    request.get(fixture.server.address(), path).unwrap()
}

fn named(name: &str) -> Subject<'_> {
    Subject { common_name: name, ..Subject::default() }
}

#[test]
fn identities_are_what_the_cluster_says() {
    let Some(fixture) = Fixture::start() else { return };
    fixture.measure();
    let pki = fixture.cluster.api.pki().clone();
    let access = fixture.cluster.api.access().clone();
    let pods_of = |namespace: &str| format!("{API}/namespaces/{namespace}/pods");
    let team_a = pods_of("team-a");
    let viewer = User::service_account("team-a", "viewer");
    access.allow(
        Rule::allow(&viewer.name, &["get", "list"])
            .on("metrics.k8s.io", &["pods"])
            .within("team-a"),
    );
    access.put_token("viewer-token", viewer.clone());
    let status =
        |identity, headers: &[_], path: &str| ask(&fixture, identity, headers, path).status;

    // Nobody in particular: probes, and nothing else.
    for path in ["/healthz", "/livez", "/readyz"] {
        assert_eq!(status(None, &[], path), 200, "{path}");
    }
    for path in [team_a.as_str(), API, "/apis", "/metrics", "/openapi/v2"] {
        let refused = ask(&fixture, None, &[], path);
        assert_eq!(refused.status, 403, "{path}: {}", refused.body);
        assert_eq!(refused.json()["reason"], "Forbidden", "{path}");
    }
    let refused = ask(&fixture, None, &[], &team_a).json();
    assert_eq!(
        refused["message"],
        "pods.metrics.k8s.io is forbidden: User \"system:anonymous\" cannot list resource \"pods\" \
         in API group \"metrics.k8s.io\" in the namespace \"team-a\""
    );

    // A token is reviewed once, and then remembered.
    fixture.cluster.api.clear_requests();
    let viewer_token = [("Authorization", "Bearer viewer-token")];
    assert_eq!(status(None, &viewer_token, &team_a), 200);
    assert_eq!(status(None, &viewer_token, &team_a), 200);
    let reviews = |resource: &str| {
        let requests = fixture.cluster.api.requests();
        requests.iter().filter(|request| request.path.ends_with(resource)).count()
    };
    assert_eq!((reviews("/tokenreviews"), reviews("/subjectaccessreviews")), (1, 1));
    assert_eq!(status(None, &viewer_token, &pods_of("team-b")), 403);
    assert_eq!(status(None, &viewer_token, &format!("{API}/nodes")), 403);
    assert_eq!(status(None, &viewer_token, API), 200, "discovery is for everybody known");
    assert_eq!(status(None, &[("Authorization", "Bearer forged")], &team_a), 401);

    // The API server's proxy speaks for others; nobody else does.
    let proxy = pki.request_header.issue(&named(PROXY_NAME));
    let as_viewer =
        [("X-Remote-User", viewer.name.as_str()), ("X-Remote-Group", "system:authenticated")];
    assert_eq!(status(Some(&proxy), &as_viewer, &team_a), 200);
    assert_eq!(status(Some(&proxy), &as_viewer, &pods_of("team-b")), 403);
    let as_master = [("X-Remote-User", "root"), ("X-Remote-Group", "system:masters")];
    assert_eq!(status(Some(&proxy), &as_master, "/metrics"), 200);
    assert_eq!(status(None, &as_master, &team_a), 403, "headers without the certificate are noise");
    let impostor = pki.request_header.issue(&named("somebody"));
    assert_eq!(status(Some(&impostor), &as_master, &team_a), 401);
    let user = pki.client.issue(&named("jane"));
    assert_eq!(status(Some(&user), &as_master, &team_a), 403, "a user is a user");
    let expired = pki.request_header.issue(&Subject { expired: true, ..named(PROXY_NAME) });
    assert_eq!(status(Some(&expired), &as_master, &team_a), 401);
    let of_kubelets = pki.kubelet.issue(&named(PROXY_NAME));
    assert_eq!(status(Some(&of_kubelets), &as_master, &team_a), 401);

    // Client certificates of the cluster's users.
    let admin = Subject { organizations: &["system:masters"], ..named("admin") };
    let admin = pki.client.issue(&admin);
    assert_eq!(status(Some(&admin), &[], &format!("{API}/nodes")), 200);
    assert_eq!(status(Some(&admin), &[], "/metrics"), 200);

    // And all of it by way of the API server.
    let token = Credentials::Token(String::from("viewer-token"));
    let kubeconfig = fixture.cluster.api.kubeconfig(fixture.folder.path(), "viewer", &token);
    let kubectl = Kubectl::find(&kubeconfig).unwrap();
    assert!(kubectl.run(&["get", "--raw", &team_a]).contains("\"web-1\""));
    assert!(kubectl.fail(&["get", "--raw", &pods_of("team-b")]).contains("Forbidden"));
}
