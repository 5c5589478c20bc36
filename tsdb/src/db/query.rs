//! Views of the store: the head and the blocks as one.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::{
    Charge, Columns, Labels, Matcher, Querier, QueryContext, QueryError, Queryable, Sample,
    Selection, SeriesOrder, SeriesRef, SeriesSet, Strings, TimeRange, Timestamp,
};
use parking_lot::Mutex;

use super::{Blocks, Db, LeftOut};
use crate::block::{Block, BlockSelection};
use crate::head::select::HeadSeries;
use crate::head::series_chunks::{Horizon, LOOK_AHEAD, SeriesChunks};
use crate::head::series_labels::LabelsReader;
use crate::postings;
use crate::rows::put_in_order;

impl Queryable for Db {
    fn querier(&self, range: TimeRange) -> Result<Box<dyn Querier + '_>, QueryError> {
        // Under the head's lock: a block appears at the moment at which the head stops being read for its range.
        let head = self.head.read();
        let head_from = head.min_valid();
        let head_range = head.time_range();
        let late_range = head.late.range();
        let batch = head.batch();
        let epoch = self.views.open(head_from);
        let blocks = Arc::clone(&self.blocks.read());
        drop(head);
        // As Prometheus, which does not look at the end of the head: it may matter for the order of series.
        let reads_head = head_range.is_some_and(|head| head.min <= range.max)
            || late_range.is_some_and(|late| late.overlaps(range));
        let warnings = blocks.warnings(range);
        Ok(Box::new(View {
            db: self,
            range,
            head_from,
            reads_head,
            epoch,
            batch,
            blocks,
            warnings,
        }))
    }
}

/// A view of the store.
struct View<'d> {
    db: &'d Db,
    range: TimeRange,
    /// Samples before are read from blocks.
    head_from: Timestamp,
    reads_head: bool,
    epoch: u32,
    /// Late samples of later batches are not part of the view.
    batch: u64,
    blocks: Arc<Blocks>,
    warnings: Vec<String>,
}

impl Blocks {
    /// About the blocks that a query of `range` may miss.
    fn warnings(&self, range: TimeRange) -> Vec<String> {
        let misses = |left_out: &&LeftOut| left_out.range.is_none_or(|of| of.overlaps(range));
        self.left_out.iter().filter(misses).map(|left_out| left_out.warning.clone()).collect()
    }
}

impl Drop for View<'_> {
    fn drop(&mut self) {
        self.db.views.close(self.epoch);
    }
}

impl View<'_> {
    fn blocks_in(&self, range: TimeRange) -> Vec<Arc<Block>> {
        let overlapping = |block: &&Arc<Block>| block.meta.range().overlaps(range);
        self.blocks.loaded.iter().filter(overlapping).map(Arc::clone).collect()
    }

    fn select_head(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        context: &QueryContext,
    ) -> Result<Vec<HeadSeries>, QueryError> {
        if !self.reads_head {
            return Ok(Vec::new());
        }
        let head = self.db.head.read();
        let slots = postings::select(&*head, matchers, context)?;
        head.view(&slots, range.min.max(self.head_from), range, self.epoch, context)
    }
}

