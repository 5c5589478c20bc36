//! The whole store on a disk in memory: what is appended is there, after anything that may happen to the disk.

mod kinds;
mod late;
mod limits;
mod repeated;
mod restart;
mod starts;
mod upkeep;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use model::{
    Appender, Batch, Columns, Labels, ManualClock, MatchOp, Matcher, QueryContext, Queryable,
    Rejection, Selection, SeriesOrder, SeriesRef, TimeRange,
};

use super::{Db, OpenError};
use crate::disk::{Disk, Fault, MemDisk};
use crate::options::Options;
use crate::wal::segments;

const ENOSPC: i32 = 28;
const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

/// Samples by series, as text and bits.
type Content = BTreeMap<String, Vec<(i64, u64)>>;

fn small_segments() -> Options {
    Options { wal_segment_bytes: 1 << 15, ..Options::default() }
}

fn try_open(disk: &MemDisk) -> Result<Db, OpenError> {
    try_open_with(disk, small_segments())
}

fn open_with(disk: &MemDisk, options: Options) -> Db {
    try_open_with(disk, options).unwrap()
}

fn try_open_with(disk: &MemDisk, options: Options) -> Result<Db, OpenError> {
    let clock = Arc::new(ManualClock::new(0));
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Db::open(Path::new("/data"), disk, clock, options, &telemetry::Registry::new())
}

fn open(disk: &MemDisk) -> Db {
    try_open(disk).unwrap()
}

fn labels(i: usize) -> Labels {
    let i = i.to_string();
    Labels::from_pairs([("__name__", "m"), ("i", i.as_str()), ("job", "test")]).unwrap()
}

/// Appends one sample of each of `series` series at `t`.
fn append(db: &Db, series: usize, t: i64) {
    let mut batch = Batch::new();
    for i in 0..series {
        batch.push_new(labels(i), t, value(i, t));
    }
    let appended = db.append(&batch).unwrap();
    assert_eq!(appended.rejected, []);
}

#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn value(i: usize, t: i64) -> f64 {
    (t / 7) as f64 + i as f64 / 3.0
}

fn content_of(db: &Db, matchers: &[Matcher], range: TimeRange) -> Content {
    let context = QueryContext::unbounded();
    let querier = db.querier(range).unwrap();
    let set = querier.select(&Selection::new(matchers, range), &context).unwrap();
    let mut content = Content::new();
    for index in 0..set.len() {
        let mut columns = Columns::new();
        set.read(index, range, &mut columns, &context).unwrap();
        assert!(columns.times().windows(2).all(|pair| pair[0] < pair[1]), "times ascend");
        if !columns.is_empty() {
            let samples = columns.iter().map(|s| (s.t, s.v.to_bits())).collect();
            assert!(content.insert(set.labels(index).to_string(), samples).is_none());
        }
    }
    content
}

fn content(db: &Db) -> Content {
    content_of(db, &[], TimeRange::ALL)
}

fn expected(series: usize, times: impl IntoIterator<Item = i64>) -> Content {
    let times: Vec<i64> = times.into_iter().collect();
    let samples = |i| times.iter().map(|&t| (t, value(i, t).to_bits())).collect();
    (0..series).map(|i| (labels(i).to_string(), samples(i))).collect()
}

fn times(step: i64, until: i64) -> impl Iterator<Item = i64> + Clone {
    (0..).map(move |i| i * step).take_while(move |t| *t <= until)
}

#[test]
fn what_is_appended_is_there_and_after_a_restart_too() {
    let disk = MemDisk::new();
    let db = open(&disk);
    times(15_000, HOUR).for_each(|t| append(&db, 5, t));
    assert_eq!(content(&db), expected(5, times(15_000, HOUR)));
    let part = TimeRange::new(10 * MINUTE, 20 * MINUTE);
    let only = [Matcher::new("i", MatchOp::Regex, "1|3").unwrap()];
    let found = content_of(&db, &only, part);
    assert_eq!(found.len(), 2);
    assert!(found.values().all(|samples| samples.len() == 41));
    let head = db.statistics(10).head;
    assert_eq!((head.series, head.min_time, head.max_time), (5, 0, HOUR));
    drop(db);
    assert_eq!(content(&open(&disk)), expected(5, times(15_000, HOUR)));
}

