//! What the metrics APIs would answer if the files held all that they know.

use metrics_api::LabelSelector;

use super::kinds::{CustomValue, ExternalValue, Labels, UsageSaved};
use super::{Objects, within};
use crate::decide::readings;
use crate::inputs::{MetricAnswer, PodReading, ValueReading};
use crate::selector;
use crate::sources::{MetricRequest, MetricsError, PodsRequest};

/// An answer, and what had to be assumed for it.
pub(super) type Answered = (MetricAnswer, Option<String>);

impl Objects {
    pub(super) fn answer(&self, request: &MetricRequest) -> Answered {
        let mut note = None;
        let answer = match request {
            MetricRequest::Resource { pods, resource, container } => {
                self.usage(pods, resource, container.as_deref()).map(MetricAnswer::Pods)
            }
            MetricRequest::Pods { pods, metric, selector } => {
                let of = Of { metric, selector: text(selector.as_ref()) };
                self.of_pods(pods, &of, &mut note).map(MetricAnswer::Pods)
            }
            MetricRequest::Object { namespace, object, metric, selector } => {
                let of = Of { metric, selector: text(selector.as_ref()) };
                // What a namespace has is asked for by its name, and is in none itself.
                let describes = |value: &CustomValue| {
                    value.kind == object.kind
                        && value.name == object.name
                        && (value.namespace.is_empty() || value.namespace == *namespace)
                };
                self.of_object(describes, &of, &mut note).map(MetricAnswer::Values)
            }
            MetricRequest::External { metric, selector, .. } => {
                self.external(metric, &text(selector.as_ref())).map(MetricAnswer::Values)
            }
        };
        (answer.unwrap_or_else(|MetricsError(error)| MetricAnswer::Failed(error)), note)
    }

    fn usage(
        &self,
        pods: &PodsRequest,
        resource: &str,
        container: Option<&str>,
    ) -> Result<Vec<PodReading>, MetricsError> {
        let Some(usages) = &self.usages else {
            return Err(unable(
                "resource",
                "the server could not find the requested resource (get pods.metrics.k8s.io)",
            ));
        };
        let selector = parsed(&pods.selector, "resource")?;
        let here = || within(usages, &pods.namespace);
        // A metrics server gives the labels of pods along. Where none has any, they were not saved.
        let labelled = here().any(|usage| !usage.labels.is_empty());
        let selected = here().filter(|usage| {
            let own = labelled.then_some(&usage.labels).filter(|labels| !labels.is_empty());
            match own.or_else(|| self.labels_of(&pods.namespace, &usage.pod)) {
                Some(labels) => matches(&selector, labels),
                None => !labelled || selector.is_empty(),
            }
        });
        let items: Vec<_> = selected.map(UsageSaved::usage).collect();
        readings::resource(&items, resource, container)
    }

    fn labels_of(&self, namespace: &str, pod: &str) -> Option<&Labels> {
        let key = (namespace.to_owned(), pod.to_owned());
        self.pods.get(&key).map(|(_, pod)| &pod.labels)
    }

    /// Values of pods may have been asked for pod by pod, so that all lists count, and the newest value of a pod.
    fn of_pods(
        &self,
        pods: &PodsRequest,
        of: &Of<'_>,
        note: &mut Option<String>,
    ) -> Result<Vec<PodReading>, MetricsError> {
        let lists = self.custom_lists()?;
        let selector = parsed(&pods.selector, "custom")?;
        let selected = |value: &CustomValue| {
            let labels = self.labels_of(&pods.namespace, &value.name);
            value.kind == "Pod"
                && (value.namespace.is_empty() || value.namespace == pods.namespace)
                // Of a pod that was not saved nothing says that it is not selected.
                && labels.is_none_or(|labels| matches(&selector, labels))
        };
        let mut readings: Vec<PodReading> = Vec::new();
        for value in of.choose(lists.iter().flatten().filter(|value| selected(value)), note) {
            let reading = PodReading {
                pod: value.name.as_str().into(),
                value_milli: value.value_milli,
                timestamp: value.timestamp,
                window_ms: value.window_ms,
            };
            match readings.iter_mut().find(|known| known.pod == reading.pod) {
                Some(known) if known.timestamp <= reading.timestamp => *known = reading,
                Some(_) => {}
                None => readings.push(reading),
            }
        }
        readings::pods(readings)
    }

