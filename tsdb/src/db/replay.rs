//! Filling the head from what the last run left: the write-ahead log, the log of late samples, and full chunks where a log is damaged.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use chunkenc::{Encoding, decode};
use model::{Columns, QueryContext, TimeRange, Timestamp};

use super::append::is_valid_histogram;
use super::open::{OpenError, failed};
use crate::bytes::DecodeError;
use crate::disk::Disk;
use crate::head::Head;
use crate::head::chunk_store::{self, HeadChunk};
use crate::head::out_of_order::LateSample;
use crate::head::series_chunks::{Horizon, SeriesChunks};
use crate::metrics::Metrics;
use crate::options::Options;
use crate::recode::{SampleValue, decode_samples};
use crate::wal::record::histograms::{self, RefHistogram};
use crate::wal::record::{self, Kind, RecordSamples, RefSample};
use crate::wal::replay::{Damage, read_segment_from, repair_segment};
use crate::wal::{Mark, WalError, checkpoint, segments};

/// How far a replay is, in segments of the write-ahead log.
#[derive(Debug, Default)]
pub struct ReplayProgress {
    first: AtomicU32,
    last: AtomicU32,
    current: AtomicU32,
}

impl ReplayProgress {
    /// A replay that has not begun.
    #[must_use]
    pub const fn new() -> Self {
        Self { first: AtomicU32::new(0), last: AtomicU32::new(0), current: AtomicU32::new(0) }
    }

    /// The first segment, the last and the one being read.
    #[must_use]
    pub fn get(&self) -> (u32, u32, u32) {
        let get = |number: &AtomicU32| number.load(Ordering::Relaxed);
        (get(&self.first), get(&self.last), get(&self.current))
    }

    fn begin(&self, first: u32, last: u32) {
        self.first.store(first, Ordering::Relaxed);
        self.last.store(last, Ordering::Relaxed);
        self.current.store(first, Ordering::Relaxed);
    }

    fn at(&self, current: u32) {
        self.current.store(current, Ordering::Relaxed);
    }
}

/// Fills the head.
pub(super) struct Replay<'a> {
    pub(super) head: &'a mut Head,
    pub(super) metrics: &'a Metrics,
    pub(super) options: &'a Options,
    pub(super) disk: &'a dyn Disk,
    pub(super) progress: &'a ReplayProgress,
    /// Whether damage may be repaired and leftovers removed.
    pub(super) may_write: bool,
    /// Refs that were logged for a series that has another, and that one.
    pub(super) aliases: HashMap<u64, u64>,
    /// Segments of the log that need not be read, since a snapshot has what is in them; the newest of them in part.
    pub(super) unread_segments: Vec<u32>,
    /// Histograms of the last record, if they may belong together with those of the next.
    pub(super) held: Held,
    /// Samples that only full chunks have.
    pub(super) supplemented: Vec<Supplemented>,
    pub(super) counts: Counts,
}

/// Histograms that have been read, but are not in the head yet.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Number of their record.
    number: u8,
    histograms: Vec<RefHistogram>,
}

/// A sample that the log has lost.
#[derive(Debug)]
pub(super) struct Supplemented {
    pub(super) series: u64,
    pub(super) t: Timestamp,
    /// Its start timestamp; 0 if unknown.
    pub(super) start: Timestamp,
    pub(super) value: SampleValue,
}

/// What a replay came across.
#[derive(Debug, Default)]
pub(super) struct Counts {
    samples: u64,
    late: u64,
    unknown_series: u64,
    unknown_records: u64,
    unknown_histograms: u64,
    /// Damaged places.
    pub(super) damages: u64,
}

