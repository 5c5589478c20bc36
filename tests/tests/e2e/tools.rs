//! `sextant tsdb`: what it prints is what Debian's promtool prints of the same folder.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use model::{Appender, Batch, Histogram, Labels, Span, SystemClock};
use telemetry::Registry;
use tests::conformance::program;
use tests::harness::binary;
use tsdb::{Db, Options, OsDisk};

/// Counters, a histogram, values that print in every way, in three blocks of two hours.
const TEXT: &str = "# HELP m A metric.\n# TYPE m counter\n\
    m_total{a=\"1\",b=\"x\\\"y\"} 1 1435781430.781\nm_total{a=\"2\"} 2.5e9 1435781430.781\n\
    # TYPE g gauge\ng 1234567 1435781430\ng NaN 1435791430\ng{a=\"é\"} +Inf 1435799430\n\
    g -0.00001 1435799430\ng 123456789012345678 1435799460.5\n\
    # TYPE h histogram\nh_bucket{le=\"1.0\"} 3 1435781430 # {trace=\"x\"} 0.5 1435781429\n\
    h_bucket{le=\"+Inf\"} 4 1435781430\nh_count 4 1435781430\nh_sum 2 1435781430\n# EOF\n";

fn run(program: &Path, arguments: &[&str]) -> Output {
    Command::new(program).arg("tsdb").args(arguments).output().unwrap()
}

