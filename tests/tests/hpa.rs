//! Cases of the autoscaler, recorded with upstream's controller.
//!
//! The cases are not part of the repository; `tests::conformance` says where they are looked for.

use std::fs;

use anyhow::{Context, Result, ensure};
use tests::conformance::{self, note};
use tests::hpa::run;

/// Cases in the usual files, at least.
const USUAL: [(&str, usize); 7] = [
    ("calc", 43),
    ("client", 8),
    ("group_pods", 9),
    ("ratio", 2),
    ("reconcile", 50),
    ("requests", 3),
    ("rules", 50),
];

#[test]
fn hpa_cases_of_upstream_hold() -> Result<()> {
    let Some(data) = conformance::data("hpa") else { return Ok(()) };
    let mut files = Vec::new();
    for entry in fs::read_dir(&data.path)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            files.push(path);
        }
    }
    files.sort();
    let (mut found, mut failed) = (Vec::new(), Vec::new());
    for path in &files {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(path)?;
        let cases = run(&stem, &text).with_context(|| path.display().to_string())?;
        let passed = cases.iter().filter(|case| case.differences.is_empty()).count();
        note(&format!("hpa: {passed}/{} {stem}.json", cases.len()));
        for case in cases.iter().filter(|case| !case.differences.is_empty()) {
            failed.push(format!("{stem}/{}: {:#?}", case.name, case.differences));
        }
        found.push((stem, cases.len()));
    }
    let total: usize = found.iter().map(|(_, count)| count).sum();
    note(&format!("hpa: {}/{total} in {} files", total - failed.len(), files.len()));
    ensure!(total > 0, "no case was found in {}", data.path.display());
    ensure!(failed.is_empty(), "not all cases hold:\n{}", failed.join("\n"));
    for (stem, usual) in USUAL {
        let count = found.iter().find(|(name, _)| name == stem).map_or(0, |(_, count)| *count);
        ensure!(
            data.other_files || count >= usual,
            "{count} cases were found in {stem}.json, not {usual}"
        );
    }
    Ok(())
}
