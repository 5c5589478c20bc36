//! Vectors of which more is known than that they are vectors: for what the versions of Prometheus add, order or extrapolate differently.

use super::words::{FINITE, WHOLE};
use super::{Grammar, Phase};

impl Grammar<'_> {
    /// Whole numbers far below 2^53: their sums are exact, with and without compensation and in any order.
    pub(super) fn whole(&mut self, depth: usize, phase: Phase) -> String {
        if depth == 0 {
            let metric = self.one(&WHOLE);
            return self.whole_instant(metric, phase);
        }
        let down = depth - 1;
        match self.below(9) {
            0 => format!("count{} ({})", self.grouping(), self.vector(down, phase)),
            1 => format!("group{} ({})", self.grouping(), self.vector(down, phase)),
            2 => {
                let function =
                    self.one(&["count_over_time", "changes", "resets", "present_over_time"]);
                format!("{function}({})", self.range(down, phase))
            }
            3 => {
                let function = self.one(&["max_over_time", "min_over_time", "last_over_time"]);
                let metric = self.one(&WHOLE);
                let range = self.one(&["[1m]", "[10m]", "[25m]"]);
                format!("{function}({metric}{range})")
            }
            4 => format!("sum{} ({})", self.grouping(), self.whole(down, phase)),
            5 => {
                let op = self.one(&["==", "!=", "<", ">="]);
                format!("(({}) {op} bool {})", self.vector(down, phase), self.number())
            }
            6 => {
                let op = self.one(&["+", "-"]);
                let (a, b) = (self.whole(down, phase), self.whole(down, phase));
                format!("(({a}) {op} ({b}))")
            }
            7 => format!("sgn(level - {})", self.one(&["1", "10", "50"])),
            _ => {
                let metric = self.one(&WHOLE);
                self.whole_instant(metric, phase)
            }
        }
    }

    /// Without a pattern for the name, which may name other metrics.
    fn whole_instant(&mut self, metric: &str, phase: Phase) -> String {
        let matcher = self.one(&["", "", "{job=\"a\"}", "{instance!=\"0\"}", "{job=~\"b|\"}"]);
        let (modifiers, _) = self.modifiers(phase);
        format!("{metric}{matcher}{modifiers}")
    }

    /// No value twice at any time, and no NaN: the order of heaps with ties differs.
    pub(super) fn distinct(&mut self, phase: Phase) -> String {
        let matcher = self.one(&["", "", "{job=\"a\"}", "{instance!=\"0\"}", "{zone=\"x\"}"]);
        let (modifiers, _) = self.modifiers(phase);
        let level = format!("level{matcher}{modifiers}");
        match self.below(6) {
            0 => format!("-({level})"),
            1 => format!("{level} * 3"),
            2 => format!("last_over_time(level{matcher}[3m]{modifiers})"),
            3 => format!("({level} or ignoring(zone) moment)"),
            _ => level,
        }
    }

    /// Operations that compute the same in another order, on numbers that do not cancel each other out; nothing around them jumps.
    pub(super) fn inexact(&mut self) -> String {
        let phase = Phase::Half;
        let grouping = self.grouping();
        let metric = self.one(&FINITE);
        let inner = match self.below(8) {
            0 | 1 => {
                let aggregation = self.one(&["sum", "avg", "stddev", "stdvar"]);
                let (modifiers, _) = self.modifiers(phase);
                format!("{aggregation}{grouping} ({metric}{modifiers})")
            }
            2 => {
                let aggregation = self.one(&["sum", "avg", "stddev", "stdvar"]);
                let function = self.one(&["rate", "increase"]);
                format!("{aggregation}{grouping} ({function}({}))", self.counter_range(phase))
            }
            3 => {
                let (range, (modifiers, _)) =
                    (self.one(&["5m", "10m", "1h"]), self.modifiers(phase));
                format!("avg_over_time({metric}[{range}]{modifiers})")
            }
            4 => {
                let aggregation = self.one(&["sum", "avg"]);
                let of = format!("{aggregation} by (job) ({metric})");
                let subquery = self.subquery(phase, |_| of).unwrap_or_default();
                let function = self.one(&["max_over_time", "avg_over_time", "last_over_time"]);
                format!("{function}({subquery})")
            }
            5 => {
                let q = self.one(&["0.5", "0.9", "0.25"]);
                let by = self.one(&["le", "le, job", "le, instance"]);
                let range = self.one(&["5m", "20m", "1h"]);
                format!("histogram_quantile({q}, sum by ({by}) (rate(lat_bucket[{range}])))")
            }
            6 => {
                let subquery = self.subquery(phase, |grammar| {
                    let range = grammar.one(&["2m", "5m"]);
                    format!("rate(requests_total[{range}])")
                });
                format!("avg_over_time({})", subquery.unwrap_or_default())
            }
            _ => {
                let grouping = self.one(&["job", "job, instance"]);
                format!(
                    "sum by ({grouping}) (rate(lat_sum[10m])) / sum by ({grouping}) (rate(lat_count[10m]))"
                )
            }
        };
        match self.below(8) {
            0 => format!("-({inner})"),
            1 => format!("({inner}) * 3"),
            2 => format!("abs({inner})"),
            3 => format!("max by (job) ({inner})"),
            4 => format!("({inner}) + on(job) group_left() (max by (job) (level) * 0)"),
            _ => inner,
        }
    }
}
