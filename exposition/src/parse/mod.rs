//! Reads text format 0.0.4, entry by entry, borrowing from the body.
//!
//! The parser accepts what Prometheus's parser of this format accepts, which is more than the
//! format's description says (labels without commas, values that touch the name, a missing last line
//! feed) and sometimes less (no carriage returns, no negative timestamps, no exemplars). Two
//! exceptions, both towards the stricter: names in quotes must be UTF-8, and a NUL at the start of a
//! line is an error instead of a silent end of the body.
//!
//! Most lines of most scrapes repeat the series of the scrape before, and only the value differs. A
//! caller that remembers the text of the series passes its length to [`Parser::sample_after`] and
//! saves reading it again.

use std::borrow::Cow;

use model::Timestamp;

use crate::number::{normalize_label_value, parse_exact, parse_float};
use crate::scan::{
    Failure, Part, is_blank, metric_name_end, quoted_end, scan_series, skip_blanks, unescape,
};
use crate::{MetricKind, ParseError, ParseErrorKind};

/// One entry of a body. Comments and blank lines are no entries.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry<'a> {
    /// A `# HELP` line.
    Help {
        /// The metric family.
        metric: Cow<'a, str>,
        /// What it means, in words.
        help: Cow<'a, str>,
        /// The line without its line feed.
        line: &'a [u8],
    },
    /// A `# TYPE` line.
    Type {
        /// The metric family.
        metric: Cow<'a, str>,
        /// What it measures.
        kind: MetricKind,
        /// The line without its line feed.
        line: &'a [u8],
    },
    /// A sample and its series.
    Sample(Series<'a>, Point),
}

/// The value of a sample, and its time where the source gives one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// The value; every NaN is the same, never the staleness marker.
    pub value: f64,
    /// Milliseconds since the epoch, if given.
    pub timestamp: Option<Timestamp>,
}

/// A series as it is written in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Series<'a> {
    text: &'a str,
    kind: MetricKind,
}

impl<'a> Series<'a> {
    /// A series whose text was scanned without an error.
    pub(crate) const fn new(text: &'a str, kind: MetricKind) -> Self {
        Self { text, kind }
    }

    /// The name and labels exactly as written. Equal texts under equal `# TYPE` lines name equal series.
    #[must_use]
    pub const fn text(&self) -> &'a str {
        self.text
    }

    /// What the last `# TYPE` line said, whatever its metric, as in Prometheus.
    #[must_use]
    pub const fn kind(&self) -> MetricKind {
        self.kind
    }

    /// Appends the metric name, as label `__name__`, and the labels to `out`, in the order of the text.
    ///
    /// Names may repeat and values may be empty: that is for the caller to judge.
    pub fn labels(&self, out: &mut Vec<(Cow<'a, str>, Cow<'a, str>)>) {
        let text = self.text;
        let scanned = scan_series(text.as_bytes(), 0, |part| match part {
            Part::Name(name) => {
                out.push((Cow::Borrowed(model::METRIC_NAME), unescape(&text[name], true)));
            }
            Part::Label { name, value } => {
                let name = unescape(&text[name], true);
                let value = unescape(&text[value], true);
                let value = normalize_label_value(self.kind, &name, value);
                out.push((name, value));
            }
        });
        debug_assert!(scanned.is_ok(), "the text was scanned when it was parsed: {text}");
    }
}

/// Iterates over the entries of a body; ends after the first error.
#[derive(Clone, Debug)]
pub struct Parser<'a> {
    body: &'a [u8],
    at: usize,
    /// Of the last `# TYPE` line, whatever its metric, as in Prometheus.
    kind: MetricKind,
}

impl<'a> Parser<'a> {
    /// A parser at the start of `body`.
    #[must_use]
    pub fn new(body: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        Self { body: body.as_ref(), at: 0, kind: MetricKind::Unknown }
    }

