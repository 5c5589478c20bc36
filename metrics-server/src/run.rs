//! The wiring: informers and kubelets into the store, the store to the API, the API under authentication.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::Response;
use http::Limits;
use kube::Client;
use metrics_api::ApiGroup;
use telemetry::{IntGaugeVec, Opts, Registry, register};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::adapter::{
    self, Adapter, AdapterMetrics, AdapterOptions, Caller, ClusterObjects, Expressions, Fallback,
    ResourceFeed, Steering,
};
use crate::auth::{Access, DelegatedOptions, SourceError, TrustSources, User};
use crate::cluster::{Informers, Objects};
use crate::config::{AdapterConfig, AuthenticationConfig, Config, ConfigError, ServingConfig};
use crate::kubelet::{Credentials, CredentialsError, ScrapeMetrics, ScrapeOptions, Scraper};
use crate::resource::{self, ResourceState};
use crate::serving::{
    Check, Checks, Endpoints, ListenerConfig, RequestLimits, RequestMetrics, SecureListener,
    ServingError,
};
use crate::store::{Revision, Store, StoreOptions};

/// Connections at a time. The aggregator keeps a few, kubectl goes through it.
const CONNECTIONS_MAX: usize = 2048;
/// How often the number of stored points is told.
const COUNT_INTERVAL: Duration = Duration::from_secs(10);
/// For how many intervals values that came by queries are shown while queries fail.
const KEPT_FEEDS: u32 = 5;

