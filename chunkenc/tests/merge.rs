//! Merging chunks: which samples remain, in which encoding, in how many chunks.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use chunkenc::{
    ChunkError, Encoding, ExactSample, ExactValue, FloatHistogramChunk, HistogramChunk, MergeInput,
    MergedChunk, Outcome, Samples, Xor2Chunk, XorChunk, merge, sample_count,
};
use model::{CounterReset, Histogram, Span, TimeRange, Timestamp};
use proptest::prelude::*;

/// A chunk that is to be merged, with what it borrows.
#[derive(Clone, Debug)]
struct Chunk {
    encoding: Encoding,
    min_t: Timestamp,
    max_t: Timestamp,
    bytes: Vec<u8>,
    deleted: Vec<TimeRange>,
}

impl Chunk {
    fn new(encoding: Encoding, times: &[Timestamp], bytes: &[u8]) -> Self {
        let (min_t, max_t) = (times[0], *times.last().unwrap());
        Self { encoding, min_t, max_t, bytes: bytes.to_vec(), deleted: vec![] }
    }

    fn without(mut self, deleted: TimeRange) -> Self {
        self.deleted.push(deleted);
        self
    }
}

/// Floats that say which chunk they are from.
fn floats(times: &[Timestamp], v: f64) -> Chunk {
    let mut chunk = XorChunk::new();
    times.iter().for_each(|&t| chunk.push(t, v));
    Chunk::new(Encoding::Xor, times, chunk.as_bytes())
}

fn floats_since(times: &[Timestamp], start: Timestamp, v: f64) -> Chunk {
    let mut chunk = Xor2Chunk::new();
    times.iter().for_each(|&t| chunk.push(t, start, v));
    Chunk::new(Encoding::Xor2, times, chunk.as_bytes())
}

/// One bucket with as many observations.
fn histogram(index: i32, count: u64, counter_reset: CounterReset) -> Histogram {
    Histogram {
        counter_reset,
        count,
        sum: 1.0,
        positive_spans: vec![Span { offset: index, length: 1 }],
        positive_deltas: vec![count.cast_signed()],
        ..Histogram::default()
    }
}

fn histograms(samples: &[(Timestamp, Histogram)]) -> Chunk {
    let (t, first) = &samples[0];
    let mut chunk = HistogramChunk::start(*t, first, first.counter_reset);
    for (t, histogram) in &samples[1..] {
        assert!(!matches!(chunk.append(*t, histogram), Outcome::NewChunk(_)));
    }
    let times: Vec<_> = samples.iter().map(|(t, _)| *t).collect();
    Chunk::new(chunk.encoding(), &times, chunk.as_bytes())
}

fn merged(chunks: &[Chunk]) -> Result<Vec<MergedChunk>, ChunkError> {
    let inputs: Vec<_> = chunks
        .iter()
        .map(|Chunk { encoding, min_t, max_t, bytes, deleted }| MergeInput {
            encoding: *encoding,
            min_t: *min_t,
            max_t: *max_t,
            bytes,
            deleted,
        })
        .collect();
    merge(&inputs)
}

fn samples(chunk: &MergedChunk) -> Vec<ExactSample> {
    let samples: Result<Vec<_>, _> = Samples::new(chunk.encoding, &chunk.bytes).unwrap().collect();
    let samples = samples.unwrap();
    assert_eq!(samples.len(), usize::from(chunk.count));
    assert_eq!(sample_count(chunk.encoding, &chunk.bytes), chunk.count);
    assert_eq!((samples[0].t, samples.last().unwrap().t), (chunk.min_t, chunk.max_t));
    samples
}

/// Time and value of all samples.
fn all_floats(chunks: &[MergedChunk]) -> Vec<(Timestamp, f64)> {
    let float = |sample: ExactSample| match sample.value {
        ExactValue::Float(v) => (sample.t, v),
        other => panic!("{other:?}"),
    };
    chunks.iter().flat_map(samples).map(float).collect()
}

#[test]
fn what_overlaps_nothing_is_passed_on() {
    let chunks = [floats(&[30, 40], 2.0), floats(&[10, 20], 1.0), floats(&[10, 20], 1.0)];
    let merged = merged(&chunks).unwrap();
    assert_eq!(merged.len(), 2);
    for (merged, chunk) in merged.iter().zip([&chunks[1], &chunks[0]]) {
        assert_eq!((&merged.bytes, merged.count), (&chunk.bytes, 2));
    }
    assert_eq!(self::merged(&[]), Ok(vec![]));
}

