//! From requests to values.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use api_client::{Answer, Inventory, Sample, Source, Value};
use metrics_api::{
    ExternalMetricValue, LabelSelector, MetricValue, ObjectReference, SelectorObject,
};
use model::Clock;
use tokio_util::sync::CancellationToken;

use super::cache::{Queries, QueryLimits};
use super::catalog::CustomMetric;
use super::config::{ConfigError, DiscoveryConfig, GroupResource};
use super::defaults::DefaultRules;
use super::expressions::{self, Expressions};
use super::failure::Failure;
use super::fallback::Fallback;
use super::mapping::{ApiResource, ResourceMap, SharedResourceMap, qualified};
use super::metrics::AdapterMetrics;
use super::objects::{ListError, ObjectLister, ResourceSource};
use super::query::{Names, Target};
use super::relist::{Lister, RelistTimes};
use super::resource::ResourceFeed;
use super::rule::Rules;
use super::steering::{self, Steering};
use super::value::{by_object, float, quantity, seconds};

/// Most values that a message about missing ones names.
const NAMED_MAX: usize = 3;

/// What an adapter works with.
pub struct AdapterOptions {
    /// The rules; without any nothing is served, unless one of the last two is given.
    pub config: DiscoveryConfig,
    /// Whom to ask for series and values.
    pub source: Arc<dyn Source>,
    /// Which objects there are.
    pub objects: Arc<dyn ObjectLister>,
    /// Which resources there are; without, those that every cluster has.
    pub cluster: Option<Arc<dyn ResourceSource>>,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// How much is asked at once, and how long answers are used.
    pub queries: QueryLimits,
    /// When the source is asked which series there are.
    pub relist: RelistTimes,
    /// Where series come from: gives pods metrics without rules, as far as their origin can be verified.
    pub default_rules: Option<Arc<dyn Inventory>>,
    /// Who is asked about metrics that are not known here.
    pub fallback: Option<Fallback>,
    /// Expressions that namespaces bring along. Whoever runs the adapter keeps them up with the cluster.
    pub expressions: Option<Arc<Expressions>>,
    /// Who knows the counts of steered autoscalers.
    pub steering: Option<Steering>,
    /// What the adapter tells of itself.
    pub metrics: AdapterMetrics,
    /// What the source is called in metrics.
    pub source_name: String,
}

impl fmt::Debug for AdapterOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdapterOptions").field("queries", &self.queries).finish_non_exhaustive()
    }
}

/// Answers `custom.metrics.k8s.io` and `external.metrics.k8s.io` from a Prometheus API.
pub struct Adapter {
    pub(super) serves_custom: bool,
    pub(super) serves_external: bool,
    pub(super) resources: SharedResourceMap,
    pub(super) lister: Lister,
    pub(super) defaults: Option<DefaultRules>,
    pub(super) fallback: Option<Fallback>,
    expressions: Option<Arc<Expressions>>,
    steering: Option<Steering>,
    pub(super) metrics: AdapterMetrics,
    pub(super) clock: Arc<dyn Clock>,
    resource_feed: Option<Arc<ResourceFeed>>,
    queries: Arc<Queries>,
    objects: Arc<dyn ObjectLister>,
    list_timeout: std::time::Duration,
}

/// A request for values that describe objects.
#[derive(Clone, Debug)]
pub(super) struct CustomRequest {
    /// Nothing for objects that are in no namespace.
    pub(super) namespace: Option<String>,
    /// The resource as the path has it.
    pub(super) resource: GroupResource,
    /// The object; all that the selector selects when nothing.
    pub(super) name: Option<String>,
    pub(super) metric: String,
    pub(super) selector: LabelSelector,
    /// `selector` as it was given.
    pub(super) selector_text: String,
    pub(super) metric_selector: LabelSelector,
}

/// Values, and what the client should be told besides.
#[derive(Debug)]
pub(super) struct Found<T> {
    pub(super) items: Vec<T>,
    pub(super) warnings: Vec<String>,
}

