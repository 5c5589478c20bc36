//! Configuration files that were written for Prometheus, from a folder outside the repository.
//!
//! Without the folder the test says so and passes, unless `SEXTANT_REQUIRE_PEERS` is 1.

use std::io::Write;
use std::path::{Path, PathBuf};

use config::{Config, ConfigError};

fn folder() -> PathBuf {
    let from_environment = std::env::var_os("SEXTANT_CONFORMANCE").map(PathBuf::from);
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/conformance");
    from_environment.unwrap_or_else(beside).join("config")
}

/// Past the test harness's capture: a run that skips should show.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// What a good file may meet: it loads, or it asks for something that is refused by name. What a bad file may meet: it is
/// refused, or what is wrong lies in a section that is announced as not acted on.
#[test]
fn config_files_of_others_meet_the_expected_verdict() {
    let folder = folder();
    let Ok(entries) = std::fs::read_dir(&folder) else {
        assert!(
            std::env::var("SEXTANT_REQUIRE_PEERS").as_deref() != Ok("1"),
            "no folder {}",
            folder.display()
        );
        return say(&format!("config conformance: skipped, no folder {}", folder.display()));
    };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let (mut loaded, mut unsupported, mut refused, mut unread) = (0, 0, 0, 0);
    for path in paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let verdict = Config::load(&path);
        if name.ends_with(".good.yml") {
            match verdict {
                Ok(_) => loaded += 1,
                Err(ConfigError::Unsupported { .. }) => unsupported += 1,
                Err(error) => panic!("{name} is good but refused: {error}"),
            }
        } else if name.ends_with(".bad.yml") {
            match verdict {
                Err(_) => refused += 1,
                Ok(config) if !config.warnings().is_empty() => unread += 1,
                Ok(_) => panic!("{name} is bad but loaded"),
            }
        }
    }
    assert!(loaded + unsupported + refused + unread > 0, "no case in {}", folder.display());
    say(&format!(
        "config conformance: good: {loaded} loaded, {unsupported} ask for what is not supported; \
         bad: {refused} refused, {unread} only in sections that are not acted on"
    ));
}
