//! Metrics of pods without rules.
//!
//! Whoever can make a series with another tenant's `namespace` and `pod` can scale that tenant's workloads, so a series
//! counts only if its labels provably come from service discovery. What a Prometheus API tells allows this much:
//!
//! - No job of the configuration may honour the labels of what it scrapes, or change labels of scraped samples
//!   (`metric_relabel_configs` that can write `job`, `instance`, `namespace` or `pod`): a sample could then carry the labels
//!   of a target of any other job. One such job, or one that the configuration does not show (`scrape_config_files`), and
//!   nothing is served.
//! - A target is trusted if its labels `namespace` and `pod` are what Kubernetes discovery said
//!   (`__meta_kubernetes_namespace`, `__meta_kubernetes_pod_name`), and its job has no other discovery, which may claim to
//!   have seen any pod, nor asks another cluster's API server.
//! - Every target has `job` and `instance`, which what it exposes cannot replace. A series counts if a trusted target has
//!   its `job`, `instance`, `namespace` and `pod`, and no other target has the same `job` and `instance`.
//! - Series that did not come from scraping could carry any labels: a server that takes remote write or OTLP is not
//!   trusted at all, nor is one that does not say whether it does, and the names that recording rules write are not
//!   served.
//!
//! Counters become rates, gauges are added up as they are; what has no type, or more than one, is not served.
//!
//! Limits: kube-prometheus's kubelet job honours labels, so nothing is served there. Types are what targets declare, of
//! whatever tenant: a target that declares another type for a metric switches it off for all. The API tells the present
//! only: a sample that was scraped under an earlier configuration, or from a target that is gone, counts for as long as
//! queries look back. Alerting rules write `ALERTS`, which has no declared type. Whoever can change the configuration or
//! the rules of the server is trusted.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use api_client::{AskError, Inventory, MetricType, Reading, Sample, Target, Value};
use metrics_api::LabelSelector;
use model::{Clock, Labels, TimeRange, Timestamp};
use parking_lot::RwLock;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::cache::Queries;
use super::engine::Values;
use super::failure::Failure;
use super::query::{QueryTemplate, pod_query};
use super::relist::RelistTimes;

/// How often targets are read: a pod that starts has a value only once its target is known.
const TARGETS_INTERVAL: Duration = Duration::from_secs(15);

/// How old what is known of targets may be. Beyond, nothing is trusted.
const TARGETS_AGE_MS_MAX: i64 = 120_000;

/// The name that messages give to these rules.
const PLACE: &str = "default rules";

/// Labels that say which target a sample is of.
const IDENTITY: [&str; 4] = ["job", "instance", "namespace", "pod"];

/// All jobs, and whether all of their targets are told by Kubernetes.
type Jobs = HashMap<String, bool>;

/// Jobs and instances, and the pods behind them.
type Origins = HashMap<(String, String), Origin>;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    /// One trusted target, or several of the same pod.
    Pod { namespace: String, pod: String },
    /// A target that is not trusted, or several that disagree.
    Unknown,
}

/// A metric: the series behind it, and what to do with it.
#[derive(Clone, Debug)]
pub(super) struct DefaultMetric {
    name: String,
    series: String,
    template: Arc<QueryTemplate>,
}

#[derive(Clone)]
struct State {
    /// By name.
    metrics: Arc<BTreeMap<String, DefaultMetric>>,
    origins: Arc<Origins>,
    /// What recording rules write, sorted.
    recorded: Arc<[String]>,
    /// Whether it was tried to read `metrics`.
    tried: bool,
    /// Whether `metrics` have been read.
    named: bool,
    /// When `origins` were read.
    read_at: Option<Timestamp>,
    /// Why nothing is served.
    refused: Option<String>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            metrics: Arc::default(),
            origins: Arc::default(),
            recorded: Arc::new([]),
            tried: false,
            named: false,
            read_at: None,
            refused: None,
        }
    }
}

