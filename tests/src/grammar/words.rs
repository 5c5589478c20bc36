//! The words of the grammar: metrics and labels of the data, durations, numbers.

use super::{Dialect, Grammar, Phase};

/// Metrics, with the names of labels that their series have.
pub(super) const METRICS: [(&str, &[&str]); 11] = [
    ("requests_total", &["job", "instance", "code"]),
    ("queue", &["job", "instance"]),
    ("level", &["job", "instance", "zone"]),
    ("temp", &["job", "instance"]),
    ("lat_bucket", &["job", "instance", "le"]),
    ("lat_count", &["job", "instance"]),
    ("lat_sum", &["job", "instance"]),
    ("build_info", &["job", "instance", "version"]),
    ("sparse", &["job"]),
    ("moment", &["job"]),
    ("odd", &["job", "text"]),
];

/// Metrics whose values are whole numbers, small enough that sums of them are exact in any order.
pub(super) const WHOLE: [&str; 5] =
    ["requests_total", "queue", "lat_bucket", "lat_count", "build_info"];

/// Metrics that rise, and whose gaps every version extrapolates alike.
pub(super) const COUNTERS: [&str; 3] = ["requests_total", "lat_bucket", "lat_count"];

/// Metrics that are always finite.
pub(super) const FINITE: [&str; 5] = ["requests_total", "queue", "level", "lat_sum", "sparse"];

/// Names that group, join or are replaced; one that no series has.
pub(super) const LABELS: [&str; 9] =
    ["job", "instance", "code", "le", "zone", "version", "text", "absent", "__name__"];

impl Grammar<'_> {
    pub(super) fn below(&mut self, count: usize) -> usize {
        self.choices.below(count)
    }

    /// Whether something happens that does `times` in `of`.
    pub(super) fn is(&mut self, times: usize, of: usize) -> bool {
        self.below(of) >= of - times
    }

    pub(super) fn one<'t>(&mut self, of: &[&'t str]) -> &'t str {
        of[self.below(of.len())]
    }

    pub(super) fn metric(&mut self) -> &'static str {
        let count = METRICS.len() + usize::from(self.dialect != Dialect::Common);
        METRICS.get(self.below(count)).map_or("native", |metric| metric.0)
    }

    /// An instant selector of `metric` without modifiers.
    pub(super) fn selector(&mut self, metric: &str) -> String {
        if self.is(1, 14) {
            // By a pattern for the name, perhaps of several metrics.
            let name = self.one(&["queue|level", "lat_.+", "req.*", ".*e.*", "(queue|temp)", "x"]);
            let job = self.matcher("job", &["a", "b", "odd", ""]);
            return format!("{{__name__=~\"{name}\",{job}}}");
        }
        let labels = METRICS.iter().find(|(name, _)| *name == metric).map_or(&["job"][..], |m| m.1);
        let mut matchers = Vec::new();
        for label in labels {
            if self.is(1, 4) {
                let values: &[&str] = match *label {
                    "job" => &["a", "b", "odd", "c", ""],
                    "instance" => &["0", "1", "2", "9", ""],
                    "code" => &["200", "500", ""],
                    "le" => &["0.1", "0.5", "1", "2.5", "+Inf"],
                    "zone" => &["x", "y"],
                    "version" => &["1.0", "1.1"],
                    _ => &["a\\\"é", "a.b*c", " ", ""],
                };
                matchers.push(self.matcher(label, values));
            }
        }
        if self.is(1, 20) {
            matchers.push(self.matcher("absent", &["", "x"]));
        }
        match matchers.as_slice() {
            [] => String::from(metric),
            _ if self.is(1, 12) => format!("{{__name__=\"{metric}\",{}}}", matchers.join(",")),
            _ => format!("{metric}{{{}}}", matchers.join(",")),
        }
    }

    fn matcher(&mut self, label: &str, values: &[&str]) -> String {
        let value = self.one(values);
        let other = self.one(values);
        let quoted =
            |text: &str| format!("\"{}\"", text.replace('*', "\\\\*").replace('+', "\\\\+"));
        let literal = format!("\"{value}\"");
        let pattern = match self.below(6) {
            0 => quoted(value),
            1 => format!(
                "\"{}|{}\"",
                quoted(value).trim_matches('"'),
                quoted(other).trim_matches('"')
            ),
            2 => String::from("\".+\""),
            3 => String::from("\".*\""),
            4 => String::from("\"[^a0]\""),
            _ => String::from("\"(?i:A|X|.0.)\""),
        };
        match self.below(4) {
            0 => format!("{label}={literal}"),
            1 => format!("{label}!={literal}"),
            2 => format!("{label}=~{pattern}"),
            _ => format!("{label}!~{pattern}"),
        }
    }

    /// Some labels, none perhaps.
    pub(super) fn labels(&mut self) -> String {
        let count = [1, 2, 0, 3][self.below(4)];
        let labels: Vec<_> = (0..count).map(|_| self.one(&LABELS)).collect();
        labels.join(",")
    }

    /// A duration in whole seconds.
    pub(super) fn duration(&mut self, of: &[&'static str]) -> String {
        let written = self.one(of);
        if self.dialect == Dialect::All && self.is(1, 8) {
            let expression = self.one(&["* 2", "+ 30s", "/ 2", "+ step()", "- 1s", "% 40s", "^ 1"]);
            return format!("({written} {expression})");
        }
        String::from(written)
    }

    /// `@ …` and `offset …`, mostly neither; says in which phase what they stand behind is evaluated.
    pub(super) fn modifiers(&mut self, phase: Phase) -> (String, Phase) {
        let (mut at, mut phase) = (String::new(), phase);
        if self.at_allowed && self.is(1, 10) {
            at = match self.below(3) {
                0 => String::from(" @ start()"),
                1 => String::from(" @ end()"),
                _ => format!(" @ {}", self.half_second()),
            };
            phase = Phase::Half;
        }
        let offset = if self.is(1, 6) {
            let offsets = ["15s", "1m", "5m", "7m30s", "1h", "1s", "-30s", "-20m"];
            format!(" offset {}", self.duration(&offsets))
        } else {
            String::new()
        };
        let both = if self.is(1, 2) { format!("{at}{offset}") } else { format!("{offset}{at}") };
        (both, phase)
    }

    /// A time of the data in seconds, on half a second.
    pub(super) fn half_second(&mut self) -> String {
        let second =
            super::data::START / 1_000 + 60 * i64::try_from(self.below(230)).expect("small");
        format!("{second}.5")
    }

    pub(super) fn number(&mut self) -> String {
        let numbers = [
            "1", "0", "2", "-1", "0.5", "10", "3.7", "-0.25", "1e3", "0x1F", "1e-3", "NaN", "Inf",
            "-Inf", "100000", ".3", "-7.5",
        ];
        String::from(self.one(&numbers))
    }
}
