//! Decoded samples of one series, as columns that the reader owns and reuses.

use std::sync::Arc;

use crate::{FloatHistogram, Sample, Timestamp};

/// The samples of one series in time order: a column of times, one of float values, and two sparse ones, native histograms and
/// start timestamps.
///
/// A store appends to the columns that the reader hands it, so one allocation serves many series. The row of a histogram holds its sum in
/// the column of floats, so that a stale marker is one whatever kind it is of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Columns {
    times: Vec<Timestamp>,
    floats: Vec<f64>,
    /// Rows that are histograms, ascending.
    histograms: Vec<(u32, Arc<FloatHistogram>)>,
    /// Empty, or one for each row; 0 where unknown.
    starts: Vec<Timestamp>,
}

impl Columns {
    /// Empty columns.
    #[must_use]
    pub const fn new() -> Self {
        Self { times: Vec::new(), floats: Vec::new(), histograms: Vec::new(), starts: Vec::new() }
    }

    /// Empty columns with room for `rows` samples.
    #[must_use]
    pub fn with_capacity(rows: usize) -> Self {
        Self {
            times: Vec::with_capacity(rows),
            floats: Vec::with_capacity(rows),
            histograms: Vec::new(),
            starts: Vec::new(),
        }
    }

    /// Adds a float sample; the caller keeps times ascending.
    #[inline]
    pub fn push(&mut self, t: Timestamp, v: f64) {
        self.times.push(t);
        self.floats.push(v);
        if !self.starts.is_empty() {
            self.starts.push(0);
        }
    }

    /// Adds a histogram; the caller keeps times ascending.
    ///
    /// # Panics
    /// If there are 2³² rows.
    pub fn push_histogram(&mut self, t: Timestamp, histogram: Arc<FloatHistogram>) {
        let row = u32::try_from(self.times.len()).expect("budgets end a query long before");
        self.push(t, histogram.sum);
        self.histograms.push((row, histogram));
    }

    /// Notes the start timestamp of the row that was added last; 0 is unknown.
    pub fn set_last_start(&mut self, start: Timestamp) {
        if self.starts.is_empty() {
            if start == 0 {
                return;
            }
            self.starts.resize(self.times.len(), 0);
        }
        if let Some(last) = self.starts.last_mut() {
            *last = start;
        }
    }

    /// Notes the start timestamps of the rows from `from` on, as `start_of` gives them for a time; 0 is unknown.
    pub fn set_starts(&mut self, from: usize, start_of: impl Fn(Timestamp) -> Timestamp) {
        let rows = self.times.len();
        if self.starts.is_empty() && self.times[from..].iter().all(|&t| start_of(t) == 0) {
            return;
        }
        self.starts.resize(rows, 0);
        for (start, &t) in self.starts[from..].iter_mut().zip(&self.times[from..]) {
            *start = start_of(t);
        }
    }

    /// Adds one sample for each pair of `times` and `floats`.
    ///
    /// # Panics
    /// If the slices differ in length.
    pub fn extend_from_slices(&mut self, times: &[Timestamp], floats: &[f64]) {
        assert_eq!(times.len(), floats.len(), "a row has a time and a value");
        self.times.extend_from_slice(times);
        self.floats.extend_from_slice(floats);
        if !self.starts.is_empty() {
            self.starts.resize(self.times.len(), 0);
        }
    }

    /// Adds up to `rows` samples: `write` gets that many rows, writes times and floats from the first on, and says how many it wrote.
    pub fn extend_with(
        &mut self,
        rows: usize,
        write: impl FnOnce(&mut [Timestamp], &mut [f64]) -> usize,
    ) {
        let before = self.len();
        self.times.resize(before + rows, 0);
        self.floats.resize(before + rows, 0.0);
        let written = write(&mut self.times[before..], &mut self.floats[before..]);
        let len = before + written.min(rows);
        self.times.truncate(len);
        self.floats.truncate(len);
        if !self.starts.is_empty() {
            self.starts.resize(len, 0);
        }
    }

    /// Adds row `row` of `other`.
    ///
    /// # Panics
    /// If `other` has no such row.
    pub fn push_row(&mut self, other: &Self, row: usize) {
        match other.histogram(row) {
            Some(histogram) => self.push_histogram(other.times[row], Arc::clone(histogram)),
            None => self.push(other.times[row], other.floats[row]),
        }
        self.set_last_start(other.start(row));
    }

