//! Both sides against each other, over loopback.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::Extension;
use axum::http::Method;
use axum::response::Redirect;
use axum::routing::{get, post};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::listener::accept_all;
use crate::{Client, ClientOptions, FetchError, GetRequest, Limits, Request, bind, serve_tls};

struct Authority(CertifiedIssuer<'static, KeyPair>);

struct Leaf {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> Vec<u8> {
        self.0.pem().into_bytes()
    }

    fn leaf(&self, common_name: &str, sans: &[&str], usage: ExtendedKeyUsagePurpose) -> Leaf {
        let sans: Vec<String> = sans.iter().map(|san| String::from(*san)).collect();
        let mut params = CertificateParams::new(sans).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Leaf { certificate: certificate.pem().into_bytes(), key: key.serialize_pem().into_bytes() }
    }

    fn server(&self, sans: &[&str]) -> Leaf {
        self.leaf("server", sans, ExtendedKeyUsagePurpose::ServerAuth)
    }
}

fn source(leaf: &Leaf) -> CertificateSource {
    CertificateSource::Pem { certificate: leaf.certificate.clone(), key: leaf.key.clone() }
}

fn router() -> Router {
    Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/echo", post(|body: String| async move { body }))
        .route("/away", post(|| async { Redirect::temporary("/echo") }))
        .route(
            "/who",
            get(async |peer: Option<Extension<PeerCertificates>>| {
                peer.map_or(0, |Extension(peer)| peer.0.len()).to_string()
            }),
        )
}

async fn start(tls: ServerTls, limits: Limits) -> (SocketAddr, CancellationToken) {
    let listener = bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    tokio::spawn(serve_tls(listener, tls, router(), limits, shutdown.clone()));
    (address, shutdown)
}

fn client(tls: TlsOptions) -> Client {
    Client::new(ClientOptions { tls: Some(tls), ..ClientOptions::default() }).unwrap()
}

async fn ask(client: &Client, url: &str) -> Result<String, FetchError> {
    let request =
        GetRequest { url, headers: &[], timeout: Duration::from_secs(30), body_bytes_max: 1 << 20 };
    client.get(request).await.map(|answer| String::from_utf8(answer.body).unwrap())
}

#[tokio::test]
async fn servers_are_verified() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let leaf = ours.server(&["localhost", "127.0.0.1", "metrics.example"]);
    let tls = ServerTls::new(source(&leaf), false).unwrap();
    let (address, _shutdown) = start(tls, Limits::default()).await;
    let by_ip = format!("https://{address}/");
    let by_name = format!("https://localhost:{}/", address.port());
    let trusting = |ca: &Authority| TlsOptions { ca_pem: Some(ca.pem()), ..TlsOptions::default() };
    let named = |name: &str| TlsOptions { server_name: Some(name.into()), ..trusting(&ours) };
    for (options, url, expected) in [
        (trusting(&ours), &by_ip, true),
        (trusting(&ours), &by_name, true),
        (trusting(&other), &by_ip, false),
        (TlsOptions { insecure_skip_verify: true, ..trusting(&other) }, &by_ip, true),
        (named("metrics.example"), &by_ip, true),
        (named("else.example"), &by_ip, false),
        (named("127.0.0.1"), &by_name, true),
    ] {
        let answer = ask(&client(options.clone()), url).await;
        assert_eq!(answer.is_ok(), expected, "{options:?}: {answer:?}");
    }
    let plain = ask(&Client::default(), &by_ip).await.unwrap_err().to_string();
    assert!(plain.ends_with("only http is supported"), "{plain}");
    let untrusted = ask(&client(trusting(&other)), &by_ip).await.unwrap_err().to_string();
    assert!(untrusted.contains("UnknownIssuer"), "{untrusted}");
}

