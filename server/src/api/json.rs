//! The JSON of the Prometheus API, written straight into a buffer.
//!
//! Points are never turned into a tree of JSON values first, and what is written counts against the query's bytes; answers to queries, which may
//! hold millions of points, are written in pieces (`answer`). Small answers are serialized with serde into the same envelope.

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use model::{
    Charge, Exemplar, FloatFormat, FloatHistogram, Labels, QueryContext, QueryError, Sample,
    Timestamp, write_float,
};
use promql::ast::Expr;
use serde::Serialize;

use super::tree::write_expr;

/// Prometheus lists at most this many warnings, and as many infos.
const ANNOTATIONS_MAX: usize = 10;
/// About how many bytes the labels of a series take.
const SERIES_BYTES: usize = 192;
/// What is around a result.
const ENVELOPE_BYTES: usize = 128;

/// Writes `text` as a JSON string.
pub(crate) fn write_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a string serializes and memory takes every write");
}

/// Writes `t` as seconds, with three decimals unless they are zero.
pub(crate) fn write_timestamp(out: &mut Vec<u8>, t: Timestamp) {
    let mut digits = itoa::Buffer::new();
    let magnitude = t.unsigned_abs();
    if t < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(digits.format(magnitude / 1000).as_bytes());
    let ms = magnitude % 1000;
    if ms != 0 {
        // A thousand more has four digits, of which the first gives its place to the point.
        let mut decimals = *b".000";
        decimals[1..].copy_from_slice(&digits.format(1000 + ms).as_bytes()[1..]);
        out.extend_from_slice(&decimals);
    }
}

/// Writes `[seconds,"value"]`.
pub(crate) fn write_sample(out: &mut Vec<u8>, sample: Sample) {
    out.push(b'[');
    write_timestamp(out, sample.t);
    out.extend_from_slice(b",\"");
    write_float(out, sample.v, FloatFormat::Api);
    out.extend_from_slice(b"\"]");
}

/// Writes `[seconds,"value"]` for a number that is of no series. Prometheus leaves that to Go's `encoding/json` and writes the value out.
pub(super) fn write_scalar(out: &mut Vec<u8>, sample: Sample) {
    begin_lone(out, sample.t);
    out.push(b'"');
    write_float(out, sample.v, FloatFormat::Plain);
    out.extend_from_slice(b"\"]");
}

/// Writes `[seconds,"text"]`, of which Go escapes what might end a script in a page.
pub(super) fn write_text(out: &mut Vec<u8>, t: Timestamp, text: &str) {
    begin_lone(out, t);
    let from = out.len();
    write_string(out, text);
    if text.contains(['<', '>', '&', '\u{2028}', '\u{2029}']) {
        let plain = String::from_utf8_lossy(&out[from..]).into_owned();
        out.truncate(from);
        for c in plain.chars() {
            match c {
                '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                    out.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes());
                }
                c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
    }
    out.push(b']');
}

/// Writes `[seconds,` without zeros at the end.
#[expect(clippy::cast_precision_loss, reason = "times are shorter than 2^53 ms")]
fn begin_lone(out: &mut Vec<u8>, t: Timestamp) {
    out.push(b'[');
    write_float(out, t as f64 / 1000.0, FloatFormat::Api);
    out.push(b',');
}

/// Writes `{"name":"value",…}`.
pub(crate) fn write_labels(out: &mut Vec<u8>, labels: &Labels) {
    out.push(b'{');
    for (i, label) in labels.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_string(out, label.name);
        out.push(b':');
        write_string(out, label.value);
    }
    out.push(b'}');
}

/// Writes `[seconds,{"count":…,"sum":…,"buckets":[…]}]`. Empty buckets are left out; the first number of a bucket says which of its
/// bounds are in it.
pub(super) fn write_histogram_sample(out: &mut Vec<u8>, t: Timestamp, histogram: &FloatHistogram) {
    let number = |out: &mut Vec<u8>, v| {
        out.push(b'"');
        write_float(out, v, FloatFormat::Api);
        out.push(b'"');
    };
    out.push(b'[');
    write_timestamp(out, t);
    out.extend_from_slice(b",{\"count\":");
    number(out, histogram.count);
    out.extend_from_slice(b",\"sum\":");
    number(out, histogram.sum);
    let mut buckets = histogram.buckets().filter(|bucket| bucket.count != 0.0).peekable();
    if buckets.peek().is_some() {
        out.extend_from_slice(b",\"buckets\":");
        write_each(out, buckets, |out, bucket| {
            out.extend_from_slice(match (bucket.lower_inclusive, bucket.upper_inclusive) {
                (false, true) => b"[0,",
                (true, false) => b"[1,",
                (false, false) => b"[2,",
                (true, true) => b"[3,",
            });
            number(out, bucket.lower);
            out.push(b',');
            number(out, bucket.upper);
            out.push(b',');
            number(out, bucket.count);
            out.push(b']');
        });
    }
    out.extend_from_slice(b"}]");
}

