//! One folder, two programs: what this crate writes, Debian's `promtool` reads, and the other way round.
//!
//! Without the programs the tests say so and pass, unless `SEXTANT_REQUIRE_PEERS` is 1.

#![expect(clippy::unwrap_used, reason = "functions of a test are part of it")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{
    Appender, Batch, Columns, Labels, ManualClock, QueryContext, Queryable, Selection, TimeRange,
};
use tsdb::{Db, Options, OsDisk};

const START: i64 = 1_700_006_400_000;
const LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// Samples by series; values as `promtool` prints them, which tells no NaN from another.
type Content = BTreeMap<String, Vec<(i64, String)>>;

fn peer(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from("/usr/bin").join(name);
    if path.exists() {
        return Some(path);
    }
    let required = std::env::var_os("SEXTANT_REQUIRE_PEERS").is_some_and(|value| value == "1");
    assert!(!required, "{} is missing, and SEXTANT_REQUIRE_PEERS=1", path.display());
    let _ = writeln!(std::io::stderr(), "skipped: {} is missing", path.display());
    None
}

fn run(program: &Path, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

fn open(folder: &Path) -> Db {
    let (disk, clock) = (Arc::new(OsDisk), Arc::new(ManualClock::new(START)));
    Db::open(folder, disk, clock, Options::default(), &telemetry::Registry::new()).unwrap()
}

fn content(db: &Db) -> Content {
    let context = QueryContext::unbounded();
    let querier = db.querier(TimeRange::ALL).unwrap();
    let set = querier.select(&Selection::new(&[], TimeRange::ALL), &context).unwrap();
    assert_eq!(set.warnings(), [""; 0]);
    let mut content = Content::new();
    for index in 0..set.len() {
        let mut columns = Columns::new();
        set.read(index, TimeRange::ALL, &mut columns, &context).unwrap();
        let samples = columns.iter().map(|sample| (sample.t, number(sample.v))).collect();
        content.insert(set.labels(index).to_string(), samples);
    }
    content.retain(|_, samples: &mut Vec<_>| !samples.is_empty());
    content
}

/// One spelling for each value, whoever printed it.
fn number(v: f64) -> String {
    if v.is_nan() { String::from("NaN") } else { format!("{v:e}") }
}

/// What `promtool tsdb dump` prints: labels, value and time on each line.
fn dumped(promtool: &Path, folder: &Path) -> Content {
    let mut content = Content::new();
    for line in run(promtool, &["tsdb", "dump", folder.to_str().unwrap()]).lines() {
        let mut words = line.rsplitn(3, ' ');
        let t = words.next().unwrap().parse().unwrap();
        let v: f64 = words.next().unwrap().parse().unwrap();
        let labels = String::from(words.next().unwrap());
        content.entry(labels).or_default().push((t, number(v)));
    }
    content
}

fn values(step: i64, series: i64) -> f64 {
    let noise = (step * 7_919 + series).wrapping_mul(0x9e37_79b9_7f4a_7c15_u64.cast_signed());
    match series {
        0 => 42.0,
        1 => (step * 3) as f64,
        2 => 1.0 / (step + 1) as f64,
        3 if step % 50 == 3 => f64::NAN,
        3 if step % 50 == 4 => f64::NEG_INFINITY,
        3 if step % 50 == 5 => model::stale_marker(),
        3 => -0.1 * step as f64,
        _ => f64::from_bits(noise.cast_unsigned() & !(0x7ff << 52) | 0x3fe << 52),
    }
}

/// Appends a step of five series, the times jittered as scrapes are.
fn append(db: &Db, step: i64) {
    let mut batch = Batch::new();
    for series in 0..5 {
        let i = series.to_string();
        let pairs = [("__name__", "m"), ("i", i.as_str()), ("text", "é\"\\")];
        let t = START + step * 15_000 + step % 3;
        batch.push_new(Labels::from_pairs(pairs).unwrap(), t, values(step, series));
    }
    assert_eq!(db.append(&batch).unwrap().rejected, []);
}

#[test]
fn promtool_dumps_what_was_appended() {
    let Some(promtool) = peer("promtool") else { return };
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path());
    for step in 0..3_000 {
        append(&db, step);
        if step % 240 == 0 {
            db.maintain().unwrap();
        }
    }
    let expected = content(&db);
    assert_eq!(expected.values().map(Vec::len).sum::<usize>(), 15_000);
    db.close().unwrap();
    drop(db);
    let wal = std::fs::read_dir(folder.path().join("wal")).unwrap();
    let has_checkpoint = wal
        .filter_map(Result::ok)
        .any(|entry| entry.file_name().to_string_lossy().starts_with("checkpoint."));
    assert!(has_checkpoint, "the log was shortened on the way");
    assert_eq!(dumped(&promtool, folder.path()), expected);
    let path = folder.path().to_str().unwrap();
    let blocks = run(&promtool, &["tsdb", "list", path]);
    assert!(blocks.lines().count() > 3, "{blocks}");
    let analysis = run(&promtool, &["tsdb", "analyze", path]);
    assert!(analysis.contains("Series: 5\n"), "{analysis}");
    assert_eq!(content(&open(folder.path())), expected, "promtool changed nothing");
}

