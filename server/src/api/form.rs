//! Forms as Go reads them: pairs in a URL or body, and parts of `multipart/form-data`.
//!
//! Pairs that are malformed are left out. Whether that is an error is for the endpoint to say: most pass it over.

use std::collections::BTreeMap;

use promql::quote::quoted;

/// Names and values.
pub(super) type Pairs = Vec<(String, String)>;

/// The pairs of `text`, and what is wrong with one that is malformed, in the words of Go's `url.ParseQuery`.
pub(super) fn pairs(text: &[u8]) -> (Pairs, Option<String>) {
    let mut pairs = Pairs::new();
    let mut malformed = None;
    for pair in text.split(|b| *b == b'&').filter(|pair| !pair.is_empty()) {
        if pair.contains(&b';') {
            // It hides what was wrong before.
            malformed = Some(String::from("invalid semicolon separator in query"));
            continue;
        }
        let (name, value) = cut(pair, b'=').unwrap_or((pair, b""));
        match decode(name, true).and_then(|name| Ok((name, decode(value, true)?))) {
            Ok((name, value)) => pairs.push((lossy(&name), lossy(&value))),
            Err(escape) => {
                malformed.get_or_insert_with(|| format!("invalid URL escape {}", quoted(&escape)));
            }
        }
    }
    (pairs, malformed)
}

/// Undoes the escaping of a part of a URL, in which a plus may stand for a blank; gives back an escape that is none.
pub(super) fn decode(text: &[u8], plus_is_blank: bool) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'+' if plus_is_blank => out.push(b' '),
            b'%' => {
                let digits = (after.first().and_then(hex), after.get(1).and_then(hex));
                let (Some(high), Some(low)) = digits else {
                    let escape = [b"%", &after[..after.len().min(2)]].concat();
                    return Err(lossy(&escape));
                };
                out.push(high << 4 | low);
                rest = &after[2..];
            }
            other => out.push(*other),
        }
    }
    Ok(out)
}

fn hex(digit: &u8) -> Option<u8> {
    char::from(*digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn cut(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let place = text.iter().position(|b| *b == at)?;
    Some((&text[..place], &text[place + 1..]))
}

/// Whether the value of a `Content-Type` or `Content-Disposition` is `kind`; that has no case.
pub(super) fn is_kind(header: &str, kind: &str) -> bool {
    header.split(';').next().is_some_and(|first| first.trim().eq_ignore_ascii_case(kind))
}

/// What no word contains; in quotes a backslash before it is left out.
const SPECIALS: &str = r#"()<>@,;:\"/[]?="#;

/// The parameter `wanted` of the value of a `Content-Type` or `Content-Disposition`, of which none may be malformed, or repeated with
/// another value. It may be in the notation of RFC 2231, which counts more than the plain one.
pub(super) fn parameter(header: &str, wanted: &str) -> Option<String> {
    let mut found = BTreeMap::new();
    let mut rest = header.split_once(';').map_or("", |(_, rest)| rest).trim_start();
    while !rest.is_empty() {
        let (name, after) = token(rest)?;
        let after = after.trim_start().strip_prefix('=')?.trim_start();
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => token(after).map(|(value, after)| (String::from(value), after))?,
        };
        let before = found.insert(name.to_ascii_lowercase(), value.clone());
        if before.is_some_and(|before| before != value) {
            return None;
        }
        rest = after.trim_start();
        if !rest.is_empty() {
            rest = rest.strip_prefix(';')?.trim_start();
        }
    }
    extended(&found, wanted).or_else(|| found.remove(wanted))
}

/// The parameter `wanted` as RFC 2231 has it: `wanted*`, in a character set, or the pieces `wanted*0`, `wanted*1`, …, each of which may have
/// a star at its end and is escaped then; the first of them names the character set.
fn extended(found: &BTreeMap<String, String>, wanted: &str) -> Option<String> {
    if let Some(value) = found.get(&format!("{wanted}*")) {
        return in_charset(value);
    }
    let piece = |n: usize| {
        let plain = found.get(&format!("{wanted}*{n}")).cloned();
        plain.or_else(|| {
            let escaped = found.get(&format!("{wanted}*{n}*"))?;
            let value = if n == 0 { in_charset(escaped) } else { unescape(escaped) };
            // Go goes on without a piece that is malformed.
            Some(value.unwrap_or_default())
        })
    };
    let mut pieces = (0..).map_while(piece).peekable();
    pieces.peek()?;
    Some(pieces.collect())
}

/// An escaped value after its character set and language; the language means nothing here.
fn in_charset(value: &str) -> Option<String> {
    let (charset, rest) = value.split_once('\'')?;
    let (_, value) = rest.split_once('\'')?;
    let is_known = ["us-ascii", "utf-8"].iter().any(|known| known.eq_ignore_ascii_case(charset));
    if is_known { unescape(value) } else { None }
}

fn unescape(value: &str) -> Option<String> {
    decode(value.as_bytes(), false).ok().map(|bytes| lossy(&bytes))
}

/// Whether `text` is a word or nothing.
fn is_token(text: &str) -> bool {
    text.is_empty() || matches!(token(text), Some((_, "")))
}

/// A word, and what stands behind it.
fn token(text: &str) -> Option<(&str, &str)> {
    let is_special = |c: char| !c.is_ascii_graphic() || SPECIALS.contains(c);
    let end = text.find(is_special).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// What stands before the closing quote, and what after it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            // Before others it is one of a path that nobody escaped.
            '\\' if text[at + 1..].starts_with(|c| SPECIALS.contains(c)) => {
                value.extend(chars.next().map(|c| c.1));
            }
            c => value.push(c),
        }
    }
    None
}

