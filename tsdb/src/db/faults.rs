//! Tests of the whole store under failures, several threads, and logs that only a Prometheus writes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use model::{
    Appender, Batch, Budget, CUSTOM_BUCKETS_SCHEMA, Columns, Histogram, HistogramValue, Labels,
    ManualClock, Matcher, QueryContext, QueryError, Queryable, Sample, Selection, SeriesOrder,
    SeriesRef, TimeRange,
};

use super::{Db, OpenError};
use crate::WalCompression;
use crate::disk::{Disk, Fault, MemDisk};
use crate::options::Options;
use crate::wal::record::{self, RefSample, histograms};
use crate::wal::{Wal, segments};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

type Content = BTreeMap<String, Vec<(i64, u64)>>;

fn try_open(disk: &MemDisk) -> Result<Db, OpenError> {
    let options = Options { wal_segment_bytes: 1 << 15, ..Options::default() };
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let registry = telemetry::Registry::new();
    Db::open(Path::new("/data"), disk, Arc::new(ManualClock::new(0)), options, &registry)
}

fn labels(name: &str) -> Labels {
    Labels::from_pairs([("__name__", name), ("job", "test")]).unwrap()
}

fn content(db: &Db) -> Content {
    let context = QueryContext::unbounded();
    let querier = db.querier(TimeRange::ALL).unwrap();
    let set = querier.select(&Selection::new(&[], TimeRange::ALL), &context).unwrap();
    let mut content = Content::new();
    for index in 0..set.len() {
        let mut columns = Columns::new();
        set.read(index, TimeRange::ALL, &mut columns, &context).unwrap();
        let samples = columns.iter().map(|sample| (sample.t, sample.v.to_bits())).collect();
        content.insert(set.labels(index).to_string(), samples);
    }
    content.retain(|_, samples: &mut Vec<_>| !samples.is_empty());
    content
}

/// Eight hours of three series and maintenance on a disk where one operation fails; what was accepted is returned.
fn run_with_retries(disk: &MemDisk) -> (Db, Content) {
    let db = try_open(disk).or_else(|_| try_open(disk)).unwrap();
    let mut accepted = Content::new();
    for step in 0..33 {
        let t = step * 15 * MINUTE;
        let mut batch = Batch::new();
        let names = ["a", "b", "c"];
        for name in names {
            batch.push_new(labels(name), t, f64::from(i32::try_from(step).unwrap()));
        }
        if let Ok(appended) = db.append(&batch) {
            assert_eq!(appended.rejected, []);
            for name in names {
                let v = f64::from(i32::try_from(step).unwrap()).to_bits();
                accepted.entry(labels(name).to_string()).or_default().push((t, v));
            }
        }
        if step % 4 == 0 {
            let _ = db.sync();
            let _ = db.maintain();
        }
    }
    (db, accepted)
}

#[test]
fn one_failure_of_any_operation_loses_nothing_that_was_accepted() {
    let whole = MemDisk::new();
    let (db, all) = run_with_retries(&whole);
    drop(db);
    assert_eq!(all.values().map(Vec::len).sum::<usize>(), 99);
    for nth in 0..whole.operations() {
        for fault in [Fault::Error(5), Fault::Torn(28)] {
            let disk = MemDisk::new();
            disk.fail_at(nth, fault);
            let (db, accepted) = run_with_retries(&disk);
            let refused = 99 - accepted.values().map(Vec::len).sum::<usize>();
            assert!(refused <= 3, "operation {nth}: {refused} samples refused");
            assert_eq!(content(&db), accepted, "operation {nth}");
            drop(db);
            disk.kill();
            let db = try_open(&disk).unwrap();
            assert_eq!(content(&db), accepted, "operation {nth}, after a restart");
            drop(db);
            let names = disk.list(Path::new("/data")).unwrap();
            assert!(
                names.iter().all(|entry| !entry.name.contains(".tmp")),
                "operation {nth} leaves {names:?}"
            );
        }
    }
}

