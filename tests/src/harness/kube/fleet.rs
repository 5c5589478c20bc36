//! Thousands of autoscalers at once, for measuring what they cost: Deployments whose pods stand still, and usage that the API
//! server tells of itself, so that no metrics server takes part.

use model::{Clock, SystemClock};
use serde_json::{Value, json};

use super::api_server::ApiServer;
use super::autoscaler::cpu_autoscaler;
use super::objects::rfc3339;
use super::workloads::manifests::{PodState, Stage, Template};

/// CPU that each pod requests, in millicores; the target is half of it.
const REQUEST_MILLICORES: u64 = 200;
const TARGET_PERCENT: u64 = 50;

/// How much there is.
#[derive(Clone, Copy, Debug)]
pub struct FleetOptions {
    /// Autoscalers, each with a Deployment of its own.
    pub autoscalers: usize,
    /// Pods of each.
    pub pods_per: usize,
    /// Autoscalers of a namespace.
    pub per_namespace: usize,
}

/// The objects of a fleet.
#[derive(Clone, Copy, Debug)]
pub struct Fleet {
    options: FleetOptions,
}

fn namespace(options: &FleetOptions, index: usize) -> String {
    format!("fleet-{:04}", index / options.per_namespace.max(1))
}

fn name(index: usize) -> String {
    format!("app-{index:05}")
}

impl Fleet {
    /// Puts all of it into the API: pods have been ready for an hour and use what the target asks for, give or take 3 %.
    #[must_use]
    pub fn put(api: &ApiServer, options: FleetOptions) -> Self {
        api.put(pod_metrics_definition());
        let since_ms = SystemClock.now() - 3_600_000;
        let fleet = Self { options };
        for index in 0..options.autoscalers {
            let (namespace, name) = (namespace(&options, index), name(index));
            let template = Template {
                namespace: &namespace,
                name: &name,
                cpu_request_millicores: REQUEST_MILLICORES,
                cpu_limit_millicores: None,
            };
            let replicas = i32::try_from(options.pods_per).unwrap_or(i32::MAX);
            let mut deployment = template.deployment(replicas);
            deployment["status"] = json!({
                "observedGeneration": 1,
                "replicas": replicas,
                "updatedReplicas": replicas,
                "readyReplicas": replicas,
                "availableReplicas": replicas,
            });
            let uid = api.put(deployment)["metadata"]["uid"].clone();
            let replica_set = api.put(template.replica_set(replicas, &uid));
            for pod in 0..options.pods_per {
                let state = PodState {
                    name: pod_name(&template, pod),
                    node: String::from("node-00000"),
                    created_ms: since_ms,
                    stage: Stage::Ready { started_ms: since_ms, ready_ms: since_ms },
                    unready_ms: since_ms,
                    restarts: 0,
                };
                api.put(template.pod(&state, &replica_set["metadata"]["uid"]));
            }
            let bounds = (1, replicas.saturating_mul(10));
            api.put(cpu_autoscaler(&namespace, &name, bounds, TARGET_PERCENT));
        }
        fleet.measure(api, 0);
        fleet
    }

    /// The next measurement of all pods: other values within the tolerance.
    pub fn measure(&self, api: &ApiServer, number: usize) {
        let at = rfc3339(SystemClock.now());
        for index in 0..self.options.autoscalers {
            let (namespace, name) = (namespace(&self.options, index), name(index));
            let template = Template {
                namespace: &namespace,
                name: &name,
                cpu_request_millicores: REQUEST_MILLICORES,
                cpu_limit_millicores: None,
            };
            // Up to 3 % from the target, another one at each measurement.
            let percent = 97 + (index + number) % 7;
            let nanocores =
                REQUEST_MILLICORES * TARGET_PERCENT * percent as u64 * 1_000_000 / (100 * 100);
            for pod in 0..self.options.pods_per {
                api.put(json!({
                    "apiVersion": "metrics.k8s.io/v1beta1",
                    "kind": "PodMetrics",
                    "metadata": {
                        "name": pod_name(&template, pod),
                        "namespace": namespace,
                        "labels": { "app": name, "pod-template-hash": "5d8f9c7b6" },
                    },
                    "timestamp": at,
                    "window": "15s",
                    "containers": [{
                        "name": "main",
                        "usage": { "cpu": format!("{nanocores}n"), "memory": "32Mi" },
                    }],
                }));
            }
        }
    }
}

fn pod_name(template: &Template<'_>, pod: usize) -> String {
    format!("{}-{pod:05}", template.replica_set_name())
}

/// Lets the API server keep what a metrics server would make up.
fn pod_metrics_definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": "pods.metrics.k8s.io" },
        "spec": {
            "group": "metrics.k8s.io",
            "scope": "Namespaced",
            "names": { "plural": "pods", "singular": "pod", "kind": "PodMetrics" },
            "versions": [{ "name": "v1beta1", "served": true, "storage": true }],
        },
    })
}
