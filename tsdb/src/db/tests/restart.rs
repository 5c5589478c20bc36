//! Restarts with and without a snapshot of the head.

use super::*;

const SNAPSHOT: &str = "/data/head_snapshot";

/// A store after five hours, closed, with a snapshot; what is in it.
fn closed(disk: &MemDisk) -> Content {
    let db = open(disk);
    for t in times(MINUTE, 5 * HOUR) {
        append(&db, 7, t);
        if t % HOUR == 0 {
            db.maintain().unwrap();
        }
    }
    db.close().unwrap();
    let all = content(&db);
    assert_eq!(all, expected(7, times(MINUTE, 5 * HOUR)));
    all
}

/// Whether the start took the head from a snapshot.
fn has_snapshot(db: &Db) -> bool {
    !db.maintenance.lock().unread_segments.is_empty()
}

#[test]
fn a_restart_takes_the_snapshot_and_the_end_of_the_log() {
    let disk = MemDisk::new();
    let all = closed(&disk);
    let db = open(&disk);
    assert_eq!(content(&db), all);
    assert!(has_snapshot(&db));
    times(MINUTE, 10 * HOUR).filter(|t| *t > 5 * HOUR).for_each(|t| {
        append(&db, 8, t);
        if t % HOUR == 0 {
            db.maintain().unwrap();
        }
    });
    let all = content(&db);
    assert_eq!(all[&labels(0).to_string()].len(), 601);
    drop(db);
    disk.kill();
    assert_eq!(content(&open(&disk)), all);
}

#[test]
fn refs_go_on_after_a_snapshot() {
    let disk = MemDisk::new();
    closed(&disk);
    let db = open(&disk);
    let next = db.head.read().next_ref();
    append(&db, 9, 6 * HOUR);
    assert_eq!(db.head.read().next_ref(), next + 2);
    drop(db);
    disk.kill();
    let db = open(&disk);
    assert_eq!(db.head.read().next_ref(), next + 2);
    let found = content(&db);
    assert_eq!(found[&labels(8).to_string()].len(), 1);
}

#[test]
fn a_flipped_byte_of_a_snapshot_makes_it_worthless_and_nothing_is_lost() {
    let disk = MemDisk::new();
    let all = closed(&disk);
    let snapshot = disk.read(Path::new(SNAPSHOT)).unwrap();
    for at in (0..snapshot.len()).step_by(snapshot.len() / 60) {
        let disk = disk.fork();
        let mut flipped = snapshot.clone();
        flipped[at] ^= 0x10;
        disk.overwrite(Path::new(SNAPSHOT), &flipped).unwrap();
        let db = open(&disk);
        assert_eq!(content(&db), all, "byte {at}");
        assert!(!has_snapshot(&db), "byte {at}");
    }
}

#[test]
fn a_snapshot_of_another_log_is_not_used() {
    let disk = MemDisk::new();
    closed(&disk);
    // The log ends before the place that the snapshot knows: a power cut took the rest.
    let listing = segments::list(&disk, Path::new("/data/wal")).unwrap();
    let (_, last) = listing.segments.last().unwrap();
    let bytes = disk.read(last).unwrap();
    let cut = bytes.len().saturating_sub(40);
    disk.overwrite(last, &bytes[..cut]).unwrap();
    let db = open(&disk);
    assert!(!has_snapshot(&db));
    assert!(content(&db)[&labels(0).to_string()].len() >= 300);
    drop(db);
    // Another log altogether, of the same length.
    let disk = MemDisk::new();
    closed(&disk);
    let mut other = bytes;
    other.iter_mut().for_each(|byte| *byte ^= 0xff);
    disk.overwrite(last, &other).unwrap();
    let db = open(&disk);
    assert!(!has_snapshot(&db));
}

#[test]
fn a_missing_file_of_chunks_makes_a_snapshot_worthless() {
    let disk = MemDisk::new();
    let all = closed(&disk);
    let files = disk.list(Path::new("/data/chunks_head")).unwrap();
    assert!(!files.is_empty());
    for entry in files {
        let disk = disk.fork();
        disk.remove_file(&Path::new("/data/chunks_head").join(&entry.name)).unwrap();
        assert_eq!(content(&open(&disk)), all, "without {}", entry.name);
    }
}

#[test]
fn chunks_of_the_head_have_what_a_damaged_log_lost() {
    let disk = MemDisk::new();
    let db = open(&disk);
    times(15_000, HOUR).for_each(|t| append(&db, 3, t));
    db.maintain().unwrap();
    drop(db);
    disk.kill();
    let listing = segments::list(&disk, Path::new("/data/wal")).unwrap();
    let (_, segment) = &listing.segments[0];
    let mut bytes = disk.read(segment).unwrap();
    for at in (1_000..bytes.len() / 2).step_by(500) {
        bytes[at] ^= 0x01;
    }
    disk.overwrite(segment, &bytes).unwrap();
    let found = content(&open(&disk));
    let all = expected(3, times(15_000, HOUR));
    // An hour fills one chunk of 30 minutes; the second is open and only in the log.
    for (series, samples) in &all {
        let full: Vec<_> = samples.iter().filter(|(t, _)| *t < 30 * MINUTE).collect();
        let kept: Vec<_> = found[series].iter().filter(|(t, _)| *t < 30 * MINUTE).collect();
        assert_eq!(kept, full);
        assert!(found[series].iter().all(|sample| samples.contains(sample)));
    }
    // And once more, from what the repair left.
    disk.kill();
    assert_eq!(content(&open(&disk)), found);
}

#[test]
fn damage_before_a_snapshot_is_mended_for_a_prometheus() {
    let disk = MemDisk::new();
    let all = closed(&disk);
    let listing = segments::list(&disk, Path::new("/data/wal")).unwrap();
    let (_, first) = &listing.segments[0];
    let mut bytes = disk.read(first).unwrap();
    bytes[1_000] ^= 0x40;
    disk.overwrite(first, &bytes).unwrap();
    let db = open(&disk);
    assert_eq!(content(&db), all);
    db.maintain().unwrap();
    let damage = crate::wal::replay::read_segment(&disk, first, |_| Ok(())).unwrap();
    assert!(damage.lost.is_empty());
}

#[test]
fn a_reader_changes_nothing() {
    let disk = MemDisk::new();
    let db = open(&disk);
    times(MINUTE, 4 * HOUR).for_each(|t| append(&db, 3, t));
    db.maintain().unwrap();
    let all = content(&db);
    let before = disk.operations();
    let progress = super::super::ReplayProgress::new();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let clock = Arc::new(ManualClock::new(0));
    let reader =
        Db::open_read_only(Path::new("/data"), shared, clock, small_segments(), &progress).unwrap();
    assert_eq!(content(&reader), all);
    assert!(reader.append(&Batch::new()).is_err());
    reader.maintain().unwrap();
    reader.close().unwrap();
    drop(reader);
    assert_eq!(disk.operations(), before);
}
