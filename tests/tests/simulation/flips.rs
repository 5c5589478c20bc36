//! One bit of a store is flipped: in every byte of every file.
//!
//! Whatever is read must be right. What is missing must be named: by an error, by a warning of the query, or as damage of the log. And damage
//! costs what it hits, not the rest.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::{Columns, QueryContext, Queryable, Selection, SeriesSet, TimeRange, Timestamp};
use parking_lot::Mutex;
use tests::conformance::note;
use tests::faults::seed;
use tests::load::{Point, STEP_MS, Value, mix};
use tsdb::{Db, Disk, Fsync, MemDisk};

use super::account::{Content, content, samples};
use super::script::{Action, BLOCK_MS, DATA, Run, START, Script, append};
use super::{Length, length};

/// Bytes that are flipped before every change, of each kind of file.
const FLIPS: u64 = 120;

/// A small store with everything in it.
struct Store {
    script: Script,
    disk: MemDisk,
    content: Content,
    /// Samples that were deleted: damage may bring them back, if it is named.
    deleted: Content,
    files: Vec<(PathBuf, Vec<u8>)>,
}

#[derive(Debug, Default)]
struct Tally {
    flips: u64,
    /// Samples that the flip did not hit, and those of them that were read.
    others: u64,
    served: u64,
}

