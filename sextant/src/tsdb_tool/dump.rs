//! `sextant tsdb dump`

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;

use anyhow::Context;
use model::{
    Columns, FloatFormat, Labels, QueryContext, Queryable, Selection, SeriesOrder, SystemClock,
    TimeRange, format_float,
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
            Some(histogram) => writeln!(out, "{labels} {histogram} {t}")?,
            None => {
                writeln!(out, "{labels} {} {t}", format_float(sample.v, FloatFormat::General))?;
            }
        }
    }
    Ok(())
}
