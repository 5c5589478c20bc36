//! One autoscaler's turn: look whether it may be acted upon, evaluate, then tell what came of it: status, events, memory, log, series.
//!
//! Evaluations for fresh samples come between those of the period and must not change what those would do. They only ever raise
//! replicas; one that does is an evaluation like any other and is remembered as such, since a later one must neither scale down
//! below what it found necessary nor add to it what the rates do not allow. One that does not leaves no trace: no recommendation, no status, no event,
//! no line in the log.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscalerSpec, HorizontalPodAutoscalerStatus,
};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::api_server::{ApiError, ApiErrorKind, ApiServer};
use super::config::React;
use super::evaluate::{Act, Evaluation, Evaluator, Given};
use super::events::Recorder;
use super::pace::Pace;
use super::queue::{Queue, Trigger};
use super::rivals::{Rivals, Verdict};
use super::status;
use super::status_turns::{StatusTurn, StatusTurns};
use super::watch::{HpaObject, Hpas};
use crate::decide::rules::{self, Direction, Rules};
use crate::decide::{Action, Conclusion, Written, conclude};
use crate::decision::{Decision, EventNote, EventType, MetricDecision};
use crate::inputs::{Constants, Memory, ScaleReading};
use crate::leader::Leadership;
use crate::metrics::ControllerMetrics;
use crate::state::{DecisionLog, HpaKey, Logged, Mode, StateStore};
use crate::steer::Recommendations;

/// The controller.
#[derive(Debug)]
pub(super) struct Controller {
    pub api: ApiServer,
    pub constants: Constants,
    pub period: Duration,
    pub react: React,
    pub mode: Mode,
    /// Who writes, as the server is told.
    pub field_manager: Arc<str>,
    /// Time for a write: what may pass between the end of a leadership and the next.
    pub write_timeout: Duration,
    pub hpas: Arc<Hpas>,
    pub evaluator: Evaluator,
    pub queue: Arc<Queue>,
    pub leadership: Leadership,
    pub state: Arc<StateStore>,
    pub log: Arc<DecisionLog>,
    pub steering: Arc<Recommendations>,
    pub status_turns: StatusTurns,
    pub metrics: ControllerMetrics,
    pub recorder: Recorder,
    pub held: Mutex<HashMap<HpaKey, Held, RandomState>>,
    /// What earlier processes left, by uid, until it is taken up.
    pub restored: Mutex<HashMap<(HpaKey, String), Memory>>,
}

/// What is held of one autoscaler between its turns.
#[derive(Debug, Default)]
pub(super) struct Held {
    uid: Box<str>,
    memory: Memory,
    rivals: Rivals,
    pace: Pace,
    status_turn: StatusTurn,
    /// Replicas at the end of the last turn, and when that was.
    replicas: Option<(i32, i64)>,
    /// A turn of the period has been.
    seen: bool,
    /// The last error, which is not logged again.
    error: Option<String>,
}

impl Controller {
    /// The turn of an autoscaler.
    pub(super) async fn reconcile(&self, key: &HpaKey, trigger: Trigger) {
        let begin = Instant::now();
        let Some(hpa) = self.hpas.get(key) else {
            self.forget(key);
            return;
        };
        let mut held = self.take(key, hpa.uid());
        match trigger {
            Trigger::Period if hpa.steered.is_some() => {
                self.steer(key, &hpa, &mut held, begin).await;
            }
            // The cluster's own controller looks once a period, so that nothing is won by deciding more often.
            Trigger::Fresh if hpa.steered.is_some() => {}
            Trigger::Period => {
                self.steering.forget(key);
                self.periodic(key, &hpa, &mut held, begin).await;
            }
            // The first word about an autoscaler seeds its recommendations: it is said in full, whatever it was that asked for it.
            Trigger::Fresh if !held.seen && held.memory.recommendations.is_none() => {
                self.periodic(key, &hpa, &mut held, begin).await;
            }
            Trigger::Fresh => self.fresh(key, &hpa, &mut held, begin).await,
        }
        if self.hpas.get(key).is_some() {
            self.held.lock().insert(key.clone(), held);
        } else {
            self.forget(key);
        }
    }

    /// Forgets decisions, of those that came back from files, about autoscalers that are no more. Call it when all have been listed.
    pub(super) fn forget_deleted(&self) {
        for key in self.log.keys() {
            if self.hpas.get(&key).is_none() {
                self.log.forget(&key);
            }
        }
    }