    /// The times, ascending.
    #[must_use]
    #[inline]
    pub fn times(&self) -> &[Timestamp] {
        &self.times
    }

    /// The values, one for each time; the sum where the row is a histogram.
    #[must_use]
    #[inline]
    pub fn floats(&self) -> &[f64] {
        &self.floats
    }

    /// The values, to be changed in place.
    #[must_use]
    pub fn floats_mut(&mut self) -> &mut [f64] {
        &mut self.floats
    }

    /// The rows that are histograms, ascending, each with its position.
    #[must_use]
    #[inline]
    pub fn histograms(&self) -> &[(u32, Arc<FloatHistogram>)] {
        &self.histograms
    }

    /// The histogram in row `row`; `None` if the row is a float.
    #[must_use]
    pub fn histogram(&self, row: usize) -> Option<&Arc<FloatHistogram>> {
        if self.histograms.is_empty() {
            return None;
        }
        let row = u32::try_from(row).ok()?;
        let at = self.histograms.binary_search_by_key(&row, |(row, _)| *row).ok()?;
        Some(&self.histograms[at].1)
    }

    /// The start timestamp of row `row`; 0 if it is unknown.
    #[must_use]
    pub fn start(&self, row: usize) -> Timestamp {
        self.starts.get(row).copied().unwrap_or(0)
    }

    /// The start timestamps: empty if none is known, otherwise one for each row, 0 where unknown.
    #[must_use]
    pub fn starts(&self) -> &[Timestamp] {
        &self.starts
    }

    /// Time and float of row `row`, if there is such a row; of a histogram, its sum.
    #[must_use]
    pub fn get(&self, row: usize) -> Option<Sample> {
        Some(Sample { t: *self.times.get(row)?, v: *self.floats.get(row)? })
    }

    /// The last sample, as [`get`](Self::get) gives it.
    #[must_use]
    pub fn last(&self) -> Option<Sample> {
        self.get(self.len().checked_sub(1)?)
    }

    /// All samples in time order, as [`get`](Self::get) gives them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Sample> + '_ {
        self.times.iter().zip(&self.floats).map(|(&t, &v)| Sample { t, v })
    }

    /// Number of samples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether there is no sample.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// Drops the samples, keeps the memory.
    pub fn clear(&mut self) {
        self.truncate(0);
    }

    /// Keeps the first `rows` samples.
    pub fn truncate(&mut self, rows: usize) {
        self.times.truncate(rows);
        self.floats.truncate(rows);
        self.starts.truncate(rows);
        let kept = self.histograms.partition_point(|(row, _)| (*row as usize) < rows);
        self.histograms.truncate(kept);
    }

    /// Keeps the rows whose value `keeps` accepts; the sum stands for a histogram.
    ///
    /// # Panics
    /// Never: a row of a histogram has a number of 32 bits, and keeps it or gets a smaller one.
    pub fn retain(&mut self, keeps: impl Fn(f64) -> bool) {
        let Some(mut gone) = position_of(&self.floats, |v| !keeps(v)) else { return };
        let from = self.histograms.partition_point(|(row, _)| (*row as usize) < gone);
        let mut histograms = self.histograms.split_off(from).into_iter().peekable();
        let mut kept = gone;
        while gone < self.floats.len() {
            // What lies between two rows that go moves in one piece.
            let start = gone + 1;
            let next = position_of(&self.floats[start..], |v| !keeps(v));
            let end = next.map_or(self.floats.len(), |at| start + at);
            self.times.copy_within(start..end, kept);
            self.floats.copy_within(start..end, kept);
            if !self.starts.is_empty() {
                self.starts.copy_within(start..end, kept);
            }
            while let Some((row, histogram)) = histograms.next_if(|(row, _)| (*row as usize) < end)
            {
                if row as usize >= start {
                    let at = kept + (row as usize - start);
                    let at = u32::try_from(at).expect("rows of histograms are numbered so");
                    self.histograms.push((at, histogram));
                }
            }
            kept += end - start;
            gone = end;
        }
        self.truncate(kept);
    }

    /// Bytes held, whether in use or spare; of the histograms, what they hold each, shared or not.
    #[must_use]
    pub fn capacity_bytes(&self) -> usize {
        let histograms: usize =
            self.histograms.iter().map(|(_, histogram)| histogram.bytes()).sum();
        (self.times.capacity() + self.starts.capacity()) * size_of::<Timestamp>()
            + self.floats.capacity() * size_of::<f64>()
            + self.histograms.capacity() * size_of::<(u32, Arc<FloatHistogram>)>()
            + histograms
    }
}

