//! Watches nodes and running pods and keeps [`Objects`] and the [`Scraper`] in step.
//!
//! Of a node its labels, addresses, port, resources and one annotation are read, of a pod its labels, its node and its resources:
//! what the API server sends besides is dropped while it is parsed. Lists come in pages. A watch that breaks or expires is taken up again by `kube`; what was deleted
//! meanwhile shows by its absence from the next list.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::fmt::Debug;
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{ObjectMeta, PartialObjectMeta};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};
use serde::{Deserialize, Deserializer};
use telemetry::{IntCounter, IntCounterVec, Opts, Registry, register};
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh64::xxh64;

use super::resources::{PodSpecSummary, ResourceListSummary};
use super::{Labels, NodeAddress, NodeObject, Objects, PodFacts};
use crate::kubelet::{Endpoint, EndpointOptions, NodeStatus, PATH_ANNOTATION, Scraper};

/// Only pods that run have usage.
const RUNNING: &str = "status.phase=Running";

/// Addresses of one node that are kept.
const ADDRESSES_MAX: usize = 64;

/// Which part of pods is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PodWatch {
    /// All of it: says which node a pod is on, and what it asks for.
    #[default]
    Full,
    /// Metadata, as upstream: a fraction of the traffic. Pods then belong to the node that measures them.
    Metadata,
}

/// What of an object's metadata is read.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct MetaSummary {
    name: Option<String>,
    namespace: Option<String>,
    resource_version: Option<String>,
    creation_timestamp: Option<Time>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<PathAnnotation>,
}

/// The one annotation that is read: others may be large.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PathAnnotation {
    #[serde(rename = "metrics.k8s.io/resource-metrics-path")]
    path: Option<String>,
}

fn meta<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let meta = MetaSummary::deserialize(deserializer)?;
    let path = meta.annotations.and_then(|annotations| annotations.path);
    Ok(ObjectMeta {
        name: meta.name,
        namespace: meta.namespace,
        resource_version: meta.resource_version,
        creation_timestamp: meta.creation_timestamp,
        labels: meta.labels,
        annotations: path.map(|path| BTreeMap::from([(String::from(PATH_ANNOTATION), path)])),
        ..ObjectMeta::default()
    })
}

fn milliseconds(created: Option<Time>) -> i64 {
    created.map_or(0, |time| time.0.as_millisecond())
}

/// What of a pod is read.
#[derive(Clone, Debug, Deserialize)]
struct PodSummary {
    #[serde(default, deserialize_with = "meta")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: PodSpecSummary,
}

/// What of a node is read.
#[derive(Clone, Debug, Deserialize)]
struct NodeSummary {
    #[serde(default, deserialize_with = "meta")]
    metadata: ObjectMeta,
    #[serde(default)]
    status: NodeStatusSummary,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NodeStatusSummary {
    addresses: Option<Vec<Address>>,
    allocatable: Option<ResourceListSummary>,
    daemon_endpoints: DaemonEndpoints,
}

#[derive(Clone, Debug, Deserialize)]
struct Address {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DaemonEndpoints {
    kubelet_endpoint: DaemonEndpoint,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct DaemonEndpoint {
    port: i32,
}

/// A resource of the core group of which a part is read.
macro_rules! core_resource {
    ($summary:ty, $scope:ty, $kind:literal, $plural:literal) => {
        impl Resource for $summary {
            type DynamicType = ();
            type Scope = $scope;

            fn kind(_: &()) -> Cow<'_, str> {
                Cow::Borrowed($kind)
            }

            fn group(_: &()) -> Cow<'_, str> {
                Cow::Borrowed("")
            }

            fn version(_: &()) -> Cow<'_, str> {
                Cow::Borrowed("v1")
            }

