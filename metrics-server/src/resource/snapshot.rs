//! What a request selects, as it is at one moment.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use foldhash::fast::RandomState;
use metrics_api::{FieldSelector, Item, LabelSelector, Resource, Status};

use super::ResourceState;
use super::output::Output;
use crate::cluster::{Labels, NodeObject, PodView};
use crate::store::{NodeState, NodeUsage, Store};

/// Selecting among more pods than this is not done on a thread that other requests wait for.
const INLINE_PODS_MAX: usize = 10_000;

/// What a request selects.
#[derive(Clone, Debug)]
pub(super) struct Selection {
    pub(super) namespace: Option<String>,
    pub(super) labels: LabelSelector,
    pub(super) fields: FieldSelector,
}

/// A node or pod that has a usage, with what its representation is made of.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    Node { object: Arc<NodeObject>, usage: NodeUsage, revision: u64 },
    Pod(PodEntry),
}

#[derive(Clone, Debug)]
pub(super) struct PodEntry {
    namespace: Arc<str>,
    name: Arc<str>,
    labels: Labels,
    state: Arc<NodeState>,
    at: u32,
}

/// When a representation is made, and of which version it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) now_ms: i64,
    pub(super) resource_version: Option<u64>,
}

impl Entry {
    pub(super) fn namespace(&self) -> &str {
        match self {
            Self::Node { .. } => "",
            Self::Pod(pod) => &pod.namespace,
        }
    }

    pub(super) fn name(&self) -> &str {
        match self {
            Self::Node { object, .. } => &object.name,
            Self::Pod(pod) => &pod.name,
        }
    }

    pub(super) fn labels(&self) -> &Labels {
        match self {
            Self::Node { object, .. } => &object.labels,
            Self::Pod(pod) => &pod.labels,
        }
    }

    /// When it was measured, in milliseconds since the epoch, and the window.
    pub(super) fn measured(&self) -> Option<(i64, i64)> {
        match self {
            Self::Node { usage, .. } => Some((usage.at_ms, usage.window_ms)),
            Self::Pod(pod) => pod.state.pod_at(pod.at).map(|usage| (usage.at_ms, usage.window_ms)),
        }
    }

    /// The revision at which it was recorded.
    pub(super) fn revision(&self) -> u64 {
        match self {
            Self::Node { revision, .. } => *revision,
            Self::Pod(pod) => pod.state.revision(),
        }
    }

    /// Appends it as an item of a list, or by itself.
    pub(super) fn write(&self, out: &mut Vec<u8>, output: Output, moment: Moment, in_list: bool) {
        let created_s = moment.now_ms.div_euclid(1000);
        match self {
            Self::Node { object, usage, .. } => {
                let item = Item {
                    namespace: "",
                    name: &object.name,
                    resource_version: moment.resource_version,
                    created_s,
                    labels: object.labels.iter(),
                    at_s: usage.at_ms.div_euclid(1000),
                    window_ms: usage.window_ms,
                    usages: std::iter::once(("", usage.usage)),
                };
                if in_list {
                    output.write_list_item(out, Resource::Nodes, &item);
                } else {
                    output.write_object(out, Resource::Nodes, &item);
                }
            }
            Self::Pod(pod) => {
                let Some(usage) = pod.state.pod_at(pod.at) else { return };
                let item = Item {
                    namespace: &pod.namespace,
                    name: &pod.name,
                    resource_version: moment.resource_version,
                    created_s,
                    labels: pod.labels.iter(),
                    at_s: usage.at_ms.div_euclid(1000),
                    window_ms: usage.window_ms,
                    usages: usage.containers(),
                };
                if in_list {
                    output.write_list_item(out, Resource::Pods, &item);
                } else {
                    output.write_object(out, Resource::Pods, &item);
                }
            }
        }
    }

    /// Whether its usage includes swap.
    pub(super) fn has_swap(&self) -> bool {
        match self {
            Self::Node { usage, .. } => usage.usage.swap_bytes.is_some(),
            Self::Pod(pod) => pod
                .state
                .pod_at(pod.at)
                .is_some_and(|usage| usage.containers().any(|(_, u)| u.swap_bytes.is_some())),
        }
    }
}

impl ResourceState {
    /// The selected objects that have a usage, ordered by namespace and name.
    ///
    /// # Errors
    /// 500: selecting failed.
    pub(super) async fn select(
        &self,
        resource: Resource,
        selection: &Arc<Selection>,
        now_ms: i64,
    ) -> Result<Vec<Entry>, Status> {
        if resource == Resource::Nodes {
            return Ok(self.select_nodes(selection, now_ms));
        }
        let selection = Arc::clone(selection);
        let is_one_namespace = selection.namespace.is_some();
        self.look_through_pods(is_one_namespace, move |state| state.select_pods(&selection, now_ms))
            .await
    }

    /// Calls `look`, which looks through the pods of one namespace or of all: of many, on a thread that nobody waits for.
    ///
    /// # Errors
    /// 500: it failed.
    pub(super) async fn look_through_pods<T: Send + 'static>(
        &self,
        is_one_namespace: bool,
        look: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, Status> {
        if is_one_namespace || self.objects.pods_len() <= INLINE_PODS_MAX {
            return Ok(look(self));
        }
        let state = self.clone();
        tokio::task::spawn_blocking(move || look(&state))
            .await
            .map_err(|error| Status::internal(format!("selecting pods: {error}")))
    }

