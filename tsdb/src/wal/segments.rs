//! The names in the log's folder.

use std::io;
use std::path::{Path, PathBuf};

use crate::disk::Disk;

const CHECKPOINT_PREFIX: &str = "checkpoint.";
/// Ends the name of a checkpoint that is being written.
pub(crate) const UNFINISHED_SUFFIX: &str = ".tmp";

/// The name of segment `number`.
pub(crate) fn segment_name(number: u32) -> String {
    format!("{number:08}")
}

/// The name of the checkpoint that takes the place of the segments up to `last`.
pub(crate) fn checkpoint_name(last: u32) -> String {
    format!("{CHECKPOINT_PREFIX}{last:08}")
}

/// What a log's folder contains.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Segments, ascending.
    pub(crate) segments: Vec<(u32, PathBuf)>,
    /// Checkpoints by the last segment that they replace, ascending.
    pub(crate) checkpoints: Vec<(u32, PathBuf)>,
    /// What an interrupted checkpoint or repair left.
    pub(crate) leftovers: Vec<(PathBuf, bool)>,
}

/// Ends the name of a segment that is being rewritten.
pub(crate) const REPAIR_SUFFIX: &str = ".repair";

/// Lists `dir`. Names of no known form are left alone.
pub(crate) fn list(disk: &dyn Disk, dir: &Path) -> io::Result<Listing> {
    let mut listing = Listing::default();
    for entry in disk.list(dir)? {
        let path = dir.join(&entry.name);
        if let Some(rest) = entry.name.strip_prefix(CHECKPOINT_PREFIX) {
            if let Ok(last) = rest.parse() {
                listing.checkpoints.push((last, path));
            } else if rest.ends_with(UNFINISHED_SUFFIX) {
                listing.leftovers.push((path, entry.is_dir));
            }
        } else if entry.name.ends_with(REPAIR_SUFFIX) {
            listing.leftovers.push((path, entry.is_dir));
        } else if entry.name.bytes().all(|byte| byte.is_ascii_digit())
            && let Ok(number) = entry.name.parse()
        {
            listing.segments.push((number, path));
        }
    }
    listing.segments.sort_unstable();
    listing.checkpoints.sort_unstable();
    Ok(listing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemDisk;

    #[test]
    fn names_are_told_apart() {
        let disk = MemDisk::new();
        for dir in ["/checkpoint.00000007", "/checkpoint.00000009.tmp", "/checkpoint.000003"] {
            disk.create_dir_all(Path::new(dir)).unwrap();
        }
        for file in ["/00000010", "/000009", "/series_state.json", "/00000003.repair"] {
            disk.create(Path::new(file)).unwrap();
        }
        let listing = list(&disk, Path::new("/")).unwrap();
        let numbers = |list: &[(u32, PathBuf)]| list.iter().map(|(n, _)| *n).collect::<Vec<_>>();
        assert_eq!(numbers(&listing.segments), [9, 10]);
        assert_eq!(numbers(&listing.checkpoints), [3, 7]);
        assert_eq!(listing.leftovers.len(), 2);
    }
}
