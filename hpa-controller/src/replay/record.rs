//! A scenario from what was recorded.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::queries::{Described, Queries, Source};
use super::scenario::{Found, Model, Requests, Scenario, Signal};
use super::{Grid, PodRequests, REPLICAS_MAX, ReplayError, Subject};
use crate::beyond;
use crate::decide::effective_metrics;
use crate::forecast::Demand;
use crate::inputs::ContainerRequests;
use crate::sources::{History, HistorySeries};

/// Most changes of requests that a scenario follows. Requests change with releases; what changes more often is an expression of
/// somebody's own making.
const REQUEST_CHANGES_MAX: usize = 1_000;

/// At how many of a hundred times readiness must be known for only pods that were ready to count: where it is missing no pod would.
const READY_PERCENT: usize = 95;

/// The past on a grid. What several autoscalers need is asked once.
pub struct Archive<'h> {
    history: &'h dyn History,
    grid: Grid,
    answers: HashMap<String, Arc<[HistorySeries]>>,
    /// Called after each question with its text.
    asked: &'h mut dyn FnMut(&str),
}

impl std::fmt::Debug for Archive<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Archive").field("grid", &self.grid).finish_non_exhaustive()
    }
}

impl<'h> Archive<'h> {
    /// Asks `history` for the times of `grid`, and calls `asked` with each query that was answered.
    pub fn new(history: &'h dyn History, grid: Grid, asked: &'h mut dyn FnMut(&str)) -> Self {
        Self { history, grid, answers: HashMap::new(), asked }
    }

    async fn series(&mut self, query: &str) -> Result<Arc<[HistorySeries]>, ReplayError> {
        if let Some(known) = self.answers.get(query) {
            return Ok(Arc::clone(known));
        }
        let (from, to, step_ms) = (self.grid.from(), self.grid.to(), self.grid.step_ms());
        let series: Arc<[_]> = self.history.range(query, from, to, step_ms).await?.into();
        self.answers.insert(String::from(query), Arc::clone(&series));
        (self.asked)(query);
        Ok(series)
    }

    /// The one series of an aggregation, and what to say about it.
    async fn values(
        &mut self,
        what: String,
        query: String,
    ) -> Result<(Vec<f64>, Found), ReplayError> {
        let series = self.series(&query).await?;
        let values = match series.first() {
            Some(series) => self.grid.place(series),
            None => vec![f64::NAN; self.grid.len()],
        };
        let points = values.iter().filter(|value| value.is_finite()).count();
        Ok((values, Found { what, query, points, of: self.grid.len() }))
    }
}

/// What history says about `subject`, under the assumptions of `model`.
///
/// A metric that was not recorded fails in every decision, as it would have; a note says so. `replicas` are those to begin with; what
/// was recorded, or the lower bound, if not given.
///
/// # Errors
/// [`ReplayError`]: history cannot be asked, there is no query for a metric, no metric was recorded at all, or a target is a percentage of
/// requests that nothing tells.
pub async fn record(
    archive: &mut Archive<'_>,
    subject: &Subject,
    queries: &Queries,
    model: Model,
    startup_delay: Duration,
    replicas: Option<i32>,
) -> Result<Scenario, ReplayError> {
    let grid = archive.grid;
    let mut found = Vec::new();
    let mut notes = Vec::new();
    let entries = effective_metrics(&subject.spec);
    let described: Vec<Option<Described>> = entries.iter().map(Described::of).collect();

    let ready = readiness(archive, subject, queries, &described).await?;
    let ready_known =
        ready.as_ref().is_some_and(|said| said.points * 100 >= said.of * READY_PERCENT);
    let asked = Asked { subject, queries, ready_known };
    let recorded = recorded_replicas(archive, asked, &described, &mut found).await?;
    if recorded.is_none() {
        notes.push(String::from(
            "replicas were not recorded: how well the replay reproduces what happened is not known",
        ));
    }

    let mut signals = Vec::new();
    for (index, metric) in described.iter().enumerate() {
        let Some(metric) = metric else {
            notes.push(format!("entry {index} of spec.metrics has no known type and fails"));
            signals.push(None);
            continue;
        };
        let source = signal(archive, asked, model, metric, recorded.as_deref(), &mut notes);
        let (signal, said) = source.await?;
        if said.points == 0 {
            notes.push(format!("{} was not recorded and fails in every decision", metric.key));
        } else if said.points < said.of {
            let missing = said.of - said.points;
            notes.push(format!(
                "{} is missing at {missing} of {} times and fails there",
                metric.key, said.of
            ));
        }
        found.push(said);
        signals.push(Some(signal));
    }
    if !signals.iter().flatten().any(|s| s.values_milli.iter().any(|value| value.is_finite())) {
        return Err(ReplayError::NothingFound {
            label: subject.label.clone(),
            namespace: subject.namespace.clone(),
            name: subject.name.clone(),
            from: grid.from(),
            to: grid.to(),
            queries: found.into_iter().map(|found| found.query).collect(),
        });
    }
    if let Some(said) = ready {
        if said.points == 0 {
            notes.push(String::from(
                "readiness of pods was not recorded: what pods used while they started counts as load",
            ));
        }
        found.push(said);
    }
    let requests = requests(archive, subject, queries, &described, &mut found).await?;
    let forecast = forecast(archive, subject, &mut found).await;
    let begin = replicas.or_else(|| first_replicas(recorded.as_deref()));
    Ok(Scenario {
        grid,
        model,
        startup_delay,
        signals,
        requests,
        replicas: begin.unwrap_or_else(|| subject.spec.min_replicas.unwrap_or(1).max(1)),
        recorded,
        forecast,
        found,
        notes,
    })
}

