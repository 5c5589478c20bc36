//! Debian's promtool and Prometheus against ours: the same commands work, and the same data give the same answers.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use model::{
    Appender, Batch, Exemplar, ExemplarAppend, Labels, MatchOp, Matcher, SystemClock, TimeRange,
};
use serde_json::Value;
use tests::conformance::{optional_program, program};
use tests::faults::copy_dir;
use tests::harness::{Sextant, free_port, get, post_form, wait_for};
use tsdb::{Db, Options, OsDisk};

const LIMIT: Duration = Duration::from_secs(90);
const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

/// Complaints of `promtool check metrics` that upstream's own names cause.
const UPSTREAM_COMPLAINTS: [(&str, &str); 2] = [
    ("node_memory_", "metric names should be written in 'snake_case' not 'camelCase'"),
    ("container_memory_failcnt", "counter metrics should have \"_total\" suffix"),
];

fn promtool(promtool: &Path, arguments: &[&str]) -> String {
    let output = Command::new(promtool).args(arguments).output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promtool {arguments:?}: {stdout}{stderr}");
    stdout
}

#[test]
fn promtool_asks_our_server() {
    let Some(tool) = program("promtool", "PROMTOOL") else { return };
    let folder = tempfile::tempdir().unwrap();
    let server = Sextant::all_in_one(folder.path());
    let url = format!("http://127.0.0.1:{}", server.port);
    wait_for("data", LIMIT, || match server.query("count(up == 1) == 3", None) {
        result if result.len() == 1 => Ok(()),
        result => Err(format!("{result:?}")),
    });
    let instant = promtool(&tool, &["query", "instant", &url, "node_boot_time_seconds > bool 0"]);
    assert!(instant.starts_with("{instance=\"") && instant.contains("} => 1 @["), "{instant}");
    let range = promtool(&tool, &["query", "range", "--step=1s", &url, "vector(7)"]);
    assert!(range.starts_with("{} =>\n7 @["), "{range}");
    let series = promtool(&tool, &["query", "series", "--match=node_load1", &url]);
    assert!(
        series.contains("__name__=\"node_load1\"") && series.contains("job=\"node\""),
        "{series}"
    );
    let labels = promtool(&tool, &["query", "labels", &url, "job"]);
    assert_eq!(labels, "cadvisor\nnode\nsextant\n");
    let wrong = Command::new(&tool).args(["query", "instant", &url, "sum("]).output().unwrap();
    assert!(!wrong.status.success());
    let error = String::from_utf8_lossy(&wrong.stderr);
    assert!(error.contains("bad_data") && error.contains("1:5: parse error"), "{error}");

    for path in ["/metrics", "/metrics/node", "/metrics/cadvisor"] {
        let text = server.get(path).body;
        assert!(text.len() > 1000, "{path}: {text}");
        let complaints = check_metrics(&tool, &text);
        if path == "/metrics" {
            assert_eq!(complaints, [""; 0], "our own names have no excuse");
        }
        for complaint in complaints {
            let known = UPSTREAM_COMPLAINTS
                .iter()
                .any(|(name, text)| complaint.starts_with(name) && complaint.ends_with(text));
            assert!(known, "{path}: {complaint}");
        }
    }
}

