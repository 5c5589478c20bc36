//! The past as a Prometheus API tells it: [`ApiHistory`].
//!
//! A server answers at most 11,000 points a series, so a long range is asked in pieces, one behind the other, and put together again.
//! What an answer may hold is bounded here, by series and by samples, besides the bytes that the client allows.

use std::collections::BTreeMap;
use std::time::Duration;

use api_client::{Client, Value};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use model::{TimeRange, Timestamp};

use crate::sources::{History, HistoryError, HistorySeries};

/// Most points of a series that one question may ask for: Prometheus's own limit.
pub const POINTS_PER_QUESTION_MAX: i64 = 11_000;

/// Most series of an answer.
const SERIES_MAX: usize = 10_000;

/// Most samples of an answer, over all series: 16 bytes each.
const SAMPLES_MAX: usize = 20_000_000;

/// Longest part of a query in an error.
const QUERY_BYTES_SHOWN: usize = 300;

/// The history of any server with a Prometheus API.
#[derive(Clone, Debug)]
pub struct ApiHistory {
    client: Client,
}

impl ApiHistory {
    /// The history that `client` asks for.
    #[must_use]
    pub const fn new(client: Client) -> Self {
        Self { client }
    }

    async fn ask(
        &self,
        query: &str,
        from: Timestamp,
        to: Timestamp,
        step_ms: i64,
    ) -> Result<Vec<HistorySeries>, HistoryError> {
        let step = u64::try_from(step_ms).ok().filter(|step| *step > 0);
        let step = step.ok_or_else(|| failed(query, &"the step must be at least 1 ms"))?;
        let mut joined = Joined::new(query);
        for range in pieces(from, to, step_ms) {
            let answer = self.client.range(query, range, Duration::from_millis(step)).await;
            let answer = answer.map_err(|error| failed(query, &error))?;
            for warning in &answer.warnings {
                tracing::warn!(query = shown(query), "{warning}");
            }
            let Value::Matrix(series) = answer.value else {
                return Err(failed(query, &"the answer is not a range vector"));
            };
            for series in series {
                let labels = series.labels.iter();
                let labels =
                    labels.map(|label| (String::from(label.name), String::from(label.value)));
                joined.add(labels.collect(), series.samples)?;
            }
        }
        Ok(joined.finish())
    }
}

impl History for ApiHistory {
    fn range<'a>(
        &'a self,
        query: &'a str,
        from: Timestamp,
        to: Timestamp,
        step_ms: i64,
    ) -> BoxFuture<'a, Result<Vec<HistorySeries>, HistoryError>> {
        self.ask(query, from, to, step_ms).boxed()
    }
}

/// Cuts a range, both ends included, so that no piece has more points than one question may ask for. The times of all pieces together
/// are those of the whole.
fn pieces(from: Timestamp, to: Timestamp, step_ms: i64) -> impl Iterator<Item = TimeRange> {
    let span = step_ms.saturating_mul(POINTS_PER_QUESTION_MAX - 1);
    let mut next = Some(from).filter(|from| *from <= to);
    std::iter::from_fn(move || {
        let start = next?;
        let end = start.saturating_add(span).min(to);
        next = start.checked_add(span).and_then(|last| last.checked_add(step_ms));
        next = next.filter(|start| *start <= to);
        Some(TimeRange::new(start, end))
    })
}

/// Labels, sorted by name.
type LabelSet = Vec<(String, String)>;

/// Series that come in pieces.
struct Joined<'q> {
    query: &'q str,
    series: BTreeMap<LabelSet, Vec<(Timestamp, f64)>>,
    samples: usize,
}

impl<'q> Joined<'q> {
    const fn new(query: &'q str) -> Self {
        Self { query, series: BTreeMap::new(), samples: 0 }
    }

    fn add(
        &mut self,
        labels: LabelSet,
        samples: Vec<(Timestamp, f64)>,
    ) -> Result<(), HistoryError> {
        self.samples = self.samples.saturating_add(samples.len());
        if self.samples > SAMPLES_MAX {
            let reason = format!("more than {SAMPLES_MAX} samples");
            return Err(failed(self.query, &reason));
        }
        self.series.entry(labels).or_default().extend(samples);
        if self.series.len() > SERIES_MAX {
            return Err(failed(self.query, &format!("more than {SERIES_MAX} series")));
        }
        Ok(())
    }

    fn finish(self) -> Vec<HistorySeries> {
        let series = self.series.into_iter();
        series.map(|(labels, samples)| HistorySeries { labels, samples }).collect()
    }
}

