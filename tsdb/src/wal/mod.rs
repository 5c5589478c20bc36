//! The write-ahead log: every batch is here before it is anywhere else.
//!
//! Format: `docs/formats/wal.md`. [`Wal`] appends records to numbered segments. A batch is one write, so it is in the log as a whole or,
//! after a failed write, not at all. Reading is in `replay`, shortening in `checkpoint`.

pub(crate) mod checkpoint;
pub(crate) mod frame;
pub(crate) mod record;
pub(crate) mod replay;
pub(crate) mod segments;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::WalCompression;
use crate::disk::{Disk, DiskFile, create_dir_durably};
use frame::{Framer, PAGE_BYTES};

/// An operation on a file of the log failed.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub(crate) struct WalError {
    pub(crate) path: String,
    pub(crate) source: io::Error,
}

impl WalError {
    pub(crate) fn new(path: &Path, source: io::Error) -> Self {
        Self { path: path.display().to_string(), source }
    }
}

/// The log that is appended to.
#[derive(Debug)]
pub(crate) struct Wal {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    segment_bytes: u64,
    framer: Framer,
    /// `None` when the next record must go to a new segment.
    current: Option<Segment>,
    next_number: u32,
    /// Segments that are full, whose content is not durable yet.
    unsynced: Vec<Segment>,
    /// The name of the current segment is not durable yet.
    dir_unsynced: bool,
    /// Segments that end in part of a rejected batch, because cutting it off failed as well.
    torn: Vec<Segment>,
    /// The segment that the newest failed sync was of.
    failed: Option<Segment>,
}

/// A place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark {
    pub(crate) segment: u32,
    pub(crate) position: u64,
}

/// A segment; `len` counts whole records.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) number: u32,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    len: u64,
    synced: u64,
}

/// What must be synced for all that was appended to be durable.
#[derive(Debug, Default)]
pub(crate) struct SyncPlan {
    segments: Vec<Segment>,
    dir: Option<PathBuf>,
}

/// What became of a [`SyncPlan`].
#[derive(Debug, Default)]
pub(crate) struct SyncOutcome {
    /// Segments whose content is durable up to the length they had, with that length.
    synced: Vec<(u32, u64)>,
    /// Segments whose sync failed, and how.
    pub(crate) failed: Vec<(u32, WalError)>,
    dir_failed: Option<WalError>,
}

