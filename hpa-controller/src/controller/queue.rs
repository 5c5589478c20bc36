//! When each autoscaler is evaluated next.
//!
//! One entry an autoscaler: it is due once a period, at a phase of its own so that all are spread over the period, and in between
//! if asked for. It is never evaluated twice at a time. What is asked for meanwhile happens after.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use foldhash::fast::{FixedState, RandomState};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::state::HpaKey;

/// Entries of the heap beyond two for each autoscaler before those that no longer count are dropped.
const SLACK: usize = 64;

/// Why an autoscaler is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trigger {
    /// The period has passed.
    Period,
    /// Its pods have fresh samples.
    Fresh,
}

/// The queue.
#[derive(Debug)]
pub(super) struct Queue {
    period: Duration,
    /// Least time between an evaluation and one for fresh samples.
    gap: Duration,
    inner: Mutex<Inner>,
    changed: Notify,
    open: AtomicBool,
}

#[derive(Debug, Default)]
struct Inner {
    entries: HashMap<HpaKey, Entry, RandomState>,
    heap: BinaryHeap<Reverse<(Instant, u64, HpaKey)>>,
    serial: u64,
}

#[derive(Debug)]
struct Entry {
    /// When the period has passed.
    due: Instant,
    /// When it is evaluated for fresh samples.
    fresh: Option<Instant>,
    last: Option<Instant>,
    /// By how much the next times between evaluations are shorter than a period, all together.
    ahead: Duration,
    /// The item of the heap that counts.
    serial: u64,
    running: bool,
    gone: bool,
}

/// Which part of a period an evaluation may come early.
const EARLY_PART: u32 = 20;

impl Inner {
    /// Puts an entry in its place.
    fn schedule(&mut self, key: &HpaKey) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        if entry.running || entry.gone {
            return;
        }
        self.serial += 1;
        entry.serial = self.serial;
        let at = entry.fresh.map_or(entry.due, |fresh| fresh.min(entry.due));
        self.heap.push(Reverse((at, self.serial, key.clone())));
        if self.heap.len() > 2 * self.entries.len() + SLACK {
            let entries = &self.entries;
            self.heap.retain(|Reverse((_, serial, key))| {
                entries.get(key).is_some_and(|entry| entry.serial == *serial)
            });
        }
    }
}

impl Queue {
    pub(super) fn new(period: Duration, gap: Duration) -> Self {
        Self {
            period,
            gap,
            inner: Mutex::default(),
            changed: Notify::new(),
            open: AtomicBool::new(false),
        }
    }

    /// How far into each period an autoscaler is due, the same in every process.
    fn phase(&self, key: &HpaKey) -> Duration {
        let hash = FixedState::default().hash_one(key);
        let period = u64::try_from(self.period.as_nanos()).unwrap_or(u64::MAX).max(1);
        Duration::from_nanos(hash % period)
    }

