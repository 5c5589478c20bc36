//! Any bytes as the snapshot of the head, or a valid one with bytes changed and its checksum made right.

#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use fuzz::{STORE, fix_checksum, mutated, open, read};
use libfuzzer_sys::fuzz_target;

const FILE: &str = "/data/head_snapshot";

static SNAPSHOT: LazyLock<Vec<u8>> =
    LazyLock::new(|| STORE.read(Path::new(FILE)).expect("it is there"));

fuzz_target!(|input: &[u8]| {
    let Some((&how, input)) = input.split_first() else { return };
    let bytes = match how % 4 {
        0 => input.to_vec(),
        1 => mutated(&SNAPSHOT, input),
        _ => {
            let mut bytes = mutated(&SNAPSHOT, input);
            let end = bytes.len() - 4;
            fix_checksum(&mut bytes, 0, end);
            bytes
        }
    };
    let disk = STORE.fork();
    disk.overwrite(Path::new(FILE), &bytes).expect("it is there");
    // A snapshot whose checksum holds is believed, so what is in it need not be what was.
    if let Ok(db) = open(&disk) {
        read(&db);
        let _ = db.maintain();
        let _ = db.close();
        drop(db);
        disk.kill();
        let _ = open(&disk).map(|db| read(&db));
    }
});
