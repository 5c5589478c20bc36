//! A second name for the files of a block, as a backup that takes no room.

use std::io;
use std::path::{Path, PathBuf};

use super::checksums::CHECKSUMS_FILE;
use super::chunk_files::CHUNKS_DIR;
use super::meta::META_FILE;
use super::tombstones::{TOMBSTONES_FILE, Tombstones};
use super::{CREATION_SUFFIX, INDEX_FILE};
use crate::disk::{Disk, create_dir_durably, exists};

/// Links the files of the block in `dir` into a folder of the same name in `into`, which is created if need be; where that is. Files of a block
/// are replaced, never changed, so the links keep what is there now.
pub(crate) fn snapshot_block(disk: &dyn Disk, dir: &Path, into: &Path) -> io::Result<PathBuf> {
    let name = dir.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidInput)?;
    create_dir_durably(disk, into)?;
    let (target, temporary) = (into.join(name), into.join(format!("{name}{CREATION_SUFFIX}")));
    if exists(disk, &target)? {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    if exists(disk, &temporary)? {
        disk.remove_dir_all(&temporary)?;
    }
    let linked = link_files(disk, dir, &temporary)
        .and_then(|()| disk.rename(&temporary, &target))
        .and_then(|()| disk.sync_dir(into));
    if let Err(error) = linked {
        for unfinished in [&temporary, &target] {
            if exists(disk, unfinished).unwrap_or(false) {
                let _ = disk.remove_dir_all(unfinished);
            }
        }
        return Err(error);
    }
    Ok(target)
}

fn link_files(disk: &dyn Disk, from: &Path, to: &Path) -> io::Result<()> {
    let chunks = to.join(CHUNKS_DIR);
    disk.create_dir_all(&chunks)?;
    for entry in disk.list(&from.join(CHUNKS_DIR))? {
        disk.hard_link(&from.join(CHUNKS_DIR).join(&entry.name), &chunks.join(&entry.name))?;
    }
    disk.sync_dir(&chunks)?;
    let there = disk.list(from)?;
    let has = |name: &str| there.iter().any(|entry| entry.name == name);
    disk.hard_link(&from.join(META_FILE), &to.join(META_FILE))?;
    disk.hard_link(&from.join(INDEX_FILE), &to.join(INDEX_FILE))?;
    if has(CHECKSUMS_FILE) {
        disk.hard_link(&from.join(CHECKSUMS_FILE), &to.join(CHECKSUMS_FILE))?;
    }
    if has(TOMBSTONES_FILE) {
        disk.hard_link(&from.join(TOMBSTONES_FILE), &to.join(TOMBSTONES_FILE))?;
    } else {
        Tombstones::default().write_new(disk, to)?;
    }
    disk.sync_dir(to)
}
