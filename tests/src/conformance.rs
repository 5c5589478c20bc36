//! Finds what tests need from outside the workspace: conformance data and other programs.
//!
//! None of it is part of the repository. A test prints one line and passes when it is absent, unless
//! `SEXTANT_REQUIRE_PEERS=1` says that it must be there.

use std::env;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The folder of the workspace.
#[must_use]
pub fn workspace_root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().map_or_else(|| package.to_path_buf(), Path::to_path_buf)
}

/// A folder of conformance data.
#[derive(Clone, Debug)]
pub struct Data {
    /// Where it is.
    pub path: PathBuf,
    /// Whether `$SEXTANT_CONFORMANCE` named it: then it holds files that the tests know nothing about,
    /// and counts stated for the usual ones do not apply.
    pub other_files: bool,
}

/// The folder with data of `kind` (say, `promql`), if there is one.
///
/// # Panics
/// If there is none and `SEXTANT_REQUIRE_PEERS=1`.
#[must_use]
pub fn data(kind: &str) -> Option<Data> {
    let given = env::var_os("SEXTANT_CONFORMANCE").filter(|path| !path.is_empty());
    let other_files = given.is_some();
    let root = given.map_or_else(|| workspace_root().join("../shared/conformance"), PathBuf::from);
    let path = root.join(kind);
    if path.is_dir() {
        return Some(Data { path, other_files });
    }
    skip(&format!("no conformance data in {}", path.display()));
    None
}

/// The program that environment variable `variable` names, or else `name` on the `PATH`.
///
/// # Panics
/// If there is none and `SEXTANT_REQUIRE_PEERS=1`.
#[must_use]
pub fn program(name: &str, variable: &str) -> Option<PathBuf> {
    let found = optional_program(variable).or_else(|| {
        let folders = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file())
    });
    if found.is_none() {
        skip(&format!("no {name} on the PATH nor in ${variable}"));
    }
    found
}

/// The program that environment variable `variable` names; not required of any machine.
#[must_use]
pub fn optional_program(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Notes that a test does not run, and why.
///
/// # Panics
/// If `SEXTANT_REQUIRE_PEERS=1`.
pub fn skip(why: &str) {
    let required = env::var_os("SEXTANT_REQUIRE_PEERS").is_some_and(|value| value == "1");
    assert!(!required, "{why}, and SEXTANT_REQUIRE_PEERS=1");
    note(&format!("skipped: {why}"));
}

/// Writes one line past the test harness's capture.
pub fn note(line: &str) {
    // The harness captures the printing macros alone. A closed stderr is no reason to fail.
    let _ = writeln!(std::io::stderr(), "{line}");
}
