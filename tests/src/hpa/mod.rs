//! Runs cases of the autoscaler that were recorded with upstream: JSON files, each an array of cases of one shape.
//!
//! A case tells ages instead of times; all happens at `NOW`. `parts` are cases of one step, `reconcile` are cases of a
//! whole reconciliation, `shapes` is what both have in common.

mod parts;
mod reconcile;
mod shapes;

use anyhow::{Context, Result, bail};
use model::Timestamp;
use serde_json::Value;

/// When every case happens: a whole second, and later after the epoch than any age in a case.
const NOW: Timestamp = 2_000_000_000_000;

/// One case that was run.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Its name, unique in its file.
    pub name: String,
    /// What does not hold.
    pub differences: Vec<String>,
}

/// Runs all cases of a file; `stem` is its name without extension and says what a case is.
///
/// # Errors
/// The file is not an array of such cases. A case that does not hold is no error.
pub fn run(stem: &str, text: &str) -> Result<Vec<Ran>> {
    let cases: Vec<Value> = serde_json::from_str(text)?;
    cases.into_iter().map(|case| run_case(stem, case)).collect()
}

fn run_case(stem: &str, case: Value) -> Result<Ran> {
    let name = case["name"].as_str().context("a case has no name")?.to_owned();
    let run = match stem {
        "calc" => parts::calc,
        "client" => parts::client,
        "group_pods" => parts::group_pods,
        "ratio" => parts::ratio,
        "reconcile" => reconcile::reconcile,
        "requests" => parts::requests,
        "rules" => parts::rules,
        _ => bail!("no such cases are known"),
    };
    let differences = run(case).with_context(|| name.clone())?;
    Ok(Ran { name, differences: differences.0 })
}

/// What does not hold in a case.
#[derive(Debug, Default)]
struct Differences(Vec<String>);

impl Differences {
    /// Notes it if `actual` is not what was recorded.
    fn check<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, actual: &T, expected: &T) {
        if actual != expected {
            self.0.push(format!("{what} is {actual:?}, expected {expected:?}"));
        }
    }
}