/// The error about a query, which it repeats in part.
fn failed(query: &str, reason: &dyn std::fmt::Display) -> HistoryError {
    HistoryError(format!("query {:?}: {reason}", shown(query)))
}

fn shown(query: &str) -> &str {
    &query[..query.floor_char_boundary(QUERY_BYTES_SHOWN)]
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::Router;
    use axum::extract::{Query, State};
    use axum::routing::get;
    use tokio_util::sync::CancellationToken;

    use super::*;

    type Asked = Arc<Mutex<Vec<(f64, f64, f64)>>>;

    #[derive(serde::Deserialize)]
    struct Range {
        start: f64,
        end: f64,
        step: f64,
    }

    /// A server with one series `{pod="a"}` that is its own time, and refuses questions of more than 11,000 points.
    async fn server() -> (ApiHistory, Asked) {
        let asked = Asked::default();
        let handler = async move |State(asked): State<Asked>, Query(range): Query<Range>| {
            asked.lock().unwrap().push((range.start, range.end, range.step));
            let points = ((range.end - range.start) / range.step).floor();
            if points >= 11_000.0 {
                return String::from(
                    r#"{"status":"error","errorType":"bad_data","error":"too many points"}"#,
                );
            }
            let mut values = Vec::new();
            let mut at = range.start;
            while at <= range.end {
                values.push(serde_json::json!([at, at.to_string()]));
                at += range.step;
            }
            serde_json::json!({"status": "success", "data": {"resultType": "matrix",
                "result": [{"metric": {"pod": "a"}, "values": values}]}})
            .to_string()
        };
        let router =
            Router::new().route("/api/v1/query_range", get(handler)).with_state(Arc::clone(&asked));
        let listener = http::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let limits = http::Limits::default();
        tokio::spawn(http::serve(listener, router, limits, CancellationToken::new()));
        let options = api_client::Options::new(url);
        let client = Client::new(http::Client::default(), options).unwrap();
        (ApiHistory::new(client), asked)
    }

    #[tokio::test]
    async fn seven_days_are_asked_in_four_pieces() {
        let (history, asked) = server().await;
        let week = 7 * 86_400_000;
        let series = history.range("up", 0, week, 15_000).await.unwrap();
        assert_eq!(series.len(), 1);
        assert_eq!(series[0].labels, [(String::from("pod"), String::from("a"))]);
        let times: Vec<i64> = series[0].samples.iter().map(|(at, _)| *at).collect();
        let expected: Vec<i64> = (0..=40_320).map(|step| step * 15_000).collect();
        assert_eq!(times, expected);
        let asked = asked.lock().unwrap();
        assert_eq!(asked.len(), 4);
        assert_eq!(asked[0], (0.0, 10_999.0 * 15.0, 15.0));
        assert_eq!(asked[3], (33_000.0 * 15.0, 604_800.0, 15.0));
    }

    #[tokio::test]
    async fn errors_name_the_query() {
        let (history, _) = server().await;
        let error = history.range("up{a=\"b\"}", 0, 10, 0).await.unwrap_err().to_string();
        assert_eq!(error, r#"query "up{a=\"b\"}": the step must be at least 1 ms"#);
        let options = api_client::Options::new("http://127.0.0.1:1");
        let nobody = ApiHistory::new(Client::new(http::Client::default(), options).unwrap());
        let error = nobody.range("up", 0, 10, 1).await.unwrap_err().to_string();
        assert!(error.starts_with("query \"up\": http://127.0.0.1:1/api/v1/query_range: "));
    }

    #[test]
    fn a_range_is_cut_where_the_points_are() {
        let cut = |from, to, step| -> Vec<(i64, i64)> {
            pieces(from, to, step).map(|range| (range.min, range.max)).collect()
        };
        assert_eq!(cut(5, 5, 10), [(5, 5)]);
        assert_eq!(cut(6, 5, 10), []);
        assert_eq!(cut(0, 109_990, 10), [(0, 109_990)]);
        assert_eq!(cut(0, 110_000, 10), [(0, 109_990), (110_000, 110_000)]);
        assert_eq!(cut(i64::MAX - 1, i64::MAX, 10), [(i64::MAX - 1, i64::MAX)]);
    }

    #[test]
    fn more_than_is_held_is_refused() {
        let mut joined = Joined::new("x");
        for series in 0..SERIES_MAX {
            joined.add(vec![(String::from("a"), series.to_string())], Vec::new()).unwrap();
        }
        let error = joined.add(vec![(String::from("a"), String::from("b"))], Vec::new());
        assert_eq!(error.unwrap_err().to_string(), "query \"x\": more than 10000 series");
    }
}
