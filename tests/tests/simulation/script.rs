//! Everything that a store does, in a small space: what is done is a function of the seed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use model::{AppendError, Appended, Appender, Batch, ManualClock, MatchOp, Matcher, TimeRange};
use parking_lot::Mutex;
use telemetry::Registry;
use tests::load::{Point, STEP_MS, Value, Workload, mix};
use tsdb::{Db, Disk, Fsync, MemDisk, OpenError, Options, ReplayProgress, WalCompression};

use super::account::{Account, After, content};

/// Where the store is.
pub(super) const DATA: &str = "/data";

/// Steps of a block.
const BLOCK_STEPS: i64 = 16;
pub(super) const BLOCK_MS: i64 = BLOCK_STEPS * STEP_MS;
/// When the workload begins.
pub(super) const START: i64 = 1_700_006_400_000;
/// Blocks that are kept.
const RETENTION_BLOCKS: i64 = 6;

/// What is done to a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// The batch of a step.
    Append(i64),
    /// What was appended is made durable.
    Sync,
    /// A round of maintenance.
    Maintain,
    /// Some samples of one series, chosen by the number.
    Delete(u64),
    /// Blocks are rewritten without what was deleted.
    Clean,
    /// The store is copied, with its head or without.
    Snapshot(bool),
    /// Everything is read.
    Query,
    /// The store is closed and opened again.
    Close,
    /// The process ends without notice and the store is opened again.
    Kill,
}

/// A script.
#[derive(Clone, Debug)]
pub(super) struct Script {
    /// Decides everything.
    pub(super) seed: u64,
    /// What is done.
    pub(super) actions: Vec<Action>,
    fsync: Fsync,
}

impl Script {
    /// `steps` batches, and all else between them.
    pub(super) fn new(seed: u64, steps: i64, fsync: Fsync) -> Self {
        let mut actions = Vec::new();
        for step in 0..steps {
            let dice = |salt: u64| mix(seed ^ mix(salt << 32 | step.unsigned_abs()));
            actions.push(Action::Append(step));
            if step % 4 == 3 {
                actions.push(Action::Sync);
            }
            if step % 8 == 7 {
                actions.push(Action::Maintain);
            }
            if step % 6 == 5 && dice(1).is_multiple_of(2) {
                actions.push(Action::Delete(dice(2)));
            }
            match step % 24 {
                9 => actions.push(Action::Clean),
                14 => actions.push(Action::Snapshot(dice(3).is_multiple_of(2))),
                18 => actions.push(Action::Query),
                23 if dice(4).is_multiple_of(3) => actions.push(Action::Kill),
                23 => actions.push(Action::Close),
                _ => {}
            }
        }
        actions.push(Action::Close);
        Self { seed, actions, fsync }
    }

    /// An account of an empty store.
    pub(super) fn account() -> Account {
        Account::new(BLOCK_MS, RETENTION_BLOCKS * BLOCK_MS)
    }

    /// The options of the store.
    pub(super) fn options(&self) -> Options {
        let span = |ms: i64| Duration::from_millis(ms.unsigned_abs());
        let compressions = [WalCompression::None, WalCompression::Snappy, WalCompression::Zstd];
        Options {
            retention: span(RETENTION_BLOCKS * BLOCK_MS),
            min_block_duration: span(BLOCK_MS),
            max_block_duration: Some(span(3 * BLOCK_MS)),
            // More than the workload's latest.
            out_of_order_time_window: span(30 * STEP_MS),
            wal_segment_bytes: 1 << 15,
            wal_compression: compressions[usize::try_from(self.seed % 3).unwrap()],
            wal_fsync: self.fsync,
            ..Options::default()
        }
    }

    /// Opens the store on `disk`.
    ///
    /// # Errors
    /// As [`Db::open`].
    pub(super) fn open(&self, disk: &Arc<dyn Disk>) -> Result<Db, OpenError> {
        self.open_measured(disk, &Registry::new())
    }

