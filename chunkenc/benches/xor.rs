//! Encoding and decoding of float chunks: constant, steadily growing, counter and random values.

use std::hint::black_box;

use chunkenc::{XorChunk, XorDecoder, decode_range, decode_xor};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use model::{Columns, TimeRange};

const SAMPLES: i64 = 120;

/// Samples every 15 s, with a millisecond of jitter now and then.
fn samples(value: impl Fn(u64) -> f64) -> Vec<(i64, f64)> {
    let jitter = |i: i64| i64::from(i % 17 == 3);
    (0..SAMPLES).map(|i| (i * 15_000 + jitter(i), value(i.unsigned_abs()))).collect()
}

fn mix(i: u64) -> u64 {
    let z = (i ^ (i >> 30)).wrapping_add(1).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^ (z >> 27)
}

#[expect(clippy::cast_precision_loss, reason = "made-up values")]
fn chunks(c: &mut Criterion) {
    let kinds = [
        ("constant", samples(|_| 42.0)),
        ("steady", samples(|i| (i * 15) as f64)),
        ("counter", samples(|i| (i * 1000 + mix(i) % 1000) as f64)),
        ("random", samples(|i| f64::from_bits(mix(i) >> 2))),
    ];
    let mut group = c.benchmark_group("xor");
    group.throughput(Throughput::Elements(SAMPLES.unsigned_abs()));
    for (name, samples) in &kinds {
        let encode = || {
            let mut chunk = XorChunk::new();
            for &(t, v) in samples {
                chunk.push(t, v);
            }
            chunk
        };
        group.bench_function(format!("encode/{name}"), |b| b.iter(|| black_box(encode())));
        let chunk = encode();
        // By the reference, sample by sample, and in one go: the same samples into the same columns.
        let mut columns = Columns::with_capacity(samples.len());
        group.bench_function(format!("decode/{name}/reference"), |b| {
            b.iter(|| {
                columns.clear();
                let decoder = XorDecoder::new(black_box(chunk.as_bytes())).expect("just encoded");
                decode_range(decoder, TimeRange::ALL, &mut columns).expect("just encoded");
            });
        });
        group.bench_function(format!("decode/{name}/batch"), |b| {
            b.iter(|| {
                columns.clear();
                let bytes = black_box(chunk.as_bytes());
                decode_xor(bytes, TimeRange::ALL, &mut columns).expect("just encoded");
            });
        });
    }
    group.finish();
}

criterion_group!(benches, chunks);
criterion_main!(benches);
