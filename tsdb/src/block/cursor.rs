//! Reading the series of an index one after another.

use crc32c::crc32c;
use model::{Labels, QueryError, TimeRange};

use super::index_reader::IndexReader;
use super::index_writer::ChunkRef;
use super::scan::ENTRY_BYTES_MAX;
use super::symbols::SymbolCache;
use super::window::Window;
use crate::bytes::{Bytes, DecodeError};

/// What is read at once for one series, and for many in order.
const AHEAD_BYTES: (usize, usize) = (1 << 10, 64 << 10);

/// Bytes of the longest length in front of an entry.
const LENGTH_BYTES_MAX: usize = 10;

const CHECKSUM_BYTES: usize = 4;

/// Labels and chunks of a series.
#[derive(Debug, Default)]
pub(crate) struct SeriesEntry {
    /// Names and values as positions in the symbol table, sorted by name.
    pub(crate) labels: Vec<(u32, u32)>,
    /// In order of time.
    pub(crate) chunks: Vec<ChunkRef>,
}

/// Reads series and resolves their labels. Cheap when ids ascend.
#[derive(Debug)]
pub(crate) struct SeriesCursor<'r> {
    index: &'r IndexReader,
    window: Window,
    symbols: SymbolCache,
    entry: SeriesEntry,
    offset: u64,
    end: u64,
}

impl<'r> SeriesCursor<'r> {
    pub(super) fn new(index: &'r IndexReader) -> Self {
        let window = Window::new(AHEAD_BYTES.0, AHEAD_BYTES.1);
        let (symbols, entry) = (SymbolCache::default(), SeriesEntry::default());
        Self { index, window, symbols, entry, offset: 0, end: 0 }
    }

    /// Reads and verifies the entry of series `id`.
    pub(crate) fn read(&mut self, id: u32) -> Result<&SeriesEntry, QueryError> {
        let Self { index, window, entry, end: entry_end, .. } = self;
        let file = &index.file;
        let offset = index.series_offset(id);
        self.offset = offset;
        if !index.series.contains(&offset) {
            return Err(file.corrupt(offset, "series lies outside its section"));
        }
        let failed = |source| file.failed(source);
        let start = window.get(file.file.as_ref(), offset, LENGTH_BYTES_MAX).map_err(failed)?;
        let mut bytes = Bytes::new(start);
        let len = bytes.uvarint_len().ok().filter(|&len| len <= ENTRY_BYTES_MAX);
        let len = len.ok_or_else(|| file.corrupt(offset, "series entry is too long"))?;
        let prefix = start.len() - bytes.len();
        let end = prefix + len + CHECKSUM_BYTES;
        if offset + end as u64 > file.bytes {
            return Err(file.corrupt(offset, "series entry is cut off"));
        }
        *entry_end = offset + end as u64;
        let read = window.get(file.file.as_ref(), offset, end).map_err(failed)?;
        let read = read.get(prefix..end);
        let read = read.ok_or_else(|| file.corrupt(offset, "series entry is cut off"))?;
        let (content, checksum) = read.split_at(len);
        if crc32c(content).to_be_bytes() != checksum {
            return Err(file.corrupt(offset, "checksum mismatch in a series entry"));
        }
        entry.labels.clear();
        entry.chunks.clear();
        decode_series(content, entry).map_err(|error| file.corrupt(offset, error.to_string()))?;
        for (name, value) in &mut entry.labels {
            *name = index.symbols.position(file, *name)?;
            *value = index.symbols.position(file, *value)?;
        }
        Ok(entry)
    }

    /// The series that was read last.
    pub(crate) const fn entry(&self) -> &SeriesEntry {
        &self.entry
    }

    /// Where it stands in the file.
    pub(crate) const fn offset(&self) -> u64 {
        self.offset
    }

    /// Where it ends.
    pub(super) const fn end(&self) -> u64 {
        self.end
    }

    /// Its labels.
    pub(crate) fn labels(&mut self) -> Result<Labels, QueryError> {
        self.load_symbols()?;
        // Blocks of early versions may have labels in another order.
        let sorted = Labels::from_sorted_pairs(self.pairs());
        let labels = sorted.map_or_else(|| Labels::from_pairs(self.pairs()), Ok);
        labels.map_err(|error| self.index.file.corrupt(self.offset, error.to_string()))
    }

    /// Those of its labels that `projection` wants.
    pub(super) fn projected(
        &mut self,
        projection: &mut Projection<'_>,
    ) -> Result<Labels, QueryError> {
        if projection.names.is_empty() {
            return Ok(Labels::empty());
        }
        let Self { index, symbols, entry, .. } = self;
        symbols.trim();
        let mut failed = None;
        entry.labels.retain(|&(name, _)| {
            projection.knows(name).unwrap_or_else(|| {
                let loaded = symbols.load(&index.symbols, &index.file, name);
                match loaded.map(|()| projection.learn(name, symbols.get(name))) {
                    Ok(wanted) => wanted,
                    Err(error) => {
                        failed.get_or_insert(error);
                        false
                    }
                }
            })
        });
        failed.map_or_else(|| self.labels(), Err)
    }

    /// Calls `on_label` with each of its labels.
    pub(crate) fn each_label(
        &mut self,
        mut on_label: impl FnMut(&str, &str),
    ) -> Result<(), QueryError> {
        self.load_symbols()?;
        self.pairs().for_each(|(name, value)| on_label(name, value));
        Ok(())
    }

    fn load_symbols(&mut self) -> Result<(), QueryError> {
        let Self { index, symbols, entry, .. } = self;
        symbols.trim();
        for &(name, value) in &entry.labels {
            symbols.load(&index.symbols, &index.file, name)?;
            symbols.load(&index.symbols, &index.file, value)?;
        }
        Ok(())
    }

    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        let Self { symbols, entry, .. } = self;
        entry.labels.iter().map(|&(name, value)| (symbols.get(name), symbols.get(value)))
    }
}

/// The labels that are wanted of many series of one index.
#[derive(Debug)]
pub(super) struct Projection<'p> {
    names: &'p [&'p str],
    /// Names come across so far, as positions in the symbol table, ascending, and whether they are wanted.
    known: Vec<(u32, bool)>,
}

impl<'p> Projection<'p> {
    /// The labels with these names.
    pub(super) const fn new(names: &'p [&'p str]) -> Self {
        Self { names, known: Vec::new() }
    }

    /// Whether the label whose name is at position `name` is wanted; `None` if it is the first with this name.
    fn knows(&self, name: u32) -> Option<bool> {
        let at = self.known.binary_search_by_key(&name, |(known, _)| *known).ok()?;
        Some(self.known[at].1)
    }

    /// The name at position `name` is `text`. Whether the label is wanted.
    fn learn(&mut self, name: u32, text: &str) -> bool {
        let wanted = self.names.contains(&text);
        let at = self.known.partition_point(|(known, _)| *known < name);
        self.known.insert(at, (name, wanted));
        wanted
    }
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
