//! The rate of requests to the API server: first come, first served.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Lets requests through at a rate, and some at once after a quiet time.
///
/// Whoever asks is given the next free moment and waits for it, so that nobody is overtaken and nothing is queued but the waiting
/// tasks themselves, whose number their own limits bound.
#[derive(Debug)]
pub(super) struct Rate {
    interval: Duration,
    /// How far ahead of the moments that the rate gives requests may be.
    ahead: Duration,
    /// The moment that the rate gives to the next request.
    next: Mutex<Option<Instant>>,
}

impl Rate {
    /// `qps` requests a second, and `burst` at once; both positive.
    pub(super) fn new(qps: f64, burst: u32) -> Self {
        let interval = Duration::from_secs_f64((1.0 / qps).clamp(1e-9, 3600.0));
        Self {
            interval,
            ahead: interval.saturating_mul(burst.saturating_sub(1)),
            next: Mutex::new(None),
        }
    }

    /// Returns when the request may be sent.
    pub(super) async fn turn(&self) {
        let moment = self.reserve(Instant::now());
        // A sleep of nothing would still go through the timer.
        if moment > Instant::now() {
            tokio::time::sleep_until(moment).await;
        }
    }

    /// The moment of the next request, which is taken thereby; one that has passed may be used at once.
    pub(super) fn reserve(&self, now: Instant) -> Instant {
        let mut next = self.next.lock();
        let given = next.map_or(now, |next| next.max(now));
        *next = Some(given + self.interval);
        given.checked_sub(self.ahead).unwrap_or(now).max(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_the_rest_is_paced() {
        let rate = Rate::new(10.0, 5);
        let begin = Instant::now();
        for _ in 0..5 {
            rate.turn().await;
        }
        assert_eq!(begin.elapsed(), Duration::ZERO);
        for _ in 0..10 {
            rate.turn().await;
        }
        assert_eq!(begin.elapsed(), Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_overtaken() {
        let rate = std::sync::Arc::new(Rate::new(1.0, 1));
        let (done, mut order) = tokio::sync::mpsc::channel(8);
        for n in 0..4 {
            let (rate, done) = (std::sync::Arc::clone(&rate), done.clone());
            tokio::spawn(async move {
                rate.turn().await;
                let _ = done.send(n).await;
            });
        }
        drop(done);
        let mut seen = Vec::new();
        while let Some(n) = order.recv().await {
            seen.push(n);
        }
        assert_eq!(seen, [0, 1, 2, 3]);
    }
}
