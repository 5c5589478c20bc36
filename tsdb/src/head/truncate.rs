//! Dropping what is in blocks, and series that have nothing left.

use std::collections::HashSet;

use model::Timestamp;

use super::append::OpenChunk;
use super::chunk_store::file_of;
use super::out_of_order::LateSeries;
use super::ref_table::RefTable;
use super::series_labels::SeriesLabels;
use super::{Head, lean::LeanPush};

/// Which series stay, and their label tables; made while the head can still be read.
#[derive(Debug)]
pub(crate) struct Truncation {
    before: Timestamp,
    /// Slots that stay, ascending.
    kept: Vec<u32>,
    /// `None` when all stay.
    labels: Option<SeriesLabels>,
}

/// A series that was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dropped {
    pub(crate) series: u64,
    /// Time of its last sample, `Timestamp::MIN` if it never had any.
    pub(crate) last_t: Timestamp,
}

impl Head {
    /// Prepares to drop the samples before `t`, which is the end of a block range, and the series that end before it.
    ///
    /// The label tables are rebuilt without the dropped series, which takes a while for a large head; nothing may be appended until
    /// [`truncate`](Self::truncate) is called, but queries may go on.
    pub(crate) fn plan_truncation(&self, before: Timestamp) -> Truncation {
        self.plan_truncation_without(before, &HashSet::new())
    }

    /// As [`plan_truncation`](Self::plan_truncation), without the series in `unwanted`, whatever they have.
    pub(crate) fn plan_truncation_without(
        &self,
        before: Timestamp,
        unwanted: &HashSet<u64>,
    ) -> Truncation {
        let slots = 0..u32::try_from(self.len()).expect("slots are 32 bits");
        let kept: Vec<u32> = slots
            .filter(|&slot| self.is_needed(slot, before))
            .filter(|&slot| unwanted.is_empty() || !unwanted.contains(&self.series_ref(slot)))
            .collect();
        let labels = (kept.len() < self.len()).then(|| self.labels.rebuilt(&kept));
        Truncation { before, kept, labels }
    }

    /// Whether a series has samples at or after `before`, or late ones.
    fn is_needed(&self, slot: u32, before: Timestamp) -> bool {
        self.last(slot).is_some_and(|last| last.t >= before)
            || self.late.contains(self.series_ref(slot))
    }

    /// Carries out a plan, made since the last append.
    pub(crate) fn truncate(&mut self, plan: Truncation) -> Vec<Dropped> {
        let Truncation { before, kept, labels } = plan;
        let first_file = self.chunks.first_file();
        self.chunks.drop_before(before, self.late.first_file());
        if self.chunks.first_file() > first_file {
            self.drop_gone_chunks();
        }
        let mut dropped = Vec::new();
        if let Some(labels) = labels {
            self.labels = labels;
            dropped = self.drop_all_but(&kept);
        }
        let slots = &self.slots;
        self.deletions.truncate(before, |series| slots.get(series).is_some());
        let late = &self.late;
        self.starts.truncate(|series| {
            let late = late.of(series).filter_map(LateSeries::range).map(|late| late.min);
            slots.get(series).map(|_| late.fold(before, Timestamp::min))
        });
        self.metadata.retain(|&series, _| slots.get(series).is_some());
        let open = self.open.iter().filter(|open| open.count() > 0).count();
        self.chunk_count = self.chunks.len() + open as u64;
        self.set_min_valid(before);
        dropped
    }

    /// Removes the chunks of files that are gone from all lists.
    fn drop_gone_chunks(&mut self) {
        let first_file = self.chunks.first_file();
        for list in &mut self.closed {
            *list = self.lists.drop_front(*list, |chunk| file_of(chunk) >= first_file);
        }
    }

    /// Empties a series, which stays: the log says that it left the head here, and may go on with it.
    pub(crate) fn empty_series(&mut self, slot: u32) {
        let at = slot as usize;
        self.forget_chunks(at);
        self.last[at] = super::NO_SAMPLE;
        self.open[at] = OpenChunk::NONE;
        self.closed[at] = super::ChunkList::EMPTY;
    }

    fn drop_all_but(&mut self, kept: &[u32]) -> Vec<Dropped> {
        let mut dropped = Vec::with_capacity(self.len() - kept.len());
        let mut staying = kept.iter().copied().peekable();
        for at in 0..self.len() {
            if staying.next_if(|&slot| slot as usize == at).is_some() {
                continue;
            }
            self.forget_chunks(at);
            dropped.push(Dropped { series: self.refs[at], last_t: self.last[at].t });
        }
        retain(&mut self.refs, kept);
        retain(&mut self.last, kept);
        retain(&mut self.open, kept);
        retain(&mut self.closed, kept);
        retain(&mut self.touched, kept);
        self.slots = RefTable::default();
        for (slot, &series) in (0..).zip(&self.refs) {
            self.slots.insert(series, slot);
        }
        dropped
    }

    /// Time of the earliest sample at or after `t`, which no chunk crosses.
    pub(crate) fn earliest_from(&self, t: Timestamp) -> Option<Timestamp> {
        let open = self.open.iter().filter(|open| open.count() > 0).map(OpenChunk::min_time);
        open.filter(|&min_time| min_time >= t).chain(self.chunks.min_time_after(t)).min()
    }
}

fn retain<T: Copy>(column: &mut Vec<T>, kept: &[u32]) {
    let mut retained = Vec::with_capacity(kept.len() + kept.len() / 8);
    for &slot in kept {
        retained.lean_push(column[slot as usize]);
    }
    *column = retained;
}

#[cfg(test)]
mod tests {
    use model::{Matcher, QueryContext, Sample};

    use super::*;
    use crate::postings;

    #[test]
    fn series_that_end_before_are_dropped_and_the_rest_stays() {
        let mut head = crate::testing::head(1000);
        for series in 1..=4_u64 {
            let name = format!("s{series}");
            let labels = [("__name__", name.as_str()), ("job", "j")];
            head.add_series(series, labels.into_iter()).unwrap();
        }
        for t in 0..1500 {
            head.append(1, t, 1.0, None);
            if t < 900 {
                head.append(0, t, 0.0, None);
            }
            head.append(3, t, 3.0, None);
        }
        let plan = head.plan_truncation(1000);
        let dropped = head.truncate(plan);
        let expected = [(1, 899), (3, Timestamp::MIN)];
        assert_eq!(dropped, expected.map(|(series, last_t)| Dropped { series, last_t }));
        assert_eq!((head.len(), head.next_ref()), (2, 5));
        assert_eq!(head.time_range().unwrap().min, 1000);
        assert_eq!((head.slot(1), head.slot(2), head.slot(4)), (None, Some(0), Some(1)));
        assert_eq!(head.last(1), Some(Sample { t: 1499, v: 3.0 }));
        assert_eq!(head.labels.labels(1).to_string(), r#"{__name__="s4", job="j"}"#);
        let slots =
            postings::select(&head, &[Matcher::equal("job", "j")], &QueryContext::unbounded());
        assert_eq!(slots.unwrap(), [0, 1]);
        assert_eq!(head.labels.find([("__name__", "s1"), ("job", "j")].into_iter()), None);
        // 500 samples at 1 ms: chunks are cut at 240.
        assert!(head.chunk_count() >= 4);
    }
}
