//! Native histograms in log records.
//!
//! There is a kind of record for integer and one for float histograms, and another pair for those with custom buckets, so that readers which
//! do not know custom buckets can pass over them.

use std::collections::HashMap;
use std::sync::Arc;

use model::{
    CUSTOM_BUCKETS_SCHEMA, CounterReset, EXPONENTIAL_SCHEMA_MAX, EXPONENTIAL_SCHEMA_MIN,
    FloatHistogram, Histogram, HistogramValue, Span, Timestamp,
};

use super::{Base, PlaceWithStart};
use crate::bytes::{Bytes, DecodeError, put_uvarint, put_varint};

const INTEGER: u8 = 7;
const FLOAT: u8 = 8;
const INTEGER_CUSTOM: u8 = 9;
const FLOAT_CUSTOM: u8 = 10;
const INTEGER_WITH_START: u8 = 12;
const FLOAT_WITH_START: u8 = 13;

/// One histogram of a record.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RefHistogram {
    pub(crate) series: u64,
    pub(crate) t: Timestamp,
    /// Start timestamp; 0 if unknown.
    pub(crate) start: Timestamp,
    pub(crate) histogram: HistogramValue,
}

/// Whether records with this number hold histograms.
pub(super) const fn is_kind(number: u8) -> bool {
    matches!(number, INTEGER..=FLOAT_CUSTOM | INTEGER_WITH_START | FLOAT_WITH_START)
}

/// The number of the record that `histogram` belongs into.
fn number_of(histogram: &HistogramValue) -> u8 {
    match histogram {
        HistogramValue::Integer(h) if h.schema == CUSTOM_BUCKETS_SCHEMA => INTEGER_CUSTOM,
        HistogramValue::Integer(_) => INTEGER,
        HistogramValue::Float(h) if h.schema == CUSTOM_BUCKETS_SCHEMA => FLOAT_CUSTOM,
        HistogramValue::Float(_) => FLOAT,
    }
}

/// A histogram to be written: of which series, when.
type Logged<'a> = (u64, Timestamp, &'a HistogramValue);

/// Writes `histograms` as one record for each kind among them, or more so that those of a series stay in order; `records` is made to hold just these.
pub(crate) fn put<'a>(records: &mut Vec<Vec<u8>>, histograms: impl Iterator<Item = Logged<'a>>) {
    records.clear();
    let histograms: Vec<_> = histograms.collect();
    let same_kind = |a: &Logged<'_>, b: &Logged<'_>| number_of(a.2) == number_of(b.2);
    if changes_kind(&histograms) {
        let runs = histograms.chunk_by(same_kind);
        records.extend(runs.map(|run| put_record(number_of(run[0].2), run.iter())));
        return;
    }
    for number in INTEGER..=FLOAT_CUSTOM {
        let of_kind = histograms.iter().filter(|(_, _, histogram)| number_of(histogram) == number);
        let record = put_record(number, of_kind);
        if !record.is_empty() {
            records.push(record);
        }
    }
}

/// Whether a series has histograms of several kinds.
fn changes_kind(histograms: &[Logged<'_>]) -> bool {
    let Some((_, _, first)) = histograms.first() else { return false };
    if histograms.iter().all(|(_, _, histogram)| number_of(histogram) == number_of(first)) {
        return false;
    }
    let mut kinds = HashMap::with_capacity(histograms.len());
    histograms.iter().any(|(series, _, histogram)| {
        let number = number_of(histogram);
        *kinds.entry(*series).or_insert(number) != number
    })
}

/// A record of histograms of one kind; nothing if there are none.
fn put_record<'a>(number: u8, histograms: impl Iterator<Item = &'a Logged<'a>>) -> Vec<u8> {
    let mut record = Vec::new();
    let mut base = None;
    for &(series, t, histogram) in histograms {
        let base = base.get_or_insert_with(|| {
            record.push(number);
            Base::put(&mut record, series, t)
        });
        base.put_delta(&mut record, series, t);
        put_value(&mut record, histogram);
    }
    record
}

/// Writes histograms of one kind, integer or float, with their start timestamps as a record; leaves it empty when there are none.
pub(crate) fn put_with_starts<'a>(
    record: &mut Vec<u8>,
    histograms: impl Iterator<Item = &'a RefHistogram>,
) {
    let mut place = PlaceWithStart::default();
    for RefHistogram { series, t, start, histogram } in histograms {
        if record.is_empty() {
            record.push(match histogram {
                HistogramValue::Integer(_) => INTEGER_WITH_START,
                HistogramValue::Float(_) => FLOAT_WITH_START,
            });
        }
        place.put(record, *series, *t, *start);
        put_value(record, histogram);
    }
}

