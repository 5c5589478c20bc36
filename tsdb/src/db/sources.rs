//! The head as something that blocks are written from.

use super::Db;
use crate::block::source::{SeriesSource, SourceSeries};
use crate::block::symbol_list::SymbolList;
use crate::block::writer::BlockError;
use crate::head::cut::{CutPlan, load_chunks};
use crate::head::series_chunks::SeriesChunks;

/// A part of the head, as planned. It is locked for a moment for each series.
pub(super) struct HeadSource<'d> {
    db: &'d Db,
    plan: CutPlan,
    next: usize,
    chunks: SeriesChunks,
}

impl<'d> HeadSource<'d> {
    pub(super) fn new(db: &'d Db, plan: CutPlan) -> Self {
        Self { db, plan, next: 0, chunks: SeriesChunks::default() }
    }
}

impl SeriesSource for HeadSource<'_> {
    fn symbols(&mut self) -> Result<SymbolList, BlockError> {
        let mut symbols = SymbolList::default();
        for symbol in std::mem::take(&mut self.plan.symbols) {
            symbols.push(&symbol).map_err(|source| {
                let path = String::from("from the head");
                BlockError::Write { path, source }
            })?;
        }
        Ok(symbols)
    }

    fn next(&mut self, into: &mut SourceSeries) -> Result<bool, BlockError> {
        if self.next == self.plan.len() {
            return Ok(false);
        }
        if self.db.is_stopping() {
            return Err(BlockError::Cancelled);
        }
        let head = self.db.head.read();
        head.cut_series(&self.plan, self.next, &mut into.labels, &mut self.chunks);
        drop(head);
        self.next += 1;
        load_chunks(&self.plan, &mut self.chunks, into)?;
        Ok(true)
    }
}