impl State {
    fn serves(&self, metric: &DefaultMetric) -> bool {
        self.recorded.binary_search(&metric.series).is_err()
    }
}

/// Serves series of pods whose origin is verified.
pub(super) struct DefaultRules {
    inventory: Arc<dyn Inventory>,
    queries: Arc<Queries>,
    clock: Arc<dyn Clock>,
    times: RelistTimes,
    gauge: Arc<QueryTemplate>,
    counter: Arc<QueryTemplate>,
    state: RwLock<State>,
}

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("the server may take samples from anyone: its flag {0}{1}")]
    Receives(&'static str, &'static str),
    #[error("the server reads the series of others: its configuration has remote_read")]
    RemoteRead,
    #[error(
        "samples of job {0:?} can have the labels of others: it honours labels, or relabels what it scrapes"
    )]
    Honours(String),
    #[error("the configuration of the server does not show all jobs: it has scrape_config_files")]
    Files,
    #[error("the configuration of the server does not show all jobs: {0:?} is missing")]
    UnknownJob(String),
    #[error("the configuration of the server cannot be read: {0}")]
    Configuration(String),
}

impl DefaultRules {
    pub(super) fn new(
        inventory: Arc<dyn Inventory>,
        queries: Arc<Queries>,
        clock: Arc<dyn Clock>,
        times: RelistTimes,
    ) -> Self {
        let template = |source| {
            let template = QueryTemplate::parse(source);
            Arc::new(template.expect("the templates are constants that a test renders"))
        };
        Self {
            inventory,
            queries,
            clock,
            times,
            gauge: template("<<.Series>>{<<.LabelMatchers>>}"),
            counter: template("rate(<<.Series>>{<<.LabelMatchers>>}[2m])"),
            state: RwLock::default(),
        }
    }