impl SyncOutcome {
    /// The first failure.
    pub(crate) fn into_result(self) -> Result<(), WalError> {
        match self.failed.into_iter().map(|(_, error)| error).chain(self.dir_failed).next() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

impl SyncPlan {
    /// Syncs; takes as long as the disk takes, so no lock should be held.
    pub(crate) fn run(self, disk: &dyn Disk) -> SyncOutcome {
        let mut outcome = SyncOutcome::default();
        for segment in self.segments {
            match segment.file.sync() {
                Ok(()) => outcome.synced.push((segment.number, segment.len)),
                Err(error) => {
                    outcome.failed.push((segment.number, WalError::new(&segment.path, error)));
                }
            }
        }
        // The name last: a durable name with no content would look like a lost segment.
        if let Some(dir) = self.dir
            && let Err(error) = disk.sync_dir(&dir)
        {
            outcome.dir_failed = Some(WalError::new(&dir, error));
        }
        outcome
    }
}

impl Wal {
    /// A log that continues with segment `next_number` in `dir`, which exists. Nothing is written yet.
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        next_number: u32,
        segment_bytes: u64,
        compression: WalCompression,
    ) -> Self {
        Self {
            disk,
            dir,
            segment_bytes: segment_bytes.max(PAGE_BYTES as u64),
            framer: Framer::new(compression),
            current: None,
            next_number,
            unsynced: Vec::new(),
            dir_unsynced: false,
            torn: Vec::new(),
            failed: None,
        }
    }

    /// The number of the segment that is appended to, or will be.
    pub(crate) fn segment_number(&self) -> u32 {
        self.current.as_ref().map_or(self.next_number, |segment| segment.number)
    }

    /// Appends the records in one write: all or, on an error, none. Empty ones are left out. Where they begin.
    pub(crate) fn append(&mut self, records: &[&[u8]]) -> Result<Mark, WalError> {
        // What fails now is tried again with the next batch.
        let _ = self.cut_rejected();
        let position = self.current.as_ref().map_or(0, |segment| segment.len);
        self.frame(position, records);
        let end = position + self.framer.bytes().len() as u64;
        if position > 0 && end > self.segment_bytes {
            self.close_segment();
            self.frame(0, records);
        }
        if self.framer.bytes().is_empty() {
            return Ok(Mark { segment: self.segment_number(), position });
        }
        self.open_segment()?;
        let segment = self.current.as_mut().expect("opened above");
        let bytes = self.framer.bytes();
        match segment.file.write_at(bytes, segment.len) {
            Ok(()) => {
                let mark = Mark { segment: segment.number, position: segment.len };
                segment.len += bytes.len() as u64;
                Ok(mark)
            }
            Err(error) => {
                let error = WalError::new(&segment.path, error);
                self.reject();
                Err(error)
            }
        }
    }

    /// Takes the newest batch back, which began at `mark`.
    pub(crate) fn undo(&mut self, mark: Mark) {
        let Some(segment) = self.current.as_mut().filter(|s| s.number == mark.segment) else {
            return self.undo_closed(mark);
        };
        if segment.len > mark.position {
            segment.len = mark.position;
            segment.synced = segment.synced.min(mark.position);
            self.reject();
        }
    }

    /// As [`undo`](Self::undo), in a segment that a failed sync has closed.
    fn undo_closed(&mut self, mark: Mark) {
        let failed = self.failed.take().filter(|segment| segment.number == mark.segment);
        if let Some(mut segment) = failed {
            segment.len = mark.position;
            if segment.file.truncate(segment.len).is_err() {
                self.torn.push(segment);
            }
        }
    }

    /// Where the next record goes, if it fits.
    pub(crate) fn position(&self) -> Mark {
        let position = self.current.as_ref().map_or(0, |segment| segment.len);
        Mark { segment: self.segment_number(), position }
    }

    fn frame(&mut self, position: u64, records: &[&[u8]]) {
        self.framer.start(position);
        for record in records.iter().filter(|record| !record.is_empty()) {
            self.framer.push(record);
        }
    }

    /// Cuts what a failed write left, so that the batch is not found at the next start.
    fn reject(&mut self) {
        let Some(segment) = &self.current else { return };
        if let Err(error) = segment.file.truncate(segment.len) {
            tracing::error!(
                path = %segment.path.display(), %error,
                "cannot cut off a rejected batch, continuing in a new segment"
            );
            self.torn.push(segment.clone());
            self.close_segment();
        }
    }

    /// Cuts off what is still there of rejected batches. While it is, a restart may find them.
    pub(crate) fn cut_rejected(&mut self) -> Result<(), WalError> {
        let mut failed = None;
        self.torn.retain(|segment| match segment.file.truncate(segment.len) {
            Ok(()) => false,
            Err(error) => {
                failed.get_or_insert(WalError::new(&segment.path, error));
                true
            }
        });
        failed.map_or(Ok(()), Err)
    }

    /// Ends the current segment: the next record begins a new one.
    pub(crate) fn close_segment(&mut self) {
        let Some(segment) = self.current.take() else { return };
        // Prometheus pads the last page; its readers and ours do without, so a failure is of no consequence.
        let padded = segment.len.next_multiple_of(PAGE_BYTES as u64);
        if padded > segment.len && self.torn.iter().all(|torn| torn.number != segment.number) {
            let padding = usize::try_from(padded - segment.len).expect("less than a page");
            if let Err(error) = segment.file.write_at(&vec![0; padding], segment.len) {
                tracing::debug!(path = %segment.path.display(), %error, "cannot pad a segment");
            }
        }
        if segment.synced < segment.len {
            self.unsynced.push(segment);
        }
    }

    /// Makes sure that there is a current segment.
    pub(crate) fn open_segment(&mut self) -> Result<(), WalError> {
        if self.current.is_some() {
            return Ok(());
        }
        let number = self.next_number;
        let path = self.dir.join(segments::segment_name(number));
        let created = match self.disk.create(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create_dir_durably(self.disk.as_ref(), &self.dir)
                    .and_then(|()| self.disk.create(&path))
            }
            created => created,
        };
        let file = created.map_err(|error| WalError::new(&path, error))?;
        self.current = Some(Segment { number, path, file, len: 0, synced: 0 });
        self.next_number = number + 1;
        self.dir_unsynced = true;
        Ok(())
    }