    /// What has not been parsed yet: empty, or the start of a line.
    #[must_use]
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        &self.body[self.at..]
    }

    /// What the last `# TYPE` line said.
    #[must_use]
    #[inline]
    pub const fn kind(&self) -> MetricKind {
        self.kind
    }

    /// Reads the sample on the next line, whose series is known to be the first `len` bytes of
    /// [`rest`](Self::rest).
    ///
    /// `None`, and nothing is consumed, where the series does not end there after all, or the line is
    /// anything but plain; then [`next`](Self::next) decides.
    #[inline]
    pub fn sample_after(&mut self, len: usize) -> Option<Point> {
        let start = self.at + len;
        if !is_blank(*self.body.get(start)?) {
            return None;
        }
        let at = skip_blanks(self.body, start);
        if let Some((value, used)) = parse_exact(&self.body[at..])
            && matches!(self.body.get(at + used), None | Some(b'\n'))
        {
            self.at = (at + used + 1).min(self.body.len());
            return Some(Point { value, timestamp: None });
        }
        // A name may be followed by its braces only after blanks.
        if matches!(self.body.get(at), Some(b'{')) {
            return None;
        }
        let (point, end) = point(self.body, at).ok()?;
        self.at = end;
        Some(point)
    }

    /// Skips the next line, known to be `len` bytes without its line feed, if it ends there.
    ///
    /// `kind` is what the line declares when it is a `# TYPE` line.
    #[inline]
    pub fn metadata_after(&mut self, len: usize, kind: Option<MetricKind>) -> bool {
        let end = self.at + len;
        let ends = end == self.body.len() || self.body.get(end) == Some(&b'\n');
        if ends {
            self.at = (end + 1).min(self.body.len());
            self.kind = kind.unwrap_or(self.kind);
        }
        ends
    }

    fn entry(&mut self, start: usize) -> Result<Option<Entry<'a>>, Failure> {
        match self.body[start] {
            b'\n' => {
                self.at = start + 1;
                Ok(None)
            }
            b'#' => self.comment(start),
            _ => self.sample(start).map(Some),
        }
    }

    fn sample(&mut self, start: usize) -> Result<Entry<'a>, Failure> {
        let end = scan_series(self.body, start, |_| ())?;
        let text = utf8(self.body, start, end)?;
        let (point, next) = point(self.body, skip_blanks(self.body, end))?;
        self.at = next;
        Ok(Entry::Sample(Series { text, kind: self.kind }, point))
    }

    /// Reads a line that starts with `#`: metadata only if blanks surround `HELP` or `TYPE`.
    fn comment(&mut self, start: usize) -> Result<Option<Entry<'a>>, Failure> {
        let body = self.body;
        let end = memchr::memchr(b'\n', &body[start..]).map_or(body.len(), |n| start + n);
        let word = skip_blanks(body, start + 1);
        let keyword = body.get(word..(word + 4).min(end)).unwrap_or_default();
        let blank_after = word + 4 < end && is_blank(body[word + 4]);
        if word == start + 1 || !blank_after || !matches!(keyword, b"HELP" | b"TYPE") {
            self.at = (end + 1).min(body.len());
            return Ok(None);
        }
        let (metric, name_end) = metadata_name(body, skip_blanks(body, word + 4))?;
        // A quoted name may contain line feeds, so the line may be longer than it seemed.
        let end = memchr::memchr(b'\n', &body[name_end..]).map_or(body.len(), |n| name_end + n);
        let text_start = (name_end + 1).min(end);
        self.at = (end + 1).min(body.len());
        let line = &body[start..end];
        if keyword == b"HELP" {
            let help = unescape(utf8(body, text_start, end)?, false);
            return Ok(Some(Entry::Help { metric, help, line }));
        }
        let kind = MetricKind::from_text_name(&body[text_start..end])
            .ok_or((text_start, ParseErrorKind::MetricType))?;
        self.kind = kind;
        Ok(Some(Entry::Type { metric, kind, line }))
    }
}

impl<'a> Iterator for Parser<'a> {
    type Item = Result<Entry<'a>, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let start = skip_blanks(self.body, self.at);
            if start == self.body.len() {
                self.at = start;
                return None;
            }
            match self.entry(start) {
                Ok(Some(entry)) => return Some(Ok(entry)),
                Ok(None) => {}
                Err((position, kind)) => {
                    self.at = self.body.len();
                    return Some(Err(ParseError::new(self.body, start, position, kind)));
                }
            }
        }
    }
}

/// The name in a metadata line, and the position after it.
fn metadata_name(body: &[u8], at: usize) -> Result<(Cow<'_, str>, usize), Failure> {
    if let Some(end) = quoted_end(body, at) {
        return Ok((unescape(utf8(body, at + 1, end - 1)?, true), end));
    }
    let end = metric_name_end(body, at);
    if end == at {
        return Err((at, ParseErrorKind::MetadataName));
    }
    Ok((Cow::Borrowed(utf8(body, at, end)?), end))
}

fn utf8(body: &[u8], start: usize, end: usize) -> Result<&str, Failure> {
    std::str::from_utf8(&body[start..end])
        .map_err(|e| (start + e.valid_up_to(), ParseErrorKind::Utf8))
}

/// Reads the value and the optional timestamp at `at`; returns the start of the next line too.
fn point(body: &[u8], at: usize) -> Result<(Point, usize), Failure> {
    let end = at
        + body[at..]
            .iter()
            .position(|b| matches!(b, b' ' | b'\t' | b'\n' | b'{'))
            .unwrap_or(body.len() - at);
    if end == at {
        return Err((at, ParseErrorKind::NoValue));
    }
    let value = parse_float(&body[at..end]).map_err(|e| (at, ParseErrorKind::Value(e)))?;
    let at = skip_blanks(body, end);
    let (timestamp, at) = match body.get(at) {
        None | Some(b'\n') => (None, at),
        Some(b) if b.is_ascii_digit() => {
            let (t, end) = timestamp(body, at)?;
            let at = skip_blanks(body, end);
            if !matches!(body.get(at), None | Some(b'\n')) {
                return Err((at, ParseErrorKind::Trailing));
            }
            (Some(t), at)
        }
        Some(_) => return Err((at, ParseErrorKind::Timestamp)),
    };
    Ok((Point { value, timestamp }, (at + 1).min(body.len())))
}

fn timestamp(body: &[u8], start: usize) -> Result<(Timestamp, usize), Failure> {
    let (mut t, mut at): (Timestamp, usize) = (0, start);
    while let Some(digit) = body.get(at).map(|b| b.wrapping_sub(b'0'))
        && digit < 10
    {
        t = t
            .checked_mul(10)
            .and_then(|t| t.checked_add(Timestamp::from(digit)))
            .ok_or((start, ParseErrorKind::TimestampRange))?;
        at += 1;
    }
    Ok((t, at))
}

#[cfg(test)]
mod tests;
