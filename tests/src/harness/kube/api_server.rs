//! The API server: starts, is told what to do, and tells what it was asked.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::access::Access;
use super::aggregation::Proxy;
use super::availability;
use super::faults::{Fault, Faults, Log, RequestRecord};
use super::kinds::Kinds;
use super::kubeconfig::{Credentials, write_kubeconfig};
use super::list::Pages;
use super::listener;
use super::objects::Objects;
use super::pki::{Pki, Subject};
use super::requests::Api;
use super::route::ResourcePath;
use super::store::Store;
use super::tls::{self, ClientAuthority};

/// The common name by which the API server's proxy is recognised.
pub const PROXY_NAME: &str = "front-proxy-client";

/// How an API server is started.
#[derive(Clone, Debug)]
pub struct ApiServerOptions {
    /// Pause between bookmarks of a watch that asks for them.
    pub bookmark_interval: Duration,
    /// Pause between checks of APIServices.
    pub availability_interval: Duration,
    /// Whether requests without credentials are of `system:anonymous` rather than refused.
    pub anonymous: bool,
    /// The port, on 127.0.0.1; 0 is any.
    pub port: u16,
    /// How long each request waits before it is looked at, as for a network and etcd.
    pub latency: Duration,
}

impl Default for ApiServerOptions {
    fn default() -> Self {
        Self {
            bookmark_interval: Duration::from_secs(1),
            availability_interval: Duration::from_secs(1),
            anonymous: true,
            port: 0,
            latency: Duration::ZERO,
        }
    }
}

/// A running API server. It stops when dropped.
pub struct ApiServer {
    api: Arc<Api>,
    runtime: Option<Runtime>,
    address: SocketAddr,
    pki: Arc<Pki>,
    access: Arc<Access>,
    cut_all: watch::Sender<u64>,
    cut_watches: watch::Sender<u64>,
}

impl fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiServer").field("address", &self.address).finish_non_exhaustive()
    }
}

impl ApiServer {
    /// Starts a server with authorities, tokens and rules of its own.
    ///
    /// # Panics
    /// If it cannot listen.
    #[must_use]
    pub fn start(options: &ApiServerOptions) -> Self {
        Self::with(options, Arc::new(Pki::new()), Arc::new(Access::new()))
    }

