//! Ways in which time-series databases lost data or did not start, and that ours must not take.
//!
//! Each test stands for reports about Prometheus, by number of its issue or change. They use the store from outside, as a server
//! does, on a disk that fails on demand.

#![expect(clippy::unwrap_used, reason = "functions of a test are part of it")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use model::{
    Appender, Batch, Columns, Histogram, Labels, ManualClock, MatchOp, Matcher, QueryContext,
    QueryError, Queryable, Rejection, Selection, Span, TimeRange, is_stale, stale_marker,
};
use promql::QueryOptions;
use tests::promqltest::engine;
use tsdb::{Db, Disk, Fault, MemDisk, OpenError, Options};

const ENOSPC: i32 = 28;
const EIO: i32 = 5;
const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DATA: &str = "/data";

/// Samples by series, as text and bits.
type Content = BTreeMap<String, Vec<(i64, u64)>>;

/// Small segments, and blocks that are not merged, so that they can be counted.
fn options() -> Options {
    let max_block_duration = Some(Options::default().min_block_duration);
    Options { wal_segment_bytes: 1 << 15, max_block_duration, ..Options::default() }
}

fn try_open(disk: &MemDisk, options: Options) -> Result<Db, OpenError> {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let registry = telemetry::Registry::new();
    Db::open(Path::new(DATA), shared, Arc::new(ManualClock::new(0)), options, &registry)
}

fn open(disk: &MemDisk) -> Db {
    try_open(disk, options()).unwrap()
}

/// The process is killed and started again.
fn reopen(db: Db, disk: &MemDisk) -> Db {
    drop(db);
    disk.kill();
    open(disk)
}

fn labels(name: &str) -> Labels {
    Labels::from_pairs([("__name__", name), ("job", "test")]).unwrap()
}

#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn value(t: i64) -> f64 {
    t as f64 / 7.0
}

/// Appends one sample of each of `names` at `t`, if the store takes them; they are entered in `accepted`.
fn append(db: &Db, names: &[&str], t: i64, accepted: &mut Content) -> bool {
    let mut batch = Batch::new();
    for name in names {
        batch.push_new(labels(name), t, value(t));
    }
    let Ok(appended) = db.append(&batch) else { return false };
    assert_eq!(appended.rejected, [], "{names:?} at {t}");
    for name in names {
        let samples = accepted.entry(labels(name).to_string()).or_default();
        samples.push((t, value(t).to_bits()));
    }
    true
}

fn try_content(db: &Db) -> Result<(Content, Vec<String>), QueryError> {
    let context = QueryContext::unbounded();
    let querier = db.querier(TimeRange::ALL)?;
    let set = querier.select(&Selection::new(&[], TimeRange::ALL), &context)?;
    let mut content = Content::new();
    for index in 0..set.len() {
        let mut columns = Columns::new();
        set.read(index, TimeRange::ALL, &mut columns, &context)?;
        if !columns.is_empty() {
            let samples = columns.iter().map(|s| (s.t, s.v.to_bits())).collect();
            assert!(content.insert(set.labels(index).to_string(), samples).is_none());
        }
    }
    Ok((content, set.warnings().to_vec()))
}

fn content(db: &Db) -> Content {
    let (content, warnings) = try_content(db).unwrap();
    assert_eq!(warnings, [""; 0]);
    content
}

fn names(disk: &MemDisk, folder: &str) -> Vec<String> {
    disk.list(Path::new(folder)).unwrap().into_iter().map(|entry| entry.name).collect()
}

fn blocks(disk: &MemDisk) -> Vec<PathBuf> {
    let names = names(disk, DATA);
    names.iter().filter(|name| name.len() == 26).map(|name| Path::new(DATA).join(name)).collect()
}

