//! The times at which an expression is evaluated.

use model::Timestamp;

/// Evenly spaced times. An instant query has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Steps {
    /// The first time.
    pub(super) start: Timestamp,
    /// Milliseconds from one time to the next, positive.
    pub(super) interval: i64,
    /// Number of times.
    pub(super) count: usize,
    /// They are those of a range that ends after it starts, if perhaps before a second step.
    pub(super) is_range: bool,
}

impl Steps {
    /// The times `start`, `start + interval`, … up to `end`; none when `end` is before `start`.
    pub(super) fn new(start: Timestamp, end: Timestamp, interval: i64) -> Self {
        let interval = interval.max(1);
        let count = match end.checked_sub(start) {
            Some(span) if span < 0 => 0,
            span => {
                usize::try_from(span.unwrap_or(i64::MAX) / interval).unwrap_or(usize::MAX - 1) + 1
            }
        };
        Self { start, interval, count, is_range: end > start }
    }

    /// One time.
    pub(super) const fn single(at: Timestamp) -> Self {
        Self { start: at, interval: 1, count: 1, is_range: false }
    }

    /// Only the first time.
    pub(super) fn first(self) -> Self {
        Self { count: self.count.min(1), is_range: false, ..self }
    }

    /// The `step`-th time; `step` is below `count`.
    #[inline]
    pub(super) fn at(self, step: usize) -> Timestamp {
        self.start + self.interval * i64::try_from(step).unwrap_or(i64::MAX)
    }

    /// The last time, the start when there is none.
    pub(super) fn last(self) -> Timestamp {
        self.at(self.count.saturating_sub(1))
    }

    /// How many of the times `holds` is true for, which is so up to one of them and not behind it.
    pub(super) fn count_while(self, holds: impl Fn(Timestamp) -> bool) -> usize {
        let (mut from, mut to) = (0, self.count);
        while from < to {
            let middle = from + (to - from) / 2;
            if holds(self.at(middle)) {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        from
    }

    /// All times in order.
    pub(super) fn iter(self) -> impl Iterator<Item = Timestamp> {
        (0..self.count).map(move |step| self.at(step))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_time_is_the_last_that_fits() {
        for (start, end, interval, expected) in [
            (0, 0, 10, vec![0]),
            (0, 9, 10, vec![0]),
            (0, 10, 10, vec![0, 10]),
            (-5, 16, 10, vec![-5, 5, 15]),
            (1, 0, 10, vec![]),
        ] {
            let steps = Steps::new(start, end, interval);
            assert_eq!(steps.iter().collect::<Vec<_>>(), expected, "{start}..{end} by {interval}");
        }
    }

    #[test]
    fn times_are_counted_up_to_one() {
        for count in 0..40 {
            let steps = Steps { start: -70, interval: 10, count, is_range: true };
            for end in -90..400 {
                let expected = steps.iter().filter(|t| *t < end).count();
                assert_eq!(steps.count_while(|t| t < end), expected, "{count} up to {end}");
            }
        }
    }

    #[test]
    fn a_range_of_one_step_is_a_range() {
        let steps = Steps::new(500, 550, 77);
        assert!(steps.count == 1 && steps.is_range && !steps.first().is_range);
        assert!(!Steps::new(500, 500, 77).is_range && !Steps::single(500).is_range);
    }

    #[test]
    fn extreme_ends_do_not_overflow() {
        let steps = Steps::new(i64::MIN, i64::MAX, 1);
        assert!(steps.count > 1 << 60);
        assert_eq!(steps.at(0), i64::MIN);
    }
}
