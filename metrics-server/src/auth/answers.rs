//! Answers of the API server about credentials and permissions, kept for some seconds.
//!
//! What is asked about comes from clients, so it is kept only as a keyed hash: nobody can make two questions meet, and
//! no token lies around in memory. The number of answers is bounded, and equal questions at one time are asked once.

use std::collections::HashMap;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use ring::hmac;
use ring::rand::SystemRandom;
use tokio::time::Instant;

type Hash = [u8; 32];

/// Answers by question.
pub(super) struct Answers<V> {
    key: hmac::Key,
    slots: std::sync::Mutex<Slots<V>>,
}

/// Two generations: when the young one is full, it becomes the old one, and what was old is forgotten.
struct Slots<V> {
    young: HashMap<Hash, Arc<Slot<V>>>,
    old: HashMap<Hash, Arc<Slot<V>>>,
    per_generation_max: usize,
}

struct Slot<V> {
    /// Locked while the question is being asked.
    answer: tokio::sync::Mutex<Option<Answer<V>>>,
    /// How often it has been asked.
    asked: AtomicU64,
}

struct Answer<V> {
    value: V,
    until: Instant,
}

impl<V: Clone> Answers<V> {
    /// Keeps up to `max` answers.
    ///
    /// # Panics
    /// If the system has no randomness.
    pub(super) fn new(max: usize) -> Self {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .expect("the system's random numbers do not fail once it has started");
        let slots = Slots {
            young: HashMap::new(),
            old: HashMap::new(),
            per_generation_max: (max / 2).max(1),
        };
        Self { key, slots: std::sync::Mutex::new(slots) }
    }

    /// The kept answer to the question that consists of `parts`, or what `ask` finds out, together with how long it may
    /// be kept. Whoever waits while the question is being asked gets that answer, even one that is not kept.
    pub(super) async fn get(&self, parts: &[&[u8]], ask: impl Future<Output = (V, Duration)>) -> V {
        let hash = self.hash(parts);
        let slot = self.slots.lock().unwrap_or_else(PoisonError::into_inner).slot(hash);
        let asked = slot.asked.load(Ordering::SeqCst);
        let mut answer = slot.answer.lock().await;
        let meanwhile = slot.asked.load(Ordering::SeqCst) != asked;
        if let Some(kept) = answer.as_ref().filter(|kept| meanwhile || Instant::now() < kept.until)
        {
            return kept.value.clone();
        }
        let (value, ttl) = ask.await;
        *answer = Some(Answer { value: value.clone(), until: Instant::now() + ttl });
        slot.asked.fetch_add(1, Ordering::SeqCst);
        value
    }

    fn hash(&self, parts: &[&[u8]]) -> Hash {
        let mut context = hmac::Context::with_key(&self.key);
        for part in parts {
            // With the length in front, "ab" and "c" differ from "a" and "bc".
            context.update(&part.len().to_be_bytes());
            context.update(part);
        }
        let mut hash = Hash::default();
        hash.copy_from_slice(context.sign().as_ref());
        hash
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        let slots = self.slots.lock().unwrap();
        slots.young.len() + slots.old.len()
    }
}

impl<V> Slots<V> {
    fn slot(&mut self, hash: Hash) -> Arc<Slot<V>> {
        if let Some(slot) = self.young.get(&hash) {
            return Arc::clone(slot);
        }
        let slot = self.old.remove(&hash).unwrap_or_else(|| {
            Arc::new(Slot { answer: tokio::sync::Mutex::new(None), asked: AtomicU64::new(0) })
        });
        if self.young.len() >= self.per_generation_max {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(hash, Arc::clone(&slot));
        slot
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    const TTL: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn answers_are_kept_for_their_time() {
        let answers = Answers::new(8);
        assert_eq!(answers.get(&[b"a"], async { (1, TTL) }).await, 1);
        tokio::time::advance(TTL - Duration::from_millis(1)).await;
        assert_eq!(answers.get(&[b"a"], async { (2, TTL) }).await, 1);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(answers.get(&[b"a"], async { (3, Duration::ZERO) }).await, 3);
        assert_eq!(answers.get(&[b"a"], async { (4, TTL) }).await, 4, "was not to be kept");
    }

    #[tokio::test]
    async fn questions_do_not_meet() {
        let answers = Answers::new(8);
        assert_eq!(answers.get(&[b"ab", b"c"], async { (1, TTL) }).await, 1);
        assert_eq!(answers.get(&[b"a", b"bc"], async { (2, TTL) }).await, 2);
        assert_eq!(answers.get(&[b"abc"], async { (3, TTL) }).await, 3);
        assert_eq!(answers.get(&[b"ab", b"c"], async { (4, TTL) }).await, 1);
    }

    #[tokio::test]
    async fn the_number_is_bounded_and_what_is_used_stays() {
        let answers = Answers::new(8);
        for i in 0..1_000_u32 {
            answers.get(&[&i.to_be_bytes()], async { (i, TTL) }).await;
            assert_eq!(answers.get(&[b"used"], async { (i, TTL) }).await, 0);
        }
        assert!(answers.len() <= 8, "{}", answers.len());
    }

    #[tokio::test]
    async fn equal_questions_at_one_time_are_asked_once_even_if_the_answer_is_not_kept() {
        let answers = Arc::new(Answers::new(8));
        let asked = Arc::new(AtomicUsize::new(0));
        let (release, released) = tokio::sync::watch::channel(false);
        let asking: Vec<_> = (0..10)
            .map(|_| {
                let (answers, asked, mut released) =
                    (Arc::clone(&answers), Arc::clone(&asked), released.clone());
                tokio::spawn(async move {
                    let ask = async {
                        asked.fetch_add(1, Ordering::SeqCst);
                        released.wait_for(|now| *now).await.unwrap();
                        (7, Duration::ZERO)
                    };
                    answers.get(&[b"q"], ask).await
                })
            })
            .collect();
        // All ten wait before the first is let go: the runtime has one thread and runs them in turn.
        tokio::task::yield_now().await;
        release.send(true).unwrap();
        for one in asking {
            assert_eq!(one.await.unwrap(), 7);
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }
}
