//! Cases of a whole reconciliation: the runner plays the API server and the metrics APIs, the controller's part is `plan`, `decide`
//! and `conclude`.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use hpa_controller::beyond::Beyond;
use hpa_controller::decide::{Conclusion, Written, conclude, decide, plan};
use hpa_controller::{
    Constants, Decision, Gates, Inputs, Memory, MetricAnswer, MetricRequest, PodSet, ScaleReading,
};
use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerSpec, HorizontalPodAutoscalerStatus,
    MetricSpec, MetricStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector as ApiSelector, Time};
use k8s_openapi::jiff;
use metrics_api::{LabelSelector, Quantity};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::shapes::{
    AgedEvent, AgedRecommendation, Pod, Sample, age_s, ago, answer, from_events,
    from_recommendations, to_events, to_recommendations,
};
use super::{Differences, NOW};

/// How often a scale is written at most, while others write it too.
const ATTEMPTS_MAX: usize = 5;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    constants: CaseConstants,
    gates: Gates,
    hpa: Hpa,
    scale: Scale,
    pods: Vec<Pod>,
    other_hpas: Vec<OtherHpa>,
    recommendations: Option<Vec<AgedRecommendation>>,
    scale_up_events: Vec<AgedEvent>,
    scale_down_events: Vec<AgedEvent>,
    metric_responses: Vec<Option<Response>>,
    expect: Expect,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CaseConstants {
    tolerance: f64,
    cpu_initialization_period_s: i64,
    initial_readiness_delay_s: i64,
    downscale_stabilization_window_s: i64,
    scale_up_limit_factor: f64,
    scale_up_limit_minimum: f64,
}

