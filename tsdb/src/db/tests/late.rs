//! Samples that come out of order.

use std::time::Duration;

use super::*;

fn with_window(hours: u64) -> Options {
    let out_of_order_time_window = Duration::from_secs(hours * 3_600);
    Options { out_of_order_time_window, ..small_segments() }
}

#[test]
fn late_samples_are_taken_within_the_window_and_told_apart_beyond() {
    let disk = MemDisk::new();
    let db = open_with(&disk, with_window(2));
    append(&db, 2, 4 * HOUR);
    append(&db, 2, 3 * HOUR);
    append(&db, 1, 2 * HOUR + 1);
    let mut batch = Batch::new();
    batch.push_new(labels(0), 2 * HOUR - 1, 1.0);
    batch.push_new(labels(0), 4 * HOUR, -1.0);
    let reasons: Vec<Rejection> =
        db.append(&batch).unwrap().rejected.iter().map(|rejected| rejected.reason).collect();
    assert_eq!(reasons, [Rejection::TooOld, Rejection::DuplicateTimestamp]);
    let mut all = expected(2, [3 * HOUR, 4 * HOUR]);
    let first = all.get_mut(&labels(0).to_string()).unwrap();
    first.insert(0, (2 * HOUR + 1, value(0, 2 * HOUR + 1).to_bits()));
    assert_eq!(content(&db), all);
    drop(db);
    disk.kill();
    assert_eq!(content(&open_with(&disk, with_window(2))), all);
    // The window may be closed; what was taken stays.
    disk.kill();
    let db = open(&disk);
    assert_eq!(content(&db), all);
    let mut batch = Batch::new();
    batch.push_new(labels(1), 4 * HOUR - 1, 1.0);
    assert_eq!(db.append(&batch).unwrap().rejected[0].reason, Rejection::OutOfOrder);
}

/// Every third sample comes an hour late.
fn append_unevenly(db: &Db, until: i64) {
    for t in times(MINUTE, until) {
        if t / MINUTE % 3 != 0 {
            append(db, 3, t);
        }
        let late = t - HOUR;
        if late >= 0 && late / MINUTE % 3 == 0 {
            append(db, 3, late);
        }
        if t % (30 * MINUTE) == 0 {
            db.maintain().unwrap();
            db.sync().unwrap();
        }
    }
}

fn uneven(until: i64) -> Content {
    let is_there = |t: &i64| t / MINUTE % 3 != 0 || *t <= until - HOUR;
    expected(3, times(MINUTE, until).filter(is_there))
}

#[test]
fn late_samples_survive_chunks_blocks_merges_and_restarts() {
    let disk = MemDisk::new();
    let db = open_with(&disk, with_window(3));
    append_unevenly(&db, 9 * HOUR);
    assert_eq!(content(&db), uneven(9 * HOUR));
    // Blocks of late samples were merged with those that they overlap.
    let blocks = std::sync::Arc::clone(&db.blocks.read());
    assert!(blocks.loaded.len() >= 2);
    assert!(blocks.loaded.windows(2).all(|pair| pair[0].meta.max_time <= pair[1].meta.min_time));
    drop((db, blocks));
    for restart in 0..3 {
        disk.kill();
        let db = open_with(&disk, with_window(3));
        assert_eq!(content(&db), uneven(9 * HOUR), "restart {restart}");
    }
}

#[test]
fn a_view_sees_no_late_sample_that_came_after_it_was_opened() {
    let disk = MemDisk::new();
    let db = open_with(&disk, with_window(3));
    append(&db, 2, 2 * HOUR);
    append(&db, 2, HOUR);
    let context = QueryContext::unbounded();
    let view = db.querier(TimeRange::ALL).unwrap();
    for minute in 0..50 {
        append(&db, 2, minute * MINUTE);
    }
    db.maintain().unwrap();
    let set = view.select(&Selection::new(&[], TimeRange::ALL), &context).unwrap();
    for index in 0..set.len() {
        let mut columns = Columns::new();
        set.read(index, TimeRange::ALL, &mut columns, &context).unwrap();
        assert_eq!(columns.times(), [HOUR, 2 * HOUR]);
    }
    drop(set);
    drop(view);
    let all = times(MINUTE, 49 * MINUTE).chain([HOUR, 2 * HOUR]);
    assert_eq!(content(&db), expected(2, all.clone()));
    // Now they become chunks.
    db.maintain().unwrap();
    assert_eq!(content(&db), expected(2, all));
    assert!(db.head.read().late.bytes() < 1000);
}

#[test]
fn blocks_of_late_samples_do_not_move_the_head() {
    let disk = MemDisk::new();
    let db = open_with(&disk, with_window(24));
    times(10 * MINUTE, 4 * HOUR).for_each(|t| append(&db, 1, t));
    append(&db, 1, 5 * MINUTE);
    db.maintain().unwrap();
    let from = db.head.read().min_valid();
    assert_eq!(from, 2 * HOUR);
    // Late, in the range that the head still has, and older.
    append(&db, 1, 3 * HOUR + MINUTE);
    append(&db, 1, MINUTE);
    times(10 * MINUTE, 6 * HOUR).filter(|t| *t > 4 * HOUR).for_each(|t| append(&db, 1, t));
    db.maintain().unwrap();
    assert_eq!(db.head.read().min_valid(), 4 * HOUR);
    drop(db);
    disk.kill();
    let db = open_with(&disk, with_window(24));
    assert_eq!(db.head.read().min_valid(), 4 * HOUR);
    let all = times(10 * MINUTE, 6 * HOUR).chain([MINUTE, 5 * MINUTE, 3 * HOUR + MINUTE]);
    let mut all: Vec<i64> = all.collect();
    all.sort_unstable();
    assert_eq!(content(&db), expected(1, all));
}

#[test]
fn late_samples_that_were_deleted_while_a_view_is_open_do_not_come_back() {
    let disk = MemDisk::new();
    let db = open_with(&disk, with_window(24));
    append(&db, 1, 5 * HOUR);
    append(&db, 1, HOUR);
    let all = [vec![Matcher::equal("job", "test")]];
    let view = db.querier(TimeRange::ALL).unwrap();
    db.delete_series(&all, TimeRange::new(0, 2 * HOUR)).unwrap();
    // The view still reads the first where they were, so these cannot be put into a block.
    append(&db, 1, 2 * HOUR + MINUTE);
    let more = TimeRange::new(2 * HOUR + 1, 3 * HOUR);
    let refused = db.delete_series(&all, more).unwrap_err();
    assert!(matches!(refused, crate::AdminError::Busy), "{refused}");
    db.delete_series(&all, TimeRange::new(3 * HOUR, 4 * HOUR)).unwrap();
    assert_eq!(content(&db), expected(1, [2 * HOUR + MINUTE, 5 * HOUR]));
    drop(view);
    db.delete_series(&all, more).unwrap();
    assert_eq!(content(&db), expected(1, [5 * HOUR]));
    drop(db);
    disk.kill();
    assert_eq!(content(&open_with(&disk, with_window(24))), expected(1, [5 * HOUR]));
}
