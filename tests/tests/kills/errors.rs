//! System calls that fail: nothing panics, what was refused is not there afterwards, what was acknowledged is.

use tests::conformance::note;
use tests::faults::{LoadCommand, Strace, check_store, folder, seed};
use tests::load::Line;

/// Which calls fail, counted from 1.
#[derive(Clone, Copy, Debug)]
enum When {
    At(usize),
    From(usize),
    Between(usize, usize),
    /// From the first on, and then each of so many.
    Every(usize, usize),
}

impl When {
    /// As `strace` has it, after `skipped` calls.
    fn text(self, skipped: usize) -> String {
        match self {
            Self::At(n) => format!("when={}", skipped + n),
            Self::From(n) => format!("when={}+", skipped + n),
            Self::Between(first, last) => format!("when={}..{}", skipped + first, skipped + last),
            Self::Every(first, step) => format!("when={}+{step}", skipped + first),
        }
    }
}

/// Calls, their error, and which of them fail.
const FAULTS: [(&str, &str, When); 20] = [
    ("fsync,fdatasync", "EIO", When::From(1)),
    ("fsync,fdatasync", "EIO", When::At(3)),
    ("fsync,fdatasync", "EIO", When::Between(5, 9)),
    ("fsync,fdatasync", "EIO", When::From(20)),
    ("fsync,fdatasync", "EIO", When::Every(3, 7)),
    ("pwrite64", "ENOSPC", When::From(1)),
    ("pwrite64", "ENOSPC", When::At(2)),
    ("pwrite64", "ENOSPC", When::Between(40, 90)),
    ("pwrite64", "ENOSPC", When::From(100)),
    ("pwrite64", "EIO", When::Every(3, 11)),
    // Cutting off what a failed write left fails as well.
    ("pwrite64,ftruncate", "EIO", When::Between(1, 70)),
    ("openat", "EMFILE", When::From(1)),
    ("openat", "EMFILE", When::From(15)),
    ("openat", "EMFILE", When::Between(30, 45)),
    ("openat", "EMFILE", When::From(60)),
    ("openat", "ENFILE", When::Every(12, 9)),
    ("rename", "EIO", When::From(1)),
    ("rename", "EIO", When::At(2)),
    ("mkdir", "ENOSPC", When::From(4)),
    ("getdents64", "EIO", When::Every(3, 5)),
];

/// How many files a start opens before the first of the store: those of the dynamic linker, which are not what is tested.
fn openings_before_the_store(strace: &Strace, command: &LoadCommand) -> usize {
    let log = command.store.with_file_name("openings");
    let mut command = command.clone();
    command.steps = Some(0);
    let ended = command.start(&command.ledger(), Some(&strace.record("openat", &log))).end();
    assert!(ended.status.success(), "{ended:?}");
    let text = std::fs::read_to_string(log).unwrap();
    let store = command.store.display().to_string();
    text.lines().position(|line| line.contains(&store)).unwrap()
}

#[test]
fn calls_that_fail_make_no_promise_that_is_not_kept() {
    let Some(strace) = Strace::find() else { return };
    let seed = seed("failing system calls");
    let mut troubles = 0;
    for (calls, error, when) in FAULTS {
        let folder = folder();
        let place = format!("{calls} {error} {when:?}, seed {seed}");
        let mut command = LoadCommand::new(env!("CARGO_BIN_EXE_append_load"), folder.path(), seed);
        command.workload.burst_series = 50;
        command.steps = Some(60);
        let mut ledger = command.ledger();
        let ended = command.start(&ledger, None).end();
        assert!(ended.status.success(), "{ended:?}");
        ledger.enter(1, &ended.lines).unwrap();
        let skipped =
            if calls == "openat" { openings_before_the_store(&strace, &command) } else { 0 };
        let fault = strace.inject(calls, &format!("error={error}:{}", when.text(skipped)));
        let mut trouble = 0;
        // Twice, so that a start has to cope with what a failure left.
        for round in 0..2 {
            command.steps = Some(200);
            let ended = command.start(&ledger, Some(&fault)).end();
            let code = ended.status.code();
            // 1 is a store that says that it cannot be opened.
            assert!(matches!(code, Some(0 | 1)), "{place}, round {round}: {ended:?}");
            assert_eq!(code == Some(1), !ended.stderr.is_empty(), "{place}: {}", ended.stderr);
            assert!(!ended.stderr.contains("panicked"), "{place}: {}", ended.stderr);
            trouble += usize::from(code == Some(1));
            trouble += ended
                .lines
                .iter()
                .filter(|line| matches!(line, Line::Failed(_) | Line::Refused { .. }))
                .count();
            ledger.enter(1, &ended.lines).unwrap();
            let checked = check_store(&command, &mut ledger.clone());
            checked.unwrap_or_else(|error| panic!("{place}, round {round}: {error}"));
        }
        let mut healed = command.clone();
        healed.steps = Some(90);
        let ended = healed.start(&ledger, None).end();
        assert!(ended.status.success(), "{place}: {ended:?}");
        let is_refusal = |line: &&Line| matches!(line, Line::Failed(_) | Line::Refused { .. });
        assert_eq!(ended.lines.iter().find(is_refusal), None, "{place}: it works again");
        ledger.enter(1, &ended.lines).unwrap();
        check_store(&command, &mut ledger).unwrap_or_else(|error| panic!("{place}: {error}"));
        assert!(trouble > 0, "{place}: nothing failed");
        troubles += trouble;
    }
    note(&format!("failing system calls: {} faults, {troubles} failures reported", FAULTS.len()));
}
