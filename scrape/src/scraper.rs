//! The whole of scraping: follows configurations, runs the pools and answers what the targets are.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use config::Config;
use http::Client;
use model::{Appender, Clock, Labels, Timestamp};
use parking_lot::{Mutex, RwLock};
use telemetry::Registry;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::MetricMetadata;
use crate::discovery::{Asking, Refreshed};
use crate::metadata::Interner;
use crate::metrics::Metrics;
use crate::pool::{Pool, TargetView, Workshop};
use crate::task::Shared;

/// Refreshes that wait for their pool; more make discoveries wait.
const REFRESHES_QUEUED_MAX: usize = 64;

/// A source of metrics in this process.
pub trait LocalSource: Send + Sync {
    /// Appends the metrics to `out` in text format 0.0.4. Runs on a blocking thread, once at a time per
    /// target.
    fn collect(&self, out: &mut Vec<u8>);
}

/// A URL that is answered in this process.
#[derive(Clone)]
pub struct LocalTarget {
    /// A target whose URL is equal to this one is not asked over HTTP.
    pub url: String,
    /// Answers instead.
    pub source: Arc<dyn LocalSource>,
}

impl fmt::Debug for LocalTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalTarget").field("url", &self.url).finish_non_exhaustive()
    }
}

/// What a scraper needs from others.
#[derive(Clone)]
pub struct ScraperOptions {
    /// Takes the samples.
    pub appender: Arc<dyn Appender>,
    /// Dates the samples.
    pub clock: Arc<dyn Clock>,
    /// Asks targets and discovery services.
    pub client: Client,
    /// Targets in this process.
    pub local: Vec<LocalTarget>,
    /// Sent to targets as `User-Agent`.
    pub user_agent: String,
    /// Whether series get their type, and their unit where a format tells it, as labels `__type__` and `__unit__`. The text format
    /// tells no units.
    pub type_and_unit_labels: bool,
}

impl ScraperOptions {
    /// Options without targets in this process, under the project's own user agent.
    #[must_use]
    pub fn new(appender: Arc<dyn Appender>, clock: Arc<dyn Clock>, client: Client) -> Self {
        let user_agent = format!("Sextant/{}", telemetry::VERSION);
        let local = Vec::new();
        Self { appender, clock, client, local, user_agent, type_and_unit_labels: false }
    }
}

impl fmt::Debug for ScraperOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScraperOptions")
            .field("local", &self.local)
            .field("user_agent", &self.user_agent)
            .finish_non_exhaustive()
    }
}

/// Whether a target answered its last scrape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It was not scraped yet.
    Unknown,
    /// It answered, and the answer was stored.
    Up,
    /// It did not.
    Down,
}

impl Health {
    /// `unknown`, `up` or `down`
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// All targets at one moment.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    /// Targets that are scraped, in order of their pools.
    pub active: Vec<ActiveTarget>,
    /// Targets that relabelling dropped, as far as they are remembered.
    pub dropped: Vec<DroppedTarget>,
    /// How many targets relabelling dropped, by pool.
    pub dropped_counts: BTreeMap<String, u64>,
}

/// A target that is scraped.
#[derive(Clone, Debug, PartialEq)]
pub struct ActiveTarget {
    /// Everything that discovery and configuration said.
    pub discovered_labels: Labels,
    /// The labels of its series.
    pub labels: Labels,
    /// Its job in the configuration.
    pub scrape_pool: String,
    /// Where its metrics are.
    pub scrape_url: String,
    /// Why the last scrape failed; empty if it did not.
    pub last_error: String,
    /// When the last scrape began; 0 before the first.
    pub last_scrape: Timestamp,
    /// How long it took.
    pub last_scrape_duration: Duration,
    /// Whether it succeeded.
    pub health: Health,
    /// Time between scrapes.
    pub scrape_interval: Duration,
    /// Most that a scrape may take.
    pub scrape_timeout: Duration,
}

/// A target that relabelling dropped.
#[derive(Clone, Debug, PartialEq)]
pub struct DroppedTarget {
    /// Everything that discovery and configuration said.
    pub discovered_labels: Labels,
    /// Its job in the configuration.
    pub scrape_pool: String,
}

/// What a target says about its metrics.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetMetadata {
    /// The labels of its series.
    pub labels: Labels,
    /// Its job in the configuration.
    pub scrape_pool: String,
    /// Its metrics in order of their names.
    pub metrics: Vec<MetricMetadata>,
}

/// The targets of each pool, by job.
type View = BTreeMap<String, Vec<TargetView>>;

/// Scrapes the targets of a configuration.
///
/// [`apply`](Self::apply) says what to do, before or while [`run`](Self::run) does it.
pub struct Scraper {
    shared: Arc<Shared>,
    options: ScraperOptions,
    config: watch::Sender<Option<Arc<Config>>>,
    view: RwLock<View>,
}

