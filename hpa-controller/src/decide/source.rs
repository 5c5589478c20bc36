//! One entry of `spec.metrics`: what it asks for, and what it proposes given the answer.

use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, MetricIdentifier, MetricSpec, MetricTarget,
};

use super::proposal::{Circumstances, PodTarget, per_pod, shared, whole};
use super::quantity::milli;
use super::ratio::double;
use super::readings;
use super::selector::{self, GoNotation};
use crate::decision::Proposal;
use crate::inputs::{MetricAnswer, PodReading, ValueReading};
use crate::sources::{MetricRequest, ObjectRef, PodsRequest};

/// A metric that can be asked for.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// A resource of pods, or of one container of each.
    Resource {
        /// Its name.
        resource: &'a str,
        /// Only the container of this name.
        container: Option<&'a str>,
        /// What its values are set against.
        target: PodTarget<'a>,
    },
    /// A custom metric of pods.
    Pods {
        /// The metric.
        metric: &'a MetricIdentifier,
        /// Average, in thousandths.
        target_milli: i64,
    },
    /// A custom metric of one object.
    Object {
        /// The object.
        object: &'a CrossVersionObjectReference,
        /// The metric.
        metric: &'a MetricIdentifier,
        /// What its value is set against.
        target: ValueTarget,
    },
    /// An external metric.
    External {
        /// The metric.
        metric: &'a MetricIdentifier,
        /// What the sum of its values is set against.
        target: ValueTarget,
    },
}

/// What one value is set against, in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueTarget {
    /// The value of the whole.
    Whole(i64),
    /// The value that each replica is to have of it.
    Share(i64),
}

impl<'a> Source<'a> {
    /// The metric that `spec` asks for; `None` if its type is none that is known.
    ///
    /// # Errors
    /// It has no source of its type, no target, or one that cannot be read.
    pub fn of(spec: &'a MetricSpec) -> Option<Result<Self, String>> {
        Some(match spec.type_.as_str() {
            "Resource" => spec.resource.as_ref().ok_or_else(|| absent("resource")).and_then(|s| {
                let target = pod_target(&s.target, None)?;
                Ok(Self::Resource { resource: &s.name, container: None, target })
            }),
            "ContainerResource" => {
                let source = spec.container_resource.as_ref();
                source.ok_or_else(|| absent("containerResource")).and_then(|s| {
                    let container = Some(s.container.as_str());
                    let target = pod_target(&s.target, container)?;
                    Ok(Self::Resource { resource: &s.name, container, target })
                })
            }
            "Pods" => spec.pods.as_ref().ok_or_else(|| absent("pods")).and_then(|s| {
                selector::check(s.metric.selector.as_ref())?;
                let target = s
                    .target
                    .average_value
                    .as_ref()
                    .ok_or("invalid pods metric source: no average value target was set")?;
                Ok(Self::Pods { metric: &s.metric, target_milli: milli(target)? })
            }),
            "Object" => spec.object.as_ref().ok_or_else(|| absent("object")).and_then(|s| {
                selector::check(s.metric.selector.as_ref())?;
                let target = object_target(&s.target)?;
                Ok(Self::Object { object: &s.described_object, metric: &s.metric, target })
            }),
            "External" => spec.external.as_ref().ok_or_else(|| absent("external")).and_then(|s| {
                let target = external_target(&s.target)?;
                Ok(Self::External { metric: &s.metric, target })
            }),
            _ => return None,
        })
    }

    /// What to ask a metrics API for. `selector` is that of the target's pods.
    #[must_use]
    pub fn request(&self, namespace: &str, selector: &str) -> MetricRequest {
        let namespace = namespace.to_owned();
        let pods = || PodsRequest { namespace: namespace.clone(), selector: selector.to_owned() };
        match *self {
            Self::Resource { resource, container, .. } => MetricRequest::Resource {
                pods: pods(),
                resource: resource.to_owned(),
                container: container.map(str::to_owned),
            },
            Self::Pods { metric, .. } => MetricRequest::Pods {
                pods: pods(),
                metric: metric.name.clone(),
                selector: metric.selector.clone(),
            },
            Self::Object { object, metric, .. } => MetricRequest::Object {
                object: object_ref(object, &namespace),
                namespace,
                metric: metric.name.clone(),
                selector: metric.selector.clone(),
            },
            Self::External { metric, .. } => MetricRequest::External {
                namespace,
                metric: metric.name.clone(),
                selector: metric.selector.clone(),
            },
        }
    }

