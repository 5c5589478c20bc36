//! What every request passes through.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use http::{GuardedBody, Uncompressed};
use metrics_api::Status;
use parking_lot::Mutex;
use telemetry::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tower_http::catch_panic::CatchPanicLayer;

use super::metrics::RequestMetrics;
use super::status::respond;
use crate::auth::{Access, MASTERS, RequestInfo, User, authenticate, authorize};

/// Seconds after which a client that was held back may ask again.
const RETRY_AFTER_SECONDS: u32 = 1;

/// Bounds on requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// `--max-requests-inflight`: reading requests at a time; 0 for no limit. Watches and probes do not count.
    pub inflight_max: usize,
    /// `--max-mutating-requests-inflight`: other requests at a time; 0 for no limit.
    pub mutating_inflight_max: usize,
    /// `--request-timeout`: time until an answer begins, and after which a request no longer counts as open although
    /// its answer has not been read. Watches have no limit.
    pub timeout: Duration,
}

impl Default for RequestLimits {
    /// Upstream's defaults.
    fn default() -> Self {
        Self { inflight_max: 400, mutating_inflight_max: 200, timeout: Duration::from_secs(60) }
    }
}

/// Puts all layers around `router`. The last that is added is the first that a request meets.
pub(super) fn around(
    router: Router,
    access: &Access,
    limits: RequestLimits,
    metrics: Arc<RequestMetrics>,
) -> Router {
    let Access { authenticator, authorizer } = access;
    let slots = Arc::new(Slots::new(limits, &metrics));
    router
        .layer(from_fn_with_state(Arc::clone(authorizer), authorize))
        .layer(from_fn_with_state(slots, hold_back))
        .layer(from_fn_with_state(
            (Arc::clone(authenticator), Arc::clone(authorizer)),
            authenticate,
        ))
        .layer(from_fn_with_state(limits.timeout, limit_time))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(never_redirect))
        .layer(from_fn_with_state(metrics, identify))
}

/// Reads what the request asks for, and counts the answer.
async fn identify(
    State(metrics): State<Arc<RequestMetrics>>,
    mut request: Request,
    next: Next,
) -> Response {
    let began = Instant::now();
    let (info, mut response) = match RequestInfo::of(request.method(), request.uri()) {
        Ok(info) => {
            request.extensions_mut().insert(info.clone());
            (Some(info), next.run(request).await)
        }
        Err(error) => (None, respond(&Status::bad_request(error.to_string()))),
    };
    // What one client may see, a cache must not show another.
    let private = HeaderValue::from_static("no-cache, private");
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(private);
    if info.as_ref().is_some_and(RequestInfo::is_long_running) {
        response.extensions_mut().insert(Uncompressed);
    }
    metrics.answered(info.as_ref(), response.status(), began.elapsed());
    response
}

/// Turns an answer that would send the client elsewhere into an error. The API server follows nobody, and its clients,
/// who trust it, must not be sent where they did not want to go.
async fn never_redirect(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    if status.is_redirection() && status != StatusCode::NOT_MODIFIED {
        tracing::error!(%status, "a handler tried to redirect");
        return respond(&Status::internal("the server does not redirect"));
    }
    response
}

fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    // The panic hook has logged what and where.
    respond(&Status::internal("the request caused a panic; the server's log says where"))
}

async fn limit_time(State(timeout): State<Duration>, request: Request, next: Next) -> Response {
    let info = request.extensions().get::<RequestInfo>();
    if info.is_some_and(RequestInfo::is_long_running) {
        return next.run(request).await;
    }
    match tokio::time::timeout(timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let late = "request did not complete within the allotted timeout";
            respond(&Status::timeout(late, 0))
        }
    }
}

struct Slots {
    reading: Option<Kind>,
    mutating: Option<Kind>,
    /// For how long a request has its place at most.
    timeout: Duration,
}

#[derive(Clone)]
struct Kind {
    free: Arc<Semaphore>,
    used: IntGauge,
}

