//! What history is asked for, metric by metric. Every default can be replaced.
//!
//! Container series are those of the kubelet (`container_cpu_usage_seconds_total`, …), objects those of kube-state-metrics. A series that
//! was scraped twice, by two jobs or from two replicas of kube-state-metrics, counts once.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, MetricIdentifier, MetricSpec, MetricTarget,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use model::{format_duration, is_legacy_label_name, is_legacy_metric_name};

use super::Subject;

/// Letters that Kubernetes makes names of pods from.
const NAME_LETTERS: &str = "[bcdfghjklmnpqrstvwxz2456789]";

/// What replaces the default queries.
#[derive(Clone, Debug)]
pub struct Queries {
    /// By metric: `cpu`, `CONTAINER/cpu` for one container's, the name of any other. An expression with one element a pod for metrics of
    /// pods; for others, one whose elements are added.
    pub metrics: BTreeMap<String, String>,
    /// By resource: an expression with one element a container, named by the label `container`: what it requests in a pod.
    pub requests: BTreeMap<String, String>,
    /// Replicas that were asked for: elements of the answer are other views of the same.
    pub replicas: Option<String>,
    /// Elements with the label `pod`: 1 for pods that were ready, 0 for others.
    pub ready: Option<String>,
    /// A regular expression that the names of the target's pods match in full.
    pub pods: Option<String>,
    /// How far back the two samples that a rate is made from may lie.
    pub rate_window: Duration,
}

impl Default for Queries {
    fn default() -> Self {
        Self {
            metrics: BTreeMap::new(),
            requests: BTreeMap::new(),
            replicas: None,
            ready: None,
            pods: None,
            rate_window: Duration::from_secs(120),
        }
    }
}

/// An entry of `spec.metrics`, as far as a replay goes by it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Described {
    /// What flags call it.
    pub(super) key: String,
    pub(super) source: Source,
    /// The target is a percentage of requests.
    pub(super) utilization: bool,
    /// The target is a value of the whole, which falls as replicas are added.
    pub(super) falls_with_replicas: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Source {
    Resource { name: String, container: Option<String> },
    Pods(MetricIdentifier),
    Object(CrossVersionObjectReference, MetricIdentifier),
    External(MetricIdentifier),
}

impl Described {
    /// `None` if the entry is of no known type or lacks what its type needs: such an entry fails in every decision.
    pub(super) fn of(metric: &MetricSpec) -> Option<Self> {
        let by_value = |target: &MetricTarget| target.average_value.is_none();
        let resource = |name: &str, container: Option<&str>, target: &MetricTarget| Self {
            key: container.map_or_else(|| String::from(name), |c| format!("{c}/{name}")),
            source: Source::Resource {
                name: String::from(name),
                container: container.map(String::from),
            },
            utilization: target.average_value.is_none() && target.average_utilization.is_some(),
            falls_with_replicas: false,
        };
        let named = |metric: &MetricIdentifier, source, falls_with_replicas| Self {
            key: metric.name.clone(),
            source,
            utilization: false,
            falls_with_replicas,
        };
        Some(match metric.type_.as_str() {
            "Resource" => {
                let source = metric.resource.as_ref()?;
                resource(&source.name, None, &source.target)
            }
            "ContainerResource" => {
                let source = metric.container_resource.as_ref()?;
                resource(&source.name, Some(&source.container), &source.target)
            }
            "Pods" => {
                let metric = &metric.pods.as_ref()?.metric;
                named(metric, Source::Pods(metric.clone()), false)
            }
            "Object" => {
                let source = metric.object.as_ref()?;
                let object = source.described_object.clone();
                let falls = source.target.type_ == "Value";
                named(&source.metric, Source::Object(object, source.metric.clone()), falls)
            }
            "External" => {
                let source = metric.external.as_ref()?;
                let falls = by_value(&source.target);
                named(&source.metric, Source::External(source.metric.clone()), falls)
            }
            _ => return None,
        })
    }

