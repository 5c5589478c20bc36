//! `status/*`: what is running, how it was started, and what fills it.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use serde_json::json;
use tsdb::{LabelPairCount, NameCount};

use super::error::ApiError;
use super::json;
use super::params::Params;
use super::targets::rfc3339;
use crate::state::{Ready, Server};
use crate::storage;

/// The Prometheus whose API this is. Clients switch features on by it: Grafana asks for label values with matchers
/// only from 2.24 on.
pub(crate) const PROMETHEUS_VERSION: &str = "3.14.0";

/// Entries in each list of `status/tsdb`, and the most one may ask for.
const TOP_DEFAULT: usize = 10;
const TOP_MAX: usize = 10_000;

/// `status/buildinfo`. Never a key `features`: Grafana takes a server with one for Mimir.
pub(super) async fn build(_: Ready) -> Response {
    json::data_response(&build_information())
}

/// The same without the envelope, for `/version`.
pub(crate) fn build_information() -> serde_json::Value {
    json!({
        "version": PROMETHEUS_VERSION,
        "revision": format!("sextant-{}", telemetry::VERSION),
        "branch": "sextant",
        "buildUser": "",
        "buildDate": "",
        "goVersion": "",
    })
}

/// `status/runtimeinfo`
pub(super) async fn runtime(State(server): State<Arc<Server>>, ready: Ready) -> Response {
    let directory = std::env::current_dir().unwrap_or_default();
    let statistics = ready.store.statistics(0);
    let reload = *server.reload.read();
    json::data_response(&json!({
        "startTime": rfc3339(Some(server.started)),
        "CWD": directory.display().to_string(),
        "hostname": rustix::system::uname().nodename().to_string_lossy(),
        "serverTime": rfc3339(Some(server.clock.now())),
        "reloadConfigSuccess": reload.succeeded,
        "lastConfigTime": rfc3339(Some(reload.at)),
        "corruptionCount": statistics.wal_corruptions,
        "goroutineCount": 0,
        "GOMAXPROCS": std::thread::available_parallelism().map_or(1, usize::from),
        "GOMEMLIMIT": 0,
        "GOGC": "",
        "GODEBUG": "",
        "storageRetention": storage::retention_text(&server.config.read().storage),
        "timeSeriesCount": statistics.head.series,
    }))
}

/// `status/flags`
pub(super) async fn flags(State(server): State<Arc<Server>>, _: Ready) -> Response {
    let flags: BTreeMap<_, _> =
        server.flags.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    json::data_response(&flags)
}

/// `status/config`
pub(super) async fn config(State(server): State<Arc<Server>>, _: Ready) -> Response {
    let yaml = server.config.read().to_yaml();
    json::data_response(&json!({ "yaml": yaml }))
}

/// `status/walreplay`: also while the log is replayed.
pub(super) async fn wal_replay(State(server): State<Arc<Server>>) -> Response {
    let (first, last, current) = server.replay.get();
    json::data_response(&json!({ "min": first, "max": last, "current": current }))
}

/// `status/tsdb/blocks`
pub(super) async fn blocks(ready: Ready) -> Response {
    json::data_response(&json!({ "blocks": ready.store.block_metas() }))
}

#[derive(Serialize)]
struct Count {
    name: String,
    value: u64,
}

fn counts(counts: Vec<NameCount>) -> Vec<Count> {
    counts.into_iter().map(|NameCount { name, count }| Count { name, value: count }).collect()
}

fn pair_counts(counts: Vec<LabelPairCount>) -> Vec<Count> {
    counts
        .into_iter()
        .map(|pair| Count { name: format!("{}={}", pair.name, pair.value), value: pair.count })
        .collect()
}

/// `status/tsdb`
pub(super) async fn tsdb(ready: Ready, params: Params) -> Result<Response, ApiError> {
    let limit = match params.get("limit").map(str::parse::<usize>) {
        None => TOP_DEFAULT,
        Some(Ok(limit)) if (1..=TOP_MAX).contains(&limit) => limit,
        Some(Ok(limit)) if limit > TOP_MAX => {
            return Err(ApiError::bad_data(format!("limit must not exceed {TOP_MAX}")));
        }
        Some(_) => return Err(ApiError::bad_data("limit must be a positive number")),
    };
    let statistics = tokio::task::spawn_blocking(move || ready.store.statistics(limit))
        .await
        .map_err(|_| ApiError::new(super::ErrorType::Internal, "statistics failed unexpectedly"))?;
    let head = &statistics.head;
    let data = json!({
        "headStats": {
            "numSeries": head.series,
            "numLabelPairs": head.label_pairs,
            "chunkCount": head.chunks,
            "minTime": head.min_time,
            "maxTime": head.max_time,
        },
        "seriesCountByMetricName": counts(statistics.series_by_metric_name),
        "labelValueCountByLabelName": counts(statistics.values_by_label_name),
        "memoryInBytesByLabelName": counts(statistics.bytes_by_label_name),
        "seriesCountByLabelValuePair": pair_counts(statistics.series_by_label_pair),
    });
    Ok(json::data_response(&data))
}
