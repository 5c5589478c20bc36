//! An index of the cluster's nodes and running pods: just what selecting and showing them needs.
//!
//! Kept small, since a large cluster has 150,000 pods: sets of labels are interned (the pods of
//! a workload share one), as are the names of nodes and what pods ask for.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use metrics_api::Resource;
use parking_lot::{RwLock, RwLockWriteGuard};
use tokio::sync::watch;

use super::interner::Interner;
use super::resources::{Amounts, PodResources};
use crate::store::{Removed, Revision};

/// The labels of an object, ordered by key; cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Labels(Arc<str>);

/// Keys and values are each preceded by their length as one character: reading them needs no
/// search. The largest length that is a character; Kubernetes allows 317 bytes.
const TEXT_BYTES_MAX: usize = 0xD7FF;

impl Labels {
    /// The labels in `pairs`; of a key that is given twice the last value counts.
    #[must_use]
    pub fn new<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self(encode(pairs).into())
    }

    /// Keys and values, ordered by key.
    pub fn iter(&self) -> Pairs<'_> {
        Pairs(&self.0)
    }

    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(k, _)| *k == key).map(|(_, value)| value)
    }

    /// Whether both are the same in memory; interned sets that are equal are.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Where the labels are in memory, as a key for what was found out about an interned set.
    #[must_use]
    pub fn address(&self) -> usize {
        self.0.as_ptr().addr()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The keys and values of [`Labels`].
#[derive(Clone, Debug)]
pub struct Pairs<'a>(&'a str);

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        Some((self.text()?, self.text()?))
    }
}

impl<'a> Pairs<'a> {
    fn text(&mut self) -> Option<&'a str> {
        let mut rest = self.0.chars();
        let len = rest.next()? as usize;
        let (text, rest) = rest.as_str().split_at_checked(len)?;
        self.0 = rest;
        Some(text)
    }
}

impl std::fmt::Debug for Labels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

fn encode<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let sorted: BTreeMap<&str, &str> = pairs.into_iter().collect();
    let mut text = String::new();
    for (key, value) in sorted {
        let is_short = key.len() <= TEXT_BYTES_MAX && value.len() <= TEXT_BYTES_MAX;
        for part in [key, value].iter().filter(|_| is_short) {
            text.extend(u32::try_from(part.len()).ok().and_then(char::from_u32));
            text.push_str(part);
        }
    }
    text
}

/// An address that a node says it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeAddress {
    /// `Hostname`, `InternalIP`, `InternalDNS`, `ExternalIP` or `ExternalDNS`.
    pub kind: Box<str>,
    /// The name or the address.
    pub address: Box<str>,
}

/// What is kept of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeObject {
    /// The name of the node.
    pub name: Box<str>,
    /// Its labels.
    pub labels: Labels,
    /// Its addresses, in the order of its status.
    pub addresses: Vec<NodeAddress>,
    /// The port of its kubelet, from `status.daemonEndpoints`.
    pub kubelet_port: Option<u16>,
    /// What pods may use of it.
    pub allocatable: Amounts,
    /// When it was created, in milliseconds since the epoch; 0 if that is not known.
    pub created_ms: i64,
}

/// What is known of a running pod beside its name and labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodFacts<'a> {
    /// The node that it is bound to; empty if that is not known: then it is placed where it is measured.
    pub node: &'a str,
    /// When it was created, in milliseconds since the epoch; 0 if that is not known.
    pub created_ms: i64,
    /// What it asks for and may use, if that is known.
    pub resources: Option<PodResources>,
}

#[derive(Debug)]
struct Pod {
    labels: Labels,
    node: Arc<str>,
    resources: Option<Arc<PodResources>>,
    created_ms: i64,
    /// Whether the API said which node it is on, rather than a measurement.
    bound: bool,
}

type Pods = BTreeMap<Arc<str>, Pod>;

