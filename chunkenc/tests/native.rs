//! Chunks of native histograms: bits written out by hand, round trips of series whose buckets come and go, damage.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use chunkenc::{
    ChunkError, Encoding, ExactValue, FloatHistogramChunk, HistogramChunk, NativeChunk,
    NativeHistogram, Outcome, Samples, decode, decode_integer, first_header,
};
use model::{
    CUSTOM_BUCKETS_SCHEMA, Columns, CounterReset, FloatHistogram, Histogram, Span, TimeRange,
    Timestamp, stale_marker,
};
use proptest::prelude::*;

/// Bits as text, in bytes with zeros at the end.
fn bytes_of(bits: &str) -> Vec<u8> {
    let bits: String = bits.chars().filter(|c| matches!(c, '0' | '1')).collect();
    let byte = |text: &[u8]| {
        let text = std::str::from_utf8(text).unwrap();
        u8::from_str_radix(&format!("{text:0<8}"), 2).unwrap()
    };
    bits.as_bytes().chunks(8).map(byte).collect()
}

fn float_bits(v: f64) -> String {
    format!("{:064b}", v.to_bits())
}

/// Two buckets and later a third behind a gap.
fn three_histograms() -> [Histogram; 3] {
    let first = Histogram {
        zero_threshold: 2_f64.powi(-128),
        zero_count: 2,
        count: 5,
        sum: 18.0,
        positive_spans: vec![Span { offset: 0, length: 2 }],
        positive_deltas: vec![1, 1],
        ..Histogram::default()
    };
    let second =
        Histogram { zero_count: 4, count: 9, positive_deltas: vec![2, 1], ..first.clone() };
    let third = Histogram {
        count: 10,
        sum: 19.0,
        positive_spans: vec![Span { offset: 0, length: 2 }, Span { offset: 1, length: 1 }],
        positive_deltas: vec![2, 1, -2],
        ..second.clone()
    };
    [first, second, third]
}

/// Written out by hand from the description of the format.
#[test]
fn golden_bits_of_integer_histograms() {
    let [first, second, third] = three_histograms();
    // 2^-128 is 116; schema 0; one positive span of two buckets at 0; no negative span.
    let layout = "01110100 0 10001 10010 0 0";
    // Time 1000 in 12 bits; count 5, zero count 2, sum; two differences of 1.
    let sample_1 = format!("11110 001111101000 10101 10010 {} 10001 10001", float_bits(18.0));
    let mut chunk = HistogramChunk::start(1000, &first, CounterReset::Unknown);
    let expected = format!("{:016b} 00000000 {layout} {sample_1}", 1);
    assert_eq!(chunk.as_bytes(), bytes_of(&expected));

    // Time +15000 in 18 bits; count +4, zero count +2, same sum; first difference +1.
    let sample_2 = "111110 000011101010011000 10100 10010 0 10001 0";
    assert_eq!(chunk.append(16_000, &second), Outcome::Appended);
    let expected = format!("{:016b} 00000000 {layout} {sample_1} {sample_2}", 2);
    assert_eq!(chunk.as_bytes(), bytes_of(&expected));

    // A second span of one bucket after a gap of one; the first histograms get an empty bucket there, -2 and -3 after the one before.
    let layout = "01110100 0 10010 10010 0 10001 10001 0";
    let sample_1 = format!("{sample_1} 10110");
    let sample_2 = format!("{sample_2} 10111");
    // Same step; count +1 after +4, zero count +0 after +2; 18 ^ 19 is bit 48; differences 2, 1, -2 after 2, 1, -3.
    let sample_3 = "0 10101 10110 11 01111 000001 1 10111 0 10010";
    assert_eq!(chunk.append(31_000, &third), Outcome::Recoded);
    let expected = format!("{:016b} 00000000 {layout} {sample_1} {sample_2} {sample_3}", 3);
    assert_eq!(chunk.as_bytes(), bytes_of(&expected));

    // A stale marker has a sum only: 7ff0000000000002 ^ 4033000000000000 has two zeros in front and one behind.
    let stale = Histogram { sum: stale_marker(), ..Histogram::default() };
    assert_eq!(chunk.append(46_000, &stale), Outcome::Appended);
    let xor = 0x3fc3_0000_0000_0002_u64 >> 1;
    let sample_4 = format!("0 0 0 11 00010 111101 {xor:061b}");
    let all = format!("{layout} {sample_1} {sample_2} {sample_3} {sample_4}");
    assert_eq!(chunk.as_bytes(), bytes_of(&format!("{:016b} 00000000 {all}", 4)));
    assert_eq!((chunk.count(), chunk.last_t(), chunk.header()), (4, 46_000, CounterReset::Unknown));
}

