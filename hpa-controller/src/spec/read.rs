//! Reads an autoscaler of either version that Kubernetes serves.

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::v1;

/// A field that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct ReadError {
    /// The field, such as `spec.maxReplicas`, or an annotation in brackets.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

/// The autoscaler that `object` is, as `autoscaling/v2`, without defaults filled in.
///
/// # Errors
/// Names the field that does not hold what it should, or the version that is not known.
pub fn autoscaler(object: Value) -> Result<HorizontalPodAutoscaler, ReadError> {
    match object["apiVersion"].as_str() {
        Some("autoscaling/v2") => typed(object, ""),
        Some("autoscaling/v1") => v1::convert(typed(object, "")?),
        version => Err(ReadError {
            path: String::from("apiVersion"),
            message: format!(
                "{} is not a version of autoscalers that Kubernetes serves: autoscaling/v2 and autoscaling/v1 are",
                version.unwrap_or("nothing")
            ),
        }),
    }
}

/// `value`, found at `path`, as a type.
pub(crate) fn typed<T: DeserializeOwned>(value: Value, path: &str) -> Result<T, ReadError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let inner = error.path().to_string();
        let path = match (path, inner.as_str()) {
            ("", inner) => inner.to_owned(),
            (path, ".") => path.to_owned(),
            (path, inner) if inner.starts_with('[') => format!("{path}{inner}"),
            (path, inner) => format!("{path}.{inner}"),
        };
        ReadError { path, message: error.into_inner().to_string() }
    })
}
