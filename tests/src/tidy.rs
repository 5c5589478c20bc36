//! The workspace's rules that a compiler does not check: who may import whom, and how sources look.
//!
//! Each check takes what it looks at as an argument and returns complaints, one text each.
//! `tests/tidy.rs` applies them to the workspace.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use anyhow::{Context, Result, ensure};
use regex::Regex;
use serde_json::Value;

/// Most lines of a source file.
const FILE_LINES_MAX: usize = 900;

/// The one file that may ask the system for the time of day.
const CLOCK_FILE: &str = "model/src/clock.rs";

/// Which crates of the workspace each crate may have as normal dependencies; development dependencies
/// are free. A crate that is missing here is a mistake: decide on its layer first.
const IMPORTS: [(&str, Imports); 18] = [
    ("model", Imports::These(&[])),
    ("telemetry", Imports::These(&[])),
    ("metrics-api", Imports::These(&[])),
    ("exposition", Imports::These(&["model", "telemetry"])),
    ("config", Imports::These(&["model", "telemetry"])),
    ("http", Imports::These(&["model", "telemetry", "config"])),
    ("api-client", Imports::These(&["model", "telemetry", "config", "http"])),
    ("chunkenc", Imports::These(&["model"])),
    ("tsdb", Imports::These(&["model", "telemetry", "chunkenc"])),
    ("promql", Imports::These(&["model", "telemetry"])),
    ("scrape", Imports::These(&["model", "telemetry", "exposition", "config", "http"])),
    ("exporters", Imports::These(&["model", "telemetry", "exposition", "config", "http"])),
    (
        "metrics-server",
        Imports::These(&[
            "model",
            "telemetry",
            "metrics-api",
            "exposition",
            "http",
            "api-client",
            "promql",
        ]),
    ),
    (
        "hpa-controller",
        Imports::These(&["model", "telemetry", "metrics-api", "http", "api-client", "promql"]),
    ),
    (
        "server",
        Imports::These(&[
            "model",
            "telemetry",
            "exposition",
            "config",
            "http",
            "tsdb",
            "promql",
            "scrape",
        ]),
    ),
    (
        "sextant",
        Imports::These(&[
            "model",
            "telemetry",
            "exposition",
            "config",
            "http",
            "tsdb",
            "promql",
            "scrape",
            "exporters",
            "server",
            "metrics-api",
            "api-client",
            "metrics-server",
            "hpa-controller",
        ]),
    ),
    ("tests", Imports::Any),
    ("benches", Imports::Any),
];

/// Crates that a crate must not even have among the dependencies of its dependencies.
const NEVER: [(&str, &[&str]); 2] = [
    ("promql", &["tsdb", "tokio", "hyper", "axum", "mio", "socket2"]),
    ("tsdb", &["promql", "tokio", "hyper", "axum", "mio", "socket2"]),
];

#[derive(Clone, Copy)]
enum Imports {
    These(&'static [&'static str]),
    Any,
}

/// The packages of a workspace and what they depend on, as `cargo metadata` tells it.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// Names of the workspace's own packages.
    pub members: BTreeSet<String>,
    /// Normal and build dependencies of every package, by name. Several versions of a package are one.
    pub dependencies: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    /// Asks cargo about the workspace in `root`.
    ///
    /// # Errors
    /// When cargo fails, or says something unexpected.
    pub fn of_workspace(root: &Path) -> Result<Self> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args(["metadata", "--format-version=1", "--offline", "--filter-platform"])
            .arg(format!("{}-unknown-linux-gnu", std::env::consts::ARCH))
            .current_dir(root)
            .output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self::from_metadata(&serde_json::from_slice(&output.stdout)?)
    }

    /// Reads the output of `cargo metadata`.
    ///
    /// # Errors
    /// Names the field that is missing.
    pub fn from_metadata(metadata: &Value) -> Result<Self> {
        let mut names = BTreeMap::new();
        for package in array(metadata, "/packages")? {
            names.insert(text(package, "/id")?, text(package, "/name")?);
        }
        let name = |id: &str| names.get(id).copied().context("a package without a name");
        let mut graph = Self::default();
        for id in array(metadata, "/workspace_members")? {
            graph.members.insert(String::from(name(id.as_str().unwrap_or_default())?));
        }
        for node in array(metadata, "/resolve/nodes")? {
            let package = String::from(name(text(node, "/id")?)?);
            let dependencies = graph.dependencies.entry(package).or_default();
            for dependency in array(node, "/deps")? {
                let kinds = array(dependency, "/dep_kinds")?;
                if kinds.iter().any(|kind| kind["kind"] != "dev") {
                    dependencies.insert(String::from(name(text(dependency, "/pkg")?)?));
                }
            }
        }
        Ok(graph)
    }

    /// Everything that `package` depends on, directly or not.
    fn reachable(&self, package: &str) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        let mut waiting = vec![package];
        while let Some(package) = waiting.pop() {
            for dependency in self.dependencies.get(package).into_iter().flatten() {
                if found.insert(dependency.as_str()) {
                    waiting.push(dependency);
                }
            }
        }
        found
    }
}