/// The same with start timestamps: flags share a byte with the count, and a byte says where the starts are.
#[test]
fn golden_bits_of_start_timestamps() {
    let [first, second, _] = three_histograms();
    let layout = "01110100 0 10001 10010 0 0";
    let sample_1 = format!("11110 001111101000 10101 10010 {} 10001 10001", float_bits(18.0));
    let sample_2 = "111110 000011101010011000 10100 10010 0 10001 0";
    let mut chunk = HistogramChunk::start_with_starts(1000, 936, &first, CounterReset::Reset);
    assert_eq!(chunk.encoding(), Encoding::HistogramWithStarts);
    // 1000 - 936 = 64 as a zigzag varint is 128, in two bytes.
    let start_1 = "10000000 00000001";
    let expected = format!("10 {:014b} 10000000 {layout} {sample_1} {start_1}", 1);
    assert_eq!(chunk.as_bytes(), bytes_of(&expected));
    // Unchanged, so nothing is written.
    assert_eq!(chunk.append_with_start(16_000, 936, &second), Outcome::Appended);
    let two = format!("{layout} {sample_1} {start_1} {sample_2}");
    assert_eq!(chunk.as_bytes(), bytes_of(&format!("10 {:014b} 10000000 {two}", 2)));
    // Listed from sample 2: 16000 - 15999 = 1. The rest: same step, +0 after +4 and +2, same sum, differences +0 after +1 and +0.
    assert_eq!(chunk.append_with_start(31_000, 15_999, &second), Outcome::Appended);
    let sample_3 = "0 110111100 10110 0 10111 0";
    let three = format!("{two} {sample_3} 10001");
    assert_eq!(chunk.as_bytes(), bytes_of(&format!("10 {:014b} 10000010 {three}", 3)));
    // 31000 - 30995 = 5, 4 more than before. Everything else is as before.
    assert_eq!(chunk.append_with_start(46_000, 30_995, &second), Outcome::Appended);
    let four = format!("{three} 0 0 0 0 0 0 10100");
    assert_eq!(chunk.as_bytes(), bytes_of(&format!("10 {:014b} 10000010 {four}", 4)));

    let mut starts = vec![];
    decode_integer(chunk.encoding(), chunk.as_bytes(), |_, start, _| starts.push(start)).unwrap();
    assert_eq!(starts, [936, 936, 15_999, 30_995]);
}

#[test]
fn golden_bits_of_float_histograms() {
    let first = FloatHistogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        count: 3.0,
        sum: 1.5,
        positive_spans: vec![Span { offset: 1, length: 1 }],
        positive_counts: vec![3.0],
        custom_bounds: vec![0.006, 33_554.431],
        ..FloatHistogram::default()
    };
    let mut chunk = FloatHistogramChunk::start(-2, &first, CounterReset::Gauge);
    // No zero threshold; schema -53 in nine bits; one span of one bucket at 1; two bounds, 6 thousandths plus 1 and one in full.
    let layout = format!(
        "00000000 1110 111001011 10001 10001 10001 0 10010 10111 0 {}",
        float_bits(33_554.431)
    );
    // Time -2; count, zero count, sum and bucket in full.
    let fields: String = [3.0, 0.0, 1.5, 3.0].map(float_bits).concat();
    let expected = format!("{:016b} 11000000 {layout} 10110 {fields}", 1);
    assert_eq!(chunk.as_bytes(), bytes_of(&expected));
    // 3 ^ 2 is bit 51: twelve zeros in front.
    let second = FloatHistogram {
        counter_reset: CounterReset::Gauge,
        count: 2.0,
        positive_counts: vec![2.0],
        ..first
    };
    assert_eq!(chunk.append(-2, &second), Outcome::Appended);
    let changed = "11 01100 000001 1";
    let expected = format!("{:016b} 11000000 {layout} 10110 {fields} 0 {changed} 0 0 {changed}", 2);
    assert_eq!(chunk.as_bytes(), bytes_of(&expected));
}

