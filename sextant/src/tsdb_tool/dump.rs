//! `sextant tsdb dump`

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;

use anyhow::Context;
use model::{
    Bucket, Columns, FloatFormat, FloatHistogram, Labels, QueryContext, Queryable, Selection,
    SeriesOrder, SystemClock, TimeRange, format_float,
};
use tsdb::{Db, Options, ReplayProgress};

use super::{DumpFlags, Tool, complain};
use crate::progress;

/// Prints `{labels} value milliseconds`, a line a sample, series in order of labels.
pub(super) fn run(tool: &mut Tool<'_>, flags: &DumpFlags) -> anyhow::Result<bool> {
    let mut selectors = Vec::new();
    for text in &flags.selectors {
        let parsed = promql::parse::parse_selector(text);
        selectors.push(parsed.with_context(|| format!("--match {text}"))?);
    }
    if selectors.is_empty() {
        // No matcher that could fail: everything.
        selectors.push(Vec::new());
    }
    let path = &flags.directory.path;
    let replay = Arc::new(ReplayProgress::new());
    let watch = progress::watch_replay(Arc::clone(&replay));
    let disk = Arc::clone(&tool.disk);
    let opened = Db::open_read_only(path, disk, Arc::new(SystemClock), Options::default(), &replay);
    drop(watch);
    let store = opened.with_context(|| format!("cannot open {}", path.display()))?;

    let range = TimeRange::new(flags.min_time, flags.max_time);
    let context = QueryContext::unbounded();
    let querier = store.querier(range)?;
    let mut sets = Vec::new();
    for matchers in &selectors {
        let selection = Selection { order: SeriesOrder::Labels, ..Selection::new(matchers, range) };
        sets.push(querier.select(&selection, &context)?);
    }
    // A series that several selectors select is printed once.
    let mut series: BTreeMap<Labels, (usize, usize)> = BTreeMap::new();
    for (at, set) in sets.iter().enumerate() {
        for index in 0..set.len() {
            series.entry(set.labels(index)).or_insert((at, index));
        }
    }
    let mut columns = Columns::new();
    for (labels, (at, index)) in series {
        columns.clear();
        sets[at].read(index, range, &mut columns, &context)?;
        print(tool.out, &labels, &columns)?;
    }
    let warnings: Vec<&String> = sets.iter().flat_map(|set| set.warnings()).collect();
    warnings.iter().for_each(|warning| complain(warning));
    Ok(warnings.is_empty())
}

fn print(out: &mut dyn Write, labels: &Labels, columns: &Columns) -> io::Result<()> {
    let labels = labels.to_string();
    for (row, sample) in columns.iter().enumerate() {
        let t = sample.t;
        match columns.histogram(row) {
            Some(histogram) => writeln!(out, "{labels} {} {t}", histogram_text(histogram))?,
            None => {
                writeln!(out, "{labels} {} {t}", format_float(sample.v, FloatFormat::General))?;
            }
        }
    }
    Ok(())
}

/// A histogram as promtool prints it: the counts of one of integers without an exponent.
///
/// The store hands out every histogram with counts of floats. One whose counts are all whole is taken for one of integers; counts of
/// floats that are whole are rare, and are the same numbers all the same.
fn histogram_text(histogram: &FloatHistogram) -> String {
    let mut buckets: Vec<Bucket> = histogram.negative_buckets().collect();
    buckets.reverse();
    buckets.push(histogram.zero_bucket());
    buckets.extend(histogram.positive_buckets());
    let is_whole = |count: f64| count.fract() == 0.0;
    if !is_whole(histogram.count) || !buckets.iter().all(|bucket| is_whole(bucket.count)) {
        return histogram.to_string();
    }
    let count = |count| format_float(count, FloatFormat::Plain);
    let sum = format_float(histogram.sum, FloatFormat::General);
    let mut text = format!("{{count:{}, sum:{sum}", count(histogram.count));
    for bucket in buckets.into_iter().filter(|bucket| bucket.count != 0.0) {
        // Up to the colon a bucket is its bounds.
        let bounds = Bucket { count: 0.0, ..bucket }.to_string();
        let bounds = bounds.strip_suffix('0').unwrap_or(&bounds);
        text.push_str(&format!(", {bounds}{}", count(bucket.count)));
    }
    text.push('}');
    text
}

#[cfg(test)]
mod tests {
    use model::Span;

    use super::*;

    #[test]
    fn counts_of_integers_have_no_exponent() {
        let whole = FloatHistogram {
            zero_threshold: 0.75,
            zero_count: 1e6,
            count: 123_456_789.0,
            sum: 2.5e9,
            positive_spans: vec![Span { offset: 0, length: 3 }],
            positive_counts: vec![120_456_789.0, 0.0, 1_000_000.0],
            negative_spans: vec![Span { offset: 1, length: 2 }],
            negative_counts: vec![600_000.0, 400_000.0],
            ..FloatHistogram::default()
        };
        assert_eq!(
            histogram_text(&whole),
            "{count:123456789, sum:2.5e+09, [-4,-2):400000, [-2,-1):600000, [-0.75,0.75]:1000000, \
             (0.5,1]:120456789, (2,4]:1000000}"
        );
        let part = FloatHistogram { zero_count: 1e6 + 0.5, count: 123_456_789.5, ..whole };
        assert_eq!(histogram_text(&part), part.to_string());
        assert!(part.to_string().starts_with("{count:1.234567895e+08, "));
        let unknown = FloatHistogram { count: f64::NAN, ..FloatHistogram::default() };
        assert_eq!(histogram_text(&unknown), "{count:NaN, sum:0}");
    }
}
