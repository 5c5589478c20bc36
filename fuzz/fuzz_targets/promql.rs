//! Any text as a query: an error, or a tree whose printed form parses to the same printed form.

#![no_main]

use libfuzzer_sys::fuzz_target;
use promql::parse::{ParseOptions, parse};

fuzz_target!(|text: &str| {
    let options = ParseOptions::all();
    if let Ok(expr) = parse(text, &options) {
        let printed = expr.to_string();
        let again = parse(&printed, &options);
        let again = again.unwrap_or_else(|error| panic!("{printed}: {error}"));
        assert_eq!(again.to_string(), printed);
    }
});