impl Adapter {
    /// Reads the rules. Nothing is asked before [`run`](Self::run).
    ///
    /// # Errors
    /// [`ConfigError::Value`] names the rule and its field.
    pub fn new(options: AdapterOptions) -> Result<Self, ConfigError> {
        let rules = Arc::new(Rules::new(&options.config)?);
        let resources = SharedResourceMap::new(ResourceMap::builtin());
        let forwards = options.fallback.is_some();
        let serves_external = !rules.external.is_empty()
            || forwards
            || options.expressions.is_some()
            || options.steering.is_some();
        let serves_custom = !rules.custom.is_empty() || forwards || options.default_rules.is_some();
        let source = options.metrics.measured(options.source, &options.source_name);
        let queries =
            Queries::new(Arc::clone(&source), Arc::clone(&options.clock), options.queries);
        let queries = Arc::new(queries);
        let defaults = options.default_rules.map(|inventory| {
            DefaultRules::new(
                inventory,
                Arc::clone(&queries),
                Arc::clone(&options.clock),
                options.relist,
            )
        });
        let resource_feed = match &options.config.resource_rules {
            Some(rules) => {
                let (queries, clock) = (Arc::clone(&queries), Arc::clone(&options.clock));
                Some(Arc::new(ResourceFeed::new(rules, queries, resources.clone(), clock)?))
            }
            None => None,
        };
        let lister = Lister::new(
            rules,
            source,
            Arc::clone(&options.clock),
            options.relist,
            resources.clone(),
            options.cluster,
        );
        Ok(Self {
            serves_custom,
            serves_external,
            resources,
            lister,
            defaults,
            fallback: options.fallback,
            expressions: options.expressions,
            steering: options.steering,
            metrics: options.metrics,
            clock: options.clock,
            resource_feed,
            queries,
            objects: options.objects,
            list_timeout: options.queries.timeout,
        })
    }

    /// What feeds `metrics.k8s.io`, if the configuration has `resourceRules`.
    #[must_use]
    pub const fn resource_feed(&self) -> Option<&Arc<ResourceFeed>> {
        self.resource_feed.as_ref()
    }

    /// Keeps the list of metrics until `shutdown`.
    pub async fn run(&self, shutdown: CancellationToken) {
        let defaults = async {
            match &self.defaults {
                Some(defaults) => defaults.run(&shutdown).await,
                None => shutdown.cancelled().await,
            }
        };
        let fallback = async {
            match &self.fallback {
                Some(fallback) => fallback.run(&shutdown).await,
                None => shutdown.cancelled().await,
            }
        };
        tokio::join!(self.lister.run(&shutdown), defaults, fallback);
    }

    /// Reads the list of metrics once. Whether all of it could be read; what could not stays as it was.
    pub async fn relist(&self) -> bool {
        if let Some(fallback) = &self.fallback {
            fallback.list().await;
        }
        let listed = self.lister.relist().await;
        match &self.defaults {
            Some(defaults) => defaults.refresh().await && listed,
            None => listed,
        }
    }

    /// The values of a custom metric; `None` when the metric is not known here.
    pub(super) async fn custom(
        &self,
        request: &CustomRequest,
    ) -> Result<Option<Found<MetricValue>>, Failure> {
        let map = self.resources.get();
        let GroupResource { group, resource } = &request.resource;
        let Some(resource) = map.resolve(group, resource) else { return Ok(None) };
        if resource.namespaced != request.namespace.is_some() {
            return Ok(None);
        }
        let catalog = self.lister.catalog();
        let metric = catalog.custom(&resource.key(), &request.metric);
        let by_default = match (&self.defaults, metric, resource.key()) {
            (Some(defaults), None, key) if key.group.is_empty() && key.resource == "pods" => {
                defaults.metric(&request.metric)
            }
            _ => None,
        };
        if metric.is_none() && by_default.is_none() {
            return Ok(None);
        }
        let selector = if request.metric_selector.is_empty() {
            None
        } else {
            let object = SelectorObject::new(&request.metric_selector);
            Some(object.map_err(|error| Failure::BadRequest(error.to_string()))?)
        };
        let names = self.names(request, resource).await?;
        let values = match (metric, by_default, &self.defaults) {
            (Some(metric), _, _) => self.ask(request, resource, &map, metric, &names).await?,
            (None, Some(metric), Some(defaults)) => {
                let namespace = request.namespace.as_deref().unwrap_or_default();
                defaults.values(&metric, namespace, &names, &request.metric_selector).await?
            }
            _ => return Ok(None),
        };
        self.described(request, resource, selector.as_ref(), values).map(Some)
    }