/// What is appended after what, and which header a new chunk gets.
#[test]
fn chunks_end_where_prometheus_ends_them() {
    let [first, second, third] = three_histograms();
    let stale = Histogram { sum: stale_marker(), ..Histogram::default() };
    let gauge = Histogram { counter_reset: CounterReset::Gauge, ..second.clone() };
    let check = |before: &Histogram, after: &Histogram, cut, full| {
        let mut chunk = HistogramChunk::start(1, before, first_header(before));
        assert_eq!(chunk.next_header(after), full, "{before:?} {after:?}");
        assert_eq!(chunk.append(2, after), cut, "{before:?} {after:?}");
    };
    let new = Outcome::NewChunk;
    use CounterReset::{Gauge, NotReset, Reset, Unknown};
    check(&first, &second, Outcome::Appended, NotReset);
    check(&first, &third, Outcome::Recoded, NotReset);
    check(&first, &stale, Outcome::Appended, NotReset);
    check(&stale, &stale, Outcome::Appended, NotReset);
    check(&stale, &first, new(Unknown), Unknown);
    check(&second, &first, new(Reset), Reset);
    check(&first, &Histogram { counter_reset: Reset, ..second.clone() }, new(Reset), Reset);
    check(&first, &Histogram { schema: 1, ..second.clone() }, new(Unknown), Unknown);
    check(&first, &Histogram { zero_threshold: 0.5, ..second.clone() }, new(Unknown), Unknown);
    check(&first, &Histogram { zero_count: 1, ..second.clone() }, new(Reset), Reset);
    check(&first, &Histogram { positive_deltas: vec![3, -2], ..second.clone() }, new(Reset), Reset);
    // The third bucket is gone.
    check(&third, &Histogram { count: 11, ..second.clone() }, new(Reset), Reset);
    check(&first, &gauge, new(Gauge), Gauge);
    check(&gauge, &gauge, Outcome::Appended, Gauge);
    check(&gauge, &second, new(NotReset), NotReset);
    check(&gauge, &stale, new(NotReset), NotReset);
    check(&gauge, &Histogram { counter_reset: Gauge, ..first.clone() }, Outcome::Appended, Gauge);
    check(&gauge, &Histogram { counter_reset: Gauge, ..third }, Outcome::Recoded, Gauge);
    let custom = |bounds: &[f64]| Histogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        zero_threshold: 0.0,
        zero_count: 0,
        custom_bounds: bounds.to_vec(),
        ..second.clone()
    };
    check(&custom(&[1.0, 2.0]), &custom(&[1.0, 2.0]), Outcome::Appended, NotReset);
    check(&custom(&[1.0, 2.0]), &custom(&[1.0, 3.0]), new(Reset), Reset);

    // Floats know less about what came before.
    let check = |before: &Histogram, after: &Histogram, cut, full| {
        let (before, after) = (before.to_float(), after.to_float());
        let mut chunk = FloatHistogramChunk::start(1, &before, first_header(&before));
        assert_eq!(chunk.next_header(&after), full, "{before:?} {after:?}");
        assert_eq!(chunk.append(2, &after), cut, "{before:?} {after:?}");
    };
    check(&first, &second, Outcome::Appended, NotReset);
    check(&stale, &first, new(Unknown), NotReset);
    check(&gauge, &second, new(Unknown), NotReset);
    check(&first, &Histogram { schema: 1, ..second.clone() }, new(Unknown), NotReset);
    check(&second, &first, new(Reset), Reset);
    check(&first, &gauge, new(Gauge), Gauge);
}

/// An empty bucket of the chunk that a histogram lacks is given to it; a new one in the same breath recodes the chunk to the joined spans.
#[test]
fn empty_buckets_are_inserted_on_either_side() {
    let histogram = |count: u64, spans: &[(i32, u32)], deltas: &[i64]| Histogram {
        count,
        positive_spans: spans.iter().map(|&(offset, length)| Span { offset, length }).collect(),
        positive_deltas: deltas.to_vec(),
        ..Histogram::default()
    };
    let mut chunk =
        HistogramChunk::start(1, &histogram(1, &[(0, 3)], &[0, 1, -1]), CounterReset::Unknown);
    let after = chunk.append(2, &histogram(2, &[(1, 1)], &[2]));
    assert_eq!(after, Outcome::Appended);
    assert_eq!(chunk.last().positive_deltas, [0, 2, -2]);
    let after = chunk.append(3, &histogram(5, &[(1, 1), (3, 1)], &[2, 1]));
    assert_eq!(after, Outcome::Recoded);
    let last = chunk.last();
    assert_eq!(last.positive_spans, [Span { offset: 0, length: 3 }, Span { offset: 2, length: 1 }]);
    assert_eq!(last.positive_deltas, [0, 2, -2, 3]);
}

