//! A store with samples of all kinds, and answers in full.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use model::{Columns, FloatHistogram, Labels, METRIC_NAME, QueryContext, Span};
use promql::{Engine, QueryFailure, QueryOptions, QueryResult, Value};

use crate::store::Store;

const INTERVAL_MS: i64 = 15_000;

/// A generator of numbers that a seed repeats.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Counters with resets, gaps and staleness markers, gauges of any float, and histograms; 300 series.
pub(crate) fn store(seed: u64) -> Store {
    let mut store = Store::default();
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    for series in 0..300_u64 {
        let (name, le) = match series % 5 {
            0 | 1 => ("c_total", "1"),
            2 => ("g", "2"),
            3 => ("c_total", "+Inf"),
            _ => ("h", ""),
        };
        let (a, b) = ((series / 5).to_string(), (series % 7).to_string());
        let pairs = [(METRIC_NAME, name), ("a", &a), ("b", &b), ("le", le)];
        let mut columns = Columns::new();
        let (mut value, mut i) = (0.0, 0);
        while i < 120 {
            let t = i * INTERVAL_MS + i64::try_from(series % 3).unwrap();
            value = if random.below(40) == 0 { 0.0 } else { value + random.below(99) as f64 / 7.0 };
            match (name, random.below(60)) {
                (_, 0) => columns.push(t, model::stale_marker()),
                (_, 1) => i += 30,
                ("g", 2) => columns.push(t, f64::NAN),
                ("g", 3) => columns.push(t, f64::INFINITY),
                ("g", n) => columns.push(t, value * 10_f64.powi(i32::try_from(n).unwrap() - 30)),
                ("h", 4) => columns.push(t, value),
                ("h", _) => columns.push_histogram(t, histogram(value)),
                _ => columns.push(t, value),
            }
            i += 1;
        }
        store.add(Labels::from_pairs(pairs).unwrap(), columns);
    }
    store
}

fn histogram(count: f64) -> Arc<FloatHistogram> {
    Arc::new(FloatHistogram {
        count,
        sum: count * 3.0,
        positive_spans: vec![Span { offset: 0, length: 1 }],
        positive_counts: vec![count],
        ..FloatHistogram::default()
    })
}

/// The answer for `steps` steps of `step` milliseconds from `start` on; to an instant query if there is one.
pub(crate) fn ask(
    engine: &Engine,
    store: &Store,
    query: &str,
    (start, step, steps): (i64, u64, i64),
    options: &QueryOptions,
    context: &QueryContext,
) -> Result<QueryResult, QueryFailure> {
    if steps == 1 {
        return engine.instant(store, query, start, options, context);
    }
    let end = start + (steps - 1) * i64::try_from(step).expect("tests have short steps");
    engine.range(store, query, start, end, Duration::from_millis(step), options, context)
}

/// All of an answer but how many samples were decoded for it; floats by their bits.
pub(crate) fn text(result: &Result<QueryResult, QueryFailure>) -> String {
    let result = match result {
        Ok(result) => result,
        Err(error) => return error.to_string(),
    };
    let mut text = format!(
        "{:?} {:?} {} {} {} {:?} {:?}\n",
        result.warnings,
        result.infos,
        result.stats.samples_queryable,
        result.stats.samples_read,
        result.stats.samples_peak,
        result.samples_per_step,
        result.samples_read_per_step
    );
    let mut sample = |labels: &Labels, t: i64, v: f64, h: Option<&Arc<FloatHistogram>>| {
        writeln!(text, "{labels} {t} {:x} {h:?}", v.to_bits()).unwrap();
    };
    match &result.value {
        Value::Matrix(series) => {
            for one in series {
                for (row, s) in one.samples.iter().enumerate() {
                    sample(&one.labels, s.t, s.v, one.samples.histogram(row));
                }
            }
        }
        Value::Vector(samples) => {
            for one in samples {
                sample(&one.labels, one.sample.t, one.sample.v, one.histogram.as_ref());
            }
        }
        other => panic!("{other:?}"),
    }
    text
}
