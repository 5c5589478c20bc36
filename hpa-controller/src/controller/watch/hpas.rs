//! The autoscalers.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use foldhash::fast::RandomState;
use parking_lot::RwLock;

use super::follow::Feed;
use super::kinds::HpaObject;
use super::version::is_older;
use crate::state::HpaKey;

/// Autoscalers that are kept; further ones are left alone, which is logged. Ten times what one cluster has been seen to have.
const HPAS_MAX: usize = 100_000;

/// Autoscalers that are warned of as they cannot be read.
const WARNED_MAX: usize = 100;

/// All autoscalers, each as new as it was ever seen: an answer to our own write counts before the watch tells of it.
#[derive(Debug, Default)]
pub(in crate::controller) struct Hpas {
    known: RwLock<HashMap<HpaKey, Entry, RandomState>>,
    /// Watches whose first list is complete.
    synced: AtomicUsize,
}

#[derive(Debug)]
struct Entry {
    object: Arc<HpaObject>,
    epoch: u64,
}

/// What became of an autoscaler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::controller) enum Change {
    /// It was not known, or another one had its name.
    New,
    /// It was known.
    Changed,
    /// It is gone.
    Gone,
}

impl Hpas {
    pub(in crate::controller) fn get(&self, key: &HpaKey) -> Option<Arc<HpaObject>> {
        self.known.read().get(key).map(|entry| Arc::clone(&entry.object))
    }

    pub(in crate::controller) fn len(&self) -> usize {
        self.known.read().len()
    }

    /// Whether the cluster's own controller is steered for any.
    pub(in crate::controller) fn any_steered(&self) -> bool {
        self.known.read().values().any(|entry| entry.object.steered.is_some())
    }

    /// How many watches have completed their first list.
    pub(in crate::controller) fn synced(&self) -> usize {
        self.synced.load(Ordering::Acquire)
    }

    pub(in crate::controller) fn keys(&self) -> Vec<HpaKey> {
        self.known.read().keys().cloned().collect()
    }

    /// What the server answered to a write.
    pub(in crate::controller) fn note(&self, key: &HpaKey, object: HpaObject) {
        if let Some(entry) = self.known.write().get_mut(key)
            && entry.object.uid() == object.uid()
            && is_older(entry.object.resource_version(), object.resource_version())
        {
            entry.object = Arc::new(object);
        }
    }

    /// `None` if it is not news.
    fn apply(&self, key: HpaKey, object: HpaObject, epoch: u64, listed: bool) -> Option<Change> {
        let mut known = self.known.write();
        let Some(entry) = known.get_mut(&key) else {
            if known.len() >= HPAS_MAX {
                tracing::error!(
                    namespace = &*key.namespace,
                    name = &*key.name,
                    "there are {HPAS_MAX} autoscalers already: this one is left alone"
                );
                return None;
            }
            known.insert(key, Entry { object: Arc::new(object), epoch });
            return Some(Change::New);
        };
        entry.epoch = epoch;
        // A list is believed even if its versions are lower: the cluster may have been restored from a backup.
        if !listed && is_older(object.resource_version(), entry.object.resource_version()) {
            return None;
        }
        let change = if entry.object.uid() == object.uid() { Change::Changed } else { Change::New };
        entry.object = Arc::new(object);
        Some(change)
    }

    fn remove(&self, key: &HpaKey, uid: &str) -> bool {
        let mut known = self.known.write();
        let is_it = known.get(key).is_some_and(|entry| entry.object.uid() == uid);
        if is_it {
            known.remove(key);
        }
        is_it
    }

    fn end(&self, epoch: u64, only: Option<&str>) -> Vec<HpaKey> {
        let mut gone = Vec::new();
        self.known.write().retain(|key, entry| {
            let stays = entry.epoch == epoch || only.is_some_and(|only| *only != *key.namespace);
            if !stays {
                gone.push(key.clone());
            }
            stays
        });
        gone
    }
}

/// Keeps [`Hpas`] up with a watch and tells `changed` what happened.
pub(in crate::controller) struct HpaFeed<F> {
    hpas: Arc<Hpas>,
    only: Option<Box<str>>,
    changed: F,
    epoch: u64,
    complete: bool,
    /// Those that cannot be read and were warned of.
    warned: HashSet<HpaKey, RandomState>,
}

impl<F> fmt::Debug for HpaFeed<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HpaFeed").field("only", &self.only).finish_non_exhaustive()
    }
}

impl<F: FnMut(&HpaKey, Change)> HpaFeed<F> {
    pub(in crate::controller) fn new(hpas: Arc<Hpas>, only: Option<&str>, changed: F) -> Self {
        let warned = HashSet::default();
        Self { hpas, only: only.map(Box::from), changed, epoch: 0, complete: false, warned }
    }

