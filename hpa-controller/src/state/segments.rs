//! Decisions in files: segments of compressed JSON lines, appended to, the oldest deleted when all are too large.
//!
//! One decision looks much like another, so that a segment is one zstd frame, whose window goes back over hundreds of them. What is
//! compressed reaches the kernel once a second; a process that dies costs the lines since then, and the frame that it leaves has no end,
//! which is no matter to who reads it. The kernel brings it to the disk when it likes, since nothing that is decided depends on it.
//!
//! A line is complete or it is none: what is no decision is passed over. Writing is never waited for; a disk that cannot follow costs lines,
//! which are counted. Segments of plain JSON lines, as earlier versions wrote them, are read, too.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use telemetry::IntCounter;
use zstd::stream::{read::Decoder, write::Encoder};

use super::{Logged, StateError};

/// Lines that wait to be written.
const QUEUE_LINES: usize = 4_096;
/// Bytes of them.
const QUEUE_BYTES: usize = 16 << 20;
/// Bytes of a segment, unless all together may have few.
const SEGMENT_BYTES: u64 = 8 << 20;
/// Bytes of its lines, so that one is read in a moment.
const SEGMENT_LINES_BYTES: u64 = 64 << 20;
/// How many bytes of lines a byte of a segment may stand for, as far as is guessed before it is read.
const RATIO: u64 = 64;
/// The cheapest level: lines are so much alike that others gain nothing.
const COMPRESSION_LEVEL: i32 = 1;
/// How long a line may wait for others to be compressed with.
const FLUSH_AFTER: Duration = Duration::from_secs(1);
/// Of how many segments the bound consists at least: so much of it is deleted at a time.
const SEGMENTS_MIN: u64 = 8;
/// Bytes of lines, as far as can be guessed, of the newest segments that are read when a log is opened.
const RECENT_BYTES: u64 = 128 << 20;
/// A longer line is none of ours.
const LINE_BYTES_MAX: u64 = 64 << 20;
/// Time until writing is tried again after it failed.
const RETRY: Duration = Duration::from_secs(10);
const PREFIX: &str = "decisions-";
const SUFFIX: &str = ".jsonl.zst";
/// Of a segment that is not compressed.
const PLAIN_SUFFIX: &str = ".jsonl";

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
        let mut writer = Writer::open(options, dropped.clone())?;
        let (lines, received) = sync_channel(QUEUE_LINES);
        let queued = Arc::new(AtomicUsize::new(0));
        let thread = {
            let queued = Arc::clone(&queued);
            let directory = writer.directory.clone();
            thread::Builder::new()
                .name(String::from("decisions"))
                .spawn(move || writer.run(&received, &queued))
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
    /// The oldest first; the last is open.
    segments: Vec<Segment>,
    /// `None` after a failure.
    open: Option<Open>,
    failed: Option<Instant>,
    /// Lines that were not written.
    dropped: IntCounter,
}

/// A file and its length.
struct Segment {
    number: u64,
    path: PathBuf,
    length: u64,
}

/// The segment that is written.
struct Open {
    encoder: Encoder<'static, Counted>,
    /// Bytes of all lines, and of those that may not be in the file yet.
    lines: u64,
    pending: u64,
    pending_lines: u64,
    /// When the first of the latter came.
    since: Option<Instant>,
}

/// Counts what is written.
struct Counted {
    file: File,
    bytes: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The length at most of a file of so many bytes that is given `more` bytes of lines and ended.
const fn length_max(bytes: u64, more: u64) -> u64 {
    // What does not compress grows by a few bytes for each block of up to 128 KiB, and a frame has a head and an end.
    bytes + more + more / 1024 + 256
}

impl Open {
    fn create(path: &Path) -> io::Result<Self> {
        // Whatever an earlier attempt left there.
        let counted = Counted { file: File::create(path)?, bytes: 0 };
        let encoder = Encoder::new(counted, COMPRESSION_LEVEL)?;
        Ok(Self { encoder, lines: 0, pending: 0, pending_lines: 0, since: None })
    }

    /// What the file has at most once `more` bytes of lines are in it and it has ended.
    fn length_max(&self, more: u64) -> u64 {
        length_max(self.encoder.get_ref().bytes, self.pending + more)
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        self.encoder.write_all(line)?;
        self.lines += line.len() as u64;
        self.pending += line.len() as u64;
        self.pending_lines += 1;
        self.since.get_or_insert_with(Instant::now);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.encoder.flush()?;
        (self.pending, self.pending_lines) = (0, 0);
        self.since = None;
        Ok(())
    }
}

impl Writer {
    fn open(options: SegmentOptions, dropped: IntCounter) -> Result<Self, StateError> {
        let SegmentOptions { directory, bytes_max } = options;
        fs::create_dir_all(&directory).map_err(StateError::file(&directory))?;
        let segments = list(&directory)?;
        let segment_bytes = SEGMENT_BYTES.min(bytes_max / SEGMENTS_MIN);
        let mut writer = Self {
            directory,
            bytes_max,
            segment_bytes,
            segments,
            open: None,
            failed: None,
            dropped,
        };
        writer.begin()?;
        Ok(writer)
    }

