//! Appending a batch: check, log, apply.
//!
//! Whatever can be refused is refused before anything is logged; what is logged is applied. Only samples of one series within one batch are compared
//! with each other at the end: the log may then have one that the head refuses, and replaying it comes to the same verdict.

mod admission;
mod check;

use std::collections::HashMap;
use std::hint::black_box;

use model::{
    AppendError, Appended, Appender, Batch, Exemplar, HistogramValue, Labels, Rejected, Rejection,
    SeriesKey, SeriesRef, Timestamp,
};

use super::Db;
use crate::Fsync;
use crate::head::Head;
use crate::head::out_of_order::LateSample;
use crate::recode::SampleValue;
use crate::wal::record::{self, RefSample, histograms};
use crate::wal::{Mark, Wal, WalError};
use admission::Admission;
use check::{Bounds, Verdict, check_float, check_histogram};

pub(super) use check::is_valid_histogram;

/// The logs, and what appending needs again and again.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) wal: Wal,
    /// The log of late samples.
    pub(super) wbl: Wal,
    closed: bool,
    series_record: Vec<u8>,
    samples_record: Vec<u8>,
    exemplars_record: Vec<u8>,
    metadata_record: Vec<u8>,
    histogram_records: Vec<Vec<u8>>,
    late_record: Vec<u8>,
    late_histogram_records: Vec<Vec<u8>>,
    staged: Vec<Staged>,
    histograms: Vec<StagedHistogram>,
    late: Vec<Late>,
}

/// A sample that passed the checks that need no knowledge of the rest of its batch.
#[derive(Clone, Copy, Debug)]
struct Staged {
    /// Position in the batch.
    index: usize,
    /// Where the series is in the head; [`PENDING`] if the batch creates it.
    slot: u32,
    sample: RefSample,
}

/// As [`Staged`].
#[derive(Clone, Debug)]
struct StagedHistogram {
    index: usize,
    slot: u32,
    series: u64,
    t: Timestamp,
    histogram: HistogramValue,
}

/// A sample that came late, within the window.
#[derive(Clone, Debug)]
struct Late {
    series: u64,
    t: Timestamp,
    value: SampleValue,
}

/// Samples whose series are fetched from memory together: as many misses as a core can wait for at a time.
const TOUCHED_AHEAD: usize = 16;

/// The slot of a series that is not in the head yet.
const PENDING: u32 = u32::MAX;

impl Writer {
    pub(super) fn new(wal: Wal, wbl: Wal) -> Self {
        Self {
            wal,
            wbl,
            closed: false,
            series_record: Vec::new(),
            samples_record: Vec::new(),
            exemplars_record: Vec::new(),
            metadata_record: Vec::new(),
            histogram_records: Vec::new(),
            late_record: Vec::new(),
            late_histogram_records: Vec::new(),
            staged: Vec::new(),
            histograms: Vec::new(),
            late: Vec::new(),
        }
    }

    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    fn clear(&mut self) {
        self.staged.clear();
        self.histograms.clear();
        self.late.clear();
    }
}

/// The new series of a batch that do not exist yet, with the refs they will get.
#[derive(Debug, Default)]
struct Creations<'b> {
    series: Vec<(u64, &'b Labels)>,
    by_labels: HashMap<&'b Labels, u64, foldhash::fast::RandomState>,
    refused: u64,
}

