//! The answer to a query, written piece by piece while it is sent.
//!
//! An answer may hold millions of points. It is never whole in memory as text: what a client has not read yet is not written yet, and series
//! are let go of as soon as they are written.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::Response;
use futures_util::stream;
use model::{Columns, Labels, Timestamp};
use promql::explain::Explained;
use promql::value::{MatrixSeries, QueryResult, QueryStats, Value};
use serde::Serialize;

use super::json::{
    self, write_annotations, write_each, write_histogram_sample, write_json, write_labels,
    write_sample, write_scalar, write_text, write_timestamp,
};
use super::points::Points;

/// About how long a piece is. It should stay in a processor's cache until it is sent, and whoever reads it is woken for each.
const PIECE_BYTES: usize = 256 << 10;
/// About how many bytes a point takes: eleven digits of time, a value, punctuation.
const POINT_BYTES: usize = 36;
/// About how many bytes the labels of a series take.
const SERIES_BYTES: usize = 192;
/// What is around a result.
const ENVELOPE_BYTES: usize = 256;

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

/// The answer to a query, in its envelope, as an iterator over pieces. `resultType` comes first, since clients decode `result` by it.
#[derive(Debug)]
pub(crate) struct Answer {
    result: QueryResult,
    extras: Extras,
    points: Points,
    /// About how many bytes are to be written.
    bytes_left: usize,
    next: Next,
}

/// What of an answer is to be written next.
#[derive(Clone, Copy, Debug)]
enum Next {
    /// What comes before the first item.
    Start,
    /// An item of a vector, or the labels of a series.
    Item(usize),
    /// A row of a series, or a row after it if that one is a histogram.
    Floats { series: usize, row: usize },
    /// A histogram of a series, by its place among them.
    Histograms { series: usize, index: usize },
    /// What comes after the last item.
    End,
    /// Nothing: it is complete.
    Nothing,
}

impl Answer {
    /// Nothing of it is written yet.
    pub(crate) fn new(result: QueryResult, extras: Extras) -> Self {
        let series = match &result.value {
            Value::Matrix(series) => &series[..],
            Value::Scalar(_) | Value::String(..) | Value::Vector(_) => &[],
        };
        let points = Points::at(series.iter().map(|series| series.samples.times()));
        let bytes_left = bytes_expected(&result.value);
        Self { result, extras, points, bytes_left, next: Next::Start }
    }

    /// Nothing is left to be written.
    const fn is_complete(&self) -> bool {
        matches!(self.next, Next::Nothing)
    }

    /// Memory for the next piece, so that it need not be moved while it grows.
    fn piece(&self) -> Vec<u8> {
        let room = match &self.result.value {
            Value::Matrix(_) => Points::ROOM_BYTES,
            Value::Scalar(_) | Value::String(..) | Value::Vector(_) => 0,
        };
        let left = if self.bytes_left == 0 { PIECE_BYTES } else { self.bytes_left };
        Vec::with_capacity(left.min(PIECE_BYTES) + room)
    }

    /// Appends until `out` has at least `bytes` or the answer is complete. Labels, a histogram, or what comes after the last item may lead
    /// beyond.
    fn write(&mut self, out: &mut Vec<u8>, bytes: usize) {
        while out.len() < bytes && !self.is_complete() {
            self.next = match self.next {
                Next::Start => self.start(out),
                Next::Item(at) => self.item(out, at),
                Next::Floats { series, row } => self.floats(out, bytes, series, row),
                Next::Histograms { series, index } => self.histograms(out, bytes, series, index),
                Next::End => {
                    self.end(out);
                    Next::Nothing
                }
                Next::Nothing => Next::Nothing,
            };
        }
    }

