//! What runs on a node, how much it uses, and how its kubelet tells.
//!
//! CPU time is a function of time: what was used up to some moment, and a rate since. So whoever knows the rates knows
//! every answer, whenever it was asked.

use std::time::Duration;

use model::{FloatFormat, write_float};

/// Rates that a [`CpuUse`] remembers: a sample may be told of after the rate has changed again.
const RATES_MAX: usize = 32;

/// A rate of CPU time from some moment on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rate {
    /// Since when it holds, in milliseconds since the epoch.
    since_ms: i64,
    /// CPU time used before, in nanoseconds.
    before_ns: u64,
    /// CPU nanoseconds per second: a billion is a core.
    nanocores: u64,
}

impl Rate {
    fn at(&self, at_ms: i64) -> u64 {
        let elapsed_ms = u64::try_from(at_ms - self.since_ms).unwrap_or(0);
        let since = u128::from(elapsed_ms) * u128::from(self.nanocores) / 1000;
        self.before_ns + u64::try_from(since).unwrap_or(u64::MAX / 2)
    }
}

/// CPU time that grows at rates, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuUse {
    /// Oldest first; never empty.
    rates: Vec<Rate>,
}

impl CpuUse {
    /// CPU time that grows by `nanocores` nanoseconds a second from `since_ms` (milliseconds since the epoch) on.
    #[must_use]
    pub fn new(since_ms: i64, nanocores: u64) -> Self {
        Self { rates: vec![Rate { since_ms, before_ns: 0, nanocores }] }
    }

    /// As if `before_ns` nanoseconds had been used before.
    #[must_use]
    pub fn after(mut self, before_ns: u64) -> Self {
        self.rates.iter_mut().for_each(|rate| rate.before_ns += before_ns);
        self
    }

    /// The CPU time used up to `at_ms`, in nanoseconds.
    #[must_use]
    pub fn at(&self, at_ms: i64) -> u64 {
        let rate = self.rates.iter().rfind(|rate| rate.since_ms <= at_ms);
        rate.or(self.rates.first()).map_or(0, |rate| rate.at(at_ms))
    }

    /// The rate now.
    #[must_use]
    pub fn nanocores(&self) -> u64 {
        self.rates.last().map_or(0, |rate| rate.nanocores)
    }

    /// Goes on from `at_ms` at another rate. Times go forward only.
    pub fn change(&mut self, at_ms: i64, nanocores: u64) {
        if self.rates.len() == RATES_MAX {
            self.rates.remove(0);
        }
        self.rates.push(Rate { since_ms: at_ms, before_ns: self.at(at_ms), nanocores });
    }
}

/// A container.
#[derive(Clone, Debug)]
pub struct ContainerUse {
    /// Its name.
    pub name: String,
    /// When it started, in milliseconds since the epoch; `None` is not told.
    pub start_ms: Option<i64>,
    /// CPU time.
    pub cpu: CpuUse,
    /// Working set.
    pub memory_bytes: u64,
    /// Swap used; `None` is not told.
    pub swap_bytes: Option<u64>,
}

impl ContainerUse {
    /// A container that started at `start_ms`.
    #[must_use]
    pub fn new(name: &str, start_ms: i64, nanocores: u64, memory_bytes: u64) -> Self {
        Self {
            name: String::from(name),
            start_ms: Some(start_ms),
            cpu: CpuUse::new(start_ms, nanocores),
            memory_bytes,
            swap_bytes: None,
        }
    }

    /// Starts anew: CPU time counts from zero.
    pub fn restart(&mut self, at_ms: i64) {
        self.start_ms = Some(at_ms);
        self.cpu = CpuUse::new(at_ms, self.cpu.nanocores());
    }
}

/// A pod.
#[derive(Clone, Debug)]
pub struct PodUse {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its containers.
    pub containers: Vec<ContainerUse>,
}

/// How a kubelet answers.
#[derive(Clone, Debug, Default)]
pub enum Behaviour {
    /// As it should.
    #[default]
    Serve,
    /// The connection is closed at once.
    Refuse,
    /// The connection stays open, and no answer comes.
    Hang,
    /// With this status and no more.
    Status(u16),
    /// With these bytes instead of metrics.
    Garbage(Vec<u8>),
    /// With its metrics and comments, so many bytes in all.
    Oversize(u64),
    /// Some bytes at a time, with pauses.
    Drip(usize, Duration),
}

