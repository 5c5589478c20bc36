//! The file beside a block's own that says what each of them was when it was written: sizes and checksums.
//!
//! Format: `docs/formats/meta.md`. Prometheus has no checksum for `meta.json`, and its own of chunks and index cover their parts, not the whole.
//! Other programs may rewrite `meta.json`, and leave ours alone; so the file also has the checksum of what nobody changes in a
//! block that exists, its essentials.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crc32c::{crc32c, crc32c_append};

use super::files::write_atomically;
use super::meta::{META_FILE, Meta};
use crate::disk::{Disk, DiskFile, FileWriter, read_all};

/// The name of the file; no other program has one of this name in a block.
pub(crate) const CHECKSUMS_FILE: &str = "sextant-checksums";

/// The line about the essentials of `meta.json`.
const ESSENTIALS: &str = "meta-essentials";

const FILE_BYTES_MAX: u64 = 1 << 20;

/// Size and checksum of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) bytes: u64,
    pub(crate) crc32c: u32,
}

impl Sum {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.len() as u64, crc32c: crc32c(bytes) }
    }
}

/// Writes a file front to back through a buffer, and sums it up.
#[derive(Debug)]
pub(crate) struct SummedWriter {
    writer: FileWriter,
    crc32c: u32,
}

impl SummedWriter {
    pub(crate) fn new(file: Arc<dyn DiskFile>) -> Self {
        Self { writer: FileWriter::new(file), crc32c: 0 }
    }

    /// Bytes written so far, which is where the next go.
    pub(crate) fn position(&self) -> u64 {
        self.writer.position()
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.crc32c = crc32c_append(self.crc32c, bytes);
        self.writer.write(bytes)
    }

    /// Adds zeros until the position is a multiple of `alignment`.
    pub(crate) fn align(&mut self, alignment: u64) -> io::Result<()> {
        let missing = self.position().next_multiple_of(alignment) - self.position();
        for _ in 0..missing {
            self.crc32c = crc32c_append(self.crc32c, &[0]);
        }
        self.writer.align(alignment)
    }

    /// Writes what is left and makes it durable.
    pub(crate) fn finish(self) -> io::Result<Sum> {
        let sum = Sum { bytes: self.position(), crc32c: self.crc32c };
        self.writer.finish()?;
        Ok(sum)
    }
}

/// The content of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checksums {
    /// By path within the block, in the order of the lines.
    pub(crate) files: Vec<(String, Sum)>,
}

/// What the file says about `meta.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MetaState {
    /// There is no such file: another program wrote the block.
    Unknown,
    /// `meta.json` is as it was written.
    AsWritten,
    /// It was rewritten, with the same essentials.
    Rewritten,
    /// It says something else about the block than when it was written.
    Changed,
    /// The file itself is damaged.
    Damaged,
}

