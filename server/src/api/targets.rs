//! `targets`, `scrape_pools` and `metadata`; and the empty answers about rules, which this server does not evaluate.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use model::{Labels, Matcher, Timestamp, format_duration};
use scrape::ActiveTarget;
use serde::Serialize;
use serde_json::json;

use super::error::ApiError;
use super::json;
use super::params::Params;
use crate::state::{Ready, Server};

type LabelMap<'a> = BTreeMap<&'a str, &'a str>;

fn label_map(labels: &Labels) -> LabelMap<'_> {
    labels.iter().map(|label| (label.name, label.value)).collect()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ActiveTargetJson<'a> {
    discovered_labels: LabelMap<'a>,
    labels: LabelMap<'a>,
    scrape_pool: &'a str,
    scrape_url: &'a str,
    global_url: String,
    last_error: &'a str,
    last_scrape: String,
    last_scrape_duration: f64,
    health: &'static str,
    scrape_interval: String,
    scrape_timeout: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DroppedTargetJson<'a> {
    discovered_labels: LabelMap<'a>,
    scrape_pool: &'a str,
}

/// `targets`: what is scraped, and how it went.
pub(super) async fn targets(ready: Ready, params: Params) -> Result<Response, ApiError> {
    let (with_active, with_dropped) =
        match params.get("state").map(str::to_ascii_lowercase).as_deref() {
            None | Some("any") => (true, true),
            Some("active") => (true, false),
            Some("dropped") => (false, true),
            Some(_) => (false, false),
        };
    let pool = params.get("scrapePool");
    let wanted = |name: &str| pool.is_none_or(|pool| pool == name);
    let targets = ready.scraper.targets();
    let mut active: Vec<&ActiveTarget> =
        targets.active.iter().filter(|t| with_active && wanted(&t.scrape_pool)).collect();
    active.sort_by(|a, b| (&a.scrape_pool, &a.labels).cmp(&(&b.scrape_pool, &b.labels)));
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy();
    let active: Vec<_> = active.into_iter().map(|target| active_json(target, &host)).collect();
    let dropped: Vec<_> = targets
        .dropped
        .iter()
        .filter(|t| with_dropped && wanted(&t.scrape_pool))
        .map(|t| DroppedTargetJson {
            discovered_labels: label_map(&t.discovered_labels),
            scrape_pool: &t.scrape_pool,
        })
        .collect();
    let data = json!({
        "activeTargets": active,
        "droppedTargets": dropped,
        "droppedTargetCounts": with_dropped.then_some(targets.dropped_counts),
    });
    Ok(json::data_response(&data))
}

fn active_json<'a>(target: &'a ActiveTarget, host: &str) -> ActiveTargetJson<'a> {
    ActiveTargetJson {
        discovered_labels: label_map(&target.discovered_labels),
        labels: label_map(&target.labels),
        scrape_pool: &target.scrape_pool,
        scrape_url: &target.scrape_url,
        global_url: global_url(&target.scrape_url, host),
        last_error: &target.last_error,
        last_scrape: rfc3339((target.last_scrape != 0).then_some(target.last_scrape)),
        last_scrape_duration: target.last_scrape_duration.as_secs_f64(),
        health: target.health.as_str(),
        scrape_interval: format_duration(target.scrape_interval),
        scrape_timeout: format_duration(target.scrape_timeout),
    }
}

/// A target's URL as others reach it: what is local to this machine goes by the machine's name.
fn global_url(url: &str, host: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return String::from(url) };
    let local = ["127.0.0.1", "localhost", "[::1]"].into_iter().find_map(|local| {
        rest.strip_prefix(local).filter(|rest| rest.is_empty() || rest.starts_with([':', '/', '?']))
    });
    local.map_or_else(|| String::from(url), |rest| format!("{scheme}://{host}{rest}"))
}

/// A time in RFC 3339; Go's zero time for one that never was.
pub(crate) fn rfc3339(t: Option<Timestamp>) -> String {
    t.and_then(|t| jiff::Timestamp::from_millisecond(t).ok())
        .map_or_else(|| String::from("0001-01-01T00:00:00Z"), |t| t.to_string())
}

