//! Asking kubelets over real connections: what is verified, what is shown to them, what is refused, what is kept.

#![expect(clippy::unwrap_used, reason = "a set-up that fails should fail the test")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use http::{CertificateSource, Limits, PeerCertificates, ServerTls, bind, serve, serve_tls};
use metrics_server::cluster::{Objects, PodFacts};
use metrics_server::kubelet::{
    Answer, Ask, BODY_BYTES_MAX, Credentials, Endpoint, KubeletError, KubeletTls, ScrapeMetrics,
    ScrapeOptions, Scraper,
};
use metrics_server::store::{Store, StoreOptions};
use model::ManualClock;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio_util::sync::CancellationToken;

const NOW_MS: i64 = 1_700_000_000_000;
const TIMEOUT: Duration = Duration::from_secs(30);

const BODY: &str = "\
container_cpu_usage_seconds_total{container=\"c\",namespace=\"n\",pod=\"p\"} 1.5
container_memory_working_set_bytes{container=\"c\",namespace=\"n\",pod=\"p\"} 1024
node_cpu_usage_seconds_total 10
node_memory_working_set_bytes 4096
";

/// What a fake kubelet saw.
#[derive(Clone, Debug, Default)]
struct Seen {
    requests: Arc<AtomicUsize>,
    authorized: Arc<AtomicUsize>,
    certified: Arc<AtomicUsize>,
}

async fn resources(
    State(seen): State<Seen>,
    peer: Option<Extension<PeerCertificates>>,
    headers: HeaderMap,
) -> &'static str {
    seen.requests.fetch_add(1, Ordering::SeqCst);
    if headers.get(header::AUTHORIZATION).is_some_and(|value| value == "Bearer secret") {
        seen.authorized.fetch_add(1, Ordering::SeqCst);
    }
    if peer.is_some() {
        seen.certified.fetch_add(1, Ordering::SeqCst);
    }
    BODY
}

fn endless() -> Response {
    let line = Bytes::from("# ".to_owned() + &"x".repeat(1 << 16) + "\n");
    let stream = futures_util::stream::repeat_with(move || Ok::<_, std::io::Error>(line.clone()));
    Body::from_stream(stream).into_response()
}

fn router(seen: &Seen) -> Router {
    Router::new()
        .route("/metrics/resource", get(resources))
        .route("/away", get(|| async { Redirect::temporary("/metrics/resource") }))
        .route("/forbidden", get(|| async { (StatusCode::FORBIDDEN, "verb=get\nnodes/metrics") }))
        .route("/endless", get(|| async { endless() }))
        .route("/hang", get(std::future::pending::<()>))
        .route("/html", get(|| async { "<html></html>" }))
        .route("/closing", get(|| async { ([(header::CONNECTION, "close")], BODY) }))
        .with_state(seen.clone())
}

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate for `name` and its key, both PEM.
    fn issue(&self, name: &str) -> (String, String) {
        let params = CertificateParams::new(vec![String::from(name)]).unwrap();
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }
}

struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

/// A kubelet with a certificate of `authority` for 127.0.0.1.
async fn kubelet(authority: &Authority, seen: &Seen) -> SocketAddr {
    let (certificate, key) = authority.issue("127.0.0.1");
    let pem = CertificateSource::Pem { certificate: certificate.into(), key: key.into() };
    let tls = ServerTls::new(pem, true).unwrap();
    let listener = bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = router(seen);
    tokio::spawn(serve_tls(listener, tls, router, Limits::default(), CancellationToken::new()));
    address
}

fn endpoint(address: SocketAddr, path: &str) -> Endpoint {
    Endpoint { host: address.ip().to_string().into(), port: address.port(), path: path.into() }
}

/// The API server's configuration: it says that we are the bearer of `secret`.
fn api_server() -> kube::Config {
    let mut config = kube::Config::new("https://kubernetes.invalid".parse().unwrap());
    config.auth_info.token = Some(String::from("secret").into());
    config
}

async fn ask_with(tls: &KubeletTls, timeout: Duration) -> Arc<Ask> {
    let credentials = Credentials::new(&api_server(), tls, timeout, true).await.unwrap();
    credentials.ask().await
}

async fn trusting(authority: &Authority, files: &Files) -> Arc<Ask> {
    let ca = files.write("ca.crt", &authority.0.pem());
    let tls = KubeletTls { certificate_authority: Some(ca), ..KubeletTls::default() };
    ask_with(&tls, TIMEOUT).await
}

async fn get_path(ask: &Ask, address: SocketAddr, path: &str) -> Result<Answer, KubeletError> {
    ask.send(&endpoint(address, path), None, NOW_MS).await
}