    /// The values of one list: that with the newest one.
    fn of_object(
        &self,
        describes: impl Fn(&CustomValue) -> bool,
        of: &Of<'_>,
        note: &mut Option<String>,
    ) -> Result<Vec<ValueReading>, MetricsError> {
        let lists = self.custom_lists()?;
        let lists = lists.iter().map(|list| {
            let mut assumed = None;
            let values = of.choose(list.iter().filter(|value| describes(value)), &mut assumed);
            let values =
                values.into_iter().map(|value| reading(value.value_milli, value.timestamp));
            (values.collect(), assumed)
        });
        let (values, assumed) = newest(lists);
        *note = assumed;
        readings::object(values)
    }

    fn custom_lists(&self) -> Result<&[Vec<CustomValue>], MetricsError> {
        self.custom.as_deref().ok_or_else(|| {
            unable("custom", "no custom metrics API (custom.metrics.k8s.io) registered")
        })
    }

    fn external(&self, metric: &str, selector: &str) -> Result<Vec<ValueReading>, MetricsError> {
        let Some(lists) = &self.external else {
            let error = format!(
                "the server could not find the requested resource (get {metric}.external.metrics.k8s.io)"
            );
            return Err(unable("external", &error));
        };
        let selector = parsed(selector, "external")?;
        // A label that a value does not have may have been lost in an aggregation: only one that is there can differ.
        let may_match = |value: &&ExternalValue| {
            let has = |requirement: &metrics_api::Requirement| {
                let label = value.labels.get(&requirement.key);
                label.is_none_or(|label| requirement.matches(Some(label)))
            };
            value.metric == metric && selector.requirements().iter().all(has)
        };
        let lists = lists.iter().map(|list| {
            let values = list.iter().filter(may_match);
            (values.map(|value| reading(value.value_milli, value.timestamp)).collect(), None)
        });
        readings::external(newest(lists).0)
    }
}

/// Which series are asked for.
struct Of<'a> {
    metric: &'a str,
    selector: String,
}

impl Of<'_> {
    /// Values that were asked for with the same selector; if there are none, those that do not say with which.
    fn choose<'v>(
        &self,
        values: impl Iterator<Item = &'v CustomValue>,
        note: &mut Option<String>,
    ) -> Vec<&'v CustomValue> {
        let mut exact = Vec::new();
        let mut silent = Vec::new();
        for value in values.filter(|value| value.metric == self.metric) {
            if value.selector == self.selector {
                exact.push(value);
            } else if value.selector.is_empty() {
                silent.push(value);
            }
        }
        if exact.is_empty() && !silent.is_empty() {
            *note = Some(format!(
                "the values of {} do not say with which selector they were asked for; they are taken for those of {}",
                self.metric, self.selector
            ));
            return silent;
        }
        exact
    }
}

fn reading(value_milli: i64, timestamp: model::Timestamp) -> ValueReading {
    ValueReading { value_milli, timestamp }
}

/// The list with the newest value; an empty one if there is none.
fn newest(
    lists: impl Iterator<Item = (Vec<ValueReading>, Option<String>)>,
) -> (Vec<ValueReading>, Option<String>) {
    let time = |list: &[ValueReading]| list.iter().map(|value| value.timestamp).max();
    lists
        .filter(|(list, _)| !list.is_empty())
        .max_by_key(|(list, _)| time(list))
        .unwrap_or_default()
}

/// The text of a selector; an operator that none has is complained about where the decision looks at the metric.
fn text(of: Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector>) -> String {
    of.and_then(|of| selector::text(of).ok()).unwrap_or_default()
}

fn parsed(selector: &str, api: &str) -> Result<LabelSelector, MetricsError> {
    selector.parse().map_err(|error: metrics_api::SelectorError| unable(api, &error.to_string()))
}

pub(super) fn matches(selector: &LabelSelector, labels: &Labels) -> bool {
    selector.matches(|key| labels.get(key).map(String::as_str))
}

fn unable(api: &str, error: &str) -> MetricsError {
    MetricsError(format!("unable to fetch metrics from {api} metrics API: {error}"))
}
