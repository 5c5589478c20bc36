//! Files as the store sees them: a [`Disk`] with just the operations it needs.
//!
//! [`OsDisk`] is the real thing, [`MemDisk`] one that can be told to fail, to tear writes and to forget what was not synced.
//! Paths are those of the caller; errors are plain [`io::Error`]s to which the caller adds the path.

mod mem;
mod os;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

pub use mem::{Fault, MemDisk};
pub use os::OsDisk;

/// A file system.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Opens an existing file for reading.
    ///
    /// # Errors
    /// What the system says, as for all that follow.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// What the system says.
    fn open_write(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Creates a file for reading and writing, empty even if it existed.
    ///
    /// # Errors
    /// What the system says.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Moves a file or directory; a file at `to` is replaced.
    ///
    /// # Errors
    /// What the system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file a second name.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::AlreadyExists`] when `to` exists.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Room on the file system that holds `path`.
    ///
    /// # Errors
    /// What the system says.
    fn space(&self, path: &Path) -> io::Result<Space>;

    /// Removes a file.
    ///
    /// # Errors
    /// What the system says.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory and all within.
    ///
    /// # Errors
    /// What the system says; some may have been removed.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Creates a directory and those above it.
    ///
    /// # Errors
    /// What the system says.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// What a directory contains, sorted by name. Names that are not UTF-8 are left out: the store writes none.
    ///
    /// # Errors
    /// What the system says.
    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>>;

    /// Makes creations, renames and removals within a directory durable.
    ///
    /// # Errors
    /// What the system says.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Creates the file if need be and takes an exclusive lock on it, held until the guard is dropped.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when another holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirLock>>;
}

/// An open file. Reads and writes carry their position, so that one file can be shared.
pub trait DiskFile: fmt::Debug + Send + Sync {
    /// Reads up to `buffer.len()` bytes at `offset`; less only at the end of the file.
    ///
    /// # Errors
    /// What the system says.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// What the system says; part of the bytes may have been written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes the content durable.
    ///
    /// # Errors
    /// What the system says. What was written since the last success may be lost, and calling again does not help.
    fn sync(&self) -> io::Result<()>;

    /// Cuts the file off, or extends it with zeros.
    ///
    /// # Errors
    /// What the system says.
    fn truncate(&self, len: u64) -> io::Result<()>;

    /// Bytes in the file.
    ///
    /// # Errors
    /// What the system says.
    fn len(&self) -> io::Result<u64>;

    /// Whether there is no byte in it.
    ///
    /// # Errors
    /// What the system says.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// Size of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes that an ordinary process may still write.
    pub available_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
}

/// A held lock; released on drop.
pub trait DirLock: fmt::Debug + Send + Sync {}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// The name within the directory.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// Reads exactly `buffer.len()` bytes at `offset`.
pub(crate) fn read_exact_at(file: &dyn DiskFile, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    if file.read_at(buffer, offset)? < buffer.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

/// Reads a whole file that must not be larger than `bytes_max`.
pub(crate) fn read_all(disk: &dyn Disk, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let file = disk.open(path)?;
    let len = file.len()?;
    if len > bytes_max {
        let text = format!("{len} bytes are more than the {bytes_max} allowed");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    let len = usize::try_from(len).map_err(|_| io::ErrorKind::InvalidData)?;
    let mut bytes = vec![0; len];
    read_exact_at(file.as_ref(), &mut bytes, 0)?;
    Ok(bytes)
}

/// Whether something exists at `path`, as its directory lists it.
pub(crate) fn exists(disk: &dyn Disk, path: &Path) -> io::Result<bool> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
        return Ok(false);
    };
    match disk.list(dir) {
        Ok(entries) => Ok(entries.iter().any(|entry| entry.name == name)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Creates a directory and those above it, so that they are there after a power cut.
pub(crate) fn create_dir_durably(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let is_missing = |dir: &&Path| {
        let listed = disk.list(dir);
        !dir.as_os_str().is_empty()
            && listed.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    };
    let missing: Vec<&Path> = path.ancestors().take_while(is_missing).collect();
    disk.create_dir_all(path)?;
    for dir in missing {
        match dir.parent() {
            Some(parent) if parent.as_os_str().is_empty() => disk.sync_dir(Path::new("."))?,
            Some(parent) => disk.sync_dir(parent)?,
            None => {}
        }
    }
    Ok(())
}

/// Writes a file front to back through a buffer.
#[derive(Debug)]
pub(crate) struct FileWriter {
    file: Arc<dyn DiskFile>,
    buffer: Vec<u8>,
    flushed: u64,
}

/// Bytes collected before they are written.
const WRITE_BUFFER_BYTES: usize = 1 << 20;

impl FileWriter {
    pub(crate) fn new(file: Arc<dyn DiskFile>) -> Self {
        Self { file, buffer: Vec::new(), flushed: 0 }
    }

    /// Bytes written so far, which is where the next go.
    pub(crate) fn position(&self) -> u64 {
        self.flushed + self.buffer.len() as u64
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= WRITE_BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    /// Adds zeros until the position is a multiple of `alignment`.
    pub(crate) fn align(&mut self, alignment: u64) -> io::Result<()> {
        let missing = self.position().next_multiple_of(alignment) - self.position();
        let missing = usize::try_from(missing).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.buffer.resize(self.buffer.len() + missing, 0);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_at(&self.buffer, self.flushed)?;
        self.flushed += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Writes what is left and makes it durable.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            self.flush()?;
        }
        self.file.sync()
    }
}
