//! `resource.Quantity`: a fixed-point number with a suffix, such as `250m` or `64Mi`.
//!
//! Values are read and written in the canonical form of `k8s.io/apimachinery/pkg/api/resource`:
//! no fraction, the largest suffix that loses nothing. Unlike there the mantissa is bounded, at
//! 128 bits.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How a quantity is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `n`, `u`, `m`, nothing, `k`, `M`, `G`, `T`, `P`, `E`.
    DecimalSi,
    /// `Ki`, `Mi`, `Gi`, `Ti`, `Pi`, `Ei`.
    BinarySi,
    /// `e3`, `e6` and so on.
    DecimalExponent,
}

/// A number in steps of a billionth or coarser, and how it is written.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    /// Not divisible by ten unless zero, with a scale of zero, so that equal values are equal.
    mantissa: i128,
    /// The power of ten that the mantissa is multiplied by, at least −9.
    scale: i32,
    format: Format,
}

/// Why a text is not a quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// It does not look like a number with a suffix.
    #[error(
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    )]
    Format,
    /// The number before the suffix is none, or has too many digits.
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    /// No such suffix.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

const NANO: i32 = -9;
/// Exponents beyond this are refused: no quantity of anything is that large.
const EXPONENT_MAX: i32 = 1000;
const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

impl Quantity {
    /// `value` × 10^`scale`; below a billionth it is rounded away from zero.
    #[must_use]
    pub fn new(value: i128, scale: i32, format: Format) -> Self {
        let (mut mantissa, mut scale) = (value, scale);
        while scale < NANO && mantissa != 0 {
            let lost = mantissa % 10 != 0;
            mantissa = mantissa / 10 + if lost { mantissa.signum() } else { 0 };
            scale += 1;
        }
        while mantissa != 0 && mantissa % 10 == 0 {
            mantissa /= 10;
            scale += 1;
        }
        if mantissa == 0 {
            scale = 0;
        }
        Self { mantissa, scale, format }
    }

    /// CPU use in billionths of a core.
    #[must_use]
    pub fn nanocores(value: u64) -> Self {
        Self::new(i128::from(value), NANO, Format::DecimalSi)
    }

    /// An amount of memory.
    #[must_use]
    pub fn bytes(value: u64) -> Self {
        Self::new(i128::from(value), 0, Format::BinarySi)
    }

    /// How it is written.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// The value in thousandths, rounded away from zero; the largest or smallest `i64` if it
    /// does not fit.
    #[must_use]
    pub fn milli_value(&self) -> i64 {
        self.scaled(-3)
    }

    /// The value in whole units, rounded away from zero; the largest or smallest `i64` if it
    /// does not fit.
    #[must_use]
    pub fn value(&self) -> i64 {
        self.scaled(0)
    }

    fn scaled(&self, scale: i32) -> i64 {
        let limit = if self.mantissa < 0 { i64::MIN } else { i64::MAX };
        let mut value = self.mantissa;
        for _ in scale..self.scale {
            match value.checked_mul(10) {
                Some(times_ten) => value = times_ten,
                None => return limit,
            }
        }
        let mut lost = false;
        for _ in self.scale..scale {
            lost |= value % 10 != 0;
            value /= 10;
        }
        let value = value + if lost { self.mantissa.signum() } else { 0 };
        i64::try_from(value).unwrap_or(limit)
    }

    /// The value as a floating-point number, rounded.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "the doc says that it is rounded")]
    pub fn as_f64(&self) -> f64 {
        if self.scale < 0 {
            self.mantissa as f64 / 10f64.powi(-self.scale)
        } else {
            self.mantissa as f64 * 10f64.powi(self.scale)
        }
    }

    /// The whole number that this is, if it is one and fits.
    fn integer(&self) -> Option<i128> {
        if self.scale < 0 {
            return None;
        }
        10i128.checked_pow(self.scale.unsigned_abs())?.checked_mul(self.mantissa)
    }

