//! One call of the API server: paced, timed, its answer bounded, its errors worded as upstream's client words them.
//!
//! A call that writes is given a guard, which is asked when everything that could delay the call has passed: nothing is sent once
//! the guard says no.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use kube::client::Body;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::rate::Rate;

/// Time for a call that reads.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an answer about one object.
pub(super) const OBJECT_BYTES_MAX: usize = 4 << 20;
/// Bytes of an answer with many items.
pub(super) const LIST_BYTES_MAX: usize = 64 << 20;
/// Bytes of an error that are looked at.
const ERROR_BYTES_MAX: usize = 64 << 10;
/// Bytes of an error that is no status, which are repeated.
const REPEATED_BYTES_MAX: usize = 2048;
/// How often a call is made for which the server asks to come back later.
const TRIES_MAX: u32 = 3;
/// Longest wait before the next try. A server that asks for more is told no by giving up: the next period tries again anyway.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(2);

/// What in a segment of a path has to be escaped.
const SEGMENT: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'*').remove(b':');

/// Escapes one segment of a path.
pub(super) fn segment(text: &str) -> impl fmt::Display + '_ {
    utf8_percent_encode(text, SEGMENT)
}

/// Why a call failed. The text is what upstream's client would say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    pub(super) kind: ApiErrorKind,
    message: String,
}

/// What can be done about a failed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ApiErrorKind {
    /// There is no such object or resource.
    NotFound,
    /// It was changed since it was read.
    Conflict,
    /// The server refused.
    Refused(u16),
    /// The server could not be reached, or did not answer in time.
    Unreachable,
    /// The answer is none.
    Answer,
    /// The guard said no. Nothing was sent.
    NotAllowed,
}

impl ApiError {
    pub(super) fn new(kind: ApiErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    pub(super) fn is_conflict(&self) -> bool {
        self.kind == ApiErrorKind::Conflict
    }

    pub(super) fn is_not_found(&self) -> bool {
        self.kind == ApiErrorKind::NotFound
    }

    pub(super) fn not_allowed() -> Self {
        Self::new(ApiErrorKind::NotAllowed, "this instance no longer leads")
    }
}

/// What is called. `resource` and `name` are for error texts.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// Type and bytes.
    pub body: Option<(&'static str, Vec<u8>)>,
    /// `RESOURCE.GROUP`, or `RESOURCE` of the core group.
    pub resource: &'a str,
    /// Name of the object; empty for lists.
    pub name: &'a str,
    pub bytes_max: usize,
    pub timeout: Duration,
}

impl<'a> Call<'a> {
    /// Reads one object.
    pub(super) fn get(path: String, resource: &'a str, name: &'a str) -> Self {
        Self {
            method: Method::GET,
            path,
            body: None,
            resource,
            name,
            bytes_max: OBJECT_BYTES_MAX,
            timeout: READ_TIMEOUT,
        }
    }

    /// Reads many.
    pub(super) fn list(path: String, resource: &'a str) -> Self {
        Self { bytes_max: LIST_BYTES_MAX, ..Self::get(path, resource, "") }
    }
}

/// The API server.
#[derive(Clone)]
pub struct ApiServer {
    client: kube::Client,
    rate: Arc<Rate>,
}

impl fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiServer").field("rate", &self.rate).finish_non_exhaustive()
    }
}

impl ApiServer {
    /// Calls over `client`, at most `qps` a second and `burst` at once.
    #[must_use]
    pub fn new(client: kube::Client, qps: f64, burst: u32) -> Self {
        Self { client, rate: Arc::new(Rate::new(qps, burst)) }
    }

    pub(super) fn client(&self) -> &kube::Client {
        &self.client
    }

    /// Reads.
    pub(super) async fn read<T: DeserializeOwned>(&self, call: Call<'_>) -> Result<T, ApiError> {
        self.call(call, || true).await
    }

    /// Calls if `guard` allows it, which is asked just before each try.
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        mut call: Call<'_>,
        guard: impl Fn() -> bool,
    ) -> Result<T, ApiError> {
        let body = call.body.take().map(|(kind, bytes)| (kind, axum::body::Bytes::from(bytes)));
        let mut tries = 0;
        loop {
            self.rate.turn().await;
            if !guard() {
                return Err(ApiError::not_allowed());
            }
            tries += 1;
            let (status, headers, answer) = self.send(&call, body.clone()).await?;
            if status.is_success() {
                return serde_json::from_slice(&answer).map_err(|error| {
                    let text = format!(
                        "unable to decode the answer to {} {}: {error}",
                        call.method, call.path
                    );
                    ApiError::new(ApiErrorKind::Answer, text)
                });
            }
            match retry_after(status, &headers) {
                Some(wait) if tries < TRIES_MAX && wait <= RETRY_AFTER_MAX => {
                    tokio::time::sleep(wait).await;
                }
                _ => return Err(refusal(status, &answer, &call)),
            }
        }
    }

    async fn send(
        &self,
        call: &Call<'_>,
        body: Option<(&'static str, axum::body::Bytes)>,
    ) -> Result<(StatusCode, HeaderMap, axum::body::Bytes), ApiError> {
        let unreachable = |what: &dyn fmt::Display| {
            let verb = match call.method {
                Method::GET => "Get",
                Method::PUT => "Put",
                Method::POST => "Post",
                _ => "Patch",
            };
            let text = format!("{verb} \"{}\": {what}", call.path);
            ApiError::new(ApiErrorKind::Unreachable, text)
        };
        let request = Request::builder()
            .method(call.method.clone())
            .uri(&call.path)
            .header(header::ACCEPT, "application/json");
        let request = match body {
            Some((kind, bytes)) => {
                request.header(header::CONTENT_TYPE, kind).body(Body::from(bytes))
            }
            None => request.body(Body::empty()),
        };
        let request = request.map_err(|error| unreachable(&error))?;
        let exchange = async {
            let response = self.client.send(request).await.map_err(|error| unreachable(&error))?;
            let (parts, body) = response.into_parts();
            let limit = if parts.status.is_success() { call.bytes_max } else { ERROR_BYTES_MAX };
            let answer = match Limited::new(body, limit).collect().await {
                Ok(answer) => answer.to_bytes(),
                // An error of which only the code is known is an error all the same.
                Err(_) if !parts.status.is_success() => axum::body::Bytes::new(),
                Err(error) => return Err(unreachable(&error)),
            };
            Ok((parts.status, parts.headers, answer))
        };
        match tokio::time::timeout(call.timeout, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(unreachable(&format_args!("no answer within {:?}", call.timeout))),
        }
    }
}

