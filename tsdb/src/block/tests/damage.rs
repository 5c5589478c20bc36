//! A damaged block gives an error that names it, or what it had; never something else.

use super::*;
use crate::block::checksums::{CHECKSUMS_FILE, Checksums};
use crate::block::verify::verify_block;

const FILES: [&str; 5] = ["meta.json", "index", "chunks/000001", "tombstones", CHECKSUMS_FILE];

/// A block with everything in it.
fn block(disk: &MemDisk) -> Block {
    let block = write(disk, 1, (0, 1000), &model(0..3, (0..40).map(|t| t * 20)), 13);
    let matchers = vec![model::Matcher::equal("i", "1")];
    let range = TimeRange::new(100, 200);
    let deleted = block.delete(disk, &[matchers], range, &QueryContext::unbounded()).unwrap();
    deleted.expect("something is deleted")
}

fn essentials(block: &Block) -> Meta {
    let mut meta = block.meta.clone();
    (meta.compaction.failed, meta.compaction.deletable) = (false, false);
    meta.other.clear();
    meta
}

#[test]
fn a_flipped_bit_anywhere_is_named_or_harmless() {
    let disk = new_disk();
    let whole = block(&disk);
    let (expected, meta) = (content(&whole).unwrap(), essentials(&whole));
    let name = whole.dir.display().to_string();
    let mut found = 0;
    for file in FILES {
        let bytes = disk.read(&whole.dir.join(file)).unwrap();
        let bits = if file == "meta.json" { 0..8 } else { 3..4 };
        for (at, bit) in (0..bytes.len()).flat_map(|at| bits.clone().map(move |bit| (at, bit))) {
            let disk = disk.fork();
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            disk.overwrite(&whole.dir.join(file), &flipped).unwrap();
            let read = open(&disk, &whole.dir).and_then(|block| {
                let content = content(&block)?;
                Ok((essentials(&block), content))
            });
            match read {
                Ok((read_meta, read)) => {
                    assert_eq!(read_meta, meta, "bit {bit} of byte {at} of {file}");
                    assert!(read == expected, "bit {bit} of byte {at} of {file}");
                }
                Err(error) => {
                    found += 1;
                    assert!(error.to_string().contains(&name), "byte {at} of {file}: {error}");
                }
            }
        }
    }
    assert!(found > 1000, "{found} flips were found");
}

/// Chunks that are decoded together are read before, but damage is that of the first.
#[test]
fn of_two_damaged_chunks_the_first_is_named() {
    let disk = new_disk();
    let block = write(&disk, 1, (0, 1000), &model(0..1, (0..26).map(|t| t * 20)), 13);
    let path = block.dir.join("chunks/000001");
    let mut bytes = disk.read(&path).unwrap();
    // uvarint(len) encoding chunk CRC-32C, after the header of the file.
    let len = usize::from(bytes[8]);
    assert!(len < 128, "the length is one byte");
    let (content, end) = (9..10 + len, 10 + len + 4);
    // More samples than there are.
    bytes[10..12].copy_from_slice(&[0xff, 0xff]);
    let checksum = crc32c::crc32c(&bytes[content.clone()]).to_be_bytes();
    bytes[content.end..end].copy_from_slice(&checksum);
    disk.overwrite(&path, &bytes).unwrap();
    let alone = content_error(&block);
    assert!(matches!(alone, QueryError::Corrupt { offset: 8, .. }), "{alone}");
    // The encoding of the second is none, or its checksum is wrong.
    for has_checksum in [true, false] {
        let second = usize::from(bytes[end]);
        let (content, mut bytes) = (end + 1..end + 2 + second, bytes.clone());
        bytes[content.start] = 0x7f;
        if has_checksum {
            let checksum = crc32c::crc32c(&bytes[content.clone()]).to_be_bytes();
            bytes[content.end..content.end + 4].copy_from_slice(&checksum);
        }
        disk.overwrite(&path, &bytes).unwrap();
        assert_eq!(content_error(&block).to_string(), alone.to_string());
    }
}

fn content_error(block: &Block) -> QueryError {
    content(block).expect_err("it is damaged")
}

#[test]
fn every_truncation_is_named_or_harmless() {
    let disk = new_disk();
    let whole = block(&disk);
    let (expected, name) = (content(&whole).unwrap(), whole.dir.display().to_string());
    for file in FILES {
        let bytes = disk.read(&whole.dir.join(file)).unwrap();
        for len in 0..bytes.len() {
            let disk = disk.fork();
            disk.overwrite(&whole.dir.join(file), &bytes[..len]).unwrap();
            match open(&disk, &whole.dir).and_then(|block| content(&block)) {
                Ok(read) => assert!(read == expected, "{len} bytes of {file}"),
                Err(error) => {
                    assert!(error.to_string().contains(&name), "{len} bytes of {file}: {error}");
                }
            }
        }
    }
}

