//! What happens to the target of an autoscaler, and what is assumed about it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::curve::Curve;
use super::queries::{Described, Source};
use super::{Grid, PodRequests, ReplayError, Subject};
use crate::decide::effective_metrics;
use crate::forecast::Demand;

/// What is assumed about metrics when there are other replicas than there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Model {
    /// What was used in total was the load, and whatever replicas there are share it evenly. A new pod takes its share after a delay.
    /// A metric with a target `Value` is taken to fall as replicas are added; a total (`AverageValue` of an object or an external
    /// metric) stays what it was.
    #[default]
    Load,
    /// Values are what they were, a pod's too (the mean of the pods), whatever replicas there are.
    Fixed,
}

impl Model {
    /// What is assumed, in a sentence.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Load => {
                "load: what was used in total is shared evenly by the replicas of the replay that have started"
            }
            Self::Fixed => {
                "fixed: values are as recorded, those of pods as their mean, and do not react to replicas"
            }
        }
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Load => "load",
            Self::Fixed => "fixed",
        })
    }
}

impl FromStr for Model {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "load" => Ok(Self::Load),
            "fixed" => Ok(Self::Fixed),
            _ => Err(format!("{text:?} is not load or fixed")),
        }
    }
}

/// A metric over time.
#[derive(Clone, Debug, PartialEq)]
pub struct Signal {
    /// What flags and outputs call it.
    pub name: String,
    /// The API that answers, in errors: `resource`, `custom` or `external`.
    pub api: &'static str,
    /// A value for each time of the grid, in thousandths; NaN where it is not known.
    pub values_milli: Vec<f64>,
    /// There is a value for each pod, not one of the whole.
    pub per_pod: bool,
    /// The values are totals that the replicas share.
    pub shared: bool,
}

/// Requests of pods, from a step on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requests {
    /// The first step that they hold for.
    pub from_step: usize,
    /// What a pod requests.
    pub of: PodRequests,
}

/// What was looked for, and how much of it there was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    /// What it is.
    pub what: String,
    /// What was asked, in PromQL.
    pub query: String,
    /// At how many of the times it is known.
    pub points: usize,
    /// How many times there are.
    pub of: usize,
}

/// All that a replay goes by.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// When decisions are made.
    pub grid: Grid,
    /// What is assumed.
    pub model: Model,
    /// How long a new pod takes no load and is not ready.
    pub startup_delay: Duration,
    /// For each entry of `spec.metrics` what it shows; `None` where nothing is known of it.
    pub signals: Vec<Option<Signal>>,
    /// Requests of pods in order of time, the first from step 0 on; empty if no metric needs them and they are not known.
    pub requests: Vec<Requests>,
    /// Replicas to begin with.
    pub replicas: i32,
    /// Replicas as they were, NaN where that is not known.
    pub recorded: Option<Vec<f64>>,
    /// What forecasts are made from, or why none can be; `None` where annotations ask for none, and where the load is made up.
    pub forecast: Option<Result<Demand, String>>,
    /// What history was asked for.
    pub found: Vec<Found>,
    /// What whoever reads the result should know.
    pub notes: Vec<String>,
}

/// A scenario in which the demand for `metric` (the only one, if not given) follows a curve. Other metrics are left out of the
/// specification of `subject`, with a note.
///
/// # Errors
/// [`ReplayError::NoMetric`], [`ReplayError::NoRequests`]
pub fn simulated(
    subject: &mut Subject,
    metric: Option<&str>,
    curve: &Curve,
    grid: Grid,
    startup_delay: Duration,
    replicas: Option<i32>,
) -> Result<Scenario, ReplayError> {
    let entries = effective_metrics(&subject.spec).to_vec();
    let described: Vec<Option<Described>> = entries.iter().map(Described::of).collect();
    let known: Vec<String> = described.iter().flatten().map(|metric| metric.key.clone()).collect();
    let missing = |metric: &str| ReplayError::NoMetric {
        label: subject.label.clone(),
        metric: String::from(metric),
        metrics: known.clone(),
    };
    let wanted = match metric {
        Some(metric) => metric,
        None => known.first().ok_or_else(|| missing(""))?,
    };
    let at = described.iter().position(|entry| entry.as_ref().is_some_and(|m| m.key == wanted));
    let at = at.ok_or_else(|| missing(wanted))?;
    let Some(driven) = described.into_iter().nth(at).flatten() else { return Err(missing(wanted)) };

    let mut notes = Vec::new();
    let left_out: Vec<&String> = known.iter().filter(|name| *name != wanted).collect();
    if !left_out.is_empty() {
        let names = left_out.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
        notes.push(format!(
            "the curve is the demand for {wanted}; left out of the specification: {names}"
        ));
    }
    subject.spec.metrics = entries.get(at).cloned().map(|entry| vec![entry]);

    let values_milli =
        (0..grid.len()).map(|step| curve.at(grid.at(step) - grid.from()) * 1000.0).collect();
    let signal = Signal {
        name: driven.key.clone(),
        api: driven.api(),
        values_milli,
        per_pod: driven.per_pod(),
        shared: driven.per_pod() || driven.falls_with_replicas,
    };
    let requests: Vec<Requests> =
        subject.requests.clone().map(|of| Requests { from_step: 0, of }).into_iter().collect();
    if driven.utilization
        && let Source::Resource { name, container } = &driven.source
        && !requests.iter().any(|requests| requests.of.know(name, container.as_deref()))
    {
        let (label, resource) = (subject.label.clone(), name.clone());
        return Err(ReplayError::NoRequests { label, resource, query: None });
    }
    let replicas = replicas.unwrap_or_else(|| subject.spec.min_replicas.unwrap_or(1).max(1));
    Ok(Scenario {
        grid,
        model: Model::Load,
        startup_delay,
        signals: vec![Some(signal)],
        requests,
        replicas,
        recorded: None,
        forecast: None,
        found: Vec::new(),
        notes,
    })
}

impl PodRequests {
    /// Whether what a utilization of `resource` is measured against is among them.
    pub(super) fn know(&self, resource: &str, container: Option<&str>) -> bool {
        if container.is_none()
            && self.pod_milli.as_ref().is_some_and(|pod| pod.contains_key(resource))
        {
            return true;
        }
        let mut asked = self
            .containers
            .iter()
            .filter(|c| container.is_none_or(|name| c.name == name))
            .peekable();
        asked.peek().is_some() && asked.all(|c| c.requests_milli.contains_key(resource))
    }

    /// What a pod requests of a resource, in thousandths; `None` if nothing of it does.
    pub(super) fn of_pod(&self, resource: &str) -> Option<i64> {
        if let Some(pod) = self.pod_milli.as_ref().and_then(|pod| pod.get(resource)) {
            return Some(*pod);
        }
        let requested = self.containers.iter().filter_map(|c| c.requests_milli.get(resource));
        requested.copied().reduce(i64::saturating_add)
    }
}
