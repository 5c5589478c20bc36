//! Where reading of open chunks goes on.
//!
//! Rules and dashboards ask for the newest few minutes of the same series again and again, and a chunk can be decoded from its start only: a
//! window of 20 samples costs the up to 120 before it, too. So the state of the decoder shortly before the window is remembered, of series that
//! are asked for.

use std::array;
use std::hash::BuildHasher;

use chunkenc::XorMark;
use foldhash::fast::FixedState;
use model::Timestamp;
use parking_lot::Mutex;

/// Series are spread over as many tables, so that threads seldom wait for each other.
const SHARDS: usize = 16;

/// Buckets of a table at most, of 448 bytes each: 7 MiB in all tables, for 131,072 places.
const SHARD_BUCKETS_MAX: usize = 1 << 10;

/// Places in a bucket.
const WAYS: usize = 8;

/// Fewer samples are decoded sooner than a mark is found.
pub(super) const SAMPLES_WORTH_A_MARK: u16 = 32;

/// By how many samples a mark must be later than the one there is, to take its place: windows of several lengths can share a mark that is before all
/// of them.
const SAMPLES_LATER: u16 = 32;

/// By how many samples it may be earlier, so that a longer window does not take away the mark of a short one that it would not gain by.
const SAMPLES_EARLIER: u16 = 48;

/// A place in an open chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OpenMark {
    /// First time of the chunk, which tells it from those before and after it.
    pub(super) chunk: Timestamp,
    pub(super) mark: XorMark,
}

/// One place each for some series.
#[derive(Debug)]
pub(super) struct Marks {
    shards: [Mutex<Shard>; SHARDS],
}

/// A table in which each series has a bucket. When that is full the table grows, and when it may not, another series gives up its place: so of more
/// series than it holds, which are asked for in turns, most are still found. To give up what was not asked for longest would leave none.
#[derive(Debug, Default)]
struct Shard {
    /// None, or a power of two.
    buckets: Vec<Bucket>,
    taken: usize,
}

/// Places, taken from the first on. The refs are together what a processor fetches at once.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Bucket {
    series: [u64; WAYS],
    marks: [Option<OpenMark>; WAYS],
}

const EMPTY: Bucket = Bucket { series: [0; WAYS], marks: [None; WAYS] };

impl Default for Marks {
    fn default() -> Self {
        Self { shards: array::from_fn(|_| Mutex::default()) }
    }
}

impl Marks {
    /// The place in the chunk of `series` that begins at `chunk`, if it is before all samples from `from` on.
    pub(super) fn get(&self, series: u64, chunk: Timestamp, from: Timestamp) -> Option<XorMark> {
        let hash = spread(series);
        let known = self.shard(hash).lock().get(series, hash)?;
        (known.chunk == chunk && known.mark.t() < from).then_some(known.mark)
    }

    /// Remembers a place, if it is better than the one that is known.
    pub(super) fn note(&self, series: u64, new: OpenMark) {
        let samples = new.mark.samples();
        if samples < SAMPLES_WORTH_A_MARK {
            return;
        }
        let hash = spread(series);
        let mut shard = self.shard(hash).lock();
        if let Some(known) = shard.get(series, hash) {
            let before = known.mark.samples();
            let is_better = known.chunk != new.chunk
                || samples >= before.saturating_add(SAMPLES_LATER)
                || (samples < before && before - samples <= SAMPLES_EARLIER);
            if !is_better {
                return;
            }
        }
        shard.put(series, hash, new);
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        let buckets: usize = self.shards.iter().map(|shard| shard.lock().buckets.capacity()).sum();
        buckets * size_of::<Bucket>()
    }

    const fn shard(&self, hash: u64) -> &Mutex<Shard> {
        &self.shards[scaled(hash, SHARDS)]
    }
}

/// What decides on the place of a series, whatever the refs of a selection have in common.
fn spread(series: u64) -> u64 {
    FixedState::with_seed(0).hash_one(series)
}

/// The upper half of `hash`, as a part of 2³², of `count`.
const fn scaled(hash: u64, count: usize) -> usize {
    (((hash >> 32) * count as u64) >> 32) as usize
}

impl Shard {
    const fn bucket(&self, hash: u64) -> usize {
        // The bits that chose the table are the same for all that is in it.
        scaled(hash.wrapping_mul(SHARDS as u64), self.buckets.len())
    }

    fn get(&self, series: u64, hash: u64) -> Option<OpenMark> {
        let Bucket { series: refs, marks } = self.buckets.get(self.bucket(hash))?;
        refs.iter().zip(marks).find_map(|(at, mark)| mark.filter(|_| *at == series))
    }

