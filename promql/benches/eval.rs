//! Queries over two hours at a step of 15 seconds, the same as the samples': 480 steps. Samples lie in memory decoded, so what is measured is the
//! engine alone, in CPU time. Throughput is in series × steps of what is selected.

#[path = "../tests/store/mod.rs"]
mod store;

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use model::{Columns, Labels, METRIC_NAME, QueryContext};
use promql::{Engine, EngineOptions, QueryOptions};

const INTERVAL_MS: i64 = 15_000;
const STEPS: i64 = 480;
/// Samples before the first step, for windows of an hour.
const BEFORE: i64 = 240;
const START_MS: i64 = 1_700_000_000_000;
const SERIES: u64 = 1_000;

/// CPU time of this thread so far: on a machine that does other things too, wall-clock time says little.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let first = text.split_whitespace().next().and_then(|nanoseconds| nanoseconds.parse().ok());
    Duration::from_nanos(first.expect("a Linux machine"))
}

/// The CPU time that `work` takes when it is done `times` times.
fn measured<T>(times: u64, work: impl Fn() -> T) -> Duration {
    let start = cpu_time();
    for _ in 0..times {
        black_box(work());
    }
    cpu_time() - start
}

/// Counters that grow by what a generator of random numbers says, with a reset now and then.
fn counter(seed: u64) -> Columns {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut value = 0.0;
    let mut columns = Columns::new();
    for i in -BEFORE..STEPS {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        value = if state.is_multiple_of(997) { 0.0 } else { value + (state % 1_000) as f64 };
        columns.push(START_MS + i * INTERVAL_MS + i64::try_from(seed % 7).unwrap_or(0), value);
    }
    columns
}

/// `m_total`: a thousand series, ten for each of a hundred pods. `info`: one for each pod. `h_bucket`: a thousand and eight buckets in 84 histograms.
fn filled() -> store::Store {
    let mut store = store::Store::default();
    let mut add = |pairs: &[(&str, &str)], seed: u64| {
        store.add(Labels::from_pairs(pairs.iter().copied()).expect("names differ"), counter(seed));
    };
    let common = [("job", "kubelet"), ("namespace", "default"), ("image", "registry/app:1.2.3")];
    for series in 0..SERIES {
        let (pod, container) = (format!("pod-{}", series / 10), format!("c{}", series % 10));
        let own = [(METRIC_NAME, "m_total"), ("pod", &pod), ("container", &container)];
        add(&[&common[..], &own].concat(), series);
    }
    for pod in 0..SERIES / 10 {
        let pod_name = format!("pod-{pod}");
        add(&[(METRIC_NAME, "info"), ("pod", &pod_name), ("node", "n1")], pod);
    }
    for histogram in 0..SERIES / 12 + 1 {
        for le in ["1", "2", "4", "8", "16", "32", "64", "128", "256", "512", "1024", "+Inf"] {
            let pod = format!("pod-{histogram}");
            let job = format!("job-{}", histogram % 5);
            let own = [(METRIC_NAME, "h_bucket"), ("pod", &pod), ("job", &job), ("le", le)];
            add(&own, histogram);
        }
    }
    store
}

fn evaluating(c: &mut Criterion) {
    let store = filled();
    let engine = Engine::new(EngineOptions::default(), &telemetry::Registry::new());
    let (options, context) = (QueryOptions::default(), QueryContext::unbounded());
    let mut group = c.benchmark_group("eval");
    group.sample_size(10).warm_up_time(Duration::from_millis(500));
    group.measurement_time(Duration::from_secs(2));
    group.throughput(Throughput::Elements(SERIES * STEPS.unsigned_abs()));
    for query in [
        "m_total",
        "sum(m_total)",
        "sum(rate(m_total[5m]))",
        "sum(rate(m_total[1h]))",
        "rate(m_total[1h])",
        "max_over_time(m_total[1h])",
        "sum_over_time(m_total[1h])",
        "quantile_over_time(0.9, m_total[1h])",
        "sum by (pod) (rate(m_total[5m]))",
        "histogram_quantile(0.99, sum by (le, job) (rate(h_bucket[5m])))",
        "m_total / on (pod) group_left info",
        "topk(10, rate(m_total[5m]))",
        "quantile(0.9, m_total)",
        "max_over_time(rate(m_total[5m])[10m:1m])",
        "sum(rate(m_total[5m])) / sum(rate(m_total[5m]))",
    ] {
        group.bench_function(query, |b| {
            let step = Duration::from_millis(INTERVAL_MS.unsigned_abs());
            let end = START_MS + (STEPS - 1) * INTERVAL_MS;
            let run =
                || engine.range(&store, black_box(query), START_MS, end, step, &options, &context);
            b.iter_custom(|times| measured(times, || run().expect("a valid query")));
        });
    }
    group.bench_function("sum(rate(m_total[5m])) at every fourth sample", |b| {
        let step = Duration::from_millis(4 * INTERVAL_MS.unsigned_abs());
        let end = START_MS + (STEPS - 1) * INTERVAL_MS;
        let query = "sum(rate(m_total[5m]))";
        let run = || engine.range(&store, query, START_MS, end, step, &options, &context);
        b.iter_custom(|times| measured(times, || run().expect("a valid query")));
    });
    group.throughput(Throughput::Elements(SERIES));
    for query in ["sum(m_total)", "sum by (pod) (rate(m_total[5m]))"] {
        group.bench_function(format!("instant {query}"), |b| {
            let t = START_MS + STEPS * INTERVAL_MS;
            let run = || engine.instant(&store, query, t, &options, &context);
            b.iter_custom(|times| measured(times, || run().expect("a valid query")));
        });
    }
    group.finish();
}

criterion_group!(benches, evaluating);
criterion_main!(benches);
