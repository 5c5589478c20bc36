//! Reads the index of a block, keeping little of it in memory.
//!
//! Format: `docs/formats/index.md`. The symbol table and the postings offset table are verified once when the index is opened
//! ([`super::symbols`], [`super::offset_table`]). Series ([`SeriesCursor`]) and postings are read and verified when asked for.

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;

use crc32c::crc32c;
use model::{QueryContext, QueryError};

use super::cursor::SeriesCursor;
use super::offset_table::OffsetTable;
use super::scan::IndexFile;
use super::symbols::{SymbolCache, SymbolIter, SymbolTable};
use super::window::Window;
use super::{INDEX_MAGIC, SERIES_ALIGNMENT};
use crate::disk::Disk;
use crate::postings::LabelIndex;

/// Names symbols and series by their place in the file, and has its postings offset table in any order.
const VERSION_BY_OFFSET: u8 = 1;
/// The last version. It is read like the one before; nothing writes it yet.
const VERSION_MAX: u8 = 3;

const HEADER_BYTES: u64 = 5;
const TOC_BYTES: usize = 6 * 8 + 4;
/// Length and number of elements in front of postings.
const POSTINGS_HEADER_BYTES: usize = 8;
const CHECKSUM_BYTES: usize = 4;

/// What is read at once of one list of postings, and of many that follow each other.
const AHEAD_BYTES: (usize, usize) = (4 << 10, 256 << 10);

/// The index of a block.
#[derive(Debug)]
pub(crate) struct IndexReader {
    pub(super) file: IndexFile,
    version: u8,
    /// Where the series are.
    pub(super) series: Range<u64>,
    pub(super) symbols: SymbolTable,
    pub(super) table: OffsetTable,
}

impl IndexReader {
    /// Opens and verifies the index at `path`.
    pub(crate) fn open(disk: &dyn Disk, path: &Path) -> Result<Self, QueryError> {
        let mut reader = Self {
            file: IndexFile::open(disk, path)?,
            version: 0,
            series: 0..0,
            symbols: SymbolTable::default(),
            table: OffsetTable::default(),
        };
        reader.load()?;
        Ok(reader)
    }

    /// Size of the file.
    pub(crate) const fn bytes(&self) -> u64 {
        self.file.bytes
    }

    fn load(&mut self) -> Result<(), QueryError> {
        let mut header = [0; 5];
        self.file.read_exact(&mut header, 0)?;
        if header[..4] != INDEX_MAGIC.to_be_bytes() {
            return Err(self.file.corrupt(0, "not an index"));
        }
        self.version = header[4];
        if !(VERSION_BY_OFFSET..=VERSION_MAX).contains(&self.version) {
            let reason = format!("index version {} is not supported", header[4]);
            return Err(self.file.corrupt(4, reason));
        }
        let [symbols, series, label_indices, _, postings, table] = self.read_toc()?;
        // The series end where the first of the sections after them begins.
        let series_end = if label_indices >= series { label_indices } else { postings };
        if !(symbols == HEADER_BYTES && symbols < series && series <= series_end) {
            return Err(self.file.corrupt(self.toc_at(), "table of contents is inconsistent"));
        }
        self.series = series..series_end;
        let by_offset = self.version == VERSION_BY_OFFSET;
        self.symbols = SymbolTable::load(&self.file, symbols, by_offset)?;
        self.table = OffsetTable::load(&self.file, table, !by_offset)?;
        Ok(())
    }

    fn toc_at(&self) -> u64 {
        self.file.bytes.saturating_sub(TOC_BYTES as u64)
    }

    fn read_toc(&self) -> Result<[u64; 6], QueryError> {
        let at = self.toc_at();
        let mut toc = [0; TOC_BYTES];
        self.file.read_exact(&mut toc, at)?;
        let (content, checksum) = toc.split_at(TOC_BYTES - CHECKSUM_BYTES);
        if crc32c(content).to_be_bytes() != checksum {
            return Err(self.file.corrupt(at, "checksum mismatch in the table of contents"));
        }
        let mut sections = [0; 6];
        for (section, bytes) in sections.iter_mut().zip(content.as_chunks::<8>().0) {
            *section = u64::from_be_bytes(*bytes);
            if *section > at {
                return Err(self.file.corrupt(at, "table of contents points beyond the file"));
            }
        }
        Ok(sections)
    }