    fn start(&self, out: &mut Vec<u8>) -> Next {
        out.extend_from_slice(b"{\"status\":\"success\",\"data\":{\"resultType\":\"");
        out.extend_from_slice(self.result.value.value_type().as_str().as_bytes());
        out.extend_from_slice(b"\",\"result\":");
        match &self.result.value {
            Value::Scalar(sample) => write_scalar(out, *sample),
            Value::String(t, text) => write_text(out, *t, text),
            Value::Vector(_) | Value::Matrix(_) => {
                out.push(b'[');
                return Next::Item(0);
            }
        }
        Next::End
    }

    fn item(&self, out: &mut Vec<u8>, at: usize) -> Next {
        let separate = |out: &mut Vec<u8>, labels: &Labels| {
            if at > 0 {
                out.push(b',');
            }
            out.extend_from_slice(b"{\"metric\":");
            write_labels(out, labels);
        };
        match &self.result.value {
            Value::Vector(samples) => {
                if let Some(sample) = samples.get(at) {
                    separate(out, &sample.labels);
                    if let Some(histogram) = &sample.histogram {
                        out.extend_from_slice(b",\"histogram\":");
                        write_histogram_sample(out, sample.sample.t, histogram);
                    } else {
                        out.extend_from_slice(b",\"value\":");
                        write_sample(out, sample.sample);
                    }
                    out.push(b'}');
                    return Next::Item(at + 1);
                }
            }
            Value::Matrix(series) => {
                if let Some(one) = series.get(at) {
                    separate(out, &one.labels);
                    let samples = &one.samples;
                    if samples.histograms().len() < samples.len() {
                        out.extend_from_slice(b",\"values\":[");
                        return Next::Floats { series: at, row: 0 };
                    }
                    return begin_histograms(out, one, at);
                }
            }
            Value::Scalar(_) | Value::String(..) => return Next::End,
        }
        out.push(b']');
        Next::End
    }

    fn floats(&mut self, out: &mut Vec<u8>, bytes: usize, at: usize, from: usize) -> Next {
        let Value::Matrix(series) = &self.result.value else { return Next::End };
        let samples = &series[at].samples;
        let histograms = samples.histograms();
        let (times, values) = (samples.times(), samples.floats());
        // Where histograms stand between floats, the first float need not be the first row.
        let passed = histograms.partition_point(|(row, _)| (*row as usize) < from);
        let (mut row, mut is_first) = (from, passed == from);
        let histogram_rows = histograms[passed..].iter().map(|(row, _)| *row as usize);
        for end in histogram_rows.chain([samples.len()]) {
            let points = (&times[row..end], &values[row..end]);
            let written = self.points.write(out, bytes, points, is_first);
            row += written;
            if row < end {
                return Next::Floats { series: at, row };
            }
            is_first &= written == 0;
            row += 1;
        }
        out.extend_from_slice(Points::END);
        out.push(b']');
        let next = begin_histograms(out, &series[at], at);
        self.let_go(next, at);
        next
    }

    fn histograms(&mut self, out: &mut Vec<u8>, bytes: usize, at: usize, from: usize) -> Next {
        let Value::Matrix(series) = &self.result.value else { return Next::End };
        let samples = &series[at].samples;
        for (index, (row, histogram)) in samples.histograms().iter().enumerate().skip(from) {
            if out.len() >= bytes {
                return Next::Histograms { series: at, index };
            }
            if index > 0 {
                out.push(b',');
            }
            write_histogram_sample(out, samples.times()[*row as usize], histogram);
        }
        out.extend_from_slice(b"]}");
        let next = Next::Item(at + 1);
        self.let_go(next, at);
        next
    }

    /// Frees the samples of a series that was written.
    fn let_go(&mut self, next: Next, at: usize) {
        if let (Next::Item(_), Value::Matrix(series)) = (next, &mut self.result.value) {
            series[at].samples = Columns::new();
        }
    }

