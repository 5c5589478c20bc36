//! Cron expressions: five fields, in the time of a zone.
//!
//! Where the clocks go forward, what would fall into the hour that does not exist happens at the change; where they go back,
//! what falls into the repeated hour happens the first time only. So later texts of a day never happen before earlier ones, and
//! a window that opens before it closes does so on those days too (it may be empty).

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp as Instant;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};
use model::Timestamp;
use serde::{Deserialize, Serialize};

/// Days that are looked through for the next or the last time: 29 February comes at least every eight years.
const DAYS_MAX: usize = 8 * 366 + 1;

/// Longest expression, in bytes.
const TEXT_MAX: usize = 512;

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// A cron expression: minute, hour, day of the month, month, day of the week (0 and 7 are Sunday).
///
/// `*`, numbers, names of months and weekdays, ranges, steps and lists of them. If both kinds of days are restricted, either
/// suffices.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cron {
    text: String,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether the day of the month, and the day of the week, are other than `*`.
    restricted: (bool, bool),
}

/// Why a text is not a cron expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// There are not five fields.
    #[error("{0} fields instead of 5 (minute, hour, day of month, month, day of week)")]
    Fields(usize),
    /// It is longer than any sensible one.
    #[error("longer than {TEXT_MAX} bytes")]
    TooLong,
    /// One of the fields is wrong.
    #[error("{field}: {value:?} is not within {low}-{high}")]
    Value {
        /// Which field.
        field: &'static str,
        /// What is wrong in it.
        value: String,
        /// Its smallest value.
        low: u32,
        /// Its largest value.
        high: u32,
    },
    /// No day has that date.
    #[error("never happens")]
    Never,
}

struct Field {
    name: &'static str,
    low: u32,
    high: u32,
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { name: "minute", low: 0, high: 59, names: &[] },
    Field { name: "hour", low: 0, high: 23, names: &[] },
    Field { name: "day of month", low: 1, high: 31, names: &[] },
    Field { name: "month", low: 1, high: 12, names: &MONTHS },
    Field { name: "day of week", low: 0, high: 7, names: &WEEKDAYS },
];

impl Field {
    fn parse(&self, text: &str) -> Result<u64, CronError> {
        text.split(',').try_fold(0, |bits, part| Ok(bits | self.part(part)?))
    }

    fn part(&self, part: &str) -> Result<u64, CronError> {
        let wrong = || CronError::Value {
            field: self.name,
            value: part.chars().take(32).collect(),
            low: self.low,
            high: self.high,
        };
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => {
                let step = number(step).filter(|step| (1..=self.high).contains(step));
                (range, Some(step.ok_or_else(wrong)?))
            }
            None => (part, None),
        };
        let value = |text: &str| self.value(text).ok_or_else(wrong);
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (self.low, self.high),
            Some((first, last)) => (value(first)?, value(last)?),
            // `5/10` is `5-59/10`, as cron has it.
            None if step.is_some() => (value(range)?, self.high),
            None => (value(range)?, value(range)?),
        };
        if first > last {
            return Err(wrong());
        }
        let values = (first..=last).step_by(step.unwrap_or(1) as usize);
        Ok(values.fold(0, |bits, value| bits | (1 << value)))
    }

    fn value(&self, text: &str) -> Option<u32> {
        let named = self.names.iter().position(|name| text.eq_ignore_ascii_case(name));
        let value = match named {
            Some(at) => u32::try_from(at).ok()? + self.low,
            None => number(text)?,
        };
        (self.low..=self.high).contains(&value).then_some(value)
    }
}

