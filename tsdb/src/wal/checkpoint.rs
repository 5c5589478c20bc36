//! Checkpoints: what of the oldest segments is still needed, in place of them.
//!
//! A checkpoint is a folder of segments. It is written beside the log, read back, and put in place by a rename, so it is there as a whole or
//! not at all; only then are the segments that it replaces removed.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::{Metadata, Timestamp};

use super::record::histograms::RefHistogram;
use super::record::{self, Deleted, Kind, RecordSamples, RefSample, histograms};
use super::replay::read_segment;
use super::segments::{self, UNFINISHED_SUFFIX, checkpoint_name};
use super::{Wal, WalError};
use crate::WalCompression;
use crate::bytes::DecodeError;
use crate::disk::Disk;

/// Bytes of records collected before they are written.
const FLUSH_BYTES: usize = 1 << 20;

/// Fewer segments are not worth a checkpoint.
const SEGMENTS_MIN: u32 = 2;

/// What to carry over.
pub(crate) trait Keep {
    /// Whether the series with this ref is still needed.
    fn series(&self, series: u64) -> bool;

    /// The ref under which samples of `series` shall be found.
    fn canonical(&self, series: u64) -> u64;
}

/// How a log is to be shortened.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) disk: &'a Arc<dyn Disk>,
    pub(crate) dir: &'a Path,
    /// Samples before are dropped.
    pub(crate) mint: Timestamp,
    /// Segments from this one on are left alone.
    pub(crate) current: u32,
    pub(crate) segment_bytes: u64,
    pub(crate) compression: WalCompression,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checkpointed {
    /// The last segment that was replaced.
    pub(crate) last: u32,
    /// Damage that was found on the way.
    pub(crate) corruptions: u64,
}

/// Replaces the oldest two thirds of the segments by a checkpoint, as Prometheus does; `None` if there are too few.
pub(crate) fn checkpoint(
    request: &Request<'_>,
    keep: &dyn Keep,
) -> Result<Option<Checkpointed>, WalError> {
    let failed = |error| WalError::new(request.dir, error);
    let listing = segments::list(request.disk.as_ref(), request.dir).map_err(failed)?;
    let previous = listing.checkpoints.last();
    let live = listing.segments.iter().filter(|(number, _)| {
        *number < request.current && previous.is_none_or(|(last, _)| number > last)
    });
    let live: Vec<&(u32, PathBuf)> = live.collect();
    let (Some((first, _)), Some((end, _))) = (live.first(), live.last()) else { return Ok(None) };
    let last = first + (end - first) * 2 / 3;
    if last + 1 < first + SEGMENTS_MIN {
        return Ok(None);
    }
    let mut sources = Vec::new();
    if let Some((_, dir)) = previous {
        let inner = segments::list(request.disk.as_ref(), dir).map_err(failed)?;
        sources.extend(inner.segments.into_iter().map(|(_, path)| path));
    }
    sources.extend(live.iter().filter(|(number, _)| *number <= last).map(|(_, path)| path.clone()));
    let corruptions = write(request, keep, &sources, last)?;
    remove_replaced(request.disk.as_ref(), request.dir, last).map_err(failed)?;
    Ok(Some(Checkpointed { last, corruptions }))
}

/// Writes the checkpoint and puts it in place.
fn write(
    request: &Request<'_>,
    keep: &dyn Keep,
    sources: &[PathBuf],
    last: u32,
) -> Result<u64, WalError> {
    let disk = request.disk.as_ref();
    let name = checkpoint_name(last);
    let (target, temporary) = (request.dir.join(&name), request.dir.join(name + UNFINISHED_SUFFIX));
    let failed = |error| WalError::new(&temporary, error);
    remove_if_there(disk, &temporary).map_err(failed)?;
    disk.create_dir_all(&temporary).map_err(failed)?;
    let mut writer = Writer::new(request, keep, temporary.clone());
    let mut corruptions = 0;
    for source in sources {
        let damage = read_segment(disk, source, |record| writer.take(record))?;
        for lost in &damage.lost {
            tracing::error!(
                path = %source.display(), offset = lost.offset, bytes = lost.bytes,
                reason = %lost.reason, "log is damaged, the checkpoint goes without these bytes"
            );
        }
        corruptions += damage.lost.len() as u64;
        if let Some(error) = writer.failed.take() {
            return Err(error);
        }
    }
    let written = writer.finish(disk)?;
    verify(disk, &temporary, written)?;
    disk.rename(&temporary, &target).map_err(failed)?;
    disk.sync_dir(request.dir).map_err(|error| WalError::new(request.dir, error))?;
    Ok(corruptions)
}

