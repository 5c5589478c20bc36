//! Replays that can be followed by hand.

mod forecasts;

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::json;

use super::*;
use crate::inputs::Constants;
use crate::sources::{History, HistorySeries};

/// Now must be later than 2001.
const FROM: Timestamp = 1_767_225_600_000;
const STEP: i64 = 15_000;

fn subject(max: i32, metric: &serde_json::Value) -> Subject {
    let spec = json!({
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
        "minReplicas": 1, "maxReplicas": max, "metrics": [metric],
    });
    let containers = vec![ContainerRequests {
        name: String::from("app"),
        requests_milli: BTreeMap::from([(String::from("cpu"), 1000)]),
        restarts_always: false,
    }];
    Subject {
        label: String::from("hpa.yaml"),
        namespace: String::from("shop"),
        name: String::from("web"),
        annotations: BTreeMap::new(),
        spec: serde_json::from_value(spec).unwrap(),
        requests: Some(PodRequests { pod_milli: None, containers }),
    }
}

/// Half of the one core that a pod requests.
fn half_of_cpu() -> serde_json::Value {
    json!({"type": "Resource", "resource": {"name": "cpu",
        "target": {"type": "Utilization", "averageUtilization": 50}}})
}

fn external(target: &serde_json::Value) -> serde_json::Value {
    json!({"type": "External", "external": {"metric": {"name": "queue"}, "target": target}})
}

/// A scenario that begins with two replicas; demand in units, a value for each step.
fn scenario(subject: &Subject, demand: &[f64], per_pod: bool, shared: bool) -> Scenario {
    let to = FROM + (i64::try_from(demand.len()).unwrap() - 1) * STEP;
    Scenario {
        grid: Grid::new(FROM, to, STEP).unwrap(),
        model: if shared { Model::Load } else { Model::Fixed },
        startup_delay: Duration::ZERO,
        signals: vec![Some(Signal {
            name: String::from("metric"),
            api: if per_pod { "resource" } else { "external" },
            values_milli: demand.iter().map(|value| value * 1000.0).collect(),
            per_pod,
            shared,
        })],
        requests: subject
            .requests
            .iter()
            .cloned()
            .map(|of| Requests { from_step: 0, of })
            .collect(),
        replicas: 2,
        recorded: None,
        forecast: None,
        found: Vec::new(),
        notes: Vec::new(),
    }
}

fn trace(subject: &Subject, scenario: &Scenario) -> Trace {
    run(subject, scenario, &Constants::default(), &mut |_| {}).unwrap()
}

fn outcome(subject: &Subject, scenario: Scenario, trace: Trace) -> Outcome {
    Outcome::new(&setting(scenario.grid), subject, scenario, trace)
}

fn setting(grid: Grid) -> Setting {
    Setting {
        source: String::from("http://prometheus"),
        simulated: false,
        grid,
        model: Model::Load,
        startup_delay: Duration::from_secs(30),
        flap_window: Duration::from_secs(600),
    }
}

#[test]
fn a_constant_load_at_the_target_rescales_nothing() {
    let subject = subject(100, &half_of_cpu());
    // An hour.
    let scenario = scenario(&subject, &[1.0; 241], true, true);
    let trace = trace(&subject, &scenario);
    assert!(trace.after.iter().all(|replicas| *replicas == 2));
    let outcome = outcome(&subject, scenario, trace);
    let figures = outcome.figures();
    assert_eq!((figures.scale_ups, figures.scale_downs, figures.flaps), (0, 0, 0));
    assert_eq!((figures.seconds, figures.replicas_mean), (3600.0, 2.0));
    assert!((figures.replica_hours - 2.0).abs() < 1e-9);
    assert!((figures.core_hours.unwrap() - 2.0).abs() < 1e-9);
    assert_eq!(figures.seconds_above_target, Some(0.0));
    assert_eq!((figures.seconds_at_max, figures.seconds_at_min), (Some(0.0), Some(0.0)));
}

