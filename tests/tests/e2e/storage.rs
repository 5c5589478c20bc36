//! What the store is told by flags, by the configuration file and over the admin API, and what it then does.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tests::harness::{Sextant, binary, free_port, post_form, run_to_end, wait_for};

const LIMIT: Duration = Duration::from_secs(60);

/// Starts a server on `yaml` with further flags.
fn start(folder: &Path, yaml: &str, flags: &[&str]) -> Sextant {
    let config = folder.join("prometheus.yml");
    std::fs::write(&config, yaml).unwrap();
    let config = format!("--config.file={}", config.display());
    let arguments: Vec<&str> =
        ["server", &config].into_iter().chain(flags.iter().copied()).collect();
    Sextant::start(folder, free_port(), &arguments)
}

fn status(server: &Sextant, page: &str, field: &str) -> Value {
    server.get(&format!("/api/v1/status/{page}")).json()["data"][field].clone()
}

#[test]
fn retention_flags_hold_until_the_file_has_a_section() {
    let folder = tempfile::tempdir().unwrap();
    let flags = [
        "--storage.tsdb.retention.time=3d",
        "--storage.tsdb.wal-fsync-interval=always",
        "--storage.tsdb.head-series-limit=1000",
        "--storage.tsdb.no-lockfile",
    ];
    let server = start(folder.path(), "scrape_configs: []\n", &flags);
    assert!(server.log().contains("--storage.tsdb.no-lockfile has no effect"), "{}", server.log());
    assert_eq!(status(&server, "runtimeinfo", "storageRetention"), "3d");
    for (flag, value) in [
        ("storage.tsdb.retention.time", "3d"),
        ("storage.tsdb.retention.size", "0B"),
        ("storage.tsdb.max-block-duration", "7h12m"),
        ("storage.tsdb.min-block-duration", "2h"),
        ("storage.tsdb.wal-fsync-interval", "always"),
        ("storage.tsdb.head-series-limit", "1000"),
        ("web.enable-admin-api", "false"),
    ] {
        assert_eq!(status(&server, "flags", flag), value, "{flag}");
    }
    let yaml = status(&server, "config", "yaml").to_string();
    assert!(yaml.contains(r"retention:\n      time: 3d\n"), "{yaml}");
    for field in ["min", "max", "current"] {
        assert!(status(&server, "walreplay", field).is_u64(), "{field}");
    }

    let section = "storage: {tsdb: {retention: {size: 1GB512MB}, out_of_order_time_window: 30m}}\n";
    std::fs::write(folder.path().join("prometheus.yml"), section).unwrap();
    server.signal(Signal::HUP);
    wait_for("the section", LIMIT, || match status(&server, "runtimeinfo", "storageRetention") {
        text if text == "1GiB512MiB" => Ok(()),
        text => Err(text.to_string()),
    });
    let yaml = status(&server, "config", "yaml").to_string();
    assert!(yaml.contains(r"out_of_order_time_window: 30m\n"), "{yaml}");
    assert!(yaml.contains(r"max_exemplars: 100000\n"), "{yaml}");
    assert!(server.terminate().success());
}

/// An hour of two series, a sample a minute, long ago.
fn import(folder: &Path) {
    let mut text = String::from("# TYPE m gauge\n");
    for series in ["a", "b"] {
        for minute in 0..60 {
            text += &format!("m{{s=\"{series}\"}} {minute} {}\n", 1_435_780_800 + minute * 60);
        }
    }
    text += "# EOF\n";
    let file = folder.join("m.om");
    std::fs::write(&file, text).unwrap();
    let data = folder.join("data");
    let output =
        Command::new(binary()).args(["tsdb", "import", "-q"]).args([&file, &data]).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What `sextant tsdb dump` prints of a folder, by series.
fn dumped(data: &Path) -> [usize; 2] {
    let output = Command::new(binary()).args(["tsdb", "dump"]).arg(data).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    ["a", "b"].map(|series| text.matches(&format!("{{__name__=\"m\", s=\"{series}\"}}")).count())
}

#[test]
fn series_are_deleted_and_snapshots_keep_what_there_was() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    import(folder.path());
    assert_eq!(dumped(&data), [60, 60]);
    let server = start(folder.path(), "scrape_configs: []\n", &["--web.enable-admin-api"]);
    let post = |what: &str, fields: &[(&str, &str)]| {
        let path = format!("/api/v1/admin/tsdb/{what}");
        post_form(server.port, &path, fields).unwrap()
    };
    let blocks = status(&server, "tsdb/blocks", "blocks");
    assert_eq!(blocks[0]["stats"]["numSamples"], 120, "{blocks}");
    assert_eq!(blocks[0]["maxTime"], 1_435_788_000_000i64, "{blocks}");

    let taken = post("snapshot", &[]);
    assert_eq!(taken.status, 200, "{}", taken.body);
    let name = taken.json()["data"]["name"].as_str().unwrap().to_owned();
    // Times are inclusive: 20 of 60 samples.
    let fields = [("match[]", "m{s=\"a\"}"), ("start", "1435780800"), ("end", "1435781999.999")];
    assert_eq!(post("delete_series", &fields).status, 204);
    let count = |selector: &str| {
        let query = format!("count_over_time({selector}[1h])");
        let result = server.query(&query, Some("1435784399"));
        result.first().map(|series| series["value"][1].as_str().unwrap().to_owned())
    };
    assert_eq!(count("m{s=\"a\"}"), Some(String::from("40")));
    assert_eq!(count("m{s=\"b\"}"), Some(String::from("60")));
    assert_eq!(dumped(&data), [40, 60]);
    assert_eq!(post("clean_tombstones", &[]).status, 204);
    let blocks = status(&server, "tsdb/blocks", "blocks");
    assert_eq!(blocks[0]["stats"]["numSamples"], 100, "{blocks}");
    assert_eq!(dumped(&data), [40, 60]);
    assert_eq!(dumped(&data.join("snapshots").join(name)), [60, 60]);
    assert!(server.terminate().success());
}

#[test]
fn what_makes_no_sense_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("p.yml");
    std::fs::write(&config, "storage:\n  tsdb:\n    retention:\n      percentage: 101\n").unwrap();
    let config = format!("--config.file={}", config.display());
    for (flag, words) in [
        ("--storage.tsdb.wal-segment-size=1MB", "must be 0 or between 10MB and 256MB"),
        ("--storage.tsdb.head-admit-first={}", "must contain at least one non-empty matcher"),
        (
            config.as_str(),
            "p.yml:4:19: storage: tsdb.retention.percentage: must be in the range [0, 100], got 101",
        ),
    ] {
        let failed = run_to_end(&[String::from("server"), String::from(flag)]);
        assert_ne!(failed.code, Some(0), "{flag}");
        assert!(failed.stderr.contains(words), "{flag}: {}", failed.stderr);
    }
}
