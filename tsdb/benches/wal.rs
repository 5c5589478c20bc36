//! Appending scrapes of known series to a store, log included.

use std::path::Path;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use model::{Appender, Batch, Labels, ManualClock, SeriesRef};
use telemetry::Registry;
use tsdb::{Db, MemDisk, Options, WalCompression};

const SERIES: u32 = 1000;
const SCRAPES: i64 = 100;

fn open(compression: WalCompression) -> (Db, Vec<SeriesRef>) {
    let options = Options { wal_compression: compression, ..Options::default() };
    let clock = Arc::new(ManualClock::new(0));
    let disk = Arc::new(MemDisk::new());
    let db = Db::open(Path::new("/data"), disk, clock, options, &Registry::new());
    let db = db.expect("an empty disk");
    let mut batch = Batch::new();
    for i in 0..SERIES {
        let i = i.to_string();
        let labels = Labels::from_pairs([("__name__", "metric"), ("job", "bench"), ("i", &i)]);
        batch.push_new(labels.expect("distinct names"), 0, 0.0);
    }
    let refs = db.append(&batch).expect("memory takes it").new_refs;
    (db, refs)
}

fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("append");
    group.throughput(Throughput::Elements(u64::from(SERIES) * SCRAPES.unsigned_abs()));
    group.sample_size(20);
    let kinds = [("none", WalCompression::None), ("snappy", WalCompression::Snappy)];
    for (name, compression) in kinds {
        group.bench_function(name, |b| {
            b.iter_batched(
                || open(compression),
                |(db, refs)| {
                    let mut batch = Batch::new();
                    for scrape in 1..=SCRAPES {
                        batch.clear();
                        for (i, &series) in (0_u32..).zip(&refs) {
                            let value = if i % 2 == 0 { 1.0 } else { f64::from(i) + scrape as f64 };
                            batch.push(series, scrape * 15_000, value);
                        }
                        db.append(&batch).expect("memory takes it");
                    }
                    db
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, append);
criterion_main!(benches);
