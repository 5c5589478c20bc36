//! The nodes that are known, and the loop that asks each in its slot.
//!
//! One task owns the order of what is due; each request is a task of its own, so that a node that hangs costs nobody else
//! anything. What is kept per node between two requests is its endpoint and its connection.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use model::Clock;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Credentials, DecodeError, Endpoint, Idle, KubeletError, ScrapeMetrics, Slots};
use crate::cluster::Objects;
use crate::store::Store;

/// The loop looks around at least this often, to show that it is alive.
const PULSE: Duration = Duration::from_secs(1);

/// How scraping is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrapeOptions {
    /// How often each node is asked.
    pub resolution: Duration,
    /// Requests at a time. One that hangs counts until its time is up.
    pub in_flight_max: usize,
    /// Connections that are kept between requests; further nodes get a new one each time.
    pub idle_max: usize,
}

impl Default for ScrapeOptions {
    fn default() -> Self {
        Self { resolution: Duration::from_secs(60), in_flight_max: 4096, idle_max: 8192 }
    }
}

#[derive(Debug)]
struct Target {
    name: Box<str>,
    state: Mutex<TargetState>,
    /// A request is under way.
    busy: AtomicBool,
    gone: AtomicBool,
}

#[derive(Debug)]
struct TargetState {
    endpoint: Result<Endpoint, Arc<KubeletError>>,
    /// A connection to `endpoint`.
    idle: Option<Idle>,
    /// The last request failed, which was logged then.
    failing: bool,
    /// A malformed answer was logged.
    complained: bool,
}

/// What is due when; the earliest first.
type Queue = BinaryHeap<Reverse<Due>>;

#[derive(Debug)]
struct Due {
    at: Instant,
    target: Arc<Target>,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

/// The requests of one resolution.
#[derive(Debug)]
struct Cycle {
    number: i64,
    started: Instant,
    last_answer: Instant,
}

/// Asks kubelets and stores what they say.
pub struct Scraper {
    options: ScrapeOptions,
    slots: Slots,
    credentials: Credentials,
    store: Arc<Store>,
    objects: Arc<Objects>,
    clock: Arc<dyn Clock>,
    metrics: ScrapeMetrics,
    targets: Mutex<HashMap<Box<str>, Arc<Target>>>,
    /// Targets that the loop has not seen.
    fresh: Mutex<Vec<Arc<Target>>>,
    wake: Notify,
    idle: std::sync::atomic::AtomicUsize,
    /// When the loop last looked around.
    pulse: Mutex<Option<Instant>>,
    cycle: Mutex<Option<Cycle>>,
}

impl std::fmt::Debug for Scraper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scraper").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Scraper {
    /// A scraper that knows no nodes yet.
    #[must_use]
    pub fn new(
        options: ScrapeOptions,
        credentials: Credentials,
        store: Arc<Store>,
        objects: Arc<Objects>,
        clock: Arc<dyn Clock>,
        metrics: ScrapeMetrics,
    ) -> Self {
        Self {
            options,
            slots: Slots::new(options.resolution),
            credentials,
            store,
            objects,
            clock,
            metrics,
            targets: Mutex::default(),
            fresh: Mutex::default(),
            wake: Notify::new(),
            idle: std::sync::atomic::AtomicUsize::new(0),
            pulse: Mutex::new(None),
            cycle: Mutex::new(None),
        }
    }

