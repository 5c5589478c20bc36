//! Start timestamps: since when a sample has counted.
//!
//! Where they are known they tell of counter resets that values hide, and of a zero before the first sample. 0 is unknown.

use model::Timestamp;

/// A sample's start timestamp and time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted {
    pub(super) since: Timestamp,
    pub(super) t: Timestamp,
}

impl Counted {
    /// Whether the sample started to count after `before` was taken.
    pub(super) const fn is_reset_since(self, before: Self) -> bool {
        // A start at or after the sample's own time is unknown, or wrong.
        if self.since == 0 || self.since >= self.t || self.since < before.t {
            return false;
        }
        if self.since > before.t {
            return true;
        }
        // It starts where the one before was taken: a delta, unless the start of that one is unknown, too.
        before.since <= before.t && before.since != 0 && before.since != before.t
    }

    /// Whether the sample started to count before `before` was taken, but not when that did.
    pub(super) const fn overlaps(self, before: Self) -> bool {
        self.since != 0 && self.since < before.t && self.since != before.since
    }

    /// When the counter was zero, if that is after `start`.
    pub(super) const fn zero_after(self, start: Timestamp) -> Option<Timestamp> {
        if self.since != 0 && self.since > start && self.since < self.t {
            Some(self.since)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn counted(since: Timestamp, t: Timestamp) -> Counted {
        Counted { since, t }
    }

    #[test]
    fn a_start_after_the_sample_before_is_a_reset() {
        for (before, after, expected) in [
            (counted(5, 10), counted(15, 20), true),
            (counted(5, 10), counted(5, 20), false),
            (counted(5, 10), counted(0, 20), false),
            (counted(5, 10), counted(20, 20), false),
            (counted(5, 10), counted(25, 20), false),
            // A delta follows a delta; but after an unknown start, equal times say nothing.
            (counted(5, 10), counted(10, 20), true),
            (counted(0, 10), counted(10, 20), false),
            (counted(10, 10), counted(10, 20), false),
            (counted(15, 10), counted(10, 20), false),
        ] {
            assert_eq!(after.is_reset_since(before), expected, "{before:?} {after:?}");
        }
    }

    #[test]
    fn overlaps_and_zeros() {
        assert!(counted(5, 20).overlaps(counted(2, 10)));
        assert!(!counted(5, 20).overlaps(counted(5, 10)));
        assert!(!counted(10, 20).overlaps(counted(2, 10)));
        assert!(!counted(0, 20).overlaps(counted(2, 10)));
        assert_eq!(counted(5, 20).zero_after(4), Some(5));
        assert_eq!(counted(5, 20).zero_after(5), None);
        assert_eq!(counted(20, 20).zero_after(4), None);
    }
}
