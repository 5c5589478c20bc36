//! Opening a store: lock the folder, load the blocks, fill the head.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};
use std::time::{Duration, Instant};

use model::{Clock, HistogramValue};
use parking_lot::{Mutex, RwLock};
use telemetry::Registry;

use super::append::Writer;
use super::load::{block_names, load_blocks};
use super::replay::{Counts, Held, Replay, ReplayProgress, Supplemented};
use super::{Blocks, Db, Retention, Upkeep, snapshot};
use crate::disk::{Disk, create_dir_durably};
use crate::head::Head;
use crate::head::chunk_store::{self, CHUNKS_HEAD_DIR, ChunkStore};
use crate::head::views::Views;
use crate::metrics::Metrics;
use crate::options::Options;
use crate::recode::SampleValue;
use crate::wal::record::histograms::RefHistogram;
use crate::wal::record::{self, RefSample, histograms};
use crate::wal::{Wal, WalError};

const LOCK_FILE: &str = "lock";
pub(crate) const WAL_DIR: &str = "wal";
/// The log of late samples.
pub(crate) const WBL_DIR: &str = "wbl";

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

pub(super) fn failed(path: &Path) -> impl FnOnce(io::Error) -> OpenError + use<> {
    let path = path.display().to_string();
    move |source| OpenError::Io { path, source }
}

/// What opening is done with.
struct Opening<'a> {
    path: &'a Path,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    options: Options,
    metrics: Metrics,
    progress: &'a ReplayProgress,
    may_write: bool,
}

impl Db {
    /// Opens the store in folder `path`, which is created if need be, and replays its log.
    ///
    /// What is damaged costs itself and no more: a torn end of the log is cut off, damage in its middle is skipped and removed, a block that cannot be
    /// read is set aside. All of it is logged, counted, and named in the warnings of queries.
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
        Self::open_watched(path, disk, clock, options, registry, &ReplayProgress::new())
    }

    /// As [`open`](Self::open); `progress` tells how far the replay is meanwhile.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_watched(
        path: &Path,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        options: Options,
        registry: &Registry,
        progress: &ReplayProgress,
    ) -> Result<Self, OpenError> {
        create_dir_durably(disk.as_ref(), path).map_err(failed(path))?;
        let lock_path = path.join(LOCK_FILE);
        let lock = disk.lock(&lock_path).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => OpenError::InUse { path: path.display().to_string() },
            _ => failed(&lock_path)(error),
        })?;
        // The log of late samples comes with the first of them: promtool stumbles over an empty one.
        for dir in [WAL_DIR, CHUNKS_HEAD_DIR].map(|name| path.join(name)) {
            create_dir_durably(disk.as_ref(), &dir).map_err(failed(&dir))?;
        }
        let metrics = Metrics::new(registry);
        let mut db =
            Opening { path, disk, clock, options, metrics, progress, may_write: true }.run()?;
        db.lock = Some(lock);
        Ok(db)
    }

    /// Opens the store in folder `path` to look at it: nothing is locked, written, repaired or removed, so this works beside a running server and on a
    /// file system that cannot be written. Appending fails.
    ///
    /// # Errors
    /// [`OpenError`] if the folder cannot be read.
    pub fn open_read_only(
        path: &Path,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        options: Options,
        progress: &ReplayProgress,
    ) -> Result<Self, OpenError> {
        disk.list(path).map_err(failed(path))?;
        let metrics = Metrics::new(&Registry::new());
        Opening { path, disk, clock, options, metrics, progress, may_write: false }.run()
    }
}

