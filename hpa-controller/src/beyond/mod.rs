//! What goes beyond upstream: all of it opt-in, by annotations, and none of it needs a new kind of object.
//!
//! [`parse`] reads annotations into a [`Policy`]; [`gather()`] adds what is known for it at the time, which makes a [`Beyond`]: an input of
//! the decision as any other. [`decide`](crate::decide::decide) then calls the hooks: [`Beyond::bounds`] first,
//! [`Beyond::fallback`] where upstream gives up, [`Beyond::raise`] on the best proposal and [`Beyond::hold`] on the result. The hooks
//! keep to these rules: bounds lie within the specification's, a fallback and a forecast never lower anything, a preview changes
//! nothing, and whatever was done is noted.

mod cron;
#[cfg(test)]
mod decisions;
mod gather;
mod memory;
pub mod owners;
mod policy;
mod schedule;
#[cfg(test)]
mod tests;

use model::Timestamp;
use serde::{Deserialize, Serialize};

use crate::decision::{EventNote, EventType};
use crate::forecast::ForecastReading;
use crate::words::{counted, span};

pub use cron::{Cron, CronError};
pub use gather::gather;
pub use memory::{BeyondMemory, Turn};
pub use policy::{Fallback, FallbackTo, FlapBudget, ForecastPolicy, PREFIX, Pause, Policy, parse};
pub use schedule::{Rule, Schedule, Window};

/// What an autoscaler asked for beyond upstream, and what is known for it at the time of a decision.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Beyond {
    /// What was asked for.
    #[serde(default)]
    pub policy: Policy,
    /// For each rule of the schedule, the window that is open or comes next.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<Window>,
    /// What is to come, or why it is not known; `None` unless asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forecast: Option<Result<ForecastReading, String>>,
    /// Pods that were left out since the target does not own them; `None` unless asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<LeftOut>,
    /// Why a part of what was asked for cannot be had: told, and the part is off.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<EventNote>,
}

/// Pods that the selector matches and the target does not own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LeftOut {
    /// How many.
    pub count: usize,
    /// The first few names.
    pub names: Vec<String>,
}

impl Beyond {
    /// Nothing was asked for.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// The bounds that hold at `now`, given those of the specification: within them, and never crossed. Called first: it also tells what
    /// was found when the facts were gathered.
    #[must_use]
    pub fn bounds(
        &self,
        min: i32,
        max: i32,
        now: Timestamp,
        did: &mut BeyondDecision,
    ) -> (i32, i32) {
        did.events.extend(self.problems.iter().cloned());
        if let Some(LeftOut { count: count @ 1.., names }) = &self.left_out {
            let more = if names.len() < *count { ", …" } else { "" };
            did.notes.push(format!(
                "pods that the selector matches and the target does not own, left out: {count} ({}{more})",
                names.join(", ")
            ));
        }
        let Some(schedule) = &self.policy.schedule else { return (min, max) };
        let open = self.windows.iter().filter(|window| window.is_open(now));
        let rules: Vec<_> = open.filter_map(|window| schedule.rules.get(window.rule)).collect();
        if rules.is_empty() {
            return (min, max);
        }
        let lower = rules.iter().filter_map(|rule| rule.min_replicas).max();
        let upper = rules.iter().filter_map(|rule| rule.max_replicas).min();
        let lowest = lower.map_or(min, |lower| lower.max(min).min(max));
        // Where rules contradict each other, more replicas do less harm.
        let highest = upper.map_or(max, |upper| upper.min(max).max(min)).max(lowest);
        let wanted = (lower.unwrap_or(min), upper.unwrap_or(max));
        did.bounds = Some(ScheduledBounds { min: lowest, max: highest });
        let text = match wanted == (lowest, highest) || (lowest, highest) == (min, max) {
            true => String::new(),
            false => format!(" (asked for: {} to {})", wanted.0, wanted.1),
        };
        did.notes.push(format!(
            "bounds by schedule: {lowest} to {highest} instead of {min} to {max}{text}"
        ));
        (lowest, highest)
    }

    /// Replicas to go on with where metrics failed so that upstream would give up, instead of giving up: at least `current` and `best`, which
    /// is the largest proposal of the metrics that worked. `None`: nothing was asked for, or it is not time yet.
    #[must_use]
    pub fn fallback(
        &self,
        memory: &BeyondMemory,
        current: i32,
        best: Option<i32>,
        now: Timestamp,
        did: &mut BeyondDecision,
    ) -> Option<i32> {
        did.metrics_lost = true;
        let Fallback { to, after_ms } = self.policy.fallback.as_ref()?;
        let lost_ms = memory.lost_since.map_or(0, |since| now.saturating_sub(since).max(0));
        if lost_ms < *after_ms {
            let left = span(after_ms - lost_ms);
            did.notes.push(format!("metrics are lost; fallback in {left}"));
            return None;
        }
        let (wanted, how) = match to {
            FallbackTo::Hold => (current, String::from("hold")),
            FallbackTo::LastKnown => match memory.last_known {
                Some(known) => (known, String::from("last-known")),
                None => (current, String::from("last-known, of which there is none")),
            },
            FallbackTo::Replicas(replicas) => (*replicas, replicas.to_string()),
        };
        let replicas = wanted.max(current).max(best.unwrap_or(0));
        did.fallback = Some(replicas);
        did.notes.push(format!(
            "metrics have been lost for {}: fallback ({how}) to {}, never below the current {current}",
            span(lost_ms),
            counted(replicas, "replica")
        ));
        // The same text each time, so that the recorder counts instead of repeating.
        did.events.push(EventNote {
            kind: EventType::Warning,
            reason: String::from("MetricsFallback"),
            message: format!(
                "metrics have been lost for more than {} s, fallback ({how}) to {}",
                seconds(*after_ms),
                counted(replicas, "replica")
            ),
        });
        Some(replicas)
    }

