//! The past as a data directory tells it, with the store and the engine in this process.
//!
//! The directory is only looked at: this works beside a running server, and on a file system that cannot be written.

use std::fmt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use hpa_controller::{History, HistoryError, HistorySeries};
use model::{Budget, QueryContext, SystemClock, Timestamp};
use promql::{Engine, EngineOptions, QueryOptions, Value};
use tsdb::{Db, Options, OsDisk, ReplayProgress};

use crate::progress;

/// Bytes that one query may hold: what a server allows by default.
const QUERY_BYTES_MAX: u64 = 2 << 30;

/// Samples that one query may hold at a time. A window of two minutes over many pods is little; the whole of their samples is not held.
const SAMPLES_MAX: u64 = 200_000_000;

/// Time for one query.
const TIMEOUT: Duration = Duration::from_secs(600);

/// Longest part of a query in an error.
const QUERY_BYTES_SHOWN: usize = 300;

/// The history in a data directory.
pub(super) struct LocalHistory {
    store: Db,
    engine: Engine,
}

impl fmt::Debug for LocalHistory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalHistory").finish_non_exhaustive()
    }
}

impl LocalHistory {
    /// Opens the directory, which may be in use by a server.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let replay = Arc::new(ReplayProgress::new());
        let watch = progress::watch_replay(Arc::clone(&replay));
        let opened = Db::open_read_only(
            path,
            Arc::new(OsDisk),
            Arc::new(SystemClock),
            Options::default(),
            &replay,
        );
        drop(watch);
        let store = opened.with_context(|| format!("cannot open {}", path.display()))?;
        let parallelism = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let options = EngineOptions {
            timeout: TIMEOUT,
            samples_max: SAMPLES_MAX,
            parallelism,
            parse: promql::ParseOptions::all(),
            ..EngineOptions::default()
        };
        Ok(Self { store, engine: Engine::new(options, &telemetry::Registry::new()) })
    }

    fn ask(
        &self,
        query: &str,
        from: Timestamp,
        to: Timestamp,
        step_ms: i64,
    ) -> Result<Vec<HistorySeries>, HistoryError> {
        let failed = |reason: &dyn fmt::Display| {
            let shown = &query[..query.floor_char_boundary(QUERY_BYTES_SHOWN)];
            HistoryError(format!("query {shown:?}: {reason}"))
        };
        let step = u64::try_from(step_ms).map_err(|_| failed(&"the step must be at least 1 ms"))?;
        let context =
            QueryContext { budget: Budget::new(QUERY_BYTES_MAX), ..QueryContext::unbounded() };
        let answer = self
            .engine
            .range(
                &self.store,
                query,
                from,
                to,
                Duration::from_millis(step),
                &QueryOptions::default(),
                &context,
            )
            .map_err(|error| failed(&error))?;
        for warning in answer.warnings.iter().chain(&answer.infos) {
            tracing::debug!(query, "{warning}");
        }
        let Value::Matrix(series) = answer.value else {
            return Err(failed(&"the answer is not a range vector"));
        };
        let series = series.into_iter().map(|series| HistorySeries {
            labels: series
                .labels
                .iter()
                .map(|label| (String::from(label.name), String::from(label.value)))
                .collect(),
            samples: series
                .samples
                .iter()
                .enumerate()
                .filter(|(row, _)| series.samples.histogram(*row).is_none())
                .map(|(_, sample)| (sample.t, sample.v))
                .collect(),
        });
        Ok(series.collect())
    }
}

impl History for LocalHistory {
    fn range<'a>(
        &'a self,
        query: &'a str,
        from: Timestamp,
        to: Timestamp,
        step_ms: i64,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<HistorySeries>, HistoryError>> + Send + 'a>> {
        // Nothing else runs in these tools that the query could hold up.
        Box::pin(async move { self.ask(query, from, to, step_ms) })
    }
}

#[cfg(test)]
mod tests {
    use model::{Appender, Batch, Labels};

    use super::*;

    #[tokio::test]
    async fn a_directory_is_asked_while_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let store = Db::open(
            folder.path(),
            Arc::new(OsDisk),
            Arc::new(SystemClock),
            Options::default(),
            &telemetry::Registry::new(),
        )
        .unwrap();
        let from = 1_767_225_600_000;
        for step in 0..=4_i32 {
            for pod in ["a", "b"] {
                let pairs = [("__name__", "used_total"), ("pod", pod)];
                let labels = Labels::from_pairs(pairs).unwrap();
                let mut batch = Batch::new();
                batch.push_new(labels, from + i64::from(step) * 15_000, f64::from(step) * 30.0);
                assert!(store.append(&batch).unwrap().rejected.is_empty());
            }
        }
        let history = LocalHistory::open(folder.path()).unwrap();
        let rate = "sum by (pod) (irate(used_total[1m]))";
        let series = history.range(rate, from, from + 60_000, 30_000).await.unwrap();
        let expected = |pod: &str| HistorySeries {
            labels: vec![(String::from("pod"), String::from(pod))],
            samples: vec![(from + 30_000, 2.0), (from + 60_000, 2.0)],
        };
        assert_eq!(series, [expected("a"), expected("b")]);
        let error = history.range("sum(", from, from, 1).await.unwrap_err().to_string();
        assert!(error.starts_with("query \"sum(\": "), "{error}");
        let error = history.range("up", from, from, -1).await.unwrap_err().to_string();
        assert_eq!(error, "query \"up\": the step must be at least 1 ms");
        drop(store);
    }

    #[test]
    fn a_directory_that_is_not_there_is_named() {
        let error = LocalHistory::open(Path::new("/nowhere/at/all")).unwrap_err();
        assert_eq!(error.to_string(), "cannot open /nowhere/at/all");
    }
}