#[test]
fn verification_finds_every_flipped_bit() {
    let disk = new_disk();
    let whole = block(&disk);
    assert_whole(&disk, &whole.dir);
    for file in FILES {
        let bytes = disk.read(&whole.dir.join(file)).unwrap();
        for at in 0..bytes.len() {
            let disk = disk.fork();
            let mut flipped = bytes.clone();
            flipped[at] ^= 2;
            disk.overwrite(&whole.dir.join(file), &flipped).unwrap();
            let findings = verify_block(&disk, &whole.dir, &mut |_, _| true);
            // White space in meta.json, what other programs may change there, and the tombstone count that no checksum covers.
            let may_pass = file == "meta.json";
            assert!(may_pass || !findings.is_empty(), "byte {at} of {file}");
            let dir = whole.dir.display().to_string();
            assert!(findings.iter().all(|finding| finding.path.starts_with(&dir)), "{findings:?}");
        }
    }
}

/// What verification finds without the checksums of whole files, as in a block of another program.
#[test]
fn verification_looks_into_blocks_without_checksums() {
    let disk = new_disk();
    let whole = block(&disk);
    disk.remove_file(&whole.dir.join(CHECKSUMS_FILE)).unwrap();
    assert_whole(&disk, &whole.dir);
    let bytes = disk.read(&whole.dir.join("chunks/000001")).unwrap();
    for at in 8..bytes.len() {
        let disk = disk.fork();
        let mut flipped = bytes.clone();
        flipped[at] ^= 2;
        disk.overwrite(&whole.dir.join("chunks/000001"), &flipped).unwrap();
        let findings = verify_block(&disk, &whole.dir, &mut |_, _| true);
        assert!(findings[0].path.ends_with("chunks/000001"), "byte {at}: {findings:?}");
    }
    let mut meta = whole.meta.clone();
    meta.stats.num_series += 1;
    meta.stats.num_samples += 1;
    meta.replace(&disk, &whole.dir).unwrap();
    let findings = verify_block(&disk, &whole.dir, &mut |_, _| true);
    let found: Vec<&str> = findings.iter().map(|finding| finding.what.as_str()).collect();
    assert_eq!(found, ["counts 4 series, there are 3", "counts 121 samples, there are 120"]);
}

#[test]
fn verification_stops_when_it_is_told_to() {
    let disk = new_disk();
    let whole = block(&disk);
    let mut calls = 0;
    verify_block(&disk, &whole.dir, &mut |done, total| {
        assert!(done <= total);
        calls += 1;
        calls < 3
    });
    assert_eq!(calls, 3);
}

#[test]
fn a_meta_that_another_program_rewrote_is_believed() {
    let disk = new_disk();
    let whole = block(&disk);
    let expected = content(&whole).unwrap();
    let mut meta = Meta::read(&disk, &whole.dir).unwrap();
    meta.other.insert(String::from("thanos"), serde_json::json!({"labels": {"a": "b"}}));
    meta.compaction.failed = true;
    disk.overwrite(&whole.dir.join("meta.json"), &meta.encode()).unwrap();
    let before = disk.read(&whole.dir.join(CHECKSUMS_FILE)).unwrap();
    let opened = Block::open(&disk, &whole.dir, meta.clone(), Access::ReadOnly).unwrap();
    assert_eq!(content(&opened).unwrap(), expected);
    assert_eq!(disk.read(&whole.dir.join(CHECKSUMS_FILE)).unwrap(), before);
    open(&disk, &whole.dir).unwrap();
    assert_ne!(disk.read(&whole.dir.join(CHECKSUMS_FILE)).unwrap(), before);
    assert_whole(&disk, &whole.dir);
    meta.max_time += 1;
    disk.overwrite(&whole.dir.join("meta.json"), &meta.encode()).unwrap();
    let error = open(&disk, &whole.dir).unwrap_err().to_string();
    assert!(error.contains("meta.json") && error.contains(CHECKSUMS_FILE), "{error}");
}

#[test]
fn without_the_checksums_the_content_decides() {
    let disk = new_disk();
    let whole = block(&disk);
    let path = whole.dir.join(CHECKSUMS_FILE);
    disk.overwrite(&path, b"nonsense").unwrap();
    for change in 0..4 {
        let disk = disk.fork();
        let mut meta = Meta::read(&disk, &whole.dir).unwrap();
        match change {
            0 => meta.stats.num_series += 1,
            1 => meta.stats.num_chunks -= 1,
            2 => meta.min_time += 1,
            _ => meta.max_time = 780,
        }
        disk.overwrite(&whole.dir.join("meta.json"), &meta.encode()).unwrap();
        let error = open(&disk, &whole.dir).unwrap_err().to_string();
        assert!(error.contains("meta.json"), "{change}: {error}");
    }
    open(&disk, &whole.dir).unwrap();
    let checksums = Checksums::read(&disk, &whole.dir).unwrap().flatten().unwrap();
    assert_eq!(checksums.of_files().map(|(name, _)| name).collect::<Vec<_>>(), ["meta.json"]);
}
