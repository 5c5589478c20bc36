//! Reads the index of a block, keeping little of it in memory.
//!
//! Format: `docs/formats/index.md`. The symbol table and the postings offset table are verified once when the index is opened; of each, every
//! 32nd entry stays in memory as a place to start scanning from. Series and postings are read and verified when asked for.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crc32c::{crc32c, crc32c_append};
use model::{QueryContext, QueryError, TimeRange};

use super::index_writer::ChunkRef;
use super::{INDEX_MAGIC, INDEX_VERSION, SERIES_ALIGNMENT};
use crate::bytes::{Bytes, DecodeError};
use crate::disk::{Disk, DiskFile, read_exact_at};
use crate::postings::LabelIndex;

/// One entry of this many stays in memory.
const SAMPLING: usize = 32;

const HEADER_BYTES: u64 = 5;
const TOC_BYTES: usize = 6 * 8 + 4;
const LENGTH_BYTES: u64 = 4;
const CHECKSUM_BYTES: u64 = 4;

/// What is read at once when scanning.
const WINDOW_BYTES: usize = 32 << 10;

/// What is read for one series; most entries are smaller.
const SERIES_BYTES: usize = 1 << 10;

/// A larger string or series entry is damage.
const ENTRY_BYTES_MAX: usize = 64 << 20;

/// The index of a block.
#[derive(Debug)]
pub(crate) struct IndexReader {
    path: String,
    file: Arc<dyn DiskFile>,
    bytes: u64,
    series: std::ops::Range<u64>,
    symbols: SymbolTable,
    names: Vec<Name>,
    /// Where the postings of all series are.
    all_at: Option<u64>,
}

#[derive(Debug, Default)]
struct SymbolTable {
    count: u32,
    /// Where every 32nd symbol is.
    sampled: Vec<u64>,
    end: u64,
}

/// A label name in the postings offset table.
#[derive(Debug)]
struct Name {
    name: String,
    /// Every 32nd value, from the first on, with the position of its entry.
    sampled: Vec<(String, u64)>,
    /// Where the entries of the name end.
    end: u64,
}

/// Labels and chunks of a series.
#[derive(Debug, Default)]
pub(crate) struct SeriesEntry {
    /// Name and value symbols.
    pub(crate) labels: Vec<(u32, u32)>,
    pub(crate) chunks: Vec<ChunkRef>,
}

/// Strings that were looked up, kept for the time of one selection.
#[derive(Debug, Default)]
pub(crate) struct SymbolCache {
    symbols: HashMap<u32, String, foldhash::fast::RandomState>,
}

/// Entries of a table read one after another.
struct Scan<'r> {
    reader: &'r IndexReader,
    end: u64,
    window: Vec<u8>,
    /// Position of the window in the file.
    window_at: u64,
    /// Position in the window.
    at: usize,
    checksum: u32,
}

impl<'r> Scan<'r> {
    fn new(reader: &'r IndexReader, start: u64, end: u64) -> Self {
        Self { reader, end, window: Vec::new(), window_at: start, at: 0, checksum: 0 }
    }

    fn position(&self) -> u64 {
        self.window_at + self.at as u64
    }

