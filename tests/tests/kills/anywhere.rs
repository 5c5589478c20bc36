//! SIGKILL at moments that nobody chose, again and again on the same store.

use std::time::Duration;

use tests::conformance::note;
use tests::faults::{Ended, Load, LoadCommand, check_store, folder, kills, seed};
use tests::load::{Account, Line, mix};

/// Lines after which a load is killed, at most.
const LINES_MAX: u64 = 250;

#[test]
fn a_store_killed_at_any_moment_loses_nothing_that_it_acknowledged() {
    let seed = seed("kills anywhere");
    let folder = folder();
    let mut command = LoadCommand::new(env!("CARGO_BIN_EXE_append_load"), folder.path(), seed);
    let mut ledger = command.ledger();
    let mut total = Account::default();
    let (mut killed, mut ended, mut batches) = (0, 0, 0);
    while killed < kills() / 3 {
        let dice = mix(seed ^ (killed + ended) as u64);
        // One thread that does it all, or the server's arrangement.
        (command.threads, command.upkeep_threads) =
            if dice.is_multiple_of(2) { (1, false) } else { (3, true) };
        command.steps = (dice / 2 % 16 == 5).then_some(100);
        let load = command.start(&ledger, None);
        let outcome = if command.steps.is_some() { load.end() } else { kill(load, mix(dice)) };
        let Ended { status, lines, stderr } = &outcome;
        assert_eq!(stderr, "", "round {killed}");
        if outcome.was_killed() {
            killed += 1;
        } else {
            assert!(status.success() && lines.last() == Some(&Line::Done), "{status}");
            ended += 1;
        }
        batches += lines.iter().filter(|l| matches!(l, Line::Acknowledged { .. })).count();
        let failed = lines.iter().find(|l| matches!(l, Line::Failed(_) | Line::Refused { .. }));
        assert_eq!(failed, None, "round {killed}");
        ledger.enter(command.threads, lines).unwrap();
        let account = check_store(&command, &mut ledger)
            .unwrap_or_else(|error| panic!("after kill {killed} of seed {seed}: {error}"));
        total.expired += account.expired;
        total.kept += account.kept;
        total.dropped += account.dropped;
        total.acknowledged = account.acknowledged;
    }
    note(&format!(
        "kills anywhere: {killed} kills and {ended} clean ends, {batches} batches acknowledged, none lost; in doubt {} kept \
         and {} not; {} samples there and {} expired",
        total.kept, total.dropped, total.acknowledged, total.expired
    ));
    assert!(total.expired > 0 || killed < 50, "no block was ever deleted");
}

/// Kills after some lines and a moment; the line may be the first, the moment may be before it.
fn kill(mut load: Load, dice: u64) -> Ended {
    let lines = if dice.is_multiple_of(4) { 0 } else { dice / 8 % LINES_MAX };
    for _ in 0..lines {
        assert!(load.next_line().is_some(), "it ended by itself");
    }
    let microseconds_max = if lines == 0 { 60_000 } else { 4_000 };
    // The moment is what is tried here; nothing waits for anything.
    std::thread::sleep(Duration::from_micros(mix(dice) % microseconds_max));
    load.kill()
}

#[test]
fn a_store_that_loses_a_segment_is_found_out() {
    let seed = seed("lost segment");
    let folder = folder();
    let command = LoadCommand::new(env!("CARGO_BIN_EXE_append_load"), folder.path(), seed);
    let mut ledger = command.ledger();
    let mut load = command.start(&ledger, None);
    load.wait_for("step 50", |line| matches!(line, Line::Acknowledged { step: 50, .. }));
    ledger.enter(1, &load.kill().lines).unwrap();
    check_store(&command, &mut ledger.clone()).unwrap();
    std::fs::remove_file(command.store.join("wal/00000000")).unwrap();
    let error = check_store(&command, &mut ledger).unwrap_err();
    assert!(error.contains("lost its sample"), "{error}");
}
