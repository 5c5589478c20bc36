//! Objects of all kinds, with versions and a history.
//!
//! Objects are kept as the JSON that clients get, so that a list of 100,000 is a concatenation. One counter gives every
//! write its version, as etcd's revision does. The history of a collection is bounded; who asks for what is older is told so.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;

/// Changes that a collection remembers.
const HISTORY_CHANGES_MAX: usize = 20_000;

/// Where objects are kept: group and resource.
pub(crate) type CollectionKey = (String, String);

/// Where an object is in its collection: namespace (empty if it has none) and name.
pub(crate) type ObjectKey = (String, String);

/// An object at one version.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) key: ObjectKey,
    pub(crate) json: Bytes,
}

impl Stored {
    pub(crate) fn value(&self) -> Value {
        serde_json::from_slice(&self.json).expect("the store wrote it")
    }
}

/// What happened to an object.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) version: u64,
    /// The object before; `None` if it was created.
    pub(crate) before: Option<Arc<Stored>>,
    /// The object after; `None` if it was deleted.
    pub(crate) after: Option<Arc<Stored>>,
}

impl Change {
    pub(crate) fn key(&self) -> &ObjectKey {
        let stored = self.after.as_ref().or(self.before.as_ref());
        &stored.expect("a change is of something").key
    }
}

#[derive(Debug)]
struct Collection {
    objects: BTreeMap<ObjectKey, Arc<Stored>>,
    history: VecDeque<Change>,
    /// The last version whose change is forgotten.
    forgotten: u64,
    changed: watch::Sender<u64>,
}

impl Collection {
    fn new(compacted: u64) -> Self {
        Self {
            objects: BTreeMap::new(),
            history: VecDeque::new(),
            forgotten: compacted,
            changed: watch::Sender::new(compacted),
        }
    }
}

#[derive(Debug)]
struct Inner {
    version: u64,
    /// The version of the last compaction.
    compacted: u64,
    objects_made: u64,
    collections: HashMap<CollectionKey, Collection>,
}

/// The objects of a cluster.
#[derive(Debug)]
pub(crate) struct Store {
    inner: Mutex<Inner>,
}

/// A version that the store cannot go back to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forgotten;

/// A collection at one version.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) version: u64,
    pub(crate) objects: Vec<Arc<Stored>>,
}

impl Store {
    pub(crate) fn new() -> Self {
        // A real cluster's first revision that clients see is not 0 either, which has a meaning of its own.
        let inner =
            Inner { version: 1, compacted: 0, objects_made: 0, collections: HashMap::new() };
        Self { inner: Mutex::new(inner) }
    }

    pub(crate) fn version(&self) -> u64 {
        self.inner.lock().version
    }

    /// A number that no other object of this store has.
    pub(crate) fn next_object(&self) -> u64 {
        let mut inner = self.inner.lock();
        inner.objects_made += 1;
        inner.objects_made
    }

    pub(crate) fn get(&self, collection: &CollectionKey, key: &ObjectKey) -> Option<Arc<Stored>> {
        self.inner.lock().collections.get(collection)?.objects.get(key).cloned()
    }

    /// The objects of `namespace`, or all if it is empty.
    pub(crate) fn list(&self, collection: &CollectionKey, namespace: &str) -> Snapshot {
        let inner = self.inner.lock();
        let objects =
            inner.collections.get(collection).map(|c| in_namespace(&c.objects, namespace));
        Snapshot { version: inner.version, objects: objects.unwrap_or_default() }
    }

    /// As [`list`](Self::list), at an earlier version.
    pub(crate) fn list_at(
        &self,
        collection: &CollectionKey,
        namespace: &str,
        version: u64,
    ) -> Result<Snapshot, Forgotten> {
        let inner = self.inner.lock();
        let Some(collection) = inner.collections.get(collection) else {
            return Ok(Snapshot { version, objects: Vec::new() });
        };
        if version < collection.forgotten {
            return Err(Forgotten);
        }
        let mut objects = collection.objects.clone();
        for change in collection.history.iter().rev().take_while(|c| c.version > version) {
            match &change.before {
                Some(before) => objects.insert(before.key.clone(), before.clone()),
                None => objects.remove(change.key()),
            };
        }
        Ok(Snapshot { version, objects: in_namespace(&objects, namespace) })
    }

    /// Changes an object: `change` gets what is there and the version that its result will have, and says what shall be
    /// there. `None` leaves all as it was; `Some(None)` deletes.
    pub(crate) fn change<E>(
        &self,
        collection: &CollectionKey,
        key: &ObjectKey,
        change: impl FnOnce(Option<&Arc<Stored>>, u64) -> Result<Option<Option<Value>>, E>,
    ) -> Result<Option<Arc<Stored>>, E> {
        let mut inner = self.inner.lock();
        let version = inner.version + 1;
        let before = inner.collections.get(collection).and_then(|c| c.objects.get(key)).cloned();
        let Some(after) = change(before.as_ref(), version)? else { return Ok(before) };
        inner.version = version;
        let compacted = inner.compacted;
        let entry = inner.collections.entry(collection.clone());
        let collection = entry.or_insert_with(|| Collection::new(compacted));
        let after = after.map(|value| {
            let json = Bytes::from(serde_json::to_vec(&value).expect("a value is JSON"));
            Arc::new(Stored { key: key.clone(), json })
        });
        match &after {
            Some(after) => collection.objects.insert(key.clone(), after.clone()),
            None => collection.objects.remove(key),
        };
        if before.is_some() || after.is_some() {
            collection.history.push_back(Change { version, before, after: after.clone() });
            while collection.history.len() > HISTORY_CHANGES_MAX {
                let oldest = collection.history.pop_front().map_or(0, |change| change.version);
                collection.forgotten = oldest;
            }
        }
        collection.changed.send_replace(version);
        Ok(after)
    }

    /// Wakes up with the version of every change of a collection.
    pub(crate) fn subscribe(&self, collection: &CollectionKey) -> watch::Receiver<u64> {
        let mut inner = self.inner.lock();
        let compacted = inner.compacted;
        let entry = inner.collections.entry(collection.clone());
        entry.or_insert_with(|| Collection::new(compacted)).changed.subscribe()
    }

    /// Changes after `version`, and the version that this brings up to.
    pub(crate) fn changes_since(
        &self,
        collection: &CollectionKey,
        version: u64,
    ) -> Result<(Vec<Change>, u64), Forgotten> {
        let inner = self.inner.lock();
        let Some(collection) = inner.collections.get(collection) else {
            return Ok((Vec::new(), inner.version));
        };
        if version < collection.forgotten {
            return Err(Forgotten);
        }
        let start = collection.history.partition_point(|change| change.version <= version);
        Ok((collection.history.range(start..).cloned().collect(), inner.version))
    }

    /// Forgets the history of all collections.
    pub(crate) fn compact(&self) {
        let mut inner = self.inner.lock();
        inner.version += 1;
        let version = inner.version;
        inner.compacted = version;
        for collection in inner.collections.values_mut() {
            collection.history.clear();
            collection.forgotten = version;
            collection.changed.send_replace(version);
        }
    }
}

fn in_namespace(objects: &BTreeMap<ObjectKey, Arc<Stored>>, namespace: &str) -> Vec<Arc<Stored>> {
    if namespace.is_empty() {
        return objects.values().cloned().collect();
    }
    let start = (String::from(namespace), String::new());
    let within = objects.range(start..).take_while(|(key, _)| key.0 == namespace);
    within.map(|(_, object)| object.clone()).collect()
}