    /// Decodes one entry with `decode`; the window grows until it holds the entry.
    fn entry<T>(
        &mut self,
        decode: impl Fn(&mut Bytes<'_>) -> Result<T, DecodeError>,
    ) -> Result<T, QueryError> {
        let mut wanted = WINDOW_BYTES;
        loop {
            let rest = &self.window[self.at..];
            let mut bytes = Bytes::new(rest);
            match decode(&mut bytes) {
                Ok(entry) => {
                    let taken = rest.len() - bytes.len();
                    self.checksum = crc32c_append(self.checksum, &rest[..taken]);
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
                Err(error) => return Err(self.reader.corrupt(self.position(), error.to_string())),
            }
        }
    }

    fn refill(&mut self, wanted: usize) -> Result<(), QueryError> {
        let start = self.position();
        let left = usize::try_from(self.end - start).unwrap_or(usize::MAX);
        self.window.resize(wanted.min(left), 0);
        (self.window_at, self.at) = (start, 0);
        self.reader.read_exact(&mut self.window, start)
    }

    fn is_done(&self) -> bool {
        self.position() >= self.end
    }
}

impl IndexReader {
    /// Opens and verifies the index at `path`.
    pub(crate) fn open(disk: &dyn Disk, path: &Path) -> Result<Self, QueryError> {
        let text = path.display().to_string();
        let failed = |source| QueryError::Io { path: text.clone(), source };
        let file = disk.open(path).map_err(failed)?;
        let bytes = file.len().map_err(failed)?;
        let mut reader = Self {
            path: text,
            file,
            bytes,
            series: 0..0,
            symbols: SymbolTable::default(),
            names: Vec::new(),
            all_at: None,
        };
        reader.load()?;
        Ok(reader)
    }

    /// Size of the file.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn corrupt(&self, offset: u64, reason: impl Into<String>) -> QueryError {
        QueryError::Corrupt { path: self.path.clone(), offset, reason: reason.into() }
    }

    fn read_exact(&self, buffer: &mut [u8], offset: u64) -> Result<(), QueryError> {
        read_exact_at(self.file.as_ref(), buffer, offset).map_err(|source| {
            if source.kind() == io::ErrorKind::UnexpectedEof {
                self.corrupt(offset, "file ends too early")
            } else {
                QueryError::Io { path: self.path.clone(), source }
            }
        })
    }

    fn load(&mut self) -> Result<(), QueryError> {
        let mut header = [0; 5];
        self.read_exact(&mut header, 0)?;
        if header[..4] != INDEX_MAGIC.to_be_bytes() {
            return Err(self.corrupt(0, "not an index"));
        }
        if header[4] != INDEX_VERSION {
            let reason = format!("index version {} is not supported", header[4]);
            return Err(self.corrupt(4, reason));
        }
        let [symbols, series, label_indices, _, postings, table] = self.read_toc()?;
        // The series end where the first of the sections after them begins.
        let series_end = if label_indices >= series { label_indices } else { postings };
        if !(symbols == HEADER_BYTES && symbols < series && series <= series_end) {
            return Err(self.corrupt(self.toc_at(), "table of contents is inconsistent"));
        }
        self.series = series..series_end;
        self.load_symbols(symbols)?;
        self.load_names(table)
    }

    fn toc_at(&self) -> u64 {
        self.bytes.saturating_sub(TOC_BYTES as u64)
    }

    fn read_toc(&self) -> Result<[u64; 6], QueryError> {
        let at = self.toc_at();
        let mut toc = [0; TOC_BYTES];
        self.read_exact(&mut toc, at)?;
        let (content, checksum) = toc.split_at(TOC_BYTES - 4);
        if crc32c(content).to_be_bytes() != checksum {
            return Err(self.corrupt(at, "checksum mismatch in the table of contents"));
        }
        let mut sections = [0; 6];
        for (section, bytes) in sections.iter_mut().zip(content.as_chunks::<8>().0) {
            *section = u64::from_be_bytes(*bytes);
            if *section > at {
                return Err(self.corrupt(at, "table of contents points beyond the file"));
            }
        }
        Ok(sections)
    }

    /// The content of the section at `offset`, after its length and before its checksum.
    fn section(&self, offset: u64) -> Result<std::ops::Range<u64>, QueryError> {
        let mut length = [0; 4];
        self.read_exact(&mut length, offset)?;
        let start = offset + LENGTH_BYTES;
        let end = start + u64::from(u32::from_be_bytes(length));
        if end + CHECKSUM_BYTES > self.bytes {
            return Err(self.corrupt(offset, "section is too long"));
        }
        Ok(start..end)
    }

    fn verify(&self, scan: &Scan<'_>, end: u64) -> Result<(), QueryError> {
        let mut checksum = [0; 4];
        self.read_exact(&mut checksum, end)?;
        if scan.position() != end || scan.checksum.to_be_bytes() != checksum {
            return Err(self.corrupt(end, "checksum mismatch in a table"));
        }
        Ok(())
    }

    fn load_symbols(&mut self, offset: u64) -> Result<(), QueryError> {
        let section = self.section(offset)?;
        let mut scan = Scan::new(self, section.start, section.end);
        let count = scan.entry(|bytes| bytes.be32())?;
        let mut sampled = Vec::new();
        for i in 0..count as usize {
            if i % SAMPLING == 0 {
                sampled.push(scan.position());
            }
            scan.entry(|bytes| bytes.str().map(drop))?;
        }
        self.verify(&scan, section.end)?;
        self.symbols = SymbolTable { count, sampled, end: section.end };
        Ok(())
    }

    fn load_names(&mut self, offset: u64) -> Result<(), QueryError> {
        let section = self.section(offset)?;
        let mut scan = Scan::new(self, section.start, section.end);
        let count = scan.entry(|bytes| bytes.be32())?;
        let mut names: Vec<Name> = Vec::new();
        let mut all_at = None;
        let mut of_name = 0;
        for _ in 0..count {
            let at = scan.position();
            let (name, value, offset) = scan.entry(|bytes| {
                let (name, value, offset) = offset_entry(bytes)?;
                Ok((String::from(name), String::from(value), offset))
            })?;
            if name.is_empty() && value.is_empty() {
                all_at = Some(offset);
                continue;
            }
            if names.last().is_none_or(|last| last.name != name) {
                names.push(Name { name, sampled: Vec::new(), end: 0 });
                of_name = 0;
            }
            let last = names.last_mut().expect("pushed above");
            if of_name % SAMPLING == 0 {
                last.sampled.push((value, at));
            }
            of_name += 1;
            last.end = scan.position();
        }
        self.verify(&scan, section.end)?;
        if !names.is_sorted_by(|a, b| a.name < b.name) {
            return Err(self.corrupt(offset, "label names are not sorted"));
        }
        (self.names, self.all_at) = (names, all_at);
        Ok(())
    }

    /// The string of a symbol.
    pub(crate) fn symbol<'c>(
        &self,
        symbol: u32,
        cache: &'c mut SymbolCache,
    ) -> Result<&'c str, QueryError> {
        if !cache.symbols.contains_key(&symbol) {
            self.load_symbol_group(symbol, cache)?;
        }
        Ok(&cache.symbols[&symbol])
    }

    fn load_symbol_group(&self, symbol: u32, cache: &mut SymbolCache) -> Result<(), QueryError> {
        let group = symbol as usize / SAMPLING;
        let start = self.symbols.sampled.get(group).filter(|_| symbol < self.symbols.count);
        let Some(&start) = start else {
            return Err(self.corrupt(self.symbols.end, format!("there is no symbol {symbol}")));
        };
        let end = self.symbols.sampled.get(group + 1).copied().unwrap_or(self.symbols.end);
        let mut scan = Scan::new(self, start, end);
        let first = u32::try_from(group * SAMPLING).expect("symbols are 32 bits");
        for id in (first..self.symbols.count).take(SAMPLING) {
            let text = scan.entry(|bytes| bytes.str().map(String::from))?;
            cache.symbols.insert(id, text);
        }
        Ok(())
    }

    /// Reads and verifies the entry of series `id`.
    pub(crate) fn series(&self, id: u32, into: &mut SeriesEntry) -> Result<(), QueryError> {
        let offset = u64::from(id) * SERIES_ALIGNMENT;
        if !self.series.contains(&offset) {
            return Err(self.corrupt(offset, "series lies outside its section"));
        }
        let left = usize::try_from(self.bytes - offset).unwrap_or(usize::MAX);
        let mut buffer = vec![0; SERIES_BYTES.min(left)];
        self.read_exact(&mut buffer, offset)?;
        let mut bytes = Bytes::new(&buffer);
        let len = bytes.uvarint_len().ok().filter(|&len| len <= ENTRY_BYTES_MAX);
        let len = len.ok_or_else(|| self.corrupt(offset, "series entry is too long"))?;
        let start = buffer.len() - bytes.len();
        let end = start + len + 4;
        if end > buffer.len() {
            if end > left {
                return Err(self.corrupt(offset, "series entry is cut off"));
            }
            buffer.resize(end, 0);
            self.read_exact(&mut buffer, offset)?;
        }
        let (entry, checksum) = buffer[start..end].split_at(len);
        if crc32c(entry).to_be_bytes() != checksum {
            return Err(self.corrupt(offset, "checksum mismatch in a series entry"));
        }
        into.labels.clear();
        into.chunks.clear();
        decode_series(entry, into).map_err(|error| self.corrupt(offset, error.to_string()))
    }

    fn read_postings(&self, offset: u64) -> Result<Vec<u32>, QueryError> {
        let section = self.section(offset)?;
        let len = usize::try_from(section.end - section.start).unwrap_or(usize::MAX);
        let mut bytes = vec![0; len + 4];
        self.read_exact(&mut bytes, section.start)?;
        let (content, checksum) = bytes.split_at(len);
        if crc32c(content).to_be_bytes() != checksum {
            return Err(self.corrupt(offset, "checksum mismatch in postings"));
        }
        let Some((count, ids)) = content.split_first_chunk::<4>() else {
            return Err(self.corrupt(offset, "postings have no length"));
        };
        let (ids, rest) = ids.as_chunks::<4>();
        if ids.len() != u32::from_be_bytes(*count) as usize || !rest.is_empty() {
            return Err(self.corrupt(offset, "postings have another length than they say"));
        }
        let ids: Vec<u32> = ids.iter().map(|id| u32::from_be_bytes(*id)).collect();
        if !ids.is_sorted_by(|a, b| a < b) {
            return Err(self.corrupt(offset, "postings are not sorted"));
        }
        Ok(ids)
    }

    fn name(&self, name: &str) -> Option<&Name> {
        let at = self.names.binary_search_by(|known| known.name.as_str().cmp(name)).ok()?;
        Some(&self.names[at])
    }

    /// Label names, sorted.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|name| name.name.as_str())
    }

    /// Calls `on_value` with the values of label `name` in order, and where the postings of each are, until it returns false.
    pub(crate) fn values(
        &self,
        name: &str,
        context: &QueryContext,
        mut on_value: impl FnMut(&str, u64) -> bool,
    ) -> Result<(), QueryError> {
        let Some(name) = self.name(name) else { return Ok(()) };
        let mut scan = Scan::new(self, name.sampled[0].1, name.end);
        let mut value = String::new();
        let mut count = 0;
        while !scan.is_done() {
            if count % 1024 == 0 {
                context.check()?;
            }
            count += 1;
            let (text, offset) = scan.entry(|bytes| {
                let (_, value, offset) = offset_entry(bytes)?;
                Ok((String::from(value), offset))
            })?;
            value.clone_from(&text);
            if !on_value(&value, offset) {
                break;
            }
        }
        Ok(())
    }

    fn find_postings(&self, name: &str, value: &str) -> Result<Option<u64>, QueryError> {
        let Some(name) = self.name(name) else { return Ok(None) };
        let after = name.sampled.partition_point(|(sampled, _)| sampled.as_str() <= value);
        let Some(group) = after.checked_sub(1) else { return Ok(None) };
        let end = name.sampled.get(after).map_or(name.end, |(_, at)| *at);
        let mut scan = Scan::new(self, name.sampled[group].1, end);
        while !scan.is_done() {
            let found = scan.entry(|bytes| {
                let (_, found, offset) = offset_entry(bytes)?;
                Ok((found == value).then_some(offset))
            })?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

/// One entry of the postings offset table.
fn offset_entry<'b>(bytes: &mut Bytes<'b>) -> Result<(&'b str, &'b str, u64), DecodeError> {
    if bytes.uvarint()? != 2 {
        return Err(DecodeError::Invalid("postings offset entry is not of a pair"));
    }
    Ok((bytes.str()?, bytes.str()?, bytes.uvarint()?))
}

fn decode_series(entry: &[u8], into: &mut SeriesEntry) -> Result<(), DecodeError> {
    let mut bytes = Bytes::new(entry);
    for _ in 0..bytes.uvarint_len()? {
        into.labels.push((bytes.uvarint32()?, bytes.uvarint32()?));
    }
    let mut previous: Option<ChunkRef> = None;
    for _ in 0..bytes.uvarint_len()? {
        let min = match previous {
            None => bytes.varint()?,
            Some(previous) => previous.range.max.wrapping_add(bytes.uvarint()?.cast_signed()),
        };
        let max = min.wrapping_add(bytes.uvarint()?.cast_signed());
        let reference = match previous {
            None => bytes.uvarint()?,
            Some(previous) => previous.reference.wrapping_add(bytes.varint()?.cast_unsigned()),
        };
        let chunk = ChunkRef { range: TimeRange::new(min, max), reference };
        into.chunks.push(chunk);
        previous = Some(chunk);
    }
    Ok(())
}

impl LabelIndex for IndexReader {
    fn all(&self) -> Result<Vec<u32>, QueryError> {
        self.all_at.map_or_else(|| Ok(Vec::new()), |offset| self.read_postings(offset))
    }

    fn equal(&self, name: &str, value: &str) -> Result<Cow<'_, [u32]>, QueryError> {
        match self.find_postings(name, value)? {
            Some(offset) => self.read_postings(offset).map(Cow::Owned),
            None => Ok(Cow::Borrowed(&[])),
        }
    }

    fn matching(
        &self,
        name: &str,
        accept: &mut dyn FnMut(&str) -> bool,
        context: &QueryContext,
    ) -> Result<Vec<u32>, QueryError> {
        let mut offsets = Vec::new();
        self.values(name, context, |value, offset| {
            if accept(value) {
                offsets.push(offset);
            }
            true
        })?;
        let mut series = Vec::new();
        for (i, offset) in offsets.into_iter().enumerate() {
            if i % 64 == 0 {
                context.check()?;
            }
            series.extend(self.read_postings(offset)?);
        }
        series.sort_unstable();
        Ok(series)
    }
}

