//! The API server comes to trust a certificate that was made here.

use std::collections::BTreeMap;
use std::sync::Mutex;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use k8s_openapi::ByteString;
use serde_json::{Value, json};

use super::*;

const NAME: &str = "v1beta1.metrics.k8s.io";

/// One `APIService` with resource versions; the first write meets a conflict.
#[derive(Clone)]
struct Cluster(Arc<Mutex<(Value, u32)>>);

async fn read(State(Cluster(state)): State<Cluster>) -> Json<Value> {
    Json(state.lock().unwrap().0.clone())
}

async fn write(State(Cluster(state)): State<Cluster>, Json(new): Json<Value>) -> Response {
    let mut state = state.lock().unwrap();
    state.1 += 1;
    if state.1 == 1 {
        state.0["metadata"]["resourceVersion"] = json!("2");
        let body = json!({"kind": "Status", "code": 409, "reason": "Conflict", "message": "x"});
        return (StatusCode::CONFLICT, Json(body)).into_response();
    }
    assert_eq!(new["metadata"]["resourceVersion"], "2", "what was read last is replaced");
    state.0 = new.clone();
    Json(new).into_response()
}

async fn start() -> (Cluster, kube::Client) {
    let object = json!({
        "kind": "APIService", "apiVersion": "apiregistration.k8s.io/v1",
        "metadata": {"name": NAME, "resourceVersion": "1"},
        "spec": {
            "group": "metrics.k8s.io", "version": "v1beta1",
            "groupPriorityMinimum": 100, "versionPriority": 100,
            "insecureSkipTLSVerify": true,
            "service": {"name": "metrics-server", "namespace": "kube-system", "port": 443},
        },
    });
    let cluster = Cluster(Arc::new(Mutex::new((object, 0))));
    let path = format!("/apis/apiregistration.k8s.io/v1/apiservices/{NAME}");
    let router = Router::new().route(&path, get(read).put(write)).with_state(cluster.clone());
    let listener = http::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(http::serve(listener, router, Limits::default(), CancellationToken::new()));
    (cluster, kube::Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap())
}

fn bundle(object: &Value) -> Option<Vec<u8>> {
    let bundle: Option<ByteString> =
        serde_json::from_value(object["spec"]["caBundle"].clone()).unwrap();
    bundle.map(|bundle| bundle.0)
}

#[tokio::test]
async fn an_api_service_verifies_us_by_the_name_of_its_service() {
    let (cluster, client) = start().await;
    let mut config = config(RequestLimits::default());
    config.trusted_by = Some((client.clone(), vec![String::from(NAME)]));
    let server = Server::start_with(config, Router::new(), Checks::default()).await;
    let trusted = async {
        loop {
            let object = cluster.0.lock().unwrap().0.clone();
            if let Some(bundle) = bundle(&object) {
                return (object, bundle);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let trusted = tokio::time::timeout(Duration::from_secs(60), trusted);
    let (object, bundle) = trusted.await.unwrap();
    assert_eq!(object["spec"]["insecureSkipTLSVerify"], Value::Null);
    let tls = TlsOptions {
        ca_pem: Some(bundle),
        server_name: Some(String::from("metrics-server.kube-system.svc")),
        ..TlsOptions::default()
    };
    let aggregator =
        Client::new(ClientOptions { tls: Some(tls), ..ClientOptions::default() }).unwrap();
    assert_eq!(server.ask(&aggregator, "/livez", &[]).await.body, b"ok");

    // A conflict, a write, and then nothing to change.
    let names = [String::from(NAME)];
    inject_ca(&client, &names, &server.ca, now()).await.unwrap();
    assert_eq!(cluster.0.lock().unwrap().1, 2);
    server.stop().await;
}

/// Objects by name and service. `forbidden` cannot be read, and `read-only` cannot be replaced.
async fn several(objects: &[(&str, &str)]) -> (Arc<Mutex<BTreeMap<String, Value>>>, kube::Client) {
    const PATH: &str = "/apis/apiregistration.k8s.io/v1/apiservices/{name}";
    let objects = objects.iter().map(|(name, service)| {
        let object = json!({
            "kind": "APIService", "apiVersion": "apiregistration.k8s.io/v1",
            "metadata": {"name": name},
            "spec": {
                "groupPriorityMinimum": 100, "versionPriority": 100,
                "service": {"name": service, "namespace": "kube-system"},
            },
        });
        (String::from(*name), object)
    });
    let objects = Arc::new(Mutex::new(objects.collect::<BTreeMap<_, _>>()));
    let refused = |code: u16| {
        let body = json!({"kind": "Status", "code": code, "reason": "x", "message": "x"});
        (StatusCode::from_u16(code).unwrap(), Json(body)).into_response()
    };
    let (read, written) = (Arc::clone(&objects), Arc::clone(&objects));
    let handlers = get(async move |Path(name): Path<String>| {
        if name == "forbidden" {
            return refused(403);
        }
        match read.lock().unwrap().get(&name) {
            Some(object) => Json(object.clone()).into_response(),
            None => refused(404),
        }
    })
    .put(async move |Path(name): Path<String>, Json(new): Json<Value>| {
        if name == "read-only" {
            return refused(403);
        }
        written.lock().unwrap().insert(name, new.clone());
        Json(new).into_response()
    });
    let listener = http::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().route(PATH, handlers);
    tokio::spawn(http::serve(listener, router, Limits::default(), CancellationToken::new()));
    (objects, kube::Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap())
}

#[tokio::test]
async fn other_groups_are_changed_if_they_lead_to_us_and_are_no_obstacle_otherwise() {
    let all = [NAME, "absent", "forbidden", "foreign", "read-only", "ours"].map(String::from);
    let (objects, client) = several(&[
        (NAME, "metrics-server"),
        ("foreign", "prometheus-adapter"),
        ("read-only", "metrics-server"),
        ("ours", "metrics-server"),
    ])
    .await;
    let name = service_name(&client, &all).await.unwrap();
    assert_eq!(name.as_deref(), Some("metrics-server.kube-system.svc"));
    let ca = SelfMade::new(&[], now()).unwrap().ca;
    let error = inject_ca(&client, &all, &ca, now()).await.unwrap_err().to_string();
    assert!(error.starts_with("API service read-only: "), "{error}");
    let trusts_us = |name: &str| bundle(&objects.lock().unwrap()[name]).is_some();
    assert!(trusts_us(NAME) && trusts_us("ours"));
    assert!(!trusts_us("foreign") && !trusts_us("read-only"));

    let absent = [String::from("absent"), String::from(NAME)];
    let error = service_name(&client, &absent).await.unwrap_err();
    assert!(matches!(error, ApiServiceError::Absent { .. }), "{error}");
}
