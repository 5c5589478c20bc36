//! One target's life: wait for the schedule, scrape, store; and after its removal, leave markers behind.
//!
//! Each target has a task of its own, so a slow one delays nobody. Reading and storing are bounded instead: they
//! run on blocking threads, as many at a time as there are cores.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use config::Limits;
use http::Client;
use model::{Appender, Clock, Timestamp};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::ScrapeError;
use crate::fetch::{FetchRequest, LocalCollector, over_http};
use crate::intake::{Intake, Scrape, Sink};
use crate::metrics::Metrics;
use crate::pass::Scratch;
use crate::schedule::Schedule;
use crate::series_labels::SampleRules;
use crate::status::TargetStatus;
use crate::target::Target;

/// What all targets share.
pub(crate) struct Shared {
    pub(crate) appender: Arc<dyn Appender>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) client: Client,
    pub(crate) user_agent: String,
    pub(crate) metrics: Metrics,
    /// Bounds how many scrapes are read and stored at a time.
    pub(crate) storing: Semaphore,
    /// Buffers of scrapes that are not being stored; at most as many as may be.
    pub(crate) scratches: Mutex<Vec<Scratch>>,
}

/// How to scrape a target, as of the last reload.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TargetSettings {
    pub(crate) target: Target,
    pub(crate) rules: SampleRules,
    /// Whether a body of no or an unknown type is read as text.
    pub(crate) fallback: bool,
    pub(crate) compression: bool,
    pub(crate) extra_metrics: bool,
    /// A hash that decides when in the interval the target is scraped.
    pub(crate) phase: u64,
    /// Targets of the pool, where there are more than may be: then none is scraped.
    pub(crate) targets_over_limit: Option<usize>,
}

impl TargetSettings {
    fn limits(&self) -> &Limits {
        &self.rules.limits
    }
}

/// What a pool has to say to a task: how to scrape, or `None` when the target is gone.
pub(crate) type Order = Option<Arc<TargetSettings>>;

/// A target's task.
pub(crate) struct TargetTask {
    shared: Arc<Shared>,
    status: Arc<TargetStatus>,
    orders: watch::Receiver<Order>,
    shutdown: CancellationToken,
    local: Option<LocalCollector>,
    /// Away while a blocking thread has it.
    intake: Option<Box<Intake>>,
    schedule: Option<Schedule>,
    scraped: bool,
}

/// Whether the task goes on with the next order.
type Next = ControlFlow<()>;

impl TargetTask {
    pub(crate) fn new(
        shared: Arc<Shared>,
        status: Arc<TargetStatus>,
        orders: watch::Receiver<Order>,
        shutdown: CancellationToken,
        local: Option<LocalCollector>,
    ) -> Self {
        let (intake, schedule) = (None, None);
        Self { shared, status, orders, shutdown, local, intake, schedule, scraped: false }
    }

    /// Runs until the target is removed for good or everything shuts down.
    ///
    /// A scrape that has been read is stored even when shutting down; one that waits for its target is
    /// dropped without a trace, because after a restart it goes on.
    pub(crate) async fn run(mut self) {
        loop {
            let order = self.orders.borrow_and_update().clone();
            let next = match order {
                Some(settings) => self.scrape_on_schedule(&settings).await,
                None => self.leave().await,
            };
            if next.is_break() {
                return;
            }
        }
    }