#[derive(Debug, Default)]
struct Index {
    nodes: BTreeMap<Box<str>, Arc<NodeObject>>,
    namespaces: BTreeMap<Arc<str>, Pods>,
    pods: usize,
    texts: Interner<str>,
    resources: Interner<PodResources>,
}

/// A running pod.
#[derive(Clone, Copy, Debug)]
pub struct PodView<'a> {
    /// Its namespace.
    pub namespace: &'a Arc<str>,
    /// Its name.
    pub name: &'a Arc<str>,
    /// Its labels, interned.
    pub labels: &'a Labels,
    /// The node that it is bound to, or else that measured it; empty before.
    pub node: &'a Arc<str>,
    /// What it asks for and may use, if that is known.
    pub resources: Option<&'a Arc<PodResources>>,
    /// When it was created, in milliseconds since the epoch.
    pub created_ms: i64,
}

/// A node.
pub type NodeView<'a> = &'a Arc<NodeObject>;

/// The nodes and running pods of the cluster. Fed by the informers, read by the API.
#[derive(Debug)]
pub struct Objects {
    index: RwLock<Index>,
    nodes_synced: AtomicBool,
    pods_synced: AtomicBool,
    revision: Arc<Revision>,
    /// The revisions at which a node and a pod last went away or changed its labels.
    removed: Removed,
    changes: watch::Sender<u64>,
}

impl Objects {
    /// Nothing yet. `revision` is the store's.
    #[must_use]
    pub fn new(revision: Arc<Revision>) -> Self {
        Self {
            index: RwLock::default(),
            nodes_synced: AtomicBool::new(false),
            pods_synced: AtomicBool::new(false),
            revision,
            removed: Removed::default(),
            changes: watch::Sender::new(0),
        }
    }

    /// Adds a node or replaces what is known of it.
    pub fn upsert_node(&self, node: NodeObject) {
        let name = node.name.clone();
        let node = Arc::new(node);
        let mut index = self.index.write();
        let old = index.nodes.insert(name, Arc::clone(&node));
        match old {
            Some(old) if old.labels == node.labels => {}
            Some(_) => self.changed(&index, Resource::Nodes, true),
            None => self.changed(&index, Resource::Nodes, false),
        }
    }

    /// Removes a node.
    pub fn remove_node(&self, name: &str) {
        let mut index = self.index.write();
        if index.nodes.remove(name).is_some() {
            self.changed(&index, Resource::Nodes, true);
        }
    }

