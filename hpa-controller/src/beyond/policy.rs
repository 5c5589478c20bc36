//! What an autoscaler asks for beyond upstream, read from its annotations.
//!
//! A feature with anything wrong in its annotations is off as a whole and a Warning says so: half of what was asked for could scale in
//! a way that nobody asked for.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use metrics_api::Quantity;
use model::Timestamp;
use serde::{Deserialize, Serialize};

use super::schedule::Schedule;
use crate::decision::{EventNote, EventType};

/// What all annotations begin with.
pub const PREFIX: &str = "autoscaling.sextant.dev/";

/// Longest value of an annotation, in bytes; Kubernetes allows 256 KiB for all of them.
const VALUE_BYTES_MAX: usize = 16 << 10;
/// How long metrics must be lost before a fallback, unless it is said.
const FALLBACK_AFTER: Duration = Duration::from_secs(180);
/// The window of a flap budget, unless it is said.
const FLAP_WINDOW: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Most turns that a budget may grant.
const FLAPS_MAX: u32 = 100;

/// What is asked for. Nothing by default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    /// Replicas are held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
    /// Bounds by the clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// What to do once metrics are lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
    /// What is to come counts too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forecast: Option<ForecastPolicy>,
    /// Only pods that the target owns count.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub owned_pods: bool,
    /// How often replicas may turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flap_budget: Option<FlapBudget>,
}

/// Replicas are held.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pause {
    /// Until when, in milliseconds since the epoch; `None`: until the annotation goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// At how many; `None`: at as many as there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
}

/// What to do where metrics are lost so that upstream keeps the replicas. It never asks for fewer than there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fallback {
    /// To how many replicas.
    pub to: FallbackTo,
    /// How long metrics must be lost, in milliseconds.
    pub after_ms: i64,
}

/// To how many replicas to fall back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FallbackTo {
    /// As many as there are: what upstream does, with an event that says so.
    Hold,
    /// What metrics proposed last.
    LastKnown,
    /// So many.
    Replicas(i32),
}

/// What is to come counts too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ForecastPolicy {
    /// It may raise replicas; otherwise it is only recorded.
    pub apply: bool,
    /// A PromQL expression of one series: demand in any unit.
    pub query: String,
    /// How much of that demand one replica serves, in thousandths; 1000 if the expression counts replicas.
    pub per_replica_milli: i64,
    /// After how long demand repeats, in milliseconds.
    pub season_ms: i64,
    /// How far to look ahead, in milliseconds.
    pub horizon_ms: i64,
}

/// How often replicas may turn from growing to shrinking or back; what is beyond is held at scaling down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FlapBudget {
    /// Turns within the window.
    pub turns: u32,
    /// Length of the window in milliseconds.
    pub window_ms: i64,
}

/// Annotations of one feature, read together.
struct Feature<'a> {
    annotations: &'a BTreeMap<String, String>,
    wrong: Vec<EventNote>,
}

