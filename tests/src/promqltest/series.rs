//! The notation of a series with its points: `up{job="a"} 1 2+3x4 _ _x2 stale NaN {{schema:1 …}}`.

use anyhow::{Context, Result, bail, ensure};
use model::{Labels, stale_marker};
use promql::parse::parse_series;

use super::histogram::HistogramPoint;

/// Most points that one repetition (`1x…`) may stand for.
const REPEAT_MAX: u32 = 1_000_000;

/// A series with its points, as a script writes it.
#[derive(Clone, Debug)]
pub struct SeriesLine {
    /// The series.
    pub labels: Labels,
    /// One point per step, from the start of the load or of the evaluated range.
    pub points: Vec<Point>,
    /// Milliseconds from each point to its start timestamp, where one is given; empty without a line of start timestamps.
    pub start_offsets: Vec<Option<i64>>,
}

/// What a series has at one step.
#[derive(Clone, Debug, PartialEq)]
pub enum Point {
    /// Nothing.
    Omitted,
    /// A float sample, perhaps the staleness marker.
    Float(f64),
    /// A native histogram.
    Histogram(HistogramPoint),
}

impl SeriesLine {
    /// Parses a series and its points.
    ///
    /// # Errors
    /// Says which part of the text is malformed.
    pub fn parse(text: &str) -> Result<Self> {
        let (labels, rest) = split_metric(text.trim())?;
        Ok(Self { labels, points: parse_points(rest)?, start_offsets: Vec::new() })
    }
}

/// Takes the metric off the front: a name, labels in braces, or both with or without space between.
pub(super) fn split_metric(text: &str) -> Result<(Labels, &str)> {
    let mut end = text.find(['{', ' ', '\t']).unwrap_or(text.len());
    let braces = text[end..].trim_start();
    if braces.starts_with('{') && !braces.starts_with("{{") {
        end = text.len() - braces.len() + label_set_bytes(braces)?;
    }
    let (metric, rest) = text.split_at(end);
    Ok((parse_series(metric)?, rest))
}

/// Length of the text up to and including the brace that closes the one it starts with.
fn label_set_bytes(text: &str) -> Result<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(open) if c == open => quote = None,
            Some(open) => escaped = c == '\\' && open != '`',
            None if c == '}' => return Ok(at + 1),
            None => quote = Some(c).filter(|c| matches!(c, '"' | '\'' | '`')),
        }
    }
    bail!("a label set lacks `}}`")
}

fn parse_points(text: &str) -> Result<Vec<Point>> {
    let mut points = Vec::new();
    let mut rest = text;
    loop {
        let item = rest.trim_start();
        if item.is_empty() {
            return Ok(points);
        }
        ensure!(item.len() < rest.len(), "a space is expected before {item:?}");
        rest = split_item(item, &mut points).with_context(|| format!("at {item:?}"))?;
    }
}

/// Reads one item of a sequence of points; returns what follows it.
fn split_item<'t>(item: &'t str, points: &mut Vec<Point>) -> Result<&'t str> {
    if let Some(rest) = item.strip_prefix('_') {
        let (count, rest) = split_repeat(rest)?;
        extend(points, count.unwrap_or(1), |_| Point::Omitted);
        return Ok(rest);
    }
    if item.starts_with("{{") {
        let (first, mut rest) = split_histogram(item)?;
        let mut delta = None;
        let subtract = rest.starts_with('-');
        if let Some(text) = rest.strip_prefix(['+', '-']) {
            let (of_text, after) = split_histogram(text)?;
            (delta, rest) = (Some(of_text), after);
        }
        let (count, rest) = split_repeat(rest)?;
        let delta = delta.as_ref().map(|delta| (delta, subtract));
        let all = first.repeat(delta, count.unwrap_or(0))?;
        points.extend(all.into_iter().map(Point::Histogram));
        return Ok(rest);
    }
    let (mut value, rest) = split_value(item)?;
    let (delta, rest) = match rest.starts_with(['+', '-']) {
        true => split_value(rest)?,
        false => (0.0, rest),
    };
    let (count, rest) = split_repeat(rest)?;
    // Sums, not products: the rounding is part of what scripts expect. A value without delta keeps its bits.
    extend(points, count.unwrap_or(0) + 1, |i| {
        if i > 0 && delta != 0.0 {
            value += delta;
        }
        Point::Float(value)
    });
    Ok(rest)
}

