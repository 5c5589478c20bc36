//! The JSON of the Prometheus API, written straight into a buffer.
//!
//! Answers may hold millions of points, so points are never turned into a tree of JSON values first, and what is written
//! counts against the query's bytes. Small answers are serialized with serde into the same envelope.

use std::time::Duration;

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use model::{
    Charge, Columns, Exemplar, FloatFormat, FloatHistogram, Labels, QueryContext, QueryError,
    Sample, Timestamp, write_float,
};
use promql::ast::Expr;
use promql::explain::Explained;
use promql::value::{QueryResult, QueryStats, Value};
use serde::Serialize;

use super::tree::write_expr;

/// Prometheus lists at most this many warnings, and as many infos.
const ANNOTATIONS_MAX: usize = 10;
/// About how many bytes a point takes: eleven digits of time, a value, punctuation.
const POINT_BYTES: usize = 32;
/// About how many bytes the labels of a series take.
const SERIES_BYTES: usize = 192;
/// What is around the labels and the points of a series.
const SERIES_ENVELOPE_BYTES: usize = 32;
/// What is around a result.
const ENVELOPE_BYTES: usize = 128;
/// Series, and points of each, that are looked at to tell how long an answer will be.
const SEEN_SERIES: usize = 16;
const SEEN_POINTS: usize = 4;

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

/// The times of points as they are written, `[seconds,"`, by where the bits of the time say. Series of one answer have the same times, and digits cost
/// more than the rest of a point.
struct TimeTexts {
    slots: Vec<TimeText>,
}

/// One of [`TimeTexts`].
#[derive(Clone, Copy)]
struct TimeText {
    t: Timestamp,
    /// 0 where none was written yet.
    len: usize,
    text: [u8; TimeTexts::TEXT_BYTES],
}

impl TimeTexts {
    const SLOT_BITS: u32 = 10;
    /// A bracket, at most sixteen digits with a sign and three decimals, a comma and a quotation mark.
    const TEXT_BYTES: usize = 32;

    fn new() -> Self {
        let vacant = TimeText { t: 0, len: 0, text: [0; Self::TEXT_BYTES] };
        Self { slots: vec![vacant; 1 << Self::SLOT_BITS] }
    }

    /// Writes `[seconds,"`.
    #[inline]
    fn write(&mut self, out: &mut Vec<u8>, t: Timestamp) {
        // Steps are even, so their low bits are alike: the product spreads them.
        let spread = t.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let at = usize::try_from(spread >> (u64::BITS - Self::SLOT_BITS)).unwrap_or(0);
        let slot = &mut self.slots[at];
        if slot.t != t || slot.len == 0 {
            slot.set(t);
        }
        let end = out.len() + slot.len;
        // A copy of a size that is known takes an instruction or two.
        out.extend_from_slice(&slot.text);
        out.truncate(end);
    }
}

