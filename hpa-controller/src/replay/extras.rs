//! What the autoscaler's annotations ask for beyond upstream, as far as a replay follows it.

use model::Timestamp;

use super::{Scenario, Subject};
use crate::beyond::{Beyond, Policy, gather, parse};
use crate::decision::EventNote;
use crate::forecast::{Current, Demand, ForecastReading};

/// What is asked for, and what is wrong with it.
pub(super) struct Extras<'s> {
    policy: Policy,
    wrong: Vec<EventNote>,
    outlook: Option<Outlook<'s>>,
    /// A forecast is asked for, and there is no history.
    left_out: bool,
}

/// Forecasts as the controller makes them: fitted to what lies before, used for a while, fitted again. Here a fit is there at once,
/// where the controller's takes a moment in the background.
struct Outlook<'s> {
    demand: &'s Result<Demand, String>,
    current: Current,
}

impl Outlook<'_> {
    fn reading(&mut self, policy: &Policy, now: Timestamp) -> Result<ForecastReading, String> {
        let demand = self.demand.as_ref().map_err(Clone::clone)?;
        if self.current.is_due(now) {
            self.current.take(demand.fit(now), now);
        }
        let policy = policy.forecast.as_ref().ok_or("none is asked for")?;
        self.current.reading(policy, now)
    }
}

impl<'s> Extras<'s> {
    pub(super) fn of(subject: &Subject, scenario: &'s Scenario) -> Self {
        let (mut policy, wrong) = parse(&subject.annotations);
        let demand = scenario.forecast.as_ref().filter(|_| policy.forecast.is_some());
        let outlook = demand.map(|demand| Outlook { demand, current: Current::default() });
        let left_out = outlook.is_none() && policy.forecast.take().is_some();
        Self { policy, wrong, outlook, left_out }
    }

    /// What whoever reads the result should know.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes: Vec<String> = self.wrong.iter().map(|note| note.message.clone()).collect();
        if self.left_out {
            let why = "a load that is made up has no past: the forecast that annotations ask for is not made";
            notes.push(String::from(why));
        }
        if self.policy.owned_pods {
            let why = "pods are made up, and all are the target's: the selection by owner changes nothing";
            notes.push(String::from(why));
        }
        notes
    }

    /// Makes `beyond` what it is at `now`: windows of a schedule close, and others come; a forecast is made anew.
    pub(super) fn update(&mut self, beyond: &mut Beyond, now: Timestamp) {
        let stale = beyond.windows.iter().any(|window| window.until <= now);
        if stale || beyond.policy != self.policy {
            // Complaints about annotations are notes of the report, not events of every decision.
            *beyond = gather(&self.policy, &[], None, None, now);
        }
        if let Some(outlook) = &mut self.outlook {
            beyond.forecast = Some(outlook.reading(&self.policy, now));
        }
    }
}
