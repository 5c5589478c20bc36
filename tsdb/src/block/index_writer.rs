//! Writes the index of a block.
//!
//! Format: `docs/formats/index.md`. Symbols come first, then series in order of labels, then [`finish`](IndexWriter::finish) adds postings and the
//! tables that lead to them.

use std::io;
use std::sync::Arc;

use crc32c::{crc32c, crc32c_append};
use model::TimeRange;

use super::checksums::{Sum, SummedWriter};
use super::postings_builder::{ListSize, PostingsBuilder};
use super::symbol_list::SymbolList;
use super::{INDEX_MAGIC, INDEX_VERSION, SERIES_ALIGNMENT};
use crate::bytes::{put_str, put_uvarint, put_varint};
use crate::disk::DiskFile;

const POSTINGS_ALIGNMENT: u64 = 4;

/// Where a chunk of a series is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkRef {
    pub(crate) range: TimeRange,
    pub(crate) reference: u64,
}

/// An index being written.
#[derive(Debug)]
pub(crate) struct IndexWriter {
    file: SummedWriter,
    symbols: SymbolList,
    symbols_at: u64,
    series_at: u64,
    postings: PostingsBuilder,
    /// Labels of the last series.
    last: Vec<(u32, u32)>,
    entry: Vec<u8>,
}

/// The postings of one name, by value.
struct Lists {
    name: u32,
    sizes: Vec<ListSize>,
}

fn invalid(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

fn length(bytes: usize) -> io::Result<[u8; 4]> {
    let bytes = u32::try_from(bytes).map_err(|_| invalid("index section exceeds 4 GiB"))?;
    Ok(bytes.to_be_bytes())
}

impl IndexWriter {
    /// Starts an index with these strings.
    pub(crate) fn new(file: Arc<dyn DiskFile>, symbols: SymbolList) -> io::Result<Self> {
        let mut file = SummedWriter::new(file);
        file.write(&INDEX_MAGIC.to_be_bytes())?;
        file.write(&[INDEX_VERSION])?;
        let symbols_at = file.position();
        let bytes: usize = symbols.iter().map(|text| uvarint_bytes(text.len()) + text.len()).sum();
        let mut section = SectionWriter::new(&mut file, 4 + bytes)?;
        section.write(&length(symbols.len())?)?;
        let mut item = Vec::new();
        for symbol in symbols.iter() {
            item.clear();
            put_str(&mut item, symbol);
            section.write(&item)?;
        }
        section.finish()?;
        let series_at = file.position();
        Ok(Self {
            file,
            symbols,
            symbols_at,
            series_at,
            postings: PostingsBuilder::default(),
            last: Vec::new(),
            entry: Vec::new(),
        })
    }

    /// Adds a series, which comes after all before by its labels. Labels are positions of symbols.
    pub(crate) fn series(&mut self, labels: &[(u32, u32)], chunks: &[ChunkRef]) -> io::Result<()> {
        if self.file.position() > self.series_at && self.last.as_slice() >= labels {
            return Err(invalid("series are not sorted"));
        }
        let symbols = self.symbols.len();
        if labels.iter().any(|&(name, value)| name.max(value) as usize >= symbols) {
            return Err(invalid("label has no symbol"));
        }
        self.last.clear();
        self.last.extend_from_slice(labels);
        self.file.align(SERIES_ALIGNMENT)?;
        let id = u32::try_from(self.file.position() / SERIES_ALIGNMENT)
            .map_err(|_| invalid("index exceeds 64 GiB"))?;
        let entry = &mut self.entry;
        entry.clear();
        put_uvarint(entry, labels.len() as u64);
        for &(name, value) in labels {
            put_uvarint(entry, u64::from(name));
            put_uvarint(entry, u64::from(value));
        }
        put_chunks(entry, chunks);
        let checksum = crc32c(entry).to_be_bytes();
        let mut prefix = Vec::with_capacity(5);
        put_uvarint(&mut prefix, entry.len() as u64);
        self.file.write(&prefix)?;
        entry.extend_from_slice(&checksum);
        self.file.write(entry)?;
        self.postings.add(id, labels);
        Ok(())
    }

    /// Writes the rest and makes the file durable.
    pub(crate) fn finish(mut self) -> io::Result<Sum> {
        // Empty sections of label indices, which nobody reads any more.
        let label_indices_at = self.file.position();
        self.file.align(POSTINGS_ALIGNMENT)?;
        let postings_at = self.file.position();
        let (all, columns) = std::mem::take(&mut self.postings).into_parts();
        self.put_postings(&all)?;
        let mut names = Vec::with_capacity(columns.len());
        for column in columns {
            let mut lists = Lists { name: column.name, sizes: Vec::new() };
            column.each_list(&all, |value, series| {
                let count = u32::try_from(series.len()).map_err(|_| invalid("too many series"))?;
                lists.sizes.push(ListSize { value, series: count });
                self.put_postings(series)
            })?;
            lists.sizes.shrink_to_fit();
            names.push(lists);
        }
        let table_at = self.file.position();
        self.put_table(all.len(), &names, postings_at)?;
        let mut toc = Vec::new();
        let sections =
            [self.symbols_at, self.series_at, label_indices_at, table_at, postings_at, table_at];
        for offset in sections {
            toc.extend_from_slice(&offset.to_be_bytes());
        }
        self.file.write(&toc)?;
        self.file.write(&crc32c(&toc).to_be_bytes())?;
        self.file.finish()
    }

    fn put_postings(&mut self, series: &[u32]) -> io::Result<()> {
        let bytes = &mut self.entry;
        bytes.clear();
        bytes.extend_from_slice(&length(series.len())?);
        bytes.extend(series.iter().flat_map(|id| id.to_be_bytes()));
        let mut section = SectionWriter::new(&mut self.file, bytes.len())?;
        section.write(bytes)?;
        section.finish()
    }

    /// Writes the postings offset table. Lists follow each other from `postings_at` on, that of all series first, so their sizes say
    /// where they are.
    fn put_table(&mut self, all: usize, names: &[Lists], postings_at: u64) -> io::Result<()> {
        let symbols = &self.symbols;
        let mut bytes = 0_usize;
        each_table_entry(symbols, all, names, postings_at, |entry| {
            bytes += entry.len();
            Ok(())
        })?;
        let pairs: usize = names.iter().map(|lists| lists.sizes.len()).sum();
        let mut section = SectionWriter::new(&mut self.file, 4 + bytes)?;
        section.write(&length(pairs + 1)?)?;
        each_table_entry(symbols, all, names, postings_at, |entry| section.write(entry))?;
        section.finish()
    }
}

fn each_table_entry(
    symbols: &SymbolList,
    all: usize,
    names: &[Lists],
    postings_at: u64,
    mut on_entry: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut entry = Vec::new();
    let mut offset = postings_at;
    let mut put = |name: &str, value: &str, series: u64| {
        entry.clear();
        entry.push(2);
        put_str(&mut entry, name);
        put_str(&mut entry, value);
        put_uvarint(&mut entry, offset);
        // Length, count and checksum around the ids.
        offset += 12 + series * 4;
        on_entry(&entry)
    };
    put("", "", all as u64)?;
    for Lists { name, sizes } in names {
        let name = symbols.get(*name as usize);
        for size in sizes {
            put(name, symbols.get(size.value as usize), u64::from(size.series))?;
        }
    }
    Ok(())
}

fn uvarint_bytes(value: usize) -> usize {
    let bits = (usize::BITS - value.leading_zeros()).max(1);
    bits.div_ceil(7) as usize
}

/// Writes a section between its length, which is known beforehand, and its checksum.
struct SectionWriter<'f> {
    file: &'f mut SummedWriter,
    checksum: u32,
    left: usize,
}

