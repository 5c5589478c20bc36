//! Which objects a selector selects.

use std::collections::HashMap;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use kube::api::ListParams;
use kube::core::DynamicObject;
use kube::{Api, Client};
use metrics_api::LabelSelector;
use parking_lot::Mutex;

use super::mapping::{ApiResource, ResourceMap};
use crate::cluster::Objects;

/// Objects that one request of the API server brings.
const PAGE_LEN: u32 = 500;

/// Time for a request about the resources of a group.
const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(5);

/// Most objects that a selector may select.
const OBJECTS_MAX: usize = 20_000;

/// Why objects cannot be listed.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The API server says why, or does not answer.
    #[error("unable to list {resource}: {reason}")]
    Api {
        /// What was listed.
        resource: String,
        /// Why.
        reason: String,
    },
    /// The API server does not answer in time.
    #[error("unable to list {resource}: no answer within {timeout_ms} ms")]
    Timeout {
        /// What was listed.
        resource: String,
        /// The time that it had, milliseconds.
        timeout_ms: u128,
    },
    /// There are more than can be asked about.
    #[error("the selector selects more than {OBJECTS_MAX} {0}")]
    TooMany(String),
}

/// Lists the names of objects.
pub trait ObjectLister: Send + Sync {
    /// The names of the objects of `resource` in `namespace`, or in none, that `selector` selects, sorted.
    fn list<'a>(
        &'a self,
        resource: &'a ApiResource,
        namespace: Option<&'a str>,
        selector: &'a LabelSelector,
        selector_text: &'a str,
    ) -> BoxFuture<'a, Result<Vec<String>, ListError>>;
}

/// Asks the API server, and for running pods and nodes the index that is kept anyway.
#[derive(Clone)]
pub struct ClusterObjects {
    client: Client,
    index: Arc<Objects>,
    groups: Arc<Mutex<Groups>>,
}

/// The resources of each group, as they were last read.
type Groups = HashMap<String, Vec<ApiResource>>;

impl ClusterObjects {
    /// Lists from `index` where it is complete, else over `client`.
    #[must_use]
    pub fn new(client: Client, index: Arc<Objects>) -> Self {
        let mut groups = Groups::new();
        for resource in ResourceMap::builtin().iter() {
            groups.entry(resource.group.clone()).or_default().push(resource.clone());
        }
        Self { client, index, groups: Arc::new(Mutex::new(groups)) }
    }

    /// The names that the index has, if it knows all objects of `resource`.
    fn indexed(
        &self,
        resource: &ApiResource,
        namespace: Option<&str>,
        selector: &LabelSelector,
    ) -> Option<Vec<String>> {
        let mut names = Vec::new();
        match (resource.group.as_str(), resource.plural.as_str(), namespace) {
            ("", "pods", Some(namespace)) if self.index.pods_synced() => {
                let _ = self.index.visit_pods(Some(namespace), None, |pod| {
                    if selector.matches(|key| pod.labels.get(key)) {
                        names.push(String::from(&**pod.name));
                    }
                    ControlFlow::Continue(())
                });
                Some(names)
            }
            _ => None,
        }
    }

    async fn ask(
        &self,
        resource: &ApiResource,
        namespace: Option<&str>,
        selector: &str,
    ) -> Result<Vec<String>, ListError> {
        let failed = |error: kube::Error| ListError::Api {
            resource: resource.qualified(),
            reason: error.to_string(),
        };
        let kind = kube::core::ApiResource {
            group: resource.group.clone(),
            version: resource.version.clone(),
            api_version: match resource.group.as_str() {
                "" => resource.version.clone(),
                group => format!("{group}/{}", resource.version),
            },
            kind: resource.kind.clone(),
            plural: resource.plural.clone(),
        };
        let api: Api<DynamicObject> = match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &kind),
            None => Api::all_with(self.client.clone(), &kind),
        };
        let mut names = Vec::new();
        let mut params = ListParams::default().limit(PAGE_LEN);
        if !selector.is_empty() {
            params = params.labels(selector);
        }
        loop {
            let page = api.list_metadata(&params).await.map_err(failed)?;
            names.extend(page.items.into_iter().filter_map(|object| object.metadata.name));
            if names.len() > OBJECTS_MAX {
                return Err(ListError::TooMany(resource.qualified()));
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => break,
            }
        }
        names.sort_unstable();
        Ok(names)
    }
}

