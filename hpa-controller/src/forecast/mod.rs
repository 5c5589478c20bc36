//! What is to come, from what has been: demand that repeats is forecast from stored history.
//!
//! [`Forecaster`] fits a model for each autoscaler that asks for one, in the background and at most a few at once, and answers from the last
//! fit at once; a decision never waits. History and time are bounded: at most [`SEASONS_MAX`] seasons in steps that make at most
//! [`STEPS_A_SEASON_MAX`] of one. The expression is asked within the autoscaler's namespace: every selector gets a matcher for it.

mod fitting;
mod holt_winters;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use model::{Clock, Timestamp};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::beyond::ForecastPolicy;
use crate::sources::History;

pub use fitting::{Demand, Fit, fit};
pub use holt_winters::{Fitted, Seasonal, SeasonalError};

/// Most seasons that are looked at.
pub const SEASONS_MAX: usize = 7;
/// Most steps that a season is cut into: 5 minutes of a day, 35 of a week.
pub const STEPS_A_SEASON_MAX: i64 = 288;

/// Fits that run at once; others wait.
const FITS_MAX: usize = 2;
/// Time for the history of one fit.
const HISTORY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a fit is used before the next one is made, unless a step is longer.
const REFIT_MS: i64 = 300_000;
/// How long after a failure it is tried again.
const RETRY_MS: i64 = 60_000;
/// A fit older than so many times its lifetime is no forecast.
const STALE: i64 = 3;
/// Autoscalers with a forecast. One more is told that there are too many.
const ENTRIES_MAX: usize = 10_000;

/// What is to come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ForecastReading {
    /// The largest demand within the horizon, in the unit of the expression; at least 0.
    pub demand: f64,
    /// Replicas that serve it.
    pub replicas: i32,
    /// Root mean square of the errors that the model makes one step ahead, in the unit of the expression.
    pub typical_error: f64,
    /// When the model was fitted, in milliseconds since the epoch.
    pub fitted_at: Timestamp,
    /// Seasons that it was fitted to.
    pub seasons: usize,
}

impl ForecastReading {
    /// What a fit says of the time from `now` to the horizon.
    ///
    /// # Errors
    /// The demand is larger than any number.
    pub fn of(fit: &Fit, policy: &ForecastPolicy, now: Timestamp) -> Result<Self, String> {
        let demand = fit.peak(now, now.saturating_add(policy.horizon_ms));
        if !demand.is_finite() {
            return Err(String::from("the demand is no finite number"));
        }
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let replicas = (demand * 1000.0 / policy.per_replica_milli as f64).ceil();
        #[expect(clippy::cast_possible_truncation, reason = "saturates, which is meant")]
        let replicas = replicas as i32;
        let (typical_error, seasons) = (fit.typical_error(), fit.seasons());
        Ok(Self { demand, replicas, typical_error, fitted_at: fit.fitted_at(), seasons })
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    namespace: Box<str>,
    name: Box<str>,
}

/// A fit and what becomes of it as time passes.
#[derive(Debug, Default)]
pub(crate) struct Current {
    /// The last one that worked.
    fit: Option<Fit>,
    /// What the last one said if it failed.
    failure: Option<String>,
    /// When the last one ended.
    tried_at: Option<Timestamp>,
}

impl Current {
    /// Whether it is time for another fit.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        let lifetime = match (&self.failure, &self.fit) {
            (None, Some(fit)) => lifetime(fit),
            _ => RETRY_MS,
        };
        self.tried_at.is_none_or(|at| now.saturating_sub(at) >= lifetime)
    }

    /// Takes over what a fit that ended at `now` came to. One that failed leaves the last one that worked.
    pub(crate) fn take(&mut self, fitted: Result<Fit, String>, now: Timestamp) {
        self.tried_at = Some(now);
        match fitted {
            Ok(fit) => (self.fit, self.failure) = (Some(fit), None),
            Err(why) => self.failure = Some(why),
        }
    }

    /// What it says.
    ///
    /// # Errors
    /// Why there is no forecast (yet).
    pub(crate) fn reading(
        &self,
        policy: &ForecastPolicy,
        now: Timestamp,
    ) -> Result<ForecastReading, String> {
        let failure = || self.failure.clone().unwrap_or_else(|| "it is being fitted".into());
        let fit = self.fit.as_ref().ok_or_else(failure)?;
        let age = now.saturating_sub(fit.fitted_at());
        if age > STALE * lifetime(fit) {
            return Err(format!("the last one is {} s old: {}", age / 1000, failure()));
        }
        ForecastReading::of(fit, policy, now)
    }
}

