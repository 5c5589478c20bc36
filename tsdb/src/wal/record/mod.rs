//! The content of log records: series, their samples, and what else is logged about them.
//!
//! Format: `docs/formats/wal.md`. Every kind that a Prometheus 3 writes is read: numbers 1 to 13. Written are 1 to 10; the kinds with start
//! timestamps (11 to 13) are written for what a Prometheus logged with them: to checkpoints, and where a damaged log is mended.

pub(crate) mod histograms;

use chunkenc::varint::{low_seven, zigzag};
use model::{Exemplar, Labels, Metadata, Timestamp};

use crate::bytes::{Bytes, DecodeError, put_str, put_uvarint, put_varint};

const SERIES: u8 = 1;
const SAMPLES: u8 = 2;
const TOMBSTONES: u8 = 3;
const EXEMPLARS: u8 = 4;
const MMAP_MARKERS: u8 = 5;
const METADATA: u8 = 6;
const SAMPLES_WITH_START: u8 = 11;

/// Labels of one series in a record; more is damage.
const LABELS_MAX: usize = 1 << 16;

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Series,
    /// Float samples, with or without start timestamps.
    Samples,
    /// Spans of time that were deleted.
    Tombstones,
    Exemplars,
    /// Out-of-order chunks that were written out.
    MmapMarkers,
    Metadata,
    /// Native histograms of either kind, with or without start timestamps.
    Histograms,
    /// Of a kind that this version does not know.
    Unknown,
}

/// The kind of a record.
pub(crate) fn kind(record: &[u8]) -> Kind {
    match record.first().copied() {
        Some(SERIES) => Kind::Series,
        Some(SAMPLES | SAMPLES_WITH_START) => Kind::Samples,
        Some(TOMBSTONES) => Kind::Tombstones,
        Some(EXEMPLARS) => Kind::Exemplars,
        Some(MMAP_MARKERS) => Kind::MmapMarkers,
        Some(METADATA) => Kind::Metadata,
        Some(number) if histograms::is_kind(number) => Kind::Histograms,
        _ => Kind::Unknown,
    }
}

/// One sample of a record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RefSample {
    pub(crate) series: u64,
    pub(crate) t: Timestamp,
    pub(crate) v: f64,
}

/// The samples of records.
#[derive(Debug, Default)]
pub(crate) struct RecordSamples {
    pub(crate) samples: Vec<RefSample>,
    /// Their start timestamps, 0 where unknown; empty if no record has any.
    starts: Vec<Timestamp>,
}

impl RecordSamples {
    pub(crate) fn clear(&mut self) {
        self.samples.clear();
        self.starts.clear();
    }

    /// Whether the records are of a kind with start timestamps.
    pub(crate) fn has_starts(&self) -> bool {
        !self.starts.is_empty()
    }

    /// The samples, each with its start timestamp.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (RefSample, Timestamp)> {
        let start = |at: usize| self.starts.get(at).copied().unwrap_or(0);
        self.samples.iter().enumerate().map(move |(at, sample)| (*sample, start(at)))
    }
}

/// A span of a series that was deleted, inclusive at both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deleted {
    pub(crate) series: u64,
    pub(crate) min: Timestamp,
    pub(crate) max: Timestamp,
}

impl Deleted {
    /// Whether the series left the head here: its samples are in blocks.
    pub(crate) const fn is_of_all_times(&self) -> bool {
        self.min == Timestamp::MIN && self.max == Timestamp::MAX
    }
}

/// An out-of-order chunk of a series that was written out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marker {
    pub(crate) series: u64,
    pub(crate) chunk: u64,
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

/// Two varints of ten bytes at most, and a float.
const SAMPLE_BYTES_MAX: usize = 28;

/// Writes a varint to `into` from `at` on; where it ends.
#[inline]
fn write_varint(value: i64, into: &mut [u8; SAMPLE_BYTES_MAX], mut at: usize) -> usize {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        into[at] = low_seven(rest) | 0x80;
        rest >>= 7;
        at += 1;
    }
    into[at] = low_seven(rest);
    at + 1
}

