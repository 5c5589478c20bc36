//! Which queries are known to be short.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

/// As many queries as are remembered at a time, about: dashboards and scripts ask the same ones again and again.
const SLOTS: usize = 1 << 13;

/// Hashes of queries that were short. Each has one place, where a later one takes that of an earlier one, so some are forgotten.
#[derive(Debug)]
pub(super) struct ShortQueries {
    slots: Box<[AtomicU64]>,
    hasher: RandomState,
}

impl Default for ShortQueries {
    fn default() -> Self {
        let slots = (0..SLOTS).map(|_| AtomicU64::new(0)).collect();
        Self { slots, hasher: RandomState::new() }
    }
}

impl ShortQueries {
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
        let short = ShortQueries::default();
        let (a, other, in_its_place) = (5, 6, 5 + SLOTS as u64);
        assert!(!short.contains(a));
        short.insert(a);
        short.insert(other);
        assert!(short.contains(a) && short.contains(other) && !short.contains(in_its_place));
        short.insert(in_its_place);
        short.remove(a);
        assert!(!short.contains(a) && short.contains(in_its_place));
        short.remove(in_its_place);
        assert!(!short.contains(in_its_place) && short.contains(other));
        let name = short.name(("up", 1));
        assert!(name == short.name(("up", 1)) && name != short.name(("up", 2)));
    }
}
