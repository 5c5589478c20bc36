//! Any bytes as a chunk, the first as its encoding: samples or an error, never more of them than the chunk announces; decoders agree, and
//! what can be continued can be continued with what it holds.

#![no_main]

use chunkenc::{
    Encoding, ExactValue, FloatHistogramChunk, HistogramChunk, Samples, Xor2Chunk, XorChunk,
    XorDecoder, decode, decode_range, sample_count,
};
use libfuzzer_sys::fuzz_target;
use model::{Columns, TimeRange};

fuzz_target!(|bytes: &[u8]| {
    let Some((&first, chunk)) = bytes.split_first() else { return };
    let Ok(encoding) = Encoding::from_number(first % 6 + 1) else { return };
    let mut columns = Columns::new();
    let result = decode(encoding, chunk, TimeRange::ALL, &mut columns);
    assert!(columns.len() <= usize::from(sample_count(encoding, chunk)));
    if encoding == Encoding::Xor {
        by_reference(chunk, &columns, result.is_ok());
    }
    let Ok(samples) = Samples::new(encoding, chunk) else { return };
    let samples: Vec<_> = samples.map_while(Result::ok).collect();
    assert_eq!(samples.len(), columns.len());
    let Some(last) = samples.last() else { return };
    let (t, start) = (last.t, last.start);
    match &last.value {
        ExactValue::Float(v) => {
            if let Ok(mut resumed) = Xor2Chunk::resume(chunk)
                && resumed.count() < u16::MAX
            {
                resumed.push(t, start, *v);
            }
            if let Ok(mut resumed) = XorChunk::resume(chunk)
                && resumed.count() < u16::MAX
            {
                resumed.push(t, *v);
            }
        }
        ExactValue::Histogram(histogram) => {
            if let Ok(mut resumed) = HistogramChunk::resume(encoding, chunk) {
                let _ = resumed.append_with_start(t, start, histogram);
            }
        }
        ExactValue::FloatHistogram(histogram) => {
            if let Ok(mut resumed) = FloatHistogramChunk::resume(encoding, chunk) {
                let _ = resumed.append_with_start(t, start, histogram);
            }
        }
    }
});

/// The reference decoder of encoding 1 gives the same bits.
fn by_reference(chunk: &[u8], columns: &Columns, whole: bool) {
    let mut reference = Columns::new();
    let result = XorDecoder::new(chunk)
        .and_then(|decoder| decode_range(decoder, TimeRange::ALL, &mut reference));
    assert_eq!(result.is_ok(), whole);
    assert_eq!(reference.times(), columns.times());
    let bits = |columns: &Columns| columns.floats().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&reference), bits(columns));
}