    /// The objects that the request is about; at least one.
    async fn names(
        &self,
        request: &CustomRequest,
        resource: &ApiResource,
    ) -> Result<Vec<String>, Failure> {
        if let Some(name) = &request.name {
            return Ok(vec![name.clone()]);
        }
        let namespace = request.namespace.as_deref();
        let (selector, text) = (&request.selector, request.selector_text.as_str());
        let listed = self.objects.list(resource, namespace, selector, text);
        let listed = tokio::time::timeout(self.list_timeout, listed).await;
        let names = listed.unwrap_or_else(|_| {
            Err(ListError::Timeout {
                resource: resource.qualified(),
                timeout_ms: self.list_timeout.as_millis(),
            })
        });
        let names = names.map_err(|error| Failure::Objects(Arc::new(error)))?;
        if names.is_empty() {
            return Err(Failure::not_found(&request.metric, resource.qualified()));
        }
        Ok(names)
    }

    async fn ask(
        &self,
        request: &CustomRequest,
        resource: &ApiResource,
        map: &ResourceMap,
        metric: &CustomMetric,
        names: &[String],
    ) -> Result<Values, Failure> {
        let rule = &metric.rule;
        let fails = |error| Failure::Query {
            metric: request.metric.clone(),
            rule: rule.place.clone(),
            error,
        };
        let target = Target {
            resource,
            namespace: request.namespace.as_deref(),
            labels: &rule.labels,
            map,
            extra_group: &[],
        };
        let named = match names {
            [name] => Names::One(name),
            names => Names::Several(names),
        };
        let query =
            rule.query.for_objects(&metric.series, &target, &request.metric_selector, named);
        let query = query.map_err(fails)?;
        let answer = self.queries.ask(&query).await.map_err(|error| Failure::Ask {
            metric: request.metric.clone(),
            rule: rule.place.clone(),
            error,
        })?;
        let label = rule.labels.label(resource, map).map_err(|error| fails(error.into()))?;
        let samples = by_object(&answer, &label).map_err(|reason| Failure::Answer {
            metric: request.metric.clone(),
            rule: rule.place.clone(),
            reason,
        })?;
        let samples = names.iter().filter_map(|name| {
            let sample = samples.get(name.as_str())?;
            Some((name.clone(), Sample::clone(sample)))
        });
        Ok(Values {
            rule: rule.place.clone(),
            samples: samples.collect(),
            window_s: rule.query.window_s(),
            warnings: answer.warnings.clone(),
        })
    }

    /// Values with what they describe. Of several objects those without a proper value are left out and told of: for the
    /// autoscaler they are missing, which it treats with care.
    fn described(
        &self,
        request: &CustomRequest,
        resource: &ApiResource,
        selector: Option<&SelectorObject>,
        values: Values,
    ) -> Result<Found<MetricValue>, Failure> {
        let mut items = Vec::with_capacity(values.samples.len());
        let mut without = Vec::new();
        for (name, sample) in values.samples {
            let value = match float(&sample).and_then(quantity) {
                Ok(value) => value,
                Err(reason) => {
                    without.push(format!("{} {name}: {reason}", resource.qualified()));
                    continue;
                }
            };
            items.push(MetricValue {
                described_object: ObjectReference {
                    kind: resource.kind.clone(),
                    namespace: request.namespace.clone().unwrap_or_default(),
                    name,
                    api_version: resource.reference_version(),
                },
                metric: request.metric.clone(),
                selector: selector.cloned(),
                timestamp_s: seconds(sample.at),
                window_s: values.window_s,
                value,
            });
        }
        let mut warnings = values.warnings;
        if !without.is_empty() {
            let reason = several(&without);
            if items.is_empty() {
                let (metric, rule) = (request.metric.clone(), values.rule);
                return Err(Failure::Answer { metric, rule, reason });
            }
            warnings.push(format!("metric {}: left out: {reason}", request.metric));
        }
        if items.is_empty() {
            let of = match &request.name {
                Some(name) => format!("{} {name}", resource.qualified()),
                None => resource.qualified(),
            };
            return Err(Failure::not_found(&request.metric, of));
        }
        Ok(Found { items, warnings })
    }

