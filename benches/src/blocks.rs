//! `load blocks`: bytes per sample in blocks, samples and index, of the same samples in both stores.
//!
//! Every tick is one batch here and one remote write there. What is in blocks at the end counts; the last hours are still in either head.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use model::{Appender, Batch, ManualClock, SeriesRef};
use tsdb::{Db, Options, OsDisk};

use crate::memory::START_MS;
use crate::peer::{PeerFlags, wait_ready};
use crate::population::{INTERVAL_MS, Plan, Profile, Unit};
use crate::process::folder_bytes;
use crate::remote_write::{Client, encode_labels};

/// `load blocks`
#[derive(Debug, Args)]
pub(crate) struct Flags {
    #[command(flatten)]
    peer: PeerFlags,
    /// Who is observed
    #[arg(long, value_enum, value_delimiter = ',', default_value = "node,kubernetes")]
    profile: Vec<Profile>,
    /// Machines; of pods there are four times as many
    #[arg(long, default_value_t = 10)]
    units: u64,
    /// Hours of samples, every 15 s
    #[arg(long, default_value_t = 24)]
    hours: u64,
    /// Pods replaced in a day, in hundredths of the pods
    #[arg(long, default_value_t = 300)]
    churn_percent: u64,
    /// The same seed gives the same series and values
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// `load blocks`
pub(crate) fn run(flags: &Flags) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    writeln!(
        out,
        "| profile | store | blocks | samples | series in blocks | chunk files B/sample | index B/sample | index B/series | all B/sample |\n\
         |---|---|---|---|---|---|---|---|---|"
    )?;
    for &profile in &flags.profile {
        let units = if profile == Profile::Node { flags.units } else { flags.units * 4 };
        let Flags { hours, churn_percent, seed, .. } = *flags;
        let plan = Plan { profile, seed, units, hours, churn_percent, start: START_MS };
        let units = plan.units()?;
        let ours = ours(&plan, &units)?;
        print(&mut out, profile, "sextant", &ours)?;
        let peer = peer(&plan, &units, flags)?;
        print(&mut out, profile, "prometheus", &peer)?;
        writeln!(
            out,
            "| {profile:?} | ratio | | | | {:.3} | {:.3} | {:.3} | {:.3} |",
            ours.chunks_per_sample() / peer.chunks_per_sample(),
            ours.index_per_sample() / peer.index_per_sample(),
            ours.index_per_series() / peer.index_per_series(),
            ours.all_per_sample() / peer.all_per_sample(),
        )?;
    }
    Ok(())
}