impl TimeText {
    fn set(&mut self, t: Timestamp) {
        let mut text = Vec::with_capacity(TimeTexts::TEXT_BYTES);
        text.push(b'[');
        write_timestamp(&mut text, t);
        text.extend_from_slice(b",\"");
        (self.t, self.len) = (t, text.len());
        self.text[..text.len()].copy_from_slice(&text);
    }
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

/// Writes the samples of a series: `"values":[…]` for floats, `"histograms":[…]` for histograms, each only if there are any.
fn write_points(out: &mut Vec<u8>, columns: &Columns, times: &mut TimeTexts) {
    let histograms = columns.histograms();
    if histograms.len() < columns.len() {
        out.extend_from_slice(b",\"values\":");
        let floats = (0..).zip(columns.iter());
        let mut rest = histograms;
        let floats = floats.filter(|(row, _)| match rest.split_first() {
            Some(((next, _), others)) if next == row => {
                rest = others;
                false
            }
            _ => true,
        });
        write_each(out, floats, |out, (_, sample)| {
            times.write(out, sample.t);
            write_float(out, sample.v, FloatFormat::Api);
            out.extend_from_slice(b"\"]");
        });
    }
    if !histograms.is_empty() {
        out.extend_from_slice(b",\"histograms\":");
        write_each(out, histograms, |out, (row, histogram)| {
            write_histogram_sample(out, columns.times()[*row as usize], histogram);
        });
    }
}

/// Writes `[seconds,{"count":…,"sum":…,"buckets":[…]}]`. Empty buckets are left out; the first number of a bucket says which of its
/// bounds are in it.
fn write_histogram_sample(out: &mut Vec<u8>, t: Timestamp, histogram: &FloatHistogram) {
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

/// What an answer says besides the result.
#[derive(Debug, Default)]
pub(crate) struct Extras {
    /// Further warnings.
    pub(crate) warnings: Vec<String>,
    /// How long it took, if statistics are asked for.
    pub(crate) timings: Option<Timings>,
}

/// How long the parts of a query took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timings {
    /// Waiting for a free slot.
    pub(crate) queued: Duration,
    /// Parsing and evaluating.
    pub(crate) evaluated: Duration,
}

/// The answer to a query, in its envelope. `resultType` comes first, since clients decode `result` by it.
///
/// # Errors
/// [`QueryError`] when the answer is larger than the query may hold, or takes too long to write.
pub(crate) fn query_body(
    result: &QueryResult,
    extras: &Extras,
    context: &QueryContext,
) -> Result<Vec<u8>, QueryError> {
    let mut writer = Writer::new(bytes_expected(&result.value), context)?;
    writer.out.extend_from_slice(b"{\"resultType\":\"");
    writer.out.extend_from_slice(result.value.value_type().as_str().as_bytes());
    writer.out.extend_from_slice(b"\",\"result\":");
    match &result.value {
        Value::Scalar(sample) => write_sample(&mut writer.out, *sample),
        Value::String(t, text) => {
            writer.out.push(b'[');
            write_timestamp(&mut writer.out, *t);
            writer.out.push(b',');
            write_string(&mut writer.out, text);
            writer.out.push(b']');
        }
        Value::Vector(samples) => writer.list(samples, |out, sample| {
            out.extend_from_slice(b"{\"metric\":");
            write_labels(out, &sample.labels);
            if let Some(histogram) = &sample.histogram {
                out.extend_from_slice(b",\"histogram\":");
                write_histogram_sample(out, sample.sample.t, histogram);
            } else {
                out.extend_from_slice(b",\"value\":");
                write_sample(out, sample.sample);
            }
            out.push(b'}');
        })?,
        Value::Matrix(series) => {
            let mut times = TimeTexts::new();
            writer.list(series, |out, series| {
                out.extend_from_slice(b"{\"metric\":");
                write_labels(out, &series.labels);
                write_points(out, &series.samples, &mut times);
                out.push(b'}');
            })?;
        }
    }
    if let Some(timings) = extras.timings {
        write_stats(&mut writer, result, timings)?;
    }
    if let Some(explained) = &result.explained {
        writer.out.extend_from_slice(b",\"explain\":");
        write_explained(&mut writer, explained)?;
    }
    writer.out.push(b'}');
    let warnings = result.warnings.iter().chain(&extras.warnings).map(String::as_str);
    let infos = result.infos.iter().map(String::as_str);
    Ok(writer.finish(&warnings.collect::<Vec<_>>(), &infos.collect::<Vec<_>>()))
}

/// About how many bytes a value takes, so that large answers are not copied as they grow.
fn bytes_expected(value: &Value) -> usize {
    match value {
        Value::Scalar(_) | Value::String(..) => ENVELOPE_BYTES,
        Value::Vector(samples) => ENVELOPE_BYTES + samples.len() * (SERIES_BYTES + POINT_BYTES),
        Value::Matrix(series) => {
            // Digits differ from query to query, so a few points of a few series are written to see.
            let (mut labels, mut points, mut seen, mut seen_points) =
                (Vec::new(), Vec::new(), 0, 0);
            for series in series.iter().step_by(series.len().div_ceil(SEEN_SERIES).max(1)) {
                seen += 1;
                write_labels(&mut labels, &series.labels);
                let samples = &series.samples;
                for sample in samples.iter().step_by(samples.len().div_ceil(SEEN_POINTS).max(1)) {
                    seen_points += 1;
                    write_sample(&mut points, sample);
                }
            }
            let all: usize = series.iter().map(|series| series.samples.len()).sum();
            let of_labels =
                series.len() * (labels.len().div_ceil(seen.max(1)) + SERIES_ENVELOPE_BYTES);
            let of_points = all * (points.len() + seen_points).div_ceil(seen_points.max(1));
            ENVELOPE_BYTES + of_labels + of_points + of_points / 32
        }
    }
}

/// Writes statistics. What Prometheus does beforehand and afterwards, finding series and sorting the result, is part of evaluating
/// here: nothing is left for the times of these.
fn write_stats(
    writer: &mut Writer<'_>,
    result: &QueryResult,
    timings: Timings,
) -> Result<(), QueryError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct TimingsJson {
        eval_total_time: f64,
        result_sort_time: f64,
        query_preparation_time: f64,
        inner_eval_time: f64,
        exec_queue_time: f64,
        exec_total_time: f64,
    }
    let evaluated = timings.evaluated.as_secs_f64();
    let timings = TimingsJson {
        eval_total_time: evaluated,
        result_sort_time: 0.0,
        query_preparation_time: 0.0,
        inner_eval_time: evaluated,
        exec_queue_time: timings.queued.as_secs_f64(),
        exec_total_time: timings.queued.as_secs_f64() + evaluated,
    };
    writer.out.extend_from_slice(b",\"stats\":{\"timings\":");
    write_json(&mut writer.out, &timings);
    writer.out.extend_from_slice(b",\"samples\":{");
    if !result.samples_per_step.is_empty() {
        writer.out.extend_from_slice(b"\"totalQueryableSamplesPerStep\":");
        let mut digits = itoa::Buffer::new();
        writer.list(&result.samples_per_step, |out, (t, samples)| {
            out.push(b'[');
            write_timestamp(out, *t);
            out.push(b',');
            out.extend_from_slice(digits.format(*samples).as_bytes());
            out.push(b']');
        })?;
        writer.out.push(b',');
    }
    let QueryStats { samples_queryable, samples_read, samples_peak } = result.stats;
    let samples = format!(
        "\"totalQueryableSamples\":{samples_queryable},\"samplesRead\":{samples_read},\"peakSamples\":{samples_peak}}}}}"
    );
    writer.out.extend_from_slice(samples.as_bytes());
    Ok(())
}

