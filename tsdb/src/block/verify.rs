//! Reading all of a block to find out whether it is whole.

use std::path::Path;

use chunkenc::Encoding;
use crc32c::crc32c_append;
use model::{Columns, QueryError, TimeRange};

use super::checksums::{CHECKSUMS_FILE, Checksums, MetaState, Sum};
use super::chunk_files::{CHUNKS_DIR, ChunkCursor, ChunkFiles};
use super::content::{self, Content};
use super::index_reader::IndexReader;
use super::index_writer::ChunkRef;
use super::meta::{META_FILE, Meta, Stats};
use super::postings_builder::PostingsBuilder;
use super::symbols::SymbolCache;
use super::tombstones::{TOMBSTONES_FILE, Tombstones};
use super::{INDEX_FILE, SERIES_ALIGNMENT};
use crate::disk::Disk;
use crate::postings::LabelIndex;

/// More is not listed.
const FINDINGS_MAX: usize = 1000;

/// What is read at once.
const READ_BYTES: usize = 1 << 20;

/// Something that is wrong with a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// The file.
    pub(crate) path: String,
    /// Where in it, in bytes.
    pub(crate) offset: u64,
    /// What is wrong.
    pub(crate) what: String,
}

/// Reads everything in the block in `dir` and lists what is wrong. `progress` is told how many bytes of how many are done, and says whether to
/// go on.
pub(crate) fn verify_block(
    disk: &dyn Disk,
    dir: &Path,
    progress: &mut dyn FnMut(u64, u64) -> bool,
) -> Vec<Finding> {
    let mut check = Check { disk, dir, findings: Vec::new(), progress, done: 0, total: 0 };
    // A reason to stop is not a finding.
    let _ = check.run();
    check.findings
}

/// Told to stop, or there is enough to report.
struct Stop;

struct Check<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    findings: Vec<Finding>,
    progress: &'a mut dyn FnMut(u64, u64) -> bool,
    done: u64,
    total: u64,
}

/// A block as far as it can be opened.
struct Opened {
    index: IndexReader,
    chunks: Option<ChunkFiles>,
}

