//! Reads sample values as Go's `strconv.ParseFloat` does, less hexadecimal floats and underscores.

use crate::MetricKind;
use model::{FloatFormat, format_float};
use std::borrow::Cow;

/// Every NaN of the text becomes this one, so that none is taken for the staleness marker.
const NORMAL_NAN: f64 = f64::from_bits(0x7ff8_0000_0000_0001);

/// Powers of ten that a double holds exactly.
const EXACT_POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// Digits that always fit the 53 bits of a mantissa.
const EXACT_DIGITS_MAX: usize = 15;

/// Why a word is not a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FloatError {
    /// Not a number at all.
    #[error("not a number")]
    Syntax,
    /// A finite number that a double cannot hold.
    #[error("number out of range")]
    Range,
    /// Hexadecimal exponents and digit separators, which the format does not have.
    #[error("unsupported character in number")]
    Unsupported,
}

/// The value of `word`.
///
/// # Errors
/// [`FloatError`]; infinities are accepted only where they are written as such.
pub(crate) fn parse_float(word: &[u8]) -> Result<f64, FloatError> {
    if let Some((v, used)) = parse_exact(word)
        && used == word.len()
    {
        return Ok(v);
    }
    if word.iter().any(|b| matches!(b, b'p' | b'P' | b'_')) {
        return Err(FloatError::Unsupported);
    }
    let text = std::str::from_utf8(word).map_err(|_| FloatError::Syntax)?;
    let v: f64 = text.parse().map_err(|_| FloatError::Syntax)?;
    if v.is_nan() {
        // Go takes no sign before NaN, Rust does.
        return if word.len() == 3 { Ok(NORMAL_NAN) } else { Err(FloatError::Syntax) };
    }
    if v.is_infinite() && word.iter().any(u8::is_ascii_digit) {
        return Err(FloatError::Range);
    }
    Ok(v)
}

/// Reads the decimal number at the front of `text` where one multiplication or division of two exact
/// doubles yields the correctly rounded value (Clinger's fast path), and says how long it is.
///
/// That covers nearly all values that are scraped, in one pass and without knowing the end of the
/// word. `None` means no more than that: [`parse_float`] decides.
#[inline]
pub(crate) fn parse_exact(text: &[u8]) -> Option<(f64, usize)> {
    let negative = text.first() == Some(&b'-');
    let start = usize::from(negative);
    let (mut mantissa, mut at) = (0_u64, start);
    let mut digits = take_digits(text, &mut at, &mut mantissa);
    let mut exponent = 0_i32;
    if text.get(at) == Some(&b'.') {
        at += 1;
        let fraction = take_digits(text, &mut at, &mut mantissa);
        digits += fraction;
        exponent = -i32::try_from(fraction).ok()?;
    }
    if digits == 0 || digits > EXACT_DIGITS_MAX {
        return None;
    }
    if matches!(text.get(at), Some(b'e' | b'E')) {
        exponent += take_exponent(text, &mut at)?;
    }
    #[expect(clippy::cast_precision_loss, reason = "at most fifteen digits")]
    let magnitude = mantissa as f64;
    let power = *EXACT_POWERS.get(exponent.unsigned_abs() as usize)?;
    let v = if exponent < 0 { magnitude / power } else { magnitude * power };
    Some((if negative { -v } else { v }, at))
}

/// Appends the digits at `at` to `number`; stops early when there are too many to be of use.
#[inline]
fn take_digits(text: &[u8], at: &mut usize, number: &mut u64) -> usize {
    let start = *at;
    while let Some(digit) = text.get(*at).map(|b| b.wrapping_sub(b'0'))
        && digit < 10
        && *at - start <= EXACT_DIGITS_MAX
    {
        *number = number.wrapping_mul(10).wrapping_add(u64::from(digit));
        *at += 1;
    }
    *at - start
}

fn take_exponent(text: &[u8], at: &mut usize) -> Option<i32> {
    *at += 1;
    let negative = text.get(*at) == Some(&b'-');
    *at += usize::from(matches!(text.get(*at), Some(b'+' | b'-')));
    let mut exponent = 0;
    let digits = take_digits(text, at, &mut exponent);
    if digits == 0 || digits > 3 {
        return None;
    }
    let exponent = i32::try_from(exponent).ok()?;
    Some(if negative { -exponent } else { exponent })
}

