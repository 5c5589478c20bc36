//! Quoted text as Go's `strconv` and `%q` write it, and PromQL's string literals read back.
//!
//! Error messages, printed expressions and annotations share it, so that they are equal to Prometheus's.

use std::fmt::{self, Write};

/// Displays `text` in double quotes, as `%q` does.
#[must_use]
pub fn quoted(text: &str) -> impl fmt::Display + '_ {
    fmt::from_fn(move |f| {
        f.write_char('"')?;
        for c in text.chars() {
            write_escaped(f, c, '"')?;
        }
        f.write_char('"')
    })
}

/// Displays `c` in single quotes, as `%q` does; the end of the input is shown as U+FFFD.
pub(crate) fn quoted_char(c: Option<char>) -> impl fmt::Display {
    fmt::from_fn(move |f| {
        f.write_char('\'')?;
        write_escaped(f, c.unwrap_or(char::REPLACEMENT_CHARACTER), '\'')?;
        f.write_char('\'')
    })
}

/// Displays the code point of `c` and `c` itself, as `%#U` does.
pub(crate) fn code_point(c: char) -> impl fmt::Display {
    fmt::from_fn(move |f| {
        write!(f, "U+{:04X}", u32::from(c))?;
        if is_printable(c) { write!(f, " '{c}'") } else { Ok(()) }
    })
}

fn write_escaped(f: &mut fmt::Formatter<'_>, c: char, quote: char) -> fmt::Result {
    match c {
        '\\' => f.write_str("\\\\"),
        c if c == quote => write!(f, "\\{c}"),
        c if is_printable(c) => f.write_char(c),
        '\x07' => f.write_str("\\a"),
        '\x08' => f.write_str("\\b"),
        '\x0c' => f.write_str("\\f"),
        '\n' => f.write_str("\\n"),
        '\r' => f.write_str("\\r"),
        '\t' => f.write_str("\\t"),
        '\x0b' => f.write_str("\\v"),
        c if c.is_ascii_control() => write!(f, "\\x{:02x}", u32::from(c)),
        c if u32::from(c) < 0x1_0000 => write!(f, "\\u{:04x}", u32::from(c)),
        c => write!(f, "\\U{:08x}", u32::from(c)),
    }
}

/// Whether `c` is a letter, mark, number, punctuation, symbol or the ASCII space.
fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    // The standard library keeps its table of printable characters to itself but for this use. A
    // combining character is printable unless it comes first, hence the letter before it.
    let mut buffer = [b'a'; 5];
    let end = 1 + c.encode_utf8(&mut buffer[1..]).len();
    std::str::from_utf8(&buffer[..end]).is_ok_and(|text| text.escape_debug().count() == 2)
}

