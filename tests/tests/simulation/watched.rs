//! A disk that lets a test look at it before each operation that changes something.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use tsdb::{DirEntry, DirLock, Disk, DiskFile, MemDisk, Space};

/// What is called, with the disk as it is then.
type Look = Arc<dyn Fn(&MemDisk) + Send + Sync>;

/// See the module.
#[derive(Clone)]
pub(super) struct Watched {
    disk: MemDisk,
    look: Look,
}

impl Watched {
    /// `look` must not use the store whose disk this is.
    pub(super) fn new(disk: MemDisk, look: impl Fn(&MemDisk) + Send + Sync + 'static) -> Self {
        Self { disk, look: Arc::new(look) }
    }

    fn before(&self) -> &MemDisk {
        (self.look)(&self.disk);
        &self.disk
    }

    fn file(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(WatchedFile { file, watched: self.clone() })
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").finish_non_exhaustive()
    }
}

impl Disk for Watched {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.file(self.disk.open(path)?))
    }

    fn open_write(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.file(self.disk.open_write(path)?))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.file(self.before().create(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.before().rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.before().hard_link(from, to)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        self.disk.space(path)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.before().remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.before().remove_dir_all(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.before().create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.disk.list(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.before().sync_dir(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirLock>> {
        self.disk.lock(path)
    }
}

#[derive(Debug)]
struct WatchedFile {
    file: Arc<dyn DiskFile>,
    watched: Watched,
}

impl DiskFile for WatchedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.watched.before();
        self.file.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.watched.before();
        self.file.sync()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.watched.before();
        self.file.truncate(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}
