//! Numbers and durations: where they end in a query, and their values.

use std::borrow::Cow;

use model::{DurationError, parse_duration};

use super::error::ParseErrorKind;
use super::token::TokenKind;

const DECIMAL: &[u8] = b"0123456789";
const HEXADECIMAL: &[u8] = b"0123456789abcdefABCDEF";

/// Finds the number or duration that starts `text`. Without a kind it is neither, and the length is how
/// far one could read it as one.
///
/// What is found need not have a value: `1e+` is a number as far as this goes.
pub(super) fn scan(text: &str) -> (Option<TokenKind>, usize) {
    let mut cursor = Cursor { text, at: 0 };
    let kind = if cursor.number() {
        Some(TokenKind::Number)
    } else if cursor.duration() {
        Some(TokenKind::Duration)
    } else {
        None
    };
    (kind, cursor.at)
}

struct Cursor<'q> {
    text: &'q str,
    at: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn is(&self, set: &[u8]) -> bool {
        self.peek().is_some_and(|b| set.contains(&b))
    }

    fn accept(&mut self, set: &[u8]) -> bool {
        let accepted = self.is(set);
        self.at += usize::from(accepted);
        accepted
    }

    fn accept_all(&mut self, set: &[u8]) {
        while self.accept(set) {}
    }

    fn is_before_word(&self) -> bool {
        self.peek().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_')
    }

    /// `12`, `1_000`, `.5`, `5.`, `1e-3`, `0x1f`. One point, one exponent; an underscore stands alone.
    fn number(&mut self) -> bool {
        let mut digits = DECIMAL;
        if self.accept(b"0") && self.accept(b"xX") {
            self.accept(b"_");
            digits = HEXADECIMAL;
        }
        self.accept(b".");
        self.accept(digits);
        let (mut point, mut exponent) = (false, false);
        while self.is(digits) || self.is(b"._eE") {
            if (point && self.is(b".")) || (exponent && self.is(b"eE")) {
                self.at += 1;
                return false;
            }
            if self.accept(b".") {
                point = true;
                if self.accept(b"_.") || digits.len() > DECIMAL.len() {
                    return false;
                }
            } else if self.accept(b"eE") {
                // Also in a hexadecimal number, as Prometheus has it: there is no `0xee`.
                exponent = true;
                self.accept(b"+-");
                if self.accept(b"._eE") || self.peek().is_none() {
                    return false;
                }
            } else if self.accept(b"_") {
                if self.accept(b"._eE") || self.peek().is_none() {
                    return false;
                }
            } else {
                self.accept_all(digits);
            }
        }
        self.at > 0 && !self.is_before_word()
    }

    /// What follows the first number of a duration.
    fn duration(&mut self) -> bool {
        if !self.accept(b"smhdwy") {
            return false;
        }
        // The second half of `ms`. That there is no `hs` is found when the value is asked for.
        self.accept(b"s");
        while self.accept(DECIMAL) {
            self.accept_all(DECIMAL);
            if !self.accept(b"smhdw") {
                return false;
            }
            self.accept(b"s");
        }
        if self.is_before_word() {
            self.at += 1;
            return false;
        }
        true
    }
}

/// The value of a number.
pub(super) fn number(text: &str) -> Result<f64, ParseErrorKind> {
    if let Some(whole) = integer(text) {
        return Ok(whole as f64);
    }
    let refused = |reason| ParseErrorKind::Number { text: String::from(text), reason };
    let is_word = text.starts_with(|c: char| c.is_ascii_alphabetic());
    let plain = without_underscores(text).ok_or_else(|| refused("invalid syntax"))?;
    let value: f64 = plain.parse().map_err(|_| refused("invalid syntax"))?;
    if value.is_infinite() && !is_word { Err(refused("value out of range")) } else { Ok(value) }
}

/// A whole number: hexadecimal after `0x`, octal after `0`, decimal otherwise.
fn integer(text: &str) -> Option<i64> {
    let plain = without_underscores(text)?;
    let (digits, radix) = match plain.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&plain[2..], 16),
        [b'0', _, ..] => (&plain[1..], 8),
        _ => (&*plain, 10),
    };
    i64::from_str_radix(digits, radix).ok()
}

/// `text` without the underscores between its digits; `None` when one stands elsewhere.
fn without_underscores(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('_') {
        return Some(Cow::Borrowed(text));
    }
    let is_hexadecimal = text.starts_with("0x") || text.starts_with("0X");
    let is_digit = |b: u8| {
        if is_hexadecimal { b.is_ascii_hexdigit() } else { b.is_ascii_digit() }
    };
    let bytes = text.as_bytes();
    for (at, _) in bytes.iter().enumerate().filter(|(_, b)| **b == b'_') {
        let after_digit = at > 0 && (is_digit(bytes[at - 1]) || (is_hexadecimal && at == 2));
        if !after_digit || !bytes.get(at + 1).copied().is_some_and(is_digit) {
            return None;
        }
    }
    Some(Cow::Owned(text.replace('_', "")))
}

