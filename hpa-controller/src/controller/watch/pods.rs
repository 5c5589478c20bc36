//! Pods, and which of them each autoscaler selects.
//!
//! Selectors are registered, and kept up with pods as those come and go: which pods a selector matches, and which selectors match a
//! pod, is known without looking at a namespace. Pods with equal labels, which is what a workload makes, share one set of labels,
//! and selectors are matched against sets and not against pods. Each namespace has its own lock, held for one look or one change.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use foldhash::fast::RandomState;
use metrics_api::{LabelSelector, Operator};
use parking_lot::{Mutex, RwLock};

use super::follow::Feed;
use super::kinds::PodObject;
use crate::beyond::{LeftOut, owners};
use crate::inputs::{PodFacts, PodSet};

type Map<K, V> = HashMap<K, V, RandomState>;

/// Key and value.
type Label = (Box<str>, Box<str>);
/// Sorted by key.
type Labels = Box<[Label]>;

fn value<'a>(labels: &'a Labels, key: &str) -> Option<&'a str> {
    let at = labels.binary_search_by(|(k, _)| (**k).cmp(key)).ok()?;
    Some(&labels[at].1)
}

/// The pods of the cluster.
#[derive(Debug, Default)]
pub(in crate::controller) struct Pods {
    namespaces: RwLock<Map<Box<str>, Arc<Mutex<Namespace>>>>,
    /// Watches whose first list is complete.
    synced: AtomicUsize,
}

/// Pods, sets of labels and selectors of one namespace.
#[derive(Debug, Default)]
struct Namespace {
    pods: Map<Arc<str>, Pod>,
    sets: Vec<Option<LabelSet>>,
    free: Vec<usize>,
    by_labels: Map<Arc<Labels>, usize>,
    selections: Map<Arc<str>, Selection>,
    /// Selectors by a label that they ask for, so that a new set of labels meets few of them.
    keyed: Map<Label, Vec<Arc<str>>>,
    /// Selectors that ask for no value of any label.
    unkeyed: Vec<Arc<str>>,
    /// The selector of each autoscaler.
    of: Map<Box<str>, Arc<str>>,
}

#[derive(Debug)]
struct Pod {
    set: usize,
    facts: Arc<PodFacts>,
    /// The uid of its controller.
    owner: Option<Box<str>>,
    /// The list or watch that last said that it exists.
    epoch: u64,
}

#[derive(Debug)]
struct LabelSet {
    labels: Arc<Labels>,
    pods: usize,
    /// The selectors that match.
    selections: Vec<Arc<str>>,
}

#[derive(Debug)]
struct Selection {
    selector: LabelSelector,
    key: Option<Label>,
    hpas: BTreeSet<Box<str>>,
    sets: BTreeSet<usize>,
    pods: BTreeMap<Arc<str>, Arc<PodFacts>>,
}

/// A label that everything which the selector selects has.
fn key_of(selector: &LabelSelector) -> Option<Label> {
    let equals = selector.requirements().iter().find(|requirement| {
        matches!(requirement.operator, Operator::Equals | Operator::DoubleEquals | Operator::In)
            && requirement.values.len() == 1
    })?;
    Some((Box::from(equals.key.as_str()), Box::from(equals.values.first()?.as_str())))
}

impl Namespace {
    fn is_empty(&self) -> bool {
        self.pods.is_empty() && self.of.is_empty()
    }

    fn apply(&mut self, labels: Labels, facts: PodFacts, owner: Option<Box<str>>, epoch: u64) {
        let name = Arc::clone(&facts.name);
        let facts = Arc::new(facts);
        let set = self.set_of(labels);
        let before = self
            .pods
            .insert(Arc::clone(&name), Pod { set, facts: Arc::clone(&facts), owner, epoch });
        if let Some(before) = before.as_ref()
            && before.set != set
        {
            self.leave(before.set, &name);
        }
        if before.as_ref().is_none_or(|before| before.set != set)
            && let Some(set) = self.sets[set].as_mut()
        {
            set.pods += 1;
        }
        for text in self.sets[set].iter().flat_map(|set| &set.selections) {
            if let Some(selection) = self.selections.get_mut(text) {
                selection.pods.insert(Arc::clone(&name), Arc::clone(&facts));
            }
        }
    }

    fn remove(&mut self, name: &str) {
        if let Some((name, pod)) = self.pods.remove_entry(name) {
            self.leave(pod.set, &name);
        }
    }

