//! `sort`, `sort_desc` and their `_by_label` relatives.

use model::Labels;

use super::annotations::Annotation;
use super::block::{Block, Sink};
use super::evaluator::Evaluator;
use super::failure::QueryFailure;
use super::go_sort;
use super::plan::{Sorting, VectorPlan};
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
    if steps.is_range {
        evaluator.annotate(&Annotation::SortInRangeQuery, span);
    }
    if steps.count > 1 {
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
    go_sort::sort_by(&mut order, |&a, &b| is_before(&block, sorting, a, b));
    block.reorder(&order);
    block.stream(sink)
}

fn is_before(block: &Block, sorting: &Sorting<'_>, a: usize, b: usize) -> bool {
    let Some(names) = &sorting.labels else {
        let (a, b) = (block.row(a).values[0], block.row(b).values[0]);
        return by_value(a, b, sorting.descending);
    };
    by_labels(&block.series(a).labels, &block.series(b).labels, names, sorting.descending)
}

/// NaN comes last in either direction, and after itself.
fn by_value(a: f64, b: f64, descending: bool) -> bool {
    b.is_nan() || if descending { b < a } else { b > a }
}

/// By the first of `names` of which the values differ, else by all labels.
fn by_labels(a: &Labels, b: &Labels, names: &[&str], descending: bool) -> bool {
    for name in names {
        let value_a = a.get(name).unwrap_or_default();
        let value_b = b.get(name).unwrap_or_default();
        if value_a != value_b {
            return natural(value_a, value_b) != descending;
        }
    }
    if descending { b < a } else { a < b }
}

/// Whether `a` comes before `b` where runs of digits are numbers and everything else is bytes: `node2` comes before `node10`.
///
/// As in Prometheus this is not quite an order. Of texts that are equal so far the one that ends comes first, even if both do: `1` and `01`
/// are before each other. Nothing is before an empty text, nor is that before anything. And runs too long for an integer are text.
fn natural(a: &str, b: &str) -> bool {
    let (mut rest_a, mut rest_b) = (a, b);
    while !rest_a.is_empty() && !rest_b.is_empty() {
        let (run_a, after_a) = split_run(rest_a);
        let (run_b, after_b) = split_run(rest_b);
        match (run_a.parse::<i64>(), run_b.parse::<i64>()) {
            (Ok(a), Ok(b)) if a != b => return a < b,
            (Ok(_), Ok(_)) => {}
            _ if run_a != run_b => return run_a < run_b,
            _ => {}
        }
        if after_a.is_empty() {
            return true;
        }
        (rest_a, rest_b) = (after_a, after_b);
    }
    false
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
        for (a, b, forth, back) in [
            ("node2", "node10", true, false),
            ("10", "9", false, true),
            ("a", "b", true, false),
            ("a1b2", "a1b10", true, false),
            ("a", "a1", true, false),
            ("", "a", false, false),
            ("1a", "a", true, false),
            ("9", "99999999999999999999", true, false),
            ("99999999999999999999", "100000000000000000000", false, true),
            ("007", "8", true, false),
            ("01", "1", true, true),
        ] {
            assert_eq!((natural(a, b), natural(b, a)), (forth, back), "{a:?} and {b:?}");
        }
    }

    /// The sequences are what Prometheus answers.
    #[test]
    fn labels_are_sorted_as_in_prometheus() {
        let words = [
            "",
            "01",
            "1",
            "a",
            "a1",
            "a01",
            "a10",
            "x",
            "007",
            "7",
            "a1b",
            "a1c",
            "99999999999999999999",
            "100000000000000000000",
            "a2b10",
            "a2b9",
        ];
        let labels: Vec<Labels> = (0..)
            .zip(words)
            .map(|(i, word)| {
                Labels::from_pairs([("i", format!("{i:02}").as_str()), ("l", word)]).unwrap()
            })
            .collect();
        let sorted = |count: usize, descending| {
            let mut order: Vec<usize> = (0..count).collect();
            go_sort::sort_by(&mut order, |a, b| {
                by_labels(&labels[*a], &labels[*b], &["l"], descending)
            });
            order
        };
        assert_eq!(sorted(16, false), [2, 1, 8, 13, 9, 12, 4, 5, 10, 11, 6, 7, 0, 3, 15, 14]);
        assert_eq!(sorted(16, true), [0, 7, 6, 14, 15, 11, 10, 4, 5, 3, 12, 9, 13, 8, 2, 1]);
        assert_eq!(sorted(10, false), [0, 2, 1, 9, 8, 3, 5, 4, 6, 7]);
        assert_eq!(sorted(10, true), [7, 6, 4, 5, 3, 8, 9, 1, 2, 0]);
    }

    #[test]
    fn nan_comes_last_and_of_several_the_last_first() {
        let values = [f64::NAN, 1.0, f64::NAN, f64::INFINITY, -1.0];
        let sorted = |descending| {
            let mut order = [0, 1, 2, 3, 4];
            go_sort::sort_by(&mut order, |a, b| by_value(values[*a], values[*b], descending));
            order
        };
        assert_eq!(sorted(false), [4, 1, 3, 2, 0]);
        assert_eq!(sorted(true), [3, 1, 4, 2, 0]);
    }
}
