//! Why a collector has nothing to show.

use std::path::{Path, PathBuf};

/// A collector that failed.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The kernel or machine does not have what the collector reads. Not a fault, yet no success either.
    #[error("no data: {0} does not exist")]
    NoData(PathBuf),
    /// A file cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file does not look as documented.
    #[error("{path}: {what} in {line:?}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
        /// Where, cut to a reasonable length.
        line: String,
    },
    /// A system call failed.
    #[error("{call}: {source}")]
    Call {
        /// The call.
        call: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Longest excerpt of a malformed line, in characters.
const EXCERPT_CHARS_MAX: usize = 120;

impl CollectError {
    /// A line that is not as documented.
    pub(crate) fn malformed(path: &Path, what: &'static str, line: &str) -> Self {
        let line = line.chars().take(EXCERPT_CHARS_MAX).collect();
        Self::Malformed { path: path.to_path_buf(), what, line }
    }
}