    fn end(&self, out: &mut Vec<u8>) {
        let (result, extras) = (&self.result, &self.extras);
        if let Some(timings) = extras.timings {
            write_stats(out, result, timings);
        }
        if let Some(explained) = &result.explained {
            out.extend_from_slice(b",\"explain\":");
            write_explained(out, explained);
        }
        out.push(b'}');
        let warnings = result.warnings.iter().chain(&extras.warnings).map(String::as_str);
        write_annotations(out, "warnings", &warnings.collect::<Vec<_>>(), "warning");
        let infos = result.infos.iter().map(String::as_str);
        write_annotations(out, "infos", &infos.collect::<Vec<_>>(), "info");
        out.push(b'}');
    }
}

impl Iterator for Answer {
    type Item = Bytes;

    /// The next piece.
    fn next(&mut self) -> Option<Bytes> {
        if self.is_complete() {
            return None;
        }
        let mut piece = self.piece();
        self.write(&mut piece, PIECE_BYTES);
        self.bytes_left = self.bytes_left.saturating_sub(piece.len());
        Some(Bytes::from(piece))
    }
}

/// About how many bytes an answer takes.
fn bytes_expected(value: &Value) -> usize {
    let items = match value {
        Value::Scalar(_) | Value::String(..) => 0,
        Value::Vector(samples) => samples.len() * (SERIES_BYTES + POINT_BYTES),
        Value::Matrix(series) => {
            let points: usize = series.iter().map(|series| series.samples.len()).sum();
            series.len() * SERIES_BYTES + points * POINT_BYTES
        }
    };
    ENVELOPE_BYTES + items
}

/// Begins the list of a series' histograms if it has any, ends the series otherwise.
fn begin_histograms(out: &mut Vec<u8>, series: &MatrixSeries, at: usize) -> Next {
    if series.samples.histograms().is_empty() {
        out.push(b'}');
        return Next::Item(at + 1);
    }
    out.extend_from_slice(b",\"histograms\":[");
    Next::Histograms { series: at, index: 0 }
}

/// An answer of which the first piece is written.
#[derive(Debug)]
pub(super) struct Begun {
    first: Bytes,
    rest: Answer,
}

impl Begun {
    /// Writes the first piece.
    pub(super) fn new(mut answer: Answer) -> Self {
        Self { first: answer.next().unwrap_or_default(), rest: answer }
    }

    /// The response. What is left is written while it is sent.
    pub(super) fn response(self) -> Response {
        if self.rest.is_complete() {
            return json::response(Body::from(self.first));
        }
        let pieces = std::iter::once(self.first).chain(self.rest).map(Ok::<_, Infallible>);
        json::response(Body::from_stream(stream::iter(pieces)))
    }
}

/// Writes statistics. What Prometheus does beforehand and afterwards, finding series and sorting the result, is part of evaluating
/// here: nothing is left for the times of these.
fn write_stats(out: &mut Vec<u8>, result: &QueryResult, timings: Timings) {
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
    out.extend_from_slice(b",\"stats\":{\"timings\":");
    write_json(out, &timings);
    out.extend_from_slice(b",\"samples\":{");
    let QueryStats { samples_queryable, samples_read, samples_peak, .. } = result.stats;
    write_per_step(out, "totalQueryableSamplesPerStep", &result.samples_per_step);
    let looked_at = format!("\"totalQueryableSamples\":{samples_queryable},");
    out.extend_from_slice(looked_at.as_bytes());
    write_per_step(out, "samplesReadPerStep", &result.samples_read_per_step);
    let others = format!("\"samplesRead\":{samples_read},\"peakSamples\":{samples_peak}}}}}");
    out.extend_from_slice(others.as_bytes());
}

/// Writes how many samples each step took, if that is known.
fn write_per_step(out: &mut Vec<u8>, key: &str, counts: &[(Timestamp, u64)]) {
    if counts.is_empty() {
        return;
    }
    write_json(out, &key);
    out.push(b':');
    let mut digits = itoa::Buffer::new();
    write_each(out, counts, |out, (t, samples)| {
        out.push(b'[');
        write_timestamp(out, *t);
        out.push(b',');
        out.extend_from_slice(digits.format(*samples).as_bytes());
        out.push(b']');
    });
    out.push(b',');
}