    /// The values of an external metric; `None` when the metric is not known here. A value that is none makes the whole
    /// fail: the autoscaler adds values up, and a sum without one of them is wrong.
    pub(super) async fn external(
        &self,
        namespace: &str,
        metric: &str,
        selector: &LabelSelector,
    ) -> Result<Option<Found<ExternalMetricValue>>, Failure> {
        if let Some(steering) = self.steering.as_ref().filter(|_| metric == steering::METRIC) {
            let items = vec![steering.count(namespace, selector).await?];
            return Ok(Some(Found { items, warnings: Vec::new() }));
        }
        let catalog = self.lister.catalog();
        let Some(found) = catalog.external(metric) else {
            return self.expressed(namespace, metric, selector).await;
        };
        let rule = &found.rule;
        let fails = |error| Failure::Query {
            metric: String::from(metric),
            rule: rule.place.clone(),
            error,
        };
        let label = match rule.namespaced {
            true => {
                let label = rule.labels.namespace_label(&self.resources.get());
                Some(label.map_err(|error| fails(error.into()))?)
            }
            false => None,
        };
        let restricted = label.as_deref().map(|label| (label, namespace));
        let query = rule.query.for_external(&found.series, restricted, selector).map_err(fails)?;
        let answer = self.queries.ask(&query).await.map_err(|error| Failure::Ask {
            metric: String::from(metric),
            rule: rule.place.clone(),
            error,
        })?;
        external_values(namespace, metric, &rule.place, rule.query.window_s(), &answer).map(Some)
    }

    /// The values of an expression of the namespace itself; `None` when it has none of this name. The selector chooses among its series.
    async fn expressed(
        &self,
        namespace: &str,
        metric: &str,
        selector: &LabelSelector,
    ) -> Result<Option<Found<ExternalMetricValue>>, Failure> {
        let Some(all) = &self.expressions else { return Ok(None) };
        let Some(expressions::Found { place, query }) = all.get(namespace, metric) else {
            return Ok(None);
        };
        let query = query.map_err(|why| Failure::Answer {
            metric: String::from(metric),
            rule: place.clone(),
            reason: why.to_string(),
        })?;
        let answer = self.queries.ask(&query).await.map_err(|error| Failure::Ask {
            metric: String::from(metric),
            rule: place.clone(),
            error,
        })?;
        let mut found = external_values(namespace, metric, &place, None, &answer)?;
        found.items.retain(|item| {
            selector.matches(|key| item.labels.as_ref()?.get(key).map(String::as_str))
        });
        if found.items.is_empty() {
            return Err(Failure::not_found(metric, format!("namespace {namespace}")));
        }
        Ok(Some(found))
    }

    /// Whether everything that tells of custom metrics has been asked once, with whatever success.
    pub(super) fn is_custom_tried(&self) -> bool {
        self.lister.is_tried() && self.defaults.as_ref().is_none_or(DefaultRules::is_tried)
    }

    /// What to say of a custom metric that nobody knows.
    pub(super) fn unknown_custom(&self, request: &CustomRequest) -> Failure {
        let incomplete = self.lister.incomplete();
        let incomplete =
            incomplete.or_else(|| self.defaults.as_ref().and_then(DefaultRules::incomplete));
        let GroupResource { group, resource } = &request.resource;
        unknown(incomplete, &request.metric, qualified(group, resource))
    }

