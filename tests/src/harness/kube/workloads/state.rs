//! What runs, and what is to be done about it at a moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::super::cluster::{Cluster, node_name};
use super::super::node::{ContainerUse, PodUse};
use super::manifests::{PodState, Stage, Template, status};
use super::{Load, Replicas, Workload};

/// CPU nanoseconds per second of a millicore.
const MILLICORE: u64 = 1_000_000;

const MEMORY_BYTES: u64 = 32 << 20;

/// Namespace and name.
type Key = (String, String);

/// All workloads.
#[derive(Debug, Default)]
pub(crate) struct State {
    workloads: BTreeMap<Key, Running>,
    /// Pods made so far, by which they get nodes in turn.
    placed: usize,
}

#[derive(Debug)]
struct Running {
    workload: Workload,
    load_since_ms: i64,
    replica_set_uid: Value,
    /// Oldest first, without those that failed.
    pods: Vec<Pod>,
    pods_made: usize,
    /// The counts that were last written into the Deployment's status and the ReplicaSet's.
    told: Option<(Value, i32)>,
}

#[derive(Debug)]
struct Pod {
    state: PodState,
    node: usize,
    /// When the stage changes next.
    next_ms: Option<i64>,
    millicores: u64,
}

fn key(namespace: &str, name: &str) -> Key {
    (String::from(namespace), String::from(name))
}

fn pod_path(namespace: &str, name: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/pods/{name}")
}

impl Running {
    fn template(&self) -> Template<'_> {
        let workload = &self.workload;
        Template {
            namespace: &workload.namespace,
            name: &workload.name,
            cpu_request_millicores: workload.cpu_request_millicores,
            cpu_limit_millicores: workload.cpu_limit_millicores,
        }
    }

    fn path(&self) -> String {
        let Workload { namespace, name, .. } = &self.workload;
        format!("/apis/apps/v1/namespaces/{namespace}/deployments/{name}")
    }

    fn startup_ms(&self) -> i64 {
        i64::try_from(self.workload.startup.as_millis()).unwrap_or(i64::MAX / 4)
    }

    /// What the Deployment asks for; `None` if there is none any more.
    fn wanted(&self, cluster: &Cluster) -> Option<i32> {
        let deployment = cluster.api.get(&self.path())?;
        let replicas = deployment["spec"]["replicas"].as_i64().unwrap_or(1);
        Some(i32::try_from(replicas).unwrap_or(i32::MAX))
    }
}

impl Pod {
    fn is_ready(&self) -> bool {
        matches!(self.state.stage, Stage::Ready { .. })
    }

    /// What goes first on the way down goes last here: ready before unready, older before younger.
    fn rank(&self) -> (bool, i64) {
        (!self.is_ready(), self.state.created_ms)
    }
}

impl State {
    pub(crate) fn add(&mut self, cluster: &Arc<Cluster>, workload: Workload, now: i64) {
        let mut running = Running {
            load_since_ms: now,
            replica_set_uid: Value::Null,
            pods: Vec::new(),
            pods_made: 0,
            told: None,
            workload,
        };
        let replicas = running.workload.replicas;
        let deployment = cluster.api.put(running.template().deployment(replicas));
        let uid = &deployment["metadata"]["uid"];
        let replica_set = cluster.api.put(running.template().replica_set(replicas, uid));
        running.replica_set_uid = replica_set["metadata"]["uid"].clone();
        let key = key(&running.workload.namespace, &running.workload.name);
        self.workloads.insert(key, running);
    }

    fn find(&mut self, namespace: &str, name: &str) -> &mut Running {
        let found = self.workloads.get_mut(&key(namespace, name));
        found.unwrap_or_else(|| panic!("no workload {namespace}/{name}"))
    }

    pub(crate) fn set_load(&mut self, namespace: &str, name: &str, load: Load, now: i64) {
        let running = self.find(namespace, name);
        running.workload.load = load;
        running.load_since_ms = now;
    }

    pub(crate) fn pods(&self, namespace: &str, name: &str) -> Vec<String> {
        let running = self.workloads.get(&key(namespace, name));
        let running = running.unwrap_or_else(|| panic!("no workload {namespace}/{name}"));
        running.pods.iter().map(|pod| pod.state.name.clone()).collect()
    }

