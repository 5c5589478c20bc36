//! How far replicas may go in one step: the rates, then the bounds.

use model::Timestamp;

use super::ratio::truncate_replicas;
use super::rules::{Direction, Events, Rules};
use crate::decision::{Limit, LimitReason, RateLimit};
use crate::inputs::Constants;

impl LimitReason {
    /// As it is written in a condition.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DesiredWithinRange => "DesiredWithinRange",
            Self::TooFewReplicas => "TooFewReplicas",
            Self::TooManyReplicas => "TooManyReplicas",
            Self::ScaleUpLimit => "ScaleUpLimit",
            Self::ScaleDownLimit => "ScaleDownLimit",
        }
    }

    /// The message of the condition ScalingLimited.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::DesiredWithinRange => "the desired count is within the acceptable range",
            Self::TooFewReplicas => {
                "the desired replica count is less than the minimum replica count"
            }
            Self::TooManyReplicas => {
                "the desired replica count is more than the maximum replica count"
            }
            Self::ScaleUpLimit => {
                "the desired replica count is increasing faster than the maximum scale rate"
            }
            Self::ScaleDownLimit => {
                "the desired replica count is decreasing faster than the maximum scale rate"
            }
        }
    }
}

/// The lowest and the highest number of replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The lowest.
    pub min: i32,
    /// The highest.
    pub max: i32,
}

/// Without `behavior`: one step up at most multiplies replicas by a factor, or goes to a few replicas if that is more.
#[must_use]
pub fn plain(current: i32, desired: i32, bounds: Bounds, constants: &Constants) -> RateLimit {
    let rate = constants.scale_up_limit_factor * f64::from(current);
    let rate = truncate_replicas(rate.max(constants.scale_up_limit_minimum));
    let (cap, too_many) = if bounds.max > rate {
        (rate, LimitReason::ScaleUpLimit)
    } else {
        (bounds.max, LimitReason::TooManyReplicas)
    };
    let limit = if desired < bounds.min {
        Limit { replicas: bounds.min, reason: LimitReason::TooFewReplicas }
    } else if desired > cap {
        Limit { replicas: cap, reason: too_many }
    } else {
        Limit { replicas: desired, reason: LimitReason::DesiredWithinRange }
    };
    RateLimit {
        stabilized: desired,
        policies: Vec::new(),
        select: String::new(),
        rate_limit: Some(rate),
        limit,
    }
}

/// With `behavior`: as the policies of the direction say, never to the other side of `current`. Where nothing is to change the
/// bounds are not asked about.
#[must_use]
pub fn with_rules(
    current: i32,
    desired: i32,
    bounds: Bounds,
    (up, down): (&Rules<'_>, &Rules<'_>),
    events: Events<'_>,
    now: Timestamp,
) -> RateLimit {
    let mut result = RateLimit {
        stabilized: desired,
        policies: Vec::new(),
        select: String::new(),
        rate_limit: None,
        limit: Limit { replicas: desired, reason: LimitReason::DesiredWithinRange },
    };
    if desired == current {
        return result;
    }
    let direction = Direction::of(current, desired);
    let rules = if direction == Direction::Up { up } else { down };
    let (allowed, policies) = rules.limit(direction, current, events, now);
    let (allowed, limit) = match direction {
        Direction::Up => {
            let allowed = allowed.max(current);
            let (cap, reason) = if bounds.max > allowed {
                (allowed, LimitReason::ScaleUpLimit)
            } else {
                (bounds.max, LimitReason::TooManyReplicas)
            };
            (allowed, (desired > cap).then_some(Limit { replicas: cap, reason }))
        }
        Direction::Down => {
            let allowed = allowed.min(current);
            let (floor, reason) = if bounds.min < allowed {
                (allowed, LimitReason::ScaleDownLimit)
            } else {
                (bounds.min, LimitReason::TooFewReplicas)
            };
            (allowed, (desired < floor).then_some(Limit { replicas: floor, reason }))
        }
    };
    result.policies = policies;
    rules.select.as_str().clone_into(&mut result.select);
    result.rate_limit = Some(allowed);
    if let Some(limit) = limit {
        result.limit = limit;
    }
    result
}
