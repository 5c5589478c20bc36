//! Runs queries: a bounded number at a time, on blocking threads, within time and memory, stopped when nobody waits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{Budget, Cancellation, QueryContext};
use tokio::sync::Semaphore;
use tokio::time::timeout_at;

use crate::api::error::{ApiError, ErrorType};

/// Bytes that one query may hold. Prometheus's default of 50 million samples is 800 MB.
const QUERY_BYTES_MAX: u64 = 2 << 30;

/// The place where queries run.
#[derive(Debug)]
pub(crate) struct Queries {
    slots: Arc<Semaphore>,
    timeout: Duration,
    bytes: Budget,
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
    /// At most `concurrency_max` at a time, none longer than `timeout`, waiting included; all together hold at most
    /// `bytes_max` bytes.
    pub(crate) fn new(concurrency_max: usize, timeout: Duration, bytes_max: u64) -> Self {
        let slots = Arc::new(Semaphore::new(concurrency_max.clamp(1, Semaphore::MAX_PERMITS)));
        Self { slots, timeout, bytes: Budget::new(bytes_max) }
    }

    /// Runs `query` when there is a free slot. `timeout` may shorten the configured one.
    ///
    /// If the returned future is dropped, because the client has gone, the query is told to stop.
    pub(crate) async fn run<T, E, F>(
        &self,
        timeout: Option<Duration>,
        query: F,
    ) -> Result<T, ApiError>
    where
        T: Send + 'static,
        E: Into<ApiError> + Send + 'static,
        F: FnOnce(&Turn) -> Result<T, E> + Send + 'static,
    {
        let timeout = timeout.map_or(self.timeout, |timeout| timeout.min(self.timeout));
        let asked = Instant::now();
        let deadline = asked + timeout;
        let slot = timeout_at(deadline.into(), Arc::clone(&self.slots).acquire_owned()).await;
        let slot = slot
            .map_err(|_| ApiError::new(ErrorType::Timeout, "query timed out in query queue"))?
            .map_err(|_| ApiError::new(ErrorType::Internal, "the server is stopping"))?;
        let cancellation = Cancellation::new();
        let _gone = CancelOnDrop(cancellation.clone());
        let budget = self.bytes.child(QUERY_BYTES_MAX);
        let context = QueryContext { budget, cancellation, deadline: Some(deadline) };
        let turn = Turn { context, queued: asked.elapsed() };
        let task = tokio::task::spawn_blocking(move || {
            // Freed when the query really ends, not when its client gives up.
            let _slot = slot;
            query(&turn)
        });
        match task.await {
            Ok(result) => result.map_err(Into::into),
            Err(_) => {
                tracing::error!("a query panicked");
                Err(ApiError::new(ErrorType::Internal, "the query failed unexpectedly"))
            }
        }
    }
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
        Queries::new(1, Duration::from_secs(60), u64::MAX)
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

    #[tokio::test]
    async fn all_queries_share_one_account() {
        let queries = Queries::new(1, Duration::from_secs(60), 100);
        let query = |turn: &Turn| turn.context.budget.charge(101).map(drop);
        assert_eq!(queries.run(None, query).await.unwrap_err().kind, ErrorType::Execution);
    }
}
