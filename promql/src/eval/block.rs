//! Series with one value for each step: what operators hand to each other.
//!
//! A step at which a series has no sample holds the staleness marker, which means just that and which no
//! arithmetic produces: the marker is a signalling NaN, the processor answers with quiet ones. So the floats of a row are
//! a plain slice. Native histograms stand beside it, in rows that have any.

use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};
use model::{Charge, FloatHistogram, Labels, METRIC_NAME, QueryContext, is_stale, stale_marker};

use super::row::{Histograms, Row, RowRef};

use super::failure::{ExecutionError, QueryFailure};

/// The value of a step without a sample.
pub(super) const ABSENT: f64 = stale_marker();

/// Labels that describe the metric rather than the series; operations that change what a value means drop
/// them.
const METADATA: [&str; 3] = [METRIC_NAME, TYPE_LABEL, "__unit__"];

/// The label that tells the type of a metric.
pub(super) const TYPE_LABEL: &str = "__type__";

/// Floats for which a block takes memory at a time, unless a row has more.
const CHUNK_FLOATS: usize = 1 << 14;

/// Whether a step has no sample.
#[inline]
pub(super) const fn is_absent(value: f64) -> bool {
    is_stale(value)
}

/// Whether a step has a sample.
#[inline]
pub(super) const fn is_present(value: f64) -> bool {
    !is_stale(value)
}

/// Number of samples among floats.
pub(super) fn count_present(values: &[f64]) -> usize {
    values.iter().filter(|v| is_present(**v)).count()
}

/// What identifies a row.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Series {
    /// Its labels.
    pub(super) labels: Labels,
    /// The metric name no longer applies and is to be dropped when the query is done. Used with delayed
    /// name removal only; otherwise names are dropped on the spot.
    pub(super) drop_name: bool,
}

impl Series {
    /// A series as it is stored or was computed.
    pub(super) const fn new(labels: Labels) -> Self {
        Self { labels, drop_name: false }
    }

    /// Drops the metric name, now or (`delayed`) at the end of the query.
    pub(super) fn drop_name(&mut self, delayed: bool) {
        if delayed {
            self.drop_name = true;
        } else {
            self.labels = without_metadata(&self.labels);
        }
    }
}

/// `labels` without the metric's name, type and unit.
pub(super) fn without_metadata(labels: &Labels) -> Labels {
    labels.without(&METADATA)
}

/// Bytes that a label set takes, and an entry of a hash map that finds something by it.
pub(super) fn entry_bytes(labels: &Labels) -> usize {
    // Of the places of a map half may be free.
    labels.packed_bytes() + 2 * size_of::<(Labels, usize)>()
}

/// Floats of rows, in chunks: they are never moved to make room for more, and given back one by one.
#[derive(Debug, Default)]
struct Chunks {
    width: usize,
    rows_per_chunk: usize,
    chunks: Vec<Vec<f64>>,
}

impl Chunks {
    /// For rows of `width` floats.
    fn new(width: usize) -> Self {
        let rows_per_chunk = (CHUNK_FLOATS / width.max(1)).max(1);
        Self { width, rows_per_chunk, chunks: Vec::new() }
    }

    fn push(&mut self, row: &[f64]) {
        let full = self.rows_per_chunk * self.width;
        match self.chunks.last_mut() {
            // Of what few rows take nothing is spare.
            Some(chunk) if chunk.len() < full => chunk.extend_from_slice(row),
            Some(_) => {
                let mut chunk = Vec::with_capacity(full);
                chunk.extend_from_slice(row);
                self.chunks.push(chunk);
            }
            None => self.chunks.push(row.to_vec()),
        }
    }

    #[inline]
    fn row(&self, index: usize) -> &[f64] {
        let (chunk, at) = (index / self.rows_per_chunk, index % self.rows_per_chunk);
        &self.chunks[chunk][at * self.width..][..self.width]
    }

    #[inline]
    fn row_mut(&mut self, index: usize) -> &mut [f64] {
        let (chunk, at) = (index / self.rows_per_chunk, index % self.rows_per_chunk);
        &mut self.chunks[chunk][at * self.width..][..self.width]
    }

    /// Gives back the memory of the rows up to `index`, as far as they fill chunks.
    fn drop_up_to(&mut self, index: usize) {
        if (index + 1).is_multiple_of(self.rows_per_chunk) {
            self.chunks[index / self.rows_per_chunk] = Vec::new();
        }
    }
}

/// Rows of equal width, held in memory.
#[derive(Debug)]
pub(super) struct Block {
    series: Vec<Series>,
    values: Chunks,
    /// Of those rows that have any.
    histograms: HashMap<usize, Histograms>,
    charge: Charge,
}

