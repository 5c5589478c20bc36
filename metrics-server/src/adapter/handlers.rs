//! The paths of both groups, and how answers are written.

use std::borrow::Cow;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE, HeaderName};
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};
use axum::routing::any;
use metrics_api::{
    Accepted, ApiGroup, ApiResource, ApiVersion, CUSTOM_METRICS_GROUP, CustomMetricsVersion,
    EXTERNAL_METRICS_GROUP, EXTERNAL_METRICS_VERSION, Encoding, ExternalMetricValueList,
    FieldSelector, GroupResource, LabelSelector, MEDIA_TYPES, MetricValueList, Status, negotiate,
    protobuf,
};
use serde::Serialize;

use super::config;
use super::engine::{Adapter, CustomRequest, Found};
use super::failure::Failure;
use super::fallback::Caller;
use crate::auth::path_segments;
use crate::resource::respond;

/// Longest name in a path.
const NAME_BYTES_MAX: usize = 253;

/// Warnings that an answer carries.
const WARNINGS_MAX: usize = 5;

/// Bytes of a warning.
const WARNING_BYTES_MAX: usize = 400;

/// Why a request is refused.
type Refusal = Box<Status>;

fn unknown_path() -> Refusal {
    Box::new(Status::unknown_path())
}

fn bad_request(message: impl Into<String>) -> Refusal {
    Box::new(Status::bad_request(message))
}

/// Handlers of everything below the two groups that `adapter` serves. Who may ask is decided before.
pub fn router(adapter: Arc<Adapter>) -> Router {
    let mut router = Router::new();
    for group in adapter.groups() {
        let path = format!("/apis/{}", group.name);
        router = router
            .route(&path, any(handle))
            .route(&format!("{path}/"), any(handle))
            .route(&format!("{path}/{{*rest}}"), any(handle));
    }
    router.with_state(adapter)
}

impl Adapter {
    /// The groups that are served, with their metrics, for discovery.
    #[must_use]
    pub fn groups(&self) -> Vec<ApiGroup> {
        let mut groups = Vec::new();
        if self.serves_custom {
            let version = |version: CustomMetricsVersion| ApiVersion {
                name: String::from(version.as_str()),
                resources: self.custom_resources(version),
            };
            groups.push(ApiGroup {
                name: String::from(CUSTOM_METRICS_GROUP),
                versions: CustomMetricsVersion::ALL.map(version).into(),
            });
        }
        if self.serves_external {
            groups.push(ApiGroup {
                name: String::from(EXTERNAL_METRICS_GROUP),
                versions: vec![ApiVersion {
                    name: String::from(EXTERNAL_METRICS_VERSION),
                    resources: self.external_resources(),
                }],
            });
        }
        groups
    }

    fn custom_resources(&self, version: CustomMetricsVersion) -> Vec<ApiResource> {
        let own = self.custom_metrics().into_iter().map(|(resource, namespaced, metric)| {
            described(format!("{resource}/{metric}"), namespaced, "MetricValueList")
        });
        self.merged(own.collect(), CUSTOM_METRICS_GROUP, version.as_str())
    }

    fn external_resources(&self) -> Vec<ApiResource> {
        let catalog = self.lister.catalog();
        let own = catalog
            .externals()
            .map(|metric| described(String::from(metric), true, "ExternalMetricValueList"));
        self.merged(own.collect(), EXTERNAL_METRICS_GROUP, EXTERNAL_METRICS_VERSION)
    }

    /// Our own metrics and those of the other adapter, each once: ours come first.
    fn merged(
        &self,
        mut own: Vec<ApiResource>,
        group: &'static str,
        version: &'static str,
    ) -> Vec<ApiResource> {
        if let Some(fallback) = &self.fallback {
            own.extend(fallback.listed(group, version));
            own.sort_by(|a, b| a.name.cmp(&b.name));
            own.dedup_by(|later, earlier| later.name == earlier.name);
        }
        own
    }
}

fn described(name: String, namespaced: bool, kind: &str) -> ApiResource {
    ApiResource {
        name,
        singular: String::new(),
        namespaced,
        kind: String::from(kind),
        verbs: vec![String::from("get")],
    }
}

async fn handle(State(adapter): State<Arc<Adapter>>, request: Request<Body>) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let accept = header(&parts.headers, ACCEPT);
    let refuse = |status: &Status| {
        let encoding = negotiate(&accept, |_, _| true);
        respond(status, encoding.map_or(Encoding::Json, |accepted| accepted.encoding))
    };
    let caller = parts.extensions.get::<Caller>().cloned().unwrap_or_else(Caller::anonymous);
    let segments = match segments(&parts.uri) {
        Ok(segments) => segments,
        Err(status) => return refuse(&status),
    };
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let query = Query::of(&parts.uri);
    if parts.method != Method::GET && parts.method != Method::HEAD {
        let group = segments.get(1).copied().unwrap_or_default();
        let of = GroupResource { group, resource: "*" };
        return refuse(&Status::method_not_allowed(
            of,
            &parts.method.as_str().to_ascii_lowercase(),
        ));
    }
    let asked = Asked {
        adapter: &adapter,
        segments: &segments,
        query: &query,
        caller: &caller,
        accept: &accept,
    };
    match asked.answer().await {
        Ok(response) => response,
        Err(status) => refuse(&status),
    }
}