fn extend(points: &mut Vec<Point>, count: u32, point: impl FnMut(u32) -> Point) {
    points.extend((0..count).map(point));
}

/// Takes a sign and a number, `NaN`, `Inf` or `stale` off the front.
fn split_value(text: &str) -> Result<(f64, &str)> {
    let unsigned = text.trim_start_matches(['+', '-']);
    let sign_bytes = text.len() - unsigned.len();
    ensure!(sign_bytes <= 1, "one sign is enough");
    for (word, value) in [("nan", f64::NAN), ("inf", f64::INFINITY), ("stale", stale_marker())] {
        if unsigned.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word)) {
            // The marker is a bit pattern, which a sign would change.
            let value = if text.starts_with('-') { -value } else { value };
            return Ok((value, &unsigned[word.len()..]));
        }
    }
    let bytes = unsigned.as_bytes();
    let mut end = 0;
    while let Some(b) = bytes.get(end) {
        let exponent_sign =
            matches!(b, b'+' | b'-') && matches!(bytes[end.max(1) - 1], b'e' | b'E');
        if !(b.is_ascii_digit() || b".eE_".contains(b) || (end > 0 && exponent_sign)) {
            break;
        }
        end += 1;
    }
    let number = text[..sign_bytes + end].replace('_', "");
    let value = number.parse().with_context(|| format!("not a number: {number:?}"))?;
    Ok((value, &unsigned[end..]))
}

/// Takes `xN` off the front, if it is there.
fn split_repeat(text: &str) -> Result<(Option<u32>, &str)> {
    let Some(rest) = text.strip_prefix('x') else { return Ok((None, text)) };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let count: u32 = rest[..digits].parse().context("a repetition needs a count")?;
    ensure!(count <= REPEAT_MAX, "at most {REPEAT_MAX} repetitions");
    Ok((Some(count), &rest[digits..]))
}

/// Takes `{{…}}` off the front.
fn split_histogram(text: &str) -> Result<(HistogramPoint, &str)> {
    let inside = text.strip_prefix("{{").context("a histogram is expected")?;
    let (inside, rest) = inside.split_once("}}").context("a histogram lacks `}}`")?;
    Ok((HistogramPoint::parse(inside)?, rest))
}

/// Reads a line `series@st …`: the series, and for each of its points the distance to the start timestamp in milliseconds, if there
/// is one.
///
/// Returns `None` when it is another kind of line.
pub(super) fn parse_start_times(line: &str) -> Result<Option<(Labels, Vec<Option<i64>>)>> {
    let Some((metric, items)) = line.split_once([' ', '\t']) else { return Ok(None) };
    let Some(metric) = metric.strip_suffix("@st") else { return Ok(None) };
    let (labels, rest) = split_metric(metric)?;
    ensure!(rest.is_empty(), "unexpected {rest:?} before @st");
    let mut offsets = Vec::new();
    for item in items.split_whitespace() {
        push_start_times(item, &mut offsets).with_context(|| format!("at {item:?}"))?;
    }
    Ok(Some((labels, offsets)))
}

/// Reads `_`, `_xN`, `-1m`, `-1mxN` or `-1m+5sxN`.
fn push_start_times(item: &str, offsets: &mut Vec<Option<i64>>) -> Result<()> {
    let (durations, repeat) = item.split_at(item.find('x').unwrap_or(item.len()));
    let (count, rest) = split_repeat(repeat)?;
    ensure!(rest.is_empty(), "unexpected {rest:?}");
    if durations == "_" {
        offsets.extend((0..count.unwrap_or(1)).map(|_| None));
        return Ok(());
    }
    let delta_at = durations[1..].find(['+', '-']).map_or(durations.len(), |at| at + 1);
    let (first, delta) = durations.split_at(delta_at);
    let mut offset = parse_offset(first)?;
    let delta = if delta.is_empty() { 0 } else { parse_offset(delta)? };
    for _ in 0..=count.unwrap_or(0) {
        offsets.push(Some(offset));
        offset += delta;
    }
    Ok(())
}