#[test]
fn threads_see_whole_batches() {
    const SERIES: usize = 20;
    let disk = MemDisk::new();
    let db = try_open(&disk).unwrap();
    let done = AtomicBool::new(false);
    let mut batch = Batch::new();
    for i in 0..SERIES {
        batch.push_new(labels(&format!("m{i}")), 0, 0.0);
    }
    let refs = db.append(&batch).unwrap().new_refs;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut batch = Batch::new();
            // Ten hours, so that blocks are cut under the readers.
            for step in 1..2_400_i64 {
                batch.clear();
                for &series in &refs {
                    batch.push(series, step * 15_000, f64::from(i32::try_from(step).unwrap()));
                }
                assert_eq!(db.append(&batch).unwrap().rejected, []);
            }
            done.store(true, Ordering::SeqCst);
        });
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                db.maintain().unwrap();
                db.sync().unwrap();
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    check_whole(&db, SERIES);
                }
            });
        }
    });
    db.maintain().unwrap();
    assert_eq!(check_whole(&db, SERIES), 2_400);
    assert!(content(&db).values().all(|samples| samples.len() == 2_400));
}

/// All series of a view end at the same step, and none lacks one; the number of steps.
fn check_whole(db: &Db, series: usize) -> usize {
    let context = QueryContext::unbounded();
    let querier = db.querier(TimeRange::ALL).unwrap();
    let set = querier.select(&Selection::new(&[], TimeRange::ALL), &context).unwrap();
    assert_eq!(set.len(), series);
    let mut steps = None;
    for index in 0..set.len() {
        let mut columns = Columns::new();
        set.read(index, TimeRange::ALL, &mut columns, &context).unwrap();
        assert!(columns.times().iter().zip(0..).all(|(&t, step)| t == step * 15_000), "a gap");
        assert_eq!(*steps.get_or_insert(columns.len()), columns.len(), "half of a batch");
        if let Some(Sample { t, .. }) = set.latest(index) {
            assert_eq!(columns.last().map(|sample| sample.t), Some(t));
        }
    }
    steps.unwrap_or(0)
}

/// Appends one sample of each of `names` every ten minutes of the hours from `from` to `to`, with maintenance every hour.
fn fill(db: &Db, names: &[&str], from: i64, to: i64) {
    let mut t = from * HOUR;
    while t <= to * HOUR {
        let mut batch = Batch::new();
        for name in names {
            batch.push_new(labels(name), t, 1.0);
        }
        assert_eq!(db.append(&batch).unwrap().rejected, []);
        if t % HOUR == 0 {
            db.maintain().unwrap();
        }
        t += 10 * MINUTE;
    }
}

#[test]
fn the_last_ref_is_not_issued_again_once_its_series_left_the_log() {
    let disk = MemDisk::new();
    let db = try_open(&disk).unwrap();
    fill(&db, &["a"], 0, 0);
    fill(&db, &["a", "last"], 1, 1);
    fill(&db, &["a"], 2, 30);
    let head = db.statistics(0).head;
    assert_eq!(head.series, 1);
    for _ in 0..3 {
        let listing = segments::list(&disk, Path::new("/data/wal")).unwrap();
        assert!(!listing.checkpoints.is_empty());
    }
    drop(db);
    let db = try_open(&disk).unwrap();
    assert_eq!(db.statistics(0).head.series, 1, "a series without samples is not kept");
    let mut batch = Batch::new();
    batch.push_new(labels("new"), 30 * HOUR, 1.0);
    assert_eq!(db.append(&batch).unwrap().new_refs, [SeriesRef(3)]);
}

/// A Prometheus puts histograms with custom buckets into a record of their own, after that of the others that were appended with them.
#[test]
fn histograms_logged_apart_are_brought_into_order() {
    let disk = MemDisk::new();
    disk.create_dir_all(Path::new("/data/wal")).unwrap();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut wal = Wal::new(shared, "/data/wal".into(), 0, 1 << 20, WalCompression::Snappy);
    let exponential = HistogramValue::from(Histogram { sum: 1.0, ..Histogram::default() });
    let custom = HistogramValue::from(Histogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        custom_bounds: vec![1.0],
        ..Histogram::default()
    });
    let mut introduction = vec![];
    record::put_series(&mut introduction, 5, &labels("m"));
    wal.append(&[&introduction]).unwrap();
    for commit in 0..2 {
        let of = |first: i64| (0..3).map(move |i| commit * 6 + 2 * i + first);
        let (mut one, mut other) = (vec![], vec![]);
        histograms::put(&mut one, of(0).map(|t| (5, t, &exponential)));
        histograms::put(&mut other, of(1).map(|t| (5, t, &custom)));
        wal.append(&[&one[0], &other[0]]).unwrap();
    }
    drop(wal);
    let db = try_open(&disk).unwrap();
    let times: Vec<i64> = content(&db)[&labels("m").to_string()].iter().map(|s| s.0).collect();
    assert_eq!(times, (0..12).collect::<Vec<_>>());
}

