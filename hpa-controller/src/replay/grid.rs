//! The times at which a replay decides.

use model::Timestamp;

use super::ReplayError;
use crate::sources::HistorySeries;

/// Most decisions of a replay: a year at 15 s is 2.1 million.
pub const STEPS_MAX: i64 = 3_000_000;

/// Times at equal distances, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    from: Timestamp,
    step_ms: i64,
    len: usize,
}

impl Grid {
    /// From `from` on, every `step_ms`, up to `to` (milliseconds since the epoch).
    ///
    /// # Errors
    /// [`ReplayError::Range`] if that is not between 2 and [`STEPS_MAX`] times.
    pub fn new(from: Timestamp, to: Timestamp, step_ms: i64) -> Result<Self, ReplayError> {
        let steps = if step_ms > 0 { to.saturating_sub(from) / step_ms } else { 0 };
        let range = |reason| Err(ReplayError::Range { from, to, step_ms, reason });
        if steps < 1 {
            return range("it must end at least one step after it begins");
        }
        if steps >= STEPS_MAX {
            return range("that is more than three million decisions");
        }
        let len = usize::try_from(steps + 1).unwrap_or(usize::MAX);
        Ok(Self { from, step_ms, len })
    }

    /// How many times.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a grid has at least two times")]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// The first time, in milliseconds since the epoch.
    #[must_use]
    pub const fn from(&self) -> Timestamp {
        self.from
    }

    /// The last time, in milliseconds since the epoch.
    #[must_use]
    pub fn to(&self) -> Timestamp {
        self.at(self.len - 1)
    }

    /// Distance of two times in milliseconds.
    #[must_use]
    pub const fn step_ms(&self) -> i64 {
        self.step_ms
    }

    /// The time of `step`, in milliseconds since the epoch.
    #[must_use]
    pub fn at(&self, step: usize) -> Timestamp {
        let offset = i64::try_from(step).unwrap_or(i64::MAX).saturating_mul(self.step_ms);
        self.from.saturating_add(offset)
    }

    /// A series on the grid: NaN where it has no sample.
    pub(super) fn place(&self, series: &HistorySeries) -> Vec<f64> {
        let mut placed = vec![f64::NAN; self.len];
        for (at, value) in &series.samples {
            let offset = at.saturating_sub(self.from);
            if offset >= 0
                && offset % self.step_ms == 0
                && let Ok(step) = usize::try_from(offset / self.step_ms)
                && let Some(place) = placed.get_mut(step)
            {
                *place = *value;
            }
        }
        placed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_counted_with_both_ends() {
        let week = Grid::new(0, 7 * 86_400_000, 15_000).unwrap();
        assert_eq!((week.len(), week.to()), (40_321, 7 * 86_400_000));
        let cut = Grid::new(1_000, 46_999, 15_000).unwrap();
        assert_eq!((cut.len(), cut.to()), (4, 46_000));
        for (from, to, step) in [(0, 14_999, 15_000), (5, 0, 1), (0, 10, 0), (0, 3_000_000, 1)] {
            assert!(Grid::new(from, to, step).is_err(), "{from} {to} {step}");
        }
    }

    #[test]
    fn samples_find_their_steps() {
        let grid = Grid::new(100, 400, 100).unwrap();
        let samples = vec![(0, 9.0), (100, 1.0), (250, 9.0), (300, 3.0), (500, 9.0)];
        let placed = grid.place(&HistorySeries { labels: Vec::new(), samples });
        assert_eq!(placed.len(), 4);
        assert!(placed[0] == 1.0 && placed[1].is_nan() && placed[2] == 3.0 && placed[3].is_nan());
    }
}
