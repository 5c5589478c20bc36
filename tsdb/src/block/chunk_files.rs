//! The chunks of a block, in files of up to half a gigabyte.
//!
//! Format: `docs/formats/chunks.md`. A chunk is named by the number of its file, from 0, in the upper and its offset in the lower half
//! of a reference.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crc32c::{crc32c, crc32c_append};
use model::QueryError;

use super::checksums::{Sum, SummedWriter};
use super::window::Window;
use crate::bytes::Bytes;
use crate::disk::{Disk, DiskFile};

pub(crate) const CHUNKS_DIR: &str = "chunks";

const MAGIC: [u8; 4] = 0x85BD_40DD_u32.to_be_bytes();
const VERSION: u8 = 1;
const FILE_HEADER: [u8; 8] = [MAGIC[0], MAGIC[1], MAGIC[2], MAGIC[3], VERSION, 0, 0, 0];
const FILE_BYTES_MAX: u64 = 512 << 20;
const CHECKSUM_BYTES: usize = 4;
/// Length and encoding in front of a chunk.
const CHUNK_HEADER_BYTES_MAX: usize = 6;
/// Bytes of the longest length in front of a chunk.
const LENGTH_BYTES_MAX: usize = 10;

/// A longer chunk is damage: Prometheus's largest are a few kilobytes.
const CHUNK_BYTES_MAX: usize = 16 << 20;

/// What is read at least; most chunks are smaller.
const READ_BYTES: usize = 2 << 10;

/// Writes the files of a block.
#[derive(Debug)]
pub(crate) struct ChunkWriter {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    file_bytes_max: u64,
    files: u64,
    current: Option<SummedWriter>,
    sums: Vec<(String, Sum)>,
}

impl ChunkWriter {
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: PathBuf) -> Self {
        Self {
            disk,
            dir,
            file_bytes_max: FILE_BYTES_MAX,
            files: 0,
            current: None,
            sums: Vec::new(),
        }
    }

    /// Adds a chunk; its reference.
    pub(crate) fn push(&mut self, encoding: u8, chunk: &[u8]) -> io::Result<u64> {
        let mut header = Vec::with_capacity(CHUNK_HEADER_BYTES_MAX);
        crate::bytes::put_uvarint(&mut header, chunk.len() as u64);
        header.push(encoding);
        let bytes = (header.len() + chunk.len() + CHECKSUM_BYTES) as u64;
        if self.current.as_ref().is_none_or(|file| file.position() + bytes > self.file_bytes_max) {
            self.finish_file()?;
            self.files += 1;
            let path = self.dir.join(file_name(self.files));
            let mut file = SummedWriter::new(self.disk.create(&path)?);
            file.write(&FILE_HEADER)?;
            self.current = Some(file);
        }
        let file = self.current.as_mut().expect("opened above");
        let reference = (self.files - 1) << 32 | file.position();
        file.write(&header)?;
        file.write(chunk)?;
        file.write(&crc32c_append(crc32c(&[encoding]), chunk).to_be_bytes())?;
        Ok(reference)
    }

    fn finish_file(&mut self) -> io::Result<()> {
        if let Some(file) = self.current.take() {
            let name = format!("{CHUNKS_DIR}/{}", file_name(self.files));
            self.sums.push((name, file.finish()?));
        }
        Ok(())
    }

    /// Makes the files durable; they are named within the block.
    pub(crate) fn finish(mut self) -> io::Result<Vec<(String, Sum)>> {
        self.finish_file()?;
        self.disk.sync_dir(&self.dir)?;
        Ok(self.sums)
    }
}

fn file_name(number: u64) -> String {
    format!("{number:06}")
}

/// The open files of a block.
#[derive(Debug)]
pub(crate) struct ChunkFiles {
    dir: String,
    files: Vec<ChunkFile>,
    bytes: u64,
}

#[derive(Debug)]
struct ChunkFile {
    path: String,
    file: Arc<dyn DiskFile>,
}

/// A chunk as it was read.
#[derive(Debug)]
pub(crate) struct ReadChunk<'b> {
    pub(crate) encoding: u8,
    pub(crate) bytes: &'b [u8],
}

impl ChunkFiles {
    /// Opens the files in `dir` and checks their headers.
    pub(crate) fn open(disk: &dyn Disk, dir: &Path) -> io::Result<Self> {
        let mut files = Vec::new();
        let mut bytes = 0;
        for entry in disk.list(dir)? {
            let number = files.len() as u64 + 1;
            if entry.name.parse() != Ok(number) {
                let text = format!("{} is not file number {number}", entry.name);
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            let path = dir.join(&entry.name);
            let file = disk.open(&path)?;
            let mut header = [0; FILE_HEADER.len()];
            let read = file.read_at(&mut header, 0)?;
            if read < header.len() || header[..5] != FILE_HEADER[..5] {
                let text = format!("{}: not a chunks file of version {VERSION}", entry.name);
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            bytes += file.len()?;
            files.push(ChunkFile { path: path.display().to_string(), file });
        }
        Ok(Self { dir: dir.display().to_string(), files, bytes })
    }

    /// Size of all files.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Says what is wrong with the chunk with this reference.
    pub(crate) fn corrupt(&self, reference: u64, reason: impl Into<String>) -> QueryError {
        let (number, offset) = (reference >> 32, reference & u64::from(u32::MAX));
        let file = usize::try_from(number).ok().and_then(|number| self.files.get(number));
        let path = file.map_or_else(|| self.dir.clone(), |file| file.path.clone());
        QueryError::Corrupt { path, offset, reason: reason.into() }
    }

    /// For reading chunks, up to `ahead_max` bytes at once when they follow each other.
    pub(crate) fn cursor(&self, ahead_max: usize) -> ChunkCursor<'_> {
        self.cursor_at(ReadPosition::new(ahead_max))
    }

    /// Goes on where another cursor of these files stopped.
    pub(crate) const fn cursor_at(&self, position: ReadPosition) -> ChunkCursor<'_> {
        ChunkCursor { files: self, position }
    }
}