    /// As [`open`](Self::open), with a registry of metrics.
    ///
    /// # Errors
    /// As [`Db::open`].
    pub(super) fn open_measured(
        &self,
        disk: &Arc<dyn Disk>,
        registry: &Registry,
    ) -> Result<Db, OpenError> {
        let clock = Arc::new(ManualClock::new(1_700_000_000_000));
        Db::open(Path::new(DATA), Arc::clone(disk), clock, self.options(), registry)
    }

    /// The samples of a step.
    pub(super) fn points(&self, step: i64) -> Vec<Point> {
        Workload { seed: self.seed, burst_series: 12 }.batch(0, step)
    }
}

/// What the disk may do, and what is expected then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Faults {
    /// It works.
    None,
    /// Any operation may fail.
    Possible,
}

/// A script that is being carried out.
pub(super) struct Run<'s> {
    script: &'s Script,
    memory: MemDisk,
    disk: Arc<dyn Disk>,
    /// Shared with who watches the disk.
    pub(super) account: Arc<Mutex<Account>>,
    /// `None` while it cannot be opened.
    pub(super) db: Option<Db>,
    /// Whether the disk may fail.
    pub(super) faults: Faults,
}

impl<'s> Run<'s> {
    /// On `memory`, through `disk`; the store is not open yet.
    pub(super) fn new(
        script: &'s Script,
        memory: MemDisk,
        disk: Arc<dyn Disk>,
        account: Arc<Mutex<Account>>,
    ) -> Self {
        Self { script, memory, disk, account, db: None, faults: Faults::None }
    }

