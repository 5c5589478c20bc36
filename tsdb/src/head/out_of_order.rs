//! Samples that came out of order: late, but within the window that the store accepts.
//!
//! They are few, so each is kept as it is, sorted by time, until there are enough of a series for a chunk. Nothing here is in the write-ahead log
//! but in a log of its own, and nothing is in order with the rest of the head: readers merge. When they are cut into blocks, the samples so far are
//! set aside (frozen), and what comes meanwhile starts afresh.

use std::collections::{BTreeSet, HashMap};

use model::{Columns, TimeRange, Timestamp};

use super::chunk_store::file_of;
use super::range_end;
use crate::recode::SampleValue;

/// Samples of a series after which they may become a chunk. Prometheus's default.
pub(crate) const SAMPLES_PER_CHUNK: usize = 32;

/// One late sample.
#[derive(Clone, Debug)]
pub(crate) struct LateSample {
    pub(crate) t: Timestamp,
    pub(crate) value: SampleValue,
    /// Number of the batch it came with, so that a view can leave out what came later.
    pub(crate) batch: u64,
}

/// The late samples of one series.
#[derive(Clone, Debug, Default)]
pub(crate) struct LateSeries {
    /// Ascending by time, which no two share.
    pub(crate) samples: Vec<LateSample>,
    /// References of chunks that were written out, each with its span.
    pub(crate) chunks: Vec<(u64, TimeRange)>,
}

impl LateSeries {
    /// Inserts a sample; false if there is one of this time, which stays.
    fn insert(&mut self, sample: LateSample) -> bool {
        let at = self.samples.partition_point(|other| other.t < sample.t);
        if self.samples.get(at).is_some_and(|other| other.t == sample.t) {
            return false;
        }
        self.samples.insert(at, sample);
        true
    }

    /// The span of all samples.
    pub(crate) fn range(&self) -> Option<TimeRange> {
        let samples = self.samples.first().zip(self.samples.last());
        let samples = samples.map(|(first, last)| TimeRange::new(first.t, last.t));
        let spans = self.chunks.iter().map(|(_, range)| *range).chain(samples);
        spans.reduce(|a, b| TimeRange::new(a.min.min(b.min), a.max.max(b.max)))
    }

    /// Appends the samples in memory that lie in `range` and came with batch `batch_max` or before to `into`.
    pub(crate) fn copy(&self, range: TimeRange, batch_max: u64, into: &mut Vec<LateSample>) {
        let seen = |sample: &&LateSample| range.contains(sample.t) && sample.batch <= batch_max;
        into.extend(self.samples.iter().filter(seen).cloned());
    }
}

/// Appends late samples to `into` as rows.
pub(crate) fn push_rows(samples: &[LateSample], into: &mut Columns) {
    for sample in samples {
        match &sample.value {
            SampleValue::Float(v) => into.push(sample.t, *v),
            SampleValue::Histogram(histogram) => {
                into.push_histogram(sample.t, histogram.to_float());
            }
        }
    }
}

fn span_of<'l>(all: impl Iterator<Item = &'l LateSeries>) -> Option<TimeRange> {
    all.filter_map(LateSeries::range)
        .reduce(|a, b| TimeRange::new(a.min.min(b.min), a.max.max(b.max)))
}

/// Series with late samples, by ref.
pub(crate) type LateSeriesByRef = HashMap<u64, LateSeries, foldhash::fast::RandomState>;

/// All late samples.
#[derive(Debug, Default)]
pub(crate) struct OutOfOrder {
    /// What new samples join.
    current: LateSeriesByRef,
    /// What is being cut into blocks.
    frozen: LateSeriesByRef,
}

impl OutOfOrder {
    /// Inserts a sample; false if the series has one of this time that came late too.
    pub(crate) fn insert(&mut self, series: u64, sample: LateSample) -> bool {
        let t = sample.t;
        let is_frozen = self
            .frozen
            .get(&series)
            .is_some_and(|late| late.samples.binary_search_by_key(&t, |sample| sample.t).is_ok());
        !is_frozen && self.current.entry(series).or_default().insert(sample)
    }

