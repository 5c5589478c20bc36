//! Instant vector expressions.

use super::words::LABELS;
use super::{Dialect, Grammar, Phase};

/// Of a vector to a vector, sample by sample.
const MAPS: [&str; 28] = [
    "abs",
    "ceil",
    "floor",
    "exp",
    "ln",
    "log2",
    "log10",
    "sqrt",
    "sgn",
    "round",
    "deg",
    "rad",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "tanh",
    "asinh",
    "acosh",
    "atanh",
    "absent",
    "timestamp",
    "histogram_count",
    "histogram_sum",
];

const DATES: [&str; 8] = [
    "minute",
    "hour",
    "day_of_week",
    "day_of_month",
    "day_of_year",
    "days_in_month",
    "month",
    "year",
];

/// Of a range that any series may have.
const OVER_TIME: [&str; 17] = [
    "count_over_time",
    "last_over_time",
    "max_over_time",
    "min_over_time",
    "sum_over_time",
    "present_over_time",
    "absent_over_time",
    "stddev_over_time",
    "stdvar_over_time",
    "changes",
    "resets",
    "delta",
    "idelta",
    "irate",
    "deriv",
    "rate",
    "increase",
];

/// Of [`OVER_TIME`], those that [`Dialect::Common`] allows for any range: all but the last.
const OVER_TIME_COMMON: usize = OVER_TIME.len() - 2;

const OVER_TIME_EXPERIMENTAL: [&str; 5] = [
    "mad_over_time",
    "ts_of_first_over_time",
    "ts_of_last_over_time",
    "ts_of_max_over_time",
    "ts_of_min_over_time",
];

const ARITHMETIC: [&str; 7] = ["+", "-", "*", "/", "%", "^", "atan2"];
const COMPARISONS: [&str; 6] = ["==", "!=", "<", "<=", ">", ">="];

