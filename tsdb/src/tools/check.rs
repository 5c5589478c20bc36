//! Reading everything in a store, to see whether it is whole.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::block_dirs;
use crate::block::verify::verify_block;
use crate::bytes::DecodeError;
use crate::disk::Disk;
use crate::head::chunk_store::{CHUNKS_HEAD_DIR, list_files, read_file};
use crate::wal::record::{self, Kind, histograms};
use crate::wal::replay::read_segment;
use crate::wal::segments;
use crate::{WAL_DIR, WBL_DIR};

/// Something that is wrong with a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub path: String,
    /// Where in it, in bytes.
    pub offset: u64,
    /// What is wrong.
    pub what: String,
}

/// Reads everything in the store in `dir` and lists what is wrong. `progress` is told what is being read, how many bytes of how many of it are
/// done, and says whether to go on. The end of a log that is being written may look torn.
///
/// # Errors
/// When a folder cannot be read.
pub fn verify(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    progress: &mut dyn FnMut(&Path, u64, u64) -> bool,
) -> io::Result<Vec<Finding>> {
    let disk = disk.as_ref();
    let mut findings = Vec::new();
    for path in block_dirs(disk, dir)? {
        let found = verify_block(disk, &path, &mut |done, total| progress(&path, done, total));
        findings.extend(found.into_iter().map(|finding| Finding {
            path: finding.path,
            offset: finding.offset,
            what: finding.what,
        }));
    }
    for name in [WAL_DIR, WBL_DIR] {
        verify_log(disk, &dir.join(name), progress, &mut findings)?;
    }
    for (_, path) in list_files(disk, &dir.join(CHUNKS_HEAD_DIR))? {
        if !progress(&path, 0, 1) {
            break;
        }
        if let Some((offset, what)) = read_file(disk, &path, |_, _| ())? {
            let path = path.display().to_string();
            findings.push(Finding { path, offset, what: String::from(what) });
        }
    }
    Ok(findings)
}

fn verify_log(
    disk: &dyn Disk,
    dir: &Path,
    progress: &mut dyn FnMut(&Path, u64, u64) -> bool,
    findings: &mut Vec<Finding>,
) -> io::Result<()> {
    let listing = match segments::list(disk, dir) {
        Ok(listing) => listing,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut paths: Vec<_> = listing.segments.into_iter().map(|(_, path)| path).collect();
    for (_, checkpoint) in listing.checkpoints {
        let inner = segments::list(disk, &checkpoint)?;
        paths.extend(inner.segments.into_iter().map(|(_, path)| path));
    }
    let total = paths.len() as u64;
    for (done, path) in (0..).zip(&paths) {
        if !progress(path, done, total) {
            return Ok(());
        }
        let damage = read_segment(disk, path, check_record).map_err(io::Error::other)?;
        for lost in damage.lost {
            let what = format!("{} bytes of the log are lost: {}", lost.bytes, lost.reason);
            findings.push(Finding { path: path.display().to_string(), offset: lost.offset, what });
        }
    }
    Ok(())
}

/// Decodes a record and forgets it.
fn check_record(record: &[u8]) -> Result<(), DecodeError> {
    match record::kind(record) {
        Kind::Series => record::read_series(record, |_, _| ()),
        Kind::Samples => record::read_samples(record, &mut record::RecordSamples::default()),
        Kind::Histograms => histograms::read(record, |_| ()).map(drop),
        Kind::Tombstones => record::read_deleted(record).map(drop),
        Kind::Exemplars => record::read_exemplars(record).map(drop),
        Kind::Metadata => record::read_metadata(record).map(drop),
        Kind::MmapMarkers | Kind::Unknown => Ok(()),
    }
}