#[cfg(test)]
mod tests {
    use model::Matcher;

    use super::*;
    use crate::block::index_writer::IndexWriter;
    use crate::disk::MemDisk;
    use crate::postings;

    const PATH: &str = "/index";

    /// Series `{a="<i>", n="v"}` for each i, every third without `n`.
    fn write(disk: &MemDisk, count: usize) {
        let mut values: Vec<String> = (0..count).map(|i| format!("{i:05}")).collect();
        values.extend(["a", "n", "v"].map(String::from));
        let symbols = values.iter().map(|text| text.as_str().into()).collect();
        let file = disk.create(Path::new(PATH)).unwrap();
        let mut writer = IndexWriter::new(file, symbols).unwrap();
        let [a, n, v] = [0, 1, 2].map(|i| u32::try_from(count + i).unwrap());
        for i in 0..u32::try_from(count).unwrap() {
            let labels: &[(u32, u32)] = if i % 3 == 0 { &[(a, i)] } else { &[(a, i), (n, v)] };
            writer.series(labels, &chunks(i64::from(i))).unwrap();
        }
        writer.finish().unwrap();
    }

    fn chunks(i: i64) -> [ChunkRef; 2] {
        let reference = 8 + i.cast_unsigned() * 100;
        [
            ChunkRef { range: TimeRange::new(i - 50, i), reference },
            ChunkRef { range: TimeRange::new(i + 1, i + 90), reference: reference + 40 },
        ]
    }

