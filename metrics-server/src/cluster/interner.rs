//! Values of which many objects have the same: kept once, for as long as something uses them.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

/// Fewer values than this are not worth looking through.
const SWEEP_LEN_MIN: usize = 1024;

/// A set of shared values.
#[derive(Debug)]
pub(super) struct Interner<T: ?Sized> {
    known: HashSet<Arc<T>>,
    /// The size at which the set is looked through for what nothing uses.
    sweep_len: usize,
}

impl<T: ?Sized> Default for Interner<T> {
    fn default() -> Self {
        Self { known: HashSet::new(), sweep_len: 0 }
    }
}

impl<T: Eq + Hash + ?Sized> Interner<T> {
    /// The shared value that is equal to `value`.
    pub(super) fn intern<V>(&mut self, value: V) -> Arc<T>
    where
        V: AsRef<T> + Into<Arc<T>>,
    {
        if let Some(known) = self.known.get(value.as_ref()) {
            return Arc::clone(known);
        }
        let value = value.into();
        self.known.insert(Arc::clone(&value));
        value
    }

    /// Drops `value` if an object was the last one to use it.
    pub(super) fn release(&mut self, value: Arc<T>) {
        // This one and the entry of the set.
        if Arc::strong_count(&value) == 2 {
            self.known.remove(&value);
        }
        drop(value);
        // A reader may have held the last other one when it was released.
        if self.known.len() >= self.sweep_len.max(SWEEP_LEN_MIN) {
            self.known.retain(|value| Arc::strong_count(value) > 1);
            self.sweep_len = self.known.len() * 2;
        }
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_until_the_last_is_released() {
        let mut interner = Interner::<str>::default();
        let (a, b) = (interner.intern("x"), interner.intern("x"));
        assert!(Arc::ptr_eq(&a, &b));
        interner.release(a);
        assert_eq!(interner.len(), 1);
        interner.release(b);
        assert_eq!(interner.len(), 0);
    }

    #[test]
    fn what_a_reader_held_is_found_later() {
        let mut interner = Interner::<str>::default();
        let held = interner.intern("held");
        let reader = Arc::clone(&held);
        interner.release(held);
        drop(reader);
        assert_eq!(interner.len(), 1);
        let names: Vec<_> = (0..SWEEP_LEN_MIN).map(|n| n.to_string()).collect();
        let kept: Vec<_> = names.iter().map(|name| interner.intern(name.as_str())).collect();
        let last = interner.intern("last");
        interner.release(last);
        assert_eq!(interner.len(), kept.len());
    }
}
