//! From history to a model that stands in time.

use model::{MatchOp, Matcher, Timestamp};

use super::holt_winters::{Fitted, Seasonal};
use super::{SEASONS_MAX, STEPS_A_SEASON_MAX};
use crate::beyond::ForecastPolicy;
use crate::sources::History;

/// Steps are whole minutes.
const STEP_MS: i64 = 60_000;
/// A forecast is for what follows: the newest sample may be this many steps old.
const NEWEST_AGE_STEPS: usize = 3;

/// A model and the time that it stands at.
#[derive(Clone, Debug, PartialEq)]
pub struct Fit {
    fitted: Fitted,
    /// Time of the last step that was looked at.
    last: Timestamp,
    step_ms: i64,
    fitted_at: Timestamp,
    seasons: usize,
}

impl Fit {
    /// The largest demand from one time to another, at least 0: of all steps that the time touches.
    #[must_use]
    pub fn peak(&self, from: Timestamp, to: Timestamp) -> f64 {
        let steps = |at: Timestamp| at.saturating_sub(self.last).div_euclid(self.step_ms);
        // The step that holds at `from` began before it.
        let first = steps(from).max(1);
        let last = steps(to).max(first);
        let ahead = first..=last.min(first + 2 * STEPS_A_SEASON_MAX);
        ahead.map(|step| self.fitted.ahead(usize::try_from(step).unwrap_or(1))).fold(0.0, f64::max)
    }

    /// Root mean square of the errors one step ahead.
    #[must_use]
    pub fn typical_error(&self) -> f64 {
        self.fitted.typical_error
    }

    /// When it was made, in milliseconds since the epoch.
    #[must_use]
    pub const fn fitted_at(&self) -> Timestamp {
        self.fitted_at
    }

    /// Length of a step in milliseconds.
    #[must_use]
    pub const fn step_ms(&self) -> i64 {
        self.step_ms
    }

    /// Seasons that it was fitted to.
    #[must_use]
    pub const fn seasons(&self) -> usize {
        self.seasons
    }
}

/// The expression of `policy`, limited to a namespace.
fn scoped(query: &str, namespace: &str) -> Result<String, String> {
    let parsed = promql::parse(query, &promql::ParseOptions::default());
    let mut expr = parsed.map_err(|error| error.to_string())?;
    let matcher = Matcher::new("namespace", MatchOp::Equal, namespace);
    expr.restrict(&matcher.map_err(|error| error.to_string())?);
    Ok(expr.to_string())
}

