//! Any bytes as a scraped body: an answer or an error, in time proportional to the body.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let mut labels = Vec::new();
    for entry in exposition::Parser::new(body) {
        match entry {
            Ok(exposition::Entry::Sample(series, _)) => {
                labels.clear();
                series.labels(&mut labels);
            }
            Ok(_) => {}
            Err(_) => break,
        }
    }
});
