//! A Prometheus API over the network.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use form_urlencoded::Serializer;
use futures_util::FutureExt;
use http::{GetRequest, Request, Response};
use model::{Labels, TimeRange, Timestamp};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::answer::{Answer, Envelope, LabelsJson, Refusal, Value};
use crate::error::{AskError, Limits};
use crate::inventory::{
    ConfigurationJson, Inventory, MetadataJson, MetricType, RulesJson, Target, TargetsJson,
};
use crate::source::{Asked, Source};

/// How long a bearer token is used before its file is read again: tokens of service accounts rotate hourly.
const TOKEN_AGE_MAX: Duration = Duration::from_secs(60);

/// Largest bearer token.
const TOKEN_BYTES_MAX: u64 = 64 << 10;

/// How questions are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// In the URL: caches and read-only proxies let it through.
    Get,
    /// In the body, where the API allows it: for long queries.
    Post,
}

/// Whom to ask, and how.
#[derive(Clone)]
pub struct Options {
    /// `http://host:port/prefix`. Credentials in it are sent as basic authentication.
    pub url: String,
    /// How queries and series requests are sent; everything else is a GET.
    pub method: Method,
    /// Headers of every request. Their values are never printed.
    pub headers: Vec<(String, String)>,
    /// A file with a bearer token, read again at least every minute.
    pub bearer_token_file: Option<PathBuf>,
    /// Time for a question and the whole of its answer.
    pub timeout: Duration,
    /// Bytes of an answer, before and after decompression.
    pub body_bytes_max: usize,
}

impl Options {
    /// Asks `url` by GET: 30 s and 64 MiB for an answer.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            method: Method::Get,
            headers: Vec::new(),
            bearer_token_file: None,
            timeout: Duration::from_secs(30),
            body_bytes_max: 64 << 20,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Options")
            .field("url", &split_credentials(&self.url).1)
            .field("method", &self.method)
            .field("headers", &names)
            .field("bearer_token_file", &self.bearer_token_file)
            .field("timeout", &self.timeout)
            .field("body_bytes_max", &self.body_bytes_max)
            .finish()
    }
}

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// The URL is not one of an HTTP server.
    #[error("{url:?} is not the URL of a Prometheus: {reason}")]
    Url {
        /// The URL, without credentials.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Both a token file and an `Authorization` header, or credentials in the URL, are given.
    #[error("more than one kind of authorization is configured for {url:?}")]
    Authorization {
        /// The URL, without credentials.
        url: String,
    },
}

/// Asks one server. Cloning shares connections.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    http: http::Client,
    /// Without a slash at the end.
    base: String,
    method: Method,
    headers: Vec<(String, String)>,
    token: Option<Token>,
    timeout: Duration,
    body_bytes_max: usize,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("url", &self.inner.base).finish_non_exhaustive()
    }
}

