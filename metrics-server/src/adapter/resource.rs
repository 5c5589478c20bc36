//! CPU and memory by PromQL, for `metrics.k8s.io`: the section `resourceRules` of the configuration.
//!
//! The queries give rates and sizes, the store keeps counters. A container's point is therefore made as if the container had
//! started one window ago and used CPU at the rate since: the store then shows that rate, over that window. Containers and
//! nodes of which CPU or memory is missing, or not a number, or negative, are left out; prometheus-adapter shows zero for
//! them, which scales workloads down.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use api_client::{Answer, Sample, Value};
use metrics_api::LabelSelector;
use model::Clock;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cache::{AskFailure, Queries};
use super::config::{ConfigError, GroupResource, ResourceRule, ResourceRules};
use super::labels::LabelMapping;
use super::mapping::{ApiResource, ResourceMap, SharedResourceMap};
use super::query::{Names, QueryError, QueryTemplate, Target};
use super::value::float;
use crate::cluster::Objects;
use crate::store::{NodeBatch, PodPoints, Point, Store, StoreOptions};

/// The shortest window that the store takes a rate over.
const WINDOW_MIN: Duration = Duration::from_secs(10);

/// Feeds a store by queries instead of scrapes.
pub struct ResourceFeed {
    cpu: Rule,
    memory: Rule,
    window_ms: i64,
    queries: Arc<Queries>,
    resources: SharedResourceMap,
    clock: Arc<dyn Clock>,
    /// When the loop last began to ask.
    pulse: Mutex<Option<Instant>>,
}

struct Rule {
    place: &'static str,
    containers: QueryTemplate,
    nodes: QueryTemplate,
    labels: LabelMapping,
    container_label: String,
}