    /// Adds a running pod or replaces what is known of it.
    pub fn upsert_pod<'a>(
        &self,
        namespace: &str,
        name: &str,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
        facts: PodFacts<'_>,
    ) {
        let labels = encode(labels);
        let mut index = self.index.write();
        if let Some(relabelled) = index.upsert_pod(namespace, name, &labels, facts) {
            self.changed(&index, Resource::Pods, relabelled);
        }
    }

    /// Says that `pods`, by namespace and name, were measured on `node`. Pods that are not known are left out: the next
    /// measurement places them. So are pods of which the API says where they are. Nor is a pod moved while `serves` says that its usage is known from the node that it is on,
    /// given that node, the namespace and the name: a kubelet must not take over what another measures. `serves` is called
    /// while the index cannot change, so it must be brief and not call back.
    pub fn place_pods<'a>(
        &self,
        node: &str,
        pods: impl IntoIterator<Item = (&'a str, &'a str)>,
        serves: impl Fn(&str, &str, &str) -> bool,
    ) {
        let may_move = |index: &Index, namespace: &str, name: &str| {
            let Some(pod) = index.pod(namespace, name) else { return false };
            if *pod.node == *node {
                return false;
            }
            let is_served = pod.bound || !pod.node.is_empty() && serves(&pod.node, namespace, name);
            if is_served {
                tracing::debug!(
                    namespace,
                    pod = name,
                    on = &*pod.node,
                    claimed_by = node,
                    "pod stays"
                );
            }
            !is_served
        };
        let moved: Vec<_> = {
            let index = self.index.read();
            pods.into_iter().filter(|(namespace, name)| may_move(&index, namespace, name)).collect()
        };
        if moved.is_empty() {
            return;
        }
        let mut index = self.index.write();
        for (namespace, name) in moved {
            // It may have gone, or be served, meanwhile.
            if may_move(&index, namespace, name) {
                index.place_pod(namespace, name, node);
            }
        }
    }

    /// Removes a pod.
    pub fn remove_pod(&self, namespace: &str, name: &str) {
        let mut index = self.index.write();
        if index.remove_pod(namespace, name) {
            self.changed(&index, Resource::Pods, true);
        }
    }

    /// Counts a change. The index is still locked for it, so that whoever knows the revision waits for what it stands for.
    fn changed(&self, _locked: &RwLockWriteGuard<'_, Index>, resource: Resource, removed: bool) {
        let revision = self.revision.next();
        if removed {
            self.removed.set(resource, revision);
        }
        self.changes.send_replace(revision);
    }

    /// Says that all nodes that exist were added once.
    pub fn set_nodes_synced(&self) {
        self.nodes_synced.store(true, Ordering::Release);
    }

    /// Says that all pods that exist were added once.
    pub fn set_pods_synced(&self) {
        self.pods_synced.store(true, Ordering::Release);
    }

    /// Whether all nodes that exist are known.
    #[must_use]
    pub fn nodes_synced(&self) -> bool {
        self.nodes_synced.load(Ordering::Acquire)
    }

    /// Whether all pods that exist are known.
    #[must_use]
    pub fn pods_synced(&self) -> bool {
        self.pods_synced.load(Ordering::Acquire)
    }

    /// Tells of the revision of each change.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The revision at or after which no node, or no pod, went away or changed its labels.
    #[must_use]
    pub fn complete_since(&self, resource: Resource) -> u64 {
        self.removed.last(resource)
    }

    /// All nodes, ordered by name.
    #[must_use]
    pub fn nodes(&self) -> Vec<Arc<NodeObject>> {
        self.index.read().nodes.values().map(Arc::clone).collect()
    }

    /// The node `name`.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<Arc<NodeObject>> {
        self.index.read().nodes.get(name).map(Arc::clone)
    }

    /// How many running pods there are.
    #[must_use]
    pub fn pods_len(&self) -> usize {
        self.index.read().pods
    }

    /// Shows the nodes after the name `after`, in order, until `visit` breaks. The index cannot
    /// change meanwhile, so `visit` must be brief.
    pub fn visit_nodes(
        &self,
        after: Option<&str>,
        mut visit: impl FnMut(NodeView<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let index = self.index.read();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        index.nodes.range::<str, _>((from, Bound::Unbounded)).try_for_each(|(_, node)| visit(node))
    }

    /// Shows the pods of `namespace`, or of all, after the namespace and name `after`, in order,
    /// until `visit` breaks. The index cannot change meanwhile, so `visit` must be brief.
    pub fn visit_pods(
        &self,
        namespace: Option<&str>,
        after: Option<(&str, &str)>,
        mut visit: impl FnMut(PodView<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let index = self.index.read();
        let first = match (namespace, after) {
            (Some(namespace), _) | (None, Some((namespace, _))) => Bound::Included(namespace),
            (None, None) => Bound::Unbounded,
        };
        let last = namespace.map_or(Bound::Unbounded, Bound::Included);
        for (namespace, pods) in index.namespaces.range::<str, _>((first, last)) {
            let from = match after {
                Some((at, name)) if at == &**namespace => Bound::Excluded(name),
                _ => Bound::Unbounded,
            };
            for (name, pod) in pods.range::<str, _>((from, Bound::Unbounded)) {
                visit(pod.view(namespace, name))?;
            }
        }
        ControlFlow::Continue(())
    }

    /// Shows the pod `name` of `namespace` if it runs.
    pub fn with_pod<R>(
        &self,
        namespace: &str,
        name: &str,
        show: impl FnOnce(PodView<'_>) -> R,
    ) -> Option<R> {
        let index = self.index.read();
        let (namespace, pods) = index.namespaces.get_key_value(namespace)?;
        let (name, pod) = pods.get_key_value(name)?;
        Some(show(pod.view(namespace, name)))
    }
}

impl Pod {
    fn view<'a>(&'a self, namespace: &'a Arc<str>, name: &'a Arc<str>) -> PodView<'a> {
        PodView {
            namespace,
            name,
            labels: &self.labels,
            node: &self.node,
            resources: self.resources.as_ref(),
            created_ms: self.created_ms,
        }
    }
}

