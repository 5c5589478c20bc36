//! Bounds of the head, and durability as chosen.

use super::*;
use crate::Fsync;

fn try_append(db: &Db, names: &[&str], t: i64) -> Vec<usize> {
    let mut batch = Batch::new();
    for name in names {
        batch.push_new(Labels::from_pairs([("__name__", *name)]).unwrap(), t, 1.0);
    }
    let rejected = db.append(&batch).unwrap().rejected;
    assert!(rejected.iter().all(|rejected| rejected.reason == Rejection::SeriesLimit));
    rejected.into_iter().map(|rejected| rejected.index).collect()
}

#[test]
fn new_series_are_refused_at_the_limit_and_needed_ones_find_room() {
    let disk = MemDisk::new();
    let options = Options { head_series_max: Some(10), ..small_segments() };
    let db = open_with(&disk, options);
    let names: Vec<String> = (0..12).map(|i| format!("m{i}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    // A tenth is for series that others need.
    assert_eq!(try_append(&db, &names, 1), [9, 10, 11]);
    assert_eq!(try_append(&db, &["other", "up", "node_cpu_seconds_total"], 2), [0, 2]);
    // Existing ones go on.
    assert_eq!(try_append(&db, &names[..9], 3), [0_usize; 0]);
    assert_eq!(db.statistics(0).head.series, 10);
    assert_eq!(db.metrics.series_refused.get(), 5);
}

#[test]
fn new_series_are_refused_when_the_head_has_its_bytes() {
    let disk = MemDisk::new();
    let options = Options { head_bytes_max: Some(1 << 20), ..small_segments() };
    let db = open_with(&disk, options);
    let mut admitted = 0;
    for i in 0..20_000 {
        let name = format!("series_with_a_long_name_{i}");
        if try_append(&db, &[&name], 1).is_empty() {
            admitted += 1;
        }
    }
    assert!((1_000..20_000).contains(&admitted), "{admitted}");
    assert!(db.head.read().bytes() < (1 << 20) + (1 << 17));
    assert_eq!(try_append(&db, &["series_with_a_long_name_0"], 2), [0_usize; 0]);
}

#[test]
fn always_syncing_loses_nothing_to_a_power_cut() {
    let disk = MemDisk::new();
    let options = Options { wal_fsync: Fsync::Always, ..small_segments() };
    let db = open_with(&disk, options);
    append(&db, 3, 1);
    append(&db, 3, 2);
    disk.crash();
    drop(db);
    assert_eq!(content(&open(&disk)), expected(3, [1, 2]));
}

#[test]
fn a_batch_that_cannot_be_synced_is_not_acknowledged() {
    let disk = MemDisk::new();
    let options = || Options { wal_fsync: Fsync::Always, ..small_segments() };
    let db = open_with(&disk, options());
    append(&db, 1, 1);
    // The write succeeds, the sync fails.
    disk.fail_at(disk.operations() + 1, Fault::Error(5));
    let mut batch = Batch::new();
    batch.push_new(labels(0), 2, 1.0);
    assert!(db.append(&batch).is_err());
    assert_eq!(content(&db), expected(1, [1]));
    append(&db, 1, 3);
    assert_eq!(content(&db), expected(1, [1, 3]));
    disk.crash();
    drop(db);
    assert_eq!(content(&open(&disk)), expected(1, [1, 3]));
}
