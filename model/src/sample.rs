//! Timestamps, samples and the staleness marker.

use std::fmt;

/// Milliseconds since the Unix epoch, UTC; may be negative.
pub type Timestamp = i64;

/// One float point of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// When the value was observed.
    pub t: Timestamp,
    /// The value; any NaN payload is kept bit for bit.
    pub v: f64,
}

/// The quiet NaN that marks the end of a series until its next sample.
///
/// The payload is Prometheus's (`value.StaleNaN`, 0x7ff0000000000002), so that blocks and WAL are
/// interchangeable.
const STALE_BITS: u64 = 0x7ff0_0000_0000_0002;

/// The value that a scrape appends for a series that has vanished.
#[must_use]
pub const fn stale_marker() -> f64 {
    f64::from_bits(STALE_BITS)
}

/// Whether `v` is the staleness marker. Other NaNs are ordinary values.
#[must_use]
#[inline]
pub const fn is_stale(v: f64) -> bool {
    v.to_bits() == STALE_BITS
}

/// Names one series within one store for as long as the store's data lives; 0 is never issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesRef(pub u64);

impl fmt::Display for SeriesRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A span of time, inclusive at both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRange {
    /// First timestamp inside.
    pub min: Timestamp,
    /// Last timestamp inside.
    pub max: Timestamp,
}

impl TimeRange {
    /// Everything that a timestamp can express.
    pub const ALL: Self = Self { min: Timestamp::MIN, max: Timestamp::MAX };

    /// The span from `min` to `max`; empty when `min > max`.
    #[must_use]
    pub const fn new(min: Timestamp, max: Timestamp) -> Self {
        Self { min, max }
    }

    /// Whether `t` lies inside.
    #[must_use]
    pub const fn contains(self, t: Timestamp) -> bool {
        self.min <= t && t <= self.max
    }

    /// Whether the two spans share a timestamp.
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        self.min <= other.max && other.min <= self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stale_marker_is_one_nan_of_many() {
        assert!(is_stale(stale_marker()));
        assert!(stale_marker().is_nan());
        assert!(!is_stale(f64::NAN));
        assert!(!is_stale(f64::from_bits(0x7ff8_0000_0000_0001)));
    }

    #[test]
    fn ranges_are_closed() {
        let range = TimeRange::new(10, 20);
        assert!(range.contains(10) && range.contains(20));
        assert!(!range.contains(9) && !range.contains(21));
        assert!(range.overlaps(TimeRange::new(20, 30)));
        assert!(!range.overlaps(TimeRange::new(21, 30)));
    }
}