/// Where a cursor is, and what it has read ahead.
#[derive(Debug)]
pub(crate) struct ReadPosition {
    window: Window,
    /// The file that the window is of.
    number: u64,
}

impl ReadPosition {
    /// At the start, reading up to `ahead_max` bytes at once.
    pub(crate) const fn new(ahead_max: usize) -> Self {
        Self { window: Window::new(READ_BYTES, ahead_max), number: 0 }
    }
}

/// Reads chunks, cheaply when they follow each other.
#[derive(Debug)]
pub(crate) struct ChunkCursor<'c> {
    files: &'c ChunkFiles,
    position: ReadPosition,
}

impl ChunkCursor<'_> {
    /// For another cursor to go on.
    pub(crate) fn into_position(self) -> ReadPosition {
        self.position
    }

    /// Makes ready for the chunks of one series, which follow each other from `first` to `last`.
    pub(crate) fn expect(&mut self, first: u64, last: u64) {
        let span = last.checked_sub(first).and_then(|span| usize::try_from(span).ok());
        self.position.window.expect(span.unwrap_or(0).saturating_add(READ_BYTES));
    }

    /// Says what is wrong with the chunk with this reference.
    pub(crate) fn corrupt(&self, reference: u64, reason: impl Into<String>) -> QueryError {
        self.files.corrupt(reference, reason)
    }

    /// Reads the chunk with this reference and checks it.
    pub(crate) fn read(&mut self, reference: u64) -> Result<ReadChunk<'_>, QueryError> {
        let Self { files, position: ReadPosition { window, number: window_of } } = self;
        let (number, offset) = (reference >> 32, reference & u64::from(u32::MAX));
        let corrupt = |reason: &str| files.corrupt(reference, reason);
        let file = usize::try_from(number).ok().and_then(|number| files.files.get(number));
        let Some(ChunkFile { path, file }) = file else {
            return Err(corrupt(&format!("there is no chunks file {}", number + 1)));
        };
        if *window_of != number {
            window.forget();
            *window_of = number;
        }
        let failed = |source| QueryError::Io { path: path.clone(), source };
        let start = window.get(file.as_ref(), offset, LENGTH_BYTES_MAX).map_err(failed)?;
        let mut bytes = Bytes::new(start);
        let len = bytes.uvarint_len().map_err(|_| corrupt("chunk length is malformed"))?;
        if len > CHUNK_BYTES_MAX {
            return Err(corrupt("chunk is too long"));
        }
        let prefix = start.len() - bytes.len();
        let end = prefix + 1 + len + CHECKSUM_BYTES;
        let read = window.get(file.as_ref(), offset, end).map_err(failed)?;
        let read = read.get(prefix..end).ok_or_else(|| corrupt("chunk is cut off"))?;
        let (content, checksum) = read.split_at(1 + len);
        if crc32c(content).to_be_bytes() != checksum {
            return Err(corrupt("checksum mismatch in chunk"));
        }
        Ok(ReadChunk { encoding: content[0], bytes: &content[1..] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemDisk;

    fn written(chunks: &[&[u8]], file_bytes_max: u64) -> (MemDisk, Vec<u64>) {
        let disk = MemDisk::new();
        disk.create_dir_all(Path::new("/c")).unwrap();
        let mut writer = ChunkWriter::new(Arc::new(disk.clone()), "/c".into());
        writer.file_bytes_max = file_bytes_max;
        let references = chunks.iter().map(|chunk| writer.push(1, chunk).unwrap()).collect();
        writer.finish().unwrap();
        (disk, references)
    }

    #[test]
    fn golden_file() {
        let (disk, references) = written(&[b"23456789"], FILE_BYTES_MAX);
        assert_eq!(references, [8]);
        let mut expected = b"\x85\xbd\x40\xdd\x01\0\0\0\x08\x0123456789".to_vec();
        expected.extend(crc32c(b"\x0123456789").to_be_bytes());
        assert_eq!(disk.read(Path::new("/c/000001")).unwrap(), expected);
    }

    #[test]
    fn chunks_are_read_back_from_several_files() {
        let large = vec![7; 5000];
        let chunks: Vec<&[u8]> = vec![b"one", &large, b"two", &[9; 3000]];
        let (disk, references) = written(&chunks, 6000);
        assert_eq!(references[2] >> 32, 0);
        assert_eq!(references[3], 1 << 32 | 8);
        let files = ChunkFiles::open(&disk, Path::new("/c")).unwrap();
        let mut cursor = files.cursor(4 << 10);
        let order = [0, 1, 2, 3, 1, 0, 3, 2];
        for (reference, chunk) in order.map(|i| (&references[i], &chunks[i])) {
            let read = cursor.read(*reference).unwrap();
            assert_eq!((read.encoding, read.bytes), (1, *chunk));
        }
        for wrong in [9, 1 << 33, 1 << 32 | 999_999] {
            assert!(matches!(cursor.read(wrong), Err(QueryError::Corrupt { .. })));
        }
    }

    #[test]
    fn every_flipped_byte_of_a_chunk_is_found() {
        let (disk, references) = written(&[b"one chunk", b"another"], FILE_BYTES_MAX);
        let path = Path::new("/c/000001");
        let bytes = disk.read(path).unwrap();
        for at in 8..22 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            disk.overwrite(path, &flipped).unwrap();
            let files = ChunkFiles::open(&disk, Path::new("/c")).unwrap();
            assert!(files.cursor(64).read(references[0]).is_err(), "byte {at}");
        }
    }
}
