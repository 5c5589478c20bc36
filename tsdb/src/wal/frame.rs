//! Records in pages: how a segment is cut into fragments, and how a damaged one is read.
//!
//! Format: `docs/formats/wal.md`. [`Framer`] turns records into bytes, [`SegmentReader`] turns them back. The reader never gives up at
//! damage: it reports the span that is lost and goes on with the next record whose checksum holds.

use std::io::{self, Read};
use std::sync::Arc;

use crc32c::crc32c;

use crate::WalCompression;
use crate::disk::DiskFile;

/// Fragments do not cross multiples of this.
pub(crate) const PAGE_BYTES: usize = 32 << 10;

/// Type, length and checksum in front of each fragment.
const HEADER_BYTES: usize = 7;

/// Snappy makes no record smaller than this fraction of its size, so a larger announced size is damage.
const SNAPPY_RATIO_MAX: usize = 32;

const PAGE_END: u8 = 0;
const FULL: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;

const KIND_MASK: u8 = 0x07;
const SNAPPY: u8 = 0x08;
const ZSTD: u8 = 0x10;

/// A record that decompresses to more is damage, or hostile: a batch of a million samples has 12 MiB.
const RECORD_BYTES_MAX: usize = 256 << 20;

/// Bytes that are summed in one page in search of a fragment: enough for ordinary content, in which few bytes look like a header.
const SEARCH_BYTES_MAX: usize = 4 << 20;

/// Fast, and still well below snappy's size.
const ZSTD_LEVEL: i32 = 1;

/// Collects framed records; the buffers are reused.
pub(crate) struct Framer {
    compression: WalCompression,
    encoder: snap::raw::Encoder,
    zstd: Option<zstd::bulk::Compressor<'static>>,
    compressed: Vec<u8>,
    out: Vec<u8>,
    position: u64,
}

impl std::fmt::Debug for Framer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Framer").field("position", &self.position).finish_non_exhaustive()
    }
}

impl Framer {
    pub(crate) fn new(compression: WalCompression) -> Self {
        Self {
            compression,
            encoder: snap::raw::Encoder::new(),
            zstd: None,
            compressed: Vec::new(),
            out: Vec::new(),
            position: 0,
        }
    }

    /// Starts over; the bytes collected from now on will stand at `position` of their segment.
    pub(crate) fn start(&mut self, position: u64) {
        self.out.clear();
        self.position = position;
    }

    /// The framed records.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.out
    }

    /// Adds a record, compressed if that makes it smaller.
    pub(crate) fn push(&mut self, record: &[u8]) {
        let mut compressed = std::mem::take(&mut self.compressed);
        match self.compress(record, &mut compressed) {
            Some((flag, len)) if len < record.len() => self.push_raw(flag, &compressed[..len]),
            _ => self.push_raw(0, record),
        }
        self.compressed = compressed;
    }

    /// Puts the compressed record at the start of `into`; the flag of the compression and the length. `None` if it is to be stored as it is:
    /// the only errors are records of gigabytes, and no memory.
    fn compress(&mut self, record: &[u8], into: &mut Vec<u8>) -> Option<(u8, usize)> {
        match self.compression {
            WalCompression::None => None,
            WalCompression::Snappy => {
                into.resize(snap::raw::max_compress_len(record.len()), 0);
                Some((SNAPPY, self.encoder.compress(record, into).ok()?))
            }
            WalCompression::Zstd => {
                if self.zstd.is_none() {
                    self.zstd = zstd::bulk::Compressor::new(ZSTD_LEVEL).ok();
                }
                into.resize(zstd::zstd_safe::compress_bound(record.len()), 0);
                let len = self.zstd.as_mut()?.compress_to_buffer(record, &mut into[..]).ok()?;
                Some((ZSTD, len))
            }
        }
    }

    /// Adds a record that is compressed as `flag` says.
    fn push_raw(&mut self, flag: u8, mut payload: &[u8]) {
        let mut first = true;
        loop {
            let mut room = self.room_in_page();
            if room < HEADER_BYTES {
                self.out.resize(self.out.len() + room, 0);
                room = PAGE_BYTES;
            }
            let (part, rest) = payload.split_at(payload.len().min(room - HEADER_BYTES));
            let kind = match (first, rest.is_empty()) {
                (true, true) => FULL,
                (true, false) => FIRST,
                (false, false) => MIDDLE,
                (false, true) => LAST,
            };
            let len = u16::try_from(part.len()).expect("a page is smaller than 64 KiB");
            self.out.push(kind | flag);
            self.out.extend_from_slice(&len.to_be_bytes());
            self.out.extend_from_slice(&crc32c(part).to_be_bytes());
            self.out.extend_from_slice(part);
            (payload, first) = (rest, false);
            if payload.is_empty() {
                return;
            }
        }
    }

    fn room_in_page(&self) -> usize {
        let used = (self.position + self.out.len() as u64) % PAGE_BYTES as u64;
        PAGE_BYTES - usize::try_from(used).expect("less than a page")
    }
}