/// What of a batch is neither a sample nor a series.
#[derive(Debug, Default)]
struct Extras<'b> {
    exemplars: Vec<(u64, &'b Exemplar)>,
    metadata: Vec<(u64, &'b model::Metadata)>,
}

impl Appender for Db {
    fn append(&self, batch: &Batch) -> Result<Appended, AppendError> {
        if self.is_read_only() {
            return Err(AppendError::Unavailable(String::from("it is open for reading alone")));
        }
        let mut writer = self.writer.lock();
        if writer.closed {
            return Err(AppendError::Unavailable(String::from("it is closed")));
        }
        let writer = &mut *writer;
        writer.clear();
        let mut appended = Appended::default();
        let (creations, extras) = {
            let head = self.head.read();
            let bounds = Bounds::of(&head, self.late_window());
            let creations = self.find_or_create(&head, batch, &mut appended.new_refs);
            let mut staging = Staging { head: &head, bounds, batch, appended: &mut appended };
            staging.floats(writer);
            staging.histograms(writer);
            let extras = staging.extras(self.late_window());
            (creations, extras)
        };
        self.log(writer, &creations, &extras)?;
        let stored = self.apply(writer, &creations, &extras, &mut appended);
        appended.rejected.sort_unstable_by_key(|rejected| rejected.index);
        appended.rejected_histograms.sort_unstable_by_key(|rejected| rejected.index);
        self.count(stored, &appended, &creations);
        Ok(appended)
    }
}

impl Db {
    /// Finds the batch's series by their labels, or plans to create them; one ref for each goes to `refs`.
    fn find_or_create<'b>(
        &self,
        head: &Head,
        batch: &'b Batch,
        refs: &mut Vec<SeriesRef>,
    ) -> Creations<'b> {
        let mut creations = Creations::default();
        if batch.new_series.is_empty() {
            return creations;
        }
        let bytes: usize = batch.new_series.iter().map(Labels::packed_bytes).sum();
        let admission = Admission::new(head, &self.options, bytes);
        for labels in &batch.new_series {
            let pairs = labels.iter().map(|label| (label.name, label.value));
            let series = if labels.is_empty() {
                0
            } else if let Some(slot) = head.labels.find(pairs) {
                head.series_ref(slot)
            } else if let Some(&planned) = creations.by_labels.get(labels) {
                planned
            } else if admission.admits(creations.series.len(), labels) {
                let series = head.next_ref() + creations.series.len() as u64;
                creations.series.push((series, labels));
                creations.by_labels.insert(labels, series);
                series
            } else {
                creations.refused += 1;
                0
            };
            refs.push(SeriesRef(series));
        }
        creations
    }
}

/// Sorts out what can be refused, or is there already, by looking at the head alone.
struct Staging<'a, 'b> {
    head: &'a Head,
    bounds: Bounds,
    batch: &'b Batch,
    appended: &'a mut Appended,
}

impl<'b> Staging<'_, 'b> {
    /// The series that a key names, and its slot.
    #[inline]
    fn place(&self, key: SeriesKey) -> Result<(u64, u32), Rejection> {
        match key {
            SeriesKey::Known(SeriesRef(series)) => {
                let slot = self.head.slot(series);
                slot.map(|slot| (series, slot)).ok_or(Rejection::UnknownSeries)
            }
            SeriesKey::New(position) => {
                let series = self.appended.new_refs.get(position as usize);
                match series.map_or(0, |series| series.0) {
                    0 => Err(self.refusal(position)),
                    series => Ok((series, self.head.slot(series).unwrap_or(PENDING))),
                }
            }
        }
    }

    /// Why the new series at `position` got no ref.
    fn refusal(&self, position: u32) -> Rejection {
        match self.batch.new_series.get(position as usize) {
            Some(labels) if labels.is_empty() => Rejection::InvalidLabels,
            Some(_) => Rejection::SeriesLimit,
            None => Rejection::UnknownSeries,
        }
    }

    fn floats(&mut self, writer: &mut Writer) {
        for (index, float) in self.batch.floats.iter().enumerate() {
            let verdict = self.place(float.series).and_then(|(series, slot)| {
                let verdict = match slot {
                    PENDING => self.bounds.check(None, float.t, || false),
                    slot => check_float(self.head, slot, self.bounds, float.t, float.v),
                };
                verdict.map(|verdict| (series, slot, verdict))
            });
            match verdict {
                Ok((series, slot, Verdict::InOrder)) => {
                    let sample = RefSample { series, t: float.t, v: float.v };
                    writer.staged.push(Staged { index, slot, sample });
                }
                Ok((series, _, Verdict::Late)) => {
                    let value = SampleValue::Float(float.v);
                    writer.late.push(Late { series, t: float.t, value });
                }
                Ok((_, _, Verdict::Same)) => {}
                Err(reason) => self.appended.rejected.push(Rejected { index, reason }),
            }
        }
    }

    fn histograms(&mut self, writer: &mut Writer) {
        for (index, append) in self.batch.histograms.iter().enumerate() {
            let (t, histogram) = (append.t, &append.histogram);
            let verdict = self.place(append.series).and_then(|(series, slot)| {
                is_valid_histogram(histogram)?;
                let verdict = match slot {
                    PENDING => self.bounds.check(None, t, || false),
                    slot => check_histogram(self.head, slot, self.bounds, t, histogram),
                };
                verdict.map(|verdict| (series, slot, verdict))
            });
            match verdict {
                Ok((series, slot, Verdict::InOrder)) => {
                    let histogram = histogram.clone();
                    writer.histograms.push(StagedHistogram { index, slot, series, t, histogram });
                }
                Ok((series, _, Verdict::Late)) => {
                    let value = SampleValue::Histogram(histogram.clone());
                    writer.late.push(Late { series, t, value });
                }
                Ok((_, _, Verdict::Same)) => {}
                Err(reason) => self.appended.rejected_histograms.push(Rejected { index, reason }),
            }
        }
    }

    fn extras(&mut self, window: i64) -> Extras<'b> {
        let mut extras = Extras::default();
        for (index, append) in self.batch.exemplars.iter().enumerate() {
            let exemplar = &append.exemplar;
            let verdict = self.place(append.series).and_then(|(series, _)| {
                let is_new = self.head.exemplars.check(series, exemplar, window)?;
                Ok(is_new.then_some((series, exemplar)))
            });
            match verdict {
                Ok(exemplar) => extras.exemplars.extend(exemplar),
                Err(reason) => self.appended.rejected_exemplars.push(Rejected { index, reason }),
            }
        }
        for append in &self.batch.metadata {
            if let Ok((series, _)) = self.place(append.series)
                && self.head.metadata.get(&series) != Some(&append.metadata)
            {
                extras.metadata.push((series, &append.metadata));
            }
        }
        extras
    }
}

