//! Keeps the catalog: asks the source which series there are, again and again.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use api_client::Source;
use futures_util::StreamExt;
use model::{Clock, TimeRange};
use parking_lot::{Mutex, RwLock};
use tokio_util::sync::CancellationToken;

use super::catalog::{Catalog, Shapes, shapes};
use super::mapping::SharedResourceMap;
use super::objects::ResourceSource;
use super::rule::Rules;

/// Series requests that run at once.
const CONCURRENCY: usize = 4;

/// How soon what failed is tried again, at the latest.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// When the source is asked which series there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelistTimes {
    /// The time between two times.
    pub interval: Duration,
    /// A series that has had no sample for longer is not found.
    pub max_age: Duration,
}

impl Default for RelistTimes {
    fn default() -> Self {
        let interval = Duration::from_secs(600);
        Self { interval, max_age: interval }
    }
}

/// Builds the catalog. What cannot be read stays as it was: metrics do not vanish because a request fails.
pub(crate) struct Lister {
    rules: Arc<Rules>,
    source: Arc<dyn Source>,
    clock: Arc<dyn Clock>,
    times: RelistTimes,
    resources: SharedResourceMap,
    cluster: Option<Arc<dyn ResourceSource>>,
    found: Mutex<HashMap<String, Shapes>>,
    current: RwLock<State>,
}

#[derive(Clone, Default)]
struct State {
    catalog: Arc<Catalog>,
    /// Why selectors could not be read, by selector; those that never were are the ones that matter.
    missing: Arc<HashMap<String, String>>,
    /// Whether the first reading is over.
    tried: bool,
}

/// What is to be read.
struct Due {
    resources: bool,
    selectors: BTreeSet<String>,
}

impl Due {
    fn is_nothing(&self) -> bool {
        !self.resources && self.selectors.is_empty()
    }
}

impl Lister {
    pub(crate) fn new(
        rules: Arc<Rules>,
        source: Arc<dyn Source>,
        clock: Arc<dyn Clock>,
        times: RelistTimes,
        resources: SharedResourceMap,
        cluster: Option<Arc<dyn ResourceSource>>,
    ) -> Self {
        let (found, current) = (Mutex::default(), RwLock::default());
        Self { rules, source, clock, times, resources, cluster, found, current }
    }

    /// The metrics that there are.
    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.current.read().catalog)
    }

    /// Why a metric that is not in the catalog may still exist: nothing when every selector has been read.
    pub(crate) fn incomplete(&self) -> Option<String> {
        let current = self.current.read();
        if !current.tried {
            return Some(String::from("the list of metrics has not been read yet"));
        }
        let (query, reason) = current.missing.iter().min()?;
        Some(format!("the list of metrics is incomplete: series of {query:?}: {reason}"))
    }

    /// Whether everything has been asked for once, with whatever success.
    pub(crate) fn is_tried(&self) -> bool {
        self.current.read().tried
    }

    /// Reads everything every now and then until `shutdown`, and sooner what could not be read.
    pub(crate) async fn run(&self, shutdown: &CancellationToken) {
        let mut due = self.everything();
        let mut until_all = self.times.interval;
        loop {
            due = tokio::select! {
                failed = self.read(due) => failed,
                () = shutdown.cancelled() => return,
            };
            let wait = if due.is_nothing() { until_all } else { until_all.min(RETRY_AFTER) };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = shutdown.cancelled() => return,
            }
            until_all = until_all.saturating_sub(wait);
            if until_all.is_zero() {
                due = self.everything();
                until_all = self.times.interval;
            }
        }
    }

    fn everything(&self) -> Due {
        let rules = self.rules.custom.iter().chain(&self.rules.external);
        let selectors = rules.map(|rule| rule.series_query.clone()).collect();
        Due { resources: self.cluster.is_some(), selectors }
    }

    /// Reads everything once. Whether all of it could be read.
    pub(crate) async fn relist(&self) -> bool {
        self.read(self.everything()).await.is_nothing()
    }

    async fn read_resources(&self) -> bool {
        let Some(cluster) = &self.cluster else { return true };
        let map = match cluster.resources().await {
            Ok(map) => map,
            Err(error) => {
                tracing::warn!(%error, "the resources of the cluster are those of the last time");
                return false;
            }
        };
        for rule in self.rules.custom.iter().chain(&self.rules.external) {
            for (label, resource) in rule.labels.unresolved(&map) {
                let rule = &rule.place;
                tracing::warn!(rule, label, resource, "the cluster has no such resource");
            }
        }
        self.resources.set(map);
        true
    }

    /// Reads what is due. What could not be read is due again.
    async fn read(&self, due: Due) -> Due {
        let resources = due.resources && !self.read_resources().await;
        let mut failed = Due { resources, selectors: BTreeSet::new() };
        let now = self.clock.now();
        let age_ms = i64::try_from(self.times.max_age.as_millis()).unwrap_or(i64::MAX);
        let range = TimeRange::new(now.saturating_sub(age_ms), now);
        let source = &self.source;
        let asked = futures_util::stream::iter(due.selectors).map(|query| async move {
            let answer = source.series(&[&query], range).await;
            (query, answer.map(|answer| (shapes(&answer.value), answer.warnings)))
        });
        let answers: Vec<_> = asked.buffer_unordered(CONCURRENCY).collect().await;
        let mut found = self.found.lock();
        let mut missing = HashMap::clone(&self.current.read().missing);
        for (query, answer) in answers {
            match answer {
                Ok((shapes, warnings)) => {
                    if !warnings.is_empty() {
                        tracing::warn!(
                            query,
                            warnings = warnings.join("; "),
                            "series may be missing"
                        );
                    }
                    missing.remove(&query);
                    found.insert(query, shapes);
                }
                Err(error) => {
                    tracing::warn!(query, %error, "the series of a rule are those of the last time");
                    if !found.contains_key(&query) {
                        missing.insert(query.clone(), error.to_string());
                    }
                    failed.selectors.insert(query);
                }
            }
        }
        let catalog = Arc::new(Catalog::new(&self.rules, &found, &self.resources.get()));
        *self.current.write() = State { catalog, missing: Arc::new(missing), tried: true };
        failed
    }
}
