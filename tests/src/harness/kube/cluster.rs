//! A whole cluster: nodes with kubelets, pods on them, and an API server that knows both.

use std::net::SocketAddr;
use std::sync::Arc;

use model::{Clock, SystemClock};
use serde_json::{Value, json};

use super::access::{Access, Rule, User};
use super::api_server::{ApiServer, ApiServerOptions};
use super::kubelets::Kubelets;
use super::node::{Behaviour, ContainerUse, CpuUse, NodeUse, PodUse, Sampling};
use super::objects::rfc3339;
use super::pki::Pki;
use super::roles;

/// How large a cluster is.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// Nodes.
    pub nodes: usize,
    /// Pods of each node.
    pub pods_per_node: usize,
    /// Containers of each pod.
    pub containers_per_pod: usize,
    /// Namespaces that the pods are in, in turn.
    pub namespaces: usize,
    /// How often kubelets take samples.
    pub sample_interval_ms: i64,
    /// The kubelets' port; 0 is any.
    pub kubelet_port: u16,
    /// The API server.
    pub api_server: ApiServerOptions,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            nodes: 2,
            pods_per_node: 2,
            containers_per_pod: 2,
            namespaces: 2,
            sample_interval_ms: 10_000,
            kubelet_port: 0,
            api_server: ApiServerOptions::default(),
        }
    }
}

/// A running cluster. It stops when dropped.
#[derive(Debug)]
pub struct Cluster {
    /// The API server.
    pub api: ApiServer,
    /// The kubelets, by index of the node.
    pub kubelets: Kubelets,
}

/// The token of the service account `kube-system/metrics-server`.
pub const METRICS_SERVER_TOKEN: &str = "token-of-metrics-server";

/// The token of the service account `sextant/hpa-controller`.
pub const HPA_CONTROLLER_TOKEN: &str = "token-of-hpa-controller";

