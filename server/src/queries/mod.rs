//! Runs queries: a bounded number at a time, within time and memory, stopped when nobody waits.
//!
//! A query may not keep a thread of the runtime for long, so it runs on a blocking thread. To get there and back wakes three threads, though,
//! which takes longer than most queries do. So one that is not known to be long is first tried [where it arrived](Queries::run_where_it_is)
//! for a moment, and begun anew on a blocking thread if that was not enough.

mod long;

use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{Budget, Cancellation, QueryContext};
use telemetry::{IntCounterVec, IntGauge, Opts, Registry, register};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout_at;

use self::long::LongQueries;
use crate::api::error::{ApiError, ErrorType, Failure};

/// How long a query may keep a thread of the runtime. Everything else that this thread would do waits as long.
const MOMENT: Duration = Duration::from_millis(2);

/// The place where queries run.
#[derive(Debug)]
pub(crate) struct Queries {
    slots: Arc<Semaphore>,
    timeout: Duration,
    /// Of all queries together.
    bytes: Budget,
    /// Of one; [`u64::MAX`] where that of all is the one that binds.
    query_bytes_max: u64,
    bytes_held: IntGauge,
    /// By the flag that says how many are allowed.
    over_budget: IntCounterVec,
    /// Not to be tried where they arrive.
    long: LongQueries,
}

/// The flags that bound bytes.
const QUERY_FLAG: &str = "query.max-bytes";
const TOTAL_FLAG: &str = "query.max-total-bytes";

/// What bounds queries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueryBounds {
    /// Queries that run at a time; at least 1.
    pub(crate) concurrency_max: usize,
    /// Longest time of a query, waiting included.
    pub(crate) timeout: Duration,
    /// Bytes that one may hold; 0 for no bound of its own.
    pub(crate) bytes_max: u64,
    /// Bytes that all together may hold; 0 for no bound.
    pub(crate) total_bytes_max: u64,
}

/// A query's turn to run.
#[derive(Debug)]
pub(crate) struct Turn {
    /// What it may use.
    pub(crate) context: QueryContext,
    /// How long it waited for a free slot.
    pub(crate) queued: Duration,
}

impl Queries {
    /// A place for as many queries as `bounds` say; its metrics are kept in `registry`.
    pub(crate) fn new(bounds: QueryBounds, registry: &Registry) -> Self {
        let QueryBounds { concurrency_max, timeout, bytes_max, total_bytes_max } = bounds;
        let slots = Arc::new(Semaphore::new(concurrency_max.clamp(1, Semaphore::MAX_PERMITS)));
        let bound = |max: u64| if max == 0 { u64::MAX } else { max };
        let (one, all) = (bound(bytes_max), bound(total_bytes_max));
        let query_bytes_max = if one < all { one } else { u64::MAX };
        let bytes_held = register(
            registry,
            IntGauge::new("sextant_queries_bytes", "Bytes that queries hold now."),
        );
        let over_budget = register(
            registry,
            IntCounterVec::new(
                Opts::new(
                    "sextant_queries_over_budget_total",
                    "Queries that failed because they or all together needed more bytes than the flag allows.",
                ),
                &["flag"],
            ),
        );
        for flag in [QUERY_FLAG, TOTAL_FLAG] {
            over_budget.with_label_values(&[flag]);
        }
        Self {
            slots,
            timeout,
            bytes: Budget::new(all),
            query_bytes_max,
            bytes_held,
            over_budget,
            long: LongQueries::default(),
        }
    }

    /// Brings the gauges up to date.
    pub(crate) fn observe(&self) {
        self.bytes_held.set(i64::try_from(self.bytes.bytes_used()).unwrap_or(i64::MAX));
    }

    /// Runs `query` on a blocking thread when there is a free slot. `timeout` may shorten the configured one.
    ///
    /// If the returned future is dropped, because the client has gone, the query is told to stop.
    pub(crate) async fn run<T, E, F>(
        &self,
        timeout: Option<Duration>,
        query: F,
    ) -> Result<T, ApiError>
    where
        T: Send + 'static,
        E: Into<Failure> + Send + 'static,
        F: FnOnce(&Turn) -> Result<T, E> + Send + 'static,
    {
        let asked = Asked::now(timeout.map_or(self.timeout, |timeout| timeout.min(self.timeout)));
        let slot = self.slot(asked).await?;
        self.run_elsewhere(asked, slot, query).await
    }

