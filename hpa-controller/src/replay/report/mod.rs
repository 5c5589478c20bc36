//! What came of autoscalers side by side: as a table, as JSON, as a page.

mod html;
mod json;
mod plot;
mod rows;
mod table;

use std::time::Duration;

use model::{Timestamp, format_duration};

pub use html::html;
pub use json::json;
pub use table::table;

use super::extras::Extras;
use super::figures::{Figures, Reproduction};
use super::run::{Forecasts, Trace};
use super::scenario::{Found, Model, Scenario, Signal};
use super::{Grid, Subject, instant};
use crate::beyond;
use crate::words::span;

/// What all autoscalers of a report were tried on.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Where the history comes from, or what the load is: for people.
    pub source: String,
    /// The load was made up: times are told from the start.
    pub simulated: bool,
    /// When decisions were made.
    pub grid: Grid,
    /// What is assumed.
    pub model: Model,
    /// How long a new pod takes no load.
    pub startup_delay: Duration,
    /// A change that reverses the one before within this time is a flap.
    pub flap_window: Duration,
}

/// What came of one autoscaler.
#[derive(Clone, Debug)]
pub struct Outcome {
    label: String,
    namespace: String,
    name: String,
    /// Kind and name.
    target: String,
    bounds: (i32, i32),
    figures: Figures,
    recorded: Option<Figures>,
    reproduction: Option<Reproduction>,
    trace: Trace,
    signals: Vec<Signal>,
    recorded_replicas: Option<Vec<f64>>,
    found: Vec<Found>,
    notes: Vec<String>,
}

impl Outcome {
    /// What `trace`, made from `scenario`, comes to.
    #[must_use]
    pub fn new(setting: &Setting, subject: &Subject, scenario: Scenario, trace: Trace) -> Self {
        let mut notes = scenario.notes.clone();
        notes.extend(Extras::of(subject, &scenario).notes());
        notes.extend(forecast_note(subject, &trace));
        let flap_window_ms = i64::try_from(setting.flap_window.as_millis()).unwrap_or(i64::MAX);
        let figures = Figures::of_trace(&trace, &scenario, flap_window_ms);
        let recorded = scenario.recorded.as_ref().map(|recorded| {
            let steps = recorded.len().saturating_sub(1);
            Figures::of_replicas(&recorded[..steps], None, &scenario, flap_window_ms)
        });
        let reproduction =
            scenario.recorded.as_ref().and_then(|recorded| Reproduction::of(&trace, recorded));
        let target = &subject.spec.scale_target_ref;
        Self {
            label: subject.label.clone(),
            namespace: subject.namespace.clone(),
            name: subject.name.clone(),
            target: format!("{}/{}", target.kind, target.name),
            bounds: (subject.spec.min_replicas.unwrap_or(1), subject.spec.max_replicas),
            figures,
            recorded,
            reproduction,
            trace,
            signals: scenario.signals.into_iter().flatten().collect(),
            recorded_replicas: scenario.recorded,
            found: scenario.found,
            notes,
        }
    }

    /// The numbers.
    #[must_use]
    pub const fn figures(&self) -> &Figures {
        &self.figures
    }

    /// How near it comes to what was recorded.
    #[must_use]
    pub const fn reproduction(&self) -> Option<&Reproduction> {
        self.reproduction.as_ref()
    }

    /// What it was tried on, so that what was recorded is shown once for several.
    fn same_target(&self, other: &Self) -> bool {
        self.namespace == other.namespace && self.target == other.target
    }
}

/// What forecasts did, if annotations ask for them.
fn forecast_note(subject: &Subject, trace: &Trace) -> Option<String> {
    let policy = beyond::parse(&subject.annotations).0.forecast?;
    let Forecasts { made, raised, failed } = &trace.forecasts;
    let all = trace.after.len();
    let mut note = match (*made, policy.apply) {
        (0, _) if failed.is_empty() => return None,
        (0, _) => String::from("no forecast could be made"),
        (made, true) => format!(
            "forecasts were made for {made} of {all} decisions and raised what metrics proposed in {raised}"
        ),
        (made, false) => format!(
            "forecasts were made for {made} of {all} decisions as a preview, which changes nothing; they would have raised what metrics proposed in {raised}"
        ),
    };
    if let Some((why, _)) = failed.first() {
        let others = if failed.len() > 1 { ", and others" } else { "" };
        let without = all.saturating_sub(trace.forecasts.made);
        note.push_str(&format!("; {without} went without one: {why}{others}"));
    }
    Some(note)
}

/// Autoscalers side by side.
#[derive(Clone, Debug)]
pub struct Report {
    /// What they were tried on.
    pub setting: Setting,
    /// What came of each, in the order in which they were given.
    pub outcomes: Vec<Outcome>,
}

impl Report {
    /// Whether what was recorded is to be shown with the outcome of this index: the first of its target.
    fn shows_recorded(&self, index: usize) -> bool {
        let outcome = &self.outcomes[index];
        outcome.recorded.is_some()
            && !self.outcomes[..index].iter().any(|before| before.same_target(outcome))
    }

    /// How what was recorded for an outcome is called.
    fn recorded_label(&self, index: usize) -> String {
        let outcome = &self.outcomes[index];
        if self.outcomes.iter().all(|other| other.same_target(outcome)) {
            return String::from("recorded");
        }
        format!("recorded {}/{}", outcome.namespace, outcome.target)
    }

    /// What is assumed, a sentence each.
    fn assumptions(&self) -> Vec<String> {
        let setting = &self.setting;
        let period = span(setting.grid.step_ms());
        let mut sentences = vec![if setting.simulated {
            format!(
                "Simulation of {} on {}, a decision every {period}.",
                span(setting.grid.to() - setting.grid.from()),
                setting.source
            )
        } else {
            format!(
                "Replay of {} from {} to {} on {}, a decision every {period}.",
                span(setting.grid.to() - setting.grid.from()),
                instant(setting.grid.from()),
                instant(setting.grid.to()),
                setting.source
            )
        }];
        let shares = "shared evenly by the replicas of the replay that have started";
        sentences.push(if setting.simulated {
            format!("Model load: the demand is {shares}.")
        } else {
            format!("Model {}.", setting.model.sentence())
        });
        sentences.push(format!(
            "A new pod is not ready and takes no load for {}. A flap is a change that reverses the one before within {}.",
            format_duration(setting.startup_delay),
            format_duration(setting.flap_window)
        ));
        sentences
    }
}

/// A time within the report: from the start if it is made up.
fn moment(setting: &Setting, at: Timestamp) -> String {
    if setting.simulated {
        return format!("+{}", span(at - setting.grid.from()));
    }
    instant(at)
}

/// Steps at which a list has another value than before, the first included; NaN is one value.
fn changes(values: impl Iterator<Item = f64>) -> Vec<(usize, f64)> {
    let mut changes: Vec<(usize, f64)> = Vec::new();
    for (step, value) in values.enumerate() {
        let same = |(_, last): &(usize, f64)| {
            last.total_cmp(&value).is_eq() || (last.is_nan() && value.is_nan())
        };
        if !changes.last().is_some_and(same) {
            changes.push((step, value));
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_begin_with_the_first_value() {
        let values = [f64::NAN, f64::NAN, 1.0, 1.0, 2.0];
        let changes = changes(values.into_iter());
        assert_eq!(changes.len(), 3);
        assert!(changes[0].1.is_nan());
        assert_eq!(changes[1..], [(2, 1.0), (4, 2.0)]);
    }
}
