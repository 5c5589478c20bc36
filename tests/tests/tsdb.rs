//! Data directories that a Prometheus wrote, served by ours: every sample of them, compared with what Prometheus answers.
//!
//! The data are not part of the repository; `tests::conformance` says where they are looked for. Each folder `X` with a file
//! `X.expected.json.gz` beside it is a case: the file has the answer of Prometheus to the instant query `{__name__!=""}[2h]`.

#![expect(clippy::unwrap_used, reason = "functions of a test are part of it")]

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use serde_json::Value;
use tests::conformance::{self, note};
use tests::faults::copy_dir;
use tests::harness::{Sextant, free_port};

const QUERY: &str = r#"{__name__!=""}[2h]"#;
/// Differences that are printed of each case.
const SHOWN_MAX: usize = 5;

/// What of each case holds; a number is only ever raised, until it is all.
const FLOORS: [(&str, Counts); 2] = [
    ("block", Counts { series: 108, floats: 17_265, histograms: 207 }),
    ("crashed", Counts { series: 132, floats: 17_563, histograms: 231 }),
];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    series: usize,
    floats: usize,
    histograms: usize,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { series, floats, histograms } = self;
        write!(f, "{series} series, {floats} floats, {histograms} histograms")
    }
}

/// Samples of one series by time in milliseconds; a time has a float, or a histogram.
#[derive(Debug, Default)]
struct Samples {
    floats: BTreeMap<i64, String>,
    histograms: BTreeMap<i64, Value>,
}

/// Series by their labels as JSON.
type Content = BTreeMap<String, Samples>;

