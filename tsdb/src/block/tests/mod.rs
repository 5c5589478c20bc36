//! Blocks as a whole: what comes out of writing, merging, deleting and damaging them, beside a model of maps.

mod crash;
mod damage;
mod merging;
mod peers;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chunkenc::{Encoding, XorChunk};
use model::{Charge, Columns, QueryContext, QueryError, Selection, TimeRange};
use ulid::Ulid;

use super::meta::Meta;
use super::source::{SeriesSource, SourceSeries};
use super::symbol_list::SymbolList;
use super::writer::{BlockError, write_block_from};
use super::{Access, Block};
use crate::disk::{Disk, MemDisk};

/// Where blocks are in these tests.
const DIR: &str = "/data";

/// Names and values of a series.
type Pairs = Vec<(String, String)>;

/// The samples of series by time, as bits.
type Model = BTreeMap<Pairs, BTreeMap<i64, u64>>;

fn pairs(pairs: &[(&str, &str)]) -> Pairs {
    pairs.iter().map(|(name, value)| (String::from(*name), String::from(*value))).collect()
}

/// The series of a model, in chunks of so many samples.
struct ModelSource<'m> {
    rest: std::collections::btree_map::Iter<'m, Pairs, BTreeMap<i64, u64>>,
    symbols: Vec<String>,
    samples_per_chunk: usize,
}

impl<'m> ModelSource<'m> {
    fn new(model: &'m Model, samples_per_chunk: usize) -> Self {
        let texts = model.keys().flatten().flat_map(|(name, value)| [name.clone(), value.clone()]);
        let mut symbols: Vec<String> = texts.collect();
        symbols.sort();
        symbols.dedup();
        Self { rest: model.iter(), symbols, samples_per_chunk }
    }
}

impl SeriesSource for ModelSource<'_> {
    fn symbols(&mut self) -> Result<SymbolList, BlockError> {
        let mut list = SymbolList::default();
        self.symbols.iter().for_each(|symbol| list.push(symbol).unwrap());
        Ok(list)
    }

    fn next(&mut self, into: &mut SourceSeries) -> Result<bool, BlockError> {
        let Some((labels, samples)) = self.rest.next() else { return Ok(false) };
        let position =
            |text: &String| u32::try_from(self.symbols.binary_search(text).unwrap()).unwrap();
        into.labels.extend(labels.iter().map(|(name, value)| (position(name), position(value))));
        let samples: Vec<(i64, u64)> = samples.iter().map(|(&t, &v)| (t, v)).collect();
        for samples in samples.chunks(self.samples_per_chunk) {
            let mut chunk = XorChunk::new();
            samples.iter().for_each(|&(t, v)| chunk.push(t, f64::from_bits(v)));
            let range = TimeRange::new(samples[0].0, samples[samples.len() - 1].0);
            into.push_chunk(range, Encoding::Xor, chunk.as_bytes());
        }
        Ok(true)
    }
}

fn dir_of(number: u128) -> PathBuf {
    Path::new(DIR).join(Ulid::from(number).to_string())
}

fn shared(disk: &MemDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

fn new_disk() -> MemDisk {
    let disk = MemDisk::new();
    disk.create_dir_all(Path::new(DIR)).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk
}

/// Writes the model as block `number` with this span.
fn try_write(
    disk: &Arc<dyn Disk>,
    parent: &Path,
    number: u128,
    (min, max): (i64, i64),
    model: &Model,
    samples_per_chunk: usize,
) -> Result<Option<(PathBuf, Meta)>, BlockError> {
    let meta = Meta::of_head(Ulid::from(number), min, max);
    write_block_from(disk, parent, meta, &mut ModelSource::new(model, samples_per_chunk))
}

fn write(disk: &MemDisk, number: u128, span: (i64, i64), model: &Model, per_chunk: usize) -> Block {
    let written = try_write(&shared(disk), Path::new(DIR), number, span, model, per_chunk);
    let (dir, meta) = written.unwrap().expect("the model has samples");
    Block::open(disk, &dir, meta, Access::ReadWrite).unwrap()
}

/// Opens a block as the store does.
fn open(disk: &dyn Disk, dir: &Path) -> Result<Block, QueryError> {
    let meta = Meta::read(disk, dir).map_err(|source| {
        let path = dir.join("meta.json").display().to_string();
        QueryError::Io { path, source }
    })?;
    Block::open(disk, dir, meta, Access::ReadWrite)
}

fn charge() -> Charge {
    QueryContext::unbounded().budget.charge(0).unwrap()
}

/// All samples of a block.
fn content(block: &Block) -> Result<Model, QueryError> {
    let context = QueryContext::unbounded();
    let mut model = Model::new();
    let selection = block.select(&Selection::new(&[], TimeRange::ALL), &mut charge(), &context)?;
    for series in &selection.series {
        let mut columns = Columns::new();
        block.read(&selection, series, block.meta.range(), &mut columns, &context)?;
        let labels = series.labels.iter().map(|l| (String::from(l.name), String::from(l.value)));
        let samples: BTreeMap<i64, u64> =
            columns.iter().map(|sample| (sample.t, sample.v.to_bits())).collect();
        assert_eq!(samples.len(), columns.len(), "times are distinct");
        if !samples.is_empty() {
            model.insert(labels.collect(), samples);
        }
    }
    Ok(model)
}

/// A few series with these times.
fn model(series: std::ops::Range<u32>, times: impl Iterator<Item = i64>) -> Model {
    let times: Vec<i64> = times.collect();
    let series = series.map(|i| {
        let labels = pairs(&[("__name__", "m"), ("i", &i.to_string()), ("job", "test")]);
        let samples = times.iter().map(|&t| (t, (f64::from(i) + 0.5).to_bits() + t.unsigned_abs()));
        (labels, samples.collect())
    });
    series.collect()
}

/// Fails unless the block is whole.
fn assert_whole(disk: &dyn Disk, dir: &Path) {
    let findings = super::verify::verify_block(disk, dir, &mut |_, _| true);
    assert_eq!(findings, []);
}
