//! Merging, deleting, copying, and what is kept.

use std::time::Duration;

use super::*;
use crate::db::Retention;
use crate::disk::Space;

fn run(db: &Db, series: usize, from: i64, until: i64) {
    for t in times(MINUTE, until).filter(|t| *t >= from) {
        append(db, series, t);
        if t % HOUR == 0 {
            db.maintain().unwrap();
        }
    }
}

fn spans(db: &Db) -> Vec<(i64, i64)> {
    let blocks = Arc::clone(&db.blocks.read());
    blocks
        .loaded
        .iter()
        .map(|block| (block.meta.min_time / HOUR, block.meta.max_time / HOUR))
        .collect()
}

#[test]
fn blocks_are_merged_by_three() {
    let disk = MemDisk::new();
    let db = open(&disk);
    run(&db, 3, 0, 26 * HOUR);
    // Of twelve blocks of two hours those up to 18 h make three of six; the newest three wait for the next.
    assert_eq!(spans(&db), [(0, 18), (18, 20), (20, 22), (22, 24)]);
    assert_eq!(content(&db), expected(3, times(MINUTE, 26 * HOUR)));
    drop(db);
    disk.kill();
    assert_eq!(content(&open(&disk)), expected(3, times(MINUTE, 26 * HOUR)));
    let names = disk.list(Path::new("/data")).unwrap();
    assert_eq!(names.iter().filter(|entry| entry.name.len() == 26).count(), 4);
}

#[test]
fn deleted_samples_are_gone_everywhere_and_come_not_back() {
    let disk = MemDisk::new();
    let db = open(&disk);
    run(&db, 3, 0, 5 * HOUR);
    let sets = [vec![Matcher::equal("i", "1")], vec![Matcher::equal("i", "2")]];
    let range = TimeRange::new(HOUR, 4 * HOUR);
    db.delete_series(&sets, range).unwrap();
    let mut all = expected(3, times(MINUTE, 5 * HOUR));
    for i in [1, 2] {
        let samples = all.get_mut(&labels(i).to_string()).unwrap();
        samples.retain(|(t, _)| !range.contains(*t));
    }
    assert_eq!(content(&db), all);
    drop(db);
    disk.kill();
    let db = open(&disk);
    assert_eq!(content(&db), all);
    // Cut, cleaned and merged.
    run(&db, 3, 5 * HOUR + MINUTE, 9 * HOUR);
    db.clean_tombstones().unwrap();
    for (i, samples) in [(0, 541), (1, 360), (2, 360)] {
        assert_eq!(content(&db)[&labels(i).to_string()].len(), samples);
    }
    assert!(db.blocks.read().loaded.iter().all(|block| !block.needs_cleaning()));
    drop(db);
    disk.kill();
    assert_eq!(content(&open(&disk))[&labels(2).to_string()].len(), 360);
}

#[test]
fn a_deletion_does_not_reach_samples_that_come_later() {
    let disk = MemDisk::new();
    let db = open(&disk);
    append(&db, 1, HOUR);
    db.delete_series(&[vec![Matcher::equal("job", "test")]], TimeRange::ALL).unwrap();
    assert_eq!(content(&db), Content::new());
    append(&db, 1, HOUR + 1);
    assert_eq!(content(&db), expected(1, [HOUR + 1]));
    drop(db);
    disk.kill();
    assert_eq!(content(&open(&disk)), expected(1, [HOUR + 1]));
}

#[test]
fn a_snapshot_is_a_store_of_its_own() {
    let disk = MemDisk::new();
    let window = Duration::from_secs(4 * 3_600);
    let db = open_with(&disk, Options { out_of_order_time_window: window, ..small_segments() });
    run(&db, 3, MINUTE, 5 * HOUR);
    append(&db, 3, 4 * HOUR + 1);
    let all = content(&db);
    let name = db.snapshot(true).unwrap();
    let without = db.snapshot(false).unwrap();
    run(&db, 3, 5 * HOUR + MINUTE, 9 * HOUR);
    let copy = Path::new("/data/snapshots").join(name);
    let open_copy = |path: &Path| {
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let clock = Arc::new(ManualClock::new(0));
        Db::open(path, disk, clock, small_segments(), &telemetry::Registry::new()).unwrap()
    };
    assert_eq!(content(&open_copy(&copy)), all);
    let found = content(&open_copy(&Path::new("/data/snapshots").join(without)));
    assert!(found.values().all(|samples| samples.last().unwrap().0 < 4 * HOUR));
}