    fn fmt_decimal(&self, f: &mut fmt::Formatter<'_>, exponent_form: bool) -> fmt::Result {
        let largest = if exponent_form { i32::MAX } else { 18 };
        let exponent = (self.scale.div_euclid(3) * 3).min(largest);
        let zeros = usize::try_from(self.scale - exponent).unwrap_or(0);
        write!(f, "{}{:0<zeros$}", self.mantissa, "")?;
        if !exponent_form {
            let at = usize::try_from(exponent / 3 + 3).unwrap_or(0);
            f.write_str(DECIMAL[at])
        } else if exponent != 0 {
            write!(f, "e{exponent}")
        } else {
            Ok(())
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.mantissa == 0 {
            return f.write_str("0");
        }
        match self.format {
            Format::DecimalSi => self.fmt_decimal(f, false),
            Format::DecimalExponent => self.fmt_decimal(f, true),
            Format::BinarySi => match self.integer() {
                Some(mut value) if value.unsigned_abs() >= 1024 => {
                    let mut power = 0;
                    while value % 1024 == 0 && power + 1 < BINARY.len() {
                        value /= 1024;
                        power += 1;
                    }
                    write!(f, "{value}{}", BINARY[power])
                }
                // A fraction would be lost, or nothing gained.
                _ => self.fmt_decimal(f, false),
            },
        }
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, suffix) = unsigned.split_at(end.unwrap_or(unsigned.len()));
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if text.is_empty() || fraction.contains('.') {
            return Err(QuantityError::Format);
        }
        if whole.is_empty() && fraction.is_empty() {
            let looks_right = text.starts_with(['+', '-', '.']) && suffix.is_empty();
            return Err(if looks_right { QuantityError::Numeric } else { QuantityError::Format });
        }
        let (format, exponent) = parse_suffix(suffix)?;

        let mut value: i128 = 0;
        for digit in whole.bytes().chain(fraction.bytes()) {
            value = value
                .checked_mul(10)
                .and_then(|v| v.checked_add(i128::from(digit - b'0')))
                .ok_or(QuantityError::Numeric)?;
        }
        let mut scale = -i32::try_from(fraction.len()).map_err(|_| QuantityError::Numeric)?;
        match format {
            Format::BinarySi => {
                let factor = 1i128 << exponent;
                value = value.checked_mul(factor).ok_or(QuantityError::Numeric)?;
            }
            Format::DecimalSi | Format::DecimalExponent => scale += exponent,
        }
        if negative {
            value = -value;
        }
        Ok(Self::new(value, scale, format).within_bounds())
    }
}

impl Quantity {
    /// Binary quantities are capped at what an `i64` holds, and below one they are decimal.
    fn within_bounds(mut self) -> Self {
        if self.format != Format::BinarySi {
            return self;
        }
        let magnitude = Self { mantissa: self.mantissa.abs(), ..self };
        if magnitude > Self::new(i128::from(i64::MAX), 0, Format::BinarySi) {
            let capped = i128::from(i64::MAX) * self.mantissa.signum();
            return Self::new(capped, 0, Format::BinarySi);
        }
        if self.mantissa != 0 && magnitude < Self::new(1, 0, Format::BinarySi) {
            self.format = Format::DecimalSi;
        }
        self
    }
}

fn parse_suffix(suffix: &str) -> Result<(Format, i32), QuantityError> {
    let nth = |at: usize, step: i32| i32::try_from(at).unwrap_or(0) * step;
    if let Some(at) = DECIMAL.iter().position(|s| *s == suffix) {
        return Ok((Format::DecimalSi, nth(at, 3) - 9));
    }
    if let Some(at) = BINARY.iter().position(|s| *s == suffix) {
        return Ok((Format::BinarySi, nth(at, 10)));
    }
    let known = |c: char| "eEinumkKMGTP".contains(c);
    let rest = suffix.trim_start_matches(known);
    let digits = rest.strip_prefix(['+', '-']).unwrap_or(rest);
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(QuantityError::Format);
    }
    let exponent = suffix.strip_prefix(['e', 'E']).ok_or(QuantityError::Suffix)?;
    let exponent: i32 = exponent.parse().map_err(|_| QuantityError::Suffix)?;
    if exponent.abs() > EXPONENT_MAX {
        return Err(QuantityError::Suffix);
    }
    Ok((Format::DecimalExponent, exponent))
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        (self.mantissa, self.scale) == (other.mantissa, other.scale)
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_sign = self.mantissa.signum().cmp(&other.mantissa.signum());
        if by_sign.is_ne() || self.mantissa == 0 {
            return by_sign;
        }
        let magnitude = |q: &Self| (q.mantissa.unsigned_abs().ilog10(), q.mantissa.unsigned_abs());
        let ((a_digits, a), (b_digits, b)) = (magnitude(self), magnitude(other));
        let a_top = i64::from(self.scale) + i64::from(a_digits);
        let b_top = i64::from(other.scale) + i64::from(b_digits);
        // With equal first digits' places, both mantissas padded to the same length compare.
        let by_size = a_top.cmp(&b_top).then_with(|| {
            let pad =
                |value: u128, digits: u32, to: u32| value.saturating_mul(10u128.pow(to - digits));
            let to = a_digits.max(b_digits);
            pad(a, a_digits, to).cmp(&pad(b, b_digits, to))
        });
        if self.mantissa < 0 { by_size.reverse() } else { by_size }
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Text(String),
            Integer(i64),
            Float(f64),
        }
        let text = match Raw::deserialize(deserializer)? {
            Raw::Text(text) => text,
            Raw::Integer(value) => value.to_string(),
            Raw::Float(value) => value.to_string(),
        };
        text.trim().parse().map_err(serde::de::Error::custom)
    }
}

