//! `append_load` as a process that others end, and the check of the store that it leaves.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use model::SystemClock;
use tsdb::{Db, OsDisk};

use super::Strace;
use crate::load::{Account, Ledger, Line, Settings, Workload};

/// How long a line of the report may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// How to run a load.
#[derive(Clone, Debug)]
pub struct LoadCommand {
    /// The binary `append_load`.
    pub binary: PathBuf,
    /// The folder of the store.
    pub store: PathBuf,
    /// A file for what the process writes to stderr.
    pub stderr: PathBuf,
    /// The load.
    pub workload: Workload,
    /// The store's shape.
    pub settings: Settings,
    /// Threads that append.
    pub threads: u32,
    /// Whether syncs and maintenance have threads of their own.
    pub upkeep_threads: bool,
    /// Steps to the end, if there is one.
    pub steps: Option<i64>,
}

impl LoadCommand {
    /// A load of one thread without end on the store `folder/data`.
    #[must_use]
    pub fn new(binary: &str, folder: &Path, seed: u64) -> Self {
        Self {
            binary: PathBuf::from(binary),
            store: folder.join("data"),
            stderr: folder.join("stderr"),
            workload: Workload { seed, burst_series: 300 },
            settings: Settings::SMALL,
            threads: 1,
            upkeep_threads: false,
            steps: None,
        }
    }

    /// The account of a store that is empty.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        Ledger::new(self.workload, self.settings)
    }

    /// Starts it where `ledger` says that it must go on, under `strace` if one is given.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(&self, ledger: &Ledger, strace: Option<&Strace>) -> Load {
        let mut command = match strace {
            Some(strace) => strace.command(&self.binary),
            None => Command::new(&self.binary),
        };
        command
            .arg(format!("--path={}", self.store.display()))
            .arg(format!("--seed={}", self.workload.seed))
            .arg(format!("--burst-series={}", self.workload.burst_series))
            .arg(format!("--first-step={}", ledger.next_step()))
            .arg(format!("--threads={}", self.threads))
            .args(self.settings.flags())
            .args(self.steps.map(|steps| format!("--steps={steps}")))
            .args(self.upkeep_threads.then_some("--upkeep-threads"));
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&self.stderr).expect("the test's own"))
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = child.stdout.take().expect("it is piped");
        let (sender, lines) = channel();
        // Ends with the pipe, which ends with the process.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let line = line.map_err(|error| error.to_string()).and_then(|text| text.parse());
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Load { child, lines, seen: Vec::new(), stderr: self.stderr.clone() }
    }
}

/// A load that runs. Killed when dropped.
#[derive(Debug)]
pub struct Load {
    child: Child,
    lines: Receiver<Result<Line, String>>,
    seen: Vec<Line>,
    stderr: PathBuf,
}

/// How a load ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The status.
    pub status: ExitStatus,
    /// All that it reported.
    pub lines: Vec<Line>,
    /// All that it complained about.
    pub stderr: String,
}

impl Ended {
    /// Whether it died by SIGKILL.
    #[must_use]
    pub fn was_killed(&self) -> bool {
        self.status.signal() == Some(9)
    }
}

impl Load {
    /// The next line of the report; `None` at its end.
    ///
    /// # Panics
    /// If none comes.
    pub fn next_line(&mut self) -> Option<Line> {
        match self.lines.recv_timeout(LIMIT) {
            Ok(line) => {
                let line = line.unwrap_or_else(|error| panic!("{error}\n{}", self.complaints()));
                self.seen.push(line.clone());
                Some(line)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("no line for {LIMIT:?}"),
        }
    }

    /// Waits for a line that `is_it` accepts.
    ///
    /// # Panics
    /// If the report ends without one.
    pub fn wait_for(&mut self, what: &str, mut is_it: impl FnMut(&Line) -> bool) {
        let deadline = Instant::now() + LIMIT;
        while let Some(line) = self.next_line() {
            if is_it(&line) {
                return;
            }
            assert!(Instant::now() < deadline, "no {what} within {LIMIT:?}, but {line}");
        }
        panic!("the report ends without {what}:\n{}", self.complaints());
    }

    fn complaints(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// Kills it, by its id, and reads what is left of the report.
    ///
    /// # Panics
    /// If it cannot be killed.
    #[must_use]
    pub fn kill(mut self) -> Ended {
        self.child.kill().expect("it is our child");
        self.end()
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// If it reports nothing for long.
    #[must_use]
    pub fn end(mut self) -> Ended {
        while self.next_line().is_some() {}
        let status = self.child.wait().expect("it is our child");
        let lines = std::mem::take(&mut self.seen);
        Ended { status, lines, stderr: self.complaints() }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Opens the store as a restart would, compares it with the account, and looks for what should have been tidied up.
///
/// # Errors
/// What does not hold.
pub fn check_store(command: &LoadCommand, ledger: &mut Ledger) -> Result<Account, String> {
    let (disk, clock) = (Arc::new(OsDisk), Arc::new(SystemClock));
    let registry = telemetry::Registry::new();
    let db = Db::open(&command.store, disk, clock, command.settings.options(), &registry)
        .map_err(|error| format!("it does not open: {error}"))?;
    let account = ledger.check(&db)?;
    let left = leftovers(&command.store);
    if left.is_empty() { Ok(account) } else { Err(format!("left over: {left:?}")) }
}

/// Everything below `folder` with a name of something unfinished.
#[must_use]
pub fn leftovers(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![folder.to_path_buf()];
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_name().to_string_lossy().contains(".tmp") {
                found.push(path);
            } else if path.is_dir() {
                waiting.push(path);
            }
        }
    }
    found
}
