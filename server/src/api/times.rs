//! Times and durations of parameters: what Go's parsers accept, nothing else.

use std::time::Duration;

use jiff::civil;
use model::{Timestamp, parse_duration};
use promql::quote::quoted;

/// Times are clamped to ± this many milliseconds (a hundred million years), so that no later sum overflows. Grafana
/// sends milliseconds where seconds are meant, which must not fail.
const TIME_MS_MAX: f64 = 4e18;

/// Prometheus's names for the ends of time, accepted where clients send them back.
const MIN_TIME_TEXT: &str = "-292273086-05-16T16:47:06Z";
const MAX_TIME_TEXT: &str = "+292277025-08-18T07:12:54.999999999Z";

/// Seconds since the epoch, to the millisecond, or RFC 3339.
pub(super) fn parse_time(text: &str) -> Result<Timestamp, String> {
    if let Some(seconds) = promql::parse_float(text)
        && seconds.is_finite()
    {
        return Ok(milliseconds(seconds));
    }
    match text {
        MIN_TIME_TEXT => Ok(milliseconds(f64::MIN)),
        MAX_TIME_TEXT => Ok(milliseconds(f64::MAX)),
        _ => rfc3339(text)
            .ok_or_else(|| format!("cannot parse {} to a valid timestamp", quoted(text))),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "clamped")]
fn milliseconds(seconds: f64) -> Timestamp {
    // Whole seconds and the rest apart: their product with 1000 would round differently.
    let (whole, rest) = (seconds.trunc(), seconds.fract());
    (whole * 1000.0 + (rest * 1000.0).round()).clamp(-TIME_MS_MAX, TIME_MS_MAX) as Timestamp
}

/// A time as Go's `time.Parse` reads RFC 3339: letters are capital and colons are not left out, but hours may have one digit, a comma
/// may be before decimals, of which there may be any number, and an offset may be of 24 hours and 60 minutes.
fn rfc3339(text: &str) -> Option<Timestamp> {
    let (date, time) = text.split_once('T')?;
    let mut date = date.split('-');
    let year = digits(date.next()?, 4)?;
    let month = digits(date.next()?, 2)?;
    let day = digits(date.next()?, 2)?;
    if date.next().is_some() {
        return None;
    }
    let (hour, rest) = time.split_once(':')?;
    let hour = digits(hour, hour.len().clamp(1, 2))?;
    let (minute, rest) = rest.split_once(':')?;
    let minute = digits(minute, 2)?;
    let second = digits(rest.get(..2)?, 2)?;
    let mut rest = &rest[2..];
    let mut ms = 0;
    if let Some(decimals) = rest.strip_prefix(['.', ',']) {
        let count = decimals.bytes().take_while(u8::is_ascii_digit).count();
        if count == 0 {
            return None;
        }
        ms = i64::from(digits(&format!("{decimals:0<3.count$}", count = count.min(3)), 3)?);
        rest = &decimals[count..];
    }
    if second > 59 {
        return None;
    }
    let small = |number: u16| i8::try_from(number).ok();
    let year = i16::try_from(year).ok()?;
    let local = civil::DateTime::new(
        year,
        small(month)?,
        small(day)?,
        small(hour)?,
        small(minute)?,
        small(second)?,
        0,
    );
    // Not by way of jiff's timestamps: they end a day before the last time that can be written.
    let epoch = civil::date(1970, 1, 1).at(0, 0, 0, 0);
    let local = local.ok()?.duration_since(epoch).as_secs();
    Some((local - offset(rest)?) * 1000 + ms)
}

/// Seconds that an offset is ahead of UTC.
fn offset(text: &str) -> Option<i64> {
    if text == "Z" {
        return Some(0);
    }
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = text.strip_prefix(['+', '-'])?.split_once(':')?;
    let (hours, minutes) = (digits(hours, 2)?, digits(minutes, 2)?);
    let seconds = (i64::from(hours) * 60 + i64::from(minutes)) * 60;
    (hours <= 24 && minutes <= 60).then_some(sign * seconds)
}

/// A number of so many digits.
fn digits(text: &str, count: usize) -> Option<u16> {
    let all = text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| all)
}