#[test]
fn tsdb_directories_of_prometheus_are_served_whole() {
    let Some(data) = conformance::data("tsdb") else { return };
    let cases = cases(&data.path);
    assert!(!cases.is_empty(), "no case in {}", data.path.display());
    let mut wrong = Vec::new();
    for (name, expected) in &cases {
        let found = serve(&data.path.join(name), expected);
        let expected = content(expected);
        let (same, differences) = compare(&expected, &found);
        let all = counts(&expected);
        note(&format!("tsdb: {name}: {same} of {all} are equal"));
        for difference in differences.iter().take(SHOWN_MAX) {
            let shown = &difference[..difference.floor_char_boundary(300)];
            note(&format!("tsdb: {name}: {shown}"));
        }
        let floor = FLOORS.iter().find(|(case, _)| case == name).map(|(_, floor)| *floor);
        let floor = floor.filter(|_| !data.other_files);
        match floor {
            Some(floor) if floor == same => {}
            None if differences.is_empty() => {}
            _ => wrong.push(format!("{name}: {same}, not {}", floor.unwrap_or(all))),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The names of the folders that have an expectation, with it.
fn cases(folder: &Path) -> Vec<(String, Vec<Value>)> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let cases = files.iter().filter_map(|path| {
        let name = path.file_name()?.to_str()?.strip_suffix(".expected.json.gz")?;
        let mut text = String::new();
        GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_string(&mut text).unwrap();
        let expected: Vec<Value> = serde_json::from_str(&text).unwrap();
        Some((String::from(name), expected))
    });
    cases.collect()
}

/// What our server answers on a copy of `folder`, at the time of the newest sample.
fn serve(folder: &Path, expected: &[Value]) -> Content {
    let temporary = tempfile::tempdir().unwrap();
    copy_dir(folder, &temporary.path().join("data"));
    let config = temporary.path().join("prometheus.yml");
    std::fs::write(&config, "scrape_configs: []\n").unwrap();
    let config = format!("--config.file={}", config.display());
    // The data are as old as they are.
    let arguments = ["server", &config, "--storage.tsdb.retention.time=100y"];
    let server = Sextant::start(temporary.path(), free_port(), &arguments);
    let points = expected
        .iter()
        .flat_map(|series| points(series, "values").chain(points(series, "histograms")));
    let newest = points.map(|(t, _)| t).max().expect("a case has samples");
    let time = format!("{}.{:03}", newest / 1000, newest % 1000);
    content(&server.query(QUERY, Some(&time)))
}

fn points<'a>(series: &'a Value, kind: &str) -> impl Iterator<Item = (i64, &'a Value)> {
    series[kind].as_array().into_iter().flatten().map(|point| {
        #[expect(clippy::cast_possible_truncation, reason = "times of a few years")]
        let t = (point[0].as_f64().unwrap() * 1000.0).round() as i64;
        (t, &point[1])
    })
}

fn content(matrix: &[Value]) -> Content {
    let mut content = Content::new();
    for series in matrix {
        let floats = points(series, "values")
            .map(|(t, value)| (t, value.as_str().unwrap().to_owned()))
            .collect();
        let histograms = points(series, "histograms").map(|(t, h)| (t, h.clone())).collect();
        let before = content.insert(series["metric"].to_string(), Samples { floats, histograms });
        assert!(before.is_none(), "twice: {}", series["metric"]);
    }
    content
}

fn counts(content: &Content) -> Counts {
    Counts {
        series: content.len(),
        floats: content.values().map(|samples| samples.floats.len()).sum(),
        histograms: content.values().map(|samples| samples.histograms.len()).sum(),
    }
}

/// How much is equal, series counting when they are equal as a whole, and what is not.
fn compare(expected: &Content, found: &Content) -> (Counts, Vec<String>) {
    let mut same = Counts::default();
    let mut differences = Vec::new();
    let nothing = Samples::default();
    for series in found.keys().filter(|series| !expected.contains_key(*series)) {
        differences.push(format!("{series} must not be there"));
    }
    for (series, expected) in expected {
        let found = found.get(series).unwrap_or(&nothing);
        let before = differences.len();
        same.floats += same_points(series, &expected.floats, &found.floats, &mut differences);
        same.histograms +=
            same_points(series, &expected.histograms, &found.histograms, &mut differences);
        same.series += usize::from(before == differences.len());
    }
    (same, differences)
}

fn same_points<V: PartialEq + fmt::Debug>(
    series: &str,
    expected: &BTreeMap<i64, V>,
    found: &BTreeMap<i64, V>,
    differences: &mut Vec<String>,
) -> usize {
    for (t, value) in found.iter().filter(|(t, _)| !expected.contains_key(*t)) {
        differences.push(format!("{series} at {t}: {value:?} must not be there"));
    }
    let mut same = 0;
    for (t, value) in expected {
        match found.get(t) {
            Some(there) if there == value => same += 1,
            there => differences.push(format!("{series} at {t}: {there:?} instead of {value:?}")),
        }
    }
    same
}

#[test]
fn tsdb_differences_are_counted_and_named() {
    let matrix = |text: &str| content(&serde_json::from_str::<Vec<Value>>(text).unwrap());
    let expected = matrix(
        r#"[{"metric":{"a":"1"},"values":[[1,"2"],[2.5,"3"]]},
            {"metric":{"a":"2"},"histograms":[[1,{"count":"1","sum":"0"}]]},
            {"metric":{"a":"3"},"values":[[1,"1"]]}]"#,
    );
    let found = matrix(
        r#"[{"metric":{"a":"1"},"values":[[1,"2"],[2.5,"4"],[3,"4"]]},
            {"metric":{"a":"2"},"histograms":[[1.000,{"sum":"0","count":"1"}]]},
            {"metric":{"a":"4"},"values":[[1,"1"]]}]"#,
    );
    let (same, differences) = compare(&expected, &found);
    assert_eq!(same, Counts { series: 1, floats: 1, histograms: 1 });
    assert_eq!(
        differences,
        [
            r#"{"a":"4"} must not be there"#,
            r#"{"a":"1"} at 3000: "4" must not be there"#,
            r#"{"a":"1"} at 2500: Some("4") instead of "3""#,
            r#"{"a":"3"} at 1000: None instead of "1""#,
        ]
    );
    assert_eq!(counts(&expected), Counts { series: 3, floats: 3, histograms: 1 });
    assert!(compare(&expected, &expected).1.is_empty());
}
