//! The memory of one autoscaler as a line of JSON, reduced to what can still matter.

use std::time::Duration;

use model::Timestamp;
use serde::{Deserialize, Serialize};

use crate::beyond::BeyondMemory;
use crate::inputs::{Memory, Recommendation, ScaleEvent};
use crate::state::HpaKey;

/// Recommendations that are kept of one autoscaler, and scale events of each direction, the newest first. At one rescale a
/// second they reach back further than a policy may look.
const KEPT_MAX: usize = 2_048;
/// The longest period that a scaling policy may have, in milliseconds.
const PERIOD_MAX_MS: i64 = 1_800_000;

/// What is kept of one autoscaler. Times are how long before `at` they were, in milliseconds: shorter to write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Saved {
    pub(super) namespace: Box<str>,
    pub(super) name: Box<str>,
    pub(super) uid: Box<str>,
    /// When it was last decided about.
    pub(super) at: Timestamp,
    /// Replicas and age.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recommendations: Option<Box<[(i32, i64)]>>,
    /// Change, age, and whether it is outdated.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    up: Box<[(i32, i64, bool)]>,
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    down: Box<[(i32, i64, bool)]>,
    #[serde(default, skip_serializing_if = "BeyondMemory::is_empty")]
    beyond: BeyondMemory,
    /// The count that was published at `at`, if its cluster's own controller is steered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) count: Option<i32>,
}

/// Until when what is saved counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ages {
    /// Recommendations older than this matter to no window.
    pub(super) retention: Duration,
    /// If nothing was decided for longer than this, recommendations are missing that would matter.
    pub(super) gap_max: Duration,
}

impl Saved {
    /// `memory` as it is at `at`.
    pub(super) fn new(key: &HpaKey, uid: &str, memory: &Memory, at: Timestamp, ages: Ages) -> Self {
        let oldest = at.saturating_sub(millis(ages.retention));
        let recommendations = memory.recommendations.as_deref().map(|all| {
            let kept = undominated(all).into_iter().filter(|one| one.at >= oldest);
            newest(kept.map(|one| (one.replicas, at.saturating_sub(one.at))).collect(), |e| e.1)
        });
        let events = |all: &[ScaleEvent]| {
            let kept = all.iter().filter(|one| at.saturating_sub(one.at) <= PERIOD_MAX_MS);
            let kept = kept.map(|one| (one.change, at.saturating_sub(one.at), one.outdated));
            newest(kept.collect(), |e| e.1)
        };
        Self {
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            uid: uid.into(),
            at,
            recommendations,
            up: events(&memory.scale_up_events),
            down: events(&memory.scale_down_events),
            beyond: memory.beyond.clone(),
            count: None,
        }
    }

    pub(super) fn key(&self) -> HpaKey {
        HpaKey { namespace: self.namespace.clone(), name: self.name.clone() }
    }

    /// Whether none of it can matter at `now`.
    pub(super) fn is_expired(&self, now: Timestamp, ages: Ages) -> bool {
        now.saturating_sub(self.at) > millis(ages.retention).max(PERIOD_MAX_MS)
    }

    /// What it says at `now`; `None` if nothing.
    ///
    /// Scale events are facts and hold as long as a policy may look back. Recommendations only mean something without gaps: after a
    /// longer one it is not known what the load was, and the autoscaler starts as one that was never seen.
    pub(super) fn restore(&self, now: Timestamp, ages: Ages) -> Option<Memory> {
        // Another machine's clock may be ahead; what it wrote did not happen later than now.
        let time = |age: i64| self.at.saturating_sub(age).min(now);
        let events = |all: &[(i32, i64, bool)]| -> Vec<ScaleEvent> {
            let all = all.iter().map(|(change, age, outdated)| ScaleEvent {
                change: *change,
                at: time(*age),
                outdated: *outdated,
            });
            all.filter(|event| now.saturating_sub(event.at) <= PERIOD_MAX_MS).collect()
        };
        let oldest = now.saturating_sub(millis(ages.retention));
        let known = now.saturating_sub(self.at) <= millis(ages.gap_max);
        let recommendations: Vec<_> = if known {
            let all = self.recommendations.iter().flatten();
            let all =
                all.map(|(replicas, age)| Recommendation { replicas: *replicas, at: time(*age) });
            all.filter(|one| one.at >= oldest).collect()
        } else {
            Vec::new()
        };
        let memory = Memory {
            recommendations: (!recommendations.is_empty()).then_some(recommendations),
            scale_up_events: events(&self.up),
            scale_down_events: events(&self.down),
            beyond: self.beyond.restore(now.saturating_sub(self.at) <= millis(ages.gap_max)),
        };
        (memory != Memory::default()).then_some(memory)
    }
}

/// The recommendations that can be the highest or the lowest of those since some time, in their order. All others have a later
/// one at least as high and a later one at least as low, so that no window tells the difference; while replicas stay as they are
/// that leaves one of twenty.
fn undominated(all: &[Recommendation]) -> Vec<Recommendation> {
    let mut by_age: Vec<usize> = (0..all.len()).collect();
    by_age.sort_by_key(|at| std::cmp::Reverse(all[*at].at));
    let mut kept = vec![false; all.len()];
    let mut seen: Option<(i32, i32)> = None;
    for at in by_age {
        let replicas = all[at].replicas;
        let (lowest, highest) = seen.unwrap_or((i32::MAX, i32::MIN));
        if seen.is_none() || replicas < lowest || replicas > highest {
            kept[at] = true;
        }
        seen = Some((lowest.min(replicas), highest.max(replicas)));
    }
    all.iter().zip(kept).filter_map(|(one, kept)| kept.then_some(*one)).collect()
}