    /// Keeps what is known until `shutdown`.
    pub(super) async fn run(&self, shutdown: &CancellationToken) {
        let mut until_names = Duration::ZERO;
        loop {
            let names_are_due = until_names.is_zero();
            let work = async {
                self.refresh_origins().await;
                !names_are_due || self.refresh_names().await
            };
            let complete = tokio::select! {
                complete = work => complete,
                () = shutdown.cancelled() => return,
            };
            until_names = match (names_are_due, complete) {
                (true, true) => self.times.interval,
                (true, false) => Duration::ZERO,
                (false, _) => until_names.saturating_sub(TARGETS_INTERVAL),
            };
            tokio::select! {
                () = tokio::time::sleep(TARGETS_INTERVAL) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// Reads names, types and origins once. Whether it went well; what cannot be read stays as it was.
    pub(super) async fn refresh(&self) -> bool {
        let origins = self.refresh_origins().await;
        self.refresh_names().await && origins
    }

    async fn refresh_names(&self) -> bool {
        let read = self.names().await;
        let mut state = self.state.write();
        state.tried = true;
        match read {
            Ok(metrics) => {
                state.metrics = Arc::new(metrics);
                state.named = true;
                true
            }
            Err(error) => {
                tracing::warn!(%error, "the metrics of the default rules are those of the last time");
                false
            }
        }
    }

    async fn refresh_origins(&self) -> bool {
        let read_at = self.clock.now();
        let read = self.origins().await;
        let mut state = self.state.write();
        match read {
            Ok((origins, recorded)) => {
                state.origins = Arc::new(origins);
                state.recorded = Arc::from(recorded);
                state.read_at = Some(read_at);
                state.refused = None;
                true
            }
            Err(error @ Refused::Ask(_)) => {
                tracing::warn!(%error, "the targets are those of the last time");
                state.refused = Some(error.to_string());
                false
            }
            Err(error) => {
                tracing::warn!(%error, "the default rules serve nothing");
                // The names stay: what is asked for meanwhile is not known to be missing.
                state.origins = Arc::default();
                state.read_at = None;
                state.refused = Some(error.to_string());
                false
            }
        }
    }

    async fn origins(&self) -> Result<(Origins, Vec<String>), Refused> {
        let flags = self.inventory.flags().await?.value;
        takes_no_samples(&flags)?;
        let configuration = self.inventory.configuration().await?.value;
        let jobs = jobs(&configuration)?;
        let targets = self.inventory.targets().await?.value;
        if let Some(target) = targets.iter().find(|target| !jobs.contains_key(&target.scrape_pool))
        {
            return Err(Refused::UnknownJob(target.scrape_pool.clone()));
        }
        let recorded = self.inventory.recorded().await?.value;
        Ok((origins(&targets, &jobs), recorded))
    }

    async fn names(&self) -> Result<BTreeMap<String, DefaultMetric>, AskError> {
        let types = self.inventory.metadata().await?.value;
        let now = self.clock.now();
        let age_ms = i64::try_from(self.times.max_age.as_millis()).unwrap_or(i64::MAX);
        let range = TimeRange::new(now.saturating_sub(age_ms), now);
        let matchers = ["{namespace!=\"\",pod!=\"\"}"];
        let source = self.queries.source();
        let names = source.label_values(model::METRIC_NAME, &matchers, range).await?.value;
        let mut metrics = BTreeMap::new();
        for series in names {
            if !model::is_legacy_metric_name(&series) {
                continue;
            }
            let family = series.strip_suffix("_total").unwrap_or(&series);
            // OpenMetrics declares a counter without its suffix.
            let declared = types.get(&series).or_else(|| types.get(family));
            let (name, template) = match declared.map(Vec::as_slice) {
                Some([MetricType::Gauge]) => (series.as_str(), &self.gauge),
                Some([MetricType::Counter]) => (family, &self.counter),
                _ => continue,
            };
            let template = Arc::clone(template);
            let name = String::from(name);
            metrics.insert(name.clone(), DefaultMetric { name, series, template });
        }
        Ok(metrics)
    }

    /// The metric of this name.
    pub(super) fn metric(&self, name: &str) -> Option<DefaultMetric> {
        let state = self.state.read();
        state.metrics.get(name).filter(|metric| state.serves(metric)).cloned()
    }

    /// The names of all metrics.
    pub(super) fn metrics(&self) -> Vec<String> {
        let state = self.state.read();
        let served = state.metrics.values().filter(|metric| state.serves(metric));
        served.map(|metric| metric.name.clone()).collect()
    }

    /// Whether everything has been asked for once, with whatever success.
    pub(super) fn is_tried(&self) -> bool {
        self.state.read().tried
    }

    /// Why a metric that is not known may still exist.
    pub(super) fn incomplete(&self) -> Option<String> {
        let state = self.state.read();
        match &state.refused {
            Some(reason) => Some(format!("{PLACE}: {reason}")),
            None if state.named && state.read_at.is_some() => None,
            None => Some(format!("{PLACE}: the list of metrics has not been read yet")),
        }
    }

    /// The values of `metric` for pods of `namespace`.
    pub(super) async fn values(
        &self,
        metric: &DefaultMetric,
        namespace: &str,
        names: &[String],
        selector: &LabelSelector,
    ) -> Result<Values, Failure> {
        let (origins, read_at) = {
            let state = self.state.read();
            (Arc::clone(&state.origins), state.read_at)
        };
        let age_ms = read_at.map(|read_at| self.clock.now().saturating_sub(read_at));
        if age_ms.is_none_or(|age_ms| age_ms > TARGETS_AGE_MS_MAX) {
            let why = String::from("the origin of series cannot be verified");
            return Err(Failure::NotYet(self.incomplete().unwrap_or(why)));
        }
        let fails = |error| Failure::Query {
            metric: metric.name.clone(),
            rule: String::from(PLACE),
            error,
        };
        let query = pod_query(&metric.template, &metric.series, namespace, names, selector);
        let answer = self.queries.ask(&query.map_err(fails)?).await;
        let answer = answer.map_err(|error| Failure::Ask {
            metric: metric.name.clone(),
            rule: String::from(PLACE),
            error,
        })?;
        let Value::Vector(samples) = &answer.value else {
            return Err(Failure::Answer {
                metric: metric.name.clone(),
                rule: String::from(PLACE),
                reason: format!("the query gives a {}", answer.value.type_name()),
            });
        };
        Ok(Values {
            rule: String::from(PLACE),
            samples: sums(samples, namespace, names, &origins),
            window_s: metric.template.window_s(),
            warnings: answer.warnings.clone(),
        })
    }
}

/// The sum of each pod's verified samples, in the order of `names`.
fn sums(
    samples: &[Sample],
    namespace: &str,
    names: &[String],
    origins: &Origins,
) -> Vec<(String, Sample)> {
    let mut sums: HashMap<&str, Sample> = HashMap::new();
    for sample in samples {
        let label = |name| sample.labels.get(name).unwrap_or_default();
        let key = (String::from(label("job")), String::from(label("instance")));
        let Some(Origin::Pod { namespace: from, pod }) = origins.get(&key) else { continue };
        if from != label("namespace") || pod != label("pod") || from != namespace {
            continue;
        }
        match (sums.get_mut(pod.as_str()), sample.reading) {
            (Some(sum), Reading::Float(value)) => {
                if let Reading::Float(before) = sum.reading {
                    sum.reading = Reading::Float(before + value);
                }
            }
            (Some(sum), Reading::Histogram) => sum.reading = Reading::Histogram,
            (None, reading) => {
                let (labels, at) = (Labels::empty(), sample.at);
                sums.insert(pod, Sample { labels, at, reading });
            }
        }
    }
    names.iter().filter_map(|name| Some((name.clone(), sums.remove(name.as_str())?))).collect()
}

/// Who is behind each job and instance.
fn origins(targets: &[Target], jobs: &Jobs) -> Origins {
    let mut origins = Origins::new();
    for target in targets {
        let label = |name| String::from(target.labels.get(name).unwrap_or_default());
        let origin = origin(target, jobs);
        let known = origins.entry((label("job"), label("instance")));
        known
            .and_modify(|known| {
                if *known != origin {
                    *known = Origin::Unknown;
                }
            })
            .or_insert_with(|| origin.clone());
    }
    origins
}

fn origin(target: &Target, jobs: &Jobs) -> Origin {
    let pair = |label, discovered| {
        let value = target.labels.get(label)?;
        (target.discovered.get(discovered) == Some(value)).then(|| String::from(value))
    };
    let namespace = pair("namespace", "__meta_kubernetes_namespace");
    let pod = pair("pod", "__meta_kubernetes_pod_name");
    match (namespace, pod) {
        (Some(namespace), Some(pod)) if jobs.get(&target.scrape_pool) == Some(&true) => {
            Origin::Pod { namespace, pod }
        }
        _ => Origin::Unknown,
    }
}

/// Whether samples come from scraping alone. A server that does not say so may take them from anyone: servers with the
/// same API that receive by nature have no such flag.
fn takes_no_samples(flags: &BTreeMap<String, String>) -> Result<(), Refused> {
    const REMOTE_WRITE: &str = "web.enable-remote-write-receiver";
    const OTLP: &str = "web.enable-otlp-receiver";
    const FEATURES: &str = "enable-feature";
    let value = |flag| flags.get(flag).map(String::as_str);
    match value(REMOTE_WRITE) {
        Some("false") => {}
        Some(_) => return Err(Refused::Receives(REMOTE_WRITE, " is set")),
        None => return Err(Refused::Receives(REMOTE_WRITE, " is missing")),
    }
    if value(OTLP).is_some_and(|value| value != "false") {
        return Err(Refused::Receives(OTLP, " is set"));
    }
    // Where early versions have these receivers.
    if value(FEATURES).is_some_and(|features| features.contains("write-receiver")) {
        return Err(Refused::Receives(FEATURES, " has a receiver"));
    }
    Ok(())
}

#[derive(Deserialize)]
struct ConfigurationYaml {
    #[serde(default)]
    scrape_configs: Option<Vec<JobYaml>>,
    #[serde(default)]
    scrape_config_files: Option<Vec<serde::de::IgnoredAny>>,
    #[serde(default)]
    remote_read: Option<Vec<serde::de::IgnoredAny>>,
}

#[derive(Deserialize)]
struct JobYaml {
    job_name: String,
    #[serde(default)]
    honor_labels: bool,
    #[serde(default)]
    metric_relabel_configs: Option<Vec<RelabelYaml>>,
    #[serde(default)]
    kubernetes_sd_configs: Option<Vec<KubernetesYaml>>,
    /// Everything else.
    #[serde(flatten)]
    rest: BTreeMap<String, serde::de::IgnoredAny>,
}

impl JobYaml {
    /// Whether what is scraped cannot choose the labels of its target, or of another's.
    fn keeps_labels(&self) -> bool {
        let relabels = self.metric_relabel_configs.iter().flatten();
        !self.honor_labels && relabels.into_iter().all(RelabelYaml::is_harmless)
    }

    /// Whether all of its targets are told by the Kubernetes that the server runs in: other kinds of discovery, and other
    /// clusters, may claim any labels.
    fn is_discovered(&self) -> bool {
        let mut kubernetes = self.kubernetes_sd_configs.iter().flatten().peekable();
        let others = |field: &str| field.ends_with("_sd_configs");
        kubernetes.peek().is_some()
            && kubernetes.all(KubernetesYaml::is_own_cluster)
            && !self.rest.contains_key("static_configs")
            && !self.rest.keys().any(|field| others(field))
    }
}

#[derive(Deserialize)]
struct KubernetesYaml {
    #[serde(default)]
    api_server: Option<String>,
    #[serde(default)]
    kubeconfig_file: Option<String>,
}

impl KubernetesYaml {
    fn is_own_cluster(&self) -> bool {
        let given = [&self.api_server, &self.kubeconfig_file];
        given.into_iter().flatten().all(String::is_empty)
    }
}

#[derive(Deserialize)]
struct RelabelYaml {
    #[serde(default = "replace")]
    action: String,
    #[serde(default)]
    target_label: Option<String>,
}

fn replace() -> String {
    String::from("replace")
}

impl RelabelYaml {
    /// Whether it can only leave out series or labels, or write a label that says nothing of the target.
    fn is_harmless(&self) -> bool {
        let target = self.target_label.as_deref().unwrap_or_default();
        match self.action.to_ascii_lowercase().as_str() {
            "keep" | "drop" | "keepequal" | "dropequal" | "labeldrop" | "labelkeep" => true,
            "replace" => !target.is_empty() && !target.contains('$') && !IDENTITY.contains(&target),
            _ => false,
        }
    }
}

/// The jobs, if the samples of none can carry labels of another's targets.
fn jobs(configuration: &str) -> Result<Jobs, Refused> {
    let read: ConfigurationYaml = serde_saphyr::from_str(configuration)
        .map_err(|error| Refused::Configuration(error.to_string()))?;
    if read.remote_read.is_some_and(|servers| !servers.is_empty()) {
        return Err(Refused::RemoteRead);
    }
    if read.scrape_config_files.is_some_and(|files| !files.is_empty()) {
        return Err(Refused::Files);
    }
    let mut jobs = Jobs::new();
    for job in read.scrape_configs.into_iter().flatten() {
        if !job.keeps_labels() {
            return Err(Refused::Honours(job.job_name));
        }
        let discovered = job.is_discovered();
        jobs.entry(job.job_name).and_modify(|all| *all &= discovered).or_insert(discovered);
    }
    Ok(jobs)
}
