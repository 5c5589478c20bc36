//! A subcommand of our binary as a process.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{binary, wait_for};

/// How long a start or stop may take on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A running process. Killed when dropped, stopped or not.
#[derive(Debug)]
pub(crate) struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts the binary with `arguments`; what it writes goes to `NAME.log` in `folder`.
    pub(crate) fn start(folder: &Path, name: &str, arguments: &[String]) -> Self {
        let log = folder.join(format!("{name}.log"));
        let file = File::create(&log).expect("the test's own");
        let child = Command::new(binary())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("an open file"))
            .stderr(file)
            .spawn()
            .expect("the binary was just built");
        Self { name: String::from(name), child, log }
    }

    /// Panics, with what it wrote, if it has ended.
    pub(crate) fn check_alive(&mut self) {
        if let Ok(Some(status)) = self.child.try_wait() {
            panic!("{} ended with {status}:\n{}", self.name, self.log());
        }
    }

    /// All that it wrote to stdout and stderr.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(id.expect("process ids are positive"), signal).expect("it is our child");
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait_for("the end", LIMIT, || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err(format!("{other:?}\n{}", self.log())),
        })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Flags with values, without those that `arguments` give another value.
pub(crate) fn unless_given(flags: &[&str], arguments: &[&str]) -> Vec<String> {
    let name = |flag: &str| flag.split_once('=').map_or(flag, |(name, _)| name).to_owned();
    let given: Vec<_> = arguments.iter().map(|argument| name(argument)).collect();
    flags.iter().filter(|flag| !given.contains(&name(flag))).copied().map(String::from).collect()
}
