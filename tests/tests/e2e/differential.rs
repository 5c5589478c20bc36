//! Queries drawn from a grammar, asked of ours and of a Prometheus on the same blocks.
//!
//! `SEXTANT_SEED` and `SEXTANT_QUERIES` choose other data and queries, and how many. A `$PROMETHEUS` of version 3.14 must answer
//! the same to the last bit, remarks included, wherever it gives the same answer twice: in range queries, operations and functions of vectors hand their
//! series on in the order of one of Go's maps, which is another each time, so that which of equals `topk` picks and how a sum is rounded is left to chance.
//! Where the answers differ, it is asked again, and what it does not agree with itself on is counted as known.
//!
//! Of an earlier version 3 (the test was run with 3.5.3), words of remarks are not compared, nor are functions that it does not have, pairs that a comparison drops (see
//! `is_earlier_complaint`), series that relabelling makes equal, and sums, averages and rates of native histograms over time, which 3.14 compensates and ends at zero, and `histogram_count` and the like
//! of mixed ones. With Debian's 2.42, answers are the
//! same where it and 3 agree; what is left out, and why:
//!
//! | left out | reason |
//! |---|---|
//! | samples and steps of subqueries on the left edge of a window or of the lookback | 2.42 counts them, 3 does not: none is there |
//! | `sum`, `avg`, `stddev`, `stdvar`, `avg_over_time` within other operations | 3 compensates sums (Kahan) or adds in another order: drawn outermost, and compared within 1e-9; sums of whole numbers are exact in either, so drawn anywhere |
//! | `rate`, `increase` of gauges and subqueries, and of counters that come back after a gap near zero | 3 extrapolates differently when zero is between half an interval and an interval away |
//! | `topk`, `bottomk` with ties and NaN | their heaps keep another of the equals |
//! | vectors with names beside `atan2` | 2.42 keeps the name |
//! | `@` on ranges of `predict_linear` and `quantile_over_time` | 2.42 evaluates the fixed range at the first step alone and moves it afterwards |
//! | `count_values by (l)` into a label that sorts before `l` | 2.42 mixes groups up from the second step on |
//! | pairs that a comparison drops, when a second pair of that match follows | 3 complains, 2.42 does not: counted, see `is_earlier_complaint` |
//! | order of series where the head alone is asked | 2.42 sorts by labels, 3 has them as created: created in that order |
//! | words of parse errors; warnings and infos | other words; 2.42 has none |
//! | native histograms | quantiles are computed otherwise; see `histograms.rs` |
//! | [`NOT_IN_2_42`], and all that is experimental in 3 | not there |

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use model::{Appender, Batch, Histogram, Labels, SystemClock};
use parking_lot::Mutex;
use promql::ast::{AggregateOp, Expr};
use promql::parse::functions;
use promql::{ParseOptions, parse};
use serde_json::Value;
use tests::conformance::{note, optional_program, program};
use tests::faults::copy_dir;
use tests::grammar::{
    Choices, Dialect, Grammar, Query, START, STEP_MS, Seeded, native_series, series,
};
use tests::harness::{Answer, Sextant, get, post_form};
use tsdb::{Db, Options, OsDisk};

use super::peers::Prometheus;

/// Steps of the data: almost four hours, of which two become a block.
const STEPS: u32 = 900;
const SECONDS: i64 = STEPS as i64 * STEP_MS / 1_000;
/// The seed that is used before every change, and how many queries.
const SEED: u64 = 20_231_115;
const QUERIES: u64 = 4_000;
/// Queries at a time.
const THREADS: usize = 4;
/// Stable functions of version 3 that 2.42 does not have.
const NOT_IN_2_42: [&str; 4] =
    ["first_over_time", "histogram_avg", "histogram_stddev", "histogram_stdvar"];
/// Functions that only have something to say about native histograms, of which the data have none.
const OF_NATIVE_HISTOGRAMS: &str = "histogram_";
/// How far values may be apart that are computed in another order: of their size, or of 1.
const TOLERANCE: f64 = 1e-9;
/// Differences that are printed.
const SHOWN_MAX: usize = 12;