impl Replay<'_> {
    /// Replays the write-ahead log in `dir`, from `mark` on if a snapshot holds what is before; the number of the next segment.
    pub(super) fn wal(&mut self, dir: &Path, mark: Option<Mark>) -> Result<u32, OpenError> {
        let listing = segments::list(self.disk, dir).map_err(failed(dir))?;
        self.remove_leftovers(&listing)?;
        let mut next_segment = 0;
        if let Some((last, checkpoint)) = listing.checkpoints.last() {
            next_segment = last.saturating_add(1);
            if mark.is_none() {
                let inner = segments::list(self.disk, checkpoint).map_err(failed(checkpoint))?;
                for (_, path) in &inner.segments {
                    self.segment(path, 0)?;
                }
            }
            if self.may_write {
                // Its segments may still be there if the process ended before they were removed.
                checkpoint::remove_replaced(self.disk, dir, *last).map_err(failed(dir))?;
            }
        }
        let first = next_segment.max(mark.map_or(0, |mark| mark.segment));
        let last = listing.segments.last().map_or(first, |(number, _)| *number);
        if mark.is_some() {
            let unread = listing.segments.iter().map(|(number, _)| *number);
            self.unread_segments = unread.filter(|number| *number <= first).collect();
        }
        self.progress.begin(first.min(last), last);
        next_segment = first;
        for (number, path) in listing.segments.iter().filter(|(number, _)| *number >= first) {
            if *number != next_segment && next_segment > 0 {
                tracing::warn!(segment = %path.display(), "the log lacks the segments before this");
                self.counts.damages += 1;
            }
            self.progress.at(*number);
            let from = mark.filter(|mark| mark.segment == *number).map_or(0, |mark| mark.position);
            self.segment(path, from)?;
            next_segment = number.saturating_add(1);
        }
        self.append_held();
        Ok(next_segment)
    }

    fn remove_leftovers(&self, listing: &segments::Listing) -> Result<(), OpenError> {
        if !self.may_write {
            return Ok(());
        }
        for (path, is_dir) in &listing.leftovers {
            let removed =
                if *is_dir { self.disk.remove_dir_all(path) } else { self.disk.remove_file(path) };
            removed.map_err(failed(path))?;
        }
        Ok(())
    }

    /// Replays the log of late samples in `dir`; the number of the next segment.
    pub(super) fn wbl(&mut self, dir: &Path) -> Result<u32, OpenError> {
        let listing = match segments::list(self.disk, dir) {
            Ok(listing) => listing,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(failed(dir)(error)),
        };
        self.remove_leftovers(&listing)?;
        for (_, path) in &listing.segments {
            self.late_segment(path)?;
        }
        Ok(listing.segments.last().map_or(0, |(number, _)| number.saturating_add(1)))
    }

    /// Says what was replayed.
    pub(super) fn summarize(&self) {
        let counts = &self.counts;
        self.metrics.records_skipped.inc_by(counts.unknown_records + counts.unknown_histograms);
        if counts.unknown_series > 0 {
            tracing::warn!(
                samples = counts.unknown_series,
                "the log has samples of series that it does not have"
            );
        }
        if counts.unknown_records > 0 {
            tracing::warn!(
                records = counts.unknown_records,
                "the log has records of kinds that this version does not know"
            );
        }
        if counts.unknown_histograms > 0 {
            tracing::warn!(
                histograms = counts.unknown_histograms,
                "the log has histograms of schemas that this version does not know"
            );
        }
        tracing::info!(
            series = self.head.len(),
            samples = counts.samples,
            late_samples = counts.late,
            "write-ahead log replayed"
        );
    }

    fn segment(&mut self, path: &Path, from: u64) -> Result<(), WalError> {
        let mut samples = RecordSamples::default();
        let disk = self.disk;
        let damage = read_segment_from(disk, path, from, |record| match record::kind(record) {
            Kind::Series => record::read_series(record, |series, pairs| self.series(series, pairs)),
            Kind::Samples => {
                record::read_samples(record, &mut samples)?;
                self.append_held();
                self.append_samples(&samples);
                Ok(())
            }
            Kind::Histograms => self.histograms(record),
            _ => {
                self.append_held();
                self.other(record)
            }
        })?;
        self.settle(path, &damage)
    }

    fn settle(&mut self, path: &Path, damage: &Damage) -> Result<(), WalError> {
        self.report(path, damage);
        if self.may_write {
            repair_segment(self.disk, path, damage, self.options.wal_compression)?;
        }
        Ok(())
    }

    fn report(&mut self, path: &Path, damage: &Damage) {
        for lost in &damage.lost {
            tracing::warn!(
                segment = %path.display(), offset = lost.offset, bytes = lost.bytes,
                reason = %lost.reason, "damage in the write-ahead log, these bytes are lost"
            );
            self.metrics.wal_corruptions.inc();
            self.metrics.wal_bytes_lost.inc_by(lost.bytes);
            self.counts.damages += 1;
        }
    }

    fn series(&mut self, series: u64, pairs: &[(&str, &str)]) {
        self.head.reserve_ref(series);
        if pairs.is_empty() || self.head.slot(series).is_some() {
            return;
        }
        match self.head.labels.find(pairs.iter().copied()) {
            // Logged twice: a Prometheus drops a series from memory and creates it anew under another ref.
            Some(slot) => {
                self.aliases.insert(series, self.head.series_ref(slot));
            }
            None => {
                if self.head.add_series(series, pairs.iter().copied()).is_none() {
                    tracing::error!(series, "no room for a series of the log");
                }
            }
        }
    }

    /// The ref under which a series is in the head, and its slot.
    #[inline]
    fn find(&mut self, series: u64) -> Option<(u64, u32)> {
        // Even a ref whose series is lost must not be given to another.
        self.head.reserve_ref(series);
        let series = if self.aliases.is_empty() {
            series
        } else {
            self.aliases.get(&series).copied().unwrap_or(series)
        };
        let slot = self.head.slot(series);
        if slot.is_none() {
            self.counts.unknown_series += 1;
        }
        Some((series, slot?))
    }

    fn append_samples(&mut self, samples: &RecordSamples) {
        for (RefSample { series, t, v }, start) in samples.iter() {
            let Some((series, slot)) = self.find(series) else { continue };
            if t >= self.head.min_valid() && self.head.last(slot).is_none_or(|last| t > last.t) {
                self.head.append(slot, t, v, None);
                self.head.starts.note(series, t, start);
                self.counts.samples += 1;
            }
        }
    }

    /// Takes a record of histograms. With those of the record before, if they belong together, they are brought into order: a series may have
    /// had both kinds in turn.
    fn histograms(&mut self, record: &[u8]) -> Result<(), DecodeError> {
        let number = record.first().copied().unwrap_or_default();
        let belongs = histograms::may_belong_together(self.held.number, number);
        if !belongs {
            self.append_held();
        }
        let mut held = std::mem::take(&mut self.held);
        held.number = number;
        let unknown = histograms::read(record, |histogram| held.histograms.push(histogram));
        if belongs {
            held.histograms.sort_by_key(|histogram| (histogram.series, histogram.t));
        }
        self.held = held;
        self.counts.unknown_histograms += unknown?;
        Ok(())
    }

    /// Puts what is held into the head.
    fn append_held(&mut self) {
        if self.held.number == 0 {
            return;
        }
        let held = std::mem::take(&mut self.held);
        for RefHistogram { series, t, start, histogram } in held.histograms {
            let Some((series, slot)) = self.find(series) else { continue };
            let is_next = self.head.last(slot).is_none_or(|last| t > last.t);
            if t >= self.head.min_valid() && is_next && is_valid_histogram(&histogram).is_ok() {
                self.head.append_histogram(slot, t, &histogram, None);
                self.head.starts.note(series, t, start);
                self.counts.samples += 1;
            }
        }
    }

    fn other(&mut self, record: &[u8]) -> Result<(), DecodeError> {
        match record::kind(record) {
            Kind::Tombstones => {
                for deleted in record::read_deleted(record)? {
                    if deleted.is_of_all_times() {
                        if let Some((_, slot)) = self.find(deleted.series) {
                            self.head.empty_series(slot);
                        }
                    } else if deleted.max >= self.head.min_valid()
                        && let Some((series, _)) = self.find(deleted.series)
                    {
                        let span = TimeRange::new(deleted.min, deleted.max);
                        self.head.deletions.add(series, span);
                    }
                }
            }
            Kind::Exemplars => {
                for (series, exemplar) in record::read_exemplars(record)? {
                    if exemplar.t >= self.head.min_valid()
                        && let Some((series, slot)) = self.find(series)
                        && self.head.exemplars.check(series, &exemplar, 0) == Ok(true)
                    {
                        let labels = &self.head.labels;
                        self.head.exemplars.add(series, || labels.labels(slot), exemplar);
                    }
                }
            }
            Kind::Metadata => {
                for (series, metadata) in record::read_metadata(record)? {
                    if let Some((series, _)) = self.find(series) {
                        self.head.metadata.insert(series, metadata);
                    }
                }
            }
            Kind::MmapMarkers => {}
            _ => self.counts.unknown_records += 1,
        }
        Ok(())
    }

    fn late_segment(&mut self, path: &Path) -> Result<(), WalError> {
        let mut samples = RecordSamples::default();
        let disk = self.disk;
        let damage = read_segment_from(disk, path, 0, |record| match record::kind(record) {
            Kind::Samples => {
                record::read_samples(record, &mut samples)?;
                for (RefSample { series, t, v }, start) in samples.iter() {
                    self.late(series, t, start, SampleValue::Float(v));
                }
                Ok(())
            }
            Kind::Histograms => {
                self.counts.unknown_histograms +=
                    histograms::read(record, |RefHistogram { series, t, start, histogram }| {
                        if is_valid_histogram(&histogram).is_ok() {
                            self.late(series, t, start, SampleValue::Histogram(histogram));
                        }
                    })?;
                Ok(())
            }
            // Which chunks were written out does not matter: the log has their samples.
            Kind::MmapMarkers => Ok(()),
            _ => {
                self.counts.unknown_records += 1;
                Ok(())
            }
        })?;
        self.settle(path, &damage)
    }

    fn late(&mut self, series: u64, t: Timestamp, start: Timestamp, value: SampleValue) {
        if let Some((series, _)) = self.find(series)
            && self.head.late.insert(series, LateSample { t, value, batch: 0 })
        {
            self.head.starts.note_late(series, t, start);
            self.counts.late += 1;
        }
    }

    /// Adds samples that full chunks have and a damaged log lost.
    pub(super) fn supplement(&mut self, files: &[(u32, PathBuf)]) -> Result<(), OpenError> {
        for (_, path) in files {
            let read = chunk_store::read_file(self.disk, path, |_, chunk| self.chunk(&chunk));
            if let Some((offset, reason)) = read.map_err(failed(path))? {
                tracing::warn!(path = %path.display(), offset, reason, "damage in head chunks");
            }
        }
        let added = self.supplemented.len();
        if added > 0 {
            tracing::info!(samples = added, "samples that the log lost were found in head chunks");
        }
        Ok(())
    }

    /// Adds the samples of a chunk that the head lacks.
    fn chunk(&mut self, chunk: &HeadChunk<'_>) {
        let Some((series, slot)) = self.find(chunk.series) else { return };
        let Ok(encoding) = Encoding::from_number(chunk.encoding) else { return };
        let mut there = Columns::new();
        let horizon = Horizon { last_t: Timestamp::MAX, batch: u64::MAX, from: Timestamp::MIN };
        let mut source = SeriesChunks::default();
        self.head.collect(series, chunk.range, horizon, &mut source);
        let context = QueryContext::unbounded();
        if source.read(chunk.range, horizon, &mut there, &context).is_err() {
            return;
        }
        // A Prometheus may have chunks with start timestamps.
        let mut with_starts = Columns::new();
        if decode(encoding, chunk.bytes, TimeRange::ALL, &mut with_starts).is_err() {
            return;
        }
        let samples = decode_samples(encoding, chunk.bytes).unwrap_or_default();
        for (row, (t, value)) in samples.into_iter().enumerate() {
            let is_new = there.times().binary_search(&t).is_err();
            if !is_new || (t < self.head.min_valid() && !chunk.is_out_of_order) {
                continue;
            }
            let last = self.head.last(slot).map_or(Timestamp::MIN, |last| last.t);
            let start = with_starts.start(row);
            self.supplemented.push(Supplemented { series, t, start, value: value.clone() });
            match value {
                SampleValue::Float(v) if t > last => self.head.append(slot, t, v, None),
                SampleValue::Histogram(histogram) if t > last => {
                    self.head.append_histogram(slot, t, &histogram, None);
                }
                value => {
                    self.head.late.insert(series, LateSample { t, value, batch: 0 });
                }
            }
            self.head.starts.note_late(series, t, start);
        }
    }
}