/// A series of histograms, as it is exposed: counts by bucket, to either side.
#[derive(Clone, Debug, PartialEq)]
struct Exposed {
    t: Timestamp,
    start: Timestamp,
    gauge: bool,
    stale: bool,
    schema: i32,
    zero_count: u64,
    sum: f64,
    positive: BTreeMap<i32, i64>,
    negative: BTreeMap<i32, i64>,
}

impl Exposed {
    fn histogram(&self) -> Histogram {
        if self.stale {
            return Histogram { sum: stale_marker(), ..Histogram::default() };
        }
        let custom = self.schema == CUSTOM_BUCKETS_SCHEMA;
        let (positive_spans, positive_deltas) = sparse(&self.positive);
        let (negative_spans, negative_deltas) =
            if custom { (vec![], vec![]) } else { sparse(&self.negative) };
        Histogram {
            counter_reset: if self.gauge { CounterReset::Gauge } else { CounterReset::Unknown },
            schema: self.schema,
            zero_threshold: if custom { 0.0 } else { 0.001 },
            zero_count: if custom { 0 } else { self.zero_count },
            count: self.positive.values().sum::<i64>().unsigned_abs() + self.zero_count,
            sum: self.sum,
            positive_spans,
            negative_spans,
            positive_deltas,
            negative_deltas,
            custom_bounds: if custom { vec![0.1, 1.0, 2.5] } else { vec![] },
        }
    }
}

fn sparse(counts: &BTreeMap<i32, i64>) -> (Vec<Span>, Vec<i64>) {
    let (mut spans, mut deltas): (Vec<Span>, Vec<i64>) = (vec![], vec![]);
    let (mut next, mut before) = (0, 0);
    for (&index, &count) in counts {
        match spans.last_mut() {
            Some(span) if index == next => span.length += 1,
            _ => spans.push(Span { offset: index - next, length: 1 }),
        }
        deltas.push(count - before);
        (next, before) = (index + 1, count);
    }
    (spans, deltas)
}

/// Buckets that have observations.
fn dense(spans: &[Span], counts: impl Iterator<Item = f64>) -> Vec<(i64, f64)> {
    let mut next = 0;
    let mut indices = vec![];
    for span in spans {
        next += i64::from(span.offset);
        indices.extend(next..next + i64::from(span.length));
        next += i64::from(span.length);
    }
    indices.into_iter().zip(counts).filter(|(_, count)| *count != 0.0).collect()
}

/// All that a histogram says, however its empty buckets are written; bits, since a stale marker equals nothing.
fn meaning(histogram: &FloatHistogram) -> impl PartialEq + std::fmt::Debug + use<> {
    (
        histogram.counter_reset == CounterReset::Gauge,
        histogram.schema,
        histogram.zero_threshold.to_bits(),
        histogram.zero_count.to_bits(),
        histogram.count.to_bits(),
        histogram.sum.to_bits(),
        dense(&histogram.positive_spans, histogram.positive_counts.iter().copied()),
        dense(&histogram.negative_spans, histogram.negative_counts.iter().copied()),
        histogram.custom_bounds.clone(),
    )
}

fn step() -> impl Strategy<Value = (i64, u8, Vec<(i32, i64)>, f64)> {
    let buckets = prop::collection::vec((-6_i32..6, 0_i64..400), 0..4);
    (prop_oneof![4 => Just(15_000_i64), 1 => 1_i64..10_000_000], any::<u8>(), buckets, -9.0..9.0)
}

