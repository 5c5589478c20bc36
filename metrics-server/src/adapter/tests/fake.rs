//! A Prometheus API that answers what it is told to, and a cluster with a few objects.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use api_client::{Client, Inventory, Options, Source};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Request, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use metrics_api::LabelSelector;
use model::{Clock, ManualClock};
use parking_lot::Mutex;
use serde_json::{Value, json};
use telemetry::Registry;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::adapter::{
    Adapter, AdapterMetrics, AdapterOptions, ApiResource, ConfigError, DiscoveryConfig, Fallback,
    ListError, ObjectLister, QueryLimits, RelistTimes, router,
};

/// 2023-11-14T22:13:20Z
pub(super) const NOW_MS: i64 = 1_700_000_000_000;

/// What the API answers.
#[derive(Default)]
pub(super) struct Prometheus {
    /// Label sets by selector.
    pub(super) series: Mutex<HashMap<String, Value>>,
    /// Results by query; `result` of a vector.
    pub(super) answers: Mutex<HashMap<String, Value>>,
    /// `data` by path.
    pub(super) paths: Mutex<HashMap<String, Value>>,
    /// Every query that was asked.
    pub(super) asked: Mutex<Vec<String>>,
    /// Every answer is an error.
    pub(super) broken: AtomicBool,
}

impl Prometheus {
    pub(super) fn has_series(&self, selector: &str, series: Value) {
        self.series.lock().insert(String::from(selector), series);
    }

    /// `query` gives these series with these values.
    pub(super) fn answers(&self, query: &str, samples: &[(Value, &str)]) {
        let samples = samples
            .iter()
            .map(|(metric, value)| json!({"metric": metric, "value": [NOW_MS / 1000, value]}));
        let vector = json!({"resultType": "vector", "result": samples.collect::<Vec<_>>()});
        self.answers.lock().insert(String::from(query), vector);
    }

    pub(super) fn breaks(&self, broken: bool) {
        self.broken.store(broken, Ordering::SeqCst);
    }

    pub(super) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock())
    }

    #[expect(clippy::unused_async, reason = "handlers are asynchronous")]
    async fn answer(State(own): State<Arc<Self>>, uri: Uri) -> Response {
        if own.broken.load(Ordering::SeqCst) {
            let body = r#"{"status":"error","errorType":"unavailable","error":"starting up"}"#;
            return (StatusCode::SERVICE_UNAVAILABLE, body).into_response();
        }
        let parameters: HashMap<String, String> =
            form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
                .into_owned()
                .collect();
        let data = match uri.path() {
            "/api/v1/series" => own.series.lock().get(&parameters["match[]"]).cloned(),
            "/api/v1/query" => {
                let query = parameters["query"].clone();
                own.asked.lock().push(query.clone());
                let empty = json!({"resultType": "vector", "result": []});
                match own.answers.lock().get(&query) {
                    Some(Value::String(error)) => {
                        let body =
                            json!({"status": "error", "errorType": "execution", "error": error});
                        let status = StatusCode::UNPROCESSABLE_ENTITY;
                        return (status, body.to_string()).into_response();
                    }
                    answer => Some(answer.cloned().unwrap_or(empty)),
                }
            }
            path => own.paths.lock().get(path).cloned(),
        };
        let data = data.unwrap_or_else(|| json!([]));
        json!({"status": "success", "data": data}).to_string().into_response()
    }
}

/// Pods `a` and `b` of namespace `web` with the label `app=web`, pod `c` with `app=db`, nodes `n1` and `n2`.
struct FewObjects;

impl ObjectLister for FewObjects {
    fn list<'a>(
        &'a self,
        resource: &'a ApiResource,
        namespace: Option<&'a str>,
        selector: &'a LabelSelector,
        _: &'a str,
    ) -> BoxFuture<'a, Result<Vec<String>, ListError>> {
        let all: &[(&str, &str)] = match (resource.plural.as_str(), namespace) {
            ("pods", Some("web")) => &[("a", "web"), ("b", "web"), ("c", "db")],
            ("nodes", None) => &[("n1", ""), ("n2", "")],
            ("deployments", Some("web")) => {
                let (resource, reason) = (resource.qualified(), String::from("forbidden"));
                return async { Err(ListError::Api { resource, reason }) }.boxed();
            }
            _ => &[],
        };
        let selected = all.iter().filter(|(_, app)| {
            selector.matches(|key| (key == "app").then_some(*app).filter(|app| !app.is_empty()))
        });
        let names = selected.map(|(name, _)| String::from(*name)).collect();
        async { Ok(names) }.boxed()
    }
}

