//! Keeps upstream's doubling to once a sync period where autoscalers are evaluated more often.
//!
//! Without `behavior`, one evaluation of upstream's at most doubles replicas (or goes to four), and there is one evaluation a
//! period. Here there may be more: for fresh samples, and while a new autoscaler finds its place in the period. So the limit is counted from the
//! replicas at the start of the last period, however many evaluations there were. An
//! autoscaler with `behavior` needs no such thing: its policies count what was added within their own periods.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::inputs::Constants;

/// Changes that are remembered; more cannot be made within a period, since evaluations keep a distance.
const CHANGES_MAX: usize = 4096;

/// Upscales of the last period.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When, and from how many replicas.
    changes: VecDeque<(Instant, i32)>,
}

impl Pace {
    /// Replicas were raised from `before`.
    pub(super) fn raised(&mut self, before: i32, now: Instant) {
        if self.changes.len() >= CHANGES_MAX {
            self.changes.pop_front();
        }
        self.changes.push_back((now, before));
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
        while self.changes.front().is_some_and(|(at, _)| now.duration_since(*at) >= period) {
            self.changes.pop_front();
        }
        let Some(&(_, base)) = self.changes.front() else { return constants.clone() };
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
        pace.raised(5, at(0));
        check(limit(&mut pace, 8, at(3)), 10);
        pace.raised(8, at(3));
        check(limit(&mut pace, 10, at(6)), 10);
        // Never a reason to scale down.
        check(limit(&mut pace, 12, at(6)), 12);
        // The first change has left the period, the second has not.
        check(limit(&mut pace, 10, at(15)), 16);
        check(limit(&mut pace, 10, at(18)), 20);
    }

    #[tokio::test(start_paused = true)]
    async fn few_may_become_four() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        pace.raised(1, now);
        check(limit(&mut pace, 3, now), 4);
    }
}