/// Traced by hand through the heap of Prometheus's chained iterator, whose inputs are all but the earliest chunk, then that.
#[test]
fn one_sample_of_several_at_one_time_remains() {
    let check = |chunks: &[Chunk], expected: &[(Timestamp, f64)]| {
        assert_eq!(all_floats(&merged(chunks).unwrap()), expected);
    };
    let pairs = |pairs: &[(Timestamp, f64)]| pairs.to_vec();
    // Begin together: the one that ends earlier has the word as long as it lasts.
    let (a, b) = (floats(&[1, 2, 3], 1.0), floats(&[1, 2, 3, 4], 2.0));
    let expected = pairs(&[(1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0)]);
    check(&[a.clone(), b.clone()], &expected);
    check(&[b, a.clone()], &expected);
    // Equal spans: the one that was given first.
    let c = floats(&[1, 2, 3], 3.0);
    check(&[a.clone(), c.clone()], &[(1, 1.0), (2, 1.0), (3, 1.0)]);
    check(&[c, a.clone()], &[(1, 3.0), (2, 3.0), (3, 3.0)]);
    // The one that begins later takes the word when its time comes, and keeps it.
    let d = floats(&[2, 3, 4], 4.0);
    check(&[a.clone(), d.clone()], &[(1, 1.0), (2, 4.0), (3, 4.0), (4, 4.0)]);
    // A sample that the other lacks gives it back.
    let e = floats(&[2, 4, 5], 5.0);
    let f = floats(&[1, 2, 3, 4, 5], 1.0);
    check(&[f, e], &[(1, 1.0), (2, 5.0), (3, 1.0), (4, 5.0), (5, 5.0)]);
    // What is deleted in one chunk is not deleted in the other.
    let d = d.without(TimeRange::new(3, 9));
    check(&[a, d], &[(1, 1.0), (2, 4.0), (3, 1.0)]);
}

#[test]
fn deleted_samples_are_gone() {
    let times: Vec<_> = (0..10).collect();
    let chunk = floats(&times, 1.0).without(TimeRange::new(-5, 2)).without(TimeRange::new(5, 5));
    let left = merged(std::slice::from_ref(&chunk)).unwrap();
    let expected: Vec<_> = [3, 4, 6, 7, 8, 9].map(|t| (t, 1.0)).to_vec();
    assert_eq!(all_floats(&left), expected);
    assert_eq!(merged(&[chunk.without(TimeRange::ALL)]), Ok(vec![]));
}

#[test]
fn chunks_end_after_120_samples() {
    let even: Vec<_> = (0..150).map(|i| 2 * i).collect();
    let odd: Vec<_> = (0..150).map(|i| 2 * i + 1).collect();
    let merged = merged(&[floats(&even, 0.0), floats(&odd, 1.0)]).unwrap();
    let counts: Vec<_> = merged.iter().map(|chunk| chunk.count).collect();
    assert_eq!(counts, [120, 120, 60]);
    let expected: Vec<_> = (0..300).map(|t| (t, if t % 2 == 0 { 0.0 } else { 1.0 })).collect();
    assert_eq!(all_floats(&merged), expected);
}

#[test]
fn chunks_end_where_the_kind_changes() {
    let counter = |t: Timestamp| (t, histogram(1, t.unsigned_abs(), CounterReset::Unknown));
    let gauge = |t: Timestamp| (t, histogram(1, 100, CounterReset::Gauge));
    let mut floats_of_histograms =
        FloatHistogramChunk::start(7, &counter(7).1.to_float(), CounterReset::Unknown);
    let _ = floats_of_histograms.append(8, &counter(8).1.to_float());
    let chunks = [
        histograms(&[counter(1), counter(13)]),
        floats(&[2, 3, 4], 0.0),
        histograms(&[gauge(5), gauge(6)]),
        Chunk::new(Encoding::FloatHistogram, &[7, 8], floats_of_histograms.as_bytes()),
        floats_since(&[10, 11], 9, 2.0),
        floats(&[9, 10, 12], 3.0),
    ];
    let merged = merged(&chunks).unwrap();
    let outline: Vec<_> = merged
        .iter()
        .map(|chunk| (chunk.encoding, samples(chunk).iter().map(|s| (s.t, s.start)).collect()))
        .collect();
    let expected: [(Encoding, Vec<_>); 7] = [
        (Encoding::Histogram, vec![(1, 0)]),
        (Encoding::Xor, vec![(2, 0), (3, 0), (4, 0)]),
        (Encoding::Histogram, vec![(5, 0), (6, 0)]),
        (Encoding::FloatHistogram, vec![(7, 0), (8, 0)]),
        (Encoding::Xor, vec![(9, 0)]),
        // The start timestamp needs the other encoding, in which the last sample, without one, may stay.
        (Encoding::Xor2, vec![(10, 9), (11, 9), (12, 0)]),
        (Encoding::Histogram, vec![(13, 0)]),
    ];
    assert_eq!(outline, expected);
    // Bit 7 and 6 of the flags: unknown, gauge.
    assert_eq!((merged[0].bytes[2], merged[2].bytes[2]), (0, 0b1100_0000));
}

