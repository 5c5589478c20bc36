//! Decides all the way through a scenario.

use std::sync::Arc;

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerStatus;
use model::Timestamp;

use super::extras::Extras;
use super::fleet::{Fleet, PodValue, read};
use super::scenario::{Scenario, Signal};
use super::{PodRequests, REPLICAS_MAX, ReplayError, Subject};
use crate::beyond::Beyond;
use crate::decide::{Written, conclude, decide};
use crate::decision::Decision;
use crate::forecast::ForecastReading;
use crate::inputs::{
    Constants, Inputs, Memory, MetricAnswer, PodFacts, PodReading, PodSet, ScaleReading,
    ValueReading,
};

/// Window of the values that are made up: what metrics-server's are at its usual resolution.
const WINDOW_MS: i64 = 15_000;

/// Steps between two reports of progress.
const REPORT_STEPS: usize = 256;

/// Most rescales whose reasons are kept.
const RESCALES_MAX: usize = 100_000;

/// What became of a target. All lists have an element for each time of the grid.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// Replicas when the decision was made.
    pub before: Vec<i32>,
    /// Replicas after it.
    pub after: Vec<i32>,
    /// The largest of the metrics' usage ratios; NaN if there is none.
    pub ratio: Vec<f64>,
    /// The same, and whether it lies above what is tolerated.
    pub beyond_tolerance: Vec<bool>,
    /// The bounds that held.
    pub bounds: Vec<(i32, i32)>,
    /// A metric failed, or all did.
    pub failed: Vec<bool>,
    /// Forecasts, if there were any to be made.
    pub forecasts: Forecasts,
    /// Rescales in order of time, the first hundred thousand.
    pub rescales: Vec<Rescale>,
    /// What decisions complained about, each text once with how often it was said; the first few.
    pub errors: Vec<(String, usize)>,
}

/// What forecasts did in all decisions. One that is only previewed changes nothing, and is counted as if it did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forecasts {
    /// Decisions for which there was one.
    pub made: usize,
    /// Decisions that it raised above what metrics proposed.
    pub raised: usize,
    /// Decisions without one though it was asked for, and why: each text once, the first few.
    pub failed: Vec<(String, usize)>,
}

impl Forecasts {
    fn note(&mut self, asked: Option<&Result<ForecastReading, String>>, decision: &Decision) {
        match asked {
            None => {}
            Some(Ok(reading)) => {
                self.made += 1;
                let metrics = decision.proposed_replicas;
                self.raised +=
                    usize::from(metrics.is_some_and(|proposed| reading.replicas > proposed));
            }
            Some(Err(why)) => count(&mut self.failed, why),
        }
    }
}

/// Counts a text, unless there are many others already.
fn count(counted: &mut Vec<(String, usize)>, text: &str) {
    const TEXTS_MAX: usize = 8;
    if let Some((_, times)) = counted.iter_mut().find(|(known, _)| known == text) {
        *times += 1;
    } else if counted.len() < TEXTS_MAX {
        counted.push((String::from(text), 1));
    }
}

/// A rescale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rescale {
    /// When, in milliseconds since the epoch.
    pub at: Timestamp,
    /// Replicas before.
    pub from: i32,
    /// Replicas after.
    pub to: i32,
    /// Why, in the words of the event.
    pub reason: String,
}

/// Lets every decision of `scenario` be made, and calls `progress` now and then with how many were.
///
/// # Errors
/// [`ReplayError::Replicas`]
pub fn run(
    subject: &Subject,
    scenario: &Scenario,
    constants: &Constants,
    progress: &mut dyn FnMut(usize),
) -> Result<Trace, ReplayError> {
    let grid = scenario.grid;
    let mut requests = scenario.requests.iter();
    let mut upcoming = requests.next();
    let mut fleet = Fleet::new(scenario.startup_delay, PodRequests::default());
    let mut pods: Vec<Arc<PodFacts>> = Vec::new();
    let mut replicas = scenario.replicas;
    fleet.begin(followed(subject, replicas, grid.from())?, grid.from(), &mut pods);
    let mut answers = Answers::new(&scenario.signals);
    let mut inputs = Inputs {
        constants: constants.clone(),
        namespace: subject.namespace.clone(),
        name: subject.name.clone(),
        spec: subject.spec.clone(),
        status: HorizontalPodAutoscalerStatus::default(),
        scale: Ok(ScaleReading::default()),
        pods: PodSet::Matched(Vec::new()),
        metrics: Vec::new(),
        memory: Memory::default(),
        beyond: Beyond::default(),
    };
    let mut extras = Extras::of(subject, scenario);
    let selector = format!("app={}", subject.spec.scale_target_ref.name);
    let mut trace = Trace::default();
    for step in 0..grid.len() {
        let now = grid.at(step);
        if let Some(change) = upcoming.filter(|change| change.from_step <= step) {
            fleet.request(change.of.clone(), &mut pods);
            upcoming = requests.next();
        }
        fleet.advance(now, &mut pods);
        extras.update(&mut inputs.beyond, now);
        inputs.scale = Ok(ScaleReading {
            spec_replicas: replicas,
            status_replicas: replicas,
            selector: selector.clone(),
        });
        answers.fill(&mut inputs.metrics, step, &pods[..fleet.serving()], now);
        inputs.pods = PodSet::Matched(std::mem::take(&mut pods));

        let decision = decide(&inputs, now);
        let written = if decision.rescale { Written::Done } else { Written::NotAsked };
        let conclusion = conclude(&inputs, &decision, &written, now);

        if let PodSet::Matched(back) =
            std::mem::replace(&mut inputs.pods, PodSet::Matched(Vec::new()))
        {
            pods = back;
        }
        answers.take_back(&mut inputs.metrics);
        trace.note(&decision, replicas, now);
        trace.forecasts.note(inputs.beyond.forecast.as_ref(), &decision);
        if decision.rescale {
            replicas = decision.desired_replicas;
            fleet.resize(followed(subject, replicas, now)?, now, &mut pods);
        }
        inputs.status = conclusion.status;
        inputs.memory = conclusion.memory;
        if step % REPORT_STEPS == 0 {
            progress(step);
        }
    }
    progress(grid.len());
    Ok(trace)
}

