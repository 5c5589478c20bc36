//! From what is asked for to what a decision needs of it.

use model::Timestamp;

use super::{Beyond, LeftOut, PREFIX, Policy};
use crate::decision::{EventNote, EventType};
use crate::forecast::ForecastReading;

/// What a decision at `now`, or a little later, needs for `policy`. `wrong` are the complaints of [`parse`](super::parse), which the decision
/// tells; `forecast` is what a [`Forecaster`](crate::forecast::Forecaster) says, `None` where there is none; `left_out` the pods that
/// [`owners`](super::owners) left out.
#[must_use]
pub fn gather(
    policy: &Policy,
    wrong: &[EventNote],
    forecast: Option<Result<ForecastReading, String>>,
    left_out: Option<LeftOut>,
    now: Timestamp,
) -> Beyond {
    let mut problems = wrong.to_vec();
    let windows = match policy.schedule.as_ref().map(|schedule| schedule.windows(now)) {
        Some(Ok(windows)) => windows,
        Some(Err(why)) => {
            problems.push(EventNote {
                kind: EventType::Warning,
                reason: String::from("InvalidAnnotation"),
                message: format!("annotation {PREFIX}cron is ignored: {why}"),
            });
            Vec::new()
        }
        None => Vec::new(),
    };
    let forecast = policy.forecast.as_ref().map(|_| {
        forecast.unwrap_or_else(|| Err(String::from("no source of history is configured")))
    });
    let left_out = left_out.filter(|_| policy.owned_pods);
    Beyond { policy: policy.clone(), windows, forecast, left_out, problems }
}
