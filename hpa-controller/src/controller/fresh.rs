//! Watches samples of pods and has autoscalers evaluated whose pods have fresh ones.
//!
//! Only a metrics server that serves watches can tell; upstream's cannot. Where it does not, that is said once and looked at again
//! from time to time, and the period remains.

use std::sync::Arc;
use std::time::Duration;

use kube::Api;
use kube::runtime::watcher::{self, watcher};
use serde::Deserialize;
use telemetry::IntCounter;

use super::api_server::{ApiError, ApiServer, Call};
use super::queue::Queue;
use super::watch::{Feed, POD_METRICS, PodMetricsObject, Pods, follow};
use crate::state::HpaKey;

/// How often a server that cannot be watched is asked whether it can.
const ASK_AGAIN: Duration = Duration::from_secs(15);
/// How often one that does not answer is, as one that is about to start.
const ASK_SOON: Duration = Duration::from_secs(1);

/// Follows samples without end, each watch with `options`.
pub(super) async fn run(
    api: ApiServer,
    only: Option<Box<str>>,
    options: watcher::Config,
    pods: Arc<Pods>,
    queue: Arc<Queue>,
    errors: IntCounter,
) {
    let (mut said, mut failed) = (false, false);
    loop {
        let wait = match can_be_watched(&api).await {
            Ok(true) => break,
            Ok(false) => {
                if !std::mem::replace(&mut said, true) {
                    tracing::warn!(
                        "metrics.k8s.io does not serve watches: autoscalers are evaluated once a sync period only"
                    );
                }
                ASK_AGAIN
            }
            Err(error) => {
                if std::mem::replace(&mut failed, true) {
                    tracing::debug!(%error, "metrics.k8s.io does not answer yet");
                } else {
                    tracing::warn!(%error, "metrics.k8s.io does not answer: fresh samples are waited for");
                }
                ASK_SOON
            }
        };
        tokio::time::sleep(wait).await;
    }
    let client = api.client().clone();
    let samples: Api<PodMetricsObject> = match &only {
        Some(namespace) => Api::namespaced_with(client, namespace, &POD_METRICS),
        None => Api::all_with(client, &POD_METRICS),
    };
    let events = watcher(samples, options);
    follow("pods.metrics.k8s.io", events, SampleFeed { pods, queue }, errors).await;
}

#[derive(Deserialize)]
struct ResourceList {
    #[serde(default)]
    resources: Vec<ServedResource>,
}

#[derive(Deserialize)]
struct ServedResource {
    name: String,
    #[serde(default)]
    verbs: Vec<String>,
}

async fn can_be_watched(api: &ApiServer) -> Result<bool, ApiError> {
    let path = format!("/apis/{}/{}", POD_METRICS.group, POD_METRICS.version);
    let list: ResourceList = api.read(Call::get(path, POD_METRICS.group, "")).await?;
    let pods = list.resources.iter().find(|resource| resource.name == POD_METRICS.plural);
    Ok(pods.is_some_and(|pods| pods.verbs.iter().any(|verb| verb == "watch")))
}

struct SampleFeed {
    pods: Arc<Pods>,
    queue: Arc<Queue>,
}

impl Feed<PodMetricsObject> for SampleFeed {
    fn begin(&mut self) {}

    fn apply(&mut self, sample: PodMetricsObject, listed: bool) {
        // A list is what is known, not what is new.
        if listed {
            return;
        }
        let meta = sample.metadata;
        let (Some(namespace), Some(name)) = (meta.namespace, meta.name) else { return };
        for hpa in self.pods.selecting(&namespace, &name) {
            self.queue.fresh(&HpaKey { namespace: Box::from(namespace.as_str()), name: hpa });
        }
    }

    fn delete(&mut self, _sample: PodMetricsObject) {}

    fn end(&mut self) {}

    fn failed(&mut self) {}
}
