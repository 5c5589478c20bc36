//! From the labels that a target exposes to those that are stored.

use std::borrow::Cow;

use config::Limits;
use exposition::MetricKind;
use model::{Label, Labels, METRIC_NAME};

use crate::ScrapeError;

/// Prefixed to an exposed label whose name the target has, as often as needed.
const EXPORTED_PREFIX: &str = "exported_";

/// The label that holds the type of a metric.
const TYPE_LABEL: &str = "__type__";

/// Characters of a name or value that an error quotes.
const EXCERPT_CHARS: usize = 50;

/// A name and a value as the parser yields them.
pub(crate) type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// How the samples of a target are read: what is part of its series, and what is allowed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SampleRules {
    /// The target's labels.
    pub(crate) labels: Labels,
    /// Exposed labels win over the target's.
    pub(crate) honor_labels: bool,
    /// Exposed timestamps are used.
    pub(crate) honor_timestamps: bool,
    /// Series with exposed timestamps get staleness markers too.
    pub(crate) track_timestamps_staleness: bool,
    /// What a `# TYPE` line says is a label of the series below it.
    pub(crate) type_labels: bool,
    /// Bounds; 0 for none.
    pub(crate) limits: Limits,
}

impl SampleRules {
    /// Puts the type into `pairs`, if that is asked for and known; it wins over a label of the target's under that name.
    pub(crate) fn add_type(&self, kind: MetricKind, pairs: &mut Vec<Pair<'_>>) {
        if self.type_labels && kind != MetricKind::Unknown {
            pairs.retain(|(name, _)| name != TYPE_LABEL);
            pairs.push((Cow::Borrowed(TYPE_LABEL), Cow::Borrowed(kind.as_str())));
        }
    }

    /// The stored labels of the series that is exposed as `pairs`; leaves `pairs` changed.
    pub(crate) fn series(&self, pairs: &mut Vec<Pair<'_>>) -> Result<Labels, ScrapeError> {
        if self.honor_labels {
            self.honor(pairs);
        } else {
            self.rename(pairs);
        }
        let labels = Labels::from_pairs(pairs.iter().map(|(n, v)| (n.as_ref(), v.as_ref())))?;
        if labels.metric_name().is_empty() {
            return Err(ScrapeError::NoMetricName);
        }
        if labels.iter().any(|label| label.name.is_empty()) {
            return Err(ScrapeError::InvalidName(labels.to_string()));
        }
        check_limits(&labels, &self.limits)?;
        Ok(labels)
    }

    /// Adds the target's labels that are not exposed. A label that is exposed as empty counts as exposed: so a
    /// gateway says that its series have no instance.
    fn honor(&self, pairs: &mut Vec<Pair<'_>>) {
        let exposed = pairs.len();
        for label in &self.labels {
            if !pairs[..exposed].iter().any(|(name, _)| name == label.name) {
                pairs.push(owned(label));
            }
        }
    }

    /// Adds all of the target's labels and renames those exposed labels that are in their way.
    fn rename(&self, pairs: &mut Vec<Pair<'_>>) {
        let exposed = pairs.len();
        let mut conflicts = Vec::new();
        for label in &self.labels {
            let clash = pairs[..exposed].iter().position(|(name, _)| name == label.name);
            if let Some(at) = clash {
                let value = std::mem::take(&mut pairs[at].1);
                if !value.is_empty() {
                    conflicts.push((String::from(label.name), value));
                }
            }
            pairs.push(owned(label));
        }
        // Short names first, so that what is called `exported_x` already keeps away from a new one.
        conflicts.sort_by_key(|(name, _)| name.len());
        for (name, value) in conflicts {
            let mut renamed = format!("{EXPORTED_PREFIX}{name}");
            while pairs.iter().any(|(name, value)| *name == renamed && !value.is_empty()) {
                renamed.insert_str(0, EXPORTED_PREFIX);
            }
            pairs.push((Cow::Owned(renamed), value));
        }
    }
}

fn owned<'a>(label: Label<'_>) -> Pair<'a> {
    (Cow::Owned(String::from(label.name)), Cow::Owned(String::from(label.value)))
}