impl<'a> Feature<'a> {
    /// The value of an annotation as `read` understands it; `None` if it is missing or wrong.
    fn read<T, E: Display>(
        &mut self,
        name: &str,
        read: impl FnOnce(&'a str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.annotations.get(&format!("{PREFIX}{name}"))?;
        let read = if text.len() > VALUE_BYTES_MAX {
            Err(format!("is longer than {VALUE_BYTES_MAX} bytes"))
        } else {
            read(text).map_err(|error| error.to_string())
        };
        read.map_err(|why| self.refuse(name, &why)).ok()
    }

    fn refuse(&mut self, name: &str, why: &str) {
        self.wrong.push(EventNote {
            kind: EventType::Warning,
            reason: String::from("InvalidAnnotation"),
            message: format!("annotation {PREFIX}{name} is ignored: {why}"),
        });
    }

    /// An annotation that means nothing without another one.
    fn needs(&mut self, name: &str, other: &str) {
        if self.annotations.contains_key(&format!("{PREFIX}{name}")) {
            self.refuse(name, &format!("{PREFIX}{other} is missing"));
        }
    }
}

/// Reads annotations. What is wrong is ignored, each with an event that says what and why.
#[must_use]
pub fn parse(annotations: &BTreeMap<String, String>) -> (Policy, Vec<EventNote>) {
    let from = String::from(PREFIX);
    let asked = annotations.range(from..).next();
    if asked.is_none_or(|(name, _)| !name.starts_with(PREFIX)) {
        return (Policy::default(), Vec::new());
    }
    let mut wrong = unknown(annotations);
    let policy = Policy {
        pause: feature(annotations, &mut wrong, pause),
        schedule: feature(annotations, &mut wrong, |f| f.read("cron", Schedule::parse)),
        fallback: feature(annotations, &mut wrong, fallback),
        forecast: feature(annotations, &mut wrong, forecast),
        owned_pods: feature(annotations, &mut wrong, |f| f.read("pods", owned)).unwrap_or(false),
        flap_budget: feature(annotations, &mut wrong, flap_budget),
    };
    (policy, wrong)
}

/// Complaints about annotations that nothing reads: a slip of the pen must not look like a feature that does nothing.
fn unknown(annotations: &BTreeMap<String, String>) -> Vec<EventNote> {
    const KNOWN: [&str; 15] = [
        "cron",
        "fallback",
        "fallback-after",
        "flap-budget",
        "flap-window",
        "forecast",
        "forecast-horizon",
        "forecast-per-replica",
        "forecast-query",
        "forecast-season",
        "paused",
        "paused-replicas",
        "paused-until",
        "pods",
        "steered-spec",
    ];
    let names = annotations.keys().filter_map(|name| name.strip_prefix(PREFIX));
    let unknown = names.filter(|name| !KNOWN.contains(name)).take(KNOWN.len());
    let mut all = Feature { annotations, wrong: Vec::new() };
    unknown.for_each(|name| all.refuse(name, "there is no such annotation"));
    all.wrong
}

fn feature<'a, T>(
    annotations: &'a BTreeMap<String, String>,
    wrong: &mut Vec<EventNote>,
    read: impl FnOnce(&mut Feature<'a>) -> Option<T>,
) -> Option<T> {
    let mut feature = Feature { annotations, wrong: Vec::new() };
    let value = read(&mut feature).filter(|_| feature.wrong.is_empty());
    wrong.append(&mut feature.wrong);
    value
}

fn pause(feature: &mut Feature<'_>) -> Option<Pause> {
    let paused = feature.read("paused", |text| match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("is neither \"true\" nor \"false\""),
    });
    let until = feature.read("paused-until", |text| {
        text.parse::<jiff::Timestamp>()
            .map(jiff::Timestamp::as_millisecond)
            .map_err(|_| "is not a time such as 2026-01-31T08:00:00Z")
    });
    // A number alone pauses, as KEDA's does.
    let replicas = feature.read("paused-replicas", |text| replicas(text, 0));
    let asked = paused.unwrap_or(until.is_some() || replicas.is_some());
    asked.then_some(Pause { until, replicas })
}

fn fallback(feature: &mut Feature<'_>) -> Option<Fallback> {
    let to = feature.read("fallback", |text| match text {
        "hold" => Ok(FallbackTo::Hold),
        "last-known" => Ok(FallbackTo::LastKnown),
        number => replicas(number, 1)
            .map(FallbackTo::Replicas)
            .map_err(|_| "is none of hold, last-known and a number of replicas from 1"),
    });
    let after = feature.read("fallback-after", |text| duration(text, Duration::ZERO, DAY));
    if to.is_none() && feature.wrong.is_empty() {
        feature.needs("fallback-after", "fallback");
    }
    Some(Fallback { to: to?, after_ms: after.unwrap_or_else(|| ms(FALLBACK_AFTER)) })
}