/// A duration with or without a sign, in milliseconds.
fn parse_offset(text: &str) -> Result<i64> {
    let unsigned = text.trim_start_matches(['+', '-']);
    let ms = i64::try_from(model::parse_duration(unsigned)?.as_millis())?;
    Ok(if text.starts_with('-') { -ms } else { ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(values: &[f64]) -> Vec<Point> {
        values.iter().copied().map(Point::Float).collect()
    }

    /// Points compared by bits, so that NaNs count.
    fn check(text: &str, labels: &str, points: &[Point]) {
        let line = SeriesLine::parse(text).unwrap_or_else(|error| panic!("{text}: {error:#}"));
        assert_eq!(line.labels.to_string(), labels, "{text}");
        let bits = |points: &[Point]| -> Vec<Option<u64>> {
            let bits = |point: &Point| match point {
                Point::Float(v) => Some(v.to_bits()),
                Point::Omitted | Point::Histogram(_) => None,
            };
            points.iter().map(bits).collect()
        };
        assert_eq!(bits(&line.points), bits(points), "{text}");
    }

    #[test]
    fn metrics() {
        check("up", r#"{__name__="up"}"#, &[]);
        check("a:b 1", r#"{__name__="a:b"}"#, &floats(&[1.0]));
        check("{} 1", "{}", &floats(&[1.0]));
        check(
            r#"up{job="a b", x='y',} 1"#,
            r#"{__name__="up", job="a b", x="y"}"#,
            &floats(&[1.0]),
        );
        check(r#"{"my.up", "a.b"="c"} 1"#, r#"{__name__="my.up", "a.b"="c"}"#, &floats(&[1.0]));
        check(r#"up {job="a"} 1"#, r#"{__name__="up", job="a"}"#, &floats(&[1.0]));
        check(r#"up{job=""} 1"#, r#"{__name__="up"}"#, &floats(&[1.0]));
    }

    #[test]
    fn points() {
        let name = r#"{__name__="m"}"#;
        check("m 1 -2.5 1e3 .5 1e-3", name, &floats(&[1.0, -2.5, 1000.0, 0.5, 0.001]));
        check("m 1x2", name, &floats(&[1.0; 3]));
        check("m 1+2x2 10-5x1", name, &floats(&[1.0, 3.0, 5.0, 10.0, 5.0]));
        check("m -1-1x2  0x1", name, &floats(&[-1.0, -2.0, -3.0, 0.0, 0.0]));
        check("m 1e2+1e1x1", name, &floats(&[100.0, 110.0]));
        check("m 0.1+0.1x2", name, &floats(&[0.1, 0.1 + 0.1, 0.1 + 0.1 + 0.1]));
        check(
            "m NaN Inf -Inf +Inf",
            name,
            &floats(&[f64::NAN, f64::INFINITY, -f64::INFINITY, f64::INFINITY]),
        );
        check("m stale stalex1", name, &floats(&[stale_marker(); 3]));
        let mut omitted = vec![Point::Omitted; 4];
        omitted[1] = Point::Float(1.0);
        check("m _ 1 _x2", name, &omitted);
    }

    #[test]
    fn histograms_repeat() {
        let line = SeriesLine::parse("m {{}}x2 {{count:1}}+{{count:1 sum:2}}x3 1").unwrap();
        let counts: Vec<Option<f64>> = line
            .points
            .iter()
            .map(|point| match point {
                Point::Histogram(point) => Some(point.histogram.count),
                _ => None,
            })
            .collect();
        let expected = [0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 4.0].map(Some);
        assert_eq!((&counts[..7], counts[7]), (&expected[..], None));
    }

    #[test]
    fn start_times() {
        let minute = 60_000;
        for (line, expected) in [
            ("m@st _ _x2 -1m", vec![None, None, None, Some(-minute)]),
            ("m@st -1mx2", vec![Some(-minute); 3]),
            ("m@st -1m+5sx1 0s", vec![Some(-minute), Some(-minute + 5000), Some(0)]),
            ("m@st 0-1msx1", vec![Some(0), Some(-1)]),
        ] {
            let (labels, found) = parse_start_times(line).unwrap().unwrap();
            assert_eq!((labels.metric_name(), found), ("m", expected), "{line}");
        }
        assert!(parse_start_times("m 1 2").unwrap().is_none());
        assert!(parse_start_times("m@st 1q").is_err());
    }

    #[test]
    fn malformed_lines_are_refused() {
        for text in [
            "",
            "{a} 1",
            "m{a=1} 1",
            "m 1y",
            "m 1x",
            "m --1",
            "m {{1",
            "m 1 2x9999999999",
            "m{a=\"b\"",
            "1",
        ] {
            assert!(SeriesLine::parse(text).is_err(), "{text}");
        }
    }
}