/// Gives bucket bounds and quantiles the one spelling that OpenMetrics prescribes (`le="1"` becomes
/// `le="1.0"`), as Prometheus does, so that a target's choice of format does not change its series.
pub(crate) fn normalize_label_value<'a>(
    kind: MetricKind,
    label: &str,
    value: Cow<'a, str>,
) -> Cow<'a, str> {
    let numeric =
        matches!((kind, label), (MetricKind::Histogram, "le") | (MetricKind::Summary, "quantile"));
    if !numeric {
        return value;
    }
    let Ok(number) = parse_float(value.as_bytes()) else { return value };
    let mut text = format_float(number, FloatFormat::General);
    if number.is_finite() && !text.contains(['e', '.']) {
        text.push_str(".0");
    }
    if text == value { value } else { Cow::Owned(text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(word: &str, expected: Result<f64, FloatError>) {
        let got = parse_float(word.as_bytes());
        assert_eq!(got.map(f64::to_bits), expected.map(f64::to_bits), "{word}");
    }

    #[test]
    fn words_are_read_as_go_reads_them() {
        for (word, v) in [
            ("0", 0.0),
            ("-0", -0.0),
            ("+1", 1.0),
            ("1.", 1.0),
            (".5", 0.5),
            ("-.5e1", -5.0),
            ("1.418183276e+09", 1_418_183_276.0),
            ("1e-05", 0.000_01),
            ("0.30000000000000004", 0.300_000_000_000_000_04),
            ("123456789012345", 123_456_789_012_345.0),
            ("12345678901234567890", 12_345_678_901_234_567_890.0),
            ("1e22", 1e22),
            ("1e23", 1e23),
            ("1e-400", 0.0),
            ("4.9e-324", 4.9e-324),
            ("1e0000000001", 10.0),
            ("Inf", f64::INFINITY),
            ("+inf", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
            ("NaN", NORMAL_NAN),
            ("nan", NORMAL_NAN),
        ] {
            check(word, Ok(v));
        }
        for word in ["", "-", ".", "e5", "1e", "1e+", "true", "+NaN", "-nan", "1\r", "0x1", "1,5"] {
            check(word, Err(FloatError::Syntax));
        }
        for word in ["0x1p-2", "1_000", "0x1P3"] {
            check(word, Err(FloatError::Unsupported));
        }
        for word in ["1e400", "-1e309"] {
            check(word, Err(FloatError::Range));
        }
    }

    #[test]
    fn bounds_and_quantiles_have_one_spelling() {
        let normal = |kind, label, value: &str| {
            normalize_label_value(kind, label, Cow::Borrowed(value)).into_owned()
        };
        assert_eq!(normal(MetricKind::Histogram, "le", "1"), "1.0");
        assert_eq!(normal(MetricKind::Histogram, "le", "+Inf"), "+Inf");
        assert_eq!(normal(MetricKind::Histogram, "le", "0.25"), "0.25");
        assert_eq!(normal(MetricKind::Histogram, "le", "1000000"), "1e+06");
        assert_eq!(normal(MetricKind::Summary, "quantile", "0"), "0.0");
        assert_eq!(normal(MetricKind::Summary, "quantile", "x"), "x");
        assert_eq!(normal(MetricKind::Summary, "le", "1"), "1");
        assert_eq!(normal(MetricKind::Unknown, "le", "1"), "1");
    }

    proptest! {
        #[test]
        fn the_fast_path_agrees_with_the_library(word in "-?[0-9]{0,17}(\\.[0-9]{0,9})?(e[+-]?[0-9]{1,3})?") {
            if let Some((v, used)) = parse_exact(word.as_bytes()) && used == word.len() {
                let expected: f64 = word.parse().unwrap();
                prop_assert_eq!(v.to_bits(), expected.to_bits(), "{}", word);
            }
        }

        #[test]
        fn printed_floats_read_back(bits: u64) {
            let v = f64::from_bits(bits);
            let text = format_float(v, FloatFormat::General);
            let expected = if v.is_nan() { NORMAL_NAN } else { v };
            prop_assert_eq!(parse_float(text.as_bytes()).map(f64::to_bits), Ok(expected.to_bits()));
        }
    }
}