impl Client {
    /// A client that asks over `http`, whose options decide on TLS and connections.
    ///
    /// # Errors
    /// [`OptionsError`]
    pub fn new(http: http::Client, options: Options) -> Result<Self, OptionsError> {
        let (credentials, url) = split_credentials(&options.url);
        let invalid = |reason| OptionsError::Url { url: url.clone(), reason };
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(invalid("it must start with http:// or https://"));
        }
        if url.contains(['?', '#']) {
            return Err(invalid("a query or a fragment makes no sense here"));
        }
        let mut headers = options.headers;
        if let Some(credentials) = &credentials {
            let encoded = BASE64_STANDARD.encode(credentials);
            headers.push((String::from("authorization"), format!("Basic {encoded}")));
        }
        let named = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("authorization"));
        if named.count() + usize::from(options.bearer_token_file.is_some()) > 1 {
            return Err(OptionsError::Authorization { url });
        }
        headers.push((String::from("accept-encoding"), String::from("gzip")));
        let inner = Inner {
            http,
            base: String::from(url.trim_end_matches('/')),
            method: options.method,
            headers,
            token: options.bearer_token_file.map(Token::new),
            timeout: options.timeout,
            body_bytes_max: options.body_bytes_max,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The server's URL, without credentials.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.inner.base
    }

    /// Evaluates `query` at every `step` within `range`.
    ///
    /// # Errors
    /// [`AskError`]
    pub async fn range(
        &self,
        query: &str,
        range: TimeRange,
        step: Duration,
    ) -> Result<Answer<Value>, AskError> {
        let step = format!("{}.{:03}", step.as_secs(), step.subsec_millis());
        let parameters = [
            ("query", String::from(query)),
            ("start", seconds(range.min)),
            ("end", seconds(range.max)),
            ("step", step),
        ];
        self.ask("/api/v1/query_range", &parameters, self.inner.method).await
    }

    /// The names of labels among the series that match any of the selectors, sorted.
    ///
    /// # Errors
    /// [`AskError`]
    pub async fn labels(
        &self,
        matchers: &[&str],
        range: TimeRange,
    ) -> Result<Answer<Vec<String>>, AskError> {
        let parameters = selection(matchers, range);
        self.ask("/api/v1/labels", &parameters, self.inner.method).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        path: &str,
        parameters: &[(&str, String)],
        method: Method,
    ) -> Result<Answer<T>, AskError> {
        let url = format!("{}{path}", self.inner.base);
        let pairs = parameters.iter().map(|(name, value)| (name, value));
        let form = Serializer::new(String::new()).extend_pairs(pairs).finish();
        let response = self.send(&url, &form, method).await?;
        read(&url, &response)
    }

    async fn send(&self, url: &str, form: &str, method: Method) -> Result<Response, AskError> {
        let inner = &self.inner;
        let authorization = match &inner.token {
            Some(token) => Some(format!("Bearer {}", token.get().await?)),
            None => None,
        };
        let mut headers: Vec<(&str, &str)> =
            inner.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        if let Some(authorization) = &authorization {
            headers.push(("authorization", authorization));
        }
        let limits =
            Limits { timeout_ms: inner.timeout.as_millis(), bytes_max: inner.body_bytes_max };
        if method == Method::Post {
            headers.push(("content-type", "application/x-www-form-urlencoded"));
            let request = Request {
                method: axum::http::Method::POST,
                url,
                headers: &headers,
                body: Bytes::copy_from_slice(form.as_bytes()),
                timeout: inner.timeout,
                body_bytes_max: inner.body_bytes_max,
            };
            let answer = inner.http.send(request).await;
            return answer.map_err(|error| AskError::fetch(url, limits, error));
        }
        let target = if form.is_empty() { String::from(url) } else { format!("{url}?{form}") };
        let request = GetRequest {
            url: &target,
            headers: &headers,
            timeout: inner.timeout,
            body_bytes_max: inner.body_bytes_max,
        };
        let answer = inner.http.get(request).await;
        answer.map_err(|error| AskError::fetch(url, limits, error))
    }
}

impl Source for Client {
    fn instant<'a>(&'a self, query: &'a str, at: Timestamp) -> Asked<'a, Value> {
        let parameters = [("query", String::from(query)), ("time", seconds(at))];
        async move { self.ask("/api/v1/query", &parameters, self.inner.method).await }.boxed()
    }

    fn series<'a>(&'a self, matchers: &'a [&'a str], range: TimeRange) -> Asked<'a, Vec<Labels>> {
        async move {
            let parameters = selection(matchers, range);
            let answer = self
                .ask::<Vec<LabelsJson>>("/api/v1/series", &parameters, self.inner.method)
                .await?;
            Ok(answer.map(|sets| sets.into_iter().map(|set| set.0).collect()))
        }
        .boxed()
    }

    fn label_values<'a>(
        &'a self,
        name: &'a str,
        matchers: &'a [&'a str],
        range: TimeRange,
    ) -> Asked<'a, Vec<String>> {
        async move {
            let name: String = form_urlencoded::byte_serialize(name.as_bytes()).collect();
            let path = format!("/api/v1/label/{name}/values");
            self.ask(&path, &selection(matchers, range), Method::Get).await
        }
        .boxed()
    }
}

impl Inventory for Client {
    fn targets(&self) -> Asked<'_, Vec<Target>> {
        async move {
            let active = [("state", String::from("active"))];
            let answer = self.ask::<TargetsJson>("/api/v1/targets", &active, Method::Get).await?;
            Ok(answer.map(TargetsJson::targets))
        }
        .boxed()
    }

    fn configuration(&self) -> Asked<'_, String> {
        async move {
            let path = "/api/v1/status/config";
            let answer = self.ask::<ConfigurationJson>(path, &[], Method::Get).await?;
            Ok(answer.map(|json| json.yaml))
        }
        .boxed()
    }

    fn flags(&self) -> Asked<'_, BTreeMap<String, String>> {
        async move { self.ask("/api/v1/status/flags", &[], Method::Get).await }.boxed()
    }

    fn recorded(&self) -> Asked<'_, Vec<String>> {
        async move {
            let recording = [("type", String::from("record"))];
            let answer = self.ask::<RulesJson>("/api/v1/rules", &recording, Method::Get).await?;
            Ok(answer.map(RulesJson::recorded))
        }
        .boxed()
    }

    fn metadata(&self) -> Asked<'_, BTreeMap<String, Vec<MetricType>>> {
        async move {
            let answer = self
                .ask::<BTreeMap<String, Vec<MetadataJson>>>("/api/v1/metadata", &[], Method::Get)
                .await?;
            let types = |entries: Vec<MetadataJson>| entries.iter().map(|e| e.kind).collect();
            Ok(answer.map(|families| families.into_iter().map(|(k, v)| (k, types(v))).collect()))
        }
        .boxed()
    }
}

