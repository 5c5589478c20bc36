//! Asks the source: each query once at a time, at most so many at once, and not again for a while.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api_client::{Answer, AskError, Source, Value};
use model::Clock;
use parking_lot::Mutex;
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::Instant;

/// Most answers that are kept.
const ENTRIES_MAX: usize = 1024;

/// Answers with more samples than this are shared by those who wait for them, and not kept.
const SAMPLES_MAX: usize = 20_000;

/// Most samples of all answers that are kept.
const SAMPLES_TOTAL_MAX: usize = 200_000;

/// How much is asked, and how long answers are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueryLimits {
    /// How long an answer is used again. It keeps its time of evaluation.
    pub keep: Duration,
    /// Queries that run at once; others wait.
    pub concurrency: usize,
    /// Time for a query, waiting included.
    pub timeout: Duration,
}

impl Default for QueryLimits {
    fn default() -> Self {
        // Less than the autoscaler's period, so that each of its rounds sees new values, and long enough for the many
        // questions of one round that come to the same query.
        Self { keep: Duration::from_secs(5), concurrency: 20, timeout: Duration::from_secs(30) }
    }
}

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskFailure {
    /// The source says why.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// It took too long, or too many others are being asked.
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
}

type Outcome = Result<Arc<Answer<Value>>, Arc<AskFailure>>;
type Flight = Arc<OnceCell<(Instant, Outcome)>>;

/// A source, asked with care.
pub(crate) struct Queries {
    source: Arc<dyn Source>,
    clock: Arc<dyn Clock>,
    limits: QueryLimits,
    permits: Semaphore,
    flights: Mutex<HashMap<String, Flight>>,
}

impl Queries {
    pub(crate) fn new(source: Arc<dyn Source>, clock: Arc<dyn Clock>, limits: QueryLimits) -> Self {
        let permits = Semaphore::new(limits.concurrency.max(1));
        Self { source, clock, limits, permits, flights: Mutex::default() }
    }

    /// The source itself.
    pub(crate) fn source(&self) -> &dyn Source {
        &*self.source
    }

    /// The value of `query` now, or a short while ago.
    ///
    /// Whoever comes first asks, the others wait for the same answer; if the first goes away, the next one asks. A
    /// failure is told to all who wait, and asked again by whoever comes after.
    pub(crate) async fn ask(&self, query: &str) -> Outcome {
        let flight = self.flight(query);
        let mut is_new = false;
        let (_, outcome) = flight
            .get_or_init(async || {
                let outcome = self.send(query).await;
                is_new = true;
                (Instant::now(), outcome.map(Arc::new).map_err(Arc::new))
            })
            .await;
        if is_new {
            self.keep(query, &flight, outcome);
        }
        outcome.clone()
    }

    fn flight(&self, query: &str) -> Flight {
        let mut flights = self.flights.lock();
        if let Some(flight) = flights.get(query).filter(|flight| self.is_useful(flight)) {
            return Arc::clone(flight);
        }
        flights.retain(|_, flight| self.is_useful(flight));
        if flights.len() >= ENTRIES_MAX {
            flights.retain(|_, flight| flight.get().is_none());
        }
        let flight = Flight::default();
        if flights.len() < ENTRIES_MAX {
            flights.insert(String::from(query), Arc::clone(&flight));
        }
        flight
    }

    /// Forgets a new answer that is a failure or too large to be kept.
    fn keep(&self, query: &str, flight: &Flight, outcome: &Outcome) {
        let mut flights = self.flights.lock();
        let total = || flights.values().filter_map(|flight| Some(samples(&flight.get()?.1)));
        let keeps = outcome.is_ok()
            && samples(outcome) <= SAMPLES_MAX
            && total().sum::<usize>() <= SAMPLES_TOTAL_MAX;
        if !keeps && flights.get(query).is_some_and(|own| Arc::ptr_eq(own, flight)) {
            flights.remove(query);
        }
    }

    /// Whether it has a fresh answer, or none yet and someone who waits for it.
    fn is_useful(&self, flight: &Flight) -> bool {
        match flight.get() {
            Some((at, _)) => at.elapsed() < self.limits.keep,
            // Flights are shared under the lock alone: nobody joins meanwhile.
            None => Arc::strong_count(flight) > 1,
        }
    }

    async fn send(&self, query: &str) -> Result<Answer<Value>, AskFailure> {
        let asked = async {
            // The semaphore is never closed: without a permit there is no answer either way.
            let _permit = self.permits.acquire().await.ok();
            self.source.instant(query, self.clock.now()).await
        };
        let answer = tokio::time::timeout(self.limits.timeout, asked).await;
        Ok(answer.map_err(|_| AskFailure::Timeout(self.limits.timeout))??)
    }
}

/// How many samples are kept with it.
fn samples(outcome: &Outcome) -> usize {
    match outcome.as_ref().map(|answer| &answer.value) {
        Ok(Value::Vector(samples)) => samples.len(),
        _ => 0,
    }
}

