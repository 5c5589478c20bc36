//! What fills a block: which labels, which metrics, and which of them come and go.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use model::{METRIC_NAME, Matcher, QueryContext};

use super::open;
use crate::disk::Disk;
use crate::postings;

/// The labels of a block, counted. Lists are sorted by number, largest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Analysis {
    /// Name of the block.
    pub ulid: String,
    /// Milliseconds that the block spans.
    pub span_ms: i64,
    /// Series in the block.
    pub series: u64,
    /// Series that were looked at: those that satisfy the matchers.
    pub matched: u64,
    /// Label names.
    pub label_names: u64,
    /// Distinct label pairs.
    pub pairs: u64,
    /// Label pairs of all series together.
    pub pair_entries: u64,
    /// Label pairs (`name=value`) by how many times over the block's span series with them were absent.
    pub churn_by_pair: Vec<(String, u64)>,
    /// As `churn_by_pair`, by label name.
    pub churn_by_name: Vec<(String, u64)>,
    /// Label pairs by number of series.
    pub series_by_pair: Vec<(String, u64)>,
    /// Label names by bytes of their distinct values.
    pub value_bytes_by_name: Vec<(String, u64)>,
    /// Label names by number of values.
    pub values_by_name: Vec<(String, u64)>,
    /// Metric names by number of series.
    pub series_by_metric: Vec<(String, u64)>,
}

/// What is known of one label pair.
#[derive(Clone, Copy, Debug, Default)]
struct Pair {
    series: u64,
    /// Milliseconds of the block's span that its series do not cover.
    uncovered_ms: u64,
}

/// Looks at the series of the block in `dir` that satisfy `matchers`. `progress` is told how many of how many series are done, and says whether to go on.
///
/// # Errors
/// When the block cannot be read; [`io::ErrorKind::Interrupted`] when told to stop.
pub fn analyze(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    matchers: &[Matcher],
    progress: &mut dyn FnMut(u64, u64) -> bool,
) -> io::Result<Analysis> {
    let block = open(disk.as_ref(), dir).map_err(io::Error::other)?;
    let span_ms = block.meta.max_time.saturating_sub(block.meta.min_time);
    let context = QueryContext::unbounded();
    let ids = postings::select(&*block.index, matchers, &context).map_err(io::Error::other)?;
    let mut analysis = Analysis {
        ulid: block.meta.ulid.to_string(),
        span_ms,
        series: block.meta.stats.num_series,
        matched: ids.len() as u64,
        ..Analysis::default()
    };
    let mut names: BTreeMap<String, BTreeMap<String, Pair>> = BTreeMap::new();
    let mut cursor = block.index.cursor();
    for (done, &id) in (0..).zip(&ids) {
        if done % 1024 == 0 && !progress(done, ids.len() as u64) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let chunks = &cursor.read(id).map_err(io::Error::other)?.chunks;
        let covered = chunks.first().zip(chunks.last());
        let covered = covered.map_or(0, |(a, b)| b.range.max.saturating_sub(a.range.min));
        let uncovered = span_ms.saturating_sub(covered).max(0).unsigned_abs();
        let count = |name: &str, value: &str| {
            analysis.pair_entries += 1;
            // Most pairs are known: their strings are not allocated again.
            let pair = match names.get_mut(name).and_then(|values| values.get_mut(value)) {
                Some(pair) => pair,
                None => {
                    let values = names.entry(String::from(name)).or_default();
                    values.entry(String::from(value)).or_default()
                }
            };
            pair.series += 1;
            pair.uncovered_ms = pair.uncovered_ms.saturating_add(uncovered);
        };
        cursor.each_label(count).map_err(io::Error::other)?;
    }
    progress(ids.len() as u64, ids.len() as u64);
    summarize(&names, &mut analysis);
    Ok(analysis)
}

fn summarize(names: &BTreeMap<String, BTreeMap<String, Pair>>, analysis: &mut Analysis) {
    let span = analysis.span_ms.max(1).unsigned_abs();
    analysis.label_names = names.len() as u64;
    for (name, values) in names {
        analysis.pairs += values.len() as u64;
        let mut uncovered_ms = 0_u64;
        for (value, pair) in values {
            let text = format!("{name}={value}");
            uncovered_ms = uncovered_ms.saturating_add(pair.uncovered_ms);
            analysis.churn_by_pair.push((text.clone(), pair.uncovered_ms / span));
            analysis.series_by_pair.push((text, pair.series));
            if name == METRIC_NAME {
                analysis.series_by_metric.push((value.clone(), pair.series));
            }
        }
        let bytes = values.keys().map(|value| value.len() as u64).sum();
        analysis.churn_by_name.push((name.clone(), uncovered_ms / span));
        analysis.value_bytes_by_name.push((name.clone(), bytes));
        analysis.values_by_name.push((name.clone(), values.len() as u64));
    }
    for list in [
        &mut analysis.churn_by_pair,
        &mut analysis.churn_by_name,
        &mut analysis.series_by_pair,
        &mut analysis.value_bytes_by_name,
        &mut analysis.values_by_name,
        &mut analysis.series_by_metric,
    ] {
        list.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    }
}
