//! Prometheus's own PromQL test scripts, over the store in memory and over `tsdb`.
//!
//! The scripts are not part of the repository; `tests::conformance` says where they are looked for.
//! `SEXTANT_PROMQL_FAILURES=1` prints every evaluation that does not hold, with the reason.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use model::ManualClock;
use telemetry::Registry;
use tests::conformance::{self, note};
use tests::memory_store::MemoryStore;
use tests::promqltest::{Outcome, Script, SetStart, Store, engine, own_scripts, run};
use tsdb::{Db, MemDisk, Options};

/// Evaluations in the usual scripts.
const USUAL_TOTAL: usize = 1990;

#[test]
fn promql_scripts_of_prometheus_hold() -> Result<()> {
    let Some(data) = conformance::data("promql") else { return Ok(()) };
    let scripts = scripts(&data.path)?;
    let (mut passed, mut total) = (0, 0);
    let (mut failed, mut broken) = (Vec::new(), Vec::new());
    for path in &scripts {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let outcome = match run_script(path, || Ok(MemoryStore::new()), MemoryStore::set_start) {
            Ok(outcome) => outcome,
            Err(error) => {
                broken.push(format!("{name}: {error:#}"));
                continue;
            }
        };
        note(&format!("promql: {}/{} {name}", outcome.passed, outcome.total()));
        report(&name, &outcome);
        (passed, total) = (passed + outcome.passed, total + outcome.total());
        if outcome.passed < outcome.total() {
            failed.push(format!("{name}: {} of {}", outcome.passed, outcome.total()));
        }
    }
    note(&format!("promql: {passed}/{total} in {} scripts", scripts.len()));
    ensure!(broken.is_empty(), "scripts that cannot be run: {broken:#?}");
    ensure!(total > 0, "no evaluation was found in {}", data.path.display());
    ensure!(failed.is_empty(), "not all evaluations hold: {failed:?}");
    let usual = data.other_files || total == USUAL_TOTAL;
    ensure!(usual, "{total} evaluations were found, not {USUAL_TOTAL}");
    Ok(())
}

/// Evaluations in our own scripts.
const OWN_TOTAL: usize = 532;

/// Scripts of our own, for what those of Prometheus leave out, and for when they are not there.
#[test]
fn promql_scripts_of_our_own_hold() -> Result<()> {
    let (mut passed, mut failed) = (0, Vec::new());
    for path in own_scripts()? {
        let outcome = run_script(&path, || Ok(MemoryStore::new()), MemoryStore::set_start)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        passed += outcome.passed;
        failed.extend(outcome.failures.iter().map(|failure| {
            format!("{name}:{}: {}\n    {}", failure.line, failure.query, failure.reason)
        }));
    }
    ensure!(failed.is_empty(), "\n{}", failed.join("\n"));
    ensure!(passed == OWN_TOTAL, "{passed} evaluations were found, not {OWN_TOTAL}");
    Ok(())
}

#[test]
fn promql_scripts_hold_over_tsdb_as_over_memory() -> Result<()> {
    let Some(data) = conformance::data("promql") else { return Ok(()) };
    for path in scripts(&data.path)? {
        let lines = |outcome: Outcome| -> Vec<_> {
            outcome.failures.into_iter().map(|failure| (failure.line, failure.reason)).collect()
        };
        let expected = lines(run_script(&path, || Ok(MemoryStore::new()), |_, _, _, _| false)?);
        let actual = lines(run_script(&path, open_tsdb, |_, _, _, _| false)?);
        ensure!(actual == expected, "{}: {actual:#?}\nover memory: {expected:#?}", path.display());
    }
    Ok(())
}

/// A head on a disk in memory, so long that scripts may load series one after the other.
fn open_tsdb() -> Result<Db> {
    let year = Duration::from_secs(365 * 86_400);
    let options =
        Options { min_block_duration: 100 * year, retention: 200 * year, ..Options::default() };
    let (disk, clock) = (Arc::new(MemDisk::new()), Arc::new(ManualClock::new(0)));
    Ok(Db::open("/data".as_ref(), disk, clock, options, &Registry::new())?)
}

fn scripts(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut scripts = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "test") {
            scripts.push(path);
        }
    }
    scripts.sort();
    Ok(scripts)
}

fn run_script<S: Store>(
    path: &Path,
    open: impl Fn() -> Result<S>,
    set_start: SetStart<S>,
) -> Result<Outcome> {
    let script = Script::parse(&fs::read_to_string(path)?)?;
    run(&script, &engine(), open, set_start)
}

fn report(name: &str, outcome: &Outcome) {
    if env::var_os("SEXTANT_PROMQL_FAILURES").is_some_and(|value| value == "1") {
        for failure in &outcome.failures {
            note(&format!("{name}:{}: {}\n    {}", failure.line, failure.query, failure.reason));
        }
    }
}
