//! The API server as the one who knows tokens and permissions.

use std::time::Duration;

use futures_util::future::BoxFuture;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use k8s_openapi::api::authorization::v1::{
    SubjectAccessReview, SubjectAccessReviewSpec, SubjectAccessReviewStatus,
};
use kube::Api;
use kube::api::PostParams;

use super::ReviewError;
use super::authentication::TokenReviewer;
use super::authorization::AccessReviewer;

/// How often a question is put before its failure is the answer, as upstream.
const ATTEMPTS_MAX: u32 = 5;
/// The pause after the first failure; each further one is half as long again.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Asks the API server by `TokenReview` and `SubjectAccessReview`.
#[derive(Clone)]
pub struct ClusterReviewer {
    client: kube::Client,
    timeout: Duration,
}

impl std::fmt::Debug for ClusterReviewer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterReviewer").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl ClusterReviewer {
    /// Asks through `client`, for at most `timeout` per question with all its attempts; 10 s upstream.
    #[must_use]
    pub const fn new(client: kube::Client, timeout: Duration) -> Self {
        Self { client, timeout }
    }

    async fn ask<T, F>(&self, attempt: impl Fn() -> F + Send) -> Result<T, ReviewError>
    where
        F: Future<Output = kube::Result<T>> + Send,
    {
        let attempts = async {
            let mut pause = FIRST_PAUSE;
            let mut left = ATTEMPTS_MAX;
            loop {
                left -= 1;
                match attempt().await {
                    Ok(answer) => return Ok(answer),
                    Err(error) if left == 0 || !is_transient(&error) => return Err(failed(error)),
                    Err(error) => tracing::debug!(%error, ?pause, "asking the API server again"),
                }
                tokio::time::sleep(pause).await;
                pause += pause / 2;
            }
        };
        tokio::time::timeout(self.timeout, attempts).await.map_err(|_| ReviewError::TimedOut)?
    }
}

fn is_transient(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => {
            let says_when = status.details.as_ref().is_some_and(|one| one.retry_after_seconds > 0);
            says_when || matches!(status.code, 429 | 500 | 504)
        }
        kube::Error::HyperError(_) | kube::Error::Service(_) => true,
        _ => false,
    }
}

fn failed(error: kube::Error) -> ReviewError {
    match error {
        kube::Error::Api(status) => {
            ReviewError::Answered { code: status.code, message: status.message }
        }
        other => ReviewError::Unreachable(other.to_string()),
    }
}

impl TokenReviewer for ClusterReviewer {
    fn review<'a>(
        &'a self,
        token: &'a str,
        audiences: &'a [String],
    ) -> BoxFuture<'a, Result<TokenReviewStatus, ReviewError>> {
        Box::pin(async move {
            let review = TokenReview {
                spec: TokenReviewSpec {
                    token: String::from(token),
                    audiences: (!audiences.is_empty()).then(|| audiences.to_vec()),
                },
                ..TokenReview::default()
            };
            let api: Api<TokenReview> = Api::all(self.client.clone());
            let params = PostParams::default();
            let answer = self.ask(|| api.create(&params, &review)).await?;
            Ok(answer.status.unwrap_or_default())
        })
    }
}

impl AccessReviewer for ClusterReviewer {
    fn review<'a>(
        &'a self,
        spec: &'a SubjectAccessReviewSpec,
    ) -> BoxFuture<'a, Result<SubjectAccessReviewStatus, ReviewError>> {
        Box::pin(async move {
            let review =
                SubjectAccessReview { spec: spec.clone(), ..SubjectAccessReview::default() };
            let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
            let params = PostParams::default();
            let answer = self.ask(|| api.create(&params, &review)).await?;
            Ok(answer.status.unwrap_or_default())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::Json;
    use axum::http::StatusCode;
    use axum::response::IntoResponse;
    use axum::routing::post;
    use serde_json::{Value, json};
    use tokio_util::sync::CancellationToken;

    use super::*;

    async fn reviewer(router: axum::Router) -> ClusterReviewer {
        let listener = http::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving =
            http::serve(listener, router, http::Limits::default(), CancellationToken::new());
        tokio::spawn(serving);
        let client = kube::Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap();
        ClusterReviewer::new(client, Duration::from_secs(10))
    }

    #[tokio::test]
    async fn questions_and_answers_have_the_form_of_the_api() {
        let tokens = post(async |Json(asked): Json<Value>| {
            assert_eq!(asked["kind"], "TokenReview");
            assert_eq!(asked["spec"], json!({"token": "t", "audiences": ["a"]}));
            let user = json!({"username": "jane", "groups": ["dev"], "extra": {"k": ["v"]}});
            let status = json!({"authenticated": true, "user": user});
            let metadata = json!({"creationTimestamp": null});
            let answer = json!({
                "kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1",
                "metadata": metadata, "spec": asked["spec"], "status": status,
            });
            (StatusCode::CREATED, Json(answer))
        });
        let accesses = post(async |Json(asked): Json<Value>| {
            assert_eq!(asked["spec"], json!({"user": "jane"}));
            let mut answer = asked;
            answer["status"] = json!({"allowed": false, "reason": "no"});
            (StatusCode::CREATED, Json(answer))
        });
        let reviewer = reviewer(
            axum::Router::new()
                .route("/apis/authentication.k8s.io/v1/tokenreviews", tokens)
                .route("/apis/authorization.k8s.io/v1/subjectaccessreviews", accesses),
        )
        .await;
        let status = TokenReviewer::review(&reviewer, "t", &["a".into()]).await.unwrap();
        assert_eq!(status.authenticated, Some(true));
        assert_eq!(status.user.unwrap().extra.unwrap()["k"], ["v"]);
        let spec = SubjectAccessReviewSpec {
            user: Some("jane".into()),
            ..SubjectAccessReviewSpec::default()
        };
        let status = AccessReviewer::review(&reviewer, &spec).await.unwrap();
        assert_eq!((status.allowed, status.reason.as_deref()), (false, Some("no")));
    }

    #[tokio::test]
    async fn transient_failures_are_tried_again_and_others_are_not() {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let tokens = post(async move || {
            if counted.fetch_add(1, Ordering::SeqCst) == 0 {
                let busy = metrics_api::Status::too_many_requests("busy", 1);
                return (StatusCode::TOO_MANY_REQUESTS, busy.to_json()).into_response();
            }
            let no = metrics_api::Status::bad_request("nonsense");
            (StatusCode::BAD_REQUEST, no.to_json()).into_response()
        });
        let path = "/apis/authentication.k8s.io/v1/tokenreviews";
        let reviewer = reviewer(axum::Router::new().route(path, tokens)).await;
        let error = TokenReviewer::review(&reviewer, "t", &[]).await.unwrap_err();
        let expected = ReviewError::Answered { code: 400, message: String::from("nonsense") };
        assert_eq!((error, calls.load(Ordering::SeqCst)), (expected, 2));
    }
}
