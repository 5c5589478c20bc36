//! What one metric proposes: replicas from values and a target.
//!
//! Three ways: [`per_pod`] for values that pods have, [`whole`] for one value that stands for all of them, and [`shared`] for one
//! value that the replicas divide among themselves.

use std::sync::Arc;

use model::Timestamp;

use super::group::{Grouped, group};
use super::ratio::{
    Tolerances, Usage, average, ceil_i64, ceil_replicas, divide, double, utilization,
};
use super::requests::requests;
use crate::decision::{PodReason, Proposal, Ratio, TargetKind};
use crate::inputs::{Constants, PodFacts, PodPhase, PodReading, PodSet, ReadyStatus};
use crate::words::counted;

const NO_VALUES: &str = "did not receive metrics for targeted pods (pods might be unready)";
const NO_PODS: &str = "no pods returned by selector while calculating replica count";

/// The circumstances of a proposal.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// Settings of the controller.
    pub constants: &'a Constants,
    /// Pods of the target.
    pub pods: &'a PodSet,
    /// What deviation is not acted upon.
    pub tolerances: Tolerances,
    /// Replicas that the target asks for.
    pub current: i32,
    /// Replicas that the target has.
    pub available: i32,
    /// When it is.
    pub now: Timestamp,
}

impl Circumstances<'_> {
    fn pods(&self) -> Result<&[Arc<PodFacts>], String> {
        match self.pods {
            PodSet::Matched(pods) if pods.is_empty() => Err(NO_PODS.to_owned()),
            PodSet::Matched(pods) => Ok(pods),
            PodSet::Failed(why) => {
                Err(format!("unable to get pods while calculating replica count: {why}"))
            }
            PodSet::InvalidSelector(_) | PodSet::Ambiguous(_) => Err(NO_PODS.to_owned()),
        }
    }
}

/// What the values of pods are set against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodTarget<'a> {
    /// Percent of the requests of the whole pod, or of one container.
    Utilization {
        /// The target.
        percent: i32,
        /// Only the container of this name.
        container: Option<&'a str>,
    },
    /// An average in thousandths.
    Average {
        /// The target.
        milli: i64,
    },
}

/// Replicas from one value a pod. `resource` is `None` for custom metrics.
///
/// # Errors
/// No pod, no value that counts, or a missing request.
pub fn per_pod(
    readings: &[PodReading],
    resource: Option<&str>,
    target: PodTarget<'_>,
    given: Circumstances<'_>,
) -> Result<Proposal, String> {
    let pods = given.pods()?;
    let mut grouped = group(pods, readings, resource, given.constants, given.now);
    if grouped.is_empty() {
        return Err(NO_VALUES.to_owned());
    }
    let measure = Measure::new(pods, resource, target, given.constants, &mut grouped)?;
    let usage = measure.usage(&grouped, None, false)?;
    let outcome = settle(&measure, &grouped, usage.ratio, given)?;
    Ok(Proposal {
        replicas: outcome.replicas,
        target: measure.kind(),
        target_value: measure.target(),
        utilization_percent: usage.utilization_percent,
        value_milli: usage.value_milli,
        ratio: given.tolerances.check(usage.ratio),
        rebalanced: outcome.rebalanced,
        multiplied_by: outcome.multiplied_by,
        pods: Some(grouped.account),
        because: outcome.because,
    })
}

/// How a ratio becomes replicas.
struct Outcome {
    replicas: i32,
    rebalanced: Option<Ratio>,
    multiplied_by: i64,
    because: String,
}

