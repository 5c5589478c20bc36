//! The content of log records: series and their samples.
//!
//! Format: `docs/formats/wal.md`. Records of other kinds (histograms, exemplars, metadata, tombstones) are recognised, so that they can
//! be counted, and not decoded.

use model::{Labels, Timestamp};

use crate::bytes::{Bytes, DecodeError, put_str, put_uvarint, put_varint};

const SERIES: u8 = 1;
const SAMPLES: u8 = 2;
const SAMPLES_WITH_START: u8 = 11;

/// Labels of one series in a record; more is damage.
const LABELS_MAX: usize = 1 << 16;

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Series,
    /// Float samples, with or without start timestamps.
    Samples,
    /// Of a kind that is not kept; its name for logs and metrics.
    Other(&'static str),
}

/// The kind of a record.
pub(crate) fn kind(record: &[u8]) -> Kind {
    match record.first().copied() {
        Some(SERIES) => Kind::Series,
        Some(SAMPLES | SAMPLES_WITH_START) => Kind::Samples,
        Some(3) => Kind::Other("tombstones"),
        Some(4) => Kind::Other("exemplars"),
        Some(5) => Kind::Other("mmap_markers"),
        Some(6) => Kind::Other("metadata"),
        Some(7..=10 | 12 | 13) => Kind::Other("histogram_samples"),
        _ => Kind::Other("unknown"),
    }
}

/// One sample of a record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RefSample {
    pub(crate) series: u64,
    pub(crate) t: Timestamp,
    pub(crate) v: f64,
}

/// Adds a series to a record; `record` is empty or holds series already.
pub(crate) fn put_series(record: &mut Vec<u8>, series: u64, labels: &Labels) {
    put_series_pairs(record, series, labels.iter().map(|label| (label.name, label.value)));
}

/// As [`put_series`], from pairs sorted by name.
pub(crate) fn put_series_pairs<'a>(
    record: &mut Vec<u8>,
    series: u64,
    pairs: impl Iterator<Item = (&'a str, &'a str)> + Clone,
) {
    if record.is_empty() {
        record.push(SERIES);
    }
    record.extend_from_slice(&series.to_be_bytes());
    put_uvarint(record, pairs.clone().count() as u64);
    for (name, value) in pairs {
        put_str(record, name);
        put_str(record, value);
    }
}

/// Writes `samples` as a record; leaves `record` empty when there are none.
pub(crate) fn put_samples(record: &mut Vec<u8>, samples: impl Iterator<Item = RefSample>) {
    let mut samples = samples.peekable();
    let Some(&first) = samples.peek() else { return };
    record.push(SAMPLES);
    record.extend_from_slice(&first.series.to_be_bytes());
    record.extend_from_slice(&first.t.to_be_bytes());
    for sample in samples {
        put_varint(record, sample.series.wrapping_sub(first.series).cast_signed());
        put_varint(record, sample.t.wrapping_sub(first.t));
        record.extend_from_slice(&sample.v.to_bits().to_be_bytes());
    }
}

/// Calls `on_series` with each series of a record, labels sorted by name.
pub(crate) fn read_series(
    record: &[u8],
    mut on_series: impl FnMut(u64, &[(&str, &str)]),
) -> Result<(), DecodeError> {
    let mut bytes = Bytes::new(record);
    if bytes.u8()? != SERIES {
        return Err(DecodeError::Invalid("not a series record"));
    }
    let mut pairs = Vec::new();
    while !bytes.is_empty() {
        let series = bytes.be64()?;
        let count = bytes.uvarint_len()?;
        if count > LABELS_MAX {
            return Err(DecodeError::Range);
        }
        pairs.clear();
        for _ in 0..count {
            let (name, value) = (bytes.str()?, bytes.str()?);
            // Absent and empty are the same.
            if !value.is_empty() {
                pairs.push((name, value));
            }
        }
        pairs.sort_unstable();
        if pairs.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(DecodeError::Invalid("label name is not unique"));
        }
        on_series(series, &pairs);
    }
    Ok(())
}

/// Appends the samples of a record to `samples`.
pub(crate) fn read_samples(record: &[u8], samples: &mut Vec<RefSample>) -> Result<(), DecodeError> {
    let mut bytes = Bytes::new(record);
    match bytes.u8()? {
        SAMPLES => read_plain(bytes, samples),
        SAMPLES_WITH_START => read_with_start(bytes, samples),
        _ => Err(DecodeError::Invalid("not a samples record")),
    }
}

fn read_plain(mut bytes: Bytes<'_>, samples: &mut Vec<RefSample>) -> Result<(), DecodeError> {
    if bytes.is_empty() {
        return Ok(());
    }
    let first_series = bytes.be64()?;
    let first_t = bytes.be64()?.cast_signed();
    while !bytes.is_empty() {
        let series = first_series.wrapping_add(bytes.varint()?.cast_unsigned());
        let t = first_t.wrapping_add(bytes.varint()?);
        samples.push(RefSample { series, t, v: f64::from_bits(bytes.be64()?) });
    }
    Ok(())
}

