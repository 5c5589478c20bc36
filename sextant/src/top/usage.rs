//! What the metrics API says, as far as it is printed.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Node;
use metrics_api::Quantity;
use serde::Deserialize;

/// Amounts of CPU, memory and swap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amounts {
    /// Billionths of a core.
    pub(super) cpu_nanocores: i128,
    pub(super) memory_bytes: i64,
    pub(super) swap_bytes: i64,
}

impl Amounts {
    /// CPU in thousandths of a core, rounded up as `Quantity.MilliValue` does.
    pub(super) fn millicores(&self) -> i64 {
        let rounded = self.cpu_nanocores.div_euclid(1_000_000)
            + i128::from(self.cpu_nanocores.rem_euclid(1_000_000) != 0);
        i64::try_from(rounded).unwrap_or(i64::MAX)
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            cpu_nanocores: self.cpu_nanocores.saturating_add(other.cpu_nanocores),
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
            swap_bytes: self.swap_bytes.saturating_add(other.swap_bytes),
        }
    }
}

/// A resource list of the API.
type Resources = BTreeMap<String, Quantity>;

fn amounts(resources: &Resources) -> Amounts {
    let bytes = |name| resources.get(name).map_or(0, Quantity::value);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "exact below nine million cores, and saturating above"
    )]
    let nanocores = |cpu: &Quantity| (cpu.as_f64() * 1e9).round() as i128;
    Amounts {
        cpu_nanocores: resources.get("cpu").map_or(0, nanocores),
        memory_bytes: bytes("memory"),
        swap_bytes: bytes("swap"),
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct ObjectName {
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) namespace: String,
}

/// `NodeMetrics`
#[derive(Clone, Debug, Deserialize)]
pub(super) struct NodeUsage {
    pub(super) metadata: ObjectName,
    #[serde(default)]
    usage: Resources,
}

impl NodeUsage {
    pub(super) fn amounts(&self) -> Amounts {
        amounts(&self.usage)
    }
}

/// `PodMetrics`
#[derive(Clone, Debug, Deserialize)]
pub(super) struct PodUsage {
    pub(super) metadata: ObjectName,
    #[serde(default)]
    pub(super) containers: Vec<ContainerUsage>,
}

impl PodUsage {
    pub(super) fn amounts(&self) -> Amounts {
        let containers = self.containers.iter().map(ContainerUsage::amounts);
        containers.fold(Amounts::default(), Amounts::plus)
    }
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct ContainerUsage {
    pub(super) name: String,
    #[serde(default)]
    usage: Resources,
}

impl ContainerUsage {
    pub(super) fn amounts(&self) -> Amounts {
        amounts(&self.usage)
    }
}

/// What a node has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Capacity {
    pub(super) node: String,
    pub(super) millicores: Option<i64>,
    pub(super) memory_bytes: Option<i64>,
    pub(super) swap_bytes: Option<i64>,
}

impl Capacity {
    /// What pods may use of `node`, or all of it.
    pub(super) fn of(node: Node, all: bool) -> Option<Self> {
        let status = node.status.unwrap_or_default();
        let resources = if all { status.capacity } else { status.allocatable };
        let resources = resources.unwrap_or_default();
        let quantity = |name| resources.get(name)?.0.parse::<Quantity>().ok();
        let swap = status.node_info.and_then(|info| info.swap).and_then(|swap| swap.capacity);
        Some(Self {
            node: node.metadata.name?,
            millicores: quantity("cpu").map(|cpu| cpu.milli_value()),
            memory_bytes: quantity("memory").map(|memory| memory.value()),
            swap_bytes: swap,
        })
    }
}
