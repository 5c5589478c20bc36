//! When a target is scraped, and which timestamp its samples get.
//!
//! Waiting goes by monotonic time, so that a clock that jumps neither skips nor repeats scrapes.

use std::time::Duration;

use model::Timestamp;
use tokio::time::Instant;

/// Timestamps this close to the schedule are moved onto it, so that the store can encode even steps.
const TOLERANCE_MS_MAX: i64 = 2;

/// The scrapes of one target.
#[derive(Debug)]
pub(crate) struct Schedule {
    interval: Duration,
    next: Instant,
    alignment: Option<Alignment>,
}

impl Schedule {
    /// A schedule whose first scrape is at the target's own place in the interval: `phase`, a hash, spreads
    /// targets evenly and is the same after a restart.
    pub(crate) fn new(interval: Duration, phase: u64, now: Timestamp) -> Self {
        let next = Instant::now() + first_delay(millis(interval), phase, now);
        Self { interval, next, alignment: None }
    }

    /// When the next scrape is due.
    pub(crate) fn next(&self) -> Instant {
        self.next
    }

    /// Time between scrapes.
    pub(crate) fn interval(&self) -> Duration {
        self.interval
    }

    /// Begins the scrape that is due and plans the next; returns the timestamp for its samples.
    ///
    /// Scrapes that were missed are skipped.
    pub(crate) fn begin(&mut self, now: Timestamp) -> Timestamp {
        let late = Instant::now().saturating_duration_since(self.next);
        let missed = u32::try_from(late.as_nanos() / self.interval.as_nanos()).unwrap_or(u32::MAX);
        self.next += self.interval.saturating_mul(missed.saturating_add(1));
        let interval_ms = millis(self.interval);
        self.alignment.get_or_insert(Alignment { interval_ms, due: now }).align(now)
    }
}

fn millis(interval: Duration) -> i64 {
    i64::try_from(interval.as_millis()).unwrap_or(i64::MAX).max(1)
}

/// The time from `now` until a time that is `phase` modulo the interval; positive, at most the interval.
fn first_delay(interval_ms: i64, phase: u64, now: Timestamp) -> Duration {
    let phase = i64::try_from(phase % interval_ms.unsigned_abs()).unwrap_or(0);
    let delay = (phase - now).rem_euclid(interval_ms);
    Duration::from_millis(if delay == 0 { interval_ms } else { delay }.unsigned_abs())
}

/// The wall-clock times at which scrapes should happen.
#[derive(Debug)]
struct Alignment {
    interval_ms: i64,
    due: Timestamp,
}

impl Alignment {
    /// The scheduled time next to `now` if that is within the tolerance. Otherwise the clock was set or the
    /// scrape is late; then `now`, from where the schedule goes on.
    fn align(&mut self, now: Timestamp) -> Timestamp {
        let tolerance = TOLERANCE_MS_MAX.min(self.interval_ms / 100);
        let since = now.saturating_sub(self.due);
        let steps = since.saturating_add(self.interval_ms / 2).div_euclid(self.interval_ms);
        let due = self.due.saturating_add(steps.saturating_mul(self.interval_ms));
        self.due = if now.saturating_sub(due).abs() <= tolerance { due } else { now };
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_scrape_waits_for_its_phase() {
        let delay = |interval, phase, now| first_delay(interval, phase, now).as_millis();
        assert_eq!(delay(15_000, 4_000, 1_000_000_000_000), 9_000);
        assert_eq!(delay(15_000, 15_000 + 4_000, 1_000_000_000_000), 9_000);
        // 1 000 000 000 000 is 10 000 modulo 15 000.
        assert_eq!(delay(15_000, 10_000, 1_000_000_000_000), 15_000);
        assert_eq!(delay(15_000, 12_000, 1_000_000_000_000), 2_000);
        assert_eq!(delay(15_000, 0, -1), 1);
    }

    fn check(interval_ms: i64, times: &[(Timestamp, Timestamp)]) {
        let mut alignment = Alignment { interval_ms, due: times[0].0 };
        for &(now, expected) in times {
            assert_eq!(alignment.align(now), expected, "at {now}");
        }
    }

    #[test]
    fn small_delays_are_snapped_to_the_schedule() {
        check(1000, &[(100, 100), (1101, 1100), (2102, 2100), (3099, 3100), (4100, 4100)]);
    }

    #[test]
    fn the_tolerance_is_a_hundredth_of_short_intervals() {
        check(100, &[(0, 0), (101, 100), (202, 202), (302, 302)]);
    }

    #[test]
    fn large_delays_and_jumps_start_a_new_schedule() {
        check(1000, &[(0, 0), (1003, 1003), (2004, 2003), (90_000, 90_000), (91_001, 91_000)]);
        // Back by an hour: time goes on from there instead of standing still.
        check(1000, &[(3_600_000, 3_600_000), (500, 500), (1501, 1500)]);
    }

    #[tokio::test(start_paused = true)]
    async fn missed_scrapes_are_skipped() {
        let mut schedule = Schedule::new(Duration::from_secs(10), 0, 0);
        let first = schedule.next();
        tokio::time::sleep_until(first).await;
        assert_eq!(schedule.begin(10_000), 10_000);
        assert_eq!(schedule.next(), first + Duration::from_secs(10));
        tokio::time::sleep(Duration::from_secs(35)).await;
        assert_eq!(schedule.begin(45_000), 45_000);
        assert_eq!(schedule.next(), first + Duration::from_secs(40));
    }
}