impl Checksums {
    /// Adds, or replaces, what is known of a file.
    pub(crate) fn set(&mut self, name: &str, sum: Sum) {
        match self.files.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = sum,
            None => self.files.push((String::from(name), sum)),
        }
    }

    /// Adds, or replaces, what is known of `meta.json`, whose bytes are given.
    pub(crate) fn set_meta(&mut self, meta: &Meta, bytes: &[u8]) {
        self.set(META_FILE, Sum::of(bytes));
        self.set(ESSENTIALS, Sum::of(&meta.essentials()));
    }

    /// What is known of a file.
    pub(crate) fn get(&self, name: &str) -> Option<Sum> {
        self.files.iter().find(|(known, _)| known == name).map(|(_, sum)| *sum)
    }

    /// The files of the block that it knows.
    pub(crate) fn of_files(&self) -> impl Iterator<Item = (&str, Sum)> {
        let of_files = self.files.iter().filter(|(name, _)| name != ESSENTIALS);
        of_files.map(|(name, sum)| (name.as_str(), *sum))
    }

    fn encode(&self) -> String {
        use std::fmt::Write;
        let mut text = String::new();
        let line = |text: &mut String, name: &str, sum: Sum| {
            writeln!(text, "{name} {} {:08x}", sum.bytes, sum.crc32c).expect("strings take it");
        };
        for (name, sum) in &self.files {
            line(&mut text, name, *sum);
        }
        let own = Sum::of(text.as_bytes());
        line(&mut text, CHECKSUMS_FILE, own);
        text
    }

    /// `None` if the text is damaged.
    fn decode(text: &str) -> Option<Self> {
        let (lines, last) = text.strip_suffix('\n')?.rsplit_once('\n')?;
        let content = &text[..=lines.len()];
        if decode_line(last)? != (CHECKSUMS_FILE, Sum::of(content.as_bytes())) {
            return None;
        }
        let files = lines.split('\n').map(|line| {
            let (name, sum) = decode_line(line)?;
            Some((String::from(name), sum))
        });
        Some(Self { files: files.collect::<Option<_>>()? })
    }

    /// Reads the file in `dir`: `None` if there is none, `Some(None)` if it is damaged.
    pub(crate) fn read(disk: &dyn Disk, dir: &Path) -> io::Result<Option<Option<Self>>> {
        let bytes = match read_all(disk, &dir.join(CHECKSUMS_FILE), FILE_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(Some(None)),
            Err(error) => return Err(error),
        };
        Ok(Some(std::str::from_utf8(&bytes).ok().and_then(Self::decode)))
    }

    /// Writes the file in `dir`, where there may be one.
    pub(crate) fn write(&self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        write_atomically(disk, &dir.join(CHECKSUMS_FILE), self.encode().as_bytes())
    }

    /// Writes the file in a folder that is not in use yet.
    pub(crate) fn write_new(&self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        let file = disk.create(&dir.join(CHECKSUMS_FILE))?;
        file.write_at(self.encode().as_bytes(), 0)?;
        file.sync()
    }

    /// Brings the file up to date after `meta.json` was rewritten; none is made where there is none.
    pub(crate) fn update_meta(
        disk: &dyn Disk,
        dir: &Path,
        meta: &Meta,
        bytes: &[u8],
    ) -> io::Result<()> {
        let Some(Some(mut checksums)) = Self::read(disk, dir)? else { return Ok(()) };
        checksums.set_meta(meta, bytes);
        checksums.write(disk, dir)
    }

    /// What the file in `dir` says about `meta.json`, which has these `bytes`.
    pub(crate) fn meta_state(
        disk: &dyn Disk,
        dir: &Path,
        meta: &Meta,
        bytes: &[u8],
    ) -> io::Result<MetaState> {
        let checksums = match Self::read(disk, dir)? {
            None => return Ok(MetaState::Unknown),
            Some(None) => return Ok(MetaState::Damaged),
            Some(Some(checksums)) => checksums,
        };
        Ok(if checksums.get(META_FILE) == Some(Sum::of(bytes)) {
            MetaState::AsWritten
        } else if checksums.get(ESSENTIALS) == Some(Sum::of(&meta.essentials())) {
            MetaState::Rewritten
        } else {
            MetaState::Changed
        })
    }
}

fn decode_line(line: &str) -> Option<(&str, Sum)> {
    let mut words = line.split(' ');
    let (name, bytes, crc32c) = (words.next()?, words.next()?, words.next()?);
    let sum = Sum { bytes: bytes.parse().ok()?, crc32c: u32::from_str_radix(crc32c, 16).ok()? };
    words.next().is_none().then_some((name, sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_file() {
        let mut checksums = Checksums::default();
        // The check value of CRC-32C is that of these nine digits.
        checksums.set("chunks/000001", Sum::of(b"123456789"));
        let text = checksums.encode();
        let first = "chunks/000001 9 e3069283\n";
        let last = format!("sextant-checksums {} {:08x}\n", first.len(), crc32c(first.as_bytes()));
        assert_eq!(text, format!("{first}{last}"));
        assert_eq!(Checksums::decode(&text), Some(checksums));
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_found() {
        let mut checksums = Checksums::default();
        checksums.set("meta.json", Sum::of(b"{}"));
        checksums.set("index", Sum::of(b"index"));
        let text = checksums.encode();
        for bit in 0..text.len() * 8 {
            let mut bytes = text.clone().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let decoded = std::str::from_utf8(&bytes).ok().and_then(Checksums::decode);
            // A letter of a hexadecimal digit may change its case.
            assert!(decoded.is_none_or(|decoded| decoded == checksums), "bit {bit}");
        }
        for len in 0..text.len() {
            assert_eq!(Checksums::decode(&text[..len]), None, "{len} bytes");
        }
    }
}