#[tokio::test]
async fn bodies_are_sent_and_redirects_are_answers() {
    let ours = Authority::new("ours");
    let tls = ServerTls::new(source(&ours.server(&["127.0.0.1"])), false).unwrap();
    let (address, _shutdown) = start(tls, Limits::default()).await;
    let client = client(TlsOptions { ca_pem: Some(ours.pem()), ..TlsOptions::default() });
    for (path, status, body) in [("echo", 200, "payload"), ("away", 307, "")] {
        let url = format!("https://{address}/{path}");
        let request = Request {
            method: Method::POST,
            url: &url,
            headers: &[],
            body: Bytes::from_static(b"payload"),
            timeout: Duration::from_secs(30),
            body_bytes_max: 7,
        };
        let answer = client.send(request).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.body), (status, body.as_bytes().to_vec()));
    }
}

#[tokio::test]
async fn presented_certificates_reach_the_handler_whoever_issued_them() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let tls = ServerTls::new(source(&ours.server(&["127.0.0.1"])), true).unwrap();
    let (address, _shutdown) = start(tls, Limits::default()).await;
    let url = format!("https://{address}/who");
    let leaf = other.leaf("someone", &[], ExtendedKeyUsagePurpose::ClientAuth);
    let options = TlsOptions { ca_pem: Some(ours.pem()), ..TlsOptions::default() };
    let mut chain = leaf.certificate.clone();
    chain.extend(other.pem());
    let with = TlsOptions { identity_pem: Some((chain, leaf.key)), ..options.clone() };
    assert_eq!(ask(&client(with), &url).await.unwrap(), "2");
    assert_eq!(ask(&client(options.clone()), &url).await.unwrap(), "0");
}

#[tokio::test]
async fn a_certificate_without_its_key_is_worth_nothing() {
    let ours = Authority::new("ours");
    let tls = ServerTls::new(source(&ours.server(&["localhost"])), true).unwrap();
    let (address, _shutdown) = start(tls, Limits::default()).await;
    let owner = ours.leaf("owner", &[], ExtendedKeyUsagePurpose::ClientAuth);
    let thief = KeyPair::generate().unwrap().serialize_pem();
    for (key, expected) in [(owner.key.as_slice(), true), (thief.as_bytes(), false)] {
        let chain = certificates(&owner.certificate, "owner").unwrap();
        let key = private_key(key, "key").unwrap();
        let key = provider().key_provider.load_private_key(key).unwrap();
        let identity = SingleCertAndKey::from(CertifiedKey::new(chain, key));
        let config = config_trusting(&ours).with_client_cert_resolver(Arc::new(identity));
        let stream = TcpStream::connect(address).await.unwrap();
        let answer = async {
            let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
            let mut stream = connector.connect("localhost".try_into().unwrap(), stream).await?;
            stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            io::Result::Ok(answer)
        };
        let answered = answer.await.is_ok_and(|answer| answer.ends_with(b"hello"));
        assert_eq!(answered, expected);
    }
}

fn config_trusting(
    ca: &Authority,
) -> rustls::ConfigBuilder<rustls::ClientConfig, rustls::client::WantsClientCert> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificates(&ca.pem(), "CA").unwrap().remove(0)).unwrap();
    rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
}

#[tokio::test]
async fn changed_files_are_served_and_bad_ones_are_not() {
    let ours = Authority::new("ours");
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    let write = |leaf: &Leaf| {
        fs::write(&certificate, &leaf.certificate).unwrap();
        fs::write(&key, &leaf.key).unwrap();
    };
    let (first, second) = (ours.server(&["first.example"]), ours.server(&["second.example"]));
    write(&first);
    let files = CertificateSource::Files { certificate: certificate.clone(), key: key.clone() };
    let tls = ServerTls::new(files, false).unwrap();
    // Without the task that looks at the files from time to time: here the test does.
    let listener = bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (acceptor, shutdown) = (Some(tls.acceptor()), CancellationToken::new());
    let limits = Limits::default();
    tokio::spawn(accept_all(
        listener,
        acceptor,
        router(),
        limits,
        shutdown,
        std::future::pending(),
    ));
    let url = format!("https://{address}/");
    let serves = async |name: &str| {
        let options = TlsOptions {
            ca_pem: Some(ours.pem()),
            server_name: Some(name.into()),
            ..TlsOptions::default()
        };
        ask(&client(options), &url).await.is_ok()
    };
    assert!(serves("first.example").await);
    assert!(!tls.reload().unwrap(), "nothing has changed");

    // Half of an update: the new certificate beside the old key.
    fs::write(&certificate, &second.certificate).unwrap();
    let torn = tls.reload().unwrap_err();
    assert!(matches!(torn, TlsError::Mismatch { .. }), "{torn}");
    assert!(!tls.reload().unwrap(), "the same fault is told once");
    assert!(serves("first.example").await);

    write(&second);
    assert!(tls.reload().unwrap());
    assert!(serves("second.example").await && !serves("first.example").await);

    fs::remove_file(&key).unwrap();
    let gone = tls.reload().unwrap_err().to_string();
    assert!(gone.starts_with(&format!("cannot read {}", key.display())), "{gone}");
    assert!(!tls.reload().unwrap());
    assert!(serves("second.example").await);
}

