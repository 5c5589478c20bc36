//! Parts of a query that occur several times are evaluated once.
//!
//! While the first occurrence hands its rows on, they are kept, with what was counted and remarked meanwhile; the others hand on what was kept.
//! To whoever looks at answers, remarks and numbers of samples it is as if each had been evaluated. What is too large is not kept: then it is
//! evaluated again, so that sharing never costs what streaming saves.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::annotations::Annotations;
use super::block::{Block, Sink};
use super::evaluator::Evaluator;
use super::failure::QueryFailure;
use super::peak::{Cost, Peaks};
use super::plan::Shared;
use super::row::Row;
use super::samples::{Mark, Segment, Tally};
use super::steps::Steps;

/// Bytes of the rows of one part that are kept, at most.
const KEPT_BYTES_MAX: u64 = 16 << 20;
/// Of what a query may still hold, one such part may be kept: a query is not to be refused for what it could do without.
const FREE_PARTS: u64 = 8;

/// What has been kept, by part and by the steps at which it was evaluated.
#[derive(Default)]
pub(super) struct Kept(RefCell<HashMap<(usize, Steps), Rows>>);

/// The rows of one part.
struct Rows {
    block: Block,
    /// What the sample count went through before each row, and after the last.
    segments: Vec<Segment>,
    /// Remarks made before the row of that number, or (that of no row) after the last.
    remarks: Vec<(usize, Annotations)>,
    /// Samples that were looked at.
    looked_at: Tally,
    /// Where the expressions in the part start in the query.
    starts: Vec<usize>,
    /// Occurrences that have not been evaluated.
    left: usize,
    /// What evaluating the part holds, if that is asked for and known.
    cost: Option<Rc<Cost>>,
}

/// Evaluates a part that occurs elsewhere, too, or hands on what was kept when it was evaluated.
///
/// # Errors
/// [`QueryFailure`]
pub(super) fn stream(
    evaluator: &Evaluator<'_>,
    shared: &Shared<'_>,
    steps: Steps,
    sink: &mut Sink<'_>,
) -> Result<(), QueryFailure> {
    let key = (shared.part, steps);
    let kept = evaluator.kept.0.borrow_mut().remove(&key);
    match kept {
        Some(mut rows) => {
            rows.left -= 1;
            if let Some(peaks) = &evaluator.peaks {
                peaks.push(rows.cost.clone());
            }
            if rows.left == 0 {
                return rows.hand_on(evaluator, shared, sink);
            }
            rows.hand_on_copies(evaluator, shared, steps, sink)?;
            evaluator.kept.0.borrow_mut().insert(key, rows);
            Ok(())
        }
        None => {
            if let Some(rows) = evaluate(evaluator, shared, steps, sink)? {
                evaluator.kept.0.borrow_mut().insert(key, rows);
            }
            Ok(())
        }
    }
}

/// Evaluates a part; gives its rows if they can be kept.
fn evaluate(
    evaluator: &Evaluator<'_>,
    shared: &Shared<'_>,
    steps: Steps,
    sink: &mut Sink<'_>,
) -> Result<Option<Rows>, QueryFailure> {
    let budget = &evaluator.context.budget;
    let free = budget.bytes_max().saturating_sub(budget.bytes_used());
    let bytes_max = KEPT_BYTES_MAX.min(free / FREE_PARTS);
    let mut rows = Some(Rows {
        block: Block::new(steps.count, evaluator.context)?,
        segments: Vec::new(),
        remarks: Vec::new(),
        looked_at: Tally::default(),
        starts: shared.starts.clone(),
        left: shared.occurrences - 1,
        cost: None,
    });
    let held = evaluator.samples.held();
    let watch = RefCell::new(Watch::begin(evaluator)?);
    evaluator.stream(&shared.input, steps, &mut |series, row| {
        watch.borrow_mut().pause(evaluator, held, &mut rows);
        if let Some(kept) = &mut rows {
            let copy = Row { values: &mut *row.values, histograms: row.histograms.clone() };
            let pushed = kept.block.push(series.clone(), copy);
            if pushed.is_err() || kept.block.bytes() > bytes_max {
                rows = None;
            }
        }
        let result = sink(series, row);
        watch.borrow_mut().resume(evaluator);
        result
    })?;
    let mut watch = watch.into_inner();
    watch.pause(evaluator, held, &mut rows);
    evaluator.samples.count(&watch.tally);
    let cost = evaluator.peaks.as_ref().and_then(Peaks::newest);
    Ok(rows.map(|rows| Rows { looked_at: watch.tally, cost, ..rows }))
}

