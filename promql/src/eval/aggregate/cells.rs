//! What is known so far of each group at each step.
//!
//! Series come and go, and groups with them. So a group holds cells for the steps from its first sample to its last alone, and they are given
//! back as soon as it has been handed on.

use std::ops::Range;

use model::Charge;

use super::SeriesGroups;
use crate::eval::block::{Series, is_present};
use crate::eval::evaluator::Evaluator;
use crate::eval::failure::QueryFailure;
use crate::eval::steps::Steps;

/// What is known of a group at a step.
pub(super) trait Cell {
    /// Nothing.
    const NONE: Self;
    /// Whether nothing is known.
    fn is_none(&self) -> bool;
}

impl<A> Cell for Option<A> {
    const NONE: Self = None;

    fn is_none(&self) -> bool {
        Self::is_none(self)
    }
}

/// The cells of one group.
#[derive(Debug)]
pub(super) struct GroupCells<C> {
    /// The step of the first.
    start: usize,
    cells: Vec<C>,
}

/// Cells of all groups.
pub(super) struct Cells<C> {
    pub(super) groups: SeriesGroups,
    rows: Vec<GroupCells<C>>,
    width: usize,
    pub(super) charge: Charge,
}

impl<C: Cell> Cells<C> {
    /// No groups.
    pub(super) fn new(evaluator: &Evaluator<'_>, steps: Steps) -> Result<Self, QueryFailure> {
        let charge = evaluator.context.budget.charge(0)?;
        Ok(Self { groups: SeriesGroups::default(), rows: Vec::new(), width: steps.count, charge })
    }

    /// The cells of `group`, which may be new, at `steps`.
    pub(super) fn at(
        &mut self,
        group: usize,
        steps: Range<usize>,
    ) -> Result<&mut [C], QueryFailure> {
        if group == self.rows.len() {
            self.rows.push(GroupCells { start: steps.start, cells: Vec::new() });
            self.charge.grow(size_of::<GroupCells<C>>())?;
        }
        if steps.is_empty() {
            return Ok(&mut []);
        }
        let row = &mut self.rows[group];
        let covered = row.covering(&steps, self.width);
        self.charge.grow((covered.len() - row.cells.len()) * size_of::<C>())?;
        row.cover(covered);
        Ok(&mut row.cells[steps.start - row.start..steps.end - row.start])
    }

    /// Each group with its cells, in the order in which groups came.
    pub(super) fn into_groups(self) -> impl Iterator<Item = (Series, GroupCells<C>)> {
        self.groups.into_series().zip(self.rows)
    }
}

impl<C: Cell> GroupCells<C> {
    /// The steps to make cells for when those for `steps` are needed. What is not the first time makes more than that, so that it does not
    /// happen often.
    fn covering(&self, steps: &Range<usize>, width: usize) -> Range<usize> {
        let (start, len) = (self.start, self.cells.len());
        let end = start + len;
        if len == 0 {
            return steps.clone();
        }
        let before =
            if steps.start < start { steps.start.min(start.saturating_sub(len)) } else { start };
        let after = if steps.end > end { steps.end.max(end + len).min(width) } else { end };
        before..after
    }

    /// Makes cells for `steps`, among which are all that there are cells for.
    fn cover(&mut self, steps: Range<usize>) {
        let before = if self.cells.is_empty() { 0 } else { self.start - steps.start };
        self.start = steps.start;
        if steps.len() == self.cells.len() {
            return;
        }
        self.cells.reserve_exact(steps.len() - self.cells.len());
        self.cells.resize_with(steps.len(), || C::NONE);
        self.cells.rotate_right(before);
    }

    /// The cell at `step`.
    pub(super) fn get(&self, step: usize) -> Option<&C> {
        self.cells.get(step.checked_sub(self.start)?)
    }

    /// All cells, with their steps.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (usize, &mut C)> {
        (self.start..).zip(&mut self.cells)
    }
}

/// The steps from the first sample of a row to the last.
pub(super) fn occupied(values: &[f64]) -> Range<usize> {
    let Some(first) = values.iter().position(|v| is_present(*v)) else { return 0..0 };
    let last = values.iter().rposition(|v| is_present(*v)).unwrap_or(first);
    first..last + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_cover_what_was_asked_for() {
        let mut state = 7_u64;
        let mut below = |bound: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(state >> 40).unwrap() % bound
        };
        for _ in 0..200 {
            let width = 1 + below(50);
            let mut row = GroupCells { start: 0, cells: Vec::new() };
            let mut expected = vec![None; width];
            for number in 0..20 {
                let start = below(width);
                let steps = start..start + 1 + below(width - start);
                let covered = row.covering(&steps, width);
                row.cover(covered);
                let mut seen = 0;
                for (step, cell) in row.iter_mut().filter(|(step, _)| steps.contains(step)) {
                    assert_eq!(*cell, expected[step]);
                    (*cell, expected[step]) = (Some(number), Some(number));
                    seen += 1;
                }
                assert_eq!(seen, steps.len());
                assert!(row.start + row.cells.len() <= width);
            }
            for (step, expected) in expected.iter().enumerate() {
                assert_eq!(row.get(step).copied().flatten(), *expected);
            }
        }
    }

    #[test]
    fn the_occupied_steps_of_a_row() {
        let absent = crate::eval::block::ABSENT;
        assert_eq!(occupied(&[absent, 1.0, absent, 2.0, absent]), 1..4);
        assert_eq!(occupied(&[f64::NAN]), 0..1);
        assert_eq!(occupied(&[absent; 3]), 0..0);
    }
}
