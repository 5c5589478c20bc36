//! Writing blocks from samples in any order.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::{HistogramValue, Labels, TimeRange, Timestamp};
use ulid::Ulid;

use crate::block::meta::{HINT_OUT_OF_ORDER, Meta};
use crate::block::source::{SeriesSource, SourceSeries};
use crate::block::symbol_list::SymbolList;
use crate::block::writer::{BlockError, write_block_from};
use crate::disk::{Disk, create_dir_durably};
use crate::head::range_end;
use crate::recode::{SampleValue, encode_samples};

/// Samples of any series and times, to be written as blocks of one span each. Of samples of one series at one time the one added first stays.
#[derive(Debug)]
pub struct BlockBuilder {
    span_ms: i64,
    /// By the start of the block.
    blocks: BTreeMap<Timestamp, Samples>,
    bytes: usize,
    beside_others: bool,
}

type Samples = BTreeMap<Labels, Vec<(Timestamp, SampleValue)>>;

impl BlockBuilder {
    /// For blocks of `span_ms` milliseconds, at least 1.
    #[must_use]
    pub fn new(span_ms: i64) -> Self {
        Self { span_ms: span_ms.max(1), blocks: BTreeMap::new(), bytes: 0, beside_others: false }
    }

    /// Marks the blocks as made of samples that came out of order, for a folder in which a store has a head: a store that starts does not take its head to
    /// begin after them.
    #[must_use]
    pub const fn beside_others(mut self) -> Self {
        self.beside_others = true;
        self
    }

    /// Adds a float sample.
    pub fn add(&mut self, labels: &Labels, t: Timestamp, v: f64) {
        self.push(labels, t, SampleValue::Float(v));
    }

    /// Adds a native histogram.
    pub fn add_histogram(&mut self, labels: &Labels, t: Timestamp, histogram: HistogramValue) {
        self.push(labels, t, SampleValue::Histogram(histogram));
    }

    fn push(&mut self, labels: &Labels, t: Timestamp, value: SampleValue) {
        let start = range_end(t, self.span_ms).saturating_sub(self.span_ms);
        let block = self.blocks.entry(start).or_default();
        match block.get_mut(labels) {
            Some(samples) => samples.push((t, value)),
            None => {
                self.bytes += labels.packed_bytes() + size_of::<(Labels, Vec<()>)>();
                block.insert(labels.clone(), vec![(t, value)]);
            }
        }
        self.bytes += size_of::<(Timestamp, SampleValue)>();
    }

    /// Bytes held, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Writes all blocks into `dir`, which is created if need be, and forgets the samples; the folders of the blocks. `name` makes the name of a
    /// block from its number.
    ///
    /// # Errors
    /// When a file cannot be written; the blocks before are there then.
    pub fn write(
        &mut self,
        disk: &Arc<dyn Disk>,
        dir: &Path,
        mut name: impl FnMut(usize) -> Ulid,
    ) -> io::Result<Vec<PathBuf>> {
        create_dir_durably(disk.as_ref(), dir)?;
        let mut written = Vec::new();
        for (number, (start, samples)) in std::mem::take(&mut self.blocks).into_iter().enumerate() {
            let mut meta = Meta::of_head(name(number), start, start.saturating_add(self.span_ms));
            if self.beside_others {
                meta.compaction.hints = vec![String::from(HINT_OUT_OF_ORDER)];
            }
            let mut source = Source::new(samples);
            let block = write_block_from(disk, dir, meta, &mut source).map_err(io::Error::other)?;
            written.extend(block.map(|(path, _)| path));
        }
        self.bytes = 0;
        Ok(written)
    }
}

/// The samples of one block.
struct Source {
    symbols: Vec<String>,
    series: std::collections::btree_map::IntoIter<Labels, Vec<(Timestamp, SampleValue)>>,
}

impl Source {
    fn new(samples: Samples) -> Self {
        let texts = samples.keys().flat_map(|labels| labels.iter());
        let symbols: BTreeSet<&str> = texts.flat_map(|label| [label.name, label.value]).collect();
        let symbols = symbols.into_iter().map(String::from).collect();
        Self { symbols, series: samples.into_iter() }
    }

    fn position(&self, text: &str) -> Result<u32, BlockError> {
        let found = self.symbols.binary_search_by(|symbol| symbol.as_str().cmp(text));
        let position = found.ok().and_then(|at| u32::try_from(at).ok());
        position.ok_or_else(|| too_many(io::Error::other("too many strings")))
    }
}

fn too_many(source: io::Error) -> BlockError {
    BlockError::Write { path: String::from("labels"), source }
}

impl SeriesSource for Source {
    fn symbols(&mut self) -> Result<SymbolList, BlockError> {
        let mut list = SymbolList::default();
        for symbol in &self.symbols {
            list.push(symbol).map_err(too_many)?;
        }
        Ok(list)
    }

    fn next(&mut self, into: &mut SourceSeries) -> Result<bool, BlockError> {
        let Some((labels, mut samples)) = self.series.next() else { return Ok(false) };
        for label in labels.iter() {
            into.labels.push((self.position(label.name)?, self.position(label.value)?));
        }
        samples.sort_by_key(|(t, _)| *t);
        samples.dedup_by_key(|(t, _)| *t);
        let samples = samples.iter().map(|(t, value)| (*t, value));
        encode_samples(samples, |range: TimeRange, encoding, chunk| {
            into.push_chunk(range, encoding, chunk);
        });
        Ok(true)
    }
}
