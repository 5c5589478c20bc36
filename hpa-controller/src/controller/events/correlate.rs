//! Which events are written, and as what: equal ones are counted in one object, many similar ones are combined, and too many about
//! one object are dropped. The numbers are those of upstream's recorder.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};

use foldhash::fast::{FixedState, RandomState};
use model::Timestamp;

use crate::decision::{EventNote, EventType};

/// Similar events within the interval from which on they are combined.
const SIMILAR_MAX: usize = 10;
/// How long similar events count as such, from one to the next.
const SIMILAR_INTERVAL_MS: i64 = 600_000;
/// Events about one object that may come at once.
const BURST: f64 = 25.0;
/// Time after which one more may come.
const REFILL_MS: f64 = 300_000.0;
/// Characters of an object's name at most.
const NAME_MAX: usize = 253;
/// Entries of each cache; upstream has 4096, and loses counts with more autoscalers than that.
const ENTRIES_MAX: usize = 32_768;

/// The object that an event is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct About {
    pub namespace: Box<str>,
    pub name: Box<str>,
    pub uid: Box<str>,
}

/// Events that differ in their message only.
type Similar = (About, bool, Box<str>);
/// Equal events, or similar ones that are combined: then without a message.
type Equal = (Similar, Box<str>);

/// What to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Write {
    pub key: Equal,
    pub message: String,
    pub name: String,
    pub first: Timestamp,
    pub count: u32,
}

#[derive(Clone, Debug)]
struct Seen {
    name: String,
    first: Timestamp,
    count: u32,
}

#[derive(Clone, Debug)]
struct Group {
    messages: Vec<Box<str>>,
    last: Timestamp,
}

#[derive(Clone, Debug)]
struct Bucket {
    tokens: f64,
    at: Timestamp,
}

/// What was seen lately.
#[derive(Debug)]
pub(super) struct Correlator {
    groups: Recent<Similar, Group>,
    seen: Recent<Equal, Seen>,
    buckets: Recent<About, Bucket>,
    serial: u64,
}

impl Default for Correlator {
    fn default() -> Self {
        Self {
            groups: Recent::new(ENTRIES_MAX),
            seen: Recent::new(ENTRIES_MAX),
            buckets: Recent::new(ENTRIES_MAX),
            serial: 0,
        }
    }
}

impl Correlator {
    /// What to write of an event; `None` if there were too many about its object.
    pub(super) fn correlate(
        &mut self,
        about: &About,
        note: &EventNote,
        now: Timestamp,
    ) -> Option<Write> {
        let similar: Similar =
            (about.clone(), note.kind == EventType::Warning, Box::from(note.reason.as_str()));
        let combine = self.is_one_of_many(&similar, &note.message, now);
        let (key, message) = if combine {
            let message = format!("(combined from similar events): {}", note.message);
            ((similar, Box::from("")), message)
        } else {
            ((similar, Box::from(note.message.as_str())), note.message.clone())
        };
        let seen = match self.seen.get(&key) {
            Some(seen) => Seen { count: seen.count.saturating_add(1), ..seen.clone() },
            None => {
                self.serial += 1;
                Seen { name: name_of(about, now, self.serial), first: now, count: 1 }
            }
        };
        self.seen.insert(key.clone(), seen.clone());
        if !self.may_come(about, now) {
            return None;
        }
        let Seen { name, first, count } = seen;
        Some(Write { key, message, name, first, count })
    }

    /// The object that was written is gone: the next equal event makes a new one.
    pub(super) fn forget(&mut self, key: &Equal) {
        self.seen.remove(key);
    }

    fn is_one_of_many(&mut self, similar: &Similar, message: &str, now: Timestamp) -> bool {
        let fresh = Group { messages: Vec::new(), last: now };
        let mut group = self.groups.get(similar).cloned().unwrap_or(fresh);
        if now.saturating_sub(group.last) > SIMILAR_INTERVAL_MS {
            group.messages.clear();
        }
        group.last = now;
        if !group.messages.iter().any(|known| **known == *message) {
            group.messages.push(Box::from(message));
        }
        let many = group.messages.len() >= SIMILAR_MAX;
        if many {
            group.messages.pop();
        }
        self.groups.insert(similar.clone(), group);
        many
    }

    fn may_come(&mut self, about: &About, now: Timestamp) -> bool {
        let mut bucket =
            self.buckets.get(about).cloned().unwrap_or(Bucket { tokens: BURST, at: now });
        #[expect(clippy::cast_precision_loss, reason = "a time between two events is short")]
        let passed = now.saturating_sub(bucket.at).max(0) as f64;
        bucket.tokens = (bucket.tokens + passed / REFILL_MS).min(BURST);
        bucket.at = now;
        let may = bucket.tokens >= 1.0;
        if may {
            bucket.tokens -= 1.0;
        }
        self.buckets.insert(about.clone(), bucket);
        may
    }
}

