//! Full chunks of the head, in files.
//!
//! Format: `docs/formats/head_chunks.md`, Prometheus's. A full chunk costs no memory but its number in the list of its series: its bytes go to a
//! file at once, through a buffer of a few dozen kilobytes. What a disk does not take stays in memory, and is tried again; the write-ahead log
//! has all samples anyway, so these files may be lost at any time.
//!
//! Readers hold the table of files, not the head's lock, while they read.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crc32c::crc32c;
use model::{QueryError, TimeRange, Timestamp};
use parking_lot::RwLock;

use super::append::range_end;
use crate::bytes::{Bytes, DecodeError, put_uvarint};
use crate::disk::{Disk, DiskFile};

/// The folder in the data directory.
pub(crate) const CHUNKS_HEAD_DIR: &str = "chunks_head";

const MAGIC: u32 = 0x0130_BC91;
const VERSION: u8 = 1;
pub(crate) const FILE_HEADER_BYTES: usize = 8;
const FILE_BYTES_MAX: u64 = 128 << 20;
/// Bytes collected before they are written.
const TAIL_BYTES: usize = 64 << 10;
/// Series, first and last time, encoding.
const FIXED_BYTES: usize = 8 + 8 + 8 + 1;
const CHECKSUM_BYTES: usize = 4;
/// Set in the encoding of chunks with samples that came out of order.
const OUT_OF_ORDER: u8 = 0x80;
/// What is read at once; most chunks are smaller.
const READ_BYTES: usize = 512;
/// A longer chunk is damage.
const CHUNK_BYTES_MAX: u64 = 16 << 20;

/// A full chunk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadChunk<'b> {
    pub(crate) series: u64,
    pub(crate) range: TimeRange,
    pub(crate) encoding: u8,
    pub(crate) is_out_of_order: bool,
    /// The chunk as it stands in a block.
    pub(crate) bytes: &'b [u8],
}

/// Where a chunk is: the number of its file in the upper and its offset in the lower half.
const fn reference(file: u32, offset: u64) -> u64 {
    (file as u64) << 32 | offset
}

/// The number of the file in a reference.
pub(crate) fn file_of(reference: u64) -> u32 {
    u32::try_from(reference >> 32).unwrap_or(u32::MAX)
}

/// One file.
#[derive(Debug)]
struct ChunkFile {
    number: u32,
    path: PathBuf,
    state: RwLock<FileState>,
}

#[derive(Debug, Default)]
struct FileState {
    /// `None` until the disk takes it.
    file: Option<Arc<dyn DiskFile>>,
    /// Bytes in the file.
    written: u64,
    /// What follows them.
    tail: Vec<u8>,
    /// Bytes known to be durable.
    synced: u64,
    /// Whether its name is.
    is_named: bool,
    max_time: Timestamp,
}

/// The files, for readers.
#[derive(Clone, Debug, Default)]
pub(crate) struct ChunkTable {
    /// Ascending, without gaps.
    files: Vec<Arc<ChunkFile>>,
}

/// What is known of the chunks of one block range.
#[derive(Clone, Copy, Debug)]
struct RangeStatistics {
    min_time: Timestamp,
    chunks: u64,
}

/// All full chunks.
#[derive(Debug)]
pub(crate) struct ChunkStore {
    /// `None`: everything stays in memory.
    place: Option<(Arc<dyn Disk>, PathBuf)>,
    table: Arc<ChunkTable>,
    next_number: u32,
    file_bytes_max: u64,
    /// By the end, exclusive, of the block range.
    ranges: BTreeMap<Timestamp, RangeStatistics>,
    /// Of the newest file, the latest range end of its chunks.
    newest_end: Timestamp,
    failures: u64,
}

/// What must be durable before something refers to the chunks.
#[derive(Debug, Default)]
pub(crate) struct ChunkSync {
    files: Vec<FileSync>,
    /// If not all of their names are durable.
    dir: Option<(Arc<dyn Disk>, PathBuf)>,
}

