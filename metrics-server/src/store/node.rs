//! The points of one node and of the pods on it.

use metrics_api::Usage;

use super::point::{Measured, Point};
use super::{NodeBatch, PodPoints};

/// Names longer than this are none that Kubernetes accepts.
const NAME_BYTES_MAX: usize = 253;

/// What is known of a node and the pods on it after a scrape; never changed, only replaced.
///
/// Laid out as three arrays and one text, so that it is a handful of allocations whatever the
/// number of pods.
#[derive(Debug, Default)]
pub struct NodeState {
    pub(super) recorded_ms: i64,
    pub(super) revision: u64,
    node: Option<Entry>,
    text: Box<str>,
    /// Ordered by namespace and name.
    pods: Box<[PodEntry]>,
    containers: Box<[ContainerEntry]>,
}

/// A measurement, and whether it is of the latest scrape.
#[derive(Clone, Copy, Debug)]
struct Entry {
    measured: Measured,
    seen_ms: i64,
    current: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: u32,
    len: u16,
}

#[derive(Clone, Copy, Debug)]
struct PodEntry {
    namespace: Span,
    name: Span,
    first_container: u32,
    containers: u16,
    /// Whether the latest scrape had every container of it and each has a rate.
    served: bool,
    /// When a scrape last had it.
    seen_ms: i64,
}

#[derive(Clone, Copy, Debug)]
struct ContainerEntry {
    name: Span,
    measured: Measured,
}

/// What a node uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeUsage {
    /// The end of the window, in milliseconds since the epoch.
    pub at_ms: i64,
    /// The length of the window in milliseconds, positive.
    pub window_ms: i64,
    /// The usage.
    pub usage: Usage,
}

/// What a pod uses.
#[derive(Clone, Copy, Debug)]
pub struct PodUsage<'a> {
    /// When its oldest measurement was made, in milliseconds since the epoch.
    pub at_ms: i64,
    /// The window of that measurement in milliseconds, positive.
    pub window_ms: i64,
    state: &'a NodeState,
    entry: &'a PodEntry,
}

impl<'a> PodUsage<'a> {
    /// The usage of each container, ordered by name.
    pub fn containers(&self) -> impl Iterator<Item = (&'a str, Usage)> + Clone + use<'a> {
        let state = self.state;
        state
            .containers_of(self.entry)
            .iter()
            .filter_map(|container| Some((state.text(container.name), container.measured.usage()?)))
    }
}

impl NodeState {
    /// The state after a scrape that brought `batch`.
    pub(super) fn after(
        before: &Self,
        mut batch: NodeBatch,
        now_ms: i64,
        resolution_ms: i64,
        keep_ms: i64,
    ) -> Self {
        let is_kept = |seen_ms: i64| now_ms.saturating_sub(seen_ms) <= keep_ms;
        let node = match batch.node.filter(Point::is_plausible) {
            Some(point) => Some(Entry {
                measured: Measured::after(
                    before
                        .node
                        .as_ref()
                        .filter(|entry| is_kept(entry.seen_ms))
                        .map(|entry| &entry.measured),
                    &point,
                    resolution_ms,
                ),
                seen_ms: now_ms,
                current: true,
            }),
            None => before
                .node
                .filter(|entry| is_kept(entry.seen_ms))
                .map(|entry| Entry { current: false, ..entry }),
        };

        batch.pods.retain(PodPoints::has_names);
        batch.pods.sort_by(|a, b| a.key().cmp(&b.key()));
        batch.pods.dedup_by(|later, first| later.key() == first.key());

        let mut builder = Builder::with_room_for(before, &batch);
        let mut old = before.pods.iter().peekable();
        for pod in &mut batch.pods {
            while let Some(gone) = old.next_if(|entry| before.key(entry) < pod.key()) {
                if is_kept(gone.seen_ms) {
                    builder.keep(before, gone);
                }
            }
            let known = old
                .next_if(|entry| before.key(entry) == pod.key())
                .filter(|entry| is_kept(entry.seen_ms));
            builder.add(before, known, pod, now_ms, resolution_ms);
        }
        for gone in old {
            if is_kept(gone.seen_ms) {
                builder.keep(before, gone);
            }
        }
        Self {
            recorded_ms: now_ms,
            revision: 0,
            node,
            text: builder.text.into_boxed_str(),
            pods: builder.pods.into_boxed_slice(),
            containers: builder.containers.into_boxed_slice(),
        }
    }

