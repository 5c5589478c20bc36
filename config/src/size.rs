//! Sizes in the file and in flags: `10MB`, `1.5GiB`, `0`. As in Prometheus, `KB`, `MB`, … are powers of 1024.

use serde::{Deserialize, Deserializer};

/// Powers of 1024 by the letter that stands for them, largest first.
const POWERS: [(&str, u64); 6] = [
    ("E", 1 << 60),
    ("P", 1 << 50),
    ("T", 1 << 40),
    ("G", 1 << 30),
    ("M", 1 << 20),
    ("K", 1 << 10),
];

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) u64);

/// The bytes of unit `unit`: `B`, `KB`, `KiB`, `K`, …
fn unit_bytes(unit: &str) -> Option<u64> {
    if unit == "B" {
        return Some(1);
    }
    let letter = unit.strip_suffix("iB").or_else(|| unit.strip_suffix('B')).unwrap_or(unit);
    POWERS.iter().find(|(power, _)| *power == letter).map(|(_, bytes)| *bytes)
}

/// The number of bytes that `text` says: a sequence of numbers with units (`1GB512MB`, `1.5GiB`), or 0.
#[must_use]
pub fn parse(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at(letters);
        let bytes = multiply(number, unit_bytes(unit)?)?;
        total = total.checked_add(bytes)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(total)
}

/// Digits after the point that count.
const FRACTION_DIGITS_MAX: usize = 9;

/// A decimal number of units in whole bytes, rounded down.
fn multiply(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let fraction = fraction.get(..FRACTION_DIGITS_MAX).unwrap_or(fraction);
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let scale = (0..fraction.len()).fold(1u128, |scale, _| scale * 10);
    let part = u128::from(unit) * fraction.parse::<u128>().ok()? / scale;
    whole.parse::<u64>().ok()?.checked_mul(unit)?.checked_add(u64::try_from(part).ok()?)
}

/// Writes whole numbers of units, largest first (`1GiB512MiB`), so that [`parse`] gives the number back.
#[must_use]
pub fn format(bytes: u64) -> String {
    let mut text = String::new();
    let mut rest = bytes;
    for (letter, power) in POWERS {
        if rest >= power {
            text.push_str(&format!("{}{letter}iB", rest / power));
            rest %= power;
        }
    }
    if rest > 0 || bytes == 0 {
        text.push_str(&format!("{rest}B"));
    }
    text
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let error = || serde::de::Error::custom(format!("not a valid size: {text:?}"));
        parse(&text).map(Self).ok_or_else(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("15MB", Some(15 << 20)),
            ("1GiB", Some(1 << 30)),
            ("1KB512B", Some(1536)),
            ("2K", Some(2048)),
            ("7", None),
            ("MB", None),
            ("", None),
            ("1XB", None),
            ("1iB", None),
            ("1.5MB", Some(3 << 19)),
            ("0.1KB", Some(102)),
            ("1.MB", None),
            ("1.2.3MB", None),
            (".5MB", None),
            ("-1B", None),
            ("99999999999EB", None),
            ("16EB", None),
        ] {
            assert_eq!(parse(text), bytes, "{text}");
        }
        for text in ["0B", "15MiB", "1GiB512MiB", "1KiB1B"] {
            assert_eq!(format(parse(text).unwrap()), text);
        }
    }
}