impl<T> Answer<T> {
    fn map<U>(self, f: impl FnOnce(T) -> U) -> Answer<U> {
        Answer { value: f(self.value), warnings: self.warnings }
    }
}

fn selection<'a>(matchers: &[&str], range: TimeRange) -> Vec<(&'a str, String)> {
    let mut parameters = vec![("start", seconds(range.min)), ("end", seconds(range.max))];
    parameters.extend(matchers.iter().map(|matcher| ("match[]", String::from(*matcher))));
    parameters
}

fn seconds(at: Timestamp) -> String {
    let sign = if at < 0 { "-" } else { "" };
    let ms = at.unsigned_abs();
    format!("{sign}{}.{:03}", ms / 1000, ms % 1000)
}

fn read<T: for<'de> Deserialize<'de>>(
    url: &str,
    response: &Response,
) -> Result<Answer<T>, AskError> {
    let status = response.status.as_u16();
    if let Ok(refusal) = serde_json::from_slice::<Refusal>(&response.body)
        && refusal.status == "error"
    {
        return Err(AskError::Refused {
            url: String::from(url),
            error_type: refusal.error_type,
            message: refusal.error,
        });
    }
    if !response.status.is_success() {
        return Err(AskError::status(url, status, &response.body));
    }
    let malformed = |reason| AskError::Malformed { url: String::from(url), reason };
    let envelope: Envelope<T> =
        serde_json::from_slice(&response.body).map_err(|error| malformed(error.to_string()))?;
    if envelope.status != "success" {
        let said = [envelope.error_type, envelope.error].join(" ");
        return Err(malformed(format!("status {:?} {}", envelope.status, said.trim())));
    }
    let value = envelope.data.ok_or_else(|| malformed(String::from("no data")))?;
    let mut warnings = envelope.warnings;
    warnings.extend(envelope.infos);
    Ok(Answer { value, warnings })
}

/// `user:password` of a URL, decoded, and the URL without it.
fn split_credentials(url: &str) -> (Option<Vec<u8>>, String) {
    let Some((scheme, rest)) = url.split_once("://") else { return (None, String::from(url)) };
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(authority_end);
    let Some((credentials, host)) = authority.rsplit_once('@') else {
        return (None, String::from(url));
    };
    (Some(percent_decode(credentials)), format!("{scheme}://{host}{path}"))
}

fn percent_decode(text: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut left = text.as_bytes();
    while let Some((&byte, after)) = left.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match escaped.filter(|_| byte == b'%') {
            Some(escaped) => {
                decoded.push(escaped);
                left = &after[2..];
            }
            None => {
                decoded.push(byte);
                left = after;
            }
        }
    }
    decoded
}

/// A bearer token in a file.
struct Token {
    path: PathBuf,
    last: Mutex<Option<(Instant, Arc<str>)>>,
}

impl Token {
    fn new(path: PathBuf) -> Self {
        Self { path, last: Mutex::new(None) }
    }

    async fn get(&self) -> Result<Arc<str>, AskError> {
        let mut last = self.last.lock().await;
        if let Some((at, token)) = &*last
            && at.elapsed() < TOKEN_AGE_MAX
        {
            return Ok(Arc::clone(token));
        }
        let path = self.path.clone();
        let text = tokio::task::spawn_blocking(move || read_token(&path)).await;
        let failed = |reason| AskError::Token { path: self.path.display().to_string(), reason };
        let text = text.map_err(|error| failed(error.to_string()))?.map_err(failed)?;
        let token: Arc<str> = Arc::from(text.trim());
        *last = Some((Instant::now(), Arc::clone(&token)));
        Ok(token)
    }
}

fn read_token(path: &Path) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let mut text = String::new();
    let read = file.take(TOKEN_BYTES_MAX + 1).read_to_string(&mut text);
    read.map_err(|error| error.to_string())?;
    if text.len() as u64 > TOKEN_BYTES_MAX {
        return Err(format!("larger than {TOKEN_BYTES_MAX} bytes"));
    }
    if text.trim().is_empty() {
        return Err(String::from("empty"));
    }
    Ok(text)
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