    /// Where the entry of series `id` stands.
    pub(super) fn series_offset(&self, id: u32) -> u64 {
        let unit = if self.version == VERSION_BY_OFFSET { 1 } else { SERIES_ALIGNMENT };
        u64::from(id) * unit
    }

    pub(super) fn corrupt(&self, offset: u64, reason: impl Into<String>) -> QueryError {
        self.file.corrupt(offset, reason)
    }

    /// Whether series stand in the order of their labels, and the labels of each in the order of their names.
    pub(super) const fn is_ordered(&self) -> bool {
        self.version != VERSION_BY_OFFSET
    }

    /// For reading series.
    pub(crate) fn cursor(&self) -> SeriesCursor<'_> {
        SeriesCursor::new(self)
    }

    /// The strings of all labels in order.
    pub(super) fn symbols(&self) -> SymbolIter<'_> {
        self.symbols.iter(&self.file)
    }

    /// The strings at these positions of the symbol table.
    pub(super) fn strings<const N: usize>(
        &self,
        positions: [u32; N],
        cache: &mut SymbolCache,
    ) -> Result<[String; N], QueryError> {
        cache.trim();
        for position in positions {
            cache.load(&self.symbols, &self.file, position)?;
        }
        Ok(positions.map(|position| String::from(cache.get(position))))
    }

    fn postings_window() -> Window {
        Window::new(AHEAD_BYTES.0, AHEAD_BYTES.1)
    }

    /// Appends the series of the postings at `offset` to `into`.
    pub(super) fn read_postings(
        &self,
        offset: u64,
        window: &mut Window,
        into: &mut Vec<u32>,
    ) -> Result<(), QueryError> {
        let corrupt = |reason| self.file.corrupt(offset, reason);
        let failed = |source| self.file.failed(source);
        let file = self.file.file.as_ref();
        let header = window.get(file, offset, POSTINGS_HEADER_BYTES).map_err(failed)?;
        let (len, rest) =
            header.split_first_chunk::<4>().ok_or_else(|| corrupt("postings are cut off"))?;
        let count = rest.first_chunk::<4>().ok_or_else(|| corrupt("postings are cut off"))?;
        let (len, count) = (u32::from_be_bytes(*len), u32::from_be_bytes(*count));
        if u64::from(len) != 4 + u64::from(count) * 4 {
            return Err(corrupt("postings have another length than they say"));
        }
        if offset + 4 + u64::from(len) + CHECKSUM_BYTES as u64 > self.file.bytes {
            return Err(corrupt("postings are cut off"));
        }
        let len = len as usize;
        let section = window.get(file, offset, 4 + len + CHECKSUM_BYTES).map_err(failed)?;
        let section = section.get(4..4 + len + CHECKSUM_BYTES);
        let (content, checksum) =
            section.ok_or_else(|| corrupt("postings are cut off"))?.split_at(len);
        if crc32c(content).to_be_bytes() != checksum {
            return Err(corrupt("checksum mismatch in postings"));
        }
        let (ids, _) = content[4..].as_chunks::<4>();
        let start = into.len();
        into.extend(ids.iter().map(|id| u32::from_be_bytes(*id)));
        if !into[start..].is_sorted_by(|a, b| a < b) {
            return Err(corrupt("postings are not sorted"));
        }
        Ok(())
    }

    /// Label names, sorted.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.table.names()
    }

    /// Calls `on_value` with the values of label `name` in order, and where the postings of each are, until it returns false.
    pub(crate) fn values(
        &self,
        name: &str,
        context: &QueryContext,
        on_value: impl FnMut(&str, u64) -> bool,
    ) -> Result<(), QueryError> {
        self.table.values_with(&self.file, name, "", context, on_value)
    }
}

impl LabelIndex for IndexReader {
    fn all(&self) -> Result<Vec<u32>, QueryError> {
        let mut series = Vec::new();
        if let Some(offset) = self.table.all_at {
            self.read_postings(offset, &mut Self::postings_window(), &mut series)?;
        }
        Ok(series)
    }

