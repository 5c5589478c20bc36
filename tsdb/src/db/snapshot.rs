//! The head's state in a file, so that a restart replays only the end of the log.
//!
//! Format: `docs/formats/head_snapshot.md`. A snapshot is bound to a place in the write-ahead log and to the bytes before it. When these are not
//! there any more, or another program has put others in their place, the snapshot is discarded and the log replayed from its beginning; nothing is
//! ever removed from the log on account of a snapshot.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use crc32c::{crc32c, crc32c_append};

use super::open::WAL_DIR;
use super::{Db, Upkeep};
use crate::bytes::{Bytes, DecodeError, put_uvarint};
use crate::disk::{Disk, FileWriter, exists, read_all, read_exact_at};
use crate::head::Head;
use crate::head::snapshot::Extent;
use crate::wal::Mark;
use crate::wal::segments::segment_name;

const FILE: &str = "head_snapshot";
const UNFINISHED_FILE: &str = "head_snapshot.tmp";

const MAGIC: [u8; 8] = *b"SXHEAD\0\x01";
const FILE_BYTES_MAX: u64 = 1 << 36;
const CHECKSUM_BYTES: usize = 4;

/// Bytes of the log before the place that a snapshot is bound to, which must be the same.
const BOUND_BYTES: u64 = 32 << 10;

/// Bytes of the log that are worth a snapshot.
const LOG_BYTES_MIN: u64 = 32 << 20;

/// Bytes that are collected while the head is locked.
const PIECE_BYTES: usize = 1 << 20;

/// The newest snapshot, as maintenance remembers it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    mark: Mark,
    bytes: u64,
}

/// What a snapshot holds beside the head.
#[derive(Debug)]
pub(super) struct Restored {
    pub(super) mark: Mark,
    pub(super) aliases: HashMap<u64, u64>,
    pub(super) retired: HashMap<u64, u32>,
}

/// Writes the file and its checksum.
struct Writer {
    file: FileWriter,
    checksum: u32,
}

impl Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.checksum = crc32c_append(self.checksum, bytes);
        self.file.write(bytes)
    }

    /// Writes and empties `piece`.
    fn take(&mut self, piece: &mut Vec<u8>) -> io::Result<()> {
        self.write(piece)?;
        piece.clear();
        Ok(())
    }
}