/// Writes `samples` as a record; leaves `record` empty when there are none.
pub(crate) fn put_samples(record: &mut Vec<u8>, samples: impl Iterator<Item = RefSample>) {
    let mut samples = samples.peekable();
    let Some(&first) = samples.peek() else { return };
    record.push(SAMPLES);
    let base = Base::put(record, first.series, first.t);
    for sample in samples {
        // Room for the longest is put at once and what is not needed taken back: one check of the capacity instead of one for each byte.
        let start = record.len();
        record.extend_from_slice(&[0; SAMPLE_BYTES_MAX]);
        let place = record[start..].first_chunk_mut().expect("put just now");
        let len = base.write_sample(&sample, place);
        record.truncate(start + len);
    }
}

/// Writes `samples` with their start timestamps as a record; leaves `record` empty when there are none.
pub(crate) fn put_samples_with_starts(
    record: &mut Vec<u8>,
    samples: impl Iterator<Item = (RefSample, Timestamp)>,
) {
    let mut place = PlaceWithStart::default();
    for (RefSample { series, t, v }, start) in samples {
        if record.is_empty() {
            record.push(SAMPLES_WITH_START);
        }
        place.put(record, series, t, start);
        record.extend_from_slice(&v.to_bits().to_be_bytes());
    }
}

/// Calls `on_series` with each series of a record, labels sorted by name.
pub(crate) fn read_series(
    record: &[u8],
    mut on_series: impl FnMut(u64, &[(&str, &str)]),
) -> Result<(), DecodeError> {
    let mut bytes = body(record, SERIES)?;
    let mut pairs = Vec::new();
    while !bytes.is_empty() {
        let series = bytes.be64()?;
        read_pairs(&mut bytes, &mut pairs)?;
        if pairs.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(DecodeError::Invalid("label name is not unique"));
        }
        on_series(series, &pairs);
    }
    Ok(())
}

/// Reads the samples of a record into `into`, which is cleared before.
pub(crate) fn read_samples(record: &[u8], into: &mut RecordSamples) -> Result<(), DecodeError> {
    into.clear();
    let mut bytes = Bytes::new(record);
    match bytes.u8()? {
        SAMPLES => read_plain(bytes, &mut into.samples),
        SAMPLES_WITH_START => read_with_start(bytes, into),
        _ => Err(DecodeError::Invalid("not a samples record")),
    }
}

fn read_plain(mut bytes: Bytes<'_>, samples: &mut Vec<RefSample>) -> Result<(), DecodeError> {
    if bytes.is_empty() {
        return Ok(());
    }
    let base = Base::read(&mut bytes)?;
    while !bytes.is_empty() {
        let (series, t) = base.read_delta(&mut bytes)?;
        samples.push(RefSample { series, t, v: f64::from_bits(bytes.be64()?) });
    }
    Ok(())
}

fn read_with_start(mut bytes: Bytes<'_>, into: &mut RecordSamples) -> Result<(), DecodeError> {
    let mut place = PlaceWithStart::default();
    while !bytes.is_empty() {
        let (series, t, start) = place.next(&mut bytes)?;
        into.samples.push(RefSample { series, t, v: f64::from_bits(bytes.be64()?) });
        into.starts.push(start);
    }
    Ok(())
}

/// Series and times of records with start timestamps: refs are relative to the sample before, times and start timestamps to those of the first.
#[derive(Default)]
struct PlaceWithStart {
    /// Of the sample before.
    series: u64,
    start: Timestamp,
    /// Time and start timestamp of the first.
    first: Option<(Timestamp, Timestamp)>,
}

impl PlaceWithStart {
    /// What stands before the start timestamp of all but the first sample.
    const UNKNOWN: u8 = 0;
    const AS_BEFORE: u8 = 1;
    const EXPLICIT: u8 = 2;

    /// The series, time and start timestamp of the next sample.
    fn next(&mut self, bytes: &mut Bytes<'_>) -> Result<(u64, Timestamp, Timestamp), DecodeError> {
        self.series = self.series.wrapping_add(bytes.varint()?.cast_unsigned());
        let t = bytes.varint()?;
        let Some((first_t, first_start)) = self.first else {
            self.start = bytes.varint()?;
            self.first = Some((t, self.start));
            return Ok((self.series, t, self.start));
        };
        self.start = match bytes.u8()? {
            Self::UNKNOWN => 0,
            Self::AS_BEFORE => self.start,
            Self::EXPLICIT => first_start.wrapping_add(bytes.varint()?),
            _ => return Err(DecodeError::Invalid("start timestamp marker is unknown")),
        };
        Ok((self.series, first_t.wrapping_add(t), self.start))
    }

