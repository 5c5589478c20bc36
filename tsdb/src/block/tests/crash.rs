//! Failures and power cuts at every operation: there is the old or the new, nothing else.

use model::Matcher;

use super::*;
use crate::block::merge::merge;
use crate::block::quarantine::{QUARANTINE_DIR, quarantine};
use crate::block::snapshot::snapshot_block;
use crate::disk::Fault;

const SPAN: (i64, i64) = (0, 1000);

fn first() -> Model {
    model(0..3, (0..50).map(|t| t * 20))
}

fn second() -> Model {
    model(1..4, (0..50).map(|t| t * 20 + 10))
}

/// What is left of a model after the deletion of these tests.
fn without_deleted(mut model: Model) -> Model {
    for (_, samples) in model.iter_mut().filter(|(labels, _)| labels[1].1 == "1") {
        samples.retain(|&t, _| !(200..=395).contains(&t));
    }
    model
}

fn delete(disk: &dyn Disk, block: &Block) -> Result<Option<Block>, BlockError> {
    let matchers = vec![Matcher::equal("i", "1")];
    block.delete(disk, &[matchers], TimeRange::new(200, 395), &QueryContext::unbounded())
}

/// Runs `act` on copies of `before` with a failure at each of its operations, once for the rest of the process' life and a power cut after it,
/// once for that operation alone; `check` looks at what is there then.
fn at_each_operation(
    before: &MemDisk,
    act: impl Fn(&MemDisk) -> bool,
    check: impl Fn(&MemDisk, &str),
) {
    let whole = before.fork();
    assert!(act(&whole), "it works without a failure");
    check(&whole, "without a failure");
    let operations = whole.operations();
    assert!(operations > 5, "{operations} operations");
    for nth in 0..operations {
        for fault in [Fault::Error(5), Fault::Torn(28)] {
            let disk = before.fork();
            disk.fail_from(nth, fault);
            act(&disk);
            disk.crash_keeping(|unsynced| unsynced * usize::try_from(nth % 3).unwrap() / 2);
            check(&disk, &format!("power cut at operation {nth}"));
            let disk = before.fork();
            disk.fail_at(nth, fault);
            act(&disk);
            disk.heal();
            check(&disk, &format!("failure of operation {nth}"));
        }
        let disk = before.fork();
        act(&disk);
        disk.crash();
        check(&disk, "power cut after the last operation");
    }
}

#[test]
fn a_block_is_written_as_a_whole_or_not_at_all() {
    let act = |disk: &MemDisk| {
        let written = try_write(&shared(disk), Path::new(DIR), 1, SPAN, &first(), 13);
        if written.is_ok() {
            assert_whole(disk, &dir_of(1));
        }
        written.is_ok()
    };
    at_each_operation(&new_disk(), act, |disk, when| {
        for entry in disk.list(Path::new(DIR)).unwrap() {
            if entry.name.ends_with(crate::block::CREATION_SUFFIX) {
                continue;
            }
            let block = open(disk, &Path::new(DIR).join(&entry.name));
            let block = block.unwrap_or_else(|error| panic!("{when}: {error}"));
            assert_eq!(content(&block).unwrap(), first(), "{when}");
            assert_whole(disk, &block.dir);
        }
    });
}

#[test]
fn a_merge_leaves_its_inputs_alone_and_a_whole_block_or_none() {
    let disk = new_disk();
    let (a, b) = (write(&disk, 1, SPAN, &first(), 13), write(&disk, 2, SPAN, &second(), 9));
    let mut expected = first();
    for (labels, samples) in second() {
        expected.entry(labels).or_default().extend(samples);
    }
    drop((a, b));
    let act = |disk: &MemDisk| {
        let blocks = [1, 2].map(|number| open(disk, &dir_of(number)).unwrap());
        let inputs: Vec<&Block> = blocks.iter().collect();
        let metas: Vec<&Meta> = blocks.iter().map(|block| &block.meta).collect();
        let meta = Meta::of_parents(Ulid::from(3), &metas);
        merge(&shared(disk), Path::new(DIR), meta, &inputs, &|| false).is_ok()
    };
    at_each_operation(&disk, act, |disk, when| {
        assert_eq!(content(&open(disk, &dir_of(1)).unwrap()).unwrap(), first(), "{when}");
        assert_eq!(content(&open(disk, &dir_of(2)).unwrap()).unwrap(), second(), "{when}");
        if crate::disk::exists(disk, &dir_of(3)).unwrap() {
            let block = open(disk, &dir_of(3)).unwrap_or_else(|error| panic!("{when}: {error}"));
            assert_eq!(content(&block).unwrap(), expected, "{when}");
            assert_whole(disk, &block.dir);
        }
    });
}

