//! The binary as a process.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{Answer, binary, free_port, get, post_form, wait_for};

/// How long a start or stop may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// A running server. Killed when dropped.
#[derive(Debug)]
pub struct Sextant {
    child: Child,
    /// The port it listens on.
    pub port: u16,
    log: PathBuf,
}

impl Sextant {
    /// Starts all in one with its data in `folder/data`, and waits until it is ready.
    ///
    /// # Panics
    /// If it does not become ready.
    #[must_use]
    pub fn all_in_one(folder: &Path) -> Self {
        Self::start(folder, free_port(), &[])
    }

    /// Starts `sextant server` on the configuration `yaml`, with its data in `folder/data`.
    ///
    /// # Panics
    /// If it does not become ready.
    #[must_use]
    pub fn server(folder: &Path, yaml: &str) -> Self {
        let config = folder.join("prometheus.yml");
        std::fs::write(&config, yaml).expect("the folder is the test's own");
        let config = format!("--config.file={}", config.display());
        Self::start(folder, free_port(), &["server", &config])
    }

    /// Starts the binary with `arguments`, on `port`, with its data in `folder/data`.
    ///
    /// # Panics
    /// If it does not become ready.
    #[must_use]
    pub fn start(folder: &Path, port: u16, arguments: &[&str]) -> Self {
        let log = folder.join("log");
        let file = File::options().create(true).append(true).open(&log).expect("the test's own");
        let child = Command::new(binary())
            .args(arguments)
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("an open file"))
            .stderr(file)
            .spawn()
            .expect("the binary was just built");
        let mut server = Self { child, port, log };
        wait_for("ready", LIMIT, || server.check_ready());
        server
    }

    fn check_ready(&mut self) -> Result<(), String> {
        if let Ok(Some(status)) = self.child.try_wait() {
            panic!("the server ended with {status}:\n{}", self.log());
        }
        match get(self.port, "/-/ready")? {
            Answer { status: 200, .. } => Ok(()),
            answer => Err(format!("/-/ready answers {}", answer.status)),
        }
    }

    /// All that it wrote to stdout and stderr.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Gets `path`.
    ///
    /// # Panics
    /// If there is no answer.
    #[must_use]
    pub fn get(&self, path: &str) -> Answer {
        get(self.port, path).unwrap_or_else(|error| panic!("{path}: {error}\n{}", self.log()))
    }

    /// The `data.result` of an instant query.
    ///
    /// # Panics
    /// If the query fails.
    #[must_use]
    pub fn query(&self, query: &str, time: Option<&str>) -> Vec<Value> {
        let mut fields = vec![("query", query)];
        fields.extend(time.map(|time| ("time", time)));
        let answer = post_form(self.port, "/api/v1/query", &fields)
            .unwrap_or_else(|error| panic!("{query}: {error}\n{}", self.log()));
        assert_eq!(answer.status, 200, "{query}: {}", answer.body);
        let json = answer.json();
        json["data"]["result"].as_array().cloned().unwrap_or_default()
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// If the process is gone.
    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(id.expect("process ids are positive"), signal).expect("it is our child");
    }

    /// Asks it to stop and waits for its end.
    ///
    /// # Panics
    /// If it does not end.
    #[must_use]
    pub fn terminate(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        wait_for("the end", LIMIT, || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err(format!("{other:?}\n{}", self.log())),
        })
    }

    /// Ends it without warning.
    ///
    /// # Panics
    /// If it cannot be ended.
    pub fn kill(mut self) {
        self.child.kill().expect("it is our child");
        self.child.wait().expect("it was killed");
    }
}

impl Drop for Sextant {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a process that should not have started ended.
#[derive(Clone, Debug)]
pub struct Failed {
    /// Its exit code.
    pub code: Option<i32>,
    /// What it wrote to stderr.
    pub stderr: String,
}

/// Runs the binary with `arguments` to its end, which must come soon.
///
/// # Panics
/// If it does not end.
#[must_use]
pub fn run_to_end(arguments: &[String]) -> Failed {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("stderr");
    let mut child = Command::new(binary())
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&path).expect("the test's own"))
        .spawn()
        .expect("the binary was just built");
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        wait_for("the end", LIMIT, || match child.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err(format!("{other:?}")),
        })
    }));
    if ended.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let stderr = std::fs::read_to_string(path).unwrap_or_default();
    match ended {
        Ok(status) => Failed { code: status.code(), stderr },
        Err(_) => panic!("it still runs; so far it said:\n{stderr}"),
    }
}
