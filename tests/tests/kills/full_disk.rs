//! A disk of 1 MiB that fills up and is freed again and again, and one that becomes read-only.

use std::path::Path;

use tests::conformance::note;
use tests::faults::{Load, LoadCommand, SmallDisk, check_store, seed};
use tests::harness::{free_port, run_to_end};
use tests::load::{Account, Line, Settings};

const CYCLES: usize = 25;

/// A load that fits the disk with room to spare.
fn command(folder: &Path, disk: &SmallDisk, seed: u64) -> LoadCommand {
    let mut command = LoadCommand::new(env!("CARGO_BIN_EXE_append_load"), folder, seed);
    command.store = disk.path.join("data");
    command.workload.burst_series = 20;
    command.settings = Settings { block_steps: 40, retention_steps: 120, ..Settings::SMALL };
    command
}

fn is_ack(line: &Line) -> bool {
    matches!(line, Line::Acknowledged { .. })
}

fn is_refusal(line: &Line) -> bool {
    matches!(line, Line::Refused { .. })
}

/// Fills the disk, again when the store frees some of it, until a batch is refused.
fn fill_until_refused(disk: &SmallDisk, load: &mut Load) {
    disk.fill();
    load.wait_for("a refusal on the full disk", |line| {
        disk.fill();
        is_refusal(line)
    });
}

#[test]
fn a_full_disk_refuses_while_it_is_full_and_keeps_all_that_it_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mount = folder.path().join("disk");
    std::fs::create_dir(&mount).unwrap();
    let Some(disk) = SmallDisk::mount(&mount, 1024) else { return };
    let seed = seed("full disk");
    let mut command = command(folder.path(), &disk, seed);
    let mut ledger = command.ledger();
    let (mut refused, mut acknowledged) = (0, 0);
    let mut total = Account::default();
    for restart in 0..5 {
        // The server's arrangement and a single thread in turn.
        (command.threads, command.upkeep_threads) =
            if restart % 2 == 0 { (1, false) } else { (2, true) };
        let mut load = command.start(&ledger, None);
        for _ in 0..CYCLES / 5 {
            load.wait_for("an acknowledgement", is_ack);
            // The load reports a refusal only after it has read from the store.
            for _ in 0..3 {
                fill_until_refused(&disk, &mut load);
            }
            disk.free();
            for _ in 0..50 {
                load.wait_for("an acknowledgement once there is room", is_ack);
            }
        }
        if restart % 2 == 1 {
            fill_until_refused(&disk, &mut load);
        }
        let ended = load.kill();
        assert!(ended.was_killed(), "{ended:?}");
        assert_eq!(ended.stderr, "");
        refused += ended.lines.iter().filter(|line| is_refusal(line)).count();
        acknowledged += ended.lines.iter().filter(|line| is_ack(line)).count();
        ledger.enter(command.threads, &ended.lines).unwrap();
        if restart % 2 == 1 {
            // A start on the full disk works, or says that it does not; it deletes nothing that is healthy.
            command.steps = Some(3);
            let ended = command.start(&ledger, None).end();
            assert!(matches!(ended.status.code(), Some(0 | 1)), "{ended:?}");
            assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
            ledger.enter(command.threads, &ended.lines).unwrap();
            command.steps = None;
            disk.free();
        }
        let account = check_store(&command, &mut ledger)
            .unwrap_or_else(|error| panic!("restart {restart} of seed {seed}: {error}"));
        total.expired += account.expired;
        total.acknowledged = account.acknowledged;
    }
    note(&format!(
        "full disk: {CYCLES} times full and free, {acknowledged} batches acknowledged and {refused} refused; {} samples there \
         and {} expired",
        total.acknowledged, total.expired
    ));
}

#[test]
fn a_read_only_disk_is_named_in_one_line_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mount = folder.path().join("disk");
    std::fs::create_dir(&mount).unwrap();
    let Some(mut disk) = SmallDisk::mount(&mount, 1024) else { return };
    let seed = seed("read-only disk");
    let mut command = command(folder.path(), &disk, seed);
    let mut ledger = command.ledger();
    let mut load = command.start(&ledger, None);
    load.wait_for("step 150", |line| matches!(line, Line::Acknowledged { step: 150, .. }));
    let ended = load.kill();
    ledger.enter(1, &ended.lines).unwrap();

    disk.remount_read_only();
    command.steps = Some(3);
    let load = command.start(&ledger, None).end();
    assert_eq!((load.status.code(), load.lines.len()), (Some(1), 0), "{load:?}");
    let failed = run_to_end(&[
        format!("--web.listen-address=127.0.0.1:{}", free_port()),
        format!("--storage.tsdb.path={}", command.store.display()),
    ]);
    for stderr in [&load.stderr, &failed.stderr] {
        let [line] = stderr.lines().collect::<Vec<_>>()[..] else { panic!("not a line: {stderr}") };
        assert!(line.contains("Read-only file system"), "{line}");
        assert!(line.contains(&command.store.display().to_string()), "{line}");
    }
    assert_eq!(failed.code, Some(1));

    disk.remount_writable();
    check_store(&command, &mut ledger).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    let ended = command.start(&ledger, None).end();
    assert!(ended.status.success(), "{ended:?}");
    ledger.enter(1, &ended.lines).unwrap();
    check_store(&command, &mut ledger).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
}