    /// From now on new autoscalers are taken in as they come; before, nobody evaluates.
    pub(super) fn open(&self) {
        self.open.store(true, Ordering::Release);
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// An autoscaler that is due at once. Its next evaluations come a twentieth of a period early, until it has found its own place in the
    /// period: so those which are made together part, nobody waits for longer than a period, and replicas grow as fast as upstream's.
    pub(super) fn add(&self, key: &HpaKey) {
        self.insert(key, Instant::now(), self.phase(key));
    }

    /// An autoscaler that is due within a period.
    pub(super) fn add_spread(&self, key: &HpaKey) {
        self.insert(key, Instant::now() + self.phase(key), Duration::ZERO);
    }

    fn insert(&self, key: &HpaKey, due: Instant, ahead: Duration) {
        let mut inner = self.inner.lock();
        let entry = inner.entries.entry(key.clone()).or_insert(Entry {
            due,
            fresh: None,
            last: None,
            ahead,
            serial: 0,
            running: false,
            gone: false,
        });
        (entry.due, entry.ahead, entry.fresh, entry.gone) = (due, ahead, None, false);
        inner.schedule(key);
        drop(inner);
        self.changed.notify_one();
    }

    /// An autoscaler is gone.
    pub(super) fn remove(&self, key: &HpaKey) {
        let mut inner = self.inner.lock();
        if let Some(entry) = inner.entries.get_mut(key) {
            if entry.running {
                entry.gone = true;
            } else {
                inner.entries.remove(key);
            }
        }
    }

    /// Pods of an autoscaler have fresh samples. It is evaluated as soon as it may be, unless the period comes first.
    pub(super) fn fresh(&self, key: &HpaKey) {
        let now = Instant::now();
        let mut inner = self.inner.lock();
        let Some(entry) = inner.entries.get_mut(key) else { return };
        if entry.fresh.is_some() {
            return;
        }
        let at = entry.last.map_or(now, |last| (last + self.gap).max(now));
        entry.fresh = Some(at);
        inner.schedule(key);
        drop(inner);
        self.changed.notify_one();
    }

    /// The next autoscaler to be evaluated, once one is due. [`Queue::done`] has to be told when that has happened.
    pub(super) async fn next(&self) -> (HpaKey, Trigger) {
        loop {
            let changed = self.changed.notified();
            let wait = match self.pop(Instant::now()) {
                Ok(next) => return next,
                Err(wait) => wait,
            };
            match wait {
                Some(at) => {
                    tokio::select! {
                        () = changed => {}
                        () = tokio::time::sleep_until(at) => {}
                    }
                }
                None => changed.await,
            }
        }
    }

    fn pop(&self, now: Instant) -> Result<(HpaKey, Trigger), Option<Instant>> {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        while let Some(Reverse((at, serial, _))) = inner.heap.peek() {
            let (at, serial) = (*at, *serial);
            let is_due = at <= now;
            let Some(Reverse((_, _, key))) = (if is_due { inner.heap.pop() } else { None }) else {
                return Err(Some(at));
            };
            if let Some(entry) = inner.entries.get_mut(&key)
                && entry.serial == serial
                && !entry.running
            {
                entry.running = true;
                entry.fresh = None;
                let trigger = if entry.due <= now { Trigger::Period } else { Trigger::Fresh };
                if trigger == Trigger::Period {
                    // Counted from when it was due, so that the time of evaluations does not add up. One that comes late by a
                    // period or more does not catch up.
                    let early = entry.ahead.min(self.period / EARLY_PART);
                    entry.ahead -= early;
                    let due = entry.due + self.period - early;
                    entry.due = if due > now { due } else { now + self.period };
                }
                return Ok((key, trigger));
            }
        }
        Err(None)
    }

    /// An evaluation has ended.
    pub(super) fn done(&self, key: &HpaKey) {
        let mut inner = self.inner.lock();
        let Some(entry) = inner.entries.get_mut(key) else { return };
        let now = Instant::now();
        entry.running = false;
        entry.last = Some(now);
        // Samples that came meanwhile do not shorten the pause.
        entry.fresh = entry.fresh.map(|at| at.max(now + self.gap));
        if entry.gone {
            inner.entries.remove(key);
            return;
        }
        inner.schedule(key);
        drop(inner);
        self.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(15);
    const GAP: Duration = Duration::from_secs(1);

    fn key(name: &str) -> HpaKey {
        HpaKey { namespace: Box::from("web"), name: Box::from(name) }
    }

    fn seconds(from: Instant) -> f64 {
        from.elapsed().as_secs_f64()
    }

    #[tokio::test(start_paused = true)]
    async fn one_entry_is_due_once_a_period() {
        let (queue, begin) = (Queue::new(PERIOD, GAP), Instant::now());
        for _ in 0..3 {
            queue.add_spread(&key("a"));
        }
        let mut times = Vec::new();
        for _ in 0..4 {
            assert_eq!(queue.next().await, (key("a"), Trigger::Period));
            times.push(seconds(begin));
            // However long it takes, the next one is a period after this one.
            tokio::time::advance(Duration::from_secs(2)).await;
            queue.done(&key("a"));
        }
        assert!(times[0] < 15.0);
        for pair in times.windows(2) {
            assert!((pair[1] - pair[0] - 15.0).abs() < 0.01, "{times:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_are_spread_over_the_period() {
        let (queue, begin) = (Queue::new(PERIOD, GAP), Instant::now());
        for n in 0..1500 {
            queue.add_spread(&key(&n.to_string()));
        }
        let mut seconds_with = [0_u32; 15];
        for _ in 0..1500 {
            let _ = queue.next().await;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "of 15")]
            let second = seconds(begin) as usize;
            seconds_with[second] += 1;
        }
        assert!(seconds_with.iter().all(|n| (50..=150).contains(n)), "{seconds_with:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn those_made_together_part_and_none_waits_for_longer_than_a_period() {
        let (queue, begin) = (Queue::new(PERIOD, GAP), Instant::now());
        for n in 0..1500 {
            queue.add(&key(&n.to_string()));
        }
        let mut times: HashMap<HpaKey, Vec<f64>> = HashMap::new();
        while times.len() < 1500 || times.values().any(|times| times.len() < 24) {
            let (key, _) = queue.next().await;
            queue.done(&key);
            times.entry(key).or_default().push(seconds(begin));
        }
        let mut seconds_with = [0_u32; 15];
        for times in times.values() {
            assert!(times[0] < 0.01, "{times:?}");
            for pair in times.windows(2) {
                assert!((14.24..15.01).contains(&(pair[1] - pair[0])), "{times:?}");
            }
            // After twenty they come a period apart.
            assert!((times[22] - times[21] - 15.0).abs() < 0.01, "{times:?}");
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "of 15")]
            let second = (times[22] % 15.0) as usize;
            seconds_with[second] += 1;
        }
        assert!(seconds_with.iter().all(|n| (50..=150).contains(n)), "{seconds_with:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn never_two_at_a_time() {
        let queue = Queue::new(PERIOD, GAP);
        queue.add(&key("a"));
        assert_eq!(queue.next().await, (key("a"), Trigger::Period));
        queue.add(&key("a"));
        queue.fresh(&key("a"));
        let none = tokio::time::timeout(PERIOD * 4, queue.next()).await;
        assert!(none.is_err());
        queue.done(&key("a"));
        assert_eq!(queue.next().await.0, key("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn fresh_samples_make_one_evaluation_a_gap() {
        let queue = Queue::new(PERIOD, GAP);
        queue.add(&key("a"));
        let (first, _) = queue.next().await;
        queue.done(&first);
        let begin = Instant::now();
        for _ in 0..10 {
            queue.fresh(&key("a"));
        }
        assert_eq!(queue.next().await, (key("a"), Trigger::Fresh));
        assert!((1.0..1.01).contains(&seconds(begin)));
        queue.done(&key("a"));
        // The period is not moved by it.
        assert_eq!(queue.next().await, (key("a"), Trigger::Period));
        assert!((14.24..=15.01).contains(&seconds(begin)));
    }

    #[tokio::test(start_paused = true)]
    async fn samples_that_come_during_an_evaluation_wait_for_the_gap() {
        let queue = Queue::new(PERIOD, GAP);
        queue.add(&key("a"));
        let (first, _) = queue.next().await;
        queue.fresh(&key("a"));
        tokio::time::advance(GAP * 2).await;
        queue.done(&first);
        let begin = Instant::now();
        assert_eq!(queue.next().await, (key("a"), Trigger::Fresh));
        assert!((1.0..1.01).contains(&seconds(begin)), "{}", seconds(begin));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_late_by_periods_runs_once() {
        let queue = Queue::new(PERIOD, GAP);
        queue.add_spread(&key("a"));
        // Nobody takes it for a while.
        tokio::time::advance(PERIOD * 4).await;
        assert_eq!(queue.next().await, (key("a"), Trigger::Period));
        queue.done(&key("a"));
        let begin = Instant::now();
        assert_eq!(queue.next().await, (key("a"), Trigger::Period));
        assert!((15.0..15.01).contains(&seconds(begin)), "{}", seconds(begin));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_gone_is_not_evaluated() {
        let queue = Queue::new(PERIOD, GAP);
        queue.add(&key("a"));
        queue.add(&key("b"));
        queue.remove(&key("a"));
        assert_eq!(queue.next().await.0, key("b"));
        queue.remove(&key("b"));
        queue.done(&key("b"));
        assert!(tokio::time::timeout(PERIOD * 4, queue.next()).await.is_err());
        assert!(queue.inner.lock().entries.is_empty());
    }

    #[test]
    fn the_heap_is_bounded() {
        let queue = Queue::new(PERIOD, GAP);
        for _ in 0..10_000 {
            queue.add(&key("a"));
        }
        assert!(queue.inner.lock().heap.len() <= 2 + SLACK + 1);
    }
}