impl Writer {
    fn encode(&mut self, creations: &Creations<'_>, extras: &Extras<'_>) {
        self.series_record.clear();
        for (series, labels) in &creations.series {
            record::put_series(&mut self.series_record, *series, labels);
        }
        self.samples_record.clear();
        let samples = self.staged.iter().map(|staged| staged.sample);
        record::put_samples(&mut self.samples_record, samples);
        self.exemplars_record.clear();
        record::put_exemplars(&mut self.exemplars_record, extras.exemplars.iter().copied());
        self.metadata_record.clear();
        for (series, metadata) in &extras.metadata {
            record::put_metadata(&mut self.metadata_record, *series, metadata);
        }
        self.histogram_records.clear();
        if !self.histograms.is_empty() {
            let staged = self.histograms.iter();
            let staged = staged.map(|staged| (staged.series, staged.t, &staged.histogram));
            histograms::put(&mut self.histogram_records, staged);
        }
    }

    fn encode_late(&mut self) {
        self.late_record.clear();
        let floats = self.late.iter().filter_map(|late| match late.value {
            SampleValue::Float(v) => Some(RefSample { series: late.series, t: late.t, v }),
            SampleValue::Histogram(_) => None,
        });
        record::put_samples(&mut self.late_record, floats);
        let of_histograms = self.late.iter().filter_map(|late| match &late.value {
            SampleValue::Float(_) => None,
            SampleValue::Histogram(histogram) => Some((late.series, late.t, histogram)),
        });
        histograms::put(&mut self.late_histogram_records, of_histograms);
    }

    /// Writes the records of the batch; the place in the log where they begin.
    fn write(&mut self) -> Result<Mark, WalError> {
        let mut records: Vec<&[u8]> =
            vec![&self.series_record, &self.metadata_record, &self.samples_record];
        records.extend(self.histogram_records.iter().map(Vec::as_slice));
        records.push(&self.exemplars_record);
        self.wal.append(&records)
    }

    fn write_late(&mut self) -> Result<Mark, WalError> {
        let mut records: Vec<&[u8]> = vec![&self.late_record];
        records.extend(self.late_histogram_records.iter().map(Vec::as_slice));
        self.wbl.append(&records)
    }
}

impl Db {
    /// Writes the batch to the logs: all of it or, on an error, nothing.
    fn log(
        &self,
        writer: &mut Writer,
        creations: &Creations<'_>,
        extras: &Extras<'_>,
    ) -> Result<(), AppendError> {
        let failed = |error: WalError| {
            self.metrics.wal_writes_failed.inc();
            AppendError::Io { path: error.path, source: error.source }
        };
        writer.encode(creations, extras);
        // First the series, then late samples of theirs: the other way round, a power cut could give these to another series.
        let mark = writer.write().map_err(failed)?;
        self.metrics.wal_segment.set(i64::from(writer.wal.segment_number()));
        let mut late_mark = None;
        if !writer.late.is_empty() {
            writer.encode_late();
            match writer.write_late() {
                Ok(mark) => late_mark = Some(mark),
                Err(error) => {
                    writer.wal.undo(mark);
                    return Err(failed(error));
                }
            }
        }
        if self.options.wal_fsync == Fsync::Always
            && let Err(error) = self.sync_now(writer)
        {
            writer.wal.undo(mark);
            if let Some(mark) = late_mark {
                writer.wbl.undo(mark);
            }
            return Err(AppendError::Io { path: error.path, source: error.source });
        }
        Ok(())
    }