    /// A pod no longer has this set of labels.
    fn leave(&mut self, at: usize, name: &str) {
        let Some(set) = self.sets[at].as_mut() else { return };
        set.pods -= 1;
        for text in &set.selections {
            if let Some(selection) = self.selections.get_mut(text) {
                selection.pods.remove(name);
                if set.pods == 0 {
                    selection.sets.remove(&at);
                }
            }
        }
        if set.pods == 0
            && let Some(set) = self.sets[at].take()
        {
            self.by_labels.remove(&set.labels);
            self.free.push(at);
        }
    }

    /// The set of these labels; a new one has no pods yet.
    fn set_of(&mut self, labels: Labels) -> usize {
        if let Some(at) = self.by_labels.get(&labels) {
            return *at;
        }
        let at = self.free.pop().unwrap_or_else(|| {
            self.sets.push(None);
            self.sets.len() - 1
        });
        let mut selections = Vec::new();
        let keyed = labels.iter().filter_map(|label| self.keyed.get(label)).flatten();
        for text in keyed.chain(&self.unkeyed) {
            if let Some(selection) = self.selections.get_mut(text)
                && selection.selector.matches(|key| value(&labels, key))
            {
                selection.sets.insert(at);
                selections.push(Arc::clone(text));
            }
        }
        let labels = Arc::new(labels);
        self.sets[at] = Some(LabelSet { labels: Arc::clone(&labels), pods: 0, selections });
        self.by_labels.insert(labels, at);
        at
    }

    fn register(&mut self, hpa: &str, text: &str) -> Result<(), String> {
        if self.of.get(hpa).is_some_and(|known| **known == *text) {
            return Ok(());
        }
        self.unregister(hpa);
        if !self.selections.contains_key(text) {
            let selector: LabelSelector =
                text.parse().map_err(|error: metrics_api::SelectorError| error.to_string())?;
            self.add_selection(text, selector);
        }
        if let Some((text, selection)) =
            self.selections.get_key_value(text).map(|(text, _)| Arc::clone(text)).and_then(|text| {
                let selection = self.selections.get_mut(&text)?;
                Some((text, selection))
            })
        {
            selection.hpas.insert(Box::from(hpa));
            self.of.insert(Box::from(hpa), text);
        }
        Ok(())
    }

    fn add_selection(&mut self, text: &str, selector: LabelSelector) {
        let text: Arc<str> = Arc::from(text);
        let mut selection = Selection {
            key: key_of(&selector),
            selector,
            hpas: BTreeSet::new(),
            sets: BTreeSet::new(),
            pods: BTreeMap::new(),
        };
        for (at, set) in self.sets.iter_mut().enumerate() {
            if let Some(set) = set
                && selection.selector.matches(|key| value(&set.labels, key))
            {
                set.selections.push(Arc::clone(&text));
                selection.sets.insert(at);
            }
        }
        if !selection.sets.is_empty() {
            for (name, pod) in &self.pods {
                if selection.sets.contains(&pod.set) {
                    selection.pods.insert(Arc::clone(name), Arc::clone(&pod.facts));
                }
            }
        }
        match &selection.key {
            Some(key) => self.keyed.entry(key.clone()).or_default().push(Arc::clone(&text)),
            None => self.unkeyed.push(Arc::clone(&text)),
        }
        self.selections.insert(text, selection);
    }

    fn unregister(&mut self, hpa: &str) {
        let Some(text) = self.of.remove(hpa) else { return };
        let Some(selection) = self.selections.get_mut(&text) else { return };
        selection.hpas.remove(hpa);
        if !selection.hpas.is_empty() {
            return;
        }
        let Some(selection) = self.selections.remove(&text) else { return };
        for at in selection.sets {
            if let Some(set) = self.sets[at].as_mut() {
                set.selections.retain(|known| *known != text);
            }
        }
        match selection.key {
            Some(key) => {
                if let Some(texts) = self.keyed.get_mut(&key) {
                    texts.retain(|known| *known != text);
                    if texts.is_empty() {
                        self.keyed.remove(&key);
                    }
                }
            }
            None => self.unkeyed.retain(|known| *known != text),
        }
    }

    /// All whose selectors match any of the pods that this selector matches.
    fn claimants(&self, selection: &Selection) -> BTreeSet<&str> {
        let sets = selection.sets.iter().filter_map(|at| self.sets[*at].as_ref());
        let selections =
            sets.flat_map(|set| &set.selections).filter_map(|text| self.selections.get(text));
        selections.flat_map(|selection| &selection.hpas).map(|hpa| &**hpa).collect()
    }