fn check_limits(labels: &Labels, limits: &Limits) -> Result<(), ScrapeError> {
    let exceeds = |n: usize, limit: u64| limit > 0 && n as u64 > limit;
    let metric = || excerpt(labels.metric_name());
    if limits.labels_max > 0 {
        let count = labels.len();
        if exceeds(count, limits.labels_max) {
            let limit = limits.labels_max;
            return Err(ScrapeError::LabelLimit { metric: metric(), labels: count, limit });
        }
    }
    if limits.label_name_bytes_max == 0 && limits.label_value_bytes_max == 0 {
        return Ok(());
    }
    for Label { name, value } in labels {
        if exceeds(name.len(), limits.label_name_bytes_max) {
            return Err(ScrapeError::LabelNameLimit {
                metric: metric(),
                name: excerpt(name),
                length: name.len(),
                limit: limits.label_name_bytes_max,
            });
        }
        if exceeds(value.len(), limits.label_value_bytes_max) {
            return Err(ScrapeError::LabelValueLimit {
                metric: metric(),
                name: excerpt(name),
                value: excerpt(value),
                length: value.len(),
                limit: limits.label_value_bytes_max,
            });
        }
    }
    Ok(())
}

fn excerpt(text: &str) -> String {
    text.chars().take(EXCERPT_CHARS).collect()
}

/// Labels of a series that a scrape reports about its target, named `metric`.
pub(crate) fn report_series(metric: &str, target: &Labels) -> Labels {
    let pairs = target.iter().map(|label| (label.name, label.value));
    Labels::from_pairs(pairs.chain([(METRIC_NAME, metric)]))
        .expect("a target's labels are unique and none starts with two underscores")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(honor_labels: bool, limits: Limits) -> SampleRules {
        let labels = Labels::from_pairs([("instance", "i"), ("job", "j")]).unwrap();
        SampleRules {
            labels,
            honor_labels,
            honor_timestamps: true,
            track_timestamps_staleness: false,
            type_labels: false,
            limits,
        }
    }

    fn check(rules: &SampleRules, exposed: &[(&'static str, &'static str)], expected: &str) {
        let mut pairs: Vec<Pair<'_>> =
            exposed.iter().map(|&(n, v)| (Cow::Borrowed(n), Cow::Borrowed(v))).collect();
        let series = rules.series(&mut pairs);
        let text = series.map_or_else(|e| e.to_string(), |labels| labels.to_string());
        assert_eq!(text, expected);
    }

    #[test]
    fn target_labels_win_and_exposed_ones_are_renamed() {
        let rules = rules(false, Limits::default());
        check(&rules, &[("__name__", "m")], r#"{__name__="m", instance="i", job="j"}"#);
        check(
            &rules,
            &[("__name__", "m"), ("job", "x"), ("instance", "")],
            r#"{__name__="m", exported_job="x", instance="i", job="j"}"#,
        );
        check(
            &rules,
            &[("__name__", "m"), ("job", "x"), ("exported_job", "y")],
            r#"{__name__="m", exported_exported_job="x", exported_job="y", instance="i", job="j"}"#,
        );
    }

    #[test]
    fn honoured_labels_win_even_when_empty() {
        let rules = rules(true, Limits::default());
        check(
            &rules,
            &[("__name__", "m"), ("job", "x"), ("instance", "")],
            r#"{__name__="m", job="x"}"#,
        );
        check(&rules, &[("__name__", "m")], r#"{__name__="m", instance="i", job="j"}"#);
    }

    #[test]
    fn malformed_series_are_refused() {
        let rules = rules(false, Limits::default());
        check(&rules, &[("a", "b")], "missing metric name (__name__ label)");
        check(&rules, &[("__name__", "")], "missing metric name (__name__ label)");
        check(
            &rules,
            &[("__name__", "m"), ("a", "b"), ("a", "c")],
            "label name \"a\" is not unique",
        );
        check(
            &rules,
            &[("__name__", "m"), ("", "c")],
            r#"invalid metric name or label names: {""="c", __name__="m", instance="i", job="j"}"#,
        );
    }

    #[test]
    fn limits_are_named() {
        let limits = Limits { labels_max: 3, ..Limits::default() };
        let exposed = [("__name__", "m"), ("a", "b")];
        check(
            &rules(false, limits),
            &exposed,
            "label_limit exceeded (metric: m, number of labels: 4, limit: 3)",
        );
        check(
            &rules(false, Limits { label_name_bytes_max: 8, ..Limits::default() }),
            &[("__name__", "m"), ("long_name", "b")],
            "label_name_length_limit exceeded (metric: m, label name: long_name, length: 9, limit: 8)",
        );
        check(
            &rules(false, Limits { label_value_bytes_max: 3, ..Limits::default() }),
            &[("__name__", "m"), ("a", "long")],
            "label_value_length_limit exceeded (metric: m, label name: a, value: \"long\", length: 4, limit: 3)",
        );
    }
}
