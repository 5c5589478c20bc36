//! Chunk encodings: the samples of one series, up to a few hundred, as bytes and back.
//!
//! [`decode`] reads a chunk of any encoding into [`model::Columns`]; [`XorChunk`], [`Xor2Chunk`], [`HistogramChunk`] and
//! [`FloatHistogramChunk`] write them. The bytes are Prometheus's to the bit, see `docs/formats/chunks.md`. Whoever stores chunks keeps
//! the encoding's number beside them.
//!
//! A crate of its own because more than the database speaks it: remote read streams chunks, generators write blocks without a database.

mod bits;
mod buckets;
mod chunk;
mod coarsen;
mod field;
mod kind;
mod layout;
mod merge;
mod native;
mod native_decode;
mod samples;
mod starts;
pub mod varint;
mod xor;
mod xor2;
mod xor_batch;
mod xor_lanes;
mod xor_mark;

pub use chunk::{ChunkError, Encoding, decode, decode_integer, decode_two, sample_count};
pub use kind::NativeHistogram;
pub use merge::{MERGED_SAMPLES_MAX, MergeInput, MergedChunk, merge, with_starts};
pub use native::{FloatHistogramChunk, HistogramChunk, NativeChunk, Outcome, first_header};
pub use samples::{ExactSample, ExactValue, Samples};
pub use xor::{
    HEADER_BYTES, SAMPLE_BYTES_MAX, XorChunk, XorDecoder, XorError, XorState, decode_range, encode,
};
pub use xor_batch::{decode_two_xor, decode_xor};
pub use xor_mark::{XorMark, decode_xor_from};
pub use xor2::Xor2Chunk;
