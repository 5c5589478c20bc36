//! Which pods count: ready, unready, missing or ignored, and the values that are left to calculate with.

use std::sync::Arc;

use model::Timestamp;

use crate::decision::{PodAccount, PodReason};
use crate::inputs::{Constants, PodFacts, PodPhase, PodReading, ReadyStatus};

/// How a pod stands to a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Ready,
    Unready(PodReason),
    Missing,
    Ignored(PodReason),
}

/// How `pod` stands to a metric for which it has `reading`. Whether it is ready to serve is asked for CPU alone.
pub(super) fn standing(
    pod: &PodFacts,
    reading: Option<&PodReading>,
    resource: Option<&str>,
    constants: &Constants,
    now: Timestamp,
) -> Standing {
    if pod.deleting {
        return Standing::Ignored(PodReason::Deleting);
    }
    match pod.phase {
        Some(PodPhase::Failed) => return Standing::Ignored(PodReason::Failed),
        Some(PodPhase::Pending) => return Standing::Unready(PodReason::Pending),
        _ => {}
    }
    let Some(reading) = reading else { return Standing::Missing };
    if resource != Some("cpu") {
        return Standing::Ready;
    }
    cold(pod, reading, constants, now).map_or(Standing::Ready, Standing::Unready)
}

/// Why the CPU usage of a pod says nothing yet, if so: starting costs more than running.
fn cold(
    pod: &PodFacts,
    reading: &PodReading,
    constants: &Constants,
    now: Timestamp,
) -> Option<PodReason> {
    let Some(ready) = pod.ready else { return Some(PodReason::NoReadyCondition) };
    let Some(started) = pod.started else { return Some(PodReason::NoStartTime) };
    let not_ready = ready.status == ReadyStatus::False;
    let after_start = |period: i64, time| started.saturating_add(period) > time;
    if after_start(constants.cpu_initialization_period_ms, now) {
        if not_ready {
            return Some(PodReason::StartingUp);
        }
        let sampled_before = reading.timestamp < ready.transition.saturating_add(reading.window_ms);
        return sampled_before.then_some(PodReason::SampledBeforeReady);
    }
    let never = not_ready && after_start(constants.initial_readiness_delay_ms, ready.transition);
    never.then_some(PodReason::NeverReady)
}

/// Pods with their readings.
#[derive(Debug)]
pub(super) struct Grouped {
    /// By name.
    pub account: PodAccount,
    /// Place among the pods and value of those that are ready, in the order of the pods.
    pub ready: Vec<(usize, i64)>,
    /// Places of those without a value.
    pub missing: Vec<usize>,
    /// Places of those that are not ready.
    pub unready: Vec<usize>,
    /// Values of names that are not among the pods.
    pub unknown: Vec<i64>,
}

impl Grouped {
    /// No value is left to calculate with.
    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.unknown.is_empty()
    }

    /// The pod at `place` does not count after all.
    pub(super) fn ignore(&mut self, place: usize, name: &Arc<str>, why: PodReason) {
        let before = self.ready.len() + self.missing.len() + self.unready.len();
        self.ready.retain(|&(at, _)| at != place);
        self.missing.retain(|&at| at != place);
        self.unready.retain(|&at| at != place);
        if before == self.ready.len() + self.missing.len() + self.unready.len() {
            return;
        }
        let account = &mut self.account;
        account.ready.retain(|other| other != name);
        account.missing.retain(|other| other != name);
        account.unready.retain(|(other, _)| other != name);
        account.ignored.push((Arc::clone(name), why));
    }
}

