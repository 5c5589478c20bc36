//! Encodings by number, and reading a chunk whatever its encoding is.

use model::{Columns, TimeRange};

use crate::xor::{HEADER_BYTES, XorDecoder, XorError, decode_range};

/// How the samples of a chunk are encoded. The numbers are those of Prometheus's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Encoding {
    /// Floats, Gorilla's XOR.
    Xor = 1,
}

impl Encoding {
    /// The encoding with this number.
    ///
    /// # Errors
    /// [`ChunkError::UnknownEncoding`]
    pub const fn from_number(number: u8) -> Result<Self, ChunkError> {
        match number {
            1 => Ok(Self::Xor),
            _ => Err(ChunkError::UnknownEncoding(number)),
        }
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }
}

/// Why a chunk cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// No encoding has this number.
    #[error("chunk encoding {0} is unknown")]
    UnknownEncoding(u8),
    /// A float chunk is damaged.
    #[error(transparent)]
    Xor(#[from] XorError),
}

/// Appends the samples of `chunk` within `range` to `into`, and stops at the first beyond it.
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
        Encoding::Xor => Ok(decode_range(XorDecoder::new(chunk)?, range, into)?),
    }
}

/// Samples that the header of a chunk announces; 0 if there is no header.
#[must_use]
pub fn sample_count(chunk: &[u8]) -> u16 {
    chunk.first_chunk::<HEADER_BYTES>().map_or(0, |header| u16::from_be_bytes(*header))
}
