//! Appending a batch: check, log, apply.

use std::collections::HashMap;

use model::{
    AppendError, Appended, Appender, Batch, Labels, Rejected, Rejection, Sample, SeriesKey,
    SeriesRef, Timestamp,
};

use super::Db;
use crate::head::Head;
use crate::wal::Wal;
use crate::wal::record::{self, RefSample};

/// The log, and what appending needs again and again.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) wal: Wal,
    closed: bool,
    series_record: Vec<u8>,
    samples_record: Vec<u8>,
    staged: Vec<Staged>,
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

/// The slot of a series that is not in the head yet.
const PENDING: u32 = u32::MAX;

/// Refs beyond this are not issued. A log that has one is damaged or hostile.
const REF_MAX: u64 = u64::MAX / 2;

impl Writer {
    pub(super) fn new(wal: Wal) -> Self {
        Self {
            wal,
            closed: false,
            series_record: Vec::new(),
            samples_record: Vec::new(),
            staged: Vec::new(),
        }
    }

    pub(super) fn close(&mut self) {
        self.closed = true;
    }
}

/// The new series of a batch that do not exist yet, with the refs they will get.
#[derive(Debug, Default)]
struct Creations<'b> {
    series: Vec<(u64, &'b Labels)>,
    by_labels: HashMap<&'b Labels, u64, foldhash::fast::RandomState>,
}

impl Appender for Db {
    fn append(&self, batch: &Batch) -> Result<Appended, AppendError> {
        let mut writer = self.writer.lock();
        if writer.closed {
            return Err(AppendError::Unavailable(String::from("it is closed")));
        }
        let writer = &mut *writer;
        let mut appended = Appended::default();
        let creations = {
            let head = self.head.read();
            let creations = find_or_create(&head, batch, &mut appended.new_refs);
            stage(&head, batch, &mut appended, &mut writer.staged);
            creations
        };
        self.log(writer, &creations)?;
        let stored = self.apply(writer, &creations, &mut appended);
        appended.rejected.sort_unstable_by_key(|rejected| rejected.index);
        self.count(stored, &appended);
        Ok(appended)
    }
}

/// Finds the batch's series by their labels, or plans to create them; one ref for each goes to `refs`.
fn find_or_create<'b>(head: &Head, batch: &'b Batch, refs: &mut Vec<SeriesRef>) -> Creations<'b> {
    let mut creations = Creations::default();
    let bytes: usize = batch.new_series.iter().map(Labels::packed_bytes).sum();
    let has_room = head.labels.has_room(bytes) && head.next_ref() < REF_MAX;
    for labels in &batch.new_series {
        let pairs = labels.iter().map(|label| (label.name, label.value));
        let series = if labels.is_empty() {
            0
        } else if let Some(slot) = head.labels.find(pairs) {
            head.series_ref(slot)
        } else if let Some(&planned) = creations.by_labels.get(labels) {
            planned
        } else if has_room {
            let series = head.next_ref() + creations.series.len() as u64;
            creations.series.push((series, labels));
            creations.by_labels.insert(labels, series);
            series
        } else {
            0
        };
        refs.push(SeriesRef(series));
    }
    creations
}

/// Sorts out what can be refused, or is there already, by looking at the head alone.
fn stage(head: &Head, batch: &Batch, appended: &mut Appended, staged: &mut Vec<Staged>) {
    staged.clear();
    let from = head.appendable_from();
    for (index, float) in batch.floats.iter().enumerate() {
        let place = match float.series {
            SeriesKey::Known(SeriesRef(series)) => {
                head.slot(series).map(|slot| (series, slot)).ok_or(Rejection::UnknownSeries)
            }
            SeriesKey::New(position) => {
                match appended.new_refs.get(position as usize).map_or(0, |series| series.0) {
                    0 => Err(refusal(batch, position)),
                    series => Ok((series, head.slot(series).unwrap_or(PENDING))),
                }
            }
        };
        let verdict = place.and_then(|(series, slot)| {
            let last = if slot == PENDING { None } else { head.last(slot) };
            let is_new = check(last, from, float.t, float.v)?;
            let sample = RefSample { series, t: float.t, v: float.v };
            Ok(is_new.then_some(Staged { index, slot, sample }))
        });
        match verdict {
            Ok(sample) => staged.extend(sample),
            Err(reason) => appended.rejected.push(Rejected { index, reason }),
        }
    }
}

