//! How many samples a query holds, has held and has read.

use std::cell::{Cell, RefCell};

use model::Columns;

use super::block::is_present;
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
    looked_at_per_step: Option<Vec<u64>>,
    /// For each step, if that is asked for, or needed to tell what is read for nothing.
    read_per_step: Option<Vec<u64>>,
}

/// What is counted for each step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PerStep {
    looked_at: bool,
    read: bool,
}

impl Tally {
    /// Nothing, at steps of a subquery for which `outer` steps look from `look` at windows of `range` milliseconds. Where these leave gaps or
    /// what is read is counted by step (`by_step`), it has to be known when the subquery reads.
    pub(super) fn of_subquery(
        inner: Steps,
        outer: Steps,
        (look, range): (Look, i64),
        by_step: PerStep,
    ) -> Self {
        let has_gaps = outer.interval > range || look.at.is_some();
        let needed = outer.count > 1 && (by_step.read || has_gaps);
        Self { read_per_step: needed.then(|| vec![0; inner.count]), ..Self::default() }
    }

    /// What windows on a series look at, `total` samples in all. What the results of a subquery took was read by it: then they are not
    /// `stored`.
    pub(super) fn of_windows(
        frame: Frame<'_>,
        columns: &Columns,
        total: u64,
        stored: bool,
        by_step: PerStep,
    ) -> Self {
        let looked_at_per_step = by_step.looked_at.then(|| windows_per_step(frame, columns));
        let looked_at = Self { looked_at: total, looked_at_per_step, ..Self::default() };
        if !stored {
            return looked_at;
        }
        let read_per_step = by_step.read.then(|| news_per_step(frame, columns));
        Self { read: news(frame, columns, total), read_per_step, ..looked_at }
    }

    /// Bytes of what is counted by step.
    pub(super) fn bytes(&self) -> usize {
        let counts = self.looked_at_per_step.iter().chain(&self.read_per_step);
        counts.map(|counts| size_of_val(&**counts)).sum()
    }

    fn add(&mut self, other: &Self) {
        self.looked_at = self.looked_at.saturating_add(other.looked_at);
        self.read = self.read.saturating_add(other.read);
        add_each(&mut self.looked_at_per_step, other.looked_at_per_step.as_deref());
        add_each(&mut self.read_per_step, other.read_per_step.as_deref());
    }
}

fn add_each(counts: &mut Option<Vec<u64>>, more: Option<&[u64]>) {
    if let (Some(counts), Some(more)) = (counts, more) {
        counts.iter_mut().zip(more).for_each(|(count, more)| *count += more);
    }
}

