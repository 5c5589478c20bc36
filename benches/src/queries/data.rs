//! The samples that queries are asked of: a day in blocks, and an hour in a head.
//!
//! Our store's library writes both once. Servers get links to the blocks, which nobody changes, and copies of the head.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use model::{Labels, ManualClock, Timestamp};
use tempfile::TempDir;
use tsdb::tools::BlockBuilder;
use tsdb::{Db, Disk, Options, OsDisk};
use ulid::Ulid;

use super::victoria;
use crate::blocks::append_all;
use crate::memory::START_MS;
use crate::population::{INTERVAL_MS, Plan, Profile, TICKS_PER_HOUR, Unit};
use crate::process::copy_folder;
use crate::profile::mix;

/// Hours of a block before it is merged with others.
const BLOCK_HOURS: u64 = 2;
/// Hours in the head, too few for a block to be cut.
const HEAD_HOURS: u64 = 1;
/// What is kept: everything, and blocks may be merged as far as Prometheus ever does.
const RETENTION: Duration = Duration::from_secs(3650 * 86_400);
/// Describes the samples, so that a folder with others is noticed.
const DESCRIPTION: &str = "population.json";

/// A folder with the samples.
#[derive(Debug)]
pub(crate) struct Data {
    folder: PathBuf,
    /// Removed at the end, if it is not to be kept.
    _temporary: Option<TempDir>,
    plan: Plan,
}

/// What is in it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Contents {
    pub(crate) blocks: usize,
    pub(crate) samples: u64,
    /// Of all blocks: a series of several counts in each.
    pub(crate) series: u64,
}

impl Data {
    /// The samples in `kept`, which are written if they are not there; without `kept` somewhere, until this is dropped.
    ///
    /// # Errors
    /// When a file cannot be read or written, when `kept` has other samples, or when `promtool` does not accept the blocks.
    pub(crate) fn new(
        kept: Option<&Path>,
        pods: u64,
        hours: u64,
        seed: u64,
        promtool: &str,
    ) -> anyhow::Result<Self> {
        let profile = Profile::Service;
        let plan = Plan { profile, seed, units: pods, hours, churn_percent: 300, start: START_MS };
        let (folder, temporary) = match kept {
            Some(kept) => (kept.to_path_buf(), None),
            None => {
                let temporary = tempfile::tempdir()?;
                (temporary.path().to_path_buf(), Some(temporary))
            }
        };
        let data = Self { folder, _temporary: temporary, plan };
        // What the samples depend on; a change of the generator needs another number.
        let description =
            format!("{{\"version\":1,\"pods\":{pods},\"hours\":{hours},\"seed\":{seed}}}");
        let path = data.folder.join(DESCRIPTION);
        match std::fs::read_to_string(&path) {
            Ok(found) if found == description => {}
            Ok(found) => anyhow::bail!("{} has {found}, not {description}", path.display()),
            Err(_) => {
                data.write(promtool)?;
                std::fs::write(path, description)?;
            }
        }
        Ok(data)
    }

    fn write(&self, promtool: &str) -> anyhow::Result<()> {
        let (blocks, head) = (self.folder.join("blocks"), self.folder.join("head"));
        for folder in [&blocks, &head] {
            anyhow::ensure!(!folder.exists(), "{} is there, incomplete", folder.display());
        }
        let units = self.plan.units()?;
        write_blocks(&self.plan, &units, &blocks)?;
        merge(&blocks)?;
        let analyzed = Command::new(promtool).args(["tsdb", "analyze"]).arg(&blocks).output();
        let analyzed = analyzed.with_context(|| format!("cannot start {promtool}"))?;
        let complaint = String::from_utf8_lossy(&analyzed.stderr);
        anyhow::ensure!(analyzed.status.success(), "promtool tsdb analyze: {complaint}");
        let plan = Plan { hours: HEAD_HOURS, ..self.plan };
        append_all(&plan, &plan.units()?, &head)
    }

    pub(crate) fn contents(&self) -> anyhow::Result<Contents> {
        let disk: Arc<dyn Disk> = Arc::new(OsDisk);
        let (blocks, broken) = tsdb::tools::list(&disk, &self.folder.join("blocks"))?;
        anyhow::ensure!(broken.is_empty(), "{}", broken.join(", "));
        Ok(Contents {
            blocks: blocks.len(),
            samples: blocks.iter().map(|block| block.samples).sum(),
            series: blocks.iter().map(|block| block.series).sum(),
        })
    }

    /// The folder of a VictoriaMetrics that has the samples of the blocks; `program` fills it if it is not there.
    pub(crate) fn with_victoria(&self, program: &str) -> anyhow::Result<PathBuf> {
        victoria::filled(program, &self.folder, &self.plan, &self.plan.units()?)
    }

    /// First time after all samples in the blocks.
    pub(crate) fn end(&self) -> Timestamp {
        self.plan.start + hours_ms(self.plan.hours)
    }

    /// First time after all samples in the head.
    pub(crate) fn head_end(&self) -> Timestamp {
        self.plan.start + hours_ms(HEAD_HOURS)
    }