/// What forecasts are made from, if annotations ask for them. Without it the replay goes on as the controller would.
async fn forecast(
    archive: &mut Archive<'_>,
    subject: &Subject,
    found: &mut Vec<Found>,
) -> Option<Result<Demand, String>> {
    let policy = beyond::parse(&subject.annotations).0.forecast?;
    let (first, last) = (archive.grid.from(), archive.grid.to());
    let demand = Demand::ask(archive.history, &subject.namespace, &policy, first, last).await;
    if let Ok(demand) = &demand {
        (archive.asked)(demand.query());
        let (points, of) = demand.known();
        let what = String::from("demand for the forecast");
        found.push(Found { what, query: String::from(demand.query()), points, of });
    }
    Some(demand)
}

/// For whom history is asked, and how.
#[derive(Clone, Copy)]
struct Asked<'s> {
    subject: &'s Subject,
    queries: &'s Queries,
    ready_known: bool,
}

impl Asked<'_> {
    fn metric(&self, metric: &Described) -> Result<String, String> {
        self.queries.metric(self.subject, metric, self.ready_known)
    }
}

/// Whether readiness of pods was recorded; `None` if no metric is one of pods.
async fn readiness(
    archive: &mut Archive<'_>,
    subject: &Subject,
    queries: &Queries,
    described: &[Option<Described>],
) -> Result<Option<Found>, ReplayError> {
    if !described.iter().flatten().any(Described::per_pod) {
        return Ok(None);
    }
    let query = format!("sum({})", queries.ready(subject));
    let (_, said) = archive.values(String::from("pods that were ready"), query).await?;
    Ok(Some(said))
}

/// One metric over time, and what was asked for it.
async fn signal(
    archive: &mut Archive<'_>,
    asked: Asked<'_>,
    model: Model,
    metric: &Described,
    recorded: Option<&[f64]>,
    notes: &mut Vec<String>,
) -> Result<(Signal, Found), ReplayError> {
    let expression = asked.metric(metric).map_err(|reason| ReplayError::NoQuery {
        label: asked.subject.label.clone(),
        metric: metric.key.clone(),
        reason,
    })?;
    let (what, aggregate, mut shared) = match (metric.per_pod(), model) {
        (true, Model::Load) => ("total over pods", "sum", true),
        (true, Model::Fixed) => ("mean of the pods", "avg", false),
        (false, _) => ("value", "sum", false),
    };
    let query = format!("{aggregate}({expression})");
    let (mut values, said) = archive.values(format!("{}: {what}", metric.key), query).await?;
    for value in &mut values {
        *value *= 1000.0;
    }
    if metric.falls_with_replicas && model == Model::Load {
        match recorded {
            Some(recorded) => {
                shared = true;
                for (value, replicas) in values.iter_mut().zip(recorded) {
                    *value *= replicas;
                }
            }
            None => notes.push(format!(
                "{} is taken as recorded, since it is not known how many replicas it was measured with",
                metric.key
            )),
        }
    }
    let signal = Signal {
        name: metric.key.clone(),
        api: metric.api(),
        values_milli: values,
        per_pod: metric.per_pod(),
        shared,
    };
    Ok((signal, said))
}

/// Replicas as they were: what the target asked for, else how many there were, else pods that used something.
async fn recorded_replicas(
    archive: &mut Archive<'_>,
    asked: Asked<'_>,
    described: &[Option<Described>],
    found: &mut Vec<Found>,
) -> Result<Option<Vec<f64>>, ReplayError> {
    let Asked { subject, queries, .. } = asked;
    let mut candidates: Vec<(&str, String)> =
        queries.replicas(subject).into_iter().map(|query| ("replicas", query)).collect();
    let of_pods = described.iter().flatten().find(|metric| metric.per_pod());
    if queries.replicas.is_none()
        && let Some(Ok(expression)) = of_pods.map(|metric| asked.metric(metric))
    {
        candidates.push(("replicas, by pods with a value", format!("count({expression})")));
    }
    let mut missed = Vec::new();
    for (what, query) in candidates {
        let (mut values, said) = archive.values(String::from(what), query).await?;
        if said.points > 0 {
            found.push(said);
            fill(&mut values);
            return Ok(Some(values));
        }
        missed.push(said);
    }
    found.extend(missed);
    Ok(None)
}