fn forecast(feature: &mut Feature<'_>) -> Option<ForecastPolicy> {
    const OTHERS: [&str; 4] =
        ["forecast-query", "forecast-per-replica", "forecast-season", "forecast-horizon"];
    let apply = feature.read("forecast", |text| match text {
        "preview" => Ok(false),
        "apply" => Ok(true),
        _ => Err("is neither \"preview\" nor \"apply\""),
    });
    let Some(apply) = apply else {
        if feature.wrong.is_empty() {
            for name in OTHERS {
                feature.needs(name, "forecast");
            }
        }
        return None;
    };
    let query = feature.read("forecast-query", expression);
    if query.is_none() && feature.wrong.is_empty() {
        feature.refuse("forecast", &format!("{PREFIX}forecast-query is missing"));
    }
    let per_replica = feature.read("forecast-per-replica", |text| {
        let quantity: Quantity = text.parse().map_err(|error| format!("{error}"))?;
        match quantity.milli_value() {
            milli if milli > 0 => Ok(milli),
            _ => Err(String::from("is not a quantity above 0")),
        }
    });
    let minutes = |n: u64| Duration::from_secs(60 * n);
    let season = feature.read("forecast-season", |text| duration(text, minutes(60), 7 * DAY));
    let season_ms = season.unwrap_or_else(|| ms(DAY));
    let horizon = feature.read("forecast-horizon", |text| duration(text, minutes(1), DAY));
    let horizon_ms = horizon.unwrap_or_else(|| ms(minutes(15)));
    if horizon_ms > season_ms {
        feature.refuse("forecast-horizon", "is longer than the season");
    }
    let per_replica_milli = per_replica.unwrap_or(1000);
    Some(ForecastPolicy { apply, query: query?, per_replica_milli, season_ms, horizon_ms })
}

fn owned(text: &str) -> Result<bool, &'static str> {
    match text {
        "owned" => Ok(true),
        "selected" => Ok(false),
        _ => Err("is neither \"owned\" nor \"selected\""),
    }
}

fn flap_budget(feature: &mut Feature<'_>) -> Option<FlapBudget> {
    let turns = feature.read("flap-budget", |text| match text.parse() {
        Ok(turns) if turns <= FLAPS_MAX => Ok(turns),
        _ => Err(format!("is not a number from 0 to {FLAPS_MAX}")),
    });
    let minute = Duration::from_secs(60);
    let window = feature.read("flap-window", |text| duration(text, minute, 7 * DAY));
    if turns.is_none() && feature.wrong.is_empty() {
        feature.needs("flap-window", "flap-budget");
    }
    Some(FlapBudget { turns: turns?, window_ms: window.unwrap_or_else(|| ms(FLAP_WINDOW)) })
}

fn replicas(text: &str, low: i32) -> Result<i32, String> {
    match text.parse() {
        Ok(replicas) if replicas >= low => Ok(replicas),
        _ => Err(format!("is not a number of replicas from {low}")),
    }
}

fn duration(text: &str, low: Duration, high: Duration) -> Result<i64, String> {
    let duration = model::parse_duration(text).map_err(|error| error.to_string())?;
    if duration < low || duration > high {
        let [low, high] = [low, high].map(model::format_duration);
        return Err(format!("is not within {low}-{high}"));
    }
    Ok(ms(duration))
}

