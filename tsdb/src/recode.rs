//! Samples one by one, out of chunks and into chunks: for the few series whose chunks cannot be copied, because samples of theirs were deleted
//! or came late. Integer histograms stay such.

use std::sync::Arc;

use chunkenc::{ChunkError, Encoding, XorChunk, decode, decode_integer};
use model::{Columns, HistogramValue, TimeRange, Timestamp};

use crate::head::open_histogram::OpenHistogram;

/// Samples that a chunk of floats gets.
const SAMPLES_PER_CHUNK: usize = 120;

/// What was observed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum SampleValue {
    Float(f64),
    Histogram(HistogramValue),
}

/// The samples of a chunk in time order.
pub(crate) fn decode_samples(
    encoding: Encoding,
    chunk: &[u8],
) -> Result<Vec<(Timestamp, SampleValue)>, ChunkError> {
    let mut samples = Vec::new();
    if matches!(encoding, Encoding::Histogram | Encoding::HistogramWithStarts) {
        decode_integer(encoding, chunk, |t, _, histogram| {
            samples.push((t, SampleValue::Histogram(histogram.into())));
        })?;
        return Ok(samples);
    }
    let mut columns = Columns::new();
    decode(encoding, chunk, TimeRange::ALL, &mut columns)?;
    for row in 0..columns.len() {
        let value = match columns.histogram(row) {
            Some(histogram) => SampleValue::Histogram(HistogramValue::Float(Arc::clone(histogram))),
            None => SampleValue::Float(columns.floats()[row]),
        };
        samples.push((columns.times()[row], value));
    }
    Ok(samples)
}

/// Calls `on_chunk` with chunks that hold `samples`, which are in time order.
pub(crate) fn encode_samples<'s>(
    samples: impl Iterator<Item = (Timestamp, &'s SampleValue)>,
    mut on_chunk: impl FnMut(TimeRange, Encoding, &[u8]),
) {
    let mut open: Option<Open> = None;
    for (t, value) in samples {
        open = Some(match open {
            None => Open::start(t, value),
            Some(open) => open.push(t, value, &mut on_chunk),
        });
    }
    if let Some(open) = open {
        open.end(&mut on_chunk);
    }
}

/// A chunk that samples are added to.
struct Open {
    range: TimeRange,
    chunk: OpenChunk,
}

enum OpenChunk {
    Floats(XorChunk, usize),
    Histograms(Box<OpenHistogram>),
}

impl Open {
    fn start(t: Timestamp, value: &SampleValue) -> Self {
        let chunk = match value {
            SampleValue::Float(v) => {
                let mut chunk = XorChunk::new();
                chunk.push(t, *v);
                OpenChunk::Floats(chunk, 1)
            }
            SampleValue::Histogram(histogram) => {
                OpenChunk::Histograms(Box::new(OpenHistogram::start(t, Timestamp::MAX, histogram)))
            }
        };
        Self { range: TimeRange::new(t, t), chunk }
    }

    fn push(
        mut self,
        t: Timestamp,
        value: &SampleValue,
        on_chunk: &mut impl FnMut(TimeRange, Encoding, &[u8]),
    ) -> Self {
        match (&mut self.chunk, value) {
            (OpenChunk::Floats(chunk, count), SampleValue::Float(v))
                if *count < SAMPLES_PER_CHUNK =>
            {
                chunk.push(t, *v);
                *count += 1;
            }
            (OpenChunk::Histograms(open), SampleValue::Histogram(histogram)) => {
                if let Some((encoding, bytes)) = open.append(t, Timestamp::MAX, histogram) {
                    on_chunk(self.range, encoding, &bytes);
                    self.range.min = t;
                }
            }
            _ => {
                self.end(on_chunk);
                return Self::start(t, value);
            }
        }
        self.range.max = t;
        self
    }

    fn end(self, on_chunk: &mut impl FnMut(TimeRange, Encoding, &[u8])) {
        match self.chunk {
            OpenChunk::Floats(chunk, _) => on_chunk(self.range, Encoding::Xor, chunk.as_bytes()),
            OpenChunk::Histograms(open) => {
                let (encoding, bytes) = open.into_chunk();
                on_chunk(self.range, encoding, &bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use model::Histogram;

    use super::*;

    #[test]
    fn samples_of_all_kinds_come_back_as_they_were() {
        let histogram = |count| -> SampleValue {
            SampleValue::Histogram(
                Histogram { count, zero_count: count, sum: 1.0, ..Histogram::default() }.into(),
            )
        };
        let float = |count| match histogram(count) {
            SampleValue::Histogram(value) => {
                SampleValue::Histogram(HistogramValue::Float(value.to_float()))
            }
            value @ SampleValue::Float(_) => value,
        };
        let mut samples: Vec<(i64, SampleValue)> =
            (0..250).map(|t| (t, SampleValue::Float(t as f64))).collect();
        samples.extend((250..260_i64).map(|t| (t, histogram(t.unsigned_abs()))));
        samples.extend((260..262_i64).map(|t| (t, float(t.unsigned_abs()))));
        samples.push((262, SampleValue::Float(1.0)));
        let (mut found, mut chunks) = (vec![], vec![]);
        encode_samples(samples.iter().map(|(t, v)| (*t, v)), |range, encoding, bytes| {
            chunks.push((range.min, range.max, encoding));
            found.extend(decode_samples(encoding, bytes).unwrap());
        });
        let expected = [
            (0, 119, Encoding::Xor),
            (120, 239, Encoding::Xor),
            (240, 249, Encoding::Xor),
            (250, 259, Encoding::Histogram),
            (260, 261, Encoding::FloatHistogram),
            (262, 262, Encoding::Xor),
        ];
        assert_eq!(chunks, expected);
        assert_eq!(found.len(), samples.len());
        for ((t, value), (expected_t, expected)) in found.iter().zip(&samples) {
            assert_eq!(t, expected_t);
            match (value, expected) {
                (SampleValue::Float(a), SampleValue::Float(b)) => assert_eq!(a, b),
                (SampleValue::Histogram(a), SampleValue::Histogram(b)) => {
                    assert_eq!(a.to_float().count, b.to_float().count);
                    assert_eq!(std::mem::discriminant(a), std::mem::discriminant(b));
                }
                _ => panic!("{value:?} is not {expected:?}"),
            }
        }
    }
}