    async fn scrape_on_schedule(&mut self, settings: &Arc<TargetSettings>) -> Next {
        let interval = settings.target.interval;
        let mut schedule = match self.schedule.take() {
            Some(schedule) if schedule.interval() == interval => schedule,
            _ => Schedule::new(interval, settings.phase, self.shared.clock.now()),
        };
        loop {
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return Next::Break(()),
                () = changed(&mut self.orders) => {
                    self.schedule = Some(schedule);
                    return Next::Continue(());
                }
                () = sleep_until(schedule.next()) => {}
            }
            let t = schedule.begin(self.shared.clock.now());
            let started = Instant::now();
            let shutdown = self.shutdown.clone();
            let answer = tokio::select! {
                biased;
                () = shutdown.cancelled() => return Next::Break(()),
                answer = self.fetch(settings) => answer,
            };
            self.store(settings, t, started, answer).await;
            self.scraped = true;
        }
    }

    async fn fetch(&mut self, settings: &TargetSettings) -> Result<Vec<u8>, ScrapeError> {
        if let Some(targets) = settings.targets_over_limit {
            let limit = settings.limits().targets_max;
            return Err(ScrapeError::TargetLimit { targets, limit });
        }
        let request = FetchRequest {
            url: &settings.target.url,
            timeout: settings.target.timeout,
            user_agent: &self.shared.user_agent,
            compression: settings.compression,
            body_bytes_max: settings.limits().body_bytes_max,
            fallback: settings.fallback,
        };
        match &mut self.local {
            Some(local) => local.collect(request).await,
            None => over_http(&self.shared.client, request).await,
        }
    }

    async fn store(
        &mut self,
        settings: &Arc<TargetSettings>,
        t: Timestamp,
        started: Instant,
        answer: Result<Vec<u8>, ScrapeError>,
    ) {
        let (settings, status) = (Arc::clone(settings), Arc::clone(&self.status));
        let (body, failure) = match answer {
            Ok(body) => (body, None),
            Err(e) => (Vec::new(), Some(e)),
        };
        self.with_intake(move |intake, sink, scratch| {
            let scrape = Scrape {
                url: &settings.target.url,
                t,
                started,
                body: &body,
                failure,
                rules: &settings.rules,
                extra_timeout: settings.extra_metrics.then_some(settings.target.timeout),
            };
            intake.store(scrape, &status, sink, scratch);
        })
        .await;
    }

    /// Runs `work` on a blocking thread, when there is one for it.
    async fn with_intake(
        &mut self,
        work: impl FnOnce(&mut Intake, Sink<'_>, &mut Scratch) + Send + 'static,
    ) {
        let shared = Arc::clone(&self.shared);
        let permit = shared.storing.acquire().await;
        let mut intake = self.intake.take().unwrap_or_default();
        let worker = Arc::clone(&shared);
        let stored = tokio::task::spawn_blocking(move || {
            let mut scratch = worker.scratches.lock().pop().unwrap_or_default();
            let sink = Sink { appender: &*worker.appender, metrics: &worker.metrics };
            work(&mut intake, sink, &mut scratch);
            worker.scratches.lock().push(scratch);
            intake
        });
        match stored.await {
            Ok(intake) => self.intake = Some(intake),
            // The cache is gone with the thread; the next scrape starts without one.
            Err(e) => error!(error = %e, "storing a scrape failed"),
        }
        drop(permit);
    }

    /// Marks the target's series as stale once it is clear that it does not come back: at the time of the scrape
    /// that is now missing, written when the one after that is missing too, as Prometheus does.
    async fn leave(&mut self) -> Next {
        let Some(mut schedule) = self.schedule.take().filter(|_| self.scraped) else {
            return Next::Break(());
        };
        let mut stale_at = None;
        for _ in 0..2 {
            let next = schedule.next();
            if let Some(next) = self.interrupted(sleep_until(next)).await {
                self.schedule = Some(schedule);
                return next;
            }
            let t = schedule.begin(self.shared.clock.now());
            stale_at.get_or_insert(t);
        }
        let grace = sleep(schedule.interval() / 10);
        if let Some(next) = self.interrupted(grace).await {
            self.schedule = Some(schedule);
            return next;
        }
        if let Some(t) = stale_at {
            self.with_intake(move |intake, sink, scratch| intake.store_end(t, sink, scratch)).await;
        }
        self.scraped = false;
        // Wanted again in the meantime?
        if self.orders.has_changed().unwrap_or(false) {
            Next::Continue(())
        } else {
            Next::Break(())
        }
    }

    /// Waits for `time` to pass; what to do instead if something happens before.
    async fn interrupted(&mut self, time: impl Future<Output = ()>) -> Option<Next> {
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => Some(Next::Break(())),
            () = changed(&mut self.orders) => Some(Next::Continue(())),
            () = time => None,
        }
    }
}

/// Waits for a new order. A pool that is gone gives none.
async fn changed(orders: &mut watch::Receiver<Order>) {
    if orders.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