    /// There is a value for each pod.
    pub(super) const fn per_pod(&self) -> bool {
        matches!(self.source, Source::Resource { .. } | Source::Pods(_))
    }

    /// The API whose answer it is, in errors.
    pub(super) const fn api(&self) -> &'static str {
        match self.source {
            Source::Resource { .. } => "resource",
            Source::Pods(_) | Source::Object(..) => "custom",
            Source::External(_) => "external",
        }
    }
}

impl Queries {
    /// The expression for a metric, an element a pod where it is one of pods; or why there is none. Where readiness is known
    /// throughout (`ready_known`), only pods that were ready count: usage of a pod that is gone may linger until the window of
    /// its rate is over.
    pub(super) fn metric(
        &self,
        subject: &Subject,
        metric: &Described,
        ready_known: bool,
    ) -> Result<String, String> {
        let expression = match (self.metrics.get(&metric.key), &metric.source) {
            (Some(given), _) => given.clone(),
            (None, Source::Resource { name, container }) => {
                self.usage(subject, name, container.as_deref())?
            }
            (None, Source::Pods(identifier)) => {
                let pods = format!("pod=~{}", quoted(&self.pods(subject)));
                self.series(identifier, &[namespace(&subject.namespace), pods])
            }
            (None, Source::Object(object, identifier)) => {
                let kind = object.kind.to_lowercase();
                // A Namespace is the autoscaler's own, whatever it is called there.
                let mut place = vec![namespace(&subject.namespace)];
                if kind != "namespace" {
                    place.push(format!("{}={}", label_name(&kind), quoted(&object.name)));
                }
                self.series(identifier, &place)
            }
            (None, Source::External(identifier)) => {
                self.series(identifier, &[namespace(&subject.namespace)])
            }
        };
        if !metric.per_pod() {
            return Ok(expression);
        }
        // A pod that starts is busy with itself, not with the load. Pods of which readiness is not known count.
        let ready = self.ready(subject);
        Ok(if ready_known {
            format!("({expression}) and on (pod) ({ready} == 1)")
        } else {
            format!("({expression}) unless on (pod) ({ready} == 0)")
        })
    }