    fn equal(&self, name: &str, value: &str) -> Result<Cow<'_, [u32]>, QueryError> {
        let mut series = Vec::new();
        if let Some(offset) = self.table.find(&self.file, name, value)? {
            self.read_postings(offset, &mut Self::postings_window(), &mut series)?;
        }
        Ok(Cow::Owned(series))
    }

    fn matching(
        &self,
        name: &str,
        prefix: &str,
        accept: &mut dyn FnMut(&str) -> bool,
        context: &QueryContext,
    ) -> Result<Vec<u32>, QueryError> {
        let mut offsets = Vec::new();
        self.table.values_with(&self.file, name, prefix, context, |value, offset| {
            if accept(value) {
                offsets.push(offset);
            }
            true
        })?;
        let mut series = Vec::new();
        // The postings of a name stand in the order of its values, so the file is read forwards.
        let mut window = Self::postings_window();
        for (i, offset) in offsets.into_iter().enumerate() {
            if i % 64 == 0 {
                context.check()?;
            }
            self.read_postings(offset, &mut window, &mut series)?;
        }
        // The stable sort merges what is ascending, as each of the postings is.
        series.sort();
        Ok(series)
    }
}

#[cfg(test)]
mod tests {
    use model::{Matcher, TimeRange};

    use super::*;
    use crate::block::index_writer::{ChunkRef, IndexWriter};
    use crate::block::symbol_list::SymbolList;
    use crate::disk::MemDisk;
    use crate::postings;

    const PATH: &str = "/index";

    /// Series `{a="<i>", n="v"}` for each i, every third without `n`.
    fn write(disk: &MemDisk, count: usize) {
        let mut values: Vec<String> = (0..count).map(|i| format!("{i:05}")).collect();
        values.extend(["a", "n", "v"].map(String::from));
        let symbols = symbol_list(values.iter().map(String::as_str));
        let file = disk.create(Path::new(PATH)).unwrap();
        let mut writer = IndexWriter::new(file, symbols).unwrap();
        let [a, n, v] = [0, 1, 2].map(|i| u32::try_from(count + i).unwrap());
        for i in 0..u32::try_from(count).unwrap() {
            let labels: &[(u32, u32)] = if i % 3 == 0 { &[(a, i)] } else { &[(a, i), (n, v)] };
            writer.series(labels, &chunks(i64::from(i))).unwrap();
        }
        writer.finish().unwrap();
    }

