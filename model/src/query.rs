//! The contract between the store and those who read it.
//!
//! A [`Querier`] is a consistent view of a time range. It selects series once; the samples are then
//! decoded, as often and for as much time as the reader likes, into [`Columns`] that the reader owns.
//! Whoever reads passes a [`QueryContext`] along: stores account for what they hold and stop when told.

use crate::{Columns, Labels, Matcher, QueryContext, Sample, SeriesRef, TimeRange};

/// Something that can be queried.
pub trait Queryable: Send + Sync {
    /// Opens a view of `range`. Batches appended later are not part of it.
    ///
    /// # Errors
    /// [`QueryError`] when the store cannot be read.
    fn querier(&self, range: TimeRange) -> Result<Box<dyn Querier + '_>, QueryError>;
}

/// A consistent view of a store.
pub trait Querier: Send + Sync {
    /// The series that satisfy all matchers and may have samples in the selection's range.
    ///
    /// # Errors
    /// [`QueryError`]; nothing of the selection is held after an error.
    fn select(
        &self,
        selection: &Selection<'_>,
        context: &QueryContext,
    ) -> Result<Box<dyn SeriesSet + '_>, QueryError>;

    /// Names of labels of the series that satisfy all matchers (all series without matchers), sorted,
    /// at most `limit` of them (0: no limit).
    ///
    /// # Errors
    /// [`QueryError`]
    fn label_names(
        &self,
        matchers: &[Matcher],
        limit: usize,
        context: &QueryContext,
    ) -> Result<Strings, QueryError>;

    /// Values of label `name` among the series that satisfy all matchers, sorted, at most `limit` of
    /// them (0: no limit).
    ///
    /// # Errors
    /// [`QueryError`]
    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        limit: usize,
        context: &QueryContext,
    ) -> Result<Strings, QueryError>;
}

/// Sorted distinct strings, perhaps cut short.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strings {
    /// The strings, sorted.
    pub values: Vec<String>,
    /// Whether the limit left some out.
    pub truncated: bool,
}

/// What to select.
#[derive(Clone, Copy, Debug)]
pub struct Selection<'a> {
    /// All must hold.
    pub matchers: &'a [Matcher],
    /// The samples that will be read lie within, so chunks outside need not be opened. Must lie within the
    /// range of the querier.
    pub range: TimeRange,
    /// The order that the reader needs, [`SeriesOrder::Storage`] if it does not care.
    pub order: SeriesOrder,
    /// At most this many series are wanted; 0: all.
    pub limit: usize,
    /// The reader looks at the labels with these names alone, so others need not be put together: labels of different series may come out
    /// equal. Says nothing of the order of series. `None`: all labels are wanted.
    pub projection: Option<&'a [&'a str]>,
}

impl<'a> Selection<'a> {
    /// All series that satisfy `matchers`, in the order that is cheapest for the store.
    #[must_use]
    pub const fn new(matchers: &'a [Matcher], range: TimeRange) -> Self {
        Self { matchers, range, order: SeriesOrder::Storage, limit: 0, projection: None }
    }
}

/// In which order series come.
///
/// Floating-point sums depend on it, so the answer to a query does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeriesOrder {
    /// As the store iterates: the order of creation within a head. Stable for one store.
    Storage,
    /// Sorted by labels. Always so when a selection spans several parts (head and blocks).
    Labels,
}

/// The series of a selection, addressed by position.
///
/// `Sync`, so that several threads may read different series of one set.
pub trait SeriesSet: Send + Sync {
    /// Number of series.
    fn len(&self) -> usize;

    /// Whether there is no series.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// In which order the series are.
    fn order(&self) -> SeriesOrder;

    /// The labels of series `index`, at least those in the selection's projection.
    ///
    /// # Panics
    /// If `index` is not below [`len`](Self::len); so do the others.
    fn labels(&self, index: usize) -> Labels;

    /// The ref under which samples of series `index` can be appended; `None` if it is in blocks alone.
    fn series_ref(&self, index: usize) -> Option<SeriesRef>;

    /// Appends the samples of series `index` within `range` to `into`, in time order, staleness markers
    /// included. The range must lie within that of the selection.
    ///
    /// # Errors
    /// [`QueryError`]; `into` may then hold some of the samples.
    fn read(
        &self,
        index: usize,
        range: TimeRange,
        into: &mut Columns,
        context: &QueryContext,
    ) -> Result<(), QueryError>;

    /// The newest sample of series `index` that the view contains, if it is a float, the store knows it without
    /// decoding chunks and it lies within the selection's range; otherwise read.
    fn latest(&self, index: usize) -> Option<Sample>;

    /// Whatever the reader ought to know about how the set was made (say, a part that was left out).
    fn warnings(&self) -> &[String] {
        &[]
    }
}

/// Why a read failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The caller cancelled.
    #[error("query was canceled")]
    Cancelled,
    /// The deadline passed.
    #[error("query timed out")]
    TimedOut,
    /// More bytes were needed than allowed.
    #[error("the query needs {needed} bytes at a time, {allowed} are allowed")]
    OverBudget {
        /// Bytes that would have been held.
        needed: u64,
        /// Bytes that may be held.
        allowed: u64,
    },
    /// Stored data is damaged.
    #[error("{path}: {reason} at byte {offset}")]
    Corrupt {
        /// File or block.
        path: String,
        /// Where in it, in bytes.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// A file could not be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
}
