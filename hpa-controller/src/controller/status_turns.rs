//! When the status of an autoscaler is written.
//!
//! Upstream writes it whenever anything in it differs, which is every period for most autoscalers, as metrics move. Here what tells
//! of a rescale or of a condition that is no longer what it was is written at once, and so is a first status. The rest (values of metrics, the
//! words of a condition) is written at a rate that all autoscalers together keep. One that is not written now is given the next free moment and
//! writes its status as it is by then, so that nobody is overtaken and nothing is lost. It has one such moment at a time, until that has
//! passed, whether there is still something to tell or not: so nobody waits for longer than the others together take.

use std::time::Duration;

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerStatus;
use tokio::time::Instant;

use super::rate::Rate;
use crate::decide::{differs, expected_status};

/// The rate, for all autoscalers.
#[derive(Debug)]
pub(super) struct StatusTurns {
    rate: Rate,
    /// Least time between two writes of an autoscaler where only values of metrics differ.
    gap: Duration,
}

/// The turn of one autoscaler.
#[derive(Debug, Default)]
pub(super) struct StatusTurn {
    /// When the status was last written.
    written: Option<Instant>,
    /// When it may be written, if that was not at once.
    moment: Option<Instant>,
}

impl StatusTurn {
    /// The status was written.
    pub(super) fn written(&mut self) {
        let now = Instant::now();
        self.written = Some(now);
        // What was urgent did not take the moment.
        self.moment = self.moment.filter(|moment| *moment > now);
    }
}

/// What a status that differs has to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    Nothing,
    /// Values of metrics alone.
    Values,
    /// Something else that can wait.
    Details,
    /// Replicas, or a condition that is no longer what it was.
    Urgent,
}

impl StatusTurns {
    /// `per_second` writes of what can wait, and as many at once after a quiet time, in a controller that evaluates every `period`.
    pub(super) fn new(per_second: u32, period: Duration) -> Self {
        // A tenth is left for evaluations that come a bit early.
        Self { rate: Rate::new(f64::from(per_second), per_second), gap: period.mul_f64(0.9) }
    }

    /// Whether the status has to be written now that is `before` on the server and should be `after`; `None` if they are the same.
    pub(super) fn is_due(
        &self,
        before: &HorizontalPodAutoscalerStatus,
        after: &HorizontalPodAutoscalerStatus,
        turn: &mut StatusTurn,
    ) -> Option<bool> {
        let now = Instant::now();
        match news(before, after) {
            News::Nothing => {
                // A moment that was not needed is not kept for later, or all could write at once one day.
                turn.moment = turn.moment.filter(|moment| *moment + self.gap > now);
                return None;
            }
            News::Urgent => return Some(true),
            News::Values if turn.written.is_some_and(|at| now.duration_since(at) < self.gap) => {
                return Some(false);
            }
            News::Values | News::Details => {}
        }
        let moment = *turn.moment.get_or_insert_with(|| self.rate.reserve(now));
        Some(moment <= now)
    }
}

fn news(before: &HorizontalPodAutoscalerStatus, after: &HorizontalPodAutoscalerStatus) -> News {
    if !differs(before, after) {
        return News::Nothing;
    }
    if is_blank(before)
        || replicas(before) != replicas(after)
        || before.last_scale_time != after.last_scale_time
        || conditions(before, after)
    {
        return News::Urgent;
    }
    let same_values = HorizontalPodAutoscalerStatus {
        current_metrics: before.current_metrics.clone(),
        ..after.clone()
    };
    let values_only = !differs(before, &same_values) && kinds(before) == kinds(after);
    if values_only { News::Values } else { News::Details }
}

fn replicas(status: &HorizontalPodAutoscalerStatus) -> (i32, i32) {
    (status.current_replicas.unwrap_or(0), status.desired_replicas)
}

/// Whether nobody has written it yet.
fn is_blank(status: &HorizontalPodAutoscalerStatus) -> bool {
    status.conditions.as_ref().is_none_or(Vec::is_empty) && status.last_scale_time.is_none()
}

