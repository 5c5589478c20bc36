//! The asking side: a time limit on the whole request and a byte limit on the body.
//!
//! The same client asks a router of the same process, so that whoever is in one with a server goes through its bounds and its
//! answers as others do.

use std::io::ErrorKind;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::uri::InvalidUri;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tower::ServiceExt;

use crate::gzip::{GunzipError, gunzip};
use crate::tls::{TlsError, TlsOptions, connector, plain_connector};

/// Redirects that are followed, Go's own bound.
const REDIRECTS_MAX: usize = 10;

/// How a client keeps connections, and whom it trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientOptions {
    /// Idle connections that are kept per host.
    pub idle_per_host_max: usize,
    /// How long an idle connection is kept.
    pub idle_timeout: Duration,
    /// For `https`; without it only `http` is spoken.
    pub tls: Option<TlsOptions>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        // Longer than any usual scrape interval, so that scrapes reuse connections.
        Self { idle_per_host_max: 16, idle_timeout: Duration::from_secs(300), tls: None }
    }
}

/// Asks over HTTP/1.1 and keeps connections. Cloning shares the pool.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Inner,
    /// Whether `https` may be spoken.
    tls: bool,
}

#[derive(Clone, Debug)]
enum Inner {
    Network(legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>),
    InProcess(Router),
}

impl Default for Client {
    /// A client of its own pool, for plain HTTP.
    fn default() -> Self {
        let ClientOptions { idle_per_host_max, idle_timeout, tls: _ } = ClientOptions::default();
        Self::with_connector(plain_connector(), false, idle_per_host_max, idle_timeout)
    }
}

/// What to send.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Its method.
    pub method: Method,
    /// `http://host:port/path?query`, or `https` where the client has TLS.
    pub url: &'a str,
    /// Headers by name. `Accept-Encoding` is the caller's to set; gzip is understood.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body, as it is.
    pub body: Bytes,
    /// Time for the whole: connecting, sending, all of the answer's body.
    pub timeout: Duration,
    /// Bytes of the answer's body, before and after decompression.
    pub body_bytes_max: usize,
}

/// What to get.
#[derive(Clone, Copy, Debug)]
pub struct GetRequest<'a> {
    /// `http://host:port/path?query`, or `https` where the client has TLS.
    pub url: &'a str,
    /// Headers by name. `Accept-Encoding` is the caller's to set; gzip is understood.
    pub headers: &'a [(&'a str, &'a str)],
    /// Time for the whole: connecting, sending, all of the body.
    pub timeout: Duration,
    /// Bytes of the body, before and after decompression.
    pub body_bytes_max: usize,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// Its status, whatever it is.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, decompressed.
    pub body: Vec<u8>,
}

