//! Forecasts in a replay, on a load that repeats and can be followed by hand.

use super::*;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

/// A demand of 2 in one hour and of 8 in the next, and so on for ever. The first hour of the replay is one of 2.
fn demand(at: Timestamp) -> f64 {
    if (at - FROM).rem_euclid(2 * HOUR) < HOUR { 2.0 } else { 8.0 }
}

/// Tells the demand for every expression that names it, and nothing else; since when, the field says.
struct Waves(Timestamp);

impl History for Waves {
    fn range<'a>(
        &'a self,
        query: &'a str,
        from: Timestamp,
        to: Timestamp,
        step_ms: i64,
    ) -> BoxFuture<'a, Result<Vec<HistorySeries>, HistoryError>> {
        let times = (0..).map(|step| from + step * step_ms).take_while(|at| *at <= to);
        let samples = times.filter(|at| *at >= self.0).map(|at| (at, demand(at))).collect();
        let series = HistorySeries { labels: Vec::new(), samples };
        let known = query.contains("queue{namespace=\"shop\"}");
        async move { Ok(if known { vec![series] } else { Vec::new() }) }.boxed()
    }
}

/// One replica for each unit of the queue. `how` is the value of the annotation `forecast`.
fn waved(how: Option<&str>) -> Subject {
    let mut subject =
        subject(100, &external(&json!({"type": "AverageValue", "averageValue": "1"})));
    let mut annotate = |name: &str, value: &str| {
        subject.annotations.insert(format!("{}{name}", crate::beyond::PREFIX), value.to_owned());
    };
    if let Some(how) = how {
        annotate("forecast", how);
        annotate("forecast-query", "sum(queue)");
        annotate("forecast-season", "2h");
        annotate("forecast-horizon", "10m");
    }
    subject
}

/// Replays two hours: one of a demand of 2, one of 8.
async fn replayed(subject: &Subject, history: &Waves) -> (Outcome, Trace) {
    let grid = Grid::new(FROM, FROM + 2 * HOUR, STEP).unwrap();
    let mut asked = |_: &str| {};
    let mut archive = Archive::new(history, grid, &mut asked);
    let (queries, delay) = (Queries::default(), Duration::ZERO);
    let scenario = record(&mut archive, subject, &queries, Model::Load, delay, Some(2)).await;
    let scenario = scenario.unwrap();
    let trace = trace(subject, &scenario);
    (outcome(subject, scenario, trace.clone()), trace)
}

/// When replicas were changed, in seconds after the beginning, and to what.
fn rescales(trace: &Trace) -> Vec<(i64, i32)> {
    trace.rescales.iter().map(|rescale| ((rescale.at - FROM) / 1000, rescale.to)).collect()
}

/// The wave repeats exactly, so that the forecast is exact: at 3000 s, ten minutes before the high hour, its first minute comes within
/// the horizon. One decision at most doubles, or goes to four. Nothing falls before the high hour is over, at 7200 s.
#[tokio::test]
async fn replicas_are_there_before_the_peak() {
    let (outcome, trace) = replayed(&waved(Some("apply")), &Waves(0)).await;
    assert_eq!(rescales(&trace), [(3000, 4), (3015, 8)]);
    assert_eq!(trace.rescales[0].reason, "raised above what metrics ask for");
    assert_eq!(trace.forecasts.failed, []);
    let all = usize::try_from(2 * HOUR / STEP).unwrap() + 1;
    assert_eq!(trace.forecasts.made, all);
    // The ten minutes before the peak: from then on metrics ask for as many.
    assert_eq!(trace.forecasts.raised, usize::try_from(10 * MINUTE / STEP).unwrap());
    let text = table(&Report {
        setting: setting(Grid::new(FROM, FROM + 2 * HOUR, STEP).unwrap()),
        outcomes: vec![outcome],
    });
    let note = "note: forecasts were made for 481 of 481 decisions and raised what metrics proposed in 40\n";
    assert!(text.contains(note), "{text}");
    // Seven seasons of 120 minutes that end with the beginning, and two hours more.
    let asked =
        "demand for the forecast            960 of 960 points  sum(queue{namespace=\"shop\"})";
    assert!(text.contains(asked), "{text}");
}

/// The same load: without a forecast that is applied replicas follow the peak.
#[tokio::test]
async fn a_preview_changes_nothing() {
    let follows = [(3600, 4), (3615, 8)];
    let (_, without) = replayed(&waved(None), &Waves(0)).await;
    assert_eq!((rescales(&without), without.forecasts), (follows.to_vec(), Forecasts::default()));
    let (outcome, trace) = replayed(&waved(Some("preview")), &Waves(0)).await;
    assert_eq!((rescales(&trace), trace.forecasts.raised), (follows.to_vec(), 40));
    let text = table(&Report {
        setting: setting(Grid::new(FROM, FROM + 2 * HOUR, STEP).unwrap()),
        outcomes: vec![outcome],
    });
    let note = "note: forecasts were made for 481 of 481 decisions as a preview, which changes nothing; they would have raised what metrics proposed in 40\n";
    assert!(text.contains(note), "{text}");
}

/// History that begins with the replay has no two seasons before its end: it goes on as the controller would, and says why.
#[tokio::test]
async fn too_little_history_is_told() {
    let (outcome, trace) = replayed(&waved(Some("apply")), &Waves(FROM)).await;
    assert_eq!(rescales(&trace), [(3600, 4), (3615, 8)]);
    assert_eq!((trace.forecasts.made, trace.forecasts.raised), (0, 0));
    let text = table(&Report {
        setting: setting(Grid::new(FROM, FROM + 2 * HOUR, STEP).unwrap()),
        outcomes: vec![outcome],
    });
    assert!(text.contains("note: no forecast could be made; 481 went without one: "), "{text}");
    assert!(text.contains("steps of history, two seasons are 240"), "{text}");
}

#[test]
fn a_simulation_says_that_it_has_no_past() {
    let subject = waved(Some("apply"));
    let scenario = scenario(&subject, &[2.0; 3], false, false);
    let trace = trace(&subject, &scenario);
    assert_eq!(trace.forecasts, Forecasts::default());
    let setting = setting(scenario.grid);
    let outcomes = vec![outcome(&subject, scenario, trace)];
    let text = table(&Report { setting, outcomes });
    assert!(text.contains("a load that is made up has no past: the forecast"), "{text}");
}
