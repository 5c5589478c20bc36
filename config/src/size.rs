//! Sizes in the file: `10MB`, `1GiB`, `0`. As in Prometheus, `KB`, `MB`, … are powers of 1024.

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

/// Parses a sequence of numbers with units, or 0.
fn parse(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at(letters);
        let bytes = number.parse::<u64>().ok()?.checked_mul(unit_bytes(unit)?)?;
        total = total.checked_add(bytes)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(total)
}

/// Writes the largest unit that divides the number, so that [`parse`] gives it back.
pub(crate) fn format(bytes: u64) -> String {
    match POWERS.iter().find(|(_, power)| bytes != 0 && bytes.is_multiple_of(*power)) {
        Some((letter, power)) => format!("{}{letter}iB", bytes / power),
        None if bytes == 0 => String::from("0"),
        None => format!("{bytes}B"),
    }
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
            ("1.5MB", None),
            ("-1B", None),
            ("99999999999EB", None),
            ("16EB", None),
        ] {
            assert_eq!(parse(text), bytes, "{text}");
        }
        for text in ["0", "15MiB", "1GiB", "1537B"] {
            assert_eq!(format(parse(text).unwrap()), text);
        }
    }
}
