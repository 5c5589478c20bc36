//! Reads the samples of an OpenMetrics 1.0 text, with their times: for importing, where nothing else is kept.
//!
//! Metadata is checked for its keyword and otherwise skipped, and so are exemplars. A text that does not end with `# EOF` is
//! cut off, which is an error. Where the format says one blank, exactly one is taken.

use model::Timestamp;

use crate::number::parse_float;
use crate::parse::{Point, Series};
use crate::scan::{Failure, metric_name_end, quoted_end, scan_series};
use crate::{MetricKind, ParseError, ParseErrorKind};

/// Iterates over the samples of an OpenMetrics text; ends after the first error.
#[derive(Clone, Debug)]
pub struct OpenMetrics<'a> {
    body: &'a [u8],
    at: usize,
    /// Of the last `# TYPE` line.
    kind: MetricKind,
    ended: bool,
}

impl<'a> OpenMetrics<'a> {
    /// A parser at the start of `body`.
    #[must_use]
    pub fn new(body: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        Self { body: body.as_ref(), at: 0, kind: MetricKind::Unknown, ended: false }
    }

    /// Bytes read so far.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.at
    }

    /// The sample that starts at `start`; `None` for a line without one.
    fn line(&mut self, start: usize) -> Result<Option<(Series<'a>, Point)>, Failure> {
        if self.body[start] != b'#' {
            return self.sample(start).map(Some);
        }
        let rest = &self.body[start..];
        let end = memchr::memchr(b'\n', rest).map_or(self.body.len(), |n| start + n);
        if &self.body[start..end] == b"# EOF" {
            self.at = (end + 1).min(self.body.len());
            self.ended = true;
            return match self.at == self.body.len() {
                true => Ok(None),
                false => Err((self.at, ParseErrorKind::AfterEof)),
            };
        }
        let keywords: [&[u8]; 3] = [b"# HELP ", b"# TYPE ", b"# UNIT "];
        let Some(keyword) = keywords.into_iter().find(|keyword| rest.starts_with(keyword)) else {
            return Err((start, ParseErrorKind::EntryStart));
        };
        let name = start + keyword.len();
        let name_end =
            quoted_end(self.body, name).unwrap_or_else(|| metric_name_end(self.body, name));
        if name_end == name {
            return Err((name, ParseErrorKind::MetadataName));
        }
        let end = self.line_end(name_end)?;
        if keyword == b"# TYPE " {
            let kind = self.body.get(name_end + 1..end).unwrap_or_default();
            self.kind =
                MetricKind::from_name(kind).ok_or((name_end + 1, ParseErrorKind::MetricType))?;
        }
        self.at = end + 1;
        Ok(None)
    }

    fn sample(&mut self, start: usize) -> Result<(Series<'a>, Point), Failure> {
        let body = self.body;
        let end = scan_series(body, start, |_| ())?;
        let text = std::str::from_utf8(&body[start..end])
            .map_err(|e| (start + e.valid_up_to(), ParseErrorKind::Utf8))?;
        let (value, at) = word(body, end).ok_or((end, ParseErrorKind::NoValue))?;
        let value = parse_float(value).map_err(|e| (end + 1, ParseErrorKind::Value(e)))?;
        let (timestamp, at) = match word(body, at) {
            Some((b"#", _)) | None => (None, at),
            Some((seconds, next)) => {
                let t = milliseconds(seconds).ok_or((at + 1, ParseErrorKind::Timestamp))?;
                (Some(t), next)
            }
        };
        let line_end = self.line_end(at)?;
        if line_end != at && !body[at..line_end].starts_with(b" # {") {
            return Err((at, ParseErrorKind::Trailing));
        }
        self.at = line_end + 1;
        Ok((Series::new(text, self.kind), Point { value, timestamp }))
    }

    /// The line feed at or after `from`. Every line has one but `# EOF`.
    fn line_end(&self, from: usize) -> Result<usize, Failure> {
        let found = memchr::memchr(b'\n', &self.body[from..]);
        found.map(|n| from + n).ok_or((self.body.len(), ParseErrorKind::NoEof))
    }
}

impl<'a> Iterator for OpenMetrics<'a> {
    type Item = Result<(Series<'a>, Point), ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let start = self.at;
            if self.ended && start == self.body.len() {
                return None;
            }
            let read = match self.body.get(start) {
                Some(_) if !self.ended => self.line(start),
                Some(_) => Err((start, ParseErrorKind::AfterEof)),
                None => Err((start, ParseErrorKind::NoEof)),
            };
            match read {
                Ok(Some(sample)) => return Some(Ok(sample)),
                Ok(None) => {}
                Err((position, kind)) => {
                    self.ended = true;
                    self.at = self.body.len();
                    return Some(Err(ParseError::new(self.body, start, position, kind)));
                }
            }
        }
    }
}

