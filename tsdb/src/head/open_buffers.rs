//! Memory for the bytes of chunks that are still written to.
//!
//! Buffers come in size classes, so that one costs its size and not an allocation. A constant series stays in the smallest
//! class for all of its chunk. A page holds buffers of one class; one that is no longer used at all may serve another class next, which matters
//! because series that started together outgrow a class together.

use std::collections::VecDeque;

/// Sizes of buffers. The last holds the largest chunk: 1005 bytes at which a chunk is cut, and one more sample.
const CLASS_BYTES: [usize; 10] = [48, 64, 96, 128, 192, 256, 384, 512, 768, 1040];

const PAGE_BYTES: usize = 64 << 10;

/// Unused pages that keep their memory.
const SPARE_PAGES: usize = 64;

/// Bits of a buffer's number that name its place in the page.
const PLACE_BITS: u32 = 11;
const PLACE_MASK: u32 = (1 << PLACE_BITS) - 1;

/// Words of a page's bitmap: the smallest class has 1365 buffers in a page.
const BITMAP_WORDS: usize = (PAGE_BYTES / CLASS_BYTES[0]).div_ceil(64);

/// Names a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Buffer {
    pub(crate) class: u8,
    /// Page and place in the page.
    pub(crate) index: u32,
}

#[derive(Debug)]
struct Page {
    /// Empty while no class uses the page, but for a few.
    bytes: Box<[u8]>,
    /// A bit for each buffer in use.
    used: [u64; BITMAP_WORDS],
    used_count: usize,
    /// Position in the list of pages of its class that have room.
    listed_at: usize,
}

/// All buffers.
#[derive(Debug, Default)]
pub(crate) struct OpenBuffers {
    pages: Vec<Page>,
    /// Pages of each class that have room.
    with_room: [Vec<u32>; CLASS_BYTES.len()],
    /// Pages that no class uses; the last few still have their memory.
    unused: VecDeque<u32>,
    /// Pages that have memory.
    allocated: usize,
}

#[inline]
const fn class_bytes(class: u8) -> usize {
    CLASS_BYTES[class as usize]
}

const fn per_page(class: u8) -> usize {
    PAGE_BYTES / class_bytes(class)
}

#[inline]
fn locate(buffer: Buffer) -> (usize, std::ops::Range<usize>) {
    let bytes = class_bytes(buffer.class);
    let start = (buffer.index & PLACE_MASK) as usize * bytes;
    ((buffer.index >> PLACE_BITS) as usize, start..start + bytes)
}

impl OpenBuffers {
    /// A buffer of the smallest size.
    pub(crate) fn allocate(&mut self) -> Buffer {
        self.allocate_in(0)
    }

    /// A buffer of at least `bytes`; `None` if no chunk has so many.
    pub(crate) fn allocate_for(&mut self, bytes: usize) -> Option<Buffer> {
        let class = CLASS_BYTES.iter().position(|&size| size >= bytes)?;
        Some(self.allocate_in(u8::try_from(class).ok()?))
    }

    fn allocate_in(&mut self, class: u8) -> Buffer {
        let number = match self.with_room[usize::from(class)].last() {
            Some(&number) => number,
            None => self.add_page(class),
        };
        let page = &mut self.pages[number as usize];
        let word = page.used.iter().position(|&bits| bits != u64::MAX);
        let word = word.expect("a page with room has a free bit");
        let bit = page.used[word].trailing_ones();
        page.used[word] |= 1 << bit;
        page.used_count += 1;
        if page.used_count == per_page(class) {
            self.with_room[usize::from(class)].pop();
        }
        let place = u32::try_from(word * 64).expect("a page has few buffers") + bit;
        Buffer { class, index: number << PLACE_BITS | place }
    }

    /// A page without buffers in use, for `class`.
    fn add_page(&mut self, class: u8) -> u32 {
        let number = self.unused.pop_back().inspect(|&number| {
            let page = &mut self.pages[number as usize];
            if page.bytes.is_empty() {
                page.bytes = vec![0; PAGE_BYTES].into_boxed_slice();
                self.allocated += 1;
            }
        });
        let number = number.unwrap_or_else(|| {
            self.allocated += 1;
            self.pages.push(Page {
                bytes: vec![0; PAGE_BYTES].into_boxed_slice(),
                used: [0; BITMAP_WORDS],
                used_count: 0,
                listed_at: 0,
            });
            let number = u32::try_from(self.pages.len() - 1).unwrap_or(u32::MAX);
            assert!(number < 1 << (32 - PLACE_BITS), "open chunks take 128 GiB at most");
            number
        });
        self.list(class, number);
        number
    }

    fn list(&mut self, class: u8, number: u32) {
        let list = &mut self.with_room[usize::from(class)];
        self.pages[number as usize].listed_at = list.len();
        list.push(number);
    }

