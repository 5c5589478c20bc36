//! `sextant tsdb analyze`

use anyhow::{Context, bail};
use tsdb::tools;

use super::{AnalyzeFlags, Tool, format};
use crate::progress;

pub(super) fn run(tool: &mut Tool<'_>, flags: &AnalyzeFlags) -> anyhow::Result<bool> {
    let path = &flags.directory.path;
    let matchers = match &flags.selector {
        Some(text) => {
            promql::parse::parse_selector(text).with_context(|| format!("--match {text}"))?
        }
        None => Vec::new(),
    };
    let dir = match &flags.block {
        Some(block) => path.join(block),
        None => {
            let (blocks, _) = tools::list(&tool.disk, path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            // Names begin with the time at which the block was written.
            match blocks.into_iter().max_by(|a, b| a.ulid.cmp(&b.ulid)) {
                Some(newest) => newest.dir,
                None => bail!("no blocks found in {}", path.display()),
            }
        }
    };
    let bar = progress::bar("analyzing", 0);
    let analysis = tools::analyze(&tool.disk, &dir, &matchers, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
        true
    });
    bar.finish_and_clear();
    let analysis = analysis.with_context(|| format!("cannot analyze {}", dir.display()))?;
    let out = &mut *tool.out;
    writeln!(out, "Block ID: {}", analysis.ulid)?;
    writeln!(out, "Duration: {}", format::duration(analysis.span_ms))?;
    writeln!(out, "Total Series: {}", analysis.series)?;
    if let Some(selector) = &flags.selector {
        writeln!(out, "Matcher: {selector}")?;
    }
    writeln!(out, "Label names: {}", analysis.label_names)?;
    if flags.selector.is_some() {
        writeln!(out, "Matched series: {}", analysis.matched)?;
    }
    writeln!(out, "Postings (unique label pairs): {}", analysis.pairs)?;
    writeln!(out, "Postings entries (total label pairs): {}", analysis.pair_entries)?;
    for (heading, list) in [
        ("Label pairs most involved in churning", &analysis.churn_by_pair),
        ("Label names most involved in churning", &analysis.churn_by_name),
        ("Most common label pairs", &analysis.series_by_pair),
        ("Label names with highest cumulative label value length", &analysis.value_bytes_by_name),
        ("Highest cardinality labels", &analysis.values_by_name),
        ("Highest cardinality metric names", &analysis.series_by_metric),
    ] {
        writeln!(out, "\n{heading}:")?;
        for (name, count) in list.iter().take(flags.limit) {
            writeln!(out, "{count} {name}")?;
        }
    }
    Ok(true)
}
