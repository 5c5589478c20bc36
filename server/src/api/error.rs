//! What a request gets when it fails: Prometheus's error types, and the one place that chooses HTTP statuses.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use model::QueryError;
use promql::QueryFailure;

use super::json;

/// Prometheus's `errorType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorType {
    /// The request makes no sense.
    BadData,
    /// The query cannot be evaluated.
    Execution,
    /// The client has gone.
    Canceled,
    /// The query took too long.
    Timeout,
    /// The store or the server is at fault.
    Internal,
    /// No such thing.
    NotFound,
    /// Switched off.
    Unavailable,
}

impl ErrorType {
    /// The text in the envelope.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::BadData => "bad_data",
            Self::Execution => "execution",
            Self::Canceled => "canceled",
            Self::Timeout => "timeout",
            Self::Internal => "internal",
            Self::NotFound => "not_found",
            Self::Unavailable => "unavailable",
        }
    }

    /// The HTTP status; 499 is nginx's "client closed request", which Prometheus uses too. That what is switched off is
    /// a 500 is Prometheus's choice as well.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::BadData => StatusCode::BAD_REQUEST,
            Self::Execution => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Canceled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
            Self::Timeout => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal | Self::Unavailable => StatusCode::INTERNAL_SERVER_ERROR,
            Self::NotFound => StatusCode::NOT_FOUND,
        }
    }
}

/// A failed request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ApiError {
    pub(crate) kind: ErrorType,
    pub(crate) message: String,
}

impl ApiError {
    pub(crate) fn new(kind: ErrorType, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// The caller's mistake, in Prometheus's words.
    pub(crate) fn bad_data(message: impl Into<String>) -> Self {
        Self::new(ErrorType::BadData, message)
    }

    /// `invalid parameter "name": why`
    pub(crate) fn parameter(name: &str, why: impl std::fmt::Display) -> Self {
        Self::bad_data(format!("invalid parameter {name:?}: {why}"))
    }
}

/// Why a query that had its turn failed. Which bound of bytes it reached is for whoever set them to say.
#[derive(Debug)]
pub(crate) enum Failure {
    /// More bytes would have been held than allowed.
    OverBudget {
        needed: u64,
        allowed: u64,
    },
    Other(ApiError),
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::Other(error)
    }
}

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Self {
        let kind = match error {
            QueryError::OverBudget { needed, allowed } => {
                return Self::OverBudget { needed, allowed };
            }
            QueryError::Cancelled => ErrorType::Canceled,
            QueryError::TimedOut => ErrorType::Timeout,
            _ => ErrorType::Internal,
        };
        Self::Other(ApiError::new(kind, error.to_string()))
    }
}

impl From<QueryFailure> for Failure {
    fn from(failure: QueryFailure) -> Self {
        let message = failure.to_string();
        Self::Other(match failure {
            QueryFailure::OverBudget { needed, allowed } => {
                return Self::OverBudget { needed, allowed };
            }
            QueryFailure::Storage(error) => return Self::from(error),
            QueryFailure::Parse(_) | QueryFailure::Invalid(_) => {
                ApiError::parameter("query", message)
            }
            QueryFailure::Timeout => ApiError::new(ErrorType::Timeout, message),
            QueryFailure::Canceled => ApiError::new(ErrorType::Canceled, message),
            QueryFailure::Thread(_) => ApiError::new(ErrorType::Internal, message),
            _ => ApiError::new(ErrorType::Execution, message),
        })
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut body = Vec::with_capacity(64 + self.message.len());
        body.extend_from_slice(b"{\"status\":\"error\",\"errorType\":\"");
        body.extend_from_slice(self.kind.as_str().as_bytes());
        body.extend_from_slice(b"\",\"error\":");
        json::write_string(&mut body, &self.message);
        body.push(b'}');
        let json = HeaderValue::from_static("application/json");
        (self.kind.status(), [(header::CONTENT_TYPE, json)], body).into_response()
    }
}