/// Why the new series at `position` got no ref.
fn refusal(batch: &Batch, position: u32) -> Rejection {
    match batch.new_series.get(position as usize) {
        Some(labels) if labels.is_empty() => Rejection::InvalidLabels,
        Some(_) => Rejection::SeriesLimit,
        None => Rejection::UnknownSeries,
    }
}

/// Whether a sample may follow `last`, and is not the same.
#[inline]
fn check(last: Option<Sample>, from: Timestamp, t: Timestamp, v: f64) -> Result<bool, Rejection> {
    match last {
        _ if t < from => Err(Rejection::OutOfBounds),
        Some(last) if t == last.t && v.to_bits() == last.v.to_bits() => Ok(false),
        Some(last) if t == last.t => Err(Rejection::DuplicateTimestamp),
        Some(last) if t < last.t => Err(Rejection::OutOfOrder),
        _ => Ok(true),
    }
}

impl Db {
    fn log(&self, writer: &mut Writer, creations: &Creations<'_>) -> Result<(), AppendError> {
        writer.series_record.clear();
        for (series, labels) in &creations.series {
            record::put_series(&mut writer.series_record, *series, labels);
        }
        writer.samples_record.clear();
        let samples = writer.staged.iter().map(|staged| staged.sample);
        record::put_samples(&mut writer.samples_record, samples);
        let records = [writer.series_record.as_slice(), writer.samples_record.as_slice()];
        let logged = writer.wal.append(&records);
        self.metrics.wal_segment.set(i64::from(writer.wal.segment_number()));
        logged.map_err(|error| {
            self.metrics.wal_writes_failed.inc();
            AppendError::Io { path: error.path, source: error.source }
        })
    }

    /// Changes the head; how many samples it took. Samples of one series within a batch are compared with each other only here; the log may then have one
    /// that the head refuses, and replaying it comes to the same verdict.
    fn apply(&self, writer: &Writer, creations: &Creations<'_>, appended: &mut Appended) -> u64 {
        let mut head = self.head.write();
        for (series, labels) in &creations.series {
            let pairs = labels.iter().map(|label| (label.name, label.value));
            if head.add_series(*series, pairs).is_some() {
                appended.series_created += 1;
            }
        }
        let epoch = self.views.newest();
        let mut stored = 0;
        for &Staged { index, slot, sample: RefSample { series, t, v } } in &writer.staged {
            let slot = if slot == PENDING { head.slot(series) } else { Some(slot) };
            let Some(slot) = slot else {
                appended.rejected.push(Rejected { index, reason: Rejection::SeriesLimit });
                continue;
            };
            match check(head.last(slot), Timestamp::MIN, t, v) {
                Ok(true) => {
                    head.append(slot, t, v, epoch);
                    stored += 1;
                }
                Ok(false) => {}
                Err(reason) => appended.rejected.push(Rejected { index, reason }),
            }
        }
        head.trim_undo(self.views.oldest());
        self.update_gauges(&head);
        stored
    }

    fn count(&self, stored: u64, appended: &Appended) {
        for rejected in &appended.rejected {
            match rejected.reason {
                Rejection::OutOfOrder => self.metrics.out_of_order.inc(),
                Rejection::OutOfBounds => self.metrics.out_of_bounds.inc(),
                _ => {}
            }
        }
        self.metrics.samples_appended.inc_by(stored);
        self.metrics.series_created.inc_by(appended.series_created as u64);
    }
}