    fn select_nodes(&self, selection: &Selection, now_ms: i64) -> Vec<Entry> {
        let mut found = Vec::new();
        let _ = self.objects.visit_nodes(None, |object| {
            if selection.fields.matches("", &object.name)
                && selection.labels.matches(|key| object.labels.get(key))
                && let Some(entry) = self.node_entry(object, now_ms)
            {
                found.push(entry);
            }
            ControlFlow::Continue(())
        });
        found
    }

    fn node_entry(&self, object: &Arc<NodeObject>, now_ms: i64) -> Option<Entry> {
        if !self.node_selector.matches(|key| object.labels.get(key)) {
            return None;
        }
        let state = self.store.node(&object.name, now_ms)?;
        let usage = state.node()?;
        Some(Entry::Node { object: Arc::clone(object), usage, revision: state.revision() })
    }

    fn select_pods(&self, selection: &Selection, now_ms: i64) -> Vec<Entry> {
        let mut found = Vec::new();
        let mut nodes = NodeStates::new(&self.store, now_ms);
        let mut labels = LabelMatches::new(&selection.labels);
        let wanted = selection.namespace.as_deref().or_else(|| selection.fields.namespace());
        if let (Some(namespace), Some(name)) = (wanted, selection.fields.name()) {
            let entry = self.objects.with_pod(namespace, name, |pod| {
                let selected = selection.fields.matches(pod.namespace, pod.name)
                    && selection.labels.matches(|key| pod.labels.get(key));
                if selected { nodes.entry(&pod) } else { None }
            });
            found.extend(entry.flatten());
            return found;
        }
        if wanted.is_none() && selection.labels.is_empty() && selection.fields.is_empty() {
            found.reserve_exact(self.objects.pods_len());
        }
        let _ = self.objects.visit_pods(wanted, None, |pod| {
            if labels.matches(pod.labels) && selection.fields.matches(pod.namespace, pod.name) {
                found.extend(nodes.entry(&pod));
            }
            ControlFlow::Continue(())
        });
        found
    }

    /// The node or pod of this name, if it has a usage.
    pub(super) fn entry(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
        now_ms: i64,
    ) -> Option<Entry> {
        match resource {
            Resource::Nodes => self.node_entry(&self.objects.node(name)?, now_ms),
            Resource::Pods => self.objects.with_pod(namespace, name, |pod| {
                NodeStates::new(&self.store, now_ms).entry(&pod)
            })?,
        }
    }
}

/// The states of the nodes that pods are on, each looked up once. Names of nodes are interned,
/// and cannot go away while pods are visited.
pub(super) struct NodeStates<'a> {
    store: &'a Store,
    now_ms: i64,
    known: HashMap<usize, Option<Visited>, RandomState>,
}

/// A node whose pods are visited, in the order in which its state has them.
struct Visited {
    state: Arc<NodeState>,
    /// Where the next pod is, most often.
    next: u32,
}

impl<'a> NodeStates<'a> {
    pub(super) fn new(store: &'a Store, now_ms: i64) -> Self {
        Self { store, now_ms, known: HashMap::default() }
    }

    /// The state of the node that `pod` is on, and where in it the pod is, if it has a usage.
    pub(super) fn measured(&mut self, pod: &PodView<'_>) -> Option<(Arc<NodeState>, u32)> {
        let address = pod.node.as_ptr().addr();
        let visited = self.known.entry(address).or_insert_with(|| {
            let state = self.store.node(pod.node, self.now_ms)?;
            Some(Visited { state, next: 0 })
        });
        let Visited { state, next } = visited.as_mut()?;
        let at = state.find_near(*next, pod.namespace, pod.name)?;
        *next = at + 1;
        state.pod_at(at)?;
        Some((Arc::clone(state), at))
    }

    fn entry(&mut self, pod: &PodView<'_>) -> Option<Entry> {
        let (state, at) = self.measured(pod)?;
        Some(Entry::Pod(PodEntry {
            namespace: Arc::clone(pod.namespace),
            name: Arc::clone(pod.name),
            labels: pod.labels.clone(),
            state,
            at,
        }))
    }
}

/// Whether sets of labels are selected, each looked at once. The pods of a workload follow each
/// other and share a set, so that the last one is most often the next.
pub(super) struct LabelMatches<'a> {
    selector: &'a LabelSelector,
    last: (usize, bool),
    known: HashMap<usize, bool, RandomState>,
}

impl<'a> LabelMatches<'a> {
    pub(super) fn new(selector: &'a LabelSelector) -> Self {
        // No set of labels is at address 0.
        Self { selector, last: (0, false), known: HashMap::default() }
    }

    pub(super) fn matches(&mut self, labels: &Labels) -> bool {
        if self.selector.is_empty() {
            return true;
        }
        let address = labels.address();
        if self.last.0 != address {
            let known = self.known.entry(address);
            let matches = known.or_insert_with(|| self.selector.matches(|key| labels.get(key)));
            self.last = (address, *matches);
        }
        self.last.1
    }
}