fn number(variable: &str, or: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")),
        Err(_) => or,
    }
}

fn write_data(folder: &Path, seed: u64, jitter: bool) {
    let registry = telemetry::Registry::new();
    let (disk, clock) = (Arc::new(OsDisk), Arc::new(SystemClock));
    let db = Db::open(folder, disk, clock, Options::default(), &registry).unwrap();
    let floats = series(seed, STEPS, jitter);
    // Debian's version computes otherwise with native histograms.
    let natives = if jitter { Vec::new() } else { native_series(seed, STEPS, jitter) };
    let mut samples: Vec<(i64, &Labels, Result<f64, &Histogram>)> = Vec::new();
    for series in &floats {
        samples.extend(series.samples.iter().map(|(t, v)| (*t, &series.labels, Ok(*v))));
    }
    for series in &natives {
        samples.extend(series.samples.iter().map(|(t, h)| (*t, &series.labels, Err(h))));
    }
    samples.sort_by_key(|(t, ..)| *t);
    // Where the head alone is asked, 3 goes through series as they were created, 2.42 by their labels.
    let mut labels: Vec<_> = samples.iter().map(|(_, labels, _)| *labels).collect();
    labels.sort();
    labels.dedup();
    let mut batch = Batch::new();
    for labels in &labels {
        batch.introduce((*labels).clone());
    }
    assert_eq!(db.append(&batch).unwrap().series_created, floats.len() + natives.len());
    for scrape in samples.chunks(100) {
        let mut batch = Batch::new();
        for (t, labels, value) in scrape {
            match value {
                Ok(v) => {
                    batch.push_new((*labels).clone(), *t, *v);
                }
                Err(histogram) => {
                    let series = batch.introduce((*labels).clone());
                    batch.push_histogram(series, *t, (*histogram).clone());
                }
            }
        }
        let appended = db.append(&batch).unwrap();
        assert_eq!((appended.rejected, appended.rejected_histograms), (vec![], vec![]));
    }
    assert!(db.maintain().unwrap().blocks_cut > 0);
    db.close().unwrap();
}

/// A query with the times it is asked at.
#[derive(Clone, Debug)]
struct Question {
    number: u64,
    query: Query,
    /// Milliseconds: the time, or the first, the last and the step.
    times: Times,
}

#[derive(Clone, Copy, Debug)]
enum Times {
    Instant(i64),
    Range { start: i64, end: i64, step: i64 },
}

impl Question {
    fn draw(seed: u64, number: u64, dialect: Dialect) -> Self {
        let mut choices = Seeded::numbered(seed, number);
        let mut below = |count: usize| i64::try_from(choices.below(count)).unwrap();
        let half = if dialect == Dialect::Common { 500 } else { 0 };
        // From before the data to after their end.
        let start = START - 300_000 + below(usize::try_from(SECONDS).unwrap() + 900) * 1_000 + half;
        let times = if below(2) == 0 {
            Times::Instant(start)
        } else {
            let steps = [15, 30, 60, 97, 420, 3_600];
            let step = 1_000 * steps[usize::try_from(below(steps.len())).unwrap()];
            Times::Range { start, end: start + step * below(40), step }
        };
        let query = Grammar::new(dialect, &mut choices).query();
        Self { number, query, times }
    }

    fn ask(&self, port: u16, text: &str) -> Answer {
        let seconds = |ms: i64| format!("{}.{:03}", ms / 1_000, ms % 1_000);
        let (path, times) = match self.times {
            Times::Instant(t) => ("/api/v1/query", vec![("time", seconds(t))]),
            Times::Range { start, end, step } => {
                let fields = [("start", start), ("end", end), ("step", step)];
                ("/api/v1/query_range", fields.map(|(name, ms)| (name, seconds(ms))).to_vec())
            }
        };
        let mut fields = vec![("query", text)];
        fields.extend(times.iter().map(|(name, value)| (*name, value.as_str())));
        post_form(port, path, &fields).unwrap_or_else(|error| panic!("{text}: {error}"))
    }
}

