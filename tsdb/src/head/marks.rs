//! Where reading of open chunks goes on.
//!
//! Rules and dashboards ask for the newest few minutes of the same series again and again, and a chunk can be decoded from its start only: a
//! window of 20 samples costs the up to 120 before it, too. So the state of the decoder shortly before the window is remembered, of series that
//! are asked for.

use std::array;
use std::collections::HashMap;

use chunkenc::XorMark;
use model::Timestamp;
use parking_lot::Mutex;

/// Series are spread over as many maps, so that threads seldom wait for each other.
const SHARDS: usize = 16;

/// Marks in a map, of about 64 bytes each; when there are more, all are forgotten.
const SHARD_MARKS_MAX: usize = 1 << 12;

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
    shards: [Mutex<HashMap<u64, OpenMark, foldhash::fast::RandomState>>; SHARDS],
}

impl Default for Marks {
    fn default() -> Self {
        Self { shards: array::from_fn(|_| Mutex::default()) }
    }
}

impl Marks {
    /// The place in the chunk of `series` that begins at `chunk`, if it is before all samples from `from` on.
    pub(super) fn get(&self, series: u64, chunk: Timestamp, from: Timestamp) -> Option<XorMark> {
        let known = self.shard(series).lock().get(&series).copied()?;
        (known.chunk == chunk && known.mark.t() < from).then_some(known.mark)
    }

    /// Remembers a place, if it is better than the one that is known.
    pub(super) fn note(&self, series: u64, new: OpenMark) {
        let samples = new.mark.samples();
        if samples < SAMPLES_WORTH_A_MARK {
            return;
        }
        let mut shard = self.shard(series).lock();
        if let Some(known) = shard.get_mut(&series) {
            let before = known.mark.samples();
            let is_better = known.chunk != new.chunk
                || samples >= before.saturating_add(SAMPLES_LATER)
                || (samples < before && before - samples <= SAMPLES_EARLIER);
            if is_better {
                *known = new;
            }
            return;
        }
        if shard.len() >= SHARD_MARKS_MAX {
            shard.clear();
        }
        shard.insert(series, new);
    }

    #[expect(clippy::cast_possible_truncation, reason = "the lower bits alone matter")]
    const fn shard(
        &self,
        series: u64,
    ) -> &Mutex<HashMap<u64, OpenMark, foldhash::fast::RandomState>> {
        &self.shards[series as usize % SHARDS]
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

    #[test]
    fn marks_are_bounded() {
        let (marks, mark) = (Marks::default(), mark(200));
        let series = (SHARDS * SHARD_MARKS_MAX * 3) as u64;
        for series in 0..series {
            marks.note(series, mark);
            assert_eq!(marks.get(series, 0, 200), Some(mark.mark));
        }
        let held: usize = marks.shards.iter().map(|shard| shard.lock().len()).sum();
        assert!(held <= SHARDS * SHARD_MARKS_MAX, "{held}");
    }
}