/// Buckets that one chunk has and the other lacks: the merged one has both. A count that falls is a counter reset.
#[test]
fn merged_histograms_stay_integer() {
    let of = |t, index, count| (t, histogram(index, count, CounterReset::Unknown));
    let two = |t: Timestamp, counts: [u64; 2]| {
        let histogram = Histogram {
            count: counts[0] + counts[1],
            positive_spans: vec![Span { offset: 0, length: 2 }],
            positive_deltas: vec![
                counts[0].cast_signed(),
                counts[1].cast_signed() - counts[0].cast_signed(),
            ],
            ..histogram(0, 0, CounterReset::Unknown)
        };
        (t, histogram)
    };
    let big = (1 << 60) + 1;
    let a = histograms(&[of(1, 0, big), two(3, [big, 5])]);
    let b = histograms(&[two(2, [big, 2]), two(4, [big, 7]), two(5, [big, 8])]);
    let c = histograms(&[of(5, 0, 3), of(6, 0, 4)]);
    let merged = merged(&[a, b, c]).unwrap();
    let deltas = |chunk: &MergedChunk| {
        let deltas = |sample: ExactSample| match sample.value {
            ExactValue::Histogram(histogram) => (sample.t, histogram.positive_deltas),
            other => panic!("{other:?}"),
        };
        samples(chunk).into_iter().map(deltas).collect::<Vec<_>>()
    };
    let n = big.cast_signed();
    assert_eq!(merged.len(), 2);
    assert_eq!(
        deltas(&merged[0]),
        [(1, vec![n, -n]), (2, vec![n, 2 - n]), (3, vec![n, 5 - n]), (4, vec![n, 7 - n])]
    );
    assert_eq!(deltas(&merged[1]), [(5, vec![3]), (6, vec![4])]);
    assert_eq!((merged[0].bytes[2], merged[1].bytes[2]), (0, 0b1000_0000));
}

#[test]
fn damage_is_an_error_where_it_must_be_read() {
    let mut broken = floats(&[1, 2, 3], 1.0);
    broken.bytes.truncate(5);
    assert!(merged(&[broken.clone(), floats(&[2], 1.0)]).is_err());
    assert!(merged(&[floats(&[2], 1.0), broken.clone()]).is_err());
    assert!(merged(&[broken.without(TimeRange::new(2, 2))]).is_err());
}

/// Times of a chunk, deletions as their beginning and length, and its kind.
type Plan = (BTreeSet<i64>, Vec<(i64, i64)>, u8);

fn overlapping() -> impl Strategy<Value = Vec<Chunk>> {
    let chunk = (
        prop::collection::btree_set(0_i64..400, 1..150),
        prop::collection::vec((0_i64..400, 0_i64..60), 0..2),
        0_u8..3,
    );
    prop::collection::vec(chunk, 1..6).prop_map(|chunks| {
        let of = |(index, (times, deleted, kind)): (u32, Plan)| {
            let times: Vec<_> = times.into_iter().collect();
            let chunk = match kind {
                0 => floats(&times, f64::from(index)),
                1 => floats_since(&times, 1, f64::from(index)),
                _ => {
                    let index = i32::try_from(index).unwrap();
                    let gauge =
                        |&t: &i64| (t, histogram(index, t.unsigned_abs(), CounterReset::Gauge));
                    histograms(&times.iter().map(gauge).collect::<Vec<_>>())
                }
            };
            deleted
                .into_iter()
                .fold(chunk, |chunk, (from, len)| chunk.without(TimeRange::new(from, from + len)))
        };
        (0..).zip(chunks).map(of).collect()
    })
}

proptest! {
    #[test]
    fn every_time_that_is_left_has_one_sample(chunks in overlapping()) {
        // Of a histogram the buckets may gain empty ones, so its count stands for it.
        let named = |sample: &ExactSample| {
            let value = match &sample.value {
                ExactValue::Float(v) => (0, v.to_bits()),
                ExactValue::Histogram(histogram) => (1, histogram.count),
                ExactValue::FloatHistogram(histogram) => (2, histogram.count.to_bits()),
            };
            (sample.t, sample.start, value)
        };
        let mut candidates = BTreeSet::new();
        let mut times = BTreeSet::new();
        for chunk in &chunks {
            for sample in Samples::new(chunk.encoding, &chunk.bytes).unwrap() {
                let sample = sample.unwrap();
                if !chunk.deleted.iter().any(|range| range.contains(sample.t)) {
                    times.insert(sample.t);
                    candidates.insert(named(&sample));
                }
            }
        }
        let merged = merged(&chunks).unwrap();
        let left: Vec<_> = merged.iter().flat_map(samples).collect();
        let left_times: Vec<_> = left.iter().map(|sample| sample.t).collect();
        prop_assert_eq!(left_times, times.into_iter().collect::<Vec<_>>());
        prop_assert!(left.iter().all(|sample| candidates.contains(&named(sample))));
        prop_assert!(merged.windows(2).all(|pair| pair[0].max_t < pair[1].min_t));
    }
}