/// prometheus/prometheus#13027: after a record that did not fit on the disk, two later commits were lost.
#[test]
fn what_is_acknowledged_after_a_full_disk_was_freed_survives() {
    for fault in [Fault::Error(ENOSPC), Fault::Torn(ENOSPC)] {
        let disk = MemDisk::new();
        let mut db = open(&disk);
        let mut accepted = Content::new();
        for cycle in 0..20 {
            let t = cycle * 10 * MINUTE;
            assert!(append(&db, &["a", "b"], t, &mut accepted));
            // Full for longer and longer; in between some operations still work.
            disk.fail_from(disk.operations() + cycle.unsigned_abs() % 3, fault);
            for step in 1..=cycle {
                append(&db, &["a", "b", "late"], t + step * 1000, &mut accepted);
                let _ = db.sync();
                let _ = db.maintain();
            }
            disk.heal();
            assert!(append(&db, &["a", "b"], t + 5 * MINUTE, &mut accepted));
            assert_eq!(content(&db), accepted, "{fault:?}, cycle {cycle}");
            db = reopen(db, &disk);
            assert_eq!(content(&db), accepted, "{fault:?}, cycle {cycle}, after a kill");
        }
    }
}

/// prometheus/prometheus#18552, #13152: damage in an old segment, missed at the start, made every checkpoint fail and the log grow for ever.
#[test]
fn damage_that_the_start_did_not_see_does_not_block_checkpoints() {
    let disk = MemDisk::new();
    let db = open(&disk);
    let mut accepted = Content::new();
    let mut t = 0;
    let fill = |db: &Db, accepted: &mut Content, t: &mut i64, hours: i64| {
        let until = *t + hours * HOUR;
        let mut checkpoints = 0;
        while *t < until {
            assert!(append(db, &["a", "b", "c", "d"], *t, accepted));
            if *t % HOUR == 0 {
                checkpoints += u32::from(db.maintain().unwrap().checkpointed);
            }
            *t += 15_000;
        }
        checkpoints
    };
    fill(&db, &mut accepted, &mut t, 2);
    let segments = names(&disk, "/data/wal");
    let damaged = Path::new("/data/wal").join(&segments[0]);
    let mut bytes = disk.read(&damaged).unwrap();
    for byte in &mut bytes[3_000..3_100] {
        *byte ^= 0x55;
    }
    disk.overwrite(&damaged, &bytes).unwrap();
    let checkpoints = fill(&db, &mut accepted, &mut t, 24);
    assert!(checkpoints >= 5, "only {checkpoints} checkpoints in a day");
    let segments = names(&disk, "/data/wal").len();
    assert!(segments < 20, "the log grew to {segments} segments");
    assert_eq!(content(&db), accepted);
    let db = reopen(db, &disk);
    assert_eq!(content(&db), accepted, "the damage was in blocks by then");
}

/// prometheus/prometheus#7245: a restart on a full disk deleted healthy data.
#[test]
fn a_start_on_a_full_disk_deletes_nothing_that_is_healthy() {
    let disk = MemDisk::new();
    let db = open(&disk);
    let mut accepted = Content::new();
    for step in 0..14 * 60 {
        assert!(append(&db, &["a", "b"], step * MINUTE, &mut accepted));
        if step % 60 == 0 {
            db.maintain().unwrap();
        }
    }
    drop(db);
    disk.kill();
    // A torn record at the end, which a start wants to repair.
    let wal = names(&disk, "/data/wal");
    let last = Path::new("/data/wal").join(wal.iter().rfind(|name| name.len() == 8).unwrap());
    let mut bytes = disk.read(&last).unwrap();
    bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1);
    bytes.extend([1, 0x20, 0, 9, 9, 9, 9, 1]);
    disk.overwrite(&last, &bytes).unwrap();
    let start = disk.operations();
    let whole = disk.fork();
    drop(open(&whole));
    for nth in 0..=whole.operations() {
        for fault in [Fault::Error(ENOSPC), Fault::Torn(ENOSPC)] {
            let disk = disk.fork();
            disk.fail_from(nth, fault);
            if let Ok(db) = try_open(&disk, options()) {
                assert_eq!(content(&db), accepted, "open on a disk full from operation {nth}");
                let _ = db.maintain();
            }
            disk.kill();
            assert_eq!(content(&open(&disk)), accepted, "full from operation {nth} of a start");
        }
    }
    assert!(start > 0 && blocks(&disk).len() >= 5);
}