#[test]
fn a_step_is_followed_by_doubling() {
    let subject = subject(100, &half_of_cpu());
    let scenario = scenario(&subject, &[1.0, 10.0, 10.0, 10.0, 10.0, 10.0, 10.0], true, true);
    let trace = trace(&subject, &scenario);
    // 10 cores at half a core each are 20; a decision at most doubles.
    assert_eq!(trace.after, [2, 4, 8, 16, 20, 20, 20]);
    assert_eq!(trace.before, [2, 2, 4, 8, 16, 20, 20]);
    // 500, 250, 125 and 62 percent used, of 50.
    assert_eq!(trace.ratio, [1.0, 10.0, 5.0, 2.5, 1.24, 1.0, 1.0]);
    assert_eq!(trace.rescales.len(), 4);
    let reason = "cpu resource utilization (percentage of request) above target";
    let first = Rescale { at: FROM + STEP, from: 2, to: 4, reason: String::from(reason) };
    assert_eq!(trace.rescales[0], first);
    let outcome = outcome(&subject, scenario, trace);
    assert_eq!(outcome.figures().seconds_above_target, Some(60.0));
    assert_eq!(outcome.figures().seconds_beyond_tolerance, Some(60.0));
}

#[test]
fn pods_that_start_take_no_load_and_dampen_scaling_up() {
    let mut subject = subject(100, &half_of_cpu());
    let mut demand = [10.0; 10];
    demand[0] = 1.0;
    let mut scenario = scenario(&subject, &demand, true, true);
    scenario.startup_delay = Duration::from_secs(30);
    // Without behavior the recommendation of 20 that the two old pods led to at step 2 holds for five minutes.
    assert_eq!(trace(&subject, &scenario).after, [2, 4, 8, 16, 20, 20, 20, 20, 20, 20]);
    // With no window each decision stands alone. While they start, and for a window after, new pods count as using nothing.
    let behavior = json!({"scaleDown": {"stabilizationWindowSeconds": 0}});
    subject.spec.behavior = Some(serde_json::from_value(behavior).unwrap());
    // Step 1: four more pods at most, or twice as many.
    // Step 2: two old pods of 5 cores among six: ceil(1.66 / 0.5 * 6) = 20, twice as many at most.
    // Step 3: two of 1.67 cores among twelve: below the target, against the direction. The same at step 4 with six of 0.83.
    // Step 5: twelve of 0.83: ceil(0.83 / 0.5 * 12). Step 6: among twenty that is the target.
    assert_eq!(trace(&subject, &scenario).after, [2, 6, 12, 12, 12, 20, 20, 20, 20, 20]);
}

#[test]
fn scaling_down_waits_for_the_stabilization_window() {
    let subject = subject(100, &half_of_cpu());
    let mut demand = [1.0; 60];
    demand[0] = 10.0;
    demand[1] = 10.0;
    let mut scenario = scenario(&subject, &demand, true, true);
    scenario.replicas = 20;
    let trace = trace(&subject, &scenario);
    // The last recommendation of 20, of step 1, is 300 s old at step 21, and older at step 22.
    assert!(trace.after[..22].iter().all(|replicas| *replicas == 20));
    assert!(trace.after[22..].iter().all(|replicas| *replicas == 2));
    assert_eq!(trace.rescales.len(), 1);
    assert_eq!(trace.rescales[0].reason, "All metrics below target");
}

#[test]
fn fixed_values_do_not_fall_with_replicas() {
    let subject = subject(5, &half_of_cpu());
    let scenario = scenario(&subject, &[0.6; 6], true, false);
    let trace = trace(&subject, &scenario);
    // 60 % of 50 %, whatever there is: ceil(1.2 * n), up to the bound.
    assert_eq!(trace.after, [3, 4, 5, 5, 5, 5]);
    let outcome = outcome(&subject, scenario, trace);
    assert_eq!(outcome.figures().seconds_at_max, Some(45.0));
    assert_eq!(outcome.figures().seconds_beyond_tolerance, Some(75.0));
}

#[test]
fn totals_of_external_metrics_stay_what_they_are() {
    let subject = subject(100, &external(&json!({"type": "AverageValue", "averageValue": "100"})));
    let scenario = scenario(&subject, &[1000.0; 5], false, false);
    assert_eq!(trace(&subject, &scenario).after, [4, 8, 10, 10, 10]);
}

#[test]
fn values_fall_as_replicas_are_added() {
    let subject = subject(100, &external(&json!({"type": "Value", "value": "100"})));
    // Recorded as 200 with two replicas.
    let scenario = scenario(&subject, &[400.0; 4], false, true);
    let trace = trace(&subject, &scenario);
    assert_eq!(trace.after, [4, 4, 4, 4]);
    assert_eq!(trace.ratio, [2.0, 1.0, 1.0, 1.0]);
}

