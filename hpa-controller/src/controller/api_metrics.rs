//! The metrics APIs of a cluster as a [`MetricsSource`].

use std::collections::HashMap;
use std::fmt::{self, Display};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, WeakShared};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use metrics_api::{
    CUSTOM_METRICS_GROUP, CustomMetricsVersion, EXTERNAL_METRICS_GROUP, EXTERNAL_METRICS_VERSION,
    METRICS_GROUP_VERSION, Quantity,
};
use model::Timestamp;
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::api_server::{ApiError, ApiServer, Call, segment};
use super::mapping::Mappings;
use crate::decide::readings::{self, ContainerUsage, PodUsage};
use crate::inputs::{PodReading, ValueReading};
use crate::selector;
use crate::sources::{MetricRequest, MetricsError, MetricsSource, ObjectRef, PodsRequest};

/// How long the version of the custom metrics API is believed.
const VERSION_KNOWN_FOR: Duration = Duration::from_secs(60);
/// How long its absence is.
const VERSION_ABSENT_FOR: Duration = Duration::from_secs(5);
/// Window of a custom metric that does not say.
const WINDOW_MS: i64 = 60_000;

/// Asks `metrics.k8s.io`, `custom.metrics.k8s.io` and `external.metrics.k8s.io` through the API server.
pub struct ApiMetrics {
    api: ApiServer,
    mappings: Arc<Mappings>,
    custom: Mutex<Option<CustomVersion>>,
    asked: AskedUsages,
}

#[derive(Clone, Debug)]
struct CustomVersion {
    read: Instant,
    version: Result<CustomMetricsVersion, String>,
}

impl fmt::Debug for ApiMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiMetrics").field("api", &self.api).finish_non_exhaustive()
    }
}

impl ApiMetrics {
    /// Asks over `api`, whose limits hold.
    #[must_use]
    pub fn new(api: ApiServer) -> Self {
        let mappings = Arc::new(Mappings::new(api.clone()));
        Self::with_mappings(api, mappings)
    }

    pub(super) fn with_mappings(api: ApiServer, mappings: Arc<Mappings>) -> Self {
        Self { api, mappings, custom: Mutex::new(None), asked: AskedUsages::default() }
    }

    async fn resource(
        &self,
        pods: &PodsRequest,
        resource: &str,
        container: Option<&str>,
    ) -> Result<Vec<PodReading>, MetricsError> {
        let items = self.usages(pods).await.map_err(failed("resource"))?;
        readings::resource(&items, resource, container)
    }

    /// The usages of pods. An answer has all resources, so that those who ask for the same pods at the same time share one: an autoscaler
    /// asks for all of its metrics at once, CPU and memory among them.
    async fn usages(&self, pods: &PodsRequest) -> Result<Arc<[PodUsage]>, ApiError> {
        let (answer, ours) = {
            let mut asked = self.asked.lock();
            match asked.get(pods).and_then(WeakShared::upgrade) {
                Some(answer) => (answer, false),
                None => {
                    let answer = usages(self.api.clone(), pods.clone()).boxed().shared();
                    if let Some(weak) = answer.downgrade() {
                        asked.insert(pods.clone(), weak);
                    }
                    (answer, true)
                }
            }
        };
        // Whoever comes after the answer asks anew, also where this one is given up before there is one.
        let _forget = ours.then(|| Forget { asked: &self.asked, pods });
        answer.await
    }

    async fn custom_pods(
        &self,
        pods: &PodsRequest,
        metric: &str,
        of: Option<&LabelSelector>,
    ) -> Result<Vec<PodReading>, MetricsError> {
        let of = metric_selector(of, "custom")?;
        let version = self.custom_version().await?;
        let path = format!(
            "/apis/{CUSTOM_METRICS_GROUP}/{}/namespaces/{}/pods/*/{}{}",
            version.as_str(),
            segment(&pods.namespace),
            segment(metric),
            query(&[("labelSelector", &pods.selector), ("metricLabelSelector", &of)]),
        );
        let call = Call { name: "*", ..Call::list(path, "pods.custom.metrics.k8s.io") };
        let list: MetricValueList = self.custom_answer(call).await?;
        readings::pods(list.items.into_iter().map(MetricValue::reading).collect())
    }

