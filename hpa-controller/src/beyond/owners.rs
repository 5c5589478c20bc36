//! Whose pods are the target's: those whose chain of controlling owners leads to it.
//!
//! A selector may match pods of others (a Job's with the same labels, two Deployments that share a label). Upstream counts them; with
//! the annotation `pods: owned` they are left out, of the pods and of what metrics say about pods. The chain goes from a pod to its
//! controller (a `ReplicaSet`, say) and on to that one's.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::LeftOut;
use crate::inputs::{MetricAnswer, PodFacts};

/// Longest chain that is followed. Deployments have two links.
const LINKS_MAX: usize = 8;
/// Names of pods that were left out that are kept.
const NAMES_MAX: usize = 5;

/// Whether the chain of owners that begins with a pod's controller leads to the target. All are told by their uids; `parent` tells the
/// controller of an owner, and what it does not know ends the chain.
pub fn owns<'a>(
    target: &str,
    first: Option<&str>,
    parent: impl Fn(&str) -> Option<&'a str>,
) -> bool {
    let Some(first) = first else { return false };
    let mut above = std::iter::successors(parent(first), |owner| parent(owner));
    first == target || above.by_ref().take(LINKS_MAX - 1).any(|owner| owner == target)
}

/// Leaves out pods that are not `owned`, in order of names.
pub fn only_owned(
    pods: &mut Vec<Arc<PodFacts>>,
    mut owned: impl FnMut(&PodFacts) -> bool,
) -> (LeftOut, BTreeSet<String>) {
    let mut out = BTreeSet::new();
    pods.retain(|pod| {
        let keep = owned(pod);
        if !keep {
            out.insert(String::from(&*pod.name));
        }
        keep
    });
    let names = out.iter().take(NAMES_MAX).cloned().collect();
    (LeftOut { count: out.len(), names }, out)
}

/// Leaves out what metrics say about the pods `out`: values of pods that are not known would count in an average.
pub fn without(answer: &mut MetricAnswer, out: &BTreeSet<String>) {
    if let MetricAnswer::Pods(readings) = answer {
        readings.retain(|reading| !out.contains(&*reading.pod));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inputs::PodReading;

    #[test]
    fn chains_lead_to_the_target() {
        let parent = |owner: &str| match owner {
            "set-1" | "set-2" => Some("deployment"),
            "loop" => Some("loop"),
            _ => None,
        };
        for (first, expected) in [
            (Some("set-1"), true),
            (Some("deployment"), true),
            (Some("other"), false),
            (Some("loop"), false),
            (None, false),
        ] {
            assert_eq!(owns("deployment", first, parent), expected, "{first:?}");
        }
    }

    #[test]
    fn pods_and_their_values_are_left_out() {
        let pod = |name: &str| Arc::new(PodFacts { name: name.into(), ..PodFacts::default() });
        let mut pods: Vec<_> = ["a", "b", "c"].map(pod).into();
        let (left_out, out) = only_owned(&mut pods, |pod| &*pod.name == "b");
        assert_eq!(pods.len(), 1);
        assert_eq!(left_out, LeftOut { count: 2, names: vec!["a".into(), "c".into()] });
        let reading =
            |pod: &str| PodReading { pod: pod.into(), value_milli: 1, timestamp: 0, window_ms: 1 };
        let mut answer = MetricAnswer::Pods(["a", "b", "unknown"].map(reading).into());
        without(&mut answer, &out);
        assert_eq!(answer, MetricAnswer::Pods(["b", "unknown"].map(reading).into()));
    }
}
