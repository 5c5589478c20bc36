//! Finding series in the head and copying out their samples.

use std::borrow::Cow;
use std::collections::HashMap;

use model::{QueryContext, QueryError, Sample, SeriesRef, TimeRange, Timestamp};

use super::{Head, NO_SAMPLE};
use crate::postings::LabelIndex;

/// A series as a view sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadSeries {
    pub(crate) series: u64,
    /// Time of the newest sample in the view.
    pub(crate) last_t: Timestamp,
    /// Its value, unless it is a histogram or deleted, newer samples have come since the view was opened, or late ones may matter.
    pub(crate) last_v: Option<f64>,
}

impl HeadSeries {
    pub(crate) fn series_ref(&self) -> SeriesRef {
        SeriesRef(self.series)
    }
}

impl Head {
    /// The series in `slots` that have samples at or after `from` in view `epoch`, or late ones in `range`, in order of creation.
    pub(crate) fn view(
        &self,
        slots: &[u32],
        from: Timestamp,
        range: TimeRange,
        epoch: u32,
        context: &QueryContext,
    ) -> Result<Vec<HeadSeries>, QueryError> {
        let undone = self.undone_since(epoch);
        let has_late = !self.late.is_empty();
        let mut found = Vec::with_capacity(slots.len());
        for (i, &slot) in slots.iter().enumerate() {
            if i % 1024 == 0 {
                context.check()?;
            }
            let series = self.series_ref(slot);
            let is_late = has_late && self.late.overlaps(series, range);
            let last = self.last(slot);
            if last.is_none() && !is_late {
                continue;
            }
            let Sample { t, v } = last.unwrap_or(NO_SAMPLE);
            let is_plain = !is_late
                && !self.is_histogram(slot)
                && !self.deletions.of(series).iter().any(|span| span.contains(t));
            let (last_t, last_v) = match undone.get(&series) {
                Some(&before) => (before, None),
                None => (t, is_plain.then_some(v)),
            };
            // A series that is new since then had none.
            if is_late || (last_t >= from && last_t > Timestamp::MIN) {
                found.push(HeadSeries { series, last_t, last_v });
            }
        }
        Ok(found)
    }

    /// How far the series that were appended to since view `epoch` was opened reached before.
    fn undone_since(&self, epoch: u32) -> HashMap<u64, Timestamp, foldhash::fast::RandomState> {
        let mut undone = HashMap::default();
        // The first entry of a series counts: it is the oldest.
        for undo in self.undo.iter().filter(|undo| undo.epoch >= epoch) {
            undone.entry(undo.series).or_insert(undo.last_t);
        }
        undone
    }

    /// Forgets what no open view needs.
    pub(crate) fn trim_undo(&mut self, oldest_view: Option<u32>) {
        match oldest_view {
            None => self.undo.clear(),
            Some(oldest) => {
                while self.undo.front().is_some_and(|undo| undo.epoch < oldest) {
                    self.undo.pop_front();
                }
            }
        }
    }
}

impl LabelIndex for Head {
    fn all(&self) -> Result<Vec<u32>, QueryError> {
        Ok((0..u32::try_from(self.len()).unwrap_or(u32::MAX)).collect())
    }

    fn equal(&self, name: &str, value: &str) -> Result<Cow<'_, [u32]>, QueryError> {
        let symbols = &self.labels.symbols;
        let pair = symbols.find(name).zip(symbols.find(value));
        let pair = pair.and_then(|(name, value)| self.labels.pairs.find(name, value));
        Ok(pair.map_or(Cow::Borrowed(&[]), |pair| Cow::Borrowed(self.labels.pairs.series(pair))))
    }

    fn matching(
        &self,
        name: &str,
        _prefix: &str,
        accept: &mut dyn FnMut(&str) -> bool,
        context: &QueryContext,
    ) -> Result<Vec<u32>, QueryError> {
        let mut slots = Vec::new();
        for (i, &pair) in self.labels.pairs_named(name).iter().enumerate() {
            if i % 1024 == 0 {
                context.check()?;
            }
            if accept(self.labels.pair(pair).1) {
                slots.extend_from_slice(self.labels.pairs.series(pair));
            }
        }
        // Each pair brings ascending ones, and the stable sort merges what is ascending.
        slots.sort();
        Ok(slots)
    }
}
