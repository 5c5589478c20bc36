//! Reading the kernel's small text files.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use crate::CollectError;

/// Largest file that is read; the largest of the kernel's that we read is far below (1 KB per CPU and device).
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Reads a file whole.
pub(crate) fn read(path: &Path) -> Result<String, CollectError> {
    let failed = |source: std::io::Error| match source.kind() {
        ErrorKind::NotFound => CollectError::NoData(path.to_path_buf()),
        _ => CollectError::Read { path: path.to_path_buf(), source },
    };
    let file = File::open(path).map_err(failed)?;
    // The kernel says that these files are empty, so a read without a buffer would begin with 32 bytes.
    let mut bytes = Vec::with_capacity(4096);
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(failed)?;
    Ok(match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

/// Reads a file if it is there and readable: for what a machine may or may not have.
pub(crate) fn read_optional(path: &Path) -> Option<String> {
    read(path).ok()
}

/// The number that is all a file contains, if it is there.
pub(crate) fn number(path: &Path) -> Option<f64> {
    read_optional(path)?.trim().parse().ok()
}

/// A number of a line.
pub(crate) fn parse(text: &str, path: &Path, line: &str) -> Result<f64, CollectError> {
    text.parse().map_err(|_| CollectError::malformed(path, "not a number", line))
}

/// CPUs of a list such as `0-3,7`; at most 65,536 of them.
pub(crate) fn cpu_list(text: &str) -> Vec<u32> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) else { continue };
        cpus.extend((first..=last).take(1 << 16));
    }
    cpus
}

/// The `total` of a line of a pressure file, in seconds.
pub(crate) fn pressure_seconds(text: &str, line: &str) -> Option<f64> {
    let found = text.lines().find(|l| l.split(' ').next() == Some(line))?;
    let total = found.split(' ').find_map(|field| field.strip_prefix("total="))?;
    // Divided twice, as upstream does: once would round differently.
    Some(total.parse::<f64>().ok()? / 1e3 / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus() {
        assert_eq!(cpu_list("0-2,5\n"), [0, 1, 2, 5]);
        assert_eq!(cpu_list("\n"), [0_u32; 0]);
        assert_eq!(cpu_list("x,3"), [3]);
    }

    #[test]
    fn lines_of_pressure_files() {
        let text = "some avg10=0.00 avg60=0.10 avg300=0.00 total=1500000\n\
                    full avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        assert_eq!(pressure_seconds(text, "some"), Some(1.5));
        assert_eq!(pressure_seconds(text, "full"), Some(7e-6));
        assert_eq!(pressure_seconds("some avg10=0.00\n", "some"), None);
        assert_eq!(pressure_seconds("", "some"), None);
    }
}
