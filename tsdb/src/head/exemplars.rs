//! Exemplars: the newest few thousand of all series together.
//!
//! When there are more than the store keeps, the one that came first goes. They are in memory and in the log, never in blocks.

use std::collections::{HashMap, VecDeque};

use model::{Exemplar, Labels, Rejection, Timestamp};

/// Characters of all label names and values of an exemplar. OpenMetrics's bound.
const LABEL_CHARS_MAX: usize = 128;

/// The exemplars of one series.
#[derive(Debug)]
struct OfSeries {
    labels: Labels,
    /// Ascending by time, each with its number of arrival.
    exemplars: Vec<(u64, Exemplar)>,
}

/// All exemplars.
#[derive(Debug)]
pub(crate) struct Exemplars {
    count_max: usize,
    series: HashMap<u64, OfSeries, foldhash::fast::RandomState>,
    /// Series and number of arrival, in order of arrival.
    arrivals: VecDeque<(u64, u64)>,
    arrived: u64,
}

impl Exemplars {
    /// Keeps at most `count_max`.
    pub(crate) fn new(count_max: usize) -> Self {
        Self { count_max, series: HashMap::default(), arrivals: VecDeque::new(), arrived: 0 }
    }

    /// Keeps at most `count_max` from now on.
    pub(crate) fn resize(&mut self, count_max: usize) {
        self.count_max = count_max;
        self.evict(count_max);
    }

    pub(crate) fn len(&self) -> usize {
        self.arrivals.len()
    }

    /// Whether the exemplar may be added to a series; false if it is there already.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn check(
        &self,
        series: u64,
        exemplar: &Exemplar,
        window: i64,
    ) -> Result<bool, Rejection> {
        if self.count_max == 0 {
            return Err(Rejection::ExemplarsDisabled);
        }
        let chars = |text: &str| text.chars().count();
        let total: usize =
            exemplar.labels.iter().map(|label| chars(label.name) + chars(label.value)).sum();
        if total > LABEL_CHARS_MAX {
            return Err(Rejection::ExemplarLabelLength);
        }
        let newest = self.series.get(&series).and_then(|of| of.exemplars.last());
        let Some((_, newest)) = newest else { return Ok(true) };
        if newest == exemplar {
            return Ok(false);
        }
        let is_old = exemplar.t < newest.t && exemplar.t <= newest.t.saturating_sub(window);
        // Native histograms bring several of one time, ordered by value.
        let is_before = exemplar.t == newest.t && exemplar.v < newest.v;
        if is_old || is_before {
            return Err(Rejection::OutOfOrderExemplar);
        }
        Ok(exemplar.t >= newest.t || !self.has(series, exemplar.t))
    }

    fn has(&self, series: u64, t: Timestamp) -> bool {
        let of = self.series.get(&series);
        of.is_some_and(|of| of.exemplars.iter().any(|(_, exemplar)| exemplar.t == t))
    }

    /// Adds an exemplar of the series with these labels.
    pub(crate) fn add(&mut self, series: u64, labels: impl FnOnce() -> Labels, exemplar: Exemplar) {
        if self.count_max == 0 {
            return;
        }
        self.evict(self.count_max - 1);
        let of = self
            .series
            .entry(series)
            .or_insert_with(|| OfSeries { labels: labels(), exemplars: Vec::new() });
        let at = of.exemplars.partition_point(|(_, other)| other.t <= exemplar.t);
        of.exemplars.insert(at, (self.arrived, exemplar));
        self.arrivals.push_back((series, self.arrived));
        self.arrived += 1;
    }

    fn evict(&mut self, count: usize) {
        while self.arrivals.len() > count {
            let Some((series, arrival)) = self.arrivals.pop_front() else { return };
            if let Some(of) = self.series.get_mut(&series) {
                of.exemplars.retain(|(number, _)| *number != arrival);
                if of.exemplars.is_empty() {
                    self.series.remove(&series);
                }
            }
        }
    }

    /// All series with their exemplars in order of time.
    pub(crate) fn iter(
        &self,
    ) -> impl Iterator<Item = (u64, &Labels, impl Iterator<Item = &Exemplar>)> {
        self.series.iter().map(|(series, of)| {
            (*series, &of.labels, of.exemplars.iter().map(|(_, exemplar)| exemplar))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exemplar(t: Timestamp, v: f64) -> Exemplar {
        Exemplar { labels: Labels::from_pairs([("id", "a")]).unwrap(), t, v }
    }

    fn times(exemplars: &Exemplars, wanted: u64) -> Vec<Timestamp> {
        let found = exemplars.iter().find(|(series, ..)| *series == wanted);
        found.map_or(vec![], |(_, _, all)| all.map(|exemplar| exemplar.t).collect())
    }

    #[test]
    fn the_first_to_come_goes_first() {
        let mut all = Exemplars::new(3);
        for (series, t) in [(1, 10), (2, 5), (1, 20), (2, 6)] {
            assert_eq!(all.check(series, &exemplar(t, 1.0), 0), Ok(true));
            all.add(series, Labels::empty, exemplar(t, 1.0));
        }
        assert_eq!((times(&all, 1), times(&all, 2)), (vec![20], vec![5, 6]));
        all.resize(1);
        assert_eq!((times(&all, 1), times(&all, 2), all.len()), (vec![], vec![6], 1));
    }

    #[test]
    fn what_cannot_be_added_is_told_apart() {
        let mut all = Exemplars::new(9);
        all.add(1, Labels::empty, exemplar(100, 2.0));
        assert_eq!(all.check(1, &exemplar(100, 2.0), 0), Ok(false));
        assert_eq!(all.check(1, &exemplar(100, 1.0), 0), Err(Rejection::OutOfOrderExemplar));
        assert_eq!(all.check(1, &exemplar(100, 3.0), 0), Ok(true));
        assert_eq!(all.check(1, &exemplar(99, 3.0), 0), Err(Rejection::OutOfOrderExemplar));
        assert_eq!(all.check(1, &exemplar(99, 3.0), 50), Ok(true));
        let long = Labels::from_pairs([("id", "é".repeat(127))]).unwrap();
        let long = Exemplar { labels: long, t: 200, v: 1.0 };
        assert_eq!(all.check(1, &long, 0), Err(Rejection::ExemplarLabelLength));
        assert_eq!(Exemplars::new(0).check(1, &long, 0), Err(Rejection::ExemplarsDisabled));
    }
}
