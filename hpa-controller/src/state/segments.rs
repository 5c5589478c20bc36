//! Decisions in files: segments of JSON lines, appended to, the oldest deleted when all are too large.
//!
//! A line is complete or it is none: what a crash leaves of one is passed over, as is anything else that is not a decision. Writing is
//! never waited for; a disk that cannot follow costs lines, which are counted. Lines reach the kernel within moments and the disk when
//! the kernel likes, since nothing that is decided depends on them.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use telemetry::IntCounter;

use super::{Logged, StateError};

/// Lines that wait to be written.
const QUEUE_LINES: usize = 4_096;
/// Bytes of them.
const QUEUE_BYTES: usize = 16 << 20;
/// Bytes of a segment, unless all together may have few.
const SEGMENT_BYTES: u64 = 8 << 20;
/// Of how many segments the bound consists at least: so much of it is deleted at a time.
const SEGMENTS_MIN: u64 = 8;
/// Bytes of the newest segments that are read when a log is opened.
const RECENT_BYTES: u64 = 64 << 20;
/// A longer line is none of ours.
const LINE_BYTES_MAX: u64 = 64 << 20;
/// Time until writing is tried again after it failed.
const RETRY: Duration = Duration::from_secs(10);
const PREFIX: &str = "decisions-";
const SUFFIX: &str = ".jsonl";

/// Where decisions are written, and how much of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentOptions {
    /// The folder; made if there is none.
    pub directory: PathBuf,
    /// Bytes of all segments together.
    pub bytes_max: u64,
}

/// The writing end.
#[derive(Debug)]
pub(super) struct Segments {
    lines: Option<SyncSender<Vec<u8>>>,
    queued: Arc<AtomicUsize>,
    dropped: IntCounter,
    thread: Option<JoinHandle<()>>,
}

impl Segments {
    /// Begins a new segment in the folder. `dropped` counts lines that are not written.
    pub(super) fn open(options: SegmentOptions, dropped: IntCounter) -> Result<Self, StateError> {
        let mut writer = Writer::open(options)?;
        let (lines, received) = sync_channel(QUEUE_LINES);
        let queued = Arc::new(AtomicUsize::new(0));
        let thread = {
            let (queued, dropped) = (Arc::clone(&queued), dropped.clone());
            let directory = writer.directory.clone();
            thread::Builder::new()
                .name(String::from("decisions"))
                .spawn(move || writer.run(&received, &queued, &dropped))
                .map_err(StateError::file(&directory))?
        };
        Ok(Self { lines: Some(lines), queued, dropped, thread: Some(thread) })
    }

    /// Hands a line with its line feed over to be written.
    pub(super) fn append(&self, line: Vec<u8>) {
        let length = line.len();
        let fits = self.queued.fetch_add(length, Ordering::SeqCst) + length <= QUEUE_BYTES;
        let sent = fits && self.lines.as_ref().is_some_and(|lines| lines.try_send(line).is_ok());
        if !sent {
            self.queued.fetch_sub(length, Ordering::SeqCst);
            self.dropped.inc();
        }
    }
}

/// Waits until everything is written.
impl Drop for Segments {
    fn drop(&mut self) {
        drop(self.lines.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("writing decisions has ended badly");
        }
    }
}

struct Writer {
    directory: PathBuf,
    bytes_max: u64,
    segment_bytes: u64,
    /// Number and length of each segment, the oldest first; the last is open.
    segments: Vec<(u64, u64)>,
    /// `None` after a failure.
    open: Option<io::BufWriter<File>>,
    failed: Option<Instant>,
}

impl Writer {
    fn open(options: SegmentOptions) -> Result<Self, StateError> {
        let SegmentOptions { directory, bytes_max } = options;
        fs::create_dir_all(&directory).map_err(StateError::file(&directory))?;
        let mut segments = Vec::new();
        for (number, path) in list(&directory)? {
            let length = fs::metadata(&path).map_err(StateError::file(&path))?.len();
            segments.push((number, length));
        }
        let segment_bytes = SEGMENT_BYTES.min(bytes_max / SEGMENTS_MIN);
        let mut writer =
            Self { directory, bytes_max, segment_bytes, segments, open: None, failed: None };
        writer.begin()?;
        Ok(writer)
    }

    fn run(&mut self, lines: &Receiver<Vec<u8>>, queued: &AtomicUsize, dropped: &IntCounter) {
        while let Ok(first) = lines.recv() {
            let mut next = Some(first);
            // What is there goes out together, then nothing is held back.
            while let Some(line) = next {
                queued.fetch_sub(line.len(), Ordering::SeqCst);
                // A line that fills a segment would break the bound of all of them.
                let fits = line.len() as u64 <= self.segment_bytes;
                if !(fits && self.attempt(|writer| writer.append(&line))) {
                    dropped.inc();
                }
                next = lines.try_recv().ok();
            }
            self.attempt(Self::flush);
        }
    }