    fn run(&mut self, lines: &Receiver<Vec<u8>>, queued: &AtomicUsize) {
        loop {
            let since = self.open.as_ref().and_then(|open| open.since);
            let next = match since.map(|since| FLUSH_AFTER.saturating_sub(since.elapsed())) {
                Some(Duration::ZERO) => Err(RecvTimeoutError::Timeout),
                Some(left) => lines.recv_timeout(left),
                None => lines.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match next {
                Ok(line) => {
                    queued.fetch_sub(line.len(), Ordering::SeqCst);
                    if !self.attempt(|writer| writer.append(&line)) {
                        self.dropped.inc();
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.attempt(Self::flush);
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.attempt(Self::end);
    }

    /// Does `work` unless something failed a moment ago; says whether it was done.
    fn attempt(&mut self, work: impl Fn(&mut Self) -> Result<bool, StateError>) -> bool {
        if self.failed.is_some_and(|failed| failed.elapsed() < RETRY) {
            return false;
        }
        match work(self) {
            Ok(done) => {
                self.failed = None;
                done
            }
            Err(error) => {
                tracing::warn!(%error, "decisions are not written");
                if let Some(open) = self.open.take() {
                    self.dropped.inc_by(open.pending_lines);
                }
                self.failed = Some(Instant::now());
                false
            }
        }
    }

    /// Says whether the line was taken.
    fn append(&mut self, line: &[u8]) -> Result<bool, StateError> {
        let length = line.len() as u64;
        // A line that fills a segment would break the bound of all of them.
        if !self.fits_alone(line)? {
            return Ok(false);
        }
        if !self.fits(length) {
            // It may only seem so, while it is not known how well lines compress.
            self.flush()?;
        }
        if !self.fits(length) {
            self.end()?;
            self.begin()?;
        }
        self.with(|open| open.append(line))
    }

    /// Whether an empty segment would have room. A line that is too long as it is may be short enough once compressed.
    fn fits_alone(&self, line: &[u8]) -> Result<bool, StateError> {
        if length_max(0, line.len() as u64) <= self.segment_bytes {
            return Ok(true);
        }
        let packed = zstd::bulk::compress(line, COMPRESSION_LEVEL);
        let packed = packed.map_err(StateError::file(&self.directory))?;
        Ok(length_max(packed.len() as u64, 0) <= self.segment_bytes)
    }

    fn fits(&self, length: u64) -> bool {
        self.open.as_ref().is_some_and(|open| {
            let has_room = open.lines == 0 || open.lines + length <= SEGMENT_LINES_BYTES;
            has_room && open.length_max(length) <= self.segment_bytes
        })
    }

    fn flush(&mut self) -> Result<bool, StateError> {
        self.with(Open::flush)
    }

    /// Ends the open segment.
    fn end(&mut self) -> Result<bool, StateError> {
        let (path, open) = (self.current(), self.open.take());
        let Some(open) = open else { return Ok(true) };
        let pending = open.pending_lines;
        let counted = open.encoder.finish().map_err(|error| {
            self.dropped.inc_by(pending);
            StateError::file(&path)(error)
        })?;
        if let Some(segment) = self.segments.last_mut() {
            segment.length = counted.bytes;
        }
        Ok(true)
    }

    /// Works on the open segment, if there is one.
    fn with(&mut self, work: impl FnOnce(&mut Open) -> io::Result<()>) -> Result<bool, StateError> {
        let path = self.current();
        if let (Some(open), Some(segment)) = (&mut self.open, self.segments.last_mut()) {
            let done = work(open);
            segment.length = open.encoder.get_ref().bytes;
            done.map_err(StateError::file(&path))?;
        }
        Ok(true)
    }

    /// Opens the next segment, and deletes the oldest ones so that there is room for it.
    fn begin(&mut self) -> Result<(), StateError> {
        let mut total: u64 = self.segments.iter().map(|segment| segment.length).sum();
        while total + self.segment_bytes > self.bytes_max && !self.segments.is_empty() {
            let oldest = self.segments.remove(0);
            match fs::remove_file(&oldest.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    let error = StateError::file(&oldest.path)(error);
                    self.segments.insert(0, oldest);
                    return Err(error);
                }
                _ => total -= oldest.length,
            }
        }
        let number = self.segments.last().map_or(0, |segment| segment.number + 1);
        let path = self.directory.join(format!("{PREFIX}{number:012}{SUFFIX}"));
        self.open = Some(Open::create(&path).map_err(StateError::file(&path))?);
        self.segments.push(Segment { number, path, length: 0 });
        Ok(())
    }

    fn current(&self) -> PathBuf {
        self.segments.last().map_or_else(|| self.directory.clone(), |segment| segment.path.clone())
    }
}

/// The segments in `directory` by number; none if there is no such folder.
fn list(directory: &Path) -> Result<Vec<Segment>, StateError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StateError::file(directory)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(StateError::file(directory))?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|rest| {
            let number = rest.strip_suffix(SUFFIX).or_else(|| rest.strip_suffix(PLAIN_SUFFIX))?;
            number.parse().ok()
        });
        if let Some(number) = number {
            let path = entry.path();
            let length = fs::metadata(&path).map_err(StateError::file(&path))?.len();
            found.push(Segment { number, path, length });
        }
    }
    found.sort_by(|a, b| (a.number, &a.path).cmp(&(b.number, &b.path)));
    Ok(found)
}

fn is_plain(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "jsonl")
}

/// The lines of a segment.
fn lines(path: &Path) -> io::Result<Box<dyn BufRead + Send>> {
    let file = File::open(path)?;
    if is_plain(path) {
        return Ok(Box::new(BufReader::new(file)));
    }
    // More than a segment has is damage.
    Ok(Box::new(BufReader::new(Decoder::new(file)?.take(SEGMENT_LINES_BYTES + LINE_BYTES_MAX))))
}

/// The decisions in the segments of `directory`, the oldest first. Lines that are none are passed over and warned of, each file once.
///
/// # Errors
/// The folder cannot be read.
pub fn read_segments(directory: &Path) -> Result<ReadSegments, StateError> {
    let paths: Vec<_> = list(directory)?.into_iter().map(|segment| segment.path).collect();
    Ok(ReadSegments { paths: paths.into_iter(), open: None, failed: false })
}

/// Those of the newest segments.
pub(super) fn read_recent(directory: &Path) -> Result<ReadSegments, StateError> {
    let mut paths = Vec::new();
    let mut bytes = 0;
    for Segment { path, length, .. } in list(directory)?.into_iter().rev() {
        bytes += if is_plain(&path) { length } else { (length * RATIO).min(SEGMENT_LINES_BYTES) };
        if bytes > RECENT_BYTES && !paths.is_empty() {
            break;
        }
        paths.push(path);
    }
    paths.reverse();
    Ok(ReadSegments { paths: paths.into_iter(), open: None, failed: false })
}

/// Decisions from files.
pub struct ReadSegments {
    paths: std::vec::IntoIter<PathBuf>,
    /// A file, its lines, and the number of the last.
    open: Option<(PathBuf, Box<dyn BufRead + Send>, usize)>,
    /// A line of the open file was warned of.
    failed: bool,
}

impl std::fmt::Debug for ReadSegments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let open = self.open.as_ref().map(|(path, ..)| path);
        f.debug_struct("ReadSegments").field("open", &open).finish_non_exhaustive()
    }
}

