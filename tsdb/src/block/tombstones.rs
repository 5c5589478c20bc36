//! The `tombstones` file of a block: spans of series that were deleted but are still in its chunks.
//!
//! Format: `docs/formats/tombstones.md`.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use crc32c::crc32c;
use model::{Columns, TimeRange};

use super::files::write_atomically;
use crate::bytes::{Bytes, DecodeError, put_uvarint, put_varint};
use crate::disk::{Disk, read_all};

pub(crate) const TOMBSTONES_FILE: &str = "tombstones";

const MAGIC: u32 = 0x0130_BA30;
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 5;
const CHECKSUM_BYTES: usize = 4;
const FILE_BYTES_MAX: u64 = 1 << 30;

/// Deleted spans by series.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tombstones {
    /// Of each series in order of time, without overlap.
    spans: BTreeMap<u64, Vec<TimeRange>>,
}

impl Tombstones {
    /// Reads the file in `dir`; none means no tombstones.
    pub(crate) fn read(disk: &dyn Disk, dir: &Path) -> io::Result<Self> {
        let bytes = match read_all(disk, &dir.join(TOMBSTONES_FILE), FILE_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        Self::decode(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (content, checksum) =
            bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(DecodeError::End)?;
        let mut bytes = Bytes::new(content);
        if bytes.be32()? != MAGIC || bytes.u8()? != VERSION {
            return Err(DecodeError::Invalid("not a tombstones file of version 1"));
        }
        if crc32c(&content[HEADER_BYTES..]).to_be_bytes() != *checksum {
            return Err(DecodeError::Invalid("checksum mismatch"));
        }
        let mut tombstones = Self::default();
        while !bytes.is_empty() {
            let series = bytes.uvarint()?;
            tombstones.add(series, TimeRange::new(bytes.varint()?, bytes.varint()?));
        }
        Ok(tombstones)
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_be_bytes().to_vec();
        bytes.push(VERSION);
        for (series, span) in self.iter() {
            put_uvarint(&mut bytes, series);
            put_varint(&mut bytes, span.min);
            put_varint(&mut bytes, span.max);
        }
        let checksum = crc32c(&bytes[HEADER_BYTES..]);
        bytes.extend_from_slice(&checksum.to_be_bytes());
        bytes
    }

    /// Writes the file in a folder that is not in use yet, durably.
    pub(crate) fn write_new(&self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        let file = disk.create(&dir.join(TOMBSTONES_FILE))?;
        file.write_at(&self.encode(), 0)?;
        file.sync()
    }

    /// Replaces the file of the block in `dir`, durably.
    pub(crate) fn replace(&self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        write_atomically(disk, &dir.join(TOMBSTONES_FILE), &self.encode())
    }

    /// Adds a span, joined with those that it overlaps or touches.
    pub(crate) fn add(&mut self, series: u64, span: TimeRange) {
        if span.min > span.max {
            return;
        }
        let spans = self.spans.entry(series).or_default();
        // Times are discrete: 10 to 20 and 21 to 30 are 10 to 30.
        let start = spans.partition_point(|known| known.max < span.min.saturating_sub(1));
        let end = spans.partition_point(|known| known.min <= span.max.saturating_add(1));
        let joined = spans[start..end].iter().fold(span, |joined, known| {
            TimeRange::new(joined.min.min(known.min), joined.max.max(known.max))
        });
        spans.splice(start..end, [joined]);
    }

    /// The deleted spans of a series in order of time.
    pub(crate) fn of(&self, series: u64) -> &[TimeRange] {
        self.spans.get(&series).map_or(&[], Vec::as_slice)
    }

    /// Every span with its series.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, TimeRange)> {
        self.spans.iter().flat_map(|(series, spans)| spans.iter().map(|span| (*series, *span)))
    }

    /// Number of spans.
    pub(crate) fn len(&self) -> u64 {
        self.spans.values().map(|spans| spans.len() as u64).sum()
    }

    /// Whether nothing is deleted.
    pub(crate) fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Removes deleted samples of a series from the rows after `start`.
    pub(crate) fn apply(&self, series: u64, start: usize, columns: &mut Columns) {
        remove(self.of(series), start, columns);
    }
}

/// Removes the samples within `spans` from the rows after `start`.
pub(super) fn remove(spans: &[TimeRange], start: usize, columns: &mut Columns) {
    let is_deleted = |t| spans.iter().any(|span| span.contains(t));
    if spans.is_empty() || !columns.times()[start..].iter().any(|&t| is_deleted(t)) {
        return;
    }
    let mut kept = Columns::new();
    for row in (start..columns.len()).filter(|&row| !is_deleted(columns.times()[row])) {
        kept.push_row(columns, row);
    }
    columns.truncate(start);
    for row in 0..kept.len() {
        columns.push_row(&kept, row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemDisk;

    #[test]
    fn deleted_spans_are_removed() {
        let mut bytes = b"\x01\x30\xba\x30\x01".to_vec();
        // Series 7 from 10 to 20.
        bytes.extend([7, 20, 40]);
        bytes.extend(crc32c(&[7, 20, 40]).to_be_bytes());
        let tombstones = Tombstones::decode(&bytes).unwrap();
        let mut columns = Columns::new();
        for t in [5, 10, 15, 20, 21] {
            columns.push(t, 0.0);
        }
        let mut other = columns.clone();
        tombstones.apply(8, 0, &mut other);
        assert_eq!(other, columns);
        tombstones.apply(7, 2, &mut columns);
        assert_eq!(columns.times(), [5, 10, 21]);
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert!(Tombstones::decode(&flipped).is_err(), "byte {at}");
        }
    }

    #[test]
    fn the_empty_file_is_that_of_prometheus() {
        let disk = MemDisk::new();
        Tombstones::default().write_new(&disk, Path::new("/")).unwrap();
        assert_eq!(disk.read(Path::new("/tombstones")).unwrap(), b"\x01\x30\xba\x30\x01\0\0\0\0");
        assert!(Tombstones::read(&disk, Path::new("/")).unwrap().is_empty());
    }

    #[test]
    fn spans_are_joined_as_in_prometheus() {
        // After the cases of Prometheus's own test of adding an interval: what is there, what is added, the result.
        type Spans<'s> = &'s [(i64, i64)];
        let check = |before: Spans<'_>, added: (i64, i64), expected: Spans<'_>| {
            let mut tombstones = Tombstones::default();
            for &(min, max) in before {
                tombstones.add(1, TimeRange::new(min, max));
            }
            tombstones.add(1, TimeRange::new(added.0, added.1));
            let found: Vec<_> = tombstones.of(1).iter().map(|s| (s.min, s.max)).collect();
            assert_eq!(found, expected, "{before:?} and {added:?}");
        };
        check(&[(1, 2)], (5, 6), &[(1, 2), (5, 6)]);
        check(&[(1, 2), (5, 6)], (3, 4), &[(1, 6)]);
        check(&[(1, 10)], (12, 15), &[(1, 10), (12, 15)]);
        check(&[(1, 10)], (11, 15), &[(1, 15)]);
        check(&[(5, 10)], (1, 3), &[(1, 3), (5, 10)]);
        check(&[(5, 10)], (1, 4), &[(1, 10)]);
        check(&[(1, 3), (5, 7), (20, 30)], (6, 21), &[(1, 3), (5, 30)]);
        check(&[(1, 3), (5, 7)], (i64::MIN, 2), &[(i64::MIN, 3), (5, 7)]);
        check(&[(1, 3), (5, 7)], (4, i64::MAX), &[(1, i64::MAX)]);
        check(&[(5, 7)], (i64::MIN, i64::MAX), &[(i64::MIN, i64::MAX)]);
        check(&[(5, 7)], (7, 6), &[(5, 7)]);
    }

    #[test]
    fn what_is_written_is_read() {
        let disk = MemDisk::new();
        let mut tombstones = Tombstones::default();
        tombstones.add(7, TimeRange::new(-5, 5));
        tombstones.add(7, TimeRange::new(100, i64::MAX));
        tombstones.add(u64::MAX, TimeRange::new(i64::MIN, 0));
        tombstones.replace(&disk, Path::new("/")).unwrap();
        assert_eq!(Tombstones::read(&disk, Path::new("/")).unwrap(), tombstones);
        assert_eq!(tombstones.len(), 3);
    }
}
