//! The grammar of a series: a metric name, labels in braces, or the name quoted among the labels.

use std::borrow::Cow;
use std::ops::Range;

use crate::ParseErrorKind;

/// A part of a series, by position; quotes are left out, escapes are not resolved.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    Name(Range<usize>),
    Label { name: Range<usize>, value: Range<usize> },
}

/// What was wrong, and where.
pub(crate) type Failure = (usize, ParseErrorKind);

pub(crate) fn is_blank(b: u8) -> bool {
    b == b' ' || b == b'\t'
}

pub(crate) fn skip_blanks(body: &[u8], mut at: usize) -> usize {
    while body.get(at).copied().is_some_and(is_blank) {
        at += 1;
    }
    at
}

/// The end of the unquoted metric name at `at`, which is `at` where there is none.
pub(crate) fn metric_name_end(body: &[u8], at: usize) -> usize {
    word_end(body, at, |b| b.is_ascii_alphabetic() || b == b'_' || b == b':')
}

fn label_name_end(body: &[u8], at: usize) -> usize {
    word_end(body, at, |b| b.is_ascii_alphabetic() || b == b'_')
}

fn word_end(body: &[u8], at: usize, letter: impl Fn(u8) -> bool) -> usize {
    let mut end = at;
    while let Some(&b) = body.get(end)
        && (letter(b) || (end > at && b.is_ascii_digit()))
    {
        end += 1;
    }
    end
}

/// The position after the quoted text that starts at `at`, if it ends at all.
///
/// A backslash takes the next byte with it, unless that is a line feed; a bare line feed is part of
/// the text, as in Prometheus.
pub(crate) fn quoted_end(body: &[u8], at: usize) -> Option<usize> {
    if body.get(at) != Some(&b'"') {
        return None;
    }
    let mut at = at + 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', body.get(at..)?)?;
        if body[at] == b'"' {
            return Some(at + 1);
        }
        if *body.get(at + 1)? == b'\n' {
            return None;
        }
        at += 2;
    }
}

/// Reads the series at `start`, hands its parts to `visit` and returns where it ends.
///
/// Labels may be separated by blanks instead of commas, and one comma may follow the last: that is
/// what Prometheus accepts.
pub(crate) fn scan_series(
    body: &[u8],
    start: usize,
    mut visit: impl FnMut(Part),
) -> Result<usize, Failure> {
    let name_end = metric_name_end(body, start);
    let mut named = name_end > start;
    if named {
        visit(Part::Name(start..name_end));
    }
    let brace = skip_blanks(body, name_end);
    if body.get(brace) != Some(&b'{') {
        return if named { Ok(name_end) } else { Err((start, ParseErrorKind::EntryStart)) };
    }
    let mut at = skip_blanks(body, brace + 1);
    while body.get(at) != Some(&b'}') {
        let (name, name_end, quoted) = label_name(body, at)?;
        let after = skip_blanks(body, name_end);
        let follows = body.get(after);
        if quoted && matches!(follows, Some(b',' | b'}')) {
            if named {
                return Err((at, ParseErrorKind::SecondName));
            }
            named = true;
            visit(Part::Name(name));
            at = skip_blanks(body, after + usize::from(follows == Some(&b',')));
            continue;
        }
        if follows != Some(&b'=') {
            return Err((after, ParseErrorKind::Equal));
        }
        let value_start = skip_blanks(body, after + 1);
        let value_end =
            quoted_end(body, value_start).ok_or((value_start, ParseErrorKind::LabelValue))?;
        visit(Part::Label { name, value: value_start + 1..value_end - 1 });
        let after = skip_blanks(body, value_end);
        at = skip_blanks(body, after + usize::from(body.get(after) == Some(&b',')));
    }
    if named { Ok(at + 1) } else { Err((at, ParseErrorKind::NoName)) }
}

/// A name inside braces: its text, the position after it, and whether it stands in quotes.
fn label_name(body: &[u8], at: usize) -> Result<(Range<usize>, usize, bool), Failure> {
    let missing = (at, ParseErrorKind::LabelName);
    if body.get(at) == Some(&b'"') {
        let end = quoted_end(body, at).ok_or(missing)?;
        // Unlike values, names may not contain NUL.
        return match memchr::memchr(0, &body[at..end]) {
            Some(_) => Err(missing),
            None => Ok((at + 1..end - 1, end, true)),
        };
    }
    let end = label_name_end(body, at);
    if end == at { Err(missing) } else { Ok((at..end, end, false)) }
}

/// Resolves `\\`, `\n` and, with `quotes`, `\"`; any other backslash stands for itself.
pub(crate) fn unescape(text: &str, quotes: bool) -> Cow<'_, str> {
    let Some(first) = memchr::memchr(b'\\', text.as_bytes()) else {
        return Cow::Borrowed(text);
    };
    let mut out = String::with_capacity(text.len());
    out.push_str(&text[..first]);
    let mut rest = text[first..].chars();
    while let Some(c) = rest.next() {
        let resolved = match (c, rest.as_str().as_bytes().first()) {
            ('\\', Some(b'\\')) => '\\',
            ('\\', Some(b'n')) => '\n',
            ('\\', Some(b'"')) if quotes => '"',
            _ => {
                out.push(c);
                continue;
            }
        };
        rest.next();
        out.push(resolved);
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_escapes_are_resolved_and_others_kept() {
        for (text, quotes, expected) in [
            ("plain", true, "plain"),
            (r#"a\"b"#, true, "a\"b"),
            (r#"a\"b"#, false, r#"a\"b"#),
            (r"a\\n\n", true, "a\\n\n"),
            (r"\t\é\", true, r"\t\é\"),
        ] {
            assert_eq!(unescape(text, quotes), expected, "{text}");
        }
        assert!(matches!(unescape("plain", true), Cow::Borrowed(_)));
    }

    #[test]
    fn quoted_text_ends_at_the_first_bare_quote() {
        for (text, expected) in [
            (r#""a" b"#, Some(3)),
            (r#""a\"" b"#, Some(5)),
            (r#""a\\" b"#, Some(5)),
            ("\"a\nb\"", Some(5)),
            (r#""a"#, None),
            (r#""a\""#, None),
            ("\"a\\\n\"", None),
            ("\"\\", None),
            ("a", None),
            ("", None),
        ] {
            assert_eq!(quoted_end(text.as_bytes(), 0), expected, "{text:?}");
        }
    }
}
