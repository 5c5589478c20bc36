//! Operations of a script fail, each in turn: once, half done, or all that follow until the disk is well again.
//!
//! A script is cut into the parts between two starts. A part is repeated from a copy of the disk as it was, with another operation failing each
//! time; then the disk is well, the store is started again, and has to have what it acknowledged.

use std::sync::Arc;

use parking_lot::Mutex;
use tests::conformance::note;
use tests::faults::seed;
use tests::load::mix;
use tsdb::{Disk, Fault, Fsync, MemDisk};

use super::account::{Account, After, content};
use super::power::check_leftovers;
use super::script::{Action, Faults, Run, Script};
use super::{Length, length};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// What fails. Operations and reads are counted from the start of the part.
#[derive(Clone, Copy, Debug)]
enum Failure {
    Change(u64, Fault),
    ChangesFrom(u64, Fault),
    Read(u64),
    ReadsFrom(u64),
}

impl Failure {
    fn arm(self, disk: &MemDisk) {
        let (operations, reads) = (disk.operations(), disk.reads());
        match self {
            Self::Change(nth, fault) => disk.fail_at(operations + nth, fault),
            Self::ChangesFrom(nth, fault) => disk.fail_from(operations + nth, fault),
            Self::Read(nth) => disk.fail_read_at(reads + nth, EIO),
            Self::ReadsFrom(nth) => disk.fail_reads_from(reads + nth, EIO),
        }
    }
}

/// A part of a script, between two starts.
struct Part {
    disk: MemDisk,
    account: Account,
    actions: Vec<Action>,
    operations: u64,
    reads: u64,
}

#[test]
fn an_operation_that_fails_costs_no_sample_that_was_acknowledged() {
    let seed = seed("failing operations");
    let (scripts, steps, tried) = match length() {
        Length::Short => (1, 64, Some(300)),
        Length::Long => (10, 160, None),
    };
    let (mut total, mut done, mut wrong) = (0, 0, Vec::new());
    for number in 0..scripts {
        let seed = if number == 0 { seed } else { mix(seed ^ number) };
        let fsync = if seed.is_multiple_of(2) { Fsync::Grouped } else { Fsync::Always };
        let script = Script::new(seed, steps, fsync);
        let parts = parts(&script);
        let failures = failures(&parts);
        total += failures.len() as u64;
        let stride = tried.map_or(1, |tried| (failures.len() as u64).div_ceil(tried).max(1));
        for (nth, &(part, failure)) in (0..).zip(&failures) {
            if (nth + seed % stride) % stride == 0 {
                done += 1;
                if let Err(error) = check(&script, &parts[part], failure) {
                    wrong.push(format!("seed {}, part {part}, {failure:?}: {error}", script.seed));
                }
            }
        }
    }
    note(&format!("failing operations: {done} of {total} failures of {scripts} scripts tried"));
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Carries the script out once, without a failure.
fn parts(script: &Script) -> Vec<Part> {
    let mut parts = Vec::new();
    let (mut disk, mut account) = (MemDisk::new(), Script::account());
    let is_end = |action: &Action| matches!(action, Action::Close | Action::Kill);
    for actions in script.actions.split_inclusive(is_end) {
        let start = disk.fork();
        let (operations, reads) = (disk.operations(), disk.reads());
        let after = perform(script, &disk, &account, actions, Faults::None)
            .unwrap_or_else(|error| panic!("seed {}: {error}", script.seed));
        parts.push(Part {
            disk: start,
            account,
            actions: actions.to_vec(),
            operations: disk.operations() - operations,
            reads: disk.reads() - reads,
        });
        account = after;
        disk = disk.fork();
    }
    parts
}

fn failures(parts: &[Part]) -> Vec<(usize, Failure)> {
    let mut all = Vec::new();
    for (number, part) in parts.iter().enumerate() {
        for nth in 0..part.operations {
            for errno in [EIO, ENOSPC] {
                all.push((number, Failure::Change(nth, Fault::Error(errno))));
                all.push((number, Failure::ChangesFrom(nth, Fault::Error(errno))));
            }
            all.push((number, Failure::Change(nth, Fault::Torn(ENOSPC))));
            all.push((number, Failure::ChangesFrom(nth, Fault::Torn(EIO))));
        }
        for nth in 0..part.reads {
            all.push((number, Failure::Read(nth)));
            all.push((number, Failure::ReadsFrom(nth)));
        }
    }
    all
}

/// Opens the store and does all of it; the account afterwards.
fn perform(
    script: &Script,
    disk: &MemDisk,
    account: &Account,
    actions: &[Action],
    faults: Faults,
) -> Result<Account, String> {
    let account = Arc::new(Mutex::new(account.clone()));
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut run = Run::new(script, disk.clone(), shared, Arc::clone(&account));
    run.faults = faults;
    for &action in actions {
        run.perform(action).map_err(|error| format!("{action:?}: {error}"))?;
    }
    drop(run);
    let account = account.lock().clone();
    Ok(account)
}

fn check(script: &Script, part: &Part, failure: Failure) -> Result<(), String> {
    let disk = part.disk.fork();
    failure.arm(&disk);
    let mut account = perform(script, &disk, &part.account, &part.actions, Faults::Possible)?;
    disk.heal();
    disk.kill();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    for start in ["the disk is well", "a second start"] {
        let db = script.open(&shared).map_err(|error| format!("{start}: {error}"))?;
        let (found, warnings) = content(&db).map_err(|error| format!("{start}: {error}"))?;
        if !warnings.is_empty() {
            return Err(format!("{start}: a query warns: {warnings:?}"));
        }
        account.check(&found, After::Kill).map_err(|error| format!("{start}: {error}"))?;
        check_leftovers(&disk)?;
        account.settle(&found);
        db.maintain().map_err(|error| format!("{start}: {error}"))?;
        drop(db);
        disk.kill();
    }
    Ok(())
}