#[derive(Deserialize)]
struct Hpa {
    namespace: String,
    name: String,
    spec: HorizontalPodAutoscalerSpec,
    status: CaseStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CaseStatus {
    current_replicas: i32,
    desired_replicas: i32,
    last_scale_time_age_s: Option<i64>,
    conditions: Vec<AgedCondition>,
    current_metrics: Option<Vec<MetricStatus>>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AgedCondition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    reason: String,
    message: String,
    last_transition_age_s: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Scale {
    gets: Vec<Got>,
    update_errors: Vec<Option<UpdateError>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Got {
    #[serde(default)]
    spec_replicas: i32,
    #[serde(default)]
    status_replicas: i32,
    #[serde(default)]
    selector: Option<String>,
    #[serde(default)]
    error: Option<String>,
}

#[derive(Deserialize)]
struct UpdateError {
    conflict: bool,
    message: String,
}

#[derive(Deserialize)]
struct OtherHpa {
    namespace: String,
    name: String,
    selector: String,
}

#[derive(Deserialize)]
struct Response {
    api: String,
    request: Request,
    error: Option<String>,
    items: Option<Vec<Sample>>,
}

/// What was asked; absent fields do not belong to the API.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Request {
    namespace: String,
    label_selector: Option<String>,
    metric: Option<String>,
    #[serde(deserialize_with = "unless_empty")]
    metric_selector: Option<String>,
    object: Option<Value>,
}

/// A selector that is not there and one that selects all are both recorded as either null or an empty text.
fn unless_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.filter(|text| !text.is_empty()))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Expect {
    desired_replicas: i32,
    current_replicas: i32,
    last_scale_time_age_s: Option<i64>,
    conditions: Vec<AgedCondition>,
    current_metrics: Value,
    current_metrics_milli: Value,
    proposals: Value,
    events: Value,
    scale_updated: bool,
    scale_update_attempts: Vec<i32>,
    status_updated: bool,
    action: String,
    error_label: String,
    error: Option<String>,
    metric_computations: Value,
    recommendations: Vec<AgedRecommendation>,
    scale_up_events: Vec<AgedEvent>,
    scale_down_events: Vec<AgedEvent>,
}

pub(super) fn reconcile(case: Value) -> Result<Differences> {
    let case: Case = serde_json::from_value(case)?;
    let mut differences = Differences::default();
    let inputs = case.inputs(&mut differences)?;
    let decision = decide(&inputs, NOW);
    let (written, attempts) = case.scale.write(&decision);
    let conclusion = conclude(&inputs, &decision, &written, NOW);
    let expect = &case.expect;
    differences.check("scaleUpdated", &(written == Written::Done), &expect.scale_updated);
    differences.check("scaleUpdateAttempts", &attempts, &expect.scale_update_attempts);
    expect.check_decision(&inputs, &decision, &mut differences);
    expect.check_conclusion(&inputs, &conclusion, &mut differences)?;
    Ok(differences)
}

impl Case {
    fn inputs(&self, differences: &mut Differences) -> Result<Inputs> {
        let got = self.scale.gets.first().context("the scale is never read")?;
        let scale = match &got.error {
            Some(why) => Err(why.clone()),
            None => Ok(ScaleReading {
                spec_replicas: got.spec_replicas,
                status_replicas: got.status_replicas,
                selector: got.selector.clone().unwrap_or_default(),
            }),
        };
        let constants = self.constants(self.gates);
        let status = self.hpa.status.status();
        let pods = match &scale {
            Ok(scale) => self.select(&scale.selector),
            Err(_) => PodSet::Matched(Vec::new()),
        };
        let (namespace, spec) = (&self.hpa.namespace, &self.hpa.spec);
        let planned = match &scale {
            Ok(scale) => plan(&constants, namespace, spec, &status, scale),
            Err(_) => Vec::new(),
        };
        let usable = matches!(pods, PodSet::Matched(_));
        let specs = spec.metrics.as_deref().unwrap_or_default();
        let mut metrics = Vec::new();
        for (at, (spec, response)) in specs.iter().zip(&self.metric_responses).enumerate() {
            let asked = planned.get(at).and_then(Option::as_ref).filter(|_| usable);
            let expected = response.as_ref().map(|response| &response.request);
            let asked = asked.map(request);
            differences.check(&format!("request {at}"), &asked.as_ref(), &expected);
            metrics.push(response.as_ref().map(|one| one.answer(spec)).transpose()?);
        }
        Ok(Inputs {
            constants,
            namespace: namespace.clone(),
            name: self.hpa.name.clone(),
            spec: spec.clone(),
            status,
            scale,
            pods,
            metrics,
            memory: Memory {
                recommendations: self.recommendations.as_deref().map(to_recommendations),
                scale_up_events: to_events(&self.scale_up_events),
                scale_down_events: to_events(&self.scale_down_events),
                ..Memory::default()
            },
            beyond: Beyond::default(),
        })
    }

    fn constants(&self, gates: Gates) -> Constants {
        let given = &self.constants;
        Constants {
            tolerance: given.tolerance,
            cpu_initialization_period_ms: given.cpu_initialization_period_s * 1000,
            initial_readiness_delay_ms: given.initial_readiness_delay_s * 1000,
            downscale_stabilization_ms: given.downscale_stabilization_window_s * 1000,
            scale_up_limit_factor: given.scale_up_limit_factor,
            scale_up_limit_minimum: given.scale_up_limit_minimum,
            gates,
        }
    }