/// A series in which buckets come, counts grow and fall, kinds and layouts change and markers of staleness stand.
fn series() -> impl Strategy<Value = Vec<Exposed>> {
    (any::<bool>(), prop::collection::vec(step(), 1..60)).prop_map(|(gauge, steps)| {
        let mut now = Exposed {
            t: 1_700_000_000_000,
            start: 0,
            gauge,
            stale: false,
            schema: 3,
            zero_count: 0,
            sum: 0.0,
            positive: BTreeMap::new(),
            negative: BTreeMap::new(),
        };
        let mut exposed = vec![];
        for (dt, event, buckets, sum) in steps {
            now.t += dt;
            now.sum += sum;
            now.stale = event == 0;
            match event {
                1 => now.schema = if now.schema > -4 { now.schema - 1 } else { 3 },
                2 => now.schema = CUSTOM_BUCKETS_SCHEMA,
                3 => now.gauge = !now.gauge,
                4..10 => {
                    now.positive.clear();
                    now.negative.clear();
                    now.start = now.t - 1;
                }
                10..20 => drop(now.positive.pop_first()),
                20..40 => now.start += i64::from(event),
                _ => {}
            }
            now.zero_count += u64::from(event % 3);
            for (index, count) in buckets {
                *now.positive.entry(index.abs()).or_default() += count;
                if event % 2 == 0 {
                    *now.negative.entry(index).or_default() += count % 7;
                }
            }
            exposed.push(now.clone());
        }
        exposed
    })
}

/// Chunks of a series, each with the number of the sample after it.
fn written<H: NativeHistogram>(
    series: &[Exposed],
    of: impl Fn(&Histogram) -> H,
    with_starts: bool,
) -> Vec<(NativeChunk<H>, usize)> {
    let mut chunks: Vec<(NativeChunk<H>, usize)> = vec![];
    for (index, sample) in series.iter().enumerate() {
        let histogram = of(&sample.histogram());
        let header = match chunks.last_mut() {
            None => first_header(&histogram),
            Some((chunk, end)) => match chunk.append_with_start(sample.t, sample.start, &histogram)
            {
                Outcome::NewChunk(header) => header,
                Outcome::Appended | Outcome::Recoded => {
                    *end = index + 1;
                    continue;
                }
            },
        };
        let (t, start) = (sample.t, sample.start);
        let chunk = if with_starts {
            NativeChunk::start_with_starts(t, start, &histogram, header)
        } else {
            NativeChunk::start(t, &histogram, header)
        };
        chunks.push((chunk, index + 1));
    }
    chunks
}

/// Encodes what was read with the header that was read.
fn again<H: NativeHistogram>(chunk: &NativeChunk<H>, exact: impl Fn(ExactValue) -> H) -> Vec<u8> {
    let with_starts = chunk.encoding() == H::ENCODING_WITH_STARTS;
    let mut again: Option<NativeChunk<H>> = None;
    for sample in Samples::new(chunk.encoding(), chunk.as_bytes()).unwrap() {
        let sample = sample.unwrap();
        let (t, start, histogram) = (sample.t, sample.start, exact(sample.value));
        again = Some(match again {
            None if with_starts => {
                NativeChunk::start_with_starts(t, start, &histogram, chunk.header())
            }
            None => NativeChunk::start(t, &histogram, chunk.header()),
            Some(mut again) => {
                assert_eq!(again.append_with_start(t, start, &histogram), Outcome::Appended);
                again
            }
        });
    }
    again.unwrap().as_bytes().to_vec()
}

fn check_series<H: NativeHistogram>(
    series: &[Exposed],
    of: impl Fn(&Histogram) -> H,
    exact: impl Fn(ExactValue) -> H,
    with_starts: bool,
) {
    let mut begin = 0;
    for (chunk, end) in written(series, &of, with_starts) {
        let mut columns = Columns::new();
        decode(chunk.encoding(), chunk.as_bytes(), TimeRange::ALL, &mut columns).unwrap();
        assert_eq!(columns.len(), end - begin);
        for (row, sample) in series[begin..end].iter().enumerate() {
            let read = columns.histogram(row).unwrap();
            assert_eq!(columns.times()[row], sample.t);
            assert_eq!(columns.start(row), if with_starts { sample.start } else { 0 });
            assert_eq!(meaning(read), meaning(&sample.histogram().to_float()));
            let expected = match read.counter_reset {
                _ if sample.stale => CounterReset::Unknown,
                CounterReset::Gauge => CounterReset::Gauge,
                _ if row == 0 => CounterReset::Unknown,
                _ => CounterReset::NotReset,
            };
            assert_eq!(read.counter_reset, expected);
        }
        // Nothing was reset within a chunk of counters.
        for (earlier, later) in series[begin..end].iter().zip(&series[begin + 1..end]) {
            let fell =
                earlier.positive.iter().any(|(i, n)| later.positive.get(i).unwrap_or(&0) < n);
            assert!(!fell || earlier.gauge || later.stale || earlier.stale);
        }
        assert_eq!(again(&chunk, &exact), chunk.as_bytes());
        begin = end;
    }
    assert_eq!(begin, series.len());
}

