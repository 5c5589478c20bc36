//! Tables over the algorithm: what cases recorded with upstream leave open, and what it must never do.
//!
//! Expected values are worked out by hand from the description of the algorithm, not copied from our output.

mod limits;
mod properties;
mod proposals;
mod reconciliations;
mod regressions;
mod texts;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, ExternalMetricSource, HPAScalingPolicy, HPAScalingRules,
    HorizontalPodAutoscalerBehavior, HorizontalPodAutoscalerSpec, HorizontalPodAutoscalerStatus,
    MetricIdentifier, MetricSpec, MetricStatus, MetricTarget, ObjectMetricSource, PodsMetricSource,
    ResourceMetricSource,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use model::Timestamp;

use crate::beyond::Beyond;
use crate::decide::conditions::time;
use crate::decide::{Conclusion, Written, conclude, decide};
use crate::decision::Decision;
use crate::inputs::{
    Constants, ContainerRequests, Inputs, Memory, MetricAnswer, PodFacts, PodPhase, PodReading,
    PodSet, Readiness, ReadyStatus, Recommendation, ScaleEvent, ScaleReading, ValueReading,
};

const NOW: Timestamp = 2_000_000_000_000;

/// The time that lies so many seconds back.
const fn ago(seconds: i64) -> Timestamp {
    NOW - seconds * 1000
}

/// Has run and been ready for a day; one container with this request for CPU.
fn pod(name: &str, cpu_milli: i64) -> PodFacts {
    PodFacts {
        name: name.into(),
        phase: Some(PodPhase::Running),
        started: Some(ago(86_400)),
        ready: Some(Readiness { status: ReadyStatus::True, transition: ago(86_390) }),
        containers: vec![container("main", &[("cpu", cpu_milli)])],
        ..PodFacts::default()
    }
}

fn container(name: &str, requests: &[(&str, i64)]) -> ContainerRequests {
    ContainerRequests {
        name: name.to_owned(),
        requests_milli: requests.iter().map(|&(name, value)| (name.to_owned(), value)).collect(),
        restarts_always: false,
    }
}

/// So many equal pods, `p0`, `p1` and so on.
fn pods(count: usize, cpu_milli: i64) -> Vec<PodFacts> {
    (0..count).map(|at| pod(&format!("p{at}"), cpu_milli)).collect()
}

/// A value for each pod from `p0` on, just taken.
fn readings(values: &[i64]) -> Vec<PodReading> {
    let reading = |(at, &value_milli): (usize, &i64)| PodReading {
        pod: format!("p{at}").into(),
        value_milli,
        timestamp: NOW,
        window_ms: 30_000,
    };
    values.iter().enumerate().map(reading).collect()
}

fn of_pods(values: &[i64]) -> MetricAnswer {
    MetricAnswer::Pods(readings(values))
}

fn values(milli: &[i64]) -> MetricAnswer {
    let reading = |&value_milli: &i64| ValueReading { value_milli, timestamp: NOW };
    MetricAnswer::Values(milli.iter().map(reading).collect())
}

fn shared(pods: Vec<PodFacts>) -> PodSet {
    PodSet::Matched(pods.into_iter().map(Arc::new).collect())
}

fn quantity(text: &str) -> Option<Quantity> {
    Some(Quantity(text.to_owned()))
}

fn metric(name: &str) -> MetricIdentifier {
    MetricIdentifier { name: name.to_owned(), selector: None }
}

fn resource(name: &str, target: MetricTarget) -> MetricSpec {
    MetricSpec {
        type_: "Resource".to_owned(),
        resource: Some(ResourceMetricSource { name: name.to_owned(), target }),
        ..MetricSpec::default()
    }
}

fn utilization(percent: i32) -> MetricTarget {
    MetricTarget {
        type_: "Utilization".to_owned(),
        average_utilization: Some(percent),
        ..MetricTarget::default()
    }
}

fn average(text: &str) -> MetricTarget {
    MetricTarget {
        type_: "AverageValue".to_owned(),
        average_value: quantity(text),
        ..MetricTarget::default()
    }
}

fn value(text: &str) -> MetricTarget {
    MetricTarget { type_: "Value".to_owned(), value: quantity(text), ..MetricTarget::default() }
}

fn cpu(percent: i32) -> MetricSpec {
    resource("cpu", utilization(percent))
}

