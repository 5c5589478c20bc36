//! How many samples a query holds, has held and has read.

use std::cell::{Cell, RefCell};

use model::{Charge, Columns, QueryContext};

use super::block::is_present;
use super::evaluator::Worker;
use super::failure::QueryFailure;
use super::plan::Look;
use super::row::{RowRef, weight};
use super::steps::Steps;
use super::window::Frame;
use crate::value::QueryStats;

/// Counts samples as Prometheus does: what an operator is given counts until it is done, also when
/// streaming made it unnecessary to hold it, so that the same queries are refused.
#[derive(Debug)]
pub(super) struct SampleCount {
    held_max: u64,
    held: Cell<u64>,
    peak: Cell<u64>,
    tally: RefCell<Tally>,
    decoded: Cell<u64>,
    /// Something was released since this was cleared.
    released: Cell<bool>,
    /// What subqueries read between windows is told from what is read for windows.
    tells_reads: bool,
}

/// A point in an evaluation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    held: u64,
    peak: u64,
    released: bool,
}

/// What an operation did to the number of samples held, from one point to another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    /// By how much there were more at most.
    rise: u64,
    end: End,
}

/// How many samples are held at the end of a segment.
#[derive(Clone, Copy, Debug)]
enum End {
    /// More than at its start.
    Grown(u64),
    /// More than when the evaluation began, whatever was held since.
    Released(u64),
}

/// How many samples steps looked at, and how many of them were read for it: what a step sees again was read when it was seen first.
///
/// What is evaluated at other steps than those of the query has a tally of its own. What subqueries look at does not count, only what
/// functions look at of their results does; but it counts as read. What is evaluated once is looked at by each step, and read by the first.
#[derive(Debug, Default)]
pub(super) struct Tally {
    looked_at: u64,
    read: u64,
    /// For each step, if that is asked for and they are the query's.
    looked_at_per_step: Option<ByStep>,
    /// For each step, if that is asked for, or needed to tell what is read for nothing.
    read_per_step: Option<ByStep>,
}

/// A number for each step, charged to the budget of the query.
#[derive(Debug)]
struct ByStep {
    counts: Vec<u64>,
    /// Gives the bytes back.
    _charge: Charge,
}

impl ByStep {
    /// Zero for each of `steps` steps.
    ///
    /// # Errors
    /// [`QueryFailure::OverBudget`]
    fn new(steps: usize, context: &QueryContext) -> Result<Self, QueryFailure> {
        let charge = context.budget.charge(steps.saturating_mul(size_of::<u64>()))?;
        Ok(Self { counts: vec![0; steps], _charge: charge })
    }

    /// Adds to the count of `step`, if there is such a step.
    fn add(&mut self, step: usize, more: u64) {
        if let Some(count) = self.counts.get_mut(step) {
            *count += more;
        }
    }
}

/// What is counted for each step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PerStep {
    looked_at: bool,
    read: bool,
}

impl Tally {
    /// What windows on a series look at, `total` samples in all. What the results of a subquery took was read by it: then they are not
    /// `stored`.
    ///
    /// # Errors
    /// [`QueryFailure::OverBudget`]
    pub(super) fn of_windows(
        frame: Frame<'_>,
        columns: &Columns,
        total: u64,
        stored: bool,
        by_step: PerStep,
    ) -> Result<Self, QueryFailure> {
        let mut tally = Self { looked_at: total, ..Self::default() };
        if by_step.looked_at {
            tally.looked_at_per_step = Some(windows_by_step(frame, columns)?);
        }
        if stored {
            tally.read = news(frame, columns, total);
            if by_step.read {
                tally.read_per_step = Some(news_by_step(frame, columns)?);
            }
        }
        Ok(tally)
    }

    /// `read` samples were read for the first step.
    fn read_by_first(&mut self, read: u64) {
        self.read = self.read.saturating_add(read);
        if let Some(counts) = &mut self.read_per_step {
            counts.add(0, read);
        }
    }

    fn add(&mut self, other: &Self) {
        self.looked_at = self.looked_at.saturating_add(other.looked_at);
        self.read = self.read.saturating_add(other.read);
        add_each(&mut self.looked_at_per_step, other.looked_at_per_step.as_ref());
        add_each(&mut self.read_per_step, other.read_per_step.as_ref());
    }
}

