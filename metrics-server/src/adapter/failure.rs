//! What a request gets when it fails: the one place that chooses HTTP statuses.

use std::sync::Arc;

use metrics_api::{Status, reason};

use super::cache::AskFailure;
use super::objects::ListError;
use super::query::QueryError;

/// Why there is no value.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// There is no such metric, or no object with it. The message is custom-metrics-apiserver's.
    #[error("the server could not find the metric {metric} for {of}")]
    NotFound {
        /// The metric.
        metric: String,
        /// A resource, or a resource and a name.
        of: String,
    },
    /// The request makes no sense.
    #[error("{0}")]
    BadRequest(String),
    /// It cannot be told yet whether there is such a metric.
    #[error("{0}")]
    NotYet(String),
    /// The controller has no count for a steered autoscaler.
    #[error("steered autoscaler {hpa}: {reason}")]
    Steering {
        /// Namespace and name.
        hpa: String,
        /// What the controller says.
        reason: String,
    },
    /// Objects cannot be listed.
    #[error("{0}")]
    Objects(Arc<ListError>),
    /// The rule makes no query of the request.
    #[error("metric {metric}: {rule}: {error}")]
    Query {
        /// The metric.
        metric: String,
        /// The rule.
        rule: String,
        /// Why.
        error: QueryError,
    },
    /// The source does not answer.
    #[error("metric {metric}: {rule}: {error}")]
    Ask {
        /// The metric.
        metric: String,
        /// The rule.
        rule: String,
        /// Why.
        error: Arc<AskFailure>,
    },
    /// The source's answer is no value.
    #[error("metric {metric}: {rule}: {reason}")]
    Answer {
        /// The metric.
        metric: String,
        /// The rule.
        rule: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Failure {
    /// The metric is not there for `of`.
    pub(crate) fn not_found(metric: &str, of: impl Into<String>) -> Self {
        Self::NotFound { metric: String::from(metric), of: of.into() }
    }

    /// The status.
    pub(crate) fn status(&self) -> Status {
        let message = self.to_string();
        match self {
            Self::NotFound { .. } => Status {
                kind: "Status".into(),
                api_version: "v1".into(),
                metadata: metrics_api::StatusMetadata {},
                status: "Failure".into(),
                message,
                reason: String::from(reason::NOT_FOUND),
                details: None,
                code: 404,
            },
            Self::BadRequest(_) | Self::Query { error: QueryError::Operator(..), .. } => {
                Status::bad_request(message)
            }
            Self::NotYet(_) | Self::Steering { .. } => Status::service_unavailable(message),
            Self::Objects(_) | Self::Query { .. } | Self::Ask { .. } | Self::Answer { .. } => {
                Status::internal(message)
            }
        }
    }
}
