//! The targets of one job: which there are, and the tasks that scrape them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use config::{ScrapeConfig, TargetGroup};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::discovery::{Asking, HttpDiscovery, Refreshed};
use crate::fetch::LocalCollector;
use crate::metadata::{Interner, Metadata};
use crate::scraper::LocalSource;
use crate::series_labels::SampleRules;
use crate::status::TargetStatus;
use crate::target::{Identity, Target};
use crate::task::{Order, Shared, TargetSettings, TargetTask};

/// What pools need to start tasks.
pub(crate) struct Workshop {
    pub(crate) shared: Arc<Shared>,
    pub(crate) interner: Arc<Interner>,
    /// Whether the types of metrics are labels.
    pub(crate) type_labels: bool,
    /// Sources in this process by the URL that they answer for.
    pub(crate) locals: HashMap<String, Arc<dyn LocalSource>>,
    pub(crate) asking: Asking,
    pub(crate) shutdown: CancellationToken,
    /// Tasks end with the job and the target that they were for.
    pub(crate) tasks: JoinSet<(String, Identity)>,
    pub(crate) discoveries_started: u64,
}

/// A target as others see it.
#[derive(Clone, Debug)]
pub(crate) struct TargetView {
    pub(crate) settings: Arc<TargetSettings>,
    pub(crate) status: Arc<TargetStatus>,
}

/// A job and its targets.
pub(crate) struct Pool {
    config: ScrapeConfig,
    /// Spreads servers that scrape the same targets over the interval.
    seed: u64,
    type_labels: bool,
    discoveries: Vec<HttpDiscovery>,
    targets: BTreeMap<Identity, Handle>,
}

struct Handle {
    orders: watch::Sender<Order>,
    status: Arc<TargetStatus>,
}

impl Pool {
    pub(crate) fn new(config: ScrapeConfig, seed: u64, workshop: &mut Workshop) -> Self {
        workshop.shared.metrics.pools.inc();
        let (type_labels, discoveries) = (workshop.type_labels, Vec::new());
        let mut pool = Self { config, seed, type_labels, discoveries, targets: BTreeMap::new() };
        pool.discover(workshop);
        pool.sync(workshop);
        pool
    }

    /// Follows a new configuration. Targets that it does not change go on as if nothing had happened.
    pub(crate) fn reload(&mut self, config: &ScrapeConfig, seed: u64, workshop: &mut Workshop) {
        if self.config == *config && self.seed == seed {
            return;
        }
        workshop.shared.metrics.pool_reloads.inc();
        self.config = config.clone();
        self.seed = seed;
        self.discover(workshop);
        self.sync(workshop);
    }

    /// Tells all targets that they are gone.
    pub(crate) fn close(self, workshop: &Workshop) {
        for handle in self.targets.values() {
            handle.orders.send_replace(None);
        }
        workshop.shared.metrics.remove_job(&self.config.job_name);
    }

    /// Takes over new groups, if they are for one of this pool's discoveries.
    pub(crate) fn refreshed(&mut self, mut refreshed: Refreshed, workshop: &mut Workshop) {
        if self.discoveries.iter_mut().any(|discovery| discovery.accept(&mut refreshed)) {
            self.sync(workshop);
        }
    }

    /// A task has ended; if its target was wanted again just then, it gets another one.
    pub(crate) fn ended(&mut self, identity: &Identity, workshop: &mut Workshop) {
        let Some(handle) = self.targets.get(identity) else { return };
        // A newer task of the same target still listens.
        if !handle.orders.is_closed() {
            return;
        }
        let order = handle.orders.borrow().clone();
        self.targets.remove(identity);
        if let Some(settings) = order {
            self.start(identity.clone(), settings, workshop);
        }
    }

    /// The targets that are being scraped.
    pub(crate) fn view(&self) -> Vec<TargetView> {
        let views = self.targets.values().filter_map(|handle| {
            let settings = handle.orders.borrow().clone()?;
            Some(TargetView { settings, status: Arc::clone(&handle.status) })
        });
        views.collect()
    }

    /// Keeps the discoveries that are still configured, with what they found, and starts the new ones.
    fn discover(&mut self, workshop: &mut Workshop) {
        let mut known = std::mem::take(&mut self.discoveries);
        for config in &self.config.http_sd_configs {
            let kept = known.iter().position(|discovery| discovery.config == *config);
            let discovery = kept.map(|at| known.swap_remove(at)).unwrap_or_else(|| {
                workshop.discoveries_started += 1;
                HttpDiscovery::start(
                    config.clone(),
                    &self.config.job_name,
                    workshop.discoveries_started,
                    workshop.asking.clone(),
                )
            });
            self.discoveries.push(discovery);
        }
    }