/// The segments of the path, as they were authorized.
fn segments(uri: &Uri) -> Result<Vec<String>, Refusal> {
    let segments = path_segments(uri.path()).map_err(|_| unknown_path())?;
    Ok(segments.into_iter().map(Cow::into_owned).collect())
}

fn header(headers: &HeaderMap, name: HeaderName) -> String {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.collect::<Vec<_>>().join(",")
}

/// What a query string says; of parameters that are given twice the first counts, as in Go.
#[derive(Debug, Default)]
struct Query {
    label_selector: String,
    metric_label_selector: String,
    field_selector: String,
}

impl Query {
    fn of(uri: &Uri) -> Self {
        let mut query = Self::default();
        let (mut label, mut metric, mut field) = (None, None, None);
        for (name, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
            let place = match &*name {
                "labelSelector" => &mut label,
                "metricLabelSelector" => &mut metric,
                "fieldSelector" => &mut field,
                _ => continue,
            };
            place.get_or_insert_with(|| value.into_owned());
        }
        query.label_selector = label.unwrap_or_default();
        query.metric_label_selector = metric.unwrap_or_default();
        query.field_selector = field.unwrap_or_default();
        query
    }

    fn pairs(&self) -> Vec<(&str, &str)> {
        let all = [
            ("labelSelector", self.label_selector.as_str()),
            ("metricLabelSelector", self.metric_label_selector.as_str()),
        ];
        all.into_iter().filter(|(_, value)| !value.is_empty()).collect()
    }
}

struct Asked<'a> {
    adapter: &'a Adapter,
    /// `apis`, group, version, …
    segments: &'a [&'a str],
    query: &'a Query,
    caller: &'a Caller,
    accept: &'a str,
}

impl Asked<'_> {
    async fn answer(&self) -> Result<Response<Body>, Refusal> {
        let encoding = self.encoding()?;
        match *self.segments {
            ["apis", group] => {
                let group = self.group(group)?;
                Ok(document(&group.document(), encoding))
            }
            ["apis", group, version] => {
                let resources = self.group(group)?.resources(version);
                Ok(document(&resources.ok_or_else(unknown_path)?, encoding))
            }
            ["apis", CUSTOM_METRICS_GROUP, version, ref path @ ..] => {
                let version = CustomMetricsVersion::named(version);
                self.custom(version.ok_or_else(unknown_path)?, path, encoding).await
            }
            [
                "apis",
                EXTERNAL_METRICS_GROUP,
                EXTERNAL_METRICS_VERSION,
                "namespaces",
                namespace,
                metric,
            ] => self.external(namespace, metric, encoding).await,
            _ => Err(unknown_path()),
        }
    }

    fn encoding(&self) -> Result<Encoding, Refusal> {
        match negotiate(self.accept, |_, transform| transform.is_none()) {
            Some(Accepted { encoding, .. }) => Ok(encoding),
            None => Err(Box::new(Status::not_acceptable(MEDIA_TYPES))),
        }
    }

    fn group(&self, name: &str) -> Result<ApiGroup, Refusal> {
        let found = self.adapter.groups().into_iter().find(|group| group.name == name);
        found.ok_or_else(unknown_path)
    }

    async fn custom(
        &self,
        version: CustomMetricsVersion,
        path: &[&str],
        encoding: Encoding,
    ) -> Result<Response<Body>, Refusal> {
        let request = self.custom_request(path)?;
        let found =
            self.adapter.custom(&request).await.map_err(|failure| Box::new(failure.status()))?;
        match found {
            Some(Found { items, warnings }) => {
                let times = items.iter().map(|item| item.timestamp_s);
                self.adapter.metrics.answered_custom(times, self.adapter.clock.now());
                let list = MetricValueList { version, items };
                Ok(written(&list, protobuf::write_metric_values, encoding, &warnings))
            }
            None => {
                let unknown = self.adapter.unknown_custom(&request);
                self.forward(&unknown, self.adapter.is_custom_tried()).await
            }
        }
    }

    fn custom_request(&self, path: &[&str]) -> Result<CustomRequest, Refusal> {
        let (namespace, resource, name, metric) = match *path {
            ["namespaces", namespace, "metrics", metric] => (None, "namespaces", namespace, metric),
            ["namespaces", namespace, resource, name, metric] => {
                (Some(namespace), resource, name, metric)
            }
            ["namespaces", ..] => return Err(bad_request("invalid request path")),
            [resource, name, metric] => (None, resource, name, metric),
            _ => return Err(unknown_path()),
        };
        for text in namespace.into_iter().chain([resource, name]).filter(|text| *text != "*") {
            check_name(text)?;
        }
        if !self.query.field_selector.is_empty() {
            let selector = self.query.field_selector.parse::<FieldSelector>();
            let selector = selector.map_err(|error| bad_request(error.to_string()))?;
            if !selector.is_empty() && selector.name() != Some(name) {
                let message = "fieldSelector metadata.name doesn't match requested name";
                return Err(bad_request(message));
            }
        }
        let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
        Ok(CustomRequest {
            namespace: namespace.map(String::from),
            resource: config::GroupResource {
                group: String::from(group),
                resource: String::from(resource),
            },
            name: (name != "*").then(|| String::from(name)),
            metric: String::from(metric),
            selector: selector(&self.query.label_selector)?,
            selector_text: self.query.label_selector.clone(),
            metric_selector: selector(&self.query.metric_label_selector)?,
        })
    }

    async fn external(
        &self,
        namespace: &str,
        metric: &str,
        encoding: Encoding,
    ) -> Result<Response<Body>, Refusal> {
        check_name(namespace)?;
        let selector = selector(&self.query.label_selector)?;
        let found = self.adapter.external(namespace, metric, &selector).await;
        match found.map_err(|failure| Box::new(failure.status()))? {
            Some(Found { items, warnings }) => {
                let times = items.iter().map(|item| item.timestamp_s);
                self.adapter.metrics.answered_external(times, self.adapter.clock.now());
                let list = ExternalMetricValueList { items };
                Ok(written(&list, protobuf::write_external_values, encoding, &warnings))
            }
            None => {
                let unknown = self.adapter.unknown_external(namespace, metric);
                self.forward(&unknown, self.adapter.is_external_tried()).await
            }
        }
    }

    /// Asks the other adapter, if there is one, and if our own list `is_tried`: before, the metric may be one of ours, and
    /// the other's values of the same name need not be the same.
    async fn forward(&self, unknown: &Failure, is_tried: bool) -> Result<Response<Body>, Refusal> {
        let fallback = self.adapter.fallback.as_ref().filter(|_| is_tried);
        let Some(fallback) = fallback else { return Err(Box::new(unknown.status())) };
        let pairs = self.query.pairs();
        let answer = fallback.forward(self.segments, &pairs, Some(self.caller)).await;
        let answer = answer.map_err(|error| {
            tracing::warn!(%error, "a request could not be forwarded");
            Box::new(Status::service_unavailable(error.to_string()))
        })?;
        let mut response = Response::new(Body::from(answer.body));
        *response.status_mut() = answer.status;
        let content_type = HeaderValue::try_from(answer.content_type);
        if let Ok(content_type) = content_type {
            response.headers_mut().insert(CONTENT_TYPE, content_type);
        }
        Ok(response)
    }
}

