//! Putting a damaged block aside, where no start-up trips over it and someone can look at it.

use std::io;
use std::path::{Path, PathBuf};

use crate::disk::{Disk, create_dir_durably, exists};

/// The folder beside the blocks that damaged ones are moved to.
pub(crate) const QUARANTINE_DIR: &str = "quarantine";

/// The file that is put into the block.
const REASON_FILE: &str = "reason.txt";

/// More blocks of one name are not put aside.
const NAMES_MAX: u32 = 1000;

/// Moves the block in `dir` to the folder [`QUARANTINE_DIR`] beside it, together with the reason; where it is then.
pub(crate) fn quarantine(disk: &dyn Disk, dir: &Path, reason: &str) -> io::Result<PathBuf> {
    let (Some(parent), Some(name)) = (dir.parent(), dir.file_name().and_then(|n| n.to_str()))
    else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    // First, so that it comes along with the block. A disk that takes no more must not keep the block in the way.
    if let Err(error) = write_reason(disk, dir, reason) {
        tracing::warn!(block = %dir.display(), %error, "cannot note why it is put aside");
    }
    let aside = parent.join(QUARANTINE_DIR);
    create_dir_durably(disk, &aside)?;
    let target = free_name(disk, &aside, name)?;
    disk.rename(dir, &target)?;
    // The new name first: a power cut in between must not lose both.
    disk.sync_dir(&aside)?;
    disk.sync_dir(parent)?;
    Ok(target)
}

fn write_reason(disk: &dyn Disk, dir: &Path, reason: &str) -> io::Result<()> {
    let file = disk.create(&dir.join(REASON_FILE))?;
    file.write_at(reason.as_bytes(), 0)?;
    file.write_at(b"\n", reason.len() as u64)?;
    file.sync()?;
    disk.sync_dir(dir)
}

fn free_name(disk: &dyn Disk, aside: &Path, name: &str) -> io::Result<PathBuf> {
    for number in 0..NAMES_MAX {
        let suffix = if number == 0 { String::new() } else { format!(".{number}") };
        let target = aside.join(format!("{name}{suffix}"));
        if !exists(disk, &target)? {
            return Ok(target);
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}
