//! The counts that are published, and what of them is under way.
//!
//! The managed controller takes a count over within its own period. Until then the target's scale does not show it; to rate limits and
//! stabilization it must count as done all the same, as it would had we written it. So a decision is made from the scale as
//! [`Recommendations::scale`] tells it. A count that was not taken over within three periods, or that somebody else overtook, was not
//! carried out, and the scale is believed again.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use foldhash::fast::RandomState;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerStatus;
use model::Timestamp;
use parking_lot::RwLock;

use crate::decide::{Conclusion, SCALED_TO_ZERO, Written};
use crate::decision::Decision;
use crate::inputs::ScaleReading;
use crate::state::HpaKey;

/// Periods after which a count is no longer published, and no longer under way.
const PERIODS: u32 = 3;
/// Autoscalers that are steered.
const KNOWN_MAX: usize = 100_000;

/// A count that is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recommended {
    /// Replicas.
    pub replicas: i32,
    /// When they were decided, in milliseconds since the epoch.
    pub at: Timestamp,
    /// Another process decided them, which leads, and wrote them down.
    pub learned: bool,
}

/// Why there is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// Nobody steers such an autoscaler here.
    #[error("no autoscaler {namespace}/{name} is steered here")]
    Unknown {
        /// The namespace.
        namespace: String,
        /// The name.
        name: String,
    },
    /// The last decision is too old to go by.
    #[error("the last decision is {age_s} s old, more than {PERIODS} periods")]
    Stale {
        /// Its age in seconds.
        age_s: i64,
    },
    /// It could not be decided.
    #[error("{0}")]
    Undecided(String),
}

#[derive(Clone, Debug)]
struct Entry {
    /// The count, or why there is none.
    count: Result<i32, String>,
    at: Timestamp,
    under_way: Option<UnderWay>,
    /// What the last decision left; `None` if there was none.
    status: Option<HorizontalPodAutoscalerStatus>,
    /// When another process decided it by its own clock; `None` if it was decided here.
    learned: Option<Timestamp>,
}

/// A count that the target's scale does not show yet.
#[derive(Clone, Copy, Debug)]
struct UnderWay {
    from: i32,
    to: i32,
    since: Timestamp,
}

/// What is published for each steered autoscaler: by the replica that leads what it decides, and by the others what that one wrote down
/// with its memory, so that whoever is asked knows. Nobody tells a count that was decided more than three periods ago.
pub struct Recommendations {
    known: RwLock<HashMap<HpaKey, Entry, RandomState>>,
    lifetime_ms: i64,
}

/// What counts, for a first decision, of the status `shown`, which is the managed controller's: whether it was an autoscaler that took
/// the last replica, without which none comes back.
#[must_use]
pub fn own_status(shown: &HorizontalPodAutoscalerStatus) -> HorizontalPodAutoscalerStatus {
    let conditions = shown.conditions.iter().flatten();
    let kept = conditions.filter(|condition| condition.type_ == SCALED_TO_ZERO);
    HorizontalPodAutoscalerStatus {
        conditions: Some(kept.cloned().collect()),
        ..HorizontalPodAutoscalerStatus::default()
    }
}

impl Recommendations {
    /// Nothing yet, for autoscalers that are decided about every `sync_period`.
    #[must_use]
    pub fn new(sync_period: Duration) -> Self {
        let lifetime_ms = i64::try_from((sync_period * PERIODS).as_millis()).unwrap_or(i64::MAX);
        Self { known: RwLock::default(), lifetime_ms }
    }

    /// The scale to decide from: with the count that is under way, if there is one.
    #[must_use]
    pub fn scale(&self, key: &HpaKey, seen: &ScaleReading, now: Timestamp) -> ScaleReading {
        let known = self.known.read();
        let under_way = known.get(key).and_then(|entry| entry.under_way);
        let under_way = under_way.filter(|it| self.is_under_way(it, seen.spec_replicas, now));
        let spec_replicas = under_way.map_or(seen.spec_replicas, |it| it.to);
        ScaleReading { spec_replicas, ..seen.clone() }
    }