/// Writes an operation and those that it took its operands from.
fn write_explained(writer: &mut Writer<'_>, explained: &Explained) -> Result<(), QueryError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct OperationJson<'a> {
        operation: &'a str,
        series_selected: u64,
        samples_read: u64,
        series: u64,
        samples: u64,
        bytes: u64,
        seconds: f64,
    }
    let operation = OperationJson {
        operation: &explained.operation,
        series_selected: explained.series_selected,
        samples_read: explained.samples_read,
        series: explained.series,
        samples: explained.samples,
        bytes: explained.bytes,
        seconds: explained.seconds,
    };
    write_json(&mut writer.out, &operation);
    // The list goes inside.
    writer.out.pop();
    writer.out.extend_from_slice(b",\"operands\":[");
    for (i, operand) in explained.operands.iter().enumerate() {
        if i > 0 {
            writer.out.push(b',');
        }
        write_explained(writer, operand)?;
        writer.account()?;
    }
    writer.out.extend_from_slice(b"]}");
    Ok(())
}

/// The answer to `parse_query`: the tree of an expression.
///
/// # Errors
/// [`QueryError`], as for [`query_body`].
pub(crate) fn tree_body(expr: &Expr, context: &QueryContext) -> Result<Vec<u8>, QueryError> {
    let mut writer = Writer::new(1 << 10, context)?;
    write_expr(&mut writer, expr)?;
    Ok(writer.finish(&[], &[]))
}

fn write_json<T: Serialize>(out: &mut Vec<u8>, data: &T) {
    serde_json::to_writer(out, data).expect("our own types serialize and memory takes every write");
}

/// The answer to `series`: a list of label sets.
///
/// # Errors
/// [`QueryError`], as for [`query_body`].
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
/// [`QueryError`], as for [`query_body`].
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
/// [`QueryError`], as for [`query_body`].
pub(crate) fn string_body(text: &str, context: &QueryContext) -> Result<Vec<u8>, QueryError> {
    let mut writer = Writer::new(64 + text.len(), context)?;
    write_string(&mut writer.out, text);
    writer.account()?;
    Ok(writer.finish(&[], &[]))
}

/// The answer to `query_exemplars`: series with their exemplars.
///
/// # Errors
/// [`QueryError`], as for [`query_body`].
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
pub(crate) fn response(body: Vec<u8>) -> Response {
    let json = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, json)], body).into_response()
}