/// prometheus/prometheus#19722: a series known from mapped chunks alone took samples that contradict those it had.
#[test]
fn a_restart_does_not_make_conflicts_acceptable() {
    let disk = MemDisk::new();
    let db = open(&disk);
    let mut accepted = Content::new();
    // More than a chunk's worth, so that full chunks are stored apart where a store does that.
    for step in 0..500 {
        assert!(append(&db, &["a"], step * 10_000, &mut accepted));
    }
    let last = 499 * 10_000;
    let mut db = db;
    for restart in 0..3 {
        db = reopen(db, &disk);
        let mut batch = Batch::new();
        batch.push_new(labels("a"), last, -1.0);
        batch.push_new(labels("a"), last - 10_000, value(last));
        let reasons: Vec<_> =
            db.append(&batch).unwrap().rejected.iter().map(|rejected| rejected.reason).collect();
        assert_eq!(reasons, [Rejection::DuplicateTimestamp, Rejection::OutOfOrder], "{restart}");
        // The same sample again is none.
        let mut batch = Batch::new();
        batch.push_new(labels("a"), last, value(last));
        assert_eq!(db.append(&batch).unwrap().rejected, []);
        assert_eq!(content(&db), accepted);
    }
}

/// prometheus/prometheus#19246: after a restart, a series that had ended was taken for one that had not.
#[test]
fn a_series_that_ended_has_still_ended_after_a_restart() {
    let disk = MemDisk::new();
    let mut db = open(&disk);
    let mut accepted = Content::new();
    for step in 0..400 {
        assert!(append(&db, &["ends", "goes on"], step * 10_000, &mut accepted));
    }
    let mut batch = Batch::new();
    batch.push_new(labels("ends"), 4_000_000, stale_marker());
    assert_eq!(db.append(&batch).unwrap().rejected, []);
    for _ in 0..3 {
        db = reopen(db, &disk);
        let samples = &content(&db)[&labels("ends").to_string()];
        assert_eq!(samples.len(), 401);
        let (t, bits) = samples[400];
        assert!(t == 4_000_000 && is_stale(f64::from_bits(bits)));
        let querier = db.querier(TimeRange::ALL).unwrap();
        let context = QueryContext::unbounded();
        let set = querier.select(&Selection::new(&[], TimeRange::ALL), &context).unwrap();
        for index in 0..set.len() {
            let ended = set.labels(index).get("__name__") == Some("ends");
            let latest = set.latest(index).expect("it is in the head");
            assert_eq!(is_stale(latest.v), ended, "{}", set.labels(index));
        }
    }
}

/// A histogram of `observations` in two buckets; a marker of the end where there are none.
fn histogram(observations: u32) -> Histogram {
    let sum = if observations == 0 { stale_marker() } else { f64::from(observations) / 3.0 };
    let count = u64::from(observations);
    Histogram {
        schema: 1,
        zero_threshold: 1e-128,
        count: 3 * count,
        sum,
        positive_spans: vec![Span { offset: -2, length: 2 }],
        positive_deltas: vec![count.cast_signed(), count.cast_signed()],
        ..Histogram::default()
    }
}

fn append_histogram(db: &Db, name: &str, t: i64, histogram: Histogram) -> Option<Rejection> {
    let mut batch = Batch::new();
    let series = batch.introduce(labels(name));
    batch.push_histogram(series, t, histogram);
    db.append(&batch).unwrap().rejected_histograms.first().map(|rejected| rejected.reason)
}

