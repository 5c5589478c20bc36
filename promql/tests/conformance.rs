//! Queries that were written for Prometheus, from a folder outside the repository.
//!
//! Only their language is of interest here: each is read and survives printing. What they evaluate to is
//! the subject of the runner of such files. Without the folder the test says so and passes, unless
//! `SEXTANT_REQUIRE_PEERS` is 1.

use std::io::Write;
use std::path::{Path, PathBuf};

use promql::ParseOptions;
use promql::ast::Expr;
use promql::parse;

fn folder() -> PathBuf {
    let from_environment = std::env::var_os("SEXTANT_CONFORMANCE").map(PathBuf::from);
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/conformance");
    from_environment.unwrap_or_else(beside).join("promql")
}

/// Past the test harness's capture: a run that skips should show.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[test]
fn queries_of_others_are_read_and_survive_printing() {
    let folder = folder();
    let Ok(entries) = std::fs::read_dir(&folder) else {
        let required = std::env::var("SEXTANT_REQUIRE_PEERS").as_deref() == Ok("1");
        assert!(!required, "no folder {}", folder.display());
        return say(&format!("promql conformance: skipped, no folder {}", folder.display()));
    };
    let mut queries = 0;
    for entry in entries {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "test") {
            continue;
        }
        let script = std::fs::read_to_string(&path).unwrap();
        for (line, query) in valid_queries(&script) {
            let place = format!("{}:{line}", path.display());
            let expr = read(query, &place);
            let again = read(&expr.to_string(), &place);
            assert_eq!(normal(expr), normal(again), "{place}");
            queries += 1;
        }
    }
    assert!(queries > 0, "no queries in {}", folder.display());
    say(&format!("promql conformance: {queries} queries"));
}

fn read(query: &str, place: &str) -> Expr {
    parse(query, &ParseOptions::all()).unwrap_or_else(|error| panic!("{place}: {query}: {error}"))
}

/// The tree without positions. As text, because NaN is not equal to itself.
fn normal(mut expr: Expr) -> String {
    expr.normalize();
    format!("{expr:?}")
}

/// The queries of a script that do not have to fail, with their lines.
fn valid_queries(script: &str) -> Vec<(usize, &str)> {
    let mut found: Vec<(usize, &str)> = Vec::new();
    for (line, text) in (1..).zip(script.lines().map(str::trim)) {
        if let Some(query) = evaluated(text) {
            found.push((line, query));
        } else if text.starts_with("expect fail") {
            found.pop();
        }
    }
    found
}

/// The query of `eval instant at T …` or `eval range from T to T step T …`.
fn evaluated(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("eval")?;
    let mut words = rest.split_whitespace();
    let fields = match words.next()? {
        "instant" => 3,
        "range" => 7,
        // `eval_fail`, and what the old forms of the language call otherwise.
        _ => return None,
    };
    let mut rest = rest.trim_start();
    for _ in 0..fields {
        rest = rest.split_once(char::is_whitespace)?.1.trim_start();
    }
    Some(rest)
}
