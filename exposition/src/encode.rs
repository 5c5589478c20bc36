//! Writes text format 0.0.4.
//!
//! The encoder escapes and lays out; it does not check that families are grouped, names unique or
//! labels sorted – that is the business of those who collect.

use model::{FloatFormat, Timestamp, is_legacy_label_name, is_legacy_metric_name, write_float};

use crate::MetricKind;

/// The media type of what [`Encoder`] writes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Appends metric families to a buffer, in text format 0.0.4.
///
/// Names outside `[a-zA-Z_:][a-zA-Z0-9_:]*` are written in quotes, as Prometheus 3 reads them.
#[derive(Debug)]
pub struct Encoder<'b> {
    out: &'b mut Vec<u8>,
}

impl<'b> Encoder<'b> {
    /// An encoder that appends to `out`.
    pub fn new(out: &'b mut Vec<u8>) -> Self {
        Self { out }
    }

    /// Writes the `# HELP` line, unless `help` is empty, and the `# TYPE` line of a family.
    pub fn family(&mut self, name: &str, help: &str, kind: MetricKind) {
        if !help.is_empty() {
            self.out.extend_from_slice(b"# HELP ");
            self.metric_name(name);
            self.out.push(b' ');
            write_escaped(self.out, help, false);
            self.out.push(b'\n');
        }
        self.out.extend_from_slice(b"# TYPE ");
        self.metric_name(name);
        self.out.push(b' ');
        self.out.extend_from_slice(kind.text_name().as_bytes());
        self.out.push(b'\n');
    }

    /// Writes one sample; `t` is in milliseconds since the epoch and seldom given.
    pub fn sample(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        value: f64,
        t: Option<Timestamp>,
    ) {
        let quoted_name = !is_legacy_metric_name(name);
        if !quoted_name {
            self.out.extend_from_slice(name.as_bytes());
        }
        if quoted_name || !labels.is_empty() {
            self.out.push(b'{');
            if quoted_name {
                write_quoted(self.out, name);
            }
            for (i, (name, value)) in labels.iter().enumerate() {
                if quoted_name || i > 0 {
                    self.out.push(b',');
                }
                self.label_name(name);
                self.out.push(b'=');
                write_quoted(self.out, value);
            }
            self.out.push(b'}');
        }
        self.out.push(b' ');
        write_float(self.out, value, FloatFormat::General);
        if let Some(t) = t {
            self.out.push(b' ');
            self.out.extend_from_slice(itoa::Buffer::new().format(t).as_bytes());
        }
        self.out.push(b'\n');
    }

    fn metric_name(&mut self, name: &str) {
        if is_legacy_metric_name(name) {
            self.out.extend_from_slice(name.as_bytes());
        } else {
            write_quoted(self.out, name);
        }
    }

    fn label_name(&mut self, name: &str) {
        if is_legacy_label_name(name) {
            self.out.extend_from_slice(name.as_bytes());
        } else {
            write_quoted(self.out, name);
        }
    }
}

fn write_quoted(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    write_escaped(out, text, true);
    out.push(b'"');
}

/// Escapes backslash and line feed, and with `quotes` also the double quote.
fn write_escaped(out: &mut Vec<u8>, text: &str, quotes: bool) {
    let mut rest = text.as_bytes();
    while let Some(at) = memchr::memchr3(b'\\', b'\n', if quotes { b'"' } else { b'\n' }, rest) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(match rest[at] {
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            _ => b"\\\"",
        });
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(write: impl FnOnce(&mut Encoder<'_>), expected: &str) {
        let mut out = Vec::new();
        write(&mut Encoder::new(&mut out));
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn families_declare_help_and_type() {
        check(
            |e| e.family("requests_total", "Requests \\ served\nso \"far\".", MetricKind::Counter),
            "# HELP requests_total Requests \\\\ served\\nso \"far\".\n# TYPE requests_total counter\n",
        );
        check(|e| e.family("a", "", MetricKind::Unknown), "# TYPE a untyped\n");
        check(
            |e| e.family("my.name", "H.", MetricKind::Info),
            "# HELP \"my.name\" H.\n# TYPE \"my.name\" gauge\n",
        );
    }

    #[test]
    fn samples_escape_label_values() {
        check(|e| e.sample("up", &[], 1.0, None), "up 1\n");
        check(
            |e| e.sample("a:b", &[("path", "C:\\\"x\"\n"), ("é", "")], 1.5e9, Some(-5)),
            "a:b{path=\"C:\\\\\\\"x\\\"\\n\",\"é\"=\"\"} 1.5e+09 -5\n",
        );
        check(
            |e| e.sample("my.name", &[("a", "b")], f64::NEG_INFINITY, None),
            "{\"my.name\",a=\"b\"} -Inf\n",
        );
        check(|e| e.sample("my name", &[], f64::NAN, None), "{\"my name\"} NaN\n");
    }
}
