//! Any bytes as the `meta.json` of a block, or a valid one with bytes changed.

#![no_main]

use std::sync::LazyLock;

use fuzz::{BLOCK, BLOCK_ALONE, look, mutated, use_twice};
use libfuzzer_sys::fuzz_target;

static META: LazyLock<Vec<u8>> =
    LazyLock::new(|| BLOCK_ALONE.read(&BLOCK.join("meta.json")).expect("it is there"));

fuzz_target!(|input: &[u8]| {
    let Some((&how, input)) = input.split_first() else { return };
    let bytes = if how & 1 == 0 { input.to_vec() } else { mutated(&META, input) };
    let disk = BLOCK_ALONE.fork();
    disk.overwrite(&BLOCK.join("meta.json"), &bytes).expect("it is there");
    if how & 2 == 0 { look(&disk) } else { use_twice(&disk) }
});
