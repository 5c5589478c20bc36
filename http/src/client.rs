//! The asking side: GET with a time limit on the whole request and a byte limit on the body.

use std::io::ErrorKind;
use std::time::Duration;

use axum::http::uri::InvalidUri;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::gzip::{GunzipError, gunzip};

/// Redirects that are followed, Go's own bound.
const REDIRECTS_MAX: usize = 10;

/// How a client keeps connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientOptions {
    /// Idle connections that are kept per host.
    pub idle_per_host_max: usize,
    /// How long an idle connection is kept.
    pub idle_timeout: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        // Longer than any usual scrape interval, so that scrapes reuse connections.
        Self { idle_per_host_max: 16, idle_timeout: Duration::from_secs(300) }
    }
}

/// Asks over HTTP/1.1 and keeps connections. Cloning shares the pool.
#[derive(Clone, Debug)]
pub struct Client {
    inner: legacy::Client<HttpConnector, Empty<Bytes>>,
}

/// What to get.
#[derive(Clone, Copy, Debug)]
pub struct GetRequest<'a> {
    /// `http://host:port/path?query`
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
    /// The URL does not parse or is not `http`.
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
    #[error("Get {url:?}: context deadline exceeded")]
    Timeout {
        /// The URL.
        url: String,
    },
    /// No connection, or it broke.
    #[error("Get {url:?}: {reason}")]
    Connection {
        /// The URL.
        url: String,
        /// What happened.
        reason: String,
    },
    /// The body is larger than allowed.
    #[error("body size limit exceeded")]
    BodyTooLarge,
    /// The body claims to be gzip and is not.
    #[error("Get {url:?}: gzip: {reason}")]
    Malformed {
        /// The URL.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Redirected too often.
    #[error("Get {url:?}: stopped after {REDIRECTS_MAX} redirects")]
    Redirects {
        /// The first URL.
        url: String,
    },
    /// Redirected to another host or port. A target must not choose for us whom to ask.
    #[error("Get {url:?}: redirected to another host: {location:?}")]
    RedirectedElsewhere {
        /// The first URL.
        url: String,
        /// Where the answer points.
        location: String,
    },
}

impl Client {
    /// A client with a pool of its own.
    #[must_use]
    pub fn new(options: ClientOptions) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let inner = legacy::Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(options.idle_per_host_max)
            .pool_idle_timeout(options.idle_timeout)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Self { inner }
    }

    /// Gets a URL. An answer with an error status is an answer.
    ///
    /// # Errors
    /// [`FetchError`]
    pub async fn get(&self, request: GetRequest<'_>) -> Result<Response, FetchError> {
        let timeout = || FetchError::Timeout { url: String::from(request.url) };
        let answer = tokio::time::timeout(request.timeout, self.follow(&request));
        answer.await.map_err(|_| timeout())?
    }

    async fn follow(&self, request: &GetRequest<'_>) -> Result<Response, FetchError> {
        let mut uri = parse_url(request.url)?;
        for _ in 0..=REDIRECTS_MAX {
            let (parts, body) = self.send(&uri, request).await?.into_parts();
            let location = parts.headers.get(header::LOCATION);
            if let Some(location) = location.filter(|_| is_redirect(parts.status)) {
                uri = redirected(&uri, location, request.url)?;
                continue;
            }
            let body = read_body(body, &parts.headers, request).await?;
            return Ok(Response { status: parts.status, headers: parts.headers, body });
        }
        Err(FetchError::Redirects { url: String::from(request.url) })
    }

    async fn send(
        &self,
        uri: &Uri,
        request: &GetRequest<'_>,
    ) -> Result<axum::http::Response<Incoming>, FetchError> {
        let mut builder = Request::get(uri.clone());
        for (name, value) in request.headers {
            let invalid = || FetchError::InvalidHeader(format!("{name}: {value}"));
            let header = HeaderName::try_from(*name).map_err(|_| invalid())?;
            let value = HeaderValue::try_from(*value).map_err(|_| invalid())?;
            builder = builder.header(header, value);
        }
        let message = builder.body(Empty::new()).map_err(|error| FetchError::InvalidUrl {
            url: String::from(request.url),
            reason: error.to_string(),
        })?;
        self.inner.request(message).await.map_err(|error| {
            let dialing = error.is_connect().then(|| uri.authority().map_or("", |a| a.as_str()));
            connection(request.url, dialing, &error)
        })
    }
}

fn parse_url(url: &str) -> Result<Uri, FetchError> {
    let invalid = |reason: String| FetchError::InvalidUrl { url: String::from(url), reason };
    let uri: Uri = url.parse().map_err(|error: InvalidUri| invalid(error.to_string()))?;
    if uri.scheme_str() != Some("http") {
        return Err(invalid(String::from("only http is supported")));
    }
    if uri.host().is_none_or(str::is_empty) {
        return Err(invalid(String::from("no host")));
    }
    Ok(uri)
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Where `location` leads from `from`: absolute or relative, on the same host and port. `asked` is the URL that it all
/// began with.
fn redirected(from: &Uri, location: &HeaderValue, asked: &str) -> Result<Uri, FetchError> {
    let text = String::from_utf8_lossy(location.as_bytes()).into_owned();
    let authority = from.authority().map_or("", |authority| authority.as_str());
    let to = if text.starts_with('/') && !text.starts_with("//") {
        parse_url(&format!("http://{authority}{text}"))?
    } else if let Some(rest) = text.strip_prefix("//") {
        parse_url(&format!("http://{rest}"))?
    } else if text.contains("://") {
        parse_url(&text)?
    } else {
        let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        parse_url(&format!("http://{authority}{folder}/{text}"))?
    };
    let place = |uri: &Uri| (uri.host().map(str::to_ascii_lowercase), uri.port_u16().unwrap_or(80));
    if place(&to) != place(from) {
        return Err(FetchError::RedirectedElsewhere { url: String::from(asked), location: text });
    }
    Ok(to)
}

async fn read_body(
    mut body: Incoming,
    headers: &HeaderMap,
    request: &GetRequest<'_>,
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
        let frame = frame.map_err(|error| connection(request.url, None, &error))?;
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
            FetchError::Malformed { url: String::from(request.url), reason: error.to_string() }
        }
    })
}

fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The innermost cause says what happened ("connection refused"), the others only where; `dialing` is the host and port
/// if no connection came about.
fn connection(
    url: &str,
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
    FetchError::Connection { url: String::from(url), reason }
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
    async fn bodies_are_decompressed_and_bounded() {
        let big = "0123456789".repeat(10_000);
        let sent = big.clone();
        let url = start(Router::new().route("/", get(move || async move { sent.clone() }))).await;
        let client = Client::new(ClientOptions::default());
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
        let client = Client::new(ClientOptions::default());
        let answer = client.get(request(&format!("{url}/a"))).await.unwrap();
        assert_eq!((answer.status, answer.body), (StatusCode::NOT_FOUND, b"here".to_vec()));
        let endless = client.get(request(&format!("{url}/loop"))).await;
        assert!(matches!(endless, Err(FetchError::Redirects { .. })));
    }

    #[test]
    fn redirects_stay_on_the_host() {
        let from = parse_url("http://host:81/a/b?x=1").unwrap();
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
            let to = redirected(&from, &HeaderValue::from_static(location), "asked").ok();
            let to = to.map(|uri| uri.to_string());
            assert_eq!(to.as_deref(), expected, "{location}");
        }
    }

    #[tokio::test]
    async fn failures_say_what_happened() {
        let client = Client::new(ClientOptions::default());
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
