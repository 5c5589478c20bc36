//! Why there is no answer.

use http::FetchError;

/// Most characters of a body that is not an answer, in an error.
const EXCERPT_CHARS_MAX: usize = 200;

/// Why a question has no answer. URLs are without their query, which is long, and without credentials.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// The server said no, in its own words.
    #[error("{url}: {error_type}: {message}")]
    Refused {
        /// Whom we asked.
        url: String,
        /// `bad_data`, `timeout`, `execution`, …
        error_type: String,
        /// What the server says.
        message: String,
    },
    /// No answer at all.
    #[error("{url}: {reason}")]
    Unreachable {
        /// Whom we asked.
        url: String,
        /// What happened, in Go's words where there are any.
        reason: String,
    },
    /// The whole did not finish in time.
    #[error("{url}: no answer within {timeout_ms} ms")]
    Timeout {
        /// Whom we asked.
        url: String,
        /// The time that it had, milliseconds.
        timeout_ms: u128,
    },
    /// The answer is larger than allowed. The message names the flag that all commands give the limit by.
    #[error(
        "{url}: the answer is larger than {bytes_max} bytes, the limit of --prometheus-max-answer-bytes"
    )]
    TooLarge {
        /// Whom we asked.
        url: String,
        /// The limit.
        bytes_max: usize,
    },
    /// Something answers that is not a Prometheus API.
    #[error("{url}: HTTP {status}: {excerpt}")]
    Status {
        /// Whom we asked.
        url: String,
        /// The status of the answer.
        status: u16,
        /// How its body begins.
        excerpt: String,
    },
    /// The answer is not what the API promises.
    #[error("{url}: malformed answer: {reason}")]
    Malformed {
        /// Whom we asked.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The bearer token cannot be read.
    #[error("bearer token file {path}: {reason}")]
    Token {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
}

impl AskError {
    pub(crate) fn fetch(url: &str, limits: Limits, error: FetchError) -> Self {
        let url = String::from(url);
        match error {
            FetchError::Timeout { .. } => Self::Timeout { url, timeout_ms: limits.timeout_ms },
            FetchError::BodyTooLarge => Self::TooLarge { url, bytes_max: limits.bytes_max },
            FetchError::Connection { reason, .. }
            | FetchError::Malformed { reason, .. }
            | FetchError::InvalidUrl { reason, .. } => Self::Unreachable { url, reason },
            FetchError::RedirectedElsewhere { location, .. } => {
                let location = location.split(['?', '#']).next().unwrap_or_default();
                Self::Unreachable { url, reason: format!("redirected to {location:?}") }
            }
            FetchError::InvalidHeader(name) => {
                Self::Unreachable { url, reason: format!("invalid header {name:?}") }
            }
            FetchError::Redirects { .. } => {
                Self::Unreachable { url, reason: String::from("too many redirects") }
            }
            _ => Self::Unreachable { url, reason: String::from("no answer") },
        }
    }

    pub(crate) fn status(url: &str, status: u16, body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let excerpt = line.chars().take(EXCERPT_CHARS_MAX).collect();
        Self::Status { url: String::from(url), status, excerpt }
    }
}

/// What a question may cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) timeout_ms: u128,
    pub(crate) bytes_max: usize,
}
