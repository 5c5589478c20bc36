//! The pods that a replay makes up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::Timestamp;

use super::PodRequests;
use crate::inputs::{PodFacts, PodPhase, PodReading, Readiness, ReadyStatus};

/// How long pods have run that were there before the replay began: nothing about them is young.
const AGE_AT_START_MS: i64 = 86_400_000;

/// Pods of the target, the oldest first. The youngest go first, as a ReplicaSet and a StatefulSet do it.
///
/// The list is what decisions are made from and is changed in place: facts of a pod are made when it starts, when it
/// becomes ready and when requests change.
#[derive(Debug)]
pub(super) struct Fleet {
    startup_delay_ms: i64,
    requests: PodRequests,
    /// When each pod started, ascending.
    started: Vec<Timestamp>,
    /// How many of them, the oldest, have become ready.
    serving: usize,
    /// Number of the next pod.
    next: u64,
}

impl Fleet {
    /// A fleet without pods.
    pub(super) fn new(startup_delay: Duration, requests: PodRequests) -> Self {
        let startup_delay_ms = i64::try_from(startup_delay.as_millis()).unwrap_or(i64::MAX);
        Self { startup_delay_ms, requests, started: Vec::new(), serving: 0, next: 0 }
    }

    /// Pods that have been there for long.
    pub(super) fn begin(&mut self, replicas: usize, now: Timestamp, pods: &mut Vec<Arc<PodFacts>>) {
        let started = now.saturating_sub(AGE_AT_START_MS).saturating_sub(self.startup_delay_ms);
        self.resize(replicas, started, pods);
        self.advance(now, pods);
    }

    /// Pods that have started by now become ready.
    pub(super) fn advance(&mut self, now: Timestamp, pods: &mut [Arc<PodFacts>]) {
        while let Some(started) = self.started.get(self.serving)
            && started.saturating_add(self.startup_delay_ms) <= now
        {
            let name = Arc::clone(&pods[self.serving].name);
            pods[self.serving] = Arc::new(self.facts(name, *started, true));
            self.serving += 1;
        }
    }

    /// There are `replicas` pods from now on.
    pub(super) fn resize(
        &mut self,
        replicas: usize,
        now: Timestamp,
        pods: &mut Vec<Arc<PodFacts>>,
    ) {
        pods.truncate(replicas);
        self.started.truncate(replicas);
        self.serving = self.serving.min(replicas);
        while pods.len() < replicas {
            // Names sort in the order of starts.
            let name = format!("pod-{:010}", self.next).into();
            self.next += 1;
            pods.push(Arc::new(self.facts(name, now, false)));
            self.started.push(now);
        }
    }

    /// Pods have these requests from now on.
    pub(super) fn request(&mut self, requests: PodRequests, pods: &mut [Arc<PodFacts>]) {
        self.requests = requests;
        for pod in pods {
            let pod = Arc::make_mut(pod);
            pod.requests_milli.clone_from(&self.requests.pod_milli);
            pod.containers.clone_from(&self.requests.containers);
        }
    }

    /// How many pods take load.
    pub(super) const fn serving(&self) -> usize {
        self.serving
    }

    fn facts(&self, name: Arc<str>, started: Timestamp, ready: bool) -> PodFacts {
        let (phase, status, transition) = if ready {
            let since = started.saturating_add(self.startup_delay_ms);
            (PodPhase::Running, ReadyStatus::True, since)
        } else {
            // Images are pulled, probes fail: no metric counts a pod that is pending.
            (PodPhase::Pending, ReadyStatus::False, started)
        };
        PodFacts {
            name,
            phase: Some(phase),
            deleting: false,
            started: Some(started),
            ready: Some(Readiness { status, transition }),
            requests_milli: self.requests.pod_milli.clone(),
            containers: self.requests.containers.clone(),
            init_containers: Vec::new(),
            overhead_milli: BTreeMap::new(),
        }
    }
}

