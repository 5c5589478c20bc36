//! A log that was damaged: ours keeps what is whole, and so does a Prometheus that is started after it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::{Appender, Batch, Labels, SystemClock};
use serde_json::Value;
use tests::conformance::program;
use tests::faults::copy_dir;
use tests::harness::{Sextant, get};
use tsdb::{Db, Options, OsDisk};

use super::peers::{Prometheus, START, ask};

const SERIES: usize = 5;
const STEPS: usize = 4_000;
const PAGE_BYTES: usize = 32 << 10;

/// Writes a log of several segments, which alone has the samples; its segments.
fn write_log(data: &Path) -> Vec<PathBuf> {
    let options = Options { wal_segment_bytes: 3 * PAGE_BYTES as u64, ..Options::default() };
    let registry = telemetry::Registry::new();
    let db = Db::open(data, Arc::new(OsDisk), Arc::new(SystemClock), options, &registry).unwrap();
    let mut refs = Vec::new();
    for step in 0..STEPS {
        let t = START + i64::try_from(step).unwrap() * 1_000;
        let mut batch = Batch::new();
        for i in 0..SERIES {
            let v = (step * SERIES + i) as f64 / 3.0;
            match refs.get(i) {
                Some(&series) => batch.push(series, t, v),
                None => {
                    let i = i.to_string();
                    let labels = Labels::from_pairs([("__name__", "m"), ("i", &i)]).unwrap();
                    batch.push_new(labels, t, v);
                }
            }
        }
        let appended = db.append(&batch).unwrap();
        assert_eq!(appended.rejected, []);
        refs.extend(appended.new_refs);
    }
    db.close().unwrap();
    drop(db);
    // Full chunks and snapshots would stand in for the log.
    for entry in std::fs::read_dir(data).unwrap().map(|entry| entry.unwrap()) {
        if entry.file_name() == "wal" {
            continue;
        }
        if entry.path().is_dir() {
            std::fs::remove_dir_all(entry.path()).unwrap();
        } else {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    let entries = std::fs::read_dir(data.join("wal")).unwrap();
    let mut segments: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| path.is_file());
    segments.sort();
    segments
}

/// Every sample, and how many there are.
fn all(port: u16) -> (std::collections::BTreeMap<String, Value>, usize) {
    let time = ((START + i64::try_from(STEPS).unwrap() * 1_000) / 1_000).to_string();
    let answer = ask(port, "/api/v1/query", &[("query", "m[2h]"), ("time", &time)]);
    let samples = answer.values().map(|series| series["values"].as_array().unwrap().len()).sum();
    (answer, samples)
}

/// Where the fragment begins that is number `nth`, from 0, in the page at `page`: type, length in two bytes, checksum, payload.
fn fragment(segment: &[u8], page: usize, nth: usize) -> usize {
    (0..nth).fold(page, |at, _| {
        let length = u16::from_be_bytes([segment[at + 1], segment[at + 2]]);
        at + 7 + usize::from(length)
    })
}

/// Damages the second of several segments from byte `from(segment)` on, and follows the log through both programs; how many samples are lost.
fn check(prometheus: &Path, from: impl Fn(&[u8]) -> usize) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let segments = write_log(&data);
    assert!(segments.len() >= 3, "{segments:?}");
    let mut bytes = std::fs::read(&segments[1]).unwrap();
    let from = from(&bytes);
    for byte in &mut bytes[from..from + 4] {
        *byte ^= 0xa5;
    }
    std::fs::write(&segments[1], bytes).unwrap();

    // A Prometheus that comes first drops all that follows the damage; this is what is at stake.
    let alone = tempfile::tempdir().unwrap();
    copy_dir(&data, &alone.path().join("copy"));
    let peer = Prometheus::start(prometheus, alone.path());
    let (_, unrepaired) = all(peer.port);
    drop(peer);

    let server = Sextant::server(folder.path(), "scrape_configs: []\n");
    let (ours, kept) = all(server.port);
    assert!(unrepaired < kept - 1_000, "a Prometheus alone keeps {unrepaired} of {kept}");
    let metrics = server.get("/metrics").body;
    let corruptions = metrics.lines().find(|l| l.starts_with("prometheus_tsdb_wal_corruptions"));
    assert_eq!(corruptions, Some("prometheus_tsdb_wal_corruptions_total 1"));
    assert!(server.terminate().success());

    copy_dir(&data, &folder.path().join("copy"));
    let peer = Prometheus::start(prometheus, folder.path());
    let (theirs, _) = all(peer.port);
    assert_eq!(theirs, ours);
    let metrics = get(peer.port, "/metrics").unwrap().body;
    assert!(metrics.contains("\nprometheus_tsdb_wal_corruptions_total 0\n"), "no damage is left");
    SERIES * STEPS - kept
}

#[test]
fn prometheus_keeps_what_ours_left_of_a_damaged_log() {
    let Some(prometheus) = program("prometheus", "PROMETHEUS_DEBIAN") else { return };
    // In a record: that batch is lost.
    let lost = check(&prometheus, |segment| fragment(segment, PAGE_BYTES, 100) + 20);
    assert_eq!(lost, SERIES);
    // In what says where the next record begins: the next is searched for.
    let lost = check(&prometheus, |segment| fragment(segment, PAGE_BYTES, 100));
    assert_eq!(lost, SERIES);
}
