//! Reading the tables of an index from front to back.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crc32c::crc32c_append;
use model::QueryError;

use crate::bytes::{Bytes, DecodeError};
use crate::disk::{Disk, DiskFile, read_exact_at};

const LENGTH_BYTES: u64 = 4;
const CHECKSUM_BYTES: u64 = 4;

/// What is read at once.
const WINDOW_BYTES: usize = 32 << 10;

/// A larger string or series entry is damage.
pub(super) const ENTRY_BYTES_MAX: usize = 64 << 20;

/// The file of an index, with its name for errors.
#[derive(Debug)]
pub(super) struct IndexFile {
    pub(super) path: String,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) bytes: u64,
}

impl IndexFile {
    pub(super) fn open(disk: &dyn Disk, path: &Path) -> Result<Self, QueryError> {
        let text = path.display().to_string();
        let failed = |source| QueryError::Io { path: text.clone(), source };
        let file = disk.open(path).map_err(failed)?;
        let bytes = file.len().map_err(failed)?;
        Ok(Self { path: text, file, bytes })
    }

    pub(super) fn corrupt(&self, offset: u64, reason: impl Into<String>) -> QueryError {
        QueryError::Corrupt { path: self.path.clone(), offset, reason: reason.into() }
    }

    pub(super) fn failed(&self, source: io::Error) -> QueryError {
        QueryError::Io { path: self.path.clone(), source }
    }

    pub(super) fn read_exact(&self, buffer: &mut [u8], offset: u64) -> Result<(), QueryError> {
        read_exact_at(self.file.as_ref(), buffer, offset).map_err(|source| {
            if source.kind() == io::ErrorKind::UnexpectedEof {
                self.corrupt(offset, "file ends too early")
            } else {
                self.failed(source)
            }
        })
    }

    /// The content of the section at `offset`, after its length and before its checksum.
    pub(super) fn section(&self, offset: u64) -> Result<Range<u64>, QueryError> {
        let mut length = [0; 4];
        self.read_exact(&mut length, offset)?;
        let start = offset + LENGTH_BYTES;
        let end = start + u64::from(u32::from_be_bytes(length));
        if end + CHECKSUM_BYTES > self.bytes {
            return Err(self.corrupt(offset, "section is too long"));
        }
        Ok(start..end)
    }
}

/// Entries of a table read one after another.
pub(super) struct Scan<'r> {
    file: &'r IndexFile,
    end: u64,
    window: Vec<u8>,
    /// Position of the window in the file.
    window_at: u64,
    /// Position in the window.
    at: usize,
    /// Of what was read so far, where that is wanted.
    checksum: Option<u32>,
}

impl<'r> Scan<'r> {
    /// Reads from `start` to `end`, without checking.
    pub(super) const fn new(file: &'r IndexFile, range: Range<u64>) -> Self {
        let Range { start, end } = range;
        Self { file, end, window: Vec::new(), window_at: start, at: 0, checksum: None }
    }

    /// Reads the content of a section whose checksum [`verify`](Self::verify) compares in the end.
    pub(super) const fn checked(file: &'r IndexFile, section: Range<u64>) -> Self {
        let mut scan = Self::new(file, section);
        scan.checksum = Some(0);
        scan
    }

    /// Where the next entry starts.
    pub(super) fn position(&self) -> u64 {
        self.window_at + self.at as u64
    }

    /// Decodes one entry with `decode`, which is called again with more bytes after [`DecodeError::End`].
    pub(super) fn entry<T>(
        &mut self,
        mut decode: impl FnMut(&mut Bytes<'_>) -> Result<T, DecodeError>,
    ) -> Result<T, QueryError> {
        let mut wanted = WINDOW_BYTES;
        loop {
            let rest = &self.window[self.at..];
            let mut bytes = Bytes::new(rest);
            match decode(&mut bytes) {
                Ok(entry) => {
                    let taken = rest.len() - bytes.len();
                    if let Some(checksum) = &mut self.checksum {
                        *checksum = crc32c_append(*checksum, &rest[..taken]);
                    }
                    self.at += taken;
                    return Ok(entry);
                }
                Err(DecodeError::End)
                    if self.position() + (rest.len() as u64) < self.end
                        && wanted <= ENTRY_BYTES_MAX =>
                {
                    self.refill(wanted)?;
                    wanted *= 2;
                }
                Err(error) => return Err(self.file.corrupt(self.position(), error.to_string())),
            }
        }
    }

    fn refill(&mut self, wanted: usize) -> Result<(), QueryError> {
        let start = self.position();
        let left = usize::try_from(self.end - start).unwrap_or(usize::MAX);
        self.window.resize(wanted.min(left), 0);
        (self.window_at, self.at) = (start, 0);
        self.file.read_exact(&mut self.window, start)
    }

    pub(super) fn is_done(&self) -> bool {
        self.position() >= self.end
    }

    /// Compares the checksum behind the section with that of all that was read, which must be all there is.
    pub(super) fn verify(&self) -> Result<(), QueryError> {
        let mut stored = [0; 4];
        self.file.read_exact(&mut stored, self.end)?;
        if self.position() != self.end || self.checksum.map(u32::to_be_bytes) != Some(stored) {
            return Err(self.file.corrupt(self.end, "checksum mismatch in a table"));
        }
        Ok(())
    }
}