    /// Writes the series, time and start timestamp of the next sample.
    fn put(&mut self, record: &mut Vec<u8>, series: u64, t: Timestamp, start: Timestamp) {
        put_varint(record, series.wrapping_sub(self.series).cast_signed());
        match self.first {
            None => {
                put_varint(record, t);
                put_varint(record, start);
                self.first = Some((t, start));
            }
            Some((first_t, first_start)) => {
                put_varint(record, t.wrapping_sub(first_t));
                if start == 0 {
                    record.push(Self::UNKNOWN);
                } else if start == self.start {
                    record.push(Self::AS_BEFORE);
                } else {
                    record.push(Self::EXPLICIT);
                    put_varint(record, start.wrapping_sub(first_start));
                }
            }
        }
        (self.series, self.start) = (series, start);
    }
}

/// What stands at the start of records whose entries are relative to the first.
struct Base {
    series: u64,
    t: Timestamp,
}

impl Base {
    fn put(record: &mut Vec<u8>, series: u64, t: Timestamp) -> Self {
        record.extend_from_slice(&series.to_be_bytes());
        record.extend_from_slice(&t.to_be_bytes());
        Self { series, t }
    }

    fn read(bytes: &mut Bytes<'_>) -> Result<Self, DecodeError> {
        Ok(Self { series: bytes.be64()?, t: bytes.be64()?.cast_signed() })
    }

    fn put_delta(&self, record: &mut Vec<u8>, series: u64, t: Timestamp) {
        put_varint(record, series.wrapping_sub(self.series).cast_signed());
        put_varint(record, t.wrapping_sub(self.t));
    }

    /// Writes a sample to the start of `into`; its length.
    #[inline]
    fn write_sample(&self, sample: &RefSample, into: &mut [u8; SAMPLE_BYTES_MAX]) -> usize {
        let series = sample.series.wrapping_sub(self.series).cast_signed();
        let at = write_varint(series, into, 0);
        let at = write_varint(sample.t.wrapping_sub(self.t), into, at);
        into[at..at + 8].copy_from_slice(&sample.v.to_bits().to_be_bytes());
        at + 8
    }

    fn read_delta(&self, bytes: &mut Bytes<'_>) -> Result<(u64, Timestamp), DecodeError> {
        let series = self.series.wrapping_add(bytes.varint()?.cast_unsigned());
        Ok((series, self.t.wrapping_add(bytes.varint()?)))
    }
}

/// Adds a deletion to a record; `record` is empty or holds deletions already.
pub(crate) fn put_deleted(record: &mut Vec<u8>, deleted: Deleted) {
    if record.is_empty() {
        record.push(TOMBSTONES);
    }
    record.extend_from_slice(&deleted.series.to_be_bytes());
    put_varint(record, deleted.min);
    put_varint(record, deleted.max);
}

/// The deletions of a record.
pub(crate) fn read_deleted(record: &[u8]) -> Result<Vec<Deleted>, DecodeError> {
    let mut bytes = body(record, TOMBSTONES)?;
    let mut deleted = Vec::new();
    while !bytes.is_empty() {
        let (series, min) = (bytes.be64()?, bytes.varint()?);
        deleted.push(Deleted { series, min, max: bytes.varint()? });
    }
    Ok(deleted)
}

/// Adds a marker to a record; `record` is empty or holds markers already.
pub(crate) fn put_marker(record: &mut Vec<u8>, marker: Marker) {
    if record.is_empty() {
        record.push(MMAP_MARKERS);
    }
    record.extend_from_slice(&marker.series.to_be_bytes());
    record.extend_from_slice(&marker.chunk.to_be_bytes());
}

