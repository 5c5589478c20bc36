//! The contract between those who produce samples and the store.
//!
//! A producer fills one [`Batch`] — a whole scrape, a remote-write request, a rule evaluation — and
//! hands it over in one call. The store writes one log record for it, and no query sees half of it.
//! The batch is columns by kind: float samples, native histograms, exemplars, metadata.

use std::sync::Arc;

use crate::{FloatHistogram, Histogram, Labels, SeriesRef, Timestamp};

/// Takes batches of samples.
pub trait Appender: Send + Sync {
    /// Appends the batch as a unit.
    ///
    /// On return the samples that were not rejected are durable as far as the store's settings promise,
    /// and visible to queries that start from now on. Series that the batch introduces exist
    /// afterwards under the returned refs.
    ///
    /// # Errors
    /// [`AppendError`] when nothing of the batch was stored. A single sample that the store refuses
    /// is no error: it is listed in [`Appended::rejected`].
    fn append(&self, batch: &Batch) -> Result<Appended, AppendError>;
}

/// Samples to append together. Reusable: [`clear`](Self::clear) keeps the memory.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Label sets of series that the producer holds no ref for; addressed by [`SeriesKey::New`].
    /// A series that exists already is found by its labels.
    pub new_series: Vec<Labels>,
    /// Float samples. Several of one series must be in time order.
    pub floats: Vec<FloatAppend>,
    /// Native histograms, applied after the floats. Several of one series must be in time order.
    pub histograms: Vec<HistogramAppend>,
    /// Exemplars.
    pub exemplars: Vec<ExemplarAppend>,
    /// What is newly known about the metrics of series.
    pub metadata: Vec<MetadataAppend>,
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            new_series: Vec::new(),
            floats: Vec::new(),
            histograms: Vec::new(),
            exemplars: Vec::new(),
            metadata: Vec::new(),
        }
    }

    /// Adds a float sample of a series known by its ref.
    pub fn push(&mut self, series: SeriesRef, t: Timestamp, v: f64) {
        self.floats.push(FloatAppend { series: SeriesKey::Known(series), t, v });
    }

    /// Adds a float sample of a series that may be new; returns the key for further samples of it.
    ///
    /// # Panics
    /// If the batch holds 2³² new series.
    pub fn push_new(&mut self, labels: Labels, t: Timestamp, v: f64) -> SeriesKey {
        let series = self.introduce(labels);
        self.floats.push(FloatAppend { series, t, v });
        series
    }

    /// Adds a series that may be new, without samples; returns the key for samples of it.
    ///
    /// # Panics
    /// If the batch holds 2³² new series.
    pub fn introduce(&mut self, labels: Labels) -> SeriesKey {
        let index = u32::try_from(self.new_series.len()).expect("batches are far smaller");
        self.new_series.push(labels);
        SeriesKey::New(index)
    }

    /// Adds a native histogram.
    pub fn push_histogram(
        &mut self,
        series: SeriesKey,
        t: Timestamp,
        histogram: impl Into<HistogramValue>,
    ) {
        self.histograms.push(HistogramAppend { series, t, histogram: histogram.into() });
    }

    /// Whether there is nothing to append.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.floats.is_empty()
            && self.new_series.is_empty()
            && self.histograms.is_empty()
            && self.exemplars.is_empty()
            && self.metadata.is_empty()
    }

    /// Removes everything, keeps the memory.
    pub fn clear(&mut self) {
        self.new_series.clear();
        self.floats.clear();
        self.histograms.clear();
        self.exemplars.clear();
        self.metadata.clear();
    }
}

/// One float sample of a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FloatAppend {
    /// Whose sample it is.
    pub series: SeriesKey,
    /// When it was observed.
    pub t: Timestamp,
    /// The value.
    pub v: f64,
}

/// One native histogram of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramAppend {
    /// Whose sample it is.
    pub series: SeriesKey,
    /// When it was observed.
    pub t: Timestamp,
    /// The value.
    pub histogram: HistogramValue,
}

/// A native histogram of either kind.
#[derive(Clone, Debug, PartialEq)]
pub enum HistogramValue {
    /// With integer counts.
    Integer(Arc<Histogram>),
    /// With float counts.
    Float(Arc<FloatHistogram>),
}

