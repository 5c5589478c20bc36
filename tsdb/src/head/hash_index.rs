//! An open-addressing table from hashes to ids, for whatever keeps its keys elsewhere.
//!
//! Eight bytes a slot: half of the hash, so that a probe rarely has to look at a key and growing never does, and the id.
//! Nothing is removed; owners rebuild.

/// Ids by hash. Several ids may share a hash.
#[derive(Debug, Default)]
pub(crate) struct HashIndex {
    /// The upper half of the hash, then the id plus one; 0 is a free slot. The length is a power of two.
    slots: Vec<u64>,
    len: usize,
}

const SLOTS_MIN: usize = 64;

impl HashIndex {
    /// An empty table with room for `len` ids.
    pub(crate) fn with_capacity(len: usize) -> Self {
        let slots = (len * 5 / 4 + 1).next_power_of_two().max(SLOTS_MIN);
        Self { slots: vec![0; slots], len: 0 }
    }

    /// The id with this hash that `is` the one looked for.
    #[inline]
    pub(crate) fn find(&self, hash: u64, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        if self.slots.is_empty() {
            return None;
        }
        let mask = self.slots.len() - 1;
        let mut at = place(hash, mask);
        loop {
            let slot = self.slots[at];
            if slot == 0 {
                return None;
            }
            if slot >> 32 == hash >> 32 {
                let id = low_half(slot) - 1;
                if is(id) {
                    return Some(id);
                }
            }
            at = (at + 1) & mask;
        }
    }

    /// Adds `id`, which must be below `u32::MAX`.
    pub(crate) fn insert(&mut self, hash: u64, id: u32) {
        // At four fifths, a probe looks at three slots on average.
        if (self.len + 1) * 5 > self.slots.len() * 4 {
            self.grow();
        }
        put(&mut self.slots, hash >> 32 << 32 | (u64::from(id) + 1));
        self.len += 1;
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<u64>()
    }

    fn grow(&mut self) {
        let mut slots = vec![0; (self.slots.len() * 2).max(SLOTS_MIN)];
        for &slot in self.slots.iter().filter(|&&slot| slot != 0) {
            put(&mut slots, slot);
        }
        self.slots = slots;
    }
}

fn put(slots: &mut [u64], slot: u64) {
    let mask = slots.len() - 1;
    let mut at = place(slot, mask);
    while slots[at] != 0 {
        at = (at + 1) & mask;
    }
    slots[at] = slot;
}

/// Where the search for a hash begins; only the half that is kept counts.
#[inline]
fn place(hash: u64, mask: usize) -> usize {
    usize::try_from(hash >> 32).unwrap_or(0) & mask
}

#[inline]
const fn low_half(slot: u64) -> u32 {
    let [a, b, c, d, ..] = slot.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_among_colliding_hashes() {
        let mut index = HashIndex::default();
        assert_eq!(index.find(7, |_| true), None);
        // Ten hashes for a thousand ids.
        let hash = |id: u32| u64::from(id % 10) << 60 | 1;
        for id in 0..1000 {
            index.insert(hash(id), id);
        }
        for id in 0..1000 {
            assert_eq!(index.find(hash(id), |found| found == id), Some(id));
        }
        assert_eq!(index.find(hash(3), |found| found == 4), None);
    }
}
