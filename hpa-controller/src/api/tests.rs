//! The API as clients see it, over connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use model::{ManualClock, Timestamp};
use serde_json::Value;
use telemetry::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::{ApiListener, ApiState};
use crate::beyond::Beyond;
use crate::decide::{Written, decide};
use crate::inputs::{Constants, Inputs, Memory, PodSet, ScaleReading};
use crate::leader::Leadership;
use crate::state::{DecisionLog, HpaKey, LogOptions, Logged, Mode};
use crate::steer::Recommendations;

/// 2023-11-14T22:13:20Z
const NOW: Timestamp = 1_700_000_000_000;

/// A target of `replicas` where 2 to 5 are allowed.
fn logged(namespace: &str, name: &str, replicas: i32, at: Timestamp) -> Logged {
    let spec = serde_json::json!({
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        "minReplicas": 2, "maxReplicas": 5,
    });
    let inputs = Inputs {
        constants: Constants::default(),
        namespace: namespace.into(),
        name: name.into(),
        spec: serde_json::from_value(spec).unwrap(),
        status: Default::default(),
        scale: Ok(ScaleReading {
            spec_replicas: replicas,
            status_replicas: replicas,
            selector: "app=x".into(),
        }),
        pods: PodSet::Matched(Vec::new()),
        metrics: Vec::new(),
        memory: Memory::default(),
        beyond: Beyond::default(),
    };
    let decision = decide(&inputs, at);
    let key = HpaKey::new(namespace, name);
    Logged {
        key,
        uid: "u".into(),
        mode: Mode::Shadow,
        at,
        inputs,
        decision,
        written: Written::NotAsked,
    }
}

struct Served {
    all: std::net::SocketAddr,
    probes: std::net::SocketAddr,
    ready: Arc<AtomicBool>,
    shutdown: CancellationToken,
    run: tokio::task::JoinHandle<Result<(), http::HttpError>>,
}

async fn serve(decisions: &[Logged]) -> Served {
    let registry = Registry::new();
    let log = DecisionLog::new(LogOptions::default(), &registry).unwrap();
    for logged in decisions {
        log.push(logged);
    }
    let ready = Arc::new(AtomicBool::new(true));
    let seen = Arc::clone(&ready);
    let state = ApiState {
        log: Arc::new(log),
        registry,
        leadership: Leadership::always(),
        identity: "me".into(),
        mode: Mode::Shadow,
        steering: Arc::new(Recommendations::new(Duration::from_secs(15))),
        clock: Arc::new(ManualClock::new(NOW)),
        ready: Arc::new(move || {
            if seen.load(Ordering::SeqCst) { Ok(()) } else { Err("pods are not known yet".into()) }
        }),
    };
    let listener = ApiListener::bind("127.0.0.1:0", Some("127.0.0.1:0")).await.unwrap();
    let (all, probes) = (listener.local_address().unwrap(), listener.probes_address().unwrap());
    let shutdown = CancellationToken::new();
    let run = tokio::spawn(listener.serve(state, shutdown.clone()));
    Served { all, probes, ready, shutdown, run }
}

