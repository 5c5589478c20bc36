//! The samples of one series: floats, and histograms beside them.

use std::sync::Arc;

use model::{Columns, FloatHistogram};

use super::block::{ABSENT, count_present, is_absent};

/// What the floats of a row hold where it has a histogram: not a number, but not absent either.
const BESIDE: f64 = f64::NAN;

/// A sample.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cell<'r> {
    /// A number.
    Float(f64),
    /// A native histogram.
    Histogram(&'r Arc<FloatHistogram>),
}

/// A sample that was computed.
#[derive(Clone, Debug)]
pub(super) enum OwnedCell {
    /// A number.
    Float(f64),
    /// A native histogram.
    Histogram(Arc<FloatHistogram>),
}

impl From<FloatHistogram> for OwnedCell {
    fn from(histogram: FloatHistogram) -> Self {
        Self::Histogram(Arc::new(histogram))
    }
}

/// The samples of a series, one for each step. Whoever gets it may change it.
#[derive(Debug)]
pub(super) struct Row<'r> {
    /// Numbers; the marker where there is no sample, another NaN where there is a histogram.
    pub(super) values: &'r mut [f64],
    /// Histograms.
    pub(super) histograms: Histograms,
}

/// The same to be looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowRef<'r> {
    /// As in [`Row`].
    pub(super) values: &'r [f64],
    /// As in [`Row`].
    pub(super) histograms: &'r Histograms,
}

impl<'r> Row<'r> {
    /// A row of floats alone.
    pub(super) fn of(values: &'r mut [f64]) -> Self {
        Self { values, histograms: Histograms::default() }
    }

    /// The row to be looked at.
    pub(super) fn view(&self) -> RowRef<'_> {
        RowRef { values: self.values, histograms: &self.histograms }
    }

    /// Number of samples; a histogram counts for several.
    pub(super) fn samples(&self) -> u64 {
        self.view().samples()
    }

    /// Puts a sample at `step`, or takes away what is there.
    pub(super) fn set(&mut self, step: usize, cell: Option<OwnedCell>) {
        put(self.values, &mut self.histograms, step, cell);
    }

    /// Takes away what is at `step`.
    pub(super) fn remove(&mut self, step: usize) {
        self.values[step] = ABSENT;
        self.histograms.remove(step);
    }

    /// Takes all histograms away.
    pub(super) fn remove_histograms(&mut self) {
        for (step, _) in self.histograms.iter() {
            self.values[step] = ABSENT;
        }
        self.histograms = Histograms::default();
    }
}

/// Puts a sample at `step` of a row in the making, or takes away what is there.
pub(super) fn put(
    values: &mut [f64],
    histograms: &mut Histograms,
    step: usize,
    cell: Option<OwnedCell>,
) {
    histograms.remove(step);
    values[step] = match cell {
        None => ABSENT,
        Some(OwnedCell::Float(v)) => v,
        Some(OwnedCell::Histogram(histogram)) => {
            histograms.set(step, values.len(), histogram);
            BESIDE
        }
    };
}

impl<'r> RowRef<'r> {
    /// The sample at `step`.
    pub(super) fn at(self, step: usize) -> Option<Cell<'r>> {
        let value = self.values[step];
        if is_absent(value) {
            return None;
        }
        Some(match self.histograms.get(step) {
            Some(histogram) => Cell::Histogram(histogram),
            None => Cell::Float(value),
        })
    }

    /// Number of samples; a histogram counts for several.
    pub(super) fn samples(self) -> u64 {
        count_present(self.values) as u64 + self.histograms.extra_samples()
    }
}

/// The histograms of a row: a place for each step, or none at all.
#[derive(Clone, Debug, Default)]
pub(super) struct Histograms(Vec<Option<Arc<FloatHistogram>>>);

impl Histograms {
    /// No histogram.
    pub(super) const NONE: &'static Self = &Self(Vec::new());

    /// Whether there is none.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The histogram at `step`.
    #[inline]
    pub(super) fn get(&self, step: usize) -> Option<&Arc<FloatHistogram>> {
        self.0.get(step)?.as_ref()
    }

    /// All, with their steps.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Arc<FloatHistogram>)> {
        self.0.iter().enumerate().filter_map(|(step, histogram)| Some((step, histogram.as_ref()?)))
    }

    /// The same histogram at each of `width` steps, if there is one.
    pub(super) fn repeat(histogram: Option<&Arc<FloatHistogram>>, width: usize) -> Self {
        Self(histogram.map_or_else(Vec::new, |histogram| vec![Some(Arc::clone(histogram)); width]))
    }

    /// Puts a histogram at `step` of `width`.
    pub(super) fn set(&mut self, step: usize, width: usize, histogram: Arc<FloatHistogram>) {
        if self.0.is_empty() {
            self.0.resize(width, None);
        }
        self.0[step] = Some(histogram);
    }

    /// Takes the histogram at `step` away, if there is one.
    pub(super) fn remove(&mut self, step: usize) {
        if let Some(histogram) = self.0.get_mut(step) {
            *histogram = None;
        }
    }

    /// Bytes held. A histogram that several steps in a row share counts once.
    pub(super) fn bytes(&self) -> usize {
        let mut previous: Option<&Arc<FloatHistogram>> = None;
        let mut own = 0;
        for (_, histogram) in self.iter() {
            if previous.is_none_or(|previous| !Arc::ptr_eq(previous, histogram)) {
                own += histogram.bytes();
            }
            previous = Some(histogram);
        }
        own + self.0.len() * size_of::<Option<Arc<FloatHistogram>>>()
    }

    /// Samples that histograms count for beyond the first.
    pub(super) fn extra_samples(&self) -> u64 {
        self.iter().map(|(_, histogram)| weight(histogram) - 1).sum()
    }
}

/// How many samples a histogram counts for: one for each sixteen bytes that it takes in Prometheus, time included.
pub(super) fn weight(histogram: &FloatHistogram) -> u64 {
    const TIME_BYTES: usize = 8;
    ((bytes_of(histogram) + TIME_BYTES) / 16) as u64
}

/// How many samples a histogram counts for among those of a single step, where Prometheus counts one more for what is beside it.
pub(super) fn weight_in_vector(histogram: &FloatHistogram) -> u64 {
    1 + (bytes_of(histogram) / 16) as u64
}

/// Bytes that a histogram takes in Prometheus.
fn bytes_of(histogram: &FloatHistogram) -> usize {
    const STRUCT_BYTES: usize = 168;
    let parts = histogram.positive_spans.len()
        + histogram.negative_spans.len()
        + histogram.positive_counts.len()
        + histogram.negative_counts.len()
        + histogram.custom_bounds.len();
    STRUCT_BYTES + 8 * parts
}

/// Number of samples of columns; a histogram counts for several.
pub(super) fn samples_of(columns: &Columns) -> u64 {
    let extra: u64 = columns.histograms().iter().map(|(_, histogram)| weight(histogram) - 1).sum();
    columns.len() as u64 + extra
}

/// Whether any step of a row has a sample.
pub(super) fn any_present(values: &[f64]) -> bool {
    values.iter().any(|v| !is_absent(*v))
}