/// From the ratio of the pods that have a value to replicas. Pods that have none, and that are not ready, are given the value
/// that speaks against the change: the truth can then only be further on the same side.
fn settle(
    measure: &Measure,
    grouped: &Grouped,
    ratio: f64,
    given: Circumstances<'_>,
) -> Result<Outcome, String> {
    let current = given.current;
    let keep = |rebalanced, because: &str| Outcome {
        replicas: current,
        rebalanced,
        multiplied_by: 0,
        because: because.to_owned(),
    };
    let up_with_unready = !grouped.unready.is_empty() && ratio > 1.0;
    if !up_with_unready && grouped.missing.is_empty() {
        if given.tolerances.check(ratio).within_tolerance {
            return Ok(keep(None, "the ratio is within the tolerance"));
        }
        let ready = count(grouped.ready.len());
        return Ok(Outcome {
            replicas: ceil_replicas(ratio * double(ready)),
            rebalanced: None,
            multiplied_by: ready,
            because: format!("the ratio times {}, rounded up", counted(ready, "ready pod")),
        });
    }

    let missing = if grouped.missing.is_empty() || ratio == 1.0 {
        None
    } else if ratio < 1.0 {
        Some(Fill::Target)
    } else {
        Some(Fill::Nothing)
    };
    let again = measure.usage(grouped, missing, up_with_unready)?.ratio;
    let checked = given.tolerances.check(again);
    if checked.within_tolerance {
        return Ok(keep(
            Some(checked),
            "with missing and unready pods the ratio is within the tolerance",
        ));
    }
    if (ratio < 1.0 && again > 1.0) || (again < 1.0 && ratio > 1.0) {
        return Ok(keep(
            Some(checked),
            "missing and unready pods would turn the direction of the change",
        ));
    }
    let filled = if missing.is_some() { grouped.missing.len() } else { 0 };
    let filled = filled + if up_with_unready { grouped.unready.len() } else { 0 };
    let values = count(grouped.ready.len() + grouped.unknown.len() + filled);
    let replicas = ceil_replicas(again * double(values));
    if (again < 1.0 && replicas > current) || (again > 1.0 && replicas < current) {
        return Ok(keep(
            Some(checked),
            "the number of pods with a value would turn the direction of the change",
        ));
    }
    Ok(Outcome {
        replicas,
        rebalanced: Some(checked),
        multiplied_by: values,
        because: format!(
            "the ratio with missing and unready pods times {}, rounded up",
            counted(values, "value")
        ),
    })
}

/// What missing pods are taken to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fill {
    /// The target; of a utilization at least the whole request.
    Target,
    /// Nothing.
    Nothing,
}

/// What values are set against.
enum Measure {
    /// Percent of the requests of each pod.
    Utilization { percent: i32, requests: Vec<i64> },
    /// An average in thousandths.
    Average { milli: i64 },
}

impl Measure {
    /// Finds what values are set against. Pods that have nothing to set them against are taken out of `grouped`.
    fn new(
        pods: &[Arc<PodFacts>],
        resource: Option<&str>,
        target: PodTarget<'_>,
        constants: &Constants,
        grouped: &mut Grouped,
    ) -> Result<Self, String> {
        let (percent, container) = match target {
            PodTarget::Average { milli } => return Ok(Self::Average { milli }),
            PodTarget::Utilization { percent, container } => (percent, container),
        };
        let found = requests(pods, resource.unwrap_or_default(), container, constants.gates)?;
        for (place, (pod, request)) in pods.iter().zip(&found).enumerate() {
            if request.is_none() {
                grouped.ignore(place, &pod.name, PodReason::Completed);
            }
        }
        if grouped.is_empty() {
            return Err(NO_VALUES.to_owned());
        }
        let requests = found.into_iter().map(Option::unwrap_or_default).collect();
        Ok(Self::Utilization { percent, requests })
    }

    const fn kind(&self) -> TargetKind {
        match self {
            Self::Utilization { .. } => TargetKind::Utilization,
            Self::Average { .. } => TargetKind::AverageValue,
        }
    }

    fn target(&self) -> i64 {
        match self {
            Self::Utilization { percent, .. } => i64::from(*percent),
            Self::Average { milli } => *milli,
        }
    }