    async fn custom_object(
        &self,
        namespace: &str,
        object: &ObjectRef,
        metric: &str,
        of: Option<&LabelSelector>,
    ) -> Result<Vec<ValueReading>, MetricsError> {
        let of = metric_selector(of, "custom")?;
        let mappings = self.mappings.of(&object.api_version, &object.kind).await;
        // Upstream has looked the kind up before it asks, and does not say which API it would have asked.
        let mappings = mappings.map_err(|error| MetricsError(error.to_string()))?;
        let mapping = mappings
            .first()
            .ok_or_else(|| MetricsError(format!("no matches for kind {:?}", object.kind)))?;
        let version = self.custom_version().await?;
        let root = format!("/apis/{CUSTOM_METRICS_GROUP}/{}/namespaces", version.as_str());
        let query = query(&[("metricLabelSelector", &of)]);
        let (name, metric) = (segment(&object.name), segment(metric));
        let path = if mapping.group.is_empty() && &*mapping.kind == "Namespace" {
            format!("{root}/{name}/metrics/{metric}{query}")
        } else {
            let resource = mapping.resource();
            format!("{root}/{}/{resource}/{name}/{metric}{query}", segment(namespace))
        };
        let resource = format!("{}.{CUSTOM_METRICS_GROUP}", mapping.resource());
        let call = Call { name: &object.name, ..Call::list(path, &resource) };
        let list: MetricValueList = self.custom_answer(call).await?;
        readings::object(list.items.into_iter().map(MetricValue::value).collect())
    }

    async fn external(
        &self,
        namespace: &str,
        metric: &str,
        of: Option<&LabelSelector>,
    ) -> Result<Vec<ValueReading>, MetricsError> {
        let of = metric_selector(of, "external")?;
        let path = format!(
            "/apis/{EXTERNAL_METRICS_GROUP}/{EXTERNAL_METRICS_VERSION}/namespaces/{}/{}{}",
            segment(namespace),
            segment(metric),
            query(&[("labelSelector", &of)]),
        );
        let resource = format!("{metric}.{EXTERNAL_METRICS_GROUP}");
        let list: MetricValueList =
            self.api.read(Call::list(path, &resource)).await.map_err(failed("external"))?;
        readings::external(list.items.into_iter().map(MetricValue::value).collect())
    }

    /// Asks the custom metrics API. A version that is gone is looked up again next time.
    async fn custom_answer(&self, call: Call<'_>) -> Result<MetricValueList, MetricsError> {
        match self.api.read(call).await {
            Ok(list) => Ok(list),
            Err(error) => {
                if error.is_not_found() {
                    *self.custom.lock().await = None;
                }
                Err(failed("custom")(error))
            }
        }
    }

    /// The version of the custom metrics API that the server prefers among those that are known here.
    async fn custom_version(&self) -> Result<CustomMetricsVersion, MetricsError> {
        // Held while asking, so that all who wait share one question.
        let mut custom = self.custom.lock().await;
        if let Some(known) = custom.as_ref() {
            let limit = if known.version.is_ok() { VERSION_KNOWN_FOR } else { VERSION_ABSENT_FOR };
            if known.read.elapsed() < limit {
                return known.version.clone().map_err(|error| unable("custom", &error));
            }
        }
        let path = format!("/apis/{CUSTOM_METRICS_GROUP}");
        let version = match self.api.read(Call::get(path, "", "")).await {
            Ok(group) => preferred(&group),
            Err(error) if error.is_not_found() => {
                Err(format!("no custom metrics API ({CUSTOM_METRICS_GROUP}) registered"))
            }
            Err(error) => Err(error.to_string()),
        };
        let known = custom.insert(CustomVersion { read: Instant::now(), version });
        known.version.clone().map_err(|error| unable("custom", &error))
    }
}

async fn usages(api: ApiServer, pods: PodsRequest) -> Result<Arc<[PodUsage]>, ApiError> {
    let path = format!(
        "/apis/{METRICS_GROUP_VERSION}/namespaces/{}/pods{}",
        segment(&pods.namespace),
        query(&[("labelSelector", &pods.selector)]),
    );
    let list: PodMetricsList = api.read(Call::list(path, "pods.metrics.k8s.io")).await?;
    Ok(list.items.into_iter().map(PodMetrics::usage).collect())
}