/// Why there are no values.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The rule makes no query.
    #[error("resourceRules.{place}: {reason}")]
    Query {
        /// The rule.
        place: &'static str,
        /// Why.
        reason: String,
    },
    /// The source does not answer.
    #[error("resourceRules.{place}: {reason}")]
    Ask {
        /// The rule.
        place: &'static str,
        /// Why.
        reason: String,
    },
    /// The answer is of no use.
    #[error("resourceRules.{place}: {reason}")]
    Answer {
        /// The rule.
        place: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

/// Namespace, pod and container.
type ContainerKey = (String, String, String);

/// The containers of a pod by name.
type Containers = Vec<(Box<str>, Point)>;

/// What a query found, with its time.
type Readings<K> = BTreeMap<K, (f64, i64)>;

impl ResourceFeed {
    pub(super) fn new(
        config: &ResourceRules,
        queries: Arc<Queries>,
        resources: SharedResourceMap,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ConfigError> {
        let cpu = Rule::new(&config.cpu, "cpu")?;
        let memory = Rule::new(&config.memory, "memory")?;
        let stated_ms = i64::try_from(config.window.as_millis()).unwrap_or(i64::MAX);
        let looked_back_ms = cpu.containers.window_s().unwrap_or(0).saturating_mul(1000);
        let window_ms = if stated_ms > 0 { stated_ms } else { looked_back_ms };
        let min_ms = i64::try_from(WINDOW_MIN.as_millis()).unwrap_or(i64::MAX);
        if window_ms < min_ms {
            return Err(ConfigError::Value {
                place: String::from("resourceRules.window"),
                reason: format!("must be at least {} s", WINDOW_MIN.as_secs()),
            });
        }
        Ok(Self { cpu, memory, window_ms, queries, resources, clock, pulse: Mutex::new(None) })
    }

    /// Whether the loop has begun to ask within `limit`, or has not started. That queries fail does not matter.
    #[must_use]
    pub fn is_timely(&self, limit: Duration) -> bool {
        self.pulse.lock().is_none_or(|pulse| pulse.elapsed() <= limit)
    }

    /// How a store must work that is fed so; `keep` is how long values are shown while queries fail.
    #[must_use]
    pub fn store_options(&self, keep: Duration) -> StoreOptions {
        StoreOptions {
            resolution_ms: self.window_ms.saturating_add(1),
            keep_ms: i64::try_from(keep.as_millis()).unwrap_or(i64::MAX),
        }
    }

    /// Feeds `store` every `interval` until `shutdown`. `objects` tells which pod is on which node.
    pub async fn run(
        &self,
        store: &Store,
        objects: &Objects,
        interval: Duration,
        shutdown: CancellationToken,
    ) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = shutdown.cancelled() => return,
            }
            *self.pulse.lock() = Some(Instant::now());
            let fed = tokio::select! {
                fed = self.feed(store, objects) => fed,
                () = shutdown.cancelled() => return,
            };
            if let Err(error) = fed {
                tracing::warn!(%error, "CPU and memory are those of the last time");
            }
        }
    }

    /// Asks once and records what there is.
    ///
    /// # Errors
    /// [`FeedError`]; nothing is recorded then.
    pub async fn feed(&self, store: &Store, objects: &Objects) -> Result<(), FeedError> {
        let map = self.resources.get();
        let (cpu_nodes, memory_nodes, cpu, memory) = tokio::try_join!(
            self.nodes(&self.cpu, &map),
            self.nodes(&self.memory, &map),
            self.containers(&self.cpu, &map, objects),
            self.containers(&self.memory, &map, objects),
        )?;
        let mut batches: HashMap<String, NodeBatch> = HashMap::new();
        for (name, (cores, cpu_at)) in cpu_nodes {
            let Some(&(bytes, memory_at)) = memory_nodes.get(&name) else { continue };
            let point = self.point(cores, bytes, cpu_at.min(memory_at));
            batches.entry(name).or_default().node = Some(point);
        }
        for (node, pod) in self.pods(&cpu, &memory, objects) {
            batches.entry(node).or_default().pods.push(pod);
        }
        let now = self.clock.now();
        for (node, batch) in batches {
            store.record(&node, batch, now);
        }
        Ok(())
    }

    /// Points of pods with the nodes that they are on. A pod of which one container lacks a value is not complete, which
    /// the store is told by zeros.
    fn pods(
        &self,
        cpu: &Readings<ContainerKey>,
        memory: &Readings<ContainerKey>,
        objects: &Objects,
    ) -> Vec<(String, PodPoints)> {
        let mut pods: BTreeMap<(&str, &str), Containers> = BTreeMap::new();
        let all: std::collections::BTreeSet<&ContainerKey> =
            cpu.keys().chain(memory.keys()).collect();
        for key in all {
            let (namespace, pod, container) = key;
            let point = match (cpu.get(key), memory.get(key)) {
                (Some(&(cores, cpu_at)), Some(&(bytes, memory_at))) => {
                    self.point(cores, bytes, cpu_at.min(memory_at))
                }
                _ => {
                    Point { at_ms: 0, start_ms: None, cpu_ns: 0, memory_bytes: 0, swap_bytes: None }
                }
            };
            let containers = pods.entry((namespace, pod)).or_default();
            containers.push((Box::from(container.as_str()), point));
        }
        let placed = pods.into_iter().filter_map(|((namespace, name), containers)| {
            let node = objects.with_pod(namespace, name, |pod| String::from(&**pod.node))?;
            let (namespace, name) = (Box::from(namespace), Box::from(name));
            Some((node, PodPoints { namespace, name, containers }))
        });
        placed.collect()
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the values are measurements, not negative, and casts from float saturate"
    )]
    fn point(&self, cores: f64, bytes: f64, at_ms: i64) -> Point {
        // An idle container uses no CPU, but the store takes zero for "not measured": a nanosecond is nothing.
        let cpu_ns = (cores * self.window_ms as f64 * 1e6).max(1.0) as u64;
        Point {
            at_ms,
            start_ms: Some(at_ms.saturating_sub(self.window_ms)),
            cpu_ns,
            memory_bytes: bytes as u64,
            swap_bytes: None,
        }
    }

    async fn nodes(&self, rule: &Rule, map: &ResourceMap) -> Result<Readings<String>, FeedError> {
        let nodes = resource(map, "nodes", rule.place)?;
        let target = Target {
            resource: nodes,
            namespace: None,
            labels: &rule.labels,
            map,
            extra_group: &[],
        };
        let query = rule.nodes.for_objects("", &target, &LabelSelector::default(), Names::All);
        let answer = self.ask(rule, query).await?;
        let label = rule.label(nodes, map)?;
        let mut readings = Readings::new();
        for sample in rule.vector(&answer)? {
            if let (Some(name), Some(reading)) = (sample.labels.get(&label), usable(sample)) {
                readings.insert(String::from(name), reading);
            }
        }
        Ok(readings)
    }

    /// All containers by one query that also groups by namespace; a template that ignores what to group by is asked for
    /// each namespace.
    async fn containers(
        &self,
        rule: &Rule,
        map: &ResourceMap,
        objects: &Objects,
    ) -> Result<Readings<ContainerKey>, FeedError> {
        let pods = resource(map, "pods", rule.place)?;
        let pod_label = rule.label(pods, map)?;
        let namespace_label = rule
            .labels
            .namespace_label(map)
            .map_err(|error| FeedError::Query { place: rule.place, reason: error.to_string() })?;
        let group = [namespace_label.as_str(), rule.container_label.as_str()];
        let target = Target {
            resource: pods,
            namespace: None,
            labels: &rule.labels,
            map,
            extra_group: &group,
        };
        let everything = LabelSelector::default();
        let query = rule.containers.for_objects("", &target, &everything, Names::All);
        let answer = self.ask(rule, query).await?;
        let samples = rule.vector(&answer)?;
        let mut readings = Readings::new();
        if samples.iter().all(|sample| sample.labels.get(&namespace_label).is_some()) {
            for sample in samples {
                let namespace = sample.labels.get(&namespace_label).unwrap_or_default();
                rule.read(sample, namespace, &pod_label, &mut readings);
            }
            return Ok(readings);
        }
        for namespace in namespaces(objects) {
            let namespace = namespace.as_str();
            let target = Target {
                namespace: Some(namespace),
                extra_group: &[rule.container_label.as_str()],
                ..target
            };
            let query = rule.containers.for_objects("", &target, &everything, Names::All);
            let answer = self.ask(rule, query).await?;
            for sample in rule.vector(&answer)? {
                rule.read(sample, namespace, &pod_label, &mut readings);
            }
        }
        Ok(readings)
    }

    async fn ask(
        &self,
        rule: &Rule,
        query: Result<String, QueryError>,
    ) -> Result<Arc<Answer<Value>>, FeedError> {
        let place = rule.place;
        let query = query.map_err(|error| FeedError::Query { place, reason: error.to_string() })?;
        let answer = self.queries.ask(&query).await;
        answer.map_err(|error: Arc<AskFailure>| FeedError::Ask { place, reason: error.to_string() })
    }
}