pub(super) struct World {
    pub(super) prometheus: Arc<Prometheus>,
    pub(super) adapter: Arc<Adapter>,
    pub(super) clock: Arc<ManualClock>,
    pub(super) url: String,
    registry: Registry,
    router: Router,
}

/// Serves `router` on loopback.
pub(super) async fn start(router: Router) -> String {
    let listener = http::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let limits = http::Limits::default();
    tokio::spawn(http::serve(listener, router, limits, CancellationToken::new()));
    url
}

impl World {
    pub(super) async fn new(config: &str, default_rules: bool, fallback: Option<Fallback>) -> Self {
        Self::with(config, default_rules, |options| options.fallback = fallback).await
    }

    /// One whose options are changed before it is made.
    pub(super) async fn with(
        config: &str,
        default_rules: bool,
        change: impl FnOnce(&mut AdapterOptions),
    ) -> Self {
        let prometheus = Arc::new(Prometheus::default());
        let routes = Router::new().fallback(Prometheus::answer);
        let url = start(routes.with_state(Arc::clone(&prometheus))).await;
        let client = Arc::new(Client::new(http::Client::default(), Options::new(&url)).unwrap());
        let clock = Arc::new(ManualClock::new(NOW_MS));
        let registry = Registry::new();
        let mut options = AdapterOptions {
            config: DiscoveryConfig::parse(config, "test").unwrap(),
            source: Arc::clone(&client) as Arc<dyn Source>,
            objects: Arc::new(FewObjects),
            cluster: None,
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            queries: QueryLimits { keep: std::time::Duration::ZERO, ..QueryLimits::default() },
            relist: RelistTimes::default(),
            default_rules: default_rules.then_some(client as Arc<dyn Inventory>),
            fallback: None,
            expressions: None,
            steering: None,
            metrics: AdapterMetrics::new(&registry),
            source_name: url.clone(),
        };
        change(&mut options);
        let adapter = Arc::new(Adapter::new(options).unwrap());
        let router = router(Arc::clone(&adapter));
        Self { prometheus, adapter, clock, url, registry, router }
    }

    /// What an adapter makes of a configuration; nobody is asked.
    pub(super) fn adapter_of(config: DiscoveryConfig) -> Result<Adapter, ConfigError> {
        let options = Options::new("http://nobody");
        let client = Client::new(http::Client::default(), options).unwrap();
        Adapter::new(AdapterOptions {
            config,
            source: Arc::new(client),
            objects: Arc::new(FewObjects),
            cluster: None,
            clock: Arc::new(ManualClock::new(NOW_MS)),
            queries: QueryLimits::default(),
            relist: RelistTimes::default(),
            default_rules: None,
            fallback: None,
            expressions: None,
            steering: None,
            metrics: AdapterMetrics::new(&Registry::new()),
            source_name: String::from("nobody"),
        })
    }

    /// The status, the warnings and the body of the answer.
    pub(super) async fn get_with(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (u16, HeaderMap, Vec<u8>) {
        let mut request = Request::get(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, 1 << 20).await.unwrap();
        (parts.status.as_u16(), parts.headers, body.to_vec())
    }

    pub(super) async fn get(&self, path: &str) -> (u16, Value) {
        let (status, _, body) = self.get_with(path, &[]).await;
        (status, serde_json::from_slice(&body).unwrap())
    }

    /// The lines of the adapter's own metrics that begin with `name`.
    pub(super) fn own_metrics(&self, name: &str) -> Vec<String> {
        let mut text = Vec::new();
        telemetry::encode(&self.registry, &mut text);
        let text = String::from_utf8(text).unwrap();
        text.lines().filter(|line| line.starts_with(name)).map(String::from).collect()
    }

    /// The status and message of a failure.
    pub(super) async fn fails(&self, path: &str) -> (u16, String) {
        let (status, body) = self.get(path).await;
        assert_eq!(
            (&body["kind"], &body["status"]),
            (&json!("Status"), &json!("Failure")),
            "{path}"
        );
        assert_eq!(body["code"], status, "{path}");
        (status, String::from(body["message"].as_str().unwrap()))
    }
}

/// Values by object.
pub(super) fn values(list: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| String::from(value.as_str().unwrap());
    let items = list["items"].as_array().unwrap().iter();
    items.map(|item| (text(&item["describedObject"]["name"]), text(&item["value"]))).collect()
}
