//! What the features remember from one decision to the next, a part of the autoscaler's memory.

use model::Timestamp;
use serde::{Deserialize, Serialize};

use super::{BeyondDecision, Policy};

/// Most turns that are remembered; more than any budget grants.
const TURNS_MAX: usize = 256;

/// What is remembered; nothing for an autoscaler that asks for nothing beyond upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BeyondMemory {
    /// Since when metrics have been lost, in milliseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_since: Option<Timestamp>,
    /// What metrics proposed when they worked last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_known: Option<i32>,
    /// Where rescaling turned, oldest first; the first one began it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub turns: Vec<Turn>,
}

/// The first rescale in another direction than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Turn {
    /// Towards more replicas.
    pub up: bool,
    /// When, in milliseconds since the epoch.
    pub at: Timestamp,
}

impl BeyondMemory {
    /// Nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Turns within the window, with one in this direction now if that would be one.
    #[must_use]
    pub fn turns_with(&self, up: bool, now: Timestamp, window_ms: i64) -> usize {
        let recent = |turn: &&Turn| turn.at > now.saturating_sub(window_ms);
        let past = self.turns.iter().skip(1).filter(recent).count();
        past + usize::from(self.turns.last().is_some_and(|last| last.up != up))
    }

    /// After metrics were looked at: what was proposed by them, unless they are lost. Not to be called where no metric was looked
    /// at, for want of a selector or of pods that are its alone: that says nothing about metrics.
    pub fn looked(
        &mut self,
        policy: &Policy,
        proposed: Option<i32>,
        did: &BeyondDecision,
        now: Timestamp,
    ) {
        if policy.fallback.is_none() {
            (self.lost_since, self.last_known) = (None, None);
        } else if did.metrics_lost {
            self.lost_since.get_or_insert(now);
        } else {
            self.lost_since = None;
            self.last_known = proposed.or(self.last_known);
        }
    }

    /// What it is after the controller was away: rescales are facts, but whether metrics were there meanwhile is not known unless it was
    /// away for a moment only.
    #[must_use]
    pub fn restore(&self, is_recent: bool) -> Self {
        if is_recent { self.clone() } else { Self { turns: self.turns.clone(), ..Self::default() } }
    }

    /// After a rescale that was carried out.
    pub fn rescaled(&mut self, policy: &Policy, current: i32, desired: i32, now: Timestamp) {
        let Some(budget) = &policy.flap_budget else {
            self.turns.clear();
            return;
        };
        let up = desired > current;
        if desired != current && self.turns.last().is_none_or(|last| last.up != up) {
            self.turns.push(Turn { up, at: now });
        }
        // One older turn stays: what came first after it is a turn only because of it.
        let since = now.saturating_sub(budget.window_ms);
        let old = self.turns.iter().take_while(|turn| turn.at <= since).count();
        let excess = old.saturating_sub(1).max(self.turns.len().saturating_sub(TURNS_MAX));
        self.turns.drain(..excess);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Fallback, FallbackTo, FlapBudget};
    use super::*;

    #[test]
    fn turns_within_the_window_are_counted() {
        let budget = FlapBudget { turns: 2, window_ms: 1000 };
        let policy = Policy { flap_budget: Some(budget), ..Policy::default() };
        let mut memory = BeyondMemory::default();
        let count = |memory: &BeyondMemory, now| {
            (memory.turns_with(false, now, 1000), memory.turns_with(true, now, 1000))
        };
        assert_eq!(count(&memory, 0), (0, 0));
        // Up, up, down, up: the first is no turn, the second goes on.
        for (current, desired, at) in [(1, 2, 100), (2, 4, 200), (4, 3, 300), (3, 5, 400)] {
            memory.rescaled(&policy, current, desired, at);
        }
        assert_eq!(memory.turns.iter().map(|turn| turn.at).collect::<Vec<_>>(), [100, 300, 400]);
        assert_eq!(count(&memory, 500), (3, 2));
        assert_eq!(count(&memory, 1300), (2, 1));
        assert_eq!(count(&memory, 1400), (1, 0));
        // Those that no window sees are forgotten, but for the last direction.
        memory.rescaled(&policy, 5, 4, 5000);
        assert_eq!(memory.turns, [Turn { up: true, at: 400 }, Turn { up: false, at: 5000 }]);
        assert_eq!(count(&memory, 5001), (1, 2));
        memory.rescaled(&Policy::default(), 4, 5, 5002);
        assert!(memory.is_empty());
    }

    #[test]
    fn a_loss_begins_once_and_ends_with_a_proposal() {
        let fallback = Fallback { to: FallbackTo::LastKnown, after_ms: 1 };
        let policy = Policy { fallback: Some(fallback), ..Policy::default() };
        let lost = BeyondDecision { metrics_lost: true, ..BeyondDecision::default() };
        let mut memory = BeyondMemory::default();
        memory.looked(&policy, Some(7), &BeyondDecision::default(), 1);
        memory.looked(&policy, None, &lost, 2);
        memory.looked(&policy, Some(3), &lost, 3);
        assert_eq!((memory.lost_since, memory.last_known), (Some(2), Some(7)));
        memory.looked(&policy, Some(5), &BeyondDecision::default(), 4);
        assert_eq!((memory.lost_since, memory.last_known), (None, Some(5)));
        memory.looked(&Policy::default(), Some(5), &BeyondDecision::default(), 5);
        assert!(memory.is_empty());
    }
}
