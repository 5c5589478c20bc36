//! Runs scripts in Prometheus's PromQL test language (`promql/promqltest`).
//!
//! [`Script::parse`] reads a script; [`run()`] executes it against a store and the engine and
//! says for each `eval` whether it held. The language is Prometheus's of 3.14. Where a store keeps no start
//! timestamps, evaluations that depend on them fail, and the reason says what was left out.

mod at_modifier;
mod compare;
mod histogram;
mod nhcb;
mod run;
mod script;
mod series;

pub use compare::check_value;
pub use histogram::HistogramPoint;
pub use run::{Failure, Outcome, SetStart, Store, engine, run};
pub use script::{Annotations, Command, Eval, Expected, Grid, Load, Script, TextPattern, When};
pub use series::{Point, SeriesLine};

use std::path::{Path, PathBuf};

/// The scripts of this crate, in the order of their names.
///
/// # Errors
/// When their folder cannot be read.
pub fn own_scripts() -> std::io::Result<Vec<PathBuf>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/promqltest/scripts");
    let mut scripts = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        scripts.push(entry?.path());
    }
    scripts.sort();
    Ok(scripts)
}