    /// Whether there is no late sample at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.current.is_empty() && self.frozen.is_empty()
    }

    /// The parts of a series.
    pub(crate) fn of(&self, series: u64) -> impl Iterator<Item = &LateSeries> {
        [self.frozen.get(&series), self.current.get(&series)].into_iter().flatten()
    }

    pub(crate) fn contains(&self, series: u64) -> bool {
        self.current.contains_key(&series) || self.frozen.contains_key(&series)
    }

    /// Whether a late sample of the series may lie in `range`.
    pub(crate) fn overlaps(&self, series: u64, range: TimeRange) -> bool {
        self.of(series).filter_map(LateSeries::range).any(|late| late.overlaps(range))
    }

    /// The span of all late samples.
    pub(crate) fn range(&self) -> Option<TimeRange> {
        span_of(self.current.values().chain(self.frozen.values()))
    }

    /// The number of the first file with chunks of late samples.
    pub(crate) fn first_file(&self) -> Option<u32> {
        let all = self.current.values().chain(self.frozen.values());
        all.flat_map(|late| &late.chunks).map(|(chunk, _)| file_of(*chunk)).min()
    }

    /// Sets everything aside to be cut, unless something is set aside already.
    pub(crate) fn freeze(&mut self) {
        if self.frozen.is_empty() {
            self.frozen = std::mem::take(&mut self.current);
        }
    }

    /// What was set aside.
    pub(crate) fn frozen(&self) -> &LateSeriesByRef {
        &self.frozen
    }

    /// The span of what was set aside.
    pub(crate) fn frozen_range(&self) -> Option<TimeRange> {
        span_of(self.frozen.values())
    }

    /// The span of what was not set aside.
    pub(crate) fn uncut_range(&self) -> Option<TimeRange> {
        span_of(self.current.values())
    }

    /// Where the block ranges of `width` begin that have samples that were set aside. Times may be far apart, so not every range is looked at.
    pub(crate) fn frozen_starts(&self, width: i64) -> BTreeSet<Timestamp> {
        let of = |late: &LateSeries| {
            // A chunk lies within one range.
            let chunks = late.chunks.iter().map(|(_, range)| range.max);
            let times = late.samples.iter().map(|sample| sample.t).chain(chunks);
            times.map(|t| range_end(t, width).saturating_sub(width)).collect::<Vec<_>>()
        };
        self.frozen.values().flat_map(of).collect()
    }

    /// Drops what was set aside: blocks have it.
    pub(crate) fn drop_frozen(&mut self) {
        self.frozen = LateSeriesByRef::default();
    }

    /// Series whose samples in memory make a chunk.
    pub(crate) fn full(&mut self) -> impl Iterator<Item = (u64, &mut LateSeries)> {
        self.current
            .iter_mut()
            .filter(|(_, late)| late.samples.len() >= SAMPLES_PER_CHUNK)
            .map(|(series, late)| (*series, late))
    }

    /// Bytes held, about.
    pub(crate) fn bytes(&self) -> usize {
        let of = |late: &LateSeries| {
            size_of::<(u64, LateSeries)>()
                + late.samples.capacity() * size_of::<LateSample>()
                + late.chunks.capacity() * size_of::<(u64, TimeRange)>()
        };
        self.current.values().chain(self.frozen.values()).map(of).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn late(t: Timestamp, v: f64, batch: u64) -> LateSample {
        LateSample { t, value: SampleValue::Float(v), batch }
    }

    #[test]
    fn late_samples_are_sorted_and_the_first_of_a_time_stays() {
        let mut all = OutOfOrder::default();
        assert!(all.insert(1, late(30, 1.0, 1)));
        assert!(all.insert(1, late(10, 2.0, 2)));
        assert!(!all.insert(1, late(30, 3.0, 3)));
        all.freeze();
        assert!(!all.insert(1, late(10, 4.0, 4)));
        assert!(all.insert(1, late(20, 5.0, 5)));
        let mut seen = vec![];
        all.of(1).for_each(|late| late.copy(TimeRange::new(10, 25), 4, &mut seen));
        assert_eq!(seen.iter().map(|s| s.t).collect::<Vec<_>>(), [10]);
        assert_eq!(all.range(), Some(TimeRange::new(10, 30)));
        assert!(
            all.overlaps(1, TimeRange::new(15, 19)) && !all.overlaps(1, TimeRange::new(31, 40))
        );
        all.drop_frozen();
        assert_eq!(all.range(), Some(TimeRange::new(20, 20)));
        assert!(all.contains(1) && !all.contains(2) && !all.is_empty());
    }
}
