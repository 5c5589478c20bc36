//! A scrape from the bytes of the body to the batch of the store, for the first time, unchanged, and with one
//! series replaced.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use exposition::{Encoder, MetricKind};
use model::{AppendError, Appended, Appender, Batch, Labels, SeriesRef};
use scrape::replay::Replay;

/// Gives refs and drops samples.
struct Nowhere;

impl Appender for Nowhere {
    fn append(&self, batch: &Batch) -> Result<Appended, AppendError> {
        black_box(&batch.floats);
        let new_refs = (1..).take(batch.new_series.len()).map(SeriesRef).collect();
        Ok(Appended { new_refs, ..Appended::default() })
    }
}

const FAMILIES: u32 = 250;
const SERIES_PER_FAMILY: u32 = 40;

/// What a node with many containers exposes; `scrape` changes the values, `odd` the name of one pod.
fn body(scrape: u32, odd: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = Encoder::new(&mut out);
    for family in 0..FAMILIES {
        let name = format!("container_network_receive_{family}_bytes_total");
        encoder.family(&name, "Cumulative count of bytes received.", MetricKind::Counter);
        for i in 0..SERIES_PER_FAMILY {
            let (pod, interface) = (format!("web-{family:x}-{i}"), format!("eth{i}"));
            let pod = if (family, i) == (FAMILIES / 2, 0) { odd } else { pod.as_str() };
            let labels =
                [("interface", interface.as_str()), ("namespace", "default"), ("pod", pod)];
            let value = f64::from(i) * 1_234_567.0 + f64::from(scrape) * 1500.0;
            encoder.sample(&name, &labels, value, None);
        }
    }
    out
}

fn target() -> Replay {
    Replay::new(Labels::from_pairs([("instance", "a:1"), ("job", "j")]).expect("two names"))
}

fn intake(c: &mut Criterion) {
    let bodies = [body(1, "x"), body(2, "x")];
    let replaced = [body(1, "x"), body(2, "y")];
    let mut group = c.benchmark_group("intake");
    group.throughput(Throughput::Elements(u64::from(FAMILIES * SERIES_PER_FAMILY)));
    group.bench_function("first", |b| {
        let scrape = |mut target: Replay| {
            target.scrape(&bodies[0], 0, &Nowhere);
            target
        };
        b.iter_batched(target, scrape, BatchSize::LargeInput);
    });
    for (name, bodies) in [("unchanged", &bodies), ("one_series_replaced", &replaced)] {
        let mut target = target();
        let mut t = 0;
        group.bench_function(name, |b| {
            b.iter(|| {
                t += 1;
                target.scrape(black_box(&bodies[usize::from(t % 2 == 0)]), t, &Nowhere);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, intake);
criterion_main!(benches);