    /// Changes the head; how many samples it took.
    fn apply(
        &self,
        writer: &mut Writer,
        creations: &Creations<'_>,
        extras: &Extras<'_>,
        appended: &mut Appended,
    ) -> Stored {
        let mut head = self.head.write();
        let head = &mut *head;
        for (series, labels) in &creations.series {
            let pairs = labels.iter().map(|label| (label.name, label.value));
            if head.add_series(*series, pairs).is_some() {
                appended.series_created += 1;
            }
        }
        let epoch = self.views.newest();
        let batch = head.next_batch();
        let mut stored = Stored::default();
        for (i, &Staged { index, slot, sample }) in writer.staged.iter().enumerate() {
            if i % TOUCHED_AHEAD == 0 {
                let ahead = writer.staged.iter().skip(i).take(TOUCHED_AHEAD);
                let ahead = ahead.filter(|staged| staged.slot != PENDING);
                black_box(ahead.fold(0, |sum, staged| sum ^ head.touch(staged.slot)));
            }
            let RefSample { series, t, v } = sample;
            let slot = if slot == PENDING { head.slot(series) } else { Some(slot) };
            let verdict = slot.ok_or(Rejection::SeriesLimit).and_then(|slot| {
                let verdict = check_float(head, slot, Bounds::NONE, t, v)?;
                if verdict == Verdict::InOrder {
                    head.append(slot, t, v, epoch);
                    stored.floats += 1;
                }
                Ok(())
            });
            if let Err(reason) = verdict {
                appended.rejected.push(Rejected { index, reason });
            }
        }
        for staged in writer.histograms.drain(..) {
            let StagedHistogram { index, slot, series, t, histogram } = staged;
            let slot = if slot == PENDING { head.slot(series) } else { Some(slot) };
            let verdict = slot.ok_or(Rejection::SeriesLimit).and_then(|slot| {
                let verdict = check_histogram(head, slot, Bounds::NONE, t, &histogram)?;
                if verdict == Verdict::InOrder {
                    head.append_histogram(slot, t, &histogram, epoch);
                    stored.histograms += 1;
                }
                Ok(())
            });
            if let Err(reason) = verdict {
                appended.rejected_histograms.push(Rejected { index, reason });
            }
        }
        for Late { series, t, value } in writer.late.drain(..) {
            if head.slot(series).is_some()
                && head.late.insert(series, LateSample { t, value, batch })
            {
                // It has none, whatever those beside it have.
                head.starts.note_late(series, t, 0);
                stored.late += 1;
            }
        }
        apply_extras(head, extras);
        head.trim_undo(self.views.oldest());
        self.update_gauges(head);
        stored
    }

    fn count(&self, stored: Stored, appended: &Appended, creations: &Creations<'_>) {
        let metrics = &self.metrics;
        metrics.rejected(&appended.rejected, "float");
        metrics.rejected(&appended.rejected_histograms, "histogram");
        metrics.floats_appended.inc_by(stored.floats);
        if stored.histograms > 0 {
            metrics.histograms_appended.inc_by(stored.histograms);
        }
        if stored.late > 0 {
            metrics.late_appended.inc_by(stored.late);
        }
        metrics.series_created.inc_by(appended.series_created as u64);
        if creations.refused > 0 {
            metrics.series_refused.inc_by(creations.refused);
        }
    }
}

/// How many samples of a batch the head took.
#[derive(Clone, Copy, Debug, Default)]
struct Stored {
    floats: u64,
    histograms: u64,
    late: u64,
}

fn apply_extras(head: &mut Head, extras: &Extras<'_>) {
    for (series, exemplar) in &extras.exemplars {
        if let Some(slot) = head.slot(*series) {
            let labels = &head.labels;
            head.exemplars.add(*series, || labels.labels(slot), (*exemplar).clone());
        }
    }
    for (series, metadata) in &extras.metadata {
        if head.slot(*series).is_some() {
            head.metadata.insert(*series, (*metadata).clone());
        }
    }
}
