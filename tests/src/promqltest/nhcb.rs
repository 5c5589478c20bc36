//! Classic histograms as native ones with custom buckets: what `load_with_nhcb` adds.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use model::{CUSTOM_BUCKETS_SCHEMA, FloatHistogram, Labels, LabelsBuilder, METRIC_NAME, Span};

use super::series::{Point, SeriesLine};

/// What the series of a classic histogram say about one time.
#[derive(Clone, Debug, Default)]
struct Classic {
    /// Bounds with cumulative counts, ascending.
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
}

/// A native histogram with custom buckets over time.
#[derive(Clone, Debug)]
pub(super) struct NativeSeries {
    /// The labels of the classic histogram without what tells its series apart.
    pub(super) labels: Labels,
    /// The histograms, each with the number of its step.
    pub(super) histograms: Vec<(usize, FloatHistogram)>,
}

/// The native histograms that the series of a load add up to.
///
/// # Errors
/// When buckets are not cumulative, or do not add up to the count.
pub(super) fn convert(series: &[SeriesLine]) -> Result<Vec<NativeSeries>> {
    let mut order: Vec<Labels> = Vec::new();
    let mut all: Vec<BTreeMap<usize, Classic>> = Vec::new();
    for line in series {
        let name = line.labels.metric_name();
        let parts = ["_bucket", "_count", "_sum"]
            .into_iter()
            .find_map(|suffix| Some((name.strip_suffix(suffix)?, suffix)));
        let Some((base, suffix)) = parts else { continue };
        let bound = line.labels.get("le").and_then(|text| text.parse::<f64>().ok());
        if suffix == "_bucket" && bound.is_none_or(f64::is_nan) {
            continue;
        }
        let mut labels = LabelsBuilder::from_labels(&line.labels);
        labels.set(METRIC_NAME, base);
        labels.remove("le");
        let labels = labels.build();
        let at = order.iter().position(|known| *known == labels).unwrap_or_else(|| {
            order.push(labels);
            all.push(BTreeMap::new());
            all.len() - 1
        });
        for (step, point) in line.points.iter().enumerate() {
            let Point::Float(v) = point else { continue };
            let classic = all[at].entry(step).or_default();
            match (suffix, bound) {
                ("_bucket", Some(bound)) => classic.set_bucket(bound, *v)?,
                ("_count", _) => classic.count = Some(*v),
                _ => classic.sum = *v,
            }
        }
    }
    let convert = |(labels, steps): (Labels, BTreeMap<usize, Classic>)| {
        let steps = steps.into_iter().map(|(step, classic)| Ok((step, classic.convert()?)));
        Ok(NativeSeries { labels, histograms: steps.collect::<Result<_>>()? })
    };
    order.into_iter().zip(all).map(convert).collect()
}

impl Classic {
    /// Of several counts for a bound the first holds.
    fn set_bucket(&mut self, bound: f64, count: f64) -> Result<()> {
        ensure!(count >= 0.0, "bucket {bound} has a count of {count}");
        let at = self.buckets.partition_point(|(known, _)| *known < bound);
        if self.buckets.get(at).is_some_and(|(known, _)| *known == bound) {
            return Ok(());
        }
        let below = at.checked_sub(1).map_or(0.0, |below| self.buckets[below].1);
        let above = self.buckets.get(at).map_or(f64::INFINITY, |(_, count)| *count);
        ensure!((below..=above).contains(&count), "the count at {bound} is not cumulative");
        self.buckets.insert(at, (bound, count));
        Ok(())
    }

    fn convert(mut self) -> Result<FloatHistogram> {
        let highest = self.buckets.last().map_or(0.0, |(_, count)| *count);
        let count = self.count.unwrap_or(highest);
        if self.buckets.last().is_none_or(|(bound, _)| *bound != f64::INFINITY) {
            self.buckets.push((f64::INFINITY, count));
        }
        let total = self.buckets.last().map_or(0.0, |(_, count)| *count);
        ensure!(total == count, "buckets add up to {total}, not to {count}");
        let whole = self.buckets.iter().all(|(_, count)| count.fract() == 0.0);
        let mut below = 0.0;
        let counts =
            self.buckets.iter().map(|(_, count)| count - std::mem::replace(&mut below, *count));
        let mut histogram = FloatHistogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            count,
            sum: self.sum,
            positive_counts: counts.collect(),
            positive_spans: vec![Span { offset: 0, length: self.buckets.len().try_into()? }],
            custom_bounds: self.buckets.iter().map(|(bound, _)| *bound).collect(),
            ..FloatHistogram::default()
        };
        histogram.custom_bounds.pop();
        // Integer histograms keep short gaps of empty buckets.
        histogram.compact(if whole { 2 } else { 0 });
        histogram.validate()?;
        Ok(histogram)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<SeriesLine> {
        text.lines().map(|line| SeriesLine::parse(line).unwrap()).collect()
    }

    #[test]
    fn buckets_count_and_sum_become_one_series() {
        let series = lines(
            "h_bucket{le=\"1\",a=\"b\"} 1 2\nh_bucket{le=\"+Inf\",a=\"b\"} 4 _\n\
             h_bucket{le=\"0.5\",a=\"b\"} 0 0\nh_sum{a=\"b\"} 7 8\nh_count{a=\"b\"} 4 5\nother 1",
        );
        let all = convert(&series).unwrap();
        assert_eq!(all.len(), 1);
        let NativeSeries { labels, histograms } = &all[0];
        assert_eq!(labels.to_string(), r#"{__name__="h", a="b"}"#);
        let shown: Vec<_> = histograms.iter().map(|(at, h)| format!("{at} {h}")).collect();
        assert_eq!(
            shown,
            [
                "0 {count:4, sum:7, (0.5,1]:1, (1,+Inf]:3}",
                "1 {count:5, sum:8, (0.5,1]:2, (1,+Inf]:3}"
            ]
        );
    }

    #[test]
    fn what_is_not_cumulative_is_refused() {
        assert!(convert(&lines("h_bucket{le=\"1\"} 2\nh_bucket{le=\"2\"} 1")).is_err());
        assert!(convert(&lines("h_bucket{le=\"+Inf\"} 2\nh_count 1")).is_err());
    }
}