struct Entry {
    policy: ForecastPolicy,
    current: Current,
    running: bool,
    asked_at: Timestamp,
}

fn lifetime(fit: &Fit) -> i64 {
    fit.step_ms().max(REFIT_MS)
}

/// What a fit that is made right now says, for one who asks once and can wait.
///
/// # Errors
/// Why there is no forecast.
pub async fn now(
    history: &dyn History,
    namespace: &str,
    policy: &ForecastPolicy,
    now: Timestamp,
) -> Result<ForecastReading, String> {
    let fit = in_time(fit(history, namespace, policy, now)).await?;
    ForecastReading::of(&fit, policy, now)
}

/// A fit, unless history takes too long.
async fn in_time(fit: impl Future<Output = Result<Fit, String>>) -> Result<Fit, String> {
    let late = |_| Err(format!("no history within {} s", HISTORY_TIMEOUT.as_secs()));
    tokio::time::timeout(HISTORY_TIMEOUT, fit).await.unwrap_or_else(late)
}

/// Forecasts of all autoscalers that ask for one.
pub struct Forecaster {
    history: Arc<dyn History>,
    clock: Arc<dyn Clock>,
    entries: Mutex<HashMap<Key, Entry>>,
    permits: Semaphore,
}

impl Forecaster {
    /// A forecaster from this history.
    #[must_use]
    pub fn new(history: Arc<dyn History>, clock: Arc<dyn Clock>) -> Self {
        let permits = Semaphore::new(FITS_MAX);
        Self { history, clock, entries: Mutex::default(), permits }
    }

    /// What the last fit says, at once. The first question, and every one after a while, has a new fit made in the background; must be
    /// called on a runtime for that.
    ///
    /// # Errors
    /// Why there is no forecast (yet).
    pub fn reading(
        self: &Arc<Self>,
        namespace: &str,
        name: &str,
        policy: &ForecastPolicy,
        now: Timestamp,
    ) -> Result<ForecastReading, String> {
        let key = Key { namespace: namespace.into(), name: name.into() };
        let mut entries = self.entries.lock();
        if !entries.contains_key(&key) && entries.len() >= ENTRIES_MAX {
            // Those that nobody asks for any more make room.
            entries.retain(|_, entry| entry.running || now - entry.asked_at < STALE * REFIT_MS);
            if entries.len() >= ENTRIES_MAX {
                return Err(format!("more than {ENTRIES_MAX} autoscalers have a forecast"));
            }
        }
        let new = || Entry {
            policy: policy.clone(),
            current: Current::default(),
            running: false,
            asked_at: now,
        };
        let entry = entries.entry(key.clone()).or_insert_with(new);
        if entry.policy != *policy {
            // A fit under way is for another question; what it says is dropped.
            *entry = Entry { running: entry.running, ..new() };
        }
        entry.asked_at = now;
        if !entry.running && entry.current.is_due(now) {
            entry.running = true;
            let (forecaster, policy) = (Arc::clone(self), policy.clone());
            tokio::spawn(async move { forecaster.refit(key, policy).await });
        }
        entry.current.reading(&entry.policy, now)
    }

    /// Nobody asks for this one any more.
    pub fn forget(&self, namespace: &str, name: &str) {
        let key = Key { namespace: namespace.into(), name: name.into() };
        self.entries.lock().remove(&key);
    }

    async fn refit(&self, key: Key, policy: ForecastPolicy) {
        // The semaphore is never closed: without a permit it goes on either way.
        let _permit = self.permits.acquire().await.ok();
        let fitted = in_time(fit(&*self.history, &key.namespace, &policy, self.clock.now())).await;
        let mut entries = self.entries.lock();
        let Some(entry) = entries.get_mut(&key) else { return };
        entry.running = false;
        if entry.policy != policy {
            return;
        }
        entry.current.take(fitted, self.clock.now());
    }
}

