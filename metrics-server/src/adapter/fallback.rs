//! Another adapter that is asked about what is not known here.
//!
//! A cluster has one server for each group of APIs; whoever has metrics from two must chain them. Requests are rebuilt from
//! what was understood of them, so that the other adapter sees the path that was authorized and nothing else. It is told
//! who asks as the API server tells us, by `X-Remote-*`, which it believes only if it trusts our client certificate as that
//! of a proxy. Redirects are errors, and answers are bounded.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, StatusCode};
use bytes::Bytes;
use http::{FetchError, Request};
use metrics_api::{ApiResource, CUSTOM_METRICS_GROUP, EXTERNAL_METRICS_GROUP};
use parking_lot::RwLock;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

/// How often the other adapter is asked which metrics it has.
const LIST_INTERVAL: Duration = Duration::from_secs(60);

/// Most metrics of the other adapter that are listed.
const LISTED_MAX: usize = 50_000;

/// Largest bearer token.
const TOKEN_BYTES_MAX: usize = 64 << 10;

/// Whom to ask.
#[derive(Clone)]
pub struct FallbackOptions {
    /// `https://host:port`
    pub url: String,
    /// Connects to it; its TLS options hold our client certificate.
    pub http: http::Client,
    /// A file with a bearer token, read for each request.
    pub bearer_token_file: Option<PathBuf>,
    /// Time for a request.
    pub timeout: Duration,
    /// Bytes of an answer.
    pub body_bytes_max: usize,
}

impl FallbackOptions {
    /// 10 s and 32 MiB for an answer of `url`.
    #[must_use]
    pub fn new(url: impl Into<String>, http: http::Client) -> Self {
        Self {
            url: url.into(),
            http,
            bearer_token_file: None,
            timeout: Duration::from_secs(10),
            body_bytes_max: 32 << 20,
        }
    }
}

impl fmt::Debug for FallbackOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FallbackOptions").field("url", &self.url).finish_non_exhaustive()
    }
}

/// The URL of the other adapter is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the fallback API must be an http:// or https:// URL without credentials, query and path")]
pub struct FallbackUrlError;

/// Who asks, in the words of `X-Remote-*`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The name.
    pub name: String,
    /// The identifier; may be empty.
    pub uid: String,
    /// The groups.
    pub groups: Vec<String>,
    /// What else is known.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl Caller {
    /// Someone without credentials.
    #[must_use]
    pub fn anonymous() -> Self {
        Self {
            name: String::from("system:anonymous"),
            groups: vec![String::from("system:unauthenticated")],
            ..Self::default()
        }
    }

    fn headers(&self) -> Vec<(String, String)> {
        let mut headers = vec![(String::from("x-remote-user"), self.name.clone())];
        if !self.uid.is_empty() {
            headers.push((String::from("x-remote-uid"), self.uid.clone()));
        }
        for group in &self.groups {
            headers.push((String::from("x-remote-group"), group.clone()));
        }
        for (key, values) in &self.extra {
            let key = format!("x-remote-extra-{}", escaped(&key.to_ascii_lowercase()));
            headers.extend(values.iter().map(|value| (key.clone(), value.clone())));
        }
        headers
    }
}

/// A text with everything that a header's name or a segment of a path cannot have as `%XX`.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// An answer of the other adapter.
#[derive(Clone, Debug)]
pub(super) struct Forwarded {
    pub(super) status: StatusCode,
    pub(super) content_type: String,
    pub(super) body: Vec<u8>,
}

/// Why the other adapter has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ForwardError {
    #[error("fallback API {url}: {reason}")]
    Fetch { url: String, reason: String },
    #[error("fallback API {url}: redirects are not followed")]
    Redirect { url: String },
    #[error("fallback API {url}: HTTP {status} with a body of type {content_type:?}")]
    NotAnApi { url: String, status: u16, content_type: String },
    #[error("fallback API {url}: bearer token: {reason}")]
    Token { url: String, reason: String },
}

/// Another adapter.
pub struct Fallback {
    options: FallbackOptions,
    /// By group and version.
    listed: RwLock<BTreeMap<(&'static str, &'static str), Vec<ApiResource>>>,
}

#[derive(Deserialize)]
struct ResourceListJson {
    resources: Vec<ResourceJson>,
}

#[derive(Deserialize)]
struct ResourceJson {
    name: String,
    #[serde(default)]
    namespaced: bool,
    kind: String,
}

impl Fallback {
    /// Asks whom `options` name.
    ///
    /// # Errors
    /// [`FallbackUrlError`]
    pub fn new(options: FallbackOptions) -> Result<Self, FallbackUrlError> {
        let url = options.url.trim_end_matches('/');
        let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
        if rest.is_none_or(|rest| rest.is_empty() || rest.contains(['@', '?', '#', '/'])) {
            return Err(FallbackUrlError);
        }
        let options = FallbackOptions { url: String::from(url), ..options };
        Ok(Self { options, listed: RwLock::default() })
    }