impl Grammar<'_> {
    pub(super) fn vector(&mut self, depth: usize, phase: Phase) -> String {
        if depth == 0 {
            return self.leaf(phase);
        }
        let down = depth - 1;
        match self.below(20) {
            0 => self.leaf(phase),
            1 | 2 => self.map(down, phase),
            3..7 => self.over_time(down, phase),
            7..10 => self.aggregation(down, phase),
            10 | 11 => self.with_scalar(down, phase),
            12 | 13 => self.join(down, phase),
            14 => self.related(down, phase),
            15 => self.set(down, phase),
            16 => self.relabelled(down, phase),
            17 => self.extremes(down, phase),
            18 => self.classic_quantile(down, phase),
            _ => self.other(down, phase),
        }
    }

    fn leaf(&mut self, phase: Phase) -> String {
        if self.is(1, 12) {
            return format!("vector({})", self.scalar(1, phase));
        }
        let metric = self.metric();
        self.instant(metric, phase)
    }

    /// An instant selector with modifiers.
    pub(super) fn instant(&mut self, metric: &str, phase: Phase) -> String {
        let selector = self.selector(metric);
        let (modifiers, _) = self.modifiers(phase);
        let is_extended = self.dialect == Dialect::All && self.is(1, 16);
        let extension = if is_extended { self.one(&[" smoothed", " anchored"]) } else { "" };
        format!("{selector}{modifiers}{extension}")
    }

    fn map(&mut self, depth: usize, phase: Phase) -> String {
        match self.below(12) {
            0 | 1 => {
                let date = self.one(&DATES);
                match self.below(4) {
                    0 => format!("{date}()"),
                    1 => format!("{date}({})", self.vector(depth, phase)),
                    _ => format!("{date}({})", self.instant("moment", phase)),
                }
            }
            2 => {
                let function = self.one(&["clamp_min", "clamp_max", "round"]);
                format!("{function}({}, {})", self.vector(depth, phase), self.scalar(1, phase))
            }
            3 => {
                let bounds = (self.scalar(1, phase), self.scalar(1, phase));
                format!("clamp({}, {}, {})", self.vector(depth, phase), bounds.0, bounds.1)
            }
            4 if self.dialect == Dialect::All => {
                let function =
                    self.one(&["start_timestamp", "histogram_avg", "histogram_stddev", "info"]);
                format!("{function}({})", self.vector(depth, phase))
            }
            _ => {
                let function = self.one(&MAPS);
                let of = self.vector(depth, phase);
                format!("{function}({of})")
            }
        }
    }

    fn over_time(&mut self, depth: usize, phase: Phase) -> String {
        match self.below(10) {
            0 => {
                let q = self.scalar(1, phase);
                format!("quantile_over_time({q}, {})", self.range_beside(depth, phase))
            }
            1 => {
                let ahead = self.one(&["60", "0", "-600", "3600.5"]);
                format!("predict_linear({}, {ahead})", self.range_beside(depth, phase))
            }
            2 | 3 => {
                let function = self.one(&["rate", "increase"]);
                format!("{function}({})", self.counter_range(phase))
            }
            4 if self.dialect == Dialect::All => {
                let function = self.one(&OVER_TIME_EXPERIMENTAL);
                format!("{function}({})", self.range(depth, phase))
            }
            5 if self.dialect == Dialect::All => {
                let smoothing = self.one(&["0.5, 0.5", "0.1, 0.9", "1, 0", "0, 2"]);
                format!("double_exponential_smoothing({}, {smoothing})", self.range(depth, phase))
            }
            6 if self.dialect == Dialect::All => {
                let extended = self.one(&[
                    "rate anchored",
                    "rate smoothed",
                    "increase anchored",
                    "increase smoothed",
                    "delta smoothed",
                    "delta anchored",
                    "changes anchored",
                    "resets anchored",
                ]);
                let (function, extension) = extended.split_once(' ').unwrap_or_default();
                format!("{function}({} {extension})", self.counter_range(phase))
            }
            7 if self.dialect != Dialect::Common => {
                let function = self.one(&["avg_over_time", "first_over_time"]);
                format!("{function}({})", self.range(depth, phase))
            }
            _ => {
                let common = self.dialect == Dialect::Common;
                let known = if common { &OVER_TIME[..OVER_TIME_COMMON] } else { &OVER_TIME };
                let function = self.one(known);
                format!("{function}({})", self.range(depth, phase))
            }
        }
    }

    pub(super) fn grouping(&mut self) -> String {
        match self.below(3) {
            0 => String::new(),
            1 => format!(" by ({})", self.labels()),
            _ => format!(" without ({})", self.labels()),
        }
    }

    fn aggregation(&mut self, depth: usize, phase: Phase) -> String {
        let grouping = self.grouping();
        match self.below(10) {
            0 => {
                // Over several steps, 2.42 mixes groups up unless this label is the last of all by name.
                let common = self.dialect == Dialect::Common;
                let label = if common { "zz" } else { self.one(&["v", "job", "code"]) };
                format!("count_values{grouping} (\"{label}\", {})", self.vector(depth, phase))
            }
            1 => {
                let q = self.scalar(1, phase);
                format!("quantile{grouping} ({q}, {})", self.vector(depth, phase))
            }
            2 if self.dialect == Dialect::All => {
                let aggregation = self.one(&["limitk", "limit_ratio"]);
                let (parameter, of) = (self.number(), self.vector(depth, phase));
                format!("{aggregation}{grouping} ({parameter}, {of})")
            }
            3..6 if self.dialect == Dialect::Common => {
                format!("sum{grouping} ({})", self.whole(depth, phase))
            }
            3..6 => {
                let aggregation = self.one(&["sum", "avg", "stddev", "stdvar"]);
                format!("{aggregation}{grouping} ({})", self.vector(depth, phase))
            }
            _ => {
                let aggregation = self.one(&["max", "min", "count", "group"]);
                // The grouping may also come last.
                let of = self.vector(depth, phase);
                if self.is(1, 4) {
                    format!("{aggregation}({of}){grouping}")
                } else {
                    format!("{aggregation}{grouping} ({of})")
                }
            }
        }
    }

    /// topk and bottomk.
    pub(super) fn extremes(&mut self, depth: usize, phase: Phase) -> String {
        let aggregation = self.one(&["topk", "bottomk"]);
        let (grouping, k) = (self.grouping(), self.one(&["1", "2", "3", "100", "0", "-1", "2.9"]));
        let of = if self.dialect == Dialect::Common {
            self.distinct(phase)
        } else {
            self.vector(depth, phase)
        };
        format!("{aggregation}{grouping} ({k}, {of})")
    }

    fn operand(&mut self, depth: usize, phase: Phase) -> String {
        let operand = self.vector(depth, phase);
        // Without parentheses, precedence decides.
        if self.is(1, 6) { operand } else { format!("({operand})") }
    }

    fn operator(&mut self) -> String {
        if self.is(1, 2) {
            return String::from(self.one(&ARITHMETIC));
        }
        let bool = if self.is(1, 2) { " bool" } else { "" };
        format!("{}{bool}", self.one(&COMPARISONS))
    }

    /// A vector beside `op`. After atan2, 2.42 keeps the metric's name, so there the operands have none.
    fn beside(&self, op: &str, operand: String) -> String {
        if self.dialect == Dialect::Common && op == "atan2" {
            format!("(({operand}) + 0)")
        } else {
            operand
        }
    }

    fn with_scalar(&mut self, depth: usize, phase: Phase) -> String {
        let (vector, op) = (self.operand(depth, phase), self.operator());
        let vector = self.beside(&op, vector);
        let scalar = self.scalar(depth.min(2), phase);
        if self.is(1, 3) {
            format!("{scalar} {op} {vector}")
        } else {
            format!("{vector} {op} {scalar}")
        }
    }

    fn matching(&mut self) -> String {
        let keyword = self.one(&["on", "ignoring"]);
        format!(" {keyword}({})", self.labels())
    }

    fn fill(&mut self) -> &'static str {
        if self.dialect != Dialect::All {
            return "";
        }
        self.one(&["", "", "", " fill(0)", " fill_left(1)", " fill_right(-1)"])
    }

    /// Two vectors that may not match.
    fn join(&mut self, depth: usize, phase: Phase) -> String {
        let (left, right) = (self.operand(depth, phase), self.operand(depth, phase));
        let op = self.operator();
        let (left, right) = (self.beside(&op, left), self.beside(&op, right));
        let matching = match self.below(4) {
            0 | 1 => String::new(),
            2 => self.matching(),
            _ => {
                let include = if self.is(1, 2) { self.one(&LABELS[..8]) } else { "" };
                let group = self.one(&["group_left", "group_right"]);
                format!("{} {group}({include})", self.matching())
            }
        };
        format!("{left} {op}{matching}{} {right}", self.fill())
    }

    /// Two vectors that match.
    fn related(&mut self, depth: usize, phase: Phase) -> String {
        let op = self.operator();
        match self.below(4) {
            0 => {
                let many = self.one(&["requests_total", "lat_bucket", "temp", "level"]);
                let include = self.one(&["", "version", "version,absent", "job"]);
                let (many, one) = (self.instant(many, phase), self.instant("build_info", phase));
                let (many, one) = (self.beside(&op, many), self.beside(&op, one));
                let on = self.one(&["on(job, instance)", "ignoring(code, le, zone, version)"]);
                if self.is(1, 2) {
                    format!("{many} {op} {on} group_left({include}){} {one}", self.fill())
                } else {
                    format!("{one} {op} {on} group_right({include}){} {many}", self.fill())
                }
            }
            1 => {
                let (a, b) = (self.instant("queue", phase), self.instant("temp", phase));
                let (a, b) = (self.beside(&op, a), self.beside(&op, b));
                format!("{a} {op}{} {b}", self.fill())
            }
            2 => {
                let (a, b) =
                    (self.one(&["max", "min", "count"]), self.one(&["max", "min", "group"]));
                let (x, y) = (self.vector(depth, phase), self.vector(depth, phase));
                let on = self.one(&["", " on(job)", " ignoring(instance)"]);
                format!("{a} by (job) ({x}) {op}{on}{} {b} by (job) ({y})", self.fill())
            }
            _ => {
                let x = self.vector(depth, phase);
                let x = self.beside(&op, format!("({x})"));
                format!("{x} {op} {x}")
            }
        }
    }

    fn set(&mut self, depth: usize, phase: Phase) -> String {
        let (left, right) = (self.operand(depth, phase), self.operand(depth, phase));
        let op = self.one(&["and", "or", "unless"]);
        let matching = if self.is(1, 2) { self.matching() } else { String::new() };
        format!("{left} {op}{matching} {right}")
    }

    fn relabelled(&mut self, depth: usize, phase: Phase) -> String {
        let of = self.vector(depth, phase);
        if self.is(1, 3) {
            let separator = self.one(&["-", "", ", "]);
            let target = self.one(&["joined", "job", "__name__"]);
            let sources = self.one(&[
                "",
                ", \"job\"",
                ", \"job\", \"instance\"",
                ", \"absent\", \"le\", \"job\"",
            ]);
            return format!("label_join({of}, \"{target}\", \"{separator}\"{sources})");
        }
        let target = self.one(&["made", "job", "instance", "__name__", "code"]);
        let replacement = self.one(&["$1", "x-$1", "${1}y$2", "", "const", "$3"]);
        let source = self.one(&["job", "instance", "absent", "__name__", "le"]);
        let regex = self.one(&["(.*)", "(.).*", "a", "", "(a|b)(.?)", "[0-1]", "(?P<x>.+)", "(("]);
        // Version 3 looks at the pattern first, 2.42 when the vector is there; then that must not fail.
        let early = self.dialect == Dialect::Common && regex == "((";
        let of = if early { self.leaf(phase) } else { of };
        format!("label_replace({of}, \"{target}\", \"{replacement}\", \"{source}\", \"{regex}\")")
    }

    fn classic_quantile(&mut self, depth: usize, phase: Phase) -> String {
        let q = if self.is(1, 4) {
            self.scalar(1, phase)
        } else {
            String::from(self.one(&["0.5", "0.9", "0.99", "0", "1"]))
        };
        let buckets = match self.below(5) {
            0 => self.instant("lat_bucket", phase),
            1 => {
                let range = self.range_of("lat_bucket", phase);
                let function = self.one(&["max_over_time", "delta", "idelta", "last_over_time"]);
                format!("{function}({range})")
            }
            2 => {
                let (modifiers, _) = self.modifiers(phase);
                let by = self.one(&["le", "job, le", "le, instance"]);
                format!("sum by ({by}) (lat_bucket{modifiers})")
            }
            3 => self.instant("bad_bucket", phase),
            _ => self.vector(depth, phase),
        };
        format!("histogram_quantile({q}, {buckets})")
    }

    fn other(&mut self, depth: usize, phase: Phase) -> String {
        match self.below(5) {
            0 => format!("-{}", self.operand(depth, phase)),
            1 => format!("+({})", self.vector(depth, phase)),
            2 => {
                let function = self.one(&["sort", "sort_desc"]);
                format!("{function}({})", self.vector(depth, phase))
            }
            3 if self.dialect == Dialect::All => {
                let function = self.one(&["sort_by_label", "sort_by_label_desc"]);
                format!("{function}({}, \"{}\")", self.vector(depth, phase), self.one(&LABELS))
            }
            4 if self.dialect == Dialect::All => {
                format!(
                    "histogram_quantiles({}, \"q\", 0.5, 0.9)",
                    self.instant("lat_bucket", phase)
                )
            }
            _ => format!("({})", self.vector(depth, phase)),
        }
    }
}
