//! Memory for chunks that are full.
//!
//! No chunk crosses the end of a block's range, so the chunks of one range are kept together and dropped together, without
//! looking at a single one. The chunks of a series form a list from the newest to the oldest, whose links lead through these arenas; a link
//! into an arena that is gone is the end of the list.

use model::{TimeRange, Timestamp};

/// Names a chunk: the number of its arena, and its place in units of eight bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handle(u64);

impl Handle {
    /// Of no chunk.
    pub(crate) const NONE: Self = Self(u64::MAX);
}

/// A full chunk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClosedChunk<'a> {
    pub(crate) range: TimeRange,
    /// The chunk as it stands in a file.
    pub(crate) bytes: &'a [u8],
}

#[derive(Debug)]
struct Arena {
    number: u32,
    /// End of the block range, exclusive.
    end: Timestamp,
    /// Earliest sample.
    min_time: Timestamp,
    chunks: u64,
    pages: Vec<Box<[u8]>>,
    used_in_last: usize,
}

const PAGE_BYTES: usize = 256 << 10;
const UNIT_BYTES: usize = 8;
const UNITS_PER_PAGE: usize = PAGE_BYTES / UNIT_BYTES;
/// Previous chunk, first and last time, length.
const HEADER_BYTES: usize = 8 + 8 + 8 + 4;

/// All full chunks.
#[derive(Debug, Default)]
pub(crate) struct ClosedChunks {
    arenas: Vec<Arena>,
    next_number: u32,
}

impl ClosedChunks {
    /// Keeps a chunk of the block range that ends at `end`; `previous` is the series' chunk before.
    pub(crate) fn push(
        &mut self,
        end: Timestamp,
        previous: Handle,
        range: TimeRange,
        parts: [&[u8]; 2],
    ) -> Handle {
        let len = parts[0].len() + parts[1].len();
        let bytes = (HEADER_BYTES + len).next_multiple_of(UNIT_BYTES);
        let arena = self.arena(end, bytes);
        arena.min_time = arena.min_time.min(range.min);
        arena.chunks += 1;
        let place = (arena.pages.len() - 1) * UNITS_PER_PAGE + arena.used_in_last / UNIT_BYTES;
        let page = arena.pages.last_mut().expect("an arena has a page");
        let mut rest = &mut page[arena.used_in_last..];
        let mut put = |bytes: &[u8]| {
            let (here, after) = std::mem::take(&mut rest).split_at_mut(bytes.len());
            here.copy_from_slice(bytes);
            rest = after;
        };
        put(&previous.0.to_le_bytes());
        put(&range.min.to_le_bytes());
        put(&range.max.to_le_bytes());
        put(&u32::try_from(len).expect("a chunk is about a kilobyte").to_le_bytes());
        put(parts[0]);
        put(parts[1]);
        arena.used_in_last += bytes;
        Handle(u64::from(arena.number) << 32 | place as u64)
    }

    /// The arena for a chunk of `bytes`, with room for it on its last page.
    fn arena(&mut self, end: Timestamp, bytes: usize) -> &mut Arena {
        let full = |arena: &Arena| arena.pages.len() >= u32::MAX as usize / UNITS_PER_PAGE;
        let found = self.arenas.iter().rposition(|arena| arena.end == end && !full(arena));
        let at = found.unwrap_or_else(|| {
            let number = self.next_number;
            self.next_number += 1;
            self.arenas.push(Arena {
                number,
                end,
                min_time: Timestamp::MAX,
                chunks: 0,
                pages: Vec::new(),
                used_in_last: PAGE_BYTES,
            });
            self.arenas.len() - 1
        });
        let arena = &mut self.arenas[at];
        if arena.used_in_last + bytes > PAGE_BYTES {
            arena.pages.push(vec![0; PAGE_BYTES].into_boxed_slice());
            arena.used_in_last = 0;
        }
        arena
    }

    /// The chunk at `handle` and the one before it; `None` when it is gone.
    fn get(&self, handle: Handle) -> Option<(ClosedChunk<'_>, Handle)> {
        let number = handle.0 >> 32;
        let arena = self.arenas.iter().find(|arena| u64::from(arena.number) == number)?;
        let place = usize::try_from(handle.0 & u64::from(u32::MAX)).ok()?;
        let page = arena.pages.get(place / UNITS_PER_PAGE)?;
        let rest = page.get(place % UNITS_PER_PAGE * UNIT_BYTES..)?;
        let (previous, rest) = rest.split_first_chunk::<8>()?;
        let (min, rest) = rest.split_first_chunk::<8>()?;
        let (max, rest) = rest.split_first_chunk::<8>()?;
        let (len, rest) = rest.split_first_chunk::<4>()?;
        let bytes = rest.get(..u32::from_le_bytes(*len) as usize)?;
        let range = TimeRange::new(i64::from_le_bytes(*min), i64::from_le_bytes(*max));
        Some((ClosedChunk { range, bytes }, Handle(u64::from_le_bytes(*previous))))
    }

    /// The chunks of a series from the newest to the oldest.
    pub(crate) fn chain(&self, newest: Handle) -> impl Iterator<Item = ClosedChunk<'_>> {
        let mut next = newest;
        std::iter::from_fn(move || {
            let (chunk, previous) = self.get(next)?;
            next = previous;
            Some(chunk)
        })
    }

    /// Drops the chunks of block ranges that end at or before `t`.
    pub(crate) fn drop_before(&mut self, t: Timestamp) {
        self.arenas.retain(|arena| arena.end > t);
    }

    /// Time of the earliest sample in any chunk whose block range ends after `t`.
    pub(crate) fn min_time_after(&self, t: Timestamp) -> Option<Timestamp> {
        self.arenas.iter().filter(|arena| arena.end > t).map(|arena| arena.min_time).min()
    }

    /// Number of chunks.
    pub(crate) fn len(&self) -> u64 {
        self.arenas.iter().map(|arena| arena.chunks).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(chunks: &mut ClosedChunks, end: i64, previous: Handle, t: i64, len: usize) -> Handle {
        let bytes = vec![t.to_le_bytes()[0]; len];
        chunks.push(end, previous, TimeRange::new(t, t), [&bytes[..1], &bytes[1..]])
    }

    #[test]
    fn a_series_chunks_are_listed_until_their_range_is_dropped() {
        let mut chunks = ClosedChunks::default();
        let (mut a, mut b) = (Handle::NONE, Handle::NONE);
        for t in 0..2000 {
            a = push(&mut chunks, t / 1000 * 1000 + 1000, a, t, 300);
            b = push(&mut chunks, t / 1000 * 1000 + 1000, b, t, 31);
        }
        let times = |chunks: &ClosedChunks, from| -> Vec<i64> {
            chunks.chain(from).map(|chunk| chunk.range.min).collect()
        };
        assert_eq!(times(&chunks, a), (0..2000).rev().collect::<Vec<_>>());
        assert_eq!(chunks.chain(b).nth(10).unwrap().bytes, [1989_i64.to_le_bytes()[0]; 31]);
        assert_eq!((chunks.min_time_after(0), chunks.min_time_after(1000)), (Some(0), Some(1000)));
        assert_eq!(chunks.len(), 4000);
        chunks.drop_before(1000);
        assert_eq!(chunks.len(), 2000);
        assert_eq!(times(&chunks, b), (1000..2000).rev().collect::<Vec<_>>());
        chunks.drop_before(2000);
        assert_eq!(times(&chunks, a), [0_i64; 0]);
        assert_eq!(times(&chunks, Handle::NONE), [0_i64; 0]);
    }
}
