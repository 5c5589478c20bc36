//! What several modules' tests need.

use std::path::Path;

use crate::disk::{Disk, MemDisk};
use crate::head::Head;
use crate::head::chunk_store::ChunkStore;
use crate::wal::frame::{Next, SegmentReader};
use crate::wal::segments;

/// The records of the log in `/wal`, each with the number of its segment; damage fails the test.
pub(crate) fn wal_records(disk: &MemDisk) -> Vec<(u32, Vec<u8>)> {
    wal_records_in(disk, Path::new("/wal"))
}

pub(crate) fn wal_records_in(disk: &MemDisk, dir: &Path) -> Vec<(u32, Vec<u8>)> {
    let mut records = vec![];
    for (number, path) in segments::list(disk, dir).unwrap().segments {
        let mut reader = SegmentReader::new(disk.open(&path).unwrap());
        loop {
            match reader.next().unwrap() {
                Next::Record { bytes } => records.push((number, bytes.to_vec())),
                Next::End => break,
                damage => panic!("segment {number}: {damage:?}"),
            }
        }
    }
    records
}

/// A head in memory alone.
pub(crate) fn head(chunk_range: i64) -> Head {
    Head::new(chunk_range, ChunkStore::new(None, 1), 100)
}