/// The fields of a `multipart/form-data` without the files; `None` if it is malformed.
pub(super) fn parts(body: &[u8], boundary: &str) -> Option<Pairs> {
    let dashes = format!("--{boundary}").into_bytes();
    let mut pairs = Pairs::new();
    let mut rest = body;
    // What stands before the first boundary is passed over. How its line ends, all do.
    let newline: &[u8] = loop {
        if let Some(after) = rest.strip_prefix(dashes.as_slice()) {
            match (behind_delimiter(after, b"\r\n"), behind_delimiter(after, b"\n")) {
                (Some(None), _) => return Some(pairs),
                (Some(Some(after)), _) => {
                    rest = after;
                    break b"\r\n";
                }
                (None, Some(Some(after))) => {
                    rest = after;
                    break b"\n";
                }
                (None, _) => {}
            }
        }
        (_, rest) = cut(rest, b'\n')?;
    };
    let delimiter = [newline, &dashes].concat();
    loop {
        let mut disposition = String::new();
        loop {
            let Some((line, after)) = cut(rest, b'\n') else {
                // A part that ends among its headers is none.
                return (rest.is_empty() || rest.contains(&b':')).then_some(pairs);
            };
            rest = after;
            let line = lossy(line);
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':')?;
            // Go lets blanks pass.
            if !name.split(' ').all(is_token) || value.contains(['\r', '\0']) {
                return None;
            }
            if name.eq_ignore_ascii_case("content-disposition") {
                disposition = String::from(value.trim());
            }
        }
        let (value, after) = split_at_delimiter(rest, &delimiter, newline)?;
        let name = parameter(&disposition, "name").filter(|name| !name.is_empty());
        let is_file = parameter(&disposition, "filename").is_some_and(|name| !name.is_empty());
        if let Some(name) = name
            && is_kind(&disposition, "form-data")
            && !is_file
        {
            pairs.push((name, lossy(value)));
        }
        match after {
            Some(after) => rest = after,
            None => return Some(pairs),
        }
    }
}

