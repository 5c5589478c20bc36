//! Whose the saved pods are, as far as the files tell.
//!
//! As in a cluster, a pod is the target's if its controlling owner is, or is a `ReplicaSet` whose controlling owner is. Objects are
//! told by group, kind and name, and by their uids where both sides have one: what a person wrote has none.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Deserialize;

use super::kinds::PodSaved;
use super::{Autoscaler, Objects, group};
use crate::beyond::{LeftOut, owners};
use crate::explain::story::named;
use crate::inputs::PodFacts;

/// The owner that controls an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Owner {
    api_version: String,
    kind: String,
    name: String,
    uid: String,
    controller: bool,
}

impl Owner {
    /// The one of all owners that controls.
    pub(super) fn controlling(owners: Vec<Self>) -> Option<Self> {
        owners.into_iter().find(|owner| owner.controller)
    }

    fn is_replica_set(&self) -> bool {
        (group(&self.api_version), self.kind.as_str()) == ("apps", "ReplicaSet")
    }

    /// Whether it is the object with this uid, which is empty if it is not known, given that the name is its.
    fn may_be(&self, uid: &str) -> bool {
        self.uid.is_empty() || uid.is_empty() || self.uid == uid
    }
}

/// What the files know of a target's pods.
#[derive(Debug)]
pub(super) struct Owned<'o> {
    pub(super) objects: &'o Objects,
    pub(super) autoscaler: &'o Autoscaler,
    /// The target's uid; empty if it is not known.
    pub(super) uid: &'o str,
}

/// Whose a pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Target,
    Other,
    /// The `ReplicaSet` that it belongs to was not saved.
    Unknown,
}

/// The pods of the target among those of its selector.
#[derive(Debug)]
pub(super) struct Split {
    pub(super) pods: Vec<Arc<PodFacts>>,
    /// `None`: nothing says whose any of them is.
    pub(super) left_out: Option<LeftOut>,
    /// The names of all that are left out.
    pub(super) out: BTreeSet<String>,
    /// What was assumed.
    pub(super) note: Option<String>,
}

impl Owned<'_> {
    /// Leaves out pods of others.
    pub(super) fn split(&self, selected: &[&PodSaved]) -> Split {
        let mut pods: Vec<_> = selected.iter().map(|pod| Arc::clone(&pod.facts)).collect();
        if !selected.is_empty() && selected.iter().all(|pod| pod.owner.is_none()) {
            let note = "the pods in the files have no ownerReferences: all pods that the selector matches count";
            let note = Some(String::from(note));
            return Split { pods, left_out: None, out: BTreeSet::new(), note };
        }
        let mut unknown = BTreeSet::new();
        let mut others = BTreeSet::new();
        for pod in selected {
            match self.whose(pod) {
                Whose::Target => {}
                Whose::Other => drop(others.insert(Arc::clone(&pod.facts.name))),
                Whose::Unknown => {
                    unknown.extend(pod.owner.as_ref().map(|owner| owner.name.as_str()));
                }
            }
        }
        let (left_out, out) = owners::only_owned(&mut pods, |pod| !others.contains(&pod.name));
        let note = (!unknown.is_empty()).then(|| {
            let sets = named(unknown.iter().map(ToString::to_string));
            format!(
                "the files do not tell whose these ReplicaSets are, and their pods are taken for the target's: {sets}"
            )
        });
        Split { pods, left_out: Some(left_out), out, note }
    }

    fn whose(&self, pod: &PodSaved) -> Whose {
        let Some(owner) = &pod.owner else { return Whose::Other };
        if self.is_target(owner) {
            return Whose::Target;
        }
        if !owner.is_replica_set() {
            return Whose::Other;
        }
        let named = self.objects.workloads.get(&(pod.namespace.clone(), owner.name.clone()));
        let named = named.into_iter().flatten().map(|(_, workload)| workload);
        let mut sets = named.filter(|it| it.is("apps", "ReplicaSet") && owner.may_be(&it.uid));
        match sets.next() {
            None => Whose::Unknown,
            Some(set) if set.owner.as_ref().is_some_and(|above| self.is_target(above)) => {
                Whose::Target
            }
            Some(_) => Whose::Other,
        }
    }

    fn is_target(&self, owner: &Owner) -> bool {
        let target = &self.autoscaler.object.spec.scale_target_ref;
        let version = target.api_version.as_deref().unwrap_or_default();
        owner.kind == target.kind
            && owner.name == target.name
            && (version.is_empty() || group(&owner.api_version) == group(version))
            && owner.may_be(self.uid)
    }
}
