//! Runs queries: a bounded number at a time, within time and memory, stopped when nobody waits.
//!
//! A query may not keep a thread of the runtime for long, so it runs on a blocking thread. To get there and back wakes three threads, though,
//! which takes longer than most queries do. So one that was short the last time runs [where it arrived](Queries::run_where_it_is). Should it take longer this
//! time, or have to wait, it is given up and begun anew on a blocking thread.

mod short;

use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{Budget, Cancellation, QueryContext};
use telemetry::{IntCounterVec, IntGauge, Opts, Registry, register};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout_at;

use self::short::ShortQueries;
use crate::api::error::{ApiError, ErrorType, Failure};

/// How long a query may keep a thread of the runtime. Everything else that this thread would do waits as long.
const MOMENT: Duration = Duration::from_millis(2);
/// A query that took less than that is short.
const SHORT: Duration = Duration::from_micros(1_500);

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
    /// To be tried where they arrive.
    short: ShortQueries,
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
            short: ShortQueries::default(),
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
        let slot = self.slot(timeout).await?;
        let (result, _) = self.run_elsewhere(slot, query).await?;
        result
    }

    /// As [`run`](Self::run), but without a blocking thread if a query of this [`name`](Self::name) was short the last time and nothing is `in_its_way`
    /// that it would wait for. What is not done within a moment then is done twice.
    pub(crate) async fn run_where_it_is<T, E, F>(
        &self,
        timeout: Option<Duration>,
        name: u64,
        in_its_way: impl FnOnce() -> bool,
        query: F,
    ) -> Result<T, ApiError>
    where
        T: Send + 'static,
        E: Into<Failure> + Send + 'static,
        F: Fn(&Turn) -> Result<T, E> + Send + 'static,
    {
        let slot = self.slot(timeout).await?;
        if self.short.contains(name) && !in_its_way() {
            let moment = Instant::now() + MOMENT;
            let deadline = slot.deadline.min(moment);
            let tried = catch_unwind(AssertUnwindSafe(|| query(&self.turn(&slot, deadline))));
            // What comes later counts for nothing: it may have failed because it had no more time.
            if Instant::now() < moment {
                let result = tried.map_err(|_| panicked())?;
                return result.map_err(|error| self.named(error.into()));
            }
        }
        let (result, took) = self.run_elsewhere(slot, query).await?;
        if took < SHORT {
            self.short.insert(name);
        } else {
            self.short.remove(name);
        }
        result
    }

    /// What tells a query from others.
    pub(crate) fn name(&self, query: impl Hash) -> u64 {
        self.short.name(query)
    }

    /// Waits for a free slot.
    async fn slot(&self, timeout: Option<Duration>) -> Result<Slot, ApiError> {
        let asked = Instant::now();
        let deadline = asked + timeout.map_or(self.timeout, |timeout| timeout.min(self.timeout));
        let permit = timeout_at(deadline.into(), Arc::clone(&self.slots).acquire_owned()).await;
        let permit = permit
            .map_err(|_| ApiError::new(ErrorType::Timeout, "query timed out in query queue"))?
            .map_err(|_| ApiError::new(ErrorType::Internal, "the server is stopping"))?;
        if Instant::now() >= deadline {
            // However quick it would be: a client that gives no time gets no answer, as in Prometheus.
            return Err(ApiError::new(ErrorType::Timeout, "query timed out in query execution"));
        }
        Ok(Slot { queued: asked.elapsed(), deadline, cancellation: Cancellation::new(), permit })
    }

    fn turn(&self, slot: &Slot, deadline: Instant) -> Turn {
        let budget = self.bytes.child(self.query_bytes_max);
        let cancellation = slot.cancellation.clone();
        let context = QueryContext { budget, cancellation, deadline: Some(deadline) };
        Turn { context, queued: slot.queued }
    }

    /// Runs `query` on a blocking thread, and tells how long it took there.
    async fn run_elsewhere<T, E, F>(
        &self,
        slot: Slot,
        query: F,
    ) -> Result<(Result<T, ApiError>, Duration), ApiError>
    where
        T: Send + 'static,
        E: Into<Failure> + Send + 'static,
        F: FnOnce(&Turn) -> Result<T, E> + Send + 'static,
    {
        let _gone = CancelOnDrop(slot.cancellation.clone());
        let turn = self.turn(&slot, slot.deadline);
        let task = tokio::task::spawn_blocking(move || {
            // Freed when the query really ends, not when its client gives up.
            let _permit = slot.permit;
            let started = Instant::now();
            let result = query(&turn);
            (result, started.elapsed())
        });
        let (result, took) = task.await.map_err(|_| panicked())?;
        Ok((result.map_err(|error| self.named(error.into())), took))
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

/// A place among the queries that run.
#[derive(Debug)]
struct Slot {
    queued: Duration,
    deadline: Instant,
    cancellation: Cancellation,
    permit: OwnedSemaphorePermit,
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

    /// The threads on which a query ran.
    #[derive(Debug, Default)]
    struct Runs(parking_lot::Mutex<Vec<std::thread::ThreadId>>);

    impl Runs {
        fn note(&self) {
            self.0.lock().push(std::thread::current().id());
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

    const FREE: fn() -> bool = || false;

    #[tokio::test]
    async fn what_was_short_stays_and_is_begun_anew_elsewhere_when_it_is_not() {
        let (queries, runs) = (queries(), Arc::new(Runs::default()));
        let error = ApiError::bad_data("no such thing");
        for (name, result) in [("right", Ok(7)), ("wrong", Err(error))] {
            let name = queries.name(name);
            let ask = async |time, in_its_way| {
                let (noted, result) = (Arc::clone(&runs), result.clone());
                let query = move |turn: &Turn| {
                    noted.note();
                    work(turn, time)?;
                    result.clone()
                };
                let answer = queries.run_where_it_is(None, name, || in_its_way, query).await;
                (answer, runs.take())
            };
            let (short, long) = (Duration::ZERO, 10 * MOMENT);
            assert_eq!(ask(long, false).await, (result.clone(), vec![false]));
            assert_eq!(ask(long, false).await, (result.clone(), vec![false]));
            // On a busy machine it may take a while until it is short.
            while !queries.short.contains(name) {
                assert_eq!(ask(short, false).await, (result.clone(), vec![false]));
            }
            assert_eq!(ask(long, false).await, (result.clone(), vec![true, false]));
            assert!(!queries.short.contains(name));
            queries.short.insert(name);
            let (answer, ran) = ask(short, false).await;
            // A thread that is not given a processor for a moment is late.
            assert!(answer == result && (ran == [true] || ran == [true, false]), "{ran:?}");
            queries.short.insert(name);
            assert_eq!(ask(short, true).await, (result.clone(), vec![false]));
        }
    }

    #[tokio::test]
    async fn what_is_tried_is_bounded_as_everything_is() {
        let queries = bounded(100, 0);
        (1..=3).for_each(|name| queries.short.insert(name));
        let panics = |_: &Turn| -> Result<(), ApiError> { panic!("a bug") };
        let panics = queries.run_where_it_is(None, 1, FREE, panics).await;
        assert_eq!(panics.unwrap_err().kind, ErrorType::Internal);
        let large = |turn: &Turn| turn.context.budget.charge(101).map(drop);
        let error = queries.run_where_it_is(None, 2, FREE, large).await.unwrap_err();
        assert_eq!(error.kind, ErrorType::Execution);
        assert_eq!(queries.over_budget.with_label_values(&[QUERY_FLAG]).get(), 1);
        let late = |turn: &Turn| work(turn, Duration::from_secs(60));
        let late = queries.run_where_it_is(Some(10 * MOMENT), 3, FREE, late).await;
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