#[tokio::test]
async fn kubelets_are_verified_and_shown_the_token() {
    let (authority, files, seen) = (Authority::new(), Files::new(), Seen::default());
    let address = kubelet(&authority, &seen).await;
    let ask = trusting(&authority, &files).await;
    let answer = get_path(&ask, address, "/metrics/resource").await.unwrap();
    assert_eq!(answer.batch.node.unwrap().cpu_ns, 10_000_000_000);
    assert_eq!(&*answer.batch.pods[0].name, "p");
    assert_eq!(seen.authorized.load(Ordering::SeqCst), 1);
    assert_eq!(seen.certified.load(Ordering::SeqCst), 0);

    let stranger = trusting(&Authority::new(), &files).await;
    let error = get_path(&stranger, address, "/metrics/resource").await.unwrap_err();
    assert!(matches!(error, KubeletError::Handshake { .. }), "{error}");
    assert!(error.to_string().contains("certificate"), "{error}");

    // The right authority, but the certificate is another host's.
    let elsewhere = SocketAddr::new("127.0.0.2".parse().unwrap(), address.port());
    let error = get_path(&ask, elsewhere, "/metrics/resource").await.unwrap_err();
    assert!(
        matches!(error, KubeletError::Handshake { .. } | KubeletError::Connect { .. }),
        "{error}"
    );
    assert_eq!(seen.requests.load(Ordering::SeqCst), 1, "nothing was shown to a stranger");

    let insecure = KubeletTls { insecure: true, ..KubeletTls::default() };
    let ask = ask_with(&insecure, TIMEOUT).await;
    assert!(get_path(&ask, address, "/metrics/resource").await.is_ok());
}

#[tokio::test]
async fn a_client_certificate_is_shown_and_taken_up_anew() {
    for named_by_flag in [true, false] {
        shows_and_takes_up_anew(named_by_flag).await;
    }
}