    pub(crate) fn free(&mut self, buffer: Buffer) {
        let (number, place) = (buffer.index >> PLACE_BITS, buffer.index & PLACE_MASK);
        let page = &mut self.pages[number as usize];
        page.used[(place / 64) as usize] &= !(1 << (place % 64));
        page.used_count -= 1;
        if page.used_count + 1 == per_page(buffer.class) {
            self.list(buffer.class, number);
        } else if page.used_count == 0 {
            let (list, at) = (&mut self.with_room[usize::from(buffer.class)], page.listed_at);
            list.swap_remove(at);
            if let Some(&moved) = list.get(at) {
                self.pages[moved as usize].listed_at = at;
            }
            // Chunks of series that started together are full together: then most of the memory is given back.
            if self.unused.len() >= SPARE_PAGES {
                self.pages[number as usize].bytes = Box::default();
                self.allocated -= 1;
                self.unused.push_front(number);
            } else {
                self.unused.push_back(number);
            }
        }
    }

    #[inline]
    pub(crate) fn get(&self, buffer: Buffer) -> &[u8] {
        let (page, range) = locate(buffer);
        &self.pages[page].bytes[range]
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, buffer: Buffer) -> &mut [u8] {
        let (page, range) = locate(buffer);
        &mut self.pages[page].bytes[range]
    }

    /// A buffer of at least `bytes` with the content of `buffer`, which is freed.
    ///
    /// # Panics
    /// If `bytes` is more than a chunk can have, or the buffer has as many.
    pub(crate) fn grow(&mut self, buffer: Buffer, bytes: usize) -> Buffer {
        let class = CLASS_BYTES.iter().position(|&size| size >= bytes);
        let class = class.expect("chunks are cut before they outgrow the largest class");
        assert!(class > usize::from(buffer.class), "it has room enough");
        let grown = self.allocate_in(u8::try_from(class).expect("there are few classes"));
        let (page, range) = locate(buffer);
        // A page has buffers of one class, so the other is in another.
        let bytes = std::mem::take(&mut self.pages[page].bytes);
        self.get_mut(grown)[..range.len()].copy_from_slice(&bytes[range]);
        self.pages[page].bytes = bytes;
        self.free(buffer);
        grown
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.allocated * PAGE_BYTES + self.pages.capacity() * size_of::<Page>()
    }

    /// Size of a buffer.
    #[inline]
    pub(crate) const fn len(buffer: Buffer) -> usize {
        class_bytes(buffer.class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_grow_and_are_reused() {
        let mut buffers = OpenBuffers::default();
        let many: Vec<Buffer> = (0..3000).map(|_| buffers.allocate()).collect();
        for (i, &buffer) in many.iter().enumerate() {
            buffers.get_mut(buffer).fill(i.to_le_bytes()[0]);
        }
        let grown = buffers.grow(many[1500], 100);
        assert_eq!(buffers.get(grown).len(), 128);
        assert_eq!(buffers.get(grown)[..48], [1500_usize.to_le_bytes()[0]; 48]);
        assert_eq!(buffers.get(many[1501])[47], 1501_usize.to_le_bytes()[0]);
        let more: Vec<Buffer> = (0..2000).map(|_| buffers.allocate()).collect();
        assert!(more.contains(&many[1500]));
    }

    #[test]
    fn pages_that_are_free_again_serve_other_classes() {
        let mut buffers = OpenBuffers::default();
        let small: Vec<Buffer> = (0..1365 * 4).map(|_| buffers.allocate()).collect();
        assert_eq!(buffers.pages.len(), 4);
        small.iter().for_each(|&buffer| buffers.free(buffer));
        let distinct: std::collections::BTreeSet<u32> =
            (0..63 * 4).map(|_| buffers.allocate_in(9).index).collect();
        assert_eq!((buffers.pages.len(), distinct.len()), (4, 63 * 4));
    }

    #[test]
    fn memory_of_unused_pages_is_given_back() {
        let mut buffers = OpenBuffers::default();
        let many: Vec<Buffer> = (0..63 * 200).map(|_| buffers.allocate_in(9)).collect();
        assert_eq!(buffers.allocated, 200);
        many.iter().for_each(|&buffer| buffers.free(buffer));
        assert_eq!((buffers.allocated, buffers.pages.len()), (SPARE_PAGES, 200));
        let again: Vec<Buffer> = (0..63 * 150).map(|_| buffers.allocate_in(9)).collect();
        again.iter().for_each(|&buffer| buffers.get_mut(buffer).fill(1));
        assert_eq!((buffers.allocated, buffers.pages.len()), (150, 200));
    }

    #[test]
    fn buffers_in_use_are_never_handed_out() {
        let mut buffers = OpenBuffers::default();
        let mut held: Vec<Buffer> = Vec::new();
        let mut state = 1_u64;
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let random = usize::try_from(state >> 40).unwrap();
            if random % 5 < 3 || held.is_empty() {
                let buffer = buffers.allocate_in(u8::try_from(random % 10).unwrap());
                assert!(!held.contains(&buffer));
                held.push(buffer);
            } else {
                buffers.free(held.swap_remove(random % held.len()));
            }
            if held.len() > 700 {
                held.drain(..).for_each(|buffer| buffers.free(buffer));
            }
        }
    }
}
