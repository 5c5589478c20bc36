//! `statfs` that cannot hang the caller.
//!
//! A file system whose server is gone blocks whoever asks about it, for ever and beyond signals. So a thread of its own asks; when it does not answer in
//! time it is left behind, the mount is remembered as stuck until the thread comes back, and another thread takes over.
//! There is never more than one thread per stuck mount.

use std::collections::HashSet;
use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::fs::StatVfs;

/// How long one mount may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Why there is no answer about a mount.
#[derive(Debug)]
pub(super) enum StatfsError {
    /// It did not answer in time, now or earlier.
    Stuck,
    /// The system refused.
    Refused(std::io::Error),
}

type Answer = Result<StatVfs, std::io::Error>;

/// Asks about mounts.
#[derive(Debug, Default)]
pub(super) struct Statfs {
    worker: Mutex<Option<Worker>>,
    stuck: Arc<Mutex<HashSet<PathBuf>>>,
}

/// A thread that answers one question at a time; it ends when its `Worker` is dropped.
#[derive(Debug)]
struct Worker {
    questions: SyncSender<PathBuf>,
    answers: Receiver<Answer>,
}

impl Worker {
    fn start(stuck: Arc<Mutex<HashSet<PathBuf>>>) -> std::io::Result<Self> {
        let (questions, asked) = sync_channel::<PathBuf>(1);
        let (answer, answers) = sync_channel::<Answer>(1);
        let work = move || {
            while let Ok(mount) = asked.recv() {
                let result = ask(&mount);
                // Whatever it was, the mount answers again.
                stuck.lock().remove(&mount);
                if answer.send(result).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name(String::from("statfs")).spawn(work)?;
        Ok(Self { questions, answers })
    }
}

fn ask(mount: &Path) -> Answer {
    use std::os::unix::ffi::OsStrExt;
    let path = CString::new(mount.as_os_str().as_bytes())?;
    Ok(rustix::fs::statvfs(path.as_c_str())?)
}

impl Statfs {
    /// Sizes of the file system mounted at `mount`.
    pub(super) fn get(&self, mount: &Path) -> Result<StatVfs, StatfsError> {
        if self.stuck.lock().contains(mount) {
            return Err(StatfsError::Stuck);
        }
        let mut slot = self.worker.lock();
        let worker = match slot.take() {
            Some(worker) => worker,
            None => Worker::start(Arc::clone(&self.stuck)).map_err(StatfsError::Refused)?,
        };
        // Before the question: the thread takes the mark away however late it answers.
        self.stuck.lock().insert(mount.to_path_buf());
        let asked = worker.questions.send(mount.to_path_buf());
        let answer = asked
            .map_err(|_| RecvTimeoutError::Disconnected)
            .and_then(|()| worker.answers.recv_timeout(ANSWER_TIMEOUT));
        match answer {
            Ok(answer) => {
                *slot = Some(worker);
                answer.map_err(StatfsError::Refused)
            }
            Err(RecvTimeoutError::Timeout) => Err(StatfsError::Stuck),
            Err(RecvTimeoutError::Disconnected) => {
                self.stuck.lock().remove(mount);
                Err(StatfsError::Refused(std::io::Error::other("the asking thread ended")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_answer_or_are_refused() {
        let statfs = Statfs::default();
        assert!(statfs.get(Path::new("/")).unwrap().f_blocks > 0);
        let absent = statfs.get(Path::new("/does/not/exist"));
        assert!(matches!(absent, Err(StatfsError::Refused(_))));
        assert!(statfs.get(Path::new("/")).is_ok());
        assert!(statfs.stuck.lock().is_empty());
    }

    #[test]
    fn a_mount_known_to_be_stuck_is_not_asked() {
        let statfs = Statfs::default();
        statfs.stuck.lock().insert(PathBuf::from("/"));
        assert!(matches!(statfs.get(Path::new("/")), Err(StatfsError::Stuck)));
    }
}
