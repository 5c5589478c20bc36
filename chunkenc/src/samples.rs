//! The samples of a chunk as they were written, whatever its encoding: for copying, where [`decode`](crate::decode) would lose that
//! counts are integers.

use model::{FloatHistogram, Histogram, Timestamp};

use crate::chunk::{ChunkError, Encoding};
use crate::coarsen::{coarsened, coarsened_integer};
use crate::native_decode::NativeDecoder;
use crate::xor::XorDecoder;
use crate::xor2::Xor2Decoder;

/// A sample with its value as it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct ExactSample {
    /// When it was observed.
    pub t: Timestamp,
    /// When its series began to count; 0 if unknown.
    pub start: Timestamp,
    /// The value.
    pub value: ExactValue,
}

/// What a sample is.
#[derive(Clone, Debug, PartialEq)]
pub enum ExactValue {
    /// A float.
    Float(f64),
    /// A native histogram with integer counts.
    Histogram(Histogram),
    /// A native histogram with float counts.
    FloatHistogram(FloatHistogram),
}

/// The samples of a chunk, without loss.
///
/// Ends after the first error.
#[derive(Debug)]
pub struct Samples<'a> {
    decoder: Decoder<'a>,
    failed: bool,
}

#[derive(Debug)]
enum Decoder<'a> {
    Xor(XorDecoder<'a>),
    Xor2(Xor2Decoder<'a>),
    Histogram(Box<NativeDecoder<'a, Histogram>>),
    FloatHistogram(Box<NativeDecoder<'a, FloatHistogram>>),
}

impl<'a> Samples<'a> {
    /// Reads the header of `chunk`.
    ///
    /// # Errors
    /// [`ChunkError`] if there is none.
    pub fn new(encoding: Encoding, chunk: &'a [u8]) -> Result<Self, ChunkError> {
        let decoder = match encoding {
            Encoding::Xor => Decoder::Xor(XorDecoder::new(chunk)?),
            Encoding::Xor2 => Decoder::Xor2(Xor2Decoder::new(chunk)?),
            Encoding::Histogram | Encoding::HistogramWithStarts => {
                Decoder::Histogram(Box::new(NativeDecoder::new(encoding, chunk)?))
            }
            Encoding::FloatHistogram | Encoding::FloatHistogramWithStarts => {
                Decoder::FloatHistogram(Box::new(NativeDecoder::new(encoding, chunk)?))
            }
        };
        Ok(Self { decoder, failed: false })
    }

    fn sample(&mut self) -> Result<Option<ExactSample>, ChunkError> {
        let (t, start, value) = match &mut self.decoder {
            Decoder::Xor(decoder) => match decoder.next().transpose()? {
                Some(sample) => (sample.t, 0, ExactValue::Float(sample.v)),
                None => return Ok(None),
            },
            Decoder::Xor2(decoder) => match decoder.advance()? {
                true => (decoder.t(), decoder.start(), ExactValue::Float(decoder.value())),
                false => return Ok(None),
            },
            Decoder::Histogram(decoder) => match decoder.advance()? {
                true => {
                    let histogram = coarsened_integer(decoder.histogram());
                    (decoder.t(), decoder.start(), ExactValue::Histogram(histogram))
                }
                false => return Ok(None),
            },
            Decoder::FloatHistogram(decoder) => match decoder.advance()? {
                true => {
                    let histogram = coarsened(decoder.histogram());
                    (decoder.t(), decoder.start(), ExactValue::FloatHistogram(histogram))
                }
                false => return Ok(None),
            },
        };
        Ok(Some(ExactSample { t, start, value }))
    }
}

impl Iterator for Samples<'_> {
    type Item = Result<ExactSample, ChunkError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let sample = self.sample().transpose();
        self.failed = matches!(sample, Some(Err(_)));
        sample
    }
}