/// Names go into queries, some templates put them there without quotes of ours.
fn check_name(name: &str) -> Result<(), Refusal> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':');
    if name.len() <= NAME_BYTES_MAX && name.chars().all(allowed) {
        Ok(())
    } else {
        Err(bad_request(format!("{name:?} is not the name of an object")))
    }
}

fn selector(text: &str) -> Result<LabelSelector, Refusal> {
    text.parse().map_err(|error: metrics_api::SelectorError| bad_request(error.to_string()))
}

/// Discovery in JSON or YAML: whoever prefers protobuf reads JSON too.
fn document(value: &impl Serialize, encoding: Encoding) -> Response<Body> {
    let encoding = if encoding == Encoding::Yaml { encoding } else { Encoding::Json };
    written(value, |_, _| {}, encoding, &[])
}

fn written<T: Serialize>(
    value: &T,
    protobuf: impl FnOnce(&mut Vec<u8>, &T),
    encoding: Encoding,
    warnings: &[String],
) -> Response<Body> {
    let body = match encoding {
        // Keys in alphabetical order, as API servers write YAML.
        Encoding::Yaml => serde_json::to_value(value)
            .map_err(|error| error.to_string())
            .and_then(|value| serde_saphyr::to_string(&value).map_err(|error| error.to_string()))
            .map(String::into_bytes),
        Encoding::Json => serde_json::to_vec(value).map_err(|error| error.to_string()),
        Encoding::Protobuf => {
            let mut body = Vec::new();
            protobuf(&mut body, value);
            Ok(body)
        }
    };
    let body = match body {
        Ok(body) => body,
        Err(error) => return respond(&Status::internal(error), Encoding::Json),
    };
    let mut response = Response::new(Body::from(body));
    let content_type = HeaderValue::from_static(encoding.media_type());
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    for warning in warnings.iter().take(WARNINGS_MAX) {
        if let Ok(value) = HeaderValue::try_from(warning_header(warning)) {
            response.headers_mut().append("warning", value);
        }
    }
    response
}

/// `299 - "text"`, which kubectl and client libraries show.
fn warning_header(text: &str) -> String {
    let clean = text.chars().map(|c| match c {
        '"' => '\'',
        '\\' => '/',
        ' '..='~' => c,
        _ => '?',
    });
    format!("299 - \"{}\"", clean.take(WARNING_BYTES_MAX).collect::<String>())
}