    fn is_under_way(&self, it: &UnderWay, seen: i32, now: Timestamp) -> bool {
        seen == it.from && now.saturating_sub(it.since) <= self.lifetime_ms
    }

    /// The status that the last decision left: the object's own, `shown`, is the managed controller's. Of that only one thing counts,
    /// where this process has not decided yet: whether it was an autoscaler that took the last replica, without which none comes back.
    #[must_use]
    pub fn status(
        &self,
        key: &HpaKey,
        shown: &HorizontalPodAutoscalerStatus,
    ) -> HorizontalPodAutoscalerStatus {
        let known = self.known.read().get(key).and_then(|entry| entry.status.clone());
        known.unwrap_or_else(|| own_status(shown))
    }

    /// What becomes of a decision when its count is published: where upstream would write the scale, that counts as done.
    #[must_use]
    pub fn written(decision: &Decision) -> Written {
        if decision.rescale { Written::Done } else { Written::NotAsked }
    }

    /// Publishes a decision. `seen` are the replicas that the target really asked for. Without metrics nothing is published but why, which
    /// the managed controller then tells, and keeps the replicas as upstream would.
    pub fn publish(
        &self,
        key: &HpaKey,
        seen: i32,
        decision: &Decision,
        conclusion: &Conclusion,
        now: Timestamp,
    ) {
        let undecided = decision.current_replicas.is_none()
            || (!decision.rescale
                && inactive(&conclusion.status)
                && decision.beyond.fallback.is_none()
                && decision.beyond.held.is_none());
        let count = match &conclusion.error {
            Some(error) if undecided => Err(error.clone()),
            _ => Ok(decision.desired_replicas),
        };
        let mut known = self.known.write();
        if !known.contains_key(key) && known.len() >= KNOWN_MAX {
            tracing::error!(
                namespace = &*key.namespace,
                name = &*key.name,
                "{KNOWN_MAX} autoscalers are steered already: this one is left alone"
            );
            return;
        }
        let before = known.get(key).and_then(|entry| entry.under_way);
        let under_way = match (&count, before) {
            (Ok(count), _) if *count == seen => None,
            // The clock runs from when this count was published first.
            (Ok(count), Some(it)) if it.to == *count && self.is_under_way(&it, seen, now) => {
                Some(it)
            }
            (Ok(count), _) => Some(UnderWay { from: seen, to: *count, since: now }),
            (Err(_), _) => None,
        };
        let status = Some(conclusion.status.clone());
        known.insert(key.clone(), Entry { count, at: now, under_way, status, learned: None });
    }

    /// Nothing can be decided: what the autoscaler is to be decided from cannot be read.
    pub fn refuse(&self, key: &HpaKey, why: String, now: Timestamp) {
        let mut known = self.known.write();
        if known.contains_key(key) || known.len() < KNOWN_MAX {
            let status = known.get(key).and_then(|entry| entry.status.clone());
            let (count, under_way, learned) = (Err(why), None, None);
            known.insert(key.clone(), Entry { count, at: now, under_way, status, learned });
        }
    }

    /// How often [`Self::learn`] should be told: with the time between two decisions, and until they are written, no more than three
    /// periods pass.
    #[must_use]
    pub fn learn_every(&self) -> Duration {
        Duration::from_millis(
            (self.lifetime_ms / i64::from(PERIODS) * 2 / 3).max(1000).unsigned_abs(),
        )
    }

    /// Publishes what the process that leads has written down, and nothing else of what was learned before. What was decided here counts
    /// more.
    pub fn learn(&self, counts: Vec<(HpaKey, i32, Timestamp)>, now: Timestamp) {
        let mut known = self.known.write();
        let mut before = std::mem::take(&mut *known);
        known.extend(before.extract_if(|_, entry| entry.learned.is_none()));
        for (key, count, at) in counts {
            if known.contains_key(&key) || known.len() >= KNOWN_MAX {
                continue;
            }
            let entry = match before.remove(&key) {
                Some(entry) if entry.learned == Some(at) => entry,
                // The clock over there may be ahead: what is new was not decided later than now.
                _ => Entry {
                    count: Ok(count),
                    at: at.min(now),
                    under_way: None,
                    status: None,
                    learned: Some(at),
                },
            };
            known.insert(key, entry);
        }
    }