    /// Whether everything that tells of external metrics has been asked once, with whatever success.
    pub(super) fn is_external_tried(&self) -> bool {
        let expressions = self.expressions.as_ref();
        self.lister.is_tried() && expressions.is_none_or(|all| !all.is_first_reading())
    }

    /// What to say of an external metric that nobody knows.
    pub(super) fn unknown_external(&self, namespace: &str, metric: &str) -> Failure {
        let incomplete = self.lister.incomplete();
        let incomplete = incomplete.or_else(|| self.expressions.as_ref()?.incomplete());
        unknown(incomplete, metric, format!("namespace {namespace}"))
    }

    /// The custom metrics: resource, whether it is in namespaces, name of the metric; ordered.
    pub(super) fn custom_metrics(&self) -> BTreeSet<(String, bool, String)> {
        let map = self.resources.get();
        let catalog = self.lister.catalog();
        let mut metrics: BTreeSet<(String, bool, String)> = catalog
            .customs()
            .filter_map(|(key, metric)| {
                let resource = map.get(key)?;
                Some((resource.qualified(), resource.namespaced, String::from(metric)))
            })
            .collect();
        if let Some(defaults) = &self.defaults {
            let names = defaults.metrics();
            metrics.extend(names.into_iter().map(|name| (String::from("pods"), true, name)));
        }
        metrics
    }
}

impl fmt::Debug for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Adapter")
            .field("serves_custom", &self.serves_custom)
            .field("serves_external", &self.serves_external)
            .finish_non_exhaustive()
    }
}

/// Samples by object, in the order of the objects.
pub(super) struct Values {
    /// Where they come from, for messages.
    pub(super) rule: String,
    pub(super) samples: Vec<(String, Sample)>,
    pub(super) window_s: Option<i64>,
    pub(super) warnings: Vec<String>,
}

/// An answer as values of an external metric; at least one.
fn external_values(
    namespace: &str,
    metric: &str,
    place: &str,
    window_s: Option<i64>,
    answer: &Answer<Value>,
) -> Result<Found<ExternalMetricValue>, Failure> {
    let wrong = |reason: String| Failure::Answer {
        metric: String::from(metric),
        rule: String::from(place),
        reason,
    };
    let readings: Vec<(Option<_>, i64, Result<f64, _>)> = match &answer.value {
        Value::Scalar { at, value } => vec![(None, *at, Ok(*value))],
        Value::Vector(samples) => {
            let reading = |sample: &Sample| {
                let labels = sample.labels.iter();
                let labels = labels.map(|l| (String::from(l.name), String::from(l.value)));
                (Some(labels.collect()), sample.at, float(sample))
            };
            samples.iter().map(reading).collect()
        }
        other => {
            return Err(wrong(format!("the query gives a {}", other.type_name())));
        }
    };
    let mut items = Vec::with_capacity(readings.len());
    for (labels, at, reading) in readings {
        let value = reading.and_then(quantity).map_err(|reason| match &labels {
            Some(labels) => wrong(format!("{labels:?}: {reason}")),
            None => wrong(reason.to_string()),
        })?;
        items.push(ExternalMetricValue {
            metric: String::from(metric),
            labels,
            timestamp_s: seconds(at),
            window_s,
            value,
        });
    }
    if items.is_empty() {
        return Err(Failure::not_found(metric, format!("namespace {namespace}")));
    }
    Ok(Found { items, warnings: answer.warnings.clone() })
}

/// What to say of a metric that nobody knows: that it is not there only if the list of metrics is complete.
fn unknown(incomplete: Option<String>, metric: &str, of: String) -> Failure {
    match incomplete {
        Some(why) => Failure::NotYet(why),
        None => Failure::not_found(metric, of),
    }
}

fn several(all: &[String]) -> String {
    let named = all.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join("; ");
    match all.len().saturating_sub(NAMED_MAX) {
        0 => named,
        more => format!("{named}; and {more} more"),
    }
}
