//! Each identity with each path.

use axum::Router;
use axum::extract::Extension;
use axum::http::HeaderMap;
use axum::routing::get;
use rcgen::ExtendedKeyUsagePurpose;
use serde_json::{Value, json};

use super::*;
use crate::auth::{RequestInfo, User};

type Headers<'a> = &'a [(&'a str, &'a str)];

const PATHS: [&str; 10] = [
    "/apis/metrics.k8s.io/v1beta1",
    "/apis/metrics.k8s.io/v1beta1/nodes",
    "/apis/metrics.k8s.io/v1beta1/namespaces/shop/pods/web-0",
    "/apis/metrics.k8s.io/v1beta1/nodes?watch=1",
    "/metrics",
    "/livez",
    "/readyz",
    "/openapi/v2",
    "/apis",
    "/nowhere",
];

fn apis() -> Router {
    let answer = || get(async || "fine");
    Router::new()
        .route("/apis/metrics.k8s.io/v1beta1", answer())
        .route("/apis/metrics.k8s.io/v1beta1/nodes", answer())
        .route("/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods/{name}", answer())
        .route("/openapi/v2", answer())
}

#[tokio::test]
async fn each_identity_gets_what_it_may_have() {
    let server = Server::start(apis(), Checks::default(), RequestLimits::default()).await;
    let (proxies, clients) = (&server.front_proxies, &server.clients);
    let proxy = || Some(proxies.issue(&client_named("front-proxy-client")));
    let jane = || Some(clients.issue(&client_named("jane")));
    let master = Subject { organization: Some("system:masters"), ..client_named("admin") };
    let expired = Subject { expired: true, ..client_named("jane") };
    let for_servers =
        Subject { usage: ExtendedKeyUsagePurpose::ServerAuth, ..client_named("jane") };
    let stranger = || Some(Authority::new().issue(&client_named("front-proxy-client")));
    let hpa = [("x-remote-user", "hpa"), ("x-remote-group", "system:authenticated")];
    let masters = [("x-remote-user", "admin"), ("x-remote-group", "system:masters")];
    let token = [("authorization", "Bearer of-jane")];
    let bad_token = [("authorization", "Bearer none")];
    let unreviewed = [("authorization", "Bearer of-down")];
    let token_and_masters = [
        ("authorization", "Bearer of-jane"),
        ("x-remote-user", "a"),
        ("x-remote-group", "system:masters"),
    ];

    // In the order of the paths above: discovery, list, get, watch, metrics, livez, readyz, OpenAPI, groups, nowhere.
    let refused = [401; 10];
    let as_anonymous = [403, 403, 403, 403, 403, 200, 200, 403, 403, 403];
    let as_jane = [200, 200, 200, 403, 403, 200, 200, 200, 200, 403];
    let as_hpa = [200, 200, 200, 200, 403, 200, 200, 200, 200, 403];
    let as_master = [200, 200, 200, 200, 200, 200, 200, 200, 200, 404];
    let identities: Vec<(&str, Option<Identity>, Headers<'_>, [u16; 10])> = vec![
        ("front proxy for hpa", proxy(), &hpa, as_hpa),
        ("front proxy for a master", proxy(), &masters, as_master),
        ("front proxy for nobody", proxy(), &[], refused),
        (
            "front proxy's CA, other name",
            Some(proxies.issue(&client_named("x"))),
            &masters,
            refused,
        ),
        ("client certificate", jane(), &[], as_jane),
        ("client certificate and headers", jane(), &masters, as_jane),
        ("client certificate of a master", Some(clients.issue(&master)), &[], as_master),
        ("expired client certificate", Some(clients.issue(&expired)), &[], refused),
        ("server's certificate", Some(clients.issue(&for_servers)), &[], refused),
        ("self-made certificate", stranger(), &[], refused),
        ("self-made certificate and headers", stranger(), &masters, refused),
        ("self-made certificate, good token", stranger(), &token, as_jane),
        ("token", None, &token, as_jane),
        ("token and headers", None, &token_and_masters, as_jane),
        ("bad token", None, &bad_token, refused),
        ("token that cannot be reviewed", None, &unreviewed, refused),
        ("nothing", None, &[], as_anonymous),
        ("headers alone", None, &masters, as_anonymous),
    ];
    for (who, identity, headers, expected) in identities {
        let client = server.client(identity);
        let mut found = [0; 10];
        for (path, found) in PATHS.into_iter().zip(&mut found) {
            *found = server.ask(&client, path, headers).await.status.as_u16();
        }
        assert_eq!(found, expected, "{who}");
    }
    server.stop().await;
}