    pub(crate) fn replicas(&self, cluster: &Cluster, namespace: &str, name: &str) -> Replicas {
        let running = self.workloads.get(&key(namespace, name));
        let running = running.unwrap_or_else(|| panic!("no workload {namespace}/{name}"));
        Replicas {
            wanted: running.wanted(cluster).unwrap_or(0),
            pods: running.pods.len(),
            ready: running.pods.iter().filter(|pod| pod.is_ready()).count(),
        }
    }

    fn find_pod(&mut self, namespace: &str, pod: &str) -> (&mut Running, usize) {
        for running in self.workloads.values_mut() {
            let at = running.pods.iter().position(|p| p.state.name == pod);
            if let (true, Some(at)) = (running.workload.namespace == namespace, at) {
                return (running, at);
            }
        }
        panic!("no pod {namespace}/{pod}");
    }

    pub(crate) fn crash(&mut self, cluster: &Cluster, namespace: &str, pod: &str, now: i64) {
        let (running, at) = self.find_pod(namespace, pod);
        let ready_ms = now + running.startup_ms();
        let pod = &mut running.pods[at];
        pod.state.stage = Stage::Running { started_ms: now };
        pod.state.unready_ms = now;
        pod.state.restarts += 1;
        pod.next_ms = Some(ready_ms);
        pod.millicores = 0;
        cluster.kubelets.edit(pod.node, |node| {
            for container in containers(node.pods.iter_mut(), namespace, &pod.state.name) {
                container.cpu.change(now, 0);
                container.restart(now);
            }
        });
        tell(cluster, namespace, pod);
    }

    pub(crate) fn fail(&mut self, cluster: &Cluster, namespace: &str, pod: &str, now: i64) {
        let (running, at) = self.find_pod(namespace, pod);
        let mut pod = running.pods.remove(at);
        pod.state.stage = Stage::Failed;
        pod.state.unready_ms = now;
        stop(cluster, namespace, &pod);
        tell(cluster, namespace, &pod);
    }

    /// Does all that is due at `now`, and says when something is due next.
    pub(crate) fn step(&mut self, cluster: &Arc<Cluster>, now: i64) -> Option<i64> {
        let Self { workloads, placed } = self;
        let next = workloads.values_mut().filter_map(|running| {
            running.forget_deleted(cluster);
            let wanted = running.wanted(cluster);
            running.follow(cluster, wanted.unwrap_or(0), placed, now);
            let next_stage_ms = running.advance(cluster, now);
            let next_load_ms = running.share_load(cluster, now);
            if let Some(wanted) = wanted {
                running.tell_counts(cluster, wanted);
            }
            next_stage_ms.into_iter().chain(next_load_ms).min()
        });
        next.min()
    }
}

impl Running {
    /// Pods that a client has deleted are gone.
    fn forget_deleted(&mut self, cluster: &Cluster) {
        let namespace = &self.workload.namespace;
        self.pods.retain(|pod| {
            let there = cluster.api.get(&pod_path(namespace, &pod.state.name)).is_some();
            if !there {
                stop(cluster, namespace, pod);
            }
            there
        });
    }

    /// Makes and removes pods until there are as many as wanted.
    fn follow(&mut self, cluster: &Cluster, wanted: i32, placed: &mut usize, now: i64) {
        let wanted = usize::try_from(wanted).unwrap_or(0);
        while self.pods.len() > wanted {
            let last = (0..self.pods.len()).max_by_key(|at| self.pods[*at].rank());
            let Some(last) = last else { break };
            let pod = self.pods.remove(last);
            stop(cluster, &self.workload.namespace, &pod);
            cluster.api.delete(&pod_path(&self.workload.namespace, &pod.state.name));
        }
        while self.pods.len() < wanted {
            let node = *placed % cluster.kubelets.count();
            *placed += 1;
            self.pods_made += 1;
            let state = PodState {
                name: format!("{}-{:05}", self.template().replica_set_name(), self.pods_made),
                node: node_name(node),
                created_ms: now,
                stage: Stage::Pending,
                unready_ms: now,
                restarts: 0,
            };
            cluster.api.put(self.template().pod(&state, &self.replica_set_uid));
            let next_ms = Some(now + self.startup_ms());
            self.pods.push(Pod { state, node, next_ms, millicores: 0 });
        }
    }