    #[test]
    fn golden_index() {
        let disk = MemDisk::new();
        let file = disk.create(Path::new(PATH)).unwrap();
        let mut writer = IndexWriter::new(file, vec!["a".into(), "b".into()]).unwrap();
        let range = TimeRange::new(-1, 9);
        writer.series(&[(0, 1)], &[ChunkRef { range, reference: 8 }]).unwrap();
        writer.finish().unwrap();

        let section = |content: &[u8]| {
            let mut bytes = u32::try_from(content.len()).unwrap().to_be_bytes().to_vec();
            bytes.extend_from_slice(content);
            bytes.extend(crc32c(content).to_be_bytes());
            bytes
        };
        let mut expected = b"\xba\xaa\xd7\x00\x02".to_vec();
        expected.extend(section(b"\0\0\0\x02\x01a\x01b"));
        assert_eq!(expected.len(), 21);
        expected.extend([0; 11]);
        // One label, a=b; one chunk from -1 (zigzag 1) for 10 at 8.
        let entry = [1, 0, 1, 1, 1, 10, 8];
        expected.push(7);
        expected.extend(entry);
        expected.extend(crc32c(&entry).to_be_bytes());
        assert_eq!(expected.len(), 44);
        // Series at 32 is number 2; two postings lists of one.
        expected.extend(section(&[0, 0, 0, 1, 0, 0, 0, 2]));
        expected.extend(section(&[0, 0, 0, 1, 0, 0, 0, 2]));
        expected.extend(section(b"\0\0\0\x02\x02\0\0\x2c\x02\x01a\x01b\x3c"));
        let mut toc = vec![];
        for offset in [5_u64, 21, 44, 76, 44, 76] {
            toc.extend(offset.to_be_bytes());
        }
        expected.extend(&toc);
        expected.extend(crc32c(&toc).to_be_bytes());
        assert_eq!(disk.read(Path::new(PATH)).unwrap(), expected);
    }