/// All, or if they are too many the youngest, in their order.
fn newest<T: Copy>(mut all: Vec<T>, age: impl Fn(&T) -> i64) -> Box<[T]> {
    if all.len() > KEPT_MAX {
        let mut ages: Vec<i64> = all.iter().map(&age).collect();
        ages.sort_unstable();
        let limit = ages[KEPT_MAX - 1];
        all.retain(|one| age(one) <= limit);
        all.truncate(KEPT_MAX);
    }
    all.into_boxed_slice()
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AGES: Ages =
        Ages { retention: Duration::from_secs(3_600), gap_max: Duration::from_secs(120) };
    const NOW: Timestamp = 1_700_000_000_000;

    fn recommendation((replicas, age_s): (i32, i64)) -> Recommendation {
        Recommendation { replicas, at: NOW - age_s * 1_000 }
    }

    fn memory(recommendations: &[(i32, i64)], up: &[(i32, i64)]) -> Memory {
        let event = |(change, age_s): &(i32, i64)| ScaleEvent {
            change: *change,
            at: NOW - age_s * 1_000,
            outdated: false,
        };
        Memory {
            recommendations: Some(recommendations.iter().copied().map(recommendation).collect()),
            scale_up_events: up.iter().map(event).collect(),
            scale_down_events: Vec::new(),
            beyond: BeyondMemory::default(),
        }
    }

    fn round_trip(memory: &Memory, later_s: i64) -> Option<Memory> {
        let saved = Saved::new(&HpaKey::new("n", "h"), "u", memory, NOW, AGES);
        let text = serde_json::to_string(&saved).unwrap();
        let read: Saved = serde_json::from_str(&text).unwrap();
        assert_eq!(read, saved, "{text}");
        read.restore(NOW + later_s * 1_000, AGES)
    }

    #[test]
    fn an_unchanging_autoscaler_takes_few_bytes() {
        let steady: Vec<_> = (0..20).map(|i| (5, i * 15)).collect();
        let memory = memory(&steady, &[]);
        let saved = Saved::new(&HpaKey::new("shop", "front"), &"u".repeat(36), &memory, NOW, AGES);
        let text = serde_json::to_string(&saved).unwrap();
        assert!(text.contains(r#""recommendations":[[5,0]]"#), "{text}");
        assert!(text.len() < 160, "{} {text}", text.len());
    }

    #[test]
    fn what_matters_comes_back() {
        let kept = memory(&[(4, 30), (7, 15), (6, 0)], &[(3, 15), (1, 1_000)]);
        assert_eq!(round_trip(&kept, 10), Some(kept.clone()));
        // Policies look back half an hour, windows an hour.
        let long = memory(&[(9, 3_500), (6, 0)], &[(3, 15), (1, 1_795)]);
        assert_eq!(round_trip(&long, 10), Some(memory(&[(9, 3_500), (6, 0)], &[(3, 15)])));
        assert_eq!(round_trip(&long, 110), Some(memory(&[(6, 0)], &[(3, 15)])));
    }

    #[test]
    fn after_a_gap_only_events_are_known() {
        let kept = memory(&[(7, 15), (6, 0)], &[(3, 15)]);
        let known = round_trip(&kept, 120).unwrap();
        assert_eq!(known.recommendations, kept.recommendations);
        let known = round_trip(&kept, 121).unwrap();
        assert_eq!((known.recommendations, known.scale_up_events.len()), (None, 1));
        assert_eq!(round_trip(&kept, 1_800), None);
        assert_eq!(round_trip(&memory(&[(6, 0)], &[]), 121), None);
        assert_eq!(round_trip(&Memory::default(), 0), None);
    }

    #[test]
    fn times_of_a_clock_that_is_ahead_become_now() {
        let kept = memory(&[(7, 0)], &[(3, 0)]);
        let restored = round_trip(&kept, -60).unwrap();
        let now = NOW - 60_000;
        assert_eq!(restored.recommendations.unwrap()[0].at, now);
        assert_eq!(restored.scale_up_events[0].at, now);
    }

    #[test]
    fn lists_are_bounded() {
        let many: Vec<_> = (0..5_000).map(|i| (1, i % 1_000)).collect();
        let saved = Saved::new(&HpaKey::new("n", "h"), "u", &memory(&[], &many), NOW, AGES);
        assert_eq!(saved.up.len(), KEPT_MAX);
        assert!(saved.up.iter().all(|(_, age, _)| *age <= 410_000));
    }

    proptest! {
        /// Whatever the window and whenever it is looked, the highest and the lowest are those of the whole list.
        #[test]
        fn no_window_tells_the_difference(
            all in prop::collection::vec((0..20_i32, 0..600_i64), 1..40),
            window_s in 0..700_i64,
            later_s in 0..100_i64,
        ) {
            let all: Vec<_> = all.into_iter().map(recommendation).collect();
            let kept = undominated(&all);
            let since = NOW + (later_s - window_s) * 1_000;
            let extremes = |list: &[Recommendation]| {
                let within = || list.iter().filter(|one| one.at > since).map(|one| one.replicas);
                (within().min(), within().max())
            };
            prop_assert_eq!(extremes(&all), extremes(&kept));
        }
    }
}