/// Requests of the pod template if it was given, else as they were recorded. Resources that a target measures against must be known; CPU
/// is asked for in any case, for core-hours.
async fn requests(
    archive: &mut Archive<'_>,
    subject: &Subject,
    queries: &Queries,
    described: &[Option<Described>],
    found: &mut Vec<Found>,
) -> Result<Vec<Requests>, ReplayError> {
    let mut needed: BTreeMap<&str, BTreeSet<Option<&str>>> = BTreeMap::new();
    for metric in described.iter().flatten().filter(|metric| metric.utilization) {
        if let Source::Resource { name, container } = &metric.source {
            needed.entry(name).or_default().insert(container.as_deref());
        }
    }
    let given = subject.requests.clone().map(|of| Requests { from_step: 0, of });
    let told = |requests: &Requests| {
        needed
            .iter()
            .all(|(name, of)| of.iter().all(|container| requests.of.know(name, *container)))
    };
    if let Some(given) = given
        && told(&given)
    {
        return Ok(vec![given]);
    }
    let resources: BTreeSet<&str> = needed.keys().copied().chain(["cpu"]).collect();
    let mut recorded = Vec::new();
    for resource in resources {
        let query = queries.requests(subject, resource);
        let answer = archive.series(&query).await?;
        let placed = |series| {
            let mut values = archive.grid.place(series);
            fill(&mut values);
            ContainerRequest { container: label(series, "container"), resource, values }
        };
        let placed: Vec<ContainerRequest<'_>> = answer.iter().map(placed).collect();
        let known = |step: &usize| placed.iter().any(|request| request.values[*step].is_finite());
        let points = (0..archive.grid.len()).filter(known).count();
        let what = format!("requests of {resource}");
        found.push(Found { what, query: query.clone(), points, of: archive.grid.len() });
        if points == 0 && needed.contains_key(resource) {
            return Err(ReplayError::NoRequests {
                label: subject.label.clone(),
                resource: String::from(resource),
                query: Some(query),
            });
        }
        recorded.extend(placed);
    }
    Ok(changes(&recorded, archive.grid.len()))
}

/// What a container requested of a resource over time.
struct ContainerRequest<'r> {
    container: String,
    resource: &'r str,
    values: Vec<f64>,
}

/// The steps at which requests change, with what they change to.
fn changes(recorded: &[ContainerRequest<'_>], len: usize) -> Vec<Requests> {
    let mut changes: Vec<Requests> = Vec::new();
    for step in 0..len {
        let unchanged =
            |r: &ContainerRequest<'_>| r.values[step].to_bits() == r.values[step - 1].to_bits();
        let same = step > 0 && recorded.iter().all(unchanged);
        if same || changes.len() >= REQUEST_CHANGES_MAX {
            continue;
        }
        let mut containers: BTreeMap<&str, ContainerRequests> = BTreeMap::new();
        for request in recorded.iter().filter(|request| request.values[step].is_finite()) {
            let name = &request.container;
            let container = containers.entry(name).or_insert_with(|| ContainerRequests {
                name: name.clone(),
                ..ContainerRequests::default()
            });
            let requested = whole(request.values[step] * 1000.0);
            container.requests_milli.insert(String::from(request.resource), requested);
        }
        let containers: Vec<_> = containers.into_values().collect();
        let of = PodRequests { pod_milli: None, containers };
        if changes.last().is_none_or(|last| last.of != of) {
            changes.push(Requests { from_step: step, of });
        }
    }
    if changes.iter().all(|change| change.of.containers.is_empty()) {
        changes.clear();
    }
    changes
}

fn label(series: &HistorySeries, name: &str) -> String {
    let found = series.labels.iter().find(|(label, _)| label == name);
    found.map(|(_, value)| value.clone()).unwrap_or_default()
}

/// Puts what was last known where nothing is, and what is first known before that: replicas and requests do not vanish with a scrape.
fn fill(values: &mut [f64]) {
    let Some(mut last) = values.iter().copied().find(|value| value.is_finite()) else { return };
    for value in values {
        if value.is_finite() {
            last = *value;
        } else {
            *value = last;
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a cast from float saturates")]
fn whole(value: f64) -> i64 {
    value.round() as i64
}

#[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
fn first_replicas(recorded: Option<&[f64]>) -> Option<i32> {
    let first = recorded?.iter().copied().find(|value| value.is_finite())?;
    (0.0..=f64::from(REPLICAS_MAX)).contains(&first).then_some(first.round() as i32)
}
