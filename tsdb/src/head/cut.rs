//! Taking one block range out of the head, series by series, in the order in which a block has them.

use chunkenc::ChunkError;
use model::{QueryContext, QueryError, TimeRange, Timestamp};

use super::Head;
use super::out_of_order::LateSeries;
use super::series_chunks::{Horizon, SeriesChunks};
use super::starts::{may_start, start_of};
use crate::block::source::SourceSeries;
use crate::recode::{decode_samples, encode_samples};

/// Which samples are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Those that came in order.
    InOrder,
    /// Late ones that were set aside.
    Late,
    /// All late ones, which stay where they are.
    LateKept,
}

/// What a block of one range needs to know beforehand.
#[derive(Debug)]
pub(crate) struct CutPlan {
    /// First time in the block and first after it.
    pub(crate) min_time: Timestamp,
    pub(crate) max_time: Timestamp,
    /// The strings of all labels, sorted.
    pub(crate) symbols: Vec<Box<str>>,
    /// Series that may have samples in the range, sorted by labels.
    slots: Vec<u32>,
    what: Cut,
    /// By pair of the head, its name and value as positions in `symbols`.
    pairs: Vec<(u32, u32)>,
}

impl CutPlan {
    /// Number of series that may have samples in the block.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The times of the block, both ends inside.
    fn range(&self) -> TimeRange {
        TimeRange::new(self.min_time, self.max_time.saturating_sub(1))
    }
}

impl Head {
    /// Prepares to write the samples from `min_time` up to, but not including, `max_time`, of the series that `wants` by their refs. What came
    /// in order must end at block ranges.
    pub(crate) fn plan_cut(
        &self,
        min_time: Timestamp,
        max_time: Timestamp,
        what: Cut,
        wants: impl Fn(u64) -> bool,
    ) -> CutPlan {
        let range = TimeRange::new(min_time, max_time.saturating_sub(1));
        let all = 0..u32::try_from(self.len()).expect("slots are 32 bits");
        let wanted = |&slot: &u32| match what {
            Cut::InOrder => self.may_have_chunks_before(slot as usize, max_time),
            Cut::Late => {
                let late = self.late.frozen().get(&self.series_ref(slot));
                late.and_then(LateSeries::range).is_some_and(|late| late.overlaps(range))
            }
            Cut::LateKept => self.late.overlaps(self.series_ref(slot), range),
        };
        let mut slots: Vec<u32> =
            all.filter(wanted).filter(|&slot| wants(self.series_ref(slot))).collect();
        let ranks = self.pair_ranks();
        slots.sort_unstable_by(|&a, &b| {
            let ranks_of = |slot| self.labels.pair_ids(slot).iter().map(|&id| ranks[id as usize]);
            ranks_of(a).cmp(ranks_of(b))
        });
        let (symbols, pairs) = self.block_symbols(&slots);
        CutPlan { min_time, max_time, symbols, slots, pairs, what }
    }

    /// Whether a series may have chunks that begin before `max_time`: which ones full chunks are is written in their files, and looking
    /// there takes longer than finding a series to be empty later.
    fn may_have_chunks_before(&self, at: usize, max_time: Timestamp) -> bool {
        let open = &self.open[at];
        open.count() > 0 && (open.min_time() < max_time || !self.closed_chunks(at).is_empty())
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

    /// Collects series number `index` of the plan. The head may have been appended to since the plan was made, but not truncated.
    pub(crate) fn cut_series(
        &self,
        plan: &CutPlan,
        index: usize,
        labels: &mut Vec<(u32, u32)>,
        chunks: &mut SeriesChunks,
    ) {
        let slot = plan.slots[index];
        let ids = self.labels.pair_ids(slot);
        labels.extend(ids.iter().map(|&id| plan.pairs[id as usize]));
        let series = self.series_ref(slot);
        match plan.what {
            Cut::InOrder => {
                let range = plan.range();
                let horizon = Horizon { last_t: range.max, batch: 0, from: range.min };
                self.collect(series, range, horizon, chunks);
            }
            Cut::Late => self.collect_frozen(series, plan.range(), chunks),
            Cut::LateKept => {
                let range = plan.range();
                let nothing = Timestamp::MIN;
                let horizon = Horizon { last_t: nothing, batch: u64::MAX, from: Timestamp::MAX };
                self.collect(series, range, horizon, chunks);
            }
        }
    }
}

/// Reads the chunks that were collected for a plan into `into`, which has no others; the head is not needed for that.
pub(crate) fn load_chunks(
    plan: &CutPlan,
    source: &mut SeriesChunks,
    into: &mut SourceSeries,
) -> Result<(), QueryError> {
    load_samples(plan, source, into)?;
    let starts = source.starts();
    if !may_start(starts, plan.range()) {
        return Ok(());
    }
    let added = into.add_starts(|range| may_start(starts, range), |t| start_of(starts, t));
    added.map_err(|error| corrupt(&error))
}

fn corrupt(error: &ChunkError) -> QueryError {
    QueryError::Corrupt { path: String::from("head"), offset: 0, reason: error.to_string() }
}

/// Reads the chunks as the head has them, without start timestamps.
fn load_samples(
    plan: &CutPlan,
    source: &mut SeriesChunks,
    into: &mut SourceSeries,
) -> Result<(), QueryError> {
    let deleted = source.deleted().to_vec();
    let is_deleted = |t: Timestamp| deleted.iter().any(|span| span.contains(t));
    if plan.what != Cut::InOrder {
        let samples = source.late_samples(plan.range())?;
        let kept = samples.iter().filter(|(t, _)| !is_deleted(*t)).map(|(t, value)| (*t, value));
        encode_samples(kept, |range, encoding, chunk| {
            into.push_chunk(range, encoding, chunk);
        });
        return Ok(());
    }
    let (mut failed, wanted) = (None, plan.range());
    source.each_chunk(plan.range(), &QueryContext::unbounded(), |range, encoding, chunk| {
        let is_whole = wanted.min <= range.min && range.max <= wanted.max;
        if is_whole && !deleted.iter().any(|span| span.overlaps(range)) {
            return into.push_chunk(range, encoding, chunk);
        }
        match decode_samples(encoding, chunk) {
            Ok(samples) => {
                let is_kept = |t| wanted.contains(t) && !is_deleted(t);
                let kept = samples.iter().filter(|(t, _)| is_kept(*t));
                encode_samples(kept.map(|(t, value)| (*t, value)), |range, encoding, chunk| {
                    into.push_chunk(range, encoding, chunk);
                });
            }
            Err(error) => failed = Some(error),
        }
    })?;
    failed.map_or(Ok(()), |error| Err(corrupt(&error)))
}
