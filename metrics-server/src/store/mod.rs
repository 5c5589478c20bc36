//! The latest measurements of every node and pod, and the usage that follows from them.
//!
//! Each node is stored when its scrape ends, whatever the others do. What a scrape brought stays
//! until the node's next one, or for [`StoreOptions::keep_ms`] when the next ones fail: it keeps
//! the time at which it was measured, so that clients see its age.
//!
//! A pod is shown only if everything is known of each container that the scrape mentions: with
//! one implausible or without a rate it has no usage, since a sum over the others would be too
//! low. A container that the kubelet does not mention at all is not missed: only the kubelet
//! knows which ones run. A pod or node that a *successful*
//! scrape did not report has no usage either, but its points are kept as long as those of a
//! missed scrape: when it comes back, one scrape is enough for a rate.

mod node;
mod point;
mod revision;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use metrics_api::Resource;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

pub use node::{NodeState, NodeUsage, PodUsage};
pub use point::Point;
pub(crate) use revision::Removed;
pub use revision::Revision;

/// What a scrape of a node brought.
#[derive(Clone, Debug, Default)]
pub struct NodeBatch {
    /// The node itself.
    pub node: Option<Point>,
    /// The pods on it.
    pub pods: Vec<PodPoints>,
}

/// The measurements of a pod's containers.
///
/// A container of which something is missing is given with zeros: the pod is then known to be
/// incomplete.
#[derive(Clone, Debug)]
pub struct PodPoints {
    /// The namespace of the pod.
    pub namespace: Box<str>,
    /// The name of the pod.
    pub name: Box<str>,
    /// The containers by name.
    pub containers: Vec<(Box<str>, Point)>,
}

/// How a [`Store`] works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// The time between scrapes of a node, in milliseconds: a container that has run for less
    /// has its CPU use taken since it started.
    pub resolution_ms: i64,
    /// How long a node's points are shown while its scrapes fail, in milliseconds.
    pub keep_ms: i64,
}

impl StoreOptions {
    /// Points are kept for five times the time between scrapes.
    #[must_use]
    pub const fn with_resolution_ms(resolution_ms: i64) -> Self {
        Self { resolution_ms, keep_ms: resolution_ms.saturating_mul(5) }
    }
}

/// What a store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Points {
    /// Nodes that have a usage.
    pub nodes: usize,
    /// Containers that have a usage.
    pub containers: usize,
}

/// Nodes are spread over this many maps, so that recording one seldom waits for another.
const SHARDS: usize = 64;

type Shard = RwLock<HashMap<Box<str>, Arc<NodeSlot>>>;

/// The measurements of the cluster. Shared between the scrapers and the API.
#[derive(Debug)]
pub struct Store {
    options: StoreOptions,
    shards: Box<[Shard]>,
    hasher: RandomState,
    revision: Arc<Revision>,
    /// The revisions at which a node and a pod last stopped having a usage.
    removed: Removed,
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct NodeSlot {
    /// Held while a scrape is recorded, so that readers wait only for the exchange of states.
    recording: Mutex<()>,
    state: RwLock<Arc<NodeState>>,
}

impl Store {
    /// An empty store.
    #[must_use]
    pub fn new(options: StoreOptions) -> Self {
        Self::with_revision(options, Arc::default())
    }

    /// An empty store that shares its counter of changes with an index of objects.
    #[must_use]
    pub fn with_revision(options: StoreOptions, revision: Arc<Revision>) -> Self {
        Self {
            options,
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            hasher: RandomState::new(),
            revision,
            removed: Removed::default(),
            changes: watch::Sender::new(0),
        }
    }

