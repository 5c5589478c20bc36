//! Native histograms that we wrote, read by Debian's Prometheus: integer ones, which its version knows.

use std::path::Path;
use std::sync::Arc;

use model::{Appender, Batch, Histogram, Labels, Span, SystemClock};
use tests::conformance::program;
use tests::faults::copy_dir;
use tests::harness::Sextant;
use tsdb::{Db, Options, OsDisk};

use super::peers::{Prometheus, START, ask};

const STEPS: i64 = 1_000;

/// Observations in buckets that appear one after another, with a reset of all now and then.
fn histogram(step: i64) -> Histogram {
    let age = (step % 300).unsigned_abs() + 1;
    let buckets = usize::try_from(age / 60 + 1).unwrap();
    let mut counts: Vec<i64> =
        (0..buckets).map(|i| age.cast_signed() * 3 - i64::try_from(i).unwrap() * 60).collect();
    counts.retain(|count| *count > 0);
    let total: i64 = counts.iter().sum();
    let deltas = counts.iter().scan(0, |before, count| {
        let delta = count - *before;
        *before = *count;
        Some(delta)
    });
    Histogram {
        schema: 3,
        zero_threshold: 1e-128,
        count: total.unsigned_abs(),
        sum: total as f64 / 3.0,
        positive_spans: vec![Span { offset: -4, length: u32::try_from(counts.len()).unwrap() }],
        positive_deltas: deltas.collect(),
        ..Histogram::default()
    }
}

/// Four hours: a block, and a log with the rest.
fn write_data(folder: &Path) {
    let registry = telemetry::Registry::new();
    let (disk, clock) = (Arc::new(OsDisk), Arc::new(SystemClock));
    let db = Db::open(folder, disk, clock, Options::default(), &registry).unwrap();
    for step in 0..STEPS {
        let mut batch = Batch::new();
        let key = batch.introduce(Labels::from_pairs([("__name__", "h"), ("job", "j")]).unwrap());
        batch.push_histogram(key, START + step * 15_000, histogram(step));
        assert_eq!(db.append(&batch).unwrap().rejected_histograms, []);
    }
    assert!(db.maintain().unwrap().blocks_cut > 0);
    db.close().unwrap();
}

#[test]
fn debian_s_prometheus_reads_our_native_histograms() {
    let Some(prometheus) = program("prometheus", "PROMETHEUS_DEBIAN") else { return };
    let folder = tempfile::tempdir().unwrap();
    write_data(&folder.path().join("data"));
    copy_dir(&folder.path().join("data"), &folder.path().join("copy"));
    let peer =
        Prometheus::start_with(&prometheus, folder.path(), &["--enable-feature=native-histograms"]);
    let server = Sextant::server(folder.path(), "scrape_configs: []\n");
    for query in [
        "histogram_count(h)",
        "histogram_sum(h)",
        "histogram_fraction(0, 1, h)",
        "count_over_time(h[3h52s])",
    ] {
        let mut seen = 0;
        for step in (7..STEPS).step_by(41) {
            let time = format!("{}.5", (START + step * 15_000) / 1_000);
            let fields = [("query", query), ("time", time.as_str())];
            let (ours, theirs) = (
                ask(server.port, "/api/v1/query", &fields),
                ask(peer.port, "/api/v1/query", &fields),
            );
            assert_eq!(ours, theirs, "{query} at {time}");
            seen += ours.len();
        }
        assert!(seen >= 20, "{query}: {seen}");
    }
}
