//! Decoded samples of one series, as columns that the reader owns and reuses.

use crate::{Sample, Timestamp};

/// The samples of one series in time order, one column for times and one for float values.
///
/// A store appends to the columns that the reader hands it, so one allocation serves many series.
/// Native histograms and start timestamps will be further, sparse columns of the same rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Columns {
    times: Vec<Timestamp>,
    floats: Vec<f64>,
}

impl Columns {
    /// Empty columns.
    #[must_use]
    pub const fn new() -> Self {
        Self { times: Vec::new(), floats: Vec::new() }
    }

    /// Empty columns with room for `rows` samples.
    #[must_use]
    pub fn with_capacity(rows: usize) -> Self {
        Self { times: Vec::with_capacity(rows), floats: Vec::with_capacity(rows) }
    }

    /// Adds a float sample; the caller keeps times ascending.
    #[inline]
    pub fn push(&mut self, t: Timestamp, v: f64) {
        self.times.push(t);
        self.floats.push(v);
    }

    /// Adds one sample for each pair of `times` and `floats`.
    ///
    /// # Panics
    /// If the slices differ in length.
    pub fn extend_from_slices(&mut self, times: &[Timestamp], floats: &[f64]) {
        assert_eq!(times.len(), floats.len(), "a row has a time and a value");
        self.times.extend_from_slice(times);
        self.floats.extend_from_slice(floats);
    }

    /// The times, ascending.
    #[must_use]
    #[inline]
    pub fn times(&self) -> &[Timestamp] {
        &self.times
    }

    /// The values, one for each time.
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

    /// The sample in row `row`, if there is such a row.
    #[must_use]
    pub fn get(&self, row: usize) -> Option<Sample> {
        Some(Sample { t: *self.times.get(row)?, v: *self.floats.get(row)? })
    }

    /// The last sample.
    #[must_use]
    pub fn last(&self) -> Option<Sample> {
        self.get(self.len().checked_sub(1)?)
    }

    /// All samples in time order.
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
        self.times.clear();
        self.floats.clear();
    }

    /// Keeps the first `rows` samples.
    pub fn truncate(&mut self, rows: usize) {
        self.times.truncate(rows);
        self.floats.truncate(rows);
    }

    /// Bytes held, whether in use or spare.
    #[must_use]
    pub fn capacity_bytes(&self) -> usize {
        self.times.capacity() * size_of::<Timestamp>() + self.floats.capacity() * size_of::<f64>()
    }
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