/// Why it does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The configuration contradicts itself.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no client for the API server.
    #[error("API server: {0}")]
    Client(#[source] Box<kube::Error>),
    /// There are no credentials for kubelets.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// It is not known whom to believe.
    #[error(transparent)]
    Trust(#[from] SourceError),
    /// There is no thread to scrape on.
    #[error("cannot start scraping: {0}")]
    Scraper(#[source] io::Error),
    /// Nothing can be served.
    #[error(transparent)]
    Serving(#[from] ServingError),
}

/// Runs until `shutdown`, then lets open requests finish. `on_ready` is called with the address once connections are taken.
///
/// # Errors
/// [`RunError`]; none once it serves.
pub async fn run(
    mut config: Config,
    on_ready: impl FnOnce(std::net::SocketAddr) + Send,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let node_selector = config.check()?;
    // The client library takes the process's provider and panics where features leave a choice. If another was chosen
    // before, that one is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = client(&config.api_server)?;
    // Informers, scraping and authentication go on while requests are drained.
    let stopped = CancellationToken::new();
    let stop = stopped.clone().drop_guard();

    let revision = Arc::new(Revision::default());
    let objects = Arc::new(Objects::new(Arc::clone(&revision)));
    let wanted = config.adapter.as_ref().is_some_and(|adapter| adapter.expressions);
    let expressions = wanted.then(|| Arc::new(Expressions::default()));
    let adapter = match config.adapter.take() {
        Some(adapter) => {
            let (clock, expressions) = (Arc::clone(&config.clock), expressions.clone());
            let registry = &config.registry;
            Some(Arc::new(adapter_of(adapter, &client, &objects, clock, expressions, registry)?))
        }
        None => None,
    };
    let feed = adapter.as_ref().and_then(|adapter| adapter.resource_feed().map(Arc::clone));
    let options = match &feed {
        Some(feed) => feed.store_options(config.resolution * KEPT_FEEDS),
        None => {
            let resolution_ms = i64::try_from(config.resolution.as_millis()).unwrap_or(i64::MAX);
            StoreOptions::with_resolution_ms(resolution_ms)
        }
    };
    let store = Arc::new(Store::with_revision(options, revision));
    let credentials = Credentials::new(
        &config.api_server,
        &config.kubelets.tls,
        config.kubelets.request_timeout,
        config.kubelets.endpoints.allow_loopback,
    )
    .await?;
    let options = ScrapeOptions { resolution: config.resolution, ..ScrapeOptions::default() };
    let scraper = Arc::new(Scraper::new(
        options,
        credentials,
        Arc::clone(&store),
        Arc::clone(&objects),
        Arc::clone(&config.clock),
        ScrapeMetrics::new(&config.registry, config.resolution),
    ));
    let informers = Informers::new(
        Arc::clone(&objects),
        Arc::clone(&scraper),
        config.kubelets.endpoints.clone(),
        String::from(config.node_selector.trim()),
        config.pod_watch,
        &config.registry,
    );

    let groups = {
        let adapter = adapter.clone();
        move || {
            let own = adapter.iter().flat_map(|adapter| adapter.groups());
            std::iter::once(resource::group()).chain(own).collect::<Vec<_>>()
        }
    };
    let listener = listener_config(&config.serving, &client, &groups());
    let listener = SecureListener::bind(listener, config.clock.now()).await?;
    let access = access(&config, &client, &stopped).await?;
    let closing = CancellationToken::new();
    let state = ResourceState::new(
        Arc::clone(&store),
        Arc::clone(&objects),
        Arc::clone(&config.clock),
        node_selector,
        closing.clone(),
    )
    .with_metrics(&config.registry);
    let leaving = Arc::new(AtomicBool::new(false));
    let known = Arc::clone(&objects);
    let probed = Probed {
        store: Arc::clone(&store),
        objects,
        collector: match &feed {
            Some(feed) => Collector::Feed(Arc::clone(feed), config.resolution * KEPT_FEEDS),
            None => Collector::Scraper(Arc::clone(&scraper)),
        },
        clock: Arc::clone(&config.clock),
        leaving: Arc::clone(&leaving),
    };
    let endpoints = Endpoints {
        apis: apis(state, adapter.clone(), groups.clone()),
        groups: groups(),
        checks: probed.checks(),
        registry: config.registry.clone(),
    };

    let mut tasks = JoinSet::new();
    if let Some(expressions) = expressions {
        let (client, stopped) = (client.clone(), stopped.clone());
        tasks.spawn(async move { expressions.run(client, stopped).await });
    }
    tasks.spawn(informers.run(client, stopped.clone()));
    match feed {
        Some(feed) => {
            let (store, objects, stopped) = (Arc::clone(&store), known, stopped.clone());
            let interval = config.resolution;
            tasks.spawn(async move { feed.run(&store, &objects, interval, stopped).await });
        }
        None => {
            let thread = scrape(scraper, stopped.clone()).map_err(RunError::Scraper)?;
            tasks.spawn_blocking(move || {
                if thread.join().is_err() {
                    tracing::error!("scraping has ended badly");
                }
            });
        }
    }
    if let Some(adapter) = adapter {
        let stopped = stopped.clone();
        tasks.spawn(async move { adapter.run(stopped).await });
    }
    tasks.spawn(count_points(store, Arc::clone(&config.clock), config.registry.clone()));
    tasks.spawn({
        let (closing, delay) = (closing.clone(), config.serving.shutdown_delay);
        async move {
            shutdown.cancelled().await;
            leaving.store(true, Ordering::SeqCst);
            tokio::time::sleep(delay).await;
            closing.cancel();
        }
    });
    let request_metrics = RequestMetrics::new(&config.registry);
    if let Ok(address) = listener.local_address() {
        tracing::info!(%address, "serving");
        on_ready(address);
    }
    let now = config.clock.now();
    let served = listener.serve(endpoints, &access, &request_metrics, now, closing).await;
    drop(stop);
    tasks.shutdown().await;
    Ok(served?)
}

/// Scrapes on a thread of its own. Requests to kubelets are short and many: handing them from thread to thread would cost a third more than they do, and
/// what the API is asked does not wait for them.
fn scrape(scraper: Arc<Scraper>, stopped: CancellationToken) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new()
        .name(String::from("kubelets"))
        .spawn(move || runtime.block_on(scraper.run(stopped)))
}

fn client(config: &kube::Config) -> Result<Client, RunError> {
    Client::try_from(config.clone()).map_err(|error| RunError::Client(Box::new(error)))
}

/// An adapter over what is known of the cluster.
fn adapter_of(
    config: AdapterConfig,
    client: &Client,
    objects: &Arc<Objects>,
    clock: Arc<dyn model::Clock>,
    expressions: Option<Arc<Expressions>>,
    registry: &Registry,
) -> Result<Adapter, ConfigError> {
    let cluster = Arc::new(ClusterObjects::new(client.clone(), Arc::clone(objects)));
    let fallback = config.fallback.map(Fallback::new).transpose().map_err(ConfigError::Fallback)?;
    let options = AdapterOptions {
        config: config.discovery,
        source: config.source,
        objects: Arc::clone(&cluster) as _,
        cluster: Some(cluster),
        clock,
        queries: config.queries,
        relist: config.relist,
        default_rules: config.default_rules,
        fallback,
        expressions,
        steering: config.steering.map(Steering::new).transpose().map_err(ConfigError::Steering)?,
        metrics: AdapterMetrics::new(registry),
        source_name: config.source_name,
    };
    Adapter::new(options).map_err(|error| ConfigError::Rules(Arc::new(error)))
}

/// Everything under `/apis` and `/openapi`.
fn apis(
    state: ResourceState,
    adapter: Option<Arc<Adapter>>,
    groups: impl Fn() -> Vec<ApiGroup> + Send + Sync + 'static,
) -> Router {
    let openapi = resource::openapi_router(&groups());
    let own = resource::router(state).merge(resource::discovery_router(groups)).merge(openapi);
    match adapter {
        Some(adapter) => {
            own.merge(adapter::router(adapter).layer(middleware::from_fn(tell_caller)))
        }
        None => own,
    }
}

/// Tells the adapter who asks, for what it forwards.
async fn tell_caller(mut request: Request, next: Next) -> Response {
    if let Some(User { name, uid, groups, extra }) = request.extensions().get::<User>().cloned() {
        request.extensions_mut().insert(Caller { name, uid, groups, extra });
    }
    next.run(request).await
}

fn listener_config(
    serving: &ServingConfig,
    client: &Client,
    groups: &[ApiGroup],
) -> ListenerConfig {
    let names = groups.iter().flat_map(|group| {
        group.versions.iter().map(|version| format!("{}.{}", version.name, group.name))
    });
    let names = names.collect();
    ListenerConfig {
        bind_address: serving.bind_address,
        port: serving.port,
        certificate: serving.certificate.clone(),
        named_certificates: serving.named_certificates.clone(),
        tls: serving.tls.clone(),
        trusted_by: serving.inject_ca.then(|| (client.clone(), names)),
        limits: Limits { connections_max: CONNECTIONS_MAX, ..Limits::default() },
        request_limits: RequestLimits {
            inflight_max: serving.requests_inflight_max,
            timeout: serving.request_timeout,
            ..RequestLimits::default()
        },
    }
}

async fn access(
    config: &Config,
    own: &Client,
    stopped: &CancellationToken,
) -> Result<Access, RunError> {
    let given = |config: &Option<Box<kube::Config>>| match config {
        Some(config) => client(config),
        None => Ok(own.clone()),
    };
    let AuthenticationConfig { api_server, skip_lookup, client_ca_file, front_proxy, .. } =
        &config.authentication;
    let authentication = given(api_server)?;
    let options = DelegatedOptions {
        sources: TrustSources {
            client: (!skip_lookup).then(|| authentication.clone()),
            client_ca_file: client_ca_file.clone(),
            front_proxy: front_proxy.clone(),
        },
        authorization_client: Some(given(&config.authorization.api_server)?),
        tolerate_lookup_failure: config.authentication.tolerate_lookup_failure,
        token_ttl: config.authentication.token_ttl,
        allowed_ttl: config.authorization.allowed_ttl,
        denied_ttl: config.authorization.denied_ttl,
        always_allow_paths: config.authorization.always_allow_paths.clone(),
        ..DelegatedOptions::new(authentication)
    };
    Ok(Access::delegated(options, Arc::clone(&config.clock), stopped.clone()).await?)
}

/// Where CPU and memory come from.
enum Collector {
    Scraper(Arc<Scraper>),
    /// Queries, and the time after which they are late: a round of them takes as long as Prometheus does.
    Feed(Arc<ResourceFeed>, Duration),
}

impl Collector {
    fn is_timely(&self) -> bool {
        match self {
            Self::Scraper(scraper) => scraper.is_timely(),
            Self::Feed(feed, limit) => feed.is_timely(*limit),
        }
    }
}

/// What the probes look at.
struct Probed {
    store: Arc<Store>,
    objects: Arc<Objects>,
    collector: Collector,
    clock: Arc<dyn model::Clock>,
    leaving: Arc<AtomicBool>,
}

impl Probed {
    /// Upstream's checks under upstream's names.
    fn checks(self) -> Checks {
        let Self { store, objects, collector, clock, leaving } = self;
        let storage = Check::new("metric-storage-ready", move || {
            let points = store.points(clock.now());
            verdict(points.nodes > 0 && points.containers > 0, "no metrics to serve")
        });
        let informers = {
            let objects = Arc::clone(&objects);
            Check::new("metric-informer-sync", move || {
                verdict(objects.nodes_synced(), "cache for node informer has not synced")?;
                verdict(objects.pods_synced(), "cache for pod informer has not synced")
            })
        };
        let metadata = Check::new("metadata-informer-sync", move || {
            verdict(objects.pods_synced(), "1 informers not started yet: [/v1, Resource=pods]")
        });
        let collection = Check::new("metric-collection-timely", move || {
            verdict(collector.is_timely(), "metric collection didn't finish on time")
        });
        let shutdown = Check::new("shutdown", move || {
            verdict(!leaving.load(Ordering::SeqCst), "process is shutting down")
        });
        Checks {
            healthz: vec![metadata.clone()],
            livez: vec![collection, metadata.clone()],
            readyz: vec![storage, informers, metadata, shutdown],
        }
    }
}

fn verdict(good: bool, otherwise: &str) -> Result<(), String> {
    if good { Ok(()) } else { Err(String::from(otherwise)) }
}

/// Tells how many points are stored, from time to time: counting them looks at every node.
async fn count_points(store: Arc<Store>, clock: Arc<dyn model::Clock>, registry: Registry) {
    let points = register(
        &registry,
        IntGaugeVec::new(
            Opts::new("metrics_server_storage_points", "Number of metrics points stored."),
            &["type"],
        ),
    );
    let [nodes, containers] = ["node", "container"].map(|kind| points.with_label_values(&[kind]));
    let mut ticks = tokio::time::interval(COUNT_INTERVAL);
    loop {
        ticks.tick().await;
        let points = store.points(clock.now());
        nodes.set(i64::try_from(points.nodes).unwrap_or(i64::MAX));
        containers.set(i64::try_from(points.containers).unwrap_or(i64::MAX));
    }
}
