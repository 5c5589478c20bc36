//! Where what is believed comes from: the cluster's config map, or files that flags name. Both are followed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use tokio_util::sync::CancellationToken;

use super::certificates::Authorities;
use super::trust::{
    FrontProxy, Trust, TrustError, TrustStore, UserHeaders, clients_from, front_proxy_from,
    header_names, header_prefixes,
};

const NAMESPACE: &str = "kube-system";
const CONFIG_MAP: &str = "extension-apiserver-authentication";
/// How often the files are looked at.
const FILES_INTERVAL: Duration = Duration::from_secs(60);

/// The flags `--requestheader-*`, for a front proxy that the config map does not describe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontProxyFlags {
    /// `--requestheader-client-ca-file`
    pub client_ca_file: PathBuf,
    /// `--requestheader-allowed-names`
    pub allowed_names: Vec<String>,
    /// `--requestheader-username-headers`; `x-remote-user` upstream.
    pub username_headers: Vec<String>,
    /// `--requestheader-uid-headers`; none upstream.
    pub uid_headers: Vec<String>,
    /// `--requestheader-group-headers`; `x-remote-group` upstream.
    pub group_headers: Vec<String>,
    /// `--requestheader-extra-headers-prefix`; `x-remote-extra-` upstream.
    pub extra_headers_prefix: Vec<String>,
}

/// Where what is believed comes from. What flags name goes before the config map.
#[derive(Clone)]
pub struct TrustSources {
    /// Reads the config map; without one there is none, as with `--authentication-skip-lookup`.
    pub client: Option<kube::Client>,
    /// `--client-ca-file`
    pub client_ca_file: Option<PathBuf>,
    /// `--requestheader-client-ca-file` and its siblings.
    pub front_proxy: Option<FrontProxyFlags>,
}

impl std::fmt::Debug for TrustSources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrustSources")
            .field("config_map", &self.client.is_some())
            .field("client_ca_file", &self.client_ca_file)
            .field("front_proxy", &self.front_proxy)
            .finish()
    }
}

/// Why it is not known at start whom to believe.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The config map cannot be read.
    #[error("cannot read config map {NAMESPACE}/{CONFIG_MAP}: {0}")]
    ConfigMap(#[source] Box<kube::Error>),
    /// A file cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// What is there is unusable.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

impl TrustSources {
    /// Reads everything once and puts it into `store`.
    ///
    /// # Errors
    /// [`SourceError`]. What could be read is in the store nevertheless, so that a caller may choose to go on, as with
    /// `--authentication-tolerate-lookup-failure`.
    pub async fn load(&self, store: &TrustStore) -> Result<(), SourceError> {
        let files = self.load_files(store);
        if let Some(api) = self.config_maps() {
            let map = api.get(CONFIG_MAP).await;
            let map = map.map_err(|error| SourceError::ConfigMap(Box::new(error)))?;
            self.believe(&map.data.unwrap_or_default(), store)?;
        }
        files
    }

    /// Keeps `store` up to date until `shutdown` is cancelled. What is unusable is logged, and the old stays.
    pub async fn follow(self, store: Arc<TrustStore>, shutdown: CancellationToken) {
        let files = self.follow_files(&store);
        let config_map = self.follow_config_map(&store);
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = files => {}
            () = config_map => {}
        }
    }

    fn config_maps(&self) -> Option<Api<ConfigMap>> {
        let wanted = self.client_ca_file.is_none() || self.front_proxy.is_none();
        let client = self.client.clone().filter(|_| wanted)?;
        Some(Api::namespaced(client, NAMESPACE))
    }

    async fn follow_config_map(&self, store: &TrustStore) {
        let Some(api) = self.config_maps() else { return std::future::pending().await };
        let only = watcher::Config::default().fields(&format!("metadata.name={CONFIG_MAP}"));
        let mut events = watcher(api, only).default_backoff().boxed();
        while let Some(event) = events.next().await {
            let map = match event {
                Ok(Event::Apply(map) | Event::InitApply(map)) => map,
                Ok(Event::Delete(_)) => {
                    tracing::warn!(
                        "config map {NAMESPACE}/{CONFIG_MAP} is gone, what it said stays"
                    );
                    continue;
                }
                Ok(Event::Init | Event::InitDone) => continue,
                Err(error) => {
                    tracing::warn!(%error, "cannot watch config map {NAMESPACE}/{CONFIG_MAP}");
                    continue;
                }
            };
            match self.believe(&map.data.unwrap_or_default(), store) {
                Ok(()) => tracing::debug!("read config map {NAMESPACE}/{CONFIG_MAP}"),
                Err(error) => {
                    tracing::warn!(%error, "config map {NAMESPACE}/{CONFIG_MAP} is unusable in part");
                }
            }
        }
    }

    /// Believes of a config map what no flag says otherwise. A part that is missing leaves the old one: an API server
    /// that starts writes its parts one by one.
    fn believe(
        &self,
        data: &BTreeMap<String, String>,
        store: &TrustStore,
    ) -> Result<(), TrustError> {
        let mut trust = Trust::clone(&store.current());
        let mut result = Ok(());
        if self.client_ca_file.is_none() {
            match clients_from(data) {
                Ok(clients) => trust.clients = clients.or(trust.clients),
                Err(error) => result = Err(error),
            }
        }
        if self.front_proxy.is_none() {
            match front_proxy_from(data) {
                Ok(proxy) => trust.front_proxy = proxy.or(trust.front_proxy),
                Err(error) => result = Err(error),
            }
        }
        store.replace(trust);
        result
    }

    async fn follow_files(&self, store: &TrustStore) {
        if self.client_ca_file.is_none() && self.front_proxy.is_none() {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(FILES_INTERVAL).await;
            if let Err(error) = self.load_files(store) {
                tracing::warn!(%error, "what was read before stays");
            }
        }
    }

    fn load_files(&self, store: &TrustStore) -> Result<(), SourceError> {
        let mut trust = Trust::clone(&store.current());
        if let Some(path) = &self.client_ca_file {
            trust.clients = Some(authorities(path)?);
        }
        if let Some(flags) = &self.front_proxy {
            trust.front_proxy = Some(flags.read()?);
        }
        store.replace(trust);
        Ok(())
    }
}

