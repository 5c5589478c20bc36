//! `behavior`: its defaults, the rescales that are remembered for its policies, and what each policy allows.

use std::borrow::Cow;

use k8s_openapi::api::autoscaling::v2::{
    HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscalerBehavior,
};
use model::Timestamp;

use super::ratio::{ceil_replicas, truncate_replicas};
use crate::decision::PolicyLimit;
use crate::inputs::ScaleEvent;

/// Which way replicas go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// More.
    Up,
    /// Fewer.
    Down,
}

impl Direction {
    /// From `current` to `desired`; downward if they are equal.
    #[must_use]
    pub const fn of(current: i32, desired: i32) -> Self {
        if desired > current { Self::Up } else { Self::Down }
    }
}

/// The rules of one direction, defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules<'a> {
    /// For how long earlier recommendations count, in milliseconds; `None`: as the controller is set up.
    pub window_ms: Option<i64>,
    /// Which policy counts.
    pub select: Select,
    /// The policies.
    pub policies: Cow<'a, [HPAScalingPolicy]>,
}

/// Which of several policies counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Select {
    /// The one that allows the largest change.
    Max,
    /// The one that allows the smallest change.
    Min,
    /// None: no change that way.
    Disabled,
}

impl Select {
    /// As it is written in a specification.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Max => "Max",
            Self::Min => "Min",
            Self::Disabled => "Disabled",
        }
    }
}

impl<'a> Rules<'a> {
    /// The rules of one direction as they stand in `behavior`; each field that is not there gets the default of its direction.
    #[must_use]
    pub fn of(behavior: &'a HorizontalPodAutoscalerBehavior, direction: Direction) -> Self {
        let given = match direction {
            Direction::Up => behavior.scale_up.as_ref(),
            Direction::Down => behavior.scale_down.as_ref(),
        };
        Self::new(given, direction)
    }

    /// The rules `given` for `direction`, defaults filled in.
    #[must_use]
    pub fn new(given: Option<&'a HPAScalingRules>, direction: Direction) -> Self {
        let window = given.and_then(|rules| rules.stabilization_window_seconds);
        let window = window.or((direction == Direction::Up).then_some(0));
        let select = match given.and_then(|rules| rules.select_policy.as_deref()) {
            Some("Min") => Select::Min,
            Some("Disabled") => Select::Disabled,
            _ => Select::Max,
        };
        let policies = given.and_then(|rules| rules.policies.as_deref());
        Self {
            window_ms: window.map(|seconds| i64::from(seconds) * 1000),
            select,
            policies: policies.map_or_else(|| default_policies(direction).into(), Cow::Borrowed),
        }
    }

    /// What the rules allow, from `current` replicas and the rescales before `now`, with each policy's part.
    #[must_use]
    pub fn limit(
        &self,
        direction: Direction,
        current: i32,
        events: Events<'_>,
        now: Timestamp,
    ) -> (i32, Vec<PolicyLimit>) {
        if self.select == Select::Disabled {
            return (current, Vec::new());
        }
        let policies: Vec<_> = self
            .policies
            .iter()
            .map(|policy| allow(policy, direction, current, events, now))
            .collect();
        let allowed = policies.iter().map(|policy| policy.allows);
        let limit = match (direction, self.select) {
            (Direction::Up, Select::Max) | (Direction::Down, Select::Min) => allowed.max(),
            _ => allowed.min(),
        };
        (limit.unwrap_or(current), policies)
    }

    /// The longest period of a policy, in milliseconds.
    fn longest_period_ms(&self) -> i64 {
        self.policies
            .iter()
            .map(|policy| i64::from(policy.period_seconds) * 1000)
            .max()
            .unwrap_or(0)
    }
}

fn default_policies(direction: Direction) -> Vec<HPAScalingPolicy> {
    let policy =
        |kind: &str, value| HPAScalingPolicy { type_: kind.to_owned(), value, period_seconds: 15 };
    match direction {
        Direction::Up => vec![policy("Pods", 4), policy("Percent", 100)],
        Direction::Down => vec![policy("Percent", 100)],
    }
}

/// Rescales that happened.
#[derive(Clone, Copy, Debug)]
pub struct Events<'a> {
    /// To more replicas.
    pub up: &'a [ScaleEvent],
    /// To fewer.
    pub down: &'a [ScaleEvent],
}

/// Replicas that changed in less than `period_ms` before `now`. Events are counted by their age alone.
#[must_use]
pub fn changed_within(events: &[ScaleEvent], period_ms: i64, now: Timestamp) -> i32 {
    let recent = events.iter().filter(|event| now.saturating_sub(event.at) < period_ms);
    recent.fold(0, |sum, event| sum.saturating_add(event.change))
}

fn allow(
    policy: &HPAScalingPolicy,
    direction: Direction,
    current: i32,
    events: Events<'_>,
    now: Timestamp,
) -> PolicyLimit {
    let period_ms = i64::from(policy.period_seconds) * 1000;
    let added = changed_within(events.up, period_ms, now);
    let removed = changed_within(events.down, period_ms, now);
    let base = current.saturating_sub(added).saturating_add(removed);
    let percent = f64::from(policy.value) / 100.0;
    let allows = match (direction, policy.type_.as_str()) {
        (Direction::Up, "Pods") => base.saturating_add(policy.value),
        (Direction::Up, _) => ceil_replicas(f64::from(base) * (1.0 + percent)),
        (Direction::Down, "Pods") => base.saturating_sub(policy.value),
        (Direction::Down, _) => truncate_replicas(f64::from(base) * (1.0 - percent)),
    };
    PolicyLimit {
        kind: policy.type_.clone(),
        value: policy.value,
        period_seconds: policy.period_seconds,
        added,
        removed,
        base,
        allows,
    }
}

/// Remembers a rescale by `change` replicas at `now`. Events that no policy of `rules` asks about any more give up their places.
pub fn store(events: &mut Vec<ScaleEvent>, change: i32, rules: &Rules<'_>, now: Timestamp) {
    let longest = rules.longest_period_ms();
    for event in &mut *events {
        event.outdated |= now.saturating_sub(event.at) > longest;
    }
    let event = ScaleEvent { change, at: now, outdated: false };
    match events.iter_mut().rfind(|event| event.outdated) {
        Some(place) => *place = event,
        None => events.push(event),
    }
}
