//! Keeps upstream's doubling to once a sync period where autoscalers are evaluated more often.
//!
//! Without `behavior`, one evaluation of upstream's at most doubles replicas (or goes to four), and there is one evaluation a
//! period. With fresh samples there may be more. So the limit is counted from the replicas at the start of the last period, however many
//! evaluations there were. An autoscaler with `behavior` needs no such thing: its policies count what was added within their own periods.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::inputs::Constants;

/// Changes that are remembered; more cannot be made within a period, since evaluations keep a distance.
const CHANGES_MAX: usize = 4096;

/// Upscales of the last period.
#[derive(Debug, Default)]
pub(super) struct Pace {
    changes: VecDeque<Change>,
    /// When the evaluation began that is under way.
    asked: Option<Instant>,
}

/// One upscale.
#[derive(Clone, Copy, Debug)]
struct Change {
    /// When the evaluation began, as upstream counts its periods.
    at: Instant,
    before: i32,
    after: i32,
}

impl Pace {
    /// The evaluation that [`limited`](Self::limited) was asked for raised replicas.
    pub(super) fn raised(&mut self, before: i32, after: i32) {
        if self.changes.len() >= CHANGES_MAX {
            self.changes.pop_front();
        }
        let at = self.asked.unwrap_or_else(Instant::now);
        self.changes.push_back(Change { at, before, after });
    }

    /// The settings to decide with: the same, but for the limit.
    ///
    /// The limit becomes part of the inputs, so that a decision that was logged is made again with it.
    pub(super) fn limited(
        &mut self,
        constants: &Constants,
        current: i32,
        period: Duration,
        now: Instant,
    ) -> Constants {
        // A tenth is left for evaluations that come a bit early: a limit that holds for a moment too long would cost a period.
        let period = period.mul_f64(0.9);
        self.asked = Some(now);
        // What somebody else made of them is where they start from.
        if self.changes.back().is_some_and(|change| change.after != current) {
            self.changes.clear();
        }
        while self.changes.front().is_some_and(|change| now.duration_since(change.at) >= period) {
            self.changes.pop_front();
        }
        let Some(&Change { before: base, .. }) = self.changes.front() else {
            return constants.clone();
        };
        let limit = (constants.scale_up_limit_factor * f64::from(base))
            .max(constants.scale_up_limit_minimum)
            .max(f64::from(current));
        Constants { scale_up_limit_factor: 0.0, scale_up_limit_minimum: limit, ..constants.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(15);

    fn limit(pace: &mut Pace, current: i32, now: Instant) -> f64 {
        let constants = pace.limited(&Constants::default(), current, PERIOD, now);
        (constants.scale_up_limit_factor * f64::from(current)).max(constants.scale_up_limit_minimum)
    }

    fn check(actual: f64, expected: i32) {
        assert!((actual - f64::from(expected)).abs() < 1e-9, "{actual} is not {expected}");
    }

    #[tokio::test(start_paused = true)]
    async fn replicas_double_once_a_period() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        check(limit(&mut pace, 5, at(0)), 10);
        pace.raised(5, 8);
        check(limit(&mut pace, 8, at(3)), 10);
        pace.raised(8, 10);
        check(limit(&mut pace, 10, at(6)), 10);
        // The first change has left the period, the second has not.
        check(limit(&mut pace, 10, at(15)), 16);
        check(limit(&mut pace, 10, at(18)), 20);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_counts_from_when_its_evaluation_began() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        check(limit(&mut pace, 5, start), 10);
        tokio::time::advance(Duration::from_secs(4)).await;
        pace.raised(5, 10);
        check(limit(&mut pace, 10, start + Duration::from_secs(14)), 20);
    }

    #[tokio::test(start_paused = true)]
    async fn replicas_that_somebody_else_set_are_doubled() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        check(limit(&mut pace, 5, now), 10);
        pace.raised(5, 10);
        check(limit(&mut pace, 10, now), 10);
        check(limit(&mut pace, 30, now), 60);
        check(limit(&mut pace, 12, now), 24);
    }

    #[tokio::test(start_paused = true)]
    async fn few_may_become_four() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        check(limit(&mut pace, 1, now), 4);
        pace.raised(1, 3);
        check(limit(&mut pace, 3, now), 4);
    }
}
