//! How many samples a query holds, has held and has read.

use std::cell::{Cell, RefCell};

use model::Columns;

use super::block::is_present;
use super::failure::QueryFailure;
use super::row::{RowRef, weight};
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
    read: Cell<u64>,
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

/// How many samples steps looked at.
///
/// What is evaluated at other steps than those of the query has a tally of its own: what subqueries look at does not count, only what
/// functions look at of their results does; what is evaluated once counts at each step.
#[derive(Debug, Default)]
pub(super) struct Tally {
    total: u64,
    /// For each step, if that is asked for and they are the query's.
    per_step: Option<Vec<u64>>,
}

impl SampleCount {
    /// Nothing held; at most `held_max` may be.
    pub(super) fn new(held_max: u64) -> Self {
        Self {
            held_max,
            held: Cell::new(0),
            peak: Cell::new(0),
            tally: RefCell::default(),
            read: Cell::new(0),
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

    /// A tally of nothing, that counts for each step if the current one does.
    pub(super) fn empty_tally(&self) -> Tally {
        let per_step = self.tally.borrow().per_step.as_ref().map(|counts| vec![0; counts.len()]);
        Tally { total: 0, per_step }
    }

    /// Counts what another tally has counted.
    pub(super) fn looked_at_too(&self, other: &Tally) {
        self.looked_at_windows(other.total, other.per_step.as_deref());
    }

    /// Counts for each of `steps` steps too.
    pub(super) fn count_per_step(&self, steps: usize) {
        self.tally.borrow_mut().per_step = Some(vec![0; steps]);
    }

    /// What each step looked at, if that was asked for.
    pub(super) fn per_step(&self) -> Vec<u64> {
        self.tally.borrow().per_step.clone().unwrap_or_default()
    }

    /// Goes on with another tally; gives the one so far.
    pub(super) fn exchange(&self, tally: Tally) -> Tally {
        self.tally.replace(tally)
    }

    /// Counts what was evaluated once at each of `steps` steps.
    pub(super) fn looked_at_each_step(&self, once: &Tally, steps: usize) {
        let mut tally = self.tally.borrow_mut();
        tally.total = tally.total.saturating_add(once.total.saturating_mul(steps as u64));
        tally.per_step.iter_mut().flatten().for_each(|count| *count += once.total);
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

    /// `samples` were looked at from the step that is evaluated last.
    pub(super) fn looked_at(&self, samples: u64) {
        let mut tally = self.tally.borrow_mut();
        tally.total = tally.total.saturating_add(samples);
        if let Some(count) = tally.per_step.as_mut().and_then(|counts| counts.last_mut()) {
            *count += samples;
        }
    }

    /// Each step looked at its sample of a row.
    pub(super) fn looked_at_row(&self, row: RowRef<'_>, samples: u64) {
        let mut tally = self.tally.borrow_mut();
        tally.total = tally.total.saturating_add(samples);
        for (step, count) in tally.per_step.iter_mut().flatten().enumerate() {
            if is_present(row.values[step]) {
                *count += row.histograms.get(step).map_or(1, |histogram| weight(histogram));
            }
        }
    }

    /// Whether what each step looks at is counted now.
    pub(super) fn counts_per_step(&self) -> bool {
        self.tally.borrow().per_step.is_some()
    }

    /// Each step looked at its window, `samples` in all; steps share some. `per_step` says how many each did, if that is counted.
    pub(super) fn looked_at_windows(&self, samples: u64, per_step: Option<&[u64]>) {
        let mut tally = self.tally.borrow_mut();
        tally.total = tally.total.saturating_add(samples);
        if let (Some(counts), Some(per_step)) = (&mut tally.per_step, per_step) {
            counts.iter_mut().zip(per_step).for_each(|(count, more)| *count += more);
        }
    }

    /// `samples` were decoded.
    pub(super) fn decoded(&self, samples: u64) {
        self.read.set(self.read.get().saturating_add(samples));
    }

    /// What the query cost.
    pub(super) fn stats(&self) -> QueryStats {
        QueryStats {
            samples_queryable: self.tally.borrow().total,
            samples_read: self.read.get(),
            samples_peak: self.peak.get(),
        }
    }
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
        count.looked_at_each_step(&once, 3);
        assert_eq!(count.per_step(), [2, 2, 7]);
        assert_eq!(count.stats().samples_queryable, 11);
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
