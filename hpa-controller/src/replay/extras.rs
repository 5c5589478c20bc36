//! What the autoscaler's annotations ask for beyond upstream, as far as a replay follows it.

use model::Timestamp;

use super::Subject;
use crate::beyond::{Beyond, Policy, gather, parse};
use crate::decision::EventNote;

/// What is asked for, and what is wrong with it.
pub(super) struct Extras {
    policy: Policy,
    wrong: Vec<EventNote>,
    has_forecast: bool,
}

impl Extras {
    pub(super) fn of(subject: &Subject) -> Self {
        let (mut policy, wrong) = parse(&subject.annotations);
        // A forecast is made from what lies before each decision, over weeks: that is not asked for here.
        let has_forecast = policy.forecast.take().is_some();
        Self { policy, wrong, has_forecast }
    }

    /// What whoever reads the result should know.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes: Vec<String> = self.wrong.iter().map(|note| note.message.clone()).collect();
        if self.has_forecast {
            notes.push(String::from("the forecast that annotations ask for is not followed"));
        }
        notes
    }

    /// Makes `beyond` what it is at `now`: windows of a schedule close, and others come.
    pub(super) fn update(&self, beyond: &mut Beyond, now: Timestamp) {
        let stale = beyond.windows.iter().any(|window| window.until <= now);
        if stale || beyond.policy != self.policy {
            // Complaints about annotations are notes of the report, not events of every decision.
            *beyond = gather(&self.policy, &[], None, None, now);
        }
    }
}