    /// What containers use, an element a pod.
    fn usage(
        &self,
        subject: &Subject,
        resource: &str,
        container: Option<&str>,
    ) -> Result<String, String> {
        let containers = match container {
            Some(name) => format!("container={}", quoted(name)),
            None => String::from(r#"container!="",container!="POD""#),
        };
        let place = format!(
            "{},pod=~{},{containers}",
            namespace(&subject.namespace),
            quoted(&self.pods(subject))
        );
        let value = match resource {
            "cpu" => {
                let series = format!("container_cpu_usage_seconds_total{{{place}}}");
                // The newest two samples, as metrics-server computes it; nothing once the series has ended.
                format!("irate({series}[{}]) and {series}", format_duration(self.rate_window))
            }
            "memory" => format!("container_memory_working_set_bytes{{{place}}}"),
            _ => return Err(String::from("usage of this resource is not a series of the kubelet")),
        };
        Ok(format!("sum by (pod) (max by (pod, container) ({value}))"))
    }

    /// A metric by its name: of a counter, the rate.
    fn series(&self, metric: &MetricIdentifier, place: &[String]) -> String {
        let mut matchers = place.to_vec();
        if let Some(selector) = &metric.selector {
            matchers.extend(selector_matchers(selector));
        }
        let selector = if is_legacy_metric_name(&metric.name) {
            format!("{}{{{}}}", metric.name, matchers.join(","))
        } else {
            format!("{{{},{}}}", quoted(&metric.name), matchers.join(","))
        };
        let value = if metric.name.ends_with("_total") {
            format!("rate({selector}[{}])", format_duration(self.rate_window))
        } else {
            selector
        };
        let of_pods = place.iter().any(|matcher| matcher.starts_with("pod=~"));
        if of_pods { format!("sum by (pod) ({value})") } else { value }
    }

    /// What containers request, an element a container: the largest of the pods, which differ only while they are replaced.
    pub(super) fn requests(&self, subject: &Subject, resource: &str) -> String {
        if let Some(given) = self.requests.get(resource) {
            return given.clone();
        }
        format!(
            "max by (container) (kube_pod_container_resource_requests{{{},pod=~{},resource={}}})",
            namespace(&subject.namespace),
            quoted(&self.pods(subject)),
            quoted(resource)
        )
    }

    /// Expressions for the recorded replicas, the best first.
    pub(super) fn replicas(&self, subject: &Subject) -> Vec<String> {
        if let Some(given) = &self.replicas {
            return vec![format!("max({given})")];
        }
        let target = &subject.spec.scale_target_ref;
        let (label, names): (_, &[&str]) = match target.kind.as_str() {
            "Deployment" => (
                "deployment",
                &["kube_deployment_spec_replicas", "kube_deployment_status_replicas"],
            ),
            "StatefulSet" => {
                ("statefulset", &["kube_statefulset_replicas", "kube_statefulset_status_replicas"])
            }
            "ReplicaSet" => (
                "replicaset",
                &["kube_replicaset_spec_replicas", "kube_replicaset_status_replicas"],
            ),
            "ReplicationController" => (
                "replicationcontroller",
                &[
                    "kube_replicationcontroller_spec_replicas",
                    "kube_replicationcontroller_status_replicas",
                ],
            ),
            _ => return Vec::new(),
        };
        let place = format!("{},{label}={}", namespace(&subject.namespace), quoted(&target.name));
        names.iter().map(|name| format!("max({name}{{{place}}})")).collect()
    }

    /// Readiness, an element a pod.
    pub(super) fn ready(&self, subject: &Subject) -> String {
        if let Some(given) = &self.ready {
            return given.clone();
        }
        format!(
            r#"max by (pod) (kube_pod_status_ready{{{},pod=~{},condition="true"}})"#,
            namespace(&subject.namespace),
            quoted(&self.pods(subject))
        )
    }

    /// What the names of the target's pods match, in full.
    fn pods(&self, subject: &Subject) -> String {
        if let Some(given) = &self.pods {
            return given.clone();
        }
        let target = &subject.spec.scale_target_ref;
        let name = literal(&target.name);
        match target.kind.as_str() {
            // The name of its ReplicaSet, which ends with a hash, and five letters.
            "Deployment" => format!("{name}-{NAME_LETTERS}{{1,10}}-{NAME_LETTERS}{{5}}"),
            "ReplicaSet" | "ReplicationController" => format!("{name}-{NAME_LETTERS}{{5}}"),
            "StatefulSet" => format!("{name}-[0-9]+"),
            _ => format!("{name}-.+"),
        }
    }
}

fn namespace(name: &str) -> String {
    format!("namespace={}", quoted(name))
}

fn selector_matchers(selector: &LabelSelector) -> Vec<String> {
    let equal = selector.match_labels.iter().flatten();
    let mut matchers: Vec<String> =
        equal.map(|(name, value)| format!("{}={}", label_name(name), quoted(value))).collect();
    for requirement in selector.match_expressions.iter().flatten() {
        let name = label_name(&requirement.key);
        let values = requirement.values.iter().flatten();
        let any = values.map(|value| literal(value)).collect::<Vec<_>>().join("|");
        matchers.push(match requirement.operator.as_str() {
            "In" => format!("{name}=~{}", quoted(&any)),
            "NotIn" => format!("{name}!~{}", quoted(&any)),
            "DoesNotExist" => format!("{name}=\"\""),
            _ => format!("{name}!=\"\""),
        });
    }
    matchers
}

fn label_name(name: &str) -> String {
    if is_legacy_label_name(name) { String::from(name) } else { quoted(name) }
}

/// A string of PromQL.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(c);
            }
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A regular expression that matches `text` alone.
fn literal(text: &str) -> String {
    let mut literal = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            literal.push('\\');
        }
        literal.push(c);
    }
    literal
}