impl<'f> SectionWriter<'f> {
    fn new(file: &'f mut SummedWriter, bytes: usize) -> io::Result<Self> {
        file.write(&length(bytes)?)?;
        Ok(Self { file, checksum: 0, left: bytes })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.checksum = crc32c_append(self.checksum, bytes);
        self.left = self.left.checked_sub(bytes.len()).expect("sections have the announced length");
        self.file.write(bytes)
    }

    fn finish(self) -> io::Result<()> {
        assert_eq!(self.left, 0, "sections have the announced length");
        self.file.write(&self.checksum.to_be_bytes())
    }
}

fn put_chunks(entry: &mut Vec<u8>, chunks: &[ChunkRef]) {
    put_uvarint(entry, chunks.len() as u64);
    let mut previous: Option<ChunkRef> = None;
    for chunk in chunks {
        let (min, max) = (chunk.range.min, chunk.range.max);
        match previous {
            None => put_varint(entry, min),
            Some(previous) => {
                put_uvarint(entry, min.wrapping_sub(previous.range.max).cast_unsigned());
            }
        }
        put_uvarint(entry, max.wrapping_sub(min).cast_unsigned());
        match previous {
            None => put_uvarint(entry, chunk.reference),
            Some(previous) => {
                put_varint(entry, chunk.reference.wrapping_sub(previous.reference).cast_signed());
            }
        }
        previous = Some(*chunk);
    }
}