/// The lines that `promtool check metrics` complains with.
fn check_metrics(tool: &Path, text: &str) -> Vec<String> {
    use std::io::Write;
    let mut child = Command::new(tool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let all = [output.stdout, output.stderr].concat();
    String::from_utf8(all).unwrap().lines().map(String::from).collect()
}

/// A Prometheus on a data directory. Killed when dropped.
pub(super) struct Prometheus {
    child: Child,
    pub(super) port: u16,
}

impl Prometheus {
    /// Starts it on `folder/copy`.
    pub(super) fn start(program: &Path, folder: &Path) -> Self {
        Self::start_with(program, folder, &[])
    }

    /// As [`start`](Self::start), with more flags.
    pub(super) fn start_with(program: &Path, folder: &Path, flags: &[&str]) -> Self {
        let config = folder.join("peer.yml");
        std::fs::write(&config, "scrape_configs: []\n").unwrap();
        let port = free_port();
        let log = std::fs::File::create(folder.join("peer.log")).unwrap();
        let child = Command::new(program)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("copy").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            // The data are older than any retention by default.
            .arg("--storage.tsdb.retention.time=100y")
            .args(flags)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let peer = Self { child, port };
        wait_for("the peer", LIMIT, || match get(port, "/-/ready") {
            Ok(answer) if answer.status == 200 => Ok(()),
            other => Err(format!("{other:?}")),
        });
        peer
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// When the data begin: long ago, on a boundary of blocks.
pub(super) const START: i64 = 1_700_006_400_000;

/// Writes five hours of four series: blocks, and a log with the rest.
fn write_data(folder: &Path) {
    let (disk, clock) = (Arc::new(OsDisk), Arc::new(SystemClock));
    let registry = telemetry::Registry::new();
    let db = Db::open(folder, disk, clock, Options::default(), &registry).unwrap();
    let labels: Vec<Labels> = (0..4)
        .map(|i| {
            let i = i.to_string();
            Labels::from_pairs([("__name__", "m_total"), ("i", &i), ("text", "a\"é\n")]).unwrap()
        })
        .collect();
    for step in 0..1200_i64 {
        let t = START + step * 15_000;
        let mut batch = Batch::new();
        for (i, labels) in labels.iter().enumerate() {
            // A counter with resets, a constant, a fraction, and a series with gaps, NaN, infinities and staleness.
            let v = match i {
                0 => (step % 500) as f64 * 3.0,
                1 => 42.0,
                2 => 1.0 / (step + 1) as f64,
                _ if step % 50 < 10 => continue,
                _ => match step % 50 {
                    10 => f64::NAN,
                    11 => f64::INFINITY,
                    12 => f64::NEG_INFINITY,
                    49 => model::stale_marker(),
                    _ => -0.1 * step as f64,
                },
            };
            batch.push_new(labels.clone(), t, v);
        }
        let appended = db.append(&batch).unwrap();
        assert!(appended.rejected.is_empty(), "{:?}", appended.rejected);
    }
    let done = db.maintain().unwrap();
    assert!(done.blocks_cut >= 1, "{done:?}");
    db.close().unwrap();
}

/// The `data` of a query, with results in an order of their own made comparable.
pub(super) fn ask(port: u16, path: &str, fields: &[(&str, &str)]) -> BTreeMap<String, Value> {
    let answer = post_form(port, path, fields).unwrap();
    assert_eq!(answer.status, 200, "{fields:?}: {}", answer.body);
    let json = answer.json();
    let result = json["data"]["result"].as_array().cloned();
    let result = result.unwrap_or_else(|| panic!("{fields:?}: {json}"));
    result.into_iter().map(|series| (series["metric"].to_string(), series)).collect()
}

/// Queries that 2.42 and 3.x answer alike: no window or lookback ends on a sample, no sums whose order or compensation differs.
const ALIKE: [&str; 8] = [
    "m_total",
    "count(m_total)",
    "max(m_total)",
    "min by (i) (m_total)",
    "count_over_time(m_total[9m55s])",
    "max_over_time(m_total[9m55s])",
    "changes(m_total[1h3s])",
    "resets(m_total{i=\"0\"}[4h3s])",
];

/// Queries that only a Prometheus of version 3 must answer as we do.
const OF_VERSION_3: [&str; 5] = [
    "sum(m_total{i!=\"3\"})",
    "avg(m_total{i!=\"3\"})",
    "rate(m_total[5m])",
    "sum_over_time(m_total[10m])",
    "stddev(m_total)",
];

fn compare_on_copy(prometheus: &Path, queries: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    write_data(&folder.path().join("data"));
    copy_dir(&folder.path().join("data"), &folder.path().join("copy"));
    let ours = Sextant::server(folder.path(), "scrape_configs: []\n");
    let theirs = Prometheus::start(prometheus, folder.path());
    let mut compared = 0;
    for query in queries {
        for offset in [HOUR + 7_000, 2 * HOUR + 1_000, 3 * HOUR + 11_000, 5 * HOUR - 14_000] {
            let time = format!("{}.{:03}", (START + offset) / 1000, (START + offset) % 1000);
            let fields = [("query", *query), ("time", &time)];
            let expected = ask(theirs.port, "/api/v1/query", &fields);
            assert_eq!(ask(ours.port, "/api/v1/query", &fields), expected, "{query} at {time}");
            compared += expected.len();
        }
        let start = format!("{}", (START + 7_000) / 1000);
        let end = format!("{}", (START + 5 * HOUR) / 1000);
        let fields = [("query", *query), ("start", &start), ("end", &end), ("step", "210")];
        let expected = ask(theirs.port, "/api/v1/query_range", &fields);
        assert_eq!(ask(ours.port, "/api/v1/query_range", &fields), expected, "{query} over time");
        compared += expected.len();
    }
    assert!(compared > queries.len() * 4, "only {compared} series were compared");
    let all = [("query", "m_total[6h]"), ("time", &format!("{}", (START + 5 * HOUR) / 1000))];
    let expected = ask(theirs.port, "/api/v1/query", &all);
    assert_eq!(expected.len(), 4);
    assert_eq!(ask(ours.port, "/api/v1/query", &all), expected, "every stored sample");
}

#[test]
fn debian_s_prometheus_answers_alike_on_a_copy_of_our_data() {
    let Some(prometheus) = program("prometheus", "PROMETHEUS_DEBIAN") else { return };
    compare_on_copy(&prometheus, &ALIKE);
}

#[test]
fn a_given_prometheus_3_answers_everything_alike() {
    // Not required: no package has one.
    let Some(prometheus) = optional_program("PROMETHEUS") else { return };
    compare_on_copy(&prometheus, &[ALIKE.as_slice(), OF_VERSION_3.as_slice()].concat());
}

/// Times of the samples in an answer to a range selector, by label `i`, in milliseconds since [`START`].
fn times(answer: &BTreeMap<String, Value>) -> BTreeMap<String, Vec<i64>> {
    let time = |pair: &Value| {
        let milliseconds = pair[0].as_f64().unwrap() * 1_000.0;
        milliseconds.round() as i64 - START
    };
    let of_series = |series: &Value| {
        let values = series["values"].as_array().unwrap();
        let i = series["metric"]["i"].as_str().unwrap();
        (String::from(i), values.iter().map(time).collect())
    };
    answer.values().map(of_series).collect()
}

#[test]
fn what_we_deleted_is_gone_for_debian_s_prometheus_too() {
    let Some(prometheus) = program("prometheus", "PROMETHEUS_DEBIAN") else { return };
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    write_data(&data);
    // In the block, in the head, in both, and all there is of a series.
    let deleted = [
        ("0", 30 * MINUTE, HOUR),
        ("0", 4 * HOUR, 4 * HOUR + 10 * MINUTE),
        ("1", 0, 5 * HOUR),
        ("2", 115 * MINUTE, 125 * MINUTE),
    ];
    let registry = telemetry::Registry::new();
    let (disk, clock) = (Arc::new(OsDisk), Arc::new(SystemClock));
    let db = Db::open(&data, disk, clock, Options::default(), &registry).unwrap();
    for (i, min, max) in deleted {
        let matcher = Matcher::new("i", MatchOp::Equal, i).unwrap();
        let range = TimeRange::new(START + min, START + max);
        db.delete_series(&[vec![matcher]], range).unwrap();
    }
    db.close().unwrap();
    drop(db);
    let copy = folder.path().join("copy");
    copy_dir(&data, &copy);
    let blocks = std::fs::read_dir(&copy).unwrap().map(|entry| entry.unwrap().path());
    let tombstones = blocks.filter_map(|block| std::fs::metadata(block.join("tombstones")).ok());
    assert!(tombstones.map(|file| file.len()).sum::<u64>() > 9, "not rewritten, but marked");

    let is_kept = |i: &str, t: i64| {
        !deleted.iter().any(|&(of, min, max)| of == i && (min..=max).contains(&t))
    };
    let mut expected: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for t in (0..1200).map(|step| step * 15_000) {
        for i in ["0", "1", "2"].into_iter().filter(|i| is_kept(i, t)) {
            expected.entry(String::from(i)).or_default().push(t);
        }
    }
    assert_eq!(expected.keys().collect::<Vec<_>>(), ["0", "2"]);
    let end = format!("{}", (START + 5 * HOUR) / 1000);
    let all = [("query", "m_total{i!=\"3\"}[6h]"), ("time", end.as_str())];
    let peer = Prometheus::start(&prometheus, folder.path());
    assert_eq!(times(&ask(peer.port, "/api/v1/query", &all)), expected, "theirs");
    let ours = Sextant::server(folder.path(), "scrape_configs: []\n");
    assert_eq!(times(&ask(ours.port, "/api/v1/query", &all)), expected, "ours");
}

/// Writes a quarter of an hour of a counter and a classic histogram with exemplars, all of which stays in the log.
fn write_exemplars(folder: &Path) {
    let (disk, clock) = (Arc::new(OsDisk), Arc::new(SystemClock));
    let registry = telemetry::Registry::new();
    let db = Db::open(folder, disk, clock, Options::default(), &registry).unwrap();
    let series = [("m_total", "a", "x"), ("m_total", "a", "y"), ("h_bucket", "le", "+Inf")];
    let series = series
        .into_iter()
        .chain([("h_bucket", "le", "0.1")])
        .map(|(metric, name, value)| Labels::from_pairs([("__name__", metric), (name, value)]));
    let series: Vec<Labels> = series.collect::<Result<_, _>>().unwrap();
    for step in 0..60_i64 {
        let t = START + step * 15_000;
        let mut batch = Batch::new();
        for (i, labels) in (0..).zip(&series) {
            let key = batch.push_new(labels.clone(), t, (step * (i + 1)) as f64);
            // Each has another rhythm, one repeats itself, and their times are not those of the samples.
            if step % (i + 1) == 0 {
                let trace = format!("\"é{}", if i == 1 { 0 } else { step });
                let pairs = [("trace_id", trace.as_str()), ("span", "1")];
                let labels = Labels::from_pairs(pairs.into_iter().skip((step % 2) as usize));
                let (labels, v) = (labels.unwrap(), 1.0 / (step + 1) as f64);
                let exemplar = Exemplar { labels, t: t - 7 * i, v };
                batch.exemplars.push(ExemplarAppend { series: key, exemplar });
            }
        }
        let appended = db.append(&batch).unwrap();
        assert_eq!((appended.rejected, appended.rejected_exemplars), (vec![], vec![]));
    }
    db.close().unwrap();
}

#[test]
fn debian_s_prometheus_finds_the_same_exemplars() {
    let Some(prometheus) = program("prometheus", "PROMETHEUS_DEBIAN") else { return };
    let folder = tempfile::tempdir().unwrap();
    write_exemplars(&folder.path().join("data"));
    copy_dir(&folder.path().join("data"), &folder.path().join("copy"));
    let ours = Sextant::server(folder.path(), "scrape_configs: []\n");
    let flags = ["--enable-feature=exemplar-storage"];
    let theirs = Prometheus::start_with(&prometheus, folder.path(), &flags);
    let mut found = 0;
    for query in [
        "m_total",
        "m_total{a=\"y\"}",
        "h_bucket{le=~\"0.1|1\"}",
        "{__name__=~\"m_.*|h_.*\"}",
        "rate(m_total[1m]) + on () group_left () sum(rate(h_bucket[5m]))",
        "histogram_quantile(0.9, sum by (le) (rate(h_bucket[1m])))",
        "m_total offset 1h or h_bucket",
        "max_over_time(m_total{a=\"x\"}[5m:1m])",
        "nothing",
        "1",
        "sum(",
    ] {
        for (start, end) in [(0, 900_000), (300_000, 600_000), (299_986, 300_001), (5, 4)] {
            let text = |ms: i64| format!("{}.{:03}", (START + ms) / 1000, (START + ms) % 1000);
            let (start, end) = (text(start), text(end));
            let fields = [("query", query), ("start", start.as_str()), ("end", end.as_str())];
            let answers = [ours.port, theirs.port].map(|port| {
                let answer = post_form(port, "/api/v1/query_exemplars", &fields).unwrap();
                // Of a query without selectors there is no body.
                let has_body = !answer.body.is_empty();
                (answer.status, if has_body { answer.json() } else { Value::Null })
            });
            let [(status, mut answer), (expected_status, mut expected)] = answers;
            // Its order of series is not always the same.
            for answer in [&mut answer, &mut expected] {
                if let Some(series) = answer["data"].as_array_mut() {
                    series.sort_by_key(|one| one["seriesLabels"].to_string());
                }
            }
            assert_eq!((status, &answer), (expected_status, &expected), "{query} {start} {end}");
            let series = expected["data"].as_array().into_iter().flatten();
            found += series.map(|one| one["exemplars"].as_array().unwrap().len()).sum::<usize>();
        }
    }
    assert!(found > 500, "only {found} exemplars were compared");
}

#[test]
fn promtool_reads_our_blocks() {
    let Some(tool) = program("promtool", "PROMTOOL") else { return };
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    write_data(&data);
    let path = data.display().to_string();
    let list = promtool(&tool, &["tsdb", "list", &path]);
    assert!(list.lines().count() >= 2, "{list}");
    let analyze = promtool(&tool, &["tsdb", "analyze", &path]);
    assert!(analyze.contains("Series: 4"), "{analyze}");
    let dump = promtool(&tool, &["tsdb", "dump", &path]);
    // Three series have a sample at each step, the fourth 40 of 50. The head is dumped too.
    assert_eq!(dump.lines().count(), 1200 * 3 + 1200 / 50 * 40);
}