/// With a certificate that flags name, or the kubeconfig.
async fn shows_and_takes_up_anew(named_by_flag: bool) {
    let (authority, files, seen) = (Authority::new(), Files::new(), Seen::default());
    let address = kubelet(&authority, &seen).await;
    let write_pair = || {
        let (certificate, key) = authority.issue("client");
        (files.write("client.crt", &certificate), files.write("client.key", &key))
    };
    let mut tls = KubeletTls { insecure: true, ..KubeletTls::default() };
    let mut api_server = api_server();
    let (certificate, key) = write_pair();
    if named_by_flag {
        tls.client_certificate = Some((certificate, key));
    } else {
        let auth = &mut api_server.auth_info;
        auth.client_certificate = certificate.to_str().map(String::from);
        auth.client_key = key.to_str().map(String::from);
    }
    tokio::time::pause();
    let credentials = Credentials::new(&api_server, &tls, TIMEOUT, true).await.unwrap();
    let first = credentials.ask().await;
    assert!(Arc::ptr_eq(&first, &credentials.ask().await));
    write_pair();
    tokio::time::advance(Duration::from_secs(11)).await;
    let second = credentials.ask().await;
    let same = |a: &Ask, b: &Ask| match (&a.tls, &b.tls) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        _ => false,
    };
    assert!(!same(&first, &second), "the new certificate is used");
    // What cannot be read keeps the old.
    std::fs::remove_file(files.folder.path().join("client.key")).unwrap();
    tokio::time::advance(Duration::from_secs(11)).await;
    assert!(same(&second, &*credentials.ask().await));
    tokio::time::resume();
    assert!(get_path(&second, address, "/metrics/resource").await.is_ok());
    assert_eq!(seen.certified.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn complete_insecurity_shows_nothing() {
    let seen = Seen::default();
    let listener = bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, router(&seen), Limits::default(), CancellationToken::new()));
    let tls = KubeletTls { completely_insecure: true, ..KubeletTls::default() };
    let ask = ask_with(&tls, TIMEOUT).await;
    assert!(get_path(&ask, address, "/metrics/resource").await.is_ok());
    assert_eq!(seen.requests.load(Ordering::SeqCst), 1);
    assert_eq!(seen.authorized.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn what_is_no_answer_is_an_error_that_says_why() {
    let (authority, files, seen) = (Authority::new(), Files::new(), Seen::default());
    let address = kubelet(&authority, &seen).await;
    let ask = trusting(&authority, &files).await;
    let error = async |path| get_path(&ask, address, path).await.unwrap_err();
    let redirected = error("/away").await;
    assert!(
        matches!(redirected, KubeletError::Status { status: StatusCode::TEMPORARY_REDIRECT, .. }),
        "{redirected}"
    );
    assert_eq!(seen.requests.load(Ordering::SeqCst), 0, "no redirect is followed");
    assert_eq!(
        error("/forbidden").await.to_string(),
        "request failed, status: \"403 Forbidden\" verb=get nodes/metrics"
    );
    let endless = error("/endless").await;
    assert_eq!(endless.to_string(), format!("the answer is longer than {BODY_BYTES_MAX} bytes"));
    assert!(matches!(error("/html").await, KubeletError::Decode(_)));
    let path = error("/not a path").await;
    assert_eq!(path.to_string(), "malformed path \"/not a path\"");
    let hasty = Ask { timeout: Duration::from_millis(50), ..(*ask).clone() };
    let hanging = get_path(&hasty, address, "/hang").await.unwrap_err();
    assert!(matches!(hanging, KubeletError::Timeout { .. }), "{hanging}");
    let cautious = Ask { allow_loopback: false, ..(*ask).clone() };
    let refused = get_path(&cautious, address, "/metrics/resource").await.unwrap_err();
    assert_eq!(refused.to_string(), "refusing to ask 127.0.0.1: loopback address");
}

#[tokio::test]
async fn connections_are_kept_and_replaced_when_they_are_lost() {
    let (authority, files, seen) = (Authority::new(), Files::new(), Seen::default());
    let address = kubelet(&authority, &seen).await;
    let ask = trusting(&authority, &files).await;
    let resources = endpoint(address, "/metrics/resource");
    let mut idle = None;
    for _ in 0..3 {
        let answer = ask.send(&resources, idle.take(), NOW_MS).await.unwrap();
        idle = answer.idle;
        assert!(idle.is_some());
    }
    let closing = get_path(&ask, address, "/closing").await.unwrap();
    assert!(closing.idle.is_none());
    // A kept connection to a kubelet that has gone away and come back.
    let other = kubelet(&authority, &seen).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    drop(listener.accept().await.unwrap());
    let lost = metrics_server::kubelet::Idle::Plain(dead);
    let answer = ask.send(&endpoint(other, "/metrics/resource"), Some(lost), NOW_MS).await;
    assert_eq!(answer.unwrap().batch.pods.len(), 1);
}

#[tokio::test]
async fn nodes_are_scraped_stored_and_forgotten() {
    let (authority, files, seen) = (Authority::new(), Files::new(), Seen::default());
    let address = kubelet(&authority, &seen).await;
    let ca = files.write("ca.crt", &authority.0.pem());
    let tls = KubeletTls { certificate_authority: Some(ca), ..KubeletTls::default() };
    let credentials = Credentials::new(&api_server(), &tls, TIMEOUT, true).await.unwrap();
    let store = Arc::new(Store::new(StoreOptions::with_resolution_ms(15_000)));
    let objects = Arc::new(Objects::new(Arc::clone(store.revision())));
    objects.upsert_pod("n", "p", [], PodFacts { node: "", created_ms: 0, resources: None });
    let registry = telemetry::new_registry();
    let resolution = Duration::from_secs(15);
    let scraper = Arc::new(Scraper::new(
        ScrapeOptions { resolution, ..ScrapeOptions::default() },
        credentials,
        Arc::clone(&store),
        Arc::clone(&objects),
        Arc::new(ManualClock::new(NOW_MS)),
        ScrapeMetrics::new(&registry, resolution),
    ));
    let mut changes = store.changes();
    scraper.upsert("good", Ok(endpoint(address, "/metrics/resource")));
    scraper.upsert("bad", Ok(endpoint(address, "/forbidden")));
    scraper.upsert("lost", Err(KubeletError::NoAddress { types: String::from("Hostname") }));
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(Arc::clone(&scraper).run(shutdown.clone()));
    changes.changed().await.unwrap();
    let state = store.node("good", NOW_MS).unwrap();
    assert_eq!(state.node(), None, "one scrape is no rate");
    let node = objects.with_pod("n", "p", |pod| pod.node.to_string());
    assert_eq!(node.as_deref(), Some("good"), "the pod is where it was measured");
    assert!(store.node("bad", NOW_MS).is_none());
    assert!(scraper.is_timely());
    let metrics = || {
        let mut text = Vec::new();
        telemetry::encode(&registry, &mut text);
        String::from_utf8(text).unwrap()
    };
    let good = "metrics_server_kubelet_request_duration_seconds_count{node=\"good\"} 1";
    assert!(metrics().contains(good), "{}", metrics());
    assert!(metrics().contains("metrics_server_kubelet_request_total{success=\"true\"} 1"));
    scraper.remove("good");
    assert!(store.node("good", NOW_MS).is_none());
    assert!(!metrics().contains("node=\"good\""));
    assert_eq!(scraper.nodes(), 2);
    shutdown.cancel();
    running.await.unwrap();
}
