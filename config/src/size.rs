//! Sizes in the file: `10MB`, `1GiB`, `0`. As in Prometheus, `KB`, `MB`, … are powers of 1024.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Units with their bytes, largest first.
const UNITS: [(&str, u64); 14] = [
    ("EiB", 1 << 60),
    ("EB", 1 << 60),
    ("PiB", 1 << 50),
    ("PB", 1 << 50),
    ("TiB", 1 << 40),
    ("TB", 1 << 40),
    ("GiB", 1 << 30),
    ("GB", 1 << 30),
    ("MiB", 1 << 20),
    ("MB", 1 << 20),
    ("KiB", 1 << 10),
    ("KB", 1 << 10),
    ("K", 1 << 10),
    ("B", 1),
];

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) u64);

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
        let (_, bytes) = UNITS.iter().find(|(name, _)| *name == unit)?;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(*bytes)?)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(total)
}

/// Writes the largest unit that divides the number.
pub(crate) fn format(bytes: u64) -> String {
    let found =
        UNITS.iter().find(|(name, unit)| name.ends_with("iB") && bytes != 0 && bytes % unit == 0);
    match found {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
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

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format(self.0))
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
            ("7", None),
            ("", None),
            ("1XB", None),
            ("99999999999EB", None),
        ] {
            assert_eq!(parse(text), bytes, "{text}");
        }
        for text in ["0", "15MiB", "1GiB", "1536B"] {
            assert_eq!(format(parse(text).unwrap()), text);
        }
    }
}