/// Refs are relative to the sample before, times to the first; start timestamps are passed over.
fn read_with_start(mut bytes: Bytes<'_>, samples: &mut Vec<RefSample>) -> Result<(), DecodeError> {
    const EXPLICIT: u8 = 2;
    if bytes.is_empty() {
        return Ok(());
    }
    let mut series = bytes.varint()?.cast_unsigned();
    let first_t = bytes.varint()?;
    bytes.varint()?;
    samples.push(RefSample { series, t: first_t, v: f64::from_bits(bytes.be64()?) });
    while !bytes.is_empty() {
        series = series.wrapping_add(bytes.varint()?.cast_unsigned());
        let t = first_t.wrapping_add(bytes.varint()?);
        match bytes.u8()? {
            0 | 1 => {}
            EXPLICIT => {
                bytes.varint()?;
            }
            _ => return Err(DecodeError::Invalid("start timestamp marker is unknown")),
        }
        samples.push(RefSample { series, t, v: f64::from_bits(bytes.be64()?) });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn samples_of(record: &[u8]) -> Result<Vec<RefSample>, DecodeError> {
        let mut samples = vec![];
        read_samples(record, &mut samples).map(|()| samples)
    }

    fn series_of(record: &[u8]) -> Result<Vec<(u64, String)>, DecodeError> {
        let mut series = vec![];
        read_series(record, |id, pairs| {
            series.push((id, Labels::from_pairs(pairs.iter().copied()).unwrap().to_string()));
        })
        .map(|()| series)
    }

    #[test]
    fn golden_series() {
        let mut record = vec![];
        put_series(&mut record, 0x0102, &Labels::from_pairs([("b", "x"), ("aa", "é")]).unwrap());
        assert_eq!(record, b"\x01\0\0\0\0\0\0\x01\x02\x02\x02aa\x02\xc3\xa9\x01b\x01x");
    }

    #[test]
    fn golden_samples() {
        let mut record = vec![];
        let samples =
            [RefSample { series: 5, t: 1000, v: 1.0 }, RefSample { series: 4, t: 1001, v: 2.0 }];
        put_samples(&mut record, samples.into_iter());
        let mut expected = vec![2, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 3, 0xe8];
        expected.extend([0, 0, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0]);
        expected.extend([1, 2, 0x40, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(record, expected);
    }

    #[test]
    fn samples_with_start_timestamps_are_read() {
        // Series 5 at 10 from 3, series 6 at 12 the same start, series 6 at 14 from 7 explicitly.
        let mut record = vec![11, 10, 20, 6];
        record.extend(1.0_f64.to_bits().to_be_bytes());
        record.extend([2, 4, 1]);
        record.extend(2.0_f64.to_bits().to_be_bytes());
        record.extend([0, 8, 2, 8]);
        record.extend(3.0_f64.to_bits().to_be_bytes());
        let expected = [(5, 10, 1.0), (6, 12, 2.0), (6, 14, 3.0)].map(|(series, t, v)| RefSample {
            series,
            t,
            v,
        });
        assert_eq!(samples_of(&record).unwrap(), expected);
    }

    #[test]
    fn kinds_are_recognised() {
        let names = [3, 4, 6, 7, 13, 200].map(|byte| kind(&[byte]));
        let expected = [
            "tombstones",
            "exemplars",
            "metadata",
            "histogram_samples",
            "histogram_samples",
            "unknown",
        ];
        assert_eq!(names, expected.map(Kind::Other));
        assert_eq!(kind(&[]), Kind::Other("unknown"));
    }

    #[test]
    fn a_name_must_be_unique() {
        let record = b"\x01\0\0\0\0\0\0\0\x01\x02\x01a\x01b\x01a\x01c";
        assert_eq!(series_of(record), Err(DecodeError::Invalid("label name is not unique")));
    }

    proptest! {
        #[test]
        fn round_trip_of_samples(input in prop::collection::vec((any::<u64>(), any::<i64>(), any::<u64>()), 1..50)) {
            let mut record = vec![];
            let samples = input.iter().map(|&(series, t, v)| RefSample { series, t, v: f64::from_bits(v) });
            put_samples(&mut record, samples);
            let found = samples_of(&record).unwrap();
            let bits: Vec<_> = found.iter().map(|s| (s.series, s.t, s.v.to_bits())).collect();
            prop_assert_eq!(bits, input);
            for len in 17..record.len() {
                if let Ok(found) = samples_of(&record[..len]) {
                    prop_assert!(found.len() < input_len(&record, len));
                }
            }
        }

        #[test]
        fn round_trip_of_series(input in prop::collection::vec(
            (any::<u64>(), prop::collection::btree_map("[a-z]{1,5}", ".{1,8}", 0..6)), 1..10))
        {
            let mut record = vec![];
            let mut expected = vec![];
            for (id, pairs) in &input {
                let labels = Labels::from_pairs(pairs).unwrap();
                put_series(&mut record, *id, &labels);
                expected.push((*id, labels.to_string()));
            }
            prop_assert_eq!(series_of(&record).unwrap(), expected);
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = samples_of(&bytes);
            let _ = series_of(&bytes);
        }
    }

    /// More samples than `len` bytes of `record` can hold.
    fn input_len(record: &[u8], len: usize) -> usize {
        assert!(len < record.len());
        (len - 17) / 10 + 1
    }
}
