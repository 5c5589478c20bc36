//! Times and durations as `metav1.Time` and `metav1.Duration` write them.

/// Appends a time, given in seconds since the epoch, as RFC 3339 in UTC to the second.
///
/// Years outside 1 to 9999 are written as the nearest second that RFC 3339 can say.
pub fn write_time(out: &mut Vec<u8>, seconds: i64) {
    const DAY_S: i64 = 86_400;
    let seconds = seconds.clamp(-62_135_596_800, 253_402_300_799);
    let (days, second) = (seconds.div_euclid(DAY_S), seconds.rem_euclid(DAY_S));
    let (year, month, day) = date(days);
    let mut text = *b"0000-00-00T00:00:00Z";
    for (at, value) in [
        (0, year / 100),
        (2, year % 100),
        (5, month),
        (8, day),
        (11, second / 3600),
        (14, second / 60 % 60),
        (17, second % 60),
    ] {
        put_pair(&mut text[at..at + 2], value);
    }
    out.extend_from_slice(&text);
}

/// Writes a number below 100 as two digits.
fn put_pair(digits: &mut [u8], value: i64) {
    let value = u8::try_from(value).unwrap_or(0);
    digits[0] = b'0' + value / 10;
    digits[1] = b'0' + value % 10;
}

/// The date that is `days` days after 1970-01-01 in the Gregorian calendar.
///
/// Years are counted from March, so that the day of a leap year comes last; 400 of them are an
/// era of 146,097 days.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// Appends a duration, given in milliseconds, as Go prints it: `15.123s`, `1m30s`, `500ms`.
pub fn write_duration(out: &mut Vec<u8>, ms: i64) {
    let mut number = itoa::Buffer::new();
    let mut put = |out: &mut Vec<u8>, value: u64, unit: &str| {
        out.extend_from_slice(number.format(value).as_bytes());
        out.extend_from_slice(unit.as_bytes());
    };
    if ms < 0 {
        out.push(b'-');
    }
    let ms = ms.unsigned_abs();
    if ms == 0 {
        return out.extend_from_slice(b"0s");
    }
    if ms < 1000 {
        return put(out, ms, "ms");
    }
    let seconds = ms / 1000;
    if seconds >= 3600 {
        put(out, seconds / 3600, "h");
    }
    if seconds >= 60 {
        put(out, seconds / 60 % 60, "m");
    }
    put(out, seconds % 60, "");
    let fraction = u16::try_from(ms % 1000).unwrap_or(0);
    if fraction > 0 {
        let digit = |value: u16| b'0' + u8::try_from(value % 10).unwrap_or(0);
        let digits = [digit(fraction / 100), digit(fraction / 10), digit(fraction)];
        let used = if fraction.is_multiple_of(100) {
            1
        } else if fraction.is_multiple_of(10) {
            2
        } else {
            3
        };
        out.push(b'.');
        out.extend_from_slice(&digits[..used]);
    }
    out.push(b's');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn time(seconds: i64) -> String {
        let mut out = Vec::new();
        write_time(&mut out, seconds);
        String::from_utf8(out).unwrap()
    }

    fn duration(ms: i64) -> String {
        let mut out = Vec::new();
        write_duration(&mut out, ms);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn times_are_rfc_3339() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (i64::MAX, "9999-12-31T23:59:59Z"),
            (i64::MIN, "0001-01-01T00:00:00Z"),
        ] {
            assert_eq!(time(seconds), text);
        }
    }

    #[test]
    fn durations_are_as_go_prints_them() {
        for (ms, text) in [
            (0, "0s"),
            (1, "1ms"),
            (999, "999ms"),
            (1000, "1s"),
            (15_123, "15.123s"),
            (10_100, "10.1s"),
            (10_010, "10.01s"),
            (10_001, "10.001s"),
            (60_000, "1m0s"),
            (90_500, "1m30.5s"),
            (3_600_000, "1h0m0s"),
            (-1500, "-1.5s"),
        ] {
            assert_eq!(duration(ms), text);
        }
    }

    proptest! {
        #[test]
        fn times_agree_with_a_calendar(seconds in -62_135_596_800i64..=253_402_300_799) {
            let expected = jiff::Timestamp::from_second(seconds).unwrap().to_string();
            prop_assert_eq!(time(seconds), expected);
        }
    }
}
