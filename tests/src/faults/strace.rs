//! `strace` as a source of faults: it kills a process at its Nth call, or makes that call fail.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::conformance::{program, skip};

/// A way to run a program under `strace`.
#[derive(Clone, Debug)]
pub struct Strace {
    program: PathBuf,
    arguments: Vec<String>,
}

impl Strace {
    /// A `strace` that works here: it may be missing, or not be allowed to trace.
    ///
    /// # Panics
    /// If there is none and `SEXTANT_REQUIRE_PEERS=1`.
    #[must_use]
    pub fn find() -> Option<Self> {
        let program = program("strace", "STRACE")?;
        let tried = Command::new(&program)
            .args(["-f", "-qq", "-o", "/dev/null", "true"])
            .stderr(Stdio::null())
            .status();
        if tried.is_ok_and(|status| status.success()) {
            return Some(Self { program, arguments: Vec::new() });
        }
        skip("strace is not allowed to trace");
        None
    }

    /// Does `what` (say, `signal=SIGKILL:when=3`) to calls of `syscalls`, which are counted for each thread on its own.
    #[must_use]
    pub fn inject(&self, syscalls: &str, what: &str) -> Self {
        let arguments = ["-f", "-qq", "-o", "/dev/null"].map(String::from);
        let own = [
            format!("--trace={syscalls}"),
            String::from("-e"),
            format!("inject={syscalls}:{what}"),
        ];
        Self {
            program: self.program.clone(),
            arguments: arguments.into_iter().chain(own).collect(),
        }
    }

    /// Writes every call of `syscalls` to the file `log`, for [`calls`].
    #[must_use]
    pub fn record(&self, syscalls: &str, log: &Path) -> Self {
        let log = log.display().to_string();
        let arguments =
            ["-f", "-qq", "-o", &log, "-e", "signal=none", &format!("--trace={syscalls}")];
        Self {
            program: self.program.clone(),
            arguments: arguments.into_iter().map(String::from).collect(),
        }
    }

    /// A command that runs `binary`; its arguments are to be added.
    #[must_use]
    pub fn command(&self, binary: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).arg("--").arg(binary);
        command
    }
}

/// How often the first thread of a recorded process made each call. `when` of an injection counts for each thread on its own, so a number beyond
/// this hits nothing there.
///
/// # Panics
/// If the file cannot be read.
#[must_use]
pub fn calls(log: &Path) -> BTreeMap<String, usize> {
    let text = std::fs::read_to_string(log).expect("strace wrote it");
    let mut counts = BTreeMap::new();
    let mut first = None;
    for line in text.lines() {
        // With a single thread there is no id in front.
        let (thread, call) = match line.split_once(' ') {
            Some((thread, rest)) if thread.bytes().all(|b| b.is_ascii_digit()) => {
                (thread, rest.trim_start())
            }
            _ => ("", line),
        };
        let is_resumed = call.starts_with("<...");
        if *first.get_or_insert(thread) == thread
            && !is_resumed
            && let Some((name, _)) = call.split_once('(')
        {
            *counts.entry(String::from(name)).or_default() += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_the_first_thread_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let lines = "7 write(1, \"a\", 1) = 1\n8 write(1, \"a\", 1 <unfinished ...>\n7 fsync(3) = 0\n\
                     8 <... write resumed>) = 1\n7 write(1, \"b\", 1) = 1\n";
        std::fs::write(&log, lines).unwrap();
        let expected = BTreeMap::from([("fsync".into(), 1), ("write".into(), 2)]);
        assert_eq!(calls(&log), expected);
        std::fs::write(&log, "write(1, \"a\", 1) = 1\n").unwrap();
        assert_eq!(calls(&log), BTreeMap::from([("write".into(), 1)]));
    }
}
