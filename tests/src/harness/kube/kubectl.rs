//! The real `kubectl`, as its users run it.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::conformance::program;

/// `kubectl` with a kubeconfig, and a cache of its own.
#[derive(Debug)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    folder: TempDir,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Whether it succeeded.
    pub success: bool,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Kubectl {
    /// The program that `$KUBECTL` names or that is on the `PATH`; `None` if there is none.
    ///
    /// # Panics
    /// If there is none and `SEXTANT_REQUIRE_PEERS=1`.
    #[must_use]
    pub fn find(kubeconfig: &Path) -> Option<Self> {
        let program = program("kubectl", "KUBECTL")?;
        let folder = tempfile::tempdir().expect("a temporary folder");
        Some(Self { program, kubeconfig: kubeconfig.to_path_buf(), folder })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(arguments)
            .env("KUBECACHEDIR", self.folder.path())
            .env("HOME", self.folder.path())
            .env_remove("KUBECONFIG");
        command
    }

    /// Runs it to its end, with `input` on stdin.
    ///
    /// # Panics
    /// If it cannot be run.
    #[must_use]
    pub fn try_run(&self, arguments: &[&str], input: &str) -> Ran {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl can be run");
        let mut stdin = child.stdin.take().expect("it is piped");
        // It may end without having read all.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        let output = child.wait_with_output().expect("it is our child");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran {
            success: output.status.success(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    /// Runs it to its end, which must be a success, and returns what it wrote.
    ///
    /// # Panics
    /// If it fails.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> String {
        self.run_with(arguments, "")
    }

    /// As [`run`](Self::run), with `input` on stdin.
    ///
    /// # Panics
    /// If it fails.
    #[must_use]
    pub fn run_with(&self, arguments: &[&str], input: &str) -> String {
        let ran = self.try_run(arguments, input);
        assert!(ran.success, "kubectl {arguments:?}: {}{}", ran.stdout, ran.stderr);
        ran.stdout
    }

    /// Runs it with `-o json`, and reads what it wrote.
    ///
    /// # Panics
    /// If it fails or writes no JSON.
    #[must_use]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let text = self.run(&[arguments, &["-o", "json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
    }

    /// Runs it to its end, which must be a failure, and returns what it complained.
    ///
    /// # Panics
    /// If it succeeds.
    #[must_use]
    pub fn fail(&self, arguments: &[&str]) -> String {
        let ran = self.try_run(arguments, "");
        assert!(!ran.success, "kubectl {arguments:?} succeeded: {}", ran.stdout);
        ran.stderr
    }

    /// Starts it, to be ended by dropping what this returns.
    ///
    /// # Panics
    /// If it cannot be run.
    #[must_use]
    pub fn spawn(&self, arguments: &[&str]) -> Running {
        let path = self.folder.path().join("stdout");
        let stdout = File::create(&path).expect("the folder is its own");
        let child = self
            .command(arguments)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(Stdio::null())
            .spawn()
            .expect("kubectl can be run");
        Running { child, path }
    }
}

/// A `kubectl` that goes on.
#[derive(Debug)]
pub struct Running {
    child: Child,
    path: PathBuf,
}

impl Running {
    /// The lines that it has written so far.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.path).unwrap_or_default();
        text.lines().map(String::from).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
