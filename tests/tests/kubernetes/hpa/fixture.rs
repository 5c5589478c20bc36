//! A workload `shop/web` with an autoscaler, and everything that it takes to scale it.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tests::harness::kube::{
    Cluster, ClusterOptions, HpaController, Load, MetricsServer, Replicas, RequestRecord, Workload,
    Workloads, cpu_autoscaler,
};
use tests::harness::{binary, wait_for};

/// How long something may take that needs some scrapes and evaluations, on a busy machine.
pub(super) const LIMIT: Duration = Duration::from_secs(120);

pub(super) const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/shop/deployments/web";
pub(super) const AUTOSCALER: &str =
    "/apis/autoscaling/v2/namespaces/shop/horizontalpodautoscalers/web";
const PODS: &str = "/apis/metrics.k8s.io/v1beta1/namespaces/shop/pods";

/// Replicas are from 2 to 10. Pods request 500m and 50 % of it is aimed at, so that each 250m of demand is a pod.
pub(super) const BOUNDS: (i32, i32) = (2, 10);
pub(super) const MILLICORES_PER_POD: u64 = 250;

/// The demand for which so many pods are right.
pub(super) fn demand(pods: u64) -> Load {
    Load::constant(pods * MILLICORES_PER_POD)
}

/// Two pods with the demand for two, measured; no controller yet.
pub(super) struct Shop {
    pub(super) workloads: Workloads,
    pub(super) metrics: MetricsServer,
    pub(super) cluster: Arc<Cluster>,
    pub(super) folder: tempfile::TempDir,
}

impl Shop {
    /// Starts all but the controller, and waits until the metrics API tells of both pods. The autoscaler is what `edit`
    /// makes of one with [`BOUNDS`].
    pub(super) fn start_with(edit: impl FnOnce(&mut Value)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options =
            ClusterOptions { pods_per_node: 0, sample_interval_ms: 1000, ..Default::default() };
        let cluster = Arc::new(Cluster::start(&options));
        let workloads = Workloads::start(&cluster);
        workloads.add(Workload::new("shop", "web", 2, demand(2)));
        let metrics = metrics_server(&cluster, folder.path(), &[]);
        cluster.register("metrics.k8s.io", "v1beta1", None);
        let mut autoscaler = cpu_autoscaler("shop", "web", BOUNDS, 50);
        edit(&mut autoscaler);
        cluster.api.put(autoscaler);
        let shop = Self { workloads, metrics, cluster, folder };
        shop.wait_for_metrics(2);
        shop
    }

    /// As [`start_with`](Self::start_with), with an autoscaler that says no more than it must.
    pub(super) fn start() -> Self {
        Self::start_with(|_| {})
    }

    /// A controller that acts, with more flags.
    pub(super) fn control(&self, arguments: &[&str]) -> HpaController {
        HpaController::start(&self.cluster, self.folder.path(), "hpa-controller", arguments)
    }

    /// Starts the metrics server anew, which must have ended.
    pub(super) fn restart_metrics(&mut self) {
        self.metrics = metrics_server(&self.cluster, self.folder.path(), &[]);
    }

    /// Ends the metrics server and starts it with more flags, for external metrics too.
    pub(super) fn serve_external_metrics(&mut self, arguments: &[&str]) {
        assert!(self.metrics.terminate_in_place().success());
        self.metrics = metrics_server(&self.cluster, self.folder.path(), arguments);
        self.cluster.register("external.metrics.k8s.io", "v1beta1", None);
    }

    /// Waits until the metrics API tells of so many pods.
    pub(super) fn wait_for_metrics(&self, pods: usize) {
        let list = || {
            let api = &self.cluster.api;
            let identity = api.pki().client.issue(&tests::harness::kube::Subject {
                common_name: "admin",
                organizations: &["system:masters"],
                ..Default::default()
            });
            let request = tests::harness::kube::HttpsRequest {
                identity: Some(&identity),
                ..Default::default()
            };
            request.get(api.address(), PODS)
        };
        wait_for("metrics", LIMIT, || {
            let answer = list()?;
            let value: Value = serde_json::from_str(&answer.body).unwrap_or_default();
            match value["items"].as_array() {
                Some(items) if items.len() == pods => Ok(()),
                _ => Err(format!("{} {}\n{}", answer.status, answer.body, self.metrics.log())),
            }
        });
    }

    /// Waits until the controller has asked `more` times for the usage of pods from now on.
    pub(super) fn wait_for_metric_requests(&self, more: usize, controller: &HpaController) {
        let count = || {
            let requests = self.cluster.api.requests().into_iter();
            let asked = requests.filter(|request| request.path == PODS && request.verb == "list");
            asked.filter(|request| request.user.uid == "hpa-controller").count()
        };
        let before = count();
        wait_for("questions for metrics", LIMIT, || match count() {
            now if now >= before + more => Ok(()),
            now => Err(format!("{before}, then {now}\n{}", controller.log())),
        });
    }