#[tokio::test]
async fn http2_is_offered_and_idle_connections_are_closed() {
    let ours = Authority::new("ours");
    let tls = ServerTls::new(source(&ours.server(&["localhost"])), false).unwrap();
    let (address, _shutdown) = start(tls.clone(), Limits::default()).await;
    let (mut sender, _connection) = http2(address, &ours).await;
    let request = axum::http::Request::get("https://localhost/").body(Empty::new()).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "hello");

    let limits = Limits { header_read_timeout: Duration::from_millis(20), ..Limits::default() };
    let (address, _shutdown) = start(tls, limits).await;
    let (sender, connection) = http2(address, &ours).await;
    // The sender still lives: it is the server that ends this.
    connection.await.unwrap().unwrap();
    assert!(sender.is_closed());
}

#[tokio::test]
async fn the_certificate_is_that_of_the_name_that_is_asked_for() {
    let ours = Authority::new("ours");
    let bearing = |san: &str| source(&ours.server(&[san]));
    let named = |san: &str, names: &[&str]| NamedCertificate {
        source: bearing(san),
        names: names.iter().map(|name| String::from(*name)).collect(),
    };
    let others = [
        named("bears.example", &[]),
        named("wild.example", &["*.example"]),
        named("exact.example", &["exact.example", "alias.example"]),
    ];
    let policy = TlsPolicy::default();
    let tls = ServerTls::with_policy(bearing("default.example"), &others, false, &policy).unwrap();
    let (address, _shutdown) = start(tls, Limits::default()).await;
    for (asked, served) in [
        ("other.test", "default.example"),
        ("EXACT.example", "exact.example"),
        ("alias.example", "exact.example"),
        // A name that was given goes before one that is borne.
        ("bears.example", "wild.example"),
        ("a.example", "wild.example"),
        ("a.b.example", "default.example"),
    ] {
        assert_eq!(served_name(address, asked).await, served, "{asked}");
    }
    let tls = ServerTls::with_policy(bearing("default.example"), &others[..1], false, &policy);
    let (address, _shutdown) = start(tls.unwrap(), Limits::default()).await;
    assert_eq!(served_name(address, "bears.example").await, "bears.example");
}

/// Which of the names of the test above the certificate bears that is served to who asks for `asked`.
async fn served_name(address: SocketAddr, asked: &str) -> &'static str {
    let algorithms = provider().signature_verification_algorithms;
    let config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(super::client::Unverified(algorithms)))
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let asked = String::from(asked).try_into().unwrap();
    let stream = connector.connect(asked, stream).await.unwrap();
    let leaf = &stream.get_ref().1.peer_certificates().unwrap()[0];
    let leaf = rustls::server::ParsedCertificate::try_from(leaf).unwrap();
    let is_for =
        |name: &str| rustls::client::verify_server_name(&leaf, &name.try_into().unwrap()).is_ok();
    let names = ["default.example", "bears.example", "wild.example", "exact.example"];
    names.into_iter().find(|name| is_for(name)).unwrap()
}