    /// Records that a scrape of `node` ended at `now_ms` and brought `batch`.
    ///
    /// A failed scrape is not recorded at all: the points of the last good one stay.
    pub fn record(&self, node: &str, batch: NodeBatch, now_ms: i64) {
        let slot = self.slot(node);
        let recording = slot.recording.lock();
        let before = Arc::clone(&slot.state.read());
        let StoreOptions { resolution_ms, keep_ms } = self.options;
        let mut after = NodeState::after(&before, batch, now_ms, resolution_ms, keep_ms);
        let lost = |resource| match resource {
            Resource::Nodes => after.lost_node_of(&before),
            Resource::Pods => after.lost_pods_of(&before),
        };
        let lost = [Resource::Nodes, Resource::Pods].map(|resource| (resource, lost(resource)));
        // Whoever knows the revision waits for what it stands for.
        let mut state = slot.state.write();
        let revision = self.revision.next_at(now_ms);
        after.revision = revision;
        for (resource, lost) in lost {
            // What an earlier process told of, and what ended before this one began, is not known.
            let is_first = self.removed.last(resource) == 0;
            if lost || is_first {
                self.removed.set(resource, revision);
            }
        }
        *state = Arc::new(after);
        drop(state);
        drop(recording);
        self.changes.send_replace(revision);
    }

    /// Forgets a node that left the cluster, and the pods on it.
    pub fn forget_node(&self, node: &str) {
        let mut shard = self.shard(node).write();
        if shard.remove(node).is_some() {
            let revision = self.revision.next();
            self.removed.set(Resource::Nodes, revision);
            self.removed.set(Resource::Pods, revision);
            drop(shard);
            self.changes.send_replace(revision);
        }
    }

    /// The points of `node`, unless its last good scrape is too long ago.
    #[must_use]
    pub fn node(&self, node: &str, now_ms: i64) -> Option<Arc<NodeState>> {
        let state = {
            let shard = self.shard(node).read();
            let state = shard.get(node)?.state.read();
            Arc::clone(&state)
        };
        self.is_kept(&state, now_ms).then_some(state)
    }

    /// How many nodes and containers have a usage. Upstream is ready with one of each.
    #[must_use]
    pub fn points(&self, now_ms: i64) -> Points {
        let mut points = Points::default();
        self.for_each_node(|state| {
            if self.is_kept(state, now_ms) {
                points.nodes += usize::from(state.node().is_some());
                points.containers += state.rates();
            }
        });
        points
    }

    /// Tells of the revision of each change of the store.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The counter of changes, to be shared with the index of objects.
    #[must_use]
    pub const fn revision(&self) -> &Arc<Revision> {
        &self.revision
    }

    /// The revision at or after which no node, or no pod, has stopped having a usage. A node whose
    /// scrapes fail stops having one when its points are too old, and so do its pods.
    #[must_use]
    pub fn complete_since(&self, resource: Resource, now_ms: i64) -> u64 {
        let mut since = self.removed.last(resource);
        self.for_each_node(|state| {
            if !self.is_kept(state, now_ms) {
                let expired_ms = state.recorded_ms.saturating_add(self.options.keep_ms);
                since = since.max(u64::try_from(expired_ms).unwrap_or(0).saturating_mul(1000));
            }
        });
        since
    }

    fn for_each_node(&self, mut visit: impl FnMut(&NodeState)) {
        for shard in &self.shards {
            for slot in shard.read().values() {
                let state = Arc::clone(&slot.state.read());
                visit(&state);
            }
        }
    }

    fn is_kept(&self, state: &NodeState, now_ms: i64) -> bool {
        now_ms.saturating_sub(state.recorded_ms) <= self.options.keep_ms
    }

    fn shard(&self, node: &str) -> &Shard {
        let hash = usize::try_from(self.hasher.hash_one(node) % SHARDS as u64).unwrap_or(0);
        &self.shards[hash]
    }

    fn slot(&self, node: &str) -> Arc<NodeSlot> {
        let shard = self.shard(node);
        if let Some(slot) = shard.read().get(node) {
            return Arc::clone(slot);
        }
        Arc::clone(shard.write().entry(node.into()).or_default())
    }
}

#[cfg(test)]
mod tests;
