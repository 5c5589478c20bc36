//! Tries autoscalers on the past, or on a load that is made up, before they are trusted.
//!
//! A [`Scenario`] is what happens: demand over time, requests, and how the pods of the target take it. It comes from a [`History`]
//! ([`record()`]) or from a [`Curve`]. [`run()`] lets [`decide`](crate::decide::decide) decide on it every sync period, with pods and
//! answers made up to fit, as the live controller would; [`Report`] compares what came of it.
//!
//! What a replay cannot know, its [`Model`] assumes, and every output says so.
//!
//! [`History`]: crate::sources::History

mod curve;
mod extras;
mod figures;
mod fleet;
mod grid;
mod manifest;
mod queries;
mod record;
mod report;
mod run;
mod scenario;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerSpec;
use model::{Timestamp, format_duration};

pub use curve::{Curve, CurveError, Shape};
pub use figures::{Figures, Reproduction};
pub use grid::{Grid, STEPS_MAX};
pub use manifest::{ManifestError, RequestFlag, subjects};
pub use queries::Queries;
pub use record::{Archive, record};
pub use report::{Outcome, Report, Setting, html, json, table};
pub use run::{Forecasts, Rescale, Trace, run};
pub use scenario::{Found, Model, Requests, Scenario, Signal, simulated};

use crate::inputs::ContainerRequests;
use crate::sources::HistoryError;

/// Most replicas that a replay follows: each of them is a pod in every decision.
pub const REPLICAS_MAX: i32 = 10_000;

/// An autoscaler to be tried.
#[derive(Clone, Debug)]
pub struct Subject {
    /// How outputs call it: the file that it comes from.
    pub label: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its annotations, which may ask for what goes beyond upstream.
    pub annotations: BTreeMap<String, String>,
    /// Its specification, defaults filled in.
    pub spec: HorizontalPodAutoscalerSpec,
    /// What the target's pods request, if that was given.
    pub requests: Option<PodRequests>,
}

/// What a pod requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodRequests {
    /// As a whole, by resource, in thousandths.
    pub pod_milli: Option<BTreeMap<String, i64>>,
    /// Its containers, those init containers among them that keep running.
    pub containers: Vec<ContainerRequests>,
}

/// Why there is no replay.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The range of times makes no sense.
    #[error(
        "from {} to {} every {}: {reason}",
        instant(*.from), instant(*.to), format_duration(std::time::Duration::from_millis(step_ms.unsigned_abs()))
    )]
    Range {
        /// The first time, in milliseconds since the epoch.
        from: Timestamp,
        /// The last time, in milliseconds since the epoch.
        to: Timestamp,
        /// Distance of two times in milliseconds.
        step_ms: i64,
        /// What is wrong.
        reason: &'static str,
    },
    /// The past is not known.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// There is no query for a metric.
    #[error("{label}: metric {metric}: {reason}; give one by --query {metric}=PROMQL")]
    NoQuery {
        /// The autoscaler.
        label: String,
        /// The metric.
        metric: String,
        /// Why not.
        reason: String,
    },
    /// No metric of the autoscaler was recorded.
    #[error(
        "{label}: no metric of {namespace}/{name} has a single point between {} and {}; asked were: {}",
        instant(*.from), instant(*.to), .queries.join("; ")
    )]
    NothingFound {
        /// The autoscaler.
        label: String,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The first time, in milliseconds since the epoch.
        from: Timestamp,
        /// The last time, in milliseconds since the epoch.
        to: Timestamp,
        /// What was asked.
        queries: Vec<String>,
    },
    /// A utilization needs requests that nothing tells.
    #[error(
        "{label}: the target of {resource} is a percentage of what pods request, which is not known: give --request \
         {resource}=QUANTITY or the target's manifest by -f{}",
        .query.as_ref().map(|query| format!(" (nothing was recorded for {query})")).unwrap_or_default()
    )]
    NoRequests {
        /// The autoscaler.
        label: String,
        /// The resource.
        resource: String,
        /// What history was asked for.
        query: Option<String>,
    },
    /// More pods than a replay follows.
    #[error("{label}: {replicas} replicas at {}: a replay follows at most {REPLICAS_MAX}", instant(*.at))]
    Replicas {
        /// The autoscaler.
        label: String,
        /// How many it wanted.
        replicas: i32,
        /// When, in milliseconds since the epoch.
        at: Timestamp,
    },
    /// The autoscaler has no metric of this name.
    #[error("{label}: there is no metric {metric:?}; it has {}", .metrics.join(", "))]
    NoMetric {
        /// The autoscaler.
        label: String,
        /// What was asked for.
        metric: String,
        /// What there is.
        metrics: Vec<String>,
    },
}

/// A time for people: RFC 3339 in UTC.
fn instant(at: Timestamp) -> String {
    match jiff::Timestamp::from_millisecond(at) {
        Ok(at) => at.to_string(),
        Err(_) => format!("{at} ms"),
    }
}
