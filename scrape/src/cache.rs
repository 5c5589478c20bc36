//! Remembers the lines of a target's last scrape, so that the next one reads only values.
//!
//! A target writes the same lines in the same order nearly every time. The cache is therefore an array in the
//! order of the body: line *i* is expected to be the line that was at *i*, and where its bytes hash to what they
//! hashed to, only the value is parsed and the series ref is at hand. Where a line is not the expected one, a
//! table over all lines is built for the rest of this scrape, finds lines that moved, and is dropped after it.
//!
//! A line is recognised by its length and a 64-bit hash with a key that is random per process; its text is not
//! kept. For a wrong match a new line must have the length and hash of the one line that is expected in its place,
//! or of any of the n lines of the last body when it is not there. With 10⁵ lines, all of them new in every scrape,
//! every 15 seconds, hashes alone make that one wrong match in nine hundred years; real bodies repeat nearly all of
//! their lines. And a target cannot aim for it without the key.
//!
//! Invariant: after a scrape that was read to its end, line *k* describes entry *k* of its body.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hasher};

use exposition::MetricKind;
use model::{Appended, Batch, SeriesRef, Timestamp, stale_marker};

/// The ref of a series that the store has not admitted, or not yet.
pub(crate) const UNRESOLVED: SeriesRef = SeriesRef(0);

/// One line of the last body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Of the series of a sample, of all of a metadata line.
    pub(crate) hash: u64,
    /// Whose samples these are; [`UNRESOLVED`] for metadata too.
    pub(crate) series: SeriesRef,
    /// Bytes that were hashed.
    pub(crate) len: u32,
    pub(crate) kind: LineKind,
}

/// What a line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineKind {
    /// A sample; `tracked` unless its time was given by the target.
    Sample {
        tracked: bool,
    },
    /// Another sample of a series that stands further up.
    Repeat,
    Help,
    Type(MetricKind),
}

const _: () = assert!(size_of::<Line>() == 24, "24 bytes per line is the budget");

impl Line {
    pub(crate) fn is_sample(&self) -> bool {
        matches!(self.kind, LineKind::Sample { .. } | LineKind::Repeat)
    }
}

/// A line whose series goes to the store with its labels; its ref comes back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    /// Position among the lines; ascending within a scrape.
    pub(crate) line: u32,
    /// Position in [`Batch::new_series`].
    pub(crate) new: u32,
}

/// The lines of a target's last scrape, and which of its series are yet to be marked stale.
#[derive(Debug, Default)]
pub(crate) struct SeriesCache {
    hasher: foldhash::quality::RandomState,
    pub(crate) lines: Vec<Line>,
    /// Whether the lines were in the last scrape; false after one that failed, whose series are stale
    /// already.
    pub(crate) live: bool,
    /// Series whose staleness markers have not been stored yet.
    vanished: Vec<SeriesRef>,
}

impl SeriesCache {
    /// Hashes a line.
    #[inline]
    pub(crate) fn hash(&self, text: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(text);
        hasher.finish()
    }

    /// The scrape has no samples: every series is stale.
    ///
    /// The lines stay, because a target that comes back usually has the same ones.
    pub(crate) fn fail(&mut self) {
        self.vanish(|_| true);
        self.live = false;
    }

    /// Forgets everything, because the same lines now mean other series.
    pub(crate) fn reset(&mut self) {
        self.fail();
        self.lines = Vec::new();
    }

    /// Replaces the lines by those of the scrape that was just read; `untracked` are series that are
    /// still exposed, but with timestamps since now.
    pub(crate) fn renew(
        &mut self,
        mut lines: Vec<Line>,
        gone: impl Fn(usize) -> bool,
        untracked: &[SeriesRef],
    ) {
        self.vanish(gone);
        if lines.capacity() - lines.len() > lines.len() / 4 {
            lines.shrink_to_fit();
        }
        self.lines = lines;
        self.live = true;
        self.keep_exposed();
        self.vanished.extend_from_slice(untracked);
    }

    /// The body was the same as the last, up to its end after `len` lines.
    pub(crate) fn keep(&mut self, len: usize) {
        self.vanish(|line| line >= len);
        self.lines.truncate(len);
        self.live = true;
        self.keep_exposed();
    }

    fn vanish(&mut self, gone: impl Fn(usize) -> bool) {
        if !self.live {
            return;
        }
        let gone = self.lines.iter().enumerate().filter(|(i, line)| {
            line.kind == LineKind::Sample { tracked: true } && line.series != UNRESOLVED && gone(*i)
        });
        self.vanished.extend(gone.map(|(_, line)| line.series));
    }

    /// A series may be written in more than one way: it is not gone while any of its lines is there.
    fn keep_exposed(&mut self) {
        if self.vanished.is_empty() {
            return;
        }
        let mut vanished: HashSet<SeriesRef> = self.vanished.drain(..).collect();
        for line in self.lines.iter().filter(|line| line.is_sample()) {
            vanished.remove(&line.series);
        }
        self.vanished.extend(vanished);
        self.vanished.sort_unstable();
    }

    /// Appends the staleness markers that are due.
    pub(crate) fn push_vanished(&self, t: Timestamp, batch: &mut Batch) {
        for &series in &self.vanished {
            batch.push(series, t, stale_marker());
        }
    }

    /// The markers were stored, or refused for good.
    pub(crate) fn forget_vanished(&mut self) {
        self.vanished = Vec::new();
    }

    /// Takes note of the refs that the store gave.
    pub(crate) fn resolve(&mut self, pending: &[Pending], appended: &Appended) {
        for &Pending { line, new } in pending {
            if let Some(line) = self.lines.get_mut(line as usize)
                && let Some(&series) = appended.new_refs.get(new as usize)
            {
                line.series = series;
            }
        }
    }

    /// Forgets refs that the store does not know (any more); returns the positions of their lines.
    pub(crate) fn forget_refs(&mut self, unknown: &HashSet<SeriesRef>) -> Vec<u32> {
        let mut lines = Vec::new();
        for (position, line) in (0..).zip(&mut self.lines) {
            if line.is_sample() && unknown.contains(&line.series) {
                line.series = UNRESOLVED;
                lines.push(position);
            }
        }
        lines
    }
}
