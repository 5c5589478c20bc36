//! What cases of all shapes have in common: pods, samples, events, recommendations.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, bail};
use hpa_controller::decide::readings::{self, ContainerUsage, PodUsage};
use hpa_controller::{
    ContainerRequests, MetricAnswer, PodFacts, PodPhase, PodReading, Readiness, ReadyStatus,
    Recommendation, ScaleEvent, ValueReading,
};
use model::Timestamp;
use serde::Deserialize;

use super::NOW;

/// The time that lies `age_s` back.
pub(super) const fn ago(age_s: i64) -> Timestamp {
    NOW - age_s * 1000
}

/// How far back a time lies.
pub(super) const fn age_s(at: Timestamp) -> i64 {
    (NOW - at) / 1000
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Pod {
    pub(super) name: String,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
    #[serde(default)]
    phase: Option<PodPhase>,
    #[serde(default)]
    deleting: bool,
    #[serde(default)]
    start_age_s: Option<i64>,
    #[serde(default)]
    ready: Option<ReadyStatus>,
    #[serde(default)]
    ready_transition_age_s: Option<i64>,
    #[serde(default)]
    pod_requests_milli: Option<BTreeMap<String, i64>>,
    #[serde(default)]
    containers: Vec<Container>,
    #[serde(default)]
    init_containers: Vec<Container>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    name: String,
    #[serde(default)]
    requests_milli: BTreeMap<String, i64>,
    #[serde(default)]
    restart_policy_always: bool,
}

impl Pod {
    pub(super) fn facts(&self) -> Arc<PodFacts> {
        let containers = |of: &[Container]| {
            let container = |one: &Container| ContainerRequests {
                name: one.name.clone(),
                requests_milli: one.requests_milli.clone(),
                restarts_always: one.restart_policy_always,
            };
            of.iter().map(container).collect()
        };
        let transition = self.ready_transition_age_s.map_or(0, ago);
        Arc::new(PodFacts {
            name: self.name.as_str().into(),
            phase: self.phase,
            deleting: self.deleting,
            started: self.start_age_s.map(ago),
            ready: self.ready.map(|status| Readiness { status, transition }),
            requests_milli: self.pod_requests_milli.clone(),
            containers: containers(&self.containers),
            init_containers: containers(&self.init_containers),
            overhead_milli: BTreeMap::new(),
        })
    }
}

/// One item of a metric API's answer, of any API.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Sample {
    #[serde(default)]
    pod: Option<String>,
    age_s: i64,
    #[serde(default)]
    window_s: Option<i64>,
    #[serde(default)]
    containers: Vec<ContainerSample>,
    #[serde(default)]
    value_milli: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerSample {
    name: String,
    usage_milli: BTreeMap<String, i64>,
}

impl Sample {
    pub(super) fn age_s(&self) -> i64 {
        self.age_s
    }

    fn usage(&self) -> PodUsage {
        let container = |one: &ContainerSample| ContainerUsage {
            name: one.name.clone(),
            usage_milli: one
                .usage_milli
                .iter()
                .map(|(name, value)| (name.clone(), *value))
                .collect(),
        };
        PodUsage {
            pod: self.pod.as_deref().unwrap_or_default().into(),
            timestamp: ago(self.age_s),
            window_ms: self.window_ms(),
            containers: self.containers.iter().map(container).collect(),
        }
    }

    fn window_ms(&self) -> i64 {
        self.window_s.unwrap_or(60) * 1000
    }

    /// The reading of a pod of this name.
    pub(super) fn reading(&self, pod: &str) -> PodReading {
        PodReading {
            pod: pod.into(),
            value_milli: self.value_milli.unwrap_or_default(),
            timestamp: ago(self.age_s),
            window_ms: self.window_ms(),
        }
    }

    fn value(&self) -> ValueReading {
        ValueReading {
            value_milli: self.value_milli.unwrap_or_default(),
            timestamp: ago(self.age_s),
        }
    }
}

/// What the items of an API's answer come to; `resource` and `container` for resource metrics alone.
pub(super) fn answer(
    api: &str,
    items: &[Sample],
    resource: &str,
    container: Option<&str>,
) -> Result<MetricAnswer> {
    let pod = |one: &Sample| one.reading(one.pod.as_deref().unwrap_or_default());
    let outcome = match api {
        "resource" => {
            let usage: Vec<_> = items.iter().map(Sample::usage).collect();
            readings::resource(&usage, resource, container).map(MetricAnswer::Pods)
        }
        "custom.pods" => readings::pods(items.iter().map(pod).collect()).map(MetricAnswer::Pods),
        "custom.object" => {
            readings::object(items.iter().map(Sample::value).collect()).map(MetricAnswer::Values)
        }
        "external" => {
            readings::external(items.iter().map(Sample::value).collect()).map(MetricAnswer::Values)
        }
        _ => bail!("no such API: {api}"),
    };
    Ok(outcome.unwrap_or_else(|why| MetricAnswer::Failed(why.0)))
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct AgedEvent {
    change: i32,
    age_s: i64,
    outdated: bool,
}

pub(super) fn to_events(aged: &[AgedEvent]) -> Vec<ScaleEvent> {
    let event = |one: &AgedEvent| ScaleEvent {
        change: one.change,
        at: ago(one.age_s),
        outdated: one.outdated,
    };
    aged.iter().map(event).collect()
}

pub(super) fn from_events(events: &[ScaleEvent]) -> Vec<AgedEvent> {
    let aged = |one: &ScaleEvent| AgedEvent {
        change: one.change,
        age_s: age_s(one.at),
        outdated: one.outdated,
    };
    events.iter().map(aged).collect()
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct AgedRecommendation {
    replicas: i32,
    age_s: i64,
}

pub(super) fn to_recommendations(aged: &[AgedRecommendation]) -> Vec<Recommendation> {
    aged.iter().map(|one| Recommendation { replicas: one.replicas, at: ago(one.age_s) }).collect()
}

pub(super) fn from_recommendations(recommendations: &[Recommendation]) -> Vec<AgedRecommendation> {
    let aged =
        |one: &Recommendation| AgedRecommendation { replicas: one.replicas, age_s: age_s(one.at) };
    recommendations.iter().map(aged).collect()
}
