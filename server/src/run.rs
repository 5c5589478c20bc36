//! The life of a server: open, serve, reload, stop.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use config::RetentionConfig;
use model::{Appender, Clock, Matcher, SystemClock};
use parking_lot::RwLock;
use promql::{Engine, EngineOptions};
use scrape::{LocalTarget, Scraper, ScraperOptions};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tsdb::{Db, OsDisk, ReplayProgress};

use crate::metrics::Metrics;
use crate::queries::{Queries, QueryBounds};
use crate::state::{Ready, Reload, Server};
use crate::{memory, routes, storage};

/// How often the head is looked at for being cut, and old blocks for being dropped.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(60);
/// Bytes that all queries together may hold unless that is given; on a small machine it is half of its memory.
const QUERIES_BYTES_MAX: u64 = 8 << 30;
/// Reloads that may wait; further requests wait for a place.
const RELOADS_QUEUED_MAX: usize = 8;

/// What a server is told.
pub struct Config {
    /// Host and port to listen on.
    pub listen_address: String,
    /// Bounds of the listener.
    pub limits: http::Limits,
    /// Where the scrape configuration comes from.
    pub source: ConfigSource,
    /// What holds where it says nothing.
    pub defaults: config::Defaults,
    /// Whether series that are scraped get their type, and their unit where it is told, as labels.
    pub type_and_unit_labels: bool,
    /// Data directory.
    pub data_path: PathBuf,
    /// Options of the store; the `storage` section of the configuration overrules its part of them.
    pub storage: tsdb::Options,
    /// How often the write-ahead log is synced; `None` where `storage` says that it is not by time.
    pub wal_fsync_interval: Option<Duration>,
    /// Told how far the replay of the log is.
    pub replay: Arc<ReplayProgress>,
    /// Options of the query engine. The subquery step follows the configuration's evaluation interval.
    pub engine: EngineOptions,
    /// Whether `stats=all` counts the samples of each step.
    pub per_step_stats: bool,
    /// Bytes that one query may hold; 0 for no bound of its own.
    pub query_bytes_max: u64,
    /// Bytes that all queries together may hold, 0 for no bound; `None` for 8 GiB or half of the memory of the machine or
    /// control group, whichever is less.
    pub queries_bytes_max: Option<u64>,
    /// Whether `POST /-/reload` and `POST /-/quit` are answered.
    pub enable_lifecycle: bool,
    /// Whether `POST /api/v1/admin/tsdb/…` is answered.
    pub enable_admin_api: bool,
    /// Which pages of other sites may read the API, by their origin (`https://example.org`); none if it is not given.
    pub cors_origin: Option<Matcher>,
    /// Flags by name, for `status/flags`.
    pub flags: Vec<(String, String)>,
    /// In-process targets.
    pub local: Vec<LocalTarget>,
    /// Further routes of the binary.
    pub extra_routes: Router,
    /// Links to them, with what each is for.
    pub extra_links: Vec<(String, String)>,
    /// Where the server's own metrics are kept.
    pub registry: telemetry::Registry,
    /// Given all routes before they are listened on, for whoever asks within the process: [`http::Client::in_process`].
    pub on_routes: Box<dyn FnOnce(&Router) + Send>,
    /// Told when queries are answered.
    pub on_ready: Box<dyn FnOnce() + Send>,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("listen_address", &self.listen_address)
            .field("source", &self.source)
            .field("data_path", &self.data_path)
            .finish_non_exhaustive()
    }
}

/// Where a scrape configuration comes from.
#[derive(Clone, Debug)]
pub enum ConfigSource {
    /// A `prometheus.yml`, read again on reload.
    File(PathBuf),
    /// Text of the binary's own.
    Embedded(String),
}

/// Loads configurations.
#[derive(Clone, Debug)]
struct Loader {
    source: ConfigSource,
    defaults: config::Defaults,
    /// What is kept where the source says nothing of it.
    retention: RetentionConfig,
}

impl Loader {
    fn load(&self) -> Result<config::Config, config::ConfigError> {
        let mut config = match &self.source {
            ConfigSource::File(path) => config::Config::load_with(path, self.defaults)?,
            ConfigSource::Embedded(yaml) => {
                config::Config::parse_with(yaml, "embedded configuration", self.defaults)?
            }
        };
        config.storage.retention.get_or_insert(self.retention);
        Ok(config)
    }
}

