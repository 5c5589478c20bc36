//! Elementary functions, bit by bit, against a Prometheus binary, which computes with Go's library.
//!
//! `SEXTANT_GO_MATH_INPUTS` is the number of inputs per kind; there are eight kinds. Without a binary the test says so and passes, unless
//! `SEXTANT_REQUIRE_PEERS` is 1.

#![expect(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

mod peer;
mod store;

use std::collections::BTreeMap;
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_PI_4, LN_2, SQRT_2};
use std::fmt::Write as _;
use std::time::Duration;

use model::{Columns, Labels, METRIC_NAME, QueryContext};
use promql::{Engine, EngineOptions, QueryOptions, Value};

/// First sample, in seconds.
const START: i64 = 1_700_000_000;
/// Prometheus gives at most 11,000 points per series.
const POINTS_MAX: usize = 10_000;

const UNARY: [&str; 21] = [
    "exp", "ln", "log2", "log10", "sqrt", "sin", "cos", "tan", "asin", "acos", "atan", "sinh",
    "cosh", "tanh", "asinh", "acosh", "atanh", "floor", "ceil", "deg", "rad",
];
const BINARY: [&str; 3] = ["^", "%", "atan2"];

/// Xorshift: inputs are the same in every run.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Between −1 and 1.
    fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }

    fn pick(&mut self, values: &[f64]) -> f64 {
        let sign = if self.bits() & 1 << 20 == 0 { 1.0 } else { -1.0 };
        sign * values[usize::try_from(self.bits() >> 33).unwrap() % values.len()]
    }

    /// An input of a kind.
    fn input(&mut self, kind: &str) -> f64 {
        match kind {
            "any" => f64::from_bits(self.bits()),
            "unit" => self.unit(),
            "small" => self.unit() * 10.0,
            "medium" => self.unit() * 750.0,
            "large" => self.unit() * (self.unit() * 60.0).exp2(),
            "near one" => 1.0 + self.unit() * (self.unit() * 25.0 - 26.0).exp2(),
            "near a multiple" => {
                let multiple = (self.bits() >> 40) as f64 * self.pick(&[FRAC_PI_4, LN_2, 0.5]);
                multiple * (1.0 + self.unit() * 1e-15)
            }
            _ => self.pick(&[
                0.0,
                1.0,
                2.0,
                0.5,
                3.0,
                10.0,
                f64::INFINITY,
                f64::NAN,
                f64::from_bits(1),
                f64::from_bits(0xf_ffff_ffff_ffff),
                f64::from_bits(1 << 40),
                f64::MIN_POSITIVE,
                f64::MAX,
                f64::EPSILON,
                SQRT_2,
                FRAC_1_SQRT_2,
                2.0 * SQRT_2,
                709.782_712_893_384,
                709.782_712_893_383_9,
                745.133_219_101_941_1,
                708.5,
                740.0,
                9_007_199_254_740_992.0,
                9_223_372_036_854_775_808.0,
                536_870_912.0,
                536_870_911.5,
                1e17,
                1e300,
                0.66,
                0.7,
                0.625,
                21.0,
                7.0,
                127.0,
                129.0,
                1.5,
                2.5,
            ]),
        }
    }
}

const KINDS: [&str; 8] =
    ["any", "unit", "small", "medium", "large", "near one", "near a multiple", "special"];

/// By kind.
type Inputs = BTreeMap<&'static str, Vec<f64>>;