    fn selected(&self, namespace: &str, hpa: &str) -> PodSet {
        let Some(selection) = self.of.get(hpa).and_then(|text| self.selections.get(text)) else {
            return PodSet::Matched(Vec::new());
        };
        let claimants = self.claimants(selection);
        if claimants.len() > 1 {
            let names = claimants.into_iter().map(|hpa| format!("{namespace}/{hpa}"));
            return PodSet::Ambiguous(names.collect());
        }
        PodSet::Matched(selection.pods.values().map(Arc::clone).collect())
    }
}

impl Pods {
    /// How many watches have completed their first list.
    pub(in crate::controller) fn synced(&self) -> usize {
        self.synced.load(Ordering::Acquire)
    }

    /// Notes which pods an autoscaler selects, so that it counts when others are asked about. An empty selector selects none.
    ///
    /// # Errors
    /// The parser's complaint about the selector.
    pub(in crate::controller) fn register(
        &self,
        namespace: &str,
        hpa: &str,
        selector: &str,
    ) -> Result<(), String> {
        if selector.is_empty() {
            self.unregister(namespace, hpa);
            return Ok(());
        }
        let held = self.namespace(namespace);
        let mut held = held.lock();
        held.register(hpa, selector)
    }

    /// The pods that an autoscaler selects, whose selector is noted by the way.
    pub(in crate::controller) fn select(
        &self,
        namespace: &str,
        hpa: &str,
        selector: &str,
    ) -> PodSet {
        if selector.is_empty() {
            self.unregister(namespace, hpa);
            return PodSet::Matched(Vec::new());
        }
        let held = self.namespace(namespace);
        let mut held = held.lock();
        match held.register(hpa, selector) {
            Ok(()) => held.selected(namespace, hpa),
            Err(complaint) => PodSet::InvalidSelector(complaint),
        }
    }

    /// The pods among those that an autoscaler selects whose controller is `owned`, and those that are left out. That others select them
    /// too does not matter: their owner says whose they are.
    pub(in crate::controller) fn select_owned(
        &self,
        namespace: &str,
        hpa: &str,
        selector: &str,
        owned: impl Fn(Option<&str>) -> bool,
    ) -> (PodSet, LeftOut, BTreeSet<String>) {
        let nothing = || (LeftOut::default(), BTreeSet::new());
        let with = |set: PodSet, (left_out, names)| (set, left_out, names);
        if selector.is_empty() {
            self.unregister(namespace, hpa);
            return with(PodSet::Matched(Vec::new()), nothing());
        }
        let held = self.namespace(namespace);
        let mut held = held.lock();
        if let Err(complaint) = held.register(hpa, selector) {
            return with(PodSet::InvalidSelector(complaint), nothing());
        }
        let selection = held.of.get(hpa).and_then(|text| held.selections.get(text));
        let mut pods: Vec<Arc<PodFacts>> =
            selection.map(|all| all.pods.values().map(Arc::clone).collect()).unwrap_or_default();
        let out = owners::only_owned(&mut pods, |pod| {
            owned(held.pods.get(&*pod.name).and_then(|pod| pod.owner.as_deref()))
        });
        with(PodSet::Matched(pods), out)
    }

    /// An autoscaler is gone, or has no selector.
    pub(in crate::controller) fn unregister(&self, namespace: &str, hpa: &str) {
        let held = self.namespaces.read().get(namespace).map(Arc::clone);
        if let Some(held) = held {
            let mut pods = held.lock();
            pods.unregister(hpa);
            let is_empty = pods.is_empty();
            drop(pods);
            drop(held);
            self.drop_if(is_empty, namespace);
        }
    }

    /// The autoscalers that select a pod.
    pub(in crate::controller) fn selecting(&self, namespace: &str, pod: &str) -> Vec<Box<str>> {
        let held = self.namespaces.read().get(namespace).map(Arc::clone);
        let Some(held) = held else { return Vec::new() };
        let held = held.lock();
        let set = held.pods.get(pod).and_then(|pod| held.sets[pod.set].as_ref());
        let selections = set.iter().flat_map(|set| &set.selections);
        let selections = selections.filter_map(|text| held.selections.get(text));
        selections.flat_map(|selection| selection.hpas.iter().cloned()).collect()
    }

    fn namespace(&self, name: &str) -> Arc<Mutex<Namespace>> {
        if let Some(held) = self.namespaces.read().get(name) {
            return Arc::clone(held);
        }
        let mut namespaces = self.namespaces.write();
        Arc::clone(namespaces.entry(Box::from(name)).or_default())
    }

