//! The order in which things changed, shared by the store and the index of objects.

use std::sync::atomic::{AtomicU64, Ordering};

use metrics_api::Resource;

/// A counter that every change advances; clients see it as `resourceVersion`.
///
/// It follows the clock in microseconds, so that a version given out by one replica, or before
/// a restart, means about the same to another.
#[derive(Debug, Default)]
pub struct Revision(AtomicU64);

impl Revision {
    /// The revision of the latest change.
    #[must_use]
    pub fn current(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// The revision of a change that happens now.
    pub fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// The revision of a change that happens at `now_ms`, in milliseconds since the epoch.
    pub fn next_at(&self, now_ms: i64) -> u64 {
        let clock_us = u64::try_from(now_ms).unwrap_or(0).saturating_mul(1000);
        self.0.fetch_max(clock_us, Ordering::AcqRel);
        self.next()
    }
}

/// The revisions at which something of each resource last ended.
#[derive(Debug, Default)]
pub(crate) struct Removed {
    nodes: AtomicU64,
    pods: AtomicU64,
}

impl Removed {
    /// The last one; 0 before the first.
    pub(crate) fn last(&self, resource: Resource) -> u64 {
        self.of(resource).load(Ordering::Acquire)
    }

    /// Something ended at `revision`. To be called before readers can see that it did.
    pub(crate) fn set(&self, resource: Resource, revision: u64) {
        self.of(resource).fetch_max(revision, Ordering::AcqRel);
    }

    const fn of(&self, resource: Resource) -> &AtomicU64 {
        match resource {
            Resource::Nodes => &self.nodes,
            Resource::Pods => &self.pods,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_follow_the_clock_and_never_go_back() {
        let revision = Revision::default();
        assert_eq!(revision.next(), 1);
        assert_eq!(revision.next_at(5), 5001);
        assert_eq!(revision.next_at(4), 5002);
        assert_eq!(revision.next_at(-1), 5003);
        assert_eq!(revision.current(), 5003);
    }
}