    /// What cannot be read is as if it were not there: nothing may be decided from what it was before.
    fn left_out(&mut self, key: &HpaKey, uid: &str, complaint: &str) {
        if !self.warned.contains(key) && self.warned.len() < WARNED_MAX {
            self.warned.insert(key.clone());
            tracing::warn!(hpa = %key, complaint, "an autoscaler cannot be read and is left alone");
        }
        if self.hpas.remove(key, uid) {
            (self.changed)(key, Change::Gone);
        }
    }
}

fn key_of(object: &HpaObject) -> Option<HpaKey> {
    Some(HpaKey {
        namespace: Box::from(object.metadata.namespace.as_deref()?),
        name: Box::from(object.metadata.name.as_deref()?),
    })
}

impl<F: FnMut(&HpaKey, Change)> Feed<HpaObject> for HpaFeed<F> {
    fn begin(&mut self) {
        self.epoch += 1;
    }

    fn apply(&mut self, object: HpaObject, listed: bool) {
        let Some(key) = key_of(&object) else { return };
        if let Some(complaint) = &object.unreadable {
            self.left_out(&key, object.uid(), complaint);
            return;
        }
        if !self.warned.is_empty() {
            self.warned.remove(&key);
        }
        if let Some(change) = self.hpas.apply(key.clone(), object, self.epoch, listed) {
            (self.changed)(&key, change);
        }
    }

    fn delete(&mut self, object: HpaObject) {
        let Some(key) = key_of(&object) else { return };
        self.warned.remove(&key);
        if self.hpas.remove(&key, object.uid()) {
            (self.changed)(&key, Change::Gone);
        }
    }

    fn end(&mut self) {
        for key in self.hpas.end(self.epoch, self.only.as_deref()) {
            (self.changed)(&key, Change::Gone);
        }
        if !std::mem::replace(&mut self.complete, true) {
            self.hpas.synced.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn failed(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hpa(name: &str, uid: &str, version: &str) -> HpaObject {
        serde_json::from_value(serde_json::json!({
            "metadata": {"namespace": "web", "name": name, "uid": uid, "resourceVersion": version},
            "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "web"}},
        }))
        .unwrap()
    }

    #[test]
    fn the_newest_view_counts() {
        let hpas = Arc::new(Hpas::default());
        let key = key_of(&hpa("a", "1", "5")).unwrap();
        let mut told = Vec::new();
        {
            let mut feed =
                HpaFeed::new(Arc::clone(&hpas), None, |_: &HpaKey, change| told.push(change));
            feed.begin();
            feed.apply(hpa("a", "1", "5"), true);
            feed.end();
            hpas.note(&key, hpa("a", "1", "7"));
            // The watch lags behind our own write.
            feed.apply(hpa("a", "1", "6"), false);
            assert_eq!(hpas.get(&key).unwrap().resource_version(), "7");
            feed.apply(hpa("a", "1", "8"), false);
            // Another object of the same name; the end of the first one comes late.
            feed.apply(hpa("a", "2", "9"), false);
            feed.delete(hpa("a", "1", "10"));
            assert_eq!(hpas.get(&key).unwrap().uid(), "2");
            // Gone while nobody watched.
            feed.begin();
            feed.end();
        }
        assert_eq!(hpas.len(), 0);
        assert_eq!(told, [Change::New, Change::Changed, Change::New, Change::Gone]);
    }

    #[test]
    fn one_that_cannot_be_read_leaves_the_others_alone() {
        let hpas = Arc::new(Hpas::default());
        let mut feed = HpaFeed::new(Arc::clone(&hpas), None, |_: &HpaKey, _| ());
        feed.begin();
        feed.apply(hpa("a", "1", "5"), true);
        feed.apply(hpa("b", "2", "5"), true);
        feed.end();
        let strange = serde_json::json!({
            "metadata": {"namespace": "web", "name": "a", "uid": "1", "resourceVersion": "6"},
            "spec": {"maxReplicas": 1e12, "scaleTargetRef": {"kind": "Deployment", "name": "web"}},
        });
        let list = serde_json::json!([strange, {"metadata": {"namespace": "web", "name": "b"},
            "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "web"}}}]);
        let list: Vec<HpaObject> = serde_json::from_value(list).unwrap();
        assert!(list[0].unreadable.as_ref().is_some_and(|why| why.contains("1000000000000")));
        assert!(list[1].unreadable.is_none());
        feed.apply(list[0].clone(), false);
        assert_eq!(hpas.keys(), [HpaKey::new("web", "b")]);
        feed.apply(hpa("a", "1", "7"), false);
        assert_eq!(hpas.len(), 2);
    }
}