    /// The count to go by.
    ///
    /// # Errors
    /// There is none, or none that is recent.
    pub fn get(&self, key: &HpaKey, now: Timestamp) -> Result<Recommended, Unavailable> {
        let known = self.known.read();
        let entry = known.get(key).ok_or_else(|| Unavailable::Unknown {
            namespace: key.namespace.to_string(),
            name: key.name.to_string(),
        })?;
        let age = now.saturating_sub(entry.at);
        if age > self.lifetime_ms {
            return Err(Unavailable::Stale { age_s: age / 1000 });
        }
        match &entry.count {
            Ok(replicas) => Ok(Recommended {
                replicas: *replicas,
                at: entry.at,
                learned: entry.learned.is_some(),
            }),
            Err(why) => Err(Unavailable::Undecided(why.clone())),
        }
    }

    /// It is gone, or no longer steered.
    pub fn forget(&self, key: &HpaKey) {
        if self.known.read().contains_key(key) {
            self.known.write().remove(key);
        }
    }
}

/// Whether metrics failed; a target at zero that is not scaled is no failure.
fn inactive(status: &HorizontalPodAutoscalerStatus) -> bool {
    let conditions = status.conditions.iter().flatten();
    conditions.into_iter().any(|condition| {
        condition.type_ == "ScalingActive"
            && condition.status == "False"
            && condition.reason.as_deref() != Some("ScalingDisabled")
    })
}

