//! The scale of Deployments, ReplicaSets and StatefulSets, read from watches.
//!
//! A kind is watched from when the first autoscaler targets it. What a watch does not know, and anything while it fails, has to be
//! asked for.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use foldhash::fast::RandomState;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::follow::Feed;
use super::kinds::{WORKLOADS, Workload};
use super::version::is_older;
use crate::controller::scale::Scale;
use crate::inputs::ScaleReading;
use crate::selector;

/// By namespace or name.
type Map<V> = HashMap<Box<str>, V, RandomState>;

/// A watch that failed and then says neither good nor bad for this long works: its pause between two attempts is shorter.
const RECOVERED_AFTER: Duration = Duration::from_secs(60);

/// Scales of one kind.
#[derive(Debug, Default)]
pub(in crate::controller) struct Targets {
    known: RwLock<Map<Map<Entry>>>,
    /// Watches whose first list is complete.
    synced: AtomicUsize,
    failed: Mutex<Option<Instant>>,
    wanted: Notify,
}

#[derive(Debug)]
struct Entry {
    uid: Box<str>,
    resource_version: Box<str>,
    spec_replicas: i32,
    status_replicas: i32,
    /// `None` if it cannot be written as a text: then the server is asked.
    selector: Option<Arc<str>>,
    /// The uid of its controller.
    owner: Option<Box<str>>,
    epoch: u64,
}

/// The scales of all kinds that are watched, in the order of [`WORKLOADS`].
#[derive(Debug, Default)]
pub(in crate::controller) struct AllTargets([Targets; WORKLOADS.len()]);

impl AllTargets {
    /// The scales of a kind, if it is one that is watched.
    pub(in crate::controller) fn of(&self, group: &str, kind: &str) -> Option<&Targets> {
        let at = WORKLOADS.iter().position(|known| known.group == group && known.kind == kind)?;
        self.0.get(at)
    }

    pub(in crate::controller) fn at(&self, at: usize) -> &Targets {
        &self.0[at]
    }
}

impl Targets {
    /// The scale of an object, if it is known and the watch works. From now on the kind is watched.
    pub(in crate::controller) fn get(&self, namespace: &str, name: &str) -> Option<Scale> {
        self.wanted.notify_one();
        if self.failed.lock().is_some_and(|at| at.elapsed() < RECOVERED_AFTER) {
            return None;
        }
        let known = self.known.read();
        let entry = known.get(namespace)?.get(name)?;
        Some(Scale {
            uid: entry.uid.clone(),
            resource_version: entry.resource_version.clone(),
            reading: ScaleReading {
                spec_replicas: entry.spec_replicas,
                status_replicas: entry.status_replicas,
                selector: String::from(&**entry.selector.as_ref()?),
            },
        })
    }

    /// The uids of the objects of a namespace that have this controller; `None` while they are not known. From now on the kind is watched.
    pub(in crate::controller) fn owned_by(
        &self,
        namespace: &str,
        controller: &str,
    ) -> Option<HashSet<Box<str>>> {
        self.wanted.notify_one();
        if self.synced() == 0 || self.failed.lock().is_some_and(|at| at.elapsed() < RECOVERED_AFTER)
        {
            return None;
        }
        let known = self.known.read();
        let all = known.get(namespace).into_iter().flat_map(|all| all.values());
        let owned = all.filter(|entry| entry.owner.as_deref() == Some(controller));
        Some(owned.map(|entry| entry.uid.clone()).collect())
    }

    /// Returns once anybody has asked.
    pub(in crate::controller) async fn wanted(&self) {
        self.wanted.notified().await;
        // Several watches of one kind wait for the same.
        self.wanted.notify_one();
    }

    pub(in crate::controller) fn want(&self) {
        self.wanted.notify_one();
    }

    /// How many watches have completed their first list.
    pub(in crate::controller) fn synced(&self) -> usize {
        self.synced.load(Ordering::Acquire)
    }

    /// What the server answered to a read or a write.
    pub(in crate::controller) fn note(&self, namespace: &str, name: &str, scale: &Scale) {
        let mut known = self.known.write();
        if let Some(entry) = known.get_mut(namespace).and_then(|of| of.get_mut(name))
            && entry.uid == scale.uid
            && is_older(&entry.resource_version, &scale.resource_version)
        {
            entry.resource_version.clone_from(&scale.resource_version);
            entry.spec_replicas = scale.reading.spec_replicas;
            entry.status_replicas = scale.reading.status_replicas;
        }
    }
}

/// Keeps [`Targets`] up with a watch.
#[derive(Debug)]
pub(in crate::controller) struct TargetFeed {
    all: Arc<AllTargets>,
    at: usize,
    only: Option<Box<str>>,
    epoch: u64,
    complete: bool,
}

impl TargetFeed {
    /// For the kind at a place of [`WORKLOADS`].
    pub(in crate::controller) fn new(all: Arc<AllTargets>, at: usize, only: Option<&str>) -> Self {
        Self { all, at, only: only.map(Box::from), epoch: 0, complete: false }
    }