            fn plural(_: &()) -> Cow<'_, str> {
                Cow::Borrowed($plural)
            }

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

core_resource!(NodeSummary, k8s_openapi::ClusterResourceScope, "Node", "nodes");
core_resource!(PodSummary, k8s_openapi::NamespaceResourceScope, "Pod", "pods");

/// Watches the API server and tells [`Objects`] and the [`Scraper`].
#[derive(Debug)]
pub struct Informers {
    /// What is known of the cluster.
    pub objects: Arc<Objects>,
    /// Who asks the nodes.
    pub scraper: Arc<Scraper>,
    /// How nodes are asked.
    pub endpoints: EndpointOptions,
    /// Label selector of the nodes that count; all if empty.
    pub node_selector: String,
    /// Which part of pods is asked for.
    pub pod_watch: PodWatch,
    watch_errors: IntCounterVec,
}

impl Informers {
    /// Informers that have not started. Their metrics are registered with `registry`.
    #[must_use]
    pub fn new(
        objects: Arc<Objects>,
        scraper: Arc<Scraper>,
        endpoints: EndpointOptions,
        node_selector: String,
        pod_watch: PodWatch,
        registry: &Registry,
    ) -> Self {
        let watch_errors = register(
            registry,
            IntCounterVec::new(
                Opts::new(
                    "metrics_server_watch_errors_total",
                    "Lists and watches of the API server that failed or broke.",
                ),
                &["resource"],
            ),
        );
        Self { objects, scraper, endpoints, node_selector, pod_watch, watch_errors }
    }

    /// Watches until `shutdown`.
    pub async fn run(self, client: Client, shutdown: CancellationToken) {
        let mut nodes = watcher::Config::default();
        if !self.node_selector.is_empty() {
            nodes = nodes.labels(&self.node_selector);
        }
        let nodes = watcher(Api::<NodeSummary>::all(client.clone()), nodes);
        let config = watcher::Config::default().fields(RUNNING);
        let errors = self.watch_errors.with_label_values(&["pods"]);
        let feed = PodFeed::new(&self);
        let pods = async {
            match self.pod_watch {
                PodWatch::Full => {
                    follow(watcher(Api::<PodSummary>::all(client), config), feed, errors).await;
                }
                PodWatch::Metadata => {
                    let pods = Api::<PartialObjectMeta<Pod>>::all(client);
                    follow(watcher(pods, config), feed, errors).await;
                }
            }
        };
        let errors = self.watch_errors.with_label_values(&["nodes"]);
        let watching = async { tokio::join!(follow(nodes, NodeFeed::new(&self), errors), pods) };
        tokio::select! {
            () = shutdown.cancelled() => {}
            _ = watching => {}
        }
    }
}

/// Takes what a watch says.
trait Feed<K> {
    /// What is watched, for messages.
    const RESOURCE: &'static str;
    /// A list begins.
    fn begin(&mut self);
    /// An object exists; `listed` if a list says so.
    fn apply(&mut self, object: K, listed: bool);
    /// An object is gone.
    fn delete(&mut self, object: K);
    /// The list is complete: what was not in it is gone.
    fn end(&mut self);
}

async fn follow<K, F: Feed<K>>(
    events: impl Stream<Item = watcher::Result<Event<K>>>,
    mut feed: F,
    errors: IntCounter,
) where
    K: Resource + Clone + Debug + Send + 'static,
{
    let mut events = pin!(events.default_backoff());
    let mut failing = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => feed.begin(),
            Ok(Event::InitApply(object)) => feed.apply(object, true),
            Ok(Event::Apply(object)) => feed.apply(object, false),
            Ok(Event::Delete(object)) => feed.delete(object),
            Ok(Event::InitDone) => {
                feed.end();
                if std::mem::take(&mut failing) {
                    tracing::info!(resource = F::RESOURCE, "watching works again");
                }
            }
            Err(error) => {
                errors.inc();
                failing = true;
                tracing::warn!(resource = F::RESOURCE, %error, "watching failed and will be tried again");
            }
        }
    }
}

struct NodeFeed<'a> {
    informers: &'a Informers,
    listed: HashSet<String>,
}

impl<'a> NodeFeed<'a> {
    fn new(informers: &'a Informers) -> Self {
        Self { informers, listed: HashSet::new() }
    }

    fn remove(&self, name: &str) {
        self.informers.objects.remove_node(name);
        self.informers.scraper.remove(name);
    }
}

