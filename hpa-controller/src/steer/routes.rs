//! Published counts over HTTP, for whoever serves external.metrics.k8s.io.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use model::{Clock, Timestamp};
use serde::{Deserialize, Serialize};

use super::recommendations::{Recommendations, Recommended, Unavailable};
use crate::state::HpaKey;

/// A count, as JSON. A failure has HTTP status 404 or 503 and an `error` instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// Replicas.
    pub replicas: i32,
    /// When they were decided, in milliseconds since the epoch.
    pub at: Timestamp,
    /// Another process decided them, which leads, and may have decided anew since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub learned: bool,
}

#[derive(Serialize)]
struct Failure {
    error: String,
    /// The process that leads cannot decide, so that no other knows better.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    undecided: bool,
}

#[derive(Clone)]
struct Published {
    recommendations: Arc<Recommendations>,
    clock: Arc<dyn Clock>,
}

/// `GET /api/v1/steer/{namespace}/{name}`
pub fn router(recommendations: Arc<Recommendations>, clock: Arc<dyn Clock>) -> Router {
    let published = Published { recommendations, clock };
    Router::new().route("/api/v1/steer/{namespace}/{name}", get(count)).with_state(published)
}

async fn count(
    State(published): State<Published>,
    Path((namespace, name)): Path<(String, String)>,
) -> Response {
    let key = HpaKey { namespace: namespace.into(), name: name.into() };
    let (status, body) = match published.recommendations.get(&key, published.clock.now()) {
        Ok(Recommended { replicas, at, learned }) => {
            (StatusCode::OK, serde_json::to_string(&Answer { replicas, at, learned }))
        }
        Err(why) => {
            let status = match &why {
                Unavailable::Unknown { .. } => StatusCode::NOT_FOUND,
                Unavailable::Stale { .. } | Unavailable::Undecided(_) => {
                    StatusCode::SERVICE_UNAVAILABLE
                }
            };
            (status, {
                let undecided = matches!(why, Unavailable::Undecided(_));
                serde_json::to_string(&Failure { error: why.to_string(), undecided })
            })
        }
    };
    let headers = [("content-type", "application/json"), (CACHE_CONTROL.as_str(), "no-store")];
    match body {
        Ok(body) => (status, headers, body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt;
    use model::ManualClock;
    use tower::ServiceExt;

    use super::super::recommendations::tests::Steering;
    use super::*;

    #[tokio::test]
    async fn counts_and_why_there_are_none() {
        let mut steering = Steering::new(serde_json::Value::Null);
        steering.decide(4, Ok(7), 1_000_000);
        let clock = Arc::new(ManualClock::new(1_000_001));
        let router = router(Arc::new(steering.recommendations), Arc::clone(&clock) as _);
        let ask = async |path: &str| {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let response = router.clone().oneshot(request).await.unwrap();
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            (status, String::from_utf8(body.to_vec()).unwrap())
        };
        let path = "/api/v1/steer/shop/web";
        assert_eq!(ask(path).await, (200, String::from(r#"{"replicas":7,"at":1000000}"#)));
        let unknown = String::from(r#"{"error":"no autoscaler shop/api is steered here"}"#);
        assert_eq!(ask("/api/v1/steer/shop/api").await, (404, unknown));
        clock.set(1_060_000);
        let stale =
            String::from(r#"{"error":"the last decision is 60 s old, more than 3 periods"}"#);
        assert_eq!(ask(path).await, (503, stale));
    }
}