#[test]
fn blocks_that_are_put_into_the_folder_are_read_once_they_are_complete() {
    let disk = MemDisk::new();
    let db = open(&disk);
    run(&db, 2, 10 * HOUR, 11 * HOUR);
    // Made elsewhere and moved here, at first without one of its files.
    let dir = put_block(&disk, 7, HOUR);
    disk.rename(&dir.join("index"), Path::new("/index")).unwrap();
    for _ in 0..3 {
        assert_eq!(db.maintain().unwrap().blocks_adopted, 0);
    }
    disk.rename(Path::new("/index"), &dir.join("index")).unwrap();
    // Its files have changed, and may change again.
    assert_eq!(db.maintain().unwrap().blocks_adopted, 0);
    let early = TimeRange::new(0, 2 * HOUR);
    assert_eq!(content_of(&db, &[], early), Content::new());
    assert_eq!(db.maintain().unwrap().blocks_adopted, 1);
    assert_eq!(content_of(&db, &[], early), expected(2, [HOUR, HOUR + MINUTE]));
    assert_eq!(db.maintain().unwrap().blocks_adopted, 0);
    // What is done with blocks is done with it too.
    db.delete_series(&[vec![Matcher::equal("i", "0")]], early).unwrap();
    db.clean_tombstones().unwrap();
    assert_eq!(db.maintain().unwrap().blocks_adopted, 0);
    assert_eq!(content_of(&db, &[], early).len(), 1);
}

#[test]
fn a_block_of_the_time_that_the_head_has_or_of_the_future_is_not_read() {
    let disk = MemDisk::new();
    let db = open(&disk);
    run(&db, 2, 10 * HOUR, 11 * HOUR);
    let all = content(&db);
    put_block(&disk, 7, 10 * HOUR + 30 * MINUTE);
    put_block(&disk, 8, 9_000 * HOUR);
    for _ in 0..3 {
        assert_eq!(db.maintain().unwrap().blocks_adopted, 0);
    }
    assert_eq!(content(&db), all);
    // When the head is past it, it is.
    run(&db, 2, 11 * HOUR + MINUTE, 14 * HOUR);
    let adopted: u32 = (0..3).map(|_| db.maintain().unwrap().blocks_adopted).sum();
    assert_eq!(adopted, 1);
}

/// Puts a block of two samples of two series, the first at `t`, into the folder.
fn put_block(disk: &MemDisk, number: u128, t: i64) -> std::path::PathBuf {
    let mut builder = crate::tools::BlockBuilder::new(2 * HOUR);
    for i in 0..2 {
        builder.add(&labels(i), t, value(i, t));
        builder.add(&labels(i), t + MINUTE, value(i, t + MINUTE));
    }
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let ulid = ulid::Ulid::from(number);
    builder.write(&shared, Path::new("/made"), |_| ulid).unwrap();
    let dir = Path::new("/data").join(ulid.to_string());
    disk.rename(&Path::new("/made").join(ulid.to_string()), &dir).unwrap();
    dir
}

#[test]
fn blocks_of_late_samples_are_not_merged_before_the_rest_of_their_time_is_in_blocks() {
    let disk = MemDisk::new();
    let window = Duration::from_secs(6 * 3_600);
    let options = || Options { out_of_order_time_window: window, ..small_segments() };
    let db = open_with(&disk, options());
    run(&db, 2, 6 * HOUR, 12 * HOUR + 50 * MINUTE);
    db.maintain().unwrap();
    assert_eq!(db.head.read().min_valid(), 10 * HOUR);
    append(&db, 2, 10 * HOUR + 30 * MINUTE + 1);
    append(&db, 2, 12 * HOUR + 20 * MINUTE + 1);
    let all = content(&db);
    // Deleting nothing puts them into blocks of their own.
    let nothing = [vec![Matcher::equal("i", "9")]];
    db.delete_series(&nothing, TimeRange::ALL).unwrap();
    for _ in 0..3 {
        db.maintain().unwrap();
    }
    assert_eq!(content(&db), all);
    drop(db);
    disk.kill();
    assert_eq!(content(&open_with(&disk, options())), all);
}

