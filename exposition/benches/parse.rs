//! Parsing about 1 MB of text as exporters write it: whole, with labels decoded, and with known series.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use exposition::{Encoder, Entry, MetricKind, Parser};

/// Families of counters, gauges and histograms in the proportions of a node and its containers.
fn body(bytes: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes + 4096);
    let mut family = 0_u32;
    while out.len() < bytes {
        family += 1;
        counters(&mut out, family);
        histogram(&mut out, family);
    }
    out
}

fn counters(out: &mut Vec<u8>, family: u32) {
    let mut encoder = Encoder::new(out);
    let name = format!("container_network_receive_{family}_bytes_total");
    encoder.family(&name, "Cumulative count of bytes received.", MetricKind::Counter);
    for i in 0..20_u32 {
        let (pod, interface) = (format!("web-{family:x}-{i}"), format!("eth{i}"));
        let labels = [("interface", interface.as_str()), ("namespace", "default"), ("pod", &pod)];
        encoder.sample(&name, &labels, f64::from(i) * 123_456_789.0, None);
    }
    let name = format!("node_load_{family}");
    encoder.family(&name, "Load average.", MetricKind::Gauge);
    encoder.sample(&name, &[], 0.37, None);
}

fn histogram(out: &mut Vec<u8>, family: u32) {
    let mut encoder = Encoder::new(out);
    let name = format!("request_{family}_duration_seconds");
    encoder.family(&name, "Time to answer.", MetricKind::Histogram);
    let bucket = format!("{name}_bucket");
    for (i, le) in ["0.005", "0.01", "0.1", "1", "10", "+Inf"].into_iter().enumerate() {
        let labels = [("handler", "/api/v1/query"), ("le", le)];
        encoder.sample(&bucket, &labels, f64::from(u32::try_from(i).unwrap_or(0) * 1000), None);
    }
    encoder.sample(&format!("{name}_sum"), &[("handler", "/api/v1/query")], 0.567_891, None);
    encoder.sample(&format!("{name}_count"), &[("handler", "/api/v1/query")], 5000.0, None);
}

/// Lengths of the lines' known parts: the series of samples, all of metadata.
fn known(body: &[u8]) -> Vec<(usize, Option<Option<MetricKind>>)> {
    let known = Parser::new(body).map(|entry| match entry.expect("well-formed") {
        Entry::Sample(series, _) => (series.text().len(), None),
        Entry::Help { line, .. } => (line.len(), Some(None)),
        Entry::Type { line, kind, .. } => (line.len(), Some(Some(kind))),
    });
    known.collect()
}

fn parse(c: &mut Criterion) {
    let body = body(1 << 20);
    let known = known(&body);
    let samples = known.iter().filter(|(_, metadata)| metadata.is_none()).count();
    let mut group = c.benchmark_group("parse");
    group.throughput(Throughput::Elements(samples as u64));
    group.bench_function("entries", |b| {
        b.iter(|| Parser::new(black_box(&body)).filter(Result::is_ok).count());
    });
    group.bench_function("entries_and_labels", |b| {
        let mut labels = Vec::new();
        b.iter(|| {
            let mut pairs = 0;
            for entry in Parser::new(black_box(&body)) {
                if let Ok(Entry::Sample(series, _)) = entry {
                    labels.clear();
                    series.labels(&mut labels);
                    pairs += labels.len();
                }
            }
            pairs
        });
    });
    group.bench_function("known_series", |b| {
        b.iter(|| {
            let mut parser = Parser::new(black_box(&body));
            let mut sum = 0.0;
            for &(len, metadata) in &known {
                match metadata {
                    None => sum += parser.sample_after(len).map_or(0.0, |point| point.value),
                    Some(kind) => drop(black_box(parser.metadata_after(len, kind))),
                }
            }
            sum
        });
    });
    group.finish();
}

criterion_group!(benches, parse);
criterion_main!(benches);