fn stdout(program: &Path, arguments: &[&str]) -> String {
    let output = run(program, arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// Writes [`TEXT`] into `folder` and both programs' blocks of it; the paths of the latter.
fn blocks_of_both(folder: &Path, promtool: &Path) -> [String; 2] {
    let file = folder.join("in.om");
    std::fs::write(&file, TEXT).unwrap();
    let file = file.display().to_string();
    let [ours, theirs] = ["ours", "theirs"].map(|name| folder.join(name).display().to_string());
    stdout(&binary(), &["import", &file, &ours]);
    let created = |program: &Path, dir: &str| {
        stdout(program, &["create-blocks-from", "openmetrics", &file, dir])
    };
    let [listed, by_promtool] = [
        created(&binary(), &folder.join("again").display().to_string()),
        created(promtool, &theirs),
    ];
    assert_eq!(listed.lines().next(), by_promtool.lines().next());
    assert_eq!(listed.lines().count(), 4, "{listed}");
    for dir in [&ours, &theirs] {
        // promtool asks for a log, be it empty.
        std::fs::create_dir_all(Path::new(dir).join("wal")).unwrap();
    }
    [ours, theirs]
}

#[test]
fn blocks_are_listed_and_dumped_as_by_promtool() {
    let Some(promtool) = program("promtool", "PROMTOOL") else { return };
    let folder = tempfile::tempdir().unwrap();
    let dirs = blocks_of_both(folder.path(), &promtool);
    let mut dumps = Vec::new();
    for dir in &dirs {
        for arguments in [
            &["list", dir][..],
            &["list", "-r", dir],
            &["dump", dir],
            &["dump", "--min-time=1435791430000", "--max-time=1435799430000", dir],
            &["dump", "--match={__name__=~\"m.*\"}", dir],
        ] {
            assert_eq!(stdout(&binary(), arguments), stdout(&promtool, arguments), "{arguments:?}");
        }
        dumps.push(stdout(&binary(), &["dump", dir]));
    }
    // Both read the same text; they may only cut blocks at other times.
    assert_eq!(dumps[0], dumps[1]);
    assert_eq!(dumps[0].lines().count(), 11, "{}", dumps[0]);
    let twice = ["dump", "--match=h_sum", "--match={__name__=~\"h_.*\",le=\"\"}", &dirs[0]];
    let expected = "{__name__=\"h_count\"} 4 1435781430000\n{__name__=\"h_sum\"} 2 1435781430000\n";
    assert_eq!(stdout(&binary(), &twice), expected);
}

/// Three observations in two buckets and the zero bucket.
fn histogram() -> Histogram {
    Histogram {
        zero_threshold: 0.001,
        zero_count: 1,
        count: 7,
        sum: -2.5,
        positive_spans: vec![Span { offset: 0, length: 2 }],
        positive_deltas: vec![1, 1],
        negative_spans: vec![Span { offset: 1, length: 1 }],
        negative_deltas: vec![3],
        ..Histogram::default()
    }
}

/// What is in the log and not in blocks yet, as both kinds of histogram and as floats.
#[test]
fn the_log_is_dumped_as_by_promtool() {
    let Some(promtool) = program("promtool", "PROMTOOL") else { return };
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::new();
    let disk = Arc::new(OsDisk);
    let options = Options { head_snapshots: false, ..Options::default() };
    let store = Db::open(folder.path(), disk, Arc::new(SystemClock), options, &registry).unwrap();
    let mut batch = Batch::new();
    let labels = |name| Labels::from_pairs([("__name__", name), ("a", "1")]).unwrap();
    let (integer, float) = (batch.introduce(labels("i")), batch.introduce(labels("f")));
    for t in 1..=3 {
        batch.push_new(labels("plain"), t, 0.5);
        batch.push_histogram(integer, t, histogram());
        batch.push_histogram(float, t, histogram().to_float());
    }
    assert!(store.append(&batch).unwrap().rejected.is_empty());
    store.close().unwrap();
    drop(store);
    let dir = folder.path().display().to_string();
    let dump = stdout(&binary(), &["dump", &dir]);
    let printed = "{count:7, sum:-2.5, [-2,-1):3, [-0.001,0.001]:1, (0.5,1]:1, (1,2]:2}";
    for name in ["f", "i"] {
        for t in 1..=3 {
            let line = format!("{{__name__=\"{name}\", a=\"1\"}} {printed} {t}\n");
            assert!(dump.contains(&line), "{line} is missing in {dump}");
        }
    }
    // This promtool passes over histograms.
    let floats: Vec<&str> = dump.lines().filter(|line| !line.contains(printed)).collect();
    assert_eq!(floats, stdout(&promtool, &["dump", &dir]).lines().collect::<Vec<_>>());
    assert_eq!(floats.len(), 3, "{dump}");
}

/// The sections of an analysis. Equal counts come in any order from promtool, so lines are sorted.
fn sections(analysis: &str) -> Vec<Vec<&str>> {
    analysis.trim_end().split("\n\n").map(section).collect()
}

/// A heading and the lines below it.
fn section(text: &str) -> Vec<&str> {
    // "Total Series" is how newer versions say it.
    let lines = text.trim_start().lines();
    let mut lines: Vec<&str> =
        lines.map(|line| line.strip_prefix("Total ").unwrap_or(line)).collect();
    lines[1..].sort_unstable();
    lines
}

#[test]
fn blocks_are_analyzed_as_by_promtool() {
    let Some(promtool) = program("promtool", "PROMTOOL") else { return };
    let folder = tempfile::tempdir().unwrap();
    for dir in blocks_of_both(folder.path(), &promtool) {
        let listed = stdout(&promtool, &["list", &dir]);
        let blocks: Vec<&str> =
            listed.lines().skip(1).filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(blocks.len(), 3, "{listed}");
        for block in blocks {
            let ours = stdout(&binary(), &["analyze", &dir, block]);
            let theirs = stdout(&promtool, &["analyze", &dir, block]);
            assert_eq!(sections(&ours), sections(&theirs), "{block} of {dir}");
        }
        let newest = stdout(&binary(), &["analyze", &dir]);
        assert_eq!(sections(&newest), sections(&stdout(&promtool, &["analyze", &dir])));
    }
}

#[test]
fn damage_is_found_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let (file, data) = (folder.path().join("in.om"), folder.path().join("data"));
    std::fs::write(&file, TEXT).unwrap();
    let data_text = data.display().to_string();
    stdout(&binary(), &["import", "-q", &file.display().to_string(), &data_text]);
    let whole = run(&binary(), &["verify", &data_text]);
    assert_eq!((whole.status.code(), whole.stdout.len()), (Some(0), 0));

    let mut blocks: Vec<_> = std::fs::read_dir(&data).unwrap().map(|e| e.unwrap().path()).collect();
    blocks.sort();
    let chunks = blocks[0].join("chunks/000001");
    let mut bytes = std::fs::read(&chunks).unwrap();
    bytes[12] ^= 0x10;
    std::fs::write(&chunks, bytes).unwrap();
    let damaged = run(&binary(), &["verify", &data_text]);
    assert_eq!(damaged.status.code(), Some(1));
    let findings = String::from_utf8(damaged.stdout).unwrap();
    let line = format!("{}:8: checksum mismatch in chunk\n", chunks.display());
    assert!(findings.contains(&line), "{findings}");
}

#[test]
fn nothing_is_imported_from_a_text_that_is_not_whole() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    for (text, words) in [
        (TEXT.trim_end_matches("# EOF\n"), "text does not end with # EOF"),
        ("m 1 1435781430\nm 1\n# EOF\n", "expected timestamp for series m, got none"),
        ("m 1 1435781430\nm{a=\"1\",a=\"2\"} 1 1\n# EOF\n", "series m{a=\"1\",a=\"2\"}"),
        ("m 1 x\n# EOF\n", "line 1, byte 4: expected a timestamp or the end of the line"),
    ] {
        let file = folder.path().join("in.om");
        std::fs::write(&file, text).unwrap();
        let (file, data_text) = (file.display().to_string(), data.display().to_string());
        let failed = run(&binary(), &["import", &file, &data_text]);
        assert_eq!(failed.status.code(), Some(1), "{text}");
        let stderr = String::from_utf8(failed.stderr).unwrap();
        assert!(stderr.contains(words), "{text}: {stderr}");
        assert!(!data.exists(), "{text}");
    }
}