/// A number of replicas that a replay follows.
fn followed(subject: &Subject, replicas: i32, at: Timestamp) -> Result<usize, ReplayError> {
    let label = || subject.label.clone();
    let few = usize::try_from(replicas).ok().filter(|_| replicas <= REPLICAS_MAX);
    few.ok_or_else(|| ReplayError::Replicas { label: label(), replicas, at })
}

impl Trace {
    fn note(&mut self, decision: &Decision, before: i32, now: Timestamp) {
        let after = if decision.rescale { decision.desired_replicas } else { before };
        self.before.push(before);
        self.after.push(after);
        let proposals = decision.metrics.iter().filter_map(|metric| metric.outcome.as_ref().ok());
        let mut ratio = f64::NAN;
        let mut beyond = false;
        for proposal in proposals {
            ratio = ratio.max(proposal.ratio.ratio);
            beyond |= proposal.ratio.ratio > proposal.ratio.tolerated_to;
        }
        self.ratio.push(ratio);
        self.beyond_tolerance.push(beyond);
        self.bounds.push((decision.bounds.min_replicas, decision.bounds.max_replicas));
        self.failed.push(decision.error.is_some());
        if let Some(error) = &decision.error {
            count(&mut self.errors, error);
        }
        if decision.rescale && self.rescales.len() < RESCALES_MAX {
            let reason = decision.reason.clone();
            self.rescales.push(Rescale { at: now, from: before, to: after, reason });
        }
    }
}

/// The answers of metrics APIs, whose lists are used again and again.
struct Answers<'s> {
    signals: &'s [Option<Signal>],
    readings: Vec<Vec<PodReading>>,
}

impl<'s> Answers<'s> {
    fn new(signals: &'s [Option<Signal>]) -> Self {
        Self { signals, readings: signals.iter().map(|_| Vec::new()).collect() }
    }

    fn fill(
        &mut self,
        metrics: &mut Vec<Option<MetricAnswer>>,
        step: usize,
        serving: &[Arc<PodFacts>],
        now: Timestamp,
    ) {
        metrics.clear();
        for (signal, readings) in self.signals.iter().zip(&mut self.readings) {
            metrics
                .push(signal.as_ref().map(|signal| answer(signal, step, serving, now, readings)));
        }
    }

    fn take_back(&mut self, metrics: &mut [Option<MetricAnswer>]) {
        for (metric, readings) in metrics.iter_mut().zip(&mut self.readings) {
            if let Some(MetricAnswer::Pods(list)) = metric {
                *readings = std::mem::take(list);
            }
        }
    }
}

/// What the metrics API of a signal says at a step.
fn answer(
    signal: &Signal,
    step: usize,
    serving: &[Arc<PodFacts>],
    now: Timestamp,
    readings: &mut Vec<PodReading>,
) -> MetricAnswer {
    let value = signal.values_milli.get(step).copied().filter(|value| value.is_finite());
    let nothing =
        || MetricAnswer::Failed(format!("no metrics returned from {} metrics API", signal.api));
    let Some(value) = value else { return nothing() };
    if signal.per_pod {
        if serving.is_empty() {
            return nothing();
        }
        let value = whole(value);
        let value = if signal.shared { PodValue::Share(value) } else { PodValue::Each(value) };
        read(readings, serving, value, now, WINDOW_MS);
        return MetricAnswer::Pods(std::mem::take(readings));
    }
    if signal.shared && serving.is_empty() {
        return nothing();
    }
    let shared_by = if signal.shared { serving.len() } else { 1 };
    #[expect(clippy::cast_precision_loss, reason = "replicas are few")]
    let value_milli = whole(value / shared_by as f64);
    MetricAnswer::Values(vec![ValueReading { value_milli, timestamp: now }])
}

#[expect(clippy::cast_possible_truncation, reason = "a cast from float saturates")]
fn whole(value: f64) -> i64 {
    value.round() as i64
}