fn write_annotations(out: &mut Vec<u8>, key: &str, texts: &[&str], noun: &str) {
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
    use std::sync::Arc;

    use model::{Budget, CUSTOM_BUCKETS_SCHEMA, Span};
    use promql::value::{MatrixSeries, VectorSample};

    use super::*;

    fn text(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn check(value: Value, expected: &str) {
        let result = QueryResult { value, ..QueryResult::default() };
        let body = query_body(&result, &Extras::default(), &QueryContext::unbounded()).unwrap();
        let expected = format!(r#"{{"status":"success","data":{expected}}}"#);
        assert_eq!(String::from_utf8(body).unwrap(), expected);
    }

    #[test]
    fn values_of_every_type() {
        let labels = Labels::from_pairs([("__name__", "m"), ("a", "<\"é>")]).unwrap();
        let sample = Sample { t: 1_435_781_430_781, v: 1.0 };
        check(Value::Scalar(sample), r#"{"resultType":"scalar","result":[1435781430.781,"1"]}"#);
        check(
            Value::String(2_000, String::from("x\n")),
            r#"{"resultType":"string","result":[2,"x\n"]}"#,
        );
        check(Value::Vector(Vec::new()), r#"{"resultType":"vector","result":[]}"#);
        check(
            Value::Vector(vec![VectorSample { labels: labels.clone(), sample, histogram: None }]),
            r#"{"resultType":"vector","result":[{"metric":{"__name__":"m","a":"<\"é>"},"value":[1435781430.781,"1"]}]}"#,
        );
        let samples = [Sample { t: 0, v: f64::NAN }, Sample { t: 15_000, v: -0.5 }];
        check(
            Value::Matrix(vec![
                MatrixSeries { labels, samples: samples.into_iter().collect() },
                MatrixSeries { labels: Labels::empty(), samples: samples.into_iter().collect() },
            ]),
            r#"{"resultType":"matrix","result":[{"metric":{"__name__":"m","a":"<\"é>"},"values":[[0,"NaN"],[15,"-0.5"]]},{"metric":{},"values":[[0,"NaN"],[15,"-0.5"]]}]}"#,
        );
    }

    fn span(offset: i32, length: u32) -> Span {
        Span { offset, length }
    }

    #[test]
    fn points_are_written_as_samples_are() {
        let mut times = TimeTexts::new();
        // More times than there are slots, and the same again.
        let all = (-3_000..3_000_i64).map(|i| i * 15_000 + i % 3 * 7);
        let all = all.chain([i64::MIN, i64::MAX, 0, -1, 999, 1_000]);
        for _ in 0..2 {
            for t in all.clone() {
                let sample = Sample { t, v: 0.5 };
                let columns: Columns = [sample].into_iter().collect();
                let mut out = Vec::new();
                write_points(&mut out, &columns, &mut times);
                let expected = format!(",\"values\":[{}]", text(|out| write_sample(out, sample)));
                assert_eq!(String::from_utf8(out).unwrap(), expected);
            }
        }
    }

    #[test]
    fn histograms_show_their_populated_buckets() {
        let histogram = Arc::new(FloatHistogram {
            schema: 3,
            zero_threshold: 0.000_01,
            zero_count: 1.0,
            count: 6.5,
            sum: 18.4,
            positive_spans: vec![span(-117, 2), span(116, 1)],
            positive_counts: vec![0.0, 2.0, 1.5],
            negative_spans: vec![span(0, 1), span(7, 1)],
            negative_counts: vec![1.0, 1.0],
            ..FloatHistogram::default()
        });
        let shown = r#"{"count":"6.5","sum":"18.4","buckets":[[1,"-2","-1.8340080864093422","1"],[1,"-1","-0.9170040432046711","1"],[3,"-0.00001","0.00001","1"],[0,"0.000039576402424652394","0.000043158372875155485","2"],[0,"1","1.0905077326652577","1.5"]]}"#;
        let custom = Arc::new(FloatHistogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            count: 3.0,
            positive_spans: vec![span(0, 3)],
            positive_counts: vec![1.0, 1.0, 1.0],
            custom_bounds: vec![-2.0, 5.0],
            ..FloatHistogram::default()
        });
        let custom_shown = r#"{"count":"3","sum":"0","buckets":[[3,"-Inf","-2","1"],[0,"-2","5","1"],[0,"5","+Inf","1"]]}"#;
        let empty = Arc::new(FloatHistogram { sum: f64::NAN, ..FloatHistogram::default() });
        let (labels, sample) = (Labels::empty(), Sample { t: 1_500, v: 18.4 });
        let vector = VectorSample { labels, sample, histogram: Some(Arc::clone(&histogram)) };
        check(
            Value::Vector(vec![vector]),
            &format!(
                r#"{{"resultType":"vector","result":[{{"metric":{{}},"histogram":[1.500,{shown}]}}]}}"#
            ),
        );
        let mut mixed = Columns::new();
        mixed.push_histogram(0, histogram);
        mixed.push(1_000, 7.0);
        mixed.push_histogram(2_000, custom);
        let mut alone = Columns::new();
        alone.push_histogram(0, empty);
        let series = |samples| MatrixSeries { labels: Labels::empty(), samples };
        check(
            Value::Matrix(vec![series(mixed), series(alone)]),
            &format!(
                r#"{{"resultType":"matrix","result":[{{"metric":{{}},"values":[[1,"7"]],"histograms":[[0,{shown}],[2,{custom_shown}]]}},{{"metric":{{}},"histograms":[[0,{{"count":"0","sum":"NaN"}}]]}}]}}"#
            ),
        );
    }

    #[test]
    fn statistics_and_operations_come_after_the_result() {
        let timings =
            Timings { queued: Duration::from_millis(500), evaluated: Duration::from_secs(1) };
        let extras = Extras { timings: Some(timings), ..Extras::default() };
        let mut result = QueryResult {
            value: Value::Scalar(Sample { t: 0, v: 1.0 }),
            stats: QueryStats { samples_queryable: 3, samples_read: 2, samples_peak: 1 },
            ..QueryResult::default()
        };
        let body = |result: &QueryResult| {
            let body = query_body(result, &extras, &QueryContext::unbounded()).unwrap();
            String::from_utf8(body).unwrap()
        };
        let start = r#"{"status":"success","data":{"resultType":"scalar","result":[0,"1"],"stats":{"timings":{"evalTotalTime":1.0,"resultSortTime":0.0,"queryPreparationTime":0.0,"innerEvalTime":1.0,"execQueueTime":0.5,"execTotalTime":1.5},"samples":{"#;
        let samples = r#""totalQueryableSamples":3,"samplesRead":2,"peakSamples":1}}"#;
        assert_eq!(body(&result), format!("{start}{samples}}}}}"));
        result.samples_per_step = vec![(0, 1), (1_500, 2)];
        let operand = Explained {
            operation: String::from("a{b=\"c\"}"),
            series_selected: 1,
            samples_read: 2,
            series: 3,
            samples: 4,
            bytes: 5,
            seconds: 0.25,
            operands: Vec::new(),
        };
        result.explained = Some(Explained {
            operation: String::from("a+b"),
            operands: vec![
                operand.clone(),
                Explained { operands: vec![operand], ..Explained::default() },
            ],
            ..Explained::default()
        });
        let zeros =
            r#""seriesSelected":0,"samplesRead":0,"series":0,"samples":0,"bytes":0,"seconds":0.0"#;
        let leaf = r#"{"operation":"a{b=\"c\"}","seriesSelected":1,"samplesRead":2,"series":3,"samples":4,"bytes":5,"seconds":0.25,"operands":[]}"#;
        let per_step = r#""totalQueryableSamplesPerStep":[[0,1],[1.500,2]],"#;
        assert_eq!(
            body(&result),
            format!(
                r#"{start}{per_step}{samples},"explain":{{"operation":"a+b",{zeros},"operands":[{leaf},{{"operation":"",{zeros},"operands":[{leaf}]}}]}}}}}}"#
            )
        );
    }

    #[test]
    fn a_body_counts_against_the_query() {
        let series = MatrixSeries {
            labels: Labels::empty(),
            samples: (0..1000).map(|t| Sample { t, v: 1.0 }).collect(),
        };
        let result = QueryResult { value: Value::Matrix(vec![series]), ..QueryResult::default() };
        let mut context = QueryContext::unbounded();
        context.budget = Budget::new(10_000);
        let body = query_body(&result, &Extras::default(), &context);
        assert!(matches!(body, Err(QueryError::OverBudget { .. })));
        assert_eq!(context.budget.bytes_used(), 0);
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