#[derive(Debug)]
struct FileSync {
    file: Arc<ChunkFile>,
    handle: Arc<dyn DiskFile>,
    /// Bytes that must be durable; more may follow meanwhile.
    written: u64,
}

impl ChunkSync {
    /// Syncs; takes as long as the disk does.
    ///
    /// # Errors
    /// What the system says. What was not synced is planned again.
    pub(crate) fn run(self) -> io::Result<()> {
        for FileSync { file, handle, written } in &self.files {
            handle.sync()?;
            let mut state = file.state.write();
            state.synced = state.synced.max(*written);
        }
        if let Some((disk, dir)) = self.dir {
            disk.sync_dir(&dir)?;
            for FileSync { file, .. } in &self.files {
                file.state.write().is_named = true;
            }
        }
        Ok(())
    }
}

impl ChunkFile {
    /// Writes the tail. A file that cannot be created or written keeps it.
    fn flush(&self, disk: &dyn Disk) -> io::Result<()> {
        let mut state = self.state.write();
        if state.tail.is_empty() {
            return Ok(());
        }
        let file = match &state.file {
            Some(file) => Arc::clone(file),
            None => {
                let file = disk.create(&self.path)?;
                state.file = Some(Arc::clone(&file));
                file
            }
        };
        file.write_at(&state.tail, state.written)?;
        state.written += state.tail.len() as u64;
        state.tail.clear();
        Ok(())
    }

    fn len(&self) -> u64 {
        let state = self.state.read();
        state.written + state.tail.len() as u64
    }

    /// Reads up to `buffer.len()` bytes at `offset`.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let (file, written) = {
            let state = self.state.read();
            if let Some(start) = offset.checked_sub(state.written) {
                let start = usize::try_from(start).unwrap_or(usize::MAX);
                let rest = state.tail.get(start..).unwrap_or_default();
                let len = rest.len().min(buffer.len());
                buffer[..len].copy_from_slice(&rest[..len]);
                return Ok(len);
            }
            (state.file.clone(), state.written)
        };
        // Whole chunks are written, so none begins before `written` and ends after it.
        let len = usize::try_from(written - offset).unwrap_or(usize::MAX).min(buffer.len());
        file.map_or(Ok(0), |file| file.read_at(&mut buffer[..len], offset))
    }
}

impl ChunkTable {
    fn file(&self, number: u32) -> Option<&ChunkFile> {
        let first = self.files.first()?.number;
        self.files.get(number.checked_sub(first)? as usize).map(Arc::as_ref)
    }

    /// Reads the chunk with this reference into `buffer` and checks it; `None` when its file is gone.
    pub(crate) fn read<'b>(
        &self,
        reference: u64,
        buffer: &'b mut Vec<u8>,
    ) -> Result<Option<HeadChunk<'b>>, QueryError> {
        let Some(file) = self.file(file_of(reference)) else { return Ok(None) };
        let offset = reference & u64::from(u32::MAX);
        let failed = |source| QueryError::Io { path: file.path.display().to_string(), source };
        let corrupt = |reason: &str| QueryError::Corrupt {
            path: file.path.display().to_string(),
            offset,
            reason: String::from(reason),
        };
        buffer.resize(READ_BYTES, 0);
        let read = file.read_at(buffer, offset).map_err(failed)?;
        let len = entry_len(&buffer[..read]).ok_or_else(|| corrupt("head chunk is cut off"))?;
        buffer.resize(len, 0);
        if len > read {
            let more = file.read_at(buffer, offset).map_err(failed)?;
            if more < len {
                return Err(corrupt("head chunk is cut off"));
            }
        }
        decode_entry(buffer).map(Some).map_err(corrupt)
    }

    /// Bytes held in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.files.iter().map(|file| file.state.read().tail.capacity()).sum()
    }
}