#[test]
fn refusals_are_told_apart() {
    let disk = MemDisk::new();
    let db = open(&disk);
    append(&db, 1, 3 * HOUR);
    let series =
        db.append(&Batch { new_series: vec![labels(0)], ..Batch::new() }).unwrap().new_refs[0];
    let mut batch = Batch::new();
    batch.push(series, 3 * HOUR, value(0, 3 * HOUR));
    batch.push(series, 3 * HOUR, -1.0);
    batch.push(series, 3 * HOUR - 1, 0.0);
    batch.push(series, HOUR, 0.0);
    batch.push(SeriesRef(99), 3 * HOUR, 0.0);
    batch.push_new(Labels::empty(), 3 * HOUR, 0.0);
    let late = batch.push_new(labels(1), 3 * HOUR, 1.0);
    batch.floats.push(model::FloatAppend { series: late, t: 3 * HOUR - 5, v: 1.0 });
    let appended = db.append(&batch).unwrap();
    let mut reasons: Vec<_> = appended.rejected.iter().map(|r| (r.index, r.reason)).collect();
    reasons.sort_by_key(|(index, _)| *index);
    assert_eq!(
        reasons,
        [
            (1, Rejection::DuplicateTimestamp),
            (2, Rejection::OutOfOrder),
            (3, Rejection::OutOfBounds),
            (4, Rejection::UnknownSeries),
            (5, Rejection::InvalidLabels),
            (7, Rejection::OutOfOrder),
        ]
    );
    assert_eq!(appended.series_created, 1);
    let before = content(&db);
    drop(db);
    assert_eq!(content(&open(&disk)), before, "replaying comes to the same verdicts");
}

#[test]
fn a_folder_is_opened_once() {
    let disk = MemDisk::new();
    let db = open(&disk);
    let second = try_open(&disk).unwrap_err().to_string();
    assert_eq!(second, "data directory /data is in use by another process");
    drop(db);
    open(&disk);
}

#[test]
fn the_head_is_cut_into_blocks_that_are_read_with_it() {
    let disk = MemDisk::new();
    let db = open(&disk);
    let all = times(MINUTE, 7 * HOUR);
    for t in all.clone() {
        append(&db, 3, t);
    }
    let done = db.maintain().unwrap();
    assert_eq!(done.blocks_cut, 2, "seven hours are two full ranges and a half: {done:?}");
    assert_eq!(content(&db), expected(3, all.clone()));
    // A selection that spans head and blocks is sorted by labels.
    let querier = db.querier(TimeRange::ALL).unwrap();
    let context = QueryContext::unbounded();
    let set = querier.select(&Selection::new(&[], TimeRange::ALL), &context).unwrap();
    assert_eq!((set.len(), set.order()), (3, SeriesOrder::Labels));
    drop(set);
    drop(querier);
    let context = QueryContext::unbounded();
    let querier = db.querier(TimeRange::new(0, HOUR)).unwrap();
    let names = querier.label_names(&[], 0, &context).unwrap();
    assert_eq!(names.values, ["__name__", "i", "job"]);
    let matchers = [Matcher::equal("job", "test")];
    let values = querier.label_values("i", &matchers, 2, &context).unwrap();
    assert_eq!((values.values, values.truncated), (vec!["0".into(), "1".into()], true));
    drop(querier);
    drop(db);
    let db = open(&disk);
    assert_eq!(content(&db), expected(3, all));
    // Samples that are in blocks are not accepted again.
    let mut batch = Batch::new();
    batch.push_new(labels(9), HOUR, 1.0);
    assert_eq!(db.append(&batch).unwrap().rejected[0].reason, Rejection::OutOfBounds);
}

/// The labels that a selection comes with, and how many samples it has.
fn projected(db: &Db, range: TimeRange, names: Option<&[&str]>) -> Vec<(String, usize)> {
    let context = QueryContext::unbounded();
    let querier = db.querier(range).unwrap();
    let selection = Selection { projection: names, ..Selection::new(&[], range) };
    let set = querier.select(&selection, &context).unwrap();
    let mut columns = Columns::new();
    let mut one = |index| {
        columns.clear();
        set.read(index, range, &mut columns, &context).unwrap();
        (set.labels(index).to_string(), columns.len())
    };
    (0..set.len()).map(&mut one).collect()
}

