//! The story of a decision, for people: what runs, what each metric says, what became of it, what happens now.
//!
//! Everything is taken from the [`Explanation`], so that it reads the same wherever that comes from.

use std::cmp::Reverse;
use std::fmt::{self, Write};

use super::amount::{amount, ratio};
use super::document::rfc3339;
use super::{Explanation, MetricExplanation};
use crate::decision::{
    EventNote, LimitReason, PodAccount, Proposal, RateLimit, Ratio, Stabilization, TargetKind,
};
use crate::inputs::Recommendation;
use crate::words::{counted, span};

/// Names that are listed before the rest is only counted.
const NAMES_MAX: usize = 5;

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.head(f)?;
        self.metrics(f)?;
        self.course(f)?;
        self.result(f)?;
        self.conditions(f)?;
        list(f, "Events", &self.event_lines())?;
        list(f, "The API server would refuse this autoscaler", &self.invalid)?;
        list(f, "Notes", &self.notes)
    }
}

impl Explanation {
    fn head(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespace, name, at, target, bounds, .. } = self;
        writeln!(f, "{namespace}/{name} at {at}")?;
        let Some(scale) = &self.scale else {
            return writeln!(
                f,
                "{} {}: its scale could not be read, so nothing is known about its replicas.",
                target.kind, target.name
            );
        };
        writeln!(
            f,
            "{} {} asks for {} and has {}; {} to {} are allowed.",
            target.kind,
            target.name,
            replicas(scale.spec_replicas),
            scale.status_replicas,
            bounds.min_replicas,
            bounds.max_replicas,
        )?;
        match &self.pods.error {
            Some(error) => writeln!(f, "Its pods are not known: {error}."),
            None if scale.selector.is_empty() => {
                writeln!(f, "Its scale has no selector, so that its pods are not known.")
            }
            None if self.metrics.is_empty() => Ok(()),
            None => {
                writeln!(f, "Its selector {} matches {}.", scale.selector, pods(self.pods.matched))
            }
        }
    }

    fn metrics(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.metrics.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nMetrics")?;
        for metric in &self.metrics {
            let (number, title) = (metric.spec_index + 1, title(metric));
            match &metric.proposal {
                Some(proposal) => {
                    writeln!(f, "  {number}. {title}: {}", measured(metric, proposal))?;
                    proposed(f, metric, proposal)?;
                }
                None => {
                    writeln!(f, "  {number}. {title}: failed")?;
                    writeln!(f, "     {}", metric.error.as_deref().unwrap_or_default())?;
                }
            }
        }
        let failed = self.metrics.iter().filter(|metric| metric.proposal.is_none()).count();
        match self.proposed_replicas {
            Some(most) if self.metrics.len() > 1 => {
                let by = self.with_titles(&self.proposed_by);
                writeln!(f, "The most that a metric asks for is {most}: {by}.")?;
                if failed > 0 {
                    let all = self.metrics.len();
                    writeln!(
                        f,
                        "{failed} of {all} metrics failed, so that replicas may grow but not shrink."
                    )?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A text that begins with the name of the metric that asks for the most, as the story has that name.
    fn with_titles(&self, text: &str) -> String {
        let named =
            self.metrics.iter().filter(|it| !it.name.is_empty() && text.starts_with(&it.name));
        // Names begin with one another, and two metrics of one name may differ in their selectors. Of equal proposals the first wins.
        let by = named.min_by_key(|it| {
            let proposes = it.proposal.as_ref().map(|proposal| proposal.replicas);
            (Reverse(it.name.len()), proposes != self.proposed_replicas)
        });
        by.map_or_else(
            || text.to_owned(),
            |metric| format!("{}{}", title(metric), &text[metric.name.len()..]),
        )
    }

    /// What stabilization, rates, bounds and what is beyond upstream made of it.
    fn course(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bounds = &self.bounds;
        let mut text = String::new();
        if bounds.disabled_at_zero {
            text.push_str("The target is at zero replicas, which turns the autoscaler off unless it took the last one away itself.\n");
        } else if bounds.below_min || bounds.above_max {
            let current = self.current_replicas;
            let is = if current == 1 { "is" } else { "are" };
            let than = match bounds.below_min {
                true => format!("fewer than the lower bound {}", bounds.min_replicas),
                false => format!("more than the upper bound {}", bounds.max_replicas),
            };
            writeln!(text, "{} {is} {than}: no metric is asked.", replicas(current))?;
        }
        if let Some(stabilization) = &self.stabilization {
            writeln!(text, "Stabilization: {}.", self.stabilized(stabilization))?;
        }
        if let Some(limits) = &self.rate_limit {
            self.limits(&mut text, limits)?;
        }
        for note in &self.beyond.notes {
            writeln!(text, "Beyond upstream: {note}.")?;
        }
        if text.is_empty() { Ok(()) } else { write!(f, "\n{text}") }
    }

    fn stabilized(&self, stabilization: &Stabilization) -> String {
        let Stabilization { proposed, stabilized, recommendations, .. } = stabilization;
        let down = span(stabilization.down_window_ms);
        let up = stabilization.up_window_ms.filter(|window| *window > 0).map(span);
        if proposed == stabilized {
            let up = up.map(|up| format!(" (upwards: {up})")).unwrap_or_default();
            return format!("no recommendation of the last {down}{up} speaks against {proposed}");
        }
        let (which, window) = if stabilized > proposed {
            ("highest", down)
        } else {
            ("lowest", up.unwrap_or_default())
        };
        let seeded = |it: &Recommendation| {
            recommendations.len() == 1
                && it.replicas == self.current_replicas
                && rfc3339(it.at) == self.at
        };
        let from = match recommendations.iter().find(|it| it.replicas == *stabilized) {
            Some(it) if seeded(it) => {
                String::from(", what runs now, which a controller that starts takes for its first")
            }
            Some(it) => match self.at.parse::<jiff::Timestamp>() {
                Ok(now) => format!(", made {} ago", span(now.as_millisecond() - it.at)),
                Err(_) => format!(", made at {}", rfc3339(it.at)),
            },
            None => String::from(", kept at what runs now"),
        };
        format!(
            "{stabilized} instead of {proposed}, the {which} recommendation of the last {window}{from}"
        )
    }

    fn limits(&self, text: &mut String, limits: &RateLimit) -> fmt::Result {
        let (before, after) = (limits.stabilized, limits.limit.replicas);
        let way = if before > self.current_replicas { "up to" } else { "down to" };
        for policy in &limits.policies {
            let change = match policy.kind.as_str() {
                "Percent" => format!("{}%", policy.value),
                _ => counted(policy.value, "pod"),
            };
            let since = match (policy.added, policy.removed) {
                (0, 0) => String::from("nothing has changed since"),
                (added, 0) => format!("{added} added since"),
                (0, removed) => format!("{removed} removed since"),
                (added, removed) => format!("{added} added and {removed} removed since"),
            };
            let period = span(i64::from(policy.period_seconds) * 1000);
            writeln!(
                text,
                "Policy: {change} in {period} allows {way} {}; the period began with {} ({since}).",
                policy.allows, policy.base
            )?;
        }
        let bounds = &self.bounds;
        let doubling = "one decision may double the replicas, or go to 4, and no further";
        let why = match limits.limit.reason {
            LimitReason::DesiredWithinRange if before == self.current_replicas => {
                return writeln!(text, "Limits: none applies.");
            }
            LimitReason::DesiredWithinRange => {
                // Without policies nothing limits how fast replicas go.
                let limited = before > self.current_replicas || !limits.policies.is_empty();
                let rates = match limits.rate_limit.filter(|_| limited) {
                    Some(limit) => format!(" and the rates, which allow {way} {limit}"),
                    None => String::new(),
                };
                return writeln!(text, "Limits: {before} is within the bounds{rates}.");
            }
            LimitReason::TooFewReplicas => format!("the lower bound is {}", bounds.min_replicas),
            LimitReason::TooManyReplicas => format!("the upper bound is {}", bounds.max_replicas),
            LimitReason::ScaleUpLimit | LimitReason::ScaleDownLimit => match limits.select.as_str()
            {
                "" => String::from(doubling),
                "Disabled" => String::from("scaling in this direction is disabled"),
                "Min" => String::from("the strictest policy goes no further"),
                _ => String::from("no policy goes further"),
            },
        };
        writeln!(text, "Limits: {after} instead of {before}: {why}.")
    }

    fn result(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (current, desired) = (self.current_replicas, self.desired_replicas);
        let Self { reason, target, .. } = self;
        f.write_char('\n')?;
        if self.rescale {
            let because = match reason.as_str() {
                "" => String::new(),
                reason => format!(": {}", self.with_titles(reason)),
            };
            writeln!(
                f,
                "=> {} {} is scaled from {current} to {desired}{because}.",
                target.kind, target.name
            )?;
            if let Some(failure) = self.events.iter().find(|event| event.reason == "FailedRescale")
            {
                writeln!(f, "   Writing that failed: {}", failure.message)?;
            }
        } else if self.scale.is_some() {
            writeln!(f, "=> Nothing changes: {} stay.", replicas(current))?;
        } else {
            writeln!(f, "=> Nothing changes.")?;
        }
        match &self.error {
            Some(error) => writeln!(f, "   The reconciliation ends with an error: {error}"),
            None => Ok(()),
        }
    }

    fn conditions(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let rows: Vec<[String; 4]> = self
            .conditions
            .iter()
            .map(|it| [it.type_.clone(), it.status.clone(), text(&it.reason), text(&it.message)])
            .collect();
        let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
        let [kind, status, reason] = [width(0), width(1), width(2)];
        let line = |row: &[String; 4]| {
            format!("{:kind$}  {:status$}  {:reason$}  {}", row[0], row[1], row[2], row[3])
        };
        list(f, "Conditions", &rows.iter().map(line).collect::<Vec<_>>())
    }

    fn event_lines(&self) -> Vec<String> {
        let kind = |it: &EventNote| format!("{:?}", it.kind);
        let kinds = self.events.iter().map(|it| kind(it).len()).max().unwrap_or(0);
        let reasons = self.events.iter().map(|it| it.reason.len()).max().unwrap_or(0);
        let line =
            |it: &EventNote| format!("{:kinds$}  {:reasons$}  {}", kind(it), it.reason, it.message);
        self.events.iter().map(line).collect()
    }
}

/// A metric's name as people say it. Names in messages are upstream's: they tell how utilization is measured, and hold selectors in the
/// notation of Go.
fn title(metric: &MetricExplanation) -> String {
    let MetricExplanation { name, kind, selector, .. } = metric;
    let name = match name.as_str() {
        "" => kind,
        name => name.strip_suffix(" (percentage of request)").unwrap_or_else(|| {
            let go =
                name.strip_suffix("(nil)").or_else(|| Some(name.split_once("(&LabelSelector")?.0));
            go.unwrap_or(name)
        }),
    };
    if selector.is_empty() { name.to_owned() } else { format!("{name}{{{selector}}}") }
}

/// What was measured, and what it is set against.
fn measured(metric: &MetricExplanation, proposal: &Proposal) -> String {
    let value = amount(&metric.resource, proposal.value_milli);
    let target = proposal.target_value;
    match proposal.target {
        TargetKind::Utilization => format!(
            "{}% of what is requested ({value} a pod), the target is {target}%",
            proposal.utilization_percent.unwrap_or_default()
        ),
        TargetKind::AverageValue => {
            let each = if proposal.pods.is_some() { "pod" } else { "replica" };
            format!("{value} a {each}, the target is {}", amount(&metric.resource, target))
        }
        TargetKind::Value => {
            format!("{value}, the target is {}", amount(&metric.resource, target))
        }
    }
}

fn proposed(
    f: &mut fmt::Formatter<'_>,
    metric: &MetricExplanation,
    proposal: &Proposal,
) -> fmt::Result {
    let judged = |it: &Ratio| {
        let is = if it.within_tolerance { "within" } else { "outside" };
        format!("{is} the tolerated {} to {}", ratio(it.tolerated_from), ratio(it.tolerated_to))
    };
    let first = &proposal.ratio;
    writeln!(f, "     ratio to the target: {}, {}", ratio(first.ratio), judged(first))?;
    if let Some(account) = &proposal.pods {
        left_out(f, metric, account)?;
    }
    if let Some(again) = &proposal.rebalanced {
        writeln!(
            f,
            "     ratio with values for them that speak against the change: {}, {}",
            ratio(again.ratio),
            judged(again)
        )?;
    }
    writeln!(f, "     {}: {}", replicas(proposal.replicas), proposal.because)
}

/// Pods that did not count, and why.
fn left_out(
    f: &mut fmt::Formatter<'_>,
    metric: &MetricExplanation,
    account: &PodAccount,
) -> fmt::Result {
    let PodAccount { ready, unready, missing, ignored, unknown } = account;
    let all = ready.len() + unready.len() + missing.len() + ignored.len();
    if ready.len() < all {
        let count = if ready.len() == 1 { "counts" } else { "count" };
        writeln!(f, "     {} of {} {count}", ready.len(), pods(all))?;
    }
    let reasoned = |(name, reason): &(std::sync::Arc<str>, crate::decision::PodReason)| {
        format!("{name}: {reason}")
    };
    for (what, out) in [("not ready", unready), ("ignored", ignored)] {
        if !out.is_empty() {
            writeln!(f, "     {what}: {}", named(out.iter().map(reasoned)))?;
        }
    }
    if !missing.is_empty() {
        let names = missing.iter().map(ToString::to_string);
        writeln!(f, "     without a value: {}", named(names))?;
    }
    if !unknown.is_empty() {
        let names = named(unknown.iter().map(ToString::to_string));
        let averaged = metric
            .proposal
            .as_ref()
            .is_some_and(|proposal| proposal.target == TargetKind::AverageValue);
        let what = if averaged { "their values count" } else { "their values do not count" };
        writeln!(f, "     not among the pods ({what}): {names}")?;
    }
    Ok(())
}

/// The first few of many.
pub(super) fn named(items: impl ExactSizeIterator<Item = String>) -> String {
    let more = items.len().saturating_sub(NAMES_MAX);
    let mut text = items.take(NAMES_MAX).collect::<Vec<_>>().join("; ");
    if more > 0 {
        // Writing to a string cannot fail.
        let _ = write!(text, "; and {more} more");
    }
    text
}

fn replicas(count: i32) -> String {
    counted(count, "replica")
}

fn pods(count: usize) -> String {
    counted(i64::try_from(count).unwrap_or(i64::MAX), "pod")
}

/// A heading and a line each, if there are any.
fn list(f: &mut fmt::Formatter<'_>, heading: &str, lines: &[String]) -> fmt::Result {
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(f, "\n{heading}")?;
    lines.iter().try_for_each(|line| writeln!(f, "  {line}"))
}