/// The word after the one blank at `at`, and where it ends.
fn word(body: &[u8], at: usize) -> Option<(&[u8], usize)> {
    if body.get(at) != Some(&b' ') {
        return None;
    }
    let rest = &body[at + 1..];
    let len = memchr::memchr2(b' ', b'\n', rest).unwrap_or(rest.len());
    (len > 0).then(|| (&rest[..len], at + 1 + len))
}

/// Seconds with a fraction as whole milliseconds, cut off as Prometheus does.
fn milliseconds(seconds: &[u8]) -> Option<Timestamp> {
    let seconds = parse_float(seconds).ok()?;
    let ms = (seconds * 1000.0).trunc();
    #[expect(clippy::cast_possible_truncation, reason = "within the bound")]
    (ms.abs() < 9e15).then_some(ms as Timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Read = Vec<(String, f64, Option<Timestamp>)>;

    fn read(text: &str) -> Result<Read, String> {
        let mut out = Vec::new();
        for sample in OpenMetrics::new(text) {
            let (series, point) = sample.map_err(|error| error.to_string())?;
            let mut labels = Vec::new();
            series.labels(&mut labels);
            let labels: Vec<_> = labels.iter().map(|(n, v)| format!("{n}={v}")).collect();
            out.push((labels.join(","), point.value, point.timestamp));
        }
        Ok(out)
    }

    #[test]
    fn samples_with_their_times() {
        let text = "# HELP a_total Some \\n help # EOF\n# TYPE a_total counter\n# UNIT a_total s\n\
            a_total 1\na_total{x=\"y # z\"} 2.5 1435781430.781\na_total 3 -1.5\n\
            a_total 4 10 # {trace=\"1\"} 0.5 9\na_total 5 # {} 1\n\
            {\"b.c\",d=\"e\"} NaN 1e3\n# TYPE h histogram\nh_bucket{le=\"1\"} +Inf 0\n# EOF\n";
        let expected = [
            ("__name__=a_total", 1.0, None),
            ("__name__=a_total,x=y # z", 2.5, Some(1_435_781_430_781)),
            ("__name__=a_total", 3.0, Some(-1_500)),
            ("__name__=a_total", 4.0, Some(10_000)),
            ("__name__=a_total", 5.0, None),
            ("__name__=b.c,d=e", f64::NAN, Some(1_000_000)),
            ("__name__=h_bucket,le=1.0", f64::INFINITY, Some(0)),
        ];
        let samples = read(text).unwrap();
        assert_eq!(samples.len(), expected.len());
        for ((labels, value, t), expected) in samples.into_iter().zip(expected) {
            assert_eq!((labels.as_str(), t), (expected.0, expected.2));
            assert!(value == expected.1 || (value.is_nan() && expected.1.is_nan()), "{labels}");
        }
        for empty in ["# EOF\n", "# EOF"] {
            assert_eq!(read(empty), Ok(Vec::new()));
        }
    }

    #[test]
    fn what_is_not_the_format_is_named() {
        for (text, expected) in [
            ("", "line 1, byte 0: text does not end with # EOF"),
            ("a 1 2\n", "line 2, byte 6: text does not end with # EOF"),
            ("a 1 2", "line 1, byte 5: text does not end with # EOF"),
            ("# EOF\na 1 2\n", "line 1, byte 6: something after # EOF"),
            ("# EOF\n\n", "line 1, byte 6: something after # EOF"),
            ("\n# EOF\n", "line 1, byte 0: expected a metric name, a brace or a comment"),
            (
                "# a comment\n# EOF\n",
                "line 1, byte 0: expected a metric name, a brace or a comment",
            ),
            ("# TYPE a thing\n# EOF\n", "line 1, byte 9: invalid metric type"),
            ("a\n# EOF\n", "line 1, byte 1: expected a value after the series"),
            ("a  1\n# EOF\n", "line 1, byte 1: expected a value after the series"),
            ("a 1 x\n# EOF\n", "line 1, byte 4: expected a timestamp or the end of the line"),
            ("a 1 NaN\n# EOF\n", "line 1, byte 4: expected a timestamp or the end of the line"),
            (
                "a 1 2 3\n# EOF\n",
                "line 1, byte 5: expected the end of the line after the timestamp",
            ),
            ("a 1 2 \n# EOF\n", "line 1, byte 5: expected the end of the line after the timestamp"),
            ("a x\n# EOF\n", "line 1, byte 2: not a number"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.starts_with(expected), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_cut_text_is_never_taken_for_a_whole_one() {
        let text = "# TYPE a counter\na_total{x=\"y\"} 2.5 3 # {t=\"1\"} 1\nb 1 2\n# EOF";
        for end in 0..text.len() {
            assert!(read(&text[..end]).is_err(), "{:?}", &text[..end]);
        }
    }
}
