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

#[cfg(test)]
mod tests {
    use axum::body::{Body, Bytes};
    use axum::http::{Request, Response};
    use futures_util::{StreamExt, stream};
    use parking_lot::Mutex;
    use serde_json::{Value, json};
    use tokio::time::Instant;

    use super::super::queue::Trigger;
    use super::super::watch::{PodFeed, watch_options};
    use super::*;

    const ROOT: &str = "/apis/metrics.k8s.io/v1beta1";
    /// No period passes in these tests.
    const PERIOD: Duration = Duration::from_secs(3600);

    /// A metrics server behind an API server.
    #[derive(Default)]
    struct Server {
        up: bool,
        /// So many lists, and then so many watches, are refused.
        refuse: (u32, u32),
        asked: Vec<&'static str>,
    }

    impl Server {
        fn answer(&mut self, path: &str, is_watch: bool) -> Response<Body> {
            let what = match path {
                ROOT => "discovery",
                _ if is_watch => "watch",
                _ => "list",
            };
            self.asked.push(what);
            let refuse = match what {
                "list" => Some(&mut self.refuse.0),
                "watch" => Some(&mut self.refuse.1),
                _ => None,
            };
            let refused = refuse.is_some_and(|left| {
                let refused = *left > 0;
                *left = left.saturating_sub(1);
                refused
            });
            if !self.up || refused {
                let status = json!({"kind": "Status", "status": "Failure", "message": "none", "reason": "x", "code": 503});
                let mut answer = Response::new(Body::from(status.to_string()));
                *answer.status_mut() = axum::http::StatusCode::SERVICE_UNAVAILABLE;
                return answer;
            }
            let sample = |version: &str| {
                json!({
                    "kind": "PodMetrics", "apiVersion": "metrics.k8s.io/v1beta1",
                    "metadata": {"namespace": "web", "name": "a", "resourceVersion": version},
                    "timestamp": "2023-11-14T22:13:20Z", "window": "1s", "containers": [],
                })
            };
            let text = |value: Value| Response::new(Body::from(value.to_string()));
            match what {
                "discovery" => text(json!({"resources": [
                    {"name": "pods", "kind": "PodMetrics", "verbs": ["get", "list", "watch"]}]})),
                "list" => text(json!({
                    "kind": "PodMetricsList", "apiVersion": "metrics.k8s.io/v1beta1",
                    "metadata": {"resourceVersion": "1"}, "items": [sample("1")],
                })),
                _ => {
                    let line = format!("{}\n", json!({"type": "MODIFIED", "object": sample("2")}));
                    let line = stream::iter([Ok::<_, std::io::Error>(Bytes::from(line))]);
                    Response::new(Body::from_stream(line.chain(stream::pending())))
                }
            }
        }
    }

    struct Fixture {
        server: Arc<Mutex<Server>>,
        queue: Arc<Queue>,
    }

    /// An autoscaler that was evaluated once, and one pod of it. Samples are followed from now on.
    async fn follow_samples() -> Fixture {
        let server = Arc::new(Mutex::new(Server::default()));
        let answering = Arc::clone(&server);
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
            let answer = answering.lock().answer(request.uri().path(), is_watch);
            async move { Ok::<_, std::io::Error>(answer) }
        });
        let api = ApiServer::new(kube::Client::new(service, "default"), 1000.0, 1000);
        let pods = Arc::new(Pods::default());
        let mut feed = PodFeed::new(Arc::clone(&pods), None);
        feed.begin();
        let pod = json!({"metadata": {"namespace": "web", "name": "a", "labels": {"app": "app"}}});
        feed.apply(serde_json::from_value(pod).unwrap(), true);
        feed.end();
        pods.register("web", "app", "app=app").unwrap();
        let queue = Arc::new(Queue::new(PERIOD, Duration::from_millis(1)));
        queue.add(&HpaKey::new("web", "app"));
        let (key, _) = queue.next().await;
        queue.done(&key);
        let errors = IntCounter::new("errors", "Errors.").unwrap();
        tokio::spawn(run(api, None, watch_options(1), pods, Arc::clone(&queue), errors));
        Fixture { server, queue }
    }

    #[tokio::test(start_paused = true)]
    async fn samples_are_followed_soon_after_the_metrics_server_comes_up() {
        let fixture = follow_samples().await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(fixture.server.lock().asked.iter().all(|what| *what == "discovery"));
        // It lets some through before others, as servers do that start.
        *fixture.server.lock() = Server { up: true, refuse: (3, 8), asked: Vec::new() };
        let begin = Instant::now();
        let next = fixture.queue.next().await;
        assert_eq!(next, (HpaKey::new("web", "app"), Trigger::Fresh));
        let asked = std::mem::take(&mut fixture.server.lock().asked);
        let count = |what| asked.iter().filter(|asked| **asked == what).count();
        assert_eq!((count("discovery"), count("list"), count("watch")), (1, 4, 9));
        // Time is the tokio runtime's, which passes when nothing else can happen: a second until it is asked, and waits of two
        // seconds at most for each refusal.
        assert!(begin.elapsed() <= Duration::from_secs(1 + 2 * 11), "{:?}", begin.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_list_tells_is_no_fresh_sample() {
        let fixture = follow_samples().await;
        *fixture.server.lock() = Server { up: true, refuse: (0, u32::MAX), asked: Vec::new() };
        let next = tokio::time::timeout(Duration::from_secs(60), fixture.queue.next()).await;
        assert!(next.is_err(), "{next:?}");
        assert!(fixture.server.lock().asked.contains(&"list"));
    }
}