impl Response {
    /// The content type, empty when there is none.
    #[must_use]
    pub fn content_type(&self) -> &str {
        let value = self.headers.get(header::CONTENT_TYPE);
        value.and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// Why there is no answer. Where Go's client has words for it, they are Go's: people search for them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The URL does not parse, or its scheme is not one that this client speaks.
    #[error("invalid URL {url:?}: {reason}")]
    InvalidUrl {
        /// The URL.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A header name or value is malformed.
    #[error("invalid header {0:?}")]
    InvalidHeader(String),
    /// The whole did not finish in time.
    #[error("{request}: context deadline exceeded")]
    Timeout {
        /// Its method and URL.
        request: String,
    },
    /// No connection, or it broke.
    #[error("{request}: {reason}")]
    Connection {
        /// Its method and URL.
        request: String,
        /// What happened.
        reason: String,
    },
    /// The body is larger than allowed.
    #[error("body size limit exceeded")]
    BodyTooLarge,
    /// The body claims to be gzip and is not.
    #[error("{request}: gzip: {reason}")]
    Malformed {
        /// Its method and URL.
        request: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Redirected too often.
    #[error("{request}: stopped after {REDIRECTS_MAX} redirects")]
    Redirects {
        /// The method and URL that it began with.
        request: String,
    },
    /// Redirected to another host or port. A target must not choose for us whom to ask.
    #[error("{request}: redirected to another host: {location:?}")]
    RedirectedElsewhere {
        /// The method and URL that it began with.
        request: String,
        /// Where the answer points.
        location: String,
    },
}

impl Client {
    /// A client with a pool of its own.
    ///
    /// # Errors
    /// [`TlsError`]: the certificates or the key of `options.tls` are unusable.
    pub fn new(options: ClientOptions) -> Result<Self, TlsError> {
        let ClientOptions { idle_per_host_max, idle_timeout, tls } = options;
        let speaks_tls = tls.is_some();
        let https = match tls {
            Some(tls) => connector(tls)?,
            None => plain_connector(),
        };
        Ok(Self::with_connector(https, speaks_tls, idle_per_host_max, idle_timeout))
    }

    fn with_connector(
        connector: HttpsConnector<HttpConnector>,
        tls: bool,
        idle_per_host_max: usize,
        idle_timeout: Duration,
    ) -> Self {
        let inner = legacy::Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(idle_per_host_max)
            .pool_idle_timeout(idle_timeout)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Self { inner: Inner::Network(inner), tls }
    }

    /// A client that asks `router`, whatever host a URL names, without a connection.
    #[must_use]
    pub const fn in_process(router: Router) -> Self {
        Self { inner: Inner::InProcess(router), tls: false }
    }

    /// Gets a URL, following redirects that stay on the host. An answer with an error status is an answer.
    ///
    /// # Errors
    /// [`FetchError`]
    pub async fn get(&self, request: GetRequest<'_>) -> Result<Response, FetchError> {
        let GetRequest { url, headers, timeout, body_bytes_max } = request;
        let request = Request {
            method: Method::GET,
            url,
            headers,
            body: Bytes::new(),
            timeout,
            body_bytes_max,
        };
        let answer = tokio::time::timeout(timeout, self.follow(&request));
        answer.await.map_err(|_| FetchError::Timeout { request: described(&request) })?
    }

    /// Sends a request. An answer with an error status is an answer, and so is a redirect: what was meant for one place
    /// is not sent to another.
    ///
    /// # Errors
    /// [`FetchError`]
    pub async fn send(&self, request: Request<'_>) -> Result<Response, FetchError> {
        let answer = tokio::time::timeout(request.timeout, async {
            let uri = self.parse(request.url)?;
            let (parts, body) = self.ask(&uri, &request).await?.into_parts();
            let body = read_body(body, &parts.headers, &request).await?;
            Ok(Response { status: parts.status, headers: parts.headers, body })
        });
        answer.await.map_err(|_| FetchError::Timeout { request: described(&request) })?
    }

    async fn follow(&self, request: &Request<'_>) -> Result<Response, FetchError> {
        let mut uri = self.parse(request.url)?;
        for _ in 0..=REDIRECTS_MAX {
            let (parts, body) = self.ask(&uri, request).await?.into_parts();
            let location = parts.headers.get(header::LOCATION);
            if let Some(location) = location.filter(|_| is_redirect(parts.status)) {
                uri = redirected(&uri, location, request)?;
                continue;
            }
            let body = read_body(body, &parts.headers, request).await?;
            return Ok(Response { status: parts.status, headers: parts.headers, body });
        }
        Err(FetchError::Redirects { request: described(request) })
    }

    fn parse(&self, url: &str) -> Result<Uri, FetchError> {
        let uri = parse_url(url)?;
        if uri.scheme_str() == Some("https") && !self.tls {
            let reason = String::from("https is not set up: only http is supported");
            return Err(FetchError::InvalidUrl { url: String::from(url), reason });
        }
        Ok(uri)
    }

    async fn ask(
        &self,
        uri: &Uri,
        request: &Request<'_>,
    ) -> Result<axum::http::Response<Body>, FetchError> {
        let mut builder =
            axum::http::Request::builder().method(request.method.clone()).uri(uri.clone());
        for (name, value) in request.headers {
            // The value may be a credential.
            let invalid = || FetchError::InvalidHeader(String::from(*name));
            let header = HeaderName::try_from(*name).map_err(|_| invalid())?;
            let value = HeaderValue::try_from(*value).map_err(|_| invalid())?;
            builder = builder.header(header, value);
        }
        let message = builder.body(Full::new(request.body.clone())).map_err(|error| {
            FetchError::InvalidUrl { url: String::from(request.url), reason: error.to_string() }
        })?;
        match &self.inner {
            Inner::Network(client) => {
                let answer = client.request(message).await.map_err(|error| {
                    let authority = || uri.authority().map_or("", |a| a.as_str());
                    connection(request, error.is_connect().then(authority), &error)
                })?;
                Ok(answer.map(Body::new))
            }
            Inner::InProcess(router) => {
                match router.clone().oneshot(message.map(Body::new)).await {
                    Ok(answer) => Ok(answer),
                    Err(never) => match never {},
                }
            }
        }
    }
}

/// A request as Go's client names it in errors: `Get "http://host/"`.
fn described(request: &Request<'_>) -> String {
    let method = request.method.as_str();
    let (first, rest) = method.split_at(method.len().min(1));
    format!("{first}{} {:?}", rest.to_ascii_lowercase(), request.url)
}

fn parse_url(url: &str) -> Result<Uri, FetchError> {
    let invalid = |reason: String| FetchError::InvalidUrl { url: String::from(url), reason };
    let uri: Uri = url.parse().map_err(|error: InvalidUri| invalid(error.to_string()))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(invalid(String::from("only http and https are supported")));
    }
    if uri.host().is_none_or(str::is_empty) {
        return Err(invalid(String::from("no host")));
    }
    Ok(uri)
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Where `location` leads from `from`: absolute or relative, on the same host and port and by the same scheme.
fn redirected(
    from: &Uri,
    location: &HeaderValue,
    request: &Request<'_>,
) -> Result<Uri, FetchError> {
    let text = String::from_utf8_lossy(location.as_bytes()).into_owned();
    let scheme = from.scheme_str().unwrap_or("http");
    let authority = from.authority().map_or("", |authority| authority.as_str());
    let to = if text.starts_with('/') && !text.starts_with("//") {
        parse_url(&format!("{scheme}://{authority}{text}"))?
    } else if let Some(rest) = text.strip_prefix("//") {
        parse_url(&format!("{scheme}://{rest}"))?
    } else if text.contains("://") {
        parse_url(&text)?
    } else {
        let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        parse_url(&format!("{scheme}://{authority}{folder}/{text}"))?
    };
    if place(&to) != place(from) {
        return Err(FetchError::RedirectedElsewhere {
            request: described(request),
            location: text,
        });
    }
    Ok(to)
}

/// Whom a URL asks: scheme, host and port.
fn place(uri: &Uri) -> (Option<&str>, Option<String>, u16) {
    let tls = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
    (uri.scheme_str(), uri.host().map(str::to_ascii_lowercase), port)
}

async fn read_body(
    mut body: Body,
    headers: &HeaderMap,
    request: &Request<'_>,
) -> Result<Vec<u8>, FetchError> {
    let mut bytes = Vec::new();
    if let Some(length) = content_length(headers) {
        if length > request.body_bytes_max {
            return Err(FetchError::BodyTooLarge);
        }
        // A header is a claim, not a reason to allocate without bound.
        bytes.reserve(length.min(1 << 20));
    }
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| connection(request, None, &error))?;
        let Ok(chunk) = frame.into_data() else { continue };
        if bytes.len() + chunk.len() > request.body_bytes_max {
            return Err(FetchError::BodyTooLarge);
        }
        bytes.extend_from_slice(&chunk);
    }
    let encoding = headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes);
    if !encoding.is_some_and(|encoding| encoding.eq_ignore_ascii_case(b"gzip")) {
        return Ok(bytes);
    }
    gunzip(&bytes, request.body_bytes_max).map_err(|error| match error {
        GunzipError::TooLarge => FetchError::BodyTooLarge,
        GunzipError::Malformed(error) => {
            FetchError::Malformed { request: described(request), reason: error.to_string() }
        }
    })
}

fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The innermost cause says what happened ("connection refused"), the others only where; `dialing` is the host and port
/// if no connection came about.
fn connection(
    request: &Request<'_>,
    dialing: Option<&str>,
    error: &(dyn std::error::Error + 'static),
) -> FetchError {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let system = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    let what = match system {
        Some(ErrorKind::ConnectionRefused) => String::from("connect: connection refused"),
        Some(ErrorKind::HostUnreachable) => String::from("connect: no route to host"),
        Some(ErrorKind::NetworkUnreachable) => String::from("connect: network is unreachable"),
        Some(ErrorKind::ConnectionReset) => String::from("connection reset by peer"),
        _ => cause.to_string(),
    };
    let reason = match dialing {
        Some(authority) => format!("dial tcp {authority}: {what}"),
        None => what,
    };
    FetchError::Connection { request: described(request), reason }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::response::{IntoResponse, Redirect};
    use axum::routing::get;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::listener::{Limits, bind, serve};

    async fn start(router: Router) -> String {
        let listener = bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(serve(listener, router, Limits::default(), CancellationToken::new()));
        url
    }

    fn request(url: &str) -> GetRequest<'_> {
        GetRequest {
            url,
            headers: &[("accept-encoding", "gzip"), ("x-test", "1")],
            timeout: Duration::from_secs(30),
            body_bytes_max: 1 << 20,
        }
    }

    #[tokio::test]
    async fn a_router_is_asked_without_a_connection_and_within_the_same_bounds() {
        let router = Router::new()
            .route("/hello", get(|| async { "hello" }))
            .route("/away", get(|| async { Redirect::temporary("/hello") }))
            .route("/late", get(std::future::pending::<()>));
        let client = Client::in_process(router);
        let ask = async |path: &str| {
            let url = format!("http://anyone{path}");
            let timeout = Duration::from_millis(200);
            let request = GetRequest { url: &url, headers: &[], timeout, body_bytes_max: 5 };
            client.get(request).await.map(|answer| answer.body)
        };
        assert_eq!(ask("/hello").await.unwrap(), b"hello");
        assert_eq!(ask("/away").await.unwrap(), b"hello");
        assert!(matches!(ask("/late").await, Err(FetchError::Timeout { .. })));
    }

    #[tokio::test]
    async fn bodies_are_decompressed_and_bounded() {
        let big = "0123456789".repeat(10_000);
        let sent = big.clone();
        let url = start(Router::new().route("/", get(move || async move { sent.clone() }))).await;
        let client = Client::default();
        let answer = client.get(request(&url)).await.unwrap();
        assert_eq!(answer.headers[header::CONTENT_ENCODING], "gzip");
        assert_eq!(String::from_utf8(answer.body).unwrap(), big);
        let limited = GetRequest { body_bytes_max: 99_999, ..request(&url) };
        assert!(matches!(client.get(limited).await, Err(FetchError::BodyTooLarge)));
        let plain = GetRequest { headers: &[], ..limited };
        assert!(matches!(client.get(plain).await, Err(FetchError::BodyTooLarge)));
    }

    #[tokio::test]
    async fn redirects_are_followed_but_not_for_ever() {
        let router = Router::new()
            .route("/a", get(|| async { Redirect::temporary("/b") }))
            .route("/b", get(|| async { (StatusCode::NOT_FOUND, "here").into_response() }))
            .route("/loop", get(|| async { Redirect::temporary("/loop") }));
        let url = start(router).await;
        let client = Client::default();
        let answer = client.get(request(&format!("{url}/a"))).await.unwrap();
        assert_eq!((answer.status, answer.body), (StatusCode::NOT_FOUND, b"here".to_vec()));
        let endless = client.get(request(&format!("{url}/loop"))).await;
        assert!(matches!(endless, Err(FetchError::Redirects { .. })));
    }

    #[test]
    fn redirects_stay_on_the_host() {
        let asked = Request {
            method: Method::GET,
            url: "http://host:81/a/b?x=1",
            headers: &[],
            body: Bytes::new(),
            timeout: Duration::from_secs(1),
            body_bytes_max: 1,
        };
        let from = parse_url(asked.url).unwrap();
        for (location, expected) in [
            ("/c?d", Some("http://host:81/c?d")),
            ("c", Some("http://host:81/a/c")),
            ("http://HOST:81/c", Some("http://HOST:81/c")),
            ("//host:81/c", Some("http://host:81/c")),
            ("http://host/c", None),
            ("//other:81/c", None),
            ("http://other:81/", None),
            ("https://host:81/", None),
            ("", Some("http://host:81/a/")),
        ] {
            let to = redirected(&from, &HeaderValue::from_static(location), &asked).ok();
            let to = to.map(|uri| uri.to_string());
            assert_eq!(to.as_deref(), expected, "{location}");
        }
    }

    #[tokio::test]
    async fn failures_say_what_happened() {
        let client = Client::default();
        let closed = {
            let listener = bind("127.0.0.1:0").await.unwrap();
            format!("http://{}/metrics", listener.local_addr().unwrap())
        };
        let refused = client.get(request(&closed)).await.unwrap_err().to_string();
        let authority = closed.trim_start_matches("http://").trim_end_matches("/metrics");
        assert_eq!(
            refused,
            format!("Get {closed:?}: dial tcp {authority}: connect: connection refused")
        );
        for url in ["https://x/", "x", "http://", "ftp://x/"] {
            let error = client.get(request(url)).await;
            assert!(matches!(error, Err(FetchError::InvalidUrl { .. })), "{url}: {error:?}");
        }
        let url = start(Router::new().route("/", get(std::future::pending::<()>))).await;
        let hanging = GetRequest { timeout: Duration::from_millis(20), ..request(&url) };
        let error = client.get(hanging).await.unwrap_err().to_string();
        assert_eq!(error, format!("Get {url:?}: context deadline exceeded"));
    }
}
