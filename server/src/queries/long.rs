//! Which queries are known to take long.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

/// As many queries as are remembered at a time, about: dashboards and scripts ask the same ones again and again.
const SLOTS: usize = 1 << 10;

/// Hashes of queries that took long. Each has one place, where a later one takes that of an earlier one, so some are forgotten.
#[derive(Debug)]
pub(super) struct LongQueries {
    slots: Box<[AtomicU64]>,
    hasher: RandomState,
}

impl Default for LongQueries {
    fn default() -> Self {
        let slots = (0..SLOTS).map(|_| AtomicU64::new(0)).collect();
        Self { slots, hasher: RandomState::new() }
    }
}

impl LongQueries {
    /// What a query is remembered by.
    pub(super) fn name(&self, query: impl Hash) -> u64 {
        // 0 is an empty place.
        self.hasher.hash_one(query).max(1)
    }

    #[expect(clippy::cast_possible_truncation, reason = "the low bits are what is wanted")]
    fn slot(&self, name: u64) -> &AtomicU64 {
        &self.slots[name as usize % SLOTS]
    }

    pub(super) fn contains(&self, name: u64) -> bool {
        self.slot(name).load(Ordering::Relaxed) == name
    }

    pub(super) fn insert(&self, name: u64) {
        self.slot(name).store(name, Ordering::Relaxed);
    }

    pub(super) fn remove(&self, name: u64) {
        // Another one may have taken its place.
        let _ = self.slot(name).compare_exchange(name, 0, Ordering::Relaxed, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_remembered_until_another_takes_their_place() {
        let long = LongQueries::default();
        let (a, other, in_its_place) = (5, 6, 5 + SLOTS as u64);
        assert!(!long.contains(a));
        long.insert(a);
        long.insert(other);
        assert!(long.contains(a) && long.contains(other) && !long.contains(in_its_place));
        long.insert(in_its_place);
        long.remove(a);
        assert!(!long.contains(a) && long.contains(in_its_place));
        long.remove(in_its_place);
        assert!(!long.contains(in_its_place) && long.contains(other));
        let name = long.name(("up", 1));
        assert!(name == long.name(("up", 1)) && name != long.name(("up", 2)));
    }
}