/// Writes `[…,…]`.
pub(super) fn write_each<T>(
    out: &mut Vec<u8>,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut Vec<u8>, T),
) {
    out.push(b'[');
    for (i, item) in items.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

/// An answer being written, within the bytes and the time of its query.
pub(super) struct Writer<'a> {
    pub(super) out: Vec<u8>,
    held: Charge,
    context: &'a QueryContext,
}

impl<'a> Writer<'a> {
    /// Starts the envelope, with room for about `bytes`.
    pub(super) fn new(bytes: usize, context: &'a QueryContext) -> Result<Self, QueryError> {
        let held = context.budget.charge(bytes)?;
        let mut out = Vec::with_capacity(bytes);
        out.extend_from_slice(b"{\"status\":\"success\",\"data\":");
        Ok(Self { out, held, context })
    }

    /// Writes a list whose items may be many and large.
    fn list<T>(
        &mut self,
        items: &[T],
        mut write: impl FnMut(&mut Vec<u8>, &T),
    ) -> Result<(), QueryError> {
        self.out.push(b'[');
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                self.out.push(b',');
            }
            write(&mut self.out, item);
            self.account()?;
        }
        self.out.push(b']');
        Ok(())
    }

    /// Counts what was written since, and stops if the query is to stop.
    ///
    /// # Errors
    /// [`QueryError`]
    pub(super) fn account(&mut self) -> Result<(), QueryError> {
        self.context.check()?;
        self.held.grow_to(self.out.capacity())
    }

    /// Ends the envelope.
    pub(super) fn finish(mut self, warnings: &[&str], infos: &[&str]) -> Vec<u8> {
        write_annotations(&mut self.out, "warnings", warnings, "warning");
        write_annotations(&mut self.out, "infos", infos, "info");
        self.out.push(b'}');
        self.out
    }
}

/// The answer to `parse_query`: the tree of an expression.
///
/// # Errors
/// [`QueryError`], when the answer is larger than the query may hold, or takes too long to write.
pub(crate) fn tree_body(expr: &Expr, context: &QueryContext) -> Result<Vec<u8>, QueryError> {
    let mut writer = Writer::new(1 << 10, context)?;
    write_expr(&mut writer, expr)?;
    Ok(writer.finish(&[], &[]))
}

pub(super) fn write_json<T: Serialize>(out: &mut Vec<u8>, data: &T) {
    serde_json::to_writer(out, data).expect("our own types serialize and memory takes every write");
}

/// The answer to `series`: a list of label sets.
///
/// # Errors
/// [`QueryError`], when the answer is larger than the query may hold, or takes too long to write.
pub(crate) fn labels_body(
    series: &[Labels],
    warnings: &[String],
    context: &QueryContext,
) -> Result<Vec<u8>, QueryError> {
    let mut writer = Writer::new(ENVELOPE_BYTES + series.len() * SERIES_BYTES, context)?;
    writer.list(series, write_labels)?;
    Ok(writer.finish(&warnings.iter().map(String::as_str).collect::<Vec<_>>(), &[]))
}

/// The answer to `labels` and `label/<name>/values`: a list of strings.
///
/// # Errors
/// [`QueryError`], when the answer is larger than the query may hold, or takes too long to write.
pub(crate) fn strings_body(
    strings: &[String],
    warnings: &[String],
    context: &QueryContext,
) -> Result<Vec<u8>, QueryError> {
    let bytes = strings.iter().map(|text| text.len() + 3).sum::<usize>();
    let mut writer = Writer::new(128 + bytes, context)?;
    writer.list(strings, |out, text| write_string(out, text))?;
    Ok(writer.finish(&warnings.iter().map(String::as_str).collect::<Vec<_>>(), &[]))
}

