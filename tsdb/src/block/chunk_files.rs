//! The chunks of a block, in files of up to half a gigabyte.
//!
//! Format: `docs/formats/chunks.md`. A chunk is named by the number of its file, from 0, in the upper and its offset in the lower half
//! of a reference.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crc32c::{crc32c, crc32c_append};
use model::QueryError;

use crate::bytes::Bytes;
use crate::disk::{Disk, DiskFile, FileWriter};

pub(crate) const CHUNKS_DIR: &str = "chunks";

const MAGIC: [u8; 4] = 0x85BD_40DD_u32.to_be_bytes();
const VERSION: u8 = 1;
const FILE_HEADER: [u8; 8] = [MAGIC[0], MAGIC[1], MAGIC[2], MAGIC[3], VERSION, 0, 0, 0];
const FILE_BYTES_MAX: u64 = 512 << 20;
const CHECKSUM_BYTES: usize = 4;
/// Length and encoding in front of a chunk.
const CHUNK_HEADER_BYTES_MAX: usize = 6;

/// The encoding of float chunks.
pub(crate) const XOR: u8 = 1;

/// A longer chunk is damage: Prometheus's largest are a few kilobytes.
const CHUNK_BYTES_MAX: usize = 16 << 20;

/// What is read at once; most chunks are smaller.
const READ_BYTES: usize = 2 << 10;

/// Writes the files of a block.
#[derive(Debug)]
pub(crate) struct ChunkWriter {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    file_bytes_max: u64,
    files: u64,
    current: Option<FileWriter>,
}

impl ChunkWriter {
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: PathBuf) -> Self {
        Self { disk, dir, file_bytes_max: FILE_BYTES_MAX, files: 0, current: None }
    }

    /// Adds a XOR chunk; its reference.
    pub(crate) fn push(&mut self, chunk: &[u8]) -> io::Result<u64> {
        let mut header = Vec::with_capacity(CHUNK_HEADER_BYTES_MAX);
        crate::bytes::put_uvarint(&mut header, chunk.len() as u64);
        header.push(XOR);
        let bytes = (header.len() + chunk.len() + CHECKSUM_BYTES) as u64;
        if self.current.as_ref().is_none_or(|file| file.position() + bytes > self.file_bytes_max) {
            self.finish_file()?;
            self.files += 1;
            let path = self.dir.join(file_name(self.files));
            let mut file = FileWriter::new(self.disk.create(&path)?);
            file.write(&FILE_HEADER)?;
            self.current = Some(file);
        }
        let file = self.current.as_mut().expect("opened above");
        let reference = (self.files - 1) << 32 | file.position();
        file.write(&header)?;
        file.write(chunk)?;
        file.write(&crc32c_append(crc32c(&[XOR]), chunk).to_be_bytes())?;
        Ok(reference)
    }

    fn finish_file(&mut self) -> io::Result<()> {
        self.current.take().map_or(Ok(()), FileWriter::finish)
    }

    /// Makes the files durable.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.finish_file()?;
        self.disk.sync_dir(&self.dir)
    }
}

fn file_name(number: u64) -> String {
    format!("{number:06}")
}

/// The open files of a block.
#[derive(Debug)]
pub(crate) struct ChunkFiles {
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
        Ok(Self { files, bytes })
    }

    /// Size of all files.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads the chunk with this reference into `buffer` and checks it.
    pub(crate) fn read<'b>(
        &self,
        reference: u64,
        buffer: &'b mut Vec<u8>,
    ) -> Result<ReadChunk<'b>, QueryError> {
        let (number, offset) = (reference >> 32, reference & u64::from(u32::MAX));
        let file = usize::try_from(number).ok().and_then(|number| self.files.get(number));
        let Some(ChunkFile { path, file }) = file else {
            let reason = format!("there is no chunks file {}", number + 1);
            return Err(QueryError::Corrupt { path: String::from(CHUNKS_DIR), offset, reason });
        };
        let corrupt = |reason: &str| QueryError::Corrupt {
            path: path.clone(),
            offset,
            reason: String::from(reason),
        };
        let failed = |source| QueryError::Io { path: path.clone(), source };
        buffer.resize(READ_BYTES, 0);
        let read = file.read_at(buffer, offset).map_err(failed)?;
        let mut bytes = Bytes::new(&buffer[..read]);
        let len = bytes.uvarint_len().map_err(|_| corrupt("chunk length is malformed"))?;
        if len > CHUNK_BYTES_MAX {
            return Err(corrupt("chunk is too long"));
        }
        let start = read - bytes.len();
        let end = start + 1 + len + CHECKSUM_BYTES;
        if end > read {
            buffer.resize(end, 0);
            if file.read_at(buffer, offset).map_err(failed)? < end {
                return Err(corrupt("chunk is cut off"));
            }
        }
        let (content, checksum) = buffer[start..end].split_at(1 + len);
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
        let references = chunks.iter().map(|chunk| writer.push(chunk).unwrap()).collect();
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
        let mut buffer = vec![];
        for (reference, chunk) in references.iter().zip(&chunks) {
            let read = files.read(*reference, &mut buffer).unwrap();
            assert_eq!((read.encoding, read.bytes), (XOR, *chunk));
        }
        for wrong in [9, 1 << 33, 1 << 32 | 999_999] {
            assert!(matches!(files.read(wrong, &mut buffer), Err(QueryError::Corrupt { .. })));
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
            assert!(files.read(references[0], &mut vec![]).is_err(), "byte {at}");
        }
    }
}
