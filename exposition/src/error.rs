//! Where and why a text is not in the format.

use crate::FloatError;

/// Bytes of offending text that an error quotes at most.
const EXCERPT_BYTES_MAX: usize = 80;

/// Why a body cannot be read any further. Nothing after it is parsed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, byte {position}: {kind}, near {excerpt}")]
pub struct ParseError {
    /// Line in which the entry starts, counted from 1.
    pub line: usize,
    /// Offset in the body, in bytes, of what was not expected.
    pub position: usize,
    /// What is wrong.
    pub kind: ParseErrorKind,
    /// The beginning of the entry up to a little past `position`, quoted, at most 80 bytes of it.
    pub excerpt: String,
}

/// What is wrong with a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseErrorKind {
    /// A line starts with neither a name, a brace, nor `#`.
    #[error("expected a metric name, a brace or a comment")]
    EntryStart,
    /// `# HELP` or `# TYPE` without a name.
    #[error("expected a metric name after HELP or TYPE")]
    MetadataName,
    /// `# TYPE` with a type that text format 0.0.4 does not have.
    #[error("invalid metric type")]
    MetricType,
    /// Inside braces: neither a label name nor a quoted name.
    #[error("expected a label name")]
    LabelName,
    /// No `=` after a label name.
    #[error("expected '=' after the label name")]
    Equal,
    /// No complete quoted text after `=`.
    #[error("expected a quoted label value")]
    LabelValue,
    /// Two metric names in one series.
    #[error("metric name already set")]
    SecondName,
    /// Braces without a metric name.
    #[error("metric name not set")]
    NoName,
    /// Bytes that are not UTF-8.
    #[error("invalid UTF-8")]
    Utf8,
    /// A series without a value.
    #[error("expected a value after the series")]
    NoValue,
    /// The value is not a number.
    #[error("{0}")]
    Value(FloatError),
    /// Something other than a timestamp in digits after the value.
    #[error("expected a timestamp or the end of the line")]
    Timestamp,
    /// A timestamp beyond 64 bits.
    #[error("timestamp out of range")]
    TimestampRange,
    /// Something after the timestamp.
    #[error("expected the end of the line after the timestamp")]
    Trailing,
    /// An OpenMetrics text is cut off.
    #[error("text does not end with # EOF")]
    NoEof,
    /// An OpenMetrics text goes on after its end.
    #[error("something after # EOF")]
    AfterEof,
}

impl ParseError {
    /// Describes `kind` found at `position` while reading the entry that starts at `start`.
    pub(crate) fn new(body: &[u8], start: usize, position: usize, kind: ParseErrorKind) -> Self {
        let line = 1 + memchr::memchr_iter(b'\n', &body[..start]).count();
        let end = (position + 1).min(body.len());
        let from = start.max(end.saturating_sub(EXCERPT_BYTES_MAX));
        let excerpt = String::from_utf8_lossy(&body[from..end]);
        Self { line, position, kind, excerpt: format!("{excerpt:?}") }
    }
}