/// At which times samples are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampling {
    /// Every so many milliseconds, as housekeeping does, shifted by some; an answer has the latest.
    Every {
        /// Between two samples.
        interval_ms: i64,
        /// From whole intervals of the epoch.
        shift_ms: i64,
    },
    /// At this time, whatever the time is.
    At(i64),
}

impl Sampling {
    /// The time of the latest sample.
    #[must_use]
    pub fn latest(self, now_ms: i64) -> i64 {
        match self {
            Self::At(at_ms) => at_ms,
            Self::Every { interval_ms, shift_ms } => {
                now_ms - (now_ms - shift_ms).rem_euclid(interval_ms.max(1))
            }
        }
    }
}

/// A node and its kubelet.
#[derive(Clone, Debug)]
pub struct NodeUse {
    /// The node's name.
    pub name: String,
    /// CPU time of all that runs there.
    pub cpu: CpuUse,
    /// Working set of all that runs there.
    pub memory_bytes: u64,
    /// Swap used; `None` is not told.
    pub swap_bytes: Option<u64>,
    /// What runs there.
    pub pods: Vec<PodUse>,
    /// How the kubelet answers.
    pub behaviour: Behaviour,
    /// At which times it takes samples.
    pub sampling: Sampling,
    /// How often it was asked for its metrics by somebody who may.
    pub scrapes: u64,
}

impl NodeUse {
    /// The container of a pod here.
    pub fn container(&mut self, pod: &str, container: &str) -> Option<&mut ContainerUse> {
        let pod = self.pods.iter_mut().find(|candidate| candidate.name == pod)?;
        pod.containers.iter_mut().find(|candidate| candidate.name == container)
    }
}

/// Sums of the containers of a pod.
fn sum(pod: &PodUse, part: impl Fn(&ContainerUse) -> u64) -> u64 {
    pod.containers.iter().map(part).sum()
}

/// Writes `/metrics/resource` as a kubelet does: families by name, their series by the values of their labels.
pub(crate) fn write_metrics(node: &NodeUse, now_ms: i64, out: &mut Vec<u8>) {
    let at_ms = node.sampling.latest(now_ms);
    let mut containers: Vec<(&PodUse, &ContainerUse)> =
        node.pods.iter().flat_map(|pod| pod.containers.iter().map(move |c| (pod, c))).collect();
    containers.sort_by_key(|(pod, container)| (&container.name, &pod.namespace, &pod.name));
    let mut pods: Vec<&PodUse> = node.pods.iter().collect();
    pods.sort_by_key(|pod| (&pod.namespace, &pod.name));
    let has_swap = node.swap_bytes.is_some();

    let mut family = Family { out, at_ms };
    family.head(
        "container_cpu_usage_seconds_total",
        "[STABLE] Cumulative cpu time consumed by the container in core-seconds",
        "counter",
    );
    for (pod, container) in &containers {
        let labels = [&container.name, &pod.namespace, &pod.name];
        family.container(
            "container_cpu_usage_seconds_total",
            labels,
            seconds(container.cpu.at(at_ms)),
        );
    }
    family.head(
        "container_memory_working_set_bytes",
        "[STABLE] Current working set of the container in bytes",
        "gauge",
    );
    for (pod, container) in &containers {
        let labels = [&container.name, &pod.namespace, &pod.name];
        family.container(
            "container_memory_working_set_bytes",
            labels,
            bytes(container.memory_bytes),
        );
    }
    family.head(
        "container_start_time_seconds",
        "[STABLE] Start time of the container since unix epoch in seconds",
        "gauge",
    );
    for (pod, container) in &containers {
        let Some(start_ms) = container.start_ms else { continue };
        let labels = [&container.name, &pod.namespace, &pod.name];
        family.start("container_start_time_seconds", labels, start_ms);
    }
    if has_swap {
        family.head(
            "container_swap_usage_bytes",
            "[ALPHA] Current amount of the container swap usage in bytes. Reported only on \
             non-windows systems",
            "gauge",
        );
        for (pod, container) in &containers {
            let Some(swap) = container.swap_bytes else { continue };
            let labels = [&container.name, &pod.namespace, &pod.name];
            family.container("container_swap_usage_bytes", labels, bytes(swap));
        }
    }
    family.head(
        "node_cpu_usage_seconds_total",
        "[STABLE] Cumulative cpu time consumed by the node in core-seconds",
        "counter",
    );
    family.sample("node_cpu_usage_seconds_total", &[], seconds(node.cpu.at(at_ms)), true);
    family.head(
        "node_memory_working_set_bytes",
        "[STABLE] Current working set of the node in bytes",
        "gauge",
    );
    family.sample("node_memory_working_set_bytes", &[], bytes(node.memory_bytes), true);
    if let Some(swap) = node.swap_bytes {
        family.head(
            "node_swap_usage_bytes",
            "[ALPHA] Current swap usage of the node in bytes. Reported only on non-windows systems",
            "gauge",
        );
        family.sample("node_swap_usage_bytes", &[], bytes(swap), true);
    }
    write_pods(&mut family, &pods, has_swap);
    family.head(
        "resource_scrape_error",
        "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise",
        "gauge",
    );
    family.sample("resource_scrape_error", &[], 0.0, false);
}

