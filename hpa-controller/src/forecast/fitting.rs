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

/// Most steps of a [`Demand`]: a year in steps of a minute, the shortest, is half of that.
const DEMAND_STEPS_MAX: i64 = 1_000_000;

/// How a season is cut into steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Steps {
    step_ms: i64,
    /// Steps of a season.
    length: usize,
}

impl Steps {
    /// The smallest number of whole minutes that divides a season into few enough steps.
    fn of(policy: &ForecastPolicy) -> Result<Self, String> {
        let season_minutes = (policy.season_ms / STEP_MS).max(2);
        let smallest = season_minutes.div_euclid(STEPS_A_SEASON_MAX).max(1);
        let divides = |n: &i64| season_minutes % n == 0 && season_minutes / n <= STEPS_A_SEASON_MAX;
        let minutes = (smallest..=season_minutes / 2).find(divides);
        let minutes = minutes.ok_or("the season cannot be cut into steps of whole minutes")?;
        let length =
            usize::try_from(season_minutes / minutes).map_err(|error| error.to_string())?;
        Ok(Self { step_ms: minutes * STEP_MS, length })
    }

    /// The last step of a fit that is made at `now`.
    const fn last(self, now: Timestamp) -> Timestamp {
        now.div_euclid(self.step_ms) * self.step_ms
    }

    /// Steps that a fit looks at.
    const fn count(self) -> usize {
        self.length * SEASONS_MAX
    }

    /// The first of them.
    fn first(self, now: Timestamp) -> Timestamp {
        let before = i64::try_from(self.count()).unwrap_or(i64::MAX).saturating_sub(1);
        self.last(now).saturating_sub(self.step_ms.saturating_mul(before))
    }
}

/// What was asked for, step by step: what any fit at a time of a range is made from.
#[derive(Clone, Debug, PartialEq)]
pub struct Demand {
    steps: Steps,
    query: String,
    /// Time of the first step.
    from: Timestamp,
    values: Vec<Option<f64>>,
}

impl Demand {
    /// Asks history for what fits at times from `first` to `last` look at.
    ///
    /// # Errors
    /// History failed, the expression has not exactly one series, or the range is too long.
    pub async fn ask(
        history: &dyn History,
        namespace: &str,
        policy: &ForecastPolicy,
        first: Timestamp,
        last: Timestamp,
    ) -> Result<Self, String> {
        let steps = Steps::of(policy)?;
        let (from, to) = (steps.first(first), steps.last(last));
        let count = to.saturating_sub(from) / steps.step_ms + 1;
        let length = usize::try_from(count).ok().filter(|_| count <= DEMAND_STEPS_MAX);
        let length = length.ok_or_else(|| format!("more than {DEMAND_STEPS_MAX} steps"))?;
        let query = scoped(&policy.query, namespace)?;
        let series = history.range(&query, from, to, steps.step_ms).await;
        let series = series.map_err(|error| error.0)?;
        let [series] = &series[..] else {
            return Err(format!("the expression has {} series instead of one", series.len()));
        };
        let mut values = vec![None; length];
        for (at, value) in &series.samples {
            let place = usize::try_from((at - from).div_euclid(steps.step_ms)).ok();
            if let Some(place) = place.and_then(|place| values.get_mut(place)) {
                *place = value.is_finite().then_some(*value);
            }
        }
        Ok(Self { steps, query, from, values })
    }

    /// The expression that history was asked for.
    #[must_use]
    pub fn query(&self) -> &str {
        &self.query
    }

    /// At how many steps it is known, and how many there are.
    #[must_use]
    pub fn known(&self) -> (usize, usize) {
        (self.values.iter().flatten().count(), self.values.len())
    }

    /// The model of what was known at `now`, a time of the range: nothing later than that is looked at.
    ///
    /// # Errors
    /// There is too little of it, or the newest value is too old.
    pub fn fit(&self, now: Timestamp) -> Result<Fit, String> {
        let Steps { step_ms, length } = self.steps;
        let last = self.steps.last(now);
        let place = |at: Timestamp| usize::try_from((at - self.from).div_euclid(step_ms));
        let window = place(self.steps.first(now)).ok().zip(place(last).ok());
        let values = window.and_then(|(first, last)| self.values.get(first..=last));
        let values = values.ok_or("history was not asked for this time")?;
        let first = values.iter().position(Option::is_some).ok_or("there is no history")?;
        let newest = values.iter().rev().position(Option::is_some).unwrap_or(0);
        if newest > NEWEST_AGE_STEPS {
            let age = i64::try_from(newest).unwrap_or(i64::MAX).saturating_mul(step_ms);
            return Err(format!("the newest sample is {} minutes old", age / STEP_MS));
        }
        // What is older than the first sample is not a gap.
        let known = &values[first..];
        let fitted = Seasonal::fit(known, length).map_err(|error| error.to_string())?;
        Ok(Fit { fitted, last, step_ms, fitted_at: now, seasons: known.len() / length })
    }
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
    Demand::ask(history, namespace, policy, now, now).await?.fit(now)
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

    /// A flat demand that rises tenfold in the middle of the range: before that a fit must not know of it.
    #[test]
    fn a_fit_does_not_look_ahead() {
        let rises = NOW + DAY / 2;
        let demand = move |at: i64| Some(if at < rises { 1.0 } else { 10.0 });
        let made = Made(Box::new(demand), 1);
        let policy = policy(DAY);
        let asked = Demand::ask(&made, "n", &policy, NOW, NOW + DAY);
        let demand = asked.now_or_never().unwrap().unwrap();
        // Seven days before the first time up to the last, every five minutes.
        assert_eq!(demand.known(), (8 * 288, 8 * 288));
        for now in [NOW, rises - 1] {
            let alone = fit(&made, "n", &policy, now).now_or_never().unwrap();
            assert_eq!(demand.fit(now), alone);
            assert!((demand.fit(now).unwrap().peak(now, now + DAY) - 1.0).abs() < 1e-9, "{now}");
        }
        assert!(demand.fit(NOW + DAY).unwrap().peak(NOW + DAY, NOW + DAY) > 5.0);
        for outside in [NOW - DAY, NOW + 2 * DAY] {
            let error = demand.fit(outside).unwrap_err();
            assert_eq!(error, "history was not asked for this time");
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