/// Length of the entry at the start of `bytes`, which may be cut off after its header.
fn entry_len(bytes: &[u8]) -> Option<usize> {
    let mut rest = Bytes::new(bytes.get(FIXED_BYTES..)?);
    let before = rest.len();
    let len = rest.uvarint().ok().filter(|&len| len <= CHUNK_BYTES_MAX)?;
    let header = FIXED_BYTES + before - rest.len();
    Some(header + usize::try_from(len).ok()? + CHECKSUM_BYTES)
}

/// A whole entry.
fn decode_entry(entry: &[u8]) -> Result<HeadChunk<'_>, &'static str> {
    const CUT_OFF: &str = "head chunk is cut off";
    let (content, checksum) = entry.split_last_chunk::<CHECKSUM_BYTES>().ok_or(CUT_OFF)?;
    if crc32c(content).to_be_bytes() != *checksum {
        return Err("checksum mismatch in a head chunk");
    }
    let mut bytes = Bytes::new(content);
    let mut decode = || {
        let series = bytes.be64()?;
        let range = TimeRange::new(bytes.be64()?.cast_signed(), bytes.be64()?.cast_signed());
        let encoding = bytes.u8()?;
        let len = bytes.uvarint_len()?;
        Ok((series, range, encoding, bytes.take(len)?))
    };
    let decoded: Result<_, DecodeError> = decode();
    let (series, range, encoding, bytes) = decoded.map_err(|_| CUT_OFF)?;
    Ok(HeadChunk {
        series,
        range,
        encoding: encoding & !OUT_OF_ORDER,
        is_out_of_order: encoding & OUT_OF_ORDER != 0,
        bytes,
    })
}

fn put_entry(into: &mut Vec<u8>, chunk: &HeadChunk<'_>, header: &[u8]) {
    let start = into.len();
    into.extend_from_slice(&chunk.series.to_be_bytes());
    into.extend_from_slice(&chunk.range.min.to_be_bytes());
    into.extend_from_slice(&chunk.range.max.to_be_bytes());
    into.push(chunk.encoding | if chunk.is_out_of_order { OUT_OF_ORDER } else { 0 });
    put_uvarint(into, (header.len() + chunk.bytes.len()) as u64);
    into.extend_from_slice(header);
    into.extend_from_slice(chunk.bytes);
    let checksum = crc32c(&into[start..]);
    into.extend_from_slice(&checksum.to_be_bytes());
}

impl ChunkStore {
    /// An empty store. With a `place`, chunks go to files in that folder, which exists, from number `next_number` on.
    pub(crate) fn new(place: Option<(Arc<dyn Disk>, PathBuf)>, next_number: u32) -> Self {
        Self {
            place,
            table: Arc::default(),
            next_number: next_number.max(1),
            file_bytes_max: FILE_BYTES_MAX,
            ranges: BTreeMap::new(),
            newest_end: Timestamp::MIN,
            failures: 0,
        }
    }

    /// The files, to read from without the head.
    pub(crate) fn table(&self) -> Arc<ChunkTable> {
        Arc::clone(&self.table)
    }

    /// Keeps a chunk of the block range that ends at `end`; its reference. The content is `header` and then the chunk's bytes.
    pub(crate) fn push(&mut self, end: Timestamp, chunk: &HeadChunk<'_>, header: &[u8]) -> u64 {
        let bytes = FIXED_BYTES + 10 + header.len() + chunk.bytes.len() + CHECKSUM_BYTES;
        let fits = self.table.files.last().is_some_and(|file| {
            file.len() + bytes as u64 <= self.file_bytes_max && end <= self.newest_end
        });
        if !fits {
            self.add_file(end);
        }
        let file = self.table.files.last().expect("added above");
        let (offset, tail) = {
            let mut state = file.state.write();
            let offset = state.written + state.tail.len() as u64;
            put_entry(&mut state.tail, chunk, header);
            state.max_time = state.max_time.max(chunk.range.max);
            (offset, state.tail.len())
        };
        let reference = reference(file.number, offset);
        if !chunk.is_out_of_order {
            self.count(end, chunk.range);
        }
        // After a failure only whole multiples are tried, not every chunk.
        if tail >= TAIL_BYTES && (self.failures == 0 || tail % (16 * TAIL_BYTES) < bytes) {
            self.flush_file(self.table.files.len() - 1);
        }
        reference
    }