fn write_pods(family: &mut Family<'_>, pods: &[&PodUse], has_swap: bool) {
    let at_ms = family.at_ms;
    family.head(
        "pod_cpu_usage_seconds_total",
        "[STABLE] Cumulative cpu time consumed by the pod in core-seconds",
        "counter",
    );
    for pod in pods {
        let used = seconds(sum(pod, |container| container.cpu.at(at_ms)));
        family.pod("pod_cpu_usage_seconds_total", pod, used);
    }
    family.head(
        "pod_memory_working_set_bytes",
        "[STABLE] Current working set of the pod in bytes",
        "gauge",
    );
    for pod in pods {
        let used = bytes(sum(pod, |container| container.memory_bytes));
        family.pod("pod_memory_working_set_bytes", pod, used);
    }
    if has_swap {
        family.head(
            "pod_swap_usage_bytes",
            "[ALPHA] Current amount of the pod swap usage in bytes. Reported only on non-windows \
             systems",
            "gauge",
        );
        for pod in pods {
            let used = bytes(sum(pod, |container| container.swap_bytes.unwrap_or(0)));
            family.pod("pod_swap_usage_bytes", pod, used);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "the kubelet divides doubles too")]
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

#[expect(clippy::cast_precision_loss, reason = "the kubelet converts to a double too")]
fn bytes(bytes: u64) -> f64 {
    bytes as f64
}

struct Family<'o> {
    out: &'o mut Vec<u8>,
    at_ms: i64,
}