/// Each unit's scrape at `tick`.
fn scrapes(
    plan: &Plan,
    units: &[Unit],
    tick: u64,
    mut each: impl FnMut(usize, i64, &[f64]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut values = Vec::new();
    for (i, unit) in units.iter().enumerate() {
        if let Some(t) = unit.scrape(plan, tick, &mut values) {
            each(i, t, &values)?;
        }
    }
    Ok(())
}

fn ours(plan: &Plan, units: &[Unit]) -> anyhow::Result<Sizes> {
    let dir = tempfile::tempdir()?;
    append_all(plan, units, dir.path())?;
    Sizes::of(dir.path())
}

/// Appends all samples to a new store, a batch a tick, and leaves it closed with nothing to maintain.
pub(crate) fn append_all(plan: &Plan, units: &[Unit], dir: &Path) -> anyhow::Result<()> {
    let clock = Arc::new(ManualClock::new(plan.start));
    let registry = telemetry::Registry::new();
    let disk = Arc::new(OsDisk);
    let db = Db::open(dir, disk, clock.clone(), Options::default(), &registry)?;
    let mut refs: Vec<Vec<SeriesRef>> = vec![Vec::new(); units.len()];
    let mut batch = Batch::new();
    for tick in 0..plan.ticks() {
        batch.clear();
        let mut introduced = Vec::new();
        scrapes(plan, units, tick, |unit, t, values| {
            let known = &refs[unit];
            if known.is_empty() {
                introduced.push(unit);
            }
            for (i, &v) in values.iter().enumerate() {
                match known.get(i) {
                    Some(&series) => batch.push(series, t, v),
                    None => {
                        batch.push_new(units[unit].series[i].labels.clone(), t, v);
                    }
                }
            }
            Ok(())
        })?;
        let appended = db.append(&batch)?;
        anyhow::ensure!(appended.rejected.is_empty(), "rejected: {:?}", appended.rejected[0]);
        let mut new_refs = appended.new_refs.into_iter();
        for unit in introduced {
            refs[unit] = new_refs.by_ref().take(units[unit].series.len()).collect();
        }
        clock.set(plan.start + tick.cast_signed() * INTERVAL_MS);
        if tick % 4 == 3 {
            db.maintain()?;
        }
    }
    // A round may leave the next one something to do.
    while db.maintain()? != tsdb::Maintenance::default() {}
    Ok(db.close()?)
}

fn peer(plan: &Plan, units: &[Unit], flags: &Flags) -> anyhow::Result<Sizes> {
    let dir = tempfile::tempdir()?;
    let mut server = flags.peer.start(dir.path())?;
    wait_ready(&mut server)?;
    let mut client = Client::connect(server.port())?;
    let encode = |unit: &Unit| {
        let encode = |labels: &model::Labels| {
            let mut bytes = Vec::new();
            encode_labels(labels.iter().map(|label| (label.name, label.value)), &mut bytes);
            bytes
        };
        unit.series.iter().map(|series| encode(&series.labels)).collect()
    };
    let labels: Vec<Vec<Vec<u8>>> = units.iter().map(encode).collect();
    for tick in 0..plan.ticks() {
        scrapes(plan, units, tick, |unit, t, values| {
            for (labels, &v) in labels[unit].iter().zip(values) {
                client.push(labels, std::iter::once((t, v)));
            }
            Ok(())
        })?;
        client.send()?;
    }
    // Cutting and merging go on behind the writes; a failed round is tried again after a minute.
    std::thread::sleep(std::time::Duration::from_secs(5));
    server.wait_quiet(std::time::Duration::from_secs(600))?;
    server.kill()?;
    Sizes::of(&dir.path().join("data"))
}

/// What is in the blocks of a data directory.
#[derive(Debug, Default)]
struct Sizes {
    blocks: u32,
    samples: f64,
    series: f64,
    chunk_bytes: f64,
    index_bytes: f64,
    bytes: f64,
}

impl Sizes {
    #[expect(clippy::cast_precision_loss, reason = "bytes below 2^53")]
    fn of(data: &Path) -> anyhow::Result<Self> {
        let mut sizes = Self::default();
        for entry in std::fs::read_dir(data)? {
            let block = entry?.path();
            let Ok(meta) = std::fs::read(block.join("meta.json")) else { continue };
            let meta: serde_json::Value = serde_json::from_slice(&meta)?;
            let stat = |name: &str| {
                let value = meta.pointer(&format!("/stats/{name}"));
                value.and_then(serde_json::Value::as_f64).with_context(|| format!("no {name}"))
            };
            sizes.blocks += 1;
            sizes.samples += stat("numSamples")?;
            sizes.series += stat("numSeries")?;
            sizes.chunk_bytes += folder_bytes(&block.join("chunks"))? as f64;
            sizes.index_bytes += std::fs::metadata(block.join("index"))?.len() as f64;
            sizes.bytes += folder_bytes(&block)? as f64;
        }
        anyhow::ensure!(sizes.blocks > 0, "no block was cut");
        Ok(sizes)
    }

    fn chunks_per_sample(&self) -> f64 {
        self.chunk_bytes / self.samples
    }

    fn index_per_sample(&self) -> f64 {
        self.index_bytes / self.samples
    }

    fn index_per_series(&self) -> f64 {
        self.index_bytes / self.series
    }

    fn all_per_sample(&self) -> f64 {
        self.bytes / self.samples
    }
}

fn print(out: &mut impl Write, profile: Profile, name: &str, sizes: &Sizes) -> anyhow::Result<()> {
    writeln!(
        out,
        "| {profile:?} | {name} | {} | {} | {} | {:.3} | {:.3} | {:.0} | {:.3} |",
        sizes.blocks,
        sizes.samples,
        sizes.series,
        sizes.chunks_per_sample(),
        sizes.index_per_sample(),
        sizes.index_per_series(),
        sizes.all_per_sample(),
    )?;
    Ok(out.flush()?)
}