    pub(super) fn set_demand(&self, pods: u64) {
        self.workloads.set_load("shop", "web", demand(pods));
    }

    /// Waits until so many replicas are wanted, there and ready.
    pub(super) fn wait_for_replicas(&self, count: usize, controller: &HpaController) {
        let wanted = i32::try_from(count).unwrap();
        let right = Replicas { wanted, pods: count, ready: count };
        wait_for(&format!("{count} replicas"), LIMIT, || {
            match self.workloads.replicas("shop", "web") {
                replicas if replicas == right => Ok(()),
                replicas => Err(format!(
                    "{replicas:?}\n{:#}\n{}",
                    self.autoscaler()["status"],
                    controller.log()
                )),
            }
        });
    }

    pub(super) fn autoscaler(&self) -> Value {
        self.cluster.api.get(AUTOSCALER).unwrap()
    }

    /// Status and reason of a condition of the autoscaler.
    pub(super) fn condition(&self, kind: &str) -> (String, String) {
        let autoscaler = self.autoscaler();
        let conditions = autoscaler["status"]["conditions"].as_array().cloned();
        let mut conditions = conditions.unwrap_or_default().into_iter();
        let found = conditions.find(|condition| condition["type"] == kind).unwrap_or_default();
        let text = |field: &str| String::from(found[field].as_str().unwrap_or_default());
        (text("status"), text("reason"))
    }

    /// Waits until a condition has this status and reason.
    pub(super) fn wait_for_condition(
        &self,
        kind: &str,
        (status, reason): (&str, &str),
        controller: &HpaController,
    ) {
        let wanted = (String::from(status), String::from(reason));
        wait_for(&format!("{kind} {reason}"), LIMIT, || match self.condition(kind) {
            condition if condition == wanted => Ok(()),
            condition => Err(format!(
                "{condition:?} in {:#}\n{}",
                self.autoscaler()["status"],
                controller.log()
            )),
        });
    }

    /// Events about the autoscaler with this reason.
    pub(super) fn events(&self, reason: &str) -> Vec<Value> {
        let events = self.cluster.api.list("/api/v1/namespaces/shop/events").into_iter();
        let ours = events.filter(|event| event["involvedObject"]["name"] == "web");
        ours.filter(|event| event["reason"] == reason).collect()
    }

    /// Waits for an event with this reason and returns its message.
    pub(super) fn wait_for_event(&self, reason: &str, controller: &HpaController) -> String {
        wait_for(reason, LIMIT, || match self.events(reason).first() {
            Some(event) => Ok(String::from(event["message"].as_str().unwrap_or_default())),
            None => Err(format!("none\n{}", controller.log())),
        })
    }

    /// The writes of replica counts, those that were refused too.
    pub(super) fn scale_writes(&self) -> Vec<RequestRecord> {
        let requests = self.cluster.api.requests().into_iter();
        requests.filter(|request| request.written_replicas().is_some()).collect()
    }

    /// Looks at every replica count that anybody has asked for.
    pub(super) fn check_bounds(&self) {
        let (min, max) = BOUNDS;
        for write in self.scale_writes() {
            let replicas = write.written_replicas().unwrap();
            let bounds = i64::from(min)..=i64::from(max);
            assert!(bounds.contains(&replicas), "{replicas} replicas: {write:?}");
            let body: Value = serde_json::from_slice(&write.body).unwrap();
            let version = body["metadata"]["resourceVersion"].as_str().unwrap_or_default();
            assert!(!version.is_empty(), "a write without a precondition: {write:?}");
        }
    }
}

fn metrics_server(cluster: &Cluster, folder: &Path, more: &[&str]) -> MetricsServer {
    let arguments = ["--metric-resolution=2s", "--kubelet-request-timeout=1800ms"];
    let metrics = MetricsServer::start(cluster, folder, &[&arguments[..], more].concat());
    cluster.serve_metrics_at(vec![metrics.address()]);
    metrics
}

/// Runs the binary as a tool, with `input` on stdin, and returns what it wrote to stdout.
pub(super) fn tool(arguments: &[&str], input: &str) -> String {
    let mut child = Command::new(binary())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// How often autoscalers were evaluated.
pub(super) fn evaluations(controller: &HpaController) -> Result<u64, String> {
    const NAME: &str = "horizontal_pod_autoscaler_controller_reconciliations_total{";
    let metrics = controller.get("/metrics")?.body;
    let lines = metrics.lines().filter(|line| line.starts_with(NAME));
    let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
    Ok(values.sum::<f64>() as u64)
}

/// Waits until autoscalers were evaluated `more` times from now on.
pub(super) fn wait_for_evaluations(controller: &HpaController, more: u64) {
    let before = wait_for("metrics of the controller", LIMIT, || evaluations(controller));
    wait_for("evaluations", LIMIT, || match evaluations(controller)? {
        now if now >= before + more => Ok(()),
        now => Err(format!("{before}, then {now}\n{}", controller.log())),
    });
}
