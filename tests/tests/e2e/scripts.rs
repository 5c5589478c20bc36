//! Our own PromQL scripts, asked of Debian's Prometheus: what they expect is not only what our engine answers.
//!
//! Those that are about version 3 alone are not among them.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use model::{Appender, Batch, Columns, Labels, Sample, SystemClock};
use promql::{MatrixSeries, VectorSample};
use serde_json::Value;
use tests::conformance::{note, program};
use tests::harness::{Answer, post_form};
use tests::promqltest::{
    Command, Eval, Expected, Grid, Point, Script, When, check_value, own_scripts,
};
use tsdb::{Db, Options, OsDisk};

use super::peers::Prometheus;

/// What 2.42 and 3 agree on.
const COMMON: [&str; 5] =
    ["groups.test", "labels.test", "over_time.test", "staleness_and_lookback.test", "values.test"];
/// Evaluations in them.
const TOTAL: usize = 382;

#[test]
fn debian_s_prometheus_answers_as_our_own_scripts_expect() -> Result<()> {
    let Some(prometheus) = program("prometheus", "PROMETHEUS_DEBIAN") else { return Ok(()) };
    let (mut held, mut failed) = (0, Vec::new());
    for path in own_scripts()? {
        let name = path.file_name().unwrap().to_string_lossy();
        if !COMMON.contains(&name.as_ref()) {
            continue;
        }
        let script = Script::parse(&std::fs::read_to_string(&path)?)?;
        let folder = tempfile::tempdir()?;
        load(&folder.path().join("copy"), &script)?;
        let peer = Prometheus::start(&prometheus, folder.path());
        for command in &script.commands {
            let Command::Eval(eval) = command else { continue };
            match check(peer.port, eval) {
                Ok(()) => held += 1,
                Err(error) => {
                    failed.push(format!("{name}:{}: {}: {error:#}", eval.line, eval.query));
                }
            }
        }
    }
    note(&format!("scripts: {held} evaluations hold on Debian's Prometheus"));
    ensure!(failed.is_empty(), "\n{}", failed.join("\n"));
    ensure!(held == TOTAL, "{held} evaluations were found, not {TOTAL}");
    Ok(())
}

/// Fills a store with what the script loads, once and first.
fn load(folder: &Path, script: &Script) -> Result<()> {
    let registry = telemetry::Registry::new();
    let (disk, clock) = (Arc::new(OsDisk), Arc::new(SystemClock));
    let db = Db::open(folder, disk, clock, Options::default(), &registry)?;
    let [Command::Load(load), evals @ ..] = &script.commands[..] else {
        anyhow::bail!("the script begins with no load")
    };
    ensure!(evals.iter().all(|command| matches!(command, Command::Eval(_))), "one load is enough");
    let step = i64::try_from(load.step.as_millis())?;
    let mut samples = Vec::new();
    for series in &load.series {
        for (t, point) in (0..).map(|i| i * step).zip(&series.points) {
            match point {
                Point::Omitted => {}
                Point::Float(v) => samples.push((t, &series.labels, *v)),
                Point::Histogram(_) => anyhow::bail!("native histograms are another test's"),
            }
        }
    }
    samples.sort_by_key(|(t, ..)| *t);
    let mut batch = Batch::new();
    for (t, labels, v) in samples {
        batch.push_new(labels.clone(), t, v);
    }
    let appended = db.append(&batch)?;
    ensure!(appended.rejected.is_empty(), "{:?}", appended.rejected);
    db.close()?;
    Ok(())
}

fn check(port: u16, eval: &Eval) -> Result<()> {
    let answer = ask(port, eval)?;
    let json = answer.json();
    if let Some(pattern) = &eval.fail {
        let error = json["error"].as_str().context("it did not fail")?;
        ensure!(pattern.accepts(error), "expected an error like {pattern:?}, got {error:?}");
        return Ok(());
    }
    ensure!(answer.status == 200, "{}", answer.body);
    check_value(eval, &value(&json["data"])?)
}

fn ask(port: u16, eval: &Eval) -> Result<Answer> {
    let seconds = |ms: i64| format!("{}.{:03}", ms / 1_000, ms % 1_000);
    let (path, times) = match (eval.when, &eval.expected) {
        (_, Expected::RangeVector(Grid { end, .. }, _)) => {
            ("/api/v1/query", vec![("time", seconds(*end))])
        }
        (When::Instant(t), _) => ("/api/v1/query", vec![("time", seconds(t))]),
        (When::Range(grid), _) => {
            let step = grid.step.as_secs_f64().to_string();
            let times =
                [("start", seconds(grid.start)), ("end", seconds(grid.end)), ("step", step)];
            ("/api/v1/query_range", times.to_vec())
        }
    };
    let mut fields = vec![("query", eval.query.as_str())];
    fields.extend(times.iter().map(|(name, value)| (*name, value.as_str())));
    post_form(port, path, &fields).map_err(anyhow::Error::msg)
}

/// The value in an answer.
fn value(data: &Value) -> Result<promql::Value> {
    let result = &data["result"];
    let series = || result.as_array().context("no series");
    Ok(match data["resultType"].as_str().context("no type")? {
        "scalar" => promql::Value::Scalar(sample(result)?),
        "vector" => {
            let sample = |one: &Value| {
                let (labels, sample) = (labels(&one["metric"])?, sample(&one["value"])?);
                Ok(VectorSample { labels, sample, histogram: None })
            };
            promql::Value::Vector(series()?.iter().map(sample).collect::<Result<_>>()?)
        }
        "matrix" => {
            let series_of = |one: &Value| {
                let mut samples = Columns::new();
                for pair in one["values"].as_array().context("no values")? {
                    let Sample { t, v } = sample(pair)?;
                    samples.push(t, v);
                }
                Ok(MatrixSeries { labels: labels(&one["metric"])?, samples })
            };
            promql::Value::Matrix(series()?.iter().map(series_of).collect::<Result<_>>()?)
        }
        other => anyhow::bail!("a {other}"),
    })
}

fn sample(pair: &Value) -> Result<Sample> {
    let seconds = pair[0].as_f64().context("no time")?;
    let v = pair[1].as_str().context("no value")?.parse()?;
    Ok(Sample { t: (seconds * 1_000.0).round() as i64, v })
}

fn labels(metric: &Value) -> Result<Labels> {
    let pairs = metric.as_object().context("no labels")?;
    let pairs = pairs.iter().map(|(name, value)| (name, value.as_str().unwrap_or_default()));
    Ok(Labels::from_pairs(pairs)?)
}