#[tokio::test]
async fn versions_and_suites_can_be_narrowed() {
    use rustls::{CipherSuite, ProtocolVersion};
    let ours = Authority::new("ours");
    let suite = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305";
    for (policy, versions, expected) in [
        (TlsPolicy::default(), rustls::ALL_VERSIONS, Some(ProtocolVersion::TLSv1_3)),
        (TlsPolicy::default(), &[&rustls::version::TLS12], Some(ProtocolVersion::TLSv1_2)),
        (
            TlsPolicy { min_version: TlsVersion::V13, ..TlsPolicy::default() },
            &[&rustls::version::TLS12],
            None,
        ),
        (
            TlsPolicy { cipher_suites: vec![suite.into()], ..TlsPolicy::default() },
            &[&rustls::version::TLS12],
            Some(ProtocolVersion::TLSv1_2),
        ),
    ] {
        let leaf = source(&ours.server(&["localhost"]));
        let tls = ServerTls::with_policy(leaf, &[], false, &policy).unwrap();
        let (address, _shutdown) = start(tls, Limits::default()).await;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificates(&ours.pem(), "CA").unwrap().remove(0)).unwrap();
        let config = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = connector.connect("localhost".try_into().unwrap(), stream).await.ok();
        let session = stream.as_ref().map(|stream| stream.get_ref().1);
        assert_eq!(session.and_then(|s| s.protocol_version()), expected, "{policy:?}");
        if !policy.cipher_suites.is_empty() {
            let negotiated = session.unwrap().negotiated_cipher_suite().unwrap().suite();
            assert_eq!(negotiated, CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256);
        }
    }
    let policy = TlsPolicy { cipher_suites: vec!["RC4".into()], ..TlsPolicy::default() };
    let leaf = source(&ours.server(&["localhost"]));
    let refused = ServerTls::with_policy(leaf, &[], false, &policy).unwrap_err().to_string();
    assert_eq!(refused, "\"RC4\" is not the name of a cipher suite");
    assert_eq!("VersionTLS11".parse(), Ok(TlsVersion::V12));
    assert_eq!("1.3".parse::<TlsVersion>(), Err(BadTlsVersion));
}

async fn http2(
    address: SocketAddr,
    ca: &Authority,
) -> (http2::SendRequest<Empty<Bytes>>, tokio::task::JoinHandle<hyper::Result<()>>) {
    let mut config = config_trusting(ca).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    let io = TokioIo::new(stream);
    let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    (sender, tokio::spawn(connection))
}

#[tokio::test]
async fn a_client_that_does_not_shake_hands_is_cut_off() {
    let ours = Authority::new("ours");
    let tls = ServerTls::new(source(&ours.server(&["localhost"])), false).unwrap();
    let limits = Limits { handshake_timeout: Duration::from_millis(20), ..Limits::default() };
    let (address, _shutdown) = start(tls, limits).await;
    let mut silent = TcpStream::connect(address).await.unwrap();
    let mut answer = Vec::new();
    silent.read_to_end(&mut answer).await.unwrap();
    assert!(answer.is_empty());
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    // An alert, or nothing: no HTTP in any case.
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"));
}

#[test]
fn what_is_wrong_is_named() {
    let ours = Authority::new("ours");
    let leaf = ours.server(&["localhost"]);
    let pem = |certificate: &[u8], key: &[u8]| {
        let source =
            CertificateSource::Pem { certificate: certificate.to_vec(), key: key.to_vec() };
        ServerTls::new(source, false).unwrap_err().to_string()
    };
    assert_eq!(pem(b"", &leaf.key), "certificate: no usable PEM certificates: there is none");
    assert!(pem(&leaf.certificate, b"x").starts_with("key: no usable PEM private key: "));
    let other = ours.server(&["localhost"]);
    assert_eq!(
        pem(&leaf.certificate, &other.key),
        "certificate: the private key does not belong to the certificate"
    );
    let options = TlsOptions {
        ca_pem: Some(ours.pem()),
        server_name: Some("a b".into()),
        ..TlsOptions::default()
    };
    let options = ClientOptions { tls: Some(options), ..ClientOptions::default() };
    assert_eq!(Client::new(options).unwrap_err().to_string(), "invalid server name \"a b\"");
}