    /// A node is known, or where its kubelet is asked has changed. A node that has no endpoint is not asked, and its error is
    /// logged.
    pub fn upsert(&self, node: &str, endpoint: Result<Endpoint, KubeletError>) {
        let endpoint = endpoint.map_err(Arc::new);
        let mut targets = self.targets.lock();
        if let Some(target) = targets.get(node) {
            let mut state = target.state.lock();
            let is_same = match (&state.endpoint, &endpoint) {
                (Ok(old), Ok(new)) => old == new,
                (Err(old), Err(new)) => old.to_string() == new.to_string(),
                _ => false,
            };
            if !is_same {
                self.drop_idle(&mut state);
                (state.endpoint, state.failing) = (endpoint, false);
            }
            return;
        }
        let target = Arc::new(Target {
            name: Box::from(node),
            state: Mutex::new(TargetState {
                endpoint,
                idle: None,
                failing: false,
                complained: false,
            }),
            busy: AtomicBool::new(false),
            gone: AtomicBool::new(false),
        });
        targets.insert(Box::from(node), Arc::clone(&target));
        drop(targets);
        self.fresh.lock().push(target);
        self.wake.notify_one();
    }

    /// A node is no more, nor are its points.
    pub fn remove(&self, node: &str) {
        let Some(target) = self.targets.lock().remove(node) else { return };
        target.gone.store(true, Ordering::SeqCst);
        // Nobody takes them where values come by queries.
        self.fresh.lock().retain(|fresh| !Arc::ptr_eq(fresh, &target));
        self.drop_idle(&mut target.state.lock());
        self.metrics.forget(node);
        self.store.forget_node(node);
    }