impl Family<'_> {
    fn head(&mut self, name: &str, help: &str, kind: &str) {
        for part in ["# HELP ", name, " ", help, "\n# TYPE ", name, " ", kind, "\n"] {
            self.out.extend_from_slice(part.as_bytes());
        }
    }

    fn container(&mut self, name: &str, [container, namespace, pod]: [&String; 3], value: f64) {
        let labels = [("container", container), ("namespace", namespace), ("pod", pod)];
        self.sample(name, &labels, value, true);
    }

    /// Start times have no timestamp.
    #[expect(
        clippy::cast_precision_loss,
        reason = "milliseconds since the epoch fit into a double"
    )]
    fn start(&mut self, name: &str, [container, namespace, pod]: [&String; 3], start_ms: i64) {
        let labels = [("container", container), ("namespace", namespace), ("pod", pod)];
        self.sample(name, &labels, start_ms as f64 / 1000.0, false);
    }

    fn pod(&mut self, name: &str, pod: &PodUse, value: f64) {
        self.sample(name, &[("namespace", &pod.namespace), ("pod", &pod.name)], value, true);
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &String)], value: f64, timed: bool) {
        self.out.extend_from_slice(name.as_bytes());
        for (index, (label, value)) in labels.iter().enumerate() {
            self.out.push(if index == 0 { b'{' } else { b',' });
            for part in [label, "=\"", value.as_str(), "\""] {
                self.out.extend_from_slice(part.as_bytes());
            }
        }
        if !labels.is_empty() {
            self.out.push(b'}');
        }
        self.out.push(b' ');
        write_float(self.out, value, FloatFormat::General);
        if timed {
            self.out.push(b' ');
            self.out.extend_from_slice(self.at_ms.to_string().as_bytes());
        }
        self.out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_look_like_a_kubelets() {
        let mut proxy = ContainerUse::new("proxy", 1_700_000_000_000, 250_000_000, 4096);
        proxy.swap_bytes = Some(8);
        let node = NodeUse {
            name: String::from("n"),
            cpu: CpuUse::new(1_700_000_000_000, 500_000_000).after(5_000_000_000),
            memory_bytes: 123_456_789,
            swap_bytes: Some(16),
            pods: vec![PodUse {
                namespace: String::from("kube-system"),
                name: String::from("p"),
                containers: vec![proxy],
            }],
            behaviour: Behaviour::Serve,
            sampling: Sampling::Every { interval_ms: 10_000, shift_ms: 0 },
            scrapes: 0,
        };
        let mut out = Vec::new();
        write_metrics(&node, 1_700_000_019_999, &mut out);
        let expected = r#"# HELP container_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed by the container in core-seconds
# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{container="proxy",namespace="kube-system",pod="p"} 2.5 1700000010000
# HELP container_memory_working_set_bytes [STABLE] Current working set of the container in bytes
# TYPE container_memory_working_set_bytes gauge
container_memory_working_set_bytes{container="proxy",namespace="kube-system",pod="p"} 4096 1700000010000
# HELP container_start_time_seconds [STABLE] Start time of the container since unix epoch in seconds
# TYPE container_start_time_seconds gauge
container_start_time_seconds{container="proxy",namespace="kube-system",pod="p"} 1.7e+09
# HELP container_swap_usage_bytes [ALPHA] Current amount of the container swap usage in bytes. Reported only on non-windows systems
# TYPE container_swap_usage_bytes gauge
container_swap_usage_bytes{container="proxy",namespace="kube-system",pod="p"} 8 1700000010000
# HELP node_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed by the node in core-seconds
# TYPE node_cpu_usage_seconds_total counter
node_cpu_usage_seconds_total 10 1700000010000
# HELP node_memory_working_set_bytes [STABLE] Current working set of the node in bytes
# TYPE node_memory_working_set_bytes gauge
node_memory_working_set_bytes 1.23456789e+08 1700000010000
# HELP node_swap_usage_bytes [ALPHA] Current swap usage of the node in bytes. Reported only on non-windows systems
# TYPE node_swap_usage_bytes gauge
node_swap_usage_bytes 16 1700000010000
# HELP pod_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed by the pod in core-seconds
# TYPE pod_cpu_usage_seconds_total counter
pod_cpu_usage_seconds_total{namespace="kube-system",pod="p"} 2.5 1700000010000
# HELP pod_memory_working_set_bytes [STABLE] Current working set of the pod in bytes
# TYPE pod_memory_working_set_bytes gauge
pod_memory_working_set_bytes{namespace="kube-system",pod="p"} 4096 1700000010000
# HELP pod_swap_usage_bytes [ALPHA] Current amount of the pod swap usage in bytes. Reported only on non-windows systems
# TYPE pod_swap_usage_bytes gauge
pod_swap_usage_bytes{namespace="kube-system",pod="p"} 8 1700000010000
# HELP resource_scrape_error [STABLE] 1 if there was an error while getting container metrics, 0 otherwise
# TYPE resource_scrape_error gauge
resource_scrape_error 0
"#;
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn rates_change_without_a_jump() {
        let mut cpu = CpuUse::new(1000, 2_000_000_000);
        assert_eq!(cpu.at(2000), 2_000_000_000);
        cpu.change(2000, 500_000_000);
        assert_eq!(cpu.at(2000), 2_000_000_000);
        assert_eq!(cpu.at(4000), 3_000_000_000);
        assert_eq!(cpu.at(1500), 1_000_000_000, "samples of before stay as they were");
        assert_eq!(cpu.at(0), 0, "nothing was used before the start");
    }
}
