//! `sextant tsdb import`

use std::fs;
use std::io::{self, Read};
use std::path::PathBuf;

use anyhow::{Context, bail};
use exposition::OpenMetrics;
use indicatif::ProgressBar;
use model::{Labels, LabelsBuilder};
use tsdb::tools::{self, BlockBuilder};
use ulid::Ulid;

use super::{ImportFlags, Tool, complain, format};
use crate::progress;

/// Span of the blocks, as the server cuts them.
const BLOCK_MS: i64 = 2 * 3_600_000;
/// Bytes of samples held before they are written. Text beyond that gives several blocks of one span, which a server merges.
const HELD_BYTES_MAX: usize = 1 << 30;
/// Samples between two steps of the progress bar.
const STEP: u32 = 4096;

pub(super) fn run(tool: &mut Tool<'_>, flags: &ImportFlags) -> anyhow::Result<bool> {
    let text = read(flags)?;
    let dir = &flags.directory.path;
    // Both passes read everything: nothing is written from a text that is not whole.
    let bar = progress::bar("checking", text.len() as u64);
    check(&text, flags, &bar)?;
    bar.set_message("importing");
    let written = write(tool, &text, flags, &bar);
    bar.finish_and_clear();
    let written = written.with_context(|| format!("cannot write blocks to {}", dir.display()))?;
    if written.is_empty() {
        complain("no samples, no blocks");
    } else if !flags.quiet {
        let (mut blocks, _) = tools::list(&tool.disk, dir)?;
        blocks.retain(|block| written.contains(&block.dir));
        format::blocks(tool.out, &blocks, flags.human_readable)?;
    }
    Ok(true)
}

fn read(flags: &ImportFlags) -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    if flags.file.as_os_str() == "-" {
        io::stdin().lock().read_to_end(&mut text).context("cannot read the standard input")?;
    } else {
        let path = &flags.file;
        text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    }
    Ok(text)
}

/// Refuses what is not OpenMetrics, series that cannot be, and samples without a time.
fn check(text: &[u8], flags: &ImportFlags, bar: &ProgressBar) -> anyhow::Result<()> {
    let mut samples = OpenMetrics::new(text);
    let mut count = 0u32;
    while let Some(sample) = samples.next() {
        let (series, point) = sample.with_context(|| flags.file.display().to_string())?;
        if point.timestamp.is_none() {
            bail!("expected timestamp for series {}, got none", series.text());
        }
        labels(&series, flags)?;
        count = count.wrapping_add(1);
        if count.is_multiple_of(STEP) {
            bar.set_position(samples.position() as u64);
        }
    }
    Ok(())
}

/// Writes the samples as blocks; their folders.
fn write(
    tool: &Tool<'_>,
    text: &[u8],
    flags: &ImportFlags,
    bar: &ProgressBar,
) -> anyhow::Result<Vec<PathBuf>> {
    let mut ulids = ulid::Generator::new();
    let mut name = move |_: usize| next_ulid(&mut ulids);
    let (mut builder, mut written) = (BlockBuilder::new(BLOCK_MS).beside_others(), Vec::new());
    let mut samples = OpenMetrics::new(text);
    let mut count = 0u32;
    while let Some(sample) = samples.next() {
        let (series, point) = sample?;
        let Some(t) = point.timestamp else { continue };
        builder.add(&labels(&series, flags)?, t, point.value);
        count = count.wrapping_add(1);
        if count.is_multiple_of(STEP) {
            bar.set_position(samples.position() as u64);
            if builder.bytes() > HELD_BYTES_MAX {
                written.extend(builder.write(&tool.disk, &flags.directory.path, &mut name)?);
            }
        }
    }
    written.extend(builder.write(&tool.disk, &flags.directory.path, &mut name)?);
    Ok(written)
}

fn next_ulid(ulids: &mut ulid::Generator) -> Ulid {
    // More than 2⁸⁰ names in one millisecond do not happen.
    ulids.generate().unwrap_or_else(|_| Ulid::generate())
}

/// The labels of a series with those that the flags add.
fn labels(series: &exposition::Series<'_>, flags: &ImportFlags) -> anyhow::Result<Labels> {
    let mut pairs = Vec::new();
    series.labels(&mut pairs);
    let labels = Labels::from_pairs(pairs.iter().map(|(n, v)| (n.as_ref(), v.as_ref())))
        .with_context(|| format!("series {}", series.text()))?;
    if flags.labels.is_empty() {
        return Ok(labels);
    }
    let mut builder = LabelsBuilder::from_labels(&labels);
    for (name, value) in &flags.labels {
        builder.set(name, value.as_str());
    }
    Ok(builder.build())
}
