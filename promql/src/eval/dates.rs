//! Calendar functions over seconds since 1970, UTC, in the proleptic Gregorian calendar.

use std::fmt::Write;

const DAY_SECONDS: u64 = 86_400;
/// Days of 400 years, after which the calendar repeats.
const CYCLE_DAYS: u64 = 146_097;
/// Days from 1 March of the year −292,277,022,400 to 1 January 1970. As in Go's `time`, times count from
/// there, so that every `i64` of seconds is a valid time.
const EPOCH_DAYS: u64 = 292_277_024_400 / 400 * CYCLE_DAYS - DAYS_FROM_CYCLE_TO_EPOCH;
/// Days from 1 January 1970 to 1 March 2000, where a cycle starts.
const DAYS_FROM_CYCLE_TO_EPOCH: u64 = 11_017;
const FIRST_YEAR: i64 = -292_277_022_400;

/// What to tell about a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DatePart {
    /// 0–59
    Minute,
    /// 0–23
    Hour,
    /// 0 is Sunday.
    DayOfWeek,
    /// 1–31
    DayOfMonth,
    /// 1–366
    DayOfYear,
    /// 28–31
    DaysInMonth,
    /// 1–12
    Month,
    /// 1970, …
    Year,
}

impl DatePart {
    /// The function of that name.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "minute" => Self::Minute,
            "hour" => Self::Hour,
            "day_of_week" => Self::DayOfWeek,
            "day_of_month" => Self::DayOfMonth,
            "day_of_year" => Self::DayOfYear,
            "days_in_month" => Self::DaysInMonth,
            "month" => Self::Month,
            "year" => Self::Year,
            _ => return None,
        })
    }

    /// This part of `seconds` since 1970; fractions are cut off.
    pub(super) fn of(self, seconds: f64) -> f64 {
        self.of_seconds(truncate(seconds))
    }

    #[expect(clippy::cast_precision_loss, reason = "parts of a date are small")]
    fn of_seconds(self, seconds: i64) -> f64 {
        let date = Date::from_unix(seconds);
        match self {
            Self::Minute => (date.second_of_day / 60 % 60) as f64,
            Self::Hour => (date.second_of_day / 3600) as f64,
            Self::DayOfWeek => date.weekday as f64,
            Self::DayOfMonth => date.day as f64,
            Self::DayOfYear => date.day_of_year() as f64,
            Self::DaysInMonth => days_in_month(date.year, date.month) as f64,
            Self::Month => date.month as f64,
            Self::Year => date.year as f64,
        }
    }
}

/// Go's conversion on amd64: what does not fit becomes the smallest integer.
#[expect(clippy::cast_possible_truncation, reason = "checked to be in range")]
fn truncate(v: f64) -> i64 {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if (-LIMIT..LIMIT).contains(&v) { v as i64 } else { i64::MIN }
}

struct Date {
    year: i64,
    month: u64,
    day: u64,
    weekday: u64,
    second_of_day: u64,
}

impl Date {
    fn from_unix(seconds: i64) -> Self {
        let since_first = seconds.cast_unsigned().wrapping_add(EPOCH_DAYS * DAY_SECONDS);
        let days = since_first / DAY_SECONDS;
        // Years start in March, so that the leap day is the last of its year.
        let (cycle, day_of_cycle) = (days / CYCLE_DAYS, days % CYCLE_DAYS);
        let century = (day_of_cycle / 36_524).min(3);
        let day_of_century = day_of_cycle - century * 36_524;
        let quad = day_of_century / 1461;
        let day_of_quad = day_of_century - quad * 1461;
        let year_of_quad = (day_of_quad / 365).min(3);
        let day_of_year = day_of_quad - year_of_quad * 365;
        let march_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * march_month + 2) / 5 + 1;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        let years = cycle * 400 + century * 100 + quad * 4 + year_of_quad;
        let year = FIRST_YEAR + years.cast_signed() + i64::from(month <= 2);
        // A cycle is a whole number of weeks and starts on a Wednesday.
        let weekday = (day_of_cycle + 3) % 7;
        Self { year, month, day, weekday, second_of_day: since_first % DAY_SECONDS }
    }

    fn day_of_year(&self) -> u64 {
        (1..self.month).map(|month| days_in_month(self.year, month)).sum::<u64>() + self.day
    }
}

fn days_in_month(year: i64, month: u64) -> u64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Appends `seconds` since 1970 as `2006-01-02T15:04:05Z`.
pub(super) fn write_rfc3339(out: &mut String, seconds: i64) {
    let date = Date::from_unix(seconds);
    let second = date.second_of_day;
    write!(
        out,
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        date.year,
        date.month,
        date.day,
        second / 3600,
        second / 60 % 60,
        second % 60,
    )
    .expect("writing to a string cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(seconds: i64, expected: &str, weekday: f64, day_of_year: f64) {
        let mut text = String::new();
        write_rfc3339(&mut text, seconds);
        assert_eq!(text, expected);
        assert_eq!(DatePart::DayOfWeek.of_seconds(seconds), weekday, "{expected}");
        assert_eq!(DatePart::DayOfYear.of_seconds(seconds), day_of_year, "{expected}");
    }

    #[test]
    fn known_dates() {
        check(0, "1970-01-01T00:00:00Z", 4.0, 1.0);
        check(-1, "1969-12-31T23:59:59Z", 3.0, 365.0);
        check(951_782_400, "2000-02-29T00:00:00Z", 2.0, 60.0);
        check(951_868_800, "2000-03-01T00:00:00Z", 3.0, 61.0);
        check(1_136_239_445, "2006-01-02T22:04:05Z", 1.0, 2.0);
        check(1_735_689_599, "2024-12-31T23:59:59Z", 2.0, 366.0);
        check(4_107_542_400, "2100-03-01T00:00:00Z", 1.0, 60.0);
        check(-62_135_596_800, "0001-01-01T00:00:00Z", 1.0, 1.0);
    }

    #[test]
    fn lengths_of_months() {
        for (seconds, days) in [(0.0, 31.0), (951_782_400.0, 29.0), (1_138_752_000.0, 28.0)] {
            assert_eq!(DatePart::DaysInMonth.of(seconds), days);
        }
    }

    #[test]
    fn fractions_are_cut_off_towards_zero() {
        assert_eq!(DatePart::Minute.of(59.999), 0.0);
        assert_eq!(DatePart::Year.of(-0.5), 1970.0);
    }

    #[test]
    fn what_is_no_time_does_not_panic() {
        for v in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -9.3e18] {
            assert!(DatePart::Year.of(v).is_finite());
            assert!((1.0..=31.0).contains(&DatePart::DayOfMonth.of(v)));
        }
    }
}
