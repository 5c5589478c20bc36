//! Chunk encodings: the samples of one series, up to a few hundred, as bytes and back.
//!
//! [`decode`] reads a chunk of any encoding that it knows into [`model::Columns`]; [`XorChunk`] writes float chunks. The bytes are
//! Prometheus's to the bit, see `docs/formats/chunks.md`. Whoever stores chunks keeps the encoding's number beside them.
//!
//! A crate of its own because more than the database speaks it: remote read streams chunks, generators write blocks without a database.

mod chunk;
pub mod varint;
mod xor;

pub use chunk::{ChunkError, Encoding, decode, sample_count};
pub use xor::{
    HEADER_BYTES, SAMPLE_BYTES_MAX, XorChunk, XorDecoder, XorError, XorState, decode_range, encode,
};
