//! Tells events about autoscalers, as `kubectl describe` shows them.
//!
//! They are written by a task of their own, so that no evaluation waits for them. What does not fit into its queue is dropped and
//! counted, as with upstream's recorder.

mod correlate;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use model::{Clock, Timestamp};
use serde::de::IgnoredAny;
use telemetry::{IntCounterVec, Opts, Registry, register};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::correlate::{About, Correlator, Write};
use super::api_server::{ApiError, ApiErrorKind, ApiServer, Call, OBJECT_BYTES_MAX, segment};
use super::rate::Rate;
use super::watch::HpaObject;
use crate::decision::{EventNote, EventType};
use crate::leader::Leadership;

/// Who tells, as upstream.
const COMPONENT: &str = "horizontal-pod-autoscaler";
/// Events that wait to be written.
const QUEUE_MAX: usize = 1000;
/// Events a second; scaling must not wait for what is only told.
const PER_SECOND: f64 = 100.0;
const BURST: u32 = 200;
/// How often an event is tried to be written.
const TRIES_MAX: u32 = 3;
/// Pause before the second try; longer before each further one.
const PAUSE: Duration = Duration::from_secs(1);
/// Bytes of a message; the API server takes no more than 1024 characters of what it shows, and upstream sends it whole.
const MESSAGE_BYTES_MAX: usize = 8 << 10;

/// One event on its way.
#[derive(Debug)]
struct Told {
    about: About,
    resource_version: String,
    note: EventNote,
    at: Timestamp,
}

/// Takes events; clones go the same way.
#[derive(Clone)]
pub(super) struct Recorder {
    queue: mpsc::Sender<Told>,
    clock: Arc<dyn Clock>,
    events: IntCounterVec,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

/// Writes events.
#[derive(Debug)]
pub(super) struct EventWriter {
    queue: mpsc::Receiver<Told>,
    api: ApiServer,
    leadership: Leadership,
    instance: String,
    timeout: Duration,
    correlator: Correlator,
    rate: Rate,
    events: IntCounterVec,
}

/// A recorder and what has to run for it. `instance` is who of several replicas tells, `timeout` for one call.
pub(super) fn recorder(
    api: ApiServer,
    leadership: Leadership,
    instance: String,
    timeout: Duration,
    clock: Arc<dyn Clock>,
    registry: &Registry,
) -> (Recorder, EventWriter) {
    let events = register(
        registry,
        IntCounterVec::new(
            Opts::new(
                "sextant_hpa_events_total",
                "Events by what became of them: written, filtered as too many about one object, dropped as the queue was full, failed.",
            ),
            &["result"],
        ),
    );
    let (sender, queue) = mpsc::channel(QUEUE_MAX);
    let writer = EventWriter {
        queue,
        api,
        leadership,
        instance,
        timeout,
        correlator: Correlator::default(),
        rate: Rate::new(PER_SECOND, BURST),
        events: events.clone(),
    };
    (Recorder { queue: sender, clock, events }, writer)
}

impl Recorder {
    /// Tells an event about an autoscaler.
    pub(super) fn tell(&self, hpa: &HpaObject, mut note: EventNote) {
        let boxed = |text: Option<&str>| Box::from(text.unwrap_or_default());
        note.message.truncate(note.message.floor_char_boundary(MESSAGE_BYTES_MAX));
        let told = Told {
            about: About {
                namespace: boxed(hpa.metadata.namespace.as_deref()),
                name: boxed(hpa.metadata.name.as_deref()),
                uid: Box::from(hpa.uid()),
            },
            resource_version: String::from(hpa.resource_version()),
            note,
            at: self.clock.now(),
        };
        if self.queue.try_send(told).is_err() {
            self.events.with_label_values(&["dropped"]).inc();
        }
    }
}

impl EventWriter {
    /// Writes what is told until `shutdown`.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        loop {
            let told = tokio::select! {
                () = shutdown.cancelled() => return,
                told = self.queue.recv() => told,
            };
            let Some(told) = told else { return };
            let result = match self.correlator.correlate(&told.about, &told.note, told.at) {
                None => "filtered",
                Some(write) => match self.write(&told, &write).await {
                    Ok(()) => "written",
                    Err(error) => {
                        let namespace = &*told.about.namespace;
                        tracing::warn!(namespace, name = &*told.about.name, %error, "an event is lost");
                        "failed"
                    }
                },
            };
            self.events.with_label_values(&[result]).inc();
        }
    }

    async fn write(&mut self, told: &Told, write: &Write) -> Result<(), ApiError> {
        let mut tries = 0;
        let mut create = write.count == 1;
        loop {
            self.rate.turn().await;
            tries += 1;
            let result = match create {
                true => self.send(Method::POST, told, write).await,
                false => self.send(Method::PATCH, told, write).await,
            };
            match result {
                Ok(()) => return Ok(()),
                // Events live for an hour, and counting may go on for longer.
                Err(error) if !create && error.is_not_found() => create = true,
                // An earlier try arrived, and its answer did not.
                Err(error) if create && error.is_conflict() => return Ok(()),
                Err(error) if error.kind == ApiErrorKind::Unreachable && tries < TRIES_MAX => {
                    tokio::time::sleep(PAUSE * tries).await;
                }
                Err(error) => {
                    self.correlator.forget(&write.key);
                    return Err(error);
                }
            }
        }
    }

    async fn send(&self, method: Method, told: &Told, write: &Write) -> Result<(), ApiError> {
        let About { namespace, .. } = &told.about;
        let body = if method == Method::POST {
            self.event(told, write)
        } else {
            serde_json::json!({
                "count": write.count,
                "lastTimestamp": rfc3339(told.at),
                "message": write.message,
            })
        };
        let mut path = format!("/api/v1/namespaces/{}/events", segment(namespace));
        let kind = if method == Method::POST {
            "application/json"
        } else {
            path = format!("{path}/{}", segment(&write.name));
            "application/strategic-merge-patch+json"
        };
        let call = Call {
            method,
            path,
            body: Some((kind, body.to_string().into_bytes())),
            resource: "events",
            name: &write.name,
            bytes_max: OBJECT_BYTES_MAX,
            timeout: self.timeout,
        };
        let _: IgnoredAny = self.api.call(call, || self.leadership.may_write()).await?;
        Ok(())
    }

    fn event(&self, told: &Told, write: &Write) -> serde_json::Value {
        let About { namespace, name, uid } = &told.about;
        serde_json::json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": write.name, "namespace": namespace},
            "involvedObject": {
                "kind": "HorizontalPodAutoscaler",
                "namespace": namespace,
                "name": name,
                "uid": uid,
                "apiVersion": "autoscaling/v2",
                "resourceVersion": told.resource_version,
            },
            "reason": told.note.reason,
            "message": write.message,
            "source": {"component": COMPONENT},
            "firstTimestamp": rfc3339(write.first),
            "lastTimestamp": rfc3339(told.at),
            "count": write.count,
            "type": match told.note.kind {
                EventType::Normal => "Normal",
                EventType::Warning => "Warning",
            },
            "reportingComponent": COMPONENT,
            "reportingInstance": self.instance,
        })
    }
}

