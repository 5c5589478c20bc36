//! What is collected from an API server in memory.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use model::ManualClock;
use serde_json::{Value, json};

use super::*;
use crate::beyond::{BeyondMemory, LeftOut, PREFIX};
use crate::controller::ApiMetrics;
use crate::decide::decide;
use crate::fake_objects::FakeObjects;
use crate::inputs::{MetricAnswer, Recommendation, ScaleEvent};
use crate::leader::Leadership;
use crate::sources::{HistoryError, HistorySeries};
use crate::state::{ConfigMapOptions, StateOptions, StateStore};

/// 2023-11-14T22:13:20Z
const NOW: Timestamp = 1_700_000_000_000;
const HPA: &str = "/apis/autoscaling/v2/namespaces/web/horizontalpodautoscalers/app";
const PERIOD: Duration = Duration::from_secs(15);

/// An autoscaler at 50 % of 100m, and three pods of its selector that use 100m each: `a` and `b` are the target's through a `ReplicaSet`,
/// `job` is somebody else's.
fn cluster(annotations: &[(&str, &str)]) -> FakeObjects {
    let objects = FakeObjects::default();
    let annotations: serde_json::Map<String, Value> =
        annotations.iter().map(|(name, value)| (format!("{PREFIX}{name}"), json!(value))).collect();
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "app"});
    let hpa = json!({
        "kind": "HorizontalPodAutoscaler", "apiVersion": "autoscaling/v2",
        "metadata": {"name": "app", "namespace": "web", "uid": "h", "annotations": annotations},
        "spec": {
            "minReplicas": 1, "maxReplicas": 100, "scaleTargetRef": target,
            "metrics": [{"type": "Resource", "resource": {
                "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}],
        },
    });
    let list = |items: &[Value]| json!({"kind": "List", "metadata": {}, "items": items});
    objects.put(HPA, hpa.clone());
    objects.put(HPA.strip_suffix("/app").unwrap(), list(&[hpa]));
    objects.put(
        "/apis/apps/v1/namespaces/web/deployments/app/scale",
        json!({
            "metadata": {"name": "app", "namespace": "web", "uid": "d"},
            "spec": {"replicas": 2}, "status": {"replicas": 2, "selector": "app=app"},
        }),
    );
    let owned = |kind: &str, uid: &str| json!([{"kind": kind, "uid": uid, "controller": true}]);
    let set = |uid: &str, deployment: &str| {
        json!({"metadata": {"name": uid, "namespace": "web", "uid": uid,
        "ownerReferences": owned("Deployment", deployment)}})
    };
    objects.put("/apis/apps/v1/namespaces/web/replicasets", list(&[set("r", "d"), set("s", "e")]));
    let pod = |name: &str, owners: Value| {
        json!({
            "metadata": {"name": name, "namespace": "web", "labels": {"app": "app"}, "ownerReferences": owners},
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "100m"}}}]},
            "status": {"phase": "Running", "startTime": "2023-11-14T12:00:00Z", "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2023-11-14T12:00:10Z"}]},
        })
    };
    let rs = || owned("ReplicaSet", "r");
    objects.put(
        "/api/v1/namespaces/web/pods",
        list(&[
            pod("a", rs()),
            pod("b", rs()),
            pod("job", owned("Job", "j")),
            pod("old", owned("ReplicaSet", "s")),
        ]),
    );
    let usage = |name: &str| {
        json!({
            "metadata": {"name": name, "namespace": "web"}, "timestamp": "2023-11-14T22:13:15Z", "window": "15s",
            "containers": [{"name": "c", "usage": {"cpu": "100m"}}],
        })
    };
    let items = ["a", "b", "job", "old"].map(usage);
    objects.put("/apis/metrics.k8s.io/v1beta1/namespaces/web/pods", list(&items));
    objects.put("/api/v1/configmaps", list(&[]));
    objects
}

async fn collected_with(
    objects: &FakeObjects,
    history: Option<&dyn History>,
) -> Result<Collected, CollectError> {
    let (client, _) = objects.client();
    let source = ApiMetrics::new(ApiServer::new(client.clone(), 1000.0, 1000));
    let clock = ManualClock::new(NOW);
    let state = StateMaps { namespace: None, prefix: String::from("sextant-hpa-controller") };
    let options = CollectOptions {
        constants: &Constants::default(),
        source: &source,
        history,
        state,
        sync_period: PERIOD,
        clock: &clock,
    };
    collect(&client, &HpaKey::new("web", "app"), &options).await
}

async fn collected(objects: &FakeObjects) -> Collected {
    collected_with(objects, None).await.unwrap()
}

