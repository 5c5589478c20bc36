//! Targets listed by a service over HTTP, asked again and again.
//!
//! A refresh that fails, or that lists too much, leaves the targets as they were.

use std::collections::BTreeMap;
use std::time::Duration;

use config::{HttpSdConfig, TargetGroup};
use http::{Client, FetchError, GetRequest};
use model::{FloatFormat, format_float};
use serde::Deserialize;
use telemetry::IntCounter;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::warn;

/// Label that says which service listed a target.
const META_URL: &str = "__meta_url";

/// Bytes of a list.
const LIST_BYTES_MAX: usize = 32 << 20;

/// Targets of a list.
const TARGETS_MAX: usize = 100_000;

/// Labels of a group.
const GROUP_LABELS_MAX: usize = 1000;

/// Longest wait for a list.
const TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// Why a refresh failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RefreshError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("server returned HTTP status {0}")]
    Status(String),
    #[error("unsupported content type {0:?}")]
    ContentType(String),
    #[error("invalid list of target groups: {0}")]
    Json(#[from] serde_json::Error),
    #[error("nil target group item found")]
    NullGroup,
    #[error("{0} targets listed, at most {TARGETS_MAX} are accepted")]
    TooManyTargets(usize),
    #[error("group {group}: {what}")]
    Group { group: usize, what: &'static str },
}

/// A service that is being asked, and what it last said. Stops when dropped.
#[derive(Debug)]
pub(crate) struct HttpDiscovery {
    pub(crate) config: HttpSdConfig,
    pub(crate) groups: Vec<TargetGroup>,
    id: u64,
    _stop: DropGuard,
}

/// New groups of the discovery with this `id`.
#[derive(Debug)]
pub(crate) struct Refreshed {
    pub(crate) job: String,
    pub(crate) id: u64,
    pub(crate) groups: Vec<TargetGroup>,
}

/// How a discovery asks, and whom it tells.
#[derive(Clone, Debug)]
pub(crate) struct Asking {
    pub(crate) client: Client,
    pub(crate) user_agent: String,
    pub(crate) failures: IntCounter,
    pub(crate) refreshed: mpsc::Sender<Refreshed>,
}

impl HttpDiscovery {
    /// Starts to ask, at once and then every refresh interval.
    pub(crate) fn start(config: HttpSdConfig, job: &str, id: u64, asking: Asking) -> Self {
        let stop = CancellationToken::new();
        let refresh = keep_asking(config.clone(), String::from(job), id, asking);
        let stopped = stop.clone();
        tokio::spawn(async move { stopped.run_until_cancelled(refresh).await });
        Self { config, groups: Vec::new(), id, _stop: stop.drop_guard() }
    }

    /// Takes over what a refresh brought; false if it belongs to another discovery.
    pub(crate) fn accept(&mut self, refreshed: &mut Refreshed) -> bool {
        let mine = self.id == refreshed.id;
        if mine {
            self.groups = std::mem::take(&mut refreshed.groups);
        }
        mine
    }
}

async fn keep_asking(config: HttpSdConfig, job: String, id: u64, asking: Asking) {
    let mut ticks = tokio::time::interval(config.refresh_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut last = None;
    loop {
        ticks.tick().await;
        match refresh(&config, &asking).await {
            Ok(groups) if last.as_ref() == Some(&groups) => {}
            Ok(groups) => {
                last = Some(groups.clone());
                let refreshed = Refreshed { job: job.clone(), id, groups };
                if asking.refreshed.send(refreshed).await.is_err() {
                    return;
                }
            }
            Err(e) => {
                asking.failures.inc();
                warn!(job, url = config.url, error = %e, "refresh of targets failed");
            }
        }
    }
}

async fn refresh(config: &HttpSdConfig, asking: &Asking) -> Result<Vec<TargetGroup>, RefreshError> {
    let interval_s = format_float(config.refresh_interval.as_secs_f64(), FloatFormat::Plain);
    let headers = [
        ("accept", "application/json"),
        ("accept-encoding", "gzip"),
        ("user-agent", asking.user_agent.as_str()),
        ("x-prometheus-refresh-interval-seconds", interval_s.as_str()),
    ];
    let answer = asking
        .client
        .get(GetRequest {
            url: &config.url,
            headers: &headers,
            timeout: config.refresh_interval.min(TIMEOUT_MAX),
            body_bytes_max: LIST_BYTES_MAX,
        })
        .await?;
    if answer.status.as_u16() != 200 {
        return Err(RefreshError::Status(answer.status.to_string()));
    }
    if !is_json(answer.content_type()) {
        return Err(RefreshError::ContentType(String::from(answer.content_type())));
    }
    parse(&answer.body, &config.url)
}

/// `application/json`, alone or in UTF-8.
fn is_json(content_type: &str) -> bool {
    let lower = content_type.trim().to_ascii_lowercase();
    let Some(rest) = lower.strip_prefix("application/json") else { return false };
    let charset = rest.strip_prefix(';').map(str::trim_start);
    rest.is_empty() || matches!(charset, Some("charset=utf-8" | "charset=\"utf-8\""))
}

/// A group as the service writes it; other fields are ignored.
#[derive(Deserialize)]
struct Group {
    #[serde(default)]
    targets: Vec<String>,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

fn parse(body: &[u8], url: &str) -> Result<Vec<TargetGroup>, RefreshError> {
    // `null` is an empty list to Go.
    let listed: Option<Vec<Option<Group>>> = serde_json::from_slice(body)?;
    let listed = listed.unwrap_or_default();
    let mut groups = Vec::with_capacity(listed.len());
    let mut targets = 0;
    for (i, group) in listed.into_iter().enumerate() {
        let group = group.ok_or(RefreshError::NullGroup)?;
        let invalid = |what| RefreshError::Group { group: i, what };
        let mut labels = group.labels.unwrap_or_default();
        if labels.len() > GROUP_LABELS_MAX {
            return Err(invalid("too many labels"));
        }
        if labels.contains_key("") {
            return Err(invalid("\"\" is not a valid label name"));
        }
        labels.insert(String::from(META_URL), String::from(url));
        targets += group.targets.len();
        groups.push(TargetGroup { targets: group.targets, labels, source: format!("{url}:{i}") });
    }
    if targets > TARGETS_MAX {
        return Err(RefreshError::TooManyTargets(targets));
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Expected<'a> = Result<&'a [(&'a [&'a str], &'a [(&'a str, &'a str)])], &'a str>;

    fn check(body: &str, expected: Expected<'_>) {
        let groups = parse(body.as_bytes(), "http://sd/list").map_err(|e| e.to_string());
        let expected = expected.map_err(String::from).map(|groups| {
            let groups = groups.iter().enumerate().map(|(i, (targets, labels))| TargetGroup {
                targets: targets.iter().map(|t| String::from(*t)).collect(),
                labels: labels
                    .iter()
                    .chain(&[("__meta_url", "http://sd/list")])
                    .map(|(n, v)| (String::from(*n), String::from(*v)))
                    .collect(),
                source: format!("http://sd/list:{i}"),
            });
            groups.collect::<Vec<_>>()
        });
        assert_eq!(groups, expected, "{body}");
    }

    #[test]
    fn groups_are_read() {
        check("[]", Ok(&[]));
        check("null", Ok(&[]));
        check(
            r#"[{"targets": ["a:1", "b"], "labels": {"env": "x"}}, {"targets": [], "more": 1}]"#,
            Ok(&[(&["a:1", "b"], &[("env", "x")]), (&[], &[])]),
        );
    }

    #[test]
    fn malformed_lists_are_refused_whole() {
        check("[null]", Err("nil target group item found"));
        check(
            r#"[{"targets": ["a"], "labels": {"": "x"}}]"#,
            Err("group 0: \"\" is not a valid label name"),
        );
        for body in ["", "{}", "[1]", r#"[{"targets": [1]}]"#, r#"[{"labels": {"a": 1}}]"#] {
            let error = parse(body.as_bytes(), "u").unwrap_err();
            assert!(matches!(error, RefreshError::Json(_)), "{body}: {error}");
        }
        let many = serde_json::json!([{ "targets": vec!["a"; TARGETS_MAX + 1] }]).to_string();
        assert!(matches!(parse(many.as_bytes(), "u"), Err(RefreshError::TooManyTargets(100_001))));
    }

    #[test]
    fn lists_are_json_in_utf8() {
        for (content_type, expected) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/json;charset=\"utf-8\"", true),
            ("application/json; charset=latin1", false),
            ("application/jsonp", false),
            ("text/plain", false),
            ("", false),
        ] {
            assert_eq!(is_json(content_type), expected, "{content_type}");
        }
    }
}
