//! When each node is asked.
//!
//! Every node has a slot in the resolution that follows from its name alone, counted from the epoch. So the load is flat, a
//! node's samples are evenly spaced, and two replicas whose clocks agree ask a node at the same moments without knowing of each other:
//! the windows that they answer with are the same.

use std::time::Duration;

use xxhash_rust::xxh64::xxh64;

/// The slots of a resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots {
    resolution_ms: i64,
}

impl Slots {
    /// Slots in `resolution`, which is at least a millisecond.
    #[must_use]
    pub fn new(resolution: Duration) -> Self {
        Self { resolution_ms: i64::try_from(resolution.as_millis()).unwrap_or(i64::MAX).max(1) }
    }

    /// Milliseconds from the start of each interval to the slot of `node`.
    #[must_use]
    pub fn offset_ms(&self, node: &str) -> i64 {
        // The top bits alone, so that the number is not negative.
        let hash = i64::try_from(xxh64(node.as_bytes(), 0) >> 1).unwrap_or(0);
        hash % self.resolution_ms
    }

    /// How long to wait at `now_ms` until the next slot of `node` that is not too close: more than a third of the resolution
    /// and at most four thirds of it, whatever the clock does between calls.
    #[must_use]
    pub fn wait(&self, node: &str, now_ms: i64) -> Duration {
        let earliest = now_ms.saturating_add(self.resolution_ms / 3);
        let since_slot =
            earliest.saturating_sub(self.offset_ms(node)).rem_euclid(self.resolution_ms);
        let wait_ms = self.resolution_ms / 3 + self.resolution_ms - since_slot;
        Duration::from_millis(wait_ms.unsigned_abs())
    }

    /// How long a node that has just become known waits for its first request, one of `nodes`: at once if they are few, spread
    /// over some seconds if they are many.
    #[must_use]
    pub fn first_wait(&self, node: &str, nodes: usize) -> Duration {
        const PER_NODE_MS: i64 = 8;
        const ALL_MS_MAX: i64 = 4_000;
        let nodes = i64::try_from(nodes).unwrap_or(i64::MAX);
        let all_ms = nodes.saturating_mul(PER_NODE_MS).clamp(1, ALL_MS_MAX);
        Duration::from_millis((self.offset_ms(node) % all_ms).unsigned_abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOTS: Slots = Slots { resolution_ms: 15_000 };

    #[test]
    fn a_node_is_asked_at_its_slot_whenever_one_looks() {
        let offset = SLOTS.offset_ms("node-1");
        for now_ms in (1_700_000_000_000..1_700_000_030_000).step_by(617) {
            let wait = i64::try_from(SLOTS.wait("node-1", now_ms).as_millis()).unwrap();
            assert_eq!((now_ms + wait).rem_euclid(15_000), offset, "{now_ms}");
            assert!((5_001..=20_000).contains(&wait), "{now_ms}: {wait}");
        }
        // From a slot the next one is a resolution away.
        let at_slot = 1_700_000_010_000 + offset;
        assert_eq!(SLOTS.wait("node-1", at_slot), Duration::from_secs(15));
        // And also if a timer fires a moment too early or too late.
        assert_eq!(SLOTS.wait("node-1", at_slot - 2), Duration::from_millis(15_002));
        assert_eq!(SLOTS.wait("node-1", at_slot + 90), Duration::from_millis(14_910));
        // Clocks before the epoch are wrong, but no reason to stop.
        assert!(SLOTS.wait("node-1", i64::MIN) <= Duration::from_secs(20));
        assert!(SLOTS.wait("node-1", i64::MAX) <= Duration::from_secs(20));
    }

    #[test]
    fn slots_are_spread_evenly() {
        let mut per_second = [0_u32; 15];
        for node in 0..15_000 {
            let offset = SLOTS.offset_ms(&format!("ip-10-0-{}-{}", node / 250, node % 250));
            per_second[usize::try_from(offset / 1_000).unwrap()] += 1;
        }
        // Expected are 1,000 with a standard deviation of 31.
        assert!(per_second.iter().all(|n| (850..1_150).contains(n)), "{per_second:?}");
    }

    #[test]
    fn few_nodes_are_asked_at_once() {
        assert_eq!(SLOTS.first_wait("node-1", 0), Duration::ZERO);
        assert!(SLOTS.first_wait("node-1", 3) < Duration::from_millis(24));
        assert!(SLOTS.first_wait("node-1", 5_000) < Duration::from_secs(4));
    }
}