    /// Keeps the list of metrics until `shutdown`.
    pub(super) async fn run(&self, shutdown: &CancellationToken) {
        loop {
            tokio::select! {
                () = self.list() => {}
                () = shutdown.cancelled() => return,
            }
            tokio::select! {
                () = tokio::time::sleep(LIST_INTERVAL) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// Asks once which metrics the other adapter has. What it does not answer stays as it was.
    pub(super) async fn list(&self) {
        for (group, version) in [
            (CUSTOM_METRICS_GROUP, "v1beta2"),
            (CUSTOM_METRICS_GROUP, "v1beta1"),
            (EXTERNAL_METRICS_GROUP, "v1beta1"),
        ] {
            let answer = self.forward(&["apis", group, version], &[], None).await;
            let list = answer.map(|answer| {
                let read = serde_json::from_slice::<ResourceListJson>(&answer.body);
                read.map_err(|error| error.to_string())
            });
            match list {
                Ok(Ok(list)) => {
                    let resource = |json: ResourceJson| ApiResource {
                        name: json.name,
                        singular: String::new(),
                        namespaced: json.namespaced,
                        kind: json.kind,
                        verbs: vec![String::from("get")],
                    };
                    let resources = list.resources.into_iter().take(LISTED_MAX).map(resource);
                    self.listed.write().insert((group, version), resources.collect());
                }
                Ok(Err(reason)) => {
                    tracing::debug!(group, version, reason, "the fallback API has no list");
                }
                Err(error) => {
                    tracing::warn!(group, version, %error, "the fallback API has no list");
                }
            }
        }
    }

    /// The metrics of the other adapter, as of the last time it was asked.
    pub(super) fn listed(&self, group: &'static str, version: &'static str) -> Vec<ApiResource> {
        self.listed.read().get(&(group, version)).cloned().unwrap_or_default()
    }

    /// Asks for the path of these segments; without a caller as ourselves.
    ///
    /// # Errors
    /// [`ForwardError`]
    pub(super) async fn forward(
        &self,
        segments: &[&str],
        query: &[(&str, &str)],
        caller: Option<&Caller>,
    ) -> Result<Forwarded, ForwardError> {
        let url = &self.options.url;
        let mut target = url.clone();
        for segment in segments {
            target.push('/');
            // A wildcard is a name of its own.
            target.push_str(&if *segment == "*" { String::from("*") } else { escaped(segment) });
        }
        if !query.is_empty() {
            let pairs =
                form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
            target.push('?');
            target.push_str(&pairs);
        }
        let mut headers = vec![
            (String::from("accept"), String::from("application/json")),
            (String::from("accept-encoding"), String::from("gzip")),
        ];
        headers.extend(caller.into_iter().flat_map(Caller::headers));
        if let Some(token) = self.token().await? {
            headers.push((String::from("authorization"), format!("Bearer {token}")));
        }
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let request = Request {
            method: Method::GET,
            url: &target,
            headers: &headers,
            body: Bytes::new(),
            timeout: self.options.timeout,
            body_bytes_max: self.options.body_bytes_max,
        };
        let answer = self.options.http.send(request).await.map_err(|error| {
            let reason = match error {
                FetchError::Timeout { .. } => String::from("no answer in time"),
                FetchError::Connection { reason, .. } => reason,
                FetchError::BodyTooLarge => String::from("the answer is too large"),
                FetchError::InvalidHeader(name) => format!("the value of {name} is no header"),
                _ => String::from("no answer"),
            };
            ForwardError::Fetch { url: url.clone(), reason }
        })?;
        let url = url.clone();
        if answer.status.is_redirection() || answer.status.is_informational() {
            return Err(ForwardError::Redirect { url });
        }
        let content_type = answer.headers.get(CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
        if content_type.split(';').next().map(str::trim) != Some("application/json") {
            return Err(ForwardError::NotAnApi {
                url,
                status: answer.status.as_u16(),
                content_type: content_type.chars().take(100).collect(),
            });
        }
        let content_type = String::from("application/json");
        Ok(Forwarded { status: answer.status, content_type, body: answer.body })
    }

    async fn token(&self) -> Result<Option<String>, ForwardError> {
        let Some(path) = self.options.bearer_token_file.clone() else { return Ok(None) };
        let read = tokio::task::spawn_blocking(move || std::fs::read_to_string(path)).await;
        let fails = |reason: String| ForwardError::Token { url: self.options.url.clone(), reason };
        let text = read.map_err(|error| fails(error.to_string()))?;
        let text = text.map_err(|error| fails(error.to_string()))?;
        if text.len() > TOKEN_BYTES_MAX {
            return Err(fails(format!("larger than {TOKEN_BYTES_MAX} bytes")));
        }
        Ok(Some(String::from(text.trim())))
    }
}

impl fmt::Debug for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fallback").field("url", &self.options.url).finish_non_exhaustive()
    }
}