impl fmt::Debug for Recommendations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recommendations")
            .field("known", &self.known.read().len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;
    use crate::beyond::Beyond;
    use crate::decide::{conclude, decide};
    use crate::inputs::{
        Constants, Inputs, Memory, MetricAnswer, PodFacts, PodPhase, PodSet, ValueReading,
    };

    const PERIOD: i64 = 15_000;

    pub(in super::super) fn key() -> HpaKey {
        HpaKey { namespace: "shop".into(), name: "web".into() }
    }

    /// Decides as the controller does for a steered autoscaler with an external metric at 1 a pod, and publishes.
    pub(in super::super) struct Steering {
        pub(in super::super) recommendations: Recommendations,
        memory: Memory,
        beyond: Beyond,
        behavior: serde_json::Value,
    }

    impl Steering {
        pub(in super::super) fn new(behavior: serde_json::Value) -> Self {
            let recommendations = Recommendations::new(Duration::from_secs(15));
            let (memory, beyond) = (Memory::default(), Beyond::default());
            Self { recommendations, memory, beyond, behavior }
        }

        pub(in super::super) fn decide(
            &mut self,
            seen: i32,
            load: Result<i64, &str>,
            now: Timestamp,
        ) {
            let scale = ScaleReading {
                spec_replicas: seen,
                status_replicas: seen,
                selector: String::from("app=web"),
            };
            let answer = match load {
                Ok(load) => MetricAnswer::Values(vec![ValueReading {
                    value_milli: load * 1000,
                    timestamp: now,
                }]),
                Err(why) => MetricAnswer::Failed(why.to_owned()),
            };
            let spec = json!({
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                "minReplicas": 1,
                "maxReplicas": 50,
                "metrics": [{"type": "External", "external": {
                    "metric": {"name": "load"},
                    "target": {"type": "AverageValue", "averageValue": "1"},
                }}],
                "behavior": self.behavior,
            });
            let pod = PodFacts {
                name: "a".into(),
                phase: Some(PodPhase::Running),
                ..PodFacts::default()
            };
            let inputs = Inputs {
                constants: Constants::default(),
                namespace: String::from("shop"),
                name: String::from("web"),
                spec: serde_json::from_value(spec).unwrap(),
                status: self
                    .recommendations
                    .status(&key(), &HorizontalPodAutoscalerStatus::default()),
                scale: Ok(self.recommendations.scale(&key(), &scale, now)),
                pods: PodSet::Matched(vec![std::sync::Arc::new(pod)]),
                metrics: vec![Some(answer)],
                memory: self.memory.clone(),
                beyond: self.beyond.clone(),
            };
            let decision = decide(&inputs, now);
            let written = Recommendations::written(&decision);
            let conclusion = conclude(&inputs, &decision, &written, now);
            self.recommendations.publish(&key(), seen, &decision, &conclusion, now);
            self.memory = conclusion.memory;
        }

        fn published(&self, now: Timestamp) -> Result<i32, String> {
            let got = self.recommendations.get(&key(), now);
            got.map(|it| it.replicas).map_err(|error| error.to_string())
        }
    }

    fn four_pods_a_quarter_minute() -> serde_json::Value {
        let up = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
        let down = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
        json!({
            "scaleUp": {"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [up]},
            "scaleDown": {"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [down]},
        })
    }

    #[test]
    fn a_count_under_way_counts_as_done() {
        let mut steering = Steering::new(four_pods_a_quarter_minute());
        let start = 1_000_000;
        steering.decide(4, Ok(20), start);
        assert_eq!(steering.published(start), Ok(8));
        // The target still asks for 4. The rate limit grants four more on top of 8, not once more on top of 4.
        steering.decide(4, Ok(20), start + PERIOD + 1);
        assert_eq!(steering.published(start + PERIOD + 1), Ok(12));
        // Taken over meanwhile: 8 first.
        steering.decide(12, Ok(20), start + 2 * PERIOD + 2);
        assert_eq!(steering.published(start + 2 * PERIOD + 2), Ok(16));
    }

    #[test]
    fn a_count_that_is_not_taken_over_is_given_up() {
        let mut steering = Steering::new(four_pods_a_quarter_minute());
        let start = 1_000_000;
        steering.decide(4, Ok(8), start);
        let scale = |steering: &Steering, seen, now| {
            let seen = ScaleReading { spec_replicas: seen, ..ScaleReading::default() };
            steering.recommendations.scale(&key(), &seen, now).spec_replicas
        };
        assert_eq!(scale(&steering, 4, start + 3 * PERIOD), 8);
        assert_eq!(scale(&steering, 4, start + 3 * PERIOD + 1), 4);
        // Somebody else scaled.
        assert_eq!(scale(&steering, 6, start + PERIOD), 6);
        // Published again and again, it is as old as the first time.
        steering.decide(4, Ok(8), start + PERIOD);
        steering.decide(4, Ok(8), start + 2 * PERIOD);
        assert_eq!(scale(&steering, 4, start + 3 * PERIOD + 1), 4);
    }

    #[test]
    fn an_old_count_is_never_told() {
        let mut steering = Steering::new(serde_json::Value::Null);
        assert_eq!(steering.published(0).unwrap_err(), "no autoscaler shop/web is steered here");
        steering.decide(4, Ok(4), 1_000_000);
        assert_eq!(steering.published(1_000_000 + 3 * PERIOD), Ok(4));
        assert_eq!(
            steering.published(1_000_000 + 3 * PERIOD + 1_000).unwrap_err(),
            "the last decision is 46 s old, more than 3 periods"
        );
        steering.recommendations.forget(&key());
        assert!(steering.published(1_000_000).is_err());
    }

    #[test]
    fn what_another_process_wrote_down_is_told_until_it_is_old() {
        let mut steering = Steering::new(serde_json::Value::Null);
        let now = 1_000_000;
        let other = HpaKey { namespace: "shop".into(), name: "api".into() };
        let told = |steering: &Steering, key: &HpaKey, now| {
            let got = steering.recommendations.get(key, now);
            got.map(|it| (it.replicas, it.learned)).map_err(|error| error.to_string())
        };
        steering
            .recommendations
            .learn(vec![(key(), 7, now - 20_000), (other.clone(), 3, now)], now);
        assert_eq!(told(&steering, &key(), now), Ok((7, true)));
        // It is as old as the decision, not as what was read.
        assert_eq!(told(&steering, &key(), now + 25_000), Ok((7, true)));
        assert_eq!(
            told(&steering, &key(), now + 26_000).unwrap_err(),
            "the last decision is 46 s old, more than 3 periods"
        );
        // A clock that is ahead makes it no younger than it was when it was first seen, however often it is read.
        let ahead = now + 3_600_000;
        for read in [now, now + 10_000, now + 20_000] {
            steering.recommendations.learn(vec![(key(), 8, ahead)], read);
        }
        assert_eq!(told(&steering, &key(), now + 3 * PERIOD), Ok((8, true)));
        assert!(told(&steering, &key(), now + 3 * PERIOD + 1).is_err());
        // What is no longer written down is no longer known.
        assert!(told(&steering, &other, now + 1).unwrap_err().contains("is steered here"));
        // What is decided here counts.
        steering.decide(4, Ok(4), now);
        steering.recommendations.learn(vec![(key(), 9, now + 1)], now + 1);
        assert_eq!(told(&steering, &key(), now + 1), Ok((4, false)));
    }

    #[test]
    fn counts_are_learned_before_they_are_old() {
        // A decision is written within 15 s, is the last for up to a period, and is read so much later.
        let recommendations = Recommendations::new(Duration::from_secs(15));
        let oldest = Duration::from_secs(15 + 15) + recommendations.learn_every();
        assert!(oldest <= Duration::from_secs(3 * 15), "{oldest:?}");
    }

    #[test]
    fn who_took_the_last_replica_is_known_after_a_restart() {
        let mut steering = Steering::new(serde_json::Value::Null);
        let shown: HorizontalPodAutoscalerStatus = serde_json::from_value(json!({
            "desiredReplicas": 3,
            "conditions": [
                {"type": "ScalingActive", "status": "True"},
                {"type": "ScaledToZero", "status": "True", "reason": "ScaledToZero"},
            ],
        }))
        .unwrap();
        let kept = |steering: &Steering| {
            let status = steering.recommendations.status(&key(), &shown);
            let conditions = status.conditions.unwrap_or_default();
            conditions.into_iter().map(|one| (one.type_, one.status)).collect::<Vec<_>>()
        };
        let expected = [(String::from("ScaledToZero"), String::from("True"))];
        assert_eq!(kept(&steering), expected);
        // Nothing was decided yet.
        steering.recommendations.refuse(&key(), String::from("cannot be read"), 999_000);
        assert_eq!(kept(&steering), expected);
        // What was decided here counts more than what the other controller shows.
        steering.decide(4, Ok(4), 1_000_000);
        assert!(!kept(&steering).contains(&expected[0]));
    }

    #[test]
    fn a_pause_at_a_number_is_published_without_metrics() {
        let mut steering = Steering::new(serde_json::Value::Null);
        let annotation = (format!("{}paused-replicas", crate::beyond::PREFIX), String::from("4"));
        let (policy, wrong) = crate::beyond::parse(&[annotation].into());
        steering.beyond = crate::beyond::gather(&policy, &wrong, None, None, 0);
        // At the number, and on the way to it.
        for seen in [4, 6] {
            steering.decide(seen, Err("no metrics returned"), 1_000_000);
            assert_eq!(steering.published(1_000_000), Ok(4));
        }
    }

    #[test]
    fn lost_metrics_are_told_instead_of_a_count() {
        let mut steering = Steering::new(serde_json::Value::Null);
        steering.decide(4, Ok(4), 1_000_000);
        steering.decide(4, Err("no metrics returned from external metrics API"), 1_015_000);
        let why = steering.published(1_015_000).unwrap_err();
        assert!(why.contains("no metrics returned from external metrics API"), "{why}");
        steering.decide(4, Ok(5), 1_030_000);
        assert_eq!(steering.published(1_030_000), Ok(5));
    }
}