#[tokio::test]
async fn refusals_are_statuses() {
    let server = Server::start(apis(), Checks::default(), RequestLimits::default()).await;
    let client = server.client(None);
    let status = async |path: &str, token: &str| {
        let bearer = format!("Bearer {token}");
        let answer = server.ask(&client, path, &[("authorization", &bearer)]).await;
        assert_eq!(answer.content_type(), "application/json");
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        (answer.status.as_u16(), body)
    };
    let nodes = "/apis/metrics.k8s.io/v1beta1/nodes";
    let base = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"});
    let with = |more: Value| {
        let mut all = base.as_object().unwrap().clone();
        all.extend(more.as_object().unwrap().clone());
        Value::Object(all)
    };
    assert_eq!(
        status(nodes, "none").await,
        (401, with(json!({"message": "Unauthorized", "reason": "Unauthorized", "code": 401})))
    );
    assert_eq!(
        status(nodes, "of-nobody").await,
        (
            403,
            with(json!({
                "message": "nodes.metrics.k8s.io is forbidden: User \"nobody\" cannot list resource \"nodes\" in API group \"metrics.k8s.io\" at the cluster scope",
                "reason": "Forbidden",
                "details": {"group": "metrics.k8s.io", "kind": "nodes"},
                "code": 403,
            }))
        )
    );
    let (code, body) = status(nodes, "of-unsure").await;
    assert_eq!((code, &body["reason"]), (500, &json!("InternalError")));
    server.stop().await;
}

#[tokio::test]
async fn handlers_see_the_user_and_no_credentials() {
    let who = get(
        async |Extension(user): Extension<User>,
               Extension(info): Extension<RequestInfo>,
               headers: HeaderMap| {
            let credentials = headers
                .keys()
                .filter(|name| name.as_str().starts_with("x-remote-") || *name == "authorization")
                .count();
            format!("{} {} {credentials}", user.name, info.verb)
        },
    );
    let apis = Router::new().route("/apis/metrics.k8s.io/v1beta1/nodes", who);
    let server = Server::start(apis, Checks::default(), RequestLimits::default()).await;
    let proxy =
        server.client(Some(server.front_proxies.issue(&client_named("front-proxy-client"))));
    let plain = server.client(None);
    let path = "/apis/metrics.k8s.io/v1beta1/nodes?watch=false";
    let headers =
        [("x-remote-user", "hpa"), ("x-remote-extra-a", "b"), ("authorization", "Bearer of-x")];
    assert_eq!(server.ask(&proxy, path, &headers).await.body, b"hpa list 0");
    let headers = [("x-remote-uid", "7"), ("authorization", "Bearer of-jane")];
    assert_eq!(server.ask(&plain, path, &headers).await.body, b"jane list 0");
    server.stop().await;
}

#[tokio::test]
async fn changed_trust_applies_to_open_connections() {
    let server = Server::start(apis(), Checks::default(), RequestLimits::default()).await;
    let (old, new) = (&server.clients, Authority::new());
    let before = server.client(Some(old.issue(&client_named("jane"))));
    let after = server.client(Some(new.issue(&client_named("jane"))));
    let path = "/apis/metrics.k8s.io/v1beta1/nodes";
    let codes = async || {
        let before = server.ask(&before, path, &[]).await.status.as_u16();
        (before, server.ask(&after, path, &[]).await.status.as_u16())
    };
    assert_eq!(codes().await, (200, 401));
    let trust = Trust::clone(&server.trust.current());
    server.trust.replace(Trust { clients: Some(new.trusted()), ..trust });
    assert_eq!(codes().await, (401, 200));
    server.stop().await;
}