impl std::fmt::Debug for Queries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queries").field("limits", &self.limits).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use api_client::{Asked, Reading, Sample};
    use futures_util::FutureExt;
    use model::{Labels, ManualClock, TimeRange, Timestamp};
    use tokio::sync::Notify;

    use super::*;

    /// Answers `fails` with failure, a number with so many samples, and everything else with the number of the question,
    /// once it is let.
    #[derive(Default)]
    struct Counting {
        asked: AtomicUsize,
        running: AtomicUsize,
        running_max: AtomicUsize,
        go: Notify,
        waits: bool,
    }

    impl Source for Counting {
        fn instant<'a>(&'a self, query: &'a str, at: Timestamp) -> Asked<'a, Value> {
            async move {
                let number = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
                let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
                self.running_max.fetch_max(running, Ordering::SeqCst);
                if self.waits {
                    self.go.notified().await;
                }
                self.running.fetch_sub(1, Ordering::SeqCst);
                if query == "fails" {
                    let url = String::from("http://prometheus");
                    return Err(AskError::Unreachable { url, reason: number.to_string() });
                }
                if let Ok(count) = query.parse() {
                    let reading = Reading::Float(1.0);
                    let sample = Sample { labels: Labels::empty(), at, reading };
                    let value = Value::Vector(vec![sample; count]);
                    return Ok(Answer { value, warnings: Vec::new() });
                }
                #[expect(clippy::cast_precision_loss, reason = "a small number")]
                let value = Value::Scalar { at, value: number as f64 };
                Ok(Answer { value, warnings: Vec::new() })
            }
            .boxed()
        }

        fn series<'a>(&'a self, _: &'a [&'a str], _: TimeRange) -> Asked<'a, Vec<Labels>> {
            unreachable!()
        }

        fn label_values<'a>(
            &'a self,
            _: &'a str,
            _: &'a [&'a str],
            _: TimeRange,
        ) -> Asked<'a, Vec<String>> {
            unreachable!()
        }
    }

    fn queries(source: &Arc<Counting>, concurrency: usize) -> Arc<Queries> {
        let limits = QueryLimits { concurrency, ..QueryLimits::default() };
        let clock = Arc::new(ManualClock::new(1000));
        let source: Arc<dyn Source> = Arc::clone(source) as _;
        Arc::new(Queries::new(source, clock, limits))
    }

    fn number(outcome: &Outcome) -> f64 {
        match outcome.as_ref().unwrap().value {
            Value::Scalar { value, .. } => value,
            _ => f64::NAN,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn answers_are_used_again_for_a_while() {
        let source = Arc::new(Counting::default());
        let queries = queries(&source, 1);
        assert_eq!(number(&queries.ask("a").await), 1.0);
        tokio::time::advance(Duration::from_millis(4999)).await;
        assert_eq!(number(&queries.ask("a").await), 1.0);
        assert_eq!(number(&queries.ask("b").await), 2.0);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(number(&queries.ask("a").await), 3.0);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_not_kept() {
        let source = Arc::new(Counting::default());
        let queries = queries(&source, 1);
        for expected in ["http://prometheus: 1", "http://prometheus: 2"] {
            assert_eq!(queries.ask("fails").await.unwrap_err().to_string(), expected);
        }
    }

    #[tokio::test]
    async fn one_query_is_asked_once_at_a_time() {
        let source = Arc::new(Counting { waits: true, ..Counting::default() });
        let queries = queries(&source, 1);
        let ask = |queries: &Arc<Queries>| {
            let queries = Arc::clone(queries);
            tokio::spawn(async move { queries.ask("a").await })
        };
        let first = ask(&queries);
        let others = [ask(&queries), ask(&queries)];
        while source.running.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        // The one that asks goes away: another asks in its place.
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        while source.asked.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
        source.go.notify_one();
        for other in others {
            assert_eq!(number(&other.await.unwrap()), 2.0);
        }
        assert_eq!(source.asked.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn what_nobody_waits_for_takes_no_place() {
        let source = Arc::new(Counting { waits: true, ..Counting::default() });
        let queries = queries(&source, 1);
        for n in 0..2 * ENTRIES_MAX {
            assert!(queries.ask(&format!("q{n}")).now_or_never().is_none());
        }
        let before = source.asked.load(Ordering::SeqCst);
        source.go.notify_one();
        assert!(queries.ask("a").await.is_ok());
        assert!(queries.ask("a").await.is_ok());
        assert_eq!(source.asked.load(Ordering::SeqCst), before + 1);
        assert_eq!(queries.flights.lock().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn samples_that_are_kept_are_bounded() {
        let source = Arc::new(Counting::default());
        let queries = queries(&source, 1);
        let asked = || source.asked.load(Ordering::SeqCst);
        for count in 19_900..19_910 {
            assert!(queries.ask(&count.to_string()).await.is_ok());
        }
        for (query, again) in [("19900", 0), ("2000", 1), ("20001", 1), ("100", 0)] {
            assert!(queries.ask(query).await.is_ok());
            let before = asked();
            assert!(queries.ask(query).await.is_ok());
            assert_eq!(asked() - before, again, "{query}");
        }
        tokio::time::advance(Duration::from_secs(5)).await;
        assert!(queries.ask("a").await.is_ok());
        assert_eq!(queries.flights.lock().len(), 1);
    }

    #[tokio::test]
    async fn queries_at_once_are_bounded() {
        let source = Arc::new(Counting { waits: true, ..Counting::default() });
        let queries = queries(&source, 2);
        let asked: Vec<_> = (0..6)
            .map(|n| {
                let queries = Arc::clone(&queries);
                tokio::spawn(async move { queries.ask(&format!("q{n}")).await })
            })
            .collect();
        for asked in asked {
            while !asked.is_finished() {
                source.go.notify_one();
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(source.asked.load(Ordering::SeqCst), 6);
        assert_eq!(source.running_max.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_does_not_come_is_a_failure() {
        let source = Arc::new(Counting { waits: true, ..Counting::default() });
        let failure = queries(&source, 1).ask("a").await.unwrap_err();
        assert_eq!(failure.to_string(), "no answer within 30000 ms");
    }
}
