//! Memory in a file: written beside, synced, renamed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::compact::Saved;
use super::{HpaKey, StateError};

/// Name of the file.
const FILE: &str = "state.jsonl";
/// Bytes that are read of it: a hundred times what ten thousand autoscalers leave.
const READ_MAX: u64 = 256 << 20;

/// A folder with the file.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    /// Hash of what was last written.
    written: Option<u64>,
}

impl Directory {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, written: None }
    }

    /// What the file says; nothing if there is none.
    pub(super) async fn read(&self) -> Result<Vec<Saved>, StateError> {
        let path = self.path.join(FILE);
        blocking(move || {
            let file = match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                Err(error) => return Err(StateError::file(&path)(error)),
            };
            let mut bytes = Vec::new();
            file.take(READ_MAX).read_to_end(&mut bytes).map_err(StateError::file(&path))?;
            // A line that is no text is no JSON either, and told so.
            Ok(parse(&String::from_utf8_lossy(&bytes), &path.display().to_string()))
        })
        .await
    }

    pub(super) async fn write(
        &mut self,
        lines: &BTreeMap<HpaKey, String>,
    ) -> Result<(), StateError> {
        let text = joined(lines.values());
        let hash = hash(&text);
        if self.written == Some(hash) {
            return Ok(());
        }
        let directory = self.path.clone();
        blocking(move || replace(&directory, FILE, text.as_bytes())).await?;
        self.written = Some(hash);
        Ok(())
    }
}

/// One line each.
pub(super) fn joined<'a>(lines: impl IntoIterator<Item = &'a String>) -> String {
    let mut text = String::new();
    for line in lines {
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// What tells that a text changed.
pub(super) fn hash(text: &str) -> u64 {
    use std::hash::BuildHasher;
    foldhash::quality::FixedState::default().hash_one(text)
}

/// The lines of `text`; those that are none are warned of by number, the first at least.
pub(super) fn parse(text: &str, place: &str) -> Vec<Saved> {
    let mut found = Vec::new();
    let mut bad = 0_usize;
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        match serde_json::from_str(line) {
            Ok(saved) => found.push(saved),
            Err(error) => {
                if bad == 0 {
                    tracing::warn!(place, line = at + 1, %error, "state cannot be read");
                }
                bad += 1;
            }
        }
    }
    if bad > 1 {
        tracing::warn!(place, lines = bad, "lines of state cannot be read and are left out");
    }
    found
}

/// Puts `bytes` in place of `name` in `directory`: either all of it is there afterwards or what was there before.
fn replace(directory: &Path, name: &str, bytes: &[u8]) -> Result<(), StateError> {
    fs::create_dir_all(directory).map_err(StateError::file(directory))?;
    let (path, beside) = (directory.join(name), directory.join(format!("{name}.tmp")));
    let mut file = File::create(&beside).map_err(StateError::file(&beside))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(StateError::file(&beside))?;
    fs::rename(&beside, &path).map_err(StateError::file(&path))?;
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(StateError::file(directory))
}

/// Files are not waited for on a thread of the runtime.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StateError> + Send + 'static,
) -> Result<T, StateError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(StateError::File { path: PathBuf::from(FILE), source: error.into() }),
    }
}
