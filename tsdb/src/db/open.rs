//! Opening a store: lock the folder, load the blocks, replay the log.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::Clock;
use parking_lot::{Mutex, RwLock};
use telemetry::Registry;
use ulid::Ulid;

use super::append::Writer;
use super::{Blocks, Db, LeftOut, Upkeep};
use crate::block::meta::Meta;
use crate::block::{Block, CREATION_SUFFIX, DELETION_SUFFIX};
use crate::disk::{Disk, create_dir_durably, exists};
use crate::head::Head;
use crate::head::views::Views;
use crate::metrics::Metrics;
use crate::options::Options;
use crate::wal::record::{self, Kind, RefSample};
use crate::wal::replay::{Damage, read_segment, repair_segment};
use crate::wal::{Wal, WalError, checkpoint, segments};

const LOCK_FILE: &str = "lock";
pub(super) const WAL_DIR: &str = "wal";
/// What a Prometheus may leave and this version does not read.
const UNREAD: [&str; 2] = ["chunks_head", "wbl"];

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("data directory {path} is in use by another process")]
    InUse {
        /// The folder.
        path: String,
    },
    /// A file or folder cannot be read or written.
    #[error("cannot open data directory: {path}: {source}")]
    Io {
        /// The file or folder.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

impl From<WalError> for OpenError {
    fn from(WalError { path, source }: WalError) -> Self {
        Self::Io { path, source }
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.display().to_string();
    move |source| OpenError::Io { path, source }
}

impl Db {
    /// Opens the store in folder `path`, which is created if need be, and replays its log.
    ///
    /// What is damaged costs itself and no more: a torn end of the log is cut off, damage in its middle is skipped and removed, a block that cannot be
    /// read is left out. All of it is logged, counted, and named in the warnings of queries.
    ///
    /// # Errors
    /// [`OpenError`] if the folder is in use, or cannot be read or written.
    pub fn open(
        path: &Path,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        options: Options,
        registry: &Registry,
    ) -> Result<Self, OpenError> {
        create_dir_durably(disk.as_ref(), path).map_err(failed(path))?;
        let lock_path = path.join(LOCK_FILE);
        let lock = disk.lock(&lock_path).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => OpenError::InUse { path: path.display().to_string() },
            _ => failed(&lock_path)(error),
        })?;
        let metrics = Metrics::new(registry);
        let blocks = load_blocks(disk.as_ref(), path, &metrics)?;
        let mut head = Head::new(milliseconds(options.min_block_duration).max(1));
        if let Some(end) = blocks.loaded.iter().map(|block| block.meta.max_time).max() {
            head.set_min_valid(end);
        }
        let wal_dir = path.join(WAL_DIR);
        create_dir_durably(disk.as_ref(), &wal_dir).map_err(failed(&wal_dir))?;
        let started = Instant::now();
        let replayed = Replay::new(&mut head, &metrics).run(disk.as_ref(), &wal_dir, &options)?;
        metrics.replay_seconds.set(started.elapsed().as_secs_f64());
        let upkeep = upkeep_after(replayed.aliases, &mut head, replayed.next_segment);
        let wal = Wal::new(
            Arc::clone(&disk),
            wal_dir,
            replayed.next_segment,
            options.wal_segment_bytes,
            options.wal_compression,
        );
        let db = Self {
            dir: path.to_path_buf(),
            disk,
            clock,
            options,
            metrics,
            maintenance: Mutex::new(upkeep),
            writer: Mutex::new(Writer::new(wal)),
            head: RwLock::new(head),
            blocks: RwLock::new(Arc::new(blocks)),
            views: Views::default(),
            _lock: lock,
        };
        db.update_gauges(&db.head.read());
        db.update_block_gauges();
        Ok(db)
    }
}

/// Drops the series that have no samples since all of theirs are in blocks, and notes which refs the log may still mention.
fn upkeep_after(aliases: HashMap<u64, u64>, head: &mut Head, next_segment: u32) -> Upkeep {
    let last_segment = next_segment.saturating_sub(1);
    let plan = head.plan_truncation(head.min_valid());
    let dropped = head.truncate(plan).into_iter().map(|dropped| dropped.series);
    let retired = dropped.chain(aliases.keys().copied()).map(|series| (series, last_segment));
    Upkeep { truncate_before: None, retired: retired.collect(), aliases }
}

