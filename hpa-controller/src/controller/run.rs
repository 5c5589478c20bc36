//! The wiring: watches into what is known, the queue to evaluations, all of it under one leadership.
//!
//! A process that waits for leadership watches already, so that it can act at once when it gets it. It reads what earlier leaders
//! remembered before it decides anything. When leadership is lost it ends, as upstream's does: what it knows may be behind what
//! the next leader wrote.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HttpError;
use kube::runtime::watcher::watcher;
use kube::{Api, Client};
use telemetry::{IntCounterVec, IntGauge, Opts, Registry, register};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::api_metrics::ApiMetrics;
use super::api_server::ApiServer;
use super::config::{Config, ConfigError, React};
use super::evaluate::Evaluator;
use super::mapping::Mappings;
use super::queue::Queue;
use super::reconcile::Controller;
use super::scale::{Scales, field_manager};
use super::status_turns::StatusTurns;
use super::watch::{
    AllTargets, Change, HPAS, HpaFeed, HpaObject, Hpas, PODS, PodFeed, PodObject, Pods, TargetFeed,
    Targets, WORKLOADS, Workload, follow, watch_options,
};
use super::{events, fresh};
use crate::api::{ApiListener, ApiState};
use crate::forecast::Forecaster;
use crate::leader::{Election, ElectionError, Leadership};
use crate::metrics::ControllerMetrics;
use crate::state::{
    ConfigMapOptions, DecisionLog, HpaKey, Mode, StateError, StateOptions, StateStore,
};
use crate::steer::Recommendations;

/// Least time between two evaluations of an autoscaler where samples ask for them.
const FRESH_GAP: Duration = Duration::from_secs(1);
/// Time for a write at most.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often it is looked whether the first lists are complete.
const SYNC_POLL: Duration = Duration::from_millis(100);
/// How long the scales of targets are waited for before they are asked for one by one.
const TARGETS_PATIENCE: Duration = Duration::from_secs(30);
/// Pause before the state of earlier leaders is read again.
const STATE_RETRY: Duration = Duration::from_secs(2);
/// How long that is tried. Deciding without it is what upstream always does.
const STATE_PATIENCE: Duration = Duration::from_secs(30);
/// Time for evaluations under way to end.
const DRAIN: Duration = Duration::from_secs(10);
/// Time for the state to be written and the Lease to be given back.
const RELEASE: Duration = Duration::from_secs(10);