#[test]
fn blocks_of_promtool_are_read() {
    let Some(promtool) = peer("promtool") else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut text = String::from("# TYPE m gauge\n");
    for series in 0..5 {
        for step in 0..900 {
            let (v, t) = (values(step, series), START / 1000 + step * 15);
            let v = format!("{v:?}").replace("inf", "Inf");
            writeln!(text, "m{{i=\"{series}\"}} {v} {t}").unwrap();
        }
    }
    text.push_str("# EOF\n");
    let input = folder.path().join("input.om");
    std::fs::write(&input, text).unwrap();
    let data = folder.path().join("data");
    let (input, output) = (input.to_str().unwrap(), data.to_str().unwrap());
    run(&promtool, &["tsdb", "create-blocks-from", "openmetrics", input, output]);
    let found = content(&open(&data));
    assert_eq!(found, dumped(&promtool, &data));
    assert_eq!(found.values().map(Vec::len).sum::<usize>(), 4_500);
}

/// A Prometheus that scrapes itself. Killed, not stopped, when dropped.
struct Prometheus {
    child: Child,
    port: u16,
}

impl Prometheus {
    fn start(program: &Path, folder: &Path, data: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = folder.join("prometheus.yml");
        let text = format!(
            "scrape_configs:\n- job_name: self\n  scrape_interval: 100ms\n  scrape_timeout: 100ms\n  \
             static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n"
        );
        std::fs::write(&config, text).unwrap();
        let child = Command::new(program)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            // Debian's does not lock its folder unless it is told to, upstream's does.
            .arg("--storage.tsdb.use-lockfile")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, port }
    }

    /// Waits until the server has stored some samples.
    fn wait_for_samples(&self) {
        let deadline = Instant::now() + LIMIT;
        while !self.has_samples().unwrap_or(false) {
            assert!(Instant::now() < deadline, "the peer stores no samples");
            std::thread::sleep(POLL);
        }
    }

    /// Waits until the server has given up by itself.
    fn wait_for_failure(&mut self) {
        let deadline = Instant::now() + LIMIT;
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None => std::thread::sleep(POLL),
            }
            assert!(Instant::now() < deadline, "the peer opened a folder in use");
        };
        assert!(!status.success());
    }

    fn has_samples(&self) -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.write_all(b"GET /api/v1/query?query=count_over_time(up[1h])>10 HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.contains("\"instance\""))
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn the_log_of_a_killed_prometheus_is_read() {
    let (Some(prometheus), Some(promtool)) = (peer("prometheus"), peer("promtool")) else { return };
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let peer = Prometheus::start(&prometheus, folder.path(), &data);
    peer.wait_for_samples();
    let refused = Db::open(
        &data,
        Arc::new(OsDisk),
        Arc::new(ManualClock::new(0)),
        Options::default(),
        &telemetry::Registry::new(),
    );
    let error = refused.unwrap_err().to_string();
    assert!(error.ends_with("is in use by another process"), "{error}");
    drop(peer);
    let expected = dumped(&promtool, &data);
    assert!(expected.len() > 100, "{} series", expected.len());
    let db = open(&data);
    assert_eq!(content(&db), expected);
    drop(db);

    // And on with ours: a Prometheus on the folder is refused while it is open, and starts afterwards.
    let db = open(&data);
    Prometheus::start(&prometheus, folder.path(), &data).wait_for_failure();
    db.close().unwrap();
    drop(db);
    Prometheus::start(&prometheus, folder.path(), &data).wait_for_samples();
}
