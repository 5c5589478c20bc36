//! The time of day as an argument.
//!
//! Code that needs "now" takes a [`Clock`], so that tests and replays decide what time it is.
//! Waiting is not the clock's business: schedulers wait on the runtime's monotonic timers.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::Timestamp;

/// Tells the time of day.
pub trait Clock: Send + Sync {
    /// The current time in milliseconds since the epoch.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place where the real time enters")]
    fn now(&self) -> Timestamp {
        let now = SystemTime::now();
        match now.duration_since(UNIX_EPOCH) {
            Ok(since) => Timestamp::try_from(since.as_millis()).unwrap_or(Timestamp::MAX),
            Err(before) => {
                Timestamp::try_from(before.duration().as_millis()).map_or(Timestamp::MIN, |ms| -ms)
            }
        }
    }
}

/// A clock that stands still until it is told otherwise.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that shows `now`.
    #[must_use]
    pub const fn new(now: Timestamp) -> Self {
        Self(AtomicI64::new(now))
    }

    /// Makes the clock show `now`; it may go backwards, as real ones do.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now, Ordering::SeqCst);
    }

    /// Moves the clock on by `ms` milliseconds.
    pub fn advance(&self, ms: i64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.0.load(Ordering::SeqCst)
    }
}