    /// The usage of the ready pods, with missing pods taken to use `missing` and, `with_unready`, unready ones nothing.
    fn usage(
        &self,
        grouped: &Grouped,
        missing: Option<Fill>,
        with_unready: bool,
    ) -> Result<Usage, String> {
        let missing_pods = if missing.is_some() { grouped.missing.as_slice() } else { &[] };
        let unready_pods = if with_unready { grouped.unready.as_slice() } else { &[] };
        let filled = |place: usize| match (missing, self) {
            (Some(Fill::Target), Self::Utilization { percent, requests }) => {
                at_least_whole(requests[place], *percent)
            }
            (Some(Fill::Target), Self::Average { milli }) => *milli,
            _ => 0,
        };
        match self {
            // Names that are no pods have no request, so that their values cannot be set against one.
            Self::Utilization { percent, requests } => {
                let ready = grouped.ready.iter().copied();
                let missing = missing_pods.iter().map(|&place| (place, filled(place)));
                let unready = unready_pods.iter().map(|&place| (place, 0));
                let all = ready.chain(missing).chain(unready);
                utilization(all.map(|(place, value)| (value, requests[place])), *percent)
            }
            Self::Average { milli } => {
                let ready = grouped.ready.iter().map(|&(_, value)| value);
                let unknown = grouped.unknown.iter().copied();
                let missing = missing_pods.iter().map(|&place| filled(place));
                let unready = unready_pods.iter().map(|_| 0);
                Ok(average(ready.chain(unknown).chain(missing).chain(unready), *milli))
            }
        }
    }
}

/// All of a request, or `percent` of it if that is more.
fn at_least_whole(request: i64, percent: i32) -> i64 {
    let part = i128::from(request) * i128::from(percent.max(100)) / 100;
    i64::try_from(part).unwrap_or(i64::MAX)
}

/// Replicas from one value that the target is a whole of: as many as are ready now, times the ratio. From zero replicas the
/// ratio itself is rounded up, as there is nothing to multiply with.
///
/// # Errors
/// There are no pods.
pub fn whole(
    value_milli: i64,
    target_milli: i64,
    given: Circumstances<'_>,
) -> Result<Proposal, String> {
    let ratio = divide(double(value_milli), double(target_milli));
    let checked = given.tolerances.check(ratio);
    let mut proposal = Proposal {
        replicas: given.current,
        target: TargetKind::Value,
        target_value: target_milli,
        utilization_percent: None,
        value_milli,
        ratio: checked,
        rebalanced: None,
        multiplied_by: 0,
        pods: None,
        because: "the ratio is within the tolerance".to_owned(),
    };
    if given.current == 0 {
        proposal.replicas = ceil_replicas(ratio);
        "the ratio, rounded up, as there are no replicas".clone_into(&mut proposal.because);
    } else if !checked.within_tolerance {
        let pods = given.pods().map_err(|why| format!("unable to calculate ready pods: {why}"))?;
        let ready = count(pods.iter().filter(|pod| serves(pod)).count());
        proposal.replicas = ceil_replicas(ratio * double(ready));
        proposal.multiplied_by = ready;
        proposal.because = format!("the ratio times {}, rounded up", counted(ready, "ready pod"));
    }
    Ok(proposal)
}

fn serves(pod: &PodFacts) -> bool {
    pod.phase == Some(PodPhase::Running)
        && pod.ready.is_some_and(|ready| ready.status == ReadyStatus::True)
}

/// Replicas from one value that they divide among themselves: as many as bring each to the target.
///
/// Of no replicas there is no average: the value itself is reported then, and only a value of nothing proposes nothing.
#[must_use]
pub fn shared(value_milli: i64, target_milli: i64, given: Circumstances<'_>) -> Proposal {
    let (value, target) = (double(value_milli), double(target_milli));
    let available = given.available;
    let ratio = given.tolerances.check(divide(value, target * f64::from(available)));
    let (replicas, because) = if ratio.within_tolerance {
        (available, "the ratio is within the tolerance")
    } else {
        (ceil_replicas(divide(value, target)), "the value divided by the target, rounded up")
    };
    let average = match available {
        0 => value_milli,
        _ => ceil_i64(value / f64::from(available)),
    };
    Proposal {
        replicas,
        target: TargetKind::AverageValue,
        target_value: target_milli,
        utilization_percent: None,
        value_milli: average,
        ratio,
        rebalanced: None,
        multiplied_by: 0,
        pods: None,
        because: because.to_owned(),
    }
}

fn count(pods: usize) -> i64 {
    i64::try_from(pods).unwrap_or(i64::MAX)
}
