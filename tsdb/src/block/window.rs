//! A stretch of a file kept in memory, so that reading forwards takes few calls.

use std::io;

use crate::disk::DiskFile;

/// Bytes of one file that were read last. Reading forwards doubles what is read at once, a jump makes it small again.
#[derive(Debug)]
pub(crate) struct Window {
    bytes: Vec<u8>,
    at: u64,
    ahead: usize,
    ahead_min: usize,
    ahead_max: usize,
    /// What the caller said that it would want next.
    expected: usize,
}

impl Window {
    /// One that reads between `ahead_min` and `ahead_max` bytes at once, or more where more is asked for.
    pub(crate) const fn new(ahead_min: usize, ahead_max: usize) -> Self {
        Self { bytes: Vec::new(), at: 0, ahead: ahead_min, ahead_min, ahead_max, expected: 0 }
    }

    /// Makes the next read `bytes` long, within the bounds: the caller knows that it will want them.
    pub(crate) fn expect(&mut self, bytes: usize) {
        self.expected = bytes.min(self.ahead_max);
    }

    /// Forgets what it holds: from now on it is of another file.
    pub(crate) fn forget(&mut self) {
        self.bytes.clear();
    }

    /// The bytes of `file` from `offset` on: at least `len` of them unless the file ends before, perhaps more.
    pub(crate) fn get(
        &mut self,
        file: &dyn DiskFile,
        offset: u64,
        len: usize,
    ) -> io::Result<&[u8]> {
        let start = offset.checked_sub(self.at).and_then(|start| usize::try_from(start).ok());
        let covered = |start: &usize| self.bytes.len().saturating_sub(*start) >= len.max(1);
        if let Some(start) = start.filter(covered) {
            return Ok(&self.bytes[start..]);
        }
        let reach = self.bytes.len() + self.ahead;
        let forward = start.is_some_and(|start| start <= reach);
        self.ahead = if forward { (self.ahead * 2).min(self.ahead_max) } else { self.ahead_min };
        let wanted = len.max(self.ahead).max(std::mem::take(&mut self.expected));
        self.bytes.resize(wanted, 0);
        let read = file.read_at(&mut self.bytes, offset);
        // Nothing of the old bytes must be taken for those at another position.
        self.bytes.truncate(*read.as_ref().unwrap_or(&0));
        self.at = offset;
        read.map(|_| self.bytes.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::disk::{Disk, MemDisk};

    #[test]
    fn any_order_of_reads_gives_the_file() {
        let disk = MemDisk::new();
        let file = disk.create(Path::new("/f")).unwrap();
        let content: Vec<u8> = (0..10_000_u32).map(|i| (i * 7 % 251).to_le_bytes()[0]).collect();
        file.write_at(&content, 0).unwrap();
        let mut window = Window::new(16, 256);
        let mut check = |offset: usize, len: usize| {
            let got = window.get(file.as_ref(), offset as u64, len).unwrap();
            let rest = &content[offset.min(content.len())..];
            assert!(got.len() >= len.min(rest.len()), "{len} bytes at {offset}");
            assert_eq!(got, &rest[..got.len()], "{len} bytes at {offset}");
        };
        (0..1000).for_each(|i| check(i * 10, 12));
        (0..1000).for_each(|i| check(i * 7919 % 10_007, i % 400));
        (0..300).rev().for_each(|i| check(i * 33, 5));
        check(20_000, 1);
    }
}