/// What an answer says, made comparable.
#[derive(Clone, Debug)]
enum Said {
    Error {
        kind: String,
        text: String,
    },
    Samples {
        kind: String,
        series: BTreeMap<String, Vec<Point>>,
        order: Vec<Point>,
        notes: Vec<String>,
    },
    Text(String),
}

/// A sample: its time, and its value or the JSON of its histogram.
#[derive(Clone, Debug)]
struct Point {
    t: Value,
    v: Result<f64, String>,
}

impl Point {
    fn new(pair: &Value) -> Self {
        let v = match &pair[1] {
            Value::String(text) => Ok(text.parse().unwrap_or_else(|_| panic!("{text}"))),
            other => Err(other.to_string()),
        };
        Self { t: pair[0].clone(), v }
    }

    fn is_like(&self, other: &Self, tolerance: f64) -> bool {
        let same_value = match (&self.v, &other.v) {
            (Ok(a), Ok(b)) => {
                let size = a.abs().max(b.abs()).max(1.0);
                a.to_bits() == b.to_bits()
                    || a.is_nan() && b.is_nan()
                    || (a - b).abs() <= tolerance * size
            }
            (a, b) => a == b,
        };
        self.t == other.t && same_value
    }
}

fn said(answer: &Answer) -> Said {
    let json = answer.json();
    let text = |value: &Value| String::from(value.as_str().unwrap_or_default());
    if json["status"] != "success" {
        return Said::Error { kind: text(&json["errorType"]), text: text(&json["error"]) };
    }
    let (kind, result) = (text(&json["data"]["resultType"]), &json["data"]["result"]);
    let notes =
        ["warnings", "infos"].map(|field| json[field].as_array().cloned().unwrap_or_default());
    let mut notes: Vec<_> = notes.iter().flatten().map(text).collect();
    notes.sort_unstable();
    match kind.as_str() {
        "string" => return Said::Text(result.to_string()),
        "scalar" => {
            let series = BTreeMap::from([(String::new(), vec![Point::new(result)])]);
            return Said::Samples { kind, series, order: Vec::new(), notes };
        }
        _ => {}
    }
    let (mut series, mut order) = (BTreeMap::new(), Vec::new());
    for one in result.as_array().unwrap_or_else(|| panic!("{json}")) {
        let mut points = Vec::new();
        for field in ["value", "histogram"] {
            points.extend(one.get(field).map(Point::new));
        }
        for field in ["values", "histograms"] {
            points.extend(
                one.get(field).and_then(Value::as_array).into_iter().flatten().map(Point::new),
            );
        }
        order.extend(points.first().cloned());
        let labels: BTreeMap<String, Value> =
            serde_json::from_value(one["metric"].clone()).unwrap();
        let labels = serde_json::to_string(&labels).unwrap();
        assert!(series.insert(labels, points).is_none(), "twice the same labels: {json}");
    }
    Said::Samples { kind, series, order, notes }
}

/// Whether the values of an instant query have an order.
fn is_ordered(text: &str) -> bool {
    ["sort", "topk", "bottomk"].iter().any(|name| text.starts_with(name))
}