    /// A folder for a server whose `data` has the blocks.
    pub(crate) fn with_blocks(&self) -> anyhow::Result<TempDir> {
        // On the same file system, for links.
        let folder = tempfile::tempdir_in(&self.folder)?;
        let from = self.folder.join("blocks");
        for entry in std::fs::read_dir(&from)? {
            let name = entry?.file_name();
            if from.join(&name).join("meta.json").exists() {
                link_folder(&from.join(&name), &folder.path().join("data").join(&name))?;
            }
        }
        Ok(folder)
    }

    /// A folder for a server whose `data` has the head.
    pub(crate) fn with_head(&self) -> anyhow::Result<TempDir> {
        let folder = tempfile::tempdir_in(&self.folder)?;
        copy_folder(&self.folder.join("head"), &folder.path().join("data"))?;
        Ok(folder)
    }
}

fn hours_ms(hours: u64) -> i64 {
    (hours * TICKS_PER_HOUR).cast_signed() * INTERVAL_MS
}

/// Writes blocks of two hours, one a thread at a time.
fn write_blocks(plan: &Plan, units: &[Unit], dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir)?;
    let blocks = plan.hours.div_ceil(BLOCK_HOURS);
    let next = AtomicU64::new(0);
    let work = || -> anyhow::Result<()> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= blocks {
                return Ok(());
            }
            write_block(plan, units, number, dir)?;
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        running.into_iter().try_for_each(|thread| {
            thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a writer panicked")))
        })
    })
}

fn write_block(plan: &Plan, units: &[Unit], number: u64, dir: &Path) -> anyhow::Result<()> {
    let mut builder = BlockBuilder::new(hours_ms(BLOCK_HOURS));
    let mut values = Vec::new();
    let ticks = number * BLOCK_HOURS * TICKS_PER_HOUR..(number + 1) * BLOCK_HOURS * TICKS_PER_HOUR;
    for unit in units {
        // The builder looks for the series of each sample, which is quick among few; they are kept in order of series.
        let mut columns: Vec<(&Labels, Vec<(Timestamp, f64)>)> =
            unit.series.iter().map(|series| (&series.labels, Vec::new())).collect();
        for tick in ticks.clone() {
            let Some(t) = unit.scrape(plan, tick, &mut values) else { continue };
            for ((_, samples), &v) in columns.iter_mut().zip(&values) {
                samples.push((t, v));
            }
        }
        for (labels, samples) in columns {
            for (t, v) in samples {
                builder.add(labels, t, v);
            }
        }
    }
    let end = plan.start + hours_ms((number + 1) * BLOCK_HOURS);
    let name = Ulid::from_parts(end.unsigned_abs(), u128::from(mix(plan.seed ^ number)));
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    let written = builder.write(&disk, dir, |_| name)?;
    anyhow::ensure!(written.len() <= 1, "samples of {} blocks, not one", written.len());
    Ok(())
}

/// Merges blocks as a server does that has run all the time, so that none begins to merge while it is measured.
fn merge(dir: &Path) -> anyhow::Result<()> {
    let clock = Arc::new(ManualClock::new(START_MS));
    let registry = telemetry::Registry::new();
    let options = Options { retention: RETENTION, ..Options::default() };
    let db = Db::open(dir, Arc::new(OsDisk), clock, options, &registry)?;
    while db.maintain()? != tsdb::Maintenance::default() {}
    Ok(db.close()?)
}

/// Links to all files.
fn link_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            link_folder(&entry.path(), &target)?;
        } else {
            std::fs::hard_link(entry.path(), target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_have_every_scrape_once() {
        let profile = Profile::Service;
        let plan =
            Plan { profile, seed: 3, units: 10, hours: 6, churn_percent: 300, start: START_MS };
        let units = plan.units().unwrap();
        let dir = tempfile::tempdir().unwrap();
        write_blocks(&plan, &units, dir.path()).unwrap();
        let disk: Arc<dyn Disk> = Arc::new(OsDisk);
        let (blocks, broken) = tsdb::tools::list(&disk, dir.path()).unwrap();
        assert!(broken.is_empty(), "{broken:?}");
        let mut values = Vec::new();
        let scrapes = units
            .iter()
            .flat_map(|unit| (0..plan.ticks()).map(move |tick| (unit, tick)))
            .filter(|(unit, tick)| unit.scrape(&plan, *tick, &mut values).is_some());
        let expected: usize = scrapes.map(|(unit, _)| unit.series.len()).sum();
        assert_eq!(blocks.iter().map(|block| block.samples).sum::<u64>(), expected as u64);
        for (number, block) in (0..).zip(&blocks) {
            let start = START_MS + number * 7_200_000;
            assert_eq!((block.min_time, block.max_time), (start, start + 7_200_000));
        }
        assert_eq!(blocks.len(), 3);
    }

    #[test]
    fn a_folder_with_other_samples_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let description = "{\"version\":1,\"pods\":7,\"hours\":24,\"seed\":1}";
        std::fs::write(dir.path().join(DESCRIPTION), description).unwrap();
        let open = |pods, seed| Data::new(Some(dir.path()), pods, 24, seed, "promtool");
        open(7, 1).unwrap();
        for (pods, seed) in [(8, 1), (7, 2)] {
            let error = open(pods, seed).unwrap_err().to_string();
            assert!(error.contains("\"pods\":7"), "{error}");
        }
    }
}