#[test]
fn replicas_stay_where_metrics_are_missing() {
    let subject = subject(100, &half_of_cpu());
    let nan = f64::NAN;
    let scenario = scenario(&subject, &[1.0, nan, nan, 4.0, 4.0], true, true);
    let trace = trace(&subject, &scenario);
    assert_eq!(trace.after, [2, 2, 2, 4, 8]);
    assert_eq!(trace.failed, [false, true, true, false, false]);
    assert_eq!(trace.errors.len(), 1);
    assert_eq!(trace.errors[0].1, 2);
    assert!(trace.errors[0].0.contains("no metrics returned from resource metrics API"));
    let outcome = outcome(&subject, scenario, trace);
    assert_eq!(outcome.figures().seconds_failed, Some(30.0));
}

#[test]
fn requests_that_change_change_utilization() {
    let subject = subject(100, &half_of_cpu());
    let mut scenario = scenario(&subject, &[1.0; 4], true, true);
    let mut of = subject.requests.clone().unwrap();
    of.containers[0].requests_milli.insert(String::from("cpu"), 250);
    scenario.requests.push(Requests { from_step: 2, of });
    let trace = trace(&subject, &scenario);
    // Half a core is 200 % of a quarter: four times the target.
    assert_eq!(trace.after, [2, 2, 4, 8]);
    let core_hours = outcome(&subject, scenario, trace).figures().core_hours.unwrap();
    assert!((core_hours - (2.0 + 2.0 + 4.0 * 0.25) * 15.0 / 3600.0).abs() < 1e-9);
}

#[test]
fn more_pods_than_are_followed_is_an_error() {
    let subject = subject(1_000_000, &half_of_cpu());
    let mut scenario = scenario(&subject, &[1e6; 4], true, true);
    scenario.replicas = 9000;
    let error = run(&subject, &scenario, &Constants::default(), &mut |_| {}).unwrap_err();
    let expected =
        "hpa.yaml: 18000 replicas at 2026-01-01T00:00:00Z: a replay follows at most 10000";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_simulation_drives_one_metric() {
    let mut subject = subject(10, &half_of_cpu());
    let memory = json!({"type": "Resource", "resource": {"name": "memory",
        "target": {"type": "AverageValue", "averageValue": "1Gi"}}});
    let mut metrics = subject.spec.metrics.take().unwrap();
    metrics.push(serde_json::from_value(memory).unwrap());
    subject.spec.metrics = Some(metrics);
    let shape = Shape::Step;
    let curve = Curve::Shaped { shape, base: 1.0, peak: 4.0, begin_ms: STEP, period_ms: 4 * STEP };
    let grid = Grid::new(FROM, FROM + 5 * STEP, STEP).unwrap();
    let simulate = |subject: &mut Subject, metric| {
        simulated(subject, metric, &curve, grid, Duration::ZERO, Some(2))
    };
    let mut one = subject.clone();
    let scenario = simulate(&mut one, None).unwrap();
    assert_eq!(
        scenario.notes,
        ["the curve is the demand for cpu; left out of the specification: memory"]
    );
    assert_eq!(trace(&one, &scenario).after, [2, 4, 8, 8, 8, 8]);
    let error = simulate(&mut subject.clone(), Some("disk")).unwrap_err().to_string();
    assert_eq!(error, "hpa.yaml: there is no metric \"disk\"; it has cpu, memory");
    subject.requests = None;
    let error = simulate(&mut subject, None).unwrap_err().to_string();
    assert!(error.contains("--request cpu=QUANTITY"), "{error}");
}

#[test]
fn bounds_by_schedule_are_followed() {
    let mut subject = subject(100, &half_of_cpu());
    // The replay begins at midnight.
    let cron = r#"{"rules": [{"start": "2 0 * * *", "end": "4 0 * * *", "minReplicas": 5}]}"#;
    let annotation = |name: &str| format!("{}{name}", crate::beyond::PREFIX);
    subject.annotations.insert(annotation("cron"), String::from(cron));
    subject.annotations.insert(annotation("nonsense"), String::from("x"));
    let scenario = scenario(&subject, &[1.0; 60], true, true);
    let trace = trace(&subject, &scenario);
    assert!(trace.after[..8].iter().all(|replicas| *replicas == 2));
    assert!(trace.after[8..16].iter().all(|replicas| *replicas == 5));
    assert_eq!(trace.bounds[15..17], [(5, 100), (1, 100)]);
    let setting = setting(scenario.grid);
    let outcomes = vec![outcome(&subject, scenario, trace)];
    assert_eq!(outcomes[0].figures().seconds_at_min, Some(120.0));
    let text = table(&Report { setting, outcomes });
    assert!(text.contains("nonsense"), "{text}");
}

/// A history of a few queries; what is asked is remembered.
#[derive(Default)]
struct Recorded {
    answers: HashMap<String, Vec<HistorySeries>>,
    asked: Mutex<Vec<String>>,
}

impl Recorded {
    fn with(mut self, query: &str, labels: &[(&str, &str)], values: &[f64]) -> Self {
        let at = |step: usize| FROM + i64::try_from(step).unwrap() * STEP;
        let samples = values.iter().enumerate().filter(|(_, value)| value.is_finite());
        let labels = labels.iter().map(|(n, v)| (String::from(*n), String::from(*v))).collect();
        let samples = samples.map(|(step, value)| (at(step), *value)).collect();
        let series = HistorySeries { labels, samples };
        self.answers.entry(String::from(query)).or_default().push(series);
        self
    }

    async fn record(
        &self,
        subject: &Subject,
        queries: &Queries,
        model: Model,
        steps: i64,
    ) -> Result<Scenario, String> {
        let grid = Grid::new(FROM, FROM + (steps - 1) * STEP, STEP).unwrap();
        let mut asked = |_: &str| {};
        let mut archive = Archive::new(self, grid, &mut asked);
        let delay = Duration::from_secs(30);
        let scenario = record(&mut archive, subject, queries, model, delay, None).await;
        scenario.map_err(|error| error.to_string())
    }
}

impl History for Recorded {
    fn range<'a>(
        &'a self,
        query: &'a str,
        _from: Timestamp,
        _to: Timestamp,
        _step_ms: i64,
    ) -> BoxFuture<'a, Result<Vec<HistorySeries>, HistoryError>> {
        self.asked.lock().unwrap().push(String::from(query));
        let answer = self.answers.get(query).cloned().unwrap_or_default();
        async move { Ok(answer) }.boxed()
    }
}