/// How ours differs from theirs, if it does.
fn difference(
    version: Version,
    question: &Question,
    text: &str,
    ours: &Said,
    theirs: &Said,
) -> Option<String> {
    let tolerance = if question.query.is_inexact { TOLERANCE } else { 0.0 };
    match (ours, theirs) {
        (Said::Error { kind: a, text: x }, Said::Error { kind: b, text: y }) => {
            // The words of parsers changed from version to version.
            let other_words = version < OURS && a == "bad_data";
            let same = a == b && (other_words || is_same_error(question, text, x, y));
            (!same).then(|| format!("{a}: {x}\n  not {b}: {y}"))
        }
        (Said::Text(a), Said::Text(b)) if a == b => None,
        (
            Said::Samples { kind: a, series: x, order, notes },
            Said::Samples { kind: b, series: y, order: their_order, notes: their_notes },
        ) => {
            if a != b {
                return Some(format!("{a}, not {b}"));
            }
            if version >= OURS && notes != their_notes {
                return Some(format!("noted {notes:?}, not {their_notes:?}"));
            }
            for labels in x.keys().chain(y.keys()) {
                let (Some(a), Some(b)) = (x.get(labels), y.get(labels)) else {
                    let who = if x.contains_key(labels) { "ours" } else { "theirs" };
                    return Some(format!(
                        "only {who} has {labels} ({} and {} series)",
                        x.len(),
                        y.len()
                    ));
                };
                if let Some(at) = (0..a.len().max(b.len())).find(|&at| {
                    !matches!((a.get(at), b.get(at)), (Some(a), Some(b)) if a.is_like(b, tolerance))
                }) {
                    return Some(format!("{labels}: {:?}, not {:?}", a.get(at), b.get(at)));
                }
            }
            let instant = matches!(question.times, Times::Instant(_));
            let ordered = order.iter().zip(their_order).all(|(a, b)| a.is_like(b, tolerance));
            (instant && is_ordered(text) && !ordered)
                .then(|| format!("order {order:?}\n  not {their_order:?}"))
        }
        (ours, theirs) => Some(format!("{}\n  not {}", brief(ours), brief(theirs))),
    }
}

/// Whether two texts tell of the same failure of an evaluation.
fn is_same_error(question: &Question, query: &str, ours: &str, theirs: &str) -> bool {
    let duplicates = |text: &str| text.starts_with("found duplicate series for the match group ");
    // Go's maps give series in another order each time: evaluations over several steps use them, and quantiles of buckets. The error names
    // those that it came across first.
    let many_steps = matches!(question.times, Times::Range { .. }) || query.contains(':');
    let at_random = many_steps || query.contains("histogram_quantile");
    if duplicates(ours) && duplicates(theirs) && at_random {
        return true;
    }
    // Of several failures, Prometheus tells of the first step's.
    let matches = |text: &str| text.starts_with("multiple matches for labels: ");
    if many_steps && duplicates(ours) && matches(theirs) {
        return true;
    }
    // Ours looks at patterns before it evaluates anything.
    ours.starts_with("invalid regular expression in label_replace()")
        || in_order(ours) == in_order(theirs)
}

/// Whether ours complains, as version 3.14 does, of two matches one of which a comparison then drops; earlier ones drop it first.
fn is_earlier_complaint(version: Version, text: &str, ours: &Said) -> bool {
    let compares =
        [" == ", " != ", " < ", " <= ", " > ", " >= "].iter().any(|op| text.contains(op));
    let complains = matches!(ours, Said::Error { text, .. } if text.starts_with("multiple matches for labels: "));
    version < OURS && compares && complains
}

/// Whether the query asks for what only a later version 3 has, or computes otherwise.
fn is_later(version: Version, text: &str, theirs: &Said) -> bool {
    let unknown = matches!(theirs, Said::Error { text, .. } if text.contains("unknown function"));
    // Its histograms that have but count and sum have no schema either.
    let computes = ["rate", "increase", "sum_over_time", "avg_over_time", "histogram_"];
    let otherwise = text.contains("native") && computes.iter().any(|name| text.contains(name));
    // 3.14 merges series that a new label makes equal, if they have no sample in common.
    let unmerged = matches!(theirs, Said::Error { text, .. } if text.contains("the same labelset"));
    let relabels = ["label_replace", "label_join"].iter().any(|name| text.contains(name));
    version < OURS && (unknown || otherwise || unmerged && relabels)
}

/// The text of an error with the two series that it names in order, as version 3 has them.
fn in_order(text: &str) -> String {
    let parts = text.split_once(" of the operation: [").zip(text.split_once("];"));
    let named = parts.and_then(|((head, _), (_, tail))| {
        let pair = &text[head.len()..text.len() - tail.len()];
        let (first, second) = pair
            .trim_start_matches(" of the operation: [")
            .trim_end_matches("];")
            .split_once("}, {")?;
        let mut pair = [first.trim_start_matches('{'), second.trim_end_matches('}')];
        pair.sort_unstable();
        Some(format!("{head}: {} and {}: {tail}", pair[0], pair[1]))
    });
    named.unwrap_or_else(|| String::from(text))
}