/// Whether records with this number hold start timestamps.
pub(crate) const fn has_starts(number: u8) -> bool {
    matches!(number, INTEGER_WITH_START | FLOAT_WITH_START)
}

/// Whether a record of number `next` right after one of number `number` may be the other half of what was appended together: Prometheus puts
/// histograms with custom buckets into a record of their own.
pub(crate) const fn may_belong_together(number: u8, next: u8) -> bool {
    matches!((number, next), (INTEGER, INTEGER_CUSTOM) | (FLOAT, FLOAT_CUSTOM))
}

fn put_value(record: &mut Vec<u8>, histogram: &HistogramValue) {
    match histogram {
        HistogramValue::Integer(h) => {
            put_start(record, h.counter_reset, h.schema, h.zero_threshold);
            put_uvarint(record, h.zero_count);
            put_uvarint(record, h.count);
            put_f64(record, h.sum);
            put_spans(record, &h.positive_spans);
            put_spans(record, &h.negative_spans);
            put_list(record, &h.positive_deltas, |record, delta| put_varint(record, *delta));
            put_list(record, &h.negative_deltas, |record, delta| put_varint(record, *delta));
            put_bounds(record, h.schema, &h.custom_bounds);
        }
        HistogramValue::Float(h) => {
            put_start(record, h.counter_reset, h.schema, h.zero_threshold);
            put_f64(record, h.zero_count);
            put_f64(record, h.count);
            put_f64(record, h.sum);
            put_spans(record, &h.positive_spans);
            put_spans(record, &h.negative_spans);
            put_list(record, &h.positive_counts, |record, count| put_f64(record, *count));
            put_list(record, &h.negative_counts, |record, count| put_f64(record, *count));
            put_bounds(record, h.schema, &h.custom_bounds);
        }
    }
}

fn put_f64(record: &mut Vec<u8>, value: f64) {
    record.extend_from_slice(&value.to_bits().to_be_bytes());
}

fn put_start(record: &mut Vec<u8>, reset: CounterReset, schema: i32, zero_threshold: f64) {
    record.push(match reset {
        CounterReset::Unknown => 0,
        CounterReset::Reset => 1,
        CounterReset::NotReset => 2,
        CounterReset::Gauge => 3,
    });
    put_varint(record, i64::from(schema));
    put_f64(record, zero_threshold);
}

fn put_spans(record: &mut Vec<u8>, spans: &[Span]) {
    put_list(record, spans, |record, span| {
        put_varint(record, i64::from(span.offset));
        put_uvarint(record, u64::from(span.length));
    });
}

fn put_bounds(record: &mut Vec<u8>, schema: i32, bounds: &[f64]) {
    if schema == CUSTOM_BUCKETS_SCHEMA {
        put_list(record, bounds, |record, bound| put_f64(record, *bound));
    }
}

fn put_list<T>(record: &mut Vec<u8>, items: &[T], put: impl Fn(&mut Vec<u8>, &T)) {
    put_uvarint(record, items.len() as u64);
    for item in items {
        put(record, item);
    }
}

/// Calls `on_histogram` with each histogram of a record. Those of a schema that this version does not know are left out; how many.
pub(crate) fn read(
    record: &[u8],
    mut on_histogram: impl FnMut(RefHistogram),
) -> Result<u64, DecodeError> {
    let mut bytes = Bytes::new(record);
    let number = bytes.u8()?;
    let is_float = matches!(number, FLOAT | FLOAT_CUSTOM | FLOAT_WITH_START);
    let mut place = match number {
        _ if bytes.is_empty() => return Ok(0),
        INTEGER..=FLOAT_CUSTOM => Place::Relative(Base::read(&mut bytes)?),
        INTEGER_WITH_START | FLOAT_WITH_START => Place::WithStart(PlaceWithStart::default()),
        _ => return Err(DecodeError::Invalid("not a record of histograms")),
    };
    let mut unknown = 0;
    while !bytes.is_empty() {
        let (series, t, start) = match &mut place {
            Place::Relative(base) => {
                let (series, t) = base.read_delta(&mut bytes)?;
                (series, t, 0)
            }
            Place::WithStart(place) => place.next(&mut bytes)?,
        };
        let histogram = read_value(&mut bytes, is_float)?;
        match histogram {
            Some(histogram) => on_histogram(RefHistogram { series, t, start, histogram }),
            None => unknown += 1,
        }
    }
    Ok(unknown)
}