    /// The pods that a selector matches, unless it is another autoscaler's as well.
    fn select(&self, selector: &str) -> PodSet {
        let parsed: LabelSelector = match selector.parse() {
            Ok(parsed) => parsed,
            Err(why) => return PodSet::InvalidSelector(format!("{why}")),
        };
        let is_selected = |pod: &Pod, by: &LabelSelector| {
            by.matches(|label| pod.labels.get(label).map(String::as_str))
        };
        let pods: Vec<_> = self.pods.iter().filter(|pod| is_selected(pod, &parsed)).collect();
        let others = self.other_hpas.iter().filter(|other| {
            let same_namespace = other.namespace == self.hpa.namespace;
            let by = other.selector.parse::<LabelSelector>();
            same_namespace && by.is_ok_and(|by| pods.iter().any(|pod| is_selected(pod, &by)))
        });
        let name = |namespace: &str, name: &str| format!("{namespace}/{name}");
        let mut names: Vec<_> = others.map(|other| name(&other.namespace, &other.name)).collect();
        if !names.is_empty() {
            names.push(name(&self.hpa.namespace, &self.hpa.name));
            names.sort();
            return PodSet::Ambiguous(names);
        }
        let mut pods: Vec<_> = pods.into_iter().map(Pod::facts).collect();
        pods.sort_by(|a, b| a.name.cmp(&b.name));
        PodSet::Matched(pods)
    }
}

impl CaseStatus {
    fn status(&self) -> HorizontalPodAutoscalerStatus {
        let condition = |one: &AgedCondition| HorizontalPodAutoscalerCondition {
            type_: one.kind.clone(),
            status: one.status.clone(),
            reason: Some(one.reason.clone()),
            message: Some(one.message.clone()),
            last_transition_time: one.last_transition_age_s.and_then(time),
            observed_generation: None,
        };
        HorizontalPodAutoscalerStatus {
            conditions: Some(self.conditions.iter().map(condition).collect()),
            current_metrics: self.current_metrics.clone(),
            current_replicas: Some(self.current_replicas),
            desired_replicas: self.desired_replicas,
            last_scale_time: self.last_scale_time_age_s.and_then(time),
            observed_generation: None,
        }
    }
}

fn time(age_s: i64) -> Option<Time> {
    jiff::Timestamp::from_millisecond(ago(age_s)).ok().map(Time)
}

impl Scale {
    /// Writes the scale as often as there are conflicts; what came of it, and the replicas of each attempt.
    fn write(&self, decision: &Decision) -> (Written, Vec<i32>) {
        let mut attempts = Vec::new();
        if !decision.rescale {
            return (Written::NotAsked, attempts);
        }
        loop {
            let outcome = self.update_errors.get(attempts.len()).and_then(Option::as_ref);
            attempts.push(decision.desired_replicas);
            match outcome {
                None => return (Written::Done, attempts),
                Some(why) if why.conflict && attempts.len() < ATTEMPTS_MAX => {}
                Some(why) => return (Written::Failed(why.message.clone()), attempts),
            }
        }
    }
}

impl Response {
    fn answer(&self, spec: &MetricSpec) -> Result<MetricAnswer> {
        if let Some(why) = &self.error {
            let api = self.api.split('.').next().unwrap_or_default();
            let text = format!("unable to fetch metrics from {api} metrics API: {why}");
            return Ok(MetricAnswer::Failed(text));
        }
        let (resource, container) = match (&spec.resource, &spec.container_resource) {
            (Some(source), _) => (source.name.as_str(), None),
            (None, Some(source)) => (source.name.as_str(), Some(source.container.as_str())),
            (None, None) => ("", None),
        };
        answer(&self.api, self.items.as_deref().unwrap_or_default(), resource, container)
    }
}

fn request(of: &MetricRequest) -> Request {
    let text = |selector: &Option<ApiSelector>| {
        let labels: &BTreeMap<_, _> = selector.as_ref()?.match_labels.as_ref()?;
        let terms: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        Some(terms.join(",")).filter(|text| !text.is_empty())
    };
    match of {
        MetricRequest::Resource { pods, .. } => Request {
            namespace: pods.namespace.clone(),
            label_selector: Some(pods.selector.clone()),
            ..Request::default()
        },
        MetricRequest::Pods { pods, metric, selector } => Request {
            namespace: pods.namespace.clone(),
            label_selector: Some(pods.selector.clone()),
            metric: Some(metric.clone()),
            metric_selector: text(selector),
            object: None,
        },
        MetricRequest::Object { namespace, object, metric, selector } => Request {
            namespace: namespace.clone(),
            label_selector: None,
            metric: Some(metric.clone()),
            metric_selector: text(selector),
            object: Some(json!(object)),
        },
        MetricRequest::External { namespace, metric, selector } => Request {
            namespace: namespace.clone(),
            label_selector: None,
            metric: Some(metric.clone()),
            metric_selector: text(selector),
            object: None,
        },
    }
}

impl Expect {
    fn check_decision(&self, inputs: &Inputs, decision: &Decision, differences: &mut Differences) {
        let proposal = |metric: &hpa_controller::MetricDecision| match &metric.outcome {
            Ok(proposal) => json!({
                "specIndex": metric.spec_index, "replicas": proposal.replicas,
                "metricName": metric.name, "error": null,
            }),
            Err(why) => json!({
                "specIndex": metric.spec_index, "replicas": null, "metricName": null, "error": why,
            }),
        };
        let proposals: Value = decision.metrics.iter().map(proposal).collect();
        differences.check("proposals", &proposals, &self.proposals);
        let before = inputs.status.current_replicas.unwrap_or_default();
        let computation = |metric: &hpa_controller::MetricDecision| {
            let (action, error) = metric.labels(before);
            json!({"type": metric.kind, "action": action.as_str(), "error": error})
        };
        let computations: Value = decision.metrics.iter().map(computation).collect();
        differences.check("metricComputations", &computations, &self.metric_computations);
    }

