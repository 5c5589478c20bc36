//! Why a query was not answered.

use model::QueryError;

use crate::ast::{BinaryOp, Span, ValueType};
use crate::parse::ParseErrors;

/// Why a query was not answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueryFailure {
    /// The query is not PromQL, or its types do not fit.
    #[error(transparent)]
    Parse(#[from] ParseErrors),
    /// The query is PromQL, but cannot be evaluated as it was asked for.
    #[error(transparent)]
    Invalid(#[from] InvalidQuery),
    /// The query uses something that this engine does not evaluate.
    #[error("{what} is not supported")]
    Unsupported {
        /// What it uses.
        what: String,
        /// Where.
        span: Span,
    },
    /// The deadline passed.
    #[error("query timed out in expression evaluation")]
    Timeout,
    /// The caller cancelled.
    #[error("query was canceled in expression evaluation")]
    Canceled,
    /// More samples than the engine's `samples_max` would be held at once.
    #[error("query processing would load too many samples into memory in query execution")]
    TooManySamples,
    /// More bytes than the budget allows would be held at once.
    #[error("the query needs {needed} bytes at a time, {allowed} are allowed")]
    OverBudget {
        /// Bytes that would have been held.
        needed: u64,
        /// Bytes that may be held.
        allowed: u64,
    },
    /// The data do not allow what the query asks for.
    #[error(transparent)]
    Execution(#[from] ExecutionError),
    /// The store failed.
    #[error("expanding series: {0}")]
    Storage(#[source] QueryError),
    /// The thread for a deeply nested query could not be started.
    #[error("starting a thread for the query: {0}")]
    Thread(#[source] std::io::Error),
}

impl From<QueryError> for QueryFailure {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Cancelled => Self::Canceled,
            QueryError::TimedOut => Self::Timeout,
            QueryError::OverBudget { needed, allowed } => Self::OverBudget { needed, allowed },
            other => Self::Storage(other),
        }
    }
}

/// What is wrong with a query before any data is looked at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidQuery {
    /// A range query evaluates to something other than numbers at each step.
    #[error(
        "invalid expression type \"{}\" for range query, must be Scalar or instant Vector",
        .0.documented()
    )]
    RangeType(ValueType),
    /// A range query without a positive step.
    #[error(
        "zero or negative query resolution step widths are not accepted. Try a positive integer"
    )]
    Step,
    /// A duration expression does not give a usable duration.
    #[error("{}:{}: {reason}", .span.start, .span.end)]
    Duration {
        /// Where it stands, in bytes.
        span: Span,
        /// What is wrong.
        reason: &'static str,
    },
}

/// What the data do not allow. The texts are Prometheus's.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ExecutionError {
    /// Two samples of a result have the same labels.
    #[error("vector cannot contain metrics with the same labelset")]
    DuplicateLabels,
    /// The "one" side of an operation has several series for one match group.
    #[error(
        "found duplicate series for the match group {group} on the {side} hand-side of the \
         operation: [{first}, {second}];many-to-many matching not allowed: matching labels must \
         be unique on one side"
    )]
    DuplicateMatch {
        /// Labels that the operation matches on.
        group: String,
        /// `left` or `right`
        side: &'static str,
        /// The smaller of the two series, as text.
        first: String,
        /// The other.
        second: String,
    },
    /// One-to-one matching found two series on the left.
    #[error(
        "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
    )]
    ManyToOne,
    /// Two results of a group modifier have the same labels.
    #[error("multiple matches for labels: grouping labels must ensure unique matches")]
    GroupingNotUnique,
    /// `topk(NaN, …)`
    #[error("Parameter value is NaN")]
    ParameterNan,
    /// `limit_ratio(NaN, …)`
    #[error("Ratio value is NaN")]
    RatioNan,
    /// `topk(-1e300, …)`
    #[error("Scalar value {} underflows int64", model::format_float(*.0, model::FloatFormat::General))]
    ParameterUnderflow(f64),
    /// `topk(1e300, …)`
    #[error("Scalar value {} overflows int64", model::format_float(*.0, model::FloatFormat::General))]
    ParameterOverflow(f64),
    /// A smoothing factor outside (0, 1).
    #[error("invalid smoothing factor. Expected: 0 < sf < 1, got: {0:.6}")]
    SmoothingFactor(f64),
    /// A trend factor outside (0, 1).
    #[error("invalid trend factor. Expected: 0 < tf < 1, got: {0:.6}")]
    TrendFactor(f64),
    /// The label of `count_values` cannot be a label.
    #[error("invalid label name {quoted}")]
    LabelName {
        /// The name in quotes; bytes that are not UTF-8 are escaped.
        quoted: String,
    },
    /// A function that cannot look beyond its window.
    #[error("{modifier} modifier can only be used with: {allowed} - not with {function}")]
    ExtensionFunction {
        /// `anchored` or `smoothed`
        modifier: &'static str,
        /// Functions that can.
        allowed: String,
        /// The function.
        function: String,
    },
    /// Samples of a range that is looked beyond are histograms.
    #[error("{0} modifier is not supported with histograms")]
    ExtensionHistograms(&'static str),
    /// Two numbers cannot be combined so.
    #[error("operator \"{}\" not allowed for Scalar operations", .0.as_str())]
    ScalarOperator(BinaryOp),
    /// A series of `info` is a histogram.
    #[error("this should be an info metric, with float samples: {0}")]
    InfoHistogram(String),
    /// Two series of one info metric describe the same target.
    #[error("found duplicate series for info metric: existing {existing} @ {t}, new {new} @ {t}")]
    DuplicateInfo {
        /// One of them.
        existing: String,
        /// The other.
        new: String,
        /// When, in milliseconds.
        t: f64,
    },
    /// Series of two info metrics give a label different values.
    #[error("conflicting label: {0}")]
    ConflictingLabel(String),
    /// The label to be written cannot be a label.
    #[error("invalid destination label name in {function}(): {name}")]
    DestinationLabel {
        /// `label_replace` or `label_join`
        function: &'static str,
        /// The name.
        name: String,
    },
    /// The label to be read cannot be a label.
    #[error("invalid source label name in label_join(): {0}")]
    SourceLabel(String),
    /// The expression of `label_replace` does not parse.
    #[error("invalid regular expression in label_replace(): {0}")]
    Regex(String),
}
