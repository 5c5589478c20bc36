//! One metric's part of a reconciliation: its proposal or failure, named and worded as upstream does, and its line of the status.

use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricStatus, ExternalMetricStatus, MetricSpec, MetricStatus,
    MetricValueStatus, ObjectMetricStatus, PodsMetricStatus, ResourceMetricStatus,
};

use super::Action;
use super::proposal::{Circumstances, PodTarget};
use super::quantity::{format_of, write};
use super::selector::GoNotation;
use super::source::{Source, ValueTarget};
use crate::decision::{MetricDecision, Proposal, TargetKind};
use crate::inputs::MetricAnswer;

/// Why there is no proposal.
struct Failure {
    /// Reason of the condition and the event.
    reason: &'static str,
    /// Message of the event.
    message: String,
    /// The metric's error.
    error: String,
}

/// Decides about entry `at` of the metrics, and what the status says of it. A metric that failed has an empty line there.
pub(super) fn evaluate(
    at: usize,
    spec: &MetricSpec,
    answer: Option<&MetricAnswer>,
    namespace: &str,
    given: Circumstances<'_>,
) -> (MetricDecision, MetricStatus) {
    let source = Source::of(spec);
    let name = match &source {
        Some(Ok(source)) => name_of(source),
        _ => String::new(),
    };
    let outcome = match &source {
        None => Err(unknown_type(&spec.type_)),
        Some(Err(why)) => Err(unusable(spec, why)),
        Some(Ok(source)) => answer
            .map_or_else(
                || Err("the metric was not asked for".to_owned()),
                |answer| source.propose(answer, namespace, given),
            )
            .map_err(|why| failed(source, why)),
    };
    let status = match (&source, &outcome) {
        (Some(Ok(source)), Ok(proposal)) => status_of(source, &spec.type_, proposal),
        _ => MetricStatus::default(),
    };
    let (outcome, failure) = match outcome {
        Ok(proposal) => (Ok(proposal), None),
        Err(Failure { reason, message, error }) => (Err(error), Some((reason, message))),
    };
    let (failure_reason, failure_message) = failure.unzip();
    let decision = MetricDecision {
        spec_index: at,
        kind: spec.type_.clone(),
        name,
        outcome,
        failure_reason: failure_reason.map(str::to_owned),
        failure_message,
    };
    (decision, status)
}

/// The name of a metric in conditions and events. An object's average is called external, as upstream does.
fn name_of(source: &Source<'_>) -> String {
    match source {
        Source::Resource { resource, target: PodTarget::Average { .. }, .. } => {
            format!("{resource} resource")
        }
        Source::Resource { resource, container: None, .. } => {
            format!("{resource} resource utilization (percentage of request)")
        }
        Source::Resource { resource, container: Some(_), .. } => {
            format!("{resource} container resource utilization (percentage of request)")
        }
        Source::Pods { metric, .. } => format!("pods metric {}", metric.name),
        Source::Object { object, metric, target: ValueTarget::Whole(_) } => {
            format!("{} metric {}", object.kind, metric.name)
        }
        Source::Object { metric, .. } | Source::External { metric, .. } => {
            format!("external metric {}({})", metric.name, GoNotation(metric.selector.as_ref()))
        }
    }
}

fn unknown_type(kind: &str) -> Failure {
    let message = format!("unknown metric source type {kind:?}");
    Failure { reason: "InvalidMetricSourceType", message: message.clone(), error: message }
}

/// The entry has no target, or cannot be read.
fn unusable(spec: &MetricSpec, why: &str) -> Failure {
    let (reason, error) = match spec.type_.as_str() {
        "Resource" => {
            let resource = spec.resource.as_ref().map_or("", |source| &source.name);
            (
                "FailedGetResourceMetric",
                format!("failed to get {resource} resource metric value: {why}"),
            )
        }
        "ContainerResource" => {
            let container = spec.container_resource.as_ref().map_or("", |s| &s.container);
            (
                "FailedGetContainerResourceMetric",
                format!("failed to get {container} container metric value: {why}"),
            )
        }
        "Pods" => ("FailedGetPodsMetric", format!("failed to get pods metric value: {why}")),
        "Object" => ("FailedGetObjectMetric", format!("failed to get object metric value: {why}")),
        _ => {
            let metric = spec.external.as_ref().map_or("", |source| &source.metric.name);
            (
                "FailedGetExternalMetric",
                format!("failed to get {metric} external metric value: {why}"),
            )
        }
    };
    Failure { reason, message: why.to_owned(), error }
}