    /// Starts a server of a cluster whose authorities, tokens and rules exist.
    ///
    /// # Panics
    /// If it cannot listen.
    #[must_use]
    pub fn with(options: &ApiServerOptions, pki: Arc<Pki>, access: Arc<Access>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("api-server")
            .enable_all()
            .build()
            .expect("the system has threads");
        let subject = Subject {
            common_name: "kube-apiserver",
            dns_names: &["localhost", "kubernetes.default.svc", "kubernetes"],
            addresses: &[Ipv4Addr::LOCALHOST.into()],
            ..Subject::default()
        };
        let tls = Arc::new(tls::server(&pki.cluster.issue(&subject)));
        let proxy = Subject { common_name: PROXY_NAME, ..Subject::default() };
        let proxy = Arc::new(Proxy::new(pki.request_header.issue(&proxy)));
        let cut_all = watch::Sender::new(0);
        let cut_watches = watch::Sender::new(0);
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)));
        let listener = listener.expect("loopback has a port");
        let address = listener.local_addr().expect("it listens");
        let objects = Arc::new(Objects { store: Store::new(), kinds: Kinds::new() });
        let api = Arc::new(Api {
            objects: objects.clone(),
            pages: Pages::default(),
            access: access.clone(),
            clients: ClientAuthority::new(pki.client.roots()),
            faults: Faults::default(),
            log: Log::default(),
            proxy: proxy.clone(),
            anonymous: options.anonymous,
            latency: options.latency,
            bookmark_interval: options.bookmark_interval,
            cut_watches: cut_watches.subscribe(),
            address,
        });
        let handler = api.clone();
        runtime.spawn(listener::serve(
            listener,
            move |_| Some(tls.clone()),
            move |connection, request| handler.clone().handle(connection, request),
            cut_all.subscribe(),
        ));
        let watch_over = availability::watch_over(objects, proxy, options.availability_interval);
        runtime.spawn(watch_over);
        let server =
            Self { api, runtime: Some(runtime), address, pki, access, cut_all, cut_watches };
        server.put_what_every_cluster_has();
        server
    }

    fn put_what_every_cluster_has(&self) {
        for namespace in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            self.put_namespace(namespace);
        }
        let names = |names: &[&str]| Value::from(json!(names).to_string());
        self.put(json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": "extension-apiserver-authentication",
                "namespace": "kube-system",
            },
            "data": {
                "client-ca-file": self.pki.client.pem(),
                "requestheader-client-ca-file": self.pki.request_header.pem(),
                "requestheader-allowed-names": names(&[PROXY_NAME]),
                "requestheader-username-headers": names(&["X-Remote-User"]),
                "requestheader-uid-headers": names(&["X-Remote-Uid"]),
                "requestheader-group-headers": names(&["X-Remote-Group"]),
                "requestheader-extra-headers-prefix": names(&["X-Remote-Extra-"]),
            },
        }));
    }

    fn put_namespace(&self, name: &str) {
        let namespace = self.api.objects.kinds.find("", "v1", "namespaces");
        let kind = namespace.expect("this kind is built in");
        let key = (String::new(), String::from(name));
        if self.api.objects.store.get(&kind.collection, &key).is_none() {
            let namespace = json!({
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": { "name": name, "labels": { "kubernetes.io/metadata.name": name } },
                "spec": { "finalizers": ["kubernetes"] },
                "status": { "phase": "Active" },
            });
            self.api.objects.put(&kind, namespace);
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `https://` and the address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The authorities.
    #[must_use]
    pub fn pki(&self) -> &Arc<Pki> {
        &self.pki
    }

    /// Tokens and rules.
    #[must_use]
    pub fn access(&self) -> &Arc<Access> {
        &self.access
    }

    /// Puts an object there as it is, status included, whatever was there before, and makes its namespace if there is
    /// none. Returns it as kept.
    ///
    /// # Panics
    /// If there is no such kind or no name.
    pub fn put(&self, object: Value) -> Value {
        let text = |value: &Value| String::from(value.as_str().unwrap_or_default());
        let (api_version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
        let found = self.api.objects.kinds.of(&api_version, &kind);
        let found = found.unwrap_or_else(|| panic!("no kind {kind} in {api_version}"));
        assert!(object["metadata"]["name"].is_string(), "an object without a name: {object}");
        if found.namespaced {
            let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default");
            self.put_namespace(namespace);
        }
        self.api.objects.put(&found, object)
    }

    /// The object at a path as clients ask for it: `/api/v1/nodes/n1`.
    ///
    /// # Panics
    /// If the path is of no kind.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<Value> {
        let (path, kind) = self.resolve(path);
        self.api.objects.get(&kind, &path).ok()
    }

    /// The objects of a collection, by path: `/apis/apps/v1/namespaces/x/deployments`.
    ///
    /// # Panics
    /// If the path is of no kind.
    #[must_use]
    pub fn list(&self, path: &str) -> Vec<Value> {
        let (path, kind) = self.resolve(path);
        let objects = self.api.objects.store.list(&kind.collection, &path.namespace).objects;
        objects.iter().map(|object| super::view::from_stored(&kind, object.value())).collect()
    }

    /// Changes an object in place, its status too, at one moment. Returns it as kept; `None` if it is not there.
    ///
    /// # Panics
    /// If the path is of no kind.
    pub fn edit(&self, path: &str, edit: impl FnOnce(&mut Value)) -> Option<Value> {
        let (path, kind) = self.resolve(path);
        self.api.objects.edit(&kind, &path, edit)
    }

    /// Deletes the object at a path, finalizers or not. Says whether it was there.
    ///
    /// # Panics
    /// If the path is of no kind.
    pub fn delete(&self, path: &str) -> bool {
        let (path, kind) = self.resolve(path);
        let key = (path.namespace, path.name);
        let there = self.api.objects.store.get(&kind.collection, &key).is_some();
        if there {
            let change = |_: Option<&_>, _| Ok::<_, std::convert::Infallible>(Some(None));
            let Ok(_) = self.api.objects.store.change(&kind.collection, &key, change);
        }
        there
    }

    /// Wakes up whenever something in a collection changes, by path: `/api/v1/pods`.
    pub(crate) fn changes(&self, path: &str) -> watch::Receiver<u64> {
        self.api.objects.store.subscribe(&self.resolve(path).1.collection)
    }

    fn resolve(&self, path: &str) -> (ResourcePath, Arc<super::kinds::Kind>) {
        let resolved = ResourcePath::parse(path).and_then(|p| {
            let kind = self.api.objects.kinds.find(&p.group, &p.version, &p.resource)?;
            Some((p, kind))
        });
        resolved.unwrap_or_else(|| panic!("{path}: no such kind"))
    }

    /// Sends what is for a Service to these addresses, in turn. Without an entry the Service does not exist.
    pub fn route_service(&self, namespace: &str, service: &str, addresses: Vec<SocketAddr>) {
        self.api.proxy.route(namespace, service, addresses);
    }

    /// Makes requests fail.
    pub fn inject(&self, fault: Fault) {
        self.api.faults.inject(fault);
    }

    /// Ends all faults.
    pub fn clear_faults(&self) {
        self.api.faults.clear();
    }

    /// The last requests, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<RequestRecord> {
        self.api.log.all()
    }

    /// Forgets the requests.
    pub fn clear_requests(&self) {
        self.api.log.clear();
    }

    /// Forgets old versions: watches and lists that go on from one are told that it is gone.
    pub fn compact(&self) {
        self.api.objects.store.compact();
        self.api.pages.clear();
    }

    /// Closes all connections, in the middle of whatever they carry.
    pub fn close_connections(&self) {
        self.cut_all.send_modify(|cut| *cut += 1);
    }

    /// Breaks off all watches.
    pub fn close_watches(&self) {
        self.cut_watches.send_modify(|cut| *cut += 1);
    }

    /// Writes a kubeconfig and the files that it names into `folder`, and returns its path.
    ///
    /// # Panics
    /// If the folder cannot be written to.
    #[must_use]
    pub fn kubeconfig(&self, folder: &Path, name: &str, credentials: &Credentials) -> PathBuf {
        write_kubeconfig(folder, name, &self.url(), self.pki.cluster.pem(), credentials)
    }

    /// A kubeconfig of a member of `system:masters`.
    ///
    /// # Panics
    /// If the folder cannot be written to.
    #[must_use]
    pub fn admin_kubeconfig(&self, folder: &Path) -> PathBuf {
        let subject = Subject {
            common_name: "kubernetes-admin",
            organizations: &["system:masters"],
            ..Subject::default()
        };
        let identity = self.pki.client.issue(&subject);
        self.kubeconfig(folder, "admin", &Credentials::Certificate(Box::new(identity)))
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Dropping it would wait, which is not allowed where a test is asynchronous.
            runtime.shutdown_background();
        }
    }
}
