//! How long is waited before a list or watch that failed is tried again.

use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use foldhash::fast::RandomState;
use kube::runtime::utils::Backoff;
use tokio::time::Instant;

/// The first wait at most.
const FIRST: Duration = Duration::from_millis(400);
/// Any wait at most. What is known may be old while a watch does not work, and decisions are made from it all the same: a server that
/// is back should not be waited for. A handful of watches that ask this often are no load.
const LONGEST: Duration = Duration::from_secs(2);
/// After this long without a failure the next one is a first one.
const FORGIVEN_AFTER: Duration = Duration::from_secs(30);

/// Waits that double from [`FIRST`] to [`LONGEST`], each shorter by up to a half, so that those who failed together do not come back
/// together. It has no end.
///
/// A success does not make it begin anew, since a watch tells that it begins before its server has answered; time does.
#[derive(Debug, Default)]
pub(super) struct Retry {
    failures: u32,
    last: Option<Instant>,
}

impl Iterator for Retry {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = Instant::now();
        if self.last.is_some_and(|last| now.duration_since(last) >= FORGIVEN_AFTER) {
            self.failures = 0;
        }
        self.last = Some(now);
        let longest = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        Some(longest.mul_f64(1.0 - coin() / 2.0))
    }
}

impl Backoff for Retry {
    fn reset(&mut self) {}
}

/// From 0 to 1.
fn coin() -> f64 {
    // Each state has random keys: enough of a coin for this.
    let random = RandomState::default().build_hasher().finish();
    f64::from(u32::try_from(random >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The waits of a watch that fails `count` times in a row.
    async fn waits(retry: &mut Retry, count: usize) -> Vec<Duration> {
        let mut waits = Vec::new();
        for _ in 0..count {
            let wait = retry.next().unwrap();
            tokio::time::advance(wait).await;
            // What the client library does when it begins a list.
            retry.reset();
            waits.push(wait);
        }
        waits
    }

    #[tokio::test(start_paused = true)]
    async fn waits_grow_to_two_seconds_and_no_further() {
        let waits = waits(&mut Retry::default(), 1000).await;
        for (wait, longest_ms) in waits.iter().zip([400_u64, 800, 1600, 2000, 2000, 2000]) {
            let longest = Duration::from_millis(longest_ms);
            assert!((longest / 2..=longest).contains(wait), "{wait:?} of {longest:?}");
        }
        assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_fail_together_come_back_apart() {
        let mut firsts: Vec<_> = (0..50).map(|_| Retry::default().next().unwrap()).collect();
        firsts.sort_unstable();
        firsts.dedup();
        assert!(firsts.len() > 40, "{firsts:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_after_a_quiet_time_is_a_first_one() {
        let mut retry = Retry::default();
        waits(&mut retry, 5).await;
        assert!(retry.next().unwrap() >= Duration::from_secs(1));
        tokio::time::advance(FORGIVEN_AFTER).await;
        assert!(retry.next().unwrap() <= FIRST);
    }
}