/// What is counted and remarked while a part is evaluated, but not while its rows are dealt with.
struct Watch {
    mark: Mark,
    /// That of the part, while rows are dealt with; otherwise that of all else.
    tally: Tally,
    /// Of all else, while the part is evaluated.
    remarks: Annotations,
}

impl Watch {
    fn begin(evaluator: &Evaluator<'_>) -> Result<Self, QueryFailure> {
        let own = evaluator.samples.empty_tally(evaluator.context)?;
        Ok(Self {
            mark: evaluator.samples.mark(),
            tally: evaluator.samples.exchange(own),
            remarks: evaluator.annotations.take(),
        })
    }

    /// A row is handed on, or there are no more. `held` samples were held when the evaluation began.
    fn pause(&mut self, evaluator: &Evaluator<'_>, held: u64, rows: &mut Option<Rows>) {
        let segment = evaluator.samples.segment_since(self.mark, held);
        let own = evaluator.samples.exchange(std::mem::take(&mut self.tally));
        self.tally = own;
        let own = evaluator.annotations.replace(std::mem::take(&mut self.remarks));
        if let Some(rows) = rows {
            rows.segments.push(segment);
            if !own.is_empty() {
                rows.remarks.push((rows.block.len(), own.clone()));
            }
        }
        evaluator.worker.remember(own);
    }

    fn resume(&mut self, evaluator: &Evaluator<'_>) {
        self.mark = evaluator.samples.mark();
        self.tally = evaluator.samples.exchange(std::mem::take(&mut self.tally));
        self.remarks = evaluator.annotations.take();
    }
}

impl Rows {
    /// Hands the rows on for the last time.
    fn hand_on(
        self,
        evaluator: &Evaluator<'_>,
        shared: &Shared<'_>,
        sink: &mut Sink<'_>,
    ) -> Result<(), QueryFailure> {
        let Self { block, segments, remarks, looked_at, starts, .. } = self;
        let mut replay = Replay {
            evaluator,
            held: evaluator.samples.held(),
            segments: segments.iter(),
            remarks: remarks.iter().peekable(),
            starts: (&starts, &shared.starts),
            rows: 0,
        };
        evaluator.samples.count(&looked_at);
        block.stream(&mut |series, row| {
            replay.next()?;
            sink(series, row)
        })?;
        replay.next()
    }

    /// Hands copies of the rows on.
    fn hand_on_copies(
        &self,
        evaluator: &Evaluator<'_>,
        shared: &Shared<'_>,
        steps: Steps,
        sink: &mut Sink<'_>,
    ) -> Result<(), QueryFailure> {
        let mut replay = Replay {
            evaluator,
            held: evaluator.samples.held(),
            segments: self.segments.iter(),
            remarks: self.remarks.iter().peekable(),
            starts: (&self.starts, &shared.starts),
            rows: 0,
        };
        evaluator.samples.count(&self.looked_at);
        let mut copy = evaluator.empty_row(steps)?;
        for (series, row) in self.block.rows() {
            evaluator.context.check()?;
            replay.next()?;
            copy.copy_from_slice(row.values);
            let row = Row { values: &mut copy, histograms: row.histograms.clone() };
            sink(series.clone(), row)?;
        }
        replay.next()
    }
}

/// Counts and remarks once more what was counted and remarked before.
struct Replay<'r> {
    evaluator: &'r Evaluator<'r>,
    /// Samples held at the start.
    held: u64,
    segments: std::slice::Iter<'r, Segment>,
    remarks: std::iter::Peekable<std::slice::Iter<'r, (usize, Annotations)>>,
    /// Where expressions start in the part that was evaluated and in this one.
    starts: (&'r [usize], &'r [usize]),
    /// Rows handed on.
    rows: usize,
}

impl Replay<'_> {
    /// What comes before the next row, or after the last.
    fn next(&mut self) -> Result<(), QueryFailure> {
        if let Some(segment) = self.segments.next() {
            self.evaluator.samples.repeat(*segment, self.held)?;
        }
        while let Some((_, remarks)) = self.remarks.next_if(|(row, _)| *row == self.rows) {
            let (from, to) = self.starts;
            self.evaluator.worker.remember(remarks.moved(from, to));
        }
        self.rows += 1;
        Ok(())
    }
}