    /// What is not durable yet; to be run without a lock and handed to [`synced`](Self::synced).
    pub(crate) fn plan_sync(&mut self) -> SyncPlan {
        let mut segments = self.unsynced.clone();
        segments.extend(self.current.iter().filter(|s| s.synced < s.len).cloned());
        let dir = self.dir_unsynced.then(|| self.dir.clone());
        self.dir_unsynced = false;
        SyncPlan { segments, dir }
    }

    /// As [`plan_sync`](Self::plan_sync), of the segments that are complete.
    pub(crate) fn plan_sync_of_complete(&self) -> SyncPlan {
        SyncPlan { segments: self.unsynced.clone(), dir: None }
    }

    /// Takes note of what a plan achieved. A segment that failed is not synced again, since the kernel may have dropped what it could
    /// not write: later records go to another.
    pub(crate) fn synced(&mut self, outcome: &SyncOutcome) {
        for &(number, len) in &outcome.synced {
            self.unsynced.retain(|segment| segment.number != number || segment.len > len);
            if let Some(current) = self.current.as_mut().filter(|s| s.number == number) {
                current.synced = current.synced.max(len);
            }
        }
        for (number, _) in &outcome.failed {
            if self.current.as_ref().is_some_and(|segment| segment.number == *number) {
                self.failed = self.current.clone();
                self.close_segment();
            }
            self.unsynced.retain(|segment| segment.number != *number);
        }
        if outcome.dir_failed.is_some() {
            self.dir_unsynced = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Fault, MemDisk};
    use crate::testing::wal_records;

    const ENOSPC: i32 = 28;
    const EIO: i32 = 5;

    fn wal(disk: &MemDisk) -> Wal {
        disk.create_dir_all(Path::new("/wal")).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        let disk = Arc::new(disk.clone());
        Wal::new(disk, "/wal".into(), 0, 1 << 20, WalCompression::None)
    }

    fn sync(wal: &mut Wal, disk: &MemDisk) -> Result<(), WalError> {
        let outcome = wal.plan_sync().run(disk);
        wal.synced(&outcome);
        outcome.into_result()
    }

    #[test]
    fn a_failed_write_leaves_nothing_behind() {
        let disk = MemDisk::new();
        let mut wal = wal(&disk);
        wal.append(&[b"one"]).unwrap();
        disk.fail_at(disk.operations(), Fault::Torn(ENOSPC));
        assert!(wal.append(&[b"two", &[2; 100]]).is_err());
        wal.append(&[b"three"]).unwrap();
        assert_eq!(wal_records(&disk), [(0, b"one".to_vec()), (0, b"three".to_vec())]);
    }

    #[test]
    fn a_segment_that_cannot_be_cut_is_left_and_cut_later() {
        let disk = MemDisk::new();
        let mut wal = wal(&disk);
        wal.append(&[b"one"]).unwrap();
        disk.fail_from(disk.operations(), Fault::Torn(EIO));
        assert!(wal.append(&[b"rejected"]).is_err());
        assert!(wal.cut_rejected().is_err());
        disk.heal();
        wal.append(&[b"two"]).unwrap();
        assert_eq!(wal_records(&disk), [(0, b"one".to_vec()), (1, b"two".to_vec())]);
        wal.cut_rejected().unwrap();
    }

    #[test]
    fn a_failed_sync_moves_on_to_a_new_segment() {
        let disk = MemDisk::new();
        let mut wal = wal(&disk);
        wal.append(&[b"one"]).unwrap();
        sync(&mut wal, &disk).unwrap();
        wal.append(&[b"two"]).unwrap();
        disk.fail_at(disk.operations(), Fault::Error(EIO));
        assert!(sync(&mut wal, &disk).is_err());
        wal.append(&[b"three"]).unwrap();
        sync(&mut wal, &disk).unwrap();
        disk.crash();
        assert_eq!(wal_records(&disk), [(0, b"one".to_vec()), (1, b"three".to_vec())]);
    }

    #[test]
    fn segments_are_closed_when_full_and_synced_later() {
        let disk = MemDisk::new();
        let mut wal = wal(&disk);
        for byte in 0..4 {
            wal.append(&[&[byte; 600_000]]).unwrap();
        }
        sync(&mut wal, &disk).unwrap();
        disk.crash_keeping(|_| 0);
        let numbers: Vec<u32> = wal_records(&disk).into_iter().map(|(n, _)| n).collect();
        assert_eq!(numbers, [0, 1, 2, 3]);
        assert_eq!(disk.operations(), {
            let before = disk.operations();
            sync(&mut wal, &disk).unwrap();
            before
        });
    }
}
