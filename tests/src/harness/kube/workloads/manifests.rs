//! The objects of a workload.

use serde_json::{Value, json};

use super::super::objects::rfc3339;

/// The hash of every pod template here.
const TEMPLATE_HASH: &str = "5d8f9c7b6";

/// What a workload's objects are made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Template<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    pub(crate) cpu_request_millicores: u64,
    pub(crate) cpu_limit_millicores: Option<u64>,
}

/// Where a pod stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Bound to a node, no container runs.
    Pending,
    /// Its container runs since then, in milliseconds since the epoch, and does not serve yet.
    Running {
        /// Since when the container runs.
        started_ms: i64,
    },
    /// It serves.
    Ready {
        /// Since when the container runs.
        started_ms: i64,
        /// Since when it serves.
        ready_ms: i64,
    },
    /// It has ended for good.
    Failed,
}

/// One pod.
#[derive(Clone, Debug)]
pub(crate) struct PodState {
    pub(crate) name: String,
    pub(crate) node: String,
    pub(crate) created_ms: i64,
    pub(crate) stage: Stage,
    /// When it became unready last.
    pub(crate) unready_ms: i64,
    pub(crate) restarts: u32,
}

impl Template<'_> {
    pub(crate) fn replica_set_name(&self) -> String {
        format!("{}-{TEMPLATE_HASH}", self.name)
    }

    fn labels(&self) -> Value {
        json!({ "app": self.name, "pod-template-hash": TEMPLATE_HASH })
    }

    fn pod_spec(&self) -> Value {
        let mut resources = json!({
            "requests": { "cpu": format!("{}m", self.cpu_request_millicores), "memory": "64Mi" },
        });
        if let Some(limit) = self.cpu_limit_millicores {
            resources["limits"] = json!({ "cpu": format!("{limit}m") });
        }
        json!({
            "containers": [{
                "name": "main",
                "image": format!("registry.example.com/{}:1", self.name),
                "resources": resources,
            }],
        })
    }

    pub(crate) fn deployment(&self, replicas: i32) -> Value {
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {
                "name": self.name,
                "namespace": self.namespace,
                "generation": 1,
                "labels": { "app": self.name },
            },
            "spec": {
                "replicas": replicas,
                "selector": { "matchLabels": { "app": self.name } },
                "template": {
                    "metadata": { "labels": { "app": self.name } },
                    "spec": self.pod_spec(),
                },
            },
        })
    }

    pub(crate) fn replica_set(&self, replicas: i32, deployment_uid: &Value) -> Value {
        json!({
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": self.replica_set_name(),
                "namespace": self.namespace,
                "generation": 1,
                "labels": self.labels(),
                "ownerReferences": [owner("Deployment", self.name, deployment_uid)],
            },
            "spec": {
                "replicas": replicas,
                "selector": { "matchLabels": self.labels() },
                "template": { "metadata": { "labels": self.labels() }, "spec": self.pod_spec() },
            },
        })
    }

    pub(crate) fn pod(&self, pod: &PodState, replica_set_uid: &Value) -> Value {
        let mut spec = self.pod_spec();
        spec["nodeName"] = pod.node.as_str().into();
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": pod.name,
                "namespace": self.namespace,
                "creationTimestamp": rfc3339(pod.created_ms),
                "labels": self.labels(),
                "ownerReferences":
                    [owner("ReplicaSet", &self.replica_set_name(), replica_set_uid)],
            },
            "spec": spec,
            "status": status(pod),
        })
    }
}

fn owner(kind: &str, name: &str, uid: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": kind,
        "name": name,
        "uid": uid,
        "controller": true,
        "blockOwnerDeletion": true,
    })
}

/// The status that a kubelet reports of a pod.
pub(crate) fn status(pod: &PodState) -> Value {
    let (phase, started_ms, ready_ms) = match pod.stage {
        Stage::Pending => ("Pending", None, None),
        Stage::Running { started_ms } => ("Running", Some(started_ms), None),
        Stage::Ready { started_ms, ready_ms } => ("Running", Some(started_ms), Some(ready_ms)),
        Stage::Failed => ("Failed", None, None),
    };
    let mut ready = match ready_ms {
        Some(ready_ms) => json!({ "status": "True", "lastTransitionTime": rfc3339(ready_ms) }),
        None => json!({
            "status": "False",
            "lastTransitionTime": rfc3339(pod.unready_ms),
            "reason": "ContainersNotReady",
            "message": "containers with unready status: [main]",
        }),
    };
    ready["type"] = "Ready".into();
    let state = match (phase, started_ms) {
        ("Failed", _) => json!({ "terminated": { "exitCode": 1, "reason": "Error" } }),
        (_, Some(started_ms)) => json!({ "running": { "startedAt": rfc3339(started_ms) } }),
        (_, None) => json!({ "waiting": { "reason": "ContainerCreating" } }),
    };
    json!({
        "phase": phase,
        "startTime": rfc3339(pod.created_ms),
        "qosClass": "Burstable",
        "conditions": [
            {
                "type": "PodScheduled",
                "status": "True",
                "lastTransitionTime": rfc3339(pod.created_ms),
            },
            ready,
        ],
        "containerStatuses": [{
            "name": "main",
            "ready": ready_ms.is_some(),
            "started": started_ms.is_some(),
            "restartCount": pod.restarts,
            "state": state,
        }],
    })
}
