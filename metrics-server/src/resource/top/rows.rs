//! The lines of `/top`: what is collected under the locks, and what is written of it.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use foldhash::fast::RandomState;
use metrics_api::{Usage, write_time};
use serde::Serialize;

use super::super::ResourceState;
use super::super::snapshot::{LabelMatches, NodeStates};
use super::options::Options;
use crate::cluster::{Amounts, ContainerResources, NodeObject, PodResources};
use crate::store::{NodeState, NodeUsage};

/// A running pod.
#[derive(Debug)]
pub(super) struct PodRow {
    namespace: Arc<str>,
    name: Arc<str>,
    node: Arc<str>,
    created_ms: i64,
    resources: Option<Arc<PodResources>>,
    /// Where it was measured.
    measured: Option<(Arc<NodeState>, u32)>,
}

/// A node.
#[derive(Debug)]
pub(super) struct NodeRow {
    object: Arc<NodeObject>,
    usage: Option<NodeUsage>,
    pods: Sum,
}

/// What the pods of a node ask for together.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    pods: usize,
    requests: Amounts,
    limits: Amounts,
    /// Whether the resources of all of them are known.
    is_complete: bool,
}

impl ResourceState {
    /// The selected pods, by namespace and name.
    pub(super) fn top_pods(&self, options: &Options, now_ms: i64) -> Vec<PodRow> {
        let mut rows = Vec::new();
        let mut nodes = NodeStates::new(&self.store, now_ms);
        let mut labels = LabelMatches::new(&options.labels);
        let is_on = |node: &str| options.node.as_deref().is_none_or(|wanted| wanted == node);
        let _ = self.objects.visit_pods(options.namespace.as_deref(), None, |pod| {
            if is_on(pod.node) && labels.matches(pod.labels) {
                rows.push(PodRow {
                    namespace: Arc::clone(pod.namespace),
                    name: Arc::clone(pod.name),
                    node: Arc::clone(pod.node),
                    created_ms: pod.created_ms,
                    resources: pod.resources.map(Arc::clone),
                    measured: nodes.measured(&pod),
                });
            }
            ControlFlow::Continue(())
        });
        rows
    }

    /// The selected nodes, by name.
    pub(super) fn top_nodes(&self, options: &Options, now_ms: i64) -> Vec<NodeRow> {
        let mut sums = self.sums();
        let nodes = self.objects.nodes().into_iter().filter(|node| {
            let label = |key: &str| node.labels.get(key);
            options.node.as_deref().is_none_or(|wanted| wanted == &*node.name)
                && self.node_selector.matches(label)
                && options.labels.matches(label)
        });
        let row = |object: Arc<NodeObject>| NodeRow {
            usage: self.store.node(&object.name, now_ms).and_then(|state| state.node()),
            pods: sums.remove(&*object.name).unwrap_or_default(),
            object,
        };
        nodes.map(row).collect()
    }

    /// What the pods of each node ask for.
    fn sums(&self) -> HashMap<Arc<str>, Sum, RandomState> {
        let mut sums = HashMap::<Arc<str>, Sum, RandomState>::default();
        let _ = self.objects.visit_pods(None, None, |pod| {
            let sum = match sums.get_mut(pod.node) {
                Some(sum) => sum,
                None => sums
                    .entry(Arc::clone(pod.node))
                    .or_insert(Sum { is_complete: true, ..Sum::default() }),
            };
            sum.pods += 1;
            match pod.resources {
                Some(resources) => {
                    sum.requests = sum.requests.plus(resources.requests);
                    sum.limits = sum.limits.plus(resources.limits);
                }
                None => sum.is_complete = false,
            }
            ControlFlow::Continue(())
        });
        sums
    }
}

impl PodRow {
    /// What all its containers use.
    pub(super) fn usage(&self) -> Option<Usage> {
        let (state, at) = self.measured.as_ref()?;
        state.pod_at(*at)?.containers().map(|(_, usage)| usage).reduce(Usage::plus)
    }