    /// An autoscaler is gone.
    pub(super) fn forget(&self, key: &HpaKey) {
        self.held.lock().remove(key);
        self.evaluator.pods.unregister(&key.namespace, &key.name);
        self.state.forget(key);
        self.log.forget(key);
        self.metrics.forget(key);
        self.metrics.known(self.hpas.len());
        self.steering.forget(key);
        if let Some(forecaster) = &self.evaluator.forecaster {
            forecaster.forget(&key.namespace, &key.name);
        }
    }

    fn take(&self, key: &HpaKey, uid: &str) -> Held {
        if let Some(held) = self.held.lock().remove(key).filter(|held| *held.uid == *uid) {
            return held;
        }
        let restored = self.restored.lock().remove(&(key.clone(), String::from(uid)));
        Held { uid: Box::from(uid), memory: restored.unwrap_or_default(), ..Held::default() }
    }

    async fn periodic(&self, key: &HpaKey, hpa: &Arc<HpaObject>, held: &mut Held, begin: Instant) {
        held.seen = true;
        let acts = self.may_act(hpa, held);
        let end = self.evaluate(key, hpa, held, &|_| acts).await;
        if end.stopped {
            return;
        }
        self.conclude(key, hpa, held, end, acts, begin).await;
    }

    async fn fresh(&self, key: &HpaKey, hpa: &Arc<HpaObject>, held: &mut Held, begin: Instant) {
        // No scale could be read yet; the period tries again.
        if held.memory.recommendations.is_none() {
            return;
        }
        let acts = self.may_act(hpa, held);
        let end = self.evaluate(key, hpa, held, &|decision| acts && is_up(decision)).await;
        if end.written == Written::NotAsked || end.stopped {
            return;
        }
        self.conclude(key, hpa, held, end, acts, begin).await;
    }

    /// Decides for an autoscaler whose cluster's own controller is steered: nothing is written, the count is published. It is decided as
    /// if what is published had been written.
    async fn steer(&self, key: &HpaKey, hpa: &HpaObject, held: &mut Held, begin: Instant) {
        let Some(Ok(spec)) = &hpa.steered else {
            if let Some(Err(why)) = &hpa.steered {
                self.steering.refuse(key, why.clone(), self.evaluator.clock.now());
            }
            return;
        };
        let status = self.steering.status(key, &hpa.status);
        let meant = HpaObject { spec: spec.clone(), status, ..hpa.clone() };
        let mut seen = None;
        let act = Act { carry_out: &|_| false, guard: &|| false, timeout: self.write_timeout };
        let given = |scale: Option<&ScaleReading>| {
            let now = self.evaluator.clock.now();
            seen = scale.map(|scale| scale.spec_replicas);
            let scale = scale.map(|scale| self.steering.scale(key, scale, now));
            let constants = match &scale {
                Some(scale) => self.paced(spec, held, scale.spec_replicas),
                None => self.constants.clone(),
            };
            Given { constants, memory: held.memory.clone(), scale }
        };
        let end = self.evaluator.evaluate(key, &meant, given, act).await;
        let Evaluation { inputs, decision, took, .. } = end;
        let now = self.evaluator.clock.now();
        let written = Recommendations::written(&decision);
        note_pace(held, &decision, &written);
        let conclusion = conclude(&inputs, &decision, &written, now);
        let seen = seen.unwrap_or(decision.desired_replicas);
        self.steering.publish(key, seen, &decision, &conclusion, now);
        let count = self.steering.get(key, now).ok().map(|published| published.replicas);
        self.state.remember_count(key, hpa.uid(), &conclusion.memory, count);
        self.count(&decision, &conclusion, &inputs.status, &took, begin);
        self.say(key, held, &decision, &written, &conclusion);
        held.memory = conclusion.memory;
        let logged = Logged {
            key: key.clone(),
            uid: String::from(hpa.uid()),
            mode: Mode::Shadow,
            at: decision.at,
            inputs,
            decision,
            written,
        };
        self.metrics.decided(&logged);
        self.log.push(&logged);
    }