/// What comes next in a segment.
#[derive(Debug)]
pub(crate) enum Next<'r> {
    /// A whole record.
    Record {
        /// Decompressed.
        bytes: &'r [u8],
    },
    /// Damage: bytes from `offset` on hold no whole record.
    Lost {
        /// Where the first record that is lost begins.
        offset: u64,
        /// Where the next record begins; `None` if there is none in this segment.
        resumed_at: Option<u64>,
        /// What is wrong at `offset`.
        reason: &'static str,
    },
    /// No more.
    End,
}

/// Reads the records of one segment.
pub(crate) struct SegmentReader {
    file: Arc<dyn DiskFile>,
    page: Vec<u8>,
    /// Position of the page in the file.
    page_start: u64,
    /// Position in the page.
    at: usize,
    /// Where in the first page to begin.
    enter_at: usize,
    /// Payload of the fragments so far.
    payload: Vec<u8>,
    record: Vec<u8>,
    decoder: snap::raw::Decoder,
}

impl std::fmt::Debug for SegmentReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SegmentReader").field("position", &self.position()).finish_non_exhaustive()
    }
}

struct Fragment {
    kind: u8,
    compression: u8,
    offset: u64,
    payload: std::ops::Range<usize>,
}

/// Why a fragment cannot be read, and where in the page to look for the next.
struct Damage {
    offset: u64,
    reason: &'static str,
    next: usize,
}

enum Assembled {
    Record { flags: u8 },
    End,
}

impl SegmentReader {
    pub(crate) fn new(file: Arc<dyn DiskFile>) -> Self {
        Self::starting_at(file, 0)
    }

    /// Reads from byte `position` on, at which a record begins or the file ends.
    pub(crate) fn starting_at(file: Arc<dyn DiskFile>, position: u64) -> Self {
        let within = position % PAGE_BYTES as u64;
        Self {
            file,
            page: Vec::new(),
            page_start: position - within,
            at: 0,
            enter_at: usize::try_from(within).expect("less than a page"),
            payload: Vec::new(),
            record: Vec::new(),
            decoder: snap::raw::Decoder::new(),
        }
    }

    /// Where the next fragment is looked for.
    pub(crate) fn position(&self) -> u64 {
        self.page_start + self.at as u64
    }