fn array<'v>(value: &'v Value, pointer: &str) -> Result<&'v Vec<Value>> {
    value.pointer(pointer).and_then(Value::as_array).with_context(|| format!("no {pointer}"))
}

fn text<'v>(value: &'v Value, pointer: &str) -> Result<&'v str> {
    value.pointer(pointer).and_then(Value::as_str).with_context(|| format!("no {pointer}"))
}

/// Complaints about who imports whom.
#[must_use]
pub fn imports(graph: &Graph) -> Vec<String> {
    let mut complaints = Vec::new();
    for member in &graph.members {
        let Some((_, allowed)) = IMPORTS.iter().find(|(name, _)| name == member) else {
            complaints.push(format!(
                "{member}: give it a row in the table of imports of tests/src/tidy.rs"
            ));
            continue;
        };
        let Imports::These(allowed) = allowed else { continue };
        let dependencies = graph.dependencies.get(member).into_iter().flatten();
        for own in dependencies.filter(|name| graph.members.contains(*name)) {
            if !allowed.contains(&own.as_str()) {
                complaints.push(format!("{member} must not import {own}"));
            }
        }
    }
    for (member, never) in NEVER {
        let reachable = graph.reachable(member);
        for dependency in never.iter().filter(|name| reachable.contains(*name)) {
            complaints.push(format!("{member} must not depend on {dependency}, even indirectly"));
        }
    }
    complaints
}

/// Complaints about the text of one source file; `path` is relative to the workspace.
#[must_use]
pub fn source(path: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    if !text.starts_with("//!") {
        complaints.push(format!("{path}: must open with `//!` saying what it owns"));
    }
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        complaints.push(format!("{path}: {lines} lines, at most {FILE_LINES_MAX} are allowed"));
    }
    // Written in two parts, since this file is looked at too.
    let unfinished = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("to", "do!"),
        concat!("unimple", "mented!"),
    ];
    for (number, line) in (1..).zip(text.lines()) {
        for word in unfinished.iter().filter(|word| line.contains(**word)) {
            complaints.push(format!("{path}:{number}: {word}: finish it or leave it out"));
        }
        if path != CLOCK_FILE && line.contains(concat!("SystemTime", "::now")) {
            complaints.push(format!("{path}:{number}: the time of day is a model::Clock"));
        }
    }
    complaints
}

/// Complaints about crates that ARCHITECTURE.md does not mention.
#[must_use]
pub fn architecture(text: &str, members: &BTreeSet<String>) -> Vec<String> {
    let missing = members.iter().filter(|name| !text.contains(&format!("`{name}`")));
    missing.map(|name| format!("ARCHITECTURE.md: does not mention `{name}`")).collect()
}