async fn ask(address: std::net::SocketAddr, method: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

async fn get(address: std::net::SocketAddr, path: &str) -> (u16, Value) {
    let (code, body) = ask(address, "GET", path).await;
    (code, serde_json::from_str(&body).unwrap_or(Value::String(body)))
}

#[tokio::test]
async fn the_list_is_paged() {
    let decisions = [logged("b", "x", 3, NOW), logged("a", "y", 1, NOW), logged("a", "x", 9, NOW)];
    let served = serve(&decisions).await;
    let (code, page) = get(served.all, "/api/v1/hpa?limit=2").await;
    assert_eq!(code, 200);
    assert_eq!(
        (&page["identity"], &page["leading"], &page["mode"]),
        (&"me".into(), &true.into(), &"shadow".into())
    );
    let item = &page["items"][0];
    assert_eq!((&item["namespace"], &item["name"]), (&"a".into(), &"x".into()));
    assert_eq!((&item["currentReplicas"], &item["desiredReplicas"]), (&9.into(), &5.into()));
    assert_eq!(item["reason"], "Current number of replicas above Spec.MaxReplicas");
    assert_eq!((&page["items"][1]["name"], &page["next"]), (&"y".into(), &"a/y".into()));
    let (_, rest) = get(served.all, "/api/v1/hpa?limit=2&after=a/y").await;
    assert_eq!((&rest["items"][0]["namespace"], &rest["next"]), (&"b".into(), &Value::Null));
    assert_eq!(rest["items"].as_array().unwrap().len(), 1);
    for query in ["limit=0", "limit=5001", "limit=x", "after=a", "no=1"] {
        let (code, error) = get(served.all, &format!("/api/v1/hpa?{query}")).await;
        assert!(code == 400 && error["error"].is_string(), "{query}: {error}");
    }
}

#[tokio::test]
async fn decisions_are_shown_explained_and_whole() {
    let decisions = [logged("a", "x", 3, NOW - 15_000), logged("a", "x", 1, NOW)];
    let served = serve(&decisions).await;
    let (code, answer) = get(served.all, "/api/v1/hpa/a/x").await;
    assert_eq!(code, 200);
    let found = answer["decisions"].as_array().unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!(
        (&found[0]["at"], &found[0]["desiredReplicas"], &found[0]["mode"]),
        (&"2023-11-14T22:13:20Z".into(), &2.into(), &"shadow".into())
    );
    let (_, answer) = get(served.all, "/api/v1/hpa/a/x?limit=1&format=logged").await;
    let read: Logged = serde_json::from_value(answer["decisions"][0].clone()).unwrap();
    assert_eq!(read, decisions[1]);
    assert_eq!(read.again(), read.decision);
    let (_, explanation) = get(served.all, "/api/v1/hpa/a/x/explain").await;
    assert_eq!((&explanation["name"], &explanation["rescale"]), (&"x".into(), &true.into()));
    let (code, story) = ask(served.all, "GET", "/api/v1/hpa/a/x/explain?format=text").await;
    assert!(code == 200 && story.contains("a/x"), "{story}");
    let (code, error) = get(served.all, "/api/v1/hpa/a/z/explain").await;
    assert_eq!((code, &error["error"]), (404, &"no decision about a/z is known".into()));
    let (code, _) = get(served.all, "/api/v1/hpa/a/x/explain?format=html").await;
    assert_eq!(code, 400);
    let (code, _) = ask(served.all, "POST", "/api/v1/hpa/a/x").await;
    assert_eq!(code, 405);
}

#[tokio::test]
async fn the_second_address_shows_no_decisions() {
    let served = serve(&[logged("a", "x", 3, NOW)]).await;
    for path in ["/api/v1/hpa", "/api/v1/hpa/a/x", "/api/v1/hpa/a/x/explain"] {
        assert_eq!(ask(served.probes, "GET", path).await.0, 404, "{path}");
    }
    for address in [served.all, served.probes] {
        for path in ["/livez", "/healthz", "/-/healthy", "/readyz", "/-/ready"] {
            assert_eq!(ask(address, "GET", path).await, (200, "ok".into()), "{path}");
        }
        let (code, metrics) = ask(address, "GET", "/metrics").await;
        assert!(code == 200 && metrics.contains("\nsextant_hpa_decision_log_bytes "), "{metrics}");
    }
    served.ready.store(false, Ordering::SeqCst);
    assert_eq!(
        ask(served.probes, "GET", "/readyz").await,
        (503, "pods are not known yet\n".into())
    );
    assert_eq!(ask(served.probes, "GET", "/livez").await.0, 200);
    served.shutdown.cancel();
    served.run.await.unwrap().unwrap();
}