impl Slots {
    fn new(limits: RequestLimits, metrics: &RequestMetrics) -> Self {
        let kind = |max: usize, name: &str| {
            let free = Arc::new(Semaphore::new(max.min(Semaphore::MAX_PERMITS)));
            let used = metrics.inflight.with_label_values(&[name]);
            (max > 0).then_some(Kind { free, used })
        };
        Self {
            reading: kind(limits.inflight_max, "readOnly"),
            mutating: kind(limits.mutating_inflight_max, "mutating"),
            timeout: limits.timeout,
        }
    }
}

/// A request's place among those in flight.
struct Place {
    used: IntGauge,
    _permit: OwnedSemaphorePermit,
}

impl Kind {
    fn take(&self) -> Option<Place> {
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        self.used.inc();
        Some(Place { used: self.used.clone(), _permit: permit })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.used.dec();
    }
}

/// Answers 429 when too many requests are open, except to those who may do everything and to probes: a server that is
/// busy need not be restarted. A request is open until the last byte of its answer is on its way, but no longer than the
/// timeout, so that clients who do not read keep nobody out.
async fn hold_back(State(slots): State<Arc<Slots>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let info = request.extensions().get::<RequestInfo>();
    if info.is_some_and(|info| info.is_long_running() || is_probe(info)) {
        return next.run(request).await;
    }
    let reads = info.is_some_and(|info| matches!(info.verb.as_str(), "get" | "list" | "watch"));
    let kind = if reads { &slots.reading } else { &slots.mutating };
    let Some(kind) = kind else { return next.run(request).await };
    let Some(place) = kind.take() else {
        let may_pass = request.extensions().get::<User>().is_some_and(|user| user.is_in(MASTERS));
        if may_pass {
            return next.run(request).await;
        }
        let message = "Too many requests, please try again later.";
        return respond(&Status::too_many_requests(message, RETRY_AFTER_SECONDS));
    };
    let until = began + slots.timeout;
    next.run(request)
        .await
        .map(|body| Body::new(GuardedBody::new(body, Holding::new(place, until))))
}

fn is_probe(info: &RequestInfo) -> bool {
    let first = info.path.split('/').nth(1).unwrap_or_default();
    !info.is_resource && matches!(first, "healthz" | "livez" | "readyz")
}

/// A place that an answer keeps until it is over or the time is.
struct Holding {
    place: Arc<Mutex<Option<Place>>>,
    timer: AbortHandle,
}

impl Holding {
    fn new(place: Place, until: Instant) -> Self {
        let place = Arc::new(Mutex::new(Some(place)));
        let held = Arc::clone(&place);
        let timer = tokio::spawn(async move {
            tokio::time::sleep_until(until).await;
            drop(held.lock().take());
        });
        Self { place, timer: timer.abort_handle() }
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.timer.abort();
        // The task may end later than the next request comes.
        drop(self.place.lock().take());
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;
    use axum::routing::post;
    use telemetry::Registry;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_reads_keeps_its_place_until_the_timeout() {
        let timeout = Duration::from_secs(60);
        let limits =
            RequestLimits { mutating_inflight_max: 1, timeout, ..RequestLimits::default() };
        let metrics = RequestMetrics::new(&Registry::new());
        let slots = Arc::new(Slots::new(limits, &metrics));
        let router = Router::new()
            .route("/", post(async || "answer"))
            .layer(from_fn_with_state(slots, hold_back));
        let ask = async || {
            let request = Request::post("/").body(Body::empty()).unwrap();
            router.clone().oneshot(request).await.unwrap()
        };
        let used = metrics.inflight.with_label_values(&["mutating"]);
        let unread = ask().await;
        assert_eq!((unread.status(), used.get()), (StatusCode::OK, 1));
        assert_eq!(hyper::body::Body::size_hint(unread.body()).exact(), Some(6));
        tokio::time::sleep(timeout - Duration::from_secs(1)).await;
        assert_eq!(ask().await.status(), StatusCode::TOO_MANY_REQUESTS);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(used.get(), 0);
        let other = ask().await;
        assert_eq!(other.status(), StatusCode::OK);
        drop(unread);
        assert_eq!(used.get(), 1, "the place is given back once");
        drop(other);
        assert_eq!(used.get(), 0);
    }
}