fn add_each(counts: &mut Option<ByStep>, more: Option<&ByStep>) {
    if let (Some(counts), Some(more)) = (counts, more) {
        counts.counts.iter_mut().zip(&more.counts).for_each(|(count, more)| *count += more);
    }
}

impl SampleCount {
    /// Nothing held; at most `held_max` may be. What subqueries read between windows is told from what they read for windows, step by step, if
    /// `tells_reads`; else it counts alike.
    pub(super) fn new(held_max: u64, tells_reads: bool) -> Self {
        Self {
            held_max,
            tells_reads,
            held: Cell::new(0),
            peak: Cell::new(0),
            tally: RefCell::default(),
            decoded: Cell::new(0),
            released: Cell::new(false),
        }
    }

    /// Begins a segment.
    pub(super) fn mark(&self) -> Mark {
        let held = self.held.get();
        Mark { held, peak: self.peak.replace(held), released: self.released.replace(false) }
    }

    /// What happened since `mark`, of an evaluation that began when there were `held` samples.
    pub(super) fn segment_since(&self, mark: Mark, held: u64) -> Segment {
        let (now, peak, released) = (self.held.get(), self.peak.get(), self.released.get());
        self.peak.set(peak.max(mark.peak));
        self.released.set(released || mark.released);
        let end = if released {
            End::Released(now.saturating_sub(held))
        } else {
            End::Grown(now.saturating_sub(mark.held))
        };
        Segment { rise: peak.saturating_sub(mark.held), end }
    }

    /// Does once more what was done in `segment`, in an evaluation that began when there were `held` samples.
    ///
    /// # Errors
    /// [`QueryFailure::TooManySamples`]
    pub(super) fn repeat(&self, segment: Segment, held: u64) -> Result<(), QueryFailure> {
        self.hold_for_a_moment(segment.rise)?;
        match segment.end {
            End::Grown(samples) => self.hold(samples),
            End::Released(samples) => {
                self.release_to(held, samples);
                Ok(())
            }
        }
    }

    /// A tally of nothing, that counts for each step what the current one does.
    ///
    /// # Errors
    /// [`QueryFailure::OverBudget`]
    pub(super) fn empty_tally(&self, context: &QueryContext) -> Result<Tally, QueryFailure> {
        let tally = self.tally.borrow();
        let none = |counts: &Option<ByStep>| {
            let steps = counts.as_ref().map(|counts| counts.counts.len());
            steps.map(|steps| ByStep::new(steps, context)).transpose()
        };
        let looked_at_per_step = none(&tally.looked_at_per_step)?;
        let read_per_step = none(&tally.read_per_step)?;
        Ok(Tally { looked_at_per_step, read_per_step, ..Tally::default() })
    }

    /// A tally of nothing, at `inner` steps of a subquery for which `outer` steps look from `look` at windows of `range` milliseconds. Where
    /// these leave gaps or what is read is counted by step, it has to be known when the subquery reads.
    ///
    /// # Errors
    /// [`QueryFailure::OverBudget`]
    pub(super) fn tally_of_subquery(
        &self,
        inner: Steps,
        outer: Steps,
        (look, range): (Look, i64),
        context: &QueryContext,
    ) -> Result<Tally, QueryFailure> {
        let has_gaps = outer.interval > range || look.at.is_some();
        let by_step = self.counts_per_step().read || (self.tells_reads && has_gaps);
        let needed = outer.count > 1 && by_step;
        let read_per_step = needed.then(|| ByStep::new(inner.count, context)).transpose()?;
        Ok(Tally { read_per_step, ..Tally::default() })
    }

    /// Counts what another tally has counted.
    pub(super) fn count(&self, other: &Tally) {
        self.tally.borrow_mut().add(other);
    }

    /// Counts for each of `steps` steps too.
    ///
    /// # Errors
    /// [`QueryFailure::OverBudget`]
    pub(super) fn count_per_step(
        &self,
        steps: usize,
        context: &QueryContext,
    ) -> Result<(), QueryFailure> {
        let mut tally = self.tally.borrow_mut();
        tally.looked_at_per_step = Some(ByStep::new(steps, context)?);
        tally.read_per_step = Some(ByStep::new(steps, context)?);
        Ok(())
    }