/// A name as upstream's recorder makes it: nanoseconds, told apart by a number where they are equal. If that would be longer than a
/// name may be, one that looks like a UUID.
fn name_of(about: &About, now: Timestamp, serial: u64) -> String {
    let nanos = now.max(0).unsigned_abs().saturating_mul(1_000_000);
    let nanos = nanos.saturating_add(serial % 1_000_000);
    let name = format!("{}.{nanos:x}", about.name);
    if name.len() <= NAME_MAX {
        return name;
    }
    let half = |seed| FixedState::with_seed(seed).hash_one((about, nanos));
    let (high, low) = (half(1), half(2));
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    )
}

/// A map of bounded size that forgets what was not asked for lately: of two halves the older is dropped whenever the younger is
/// full.
#[derive(Debug)]
struct Recent<K, V> {
    young: HashMap<K, V, RandomState>,
    old: HashMap<K, V, RandomState>,
    half: usize,
}

impl<K: Eq + Hash, V> Recent<K, V> {
    fn new(max: usize) -> Self {
        Self { young: HashMap::default(), old: HashMap::default(), half: (max / 2).max(1) }
    }

    fn get(&mut self, key: &K) -> Option<&V> {
        if let Some((key, value)) = self.old.remove_entry(key) {
            self.insert(key, value);
        }
        self.young.get(key)
    }

    fn insert(&mut self, key: K, value: V) {
        self.old.remove(&key);
        if self.young.len() >= self.half && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    fn remove(&mut self, key: &K) {
        self.young.remove(key);
        self.old.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = 1_700_000_000_000;

    fn about(name: &str) -> About {
        About { namespace: Box::from("web"), name: Box::from(name), uid: Box::from("1") }
    }

    fn note(reason: &str, message: &str) -> EventNote {
        EventNote {
            kind: EventType::Warning,
            reason: String::from(reason),
            message: String::from(message),
        }
    }

    #[test]
    fn equal_events_are_counted_in_one_object() {
        let mut correlator = Correlator::default();
        let mut writes = (0..3).map(|n| {
            correlator.correlate(&about("a"), &note("FailedGetScale", "no"), NOW + n).unwrap()
        });
        let (first, second, third) =
            (writes.next().unwrap(), writes.next().unwrap(), writes.next().unwrap());
        assert_eq!([first.count, second.count, third.count], [1, 2, 3]);
        assert_eq!((&first.name, first.first), (&third.name, third.first));
        assert!(first.name.starts_with("a.17979cfe362a00"), "{}", first.name);
    }

    #[test]
    fn names_are_never_too_long() {
        let mut correlator = Correlator::default();
        let (fits, long) = ("a".repeat(236), "a".repeat(253));
        let mut name = |object: &str, message: &str| {
            let note = note("FailedGetScale", message);
            correlator.correlate(&about(object), &note, NOW).unwrap().name
        };
        assert_eq!(name(&fits, "no").len(), 253);
        let (first, second) = (name(&long, "no"), name(&long, "never"));
        assert_ne!(first, second);
        assert_eq!(first, name(&long, "no"));
        let groups: Vec<_> = first.split('-').map(str::len).collect();
        assert_eq!(groups, [8, 4, 4, 4, 12]);
    }

    #[test]
    fn many_similar_events_are_combined() {
        let mut correlator = Correlator::default();
        for n in 0..9 {
            let message = n.to_string();
            let write = correlator.correlate(&about("a"), &note("Failed", &message), NOW).unwrap();
            assert_eq!((write.message, write.count), (message, 1));
        }
        for (n, count) in [(9, 1), (10, 2)] {
            let note = note("Failed", &n.to_string());
            let write = correlator.correlate(&about("a"), &note, NOW).unwrap();
            assert_eq!(write.message, format!("(combined from similar events): {n}"));
            assert_eq!(write.count, count);
        }
        // Another reason is not similar, and after a quiet time nothing is.
        assert_eq!(
            correlator.correlate(&about("a"), &note("Other", "9"), NOW).unwrap().message,
            "9"
        );
        let later = NOW + SIMILAR_INTERVAL_MS + 1;
        let write = correlator.correlate(&about("a"), &note("Failed", "11"), later).unwrap();
        assert_eq!(write.message, "11");
    }

    #[test]
    fn too_many_events_about_one_object_are_dropped() {
        let mut correlator = Correlator::default();
        let mut come = |name: &str, now| {
            correlator.correlate(&about(name), &note("Failed", "no"), now).map(|write| write.count)
        };
        for n in 1..=25 {
            assert_eq!(come("a", NOW), Some(n));
        }
        assert_eq!(come("a", NOW), None);
        assert_eq!(come("b", NOW), Some(1));
        // What was dropped counts.
        assert_eq!(come("a", NOW + 300_000), Some(27));
        assert_eq!(come("a", NOW + 300_000), None);
    }

    #[test]
    fn caches_are_bounded() {
        let mut recent = Recent::new(8);
        for n in 0..1000 {
            recent.insert(n, n);
            assert_eq!(recent.get(&0).is_some(), n < 1000);
        }
        assert!(recent.young.len() + recent.old.len() <= 8);
        // What is asked for stays.
        assert!(recent.get(&0).is_some());
        assert!(recent.get(&1).is_none());
    }
}