/// Seconds, or a duration in Prometheus's notation. A negative number is zero: where that is no good, the place that
/// uses it says so.
pub(super) fn parse_positive_duration(text: &str) -> Result<Duration, String> {
    /// Go counts nanoseconds in 63 bits.
    const NANOSECONDS_MAX: f64 = (1_u64 << 63) as f64;
    let invalid = || format!("cannot parse {} to a valid duration", quoted(text));
    let Some(seconds) = promql::parse_float(text) else {
        return parse_duration(text).map_err(|_| invalid());
    };
    let nanoseconds = seconds * 1e9;
    if nanoseconds.abs() > NANOSECONDS_MAX {
        return Err(format!("{}. It overflows int64", invalid()));
    }
    // NaN and what does not quite fit become negative there.
    if nanoseconds.is_nan() || nanoseconds >= NANOSECONDS_MAX {
        return Ok(Duration::ZERO);
    }
    // Cut off, not rounded: 1.001 s have a nanosecond less than a millisecond more than 1 s.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
    let nanoseconds = nanoseconds as u64;
    Ok(Duration::from_nanos(nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, expected) in [
            ("0", Ok(0)),
            ("1435781430.781", Ok(1_435_781_430_781)),
            ("1435781430.7814", Ok(1_435_781_430_781)),
            ("-1.5", Ok(-1_500)),
            ("1_600_001_000", Ok(1_600_001_000_000)),
            ("0x1p30", Ok(1_073_741_824_000)),
            ("1797000000000", Ok(1_797_000_000_000_000)),
            ("1e300", Ok(4_000_000_000_000_000_000)),
            (MIN_TIME_TEXT, Ok(-4_000_000_000_000_000_000)),
            (MAX_TIME_TEXT, Ok(4_000_000_000_000_000_000)),
            ("2015-07-01T20:10:51.781Z", Ok(1_435_781_451_781)),
            ("2015-07-01T20:10:51.7819Z", Ok(1_435_781_451_781)),
            ("1969-12-31T23:59:59.9995Z", Ok(-1)),
            ("2015-07-01T20:10:51+02:00", Ok(1_435_774_251_000)),
            ("2020-09-13T12:43:20.123456789123Z", Ok(1_600_001_000_123)),
            ("2020-09-13T12:43:20,5Z", Ok(1_600_001_000_500)),
            ("2020-09-13T2:43:20-10:00", Ok(1_600_001_000_000)),
            ("2020-09-14T13:43:20+24:60", Ok(1_600_001_000_000)),
            ("0000-01-01T00:00:00Z", Ok(-62_167_219_200_000)),
            ("2020-02-29T00:00:00Z", Ok(1_582_934_400_000)),
            // The first and the last that Go reads.
            ("0000-01-01T00:00:00+24:60", Ok(-62_167_309_200_000)),
            ("9999-12-30T22:00:01Z", Ok(253_402_207_201_000)),
            ("9999-12-31T00:00:00+02:00", Ok(253_402_207_200_000)),
            ("9999-12-31T23:59:59Z", Ok(253_402_300_799_000)),
            ("9999-12-31T23:59:59.9999-24:60", Ok(253_402_390_799_999)),
        ] {
            assert_eq!(parse_time(text), expected, "{text}");
        }
        for text in [
            "",
            "NaN",
            "inf",
            "1e400",
            "1__0",
            "tomorrow",
            "2020-09-13 12:43:20Z",
            "2020-09-13t12:43:20Z",
            "2020-09-13T12:43:20z",
            "2020-09-13T12:43Z",
            "20200913T124320Z",
            "2020-09-13T12:43:60Z",
            "2020-09-13T24:00:00Z",
            "2021-02-29T00:00:00Z",
            "9999-02-29T00:00:00Z",
            "10000-01-01T00:00:00Z",
            "2020-09-13T12:43:20",
            "2020-09-13T12:43:20.Z",
            "2020-09-13T12:43:20+0200",
            "2020-09-13T12:43:20+02",
            "2020-09-13T12:43:20+25:00",
            "2020-09-13T12:43:20Z[UTC]",
            "2020-09-13T12:43:20+02:00[Europe/Berlin]",
            "+2020-09-13T12:43:20Z",
            "2020-9-13T12:43:20Z",
            "2020-09-13T123:43:20Z",
            "2020-09-13T:43:20Z",
            "2020-09-13T12:43:2é",
        ] {
            let expected = format!("cannot parse {text:?} to a valid timestamp");
            assert_eq!(parse_time(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn durations() {
        for (text, expected) in [
            ("5m", Ok(300_000)),
            ("15", Ok(15_000)),
            ("1_0", Ok(10_000)),
            ("0x1p4", Ok(16_000)),
            ("0.5", Ok(500)),
            ("1.001", Ok(1_000)),
            ("0.029", Ok(29)),
            ("-1", Ok(0)),
            ("-Inf", Err(r#"cannot parse "-Inf" to a valid duration. It overflows int64"#)),
            ("x", Err(r#"cannot parse "x" to a valid duration"#)),
            ("", Err(r#"cannot parse "" to a valid duration"#)),
            ("NaN", Ok(0)),
            ("-NaN", Err(r#"cannot parse "-NaN" to a valid duration"#)),
            ("1e400", Err(r#"cannot parse "1e400" to a valid duration"#)),
            ("1e99", Err(r#"cannot parse "1e99" to a valid duration. It overflows int64"#)),
        ] {
            let parsed = parse_positive_duration(text).map(|d| d.as_millis());
            assert_eq!(parsed, expected.map_err(String::from), "{text}");
        }
    }
}
