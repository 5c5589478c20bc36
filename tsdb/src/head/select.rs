//! Finding series in the head and copying out their samples.

use std::borrow::Cow;
use std::collections::HashMap;

use model::{QueryContext, QueryError, Sample, SeriesRef, TimeRange, Timestamp};

use super::Head;
use crate::postings::LabelIndex;
use chunkenc::HEADER_BYTES;

/// A series as a view sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadSeries {
    pub(crate) series: u64,
    /// Time of the newest sample in the view.
    pub(crate) last_t: Timestamp,
    /// Its value, unless newer samples have come since the view was opened.
    pub(crate) last_v: Option<f64>,
}

impl HeadSeries {
    pub(crate) fn series_ref(&self) -> SeriesRef {
        SeriesRef(self.series)
    }
}

/// Chunks copied out of the head.
#[derive(Debug, Default)]
pub(crate) struct CopiedChunks {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl CopiedChunks {
    /// The chunks in time order, each as it stands in a file.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        // Copied newest first.
        (0..self.ends.len()).rev().map(|i| {
            let start = i.checked_sub(1).map_or(0, |before| self.ends[before]);
            &self.bytes[start..self.ends[i]]
        })
    }

    fn end_chunk(&mut self) {
        self.ends.push(self.bytes.len());
    }
}

impl Head {
    /// The series in `slots` that have samples at or after `from` in view `epoch`, in order of creation.
    pub(crate) fn view(
        &self,
        slots: &[u32],
        from: Timestamp,
        epoch: u32,
        context: &QueryContext,
    ) -> Result<Vec<HeadSeries>, QueryError> {
        let undone = self.undone_since(epoch);
        let mut found = Vec::with_capacity(slots.len());
        for (i, &slot) in slots.iter().enumerate() {
            if i % 1024 == 0 {
                context.check()?;
            }
            let Some(Sample { t, v }) = self.last(slot) else { continue };
            let series = self.series_ref(slot);
            let (last_t, last_v) = match undone.get(&series) {
                Some(&before) => (before, None),
                None => (t, Some(v)),
            };
            // A series that is new since then had none.
            if last_t >= from && last_t > Timestamp::MIN {
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

    /// Copies the chunks of a series that overlap `range`.
    pub(crate) fn copy_chunks(&self, series: u64, range: TimeRange, into: &mut CopiedChunks) {
        into.bytes.clear();
        into.ends.clear();
        let Some(slot) = self.slot(series) else { return };
        let at = slot as usize;
        let open = &self.open[at];
        if open.count() == 0 {
            return;
        }
        if TimeRange::new(open.min_time(), self.last[at].t).overlaps(range) {
            self.copy_open(at, &mut into.bytes);
            into.end_chunk();
        }
        if open.min_time() <= range.min {
            return;
        }
        for chunk in self.chunks.chain(self.newest_closed(at)) {
            if chunk.range.max < range.min {
                break;
            }
            if chunk.range.min <= range.max {
                into.bytes.extend_from_slice(chunk.bytes);
                into.end_chunk();
            }
        }
    }

    /// Appends the open chunk of a series as it would stand in a file.
    pub(super) fn copy_open(&self, at: usize, into: &mut Vec<u8>) {
        let open = &self.open[at];
        let header: [u8; HEADER_BYTES] = open.count().to_be_bytes();
        into.extend_from_slice(&header);
        into.extend_from_slice(&self.buffers.get(open.buffer())[..open.payload_bytes()]);
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
        Ok(pair.map_or(Cow::Borrowed(&[]), |pair| {
            Cow::Borrowed(self.labels.pairs.get(pair).postings.as_slice())
        }))
    }

    fn matching(
        &self,
        name: &str,
        accept: &mut dyn FnMut(&str) -> bool,
        context: &QueryContext,
    ) -> Result<Vec<u32>, QueryError> {
        let mut slots = Vec::new();
        for (i, &pair) in self.labels.pairs_named(name).iter().enumerate() {
            if i % 1024 == 0 {
                context.check()?;
            }
            if accept(self.labels.pair(pair).1) {
                slots.extend_from_slice(self.labels.pairs.get(pair).postings.as_slice());
            }
        }
        slots.sort_unstable();
        Ok(slots)
    }
}
