//! Cumulative measurements of a container or a node, and the usage between two of them.

use metrics_api::Usage;

/// One measurement of a container or of a node, as a kubelet reported it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// When it was measured, in milliseconds since the epoch.
    pub at_ms: i64,
    /// When the container started, in milliseconds since the epoch; unknown for nodes.
    pub start_ms: Option<i64>,
    /// CPU time used since the start, in nanoseconds.
    pub cpu_ns: u64,
    /// Working set, in bytes.
    pub memory_bytes: u64,
    /// Swap in use, in bytes, where it is reported.
    pub swap_bytes: Option<u64>,
}

impl Point {
    /// Whether this can be a measurement of something that runs: kubelets report zeros for
    /// containers that are starting or gone.
    #[must_use]
    pub const fn is_plausible(&self) -> bool {
        self.at_ms > 0 && self.cpu_ns > 0 && self.memory_bytes > 0
    }
}

const UNKNOWN_START: i64 = i64::MIN;
const UNKNOWN_SWAP: u64 = u64::MAX;
const NO_BASE: i64 = i64::MIN;

/// The latest point of a container and the one that its rate is taken from.
///
/// 64 bytes, since a large cluster has 300,000 of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Measured {
    at_ms: i64,
    start_ms: i64,
    cpu_ns: u64,
    memory_bytes: u64,
    swap_bytes: u64,
    base_at_ms: i64,
    base_start_ms: i64,
    base_cpu_ns: u64,
}

/// A container whose CPU time is known from its start needs only one measurement, if that is
/// not closer to the start than this: the mean over a shorter time says little.
const FRESH_WINDOW_MS_MIN: i64 = 10_000;

impl Measured {
    /// A point without anything to take a rate from.
    fn new(point: &Point) -> Self {
        Self {
            at_ms: point.at_ms,
            start_ms: point.start_ms.unwrap_or(UNKNOWN_START),
            cpu_ns: point.cpu_ns,
            memory_bytes: point.memory_bytes,
            swap_bytes: point.swap_bytes.unwrap_or(UNKNOWN_SWAP),
            base_at_ms: NO_BASE,
            base_start_ms: UNKNOWN_START,
            base_cpu_ns: 0,
        }
    }

    /// `point`, which came after `before`.
    ///
    /// The outcome depends on the measurements alone and not on when they were fetched, so two
    /// replicas that saw the same ones show the same usage over the same window.
    pub(super) fn after(before: Option<&Self>, point: &Point, resolution_ms: i64) -> Self {
        let mut now = Self::new(point);
        let age_ms = point.start_ms.map(|start_ms| now.at_ms.saturating_sub(start_ms));
        if let Some(age_ms) = age_ms
            && (FRESH_WINDOW_MS_MIN..resolution_ms).contains(&age_ms)
        {
            now.rate_from(now.start_ms, now.start_ms, 0);
            return now;
        }
        let Some(before) = before else { return now };
        let restarted = now.start_ms >= before.at_ms;
        if restarted {
            return now;
        }
        if now.at_ms > before.at_ms {
            now.rate_from(before.at_ms, before.start_ms, before.cpu_ns);
        } else if before.base_at_ms != NO_BASE && before.base_at_ms < now.at_ms {
            now.rate_from(before.base_at_ms, before.base_start_ms, before.base_cpu_ns);
        }
        now
    }

    /// Takes the rate from an earlier point unless a counter or a start time that went back
    /// shows that something else was measured then.
    fn rate_from(&mut self, at_ms: i64, start_ms: i64, cpu_ns: u64) {
        if self.cpu_ns >= cpu_ns && self.start_ms >= start_ms {
            self.base_at_ms = at_ms;
            self.base_start_ms = start_ms;
            self.base_cpu_ns = cpu_ns;
        }
    }

    pub(super) const fn at_ms(&self) -> i64 {
        self.at_ms
    }

    /// The time over which the rate is taken, if there is one; always positive.
    pub(super) const fn window_ms(&self) -> Option<i64> {
        if self.base_at_ms == NO_BASE { None } else { Some(self.at_ms - self.base_at_ms) }
    }

    pub(super) fn usage(&self) -> Option<Usage> {
        let window_ms = self.window_ms()?;
        Some(Usage {
            cpu_nanocores: nanocores(self.cpu_ns - self.base_cpu_ns, window_ms),
            memory_bytes: self.memory_bytes,
            swap_bytes: (self.swap_bytes != UNKNOWN_SWAP).then_some(self.swap_bytes),
        })
    }
}