fn names(inputs: &Inputs) -> (Vec<&str>, Vec<&str>) {
    let PodSet::Matched(pods) = &inputs.pods else { panic!("{:?}", inputs.pods) };
    let Some(MetricAnswer::Pods(readings)) = &inputs.metrics[0] else { panic!() };
    let pods = pods.iter().map(|pod| &*pod.name).collect();
    (pods, readings.iter().map(|reading| &*reading.pod).collect())
}

/// All of `lines` are among the notes, and nothing else.
fn notes(collected: &Collected, expected: &[&str]) {
    let notes: Vec<_> =
        collected.notes.iter().map(|note| note.split([':', ';']).next().unwrap()).collect();
    assert_eq!(notes, expected, "{:#?}", collected.notes);
}

const NO_MEMORY: &str = "earlier recommendations and rescales are not known";

#[tokio::test]
async fn pods_by_selector_and_by_owner() {
    let by_selector = collected(&cluster(&[])).await;
    let all = vec!["a", "b", "job", "old"];
    assert_eq!(names(&by_selector.inputs), (all.clone(), all));
    assert_eq!((by_selector.uid.as_str(), by_selector.inputs.beyond.left_out), ("h", None));

    let objects = cluster(&[("pods", "owned")]);
    let by_owner = collected(&objects).await;
    assert_eq!(names(&by_owner.inputs), (vec!["a", "b"], vec!["a", "b"]));
    let left_out = LeftOut { count: 2, names: vec!["job".into(), "old".into()] };
    assert_eq!(by_owner.inputs.beyond.left_out, Some(left_out));
    notes(&by_owner, &[NO_MEMORY]);
    // 100m of 100m in two pods, 50% is wanted.
    assert_eq!(decide(&by_owner.inputs, NOW).desired_replicas, 4);

    objects.delete("/apis/apps/v1/namespaces/web/replicasets");
    let unknown = collected(&objects).await;
    let PodSet::Failed(why) = &unknown.inputs.pods else { panic!("{:?}", unknown.inputs.pods) };
    assert!(why.starts_with("the owners of pods are not known: "), "{why}");
    assert_eq!(unknown.inputs.metrics, [None]);
}

#[tokio::test]
async fn what_may_not_be_looked_at_is_noted() {
    let objects = cluster(&[("fallback", "hold"), ("flap-budget", "4"), ("flap-window", "2h")]);
    objects.delete(HPA.strip_suffix("/app").unwrap());
    objects.delete("/api/v1/configmaps");
    let collected = collected(&objects).await;
    notes(
        &collected,
        &[
            "whether other autoscalers select the same pods is not known, it is taken that none does",
            NO_MEMORY,
            "how long metrics have been lost is not known, nor what they proposed last",
            "how often replicas have turned is not known",
            "what a controller remembers cannot be looked for",
        ],
    );
    assert!(
        collected.notes[2]
            .ends_with(": a loss counts from now on, and the fallback comes 3m later")
    );
    assert!(
        collected.notes[3].ends_with(": the flap budget (4 turns within 2h) is taken to be unused")
    );
    assert_eq!(collected.inputs.memory, Memory::default());
}

/// What a leader writes into its config maps is found there, by the uid of the autoscaler.
#[tokio::test]
async fn what_a_controller_remembers_is_read_where_it_keeps_it() {
    let objects = cluster(&[("flap-budget", "4")]);
    let (client, _) = objects.client();
    let memory = Memory {
        recommendations: Some(vec![Recommendation { replicas: 9, at: NOW - 60_000 }]),
        scale_up_events: vec![ScaleEvent { change: 3, at: NOW - 20_000, outdated: false }],
        scale_down_events: Vec::new(),
        beyond: BeyondMemory::default(),
    };
    let keep = async |uid: &str, at: Timestamp| {
        let maps = ConfigMapOptions {
            client: client.clone(),
            namespace: String::from("sextant"),
            prefix: String::from("sextant-hpa-controller"),
            write_timeout: Duration::from_secs(5),
        };
        let options = StateOptions {
            config_maps: Some(maps),
            ..StateOptions::new(PERIOD, Duration::from_secs(300))
        };
        let store = StateStore::new(options, Arc::new(ManualClock::new(at)));
        store.remember(&HpaKey::new("web", "app"), uid, &memory);
        store.write(&Leadership::always()).await.unwrap();
        let path = "/api/v1/namespaces/sextant/configmaps/sextant-hpa-controller-state-0";
        let map = objects.get(path).unwrap();
        objects.delete(path);
        objects.put("/api/v1/configmaps", json!({"metadata": {}, "items": [map]}));
    };
    keep("h", NOW - 10_000).await;
    let found = collected(&objects).await;
    assert_eq!(found.inputs.memory, memory);
    let expected = "earlier recommendations and rescales are those that a controller kept in config map sextant/sextant-hpa-controller-state-0 10s ago";
    assert_eq!(found.notes, [expected]);

    // Recommendations with a gap behind them say nothing; rescales are facts.
    keep("h", NOW - 600_000).await;
    let found = collected(&objects).await;
    assert_eq!(found.inputs.memory, Memory { recommendations: None, ..memory.clone() });
    let expected = "earlier recommendations are not known; rescales are those that a controller kept in config map sextant/sextant-hpa-controller-state-0 10m ago";
    assert_eq!(found.notes, [expected]);

    keep("another of this name", NOW - 10_000).await;
    let found = collected(&objects).await;
    assert_eq!(found.inputs.memory, Memory::default());
    notes(&found, &[NO_MEMORY, "how often replicas have turned is not known"]);
}