/// Questions that are being answered.
type AskedUsages = parking_lot::Mutex<HashMap<PodsRequest, WeakShared<UsagesAnswer>>>;
type UsagesAnswer = BoxFuture<'static, Result<Arc<[PodUsage]>, ApiError>>;

/// Ends the time in which others may share an answer.
struct Forget<'a> {
    asked: &'a AskedUsages,
    pods: &'a PodsRequest,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.asked.lock().remove(self.pods);
    }
}

impl MetricsSource for ApiMetrics {
    fn pods<'a>(
        &'a self,
        request: &'a MetricRequest,
    ) -> BoxFuture<'a, Result<Vec<PodReading>, MetricsError>> {
        async move {
            match request {
                MetricRequest::Resource { pods, resource, container } => {
                    self.resource(pods, resource, container.as_deref()).await
                }
                MetricRequest::Pods { pods, metric, selector } => {
                    self.custom_pods(pods, metric, selector.as_ref()).await
                }
                MetricRequest::Object { .. } | MetricRequest::External { .. } => {
                    Err(MetricsError(String::from("a metric of an object has no values of pods")))
                }
            }
        }
        .boxed()
    }

    fn values<'a>(
        &'a self,
        request: &'a MetricRequest,
    ) -> BoxFuture<'a, Result<Vec<ValueReading>, MetricsError>> {
        async move {
            match request {
                MetricRequest::Object { namespace, object, metric, selector } => {
                    self.custom_object(namespace, object, metric, selector.as_ref()).await
                }
                MetricRequest::External { namespace, metric, selector } => {
                    self.external(namespace, metric, selector.as_ref()).await
                }
                MetricRequest::Resource { .. } | MetricRequest::Pods { .. } => {
                    Err(MetricsError(String::from("a metric of pods has no value of its own")))
                }
            }
        }
        .boxed()
    }
}

fn unable(api: &str, error: &dyn Display) -> MetricsError {
    MetricsError(format!("unable to fetch metrics from {api} metrics API: {error}"))
}

fn failed(api: &'static str) -> impl FnOnce(ApiError) -> MetricsError {
    move |error| unable(api, &error)
}

/// The text of a metric's selector; none is empty, and is not sent.
fn metric_selector(of: Option<&LabelSelector>, api: &str) -> Result<String, MetricsError> {
    of.map_or(Ok(String::new()), selector::text).map_err(|error| unable(api, &error))
}

