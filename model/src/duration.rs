//! Durations as Prometheus writes them: `1h30m`, `15s`, `100ms`.

use std::time::Duration;

/// Units from the largest to the smallest, with their milliseconds.
const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 24 * 3_600_000),
    ("w", 7 * 24 * 3_600_000),
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Why a text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// The text is empty.
    #[error("empty duration string")]
    Empty,
    /// The text is not a sequence of numbers with units from large to small.
    #[error("not a valid duration string: {0:?}")]
    Invalid(String),
    /// The duration does not fit in 63 bits of nanoseconds (about 292 years), Prometheus's own bound.
    #[error("duration out of range: {0:?}")]
    OutOfRange(String),
}

/// Parses `1y2w3d4h5m6s7ms` with any units left out but in this order, or `0`.
///
/// # Errors
/// [`DurationError`] says whether the text is malformed or too large.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    if text.is_empty() {
        return Err(DurationError::Empty);
    }
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let invalid = || DurationError::Invalid(String::from(text));
    let out_of_range = || DurationError::OutOfRange(String::from(text));
    let mut rest = text;
    let mut total_ms: u64 = 0;
    let mut next_unit = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at(letters);
        let position = UNITS[next_unit..].iter().position(|(name, _)| *name == unit);
        let at = next_unit + position.ok_or_else(invalid)?;
        if number.is_empty() {
            return Err(invalid());
        }
        let number: u64 = number.parse().map_err(|_| out_of_range())?;
        let ms = number.checked_mul(UNITS[at].1).ok_or_else(out_of_range)?;
        total_ms = total_ms.checked_add(ms).ok_or_else(out_of_range)?;
        next_unit = at + 1;
        rest = tail;
    }
    let nanoseconds_max = i64::MAX.unsigned_abs();
    if total_ms > nanoseconds_max / 1_000_000 {
        return Err(out_of_range());
    }
    Ok(Duration::from_millis(total_ms))
}

/// Formats whole milliseconds so that [`parse_duration`] gives them back.
///
/// Years and weeks are used only when nothing remains, as Prometheus's `model.Duration` does.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    use std::fmt::Write;
    let mut ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if ms == 0 {
        return String::from("0s");
    }
    let mut text = String::new();
    for (unit, unit_ms) in UNITS {
        let exact_only = matches!(unit, "y" | "w");
        if ms < unit_ms || (exact_only && ms % unit_ms != 0) {
            continue;
        }
        write!(text, "{}{unit}", ms / unit_ms).expect("writing to a string cannot fail");
        ms %= unit_ms;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_durations() {
        for (text, ms) in [
            ("0", 0),
            ("0s", 0),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1d", 86_400_000),
            ("1w2d", 9 * 86_400_000),
            ("1y", 365 * 86_400_000),
            ("15s500ms", 15_500),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn invalid_durations() {
        for text in ["1", "5", "s", "1s1m", "1m1m", "-1s", "1.5h", "1x", "1 s", "é"] {
            assert_eq!(parse_duration(text), Err(DurationError::Invalid(text.into())), "{text}");
        }
        assert_eq!(parse_duration(""), Err(DurationError::Empty));
        for text in ["300y", "99999999999999999999s"] {
            assert_eq!(parse_duration(text), Err(DurationError::OutOfRange(text.into())), "{text}");
        }
    }

    #[test]
    fn formatting_prefers_round_units() {
        for text in [
            "0s", "15s", "1m", "1h30m", "15d", "2w", "1y", "1d1h", "1ms", "1m1s1ms", "1d12h",
            "100d1h", "366d", "12d", "1d5ms",
        ] {
            assert_eq!(format_duration(parse_duration(text).unwrap()), text);
        }
        for (text, printed) in
            [("25h", "1d1h"), ("41h5m", "1d17h5m"), ("7d", "1w"), ("1w1ms", "7d1ms")]
        {
            assert_eq!(format_duration(parse_duration(text).unwrap()), printed);
        }
    }
}
