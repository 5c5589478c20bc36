//! Whether this process may write.

use std::fmt;
use std::future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use super::uptime::Uptime;

/// Not leading.
const NEVER: u64 = 0;
/// Leading without an election.
const ALWAYS: u64 = u64::MAX;

/// Whether this process may write. Clones say the same.
///
/// One leadership is gained at most once and lost at most once; after that the process starts anew.
#[derive(Clone)]
pub struct Leadership(Arc<Shared>);

struct Shared {
    /// Up to when writing is allowed, in nanoseconds of `uptime`.
    until: AtomicU64,
    uptime: Uptime,
    /// The election has ended: nothing is gained any more.
    over: AtomicBool,
    /// Told of gain and loss; a deadline that passes is not told.
    changes: watch::Sender<()>,
}

impl fmt::Debug for Leadership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leadership").field("remaining", &self.remaining()).finish()
    }
}

impl Leadership {
    /// That of a controller which is alone.
    #[must_use]
    pub fn always() -> Self {
        let shared = Shared {
            until: AtomicU64::new(ALWAYS),
            uptime: Uptime::new(|| Duration::ZERO),
            over: AtomicBool::new(false),
            changes: watch::Sender::new(()),
        };
        Self(Arc::new(shared))
    }

    /// One that is still to be gained.
    pub(super) fn pending(uptime: Uptime) -> Self {
        let (until, over) = (AtomicU64::new(NEVER), AtomicBool::new(false));
        Self(Arc::new(Shared { until, uptime, over, changes: watch::Sender::new(()) }))
    }

    /// Whether a write may be sent now. Ask right before each.
    #[must_use]
    pub fn may_write(&self) -> bool {
        self.remaining().is_some()
    }

    /// For how long writes may be sent if no further renewal succeeds; `None` if they may not. A bound for the time that a
    /// write may take: what is still under way then is not waited for.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        match self.0.until.load(Ordering::SeqCst) {
            NEVER => None,
            ALWAYS => Some(Duration::MAX),
            until => {
                let left = Duration::from_nanos(until).saturating_sub(self.0.uptime.now());
                (!left.is_zero()).then_some(left)
            }
        }
    }

    /// Waits until writing is allowed, or until the election has ended, however it did: then it never is. Ask
    /// [`Self::may_write`] which.
    pub async fn acquired(&self) {
        let mut changes = self.0.changes.subscribe();
        while !self.may_write() && !self.0.over.load(Ordering::SeqCst) {
            if changes.changed().await.is_err() {
                future::pending::<()>().await;
            }
        }
    }

    /// Waits until writing is not allowed, or no longer. Whoever stops on it still asks [`Self::may_write`] before writing, for
    /// this one is woken by the runtime and may be late.
    pub async fn lost(&self) {
        let mut changes = self.0.changes.subscribe();
        while let Some(left) = self.remaining() {
            tokio::select! {
                _ = changes.changed() => {}
                () = tokio::time::sleep(left) => {}
            }
        }
    }

    /// Writing is allowed until `until` of the uptime.
    pub(super) fn gain(&self, until: Duration) {
        self.0.until.store(nanos(until), Ordering::SeqCst);
        self.0.changes.send_replace(());
    }

    /// Moves the deadline on, unless it has passed: what was lost is not found again, since others may have written meanwhile.
    /// Says whether it did.
    pub(super) fn extend(&self, until: Duration) -> bool {
        if !self.may_write() {
            return false;
        }
        // Only the election changes it, and it waits for this. The deadline may pass in between: what somebody may have seen as
        // lost is lost.
        let before = self.0.until.fetch_max(nanos(until), Ordering::SeqCst);
        let in_time = Duration::from_nanos(before) > self.0.uptime.now();
        if !in_time {
            self.end();
        }
        in_time
    }

    /// The election is over. What was gained lasts until its deadline.
    pub(super) fn over(&self) {
        self.0.over.store(true, Ordering::SeqCst);
        self.0.changes.send_replace(());
    }

    /// Nothing may be written any more.
    pub(super) fn end(&self) {
        self.0.until.store(NEVER, Ordering::SeqCst);
        self.0.changes.send_replace(());
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(ALWAYS - 1).clamp(NEVER + 1, ALWAYS - 1)
}