impl Block {
    /// No rows, of `width` steps each.
    ///
    /// # Errors
    /// [`QueryFailure`] when the budget of `context` is used up.
    pub(super) fn new(width: usize, context: &QueryContext) -> Result<Self, QueryFailure> {
        let charge = context.budget.charge(0)?;
        let (series, values, histograms) = (Vec::new(), Chunks::new(width), HashMap::new());
        Ok(Self { series, values, histograms, charge })
    }

    /// Adds a row.
    ///
    /// # Errors
    /// [`QueryFailure::OverBudget`]
    pub(super) fn push(&mut self, series: Series, row: Row<'_>) -> Result<(), QueryFailure> {
        debug_assert_eq!(row.values.len(), self.width(), "rows are of equal width");
        let bytes = size_of_val(&*row.values)
            + size_of::<Series>()
            + series.labels.packed_bytes()
            + row.histograms.bytes();
        self.charge.grow(bytes)?;
        if !row.histograms.is_empty() {
            self.histograms.insert(self.series.len(), row.histograms);
        }
        self.series.push(series);
        self.values.push(row.values);
        Ok(())
    }

    /// Number of rows.
    pub(super) fn len(&self) -> usize {
        self.series.len()
    }

    /// Bytes held.
    pub(super) const fn bytes(&self) -> u64 {
        self.charge.bytes()
    }

    /// Steps per row.
    pub(super) const fn width(&self) -> usize {
        self.values.width
    }

    /// Whose row `index` is.
    pub(super) fn series(&self, index: usize) -> &Series {
        &self.series[index]
    }

    /// Row `index`.
    pub(super) fn row(&self, index: usize) -> RowRef<'_> {
        RowRef {
            values: self.values.row(index),
            histograms: self.histograms.get(&index).unwrap_or(Histograms::NONE),
        }
    }

    /// Row `index`, to be handed on: its histograms are taken out.
    pub(super) fn take_row(&mut self, index: usize) -> Row<'_> {
        let histograms = self.histograms.remove(&index).unwrap_or_default();
        Row { values: self.values.row_mut(index), histograms }
    }

    /// The floats of row `index`, to be changed.
    pub(super) fn values_mut(&mut self, index: usize) -> &mut [f64] {
        self.values.row_mut(index)
    }

    /// Puts what `row` has at `step` there in row `index`.
    pub(super) fn set(&mut self, index: usize, step: usize, row: RowRef<'_>) {
        self.values.row_mut(index)[step] = row.values[step];
        if let Some(histogram) = row.histograms.get(step) {
            self.set_histogram(index, step, Arc::clone(histogram));
        }
    }

    /// Puts a histogram beside what is at `step` of row `index`, which must not be absent.
    pub(super) fn set_histogram(
        &mut self,
        index: usize,
        step: usize,
        histogram: Arc<FloatHistogram>,
    ) {
        self.histograms.entry(index).or_default().set(step, self.values.width, histogram);
    }

    /// All rows in order.
    pub(super) fn rows(&self) -> impl Iterator<Item = (&Series, RowRef<'_>)> {
        (0..self.len()).map(|index| (&self.series[index], self.row(index)))
    }

    /// Hands each row to `sink`, in order.
    ///
    /// # Errors
    /// Those of `sink`.
    pub(super) fn stream(mut self, sink: &mut Sink<'_>) -> Result<(), QueryFailure> {
        for (index, series) in std::mem::take(&mut self.series).into_iter().enumerate() {
            sink(series, self.take_row(index))?;
            self.values.drop_up_to(index);
        }
        Ok(())
    }

    /// Puts the rows that `order` lists into that order, and drops the others.
    pub(super) fn reorder(&mut self, order: &[usize]) {
        let mut values = Chunks::new(self.width());
        order.iter().for_each(|&index| values.push(self.values.row(index)));
        self.series = order.iter().map(|&index| self.series[index].clone()).collect();
        self.values = values;
        let histograms = &mut self.histograms;
        let moved = order.iter().enumerate();
        let moved = moved.filter_map(|(to, from)| Some((to, histograms.remove(from)?))).collect();
        self.histograms = moved;
    }

    /// Number of samples.
    pub(super) fn samples(&self) -> u64 {
        let weights: u64 = self.histograms.values().map(Histograms::extra_samples).sum();
        let present: usize = self.values.chunks.iter().map(|chunk| count_present(chunk)).sum();
        present as u64 + weights
    }
}

/// Takes rows one at a time; may change the row that it is handed.
pub(super) type Sink<'a> = dyn FnMut(Series, Row<'_>) -> Result<(), QueryFailure> + 'a;

/// Collects rows so that each label set has one: rows of the same labels become one if no step has a sample
/// of both.
#[derive(Debug)]
pub(super) struct Merger {
    block: Block,
    /// Rows by labels; `None` where rows of the same labels stay apart.
    by_labels: Option<HashMap<Labels, usize>>,
}

impl Merger {
    /// Collects into `block`, which is empty.
    pub(super) fn new(block: Block) -> Self {
        Self { block, by_labels: Some(HashMap::new()) }
    }