/// What stands before the delimiter, and behind its line what follows unless that was the last one; `None` if something else is in that line.
fn split_at_delimiter<'b>(
    text: &'b [u8],
    delimiter: &[u8],
    newline: &[u8],
) -> Option<(&'b [u8], Option<&'b [u8]>)> {
    // The empty line that ends the headers may be that of the delimiter too.
    if let Some(after) = text.strip_prefix(&delimiter[newline.len()..])
        && let Some(after) = behind_delimiter(after, newline)
    {
        return Some((b"", after));
    }
    let ends = |b: &u8| matches!(b, b' ' | b'\t' | b'\r' | b'\n');
    let at = (0..=text.len().checked_sub(delimiter.len())?).find(|at| {
        let after = text[*at..].strip_prefix(delimiter);
        after.is_some_and(|after| after.starts_with(b"--") || after.first().is_some_and(ends))
    })?;
    let after = behind_delimiter(&text[at + delimiter.len()..], newline)?;
    Some((&text[..at], after))
}

/// `None` if it was no delimiter; otherwise what follows it, if anything does.
fn behind_delimiter<'b>(text: &'b [u8], newline: &[u8]) -> Option<Option<&'b [u8]>> {
    let trimmed = |text: &'b [u8]| {
        let blanks = text.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
        &text[blanks..]
    };
    if let Some(after) = text.strip_prefix(b"--") {
        let after = trimmed(after);
        return (after.is_empty() || after.starts_with(newline)).then_some(None);
    }
    trimmed(text).strip_prefix(newline).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(pairs: &[(&str, &str)]) -> Pairs {
        pairs.iter().map(|(n, v)| (String::from(*n), String::from(*v))).collect()
    }

    /// The expectations are those of Go's `url.ParseQuery`.
    #[test]
    fn malformed_pairs_are_left_out() {
        let semicolon = Some("invalid semicolon separator in query");
        for (text, expected, malformed) in [
            ("a=1&b=x+y%2B%C3%a9", &[("a", "1"), ("b", "x y+é")][..], None),
            ("&&a&=b&c==d&", &[("a", ""), ("", "b"), ("c", "=d")], None),
            ("q=v%zz&a=1", &[("a", "1")], Some(r#"invalid URL escape "%zz""#)),
            ("q=v%2&a=1", &[("a", "1")], Some(r#"invalid URL escape "%2""#)),
            ("%=v", &[], Some(r#"invalid URL escape "%""#)),
            ("q=1;a=b&c=d", &[("c", "d")], semicolon),
            ("q=1;a&c=%zz", &[], semicolon),
            ("a=%3B", &[("a", ";")], None),
            ("", &[], None),
        ] {
            let found = pairs(text.as_bytes());
            assert_eq!(found, (owned(expected), malformed.map(String::from)), "{text}");
        }
    }

    #[test]
    fn kinds_and_their_parameters() {
        assert!(is_kind("Multipart/Form-Data; boundary=x", "multipart/form-data"));
        assert!(!is_kind("multipart/form-data2", "multipart/form-data"));
        for (header, expected) in [
            ("multipart/form-data; boundary=--x", Some("--x")),
            ("multipart/form-data; a=\"b;\\\"boundary=z\" ;Boundary=\"x y\"", Some("x y")),
            ("multipart/form-data; boundary=\"x", None),
            ("multipart/form-data; boundary=x; a", None),
            ("multipart/form-data; boundary=x; Boundary=y", None),
            ("multipart/form-data; boundary=x; boundary=x", Some("x")),
            ("multipart/form-data; boundary=x; a=1; A=1", Some("x")),
            ("multipart/form-data; boundary=x; a=1; a=2", None),
            ("multipart/form-data; boundary=x; a*=1; a*=2", None),
            ("multipart/form-data; boundary=x;", Some("x")),
            ("multipart/form-data; boundary=x; ;", None),
            ("multipart/form-data", None),
        ] {
            assert_eq!(parameter(header, "boundary").as_deref(), expected, "{header}");
        }
    }

    /// The expectations are those of Go's `mime.ParseMediaType`, seen through forms that a Prometheus 3.5.3 was sent.
    #[test]
    fn quoted_and_extended_parameters() {
        for (header, expected) in [
            (r#"f; name="a\/b""#, Some("a/b")),
            (r#"f; name="\"\(\)\<\>\@\,\;\:\\\[\]\?\=""#, Some(r#""()<>@,;:\[]?="#)),
            (r#"f; name="C:\dir\1""#, Some(r"C:\dir\1")),
            ("f; name*=UTF-8'en'qu%65ry", Some("query")),
            ("f; name*=us-ascii''query", Some("query")),
            ("f; name=other; name*=UTF-8''query", Some("query")),
            ("f; name*=utf-8''", Some("")),
            ("f; name=a; name*=utf-8''", Some("")),
            ("f; name*=query", None),
            ("f; name*=utf-8'query", None),
            ("f; name*=latin1''query", None),
            ("f; name=a; name*=latin1''query", Some("a")),
            ("f; name=a; name*=utf-8''%zz", Some("a")),
            ("f; name*1=ry; NAME*0=que", Some("query")),
            ("f; name*0=que; name*2=ry", Some("que")),
            ("f; name*0=%71uery", Some("%71uery")),
            ("f; name*0*=utf-8''qu%65; name*1*=%72y", Some("query")),
            ("f; name*0*=utf-8''que; name*1*=r%zz; name*2=ry", Some("query")),
            ("f; name*0*=latin1''xx; name*1=query", Some("query")),
            ("f; name*0*=utf-8''query; name*0=x", Some("x")),
            (r#"f; name*0=""; name*1=query"#, Some("query")),
            ("f; name*00=query", None),
            ("f; name=a; name*x=b", Some("a")),
            ("f; name=a; *=utf-8''b", Some("a")),
        ] {
            assert_eq!(parameter(header, "name").as_deref(), expected, "{header}");
        }
        for (filename, is_field) in [
            ("filename*=UTF-8''x", false),
            ("filename*0=x", false),
            ("filename=a; filename*=latin1''x", false),
            ("filename*=latin1''x", true),
            ("filename*=UTF-8''", true),
            ("filename=a; filename*=utf-8''", true),
        ] {
            let body = format!(
                "--b\r\nContent-Disposition: form-data; name=q; {filename}\r\n\r\n1\r\n--b--"
            );
            let expected = if is_field { owned(&[("q", "1")]) } else { Pairs::new() };
            assert_eq!(parts(body.as_bytes(), "b"), Some(expected), "{filename}");
        }
    }

    #[test]
    fn fields_of_parts() {
        let field = |name: &str, value: &str| {
            format!("Content-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let (query, time) = (field("query", "vector(7)\r\n--b\r\n--c"), field("time", ""));
        let file = "content-type: text/plain\r\nContent-disposition: form-data; name=f; filename=x\r\n\r\nx\r\n";
        let body =
            format!("before\r\n--bb\r\n{query}--bb \t\r\n{time}--bb\r\n{file}--bb--\r\nafter");
        let expected = owned(&[("query", "vector(7)\r\n--b\r\n--c"), ("time", "")]);
        assert_eq!(parts(body.as_bytes(), "bb"), Some(expected));
        // Lines may end otherwise, throughout.
        let lines = body.replace("\r\n", "\n");
        let expected = owned(&[("query", "vector(7)\n--b\n--c"), ("time", "")]);
        assert_eq!(parts(lines.as_bytes(), "bb"), Some(expected));
        let empty = "--b\r\nContent-Disposition: form-data; name=a\r\n\r\n--b--";
        assert_eq!(parts(empty.as_bytes(), "b"), Some(owned(&[("a", "")])));
        for none in ["--b--\r\n", "--b\r\n", "--b\r\na: b\r\nc:"] {
            assert_eq!(parts(none.as_bytes(), "b"), Some(Pairs::new()), "{none}");
        }
        for broken in [
            "",
            "x",
            "--b",
            "--b\r\nx\r\n\r\n1\r\n--b--",
            "--b\r\nx=y: z\r\n\r\n1\r\n--b--",
            "--b\r\na: b\rc\r\n\r\n1\r\n--b--",
            "--b\r\na: b\r\n\r\n1\r\n--b x\r\n\r\n--b--",
            "--b\r\na: b\r\n\r\n1\r\n--b\n\r\n--b--",
            "--b\r\na: b\r\n\r\n1\r\n--bc--",
        ] {
            assert_eq!(parts(broken.as_bytes(), "b"), None, "{broken}");
        }
    }
}