    fn add_file(&mut self, end: Timestamp) {
        if let Some(last) = self.table.files.len().checked_sub(1) {
            self.flush_file(last);
        }
        let number = self.next_number;
        self.next_number += 1;
        let mut tail = Vec::with_capacity(if self.place.is_some() { TAIL_BYTES * 2 } else { 0 });
        tail.extend_from_slice(&MAGIC.to_be_bytes());
        tail.extend_from_slice(&[VERSION, 0, 0, 0]);
        let dir = self.place.as_ref().map_or_else(PathBuf::new, |(_, dir)| dir.clone());
        let path = dir.join(file_name(number));
        let state = FileState { tail, max_time: Timestamp::MIN, ..FileState::default() };
        let file = Arc::new(ChunkFile { number, path, state: RwLock::new(state) });
        Arc::make_mut(&mut self.table).files.push(file);
        self.newest_end = end;
    }

    fn flush_file(&mut self, at: usize) {
        let Some((disk, _)) = &self.place else { return };
        let file = &self.table.files[at];
        match file.flush(disk.as_ref()) {
            Ok(()) => self.failures = 0,
            Err(error) => {
                if self.failures == 0 {
                    tracing::warn!(
                        path = %file.path.display(), %error,
                        "cannot write full chunks of the head, they stay in memory"
                    );
                }
                self.failures += 1;
            }
        }
    }

    /// Writes what is still in memory, if the disk takes it.
    pub(crate) fn flush(&mut self) {
        for at in 0..self.table.files.len() {
            self.flush_file(at);
        }
        // Memory that a full disk made necessary is given back.
        for file in &self.table.files {
            let mut state = file.state.write();
            if state.tail.is_empty() {
                state.tail.shrink_to(TAIL_BYTES * 2);
            }
        }
    }

    /// What must be durable before a snapshot may refer to the chunks pushed so far.
    ///
    /// # Errors
    /// When the disk does not take all of them.
    pub(crate) fn plan_sync(&mut self) -> io::Result<ChunkSync> {
        self.flush();
        let mut plan = ChunkSync::default();
        for file in &self.table.files {
            let state = file.state.read();
            let handle = state.file.as_ref().filter(|_| state.tail.is_empty());
            let handle = handle
                .ok_or_else(|| io::Error::other("head chunks are still in memory"))
                .map(Arc::clone)?;
            if state.synced < state.written || !state.is_named {
                let (file, written) = (Arc::clone(file), state.written);
                plan.files.push(FileSync { file, handle, written });
            }
            if !state.is_named {
                plan.dir.clone_from(&self.place);
            }
        }
        Ok(plan)
    }

    /// Appends what a snapshot says of the files and block ranges.
    pub(crate) fn encode(&self, into: &mut Vec<u8>) {
        put_uvarint(into, self.table.files.len() as u64);
        for file in &self.table.files {
            let state = file.state.read();
            into.extend_from_slice(&file.number.to_be_bytes());
            into.extend_from_slice(&state.written.to_be_bytes());
            into.extend_from_slice(&state.max_time.to_be_bytes());
        }
        put_uvarint(into, self.ranges.len() as u64);
        for (end, range) in &self.ranges {
            into.extend_from_slice(&end.to_be_bytes());
            into.extend_from_slice(&range.min_time.to_be_bytes());
            into.extend_from_slice(&range.chunks.to_be_bytes());
        }
    }

