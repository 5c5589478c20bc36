//! Reading of expressions alone: no server, no HTTP.
//!
//! Ours is a call of the library. The peer is `promtool check rules`, which reads a file of rules and the expression of each: what it costs is the
//! difference between a file with these expressions and one that has each as a comment behind a short one, so that starting and reading the file do
//! not count.

use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::ensure;
use promql::ParseOptions;

use crate::engine::thread_seconds;
use crate::process::cpu_seconds_of;

/// Each expression is in the peer's file so often.
const COPIES: usize = 100;
/// Runs of the peer.
const ROUNDS: usize = 5;

/// Writes what reading `expressions` costs ours and the peer.
#[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
pub(crate) fn print(
    out: &mut impl Write,
    expressions: &[String],
    promtool: &str,
) -> anyhow::Result<()> {
    let ours = ours(expressions)?;
    let comments: Vec<String> =
        expressions.iter().map(|expression| format!("1 # {expression}")).collect();
    let folder = tempfile::tempdir()?;
    let write = |name: &str, expressions: &[String]| -> anyhow::Result<PathBuf> {
        ensure!(expressions.iter().all(|text| !text.contains('\n')), "an expression of two lines");
        let path = folder.path().join(name);
        std::fs::write(&path, rules(expressions)?)?;
        Ok(path)
    };
    let (expressions_file, comments_file) =
        (write("expressions.yml", expressions)?, write("comments.yml", &comments)?);
    let mut costs = Vec::new();
    for _ in 0..ROUNDS {
        costs.push(check(promtool, &expressions_file)? - check(promtool, &comments_file)?);
    }
    costs.sort_by(f64::total_cmp);
    let (count, copies) = (expressions.len() as f64, COPIES as f64);
    let peer = costs[ROUNDS / 2] / copies;
    let bytes: usize = expressions.iter().map(String::len).sum();
    writeln!(
        out,
        "Reading alone, CPU for one expression: ours {:.2} µs ({:.1} ns a byte), promtool {:.2} µs: {:.3} ({:.1}×)\n",
        ours * 1e6 / count,
        ours * 1e9 / bytes as f64,
        peer * 1e6 / count,
        ours / peer,
        peer / ours,
    )?;
    Ok(())
}

/// CPU seconds of reading all of them once.
fn ours(expressions: &[String]) -> anyhow::Result<f64> {
    let (options, started, mut rounds) = (ParseOptions::default(), Instant::now(), 0);
    let before = thread_seconds();
    while started.elapsed() < Duration::from_secs(1) {
        for expression in expressions {
            let parsed = promql::parse(expression, &options);
            ensure!(std::hint::black_box(&parsed).is_ok(), "{expression}: {parsed:?}");
        }
        rounds += 1;
    }
    Ok((thread_seconds() - before) / f64::from(rounds))
}

/// A file of recording rules, of a name each.
fn rules(expressions: &[String]) -> anyhow::Result<String> {
    let mut text = String::from("groups:\n- name: all\n  rules:\n");
    for copy in 0..COPIES {
        for (number, expression) in expressions.iter().enumerate() {
            let quoted = serde_json::to_string(expression)?;
            writeln!(text, "  - {{record: r:{copy}:{number}, expr: {quoted}}}")?;
        }
    }
    Ok(text)
}

fn check(promtool: &str, path: &Path) -> anyhow::Result<f64> {
    let mut command = Command::new(promtool);
    command.args(["check", "rules", "--lint=none"]).arg(path).stdout(Stdio::null());
    cpu_seconds_of(&mut command)
}