fn integer(value: ExactValue) -> Histogram {
    match value {
        ExactValue::Histogram(histogram) => histogram,
        other => panic!("{other:?}"),
    }
}

fn float(value: ExactValue) -> FloatHistogram {
    match value {
        ExactValue::FloatHistogram(histogram) => histogram,
        other => panic!("{other:?}"),
    }
}

/// A chunk of each encoding of histograms.
fn one_of_each(series: &[Exposed]) -> Vec<(Encoding, Vec<u8>)> {
    let mut chunks = vec![];
    for with_starts in [false, true] {
        let (chunk, _) = written(series, Clone::clone, with_starts).swap_remove(0);
        chunks.push((chunk.encoding(), chunk.as_bytes().to_vec()));
        let (chunk, _) = written(series, Histogram::to_float, with_starts).swap_remove(0);
        chunks.push((chunk.encoding(), chunk.as_bytes().to_vec()));
    }
    chunks
}

proptest! {
    #[test]
    fn round_trip_of_integer_histograms(series in series(), with_starts in any::<bool>()) {
        check_series(&series, Clone::clone, integer, with_starts);
    }

    #[test]
    fn round_trip_of_float_histograms(series in series(), with_starts in any::<bool>()) {
        check_series(&series, Histogram::to_float, float, with_starts);
    }

    #[test]
    fn a_resumed_chunk_grows_as_if_it_had_never_stopped(
        series in series(),
        at in any::<prop::sample::Index>(),
        with_starts in any::<bool>(),
    ) {
        let (chunk, end) = written(&series, Clone::clone, with_starts).swap_remove(0);
        let at = at.index(end) + 1;
        let (stopped, _) = written(&series[..at], Clone::clone, with_starts).swap_remove(0);
        let mut resumed = HistogramChunk::resume(stopped.encoding(), stopped.as_bytes()).unwrap();
        for sample in &series[at..end] {
            let outcome = resumed.append_with_start(sample.t, sample.start, &sample.histogram());
            prop_assert!(!matches!(outcome, Outcome::NewChunk(_)));
        }
        prop_assert_eq!(resumed.as_bytes(), chunk.as_bytes());
        if let Some(next) = series.get(end) {
            prop_assert!(matches!(resumed.append(next.t, &next.histogram()), Outcome::NewChunk(_)));
        }
    }

    #[test]
    fn a_range_is_cut_out(series in series(), from in 0_i64..900_000, len in 0_i64..900_000) {
        let min = 1_700_000_000_000 + from;
        let range = TimeRange::new(min, min + len);
        for (encoding, bytes) in one_of_each(&series) {
            let (mut whole, mut part) = (Columns::new(), Columns::new());
            decode(encoding, &bytes, TimeRange::ALL, &mut whole).unwrap();
            decode(encoding, &bytes, range, &mut part).unwrap();
            let expected: Vec<_> =
                whole.times().iter().copied().filter(|&t| range.contains(t)).collect();
            prop_assert_eq!(part.times(), expected);
        }
    }

    #[test]
    fn any_bytes_are_decoded_without_panic(
        encoding in 1_u8..=6,
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let encoding = Encoding::from_number(encoding).unwrap();
        let _ = decode(encoding, &bytes, TimeRange::ALL, &mut Columns::new());
    }
}