impl Querier for View<'_> {
    fn select(
        &self,
        selection: &Selection<'_>,
        context: &QueryContext,
    ) -> Result<Box<dyn SeriesSet + '_>, QueryError> {
        let range = selection.range;
        let mut charge = context.budget.charge(0)?;
        let head = self.select_head(selection.matchers, range, context)?;
        charge.grow(size_of_val(head.as_slice()))?;
        // Prometheus sorts as soon as a block overlaps the range of the whole query, even if this selection needs none.
        let head_alone = self.blocks_in(self.range).is_empty();
        let mut selected = Selected {
            view: self,
            range,
            blocks: Vec::new(),
            series: SelectedSeries::Merged(Vec::new()),
            charge,
            spare: Spare::default(),
        };
        if head_alone && selection.order == SeriesOrder::Storage {
            let names = selection.projection;
            let names = names.map(|names| names.iter().map(|name| String::from(*name)).collect());
            selected.series = SelectedSeries::Head(head, names);
        } else {
            selected.merge(head, selection, context)?;
        }
        if selection.limit > 0 {
            selected.truncate(selection.limit);
        }
        Ok(Box::new(selected))
    }

    fn label_names(
        &self,
        matchers: &[Matcher],
        limit: usize,
        context: &QueryContext,
    ) -> Result<Strings, QueryError> {
        let mut names = BTreeSet::new();
        if self.reads_head {
            let head = self.db.head.read();
            if matchers.is_empty() {
                let all = head.labels.pairs.names();
                names.extend(all.map(|(name, _)| String::from(head.labels.symbols.get(name))));
            } else {
                for (i, slot) in (0..).zip(postings::select(&*head, matchers, context)?) {
                    check_now_and_then(i, context)?;
                    insert_all(&mut names, head.labels.pairs_of(slot).map(|(name, _)| name));
                }
            }
        }
        for block in self.blocks_in(self.range) {
            if matchers.is_empty() {
                insert_all(&mut names, block.index.names());
            } else {
                each_label(&block, matchers, context, |name, _| {
                    insert_all(&mut names, std::iter::once(name));
                })?;
            }
        }
        Ok(cut(names, limit))
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        limit: usize,
        context: &QueryContext,
    ) -> Result<Strings, QueryError> {
        let mut values = BTreeSet::new();
        if self.reads_head {
            let head = self.db.head.read();
            if matchers.is_empty() {
                let pairs = head.labels.pairs_named(name).iter();
                values.extend(pairs.map(|&pair| String::from(head.labels.pair(pair).1)));
            } else {
                for (i, slot) in (0..).zip(postings::select(&*head, matchers, context)?) {
                    check_now_and_then(i, context)?;
                    let value = head.labels.pairs_of(slot).find(|(n, _)| *n == name);
                    insert_all(&mut values, value.map(|(_, value)| value).into_iter());
                }
            }
        }
        for block in self.blocks_in(self.range) {
            if matchers.is_empty() {
                // The first of all are among the first of each; one more tells that there are more.
                let mut left = if limit > 0 { limit.saturating_add(1) } else { usize::MAX };
                block.index.values(name, context, |value, _| {
                    insert_all(&mut values, std::iter::once(value));
                    left -= 1;
                    left > 0
                })?;
            } else {
                each_label(&block, matchers, context, |n, value| {
                    if n == name {
                        insert_all(&mut values, std::iter::once(value));
                    }
                })?;
            }
        }
        Ok(cut(values, limit))
    }
}

/// Calls `on_label` with every label of the block's series that satisfy `matchers`.
fn each_label(
    block: &Block,
    matchers: &[Matcher],
    context: &QueryContext,
    mut on_label: impl FnMut(&str, &str),
) -> Result<(), QueryError> {
    let mut cursor = block.index.cursor();
    for (i, id) in postings::select(&*block.index, matchers, context)?.into_iter().enumerate() {
        if i % 256 == 0 {
            context.check()?;
        }
        cursor.read(id)?;
        cursor.each_label(&mut on_label)?;
    }
    Ok(())
}

/// Looks at the clock for one element of many.
fn check_now_and_then(i: usize, context: &QueryContext) -> Result<(), QueryError> {
    if i.is_multiple_of(1024) { context.check() } else { Ok(()) }
}

/// Inserts without allocating for what is there already.
fn insert_all<'s>(set: &mut BTreeSet<String>, texts: impl Iterator<Item = &'s str>) {
    for text in texts {
        if !set.contains(text) {
            set.insert(String::from(text));
        }
    }
}

fn cut(set: BTreeSet<String>, limit: usize) -> Strings {
    let truncated = limit > 0 && set.len() > limit;
    let wanted = if limit == 0 { usize::MAX } else { limit };
    Strings { values: set.into_iter().take(wanted).collect(), truncated }
}

/// The parts of one selected series.
#[derive(Debug)]
struct Parts {
    labels: Labels,
    head: Option<HeadSeries>,
    /// Position in `Selected::blocks` and there among the series, in order of time.
    blocks: Vec<(u32, u32)>,
}

/// One of [`Parts`].
#[derive(Clone, Copy, Debug)]
enum Part {
    Head(HeadSeries),
    Block(u32, u32),
}

impl Parts {
    fn add(&mut self, part: Part) {
        match part {
            Part::Head(series) => self.head = Some(series),
            Part::Block(at, series) => self.blocks.push((at, series)),
        }
    }
}

/// Hands over the elements of all lists in order of labels, of equal labels those of the first list first. Blocks have their series in order
/// already, and to compare two label sets takes longer than anything else here.
fn join_sorted<T>(mut lists: Vec<Vec<(Labels, T)>>, mut each: impl FnMut(Labels, T)) {
    for list in &mut lists {
        if !list.is_sorted_by(|a, b| a.0 <= b.0) {
            list.sort_by(|a, b| a.0.cmp(&b.0));
        }
    }
    let mut rest: Vec<_> = lists.into_iter().map(Vec::into_iter).collect();
    loop {
        let heads = rest.iter().enumerate().filter_map(|(at, list)| {
            let (labels, _) = list.as_slice().first()?;
            Some((labels, at))
        });
        // Of equal ones the first.
        let Some((_, at)) = heads.min_by(|a, b| a.0.cmp(b.0)) else { return };
        if let Some((labels, element)) = rest[at].next() {
            each(labels, element);
        }
    }
}

