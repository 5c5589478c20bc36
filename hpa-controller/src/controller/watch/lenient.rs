//! Values that other programs write and that must not fail the list that they are in.

use std::fmt;

use metrics_api::Quantity;
use model::Timestamp;
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Bytes of what is said about a value that cannot be read.
const COMPLAINT_BYTES_MAX: usize = 512;

/// A value, or why it is none. For small values: each is held as a tree first.
#[derive(Debug)]
pub(super) struct Lenient<T>(pub Result<T, String>);

impl<T: Default> Default for Lenient<T> {
    fn default() -> Self {
        Self(Ok(T::default()))
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Ok(Self(T::deserialize(value).map_err(|error| {
            let mut complaint = error.to_string();
            complaint.truncate(complaint.floor_char_boundary(COMPLAINT_BYTES_MAX));
            complaint
        })))
    }
}

/// A quantity in thousandths, rounded away from zero; the largest or smallest `i64` if it does not fit, `None` if it is no quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Milli(pub Option<i64>);

impl<'de> Deserialize<'de> for Milli {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = deserializer.deserialize_any(Scalar)?;
        Ok(Self(text.and_then(|text| milli(text.trim()))))
    }
}

/// A time in milliseconds since the epoch; `None` if it is none, or beyond the years that can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SomeTime(pub Option<Timestamp>);

impl<'de> Deserialize<'de> for SomeTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = deserializer.deserialize_any(Scalar)?;
        let time = text.and_then(|text| text.parse::<jiff::Timestamp>().ok());
        Ok(Self(time.map(jiff::Timestamp::as_millisecond)))
    }
}

/// The text of a string or number; anything else is passed over.
struct Scalar;

impl<'de> Visitor<'de> for Scalar {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(String::from(text)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Some(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Some(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Some(value.to_string()))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

fn milli(text: &str) -> Option<i64> {
    match text.parse::<Quantity>() {
        Ok(quantity) => Some(quantity.milli_value()),
        Err(_) => extreme(text),
    }
}

/// A quantity with more digits or a larger exponent than [`Quantity`] takes, which is still a number.
fn extreme(text: &str) -> Option<i64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    // Takes any number of digits.
    let number: f64 = number.parse().ok()?;
    let exponent = suffix.strip_prefix(['e', 'E']).filter(|exponent| {
        let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
    });
    let factor = match exponent {
        Some(exponent) => {
            // Beyond these it is zero or infinite anyway.
            let bound = if exponent.starts_with('-') { -1000 } else { 1000 };
            10f64.powi(exponent.parse().unwrap_or(bound))
        }
        None => format!("1{suffix}").parse::<Quantity>().ok()?.as_f64(),
    };
    if number == 0.0 {
        return Some(0);
    }
    // What is not zero is not rounded to it.
    let magnitude = (number * factor * 1000.0).ceil().max(1.0);
    let signed = if text.starts_with('-') { -magnitude } else { magnitude };
    #[expect(clippy::cast_possible_truncation, reason = "the cast saturates, as is meant")]
    let milli = signed as i64;
    Some(milli)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Option<i64> {
        serde_json::from_str::<Milli>(json).unwrap().0
    }

    #[test]
    fn a_quantity_that_does_not_fit_is_the_largest() {
        for (json, expected) in [
            (r#""250m""#, Some(250)),
            ("2", Some(2000)),
            ("0.5", Some(500)),
            (r#""1e1002""#, Some(i64::MAX)),
            (r#""-1e1002""#, Some(i64::MIN)),
            (r#""1e99999999999""#, Some(i64::MAX)),
            (r#""1e-1002""#, Some(1)),
            (r#""0e1002""#, Some(0)),
            (r#""1234567890123456789012345678901234567890""#, Some(i64::MAX)),
            (r#""9999999999999999999999999999999999999Ei""#, Some(i64::MAX)),
            (r#""1.0000000000000000000000000000000000000000""#, Some(1000)),
        ] {
            assert_eq!(read(json), expected, "{json}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_passed_over() {
        for json in [
            r#""much""#,
            r#""1e""#,
            r#""1e+""#,
            r#""1Zi""#,
            r#""""#,
            "null",
            "true",
            "[1]",
            r#"{"a": 1}"#,
        ] {
            assert_eq!(read(json), None, "{json}");
        }
    }

    #[test]
    fn times_beyond_what_can_be_told_are_none() {
        let read = |json: &str| serde_json::from_str::<SomeTime>(json).unwrap().0;
        assert_eq!(read(r#""2023-11-14T22:13:20Z""#), Some(1_700_000_000_000));
        assert_eq!(read(r#""9999-12-31T23:59:59Z""#), None);
        assert_eq!(read(r#""yesterday""#), None);
    }
}
