//! Metric families being collected: gathered in any order, written sorted.

use std::borrow::Cow;
use std::collections::BTreeMap;

use exposition::{Encoder, MetricKind};

/// The name of a family or label: mostly a constant.
pub(crate) type Name = Cow<'static, str>;

/// All families of one collection.
#[derive(Debug, Default)]
pub(crate) struct Families {
    families: BTreeMap<Name, Family>,
}

/// The samples of one metric.
#[derive(Debug)]
pub(crate) struct Family {
    help: Name,
    kind: MetricKind,
    series: Vec<Series>,
}

#[derive(Debug)]
struct Series {
    /// Sorted by name.
    labels: Vec<(&'static str, String)>,
    value: f64,
}

impl Families {
    /// The family `name`, new or begun earlier.
    pub(crate) fn family(
        &mut self,
        name: impl Into<Name>,
        help: impl Into<Name>,
        kind: MetricKind,
    ) -> &mut Family {
        let family = self.families.entry(name.into());
        family.or_insert_with(|| Family { help: help.into(), kind, series: Vec::new() })
    }

    /// A counter.
    pub(crate) fn counter(&mut self, name: impl Into<Name>, help: impl Into<Name>) -> &mut Family {
        self.family(name, help, MetricKind::Counter)
    }

    /// A gauge.
    pub(crate) fn gauge(&mut self, name: impl Into<Name>, help: impl Into<Name>) -> &mut Family {
        self.family(name, help, MetricKind::Gauge)
    }

    /// Writes all families that have samples.
    pub(crate) fn write(&mut self, out: &mut Vec<u8>) {
        let mut encoder = Encoder::new(out);
        let mut labels: Vec<(&str, &str)> = Vec::new();
        for (name, family) in &mut self.families {
            if family.series.is_empty() {
                continue;
            }
            // Within a family the names are the same, so this is the order of the values.
            family.series.sort_by(|a, b| a.labels.cmp(&b.labels));
            encoder.family(name, &family.help, family.kind);
            for series in &family.series {
                labels.clear();
                labels.extend(series.labels.iter().map(|(name, value)| (*name, value.as_str())));
                encoder.sample(name, &labels, series.value, None);
            }
        }
    }

    /// Adds the families of `other`.
    pub(crate) fn merge(&mut self, other: Self) {
        for (name, mut family) in other.families {
            match self.families.get_mut(&name) {
                Some(known) => known.series.append(&mut family.series),
                None => {
                    self.families.insert(name, family);
                }
            }
        }
    }
}

impl Family {
    /// Adds a sample.
    pub(crate) fn add(&mut self, labels: &[(&'static str, &str)], value: f64) {
        let mut labels: Vec<_> =
            labels.iter().map(|(name, value)| (*name, String::from(*value))).collect();
        labels.sort_unstable();
        self.series.push(Series { labels, value });
    }

    /// Adds the only sample of a family without labels.
    pub(crate) fn set(&mut self, value: f64) {
        self.add(&[], value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_sorted_by_name_and_series_by_label_values() {
        let mut families = Families::default();
        let b = families.counter("b_total", "Bs.");
        b.add(&[("z", "1"), ("a", "2")], 1.0);
        b.add(&[("z", "2"), ("a", "1")], 2.5e6);
        families.gauge("a", "As.").set(3.0);
        families.gauge("unused", "No samples.");
        let mut out = Vec::new();
        families.write(&mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "# HELP a As.\n# TYPE a gauge\na 3\n\
             # HELP b_total Bs.\n# TYPE b_total counter\n\
             b_total{a=\"1\",z=\"2\"} 2.5e+06\nb_total{a=\"2\",z=\"1\"} 1\n"
        );
    }
}
