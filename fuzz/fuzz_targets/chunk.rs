//! Any bytes as a chunk, the first as its encoding: samples or an error, never more of them than the chunk announces; decoders agree, and
//! what can be continued can be continued with what it holds.

#![no_main]

use chunkenc::{
    Encoding, ExactValue, FloatHistogramChunk, HEADER_BYTES, HistogramChunk, Samples, Xor2Chunk,
    XorChunk, XorDecoder, decode, decode_range, decode_two_xor, decode_xor_from, sample_count,
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
        twice_in_turns(chunk, &columns, result.is_ok());
        on_from_its_mark(chunk, &columns, result.is_ok());
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
    assert_alike(&reference, columns);
}

/// Two of a chunk in turns are what they are one after the other.
fn twice_in_turns(chunk: &[u8], columns: &Columns, whole: bool) {
    let (mut both, mut expected) = (Columns::new(), columns.clone());
    let result = decode_two_xor([chunk, chunk], TimeRange::ALL, &mut both);
    assert_eq!(result.is_ok(), whole);
    if whole {
        expected.extend_from_slices(columns.times(), columns.floats());
    }
    assert_alike(&both, &expected);
}

/// The last sample is the same when the chunk is decoded on from before it.
fn on_from_its_mark(chunk: &[u8], columns: &Columns, whole: bool) {
    let Some((&header, payload)) = chunk.split_first_chunk::<HEADER_BYTES>() else { return };
    let (count, range) = (u16::from_be_bytes(header), columns.last().map(|last| last.t));
    let range = TimeRange::new(range.unwrap_or(0), i64::MAX);
    let mut first = Columns::new();
    let found = decode_xor_from(None, (count, payload), range, &mut first);
    assert!(found.is_ok() || !whole);
    if let Ok(Some(mark)) = found {
        let mut second = Columns::new();
        let rest = (count, &payload[mark.byte()..]);
        let again = decode_xor_from(Some(&mark), rest, range, &mut second);
        assert!(again.is_ok());
        assert_alike(&first, &second);
    }
}

fn assert_alike(a: &Columns, b: &Columns) {
    assert_eq!(a.times(), b.times());
    let bits = |columns: &Columns| columns.floats().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(a), bits(b));
}
