//! Any bytes as a chunk: samples or an error, never more samples than the chunk announces.

#![no_main]

use libfuzzer_sys::fuzz_target;
use chunkenc::XorDecoder;

fuzz_target!(|chunk: &[u8]| {
    if let Ok(decoder) = XorDecoder::new(chunk) {
        assert!(decoder.take_while(Result::is_ok).count() <= usize::from(u16::MAX));
    }
});
