//! Reads autoscalers one by one, and writes their status.

use std::time::Duration;

use axum::http::Method;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerStatus;

use super::api_server::{ApiError, ApiErrorKind, ApiServer, Call, OBJECT_BYTES_MAX, segment};
use super::watch::{HpaBody, HpaObject};
use crate::state::HpaKey;

const RESOURCE: &str = "horizontalpodautoscalers.autoscaling";

fn path(key: &HpaKey) -> String {
    let (namespace, name) = (segment(&key.namespace), segment(&key.name));
    format!("/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers/{name}")
}

/// Reads an autoscaler.
pub(super) async fn read(api: &ApiServer, key: &HpaKey) -> Result<HpaObject, ApiError> {
    readable(api.read(Call::get(path(key), RESOURCE, &key.name)).await?)
}

fn readable(hpa: HpaObject) -> Result<HpaObject, ApiError> {
    match &hpa.unreadable {
        Some(complaint) => {
            let text = format!("the autoscaler cannot be read: {complaint}");
            Err(ApiError::new(ApiErrorKind::Answer, text))
        }
        None => Ok(hpa),
    }
}

/// Writes a status, unless the object was changed since `hpa` was read. The rest of the object goes with it unchanged: the server
/// takes its metadata from what is sent.
///
/// # Errors
/// The server's, or [`ApiErrorKind::NotAllowed`] if `guard` says no.
pub(super) async fn write(
    api: &ApiServer,
    key: &HpaKey,
    hpa: &HpaObject,
    status: &HorizontalPodAutoscalerStatus,
    field_manager: &str,
    timeout: Duration,
    guard: impl Fn() -> bool,
) -> Result<HpaObject, ApiError> {
    let body = HpaBody {
        api_version: "autoscaling/v2",
        kind: "HorizontalPodAutoscaler",
        metadata: &hpa.metadata,
        spec: &hpa.spec,
        status,
    };
    let body = serde_json::to_vec(&body)
        .map_err(|error| ApiError::new(ApiErrorKind::Answer, error.to_string()))?;
    let call = Call {
        method: Method::PUT,
        path: format!("{}/status?fieldManager={}", path(key), segment(field_manager)),
        body: Some(("application/json", body)),
        resource: RESOURCE,
        name: &key.name,
        bytes_max: OBJECT_BYTES_MAX,
        timeout,
    };
    readable(api.call(call, guard).await?)
}