impl ObjectLister for ClusterObjects {
    fn list<'a>(
        &'a self,
        resource: &'a ApiResource,
        namespace: Option<&'a str>,
        selector: &'a LabelSelector,
        selector_text: &'a str,
    ) -> BoxFuture<'a, Result<Vec<String>, ListError>> {
        async move {
            if let Some(names) = self.indexed(resource, namespace, selector) {
                return Ok(names);
            }
            self.ask(resource, namespace, selector_text).await
        }
        .boxed()
    }
}

impl fmt::Debug for ClusterObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterObjects").finish_non_exhaustive()
    }
}

/// Tells which resources the cluster has.
pub trait ResourceSource: Send + Sync {
    /// The resources, in the server's order.
    fn resources(&self) -> BoxFuture<'_, Result<ResourceMap, ListError>>;
}

impl ResourceSource for ClusterObjects {
    fn resources(&self) -> BoxFuture<'_, Result<ResourceMap, ListError>> {
        async move { discover(&self.client, &self.groups).await }.boxed()
    }
}

/// Asks for the resources of each group's preferred version. A group whose server does not answer has those of the last
/// time: it must make neither its own metrics nor those of all others unknown.
async fn discover(client: &Client, known: &Mutex<Groups>) -> Result<ResourceMap, ListError> {
    let core = answered("api/v1", client.list_core_api_resources("v1")).await?;
    let mut resources = described("", "v1", core.resources);
    let groups = answered("apis", client.list_api_groups()).await?;
    let mut read = Groups::new();
    for group in groups.groups {
        let Some(preferred) = group.preferred_version.or_else(|| group.versions.first().cloned())
        else {
            continue;
        };
        let listed = client.list_api_group_resources(&preferred.group_version);
        let own = match answered(&preferred.group_version, listed).await {
            Ok(list) => described(&group.name, &preferred.version, list.resources),
            Err(error) => {
                tracing::warn!(group = group.name, %error, "the resources of a group are those of the last time");
                known.lock().get(&group.name).cloned().unwrap_or_default()
            }
        };
        resources.extend_from_slice(&own);
        read.insert(group.name, own);
    }
    *known.lock() = read;
    Ok(ResourceMap::new(resources))
}