/// Where the first of `values` is that `is_wanted`.
fn position_of(values: &[f64], is_wanted: impl Fn(f64) -> bool) -> Option<usize> {
    const AT_A_TIME: usize = 32;
    // Looking whether one of several is wanted, without a jump for each, is quicker than looking which.
    let has_wanted = |values: &[f64]| values.iter().fold(false, |any, v| any | is_wanted(*v));
    let at = values.chunks(AT_A_TIME).position(has_wanted)? * AT_A_TIME;
    values[at..].iter().position(|v| is_wanted(*v)).map(|further| at + further)
}

impl FromIterator<Sample> for Columns {
    fn from_iter<I: IntoIterator<Item = Sample>>(samples: I) -> Self {
        let mut columns = Self::new();
        for Sample { t, v } in samples {
            columns.push(t, v);
        }
        columns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(sum: f64) -> Arc<FloatHistogram> {
        Arc::new(FloatHistogram { sum, ..FloatHistogram::default() })
    }

    #[test]
    fn sparse_columns_follow_the_rows() {
        let mut columns = Columns::new();
        columns.push(1, 1.5);
        columns.push_histogram(2, histogram(7.0));
        columns.set_last_start(1);
        columns.push(3, 2.5);
        columns.push_histogram(4, histogram(8.0));
        assert_eq!(columns.floats(), [1.5, 7.0, 2.5, 8.0]);
        assert_eq!(columns.starts(), [0, 1, 0, 0]);
        assert_eq!(columns.histogram(0), None);
        assert_eq!(columns.histogram(3).unwrap().sum, 8.0);
        let mut copy = Columns::new();
        (1..3).for_each(|row| copy.push_row(&columns, row));
        assert_eq!(
            (copy.times(), copy.starts(), copy.histograms().len()),
            (&[2, 3][..], &[1, 0][..], 1)
        );
        let mut kept = columns.clone();
        kept.retain(|v| v != 2.5);
        assert_eq!((kept.times(), kept.floats()), (&[1, 2, 4][..], &[1.5, 7.0, 8.0][..]));
        assert_eq!((kept.starts(), kept.histogram(2).unwrap().sum), (&[0, 1, 0][..], 8.0));
        kept.retain(|v| v != 7.0);
        assert_eq!((kept.times(), kept.starts()), (&[1, 4][..], &[0, 0][..]));
        assert_eq!((kept.histograms().len(), kept.histogram(1).unwrap().sum), (1, 8.0));
        kept.retain(|_| true);
        assert_eq!(kept.len(), 2);
        kept.retain(|_| false);
        assert!(kept.is_empty() && kept.histograms().is_empty());
        columns.truncate(3);
        assert_eq!((columns.len(), columns.histograms().len(), columns.start(3)), (3, 1, 0));
        columns.clear();
        assert!(columns.is_empty() && columns.starts().is_empty());
    }

    /// Long stretches that stay, long ones that go, and single rows, beside a loop over all rows.
    #[test]
    fn what_is_retained_is_what_a_loop_keeps() {
        let mut state: u64 = 7;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(11);
            (state >> 33) % below
        };
        for rarity in [2, 3, 20, 200, 2_000] {
            for (len, starts, every) in
                [(0, true, 3), (1, false, 1), (500, true, 5), (997, false, 90)]
            {
                let mut columns = Columns::new();
                for t in 1..=len {
                    let v = if random(rarity) == 0 { -1.0 } else { t as f64 };
                    if t % every == 0 {
                        columns.push_histogram(t, histogram(v));
                    } else {
                        columns.push(t, v);
                    }
                    if starts && t % 2 == 0 {
                        columns.set_last_start(t - 1);
                    }
                }
                let mut expected = Columns::new();
                let keeps = |row: &usize| columns.floats()[*row] > 0.0;
                (0..columns.len()).filter(keeps).for_each(|row| expected.push_row(&columns, row));
                columns.retain(|v| v > 0.0);
                assert_eq!(columns.times(), expected.times(), "{rarity} {len}");
                assert_eq!(columns.floats(), expected.floats());
                assert_eq!(columns.histograms(), expected.histograms());
                let start =
                    |columns: &Columns, row| columns.starts().get(row).copied().unwrap_or(0);
                for row in 0..columns.len() {
                    assert_eq!(start(&columns, row), start(&expected, row), "{row} of {len}");
                }
            }
        }
    }
}
