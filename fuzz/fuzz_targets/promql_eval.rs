//! Queries evaluated over a small store: any text, and queries that the input draws from a grammar. No panic, an answer within bounds; the printed form
//! of a query answers the same, and each step of a range query as an instant query at its time does.

#![no_main]

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use model::{Appender, Batch, Labels, QueryContext};
use promql::{Engine, EngineOptions, ParseOptions, QueryFailure, QueryOptions, Value, parse};
use telemetry::Registry;
use tests::grammar::{Dialect, FromBytes, Grammar, START, STEP_MS, Seeded, native_series, series};
use tests::memory_store::MemoryStore;

/// Steps of the data.
const STEPS: u32 = 60;

/// Series of all kinds, 15 minutes of them.
static DATA: LazyLock<MemoryStore> = LazyLock::new(|| {
    let store = MemoryStore::new();
    let mut batch = Batch::new();
    for series in series(1, STEPS, false) {
        for (t, v) in series.samples {
            batch.push_new(series.labels.clone(), t, v);
        }
    }
    for series in native_series(1, STEPS, false) {
        let key = batch.introduce(series.labels);
        for (t, histogram) in series.samples {
            batch.push_histogram(key, t, histogram);
        }
    }
    let appended = store.append(&batch).expect("memory does not fail");
    assert!(appended.rejected.is_empty() && appended.rejected_histograms.is_empty());
    store
});

static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let options = EngineOptions {
        timeout: Duration::from_secs(5),
        samples_max: 100_000,
        parse: ParseOptions::all(),
        ..EngineOptions::default()
    };
    Engine::new(options, &Registry::new())
});

/// Samples by series, each as bits or the text of a histogram.
type Answer = BTreeMap<String, Vec<(i64, String)>>;

fn bits(v: f64) -> String {
    // Which NaN it is does not matter.
    if v.is_nan() { String::from("NaN") } else { format!("{:x}", v.to_bits()) }
}

fn answer(value: &Value) -> Answer {
    match value {
        Value::Scalar(sample) => {
            // As the only series of a range query.
            BTreeMap::from([(Labels::empty().to_string(), vec![(sample.t, bits(sample.v))])])
        }
        Value::String(t, text) => BTreeMap::from([(String::new(), vec![(*t, text.clone())])]),
        Value::Vector(vector) => {
            let series = vector.iter().map(|one| {
                let v = one.histogram.as_ref();
                let v = v.map_or_else(|| bits(one.sample.v), |histogram| format!("{histogram:?}"));
                (one.labels.to_string(), vec![(one.sample.t, v)])
            });
            series.collect()
        }
        Value::Matrix(matrix) => {
            let series = matrix.iter().map(|one| {
                let row = |row: usize| {
                    let v = one.samples.histogram(row);
                    let v = v.map_or_else(
                        || bits(one.samples.floats()[row]),
                        |histogram| format!("{histogram:?}"),
                    );
                    (one.samples.times()[row], v)
                };
                (one.labels.to_string(), (0..one.samples.len()).map(row).collect())
            });
            series.collect()
        }
    }
}

fn instant(query: &str, t: i64) -> Result<Answer, QueryFailure> {
    let context = QueryContext::unbounded();
    let result = ENGINE.instant(&*DATA, query, t, &QueryOptions::default(), &context)?;
    Ok(answer(&result.value))
}

/// Three steps from `t` on.
fn range(query: &str, t: i64, step: i64) -> Result<Answer, QueryFailure> {
    let context = QueryContext::unbounded();
    let options = QueryOptions { explain: true, per_step_stats: true, ..QueryOptions::default() };
    let between = Duration::from_millis(step.unsigned_abs());
    let result = ENGINE.range(&*DATA, query, t, t + 2 * step, between, &options, &context)?;
    assert!(result.explained.is_some());
    Ok(answer(&result.value))
}

/// Whether the query asks for the bounds or the step of its evaluation, or depends on the order of series, which over several steps is another (in
/// Prometheus that of a map): takes some of several equals, or adds floats up.
fn may_differ_over_time(query: &str) -> bool {
    let names = ["start()", "end()", "step()", "range()", "topk", "bottomk", "limitk"];
    let sums = ["sum", "avg", "stddev", "stdvar"];
    let adds = |name: &str| [" ", "("].iter().any(|next| query.contains(&format!("{name}{next}")));
    names.iter().any(|name| query.contains(name)) || sums.into_iter().any(adds)
}

fn check(query: &str, t: i64, step: i64) {
    let Ok(tree) = parse(query, &ParseOptions::all()) else { return };
    let once = instant(query, t);
    if let Ok(once) = &once {
        let printed = tree.to_string();
        let again = instant(&printed, t).unwrap_or_else(|error| panic!("{printed}: {error}"));
        assert_eq!(*once, again, "{query} as printed: {printed}");
    }
    let Ok(over_time) = range(query, t, step) else { return };
    if may_differ_over_time(query) {
        return;
    }
    for t in [t, t + step, t + 2 * step] {
        let once = instant(query, t).unwrap_or_else(|error| panic!("{query} at {t}: {error}"));
        let mut step = over_time.clone();
        for samples in step.values_mut() {
            samples.retain(|(at, _)| *at == t);
        }
        step.retain(|_, samples| !samples.is_empty());
        assert_eq!(step, once, "{query} at {t}");
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&how, input)) = input.split_first() else { return };
    // From a little before the data to a little after them.
    let t = START + i64::from(how >> 2) * STEP_MS - STEP_MS;
    let step = [1, STEP_MS, 60_000, 400_000][usize::from(how & 3)];
    if input.first().is_some_and(|first| *first >= 0x20) {
        // Text that can be read.
        if let Ok(text) = std::str::from_utf8(input) {
            check(text, t, step);
        }
        return;
    }
    let Some((&first, rest)) = input.split_first() else { return };
    // Choice by choice, all of them from few bytes, or those with changes that may make it no query any more.
    let (seed, changes) = rest.split_at(rest.len().min(4));
    let seed = seed.iter().fold(0, |seed, byte| seed << 8 | u64::from(*byte));
    let text = match first % 3 {
        0 => Grammar::new(Dialect::All, &mut FromBytes::new(rest)).query().text,
        1 => Grammar::new(Dialect::All, &mut Seeded::new(seed)).query().text,
        _ => changed(Grammar::new(Dialect::All, &mut Seeded::new(seed)).query().text, changes),
    };
    check(&text, t, step);
});

/// The text with some of its ASCII characters replaced, left out or doubled.
fn changed(mut text: String, changes: &[u8]) -> String {
    for change in changes.chunks_exact(3) {
        let at = usize::from(change[0]) * text.len() / 256;
        if !text.is_char_boundary(at) || !text.is_char_boundary(at + 1) {
            continue;
        }
        match change[1] % 3 {
            0 => text.replace_range(at..at + 1, ""),
            1 => text.insert(at, char::from(change[2] & 0x7f)),
            _ => text.replace_range(at..at + 1, &char::from(change[2] & 0x7f).to_string()),
        }
    }
    text
}