/// Whether a condition has another status than before, or than it has where all is well if it was not there; or is gone.
fn conditions(
    before: &HorizontalPodAutoscalerStatus,
    after: &HorizontalPodAutoscalerStatus,
) -> bool {
    let was = |kind: &str| {
        let found = before.conditions.iter().flatten().find(|one| one.type_ == kind);
        found.map(|one| one.status.as_str()).or_else(|| expected_status(kind))
    };
    let is = |kind: &str| after.conditions.iter().flatten().any(|one| one.type_ == kind);
    let turned = |one: &k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerCondition| {
        was(&one.type_) != Some(one.status.as_str())
    };
    after.conditions.iter().flatten().any(turned)
        || before.conditions.iter().flatten().any(|one| !is(&one.type_))
}

/// Which metrics have values; one that fails has none.
fn kinds(status: &HorizontalPodAutoscalerStatus) -> Vec<&str> {
    status.current_metrics.iter().flatten().map(|metric| metric.type_.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const PERIOD: Duration = Duration::from_secs(15);

    fn status(value: Value) -> HorizontalPodAutoscalerStatus {
        serde_json::from_value(value).unwrap()
    }

    /// A status as it is with everything well, at `replicas` and with a metric at `value`.
    fn well(replicas: i32, value: &str) -> Value {
        json!({
            "currentReplicas": replicas, "desiredReplicas": replicas,
            "currentMetrics": [
                {"type": "Resource", "resource": {"name": "cpu", "current": {"averageValue": value}}}],
            "conditions": [
                {"type": "AbleToScale", "status": "True", "reason": "ReadyForNewScale", "message": "a"},
                {"type": "ScalingActive", "status": "True", "reason": "ValidMetricFound", "message": "b"},
                {"type": "ScalingLimited", "status": "False", "reason": "DesiredWithinRange", "message": "c"},
            ],
        })
    }

    fn check(before: &Value, change: impl FnOnce(&mut Value), expected: News) {
        let mut after = before.clone();
        change(&mut after);
        let (before, after) = (status(before.clone()), status(after));
        assert_eq!(news(&before, &after), expected, "{before:?} -> {after:?}");
    }

    #[test]
    fn what_people_wait_for_is_told_apart_from_what_can_wait() {
        let before = &well(1, "1");
        check(before, |_| {}, News::Nothing);
        check(before, |after| *after = well(1, "2"), News::Values);
        check(before, |after| *after = well(2, "2"), News::Urgent);
        check(before, |after| after["desiredReplicas"] = json!(2), News::Urgent);
        check(before, |after| after["lastScaleTime"] = json!("2023-11-14T22:13:20Z"), News::Urgent);
        let reason =
            |after: &mut Value| after["conditions"][0]["reason"] = json!("ScaleDownStabilized");
        check(before, reason, News::Details);
        let lost = |after: &mut Value| after["currentMetrics"] = json!([{"type": ""}]);
        check(before, lost, News::Details);
        let failing = |after: &mut Value| after["conditions"][1]["status"] = json!("False");
        check(before, failing, News::Urgent);
        let limited = |after: &mut Value| after["conditions"][2]["status"] = json!("True");
        check(before, limited, News::Urgent);
        let gone = |after: &mut Value| drop(after["conditions"].as_array_mut().unwrap().pop());
        check(before, gone, News::Urgent);
    }

    #[test]
    fn a_first_status_is_urgent() {
        check(&json!({"desiredReplicas": 0}), |after| *after = well(3, "1"), News::Urgent);
        check(&json!({"desiredReplicas": 0}), |_| {}, News::Nothing);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_comes_and_goes_keeps_its_moment_and_takes_no_other() {
        let turns = StatusTurns::new(10, PERIOD);
        let (before, after) = (status(well(1, "1")), status(well(1, "2")));
        // 200 at a rate of ten a second are twenty seconds.
        let mut all: Vec<_> = (0..200).map(|_| StatusTurn::default()).collect();
        for round in 0..40 {
            let now = if round % 2 == 0 { &after } else { &before };
            let written = all.iter_mut().filter_map(|turn| {
                let is_due = turns.is_due(&before, now, turn) == Some(true);
                is_due.then(|| turn.written())
            });
            let written = written.count();
            // Two of five rounds may find something to tell whose moment has come: never more than was free meanwhile.
            assert!(written <= 10 + 2 * 150, "{written} in round {round}");
            tokio::time::advance(PERIOD).await;
        }
        // After ten minutes a new one waits for the others that are there, and for none that has been.
        let mut late = StatusTurn::default();
        if turns.is_due(&before, &after, &mut late) == Some(false) {
            tokio::time::advance(Duration::from_secs(21)).await;
            assert_eq!(turns.is_due(&before, &after, &mut late), Some(true));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_urgent_leaves_the_moment_for_what_follows() {
        let turns = StatusTurns::new(1, PERIOD);
        let (before, after) = (status(well(1, "1")), status(well(1, "2")));
        let mut first = StatusTurn::default();
        assert_eq!(turns.is_due(&before, &after, &mut first), Some(true));
        let mut turn = StatusTurn::default();
        assert_eq!(turns.is_due(&before, &after, &mut turn), Some(false));
        let moment = turn.moment;
        assert_eq!(turns.is_due(&before, &status(well(2, "2")), &mut turn), Some(true));
        turn.written();
        assert_eq!(turn.moment, moment);
    }

    #[tokio::test(start_paused = true)]
    async fn values_of_one_are_written_once_a_period() {
        let turns = StatusTurns::new(100, PERIOD);
        let mut turn = StatusTurn::default();
        let (before, after) = (status(well(1, "1")), status(well(1, "2")));
        assert_eq!(turns.is_due(&before, &before, &mut turn), None);
        assert_eq!(turns.is_due(&before, &after, &mut turn), Some(true));
        turn.written();
        tokio::time::advance(PERIOD / 2).await;
        assert_eq!(turns.is_due(&before, &after, &mut turn), Some(false));
        // Replicas do not wait.
        assert_eq!(turns.is_due(&before, &status(well(2, "2")), &mut turn), Some(true));
        tokio::time::advance(PERIOD / 2).await;
        assert_eq!(turns.is_due(&before, &after, &mut turn), Some(true));
    }

    /// Evaluates 10,000 autoscalers every period, whose values move each time, and gives how often each was written in each period.
    async fn rounds(turns: &StatusTurns, count: usize) -> (Vec<usize>, Vec<usize>) {
        let (before, after) = (status(well(1, "1")), status(well(1, "2")));
        let mut all: Vec<_> = (0..10_000).map(|_| StatusTurn::default()).collect();
        let mut of_each = vec![0; all.len()];
        let mut of_round = vec![0; count];
        let step = PERIOD / 10_000;
        for written in &mut of_round {
            for (turn, of_each) in all.iter_mut().zip(&mut of_each) {
                if turns.is_due(&before, &after, turn) == Some(true) {
                    turn.written();
                    (*written, *of_each) = (*written + 1, *of_each + 1);
                }
                tokio::time::advance(step).await;
            }
        }
        (of_round, of_each)
    }

    #[tokio::test(start_paused = true)]
    async fn many_keep_the_rate_and_nobody_is_left_out() {
        let turns = StatusTurns::new(100, PERIOD);
        let (of_round, of_each) = rounds(&turns, 20).await;
        // 100 at once and 100 a second, for 300 seconds. One whose moment comes between two evaluations waits for the second, so
        // that rounds differ.
        assert!(of_round.iter().sum::<usize>() <= 100 + 30_000, "{of_round:?}");
        assert!(of_round.iter().all(|written| *written <= 2 * 1500), "{of_round:?}");
        // The queue of 10,000 is 100 s long, and an autoscaler joins it again with its next evaluation.
        assert!(of_each.iter().all(|written| (2..=3).contains(written)));
    }
}
