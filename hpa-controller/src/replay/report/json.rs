//! The report as JSON; `docs/hpa-replay.md` describes it.

use serde::Serialize;

use super::super::figures::{Figures, Reproduction};
use super::super::instant;
use super::super::scenario::{Found, Model};
use super::{Outcome, Report, changes};

/// Grows when a field changes its meaning or goes; new ones may come at any time.
const VERSION: u32 = 1;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'r> {
    version: u32,
    kind: &'static str,
    source: &'r str,
    model: Model,
    assumptions: Vec<String>,
    sync_period_seconds: f64,
    startup_delay_seconds: f64,
    flap_window_seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    autoscalers: Vec<Autoscaler<'r>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Autoscaler<'r> {
    label: &'r str,
    namespace: &'r str,
    name: &'r str,
    target: &'r str,
    min_replicas: i32,
    max_replicas: i32,
    figures: &'r Figures,
    /// Figures of the recorded replicas.
    recorded: Option<&'r Figures>,
    reproduction: Option<&'r Reproduction>,
    replicas: Vec<Change>,
    recorded_replicas: Option<Vec<Change>>,
    rescales: Vec<RescaleJson<'r>>,
    errors: Vec<ErrorJson<'r>>,
    found: &'r [Found],
    notes: &'r [String],
}

/// From when on there are how many; `null` where that is not known.
#[derive(Serialize)]
struct Change {
    seconds: f64,
    replicas: Option<f64>,
}

#[derive(Serialize)]
struct RescaleJson<'r> {
    seconds: f64,
    from: i32,
    to: i32,
    reason: &'r str,
}

#[derive(Serialize)]
struct ErrorJson<'r> {
    message: &'r str,
    times: usize,
}

/// The report as a JSON document, pretty-printed.
///
/// # Errors
/// None in practice: all keys are texts and what is no number is `null`.
pub fn json(report: &Report) -> Result<String, serde_json::Error> {
    let setting = &report.setting;
    let when = |at| (!setting.simulated).then(|| instant(at));
    let document = Document {
        version: VERSION,
        kind: if setting.simulated { "simulation" } else { "replay" },
        source: &setting.source,
        model: setting.model,
        assumptions: report.assumptions(),
        sync_period_seconds: seconds(setting.grid.step_ms()),
        startup_delay_seconds: setting.startup_delay.as_secs_f64(),
        flap_window_seconds: setting.flap_window.as_secs_f64(),
        from: when(setting.grid.from()),
        to: when(setting.grid.to()),
        autoscalers: report.outcomes.iter().map(|outcome| autoscaler(report, outcome)).collect(),
    };
    let mut text = serde_json::to_string_pretty(&document)?;
    text.push('\n');
    Ok(text)
}

fn autoscaler<'r>(report: &Report, outcome: &'r Outcome) -> Autoscaler<'r> {
    let grid = report.setting.grid;
    let offset = |step| seconds(grid.at(step) - grid.from());
    let change = |(step, value): (usize, f64)| Change {
        seconds: offset(step),
        replicas: value.is_finite().then_some(value),
    };
    let replicas = outcome.trace.after.iter().copied().map(f64::from);
    let rescales = outcome.trace.rescales.iter().map(|rescale| RescaleJson {
        seconds: seconds(rescale.at - grid.from()),
        from: rescale.from,
        to: rescale.to,
        reason: &rescale.reason,
    });
    let errors = outcome.trace.errors.iter();
    Autoscaler {
        label: &outcome.label,
        namespace: &outcome.namespace,
        name: &outcome.name,
        target: &outcome.target,
        min_replicas: outcome.bounds.0,
        max_replicas: outcome.bounds.1,
        figures: &outcome.figures,
        recorded: outcome.recorded.as_ref(),
        reproduction: outcome.reproduction.as_ref(),
        replicas: changes(replicas).into_iter().map(change).collect(),
        recorded_replicas: outcome
            .recorded_replicas
            .as_ref()
            .map(|recorded| changes(recorded.iter().copied()).into_iter().map(change).collect()),
        rescales: rescales.collect(),
        errors: errors.map(|(message, times)| ErrorJson { message, times: *times }).collect(),
        found: &outcome.found,
        notes: &outcome.notes,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a replay is short against 2^53 ms")]
const fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}
