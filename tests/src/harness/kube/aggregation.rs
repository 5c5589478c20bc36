//! The aggregation layer: requests for a registered group go to the server behind it, as kube-aggregator sends them.
//!
//! The backend sees a client certificate of the request header authority and who asked in `X-Remote-*`; whatever a client
//! put there itself is gone. A Service is an entry in a table of loopback addresses, which tests fill.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::PathAndQuery;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::access::User;
use super::listener::{Body, BoxError, full, response};
use super::pki::Identity;
use super::tls::provider;

/// How long a request that is no watch may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Connections to one backend that are kept for the next request.
const IDLE_MAX: usize = 32;

/// Headers that are about one connection.
const HOP_BY_HOP: [&str; 7] = [
    "connection",
    "keep-alive",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What an APIService says about how to reach its server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Backend {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) namespace: String,
    pub(crate) service: String,
    pub(crate) port: u16,
    insecure: bool,
    /// PEM.
    ca: Vec<u8>,
}

impl Backend {
    /// `None` if `service` is served by the API server itself.
    pub(crate) fn of(api_service: &Value) -> Option<Self> {
        let spec = &api_service["spec"];
        let service = &spec["service"];
        let text = |value: &Value| value.as_str().map(String::from);
        let port = service["port"].as_u64().and_then(|port| u16::try_from(port).ok());
        let ca = spec["caBundle"].as_str().unwrap_or_default();
        Some(Self {
            group: text(&spec["group"])?,
            version: text(&spec["version"])?,
            namespace: text(&service["namespace"])?,
            service: text(&service["name"])?,
            port: port.unwrap_or(443),
            insecure: spec["insecureSkipTLSVerify"] == true,
            ca: decode_base64(ca)?,
        })
    }

    /// The name that its certificate must be for.
    fn server_name(&self) -> String {
        format!("{}.{}.svc", self.service, self.namespace)
    }
}

fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.bytes().filter(|byte| !byte.is_ascii_whitespace() && *byte != b'=') {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count & 0xff) as u8);
        }
    }
    Some(out)
}

/// Trusts every server, as `insecureSkipTLSVerify` asks for.
#[derive(Debug)]
pub(crate) struct AnyServer(pub(crate) WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// A connection to a backend.
#[derive(Debug)]
enum Sender {
    /// Of one request at a time.
    Http1(http1::SendRequest<Body>),
    /// Shared by all requests.
    Http2(http2::SendRequest<Body>),
}

impl Sender {
    fn is_closed(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_closed(),
            Self::Http2(sender) => sender.is_closed(),
        }
    }

    fn is_ready(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_ready(),
            Self::Http2(sender) => sender.is_ready(),
        }
    }

    async fn send(
        &mut self,
        backend: &Backend,
        head: &Parts,
        body: &Bytes,
    ) -> Result<Response<Incoming>, BoxError> {
        let host = format!("{}:{}", backend.server_name(), backend.port);
        let path = head.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let mut request = Request::new(full(body.clone()));
        *request.method_mut() = head.method.clone();
        *request.headers_mut() = head.headers.clone();
        match self {
            Self::Http1(sender) => {
                *request.uri_mut() = path.parse()?;
                request.headers_mut().insert(header::HOST, HeaderValue::from_str(&host)?);
                Ok(sender.send_request(request).await?)
            }
            Self::Http2(sender) => {
                *request.uri_mut() = format!("https://{host}{path}").parse()?;
                request.headers_mut().remove(header::HOST);
                Ok(sender.send_request(request).await?)
            }
        }
    }
}

/// Sends requests to backends.
#[derive(Debug)]
pub(crate) struct Proxy {
    identity: Identity,
    services: Mutex<HashMap<(String, String), Vec<SocketAddr>>>,
    next: Mutex<usize>,
    configurations: Mutex<HashMap<Backend, Arc<ClientConfig>>>,
    idle: Mutex<HashMap<(Backend, SocketAddr), Vec<Sender>>>,
}

