//! Reads one body against the cache and fills a batch.

use std::collections::HashSet;

use exposition::{Entry, Parser, Point, Series};
use model::{Batch, FloatAppend, SeriesKey, SeriesRef, Timestamp};

use crate::ScrapeError;
use crate::cache::{Line, LineKind, Pending, SeriesCache, UNRESOLVED};
use crate::metadata::Metadata;
use crate::series_labels::{Pair, SampleRules};

/// Spreads a small number over all bits: the golden ratio, as a fraction of 2⁶⁴.
const SALT: u64 = 0x9e37_79b9_7f4a_7c15;

/// Samples further ahead than this are refused.
const AHEAD_MS_MAX: i64 = 10 * 60 * 1000;

/// What a scrape saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Samples in the body, as far as it was read.
    pub(crate) scraped: u64,
    /// Samples left after relabelling; repeated ones count.
    pub(crate) kept: u64,
    /// Series that the scrape before did not have.
    pub(crate) series_added: u64,
    /// Repeated samples of a series at the time of the scrape.
    pub(crate) duplicates: u64,
    /// Samples with a time too far ahead.
    pub(crate) out_of_bounds: u64,
}

/// Buffers of a pass, reused.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) batch: Batch,
    pub(crate) pending: Vec<Pending>,
}

impl Scratch {
    pub(crate) fn clear(&mut self) {
        self.batch.clear();
        self.pending.clear();
    }
}

/// Appends the samples of `body`, scraped at `t`, to the scratch's batch and brings `cache` up to date.
///
/// On an error the cache still describes the scrape before, and the scratch is to be cleared; `counts` say how
/// far the body was read.
pub(crate) fn read(
    body: &[u8],
    t: Timestamp,
    rules: &SampleRules,
    cache: &mut SeriesCache,
    metadata: &Metadata,
    scratch: &mut Scratch,
    counts: &mut Counts,
) -> Result<(), ScrapeError> {
    let mut pass = Pass {
        parser: Parser::new(body),
        recorder: Recorder { t, rules, counts, scratch, samples: 0, pairs: Vec::new() },
        cache,
        metadata,
        position: 0,
        moved: None,
        untracked: Vec::new(),
    };
    pass.run()?;
    let over_limit = pass.recorder.over_limit();
    let Pass { position, moved, untracked, .. } = pass;
    if over_limit {
        return Err(ScrapeError::SampleLimit);
    }
    match moved {
        None => {
            let (kept, gone) = cache.lines.split_at(position);
            metadata.forget(&vanished_metadata(gone, kept));
            cache.keep(position);
        }
        Some(moved) => {
            let gone = |line: usize| moved.taken[line] == 0;
            let lines = cache.lines.iter().enumerate().filter(|(i, _)| gone(*i));
            metadata.forget(&vanished_metadata(lines.map(|(_, line)| line), &moved.lines));
            cache.renew(moved.lines, gone, &untracked);
        }
    }
    Ok(())
}

/// Appends samples again, with their labels, for the `lines` of `body` whose refs turned out to be
/// unknown. `lines` ascend.
pub(crate) fn read_again(
    body: &[u8],
    t: Timestamp,
    rules: &SampleRules,
    lines: &[u32],
    scratch: &mut Scratch,
) -> Result<(), ScrapeError> {
    let mut counts = Counts::default();
    let mut recorder =
        Recorder { t, rules, counts: &mut counts, scratch, samples: 0, pairs: Vec::new() };
    let mut lines = lines.iter().copied().peekable();
    for (position, entry) in (0..).zip(Parser::new(body)) {
        if lines.next_if_eq(&position).is_some()
            && let Entry::Sample(series, point) = entry?
        {
            recorder.introduce(&series, point, position)?;
        }
    }
    Ok(())
}

/// The metadata lines among `gone` that do not stand among `kept` too.
fn vanished_metadata<'l>(gone: impl IntoIterator<Item = &'l Line>, kept: &[Line]) -> HashSet<u64> {
    let metadata = |line: &&Line| !line.is_sample();
    let mut gone: HashSet<u64> = gone.into_iter().filter(metadata).map(|line| line.hash).collect();
    if !gone.is_empty() {
        for line in kept.iter().filter(metadata) {
            gone.remove(&line.hash);
        }
    }
    gone
}