    /// Does `work` unless something failed a moment ago; says whether it was done.
    fn attempt(&mut self, work: impl Fn(&mut Self) -> Result<(), StateError>) -> bool {
        if self.failed.is_some_and(|failed| failed.elapsed() < RETRY) {
            return false;
        }
        match work(self) {
            Ok(()) => {
                self.failed = None;
                true
            }
            Err(error) => {
                tracing::warn!(%error, "decisions are not written");
                self.open = None;
                self.failed = Some(Instant::now());
                false
            }
        }
    }

    fn append(&mut self, line: &[u8]) -> Result<(), StateError> {
        let length = line.len() as u64;
        let full = self.segments.last().is_none_or(|(_, used)| used + length > self.segment_bytes);
        if full || self.open.is_none() {
            self.flush()?;
            self.begin()?;
        }
        let path = self.current();
        let (Some(open), Some((_, used))) = (&mut self.open, self.segments.last_mut()) else {
            return Ok(());
        };
        open.write_all(line).map_err(StateError::file(&path))?;
        *used += length;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StateError> {
        let path = self.current();
        match &mut self.open {
            Some(open) => open.flush().map_err(StateError::file(&path)),
            None => Ok(()),
        }
    }

    /// Opens the next segment, and deletes the oldest ones so that there is room for it.
    fn begin(&mut self) -> Result<(), StateError> {
        let mut total: u64 = self.segments.iter().map(|(_, length)| length).sum();
        while total + self.segment_bytes > self.bytes_max && !self.segments.is_empty() {
            let (number, length) = self.segments.remove(0);
            let path = segment(&self.directory, number);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    self.segments.insert(0, (number, length));
                    return Err(StateError::file(&path)(error));
                }
                _ => total -= length,
            }
        }
        let number = self.segments.last().map_or(0, |(number, _)| number + 1);
        let path = segment(&self.directory, number);
        // Whatever an earlier attempt left there.
        let file = File::create(&path).map_err(StateError::file(&path))?;
        self.open = Some(io::BufWriter::new(file));
        self.segments.push((number, 0));
        Ok(())
    }

    fn current(&self) -> PathBuf {
        segment(&self.directory, self.segments.last().map_or(0, |(number, _)| *number))
    }
}

fn segment(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{PREFIX}{number:012}{SUFFIX}"))
}

/// The segments in `directory` by number; none if there is no such folder.
fn list(directory: &Path) -> Result<Vec<(u64, PathBuf)>, StateError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StateError::file(directory)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(StateError::file(directory))?;
        let name = entry.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.parse::<u64>().ok());
        if let Some(number) = number {
            found.push((number, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// The decisions in the segments of `directory`, the oldest first. Lines that are none are passed over and warned of, each file once.
///
/// # Errors
/// The folder cannot be read.
pub fn read_segments(directory: &Path) -> Result<ReadSegments, StateError> {
    let paths: Vec<_> = list(directory)?.into_iter().map(|(_, path)| path).collect();
    Ok(ReadSegments { paths: paths.into_iter(), open: None, failed: false })
}

/// Those of the newest segments.
pub(super) fn read_recent(directory: &Path) -> Result<ReadSegments, StateError> {
    let mut paths = Vec::new();
    let mut bytes = 0;
    for (_, path) in list(directory)?.into_iter().rev() {
        bytes += fs::metadata(&path).map_err(StateError::file(&path))?.len();
        if bytes > RECENT_BYTES && !paths.is_empty() {
            break;
        }
        paths.push(path);
    }
    paths.reverse();
    Ok(ReadSegments { paths: paths.into_iter(), open: None, failed: false })
}

/// Decisions from files.
#[derive(Debug)]
pub struct ReadSegments {
    paths: std::vec::IntoIter<PathBuf>,
    open: Option<(PathBuf, BufReader<File>, usize)>,
    /// A line of the open file was warned of.
    failed: bool,
}

impl ReadSegments {
    /// The next line with its number, and whether its line feed is there.
    fn line(&mut self) -> Option<(usize, Vec<u8>)> {
        loop {
            if let Some((path, reader, number)) = &mut self.open {
                let mut line = Vec::new();
                match reader.take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
                    Ok(0) => self.open = None,
                    Ok(_) => {
                        *number += 1;
                        return Some((*number, line));
                    }
                    Err(error) => {
                        tracing::warn!(file = %path.display(), %error, "decisions cannot be read");
                        self.open = None;
                    }
                }
                continue;
            }
            let path = self.paths.next()?;
            self.failed = false;
            match File::open(&path) {
                Ok(file) => self.open = Some((path, BufReader::new(file), 0)),
                Err(error) => {
                    tracing::warn!(file = %path.display(), %error, "decisions cannot be read");
                }
            }
        }
    }
}

impl Iterator for ReadSegments {
    type Item = Logged;

    fn next(&mut self) -> Option<Logged> {
        loop {
            let (number, line) = self.line()?;
            let error = match serde_json::from_slice(&line) {
                Ok(logged) if line.ends_with(b"\n") => return Some(logged),
                Ok(_) => String::from("the line has no end"),
                Err(error) => error.to_string(),
            };
            if !self.failed
                && let Some((path, ..)) = &self.open
            {
                let file = path.display();
                tracing::warn!(%file, line = number, error, "not a decision, passed over");
                self.failed = true;
            }
        }
    }
}
