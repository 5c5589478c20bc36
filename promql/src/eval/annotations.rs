//! Warnings and informational remarks that come with an answer, with Prometheus's texts.
//!
//! Remarks of equal text are one remark; of several positions the one that is evaluated last counts, except for those
//! that say how often they were made: there it is the first. The position is appended
//! only when the answer is complete.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::Write;

use model::{FloatFormat, Timestamp, format_float};

use super::dates::write_rfc3339;
use super::order::Order;
use crate::ast::{Expr, Span};
use crate::quote::quoted;

const MONOTONICITY_HELP: &str =
    "https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile";

/// Whether a remark is about something wrong or something odd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Severity {
    Warning,
    Info,
}

/// A remark.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Annotation<'a> {
    /// A quantile outside [0, 1].
    InvalidQuantile(f64),
    /// A ratio outside [-1, 1]: the ratio and what is used instead.
    InvalidRatio(f64, f64),
    /// A classic bucket whose `le` is not a number: metric name (perhaps empty) and label value.
    BadBucketLabel { metric: &'a str, label: &'a str },
    /// Sorting the result of a range query.
    SortInRangeQuery,
    /// `rate` of a metric whose name is not that of a counter.
    PossibleNonCounter(&'a str),
    /// `rate` of a metric whose type, where types are labels, is not that of a counter: its name and type.
    PossibleNonCounterType { metric: &'a str, of: &'a str },
    /// An operation on kinds of samples for which it has no meaning.
    IncompatibleTypes { left: Kind, operator: &'a str, right: Kind },
    /// An operation on histograms with exponential and with custom buckets.
    IncompatibleLayout { operator: &'a str },
    /// Floats and histograms in one range. As below, the text is the metric's name.
    MixedSamples(&'a str),
    /// Floats and histograms in one group of an aggregation.
    MixedInAggregation,
    /// A classic and a native histogram of the same name and labels.
    MixedClassicNative(&'a str),
    /// Exponential and custom buckets in one range or group.
    MixedSchemas(&'a str),
    /// A gauge histogram where a counter is expected.
    HistogramNotCounter(&'a str),
    /// A counter histogram where a gauge is expected.
    HistogramNotGauge(&'a str),
    /// Histograms of which one follows a counter reset and another does not were combined.
    ResetCollision(Operation),
    /// Custom bounds that differ were reconciled.
    BoundsReconciled(Operation),
    /// An aggregation that has no meaning for histograms: its name.
    IgnoredInAggregation(&'a str),
    /// A function over a range that has no meaning for histograms.
    IgnoredInRange(&'a str),
    /// A quantile that lies among observations that are not numbers.
    QuantileNan(&'a str),
    /// A quantile that observations that are not numbers made higher.
    QuantileSkewed(&'a str),
    /// A fraction of a histogram with observations that are not numbers.
    FractionNan(&'a str),
    /// A sample started to count before the one before was taken.
    StartTimeOverlap(&'a str),
    /// Bucket counts that decrease with the bound.
    ForcedMonotonicity { metric: &'a str, fixes: MonotonicityFixes },
}

/// A kind of sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Float,
    Histogram,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Float => "float",
            Self::Histogram => "histogram",
        }
    }
}

/// What histograms were combined for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Addition,
    Subtraction,
    Aggregation,
}

impl Operation {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Addition => "addition",
            Self::Subtraction => "subtraction",
            Self::Aggregation => "aggregation",
        }
    }
}

/// What had to be fixed to make bucket counts monotonic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct MonotonicityFixes {
    /// First and last time of a fix.
    pub(super) times: (Timestamp, Timestamp),
    /// Smallest and largest bound of a bucket that was fixed.
    pub(super) buckets: (f64, f64),
    /// Largest decrease.
    pub(super) max_diff: f64,
    /// Number of histograms that were fixed.
    pub(super) count: u64,
}

impl MonotonicityFixes {
    fn merge(&mut self, other: Self) {
        self.times = (self.times.0.min(other.times.0), self.times.1.max(other.times.1));
        self.buckets = (self.buckets.0.min(other.buckets.0), self.buckets.1.max(other.buckets.1));
        self.max_diff = self.max_diff.max(other.max_diff);
        self.count += other.count;
    }
}

impl Annotation<'_> {
    fn severity(&self) -> Severity {
        match self {
            Self::InvalidQuantile(_)
            | Self::InvalidRatio(..)
            | Self::BadBucketLabel { .. }
            | Self::IncompatibleLayout { .. }
            | Self::MixedSamples(_)
            | Self::MixedInAggregation
            | Self::MixedClassicNative(_)
            | Self::MixedSchemas(_)
            | Self::HistogramNotCounter(_)
            | Self::HistogramNotGauge(_)
            | Self::ResetCollision(_)
            | Self::StartTimeOverlap(_)
            | Self::SortInRangeQuery => Severity::Warning,
            Self::PossibleNonCounter(_)
            | Self::PossibleNonCounterType { .. }
            | Self::IncompatibleTypes { .. }
            | Self::BoundsReconciled(_)
            | Self::IgnoredInAggregation(_)
            | Self::IgnoredInRange(_)
            | Self::QuantileNan(_)
            | Self::QuantileSkewed(_)
            | Self::FractionNan(_)
            | Self::ForcedMonotonicity { .. } => Severity::Info,
        }
    }

    /// The text without position and without what is merged.
    fn text(&self) -> String {
        let prefix = match self.severity() {
            Severity::Warning => "PromQL warning",
            Severity::Info => "PromQL info",
        };
        format!("{prefix}: {}", self.message())
    }

    fn message(&self) -> String {
        match self {
            Self::InvalidQuantile(q) => {
                format!("quantile value should be between 0 and 1, got {}", short(*q))
            }
            Self::InvalidRatio(ratio, to) => format!(
                "ratio value should be between -1 and 1, got {}, capping to {}",
                short(*ratio),
                short(*to),
            ),
            Self::BadBucketLabel { metric, label } => format!(
                "bucket label \"le\" is missing or has a malformed value of {}{}",
                quoted(label),
                for_metric(metric),
            ),
            Self::SortInRangeQuery => String::from(
                "sort is ineffective for range queries since results are always \
                 ordered by labels",
            ),
            Self::PossibleNonCounter(metric) => format!(
                "metric might not be a counter, name does not end in \
                 _total/_sum/_count/_bucket: {}",
                quoted(metric),
            ),
            Self::PossibleNonCounterType { metric, of } => format!(
                "metric might not be a counter, __type__ label is not set to \"counter\" or \
                 \"histogram\", got {}: {}",
                quoted(of),
                quoted(metric),
            ),
            Self::IncompatibleTypes { left, operator, right } => format!(
                "incompatible sample types encountered for binary operator {}: {} {operator} {}",
                quoted(operator),
                left.as_str(),
                right.as_str(),
            ),
            Self::IncompatibleLayout { operator } => {
                format!("incompatible bucket layout encountered for binary operator {operator}")
            }
            Self::MixedSamples(metric) => format!(
                "encountered a mix of histograms and floats for metric name {}",
                quoted(metric)
            ),
            Self::MixedInAggregation => {
                String::from("encountered a mix of histograms and floats for aggregation")
            }
            Self::MixedClassicNative(metric) => format!(
                "vector contains a mix of classic and native histograms{}",
                for_metric(metric)
            ),
            Self::MixedSchemas(metric) => format!(
                "vector contains a mix of histograms with exponential and custom buckets schemas \
                 for metric name {}",
                quoted(metric),
            ),
            Self::HistogramNotCounter(metric) => {
                format!("this native histogram metric is not a counter: {}", quoted(metric))
            }
            Self::HistogramNotGauge(metric) => {
                format!("this native histogram metric is not a gauge: {}", quoted(metric))
            }
            Self::ResetCollision(operation) => {
                format!("conflicting counter resets during histogram {}", operation.as_str())
            }
            Self::BoundsReconciled(operation) => {
                format!("mismatched custom buckets were reconciled during {}", operation.as_str())
            }
            Self::IgnoredInAggregation(name) => {
                format!("ignored histogram in {name} aggregation")
            }
            Self::IgnoredInRange(metric) => format!(
                "ignored histograms in a range containing both floats and histograms for metric \
                 name {}",
                quoted(metric),
            ),
            Self::QuantileNan(metric) => format!(
                "input to histogram_quantile has NaN observations, result is NaN{}",
                for_metric(metric)
            ),
            Self::QuantileSkewed(metric) => format!(
                "input to histogram_quantile has NaN observations, result is skewed higher{}",
                for_metric(metric)
            ),
            Self::FractionNan(metric) => format!(
                "input to histogram_fraction has NaN observations, which are excluded from all \
                 fractions{}",
                for_metric(metric)
            ),
            Self::StartTimeOverlap(metric) => format!(
                "sample has start time that overlaps with previous sample timestamp for metric {}",
                quoted(metric),
            ),
            Self::ForcedMonotonicity { metric, .. } => format!(
                "input to histogram_quantile needed to be fixed for monotonicity (see \
                 {MONOTONICITY_HELP}){}",
                for_metric(metric),
            ),
        }
    }
}

fn for_metric(name: &str) -> String {
    if name.is_empty() { String::new() } else { format!(" for metric name {}", quoted(name)) }
}

fn short(v: f64) -> String {
    format_float(v, FloatFormat::General)
}

/// `v` rounded to two significant digits, as Go's `%.2g`.
fn two_digits(v: f64) -> String {
    if v == 0.0 || !v.is_finite() {
        return short(v);
    }
    let scientific = format!("{v:.1e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..2).contains(&exponent) {
        let rounded: f64 = scientific.parse().unwrap_or(v);
        return short(rounded);
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", digits.trim_end_matches(".0"), exponent.abs())
}

/// The remarks of one query.
#[derive(Clone, Debug, Default)]
pub(super) struct Annotations {
    by_text: BTreeMap<(Severity, String), Place>,
}

#[derive(Clone, Debug)]
struct Place {
    /// All that there are, those that were seen last at the end.
    spans: Vec<Span>,
    fixes: Option<MonotonicityFixes>,
    /// How often, for remarks that say so.
    occurrences: Option<u64>,
}

impl Place {
    /// Whether the remark tells how often it was made.
    const fn counts(&self) -> bool {
        self.fixes.is_some() || self.occurrences.is_some()
    }

    fn add(&mut self, span: Span) {
        if self.spans.last() == Some(&span) {
            return;
        }
        self.spans.retain(|known| *known != span);
        self.spans.push(span);
    }

    /// The position that counts.
    fn span(&self, order: impl Fn(Span) -> usize) -> Span {
        let chosen = match &*self.spans {
            [only] => Some(only),
            several if self.counts() => several.iter().min_by_key(|span| order(**span)),
            // Of equal ones the last.
            several => several.iter().max_by_key(|span| order(**span)),
        };
        chosen.copied().unwrap_or_default()
    }
}

impl Annotations {
    /// Adds a remark about the expression at `span`.
    pub(super) fn add(&mut self, annotation: &Annotation<'_>, span: Span) {
        let fixes = match annotation {
            Annotation::ForcedMonotonicity { fixes, .. } => Some(*fixes),
            _ => None,
        };
        let key = (annotation.severity(), annotation.text());
        match self.by_text.get_mut(&key) {
            None => {
                let counts = matches!(annotation, Annotation::StartTimeOverlap(_));
                let (spans, occurrences) = (vec![span], counts.then_some(1));
                self.by_text.insert(key, Place { spans, fixes, occurrences });
            }
            Some(place) => {
                place.add(span);
                if let (Some(known), Some(fixes)) = (&mut place.fixes, fixes) {
                    known.merge(fixes);
                }
                place.occurrences = place.occurrences.map(|count| count + 1);
            }
        }
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.by_text.is_empty()
    }

    /// The remarks as they would have been made about another part of the query that reads the same. The expressions of the one start at `from`,
    /// those of the other, in the same order, at `to`.
    pub(super) fn moved(&self, from: &[usize], to: &[usize]) -> Self {
        let mut moved = self.clone();
        for span in moved.by_text.values_mut().flat_map(|place| &mut place.spans) {
            if let Some(at) = from.iter().position(|start| *start == span.start) {
                *span = Span { start: to[at], end: to[at] + (span.end - span.start) };
            }
        }
        moved
    }

    /// Adds remarks that were made later.
    pub(super) fn extend(&mut self, later: Self) {
        for (key, new) in later.by_text {
            match self.by_text.entry(key) {
                Entry::Vacant(entry) => {
                    entry.insert(new);
                }
                Entry::Occupied(mut entry) => {
                    let known = entry.get_mut();
                    new.spans.into_iter().for_each(|span| known.add(span));
                    if let (Some(known), Some(fixes)) = (&mut known.fixes, new.fixes) {
                        known.merge(fixes);
                    }
                    let counts = known.occurrences.zip(new.occurrences);
                    known.occurrences = counts.map(|(known, new)| known + new);
                }
            }
        }
    }

    /// The texts of warnings and of infos, with positions in `query`, which is the text of `expr`, sorted.
    pub(super) fn into_texts(self, query: &str, expr: &Expr) -> (Vec<String>, Vec<String>) {
        let order = OnceCell::new();
        self.into_texts_by(query, |span| order.get_or_init(|| Order::of(expr)).rank(span))
    }

    fn into_texts_by(
        self,
        query: &str,
        order: impl Fn(Span) -> usize,
    ) -> (Vec<String>, Vec<String>) {
        let (mut warnings, mut infos) = (Vec::new(), Vec::new());
        for ((severity, mut text), place) in self.by_text {
            if let Some(fixes) = place.fixes {
                write_fixes(&mut text, fixes);
            }
            if let Some(count @ 2..) = place.occurrences {
                write!(text, " ({count} occurrences)").expect("writing to a string cannot fail");
            }
            let span = place.span(&order);
            // Subqueries have no position.
            let at = if span.start == span.end { 0 } else { span.start };
            let (line, column) = line_and_column(query, at);
            write!(text, " ({line}:{column})").expect("writing to a string cannot fail");
            match severity {
                Severity::Warning => warnings.push(text),
                Severity::Info => infos.push(text),
            }
        }
        warnings.sort_unstable();
        infos.sort_unstable();
        (warnings, infos)
    }
}

fn write_fixes(text: &mut String, fixes: MonotonicityFixes) {
    write!(
        text,
        ", from buckets {} to {}, with a max diff of {}, over {} samples from ",
        short(fixes.buckets.0),
        short(fixes.buckets.1),
        two_digits(fixes.max_diff),
        fixes.count,
    )
    .expect("writing to a string cannot fail");
    write_rfc3339(text, fixes.times.0 / 1000);
    text.push_str(" to ");
    write_rfc3339(text, fixes.times.1 / 1000);
}

/// Line and column of a byte of `query`, both from 1; columns count bytes.
fn line_and_column(query: &str, at: usize) -> (usize, usize) {
    let before = &query.as_bytes()[..at.min(query.len())];
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    let line_start = before.iter().rposition(|b| *b == b'\n').map_or(0, |newline| newline + 1);
    (line, before.len() - line_start + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(annotations: &[(Annotation<'_>, usize)], query: &str, expected: &[&str]) {
        let mut all = Annotations::default();
        for (annotation, start) in annotations {
            all.add(annotation, Span { start: *start, end: *start + 1 });
        }
        let (mut warnings, infos) = all.into_texts_by(query, |_| 0);
        warnings.extend(infos);
        assert_eq!(warnings, expected);
    }

    #[test]
    fn remarks_made_apart_are_as_if_made_together() {
        let fixes = |t, bound| Annotation::ForcedMonotonicity {
            metric: "h",
            fixes: MonotonicityFixes {
                times: (t, t),
                buckets: (bound, bound),
                max_diff: bound,
                count: 1,
            },
        };
        let all = [
            (fixes(2_000, 1.0), 3),
            (Annotation::StartTimeOverlap("x"), 1),
            (Annotation::SortInRangeQuery, 4),
            (Annotation::StartTimeOverlap("x"), 2),
            (fixes(1_000, 2.0), 5),
            (Annotation::SortInRangeQuery, 7),
            (Annotation::StartTimeOverlap("x"), 6),
        ];
        let texts = |cuts: &[usize]| {
            let mut whole = Annotations::default();
            let mut from = 0;
            for to in cuts.iter().copied().chain([all.len()]) {
                let mut part = Annotations::default();
                for (annotation, start) in &all[from..to] {
                    part.add(annotation, Span { start: *start, end: *start + 1 });
                }
                whole.extend(part);
                from = to;
            }
            whole.into_texts_by("0123456789", |span| span.start)
        };
        let expected = texts(&[]);
        assert!(expected.0.iter().any(|text| text.ends_with("(3 occurrences) (1:2)")));
        for first in 0..=all.len() {
            for second in first..=all.len() {
                assert_eq!(texts(&[first, second]), expected, "{first} {second}");
            }
        }
    }

    #[test]
    fn texts_carry_the_position() {
        check(
            &[(Annotation::PossibleNonCounter("x"), 5)],
            "rate(x[1m])",
            &["PromQL info: metric might not be a counter, name does not end in \
               _total/_sum/_count/_bucket: \"x\" (1:6)"],
        );
        check(
            &[(Annotation::InvalidQuantile(1.5), 10)],
            "quantile(\n1.5, x)",
            &["PromQL warning: quantile value should be between 0 and 1, got 1.5 (2:1)"],
        );
        check(
            &[(Annotation::BadBucketLabel { metric: "m", label: "a\"" }, 0)],
            "m",
            &["PromQL warning: bucket label \"le\" is missing or has a malformed value of \
               \"a\\\"\" for metric name \"m\" (1:1)"],
        );
    }

    #[test]
    fn equal_remarks_are_one() {
        check(
            &[
                (Annotation::InvalidQuantile(f64::NAN), 1),
                (Annotation::InvalidQuantile(f64::NAN), 2),
            ],
            "xxxx",
            &["PromQL warning: quantile value should be between 0 and 1, got NaN (1:3)"],
        );
    }

    #[test]
    fn monotonicity_fixes_add_up() {
        let fix = |t, bucket, max_diff| Annotation::ForcedMonotonicity {
            metric: "",
            fixes: MonotonicityFixes {
                times: (t, t),
                buckets: (bucket, bucket),
                max_diff,
                count: 1,
            },
        };
        check(
            &[(fix(60_000, 5.0, 1.0), 3), (fix(0, 0.5, 0.125), 3)],
            "histogram",
            &["PromQL info: input to histogram_quantile needed to be fixed for monotonicity (see \
               https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile), \
               from buckets 0.5 to 5, with a max diff of 1, over 2 samples from \
               1970-01-01T00:00:00Z to 1970-01-01T00:01:00Z (1:4)"],
        );
    }

    #[test]
    fn two_significant_digits() {
        for (v, expected) in [
            (1.0, "1"),
            (0.125, "0.12"),
            (99.4, "99"),
            (99.6, "1e+02"),
            (1234.0, "1.2e+03"),
            (0.000_012_3, "1.2e-05"),
            (0.000_123_4, "0.00012"),
            (0.0, "0"),
        ] {
            assert_eq!(two_digits(v), expected, "{v}");
        }
    }
}