/// Groups `pods` by how they stand to the metric that `readings` are of. Of several readings with one name the last counts.
pub(super) fn group(
    pods: &[Arc<PodFacts>],
    readings: &[PodReading],
    resource: Option<&str>,
    constants: &Constants,
    now: Timestamp,
) -> Grouped {
    let mut found = Lookup::new(pods, readings);
    let mut grouped = Grouped {
        account: PodAccount { ready: Vec::with_capacity(pods.len()), ..PodAccount::default() },
        ready: Vec::with_capacity(pods.len()),
        missing: Vec::new(),
        unready: Vec::new(),
        unknown: Vec::new(),
    };
    for (at, pod) in pods.iter().enumerate() {
        let reading = found.take(&pod.name);
        let name = Arc::clone(&pod.name);
        match (standing(pod, reading, resource, constants, now), reading) {
            (Standing::Ready, Some(reading)) => {
                grouped.account.ready.push(name);
                grouped.ready.push((at, reading.value_milli));
            }
            (Standing::Unready(why), _) => {
                grouped.account.unready.push((name, why));
                grouped.unready.push(at);
            }
            (Standing::Ignored(why), _) => grouped.account.ignored.push((name, why)),
            (Standing::Missing | Standing::Ready, _) => {
                grouped.account.missing.push(name);
                grouped.missing.push(at);
            }
        }
    }
    for reading in found.rest() {
        grouped.account.unknown.push(Arc::clone(&reading.pod));
        grouped.unknown.push(reading.value_milli);
    }
    grouped
}

/// Who stands where, for callers that have no use for the values.
#[must_use]
pub fn account(
    pods: &[Arc<PodFacts>],
    readings: &[PodReading],
    resource: Option<&str>,
    constants: &Constants,
    now: Timestamp,
) -> PodAccount {
    group(pods, readings, resource, constants, now).account
}

/// Readings by name, taken pod by pod. Comparing names is most of the work, so that what is usual is done with fewest: answers
/// have one reading for each pod in the order of the pods, or at least are sorted.
struct Lookup<'a> {
    readings: &'a [PodReading],
    order: Order,
    /// The place that is probably asked for next.
    next: usize,
}

/// How readings lie.
enum Order {
    /// As the pods, one for each.
    Aligned,
    /// Somehow, with what was taken.
    Sorted {
        /// Places in order of names, one for each name; `None` if the readings are in that order themselves.
        places: Option<Vec<usize>>,
        taken: Vec<bool>,
    },
}

impl Order {
    fn of(pods: &[Arc<PodFacts>], readings: &[PodReading]) -> Self {
        let same_name = |(pod, reading): (&Arc<PodFacts>, &PodReading)| pod.name == reading.pod;
        if pods.len() == readings.len() && pods.iter().zip(readings).all(same_name) {
            return Self::Aligned;
        }
        let is_sorted = readings.windows(2).all(|pair| pair[0].pod < pair[1].pod);
        let places = (!is_sorted).then(|| {
            let mut places: Vec<usize> = (0..readings.len()).collect();
            // Latest first among equals, which is the one that deduplication keeps.
            places.sort_by(|&a, &b| readings[a].pod.cmp(&readings[b].pod).then(b.cmp(&a)));
            places.dedup_by(|later, first| readings[*later].pod == readings[*first].pod);
            places
        });
        let taken = vec![false; places.as_ref().map_or(readings.len(), Vec::len)];
        Self::Sorted { places, taken }
    }
}

impl<'a> Lookup<'a> {
    fn new(pods: &[Arc<PodFacts>], readings: &'a [PodReading]) -> Self {
        Self { readings, order: Order::of(pods, readings), next: 0 }
    }

    /// The reading of the pod of that name; pods are asked for one after the other.
    fn take(&mut self, name: &str) -> Option<&'a PodReading> {
        let readings = self.readings;
        let Order::Sorted { places, taken } = &mut self.order else {
            self.next += 1;
            return readings.get(self.next - 1);
        };
        let at = |place: usize| &readings[places.as_ref().map_or(place, |places| places[place])];
        let names = taken.len();
        let mut found = self.next;
        if found >= names || *at(found).pod != *name {
            let (mut low, mut high) = (0, names);
            while low < high {
                let middle = low.midpoint(high);
                if *at(middle).pod < *name {
                    low = middle + 1;
                } else {
                    high = middle;
                }
            }
            if low == names || *at(low).pod != *name {
                return None;
            }
            found = low;
        }
        taken[found] = true;
        self.next = found + 1;
        Some(at(found))
    }

    /// The readings that were not taken.
    fn rest(&self) -> Vec<&'a PodReading> {
        let Order::Sorted { places, taken } = &self.order else { return Vec::new() };
        let place = |at: usize| places.as_ref().map_or(at, |places| places[at]);
        let left = (0..taken.len()).filter(|&at| !taken[at]);
        left.map(|at| &self.readings[place(at)]).collect()
    }
}
