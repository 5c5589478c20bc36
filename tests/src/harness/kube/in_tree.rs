//! The controller that a cluster brings along, as far as tests need one: it evaluates autoscalers when it is told to, and is seen by
//! the API server as the one in kube-controller-manager.
//!
//! Written from the documentation of the API and not with our own `decide`, so that the two can disagree. It knows External metrics with
//! an `averageValue`, tolerances and policies of `behavior`, and no memory: stabilization windows must be 0 for what it decides to be
//! what upstream's would.

use std::net::SocketAddr;
use std::sync::Arc;

use metrics_api::Quantity;
use model::{Clock, SystemClock};
use serde_json::{Value, json};

use super::access::{Rule, User};
use super::cluster::Cluster;
use super::https::HttpsRequest;
use super::objects::rfc3339;

/// As client-go makes it of the program's version and the controller's name.
const USER_AGENT: &str = "kube-controller-manager/v1.36.0 (linux/amd64) kubernetes/0000000/system:serviceaccount:kube-system:horizontal-pod-autoscaler";
const TOKEN: &str = "token-of-horizontal-pod-autoscaler";
const ACCOUNT: &str = "horizontal-pod-autoscaler";

/// A controller in the cluster's control plane. It does nothing by itself.
#[derive(Debug)]
pub struct InTree {
    cluster: Arc<Cluster>,
}

/// What it did about an autoscaler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluated {
    /// Replicas that the target asked for.
    pub current: i64,
    /// Those that it asks for now.
    pub desired: i64,
    /// Why the metric could not be used.
    pub failure: Option<String>,
}

impl InTree {
    /// The controller of `cluster`, with the permissions of `system:controller:horizontal-pod-autoscaler`.
    #[must_use]
    pub fn new(cluster: &Arc<Cluster>) -> Self {
        let user = User::service_account("kube-system", ACCOUNT);
        let access = cluster.api.access();
        let allow = |verbs: &[&str], group: &str, resources: &[&str]| {
            access.allow(Rule::allow(&user.name, verbs).on(group, resources));
        };
        let autoscalers = "horizontalpodautoscalers";
        allow(&["get", "list", "watch"], "autoscaling", &[autoscalers]);
        allow(&["update"], "autoscaling", &["horizontalpodautoscalers/status"]);
        allow(&["get", "update"], "*", &["*/scale"]);
        allow(&["get", "list"], "external.metrics.k8s.io", &["*"]);
        access.put_token(TOKEN, user);
        Self { cluster: cluster.clone() }
    }

    fn send(&self, method: &str, path: &str, body: &str) -> Result<Value, String> {
        let address: SocketAddr = self.cluster.api.address();
        let bearer = format!("Bearer {TOKEN}");
        let headers = [
            ("Authorization", bearer.as_str()),
            ("User-Agent", USER_AGENT),
            ("Content-Type", "application/json"),
        ];
        let request = HttpsRequest { headers: &headers, ..HttpsRequest::default() };
        let answer = request.send(address, method, path, body)?;
        match answer.status {
            200 => serde_json::from_str(&answer.body).map_err(|error| error.to_string()),
            _ => Err(answer.body),
        }
    }

    fn get(&self, path: &str) -> Result<Value, String> {
        self.send("GET", path, "")
    }

    /// Writes what `edit` makes of an autoscaler's status.
    ///
    /// # Errors
    /// The server's refusal.
    pub fn write_status(
        &self,
        autoscaler: &str,
        edit: impl FnOnce(&mut Value),
    ) -> Result<(), String> {
        let mut object = self.get(autoscaler)?;
        edit(&mut object["status"]);
        self.send("PUT", &format!("{autoscaler}/status"), &object.to_string()).map(drop)
    }

    /// Evaluates the autoscaler at a path of `autoscaling/v2` once: reads its target's scale and its metric, and writes scale and
    /// status. Only targets of the group `apps` are known.
    ///
    /// # Errors
    /// What could not be read or written; not that of the metric, which is part of what it does.
    ///
    /// # Panics
    /// If the autoscaler is not one that it knows.
    pub fn evaluate(&self, autoscaler: &str) -> Result<Evaluated, String> {
        let object = self.get(autoscaler)?;
        let spec = &object["spec"];
        let scale_path = scale_path(&object);
        let mut scale = self.get(&scale_path)?;
        let current = scale["spec"]["replicas"].as_i64().unwrap_or(0);
        let [metric] = spec["metrics"].as_array().map_or(&[][..], Vec::as_slice) else {
            panic!("one metric is expected: {spec}");
        };
        let number = |value: &Value| value.as_i64().unwrap_or(1);
        let (min, max) = (number(&spec["minReplicas"]), number(&spec["maxReplicas"]));
        let proposed = if current > max || current < min {
            Ok(current.clamp(min, max))
        } else {
            self.proposed(&object, metric, scale["status"]["replicas"].as_i64().unwrap_or(0))
        };
        let desired = match &proposed {
            Ok(proposed) => limited(&spec["behavior"], current, *proposed).clamp(min, max),
            Err(_) => current,
        };
        if desired != current {
            scale["spec"]["replicas"] = desired.into();
            self.send("PUT", &scale_path, &scale.to_string())?;
        }
        let failure = proposed.err();
        let status = status(&object["status"], current, desired, failure.as_deref());
        if status != object["status"] {
            let mut object = object;
            object["status"] = status;
            self.send("PUT", &format!("{autoscaler}/status"), &object.to_string())?;
        }
        Ok(Evaluated { current, desired, failure })
    }