    fn remove(&self, namespace: &str, name: &str) {
        let held = self.namespaces.read().get(namespace).map(Arc::clone);
        if let Some(held) = held {
            let mut pods = held.lock();
            pods.remove(name);
            let is_empty = pods.is_empty();
            drop(pods);
            drop(held);
            self.drop_if(is_empty, namespace);
        }
    }

    /// Drops a namespace if it was found empty and still is.
    fn drop_if(&self, is_empty: bool, namespace: &str) {
        if !is_empty {
            return;
        }
        let mut namespaces = self.namespaces.write();
        if let Some(held) = namespaces.get(namespace)
            // Whoever holds it now would write into what nobody reads.
            && Arc::strong_count(held) == 1
            && held.lock().is_empty()
        {
            namespaces.remove(namespace);
        }
    }

    /// Removes what the list of this epoch did not have, in the namespaces that it was about.
    fn end(&self, epoch: u64, only: Option<&str>) {
        let mut namespaces = self.namespaces.write();
        namespaces.retain(|name, held| {
            if only.is_some_and(|only| *only != **name) {
                return true;
            }
            let mut namespace = held.lock();
            let gone: Vec<Arc<str>> = namespace
                .pods
                .iter()
                .filter(|(_, pod)| pod.epoch != epoch)
                .map(|(name, _)| Arc::clone(name))
                .collect();
            for pod in gone {
                namespace.remove(&pod);
            }
            // Whoever holds it now would write into what nobody reads.
            !(namespace.is_empty() && Arc::strong_count(held) == 1)
        });
    }
}

/// Keeps [`Pods`] up with a watch.
#[derive(Debug)]
pub(in crate::controller) struct PodFeed {
    pods: Arc<Pods>,
    /// The namespace that is watched, if not all are.
    only: Option<Box<str>>,
    epoch: u64,
    complete: bool,
}

impl PodFeed {
    pub(in crate::controller) fn new(pods: Arc<Pods>, only: Option<&str>) -> Self {
        Self { pods, only: only.map(Box::from), epoch: 0, complete: false }
    }
}

impl Feed<PodObject> for PodFeed {
    fn begin(&mut self) {
        self.epoch += 1;
    }

    fn apply(&mut self, pod: PodObject, _listed: bool) {
        let Some(namespace) = pod.metadata.namespace else { return };
        // Ordered, as they come out of a tree.
        let labels = pod.metadata.labels.unwrap_or_default();
        let labels =
            labels.into_iter().map(|(key, value)| (key.into_boxed_str(), value.into_boxed_str()));
        let held = self.pods.namespace(&namespace);
        held.lock().apply(labels.collect(), pod.facts, pod.owner, self.epoch);
    }

    fn delete(&mut self, pod: PodObject) {
        if let Some(namespace) = pod.metadata.namespace {
            self.pods.remove(&namespace, &pod.facts.name);
        }
    }

