//! What a replay comes to in numbers.

use serde::Serialize;

use super::run::Trace;
use super::scenario::{Requests, Scenario};

/// What replicas over time come to. Times are parts of [`Self::seconds`].
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// Length of the replay.
    pub seconds: f64,
    /// Fewest replicas.
    pub replicas_min: f64,
    /// Replicas on average over time.
    pub replicas_mean: f64,
    /// Most replicas.
    pub replicas_max: f64,
    /// Changes of the replicas upwards.
    pub scale_ups: usize,
    /// Changes of the replicas downwards.
    pub scale_downs: usize,
    /// Changes that reverse the direction of the one before within the flap window.
    pub flaps: usize,
    /// Replicas times time.
    pub replica_hours: f64,
    /// Replicas times the CPU that a pod requests times time; `None` if requests are not known.
    pub core_hours: Option<f64>,
    /// Time in which a metric's usage was above its target; `None` for replicas that were recorded.
    pub seconds_above_target: Option<f64>,
    /// Time in which it was above by more than is tolerated.
    pub seconds_beyond_tolerance: Option<f64>,
    /// Time at the upper bound.
    pub seconds_at_max: Option<f64>,
    /// Time at the lower bound.
    pub seconds_at_min: Option<f64>,
    /// Time in which a metric failed.
    pub seconds_failed: Option<f64>,
}

/// How near a replay comes to what was recorded. It tells how far the model can be trusted if the specification is the one that
/// was in force; of another specification it tells what that would have changed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reproduction {
    /// Times that were compared. Over gaps the replicas that were recorded last hold.
    pub points: usize,
    /// Share of them at which the replay had the same replicas, 0 to 1.
    pub equal_share: f64,
    /// Mean of the absolute differences, in replicas.
    pub mean_difference: f64,
    /// Largest absolute difference, in replicas.
    pub largest_difference: f64,
}

impl Figures {
    /// Of replicas as they are after each decision but the last, which has no time left.
    pub(super) fn of_trace(trace: &Trace, scenario: &Scenario, flap_window_ms: i64) -> Self {
        let steps = trace.after.len().saturating_sub(1);
        let step_s = seconds(scenario.grid.step_ms());
        let after: Vec<f64> = trace.after.iter().copied().map(f64::from).collect();
        let before = trace.before.first().copied().map(f64::from);
        let mut figures = Self::of_replicas(&after[..steps], before, scenario, flap_window_ms);
        let time = |holds: &dyn Fn(usize) -> bool| {
            Some(count((0..steps).filter(|step| holds(*step)).count()) * step_s)
        };
        figures.seconds_above_target = time(&|step| trace.ratio[step] > 1.0);
        figures.seconds_beyond_tolerance = time(&|step| trace.beyond_tolerance[step]);
        figures.seconds_at_max = time(&|step| trace.after[step] >= trace.bounds[step].1);
        figures.seconds_at_min = time(&|step| trace.after[step] <= trace.bounds[step].0);
        figures.seconds_failed = time(&|step| trace.failed[step]);
        figures
    }

    /// Of replicas, one for each step from the first on, that were `before` the first.
    pub(super) fn of_replicas(
        replicas: &[f64],
        before: Option<f64>,
        scenario: &Scenario,
        flap_window_ms: i64,
    ) -> Self {
        let step_ms = scenario.grid.step_ms();
        let hours = seconds(step_ms) / 3600.0;
        let mut figures = Self {
            seconds: count(replicas.len()) * seconds(step_ms),
            replicas_min: f64::INFINITY,
            ..Self::default()
        };
        let mut cores = CoreCount::new(&scenario.requests);
        let mut core_hours = cores.known().then_some(0.0);
        let mut sum = 0.0;
        let mut last_change: Option<(usize, bool)> = None;
        let mut before = before;
        for (step, &now) in replicas.iter().enumerate() {
            sum += now;
            figures.replicas_min = figures.replicas_min.min(now);
            figures.replicas_max = figures.replicas_max.max(now);
            if let Some(hours_so_far) = &mut core_hours {
                *hours_so_far += now * cores.at(step) * hours;
            }
            if let Some(before) = before
                && now.total_cmp(&before).is_ne()
            {
                let up = now > before;
                *(if up { &mut figures.scale_ups } else { &mut figures.scale_downs }) += 1;
                figures.flaps += usize::from(last_change.is_some_and(|(at, was_up)| {
                    was_up != up && milliseconds(step - at, step_ms) <= flap_window_ms
                }));
                last_change = Some((step, up));
            }
            before = Some(now);
        }
        figures.replica_hours = sum * hours;
        figures.core_hours = core_hours;
        if replicas.is_empty() {
            figures.replicas_min = 0.0;
        } else {
            figures.replicas_mean = sum / count(replicas.len());
        }
        figures
    }
}

impl Reproduction {
    /// `None` if no replicas were recorded. Replicas before each decision are compared: those that a scrape at its time would have seen.
    pub(super) fn of(trace: &Trace, recorded: &[f64]) -> Option<Self> {
        let mut points = 0;
        let mut equal = 0;
        let mut sum = 0.0;
        let mut largest_difference = 0.0_f64;
        let known = trace.before.iter().zip(recorded).filter(|(_, then)| then.is_finite());
        for (now, then) in known {
            let difference = (f64::from(*now) - then).abs();
            points += 1;
            equal += usize::from(difference < 0.5);
            sum += difference;
            largest_difference = largest_difference.max(difference);
        }
        (points > 0).then(|| Self {
            points,
            equal_share: count(equal) / count(points),
            mean_difference: sum / count(points),
            largest_difference,
        })
    }
}

/// Cores that a pod requests over time.
struct CoreCount<'r> {
    requests: &'r [Requests],
    current: usize,
}

impl<'r> CoreCount<'r> {
    const fn new(requests: &'r [Requests]) -> Self {
        Self { requests, current: 0 }
    }

    fn known(&self) -> bool {
        self.requests.iter().any(|requests| requests.of.of_pod("cpu").is_some())
    }

    /// At `step`, which must not go back.
    #[expect(clippy::cast_precision_loss, reason = "requests are far below 2^53 thousandths")]
    fn at(&mut self, step: usize) -> f64 {
        while self.requests.get(self.current + 1).is_some_and(|next| next.from_step <= step) {
            self.current += 1;
        }
        let requested = self.requests.get(self.current).and_then(|now| now.of.of_pod("cpu"));
        requested.unwrap_or(0) as f64 / 1000.0
    }
}

#[expect(clippy::cast_precision_loss, reason = "steps are a few million")]
const fn count(n: usize) -> f64 {
    n as f64
}

#[expect(clippy::cast_precision_loss, reason = "a step is short")]
const fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

fn milliseconds(steps: usize, step_ms: i64) -> i64 {
    i64::try_from(steps).unwrap_or(i64::MAX).saturating_mul(step_ms)
}