    /// What each step looked at, and what was read for it, if that was asked for.
    pub(super) fn per_step(&self) -> (Vec<u64>, Vec<u64>) {
        let tally = self.tally.borrow();
        let counts = |counts: &Option<ByStep>| {
            counts.as_ref().map(|counts| counts.counts.clone()).unwrap_or_default()
        };
        (counts(&tally.looked_at_per_step), counts(&tally.read_per_step))
    }

    /// Goes on with another tally; gives the one so far.
    pub(super) fn exchange(&self, tally: Tally) -> Tally {
        self.tally.replace(tally)
    }

    /// Counts what was evaluated once at each of `steps` steps.
    pub(super) fn count_each_step(&self, once: &Tally, steps: usize) {
        let mut tally = self.tally.borrow_mut();
        let all = once.looked_at.saturating_mul(steps as u64);
        tally.looked_at = tally.looked_at.saturating_add(all);
        if let Some(each) = &mut tally.looked_at_per_step {
            each.counts.iter_mut().for_each(|count| *count += once.looked_at);
        }
        tally.read_by_first(once.read);
    }

    /// Counts what a subquery read at its `inner` steps for `outer` steps, which look from `look` at windows of `range` milliseconds: each
    /// sample is read for the first window that it is in, if it is in any.
    ///
    /// As in Prometheus windows are looked for without regard to a fixed time.
    ///
    /// # Errors
    /// When the query was told to stop.
    pub(super) fn count_subquery(
        &self,
        subquery: &Tally,
        (inner, outer): (Steps, Steps),
        (look, range): (Look, i64),
        worker: &Worker<'_>,
    ) -> Result<(), QueryFailure> {
        /// Steps between looks at the clock.
        const UNCHECKED: usize = 1 << 16;
        let mut tally = self.tally.borrow_mut();
        let Some(reads) = &subquery.read_per_step else {
            tally.read_by_first(subquery.read);
            return Ok(());
        };
        for (at, (t, &read)) in inner.iter().zip(&reads.counts).enumerate() {
            if at % UNCHECKED == UNCHECKED - 1 {
                worker.check_after(UNCHECKED)?;
            }
            if read == 0 {
                continue;
            }
            let t = t.saturating_add(look.offset);
            let after = t.saturating_sub(outer.start).max(0);
            let step = usize::try_from((after - 1).div_euclid(outer.interval) + 1);
            let step = step.unwrap_or_default().min(outer.count - 1);
            if t <= outer.at(step).saturating_sub(range) {
                continue;
            }
            tally.read = tally.read.saturating_add(read);
            if let Some(counts) = &mut tally.read_per_step {
                counts.add(step, read);
            }
        }
        Ok(())
    }

    /// Holds `samples` more.
    ///
    /// # Errors
    /// [`QueryFailure::TooManySamples`]
    pub(super) fn hold(&self, samples: u64) -> Result<(), QueryFailure> {
        let held = self.held.get().saturating_add(samples);
        self.held.set(held);
        self.peak.set(self.peak.get().max(held));
        if held > self.held_max { Err(QueryFailure::TooManySamples) } else { Ok(()) }
    }

    /// Fails if `samples` more could not be held.
    ///
    /// # Errors
    /// [`QueryFailure::TooManySamples`]
    pub(super) fn hold_for_a_moment(&self, samples: u64) -> Result<(), QueryFailure> {
        let held = self.held.get();
        let result = self.hold(samples);
        self.held.set(held);
        result
    }

    /// Samples held now.
    pub(super) fn held(&self) -> u64 {
        self.held.get()
    }

    /// What was held since there were `held` is let go, but for `kept`.
    pub(super) fn release_to(&self, held: u64, kept: u64) {
        self.held.set(held.saturating_add(kept));
        self.released.set(true);
    }

    /// `samples` were looked at from the only step.
    pub(super) fn looked_at(&self, samples: u64) {
        let mut tally = self.tally.borrow_mut();
        let Tally { looked_at, read, looked_at_per_step, read_per_step } = &mut *tally;
        for total in [looked_at, read] {
            *total = total.saturating_add(samples);
        }
        for counts in [looked_at_per_step, read_per_step].into_iter().flatten() {
            counts.add(counts.counts.len().saturating_sub(1), samples);
        }
    }