/// Checksum of the bytes of the log before `mark`; `None` if they are not all there.
fn bound_checksum(disk: &dyn Disk, wal_dir: &Path, mark: Mark) -> io::Result<Option<u32>> {
    let mut checksum = 0;
    let mut wanted = BOUND_BYTES;
    for (number, end) in
        [(Some(mark.segment), Some(mark.position)), (mark.segment.checked_sub(1), None)]
    {
        let Some(number) = number.filter(|_| wanted > 0) else { break };
        let file = match disk.open(&wal_dir.join(segment_name(number))) {
            Ok(file) => file,
            // Of the segment before, a checkpoint may have taken the place; then only as much can be compared.
            Err(error) if error.kind() == io::ErrorKind::NotFound && end.is_none() => break,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let len = file.len()?;
        let end = end.unwrap_or(len);
        if len < end {
            return Ok(None);
        }
        let start = end.saturating_sub(wanted);
        let mut bytes = vec![0; usize::try_from(end - start).unwrap_or(usize::MAX)];
        read_exact_at(file.as_ref(), &mut bytes, start)?;
        checksum = crc32c_append(checksum, &bytes);
        wanted -= end - start;
    }
    Ok(Some(checksum))
}

impl Db {
    /// Takes a snapshot if there is enough in the log that it would spare a restart. A failure is logged: the log has everything.
    pub(super) fn snapshot_if_due(&self, upkeep: &mut Upkeep, was_shortened: bool) {
        if !self.options.head_snapshots {
            return;
        }
        let now = self.writer.lock().wal.position();
        let behind = match upkeep.snapshot {
            Some(taken) => self.log_bytes_between(taken.mark, now),
            None => {
                self.log_bytes_between(Mark { segment: upkeep.first_segment, position: 0 }, now)
            }
        };
        let worth = upkeep.snapshot.map_or(0, |taken| taken.bytes / 2).max(LOG_BYTES_MIN);
        if behind >= worth || (was_shortened && behind >= LOG_BYTES_MIN / 8) {
            self.take_snapshot(upkeep);
        }
    }

    fn log_bytes_between(&self, from: Mark, to: Mark) -> u64 {
        let segments = u64::from(to.segment.saturating_sub(from.segment));
        (segments * self.options.wal_segment_bytes + to.position).saturating_sub(from.position)
    }

    /// Takes a snapshot, if anything was logged since the last one.
    pub(super) fn take_snapshot(&self, upkeep: &mut Upkeep) {
        let now = self.writer.lock().wal.position();
        if !self.options.head_snapshots || upkeep.snapshot.is_some_and(|taken| taken.mark == now) {
            return;
        }
        // A snapshot has no place for start timestamps. The log has them, until what was logged with them is cut.
        if !self.head.read().starts.is_empty() {
            return;
        }
        match self.write_snapshot(upkeep) {
            Ok(taken) => {
                self.metrics.snapshots.inc();
                upkeep.snapshot = Some(taken);
            }
            Err(error) => {
                self.metrics.snapshots_failed.inc();
                tracing::warn!(%error, "cannot write a snapshot of the head");
                let unfinished = self.dir.join(UNFINISHED_FILE);
                if exists(self.disk.as_ref(), &unfinished).unwrap_or(false)
                    && let Err(error) = self.disk.remove_file(&unfinished)
                {
                    tracing::warn!(path = %unfinished.display(), %error, "cannot remove");
                }
            }
        }
    }

    fn write_snapshot(&self, upkeep: &Upkeep) -> io::Result<Taken> {
        let disk = self.disk.as_ref();
        let wal_dir = self.dir.join(WAL_DIR);
        let (mark, extent, chunk_range) = {
            let mut writer = self.writer.lock();
            writer.wal.open_segment().map_err(io::Error::other)?;
            let head = self.head.read();
            (writer.wal.position(), head.extent(), head.chunk_range())
        };
        let bound = bound_checksum(disk, &wal_dir, mark)?
            .ok_or_else(|| io::Error::other("the write-ahead log is shorter than it should be"))?;
        let path = self.dir.join(UNFINISHED_FILE);
        let file = FileWriter::new(disk.create(&path)?);
        let mut writer = Writer { file, checksum: 0 };
        writer.write(&encode_header(mark, bound, chunk_range, extent))?;
        self.write_head(extent, &mut writer)?;
        let mut piece = Vec::new();
        encode_refs(upkeep, &mut piece);
        writer.take(&mut piece)?;
        let chunks_at = writer.file.position();
        let sync = {
            let mut head = self.head.write();
            let sync = head.chunks.plan_sync()?;
            head.chunks.encode(&mut piece);
            sync
        };
        sync.run()?;
        piece.extend_from_slice(&chunks_at.to_be_bytes());
        writer.take(&mut piece)?;
        let checksum = writer.checksum;
        writer.file.write(&checksum.to_be_bytes())?;
        let bytes = writer.file.position();
        writer.file.finish()?;
        // A snapshot must not know more than a log that a power cut spared.
        self.sync().map_err(io::Error::other)?;
        disk.rename(&path, &self.dir.join(FILE))?;
        disk.sync_dir(&self.dir)?;
        Ok(Taken { mark, bytes })
    }

    fn write_head(&self, extent: Extent, writer: &mut Writer) -> io::Result<()> {
        let mut piece = Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 4);
        let mut next = 0;
        while next < extent.symbols {
            next = self.head.read().put_symbols(extent, next, PIECE_BYTES, &mut piece);
            writer.take(&mut piece)?;
        }
        next = 0;
        while next < extent.pairs {
            next = self.head.read().put_pairs(extent, next, PIECE_BYTES, &mut piece);
            writer.take(&mut piece)?;
        }
        next = 0;
        while next < extent.series {
            next = self.head.read().put_series(extent, next, &mut piece);
            writer.take(&mut piece)?;
        }
        self.head.read().put_rest(&mut piece);
        writer.take(&mut piece)
    }
}

fn encode_header(mark: Mark, bound: u32, chunk_range: i64, extent: Extent) -> Vec<u8> {
    let mut header = MAGIC.to_vec();
    header.extend_from_slice(&mark.segment.to_be_bytes());
    header.extend_from_slice(&mark.position.to_be_bytes());
    header.extend_from_slice(&bound.to_be_bytes());
    header.extend_from_slice(&chunk_range.to_be_bytes());
    for count in [extent.series, extent.symbols, extent.pairs] {
        header.extend_from_slice(&count.to_be_bytes());
    }
    header.extend_from_slice(&extent.next_ref.to_be_bytes());
    header.extend_from_slice(&extent.min_valid.to_be_bytes());
    header
}