#[test]
fn labels_that_nobody_looks_at_are_left_out_where_there_is_nothing_to_join() {
    let disk = MemDisk::new();
    let db = open(&disk);
    times(15_000, 4 * HOUR).for_each(|t| append(&db, 3, t));
    assert_eq!(db.maintain().unwrap().blocks_cut, 1);
    let both = TimeRange::new(0, 4 * HOUR);
    let whole: Vec<_> = (0..3).map(|i| (labels(i).to_string(), 961)).collect();
    assert_eq!(projected(&db, both, None), whole);
    // Parts of a series find each other by their labels.
    assert_eq!(projected(&db, both, Some(&[])), whole);
    // In a block alone.
    let of_block = TimeRange::new(HOUR, HOUR + MINUTE);
    assert_eq!(
        db.querier(of_block)
            .unwrap()
            .select(&Selection::new(&[], of_block), &QueryContext::unbounded())
            .unwrap()
            .order(),
        SeriesOrder::Labels
    );
    let i = |i: usize| format!("{{i=\"{i}\"}}");
    let expected: Vec<_> = (0..3).map(|n| (i(n), 5)).collect();
    assert_eq!(projected(&db, of_block, Some(&["i", "other"])), expected);
    assert_eq!(projected(&db, of_block, Some(&[])), vec![(String::from("{}"), 5); 3]);
    // In the head alone.
    let of_head = TimeRange::new(3 * HOUR, 3 * HOUR + MINUTE);
    assert_eq!(projected(&db, of_head, Some(&["i", "other"])), expected);
    assert_eq!(projected(&db, of_head, Some(&[])), vec![(String::from("{}"), 5); 3]);
}

#[test]
fn a_limit_leaves_the_first_series_and_values_with_all_of_their_samples() {
    let disk = MemDisk::new();
    let db = open(&disk);
    // Blocks and the head have different ones of eight series.
    for t in times(MINUTE, 7 * HOUR) {
        let from = usize::try_from(t / (2 * HOUR)).unwrap();
        let mut batch = Batch::new();
        for i in (from..8).step_by(from + 1) {
            batch.push_new(labels(i), t, value(i, t));
        }
        assert_eq!(db.append(&batch).unwrap().rejected, []);
    }
    assert_eq!(db.maintain().unwrap().blocks_cut, 2);
    let context = QueryContext::unbounded();
    for range in [TimeRange::ALL, TimeRange::new(0, HOUR), TimeRange::new(HOUR, 3 * HOUR)] {
        let querier = db.querier(range).unwrap();
        let read = |limit: usize| {
            let order = SeriesOrder::Labels;
            let selection = Selection { limit, order, ..Selection::new(&[], range) };
            let set = querier.select(&selection, &context).unwrap();
            let one = |index| {
                let mut columns = Columns::new();
                set.read(index, range, &mut columns, &context).unwrap();
                (set.labels(index).to_string(), columns.times().to_vec())
            };
            (0..set.len()).map(one).collect::<Vec<_>>()
        };
        let all = read(0);
        let values = querier.label_values("i", &[], 0, &context).unwrap().values;
        for limit in 1..=all.len() + 1 {
            let first = &all[..limit.min(all.len())];
            assert_eq!(read(limit), first, "{limit} of {range:?}");
            let some = querier.label_values("i", &[], limit, &context).unwrap();
            assert_eq!(some.values, values[..limit.min(values.len())]);
            assert_eq!(some.truncated, limit < values.len());
        }
    }
}

#[test]
fn a_view_does_not_see_what_comes_after_it() {
    let disk = MemDisk::new();
    let db = open(&disk);
    append(&db, 2, 1000);
    let querier = db.querier(TimeRange::ALL).unwrap();
    append(&db, 3, 2000);
    let context = QueryContext::unbounded();
    let set = querier.select(&Selection::new(&[], TimeRange::ALL), &context).unwrap();
    assert_eq!(set.len(), 2, "the third series is newer than the view");
    for index in 0..2 {
        let mut columns = Columns::new();
        set.read(index, TimeRange::ALL, &mut columns, &context).unwrap();
        assert_eq!(columns.times(), [1000]);
        assert_eq!(set.latest(index), None, "the newest sample is not in the view");
    }
    drop(set);
    drop(querier);
    assert_eq!(content(&db), {
        let mut both = expected(3, [1000, 2000].into_iter());
        both.get_mut(&labels(2).to_string()).unwrap().remove(0);
        both
    });
}

