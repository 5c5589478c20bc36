//! What the parser accepts, and how it refuses.

use super::*;
use crate::{Encoder, FloatError};
use proptest::prelude::*;

/// Entries in a short notation: `name{a="b"} value @t`, `HELP name text`, `TYPE name kind`.
fn render(body: &[u8]) -> Vec<String> {
    let entries = Parser::new(body).map(|entry| match entry {
        Ok(Entry::Help { metric, help, .. }) => format!("HELP {metric} {help}"),
        Ok(Entry::Type { metric, kind, .. }) => format!("TYPE {metric} {kind}"),
        Ok(Entry::Sample(series, point)) => {
            let mut pairs = Vec::new();
            series.labels(&mut pairs);
            let labels = model::Labels::from_pairs(pairs).unwrap();
            let at = point.timestamp.map(|t| format!(" @{t}")).unwrap_or_default();
            format!("{labels} {}{at}", point.value)
        }
        Err(e) => format!("error {}:{} {:?}", e.line, e.position, e.kind),
    });
    entries.collect()
}

fn check(body: impl AsRef<[u8]>, expected: &[&str]) {
    let body = body.as_ref();
    assert_eq!(render(body), expected, "{}", String::from_utf8_lossy(body));
}

#[test]
fn families_and_samples() {
    check(
        "# HELP http_requests_total Requests \\\\ and\\nmore \\\"x\\\".\n\
         # TYPE http_requests_total counter\n\
         http_requests_total{method=\"post\",code=\"200\"} 1027 1395066363000\n\
         http_requests_total{method=\"get\",path=\"C:\\\\a\\\"b\\n\\t\"} 3\n",
        &[
            "HELP http_requests_total Requests \\ and\nmore \\\"x\\\".",
            "TYPE http_requests_total counter",
            r#"{__name__="http_requests_total", code="200", method="post"} 1027 @1395066363000"#,
            r#"{__name__="http_requests_total", method="get", path="C:\\a\"b\n\\t"} 3"#,
        ],
    );
}