    pub(super) fn json(&self, now_ms: i64, with_containers: bool) -> PodJson<'_> {
        let measured = self.measured.as_ref().and_then(|(state, at)| state.pod_at(*at));
        let resources = self.resources.as_deref();
        let containers = || {
            let specified = resources.map_or(&[][..], |resources| &resources.containers);
            let used = measured.iter().flat_map(|usage| usage.containers());
            containers(specified, used)
        };
        PodJson {
            namespace: &self.namespace,
            name: &self.name,
            node: (!self.node.is_empty()).then_some(&*self.node),
            age_seconds: age(self.created_ms, now_ms),
            timestamp: measured.map(|usage| rfc3339(usage.at_ms)),
            window_milliseconds: measured.map(|usage| usage.window_ms),
            usage: self.usage().map(UsageJson::from),
            requests: resources.map(|resources| resources.requests.into()),
            limits: resources.map(|resources| resources.limits.into()),
            containers: with_containers.then(containers),
        }
    }
}

/// Containers as specified, each with its use, then those that are measured only: not all that a kubelet reports need be
/// in the specification that is known.
fn containers<'a>(
    specified: &'a [ContainerResources],
    used: impl Iterator<Item = (&'a str, Usage)>,
) -> Vec<ContainerJson<'a>> {
    let mut containers: Vec<_> = specified
        .iter()
        .map(|container| ContainerJson {
            name: &container.name,
            usage: None,
            requests: Some(container.requests.into()),
            limits: Some(container.limits.into()),
        })
        .collect();
    for (name, usage) in used {
        let usage = Some(UsageJson::from(usage));
        match containers.iter_mut().find(|container| container.name == name) {
            Some(container) => container.usage = usage,
            None => containers.push(ContainerJson { name, usage, requests: None, limits: None }),
        }
    }
    containers
}

impl NodeRow {
    pub(super) fn usage(&self) -> Option<Usage> {
        self.usage.map(|measured| measured.usage)
    }

    pub(super) fn json(&self, now_ms: i64) -> NodeJson<'_> {
        let Sum { pods, requests, limits, is_complete } = self.pods;
        let is_complete = is_complete || pods == 0;
        NodeJson {
            name: &self.object.name,
            age_seconds: age(self.object.created_ms, now_ms),
            timestamp: self.usage.map(|usage| rfc3339(usage.at_ms)),
            window_milliseconds: self.usage.map(|usage| usage.window_ms),
            usage: self.usage().map(UsageJson::from),
            allocatable: self.object.allocatable.into(),
            requests: is_complete.then(|| requests.into()),
            limits: is_complete.then(|| limits.into()),
            pods,
        }
    }
}

/// Whole seconds since a creation that is known.
fn age(created_ms: i64, now_ms: i64) -> Option<i64> {
    (created_ms > 0).then(|| now_ms.saturating_sub(created_ms).max(0) / 1000)
}

pub(super) fn rfc3339(at_ms: i64) -> String {
    let mut text = Vec::with_capacity(20);
    write_time(&mut text, at_ms.div_euclid(1000));
    String::from_utf8(text).unwrap_or_default()
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PodJson<'a> {
    namespace: &'a str,
    name: &'a str,
    node: Option<&'a str>,
    age_seconds: Option<i64>,
    timestamp: Option<String>,
    window_milliseconds: Option<i64>,
    usage: Option<UsageJson>,
    requests: Option<AmountsJson>,
    limits: Option<AmountsJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    containers: Option<Vec<ContainerJson<'a>>>,
}

#[derive(Debug, Serialize)]
struct ContainerJson<'a> {
    name: &'a str,
    usage: Option<UsageJson>,
    requests: Option<AmountsJson>,
    limits: Option<AmountsJson>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NodeJson<'a> {
    name: &'a str,
    age_seconds: Option<i64>,
    timestamp: Option<String>,
    window_milliseconds: Option<i64>,
    usage: Option<UsageJson>,
    allocatable: AmountsJson,
    requests: Option<AmountsJson>,
    limits: Option<AmountsJson>,
    pods: usize,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct UsageJson {
    cpu_nanocores: u64,
    memory_bytes: u64,
    swap_bytes: Option<u64>,
}

impl From<Usage> for UsageJson {
    fn from(usage: Usage) -> Self {
        let Usage { cpu_nanocores, memory_bytes, swap_bytes } = usage;
        Self { cpu_nanocores, memory_bytes, swap_bytes }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AmountsJson {
    cpu_nanocores: Option<i64>,
    memory_bytes: Option<i64>,
}

impl From<Amounts> for AmountsJson {
    /// In the unit of usage, so that a share is one division.
    fn from(amounts: Amounts) -> Self {
        let cpu_nanocores = amounts.cpu_milli.map(|milli| milli.saturating_mul(1_000_000));
        Self { cpu_nanocores, memory_bytes: amounts.memory_bytes }
    }
}