/// Writes an operation and those that it took its operands from.
fn write_explained(out: &mut Vec<u8>, explained: &Explained) {
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
    write_json(out, &operation);
    // The list goes inside.
    out.pop();
    out.extend_from_slice(b",\"operands\":[");
    for (i, operand) in explained.operands.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_explained(out, operand);
    }
    out.extend_from_slice(b"]}");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::{CUSTOM_BUCKETS_SCHEMA, FloatHistogram, Sample, Span};
    use promql::value::VectorSample;

    use super::*;

    /// The whole text, written `bytes` at a time.
    fn written(mut answer: Answer, bytes: usize) -> String {
        let mut out = Vec::new();
        while !answer.is_complete() {
            let until = out.len().saturating_add(bytes);
            answer.write(&mut out, until);
        }
        String::from_utf8(out).unwrap()
    }

    fn check(value: Value, expected: &str) {
        let result = QueryResult { value, ..QueryResult::default() };
        let body = written(Answer::new(result, Extras::default()), usize::MAX);
        let expected = format!(r#"{{"status":"success","data":{expected}}}"#);
        assert_eq!(body, expected);
    }

    #[test]
    fn values_of_every_type() {
        let labels = Labels::from_pairs([("__name__", "m"), ("a", "<\"é>")]).unwrap();
        let sample = Sample { t: 1_435_781_430_781, v: 1.0 };
        check(Value::Scalar(sample), r#"{"resultType":"scalar","result":[1435781430.781,"1"]}"#);
        for (v, expected) in [
            (1e21, "1000000000000000000000"),
            (1e-7, "0.0000001"),
            (1.0 / 3e30, "0.00000000000000000000000000000033333333333333338"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            let expected = format!(r#"{{"resultType":"scalar","result":[-9.5,"{expected}"]}}"#);
            check(Value::Scalar(Sample { t: -9_500, v }), &expected);
        }
        check(
            Value::String(250, String::from("<a>&\u{2028}\u{1}\t\"é")),
            r#"{"resultType":"string","result":[0.25,"\u003ca\u003e\u0026\u2028\u0001\t\"é"]}"#,
        );
        let small = Sample { t: 0, v: 1e-7 };
        let small = VectorSample { labels: Labels::empty(), sample: small, histogram: None };
        check(
            Value::Vector(vec![small]),
            r#"{"resultType":"vector","result":[{"metric":{},"value":[0,"1e-07"]}]}"#,
        );
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
            stats: QueryStats {
                samples_queryable: 3,
                samples_read: 2,
                samples_peak: 1,
                ..QueryStats::default()
            },
            ..QueryResult::default()
        };
        let body = |result: &QueryResult| {
            let extras = Extras { timings: extras.timings, ..Extras::default() };
            written(Answer::new(result.clone(), extras), usize::MAX)
        };
        let start = r#"{"status":"success","data":{"resultType":"scalar","result":[0,"1"],"stats":{"timings":{"evalTotalTime":1.0,"resultSortTime":0.0,"queryPreparationTime":0.0,"innerEvalTime":1.0,"execQueueTime":0.5,"execTotalTime":1.5},"samples":{"#;
        let samples = r#""totalQueryableSamples":3,"samplesRead":2,"peakSamples":1}}"#;
        assert_eq!(body(&result), format!("{start}{samples}}}}}"));
        result.samples_per_step = vec![(0, 1), (1_500, 2)];
        result.samples_read_per_step = vec![(0, 1), (1_500, 1)];
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
        let samples = r#""totalQueryableSamplesPerStep":[[0,1],[1.500,2]],"totalQueryableSamples":3,"samplesReadPerStep":[[0,1],[1.500,1]],"samplesRead":2,"peakSamples":1}}"#;
        assert_eq!(
            body(&result),
            format!(
                r#"{start}{samples},"explain":{{"operation":"a+b",{zeros},"operands":[{leaf},{{"operation":"",{zeros},"operands":[{leaf}]}}]}}}}}}"#
            )
        );
    }

    #[test]
    fn pieces_of_any_length_make_the_same_text() {
        let histogram =
            Arc::new(FloatHistogram { count: 1.0, sum: 2.0, ..FloatHistogram::default() });
        let mut series = Vec::new();
        // Every way in which three rows may be floats (0) and histograms (1), and none.
        for kinds in (0..8_u32).map(|bits| [bits & 1, bits >> 1 & 1, bits >> 2]) {
            let mut samples = Columns::new();
            for (t, kind) in (0..).zip(kinds) {
                match kind {
                    0 => samples.push(t * 500, 0.25),
                    _ => samples.push_histogram(t * 500, Arc::clone(&histogram)),
                }
            }
            series.push(MatrixSeries { labels: Labels::empty(), samples });
        }
        series.push(MatrixSeries { labels: Labels::empty(), samples: Columns::new() });
        let result = QueryResult {
            value: Value::Matrix(series),
            warnings: vec![String::from("w")],
            ..QueryResult::default()
        };
        let whole = written(Answer::new(result.clone(), Extras::default()), usize::MAX);
        let (float, histogram) = (
            |t: &str| format!(r#"[{t},"0.25"]"#),
            |t: &str| format!(r#"[{t},{{"count":"1","sum":"2"}}]"#),
        );
        let times = ["0", "0.500", "1"];
        let mut expected = Vec::new();
        for bits in 0..8_u32 {
            let list = |wanted: u32, write: &dyn Fn(&str) -> String| {
                let rows = (0..3).filter(|row| bits >> row & 1 == wanted);
                rows.map(|row| write(times[row as usize])).collect::<Vec<_>>().join(",")
            };
            let mut text = String::from(r#"{"metric":{}"#);
            if bits != 7 {
                text += &format!(r#","values":[{}]"#, list(0, &float));
            }
            if bits != 0 {
                text += &format!(r#","histograms":[{}]"#, list(1, &histogram));
            }
            expected.push(text + "}");
        }
        expected.push(String::from(r#"{"metric":{}}"#));
        let expected = expected.join(",");
        let start = r#"{"status":"success","data":{"resultType":"matrix","result":["#;
        assert_eq!(whole, format!(r#"{start}{expected}]}},"warnings":["w"]}}"#));
        for bytes in 1..whole.len() {
            let answer = Answer::new(result.clone(), Extras::default());
            assert_eq!(written(answer, bytes), whole, "{bytes} bytes at a time");
        }
    }

    #[test]
    fn a_long_answer_is_never_whole_in_memory() {
        let samples: Columns = (0..100_000).map(|t| Sample { t, v: 1.0 }).collect();
        let series = vec![MatrixSeries { labels: Labels::empty(), samples }; 2];
        let result = QueryResult { value: Value::Matrix(series), ..QueryResult::default() };
        let whole = written(Answer::new(result.clone(), Extras::default()), usize::MAX);
        let mut answer = Answer::new(result, Extras::default());
        let mut joined = Vec::new();
        while let Some(piece) = answer.next() {
            assert!(piece.len() < PIECE_BYTES + 64, "{}", piece.len());
            joined.extend_from_slice(&piece);
            let Value::Matrix(series) = &answer.result.value else { panic!("it was a matrix") };
            let written = series.iter().filter(|series| series.samples.is_empty()).count();
            let begun = match answer.next {
                Next::Floats { series, .. } => series,
                _ => 2,
            };
            assert_eq!(written, begun, "series that are written are let go of");
        }
        assert!(joined.len() > 7 * PIECE_BYTES);
        assert_eq!(String::from_utf8(joined).unwrap(), whole);
    }
}