impl fmt::Debug for Scraper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scraper").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Scraper {
    /// A scraper without a configuration; its own metrics go to `registry`.
    #[must_use]
    pub fn new(options: ScraperOptions, registry: &Registry) -> Self {
        let storing = std::thread::available_parallelism().map_or(1, usize::from);
        let shared = Arc::new(Shared {
            appender: Arc::clone(&options.appender),
            clock: Arc::clone(&options.clock),
            client: options.client.clone(),
            user_agent: options.user_agent.clone(),
            metrics: Metrics::new(registry),
            storing: Semaphore::new(storing),
            scratches: Mutex::default(),
        });
        Self { shared, options, config: watch::Sender::new(None), view: RwLock::default() }
    }

    /// Changes to `config`. Returns at once; targets follow as soon as [`run`](Self::run) gets to it.
    ///
    /// A target whose labels and URL stay the same keeps its cache, and its schedule unless the interval changes.
    pub fn apply(&self, config: &Config) {
        self.config.send_replace(Some(Arc::new(config.clone())));
    }

    /// Scrapes until `shutdown`; then finishes storing what has been read. Scrapes that wait for their targets are
    /// dropped, and no series is marked stale: a restarted server goes on where this one stopped.
    ///
    /// To be called once.
    pub async fn run(&self, shutdown: CancellationToken) {
        let (refreshed, mut refreshes) = mpsc::channel(REFRESHES_QUEUED_MAX);
        let mut workshop = self.workshop(shutdown.clone(), refreshed);
        let mut configs = self.config.subscribe();
        configs.mark_changed();
        let mut pools = BTreeMap::new();
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Ok(()) = configs.changed() => {
                    let config = configs.borrow_and_update().clone();
                    if let Some(config) = config {
                        follow(&config, &mut pools, &mut workshop);
                    }
                }
                Some(refreshed) = refreshes.recv() => take_over(refreshed, &mut pools, &mut workshop),
                Some(ended) = workshop.tasks.join_next() => match ended {
                    Ok((job, identity)) => {
                        if let Some(pool) = pools.get_mut(&job) {
                            pool.ended(&identity, &mut workshop);
                        }
                    }
                    Err(e) => error!(error = %e, "a scrape task failed"),
                },
            }
            *self.view.write() =
                pools.iter().map(|(job, pool)| (job.clone(), pool.view())).collect();
        }
        // Discoveries stop with their pools, tasks by the same token that got us here.
        drop(pools);
        while workshop.tasks.join_next().await.is_some() {}
    }

    fn workshop(
        &self,
        shutdown: CancellationToken,
        refreshed: mpsc::Sender<Refreshed>,
    ) -> Workshop {
        let locals = self.options.local.iter();
        Workshop {
            shared: Arc::clone(&self.shared),
            interner: Arc::new(Interner::default()),
            type_labels: self.options.type_and_unit_labels,
            locals: locals.map(|local| (local.url.clone(), Arc::clone(&local.source))).collect(),
            asking: Asking {
                client: self.options.client.clone(),
                user_agent: self.options.user_agent.clone(),
                failures: self.shared.metrics.http_sd_failures.clone(),
                refreshed,
            },
            shutdown,
            tasks: JoinSet::new(),
            discoveries_started: 0,
        }
    }

    /// The targets and how their last scrapes went.
    #[must_use]
    pub fn targets(&self) -> Targets {
        let view = self.view.read();
        let active = view
            .iter()
            .flat_map(|(job, targets)| targets.iter().map(|target| active_target(job, target)));
        Targets {
            active: active.collect(),
            dropped: Vec::new(),
            dropped_counts: view.keys().map(|job| (job.clone(), 0)).collect(),
        }
    }

    /// What the targets say about their metrics.
    #[must_use]
    pub fn metadata(&self) -> Vec<TargetMetadata> {
        let view = self.view.read();
        let targets = view.iter().flat_map(|(job, targets)| {
            targets.iter().map(|target| TargetMetadata {
                labels: target.settings.target.labels.clone(),
                scrape_pool: job.clone(),
                metrics: target.status.metadata.list(),
            })
        });
        targets.collect()
    }
}

fn active_target(job: &str, view: &TargetView) -> ActiveTarget {
    let target = &view.settings.target;
    let last = view.status.last.lock().clone();
    ActiveTarget {
        discovered_labels: target.discovered.clone(),
        labels: target.labels.clone(),
        scrape_pool: String::from(job),
        scrape_url: target.url.clone(),
        last_error: last.error,
        last_scrape: last.t,
        last_scrape_duration: last.duration,
        health: last.health,
        scrape_interval: target.interval,
        scrape_timeout: target.timeout,
    }
}

/// Brings the pools in line with `config`.
fn follow(config: &Config, pools: &mut BTreeMap<String, Pool>, workshop: &mut Workshop) {
    let seed = seed(&config.global.external_labels);
    let mut left = std::mem::take(pools);
    for job in &config.scrape_configs {
        let pool = match left.remove(&job.job_name) {
            Some(mut pool) => {
                pool.reload(job, seed, workshop);
                pool
            }
            None => Pool::new(job.clone(), seed, workshop),
        };
        pools.insert(job.job_name.clone(), pool);
    }
    for (job, pool) in left {
        info!(job, "scrape pool removed");
        pool.close(workshop);
    }
}

fn take_over(refreshed: Refreshed, pools: &mut BTreeMap<String, Pool>, workshop: &mut Workshop) {
    if let Some(pool) = pools.get_mut(&refreshed.job) {
        pool.refreshed(refreshed, workshop);
    }
}

/// Differs between servers, so that replicas do not ask a target at the same moment, and is the same after a
/// restart.
fn seed(external_labels: &Labels) -> u64 {
    let name = rustix::system::uname();
    crate::hash_text(&name.nodename().to_string_lossy()) ^ external_labels.stable_hash()
}
