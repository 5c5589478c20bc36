//! Taking one block range out of the head, series by series, in the order in which a block has them.

use model::{TimeRange, Timestamp};

use super::Head;

/// What a block of one range needs to know beforehand.
#[derive(Debug)]
pub(crate) struct CutPlan {
    /// First time in the block and first after it.
    pub(crate) min_time: Timestamp,
    pub(crate) max_time: Timestamp,
    /// The strings of all labels, sorted.
    pub(crate) symbols: Vec<Box<str>>,
    /// Series with samples in the range, sorted by labels.
    slots: Vec<u32>,
    /// By pair of the head, its name and value as positions in `symbols`.
    pairs: Vec<(u32, u32)>,
}

/// One series of a block.
#[derive(Debug, Default)]
pub(crate) struct CutSeries {
    /// Names and values as positions in the plan's symbols, sorted by name.
    pub(crate) labels: Vec<(u32, u32)>,
    pub(crate) chunks: Vec<CutChunk>,
    bytes: Vec<u8>,
}

/// One chunk of a [`CutSeries`].
#[derive(Clone, Debug)]
pub(crate) struct CutChunk {
    pub(crate) range: TimeRange,
    bytes: std::ops::Range<usize>,
}

impl CutSeries {
    /// The chunks in time order, each with its bytes.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = (TimeRange, &[u8])> {
        self.chunks.iter().map(|chunk| (chunk.range, &self.bytes[chunk.bytes.clone()]))
    }
}

impl CutPlan {
    /// Number of series.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }
}

impl Head {
    /// Prepares to write the samples from `min_time` up to, but not including, `max_time`, which is the end of a block range.
    pub(crate) fn plan_cut(&self, min_time: Timestamp, max_time: Timestamp) -> CutPlan {
        let all = 0..u32::try_from(self.len()).expect("slots are 32 bits");
        let mut slots: Vec<u32> =
            all.filter(|&slot| self.has_chunks_in(slot as usize, min_time, max_time)).collect();
        let ranks = self.pair_ranks();
        slots.sort_unstable_by(|&a, &b| {
            let ranks_of = |slot| self.labels.pair_ids(slot).iter().map(|&id| ranks[id as usize]);
            ranks_of(a).cmp(ranks_of(b))
        });
        let (symbols, pairs) = self.block_symbols(&slots);
        CutPlan { min_time, max_time, symbols, slots, pairs }
    }

    fn has_chunks_in(&self, at: usize, min_time: Timestamp, max_time: Timestamp) -> bool {
        let open = &self.open[at];
        if open.count() == 0 {
            return false;
        }
        if min_time <= open.min_time() && open.min_time() < max_time {
            return true;
        }
        self.chunks
            .chain(self.newest_closed(at))
            .take_while(|chunk| chunk.range.min >= min_time)
            .any(|chunk| chunk.range.min < max_time)
    }

    /// By pair, its position among all pairs in order of name and value: label sets then compare by numbers.
    fn pair_ranks(&self) -> Vec<u32> {
        let count = u32::try_from(self.labels.pairs.len()).expect("pair ids are 32 bits");
        let mut sorted: Vec<u32> = (0..count).collect();
        sorted.sort_unstable_by_key(|&id| self.labels.pair(id));
        let mut ranks = vec![0; sorted.len()];
        for (rank, id) in (0..).zip(sorted) {
            ranks[id as usize] = rank;
        }
        ranks
    }

    fn block_symbols(&self, slots: &[u32]) -> (Vec<Box<str>>, Vec<(u32, u32)>) {
        let labels = &self.labels;
        let mut used = vec![false; labels.symbols.len()];
        for &slot in slots {
            for &id in labels.pair_ids(slot) {
                let pair = labels.pairs.get(id);
                (used[pair.name as usize], used[pair.value as usize]) = (true, true);
            }
        }
        let mut ids: Vec<u32> =
            (0..).zip(&used).filter(|(_, used)| **used).map(|(id, _)| id).collect();
        ids.sort_unstable_by_key(|&id| labels.symbols.get(id));
        let mut positions = vec![0; labels.symbols.len()];
        for (position, &id) in (0..).zip(&ids) {
            positions[id as usize] = position;
        }
        let count = u32::try_from(labels.pairs.len()).expect("pair ids are 32 bits");
        let pairs = (0..count).map(|id| {
            let pair = labels.pairs.get(id);
            (positions[pair.name as usize], positions[pair.value as usize])
        });
        (ids.iter().map(|&id| labels.symbols.get(id).into()).collect(), pairs.collect())
    }

    /// Copies series number `index` of the plan. The head may have been appended to since the plan was made, but not truncated.
    pub(crate) fn cut_series(&self, plan: &CutPlan, index: usize, into: &mut CutSeries) {
        let slot = plan.slots[index];
        let at = slot as usize;
        into.labels.clear();
        let ids = self.labels.pair_ids(slot);
        into.labels.extend(ids.iter().map(|&id| plan.pairs[id as usize]));
        into.chunks.clear();
        into.bytes.clear();
        let open = &self.open[at];
        if plan.min_time <= open.min_time() && open.min_time() < plan.max_time {
            self.copy_open(at, &mut into.bytes);
            let range = TimeRange::new(open.min_time(), self.last[at].t);
            into.chunks.push(CutChunk { range, bytes: 0..into.bytes.len() });
        }
        for chunk in self.chunks.chain(self.newest_closed(at)) {
            if chunk.range.min < plan.min_time {
                break;
            }
            if chunk.range.min < plan.max_time {
                let start = into.bytes.len();
                into.bytes.extend_from_slice(chunk.bytes);
                into.chunks.push(CutChunk { range: chunk.range, bytes: start..into.bytes.len() });
            }
        }
        into.chunks.reverse();
    }
}