impl SampleCount {
    /// Nothing held; at most `held_max` may be.
    pub(super) fn new(held_max: u64) -> Self {
        Self {
            held_max,
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
    pub(super) fn empty_tally(&self) -> Tally {
        let tally = self.tally.borrow();
        let none = |counts: &Option<Vec<u64>>| counts.as_ref().map(|counts| vec![0; counts.len()]);
        let looked_at_per_step = none(&tally.looked_at_per_step);
        Tally { looked_at_per_step, read_per_step: none(&tally.read_per_step), ..Tally::default() }
    }

    /// Counts what another tally has counted.
    pub(super) fn count(&self, other: &Tally) {
        self.tally.borrow_mut().add(other);
    }

    /// Counts for each of `steps` steps too.
    pub(super) fn count_per_step(&self, steps: usize) {
        let mut tally = self.tally.borrow_mut();
        tally.looked_at_per_step = Some(vec![0; steps]);
        tally.read_per_step = Some(vec![0; steps]);
    }

    /// What each step looked at, and what was read for it, if that was asked for.
    pub(super) fn per_step(&self) -> (Vec<u64>, Vec<u64>) {
        let tally = self.tally.borrow();
        let counts = |counts: &Option<Vec<u64>>| counts.clone().unwrap_or_default();
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
        tally.looked_at_per_step.iter_mut().flatten().for_each(|count| *count += once.looked_at);
        tally.read = tally.read.saturating_add(once.read);
        if let Some(first) = tally.read_per_step.as_mut().and_then(|counts| counts.first_mut()) {
            *first += once.read;
        }
    }

    /// Counts what a subquery read at its `inner` steps for `outer` steps, which look from `look` at windows of `range` milliseconds: each
    /// sample is read for the first window that it is in, if it is in any.
    ///
    /// As in Prometheus windows are looked for without regard to a fixed time.
    pub(super) fn count_subquery(
        &self,
        subquery: &Tally,
        inner: Steps,
        outer: Steps,
        (look, range): (Look, i64),
    ) {
        let mut tally = self.tally.borrow_mut();
        let Some(reads) = &subquery.read_per_step else {
            tally.read = tally.read.saturating_add(subquery.read);
            if let Some(first) = tally.read_per_step.as_mut().and_then(|counts| counts.first_mut())
            {
                *first += subquery.read;
            }
            return;
        };
        for (t, &read) in inner.iter().zip(reads).filter(|(_, read)| **read > 0) {
            let t = t.saturating_add(look.offset);
            let after = t.saturating_sub(outer.start).max(0);
            let step = usize::try_from((after - 1).div_euclid(outer.interval) + 1);
            let step = step.unwrap_or_default().min(outer.count - 1);
            if t <= outer.at(step).saturating_sub(range) {
                continue;
            }
            tally.read = tally.read.saturating_add(read);
            if let Some(counts) = &mut tally.read_per_step {
                counts[step] += read;
            }
        }
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
        for counts in [looked_at_per_step, read_per_step] {
            if let Some(count) = counts.as_mut().and_then(|counts| counts.last_mut()) {
                *count += samples;
            }
        }
    }

    /// Each step looked at its sample of a row.
    pub(super) fn looked_at_row(&self, row: RowRef<'_>, samples: u64) {
        let mut tally = self.tally.borrow_mut();
        let Tally { looked_at, read, looked_at_per_step, read_per_step } = &mut *tally;
        for total in [looked_at, read] {
            *total = total.saturating_add(samples);
        }
        for counts in [looked_at_per_step, read_per_step] {
            for (step, count) in counts.iter_mut().flatten().enumerate() {
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
fn news_per_step(frame: Frame<'_>, columns: &Columns) -> Vec<u64> {
    let range = frame.range.min(frame.steps.interval);
    let mut counts = if frame.look.at.is_some() {
        vec![0; frame.steps.count]
    } else {
        windows_per_step(Frame { range, ..frame }, columns)
    };
    let first = windows_per_step(Frame { steps: frame.steps.first(), ..frame }, columns);
    counts.iter_mut().zip(first).for_each(|(count, first)| *count = first);
    counts
}

/// How many samples of `columns` the last step of `frame` looks at.
pub(super) fn samples_of_last(frame: Frame<'_>, columns: &Columns) -> u64 {
    let steps = Steps::single(frame.steps.last());
    windows_per_step(Frame { steps, ..frame }, columns).iter().sum()
}

/// How many samples of `columns` each step of `frame` looks at.
pub(super) fn windows_per_step(frame: Frame<'_>, columns: &Columns) -> Vec<u64> {
    let mut counts = vec![0; frame.steps.count];
    frame.walk(columns.times(), |window| {
        let histograms = columns.histograms();
        let from = histograms.partition_point(|(row, _)| (*row as usize) < window.rows.start);
        let inside = histograms[from..].iter();
        let inside = inside.take_while(|(row, _)| (*row as usize) < window.rows.end);
        let extra: u64 = inside.map(|(_, histogram)| weight(histogram) - 1).sum();
        counts[window.step] = window.rows.len() as u64 + extra;
    });
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_evaluated_once_counts_at_each_step() {
        let count = SampleCount::new(10);
        count.count_per_step(3);
        count.looked_at(5);
        let outer = count.exchange(Tally::default());
        count.looked_at(2);
        let once = count.exchange(outer);
        count.count_each_step(&once, 3);
        assert_eq!(count.per_step(), (vec![2, 2, 7], vec![2, 0, 5]));
        assert_eq!((count.stats().samples_queryable, count.stats().samples_read), (11, 7));
    }

    #[test]
    fn segments_can_be_repeated() {
        let count = SampleCount::new(100);
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
        let again = SampleCount::new(100);
        again.hold(50).unwrap();
        again.repeat(first, 50).unwrap();
        assert_eq!((again.held(), again.stats().samples_peak), (55, 64));
        again.repeat(last, 50).unwrap();
        assert_eq!((again.held(), again.stats().samples_peak), (54, 64));
        let full = SampleCount::new(60);
        full.hold(50).unwrap();
        assert!(matches!(full.repeat(first, 50), Err(QueryFailure::TooManySamples)));
    }

    #[test]
    fn the_peak_is_remembered_and_the_bound_kept() {
        let count = SampleCount::new(10);
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