/// At most two digits and nothing else.
fn number(text: &str) -> Option<u32> {
    let digits = (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

impl FromStr for Cron {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Self, CronError> {
        if text.len() > TEXT_MAX {
            return Err(CronError::TooLong);
        }
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err(CronError::Fields(fields.len()));
        };
        let [minutes, hours, days, months, weekdays] = &FIELDS;
        let weekdays = weekdays.parse(weekday)?;
        let cron = Self {
            text: fields.join(" "),
            minutes: minutes.parse(minute)?,
            hours: hours.parse(hour)?,
            days: days.parse(day)?,
            months: months.parse(month)?,
            // 7 is Sunday too.
            weekdays: (weekdays | (weekdays >> 7)) & 0x7f,
            restricted: (!day.starts_with('*'), !weekday.starts_with('*')),
        };
        // Without the day of the week, days such as 31 February remain.
        if cron.days_from(Date::constant(2000, 1, 1)).next().is_none() {
            return Err(CronError::Never);
        }
        Ok(cron)
    }
}

impl TryFrom<String> for Cron {
    type Error = CronError;

    fn try_from(text: String) -> Result<Self, CronError> {
        text.parse()
    }
}

impl From<Cron> for String {
    fn from(cron: Cron) -> Self {
        cron.text
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cron({:?})", self.text)
    }
}

impl Cron {
    /// The first time after `after`, in milliseconds since the epoch.
    #[must_use]
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let local = local(after, zone)?;
        let times = self.days_from(local.date()).flat_map(|date| {
            self.times(date).filter(move |time| date > local.date() || *time >= minute(local))
        });
        times.filter_map(|at| instant(at, zone)).find(|at| *at > after)
    }

    /// The last time not after `at`, in milliseconds since the epoch.
    #[must_use]
    pub fn last(&self, at: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let local = latest_local(at, zone)?;
        let times = self.days_until(local.date()).flat_map(|date| {
            self.times(date).rev().filter(move |time| date < local.date() || *time <= local)
        });
        times.filter_map(|time| instant(time, zone)).find(|time| *time <= at)
    }

    fn matches(&self, date: Date) -> bool {
        let has = |bits: u64, value: i8| bits & (1_u64 << value.clamp(0, 63)) != 0;
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        let days = match self.restricted {
            (true, true) => day || weekday,
            _ => day && weekday,
        };
        has(self.months, date.month()) && days
    }

    fn days_from(&self, first: Date) -> impl Iterator<Item = Date> {
        let days = std::iter::successors(Some(first), |date| date.tomorrow().ok());
        days.take(DAYS_MAX).filter(|date| self.matches(*date))
    }

    fn days_until(&self, last: Date) -> impl Iterator<Item = Date> {
        let days = std::iter::successors(Some(last), |date| date.yesterday().ok());
        days.take(DAYS_MAX).filter(|date| self.matches(*date))
    }

    fn times(&self, date: Date) -> impl DoubleEndedIterator<Item = DateTime> {
        let minutes = self.minutes;
        bits(self.hours).flat_map(move |hour| {
            bits(minutes)
                .map(move |minute| DateTime::from_parts(date, Time::constant(hour, minute, 0, 0)))
        })
    }
}

fn bits(bits: u64) -> impl DoubleEndedIterator<Item = i8> {
    (0..60_i8).filter(move |bit| bits & (1 << *bit) != 0)
}

fn local(at: Timestamp, zone: &TimeZone) -> Option<DateTime> {
    Some(zone.to_datetime(Instant::from_millisecond(at).ok()?))
}

/// The latest local time that has happened: in the second pass of a repeated hour, the end of the first.
fn latest_local(at: Timestamp, zone: &TimeZone) -> Option<DateTime> {
    let local = local(at, zone)?;
    match zone.to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Fold { before, .. } => {
            Some(before.to_datetime(Instant::from_millisecond(at).ok()?))
        }
        _ => Some(local),
    }
}

fn minute(local: DateTime) -> DateTime {
    DateTime::from_parts(local.date(), Time::constant(local.hour(), local.minute(), 0, 0))
}

