//! Scrapes of one target, one after the other: what is stored, and that the cache changes nothing but the speed.

use std::collections::HashSet;
use std::sync::Arc;

use config::Limits;
use model::{Labels, is_stale};
use proptest::prelude::*;
use telemetry::Registry;

use super::*;
use crate::testing::Store;

/// A target whose scrapes are given.
struct Bench {
    store: Arc<Store>,
    metrics: Metrics,
    status: TargetStatus,
    intake: Intake,
    rules: SampleRules,
    scratch: Scratch,
    t: Timestamp,
}

impl Bench {
    fn new() -> Self {
        let metrics = Metrics::new(&Registry::new());
        Self {
            store: Store::new(),
            status: TargetStatus::new(Metadata::new(Arc::default(), metrics.metadata_of("j"))),
            metrics,
            intake: Intake::default(),
            rules: SampleRules {
                labels: Labels::from_pairs([("job", "j")]).unwrap(),
                honor_labels: false,
                honor_timestamps: true,
                track_timestamps_staleness: false,
                type_labels: false,
                limits: Limits::default(),
            },
            scratch: Scratch::default(),
            t: 0,
        }
    }

    fn store(&mut self, body: &str, failure: Option<ScrapeError>) -> Option<String> {
        self.t += 1000;
        let scrape = Scrape {
            url: "http://a/metrics",
            t: self.t,
            started: Instant::now(),
            body: body.as_bytes(),
            failure,
            rules: &self.rules,
            extra_timeout: None,
        };
        let sink = Sink { appender: &*self.store, metrics: &self.metrics };
        self.intake.store(scrape, &self.status, sink, &mut self.scratch);
        let error = self.status.last.lock().error.clone();
        Some(error).filter(|error| !error.is_empty())
    }

    /// Scrapes `body` a second after the last scrape and expects these samples, without job.
    fn check(&mut self, body: &str, expected: &[&str]) {
        assert_eq!(self.store(body, None), None, "{body}");
        self.expect(expected);
    }

    fn check_error(&mut self, body: &str, error: &str, expected: &[&str]) {
        assert_eq!(self.store(body, None).as_deref(), Some(error), "{body}");
        self.expect(expected);
    }

    fn expect(&self, expected: &[&str]) {
        let got = self.store.take_samples();
        let got: Vec<String> = got.iter().map(|s| s.replace(", job=\"j\"", "")).collect();
        assert_eq!(got, expected, "at {}", self.t);
    }

    /// The reports of the last scrape but the duration.
    fn reports(&self) -> Vec<(String, f64)> {
        let taken = self.store.take().into_iter();
        let reports = taken.map(|(labels, _, v)| (String::from(labels.metric_name()), v));
        reports
            .filter(|(name, _)| name == "up" || name.starts_with("scrape_"))
            .filter(|(name, _)| name != "scrape_duration_seconds")
            .collect()
    }
}

fn check_reports(bench: &Bench, up: f64, scraped: f64, kept: f64, added: f64) {
    let expected = [
        ("scrape_samples_post_metric_relabeling", kept),
        ("scrape_samples_scraped", scraped),
        ("scrape_series_added", added),
        ("up", up),
    ];
    let expected: Vec<_> = expected.map(|(name, v)| (String::from(name), v)).into();
    assert_eq!(bench.reports(), expected);
}