    /// Whether decisions about an autoscaler are carried out.
    fn may_act(&self, hpa: &HpaObject, held: &mut Held) -> bool {
        if self.mode == Mode::Shadow {
            return false;
        }
        let period_ms = i64::try_from(self.period.as_millis()).unwrap_or(i64::MAX);
        match held.rivals.look(hpa, &self.field_manager, period_ms, self.evaluator.clock.now()) {
            Verdict::Clear => true,
            Verdict::Waiting => false,
            Verdict::Found(rival, silence_ms) => {
                let minutes = silence_ms / 60_000;
                self.recorder.tell(
                    hpa,
                    EventNote {
                        kind: EventType::Warning,
                        reason: String::from("ConflictingController"),
                        message: format!(
                            "the status of this autoscaler is also written by {rival}: it is left alone until {rival} has been silent for {minutes} min; turn one of the two controllers off"
                        ),
                    },
                );
                false
            }
        }
    }

    async fn evaluate(
        &self,
        key: &HpaKey,
        hpa: &HpaObject,
        held: &mut Held,
        carry_out: &(dyn Fn(&Decision) -> bool + Sync),
    ) -> Evaluation {
        let act =
            Act { carry_out, guard: &|| self.leadership.may_write(), timeout: self.write_timeout };
        let given = |scale: Option<&ScaleReading>| self.given(hpa, held, scale);
        self.evaluator.evaluate(key, hpa, given, act).await
    }

    fn given(&self, hpa: &HpaObject, held: &mut Held, scale: Option<&ScaleReading>) -> Given {
        let mut constants = self.constants.clone();
        let mut memory = held.memory.clone();
        if let Some(scale) = scale {
            let current = scale.spec_replicas;
            constants = self.paced(&hpa.spec, held, current);
            if self.mode == Mode::Shadow {
                self.observe(hpa, held, current, &mut memory);
            }
        }
        Given { constants, memory, scale: None }
    }

    /// The settings to decide with. Upstream evaluates once a period; where fresh samples are a reason, too, replicas may not double with each.
    fn paced(
        &self,
        spec: &HorizontalPodAutoscalerSpec,
        held: &mut Held,
        current: i32,
    ) -> Constants {
        if spec.behavior.is_some() || self.react != React::FreshSamples {
            return self.constants.clone();
        }
        held.pace.limited(&self.constants, current, self.period, Instant::now())
    }

    /// In shadow mode another controller scales. What it did since the last turn counts as if it had been done here, half way in
    /// between, or rates would be computed as if nothing had happened.
    fn observe(&self, hpa: &HpaObject, held: &Held, current: i32, memory: &mut Memory) {
        let (Some((before, at)), Some(behavior)) = (held.replicas, &hpa.spec.behavior) else {
            return;
        };
        if before == current {
            return;
        }
        let (direction, events) = if current > before {
            (Direction::Up, &mut memory.scale_up_events)
        } else {
            (Direction::Down, &mut memory.scale_down_events)
        };
        let now = self.evaluator.clock.now();
        let between = at.saturating_add(now.saturating_sub(at) / 2);
        let change = i32::try_from(current.abs_diff(before)).unwrap_or(i32::MAX);
        rules::store(events, change, &Rules::of(behavior, direction), between);
    }

    async fn conclude(
        &self,
        key: &HpaKey,
        hpa: &Arc<HpaObject>,
        held: &mut Held,
        end: Evaluation,
        acts: bool,
        begin: Instant,
    ) {
        let Evaluation { inputs, decision, written, took, .. } = end;
        let now = self.evaluator.clock.now();
        let mut conclusion = conclude(&inputs, &decision, &written, now);
        note_pace(held, &decision, &written);
        if acts {
            self.write_status(key, hpa, held, &conclusion.status).await;
            for note in std::mem::take(&mut conclusion.events) {
                self.recorder.tell(hpa, note);
            }
        }
        self.state.remember(key, hpa.uid(), &conclusion.memory);
        let replicas = match written {
            Written::Done => Some(decision.desired_replicas),
            _ => decision.current_replicas,
        };
        held.replicas = replicas.map(|replicas| (replicas, now));
        self.count(&decision, &conclusion, &inputs.status, &took, begin);
        self.say(key, held, &decision, &written, &conclusion);
        held.memory = conclusion.memory;
        let logged = Logged {
            key: key.clone(),
            uid: String::from(hpa.uid()),
            mode: if acts { Mode::Active } else { Mode::Shadow },
            at: decision.at,
            inputs,
            decision,
            written,
        };
        self.metrics.decided(&logged);
        self.log.push(&logged);
    }