impl Index {
    fn pod(&self, namespace: &str, name: &str) -> Option<&Pod> {
        self.namespaces.get(namespace)?.get(name)
    }

    fn place_pod(&mut self, namespace: &str, name: &str, node: &str) {
        let node = self.texts.intern(node);
        let pods = self.namespaces.get_mut(namespace);
        if let Some(pod) = pods.and_then(|pods| pods.get_mut(name)) {
            let old = std::mem::replace(&mut pod.node, node);
            self.texts.release(old);
        }
    }

    /// Whether the labels of a known pod changed; nothing if neither they nor its node did.
    fn upsert_pod(
        &mut self,
        namespace: &str,
        name: &str,
        labels: &str,
        facts: PodFacts<'_>,
    ) -> Option<bool> {
        let PodFacts { node, created_ms, resources } = facts;
        let bound = !node.is_empty();
        if let Some(pod) = self.namespaces.get_mut(namespace).and_then(|pods| pods.get_mut(name))
            && *pod.labels.0 == *labels
            && (!bound || *pod.node == *node)
        {
            pod.created_ms = created_ms;
            pod.bound |= bound;
            if pod.resources.as_deref() != resources.as_ref() {
                let resources = resources.map(|resources| self.resources.intern(resources));
                if let Some(old) = std::mem::replace(&mut pod.resources, resources) {
                    self.resources.release(old);
                }
            }
            return None;
        }
        let known = self.pod(namespace, name).map(|pod| (Arc::clone(&pod.node), pod.bound));
        let (node, bound) = match known {
            Some(known) if !bound => known,
            _ => (self.texts.intern(node), bound),
        };
        let resources = resources.map(|resources| self.resources.intern(resources));
        let labels = Labels(self.texts.intern(labels));
        let pod = Pod { labels, node, resources, created_ms, bound };
        let pods = match self.namespaces.get_mut(namespace) {
            Some(pods) => pods,
            None => self.namespaces.entry(namespace.into()).or_default(),
        };
        match pods.entry(name.into()) {
            Entry::Vacant(entry) => {
                entry.insert(pod);
                self.pods += 1;
                Some(false)
            }
            Entry::Occupied(mut entry) => {
                let old = entry.insert(pod);
                let relabelled = !old.labels.is_same(&entry.get().labels);
                self.release(old);
                Some(relabelled)
            }
        }
    }

    fn remove_pod(&mut self, namespace: &str, name: &str) -> bool {
        let Some(pods) = self.namespaces.get_mut(namespace) else { return false };
        let Some(pod) = pods.remove(name) else { return false };
        if pods.is_empty() {
            self.namespaces.remove(namespace);
        }
        self.pods -= 1;
        self.release(pod);
        true
    }

