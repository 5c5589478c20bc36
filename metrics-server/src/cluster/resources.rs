//! What pods ask for and may use, and what nodes have: CPU and memory of their specifications.

use metrics_api::Quantity;
use serde::Deserialize;

/// Containers of one pod that are kept; Kubernetes objects have room for fewer.
const CONTAINERS_MAX: usize = 4096;

/// CPU and memory, as far as they are stated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Amounts {
    /// Thousandths of a core.
    pub cpu_milli: Option<i64>,
    /// Bytes.
    pub memory_bytes: Option<i64>,
}

impl Amounts {
    /// Both added; what one does not state counts as nothing.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        self.each(other, |a, b| match (a, b) {
            (Some(a), Some(b)) => Some(a.saturating_add(b)),
            (one, other) => one.or(other),
        })
    }

    /// Both added where both state it: without one of two limits there is none.
    fn plus_if_both(self, other: Self) -> Self {
        self.each(other, |a, b| Some(a?.saturating_add(b?)))
    }

    /// The larger of both; nothing stated is the smallest.
    fn max(self, other: Self) -> Self {
        self.each(other, Option::max)
    }

    /// These, and the `other`'s where they say nothing.
    fn or(self, other: Self) -> Self {
        self.each(other, Option::or)
    }

    fn each(self, other: Self, both: impl Fn(Option<i64>, Option<i64>) -> Option<i64>) -> Self {
        Self {
            cpu_milli: both(self.cpu_milli, other.cpu_milli),
            memory_bytes: both(self.memory_bytes, other.memory_bytes),
        }
    }
}

/// What a container asks for and may use.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ContainerResources {
    /// The container.
    pub name: Box<str>,
    /// What it is promised.
    pub requests: Amounts,
    /// What it may use at most.
    pub limits: Amounts,
}

/// What a pod and its containers ask for and may use. The pods of a workload have the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PodResources {
    /// What the scheduler reserves for the pod: what is stated for it as a whole, or else for its containers and those that
    /// run beside them, or for initialization where that takes more; and its overhead.
    pub requests: Amounts,
    /// What the pod may use at most. Nothing if a container has no limit and neither has the pod.
    pub limits: Amounts,
    /// Its containers in the order of the specification, first those that start before the others and stay.
    pub containers: Box<[ContainerResources]>,
}

impl AsRef<Self> for PodResources {
    fn as_ref(&self) -> &Self {
        self
    }
}

/// `spec` of a pod, as far as it is read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodSpecSummary {
    pub(super) node_name: Option<String>,
    containers: Option<Vec<ContainerSummary>>,
    init_containers: Option<Vec<ContainerSummary>>,
    overhead: Option<ResourceListSummary>,
    resources: Option<RequirementsSummary>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerSummary {
    name: String,
    restart_policy: Option<String>,
    resources: Option<RequirementsSummary>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct RequirementsSummary {
    requests: Option<ResourceListSummary>,
    limits: Option<ResourceListSummary>,
}

/// A resource list of the API, of which CPU and memory are read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ResourceListSummary {
    cpu: Option<String>,
    memory: Option<String>,
}

impl ResourceListSummary {
    pub(super) fn amounts(&self) -> Amounts {
        let read = |text: &Option<String>| text.as_deref()?.parse::<Quantity>().ok();
        Amounts {
            cpu_milli: read(&self.cpu).map(|cpu| cpu.milli_value()),
            memory_bytes: read(&self.memory).map(|memory| memory.value()),
        }
    }
}

fn amounts(list: Option<&ResourceListSummary>) -> Amounts {
    list.map(ResourceListSummary::amounts).unwrap_or_default()
}

impl RequirementsSummary {
    /// Requests and limits. The API server fills requests in from limits, but not for whoever writes objects around it.
    fn amounts(&self) -> (Amounts, Amounts) {
        let limits = amounts(self.limits.as_ref());
        (amounts(self.requests.as_ref()).or(limits), limits)
    }
}

impl ContainerSummary {
    fn amounts(&self) -> (Amounts, Amounts) {
        self.resources.as_ref().map(RequirementsSummary::amounts).unwrap_or_default()
    }

    /// Whether an init container runs on beside the others.
    fn stays(&self) -> bool {
        self.restart_policy.as_deref() == Some("Always")
    }