    /// Writes the status if it is time to. What waits or fails is looked at again in the next turn.
    async fn write_status(
        &self,
        key: &HpaKey,
        hpa: &Arc<HpaObject>,
        held: &mut Held,
        status: &HorizontalPodAutoscalerStatus,
    ) {
        match self.status_turns.is_due(&hpa.status, status, &mut held.status_turn) {
            None => return,
            Some(false) => return self.metrics.status_waits(),
            Some(true) => {}
        }
        match self.send_status(key, hpa, held, status).await {
            Ok(written) => {
                held.status_turn.written();
                self.metrics.status_written();
                held.rivals.note(&written, &self.field_manager);
                self.hpas.note(key, written);
            }
            Err(error) if error.kind == ApiErrorKind::NotAllowed || error.is_not_found() => {}
            Err(error) => self.recorder.tell(
                hpa,
                EventNote {
                    kind: EventType::Warning,
                    reason: String::from("FailedUpdateStatus"),
                    message: error.to_string(),
                },
            ),
        }
    }

    async fn send_status(
        &self,
        key: &HpaKey,
        hpa: &Arc<HpaObject>,
        held: &mut Held,
        status: &HorizontalPodAutoscalerStatus,
    ) -> Result<HpaObject, ApiError> {
        held.rivals.sending(status);
        let guard = || self.leadership.may_write();
        let (ours, timeout) = (&*self.field_manager, self.write_timeout);
        let error = match status::write(&self.api, key, hpa, status, ours, timeout, guard).await {
            Err(error) if error.is_conflict() => error,
            other => return other,
        };
        // Somebody changed the object. The status still holds, unless it is the status that was changed: then the next turn
        // looks who did.
        let newer = status::read(&self.api, key).await?;
        if newer.uid() != hpa.uid() || crate::decide::differs(&newer.status, &hpa.status) {
            return Err(error);
        }
        status::write(&self.api, key, &newer, status, ours, timeout, guard).await
    }

    fn count(
        &self,
        decision: &Decision,
        conclusion: &Conclusion,
        before: &HorizontalPodAutoscalerStatus,
        took: &[Duration],
        begin: Instant,
    ) {
        for metric in &decision.metrics {
            let took = took.get(metric.spec_index).copied().unwrap_or_default();
            let (action, error) = computed(metric, before.current_replicas.unwrap_or_default());
            self.metrics.computed(&metric.kind, action, error, took);
        }
        self.metrics.reconciled(conclusion.action, conclusion.error_label(), begin.elapsed());
        self.metrics.known(self.hpas.len());
    }

    /// Says in the log of the process what is news.
    fn say(
        &self,
        key: &HpaKey,
        held: &mut Held,
        decision: &Decision,
        written: &Written,
        conclusion: &Conclusion,
    ) {
        if *written == Written::Done {
            tracing::info!(
                hpa = %key, from = decision.current_replicas, to = decision.desired_replicas,
                reason = decision.reason, "rescaled"
            );
        }
        if held.error != conclusion.error {
            match &conclusion.error {
                Some(error) => tracing::warn!(hpa = %key, error, "evaluation failed"),
                None => tracing::info!(hpa = %key, "evaluation works again"),
            }
            held.error.clone_from(&conclusion.error);
        }
    }
}

fn note_pace(held: &mut Held, decision: &Decision, written: &Written) {
    if *written == Written::Done
        && let Some(before) = decision.current_replicas
        && decision.desired_replicas > before
    {
        held.pace.raised(before, decision.desired_replicas);
    }
}

fn is_up(decision: &Decision) -> bool {
    decision.current_replicas.is_some_and(|current| decision.desired_replicas > current)
}

/// The labels of a metric's computation, as upstream has them: what it proposes is compared with the status before.
fn computed(metric: &MetricDecision, before: i32) -> (Action, &'static str) {
    match &metric.outcome {
        Ok(proposal) if proposal.replicas > before => (Action::ScaleUp, "none"),
        Ok(proposal) if proposal.replicas < before => (Action::ScaleDown, "none"),
        Ok(_) => (Action::None, "none"),
        Err(_) if metric.failure_reason.as_deref() == Some("InvalidMetricSourceType") => {
            (Action::None, "spec")
        }
        Err(_) => (Action::None, "internal"),
    }
}