    /// What the metric asks for. `replicas` are those of the scale's status.
    fn proposed(&self, object: &Value, metric: &Value, replicas: i64) -> Result<i64, String> {
        let external = &metric["external"];
        assert_eq!(external["target"]["type"], "AverageValue", "{metric}");
        let milli = |value: &Value| {
            let text = value.as_str().unwrap_or_default();
            text.parse::<Quantity>().map(|q| q.milli_value()).map_err(|error| error.to_string())
        };
        let labels = external["metric"]["selector"]["matchLabels"].as_object();
        let labels = labels.into_iter().flatten().map(|(name, value)| {
            format!("{}%3D{}", name.replace('/', "%2F"), value.as_str().unwrap_or_default())
        });
        let path = format!(
            "/apis/external.metrics.k8s.io/v1beta1/namespaces/{}/{}?labelSelector={}",
            object["metadata"]["namespace"].as_str().unwrap_or_default(),
            external["metric"]["name"].as_str().unwrap_or_default(),
            labels.collect::<Vec<_>>().join("%2C"),
        );
        let list = self.get(&path)?;
        let items = list["items"].as_array().filter(|items| !items.is_empty());
        let items = items.ok_or("no metrics returned from external metrics API")?;
        let mut usage = 0;
        for item in items {
            usage += milli(&item["value"])?;
        }
        let target = milli(&external["target"]["averageValue"])?;
        #[expect(clippy::cast_precision_loss, reason = "upstream divides so too")]
        let (usage, target, replicas_f) = (usage as f64, target as f64, replicas as f64);
        let ratio = usage / (target * replicas_f);
        let tolerance = |rules: &str| match &object["spec"]["behavior"][rules]["tolerance"] {
            Value::Null => Ok(0.1),
            tolerance => milli(tolerance).map(|milli| {
                #[expect(clippy::cast_precision_loss, reason = "tolerances are small")]
                let milli = milli as f64;
                milli / 1000.0
            }),
        };
        if 1.0 - tolerance("scaleDown")? <= ratio && ratio <= 1.0 + tolerance("scaleUp")? {
            return Ok(replicas);
        }
        #[expect(clippy::cast_possible_truncation, reason = "counts of pods are small")]
        Ok((usage / target).ceil() as i64)
    }
}

/// What policies allow of a step that begins now: each by itself, and the widest of them.
fn limited(behavior: &Value, current: i64, proposed: i64) -> i64 {
    let rules = if proposed > current { &behavior["scaleUp"] } else { &behavior["scaleDown"] };
    assert_eq!(rules["stabilizationWindowSeconds"], 0, "it has no memory: {behavior}");
    if rules["selectPolicy"] == "Disabled" {
        return current;
    }
    let policies = rules["policies"].as_array().into_iter().flatten();
    let steps = policies.map(|policy| match (policy["type"].as_str(), policy["value"].as_i64()) {
        (Some("Pods"), Some(pods)) => pods,
        (Some("Percent"), Some(percent)) => (current * percent + 99) / 100,
        _ => panic!("a policy that the API refuses: {policy}"),
    });
    let step = steps.max().unwrap_or(0);
    proposed.clamp(current - step, current + step)
}

fn scale_path(object: &Value) -> String {
    let target = &object["spec"]["scaleTargetRef"];
    let text = |value: &Value| String::from(value.as_str().unwrap_or_default());
    assert_eq!(target["apiVersion"], "apps/v1", "{target}");
    format!(
        "/apis/apps/v1/namespaces/{}/{}s/{}/scale",
        text(&object["metadata"]["namespace"]),
        text(&target["kind"]).to_lowercase(),
        text(&target["name"]),
    )
}

/// The status afterwards; times go on only where something has changed.
fn status(before: &Value, current: i64, desired: i64, failure: Option<&str>) -> Value {
    let now = rfc3339(SystemClock.now());
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        let conditions = before["conditions"].as_array().into_iter().flatten();
        let mut old = conditions.filter(|old| old["type"] == kind && old["status"] == status);
        let since = old.next().map(|old| old["lastTransitionTime"].clone());
        json!({
            "type": kind,
            "status": status,
            "reason": reason,
            "message": message,
            "lastTransitionTime": since.unwrap_or_else(|| now.clone().into()),
        })
    };
    let able = if desired == current {
        ("ReadyForNewScale", String::from("recommended size matches current size"))
    } else {
        let message =
            format!("the HPA controller was able to update the target scale to {desired}");
        ("SucceededRescale", message)
    };
    let active = match failure {
        None => condition("ScalingActive", "True", "ValidMetricFound", "a metric was found"),
        Some(why) => {
            let message = format!("the HPA was unable to compute the replica count: {why}");
            condition("ScalingActive", "False", "FailedGetExternalMetric", &message)
        }
    };
    let mut status = before.clone();
    status["currentReplicas"] = current.into();
    status["desiredReplicas"] = desired.into();
    status["conditions"] = json!([condition("AbleToScale", "True", able.0, &able.1), active]);
    if desired != current {
        status["lastScaleTime"] = now.into();
    }
    status
}