fn brief(said: &Said) -> String {
    let text = format!("{said:?}");
    String::from(&text[..text.floor_char_boundary(300)])
}

/// Major and minor version of a Prometheus.
type Version = (u32, u32);

/// The version whose answers ours are meant to be.
const OURS: Version = (3, 14);

/// How often a Prometheus is asked again before its answer is taken for the only one.
const ASKED_AGAIN: usize = 12;

/// The version of the Prometheus at `port`.
fn version_at(port: u16) -> Version {
    let answer = get(port, "/api/v1/status/buildinfo").unwrap();
    let info: Value = serde_json::from_str(&answer.body).unwrap();
    let version = info["data"]["version"].as_str().unwrap();
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap(), parts.next().unwrap())
}

/// The two who are asked.
struct Pair {
    ours: Sextant,
    theirs: Prometheus,
    version: Version,
    /// Differences that are known.
    known: AtomicUsize,
}

impl Pair {
    fn difference(&self, question: &Question, text: &str) -> (Option<String>, Said) {
        let ours = said(&question.ask(self.ours.port, text));
        let theirs = said(&question.ask(self.theirs.port, text));
        let mut difference = difference(self.version, question, text, &ours, &theirs);
        if difference.is_some() && self.is_known(question, text, &ours, &theirs) {
            self.known.fetch_add(1, Ordering::Relaxed);
            difference = None;
        }
        (difference, theirs)
    }

    fn is_known(&self, question: &Question, text: &str, ours: &Said, theirs: &Said) -> bool {
        is_earlier_complaint(self.version, text, ours)
            || self.version >= (3, 0)
                && (is_later(self.version, text, theirs)
                    || self.is_undecided(question, text, theirs))
    }

    /// Whether the peer gives other answers when it is asked again.
    fn is_undecided(&self, question: &Question, text: &str, first: &Said) -> bool {
        (0..ASKED_AGAIN).any(|_| {
            let again = said(&question.ask(self.theirs.port, text));
            difference(self.version, question, text, first, &again).is_some()
        })
    }

    /// The smallest part of the query that is answered differently, if a part is.
    fn smallest(&self, question: &Question) -> Option<(String, String)> {
        let whole = &question.query.text;
        let tree = parse(whole, &ParseOptions::all()).ok()?;
        let mut parts: Vec<&str> = tree
            .descendants()
            .filter_map(|part| whole.get(part.span().start..part.span().end))
            .collect();
        parts.sort_by_key(|part| part.len());
        parts.into_iter().find_map(|part| {
            let (difference, _) = self.difference(question, part);
            Some((String::from(part), difference?))
        })
    }
}

/// What came of the comparison.
#[derive(Debug, Default)]
struct Tally {
    with_samples: AtomicUsize,
    empty: AtomicUsize,
    errors: AtomicUsize,
    differences: Mutex<Vec<String>>,
    /// Functions and aggregations of queries whose answers have samples.
    seen: Mutex<BTreeSet<&'static str>>,
}