    /// Starts containers and makes them ready when their time has come; when the next one's will.
    fn advance(&mut self, cluster: &Cluster, now: i64) -> Option<i64> {
        let startup_ms = self.startup_ms();
        let namespace = &self.workload.namespace;
        for pod in &mut self.pods {
            while let Some(due_ms) = pod.next_ms.filter(|next_ms| *next_ms <= now) {
                pod.next_ms = match pod.state.stage {
                    Stage::Pending => {
                        pod.state.stage = Stage::Running { started_ms: due_ms };
                        let container = ContainerUse::new("main", due_ms, 0, MEMORY_BYTES);
                        let pod_use = PodUse {
                            namespace: namespace.clone(),
                            name: pod.state.name.clone(),
                            containers: vec![container],
                        };
                        cluster.kubelets.edit(pod.node, |node| node.pods.push(pod_use));
                        Some(due_ms + startup_ms)
                    }
                    Stage::Running { started_ms } => {
                        pod.state.stage = Stage::Ready { started_ms, ready_ms: due_ms };
                        None
                    }
                    Stage::Ready { .. } | Stage::Failed => None,
                };
                tell(cluster, namespace, pod);
            }
        }
        self.pods.iter().filter_map(|pod| pod.next_ms).min()
    }

    /// Gives each ready pod its share of the demand; when the demand changes next.
    fn share_load(&mut self, cluster: &Cluster, now: i64) -> Option<i64> {
        let (demand, next) = self.workload.load.at(now - self.load_since_ms);
        let ready = self.pods.iter().filter(|pod| pod.is_ready()).count() as u64;
        let limit = self.workload.cpu_limit_millicores.unwrap_or(u64::MAX);
        for pod in &mut self.pods {
            let share = if pod.is_ready() { (demand / ready.max(1)).min(limit) } else { 0 };
            if share == pod.millicores {
                continue;
            }
            pod.millicores = share;
            let namespace = &self.workload.namespace;
            cluster.kubelets.edit(pod.node, |node| {
                for container in containers(node.pods.iter_mut(), namespace, &pod.state.name) {
                    container.cpu.change(now, share * MILLICORE);
                }
            });
        }
        next.map(|next| self.load_since_ms + next)
    }

    /// Brings the counts of the Deployment and its ReplicaSet up to date.
    fn tell_counts(&mut self, cluster: &Cluster, wanted: i32) {
        let ready = self.pods.iter().filter(|pod| pod.is_ready()).count();
        let status = json!({
            "replicas": self.pods.len(),
            "updatedReplicas": self.pods.len(),
            "readyReplicas": ready,
            "availableReplicas": ready,
            "unavailableReplicas": self.pods.len() - ready,
        });
        let told = Some((status.clone(), wanted));
        if self.told == told {
            return;
        }
        cluster.api.edit(&self.path(), |deployment| {
            deployment["status"] = status.clone();
            deployment["status"]["observedGeneration"] =
                deployment["metadata"]["generation"].clone();
        });
        let replica_set = format!(
            "/apis/apps/v1/namespaces/{}/replicasets/{}",
            self.workload.namespace,
            self.template().replica_set_name()
        );
        cluster.api.edit(&replica_set, |replica_set| {
            replica_set["spec"]["replicas"] = wanted.into();
            replica_set["status"] = json!({
                "replicas": status["replicas"],
                "fullyLabeledReplicas": status["replicas"],
                "readyReplicas": status["readyReplicas"],
                "availableReplicas": status["availableReplicas"],
            });
        });
        self.told = told;
    }
}

/// Writes what the kubelet says of a pod into its status.
fn tell(cluster: &Cluster, namespace: &str, pod: &Pod) {
    cluster.api.edit(&pod_path(namespace, &pod.state.name), |object| {
        object["status"] = status(&pod.state);
    });
}

/// Takes a pod from its node.
fn stop(cluster: &Cluster, namespace: &str, pod: &Pod) {
    cluster.kubelets.edit(pod.node, |node| {
        node.pods.retain(|p| p.namespace != namespace || p.name != pod.state.name);
    });
}

fn containers<'p>(
    pods: impl Iterator<Item = &'p mut PodUse>,
    namespace: &str,
    name: &str,
) -> impl Iterator<Item = &'p mut ContainerUse> {
    pods.filter(move |pod| pod.namespace == namespace && pod.name == name)
        .flat_map(|pod| &mut pod.containers)
}
