//! Copies of data directories.

use std::path::Path;

/// Copies the folder `from` with all in it to `to`, which may exist.
///
/// # Panics
/// If that fails.
pub fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap_or_else(|error| panic!("{}: {error}", to.display()));
    let entries =
        std::fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    for entry in entries {
        let entry = entry.expect("a folder that can be read");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("it was just listed").is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target)
                .unwrap_or_else(|error| panic!("{}: {error}", target.display()));
        }
    }
}