const PODS: &str = r#"namespace="shop",pod=~"web-[bcdfghjklmnpqrstvwxz2456789]{1,10}-[bcdfghjklmnpqrstvwxz2456789]{5}""#;

fn cpu_query(aggregate: &str) -> String {
    let series =
        format!(r#"container_cpu_usage_seconds_total{{{PODS},container!="",container!="POD"}}"#);
    let ready = format!(r#"max by (pod) (kube_pod_status_ready{{{PODS},condition="true"}})"#);
    format!(
        "{aggregate}((sum by (pod) (max by (pod, container) (irate({series}[2m]) and {series}))) unless on (pod) ({ready} == 0))"
    )
}

const SPEC_REPLICAS: &str =
    r#"max(kube_deployment_spec_replicas{namespace="shop",deployment="web"})"#;

fn requests_query() -> String {
    format!(r#"max by (container) (kube_pod_container_resource_requests{{{PODS},resource="cpu"}})"#)
}

#[tokio::test]
async fn what_was_recorded_becomes_a_scenario() {
    let nan = f64::NAN;
    let mut subject = subject(100, &half_of_cpu());
    subject.requests = None;
    let history = Recorded::default()
        .with(&cpu_query("sum"), &[], &[1.0, 1.5, nan, 2.0])
        .with(SPEC_REPLICAS, &[], &[nan, 3.0, nan, 4.0])
        .with(&requests_query(), &[("container", "app")], &[0.25, 0.25, nan, 0.5])
        .with(&requests_query(), &[("container", "log")], &[nan, 0.1, 0.1, 0.1]);
    let scenario = history.record(&subject, &Queries::default(), Model::Load, 4).await.unwrap();
    let signal = scenario.signals[0].as_ref().unwrap();
    assert!(signal.shared && signal.per_pod && signal.values_milli[2].is_nan());
    assert_eq!(signal.values_milli[..2], [1000.0, 1500.0]);
    // What was last known holds, and what is first known before that.
    assert_eq!(scenario.recorded.as_deref().unwrap(), [3.0, 3.0, 3.0, 4.0]);
    assert_eq!(scenario.replicas, 3);
    let requests: Vec<(usize, Option<i64>)> =
        scenario.requests.iter().map(|r| (r.from_step, r.of.of_pod("cpu"))).collect();
    assert_eq!(requests, [(0, Some(350)), (3, Some(600))]);
    let found: Vec<(&str, usize, usize)> =
        scenario.found.iter().map(|found| (found.what.as_str(), found.points, found.of)).collect();
    assert_eq!(
        found,
        [
            ("replicas", 2, 4),
            ("cpu: total over pods", 3, 4),
            ("pods that were ready", 0, 4),
            ("requests of cpu", 4, 4),
        ]
    );
    assert_eq!(
        scenario.notes,
        [
            "cpu is missing at 1 of 4 times and fails there",
            "readiness of pods was not recorded: what pods used while they started counts as load",
        ]
    );
}

#[tokio::test]
async fn pods_that_are_gone_do_not_count_where_readiness_is_known() {
    let subject = subject(100, &half_of_cpu());
    let ready = format!(r#"max by (pod) (kube_pod_status_ready{{{PODS},condition="true"}})"#);
    let query = cpu_query("sum").replace(
        &format!("unless on (pod) ({ready} == 0)"),
        &format!("and on (pod) ({ready} == 1)"),
    );
    assert_ne!(query, cpu_query("sum"));
    let history = Recorded::default()
        .with(&format!("sum({ready})"), &[], &[2.0, 2.0])
        .with(SPEC_REPLICAS, &[], &[2.0, 2.0])
        .with(&query, &[], &[1.0, 1.0]);
    let scenario = history.record(&subject, &Queries::default(), Model::Load, 2).await.unwrap();
    assert_eq!(scenario.signals[0].as_ref().unwrap().values_milli, [1000.0, 1000.0]);
    assert_eq!(scenario.notes, [""; 0]);
}

#[tokio::test]
async fn pods_with_a_value_stand_in_for_replicas() {
    let subject = subject(100, &half_of_cpu());
    let history = Recorded::default().with(&cpu_query("avg"), &[], &[0.5, 0.5]).with(
        &cpu_query("count"),
        &[],
        &[2.0, 3.0],
    );
    let scenario = history.record(&subject, &Queries::default(), Model::Fixed, 2).await.unwrap();
    assert!(!scenario.signals[0].as_ref().unwrap().shared);
    assert_eq!(scenario.recorded.as_deref().unwrap(), [2.0, 3.0]);
    let trace = trace(&subject, &scenario);
    let reproduction = *outcome(&subject, scenario, trace).reproduction().unwrap();
    assert_eq!((reproduction.points, reproduction.equal_share), (2, 0.5));
    assert_eq!((reproduction.mean_difference, reproduction.largest_difference), (0.5, 1.0));
    // The manifest told the requests.
    assert!(!history.asked.lock().unwrap().iter().any(|query| query.contains("requests")));
}

#[tokio::test]
async fn nothing_recorded_is_an_error_that_names_the_queries() {
    let mut subject = subject(100, &half_of_cpu());
    let history = Recorded::default();
    let error = history.record(&subject, &Queries::default(), Model::Load, 2).await.unwrap_err();
    let expected = "hpa.yaml: no metric of shop/web has a single point between 2026-01-01T00:00:00Z and 2026-01-01T00:00:15Z; asked were: ";
    assert!(error.starts_with(expected), "{error}");
    assert!(error.contains(&cpu_query("sum")), "{error}");
    subject.requests = None;
    let history = history.with(&cpu_query("sum"), &[], &[1.0, 1.0]);
    let error = history.record(&subject, &Queries::default(), Model::Load, 2).await.unwrap_err();
    assert!(error.contains("give --request cpu=QUANTITY or the target's manifest"), "{error}");
    assert!(error.contains(&requests_query()), "{error}");
}

#[tokio::test]
async fn queries_can_be_replaced() {
    let value = json!({"type": "Value", "value": "100"});
    let subject = subject(100, &external(&value));
    let queries = Queries {
        metrics: BTreeMap::from([(String::from("queue"), String::from("vector(1)"))]),
        replicas: Some(String::from("replicas")),
        ..Queries::default()
    };
    let history = Recorded::default().with("sum(vector(1))", &[], &[200.0, 100.0]).with(
        "max(replicas)",
        &[],
        &[2.0, 4.0],
    );
    let scenario = history.record(&subject, &queries, Model::Load, 2).await.unwrap();
    let signal = scenario.signals[0].as_ref().unwrap();
    assert_eq!((&signal.values_milli[..], signal.shared), (&[400_000.0, 400_000.0][..], true));
    let gpu = json!({"type": "Resource", "resource": {"name": "gpu",
        "target": {"type": "AverageValue", "averageValue": "1"}}});
    let subject = self::subject(100, &gpu);
    let error = history.record(&subject, &Queries::default(), Model::Load, 2).await.unwrap_err();
    assert!(error.ends_with("give one by --query gpu=PROMQL"), "{error}");
}

#[test]
fn expressions_of_metrics() {
    let check = |metric: serde_json::Value, expected: &str| {
        let subject = subject(1, &metric);
        let described = queries::Described::of(&subject.spec.metrics.as_ref().unwrap()[0]).unwrap();
        let mut queries = Queries { pods: Some(String::from("p.*")), ..Queries::default() };
        queries.ready = Some(String::from("r"));
        assert_eq!(queries.metric(&subject, &described, false).unwrap(), expected);
    };
    let target = json!({"type": "AverageValue", "averageValue": "1"});
    check(
        json!({"type": "ContainerResource", "containerResource": {"name": "memory", "container": "a\"b", "target": target}}),
        r#"(sum by (pod) (max by (pod, container) (container_memory_working_set_bytes{namespace="shop",pod=~"p.*",container="a\"b"}))) unless on (pod) (r == 0)"#,
    );
    let selector = json!({"matchLabels": {"app.kubernetes.io/name": "x"}, "matchExpressions": [
        {"key": "a", "operator": "In", "values": ["b.c", "d"]}, {"key": "e", "operator": "NotIn", "values": ["f"]},
        {"key": "g", "operator": "Exists"}, {"key": "h", "operator": "DoesNotExist"}]});
    check(
        json!({"type": "Pods", "pods": {"metric": {"name": "requests_total", "selector": selector}, "target": target}}),
        r#"(sum by (pod) (rate(requests_total{namespace="shop",pod=~"p.*","app.kubernetes.io/name"="x",a=~"b\\.c|d",e!~"f",g!="",h=""}[2m]))) unless on (pod) (r == 0)"#,
    );
    check(
        json!({"type": "Object", "object": {"describedObject": {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "main"},
            "metric": {"name": "hits"}, "target": target}}),
        r#"hits{namespace="shop",ingress="main"}"#,
    );
    check(
        json!({"type": "Object", "object": {"describedObject": {"apiVersion": "v1", "kind": "Namespace", "name": "next-door"},
            "metric": {"name": "hits"}, "target": target}}),
        r#"hits{namespace="shop"}"#,
    );
    check(
        json!({"type": "External", "external": {"metric": {"name": "my-queue"}, "target": target}}),
        r#"{"my-queue",namespace="shop"}"#,
    );
}

#[test]
fn changes_that_reverse_within_the_window_are_flaps() {
    let subject = subject(100, &half_of_cpu());
    let scenario = scenario(&subject, &[0.0; 9], true, true);
    let replicas = [2.0, 3.0, 2.0, 2.0, 2.0, 3.0, 4.0, 3.0];
    let flaps = |window| Figures::of_replicas(&replicas, Some(2.0), &scenario, window).flaps;
    // Up at 1, down at 2, up at 5 and 6, down at 7.
    assert_eq!((flaps(3 * STEP), flaps(3 * STEP - 1), flaps(STEP - 1)), (3, 2, 0));
    let figures = Figures::of_replicas(&replicas, Some(1.0), &scenario, 0);
    assert_eq!((figures.scale_ups, figures.scale_downs), (4, 2));
    assert_eq!((figures.replicas_min, figures.replicas_max), (2.0, 4.0));
}

fn report(label: &str) -> Report {
    let mut subject = subject(100, &half_of_cpu());
    subject.label = String::from(label);
    let mut demand = vec![1.0; 120];
    demand[40..].fill(9.0);
    let mut outcomes = Vec::new();
    for max in [100, 8] {
        subject.spec.max_replicas = max;
        let mut scenario = scenario(&subject, &demand, true, true);
        scenario.recorded = Some(vec![2.0; 120]);
        scenario.notes.push(String::from("a <b>note</b>"));
        let (what, query) = (String::from("cpu"), String::from("sum(a{b=\"c\"}) < 1 & 2"));
        scenario.found.push(Found { what, query, points: 120, of: 120 });
        let trace = trace(&subject, &scenario);
        outcomes.push(outcome(&subject, scenario, trace));
    }
    let grid = Grid::new(FROM, FROM + 119 * STEP, STEP).unwrap();
    Report { setting: setting(grid), outcomes }
}

/// Complains about elements that are not closed in order.
fn unbalanced(html: &str) -> Option<String> {
    let mut open = Vec::new();
    let mut rest = html;
    while let Some(start) = rest.find('<') {
        let end = start + rest[start..].find('>')?;
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        let name: String =
            tag.trim_start_matches('/').chars().take_while(char::is_ascii_alphanumeric).collect();
        if tag.starts_with('/') {
            let opened = open.pop();
            if opened.as_ref() != Some(&name) {
                return Some(format!("{opened:?} is closed by {name}"));
            }
        } else if !tag.ends_with('/') && !tag.starts_with('!') && name != "meta" {
            open.push(name);
        }
    }
    open.pop()
}

#[test]
fn the_page_is_well_formed_and_escaped() {
    let page = html(&report("<script>alert('1')</script> & \"x\".yaml"));
    assert_eq!(unbalanced(&page), None);
    assert!(!page.contains("<script") && !page.contains("<b>") && !page.contains("http://www"));
    assert!(
        page.contains("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt; &amp; &quot;x&quot;.yaml")
    );
    assert!(page.contains("a &lt;b&gt;note&lt;/b&gt;"));
    assert!(page.contains("sum(a{b=&quot;c&quot;}) &lt; 1 &amp; 2"));
    // Replicas of both and as recorded, usage of both, and the load once.
    assert_eq!(page.matches("<figure>").count(), 3);
    assert_eq!(page.matches("<path class=\"recorded\"").count(), 2);
    assert!(unbalanced("<p><b></p></b>").is_some() && unbalanced("<p>").is_some());
}

#[test]
fn the_table_has_a_column_for_each() {
    let text = table(&report("a.yaml"));
    let heading = text.lines().find(|line| line.contains("recorded")).unwrap();
    assert_eq!(heading.split_whitespace().collect::<Vec<_>>(), ["recorded", "a.yaml", "a.yaml"]);
    let row = |name: &str| -> Vec<String> {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..].split_whitespace().map(String::from).collect()
    };
    assert_eq!(row("replicas, most"), ["2", "18", "8"]);
    assert_eq!(row("bounds"), ["-", "1", "to", "100", "1", "to", "8"]);
    assert_eq!(row("flaps"), ["0", "0", "0"]);
    assert!(
        text.starts_with("Replay of 29m 45s from 2026-01-01T00:00:00Z to 2026-01-01T00:29:45Z")
    );
    assert!(text.contains("shared evenly by the replicas of the replay that have started"));
}

#[test]
fn the_json_says_the_same() {
    let document: serde_json::Value =
        serde_json::from_str(&json(&report("a.yaml")).unwrap()).unwrap();
    assert_eq!((&document["version"], &document["kind"]), (&json!(1), &json!("replay")));
    assert_eq!(document["from"], "2026-01-01T00:00:00Z");
    let first = &document["autoscalers"][0];
    assert_eq!(first["label"], "a.yaml");
    assert_eq!(first["replicas"][0], json!({"seconds": 0.0, "replicas": 2.0}));
    assert_eq!(first["replicas"][1], json!({"seconds": 600.0, "replicas": 4.0}));
    assert_eq!(first["recordedReplicas"], json!([{"seconds": 0.0, "replicas": 2.0}]));
    assert_eq!(first["rescales"][0]["to"], 4);
    assert_eq!(first["figures"]["scaleUps"], 4);
    assert_eq!(first["reproduction"]["points"], 120);
    assert_eq!(document["autoscalers"][1]["maxReplicas"], 8);
}