impl Opening<'_> {
    fn run(self) -> Result<Db, OpenError> {
        let disk = self.disk.as_ref();
        let found_at_start = block_names(disk, self.path)?;
        let blocks = load_blocks(disk, self.path, &self.metrics, self.may_write)?;
        let started = Instant::now();
        let filled = self.fill(&blocks)?;
        let Filled { mut head, aliases, retired, next_segments, unread_segments, .. } = filled;
        self.metrics.replay_seconds.set(started.elapsed().as_secs_f64());
        let mut upkeep = upkeep_after(aliases, retired, &mut head, next_segments[0]);
        upkeep.unread_segments = unread_segments;
        upkeep.found_at_start = found_at_start;
        let [wal, wbl] =
            [(WAL_DIR, next_segments[0]), (WBL_DIR, next_segments[1])].map(|(name, next)| {
                Wal::new(
                    Arc::clone(&self.disk),
                    self.path.join(name),
                    next,
                    self.options.wal_segment_bytes,
                    self.options.wal_compression,
                )
            });
        let mut writer = Writer::new(wal, wbl);
        if self.may_write
            && let Err(error) = log_late(&mut writer, &filled.supplemented)
        {
            tracing::warn!(%error, "samples that the log lost are in memory alone");
        }
        let retention = Retention::of(&self.options);
        let late_window = AtomicI64::new(milliseconds(self.options.out_of_order_time_window));
        let stale_threshold =
            AtomicU64::new(self.options.stale_series_compaction_threshold.to_bits());
        let db = Db {
            dir: self.path.to_path_buf(),
            disk: self.disk,
            clock: self.clock,
            options: self.options,
            retention: Mutex::new(retention),
            late_window,
            stale_threshold,
            metrics: self.metrics,
            maintenance: Mutex::new(upkeep),
            writer: Mutex::new(writer),
            head: RwLock::new(head),
            blocks: RwLock::new(Arc::new(blocks)),
            views: Views::default(),
            doomed: Mutex::default(),
            may_write: self.may_write,
            stopping: AtomicBool::new(false),
            lock: None,
        };
        db.update_gauges(&db.head.read());
        db.update_block_gauges();
        Ok(db)
    }

    /// Fills a head with what the blocks do not have.
    fn fill(&self, blocks: &Blocks) -> Result<Filled, OpenError> {
        let disk = self.disk.as_ref();
        let chunks_dir = self.path.join(CHUNKS_HEAD_DIR);
        let old_files = chunk_store::list_files(disk, &chunks_dir).map_err(failed(&chunks_dir))?;
        let next_file = old_files.last().map_or(1, |(number, _)| number.saturating_add(1));
        let place = self.may_write.then(|| (Arc::clone(&self.disk), chunks_dir.clone()));
        let range = milliseconds(self.options.min_block_duration).max(1);
        let fresh = |next_file| {
            let store = ChunkStore::new(place.clone(), next_file);
            let mut head = Head::new(range, store, self.options.exemplars_max);
            if let Some(end) = blocks.end_in_order() {
                head.set_min_valid(end);
            }
            head
        };
        let mut head = fresh(1);
        let mut restored = None;
        if self.may_write {
            snapshot::remove_unfinished(disk, self.path)
                .map_err(|(path, error)| failed(&path)(error))?;
            if self.options.head_snapshots {
                restored = snapshot::restore(disk, self.path, &mut head, || fresh(next_file));
            }
        }
        if restored.is_none() {
            head = fresh(next_file);
        } else {
            // The replay writes anew what came after the snapshot.
            self.remove_chunks(&old_files, |number| head.chunks.has_file(number));
        }
        let mark = restored.as_ref().map(|restored| restored.mark);
        let (aliases, retired) =
            restored.map_or_else(Default::default, |restored| (restored.aliases, restored.retired));
        let mut replay = Replay {
            head: &mut head,
            metrics: &self.metrics,
            options: &self.options,
            disk,
            progress: self.progress,
            may_write: self.may_write,
            aliases,
            unread_segments: Vec::new(),
            held: Held::default(),
            supplemented: Vec::new(),
            counts: Counts::default(),
        };
        let wal_dir = self.path.join(WAL_DIR);
        let has_wal = crate::disk::exists(disk, &wal_dir).map_err(failed(&wal_dir))?;
        let next_wal = if has_wal { replay.wal(&wal_dir, mark)? } else { 0 };
        let unread_segments = std::mem::take(&mut replay.unread_segments);
        let next_wbl = replay.wbl(&self.path.join(WBL_DIR))?;
        if replay.counts.damages > 0 && mark.is_none() {
            replay.supplement(&old_files)?;
        }
        replay.summarize();
        let (aliases, supplemented) = (replay.aliases, replay.supplemented);
        head.chunks.flush();
        if self.may_write && mark.is_none() {
            // The head has written its full chunks anew.
            self.remove_chunks(&old_files, |_| false);
        }
        let next_segments = [next_wal, next_wbl];
        Ok(Filled { head, aliases, retired, next_segments, unread_segments, supplemented })
    }

    fn remove_chunks(&self, files: &[(u32, PathBuf)], keeps: impl Fn(u32) -> bool) {
        for (_, path) in files.iter().filter(|(number, _)| !keeps(*number)) {
            if let Err(error) = self.disk.remove_file(path) {
                tracing::warn!(path = %path.display(), %error, "cannot remove head chunks");
            }
        }
    }
}

