//! Reading a log back, and repairing what is damaged.
//!
//! A torn end is cut off. Damage followed by whole records costs the records it touches and no more: the segment is rewritten without
//! them, so that a Prometheus started later, which deletes everything after damage, finds none.

use std::io;
use std::path::{Path, PathBuf};

use super::WalError;
use super::frame::{Framer, Next, SegmentReader};
use super::segments::REPAIR_SUFFIX;
use crate::WalCompression;
use crate::bytes::DecodeError;
use crate::disk::Disk;

/// What was wrong with a segment.
#[derive(Debug, Default)]
pub(crate) struct Damage {
    /// Spans without whole records.
    pub(crate) lost: Vec<Lost>,
}

/// A span of a segment that is lost.
#[derive(Debug)]
pub(crate) struct Lost {
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    pub(crate) reason: String,
    /// Nothing readable follows in the segment.
    torn: bool,
}

/// Calls `on_record` with each record of the segment at `path`. A record that it cannot decode counts as damaged.
pub(crate) fn read_segment(
    disk: &dyn Disk,
    path: &Path,
    on_record: impl FnMut(&[u8]) -> Result<(), DecodeError>,
) -> Result<Damage, WalError> {
    read_segment_from(disk, path, 0, on_record)
}

/// As [`read_segment`], from byte `from` on, at which a record begins.
pub(crate) fn read_segment_from(
    disk: &dyn Disk,
    path: &Path,
    from: u64,
    mut on_record: impl FnMut(&[u8]) -> Result<(), DecodeError>,
) -> Result<Damage, WalError> {
    let failed = |error| WalError::new(path, error);
    let file = disk.open(path).map_err(failed)?;
    let end = file.len().map_err(failed)?;
    let mut reader = SegmentReader::starting_at(file, from);
    let mut damage = Damage::default();
    loop {
        let offset = reader.position();
        match reader.next().map_err(failed)? {
            Next::Record { bytes } => {
                if let Err(error) = on_record(bytes) {
                    let bytes = reader.position() - offset;
                    let reason = error.to_string();
                    damage.lost.push(Lost { offset, bytes, reason, torn: false });
                }
            }
            Next::Lost { offset, resumed_at, reason } => damage.lost.push(Lost {
                offset,
                bytes: resumed_at.unwrap_or(end).saturating_sub(offset),
                reason: String::from(reason),
                torn: resumed_at.is_none(),
            }),
            Next::End => return Ok(damage),
        }
    }
}

/// Removes the damage from the segment at `path`, durably.
pub(crate) fn repair_segment(
    disk: &dyn Disk,
    path: &Path,
    damage: &Damage,
    compression: WalCompression,
) -> Result<(), WalError> {
    let failed = |error| WalError::new(path, error);
    match damage.lost.as_slice() {
        [] => Ok(()),
        [only] if only.torn => {
            let file = disk.open_write(path).map_err(failed)?;
            file.truncate(only.offset).and_then(|()| file.sync()).map_err(failed)
        }
        lost => rewrite(disk, path, lost, compression).map_err(failed),
    }
}

fn rewrite(
    disk: &dyn Disk,
    path: &Path,
    lost: &[Lost],
    compression: WalCompression,
) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(REPAIR_SUFFIX);
    let repaired = PathBuf::from(name);
    let out = disk.create(&repaired)?;
    let mut framer = Framer::new(compression);
    let mut written = 0;
    let mut reader = SegmentReader::new(disk.open(path)?);
    loop {
        let offset = reader.position();
        match reader.next()? {
            Next::Record { .. } if lost.iter().any(|lost| lost.offset == offset) => {}
            Next::Record { bytes } => {
                framer.start(written);
                framer.push(bytes);
                out.write_at(framer.bytes(), written)?;
                written += framer.bytes().len() as u64;
            }
            Next::Lost { .. } => {}
            Next::End => break,
        }
    }
    out.sync()?;
    disk.rename(&repaired, path)?;
    path.parent().map_or(Ok(()), |dir| disk.sync_dir(dir))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Disk, MemDisk};

    fn records(disk: &MemDisk) -> (Vec<Vec<u8>>, Damage) {
        let mut records = vec![];
        let damage = read_segment(disk, Path::new("/s"), |record| {
            records.push(record.to_vec());
            if record == b"bad" { Err(DecodeError::End) } else { Ok(()) }
        });
        (records, damage.unwrap())
    }

    fn check(input: &[&[u8]], flip: Option<usize>, cut: usize, expected: &[&[u8]]) {
        let disk = MemDisk::new();
        let mut framer = Framer::new(WalCompression::None);
        framer.start(0);
        for record in input {
            framer.push(record);
        }
        let mut bytes = framer.bytes().to_vec();
        bytes.truncate(bytes.len() - cut);
        if let Some(at) = flip {
            bytes[at] ^= 1;
        }
        disk.create(Path::new("/s")).unwrap().write_at(&bytes, 0).unwrap();
        let (_, damage) = records(&disk);
        assert_eq!(damage.lost.len(), 1);
        repair_segment(&disk, Path::new("/s"), &damage, WalCompression::None).unwrap();
        let (repaired, damage) = records(&disk);
        assert_eq!(repaired, expected);
        assert!(damage.lost.is_empty());
        assert!(disk.list(Path::new("/")).unwrap().len() == 1);
    }

    #[test]
    fn damage_is_repaired() {
        check(&[b"one", b"two", b"three"], None, 1, &[b"one", b"two"]);
        check(&[b"one", b"two", b"three"], Some(17), 0, &[b"one", b"three"]);
        check(&[b"one", b"bad", b"three"], None, 0, &[b"one", b"three"]);
    }
}