impl HistogramValue {
    /// The sum of the observations, by which a stale marker is told.
    #[must_use]
    pub fn sum(&self) -> f64 {
        match self {
            Self::Integer(histogram) => histogram.sum,
            Self::Float(histogram) => histogram.sum,
        }
    }

    /// The histogram with float counts.
    #[must_use]
    pub fn to_float(&self) -> Arc<FloatHistogram> {
        match self {
            Self::Integer(histogram) => Arc::new(histogram.to_float()),
            Self::Float(histogram) => Arc::clone(histogram),
        }
    }
}

impl From<Histogram> for HistogramValue {
    fn from(histogram: Histogram) -> Self {
        Self::Integer(Arc::new(histogram))
    }
}

impl From<FloatHistogram> for HistogramValue {
    fn from(histogram: FloatHistogram) -> Self {
        Self::Float(Arc::new(histogram))
    }
}

/// An example of what a sample counted: usually the trace of one request.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    /// What identifies it.
    pub labels: Labels,
    /// When it was observed.
    pub t: Timestamp,
    /// What was observed.
    pub v: f64,
}

/// One exemplar of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct ExemplarAppend {
    /// Whose example it is.
    pub series: SeriesKey,
    /// The example.
    pub exemplar: Exemplar,
}

/// What is known about the metric of a series.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The type, as in `# TYPE`: `counter`, `gauge`, `histogram`, `gaugehistogram`, `summary`, `info`, `stateset`, `unknown`.
    pub kind: Box<str>,
    /// The unit, if one is declared.
    pub unit: Box<str>,
    /// The help text.
    pub help: Box<str>,
}

/// Metadata of one series of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataAppend {
    /// Whose it is.
    pub series: SeriesKey,
    /// What is known.
    pub metadata: Metadata,
}

/// How a sample of a batch names its series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeriesKey {
    /// By the ref that an earlier append returned.
    Known(SeriesRef),
    /// By position in [`Batch::new_series`].
    New(u32),
}

/// What became of a batch.
#[derive(Clone, Debug, Default)]
pub struct Appended {
    /// The refs of [`Batch::new_series`], in the same order. A series that the store did not admit has
    /// ref 0, and its samples are in `rejected`.
    pub new_refs: Vec<SeriesRef>,
    /// Float samples that were not stored, by position.
    pub rejected: Vec<Rejected>,
    /// Histograms that were not stored, by position.
    pub rejected_histograms: Vec<Rejected>,
    /// Exemplars that were not stored, by position. That one is there already is no rejection.
    pub rejected_exemplars: Vec<Rejected>,
    /// How many of `new_refs` did not exist before.
    pub series_created: usize,
}

/// A sample that was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Position in [`Batch::floats`], [`Batch::histograms`] or [`Batch::exemplars`].
    pub index: usize,
    /// Why.
    pub reason: Rejection,
}

/// Why a store refuses a sample. The texts are Prometheus's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// The ref is unknown (any more): append again with the labels.
    #[error("unknown series reference")]
    UnknownSeries,
    /// Older than the newest sample of its series.
    #[error("out of order sample")]
    OutOfOrder,
    /// Older than the store accepts at all.
    #[error("out of bounds")]
    OutOfBounds,
    /// Older than the store accepts samples that are out of order.
    #[error("too old sample")]
    TooOld,
    /// Same time as the newest sample of its series, different value.
    #[error("duplicate sample for timestamp")]
    DuplicateTimestamp,
    /// The store has reached its bound of series or bytes and admits no new series.
    #[error("series limit reached")]
    SeriesLimit,
    /// The label set is empty or malformed.
    #[error("invalid labels")]
    InvalidLabels,
    /// The histogram contradicts itself; the text says how.
    #[error("{0}")]
    InvalidHistogram(&'static str),
    /// Older than the newest exemplar of its series.
    #[error("out of order exemplar")]
    OutOfOrderExemplar,
    /// The labels of the exemplar have more than 128 characters in all.
    #[error("label length exceeds maximum of 128 UTF-8 characters")]
    ExemplarLabelLength,
    /// The store keeps no exemplars.
    #[error("exemplar storage is disabled")]
    ExemplarsDisabled,
}

/// Why a batch was not stored. Nothing of it is visible.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The log could not be written; the same batch may be tried again later.
    #[error("{path}: {source}")]
    Io {
        /// The file that failed.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The store is closing or not yet open.
    #[error("the store is not accepting samples: {0}")]
    Unavailable(String),
}