/// One reading of one body.
struct Pass<'a, 'b> {
    parser: Parser<'b>,
    recorder: Recorder<'a, 'b>,
    cache: &'a SeriesCache,
    metadata: &'a Metadata,
    /// The line of the last scrape that is expected next.
    position: usize,
    /// Once a line was not the expected one.
    moved: Option<Moved>,
    /// Series that had no timestamps and now have.
    untracked: Vec<SeriesRef>,
}

/// A body whose lines are not those of the last scrape in their order.
struct Moved {
    /// The lines of this body so far.
    lines: Vec<Line>,
    /// For each line of the last scrape, one more than its position in this body, 0 while it has not
    /// been seen.
    taken: Vec<u32>,
    /// Positions by hash: of lines of the last scrape, and beyond their number of lines of this body that
    /// are new. Repeats are left out.
    table: foldhash::HashMap<u64, u32>,
}

/// Where a line of the body was found.
enum Place {
    /// Nowhere.
    New,
    /// In the last scrape.
    Before(usize),
    /// Further up in this body.
    Here(usize),
}

impl<'b> Pass<'_, 'b> {
    fn run(&mut self) -> Result<(), ScrapeError> {
        loop {
            self.follow();
            match self.parser.next() {
                None => return Ok(()),
                Some(Err(e)) => return Err(e.into()),
                Some(Ok(Entry::Sample(series, point))) => self.sample(&series, point)?,
                Some(Ok(Entry::Help { metric, help, line })) => {
                    let hash = self.metadata_line(line, LineKind::Help);
                    if let Some(hash) = hash {
                        self.metadata.set_help(&metric, &help, hash);
                    }
                }
                Some(Ok(Entry::Type { metric, kind, line })) => {
                    if let Some(hash) = self.metadata_line(line, LineKind::Type(kind)) {
                        self.metadata.set_kind(&metric, kind, hash);
                    }
                }
            }
        }
    }

    /// What changes the hash of a sample's line. Where the type is a label, the same line below another type is another series.
    #[inline]
    fn salt(&self, is_sample: bool) -> u64 {
        if self.recorder.rules.type_labels && is_sample {
            (self.parser.kind() as u64).wrapping_mul(SALT)
        } else {
            0
        }
    }

    /// Reads lines for as long as they are the expected ones: the path that nearly every line takes.
    fn follow(&mut self) {
        while let Some(&line) = self.cache.lines.get(self.position) {
            let Some(text) = self.parser.rest().get(..line.len as usize) else { return };
            if self.cache.hash(text) ^ self.salt(line.is_sample()) != line.hash {
                return;
            }
            match line.kind {
                LineKind::Sample { tracked } if line.series != UNRESOLVED && !self.is_taken() => {
                    let Some(point) = self.parser.sample_after(text.len()) else { return };
                    if tracked != self.recorder.is_tracked(point) {
                        self.change_tracking(line, tracked);
                    } else if let Some(moved) = &mut self.moved {
                        moved.take(self.position, line);
                    }
                    self.recorder.record(SeriesKey::Known(line.series), point);
                }
                LineKind::Help if self.parser.metadata_after(text.len(), None) => {
                    self.take_metadata(line);
                }
                LineKind::Type(kind) if self.parser.metadata_after(text.len(), Some(kind)) => {
                    self.take_metadata(line);
                }
                _ => return,
            }
            self.position += 1;
        }
    }

    fn is_taken(&self) -> bool {
        self.moved.as_ref().is_some_and(|moved| moved.taken[self.position] != 0)
    }

    fn take_metadata(&mut self, line: Line) {
        if let Some(moved) = &mut self.moved {
            moved.take(self.position, line);
        }
    }

    /// The expected series now comes with a timestamp, or without one since now.
    fn change_tracking(&mut self, line: Line, was_tracked: bool) {
        if was_tracked && self.cache.live {
            self.untracked.push(line.series);
        }
        let position = self.position;
        let kind = LineKind::Sample { tracked: !was_tracked };
        self.moved().take(position, Line { kind, ..line });
    }

    /// The tables of a body that differs from the last, built when first needed.
    fn moved(&mut self) -> &mut Moved {
        let (lines, position) = (&self.cache.lines, self.position);
        self.moved.get_or_insert_with(|| Moved::new(lines, position))
    }

    /// Places a metadata line; returns its hash if it is new.
    fn metadata_line(&mut self, text: &[u8], kind: LineKind) -> Option<u64> {
        let line = self.line(text, kind);
        if self.moved.is_none() && self.cache.lines.get(self.position) == Some(&line) {
            self.position += 1;
            return None;
        }
        let before = &self.cache.lines;
        let moved = self.moved();
        match moved.find(before, &line) {
            Place::Before(at) => {
                moved.take(at, line);
                self.position = at + 1;
                None
            }
            Place::Here(_) => {
                moved.lines.push(line);
                None
            }
            Place::New => {
                moved.add(before.len(), line);
                Some(line.hash)
            }
        }
    }

    fn line(&self, text: &[u8], kind: LineKind) -> Line {
        let len = u32::try_from(text.len()).expect("bodies are limited to far less than 4 GiB");
        Line { hash: self.cache.hash(text), series: UNRESOLVED, len, kind }
    }

    /// Places a sample that was not recognised by its position.
    fn sample(&mut self, series: &Series<'b>, point: Point) -> Result<(), ScrapeError> {
        let tracked = self.recorder.is_tracked(point);
        let mut line = self.line(series.text().as_bytes(), LineKind::Sample { tracked });
        line.hash ^= self.salt(true);
        if self.moved.is_none()
            && let Some(&expected) = self.cache.lines.get(self.position)
            && (expected.hash, expected.len) == (line.hash, line.len)
            && self.expected(expected, line, series, point)?
        {
            self.position += 1;
            return Ok(());
        }
        let before = &self.cache.lines;
        match self.moved().find(before, &line) {
            Place::Before(at) => self.moved_here(at, line, series, point),
            Place::Here(first) => {
                self.repeat(first, line, point);
                Ok(())
            }
            Place::New => {
                let position = self.moved().add(before.len(), line);
                if self.recorder.introduce(series, point, position)? {
                    self.recorder.counts.series_added += 1;
                }
                Ok(())
            }
        }
    }

    /// Handles an expected line that the short path leaves: one after a comment, one of a series without a
    /// ref, or a repeat. False where the tables are needed.
    fn expected(
        &mut self,
        expected: Line,
        line: Line,
        series: &Series<'b>,
        point: Point,
    ) -> Result<bool, ScrapeError> {
        let resolved = expected.series != UNRESOLVED;
        match expected.kind {
            LineKind::Repeat if !self.recorder.has_time(point) => self.recorder.duplicate(),
            LineKind::Repeat if resolved => {
                self.recorder.record(SeriesKey::Known(expected.series), point);
            }
            kind if kind == line.kind && resolved => {
                self.recorder.record(SeriesKey::Known(expected.series), point);
            }
            kind if kind == line.kind => {
                self.recorder.introduce(series, point, index(self.position))?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn moved_here(
        &mut self,
        before: usize,
        line: Line,
        series: &Series<'b>,
        point: Point,
    ) -> Result<(), ScrapeError> {
        let old = self.cache.lines[before];
        self.position = before + 1;
        let was_tracked = old.kind == LineKind::Sample { tracked: true };
        if was_tracked && old.kind != line.kind && self.cache.live && old.series != UNRESOLVED {
            self.untracked.push(old.series);
        }
        let position = self.moved().take(before, Line { series: old.series, ..line });
        if old.series == UNRESOLVED {
            self.recorder.introduce(series, point, position)?;
        } else {
            self.recorder.record(SeriesKey::Known(old.series), point);
        }
        Ok(())
    }

    /// A second sample of the series at line `first` of this body: an error unless it has a time of its own.
    fn repeat(&mut self, first: usize, line: Line, point: Point) {
        let moved = self.moved();
        let series = moved.lines[first].series;
        let position = moved.push(Line { kind: LineKind::Repeat, series, ..line });
        if !self.recorder.has_time(point) {
            self.recorder.duplicate();
        } else if series != UNRESOLVED {
            self.recorder.record(SeriesKey::Known(series), point);
        } else {
            self.recorder.record_pending(first, point, position);
        }
    }
}

fn index(position: usize) -> u32 {
    u32::try_from(position).expect("bodies are limited to far less than 4 Gi lines")
}

impl Moved {
    /// The first `position` lines of the last scrape were found in their places.
    fn new(before: &[Line], position: usize) -> Self {
        let mut lines = Vec::with_capacity(before.len() + before.len() / 8 + 16);
        lines.extend_from_slice(&before[..position]);
        let mut taken = vec![0; before.len()];
        for (place, taken) in (1..).zip(&mut taken[..position]) {
            *taken = place;
        }
        let unique = (0..).zip(before).filter(|(_, line)| line.kind != LineKind::Repeat);
        let table = unique.map(|(place, line)| (line.hash, place)).collect();
        Self { lines, taken, table }
    }

    /// Finds `line`, where the last scrape had the lines `before`.
    fn find(&self, before: &[Line], line: &Line) -> Place {
        let Some(&place) = self.table.get(&line.hash) else { return Place::New };
        let place = place as usize;
        let (known, found) = match before.get(place) {
            None => {
                let here = place - before.len();
                (&self.lines[here], Place::Here(here))
            }
            Some(known) => match self.taken[place] {
                0 => (known, Place::Before(place)),
                here => (known, Place::Here(here as usize - 1)),
            },
        };
        // Another line with the same hash.
        if known.len == line.len { found } else { Place::New }
    }

    /// The line at `before` in the last scrape is the next of this body, and now is `line`.
    fn take(&mut self, before: usize, line: Line) -> u32 {
        let position = self.push(line);
        self.taken[before] = position + 1;
        position
    }

    /// Adds a line that may be repeated later.
    fn add(&mut self, known: usize, line: Line) -> u32 {
        let position = self.push(line);
        self.table.insert(line.hash, index(known) + position);
        position
    }

    fn push(&mut self, line: Line) -> u32 {
        let position = index(self.lines.len());
        self.lines.push(line);
        position
    }
}

/// Puts samples into the batch, within the limits.
struct Recorder<'a, 'b> {
    t: Timestamp,
    rules: &'a SampleRules,
    counts: &'a mut Counts,
    scratch: &'a mut Scratch,
    /// Samples that count against the limit.
    samples: u64,
    pairs: Vec<Pair<'b>>,
}

impl<'b> Recorder<'_, 'b> {
    fn has_time(&self, point: Point) -> bool {
        point.timestamp.is_some() && self.rules.honor_timestamps
    }

    fn is_tracked(&self, point: Point) -> bool {
        !self.has_time(point) || self.rules.track_timestamps_staleness
    }

    fn over_limit(&self) -> bool {
        let limit = self.rules.limits.samples_max;
        limit > 0 && self.samples > limit
    }

    /// Counts a sample; its time, if it may be stored.
    #[inline]
    fn admit(&mut self, point: Point) -> Option<Timestamp> {
        self.counts.kept += 1;
        self.samples += 1;
        // The scrape has failed already, the rest is only counted.
        if self.over_limit() {
            return None;
        }
        let t = point.timestamp.filter(|_| self.rules.honor_timestamps).unwrap_or(self.t);
        if t > self.t.saturating_add(AHEAD_MS_MAX) {
            self.counts.out_of_bounds += 1;
            return None;
        }
        Some(t)
    }

    #[inline]
    fn record(&mut self, series: SeriesKey, point: Point) {
        self.counts.scraped += 1;
        if let Some(t) = self.admit(point) {
            self.scratch.batch.floats.push(FloatAppend { series, t, v: point.value });
        }
    }

    fn duplicate(&mut self) {
        self.counts.scraped += 1;
        self.counts.kept += 1;
        self.counts.duplicates += 1;
    }

    /// Records a sample of a series that the store has to look up by its labels; says whether it was admitted.
    fn introduce(
        &mut self,
        series: &Series<'b>,
        point: Point,
        line: u32,
    ) -> Result<bool, ScrapeError> {
        self.counts.scraped += 1;
        self.pairs.clear();
        series.labels(&mut self.pairs);
        self.rules.add_type(series.kind(), &mut self.pairs);
        let labels = self.rules.series(&mut self.pairs)?;
        let Some(t) = self.admit(point) else { return Ok(false) };
        if let SeriesKey::New(new) = self.scratch.batch.push_new(labels, t, point.value) {
            self.scratch.pending.push(Pending { line, new });
        }
        Ok(true)
    }

    /// Records a further sample of the series introduced by line `first`.
    fn record_pending(&mut self, first: usize, point: Point, line: u32) {
        let pending = &self.scratch.pending;
        let Ok(at) = pending.binary_search_by_key(&index(first), |pending| pending.line) else {
            // Its first sample was not admitted, so there is nothing to hang this one on.
            self.counts.scraped += 1;
            self.counts.kept += 1;
            self.counts.out_of_bounds += 1;
            return;
        };
        let new = pending[at].new;
        self.record(SeriesKey::New(new), point);
        self.scratch.pending.push(Pending { line, new });
    }
}