    /// Determines the targets, starts tasks for new ones and gives orders to the others.
    fn sync(&mut self, workshop: &mut Workshop) {
        let wanted = self.wanted(workshop);
        let job = self.config.job_name.as_str();
        let metrics = &workshop.shared.metrics;
        metrics.pool_syncs.with_label_values(&[job]).inc();
        let gauge = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        metrics.pool_targets.with_label_values(&[job]).set(gauge(wanted.len()));
        let limit = self.config.limits.targets_max;
        let limit_gauge = metrics.pool_target_limit.with_label_values(&[job]);
        limit_gauge.set(i64::try_from(limit).unwrap_or(i64::MAX));
        let over = limit > 0 && wanted.len() as u64 > limit;
        if over {
            metrics.exceeded_target_limit.inc();
        }
        let targets_over_limit = over.then_some(wanted.len());
        for (identity, handle) in &self.targets {
            if !wanted.contains_key(identity) {
                handle.orders.send_replace(None);
            }
        }
        for (identity, target) in wanted {
            let settings = Arc::new(self.settings(target, targets_over_limit));
            match self.targets.get(&identity) {
                // Sending fails if the task has just ended.
                Some(handle) if !handle.orders.is_closed() => {
                    handle.orders.send_if_modified(|order| {
                        let changed = order.as_ref() != Some(&settings);
                        if changed {
                            *order = Some(settings);
                        }
                        changed
                    });
                }
                _ => self.start(identity, settings, workshop),
            }
        }
    }

    /// The targets that configuration and discovery ask for, each once.
    fn wanted(&self, workshop: &Workshop) -> BTreeMap<Identity, Target> {
        let discovered = self.discoveries.iter().flat_map(|discovery| &discovery.groups);
        let groups: Vec<&TargetGroup> =
            self.config.static_configs.iter().chain(discovered).collect();
        let job = self.config.job_name.as_str();
        let metrics = &workshop.shared.metrics;
        let listed: usize = groups.iter().map(|group| group.targets.len()).sum();
        let gauge = metrics.discovered_targets.with_label_values(&["scrape", job]);
        gauge.set(i64::try_from(listed).unwrap_or(i64::MAX));
        let mut wanted = BTreeMap::new();
        for group in groups {
            for address in &group.targets {
                match Target::new(address, group, &self.config) {
                    Ok(target) => {
                        wanted.entry(target.identity()).or_insert(target);
                    }
                    Err(e) => {
                        metrics.sync_failed.with_label_values(&[job]).inc();
                        let group = &group.source;
                        warn!(job, group, address, error = %e, "creating target failed");
                    }
                }
            }
        }
        wanted
    }

    fn settings(&self, target: Target, targets_over_limit: Option<usize>) -> TargetSettings {
        let config = &self.config;
        let phase = self.seed ^ target.labels.stable_hash() ^ crate::hash_text(&target.url);
        TargetSettings {
            rules: SampleRules {
                labels: target.labels.clone(),
                honor_labels: config.honor_labels,
                honor_timestamps: config.honor_timestamps,
                track_timestamps_staleness: config.track_timestamps_staleness,
                type_labels: self.type_labels,
                limits: config.limits,
            },
            target,
            fallback: config.fallback_scrape_protocol.is_some(),
            compression: config.enable_compression,
            extra_metrics: config.extra_scrape_metrics,
            phase,
            targets_over_limit,
        }
    }

    fn start(
        &mut self,
        identity: Identity,
        settings: Arc<TargetSettings>,
        workshop: &mut Workshop,
    ) {
        let job = self.config.job_name.clone();
        let gauges = workshop.shared.metrics.metadata_of(&job);
        let metadata = Metadata::new(Arc::clone(&workshop.interner), gauges);
        let status = Arc::new(TargetStatus::new(metadata));
        let local = workshop.locals.get(&settings.target.url);
        let local = local.map(|source| LocalCollector::new(Arc::clone(source)));
        let (orders, receiver) = watch::channel(Some(settings));
        let task = TargetTask::new(
            Arc::clone(&workshop.shared),
            Arc::clone(&status),
            receiver,
            workshop.shutdown.clone(),
            local,
        );
        let ended = identity.clone();
        workshop.tasks.spawn(async move {
            task.run().await;
            (job, ended)
        });
        self.targets.insert(identity, Handle { orders, status });
    }
}