    fn targets(&self) -> &Targets {
        self.all.at(self.at)
    }

    fn works(&self) {
        *self.targets().failed.lock() = None;
    }
}

impl Feed<Workload> for TargetFeed {
    fn begin(&mut self) {
        self.epoch += 1;
    }

    fn apply(&mut self, workload: Workload, listed: bool) {
        if !listed {
            self.works();
        }
        let meta = workload.metadata;
        let (Some(namespace), Some(name)) = (meta.namespace, meta.name) else { return };
        let version = meta.resource_version.unwrap_or_default();
        let uid = meta.uid.unwrap_or_default();
        let text = workload.selector.as_ref().and_then(|selector| selector::text(selector).ok());
        let mut known = self.targets().known.write();
        let of = known.entry(namespace.into_boxed_str()).or_default();
        let before = of.get_mut(name.as_str());
        let selector = match (&before, text) {
            (Some(before), Some(text)) if before.selector.as_deref() == Some(&*text) => {
                before.selector.clone()
            }
            (_, text) => text.map(Arc::from),
        };
        let entry = Entry {
            uid: uid.into_boxed_str(),
            resource_version: version.into_boxed_str(),
            spec_replicas: workload.spec_replicas,
            status_replicas: workload.status_replicas,
            selector,
            owner: workload.owner,
            epoch: self.epoch,
        };
        match before {
            // The watch lags behind our own write. A list is believed: the cluster may have been restored from a backup.
            Some(before)
                if !listed && is_older(&entry.resource_version, &before.resource_version) =>
            {
                before.epoch = self.epoch;
            }
            Some(before) => *before = entry,
            None => {
                of.insert(name.into_boxed_str(), entry);
            }
        }
    }

    fn delete(&mut self, workload: Workload) {
        self.works();
        let meta = workload.metadata;
        let (Some(namespace), Some(name)) = (meta.namespace, meta.name) else { return };
        let mut known = self.targets().known.write();
        if let Some(of) = known.get_mut(namespace.as_str()) {
            if of.get(name.as_str()).is_some_and(|entry| Some(&*entry.uid) == meta.uid.as_deref()) {
                of.remove(name.as_str());
            }
            if of.is_empty() {
                known.remove(namespace.as_str());
            }
        }
    }

    fn end(&mut self) {
        let (epoch, only) = (self.epoch, self.only.as_deref());
        self.targets().known.write().retain(|namespace, of| {
            if only.is_none_or(|only| *only == **namespace) {
                of.retain(|_, entry| entry.epoch == epoch);
            }
            !of.is_empty()
        });
        self.works();
        if !std::mem::replace(&mut self.complete, true) {
            self.targets().synced.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn failed(&mut self) {
        *self.targets().failed.lock() = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(name: &str, version: &str, replicas: i32) -> Workload {
        serde_json::from_value(serde_json::json!({
            "metadata": {"namespace": "web", "name": name, "uid": "1", "resourceVersion": version},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}},
            "status": {"replicas": replicas},
        }))
        .unwrap()
    }

    fn feed() -> (Arc<AllTargets>, TargetFeed) {
        let all = Arc::new(AllTargets::default());
        let mut feed = TargetFeed::new(Arc::clone(&all), 0, None);
        feed.begin();
        feed.apply(workload("a", "5", 2), true);
        feed.end();
        (all, feed)
    }

    fn replicas(all: &AllTargets) -> Option<i32> {
        Some(all.at(0).get("web", "a")?.reading.spec_replicas)
    }

    #[tokio::test]
    async fn a_view_older_than_our_own_write_is_not_used() {
        let (all, mut feed) = feed();
        let mut scale = all.at(0).get("web", "a").unwrap();
        assert_eq!(scale.reading.selector, "app=a");
        scale.reading.spec_replicas = 4;
        scale.resource_version = Box::from("7");
        all.at(0).note("web", "a", &scale);
        feed.apply(workload("a", "6", 2), false);
        assert_eq!(replicas(&all), Some(4));
        feed.apply(workload("a", "8", 5), false);
        assert_eq!(replicas(&all), Some(5));
        // Our own answer can come late, too.
        all.at(0).note("web", "a", &scale);
        assert_eq!(replicas(&all), Some(5));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_known_while_the_watch_fails() {
        let (all, mut feed) = feed();
        feed.failed();
        assert_eq!(replicas(&all), None);
        feed.apply(workload("b", "6", 2), false);
        assert_eq!(replicas(&all), Some(2));
        feed.failed();
        assert_eq!(replicas(&all), None);
        tokio::time::advance(RECOVERED_AFTER).await;
        assert_eq!(replicas(&all), Some(2));
    }

    #[tokio::test]
    async fn what_a_new_list_lacks_is_gone() {
        let (all, mut feed) = feed();
        feed.begin();
        feed.apply(workload("b", "6", 2), true);
        feed.end();
        assert_eq!(replicas(&all), None);
        assert!(all.at(0).get("web", "b").is_some());
    }
}
