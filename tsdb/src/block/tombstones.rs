//! The `tombstones` file of a block: spans of series that were deleted. Read and respected; we write only an empty one.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use crc32c::crc32c;
use model::{Columns, TimeRange};

use crate::bytes::{Bytes, DecodeError};
use crate::disk::{Disk, read_all};

pub(crate) const TOMBSTONES_FILE: &str = "tombstones";

const MAGIC: u32 = 0x0130_BA30;
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 5;
const CHECKSUM_BYTES: usize = 4;
const FILE_BYTES_MAX: u64 = 1 << 30;

/// Deleted spans by series.
#[derive(Debug, Default)]
pub(crate) struct Tombstones {
    spans: HashMap<u64, Vec<TimeRange>>,
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
        let mut spans: HashMap<u64, Vec<TimeRange>> = HashMap::new();
        while !bytes.is_empty() {
            let series = bytes.uvarint()?;
            let span = TimeRange::new(bytes.varint()?, bytes.varint()?);
            spans.entry(series).or_default().push(span);
        }
        Ok(Self { spans })
    }

    /// Writes an empty file, durably.
    pub(crate) fn write_empty(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        let mut bytes = MAGIC.to_be_bytes().to_vec();
        bytes.push(VERSION);
        bytes.extend_from_slice(&crc32c(&[]).to_be_bytes());
        let file = disk.create(&dir.join(TOMBSTONES_FILE))?;
        file.write_at(&bytes, 0)?;
        file.sync()
    }

    /// Removes deleted samples of a series from the rows after `start`.
    pub(crate) fn apply(&self, series: u64, start: usize, columns: &mut Columns) {
        let Some(spans) = self.spans.get(&series) else { return };
        let kept: Columns = columns
            .iter()
            .skip(start)
            .filter(|sample| !spans.iter().any(|span| span.contains(sample.t)))
            .collect();
        columns.truncate(start);
        columns.extend_from_slices(kept.times(), kept.floats());
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
        Tombstones::write_empty(&disk, Path::new("/")).unwrap();
        assert_eq!(disk.read(Path::new("/tombstones")).unwrap(), b"\x01\x30\xba\x30\x01\0\0\0\0");
        assert!(Tombstones::read(&disk, Path::new("/")).unwrap().spans.is_empty());
    }
}