    /// The proposal after terms that may only raise it.
    #[must_use]
    pub fn raise(&self, proposed: i32, _now: Timestamp, did: &mut BeyondDecision) -> i32 {
        let Some(policy) = &self.policy.forecast else { return proposed };
        let reading = match &self.forecast {
            Some(Ok(reading)) => reading,
            Some(Err(why)) => {
                did.notes.push(format!("there is no forecast: {why}"));
                return proposed;
            }
            None => {
                did.notes.push(String::from("there is no forecast: nobody was asked"));
                return proposed;
            }
        };
        let applied = policy.apply && reading.replicas > proposed;
        did.forecast = Some(ForecastTerm { replicas: reading.replicas, applied });
        let what = match (applied, policy.apply) {
            (true, _) => "raises the proposal",
            (false, true) => "changes nothing",
            (false, false) => "is a preview",
        };
        did.notes.push(format!(
            "forecast for the next {}: a demand of {:.3} (typical error {:.3}), {}; it {what} ({proposed})",
            span(policy.horizon_ms),
            reading.demand,
            reading.typical_error,
            counted(reading.replicas, "replica"),
        ));
        if applied { reading.replicas } else { proposed }
    }

    /// Whether replicas are held at a number of their own, which needs no metrics: [`hold`](Self::hold) is asked even where nothing else
    /// is known.
    #[must_use]
    pub fn holds_at_a_number(&self, now: Timestamp) -> bool {
        self.pause(now).is_some_and(|pause| pause.replicas.is_some())
    }

    /// The pause that holds at `now`.
    fn pause(&self, now: Timestamp) -> Option<&Pause> {
        self.policy.pause.as_ref().filter(|pause| pause.until.is_none_or(|until| now < until))
    }

    /// The final count after what may hold replicas: a pause, and a flap budget that is used up. `min` and `max` are those of the
    /// specification.
    ///
    /// A pause without a number keeps whatever is there, outside of the bounds too: somebody asked for hands off.
    #[must_use]
    pub fn hold(
        &self,
        memory: &BeyondMemory,
        current: i32,
        desired: i32,
        (min, max): (i32, i32),
        now: Timestamp,
        did: &mut BeyondDecision,
    ) -> i32 {
        if let Some(pause) = self.pause(now) {
            let held = pause.replicas.map_or(current, |replicas| replicas.max(min).min(max));
            did.held = Some(Held { by: HeldBy::Pause, desired, replicas: held });
            let asked = pause.replicas.filter(|replicas| *replicas != held);
            let asked = asked.map_or(String::new(), |n| format!(" (asked for: {n})"));
            let at = counted(held, "replica");
            did.notes.push(format!("paused at {at}{asked} instead of {desired}"));
            if desired != held {
                did.events.push(EventNote {
                    kind: EventType::Normal,
                    reason: String::from("ScalingPaused"),
                    message: format!("scaling is paused at {at} by annotation"),
                });
            }
            return held;
        }
        // Out of bounds is not a flap.
        let max = did.bounds.map_or(max, |bounds| bounds.max);
        if let Some(budget) = &self.policy.flap_budget
            && desired < current
            && current <= max
        {
            let turns = memory.turns_with(false, now, budget.window_ms);
            if turns > budget.turns as usize {
                did.held = Some(Held { by: HeldBy::FlapBudget, desired, replicas: current });
                did.notes.push(format!(
                    "flap budget used up: scaling down to {desired} would be turn {turns} within {}; granted are {}",
                    span(budget.window_ms),
                    budget.turns
                ));
                did.events.push(EventNote {
                    kind: EventType::Warning,
                    reason: String::from("FlapBudgetExceeded"),
                    message: format!(
                        "scaling down is held: more than {} turns within {} s",
                        budget.turns,
                        seconds(budget.window_ms)
                    ),
                });
                return current;
            }
        }
        desired
    }
}

fn seconds(ms: i64) -> i64 {
    ms / 1000
}

/// What went beyond upstream in one decision.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BeyondDecision {
    /// Bounds of a schedule that hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bounds: Option<ScheduledBounds>,
    /// Upstream would have given up for want of metrics.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub metrics_lost: bool,
    /// Replicas of the fallback that was taken instead of giving up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<i32>,
    /// The forecast's part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forecast: Option<ForecastTerm>,
    /// What held the replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
    /// What was done, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Events that are to be told besides upstream's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<EventNote>,
}

/// Bounds of a schedule, within the specification's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScheduledBounds {
    /// The lower one.
    pub min: i32,
    /// The upper one.
    pub max: i32,
}

/// The forecast as a term of the maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ForecastTerm {
    /// Replicas for what is to come.
    pub replicas: i32,
    /// It was the largest term; never in a preview.
    pub applied: bool,
}

/// Replicas that were held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// By what.
    pub by: HeldBy,
    /// What was decided before.
    pub desired: i32,
    /// The result.
    pub replicas: i32,
}

/// What may hold replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HeldBy {
    /// The annotations `paused`, `paused-until` and `paused-replicas`.
    Pause,
    /// The annotation `flap-budget`.
    FlapBudget,
}

impl BeyondDecision {
    /// Nothing was done.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}
