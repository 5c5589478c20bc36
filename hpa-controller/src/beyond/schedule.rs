//! Bounds by the clock: rules that open and close by cron expressions.
//!
//! A rule holds from a time of its `start` until the next time of its `end`. When these are depends on the zone's rules, which differ
//! between machines; so the windows are worked out before a decision and are among its inputs.

use jiff::tz::TimeZone;
use model::Timestamp;
use serde::{Deserialize, Serialize};

use super::cron::Cron;

/// Most rules of a schedule.
const RULES_MAX: usize = 64;

/// When which bounds hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Schedule {
    /// Name of a time zone, such as `Europe/Berlin`.
    #[serde(default = "utc")]
    pub timezone: String,
    /// The rules.
    pub rules: Vec<Rule>,
}

fn utc() -> String {
    String::from("UTC")
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// Opens the window.
    pub start: Cron,
    /// Closes it; wins over a start at the same time.
    pub end: Cron,
    /// The lower bound meanwhile, if it is above the autoscaler's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_replicas: Option<i32>,
    /// The upper bound meanwhile, if it is below the autoscaler's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_replicas: Option<i32>,
}

/// A time in which a rule holds: the one that is open, or the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Window {
    /// Which rule, from 0.
    pub rule: usize,
    /// From when, in milliseconds since the epoch.
    pub from: Timestamp,
    /// Until when, in milliseconds since the epoch; not included.
    pub until: Timestamp,
}

impl Window {
    /// Whether it is open.
    #[must_use]
    pub const fn is_open(&self, now: Timestamp) -> bool {
        self.from <= now && now < self.until
    }
}