    fn put(&mut self, series: u64, hash: u64, mark: OpenMark) {
        loop {
            let at = self.bucket(hash);
            let buckets = self.buckets.len();
            if let Some(bucket) = self.buckets.get_mut(at) {
                let mut places = bucket.series.iter().zip(&bucket.marks);
                let way = places.position(|(at, mark)| *at == series || mark.is_none());
                let may_grow = buckets < SHARD_BUCKETS_MAX && self.taken * 2 >= buckets * WAYS;
                // Not in turns, which would give up all of those that are asked for in turns.
                let other = (!may_grow).then_some(scaled(hash << 24, WAYS));
                if let Some(way) = way.or(other) {
                    self.taken += usize::from(bucket.marks[way].is_none());
                    bucket.series[way] = series;
                    bucket.marks[way] = Some(mark);
                    return;
                }
            }
            self.grow();
        }
    }

    fn grow(&mut self) {
        let buckets = vec![EMPTY; (self.buckets.len() * 2).max(1)];
        let before = std::mem::replace(&mut self.buckets, buckets);
        self.taken = 0;
        for Bucket { series, marks } in before {
            for (series, mark) in series.into_iter().zip(marks) {
                if let Some(mark) = mark {
                    self.put(series, spread(series), mark);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use chunkenc::{HEADER_BYTES, XorChunk, decode_xor_from};
    use model::{Columns, TimeRange};

    use super::*;

    /// The mark before sample `at` of a counter every second.
    fn mark(at: i64) -> OpenMark {
        let mut chunk = XorChunk::new();
        (0..240_i32).for_each(|t| chunk.push(t.into(), f64::from(t).sin()));
        let payload = &chunk.as_bytes()[HEADER_BYTES..];
        let range = TimeRange::new(at, 1000);
        let mark = decode_xor_from(None, (240, payload), range, &mut Columns::new());
        OpenMark { chunk: 0, mark: mark.unwrap().unwrap() }
    }

    #[test]
    fn a_mark_is_of_one_chunk_and_before_what_is_wanted() {
        let (marks, mark) = (Marks::default(), mark(200));
        assert!(mark.mark.samples() > 180 && mark.mark.t() < 200);
        marks.note(17, mark);
        assert_eq!(marks.get(17, 0, 200), Some(mark.mark));
        assert_eq!(marks.get(17, 0, mark.mark.t()), None);
        assert_eq!(marks.get(17, 1, 200), None);
        assert_eq!(marks.get(33, 0, 200), None);
        marks.note(33, super::tests::mark(20));
        assert_eq!(marks.get(33, 0, 200), None, "not worth while");
    }

    #[test]
    fn windows_of_several_lengths_share_a_mark() {
        let samples = |marks: &Marks| marks.get(1, 0, 1000).unwrap().samples();
        let (short, long, hour) = (mark(220), mark(200), mark(60));
        let marks = Marks::default();
        marks.note(1, short);
        marks.note(1, long);
        assert_eq!(samples(&marks), long.mark.samples());
        marks.note(1, short);
        assert_eq!(samples(&marks), long.mark.samples(), "not much later");
        marks.note(1, hour);
        assert_eq!(samples(&marks), long.mark.samples(), "much earlier");
        marks.note(1, OpenMark { chunk: 5, ..hour });
        assert_eq!(marks.get(1, 5, 1000), Some(hour.mark));
        marks.note(1, OpenMark { chunk: 5, ..long });
        assert_eq!(marks.get(1, 5, 1000), Some(long.mark), "much later");
    }

    /// How many of `count` series, whose refs are `step` apart, are found when they are asked for in turns, and bytes.
    fn found_in_turns(count: u64, step: u64) -> (u64, usize) {
        let (marks, mark) = (Marks::default(), mark(200));
        let mut found = 0;
        for _ in 0..3 {
            found = 0;
            for series in (0..count).map(|i| i * step) {
                found += u64::from(marks.get(series, 0, 200).is_some());
                marks.note(series, mark);
                assert_eq!(marks.get(series, 0, 200), Some(mark.mark));
            }
        }
        (found, marks.bytes())
    }

    #[test]
    fn marks_are_bounded_and_most_of_somewhat_more_are_found() {
        let places = SHARDS * SHARD_BUCKETS_MAX * WAYS;
        let (half, more) = ((places / 2) as u64, (places + places / 4) as u64);
        for step in [1, 65_536] {
            let (found, bytes) = found_in_turns(half, step);
            assert!(found >= half * 19 / 20, "{step}: {found} of {half}");
            assert!(bytes <= 56 * places, "{step}: {bytes} bytes of {half}");
            let (found, bytes) = found_in_turns(more, step);
            assert!(found >= more / 2, "{step}: {found} of {more}");
            assert!(bytes <= 56 * places, "{step}: {bytes} bytes of {more}");
        }
    }

    #[test]
    fn few_marks_take_few_bytes() {
        let (found, bytes) = found_in_turns(100, 1);
        assert_eq!(found, 100);
        assert!(bytes <= 100 * 56 * 4, "{bytes}");
        assert_eq!(Marks::default().bytes(), 0);
    }
}