    /// Collects into `block` without looking for equal labels.
    pub(super) const fn keeping_duplicates(block: Block) -> Self {
        Self { block, by_labels: None }
    }

    /// Adds or merges a row; says into which it went.
    ///
    /// # Errors
    /// [`ExecutionError::DuplicateLabels`] when a step has two samples.
    pub(super) fn push(&mut self, series: Series, row: Row<'_>) -> Result<usize, QueryFailure> {
        match self.push_unless_twice(series, row)? {
            (at, None) => Ok(at),
            (_, Some(_)) => Err(ExecutionError::DuplicateLabels.into()),
        }
    }

    /// Adds or merges a row; says into which it went and at which step, if any, there first are two samples. From there on nothing is merged.
    ///
    /// # Errors
    /// [`QueryFailure::OverBudget`]
    pub(super) fn push_unless_twice(
        &mut self,
        series: Series,
        row: Row<'_>,
    ) -> Result<(usize, Option<usize>), QueryFailure> {
        let next = self.block.len();
        if let Some(by_labels) = &mut self.by_labels {
            let at = *by_labels.entry(series.labels.clone()).or_insert(next);
            if at != next {
                return Ok((at, self.merge_row(at, row.view())));
            }
            self.block.charge.grow(2 * size_of::<(Labels, usize)>())?;
        }
        self.block.push(series, row)?;
        Ok((next, None))
    }

    fn merge_row(&mut self, at: usize, row: RowRef<'_>) -> Option<usize> {
        for step in 0..row.values.len() {
            if is_absent(row.values[step]) {
                continue;
            }
            if is_present(self.block.row(at).values[step]) {
                return Some(step);
            }
            self.block.set(at, step, row);
        }
        None
    }

    /// The collected rows.
    pub(super) fn into_block(self) -> Block {
        self.block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str) -> Series {
        Series::new(Labels::from_pairs([(METRIC_NAME, name)]).unwrap())
    }

    fn block() -> Block {
        Block::new(2, &QueryContext::unbounded()).unwrap()
    }

    #[test]
    fn arithmetic_never_gives_the_marker() {
        let one = std::hint::black_box(1.0);
        assert!(is_absent(ABSENT));
        assert!(is_present(ABSENT + one) && is_present(ABSENT * one) && is_present(one - ABSENT));
    }

    #[test]
    fn rows_stay_where_they_are() {
        for width in [1, 3, CHUNK_FLOATS - 1, CHUNK_FLOATS, CHUNK_FLOATS + 1] {
            let mut block = Block::new(width, &QueryContext::unbounded()).unwrap();
            let count = 3 * CHUNK_FLOATS / width + 3;
            let value = |row: usize, step: usize| (row * width + step) as f64;
            for row in 0..count {
                let mut values: Vec<f64> = (0..width).map(|step| value(row, step)).collect();
                block.push(series("a"), Row::of(&mut values)).unwrap();
            }
            block.values_mut(1)[0] = -1.0;
            assert_eq!((block.len(), block.samples()), (count, (count * width) as u64));
            let mut seen = 0;
            block
                .stream(&mut |_, row| {
                    let first = if seen == 1 { -1.0 } else { value(seen, 0) };
                    assert_eq!((row.values.len(), row.values[0]), (width, first));
                    assert!(width == 1 || row.values[width - 1] == value(seen, width - 1));
                    seen += 1;
                    Ok(())
                })
                .unwrap();
            assert_eq!(seen, count);
        }
    }

    #[test]
    fn rows_of_equal_labels_merge_where_they_do_not_overlap() {
        let mut merger = Merger::new(block());
        assert_eq!(merger.push(series("a"), Row::of(&mut [1.0, ABSENT])).unwrap(), 0);
        assert_eq!(merger.push(series("b"), Row::of(&mut [5.0, 6.0])).unwrap(), 1);
        assert_eq!(merger.push(series("a"), Row::of(&mut [ABSENT, 2.0])).unwrap(), 0);
        assert!(merger.push(series("b"), Row::of(&mut [ABSENT, 2.0])).is_err());
        let block = merger.into_block();
        assert_eq!(block.row(0).values, [1.0, 2.0]);
        assert_eq!(block.samples(), 4);
    }

    #[test]
    fn a_held_row_is_charged() {
        let context = QueryContext { budget: model::Budget::new(100), ..QueryContext::unbounded() };
        let mut block = Block::new(2, &context).unwrap();
        block.push(series("a"), Row::of(&mut [1.0, 2.0])).unwrap();
        let again = block.push(series("b"), Row::of(&mut [1.0, 2.0]));
        assert!(again.is_ok() || matches!(again, Err(QueryFailure::OverBudget { .. })));
        while block.push(series("c"), Row::of(&mut [1.0, 2.0])).is_ok() {}
        assert!(context.budget.bytes_used() > 0);
        drop(block);
        assert_eq!(context.budget.bytes_used(), 0);
    }
}
