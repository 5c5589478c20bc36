//! The binary under test, built from the tree that the tests come from.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::conformance::workspace_root;

/// Builds `sextant` in the profile of the tests, once per process, and says where it is.
///
/// # Panics
/// If it does not build.
#[must_use]
pub fn binary() -> PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(build).clone()
}

fn build() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "-p", "sextant", "--bin", "sextant", "--message-format=json"]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    // What cargo tells a test about its own package would make build scripts run again that look at it, and all that
    // depends on them be built anew, here and after that where the tests are built.
    let of_package = |name: &str| {
        name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") || name == "OUT_DIR"
    };
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for name in names.filter(|name| of_package(name)) {
        command.env_remove(name);
    }
    let output = command
        .current_dir(workspace_root())
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo runs these tests, so it can be run");
    assert!(output.status.success(), "cargo build -p sextant: {}", output.status);
    let messages = String::from_utf8_lossy(&output.stdout);
    let executable = messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_binary = message["reason"] == "compiler-artifact"
            && message["target"]["name"] == "sextant"
            && message["target"]["kind"].as_array()?.iter().any(|kind| kind == "bin");
        if is_binary { message["executable"].as_str().map(PathBuf::from) } else { None }
    });
    executable.expect("cargo says where it put the binary")
}