    /// Takes over the files that a snapshot names. Those at its beginning may be gone, if blocks have what was in them: all before `min_valid`.
    /// Block ranges are `width` long.
    ///
    /// # Errors
    /// When a file is missing or shorter than the snapshot says, or the earliest sample of a block range is outside of it, which would be cut
    /// without end; the store is not to be used then.
    pub(crate) fn adopt(
        &mut self,
        bytes: &mut Bytes<'_>,
        width: i64,
        min_valid: Timestamp,
    ) -> io::Result<()> {
        let malformed = |error: DecodeError| io::Error::new(io::ErrorKind::InvalidData, error);
        for _ in 0..bytes.uvarint_len().map_err(malformed)? {
            let number = bytes.be32().map_err(malformed)?;
            let written = bytes.be64().map_err(malformed)?;
            let max_time = bytes.be64().map_err(malformed)?.cast_signed();
            match self.adopt_file(number, written, max_time) {
                Err(error)
                    if error.kind() == io::ErrorKind::NotFound
                        && self.table.files.is_empty()
                        && max_time < min_valid =>
                {
                    // Its number is not given to another: the snapshot still refers to chunks in it.
                    self.next_number = self.next_number.max(number.saturating_add(1));
                }
                adopted => adopted?,
            }
        }
        for _ in 0..bytes.uvarint_len().map_err(malformed)? {
            let end = bytes.be64().map_err(malformed)?.cast_signed();
            let min_time = bytes.be64().map_err(malformed)?.cast_signed();
            let chunks = bytes.be64().map_err(malformed)?;
            if range_end(min_time, width) != end {
                return Err(malformed(DecodeError::Invalid("block range has samples of another")));
            }
            self.ranges.insert(end, RangeStatistics { min_time, chunks });
            self.newest_end = self.newest_end.max(end);
        }
        Ok(())
    }

    fn adopt_file(&mut self, number: u32, bytes: u64, max_time: Timestamp) -> io::Result<()> {
        let Some((disk, dir)) = &self.place else { return Ok(()) };
        let path = dir.join(file_name(number));
        let file = disk.open_write(&path)?;
        if file.len()? < bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let state = FileState {
            file: Some(file),
            written: bytes,
            tail: Vec::new(),
            synced: bytes,
            is_named: true,
            max_time,
        };
        let file = Arc::new(ChunkFile { number, path, state: RwLock::new(state) });
        Arc::make_mut(&mut self.table).files.push(file);
        self.next_number = self.next_number.max(number.saturating_add(1));
        Ok(())
    }

    /// Cuts off what adopted files have beyond what the snapshot knows: the replay writes it again.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn cut_adopted(&self) -> io::Result<()> {
        for file in &self.table.files {
            let state = file.state.read();
            if let Some(handle) = &state.file
                && handle.len()? > state.written
            {
                handle.truncate(state.written)?;
            }
        }
        Ok(())
    }

    /// Whether a file of this number is in use.
    pub(crate) fn has_file(&self, number: u32) -> bool {
        self.table.file(number).is_some()
    }

    /// Forgets the chunks of block ranges that end at or before `t`, and removes the files in which there are no others. Files go from the oldest
    /// on: Prometheus refuses gaps in their numbers. Those from `late_from` on have late samples and stay.
    pub(crate) fn drop_before(&mut self, t: Timestamp, late_from: Option<u32>) {
        self.ranges.retain(|end, _| *end > t);
        let old = |file: &Arc<ChunkFile>| {
            file.state.read().max_time < t && late_from.is_none_or(|late| file.number < late)
        };
        let dropped = self.table.files.iter().take_while(|file| old(file)).count();
        for file in Arc::make_mut(&mut self.table).files.drain(..dropped) {
            let exists = file.state.read().file.is_some();
            if let Some((disk, _)) = self.place.as_ref().filter(|_| exists)
                && let Err(error) = disk.remove_file(&file.path)
            {
                tracing::warn!(path = %file.path.display(), %error, "cannot remove head chunks");
            }
        }
    }

    /// The number of the first file that is still there; of the next, if there is none.
    pub(crate) fn first_file(&self) -> u32 {
        self.table.files.first().map_or(self.next_number, |file| file.number)
    }

    /// Time of the earliest sample in any chunk whose block range ends after `t`.
    pub(crate) fn min_time_after(&self, t: Timestamp) -> Option<Timestamp> {
        self.ranges.iter().filter(|(end, _)| **end > t).map(|(_, range)| range.min_time).min()
    }

    /// The ends, exclusive, of the block ranges that have chunks.
    pub(crate) fn range_ends(&self) -> impl Iterator<Item = Timestamp> {
        self.ranges.keys().copied()
    }

    /// Number of chunks.
    pub(crate) fn len(&self) -> u64 {
        self.ranges.values().map(|range| range.chunks).sum()
    }

    fn count(&mut self, end: Timestamp, range: TimeRange) {
        let statistics = self
            .ranges
            .entry(end)
            .or_insert(RangeStatistics { min_time: Timestamp::MAX, chunks: 0 });
        statistics.min_time = statistics.min_time.min(range.min);
        statistics.chunks += 1;
    }
}

