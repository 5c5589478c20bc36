//! What goes beyond upstream: all of it opt-in, by annotations, and none of it needs a new kind of object.

use model::Timestamp;
use serde::{Deserialize, Serialize};

use crate::decision::EventNote;

/// What an autoscaler asked for beyond upstream, and what is known for it at the time of a decision.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Beyond {}

impl Beyond {
    /// Nothing was asked for.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// The bounds that hold at `now`, given those of the specification.
    #[must_use]
    pub fn bounds(
        &self,
        min: i32,
        max: i32,
        _now: Timestamp,
        _did: &mut BeyondDecision,
    ) -> (i32, i32) {
        (min, max)
    }

    /// Replicas to go on with where metrics failed so that upstream would give up, instead of giving up. `best` is the largest
    /// proposal of the metrics that worked.
    #[must_use]
    pub fn fallback(
        &self,
        _current: i32,
        _best: Option<i32>,
        _now: Timestamp,
        _did: &mut BeyondDecision,
    ) -> Option<i32> {
        None
    }

    /// The proposal after terms that may only raise it.
    #[must_use]
    pub fn raise(&self, proposed: i32, _now: Timestamp, _did: &mut BeyondDecision) -> i32 {
        proposed
    }

    /// The final count after what may only hold replicas where they are (pause, flap budget).
    #[must_use]
    pub fn hold(
        &self,
        _current: i32,
        desired: i32,
        _now: Timestamp,
        _did: &mut BeyondDecision,
    ) -> i32 {
        desired
    }
}

/// What went beyond upstream in one decision.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BeyondDecision {
    /// What was done, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Events that are to be told besides upstream's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<EventNote>,
}

impl BeyondDecision {
    /// Nothing was done.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}
