//! Why a scrape fails, in the words that users of Prometheus know from its targets page.

use exposition::ParseError;
use http::FetchError;
use model::LabelsError;

/// Why a scrape has no samples. Its target is down until the next one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScrapeError {
    /// No answer, or none in time.
    #[error(transparent)]
    Fetch(FetchError),
    /// An in-process source took longer than the timeout.
    #[error("Get {url:?}: context deadline exceeded")]
    DeadlineExceeded {
        /// The URL that the source answers for.
        url: String,
    },
    /// An answer other than 200.
    #[error("server returned HTTP status {0}")]
    Status(String),
    /// The body reached its limit, before or after decompression.
    #[error("body size limit exceeded")]
    BodySizeLimit,
    /// The answer does not say what it is.
    #[error(
        "non-compliant scrape target sending blank Content-Type and no fallback_scrape_protocol specified for target"
    )]
    BlankContentType,
    /// The answer is in a format that cannot be read.
    #[error(
        "received unsupported Content-Type {0:?} and no fallback_scrape_protocol specified for target"
    )]
    UnsupportedContentType(String),
    /// The answer is in OpenMetrics format, which was not asked for.
    #[error("received Content-Type {0:?}: OpenMetrics is not supported, only the text format is")]
    OpenMetrics(String),
    /// The body is not in the format that it claims.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// More samples than allowed.
    #[error("sample limit exceeded")]
    SampleLimit,
    /// More targets in the pool than allowed: none of them is scraped.
    #[error("target_limit exceeded (number of targets: {targets}, limit: {limit})")]
    TargetLimit {
        /// How many there are.
        targets: usize,
        /// How many there may be.
        limit: u64,
    },
    /// A series without a name.
    #[error("missing metric name (__name__ label)")]
    NoMetricName,
    /// A series with an empty label name.
    #[error("invalid metric name or label names: {0}")]
    InvalidName(String),
    /// A series with the same label name twice.
    #[error(transparent)]
    Labels(#[from] LabelsError),
    /// Too many labels.
    #[error("label_limit exceeded (metric: {metric}, number of labels: {labels}, limit: {limit})")]
    LabelLimit {
        /// At most 50 characters of the name.
        metric: String,
        /// How many labels the series has.
        labels: usize,
        /// How many it may have.
        limit: u64,
    },
    /// A label name that is too long.
    #[error(
        "label_name_length_limit exceeded (metric: {metric}, label name: {name}, length: {length}, limit: {limit})"
    )]
    LabelNameLimit {
        /// At most 50 characters of the metric name.
        metric: String,
        /// At most 50 characters of the label name.
        name: String,
        /// Its length in bytes.
        length: usize,
        /// Most bytes that it may have.
        limit: u64,
    },
    /// A label value that is too long.
    #[error(
        "label_value_length_limit exceeded (metric: {metric}, label name: {name}, value: {value:?}, length: {length}, limit: {limit})"
    )]
    LabelValueLimit {
        /// At most 50 characters of the metric name.
        metric: String,
        /// At most 50 characters of the label name.
        name: String,
        /// At most 50 characters of the value.
        value: String,
        /// Its length in bytes.
        length: usize,
        /// Most bytes that it may have.
        limit: u64,
    },
    /// An in-process source did not finish an earlier collection.
    #[error("{url}: the collection before is still running")]
    SourceBusy {
        /// The URL that the source answers for.
        url: String,
    },
    /// An in-process source panicked.
    #[error("{url}: the collector failed")]
    SourceFailed {
        /// The URL that the source answers for.
        url: String,
    },
}

impl From<FetchError> for ScrapeError {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::BodyTooLarge => Self::BodySizeLimit,
            error => Self::Fetch(error),
        }
    }
}

/// Why an address is no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// The address is empty.
    #[error("no address")]
    NoAddress,
    /// The address is a URL or a path.
    #[error("{0:?} is not a valid hostname")]
    InvalidAddress(String),
    /// `__scrape_interval__` or `__scrape_timeout__` is not a duration.
    #[error("error parsing scrape {what}: {source}")]
    Duration {
        /// `interval` or `timeout`.
        what: &'static str,
        /// What is wrong with it.
        source: model::DurationError,
    },
    /// `__scrape_interval__` or `__scrape_timeout__` is zero.
    #[error("scrape {0} cannot be 0")]
    Zero(&'static str),
    /// A timeout that the next scrape would overtake.
    #[error("scrape timeout cannot be greater than scrape interval ({timeout:?} > {interval:?})")]
    TimeoutExceedsInterval {
        /// `__scrape_timeout__`
        timeout: String,
        /// `__scrape_interval__`
        interval: String,
    },
}