/// `scrape_pools`: names of scrape jobs.
pub(super) async fn scrape_pools(State(server): State<Arc<Server>>, _: Ready) -> Response {
    let config = server.config.read();
    let pools: BTreeSet<&str> = config.scrape_configs.iter().map(|c| c.job_name.as_str()).collect();
    json::data_response(&json!({ "scrapePools": pools }))
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct MetadataJson {
    #[serde(rename = "type")]
    kind: &'static str,
    help: String,
    unit: String,
}

/// `metadata`: types and help of metrics, as the targets that are scraped now tell them.
pub(super) async fn metadata(ready: Ready, params: Params) -> Result<Response, ApiError> {
    let limit = params.signed_limit("limit")?;
    let limit_per_metric = params.signed_limit("limit_per_metric")?;
    let limit_per_metric = if limit_per_metric == 0 { usize::MAX } else { limit_per_metric };
    let only = params.get("metric");
    let mut metrics: BTreeMap<String, BTreeSet<MetadataJson>> = BTreeMap::new();
    for target in ready.scraper.metadata() {
        for entry in target.metrics {
            if only.is_some_and(|only| *only != *entry.metric) {
                continue;
            }
            let kind = entry.kind.as_str();
            let known = metrics.entry(String::from(&*entry.metric)).or_default();
            if known.len() < limit_per_metric {
                known.insert(MetadataJson {
                    kind,
                    help: String::from(&*entry.help),
                    unit: String::from(&*entry.unit),
                });
            }
        }
    }
    let metrics: BTreeMap<_, _> = metrics.into_iter().take(limit).collect();
    Ok(json::data_response(&metrics))
}

#[derive(Serialize)]
struct TargetMetadataJson<'a> {
    target: LabelMap<'a>,
    /// The metric, unless one was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    metric: Option<&'a str>,
    #[serde(rename = "type")]
    kind: &'static str,
    help: &'a str,
    unit: &'a str,
}

/// `targets/metadata`: types and help of metrics, target by target.
pub(super) async fn target_metadata(ready: Ready, params: Params) -> Result<Response, ApiError> {
    let limit = params.signed_limit("limit")?;
    let matchers = match params.get("match_target").map(promql::parse::parse_selector) {
        None => Vec::new(),
        Some(matchers) => matchers.map_err(|e| ApiError::parameter("match_target", e))?,
    };
    let only = params.get("metric");
    let mut targets = ready.scraper.metadata();
    targets.retain(|target| {
        let value = |matcher: &Matcher| target.labels.get(matcher.name()).unwrap_or_default();
        matchers.iter().all(|matcher| matcher.matches(value(matcher)))
    });
    targets.sort_by(|a, b| (&a.scrape_pool, &a.labels).cmp(&(&b.scrape_pool, &b.labels)));
    let metrics = targets.iter().flat_map(|target| {
        let wanted =
            target.metrics.iter().filter(|entry| only.is_none_or(|only| *only == *entry.metric));
        wanted.map(|entry| TargetMetadataJson {
            target: label_map(&target.labels),
            metric: only.is_none().then_some(&*entry.metric),
            kind: entry.kind.as_str(),
            help: &entry.help,
            unit: &entry.unit,
        })
    });
    Ok(json::data_response(&metrics.take(limit).collect::<Vec<_>>()))
}

/// `rules`: none are evaluated.
pub(super) async fn no_rules() -> Response {
    json::data_response(&json!({ "groups": [] }))
}

/// `alerts`: none are evaluated.
pub(super) async fn no_alerts() -> Response {
    json::data_response(&json!({ "alerts": [] }))
}

/// `alertmanagers`: none are notified.
pub(super) async fn no_alertmanagers() -> Response {
    json::data_response(&json!({ "activeAlertmanagers": [], "droppedAlertmanagers": [] }))
}

/// A duration for people, in whole seconds.
pub(crate) fn whole_seconds(duration: Duration) -> String {
    format_duration(Duration::from_secs(duration.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_targets_go_by_the_name_of_the_machine() {
        for (url, global) in [
            ("http://127.0.0.1:9090/metrics", "http://box:9090/metrics"),
            ("http://localhost/metrics", "http://box/metrics"),
            ("http://[::1]:1/", "http://box:1/"),
            ("http://localhost.example:1/", "http://localhost.example:1/"),
            ("http://10.0.0.1:1/", "http://10.0.0.1:1/"),
        ] {
            assert_eq!(global_url(url, "box"), global);
        }
    }

    #[test]
    fn a_time_that_never_was_is_go_s_zero() {
        assert_eq!(rfc3339(None), "0001-01-01T00:00:00Z");
        assert_eq!(rfc3339(Some(1_435_781_430_781)), "2015-07-01T20:10:30.781Z");
    }
}
