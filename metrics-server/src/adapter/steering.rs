//! The replica counts of steered autoscalers, asked of the controller that decides them.
//!
//! Where a cluster's own controller cannot be turned off it is given our count as the metric [`METRIC`], and scales to it. The count is
//! asked for each time and never kept: the controller tells none that is older than three of its periods, and without it the metric
//! is missing, so that the cluster's own controller leaves the replicas alone.

use std::fmt;
use std::time::Duration;

use axum::http::Method;
use bytes::Bytes;
use http::Request;
use metrics_api::{ExternalMetricValue, Format, LabelSelector, Operator, Quantity};
use serde::Deserialize;

use super::failure::Failure;
use super::value::seconds;

/// Name of the metric.
pub(super) const METRIC: &str = "sextant-replicas";
/// The label that names the autoscaler.
const HPA_LABEL: &str = "autoscaling.sextant.dev/hpa";
/// Bytes of an answer.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Characters of an answer that is none, in a message.
const EXCERPT_CHARS_MAX: usize = 200;

/// Whom to ask.
#[derive(Clone, Debug)]
pub struct SteeringOptions {
    /// The addresses of the controller's replicas, `http://host:port`. They are asked in turn until the one that leads has answered; if
    /// it does not, the newest count counts that it left to others.
    pub urls: Vec<String>,
    /// Connects to them.
    pub http: http::Client,
    /// Time for each of them.
    pub timeout: Duration,
}

/// An address of the controller is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an http:// or https:// URL without credentials, query and path")]
pub struct SteeringUrlError(String);

/// Asks the controller.
pub struct Steering {
    options: SteeringOptions,
}

#[derive(Deserialize)]
struct CountJson {
    replicas: i32,
    at: i64,
    /// It is what another replica, which leads, wrote down.
    #[serde(default)]
    learned: bool,
}

#[derive(Deserialize)]
struct ErrorJson {
    error: String,
    /// The replica that leads cannot decide.
    #[serde(default)]
    undecided: bool,
}

/// Why a replica tells no count.
struct NoCount {
    why: String,
    /// It knows of no such autoscaler.
    unknown: bool,
    /// No other replica knows better.
    last_word: bool,
}

impl From<String> for NoCount {
    fn from(why: String) -> Self {
        Self { why, unknown: false, last_word: false }
    }
}

impl Steering {
    /// Asks whom `options` name.
    ///
    /// # Errors
    /// [`SteeringUrlError`]
    pub fn new(mut options: SteeringOptions) -> Result<Self, SteeringUrlError> {
        for url in &mut options.urls {
            let trimmed = url.trim_end_matches('/');
            let rest = trimmed.strip_prefix("https://").or_else(|| trimmed.strip_prefix("http://"));
            if rest.is_none_or(|rest| rest.is_empty() || rest.contains(['@', '?', '#', '/'])) {
                return Err(SteeringUrlError(url.clone()));
            }
            *url = trimmed.to_owned();
        }
        Ok(Self { options })
    }

    /// The count of the autoscaler that `selector` names.
    pub(super) async fn count(
        &self,
        namespace: &str,
        selector: &LabelSelector,
    ) -> Result<ExternalMetricValue, Failure> {
        let name = hpa_of(selector)?;
        let mut failures = Vec::new();
        let mut unknown = 0;
        let mut learned: Option<CountJson> = None;
        for url in &self.options.urls {
            match self.ask(url, namespace, name).await {
                Ok(count) if !count.learned => return Ok(value(name, &count)),
                Ok(count) => {
                    if learned.as_ref().is_none_or(|known| known.at < count.at) {
                        learned = Some(count);
                    }
                }
                Err(NoCount { why, last_word: true, .. }) => {
                    failures.insert(0, why);
                    learned = None;
                    break;
                }
                Err(NoCount { why, unknown: true, .. }) => {
                    unknown += 1;
                    failures.push(why);
                }
                // Of several replicas the one that leads has more to say than those that do not.
                Err(NoCount { why, .. }) => failures.insert(0, why),
            }
        }
        if let Some(count) = learned {
            return Ok(value(name, &count));
        }
        let why =
            failures.into_iter().next().unwrap_or_else(|| "no controller is known".to_owned());
        if unknown == self.options.urls.len() && unknown > 0 {
            return Err(Failure::not_found(METRIC, format!("namespace {namespace}: {why}")));
        }
        Err(Failure::Steering { hpa: format!("{namespace}/{name}"), reason: why })
    }

    async fn ask(&self, url: &str, namespace: &str, name: &str) -> Result<CountJson, NoCount> {
        let target = format!("{url}/api/v1/steer/{namespace}/{name}");
        let request = Request {
            method: Method::GET,
            url: &target,
            headers: &[("accept", "application/json")],
            body: Bytes::new(),
            timeout: self.options.timeout,
            body_bytes_max: ANSWER_BYTES_MAX,
        };
        let answer = self.options.http.send(request).await;
        let answer = answer.map_err(|error| format!("{url}: {error}"))?;
        let status = answer.status.as_u16();
        if status == 200 {
            let read = serde_json::from_slice::<CountJson>(&answer.body);
            let read = read.map_err(|error| format!("{url}: {error}"))?;
            if read.replicas < 0 {
                return Err(format!("{url}: {} replicas", read.replicas).into());
            }
            return Ok(read);
        }
        match serde_json::from_slice::<ErrorJson>(&answer.body) {
            Ok(ErrorJson { error, undecided }) => {
                Err(NoCount { why: error, unknown: status == 404, last_word: undecided })
            }
            // A 404 without our words is of somebody else.
            Err(_) => {
                let text = String::from_utf8_lossy(&answer.body);
                let excerpt: String = text.chars().take(EXCERPT_CHARS_MAX).collect();
                Err(format!("{url}: HTTP {status}: {excerpt}").into())
            }
        }
    }
}

fn value(name: &str, count: &CountJson) -> ExternalMetricValue {
    let labels = [(HPA_LABEL.to_owned(), name.to_owned())];
    ExternalMetricValue {
        metric: METRIC.to_owned(),
        labels: Some(labels.into()),
        timestamp_s: seconds(count.at),
        window_s: None,
        value: Quantity::new(i128::from(count.replicas), 0, Format::DecimalSi),
    }
}

/// The autoscaler that the selector names. Selectors have labels alone, so the name needs no escaping in a path.
fn hpa_of(selector: &LabelSelector) -> Result<&str, Failure> {
    let [requirement] = selector.requirements() else { return Err(unnamed()) };
    let equals =
        matches!(requirement.operator, Operator::Equals | Operator::DoubleEquals | Operator::In);
    match requirement.values.as_slice() {
        [name] if equals && requirement.key == HPA_LABEL && !name.is_empty() => Ok(name),
        _ => Err(unnamed()),
    }
}

fn unnamed() -> Failure {
    Failure::BadRequest(format!("metric {METRIC}: the label selector must be {HPA_LABEL}=NAME"))
}

impl fmt::Debug for Steering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Steering").field("urls", &self.options.urls).finish_non_exhaustive()
    }
}