    /// What the metric proposes.
    ///
    /// # Errors
    /// The answer is an error or of no use, or the pods do not allow a calculation. The text is the calculation's own, before
    /// any part of the reconciliation says what it was doing.
    pub fn propose(
        &self,
        answer: &MetricAnswer,
        namespace: &str,
        given: Circumstances<'_>,
    ) -> Result<Proposal, String> {
        match *self {
            Self::Resource { resource, target, .. } => {
                let readings = pod_readings(answer).map_err(|why| {
                    format!("unable to get metrics for resource {resource}: {why}")
                })?;
                per_pod(readings, Some(resource), target, given)
            }
            Self::Pods { metric, target_milli } => {
                let readings = pod_readings(answer)
                    .and_then(|readings| readings::some(readings, "custom"))
                    .map_err(|why| format!("unable to get metric {}: {why}", metric.name))?;
                per_pod(readings, None, PodTarget::Average { milli: target_milli }, given)
            }
            Self::Object { object, metric, target } => {
                let value = value_readings(answer).and_then(readings::one).map_err(|why| {
                    let (kind, on) = (&object.kind, &object.name);
                    format!(
                        "unable to get metric {}: {kind} on {namespace} {on}/{why}",
                        metric.name
                    )
                })?;
                match target {
                    ValueTarget::Whole(target) => whole(value.value_milli, target, given),
                    ValueTarget::Share(target) => Ok(shared(value.value_milli, target, given)),
                }
            }
            Self::External { metric, target } => {
                selector::check(metric.selector.as_ref())?;
                let values = value_readings(answer)
                    .and_then(|values| readings::some(values, "external"))
                    .map_err(|why| unavailable(metric, namespace, &why))?;
                let total = sum(values);
                match target {
                    ValueTarget::Whole(target) => whole(total, target, given),
                    ValueTarget::Share(target) => {
                        let mut proposal = shared(total, target, given);
                        if double(total) >= double(i64::MAX) {
                            proposal.value_milli = i64::MAX;
                        }
                        Ok(proposal)
                    }
                }
            }
        }
    }
}

/// The object that a metric is asked of. A Namespace is the autoscaler's own whatever it is called there, as upstream has it: nobody
/// is to see what another namespace has by naming it.
fn object_ref(object: &CrossVersionObjectReference, namespace: &str) -> ObjectRef {
    let api_version = object.api_version.clone().unwrap_or_default();
    let is_namespace = object.kind == "Namespace" && !api_version.contains('/');
    let name = if is_namespace { namespace } else { &object.name };
    ObjectRef { api_version, kind: object.kind.clone(), name: name.to_owned() }
}

fn absent(field: &str) -> String {
    format!("invalid metric source: the field {field} is missing")
}

/// The average is preferred if both are there.
fn pod_target<'a>(
    target: &MetricTarget,
    container: Option<&'a str>,
) -> Result<PodTarget<'a>, String> {
    match (&target.average_value, target.average_utilization) {
        (Some(average), _) => Ok(PodTarget::Average { milli: milli(average)? }),
        (None, Some(percent)) => Ok(PodTarget::Utilization { percent, container }),
        (None, None) => {
            Err("invalid resource metric source: neither an average utilization target \
                             nor an average value (usage) target was set"
                .to_owned())
        }
    }
}

/// The type of the target decides, unlike with an external metric.
fn object_target(target: &MetricTarget) -> Result<ValueTarget, String> {
    match (target.type_.as_str(), &target.value, &target.average_value) {
        ("Value", Some(value), _) => Ok(ValueTarget::Whole(milli(value)?)),
        ("AverageValue", _, Some(value)) => Ok(ValueTarget::Share(milli(value)?)),
        _ => {
            Err("invalid object metric source: neither a value target nor an average value target \
                  was set"
                .to_owned())
        }
    }
}

fn external_target(target: &MetricTarget) -> Result<ValueTarget, String> {
    match (&target.average_value, &target.value) {
        (Some(average), _) => Ok(ValueTarget::Share(milli(average)?)),
        (None, Some(value)) => Ok(ValueTarget::Whole(milli(value)?)),
        (None, None) => {
            Err("invalid external metric source: neither a value target nor an average \
                             value target was set"
                .to_owned())
        }
    }
}

fn unavailable(metric: &MetricIdentifier, namespace: &str, why: &str) -> String {
    let (name, selector) = (&metric.name, GoNotation(metric.selector.as_ref()));
    format!("unable to get external metric {namespace}/{name}/{selector}: {why}")
}

fn pod_readings(answer: &MetricAnswer) -> Result<&[PodReading], String> {
    match answer {
        MetricAnswer::Pods(readings) => Ok(readings),
        MetricAnswer::Failed(why) => Err(why.clone()),
        MetricAnswer::Values(_) => Err("values of pods were asked for, others came".to_owned()),
    }
}

fn value_readings(answer: &MetricAnswer) -> Result<&[ValueReading], String> {
    match answer {
        MetricAnswer::Values(readings) => Ok(readings),
        MetricAnswer::Failed(why) => Err(why.clone()),
        MetricAnswer::Pods(_) => Err("other values than those of pods were asked for".to_owned()),
    }
}

/// The sum in the order of the answer. Once it is more than an `i64` holds it stays there.
fn sum(values: &[ValueReading]) -> i64 {
    let total = values.iter().try_fold(0_i64, |total, one| {
        total.checked_add(one.value_milli).ok_or(if total < 0 { i64::MIN } else { i64::MAX })
    });
    total.unwrap_or_else(|limit| limit)
}
