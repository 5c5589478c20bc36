//! The node collectors against the /proc and /sys tree that node_exporter is tested with, and what it prints for it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use exporters::{Node, NodeOptions};

/// Where the conformance data is, if it is there. With `SEXTANT_REQUIRE_PEERS=1` absence fails.
fn conformance() -> Option<PathBuf> {
    let folder = std::env::var_os("SEXTANT_CONFORMANCE")
        .map(PathBuf::from)
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/conformance"));
    let folder = folder.join("node_exporter");
    if folder.is_dir() {
        return Some(folder);
    }
    let required = std::env::var("SEXTANT_REQUIRE_PEERS").is_ok_and(|v| v == "1");
    assert!(!required, "{} is required and absent", folder.display());
    #[expect(clippy::print_stderr, reason = "says that nothing was compared")]
    {
        eprintln!("skipped: {} is absent", folder.display());
    }
    None
}

/// The text of each family, by name.
fn families(text: &str) -> BTreeMap<String, String> {
    let mut families: BTreeMap<String, String> = BTreeMap::new();
    for line in text.lines() {
        let name = match line.strip_prefix("# ") {
            Some(comment) => comment.split(' ').nth(1).unwrap_or_default(),
            None => line.split(['{', ' ']).next().unwrap_or_default(),
        };
        let family = families.entry(String::from(name)).or_default();
        family.push_str(line);
        family.push('\n');
    }
    families
}

/// Families that upstream prints by collectors that are not built here.
const OF_OTHER_COLLECTORS: [&str; 2] = ["node_cpu_frequency", "node_cpu_scaling"];

/// Prefixes of the families of each collector that can be compared: the others read the live machine.
const COMPARED: [&str; 14] = [
    "node_cpu_seconds_total",
    "node_cpu_guest_seconds_total",
    "node_cpu_core_throttles_total",
    "node_cpu_package_throttles_total",
    "node_cpu_isolated",
    "node_disk_",
    "node_load",
    "node_pressure_",
    "node_intr_total",
    "node_context_switches_total",
    "node_forks_total",
    "node_boot_time_seconds",
    "node_procs_",
    "node_vmstat_",
];

#[test]
fn node_exporter_fixtures_are_reproduced_to_the_byte() {
    let Some(folder) = conformance() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let unpacked = Command::new("tar")
        .arg("-xzf")
        .arg(folder.join("fixtures.tar.gz"))
        .arg("-C")
        .arg(scratch.path())
        .status()
        .unwrap();
    assert!(unpacked.success());
    let fixtures = scratch.path().join("fixtures");
    let node = Node::new(&NodeOptions {
        procfs: fixtures.join("proc"),
        sysfs: fixtures.join("sys"),
        rootfs: fixtures.clone(),
        udev_data: fixtures.join("udev/data"),
        without: ["filesystem", "uname", "time", "netdev"].map(String::from).to_vec(),
        ..NodeOptions::default()
    });
    let mut ours = Vec::new();
    node.collect(&mut ours);
    let ours = families(&String::from_utf8(ours).unwrap());
    let theirs = families(&std::fs::read_to_string(folder.join("expected.txt")).unwrap());

    let mut compared = 0;
    for (name, expected) in &theirs {
        let wanted = COMPARED.iter().any(|prefix| name.starts_with(prefix))
            || name.starts_with("node_memory_") && !name.starts_with("node_memory_numa_");
        if !wanted || OF_OTHER_COLLECTORS.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        let got = ours.get(name).unwrap_or_else(|| panic!("{name} is missing"));
        assert_eq!(got, expected, "{name}");
        compared += 1;
    }
    assert!(compared > 80, "only {compared} families were compared");
    for (name, got) in &ours {
        let known = theirs.contains_key(name) || name.starts_with("node_scrape_collector_");
        assert!(known, "upstream does not have {name}:\n{got}");
        if name == "node_scrape_collector_success" {
            assert!(!got.contains("} 0"), "{got}");
        }
    }
}
