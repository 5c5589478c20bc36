//! Any bytes as full chunks of the head, beside a log that is damaged, so that they are looked through for what it lost.

#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use fuzz::{DATA, STORE, fix_checksum, look, mutated, pieces, use_twice};
use libfuzzer_sys::fuzz_target;
use tsdb::{Disk, MemDisk};

const FILE: &str = "/data/chunks_head/000001";

/// With one byte of its last segment flipped.
static DAMAGED: LazyLock<MemDisk> = LazyLock::new(|| {
    let disk = STORE.fork();
    let _ = disk.remove_file(&Path::new(DATA).join("head_snapshot"));
    let wal = Path::new(DATA).join("wal");
    let entries = disk.list(&wal).expect("it is a folder");
    let segment = entries.into_iter().rfind(|entry| !entry.is_dir).expect("there is one");
    let path = wal.join(segment.name);
    let mut bytes = disk.read(&path).expect("it is there");
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    disk.overwrite(&path, &bytes).expect("it is there");
    let chunks = Path::new(FILE);
    if disk.read(chunks).is_err() {
        disk.create(chunks).expect("the disk is well");
    }
    disk
});

/// Entries whose chunk is a piece of the input, behind what it says of itself.
fn entries(input: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x01, 0x30, 0xbc, 0x91, 1, 0, 0, 0];
    for piece in pieces(input) {
        let Some((&[series, first, last, encoding], chunk)) = piece.split_first_chunk::<4>() else {
            continue;
        };
        let start = bytes.len();
        bytes.extend_from_slice(&u64::from(series).to_be_bytes());
        for minute in [first, last] {
            bytes.extend_from_slice(&(i64::from(minute) * 120_000).to_be_bytes());
        }
        bytes.push(encoding);
        if chunk.len() >= 0x80 {
            bytes.push(u8::try_from(chunk.len() & 0x7f).unwrap_or(0) | 0x80);
            bytes.push(u8::try_from(chunk.len() >> 7 & 0x7f).unwrap_or(0));
        } else {
            bytes.push(u8::try_from(chunk.len()).unwrap_or(0));
        }
        bytes.extend_from_slice(chunk);
        let end = bytes.len();
        bytes.extend_from_slice(&[0; 4]);
        fix_checksum(&mut bytes, start, end);
    }
    bytes
}

fuzz_target!(|input: &[u8]| {
    let Some((&how, input)) = input.split_first() else { return };
    let disk = DAMAGED.fork();
    let bytes = match how % 3 {
        0 => input.to_vec(),
        1 => entries(input),
        _ => mutated(&STORE.read(Path::new(FILE)).unwrap_or_default(), input),
    };
    disk.overwrite(Path::new(FILE), &bytes).expect("it is there");
    if how & 0x80 == 0 { use_twice(&disk) } else { look(&disk) }
});