    /// The next record, or the next damage.
    pub(crate) fn next(&mut self) -> io::Result<Next<'_>> {
        let start = self.position();
        match self.assemble()? {
            Ok(Assembled::End) => Ok(Next::End),
            Ok(Assembled::Record { flags: 0 }) => Ok(Next::Record { bytes: &self.payload }),
            Ok(Assembled::Record { flags }) => {
                let decompressed = match flags {
                    SNAPPY => self.decompress_snappy(),
                    ZSTD => self.decompress_zstd(),
                    _ => false,
                };
                if decompressed {
                    return Ok(Next::Record { bytes: &self.record });
                }
                let resumed_at = self.resume()?;
                let reason = "compressed record is malformed";
                Ok(Next::Lost { offset: start, resumed_at, reason })
            }
            Err(Damage { offset, reason, next }) => {
                self.at = next;
                let resumed_at = self.resume()?;
                Ok(Next::Lost { offset, resumed_at, reason })
            }
        }
    }

    fn decompress_zstd(&mut self) -> bool {
        self.record.clear();
        let Ok(decoder) = zstd::stream::read::Decoder::with_buffer(self.payload.as_slice()) else {
            return false;
        };
        let read = decoder.take(RECORD_BYTES_MAX as u64 + 1).read_to_end(&mut self.record);
        read.is_ok_and(|len| len <= RECORD_BYTES_MAX)
    }

    fn decompress_snappy(&mut self) -> bool {
        let Ok(len) = snap::raw::decompress_len(&self.payload) else { return false };
        let ratio_max = self.payload.len().saturating_mul(SNAPPY_RATIO_MAX) + PAGE_BYTES;
        if len > ratio_max.min(RECORD_BYTES_MAX) {
            return false;
        }
        self.record.resize(len, 0);
        self.decoder.decompress(&self.payload, &mut self.record).is_ok()
    }

    /// Collects the fragments of one record in `payload`.
    fn assemble(&mut self) -> io::Result<Result<Assembled, Damage>> {
        self.payload.clear();
        let mut start = None;
        loop {
            let fragment = match self.fragment(start.is_some())? {
                Ok(Some(fragment)) => fragment,
                Ok(None) => {
                    return Ok(match start {
                        None => Ok(Assembled::End),
                        Some(offset) => {
                            Err(Damage { offset, reason: "record is torn", next: self.at })
                        }
                    });
                }
                Err(damage) => {
                    return Ok(Err(Damage { offset: start.unwrap_or(damage.offset), ..damage }));
                }
            };
            let expected = match start {
                None => matches!(fragment.kind, FULL | FIRST),
                Some(_) => matches!(fragment.kind, MIDDLE | LAST),
            };
            if !expected {
                // Where a record was cut short, another may begin: that fragment is looked at again.
                let next = if start.is_some() { self.at } else { fragment.payload.end };
                let offset = start.unwrap_or(fragment.offset);
                return Ok(Err(Damage { offset, reason: "fragments are out of sequence", next }));
            }
            start.get_or_insert(fragment.offset);
            self.at = fragment.payload.end;
            self.payload.extend_from_slice(&self.page[fragment.payload.clone()]);
            if matches!(fragment.kind, FULL | LAST) {
                return Ok(Ok(Assembled::Record { flags: fragment.compression }));
            }
        }
    }

    /// The fragment at the current position, without consuming it; `None` at the end of the file. Padding is skipped.
    fn fragment(&mut self, within_record: bool) -> io::Result<Result<Option<Fragment>, Damage>> {
        loop {
            if self.at == self.page.len() && !self.turn_page()? {
                return Ok(Ok(None));
            }
            let rest = &self.page[self.at..];
            let offset = self.page_start + self.at as u64;
            let damage = |reason, next| Ok(Err(Damage { offset, reason, next }));
            // Where a header cannot be trusted, neither can its length: the next one is searched for.
            let next = || next_fragment(&self.page, self.at + 1);
            let kind = rest[0] & KIND_MASK;
            if kind == PAGE_END {
                if rest.iter().any(|&byte| byte != 0) {
                    return damage("padding is not zero", next());
                }
                // Fragments of a record fill their pages, bar the few bytes in which no header fits.
                if within_record && rest.len() >= HEADER_BYTES {
                    return damage("record is interrupted by padding", next());
                }
                self.at = self.page.len();
                continue;
            }
            let Some((header, body)) = rest.split_first_chunk::<HEADER_BYTES>() else {
                return damage("fragment header is torn", self.page.len());
            };
            let [flags, len_high, len_low, checksum @ ..] = *header;
            let len = usize::from(u16::from_be_bytes([len_high, len_low]));
            if kind > LAST || flags & !(KIND_MASK | SNAPPY | ZSTD) != 0 {
                return damage("fragment type is unknown", next());
            }
            let Some(body) = body.get(..len) else {
                return damage("fragment is torn", next());
            };
            let payload = self.at + HEADER_BYTES..self.at + HEADER_BYTES + len;
            if crc32c(body) != u32::from_be_bytes(checksum) {
                return damage("checksum mismatch", next());
            }
            let compression = flags & (SNAPPY | ZSTD);
            return Ok(Ok(Some(Fragment { kind, compression, offset, payload })));
        }
    }

    /// Reads the next page; `false` at the end of the file.
    fn turn_page(&mut self) -> io::Result<bool> {
        // A partial page is the last; without this, reading again at its end would skip the rest of it.
        if !self.page.is_empty() && self.page.len() < PAGE_BYTES {
            return Ok(false);
        }
        let start = self.page_start + self.page.len() as u64;
        let mut page = std::mem::take(&mut self.page);
        page.resize(PAGE_BYTES, 0);
        let len = self.file.read_at(&mut page, start)?;
        page.truncate(len);
        let at = std::mem::take(&mut self.enter_at).min(len);
        (self.page, self.page_start, self.at) = (page, start, at);
        Ok(len > at)
    }

    /// Skips to the next fragment that verifies and begins a record; its position, or `None` at the end.
    fn resume(&mut self) -> io::Result<Option<u64>> {
        loop {
            match self.fragment(false)? {
                Ok(None) => return Ok(None),
                Ok(Some(fragment)) if matches!(fragment.kind, FULL | FIRST) => {
                    return Ok(Some(fragment.offset));
                }
                Ok(Some(fragment)) => self.at = fragment.payload.end,
                Err(damage) => self.at = damage.next,
            }
        }
    }
}