    /// As [`run`](Self::run), but without a blocking thread if `query` takes but a moment. [`name`](Self::name) tells it from others: one that took longer is not
    /// tried again, for what is tried in vain is done twice.
    pub(crate) async fn run_where_it_is<T, E, F>(
        &self,
        timeout: Option<Duration>,
        name: u64,
        query: F,
    ) -> Result<T, ApiError>
    where
        T: Send + 'static,
        E: Into<Failure> + Send + 'static,
        F: Fn(&Turn) -> Result<T, E> + Send + 'static,
    {
        let asked = Asked::now(timeout.map_or(self.timeout, |timeout| timeout.min(self.timeout)));
        let slot = self.slot(asked).await?;
        let started = Instant::now();
        let moment = started + MOMENT;
        let is_long = self.long.contains(name);
        if !is_long {
            let turn = self.turn(asked, Cancellation::new(), asked.deadline.min(moment));
            let tried = catch_unwind(AssertUnwindSafe(|| query(&turn)));
            let Ok(result) = tried else { return Err(panicked()) };
            // What fails after that may have failed because it had no more time.
            if result.is_ok() || Instant::now() < moment {
                return result.map_err(|error| self.named(error.into()));
            }
            self.long.insert(name);
        }
        let result = self.run_elsewhere(asked, slot, query).await;
        if is_long && started.elapsed() < MOMENT / 2 {
            self.long.remove(name);
        }
        result
    }

    /// What tells a query from others.
    pub(crate) fn name(&self, query: impl Hash) -> u64 {
        self.long.name(query)
    }

    /// Waits for a free slot.
    async fn slot(&self, asked: Asked) -> Result<OwnedSemaphorePermit, ApiError> {
        let slot = timeout_at(asked.deadline.into(), Arc::clone(&self.slots).acquire_owned()).await;
        let slot = slot
            .map_err(|_| ApiError::new(ErrorType::Timeout, "query timed out in query queue"))?
            .map_err(|_| ApiError::new(ErrorType::Internal, "the server is stopping"))?;
        if Instant::now() >= asked.deadline {
            // However quick it would be: a client that gives no time gets no answer, as in Prometheus.
            return Err(ApiError::new(ErrorType::Timeout, "query timed out in query execution"));
        }
        Ok(slot)
    }

    fn turn(&self, asked: Asked, cancellation: Cancellation, deadline: Instant) -> Turn {
        let budget = self.bytes.child(self.query_bytes_max);
        let context = QueryContext { budget, cancellation, deadline: Some(deadline) };
        Turn { context, queued: asked.at.elapsed() }
    }

    async fn run_elsewhere<T, E, F>(
        &self,
        asked: Asked,
        slot: OwnedSemaphorePermit,
        query: F,
    ) -> Result<T, ApiError>
    where
        T: Send + 'static,
        E: Into<Failure> + Send + 'static,
        F: FnOnce(&Turn) -> Result<T, E> + Send + 'static,
    {
        let cancellation = Cancellation::new();
        let _gone = CancelOnDrop(cancellation.clone());
        let turn = self.turn(asked, cancellation, asked.deadline);
        let task = tokio::task::spawn_blocking(move || {
            // Freed when the query really ends, not when its client gives up.
            let _slot = slot;
            query(&turn)
        });
        match task.await {
            Ok(result) => result.map_err(|error| self.named(error.into())),
            Err(_) => Err(panicked()),
        }
    }

    /// Does what takes microseconds at once, without a slot, within the bytes of queries.
    pub(crate) fn run_at_once<T>(
        &self,
        work: impl FnOnce(&QueryContext) -> Result<T, Failure>,
    ) -> Result<T, ApiError> {
        let budget = self.bytes.child(self.query_bytes_max);
        let deadline = Some(Instant::now() + self.timeout);
        let context = QueryContext { budget, cancellation: Cancellation::new(), deadline };
        work(&context).map_err(|failure| self.named(failure))
    }

    fn named(&self, failure: Failure) -> ApiError {
        match failure {
            Failure::OverBudget { needed, allowed } => self.over_budget(needed, allowed),
            Failure::Other(error) => error,
        }
    }

    /// Names the bound that was reached, so that whoever runs the server knows which flag it is.
    fn over_budget(&self, needed: u64, allowed: u64) -> ApiError {
        let (who, flag) = if allowed == self.query_bytes_max {
            ("the query needs", QUERY_FLAG)
        } else {
            ("all queries together need", TOTAL_FLAG)
        };
        self.over_budget.with_label_values(&[flag]).inc();
        let message = format!("{who} {needed} bytes at a time, {allowed} are allowed by --{flag}");
        ApiError::new(ErrorType::Execution, message)
    }
}