    /// What the node uses, if the latest scrape measured it and there is a rate.
    #[must_use]
    pub fn node(&self) -> Option<NodeUsage> {
        let Entry { measured, current, .. } = self.node.as_ref()?;
        if !current {
            return None;
        }
        Some(NodeUsage {
            at_ms: measured.at_ms(),
            window_ms: measured.window_ms()?,
            usage: measured.usage()?,
        })
    }

    /// What a pod uses, if the latest scrape measured all of it and each container has a rate.
    #[must_use]
    pub fn pod(&self, namespace: &str, name: &str) -> Option<PodUsage<'_>> {
        self.pod_at(self.find(namespace, name)?)
    }

    /// Where a pod is, for [`NodeState::pod_at`].
    #[must_use]
    pub fn find(&self, namespace: &str, name: &str) -> Option<u32> {
        let at =
            self.pods.binary_search_by(|entry| self.key(entry).cmp(&(namespace, name))).ok()?;
        u32::try_from(at).ok()
    }

    /// As [`NodeState::find`], quicker if the pod is at `expected`: whoever looks pods up in order finds the next one behind the last.
    #[must_use]
    pub fn find_near(&self, expected: u32, namespace: &str, name: &str) -> Option<u32> {
        match self.pods.get(expected as usize) {
            Some(entry) if self.key(entry) == (namespace, name) => Some(expected),
            _ => self.find(namespace, name),
        }
    }

    /// What the pod at a place that [`NodeState::find`] gave uses.
    #[must_use]
    pub fn pod_at(&self, at: u32) -> Option<PodUsage<'_>> {
        self.usage(self.pods.get(at as usize)?)
    }

    /// The revision at which this was recorded.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    fn usage<'a>(&'a self, entry: &'a PodEntry) -> Option<PodUsage<'a>> {
        if !entry.served {
            return None;
        }
        let oldest =
            self.containers_of(entry).iter().map(|c| &c.measured).min_by_key(|m| m.at_ms())?;
        Some(PodUsage { at_ms: oldest.at_ms(), window_ms: oldest.window_ms()?, state: self, entry })
    }

    /// The pods that have a usage: namespace, name, usage.
    pub fn pods(&self) -> impl Iterator<Item = (&str, &str, PodUsage<'_>)> {
        self.pods.iter().filter_map(|entry| {
            let (namespace, name) = self.key(entry);
            Some((namespace, name, self.usage(entry)?))
        })
    }

    /// How many containers have a rate.
    pub(super) fn rates(&self) -> usize {
        let served = self.pods.iter().filter(|pod| pod.served);
        served.map(|pod| usize::from(pod.containers)).sum()
    }

    /// Whether the node had a usage `before` and has none here.
    pub(super) fn lost_node_of(&self, before: &Self) -> bool {
        before.node().is_some() && self.node().is_none()
    }

    /// Whether a pod that had a usage `before` has none here.
    pub(super) fn lost_pods_of(&self, before: &Self) -> bool {
        before.pods().any(|(namespace, name, _)| self.pod(namespace, name).is_none())
    }

    fn key(&self, entry: &PodEntry) -> (&str, &str) {
        (self.text(entry.namespace), self.text(entry.name))
    }

    fn text(&self, span: Span) -> &str {
        let start = span.start as usize;
        &self.text[start..start + usize::from(span.len)]
    }

    fn containers_of(&self, entry: &PodEntry) -> &[ContainerEntry] {
        let first = entry.first_container as usize;
        &self.containers[first..first + usize::from(entry.containers)]
    }
}