impl Proxy {
    /// A proxy that shows `identity` to backends.
    pub(crate) fn new(identity: Identity) -> Self {
        Self {
            identity,
            services: Mutex::default(),
            next: Mutex::default(),
            configurations: Mutex::default(),
            idle: Mutex::default(),
        }
    }

    pub(crate) fn route(&self, namespace: &str, service: &str, addresses: Vec<SocketAddr>) {
        let key = (String::from(namespace), String::from(service));
        self.services.lock().insert(key, addresses);
    }

    pub(crate) fn has_service(&self, backend: &Backend) -> bool {
        self.addresses(backend).is_some()
    }

    fn addresses(&self, backend: &Backend) -> Option<Vec<SocketAddr>> {
        let key = (backend.namespace.clone(), backend.service.clone());
        self.services.lock().get(&key).cloned()
    }

    /// The endpoint whose turn it is.
    fn endpoint(&self, backend: &Backend) -> Result<SocketAddr, BoxError> {
        let addresses = self.addresses(backend).unwrap_or_default();
        let mut next = self.next.lock();
        *next = next.wrapping_add(1);
        let at = *next % addresses.len().max(1);
        addresses.get(at).copied().ok_or_else(|| "the service has no endpoints".into())
    }

    fn configuration(&self, backend: &Backend) -> Result<Arc<ClientConfig>, BoxError> {
        if let Some(configuration) = self.configurations.lock().get(backend) {
            return Ok(configuration.clone());
        }
        let provider = provider();
        let algorithms = provider.signature_verification_algorithms;
        let builder =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let builder = if backend.insecure {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyServer(algorithms)))
        } else {
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(&backend.ca) {
                roots.add(certificate?)?;
            }
            builder.with_root_certificates(roots)
        };
        let (chain, key) = (self.identity.chain(), self.identity.key());
        let mut configuration = builder.with_client_auth_cert(chain, key)?;
        configuration.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let configuration = Arc::new(configuration);
        self.configurations.lock().insert(backend.clone(), configuration.clone());
        Ok(configuration)
    }

    async fn connect(&self, backend: &Backend, address: SocketAddr) -> Result<Sender, BoxError> {
        let stream = TcpStream::connect(address)
            .await
            .map_err(|error| format!("dial tcp {address}: connect: {error}"))?;
        stream.set_nodelay(true)?;
        let connector = TlsConnector::from(self.configuration(backend)?);
        let name = ServerName::try_from(backend.server_name())?;
        let stream = connector.connect(name, stream).await?;
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let stream = TokioIo::new(stream);
        if is_http2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
            tokio::spawn(connection);
            return Ok(Sender::Http2(sender));
        }
        let (sender, connection) = http1::handshake(stream).await?;
        tokio::spawn(connection);
        Ok(Sender::Http1(sender))
    }

    fn take_idle(&self, key: &(Backend, SocketAddr)) -> Option<Sender> {
        let mut idle = self.idle.lock();
        let senders = idle.get_mut(key)?;
        senders.retain(|sender| !sender.is_closed());
        let at = senders.iter().position(Sender::is_ready)?;
        // A connection that is shared stays for others to find.
        match &senders[at] {
            Sender::Http2(sender) => Some(Sender::Http2(sender.clone())),
            Sender::Http1(_) => Some(senders.swap_remove(at)),
        }
    }

    /// Sends a request whose body is `body`.
    async fn send(
        &self,
        backend: &Backend,
        head: &Parts,
        body: &Bytes,
    ) -> Result<Response<Incoming>, BoxError> {
        let address = self.endpoint(backend)?;
        let key = (backend.clone(), address);
        if let Some(mut sender) = self.take_idle(&key) {
            // The backend may have closed the connection since; then another is tried.
            if let Ok(response) = sender.send(backend, head, body).await {
                if let Sender::Http1(_) = sender {
                    self.keep(key, sender);
                }
                return Ok(response);
            }
        }
        let mut sender = self.connect(backend, address).await?;
        let response = sender.send(backend, head, body).await?;
        self.keep(key, sender);
        Ok(response)
    }

    fn keep(&self, key: (Backend, SocketAddr), sender: Sender) {
        let mut idle = self.idle.lock();
        let senders = idle.entry(key).or_default();
        if senders.len() < IDLE_MAX {
            senders.push(sender);
        }
    }

    /// Gets `path` as the aggregator itself.
    pub(crate) async fn get(
        &self,
        backend: &Backend,
        path: &str,
    ) -> Result<(u16, Bytes), BoxError> {
        let mut request = Request::new(());
        *request.uri_mut() = path.parse()?;
        let (mut head, ()) = request.into_parts();
        let aggregator = User::new("system:kube-aggregator", &["system:masters"]);
        set_user(&mut head.headers, &aggregator)?;
        let response = self.send(backend, &head, &Bytes::new()).await?;
        let status = response.status().as_u16();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }

    /// Passes a client's request on, and the answer back as it comes.
    pub(crate) async fn forward(
        &self,
        backend: &Backend,
        user: &User,
        mut head: Parts,
        body: Bytes,
        is_watch: bool,
    ) -> Response<Body> {
        let answer = async {
            for name in HOP_BY_HOP {
                head.headers.remove(name);
            }
            let of_client = |name: &HeaderName| {
                let name = name.as_str();
                name.starts_with("x-remote-")
                    || name.starts_with("impersonate-")
                    || name == "authorization"
            };
            let names: Vec<_> = head.headers.keys().filter(|n| of_client(n)).cloned().collect();
            for name in names {
                head.headers.remove(name);
            }
            set_user(&mut head.headers, user)?;
            head.headers.insert("x-forwarded-for", HeaderValue::from_static("127.0.0.1"));
            self.send(backend, &head, &body).await
        };
        let answer = if is_watch {
            answer.await
        } else {
            match tokio::time::timeout(REQUEST_TIMEOUT, answer).await {
                Ok(answer) => answer,
                Err(_) => return text(504, "request timed out"),
            }
        };
        match answer {
            Ok(answer) => pass_on(answer),
            Err(error) => text(503, &error.to_string()),
        }
    }
}