#[test]
fn a_view_that_is_open_while_the_head_is_cut_keeps_its_samples() {
    let disk = MemDisk::new();
    let db = open(&disk);
    times(MINUTE, 4 * HOUR).for_each(|t| append(&db, 2, t));
    let querier = db.querier(TimeRange::ALL).unwrap();
    let done = db.maintain().unwrap();
    assert_eq!((done.blocks_cut, done.checkpointed), (1, false));
    let context = QueryContext::unbounded();
    let set = querier.select(&Selection::new(&[], TimeRange::ALL), &context).unwrap();
    let mut columns = Columns::new();
    set.read(0, TimeRange::ALL, &mut columns, &context).unwrap();
    assert_eq!(columns.len(), 241);
    drop(set);
    drop(querier);
    db.maintain().unwrap();
    assert_eq!(content(&db), expected(2, times(MINUTE, 4 * HOUR)));
}

#[test]
fn series_that_end_leave_the_head_and_their_refs_are_not_issued_again() {
    let disk = MemDisk::new();
    let db = open(&disk);
    append(&db, 5, 0);
    times(MINUTE, 4 * HOUR).skip(1).for_each(|t| append(&db, 2, t));
    let done = db.maintain().unwrap();
    assert_eq!(done.series_dropped, 3);
    assert_eq!(db.statistics(0).head.series, 2);
    let all = content(&db);
    assert_eq!(all.len(), 5, "they are still in the block");
    drop(db);
    let db = open(&disk);
    let mut batch = Batch::new();
    batch.push_new(labels(7), 4 * HOUR, 1.0);
    assert_eq!(db.append(&batch).unwrap().new_refs, [SeriesRef(6)]);
}

#[test]
fn old_blocks_are_deleted_and_the_log_is_shortened() {
    let disk = MemDisk::new();
    let clock = Arc::new(ManualClock::new(0));
    let options = Options {
        retention: std::time::Duration::from_secs(6 * 3600),
        wal_segment_bytes: 1 << 15,
        ..Options::default()
    };
    let open = |disk: &MemDisk| {
        let registry = telemetry::Registry::new();
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        Db::open(Path::new("/data"), disk, clock.clone(), options.clone(), &registry).unwrap()
    };
    let db = open(&disk);
    let mut checkpointed = false;
    for t in times(MINUTE, 20 * HOUR) {
        append(&db, 20, t);
        if t % HOUR == 0 {
            checkpointed |= db.maintain().unwrap().checkpointed;
        }
    }
    assert!(checkpointed);
    let blocks =
        disk.list(Path::new("/data")).unwrap().iter().filter(|e| e.name.len() == 26).count();
    // The head is cut up to 18 h; what ended by 12 h is six hours older.
    assert_eq!(blocks, 3);
    let kept = content(&db);
    let oldest = kept[&labels(0).to_string()][0].0;
    assert_eq!(oldest, 12 * HOUR);
    drop(db);
    let listing = segments::list(&disk, Path::new("/data/wal")).unwrap();
    assert_eq!(listing.checkpoints.len(), 1);
    assert!(listing.segments[0].0 > 0, "the first segments are gone");
    assert_eq!(content(&open(&disk)), kept);
}

#[test]
fn a_full_disk_refuses_batches_and_recovers() {
    let disk = MemDisk::new();
    let db = open(&disk);
    append(&db, 2, 1000);
    for fault in [Fault::Error(ENOSPC), Fault::Torn(ENOSPC)] {
        disk.fail_from(disk.operations(), fault);
        let mut batch = Batch::new();
        batch.push_new(labels(0), 2000, 1.0);
        batch.push_new(labels(8), 2000, 1.0);
        assert!(db.append(&batch).is_err());
        disk.heal();
    }
    assert_eq!(content(&db), expected(2, [1000].into_iter()));
    append(&db, 3, 3000);
    let all = content(&db);
    assert_eq!(all.len(), 3);
    drop(db);
    assert_eq!(content(&open(&disk)), all, "nothing of a refused batch comes back");
}

/// Everything that a store does, small; what was synced when the disk failed is returned.
fn script(disk: &MemDisk) -> Content {
    let mut synced = Content::new();
    let Ok(db) = try_open(disk) else { return synced };
    let hours = times(20 * MINUTE, 9 * HOUR);
    for t in hours {
        let mut batch = Batch::new();
        for i in 0..40 {
            batch.push_new(labels(i), t, value(i, t));
        }
        if db.append(&batch).is_err() {
            return synced;
        }
        if t % HOUR == 0 {
            if db.sync().is_err() {
                return synced;
            }
            synced = content(&db);
            if db.maintain().is_err() {
                return synced;
            }
        }
    }
    let _ = db.close();
    content(&db)
}