/// The answer to `format_query`: one string.
///
/// # Errors
/// [`QueryError`], when the answer is larger than the query may hold, or takes too long to write.
pub(crate) fn string_body(text: &str, context: &QueryContext) -> Result<Vec<u8>, QueryError> {
    let mut writer = Writer::new(64 + text.len(), context)?;
    write_string(&mut writer.out, text);
    writer.account()?;
    Ok(writer.finish(&[], &[]))
}

/// The answer to `query_exemplars`: series with their exemplars.
///
/// # Errors
/// [`QueryError`], when the answer is larger than the query may hold, or takes too long to write.
pub(crate) fn exemplars_body(
    series: &[(Labels, Vec<Exemplar>)],
    context: &QueryContext,
) -> Result<Vec<u8>, QueryError> {
    let mut writer = Writer::new(ENVELOPE_BYTES + series.len() * SERIES_BYTES, context)?;
    writer.list(series, |out, (labels, exemplars)| {
        out.extend_from_slice(b"{\"seriesLabels\":");
        write_labels(out, labels);
        out.extend_from_slice(b",\"exemplars\":");
        write_each(out, exemplars, |out, exemplar| {
            out.extend_from_slice(b"{\"labels\":");
            write_labels(out, &exemplar.labels);
            out.extend_from_slice(b",\"value\":\"");
            write_float(out, exemplar.v, FloatFormat::Api);
            out.extend_from_slice(b"\",\"timestamp\":");
            write_timestamp(out, exemplar.t);
            out.push(b'}');
        });
        out.push(b'}');
    })?;
    Ok(writer.finish(&[], &[]))
}

/// Any small answer, in its envelope.
pub(crate) fn data_response<T: Serialize>(data: &T) -> Response {
    let mut body = Vec::with_capacity(256);
    body.extend_from_slice(b"{\"status\":\"success\",\"data\":");
    write_json(&mut body, data);
    body.push(b'}');
    response(body)
}

/// A body that is JSON.
pub(crate) fn response(body: impl Into<Body>) -> Response {
    let json = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, json)], body.into()).into_response()
}

pub(super) fn write_annotations(out: &mut Vec<u8>, key: &str, texts: &[&str], noun: &str) {
    if texts.is_empty() {
        return;
    }
    out.extend_from_slice(format!(",\"{key}\":").as_bytes());
    let omitted = texts.len().saturating_sub(ANNOTATIONS_MAX);
    let more = format!("{omitted} more {noun} annotations omitted");
    let mut shown: Vec<&str> = texts.iter().take(ANNOTATIONS_MAX).copied().collect();
    if omitted > 0 {
        shown.push(&more);
    }
    write_each(out, shown, write_string);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn timestamps_have_no_or_three_decimals() {
        for (t, expected) in [
            (0, "0"),
            (1_435_781_430_781, "1435781430.781"),
            (1_435_781_430_000, "1435781430"),
            (1_050, "1.050"),
            (1_007, "1.007"),
            (-1, "-0.001"),
            (-1_500, "-1.500"),
            (i64::MIN, "-9223372036854775.808"),
        ] {
            assert_eq!(text(|out| write_timestamp(out, t)), expected);
        }
    }

    #[test]
    fn samples_are_pairs_with_a_string() {
        for (v, expected) in [
            (1.5, r#"[0.001,"1.5"]"#),
            (f64::NAN, r#"[0.001,"NaN"]"#),
            (f64::INFINITY, r#"[0.001,"+Inf"]"#),
            (1e21, r#"[0.001,"1e+21"]"#),
        ] {
            assert_eq!(text(|out| write_sample(out, Sample { t: 1, v })), expected);
        }
    }

    #[test]
    fn the_eleventh_annotation_is_counted() {
        let texts: Vec<String> = (0..13).map(|i| format!("w{i}")).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let written = text(|out| write_annotations(out, "warnings", &texts, "warning"));
        assert!(written.ends_with(r#""w9","3 more warning annotations omitted"]"#), "{written}");
        let written = text(|out| write_annotations(out, "infos", &texts[..10], "info"));
        assert!(written.ends_with(r#""w8","w9"]"#), "{written}");
    }
}