/// Where in `page`, from byte `from` on, a fragment stands whose checksum holds; the end of the page if there is none.
fn next_fragment(page: &[u8], from: usize) -> usize {
    let mut searched = 0;
    let is_fragment = |at: &usize| {
        let Some((header, body)) = page[*at..].split_first_chunk::<HEADER_BYTES>() else {
            return false;
        };
        let [flags, len_high, len_low, checksum @ ..] = *header;
        let kind = flags & KIND_MASK;
        let len = usize::from(u16::from_be_bytes([len_high, len_low]));
        // One without content has a checksum of zeros, which may be anything.
        if !(FULL..=LAST).contains(&kind) || flags & !(KIND_MASK | SNAPPY | ZSTD) != 0 || len == 0 {
            return false;
        }
        let Some(body) = body.get(..len) else { return false };
        searched += len;
        searched <= SEARCH_BYTES_MAX && crc32c(body) == u32::from_be_bytes(checksum)
    };
    (from.min(page.len())..page.len()).find(is_fragment).unwrap_or(page.len())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::disk::{Disk, MemDisk};

    /// Where damage begins, where reading goes on, and what is wrong.
    type Damaged = (u64, Option<u64>, &'static str);

    /// Records that are read, and the damage before the end.
    fn read(bytes: &[u8]) -> (Vec<Vec<u8>>, Vec<Damaged>) {
        let disk = MemDisk::new();
        let file = disk.create(Path::new("/s")).unwrap();
        file.write_at(bytes, 0).unwrap();
        let mut reader = SegmentReader::new(file);
        let (mut records, mut damage) = (vec![], vec![]);
        loop {
            match reader.next().unwrap() {
                Next::Record { bytes } => records.push(bytes.to_vec()),
                Next::Lost { offset, resumed_at, reason } => {
                    damage.push((offset, resumed_at, reason));
                }
                Next::End => return (records, damage),
            }
        }
    }

    fn frame(compression: WalCompression, records: &[Vec<u8>]) -> Vec<u8> {
        let mut framer = Framer::new(compression);
        framer.start(0);
        for record in records {
            framer.push(record);
        }
        framer.bytes().to_vec()
    }

    #[test]
    fn golden_frame() {
        // CRC-32C of "123456789" is e3069283, the check value of the algorithm's catalogue entry.
        let bytes = frame(WalCompression::None, &[b"123456789".to_vec()]);
        assert_eq!(bytes, b"\x01\x00\x09\xe3\x06\x92\x83123456789");
    }

    #[test]
    fn a_record_spans_pages() {
        let record = vec![7; PAGE_BYTES * 2];
        let bytes = frame(WalCompression::None, std::slice::from_ref(&record));
        // Three headers for 65,536 bytes: two full pages and 14 bytes more, with a header of their own.
        assert_eq!(bytes.len(), 2 * PAGE_BYTES + 21);
        assert_eq!((bytes[0], bytes[PAGE_BYTES], bytes[2 * PAGE_BYTES]), (FIRST, MIDDLE, LAST));
        assert_eq!(read(&bytes), (vec![record], vec![]));
    }

    #[test]
    fn a_page_too_full_for_a_header_is_padded() {
        let records = vec![vec![1; PAGE_BYTES - 7 - 6], vec![2; 10]];
        let bytes = frame(WalCompression::None, &records);
        assert_eq!(bytes[PAGE_BYTES - 6..PAGE_BYTES], [0; 6]);
        assert_eq!(bytes[PAGE_BYTES], FULL);
        assert_eq!(read(&bytes), (records, vec![]));
    }

    #[test]
    fn a_torn_end_is_lost_from_its_record_on() {
        let records: Vec<Vec<u8>> = vec![vec![0xf1; 100], vec![0xf2; 40_000], vec![0xf3; 5]];
        let bytes = frame(WalCompression::None, &records);
        let ends = [107, 40_121, bytes.len()];
        for len in 0..=bytes.len() {
            let whole = ends.iter().filter(|&&end| end <= len).count();
            let (found, damage) = read(&bytes[..len]);
            assert_eq!(found, records[..whole], "{len} bytes");
            let starts = [0, 107, 40_121, bytes.len()];
            if starts.contains(&len) {
                assert!(damage.is_empty(), "{len} bytes");
            } else {
                assert_eq!(damage.len(), 1, "{len} bytes");
                assert_eq!((damage[0].0, damage[0].1), (starts[whole] as u64, None), "{len} bytes");
            }
        }
    }

    #[test]
    fn any_flipped_byte_loses_its_record_alone() {
        let records: Vec<Vec<u8>> = (0..6_u8).map(|i| vec![i + 0xf1; 9_000]).collect();
        let bytes = frame(WalCompression::None, &records);
        for at in (0..bytes.len()).step_by(97).chain(0..8).chain(9_007..9_016) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x55;
            let (found, damage) = read(&flipped);
            assert!(!damage.is_empty(), "byte {at}");
            assert_eq!(found.len(), 5, "byte {at}");
            assert!(found.iter().all(|record| records.contains(record)), "byte {at}");
        }
    }

    #[test]
    fn a_bomb_is_refused() {
        // Announces 4 GiB - 1 in a few bytes.
        let payload = [0xff, 0xff, 0xff, 0xff, 0x0f, 0x00, 0x00];
        let mut framer = Framer::new(WalCompression::None);
        framer.start(0);
        framer.push_raw(SNAPPY, &payload);
        let (found, damage) = read(framer.bytes());
        assert!(found.is_empty());
        assert_eq!(damage.len(), 1);
    }

    proptest! {
        #[test]
        fn round_trip(records in prop::collection::vec(
            (any::<u8>(), 0_usize..70_000, any::<bool>()), 0..8)
        ) {
            let records: Vec<Vec<u8>> = records
                .into_iter()
                .map(|(seed, len, noise)| (0..len)
                    .map(|i| if noise { (i * i % 251) as u8 ^ seed } else { seed })
                    .collect())
                .collect();
            for compression in [WalCompression::None, WalCompression::Snappy, WalCompression::Zstd] {
                prop_assert_eq!(read(&frame(compression, &records)), (records.clone(), vec![]));
            }
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            read(&bytes);
        }
    }
}
