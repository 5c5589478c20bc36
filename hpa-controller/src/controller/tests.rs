//! Turns of one autoscaler against an API server in memory.

use std::sync::Arc;
use std::time::Duration;

use model::{ManualClock, Timestamp};
use serde_json::{Value, json};
use telemetry::new_registry;
use tokio_util::sync::CancellationToken;

use super::api_metrics::ApiMetrics;
use super::api_server::ApiServer;
use super::config::React;
use super::evaluate::Evaluator;
use super::events::{self, EventWriter};
use super::mapping::Mappings;
use super::queue::{Queue, Trigger};
use super::reconcile::Controller;
use super::scale::{Scales, field_manager};
use super::status_turns::StatusTurns;
use super::watch::{AllTargets, Feed, HpaFeed, Hpas, PodFeed, Pods, TargetFeed};
use crate::fake_objects::FakeObjects;
use crate::inputs::Constants;
use crate::leader::{Election, ElectionOptions, Leadership};
use crate::metrics::ControllerMetrics;
use crate::state::{DecisionLog, HpaKey, LogOptions, Logged, Mode, StateOptions, StateStore};
use crate::steer::Recommendations;

/// 2023-11-14T22:13:20Z
const FIELD_MANAGER: &str = "sextant-hpa-controller:sextant/a";
const NOW: Timestamp = 1_700_000_000_000;
const PERIOD: Duration = Duration::from_secs(15);
const SCALE: &str = "/apis/apps/v1/namespaces/web/deployments/app/scale";
const STATUS: &str = "/apis/autoscaling/v2/namespaces/web/horizontalpodautoscalers/app/status";
const METRICS: &str = "/apis/metrics.k8s.io/v1beta1/namespaces/web/pods";
const KCM: &str = "kube-controller-manager";

struct Fixture {
    objects: FakeObjects,
    controller: Arc<Controller>,
    clock: Arc<ManualClock>,
    targets: Arc<AllTargets>,
    key: HpaKey,
    writer: Option<EventWriter>,
    field_manager: Arc<str>,
    hpas: HpaFeed<fn(&HpaKey, super::watch::Change)>,
}

fn scale(replicas: i32) -> Value {
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {"name": "app", "namespace": "web", "uid": "d"},
        "spec": {"replicas": replicas}, "status": {"replicas": replicas, "selector": "app=app"},
    })
}

fn hpa(status: &Value, wrote: &str) -> Value {
    json!({
        "kind": "HorizontalPodAutoscaler", "apiVersion": "autoscaling/v2",
        "metadata": {"name": "app", "namespace": "web", "uid": "h", "labels": {"team": "x"}, "managedFields": [
            {"manager": KCM, "operation": "Update", "subresource": "status", "time": wrote}]},
        "spec": {
            "minReplicas": 1, "maxReplicas": 100,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "app"},
            "metrics": [{"type": "Resource", "resource": {
                "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}],
        },
        "status": status,
    })
}

fn usage(milli: i64) -> Value {
    let pod = |name: &str| {
        json!({
            "metadata": {"name": name, "namespace": "web"}, "timestamp": "2023-11-14T22:13:15Z", "window": "15s",
            "containers": [{"name": "c", "usage": {"cpu": format!("{milli}m")}}],
        })
    };
    json!({"kind": "PodMetricsList", "metadata": {}, "items": [pod("a"), pod("b")]})
}

/// An autoscaler at 50 % of 100m with two pods that use 100m each: twice as many are needed.
fn fixture(
    mode: Mode,
    field_manager: &str,
    leadership: Leadership,
    objects: FakeObjects,
) -> Fixture {
    objects.put(SCALE, scale(2));
    objects.put(STATUS, hpa(&json!({"desiredReplicas": 2}), "2023-11-14T20:00:00Z"));
    objects.put(METRICS, usage(100));
    let clock = Arc::new(ManualClock::new(NOW));
    let registry = new_registry();
    let api = ApiServer::new(objects.client().0, 1000.0, 1000);
    let (recorder, writer) = events::recorder(
        api.clone(),
        leadership.clone(),
        String::from("one"),
        Duration::from_secs(5),
        Arc::clone(&clock) as _,
        &registry,
    );
    let mappings = Arc::new(Mappings::new(api.clone()));
    let targets = Arc::new(AllTargets::default());
    let pods = Arc::new(Pods::default());
    let mut feed = PodFeed::new(Arc::clone(&pods), None);
    feed.begin();
    for name in ["a", "b"] {
        let pod = json!({
            "metadata": {"name": name, "namespace": "web", "labels": {"app": "app"}},
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "100m"}}}]},
            "status": {"phase": "Running", "startTime": "2023-11-14T12:00:00Z", "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2023-11-14T12:00:10Z"}]},
        });
        feed.apply(serde_json::from_value(pod).unwrap(), true);
    }
    feed.end();
    let hpas = Arc::new(Hpas::default());
    let nothing: fn(&HpaKey, super::watch::Change) = |_, _| {};
    let hpa_feed = HpaFeed::new(Arc::clone(&hpas), None, nothing);
    let evaluator = Evaluator {
        scales: Scales::new(
            api.clone(),
            Arc::clone(&mappings),
            Arc::clone(&targets),
            Arc::from(field_manager),
        ),
        pods,
        source: Arc::new(ApiMetrics::with_mappings(api.clone(), mappings)),
        forecaster: None,
        clock: Arc::clone(&clock) as _,
    };
    let state = StateOptions::new(PERIOD, Duration::from_secs(300));
    let controller = Controller {
        api,
        constants: Constants::default(),
        period: PERIOD,
        react: React::FreshSamples,
        mode,
        field_manager: Arc::from(field_manager),
        write_timeout: Duration::from_secs(5),
        hpas,
        evaluator,
        queue: Arc::new(Queue::new(PERIOD, Duration::from_secs(1))),
        leadership,
        state: Arc::new(StateStore::new(state, Arc::clone(&clock) as _)),
        steering: Arc::new(Recommendations::new(PERIOD)),
        log: Arc::new(DecisionLog::new(LogOptions::default(), &registry).unwrap()),
        status_turns: StatusTurns::new(100, PERIOD),
        metrics: ControllerMetrics::new(&registry),
        recorder,
        held: parking_lot::Mutex::default(),
        restored: parking_lot::Mutex::default(),
    };
    let mut fixture = Fixture {
        objects,
        controller: Arc::new(controller),
        clock,
        targets,
        key: HpaKey::new("web", "app"),
        field_manager: Arc::from(field_manager),
        writer: Some(writer),
        hpas: hpa_feed,
    };
    fixture.hpas.begin();
    fixture.watch();
    fixture
}

