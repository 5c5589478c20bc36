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
use tests::promqltest::{Outcome, Script, Store, engine, run};
use tsdb::{Db, MemDisk, Options};

/// How many evaluations of each script hold. Only ever raised. What is missing needs native
/// histograms, start timestamps, or functions and modifiers that the engine says it does not support.
const FLOORS: [(&str, usize); 13] = [
    ("aggregators.test", 125),
    ("duration_expression.test", 59),
    ("extended_vectors.test", 30),
    ("fill-modifier.test", 1),
    ("functions.test", 373),
    ("histograms.test", 93),
    ("info.test", 1),
    ("limit.test", 15),
    ("name_label_dropping.test", 30),
    ("native_histograms.test", 3),
    ("operators.test", 145),
    ("start_timestamps.test", 2),
    ("type_and_unit.test", 58),
];

#[test]
fn promql_scripts_of_prometheus_hold() -> Result<()> {
    let Some(data) = conformance::data("promql") else { return Ok(()) };
    let scripts = scripts(&data.path)?;
    let (mut passed, mut total) = (0, 0);
    let (mut regressions, mut broken) = (Vec::new(), Vec::new());
    for path in &scripts {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let outcome = match run_script(path, || Ok(MemoryStore::new())) {
            Ok(outcome) => outcome,
            Err(error) => {
                broken.push(format!("{name}: {error:#}"));
                continue;
            }
        };
        note(&format!("promql: {}/{} {name}", outcome.passed, outcome.total()));
        report(&name, &outcome);
        (passed, total) = (passed + outcome.passed, total + outcome.total());
        let floor =
            FLOORS.iter().find(|(script, _)| *script == name).map_or(0, |(_, floor)| *floor);
        if outcome.passed < floor && !data.other_files {
            regressions.push(format!("{name}: {} of at least {floor}", outcome.passed));
        }
    }
    note(&format!("promql: {passed}/{total} in {} scripts", scripts.len()));
    ensure!(broken.is_empty(), "scripts that cannot be run: {broken:#?}");
    ensure!(total > 0, "no evaluation was found in {}", data.path.display());
    ensure!(regressions.is_empty(), "fewer evaluations hold than before: {regressions:?}");
    Ok(())
}

#[test]
fn promql_scripts_hold_over_tsdb_as_over_memory() -> Result<()> {
    let Some(data) = conformance::data("promql") else { return Ok(()) };
    for path in scripts(&data.path)? {
        let lines = |outcome: Outcome| -> Vec<_> {
            outcome.failures.into_iter().map(|failure| (failure.line, failure.reason)).collect()
        };
        let expected = lines(run_script(&path, || Ok(MemoryStore::new()))?);
        let actual = lines(run_script(&path, open_tsdb)?);
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

fn run_script<S: Store>(path: &Path, open: impl Fn() -> Result<S>) -> Result<Outcome> {
    let script = Script::parse(&fs::read_to_string(path)?)?;
    run(&script, &engine(), open)
}

fn report(name: &str, outcome: &Outcome) {
    if env::var_os("SEXTANT_PROMQL_FAILURES").is_some_and(|value| value == "1") {
        for failure in &outcome.failures {
            note(&format!("{name}:{}: {}\n    {}", failure.line, failure.query, failure.reason));
        }
    }
}