/// Whole milliseconds.
pub(super) fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Removes what was left unfinished and opens all blocks that can be opened.
fn load_blocks(disk: &dyn Disk, dir: &Path, metrics: &Metrics) -> Result<Blocks, OpenError> {
    let mut blocks = Blocks::default();
    let mut broken: Vec<(Ulid, LeftOut)> = Vec::new();
    for entry in disk.list(dir).map_err(failed(dir))? {
        let path = dir.join(&entry.name);
        if !entry.is_dir {
            continue;
        }
        if UNREAD.contains(&entry.name.as_str()) {
            tracing::info!(path = %path.display(), "not read by this version; the write-ahead log is");
        } else if entry.name.ends_with(CREATION_SUFFIX) || entry.name.ends_with(DELETION_SUFFIX) {
            tracing::info!(path = %path.display(), "removing what was left unfinished");
            disk.remove_dir_all(&path).map_err(failed(&path))?;
        } else if let Ok(ulid) = Ulid::from_string(&entry.name) {
            match open_block(disk, &path, metrics) {
                Ok(block) => blocks.loaded.push(Arc::new(block)),
                Err(left_out) => broken.push((ulid, left_out)),
            }
        }
    }
    let obsolete = obsolete_blocks(&blocks.loaded);
    blocks.loaded.retain(|block| !obsolete.contains(&block.meta.ulid));
    for ulid in &obsolete {
        let path = dir.join(ulid.to_string());
        if let Err(error) = delete_block(disk, &path) {
            tracing::warn!(block = %path.display(), %error, "cannot delete an obsolete block");
        }
    }
    for (_, left_out) in broken.into_iter().filter(|(ulid, _)| !obsolete.contains(ulid)) {
        tracing::error!("{}", left_out.warning);
        metrics.blocks_failed.inc();
        blocks.left_out.push(left_out);
    }
    blocks.sort();
    Ok(blocks)
}

/// Blocks that others were made from, and empty ones: their deletion was interrupted.
fn obsolete_blocks(loaded: &[Arc<Block>]) -> HashSet<Ulid> {
    let parents = loaded.iter().flat_map(|block| &block.meta.compaction.parents);
    let deletable = loaded.iter().filter(|block| block.meta.compaction.deletable);
    parents.map(|parent| parent.ulid).chain(deletable.map(|block| block.meta.ulid)).collect()
}

fn open_block(disk: &dyn Disk, path: &Path, metrics: &Metrics) -> Result<Block, LeftOut> {
    let left_out = |range, reason: String| {
        let warning = format!("block {} is left out: {reason}", path.display());
        LeftOut { range, warning }
    };
    let meta =
        Meta::read(disk, path).map_err(|error| left_out(None, format!("meta.json: {error}")))?;
    let range = meta.range();
    Block::open(disk, path, meta, metrics.chunks_skipped.clone())
        .map_err(|error| left_out(Some(range), error.to_string()))
}

/// Deletes the block in `dir`, if it is there: first its name, so that half of a block is never taken for one.
pub(super) fn delete_block(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    if !exists(disk, dir)? {
        return Ok(());
    }
    let mut name = dir.as_os_str().to_owned();
    name.push(DELETION_SUFFIX);
    let doomed = PathBuf::from(name);
    disk.rename(dir, &doomed)?;
    if let Some(parent) = dir.parent() {
        disk.sync_dir(parent)?;
    }
    disk.remove_dir_all(&doomed)
}

impl Blocks {
    pub(super) fn sort(&mut self) {
        self.loaded.sort_by_key(|block| (block.meta.min_time, block.meta.max_time));
    }
}

/// Fills the head from the log.
struct Replay<'a> {
    head: &'a mut Head,
    metrics: &'a Metrics,
    aliases: HashMap<u64, u64>,
    samples: Vec<RefSample>,
    samples_unknown: u64,
    samples_replayed: u64,
    records_skipped: u64,
}

/// What a replay leaves beside the head.
struct Replayed {
    /// Refs that were logged for a series that has another.
    aliases: HashMap<u64, u64>,
    next_segment: u32,
}

impl<'a> Replay<'a> {
    fn new(head: &'a mut Head, metrics: &'a Metrics) -> Self {
        Self {
            head,
            metrics,
            aliases: HashMap::new(),
            samples: Vec::new(),
            samples_unknown: 0,
            samples_replayed: 0,
            records_skipped: 0,
        }
    }

