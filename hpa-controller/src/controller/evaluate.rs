//! One evaluation: read the scale, ask for metrics, decide, and write the scale if that is allowed.
//!
//! A write that meets a newer version of the target makes the decision anew from that version; a count decided from an older one is
//! never written.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use model::Clock;
use tokio::time::Instant;

use super::api_server::{ApiError, ApiErrorKind};
use super::scale::{FoundScale, From, Scale, Scales};
use super::watch::{HpaObject, Pods};
use crate::beyond::{LeftOut, owners};
use crate::decide::{Written, decide, keeping_one, plan};
use crate::decision::Decision;
use crate::forecast::Forecaster;
use crate::inputs::{Constants, Inputs, Memory, MetricAnswer, PodSet, ScaleReading};
use crate::sources::{MetricRequest, MetricsSource};
use crate::state::HpaKey;

/// How often a conflicting write is decided anew, the first attempt included; upstream's number.
const ATTEMPTS_MAX: u32 = 5;
/// Pause before the next attempt; upstream's.
const PAUSE: Duration = Duration::from_millis(10);

/// Evaluates.
pub(super) struct Evaluator {
    pub scales: Scales,
    pub pods: Arc<Pods>,
    pub source: Arc<dyn MetricsSource>,
    pub clock: Arc<dyn Clock>,
    /// What is to come, for autoscalers that ask for it; `None` if there is no history.
    pub forecaster: Option<Arc<Forecaster>>,
}

impl std::fmt::Debug for Evaluator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Evaluator").field("scales", &self.scales).finish_non_exhaustive()
    }
}

/// What a decision is made from besides the cluster.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub constants: Constants,
    pub memory: Memory,
    /// Decided from instead of the scale that was read.
    pub scale: Option<ScaleReading>,
}

/// Whether a decision is carried out.
pub(super) struct Act<'a> {
    /// Asked for each decision that would change replicas.
    pub carry_out: &'a (dyn Fn(&Decision) -> bool + Sync),
    /// Asked right before each write.
    pub guard: &'a (dyn Fn() -> bool + Sync),
    /// Time for a write.
    pub timeout: Duration,
}

/// The end of an evaluation.
#[derive(Debug)]
pub(super) struct Evaluation {
    pub inputs: Inputs,
    pub decision: Decision,
    pub written: Written,
    /// Time that asking for each metric took.
    pub took: Vec<Duration>,
    /// The guard said no.
    pub stopped: bool,
}

/// What was asked, and what was answered. Of use for another decision only if that would ask the same.
#[derive(Default)]
struct Asked {
    plan: Vec<Option<MetricRequest>>,
    answers: Vec<Option<MetricAnswer>>,
    took: Vec<Duration>,
}

impl Evaluator {
    /// Evaluates an autoscaler. `given` is told the scale that was read, as it may depend on it.
    pub(super) async fn evaluate(
        &self,
        key: &HpaKey,
        hpa: &HpaObject,
        mut given: impl FnMut(Option<&ScaleReading>) -> Given,
        act: Act<'_>,
    ) -> Evaluation {
        let target = &hpa.spec.scale_target_ref;
        let mut found = self.scales.read(&key.namespace, target, From::Watch).await;
        let mut asked = Asked::default();
        let mut attempt = 1;
        loop {
            let scale = found.as_ref().map(|found| &found.scale);
            let given = given(scale.ok().map(|scale| &scale.reading));
            let inputs = self.inputs(key, hpa, scale, given, &mut asked).await;
            let decision = decide(&inputs, self.clock.now());
            let mut end = Evaluation {
                inputs,
                decision,
                written: Written::NotAsked,
                took: asked.took.clone(),
                stopped: false,
            };
            let Ok(scale) = &found else { return end };
            if !end.decision.rescale || !(act.carry_out)(&end.decision) {
                return end;
            }
            let Err(error) = self.write(key, hpa, scale, &end.decision, &act).await else {
                end.written = Written::Done;
                return end;
            };
            if error.kind == ApiErrorKind::NotAllowed {
                end.stopped = true;
                return end;
            }
            if !error.is_conflict() || attempt >= ATTEMPTS_MAX {
                end.written = Written::Failed(error.to_string());
                return end;
            }
            attempt += 1;
            tokio::time::sleep(PAUSE).await;
            found = self.scales.read(&key.namespace, target, From::Server).await;
            if let Err(error) = &found {
                // The decision stands, and could not be carried out.
                end.written = Written::Failed(error.to_string());
                return end;
            }
        }
    }