/// How long a server asks to wait that cannot answer now.
fn retry_after(status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    if status != StatusCode::TOO_MANY_REQUESTS && !status.is_server_error() {
        return None;
    }
    let seconds: u64 = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    #[serde(borrow)]
    kind: std::borrow::Cow<'a, str>,
    #[serde(borrow, default)]
    message: std::borrow::Cow<'a, str>,
}

/// The error in an answer: what its status says, else what upstream's client makes of its code.
fn refusal(status: StatusCode, answer: &[u8], call: &Call<'_>) -> ApiError {
    let kind = match status {
        StatusCode::NOT_FOUND => ApiErrorKind::NotFound,
        StatusCode::CONFLICT => ApiErrorKind::Conflict,
        other => ApiErrorKind::Refused(other.as_u16()),
    };
    if let Ok(said) = serde_json::from_slice::<Status<'_>>(answer)
        && said.kind == "Status"
        && !said.message.is_empty()
    {
        return ApiError::new(kind, said.message);
    }
    let said = String::from_utf8_lossy(&answer[..answer.len().min(REPEATED_BYTES_MAX)]);
    let said = match said.trim() {
        "" => "unknown",
        said => said,
    };
    let message = match status.as_u16() {
        400 => String::from("the server rejected our request for an unknown reason"),
        401 => String::from("the server has asked for the client to provide credentials"),
        404 => String::from("the server could not find the requested resource"),
        405 => String::from("the server does not allow this method on the requested resource"),
        406 if said == "unknown" => String::from(
            "the server was unable to respond with a content type that the client supports",
        ),
        403 | 406 | 415 => String::from(said),
        409 => String::from("the server reported a conflict"),
        422 => String::from("the server rejected our request due to an error in our request"),
        429 => String::from(
            "the server has received too many requests and has asked us to try again later",
        ),
        503 => String::from("the server is currently unable to handle the request"),
        504 => String::from(
            "the server was unable to return a response in the time allotted, but may still be processing the request",
        ),
        500.. => {
            format!("an error on the server ({said:?}) has prevented the request from succeeding")
        }
        code => format!(
            "the server responded with the status code {code} but did not return more information"
        ),
    };
    let verb = call.method.as_str().to_ascii_lowercase();
    let message = match call.name {
        "" => format!("{message} ({verb} {})", call.resource),
        name => format!("{message} ({verb} {} {name})", call.resource),
    };
    ApiError::new(kind, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(code: u16, answer: &str, name: &str, expected: &str) {
        let call = Call::get(String::from("/apis/x"), "pods.metrics.k8s.io", name);
        let error = refusal(StatusCode::from_u16(code).unwrap(), answer.as_bytes(), &call);
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn errors_say_what_upstream_says() {
        let status = r#"{"kind":"Status","status":"Failure","message":"pods is forbidden","reason":"Forbidden","code":403}"#;
        check(403, status, "", "pods is forbidden");
        check(
            404,
            "404 page not found",
            "",
            "the server could not find the requested resource (get pods.metrics.k8s.io)",
        );
        check(
            503,
            "service unavailable\n",
            "a",
            "the server is currently unable to handle the request (get pods.metrics.k8s.io a)",
        );
        check(
            500,
            "boom",
            "",
            "an error on the server (\"boom\") has prevented the request from succeeding (get pods.metrics.k8s.io)",
        );
    }

    #[test]
    fn a_server_is_waited_for_only_where_it_asks_for_that() {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, "1".parse().unwrap());
        let second = Some(Duration::from_secs(1));
        assert_eq!(retry_after(StatusCode::TOO_MANY_REQUESTS, &headers), second);
        assert_eq!(retry_after(StatusCode::SERVICE_UNAVAILABLE, &headers), second);
        assert_eq!(retry_after(StatusCode::CONFLICT, &headers), None);
        assert_eq!(retry_after(StatusCode::TOO_MANY_REQUESTS, &HeaderMap::new()), None);
    }

    #[test]
    fn segments_cannot_leave_their_place() {
        assert_eq!(segment("../a?b|c").to_string(), "..%2Fa%3Fb%7Cc");
        assert_eq!(segment("*").to_string(), "*");
    }
}