    #[test]
    fn what_is_written_is_found() {
        let disk = MemDisk::new();
        write(&disk, 1000);
        let reader = IndexReader::open(&disk, Path::new(PATH)).unwrap();
        assert_eq!(reader.names().collect::<Vec<_>>(), ["a", "n"]);
        let context = QueryContext::unbounded();
        let all = reader.all().unwrap();
        assert_eq!(all.len(), 1000);
        let mut cache = SymbolCache::default();
        for i in [0, 1, 31, 32, 33, 500, 998, 999] {
            let value = format!("{i:05}");
            let found = reader.equal("a", &value).unwrap();
            assert_eq!(found.as_ref(), [all[i]], "{value}");
            let mut entry = SeriesEntry::default();
            reader.series(found[0], &mut entry).unwrap();
            assert_eq!(reader.symbol(entry.labels[0].1, &mut cache).unwrap(), value);
            assert_eq!(entry.chunks, chunks(i.try_into().unwrap()));
        }
        for missing in ["", "0", "00000x", "99999", "zzz"] {
            assert!(reader.equal("a", missing).unwrap().is_empty(), "{missing}");
        }
        let lacking = [Matcher::equal("n", "")];
        assert_eq!(postings::select(&reader, &lacking, &context).unwrap().len(), 334);
        let mut values = vec![];
        reader
            .values("a", &context, |value, _| {
                values.push(String::from(value));
                true
            })
            .unwrap();
        assert_eq!(values.len(), 1000);
        assert!(values.is_sorted());
    }