fn encode_refs(upkeep: &Upkeep, into: &mut Vec<u8>) {
    put_uvarint(into, upkeep.aliases.len() as u64);
    for (alias, series) in &upkeep.aliases {
        into.extend_from_slice(&alias.to_be_bytes());
        into.extend_from_slice(&series.to_be_bytes());
    }
    put_uvarint(into, upkeep.retired.len() as u64);
    for (series, segment) in &upkeep.retired {
        into.extend_from_slice(&series.to_be_bytes());
        into.extend_from_slice(&segment.to_be_bytes());
    }
}

/// Why a snapshot is of no use.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Malformed(#[from] DecodeError),
    #[error("checksum mismatch")]
    Checksum,
    #[error("it is of another store, or of other settings")]
    Other,
    #[error("the write-ahead log has changed since")]
    LogChanged,
    #[error("blocks that it relies on are gone")]
    BlocksGone,
}

/// Fills `head`, which is empty but for knowing where blocks end, from the snapshot in `dir`. `None` without a usable one; `head` is
/// then still empty, unless what `spare` makes is to be taken in its stead.
pub(super) fn restore(
    disk: &dyn Disk,
    dir: &Path,
    head: &mut Head,
    spare: impl FnOnce() -> Head,
) -> Option<Restored> {
    let path = dir.join(FILE);
    let bytes = match read_all(disk, &path, FILE_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "cannot read the snapshot of the head");
            return None;
        }
    };
    match decode(disk, dir, head, &bytes) {
        Ok(restored) => Some(restored),
        Err(error) => {
            tracing::info!(
                path = %path.display(), reason = %error,
                "the snapshot of the head is not used, the whole log is replayed"
            );
            *head = spare();
            None
        }
    }
}

fn decode(
    disk: &dyn Disk,
    dir: &Path,
    head: &mut Head,
    bytes: &[u8],
) -> Result<Restored, Unusable> {
    let (content, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(DecodeError::End)?;
    if crc32c(content).to_be_bytes() != *checksum {
        return Err(Unusable::Checksum);
    }
    let mut bytes = Bytes::new(content);
    if bytes.take(MAGIC.len())? != MAGIC {
        return Err(Unusable::Other);
    }
    let mark = Mark { segment: bytes.be32()?, position: bytes.be64()? };
    let bound = bytes.be32()?;
    if bytes.be64()?.cast_signed() != head.chunk_range() {
        return Err(Unusable::Other);
    }
    let extent = Extent {
        series: bytes.be32()?,
        symbols: bytes.be32()?,
        pairs: bytes.be32()?,
        next_ref: bytes.be64()?,
        min_valid: bytes.be64()?.cast_signed(),
    };
    if bound_checksum(disk, &dir.join(WAL_DIR), mark)? != Some(bound) {
        return Err(Unusable::LogChanged);
    }
    if extent.min_valid > head.min_valid() {
        return Err(Unusable::BlocksGone);
    }
    let (before, chunks_at) = content.split_last_chunk::<8>().ok_or(DecodeError::End)?;
    let chunks_at = usize::try_from(u64::from_be_bytes(*chunks_at)).unwrap_or(usize::MAX);
    let chunks = before.get(chunks_at..).ok_or(DecodeError::End)?;
    let min_valid = head.min_valid();
    let width = head.chunk_range();
    head.chunks.adopt(&mut Bytes::new(chunks), width, min_valid)?;
    let first_file = head.chunks.first_file();
    head.restore(extent, &mut bytes, first_file)?;
    let mut aliases = HashMap::new();
    for _ in 0..bytes.uvarint_len()? {
        aliases.insert(bytes.be64()?, bytes.be64()?);
    }
    let mut retired = HashMap::new();
    for _ in 0..bytes.uvarint_len()? {
        retired.insert(bytes.be64()?, bytes.be32()?);
    }
    head.set_min_valid(min_valid);
    head.chunks.cut_adopted()?;
    Ok(Restored { mark, aliases, retired })
}

/// Removes what an interrupted snapshot left.
pub(super) fn remove_unfinished(disk: &dyn Disk, dir: &Path) -> Result<(), (PathBuf, io::Error)> {
    let path = dir.join(UNFINISHED_FILE);
    let removed =
        exists(disk, &path).and_then(|there| if there { disk.remove_file(&path) } else { Ok(()) });
    removed.map_err(|error| (path, error))
}