enum Place {
    Relative(Base),
    WithStart(PlaceWithStart),
}

/// A histogram; `None` if its schema is unknown.
fn read_value(
    bytes: &mut Bytes<'_>,
    is_float: bool,
) -> Result<Option<HistogramValue>, DecodeError> {
    let counter_reset = match bytes.u8()? {
        1 => CounterReset::Reset,
        2 => CounterReset::NotReset,
        3 => CounterReset::Gauge,
        _ => CounterReset::Unknown,
    };
    let schema = i32::try_from(bytes.varint()?).map_err(|_| DecodeError::Range)?;
    let zero_threshold = read_f64(bytes)?;
    let is_known = schema == CUSTOM_BUCKETS_SCHEMA
        || (EXPONENTIAL_SCHEMA_MIN..=EXPONENTIAL_SCHEMA_MAX).contains(&schema);
    let value = if is_float {
        let mut h = FloatHistogram {
            counter_reset,
            schema,
            zero_threshold,
            zero_count: read_f64(bytes)?,
            count: read_f64(bytes)?,
            sum: read_f64(bytes)?,
            positive_spans: read_list(bytes, read_span)?,
            negative_spans: read_list(bytes, read_span)?,
            positive_counts: read_list(bytes, read_f64)?,
            negative_counts: read_list(bytes, read_f64)?,
            custom_bounds: Vec::new(),
        };
        h.custom_bounds = read_bounds(bytes, schema)?;
        check_buckets(&h.positive_spans, h.positive_counts.len())?;
        check_buckets(&h.negative_spans, h.negative_counts.len())?;
        HistogramValue::Float(Arc::new(h))
    } else {
        let mut h = Histogram {
            counter_reset,
            schema,
            zero_threshold,
            zero_count: bytes.uvarint()?,
            count: bytes.uvarint()?,
            sum: read_f64(bytes)?,
            positive_spans: read_list(bytes, read_span)?,
            negative_spans: read_list(bytes, read_span)?,
            positive_deltas: read_list(bytes, Bytes::varint)?,
            negative_deltas: read_list(bytes, Bytes::varint)?,
            custom_bounds: Vec::new(),
        };
        h.custom_bounds = read_bounds(bytes, schema)?;
        check_buckets(&h.positive_spans, h.positive_deltas.len())?;
        check_buckets(&h.negative_spans, h.negative_deltas.len())?;
        HistogramValue::Integer(Arc::new(h))
    };
    Ok(is_known.then_some(value))
}

/// Spans must announce the buckets that follow: code that walks both relies on it.
fn check_buckets(spans: &[Span], buckets: usize) -> Result<(), DecodeError> {
    let announced: u64 = spans.iter().map(|span| u64::from(span.length)).sum();
    if announced == buckets as u64 {
        return Ok(());
    }
    Err(DecodeError::Invalid("spans of a histogram do not match its buckets"))
}

fn read_f64(bytes: &mut Bytes<'_>) -> Result<f64, DecodeError> {
    Ok(f64::from_bits(bytes.be64()?))
}

fn read_span(bytes: &mut Bytes<'_>) -> Result<Span, DecodeError> {
    let offset = i32::try_from(bytes.varint()?).map_err(|_| DecodeError::Range)?;
    Ok(Span { offset, length: bytes.uvarint32()? })
}

fn read_bounds(bytes: &mut Bytes<'_>, schema: i32) -> Result<Vec<f64>, DecodeError> {
    if schema == CUSTOM_BUCKETS_SCHEMA { read_list(bytes, read_f64) } else { Ok(Vec::new()) }
}