#[test]
fn values_of_known_series_are_read() {
    let mut bench = Bench::new();
    let body = |a, b| {
        format!("# HELP a Help.\n# TYPE a counter\na{{x=\"1\"}} {a}\n# note\na{{x=\"2\"}} {b}\n")
    };
    for (t, a, b) in [(1000, 1, 2), (2000, 3, 2), (3000, 3, 5)] {
        let expected = [
            format!(r#"{{__name__="a", x="1"}} {a} @{t}"#),
            format!(r#"{{__name__="a", x="2"}} {b} @{t}"#),
        ];
        bench.check(&body(a, b), &[&expected[0], &expected[1]]);
    }
    let metadata = bench.status.metadata.list();
    assert_eq!((&*metadata[0].metric, &*metadata[0].help), ("a", "Help."));
    assert_eq!(metadata[0].kind, exposition::MetricKind::Counter);
}

#[test]
fn scrapes_report_on_themselves() {
    let mut bench = Bench::new();
    bench.store("a 1\nb 2\nb 3\n", None);
    check_reports(&bench, 1.0, 3.0, 3.0, 2.0);
    assert_eq!(bench.metrics.sample_duplicate_timestamp.get(), 1);
    bench.store("a 1\nb 2\nb 3\n", None);
    check_reports(&bench, 1.0, 3.0, 3.0, 0.0);
    assert_eq!(bench.metrics.sample_duplicate_timestamp.get(), 2);
    bench.store("a 1\nb 2\n?\n", None);
    check_reports(&bench, 0.0, 2.0, 2.0, 0.0);
    bench.store("", Some(ScrapeError::BlankContentType));
    check_reports(&bench, 0.0, 0.0, 0.0, 0.0);
    bench.store("", None);
    check_reports(&bench, 1.0, 0.0, 0.0, 0.0);
}

#[test]
fn series_that_vanish_or_move_are_noticed() {
    let mut bench = Bench::new();
    bench.check(
        "a 1\nb 1\nc 1\n",
        &[r#"{__name__="a"} 1 @1000"#, r#"{__name__="b"} 1 @1000"#, r#"{__name__="c"} 1 @1000"#],
    );
    bench.check(
        "a 2\nc 2\n",
        &[
            r#"{__name__="a"} 2 @2000"#,
            r#"{__name__="b"} stale @2000"#,
            r#"{__name__="c"} 2 @2000"#,
        ],
    );
    // b is back in another place, d is new, the others swapped.
    bench.check(
        "c 3\nd 3\na 3\nb 3\n",
        &[
            r#"{__name__="a"} 3 @3000"#,
            r#"{__name__="b"} 3 @3000"#,
            r#"{__name__="c"} 3 @3000"#,
            r#"{__name__="d"} 3 @3000"#,
        ],
    );
    bench.check(
        "c 4\n",
        &[
            r#"{__name__="a"} stale @4000"#,
            r#"{__name__="b"} stale @4000"#,
            r#"{__name__="c"} 4 @4000"#,
            r#"{__name__="d"} stale @4000"#,
        ],
    );
    bench.check("", &[r#"{__name__="c"} stale @5000"#]);
    bench.check("", &[]);
}

#[test]
fn a_series_written_differently_is_not_stale() {
    let mut bench = Bench::new();
    bench.check(r#"a{x="1",y="2"} 1"#, &[r#"{__name__="a", x="1", y="2"} 1 @1000"#]);
    bench.check(r#"a{y="2",x="1"} 2"#, &[r#"{__name__="a", x="1", y="2"} 2 @2000"#]);
    bench.check(r#"a{y="2",x="1"} 3"#, &[r#"{__name__="a", x="1", y="2"} 3 @3000"#]);
    bench.check("", &[r#"{__name__="a", x="1", y="2"} stale @4000"#]);
}

#[test]
fn a_failed_scrape_ends_all_series_once() {
    let mut bench = Bench::new();
    bench.check("a 1\nb 1\n", &[r#"{__name__="a"} 1 @1000"#, r#"{__name__="b"} 1 @1000"#]);
    bench.check_error(
        "a 2\nc 2\nb x\n",
        "line 3, byte 10: not a number, near \"b x\"",
        &[r#"{__name__="a"} stale @2000"#, r#"{__name__="b"} stale @2000"#],
    );
    assert!(bench.store("", Some(ScrapeError::BlankContentType)).is_some());
    bench.expect(&[]);
    bench.check("a 4\nb 4\n", &[r#"{__name__="a"} 4 @4000"#, r#"{__name__="b"} 4 @4000"#]);
}

#[test]
fn series_with_timestamps_end_silently() {
    let mut bench = Bench::new();
    let at = |t| format!("a 1 {t}\nb 1\n");
    bench.check(&at(500), &[r#"{__name__="a"} 1 @500"#, r#"{__name__="b"} 1 @1000"#]);
    bench.check(&at(1500), &[r#"{__name__="a"} 1 @1500"#, r#"{__name__="b"} 1 @2000"#]);
    bench.check("b 1\n", &[r#"{__name__="b"} 1 @3000"#]);
    // A series that gets timestamps is no longer expected at the times of scrapes.
    bench.check("b 1 3500\n", &[r#"{__name__="b"} 1 @3500"#, r#"{__name__="b"} stale @4000"#]);
    bench.check("b 1\n", &[r#"{__name__="b"} 1 @5000"#]);

    let mut bench = Bench::new();
    bench.rules.track_timestamps_staleness = true;
    bench.check("a 1 500\n", &[r#"{__name__="a"} 1 @500"#]);
    bench.check("", &[r#"{__name__="a"} stale @2000"#]);

    let mut bench = Bench::new();
    bench.rules.honor_timestamps = false;
    bench.check("a 1 500\n", &[r#"{__name__="a"} 1 @1000"#]);
    bench.check("", &[r#"{__name__="a"} stale @2000"#]);
}

#[test]
fn several_samples_of_a_series_need_timestamps() {
    let mut bench = Bench::new();
    let body = "a 1 100\na 2 200\nb 1\nb 2\n";
    bench.check(
        body,
        &[r#"{__name__="a"} 1 @100"#, r#"{__name__="a"} 2 @200"#, r#"{__name__="b"} 1 @1000"#],
    );
    bench.check(
        "a 3 300\na 4 400\nb 5\nb 2\n",
        &[r#"{__name__="a"} 3 @300"#, r#"{__name__="a"} 4 @400"#, r#"{__name__="b"} 5 @2000"#],
    );
    assert_eq!(bench.metrics.sample_duplicate_timestamp.get(), 2);
}

#[test]
fn samples_far_ahead_and_out_of_order_are_counted() {
    let mut bench = Bench::new();
    bench.check("a 1 601000\nb 1 601001\n", &[r#"{__name__="a"} 1 @601000"#]);
    assert_eq!(bench.metrics.sample_out_of_bounds.get(), 1);
    bench.check("a 1 600000\nb 1 602000\n", &[r#"{__name__="b"} 1 @602000"#]);
    assert_eq!(bench.metrics.sample_out_of_order.get(), 1);
    bench.check("a 2 601000\nb 1 602000\n", &[]);
    assert_eq!(bench.metrics.sample_duplicate_timestamp.get(), 1);
}

#[test]
fn the_sample_limit_fails_the_whole_scrape() {
    let mut bench = Bench::new();
    bench.rules.limits.samples_max = 2;
    bench.check("a 1\nb 1\n", &[r#"{__name__="a"} 1 @1000"#, r#"{__name__="b"} 1 @1000"#]);
    assert_eq!(bench.store("a 2\nb 2\nc 2\nd 2\n", None).unwrap(), "sample limit exceeded");
    let taken = bench.store.take();
    let value = |name| taken.iter().find(|(labels, ..)| labels.metric_name() == name).unwrap().2;
    assert!(is_stale(value("a")) && is_stale(value("b")));
    assert_eq!((value("up"), value("scrape_samples_scraped")), (0.0, 4.0));
    assert_eq!(value("scrape_samples_post_metric_relabeling"), 4.0);
    assert_eq!(bench.metrics.exceeded_sample_limit.get(), 1);
    // A higher limit is no reason to read known series again.
    bench.rules.limits.samples_max = 3;
    bench.store("a 2\nb 2\nc 2\n", None);
    check_reports(&bench, 1.0, 3.0, 3.0, 1.0);
}

#[test]
fn label_limits_fail_the_whole_scrape() {
    let mut bench = Bench::new();
    bench.rules.limits.labels_max = 2;
    bench.check_error(
        "a 1\nb{x=\"1\"} 1\n",
        "label_limit exceeded (metric: b, number of labels: 3, limit: 2)",
        &[],
    );
    assert_eq!(bench.metrics.exceeded_label_limits.get(), 1);
}

#[test]
fn series_that_the_store_forgot_are_introduced_again() {
    let mut bench = Bench::new();
    bench.check("a 1\nb 1\n", &[r#"{__name__="a"} 1 @1000"#, r#"{__name__="b"} 1 @1000"#]);
    bench.store.forget_refs();
    bench.store("# c\na 2\nb 2\n", None);
    let taken = bench.store.take();
    assert_eq!(taken.len(), 2 + 5, "{taken:?}");
    bench.check("a 3\nb 3\n", &[r#"{__name__="a"} 3 @3000"#, r#"{__name__="b"} 3 @3000"#]);
}

#[test]
fn a_store_that_fails_loses_one_scrape_and_no_marker() {
    let mut bench = Bench::new();
    bench.check("a 1\n", &[r#"{__name__="a"} 1 @1000"#]);
    bench.store.set_unavailable(true);
    bench.check("b 2\n", &[]);
    assert_eq!(bench.metrics.append_failures.get(), 1);
    bench.store.set_unavailable(false);
    bench.check("b 3\n", &[r#"{__name__="a"} stale @3000"#, r#"{__name__="b"} 3 @3000"#]);
    bench.check("b 4\n", &[r#"{__name__="b"} 4 @4000"#]);
}

#[test]
fn series_that_are_not_admitted_are_tried_again() {
    let mut bench = Bench::new();
    bench.store.set_series_max(Some(6));
    bench.store("a 1\nb 1\n", None);
    let stored = bench.store.take();
    assert_eq!(stored.len(), 6);
    assert_eq!(bench.metrics.sample_refused.get(), 0, "the last of the reports was refused");
    bench.store.set_series_max(None);
    bench.store("a 2\nb 2\n", None);
    assert_eq!(bench.store.take().len(), 7);
}

#[test]
fn other_rules_start_afresh() {
    let mut bench = Bench::new();
    bench.store("a{job=\"x\"} 1\n", None);
    bench.store.take();
    bench.rules.honor_labels = true;
    bench.store("a{job=\"x\"} 2\n", None);
    assert_eq!(
        bench.store.take_samples(),
        [
            r#"{__name__="a", exported_job="x", job="j"} stale @2000"#,
            r#"{__name__="a", job="x"} 2 @2000"#,
        ]
    );
}

#[test]
fn the_type_is_a_label_if_that_is_asked_for() {
    let mut bench = Bench::new();
    bench.rules.type_labels = true;
    let counter = "# TYPE a counter\na 1\n";
    let type_of_a =
        |kind: &str, value: &str| format!(r#"{{__name__="a", __type__="{kind}"}} {value}"#);
    bench.check(counter, &[&type_of_a("counter", "1 @1000")]);
    bench.check(counter, &[&type_of_a("counter", "1 @2000")]);
    // Of another type it is another series, though its line is the same.
    bench.check(
        "# TYPE a gauge\na 2\n",
        &[&type_of_a("counter", "stale @3000"), &type_of_a("gauge", "2 @3000")],
    );
    bench.check("# TYPE a gauge\na 3\n", &[&type_of_a("gauge", "3 @4000")]);
    // What the target says in a label counts only where no type is known.
    bench.check(
        "b{__type__=\"x\"} 1\nc 1\n# TYPE d untyped\nd 1\n# TYPE e summary\ne{__type__=\"x\",quantile=\"1\"} 1\n",
        &[
            &type_of_a("gauge", "stale @5000"),
            r#"{__name__="b", __type__="x"} 1 @5000"#,
            r#"{__name__="c"} 1 @5000"#,
            r#"{__name__="d"} 1 @5000"#,
            r#"{__name__="e", __type__="summary", quantile="1.0"} 1 @5000"#,
        ],
    );
}

#[test]
fn a_removed_target_ends_its_reports_too() {
    let mut bench = Bench::new();
    bench.store("a 1\n", None);
    bench.store.take();
    let sink = Sink { appender: &*bench.store, metrics: &bench.metrics };
    bench.intake.store_end(5000, sink, &mut bench.scratch);
    let taken = bench.store.take();
    assert_eq!(taken.len(), 6);
    assert!(taken.iter().all(|(_, t, v)| *t == 5000 && is_stale(*v)));
}

#[test]
fn metadata_follows_the_body() {
    let mut bench = Bench::new();
    let metrics = |bench: &Bench| -> Vec<(String, String)> {
        let list = bench.status.metadata.list().into_iter();
        list.map(|m| (m.metric.to_string(), m.help.to_string())).collect()
    };
    bench.store("# HELP a A.\na 1\n# HELP b B.\nb 1\n", None);
    bench.store("# HELP a A2.\na 1\n# HELP b B.\nb 1\n", None);
    let pair = |a: &str, b: &str| (String::from(a), String::from(b));
    assert_eq!(metrics(&bench), [pair("a", "A2."), pair("b", "B.")]);
    bench.store("# HELP a A2.\na 1\n", None);
    assert_eq!(metrics(&bench), [pair("a", "A2.")]);
    // Said twice, then once.
    bench.store("# HELP a A2.\na 1\n# HELP a A2.\nb 1\n", None);
    bench.store("c 1\n# HELP a A2.\na 1\nb 1\n", None);
    assert_eq!(metrics(&bench), [pair("a", "A2.")]);
}

/// A line of a generated body: a series, and a time if the target gives one.
#[derive(Clone, Debug)]
struct Exposed {
    series: u8,
    time: Option<i64>,
}

/// What Prometheus stores for a sequence of bodies, by sets instead of positions.
#[derive(Default)]
struct Reference {
    tracked: HashSet<u8>,
}

impl Reference {
    fn scrape(&mut self, body: Option<&[Exposed]>, t: Timestamp, store: &Store) {
        let name = |series: u8| {
            Labels::from_pairs([("__name__", format!("m{series}")), ("job", String::from("j"))])
                .unwrap()
        };
        let mut batch = model::Batch::new();
        let (mut seen, mut tracked) = (HashSet::new(), HashSet::new());
        for (i, line) in body.unwrap_or_default().iter().enumerate() {
            let first = seen.insert(line.series);
            if !first && line.time.is_none() {
                continue;
            }
            if first && line.time.is_none() {
                tracked.insert(line.series);
            }
            let time = line.time.map_or(t, |ago| t - ago);
            batch.push_new(name(line.series), time, f64::from(u16::try_from(i).unwrap()));
        }
        for &series in self.tracked.difference(&tracked) {
            batch.push_new(name(series), t, model::stale_marker());
        }
        self.tracked = tracked;
        store.append(&batch).unwrap();
    }
}

fn bodies() -> impl Strategy<Value = Vec<Option<Vec<Exposed>>>> {
    let line = (0..12_u8, proptest::option::weighted(0.1, 0..2000_i64))
        .prop_map(|(series, time)| Exposed { series, time });
    // Mostly sorted and mostly the same, as real bodies are.
    let body = proptest::collection::vec(line, 0..20).prop_flat_map(|mut lines| {
        let shuffled = Just(lines.clone()).prop_shuffle();
        lines.sort_by_key(|line| line.series);
        prop_oneof![3 => Just(lines), 1 => shuffled]
    });
    proptest::collection::vec(proptest::option::weighted(0.9, body), 1..8)
        .prop_flat_map(|bodies| proptest::collection::vec(proptest::sample::select(bodies), 1..12))
}

proptest! {
    #[test]
    fn the_cache_changes_nothing(bodies in bodies()) {
        let mut bench = Bench::new();
        let (expected, mut reference) = (Store::new(), Reference::default());
        for body in bodies {
            match &body {
                None => drop(bench.store("", Some(ScrapeError::BlankContentType))),
                Some(lines) => {
                    let mut text = String::from("# TYPE m0 gauge\n");
                    let t = bench.t + 1000;
                    for (i, line) in lines.iter().enumerate() {
                        let time = line.time.map_or_else(String::new, |ago| format!(" {}", (t - ago).max(0)));
                        text.push_str(&format!("m{} {i}{time}\n", line.series));
                    }
                    prop_assert_eq!(bench.store(&text, None), None);
                }
            }
            // Times before the epoch cannot be written.
            let clamped = body.map(|mut lines| {
                for line in &mut lines {
                    line.time = line.time.map(|ago| ago.min(bench.t));
                }
                lines
            });
            reference.scrape(clamped.as_deref(), bench.t, &expected);
            prop_assert_eq!(bench.store.take_samples(), expected.take_samples());
        }
    }
}