/// Writes exemplars as a record; leaves `record` empty when there are none.
pub(crate) fn put_exemplars<'a>(
    record: &mut Vec<u8>,
    exemplars: impl Iterator<Item = (u64, &'a Exemplar)>,
) {
    let mut base = None;
    for (series, exemplar) in exemplars {
        let base = base.get_or_insert_with(|| {
            record.push(EXEMPLARS);
            Base::put(record, series, exemplar.t)
        });
        base.put_delta(record, series, exemplar.t);
        record.extend_from_slice(&exemplar.v.to_bits().to_be_bytes());
        put_uvarint(record, exemplar.labels.len() as u64);
        for label in exemplar.labels.iter() {
            put_str(record, label.name);
            put_str(record, label.value);
        }
    }
}

/// The exemplars of a record, each with its series.
pub(crate) fn read_exemplars(record: &[u8]) -> Result<Vec<(u64, Exemplar)>, DecodeError> {
    let mut bytes = body(record, EXEMPLARS)?;
    let mut exemplars = Vec::new();
    if bytes.is_empty() {
        return Ok(exemplars);
    }
    let base = Base::read(&mut bytes)?;
    let mut pairs = Vec::new();
    while !bytes.is_empty() {
        let (series, t) = base.read_delta(&mut bytes)?;
        let v = f64::from_bits(bytes.be64()?);
        read_pairs(&mut bytes, &mut pairs)?;
        let labels = Labels::from_pairs(pairs.iter().copied())
            .map_err(|_| DecodeError::Invalid("label name is not unique"))?;
        exemplars.push((series, Exemplar { labels, t, v }));
    }
    Ok(exemplars)
}

/// Metric types by their number in metadata records.
const METRIC_TYPES: [&str; 8] =
    ["unknown", "counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset"];
const UNIT_FIELD: &str = "UNIT";
const HELP_FIELD: &str = "HELP";

/// Adds metadata of a series to a record; `record` is empty or holds metadata already.
pub(crate) fn put_metadata(record: &mut Vec<u8>, series: u64, metadata: &Metadata) {
    if record.is_empty() {
        record.push(METADATA);
    }
    put_uvarint(record, series);
    let number = METRIC_TYPES.iter().position(|known| **known == *metadata.kind).unwrap_or(0);
    record.push(u8::try_from(number).unwrap_or(0));
    put_uvarint(record, 2);
    for (name, value) in [(UNIT_FIELD, &metadata.unit), (HELP_FIELD, &metadata.help)] {
        put_str(record, name);
        put_str(record, value);
    }
}

/// The metadata of a record, each with its series.
pub(crate) fn read_metadata(record: &[u8]) -> Result<Vec<(u64, Metadata)>, DecodeError> {
    let mut bytes = body(record, METADATA)?;
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let series = bytes.uvarint()?;
        let kind = METRIC_TYPES.get(usize::from(bytes.u8()?)).copied().unwrap_or(METRIC_TYPES[0]);
        let mut metadata = Metadata { kind: kind.into(), ..Metadata::default() };
        for _ in 0..bytes.uvarint_len()? {
            let (name, value) = (bytes.str()?, bytes.str()?);
            match name {
                UNIT_FIELD => metadata.unit = value.into(),
                HELP_FIELD => metadata.help = value.into(),
                _ => {}
            }
        }
        all.push((series, metadata));
    }
    Ok(all)
}

/// What follows the kind of a record.
fn body(record: &[u8], kind: u8) -> Result<Bytes<'_>, DecodeError> {
    let mut bytes = Bytes::new(record);
    if bytes.u8()? != kind {
        return Err(DecodeError::Invalid("record is of another kind"));
    }
    Ok(bytes)
}