#[tokio::test]
async fn a_steered_autoscaler_is_decided_from_what_is_meant() {
    let objects = cluster(&[]);
    let hpa = serde_json::from_value(objects.get(HPA).unwrap()).unwrap();
    let steered = serde_json::to_value(steer::steered(&hpa).unwrap()).unwrap();
    objects.edit(HPA, |hpa| {
        hpa["spec"] = steered["spec"].clone();
        hpa["spec"]["maxReplicas"] = json!(3);
        hpa["metadata"]["annotations"] = steered["metadata"]["annotations"].clone();
        hpa["status"] = json!({"desiredReplicas": 2, "currentMetrics": null, "conditions": [
            {"type": "ScaledToZero", "status": "True", "reason": "ScaledToZero"},
            {"type": "AbleToScale", "status": "True", "reason": "ReadyForNewScale"}]});
    });
    let found = collected(&objects).await;
    let metrics = found.inputs.spec.metrics.as_ref().unwrap();
    assert_eq!((metrics.len(), metrics[0].type_.as_str()), (1, "Resource"));
    // Bounds are those that the cluster's own controller sees.
    assert_eq!(decide(&found.inputs, NOW).desired_replicas, 3);
    let conditions = found.inputs.status.conditions.as_ref().unwrap();
    assert_eq!(conditions.iter().map(|it| it.type_.as_str()).collect::<Vec<_>>(), ["ScaledToZero"]);
    notes(&found, &["the autoscaler is steered", NO_MEMORY]);

    objects.edit(HPA, |hpa| hpa["metadata"]["annotations"][steer::ANNOTATION] = json!("{"));
    let error = collected_with(&objects, None).await.unwrap_err().to_string();
    let expected = "horizontalpodautoscaler web/app is steered, but metadata.annotations[autoscaling.sextant.dev/steered-spec]: ";
    assert!(error.starts_with(expected), "{error}");
}

/// A constant demand of 7, by one query.
struct Seven;

impl History for Seven {
    fn range<'a>(
        &'a self,
        query: &'a str,
        from: Timestamp,
        to: Timestamp,
        step_ms: i64,
    ) -> BoxFuture<'a, Result<Vec<HistorySeries>, HistoryError>> {
        let times = (0..).map(|step| from + step * step_ms).take_while(|at| *at <= to);
        let samples = times.map(|at| (at, 7.0)).collect();
        let series = HistorySeries { labels: Vec::new(), samples };
        let known = query == "sum(queue{namespace=\"web\"})";
        async move { Ok(if known { vec![series] } else { Vec::new() }) }.boxed()
    }
}

#[tokio::test]
async fn forecasts_are_made_where_there_is_history() {
    let asked = [("forecast", "apply"), ("forecast-query", "sum(queue)"), ("pods", "owned")];
    let found = collected_with(&cluster(&asked), Some(&Seven)).await.unwrap();
    let reading = found.inputs.beyond.forecast.as_ref().unwrap().as_ref().unwrap();
    assert_eq!((reading.replicas, reading.seasons, reading.fitted_at), (7, 7, NOW));
    let decision = decide(&found.inputs, NOW);
    // Metrics alone ask for 4; so does doubling 2.
    assert_eq!((decision.proposed_replicas, decision.desired_replicas), (Some(4), 4));
    assert_eq!(decision.beyond.forecast.map(|term| (term.replicas, term.applied)), Some((7, true)));
    notes(&found, &[NO_MEMORY, "the forecast was fitted right now"]);

    let none = collected(&cluster(&asked)).await;
    let expected = Err(String::from("no source of history is configured"));
    assert_eq!(none.inputs.beyond.forecast, Some(expected));
}