/// The value of a duration, in seconds.
pub(super) fn duration(text: &str) -> Result<f64, ParseErrorKind> {
    match parse_duration(text) {
        Ok(duration) => Ok(duration.as_secs_f64()),
        Err(DurationError::OutOfRange(_)) => Err(ParseErrorKind::DurationOutOfRange),
        Err(DurationError::Empty | DurationError::Invalid(_)) => {
            let text = String::from(text);
            Err(match unknown_unit(&text) {
                Some(unit) => ParseErrorKind::DurationUnit { unit: String::from(unit), text },
                None => ParseErrorKind::Duration(text),
            })
        }
    }
}

/// The first unit that there is not, unless the units before it are already out of order.
fn unknown_unit(text: &str) -> Option<&str> {
    const UNITS: [&str; 7] = ["y", "w", "d", "h", "m", "s", "ms"];
    let mut next = 0;
    for unit in text.split(|c: char| c.is_ascii_digit()).filter(|unit| !unit.is_empty()) {
        match UNITS.iter().position(|known| *known == unit) {
            None => return Some(unit),
            Some(at) if at < next => return None,
            Some(at) => next = at + 1,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_scan(text: &str, kind: Option<TokenKind>, bytes: usize) {
        assert_eq!(scan(text), (kind, bytes), "{text}");
    }

    #[test]
    fn numbers_and_durations_are_found() {
        for text in
            ["1", "1.5", ".5", "5.", "1e5", "1E-5", "1_000", "0x1F", "0x_1f", "0X1e+5", "0755"]
        {
            check_scan(text, Some(TokenKind::Number), text.len());
            check_scan(&format!("{text} "), Some(TokenKind::Number), text.len());
            check_scan(&format!("{text})"), Some(TokenKind::Number), text.len());
        }
        for text in ["5m", "1h30m", "100ms", "1y2w", "5hs"] {
            check_scan(text, Some(TokenKind::Duration), text.len());
            check_scan(&format!("{text}]"), Some(TokenKind::Duration), text.len());
        }
    }

    #[test]
    fn what_is_neither_is_read_as_far_as_it_goes() {
        for (text, bytes) in [
            ("2.5.", 4),
            ("100..4", 5),
            ("0deadbeef", 3),
            ("5mm", 3),
            ("5m1", 3),
            ("1__0", 3),
            ("1e", 2),
            ("1_", 2),
            ("0x1.5", 4),
            ("5x", 1),
        ] {
            check_scan(text, None, bytes);
        }
    }

    #[test]
    fn numbers_have_values() {
        for (text, value) in [
            ("0", 0.0),
            ("1_000", 1000.0),
            ("0x1F", 31.0),
            ("0x_1f", 31.0),
            ("0755", 493.0),
            ("0_7", 7.0),
            ("08", 8.0),
            ("08.5", 8.5),
            (".5", 0.5),
            ("5.", 5.0),
            ("1_0.5e-1", 1.05),
            ("9223372036854775807", 9_223_372_036_854_775_807.0),
            ("9223372036854775808", 9_223_372_036_854_775_808.0),
            ("inf", f64::INFINITY),
            ("INF", f64::INFINITY),
        ] {
            assert_eq!(number(text), Ok(value), "{text}");
        }
        assert!(number("nAn").unwrap().is_nan());
        for (text, reason) in [
            ("1e999", "value out of range"),
            ("1e+", "invalid syntax"),
            ("0x", "invalid syntax"),
            ("0x1e+5", "invalid syntax"),
            ("0xFFFFFFFFFFFFFFFFF", "invalid syntax"),
        ] {
            let expected = ParseErrorKind::Number { text: text.into(), reason };
            assert_eq!(number(text), Err(expected));
        }
    }

    #[test]
    fn durations_have_values() {
        for (text, seconds) in [("5m", 300.0), ("1h30m", 5400.0), ("4s180ms", 4.18), ("0s", 0.0)] {
            assert_eq!(duration(text), Ok(seconds), "{text}");
        }
        for (text, message) in [
            ("5y1hs", r#"unknown unit "hs" in duration "5y1hs""#),
            ("5m1h", r#"not a valid duration string: "5m1h""#),
            ("5m1h1hs", r#"not a valid duration string: "5m1h1hs""#),
            ("300y", "duration out of range"),
        ] {
            assert_eq!(duration(text).unwrap_err().to_string(), message);
        }
    }
}