    /// Replays the log in `dir`.
    fn run(
        mut self,
        disk: &dyn Disk,
        dir: &Path,
        options: &Options,
    ) -> Result<Replayed, OpenError> {
        let listing = segments::list(disk, dir).map_err(failed(dir))?;
        for (path, is_dir) in &listing.leftovers {
            let removed = if *is_dir { disk.remove_dir_all(path) } else { disk.remove_file(path) };
            removed.map_err(failed(path))?;
        }
        let mut next_segment = 0;
        if let Some((last, checkpoint)) = listing.checkpoints.last() {
            next_segment = last.saturating_add(1);
            let inner = segments::list(disk, checkpoint).map_err(failed(checkpoint))?;
            for (_, path) in &inner.segments {
                self.segment(disk, path, options)?;
            }
            // Its segments may still be there if the process ended before they were removed.
            checkpoint::remove_replaced(disk, dir, *last).map_err(failed(dir))?;
        }
        let first = next_segment;
        for (number, path) in listing.segments.iter().filter(|(number, _)| *number >= first) {
            if *number != next_segment && next_segment > 0 {
                tracing::warn!(segment = %path.display(), "the log lacks the segments before this");
            }
            self.segment(disk, path, options)?;
            next_segment = number.saturating_add(1);
        }
        self.summarize();
        Ok(Replayed { aliases: self.aliases, next_segment })
    }

    fn summarize(&self) {
        if self.samples_unknown > 0 {
            tracing::warn!(
                samples = self.samples_unknown,
                "the log has samples of series that it does not have"
            );
        }
        if self.records_skipped > 0 {
            tracing::warn!(
                records = self.records_skipped,
                "the log has records of kinds that this version does not keep"
            );
        }
        tracing::info!(
            series = self.head.len(),
            samples = self.samples_replayed,
            "write-ahead log replayed"
        );
    }

    fn segment(&mut self, disk: &dyn Disk, path: &Path, options: &Options) -> Result<(), WalError> {
        let damage = read_segment(disk, path, |record| match record::kind(record) {
            Kind::Series => record::read_series(record, |series, pairs| self.series(series, pairs)),
            Kind::Samples => {
                self.samples.clear();
                record::read_samples(record, &mut self.samples)?;
                self.append_samples();
                Ok(())
            }
            Kind::Other(kind) => {
                self.metrics.records_skipped.with_label_values(&[kind]).inc();
                self.records_skipped += 1;
                Ok(())
            }
        })?;
        self.report(path, &damage);
        repair_segment(disk, path, &damage, options.wal_compression)
    }

    fn report(&self, path: &Path, damage: &Damage) {
        for lost in &damage.lost {
            tracing::warn!(
                segment = %path.display(), offset = lost.offset, bytes = lost.bytes,
                reason = %lost.reason, "damage in the write-ahead log, these bytes are lost"
            );
            self.metrics.wal_corruptions.inc();
            self.metrics.wal_bytes_lost.inc_by(lost.bytes);
        }
        if damage.foreign > 0 {
            tracing::warn!(
                segment = %path.display(), records = damage.foreign,
                "records in a compression that is not supported are passed over"
            );
            let counter = self.metrics.records_skipped.with_label_values(&["compressed"]);
            counter.inc_by(damage.foreign);
        }
    }

    fn series(&mut self, series: u64, pairs: &[(&str, &str)]) {
        self.head.reserve_ref(series);
        if pairs.is_empty() || self.head.slot(series).is_some() {
            return;
        }
        match self.head.labels.find(pairs.iter().copied()) {
            // Logged twice: a Prometheus drops a series from memory and creates it anew under another ref.
            Some(slot) => {
                self.aliases.insert(series, self.head.series_ref(slot));
            }
            None => {
                if self.head.add_series(series, pairs.iter().copied()).is_none() {
                    tracing::error!(series, "no room for a series of the log");
                }
            }
        }
    }

    fn append_samples(&mut self) {
        for &RefSample { series, t, v } in &self.samples {
            // Even a ref whose series is lost must not be given to another.
            self.head.reserve_ref(series);
            if t < self.head.min_valid() {
                continue;
            }
            let series = self.aliases.get(&series).copied().unwrap_or(series);
            let Some(slot) = self.head.slot(series) else {
                self.samples_unknown += 1;
                continue;
            };
            if self.head.last(slot).is_none_or(|last| t > last.t) {
                self.head.append(slot, t, v, None);
                self.samples_replayed += 1;
            }
        }
    }
}

/// The folder of the log.
pub(super) fn wal_dir(db: &Db) -> PathBuf {
    db.dir.join(WAL_DIR)
}