impl fmt::Debug for Forecaster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forecaster")
            .field("entries", &self.entries.lock().len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::FutureExt;
    use futures_util::future::BoxFuture;
    use model::ManualClock;

    use super::*;
    use crate::sources::{HistoryError, HistorySeries};

    const HOUR: i64 = 3_600_000;

    /// 10 in even hours and 30 in odd ones; nothing while it is down.
    #[derive(Default)]
    struct Hours {
        asked: AtomicUsize,
        down: std::sync::atomic::AtomicBool,
    }

    impl History for Hours {
        fn range<'a>(
            &'a self,
            query: &'a str,
            from: Timestamp,
            to: Timestamp,
            step_ms: i64,
        ) -> BoxFuture<'a, Result<Vec<HistorySeries>, HistoryError>> {
            async move {
                self.asked.fetch_add(1, Ordering::SeqCst);
                assert_eq!(query, "sum(x{namespace=\"shop\"})");
                if self.down.load(Ordering::SeqCst) {
                    return Err(HistoryError(String::from("connection refused")));
                }
                let at = |n: i64| (n, if n / HOUR % 2 == 0 { 10.0 } else { 30.0 });
                let samples = (0..).map(|n| from + n * step_ms).take_while(|t| *t <= to).map(at);
                Ok(vec![HistorySeries { labels: Vec::new(), samples: samples.collect() }])
            }
            .boxed()
        }
    }

    fn policy() -> ForecastPolicy {
        ForecastPolicy {
            apply: true,
            query: String::from("sum(x)"),
            per_replica_milli: 4_000,
            season_ms: 2 * HOUR,
            horizon_ms: HOUR / 2,
        }
    }

    async fn settle(forecaster: &Forecaster) {
        while forecaster.entries.lock().values().any(|entry| entry.running) {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_forecast_is_made_behind_the_scenes_and_used_again() {
        let history = Arc::new(Hours::default());
        // 20 minutes before an odd hour begins.
        let clock = Arc::new(ManualClock::new(1001 * HOUR - HOUR / 3));
        let forecaster =
            Arc::new(Forecaster::new(Arc::clone(&history) as _, Arc::clone(&clock) as _));
        let ask = || forecaster.reading("shop", "web", &policy(), clock.now());
        assert_eq!(ask().unwrap_err(), "it is being fitted");
        settle(&forecaster).await;
        let reading = ask().unwrap();
        assert!((reading.demand - 30.0).abs() < 1.0, "{reading:?}");
        assert_eq!((reading.replicas, reading.seasons), (8, 7));
        // An hour's half later the horizon lies within the low hour again.
        clock.advance(299_000);
        assert!(ask().is_ok());
        assert_eq!(history.asked.load(Ordering::SeqCst), 1);
        clock.advance(1_000);
        assert!(ask().is_ok());
        settle(&forecaster).await;
        assert_eq!(history.asked.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn without_history_the_last_forecast_serves_for_a_while() {
        let history = Arc::new(Hours::default());
        let clock = Arc::new(ManualClock::new(1000 * HOUR));
        let forecaster =
            Arc::new(Forecaster::new(Arc::clone(&history) as _, Arc::clone(&clock) as _));
        let ask = || forecaster.reading("shop", "web", &policy(), clock.now());
        assert!(ask().is_err());
        settle(&forecaster).await;
        history.down.store(true, Ordering::SeqCst);
        for minutes in [5, 10, 15] {
            clock.set(1000 * HOUR + minutes * 60_000);
            assert!(ask().is_ok(), "{minutes}");
            settle(&forecaster).await;
        }
        clock.advance(1_000);
        assert_eq!(ask().unwrap_err(), "the last one is 901 s old: connection refused");
    }

    #[tokio::test]
    async fn another_question_has_another_answer() {
        let history = Arc::new(Hours::default());
        let clock = Arc::new(ManualClock::new(1000 * HOUR));
        let forecaster = Arc::new(Forecaster::new(history, Arc::clone(&clock) as _));
        let two = ForecastPolicy { per_replica_milli: 2_000, ..policy() };
        assert!(forecaster.reading("shop", "web", &policy(), clock.now()).is_err());
        // The first fit is under way; what it says must not be taken for the second one's.
        assert!(forecaster.reading("shop", "web", &two, clock.now()).is_err());
        settle(&forecaster).await;
        assert!(forecaster.reading("shop", "web", &two, clock.now()).is_err());
        settle(&forecaster).await;
        assert!(forecaster.reading("shop", "web", &two, clock.now()).is_ok());
        forecaster.forget("shop", "web");
        assert!(forecaster.reading("shop", "web", &two, clock.now()).is_err());
    }
}
