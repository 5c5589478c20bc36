//! Any bytes as the index of a block, or a valid one with bytes changed and, so that this is not found at once, its checksums made right.

#![no_main]

use std::sync::LazyLock;

use fuzz::{BLOCK, BLOCK_ALONE, fix_checksum, look, mutated};
use libfuzzer_sys::fuzz_target;

static INDEX: LazyLock<Vec<u8>> =
    LazyLock::new(|| BLOCK_ALONE.read(&BLOCK.join("index")).expect("it is there"));

/// What checksums of the valid index are of: from, to, behind which they stand.
static CHECKED: LazyLock<Vec<(usize, usize)>> = LazyLock::new(|| {
    let toc = INDEX.len() - 52;
    let offset = |i: usize| {
        let bytes = INDEX[toc + 8 * i..][..8].try_into().expect("eight bytes");
        usize::try_from(u64::from_be_bytes(bytes)).expect("it is small")
    };
    let section = |at: usize| {
        let len = u32::from_be_bytes(INDEX[at..][..4].try_into().expect("four bytes")) as usize;
        (at + 4, at + 4 + len)
    };
    let (symbols, series, end_of_series, postings, table) =
        (offset(0), offset(1), offset(2), offset(4), offset(5));
    let mut checked = vec![(toc, toc + 48), section(symbols), section(table)];
    let mut at = series;
    while at < end_of_series {
        // Entries begin at multiples of 16 and are shorter than 128 bytes here, or have a longer length.
        let (mut len, mut shift, mut start) = (0, 0, at);
        loop {
            let byte = INDEX[start];
            len |= usize::from(byte & 0x7f) << shift;
            (shift, start) = (shift + 7, start + 1);
            if byte < 0x80 {
                break;
            }
        }
        if len == 0 {
            break;
        }
        checked.push((start, start + len));
        at = (start + len + 4).next_multiple_of(16);
    }
    let mut at = postings;
    while at + 8 < table {
        let (start, end) = section(at);
        if end + 4 > table {
            break;
        }
        checked.push((start, end));
        at = (end + 4).next_multiple_of(4);
    }
    checked
});

fuzz_target!(|input: &[u8]| {
    let Some((&how, input)) = input.split_first() else { return };
    let bytes = match how % 3 {
        0 => input.to_vec(),
        1 => mutated(&INDEX, input),
        _ => {
            let mut bytes = mutated(&INDEX, input);
            CHECKED.iter().for_each(|&(start, end)| fix_checksum(&mut bytes, start, end));
            bytes
        }
    };
    let disk = BLOCK_ALONE.fork();
    disk.overwrite(&BLOCK.join("index"), &bytes).expect("it is there");
    look(&disk);
});