impl Schedule {
    /// Reads the JSON of the annotation.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let schedule: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        TimeZone::get(&schedule.timezone)
            .map_err(|_| format!("timezone {:?} is not known", schedule.timezone))?;
        if schedule.rules.is_empty() || schedule.rules.len() > RULES_MAX {
            return Err(format!("{} rules instead of 1-{RULES_MAX}", schedule.rules.len()));
        }
        for (at, rule) in schedule.rules.iter().enumerate() {
            let bounds = [("minReplicas", rule.min_replicas), ("maxReplicas", rule.max_replicas)];
            if bounds.iter().all(|(_, bound)| bound.is_none()) {
                return Err(format!("rules[{at}]: neither minReplicas nor maxReplicas is given"));
            }
            for (name, bound) in bounds {
                if bound.is_some_and(|bound| bound < 1) {
                    return Err(format!("rules[{at}].{name}: is less than 1"));
                }
            }
            if let (Some(min), Some(max)) = (rule.min_replicas, rule.max_replicas)
                && min > max
            {
                return Err(format!("rules[{at}]: minReplicas is more than maxReplicas"));
            }
            if rule.start == rule.end {
                return Err(format!("rules[{at}]: start and end are the same"));
            }
        }
        Ok(schedule)
    }

    /// For each rule, the window that is open at `now`, or else the next one.
    ///
    /// # Errors
    /// The time zone is not known here.
    pub fn windows(&self, now: Timestamp) -> Result<Vec<Window>, String> {
        let zone = TimeZone::get(&self.timezone)
            .map_err(|_| format!("timezone {:?} is not known", self.timezone))?;
        let windows =
            self.rules.iter().enumerate().filter_map(|(rule, Rule { start, end, .. })| {
                let closes = |from| {
                    // An end at the very time of the start wins: the window is empty.
                    end.next(from - 1, &zone).filter(|until| *until > from)
                };
                let open = start.last(now, &zone).and_then(|from| Some((from, closes(from)?)));
                let (from, until) = match open.filter(|(_, until)| *until > now) {
                    Some(open) => open,
                    None => {
                        let from = start.next(now, &zone)?;
                        (from, closes(from)?)
                    }
                };
                Some(Window { rule, from, until })
            });
        Ok(windows.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse::<jiff::Timestamp>().unwrap().as_millisecond()
    }

    fn schedule(start: &str, end: &str) -> Schedule {
        let text = format!(
            r#"{{"timezone":"Europe/Berlin","rules":[{{"start":"{start}","end":"{end}","minReplicas":5}}]}}"#
        );
        Schedule::parse(&text).unwrap()
    }

    fn check(start: &str, end: &str, now: &str, from: &str, until: &str) {
        let windows = schedule(start, end).windows(at(now)).unwrap();
        assert_eq!(windows, [Window { rule: 0, from: at(from), until: at(until) }], "{now}");
    }

    #[test]
    fn windows_that_are_open_or_come_next() {
        let office = ("0 8 * * 1-5", "0 18 * * 1-5");
        // Monday, 2026-11-23, +01:00.
        for (now, from, until) in [
            ("2026-11-23T06:59:59Z", "2026-11-23T07:00:00Z", "2026-11-23T17:00:00Z"),
            ("2026-11-23T07:00:00Z", "2026-11-23T07:00:00Z", "2026-11-23T17:00:00Z"),
            ("2026-11-23T16:59:59Z", "2026-11-23T07:00:00Z", "2026-11-23T17:00:00Z"),
            ("2026-11-23T17:00:00Z", "2026-11-24T07:00:00Z", "2026-11-24T17:00:00Z"),
            ("2026-11-28T12:00:00Z", "2026-11-30T07:00:00Z", "2026-11-30T17:00:00Z"),
        ] {
            check(office.0, office.1, now, from, until);
        }
        // Over midnight.
        let (from, until) = ("2026-11-23T21:00:00Z", "2026-11-24T05:00:00Z");
        check("0 22 * * *", "0 6 * * *", "2026-11-24T01:00:00Z", from, until);
    }

    #[test]
    fn windows_do_not_turn_round_where_clocks_change() {
        // 02:00 becomes 03:00 at 01:00 UTC on 2026-03-29.
        let from = "2026-03-29T01:00:00Z";
        check("30 2 * * *", "0 5 * * *", "2026-03-29T00:00:00Z", from, "2026-03-29T03:00:00Z");
        // The window is empty that day, and not open for a day.
        let empty = schedule("30 2 * * *", "0 3 * * *");
        let open = |now| empty.windows(at(now)).unwrap().iter().any(|w| w.is_open(at(now)));
        assert!(open("2026-03-28T01:30:00Z"));
        for now in ["2026-03-28T20:00:00Z", from, "2026-03-29T12:00:00Z"] {
            assert!(!open(now), "{now}");
        }
        // 03:00 becomes 02:00 at 01:00 UTC on 2026-10-25: 02:30 opens once, and 03:00 comes 90 minutes later.
        let (from, until) = ("2026-10-25T00:30:00Z", "2026-10-25T02:00:00Z");
        check("30 2 * * *", "0 3 * * *", "2026-10-25T01:45:00Z", from, until);
    }

    #[test]
    fn wrong_schedules_say_what_is_wrong() {
        let rule = r#"{"start":"0 8 * * *","end":"0 9 * * *","minReplicas":2}"#;
        for (text, error) in [
            ("{", "EOF while parsing an object at line 1 column 1"),
            (r#"{"rules":[]}"#, "0 rules instead of 1-64"),
            (
                &format!(r#"{{"timezone":"Mars/Base","rules":[{rule}]}}"#),
                "timezone \"Mars/Base\" is not known",
            ),
            (
                r#"{"rules":[{"start":"0 8 * * *","end":"0 9 * * *"}]}"#,
                "rules[0]: neither minReplicas nor maxReplicas is given",
            ),
            (
                r#"{"rules":[{"start":"0 8 * * *","end":"0 8 * * *","minReplicas":2}]}"#,
                "rules[0]: start and end are the same",
            ),
            (
                r#"{"rules":[{"start":"0 8 * * *","end":"0 9 * * *","minReplicas":0}]}"#,
                "rules[0].minReplicas: is less than 1",
            ),
        ] {
            assert_eq!(Schedule::parse(text).unwrap_err(), error, "{text}");
        }
        let wrong =
            Schedule::parse(r#"{"rules":[{"start":"8","end":"0 9 * * *","minReplicas":2}]}"#);
        assert!(wrong.unwrap_err().starts_with("1 fields instead of 5"));
    }
}
