//! Workloads that run: what the deployment and replica set controllers, the scheduler and the kubelets do to them.
//!
//! A Deployment's `spec.replicas` is followed: missing pods are made, on the nodes in turn, and become ready after a
//! start-up time; superfluous ones go, those not ready first, then the youngest. The demand of a workload is shared by
//! its ready pods alike and shows in the kubelets' metrics, up to the CPU limit of each. Nothing but the clock, the test
//! and clients of the API changes what happens: there is no chance in it.
//!
//! It looks at all workloads whenever something changes, which is made for tens of them.

mod load;
pub(crate) mod manifests;
mod state;

pub use load::Load;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use model::{Clock, SystemClock};
use parking_lot::Mutex;
use tokio::sync::Notify;

use self::state::State;
use super::cluster::Cluster;

/// A Deployment that runs.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Its namespace.
    pub namespace: String,
    /// Its name; its pods have the label `app` with this value.
    pub name: String,
    /// Replicas at first. After that the Deployment says.
    pub replicas: i32,
    /// CPU that a pod requests, in millicores.
    pub cpu_request_millicores: u64,
    /// CPU that a pod can use, in millicores; `None` is any.
    pub cpu_limit_millicores: Option<u64>,
    /// Demand of all pods together.
    pub load: Load,
    /// From the creation of a pod until its container runs, and again until it is ready.
    pub startup: Duration,
}

impl Workload {
    /// One whose pods request half a core and are ready after a fifth of a second.
    #[must_use]
    pub fn new(namespace: &str, name: &str, replicas: i32, load: Load) -> Self {
        Self {
            namespace: String::from(namespace),
            name: String::from(name),
            replicas,
            cpu_request_millicores: 500,
            cpu_limit_millicores: None,
            load,
            startup: Duration::from_millis(100),
        }
    }
}

/// Replicas of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replicas {
    /// Asked for by `spec.replicas`.
    pub wanted: i32,
    /// Pods that are there and have not failed.
    pub pods: usize,
    /// Pods that are ready.
    pub ready: usize,
}

struct Shared {
    cluster: Arc<Cluster>,
    state: Mutex<State>,
    wake: Notify,
    stop: AtomicBool,
}

/// Running workloads. They stand still when this is dropped.
pub struct Workloads {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Workloads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workloads").finish_non_exhaustive()
    }
}

impl Workloads {
    /// No workloads yet, on the nodes of `cluster`.
    ///
    /// # Panics
    /// If the system has no threads, or the cluster no nodes.
    #[must_use]
    pub fn start(cluster: &Arc<Cluster>) -> Self {
        assert!(cluster.kubelets.count() > 0, "pods need a node");
        let shared = Arc::new(Shared {
            cluster: cluster.clone(),
            state: Mutex::default(),
            wake: Notify::new(),
            stop: AtomicBool::new(false),
        });
        let of_thread = shared.clone();
        let thread = std::thread::Builder::new().name(String::from("workloads"));
        let thread = thread.spawn(move || follow(&of_thread)).expect("the system has threads");
        Self { shared, thread: Some(thread) }
    }

    /// Puts a Deployment into the API and runs it.
    pub fn add(&self, workload: Workload) {
        self.shared.state.lock().add(&self.shared.cluster, workload, SystemClock.now());
        self.shared.wake.notify_one();
    }

    /// Gives a workload another load, from now on.
    ///
    /// # Panics
    /// If there is no such workload.
    pub fn set_load(&self, namespace: &str, name: &str, load: Load) {
        self.shared.state.lock().set_load(namespace, name, load, SystemClock.now());
        self.shared.wake.notify_one();
    }

    /// The container of a pod ends and starts anew, and becomes ready as at first.
    ///
    /// # Panics
    /// If there is no such pod.
    pub fn crash(&self, namespace: &str, pod: &str) {
        let cluster = &self.shared.cluster;
        self.shared.state.lock().crash(cluster, namespace, pod, SystemClock.now());
        self.shared.wake.notify_one();
    }

    /// A pod fails for good: it stays as an object, and another takes its place.
    ///
    /// # Panics
    /// If there is no such pod.
    pub fn fail(&self, namespace: &str, pod: &str) {
        self.shared.state.lock().fail(&self.shared.cluster, namespace, pod, SystemClock.now());
        self.shared.wake.notify_one();
    }

    /// The pods of a workload that have not failed, oldest first.
    ///
    /// # Panics
    /// If there is no such workload.
    #[must_use]
    pub fn pods(&self, namespace: &str, name: &str) -> Vec<String> {
        self.shared.state.lock().pods(namespace, name)
    }

    /// How many replicas there are.
    ///
    /// # Panics
    /// If there is no such workload.
    #[must_use]
    pub fn replicas(&self, namespace: &str, name: &str) -> Replicas {
        self.shared.state.lock().replicas(&self.shared.cluster, namespace, name)
    }
}

impl Drop for Workloads {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            // It has panicked if this fails, and said so.
            let _ = thread.join();
        }
    }
}

/// Does what is due, then waits until something changes or becomes due.
fn follow(shared: &Shared) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("the system has timers");
    let api = &shared.cluster.api;
    let mut deployments = api.changes("/apis/apps/v1/deployments");
    let mut pods = api.changes("/api/v1/pods");
    while !shared.stop.load(Ordering::Relaxed) {
        deployments.mark_unchanged();
        pods.mark_unchanged();
        let now = SystemClock.now();
        let next_ms = shared.state.lock().step(&shared.cluster, now);
        let wait_ms = next_ms.map_or(60_000, |next_ms| (next_ms - now).max(1));
        let wait = Duration::from_millis(u64::try_from(wait_ms).unwrap_or(1));
        runtime.block_on(async {
            tokio::select! {
                _ = deployments.changed() => {}
                _ = pods.changed() => {}
                () = shared.wake.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        });
    }
}