    async fn write(
        &self,
        key: &HpaKey,
        hpa: &HpaObject,
        scale: &FoundScale,
        decision: &Decision,
        act: &Act<'_>,
    ) -> Result<(), ApiError> {
        let name = &hpa.spec.scale_target_ref.name;
        let replicas = decision.desired_replicas;
        self.scales.write(&key.namespace, name, scale, replicas, act.timeout, act.guard).await
    }

    async fn inputs(
        &self,
        key: &HpaKey,
        hpa: &HpaObject,
        found: Result<&Scale, &ApiError>,
        given: Given,
        asked: &mut Asked,
    ) -> Inputs {
        let Given { constants, memory, scale: instead } = given;
        let scale = found.map(|found| instead.as_ref().unwrap_or(&found.reading));
        let plan = match scale {
            Ok(scale) => plan(&constants, &key.namespace, &hpa.spec, &hpa.status, scale),
            Err(_) => Vec::new(),
        };
        let mut out = (LeftOut::default(), BTreeSet::new());
        let pods = match (scale, found) {
            (Ok(scale), Ok(found)) if !plan.is_empty() && hpa.beyond.0.owned_pods => {
                self.owned(key, &scale.selector, &found.uid, &mut out)
            }
            (Ok(scale), _) if !plan.is_empty() => {
                self.pods.select(&key.namespace, &key.name, &scale.selector)
            }
            _ => PodSet::Matched(Vec::new()),
        };
        if !matches!(pods, PodSet::Matched(_)) {
            // As the pods are not known no metric is looked at.
            *asked = Asked { answers: vec![None; plan.len()], ..Asked::default() };
        } else if asked.plan != plan || asked.answers.len() != plan.len() {
            *asked = self.ask(plan).await;
        }
        let mut metrics = asked.answers.clone();
        if !out.1.is_empty() {
            metrics.iter_mut().flatten().for_each(|answer| owners::without(answer, &out.1));
        }
        let now = self.clock.now();
        let forecast = hpa.beyond.0.forecast.as_ref().zip(self.forecaster.as_ref());
        let forecast = forecast
            .map(|(policy, forecaster)| forecaster.reading(&key.namespace, &key.name, policy, now));
        let spec = keeping_one(constants.gates, &hpa.spec);
        Inputs {
            constants,
            namespace: String::from(&*key.namespace),
            name: String::from(&*key.name),
            spec,
            status: hpa.status.clone(),
            scale: scale.cloned().map_err(ToString::to_string),
            pods,
            metrics,
            memory,
            beyond: hpa.gather(forecast, Some(out.0), now),
        }
    }

    /// The selected pods whose chain of owners leads to the target.
    fn owned(
        &self,
        key: &HpaKey,
        selector: &str,
        target: &str,
        out: &mut (LeftOut, BTreeSet<String>),
    ) -> PodSet {
        let Some(sets) = self.scales.replica_sets_of(&key.namespace, target) else {
            let why = "the owners of pods are not known: ReplicaSets have not been read yet";
            return PodSet::Failed(why.to_owned());
        };
        let parent = |owner: &str| sets.contains(owner).then_some(target);
        let owned = |owner: Option<&str>| owners::owns(target, owner, parent);
        let (pods, left_out, names) =
            self.pods.select_owned(&key.namespace, &key.name, selector, owned);
        *out = (left_out, names);
        pods
    }

    /// Asks for all metrics at once.
    async fn ask(&self, plan: Vec<Option<MetricRequest>>) -> Asked {
        let answers = join_all(plan.iter().map(|request| async {
            let begin = Instant::now();
            let answer = match request {
                Some(request) => Some(answer(&*self.source, request).await),
                None => None,
            };
            (answer, begin.elapsed())
        }));
        let (answers, took) = answers.await.into_iter().unzip();
        Asked { plan, answers, took }
    }
}

/// What a source answers to a request.
pub(super) async fn answer(source: &dyn MetricsSource, request: &MetricRequest) -> MetricAnswer {
    let answer = match request {
        MetricRequest::Resource { .. } | MetricRequest::Pods { .. } => {
            source.pods(request).await.map(MetricAnswer::Pods)
        }
        MetricRequest::Object { .. } | MetricRequest::External { .. } => {
            source.values(request).await.map(MetricAnswer::Values)
        }
    };
    answer.unwrap_or_else(|error| MetricAnswer::Failed(error.0))
}