/// The series of a selection.
struct Selected<'v> {
    view: &'v View<'v>,
    range: TimeRange,
    blocks: Vec<(Arc<Block>, BlockSelection)>,
    series: SelectedSeries,
    charge: Charge,
    spare: Spare,
}

/// Where the series of a selection are.
enum SelectedSeries {
    /// In the head alone, in its order; and the names of the labels that are wanted.
    Head(Vec<HeadSeries>, Option<Vec<String>>),
    /// In a block alone, the only one of `Selected::blocks`, in its order.
    Block,
    /// In several places, in order of labels.
    Merged(Vec<Parts>),
}

impl Selected<'_> {
    /// Sorts by labels and joins the parts of each series.
    fn merge(
        &mut self,
        head: Vec<HeadSeries>,
        selection: &Selection<'_>,
        context: &QueryContext,
    ) -> Result<(), QueryError> {
        let blocks = self.view.blocks_in(selection.range);
        // Where there is nothing to join, labels need not be whole.
        let one_block = blocks.len() == 1 && head.is_empty();
        let projection = selection.projection.filter(|_| one_block);
        for block in blocks {
            // The first of all are among the first of each.
            let of_block = Selection { projection, ..*selection };
            let selected = block.select(&of_block, &mut self.charge, context)?;
            self.blocks.push((block, selected));
        }
        if let ([(_, selected)], true) = (&self.blocks[..], one_block)
            && (selected.is_projected || selected.is_sorted())
        {
            self.series = SelectedSeries::Block;
            return Ok(());
        }
        let mut lists: Vec<Vec<(Labels, Part)>> = Vec::with_capacity(self.blocks.len() + 1);
        for (at, (_, selected)) in (0..).zip(&self.blocks) {
            let parts = (0..).zip(&selected.series);
            let parts = parts.map(|(i, series)| (series.labels.clone(), Part::Block(at, i)));
            lists.push(parts.collect());
        }
        let mut of_head = Vec::with_capacity(head.len());
        for (i, series) in head.into_iter().enumerate() {
            check_now_and_then(i, context)?;
            let labels = self.head_labels(series, None);
            self.charge.grow(labels.packed_bytes())?;
            of_head.push((labels, Part::Head(series)));
        }
        lists.push(of_head);
        // At most as many as there are parts.
        let parts: usize = lists.iter().map(Vec::len).sum();
        self.charge.grow(parts * size_of::<Parts>())?;
        let mut joined: Vec<Parts> = Vec::new();
        join_sorted(lists, |labels, part| match joined.last_mut() {
            Some(last) if last.labels == labels => last.add(part),
            _ => {
                let mut parts = Parts { labels, head: None, blocks: Vec::new() };
                parts.add(part);
                joined.push(parts);
            }
        });
        self.series = SelectedSeries::Merged(joined);
        Ok(())
    }

    fn truncate(&mut self, limit: usize) {
        match &mut self.series {
            SelectedSeries::Head(series, _) => series.truncate(limit),
            SelectedSeries::Block => self.blocks[0].1.series.truncate(limit),
            SelectedSeries::Merged(series) => series.truncate(limit),
        }
    }

    /// The part of series `index` that is in the head.
    fn in_head(&self, index: usize) -> Option<HeadSeries> {
        match &self.series {
            SelectedSeries::Head(series, _) => Some(series[index]),
            SelectedSeries::Block => None,
            SelectedSeries::Merged(series) => series[index].head,
        }
    }

    fn read_block(
        &self,
        (at, series): (u32, u32),
        range: TimeRange,
        into: &mut Columns,
        context: &QueryContext,
    ) -> Result<(), QueryError> {
        let (block, selected) = &self.blocks[at as usize];
        let of_block = block.meta.range();
        let wanted = TimeRange::new(range.min.max(of_block.min), range.max.min(of_block.max));
        if wanted.min > wanted.max {
            return Ok(());
        }
        block.read(selected, &selected.series[series as usize], wanted, into, context)
    }

    fn head_labels(&self, series: HeadSeries, names: Option<&[String]>) -> Labels {
        self.spare.with(|SpareMemory { labels: reader, .. }| {
            let head = self.view.db.head.read();
            // A view keeps its series from leaving the head.
            match (head.slot(series.series), names) {
                (Some(slot), Some(names)) => head.labels.labels_named(slot, names, reader),
                (Some(slot), None) => head.labels.labels_with(slot, reader),
                (None, _) => Labels::empty(),
            }
        })
    }

    /// Reads a series of the head; `ahead` are those that are read next, if these are to be looked at together.
    fn read_head(
        &self,
        series: HeadSeries,
        ahead: &[HeadSeries],
        range: TimeRange,
        into: &mut Columns,
        context: &QueryContext,
    ) -> Result<(), QueryError> {
        let view = self.view;
        let horizon = Horizon { last_t: series.last_t, batch: view.batch, from: view.head_from };
        self.spare.with(|SpareMemory { chunks, .. }| {
            let head = view.db.head.read();
            if !ahead.is_empty() {
                head.look_ahead(ahead, range.min.max(horizon.from), chunks);
            }
            head.collect_samples(series.series, range, horizon, chunks);
            drop(head);
            chunks.read(range, horizon, into, context)
        })
    }
}