    /// How many nodes are known.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.targets.lock().len()
    }

    /// Whether the loop has looked around within one and a half resolutions, or has not started.
    #[must_use]
    pub fn is_timely(&self) -> bool {
        let pulse = *self.pulse.lock();
        pulse.is_none_or(|pulse| pulse.elapsed() <= self.options.resolution * 3 / 2)
    }

    /// Asks until `shutdown`.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let mut queue = Queue::new();
        let mut requests = JoinSet::new();
        loop {
            *self.pulse.lock() = Some(Instant::now());
            self.take_fresh(&mut queue);
            self.start_due(&mut queue, &mut requests);
            let pulse = Instant::now() + PULSE;
            let next = queue.peek().map_or(pulse, |Reverse(due)| due.at.min(pulse));
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.wake.notified() => {}
                () = tokio::time::sleep_until(next) => {}
                Some(ended) = requests.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a request to a kubelet ended badly");
                    }
                }
            }
        }
    }

    fn take_fresh(&self, queue: &mut Queue) {
        let fresh = std::mem::take(&mut *self.fresh.lock());
        let (nodes, now) = (self.nodes(), Instant::now());
        queue.extend(fresh.into_iter().map(|target| {
            Reverse(Due { at: now + self.slots.first_wait(&target.name, nodes), target })
        }));
    }

    fn start_due(self: &Arc<Self>, queue: &mut Queue, requests: &mut JoinSet<()>) {
        let (now, now_ms) = (Instant::now(), self.clock.now());
        while let Some(mut due) = queue.peek_mut().filter(|due| due.0.at <= now) {
            if due.0.target.gone.load(Ordering::SeqCst) {
                std::collections::binary_heap::PeekMut::pop(due);
                continue;
            }
            due.0.at = now + self.slots.wait(&due.0.target.name, now_ms);
            let target = Arc::clone(&due.0.target);
            drop(due);
            if requests.len() >= self.options.in_flight_max
                || target.busy.swap(true, Ordering::SeqCst)
            {
                self.metrics.skip();
                continue;
            }
            self.begin_request(now_ms, now);
            let scraper = Arc::clone(self);
            requests.spawn(async move {
                scraper.scrape(&target).await;
                target.busy.store(false, Ordering::SeqCst);
            });
        }
    }

    async fn scrape(&self, target: &Target) {
        let (endpoint, idle) = {
            let mut state = target.state.lock();
            (state.endpoint.clone(), self.take_idle(&mut state))
        };
        let endpoint = match endpoint {
            Ok(endpoint) => endpoint,
            Err(error) => {
                self.metrics.not_sent();
                return self.failed(target, &error);
            }
        };
        let ask = self.credentials.ask().await;
        let (started, request_ms) = (Instant::now(), self.clock.now());
        let outcome = ask.send(&endpoint, idle, request_ms).await;
        let now_ms = self.clock.now();
        if target.gone.load(Ordering::SeqCst) {
            return;
        }
        self.metrics.request(&target.name, started.elapsed(), now_ms, outcome.is_ok());
        match outcome {
            Ok(answer) => {
                let pods = answer.batch.pods.iter().map(|pod| (&*pod.namespace, &*pod.name));
                self.objects.place_pods(&target.name, pods, |node, namespace, name| {
                    let state = self.store.node(node, now_ms);
                    state.is_some_and(|state| state.pod(namespace, name).is_some())
                });
                self.store.record(&target.name, answer.batch, now_ms);
                self.metrics.report(&answer.report);
                self.succeeded(target, &answer.report);
                self.keep_idle(target, &endpoint, answer.idle);
            }
            Err(error) => {
                if let KubeletError::Decode(DecodeError::Unreadable { malformed_lines, .. }) =
                    &error
                {
                    self.metrics.unreadable(*malformed_lines);
                }
                self.failed(target, &error);
            }
        }
        self.end_request();
        // The node may have gone while it was recorded.
        if target.gone.load(Ordering::SeqCst) {
            self.drop_idle(&mut target.state.lock());
            self.metrics.forget(&target.name);
            self.store.forget_node(&target.name);
        }
    }

    fn take_idle(&self, state: &mut TargetState) -> Option<Idle> {
        let idle = state.idle.take();
        if idle.is_some() {
            self.idle.fetch_sub(1, Ordering::SeqCst);
        }
        idle
    }

    fn drop_idle(&self, state: &mut TargetState) {
        drop(self.take_idle(state));
    }

    fn keep_idle(&self, target: &Target, endpoint: &Endpoint, idle: Option<Idle>) {
        let mut state = target.state.lock();
        // The node may have moved meanwhile.
        let same = state.endpoint.as_ref().is_ok_and(|now| now == endpoint);
        if idle.is_some() && same && self.idle.load(Ordering::SeqCst) < self.options.idle_max {
            self.idle.fetch_add(1, Ordering::SeqCst);
            state.idle = idle;
        }
    }

    /// Logs the first failure and then keeps quiet, so that a node that is down for a day is one line.
    fn failed(&self, target: &Target, error: &KubeletError) {
        if std::mem::replace(&mut target.state.lock().failing, true) {
            tracing::debug!(node = &*target.name, %error, "failed to scrape node again");
        } else {
            tracing::warn!(node = &*target.name, %error, "failed to scrape node");
        }
    }

    fn succeeded(&self, target: &Target, report: &super::Report) {
        let mut state = target.state.lock();
        if std::mem::take(&mut state.failing) {
            tracing::info!(node = &*target.name, "scraping node works again");
        }
        let bad = report.malformed_lines > 0 || report.incomplete_node;
        if bad && !std::mem::replace(&mut state.complained, bad) {
            tracing::warn!(
                node = &*target.name,
                malformed_lines = report.malformed_lines,
                first = report.first_malformed.as_deref().unwrap_or_default(),
                node_incomplete = report.incomplete_node,
                "answer of node is incomplete"
            );
        } else if !bad {
            state.complained = false;
        }
    }

    fn begin_request(&self, now_ms: i64, now: Instant) {
        let resolution_ms = i64::try_from(self.options.resolution.as_millis()).unwrap_or(i64::MAX);
        let number = now_ms.div_euclid(resolution_ms.max(1));
        let mut cycle = self.cycle.lock();
        if cycle.as_ref().is_some_and(|cycle| cycle.number == number) {
            return;
        }
        if let Some(ended) = cycle.replace(Cycle { number, started: now, last_answer: now }) {
            self.metrics.tick(ended.last_answer - ended.started);
        }
    }

    fn end_request(&self) {
        if let Some(cycle) = &mut *self.cycle.lock() {
            cycle.last_answer = Instant::now();
        }
    }
}
