//! The vocabulary shared by everything that writes or reads series.
//!
//! [`Labels`] identify a series, [`Matcher`]s choose series, a [`Sample`] is one point of a series.
//! [`Appender`] and [`Queryable`] are the contracts between those who produce samples (scrapes, rules,
//! remote write), those who keep them (`tsdb`) and those who ask for them (`promql`, `server`).
//! Nothing here does I/O or knows how series are stored.

mod append;
mod clock;
mod columns;
mod duration;
mod float;
mod histogram;
mod labels;
mod limits;
mod matcher;
mod query;
mod regex;
mod sample;

pub use append::{
    AppendError, Appended, Appender, Batch, Exemplar, ExemplarAppend, FloatAppend, HistogramAppend,
    HistogramValue, Metadata, MetadataAppend, Rejected, Rejection, SeriesKey,
};
pub use clock::{Clock, ManualClock, SystemClock};
pub use columns::Columns;
pub use duration::{DurationError, format_duration, parse_duration};
pub use float::{
    FloatFormat, SHORT_FLOAT_BYTES, ShortFloat, ShortFloatBuffer, format_float, write_float,
};
pub use histogram::{
    Bucket, CUSTOM_BUCKETS_SCHEMA, Combined, CounterReset, EXPONENTIAL_SCHEMA_MAX,
    EXPONENTIAL_SCHEMA_MIN, FloatHistogram, Histogram, HistogramSum, IncompatibleSchemas,
    InvalidBuckets, InvalidHistogram, Span, Trim, bucket_bound,
};
pub use labels::{
    Label, Labels, LabelsBuilder, LabelsError, LabelsPacker, METRIC_NAME, is_legacy_label_name,
    is_legacy_metric_name,
};
pub use limits::{Budget, Cancellation, Charge, QueryContext};
pub use matcher::{MatchOp, Matcher, MatcherError};
pub use query::{Querier, QueryError, Queryable, Selection, SeriesOrder, SeriesSet, Strings};
pub use regex::{Captures, Regex, RegexError, RegexErrorKind};
pub use sample::{Sample, SeriesRef, TimeRange, Timestamp, is_stale, stale_marker};