    /// Each step looked at its sample of a row.
    pub(super) fn looked_at_row(&self, row: RowRef<'_>, samples: u64) {
        let mut tally = self.tally.borrow_mut();
        let Tally { looked_at, read, looked_at_per_step, read_per_step } = &mut *tally;
        for total in [looked_at, read] {
            *total = total.saturating_add(samples);
        }
        for counts in [looked_at_per_step, read_per_step].into_iter().flatten() {
            for (step, count) in counts.counts.iter_mut().enumerate() {
                if is_present(row.values[step]) {
                    *count += row.histograms.get(step).map_or(1, |histogram| weight(histogram));
                }
            }
        }
    }

    /// What is counted for each step now.
    pub(super) fn counts_per_step(&self) -> PerStep {
        let tally = self.tally.borrow();
        PerStep {
            looked_at: tally.looked_at_per_step.is_some(),
            read: tally.read_per_step.is_some(),
        }
    }

    /// `samples` were decoded.
    pub(super) fn decoded(&self, samples: u64) {
        self.decoded.set(self.decoded.get().saturating_add(samples));
    }

    /// What the query cost.
    pub(super) fn stats(&self) -> QueryStats {
        let tally = self.tally.borrow();
        QueryStats {
            samples_queryable: tally.looked_at,
            samples_read: tally.read,
            samples_decoded: self.decoded.get(),
            samples_peak: self.peak.get(),
        }
    }
}

/// How many samples of `columns` are new to a step of `frame`, of `total` that windows look at.
fn news(frame: Frame<'_>, columns: &Columns, total: u64) -> u64 {
    let Frame { steps, look, range, .. } = frame;
    if steps.count <= 1 || total == 0 {
        return total;
    }
    if look.at.is_some() {
        return total / steps.count as u64;
    }
    if steps.interval >= range {
        return total;
    }
    // Windows follow each other without gaps, so all samples from the first one's start to the last one's end are in one.
    let (start, end) = (look.from(steps.start).saturating_sub(range), look.from(steps.last()));
    let times = columns.times();
    let from = times.partition_point(|t| *t <= start);
    let to = times.partition_point(|t| *t <= end);
    let inside = |row: u32| (from..to).contains(&(row as usize));
    let histograms = columns.histograms().iter().filter(|(row, _)| inside(*row));
    let extra: u64 = histograms.map(|(_, histogram)| weight(histogram) - 1).sum();
    (to - from) as u64 + extra
}

/// How many samples of `columns` are new to each step of `frame`.
///
/// # Errors
/// [`QueryFailure::OverBudget`]
fn news_by_step(frame: Frame<'_>, columns: &Columns) -> Result<ByStep, QueryFailure> {
    let range = frame.range.min(frame.steps.interval);
    let mut news = if frame.look.at.is_some() {
        ByStep::new(frame.steps.count, frame.context)?
    } else {
        windows_by_step(Frame { range, ..frame }, columns)?
    };
    let first = Frame { steps: frame.steps.first(), ..frame };
    if let Some(count) = news.counts.first_mut() {
        *count = 0;
        each_window(first, columns, |_, samples| *count = samples);
    }
    Ok(news)
}

/// How many samples of `columns` the last step of `frame` looks at.
pub(super) fn samples_of_last(frame: Frame<'_>, columns: &Columns) -> u64 {
    let last = Frame { steps: Steps::single(frame.steps.last()), ..frame };
    let mut of_last = 0;
    each_window(last, columns, |_, samples| of_last = samples);
    of_last
}

/// How many samples of `columns` each step of `frame` looks at.
///
/// # Errors
/// [`QueryFailure::OverBudget`]
fn windows_by_step(frame: Frame<'_>, columns: &Columns) -> Result<ByStep, QueryFailure> {
    let mut by_step = ByStep::new(frame.steps.count, frame.context)?;
    each_window(frame, columns, |step, samples| by_step.counts[step] = samples);
    frame.context.check()?;
    Ok(by_step)
}