/// prometheus/prometheus#19246, of histograms: after a restart the last one was not known, so that what contradicts it was taken, the end of a series
/// was missed, and a lower count was no reset.
#[test]
fn the_last_histogram_of_a_series_is_known_after_a_restart() {
    let disk = MemDisk::new();
    let mut db = open(&disk);
    let (step, steps) = (10_000, 400_u32);
    // Many chunks' worth, so that full ones are stored apart.
    for i in 0..steps {
        for name in ["ends", "goes on"] {
            assert_eq!(append_histogram(&db, name, i64::from(i) * step, histogram(i + 1)), None);
        }
    }
    let mut t = i64::from(steps) * step;
    assert_eq!(append_histogram(&db, "ends", t, histogram(0)), None);
    assert_eq!(append_histogram(&db, "goes on", t, histogram(steps + 1)), None);
    let (ended_at, mut total) = (t, steps + 1);
    let mut resets = 0.0;
    for restart in 0..4 {
        // With and without what a clean end leaves behind.
        if restart % 2 == 0 {
            db.close().unwrap();
        }
        db = reopen(db, &disk);
        for (name, at, last) in [("ends", ended_at, 0), ("goes on", t, total)] {
            let again = append_histogram(&db, name, at, histogram(last));
            let other = append_histogram(&db, name, at, histogram(9_999));
            let earlier = append_histogram(&db, name, at - step, histogram(last));
            let (duplicate, late) = (Rejection::DuplicateTimestamp, Rejection::OutOfOrder);
            let expected = (None, Some(duplicate), Some(late));
            assert_eq!((again, other, earlier), expected, "{name}, restart {restart}");
        }
        // Fewer than before is a reset, more is none.
        t += step;
        total = if restart % 2 == 0 { 1 } else { total + 1 };
        resets += if restart % 2 == 0 { 1.0 } else { 0.0 };
        assert_eq!(append_histogram(&db, "goes on", t, histogram(total)), None);
        let vector = |query: &str, t: i64| {
            let context = QueryContext::unbounded();
            let answer = engine().instant(&db, query, t, &QueryOptions::default(), &context);
            let promql::Value::Vector(vector) = answer.unwrap().value else { panic!("no vector") };
            vector.into_iter().map(|sample| sample.sample.v).collect::<Vec<_>>()
        };
        let day = r#"resets({__name__="goes on"}[1d])"#;
        assert_eq!(vector(day, t), [resets], "restart {restart}");
        let last = f64::from(total) * 3.0;
        assert_eq!(vector(r#"histogram_count({__name__="goes on"})"#, t), [last]);
        let samples = f64::from(steps);
        let all = r#"count_over_time({__name__="ends"}[1d])"#;
        assert_eq!(vector(all, t), [samples], "a marker is no sample");
        assert_eq!(vector(r#"{__name__="ends"}"#, ended_at - 1).len(), 1);
        assert_eq!(vector(r#"{__name__="ends"}"#, ended_at), [0.0; 0], "restart {restart}");
    }
}

/// prometheus/prometheus#19140: samples of series that had been dropped from memory and came back were missing after a restart.
#[test]
fn series_that_leave_and_come_back_keep_their_samples_over_restarts() {
    let disk = MemDisk::new();
    let mut db = open(&disk);
    let mut accepted = Content::new();
    for step in 0..60 * 6 {
        let t = step * 10 * MINUTE;
        // Two hours there and six away, so that it is dropped each time.
        let comes_and_goes = step % 48 < 12;
        let all = ["always", "sometimes"];
        assert!(append(&db, if comes_and_goes { &all } else { &all[..1] }, t, &mut accepted));
        if step % 6 == 0 {
            db.maintain().unwrap();
        }
        if step % 17 == 0 {
            db = reopen(db, &disk);
            assert_eq!(content(&db), accepted, "step {step}");
        }
    }
    assert!(blocks(&disk).len() > 20);
}

/// prometheus/prometheus#18849: the sample on the boundary of what was evicted went with it.
#[test]
fn samples_on_the_boundary_of_a_block_are_there_once() {
    let disk = MemDisk::new();
    let mut db = open(&disk);
    let mut accepted = Content::new();
    for boundary in (0..8).map(|i| i * 2 * HOUR) {
        for t in [boundary - 1, boundary, boundary + 1] {
            assert!(append(&db, &["a", "b"], t, &mut accepted));
        }
        for t in (1..12).map(|i| boundary + i * 10 * MINUTE) {
            assert!(append(&db, &["a"], t, &mut accepted));
        }
        db.maintain().unwrap();
        assert_eq!(content(&db), accepted, "after the boundary at {boundary}");
        db = reopen(db, &disk);
        assert_eq!(content(&db), accepted, "after the boundary at {boundary} and a kill");
    }
    assert!(blocks(&disk).len() >= 6);
}

/// prometheus/prometheus#7777: a crash in the middle of a deletion left half a block, on which the next start failed.
#[test]
fn a_deletion_that_was_interrupted_anywhere_is_finished() {
    let keep = Options { retention: Duration::ZERO, ..options() };
    let delete = Options { retention: Duration::from_secs(6 * 3600), ..options() };
    let disk = MemDisk::new();
    let db = try_open(&disk, keep).unwrap();
    let mut accepted = Content::new();
    for step in 0..20 * 6 {
        assert!(append(&db, &["a", "b"], step * 10 * MINUTE, &mut accepted));
        if step % 6 == 0 {
            db.maintain().unwrap();
        }
    }
    drop(db);
    let before = blocks(&disk).len();
    let whole = disk.fork();
    let db = try_open(&whole, delete.clone()).unwrap();
    let from = whole.operations();
    assert!(db.maintain().unwrap().blocks_deleted >= 4);
    let kept = content(&db);
    assert!(kept.values().map(Vec::len).sum::<usize>() < 120 * 2);
    for nth in from..whole.operations() {
        let disk = disk.fork();
        let db = try_open(&disk, delete.clone()).unwrap();
        disk.fail_from(nth, Fault::Error(EIO));
        assert!(db.maintain().is_err(), "operation {nth}");
        drop(db);
        disk.crash();
        let db = try_open(&disk, delete.clone()).unwrap();
        db.maintain().unwrap();
        assert_eq!(content(&db), kept, "interrupted at operation {nth}");
        let left = names(&disk, DATA);
        assert!(!left.iter().any(|name| name.contains(".tmp")), "{nth}: {left:?}");
    }
    assert!(before > blocks(&whole).len());
}

/// prometheus/prometheus#3487: each failed attempt to write a block left its files, until the disk was full of them.
#[test]
fn attempts_to_write_a_block_that_fail_leave_nothing() {
    let disk = MemDisk::new();
    let db = open(&disk);
    let mut accepted = Content::new();
    for step in 0..4 * 60 {
        assert!(append(&db, &["a", "b"], step * MINUTE, &mut accepted));
    }
    drop(db);
    let whole = disk.fork();
    let db = open(&whole);
    let from = whole.operations();
    assert_eq!(db.maintain().unwrap().blocks_cut, 1);
    let mut failed = 0;
    for nth in from..whole.operations() {
        let unfinished = |disk: &MemDisk| {
            names(disk, DATA).into_iter().filter(|name| name.contains(".tmp")).count()
        };
        // One operation fails: what it leaves is removed at once.
        let once = disk.fork();
        let db = open(&once);
        once.fail_at(nth, if nth % 2 == 0 { Fault::Error(ENOSPC) } else { Fault::Torn(ENOSPC) });
        failed += usize::from(db.maintain().is_err());
        assert_eq!(unfinished(&once), 0, "operation {nth} fails");
        assert_eq!(content(&db), accepted, "operation {nth} fails");
        // All that follow fail as well, so nothing can be removed: it does not grow, and the next start removes it.
        let all = disk.fork();
        let db = open(&all);
        all.fail_from(nth, Fault::Error(EIO));
        for _ in 0..5 {
            let _ = db.maintain();
            assert!(unfinished(&all) <= 1, "all from operation {nth} on fail");
        }
        all.heal();
        db.maintain().unwrap();
        db.maintain().unwrap();
        assert!(unfinished(&all) <= 1, "healed after {nth}");
        assert_eq!(content(&reopen(db, &all)), accepted, "healed after {nth}");
        assert_eq!(unfinished(&all), 0, "healed after {nth}");
        // A second is one that was in place when the next operation failed, and could not be removed.
        assert!((1..=2).contains(&blocks(&all).len()), "healed after {nth}");
    }
    assert!(failed >= 5, "only {failed} attempts failed");
}

/// prometheus/prometheus#7412: a missing file in a numbered series of them stopped the start.
#[test]
fn a_gap_in_the_numbers_of_log_segments_costs_that_segment_alone() {
    let disk = MemDisk::new();
    let db = open(&disk);
    let mut accepted = Content::new();
    for step in 0..3_000 {
        assert!(append(&db, &["a", "b", "c"], step * 1_000, &mut accepted));
    }
    let segments = names(&disk, "/data/wal");
    assert!(segments.len() >= 4, "{segments:?}");
    drop(db);
    for missing in 1..segments.len() {
        let disk = disk.fork();
        disk.remove_file(&Path::new("/data/wal").join(&segments[missing])).unwrap();
        let mut db = open(&disk);
        let mut kept = content(&db);
        for (series, samples) in &accepted {
            let there = &kept[series];
            assert!(there.iter().all(|sample| samples.contains(sample)));
            assert!(there.len() < samples.len(), "segment {missing} had nothing of {series}");
            let share = samples.len() / segments.len();
            assert!(there.len() + 2 * share > samples.len(), "{series} lost more than a segment");
        }
        assert!(append(&db, &["a", "new"], 4_000_000, &mut kept));
        for _ in 0..2 {
            db = reopen(db, &disk);
            assert_eq!(content(&db), kept, "without segment {missing}");
        }
    }
}

/// prometheus/prometheus#7412: as above, for the files of full chunks of the head. The log has what they have.
#[test]
fn a_gap_in_the_numbers_of_head_chunk_files_costs_nothing() {
    let disk = MemDisk::new();
    let db = open(&disk);
    let mut accepted = Content::new();
    // Each two hours have a file of their own, and nothing is cut.
    for step in 0..7 * 240 {
        assert!(append(&db, &["a", "b", "c"], step * 15_000, &mut accepted));
    }
    for closes in [false, true] {
        if closes {
            // What a snapshot of the head refers to is missing then.
            db.close().unwrap();
        } else {
            db.sync().unwrap();
        }
        let files = names(&disk, "/data/chunks_head");
        assert!(files.len() >= 3, "{files:?}");
        for missing in &files {
            let disk = disk.fork();
            disk.kill();
            disk.remove_file(&Path::new("/data/chunks_head").join(missing)).unwrap();
            let mut accepted = accepted.clone();
            let mut db = open(&disk);
            assert_eq!(content(&db), accepted, "without {missing}, closed: {closes}");
            assert!(append(&db, &["a", "new"], 7 * HOUR, &mut accepted));
            db = reopen(db, &disk);
            assert_eq!(content(&db), accepted, "without {missing}, started again");
            assert!(db.maintain().unwrap().blocks_cut >= 2);
            db = reopen(db, &disk);
            assert_eq!(content(&db), accepted, "without {missing}, cut");
        }
    }
}

/// prometheus/prometheus#4094: rate() jumped while blocks were exchanged under it.
#[test]
fn answers_do_not_change_while_blocks_are_cut_and_deleted() {
    let disk = MemDisk::new();
    let options = Options {
        retention: Duration::from_secs(40 * 60),
        min_block_duration: Duration::from_secs(10 * 60),
        max_block_duration: Some(Duration::from_secs(10 * 60)),
        ..options()
    };
    let db = try_open(&disk, options).unwrap();
    let engine = engine();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                db.maintain().unwrap();
            }
        });
        // Also when an assertion fails: the thread would not end.
        let _end = SetOnDrop(&done);
        for step in 0..2_000_i64 {
            let t = step * 15_000;
            let mut batch = Batch::new();
            batch.push_new(labels("m_total"), t, f64::from(i32::try_from(step).unwrap()) * 3.0);
            assert_eq!(db.append(&batch).unwrap().rejected, []);
            if t >= 31 * MINUTE && step % 3 == 0 {
                // 3 every 15 seconds, over a window that spans the head and blocks.
                let query = "abs(rate(m_total[30m]) - 0.2) < 1e-12 \
                             and count_over_time(m_total[30m]) == 120";
                let context = QueryContext::unbounded();
                let answer = engine.instant(&db, query, t, &QueryOptions::default(), &context);
                let promql::Value::Vector(vector) = answer.unwrap().value else {
                    panic!("no vector")
                };
                assert_eq!(vector.len(), 1, "at {t}");
            }
        }
    });
    // The other thread may not have come to the last ones.
    db.maintain().unwrap();
    assert!(blocks(&disk).len() >= 3);
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// prometheus/prometheus#17533: a chunk that claimed to be longer than numbers go was read beyond its end.
#[test]
fn a_chunk_of_absurd_length_is_refused_by_name() {
    let disk = MemDisk::new();
    let db = open(&disk);
    let mut accepted = Content::new();
    for step in 0..4 * 60 {
        assert!(append(&db, &["a", "b"], step * MINUTE, &mut accepted));
    }
    db.maintain().unwrap();
    drop(db);
    let file = blocks(&disk)[0].join("chunks/000001");
    let bytes = disk.read(&file).unwrap();
    for length in [
        &[0xff, 0xff, 0xff, 0xff, 0x0f][..],
        &[0xff, 0xff, 0xff, 0xff, 0x7f],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        &[0xff; 12],
        &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
    ] {
        let disk = disk.fork();
        let mut damaged = bytes.clone();
        damaged[8..8 + length.len()].copy_from_slice(length);
        disk.overwrite(&file, &damaged).unwrap();
        let Err(error) = try_content(&open(&disk)) else { panic!("{length:x?} was read") };
        let text = error.to_string();
        assert!(text.contains(&file.display().to_string()), "{length:x?}: {text}");
    }
}

/// A sample that came late, is older than what blocks have, and was deleted.
#[test]
fn a_late_sample_that_was_deleted_stays_deleted_over_restarts() {
    let disk = MemDisk::new();
    let late_window = Duration::from_secs(6 * 3_600);
    let options = Options { out_of_order_time_window: late_window, ..options() };
    let db = try_open(&disk, options.clone()).unwrap();
    let mut accepted = Content::new();
    for step in 0..4 * 60 {
        assert!(append(&db, &["a"], step * MINUTE, &mut accepted));
    }
    assert_eq!(db.maintain().unwrap().blocks_cut, 1);
    let mut late = Batch::new();
    late.push_new(labels("a"), 30_500, 1.0);
    assert_eq!(db.append(&late).unwrap().rejected, []);
    let matcher = Matcher::new("__name__", MatchOp::Equal, "a").unwrap();
    db.delete_series(&[vec![matcher]], TimeRange::new(0, MINUTE - 1)).unwrap();
    accepted.get_mut(&labels("a").to_string()).unwrap().remove(0);
    assert_eq!(content(&db), accepted);
    drop(db);
    disk.kill();
    assert_eq!(content(&try_open(&disk, options).unwrap()), accepted);
}

fn with_late_samples() -> Options {
    Options { out_of_order_time_window: Duration::from_secs(3 * 3_600), ..options() }
}

/// Appends samples that may come late, one batch each.
fn append_late(db: &Db, name: &str, times: &[i64], accepted: &mut Content) {
    for &t in times {
        assert!(append(db, &[name], t, accepted));
        accepted.get_mut(&labels(name).to_string()).unwrap().sort_unstable();
    }
}

/// prometheus/prometheus#19804: of a series that the log had under two refs, samples that came late were lost over two restarts.
#[test]
fn a_series_with_two_refs_keeps_late_samples_over_two_restarts() {
    let disk = MemDisk::new();
    let mut db = try_open(&disk, with_late_samples()).unwrap();
    let mut accepted = Content::new();
    let mut refs = Vec::new();
    for step in 0..8 * 30 {
        // There for the first minutes and again after it has left the head.
        let is_there = !(5..5 * 30).contains(&step);
        let all = ["always", "again"];
        let t = step * 2 * MINUTE;
        assert!(append(&db, if is_there { &all } else { &all[..1] }, t, &mut accepted));
        if is_there {
            let mut batch = Batch::new();
            batch.introduce(labels("again"));
            refs.extend(db.append(&batch).unwrap().new_refs);
        }
        if step % 30 == 0 && step < 6 * 30 {
            db.maintain().unwrap();
        }
    }
    refs.dedup();
    assert_eq!(refs.len(), 2, "it did not leave the head");
    for restart in 0..4 {
        let base = 7 * HOUR + restart * 1_000;
        append_late(&db, "again", &[base + 300, base + 100, base + 200], &mut accepted);
        assert_eq!(content(&db), accepted, "before restart {restart}");
        drop(db);
        disk.kill();
        db = try_open(&disk, with_late_samples()).unwrap();
        assert_eq!(content(&db), accepted, "after restart {restart}");
    }
}

/// prometheus/prometheus#19737, #19744: a checkpoint dropped series that only the log of late samples still needed.
#[test]
fn a_checkpoint_keeps_series_of_which_only_late_samples_are_left() {
    let disk = MemDisk::new();
    let db = try_open(&disk, with_late_samples()).unwrap();
    let mut accepted = Content::new();
    let mut checkpoints = 0;
    for step in 0..20 * 30 {
        let t = step * 2 * MINUTE;
        assert!(append(&db, &["always"], t, &mut accepted));
        if step % 7 == 0 && t >= 3 * HOUR {
            append_late(&db, "late", &[t - 2 * HOUR - 1, t - 2 * HOUR - 2], &mut accepted);
        }
        if step % 30 == 0 {
            checkpoints += u32::from(db.maintain().unwrap().checkpointed);
        }
        if step % 30 == 8 {
            let copy = disk.fork();
            let copied = try_open(&copy, with_late_samples()).unwrap();
            assert_eq!(content(&copied), accepted, "started again after step {step}");
        }
    }
    assert!(checkpoints >= 2, "{checkpoints} checkpoints");
}

/// prometheus/prometheus#19016: late samples were lost when blocks were merged and the store was started again.
#[test]
fn late_samples_outlive_merges_and_restarts() {
    let disk = MemDisk::new();
    let options = Options { max_block_duration: None, ..with_late_samples() };
    let mut db = try_open(&disk, options.clone()).unwrap();
    let mut accepted = Content::new();
    let mut merged = 0;
    for step in 0..24 * 30 {
        let t = step * 2 * MINUTE;
        assert!(append(&db, &["a", "b"], t, &mut accepted));
        if t >= 3 * HOUR {
            let lateness = (step * 37 % 89 + 1) * 2 * MINUTE;
            append_late(&db, "a", &[t - lateness + 1 + step], &mut accepted);
        }
        if step % 20 == 0 {
            merged += db.maintain().unwrap().blocks_merged;
        }
        if step % 50 == 49 {
            drop(db);
            disk.kill();
            db = try_open(&disk, options.clone()).unwrap();
            assert_eq!(content(&db), accepted, "started again after step {step}");
        }
    }
    assert!(merged >= 5, "{merged} merges");
}

/// grafana/mimir#2238: a block of late samples moved the time from which on samples are taken in order, beyond samples of the head.
#[test]
fn a_block_of_late_samples_does_not_hide_the_head() {
    let disk = MemDisk::new();
    let db = try_open(&disk, with_late_samples()).unwrap();
    let mut accepted = Content::new();
    for step in 0..3 * 60 + 2 {
        assert!(append(&db, &["a"], step * MINUTE, &mut accepted));
    }
    // In the range that stays in the head.
    append_late(&db, "a", &[150 * MINUTE + 1, 149 * MINUTE + 1], &mut accepted);
    assert!(db.maintain().unwrap().blocks_cut >= 2, "one block in order, one of late samples");
    assert_eq!(content(&db), accepted);
    drop(db);
    disk.kill();
    let db = try_open(&disk, options()).unwrap();
    assert_eq!(content(&db), accepted);
    // In order for its series, and before the end of the block of late samples.
    assert!(append(&db, &["b"], 180 * MINUTE, &mut accepted));
    assert!(append(&db, &["b"], 181 * MINUTE, &mut accepted));
    assert_eq!(content(&db), accepted);
}