    fn symbol_list<'t>(texts: impl Iterator<Item = &'t str>) -> SymbolList {
        let mut symbols = SymbolList::default();
        texts.for_each(|text| symbols.push(text).unwrap());
        symbols
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
        let mut writer = IndexWriter::new(file, symbol_list(["a", "b"].into_iter())).unwrap();
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
        let mut cursor = reader.cursor();
        for i in [0, 1, 31, 32, 33, 500, 998, 999] {
            let value = format!("{i:05}");
            let found = reader.equal("a", &value).unwrap();
            assert_eq!(found.as_ref(), [all[i]], "{value}");
            assert_eq!(cursor.read(found[0]).unwrap().chunks, chunks(i.try_into().unwrap()));
            assert_eq!(cursor.labels().unwrap().get("a"), Some(value.as_str()));
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
        for prefix in ["", "0", "00", "0003", "00032", "0099", "00999", "009990", "1", "/"] {
            let mut found = vec![];
            let matching = reader.matching(
                "a",
                prefix,
                &mut |value| {
                    found.push(String::from(value));
                    true
                },
                &context,
            );
            let expected: Vec<_> =
                values.iter().filter(|value| value.starts_with(prefix)).cloned().collect();
            assert_eq!(matching.unwrap().len(), expected.len(), "{prefix}");
            assert_eq!(found, expected, "{prefix}");
        }
    }

    /// An index of version 1, which nothing writes any more: symbols and series are named by their place in the file, and entries of the
    /// postings offset table stand in any order. Series `{a="x"}` and `{a="y", b="x"}`.
    fn version_1() -> Vec<u8> {
        let section = |content: &[u8]| {
            let mut bytes = u32::try_from(content.len()).unwrap().to_be_bytes().to_vec();
            bytes.extend_from_slice(content);
            bytes.extend(crc32c(content).to_be_bytes());
            bytes
        };
        let be = |at: usize| u32::try_from(at).unwrap().to_be_bytes();
        let small = |at: usize| u8::try_from(at).unwrap();
        let mut bytes = b"\xba\xaa\xd7\x00\x01".to_vec();
        // The strings start at 13, after magic, version, length and count.
        bytes.extend(section(b"\0\0\0\x04\x01a\x01b\x01x\x01y"));
        let [a, b, x, y] = [13, 15, 17, 19];
        let series_at = bytes.len();
        let mut ids = vec![];
        for entry in [vec![1, a, x, 1, 0, 10, 8], vec![2, a, y, b, x, 1, 2, 10, 40]] {
            ids.push(bytes.len());
            bytes.push(small(entry.len()));
            bytes.extend(&entry);
            bytes.extend(crc32c(&entry).to_be_bytes());
        }
        let label_indices_at = bytes.len();
        let postings_at = bytes.len();
        let mut table = be(4).to_vec();
        let lists =
            [("b", "x", vec![1]), ("a", "y", vec![1]), ("", "", vec![0, 1]), ("a", "x", vec![0])];
        for (name, value, of) in lists {
            let mut list = be(of.len()).to_vec();
            of.iter().for_each(|&i: &usize| list.extend(be(ids[i])));
            table.push(2);
            crate::bytes::put_str(&mut table, name);
            crate::bytes::put_str(&mut table, value);
            crate::bytes::put_uvarint(&mut table, bytes.len() as u64);
            bytes.extend(section(&list));
        }
        let table_at = bytes.len();
        bytes.extend(section(&table));
        let mut toc = vec![];
        for at in [5, series_at, label_indices_at, table_at, postings_at, table_at] {
            toc.extend((at as u64).to_be_bytes());
        }
        bytes.extend(&toc);
        bytes.extend(crc32c(&toc).to_be_bytes());
        bytes
    }

    fn labels_of(reader: &IndexReader, ids: &[u32]) -> Vec<String> {
        let mut cursor = reader.cursor();
        let label = |&id: &u32| {
            cursor.read(id).unwrap();
            cursor.labels().unwrap().to_string()
        };
        ids.iter().map(label).collect()
    }

    #[test]
    fn version_1_is_read() {
        let disk = MemDisk::new();
        disk.create(Path::new(PATH)).unwrap().write_at(&version_1(), 0).unwrap();
        let reader = IndexReader::open(&disk, Path::new(PATH)).unwrap();
        let both = [r#"{a="x"}"#, r#"{a="y", b="x"}"#];
        assert_eq!(labels_of(&reader, &reader.all().unwrap()), both);
        assert_eq!(labels_of(&reader, &reader.equal("b", "x").unwrap()), both[1..]);
        let context = QueryContext::unbounded();
        let matching = reader.matching("a", "", &mut |value| value < "y", &context).unwrap();
        assert_eq!(labels_of(&reader, &matching), both[..1]);
        assert_eq!(reader.names().collect::<Vec<_>>(), ["a", "b"]);
        let mut cursor = reader.cursor();
        let chunks = &cursor.read(matching[0]).unwrap().chunks;
        assert_eq!(chunks, &[ChunkRef { range: TimeRange::new(0, 10), reference: 8 }]);
        assert!(cursor.read(matching[0] + 1).is_err(), "between two series");
    }

    #[test]
    fn version_3_is_read_as_version_2_and_no_later_one() {
        let disk = MemDisk::new();
        write(&disk, 100);
        let expected = read_everything(&disk).unwrap();
        let mut bytes = disk.read(Path::new(PATH)).unwrap();
        bytes[4] = 3;
        disk.overwrite(Path::new(PATH), &bytes).unwrap();
        assert_eq!(read_everything(&disk).unwrap(), expected);
        for version in [0, 4] {
            bytes[4] = version;
            disk.overwrite(Path::new(PATH), &bytes).unwrap();
            assert!(read_everything(&disk).is_err(), "version {version}");
        }
    }

    /// All that can be read from the index.
    fn read_everything(disk: &MemDisk) -> Result<Vec<String>, QueryError> {
        let reader = IndexReader::open(disk, Path::new(PATH))?;
        let mut cursor = reader.cursor();
        let mut found = vec![];
        let matching = reader.matching("n", "", &mut |_| true, &QueryContext::unbounded())?;
        found.push(format!("{matching:?}"));
        for id in reader.all()? {
            cursor.read(id)?;
            found.push(cursor.labels()?.to_string());
            found.push(format!("{:?}", cursor.entry().chunks));
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