/// A head, and what a replay leaves beside it.
struct Filled {
    head: Head,
    /// Refs that were logged for a series that has another.
    aliases: HashMap<u64, u64>,
    /// Of series that left the head before a snapshot.
    retired: HashMap<u64, u32>,
    /// Of the log and the log of late samples.
    next_segments: [u32; 2],
    /// Of the log, those that a snapshot made unnecessary to read.
    unread_segments: Vec<u32>,
    /// Samples that no log has.
    supplemented: Vec<Supplemented>,
}

/// Writes samples that no log has to the log of late ones: the other has later ones already.
fn log_late(writer: &mut Writer, samples: &[Supplemented]) -> Result<(), WalError> {
    const SAMPLES_PER_RECORD: usize = 10_000;
    for part in samples.chunks(SAMPLES_PER_RECORD) {
        let (mut floats, mut with_starts) = (Vec::new(), Vec::new());
        let (mut of_histograms, mut integers, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for &Supplemented { series, t, start, ref value } in part {
            match value {
                SampleValue::Float(v) if start == 0 => floats.push(RefSample { series, t, v: *v }),
                SampleValue::Float(v) => with_starts.push((RefSample { series, t, v: *v }, start)),
                SampleValue::Histogram(histogram) if start == 0 => {
                    of_histograms.push((series, t, histogram));
                }
                SampleValue::Histogram(histogram) => {
                    let is_integer = matches!(histogram, HistogramValue::Integer(_));
                    let of_kind = if is_integer { &mut integers } else { &mut others };
                    of_kind.push(RefHistogram { series, t, start, histogram: histogram.clone() });
                }
            }
        }
        let (mut records, mut more) = (Vec::new(), [const { Vec::new() }; 4]);
        histograms::put(&mut records, of_histograms.into_iter());
        record::put_samples(&mut more[0], floats.into_iter());
        record::put_samples_with_starts(&mut more[1], with_starts.into_iter());
        histograms::put_with_starts(&mut more[2], integers.iter());
        histograms::put_with_starts(&mut more[3], others.iter());
        records.extend(more.into_iter().filter(|record| !record.is_empty()));
        let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
        writer.wbl.append(&records)?;
    }
    Ok(())
}

/// Drops the series that have no samples since all of theirs are in blocks, and notes which refs the log may still mention.
fn upkeep_after(
    aliases: HashMap<u64, u64>,
    mut retired: HashMap<u64, u32>,
    head: &mut Head,
    next_segment: u32,
) -> Upkeep {
    let last_segment = next_segment.saturating_sub(1);
    let plan = head.plan_truncation(head.min_valid());
    let dropped = head.truncate(plan).into_iter().map(|dropped| dropped.series);
    retired.extend(dropped.chain(aliases.keys().copied()).map(|series| (series, last_segment)));
    Upkeep { retired, aliases, first_segment: next_segment, ..Upkeep::default() }
}

/// Whole milliseconds.
pub(super) fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The folder of the log.
pub(super) fn wal_dir(db: &Db) -> PathBuf {
    db.dir.join(WAL_DIR)
}