fn inputs(count: usize, seed: u64, other: &[&'static str]) -> Inputs {
    let mut random = Random(seed);
    let mut of = |kind: &str| {
        // A stale marker would be no sample.
        let mut next = || match random.input(kind) {
            v if v.is_nan() => f64::NAN,
            v => v,
        };
        (0..count).map(|_| next()).collect()
    };
    KINDS.into_iter().zip(other).map(|(kind, like)| (kind, of(like))).collect()
}

fn openmetrics(metrics: &[(&str, &Inputs)]) -> String {
    let mut text = String::new();
    for (name, inputs) in metrics {
        writeln!(text, "# TYPE {name} gauge").unwrap();
        for (kind, values) in *inputs {
            for (t, v) in (START..).zip(values) {
                writeln!(text, "{name}{{kind=\"{kind}\"}} {v:e} {t}").unwrap();
            }
        }
    }
    text + "# EOF\n"
}

fn store(metrics: &[(&str, &Inputs)]) -> store::Store {
    let mut store = store::Store::default();
    for (name, inputs) in metrics {
        for (kind, values) in *inputs {
            let labels = Labels::from_pairs([(METRIC_NAME, *name), ("kind", kind)]).unwrap();
            let mut columns = Columns::new();
            (START..).zip(values).for_each(|(t, v)| columns.push(t * 1000, *v));
            store.add(labels, columns);
        }
    }
    store
}

/// Results by kind and time in seconds.
type Results = BTreeMap<(String, i64), f64>;

fn ours(engine: &Engine, store: &store::Store, query: &str, start: i64, end: i64) -> Results {
    let (options, context) = (QueryOptions::default(), QueryContext::unbounded());
    let step = Duration::from_secs(1);
    let result =
        engine.range(store, query, start * 1000, end * 1000, step, &options, &context).unwrap();
    let Value::Matrix(series) = result.value else { panic!("{query} is a vector") };
    let mut results = Results::new();
    for series in series {
        let kind = series.labels.get("kind").unwrap();
        results.extend(series.samples.iter().map(|s| ((String::from(kind), s.t / 1000), s.v)));
    }
    results
}

fn theirs(peer: &peer::Peer, query: &str, start: i64, end: i64) -> Results {
    let answer = peer.range(query, start, end);
    let mut results = Results::new();
    for series in answer["data"]["result"].as_array().unwrap() {
        let kind = series["metric"]["kind"].as_str().unwrap();
        for point in series["values"].as_array().unwrap() {
            let (t, v) = (point[0].as_i64().unwrap(), point[1].as_str().unwrap());
            results.insert((String::from(kind), t), v.parse().unwrap());
        }
    }
    results
}

#[test]
fn functions_are_those_of_go_to_the_last_bit() {
    let Some(binaries) = peer::find() else {
        return peer::say("go_math: skipped, no prometheus and promtool on the path");
    };
    let count = std::env::var("SEXTANT_GO_MATH_INPUTS").map_or(400, |n| n.parse().unwrap());
    let x = inputs(count, 0x9e37_79b9_7f4a_7c15, &KINDS);
    let exponents = ["any", "small", "small", "unit", "small", "large", "special", "special"];
    let y = inputs(count, 0x2545_f491_4f6c_dd1d, &exponents);
    let metrics = [("x", &x), ("y", &y)];
    let peer = peer::start(&binaries, &openmetrics(&metrics));
    let store = store(&metrics);
    let engine = Engine::new(EngineOptions::default(), &telemetry::Registry::new());
    let unary = UNARY.map(|function| format!("{function}(x)"));
    let binary = BINARY.map(|operator| format!("x {operator} y"));
    let mut wrong = String::new();
    for query in unary.iter().chain(&binary) {
        let (mut compared, mut different, mut examples) = (0, 0, String::new());
        for first in (0..count).step_by(POINTS_MAX) {
            let at = |index: usize| START + i64::try_from(index).unwrap();
            let (start, end) = (at(first), at((first + POINTS_MAX).min(count) - 1));
            let ours = ours(&engine, &store, query, start, end);
            let theirs = theirs(&peer, query, start, end);
            assert_eq!(ours.len(), theirs.len(), "results of {query}");
            for (((kind, t), ours), theirs) in ours.iter().zip(theirs.values()) {
                compared += 1;
                if ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan() {
                    continue;
                }
                different += 1;
                if different <= 4 {
                    let index = usize::try_from(t - START).unwrap();
                    let (x, y) = (x[kind.as_str()][index], y[kind.as_str()][index]);
                    write!(examples, "\n  x {x:e} y {y:e}: {ours:e}, not {theirs:e}").unwrap();
                }
            }
        }
        assert_eq!(compared, count * KINDS.len(), "results of {query}");
        if different > 0 {
            writeln!(wrong, "{query}: {different} of {compared}{examples}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