/// Reads a list of labels into `pairs`, sorted by name.
fn read_pairs<'b>(
    bytes: &mut Bytes<'b>,
    pairs: &mut Vec<(&'b str, &'b str)>,
) -> Result<(), DecodeError> {
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
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn samples_of(record: &[u8]) -> Result<Vec<RefSample>, DecodeError> {
        let mut read = RecordSamples::default();
        read_samples(record, &mut read).map(|()| read.samples)
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
        let of = |series, t, v, start| (RefSample { series, t, v }, start);
        let expected = [of(5, 10, 1.0, 3), of(6, 12, 2.0, 3), of(6, 14, 3.0, 7)];
        let mut read = RecordSamples::default();
        read_samples(&record, &mut read).unwrap();
        assert!(read.has_starts() && read.iter().eq(expected));
        let mut written = vec![];
        put_samples_with_starts(&mut written, read.iter());
        assert_eq!(written, record);
    }

    #[test]
    fn kinds_are_recognised() {
        let kinds = [3, 4, 5, 6, 7, 10, 12, 13, 200].map(|byte| kind(&[byte]));
        let expected = [
            Kind::Tombstones,
            Kind::Exemplars,
            Kind::MmapMarkers,
            Kind::Metadata,
            Kind::Histograms,
            Kind::Histograms,
            Kind::Histograms,
            Kind::Histograms,
            Kind::Unknown,
        ];
        assert_eq!(kinds, expected);
        assert_eq!(kind(&[]), Kind::Unknown);
    }

    /// Bytes written out by hand from the description of the format.
    #[test]
    fn golden_tombstones_markers_and_metadata() {
        let mut record = vec![];
        put_deleted(&mut record, Deleted { series: 5, min: -1, max: 64 });
        put_deleted(&mut record, Deleted { series: 6, min: 0, max: 1 });
        assert_eq!(record, b"\x03\0\0\0\0\0\0\0\x05\x01\x80\x01\0\0\0\0\0\0\0\x06\0\x02");
        let read = read_deleted(&record).unwrap();
        assert_eq!(read[0], Deleted { series: 5, min: -1, max: 64 });
        assert_eq!(read[1], Deleted { series: 6, min: 0, max: 1 });

        let mut record = vec![];
        put_marker(&mut record, Marker { series: 7, chunk: 1 << 32 | 8 });
        assert_eq!(record, b"\x05\0\0\0\0\0\0\0\x07\0\0\0\x01\0\0\0\x08");

        let mut record = vec![];
        let metadata =
            Metadata { kind: "counter".into(), unit: "s".into(), help: "How long.".into() };
        put_metadata(&mut record, 300, &metadata);
        assert_eq!(record, b"\x06\xac\x02\x01\x02\x04UNIT\x01s\x04HELP\x09How long.");
        assert_eq!(read_metadata(&record).unwrap(), [(300, metadata)]);
    }

    #[test]
    fn golden_exemplars() {
        let labels = Labels::from_pairs([("trace_id", "ab")]).unwrap();
        let first = Exemplar { labels, t: 1000, v: 1.0 };
        let second = Exemplar { labels: Labels::empty(), t: 999, v: 2.0 };
        let mut record = vec![];
        put_exemplars(&mut record, [(3, &first), (2, &second)].into_iter());
        let mut expected = b"\x04\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\x03\xe8".to_vec();
        expected.extend(b"\0\0\x3f\xf0\0\0\0\0\0\0\x01\x08trace_id\x02ab");
        expected.extend(b"\x01\x01\x40\0\0\0\0\0\0\0\0");
        assert_eq!(record, expected);
        assert_eq!(read_exemplars(&record).unwrap(), [(3, first), (2, second)]);
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
        fn round_trip_of_start_timestamps(
            input in prop::collection::vec((any::<u64>(), any::<i64>(), prop_oneof![Just(0), Just(7), any::<i64>()]), 1..50),
        ) {
            let mut record = vec![];
            let samples = input.iter().map(|&(series, t, start)| (RefSample { series, t, v: 1.0 }, start));
            put_samples_with_starts(&mut record, samples);
            let mut read = RecordSamples::default();
            read_samples(&record, &mut read).unwrap();
            let found: Vec<_> = read.iter().map(|(sample, start)| (sample.series, sample.t, start)).collect();
            prop_assert_eq!(found, input);
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
            for number in 0..15 {
                let mut record = vec![number];
                record.extend_from_slice(&bytes);
                let _ = (read_deleted(&record), read_exemplars(&record), read_metadata(&record));
                let _ = histograms::read(&record, |_| ());
            }
        }
    }

    /// More samples than `len` bytes of `record` can hold.
    fn input_len(record: &[u8], len: usize) -> usize {
        assert!(len < record.len());
        (len - 17) / 10 + 1
    }
}
