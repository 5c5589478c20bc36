//! Holds the workspace to its own rules; see `tests::tidy`.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Result, ensure};
use tests::conformance::workspace_root;
use tests::tidy::{self, Graph};

fn check(complaints: &[String]) -> Result<()> {
    ensure!(complaints.is_empty(), "\n{}", complaints.join("\n"));
    Ok(())
}

#[test]
fn tidy_imports_follow_the_layers() -> Result<()> {
    check(&tidy::imports(&Graph::of_workspace(&workspace_root())?))
}

#[test]
fn tidy_sources_are_documented_short_and_finished() -> Result<()> {
    let sources = tidy::sources(&workspace_root())?;
    ensure!(!sources.is_empty(), "no source was found");
    let complaints: Vec<_> =
        sources.iter().flat_map(|(path, text)| tidy::source(path, text)).collect();
    check(&complaints)
}

#[test]
fn tidy_the_map_mentions_every_crate() -> Result<()> {
    let root = workspace_root();
    let map = fs::read_to_string(root.join("ARCHITECTURE.md"))?;
    check(&tidy::architecture(&map, &Graph::of_workspace(&root)?.members))
}

#[test]
fn tidy_the_readme_names_tests_that_exist() -> Result<()> {
    let root = workspace_root();
    let readme = fs::read_to_string(root.join("README.md"))?;
    let sources = tidy::sources(&root)?;
    let tests: BTreeSet<_> =
        sources.iter().flat_map(|(path, text)| tidy::test_paths(path, text)).collect();
    check(&tidy::readme(&readme, &tests))
}
