//! Values of flags as programs of the Kubernetes project read them: Go's booleans and durations.

use std::time::Duration;

/// A Go boolean: `true`, `1`, `t` and so on.
pub(crate) fn go_bool(text: &str) -> Result<bool, BadValue> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(BadValue::Bool),
    }
}

/// A Go duration that is not negative: `1m0s`, `1.5h`, `500ms`.
pub(crate) fn go_duration(text: &str) -> Result<Duration, BadValue> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(BadValue::Duration);
    }
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let (number, tail) = split_at_not(rest, |c| c.is_ascii_digit() || c == '.');
        let (unit, tail) = split_at_not(tail, |c| !c.is_ascii_digit() && c != '.');
        nanos = nanos.checked_add(part(number, unit)?).ok_or(BadValue::DurationRange)?;
        rest = tail;
    }
    // Go keeps nanoseconds in 63 bits: 292 years.
    let nanos = u64::try_from(nanos).ok().filter(|nanos| i64::try_from(*nanos).is_ok());
    nanos.map(Duration::from_nanos).ok_or(BadValue::DurationRange)
}

/// A Go duration above zero.
pub(crate) fn positive_go_duration(text: &str) -> Result<Duration, BadValue> {
    match go_duration(text)? {
        Duration::ZERO => Err(BadValue::Zero),
        duration => Ok(duration),
    }
}

fn split_at_not(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !belongs(c)).unwrap_or(text.len()))
}

/// Nanoseconds of one number with its unit; digits below a nanosecond are dropped.
fn part(number: &str, unit: &str) -> Result<u128, BadValue> {
    let scale: u128 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "" => return Err(BadValue::DurationUnit),
        _ => return Err(BadValue::Duration),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(BadValue::Duration);
    }
    let digits = |digits: &str| -> Result<u128, BadValue> {
        if digits.is_empty() {
            return Ok(0);
        }
        digits.parse::<u64>().map(u128::from).map_err(|_| BadValue::DurationRange)
    };
    // More digits than this are below a nanosecond whatever the unit.
    let fraction = &fraction[..fraction.len().min(18)];
    let power = 10_u128.pow(u32::try_from(fraction.len()).unwrap_or(0));
    Ok(digits(whole)? * scale + digits(fraction)? * scale / power)
}

/// Why a value is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadValue {
    #[error("must be true or false")]
    Bool,
    #[error("a duration is a number with a unit: 15s, 1m30s, 500ms")]
    Duration,
    #[error("missing unit in duration: 15s, not 15")]
    DurationUnit,
    #[error("out of range")]
    DurationRange,
    #[error("must be greater than 0")]
    Zero,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_go_s() {
        for (text, expected) in [
            ("0", Ok(Duration::ZERO)),
            ("0s", Ok(Duration::ZERO)),
            ("15s", Ok(Duration::from_secs(15))),
            ("+15s", Ok(Duration::from_secs(15))),
            ("1m0s", Ok(Duration::from_secs(60))),
            ("1h30m", Ok(Duration::from_secs(5400))),
            ("1.5h", Ok(Duration::from_secs(5400))),
            (".5s", Ok(Duration::from_millis(500))),
            ("1.s", Ok(Duration::from_secs(1))),
            ("500ms", Ok(Duration::from_millis(500))),
            ("1us1µs1μs1ns", Ok(Duration::from_nanos(3001))),
            ("0.0000000001s", Ok(Duration::ZERO)),
            ("0.1234567890123456789s", Ok(Duration::from_nanos(123_456_789))),
            ("2562047h", Ok(Duration::from_secs(2_562_047 * 3600))),
            ("2562048h", Err(BadValue::DurationRange)),
            ("99999999999999999999s", Err(BadValue::DurationRange)),
            ("15", Err(BadValue::DurationUnit)),
            ("1m15", Err(BadValue::DurationUnit)),
            ("", Err(BadValue::Duration)),
            ("-1s", Err(BadValue::Duration)),
            ("s", Err(BadValue::Duration)),
            (".s", Err(BadValue::Duration)),
            ("1.2.3s", Err(BadValue::Duration)),
            ("1d", Err(BadValue::Duration)),
            ("1 s", Err(BadValue::Duration)),
        ] {
            assert_eq!(go_duration(text), expected, "{text}");
        }
        assert_eq!(positive_go_duration("0s"), Err(BadValue::Zero));
    }

    #[test]
    fn booleans_are_go_s() {
        assert_eq!(["1", "T", "true", "True", "TRUE"].map(go_bool), [Ok(true); 5]);
        assert_eq!(["0", "f", "false", "False", "FALSE"].map(go_bool), [Ok(false); 5]);
        assert_eq!(["yes", "", "tRUE"].map(go_bool), [Err(BadValue::Bool); 3]);
    }
}