// Each case decodes a chunk many times over.
proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_prefix_is_refused(series in series()) {
        for (encoding, bytes) in one_of_each(&series) {
            for len in 0..bytes.len() {
                let mut columns = Columns::new();
                let result = decode(encoding, &bytes[..len], TimeRange::ALL, &mut columns);
                prop_assert!(result.is_err(), "{} of {} bytes", len, bytes.len());
            }
        }
    }

    #[test]
    fn damage_is_no_panic(
        series in series(),
        flips in prop::collection::vec(any::<prop::sample::Index>(), 1..6),
    ) {
        for (encoding, mut bytes) in one_of_each(&series) {
            for flip in &flips {
                let bit = flip.index(bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
                let _ = decode(encoding, &bytes, TimeRange::ALL, &mut Columns::new());
                if let Ok(mut resumed) = HistogramChunk::resume(encoding, &bytes) {
                    // Whatever it holds now, it takes in histograms or refuses them.
                    for sample in &series {
                        let _ = resumed.append(sample.t, &sample.histogram());
                    }
                }
            }
        }
    }
}

/// A few bytes must not ask for memory by the GiB: neither a span of four billion buckets nor many samples of many spans.
#[test]
fn what_a_chunk_asks_for_is_bounded() {
    // 0 threshold, schema 0, one span: length 2^32 - 1 in 56 bits.
    let bits = format!("{:016b} 00000000 00000000 0 10001 11111110 {:056b} 0 0", 1, u32::MAX);
    let mut bytes = bytes_of(&bits);
    bytes.extend([0; 100]);
    let decode =
        |bytes: &[u8]| decode(Encoding::Histogram, bytes, TimeRange::ALL, &mut Columns::new());
    assert_eq!(decode(&bytes), Err(ChunkError::Malformed(0)));
    // 100,000 buckets, and bits for 800.
    let bits = format!("{:016b} 00000000 00000000 0 10001 111110 {:018b} 0 0", 1, 100_000);
    let mut bytes = bytes_of(&bits);
    bytes.extend([0; 100]);
    assert_eq!(decode(&bytes), Err(ChunkError::Truncated { decoded: 0, announced: 1 }));
    // 10,000 spans of nothing, two bits each, and 65,535 samples of four bits.
    let bits = format!("{:016b} 00000000 00000000 0 111110 {:018b}", u16::MAX, 10_000);
    let mut bytes = bytes_of(&bits);
    bytes.extend([0; 40_000]);
    assert_eq!(decode(&bytes), Err(ChunkError::TooLarge));
}

/// What a chunk takes in can be read back: it is full before it has more bounds and samples than a reader accepts.
#[test]
fn a_chunk_is_full_before_it_is_too_large() {
    let bounds: Vec<_> = (0..1 << 13).map(f64::from).collect();
    let histogram = |count| Histogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        count,
        sum: 1.0,
        custom_bounds: bounds.clone(),
        ..Histogram::default()
    };
    let mut chunk = HistogramChunk::start(0, &histogram(0), CounterReset::Unknown);
    let mut t = 1;
    while chunk.append(t, &histogram(t.unsigned_abs())) == Outcome::Appended {
        t += 1;
    }
    assert_eq!(t, 1 << 9);
    let end = chunk.append(t, &histogram(t.unsigned_abs()));
    assert_eq!(end, Outcome::NewChunk(CounterReset::NotReset));
    let range = TimeRange::new(t - 1, t);
    let mut columns = Columns::new();
    decode(chunk.encoding(), chunk.as_bytes(), range, &mut columns).unwrap();
    assert_eq!(columns.times(), [t - 1]);
}

#[test]
fn schemas_beyond_the_known_are_refused_and_fine_ones_made_coarser() {
    let [first, ..] = three_histograms();
    let decode = |schema| {
        let histogram = Histogram { schema, ..first.clone() };
        let chunk = HistogramChunk::start(1, &histogram, CounterReset::Unknown);
        let mut columns = Columns::new();
        let result = decode(chunk.encoding(), chunk.as_bytes(), TimeRange::ALL, &mut columns);
        result.map(|()| columns.histogram(0).unwrap().as_ref().clone())
    };
    assert_eq!(decode(53), Err(ChunkError::UnknownSchema(53)));
    assert_eq!(decode(-5), Err(ChunkError::UnknownSchema(-5)));
    assert_eq!(decode(8).unwrap().positive_counts, [1.0, 2.0]);
    // Buckets 0 and 1 of schema 9 lie in 0 and 1 of schema 8.
    let coarse = decode(9).unwrap();
    assert_eq!((coarse.schema, coarse.positive_counts), (8, vec![1.0, 2.0]));
}