#[test]
fn a_deletion_is_done_or_not() {
    let disk = new_disk();
    drop(write(&disk, 1, SPAN, &first(), 13));
    let act = |disk: &MemDisk| {
        let block = open(disk, &dir_of(1)).unwrap();
        match delete(disk, &block) {
            Ok(after) => {
                assert_eq!(content(&after.unwrap()).unwrap(), without_deleted(first()));
                true
            }
            Err(_) => false,
        }
    };
    at_each_operation(&disk, act, |disk, when| {
        let block = open(disk, &dir_of(1)).unwrap_or_else(|error| panic!("{when}: {error}"));
        let found = content(&block).unwrap();
        let is_deleted = found == without_deleted(first());
        assert!(is_deleted || found == first(), "{when}");
        assert_eq!(block.meta.stats.num_tombstones, u64::from(is_deleted), "{when}");
        assert_whole(disk, &block.dir);
        // And it can be done again.
        assert_eq!(delete(disk, &block).unwrap().is_some(), !is_deleted, "{when}");
    });
}

#[test]
fn a_block_is_put_aside_or_where_it_was() {
    let disk = new_disk();
    drop(write(&disk, 1, SPAN, &first(), 13));
    let aside = Path::new(DIR).join(QUARANTINE_DIR).join(Ulid::from(1).to_string());
    let act = |disk: &MemDisk| quarantine(disk, &dir_of(1), "for a test").is_ok();
    at_each_operation(&disk, act, |disk, when| {
        let there = [&dir_of(1), &aside].map(|dir| crate::disk::exists(disk, dir).unwrap());
        assert_ne!(there, [false, false], "{when}");
        for (dir, _) in [dir_of(1), aside.clone()].iter().zip(there).filter(|(_, there)| *there) {
            let meta = Meta::read(disk, dir).unwrap();
            let block = Block::open(disk, dir, meta, Access::ReadOnly).unwrap();
            assert_eq!(content(&block).unwrap(), first(), "{when}");
        }
    });
}

#[test]
fn blocks_of_one_name_are_put_aside_side_by_side() {
    let disk = new_disk();
    let mut places = vec![];
    for reason in ["the first", "the second"] {
        drop(write(&disk, 1, SPAN, &first(), 13));
        let place = quarantine(&disk, &dir_of(1), reason).unwrap();
        let text = disk.read(&place.join("reason.txt")).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), format!("{reason}\n"));
        places.push(place);
    }
    assert_ne!(places[0], places[1]);
    assert!(!crate::disk::exists(&disk, &dir_of(1)).unwrap());
}

#[test]
fn a_snapshot_is_whole_or_not_there_and_does_not_change() {
    let disk = new_disk();
    drop(write(&disk, 1, SPAN, &first(), 13));
    let into = Path::new("/data/snapshots/now");
    let target = into.join(Ulid::from(1).to_string());
    let act = |disk: &MemDisk| {
        let made = snapshot_block(disk, &dir_of(1), into);
        if made.is_ok() {
            let block = open(disk, &dir_of(1)).unwrap();
            // What is deleted afterwards is still in the snapshot.
            let _ = delete(disk, &block);
        }
        made.is_ok()
    };
    at_each_operation(&disk, act, |disk, when| {
        open(disk, &dir_of(1)).unwrap();
        if crate::disk::exists(disk, &target).unwrap() {
            let block = open(disk, &target).unwrap_or_else(|error| panic!("{when}: {error}"));
            assert_eq!(content(&block).unwrap(), first(), "{when}");
            assert_whole(disk, &target);
            let again = snapshot_block(disk, &dir_of(1), into);
            assert_eq!(again.unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
        }
    });
}
