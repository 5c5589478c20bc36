//! Writes the status of autoscalers: only where it changes, and values of metrics alone not more often than all autoscalers together
//! may.
//!
//! Upstream writes the status whenever a metric moves, which is every period for most autoscalers. Here conditions, replicas and the
//! time of the last rescale are written at once; where only values of metrics differ, an autoscaler's turn comes once a period, or
//! less often where there are so many that [`VALUES_PER_SECOND`] would be exceeded.

use std::time::Duration;

use axum::http::Method;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerStatus;
use tokio::time::Instant;

use super::api_server::{ApiError, ApiErrorKind, ApiServer, Call, OBJECT_BYTES_MAX, segment};
use super::watch::{HpaBody, HpaObject};
use crate::decide::differs;
use crate::state::HpaKey;

/// Writes a second of all autoscalers together where only values of metrics have changed.
const VALUES_PER_SECOND: u32 = 100;

const RESOURCE: &str = "horizontalpodautoscalers.autoscaling";

/// Whether a status has to be written now. `last` is when the status of this autoscaler was last written, `count` how many there are.
pub(super) fn is_due(
    before: &HorizontalPodAutoscalerStatus,
    after: &HorizontalPodAutoscalerStatus,
    last: Option<Instant>,
    count: usize,
    period: Duration,
) -> bool {
    if !differs(before, after) {
        return false;
    }
    let same_values = HorizontalPodAutoscalerStatus {
        current_metrics: before.current_metrics.clone(),
        ..after.clone()
    };
    if differs(before, &same_values) || kinds(before) != kinds(after) {
        return true;
    }
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    let share = Duration::from_secs(1).saturating_mul(count) / VALUES_PER_SECOND;
    // A tenth is left for evaluations that come a bit early.
    let interval = share.max(period).mul_f64(0.9);
    last.is_none_or(|last| last.elapsed() >= interval)
}

/// Which metrics have values; one that fails has none.
fn kinds(status: &HorizontalPodAutoscalerStatus) -> Vec<&str> {
    status.current_metrics.iter().flatten().map(|metric| metric.type_.as_str()).collect()
}

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

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(15);

    fn status(replicas: i32, value: &str) -> HorizontalPodAutoscalerStatus {
        serde_json::from_value(serde_json::json!({
            "currentReplicas": replicas, "desiredReplicas": replicas,
            "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageValue": value}}}],
        }))
        .unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn what_people_wait_for_is_written_at_once() {
        let now = Some(Instant::now());
        let due = |after: &HorizontalPodAutoscalerStatus, last, count| {
            is_due(&status(1, "1"), after, last, count, PERIOD)
        };
        assert!(!due(&status(1, "1"), None, 1));
        assert!(due(&status(2, "1"), now, 10_000));
        let mut failing = status(1, "1");
        failing.current_metrics.as_mut().unwrap()[0].type_.clear();
        assert!(due(&failing, now, 10_000));
    }

    #[tokio::test(start_paused = true)]
    async fn values_take_turns() {
        let last = Some(Instant::now());
        let due = |count| is_due(&status(1, "1"), &status(1, "2"), last, count, PERIOD);
        assert!(!due(1));
        tokio::time::advance(PERIOD).await;
        assert!(due(1));
        assert!(!due(10_000));
        tokio::time::advance(Duration::from_secs(85)).await;
        assert!(due(10_000));
    }
}