/// What is used for one series of the head after the other.
#[derive(Debug, Default)]
struct SpareMemory {
    chunks: SeriesChunks,
    labels: LabelsReader,
}

/// Memory that no thread uses at the moment: as many pieces as there were threads at a time. It is asked for twice for each series.
#[derive(Debug, Default)]
#[expect(
    clippy::vec_box,
    reason = "they are large, and taken from others and put back for every series"
)]
struct Spare {
    /// For the first threads, each of which holds on to one while it uses it.
    first: [Mutex<Option<Box<SpareMemory>>>; 4],
    others: Mutex<Vec<Box<SpareMemory>>>,
}

impl Spare {
    fn with<T>(&self, f: impl FnOnce(&mut SpareMemory) -> T) -> T {
        if let Some(mut memory) = self.first.iter().find_map(Mutex::try_lock) {
            return f(memory.get_or_insert_default());
        }
        let mut memory = self.others.lock().pop().unwrap_or_default();
        let result = f(&mut memory);
        self.others.lock().push(memory);
        result
    }
}

impl SeriesSet for Selected<'_> {
    fn len(&self) -> usize {
        match &self.series {
            SelectedSeries::Head(series, _) => series.len(),
            SelectedSeries::Block => self.blocks[0].1.series.len(),
            SelectedSeries::Merged(series) => series.len(),
        }
    }

    fn order(&self) -> SeriesOrder {
        match &self.series {
            SelectedSeries::Head(..) => SeriesOrder::Storage,
            SelectedSeries::Block | SelectedSeries::Merged(_) => SeriesOrder::Labels,
        }
    }

    fn labels(&self, index: usize) -> Labels {
        match &self.series {
            SelectedSeries::Head(series, names) => {
                self.head_labels(series[index], names.as_deref())
            }
            SelectedSeries::Block => self.blocks[0].1.series[index].labels.clone(),
            SelectedSeries::Merged(series) => series[index].labels.clone(),
        }
    }

    fn series_ref(&self, index: usize) -> Option<SeriesRef> {
        self.in_head(index).map(|series| series.series_ref())
    }

    fn read(
        &self,
        index: usize,
        range: TimeRange,
        into: &mut Columns,
        context: &QueryContext,
    ) -> Result<(), QueryError> {
        let start = into.len();
        match &self.series {
            SelectedSeries::Head(series, _) => {
                let ahead = if index.is_multiple_of(LOOK_AHEAD) {
                    &series[index..series.len().min(index + LOOK_AHEAD)]
                } else {
                    &[]
                };
                self.read_head(series[index], ahead, range, into, context)?;
            }
            SelectedSeries::Block => {
                let series = u32::try_from(index).unwrap_or(u32::MAX);
                self.read_block((0, series), range, into, context)?;
            }
            SelectedSeries::Merged(series) => {
                let parts = &series[index];
                for part in &parts.blocks {
                    self.read_block(*part, range, into, context)?;
                }
                if let Some(series) = parts.head {
                    self.read_head(series, &[], range, into, context)?;
                }
            }
        }
        put_in_order(into, start);
        Ok(())
    }

    fn latest(&self, index: usize) -> Option<Sample> {
        let HeadSeries { last_t, last_v, .. } = self.in_head(index)?;
        if let SelectedSeries::Merged(series) = &self.series {
            let reaches =
                |(at, _): &(u32, u32)| self.blocks[*at as usize].0.meta.range().max >= last_t;
            if series[index].blocks.iter().any(reaches) {
                return None;
            }
        }
        let seen = TimeRange::new(self.range.min.max(self.view.head_from), self.range.max);
        Some(Sample { t: last_t, v: last_v? }).filter(|sample| seen.contains(sample.t))
    }

    fn warnings(&self) -> &[String] {
        &self.view.warnings
    }
}