#[test]
fn a_flipped_bit_is_never_read_and_costs_what_it_hits() {
    let seed = seed("flipped bits");
    let store = Store::new(seed);
    let mut by_kind: BTreeMap<String, Vec<&(PathBuf, Vec<u8>)>> = BTreeMap::new();
    for file in &store.files {
        by_kind.entry(kind(&file.0)).or_default().push(file);
    }
    let (mut total, mut wrong, mut tallies) = (0, Vec::new(), BTreeMap::new());
    for (kind, files) in by_kind {
        let bytes: u64 = files.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        let stride = match length() {
            Length::Short => bytes.div_ceil(FLIPS),
            Length::Long => 1,
        };
        let tally: &mut Tally = tallies.entry(kind).or_default();
        let places = files
            .iter()
            .flat_map(|(path, bytes)| (0..bytes.len()).map(move |at| (path, bytes, at)));
        for (position, (path, bytes, at)) in (total..).zip(places) {
            if position % stride == seed % stride {
                let bit = 1 << (mix(seed ^ position) % 8);
                if let Err(error) = store.check(path, bytes, at, bit, tally) {
                    wrong.push(format!("{} byte {at} bit {bit:#x}: {error}", path.display()));
                }
            }
        }
        total += bytes;
    }
    let mut sum = Tally::default();
    for (kind, tally) in &tallies {
        note(&format!("flipped bits: {kind}: {tally:?}"));
        sum.flips += tally.flips;
        sum.others += tally.others;
        sum.served += tally.served;
    }
    note(&format!("flipped bits: of {total} bytes, {sum:?}"));
    assert!(wrong.is_empty(), "seed {seed}, {} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(sum.served * 100 >= sum.others * 99, "seed {seed}: {tallies:#?}");
}

/// The name of a file without its number, to count by.
fn kind(path: &Path) -> String {
    let path = path.strip_prefix(DATA).unwrap_or(path);
    let parts = path.iter().map(|part| {
        let part = part.to_string_lossy();
        if part.len() == 26 {
            String::from("block")
        } else {
            part.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.').to_owned()
        }
    });
    parts.collect::<Vec<_>>().join("/")
}

impl Store {
    fn new(seed: u64) -> Self {
        let mut script = Script::new(seed, 92, Fsync::Grouped);
        script.actions.retain(|action| !matches!(action, Action::Clean | Action::Close));
        let (disk, account) = (MemDisk::new(), Arc::new(Mutex::new(Script::account())));
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let mut run = Run::new(&script, disk.clone(), shared, Arc::clone(&account));
        for &action in &script.actions {
            run.perform(action).unwrap_or_else(|error| panic!("seed {seed}, {action:?}: {error}"));
        }
        let db = run.db.take().unwrap();
        // One more deletion, after the last merge, so that there are tombstones.
        let (all, _) = content(&db).unwrap();
        let matcher =
            |value| model::Matcher::new("__name__", model::MatchOp::Equal, value).unwrap();
        db.delete_series(&[vec![matcher("load_churn")]], TimeRange::ALL).unwrap();
        // And a sample that comes late, in its log.
        let t = account.lock().newest() - 2 * STEP_MS - 1_234;
        let labels = account.lock().labels()[0].clone();
        let late = Point { labels, t, value: Value::Float(0.25), is_late: true, stable: None };
        assert_eq!(append(&db, &[late]).unwrap(), []);
        let (content, warnings) = content(&db).unwrap();
        assert_eq!(warnings, [""; 0]);
        db.close().unwrap();
        drop(db);
        let ever = account.lock().ever();
        let mut deleted = Content::new();
        for (series, samples) in ever.into_iter().chain(all) {
            let kept = content.get(&series).map_or(&[][..], Vec::as_slice);
            let gone = samples.into_iter().filter(|sample| !kept.contains(sample));
            deleted.entry(series).or_default().extend(gone);
        }
        let mut files = Vec::new();
        list(&disk, Path::new(DATA), &mut files);
        Self { script, disk: disk.fork(), content, deleted, files }
    }

    fn check(
        &self,
        path: &Path,
        bytes: &[u8],
        at: usize,
        bit: u8,
        tally: &mut Tally,
    ) -> Result<(), String> {
        let disk = self.disk.fork();
        let mut damaged = bytes.to_vec();
        damaged[at] ^= bit;
        disk.overwrite(path, &damaged).unwrap();
        let shared: Arc<dyn Disk> = Arc::new(disk);
        let read = || {
            let mut read = Read::default();
            let registry = telemetry::Registry::new();
            match self.script.open_measured(&shared, &registry) {
                Ok(db) => {
                    // Without its flag, a compressed record looks like one of a kind that is not known.
                    if skipped_records(&registry) {
                        read.named.push(String::from("the log has records of unknown kinds"));
                    }
                    read.all(&db);
                }
                Err(error) => read.named.push(error.to_string()),
            }
            read
        };
        let read = catch_unwind(AssertUnwindSafe(read)).map_err(|_| "it panics")?;
        self.compare(&read)?;
        let hit = self.span_of(path);
        let others = |content: &Content| {
            let times = content.values().flatten().map(|(t, _)| *t);
            times.filter(|&t| hit.is_none_or(|hit| !hit.contains(t))).count() as u64
        };
        tally.flips += 1;
        tally.others += others(&self.content);
        tally.served += others(&read.content).min(others(&self.content));
        Ok(())
    }

    fn compare(&self, read: &Read) -> Result<(), String> {
        let is_named = !read.named.is_empty();
        for (series, samples) in &read.content {
            let right = self.content.get(series);
            let deleted = self.deleted.get(series);
            for sample in samples {
                let is_in = |content: Option<&Vec<_>>| content.is_some_and(|c| c.contains(sample));
                if !(is_in(right) || is_named && is_in(deleted)) {
                    return Err(format!("{series} has {sample:?}, {:?}", read.named));
                }
            }
        }
        if is_named {
            return Ok(());
        }
        for (series, samples) in &self.content {
            let found = read.content.get(series).map_or(0, Vec::len);
            if found != samples.len() {
                return Err(format!("{series} has {found} of {} samples", samples.len()));
            }
        }
        Ok(())
    }

    /// The span of the block that a file belongs to.
    fn span_of(&self, path: &Path) -> Option<TimeRange> {
        let block = path.strip_prefix(DATA).ok()?.iter().next()?;
        let meta = Path::new(DATA).join(block).join("meta.json");
        let (_, bytes) = self.files.iter().find(|(path, _)| *path == meta)?;
        let meta: serde_json::Value = serde_json::from_slice(bytes).ok()?;
        let time = |name: &str| meta[name].as_i64();
        Some(TimeRange::new(time("minTime")?, time("maxTime")? - 1))
    }
}

/// Whether a start has passed over records.
fn skipped_records(registry: &telemetry::Registry) -> bool {
    let mut text = Vec::new();
    telemetry::encode(registry, &mut text);
    let text = String::from_utf8(text).unwrap();
    !text.contains("\nsextant_tsdb_wal_records_skipped_total 0\n")
}

/// All files below `dir`.
fn list(disk: &MemDisk, dir: &Path, into: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in disk.list(dir).unwrap() {
        let path = dir.join(&entry.name);
        if entry.is_dir {
            list(disk, &path, into);
        } else {
            into.push((path.clone(), disk.read(&path).unwrap()));
        }
    }
}

/// The spans of the blocks, which someone asks for one by one who meets with an error.
fn spans() -> impl Iterator<Item = TimeRange> {
    let spans = (0..12).map(|number| START + number * BLOCK_MS);
    spans.map(|start| TimeRange::new(start, start + BLOCK_MS - 1))
}

/// What can be read of a damaged store.
#[derive(Debug, Default)]
struct Read {
    content: Content,
    named: Vec<String>,
}

impl Read {
    fn all(&mut self, db: &Db) {
        if db.statistics(0).wal_corruptions > 0 {
            self.named.push(String::from("the log is damaged"));
        }
        if !self.range(db, TimeRange::ALL) {
            for span in spans() {
                self.range(db, span);
            }
        }
    }

    /// Whether the series of a range could be told.
    fn range(&mut self, db: &Db, range: TimeRange) -> bool {
        let context = QueryContext::unbounded();
        let querier = match db.querier(range) {
            Ok(querier) => querier,
            Err(error) => {
                self.named.push(error.to_string());
                return false;
            }
        };
        let set = match querier.select(&Selection::new(&[], range), &context) {
            Ok(set) => set,
            Err(error) => {
                self.named.push(error.to_string());
                return false;
            }
        };
        self.named.extend(set.warnings().iter().cloned());
        for index in 0..set.len() {
            if let Err(error) = self.series(set.as_ref(), index, range) {
                self.named.push(error);
                for span in spans().filter(|span| span.overlaps(range)) {
                    let span = TimeRange::new(span.min.max(range.min), span.max.min(range.max));
                    let _ = self.series(set.as_ref(), index, span);
                }
            }
        }
        true
    }

    fn series(
        &mut self,
        set: &dyn SeriesSet,
        index: usize,
        range: TimeRange,
    ) -> Result<(), String> {
        let mut columns = Columns::new();
        set.read(index, range, &mut columns, &QueryContext::unbounded())
            .map_err(|error| error.to_string())?;
        let found: Vec<(Timestamp, u64)> = samples(&columns);
        if !found.is_empty() {
            self.content.entry(set.labels(index).to_string()).or_default().extend(found);
        }
        Ok(())
    }
}
