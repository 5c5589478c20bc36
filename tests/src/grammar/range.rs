//! Range vectors: of selectors and of subqueries.

use super::words::COUNTERS;
use super::{Dialect, EVALUATIONS_MAX, Grammar, Phase};

const RANGES: [&str; 9] = ["1m", "5m", "2m30s", "20s", "10m", "30m", "1h", "45s", "2h"];

impl Grammar<'_> {
    pub(super) fn range(&mut self, depth: usize, phase: Phase) -> String {
        if depth > 0 && self.is(1, 4) {
            let subquery = self.subquery(phase, |grammar| grammar.vector(depth - 1, Phase::Whole));
            if let Some(subquery) = subquery {
                return subquery;
            }
        }
        let metric = self.metric();
        self.range_of(metric, phase)
    }

    /// Beside another argument that may change from step to step: with `@`, 2.42 moves the range with the steps.
    pub(super) fn range_beside(&mut self, depth: usize, phase: Phase) -> String {
        self.at_allowed = self.dialect != Dialect::Common;
        let range = self.range(depth, phase);
        self.at_allowed = true;
        range
    }

    /// A range selector of counters.
    pub(super) fn counter_range(&mut self, phase: Phase) -> String {
        let metric = self.one(&COUNTERS);
        // By name: a pattern could name other metrics.
        let range = self.duration(&RANGES);
        let (modifiers, _) = self.modifiers(phase);
        let matcher = self.one(&["", "", "{job=\"a\"}", "{instance!=\"0\"}", "{code!=\"200\"}"]);
        format!("{metric}{matcher}[{range}]{modifiers}")
    }

    pub(super) fn range_of(&mut self, metric: &str, phase: Phase) -> String {
        let selector = self.selector(metric);
        let range = self.duration(&RANGES);
        let (modifiers, _) = self.modifiers(phase);
        format!("{selector}[{range}]{modifiers}")
    }

    /// A subquery of what `inner` draws, unless that would be evaluated too often.
    ///
    /// Its range begins on half a second, and its steps are on whole ones: 2.42 counts a step on the left edge, 3 does not.
    pub(super) fn subquery(
        &mut self,
        phase: Phase,
        inner: impl FnOnce(&mut Self) -> String,
    ) -> Option<String> {
        let (range, step, evaluations) = [
            ("5m", "1m", 5),
            ("5m", "", 5),
            ("10m", "30s", 20),
            ("1h", "5m", 12),
            ("2m", "7s", 17),
            ("30m", "3m", 10),
            ("1m", "15s", 4),
            ("30m", "20m", 2),
        ][self.below(8)];
        if self.evaluations * evaluations > EVALUATIONS_MAX {
            return None;
        }
        let (modifiers, phase) = self.modifiers(phase);
        let half = match (self.dialect, phase) {
            (Dialect::Common, Phase::Whole) => "500ms",
            _ => "",
        };
        self.at_allowed = true;
        self.evaluations *= evaluations;
        let inner = inner(self);
        self.evaluations /= evaluations;
        let inner = if self.is(1, 2) || inner.contains(' ') { format!("({inner})") } else { inner };
        Some(format!("{inner}[{range}{half}:{step}]{modifiers}"))
    }
}