/// Reads the checkpoint back: once the segments are gone, it is all there is.
fn verify(disk: &dyn Disk, dir: &Path, expected: u64) -> Result<(), WalError> {
    let failed = |error| WalError::new(dir, error);
    let mut found = 0;
    for (_, path) in segments::list(disk, dir).map_err(failed)?.segments {
        let damage = read_segment(disk, &path, |_| {
            found += 1;
            Ok(())
        })?;
        if let Some(lost) = damage.lost.first() {
            let text = format!("checkpoint is damaged at byte {}: {}", lost.offset, lost.reason);
            return Err(WalError::new(&path, io::Error::new(io::ErrorKind::InvalidData, text)));
        }
    }
    if found != expected {
        let text = format!("checkpoint has {found} of {expected} records");
        return Err(failed(io::Error::new(io::ErrorKind::InvalidData, text)));
    }
    Ok(())
}

/// Removes the segments up to `last` and the checkpoints before the one that replaces them.
pub(crate) fn remove_replaced(disk: &dyn Disk, dir: &Path, last: u32) -> io::Result<()> {
    let listing = segments::list(disk, dir)?;
    // One at a time, oldest first: Prometheus refuses a log with a gap in its numbers.
    for (_, path) in listing.segments.iter().filter(|(number, _)| *number <= last) {
        disk.remove_file(path)?;
        disk.sync_dir(dir)?;
    }
    for (_, path) in listing.checkpoints.iter().filter(|(number, _)| *number < last) {
        disk.remove_dir_all(path)?;
    }
    disk.sync_dir(dir)
}

fn remove_if_there(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    if crate::disk::exists(disk, path)? { disk.remove_dir_all(path) } else { Ok(()) }
}

/// Collects the records of a checkpoint.
struct Writer<'a> {
    keep: &'a dyn Keep,
    mint: Timestamp,
    wal: Wal,
    pending: Vec<Vec<u8>>,
    pending_bytes: usize,
    samples: RecordSamples,
    /// The newest of each series.
    metadata: BTreeMap<u64, Metadata>,
    records: u64,
    failed: Option<WalError>,
}

impl<'a> Writer<'a> {
    fn new(request: &Request<'_>, keep: &'a dyn Keep, dir: PathBuf) -> Self {
        let wal =
            Wal::new(Arc::clone(request.disk), dir, 0, request.segment_bytes, request.compression);
        Self {
            keep,
            mint: request.mint,
            wal,
            pending: Vec::new(),
            pending_bytes: 0,
            samples: RecordSamples::default(),
            metadata: BTreeMap::new(),
            records: 0,
            failed: None,
        }
    }

    fn take(&mut self, record: &[u8]) -> Result<(), DecodeError> {
        let mut kept = Vec::new();
        match record::kind(record) {
            Kind::Series => record::read_series(record, |series, pairs| {
                if self.keep.series(series) {
                    record::put_series_pairs(&mut kept, series, pairs.iter().copied());
                }
            })?,
            Kind::Samples => {
                record::read_samples(record, &mut self.samples)?;
                let recent = self.samples.iter().filter(|(sample, _)| sample.t >= self.mint);
                let recent = recent.map(|(sample, start)| {
                    let series = self.keep.canonical(sample.series);
                    (RefSample { series, ..sample }, start)
                });
                if self.samples.has_starts() {
                    record::put_samples_with_starts(&mut kept, recent);
                } else {
                    record::put_samples(&mut kept, recent.map(|(sample, _)| sample));
                }
            }
            Kind::Histograms => return self.take_histograms(record),
            Kind::Tombstones => {
                for deleted in record::read_deleted(record)? {
                    let series = self.keep.canonical(deleted.series);
                    if deleted.max >= self.mint && self.keep.series(series) {
                        record::put_deleted(&mut kept, Deleted { series, ..deleted });
                    }
                }
            }
            Kind::Exemplars => {
                let exemplars = record::read_exemplars(record)?;
                let recent = exemplars.iter().filter(|(_, exemplar)| exemplar.t >= self.mint);
                let recent =
                    recent.map(|(series, exemplar)| (self.keep.canonical(*series), exemplar));
                record::put_exemplars(&mut kept, recent);
            }
            Kind::Metadata => {
                for (series, metadata) in record::read_metadata(record)? {
                    self.metadata.insert(self.keep.canonical(series), metadata);
                }
            }
            Kind::MmapMarkers | Kind::Unknown => {}
        }
        self.push(kept);
        Ok(())
    }