fn query(parameters: &[(&str, &str)]) -> String {
    let mut text = form_urlencoded::Serializer::new(String::new());
    for (name, value) in parameters.iter().filter(|(_, value)| !value.is_empty()) {
        text.append_pair(name, value);
    }
    match text.finish() {
        text if text.is_empty() => text,
        text => format!("?{text}"),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ApiGroup {
    #[serde(default)]
    versions: Vec<GroupVersion>,
    preferred_version: Option<GroupVersion>,
}

#[derive(Deserialize)]
struct GroupVersion {
    version: String,
}

/// As upstream: what the server prefers if it is known here, else the first version that is.
fn preferred(group: &ApiGroup) -> Result<CustomMetricsVersion, String> {
    let offered = group.preferred_version.iter().chain(&group.versions);
    offered
        .filter_map(|offered| CustomMetricsVersion::named(&offered.version))
        .next()
        .ok_or_else(|| String::from("no known available metric versions found"))
}

#[derive(Deserialize)]
struct PodMetricsList {
    #[serde(default)]
    items: Vec<PodMetrics>,
}

#[derive(Deserialize)]
struct PodMetrics {
    metadata: Name,
    #[serde(default)]
    timestamp: Time,
    #[serde(default)]
    window: Window,
    #[serde(default)]
    containers: Vec<ContainerMetrics>,
}

#[derive(Deserialize)]
struct Name {
    name: String,
}

#[derive(Deserialize)]
struct ContainerMetrics {
    name: String,
    #[serde(default)]
    usage: std::collections::BTreeMap<String, Quantity>,
}

impl PodMetrics {
    fn usage(self) -> PodUsage {
        let container = |container: ContainerMetrics| ContainerUsage {
            name: container.name,
            usage_milli: container
                .usage
                .into_iter()
                .map(|(resource, usage)| (resource, usage.milli_value()))
                .collect(),
        };
        PodUsage {
            pod: self.metadata.name.into(),
            timestamp: self.timestamp.0,
            window_ms: self.window.0,
            containers: self.containers.into_iter().map(container).collect(),
        }
    }
}

/// Lists of custom and external metrics; what the versions call differently has both names.
#[derive(Deserialize)]
struct MetricValueList {
    #[serde(default)]
    items: Vec<MetricValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MetricValue {
    described_object: Option<Name>,
    #[serde(default)]
    timestamp: Time,
    #[serde(alias = "window")]
    window_seconds: Option<i64>,
    value: Quantity,
}

impl MetricValue {
    fn reading(self) -> PodReading {
        PodReading {
            value_milli: self.value.milli_value(),
            timestamp: self.timestamp.0,
            window_ms: self
                .window_seconds
                .map_or(WINDOW_MS, |seconds| seconds.saturating_mul(1000)),
            pod: self.described_object.map(|object| object.name).unwrap_or_default().into(),
        }
    }

    fn value(self) -> ValueReading {
        ValueReading { value_milli: self.value.milli_value(), timestamp: self.timestamp.0 }
    }
}

/// A moment, in milliseconds since the epoch; 0 if it is `null`.
#[derive(Clone, Copy, Default)]
struct Time(Timestamp);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text: Option<std::borrow::Cow<'de, str>> = Option::deserialize(deserializer)?;
        let Some(text) = text else { return Ok(Self(0)) };
        let time: jiff::Timestamp = text.parse().map_err(serde::de::Error::custom)?;
        Ok(Self(time.as_millisecond()))
    }
}

/// A duration in Go's notation, in milliseconds.
#[derive(Clone, Copy, Default)]
struct Window(i64);

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        go_duration_ms(&text).map(Self).ok_or_else(|| {
            serde::de::Error::custom(format_args!("{text:?} is not a duration such as 15s"))
        })
    }
}

/// `1m30.5s` as milliseconds, the rest dropped.
fn go_duration_ms(text: &str) -> Option<i64> {
    if text == "0" {
        return Some(0);
    }
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut total_ms = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let value: f64 = rest[..number].parse().ok()?;
        rest = &rest[number..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        total_ms += value
            * match &rest[..unit] {
                "ns" => 1e-6,
                "us" | "µs" | "μs" => 1e-3,
                "ms" => 1.0,
                "s" => 1e3,
                "m" => 60e3,
                "h" => 3600e3,
                _ => return None,
            };
        rest = &rest[unit..];
    }
    // A float to integer cast saturates.
    #[expect(clippy::cast_possible_truncation, reason = "it saturates, and no window is that long")]
    let total_ms = total_ms as i64;
    Some(if negative { -total_ms } else { total_ms })
}

#[cfg(test)]
mod tests {
    use futures_util::future::join3;

    use super::*;
    use crate::fake_objects::FakeObjects;

    const PODS: &str = "/apis/metrics.k8s.io/v1beta1/namespaces/web/pods";

    fn resource(selector: &str, resource: &str) -> MetricRequest {
        let (namespace, selector) = (String::from("web"), String::from(selector));
        let pods = PodsRequest { namespace, selector };
        MetricRequest::Resource { pods, resource: resource.to_owned(), container: None }
    }