/// Complaints about rows of README.md's compatibility table that do not name an existing test.
///
/// A row's last cell must hold `` `cargo test -p CRATE FILTER` ``; `tests` are the paths of all tests as
/// [`test_paths`] gives them.
#[must_use]
pub fn readme(text: &str, tests: &BTreeSet<String>) -> Vec<String> {
    static COMMAND: LazyLock<Regex> =
        LazyLock::new(|| regex(r"`cargo test -p ([a-z-]+)(?: --test \S+)? ([\w:]+)`"));
    let section = text.split("\n## ").find(|section| section.starts_with("Compatibility"));
    let lines = section.unwrap_or_default().lines();
    let rows: Vec<_> = lines.filter(|line| line.starts_with('|')).skip(2).collect();
    let mut complaints = Vec::new();
    if rows.is_empty() {
        complaints.push(String::from("README.md: no table in the section Compatibility"));
    }
    for row in rows {
        let proof = row.trim_end_matches('|').rsplit('|').next().unwrap_or_default();
        let commands: Vec<_> = COMMAND.captures_iter(proof).collect();
        if commands.is_empty() {
            complaints.push(format!("README.md: no `cargo test -p CRATE FILTER` in the row {row}"));
        }
        for found in commands {
            let (package, filter) = (format!("{}::", &found[1]), &found[2]);
            let exists = tests
                .iter()
                .any(|path| path.strip_prefix(&package).is_some_and(|path| path.contains(filter)));
            if !exists {
                complaints.push(format!("README.md: {} runs no test", &found[0]));
            }
        }
    }
    complaints
}

/// Paths of the tests in a source file, `package::module::function`, without inline modules: what a filter of
/// `cargo test` looks through.
#[must_use]
pub fn test_paths(path: &str, text: &str) -> Vec<String> {
    static FUNCTIONS: LazyLock<[Regex; 2]> = LazyLock::new(|| {
        [
            regex(r"#\[(?:tokio::)?test\b[^\n]*\n(?:\s*#\[[^\n]*\n)*\s*(?:async )?fn (\w+)"),
            // Property tests in the form without attribute.
            regex(r"(?m)^\s*fn (\w+)\([^)\n]* in "),
        ]
    });
    let Some(module) = module_path(path) else { return Vec::new() };
    let found = FUNCTIONS.iter().flat_map(|pattern| pattern.captures_iter(text));
    found.map(|function| format!("{module}::{}", &function[1])).collect()
}

/// The module path that the file at `path` has in its crate, with the package for the crate. The name of an
/// integration test is not part of it.
fn module_path(path: &str) -> Option<String> {
    let mut parts: Vec<_> = path.trim_end_matches(".rs").split('/').collect();
    parts.retain(|part| !matches!(*part, "mod" | "lib" | "main"));
    match *parts.get(1)? {
        "src" => parts.drain(1..2),
        "tests" => parts.drain(1..parts.len().min(3)),
        _ => return None,
    };
    Some(parts.join("::"))
}

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the patterns are constants")
}