#[test]
fn layout_is_free() {
    let a = r#"{__name__="a", b="c"} 1"#;
    check("a{b=\"c\"} 1", &[a]);
    check("a{b=\"c\"} 1\n\n \t\n", &[a]);
    check("  a\t{ b = \"c\" , }  1  \n", &[a]);
    check("a{b=\"c\"}1\n", &[a]);
    check("a{b=\"c\" d=\"e\"} 1\n", &[r#"{__name__="a", b="c", d="e"} 1"#]);
    check("a+1\n", &[r#"{__name__="a"} 1"#]);
    check("a{} 1\n", &[r#"{__name__="a"} 1"#]);
    check("a{b=\"\"} 1 5  \n", &[r#"{__name__="a"} 1 @5"#]);
    check("a{b=\"c\nd\"} 1\n", &[r#"{__name__="a", b="c\nd"} 1"#]);
    check("", &[]);
    check("\n\n", &[]);
}

#[test]
fn names_may_be_quoted() {
    check(
        "{\"my.name\",a=\"b\"} 1\n{a=\"b\",\"my.name\"} 2\n{\"n\"} 3\nn{\"l.l\"=\"v\"} 4\n",
        &[
            r#"{__name__="my.name", a="b"} 1"#,
            r#"{__name__="my.name", a="b"} 2"#,
            r#"{__name__="n"} 3"#,
            r#"{__name__="n", "l.l"="v"} 4"#,
        ],
    );
    check("# HELP \"my.name\" h\n", &["HELP my.name h"]);
    check("{\"a\\\"b\",} 1\n", &["{__name__=\"a\\\"b\"} 1"]);
}

#[test]
fn comments_are_no_entries() {
    check("# EOF\n#\n# \n#HELP a b\n# HELPx a\n# HELP\n# TYPE\n#a\n# no", &[]);
    check("#\tHELP \t a  b \n", &["HELP a  b "]);
    check("# HELP a\n# HELP b \n# HELP c", &["HELP a ", "HELP b ", "HELP c "]);
    check("# EOF\na 1\n", &[r#"{__name__="a"} 1"#]);
}

#[test]
fn bounds_follow_the_last_type() {
    check(
        "h_bucket{le=\"1\"} 1\n# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 1\n",
        &[
            r#"{__name__="h_bucket", le="1"} 1"#,
            "TYPE h histogram",
            r#"{__name__="h_bucket", le="1.0"} 1"#,
            r#"{__name__="h_bucket", le="+Inf"} 1"#,
        ],
    );
}

fn check_error(body: impl AsRef<[u8]>, line: usize, position: usize, kind: ParseErrorKind) {
    let body = body.as_ref();
    let mut errors = Parser::new(body).filter_map(Result::err);
    let error = errors.next().expect("the body is malformed");
    let text = String::from_utf8_lossy(body);
    assert_eq!((error.line, error.position, error.kind), (line, position, kind), "{text}");
    assert_eq!(errors.next(), None);
}

#[test]
fn errors_say_where() {
    use ParseErrorKind as K;
    check_error("a", 1, 1, K::NoValue);
    check_error("a\n", 1, 1, K::NoValue);
    check_error("a{b='c'} 1\n", 1, 4, K::LabelValue);
    check_error("a{b=\n", 1, 4, K::LabelValue);
    check_error(b"a{\xff=\"foo\"} 1\n", 1, 2, K::LabelName);
    check_error(b"a 1\na{b=\"\xff\"} 1\n", 2, 9, K::Utf8);
    check_error(b"{\"\xff\"} 1\n", 1, 2, K::Utf8);
    check_error(b"# HELP a \xff\n", 1, 9, K::Utf8);
    check_error(r#"{"a", "b = "c"}"#, 1, 12, K::Equal);
    check_error("a true\n", 1, 2, K::Value(FloatError::Syntax));
    check_error("a 1\r\n", 1, 2, K::Value(FloatError::Syntax));
    check_error("something_weird{problem=\"", 1, 24, K::LabelValue);
    check_error("empty_label_name{=\"\"} 0", 1, 17, K::LabelName);
    check_error("a{,b=\"c\"} 0", 1, 2, K::LabelName);
    check_error("a{b=\"c\",,} 0", 1, 8, K::LabelName);
    check_error("{A}0", 1, 2, K::Equal);
    check_error("foo 1_2\n", 1, 4, K::Value(FloatError::Unsupported));
    check_error("foo 0x1p-3\n", 1, 4, K::Value(FloatError::Unsupported));
    check_error("foo 1e999\n", 1, 4, K::Value(FloatError::Range));
    check_error("foo 0 1_2\n", 1, 7, K::Trailing);
    check_error("foo 0 1 2\n", 1, 8, K::Trailing);
    check_error("foo 0 -1\n", 1, 6, K::Timestamp);
    check_error("foo 0 9223372036854775808\n", 1, 6, K::TimestampRange);
    check_error("foo 0 # {trace_id=\"a\"} 1\n", 1, 6, K::Timestamp);
    check_error(r#"{a="ok"} 1"#, 1, 7, K::NoName);
    check_error(r#"a{"b"} 1"#, 1, 2, K::SecondName);
    check_error("# TYPE #\n#EOF\n", 1, 7, K::MetadataName);
    check_error("# HELP \n", 1, 7, K::MetadataName);
    check_error("# TYPE a info\n", 1, 9, K::MetricType);
    check_error("# TYPE a counter\r\n", 1, 9, K::MetricType);
    check_error("# TYPE a\n", 1, 8, K::MetricType);
    check_error("a 1\n\n-b 2\n", 3, 5, K::EntryStart);
    check_error("1a 2\n", 1, 0, K::EntryStart);
    check_error("\0a 2\n", 1, 0, K::EntryStart);
    check_error("a\0{b=\"c\"} 1", 1, 1, K::Value(FloatError::Syntax));
    check_error("a{\"b\0\"=\"c\"} 1", 1, 2, K::LabelName);
}

#[test]
fn nul_bytes_are_part_of_a_value() {
    check("a{b=\"\0s\"} 1\n", &[r#"{__name__="a", b="\x00s"} 1"#]);
}

#[test]
fn errors_quote_a_bounded_part() {
    let long = format!("a 1\n{} x", "n".repeat(10_000));
    let error = Parser::new(&long).find_map(Result::err).unwrap();
    assert!(error.to_string().len() < 200, "{error}");
    let short = Parser::new("a 1\nb x").find_map(Result::err).unwrap();
    assert_eq!(short.to_string(), r#"line 2, byte 6: not a number, near "b x""#);
}

#[test]
fn a_known_series_is_not_read_again() {
    let mut parser =
        Parser::new("a{b=\"c\"} 1\na{b=\"c\"} 2.5 7\nab 3\na {b=\"c\"} 4\n# TYPE a gauge\na NaN");
    let len = "a{b=\"c\"}".len();
    assert_eq!(parser.sample_after(len), Some(Point { value: 1.0, timestamp: None }));
    assert_eq!(parser.sample_after(len), Some(Point { value: 2.5, timestamp: Some(7) }));
    // The prefix is known, but the line is another series.
    assert_eq!(parser.sample_after(1), None);
    assert!(parser.next().unwrap().is_ok());
    assert_eq!(parser.sample_after(1), None);
    assert!(parser.next().unwrap().is_ok());
    assert!(!parser.metadata_after(5, None));
    assert!(parser.metadata_after("# TYPE a gauge".len(), Some(MetricKind::Gauge)));
    assert_eq!(parser.rest(), b"a NaN");
    assert!(parser.sample_after(1).unwrap().value.is_nan());
    assert_eq!(parser.rest(), b"");
    assert_eq!(parser.sample_after(0), None);
    assert_eq!(parser.next(), None);
}

#[test]
fn no_value_is_the_staleness_marker() {
    let entries: Vec<_> = Parser::new("a NaN\na nan 1\n").map(Result::unwrap).collect();
    for entry in entries {
        let Entry::Sample(_, point) = entry else { panic!("two samples") };
        assert!(point.value.is_nan() && !model::is_stale(point.value));
    }
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_or_refused(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Parser::new(&body).count() <= body.len());
    }

    #[test]
    fn near_misses_are_parsed_or_refused(body in "(a|b\\.c|[{}\",=\\\\ #\n\t]|HELP|TYPE| counter|1e3|é){0,40}") {
        for entry in Parser::new(&body) {
            if let Ok(Entry::Sample(series, _)) = entry {
                let mut labels = Vec::new();
                series.labels(&mut labels);
                prop_assert!(labels.iter().any(|(name, _)| name == model::METRIC_NAME));
            }
        }
    }

    #[test]
    fn what_is_written_is_read(
        name in "[a-z:_.é \"\\\\\n]{1,8}",
        help in "[ -~\\\\\né]{1,20}",
        labels in proptest::collection::btree_map("[a-z_é.\"]{1,5}", "[ -~\\\\\"\né]{0,9}", 0..4),
        value: f64,
        t in proptest::option::of(0_i64..),
    ) {
        let pairs: Vec<(&str, &str)> =
            labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let mut out = Vec::new();
        let mut encoder = Encoder::new(&mut out);
        encoder.family(&name, &help, MetricKind::Gauge);
        encoder.sample(&name, &pairs, value, t);
        let entries: Vec<_> = Parser::new(&out).collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(entries.len(), 3);
        let Entry::Help { metric, help: read, .. } = &entries[0] else { panic!("help first") };
        prop_assert_eq!((metric.as_ref(), read.as_ref()), (name.as_str(), help.as_str()));
        let Entry::Sample(series, point) = &entries[2] else { panic!("sample last") };
        prop_assert_eq!(point.timestamp, t);
        prop_assert!(point.value == value || (point.value.is_nan() && value.is_nan()));
        let mut read = Vec::new();
        series.labels(&mut read);
        let read: Vec<(&str, &str)> = read.iter().map(|(n, v)| (n.as_ref(), v.as_ref())).collect();
        prop_assert_eq!(&read[0], &("__name__", name.as_str()));
        prop_assert_eq!(&read[1..], &pairs[..]);

        // The short cut reads the same line to the same point.
        let start = out.len() - out.rsplit(|&b| b == b'\n').nth(1).unwrap().len() - 1;
        if !series.text().contains('\n') {
            let mut parser = Parser::new(&out[start..]);
            let short = parser.sample_after(series.text().len()).unwrap();
            prop_assert_eq!(short.value.to_bits(), point.value.to_bits());
            prop_assert_eq!(short.timestamp, point.timestamp);
        }
    }
}