    #[tokio::test]
    async fn those_who_ask_for_the_same_pods_at_once_share_an_answer() {
        let objects = FakeObjects::default();
        let metrics = ApiMetrics::new(ApiServer::new(objects.client().0, 1000.0, 1000));
        let asked =
            |count: usize| assert_eq!(objects.take_log(), vec![format!("GET {PODS}"); count]);
        let item = serde_json::json!({
            "metadata": {"name": "a"}, "timestamp": "2023-11-14T22:13:20Z", "window": "15s",
            "containers": [{"name": "c", "usage": {"cpu": "100m", "memory": "2"}}],
        });
        let (cpu, memory, other) =
            (resource("app=a", "cpu"), resource("app=a", "memory"), resource("app=b", "cpu"));
        let ask =
            async || join3(metrics.pods(&cpu), metrics.pods(&memory), metrics.pods(&other)).await;
        // An error is shared, too.
        let (failed, too, _) = ask().await;
        assert_eq!(failed.unwrap_err(), too.unwrap_err());
        asked(2);
        objects.put(PODS, serde_json::json!({"items": [item]}));
        let (cpu, memory, other) = ask().await;
        let milli = |answer: Result<Vec<PodReading>, MetricsError>| answer.unwrap()[0].value_milli;
        assert_eq!((milli(cpu), milli(memory), milli(other)), (100, 2000, 100));
        asked(2);
        // One after the other they are two questions: the answers may differ.
        let cpu = resource("app=a", "cpu");
        for _ in 0..2 {
            metrics.pods(&cpu).await.unwrap();
        }
        asked(2);
        assert!(metrics.asked.lock().is_empty());
    }

    #[tokio::test]
    async fn a_question_that_was_given_up_is_asked_anew() {
        let objects = FakeObjects::default();
        let (client, wire) = objects.client();
        objects.put(PODS, serde_json::json!({"items": []}));
        let metrics = ApiMetrics::new(ApiServer::new(client, 1000.0, 1000));
        let cpu = resource("app=a", "cpu");
        wire.set(crate::fake_objects::Link::Hanging);
        let mut first = metrics.pods(&cpu);
        assert!((&mut first).now_or_never().is_none());
        drop(first);
        assert!(metrics.asked.lock().is_empty());
        wire.set(crate::fake_objects::Link::Fine);
        let error = metrics.pods(&cpu).await.unwrap_err();
        assert!(error.0.contains("no metrics returned from resource metrics API"), "{error}");
    }

    #[test]
    fn windows_are_read_as_go_writes_them() {
        for (text, ms) in [
            ("15s", Some(15_000)),
            ("1m0s", Some(60_000)),
            ("10.5s", Some(10_500)),
            ("1h2m3.004s", Some(3_723_004)),
            ("0s", Some(0)),
            ("0", Some(0)),
            ("", None),
            ("15", None),
            ("15 s", None),
        ] {
            assert_eq!(go_duration_ms(text), ms, "{text}");
        }
    }

    #[test]
    fn queries_leave_out_what_is_empty() {
        assert_eq!(query(&[("labelSelector", "")]), "");
        assert_eq!(
            query(&[("labelSelector", "a=b,c in (d)"), ("metricLabelSelector", "")]),
            "?labelSelector=a%3Db%2Cc+in+%28d%29"
        );
    }

    #[test]
    fn the_servers_preference_counts_if_it_is_known() {
        let group = |json: &str| preferred(&serde_json::from_str(json).unwrap());
        assert_eq!(
            group(
                r#"{"versions":[{"version":"v1beta1"},{"version":"v1beta2"}],"preferredVersion":{"version":"v1beta2"}}"#
            ),
            Ok(CustomMetricsVersion::V1Beta2)
        );
        assert_eq!(
            group(
                r#"{"versions":[{"version":"v9"},{"version":"v1beta1"}],"preferredVersion":{"version":"v9"}}"#
            ),
            Ok(CustomMetricsVersion::V1Beta1)
        );
        assert_eq!(group("{}"), Err(String::from("no known available metric versions found")));
    }

    #[test]
    fn both_versions_of_a_list_are_read() {
        let old = r#"{"items":[{"describedObject":{"kind":"Pod","name":"a"},"metricName":"qps","timestamp":"2023-11-14T22:13:20Z","window":30,"value":"1500m","selector":null}]}"#;
        let new = r#"{"items":[{"describedObject":{"kind":"Pod","name":"a"},"metric":{"name":"qps","selector":null},"timestamp":"2023-11-14T22:13:20Z","windowSeconds":30,"value":"1500m"}]}"#;
        for json in [old, new] {
            let list: MetricValueList = serde_json::from_str(json).unwrap();
            let reading = list.items.into_iter().next().unwrap().reading();
            assert_eq!(
                reading,
                PodReading {
                    pod: "a".into(),
                    value_milli: 1500,
                    timestamp: 1_700_000_000_000,
                    window_ms: 30_000,
                }
            );
        }
    }
}
