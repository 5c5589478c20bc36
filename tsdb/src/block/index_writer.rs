//! Writes the index of a block.
//!
//! Format: `docs/formats/index.md`. Symbols come first, then series in order of labels, then [`finish`](IndexWriter::finish) adds postings and the
//! tables that lead to them.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use crc32c::{crc32c, crc32c_append};
use model::TimeRange;

use super::{INDEX_MAGIC, INDEX_VERSION, SERIES_ALIGNMENT};
use crate::bytes::{put_str, put_uvarint, put_varint};
use crate::disk::{DiskFile, FileWriter};

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
    file: FileWriter,
    symbols: Vec<Box<str>>,
    symbols_at: u64,
    series_at: u64,
    all: Vec<u32>,
    /// Series by name symbol in the upper and value symbol in the lower half.
    postings: HashMap<u64, Vec<u32>, foldhash::fast::RandomState>,
    entry: Vec<u8>,
}

fn invalid(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

fn length(bytes: usize) -> io::Result<[u8; 4]> {
    let bytes = u32::try_from(bytes).map_err(|_| invalid("index section exceeds 4 GiB"))?;
    Ok(bytes.to_be_bytes())
}

impl IndexWriter {
    /// Starts an index with these strings, sorted.
    pub(crate) fn new(file: Arc<dyn DiskFile>, symbols: Vec<Box<str>>) -> io::Result<Self> {
        let mut file = FileWriter::new(file);
        file.write(&INDEX_MAGIC.to_be_bytes())?;
        file.write(&[INDEX_VERSION])?;
        let symbols_at = file.position();
        let mut section = length(symbols.len())?.to_vec();
        for symbol in &symbols {
            put_str(&mut section, symbol);
        }
        write_section(&mut file, &section)?;
        let series_at = file.position();
        Ok(Self {
            file,
            symbols,
            symbols_at,
            series_at,
            all: Vec::new(),
            postings: HashMap::default(),
            entry: Vec::new(),
        })
    }

    /// Adds a series, which comes after all before by its labels. Labels are positions of symbols.
    pub(crate) fn series(&mut self, labels: &[(u32, u32)], chunks: &[ChunkRef]) -> io::Result<()> {
        self.file.align(SERIES_ALIGNMENT)?;
        let id = u32::try_from(self.file.position() / SERIES_ALIGNMENT)
            .map_err(|_| invalid("index exceeds 64 GiB"))?;
        let mut entry = std::mem::take(&mut self.entry);
        entry.clear();
        put_uvarint(&mut entry, labels.len() as u64);
        for &(name, value) in labels {
            put_uvarint(&mut entry, u64::from(name));
            put_uvarint(&mut entry, u64::from(value));
            self.postings.entry(u64::from(name) << 32 | u64::from(value)).or_default().push(id);
        }
        put_chunks(&mut entry, chunks);
        let mut prefix = Vec::with_capacity(5);
        put_uvarint(&mut prefix, entry.len() as u64);
        self.file.write(&prefix)?;
        self.file.write(&entry)?;
        self.file.write(&crc32c(&entry).to_be_bytes())?;
        self.entry = entry;
        self.all.push(id);
        Ok(())
    }

    /// Writes the rest and makes the file durable.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        // Empty sections of label indices, which nobody reads any more.
        let label_indices_at = self.file.position();
        self.file.align(POSTINGS_ALIGNMENT)?;
        let postings_at = self.file.position();
        let mut pairs: Vec<u64> = self.postings.keys().copied().collect();
        pairs.sort_unstable();
        let count = length(pairs.len() + 1)?;
        let mut table = count.to_vec();
        let all = std::mem::take(&mut self.all);
        self.put_postings("", "", &all, &mut table)?;
        for pair in pairs {
            let series = self.postings.remove(&pair).expect("pairs are the keys");
            let (name, value) = (pair >> 32, pair & u64::from(u32::MAX));
            let (name, value) = (self.symbol(name)?, self.symbol(value)?);
            self.put_postings(&name, &value, &series, &mut table)?;
        }
        let table_at = self.file.position();
        write_section(&mut self.file, &table)?;
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

    fn symbol(&mut self, position: u64) -> io::Result<Box<str>> {
        let position = usize::try_from(position).unwrap_or(usize::MAX);
        self.symbols.get(position).cloned().ok_or_else(|| invalid("label has no symbol"))
    }

    fn put_postings(
        &mut self,
        name: &str,
        value: &str,
        series: &[u32],
        table: &mut Vec<u8>,
    ) -> io::Result<()> {
        self.file.align(POSTINGS_ALIGNMENT)?;
        table.push(2);
        put_str(table, name);
        put_str(table, value);
        put_uvarint(table, self.file.position());
        let mut section = Vec::with_capacity(4 + series.len() * 4);
        section.extend_from_slice(&length(series.len())?);
        for id in series {
            section.extend_from_slice(&id.to_be_bytes());
        }
        write_section(&mut self.file, &section)
    }
}

/// Writes a section between its length and its checksum.
fn write_section(file: &mut FileWriter, section: &[u8]) -> io::Result<()> {
    file.write(&length(section.len())?)?;
    file.write(section)?;
    file.write(&crc32c_append(0, section).to_be_bytes())
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