impl Rule {
    fn new(config: &ResourceRule, place: &'static str) -> Result<Self, ConfigError> {
        let template = |source: &str, field: &str| {
            QueryTemplate::parse(source).map_err(|error| ConfigError::Value {
                place: format!("resourceRules.{place}.{field}"),
                reason: error.to_string(),
            })
        };
        if !model::is_legacy_label_name(&config.container_label) {
            return Err(ConfigError::Value {
                place: format!("resourceRules.{place}.containerLabel"),
                reason: format!("{:?} is not a label name", config.container_label),
            });
        }
        Ok(Self {
            place,
            containers: template(&config.container_query, "containerQuery")?,
            nodes: template(&config.node_query, "nodeQuery")?,
            labels: LabelMapping::new(
                &config.resources,
                &format!("resourceRules.{place}.resources"),
            )?,
            container_label: config.container_label.clone(),
        })
    }

    fn label(&self, resource: &ApiResource, map: &ResourceMap) -> Result<String, FeedError> {
        let label = self.labels.label(resource, map);
        label.map_err(|error| FeedError::Query { place: self.place, reason: error.to_string() })
    }

    fn vector<'a>(&self, answer: &'a Answer<Value>) -> Result<&'a [Sample], FeedError> {
        match &answer.value {
            Value::Vector(samples) => Ok(samples),
            other => Err(FeedError::Answer {
                place: self.place,
                reason: format!("the query gives a {} instead of a vector", other.type_name()),
            }),
        }
    }

    fn read(
        &self,
        sample: &Sample,
        namespace: &str,
        pod_label: &str,
        readings: &mut Readings<ContainerKey>,
    ) {
        let names = (sample.labels.get(pod_label), sample.labels.get(&self.container_label));
        if let ((Some(pod), Some(container)), Some(reading)) = (names, usable(sample)) {
            let key = (String::from(namespace), String::from(pod), String::from(container));
            readings.insert(key, reading);
        }
    }
}

/// The value of a sample and its time, if it can be an amount of something.
fn usable(sample: &Sample) -> Option<(f64, i64)> {
    let value = float(sample).ok()?;
    (value.is_finite() && value >= 0.0).then_some((value, sample.at))
}

fn resource<'m>(
    map: &'m ResourceMap,
    plural: &str,
    place: &'static str,
) -> Result<&'m ApiResource, FeedError> {
    let key = GroupResource { group: String::new(), resource: String::from(plural) };
    let reason = || format!("the cluster has no {plural}");
    map.get(&key).ok_or_else(|| FeedError::Query { place, reason: reason() })
}

/// The namespaces that have running pods.
fn namespaces(objects: &Objects) -> Vec<String> {
    let mut namespaces: Vec<String> = Vec::new();
    let _ = objects.visit_pods(None, None, |pod| {
        if namespaces.last().is_none_or(|last| **last != **pod.namespace) {
            namespaces.push(String::from(&**pod.namespace));
        }
        std::ops::ControlFlow::Continue(())
    });
    namespaces
}

impl std::fmt::Debug for ResourceFeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResourceFeed").field("window_ms", &self.window_ms).finish_non_exhaustive()
    }
}
