//! Two answers to one query: whether they are the same.

use std::collections::BTreeMap;

use anyhow::{Context, bail, ensure};
use serde_json::Value;

/// How far values may be apart, relative to the larger one. Before version 3, Prometheus adds without compensation.
const TOLERANCE: f64 = 1e-9;

/// How much an answer has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) series: usize,
    pub(crate) points: usize,
}

/// Compares the bodies of two answers.
///
/// # Errors
/// The first difference: of type, of series, of times, or of values by more than the tolerance. And when either is not an answer.
pub(crate) fn compare(ours: &[u8], peer: &[u8]) -> anyhow::Result<Shape> {
    let (ours, peer) = (parse(ours).context("ours")?, parse(peer).context("peer")?);
    let (kind, other) = (ours.pointer("/data/resultType"), peer.pointer("/data/resultType"));
    ensure!(kind == other, "ours is {kind:?}, the peer's {other:?}");
    if kind.and_then(Value::as_str) == Some("scalar") {
        let (ours, peer) = (ours.pointer("/data/result"), peer.pointer("/data/result"));
        compare_points(ours.as_slice(), peer.as_slice())?;
        return Ok(Shape { series: 0, points: 1 });
    }
    let (ours, peer) = (series(&ours).context("ours")?, series(&peer).context("peer")?);
    if let Some(labels) = ours.keys().find(|labels| !peer.contains_key(*labels)) {
        bail!("ours has {labels}, the peer has not ({} and {} series)", ours.len(), peer.len());
    }
    let mut points = 0;
    for (labels, theirs) in &peer {
        let ours =
            ours.get(labels).with_context(|| format!("the peer has {labels}, ours has not"))?;
        compare_points(ours, theirs).with_context(|| labels.clone())?;
        points += theirs.len();
    }
    Ok(Shape { series: peer.len(), points })
}

fn parse(body: &[u8]) -> anyhow::Result<Value> {
    let answer: Value = serde_json::from_slice(body)?;
    ensure!(
        answer.get("status").and_then(Value::as_str) == Some("success"),
        "{}",
        String::from_utf8_lossy(&body[..body.len().min(500)])
    );
    Ok(answer)
}

/// The points of each series, by its labels as text.
fn series(answer: &Value) -> anyhow::Result<BTreeMap<String, Vec<&Value>>> {
    let result = answer.pointer("/data/result").and_then(Value::as_array).context("no result")?;
    let mut all = BTreeMap::new();
    for series in result {
        let labels = series.get("metric").context("no metric")?.to_string();
        let points = match (series.get("values"), series.get("value")) {
            (Some(Value::Array(points)), None) => points.iter().collect(),
            (None, Some(point)) => vec![point],
            _ => bail!("{labels} has no values"),
        };
        ensure!(all.insert(labels.clone(), points).is_none(), "{labels} is there twice");
    }
    Ok(all)
}

fn compare_points(ours: &[&Value], peer: &[&Value]) -> anyhow::Result<()> {
    let point = |value: &Value| -> anyhow::Result<(f64, f64)> {
        let t = value.get(0).and_then(Value::as_f64).context("no time")?;
        let v = value.get(1).and_then(Value::as_str).context("no value")?;
        Ok((t, v.parse().with_context(|| String::from(v))?))
    };
    for (ours, peer) in ours.iter().zip(peer) {
        let ((t, v), (time, value)) = (point(ours)?, point(peer)?);
        ensure!(t == time, "ours has a point at {t} where the peer has one at {time}");
        ensure!(same(v, value), "at {t} ours is {v}, the peer's {value}");
    }
    ensure!(ours.len() == peer.len(), "ours has {} points, the peer {}", ours.len(), peer.len());
    Ok(())
}

fn same(a: f64, b: f64) -> bool {
    let apart = (a - b).abs();
    // Infinite numbers are far from all others, and their tolerance would be infinite as well.
    let near = apart.is_finite() && apart <= TOLERANCE * a.abs().max(b.abs());
    a == b || a.is_nan() && b.is_nan() || near
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(series: &str) -> String {
        format!(r#"{{"status":"success","data":{{"resultType":"matrix","result":[{series}]}}}}"#)
    }

    fn check(ours: &str, peer: &str, expected: Result<Shape, &str>) {
        let compared = compare(matrix(ours).as_bytes(), matrix(peer).as_bytes());
        match (compared, expected) {
            (Ok(shape), Ok(expected)) => assert_eq!(shape, expected),
            (Err(error), Err(expected)) => {
                let error = format!("{error:#}");
                assert!(error.contains(expected), "{error}");
            }
            (compared, expected) => panic!("{compared:?}, not {expected:?}"),
        }
    }

    #[test]
    fn the_order_of_series_and_the_last_digits_do_not_matter() {
        let a = r#"{"metric":{"a":"1","b":"2"},"values":[[1,"1"],[2.5,"NaN"]]}"#;
        let same = r#"{"metric":{"b":"2","a":"1"},"values":[[1,"1.0000000001"],[2.500,"NaN"]]}"#;
        let b = r#"{"metric":{},"values":[[1,"+Inf"]]}"#;
        let shape = Shape { series: 2, points: 3 };
        check(&format!("{a},{b}"), &format!("{b},{same}"), Ok(shape));
        check("", "", Ok(Shape::default()));
    }

    #[test]
    fn the_first_difference_is_told() {
        let a = r#"{"metric":{"a":"1"},"values":[[1,"1"],[2,"3"]]}"#;
        check(a, &a.replace(r#""3""#, r#""3.00001""#), Err("at 2 ours is 3, the peer's 3.00001"));
        check(a, &a.replace(r#""3""#, r#""NaN""#), Err("at 2 ours is 3, the peer's NaN"));
        check(a, &a.replace(r#""3""#, r#""-Inf""#), Err("at 2 ours is 3, the peer's -inf"));
        check(a, &a.replace(r#",[2,"3"]"#, ""), Err("ours has 2 points, the peer 1"));
        check(a, &a.replace("[2,", "[2.001,"), Err("at 2 where the peer has one at 2.001"));
        check(a, "", Err(r#"ours has {"a":"1"}"#));
        check("", a, Err(r#"the peer has {"a":"1"}"#));
    }
}