impl Feed<NodeSummary> for NodeFeed<'_> {
    const RESOURCE: &'static str = "nodes";

    fn begin(&mut self) {
        self.listed.clear();
    }

    fn apply(&mut self, node: NodeSummary, listed: bool) {
        let Some(name) = node.metadata.name else { return };
        let mut addresses = node.status.addresses.unwrap_or_default();
        addresses.truncate(ADDRESSES_MAX);
        let addresses: Vec<_> =
            addresses.into_iter().map(|a| (Box::from(a.kind), Box::from(a.address))).collect();
        let kubelet_port = u16::try_from(node.status.daemon_endpoints.kubelet_endpoint.port).ok();
        let kubelet_port = kubelet_port.filter(|port| *port > 0);
        let annotations = node.metadata.annotations.unwrap_or_default();
        let status = NodeStatus {
            addresses: &addresses,
            kubelet_port,
            path_annotation: annotations.get(PATH_ANNOTATION).map(String::as_str),
        };
        self.informers.scraper.upsert(&name, Endpoint::of(status, &self.informers.endpoints));
        let labels = node.metadata.labels.unwrap_or_default();
        self.informers.objects.upsert_node(NodeObject {
            name: Box::from(name.as_str()),
            labels: Labels::new(labels.iter().map(|(key, value)| (key.as_str(), value.as_str()))),
            addresses: addresses
                .into_iter()
                .map(|(kind, address)| NodeAddress { kind, address })
                .collect(),
            kubelet_port,
            allocatable: node.status.allocatable.map(|list| list.amounts()).unwrap_or_default(),
            created_ms: milliseconds(node.metadata.creation_timestamp),
        });
        if listed {
            self.listed.insert(name);
        }
    }

    fn delete(&mut self, node: NodeSummary) {
        if let Some(name) = node.metadata.name {
            self.remove(&name);
        }
    }

    fn end(&mut self) {
        for node in self.informers.objects.nodes() {
            if !self.listed.contains(&*node.name) {
                self.remove(&node.name);
            }
        }
        self.listed = HashSet::new();
        self.informers.objects.set_nodes_synced();
    }
}

struct PodFeed<'a> {
    objects: &'a Objects,
    /// Hashes of the pods of a list; names would be ten times as large. Two that collide would make a deleted pod stay until the
    /// list after.
    listed: HashSet<u64>,
}

impl<'a> PodFeed<'a> {
    fn new(informers: &'a Informers) -> Self {
        Self { objects: &informers.objects, listed: HashSet::new() }
    }
}

fn hash(namespace: &str, name: &str) -> u64 {
    xxh64(name.as_bytes(), xxh64(namespace.as_bytes(), 0))
}

impl Feed<PodSummary> for PodFeed<'_> {
    const RESOURCE: &'static str = "pods";

    fn begin(&mut self) {
        self.listed.clear();
    }

    fn apply(&mut self, pod: PodSummary, listed: bool) {
        let facts = PodFacts {
            node: pod.spec.node_name.as_deref().unwrap_or_default(),
            created_ms: 0,
            resources: Some(pod.spec.resources()),
        };
        self.upsert(pod.metadata, facts, listed);
    }

    fn delete(&mut self, pod: PodSummary) {
        self.remove(&pod.metadata);
    }

    fn end(&mut self) {
        self.forget_unlisted();
    }
}

impl Feed<PartialObjectMeta<Pod>> for PodFeed<'_> {
    const RESOURCE: &'static str = "pods";

    fn begin(&mut self) {
        self.listed.clear();
    }

    fn apply(&mut self, pod: PartialObjectMeta<Pod>, listed: bool) {
        self.upsert(pod.metadata, PodFacts::default(), listed);
    }

    fn delete(&mut self, pod: PartialObjectMeta<Pod>) {
        self.remove(&pod.metadata);
    }

    fn end(&mut self) {
        self.forget_unlisted();
    }
}

impl PodFeed<'_> {
    /// The filter of the watch says that it runs.
    fn upsert(&mut self, meta: ObjectMeta, facts: PodFacts<'_>, listed: bool) {
        let (Some(namespace), Some(name)) = (meta.namespace, meta.name) else { return };
        let labels = meta.labels.unwrap_or_default();
        let labels = labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let facts = PodFacts { created_ms: milliseconds(meta.creation_timestamp), ..facts };
        self.objects.upsert_pod(&namespace, &name, labels, facts);
        if listed {
            self.listed.insert(hash(&namespace, &name));
        }
    }

    fn remove(&self, meta: &ObjectMeta) {
        if let (Some(namespace), Some(name)) = (&meta.namespace, &meta.name) {
            self.objects.remove_pod(namespace, name);
        }
    }

    fn forget_unlisted(&mut self) {
        let mut gone = Vec::new();
        let _ = self.objects.visit_pods(None, None, |pod| {
            if !self.listed.contains(&hash(pod.namespace, pod.name)) {
                gone.push((Arc::clone(pod.namespace), Arc::clone(pod.name)));
            }
            ControlFlow::Continue(())
        });
        for (namespace, name) in gone {
            self.objects.remove_pod(&namespace, &name);
        }
        self.listed = HashSet::new();
        self.objects.set_pods_synced();
    }
}