impl Check<'_> {
    fn run(&mut self) -> Result<(), Stop> {
        let meta = self.meta()?;
        let tombstones = self.tombstones()?;
        let Some(opened) = self.open()? else { return self.checksums(meta.as_ref()) };
        let chunk_bytes = opened.chunks.as_ref().map_or(0, ChunkFiles::bytes);
        self.total = 2 * (opened.index.bytes() + chunk_bytes);
        self.checksums(meta.as_ref())?;
        self.done = self.total / 2;
        self.symbols(&opened.index)?;
        let ids = match opened.index.all() {
            Ok(ids) => ids,
            Err(error) => return self.error(error),
        };
        let (stats, content) = self.series(&opened, &ids)?;
        if let Some(meta) = meta {
            self.compare(&meta, &stats, &content)?;
        }
        for (series, _) in tombstones.iter() {
            let known = u32::try_from(series).is_ok_and(|id| ids.binary_search(&id).is_ok());
            if !known {
                self.add(TOMBSTONES_FILE, 0, format!("there is no series {series}"))?;
            }
        }
        Ok(())
    }

    fn add(&mut self, name: &str, offset: u64, what: impl Into<String>) -> Result<(), Stop> {
        let path = self.dir.join(name).display().to_string();
        self.push(Finding { path, offset, what: what.into() })
    }

    fn push(&mut self, finding: Finding) -> Result<(), Stop> {
        self.findings.push(finding);
        if self.findings.len() < FINDINGS_MAX { Ok(()) } else { Err(Stop) }
    }

    fn error(&mut self, error: QueryError) -> Result<(), Stop> {
        self.push(match error {
            QueryError::Corrupt { path, offset, reason } => Finding { path, offset, what: reason },
            QueryError::Io { path, source } => {
                Finding { path, offset: 0, what: source.to_string() }
            }
            other => {
                Finding { path: self.dir.display().to_string(), offset: 0, what: other.to_string() }
            }
        })
    }

    fn advance(&mut self, bytes: u64) -> Result<(), Stop> {
        self.done = self.done.saturating_add(bytes).min(self.total);
        if (self.progress)(self.done, self.total) { Ok(()) } else { Err(Stop) }
    }

    fn meta(&mut self) -> Result<Option<Meta>, Stop> {
        match Meta::read(self.disk, self.dir) {
            Ok(meta) => {
                if let Err(error) = content::check_name(self.dir, &meta) {
                    self.error(error)?;
                }
                Ok(Some(meta))
            }
            Err(error) => {
                self.add(META_FILE, 0, error.to_string())?;
                Ok(None)
            }
        }
    }

    fn tombstones(&mut self) -> Result<Tombstones, Stop> {
        match Tombstones::read(self.disk, self.dir) {
            Ok(tombstones) => Ok(tombstones),
            Err(error) => {
                self.add(TOMBSTONES_FILE, 0, error.to_string())?;
                Ok(Tombstones::default())
            }
        }
    }

    fn open(&mut self) -> Result<Option<Opened>, Stop> {
        let chunks = match ChunkFiles::open(self.disk, &self.dir.join(CHUNKS_DIR)) {
            Ok(chunks) => Some(chunks),
            Err(error) => {
                self.add(CHUNKS_DIR, 0, error.to_string())?;
                None
            }
        };
        match IndexReader::open(self.disk, &self.dir.join(INDEX_FILE)) {
            Ok(index) => Ok(Some(Opened { index, chunks })),
            Err(error) => {
                self.error(error)?;
                Ok(None)
            }
        }
    }

    /// Compares files with what was noted when they were written.
    fn checksums(&mut self, meta: Option<&Meta>) -> Result<(), Stop> {
        let checksums = match Checksums::read(self.disk, self.dir) {
            Ok(None) => return Ok(()),
            Ok(Some(Some(checksums))) => checksums,
            Ok(Some(None)) => return self.add(CHECKSUMS_FILE, 0, "is damaged"),
            Err(error) => return self.add(CHECKSUMS_FILE, 0, error.to_string()),
        };
        for (name, expected) in checksums.of_files().filter(|(name, _)| *name != META_FILE) {
            match self.sum_up(name)? {
                Ok(found) if found == expected => {}
                Ok(found) if found.bytes != expected.bytes => {
                    let what =
                        format!("has {} bytes, {} were written", found.bytes, expected.bytes);
                    self.add(name, found.bytes.min(expected.bytes), what)?;
                }
                Ok(_) => self.add(name, 0, "has another checksum than when it was written")?,
                Err(error) => self.add(name, 0, error.to_string())?,
            }
        }
        let Some(meta) = meta else { return Ok(()) };
        let state = Meta::read_with_bytes(self.disk, self.dir)
            .and_then(|(_, bytes)| Checksums::meta_state(self.disk, self.dir, meta, &bytes));
        match state {
            Ok(MetaState::Changed) => self.add(META_FILE, 0, "says other than when it was written"),
            Ok(_) => Ok(()),
            Err(error) => self.add(META_FILE, 0, error.to_string()),
        }
    }

    fn sum_up(&mut self, name: &str) -> Result<std::io::Result<Sum>, Stop> {
        let file = match self.disk.open(&self.dir.join(name)) {
            Ok(file) => file,
            Err(error) => return Ok(Err(error)),
        };
        let mut sum = Sum::default();
        let mut buffer = vec![0; READ_BYTES];
        loop {
            match file.read_at(&mut buffer, sum.bytes) {
                Ok(0) => return Ok(Ok(sum)),
                Ok(read) => {
                    sum.crc32c = crc32c_append(sum.crc32c, &buffer[..read]);
                    sum.bytes += read as u64;
                    self.advance(read as u64)?;
                }
                Err(error) => return Ok(Err(error)),
            }
        }
    }

    fn symbols(&mut self, index: &IndexReader) -> Result<(), Stop> {
        let mut symbols = index.symbols();
        let (mut text, mut last) = (String::new(), None::<String>);
        loop {
            match symbols.next_into(&mut text) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) => return self.error(error),
            }
            if last.as_ref().is_some_and(|last| *last >= text) {
                self.add(INDEX_FILE, 0, format!("symbol {text:?} is not in order"))?;
            }
            match &mut last {
                Some(last) => last.clone_from(&text),
                None => last = Some(text.clone()),
            }
        }
    }

    fn series(&mut self, opened: &Opened, ids: &[u32]) -> Result<(Stats, Content), Stop> {
        let index = &opened.index;
        let mut cursor = index.cursor();
        let mut chunks = opened.chunks.as_ref().map(|chunks| chunks.cursor(READ_BYTES));
        let (mut stats, mut content) = (Stats::default(), Content::default());
        let mut postings = PostingsBuilder::default();
        let mut last: Vec<(u32, u32)> = Vec::new();
        let mut next = index.series.start;
        for &id in ids {
            let offset = index.series_offset(id);
            let next_aligned = if index.series_offset(1) == 1 {
                next
            } else {
                next.next_multiple_of(SERIES_ALIGNMENT)
            };
            if offset != next_aligned {
                let what = format!(
                    "a series at byte {next_aligned} is in no postings, or none is at {offset}"
                );
                self.add(INDEX_FILE, offset, what)?;
            }
            if let Err(error) = cursor.read(id) {
                self.error(error)?;
                next = offset;
                continue;
            }
            next = cursor.end();
            self.advance(next - offset)?;
            let entry = cursor.entry();
            if !entry.labels.is_sorted_by(|a, b| a.0 < b.0) {
                self.add(INDEX_FILE, offset, "labels are not in order")?;
            }
            if last >= entry.labels && content.series > 0 {
                self.add(INDEX_FILE, offset, "series are not in order")?;
            }
            last.clone_from(&entry.labels);
            postings.add(id, &entry.labels);
            content.series += 1;
            stats.num_series += 1;
            self.order_of_chunks(offset, &entry.chunks)?;
            for chunk in &entry.chunks {
                content.add(chunk.range);
                if let Some(chunks) = &mut chunks {
                    self.chunk(chunk, chunks, &mut stats)?;
                }
            }
        }
        self.postings(index, postings)?;
        Ok((stats, content))
    }

    fn order_of_chunks(&mut self, offset: u64, chunks: &[ChunkRef]) -> Result<(), Stop> {
        if chunks.is_empty() {
            self.add(INDEX_FILE, offset, "series has no chunk")?;
        }
        if chunks.iter().any(|chunk| chunk.range.min > chunk.range.max) {
            self.add(INDEX_FILE, offset, "a chunk ends before it begins")?;
        }
        if chunks.windows(2).any(|pair| pair[1].range.min <= pair[0].range.max) {
            self.add(INDEX_FILE, offset, "chunks overlap or are not in order")?;
        }
        Ok(())
    }

    fn chunk(
        &mut self,
        chunk: &ChunkRef,
        chunks: &mut ChunkCursor<'_>,
        stats: &mut Stats,
    ) -> Result<(), Stop> {
        let (encoding, bytes) = match chunks.read(chunk.reference) {
            Ok(read) => (read.encoding, read.bytes),
            Err(error) => return self.error(error),
        };
        let mut columns = Columns::new();
        let mut announced = 0;
        let decoded = Encoding::from_number(encoding).and_then(|encoding| {
            stats.add_chunk(encoding, bytes);
            announced = chunkenc::sample_count(encoding, bytes);
            chunkenc::decode(encoding, bytes, TimeRange::ALL, &mut columns)
        });
        let read_bytes = bytes.len() as u64;
        let times = columns.times();
        let what = match decoded {
            Err(error) => Some(error.to_string()),
            Ok(()) if times.len() != usize::from(announced) => {
                Some(format!("has {} samples, announces {announced}", times.len()))
            }
            Ok(()) if !times.is_sorted_by(|a, b| a < b) => {
                Some(String::from("samples are not in order"))
            }
            Ok(())
                if times.first() != Some(&chunk.range.min)
                    || times.last() != Some(&chunk.range.max) =>
            {
                let TimeRange { min, max } = chunk.range;
                Some(format!("samples do not span {min} to {max}, as the index says"))
            }
            Ok(()) => None,
        };
        if let Some(what) = what {
            self.error(chunks.corrupt(chunk.reference, what))?;
        }
        self.advance(read_bytes)
    }

    /// Compares the postings with those that the series call for.
    fn postings(&mut self, index: &IndexReader, expected: PostingsBuilder) -> Result<(), Stop> {
        let mut lists = 0;
        let mut cache = SymbolCache::default();
        let (ids, columns) = expected.into_parts();
        for column in columns {
            let name = column.name;
            let mut stop = false;
            let each = column.each_list(&ids, |value, series| {
                lists += 1;
                stop = stop || self.list(index, &mut cache, [name, value], series).is_err();
                Ok(())
            });
            if stop || each.is_err() {
                return Err(Stop);
            }
        }
        if lists != index.table.pairs {
            let what = format!("has postings for {} pairs, series have {lists}", index.table.pairs);
            self.add(INDEX_FILE, 0, what)?;
        }
        Ok(())
    }

    fn list(
        &mut self,
        index: &IndexReader,
        cache: &mut SymbolCache,
        pair: [u32; 2],
        series: &[u32],
    ) -> Result<(), Stop> {
        self.advance(0)?;
        let [name, value] = match index.strings(pair, cache) {
            Ok(strings) => strings,
            Err(error) => return self.error(error),
        };
        match index.equal(&name, &value) {
            Ok(found) if *found == *series => Ok(()),
            Ok(found) => {
                let (found, series) = (found.len(), series.len());
                let what = format!(
                    "postings of {name}={value:?} name {found} series, {series} have the label, or others do"
                );
                self.add(INDEX_FILE, 0, what)
            }
            Err(error) => self.error(error),
        }
    }

    fn compare(&mut self, meta: &Meta, stats: &Stats, content: &Content) -> Result<(), Stop> {
        if let Err(error) = content.check(self.dir, meta) {
            self.error(error)?;
        }
        if meta.stats.num_samples != stats.num_samples {
            let (counted, found) = (meta.stats.num_samples, stats.num_samples);
            self.add(META_FILE, 0, format!("counts {counted} samples, there are {found}"))?;
        }
        Ok(())
    }
}
