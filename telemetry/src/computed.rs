//! Gauges that are made when they are asked for, from what their owner knows anyway: ten series for each of ten thousand things cost
//! nothing in between, and go with the things.

use std::collections::HashMap;

use prometheus::Registry;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Gauge, LabelPair, Metric, MetricFamily, MetricType};

/// Makes the series: calls what it is given with the values of the labels, and the value.
type Rows = Box<dyn Fn(&mut dyn FnMut(&[&str], f64)) + Send + Sync>;

/// Registers the gauge `name` with `labels`. `rows` is asked at each scrape: it calls what it is given once for each series, with as
/// many values as there are labels, and no two times with the same ones.
///
/// # Panics
/// If a metric of the same name and labels is registered already, or a name is malformed: mistakes in our own source.
pub fn register_computed(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
    rows: impl Fn(&mut dyn FnMut(&[&str], f64)) + Send + Sync + 'static,
) {
    let names: Vec<_> = labels.iter().copied().map(String::from).collect();
    let desc = Desc::new(String::from(name), String::from(help), names, HashMap::new());
    let desc = desc.expect("metric names and labels are constants of valid form");
    let computed = Computed { desc, rows: Box::new(rows) };
    registry.register(Box::new(computed)).expect("each metric is registered once");
}

struct Computed {
    desc: Desc,
    rows: Rows,
}

impl Collector for Computed {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut metrics = Vec::new();
        (self.rows)(&mut |values, value| {
            let pairs = self.desc.variable_labels.iter().zip(values).map(|(name, value)| {
                let mut pair = LabelPair::default();
                pair.set_name(name.clone());
                pair.set_value(String::from(*value));
                pair
            });
            // As those of other metrics are.
            let mut pairs: Vec<_> = pairs.collect();
            pairs.sort_by(|a, b| a.name().cmp(b.name()));
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            let mut metric = Metric::from_label(pairs);
            metric.set_gauge(gauge);
            metrics.push(metric);
        });
        // The encoder does not take a family without series.
        if metrics.is_empty() {
            return Vec::new();
        }
        let mut family = MetricFamily::default();
        family.set_name(self.desc.fq_name.clone());
        family.set_help(self.desc.help.clone());
        family.set_field_type(MetricType::GAUGE);
        family.set_metric(metrics);
        vec![family]
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn series_are_those_of_the_moment() {
        let registry = Registry::new();
        let things = Arc::new(Mutex::new(Vec::<(String, f64)>::new()));
        let seen = Arc::clone(&things);
        register_computed(&registry, "test_size", "Size.", &["name", "kind"], move |row| {
            for (name, size) in &*seen.lock().unwrap() {
                row(&[name.as_str(), "a \"b\""], *size);
            }
        });
        let text = || {
            let mut out = Vec::new();
            crate::encode(&registry, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(), "");
        things.lock().unwrap().push((String::from("x"), 1.5));
        assert_eq!(
            text(),
            "# HELP test_size Size.\n# TYPE test_size gauge\ntest_size{kind=\"a \\\"b\\\"\",name=\"x\"} 1.5\n"
        );
        things.lock().unwrap().clear();
        assert_eq!(text(), "");
    }
}
