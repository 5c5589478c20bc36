//! From series refs, which only grow, to the places of series.
//!
//! Refs are dense apart from series that are gone, so they are looked up by page: four bytes a ref, and a page table small
//! enough to stay in the cache.

use std::collections::HashMap;

const PAGE_REFS: u64 = 256;
const VACANT: u32 = u32::MAX;

/// Slots by series ref.
#[derive(Debug, Default)]
pub(crate) struct RefTable {
    pages: HashMap<u64, Box<[u32; 256]>, foldhash::fast::RandomState>,
}

impl RefTable {
    #[inline]
    pub(crate) fn get(&self, series: u64) -> Option<u32> {
        let slot = self.pages.get(&(series / PAGE_REFS))?[within(series)];
        (slot != VACANT).then_some(slot)
    }

    /// Bytes held, about.
    pub(crate) fn bytes(&self) -> usize {
        self.pages.capacity() * size_of::<(u64, usize)>()
            + self.pages.len() * size_of::<[u32; 256]>()
    }

    pub(crate) fn insert(&mut self, series: u64, slot: u32) {
        let page = self.pages.entry(series / PAGE_REFS);
        page.or_insert_with(|| Box::new([VACANT; 256]))[within(series)] = slot;
    }
}

#[inline]
fn within(series: u64) -> usize {
    usize::from(series.to_le_bytes()[0])
}