impl Cluster {
    /// Starts a cluster. Everything has run for an hour, at rates that follow from its place: see [`container_rate`].
    ///
    /// # Panics
    /// If it cannot listen.
    #[must_use]
    pub fn start(options: &ClusterOptions) -> Self {
        let started_ms = SystemClock.now() - 3_600_000;
        let started_ms = started_ms - started_ms.rem_euclid(1000);
        let pki = Arc::new(Pki::new());
        let access = Arc::new(Access::new());
        allow_metrics_server(&access);
        allow_hpa_controller(&access);
        let nodes: Vec<_> = (0..options.nodes).map(|i| node(options, i, started_ms)).collect();
        let kubelets = Kubelets::start(nodes, options.kubelet_port, pki.clone(), access.clone());
        let api = ApiServer::with(&options.api_server, pki, access);
        // That of our own manifests.
        api.put(json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": { "name": "sextant" },
            "spec": { "finalizers": ["kubernetes"] },
            "status": { "phase": "Active" },
        }));
        let cluster = Self { api, kubelets };
        for index in 0..options.nodes {
            cluster.put_node(index);
            for pod in cluster.kubelets.edit(index, |node| node.pods.clone()) {
                cluster.put_pod(index, &pod);
            }
        }
        cluster
    }

    /// Puts the Node of a kubelet into the API.
    pub fn put_node(&self, index: usize) {
        let name = self.kubelets.edit(index, |node| node.name.clone());
        let resources = json!({ "cpu": "8", "memory": "32Gi", "pods": "110" });
        self.api.put(json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": name,
                "labels": {
                    "kubernetes.io/hostname": name,
                    "kubernetes.io/os": "linux",
                    "kubernetes.io/arch": "amd64",
                    "topology.kubernetes.io/zone": format!("zone-{}", index % 3),
                },
            },
            "spec": {},
            "status": {
                "capacity": resources,
                "allocatable": resources,
                "addresses": [
                    { "type": "InternalIP", "address": Kubelets::address(index).to_string() },
                    { "type": "Hostname", "address": name },
                ],
                "conditions": [{ "type": "Ready", "status": "True", "reason": "KubeletReady" }],
                "daemonEndpoints": { "kubeletEndpoint": { "Port": self.kubelets.port() } },
                "nodeInfo": {
                    "kubeletVersion": "v1.37.0",
                    "osImage": "harness",
                    "operatingSystem": "linux",
                    "architecture": "amd64",
                    "swap": { "capacity": 8_589_934_592_u64 },
                },
            },
        }));
    }

    /// Puts a running pod of a node into the API.
    pub fn put_pod(&self, index: usize, pod: &PodUse) {
        let node = self.kubelets.edit(index, |node| node.name.clone());
        let containers: Vec<_> = pod
            .containers
            .iter()
            .map(|container| {
                json!({
                    "name": container.name,
                    "image": format!("registry.example.com/{}:1", container.name),
                    "resources": {
                        "requests": { "cpu": "100m", "memory": "128Mi" },
                        "limits": { "memory": "256Mi" },
                    },
                })
            })
            .collect();
        let statuses: Vec<_> = pod
            .containers
            .iter()
            .map(|container| {
                let started = rfc3339(container.start_ms.unwrap_or_default());
                json!({
                    "name": container.name,
                    "ready": true,
                    "started": true,
                    "restartCount": 0,
                    "state": { "running": { "startedAt": started } },
                })
            })
            .collect();
        let started = pod.containers.iter().filter_map(|container| container.start_ms).min();
        let started = rfc3339(started.unwrap_or_else(|| SystemClock.now()));
        let app = pod.name.rsplit_once('-').map_or(pod.name.as_str(), |(app, _)| app);
        self.api.put(json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": pod.name,
                "namespace": pod.namespace,
                "creationTimestamp": started,
                "labels": {
                    "app": app,
                    "app.kubernetes.io/name": app,
                    "app.kubernetes.io/part-of": pod.namespace,
                    "pod-template-hash": "5d8f9c7b6",
                    "tier": if index.is_multiple_of(2) { "front" } else { "back" },
                    "version": "v1",
                },
                "ownerReferences": [{
                    "apiVersion": "apps/v1",
                    "kind": "ReplicaSet",
                    "name": format!("{app}-5d8f9c7b6"),
                    "uid": "00000000-0000-4000-8000-0000000000aa",
                    "controller": true,
                }],
            },
            "spec": { "nodeName": node, "containers": containers },
            "status": {
                "phase": "Running",
                "startTime": started,
                "conditions": [
                    { "type": "Ready", "status": "True", "lastTransitionTime": started },
                ],
                "containerStatuses": statuses,
            },
        }));
    }

    /// Adds a pod to a node, to both its kubelet and the API.
    pub fn add_pod(&self, index: usize, pod: PodUse) {
        self.put_pod(index, &pod);
        self.kubelets.edit(index, |node| node.pods.push(pod));
    }

    /// Removes a pod from a node, from both its kubelet and the API.
    pub fn remove_pod(&self, index: usize, namespace: &str, name: &str) {
        self.kubelets
            .edit(index, |node| node.pods.retain(|p| p.namespace != namespace || p.name != name));
        self.api.delete(&format!("/api/v1/namespaces/{namespace}/pods/{name}"));
    }

    /// Registers a server of `metrics.k8s.io`, `custom.metrics.k8s.io` or `external.metrics.k8s.io`, in one version,
    /// as the service `kube-system/metrics-server`.
    ///
    /// `ca_bundle` is base64 of PEM; without one, the server's certificate is not verified.
    pub fn register(&self, group: &str, version: &str, ca_bundle: Option<&str>) {
        let mut service: Value = json!({
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": { "name": format!("{version}.{group}") },
            "spec": {
                "group": group,
                "version": version,
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
                "service": { "namespace": "kube-system", "name": "metrics-server", "port": 443 },
            },
        });
        match ca_bundle {
            Some(bundle) => service["spec"]["caBundle"] = bundle.into(),
            None => service["spec"]["insecureSkipTLSVerify"] = true.into(),
        }
        self.api.put(service);
    }

    /// Where the service `kube-system/metrics-server` is.
    pub fn serve_metrics_at(&self, addresses: Vec<SocketAddr>) {
        self.api.route_service("kube-system", "metrics-server", addresses);
    }
}