    fn take_histograms(&mut self, record: &[u8]) -> Result<(), DecodeError> {
        let mut recent = Vec::new();
        histograms::read(record, |histogram| {
            if histogram.t >= self.mint {
                let series = self.keep.canonical(histogram.series);
                recent.push(RefHistogram { series, ..histogram });
            }
        })?;
        if record.first().copied().is_some_and(histograms::has_starts) {
            let mut kept = Vec::new();
            histograms::put_with_starts(&mut kept, recent.iter());
            self.push(kept);
            return Ok(());
        }
        let recent = recent.iter().map(|h| (h.series, h.t, &h.histogram));
        let mut records = Vec::new();
        histograms::put(&mut records, recent);
        records.into_iter().for_each(|record| self.push(record));
        Ok(())
    }

    fn push(&mut self, kept: Vec<u8>) {
        if kept.is_empty() {
            return;
        }
        self.pending_bytes += kept.len();
        self.pending.push(kept);
        if self.pending_bytes >= FLUSH_BYTES && self.failed.is_none() {
            self.failed = self.flush().err();
        }
    }

    fn flush(&mut self) -> Result<(), WalError> {
        for record in &self.pending {
            self.wal.append(&[record])?;
        }
        self.records += self.pending.len() as u64;
        self.pending.clear();
        self.pending_bytes = 0;
        Ok(())
    }

    /// Makes the checkpoint durable; how many records it has.
    fn finish(mut self, disk: &dyn Disk) -> Result<u64, WalError> {
        // Of metadata only the newest counts.
        let mut record = Vec::new();
        for (series, metadata) in std::mem::take(&mut self.metadata) {
            if self.keep.series(series) {
                record::put_metadata(&mut record, series, &metadata);
            }
        }
        self.push(record);
        self.failed.take().map_or(Ok(()), Err)?;
        self.flush()?;
        // An empty checkpoint has a segment as well.
        self.wal.open_segment()?;
        self.wal.close_segment();
        self.wal.plan_sync().run(disk).into_result()?;
        Ok(self.records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemDisk;
    use crate::testing::wal_records_in;

    struct Even;

    impl Keep for Even {
        fn series(&self, series: u64) -> bool {
            series.is_multiple_of(2)
        }

        fn canonical(&self, series: u64) -> u64 {
            if series == 9 { 2 } else { series }
        }
    }

    fn segment(disk: &Arc<dyn Disk>, number: u32, samples: &[(u64, i64)]) {
        let mut wal =
            Wal::new(Arc::clone(disk), "/wal".into(), number, 1 << 20, WalCompression::Snappy);
        let (mut series, mut record) = (vec![], vec![]);
        for &(id, _) in samples {
            let name = format!("s{id}");
            record::put_series_pairs(&mut series, id, [("__name__", name.as_str())].into_iter());
        }
        let samples = samples.iter().map(|&(series, t)| RefSample { series, t, v: 1.0 });
        record::put_samples(&mut record, samples);
        wal.append(&[&series, &record]).unwrap();
    }

    #[test]
    fn a_checkpoint_keeps_what_is_needed() {
        let memory = MemDisk::new();
        memory.create_dir_all(Path::new("/wal")).unwrap();
        let disk: Arc<dyn Disk> = Arc::new(memory.clone());
        segment(&disk, 0, &[(1, 10), (2, 10), (9, 30)]);
        segment(&disk, 1, &[(1, 20), (2, 20)]);
        segment(&disk, 2, &[(4, 20)]);
        segment(&disk, 3, &[(4, 40)]);
        let request = Request {
            disk: &disk,
            dir: Path::new("/wal"),
            mint: 20,
            current: 4,
            segment_bytes: 1 << 20,
            compression: WalCompression::Snappy,
        };
        let done = checkpoint(&request, &Even).unwrap().unwrap();
        assert_eq!(done, Checkpointed { last: 2, corruptions: 0 });
        let left: Vec<_> =
            memory.list(Path::new("/wal")).unwrap().into_iter().map(|entry| entry.name).collect();
        assert_eq!(left, ["00000003", "checkpoint.00000002"]);

        let (mut series, mut samples) = (vec![], vec![]);
        let mut read = RecordSamples::default();
        for (_, record) in wal_records_in(&memory, Path::new("/wal/checkpoint.00000002")) {
            match record::kind(&record) {
                Kind::Series => record::read_series(&record, |id, _| series.push(id)).unwrap(),
                Kind::Samples => {
                    record::read_samples(&record, &mut read).unwrap();
                    samples.append(&mut read.samples);
                }
                other => panic!("{other:?}"),
            }
        }
        let samples: Vec<_> = samples.iter().map(|s| (s.series, s.t)).collect();
        assert_eq!(series, [2, 2, 4]);
        assert_eq!(samples, [(2, 30), (1, 20), (2, 20), (4, 20)]);
        assert_eq!(checkpoint(&request, &Even).unwrap(), None);
    }
}