fn read_list<'b, T>(
    bytes: &mut Bytes<'b>,
    read: impl Fn(&mut Bytes<'b>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let count = bytes.uvarint_len()?;
    // An item has a byte at least.
    if count > bytes.len() {
        return Err(DecodeError::End);
    }
    (0..count).map(|_| read(bytes)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn integer(schema: i32) -> HistogramValue {
        let custom = schema == CUSTOM_BUCKETS_SCHEMA;
        Histogram {
            counter_reset: CounterReset::NotReset,
            schema,
            zero_threshold: 0.001,
            zero_count: 2,
            count: 300,
            sum: 1.0,
            positive_spans: vec![Span { offset: 0, length: 2 }, Span { offset: 1, length: 1 }],
            negative_spans: vec![Span { offset: -1, length: 1 }],
            positive_deltas: vec![1, 1, -1],
            negative_deltas: vec![3],
            custom_bounds: if custom { vec![2.0, 4.0] } else { vec![] },
        }
        .into()
    }

    fn float(schema: i32) -> HistogramValue {
        (*integer(schema).to_float()).clone().into()
    }

    fn read_all(record: &[u8]) -> Result<Vec<RefHistogram>, DecodeError> {
        let mut all = vec![];
        read(record, |histogram| all.push(histogram)).map(|_| all)
    }

    #[test]
    fn golden_integer() {
        let mut records = vec![];
        put(&mut records, [(5, 1000, &integer(1))].into_iter());
        let mut expected = vec![7, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 3, 0xe8, 0, 0];
        // Not reset, schema 1, 0.001 is 3f50624dd2f1a9fc, then counts and the sum.
        expected.extend([2, 2, 0x3f, 0x50, 0x62, 0x4d, 0xd2, 0xf1, 0xa9, 0xfc, 2, 0xac, 2]);
        expected.extend([0x3f, 0xf0, 0, 0, 0, 0, 0, 0]);
        expected.extend([2, 0, 2, 2, 1, 1, 1, 1]);
        expected.extend([3, 2, 2, 1, 1, 6]);
        assert_eq!(records, [expected]);
    }

    #[test]
    fn each_kind_goes_to_its_record_and_comes_back() {
        let values = [integer(1), float(3), integer(-53), float(-53), integer(-4)];
        let mut records = vec![];
        put(&mut records, (1..).zip(&values).map(|(series, value)| (series, 7, value)));
        let numbers: Vec<u8> = records.iter().map(|record| record[0]).collect();
        assert_eq!(numbers, [7, 8, 9, 10]);
        let mut read: Vec<RefHistogram> =
            records.iter().flat_map(|record| read_all(record).unwrap()).collect();
        read.sort_by_key(|histogram| histogram.series);
        for (found, (series, value)) in read.iter().zip((1..).zip(&values)) {
            assert_eq!((found.series, found.t, &found.histogram), (series, 7, value));
        }
        for record in &records {
            for len in 18..record.len() {
                let found = read_all(&record[..len]);
                assert!(found.is_err() || found.unwrap().len() < 3, "{len}");
            }
        }
    }

    #[test]
    fn start_timestamps_are_read_and_written() {
        let mut plain = vec![];
        put(&mut plain, [(5, 1000, &integer(1))].into_iter());
        let value = &plain[0][19..];
        // Series 5 at 10 from 3, series 6 at 12 with the same start, series 6 at 14 from 7 explicitly.
        let mut record = vec![INTEGER_WITH_START, 10, 20, 6];
        record.extend_from_slice(value);
        record.extend([2, 4, 1]);
        record.extend_from_slice(value);
        record.extend([0, 8, 2, 8]);
        record.extend_from_slice(value);
        let found = read_all(&record).unwrap();
        let places: Vec<(u64, i64, i64)> =
            found.iter().map(|found| (found.series, found.t, found.start)).collect();
        assert_eq!(places, [(5, 10, 3), (6, 12, 3), (6, 14, 7)]);
        assert!(found.iter().all(|found| found.histogram == integer(1)));
        let mut written = vec![];
        put_with_starts(&mut written, found.iter());
        assert_eq!(written, record);

        let of_floats = RefHistogram { histogram: float(1), ..found[0].clone() };
        let mut written = vec![];
        put_with_starts(&mut written, [&of_floats].into_iter());
        assert_eq!((written[0], read_all(&written).unwrap()), (FLOAT_WITH_START, vec![of_floats]));
    }

    #[test]
    fn what_contradicts_itself_is_refused_and_unknown_schemas_are_counted() {
        let mut records = vec![];
        let mut wrong = Histogram { positive_deltas: vec![1], ..Histogram::default() };
        put(&mut records, [(1, 1, &wrong.clone().into())].into_iter());
        assert!(read_all(&records[0]).is_err());
        (wrong.schema, wrong.positive_spans) = (40, vec![Span { offset: 0, length: 1 }]);
        put(&mut records, [(1, 1, &wrong.into())].into_iter());
        assert_eq!(read(&records[0], |_| panic!("unknown")), Ok(1));
    }
}