impl FrontProxyFlags {
    fn read(&self) -> Result<FrontProxy, SourceError> {
        let headers = UserHeaders {
            username: header_names("--requestheader-username-headers", &self.username_headers)?,
            uid: header_names("--requestheader-uid-headers", &self.uid_headers)?,
            group: header_names("--requestheader-group-headers", &self.group_headers)?,
            extra_prefix: header_prefixes(
                "--requestheader-extra-headers-prefix",
                &self.extra_headers_prefix,
            )?,
        };
        let authorities = authorities(&self.client_ca_file)?;
        Ok(FrontProxy { authorities, headers, allowed_names: self.allowed_names.clone() })
    }
}

fn authorities(path: &Path) -> Result<Authorities, SourceError> {
    let pem = std::fs::read(path)
        .map_err(|source| SourceError::Read { path: path.to_path_buf(), source })?;
    let read = Authorities::from_pem(&pem, &path.display().to_string());
    Ok(read.map_err(TrustError::from)?)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use axum::body::Body;
    use axum::extract::{RawQuery, State};
    use axum::http::StatusCode;
    use axum::response::{IntoResponse, Response};
    use axum::routing::get;
    use axum::{Json, Router};
    use futures_util::stream;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
    use serde_json::{Value, json};
    use tokio::sync::mpsc;

    use super::*;

    /// An API server with the config map, and a watch that tells what the test sends.
    #[derive(Clone)]
    struct Cluster {
        map: Arc<Mutex<Option<Value>>>,
        events: Arc<Mutex<Option<mpsc::Receiver<String>>>>,
    }

    async fn one(State(cluster): State<Cluster>) -> Response {
        match &*cluster.map.lock().unwrap() {
            Some(map) => Json(map.clone()).into_response(),
            None => {
                let of = metrics_api::GroupResource { group: "", resource: "configmaps" };
                let status = metrics_api::Status::not_found(of, CONFIG_MAP);
                (StatusCode::NOT_FOUND, status.to_json()).into_response()
            }
        }
    }

    async fn many(State(cluster): State<Cluster>, RawQuery(query): RawQuery) -> Response {
        let query = query.unwrap_or_default();
        // What the role that exists for this purpose allows: this one object.
        assert!(query.contains(&format!("fieldSelector=metadata.name%3D{CONFIG_MAP}")), "{query}");
        if !query.contains("watch=true") {
            let items: Vec<_> = cluster.map.lock().unwrap().iter().cloned().collect();
            let metadata = json!({"resourceVersion": "1"});
            let list = json!({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": metadata, "items": items});
            return Json(list).into_response();
        }
        let Some(events) = cluster.events.lock().unwrap().take() else {
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        };
        let events = stream::unfold(events, async |mut events| {
            let event = events.recv().await?;
            Some((Ok::<_, std::convert::Infallible>(event), events))
        });
        Body::from_stream(Box::pin(events)).into_response()
    }

    async fn start(map: Option<Value>) -> (kube::Client, mpsc::Sender<String>) {
        let (sender, events) = mpsc::channel(4);
        let cluster =
            Cluster { map: Arc::new(Mutex::new(map)), events: Arc::new(Mutex::new(Some(events))) };
        let path = format!("/api/v1/namespaces/{NAMESPACE}/configmaps");
        let router = Router::new()
            .route(&path, get(many))
            .route(&format!("{path}/{CONFIG_MAP}"), get(one))
            .with_state(cluster);
        let listener = http::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        tokio::spawn(http::serve(listener, router, http::Limits::default(), stop));
        let config = kube::Config::new(url.parse().unwrap());
        (kube::Client::try_from(config).unwrap(), sender)
    }

    fn ca() -> String {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.self_signed(&key).unwrap().pem()
    }

    fn config_map(allowed_name: &str, front_proxy_ca: &str) -> Value {
        json!({
            "kind": "ConfigMap", "apiVersion": "v1",
            "metadata": {"name": CONFIG_MAP, "namespace": NAMESPACE, "resourceVersion": "1"},
            "data": {
                "client-ca-file": ca(),
                "requestheader-client-ca-file": front_proxy_ca,
                "requestheader-allowed-names": json!([allowed_name]).to_string(),
                "requestheader-username-headers": r#"["X-Remote-User"]"#,
                "requestheader-group-headers": r#"["X-Remote-Group"]"#,
                "requestheader-extra-headers-prefix": r#"["X-Remote-Extra-"]"#,
            },
        })
    }

    fn from(client: kube::Client) -> TrustSources {
        TrustSources { client: Some(client), client_ca_file: None, front_proxy: None }
    }

    fn allowed(store: &TrustStore) -> Vec<String> {
        store.current().front_proxy.as_ref().unwrap().allowed_names.clone()
    }

    #[tokio::test]
    async fn the_config_map_is_followed_and_what_is_unusable_changes_nothing() {
        let (client, events) = start(Some(config_map("first", &ca()))).await;
        let sources = from(client);
        let store = Arc::new(TrustStore::default());
        sources.load(&store).await.unwrap();
        assert_eq!(allowed(&store), ["first"]);
        assert!(store.current().clients.is_some());
        let shutdown = CancellationToken::new();
        let following = tokio::spawn(sources.follow(Arc::clone(&store), shutdown.clone()));
        let change = async |map: Value| {
            let event = json!({"type": "MODIFIED", "object": map});
            events.send(format!("{event}\n")).await.unwrap();
        };
        change(config_map("unusable", "junk")).await;
        change(config_map("second", &ca())).await;
        // Events come in order, so the unusable one has been seen when the second has.
        let seen = async {
            while allowed(&store) != ["second"] {
                assert_eq!(allowed(&store), ["first"]);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), seen).await.unwrap();
        shutdown.cancel();
        following.await.unwrap();
    }

    #[tokio::test]
    async fn without_the_config_map_it_is_not_known_whom_to_believe() {
        let (client, _events) = start(None).await;
        let store = TrustStore::default();
        let error = from(client).load(&store).await.unwrap_err().to_string();
        assert!(
            error.starts_with(
                "cannot read config map kube-system/extension-apiserver-authentication: "
            ),
            "{error}"
        );
        assert!(store.current().clients.is_none() && store.current().front_proxy.is_none());
    }

    #[tokio::test]
    async fn flags_go_before_the_config_map() {
        let (client, _events) = start(Some(config_map("of the map", &ca()))).await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.crt");
        std::fs::write(&file, ca()).unwrap();
        let flags = FrontProxyFlags {
            client_ca_file: file.clone(),
            allowed_names: vec![String::from("of the flags")],
            username_headers: vec![String::from("x-remote-user")],
            uid_headers: Vec::new(),
            group_headers: vec![String::from("x-remote-group")],
            extra_headers_prefix: vec![String::from("x-remote-extra-")],
        };
        let sources = TrustSources { front_proxy: Some(flags), ..from(client) };
        let store = TrustStore::default();
        sources.load(&store).await.unwrap();
        assert_eq!(allowed(&store), ["of the flags"]);
        assert!(store.current().clients.is_some(), "the map says this");
        std::fs::remove_file(&file).unwrap();
        let error = sources.load(&store).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot read {}: ", file.display())), "{error}");
        assert_eq!(allowed(&store), ["of the flags"]);
    }
}