    fn end(&mut self) {
        self.pods.end(self.epoch, self.only.as_deref());
        if !std::mem::replace(&mut self.complete, true) {
            self.pods.synced.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn failed(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(namespace: &str, name: &str, labels: &[(&str, &str)]) -> PodObject {
        let labels: BTreeMap<_, _> = labels.iter().copied().collect();
        serde_json::from_value(serde_json::json!({
            "metadata": {"namespace": namespace, "name": name, "labels": labels},
        }))
        .unwrap()
    }

    fn names(set: &PodSet) -> Vec<&str> {
        match set {
            PodSet::Matched(pods) => pods.iter().map(|pod| &*pod.name).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn feed() -> (Arc<Pods>, PodFeed) {
        let pods = Arc::new(Pods::default());
        let mut feed = PodFeed::new(Arc::clone(&pods), None);
        feed.begin();
        (pods, feed)
    }

    #[test]
    fn selectors_follow_pods_that_come_change_and_go() {
        let (pods, mut feed) = feed();
        feed.apply(pod("web", "b", &[("app", "a"), ("x", "1")]), true);
        feed.apply(pod("other", "c", &[("app", "a")]), true);
        assert_eq!(names(&pods.select("web", "h", "app=a")), ["b"]);
        feed.apply(pod("web", "a", &[("app", "a")]), false);
        assert_eq!(names(&pods.select("web", "h", "app=a")), ["a", "b"]);
        feed.apply(pod("web", "b", &[("app", "z")]), false);
        assert_eq!(names(&pods.select("web", "h", "app=a")), ["a"]);
        assert_eq!(names(&pods.select("web", "h", "app notin (a)")), ["b"]);
        feed.delete(pod("web", "b", &[]));
        assert_eq!(names(&pods.select("web", "h", "app notin (a)")), [""; 0]);
    }

    #[test]
    fn what_a_new_list_lacks_is_gone() {
        let (pods, mut feed) = feed();
        feed.apply(pod("web", "a", &[("app", "a")]), true);
        feed.apply(pod("web", "b", &[("app", "a")]), true);
        assert_eq!(pods.synced(), 0);
        feed.end();
        assert_eq!(pods.synced(), 1);
        feed.begin();
        feed.apply(pod("web", "b", &[("app", "a")]), true);
        feed.end();
        assert_eq!(names(&pods.select("web", "h", "app=a")), ["b"]);
    }

    #[test]
    fn namespaces_that_are_empty_are_dropped() {
        let (pods, mut feed) = feed();
        let known = || pods.namespaces.read().len();
        feed.apply(pod("web", "a", &[("app", "a")]), true);
        pods.register("web", "h", "app=a").unwrap();
        pods.register("db", "h", "app=a").unwrap();
        assert_eq!(known(), 2);
        pods.unregister("db", "h");
        assert_eq!(known(), 1);
        feed.delete(pod("web", "a", &[]));
        assert_eq!(known(), 1);
        pods.unregister("web", "h");
        assert_eq!(known(), 0);
        feed.apply(pod("web", "a", &[("app", "a")]), false);
        feed.delete(pod("web", "a", &[]));
        assert_eq!(known(), 0);
    }

    #[test]
    fn a_list_of_one_namespace_says_nothing_of_others() {
        let pods = Arc::new(Pods::default());
        let mut feeds = ["web", "db"].map(|name| PodFeed::new(Arc::clone(&pods), Some(name)));
        for (feed, name) in feeds.iter_mut().zip(["web", "db"]) {
            feed.begin();
            feed.apply(pod(name, "a", &[("app", "a")]), true);
            feed.end();
        }
        feeds[0].begin();
        feeds[0].end();
        assert_eq!(names(&pods.select("web", "h", "app=a")), [""; 0]);
        assert_eq!(names(&pods.select("db", "h", "app=a")), ["a"]);
    }

    /// kubernetes/kubernetes#101648
    #[test]
    fn two_autoscalers_on_the_same_pods_are_ambiguous() {
        let (pods, mut feed) = feed();
        feed.apply(pod("web", "a", &[("app", "a"), ("tier", "x")]), true);
        feed.apply(pod("web", "b", &[("app", "a"), ("tier", "y")]), true);
        pods.register("web", "second", "tier=x").unwrap();
        pods.register("db", "third", "app=a").unwrap();
        let both = PodSet::Ambiguous(vec![String::from("web/first"), String::from("web/second")]);
        assert_eq!(pods.select("web", "first", "app=a"), both);
        assert_eq!(pods.select("web", "second", "tier=x"), both);
        // Neither a changed selector nor a deleted autoscaler is held against others.
        assert_eq!(names(&pods.select("web", "second", "tier=y,app=z")), [""; 0]);
        assert_eq!(names(&pods.select("web", "first", "app=a")), ["a", "b"]);
        assert_eq!(pods.select("web", "second", "app=a"), both);
        pods.unregister("web", "second");
        assert_eq!(names(&pods.select("web", "first", "app=a")), ["a", "b"]);
        // Selectors that overlap in theory but in no pod are fine.
        feed.delete(pod("web", "a", &[]));
        pods.register("web", "second", "tier=x").unwrap();
        assert_eq!(names(&pods.select("web", "first", "app=a")), ["b"]);
    }

    #[test]
    fn a_selector_that_cannot_be_read_is_complained_about() {
        let (pods, _) = feed();
        assert!(matches!(pods.select("web", "a", "cheddar cheese"), PodSet::InvalidSelector(_)));
    }

    #[test]
    fn it_is_known_who_selects_a_pod() {
        let (pods, mut feed) = feed();
        pods.register("web", "first", "app=a").unwrap();
        pods.register("web", "second", "app").unwrap();
        feed.apply(pod("web", "a", &[("app", "a")]), false);
        feed.apply(pod("web", "b", &[("app", "b")]), false);
        let mut both = pods.selecting("web", "a");
        both.sort_unstable();
        assert_eq!(both, [Box::from("first"), Box::from("second")]);
        assert_eq!(pods.selecting("web", "b"), [Box::from("second")]);
        assert!(pods.selecting("web", "c").is_empty());
    }
}