    fn check_conclusion(
        &self,
        inputs: &Inputs,
        conclusion: &Conclusion,
        differences: &mut Differences,
    ) -> Result<()> {
        let Conclusion { status, events, memory, action, error } = conclusion;
        differences.check("desiredReplicas", &status.desired_replicas, &self.desired_replicas);
        let current = status.current_replicas.unwrap_or_default();
        differences.check("currentReplicas", &current, &self.current_replicas);
        let scaled = status.last_scale_time.as_ref().map(|time| age_s(time.0.as_millisecond()));
        differences.check("lastScaleTimeAgeS", &scaled, &self.last_scale_time_age_s);
        let condition = |one: &HorizontalPodAutoscalerCondition| AgedCondition {
            kind: one.type_.clone(),
            status: one.status.clone(),
            reason: one.reason.clone().unwrap_or_default(),
            message: one.message.clone().unwrap_or_default(),
            last_transition_age_s: one
                .last_transition_time
                .as_ref()
                .map(|time| age_s(time.0.as_millisecond())),
        };
        let conditions: Vec<_> = status.conditions.iter().flatten().map(condition).collect();
        differences.check("conditions", &conditions, &self.conditions);
        let metrics = serde_json::to_value(&status.current_metrics)?;
        differences.check("currentMetrics", &metrics, &self.current_metrics);
        let metrics = milli(&metrics)?;
        differences.check("currentMetricsMilli", &metrics, &self.current_metrics_milli);
        differences.check("events", &serde_json::to_value(events)?, &self.events);
        let changed = conclusion.status_changed(&inputs.status);
        differences.check("statusUpdated", &changed, &self.status_updated);
        differences.check("action", &action.as_str(), &self.action.as_str());
        differences.check("errorLabel", &conclusion.error_label(), &self.error_label.as_str());
        differences.check("error", error, &self.error);
        let recommendations = memory.recommendations.as_deref().unwrap_or_default();
        let recommendations = from_recommendations(recommendations);
        differences.check("recommendations", &recommendations, &self.recommendations);
        let events = from_events(&memory.scale_up_events);
        differences.check("scaleUpEvents", &events, &self.scale_up_events);
        let events = from_events(&memory.scale_down_events);
        differences.check("scaleDownEvents", &events, &self.scale_down_events);
        Ok(())
    }
}

/// The values of a `currentMetrics` as integers.
fn milli(metrics: &Value) -> Result<Value> {
    let Some(metrics) = metrics.as_array() else { return Ok(Value::Null) };
    let line = |metric: &Value| {
        let fields = metric.as_object().into_iter().flatten();
        let current = fields.filter_map(|(_, source)| source.get("current")).next();
        let quantity = |field: &str| -> Result<Option<i64>> {
            let text = current.and_then(|current| current.get(field)).and_then(Value::as_str);
            Ok(text.map(str::parse::<Quantity>).transpose()?.map(|value| value.milli_value()))
        };
        let kind = metric["type"].as_str().filter(|kind| !kind.is_empty());
        Ok(json!({
            "type": kind,
            "averageUtilization": current.and_then(|current| current.get("averageUtilization")),
            "averageValueMilli": quantity("averageValue")?,
            "valueMilli": quantity("value")?,
        }))
    };
    metrics.iter().map(line).collect()
}
