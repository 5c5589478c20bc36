//! A small cluster whose numbers are known, and our metrics server in it.

use std::time::Duration;

use model::{Clock, SystemClock};
use serde_json::Value;
use tests::harness::kube::{
    Behaviour, Cluster, ClusterOptions, ContainerUse, CpuUse, Kubectl, MetricsServer, PodUse,
    Sampling,
};
use tests::harness::wait_for;

/// How long something may take that needs two scrapes, on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(90);

/// Between the samples of a fixture.
pub(crate) const WINDOW_MS: i64 = 16_000;

const MILLICORE: u64 = 1_000_000;
const MIB: u64 = 1 << 20;

/// Three nodes, of which the last is down, and three pods:
///
/// | node | uses | pod | container | uses |
/// |---|---|---|---|---|
/// | node-00000 | 2 cores, 8 GiB | team-a/web-1 | main | 250m, 64 MiB, 4 MiB of swap |
/// | | | | side | 500m, 32 MiB, no swap |
/// | | | team-a/db-1 | main | 1, 256 MiB, 16 MiB of swap |
/// | node-00001 | 1 core, 4 GiB | team-b/web-2 | main | 750m, 128 MiB, no swap |
/// | node-00002 | | | | |
///
/// All of it since 1,000 s before the first sample. CPU times at samples are whole quarters of a second, so that
/// floats hold them exactly.
pub(crate) struct Fixture {
    pub(crate) cluster: Cluster,
    pub(crate) server: MetricsServer,
    pub(crate) kubectl: Kubectl,
    /// The time of the first sample, in milliseconds since the epoch.
    pub(crate) first_ms: i64,
    pub(crate) folder: tempfile::TempDir,
}

/// The nodes that answer.
const ALIVE: [usize; 2] = [0, 1];

impl Fixture {
    /// Starts all, and waits until each node that is up was asked once; `None` without a `kubectl`.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// As [`start`](Self::start), with more arguments for the metrics server.
    pub(crate) fn start_with(arguments: &[&str]) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let now_ms = SystemClock.now();
        let first_ms = now_ms - now_ms.rem_euclid(1000) - 30_000;
        let options = ClusterOptions { nodes: 3, pods_per_node: 0, ..ClusterOptions::default() };
        let cluster = Cluster::start(&options);
        let kubectl = Kubectl::find(&cluster.api.admin_kubeconfig(folder.path()))?;
        fill(&cluster, first_ms);
        let server = MetricsServer::start(&cluster, folder.path(), arguments);
        cluster.serve_metrics_at(vec![server.address()]);
        cluster.register("metrics.k8s.io", "v1beta1", None);
        let fixture = Self { cluster, server, kubectl, first_ms, folder };
        fixture.wait_for_scrapes(1);
        wait_for("the APIService", LIMIT, || {
            let path = "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.metrics.k8s.io";
            let condition =
                fixture.cluster.api.get(path).unwrap()["status"]["conditions"][0].clone();
            if condition["reason"] == "Passed" { Ok(()) } else { Err(condition.to_string()) }
        });
        Some(fixture)
    }

    /// Waits until each node that is up was asked `more` times, counting from now.
    pub(crate) fn wait_for_scrapes(&self, more: u64) {
        let scrapes = |node: usize| self.cluster.kubelets.edit(node, |node| node.scrapes);
        let before = ALIVE.map(scrapes);
        wait_for("scrapes", LIMIT, || {
            let now = ALIVE.map(scrapes);
            let done = before.iter().zip(now).all(|(before, now)| now >= before + more);
            if done { Ok(()) } else { Err(format!("{now:?}\n{}", self.server.log())) }
        });
    }

    /// Has all kubelets tell of the time of this sample: 0 is the first, others follow at [`WINDOW_MS`].
    pub(crate) fn sample(&self, number: i64) {
        let at_ms = self.at_ms(number);
        self.cluster.kubelets.edit_all(|node| node.sampling = Sampling::At(at_ms));
    }

    /// The time of a sample.
    pub(crate) fn at_ms(&self, number: i64) -> i64 {
        self.first_ms + number * WINDOW_MS
    }

    /// The time of a sample as the API writes it.
    pub(crate) fn at(&self, number: i64) -> String {
        jiff::Timestamp::from_second(self.at_ms(number) / 1000).unwrap().to_string()
    }

    /// Gets a path below `/apis/metrics.k8s.io/v1beta1`, by way of the aggregation layer.
    pub(crate) fn raw(&self, path: &str) -> Value {
        let path = format!("/apis/metrics.k8s.io/v1beta1{path}");
        serde_json::from_str(&self.kubectl.run(&["get", "--raw", &path])).unwrap()
    }

    /// Waits until something at a path is as wanted.
    pub(crate) fn wait_for_raw(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        wait_for(path, LIMIT, || match self.raw(path) {
            value if wanted(&value) => Ok(value),
            value => Err(format!("{value}\n{}", self.server.log())),
        })
    }

    /// Tells of the second sample, and waits until the API has it from all nodes that are up.
    pub(crate) fn measure(&self) {
        self.sample(1);
        self.wait_for_raw("/nodes", |list| names(list).len() == ALIVE.len());
    }
}

/// The names in a list.
pub(crate) fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap().iter();
    items.map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

/// The words of each line, joined by one space.
pub(crate) fn rows(text: &str) -> Vec<String> {
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

fn fill(cluster: &Cluster, first_ms: i64) {
    let start_ms = first_ms - 1_000_000;
    let container = |name: &str, millicores: u64, mib: u64, swap_mib: u64| {
        let rate = millicores * MILLICORE;
        let mut container = ContainerUse::new(name, start_ms, rate, mib * MIB);
        container.swap_bytes = Some(swap_mib * MIB);
        container
    };
    let pod = |namespace: &str, name: &str, containers: Vec<ContainerUse>| PodUse {
        namespace: String::from(namespace),
        name: String::from(name),
        containers,
    };
    let web = vec![container("main", 250, 64, 4), container("side", 500, 32, 0)];
    cluster.add_pod(0, pod("team-a", "web-1", web));
    cluster.add_pod(0, pod("team-a", "db-1", vec![container("main", 1000, 256, 16)]));
    cluster.add_pod(1, pod("team-b", "web-2", vec![container("main", 750, 128, 0)]));
    for (index, cores, gib) in [(0, 2, 8), (1, 1, 4), (2, 0, 0)] {
        cluster.kubelets.edit(index, |node| {
            node.cpu = CpuUse::new(start_ms, cores * 1000 * MILLICORE);
            node.memory_bytes = gib * 1024 * MIB;
            node.swap_bytes = Some(gib * 64 * MIB);
            node.sampling = Sampling::At(first_ms);
        });
    }
    cluster.kubelets.edit(2, |node| node.behaviour = Behaviour::Refuse);
}