/// Why it does not run, or no longer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The configuration contradicts itself.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no client for the API server.
    #[error("API server: {0}")]
    Client(#[source] Box<kube::Error>),
    /// The HTTP API cannot be served.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The log of decisions cannot be kept.
    #[error(transparent)]
    Log(#[from] StateError),
    /// Leadership was lost: another process acts now.
    #[error(transparent)]
    Leadership(#[from] ElectionError),
}

/// Runs until `shutdown`, then ends what is under way, writes down what it remembers and gives the Lease back. `on_ready` is called
/// with the address of the HTTP API once it is served.
///
/// # Errors
/// [`RunError`]
pub async fn run(
    config: Config,
    on_ready: impl FnOnce(SocketAddr) + Send,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    config.check()?;
    // The client library takes the process's provider and panics where features leave a choice. If another was chosen before,
    // that one is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = client(&config.api_server)?;
    let listener = ApiListener::bind(&config.listen, config.listen_probes.as_deref()).await?;
    let log = Arc::new(DecisionLog::new(config.log.clone(), &config.registry)?);
    let election = match &config.election {
        Some(options) => {
            let election = Election::new(client.clone(), options.clone())?;
            Some(election.with_metrics(&config.registry))
        }
        None => None,
    };
    let leadership =
        election.as_ref().map_or_else(Leadership::always, |election| election.leadership());

    let stopped = CancellationToken::new();
    let stop = stopped.clone().drop_guard();
    let mut tasks = JoinSet::new();
    let (controller, writer) = controller(&config, &client, &leadership, Arc::clone(&log));
    let controller = Arc::new(controller);
    let watched = Watched::start(&config, &client, &controller, &mut tasks);

    tasks.spawn({
        let (watched, controller) = (watched.clone(), Arc::clone(&controller));
        async move {
            watched.listed(&controller).await;
            controller.forget_deleted();
        }
    });
    if config.election.is_some() {
        tasks.spawn(learn_counts(Arc::clone(&controller), leadership.clone()));
    }
    let ready = {
        let (watched, controller) = (watched.clone(), Arc::clone(&controller));
        Arc::new(move || watched.ready(&controller)) as Arc<dyn Fn() -> _ + Send + Sync>
    };
    let api = ApiState {
        log,
        registry: config.registry.clone(),
        leadership: leadership.clone(),
        identity: identity(&config).into(),
        mode: config.mode,
        steering: Arc::clone(&controller.steering),
        clock: Arc::clone(&config.clock),
        ready,
    };
    let address = listener.local_address();
    tasks.spawn({
        let stopped = stopped.clone();
        async move {
            if let Err(error) = listener.serve(api, stopped).await {
                tracing::error!(%error, "the HTTP API has ended");
            }
        }
    });
    tasks.spawn(writer.run(stopped.clone()));
    if let Ok(address) = address {
        tracing::info!(%address, mode = %config.mode, "serving");
        on_ready(address);
    }

    let finish = CancellationToken::new();
    let saved = CancellationToken::new();
    let state = Arc::clone(&controller.state);
    let mut saving = tokio::spawn(state.run(leadership.clone(), saved.clone()));
    let mut elected = election.map(|election| tokio::spawn(election.run(finish.clone())));
    let lost = async {
        leadership.acquired().await;
        leadership.lost().await;
    };
    let mut end = None;
    tokio::select! {
        () = lost => {}
        // It can end before it was ever won: after a stall, or by a fault.
        result = ended(&mut elected) => end = Some(result),
        () = lead(&config, &controller, &watched, &leadership, &shutdown) => {}
    }
    // What is remembered is written while the Lease is still held, and the Lease given back when nothing writes any more.
    saved.cancel();
    if tokio::time::timeout(RELEASE, &mut saving).await.is_err() {
        tracing::warn!("the state of autoscalers could not be written in time");
        saving.abort();
        let _ = saving.await;
    }
    finish.cancel();
    let end = match end {
        Some(end) => end,
        None if elected.is_none() => Ok(()),
        None => tokio::time::timeout(RELEASE, ended(&mut elected)).await.unwrap_or(Ok(())),
    };
    drop(stop);
    tasks.shutdown().await;
    Ok(end?)
}

/// How the election ended; never if there is none.
async fn ended(
    elected: &mut Option<JoinHandle<Result<(), ElectionError>>>,
) -> Result<(), ElectionError> {
    match elected {
        Some(elected) => {
            elected.await.unwrap_or_else(|error| Err(ElectionError::Ended(error.to_string())))
        }
        None => std::future::pending().await,
    }
}

fn client(config: &kube::Config) -> Result<Client, RunError> {
    // Tries are counted where it is known whether they are allowed.
    let mut config = config.clone();
    config.default_retry = false;
    Client::try_from(config).map_err(|error| RunError::Client(Box::new(error)))
}

fn identity(config: &Config) -> String {
    config.election.as_ref().map(|election| election.identity.clone()).unwrap_or_default()
}

/// The controller, and the task that writes its events.
fn controller(
    config: &Config,
    client: &Client,
    leadership: &Leadership,
    log: Arc<DecisionLog>,
) -> (Controller, events::EventWriter) {
    let api = ApiServer::new(client.clone(), config.qps, config.burst);
    // A write that began just before the end of a leadership has ended before the next one can begin.
    let between = config.election.as_ref().map_or(WRITE_TIMEOUT, |election| {
        election.lease_duration.saturating_sub(election.renew_deadline)
    });
    let write_timeout = between.min(WRITE_TIMEOUT);
    let (recorder, writer) = events::recorder(
        api.clone(),
        leadership.clone(),
        identity(config),
        write_timeout,
        Arc::clone(&config.clock),
        &config.registry,
    );
    let stabilization_ms = config.constants.downscale_stabilization_ms;
    let stabilization = Duration::from_millis(stabilization_ms.max(0).unsigned_abs());
    let state =
        StateOptions {
            config_maps: config.state.config_maps.clone().map(|(namespace, prefix)| {
                ConfigMapOptions { client: client.clone(), namespace, prefix, write_timeout }
            }),
            directory: config.state.directory.clone(),
            ..StateOptions::new(config.sync_period, stabilization)
        };
    let field_manager = field_manager(config.election.as_ref());
    let mappings = Arc::new(Mappings::new(api.clone()));
    let targets = Arc::new(AllTargets::default());
    let evaluator = Evaluator {
        scales: Scales::new(
            api.clone(),
            Arc::clone(&mappings),
            targets,
            Arc::clone(&field_manager),
        ),
        pods: Arc::new(Pods::default()),
        source: Arc::new(ApiMetrics::with_mappings(api.clone(), mappings)),
        clock: Arc::clone(&config.clock),
        forecaster: config.history.as_ref().map(|history| {
            Arc::new(Forecaster::new(Arc::clone(history), Arc::clone(&config.clock)))
        }),
    };
    let controller = Controller {
        api,
        constants: config.constants.clone(),
        period: config.sync_period,
        react: config.react,
        mode: config.mode,
        field_manager,
        write_timeout,
        hpas: Arc::new(Hpas::default()),
        evaluator,
        queue: Arc::new(Queue::new(config.sync_period, FRESH_GAP)),
        leadership: leadership.clone(),
        state: Arc::new(StateStore::new(state, Arc::clone(&config.clock))),
        log,
        steering: Arc::new(Recommendations::new(config.sync_period)),
        status_turns: StatusTurns::new(config.status_writes, config.sync_period),
        metrics: ControllerMetrics::new(&config.registry),
        recorder,
        held: parking_lot::Mutex::default(),
        restored: parking_lot::Mutex::default(),
    };
    (controller, writer)
}

/// The namespaces that are watched: `None` stands for all.
fn scopes(config: &Config) -> Vec<Option<Box<str>>> {
    if config.namespaces.is_empty() {
        return vec![None];
    }
    config.namespaces.iter().map(|name| Some(Box::from(name.as_str()))).collect()
}

fn objects<K>(client: &Client, scope: Option<&str>, kind: super::watch::Kind) -> Api<K>
where
    K: kube::Resource<DynamicType = super::watch::Kind, Scope = kube::core::DynamicResourceScope>,
{
    match scope {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &kind),
        None => Api::all_with(client.clone(), &kind),
    }
}

/// The watches of this process.
#[derive(Clone, Debug)]
struct Watched {
    scopes: usize,
    leading: IntGauge,
}

impl Watched {
    fn start(
        config: &Config,
        client: &Client,
        controller: &Arc<Controller>,
        tasks: &mut JoinSet<()>,
    ) -> Self {
        let errors = errors(&config.registry);
        let count = |resource: &str| errors.with_label_values(&[resource]);
        let scopes = scopes(config);
        let options = watch_options(scopes.len());
        for scope in &scopes {
            let only = scope.as_deref();
            let feed = HpaFeed::new(Arc::clone(&controller.hpas), only, {
                let controller = Arc::clone(controller);
                move |key: &HpaKey, change| changed(&controller, key, change)
            });
            let list = objects::<HpaObject>(client, only, HPAS);
            let events = watcher(list, options.clone());
            tasks.spawn(follow(
                "horizontalpodautoscalers",
                events,
                feed,
                count("horizontalpodautoscalers"),
            ));
            let feed = PodFeed::new(Arc::clone(&controller.evaluator.pods), only);
            let list = objects::<PodObject>(client, only, PODS);
            let events = watcher(list, options.clone());
            tasks.spawn(follow("pods", events, feed, count("pods")));
            for (at, kind) in WORKLOADS.into_iter().enumerate() {
                let targets = Arc::clone(controller.evaluator.scales.targets());
                let feed = TargetFeed::new(Arc::clone(&targets), at, only);
                let list = objects::<Workload>(client, only, kind);
                let (errors, options) = (count(kind.plural), options.clone());
                tasks.spawn(async move {
                    targets.at(at).wanted().await;
                    let events = watcher(list, options);
                    follow(kind.plural, events, feed, errors).await;
                });
            }
            // In shadow mode nothing could be done about a fresh sample.
            if config.react == React::FreshSamples && config.mode == Mode::Active {
                let api = controller.api.clone();
                let pods = Arc::clone(&controller.evaluator.pods);
                let queue = Arc::clone(&controller.queue);
                tasks.spawn(fresh::run(
                    api,
                    scope.clone(),
                    options.clone(),
                    pods,
                    queue,
                    count("pods.metrics.k8s.io"),
                ));
            }
        }
        let leading = register(
            &config.registry,
            IntGauge::new("sextant_hpa_evaluating", "Whether this process evaluates autoscalers."),
        );
        Self { scopes: scopes.len(), leading }
    }

    /// Whether all that has to be known is.
    fn ready(&self, controller: &Controller) -> Result<(), String> {
        if controller.hpas.synced() < self.scopes {
            return Err(String::from("autoscalers are being listed"));
        }
        if controller.evaluator.pods.synced() < self.scopes {
            return Err(String::from("pods are being listed"));
        }
        Ok(())
    }

    /// Waits for the first lists of autoscalers and pods.
    async fn listed(&self, controller: &Controller) {
        while self.ready(controller).is_err() {
            tokio::time::sleep(SYNC_POLL).await;
        }
    }

    /// Waits for all first lists.
    async fn synced(&self, controller: &Controller) {
        self.listed(controller).await;
        // From now on it is known which kinds are targeted.
        let targets = controller.evaluator.scales.targets();
        let mut wanted = Vec::new();
        for key in controller.hpas.keys() {
            let Some(hpa) = controller.hpas.get(&key) else { continue };
            let target = &hpa.spec.scale_target_ref;
            let group = target.api_version.as_deref().and_then(|version| version.split_once('/'));
            if let Some((group, _)) = group
                && let Some(of) = targets.of(group, &target.kind)
                && !wanted.iter().any(|known: &&Targets| std::ptr::eq(*known, of))
            {
                of.want();
                wanted.push(of);
            }
        }
        let all = async {
            while wanted.iter().any(|of| of.synced() < self.scopes) {
                tokio::time::sleep(SYNC_POLL).await;
            }
        };
        if tokio::time::timeout(TARGETS_PATIENCE, all).await.is_err() {
            tracing::warn!("targets cannot be watched: their scales are asked for one by one");
        }
    }
}

fn errors(registry: &Registry) -> IntCounterVec {
    register(
        registry,
        IntCounterVec::new(
            Opts::new(
                "sextant_hpa_watch_errors_total",
                "Lists and watches of the API server that failed or broke.",
            ),
            &["resource"],
        ),
    )
}

/// What becomes of an autoscaler in the queue. Spec edits wait for their turn, as upstream's do; a new autoscaler has its first at
/// once.
fn changed(controller: &Controller, key: &HpaKey, change: Change) {
    if change == Change::Gone {
        controller.queue.remove(key);
        controller.forget(key);
        return;
    }
    register_selector(controller, key);
    if change == Change::New && controller.queue.is_open() {
        controller.queue.add(key);
    }
}

/// Notes which pods an autoscaler selects before its first turn: two that select the same pods must not take turns unaware of each
/// other, not even once.
fn register_selector(controller: &Controller, key: &HpaKey) {
    let Some(hpa) = controller.hpas.get(key) else { return };
    let target = &hpa.spec.scale_target_ref;
    if let Some(selector) = controller.evaluator.scales.selector(&key.namespace, target)
        && let Err(complaint) =
            controller.evaluator.pods.register(&key.namespace, &key.name, &selector)
    {
        tracing::debug!(hpa = %key, complaint, "a selector cannot be read");
    }
}

/// Waits for leadership, takes up what earlier leaders left, and evaluates until `shutdown`.
async fn lead(
    config: &Config,
    controller: &Arc<Controller>,
    watched: &Watched,
    leadership: &Leadership,
    shutdown: &CancellationToken,
) {
    let prepared = async {
        leadership.acquired().await;
        if !leadership.may_write() {
            return;
        }
        watched.synced(controller).await;
        restore(controller).await;
    };
    if shutdown.run_until_cancelled(prepared).await.is_none() || !leadership.may_write() {
        return;
    }
    controller.queue.open();
    for key in controller.hpas.keys() {
        register_selector(controller, &key);
        controller.queue.add_spread(&key);
    }
    controller.metrics.known(controller.hpas.len());
    watched.leading.set(1);
    tracing::info!(
        autoscalers = controller.hpas.len(), period = ?config.sync_period, mode = %config.mode,
        "evaluating"
    );
    evaluate_all(controller, config.concurrent_syncs, shutdown).await;
    watched.leading.set(0);
}

/// Publishes the counts of steered autoscalers as the process that leads wrote them down, until this one leads.
async fn learn_counts(controller: Arc<Controller>, leadership: Leadership) {
    let mut failing = false;
    loop {
        tokio::select! {
            () = leadership.acquired() => return,
            () = tokio::time::sleep(controller.steering.learn_every()) => {}
        }
        if !controller.hpas.any_steered() {
            continue;
        }
        match controller.state.counts().await {
            Ok(counts) => {
                failing = false;
                controller.steering.learn(counts, controller.evaluator.clock.now());
            }
            Err(error) if !std::mem::replace(&mut failing, true) => {
                tracing::warn!(%error, "the counts of steered autoscalers cannot be read");
            }
            Err(_) => {}
        }
    }
}

async fn restore(controller: &Controller) {
    let load = async {
        loop {
            match controller.state.load().await {
                Ok(restored) => return restored,
                Err(error) => {
                    tracing::warn!(%error, "what earlier leaders left cannot be read yet");
                    tokio::time::sleep(STATE_RETRY).await;
                }
            }
        }
    };
    match tokio::time::timeout(STATE_PATIENCE, load).await {
        Ok(restored) => *controller.restored.lock() = restored.into_iter().collect(),
        Err(_) => tracing::error!("what earlier leaders left cannot be read: beginning without it"),
    }
}

/// Says that an evaluation has ended, however it did.
struct Turn {
    controller: Arc<Controller>,
    key: HpaKey,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.controller.queue.done(&self.key);
    }
}

/// Evaluates what is due, `concurrent` at a time. On `shutdown` those under way may end.
async fn evaluate_all(
    controller: &Arc<Controller>,
    concurrent: usize,
    shutdown: &CancellationToken,
) {
    let permits = Arc::new(Semaphore::new(concurrent));
    let mut turns = JoinSet::new();
    loop {
        while turns.try_join_next().is_some() {}
        let next = async {
            let permit = Arc::clone(&permits).acquire_owned().await.ok()?;
            let (key, trigger) = controller.queue.next().await;
            Some((permit, key, trigger))
        };
        let Some(Some((permit, key, trigger))) = shutdown.run_until_cancelled(next).await else {
            break;
        };
        let controller = Arc::clone(controller);
        turns.spawn(async move {
            let turn = Turn { controller, key };
            turn.controller.reconcile(&turn.key, trigger).await;
            drop(permit);
        });
    }
    let drained = async { while turns.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        tracing::warn!("evaluations under way are given up");
    }
}
