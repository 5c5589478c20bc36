//! `sort`, `sort_desc` and their `_by_label` relatives.

use std::cmp::Ordering;

use model::Labels;

use super::annotations::Annotation;
use super::block::{Block, Sink};
use super::evaluator::Evaluator;
use super::failure::QueryFailure;
use super::plan::{Sorting, VectorPlan};
use super::quantile::nan_last;
use super::row::any_present;
use super::steps::Steps;
use crate::ast::Span;

/// Hands the series of `input` to `sink` in order. The result of a range query is ordered by labels whatever is asked for.
///
/// # Errors
/// [`QueryFailure`]
pub(super) fn stream(
    evaluator: &Evaluator<'_>,
    input: &VectorPlan<'_>,
    sorting: &Sorting<'_>,
    span: Span,
    steps: Steps,
    sink: &mut Sink<'_>,
) -> Result<(), QueryFailure> {
    if steps.count > 1 {
        evaluator.annotate(&Annotation::SortInRangeQuery, span);
        return evaluator.stream(input, steps, &mut |series, mut row| {
            if sorting.labels.is_none() {
                row.remove_histograms();
            }
            if any_present(row.values) { sink(series, row) } else { Ok(()) }
        });
    }
    let mut block = evaluator.collect(input, steps)?;
    // Histograms have no place among values.
    let has_place = |row: &usize| sorting.labels.is_some() || block.row(*row).histograms.is_empty();
    let mut order: Vec<usize> = (0..block.len()).filter(has_place).collect();
    order.sort_by(|&a, &b| compare(&block, sorting, a, b));
    block.reorder(&order);
    block.stream(sink)
}

fn compare(block: &Block, sorting: &Sorting<'_>, a: usize, b: usize) -> Ordering {
    let Some(names) = &sorting.labels else {
        let (a, b) = (block.row(a).values[0], block.row(b).values[0]);
        return by_value(a, b, sorting.descending);
    };
    let order = by_labels(&block.series(a).labels, &block.series(b).labels, names);
    if sorting.descending { order.reverse() } else { order }
}

/// NaN comes last in either direction.
fn by_value(a: f64, b: f64, descending: bool) -> Ordering {
    if descending && !a.is_nan() && !b.is_nan() { nan_last(&b, &a) } else { nan_last(&a, &b) }
}

/// By the values of `names` in turn, then by all labels.
fn by_labels(a: &Labels, b: &Labels, names: &[&str]) -> Ordering {
    for name in names {
        let value_a = a.get(name).unwrap_or_default();
        let value_b = b.get(name).unwrap_or_default();
        let order = natural(value_a, value_b);
        if order.is_ne() {
            return order;
        }
    }
    a.cmp(b)
}

/// Compares runs of digits by number and everything else by bytes: `node2` comes before `node10`.
///
/// Runs may be of any length; an order in which long ones were text would not be transitive.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut rest_a, mut rest_b) = (a, b);
    loop {
        match (rest_a.is_empty(), rest_b.is_empty()) {
            (true, true) => return Ordering::Equal,
            (true, false) => return Ordering::Less,
            (false, true) => return Ordering::Greater,
            (false, false) => {}
        }
        let (run_a, after_a) = split_run(rest_a);
        let (run_b, after_b) = split_run(rest_b);
        let order = match (number(run_a), number(run_b)) {
            (Some(a), Some(b)) => a.len().cmp(&b.len()).then_with(|| a.cmp(b)),
            _ => run_a.cmp(run_b),
        };
        if order.is_ne() {
            return order;
        }
        (rest_a, rest_b) = (after_a, after_b);
    }
}

/// The digits of a run without leading zeros; `None` if it is not of digits.
fn number(run: &str) -> Option<&str> {
    run.starts_with(|c: char| c.is_ascii_digit()).then(|| run.trim_start_matches('0'))
}

/// Splits off the first run of digits, or of anything else.
fn split_run(text: &str) -> (&str, &str) {
    let digits = text.starts_with(|c: char| c.is_ascii_digit());
    let end = text.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_within_text_count_as_numbers() {
        for (a, b, expected) in [
            ("node2", "node10", Ordering::Less),
            ("node10", "node10", Ordering::Equal),
            ("10", "9", Ordering::Greater),
            ("a", "b", Ordering::Less),
            ("a1b2", "a1b10", Ordering::Less),
            ("a", "a1", Ordering::Less),
            ("", "a", Ordering::Less),
            ("1a", "a", Ordering::Less),
            ("9", "99999999999999999999", Ordering::Less),
            ("99999999999999999999", "100000000000000000000", Ordering::Less),
            ("007", "8", Ordering::Less),
            ("01", "1", Ordering::Equal),
        ] {
            assert_eq!(natural(a, b), expected, "{a:?} and {b:?}");
            assert_eq!(natural(b, a), expected.reverse(), "{b:?} and {a:?}");
        }
    }

    #[test]
    fn nan_comes_last() {
        let mut values = [f64::NAN, 1.0, f64::INFINITY, -1.0];
        values.sort_by(|a, b| by_value(*a, *b, false));
        assert_eq!(values[..3], [-1.0, 1.0, f64::INFINITY]);
        values.sort_by(|a, b| by_value(*a, *b, true));
        assert_eq!(values[..3], [f64::INFINITY, 1.0, -1.0]);
    }
}
