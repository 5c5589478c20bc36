//! Finds parts of a query that read the same and mean the same, so that each is evaluated but once.
//!
//! The query is planned twice then: once to count what occurs, and once more to mark what occurs several times. What is inside of a part that
//! occurred before is not looked at, since it is not evaluated.

use std::collections::HashMap;

use model::{TimeRange, Timestamp};

use super::planner::HistogramUse;
use crate::ast::Expr;

/// Longer queries are not looked at: comparing parts takes time that grows faster than they do.
const QUERY_BYTES_MAX: usize = 16 << 10;
/// Nor are those with more selectors.
const SELECTORS_MAX: usize = 200;

/// What a part means: its text, the times that it is evaluated at, what is done with histograms.
type Meaning = (String, (Timestamp, Timestamp), HistogramUse);

/// A part and how often it occurs.
#[derive(Clone, Copy, Debug)]
struct Part {
    number: usize,
    occurrences: usize,
    /// Those that were marked.
    marked: usize,
}

/// What is known about the parts of a query.
#[derive(Debug, Default)]
pub(super) struct Sharing {
    /// Where the selectors start that select the same as another, ascending. Without any, nothing is shared.
    repeated: Vec<usize>,
    parts: HashMap<Meaning, Part>,
    /// All parts are known, so they are marked.
    marks: bool,
    /// What is planned is inside of a part that occurred before.
    pub(super) again: bool,
}

/// What to do with a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Occurrence {
    /// Number of the part and of its occurrences, if it is to be marked.
    pub(super) shared: Option<(usize, usize)>,
    /// It occurred before.
    pub(super) again: bool,
}

impl Sharing {
    /// Looks for selectors that are written more than once; without them there is nothing to share.
    pub(super) fn new(expr: &Expr) -> Self {
        let span = expr.span();
        if span.end - span.start > QUERY_BYTES_MAX {
            return Self::default();
        }
        let selectors: Vec<_> = expr.selectors().take(SELECTORS_MAX + 1).collect();
        if selectors.len() > SELECTORS_MAX {
            return Self::default();
        }
        let is_repeated = |at: &usize| {
            let others = selectors[..*at].iter().chain(&selectors[at + 1..]);
            others.into_iter().any(|other| other.matchers == selectors[*at].matchers)
        };
        let repeated = (0..selectors.len()).filter(is_repeated);
        let mut repeated: Vec<usize> = repeated.map(|at| selectors[at].span.start).collect();
        repeated.sort_unstable();
        Self { repeated, ..Self::default() }
    }

    /// Whether there is anything to count.
    pub(super) const fn is_possible(&self) -> bool {
        !self.repeated.is_empty()
    }

    /// The same, now that all parts have been counted; `None` if there is nothing to share.
    pub(super) fn counted(mut self) -> Option<Self> {
        self.parts.retain(|_, part| part.occurrences > 1);
        self.marks = true;
        (!self.parts.is_empty()).then_some(self)
    }

    /// Takes note of a part that is about to be planned.
    pub(super) fn occurs(
        &mut self,
        expr: &Expr,
        times: TimeRange,
        histogram_use: HistogramUse,
    ) -> Option<Occurrence> {
        let span = expr.span();
        let from = self.repeated.partition_point(|start| *start < span.start);
        if self.again || self.repeated.get(from).is_none_or(|start| *start >= span.end) {
            return None;
        }
        let meaning = (in_full(expr), (times.min, times.max), histogram_use);
        if self.marks {
            let part = self.parts.get_mut(&meaning)?;
            part.marked += 1;
            let shared = Some((part.number, part.occurrences));
            return Some(Occurrence { shared, again: part.marked > 1 });
        }
        let number = self.parts.len();
        let part = self.parts.entry(meaning).or_insert(Part { number, occurrences: 0, marked: 0 });
        part.occurrences += 1;
        Some(Occurrence { shared: None, again: part.occurrences > 1 })
    }
}

/// The expression in canonical form, and its matchers as they were written: `absent` takes its labels from them in that order.
fn in_full(expr: &Expr) -> String {
    let mut text = expr.to_string();
    for expr in expr.descendants() {
        let selector = match expr {
            Expr::Vector(selector) => selector,
            Expr::Matrix(matrix) => &matrix.vector,
            _ => continue,
        };
        for matcher in &selector.matchers {
            text.push_str(matcher.name());
            text.push_str(matcher.op().as_str());
            text.push_str(matcher.value());
            text.push('\n');
        }
    }
    text
}

/// Where the expressions in `expr` start, itself included: in the same order for all that read the same.
pub(super) fn starts(expr: &Expr) -> Vec<usize> {
    let mut starts = Vec::new();
    for expr in expr.descendants() {
        starts.push(expr.span().start);
        if let Expr::Matrix(selector) = expr {
            starts.push(selector.vector.span.start);
        }
    }
    starts
}