    /// Opens the store, if it is not open.
    ///
    /// # Errors
    /// That it does not open, unless the disk may fail.
    pub(super) fn open(&mut self) -> Result<(), String> {
        if self.db.is_none() {
            match self.script.open(&self.disk) {
                Ok(db) => self.db = Some(db),
                Err(_) if self.may_fail() => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(())
    }

    /// Does one thing. Answers with which a disk's failure excuses the store are accepted if the disk may fail.
    ///
    /// # Errors
    /// What was not right.
    pub(super) fn perform(&mut self, action: Action) -> Result<(), String> {
        self.open()?;
        let Some(db) = &self.db else { return Ok(()) };
        match action {
            Action::Append(step) => {
                let points = self.script.points(step);
                let id = self.account.lock().begin(&points);
                match append(db, &points) {
                    Ok(refused) if refused.is_empty() || self.may_fail() => {
                        let durable = self.script.fsync == Fsync::Always;
                        self.account.lock().acknowledge(id, &refused, durable);
                    }
                    Ok(refused) => return Err(format!("refused at step {step}: {refused:?}")),
                    Err(error) => self.excuse(&error)?,
                }
            }
            Action::Sync => match db.sync() {
                Ok(()) => self.account.lock().synced(),
                Err(error) => self.excuse(&error)?,
            },
            Action::Maintain => db.maintain().map(drop).or_else(|error| self.excuse(&error))?,
            Action::Delete(dice) => self.delete(db, dice)?,
            Action::Clean => db.clean_tombstones().or_else(|error| self.excuse(&error))?,
            Action::Snapshot(with_head) => match db.snapshot(with_head) {
                Ok(name) => self.check_snapshot(&name, with_head)?,
                Err(error) => self.excuse(&error)?,
            },
            Action::Query => self.query(db)?,
            Action::Close => {
                match db.close() {
                    Ok(()) => self.account.lock().synced(),
                    Err(error) => self.excuse(&error)?,
                }
                self.reopen()?;
            }
            Action::Kill => {
                self.db = None;
                self.reopen()?;
            }
        }
        Ok(())
    }

    fn may_fail(&self) -> bool {
        self.faults != Faults::None
    }

    fn excuse(&self, error: &impl ToString) -> Result<(), String> {
        if self.may_fail() { Ok(()) } else { Err(error.to_string()) }
    }

    fn reopen(&mut self) -> Result<(), String> {
        self.db = None;
        self.open()?;
        match &self.db {
            Some(db) if !self.may_fail() => self.query(db),
            _ => Ok(()),
        }
    }

    /// The store has what it must, or says why not.
    fn query(&self, db: &Db) -> Result<(), String> {
        match content(db) {
            Ok((content, warnings)) if warnings.is_empty() => {
                self.account.lock().check(&content, After::Kill)
            }
            Ok((content, warnings)) => {
                let account = self.account.lock();
                for (series, samples) in &content {
                    account.check_found(series, samples)?;
                }
                self.excuse(&warnings.concat())
            }
            Err(error) => self.excuse(&error),
        }
    }

    fn delete(&self, db: &Db, dice: u64) -> Result<(), String> {
        let (labels, newest) = {
            let account = self.account.lock();
            let series = account.labels();
            let Ok(at) = usize::try_from(dice % series.len().max(1) as u64) else { return Ok(()) };
            let Some(labels) = series.get(at) else { return Ok(()) };
            (labels.clone(), account.newest())
        };
        let steps = |shift: u32, of: u64| i64::try_from((dice >> shift) % of).unwrap() * STEP_MS;
        let max = newest - steps(20, 40);
        let range = TimeRange::new(max - steps(30, 30), max);
        let matchers = labels.iter().map(|label| {
            Matcher::new(label.name, MatchOp::Equal, label.value).expect("it is no pattern")
        });
        let name = labels.to_string();
        self.account.lock().begin_deletion(&name, range);
        match db.delete_series(&[matchers.collect()], range) {
            Ok(()) => {
                self.account.lock().deleted(&name, range);
                Ok(())
            }
            Err(error) => self.excuse(&error),
        }
    }

    /// A copy opens, and has what the store has. It is removed, so that disks stay small.
    fn check_snapshot(&self, name: &str, with_head: bool) -> Result<(), String> {
        let dir = Path::new(DATA).join("snapshots").join(name);
        let progress = ReplayProgress::new();
        let copy: Arc<dyn Disk> = Arc::new(self.memory.clone());
        let clock = Arc::new(ManualClock::new(0));
        let opened = Db::open_read_only(&dir, copy, clock, self.script.options(), &progress);
        let read = opened
            .map_err(|error| error.to_string())
            .and_then(|db| content(&db).map_err(|error| error.to_string()));
        let _ = self.memory.remove_dir_all(&dir);
        let (content, warnings) = match read {
            Ok(read) => read,
            Err(error) => return self.excuse(&error),
        };
        if !warnings.is_empty() {
            return self.excuse(&warnings.concat());
        }
        let account = self.account.lock();
        if with_head && !self.may_fail() {
            return account.check(&content, After::Kill);
        }
        content.iter().try_for_each(|(series, samples)| account.check_found(series, samples))
    }
}

/// Appends the points; those that are refused.
pub(super) fn append(db: &Db, points: &[Point]) -> Result<Vec<(String, i64)>, AppendError> {
    let mut batch = Batch::new();
    let (mut floats, mut histograms) = (Vec::new(), Vec::new());
    for point in points {
        match &point.value {
            Value::Float(v) => {
                batch.push_new(point.labels.clone(), point.t, *v);
                floats.push(point);
            }
            Value::Histogram(histogram) => {
                let series = batch.introduce(point.labels.clone());
                batch.push_histogram(series, point.t, histogram.clone());
                histograms.push(point);
            }
        }
    }
    let Appended { rejected, rejected_histograms, .. } = db.append(&batch)?;
    let refused = rejected.iter().map(|rejected| floats[rejected.index]);
    let refused =
        refused.chain(rejected_histograms.iter().map(|rejected| histograms[rejected.index]));
    Ok(refused.map(|point| (point.labels.to_string(), point.t)).collect())
}