/// The name of file `number`.
fn file_name(number: u32) -> String {
    format!("{number:06}")
}

/// The files in `dir` with their numbers, ascending; empty when there is no such folder.
pub(crate) fn list_files(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<(u32, PathBuf)>> {
    let entries = match disk.list(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let number = |name: &str| {
        let is_number = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| name.parse().ok()).flatten()
    };
    let mut files: Vec<(u32, PathBuf)> = entries
        .iter()
        .filter_map(|entry| Some((number(&entry.name)?, dir.join(&entry.name))))
        .collect();
    files.sort_unstable();
    Ok(files)
}

/// Calls `on_chunk` with each chunk of the file at `path`, up to its end or to damage, whose place and reason are returned.
pub(crate) fn read_file(
    disk: &dyn Disk,
    path: &Path,
    mut on_chunk: impl FnMut(u64, HeadChunk<'_>),
) -> io::Result<Option<(u64, &'static str)>> {
    let bytes = crate::disk::read_all(disk, path, FILE_BYTES_MAX + CHUNK_BYTES_MAX)?;
    let magic = MAGIC.to_be_bytes();
    if bytes.is_empty() {
        return Ok(None);
    }
    if !bytes.starts_with(&magic) || bytes.get(4) != Some(&VERSION) {
        return Ok(Some((0, "not a head chunks file of version 1")));
    }
    let mut at = FILE_HEADER_BYTES;
    while at < bytes.len() {
        let rest = &bytes[at..];
        // Prometheus makes its files as large as they may become.
        if rest.iter().take(FIXED_BYTES).all(|&byte| byte == 0) {
            break;
        }
        let entry = entry_len(rest).and_then(|len| rest.get(..len));
        let Some(entry) = entry else { return Ok(Some((at as u64, "head chunk is cut off"))) };
        match decode_entry(entry) {
            Ok(chunk) => on_chunk(at as u64, chunk),
            Err(reason) => return Ok(Some((at as u64, reason))),
        }
        at += entry.len();
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Fault, MemDisk};

    fn store(disk: &MemDisk) -> ChunkStore {
        crate::disk::create_dir_durably(disk, Path::new("/c")).unwrap();
        ChunkStore::new(Some((Arc::new(disk.clone()), "/c".into())), 1)
    }

    fn push(store: &mut ChunkStore, end: i64, t: i64, len: usize) -> u64 {
        let bytes = vec![t.to_le_bytes()[0]; len];
        let chunk = HeadChunk {
            series: 3,
            range: TimeRange::new(t, t + 1),
            encoding: 1,
            is_out_of_order: t % 2 == 1,
            bytes: &bytes,
        };
        store.push(end, &chunk, &[])
    }

    fn check(store: &ChunkStore, reference: u64, t: i64, len: usize) {
        let mut buffer = vec![];
        let table = store.table();
        let chunk = table.read(reference, &mut buffer).unwrap().unwrap();
        assert_eq!((chunk.series, chunk.range.min, chunk.encoding), (3, t, 1));
        assert_eq!(
            (chunk.is_out_of_order, chunk.bytes),
            (t % 2 == 1, &vec![t.to_le_bytes()[0]; len][..])
        );
    }

    #[test]
    fn golden_file() {
        let disk = MemDisk::new();
        let mut store = store(&disk);
        let chunk = HeadChunk {
            series: 1,
            range: TimeRange::new(2, 3),
            encoding: 1,
            is_out_of_order: true,
            bytes: b"9",
        };
        assert_eq!(store.push(10, &chunk, b"12345678"), 1 << 32 | 8);
        store.flush();
        let mut expected = b"\x01\x30\xbc\x91\x01\0\0\0\0\0\0\0\0\0\0\x01".to_vec();
        expected.extend(b"\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03\x81\x09123456789");
        let checksum = crc32c(&expected[8..]);
        expected.extend(checksum.to_be_bytes());
        assert_eq!(disk.read(Path::new("/c/000001")).unwrap(), expected);
    }

    #[test]
    fn chunks_are_read_back_wherever_they_are() {
        let disk = MemDisk::new();
        let mut store = store(&disk);
        let references: Vec<u64> = (0..2000)
            .map(|t| push(&mut store, t / 1000 * 1000 + 1000, t, 100 + t as usize))
            .collect();
        for (t, &reference) in (0..).zip(&references) {
            check(&store, reference, t, 100 + t as usize);
        }
        assert_eq!((store.min_time_after(0), store.min_time_after(1000)), (Some(0), Some(1000)));
        // Every other is out of order, and those are not counted.
        assert_eq!((store.len(), store.table().files.len()), (1000, 2));
        store.drop_before(1000, None);
        // The last chunk of the first file ends at 1000.
        assert_eq!((store.len(), store.first_file()), (500, 1));
        store.drop_before(1001, Some(1));
        assert_eq!(store.first_file(), 1);
        store.drop_before(1001, Some(2));
        assert_eq!((store.first_file(), disk.list(Path::new("/c")).unwrap().len()), (2, 1));
        assert!(store.table().read(references[0], &mut vec![]).unwrap().is_none());
        check(&store, references[1500], 1500, 1600);
    }

    #[test]
    fn the_number_of_a_file_that_a_snapshot_names_is_not_given_to_another() {
        let disk = MemDisk::new();
        let mut before = store(&disk);
        let gone = push(&mut before, 1000, 0, 100);
        before.plan_sync().unwrap().run().unwrap();
        let mut snapshot = vec![];
        before.encode(&mut snapshot);
        before.drop_before(1000, None);
        let mut after = store(&disk);
        after.adopt(&mut Bytes::new(&snapshot), 1000, 1000).unwrap();
        assert!(after.first_file() > file_of(gone));
        push(&mut after, 2000, 1500, 100);
        assert!(after.table().read(gone, &mut vec![]).unwrap().is_none());
    }

    #[test]
    fn a_snapshot_whose_block_ranges_have_samples_of_others_is_refused() {
        for (end, min_time, is_right) in [
            (1000_i64, 0_i64, true),
            (1000, 999, true),
            (0, -1, true),
            (1000, -1, false),
            (1000, 1000, false),
            (1001, 0, false),
            (Timestamp::MAX, Timestamp::MIN, false),
        ] {
            // No file, one range of one chunk.
            let mut snapshot = vec![0, 1];
            snapshot.extend([end, min_time, 1].iter().flat_map(|value| value.to_be_bytes()));
            let adopted = store(&MemDisk::new()).adopt(&mut Bytes::new(&snapshot), 1000, 0);
            assert_eq!(adopted.is_ok(), is_right, "{end} {min_time}");
        }
    }

    #[test]
    fn a_full_disk_keeps_chunks_in_memory_until_it_has_room() {
        let disk = MemDisk::new();
        let mut store = store(&disk);
        let first = push(&mut store, 1000, 0, 80_000);
        disk.fail_from(disk.operations(), Fault::Torn(28));
        let references: Vec<u64> = (1..100).map(|t| push(&mut store, 1000, t, 9_000)).collect();
        for (t, &reference) in (1..).zip(&references) {
            check(&store, reference, t, 9_000);
        }
        assert!(store.plan_sync().is_err());
        disk.heal();
        store.plan_sync().unwrap().run().unwrap();
        assert_eq!(store.table().bytes() / TAIL_BYTES, 2);
        check(&store, first, 0, 80_000);
        let mut read = vec![];
        let damage =
            read_file(&disk, Path::new("/c/000001"), |at, chunk| read.push((at, chunk.range.min)));
        assert_eq!(damage.unwrap(), None);
        assert_eq!(read.len(), 100);
        assert_eq!(read[5], (references[4] & 0xffff_ffff, 5));
    }

    /// What a snapshot says of the store as it is now.
    fn encoded(store: &ChunkStore) -> Vec<u8> {
        let mut snapshot = vec![];
        store.encode(&mut snapshot);
        snapshot
    }

    /// A store after a power cut, with what a snapshot says of it.
    fn after_a_power_cut(disk: &MemDisk, snapshot: &[u8]) -> ChunkStore {
        disk.crash();
        let mut after = store(disk);
        after.adopt(&mut Bytes::new(snapshot), 1000, 0).unwrap();
        after
    }

    #[test]
    fn chunks_pushed_after_a_sync_was_planned_do_not_stop_it() {
        let disk = MemDisk::new();
        let mut before = store(&disk);
        let references = [push(&mut before, 1000, 10, 50), push(&mut before, 2000, 1010, 60)];
        let plan = before.plan_sync().unwrap();
        let snapshot = encoded(&before);
        push(&mut before, 2000, 1012, 70);
        plan.run().unwrap();
        let after = after_a_power_cut(&disk, &snapshot);
        check(&after, references[0], 10, 50);
        check(&after, references[1], 1010, 60);
    }

    #[test]
    fn what_a_failed_sync_left_is_synced_by_the_next() {
        // Two files and their folder.
        for failing in 0..3 {
            let disk = MemDisk::new();
            let mut before = store(&disk);
            let references = [push(&mut before, 1000, 10, 50), push(&mut before, 2000, 1010, 60)];
            let plan = before.plan_sync().unwrap();
            disk.fail_at(disk.operations() + failing, Fault::Error(5));
            plan.run().unwrap_err();
            disk.heal();
            before.plan_sync().unwrap().run().unwrap();
            let operations = disk.operations();
            before.plan_sync().unwrap().run().unwrap();
            assert_eq!(disk.operations(), operations, "all is durable");
            let after = after_a_power_cut(&disk, &encoded(&before));
            check(&after, references[0], 10, 50);
            check(&after, references[1], 1010, 60);
        }
    }

    #[test]
    fn damage_ends_a_file_and_is_never_served() {
        let disk = MemDisk::new();
        let mut store = store(&disk);
        let references: Vec<u64> = (0..3).map(|t| push(&mut store, 1000, t, 20)).collect();
        store.flush();
        let path = Path::new("/c/000001");
        let whole = disk.read(path).unwrap();
        for at in 8..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x04;
            disk.overwrite(path, &flipped).unwrap();
            let (mut count, hit) =
                (0, references.iter().filter(|r| (**r & 0xffff) as usize <= at).count());
            let damage = read_file(&disk, path, |_, _| count += 1).unwrap();
            assert_eq!(count, hit - 1, "byte {at}");
            assert_eq!(damage.unwrap().0, references[hit - 1] & 0xffff, "byte {at}");
            assert!(store.table().read(references[hit - 1], &mut vec![]).is_err(), "byte {at}");
        }
    }
}