/// When a query was asked for, and until when it is to be answered.
#[derive(Clone, Copy, Debug)]
struct Asked {
    at: Instant,
    deadline: Instant,
}

impl Asked {
    fn now(timeout: Duration) -> Self {
        let at = Instant::now();
        Self { at, deadline: at + timeout }
    }
}

fn panicked() -> ApiError {
    tracing::error!("a query panicked");
    ApiError::new(ErrorType::Internal, "the query failed unexpectedly")
}

struct CancelOnDrop(Cancellation);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queries() -> Queries {
        bounded(0, 0)
    }

    fn bounded(bytes_max: u64, total_bytes_max: u64) -> Queries {
        let timeout = Duration::from_secs(60);
        let bounds = QueryBounds { concurrency_max: 1, timeout, bytes_max, total_bytes_max };
        Queries::new(bounds, &Registry::new())
    }

    #[tokio::test]
    async fn a_full_queue_times_out() {
        let queries = queries();
        let _taken = Arc::clone(&queries.slots).acquire_owned().await.unwrap();
        let run = queries.run(Some(Duration::ZERO), |_| Ok::<(), ApiError>(()));
        let error = run.await.unwrap_err();
        assert_eq!(error, ApiError::new(ErrorType::Timeout, "query timed out in query queue"));
    }

    #[tokio::test]
    async fn a_query_without_time_does_not_run() {
        let queries = queries();
        let run = queries.run(Some(Duration::ZERO), |_| Ok::<(), ApiError>(()));
        let error = ApiError::new(ErrorType::Timeout, "query timed out in query execution");
        assert_eq!(run.await, Err(error));
    }

    #[tokio::test]
    async fn a_query_is_told_when_nobody_waits() {
        let queries = Arc::new(queries());
        let (started, running) = tokio::sync::oneshot::channel();
        let (stopped, observed) = std::sync::mpsc::channel();
        let client = tokio::spawn({
            let queries = Arc::clone(&queries);
            async move {
                let query = move |turn: &Turn| {
                    started.send(()).unwrap();
                    while turn.context.check().is_ok() {
                        std::thread::yield_now();
                    }
                    stopped.send(turn.context.cancellation.is_cancelled()).unwrap();
                    Ok::<(), ApiError>(())
                };
                queries.run(None, query).await
            }
        });
        running.await.unwrap();
        client.abort();
        let observed = tokio::task::spawn_blocking(move || observed.recv()).await.unwrap();
        assert_eq!(observed, Ok(true));
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_frees_its_slot() {
        let queries = queries();
        let run = queries.run(None, |_| -> Result<(), ApiError> { panic!("a bug") });
        assert_eq!(run.await.unwrap_err().kind, ErrorType::Internal);
        let again = queries.run(None, |_| Ok::<_, ApiError>(7)).await;
        assert_eq!(again, Ok(7));
    }

    /// How often a query ran, and on which threads.
    #[derive(Debug, Default)]
    struct Runs(parking_lot::Mutex<Vec<std::thread::ThreadId>>);

    impl Runs {
        fn count(&self) -> usize {
            self.0.lock().push(std::thread::current().id());
            self.0.lock().len()
        }

        /// Whether each run was where it was asked for, since this was asked last.
        fn take(&self) -> Vec<bool> {
            let here = std::thread::current().id();
            std::mem::take(&mut *self.0.lock()).iter().map(|thread| *thread == here).collect()
        }
    }

    /// Works until the query is to stop or the time is over.
    fn work(turn: &Turn, time: Duration) -> Result<(), ApiError> {
        let started = Instant::now();
        while started.elapsed() < time {
            if turn.context.check().is_err() {
                return Err(ApiError::new(ErrorType::Timeout, "no more time"));
            }
        }
        Ok(())
    }

    #[tokio::test]
    async fn short_queries_stay_and_long_ones_are_begun_anew_elsewhere() {
        let (queries, runs) = (queries(), Arc::new(Runs::default()));
        let ask = async |name: &'static str, time, result: Result<u8, ApiError>| {
            let counted = Arc::clone(&runs);
            let query = move |turn: &Turn| {
                counted.count();
                work(turn, time)?;
                result.clone()
            };
            let answer = queries.run_where_it_is(None, queries.name(name), query).await;
            (answer, runs.take())
        };
        let error = ApiError::bad_data("no such thing");
        // A thread that is not given a processor for a moment may make any of them look long; not for good.
        let mut stayed = false;
        for _ in 0..100 {
            let (answer, ran_here) = ask("short", Duration::ZERO, Ok(7)).await;
            assert_eq!(answer, Ok(7));
            stayed |= ran_here == [true];
            let (answer, _) = ask("wrong", Duration::ZERO, Err(error.clone())).await;
            assert_eq!(answer, Err(error.clone()));
        }
        assert!(stayed);
        let long = 10 * MOMENT;
        assert_eq!(ask("long", long, Ok(8)).await, (Ok(8), vec![true, false]));
        assert_eq!(ask("long", long, Ok(8)).await, (Ok(8), vec![false]));
        assert_eq!(ask("also", long, Err(error.clone())).await, (Err(error), vec![true, false]));
    }

    #[tokio::test]
    async fn a_query_that_became_short_is_tried_again() {
        let (queries, runs) = (queries(), Arc::new(Runs::default()));
        let name = queries.name("q");
        queries.long.insert(name);
        let mut ran_here = Vec::new();
        for _ in 0..100 {
            let counted = Arc::clone(&runs);
            let query = move |_: &Turn| {
                counted.count();
                Ok::<_, ApiError>(())
            };
            assert_eq!(queries.run_where_it_is(None, name, query).await, Ok(()));
            ran_here.push(runs.take());
        }
        assert_eq!(ran_here[0], [false]);
        assert!(ran_here.contains(&vec![true]));
    }

    #[tokio::test]
    async fn what_is_tried_is_bounded_as_everything_is() {
        let queries = bounded(100, 0);
        let panics =
            queries.run_where_it_is(None, 1, |_| -> Result<(), ApiError> { panic!("a bug") });
        assert_eq!(panics.await.unwrap_err().kind, ErrorType::Internal);
        let large = |turn: &Turn| turn.context.budget.charge(101).map(drop);
        let error = queries.run_where_it_is(None, 2, large).await.unwrap_err();
        assert_eq!(error.kind, ErrorType::Execution);
        assert_eq!(queries.over_budget.with_label_values(&[QUERY_FLAG]).get(), 1);
        let late = |turn: &Turn| work(turn, Duration::from_secs(60));
        let late = queries.run_where_it_is(Some(10 * MOMENT), 3, late).await;
        assert_eq!(late.unwrap_err().kind, ErrorType::Timeout);
        assert_eq!(queries.bytes.bytes_used(), 0);
        assert_eq!(queries.slots.available_permits(), 1);
    }

    #[tokio::test]
    async fn bytes_are_bounded_for_one_query_and_for_all_together() {
        const ONE: &str =
            "the query needs 101 bytes at a time, 100 are allowed by --query.max-bytes";
        const ALL: &str = "all queries together need 161 bytes at a time, 160 are allowed by --query.max-total-bytes";
        for (bytes_max, total_bytes_max, elsewhere, bytes, refused) in [
            (100, 160, 0, 100, None),
            (100, 160, 0, 101, Some(ONE)),
            (100, 160, 60, 100, None),
            (100, 160, 61, 100, Some(ALL)),
            // Where one may hold as much as all may, it is all that are too many.
            (160, 160, 61, 100, Some(ALL)),
            (1000, 160, 0, 161, Some(ALL)),
            (0, 160, 0, 161, Some(ALL)),
            (100, 0, 1 << 40, 101, Some(ONE)),
            (0, 0, 1 << 40, 1 << 40, None),
        ] {
            let queries = bounded(bytes_max, total_bytes_max);
            let held = queries.bytes.charge(elsewhere).unwrap();
            let query = move |turn: &Turn| turn.context.budget.charge(bytes).map(drop);
            let error = queries.run(None, query).await.err();
            let expected = refused.map(|message| ApiError::new(ErrorType::Execution, message));
            assert_eq!(error, expected, "{bytes_max} {total_bytes_max} {elsewhere} {bytes}");
            assert_eq!(queries.bytes.bytes_used(), held.bytes());
            queries.observe();
            assert_eq!(queries.bytes_held.get(), i64::try_from(elsewhere).unwrap());
            for (flag, message) in [(QUERY_FLAG, ONE), (TOTAL_FLAG, ALL)] {
                let count = queries.over_budget.with_label_values(&[flag]).get();
                assert_eq!(count, u64::from(refused == Some(message)), "{flag}");
            }
        }
    }
}
