//! Any bytes as a segment or as records of the write-ahead log, or of the log of late samples: the store starts, or says why not, and has
//! after a second start what it had after the first.

#![no_main]

use std::path::{Path, PathBuf};

use fuzz::{DATA, STORE, page, pieces, use_twice};
use libfuzzer_sys::fuzz_target;
use tsdb::{Disk, MemDisk};

fuzz_target!(|input: &[u8]| {
    let Some((&how, input)) = input.split_first() else { return };
    let bytes = if how & 1 == 0 { input.to_vec() } else { page(pieces(input)) };
    let segment = |name: &str| Path::new(DATA).join(name).join("00000000");
    if how & 2 == 0 {
        // A log by itself.
        let disk = MemDisk::new();
        put(&disk, &segment("wal"), &bytes);
        if how & 4 != 0 {
            put(&disk, &segment("wbl"), &bytes);
        }
        use_twice(&disk);
        return;
    }
    // Beside the rest of a store, whose series it may name.
    let disk = STORE.fork();
    let _ = disk.remove_file(&Path::new(DATA).join("head_snapshot"));
    if how & 4 != 0 {
        put(&disk, &segment("wbl"), &bytes);
    } else {
        put(&disk, &Path::new(DATA).join("wal").join("00000099"), &bytes);
    }
    use_twice(&disk);
});

fn put(disk: &MemDisk, path: &PathBuf, bytes: &[u8]) {
    let dir = path.parent().expect("it is in a folder");
    disk.create_dir_all(dir).expect("the disk is well");
    let file = disk.create(path).expect("the disk is well");
    file.write_at(bytes, 0).expect("the disk is well");
}