    fn kept(&self) -> ContainerResources {
        let (requests, limits) = self.amounts();
        ContainerResources { name: Box::from(self.name.as_str()), requests, limits }
    }
}

impl PodSpecSummary {
    /// What the pod and its containers ask for and may use.
    pub(super) fn resources(&self) -> PodResources {
        let containers = self.containers.as_deref().unwrap_or_default();
        let init = self.init_containers.as_deref().unwrap_or_default();
        let staying = || init.iter().filter(|container| container.stays());
        let running = || staying().chain(containers);

        let requests = running().map(|c| c.amounts().0).fold(Amounts::default(), Amounts::plus);
        let limits = running().map(|c| c.amounts().1).reduce(Amounts::plus_if_both);
        // Each one that ends runs beside those before it that stay.
        let (mut beside, mut initial) = (Amounts::default(), Amounts::default());
        for container in init {
            let needed = container.amounts().0.plus(beside);
            if container.stays() {
                beside = needed;
            }
            initial = initial.max(needed);
        }
        let whole = self.resources.as_ref().map(RequirementsSummary::amounts).unwrap_or_default();
        let overhead = amounts(self.overhead.as_ref());
        let limits = whole.1.or(limits.unwrap_or_default());
        PodResources {
            requests: whole.0.or(requests.max(initial)).plus(overhead),
            // Overhead comes on top of a limit, but sets none.
            limits: limits
                .each(overhead, |limit, more| Some(limit?.saturating_add(more.unwrap_or(0)))),
            containers: running().take(CONTAINERS_MAX).map(ContainerSummary::kept).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(spec: serde_json::Value) -> PodResources {
        serde_json::from_value::<PodSpecSummary>(spec).unwrap().resources()
    }

    fn amounts(cpu_milli: impl Into<Option<i64>>, memory_bytes: impl Into<Option<i64>>) -> Amounts {
        Amounts { cpu_milli: cpu_milli.into(), memory_bytes: memory_bytes.into() }
    }

    /// The rules are those of `k8s.io/component-helpers/resource`: `PodRequests` and `PodLimits`.
    #[test]
    fn containers_add_up_and_initialization_may_need_more() {
        let pod = resources(serde_json::json!({
            "nodeName": "n1",
            "containers": [
                {"name": "a", "resources": {
                    "requests": {"cpu": "100m", "memory": "1Mi"}, "limits": {"cpu": "1", "memory": "2Mi"}}},
                {"name": "b", "resources": {
                    "requests": {"cpu": "0.25"}, "limits": {"memory": "2Mi", "example.com/gpu": "1"}}},
            ],
            "initContainers": [
                {"name": "proxy", "restartPolicy": "Always", "resources": {
                    "requests": {"cpu": "50m"}, "limits": {"memory": "1Mi"}}},
                {"name": "migrate", "resources": {"requests": {"cpu": "300m", "memory": "8Mi"}}},
            ],
        }));
        // Of CPU 100 + 250 + 50 is more than 300 + 50. "b" and "proxy" have the request of memory that is their limit, so 8 + 1 is more
        // than 1 + 2 + 1.
        assert_eq!(pod.requests, amounts(400, 9 << 20));
        assert_eq!(pod.limits, amounts(None, 5 << 20), "\"b\" has no limit of CPU");
        let names: Vec<_> = pod.containers.iter().map(|container| &*container.name).collect();
        assert_eq!(names, ["proxy", "a", "b"]);
        assert_eq!(pod.containers[2].requests, amounts(250, 2 << 20));
    }

    #[test]
    fn what_is_stated_for_the_pod_goes_before_its_containers_and_overhead_comes_on_top() {
        let pod = resources(serde_json::json!({
            "containers": [{"name": "a", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}],
            "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "3"}},
            "overhead": {"cpu": "100m", "memory": "1Mi"},
        }));
        assert_eq!(pod.requests, amounts(2100, (1 << 30) + (1 << 20)));
        assert_eq!(pod.limits, amounts(3100, None));
    }

    #[test]
    fn nothing_stated_is_nothing_known() {
        for spec in [
            serde_json::json!({}),
            serde_json::json!({"containers": null, "initContainers": null, "resources": null}),
            serde_json::json!({"containers": [{"name": "a", "resources": {"requests": {"cpu": "x"}}}]}),
        ] {
            let pod = resources(spec);
            assert_eq!((pod.requests, pod.limits), (Amounts::default(), Amounts::default()));
        }
    }
}