/// Whole seconds, as Kubernetes writes times.
fn rfc3339(at: Timestamp) -> String {
    let mut text = Vec::with_capacity(20);
    metrics_api::write_time(&mut text, at.div_euclid(1000));
    String::from_utf8(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use model::ManualClock;

    use super::*;
    use crate::fake_objects::{FakeObjects, Link};

    #[tokio::test(start_paused = true)]
    async fn an_event_whose_answer_was_lost_is_written() {
        let objects = FakeObjects::default();
        let (client, wire) = objects.client();
        let registry = Registry::new();
        let (recorder, writer) = recorder(
            ApiServer::new(client, 100.0, 100),
            Leadership::always(),
            String::from("one"),
            Duration::from_secs(5),
            Arc::new(ManualClock::new(1_700_000_000_000)),
            &registry,
        );
        wire.set(Link::Deaf);
        let hpa: HpaObject = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "app", "namespace": "web", "uid": "h"},
            "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "app"}},
        }))
        .unwrap();
        let note = EventNote {
            kind: EventType::Warning,
            reason: String::from("FailedGetScale"),
            message: String::from("no"),
        };
        recorder.tell(&hpa, note);
        let stop = CancellationToken::new();
        let run = tokio::spawn(writer.run(stop.clone()));
        tokio::time::sleep(PAUSE / 2).await;
        wire.set(Link::Fine);
        tokio::time::sleep(PAUSE * 10).await;
        stop.cancel();
        run.await.unwrap();
        let count = |result: &str| recorder.events.with_label_values(&[result]).get();
        assert_eq!((count("written"), count("failed")), (1, 0));
        let posts = objects.take_log();
        assert_eq!((posts.len(), objects.paths().len()), (2, 1), "{posts:?}");
    }
}