/// Why a server did not start or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is not usable.
    #[error(transparent)]
    Config(#[from] config::ConfigError),
    /// The address cannot be listened on, or serving failed.
    #[error(transparent)]
    Http(#[from] http::HttpError),
    /// The data directory cannot be opened.
    #[error(transparent)]
    Open(#[from] tsdb::OpenError),
    /// The store could not be closed cleanly; what was acknowledged is in the log.
    #[error("closing the store: {0}")]
    Close(String),
    /// A part of the server ended unexpectedly.
    #[error("{0} ended unexpectedly")]
    Ended(&'static str),
}

/// Asks the server to reload its configuration and waits for the outcome.
#[derive(Clone, Debug)]
pub(crate) struct ReloadRequests(mpsc::Sender<oneshot::Sender<Result<(), String>>>);

impl ReloadRequests {
    pub(crate) async fn reload(&self) -> Result<(), String> {
        let (answer, outcome) = oneshot::channel();
        let stopping = || String::from("the server is stopping");
        self.0.send(answer).await.map_err(|_| stopping())?;
        outcome.await.map_err(|_| stopping())?
    }
}

/// Runs a server until `shutdown` is cancelled; a message on `hangups` reloads the configuration.
///
/// Starts with what fails most often: the configuration, the address, the data directory.
///
/// # Errors
/// [`Error`] names what could not be read, bound, opened or closed.
pub async fn run(
    config: Config,
    mut hangups: mpsc::Receiver<()>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let retention = storage::retention_of(&config.storage);
    let loader = Loader { source: config.source, defaults: config.defaults, retention };
    let scrape_config = Arc::new(loader.load()?);
    storage::warn_of_size(&scrape_config.storage);
    let options = storage::options(config.storage, &scrape_config.storage);
    let mut flags = config.flags;
    storage::set_effective(&mut flags, &scrape_config.storage, options.max_block_duration);
    state_receivers(&mut flags);
    let total_bytes_max = config
        .queries_bytes_max
        .unwrap_or_else(|| QUERIES_BYTES_MAX.min(memory::available_bytes() / 2));
    if let Some((_, value)) = flags.iter_mut().find(|(flag, _)| flag == "query.max-total-bytes") {
        *value = config::format_size(total_bytes_max);
    }
    let listener = http::bind(&config.listen_address).await?;
    let (reloads, mut reload_requests) = mpsc::channel(RELOADS_QUEUED_MAX);
    let parts = Parts {
        client: http::Client::default(),
        local: config.local,
        type_and_unit_labels: config.type_and_unit_labels,
        clock: Arc::new(SystemClock),
    };
    let bounds = QueryBounds {
        concurrency_max: config.engine.concurrency_max,
        timeout: config.engine.timeout,
        bytes_max: config.query_bytes_max,
        total_bytes_max,
    };
    let server = Arc::new(Server {
        started: parts.clock.now(),
        clock: Arc::clone(&parts.clock),
        queries: Queries::new(bounds, &config.registry),
        parse: config.engine.parse,
        delayed_name_removal: config.engine.delayed_name_removal,
        type_and_unit_labels: config.type_and_unit_labels,
        engine: Arc::new(Engine::new(config.engine, &config.registry)),
        per_step_stats: config.per_step_stats,
        metrics: Metrics::new(&config.registry),
        registry: config.registry,
        flags,
        data_path: config.data_path.clone(),
        config: RwLock::new(Arc::clone(&scrape_config)),
        reload: RwLock::new(Reload { succeeded: false, at: 0 }),
        reload_requests: config.enable_lifecycle.then_some(ReloadRequests(reloads)),
        enable_admin_api: config.enable_admin_api,
        cors_origin: config.cors_origin,
        replay: config.replay,
        extra_links: config.extra_links,
        running: OnceLock::new(),
        shutdown: shutdown.clone(),
        stopping: AtomicBool::new(false),
    });

    // Serving comes first, so that a long replay shows as "not ready" instead of as a dead port.
    let stop_http = CancellationToken::new();
    let router = routes::router(&server, config.extra_routes);
    (config.on_routes)(&router);
    let mut serving = tokio::spawn(http::serve(listener, router, config.limits, stop_http.clone()));

    let store = tokio::select! {
        opened = open_store(&server, config.data_path, options) => opened?,
        () = shutdown.cancelled() => {
            // Replaying changes nothing that a killed process could not have left.
            stop_http.cancel();
            let _ = serving.await;
            return Ok(());
        }
    };
    let scraper = Arc::new(parts.scraper(&server, &store));
    apply(&server, &scraper, &store, scrape_config);
    let ready = Ready { store: Arc::clone(&store), scraper: Arc::clone(&scraper) };
    if server.running.set(ready).is_err() {
        return Err(Error::Ended("start-up"));
    }
    server.metrics.ready.set(1);
    let upkeep = Upkeep::start(&store, config.wal_fsync_interval);
    let stop_scraping = CancellationToken::new();
    let scraping = tokio::spawn({
        let (scraper, stop) = (Arc::clone(&scraper), stop_scraping.clone());
        async move { scraper.run(stop).await }
    });
    (config.on_ready)();

    let mut outcome = Ok(());
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            ended = &mut serving => {
                outcome = ended.map_err(|_| Error::Ended("the listener")).and_then(|e| Ok(e?));
                if outcome.is_ok() {
                    outcome = Err(Error::Ended("the listener"));
                }
                break;
            }
            Some(()) = hangups.recv() => {
                // Logged where it happens; a signal has nobody to answer to.
                let _ = reload(&server, &scraper, &store, &loader).await;
            }
            Some(answer) = reload_requests.recv() => {
                let _ = answer.send(reload(&server, &scraper, &store, &loader).await);
            }
        }
    }

    // New samples first, then readers, then the store that both use.
    server.stopping.store(true, Ordering::Relaxed);
    server.metrics.ready.set(0);
    stop_scraping.cancel();
    let _ = scraping.await;
    stop_http.cancel();
    if !serving.is_finished() {
        let drained = serving.await.map_err(|_| Error::Ended("the listener"));
        outcome = outcome.and(drained.and_then(|e| Ok(e?)));
    }
    upkeep.stop();
    let closed = tokio::task::spawn_blocking(move || store.close()).await;
    match closed {
        Ok(Ok(())) => outcome,
        Ok(Err(error)) => outcome.and(Err(Error::Close(error.to_string()))),
        Err(_) => outcome.and(Err(Error::Ended("the store"))),
    }
}

/// What is needed to make a scraper.
struct Parts {
    client: http::Client,
    local: Vec<LocalTarget>,
    type_and_unit_labels: bool,
    clock: Arc<dyn Clock>,
}

impl Parts {
    fn scraper(self, server: &Server, store: &Arc<Db>) -> Scraper {
        let appender = Arc::clone(store) as Arc<dyn Appender>;
        let options = ScraperOptions::new(appender, self.clock, self.client);
        let Self { local, type_and_unit_labels, .. } = self;
        let options = ScraperOptions { local, type_and_unit_labels, ..options };
        Scraper::new(options, &server.registry)
    }
}

/// Opens the store on a blocking thread: it replays the log.
async fn open_store(
    server: &Arc<Server>,
    path: PathBuf,
    options: tsdb::Options,
) -> Result<Arc<Db>, Error> {
    let server = Arc::clone(server);
    let open = move || {
        let disk = Arc::new(OsDisk);
        let clock = Arc::clone(&server.clock);
        Db::open_watched(&path, disk, clock, options, &server.registry, &server.replay)
    };
    let opened = tokio::task::spawn_blocking(open).await;
    Ok(Arc::new(opened.map_err(|_| Error::Ended("opening the store"))??))
}

/// Makes `config` the one in force.
fn apply(server: &Server, scraper: &Scraper, store: &Db, config: Arc<config::Config>) {
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    storage::apply(store, &config.storage);
    scraper.apply(&config);
    server.engine.set_subquery_step(config.global.evaluation_interval);
    *server.config.write() = config;
    let now = server.clock.now();
    *server.reload.write() = Reload { succeeded: true, at: now };
    server.metrics.config_reload_successful.set(1);
    #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 are below 2^53")]
    server.metrics.config_reload_seconds.set(now as f64 / 1e3);
}

/// Reads the configuration again; a broken one changes nothing.
async fn reload(
    server: &Server,
    scraper: &Scraper,
    store: &Db,
    loader: &Loader,
) -> Result<(), String> {
    let loader = loader.clone();
    let loaded = tokio::task::spawn_blocking(move || loader.load()).await;
    let loaded = loaded.map_err(|error| error.to_string());
    match loaded.and_then(|config| config.map_err(|error| error.to_string())) {
        Ok(config) => {
            storage::warn_of_size(&config.storage);
            apply(server, scraper, store, Arc::new(config));
            tracing::info!("configuration reloaded");
            Ok(())
        }
        Err(error) => {
            tracing::error!(%error, "reload failed, the earlier configuration stays in force");
            server.reload.write().succeeded = false;
            server.metrics.config_reload_successful.set(0);
            Err(error)
        }
    }
}

/// States in `flags` that nothing is received, as Prometheus states its defaults: others read there whether every series
/// was scraped.
fn state_receivers(flags: &mut Vec<(String, String)>) {
    for receiver in ["web.enable-remote-write-receiver", "web.enable-otlp-receiver"] {
        if !flags.iter().any(|(flag, _)| flag == receiver) {
            flags.push((String::from(receiver), String::from("false")));
        }
    }
}

/// The threads that keep the store in order.
struct Upkeep {
    stops: Vec<std::sync::mpsc::Sender<()>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Upkeep {
    fn start(store: &Arc<Db>, wal_fsync_interval: Option<Duration>) -> Self {
        let mut upkeep = Self { stops: Vec::new(), threads: Vec::new() };
        if let Some(interval) = wal_fsync_interval {
            let syncing = Arc::clone(store);
            upkeep.every(interval, "wal-sync", move || {
                if let Err(error) = syncing.sync() {
                    tracing::error!(%error, "syncing the write-ahead log failed");
                }
            });
        }
        let maintained = Arc::clone(store);
        upkeep.every(MAINTENANCE_INTERVAL, "maintenance", move || {
            if let Err(error) = maintained.maintain() {
                tracing::error!(%error, "maintenance of the store failed");
            }
        });
        upkeep
    }

    fn every(&mut self, interval: Duration, name: &str, mut work: impl FnMut() + Send + 'static) {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let tick = move || {
            while stopped.recv_timeout(interval) == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
            {
                work();
            }
        };
        match std::thread::Builder::new().name(String::from(name)).spawn(tick) {
            Ok(thread) => {
                self.stops.push(stop);
                self.threads.push(thread);
            }
            Err(error) => tracing::error!(%error, thread = name, "cannot start a thread"),
        }
    }

    fn stop(self) {
        drop(self.stops);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a maintenance thread panicked");
            }
        }
    }
}