/// CPU nanoseconds per second of a container: 10 millicores, 20 of the second container of a pod and so on, and one
/// more for each place of its pod on the node, and 0.001 for each place of the node.
#[must_use]
pub fn container_rate(node: usize, pod: usize, container: usize) -> u64 {
    10_000_000 * (container as u64 + 1) + 1_000_000 * pod as u64 + 1_000 * node as u64
}

/// Working set of a container: 16 MiB, one more for each place of its pod.
#[must_use]
pub fn container_memory(pod: usize, container: usize) -> u64 {
    (16 * (container as u64 + 1) + pod as u64) << 20
}

/// The name of the node with this index.
#[must_use]
pub fn node_name(index: usize) -> String {
    format!("node-{index:05}")
}

/// The name of a pod by its place.
#[must_use]
pub fn pod_name(node: usize, pod: usize) -> String {
    format!("web-{pod:03}-{node:05}")
}

fn node(options: &ClusterOptions, index: usize, started_ms: i64) -> NodeUse {
    let pods: Vec<_> = (0..options.pods_per_node)
        .map(|pod| PodUse {
            namespace: format!("team-{:03}", pod % options.namespaces.max(1)),
            name: pod_name(index, pod),
            containers: (0..options.containers_per_pod)
                .map(|container| {
                    let rate = container_rate(index, pod, container);
                    let memory = container_memory(pod, container);
                    ContainerUse::new(&format!("c{container}"), started_ms, rate, memory)
                })
                .collect(),
        })
        .collect();
    let containers = || pods.iter().flat_map(|pod| &pod.containers);
    let nanocores = containers().map(|container| container.cpu.nanocores()).sum::<u64>();
    NodeUse {
        name: node_name(index),
        // The node itself uses half a core and a GiB.
        cpu: CpuUse::new(started_ms, nanocores + 500_000_000),
        memory_bytes: containers().map(|container| container.memory_bytes).sum::<u64>() + (1 << 30),
        swap_bytes: None,
        pods,
        behaviour: Behaviour::Serve,
        sampling: Sampling::Every {
            interval_ms: options.sample_interval_ms,
            // So that not all nodes take their samples at once.
            shift_ms: i64::try_from(index).unwrap_or(0) * 7919 % options.sample_interval_ms.max(1),
        },
        scrapes: 0,
    }
}

/// What the ClusterRoles of metrics-server allow: `system:metrics-server`, `system:auth-delegator`, and the Role
/// `extension-apiserver-authentication-reader`.
fn allow_metrics_server(access: &Access) {
    let user = User::service_account("kube-system", "metrics-server");
    let name = user.name.as_str();
    let read = ["get", "list", "watch"];
    access.allow(Rule::allow(name, &["get"]).on("", &["nodes/metrics"]));
    access.allow(Rule::allow(name, &read).on("", &["pods", "nodes"]));
    let create = Rule::allow(name, &["create"]);
    access.allow(create.clone().on("authentication.k8s.io", &["tokenreviews"]));
    access.allow(create.on("authorization.k8s.io", &["subjectaccessreviews"]));
    access.allow(
        Rule::allow(name, &read)
            .on("", &["configmaps"])
            .within("kube-system")
            .named(&["extension-apiserver-authentication"]),
    );
    access.put_token(METRICS_SERVER_TOKEN, user);
}

/// What our manifest allows its service account: an autoscaler that is told what it needs here is told so in a cluster.
fn allow_hpa_controller(access: &Access) {
    roles::allow_manifest(access, include_str!("../../../../deploy/hpa-controller.yaml"));
    access.put_token(HPA_CONTROLLER_TOKEN, User::service_account("sextant", "hpa-controller"));
}