impl ReadSegments {
    /// The next line with its number, and whether its line feed is there.
    fn line(&mut self) -> Option<(usize, Vec<u8>)> {
        loop {
            if let Some((path, reader, number)) = &mut self.open {
                let mut line = Vec::new();
                match reader.as_mut().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
                    Ok(0) => self.open = None,
                    Ok(_) => {
                        *number += 1;
                        return Some((*number, line));
                    }
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                        tracing::info!(file = %path.display(), "decisions were cut off by the end of a process");
                        self.open = None;
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
            match lines(&path) {
                Ok(lines) => self.open = Some((path, lines, 0)),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_longer_than_a_segment_is_written_if_it_compresses_and_cuts_none_if_not() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().to_owned();
        let dropped = IntCounter::new("dropped", "Lines.").unwrap();
        let bytes_max = 8 << 20;
        let options = SegmentOptions { directory: directory.clone(), bytes_max };
        let segments = Segments::open(options, dropped.clone()).unwrap();
        let long = [vec![b'a'; 3 << 20], vec![b'\n']].concat();
        // Of no use to a compressor.
        let mut state = 1_u64;
        let random = (0..3 << 20).map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_be_bytes()[0].max(b'\n' + 1)
        });
        let random: Vec<u8> = random.chain([b'\n']).collect();
        let short = || b"short\n".to_vec();
        for line in [short(), random.clone(), random, short(), long.clone(), short()] {
            segments.append(line);
        }
        drop(segments);
        assert_eq!(dropped.get(), 2);
        let mut read = Vec::new();
        let found = list(&directory).unwrap();
        for segment in &found {
            read.extend(lines(&segment.path).unwrap().lines().map(|line| line.unwrap().len()));
        }
        assert_eq!(read, [5, 5, long.len() - 1, 5]);
        assert!(found.len() <= 3, "{} segments", found.len());
    }
}
