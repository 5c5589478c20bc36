//! A clock that nobody can set and that goes on while the process is stopped or the machine sleeps.

use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Time since some fixed moment, never going back.
#[derive(Clone)]
pub(super) struct Uptime(Arc<dyn Fn() -> Duration + Send + Sync>);

impl Uptime {
    /// The machine's, which counts suspended time: a laptop or a virtual machine that wakes up must not find its lease fresh.
    /// `Instant` does not count it on Linux.
    pub(super) fn of_machine() -> Self {
        Self::new(|| {
            let now = clock_gettime(ClockId::Boottime);
            let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
            Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0))
        })
    }

    /// What `read` says.
    pub(super) fn new(read: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    pub(super) fn now(&self) -> Duration {
        (self.0)()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_does_not_go_back() {
        let uptime = Uptime::of_machine();
        let first = uptime.now();
        assert!(first > Duration::ZERO);
        assert!(uptime.now() >= first);
    }
}