#[test]
fn a_series_logged_under_two_refs_is_one() {
    let disk = MemDisk::new();
    disk.create_dir_all(Path::new("/data/wal")).unwrap();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut wal = Wal::new(shared, "/data/wal".into(), 0, 1 << 20, WalCompression::Snappy);
    for (series, t) in [(5, 0), (9, 20 * MINUTE)] {
        let (mut introduction, mut samples) = (vec![], vec![]);
        record::put_series(&mut introduction, series, &labels("m"));
        record::put_samples(&mut samples, [RefSample { series, t, v: 1.0 }].into_iter());
        wal.append(&[&introduction, &samples]).unwrap();
        wal.close_segment();
    }
    drop(wal);
    let db = try_open(&disk).unwrap();
    let times = |db: &Db| -> Vec<i64> {
        content(db)[&labels("m").to_string()].iter().map(|sample| sample.0).collect()
    };
    assert_eq!(times(&db), [0, 20 * MINUTE]);
    let mut batch = Batch::new();
    batch.push_new(labels("m"), 30 * MINUTE, 1.0);
    batch.push_new(labels("other"), 30 * MINUTE, 1.0);
    assert_eq!(db.append(&batch).unwrap().new_refs, [SeriesRef(5), SeriesRef(10)]);
    drop(db);
    // Over restarts, and while the log is shortened.
    for hours in [1, 4, 7, 10, 13] {
        let db = try_open(&disk).unwrap();
        let before = times(&db);
        fill(&db, &["m"], hours, hours + 2);
        assert!(times(&db).starts_with(&before));
    }
    let db = try_open(&disk).unwrap();
    assert_eq!(times(&db).len(), 3 + 13 * 5);
}

#[test]
fn queries_are_bounded() {
    let disk = MemDisk::new();
    let db = try_open(&disk).unwrap();
    fill(&db, &["a", "b", "c", "d"], 0, 5);
    let querier = db.querier(TimeRange::ALL).unwrap();
    let selection = Selection { order: SeriesOrder::Labels, ..Selection::new(&[], TimeRange::ALL) };
    let poor = QueryContext { budget: Budget::new(50), ..QueryContext::unbounded() };
    let refused = querier.select(&selection, &poor).err();
    assert!(matches!(refused, Some(QueryError::OverBudget { allowed: 50, .. })), "{refused:?}");
    assert_eq!(poor.budget.bytes_used(), 0);
    let cancelled = QueryContext::unbounded();
    cancelled.cancellation.cancel();
    let matchers = [Matcher::equal("job", "test")];
    let refused = querier.select(&Selection::new(&matchers, TimeRange::ALL), &cancelled).err();
    assert!(matches!(refused, Some(QueryError::Cancelled)), "{refused:?}");
    let limited = Selection { limit: 2, ..selection };
    assert_eq!(querier.select(&limited, &QueryContext::unbounded()).unwrap().len(), 2);
}

#[test]
fn a_jump_in_time_does_not_make_empty_blocks() {
    let disk = MemDisk::new();
    let db = try_open(&disk).unwrap();
    let mut batch = Batch::new();
    batch.push_new(labels("early"), 0, 1.0);
    batch.push_new(labels("late"), 1_700_000_000_000, 1.0);
    db.append(&batch).unwrap();
    let done = db.maintain().unwrap();
    assert_eq!(done.blocks_cut, 1);
    let times: Vec<i64> = content(&db).into_values().flatten().map(|sample| sample.0).collect();
    assert_eq!(times, [0, 1_700_000_000_000]);
}