#[test]
fn blocks_are_deleted_by_age_and_by_size() {
    let disk = MemDisk::new();
    let db = open(&disk);
    run(&db, 2, 0, 13 * HOUR);
    assert_eq!(spans(&db), [(0, 6), (6, 8), (8, 10)]);
    db.set_retention(Retention { time: Duration::from_secs(4 * 3_600), ..Retention::default() });
    db.maintain().unwrap();
    assert_eq!(spans(&db), [(6, 8), (8, 10)]);
    let bytes: u64 = db.blocks.read().loaded.iter().map(|block| block.bytes()).sum();
    db.set_retention(Retention { bytes: bytes * 100, ..Retention::default() });
    db.maintain().unwrap();
    assert_eq!(spans(&db).len(), 2);
    // A hundredth of a disk that is a hundred times smaller than what there is.
    disk.set_space(Space { available_bytes: 0, total_bytes: bytes });
    db.set_retention(Retention { percentage: 1.0, ..Retention::default() });
    db.maintain().unwrap();
    assert_eq!(spans(&db), []);
    assert_eq!(content(&db), expected(2, times(MINUTE, 13 * HOUR).filter(|t| *t >= 10 * HOUR)));
}

/// A store with 1,500 series, of which 1,200 have ended.
fn with_ended_series(disk: &MemDisk) -> Db {
    let options = Options { stale_series_compaction_threshold: 0.5, ..small_segments() };
    let db = open_with(disk, options);
    let mut batch = Batch::new();
    for i in 0..1500 {
        batch.push_new(labels(i), 1, value(i, 1));
        batch.push_new(labels(i), 2, value(i, 2));
    }
    db.append(&batch).unwrap();
    batch.clear();
    for i in 0..1200 {
        batch.push_new(labels(i), 3, model::stale_marker());
    }
    db.append(&batch).unwrap();
    db
}

#[test]
fn series_that_have_ended_leave_early() {
    let disk = MemDisk::new();
    let db = with_ended_series(&disk);
    let all = content(&db);
    let done = db.maintain().unwrap();
    assert_eq!((done.series_dropped, db.statistics(0).head.series), (1200, 300));
    assert_eq!(content(&db), all);
    // One comes back, under another ref.
    append(&db, 1, 10);
    let mut all = all;
    all.get_mut(&labels(0).to_string()).unwrap().push((10, value(0, 10).to_bits()));
    assert_eq!(content(&db), all);
    for restart in 0..2 {
        disk.kill();
        let db = open(&disk);
        assert_eq!(content(&db), all, "restart {restart}");
        assert_eq!(db.statistics(0).head.series, 301, "restart {restart}");
    }
}

#[test]
fn series_that_have_ended_are_cut_once_though_the_log_fails() {
    let disk = MemDisk::new();
    let db = with_ended_series(&disk);
    let all = content(&db);
    // They stay while a query reads them.
    let querier = db.querier(TimeRange::ALL).unwrap();
    let done = db.maintain().unwrap();
    assert_eq!((done.blocks_cut, done.series_dropped), (1, 0));
    drop(querier);
    disk.fail_from(disk.operations(), Fault::Error(ENOSPC));
    db.maintain().unwrap_err();
    assert_eq!(content(&db), all);
    disk.heal();
    let done = db.maintain().unwrap();
    assert_eq!((done.blocks_cut, done.series_dropped), (0, 1200));
    assert_eq!((spans(&db).len(), content(&db)), (1, all));
}

#[test]
fn a_damaged_block_is_put_aside_and_stays_named() {
    let disk = MemDisk::new();
    let db = open(&disk);
    run(&db, 2, 0, 6 * HOUR);
    let dirs: Vec<_> = db.blocks.read().loaded.iter().map(|block| block.dir.clone()).collect();
    drop(db);
    disk.kill();
    let index = dirs[0].join("index");
    let mut bytes = disk.read(&index).unwrap();
    let end = bytes.len() - 10;
    bytes[end] ^= 0x01;
    disk.overwrite(&index, &bytes).unwrap();
    for start in 0..2 {
        let db = open(&disk);
        let context = QueryContext::unbounded();
        let querier = db.querier(TimeRange::ALL).unwrap();
        let set = querier.select(&Selection::new(&[], TimeRange::ALL), &context).unwrap();
        assert_eq!(set.warnings().len(), 1, "start {start}: {:?}", set.warnings());
        drop(set);
        drop(querier);
        let found = content(&db);
        assert!(found.values().all(|samples| samples[0].0 >= 2 * HOUR), "start {start}");
        drop(db);
        disk.kill();
        assert!(!crate::disk::exists(&disk, &dirs[0]).unwrap());
    }
    let aside = disk.list(Path::new("/data/quarantine")).unwrap();
    assert_eq!(aside.len(), 1);
}