fn external(target: MetricTarget) -> MetricSpec {
    MetricSpec {
        type_: "External".to_owned(),
        external: Some(ExternalMetricSource { metric: metric("qps"), target }),
        ..MetricSpec::default()
    }
}

fn object(target: MetricTarget) -> MetricSpec {
    MetricSpec {
        type_: "Object".to_owned(),
        object: Some(ObjectMetricSource {
            described_object: CrossVersionObjectReference {
                api_version: Some("networking.k8s.io/v1".to_owned()),
                kind: "Ingress".to_owned(),
                name: "front".to_owned(),
            },
            metric: metric("hits"),
            target,
        }),
        ..MetricSpec::default()
    }
}

fn custom(target: MetricTarget) -> MetricSpec {
    MetricSpec {
        type_: "Pods".to_owned(),
        pods: Some(PodsMetricSource { metric: metric("qps"), target }),
        ..MetricSpec::default()
    }
}

/// Rules of one direction.
fn rules(select: &str, window_s: i32, policies: &[(&str, i32, i32)]) -> HPAScalingRules {
    let policy = |&(kind, value, period_seconds): &(&str, i32, i32)| HPAScalingPolicy {
        type_: kind.to_owned(),
        value,
        period_seconds,
    };
    HPAScalingRules {
        policies: Some(policies.iter().map(policy).collect()),
        select_policy: Some(select.to_owned()),
        stabilization_window_seconds: Some(window_s),
        tolerance: None,
    }
}

fn recommendation(replicas: i32, age_s: i64) -> Recommendation {
    Recommendation { replicas, at: ago(age_s) }
}

fn event(change: i32, age_s: i64, outdated: bool) -> ScaleEvent {
    ScaleEvent { change, at: ago(age_s), outdated }
}

/// An autoscaler of Deployment `web` with these metrics, from 1 to 100 replicas, seen before, whose target has `current`
/// replicas.
fn inputs(current: i32, metrics: Vec<MetricSpec>, answers: Vec<Option<MetricAnswer>>) -> Inputs {
    Inputs {
        constants: Constants::default(),
        namespace: "shop".to_owned(),
        name: "web".to_owned(),
        spec: HorizontalPodAutoscalerSpec {
            scale_target_ref: CrossVersionObjectReference {
                api_version: Some("apps/v1".to_owned()),
                kind: "Deployment".to_owned(),
                name: "web".to_owned(),
            },
            min_replicas: Some(1),
            max_replicas: 100,
            metrics: Some(metrics),
            behavior: None,
        },
        status: HorizontalPodAutoscalerStatus {
            current_replicas: Some(current),
            desired_replicas: current,
            ..HorizontalPodAutoscalerStatus::default()
        },
        scale: Ok(ScaleReading {
            spec_replicas: current,
            status_replicas: current,
            selector: "app=web".to_owned(),
        }),
        pods: shared(pods(usize::try_from(current).unwrap(), 1000)),
        metrics: answers,
        memory: Memory { recommendations: Some(Vec::new()), ..Memory::default() },
        beyond: Beyond::default(),
    }
}

/// CPU utilization with a target of 50 %; a usage in thousandths of a core for each of the pods that have one.
fn cpu_inputs(current: i32, usage: &[i64]) -> Inputs {
    inputs(current, vec![cpu(50)], vec![Some(of_pods(usage))])
}

/// Replicas after the decision.
fn replicas(inputs: &Inputs) -> i32 {
    decide(inputs, NOW).desired_replicas
}

/// The end, given that the scale was written if that was asked for.
fn concluded(inputs: &Inputs) -> (Decision, Conclusion) {
    let decision = decide(inputs, NOW);
    let written = if decision.rescale { Written::Done } else { Written::NotAsked };
    let conclusion = conclude(inputs, &decision, &written, NOW);
    (decision, conclusion)
}

/// Status and reason of the condition of a type.
fn condition(conclusion: &Conclusion, kind: &str) -> Option<(String, String)> {
    let mut conditions = conclusion.status.conditions.iter().flatten();
    let found = conditions.find(|one| one.type_ == kind)?;
    Some((found.status.clone(), found.reason.clone().unwrap_or_default()))
}

/// What a condition is expected to be.
fn is(status: &str, reason: &str) -> Option<(String, String)> {
    Some((status.to_owned(), reason.to_owned()))
}

fn requests(of: &[(&str, i64)]) -> BTreeMap<String, i64> {
    of.iter().map(|&(name, value)| (name.to_owned(), value)).collect()
}
