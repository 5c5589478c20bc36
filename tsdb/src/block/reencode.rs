//! Chunks of one series that overlap, or of which a part is deleted, made into chunks that do not.

use chunkenc::{ChunkError, Encoding, MergeInput};
use model::TimeRange;

/// A chunk that is to be taken apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<'c> {
    pub(super) encoding: Encoding,
    /// From the first to the last sample.
    pub(super) range: TimeRange,
    pub(super) bytes: &'c [u8],
    /// Spans of which its samples are deleted.
    pub(super) deleted: &'c [TimeRange],
}

/// Calls `on_chunk` with new chunks, in order of time, that have the samples of all parts. Which of several samples at the same time remains is
/// up to [`chunkenc::merge`].
pub(super) fn reencode(
    parts: &[Part<'_>],
    on_chunk: &mut dyn FnMut(TimeRange, Encoding, &[u8]),
) -> Result<(), ChunkError> {
    let inputs = parts.iter().map(|part| MergeInput {
        encoding: part.encoding,
        min_t: part.range.min,
        max_t: part.range.max,
        bytes: part.bytes,
        deleted: part.deleted,
    });
    let inputs: Vec<MergeInput<'_>> = inputs.collect();
    for chunk in chunkenc::merge(&inputs)? {
        on_chunk(TimeRange::new(chunk.min_t, chunk.max_t), chunk.encoding, &chunk.bytes);
    }
    Ok(())
}