/// What a request of the API server gives, if it does so in time: the client asks servers that are not available again and
/// again.
async fn answered<T>(
    what: &str,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, ListError> {
    let resource = || String::from(what);
    match tokio::time::timeout(DISCOVERY_TIMEOUT, request).await {
        Ok(answer) => answer
            .map_err(|error| ListError::Api { resource: resource(), reason: error.to_string() }),
        Err(_) => Err(ListError::Timeout {
            resource: resource(),
            timeout_ms: DISCOVERY_TIMEOUT.as_millis(),
        }),
    }
}

fn described(
    group: &str,
    version: &str,
    listed: Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResource>,
) -> Vec<ApiResource> {
    let listed = listed.into_iter().filter(|resource| !resource.name.contains('/'));
    let described = listed.map(|resource| {
        let singular = match resource.singular_name.as_str() {
            "" => resource.kind.to_ascii_lowercase(),
            singular => String::from(singular),
        };
        ApiResource {
            group: String::from(group),
            version: String::from(version),
            plural: resource.name,
            singular,
            kind: resource.kind,
            namespaced: resource.namespaced,
        }
    });
    described.collect()
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::extract::State;
    use axum::http::{HeaderMap, Uri, header};
    use axum::response::{IntoResponse, Response};
    use serde_json::json;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::cluster::PodFacts;
    use crate::store::Revision;

    type Asked = Arc<Mutex<Vec<String>>>;

    async fn answer(State(asked): State<Asked>, uri: Uri, headers: HeaderMap) -> Response {
        let asked_twice = {
            let mut asked = asked.lock();
            let before = asked.iter().any(|asked| asked == uri.path());
            asked.push(uri.to_string());
            before
        };
        let resource = |name: &str, singular: &str, kind: &str, namespaced: bool| {
            json!({"name": name, "singularName": singular, "kind": kind,
                "namespaced": namespaced, "verbs": ["list"]})
        };
        let group = |name: &str, version: &str| {
            let version = json!({"groupVersion": format!("{name}/{version}"), "version": version});
            json!({"name": name, "versions": [version], "preferredVersion": version})
        };
        let page = |names: &[&str], next: &str| {
            let accept = headers[header::ACCEPT].to_str().unwrap();
            assert!(accept.contains("as=PartialObjectMetadataList"), "{accept}");
            let items: Vec<_> = names
                .iter()
                .map(|name| {
                    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                        "metadata": {"name": name, "namespace": "web"}})
                })
                .collect();
            json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
                "metadata": {"continue": next}, "items": items})
        };
        let second = uri.query().unwrap_or_default().contains("continue=next");
        let body = match uri.path() {
            "/api/v1" => json!({"groupVersion": "v1", "resources": [
                resource("pods", "pod", "Pod", true),
                resource("pods/log", "", "Pod", true),
                resource("nodes", "node", "Node", false)]}),
            "/apis" => json!({"groups": [group("broken.io", "v1"),
                group("batch", "v1"), group("cheese.io", "v2")]}),
            "/apis/cheese.io/v2" if !asked_twice => {
                json!({"groupVersion": "cheese.io/v2", "resources": [
                resource("brands", "", "Brand", true)]})
            }
            "/apis/cheese.io/v2/namespaces/web/brands" if second => page(&["a"], ""),
            "/apis/cheese.io/v2/namespaces/web/brands" => page(&["c", "b"], "next"),
            _ => {
                let status = axum::http::StatusCode::FORBIDDEN;
                let body = json!({"kind": "Status", "code": 403, "message": "no"}).to_string();
                return (status, [(header::CONTENT_TYPE, "application/json")], body)
                    .into_response();
            }
        };
        ([(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
    }

    async fn cluster() -> (ClusterObjects, Arc<Objects>, Asked) {
        let asked = Asked::default();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&asked));
        let listener = http::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        tokio::spawn(http::serve(listener, router, http::Limits::default(), stop));
        let client = Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap();
        let index = Arc::new(Objects::new(Arc::new(Revision::default())));
        (ClusterObjects::new(client, Arc::clone(&index)), index, asked)
    }

    #[tokio::test]
    async fn the_resources_of_groups_are_those_that_were_last_read() {
        let (cluster, ..) = cluster().await;
        let map = cluster.resources().await.unwrap();
        let names: Vec<String> = map.iter().map(ApiResource::qualified).collect();
        assert_eq!(names, ["pods", "nodes", "cronjobs.batch", "jobs.batch", "brands.cheese.io"]);
        // Now the group of brands does not answer either.
        assert_eq!(cluster.resources().await.unwrap(), map);
        let brand = map.resolve("cheese.io", "brand").unwrap();
        assert_eq!((brand.kind.as_str(), brand.version.as_str()), ("Brand", "v2"));
    }

    #[tokio::test]
    async fn objects_are_listed_page_by_page() {
        let (cluster, _, asked) = cluster().await;
        let brands = ApiResource {
            group: String::from("cheese.io"),
            version: String::from("v2"),
            plural: String::from("brands"),
            singular: String::from("brand"),
            kind: String::from("Brand"),
            namespaced: true,
        };
        let selector = "sharp=true".parse().unwrap();
        let names = cluster.list(&brands, Some("web"), &selector, "sharp=true").await.unwrap();
        assert_eq!(names, ["a", "b", "c"]);
        let asked = asked.lock();
        assert!(asked[0].contains("labelSelector=sharp%3Dtrue"), "{}", asked[0]);
        assert!(asked[0].contains("limit=500"), "{}", asked[0]);
        assert_eq!(asked.len(), 2);
    }

    #[tokio::test]
    async fn running_pods_come_from_the_index_once_it_is_complete() {
        let (cluster, index, asked) = cluster().await;
        let map = ResourceMap::builtin();
        let pods = map.resolve("", "pods").unwrap();
        index.upsert_pod(
            "web",
            "b",
            [("app", "web")],
            PodFacts { node: "n", created_ms: 0, resources: None },
        );
        index.upsert_pod(
            "web",
            "a",
            [("app", "web")],
            PodFacts { node: "n", created_ms: 0, resources: None },
        );
        index.upsert_pod(
            "web",
            "c",
            [("app", "db")],
            PodFacts { node: "n", created_ms: 0, resources: None },
        );
        index.upsert_pod(
            "other",
            "d",
            [("app", "web")],
            PodFacts { node: "n", created_ms: 0, resources: None },
        );
        let selector = "app=web".parse().unwrap();
        let before = cluster.list(pods, Some("web"), &selector, "app=web").await;
        assert!(matches!(before, Err(ListError::Api { .. })));
        assert_eq!(asked.lock().len(), 1);
        index.set_pods_synced();
        let names = cluster.list(pods, Some("web"), &selector, "app=web").await.unwrap();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(asked.lock().len(), 1);
    }
}
