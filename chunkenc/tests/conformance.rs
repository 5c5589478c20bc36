//! Chunks that Prometheus wrote: decoded as it decodes them, and encoded again to the same bytes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use chunkenc::{
    Encoding, ExactSample, ExactValue, NativeChunk, NativeHistogram, Outcome, Samples, Xor2Chunk,
    XorChunk, decode, sample_count,
};
use model::{Columns, CounterReset, TimeRange};

const BLOCK_MAGIC: [u8; 4] = [0x85, 0xbd, 0x40, 0xdd];
const SEGMENT_HEADER_BYTES: usize = 8;
const CHECKSUM_BYTES: usize = 4;

/// Past the test harness's capture: a run that skips should show.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// The folder of data that Prometheus wrote; `None`, with a line about it, where it is absent.
fn conformance_folder() -> Option<PathBuf> {
    let folder = std::env::var_os("SEXTANT_CONFORMANCE")
        .filter(|path| !path.is_empty())
        .map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/conformance"),
            PathBuf::from,
        )
        .join("tsdb");
    if folder.is_dir() {
        return Some(folder);
    }
    let required = std::env::var_os("SEXTANT_REQUIRE_PEERS").is_some_and(|v| v == "1");
    assert!(!required, "{} is absent", folder.display());
    say(&format!("tsdb chunks: skipped, no folder {}", folder.display()));
    None
}

/// The files below `folder` whose parent is called `chunks`.
fn segments(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            segments(&path, into);
        } else if path.parent().is_some_and(|parent| parent.ends_with("chunks")) {
            into.push(path);
        }
    }
}

fn uvarint(bytes: &[u8], at: &mut usize) -> usize {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = bytes[*at];
        *at += 1;
        value |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

/// The chunks of a block's segment, each with its encoding.
fn chunks(segment: &[u8]) -> Vec<(Encoding, &[u8])> {
    assert_eq!(segment[..4], BLOCK_MAGIC);
    let (mut at, mut chunks) = (SEGMENT_HEADER_BYTES, vec![]);
    while at < segment.len() {
        let len = uvarint(segment, &mut at);
        let encoding = Encoding::from_number(segment[at]).unwrap();
        chunks.push((encoding, &segment[at + 1..][..len]));
        at += 1 + len + CHECKSUM_BYTES;
    }
    chunks
}

/// What the flags say of a chunk of histograms; with start timestamps they share a byte with the count.
fn header(encoding: Encoding, chunk: &[u8]) -> CounterReset {
    let with_starts = encoding.number() >= Encoding::HistogramWithStarts.number();
    match chunk[if with_starts { 0 } else { 2 }] >> 6 {
        0 => CounterReset::Unknown,
        1 => CounterReset::NotReset,
        2 => CounterReset::Reset,
        _ => CounterReset::Gauge,
    }
}

/// Encodes histograms, of which each has all buckets of the chunk.
fn native<H: NativeHistogram>(
    encoding: Encoding,
    chunk: &[u8],
    samples: Vec<(ExactSample, H)>,
) -> Vec<u8> {
    let mut again: Option<NativeChunk<H>> = None;
    for (ExactSample { t, start, .. }, histogram) in samples {
        let header = header(encoding, chunk);
        match &mut again {
            None if encoding == H::ENCODING_WITH_STARTS => {
                again = Some(NativeChunk::start_with_starts(t, start, &histogram, header));
            }
            None => again = Some(NativeChunk::start(t, &histogram, header)),
            Some(again) => {
                assert_eq!(again.append_with_start(t, start, &histogram), Outcome::Appended);
            }
        }
    }
    let resumed = NativeChunk::<H>::resume(encoding, chunk).unwrap();
    let again = again.unwrap();
    assert_eq!((resumed.last_t(), resumed.count()), (again.last_t(), again.count()));
    again.as_bytes().to_vec()
}

/// Encodes the samples of a chunk one by one.
fn encoded_again(encoding: Encoding, chunk: &[u8]) -> Vec<u8> {
    let samples = Samples::new(encoding, chunk).unwrap().map(Result::unwrap);
    match encoding {
        Encoding::Xor | Encoding::Xor2 => {
            let (mut xor, mut xor2) = (XorChunk::new(), Xor2Chunk::new());
            for ExactSample { t, start, value } in samples {
                let ExactValue::Float(v) = value else { panic!("{encoding:?} of {value:?}") };
                xor.push(t, v);
                xor2.push(t, start, v);
            }
            let again = if encoding == Encoding::Xor { xor.as_bytes() } else { xor2.as_bytes() };
            again.to_vec()
        }
        Encoding::Histogram | Encoding::HistogramWithStarts => {
            let exact = |sample: ExactSample| match sample.value.clone() {
                ExactValue::Histogram(histogram) => (sample, histogram),
                other => panic!("{encoding:?} of {other:?}"),
            };
            native(encoding, chunk, samples.map(exact).collect())
        }
        Encoding::FloatHistogram | Encoding::FloatHistogramWithStarts => {
            let exact = |sample: ExactSample| match sample.value.clone() {
                ExactValue::FloatHistogram(histogram) => (sample, histogram),
                other => panic!("{encoding:?} of {other:?}"),
            };
            native(encoding, chunk, samples.map(exact).collect())
        }
    }
}

#[test]
fn tsdb_chunks_are_encoded_to_the_same_bytes() {
    let Some(folder) = conformance_folder() else { return };
    let mut files = vec![];
    segments(&folder, &mut files);
    assert!(!files.is_empty(), "no segment below {}", folder.display());
    let (mut seen, mut samples) = ([0_usize; 7], 0);
    for file in files {
        let segment = fs::read(&file).unwrap();
        for (encoding, chunk) in chunks(&segment) {
            let mut columns = Columns::new();
            decode(encoding, chunk, TimeRange::ALL, &mut columns).unwrap();
            assert_eq!(columns.len(), usize::from(sample_count(encoding, chunk)));
            seen[usize::from(encoding.number())] += 1;
            samples += columns.len();
            let again = encoded_again(encoding, chunk);
            assert_eq!(again, chunk, "{} {encoding:?}", file.display());
        }
    }
    say(&format!("tsdb chunks: by encoding {seen:?}, {samples} samples"));
    assert!(samples > 0, "no sample below {}", folder.display());
}