/// Mean use of `cpu_ns` of CPU time over `window_ms`, in billionths of a core.
///
/// The arithmetic is that of metrics-server, in floating point, so that the same measurements
/// give the same digits.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::cast_possible_truncation,
    reason = "the published value has these roundings"
)]
fn nanocores(cpu_ns: u64, window_ms: i64) -> u64 {
    let seconds = (window_ms / 1000) as f64 + ((window_ms % 1000) * 1_000_000) as f64 / 1e9;
    (cpu_ns as f64 / seconds) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESOLUTION_MS: i64 = 15_000;
    const START_MS: i64 = 1_000_000;

    fn point(at_s: i64, start_s: Option<i64>, cpu_ms: u64) -> Point {
        Point {
            at_ms: START_MS + at_s * 1000,
            start_ms: start_s.map(|s| START_MS + s * 1000),
            cpu_ns: cpu_ms * 1_000_000,
            memory_bytes: 7,
            swap_bytes: None,
        }
    }

    /// Feeds `points` of (second, start second, CPU milliseconds) and compares the last rate
    /// with (window in seconds, nanocores).
    fn check(why: &str, points: &[(i64, Option<i64>, u64)], expected: Option<(i64, u64)>) {
        let mut measured: Option<Measured> = None;
        for (at_s, start_s, cpu_ms) in points {
            let point = point(*at_s, *start_s, *cpu_ms);
            measured = Some(Measured::after(measured.as_ref(), &point, RESOLUTION_MS));
        }
        let measured = measured.unwrap();
        let rate = measured
            .usage()
            .map(|usage| (measured.window_ms().unwrap() / 1000, usage.cpu_nanocores));
        assert_eq!(rate, expected, "{why}");
    }

    #[test]
    fn a_rate_is_taken_between_the_last_two_points_of_one_run() {
        let old = Some(-3600);
        check("one point is no rate", &[(0, old, 500)], None);
        check("two points", &[(0, old, 500), (10, old, 1500)], Some((10, 100_000_000)));
        check(
            "the last two of three",
            &[(0, old, 1), (10, old, 2), (30, old, 22)],
            Some((20, 1_000_000)),
        );
        check("idle", &[(0, old, 500), (10, old, 500)], Some((10, 0)));
        check("without start times", &[(0, None, 500), (10, None, 1500)], Some((10, 100_000_000)));
        check(
            "the same point twice keeps the rate",
            &[(0, old, 500), (10, old, 1500), (10, old, 1500)],
            Some((10, 100_000_000)),
        );
        check(
            "an older point between the two takes the place of the later",
            &[(0, old, 500), (10, old, 1500), (5, old, 1000)],
            Some((5, 100_000_000)),
        );
        check(
            "a point older than both starts anew",
            &[(5, old, 500), (10, old, 1500), (5, old, 500)],
            None,
        );
    }

    #[test]
    fn a_restart_is_no_rate() {
        let old = Some(-3600);
        check("restarted after the last point", &[(0, old, 500), (5, Some(1), 900)], None);
        check("restarted at the last point", &[(0, old, 500), (5, Some(0), 900)], None);
        check("a counter that went back", &[(0, old, 500), (15, old, 499)], None);
        check(
            "and the next rate is from there",
            &[(0, old, 500), (15, old, 5), (25, old, 15)],
            Some((10, 1_000_000)),
        );
        check("a start time that went back", &[(0, old, 500), (15, Some(-3601), 900)], None);
        check("a start time that is no longer known", &[(0, old, 500), (15, None, 900)], None);
        check(
            "a restart followed by two points",
            &[(0, old, 500), (20, Some(3), 100), (40, Some(3), 300)],
            Some((20, 10_000_000)),
        );
    }

    #[test]
    fn a_fresh_container_has_used_its_cpu_since_it_started() {
        check("10 s old", &[(10, Some(0), 1000)], Some((10, 100_000_000)));
        check("14 s old", &[(14, Some(0), 1400)], Some((14, 100_000_000)));
        check("too young", &[(9, Some(0), 1000)], None);
        check("as old as the resolution", &[(15, Some(0), 1000)], None);
        check(
            "the start goes before an earlier point",
            &[(5, Some(0), 1), (12, Some(0), 1200)],
            Some((12, 100_000_000)),
        );
        check(
            "a restart between two scrapes of a container that is old enough",
            &[(0, Some(-3600), 90_000), (13, Some(1), 1200)],
            Some((12, 100_000_000)),
        );
        check("started in the future", &[(0, Some(12), 1000)], None);
    }

    #[test]
    fn nanocores_are_truncated_as_upstream_does() {
        // 1/3 of a core over 3 s, and a window with milliseconds.
        assert_eq!(nanocores(1_000_000_000, 3000), 333_333_333);
        assert_eq!(nanocores(15_123_000_000, 15_123), 1_000_000_000);
        assert_eq!(nanocores(0, 1), 0);
        assert_eq!(nanocores(u64::MAX, 1), u64::MAX);
    }

    #[test]
    fn zeros_are_not_measurements() {
        let good = point(0, None, 1);
        assert!(good.is_plausible());
        assert!(!Point { cpu_ns: 0, ..good }.is_plausible());
        assert!(!Point { memory_bytes: 0, ..good }.is_plausible());
        assert!(!Point { at_ms: 0, ..good }.is_plausible());
    }

    #[test]
    fn swap_is_passed_on_where_it_is_known() {
        let first = point(0, None, 1);
        let second = Point { swap_bytes: Some(4096), ..point(10, None, 2) };
        let measured = Measured::after(Some(&Measured::new(&first)), &second, RESOLUTION_MS);
        assert_eq!(measured.usage().unwrap().swap_bytes, Some(4096));
        let third = Measured::after(Some(&measured), &point(20, None, 3), RESOLUTION_MS);
        assert_eq!(third.usage().unwrap().swap_bytes, None);
    }
}