fn compare(prometheus: &Path, dialect: Dialect) {
    let (seed, queries) = (number("SEXTANT_SEED", SEED), number("SEXTANT_QUERIES", QUERIES));
    note(&format!("differential: SEXTANT_SEED={seed} SEXTANT_QUERIES={queries} ({dialect:?})"));
    let folder = tempfile::tempdir().unwrap();
    write_data(&folder.path().join("data"), seed, dialect == Dialect::Common);
    copy_dir(&folder.path().join("data"), &folder.path().join("copy"));
    let ours = Sextant::server(folder.path(), "scrape_configs: []\n");
    let theirs = Prometheus::start(prometheus, folder.path());
    let version = version_at(theirs.port);
    note(&format!("differential: the peer is a Prometheus {}.{}", version.0, version.1));
    let pair = Pair { ours, theirs, version, known: AtomicUsize::new(0) };
    let (next, tally) = (AtomicUsize::new(0), Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed) as u64;
                    if number >= queries {
                        break;
                    }
                    ask_both(&pair, &Question::draw(seed, number, dialect), &tally);
                }
            });
        }
    });
    let Tally { with_samples, empty, errors, differences, seen } = tally;
    let counts = [with_samples, empty, errors].map(AtomicUsize::into_inner);
    let differences = differences.into_inner();
    note(&format!(
        "differential: {} answers with samples, {} empty, {} errors; {} differ as known, {} otherwise",
        counts[0],
        counts[1],
        counts[2],
        pair.known.load(Ordering::Relaxed),
        differences.len()
    ));
    for difference in differences.iter().take(SHOWN_MAX) {
        note(difference);
    }
    assert!(differences.is_empty(), "{} differences with seed {seed}", differences.len());
    let known = pair.known.load(Ordering::Relaxed) as u64;
    // What a version does not have yet is a part of its queries.
    let known_max = if dialect == Dialect::Version3 && version < OURS { 5 } else { 1 };
    assert!(known * 100 <= queries * known_max, "{known} differences that are known are too many");
    assert!(counts[0] as u64 * 3 > queries, "too few of the answers have samples");
    let seen = seen.into_inner();
    let missing: Vec<_> = wanted(version).filter(|name| !seen.contains(name)).collect();
    assert!(queries < QUERIES || missing.is_empty(), "no answer to a query with {missing:?}");
}

/// The functions and aggregations that are to occur in queries with samples for an answer.
fn wanted(version: Version) -> impl Iterator<Item = &'static str> {
    let functions = functions().iter().filter(|function| !function.experimental);
    functions
        .map(|function| function.name)
        .filter(move |name| version >= OURS || !NOT_IN_2_42.contains(name))
        .filter(|name| *name == "histogram_quantile" || !name.starts_with(OF_NATIVE_HISTOGRAMS))
        .chain(
            AggregateOp::ALL
                .map(|(_, name)| name)
                .into_iter()
                .filter(|name| !name.starts_with("limit")),
        )
}

/// The functions and aggregations of a query.
fn operations(text: &str) -> Vec<&'static str> {
    let Ok(tree) = parse(text, &ParseOptions::all()) else { return Vec::new() };
    let name = |part: &Expr| match part {
        Expr::Call(call) => Some(call.function.name),
        Expr::Aggregate(aggregate) => Some(aggregate.op.as_str()),
        _ => None,
    };
    tree.descendants().filter_map(name).collect()
}

fn ask_both(pair: &Pair, question: &Question, tally: &Tally) {
    let (difference, theirs) = pair.difference(question, &question.query.text);
    let count = match &theirs {
        Said::Error { .. } => &tally.errors,
        Said::Samples { series, .. } if series.is_empty() => &tally.empty,
        _ => {
            tally.seen.lock().extend(operations(&question.query.text));
            &tally.with_samples
        }
    };
    count.fetch_add(1, Ordering::Relaxed);
    if let Some(difference) = difference {
        let Question { number, query, times } = question;
        let mut text = format!("number {number}, {times:?}: {}\n  {difference}", query.text);
        if let Some((part, difference)) = pair.smallest(question) {
            text += &format!("\n smallest part: {part}:\n  {difference}");
        }
        tally.differences.lock().push(text);
    }
}

#[test]
fn drawn_queries_are_answered_as_debian_s_prometheus_answers_them() {
    let Some(prometheus) = program("prometheus", "PROMETHEUS_DEBIAN") else { return };
    compare(&prometheus, Dialect::Common);
}

#[test]
fn drawn_queries_are_answered_as_a_given_prometheus_3_answers_them() {
    // Not required: no package has one.
    let Some(prometheus) = optional_program("PROMETHEUS") else { return };
    compare(&prometheus, Dialect::Version3);
}