/// Values of the pods that serve, in place: `total` shared so that no thousandth is lost, or `each` the same.
pub(super) fn read(
    readings: &mut Vec<PodReading>,
    pods: &[Arc<PodFacts>],
    value: PodValue,
    now: Timestamp,
    window_ms: i64,
) {
    let same = readings.len() == pods.len()
        && readings.last().map(|last| &last.pod) == pods.last().map(|pod| &pod.name);
    if !same {
        // Pods come and go at the end alone, and a name is never used again.
        let kept = readings.iter().zip(pods).take_while(|(r, pod)| r.pod == pod.name).count();
        readings.truncate(kept);
        readings.extend(pods[kept..].iter().map(|pod| PodReading {
            pod: Arc::clone(&pod.name),
            value_milli: 0,
            timestamp: now,
            window_ms,
        }));
    }
    let count = i64::try_from(readings.len()).unwrap_or(i64::MAX).max(1);
    let (each, mut left) = match value {
        PodValue::Each(value) => (value, 0),
        PodValue::Share(total) => (total / count, total % count),
    };
    for reading in readings {
        reading.timestamp = now;
        reading.value_milli = each + i64::from(left > 0);
        left -= i64::from(left > 0);
    }
}

/// What pods use, in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PodValue {
    /// Each of them this.
    Each(i64),
    /// All of them together this.
    Share(i64),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(pods: &[Arc<PodFacts>]) -> Vec<(Option<PodPhase>, Option<Timestamp>)> {
        pods.iter().map(|pod| (pod.phase, pod.started)).collect()
    }

    #[test]
    fn pods_start_become_ready_and_go() {
        let (pending, running) = (Some(PodPhase::Pending), Some(PodPhase::Running));
        let mut fleet = Fleet::new(Duration::from_secs(30), PodRequests::default());
        let mut pods = Vec::new();
        let now = 1_000_000_000_000;
        fleet.begin(2, now, &mut pods);
        let old = Some(now - AGE_AT_START_MS - 30_000);
        assert_eq!(states(&pods), [(running, old), (running, old)]);
        assert_eq!(fleet.serving(), 2);
        fleet.resize(4, now, &mut pods);
        fleet.advance(now + 29_999, &mut pods);
        assert_eq!((fleet.serving(), states(&pods)[3]), (2, (pending, Some(now))));
        fleet.resize(3, now + 29_999, &mut pods);
        fleet.advance(now + 30_000, &mut pods);
        assert_eq!((fleet.serving(), states(&pods)[2]), (3, (running, Some(now))));
        let ready = Readiness { status: ReadyStatus::True, transition: now + 30_000 };
        assert_eq!(pods[2].ready, Some(ready));
        // A pod that comes after one that went has another name.
        fleet.resize(4, now, &mut pods);
        let names: Vec<&str> = pods.iter().map(|pod| &*pod.name).collect();
        assert_eq!(names, ["pod-0000000000", "pod-0000000001", "pod-0000000002", "pod-0000000004"]);
    }

    #[test]
    fn shares_add_up_to_the_total() {
        let mut fleet = Fleet::new(Duration::ZERO, PodRequests::default());
        let (mut pods, mut readings) = (Vec::new(), Vec::new());
        fleet.begin(3, 0, &mut pods);
        let values = |readings: &mut Vec<PodReading>, pods: &[_], value| {
            read(readings, pods, value, 5, 15_000);
            readings.iter().map(|reading| reading.value_milli).collect::<Vec<_>>()
        };
        assert_eq!(values(&mut readings, &pods, PodValue::Share(1000)), [334, 333, 333]);
        assert_eq!(values(&mut readings, &pods, PodValue::Each(7)), [7, 7, 7]);
        fleet.resize(1, 0, &mut pods);
        assert_eq!(values(&mut readings, &pods, PodValue::Share(1000)), [1000]);
        fleet.resize(2, 0, &mut pods);
        assert_eq!(values(&mut readings, &pods, PodValue::Share(1000)), [500, 500]);
        assert_eq!(&*readings[1].pod, "pod-0000000003");
        assert_eq!(values(&mut readings, &[], PodValue::Share(1000)), [0_i64; 0]);
    }
}