/// Asks history and fits a model to it.
///
/// # Errors
/// History failed, the expression has not exactly one series, or too little of it.
pub async fn fit(
    history: &dyn History,
    namespace: &str,
    policy: &ForecastPolicy,
    now: Timestamp,
) -> Result<Fit, String> {
    // The smallest number of whole minutes that divides a season into few enough steps.
    let season_minutes = (policy.season_ms / STEP_MS).max(2);
    let smallest = season_minutes.div_euclid(STEPS_A_SEASON_MAX).max(1);
    let divides = |n: &i64| season_minutes % n == 0 && season_minutes / n <= STEPS_A_SEASON_MAX;
    let minutes = (smallest..=season_minutes / 2).find(divides);
    let minutes = minutes.ok_or("the season cannot be cut into steps of whole minutes")?;
    let step_ms = minutes * STEP_MS;
    let length = usize::try_from(season_minutes / minutes).map_err(|error| error.to_string())?;
    let to = now.div_euclid(step_ms) * step_ms;
    let steps = length * SEASONS_MAX;
    let from = to - step_ms * (i64::try_from(steps).map_err(|error| error.to_string())? - 1);

    let query = scoped(&policy.query, namespace)?;
    let series = history.range(&query, from, to, step_ms).await.map_err(|error| error.0)?;
    let [series] = &series[..] else {
        return Err(format!("the expression has {} series instead of one", series.len()));
    };
    let mut values = vec![None; steps];
    for (at, value) in &series.samples {
        let place = usize::try_from((at - from).div_euclid(step_ms)).ok();
        if let Some(place) = place.and_then(|place| values.get_mut(place)) {
            *place = value.is_finite().then_some(*value);
        }
    }
    let first = values.iter().position(Option::is_some).ok_or("there is no history")?;
    let newest = values.iter().rposition(Option::is_some).map_or(0, |at| steps - 1 - at);
    if newest > NEWEST_AGE_STEPS {
        let minutes = i64::try_from(newest).unwrap_or(i64::MAX).saturating_mul(minutes);
        return Err(format!("the newest sample is {minutes} minutes old"));
    }
    // What is older than the first sample is not a gap.
    let known = &values[first..];
    let fitted = Seasonal::fit(known, length).map_err(|error| error.to_string())?;
    let seasons = known.len() / length;
    Ok(Fit { fitted, last: to, step_ms, fitted_at: now, seasons })
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use futures_util::future::BoxFuture;

    use super::*;
    use crate::sources::{HistoryError, HistorySeries};

    struct Made(Box<dyn Fn(Timestamp) -> Option<f64> + Send + Sync>, usize);

    impl History for Made {
        fn range<'a>(
            &'a self,
            _: &'a str,
            from: Timestamp,
            to: Timestamp,
            step_ms: i64,
        ) -> BoxFuture<'a, Result<Vec<HistorySeries>, HistoryError>> {
            async move {
                let times = (0..).map(|n| from + n * step_ms).take_while(|at| *at <= to);
                let samples = times.filter_map(|at| Some((at, (self.0)(at)?))).collect();
                Ok(vec![HistorySeries { labels: Vec::new(), samples }; self.1])
            }
            .boxed()
        }
    }

    const DAY: i64 = 86_400_000;
    const NOW: i64 = 20_000 * DAY + DAY / 3;

    fn policy(season_ms: i64) -> ForecastPolicy {
        ForecastPolicy {
            apply: true,
            query: String::from("x"),
            per_replica_milli: 1000,
            season_ms,
            horizon_ms: 900_000,
        }
    }

    fn refused(made: &Made, error: &str) {
        let fit = fit(made, "n", &policy(DAY), NOW).now_or_never().unwrap();
        assert_eq!(fit.unwrap_err(), error);
    }

    #[test]
    fn a_daily_wave_goes_on() {
        let wave = |at: i64| {
            #[expect(clippy::cast_precision_loss, reason = "a fraction of a day")]
            let phase = (at % DAY) as f64 / DAY as f64 * std::f64::consts::TAU;
            100.0 + 50.0 * phase.sin()
        };
        let made = Made(Box::new(move |at| Some(wave(at))), 1);
        let fit = fit(&made, "n", &policy(DAY), NOW).now_or_never().unwrap().unwrap();
        assert_eq!((fit.step_ms(), fit.seasons()), (300_000, 7));
        for hours in [1, 4, 12] {
            let at = NOW + hours * 3_600_000;
            let (peak, real) = (fit.peak(at, at), wave(at));
            assert!((peak - real).abs() < 2.0, "in {hours} h: {peak} instead of {real}");
        }
        // The highest point comes 22 hours from now, at a quarter of the day.
        let peak = fit.peak(NOW, NOW + DAY);
        assert!((peak - 150.0).abs() < 2.0, "{peak}");
    }

    #[test]
    fn steps_divide_the_season() {
        let made = |_: i64| Some(1.0);
        for (season_ms, step_ms) in
            [(3_600_000, 60_000), (7 * DAY, 35 * 60_000), (5 * 3_600_000, 120_000)]
        {
            let made = Made(Box::new(made), 1);
            let fit = fit(&made, "n", &policy(season_ms), NOW).now_or_never().unwrap().unwrap();
            assert_eq!(fit.step_ms(), step_ms, "{season_ms}");
        }
    }

    #[test]
    fn too_little_is_no_history() {
        refused(&Made(Box::new(|_| Some(1.0)), 2), "the expression has 2 series instead of one");
        refused(&Made(Box::new(|_| Some(1.0)), 0), "the expression has 0 series instead of one");
        refused(&Made(Box::new(|_| None), 1), "there is no history");
        refused(&Made(Box::new(|_| Some(f64::NAN)), 1), "there is no history");
        let stopped = |at| (at <= NOW - DAY / 24).then_some(1.0);
        refused(&Made(Box::new(stopped), 1), "the newest sample is 60 minutes old");
        let begun = |at| (at > NOW - DAY).then_some(1.0);
        refused(&Made(Box::new(begun), 1), "288 steps of history, two seasons are 576");
    }
}