/// Appends a CPU use of `nanocores` billionths of a core in canonical form.
pub fn write_nanocores(out: &mut Vec<u8>, nanocores: u64) {
    let mut value = clamp_digits(nanocores);
    let mut suffix = 0;
    while value != 0 && value.is_multiple_of(1000) && suffix + 1 < DECIMAL.len() {
        value /= 1000;
        suffix += 1;
    }
    write_number(out, value, if value == 0 { "" } else { DECIMAL[suffix] });
}

/// Appends an amount of memory of `bytes` bytes in canonical form.
pub fn write_bytes(out: &mut Vec<u8>, bytes: u64) {
    let mut value = clamp_digits(bytes);
    if value < 1024 {
        // Less than 1 Ki is written in decimal: 1000 is `1k`.
        return if value == 1000 {
            write_number(out, 1, "k");
        } else {
            write_number(out, value, "");
        };
    }
    let power = (value.trailing_zeros() / 10).min(6);
    value >>= power * 10;
    write_number(out, value, BINARY[power as usize]);
}

/// Above what an `i64` holds metrics-server loses the last digit.
const fn clamp_digits(value: u64) -> u64 {
    if value > i64::MAX as u64 { value / 10 * 10 } else { value }
}

fn write_number(out: &mut Vec<u8>, value: u64, suffix: &str) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    out.extend_from_slice(suffix.as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, canonical: &str) {
        assert_eq!(text.parse::<Quantity>().unwrap().to_string(), canonical, "{text}");
    }

    #[test]
    fn quantities_have_one_canonical_form() {
        for same in [
            "0", "1", "12", "100m", "12345n", "123u", "1k", "12M", "3G", "7T", "8P", "9E", "1Ki",
            "1Mi", "1025", "1500Mi", "1e3", "12e6", "-5m", "999", "7Ei",
        ] {
            check(same, same);
        }
        for (text, canonical) in [
            ("1000000n", "1m"),
            ("1.5", "1500m"),
            ("1.5Gi", "1536Mi"),
            ("1024Mi", "1Gi"),
            ("1000m", "1"),
            ("10000", "10k"),
            ("100", "100"),
            ("0.1n", "1n"),
            ("-0.1n", "-1n"),
            ("0.1m", "100u"),
            ("00.5", "500m"),
            (".5", "500m"),
            ("5.", "5"),
            ("1.G", "1G"),
            ("+1", "1"),
            ("0Ki", "0"),
            ("-0", "0"),
            ("0.5Ki", "512"),
            ("1000Ki", "1000Ki"),
            ("0.0001Ki", "102400u"),
            ("1E3", "1e3"),
            ("1e-3", "1e-3"),
            ("10e2", "1e3"),
            ("1e2", "100"),
            ("1E", "1E"),
            ("100Ei", "9223372036854775807"),
            ("1.3Ki", "1331200m"),
        ] {
            check(text, canonical);
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused_with_upstreams_words() {
        use QuantityError::{Format, Numeric, Suffix};
        for (text, error) in [
            ("", Format),
            ("1.2.3", Format),
            ("Mi", Format),
            ("1 Mi", Format),
            ("-", Numeric),
            (".", Numeric),
            ("1i", Suffix),
            ("1mi", Suffix),
            ("1KiB", Format),
            ("1e", Suffix),
            ("1e99999", Suffix),
            ("1e3x", Format),
            ("9999999999999999999999999999999999999999", Numeric),
        ] {
            assert_eq!(text.parse::<Quantity>().unwrap_err(), error, "{text:?}");
        }
    }

    #[test]
    fn values_are_compared_and_rounded_up() {
        let q = |text: &str| text.parse::<Quantity>().unwrap();
        assert!(q("1Gi") > q("1G") && q("-1") < q("1m") && q("1e3") == q("1k"));
        assert!(q("-2") < q("-1") && q("0") < q("1n") && q("11") > q("2") && q("20") > q("11"));
        assert_eq!((q("1500u").milli_value(), q("1500u").value()), (2, 1));
        assert_eq!((q("-1500u").milli_value(), q("250m").milli_value()), (-2, 250));
        assert_eq!((q("100E").value(), q("-100E").milli_value()), (i64::MAX, i64::MIN));
        assert!((q("1.5").as_f64() - 1.5).abs() < f64::EPSILON);
        assert_eq!(serde_json::from_str::<Quantity>("2").unwrap(), q("2"));
        assert_eq!(serde_json::to_string(&q("0.5")).unwrap(), r#""500m""#);
    }

    #[test]
    fn usages_are_written_as_metrics_server_does() {
        for (nanocores, text) in [
            (0, "0"),
            (123, "123n"),
            (12_345, "12345n"),
            (1_000_000, "1m"),
            (100_000, "100u"),
            (1_500_000_000, "1500m"),
            (2_000_000_000, "2"),
            (4_000_000_000_000, "4k"),
            (u64::MAX, "18446744073709551610n"),
        ] {
            let mut out = Vec::new();
            write_nanocores(&mut out, nanocores);
            assert_eq!(std::str::from_utf8(&out).unwrap(), text);
        }
        for (bytes, text) in [
            (0, "0"),
            (1, "1"),
            (1000, "1k"),
            (1023, "1023"),
            (1024, "1Ki"),
            (1025, "1025"),
            (2000, "2000"),
            (1 << 20, "1Mi"),
            (3 << 29, "1536Mi"),
            (1 << 60, "1Ei"),
        ] {
            let mut out = Vec::new();
            write_bytes(&mut out, bytes);
            assert_eq!(std::str::from_utf8(&out).unwrap(), text);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value in any::<i64>(), scale in -9i32..12, format in 0..3) {
            let format = [Format::DecimalSi, Format::BinarySi, Format::DecimalExponent][format as usize];
            let quantity = Quantity::new(i128::from(value), scale, format);
            let is_capped = quantity.integer().is_some_and(|v| v.abs() > i128::from(i64::MAX));
            prop_assume!(format != Format::BinarySi || !is_capped);
            let text = quantity.to_string();
            let read: Quantity = text.parse().unwrap();
            prop_assert_eq!(read, quantity, "{}", text);
            // Without a suffix a binary quantity is read as a decimal one.
            if format != Format::BinarySi {
                prop_assert_eq!(read.to_string(), text);
            }
        }

        #[test]
        fn the_fast_writers_agree(value in 0..=i64::MAX as u64) {
            let (mut cpu, mut memory) = (Vec::new(), Vec::new());
            write_nanocores(&mut cpu, value);
            write_bytes(&mut memory, value);
            prop_assert_eq!(String::from_utf8(cpu).unwrap(), Quantity::nanocores(value).to_string());
            prop_assert_eq!(String::from_utf8(memory).unwrap(), Quantity::bytes(value).to_string());
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[-+.0-9eEinumkKMGTP ]{0,12}") {
            if let Ok(quantity) = text.parse::<Quantity>() {
                prop_assert_eq!(quantity.to_string().parse::<Quantity>().unwrap(), quantity);
            }
        }

        #[test]
        fn the_order_is_that_of_the_numbers(a in any::<i32>(), b in any::<i32>(), s in -3i32..3, t in -3i32..3) {
            let number = |v: i32, s: i32| i128::from(v) * 10i128.pow((s + 3) as u32);
            let quantity = |v: i32, s: i32| Quantity::new(i128::from(v), s, Format::DecimalSi);
            prop_assert_eq!(quantity(a, s).cmp(&quantity(b, t)), number(a, s).cmp(&number(b, t)));
        }
    }
}