fn text(status: u16, message: &str) -> Response<Body> {
    response(status, "text/plain; charset=utf-8", full(format!("{message}\n")))
}

fn pass_on(answer: Response<Incoming>) -> Response<Body> {
    if answer.status().is_redirection() && answer.headers().contains_key(header::LOCATION) {
        return text(502, "the backend attempted to redirect this request, which is not permitted");
    }
    let mut answer = answer.map(|body| body.map_err(BoxError::from).boxed_unsync());
    for name in HOP_BY_HOP {
        answer.headers_mut().remove(name);
    }
    answer
}

fn set_user(headers: &mut HeaderMap, user: &User) -> Result<(), BoxError> {
    headers.insert("x-remote-user", HeaderValue::from_str(&user.name)?);
    if !user.uid.is_empty() {
        headers.insert("x-remote-uid", HeaderValue::from_str(&user.uid)?);
    }
    for group in &user.groups {
        headers.append("x-remote-group", HeaderValue::from_str(group)?);
    }
    for (key, values) in &user.extra {
        let name = format!("x-remote-extra-{}", escape_header(key));
        let name = HeaderName::from_bytes(name.as_bytes())?;
        for value in values {
            headers.append(name.clone(), HeaderValue::from_str(value)?);
        }
    }
    Ok(())
}

/// Replaces what a header's name cannot have, and `%`, by `%XX`.
fn escape_header(key: &str) -> String {
    let mut out = String::new();
    for byte in key.to_lowercase().bytes() {
        if byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_keys_are_escaped_as_headers_need_it() {
        assert_eq!(
            escape_header("authentication.kubernetes.io/pod-name"),
            "authentication.kubernetes.io%2Fpod-name"
        );
        assert_eq!(escape_header("A%b"), "a%25b");
    }

    #[test]
    fn bundles_are_base64() {
        assert_eq!(decode_base64("aGVsbG8=").unwrap(), b"hello");
        assert_eq!(decode_base64("aGVs\nbG8h").unwrap(), b"hello!");
        assert_eq!(decode_base64("*"), None);
    }
}