impl PodPoints {
    fn key(&self) -> (&str, &str) {
        (&self.namespace, &self.name)
    }

    fn has_names(&self) -> bool {
        let good = |name: &str| !name.is_empty() && name.len() <= NAME_BYTES_MAX;
        good(&self.namespace)
            && good(&self.name)
            && self.containers.len() <= usize::from(u16::MAX)
            && self.containers.iter().all(|(name, _)| good(name))
    }
}

struct Builder {
    text: String,
    namespace: Span,
    pods: Vec<PodEntry>,
    containers: Vec<ContainerEntry>,
}

impl Builder {
    fn with_room_for(before: &NodeState, batch: &NodeBatch) -> Self {
        let containers = batch.pods.iter().map(|pod| pod.containers.len()).sum();
        Self {
            text: String::with_capacity(before.text.len()),
            namespace: Span::default(),
            pods: Vec::with_capacity(batch.pods.len()),
            containers: Vec::with_capacity(containers),
        }
    }

    /// Writes `name` down. Names are bounded by [`NAME_BYTES_MAX`] and a node's text by the
    /// size of the response that it came in, so both fit.
    fn span(&mut self, name: &str) -> Span {
        let start = u32::try_from(self.text.len()).unwrap_or(u32::MAX);
        self.text.push_str(name);
        Span { start, len: u16::try_from(name.len()).unwrap_or(u16::MAX) }
    }

    /// Pods come ordered by namespace, so a namespace is written once.
    fn namespace_span(&mut self, namespace: &str) -> Span {
        let Span { start, len } = self.namespace;
        if &self.text[start as usize..start as usize + usize::from(len)] != namespace {
            self.namespace = self.span(namespace);
        }
        self.namespace
    }

    /// A pod that the latest scrape did not have: not served, but its points are what the next
    /// rate is taken from if it comes back.
    fn keep(&mut self, before: &NodeState, gone: &PodEntry) {
        let (namespace, name) = before.key(gone);
        let entry = PodEntry {
            namespace: self.namespace_span(namespace),
            name: self.span(name),
            first_container: self.next_container(),
            served: false,
            ..*gone
        };
        for container in before.containers_of(gone) {
            let name = self.span(before.text(container.name));
            self.containers.push(ContainerEntry { name, measured: container.measured });
        }
        self.pods.push(entry);
    }

    fn add(
        &mut self,
        before: &NodeState,
        known: Option<&PodEntry>,
        pod: &mut PodPoints,
        now_ms: i64,
        resolution_ms: i64,
    ) {
        let namespace = self.namespace_span(&pod.namespace);
        let name = self.span(&pod.name);
        let first_container = self.next_container();
        pod.containers.sort_by(|a, b| a.0.cmp(&b.0));
        pod.containers.dedup_by(|later, first| later.0 == first.0);

        let known = known.map_or(&[][..], |entry| before.containers_of(entry));
        let mut served = !pod.containers.is_empty();
        for (container, point) in &pod.containers {
            let old = known.binary_search_by(|c| before.text(c.name).cmp(container)).ok();
            let old = old.map(|at| known[at].measured);
            let measured = if point.is_plausible() {
                let measured = Measured::after(old.as_ref(), point, resolution_ms);
                served &= measured.window_ms().is_some();
                measured
            } else {
                served = false;
                let Some(old) = old else { continue };
                old
            };
            let name = self.span(container);
            self.containers.push(ContainerEntry { name, measured });
        }
        let containers = self.containers.len() - first_container as usize;
        self.pods.push(PodEntry {
            namespace,
            name,
            first_container,
            containers: u16::try_from(containers).unwrap_or(u16::MAX),
            served,
            seen_ms: now_ms,
        });
    }

    fn next_container(&self) -> u32 {
        u32::try_from(self.containers.len()).unwrap_or(u32::MAX)
    }
}
