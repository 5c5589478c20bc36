//! SIGKILL just before the Nth call of each kind that changes files.

use std::path::Path;

use tests::conformance::note;
use tests::faults::{
    LoadCommand, Strace, calls, check_store, copy_dir, folder, kills, leftovers, seed,
};
use tests::load::{Ledger, Line, mix};

/// Calls that change files; `?` lets `strace` pass over those that a machine does not have.
const CHANGING: [&str; 16] = [
    "write",
    "pwrite64",
    "writev",
    "fdatasync",
    "fsync",
    "ftruncate",
    "?rename",
    "renameat",
    "renameat2",
    "?unlink",
    "unlinkat",
    "?mkdir",
    "mkdirat",
    "?link",
    "linkat",
    "fallocate",
];
/// Steps of the load that is killed: two cuts, their checkpoints, and deletions.
const STEPS: i64 = 130;

/// A store that was killed in the middle of things, with the account of it.
fn prepare(folder: &Path, seed: u64) -> (LoadCommand, Ledger) {
    let mut command = LoadCommand::new(env!("CARGO_BIN_EXE_append_load"), folder, seed);
    command.workload.burst_series = 150;
    let mut ledger = command.ledger();
    let mut load = command.start(&ledger, None);
    let enough = |line: &Line| matches!(line, Line::Acknowledged { step: 520, .. });
    load.wait_for("step 520", enough);
    let ended = load.kill();
    assert!(ended.was_killed(), "{ended:?}");
    ledger.enter(1, &ended.lines).unwrap();
    // Half a record at the end of the log, so that opening has something to repair.
    let wal = command.store.join("wal");
    let mut names: Vec<_> = std::fs::read_dir(&wal).unwrap().map(|e| e.unwrap().path()).collect();
    names.sort();
    let last = names.iter().rfind(|path| path.is_file()).unwrap();
    let mut bytes = std::fs::read(last).unwrap();
    bytes.extend([1, 0x40, 0, 1, 2, 3, 4, 5, 6]);
    std::fs::write(last, bytes).unwrap();
    (command, ledger)
}

#[test]
fn a_store_killed_at_any_system_call_loses_nothing_that_it_acknowledged() {
    let Some(strace) = Strace::find() else { return };
    let seed = seed("kills at system calls");
    let folder = folder();
    let (mut command, ledger) = prepare(folder.path(), seed);
    command.steps = Some(STEPS);
    let original = command.store.clone();

    let counted = folder.path().join("counted");
    copy_dir(&original, &counted);
    command.store = counted;
    let log = folder.path().join("calls");
    let ended = command.start(&ledger, Some(&strace.record(&CHANGING.join(","), &log))).end();
    assert!(ended.status.success(), "{ended:?}");
    let mut counts: Vec<_> = calls(&log).into_iter().collect();
    counts.sort_by_key(|(_, count)| *count);
    let text: Vec<_> = counts.iter().map(|(call, count)| format!("{count} {call}")).collect();
    note(&format!("kills at system calls: a run makes {}", text.join(", ")));

    let wanted = kills() - kills() / 3;
    let (mut killed, mut kept) = (0, 0);
    let kinds = counts.len();
    for (position, (call, count)) in counts.into_iter().enumerate() {
        // Rare calls each, frequent ones as often as is left.
        let share = (wanted - killed).div_ceil(kinds - position).min(count);
        for nth in spread(share, count, mix(seed ^ position as u64)) {
            let store = folder.path().join(format!("{call}-{nth}"));
            copy_dir(&original, &store);
            command.store = store.clone();
            let mut ledger = ledger.clone();
            let kill = strace.inject(&call, &format!("signal=SIGKILL:when={nth}"));
            let ended = command.start(&ledger, Some(&kill)).end();
            let place = format!("{call} {nth} of {count}, seed {seed}");
            assert!(ended.was_killed(), "{place}: not killed: {ended:?}");
            assert_eq!(ended.stderr, "", "{place}");
            ledger.enter(1, &ended.lines).unwrap();
            let account = check_store(&command, &mut ledger)
                .unwrap_or_else(|error| panic!("{place}: {error}"));
            kept += account.kept;
            killed += 1;
            std::fs::remove_dir_all(store).unwrap();
        }
    }
    note(&format!(
        "kills at system calls: {killed} kills, nothing acknowledged is lost, {kept} batches in doubt were kept"
    ));
    assert!(killed >= wanted.min(150), "only {killed} kills");
    assert_eq!(
        leftovers(&folder.path().join("counted")),
        [""; 0].map(Into::<std::path::PathBuf>::into)
    );
}

/// `share` of the numbers from 1 to `count`, evenly spread, none twice.
fn spread(share: usize, count: usize, dice: u64) -> Vec<usize> {
    let offset = usize::try_from(dice % 1024).unwrap();
    (0..share).map(|i| (i * count + offset * count / 1024) / share % count + 1).collect()
}

#[test]
fn numbers_are_spread_and_distinct() {
    for (share, count) in [(1, 1), (1, 100), (3, 100), (100, 100), (7, 8)] {
        for dice in [0, 500, 1023] {
            let numbers = spread(share, count, dice);
            let distinct: std::collections::BTreeSet<_> = numbers.iter().copied().collect();
            assert_eq!(distinct.len(), share, "{share} of {count}: {numbers:?}");
            assert!(numbers.iter().all(|n| (1..=count).contains(n)), "{numbers:?}");
        }
    }
}