/// Whether it is PromQL of a vector. It is asked within the namespace, see [`crate::forecast`].
fn expression(text: &str) -> Result<String, String> {
    let parsed = promql::parse(text, &promql::ParseOptions::default());
    let parsed = parsed.map_err(|error| error.to_string())?;
    match parsed.value_type() {
        promql::ast::ValueType::Vector => Ok(String::from(text)),
        other => Err(format!("is a {other} instead of an instant vector")),
    }
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> (Policy, Vec<String>) {
        let annotations = pairs.iter().map(|(name, value)| {
            let name = if name.contains('/') { (*name).into() } else { format!("{PREFIX}{name}") };
            (name, String::from(*value))
        });
        let (policy, wrong) = parse(&annotations.collect());
        let told = wrong.into_iter().map(|event| {
            assert_eq!((event.kind, &*event.reason), (EventType::Warning, "InvalidAnnotation"));
            event.message
        });
        (policy, told.collect())
    }

    fn check(pairs: &[(&str, &str)], expected: Policy) {
        assert_eq!(read(pairs), (expected, Vec::new()), "{pairs:?}");
    }

    #[test]
    fn what_is_asked_for() {
        let nothing = Policy::default();
        check(&[("kubectl.kubernetes.io/last-applied-configuration", "{}")], nothing.clone());
        let pause = |until, replicas| Policy {
            pause: Some(Pause { until, replicas }),
            ..Policy::default()
        };
        check(&[("paused", "true")], pause(None, None));
        check(&[("paused", "false"), ("paused-replicas", "3")], nothing);
        check(&[("paused-replicas", "0")], pause(None, Some(0)));
        check(&[("paused-until", "1970-01-01T01:00:01+01:00")], pause(Some(1000), None));
        let fallback = |to, after_ms| Policy {
            fallback: Some(Fallback { to, after_ms }),
            ..Policy::default()
        };
        check(&[("fallback", "hold")], fallback(FallbackTo::Hold, 180_000));
        check(
            &[("fallback", "7"), ("fallback-after", "1m30s")],
            fallback(FallbackTo::Replicas(7), 90_000),
        );
        check(&[("pods", "owned")], Policy { owned_pods: true, ..Policy::default() });
        let budget = FlapBudget { turns: 4, window_ms: 7_200_000 };
        check(
            &[("flap-budget", "4"), ("flap-window", "2h")],
            Policy { flap_budget: Some(budget), ..Policy::default() },
        );
        let forecast = ForecastPolicy {
            apply: false,
            query: String::from("sum(rate(requests_total[5m]))"),
            per_replica_milli: 2_500,
            season_ms: 86_400_000,
            horizon_ms: 600_000,
        };
        check(
            &[
                ("forecast", "preview"),
                ("forecast-query", "sum(rate(requests_total[5m]))"),
                ("forecast-per-replica", "2500m"),
                ("forecast-horizon", "10m"),
            ],
            Policy { forecast: Some(forecast), ..Policy::default() },
        );
    }

    #[test]
    fn what_is_wrong_is_off_and_told() {
        let refused = |pairs: &[(&str, &str)], expected: &[&str]| {
            let expected = expected.iter().map(|told| format!("annotation {PREFIX}{told}"));
            assert_eq!(read(pairs), (Policy::default(), expected.collect()), "{pairs:?}");
        };
        refused(&[("paused", "yes")], &["paused is ignored: is neither \"true\" nor \"false\""]);
        refused(
            &[("paused", "true"), ("paused-until", "tomorrow")],
            &["paused-until is ignored: is not a time such as 2026-01-31T08:00:00Z"],
        );
        refused(
            &[("fallback", "0")],
            &["fallback is ignored: is none of hold, last-known and a number of replicas from 1"],
        );
        refused(
            &[("fallback", "hold"), ("fallback-after", "2d")],
            &["fallback-after is ignored: is not within 0s-1d"],
        );
        refused(
            &[("fallback-after", "1m")],
            &["fallback-after is ignored: autoscaling.sextant.dev/fallback is missing"],
        );
        refused(&[("pausd", "true")], &["pausd is ignored: there is no such annotation"]);
        refused(
            &[("forecast", "apply")],
            &["forecast is ignored: autoscaling.sextant.dev/forecast-query is missing"],
        );
        refused(
            &[("forecast", "apply"), ("forecast-query", "up[5m]")],
            &["forecast-query is ignored: is a range vector instead of an instant vector"],
        );
        refused(
            &[("forecast", "apply"), ("forecast-query", "up"), ("forecast-season", "30m")],
            &["forecast-season is ignored: is not within 1h-1w"],
        );
        refused(
            &[("forecast", "apply"), ("forecast-query", "up"), ("forecast-per-replica", "0")],
            &["forecast-per-replica is ignored: is not a quantity above 0"],
        );
        refused(
            &[("flap-budget", "-1")],
            &["flap-budget is ignored: is not a number from 0 to 100"],
        );
        refused(&[("cron", r#"{"rules":[]}"#)], &["cron is ignored: 0 rules instead of 1-64"]);
        refused(
            &[("cron", &"x".repeat(VALUE_BYTES_MAX + 1))],
            &["cron is ignored: is longer than 16384 bytes"],
        );
    }

    #[test]
    fn a_wrong_feature_leaves_the_others() {
        let (policy, told) = read(&[("paused", "true"), ("flap-budget", "many")]);
        assert_eq!(policy, Policy { pause: Some(Pause::default()), ..Policy::default() });
        assert_eq!(told.len(), 1);
    }
}