/// Displays bytes in double quotes, as `%q` does: those that are not UTF-8 are escaped one by one.
pub(crate) fn quoted_bytes(bytes: &[u8]) -> impl fmt::Display + '_ {
    fmt::from_fn(move |f| {
        f.write_char('"')?;
        for chunk in bytes.utf8_chunks() {
            for c in chunk.valid().chars() {
                write_escaped(f, c, '"')?;
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        f.write_char('"')
    })
}

/// What a string literal stands for.
#[derive(Debug)]
pub(crate) struct Unquoted {
    /// With U+FFFD in place of what is not UTF-8.
    pub(crate) text: String,
    /// The bytes that the escapes spell, when they are not UTF-8.
    pub(crate) bytes: Option<Box<[u8]>>,
}

/// Reads a string literal, quotes included, that the lexer has accepted.
pub(crate) fn unquote(literal: &str) -> Unquoted {
    let body = &literal[1..literal.len() - 1];
    if literal.starts_with('`') || !body.contains('\\') {
        return Unquoted { text: String::from(body), bytes: None };
    }
    let mut bytes = Vec::with_capacity(body.len());
    let mut rest = body;
    while let Some((plain, escape)) = rest.split_once('\\') {
        bytes.extend_from_slice(plain.as_bytes());
        rest = push_escape(&mut bytes, escape);
    }
    bytes.extend_from_slice(rest.as_bytes());
    match String::from_utf8(bytes) {
        Ok(text) => Unquoted { text, bytes: None },
        Err(error) => {
            let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
            Unquoted { text, bytes: Some(error.into_bytes().into_boxed_slice()) }
        }
    }
}

/// Decodes the escape whose backslash precedes `text`; returns what follows it.
fn push_escape<'t>(bytes: &mut Vec<u8>, text: &'t str) -> &'t str {
    let mut chars = text.chars();
    let (digits, radix) = match chars.next() {
        Some('x') => (&text[1..3], 16),
        Some('u') => (&text[1..5], 16),
        Some('U') => (&text[1..9], 16),
        Some('0'..='7') => (&text[..3], 8),
        Some(c) => {
            bytes.push(match c {
                'a' => 0x07,
                'b' => 0x08,
                'f' => 0x0c,
                'n' => b'\n',
                'r' => b'\r',
                't' => b'\t',
                'v' => 0x0b,
                // A backslash or the quote itself.
                c => u8::try_from(c).unwrap_or(b'?'),
            });
            return chars.as_str();
        }
        None => return "",
    };
    let value = u32::from_str_radix(digits, radix).unwrap_or_default();
    let consumed = digits.len() + usize::from(radix == 16);
    match u8::try_from(value) {
        // Two hexadecimal or three octal digits are a byte, more are a code point.
        Ok(byte) if consumed == 3 => bytes.push(byte),
        _ => {
            let c = char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER);
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
    &text[consumed..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_quoted_as_go_does() {
        for (text, expected) in [
            ("", r#""""#),
            ("job", r#""job""#),
            ("it's \"so\"", r#""it's \"so\"""#),
            ("a\\b", r#""a\\b""#),
            ("\x07\x08\x0c\n\r\t\x0b", r#""\a\b\f\n\r\t\v""#),
            ("\0\x1b\x7f", r#""\x00\x1b\x7f""#),
            ("\u{80}\u{a0}\u{200b}\u{e000}", r#""\u0080\u00a0\u200b\ue000""#),
            ("\u{e0001}", r#""\U000e0001""#),
            ("üñ☺日e\u{301}\u{fffd}", "\"üñ☺日e\u{301}\u{fffd}\""),
        ] {
            assert_eq!(quoted(text).to_string(), expected);
        }
    }

    #[test]
    fn characters_are_quoted_as_go_does() {
        for (c, expected) in
            [('"', "'\"'"), ('\'', r"'\''"), ('ü', "'ü'"), ('\0', r"'\x00'"), ('\n', r"'\n'")]
        {
            assert_eq!(quoted_char(Some(c)).to_string(), expected);
        }
        assert_eq!(quoted_char(None).to_string(), "'\u{fffd}'");
        assert_eq!(code_point('c').to_string(), "U+0063 'c'");
        assert_eq!(code_point('\n').to_string(), "U+000A");
    }

    #[test]
    fn literals_are_unquoted() {
        for (literal, expected) in [
            (r#""""#, ""),
            (r#""plain""#, "plain"),
            (r"'it\'s'", "it's"),
            (r#"'"'"#, "\""),
            (r"`\n`", r"\n"),
            (r#""\a\b\f\n\r\t\v\\\"""#, "\x07\x08\x0c\n\r\t\x0b\\\""),
            (r#""\x41\101\u00e9\U0001F600z""#, "AA\u{e9}\u{1f600}z"),
            (r#""\xc3\xa9""#, "é"),
            (r#""\u00e9""#, "é"),
        ] {
            assert_eq!(unquote(literal).text, expected, "{literal}");
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_are_kept() {
        let found = unquote(r#""a\xff|\377é""#);
        assert_eq!(found.text, "a\u{fffd}|\u{fffd}é");
        let bytes = found.bytes.unwrap();
        assert_eq!(&*bytes, b"a\xff|\xff\xc3\xa9");
        assert_eq!(quoted_bytes(&bytes).to_string(), r#""a\xff|\xffé""#);
        assert!(unquote(r#""\xc3\xa9""#).bytes.is_none());
    }
}
