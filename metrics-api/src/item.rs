//! `NodeMetrics` and `PodMetrics` as they are about to be written.

use crate::GroupResource;

/// The group of the resource metrics API.
pub const METRICS_GROUP: &str = "metrics.k8s.io";
/// Its only version, with the group.
pub const METRICS_GROUP_VERSION: &str = "metrics.k8s.io/v1beta1";

/// What a container or a node uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Mean CPU use over the window, in billionths of a core.
    pub cpu_nanocores: u64,
    /// Working set at the end of the window, in bytes.
    pub memory_bytes: u64,
    /// Swap in use at the end of the window, in bytes, where it is reported.
    pub swap_bytes: Option<u64>,
}

impl Usage {
    /// The sum of both; swap is known if it is of either.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let swap_bytes = match (self.swap_bytes, other.swap_bytes) {
            (None, one) | (one, None) => one,
            (Some(a), Some(b)) => Some(a.saturating_add(b)),
        };
        Self {
            cpu_nanocores: self.cpu_nanocores.saturating_add(other.cpu_nanocores),
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
            swap_bytes,
        }
    }
}

/// A resource of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// `nodes`, which are not in namespaces.
    Nodes,
    /// `pods`.
    Pods,
}

impl Resource {
    /// The kind of one object.
    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Nodes => "NodeMetrics",
            Self::Pods => "PodMetrics",
        }
    }

    /// The kind of a list.
    #[must_use]
    pub const fn list_kind(self) -> &'static str {
        match self {
            Self::Nodes => "NodeMetricsList",
            Self::Pods => "PodMetricsList",
        }
    }

    /// The name in paths.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Nodes => "nodes",
            Self::Pods => "pods",
        }
    }

    /// What an object is called in a message about metrics that do not exist.
    #[must_use]
    pub const fn missing(self) -> GroupResource<'static> {
        let resource = match self {
            Self::Nodes => "nodemetrics",
            Self::Pods => "podmetrics",
        };
        GroupResource { group: METRICS_GROUP, resource }
    }

    /// What the resource is called in other messages.
    #[must_use]
    pub const fn served(self) -> GroupResource<'static> {
        GroupResource { group: METRICS_GROUP, resource: self.plural() }
    }
}

/// One object, borrowed from where it is kept.
///
/// `L` gives its labels ordered by key. `C` gives the usage by container; a node has one, whose
/// name does not matter.
#[derive(Clone, Debug)]
pub struct Item<'a, L, C> {
    /// Empty for a node.
    pub namespace: &'a str,
    /// The name of the node or pod.
    pub name: &'a str,
    /// Given in events only, as metrics-server gives none.
    pub resource_version: Option<u64>,
    /// In seconds since the epoch. metrics-server says "now".
    pub created_s: i64,
    /// The labels of the node or pod.
    pub labels: L,
    /// The end of the window, in seconds since the epoch.
    pub at_s: i64,
    /// The length of the window in milliseconds.
    pub window_ms: i64,
    /// What is used.
    pub usages: C,
}

impl<'a, L, C> Item<'a, L, C>
where
    L: Iterator<Item = (&'a str, &'a str)> + Clone,
    C: Iterator<Item = (&'a str, Usage)> + Clone,
{
    /// The usage of all containers together.
    #[must_use]
    pub fn total(&self) -> Usage {
        let none = Usage { cpu_nanocores: 0, memory_bytes: 0, swap_bytes: None };
        self.usages.clone().fold(none, |sum, (_, usage)| sum.plus(usage))
    }
}