impl Fixture {
    fn active() -> Self {
        Self::active_as(FIELD_MANAGER)
    }

    fn active_as(field_manager: &str) -> Self {
        fixture(Mode::Active, field_manager, Leadership::always(), FakeObjects::default())
    }

    /// The watch tells what the server has.
    fn watch(&mut self) {
        let object = self.objects.get(STATUS).unwrap();
        self.hpas.apply(serde_json::from_value(object).unwrap(), false);
    }

    async fn turn(&self, trigger: Trigger) {
        self.controller.reconcile(&self.key, trigger).await;
    }

    async fn pass(&self, seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
        self.clock.advance(i64::try_from(seconds).unwrap() * 1000);
    }

    /// What was written since the last look.
    fn writes(&self) -> Vec<String> {
        let mut log = self.objects.take_log();
        log.retain(|line| !line.starts_with("GET"));
        log
    }

    fn replicas(&self) -> i64 {
        self.objects.get(SCALE).unwrap()["spec"]["replicas"].as_i64().unwrap()
    }

    fn last(&self) -> Arc<Logged> {
        self.controller.log.last(&self.key, 1).remove(0)
    }

    fn decisions(&self) -> usize {
        self.controller.log.last(&self.key, 100).len()
    }

    /// Reasons of the events that were told, in order.
    async fn told(&mut self) -> Vec<String> {
        let before = self.objects.paths();
        let writer = self.writer.take().unwrap();
        let stop = CancellationToken::new();
        let written = tokio::spawn(writer.run(stop.clone()));
        // Time is paused: this returns when nothing else can go on.
        tokio::time::sleep(Duration::from_secs(1)).await;
        stop.cancel();
        written.await.unwrap();
        let new = self.objects.paths().into_iter().filter(|path| !before.contains(path));
        let events = new.filter(|path| path.starts_with("/api/v1/namespaces/web/events/"));
        let reason = |path: String| {
            let event = self.objects.get(&path).unwrap();
            assert_eq!(event["involvedObject"]["uid"], "h");
            assert_eq!(event["source"]["component"], "horizontal-pod-autoscaler");
            assert_eq!(event["count"], 1);
            event["reason"].as_str().unwrap().to_owned()
        };
        events.map(reason).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn an_active_controller_writes_scale_status_and_events() {
    let mut fixture = Fixture::active();
    fixture.turn(Trigger::Period).await;
    assert_eq!(fixture.writes(), [format!("PUT {SCALE}"), format!("PUT {STATUS}")]);
    assert_eq!(fixture.replicas(), 4);
    let written = fixture.objects.get(STATUS).unwrap();
    assert_eq!(written["metadata"]["labels"]["team"], "x");
    assert_eq!(written["status"]["currentReplicas"], 2);
    assert_eq!(written["status"]["desiredReplicas"], 4);
    assert_eq!(fixture.told().await, ["SuccessfulRescale"]);
    let logged = fixture.last();
    assert_eq!((logged.mode, logged.again()), (Mode::Active, logged.decision.clone()));
}

#[tokio::test(start_paused = true)]
async fn a_shadow_writes_nothing_and_remembers() {
    let mut fixture =
        fixture(Mode::Shadow, FIELD_MANAGER, Leadership::always(), FakeObjects::default());
    fixture.turn(Trigger::Period).await;
    assert_eq!(fixture.told().await, [""; 0]);
    assert_eq!(fixture.writes(), [""; 0]);
    let logged = fixture.last();
    assert_eq!((logged.mode, logged.decision.desired_replicas), (Mode::Shadow, 4));
    fixture.pass(15).await;
    fixture.turn(Trigger::Period).await;
    let memory = fixture.last().inputs.memory.recommendations.clone().unwrap();
    assert_eq!(memory.iter().map(|one| one.replicas).collect::<Vec<_>>(), [2, 4]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_without_leadership() {
    let objects = FakeObjects::default();
    let options = ElectionOptions::new("web", "lease", "one");
    let election = Election::new(objects.client().0, options).unwrap();
    let mut fixture = fixture(Mode::Active, FIELD_MANAGER, election.leadership(), objects);
    fixture.turn(Trigger::Period).await;
    assert_eq!(fixture.told().await, [""; 0]);
    assert_eq!(fixture.writes(), [""; 0]);
    assert_eq!(fixture.replicas(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_conflict_makes_the_decision_anew() {
    let fixture = Fixture::active();
    // The watch is behind: somebody has asked for five meanwhile, which two busy pods are no reason to lower at once.
    let mut feed = TargetFeed::new(Arc::clone(&fixture.targets), 0, None);
    feed.begin();
    let workload = json!({
        "metadata": {"name": "app", "namespace": "web", "uid": "d", "resourceVersion": "1"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "app"}}}, "status": {"replicas": 2},
    });
    feed.apply(serde_json::from_value(workload).unwrap(), true);
    feed.end();
    fixture.objects.edit(SCALE, |scale| scale["spec"]["replicas"] = json!(5));
    fixture.turn(Trigger::Period).await;
    assert_eq!(fixture.writes(), [format!("PUT {SCALE}"), format!("PUT {STATUS}")]);
    assert_eq!(fixture.replicas(), 5);
    let logged = fixture.last();
    assert_eq!(logged.decision.current_replicas, Some(5));
    assert_eq!((logged.decision.proposed_replicas, logged.decision.rescale), (Some(4), false));
}

#[tokio::test(start_paused = true)]
async fn an_autoscaler_that_another_controller_writes_is_left_alone() {
    let mut fixture = Fixture::active();
    fixture.turn(Trigger::Period).await;
    assert_eq!(fixture.replicas(), 4);
    fixture.writes();
    fixture.objects.put(SCALE, scale(2));
    fixture.objects.edit(STATUS, |hpa| {
        hpa["metadata"]["managedFields"] = json!([
            {"manager": FIELD_MANAGER, "subresource": "status", "time": "2023-11-14T22:13:20Z"},
            {"manager": KCM, "subresource": "status", "time": "2023-11-14T22:13:29Z"},
        ]);
    });
    fixture.watch();
    fixture.pass(15).await;
    fixture.turn(Trigger::Period).await;
    assert_eq!(fixture.writes(), [""; 0]);
    assert_eq!(fixture.replicas(), 2);
    let logged = fixture.last();
    assert_eq!((logged.mode, logged.decision.desired_replicas), (Mode::Shadow, 4));
    assert_eq!(fixture.told().await, ["SuccessfulRescale", "ConflictingController"]);
    fixture.writes();
    // It has been silent for ten minutes.
    fixture.pass(600).await;
    fixture.turn(Trigger::Period).await;
    assert_eq!(fixture.replicas(), 4);
}

#[tokio::test(start_paused = true)]
async fn two_processes_without_an_election_notice_each_other() {
    let mut fixture = Fixture::active_as(&field_manager(None));
    let (ours, theirs) = (fixture.field_manager.to_string(), field_manager(None));
    fixture.turn(Trigger::Period).await;
    assert_eq!(fixture.replicas(), 4);
    fixture.writes();
    fixture.objects.put(SCALE, scale(2));
    let wrote = |fixture: &mut Fixture, time: &str| {
        fixture.objects.edit(STATUS, |hpa| {
            hpa["metadata"]["managedFields"] = json!([
                {"manager": ours, "subresource": "status", "time": "2023-11-14T22:13:20Z"},
                {"manager": &*theirs, "subresource": "status", "time": time},
            ]);
        });
        fixture.watch();
    };
    wrote(&mut fixture, "2023-11-14T22:13:25Z");
    fixture.pass(15).await;
    fixture.turn(Trigger::Period).await;
    // It goes on, and is looked at again each time.
    wrote(&mut fixture, "2023-11-14T22:13:40Z");
    fixture.pass(15).await;
    fixture.turn(Trigger::Period).await;
    assert_eq!(fixture.writes(), [""; 0]);
    assert_eq!((fixture.replicas(), fixture.last().mode), (2, Mode::Shadow));
    assert_eq!(fixture.told().await, ["SuccessfulRescale", "ConflictingController"]);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_follows_on_another_without_an_election_waits_for_its_silence() {
    let mut fixture = Fixture::active_as(&field_manager(None));
    let before = field_manager(None);
    fixture.objects.edit(STATUS, |hpa| {
        hpa["metadata"]["managedFields"] = json!([
            {"manager": &*before, "subresource": "status", "time": "2023-11-14T22:13:20Z"}]);
    });
    fixture.watch();
    fixture.turn(Trigger::Period).await;
    assert_eq!((fixture.writes(), fixture.replicas()), (Vec::new(), 2));
    for _ in 0..2 {
        fixture.pass(15).await;
    }
    fixture.turn(Trigger::Period).await;
    assert_eq!(fixture.replicas(), 4);
    assert_eq!(fixture.told().await, ["SuccessfulRescale"]);
}

#[tokio::test(start_paused = true)]
async fn fresh_samples_only_scale_up_and_keep_the_pace() {
    let fixture = Fixture::active();
    // The first word is said in full, whatever asked for it.
    fixture.turn(Trigger::Fresh).await;
    assert_eq!((fixture.replicas(), fixture.decisions()), (4, 1));
    // Much more is needed, but this period has had its doubling.
    fixture.objects.put(SCALE, scale(4));
    fixture.objects.put(METRICS, usage(400));
    fixture.writes();
    for _ in 0..5 {
        fixture.pass(2).await;
        fixture.turn(Trigger::Fresh).await;
    }
    assert_eq!(fixture.writes(), [""; 0]);
    assert_eq!(fixture.decisions(), 1);
    // The next one has its own.
    fixture.pass(4).await;
    fixture.turn(Trigger::Fresh).await;
    assert_eq!(fixture.replicas(), 8);
    let logged = fixture.last();
    assert_eq!(logged.again(), logged.decision);
    // Less is needed: that waits for the period, and leaves no trace.
    fixture.objects.put(SCALE, scale(8));
    fixture.objects.put(METRICS, usage(5));
    fixture.pass(1).await;
    fixture.turn(Trigger::Fresh).await;
    assert_eq!((fixture.replicas(), fixture.decisions()), (8, 2));
    fixture.pass(1).await;
    fixture.turn(Trigger::Period).await;
    let memory = fixture.last().inputs.memory.recommendations.clone().unwrap();
    assert_eq!(memory.iter().map(|one| one.replicas).collect::<Vec<_>>(), [2, 4, 16]);
}

#[tokio::test(start_paused = true)]
async fn values_alone_are_written_once_a_period() {
    let mut fixture = Fixture::active();
    fixture.turn(Trigger::Period).await;
    fixture.objects.put(SCALE, scale(4));
    fixture.watch();
    fixture.pass(15).await;
    fixture.objects.put(METRICS, usage(51));
    fixture.turn(Trigger::Period).await;
    fixture.writes();
    fixture.pass(1).await;
    fixture.objects.put(METRICS, usage(52));
    fixture.turn(Trigger::Period).await;
    assert_eq!(fixture.writes(), [""; 0]);
    fixture.pass(14).await;
    fixture.turn(Trigger::Period).await;
    assert_eq!(fixture.writes(), [format!("PUT {STATUS}")]);
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_is_forgotten() {
    let mut fixture = Fixture::active();
    fixture.turn(Trigger::Period).await;
    fixture.hpas.begin();
    fixture.hpas.end();
    fixture.turn(Trigger::Period).await;
    assert_eq!(fixture.decisions(), 0);
    assert!(fixture.controller.held.lock().is_empty());
    assert!(fixture.controller.evaluator.pods.selecting("web", "a").is_empty());
}

#[tokio::test(start_paused = true)]
async fn decisions_about_autoscalers_that_are_no_more_are_forgotten() {
    let fixture = Fixture::active();
    fixture.turn(Trigger::Period).await;
    // As it comes back from a file.
    let old = Logged { key: HpaKey::new("web", "deleted"), ..(*fixture.last()).clone() };
    fixture.controller.log.push(&old);
    fixture.controller.forget_deleted();
    assert_eq!(fixture.controller.log.keys(), std::slice::from_ref(&fixture.key));
}
