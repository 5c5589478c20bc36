//! Cases of one step: the client, grouping, requests, ratios, proposals, limits and rules.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use hpa_controller::decide::limit::{self, Bounds};
use hpa_controller::decide::proposal::{Circumstances, PodTarget};
use hpa_controller::decide::quantity;
use hpa_controller::decide::ratio::{Tolerances, Usage, average, utilization};
use hpa_controller::decide::rules::{self as behavior, Direction, Events, Rules};
use hpa_controller::decide::source::{Source, ValueTarget};
use hpa_controller::decide::{self, stabilize};
use hpa_controller::{
    Constants, Gates, Limit, MetricAnswer, PodFacts, PodReading, PodSet, ScaleEvent,
};
use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, HPAScalingRules, MetricIdentifier,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use metrics_api::Format;
use serde::Deserialize;
use serde_json::Value;

use super::shapes::{
    AgedEvent, AgedRecommendation, Pod, Sample, age_s, answer, from_events, from_recommendations,
    to_events, to_recommendations,
};
use super::{Differences, NOW};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Client {
    api: String,
    resource: Option<String>,
    container: Option<String>,
    items: Vec<Sample>,
    expect: ClientExpect,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ClientExpect {
    pods: Option<BTreeMap<String, PodValue>>,
    values_milli: Option<Values>,
    timestamp_age_s: Option<i64>,
    error: Option<String>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PodValue {
    value_milli: i64,
    age_s: i64,
    window_s: i64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Values {
    One(i64),
    Many(Vec<i64>),
}

pub(super) fn client(case: Value) -> Result<Differences> {
    let case: Client = serde_json::from_value(case)?;
    let resource = case.resource.as_deref().unwrap_or_default();
    let (mut pods, mut values, mut error) = (None, None, None);
    match answer(&case.api, &case.items, resource, case.container.as_deref())? {
        MetricAnswer::Pods(readings) => {
            let value = |one: &PodReading| PodValue {
                value_milli: one.value_milli,
                age_s: age_s(one.timestamp),
                window_s: one.window_ms / 1000,
            };
            pods = Some(readings.iter().map(|one| (one.pod.to_string(), value(one))).collect());
        }
        MetricAnswer::Values(readings) => {
            values = Some(readings.iter().map(|one| one.value_milli).collect());
        }
        MetricAnswer::Failed(why) => error = Some(why),
    }
    let timestamp = case.items.first().map(Sample::age_s).filter(|_| error.is_none());
    let expected_values = case.expect.values_milli.map(|values| match values {
        Values::One(value) => vec![value],
        Values::Many(values) => values,
    });
    let mut differences = Differences::default();
    differences.check("pods", &pods, &case.expect.pods);
    differences.check("valuesMilli", &values, &expected_values);
    differences.check("timestampAgeS", &timestamp, &case.expect.timestamp_age_s);
    differences.check("error", &error, &case.expect.error);
    Ok(differences)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    resource: String,
    cpu_initialization_period_s: i64,
    initial_readiness_delay_s: i64,
    pods: Vec<Pod>,
    samples: BTreeMap<String, Sample>,
    expect: GroupExpect,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GroupExpect {
    ready_pod_count: usize,
    unready: Vec<String>,
    missing: Vec<String>,
    ignored: Vec<String>,
}

fn facts(pods: &[Pod]) -> Vec<Arc<PodFacts>> {
    pods.iter().map(Pod::facts).collect()
}

fn periods(cpu_initialization_s: i64, initial_readiness_s: i64) -> Constants {
    Constants {
        cpu_initialization_period_ms: cpu_initialization_s * 1000,
        initial_readiness_delay_ms: initial_readiness_s * 1000,
        ..Constants::default()
    }
}

pub(super) fn group_pods(case: Value) -> Result<Differences> {
    let case: Group = serde_json::from_value(case)?;
    let readings: Vec<_> = case.samples.iter().map(|(pod, sample)| sample.reading(pod)).collect();
    let constants = periods(case.cpu_initialization_period_s, case.initial_readiness_delay_s);
    let resource = Some(case.resource.as_str()).filter(|resource| !resource.is_empty());
    let account = decide::account(&facts(&case.pods), &readings, resource, &constants, NOW);
    let sorted = |names: Vec<&Arc<str>>| {
        let mut names: Vec<_> = names.into_iter().map(ToString::to_string).collect();
        names.sort();
        names
    };
    let mut differences = Differences::default();
    differences.check("readyPodCount", &account.ready.len(), &case.expect.ready_pod_count);
    let unready = sorted(account.unready.iter().map(|(name, _)| name).collect());
    differences.check("unready", &unready, &case.expect.unready);
    differences.check("missing", &sorted(account.missing.iter().collect()), &case.expect.missing);
    let ignored = sorted(account.ignored.iter().map(|(name, _)| name).collect());
    differences.check("ignored", &ignored, &case.expect.ignored);
    Ok(differences)
}

#[derive(Deserialize)]
struct Requests {
    resource: String,
    container: Option<String>,
    gates: RequestsGates,
    pods: Vec<Pod>,
    expect: RequestsExpect,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RequestsGates {
    pod_level_resources: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RequestsExpect {
    requests_milli: Option<BTreeMap<String, i64>>,
    error: Option<String>,
}

pub(super) fn requests(case: Value) -> Result<Differences> {
    let case: Requests = serde_json::from_value(case)?;
    let pods = facts(&case.pods);
    let gates = Gates { pod_level_resources: case.gates.pod_level_resources, ..Gates::default() };
    let (requests, error) =
        match decide::requests(&pods, &case.resource, case.container.as_deref(), gates) {
            Ok(requests) => {
                let named = pods.iter().zip(requests);
                let named =
                    named.filter_map(|(pod, request)| Some((pod.name.to_string(), request?)));
                (Some(named.collect()), None)
            }
            Err(why) => (None, Some(why)),
        };
    let mut differences = Differences::default();
    differences.check("requestsMilli", &requests, &case.expect.requests_milli);
    differences.check("error", &error, &case.expect.error);
    Ok(differences)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RatioCase {
    op: String,
    metrics_milli: BTreeMap<String, i64>,
    #[serde(default)]
    requests_milli: Option<BTreeMap<String, i64>>,
    target: Target,
    expect: RatioExpect,
}

#[derive(Deserialize)]
struct Target {
    #[serde(rename = "type")]
    kind: String,
    percent: Option<i32>,
    milli: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RatioExpect {
    ratio: Option<f64>,
    utilization_percent: Option<i32>,
    value_milli: Option<i64>,
    error: Option<String>,
}

pub(super) fn ratio(case: Value) -> Result<Differences> {
    let case: RatioCase = serde_json::from_value(case)?;
    let requests = case.requests_milli.unwrap_or_default();
    let usage = match case.op.as_str() {
        "utilization" => {
            let pairs = case.metrics_milli.iter();
            let pairs = pairs.filter_map(|(pod, value)| Some((*value, *requests.get(pod)?)));
            utilization(pairs, case.target.percent.context("no percent")?)
        }
        "average" => {
            let target = case.target.milli.context("no target")?;
            Ok(average(case.metrics_milli.values().copied(), target))
        }
        op => bail!("no such op: {op}"),
    };
    let mut differences = Differences::default();
    let of = |usage: &Usage| (usage.ratio, usage.utilization_percent, usage.value_milli);
    let (ratio, percent, value) = usage.as_ref().map_or((None, None, None), |usage| {
        let (ratio, percent, value) = of(usage);
        (Some(ratio), percent, Some(value))
    });
    differences.check("ratio", &ratio, &case.expect.ratio);
    differences.check("utilizationPercent", &percent, &case.expect.utilization_percent);
    differences.check("valueMilli", &value, &case.expect.value_milli);
    differences.check("error", &usage.err(), &case.expect.error);
    Ok(differences)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Calc {
    kind: String,
    resource: Option<String>,
    container: Option<String>,
    metric: Option<Metric>,
    current_replicas: i32,
    target: Target,
    tolerance: Tolerance,
    cpu_initialization_period_s: i64,
    initial_readiness_delay_s: i64,
    pods: Vec<Pod>,
    samples: Vec<Sample>,
    expect: CalcExpect,
}

#[derive(Deserialize)]
struct Metric {
    name: String,
    object: Option<CrossVersionObjectReference>,
    selector: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Tolerance {
    up: f64,
    down: f64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CalcExpect {
    replicas: Option<i32>,
    utilization_percent: Option<i32>,
    value_milli: Option<i64>,
    error: Option<String>,
    error_contains: Option<String>,
}

/// Namespace that the recorded texts of errors have.
const NAMESPACE: &str = "test-namespace";

pub(super) fn calc(case: Value) -> Result<Differences> {
    let case: Calc = serde_json::from_value(case)?;
    let constants = periods(case.cpu_initialization_period_s, case.initial_readiness_delay_s);
    let metric = case.metric.as_ref().map(|metric| MetricIdentifier {
        name: metric.name.clone(),
        selector: metric
            .selector
            .clone()
            .map(|labels| LabelSelector { match_labels: Some(labels), ..LabelSelector::default() }),
    });
    let metric = || metric.as_ref().context("no metric");
    let object = || case.metric.as_ref().and_then(|m| m.object.as_ref()).context("no object");
    let resource = case.resource.as_deref().unwrap_or_default();
    let container = case.container.as_deref();
    let milli = || case.target.milli.context("no milli");
    let value_target = || {
        Ok::<_, anyhow::Error>(match case.target.kind.as_str() {
            "Value" => ValueTarget::Whole(milli()?),
            _ => ValueTarget::Share(milli()?),
        })
    };
    let (api, source) = match case.kind.as_str() {
        "resource" => {
            let target = match case.target.percent {
                Some(percent) => PodTarget::Utilization { percent, container },
                None => PodTarget::Average { milli: milli()? },
            };
            ("resource", Source::Resource { resource, container, target })
        }
        "pods" => ("custom.pods", Source::Pods { metric: metric()?, target_milli: milli()? }),
        "object" | "objectPerPod" => {
            let (object, metric, target) = (object()?, metric()?, value_target()?);
            ("custom.object", Source::Object { object, metric, target })
        }
        "external" | "externalPerPod" => {
            ("external", Source::External { metric: metric()?, target: value_target()? })
        }
        kind => bail!("no such kind: {kind}"),
    };
    let given = Circumstances {
        constants: &constants,
        pods: &PodSet::Matched(facts(&case.pods)),
        tolerances: Tolerances { up: case.tolerance.up, down: case.tolerance.down },
        current: case.current_replicas,
        available: case.current_replicas,
        now: NOW,
    };
    let answer = answer(api, &case.samples, resource, container)?;
    let outcome = source.propose(&answer, NAMESPACE, given);
    let mut differences = Differences::default();
    let proposal = outcome.as_ref().ok();
    differences.check("replicas", &proposal.map(|p| p.replicas), &case.expect.replicas);
    let percent = proposal.and_then(|p| p.utilization_percent);
    differences.check("utilizationPercent", &percent, &case.expect.utilization_percent);
    differences.check("valueMilli", &proposal.map(|p| p.value_milli), &case.expect.value_milli);
    let error = outcome.err();
    differences.check("error", &error, &case.expect.error);
    let part = case.expect.error_contains.as_deref().unwrap_or_default();
    differences.check("errorContains", &error.unwrap_or_default().contains(part), &true);
    Ok(differences)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RulesCase {
    op: String,
    #[serde(default)]
    current: i32,
    #[serde(default)]
    desired: i32,
    #[serde(default)]
    min: i32,
    #[serde(default)]
    max: i32,
    #[serde(default)]
    scale_up_limit_factor: f64,
    #[serde(default)]
    scale_up_limit_minimum: f64,
    #[serde(default)]
    window_s: i64,
    #[serde(default)]
    up_window_s: i64,
    #[serde(default)]
    down_window_s: i64,
    #[serde(default)]
    recs: Vec<AgedRecommendation>,
    #[serde(default)]
    up_events: Vec<AgedEvent>,
    #[serde(default)]
    down_events: Vec<AgedEvent>,
    #[serde(default)]
    rules: Option<HPAScalingRules>,
    #[serde(default)]
    up_rules: Option<HPAScalingRules>,
    #[serde(default)]
    down_rules: Option<HPAScalingRules>,
    #[serde(default)]
    up_rules_given: Option<HPAScalingRules>,
    #[serde(default)]
    down_rules_given: Option<HPAScalingRules>,
    #[serde(default)]
    direction: String,
    #[serde(default)]
    replicas: i32,
    #[serde(default)]
    period_s: i64,
    #[serde(default)]
    events: Vec<AgedEvent>,
    #[serde(default)]
    resource: String,
    #[serde(default)]
    milli: i64,
    expect: RulesExpect,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct RulesExpect {
    replicas: Option<i32>,
    reason: Option<String>,
    message: Option<String>,
    recs: Option<Vec<AgedRecommendation>>,
    reason_if_changed: Option<String>,
    message_if_changed: Option<String>,
    change_in_period_before: Option<i32>,
    events: Option<Vec<AgedEvent>>,
    string: Option<String>,
    format: Option<String>,
}

pub(super) fn rules(case: Value) -> Result<Differences> {
    let case: RulesCase = serde_json::from_value(case)?;
    let mut actual = RulesExpect::default();
    let bounds = Bounds { min: case.min, max: case.max };
    let mut recommendations = to_recommendations(&case.recs);
    let (up, down) = (to_events(&case.up_events), to_events(&case.down_events));
    let events = Events { up: &up, down: &down };
    let mut limited = |limit: &Limit| {
        actual.replicas = Some(limit.replicas);
        actual.reason = Some(limit.reason.as_str().to_owned());
        actual.message = Some(limit.reason.message().to_owned());
    };
    let mut differences = Differences::default();
    match case.op.as_str() {
        "limit" => {
            let constants = Constants {
                scale_up_limit_factor: case.scale_up_limit_factor,
                scale_up_limit_minimum: case.scale_up_limit_minimum,
                ..Constants::default()
            };
            limited(&limit::plain(case.current, case.desired, bounds, &constants).limit);
        }
        "rate" => {
            let up_rules = Rules::new(case.up_rules_given.as_ref(), Direction::Up);
            let down_rules = Rules::new(case.down_rules_given.as_ref(), Direction::Down);
            let full = Rules::new(case.up_rules.as_ref(), Direction::Up);
            differences.check("upRules", &up_rules, &full);
            let full = Rules::new(case.down_rules.as_ref(), Direction::Down);
            differences.check("downRules", &down_rules, &full);
            let rules = (&up_rules, &down_rules);
            let (current, desired) = (case.current, case.desired);
            limited(&limit::with_rules(current, desired, bounds, rules, events, NOW).limit);
        }
        "upLimit" | "downLimit" => {
            let direction = if case.op == "upLimit" { Direction::Up } else { Direction::Down };
            let rules = Rules::new(case.rules.as_ref(), direction);
            actual.replicas = Some(rules.limit(direction, case.current, events, NOW).0);
        }
        "stabilize" => {
            let window = case.window_s * 1000;
            let outcome = stabilize::plain(case.desired, window, &mut recommendations, NOW);
            actual.replicas = Some(outcome.stabilized);
            actual.recs = Some(from_recommendations(&recommendations));
        }
        "stabilizeBehavior" => {
            let outcome = stabilize::with_windows(
                case.current,
                case.desired,
                case.up_window_s * 1000,
                case.down_window_s * 1000,
                &mut recommendations,
                NOW,
            );
            actual.replicas = Some(outcome.stabilized);
            actual.recs = Some(from_recommendations(&recommendations));
            // What the reason would be is recorded even where nothing changed.
            let reason = stabilize::reason_if_changed(case.current, case.desired);
            actual.reason_if_changed = Some(reason.to_owned());
            actual.message_if_changed = Some(stabilize::message(reason).to_owned());
            let changed = outcome.stabilized != case.desired;
            let expected = if changed { reason } else { "ReadyForNewScale" };
            differences.check("reason", &outcome.reason.as_str(), &expected);
        }
        "storeEvent" => store_event(&case, &mut actual)?,
        "quantity" => {
            let format = quantity::format_of(Some(&case.resource));
            actual.string = Some(quantity::write(case.milli, format).0);
            let format = if format == Format::BinarySi { "BinarySI" } else { "DecimalSI" };
            actual.format = Some(format.to_owned());
        }
        op => bail!("no such op: {op}"),
    }
    let expect = &case.expect;
    differences.check("replicas", &actual.replicas, &expect.replicas);
    differences.check("reason", &actual.reason, &expect.reason);
    differences.check("message", &actual.message, &expect.message);
    differences.check("recs", &actual.recs, &expect.recs);
    differences.check("reasonIfChanged", &actual.reason_if_changed, &expect.reason_if_changed);
    differences.check("messageIfChanged", &actual.message_if_changed, &expect.message_if_changed);
    let change = (&actual.change_in_period_before, &expect.change_in_period_before);
    differences.check("changeInPeriodBefore", change.0, change.1);
    differences.check("events", &actual.events, &expect.events);
    differences.check("string", &actual.string, &expect.string);
    differences.check("format", &actual.format, &expect.format);
    Ok(differences)
}

fn store_event(case: &RulesCase, actual: &mut RulesExpect) -> Result<()> {
    let direction = match case.direction.as_str() {
        "up" => Direction::Up,
        "down" => Direction::Down,
        direction => bail!("no such direction: {direction}"),
    };
    let mut events: Vec<ScaleEvent> = to_events(&case.events);
    let before = behavior::changed_within(&events, case.period_s * 1000, NOW);
    actual.change_in_period_before = Some(before);
    if case.rules.is_some() {
        let change = i32::try_from(case.replicas.abs_diff(case.current))?;
        behavior::store(&mut events, change, &Rules::new(case.rules.as_ref(), direction), NOW);
    }
    actual.events = Some(from_events(&events));
    Ok(())
}