/// The calculation failed with `why`.
fn failed(source: &Source<'_>, why: String) -> Failure {
    match source {
        Source::Resource { resource, container, target } => {
            let what = match target {
                PodTarget::Utilization { .. } => "utilization",
                PodTarget::Average { .. } => "usage",
            };
            let message = format!("failed to get {resource} {what}: {why}");
            let (reason, error) = match container {
                None => (
                    "FailedGetResourceMetric",
                    format!("failed to get {resource} resource metric value: {message}"),
                ),
                Some(container) => (
                    "FailedGetContainerResourceMetric",
                    format!("failed to get {container} container metric value: {message}"),
                ),
            };
            Failure { reason, message, error }
        }
        Source::Pods { .. } => Failure {
            reason: "FailedGetPodsMetric",
            error: format!("failed to get pods metric value: {why}"),
            message: why,
        },
        Source::Object { metric, target, .. } => Failure {
            reason: "FailedGetObjectMetric",
            error: match target {
                ValueTarget::Whole(_) => format!("failed to get object metric value: {why}"),
                ValueTarget::Share(_) => format!(
                    "failed to get object metric value: failed to get {} object metric: {why}",
                    metric.name
                ),
            },
            message: why,
        },
        Source::External { metric, target } => {
            let name = &metric.name;
            let inner = match target {
                ValueTarget::Whole(_) => format!("failed to get external metric {name}: {why}"),
                ValueTarget::Share(_) => format!("failed to get {name} external metric: {why}"),
            };
            Failure {
                reason: "FailedGetExternalMetric",
                error: format!("failed to get {name} external metric value: {inner}"),
                message: why,
            }
        }
    }
}

fn status_of(source: &Source<'_>, kind: &str, proposal: &Proposal) -> MetricStatus {
    let resource = match source {
        Source::Resource { resource, .. } => Some(*resource),
        _ => None,
    };
    let value = Some(write(proposal.value_milli, format_of(resource)));
    let current = match proposal.target {
        TargetKind::Value => MetricValueStatus { value, ..MetricValueStatus::default() },
        TargetKind::Utilization | TargetKind::AverageValue => MetricValueStatus {
            average_utilization: proposal.utilization_percent,
            average_value: value,
            value: None,
        },
    };
    let mut status = MetricStatus { type_: kind.to_owned(), ..MetricStatus::default() };
    match *source {
        Source::Resource { resource, container: None, .. } => {
            status.resource = Some(ResourceMetricStatus { current, name: resource.to_owned() });
        }
        Source::Resource { resource, container: Some(container), .. } => {
            status.container_resource = Some(ContainerResourceMetricStatus {
                container: container.to_owned(),
                current,
                name: resource.to_owned(),
            });
        }
        Source::Pods { metric, .. } => {
            status.pods = Some(PodsMetricStatus { current, metric: metric.clone() });
        }
        Source::Object { object, metric, .. } => {
            status.object = Some(ObjectMetricStatus {
                current,
                described_object: object.clone(),
                metric: metric.clone(),
            });
        }
        Source::External { metric, .. } => {
            status.external = Some(ExternalMetricStatus { current, metric: metric.clone() });
        }
    }
    status
}

impl MetricDecision {
    /// The labels `action` and `error` of the self-metrics about computing a metric. Where the proposal leads is judged against
    /// `before`, the replicas that the status spoke of before the decision.
    #[must_use]
    pub fn labels(&self, before: i32) -> (Action, &'static str) {
        match &self.outcome {
            Ok(proposal) if proposal.replicas > before => (Action::ScaleUp, "none"),
            Ok(proposal) if proposal.replicas < before => (Action::ScaleDown, "none"),
            Ok(_) => (Action::None, "none"),
            Err(_) if self.failure_reason.as_deref() == Some("InvalidMetricSourceType") => {
                (Action::None, "spec")
            }
            Err(_) => (Action::None, "internal"),
        }
    }
}
