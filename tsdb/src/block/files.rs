//! Small files of a block that are replaced as a whole.

use std::io;
use std::path::{Path, PathBuf};

use crate::disk::Disk;

/// Ends the name of a file that is being written.
const UNFINISHED_SUFFIX: &str = ".tmp";

/// Puts a file in place of the one at `path`, durably: after a power cut there is the old or the new.
pub(super) fn write_atomically(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(UNFINISHED_SUFFIX);
    let unfinished = PathBuf::from(name);
    let written = (|| {
        let file = disk.create(&unfinished)?;
        file.write_at(bytes, 0)?;
        file.sync()?;
        disk.rename(&unfinished, path)
    })();
    if let Err(error) = written {
        // Beside the point now; the next attempt starts with an empty file.
        let _ = disk.remove_file(&unfinished);
        return Err(error);
    }
    path.parent().map_or(Ok(()), |dir| disk.sync_dir(dir))
}