    fn release(&mut self, pod: Pod) {
        self.texts.release(pod.labels.0);
        self.texts.release(pod.node);
        if let Some(resources) = pod.resources {
            self.resources.release(resources);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects() -> Objects {
        Objects::new(Arc::new(Revision::default()))
    }

    fn on(node: &str) -> PodFacts<'_> {
        PodFacts { node, created_ms: 1, resources: None }
    }

    fn add(objects: &Objects, namespace: &str, name: &str, labels: &[(&str, &str)]) {
        objects.upsert_pod(namespace, name, labels.iter().copied(), on("n1"));
    }

    fn list(
        objects: &Objects,
        namespace: Option<&str>,
        after: Option<(&str, &str)>,
    ) -> Vec<String> {
        let mut found = Vec::new();
        let _ = objects.visit_pods(namespace, after, |pod| {
            found.push(format!("{}/{}", pod.namespace, pod.name));
            ControlFlow::Continue(())
        });
        found
    }

    #[test]
    fn pods_are_visited_in_the_order_of_namespace_and_name() {
        let objects = objects();
        for (namespace, name) in [("b", "x"), ("a", "z"), ("ab", "q"), ("a", "y"), ("b", "w")] {
            add(&objects, namespace, name, &[]);
        }
        assert_eq!(list(&objects, None, None), ["a/y", "a/z", "ab/q", "b/w", "b/x"]);
        assert_eq!(list(&objects, Some("b"), None), ["b/w", "b/x"]);
        assert_eq!(list(&objects, Some("c"), None), [""; 0]);
        assert_eq!(list(&objects, None, Some(("a", "z"))), ["ab/q", "b/w", "b/x"]);
        assert_eq!(list(&objects, None, Some(("aa", "zz"))), ["ab/q", "b/w", "b/x"]);
        assert_eq!(list(&objects, Some("b"), Some(("b", "w"))), ["b/x"]);
        objects.remove_pod("ab", "q");
        objects.remove_pod("b", "x");
        assert_eq!(list(&objects, None, None), ["a/y", "a/z", "b/w"]);
        assert_eq!(objects.pods_len(), 3);
    }

    #[test]
    fn labels_are_ordered_and_found() {
        let labels = Labels::new([("b", ""), ("a", "1"), ("c", "x"), ("a", "2")]);
        let pairs: Vec<_> = labels.iter().collect();
        assert_eq!(pairs, [("a", "2"), ("b", ""), ("c", "x")]);
        assert_eq!((labels.get("b"), labels.get("d")), (Some(""), None));
        assert!(Labels::new([]).is_empty());
        assert_eq!(Labels::new([]).iter().count(), 0);
        let long = "v".repeat(300);
        for (key, value) in [("k\0", "\0v"), ("ключ", long.as_str()), ("", "")] {
            let labels = Labels::new([(key, value), ("l", "w")]);
            assert_eq!((labels.get(key), labels.get("l")), (Some(value), Some("w")));
            assert_eq!(labels.iter().count(), 2);
        }
        let endless = "v".repeat(TEXT_BYTES_MAX + 1);
        assert!(Labels::new([("k", endless.as_str())]).is_empty());
    }

    #[test]
    fn equal_sets_of_labels_are_kept_once_and_released_with_the_last_pod() {
        let objects = objects();
        add(&objects, "a", "x", &[("app", "web")]);
        add(&objects, "b", "y", &[("app", "web")]);
        let labels = |namespace, name| objects.with_pod(namespace, name, |pod| pod.labels.clone());
        assert!(labels("a", "x").unwrap().is_same(&labels("b", "y").unwrap()));
        // The set of labels and the name of the node.
        assert_eq!(objects.index.read().texts.len(), 2);
        objects.remove_pod("a", "x");
        assert_eq!(objects.index.read().texts.len(), 2);
        add(&objects, "b", "y", &[("app", "db")]);
        assert_eq!(labels("b", "y").unwrap().get("app"), Some("db"));
        assert_eq!(objects.index.read().texts.len(), 2);
        objects.remove_pod("b", "y");
        assert_eq!(objects.index.read().texts.len(), 0);
        assert!(objects.index.read().namespaces.is_empty());
    }

    #[test]
    fn pods_are_placed_where_they_were_measured() {
        let objects = objects();
        let node = |name| objects.with_pod("a", name, |pod| pod.node.to_string());
        objects.upsert_pod("a", "x", [("app", "web")], on(""));
        assert_eq!(node("x").as_deref(), Some(""));
        let nobody = |_: &str, _: &str, _: &str| false;
        objects.place_pods("n1", [("a", "x"), ("a", "unknown"), ("b", "x")], nobody);
        assert_eq!((node("x").as_deref(), node("unknown")), (Some("n1"), None));
        // Metadata does not say where a pod is, so it does not move it.
        objects.upsert_pod("a", "x", [("app", "db")], on(""));
        assert_eq!(node("x").as_deref(), Some("n1"));
        // Nobody takes over what another node still measures.
        objects.place_pods("n2", [("a", "x")], |node, namespace, name| {
            (node, namespace, name) == ("n1", "a", "x")
        });
        assert_eq!(node("x").as_deref(), Some("n1"));
        objects.place_pods("n2", [("a", "x")], nobody);
        assert_eq!(node("x").as_deref(), Some("n2"));
        objects.remove_pod("a", "x");
        assert_eq!(objects.index.read().texts.len(), 0);
    }

    #[test]
    fn a_pod_stays_where_the_api_says_that_it_is() {
        let objects = objects();
        let node = || objects.with_pod("a", "x", |pod| pod.node.to_string()).unwrap();
        let nobody = |_: &str, _: &str, _: &str| false;
        objects.upsert_pod("a", "x", [], on(""));
        objects.place_pods("liar", [("a", "x")], nobody);
        assert_eq!(node(), "liar", "nobody knows better");
        objects.upsert_pod("a", "x", [], on("n1"));
        assert_eq!(node(), "n1");
        objects.place_pods("liar", [("a", "x")], nobody);
        assert_eq!(node(), "n1", "although n1 has not measured it yet");
        // The same from a list of metadata alone.
        objects.upsert_pod("a", "x", [("app", "web")], on(""));
        objects.place_pods("liar", [("a", "x")], nobody);
        assert_eq!(node(), "n1");
    }

    #[test]
    fn what_pods_ask_for_is_kept_once() {
        let objects = objects();
        let facts = |cpu_milli| {
            let requests = Amounts { cpu_milli: Some(cpu_milli), memory_bytes: None };
            let resources = PodResources { requests, ..PodResources::default() };
            PodFacts { resources: Some(resources), ..on("n1") }
        };
        objects.upsert_pod("a", "x", [], facts(100));
        objects.upsert_pod("a", "y", [], facts(100));
        assert_eq!(objects.index.read().resources.len(), 1);
        // A pod that is resized.
        objects.upsert_pod("a", "y", [], facts(200));
        let asks = |name| {
            objects.with_pod("a", name, |pod| pod.resources.unwrap().requests.cpu_milli).unwrap()
        };
        assert_eq!((asks("x"), asks("y")), (Some(100), Some(200)));
        objects.remove_pod("a", "x");
        objects.remove_pod("a", "y");
        assert_eq!(objects.index.read().resources.len(), 0);
    }

    #[test]
    fn only_losses_and_new_labels_move_the_revision_of_completeness() {
        let objects = objects();
        add(&objects, "a", "x", &[("app", "web")]);
        assert_eq!((objects.complete_since(Resource::Pods), objects.revision.current()), (0, 1));
        add(&objects, "a", "x", &[("app", "web")]);
        assert_eq!((objects.complete_since(Resource::Pods), objects.revision.current()), (0, 1));
        add(&objects, "a", "x", &[("app", "db")]);
        assert_eq!((objects.complete_since(Resource::Pods), objects.revision.current()), (2, 2));
        objects.remove_pod("a", "none");
        assert_eq!(objects.complete_since(Resource::Pods), 2);
        objects.remove_pod("a", "x");
        assert_eq!(objects.complete_since(Resource::Pods), 3);
        // What is told of nodes is still complete.
        assert_eq!(objects.complete_since(Resource::Nodes), 0);
    }
}
