//! What earlier recommendations make of a proposal, so that replicas do not follow every turn of a metric.

use model::Timestamp;

use crate::decision::Stabilization;
use crate::inputs::Recommendation;

/// Reason and message of the condition where nothing is changed.
pub(super) const READY: (&str, &str) =
    ("ReadyForNewScale", "recommended size matches current size");
const UP: (&str, &str) = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);
const DOWN: (&str, &str) = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);

/// The message that belongs to the reason of a stabilization.
#[must_use]
pub fn message(reason: &str) -> &'static str {
    [UP, DOWN].iter().find(|(name, _)| *name == reason).map_or(READY.1, |(_, message)| message)
}

/// With `behavior`: the reason if stabilization changes `proposed`.
#[must_use]
pub const fn reason_if_changed(current: i32, proposed: i32) -> &'static str {
    if proposed >= current { UP.0 } else { DOWN.0 }
}

/// Without `behavior`: the largest recommendation of the last `window_ms`, this one included. `proposed` is recorded.
pub fn plain(
    proposed: i32,
    window_ms: i64,
    recommendations: &mut Vec<Recommendation>,
    now: Timestamp,
) -> Stabilization {
    let age = |one: &Recommendation| now.saturating_sub(one.at);
    let within = filtered(recommendations, |one| age(one) <= window_ms);
    let stabilized = within.iter().map(|one| one.replicas).fold(proposed, i32::max);
    record(recommendations, proposed, now, |one| age(one) > window_ms);
    let reason = if stabilized == proposed { READY.0 } else { DOWN.0 };
    Stabilization {
        proposed,
        up_window_ms: None,
        down_window_ms: window_ms,
        recommendations: within,
        stabilized,
        reason: reason.to_owned(),
    }
}

/// With `behavior`: as near to `current` as the recommendations of either window, this one included, allow. `proposed` is
/// recorded.
pub fn with_windows(
    current: i32,
    proposed: i32,
    up_window_ms: i64,
    down_window_ms: i64,
    recommendations: &mut Vec<Recommendation>,
    now: Timestamp,
) -> Stabilization {
    let age = |one: &Recommendation| now.saturating_sub(one.at);
    let widest = up_window_ms.max(down_window_ms);
    let within = filtered(recommendations, |one| age(one) < widest);
    let newer_than =
        |window| within.iter().filter(move |one| age(one) < window).map(|one| one.replicas);
    let at_least = newer_than(up_window_ms).fold(proposed, i32::min);
    let at_most = newer_than(down_window_ms).fold(proposed, i32::max);
    let stabilized = current.max(at_least).min(at_most);
    record(recommendations, proposed, now, |one| age(one) > widest);
    let changed = stabilized != proposed;
    let reason = if changed { reason_if_changed(current, proposed) } else { READY.0 };
    Stabilization {
        proposed,
        up_window_ms: Some(up_window_ms),
        down_window_ms,
        recommendations: within,
        stabilized,
        reason: reason.to_owned(),
    }
}

/// The recommendations that count.
fn filtered(
    recommendations: &[Recommendation],
    counts: impl Fn(&Recommendation) -> bool,
) -> Vec<Recommendation> {
    recommendations.iter().copied().filter(|one| counts(one)).collect()
}

/// Puts a recommendation in the place of the last one that is too old to matter, so that the list stays as long as a window.
fn record(
    recommendations: &mut Vec<Recommendation>,
    replicas: i32,
    now: Timestamp,
    is_old: impl Fn(&Recommendation) -> bool,
) {
    let new = Recommendation { replicas, at: now };
    match recommendations.iter_mut().rfind(|one| is_old(one)) {
        Some(place) => *place = new,
        None => recommendations.push(new),
    }
}
