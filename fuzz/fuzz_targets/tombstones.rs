//! Any bytes as the tombstones of a block, with the checksum made right or as they are.

#![no_main]

use fuzz::{BLOCK, BLOCK_ALONE, fix_checksum, look, use_twice};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((&how, input)) = input.split_first() else { return };
    let bytes = if how & 1 == 0 {
        input.to_vec()
    } else {
        let mut bytes = vec![0x01, 0x30, 0xba, 0x30, 1];
        bytes.extend_from_slice(input);
        bytes.extend_from_slice(&[0; 4]);
        let end = bytes.len() - 4;
        fix_checksum(&mut bytes, 5, end);
        bytes
    };
    let disk = BLOCK_ALONE.fork();
    disk.overwrite(&BLOCK.join("tombstones"), &bytes).expect("it is there");
    if how & 2 == 0 { look(&disk) } else { use_twice(&disk) }
});
