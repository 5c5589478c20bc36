//! Encodings by number, and reading a chunk whatever its encoding is.

use std::sync::Arc;

use model::{Columns, FloatHistogram, Histogram, TimeRange, Timestamp};

use crate::coarsen::coarsened_integer;
use crate::kind::NativeHistogram;
use crate::native_decode::NativeDecoder;
use crate::xor::{HEADER_BYTES, XorError};
use crate::xor_batch::{decode_two_xor, decode_xor};
use crate::xor2::Xor2Decoder;

/// How the samples of a chunk are encoded. The numbers are those of Prometheus's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Encoding {
    /// Floats, Gorilla's XOR.
    Xor = 1,
    /// Native histograms with integer counts.
    Histogram = 2,
    /// Native histograms with float counts.
    FloatHistogram = 3,
    /// Floats, a denser XOR, with start timestamps.
    Xor2 = 4,
    /// Native histograms with integer counts and start timestamps.
    HistogramWithStarts = 5,
    /// Native histograms with float counts and start timestamps.
    FloatHistogramWithStarts = 6,
}

impl Encoding {
    /// The encoding with this number.
    ///
    /// # Errors
    /// [`ChunkError::UnknownEncoding`]
    pub const fn from_number(number: u8) -> Result<Self, ChunkError> {
        match number {
            1 => Ok(Self::Xor),
            2 => Ok(Self::Histogram),
            3 => Ok(Self::FloatHistogram),
            4 => Ok(Self::Xor2),
            5 => Ok(Self::HistogramWithStarts),
            6 => Ok(Self::FloatHistogramWithStarts),
            _ => Err(ChunkError::UnknownEncoding(number)),
        }
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Whether the samples are histograms.
    #[must_use]
    pub const fn is_histogram(self) -> bool {
        !matches!(self, Self::Xor | Self::Xor2)
    }
}

/// Why a chunk cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// No encoding has this number, or it is not the kind that was asked for.
    #[error("chunk encoding {0} is unknown here")]
    UnknownEncoding(u8),
    /// A float chunk of encoding 1 is damaged.
    #[error(transparent)]
    Xor(#[from] XorError),
    /// The bytes end before the number of samples that the header announces.
    #[error("chunk ends after {decoded} of {announced} samples")]
    Truncated {
        /// Samples before the end.
        decoded: u16,
        /// Samples that the header announces.
        announced: u16,
    },
    /// The bits say something impossible.
    #[error("chunk is malformed at sample {0}")]
    Malformed(u16),
    /// No histogram schema has this number.
    #[error("chunk has the unknown histogram schema {0}")]
    UnknownSchema(i64),
    /// The histograms would take more memory than any real chunk's.
    #[error("chunk has too many spans or bounds for its number of samples")]
    TooLarge,
}

/// Appends the samples of `chunk` within `range` to `into`, and stops at the first beyond it. Integer histograms become float ones, and
/// those of schemas finer than 8 are made coarser.
///
/// # Errors
/// [`ChunkError`]; samples before the damage have been appended.
pub fn decode(
    encoding: Encoding,
    chunk: &[u8],
    range: TimeRange,
    into: &mut Columns,
) -> Result<(), ChunkError> {
    match encoding {
        Encoding::Xor => Ok(decode_xor(chunk, range, into)?),
        Encoding::Xor2 => {
            let mut decoder = Xor2Decoder::new(chunk)?;
            while decoder.advance()? && decoder.t() <= range.max {
                if decoder.t() >= range.min {
                    into.push(decoder.t(), decoder.value());
                    into.set_last_start(decoder.start());
                }
            }
            Ok(())
        }
        Encoding::Histogram | Encoding::HistogramWithStarts => {
            decode_native::<Histogram>(encoding, chunk, range, into)
        }
        Encoding::FloatHistogram | Encoding::FloatHistogramWithStarts => {
            decode_native::<FloatHistogram>(encoding, chunk, range, into)
        }
    }
}

/// As [`decode`] of one chunk and then of another; two of floats take less time so.
///
/// # Errors
/// [`ChunkError`] and which of the two has it; samples before the damage have been appended.
pub fn decode_two(
    chunks: [(Encoding, &[u8]); 2],
    range: TimeRange,
    into: &mut Columns,
) -> Result<(), (usize, ChunkError)> {
    if let [(Encoding::Xor, a), (Encoding::Xor, b)] = chunks {
        return decode_two_xor([a, b], range, into).map_err(|(which, error)| (which, error.into()));
    }
    for (which, (encoding, chunk)) in chunks.into_iter().enumerate() {
        decode(encoding, chunk, range, into).map_err(|error| (which, error))?;
    }
    Ok(())
}

fn decode_native<H: NativeHistogram>(
    encoding: Encoding,
    chunk: &[u8],
    range: TimeRange,
    into: &mut Columns,
) -> Result<(), ChunkError> {
    let mut decoder = NativeDecoder::<H>::new(encoding, chunk)?;
    while decoder.advance()? && decoder.t() <= range.max {
        if decoder.t() >= range.min {
            into.push_histogram(decoder.t(), Arc::new(decoder.float_histogram()));
            into.set_last_start(decoder.start());
        }
    }
    Ok(())
}

/// Hands the histograms of a chunk of encoding 2 or 5 to `visit` without loss, each with its time and start timestamp (0 if unknown).
///
/// # Errors
/// [`ChunkError`], [`ChunkError::UnknownEncoding`] for other encodings; samples before the damage have been visited.
pub fn decode_integer(
    encoding: Encoding,
    chunk: &[u8],
    mut visit: impl FnMut(Timestamp, Timestamp, Histogram),
) -> Result<(), ChunkError> {
    let mut decoder = NativeDecoder::<Histogram>::new(encoding, chunk)?;
    while decoder.advance()? {
        visit(decoder.t(), decoder.start(), coarsened_integer(decoder.histogram()));
    }
    Ok(())
}

/// Samples that the header of a chunk announces; 0 if there is no header.
#[must_use]
pub fn sample_count(encoding: Encoding, chunk: &[u8]) -> u16 {
    let count = chunk.first_chunk::<HEADER_BYTES>().map_or(0, |header| u16::from_be_bytes(*header));
    match encoding {
        // The upper two bits are about counter resets.
        Encoding::HistogramWithStarts | Encoding::FloatHistogramWithStarts => count & 0x3fff,
        _ => count,
    }
}
