//! How many samples a query holds, has held and has read.

use std::cell::Cell;

use super::failure::QueryFailure;
use crate::value::QueryStats;

/// Counts samples as Prometheus does: what an operator is given counts until it is done, also when
/// streaming made it unnecessary to hold it, so that the same queries are refused.
#[derive(Debug)]
pub(super) struct SampleCount {
    held_max: u64,
    held: Cell<u64>,
    peak: Cell<u64>,
    queryable: Cell<u64>,
    read: Cell<u64>,
}

impl SampleCount {
    /// Nothing held; at most `held_max` may be.
    pub(super) const fn new(held_max: u64) -> Self {
        Self {
            held_max,
            held: Cell::new(0),
            peak: Cell::new(0),
            queryable: Cell::new(0),
            read: Cell::new(0),
        }
    }

    /// Holds `samples` more.
    ///
    /// # Errors
    /// [`QueryFailure::TooManySamples`]
    pub(super) fn hold(&self, samples: u64) -> Result<(), QueryFailure> {
        let held = self.held.get().saturating_add(samples);
        self.held.set(held);
        self.peak.set(self.peak.get().max(held));
        if held > self.held_max { Err(QueryFailure::TooManySamples) } else { Ok(()) }
    }

    /// Fails if `samples` more could not be held.
    ///
    /// # Errors
    /// [`QueryFailure::TooManySamples`]
    pub(super) fn hold_for_a_moment(&self, samples: u64) -> Result<(), QueryFailure> {
        let held = self.held.get();
        let result = self.hold(samples);
        self.held.set(held);
        result
    }

    /// Samples held now.
    pub(super) fn held(&self) -> u64 {
        self.held.get()
    }

    /// What was held since there were `held` is let go, but for `kept`.
    pub(super) fn release_to(&self, held: u64, kept: u64) {
        self.held.set(held.saturating_add(kept));
    }

    /// `samples` were looked at, of which steps share some.
    pub(super) fn looked_at(&self, samples: u64) {
        self.queryable.set(self.queryable.get().saturating_add(samples));
    }

    /// `samples` were decoded.
    pub(super) fn decoded(&self, samples: u64) {
        self.read.set(self.read.get().saturating_add(samples));
    }

    /// What the query cost.
    pub(super) fn stats(&self) -> QueryStats {
        QueryStats {
            samples_queryable: self.queryable.get(),
            samples_read: self.read.get(),
            samples_peak: self.peak.get(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_remembered_and_the_bound_kept() {
        let count = SampleCount::new(10);
        count.hold(6).unwrap();
        let before = count.held();
        count.hold(4).unwrap();
        assert!(matches!(count.hold(1), Err(QueryFailure::TooManySamples)));
        count.release_to(before, 1);
        assert_eq!(count.held(), 7);
        assert!(count.hold_for_a_moment(4).is_err());
        assert_eq!((count.held(), count.stats().samples_peak), (7, 11));
    }
}