#[test]
fn a_power_cut_at_any_operation_loses_nothing_that_was_synced() {
    let whole = MemDisk::new();
    let all = script(&whole);
    assert_eq!(all, expected(40, times(20 * MINUTE, 9 * HOUR)));
    let operations = whole.operations();
    assert!(operations > 100, "the script has only {operations} operations");
    for nth in 0..operations {
        for fault in [Fault::Error(5), Fault::Torn(5)] {
            let disk = MemDisk::new();
            disk.fail_from(nth, fault);
            let synced = script(&disk);
            disk.crash_keeping(|unsynced| unsynced * usize::try_from(nth % 3).unwrap() / 2);
            let db =
                try_open(&disk).unwrap_or_else(|e| panic!("power cut at operation {nth}: {e}"));
            let kept = content(&db);
            for (series, samples) in &synced {
                let found = kept.get(series).unwrap_or_else(|| panic!("{nth}: {series} is lost"));
                assert!(
                    samples.iter().all(|sample| found.contains(sample)),
                    "power cut at operation {nth}: {series} lost samples"
                );
            }
            for (series, samples) in &kept {
                let right =
                    all.get(series).is_some_and(|all| samples.iter().all(|s| all.contains(s)));
                assert!(right, "power cut at operation {nth}: {series} has samples of its own");
            }
            drop(db);
            assert_eq!(content(&open(&disk)), kept, "a second start after operation {nth} differs");
        }
    }
}

#[test]
fn a_log_cut_short_anywhere_loses_its_end_alone() {
    let disk = MemDisk::new();
    let db = open(&disk);
    for t in 0..6 {
        append(&db, 2, t * 1000);
    }
    drop(db);
    let segment = Path::new("/data/wal/00000000");
    let bytes = disk.read(segment).unwrap();
    let mut kept_before = 0;
    for cut in 0..=bytes.len() {
        let disk = disk.fork();
        disk.overwrite(segment, &bytes[..cut]).unwrap();
        let kept = content(&open(&disk));
        let samples: usize = kept.values().map(Vec::len).sum();
        assert!(samples >= kept_before, "{cut} bytes keep fewer samples than {}", cut - 1);
        assert_eq!(kept, expected_prefix(samples), "{cut} bytes");
        kept_before = samples;
    }
    assert_eq!(kept_before, 12);
}

/// The first `samples` samples in the order of appending.
fn expected_prefix(samples: usize) -> Content {
    assert_eq!(samples % 2, 0, "batches are kept whole");
    let batches = i64::try_from(samples / 2).unwrap();
    if batches == 0 { Content::new() } else { expected(2, (0..batches).map(|t| t * 1000)) }
}

#[test]
fn a_flipped_byte_never_gives_wrong_samples() {
    let disk = MemDisk::new();
    let db = open(&disk);
    for t in 0..4 {
        append(&db, 2, t * 1000);
    }
    let all = content(&db);
    drop(db);
    let segment = Path::new("/data/wal/00000000");
    let bytes = disk.read(segment).unwrap();
    for at in 0..bytes.len() {
        let disk = disk.fork();
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x20;
        disk.overwrite(segment, &damaged).unwrap();
        for (series, samples) in content(&open(&disk)) {
            let right = all.get(&series).is_some_and(|all| samples.iter().all(|s| all.contains(s)));
            assert!(right, "byte {at}: {series} has {samples:?}");
        }
    }
}

#[test]
fn a_damaged_block_is_left_out_and_named() {
    let disk = MemDisk::new();
    let db = open(&disk);
    times(MINUTE, 4 * HOUR).for_each(|t| append(&db, 2, t));
    db.maintain().unwrap();
    drop(db);
    let entries = disk.list(Path::new("/data")).unwrap();
    let block = entries.iter().find(|entry| entry.name.len() == 26).unwrap();
    let index = Path::new("/data").join(&block.name).join("index");
    let mut bytes = disk.read(&index).unwrap();
    let end = bytes.len() - 1;
    bytes[end] ^= 1;
    disk.overwrite(&index, &bytes).unwrap();
    let db = open(&disk);
    assert_eq!(content(&db), expected(2, times(MINUTE, 4 * HOUR)), "the log still has it all");
    let context = QueryContext::unbounded();
    let querier = db.querier(TimeRange::ALL).unwrap();
    let set = querier.select(&Selection::new(&[], TimeRange::ALL), &context).unwrap();
    assert!(set.warnings()[0].contains(&block.name), "{:?}", set.warnings());
}