/// All Rust sources below `root` with their texts, by path relative to it. Build output and hidden
/// folders are left out.
///
/// # Errors
/// When a folder or file cannot be read.
pub fn sources(root: &Path) -> Result<BTreeMap<String, String>> {
    let mut sources = BTreeMap::new();
    let mut waiting: Vec<PathBuf> = vec![root.to_path_buf()];
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() {
                let built = path.join("CACHEDIR.TAG").exists() || name == "target";
                if !built && !name.starts_with('.') {
                    waiting.push(path);
                }
            } else if name.ends_with(".rs") {
                let text =
                    fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
                let relative = path.strip_prefix(root)?.to_string_lossy().into_owned();
                sources.insert(relative, text);
            }
        }
    }
    Ok(sources)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&str, &[&str])], members: &[&str]) -> Graph {
        let set = |names: &[&str]| names.iter().copied().map(String::from).collect();
        Graph {
            members: set(members),
            dependencies: edges.iter().map(|(name, on)| (String::from(*name), set(on))).collect(),
        }
    }

    #[test]
    fn imports_against_the_layers_are_found() {
        let members = ["model", "tsdb", "promql", "extra"];
        let edges: [(&str, &[&str]); 3] = [
            ("promql", &["model", "tsdb", "regex"]),
            ("tsdb", &["model", "prometheus"]),
            ("prometheus", &["tokio"]),
        ];
        let complaints = imports(&graph(&edges, &members)).join("\n");
        for part in [
            "extra: give it a row",
            "promql must not import tsdb",
            "promql must not depend on tokio",
            "tsdb must not depend on tokio",
        ] {
            assert!(complaints.contains(part), "{part} is not in:\n{complaints}");
        }
        assert!(!complaints.contains("import model"), "{complaints}");
    }

    #[test]
    fn metadata_is_read() {
        let metadata = serde_json::json!({
            "packages": [{"id": "1", "name": "a"}, {"id": "2", "name": "b"}, {"id": "3", "name": "c"}],
            "workspace_members": ["1"],
            "resolve": {"nodes": [{"id": "1", "deps": [
                {"pkg": "2", "dep_kinds": [{"kind": null}, {"kind": "dev"}]},
                {"pkg": "3", "dep_kinds": [{"kind": "dev"}]},
            ]}]},
        });
        let read = Graph::from_metadata(&metadata).unwrap();
        let expected = graph(&[("a", &["b"])], &["a"]);
        assert_eq!((read.members, read.dependencies), (expected.members, expected.dependencies));
    }

    fn check_source(path: &str, text: &str, complaints: usize) {
        let found = source(path, text);
        assert_eq!(found.len(), complaints, "{found:?}");
    }

    #[test]
    fn sources_are_looked_through() {
        check_source("a/src/lib.rs", "//! Owns it.\nfn f() {}\n", 0);
        check_source("a/src/lib.rs", "fn f() {}\n", 1);
        check_source("a/src/lib.rs", &format!("//! x\n// {} later\n", concat!("TO", "DO")), 1);
        check_source("a/src/lib.rs", &format!("//! x\n{}", "\n".repeat(900)), 1);
        let now = concat!("//! x\nuse std::time::SystemTime", "::now;\n");
        check_source("a/src/lib.rs", now, 1);
        check_source(CLOCK_FILE, now, 0);
    }

    #[test]
    fn rows_without_an_existing_test_are_found() {
        let path = "tests/tests/e2e/peers.rs";
        let code = "#[test]\n#[ignore]\nfn promtool_asks() {}\n#[tokio::test]\nasync fn b() {}\n";
        let tests: BTreeSet<_> = test_paths(path, code).into_iter().collect();
        assert!(tests.contains("tests::peers::promtool_asks"), "{tests:?}");
        let table = |proof: &str| {
            format!(
                "# A\n\n## Compatibility\n\n| a | b | proof |\n|---|---|---|\n| x | y | {proof} |\n\n## B\n"
            )
        };
        assert!(readme(&table("`cargo test -p tests promtool`"), &tests).is_empty());
        assert!(readme(&table("`cargo test -p tests --test e2e peers::`"), &tests).is_empty());
        for wrong in ["`cargo test -p tsdb promtool`", "`cargo test -p tests nothing`", "a promise"]
        {
            assert_eq!(readme(&table(wrong), &tests).len(), 1, "{wrong}");
        }
        assert_eq!(readme("# A\n", &tests).len(), 1);
    }

    #[test]
    fn files_are_modules() {
        for (path, module) in [
            ("tsdb/src/lib.rs", "tsdb"),
            ("tsdb/src/head/mod.rs", "tsdb::head"),
            ("tsdb/src/head/append.rs", "tsdb::head::append"),
            ("tests/tests/promql.rs", "tests"),
            ("tests/tests/e2e/main.rs", "tests"),
            ("tests/tests/e2e/peers.rs", "tests::peers"),
        ] {
            assert_eq!(module_path(path).as_deref(), Some(module), "{path}");
        }
        assert_eq!(module_path("tsdb/benches/xor.rs"), None);
    }

    #[test]
    fn crates_that_the_map_lacks_are_found() {
        let members = graph(&[], &["model", "tsdb"]).members;
        assert_eq!(architecture("| `model` |", &members).len(), 1);
    }
}