/// When a local time happens; see the module.
fn instant(local: DateTime, zone: &TimeZone) -> Option<Timestamp> {
    let ambiguous = zone.to_ambiguous_timestamp(local);
    let instant = match ambiguous.offset() {
        AmbiguousOffset::Unambiguous { .. } => ambiguous.unambiguous().ok()?,
        AmbiguousOffset::Fold { .. } => ambiguous.earlier().ok()?,
        AmbiguousOffset::Gap { .. } => {
            let beyond = ambiguous.later().ok()?;
            zone.preceding(beyond).next().map_or(beyond, |change| change.timestamp())
        }
    };
    Some(instant.as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse::<Instant>().unwrap().as_millisecond()
    }

    fn berlin() -> TimeZone {
        TimeZone::get("Europe/Berlin").unwrap()
    }

    fn check(cron: &str, now: &str, last: &str, next: &str) {
        let parsed: Cron = cron.parse().unwrap();
        let now = at(now);
        assert_eq!(parsed.last(now, &berlin()), Some(at(last)), "last of {cron}");
        assert_eq!(parsed.next(now, &berlin()), Some(at(next)), "next of {cron}");
    }

    #[test]
    fn times_before_and_after() {
        // A Wednesday, noon in Berlin (+02:00).
        let now = "2026-07-15T10:00:00Z";
        check("0 8 * * 1-5", now, "2026-07-15T06:00:00Z", "2026-07-16T06:00:00Z");
        check("0 12 * * *", now, now, "2026-07-16T10:00:00Z");
        check("0 8 * * mon", now, "2026-07-13T06:00:00Z", "2026-07-20T06:00:00Z");
        check("*/20 * * * *", now, now, "2026-07-15T10:20:00Z");
        check("5/20 * * * *", now, "2026-07-15T09:45:00Z", "2026-07-15T10:05:00Z");
        check("0 0 1 JAN *", now, "2025-12-31T23:00:00Z", "2026-12-31T23:00:00Z");
        check("0 0 29 2 *", now, "2024-02-28T23:00:00Z", "2028-02-28T23:00:00Z");
        check("0 0 * * 7", now, "2026-07-11T22:00:00Z", "2026-07-18T22:00:00Z");
        // Either kind of day suffices once both are restricted.
        check("0 0 14 * 4", now, "2026-07-13T22:00:00Z", "2026-07-15T22:00:00Z");
    }

    #[test]
    fn where_clocks_go_forward_the_missing_hour_is_the_change() {
        // 2026-03-29: 02:00 becomes 03:00, at 01:00 UTC.
        check("30 2 * * *", "2026-03-29T00:59:59Z", "2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z");
        check("30 2 * * *", "2026-03-29T01:00:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z");
        check("0 3 * * *", "2026-03-29T00:59:59Z", "2026-03-28T02:00:00Z", "2026-03-29T01:00:00Z");
    }

    #[test]
    fn where_clocks_go_back_only_the_first_pass_counts() {
        // 2026-10-25: 03:00 becomes 02:00, at 01:00 UTC.
        check("30 2 * * *", "2026-10-25T00:29:59Z", "2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z");
        check("30 2 * * *", "2026-10-25T01:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z");
        check(
            "*/10 2 * * *",
            "2026-10-25T01:05:00Z",
            "2026-10-25T00:50:00Z",
            "2026-10-26T01:00:00Z",
        );
        check("0 3 * * *", "2026-10-25T01:05:00Z", "2026-10-24T01:00:00Z", "2026-10-25T02:00:00Z");
    }

    #[test]
    fn wrong_expressions_say_what_is_wrong() {
        for (text, error) in [
            ("0 8 * *", "4 fields instead of 5 (minute, hour, day of month, month, day of week)"),
            ("60 8 * * *", "minute: \"60\" is not within 0-59"),
            ("0 8-6 * * *", "hour: \"8-6\" is not within 0-23"),
            ("0 8 0 * *", "day of month: \"0\" is not within 1-31"),
            ("0 8 * foo *", "month: \"foo\" is not within 1-12"),
            ("0 8 * * 1,8", "day of week: \"8\" is not within 0-7"),
            ("*/0 8 * * *", "minute: \"*/0\" is not within 0-59"),
            ("+5 8 * * *", "minute: \"+5\" is not within 0-59"),
            ("0 8 31 2 *", "never happens"),
        ] {
            assert_eq!(text.parse::<Cron>().unwrap_err().to_string(), error, "{text}");
        }
        assert_eq!(" 0  8 * * 1-5".parse::<Cron>().unwrap().to_string(), "0 8 * * 1-5");
    }

    proptest::proptest! {
        #[test]
        fn the_next_time_is_the_last_one_once_it_has_come(
            minute in 0..60_u32, hour in 0..24_u32, now in 1_700_000_000_000..1_900_000_000_000_i64,
        ) {
            let cron: Cron = format!("{minute} {hour} * * *").parse().unwrap();
            let next = cron.next(now, &berlin()).unwrap();
            let last = cron.last(now, &berlin()).unwrap();
            proptest::prop_assert!(last <= now && now < next);
            proptest::prop_assert_eq!(cron.last(next, &berlin()), Some(next));
            proptest::prop_assert_eq!(cron.last(next - 1, &berlin()), Some(last));
            proptest::prop_assert_eq!(cron.next(last, &berlin()), Some(next));
        }
    }
}