/// Hands each step of `frame` that looks at samples of `columns`, and how many it looks at, to `f`. Stops early when the query is told to stop.
pub(super) fn each_window(frame: Frame<'_>, columns: &Columns, mut f: impl FnMut(usize, u64)) {
    frame.walk(columns.times(), |window| {
        let histograms = columns.histograms();
        let from = histograms.partition_point(|(row, _)| (*row as usize) < window.rows.start);
        let inside = histograms[from..].iter();
        let inside = inside.take_while(|(row, _)| (*row as usize) < window.rows.end);
        let extra: u64 = inside.map(|(_, histogram)| weight(histogram) - 1).sum();
        f(window.step, window.rows.len() as u64 + extra);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Budget;

    #[test]
    fn what_is_evaluated_once_counts_at_each_step() {
        let count = SampleCount::new(10, true);
        count.count_per_step(3, &QueryContext::unbounded()).unwrap();
        count.looked_at(5);
        let outer = count.exchange(Tally::default());
        count.looked_at(2);
        let once = count.exchange(outer);
        count.count_each_step(&once, 3);
        assert_eq!(count.per_step(), (vec![2, 2, 7], vec![2, 0, 5]));
        assert_eq!((count.stats().samples_queryable, count.stats().samples_read), (11, 7));
    }

    /// What subqueries read is counted by step where windows leave gaps, if it matters; a query that is to stop stops counting.
    #[test]
    fn counting_what_subqueries_read_is_bounded() {
        let inner = Steps::new(1, 100_000, 1);
        let look = Look { offset: 0, at: None };
        let outer = |interval| Steps::new(10_000, 100_000, interval);
        let budget = Budget::new(1 << 20);
        let context = QueryContext { budget: budget.clone(), ..QueryContext::unbounded() };
        for (tells_reads, interval, range, steps) in [
            (false, 10_000, 10, 0),
            (true, 10_000, 10, 100_000),
            (true, 10_000, 10_000, 0),
            (true, 100_000, 10, 0),
        ] {
            let count = SampleCount::new(10, tells_reads);
            let tally = count.tally_of_subquery(inner, outer(interval), (look, range), &context);
            assert_eq!(budget.bytes_used(), 8 * steps, "{tells_reads} {interval} {range}");
            drop(tally.unwrap());
        }
        assert_eq!(budget.bytes_used(), 0);
        let count = SampleCount::new(10, true);
        let many = Steps::new(1, 1_000_000, 1);
        let refused = count.tally_of_subquery(many, outer(10_000), (look, 10), &context);
        assert!(matches!(refused, Err(QueryFailure::OverBudget { .. })));

        let worker = Worker {
            context: &context,
            lookback: 0,
            delayed_names: false,
            use_starts: false,
            type_labels: false,
            annotations: RefCell::default(),
            unchecked: Cell::default(),
        };
        let own = count.tally_of_subquery(inner, outer(10_000), (look, 10), &context).unwrap();
        let steps = (inner, outer(10_000));
        count.count_subquery(&own, steps, (look, 10), &worker).unwrap();
        context.cancellation.cancel();
        let stopped = count.count_subquery(&own, steps, (look, 10), &worker);
        assert!(matches!(stopped, Err(QueryFailure::Canceled)));
    }

    #[test]
    fn segments_can_be_repeated() {
        let count = SampleCount::new(100, true);
        count.hold(3).unwrap();
        let held = count.held();
        let mark = count.mark();
        count.hold(5).unwrap();
        count.hold_for_a_moment(9).unwrap();
        let first = count.segment_since(mark, held);
        // Somebody else holds the row.
        count.hold(20).unwrap();
        let mark = count.mark();
        count.hold(2).unwrap();
        count.release_to(held, 4);
        let last = count.segment_since(mark, held);
        assert_eq!((count.held(), count.stats().samples_peak), (7, 30));
        let again = SampleCount::new(100, true);
        again.hold(50).unwrap();
        again.repeat(first, 50).unwrap();
        assert_eq!((again.held(), again.stats().samples_peak), (55, 64));
        again.repeat(last, 50).unwrap();
        assert_eq!((again.held(), again.stats().samples_peak), (54, 64));
        let full = SampleCount::new(60, true);
        full.hold(50).unwrap();
        assert!(matches!(full.repeat(first, 50), Err(QueryFailure::TooManySamples)));
    }

    #[test]
    fn the_peak_is_remembered_and_the_bound_kept() {
        let count = SampleCount::new(10, true);
        count.hold(6).unwrap();
        let before = count.held();
        count.hold(4).unwrap();
        assert!(matches!(count.hold(1), Err(QueryFailure::TooManySamples)));
        count.release_to(before, 1);
        assert_eq!(count.held(), 7);
        assert!(count.hold_for_a_moment(4).is_err());
        assert_eq!((count.held(), count.stats().samples_peak), (7, 11));
    }
}