    /// All that can be read from the index.
    fn read_everything(disk: &MemDisk) -> Result<Vec<String>, QueryError> {
        let reader = IndexReader::open(disk, Path::new(PATH))?;
        let mut cache = SymbolCache::default();
        let mut found = vec![];
        let matching = reader.matching("n", &mut |_| true, &QueryContext::unbounded())?;
        found.push(format!("{matching:?}"));
        for id in reader.all()? {
            let mut entry = SeriesEntry::default();
            reader.series(id, &mut entry)?;
            for &(name, value) in &entry.labels {
                let name = String::from(reader.symbol(name, &mut cache)?);
                found.push(format!("{name}={}", reader.symbol(value, &mut cache)?));
            }
            found.push(format!("{:?}", entry.chunks));
        }
        Ok(found)
    }

    #[test]
    fn every_flipped_byte_is_found_or_harmless() {
        let disk = MemDisk::new();
        write(&disk, 5);
        let expected = read_everything(&disk).unwrap();
        let bytes = disk.read(Path::new(PATH)).unwrap();
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x08;
            disk.overwrite(Path::new(PATH), &flipped).unwrap();
            if let Ok(found) = read_everything(&disk) {
                assert_eq!(found, expected, "byte {at}");
            }
        }
        for len in 0..bytes.len() {
            disk.overwrite(Path::new(PATH), &bytes[..len]).unwrap();
            assert!(read_everything(&disk).is_err(), "{len} bytes");
        }
    }
}
